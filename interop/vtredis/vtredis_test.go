package vtredis_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/leak"
	"github.com/vtclient/vtclient/interop/vtredis"
	"github.com/vtclient/vtclient/simserver"
)

// patience bounds every wait for something that is sure to come.
const patience = time.Minute

// replicaEnv makes the test binary a replica of a service, in a process of its own.
const replicaEnv = "VTREDIS_REPLICA"

func TestMain(m *testing.M) {
	if text := os.Getenv(replicaEnv); text != "" {
		if err := replica(text); err != nil {
			log.Fatal(err)
		}
		return
	}
	if text := os.Getenv(roleEnv); text != "" {
		if err := playRole(text); err != nil {
			log.Fatal(err)
		}
		return
	}
	logging.Disable() // of what the Redis client logs while a server is away
	leak.Main(m)
}

// A server is a redis-server on a port of its own.
type server struct {
	addr, path string
	args       []string
	cmd        *exec.Cmd
	ended      chan struct{}
}

// startRedis starts a server with further arguments. What it keeps on disk is in a folder of its own.
func startRedis(t testing.TB, args ...string) *server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no redis-server: .ci/run installs it")
		}
		t.Skip("no redis-server in the path: install it with the system's package manager")
	}
	for range 5 { // another process may take the port that was free
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		s := &server{addr: addr, path: path, args: append([]string{"--port", strings.TrimPrefix(addr, "127.0.0.1:"), "--bind", "127.0.0.1",
			"--save", "", "--dir", t.TempDir()}, args...)}
		t.Cleanup(func() {
			if s.cmd != nil {
				s.cmd.Process.Signal(syscall.SIGCONT)
				s.cmd.Process.Kill()
				<-s.ended
			}
		})
		if s.start(t) {
			return s
		}
	}
	t.Fatal("redis-server does not start")
	return nil
}

// start starts the server, anew if it has ended, and reports whether it answers.
func (s *server) start(t testing.TB) bool {
	t.Helper()
	cmd, ended := exec.Command(s.path, s.args...), make(chan struct{})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { cmd.Wait(); close(ended) }()
	s.cmd, s.ended = cmd, ended
	rdb := redis.NewClient(&redis.Options{Addr: s.addr})
	defer rdb.Close()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if rdb.Ping(t.Context()).Err() == nil {
			return true
		}
		select {
		case <-ended:
			return false
		default:
		}
	}
	return false
}

// stop ends the server as an operator does, and returns once it has ended.
func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.ended
}

func (s *server) client(t testing.TB) *redis.Client {
	rdb := redis.NewClient(&redis.Options{Addr: s.addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// What goes into the cache comes out, under its own key, for its time.
func TestCache(t *testing.T) {
	s := startRedis(t)
	rdb := s.client(t)
	c, other := vtredis.NewCache(rdb, "a:"), vtredis.NewCache(rdb, "b:")
	ctx := t.Context()
	if _, hit, err := c.Get(ctx, "j"); hit || err != nil {
		t.Fatal(hit, err)
	}
	want := vtclient.Status{
		JobID: "j", State: vtclient.StateCompleted, Message: "m\x00é", Progress: 0.5, Body: []byte("no JSON \xff"),
		CheckedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), ResultMissing: true,
	}
	if err := c.Set(ctx, "j", want, time.Hour); err != nil {
		t.Fatal(err)
	}
	got, hit, err := c.Get(ctx, "j")
	if !hit || err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("%+v, %v, %v; want %+v", got, hit, err, want)
	}
	if ttl := rdb.PTTL(ctx, "a:j").Val(); ttl <= 59*time.Minute || ttl > time.Hour {
		t.Errorf("it lives for %v", ttl)
	}
	if _, hit, _ := other.Get(ctx, "j"); hit {
		t.Error("another prefix has it, too")
	}
	for _, ttl := range []time.Duration{0, -1, 1} {
		c.Set(ctx, "j", want, time.Hour)
		if err := c.Set(ctx, "j", want, ttl); err != nil {
			t.Error(err)
		}
		if _, hit, err := c.Get(ctx, "j"); hit || err != nil {
			t.Errorf("after a time to live of %d: %v, %v", ttl, hit, err)
		}
	}
	rdb.Set(ctx, "a:bad", "garbage", 0)
	if _, hit, err := c.Get(ctx, "bad"); hit || err == nil || !strings.Contains(err.Error(), `"a:bad"`) {
		t.Error(hit, err)
	}
}

// A config describes what a replica does.
type config struct {
	Redis, Backend, Name string
	IDs                  []string
}

// A report is what a replica prints.
type report struct {
	States map[string]vtclient.State
	Cached int
	Slow   int // calls of the cache that failed: on a busy machine the time given to one may be too short
	Jobs   int // that its cadence has learnt from
}

// replica asks once about each job, or waits for it, and saves what it has learnt.
func replica(text string) error {
	var cfg config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rdb := redis.NewClient(&redis.Options{Addr: cfg.Redis, ContextTimeoutEnabled: true})
	defer rdb.Close()
	learnt, err := vtredis.Load(ctx, rdb, "learnt", cfg.Name, 10*time.Millisecond)
	if err != nil {
		return err
	}
	r := report{States: map[string]vtclient.State{}, Jobs: learnt.Explain(vtclient.Attempt{}).Jobs}
	var slow atomic.Int32
	client, err := vtclient.New(cfg.Backend, vtclient.WithPolling(learnt), vtclient.WithCache(vtredis.NewCache(rdb, "answers:")),
		vtclient.WithTrace(vtclient.Trace{Cached: func(_ context.Context, i vtclient.TraceInfo) {
			if i.Err != nil {
				slow.Add(1)
			}
		}}))
	if err != nil {
		return err
	}
	for st, err := range client.WaitAll(ctx, vtclient.Jobs(cfg.IDs...)) {
		if err != nil {
			return err
		}
		r.States[st.JobID] = st.State
		if st.Cached {
			r.Cached++
		}
	}
	if err := learnt.Save(ctx); err != nil {
		return err
	}
	r.Slow = int(slow.Load())
	return json.NewEncoder(os.Stdout).Encode(r)
}

func runReplica(t *testing.T, cfg config) (r report) {
	t.Helper()
	text, _ := json.Marshal(cfg)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), replicaEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("replica %s: %v", cfg.Name, err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("replica %s: %v in %q", cfg.Name, err, out)
	}
	return r
}

