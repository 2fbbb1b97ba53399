package vtredis_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtredis"
)

// What a queue costs Redis, for the number of jobs in VTREDIS_FIGURES, held by four replicas: memory a job,
// time to add, and commands and CPU for keeping claims. The jobs are polled once an hour, so that Redis is all
// there is to measure. CI sees that it runs.
func TestQueueFigures(t *testing.T) {
	t.Parallel()
	n, idle := 2000, 2*time.Second
	if text := os.Getenv("VTREDIS_FIGURES"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
		idle = max(30*time.Second, time.Duration(n)*30*time.Second/250_000)
	}
	s := startRedis(t, "--appendonly", "yes", "--auto-aof-rewrite-percentage", "0")
	rdb := s.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	q := newQueue(t, rdb, vtredis.QueueOptions{AtMost: n / 3, Idle: idle, OnError: func(err error) { t.Error(err) }})
	empty := info(t, rdb, "memory")["used_memory"]

	began := time.Now()
	for i := 0; i < n; {
		var jobs []vtclient.Job
		for ; i < n && len(jobs) < 10_000; i++ {
			jobs = append(jobs, vtclient.Job{ID: fmt.Sprintf("%032x", i), StartedAt: began, Expect: 3 * time.Minute, Deadline: began.Add(time.Hour)})
		}
		add(t, q, jobs...)
	}
	adding := time.Since(began)
	added := info(t, rdb, "memory")["used_memory"]

	began = time.Now()
	var all sync.WaitGroup
	for range 4 {
		c, err := vtclient.New("", vtclient.WithPolling(vtclient.Constant(time.Hour)),
			vtclient.WithFetch(func(context.Context, string) (vtclient.Status, error) {
				return vtclient.Status{State: vtclient.StatePending}, nil
			}))
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() { q.Run(ctx, c, func(context.Context, vtclient.Status, error) error { return nil }) })
	}
	for stats(t, q).Claimed < int64(n) {
		time.Sleep(50 * time.Millisecond) // a million takes longer than patience
	}
	claiming := time.Since(began)
	claimed := info(t, rdb, "memory")["used_memory"]
	time.Sleep(idle / 2) // the first renewals are over

	rdb.ConfigResetStat(ctx)
	log := info(t, rdb, "persistence")["aof_current_size"]
	cpu, from := info(t, rdb, "cpu"), time.Now()
	time.Sleep(idle) // is what is measured
	after, passed := info(t, rdb, "cpu"), time.Since(from).Seconds()
	used := after["used_cpu_user"] + after["used_cpu_sys"] - cpu["used_cpu_user"] - cpu["used_cpu_sys"]
	if got := stats(t, q); got.Claimed != int64(n) || got.Takeovers != 0 {
		t.Errorf("%+v", got)
	}
	t.Logf("%d jobs: %.0f bytes a job in Redis, %.0f once claimed; added in %v, claimed in %v",
		n, (added-empty)/float64(n), (claimed-empty)/float64(n), adding, claiming)
	t.Logf("keeping claims, with an idle time of %v: %.1f %% of a core of Redis, %.0f kB of its log a second",
		idle, 100*used/passed, (info(t, rdb, "persistence")["aof_current_size"]-log)/passed/1000)
	text := rdb.Info(ctx, "commandstats").Val()
	for line := range strings.Lines(text) {
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), ":calls="); ok {
			calls, rest, _ := strings.Cut(rest, ",")
			count, _ := strconv.ParseFloat(calls, 64)
			usec, _, _ := strings.Cut(strings.TrimPrefix(rest, "usec="), ",")
			us, _ := strconv.ParseFloat(usec, 64)
			t.Logf("%s: %.1f a second, %.2f ms of Redis a second", strings.TrimPrefix(name, "cmdstat_"), count/passed, us/1000/passed)
		}
	}
	cancel()
	all.Wait()
}

// info returns the numbers of a section of INFO.
func info(t *testing.T, rdb redis.UniversalClient, section string) map[string]float64 {
	t.Helper()
	text, err := rdb.Info(t.Context(), section).Result()
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			numbers[name] = n
		}
	}
	return numbers
}

// What the end of a job costs Redis, and how many of them a Run with 16 handlers gets through: 20,000 with
// VTREDIS_FIGURES.
func TestQueueEndFigures(t *testing.T) {
	t.Parallel()
	n := 500
	if os.Getenv("VTREDIS_FIGURES") != "" {
		n = 20_000
	}
	s := startRedis(t, "--appendonly", "yes")
	rdb := s.client(t)
	q := newQueue(t, rdb, vtredis.QueueOptions{Handlers: 16})
	c, err := vtclient.New("", vtclient.WithFetch(func(context.Context, string) (vtclient.Status, error) {
		return vtclient.Status{State: vtclient.StateCompleted}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var began, ended time.Time
	var before, after map[string]float64
	var handled atomic.Int64
	done := make(chan struct{})
	hold := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		q.Run(ctx, c, func(context.Context, vtclient.Status, error) error {
			<-hold
			if handled.Add(1) == int64(n) {
				close(done)
			}
			return nil
		})
	})
	var jobs []vtclient.Job
	for i := range n {
		jobs = append(jobs, vtclient.Job{ID: fmt.Sprintf("%032x", i), StartedAt: time.Now().Add(-time.Hour)})
	}
	add(t, q, jobs...)
	for stats(t, q).Claimed < int64(n)-1000 {
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(time.Duration(n) * 2 * time.Millisecond) // the pace of first checks
	before, began = info(t, rdb, "cpu"), time.Now()
	close(hold)
	<-done
	after, ended = info(t, rdb, "cpu"), time.Now()
	used := after["used_cpu_user"] + after["used_cpu_sys"] - before["used_cpu_user"] - before["used_cpu_sys"]
	t.Logf("%d ends handled, %.0f a second, %.0f µs of Redis each", n, float64(n)/ended.Sub(began).Seconds(), 1e6*used/float64(n))
	cancel()
	all.Wait()
}
