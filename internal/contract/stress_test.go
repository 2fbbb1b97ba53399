package contract_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/race"
	"github.com/vtclient/vtclient/simserver"
)

// TestStress lets all that a client can do happen at once, over real HTTP in virtual time, and
// compares what comes of it with the backend's own records. A seed decides what is done, but
// not in which order goroutines run, so a seed that failed may have to run more than once to
// fail again:
//
//	VTCLIENT_SEED=17 go test -race -run '^TestStress$' -count 50 ./internal/contract
//
// The long form is VTCLIENT_SEEDS=5000.
func TestStress(t *testing.T) {
	from, to := uint64(0), uint64(80)
	if race.Enabled {
		to = 24
	}
	number := func(name string) (uint64, bool) {
		v := os.Getenv(name)
		n, err := strconv.ParseUint(v, 10, 32)
		if v != "" && err != nil {
			t.Fatal(name, err)
		}
		return n, v != ""
	}
	if n, ok := number("VTCLIENT_SEEDS"); ok {
		to = n
	}
	seed, one := number("VTCLIENT_SEED")
	if one {
		from, to = seed, seed+1
	}
	met := tally{}
	for seed := from; seed < to; seed++ {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newStorm(t, seed, &met).run() })
		}) {
			t.Fatalf("once more: VTCLIENT_SEED=%d go test -race -run '^TestStress$' -count 50 .", seed)
		}
	}
	t.Logf("%d seeds: %v", to-from, &met)
	if one || to < 24 {
		return
	}
	// Else it tests less than it claims.
	for _, what := range []string{
		"completed", "failed", "not found", "canceled", "deadline", "outage", "retry-after", "refused", "argument", "panic", "goexit",
		"hold", "cached", "breaker open", "breaker half-open", "breaker closed", "left a loop", "learnt",
	} {
		if met.count(what) == 0 {
			t.Errorf("never met: %s", what)
		}
	}
}

// A tally counts what was met.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[what]++
}

func (c *tally) count(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[what]
}

func (c *tally) String() string { return fmt.Sprint(c.n) }

// A storm is one seed's program and what is seen of it.
type storm struct {
	t      *testing.T
	rnd    *rand.Rand
	met    *tally
	sim    *simserver.Server
	c      *vtclient.Client
	start  time.Time
	end    time.Time // when all contexts are cancelled
	all    context.Context
	beside sync.WaitGroup // callers that nothing else waits for
	ids    []string

	inFlight  int
	timeout   time.Duration
	tolerance time.Duration
	ttl       time.Duration // of pending answers; 0: no promise
	lag       time.Duration // from an answer to the end of its call
	panics    bool          // the caller's code panics now and then
	faulty    bool
	slowState bool // OnStateChange takes time

	mu       sync.Mutex
	luck     *rand.Rand // for what no goroutine of ours decides
	open     int        // requests
	polling  map[string][]context.Context
	waits    map[string][]*waiting
	seen     map[string]glance
	holds    [][2]time.Time
	changing [][2]time.Time // spans of OnStateChange

	joined, lessons, ends       atomic.Int64
	sent, answered, wire, loose atomic.Int64
}

// A glance is a poll as it was last seen.
type glance struct {
	poll    any
	started time.Duration
}

// A waiting is the time for which a caller may wait for a job.
type waiting struct {
	until time.Time // its context is done
	left  time.Time // zero: not yet
}

type callKey struct{}

const boom = "boom"