// What one process has seen the end of, another has without asking, and how long the jobs took;
// each counts once however often the processes start again.
func TestTwoProcessesShareWhatTheyKnow(t *testing.T) {
	s := startRedis(t)
	sim := simserver.Start(t)
	var ids []string
	for range 5 {
		ids = append(ids, sim.Create(simserver.Job{Duration: simserver.Never}))
	}
	go func() { // each job ends once it has been seen pending
		for _, id := range ids {
			for sim.Requests(id) == 0 || sim.Stats().InFlight > 0 {
				if t.Context().Err() != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
			sim.Complete(id)
		}
	}()
	cfg := config{Redis: s.addr, Backend: sim.URL(), Name: "a", IDs: ids}
	first := runReplica(t, cfg)
	sent := sim.TotalRequests()
	if len(first.States) != len(ids) || first.Cached != 0 || first.Jobs != 0 || sent < 2*len(ids) {
		t.Fatalf("%+v, %d requests", first, sent)
	}
	if first.Slow > 0 {
		t.Skipf("the machine is too busy: %+v", first)
	}
	cfg.Name = "b"
	second := runReplica(t, cfg)
	if second.Slow > 0 {
		t.Skipf("the machine is too busy: %+v", second)
	}
	if n := sim.TotalRequests(); n != sent {
		t.Errorf("the second process made %d requests for what the first one knew", n-sent)
	}
	if len(second.States) != len(ids) || second.Cached != len(ids) || second.Jobs != len(ids) {
		t.Errorf("%+v", second)
	}
	for _, id := range ids {
		if first.States[id] != vtclient.StateCompleted || second.States[id] != vtclient.StateCompleted {
			t.Errorf("%s: %s and %s", id, first.States[id], second.States[id])
		}
	}
	cfg.IDs = nil
	for _, name := range []string{"a", "b", "a", "c"} {
		cfg.Name = name
		if r := runReplica(t, cfg); r.Jobs != len(ids) {
			t.Errorf("replica %s has %d jobs, want %d", name, r.Jobs, len(ids))
		}
	}
}

// Redis that is killed, or hangs, in the middle of a wait costs nothing but a
// report; and when it is back, so are the answers in it.
func TestRedisInTrouble(t *testing.T) {
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
	}{{"killed", syscall.SIGKILL}, {"hanging", syscall.SIGSTOP}} {
		t.Run(tt.name, func(t *testing.T) {
			s := startRedis(t)
			sim := simserver.Start(t)
			reported := make(chan error, 1000)
			c, err := vtclient.New(sim.URL(),
				vtclient.WithCache(vtredis.NewCache(s.client(t), "answers:")),
				vtclient.WithPolling(vtclient.Constant(50*time.Millisecond)),
				vtclient.WithTrace(vtclient.Trace{Cached: func(_ context.Context, i vtclient.TraceInfo) {
					if i.Err != nil {
						select {
						case reported <- i.Err:
						default:
						}
					}
				}}))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			before := sim.Create(simserver.Job{Duration: -1})
			if _, err := c.Wait(ctx, before); err != nil {
				t.Fatal(err)
			}
			awaitCached(t, ctx, c, before)

			id := sim.Create(simserver.Job{Duration: simserver.Never})
			once := make(chan struct{})
			result := make(chan error, 1)
			go func() {
				var seen atomic.Bool
				st, err := c.Wait(ctx, id, vtclient.OnError(func(err error) { t.Error(err) }), vtclient.OnProgress(func(vtclient.Status) {
					if !seen.Swap(true) {
						close(once)
					}
				}))
				if err == nil && st.State != vtclient.StateCompleted {
					err = errors.New("not completed")
				}
				result <- err
			}()
			<-once
			for len(reported) > 0 { // of a busy machine
				<-reported
			}
			if err := s.cmd.Process.Signal(tt.signal); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-reported:
				t.Log("reported:", err)
			case <-ctx.Done():
				t.Fatal("the trouble is not reported")
			}
			sim.Complete(id)
			if err := <-result; err != nil {
				t.Error(err)
			}
			if st, err := c.Status(ctx, before); err != nil || st.Cached || st.State != vtclient.StateCompleted {
				t.Errorf("without the cache: %+v, %v", st, err)
			}
			if tt.signal != syscall.SIGSTOP {
				return
			}
			s.cmd.Process.Signal(syscall.SIGCONT)
			awaitCached(t, ctx, c, before)
		})
	}
}

