package vtredis_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtredis"
	"github.com/vtclient/vtclient/simserver"
)

func newQueue(t *testing.T, rdb redis.UniversalClient, o vtredis.QueueOptions) *vtredis.Queue {
	t.Helper()
	q, err := vtredis.NewQueue(rdb, "q", o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// A service runs a queue in goroutines until it has handled what is expected.
type service struct {
	cancel context.CancelFunc
	result chan error

	mu      sync.Mutex
	handled map[string]int
	ends    chan string
}

type end struct {
	ctx context.Context
	st  vtclient.Status
	err error
}

// startService runs q with a client of sim. answer, if not nil, is what handle returns.
func startService(t *testing.T, q *vtredis.Queue, sim *simserver.Server, answer func(end) error, opts ...vtclient.Option) *service {
	t.Helper()
	c, err := vtclient.New(sim.URL(), append([]vtclient.Option{vtclient.WithPolling(vtclient.Constant(50 * time.Millisecond))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &service{cancel: cancel, result: make(chan error, 1), handled: map[string]int{}, ends: make(chan string, 10_000)}
	go func() {
		s.result <- q.Run(ctx, c, func(ctx context.Context, st vtclient.Status, err error) error {
			s.mu.Lock()
			s.handled[st.JobID]++
			s.mu.Unlock()
			var failed error
			if answer != nil {
				failed = answer(end{ctx, st, err})
			}
			s.ends <- st.JobID
			return failed
		})
		c.CloseIdleConnections()
	}()
	t.Cleanup(func() { s.stop(t) })
	return s
}

// stop ends the service and returns what Run returned.
func (s *service) stop(t *testing.T) error {
	t.Helper()
	s.cancel()
	select {
	case err := <-s.result:
		s.result <- err
		return err
	case <-time.After(patience):
		t.Fatal("Run does not end")
		return nil
	}
}

func (s *service) await(t *testing.T, n int) (ids []string) {
	t.Helper()
	for range n {
		select {
		case id := <-s.ends:
			ids = append(ids, id)
		case <-time.After(patience):
			t.Fatalf("handled %d of %d", len(ids), n)
		}
	}
	return ids
}

// until waits for what is sure to come.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("never: " + what)
		}
	}
}

func stats(t *testing.T, q *vtredis.Queue) vtredis.QueueStats {
	t.Helper()
	s, err := q.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t *testing.T, q *vtredis.Queue, jobs ...vtclient.Job) {
	t.Helper()
	if err := q.Add(t.Context(), jobs...); err != nil {
		t.Fatal(err)
	}
}

func named(ids ...string) []vtclient.Job { return slices.Collect(vtclient.Jobs(ids...)) }

// Every argument out of range is named.
func TestNewQueueRefuses(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{})
	defer rdb.Close()
	for _, tt := range []struct {
		name string
		rdb  redis.UniversalClient
		key  string
		o    vtredis.QueueOptions
		want string
	}{
		{"no client", nil, "q", vtredis.QueueOptions{}, "vtredis: NewQueue: rdb is nil"},
		{"no key", rdb, "", vtredis.QueueOptions{}, "vtredis: NewQueue: key is empty"},
		{"AtMost", rdb, "q", vtredis.QueueOptions{AtMost: -1}, "vtredis: QueueOptions.AtMost: -1, want 0 or more"},
		{"Handlers", rdb, "q", vtredis.QueueOptions{Handlers: -2}, "vtredis: QueueOptions.Handlers: -2, want 0 or more"},
		{"MaxDeliveries", rdb, "q", vtredis.QueueOptions{MaxDeliveries: -3}, "vtredis: QueueOptions.MaxDeliveries: -3, want 0 or more"},
		{"Idle", rdb, "q", vtredis.QueueOptions{Idle: 30}, "vtredis: QueueOptions.Idle: 30ns, want 0, or 1s or more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := vtredis.NewQueue(tt.rdb, tt.key, tt.o); err == nil || err.Error() != tt.want {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

// Each job is handled once with its end, leaves no trace, and may come again after that.
func TestQueueHandlesEachJobOnce(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	sim := simserver.Start(t)
	q := newQueue(t, rdb, vtredis.QueueOptions{})
	good := sim.Create(simserver.Job{Duration: 200 * time.Millisecond})
	bad := sim.Create(simserver.Job{Duration: -1, Fail: true, Message: "too long"})
	late := sim.Create(simserver.Job{Duration: simserver.Never})
	if s := stats(t, q); fmt.Sprint(s) != fmt.Sprint(vtredis.QueueStats{Deliveries: make([]int64, 5)}) {
		t.Errorf("before the first job: %+v", s)
	}
	jobs := append(named(good, bad, "unknown", good), vtclient.Job{ID: late, Deadline: time.Now().Add(time.Second)})
	add(t, q, jobs...)
	add(t, q, jobs...)
	if s := stats(t, q); s.Jobs != 4 || s.Claimed != 0 {
		t.Fatalf("%+v", s)
	}
	run := startService(t, q, sim, func(e end) error {
		var ok bool
		switch e.st.JobID {
		case good:
			ok = e.err == nil && e.st.State == vtclient.StateCompleted
		case bad:
			ok = errors.Is(e.err, vtclient.ErrJobFailed) && e.st.Message == "too long"
		case "unknown":
			ok = errors.As(e.err, new(*vtclient.HTTPError))
		case late:
			ok = errors.Is(e.err, context.DeadlineExceeded)
		}
		if !ok || vtredis.Delivery(e.ctx) != 1 {
			t.Errorf("delivery %d of %v: %v", vtredis.Delivery(e.ctx), e.st, e.err)
		}
		return nil
	})
	run.await(t, 4)
	until(t, "an empty queue", func() bool { return stats(t, q).Jobs == 0 })
	add(t, q, named(good)...)
	run.await(t, 1)
	if err := run.stop(t); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	got := stats(t, q)
	want := vtredis.QueueStats{Deliveries: []int64{5, 0, 0, 0, 0}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if n := rdb.Exists(t.Context(), "{q}:ids", "{q}:errors", "{q}:dead").Val(); n != 0 {
		t.Errorf("%d keys remain", n)
	}
	if run.handled[good] != 2 {
		t.Error(run.handled)
	}
}

// What Add was given reaches the wait: a known start, so that the first poll follows the
// schedule, the estimate, and the deadline.
func TestQueueKeepsWhatIsKnownOfAJob(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	q := newQueue(t, rdb, vtredis.QueueOptions{})
	started := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	add(t, q, vtclient.Job{ID: "a", StartedAt: started, Expect: 90 * time.Second, Deadline: started.Add(time.Hour)}, vtclient.Job{ID: "b"})
	seen := make(chan vtclient.Attempt, 10)
	sim := simserver.Start(t, simserver.WithAutoCreate())
	run := startService(t, q, sim, nil, vtclient.WithPolling(recorder{seen}))
	for { // the wait for a, whose age is known
		a := <-seen
		if a.Expected == 0 {
			continue
		}
		if a.Expected != 90*time.Second {
			t.Errorf("%+v", a)
		}
		break
	}
	if ids := run.await(t, 1); ids[0] != "a" { // its deadline is past
		t.Error(ids)
	}
}

// A recorder is a polling that shows what it is asked.
type recorder struct{ seen chan vtclient.Attempt }

func (r recorder) Next(a vtclient.Attempt) (time.Duration, bool) {
	select {
	case r.seen <- a:
	default:
	}
	return time.Hour, true
}

// An error of handle leads to further deliveries, which are counted, and after the last
// one to a dead letter with that error.
func TestQueueDeliversAgainAndBuries(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	sim := simserver.Start(t)
	var mu sync.Mutex
	var deliveries []int
	reported := make(chan error, 100)
	q := newQueue(t, rdb, vtredis.QueueOptions{Idle: time.Second, MaxDeliveries: 3, OnError: func(err error) { reported <- err }})
	lucky, hopeless := sim.Create(simserver.Job{Duration: -1}), sim.Create(simserver.Job{Duration: -1})
	add(t, q, vtclient.Job{ID: hopeless, Expect: time.Minute}, vtclient.Job{ID: lucky})
	run := startService(t, q, sim, func(e end) error {
		n := vtredis.Delivery(e.ctx)
		if e.st.JobID == hopeless {
			mu.Lock()
			deliveries = append(deliveries, n)
			mu.Unlock()
			return fmt.Errorf("no disk space, try %d", n)
		}
		if n < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	run.await(t, 5)
	until(t, "an empty queue", func() bool { return stats(t, q).Jobs == 0 })
	mu.Lock()
	if !slices.Equal(deliveries, []int{1, 2, 3}) {
		t.Errorf("deliveries %v", deliveries)
	}
	mu.Unlock()
	got := stats(t, q)
	if got.Dead != 1 || got.Failed != 4 || got.Takeovers != 3 || fmt.Sprint(got.Deliveries) != "[0 1 0]" {
		t.Errorf("%+v", got)
	}
	letters := rdb.XRange(t.Context(), "{q}:dead", "-", "+").Val()
	want := map[string]any{"id": hopeless, "started": "0", "expect": "60000000000", "deadline": "0", "error": "no disk space, try 3", "deliveries": "3"}
	if len(letters) != 1 || fmt.Sprint(letters[0].Values) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", letters, want)
	}
	if n := len(reported); n < 4 {
		t.Errorf("%d errors reported", n)
	}
	add(t, q, named(hopeless)...) // a dead letter does not keep its job from being added again
	if n := stats(t, q).Jobs; n != 1 {
		t.Errorf("%d jobs", n)
	}
}

// A Run never has more unfinished jobs than AtMost, those included that wait to be handled, and
// another Run takes the rest.
func TestQueueAtMost(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	sim := simserver.Start(t, simserver.WithAutoCreate(), simserver.WithDurations(simserver.Fixed(0)))
	q := newQueue(t, rdb, vtredis.QueueOptions{AtMost: 5})
	var jobs []vtclient.Job
	for i := range 50 {
		jobs = append(jobs, vtclient.Job{ID: fmt.Sprint("job ", i)})
	}
	add(t, q, jobs...)
	hold := make(chan struct{})
	first := startService(t, q, sim, func(end) error { <-hold; return nil })
	until(t, "claims", func() bool { return stats(t, q).Claimed == 5 })
	second := startService(t, q, sim, nil)
	second.await(t, 45)
	until(t, "the last acknowledgement", func() bool { return stats(t, q).Jobs == 5 })
	if got := stats(t, q); got.Claimed != 5 || got.Replicas != 1 || got.Oldest <= 0 {
		t.Errorf("%+v", got)
	}
	close(hold)
	first.await(t, 5)
}

// A Run that ends leaves its jobs to others at once, and one that is removed is no
// longer polled.
func TestQueueLeavesAndRemoves(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	sim := simserver.Start(t)
	q := newQueue(t, rdb, vtredis.QueueOptions{Idle: 5 * time.Second})
	kept, removed := sim.Create(simserver.Job{Duration: simserver.Never}), sim.Create(simserver.Job{Duration: simserver.Never})
	add(t, q, named(kept, removed)...)
	first := startService(t, q, sim, nil)
	until(t, "polls", func() bool { return sim.Requests(kept) > 0 && sim.Requests(removed) > 0 })
	first.stop(t)
	left := time.Now()
	before := sim.Requests(kept)
	second := startService(t, q, sim, nil)
	until(t, "a takeover", func() bool { return sim.Requests(kept) > before })
	if d := time.Since(left); d > 4*time.Second { // well below the idle time, which a kill would cost
		t.Errorf("taken over after %v", d)
	}
	if err := q.Remove(t.Context(), removed, "unknown"); err != nil {
		t.Fatal(err)
	}
	if got := stats(t, q); got.Jobs != 1 {
		t.Errorf("%+v", got)
	}
	seen, at := sim.Requests(removed), sim.Requests(kept)
	until(t, "20 polls without one for the job removed", func() bool {
		if n := sim.Requests(removed); n != seen {
			seen, at = n, sim.Requests(kept)
		}
		return sim.Requests(kept) >= at+20
	})
	sim.Complete(kept)
	second.await(t, 1)
	if second.handled[removed] != 0 {
		t.Error("a removed job was handled")
	}
}

// A hint that any replica receives brings a poll about at the one that waits.
func TestQueueHints(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	sim := simserver.Start(t)
	q := newQueue(t, rdb, vtredis.QueueOptions{AtMost: 1})
	a, b := sim.Create(simserver.Job{Duration: simserver.Never}), sim.Create(simserver.Job{Duration: simserver.Never})
	add(t, q, named(a, b)...)
	hour := vtclient.WithPolling(vtclient.Constant(time.Hour))
	runs := []*service{startService(t, q, sim, nil, hour), startService(t, q, sim, nil, hour)}
	until(t, "first polls", func() bool { return sim.Requests(a) == 1 && sim.Requests(b) == 1 })
	for _, id := range []string{a, b} {
		sim.Complete(id)
		newQueue(t, s.client(t), vtredis.QueueOptions{}).Hint(id)
	}
	runs[0].await(t, 1)
	runs[1].await(t, 1)
	q.Hint("unknown")
}

// A queue that is gone is an error that names it, also where it was made again meanwhile.
func TestQueueEmptied(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		then func(*vtredis.Queue)
	}{{"gone", func(*vtredis.Queue) {}}, {"made again", func(q *vtredis.Queue) { add(t, q, named("other")...) }}} {
		t.Run(tt.name, func(t *testing.T) {
			s := startRedis(t)
			rdb := s.client(t)
			sim := simserver.Start(t)
			q := newQueue(t, rdb, vtredis.QueueOptions{Idle: time.Second})
			id := sim.Create(simserver.Job{Duration: simserver.Never})
			add(t, q, named(id)...)
			run := startService(t, q, sim, nil)
			until(t, "a poll", func() bool { return sim.Requests(id) > 0 })
			rdb.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
				p.FlushAll(t.Context())
				return nil
			})
			tt.then(q)
			select {
			case err := <-run.result:
				run.result <- err
				if !errors.Is(err, vtredis.ErrEmptied) || err.Error() != `vtredis: queue "q": Run: the queue is no longer in Redis; add the unfinished jobs again` {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatal("no error")
			}
		})
	}
}
