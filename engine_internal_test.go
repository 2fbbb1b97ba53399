package vtclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/internal/race"
)

// The engine starts with the first poll and is gone with the last: no
// goroutine between polls, and at the end neither polls nor timer.
func TestEngineStartsAndEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New("http://stub.invalid", WithPolling(Constant(10*time.Second)),
			WithHTTPClient(&http.Client{Transport: stubAnswer{200, `{"result":"pending"}`}}))
		if err != nil {
			t.Fatal(err)
		}
		e := &c.engine
		gone := func(after string) {
			t.Helper()
			synctest.Wait()
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.polls.n != 0 || len(e.agenda.heap) != 0 || e.agenda.due() || e.timer != nil || e.underWay != 0 || len(c.gate) != 0 || len(e.completions.order) != 0 {
				t.Errorf("after %s: %d polls, %d in the heap, due %v, timer %v, %d under way, %d in flight",
					after, e.polls.n, len(e.agenda.heap), e.agenda.due(), e.timer != nil, e.underWay, len(c.gate))
			}
		}
		gone("New")
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		before := runtime.NumGoroutine()
		ended := make(chan bool)
		go func() {
			defer close(ended)
			for range c.WaitAll(ctx, func(yield func(Job) bool) {
				for i := range 1000 {
					yield(Job{ID: fmt.Sprint(i)})
				}
			}) {
			}
		}()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		e.mu.Lock()
		timer := e.timer
		if n := runtime.NumGoroutine() - before; n > 5 || e.underWay != 0 || e.polls.n != 1000 || e.timer == nil {
			t.Errorf("between polls: %d goroutines, %d under way, %d polls", n, e.underWay, e.polls.n)
		}
		e.mu.Unlock()
		<-ended
		gone("WaitAll")
		if timer.Stop() {
			t.Error("the timer goes on")
		}
		for range c.Watch(t.Context(), "a") {
			break
		}
		gone("Watch")
		func() {
			defer func() { recover() }()
			c.Wait(t.Context(), "a", OnProgress(func(Status) { panic("oops") }))
		}()
		gone("a panic in a callback")
	})
}

// waitsFor returns a caller that waits for some jobs, of which none is due.
func waitsFor(t *testing.T, c *Client, in *inbox, ids ...string) caller {
	w := caller{&c.engine, in}
	for _, id := range ids {
		if !w.join(id, &Job{}, later(c.now(), time.Hour), 0) {
			t.Errorf("%s: the inbox is closed", id)
		}
	}
	return w
}

func numbers(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint(i))
	}
	return ids
}

// However much is due at one moment, one goroutine is started for it at a time, and all of it
// is looked at.
func TestManyPollsAreDueAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New("http://stub.invalid", WithPolling(Constant(24*time.Hour)), WithHTTPClient(&http.Client{Transport: stubAnswer{200, `{"result":"pending"}`}}))
		if err != nil {
			t.Fatal(err)
		}
		w := waitsFor(t, c, newBatchInbox(t.Context(), never, false, false), numbers(100)...)
		c.engine.mu.Lock()
		before := runtime.NumGoroutine()
		for en := range c.engine.polls.all {
			en.next = c.now()
			c.engine.attend(en, c.now())
			c.engine.dispatch(c.now())
		}
		if n := runtime.NumGoroutine() - before; n != 1 {
			t.Errorf("%d goroutines are started", n)
		}
		c.engine.mu.Unlock()
		w.leave()

		deadline, ended := time.Now().Add(time.Hour), 0
		for _, err := range c.WaitAll(t.Context(), func(yield func(Job) bool) {
			for _, id := range numbers(2 * atOnce) {
				yield(Job{ID: id, Deadline: deadline})
			}
		}) {
			if ended++; !errors.Is(err, context.DeadlineExceeded) || !time.Now().Equal(deadline) {
				t.Fatalf("%v at %v", err, time.Now())
			}
		}
		if ended != 2*atOnce {
			t.Errorf("%d have ended", ended)
		}
	})
}

// A caller that leaves drops so many jobs while the lock is held, and no end of a job is lost
// to the traces meanwhile.
func TestWhatIsDroppedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, ended := map[string]int{}, map[string]int{}
		c, err := New("http://stub.invalid", WithTrace(Trace{
			WaitBegun: func(_ context.Context, i TraceInfo) { began[i.JobID]++ },
			WaitEnded: func(_ context.Context, i TraceInfo) {
				if ended[i.JobID]++; !errors.Is(i.Err, errLoopLeft) && i.State != StateCompleted {
					t.Errorf("%s: %v", i.JobID, i.Err)
				}
			},
		}), WithHTTPClient(&http.Client{Transport: stubAnswer{200, `{"result":"pending"}`}}))
		if err != nil {
			t.Fatal(err)
		}
		const n = 4 * dropsAtOnce
		w := waitsFor(t, c, newBatchInbox(t.Context(), never, false, false), numbers(n)...)
		w.in.close()
		if n := c.engine.polls.n; w.join("late", &Job{}, 0, 0) || w.post(&event{}) || c.engine.polls.n != n || len(w.in.events) != 0 {
			t.Error("a job has joined a caller that has left")
		}
		c.engine.jobEnded(&Status{JobID: "7", State: StateCompleted})
		c.engine.mu.Lock()
		more, left := w.dropSome()
		if !more || len(left) != dropsAtOnce+1 || w.in.waiting != n-1-dropsAtOnce {
			t.Errorf("more: %v, %d ends for the traces, %d left", more, len(left), w.in.waiting)
		}
		c.engine.mu.Unlock()
		w.leaveRest(left)
		if err := c.Leftovers(); err != nil || len(ended) != n {
			t.Errorf("%d waits have ended; %v", len(ended), err)
		}

		clear(ended)
		time.AfterFunc(time.Minute, func() { c.engine.jobEnded(&Status{JobID: "7", State: StateCompleted}) })
		for range c.WaitAll(t.Context(), Jobs(numbers(n)...)) {
			break
		}
		synctest.Wait()
		if !maps.Equal(began, ended) || len(began) != n {
			t.Errorf("%d waits have begun, %d have ended", len(began), len(ended))
		}
		for range c.Watch(t.Context(), "w") {
			break
		}
		if ended["w"] != 1 {
			t.Error("what is a matter of a moment is not done at once")
		}
	})
}