// awaitCached returns once an answer comes from the cache: a client leaves one that
// was too slow alone for a while.
func awaitCached(t *testing.T, ctx context.Context, c *vtclient.Client, id string) {
	t.Helper()
	for {
		st, err := c.Status(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if st.Cached {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// One replica gets the webhook; the wait that it ends is another's, whose next poll
// would be an hour away.
func TestHintsReachAllReplicas(t *testing.T) {
	s := startRedis(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const secret = "whsec_test"
	mux := http.NewServeMux()
	receiver := httptest.NewServer(mux)
	defer receiver.Close()
	sim := simserver.Start(t, simserver.WithWebhook(simserver.Webhook{URL: receiver.URL, Secret: secret}))

	verify, err := vtclient.VerifyHeyGen(secret)
	if err != nil {
		t.Fatal(err)
	}
	a := s.client(t)
	mux.Handle("/", &vtclient.Webhook{
		Verify: verify,
		Hint: func(id string) {
			if err := vtredis.Publish(ctx, a, "hints", id); err != nil {
				t.Error(err)
			}
		},
		OnError: func(_ *http.Request, err error) { t.Error(err) },
	})

	const jobs = 20
	ends := make(chan error, 2*jobs)
	var waiting []<-chan struct{}
	for range 2 { // replicas that wait
		c, err := vtclient.New(sim.URL(), vtclient.WithPolling(vtclient.Constant(time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		sub, stop := context.WithCancel(ctx)
		done, err := vtredis.Subscribe(sub, s.client(t), "hints", c.Hint)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { stop(); <-done }()
		for i := range jobs {
			id := sim.Create(simserver.Job{ID: "job " + strconv.Itoa(i) + " of " + strconv.Itoa(len(waiting)/jobs), Duration: simserver.Never})
			seen := make(chan struct{})
			waiting = append(waiting, seen)
			go func() {
				_, err := c.Wait(ctx, id, vtclient.OnProgress(func(st vtclient.Status) {
					if st.State == vtclient.StatePending {
						close(seen)
					}
				}))
				ends <- err
			}()
		}
	}
	for _, seen := range waiting {
		<-seen
	}
	for r := range 2 {
		for i := range jobs {
			sim.Complete("job " + strconv.Itoa(i) + " of " + strconv.Itoa(r))
		}
	}
	for range 2 * jobs {
		if err := <-ends; err != nil {
			t.Fatal(err)
		}
	}
	if n := sim.TotalRequests(); n != 2*2*jobs {
		t.Errorf("%d requests for %d waits, want 2 each", n, 2*jobs)
	}
}

// A subscription that cannot be had is an error at once.
func TestSubscribeWithoutRedis(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, ContextTimeoutEnabled: true})
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := vtredis.Subscribe(ctx, rdb, "hints", func(string) {}); err == nil {
		t.Error("no error")
	}
	if err := vtredis.Publish(ctx, rdb, "hints", "j"); err == nil {
		t.Error("no error")
	}
}
