package vtprom_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/leak"
	"github.com/vtclient/vtclient/interop/vtprom"
	"github.com/vtclient/vtclient/interop/vtredis"
	"github.com/vtclient/vtclient/simserver"
)

func TestMain(m *testing.M) { leak.Main(m) }

// startRedis returns a client of a redis-server on a Unix socket, and a function that ends the server.
func startRedis(t *testing.T) (rdb *redis.Client, stop func()) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no redis-server: .ci/run installs it")
		}
		t.Skip("no redis-server in the path: install it with the system's package manager")
	}
	dir, err := os.MkdirTemp("", "redis") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--port", "0", "--unixsocket", dir+"/s", "--save", "", "--dir", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	rdb = redis.NewClient(&redis.Options{Network: "unix", Addr: dir + "/s", ContextTimeoutEnabled: true, MaxRetries: -1})
	stop = func() { cmd.Process.Kill(); cmd.Wait() }
	t.Cleanup(func() { rdb.Close(); stop(); os.RemoveAll(dir) })
	until(t, func() bool { return rdb.Ping(t.Context()).Err() == nil })
	return rdb, stop
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it does not come about within a minute")
		}
	}
}

// What happens to the jobs of a queue shows in its metrics, and that Redis is gone.
func TestQueueMetrics(t *testing.T) {
	rdb, stop := startRedis(t)
	q, err := vtredis.NewQueue(rdb, "q", vtredis.QueueOptions{Idle: time.Second, MaxDeliveries: 2})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	if err := vtprom.RegisterQueue(reg, q); err != nil {
		t.Fatal(err)
	}
	if err := vtprom.RegisterQueue(reg, q); err == nil {
		t.Error("registered twice without an error")
	}
	sim := simserver.Start(t)
	id := func(d time.Duration) string { return sim.Create(simserver.Job{Duration: d}) }
	good, lucky, hopeless, long := id(-1), id(-1), id(-1), id(simserver.Never)
	for job := range vtclient.Jobs(good, lucky, hopeless, long) {
		if err := q.Add(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	c, err := vtclient.New(sim.URL())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- q.Run(ctx, c, func(ctx context.Context, st vtclient.Status, _ error) error {
			if st.JobID == hopeless || st.JobID == lucky && vtredis.Delivery(ctx) == 1 {
				return errors.New("failed")
			}
			return nil
		})
		c.CloseIdleConnections()
	}()
	until(t, func() bool { s, err := q.Stats(t.Context()); return err == nil && s.Jobs == 1 })
	err = testutil.GatherAndCompare(reg, strings.NewReader(`
		# HELP vtclient_queue_up Whether Redis answered.
		# TYPE vtclient_queue_up gauge
		vtclient_queue_up 1
		# HELP vtclient_queue_jobs Unfinished jobs.
		# TYPE vtclient_queue_jobs gauge
		vtclient_queue_jobs 1
		# HELP vtclient_queue_claims Jobs claimed by a replica.
		# TYPE vtclient_queue_claims gauge
		vtclient_queue_claims 1
		# HELP vtclient_queue_replicas Replicas with claims.
		# TYPE vtclient_queue_replicas gauge
		vtclient_queue_replicas 1
		# HELP vtclient_queue_takeovers_total Claims that lapsed and were taken up again.
		# TYPE vtclient_queue_takeovers_total counter
		vtclient_queue_takeovers_total 2
		# HELP vtclient_queue_failures_total Handlings that returned an error.
		# TYPE vtclient_queue_failures_total counter
		vtclient_queue_failures_total 3
		# HELP vtclient_queue_dead_letters Dead letters.
		# TYPE vtclient_queue_dead_letters gauge
		vtclient_queue_dead_letters 1
		# HELP vtclient_queue_deliveries Deliveries that a handled job took.
		# TYPE vtclient_queue_deliveries histogram
		vtclient_queue_deliveries_bucket{le="1"} 1
		vtclient_queue_deliveries_bucket{le="2"} 2
		vtclient_queue_deliveries_bucket{le="+Inf"} 2
		vtclient_queue_deliveries_sum 3
		vtclient_queue_deliveries_count 2
	`), "vtclient_queue_up", "vtclient_queue_jobs", "vtclient_queue_claims", "vtclient_queue_replicas", "vtclient_queue_takeovers_total",
		"vtclient_queue_failures_total", "vtclient_queue_dead_letters", "vtclient_queue_deliveries")
	if err != nil {
		t.Error(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "vtclient_queue_oldest_job_seconds" && f.Metric[0].GetGauge().GetValue() <= 0 {
			t.Error(f)
		}
	}
	cancel()
	<-ended
	stop()
	err = testutil.GatherAndCompare(reg, strings.NewReader(`
		# HELP vtclient_queue_up Whether Redis answered.
		# TYPE vtclient_queue_up gauge
		vtclient_queue_up 0
	`))
	if err != nil {
		t.Error(err)
	}
}