// An answer is awaited while the context of a subscriber is not done, its time is not up and
// it has not left.
func TestWhatAwaitsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done, cancel := context.WithCancel(t.Context())
		cancel()
		for _, tt := range []struct {
			callers string // in turn: of a job each, or of one
			want    bool
		}{
			{"", false}, {"w", true}, {"d", false}, {"l", false}, {"u", false}, {"dlu", false},
			{"dw", true}, {"ddw", true}, {"luw", true}, {"wdlu", true}, {"dludw", true},
		} {
			for _, ids := range [][]string{{"j", "j", "j", "j", "j"}, {"a", "b", "c", "d", "e"}} {
				c, err := New("http://stub.invalid")
				if err != nil {
					t.Fatal(err)
				}
				var entries []*entry
				for i, kind := range tt.callers {
					in := newInbox(t.Context(), never, false, false)
					if kind == 'd' {
						in.ctx = done
					}
					w := waitsFor(t, c, in, ids[i])
					defer w.leave()
					c.engine.mu.Lock()
					en := c.engine.polls.get(ids[i])
					if !slices.Contains(entries, en) {
						entries = append(entries, en)
					}
					switch kind {
					case 'l':
						in.closed = true
					case 'u':
						in.first.deadline = &deadline{at: c.now()}
						defer func(s *subscription) { s.deadline = nil }(in.first)
					}
					c.engine.mu.Unlock()
				}
				if got := (&trip{e: &c.engine}).awaited(entries...); got != tt.want {
					t.Errorf("%q, jobs %q: awaited: %v", tt.callers, ids, got)
				}
			}
		}
	})
}

// A caller that gives up takes a result that is there already, behind
// what else is there, and leaves the rest in its order.
func TestGivingUpTakesAResultThatIsThere(t *testing.T) {
	c, err := New("http://stub.invalid")
	if err != nil {
		t.Fatal(err)
	}
	e := &c.engine
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, tt := range []struct{ put, want string }{{"", ""}, {"p", ""}, {"e", "e"}, {"pe", "e"}, {"ppep", "e"}, {"epe", "ee"}, {"pepe", "ee"}} {
		in := newInbox(ctx, never, true, true)
		in.limit = 10
		for i, kind := range tt.put {
			ev := &event{status: Status{JobID: fmt.Sprint(string(kind), i), State: StatePending}}
			if kind == 'e' {
				ev.err = errNeutral
			}
			in.put(ev)
		}
		var got, left string
		for {
			ev := (caller{e, in}).abandon()
			if ev == nil {
				break
			}
			if !ev.ends() {
				t.Errorf("%s: took %q", tt.put, ev.status.JobID)
			}
			got += ev.status.JobID[:1]
		}
		if in.droppable != len(in.events) || (caller{e, in}).empty() != (len(in.events) == 0) {
			t.Errorf("%s: %d left, counted as %d, empty: %v", tt.put, len(in.events), in.droppable, (caller{e, in}).empty())
		}
		for {
			ev := (caller{e, in}).take()
			if ev == nil {
				break
			}
			left += ev.status.JobID
		}
		want := ""
		for i, kind := range tt.put {
			if kind == 'p' {
				want += fmt.Sprint("p", i)
			}
		}
		if got != tt.want || left != want || in.droppable != 0 || !(caller{e, in}).empty() {
			t.Errorf("%s: took %q and left %q, want %q and %q", tt.put, got, left, tt.want, want)
		}
	}
}

// A hintLearner records each completion, and each call of hintsCome.
type hintLearner struct {
	Constant
	received *[]string
}

func (l hintLearner) Learn(c Completion) { *l.received = append(*l.received, fmt.Sprint(c.Hinted)) }
func (l hintLearner) hintsCome()         { *l.received = append(*l.received, "hints") }

// Only a job that ended through a hint shows that hints come.
func TestWhichJobsSayThatHintsCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		var received []string
		c, err := New("", WithPolling(hintLearner{Constant(10 * time.Second), &received}), WithCache(nil), WithFetch(func(context.Context, string) (Status, error) {
			if n++; n%2 == 1 {
				return Status{State: StatePending}, nil
			}
			return Status{State: StateCompleted}, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		for _, hint := range []bool{false, true, false} {
			if hint {
				time.AfterFunc(5*time.Second, func() { c.Hint("j") })
			}
			if _, err := c.Wait(t.Context(), "j"); err != nil {
				t.Error(err)
			}
		}
		if want := []string{"false", "hints", "true", "false"}; !slices.Equal(received, want) {
			t.Errorf("%q, want %q", received, want)
		}
		if c.conns != nil {
			t.Error("a client that asks a function holds a transport")
		}
	})
}