func newStorm(t *testing.T, seed uint64, met *tally) *storm {
	r := rand.New(rand.NewPCG(seed, 0))
	chance := func(p float64) bool { return r.Float64() < p }
	s := &storm{
		t: t, rnd: r, met: met, start: time.Now(), luck: rand.New(rand.NewPCG(seed, 1)),
		polling: map[string][]context.Context{}, waits: map[string][]*waiting{}, seen: map[string]glance{},
		inFlight: []int{1, 2, 4, 16, 64}[r.IntN(5)], timeout: 2 * time.Second, tolerance: 5 * time.Minute,
		panics: chance(.25), faulty: chance(.8), slowState: chance(.3),
	}
	s.end = s.start.Add(time.Duration(30+r.IntN(90)) * time.Second)
	opts := []simserver.Option{simserver.WithSeed(seed)}
	if chance(.2) {
		opts = append(opts, simserver.WithRetryAfter(time.Duration(1+r.IntN(4))*time.Second))
	}
	s.sim = simserver.StartInMemory(t, opts...)
	for i := range 4 + r.IntN(16) {
		j := simserver.Job{ID: fmt.Sprint("job/", i), Fail: chance(.3), Duration: time.Duration(r.IntN(40_000)) * time.Millisecond}
		switch {
		case chance(.1):
			j.Duration = simserver.Never
		case chance(.1):
			j.Duration = -1
		case chance(.1):
			j.Started = s.start.Add(-10 * time.Second)
		}
		s.ids = append(s.ids, s.sim.Create(j))
	}
	s.ids = append(s.ids, "nobody's", "") // the second is the default job

	retry := vtclient.Exponential{Base: 200 * time.Millisecond, Max: 5 * time.Second, Jitter: .5, Limit: 1 + r.IntN(4)}
	with := []vtclient.Option{
		vtclient.WithHTTPClient(&http.Client{Transport: s}), vtclient.WithMaxInFlight(s.inFlight), vtclient.WithTimeout(s.timeout),
		vtclient.WithRetry(hooked{s, retry}), vtclient.WithTrace(s.trace()),
	}
	switch r.IntN(4) {
	case 0:
		with = append(with, vtclient.WithPolling(hooked{s, vtclient.Exponential{Base: time.Second, Max: 8 * time.Second, Jitter: .5}}))
	case 1: // asks for more than it may have
		with = append(with, vtclient.WithPolling(hooked{s, backoffFunc(func(a vtclient.Attempt) (time.Duration, bool) {
			if a.Number < 20 {
				return 0, true
			}
			return time.Second, true
		})}))
	default:
		a := vtclient.NewAdaptive(time.Duration(1+r.IntN(3)) * time.Second)
		setSeed(a, seed)
		with = append(with, vtclient.WithPolling(student{hooked{s, a}, a}))
	}
	switch r.IntN(3) {
	case 0:
		with = append(with, vtclient.WithCache(nil))
	case 1:
		s.lag = 250 * time.Millisecond
		with = append(with, vtclient.WithCache(&lame{s: s, Cache: vtclient.NewMemoryCache[vtclient.Status](8)}))
	default:
		s.ttl = time.Duration(r.IntN(3000)) * time.Millisecond
		with = append(with, vtclient.WithCacheTTL(s.ttl, time.Duration(r.IntN(60))*time.Second))
	}
	switch r.IntN(5) {
	case 0:
		with = append(with, vtclient.WithBreaker(nil))
	case 1:
		with = append(with, vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{OnStateChange: s.changed})))
	default:
		with = append(with, vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{
			ConsecutiveFailures: 2, OpenPeriod: time.Second, MaxOpenPeriod: 4 * time.Second, HalfOpenProbes: 1 + r.IntN(2),
			MinCalls: 5, Window: 5 * time.Second, Count429: chance(.5), OnStateChange: s.changed,
		})))
	}
	if chance(.2) {
		with = append(with, vtclient.WithLimiter(tollgate{s}))
	}
	if chance(.3) {
		s.tolerance = time.Duration(2+r.IntN(8)) * time.Second
		with = append(with, vtclient.WithOutageTolerance(s.tolerance))
	}
	if chance(.3) {
		with = append(with, vtclient.WithMaxRetryAfter(2*time.Second))
	}
	if s.slowState {
		s.lag = time.Minute
	}
	var err error
	if s.c, err = vtclient.New(s.sim.URL(), with...); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *storm) fail(format string, args ...any) {
	s.t.Errorf("at %v: %s", time.Since(s.start), fmt.Sprintf(format, args...))
}

// lucky is chance for code that several goroutines run.
func (s *storm) lucky(p float64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.luck.Float64() < p
}

func (s *storm) dice(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.luck.IntN(n)
}

// mishap is what the caller's code does now and then.
func (s *storm) mishap(where string) {
	switch {
	case !s.panics || !s.lucky(.01):
	case s.lucky(.2):
		s.met.add("goexit")
		runtime.Goexit()
	default:
		s.met.add("panic")
		panic(boom + " in " + where)
	}
}

// guard runs what may meet a mishap.
func (s *storm) guard(f func()) {
	returned := false
	defer func() {
		r := recover()
		if !returned && !(s.panics && (r == nil || strings.Contains(fmt.Sprint(r), boom))) {
			s.fail("panic: %v", r)
		}
	}()
	f()
	returned = true
}

