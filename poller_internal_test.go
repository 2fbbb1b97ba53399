package vtclient

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
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
			if len(e.polls) != 0 || len(e.heap) != 0 || len(e.ready) != 0 || e.timer != nil || e.workers != 0 || len(c.gate) != 0 {
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
		if n := runtime.NumGoroutine() - before; n > 5 || e.workers != 0 || len(e.polls) != 1000 || e.timer == nil {
			t.Errorf("between polls: %d goroutines, %d workers, %d polls", n, e.workers, len(e.polls))
		}
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
		in.put(event{status: Status{State: StatePending, Progress: float64(i)}})
		in.put(event{fault: fmt.Errorf("fault %d", i)})
	}
	in.put(event{status: Status{State: StateCompleted}})
	if n := len(in.events); n > 2*batchBacklog+1 {
		t.Errorf("%d events", n)
	}
	if !in.events[len(in.events)-1].ends() {
		t.Error("the end is lost")
	}
}