// A joiningContext is done, and lets another caller join in the moment in which it is asked.
type joiningContext struct {
	context.Context
	join func()
}

func (c joiningContext) Err() error {
	c.join()
	return context.Canceled
}

// A caller that joins after the engine has found that all others are gone is not forgotten.
func TestJoiningAnExchangeThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New("", WithFetch(func(context.Context, string) (Status, error) { return Status{State: StateCompleted}, nil }))
		if err != nil {
			t.Fatal(err)
		}
		e := &c.engine
		done, cancel := context.WithCancel(t.Context())
		cancel()
		late := newInbox(t.Context(), never, false, false)
		joining := joiningContext{done, sync.OnceFunc(func() { (caller{e, late}).join("a", &Job{}, c.now(), 0) })}
		gone := []*inbox{newInbox(done, never, false, false), newInbox(joining, never, false, false)}
		var steps []step
		trips := [2]trip{{e: e}, {e: e}}
		for i, id := range []string{"a", "b"} {
			(caller{e, gone[i]}).join(id, &Job{}, later(c.now(), time.Hour), 0)
			e.mu.Lock()
			trips[i].start(e.polls.get(id), c.now())
			e.mu.Unlock()
			steps = append(steps, step{entry: trips[i].entry, out: outcome{verdict: left}})
		}
		trips[0].conclude(steps)
		if a, b := e.polls.get("a").next, e.polls.get("b").next; a == never || b != never {
			t.Errorf("the next exchanges are at %d and %d, want one for the first alone", a, b)
		}
		for i := range trips {
			(caller{e, gone[i]}).leave()
			trips[i].work()
		}
		time.Sleep(time.Second)
		if (caller{e, late}).take() == nil {
			t.Error("the caller that joined has no answer")
		}
		if err := c.Leftovers(); err != nil {
			t.Error(err)
		}
	})
}

// Whatever callers, backend and time do, and in whatever order: each poll is in exactly
// one place, and something will wake it.
func TestTheEngineLosesNoPoll(t *testing.T) {
	for seed := range uint64(100) {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newScramble(t, seed).run() })
		}) {
			return
		}
	}
}

// A scramble is one seed's callers and backend, and what is known of them beside the engine.
type scramble struct {
	t   *testing.T
	c   *Client
	ids []string
	wg  sync.WaitGroup

	mu       sync.Mutex
	rnd      *rand.Rand
	weather  int
	ended    map[string]State
	inFlight map[string][]context.Context
	callers  int // in the caller's code that an exchange or a decision waits for
	visits   []*visit
	contexts []context.Context // of exchanges for polls
	limited  time.Time         // of the last 429
	open     map[string]int    // by trace and job: those begun less those ended
	singles  map[*entry]bool   // polls that a Wait or Watch has joined
	pauses   bool              // the breaker has refused, or a 429 has come
}

// A visit is a call of the client.
type visit struct {
	ctx   context.Context
	leave context.CancelFunc
	busy  bool // with code of the caller's own
	over  bool
}

// What the backend does with most requests.
const (
	fair = iota
	faulty
	throttling // 429
	slow
	refusing // the breaker
	limiting // the limiter
	weathers
)

func newScramble(t *testing.T, seed uint64) *scramble {
	s := &scramble{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), ended: map[string]State{}, inFlight: map[string][]context.Context{}, open: map[string]int{}, singles: map[*entry]bool{}}
	for i := range 3 + s.rnd.IntN(20) {
		s.ids = append(s.ids, fmt.Sprint("j", i))
	}
	var polling Backoff = Constant(time.Duration(1+s.rnd.IntN(5000)) * time.Millisecond)
	switch s.rnd.IntN(4) {
	case 0:
		polling = s
	case 1:
		polling = student{s}
	}
	endpoint := Endpoint{Path: "/j/{id}", Decode: func(a Answer) (Status, error) {
		return Status{State: State(a.Body)}, nil
	}}
	if s.rnd.IntN(2) == 0 {
		endpoint.Bulk = Bulk{Path: "/j?ids={ids}", Limit: 5, Decode: func(a Answer) (jobs []Status, next string, err error) {
			for _, word := range strings.Fields(string(a.Body)) {
				id, state, _ := strings.Cut(word, "=")
				jobs = append(jobs, Status{JobID: id, State: State(state), Body: []byte(state)})
			}
			return jobs, "", nil
		}}
	}
	opts := []Option{WithHTTPClient(&http.Client{Transport: s}), WithEndpoint(endpoint), WithPolling(polling), WithBreaker(s), WithLimiter(s),
		WithRetry(patient{t}), WithMaxInFlight(1 + s.rnd.IntN(4)), WithOutageTolerance(time.Minute), WithMaxRetryAfter(20 * time.Second), WithTimeout(5 * time.Second)}
	switch s.rnd.IntN(3) {
	case 0:
		opts = append(opts, WithTrace(Trace{
			Sent: s.begins("request", 10), Answered: s.ends("request", 10), Scheduled: s.ends("", 10),
			WaitBegun: s.begins("wait", 0), WaitEnded: s.ends("wait", 0),
		}))
	case 1:
		opts = append(opts, WithCache(strict{NewMemoryCache[Status](1000), t}))
	}
	c, err := New("http://stub.invalid", opts...)
	if err != nil {
		t.Fatal(err)
	}
	s.c = c
	return s
}