func (s *storm) run() {
	all, cancel := context.WithCancel(s.t.Context())
	s.all = all
	time.AfterFunc(time.Until(s.end), cancel)
	var wg sync.WaitGroup
	world := rand.New(rand.NewPCG(s.rnd.Uint64(), 2))
	wg.Go(func() {
		r := world
		for time.Now().Before(s.end) {
			s.weather(r)
			time.Sleep(time.Duration(r.Int64N(15e9)))
		}
	})
	for g := range 10 + s.rnd.IntN(20) {
		r := rand.New(rand.NewPCG(s.rnd.Uint64(), uint64(g)))
		wg.Go(func() {
			for range 1 + r.IntN(6) {
				time.Sleep(time.Duration(r.IntN(8000)) * time.Millisecond)
				over := make(chan bool)
				go func() { // a goroutine of its own, for it may be ended
					defer close(over)
					s.guard(func() { s.act(r, r.IntN(7), s.ids[r.IntN(len(s.ids))]) })
				}()
				<-over
			}
		})
	}
	wg.Wait()
	s.beside.Wait()
	// Goroutines that had little done by the end still pause up to six times.
	if late := time.Since(s.end); late > 2*time.Minute {
		s.fail("it went on for %v", late)
	}
	time.Sleep(10 * time.Second) // abandoned sequences get false from yield when they go on
	s.sim.Close()
	synctest.Wait()
	if err := leftovers(s.c); err != nil && !(s.panics && strings.Contains(err.Error(), "[0 0 0 0 false 0")) {
		s.fail("the client still holds something: %v", err)
	}
	if left := bubbled(); len(left) > 3 { // this one and synctest's two
		s.fail("%d goroutines left\n%s", len(left)-3, strings.Join(left, "\n\n"))
	}
	if a, b := s.sent.Load(), s.answered.Load(); a != b && !s.panics {
		s.fail("traced %d requests and %d answers", a, b)
	}
	// A request whose caller leaves may have been sent or not.
	if got, want := int64(s.sim.TotalRequests()), s.wire.Load(); max(got-want, want-got) > s.loose.Load() && !s.panics {
		s.fail("traced %d requests, the server has seen %d; %d were cut off", want, got, s.loose.Load())
	}
	if n, ends := s.joined.Load(), s.ends.Load(); ends > n || s.lessons.Load() > 2*n {
		s.fail("reported %d ends and %d lessons of %d waits", ends, s.lessons.Load(), n)
	}
}

