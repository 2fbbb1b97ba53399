package vtredis_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtredis"
	"github.com/vtclient/vtclient/simserver"
)

// roleEnv makes the test binary one process of the fleet: a member that runs the queue, or the backend.
const roleEnv = "VTREDIS_FLEET"

type role struct {
	Backend  bool
	Shortest time.Duration // of the backend's jobs
	Longest  time.Duration

	Name, Redis, URL, Journal string // of a member
	AtMost                    int
	Idle                      time.Duration
	HoldAfter                 int // the handling that does not return; 0: none
}

func playRole(text string) error {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if r.Backend {
		return r.serve(ctx)
	}
	return r.run(ctx)
}

func (r *role) queue(rdb redis.UniversalClient) (*vtredis.Queue, error) {
	return vtredis.NewQueue(rdb, "fleet", vtredis.QueueOptions{AtMost: r.AtMost, Idle: r.Idle,
		OnError: func(err error) { fmt.Fprintln(os.Stderr, err) }})
}

// run is a replica of a service. It writes a line to its journal for each job that it handles.
func (r *role) run(ctx context.Context) error {
	rdb := redis.NewClient(&redis.Options{Addr: r.Redis, ContextTimeoutEnabled: true})
	defer rdb.Close()
	q, err := r.queue(rdb)
	if err != nil {
		return err
	}
	c, err := vtclient.New(r.URL, vtclient.WithEndpoint(vtclient.HeyGenV3()), vtclient.WithHeader("X-Replica", r.Name))
	if err != nil {
		return err
	}
	journal, err := os.Create(r.Journal)
	if err != nil {
		return err
	}
	defer journal.Close()
	handled := 0
	fmt.Println("ready")
	err = q.Run(ctx, c, func(_ context.Context, st vtclient.Status, err error) error {
		if err != nil {
			return err
		}
		handled++
		fmt.Fprintln(journal, st.JobID)
		if handled == r.HoldAfter {
			select {}
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// A turn is a number of polls of one job in a row by the same replica.
type turn struct {
	Replica     string
	First, Last time.Time
	Polls       int
}

type observations struct {
	Turns            map[string][]turn
	Bulk, JobsInBulk int
	Requests         int
}

// serve is the backend. It notes which replica polls which job.
func (r *role) serve(ctx context.Context) error {
	var mu sync.Mutex
	seen := observations{Turns: map[string][]turn{}}
	sim := simserver.New(simserver.WithAutoCreate(), simserver.WithDurations(simserver.Uniform(r.Shortest, r.Longest)),
		simserver.WithOnExchange(func(e simserver.Exchange) {
			mu.Lock()
			defer mu.Unlock()
			seen.Requests++
			if strings.HasSuffix(e.Path, "/statuses") {
				seen.Bulk++
				seen.JobsInBulk += len(e.JobIDs)
			}
			for _, id := range e.JobIDs {
				turns := seen.Turns[id]
				if n := len(turns); n == 0 || turns[n-1].Replica != e.Header.Get("X-Replica") {
					turns = append(turns, turn{Replica: e.Header.Get("X-Replica"), First: e.Time})
				}
				last := &turns[len(turns)-1]
				last.Last = e.Time
				last.Polls++
				seen.Turns[id] = turns
			}
		}))
	mux := http.NewServeMux()
	mux.Handle("/", sim)
	mux.HandleFunc("/observations", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		json.NewEncoder(w).Encode(seen)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	server := &http.Server{Handler: mux}
	go func() { <-ctx.Done(); sim.Close(); server.Close() }()
	server.Serve(l)
	return nil
}

// A member is a process of the fleet.
type member struct {
	role
	cmd    *exec.Cmd
	out    *bufio.Reader
	errs   bytes.Buffer
	killed bool
}

func startMember(t *testing.T, r role) *member {
	t.Helper()
	text, _ := json.Marshal(r)
	m := &member{role: r, cmd: exec.Command(os.Args[0])}
	m.cmd.Env = append(os.Environ(), roleEnv+"="+string(text))
	m.cmd.Stderr = &m.errs
	out, err := m.cmd.StdoutPipe()
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	m.out = bufio.NewReader(out)
	t.Cleanup(func() {
		if m.cmd.ProcessState == nil {
			m.cmd.Process.Signal(syscall.SIGCONT)
			m.cmd.Process.Kill()
			m.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("%s: %s", m.Name, &m.errs)
		}
	})
	return m
}

func (m *member) signal(t *testing.T, s os.Signal) time.Time {
	t.Helper()
	at := time.Now()
	if err := m.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	return at
}

// end waits for the end of the process.
func (m *member) end(t *testing.T) {
	t.Helper()
	if err := m.cmd.Wait(); err != nil && !m.killed {
		t.Errorf("replica %s: %v", m.Name, err)
	}
}

func (m *member) journal(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(m.role.Journal)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// A scale is the size of the scenario.
type scale struct {
	jobs              int
	idle, away        time.Duration // how long a claim stands, and how long Redis is away
	shortest, longest time.Duration // of jobs
}

// Four replicas, of which one is killed while it handles a job, one stands still for longer than
// the idle time, one leaves, and one comes; and Redis is away for a while. Each job is handled. Handled
// twice is only the one that was being handled in the moment of the kill, and one more at most where the
// stop hit a handling. No job is polled by two replicas but for takeovers.
//
// VTREDIS_FLEET_JOBS=10000 runs the long form, in about five minutes.
func TestQueueFleet(t *testing.T) {
	t.Parallel()
	sc := scale{jobs: 2000, idle: 3 * time.Second, away: 2 * time.Second, shortest: time.Second, longest: 10 * time.Second}
	if text := os.Getenv("VTREDIS_FLEET_JOBS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		sc = scale{jobs: n, idle: 30 * time.Second, away: 20 * time.Second, shortest: 5 * time.Second, longest: 4 * time.Minute}
	}
	f := newFleet(t, sc)
	f.play(t)
	f.checkHandled(t)
	f.checkPolls(t)
}

type fleet struct {
	scale
	redis   *server
	backend *member
	url     string
	dir     string
	members []*member
	q       *vtredis.Queue
	ids     []string
	later   []vtclient.Job // added once a replica has come

	dead, still, leaver             *member
	killed, stopped, resumed, asked time.Time
}

func newFleet(t *testing.T, sc scale) *fleet {
	t.Helper()
	f := &fleet{scale: sc, redis: startRedis(t, "--appendonly", "yes"), dir: t.TempDir()}
	f.backend = startMember(t, role{Backend: true, Shortest: sc.shortest, Longest: sc.longest})
	line, err := f.backend.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	f.url = strings.TrimSpace(line)
	if f.q, err = (&role{Idle: sc.idle}).queue(f.redis.client(t)); err != nil {
		t.Fatal(err)
	}
	var jobs []vtclient.Job
	for i := range sc.jobs {
		f.ids = append(f.ids, "job-"+strconv.Itoa(i))
		jobs = append(jobs, vtclient.Job{ID: f.ids[i]})
	}
	f.join(t, "a", 10)
	for _, name := range []string{"b", "c", "d"} {
		f.join(t, name, 0)
	}
	f.add(t, jobs[:sc.jobs*9/10])
	f.later = jobs[sc.jobs*9/10:]
	return f
}

// add adds jobs a few at a time, so that all replicas get some.
func (f *fleet) add(t *testing.T, jobs []vtclient.Job) {
	t.Helper()
	for some := range slices.Chunk(jobs, max(1, len(jobs)/20)) {
		add(t, f.q, some...)
	}
}

func (f *fleet) join(t *testing.T, name string, holdAfter int) *member {
	m := startMember(t, role{Name: name, Redis: f.redis.addr, URL: f.url, Journal: filepath.Join(f.dir, name),
		AtMost: f.jobs / 2, Idle: f.idle, HoldAfter: holdAfter})
	if _, err := m.out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	f.members = append(f.members, m)
	return m
}

func (f *fleet) play(t *testing.T) {
	t.Helper()
	after := func(since time.Time, d time.Duration) {
		until(t, "time passes", func() bool { return time.Since(since) >= d })
	}
	f.dead, f.still, f.leaver = f.members[0], f.members[1], f.members[2]
	until(t, "a job is being handled at a", func() bool {
		text, _ := os.ReadFile(f.dead.role.Journal)
		return strings.Count(string(text), "\n") == f.dead.HoldAfter
	})
	f.killed, f.dead.killed = f.dead.signal(t, syscall.SIGKILL), true
	after(f.killed, f.idle/2)
	f.stopped = f.still.signal(t, syscall.SIGSTOP)
	after(f.stopped, f.idle*3/2)
	f.resumed = f.still.signal(t, syscall.SIGCONT)
	after(f.resumed, f.idle/3)
	f.redis.stop()
	gone := time.Now()
	after(gone, f.away)
	if !f.redis.start(t) {
		t.Fatal("redis-server does not start again")
	}
	f.join(t, "e", 0)
	f.add(t, f.later)
	f.asked = f.leaver.signal(t, syscall.SIGTERM)
	f.leaver.end(t)
	last := time.Now()
	for left := int64(f.jobs); left > 0; {
		if n := stats(t, f.q).Jobs; n != left {
			left, last = n, time.Now()
		}
		if time.Since(last) > patience+f.idle {
			t.Fatalf("%d jobs are left", left)
		}
		after(time.Now(), 50*time.Millisecond)
	}
}

func (f *fleet) checkHandled(t *testing.T) {
	t.Helper()
	by := map[string][]string{}
	var last []string // the ones that were being handled when a replica was killed or stopped
	for _, m := range f.members {
		journal := m.journal(t)
		t.Logf("%s handled %d", m.Name, len(journal))
		for _, id := range journal {
			by[id] = append(by[id], m.Name)
		}
		if m == f.dead {
			last = append(last, journal[len(journal)-1])
		}
	}
	twice := 0
	for _, id := range f.ids {
		switch names := by[id]; {
		case len(names) == 0:
			t.Errorf("%s was not handled", id)
		case len(names) > 2 || len(names) == 2 && !slices.Contains(names, f.dead.Name) && !slices.Contains(names, f.still.Name):
			t.Errorf("%s was handled by %v", id, names)
		case len(names) == 2:
			twice++
		}
	}
	if len(by[last[0]]) != 2 {
		t.Errorf("the job that %s was handling when it was killed was handled by %v", f.dead.Name, by[last[0]])
	}
	if twice > 2 { // the kill, and the stop if it hit a handling
		t.Errorf("%d jobs were handled twice", twice)
	}
	got := stats(t, f.q)
	total := int64(0)
	for _, n := range got.Deliveries {
		total += n
	}
	if total != int64(f.jobs) || got.Dead != 0 || got.Failed != 0 {
		t.Errorf("%+v", got)
	}
	t.Logf("handled twice: %d; %+v", twice, got)
}

func (f *fleet) checkPolls(t *testing.T) {
	t.Helper()
	answer, err := http.Get(f.url + "/observations")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	var seen observations
	if err := json.Unmarshal(text, &seen); err != nil {
		t.Fatal(err)
	}
	// A replica that stood still polls what it has lost until it renews its claims.
	stale := f.resumed.Add(f.idle/3 + 2*time.Second)
	var slowest time.Duration
	takeovers, stalePolls, odd := 0, 0, 0
	for id, turns := range seen.Turns {
		for i := 1; i < len(turns); i++ {
			from, to := turns[i-1].Replica, turns[i]
			switch {
			case from == f.dead.Name && to.First.After(f.killed):
				slowest = max(slowest, to.First.Sub(f.killed))
				takeovers++
			case to.Replica == f.still.Name && to.First.After(f.resumed) && to.First.Before(stale):
				stalePolls += to.Polls
			case from == f.still.Name && to.First.After(f.stopped):
				if to.First.Before(f.resumed) {
					slowest = max(slowest, to.First.Sub(f.stopped))
					takeovers++
				}
			case from == f.leaver.Name && to.First.After(f.asked):
				slowest = max(slowest, to.First.Sub(f.asked))
				takeovers++
			default:
				if odd++; odd < 10 {
					t.Errorf("%s was polled by %s and then by %s: %+v", id, from, to.Replica, turns)
				}
			}
		}
	}
	if odd > 0 {
		t.Errorf("%d jobs went to another replica without a reason", odd)
	}
	if limit := f.idle + 5*time.Second; slowest > limit || takeovers == 0 {
		t.Errorf("%d takeovers, the slowest after %v, want within %v", takeovers, slowest, limit)
	}
	shared := float64(seen.JobsInBulk) / float64(max(1, seen.Bulk))
	if shared <= 50 {
		t.Errorf("%.1f jobs per shared request", shared)
	}
	t.Logf("%d requests, %d of them shared by %.1f jobs; %d takeovers, the slowest after %v; %d polls by the replica that had stood still",
		seen.Requests, seen.Bulk, shared, takeovers, slowest, stalePolls)
}