// chance reports true once in n times.
func (s *scramble) chance(n int) bool { return s.number(n) == 0 }

func (s *scramble) number(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rnd.IntN(n)
}

// is reports whether a request meets that weather.
func (s *scramble) is(weather int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.weather == weather && s.rnd.IntN(5) > 0
}

// busy lets time pass in code of the caller's.
func (s *scramble) busy(ctx context.Context, d time.Duration) {
	s.mu.Lock()
	s.callers++
	s.mu.Unlock()
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.callers--
	s.mu.Unlock()
}

func (s *scramble) Next(a Attempt) (time.Duration, bool) {
	if s.chance(4) {
		s.busy(context.Background(), time.Duration(s.number(3000))*time.Millisecond)
	}
	return time.Duration(s.number(10_000)) * time.Millisecond, a.Number < 30
}

// A strict cache is a foreign one that is given what was answered about a job.
type strict struct {
	Cache[Status]
	t *testing.T
}

func (c strict) Set(ctx context.Context, id string, st Status, ttl time.Duration) error {
	if id != st.JobID || st.State != StatePending && !st.State.Terminal() {
		c.t.Errorf("to be kept for %q: %+v", id, st)
	}
	return c.Cache.Set(ctx, id, st, ttl)
}

// A patient strategy is asked for the delay after a fault.
type patient struct{ t *testing.T }

func (p patient) Next(a Attempt) (time.Duration, bool) {
	if a.Number < 1 {
		p.t.Errorf("after fault number %d", a.Number)
	}
	return time.Second, true
}

// A student is a scramble that learns, too.
type student struct{ *scramble }

func (s student) Learn(c Completion) {
	if c.PendingAt < 0 || c.DoneBy < 0 || c.DoneBy > 0 && c.DoneBy < c.PendingAt {
		s.t.Errorf("learnt: %+v", c)
	}
}

// begins and ends make callbacks for traces of a kind, of which each begins once and ends
// once. Once in slow times a callback takes its time.
func (s *scramble) begins(kind string, slow int) func(context.Context, TraceInfo) {
	return s.traced(kind, 1, slow)
}

func (s *scramble) ends(kind string, slow int) func(context.Context, TraceInfo) {
	return s.traced(kind, -1, slow)
}

func (s *scramble) traced(kind string, n, slow int) func(context.Context, TraceInfo) {
	return func(_ context.Context, i TraceInfo) {
		s.mu.Lock()
		if s.open[kind+i.JobID] += n; s.open[kind+i.JobID] < 0 && kind != "" {
			s.t.Errorf("a %s of %s ends that has not begun", kind, i.JobID)
		}
		s.mu.Unlock()
		if slow > 0 && s.chance(slow) {
			s.busy(context.Background(), time.Second)
		}
	}
}

func (s *scramble) Allow() (func(error), error) {
	if s.is(refusing) {
		s.mu.Lock()
		s.pauses = true
		s.mu.Unlock()
		return nil, errors.New("refused")
	}
	return func(error) {}, nil
}

// A looking is the key of what a Status's context holds.
type looking struct{}

func (s *scramble) Wait(ctx context.Context) error {
	s.mu.Lock()
	if ctx.Value(looking{}) == nil && !slices.Contains(s.contexts, ctx) {
		s.contexts = append(s.contexts, ctx)
	}
	if at, ok := ctx.Deadline(); ok && time.Until(at) > time.Hour {
		s.t.Errorf("the time of an exchange is up at %v", at)
	}
	s.mu.Unlock()
	if s.is(limiting) {
		s.busy(ctx, time.Second)
		if s.chance(3) {
			return errors.New("limited")
		}
	}
	return ctx.Err()
}

func (s *scramble) RoundTrip(r *http.Request) (*http.Response, error) {
	ids := strings.Split(r.URL.Query().Get("ids"), ",")
	shared := ids[0] != ""
	if len(ids) > 5 {
		s.t.Errorf("a request about %d jobs", len(ids))
	}
	if !shared {
		ids = []string{strings.TrimPrefix(r.URL.Path, "/j/")}
	}
	ctx := r.Context()
	s.mu.Lock()
	if s.c.held(nil) > 0 && s.limited.Before(time.Now()) {
		s.t.Error("a request during the pause that a 429 asks for")
	}
	for _, id := range ids {
		s.inFlight[id] = slices.DeleteFunc(s.inFlight[id], func(ctx context.Context) bool { return ctx.Err() != nil })
		s.inFlight[id] = append(s.inFlight[id], ctx)
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		for _, id := range ids {
			s.inFlight[id] = slices.DeleteFunc(s.inFlight[id], func(other context.Context) bool { return other == ctx })
		}
		s.mu.Unlock()
	}()
	s.check("a request", false)
	takes := time.Duration(s.number(200)) * time.Millisecond
	if s.is(slow) {
		takes = 6 * time.Second
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.check("an answer", false)
	code, header, body := 200, http.Header{}, ""
	switch {
	case s.is(faulty):
		code = 503
	case s.is(throttling):
		code = 429
		s.mu.Lock()
		s.limited, s.pauses = time.Now(), true
		s.mu.Unlock()
		header.Set("Retry-After", fmt.Sprint(1+s.number(25)))
	case shared && s.chance(10):
		code = 404
	default:
		if s.chance(10) {
			header.Set("Retry-After", "7")
		}
		for _, id := range ids {
			state := s.state(id)
			switch {
			case !shared:
				body = string(state)
			case !s.chance(10): // else it does not settle the job
				body += id + "=" + string(state) + " "
			}
		}
	}
	return &http.Response{StatusCode: code, Header: header, Request: r, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}, nil
}

func (s *scramble) state(id string) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st, over := s.ended[id]; over {
		return st
	}
	return StatePending
}