// bubbled returns the stacks of the goroutines in the bubble that it is called in.
func bubbled() (left []string) {
	buf := make([]byte, 1<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	head, _, _ := strings.Cut(all[0], "\n")
	_, bubble, ok := strings.Cut(head, "synctest bubble ")
	for _, s := range all {
		if head, _, _ := strings.Cut(s, "\n"); ok && strings.HasSuffix(head, "synctest bubble "+bubble) {
			left = append(left, s)
		}
	}
	return left
}

// weather changes what the backend does.
func (s *storm) weather(r *rand.Rand) {
	for _, id := range s.ids {
		if j, _ := s.sim.Job(id); j.Duration == simserver.Never && r.IntN(8) == 0 { // a webhook
			if r.IntN(2) == 0 {
				s.sim.Fail(id, "by hand")
			} else {
				s.sim.Complete(id)
			}
			s.c.Hint(id)
		}
	}
	if !s.faulty {
		s.sim.SetFaults(simserver.Faults{Latency: time.Duration(r.Int64N(1e8))})
		return
	}
	switch r.IntN(5) {
	case 0:
		s.sim.SetFaults(simserver.Faults{})
	case 1:
		s.sim.Outage(time.Duration(r.Int64N(20e9)))
	case 2:
		s.sim.Blackout(time.Duration(r.Int64N(20e9)))
	default:
		p := func(most float64) float64 { return most * r.Float64() * r.Float64() }
		s.sim.SetFaults(simserver.Faults{
			Status: map[int]float64{500: p(.2), 503: p(.1), 429: p(.2)}, RetryAfter: time.Duration(r.IntN(4)) * time.Second,
			Drop: p(.1), Reset: p(.1), Cut: p(.1), Silence: p(.1), Drip: p(.1), Garbage: p(.1), DripEvery: 20 * time.Millisecond,
			Latency: time.Duration(r.Int64N(1e8)), Jitter: time.Duration(r.Int64N(3e8)),
		})
	}
}

// act does one of the things that a caller can do.
func (s *storm) act(r *rand.Rand, what int, id string) {
	switch what {
	case 0, 1:
		s.wait(r, s.newCall(r), id, true)
	case 2:
		s.watch(r, id)
	case 3, 4:
		s.waitAll(r)
	case 5:
		for range 1 + r.IntN(4) {
			if r.IntN(2) == 0 {
				s.beside.Go(func() { s.guard(func() { s.status(s.newCall(rand.New(rand.NewPCG(uint64(s.dice(1<<30)), 3))), id) }) })
			}
			s.status(s.newCall(r), id)
		}
	case 6:
		for range 50 {
			s.c.Hint(s.ids[r.IntN(len(s.ids))])
			s.c.Hint("no such job")
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		}
	}
}

// A call is one call of the client and the context that it is given.
type call struct {
	s         *storm
	ctx       context.Context
	cancel    context.CancelFunc
	began     time.Time
	deadline  time.Time // far away: none
	cancelled time.Time
	poll      bool

	busy  atomic.Bool   // in a callback or loop body
	spent time.Duration // there, since the context is done
}

func (s *storm) newCall(r *rand.Rand) *call {
	now := time.Now()
	far := s.end.Add(24 * time.Hour)
	k := &call{s: s, began: now, deadline: far, cancelled: s.end}
	span := time.Duration(r.IntN(40_000)) * time.Millisecond
	ctx := context.WithValue(s.all, callKey{}, k)
	switch r.IntN(8) {
	case 0:
		k.ctx, k.cancel = context.WithCancel(ctx)
		k.cancel()
		k.cancelled = now
	case 1:
		k.deadline = now.Add(-span)
		k.ctx, k.cancel = context.WithDeadline(ctx, k.deadline)
	case 2, 3:
		k.deadline = now.Add(span)
		k.ctx, k.cancel = context.WithDeadline(ctx, k.deadline)
	case 4, 5:
		k.plan(ctx, now, span)
	case 6:
		k.deadline = now.Add(time.Duration(r.IntN(40_000)) * time.Millisecond)
		ctx, cancel := context.WithDeadline(ctx, k.deadline)
		k.plan(ctx, now, span)
		planned := k.cancel
		k.cancel = func() { planned(); cancel() }
	default:
		k.ctx, k.cancel = context.WithCancel(ctx)
	}
	return k
}

// plan makes a context that is cancelled after span.
func (k *call) plan(ctx context.Context, now time.Time, span time.Duration) {
	ctx, cancel := context.WithCancelCause(ctx)
	if t := now.Add(span); t.Before(k.cancelled) {
		k.cancelled = t
	}
	timer := time.AfterFunc(span, func() { cancel(errors.New("changed my mind")) })
	k.ctx, k.cancel = ctx, func() { timer.Stop(); cancel(nil) }
}

// done is when the context is over.
func (k *call) done() time.Time {
	if k.deadline.Before(k.cancelled) {
		return k.deadline
	}
	return k.cancelled
}

// begin and end mark the time for which a job may be polled for a call.
func (s *storm) begin(id string, until time.Time) *waiting {
	s.joined.Add(1)
	w := &waiting{until: until}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits[id] = append(s.waits[id], w)
	return w
}

func (s *storm) leave(w *waiting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.left.IsZero() {
		w.left = time.Now()
	}
}

// inside is for callbacks and loop bodies: they come one at a time, and the time
// that they take after the end of the context is not the client's.
func (k *call) inside(f func()) {
	if k.busy.Swap(true) {
		k.s.fail("two callbacks at once")
	}
	began := time.Now()
	defer func() {
		if d := k.done(); began.Before(d) {
			began = d
		}
		if d := time.Since(began); d > 0 {
			k.spent += d
		}
		k.busy.Store(false)
	}()
	f()
}

// callback does what callbacks do.
func (s *storm) callback(r *rand.Rand, id string) {
	s.mishap("a callback")
	k := func() *call {
		short := s.newCall(r)
		ctx, cancel := context.WithTimeout(short.ctx, 500*time.Millisecond)
		if t := time.Now().Add(500 * time.Millisecond); t.Before(short.deadline) {
			short.deadline = t
		}
		old := short.cancel
		short.ctx, short.cancel = ctx, func() { cancel(); old() }
		return short
	}
	switch r.IntN(12) {
	case 0:
		time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
	case 1, 2:
		s.c.Hint(id)
	case 3:
		s.status(k(), id)
	case 4:
		s.status(k(), s.ids[r.IntN(len(s.ids))])
	case 5:
		s.wait(r, k(), s.ids[r.IntN(len(s.ids))], false)
	}
}

// options are a call's callbacks, and what they find.
func (s *storm) options(r *rand.Rand, k *call, id string) (opts []vtclient.WaitOption) {
	if r.IntN(2) == 0 {
		var last time.Time
		opts = append(opts, vtclient.OnProgress(func(st vtclient.Status) {
			k.inside(func() {
				if id != "" && st.JobID != id {
					s.fail("job %q: got an observation of %q", id, st.JobID)
				}
				if id != "" && st.CheckedAt.Before(last) {
					s.fail("job %q: got %v after %v", id, st.CheckedAt, last)
				}
				last = st.CheckedAt
				s.checkStatus(st.JobID, st)
				s.callback(r, st.JobID)
			})
		}))
	}
	if r.IntN(2) == 0 {
		opts = append(opts, vtclient.OnError(func(err error) {
			k.inside(func() {
				var h *vtclient.HTTPError
				var tr *vtclient.TransportError
				var d *vtclient.DecodeError
				if _, ok := err.(*vtclient.HTTPError); !ok && !errors.As(err, &tr) && !errors.As(err, &d) || errors.As(err, &h) && h.StatusCode < 429 && h.JobID != "nobody's" {
					s.fail("reported: %v", err)
				}
				s.callback(r, s.ids[0])
			})
		}))
	}
	if r.IntN(3) == 0 {
		opts = append(opts, vtclient.StartedAt(time.Now().Add(-time.Duration(r.IntN(20))*time.Second)))
	}
	if r.IntN(3) == 0 {
		opts = append(opts, vtclient.Expect(time.Duration(r.IntN(60))*time.Second))
	}
	return opts
}

func (s *storm) wait(r *rand.Rand, k *call, id string, callbacks bool) {
	defer k.cancel()
	k.poll = true
	w := s.begin(id, k.done())
	defer s.leave(w)
	var opts []vtclient.WaitOption
	if callbacks {
		opts = s.options(r, k, id)
	}
	st, err := s.c.Wait(k.ctx, id, opts...)
	s.checkEnd(k, id, k.deadline, st, err)
	s.checkTime(k, "Wait", 0)
}

func (s *storm) watch(r *rand.Rand, id string) {
	k := s.newCall(r)
	defer k.cancel()
	k.poll = true
	w := s.begin(id, k.done())
	defer s.leave(w)
	over, left := false, 1+r.IntN(12)
	for st, err := range s.c.Watch(k.ctx, id, s.options(r, k, id)...) {
		if over {
			s.fail("Watch goes on after its end: %v, %v", st, err)
		}
		if over = err != nil || st.State.Terminal(); over {
			s.checkEnd(k, id, k.deadline, st, err)
		} else {
			s.checkStatus(id, st)
		}
		k.inside(func() { s.callback(r, id) })
		if left--; left == 0 {
			s.met.add("left a loop")
			over = true
			break
		}
	}
	if !over {
		s.fail("Watch ended without an end")
	}
	s.checkTime(k, "Watch", 0)
}

func (s *storm) waitAll(r *rand.Rand) {
	k := s.newCall(r)
	defer k.cancel()
	k.poll = true
	type given struct {
		vtclient.Job
		w    *waiting
		at   time.Time // when the sequence was asked for the next one; zero: it was not
		done bool
	}
	var mu sync.Mutex
	var gave []*given
	jobs, times := make([]vtclient.Job, 1+r.IntN(16)), map[string]int{}
	for i := range jobs {
		j := &jobs[i]
		j.ID = s.ids[r.IntN(len(s.ids))]
		if i > 0 && r.IntN(4) == 0 {
			j.ID = jobs[i-1].ID
		}
		switch r.IntN(12) {
		case 0:
			j.ID = ".."
		case 1:
			j.Expect = -1
		case 2, 3:
			j.StartedAt = time.Now().Add(-time.Duration(r.IntN(30_000)) * time.Millisecond)
		case 4:
			j.Deadline = time.Now().Add(time.Duration(r.IntN(30_000)-2000) * time.Millisecond)
		case 5:
			j.Expect = time.Duration(r.IntN(40)) * time.Second
		}
		times[j.ID]++
	}
	pause, feed := r.IntN(3), rand.New(rand.NewPCG(r.Uint64(), 4))
	sequence := iter.Seq[vtclient.Job](func(yield func(vtclient.Job) bool) {
		for _, j := range jobs {
			if pause > 0 {
				time.Sleep(time.Duration(feed.Int64N([]int64{1, 60e6, 3e9}[pause])))
			}
			s.mishap("a sequence")
			until := k.done()
			if !j.Deadline.IsZero() && j.Deadline.Before(until) && times[j.ID] == 1 {
				until = j.Deadline
			}
			g := &given{Job: j, w: s.begin(j.ID, until)}
			mu.Lock()
			gave = append(gave, g)
			mu.Unlock()
			if !yield(j) {
				return
			}
			mu.Lock()
			g.at = time.Now()
			mu.Unlock()
		}
	})
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		for _, g := range gave {
			s.leave(g.w)
		}
	}()
	left, broke := 1+r.IntN(30), false
	opts := s.options(r, k, "")
	for st, err := range s.c.WaitAll(k.ctx, sequence, opts...) {
		// Of several with its id, a Deadline has ended that with the earliest one;
		// any other end, those that have none first.
		var of *given
		bad := errors.As(err, new(*vtclient.ArgumentError))
		mu.Lock()
		for _, g := range gave {
			wrong := g.ID == ".." || g.Expect < 0
			if g.ID != st.JobID || g.done || wrong != bad {
				continue
			}
			sooner := of != nil && !g.Deadline.IsZero() && (of.Deadline.IsZero() || g.Deadline.Before(of.Deadline))
			if of == nil || errors.Is(err, context.DeadlineExceeded) == sooner {
				of = g
			}
		}
		if of != nil {
			of.done = true
		}
		// Which one it was is not sure: the cache may have ended one alone.
		same := func(g *given) bool { return g.ID == st.JobID }
		if !slices.ContainsFunc(gave, func(g *given) bool { return same(g) && !g.done }) {
			for _, g := range gave {
				if same(g) {
					s.leave(g.w)
				}
			}
		}
		mu.Unlock()
		if of == nil {
			s.fail("WaitAll: once too often: %v, %v", st, err)
			continue
		}
		deadline := k.deadline
		if !of.Deadline.IsZero() && of.Deadline.Before(deadline) {
			deadline = of.Deadline
		}
		s.checkEnd(k, st.JobID, deadline, st, err)
		k.inside(func() { s.callback(r, st.JobID) })
		if left--; left == 0 {
			s.met.add("left a loop")
			broke = true
			break
		}
	}
	if broke {
		return
	}
	ret := time.Now()
	s.checkTime(k, "WaitAll", 100*time.Millisecond+time.Duration(len(jobs))*60*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	if len(gave) < len(jobs) && ret.Before(k.done()) {
		s.fail("WaitAll returned after %d of %d jobs", len(gave), len(jobs))
	}
	for _, g := range gave {
		if !g.done && (ret.Before(k.done()) || !g.at.IsZero() && g.at.Before(ret)) {
			s.fail("WaitAll: nothing came of %q", g.ID)
		}
	}
}

func (s *storm) status(k *call, id string) {
	defer k.cancel()
	began := time.Now()
	st, err := s.c.Status(k.ctx, id)
	s.checkTime(k, "Status", s.spentOnChanges(k.done()))
	var w *vtclient.WaitError
	var refused *vtclient.RefusedError
	var h *vtclient.HTTPError
	var tr *vtclient.TransportError
	var d *vtclient.DecodeError
	switch {
	case st.JobID != id:
		s.fail("Status of %q is that of %q", id, st.JobID)
	case err == nil:
		s.checkStatus(id, st)
		switch {
		case !st.Cached && began.Sub(st.CheckedAt) > s.lag:
			s.fail("Status of %q is older than the call: %v", id, st.CheckedAt)
		case st.Cached:
			s.met.add("cached")
			if age := began.Sub(st.CheckedAt); s.ttl > 0 && st.State == vtclient.StatePending && age >= s.ttl+s.lag {
				s.fail("Status of %q from the cache is %v old", id, age)
			}
		}
	case errors.As(err, &w):
		s.checkCause(k, id, k.deadline, w, true)
	case errors.As(err, &refused) && errors.Is(err, vtclient.ErrBreakerOpen):
		s.met.add("refused")
	case errors.As(err, &h) && h.StatusCode == 404 && id == "nobody's":
		s.met.add("not found")
	case s.faulty && (errors.As(err, &h) && h.StatusCode >= 429 || errors.As(err, &tr) || errors.As(err, &d)):
		s.met.add("fault")
	case id == ".." && errors.As(err, new(*vtclient.ArgumentError)):
	case s.panics && strings.Contains(err.Error(), boom):
	default:
		s.fail("Status of %q: %v", id, err)
	}
}

// checkStatus compares an answer with the truth.
func (s *storm) checkStatus(id string, st vtclient.Status) {
	j, ok := s.sim.Job(id)
	over := j.Started.Add(j.Duration)
	if j.Duration == simserver.Never {
		over = time.Unix(math.MaxInt32*100, 0)
	}
	wrong := !ok || st.JobID != id
	switch st.State {
	case vtclient.StatePending:
		wrong = wrong || st.CheckedAt.After(over.Add(s.timeout))
	case vtclient.StateCompleted:
		wrong = wrong || j.Fail || st.CheckedAt.Before(over) || len(st.Body) == 0
	case vtclient.StateFailed:
		wrong = wrong || !j.Fail || st.CheckedAt.Before(over) || st.Message != j.Message
	default:
		wrong = true
	}
	if wrong || st.CheckedAt.After(time.Now()) {
		s.fail("job %q: %+v, but it is %+v and over at %v", id, st, j, over.Sub(s.start))
	}
}

// checkEnd checks the end of a wait.
func (s *storm) checkEnd(k *call, id string, deadline time.Time, st vtclient.Status, err error) {
	var w *vtclient.WaitError
	var h *vtclient.HTTPError
	var job *vtclient.JobError
	var arg *vtclient.ArgumentError
	switch {
	case st.JobID != id:
		s.fail("the wait for %q ends with %q", id, st.JobID)
	case err == nil && st.State == vtclient.StateCompleted:
		s.met.add("completed")
		s.checkStatus(id, st)
	case errors.As(err, &job) && errors.Is(err, vtclient.ErrJobFailed) && st.State == vtclient.StateFailed:
		s.met.add("failed")
		s.checkStatus(id, st)
	case errors.As(err, &w):
		if st.State != "" {
			s.checkStatus(id, st)
		}
		s.checkCause(k, id, deadline, w, false)
	case errors.As(err, &h) && h.StatusCode == 404 && id == "nobody's":
		s.met.add("not found")
	case errors.As(err, &arg):
		s.met.add("argument") // the caller has checked for which
	case s.panics && err != nil && strings.Contains(err.Error(), "ended from within"):
	default:
		s.fail("the wait for %q ends with %+v, %v", id, st, err)
	}
}

// checkCause checks that the error of a call that ended too soon has a cause.
func (s *storm) checkCause(k *call, id string, deadline time.Time, w *vtclient.WaitError, early bool) {
	now := time.Now()
	var h *vtclient.HTTPError
	switch {
	case w.JobID != id:
		s.fail("the error of %q names %q", id, w.JobID)
	case errors.Is(w, context.DeadlineExceeded):
		s.met.add("deadline")
		// Status does not wait for a try that would come too late.
		if now.Before(deadline) && !(early && deadline.Before(s.end.Add(time.Hour))) {
			s.fail("%q: %v, but the deadline is at %v", id, w, deadline.Sub(s.start))
		}
	case errors.Is(w, context.Canceled):
		s.met.add("canceled")
		if k.ctx.Err() == nil || now.Before(k.cancelled) {
			s.fail("%q: %v, but it is cancelled at %v", id, w, k.cancelled.Sub(s.start))
		}
	case errors.Is(w, vtclient.ErrOutage):
		s.met.add("outage")
		tolerance := s.tolerance
		if strings.Contains(w.Error(), "no readable answer has ever come") {
			tolerance = min(tolerance, 30*time.Second)
		}
		if early || !s.faulty || now.Sub(s.start) < tolerance {
			s.fail("%q: %v", id, w)
		}
	case errors.Is(w, vtclient.ErrRetryAfter):
		s.met.add("retry-after")
		var d *vtclient.DecodeError
		if !s.faulty || !(errors.As(w, &h) && h.RetryAfter > 2*time.Second || errors.As(w, &d) && d.RetryAfter > 2*time.Second) {
			s.fail("%q: %v", id, w)
		}
	default:
		s.fail("%q: %v", id, w)
	}
}

// checkTime checks that a call has not lasted beyond its context.
func (s *storm) checkTime(k *call, what string, slack time.Duration) {
	over := k.done()
	if over.Before(k.began) {
		over = k.began
	}
	if late := time.Since(over); late > k.spent+slack {
		s.fail("%s returned %v after the end of its context, of which %v were its callbacks'", what, late, k.spent)
	}
}

// RoundTrip is the network, and sees to what may not be sent.
func (s *storm) RoundTrip(r *http.Request) (*http.Response, error) {
	id, err := url.PathUnescape(strings.TrimPrefix(strings.TrimPrefix(r.URL.EscapedPath(), "/status"), "/"))
	if err != nil {
		s.fail("%v", err)
	}
	ctx, now := r.Context(), time.Now()
	k := ctx.Value(callKey{}).(*call)
	s.mu.Lock()
	if s.open++; s.open > s.inFlight {
		s.fail("%d requests in flight", s.open)
	}
	for _, h := range s.holds {
		if h[0].Before(now) && now.Before(h[1]) && !s.slowState {
			s.fail("a request %v before the end of a 429's pause", h[1].Sub(now))
		}
	}
	if k.poll {
		for _, other := range s.polling[id] {
			if other.Err() == nil {
				s.fail("two polls of %q at once", id)
			}
		}
		s.polling[id] = append(s.polling[id], ctx)
		if !slices.ContainsFunc(s.waits[id], func(w *waiting) bool {
			return !w.until.Before(now) && (w.left.IsZero() || !w.left.Before(now))
		}) {
			s.fail("a poll of %q, which has no wait", id)
		}
	} else if k.done().Before(now) {
		s.fail("a request for %q, %v after the end of its context", id, now.Sub(k.done()))
	}
	s.mu.Unlock()
	s.look(id)

	resp, err := s.sim.HTTPClient().Transport.RoundTrip(r)
	over := sync.OnceFunc(func() {
		s.look(id)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
		if i := slices.Index(s.polling[id], ctx); i >= 0 && k.poll {
			s.polling[id] = slices.Delete(s.polling[id], i, i+1)
		}
		if resp != nil && resp.StatusCode == 429 {
			if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
				now := time.Now()
				s.holds = append(s.holds, [2]time.Time{now, now.Add(time.Duration(n) * time.Second)})
				s.met.add("hold")
			}
		}
	})
	if err != nil {
		over()
		return nil, err
	}
	resp.Body = &openBody{resp.Body, over}
	return resp, nil
}

