package vtclient

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
		e := &c.poller
		gone := func(after string) {
			t.Helper()
			synctest.Wait()
			e.mu.Lock()
			defer e.mu.Unlock()
			if len(e.polls) != 0 || len(e.heap) != 0 || len(e.ready) != 0 || e.timer != nil || e.workers != 0 || len(c.gate) != 0 || len(e.order) != 0 {
				t.Errorf("after %s: %d polls, %d in the heap, %d ready, timer %v, %d workers, %d in flight",
					after, len(e.polls), len(e.heap), len(e.ready), e.timer != nil, e.workers, len(c.gate))
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
		if n := runtime.NumGoroutine() - before; n > 5 || e.workers != 0 || len(e.polls) != 1000 || e.timer == nil {
			t.Errorf("between polls: %d goroutines, %d workers, %d polls", n, e.workers, len(e.polls))
		}
		e.mu.Unlock()
		<-ended
		gone("WaitAll")
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

// What a slow caller does not take does not pile up while a faster one keeps the poll going.
func TestInboxOfASlowCallerIsBounded(t *testing.T) {
	in := newInbox(context.Background(), true, true, 1)
	for i := range 10_000 {
		in.put(&event{status: Status{State: StatePending, Progress: float64(i)}})
		in.put(&event{fault: fmt.Errorf("fault %d", i)})
	}
	in.put(&event{status: Status{State: StateCompleted}})
	if n := len(in.events); n > 2*batchBacklog+1 {
		t.Errorf("%d events", n)
	}
	if !in.events[len(in.events)-1].ends() {
		t.Error("the end is lost")
	}
}

// What ends a job is never what makes room in an inbox: it is the only word on that job.
func TestWhatEndsAJob(t *testing.T) {
	for _, tt := range []struct {
		ev   event
		ends bool
	}{
		{event{status: Status{State: StatePending}}, false},
		{event{status: Status{State: StateCompleted}}, true},
		{event{status: Status{State: StateFailed}}, true},
		{event{fault: errNeutral}, false},
		{event{err: errNeutral}, true},
		{event{status: Status{State: StatePending}, err: errNeutral}, true},
		{event{panicked: "oops"}, true},
	} {
		if tt.ev.ends() != tt.ends {
			t.Errorf("%+v: ends %v", tt.ev, !tt.ends)
		}
	}
}

// In a full inbox the oldest pending observation makes room, and nothing else
// does, until hundreds of faults have piled up.
func TestWhatMakesRoomInAFullInbox(t *testing.T) {
	const p, f, e = 'p', 'f', 'e' // pending, fault, end
	many := func(kind rune, n int) []rune { return []rune(strings.Repeat(string(kind), n)) }
	for _, tt := range []struct {
		rule  string
		limit int
		put   []rune
		want  []int // which of them are there in the end
	}{
		{"up to twice the limit is kept", 3, many(p, 6), []int{0, 1, 2, 3, 4, 5}},
		{"then the oldest goes", 3, many(p, 8), []int{2, 3, 4, 5, 6, 7}},
		{"an end stays", 1, []rune{e, p, p, p}, []int{0, 3}},
		{"a fault stays", 1, []rune{f, p, p, p}, []int{0, 3}},
		{"ends and faults alone only add up", 1, []rune{e, f, f, e}, []int{0, 1, 2, 3}},
		{"one goes at a time", 1, []rune{f, f, p, p, p}, []int{0, 1, 4}},
		{"hundreds of faults lose the oldest", 1, append(many(f, 2*batchBacklog), e), seq(1, 2*batchBacklog+1)},
		{"and not before", 1, append(many(f, 2*batchBacklog-1), e), seq(0, 2*batchBacklog)},
		{"hundreds of ends lose none", 1, many(e, 2*batchBacklog+2), seq(0, 2*batchBacklog+2)},
	} {
		in := newInbox(context.Background(), true, true, tt.limit)
		for i, kind := range tt.put {
			ev := &event{status: Status{JobID: fmt.Sprint(i), State: StatePending}}
			switch kind {
			case f:
				ev.fault = errNeutral
			case e:
				ev.err = errNeutral
			}
			in.put(ev)
		}
		var got []int
		loose := 0
		for _, ev := range in.events {
			n, _ := strconv.Atoi(ev.status.JobID)
			got = append(got, n)
			if !ev.ends() {
				loose++
			}
		}
		if in.loose != loose {
			t.Errorf("%s: counts %d that end no job, there are %d", tt.rule, in.loose, loose)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: of %q there are %v, want %v", tt.rule, string(tt.put), got, tt.want)
		}
	}
}

func seq(from, to int) (s []int) {
	for i := from; i < to; i++ {
		s = append(s, i)
	}
	return s
}

type deafLearner struct{ Constant }

func (deafLearner) Learn(Completion) {}

// A job that nothing is known of holds up the lessons of maxHeld others and no
// more: then it is told as given up if it was seen, and told again if it ends.
func TestAJobHoldsUpABoundedNumberOfLessons(t *testing.T) {
	for _, tt := range []struct {
		rule string
		seen bool
		ends time.Duration // the holder's, in the end; 0: it is given up
		want []Completion  // before and after those held up
		last []Completion
	}{
		{"seen, and ends after all", true, time.Hour,
			[]Completion{{PendingAt: time.Minute, Expected: time.Second}}, []Completion{{PendingAt: time.Minute, Expected: time.Second, DoneBy: time.Hour}}},
		{"never seen, and given up", false, 0, nil, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, err := New("http://stub.invalid", WithPolling(deafLearner{1}))
			if err != nil {
				t.Fatal(err)
			}
			e := &c.poller
			begin := func(p poll) *poll {
				p.began, p.ticket = c.now(), e.first+len(e.order)
				e.order = append(e.order, ticket{p: &p})
				return &p
			}
			for range 2 { // the count starts anew
				holder := begin(poll{seen: tt.seen, pendingAt: time.Minute, expected: time.Second})
				var want []Completion
				for i := range maxHeld {
					if len(e.lessons) != 0 || e.held != i {
						t.Fatalf("%s: %d lessons are told and %d held after %d jobs", tt.rule, len(e.lessons), e.held, i)
					}
					doneBy := time.Duration(i + 1)
					e.conclude(begin(poll{seen: true}), doneBy)
					want = append(want, Completion{DoneBy: doneBy})
				}
				e.conclude(holder, tt.ends)
				want = append(append(slices.Clone(tt.want), want...), tt.last...)
				if !slices.Equal(e.lessons, want) {
					t.Fatalf("%s: %d lessons, want %d, or others", tt.rule, len(e.lessons), len(want))
				}
				if e.held != 0 || e.order != nil {
					t.Errorf("%s: %d are held, order %v", tt.rule, e.held, e.order)
				}
				e.lessons, e.longest = nil, 0
			}
		})
	}
}

// Whoever gives up takes with it a result that is there already, behind
// whatever else is there, and leaves the rest in its order.
func TestGivingUpTakesAResultThatIsThere(t *testing.T) {
	c, err := New("http://stub.invalid")
	if err != nil {
		t.Fatal(err)
	}
	e := &c.poller
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, tt := range []struct{ put, want string }{{"", ""}, {"p", ""}, {"e", "e"}, {"pe", "e"}, {"ppep", "e"}, {"epe", "ee"}, {"pepe", "ee"}} {
		in := newInbox(ctx, true, true, 10)
		for i, kind := range tt.put {
			ev := &event{status: Status{JobID: fmt.Sprint(string(kind), i), State: StatePending}}
			if kind == 'e' {
				ev.err = errNeutral
			}
			in.put(ev)
		}
		var got, left string
		for {
			ev := e.abandon(in)
			if ev == nil {
				break
			}
			if !ev.ends() {
				t.Errorf("%s: took %q", tt.put, ev.status.JobID)
			}
			got += ev.status.JobID[:1]
		}
		if in.loose != len(in.events) || e.empty(in) != (len(in.events) == 0) {
			t.Errorf("%s: %d left, counted as %d, empty: %v", tt.put, len(in.events), in.loose, e.empty(in))
		}
		for {
			ev := e.take(in)
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
		if got != tt.want || left != want || in.loose != 0 || !e.empty(in) {
			t.Errorf("%s: took %q and left %q, want %q and %q", tt.put, got, left, tt.want, want)
		}
	}
}

// A hearingLearner notes of what it is told and how.
type hearingLearner struct {
	Constant
	heard *[]string
}

func (l hearingLearner) Learn(c Completion) { *l.heard = append(*l.heard, fmt.Sprint(c.Hinted)) }
func (l hearingLearner) hintsCome()         { *l.heard = append(*l.heard, "hints") }

// Only a job that ended through a hint says that hints come.
func TestWhichJobsSayThatHintsCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		var heard []string
		c, err := New("", WithPolling(hearingLearner{Constant(10 * time.Second), &heard}), WithCache(nil), WithFetch(func(context.Context, string) (Status, error) {
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
		if want := []string{"false", "hints", "true", "false"}; !slices.Equal(heard, want) {
			t.Errorf("%q, want %q", heard, want)
		}
		if c.http != nil {
			t.Error("a client that asks a function holds a transport")
		}
	})
}