func (s *scramble) run() {
	for range 60 {
		id := s.ids[s.number(len(s.ids))]
		what := "time"
		switch s.number(12) {
		case 0, 1, 2:
			what = "a Wait"
			s.caller(func(v *visit) { s.wait(v, id) })
		case 3, 4:
			what = "a WaitAll"
			s.caller(s.waitAll)
		case 5:
			what = "leaving"
			if n := len(s.visits); n > 0 {
				s.visits[s.number(n)].leave()
			}
		case 6, 7:
			what = "a hint"
			s.hint(id)
		case 8:
			what = "a Status"
			s.caller(func(v *visit) { s.c.Status(context.WithValue(v.ctx, looking{}, true), id) })
		case 9:
			what = "an end"
			s.end(id)
		case 10:
			what = "weather"
			s.setWeather(s.number(weathers))
		}
		synctest.Wait()
		s.check(what, true)
		time.Sleep([]time.Duration{0, time.Millisecond, 100 * time.Millisecond, time.Second, 10 * time.Second}[s.number(5)])
		synctest.Wait()
		s.check("the time after "+what, true)
	}
	s.setWeather(fair)
	for _, id := range s.ids {
		s.end(id)
	}
	time.Sleep(time.Hour) // for the slowest callback
	synctest.Wait()
	s.check("the end", true)
	if err := s.c.Leftovers(); err != nil {
		s.t.Errorf("all jobs are over: %v", err)
	}
	for _, v := range s.visits {
		v.leave()
	}
	s.wg.Wait()
	synctest.Wait()
	for what, n := range s.open {
		if n != 0 && !strings.HasPrefix(what, "j") {
			s.t.Errorf("%d more of %s have begun than ended", n, what)
		}
	}
}

func (s *scramble) hint(id string) {
	s.c.Hint(id)
	e := &s.c.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if en := e.polls.get(id); en != nil && en.phase == queued && en.lane != laneUrgent {
		s.t.Errorf("%s is in lane %d after a hint", id, en.lane)
	}
}