type openBody struct {
	io.ReadCloser
	over func()
}

func (b *openBody) Close() error {
	defer b.over()
	return b.ReadCloser.Close()
}

// look checks the times of a job's polls.
func (s *storm) look(id string) {
	p, started := pollOf(s.c, id)
	if p == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.seen[id]
	if last.poll == p {
		if d := started - last.started; d > 0 && d < 10*time.Millisecond {
			s.fail("polls of %q within %v", id, d)
		}
		started = max(started, last.started)
	}
	s.seen[id] = glance{p, started}
}

func (s *storm) trace() vtclient.Trace {
	return vtclient.Trace{
		Sent: func(context.Context, vtclient.TraceInfo) { s.sent.Add(1); s.mishap("Sent") },
		Answered: func(ctx context.Context, i vtclient.TraceInfo) {
			s.answered.Add(1)
			s.wire.Add(int64(i.Wire))
			if i.StatusCode == 0 {
				s.loose.Add(1)
			}
			s.mishap("Answered")
		},
		Refused:   func(context.Context, vtclient.TraceInfo) { s.mishap("Refused") },
		Scheduled: func(context.Context, vtclient.TraceInfo) { s.mishap("Scheduled") },
		Cached:    func(context.Context, vtclient.TraceInfo) { s.mishap("Cached") },
	}
}

