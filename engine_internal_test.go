package vtclient

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
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
		if n := runtime.NumGoroutine() - before; n > 5 || e.underWay != 0 || e.polls.n != 1000 || e.timer == nil {
			t.Errorf("between polls: %d goroutines, %d under way, %d polls", n, e.underWay, e.polls.n)
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
			ev := e.abandon(in)
			if ev == nil {
				break
			}
			if !ev.ends() {
				t.Errorf("%s: took %q", tt.put, ev.status.JobID)
			}
			got += ev.status.JobID[:1]
		}
		if in.droppable != len(in.events) || e.empty(in) != (len(in.events) == 0) {
			t.Errorf("%s: %d left, counted as %d, empty: %v", tt.put, len(in.events), in.droppable, e.empty(in))
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
		if got != tt.want || left != want || in.droppable != 0 || !e.empty(in) {
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
		joining := joiningContext{done, sync.OnceFunc(func() { e.join(late, "a", &Job{}, c.now()) })}
		gone := []*inbox{newInbox(done, never, false, false), newInbox(joining, never, false, false)}
		var steps []step
		trips := [2]trip{{e: e}, {e: e}}
		for i, id := range []string{"a", "b"} {
			e.join(gone[i], id, &Job{}, later(c.now(), time.Hour))
			e.mu.Lock()
			trips[i].start(e.polls.get(id), c.now())
			e.mu.Unlock()
			steps = append(steps, step{entry: trips[i].entry, out: outcome{verdict: left}})
		}
		trips[0].conclude(steps)
		for i := range trips {
			e.leave(gone[i])
			trips[i].work()
		}
		time.Sleep(time.Second)
		if e.take(late) == nil {
			t.Error("the caller that joined has no answer")
		}
		if err := c.Leftovers(); err != nil {
			t.Error(err)
		}
	})
}