func (s *scramble) end(id string) {
	state := StateCompleted
	if s.chance(3) {
		state = StateFailed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended[id] == "" {
		s.ended[id] = state
	}
}

func (s *scramble) setWeather(weather int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.weather = weather
}

// caller runs f with a context that may have a deadline.
func (s *scramble) caller(f func(*visit)) {
	v := new(visit)
	v.ctx, v.leave = context.WithCancel(context.Background())
	if s.chance(2) {
		v.ctx, v.leave = context.WithTimeout(context.Background(), time.Duration(1+s.number(60_000))*time.Millisecond)
	}
	s.visits = append(s.visits, v)
	s.wg.Go(func() {
		f(v)
		s.mu.Lock()
		v.over = true
		s.mu.Unlock()
	})
}

// sleep lets time pass in code of a caller's own.
func (s *scramble) sleep(v *visit, d time.Duration) {
	set := func(busy bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		v.busy = busy
	}
	set(true)
	time.Sleep(d)
	set(false)
}

func (s *scramble) options(v *visit) (opts []WaitOption) {
	if s.chance(3) {
		d := time.Duration(s.number(5000)) * time.Millisecond
		opts = append(opts, OnProgress(func(Status) { s.sleep(v, d) }))
	}
	if s.chance(3) {
		opts = append(opts, OnError(func(error) {}))
	}
	if s.chance(3) {
		opts = append(opts, Expect(time.Duration(1+s.number(10))*time.Second), OnOverdue(func(Status, Forecast) {}))
	}
	if s.chance(3) {
		opts = append(opts, StartedAt(time.Now().Add(-time.Minute)))
	}
	return opts
}

func (s *scramble) wait(v *visit, id string) {
	if s.chance(3) {
		left := s.number(20)
		for st, err := range s.c.Watch(v.ctx, id, s.options(v)...) {
			if st.State.Terminal() || err != nil {
				s.judge(id, st, err)
			}
			if left--; left == 0 {
				return
			}
		}
		return
	}
	st, err := s.c.Wait(v.ctx, id, s.options(v)...)
	s.judge(id, st, err)
}

func (s *scramble) waitAll(v *visit) {
	opts := s.options(v)
	if s.chance(3) {
		opts = append(opts, AtMost(1+s.number(5)))
	}
	given := map[string]int{}
	jobs := func(yield func(Job) bool) {
		for range 1 + s.number(30) {
			job := Job{ID: s.ids[s.number(len(s.ids))]}
			if s.chance(4) {
				job.Deadline = time.Now().Add(time.Duration(s.number(20_000)) * time.Millisecond)
			}
			s.mu.Lock()
			given[job.ID]++
			s.mu.Unlock()
			if !yield(job) {
				return
			}
		}
	}
	for st, err := range s.c.WaitAll(v.ctx, jobs, opts...) {
		s.judge(st.JobID, st, err)
		s.mu.Lock()
		given[st.JobID]--
		s.mu.Unlock()
		if s.chance(50) {
			return
		}
		s.sleep(v, time.Duration(s.number(2)*s.number(3000))*time.Millisecond)
	}
	for id, n := range given {
		if n != 0 && (v.ctx.Err() == nil || quick(s.c.polling)) { // a strategy holds the reading up
			s.t.Errorf("%d results of %s are lacking", n, id)
		}
	}
}

// judge compares a result with the state of the job at the backend.
func (s *scramble) judge(id string, st Status, err error) {
	var w *WaitError
	switch end := s.state(id); {
	case st.JobID != id, err == nil && st.State != StateCompleted, st.State.Terminal() && st.State != end, errors.Is(err, ErrJobFailed) && end != StateFailed:
		s.t.Errorf("%s is %q for the backend: %+v, %v", id, end, st, err)
	case err != nil && !errors.Is(err, ErrJobFailed) && !errors.As(err, &w):
		s.t.Errorf("%s: %v", id, err)
	}
}

// check looks whether each poll has its place. settled reports that nothing runs.
func (s *scramble) check(after string, settled bool) {
	e := &s.c.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	now, n, heaped, asked := e.c.now(), 0, 0, 0
	served := map[*crowd]int{} // deadlines that a last poll may be made for
	for en := range e.polls.all {
		n++
		if en.index >= 0 {
			heaped++
		}
		if en.cancel != nil {
			asked++
		}
		if en.deadlines != nil && en.deadlines.counted != nil {
			class := &e.pace.bulk
			if en.deadlines.counted.sub.to.single {
				class = &e.pace.single
			}
			served[&class.deadlines]++
		}
		s.singles[en] = s.singles[en] || en.hasSingle()
		if err := s.place(en, now, settled); err != nil {
			s.t.Errorf("after %s: %s: %v\n%s", after, en.id, err, showPoll(&en.poll))
		}
	}
	for _, crowd := range []*crowd{&e.pace.single.deadlines, &e.pace.bulk.deadlines} {
		for _, n := range *crowd {
			served[crowd] -= int(n)
		}
		if n := served[crowd]; n != 0 {
			s.t.Errorf("after %s: %d deadlines more are to be served than their crowd holds", after, n)
		}
	}
	for en, events := range e.overdues {
		for _, ev := range events {
			if !isSubscribed(en, ev.to) {
				s.t.Errorf("after %s: %s: a caller that is gone is to have an overdue event", after, en.id)
			}
		}
	}
	s.contexts = slices.DeleteFunc(s.contexts, func(ctx context.Context) bool { return ctx.Err() != nil })
	first := e.agenda.first()
	switch {
	case !s.pauses && len(e.pace.single.returns)+len(e.pace.bulk.returns) > 0:
		s.t.Errorf("after %s: polls come back from a pause, and there was none", after)
	case n != e.polls.n || heaped != len(e.agenda.heap):
		s.t.Errorf("after %s: %d polls, counted as %d; %d in the heap of %d", after, n, e.polls.n, heaped, len(e.agenda.heap))
	case e.underWay < 0 || e.underWay > e.pace.most:
		s.t.Errorf("after %s: %d exchanges of %d", after, e.underWay, e.pace.most)
	case !settled:
	case len(s.contexts) > asked:
		s.t.Errorf("after %s: %d contexts of exchanges are live, and %d polls are being asked about", after, len(s.contexts), asked)
	case s.callers == 0 && slices.ContainsFunc(s.visits, func(v *visit) bool { return !v.over && !v.busy && v.ctx.Err() != nil }):
		s.t.Errorf("after %s: a caller whose time is up still waits", after)
	case e.starting:
		s.t.Errorf("after %s: a goroutine has not started", after)
	case first != nil && (e.timer == nil || e.armed <= now || e.armed > first.key):
		s.t.Errorf("after %s: the timer fires at %d, the first key is %d, now is %d", after, e.armed, first.key, now)
	}
}

func isSubscribed(en *entry, in *inbox) bool {
	for sub := range en.subscriptions {
		if sub.to == in {
			return true
		}
	}
	return false
}

// place returns what is wrong with the place of a poll.
func (s *scramble) place(en *entry, now int64, settled bool) error {
	e := &s.c.engine
	if en.phase == over || en.subs == nil {
		return errors.New("it is over, or has no subscriber, and is still there")
	}
	if (en.index >= 0) != (en.key != never) || en.index >= 0 && e.agenda.heap[en.index] != en {
		return errors.New("its place in the heap does not fit its key")
	}
	expected := false // by a subscriber whose time is not up
	for sub := range en.subscriptions {
		if (sub.nextDue != nil) != (en.phase == queued) {
			return fmt.Errorf("in a queue: %v", sub.nextDue != nil)
		}
		if q := &sub.to.due[en.lane]; en.phase == queued {
			switch {
			case q.next == nil && !sub.to.full():
				return errors.New("its caller has room and no turn")
			case settled && !sub.to.full() && e.underWay < e.pace.most:
				return errors.New("its caller has room, an exchange may begin, and none does")
			}
		}
		for _, ev := range sub.to.events {
			if ev.droppable() && (ev.fault == nil && !sub.to.wantPending || ev.fault != nil && !sub.to.wantFaults) {
				return errors.New("its caller has an event that it has no use for")
			}
		}
		if sub.to.deadline != never && sub.deadline == nil || sub.deadline != nil && sub.deadline.at == never {
			return fmt.Errorf("its deadline is %+v", sub.deadline)
		}
		if in := sub.to; in.atMost > 0 && in.waiting > in.atMost {
			return fmt.Errorf("its caller waits for %d jobs, and may for %d at most", in.waiting, in.atMost)
		}
		if sub.to.ctx.Err() == nil && !sub.to.closed && (sub.deadline == nil || sub.deadline.at > now) {
			expected = true
		}
	}
	urgent := en.hinted || en.untried() && en.hasSingle()
	if en.phase == queued {
		switch {
		case urgent && en.lane == laneRest, en.lane == laneUrgent && !en.hinted && !(en.untried() && s.singles[en]):
			return fmt.Errorf("it is in lane %d; hinted: %v, never tried: %v", en.lane, en.hinted, en.untried())
		case en.next > now && (en.lane == laneRest || en.deadlines == nil):
			return errors.New("it is not due")
		}
	}
	if until := min(en.outageEnd(e.limits()), e.overdues.next(en)); en.phase <= queued && en.key > until {
		return fmt.Errorf("it is looked at only %v after its outage is over or it is overdue", time.Duration(en.key-until))
	}
	if d := en.deadlines; d != nil && (en.key > d.nextOwn() || settled && d.nextOwn() <= now) {
		return fmt.Errorf("a deadline at %v is not kept", time.Duration(d.nextOwn()))
	}
	asked := en.phase == asking || en.phase == deciding
	if asked != (en.cancel != nil) {
		return fmt.Errorf("an exchange is under way: %v", en.cancel != nil)
	}
	switch {
	case en.phase == waiting && en.key == never && expected:
		return errors.New("nothing wakes it")
	case en.phase == waiting && en.key > en.next && expected:
		return errors.New("it is woken too late")
	case settled && en.phase == asking && len(s.inFlight[en.id]) == 0 && s.callers == 0 && len(e.c.gate) < cap(e.c.gate):
		return errors.New("it is being asked about, and no exchange is under way")
	case settled && en.phase == deciding && s.callers == 0:
		return errors.New("a decision is under way, and no code of the caller's runs")
	}
	return nil
}

// PollOf lets the tests see the poll of a job, nil if there is none, and when its
// last exchange began.
func (c *Client) PollOf(id string) (p any, started time.Duration) {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	if p := c.engine.polls.get(id); p != nil {
		return p, time.Duration(p.started)
	}
	return nil, 0
}

// Leftovers returns what an unused client still holds, and must not.
func (c *Client) Leftovers() error {
	e := &c.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	got := []any{e.polls.n, len(e.agenda.heap), e.agenda.due(), e.underWay, e.timer != nil, len(e.completions.order), len(e.completions.ready), len(c.gate), c.flights.Len(),
		len(e.completions.over), len(e.overdues), len(e.pace.single.deadlines) + len(e.pace.bulk.deadlines), len(e.pace.single.returns) + len(e.pace.bulk.returns)}
	if text := fmt.Sprint(got...); text != fmt.Sprint(0, 0, false, 0, false, 0, 0, 0, 0, 0, 0, 0, 0) {
		return fmt.Errorf("polls, heap, due, under way, timer, order, completions, gate, flights, ends seen, overdue, deadlines, returns: %v", got)
	}
	return nil
}

// stubAnswer is a transport that gives every request the same answer.
type stubAnswer struct {
	code int
	body string
}

func (s stubAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: s.code, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader([]byte(s.body))), ContentLength: int64(len(s.body))}, nil
}