// changed is the breaker's OnStateChange.
func (s *storm) changed(_, to string) {
	s.met.add("breaker " + to)
	began := time.Now()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changing = append(s.changing, [2]time.Time{began, time.Now()})
	}()
	s.mishap("OnStateChange")
	for _, id := range s.ids {
		s.c.Hint(id)
	}
	if !s.slowState {
		return
	}
	// A job of no other caller: the request that changes the state may be the only one of its
	// caller.
	k := s.newCall(rand.New(rand.NewPCG(uint64(s.dice(1<<30)), 5)))
	old := k.cancel
	k.ctx, k.cancel = context.WithTimeout(k.ctx, 300*time.Millisecond)
	defer old()
	if t := time.Now().Add(300 * time.Millisecond); t.Before(k.deadline) {
		k.deadline = t
	}
	if s.dice(2) == 0 {
		s.c.Status(k.ctx, "breaker's")
	} else {
		k.poll = true
		w := s.begin("breaker's", k.done())
		defer s.leave(w)
		s.c.Wait(k.ctx, "breaker's")
	}
	k.cancel()
}

// spentOnChanges is how long OnStateChange ran after t.
func (s *storm) spentOnChanges(t time.Time) (sum time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.changing {
		if c[0].Before(t) {
			c[0] = t
		}
		sum += max(0, c[1].Sub(c[0]))
	}
	return sum
}

// hooked is a Backoff that meets mishaps.
type hooked struct {
	s *storm
	vtclient.Backoff
}

func (h hooked) Next(a vtclient.Attempt) (time.Duration, bool) {
	h.s.mishap("Next")
	return h.Backoff.Next(a)
}

// student is one that learns.
type student struct {
	hooked
	vtclient.Learner
}

func (l student) Next(a vtclient.Attempt) (time.Duration, bool) { return l.hooked.Next(a) }

func (l student) Learn(c vtclient.Completion) {
	s := l.s
	s.met.add("learnt")
	s.lessons.Add(1)
	if c.DoneBy > 0 {
		s.ends.Add(1)
	}
	if c.PendingAt < 0 || c.DoneBy < 0 || c.DoneBy > 0 && c.DoneBy < c.PendingAt {
		s.fail("reported %+v", c)
	}
	s.mishap("Learn")
	l.Learner.Learn(c)
}

// lame is a cache that fails or hangs now and then.
type lame struct {
	s *storm
	vtclient.Cache[vtclient.Status]
}

func (l *lame) trouble(ctx context.Context) error {
	switch {
	case l.s.lucky(.05):
		return errors.New("the cache is lame")
	case l.s.lucky(.02):
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (l *lame) Get(ctx context.Context, key string) (vtclient.Status, bool, error) {
	if err := l.trouble(ctx); err != nil {
		return vtclient.Status{}, false, err
	}
	return l.Cache.Get(ctx, key)
}

func (l *lame) Set(ctx context.Context, key string, st vtclient.Status, ttl time.Duration) error {
	if err := l.trouble(ctx); err != nil {
		return err
	}
	return l.Cache.Set(ctx, key, st, ttl)
}

// tollgate is a limiter.
type tollgate struct{ s *storm }

func (l tollgate) Wait(ctx context.Context) error {
	select {
	case <-time.After(time.Duration(l.s.dice(1e8))):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