func benchClient(b *testing.B, s stubAnswer, opts ...Option) *Client {
	b.Helper()
	c, err := New("http://stub.invalid", append([]Option{WithHTTPClient(&http.Client{Transport: s}),
		WithPolling(Constant(time.Hour)), WithRetry(Constant(time.Hour)), WithOutageTolerance(2 * time.Hour)}, opts...)...)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// live returns the bytes that are live now: objects and goroutine stacks.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// settled waits until n polls have had an exchange each.
func (e *engine) settled(b *testing.B, n int) {
	for deadline := time.Now().Add(time.Minute * 5); ; time.Sleep(20 * time.Millisecond) {
		e.mu.Lock()
		done := 0
		for p := range e.polls.all {
			if !p.untried() && p.phase == waiting {
				done++
			}
		}
		e.mu.Unlock()
		if done == n {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d polls settled", done, n)
		}
	}
}

// BenchmarkWaitAllBytesPerJob measures the live bytes per job of a WaitAll over 100,000 jobs,
// beyond the ids, while all are pending, and in an outage.
func BenchmarkWaitAllBytesPerJob(b *testing.B) {
	const n = 100_000
	for name, s := range map[string]stubAnswer{"pending": {200, `{"result":"pending","progress":0.5}`}, "outage": {503, "upstream is down"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c := benchClient(b, s, WithBreaker(nil))
				jobs := make([]Job, n)
				for i := range jobs {
					jobs[i].ID = fmt.Sprint("job-", i)
				}
				before := live()
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan bool)
				go func() {
					defer close(done)
					for range c.WaitAll(ctx, func(yield func(Job) bool) {
						for _, j := range jobs {
							if !yield(j) {
								return
							}
							c.Hint(j.ID) // takes it out of the pace of first checks, which is 500 a second
						}
					}) {
					}
				}()
				c.engine.settled(b, n)
				b.ReportMetric(float64(live()-before)/n, "B/job")
				cancel()
				<-done
				runtime.KeepAlive(jobs)
			}
		})
	}
}

// The sizes are size classes of Go's allocator: one byte more costs sixteen for each job.
func TestAJobTakesFewBytes(t *testing.T) {
	for typ, most := range map[reflect.Type]uintptr{
		reflect.TypeFor[entry]():        176,
		reflect.TypeFor[subscription](): 80,
		reflect.TypeFor[trouble]():      96,
		reflect.TypeFor[inbox]():        224, // of one job, if it is a Wait's
	} {
		if typ.Size() > most {
			t.Errorf("%v takes %d bytes, want at most %d", typ, typ.Size(), most)
		}
	}
}

// A goroutine begins with 2 KiB of stack, and keeps 4 KiB once a chain of calls has needed more:
// see inbox.await.
func TestAWaitKeepsTheFirstStackOfItsGoroutine(t *testing.T) {
	if race.Enabled || testing.CoverMode() != "" {
		t.Skip("calls take more stack")
	}
	synctest.Test(t, func(t *testing.T) {
		const n = 2000
		stacks := func() int {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int(m.StackInuse)
		}
		c, err := New("http://stub.invalid", WithHTTPClient(&http.Client{Transport: stubAnswer{200, `{"result":"pending"}`}}))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range n {
			go func() { <-ctx.Done() }()
		}
		synctest.Wait()
		runtime.GC()                                     // sees that 2 KiB is enough for most
		defer debug.SetGCPercent(debug.SetGCPercent(-1)) // what helps it needs more stack
		before := stacks()
		wait := func(id string) { c.Wait(ctx, id) }
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { wait(fmt.Sprint("job-", i)) })
		}
		synctest.Wait()
		if each := (stacks() - before) / n; each > 7<<9 {
			t.Errorf("%d bytes of stack for each wait, want about 2048", each)
		}
	})
}

// BenchmarkParkedWaitBytes measures the live bytes of 100,000 callers that wait, each for a job
// of its own, beside those of a plain loop of polling in a goroutine each.
func BenchmarkParkedWaitBytes(b *testing.B) {
	const n = 100_000
	s := stubAnswer{200, `{"result":"pending"}`}
	run := func(b *testing.B, wait func(ctx context.Context, id string), settled func()) {
		for b.Loop() {
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprint("job-", i)
			}
			before := live()
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			for _, id := range ids {
				wg.Go(func() { wait(ctx, id) })
			}
			settled()
			b.ReportMetric(float64(live()-before)/n, "B/caller")
			cancel()
			wg.Wait()
		}
	}
	b.Run("Wait", func(b *testing.B) {
		c := benchClient(b, s, WithCache(nil), WithBreaker(nil))
		run(b, func(ctx context.Context, id string) { c.Wait(ctx, id) }, func() { c.engine.settled(b, n) })
	})
	b.Run("loop", func(b *testing.B) {
		hc := &http.Client{Transport: s}
		var polled sync.WaitGroup
		polled.Add(n)
		run(b, func(ctx context.Context, id string) {
			timer := time.NewTimer(0)
			defer timer.Stop()
			for first := true; ; first = false {
				select {
				case <-timer.C:
				case <-ctx.Done():
					return
				}
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://stub.invalid/status/"+id, nil)
				if resp, err := hc.Do(req); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if first {
					polled.Done()
				}
				timer.Reset(time.Hour)
			}
		}, func() { polled.Wait(); time.Sleep(50 * time.Millisecond); polled.Add(n) })
	})
}

// BenchmarkPoll is the time and memory of one poll: an exchange over a stub transport, the plan
// for the next one, and the events for the callers.
func BenchmarkPoll(b *testing.B) {
	b.ReportAllocs()
	c := benchClient(b, stubAnswer{200, `{"result":"pending"}`}, WithCache(nil))
	in := newInbox(context.Background(), never, false, false)
	(caller{&c.engine, in}).join("a", &Job{StartedAt: time.Now().Add(time.Hour)}, never, 0)
	t := &trip{e: &c.engine}
	en := c.engine.polls.get("a")
	for b.Loop() {
		c.engine.mu.Lock()
		t.start(en, c.now())
		c.engine.mu.Unlock()
		t.run()
		c.engine.mu.Lock()
		t.free()
		c.engine.mu.Unlock()
	}
	(caller{&c.engine, in}).leave()
}
