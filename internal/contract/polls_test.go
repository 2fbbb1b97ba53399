package contract_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/race"
)

func ids(n int) (s []string) {
	for i := range n {
		s = append(s, fmt.Sprint(i))
	}
	return s
}

// One poll per job, however many wait for it, each with a context, callbacks and a deadline of its own.
func TestThousandWaitsOnOneJobAreOnePoll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, func(id string, n int, at time.Duration) fakeReply {
			if n == 2 {
				return fakeReply{code: 503}
			}
			return doneAt(40*time.Second)(id, n, at)
		})
		var wg sync.WaitGroup
		var reported, faults, done, late atomic.Int32
		start := time.Now()
		for i := range 1000 {
			wg.Go(func() {
				ctx := t.Context()
				limit := time.Duration(0)
				if i%10 == 0 {
					limit = 15*time.Second + time.Duration(i)*time.Millisecond
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, limit)
					defer cancel()
				}
				_, err := c.Wait(ctx, "a", OnProgress(func(Status) { reported.Add(1) }), OnError(func(error) { faults.Add(1) }))
				switch {
				case err == nil && time.Since(start) >= 40*time.Second && time.Since(start) < 51*time.Second:
					done.Add(1)
				case errors.Is(err, context.DeadlineExceeded) && time.Since(start) == limit:
					late.Add(1)
				default:
					t.Errorf("Wait %d: %v after %v", i, err, time.Since(start))
				}
			})
		}
		wg.Wait()
		if done.Load() != 900 || late.Load() != 100 || faults.Load() != 1000 {
			t.Errorf("%d done, %d late, reported %d faults", done.Load(), late.Load(), faults.Load())
		}
		// The schedule's 0, 10, 11, 21, 31, 41, which last polls move, and a last poll for each of the hundred deadlines at most.
		if n := f.total(); n < 6 || n > 106 {
			t.Errorf("%d requests", n)
		}
		if n := reported.Load(); n < 900*5 {
			t.Errorf("reported %d observations", n)
		}
	})
	t.Run("with no deadlines exactly", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, doneAt(30*time.Second))
			var wg sync.WaitGroup
			for range 1000 {
				wg.Go(func() {
					if _, err := c.Wait(t.Context(), "a"); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			wantTimes(t, f.at("a"), 0, 10, 20, 30)
		})
	})
}

// A joiner takes over the poll where it is, and gives it its start and estimate.
func TestJoiningAPoll(t *testing.T) {
	t.Run("before its first poll makes that now", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, doneAt(time.Minute))
			go c.Wait(t.Context(), "a", StartedAt(time.Now()))
			time.Sleep(3 * time.Second)
			c.Wait(t.Context(), "a")
			wantTimes(t, f.at("a"), 3, 13, 23, 33, 43, 53, 63)
		})
	})
	t.Run("later is on its schedule", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, doneAt(15*time.Second))
			go c.Wait(t.Context(), "a")
			time.Sleep(3 * time.Second)
			c.Wait(t.Context(), "a")
			wantTimes(t, f.at("a"), 0, 10, 20)
		})
	})
	t.Run("with an earlier start and an estimate changes the Attempt", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			var mu sync.Mutex
			var last Attempt
			c, _ := startFake(t, doneAt(15*time.Second), WithPolling(backoffFunc(func(a Attempt) (time.Duration, bool) {
				mu.Lock()
				defer mu.Unlock()
				if a.Number >= last.Number {
					last = a
				}
				return 10 * time.Second, true
			})))
			go c.Wait(t.Context(), "a")
			time.Sleep(3 * time.Second)
			c.Wait(t.Context(), "a", StartedAt(time.Now().Add(-time.Minute)), Expect(time.Hour))
			if want := (Attempt{Number: 2, Elapsed: 67 * time.Second, PendingAt: 67 * time.Second, Expected: time.Hour}); last != want {
				t.Errorf("got %+v, want %+v", last, want)
			}
		})
	})
	t.Run("whose exchange in flight ends with the first caller's time", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, inTurn(fakeReply{takes: 8 * time.Second}, completed))
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			go c.Wait(ctx, "a")
			time.Sleep(time.Second)
			if _, err := c.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			wantTimes(t, f.at("a"), 0, 5)
		})
	})
	t.Run("with a later start and another estimate leaves the first ones", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			var last Attempt
			c, _ := startFake(t, doneAt(15*time.Second), WithPolling(backoffFunc(func(a Attempt) (time.Duration, bool) {
				if a.Number > 0 {
					last = a
				}
				return 10 * time.Second, true
			})))
			start := time.Now()
			go c.Wait(t.Context(), "a", StartedAt(start.Add(-5*time.Second)), Expect(time.Hour))
			time.Sleep(6 * time.Second) // asked at 5
			c.Wait(t.Context(), "a", StartedAt(start), Expect(time.Minute))
			if want := (Attempt{Number: 1, Elapsed: 10 * time.Second, PendingAt: 10 * time.Second, Expected: time.Hour}); last != want {
				t.Errorf("got %+v, want %+v", last, want)
			}
			go c.Wait(t.Context(), "b", Expect(time.Hour))
			time.Sleep(time.Second)
			c.Wait(t.Context(), "b")
			if last.Expected != time.Hour {
				t.Errorf("reported %+v after a joiner without an estimate", last)
			}
		})
	})
	t.Run("does not hurry one that the breaker refuses", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			br := &refuser{after: 20 * time.Second, until: time.Now().Add(30 * time.Second)}
			c, f := startFake(t, always(completed), WithBreaker(br))
			go c.Wait(t.Context(), "a")
			time.Sleep(3 * time.Second)
			c.Wait(t.Context(), "a")
			if wantTimes(t, f.at("a"), 40); br.asked != 3 {
				t.Errorf("the breaker is asked %d times", br.asked)
			}
		})
	})
	t.Run("that rests since its callers are about to leave wakes it", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, func(id string, _ int, at time.Duration) fakeReply {
				if id == "b" || at > 20*time.Second {
					return completed
				}
				return pending
			})
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			for range c.WaitAll(ctx, Jobs("a", "b")) {
				time.Sleep(25 * time.Second) // in the loop body at the end of the time
				within, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if _, err := c.Wait(within, "a"); err != nil {
					t.Error(err)
				}
				break
			}
			wantTimes(t, f.at("a"), 0, 10, 14.98, 25)
		})
	})
	t.Run("of a WaitAll takes it out of the pace, and another WaitAll does not", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, always(completed), WithMaxInFlight(1))
			crowd := func(yield func(Job) bool) {
				for _, id := range ids(1000) {
					yield(Job{ID: id, StartedAt: time.Now()}) // due at 10 s
				}
				time.Sleep(500 * time.Millisecond)
				yield(Job{ID: "a", StartedAt: time.Now()})
			}
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					for _, err := range c.WaitAll(t.Context(), crowd) {
						if err != nil {
							t.Error(err)
						}
					}
				})
				synctest.Wait() // the polls are all the first one's, and the second joins them
			}
			time.Sleep(10*time.Second + 250*time.Millisecond)
			if _, err := c.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			wg.Wait()
			wantTimes(t, f.at("a"), 10.25)
			if n := f.rate(time.Second); n > 502 {
				t.Errorf("%d requests within a second", n)
			}
		})
	})
}

// A leaver never hurts the others; the last one cancels the exchange in flight.
func TestLeavingAPoll(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}} {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, inTurn(pending, fakeReply{takes: time.Minute}), WithTimeout(time.Hour))
			var cancels []context.CancelFunc
			ended := make([]time.Duration, 3)
			start := time.Now()
			var wg sync.WaitGroup
			for i := range 3 {
				ctx, cancel := context.WithCancel(t.Context())
				cancels = append(cancels, cancel)
				wg.Go(func() {
					if _, err := c.Wait(ctx, "a"); !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					ended[i] = time.Since(start)
				})
				synctest.Wait()
			}
			time.Sleep(11 * time.Second) // an exchange is in flight
			for i, k := range order {
				cancels[k]()
				synctest.Wait()
				if want := 11*time.Second + time.Duration(i)*time.Second; ended[k] != want {
					t.Errorf("order %v: wait %d ended at %v, want %v", order, k, ended[k], want)
				}
				f.mu.Lock()
				if open := f.open; open != 1 && i < 2 || open != 0 && i == 2 {
					t.Errorf("order %v: %d exchanges in flight after %d left", order, open, i+1)
				}
				f.mu.Unlock()
				time.Sleep(time.Second)
			}
			wg.Wait()
			wantTimes(t, f.at("a"), 0, 10)
		})
	}
}

// Watch yields each observation, ends once, and can be run again.
func TestWatchYieldsEachObservation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, func(_ string, n int, at time.Duration) fakeReply {
			switch n {
			case 2:
				return fakeReply{code: 503}
			case 4:
				return completed
			case 6:
				return fakeReply{state: "error"}
			}
			return pending
		})
		watch := c.Watch(t.Context(), "a")
		var got []string
		for range 2 {
			for st, err := range watch {
				var h *JobError
				got = append(got, fmt.Sprint(st.State, errors.As(err, &h)))
			}
		}
		if want := []string{"pendingfalse", "pendingfalse", "completedfalse", "pendingfalse", "errortrue"}; !slices.Equal(got, want) {
			t.Errorf("yielded %v, want %v", got, want)
		}
		wantTimes(t, f.at("a"), 0, 10, 11, 21, 21, 31)
	})
}

// Breaking out of Watch stops the polling at once, with no goroutine left.
func TestBreakingOutOfWatchStopsPolling(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(pending))
		n := 0
		for range c.Watch(t.Context(), "a") {
			if n++; n == 3 {
				break
			}
		}
		next, stop := iter.Pull2(c.Watch(t.Context(), "b"))
		next()
		stop()
		time.Sleep(time.Hour)
		wantTimes(t, f.at("a"), 0, 10, 20)
		wantTimes(t, f.at("b"), 20)
	})
}

// A slow consumer pauses the polling, does not lose the end, and holds no faster one.
func TestSlowWatchPausesPolling(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, doneAt(200*time.Second))
		var seen []time.Duration
		for st, err := range c.Watch(t.Context(), "a") {
			if err != nil {
				t.Error(err)
			}
			seen = append(seen, st.CheckedAt.Sub(f.start))
			time.Sleep(95 * time.Second)
		}
		wantTimes(t, f.at("a"), 0, 95, 190, 285)
		if !slices.Equal(seen, f.at("a")) {
			t.Errorf("seen are answers of %v", seen)
		}
	})
	t.Run("an OnProgress likewise", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, doneAt(100*time.Second))
			c.Wait(t.Context(), "a", OnProgress(func(Status) { time.Sleep(60 * time.Second) }))
			wantTimes(t, f.at("a"), 0, 60, 120)
		})
	})
	t.Run("not faster callers", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, doneAt(100*time.Second))
			done := make(chan int)
			go func() {
				n := 0
				for range c.Watch(t.Context(), "a") {
					n++
					time.Sleep(75 * time.Second)
				}
				done <- n
			}()
			time.Sleep(25 * time.Second) // the poll is put aside
			wantTimes(t, f.at("a"), 0)
			if _, err := c.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			if d := time.Since(f.start); d != 105*time.Second {
				t.Errorf("the fast one ended at %v", d)
			}
			if n := <-done; n != 4 { // of the nine in between, the newest two; then the end
				t.Errorf("the slow one saw %d", n)
			}
			wantTimes(t, f.at("a"), 0, 25, 35, 45, 55, 65, 75, 85, 95, 105)
		})
	})
}

// WaitAll: each job once, in the order of ending, its own error beside it.
func TestWaitAllYieldsEachJobOnceInOrderOfEnding(t *testing.T) {
	for _, name := range []string{"under a test's context", "under context.Background"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := t.Context()
				if name == "under context.Background" {
					ctx = context.Background() // its Done is nil
				}
				c, f := startFake(t, func(id string, _ int, at time.Duration) fakeReply {
					switch {
					case id == "missing":
						return fakeReply{code: 404}
					case id == "failed" && at >= 20*time.Second:
						return fakeReply{state: "error"}
					case id == "" && at >= 40*time.Second:
						return completed
					case id == "a" && at >= 30*time.Second:
						return completed
					}
					return pending
				})
				var got []string
				jobs := []Job{{ID: "late", Deadline: time.Now().Add(15 * time.Second)}, {ID: "a"}, {ID: ".."}, {ID: ""}, {ID: "failed"},
					{ID: "missing"}, {ID: "a"}, {ID: "wrong", Expect: -1}, {ID: "past", Deadline: time.Now().Add(-1)}}
				for st, err := range c.WaitAll(ctx, slices.Values(jobs)) {
					var (
						what string
						arg  *ArgumentError
						h    *HTTPError
					)
					switch {
					case err == nil:
						what = "ok"
					case errors.As(err, &arg):
						what = "argument"
					case errors.As(err, &h):
						what = fmt.Sprint(h.StatusCode)
					case errors.Is(err, ErrJobFailed):
						what = "failed"
					case errors.Is(err, context.DeadlineExceeded):
						what = "late"
					}
					got = append(got, fmt.Sprintf("%s=%s@%v", st.JobID, what, time.Since(f.start)))
				}
				slices.Sort(got[:4])
				if want := []string{"..=argument@0s", "missing=404@0s", "past=late@0s", "wrong=argument@0s", "late=late@15s", "failed=failed@20s",
					"a=ok@30s", "a=ok@30s", "=ok@40s"}; !slices.Equal(got, want) {
					t.Errorf("yielded\n%v, want\n%v", got, want)
				}
				wantTimes(t, f.at("a"), 0, 10, 20, 30)
				if at := f.at("late"); len(at) != 3 || at[2] < 14900*time.Millisecond || at[2] > 14980*time.Millisecond {
					t.Errorf("the late one was polled at %v", at) // a last poll, spread out among those of all jobs
				}
				wantTimes(t, f.at("past"))
			})
		})
	}
}

// A job's own StartedAt and Expect hold before those of the call.
func TestWaitAllJobsBringTheirOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		expected := map[time.Duration]bool{}
		c, f := startFake(t, always(completed), WithPolling(backoffFunc(func(a Attempt) (time.Duration, bool) {
			mu.Lock()
			defer mu.Unlock()
			expected[a.Expected] = true
			return 10 * time.Second, true
		})))
		now := time.Now()
		jobs := []Job{{ID: "a", StartedAt: now.Add(-3 * time.Second), Expect: time.Hour}, {ID: "b"}}
		for _, err := range c.WaitAll(t.Context(), slices.Values(jobs), StartedAt(now), Expect(time.Minute)) {
			if err != nil {
				t.Error(err)
			}
		}
		wantTimes(t, f.at("a"), 7)
		wantTimes(t, f.at("b"), 10)
		if !expected[time.Hour] || !expected[time.Minute] || len(expected) != 2 {
			t.Errorf("Expect: %v", expected)
		}
	})
}

// Whichever comes first of a job's own deadline and the context's ends the wait for it.
func TestDeadlinesOfJobsAndContext(t *testing.T) {
	for _, tt := range []struct {
		job, ctx time.Duration
		want     float64 // when the last poll is made
	}{{15 * time.Second, time.Minute, 14.98}, {time.Minute, 15 * time.Second, 14.98}} {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, always(pending))
			ctx, cancel := context.WithTimeout(t.Context(), tt.ctx)
			defer cancel()
			start := time.Now()
			for _, err := range c.WaitAll(ctx, slices.Values([]Job{{ID: "a", Deadline: start.Add(tt.job)}})) {
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 15*time.Second {
					t.Errorf("%v after %v", err, time.Since(start))
				}
			}
			wantTimes(t, f.at("a"), 0, 10, tt.want)
		})
	}
}

// Jobs stream in from a channel while others end.
func TestWaitAllStreams(t *testing.T) {
	stream := func(ch <-chan Job) iter.Seq[Job] {
		return func(yield func(Job) bool) {
			for j := range ch {
				if !yield(j) {
					return
				}
			}
		}
	}
	t.Run("while others end", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, inTurn(pending, completed))
			ch := make(chan Job)
			go func() {
				defer close(ch)
				for i := range 5 {
					ch <- Job{ID: fmt.Sprint(i)}
					time.Sleep(15 * time.Second)
				}
			}()
			start, n := time.Now(), 0
			for st, err := range c.WaitAll(t.Context(), stream(ch)) {
				if want := time.Duration(n)*15*time.Second + 10*time.Second; err != nil || st.JobID != fmt.Sprint(n) || time.Since(start) != want {
					t.Errorf("%s at %v, want at %v; %v", st.JobID, time.Since(start), want, err)
				}
				n++
			}
			if n != 5 || time.Since(start) != 75*time.Second {
				t.Errorf("%d jobs in %v", n, time.Since(start))
			}
		})
	})
	t.Run("a channel that is never closed does not keep it past the context", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, always(pending))
			ch := make(chan Job, 1)
			ch <- Job{ID: "a"}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			start, n := time.Now(), 0
			for _, err := range c.WaitAll(ctx, stream(ch)) {
				if n++; !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
					t.Errorf("%v after %v", err, time.Since(start))
				}
			}
			if d := time.Since(start); n != 1 || d < time.Minute || d > time.Minute+time.Second {
				t.Errorf("%d results, ended after %v", n, d)
			}
			close(ch)
		})
	})
	t.Run("jobs read after the context is done are yielded too", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, always(pending))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			n := 0
			for _, err := range c.WaitAll(ctx, func(yield func(Job) bool) {
				for i := range 5 {
					if !yield(Job{ID: fmt.Sprint(i)}) {
						return
					}
					if i == 0 {
						time.Sleep(time.Minute)
					}
					time.Sleep(50 * time.Millisecond)
				}
			}) {
				if n++; !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			}
			if n != 5 || len(f.seen) != 1 {
				t.Errorf("%d results, requests for %d jobs", n, len(f.seen))
			}
		})
	})
}

// What the sequence does to its goroutine, it does to the caller's, at once.
func TestWaitAllSequenceThatDoesNotEnd(t *testing.T) {
	t.Run("panics", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, always(pending))
			defer func() {
				if r := recover(); r != "bad sequence" || time.Since(f.start) != time.Second {
					t.Errorf("recovered %v after %v", r, time.Since(f.start))
				}
			}()
			for range c.WaitAll(t.Context(), func(yield func(Job) bool) {
				yield(Job{ID: "a"})
				time.Sleep(time.Second)
				panic("bad sequence")
			}) {
			}
		})
	})
	t.Run("ends its goroutine", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, always(pending))
			returned, done := false, make(chan bool)
			go func() {
				defer close(done)
				for range c.WaitAll(t.Context(), func(yield func(Job) bool) {
					yield(Job{ID: "a"})
					runtime.Goexit()
				}) {
				}
				returned = true
			}()
			if <-done; returned {
				t.Error("the loop ended as if all jobs had been waited for")
			}
		})
	})
	t.Run("is endless", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, always(completed))
			reported, n := make(chan bool, 1), 0
			for range c.WaitAll(t.Context(), func(yield func(Job) bool) {
				for i := 0; yield(Job{ID: fmt.Sprint(i)}); i++ {
					time.Sleep(100 * time.Microsecond) // so that virtual time goes on
				}
				reported <- true
			}) {
				if n++; n == 1000 {
					break
				}
			}
			<-reported
		})
	})
}

// Property 19: leaving the loop at any moment leaves nothing behind. A goroutine left would fail the bubble.
func TestBreakingOutOfWaitAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _ := startFake(t, always(completed))
		for range c.WaitAll(t.Context(), func(yield func(Job) bool) {
			for _, id := range ids(1000) {
				if id == "500" {
					time.Sleep(time.Minute)
				}
				if !yield(Job{ID: id}) {
					return
				}
			}
		}) {
			time.Sleep(time.Hour) // more results are there than there is room for, and jobs to come
			break
		}
		if synctest.Wait(); leftovers(c) != nil {
			t.Error(leftovers(c))
		}
	})
	for leave := 1; leave <= 40; leave += 3 {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, func(id string, n int, _ time.Duration) fakeReply {
				return fakeReply{state: map[bool]string{true: "completed"}[n > len(id)], takes: time.Second}
			})
			n := 0
			for range c.WaitAll(t.Context(), Jobs(ids(40)...)) {
				if n++; n == leave {
					break
				}
			}
			synctest.Wait()
			before := f.total()
			time.Sleep(time.Hour)
			if f.total() != before {
				t.Errorf("left at %d: %d requests after that", leave, f.total()-before)
			}
		})
	}
}

// A loop body that takes long keeps a WaitAll from leaving when it is cancelled.
// What is queued on its behalf by then is not sent all the same.
func TestNoRequestForACancelledWaitAllThatIsBusy(t *testing.T) {
	for _, tt := range []struct {
		queue string
		want  int
		opts  []Option
	}{
		{"gate", 2, []Option{WithMaxInFlight(1)}}, // "a" and what Status asks
		{"limiter", 1, []Option{WithLimiter(limiterFunc(func(context.Context) error {
			if time.Now().Nanosecond() != 0 { // "a" passes
				time.Sleep(5 * time.Second)
			}
			return nil
		}))}},
	} {
		t.Run(tt.queue, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, f := startFake(t, func(id string, _ int, _ time.Duration) fakeReply {
					if id == "slow" {
						return fakeReply{takes: 5 * time.Second}
					}
					return completed
				}, tt.opts...)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(3*time.Second, cancel)
				for range c.WaitAll(ctx, func(yield func(Job) bool) {
					yield(Job{ID: "a"})
					time.Sleep(time.Second + 1)
					if tt.queue == "gate" {
						go c.Status(t.Context(), "slow")
						synctest.Wait()
					}
					yield(Job{ID: "b"})
				}) {
					time.Sleep(10 * time.Second)
				}
				if n := f.total(); n != tt.want {
					t.Errorf("%d requests at %v, want %d", n, f.all, tt.want)
				}
			})
		})
	}
}

// A sequence that goes on when the loop has been left, with good ids and bad, gets false from
// its next yield, and the client is as good as before.
func TestYieldReturnsFalseAfterTheLoopWasLeft(t *testing.T) {
	for _, id := range []string{"b", ".."} {
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, always(completed))
			reported := make(chan bool, 1)
			for range c.WaitAll(t.Context(), func(yield func(Job) bool) {
				yield(Job{ID: "a"})
				time.Sleep(time.Minute)
				reported <- !yield(Job{ID: id})
			}) {
				break
			}
			if !<-reported {
				t.Errorf("yield of %q returned true", id)
			}
			within, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := c.Wait(within, "c"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Property 19: nor where the reading of the sequence was held back just then.
func TestLeavingWhileTheSequenceIsHeldBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _ := startFake(t, always(completed))
		for range c.WaitAll(t.Context(), func(yield func(Job) bool) {
			for yield(Job{ID: ".."}) {
			}
		}) {
			time.Sleep(time.Minute) // the inbox is full
			break
		}
	})
}

// The same in real time: no goroutine of the client is left, whatever was abandoned.
func TestAbandonedWaitsLeaveNoGoroutine(t *testing.T) {
	c, _ := startFake(t, always(pending), WithPolling(Constant(time.Millisecond)))
	before := runtime.NumGoroutine()
	for range 20 {
		ctx, cancel := context.WithCancel(context.Background())
		go c.Wait(ctx, "a")
		for range c.Watch(context.Background(), "b") {
			break
		}
		for range c.WaitAll(ctx, Jobs("a", "b", "c"), OnProgress(func(Status) { cancel() })) {
			break
		}
		cancel()
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// A slow consumer holds back the polling and the reading of the sequence.
func TestSlowWaitAllConsumer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(completed))
		var read atomic.Int32
		n := 0
		for _, err := range c.WaitAll(t.Context(), func(yield func(Job) bool) {
			for i := range 2000 {
				read.Add(1)
				if !yield(Job{ID: fmt.Sprint(i)}) {
					return
				}
				time.Sleep(3 * time.Millisecond) // as the first checks are paced
			}
		}) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 1 {
				time.Sleep(time.Hour)
				// 256 results, those in flight when that was reached, and the jobs read but not checked.
				if r, q := read.Load(), f.total(); r > 256+64+2 || q > 256+64+1 {
					t.Errorf("%d jobs read and %d requests for a consumer that took one", r, q)
				}
			}
		}
		if n != 2000 {
			t.Errorf("%d results", n)
		}
	})
	t.Run("with faults reported meanwhile", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, func(id string, n int, _ time.Duration) fakeReply {
				if n < 4 {
					return fakeReply{code: 503}
				}
				return completed
			})
			faults, done := 0, 0
			for _, err := range c.WaitAll(t.Context(), Jobs(ids(500)...), OnError(func(error) { faults++; time.Sleep(10 * time.Millisecond) })) {
				if err != nil {
					t.Error(err)
				}
				done++
			}
			if faults != 1500 || done != 500 {
				t.Errorf("%d faults reported, %d done", faults, done)
			}
		})
	})
}

// Property 38: no storm at the start, whether or not the start of the jobs is known.
func TestFirstChecksArePaced(t *testing.T) {
	for name, opts := range map[string][]WaitOption{
		"unknown start": nil,
		"same start":    {StartedAt(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))}, // a bubble's beginning
		"past start":    {StartedAt(time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC))},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, f := startFake(t, always(completed))
				n := 0
				for _, err := range c.WaitAll(t.Context(), Jobs(ids(5000)...), opts...) {
					if err != nil {
						t.Fatal(err)
					}
					n++
				}
				first := time.Duration(0)
				if name == "same start" {
					first = 10 * time.Second
				}
				at := slices.Sorted(slices.Values(f.all))
				for i, at := range at {
					if want := first + time.Duration(max(0, i-63))*2*time.Millisecond; at != want {
						t.Fatalf("check %d at %v, want %v", i, at, want)
					}
				}
				if n != 5000 || f.peak > 64 {
					t.Errorf("%d results, %d in flight", n, f.peak)
				}
			})
		})
	}
	t.Run("a Wait is not held by that", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, always(completed))
			go func() {
				for range c.WaitAll(t.Context(), Jobs(ids(5000)...)) {
				}
			}()
			time.Sleep(time.Second)
			c.Wait(t.Context(), "4999")
			c.Wait(t.Context(), "other")
			if f.at("4999")[0] != time.Second || f.at("other")[0] != time.Second {
				t.Errorf("at %v and %v", f.at("4999"), f.at("other"))
			}
			c.Hint("4998")
			synctest.Wait()
			if at := f.at("4998"); len(at) != 1 || at[0] != time.Second {
				t.Errorf("hinted at %v", at)
			}
		})
	})
}

// Property 38: a hundred thousand jobs, each polled three times.
func TestHundredThousandJobs(t *testing.T) {
	n := 100_000
	if testing.Short() || race.Enabled {
		n = 5_000
	}
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, inTurn(pending, pending, completed), WithPolling(Constant(5*time.Minute)))
		began := 0
		for st, err := range c.WaitAll(t.Context(), Jobs(ids(n)...)) {
			if err != nil || st.State != StateCompleted {
				t.Fatal(st, err)
			}
			began++
		}
		if began != n || f.total() != 3*n || f.peak > 64 {
			t.Errorf("%d results, %d requests, %d in flight", began, f.total(), f.peak)
		}
		if r := f.rate(time.Second); r > 600 {
			t.Errorf("up to %d requests a second", r)
		}
	})
}

// A countingContext counts how often it is looked at.
type countingContext struct {
	context.Context
	looks *atomic.Int64
}

func (c countingContext) Err() error { c.looks.Add(1); return c.Context.Err() }

// Property 101: what a crowd that waits for one job costs grows with the crowd
// and not with its square, whether they come one by one or in one WaitAll.
func TestCrowdOnOneJob(t *testing.T) {
	n := 100_000
	if testing.Short() || race.Enabled {
		n = 5_000
	}
	bubble(t, func(t *testing.T) {
		// A crowd that comes, and one half of which leaves, between two polls.
		c, f := startFake(t, doneAt(30*time.Minute), WithPolling(Constant(time.Hour)))
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute) // a last poll is to be planned for each
		defer cancel()
		leaving, leave := context.WithCancel(ctx)
		var looks atomic.Int64
		var wg sync.WaitGroup
		var done, left atomic.Int32
		for i := range n {
			ctx := countingContext{ctx, &looks}
			if i%2 == 0 {
				ctx.Context = leaving
			}
			wg.Go(func() {
				switch _, err := c.Wait(ctx, "a"); {
				case err == nil:
					done.Add(1)
				case errors.Is(err, context.Canceled):
					left.Add(1)
				}
			})
		}
		time.Sleep(time.Minute)
		leave()
		wg.Wait()
		if int(done.Load()) != n/2 || int(left.Load()) != n/2 || f.total() != 2 {
			t.Errorf("%d of %d done, %d left, %d requests", done.Load(), n, left.Load(), f.total())
		}
		if k := looks.Load(); k > 20*int64(n) {
			t.Errorf("%d callers were looked at %d times", n, k)
		}
	})
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, doneAt(time.Second))
		got := 0
		for _, err := range c.WaitAll(t.Context(), func(yield func(Job) bool) {
			for range n {
				if !yield(Job{ID: "a"}) {
					return
				}
			}
		}) {
			if err != nil {
				t.Fatal(err)
			}
			got++
		}
		if got != n || f.total() != 2 {
			t.Errorf("%d results, %d requests", got, f.total())
		}
	})
}

// Property 102: jobs of a WaitAll that its context interrupts come out in the order in which they were given.
func TestInterruptedJobsKeepTheirOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _ := startFake(t, func(id string, n int, at time.Duration) fakeReply {
			if id == "3" || id == "7" {
				return completed
			}
			return pending
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var got []string
		for st, err := range c.WaitAll(ctx, Jobs("0", "1", "2", "1", "3", "4", "5", "6", "7", "8")) {
			if errors.Is(err, context.DeadlineExceeded) {
				got = append(got, st.JobID)
			}
		}
		if want := []string{"0", "1", "2", "1", "4", "5", "6", "8"}; !slices.Equal(got, want) {
			t.Errorf("interrupted: %v, want %v", got, want)
		}
	})
}

// Callbacks run one at a time on the caller's goroutine and under no lock: they may call back in.
func TestCallbacksMayCallTheClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _ := startFake(t, func(id string, n int, at time.Duration) fakeReply {
			if n == 2 {
				return fakeReply{code: 503}
			}
			return doneAt(30*time.Second)(id, n, at)
		})
		ctx := t.Context()
		busy, depth, calls := false, 0, 0
		inside := func() {
			if busy {
				t.Error("two callbacks at once")
			}
			if calls++; depth > 0 {
				return
			}
			busy, depth = true, 1
			defer func() { busy, depth = false, 0 }()
			c.Hint("a")
			if _, err := c.Status(ctx, "a"); err != nil {
				t.Log(err)
			}
			c.Wait(ctx, fmt.Sprint("other", calls))
			for range c.WaitAll(ctx, Jobs("x", "y")) {
				break
			}
			for range c.Watch(ctx, "a") {
				break
			}
		}
		opts := []WaitOption{OnProgress(func(Status) { inside() }), OnError(func(error) { inside() })}
		if _, err := c.Wait(ctx, "a", opts...); err != nil {
			t.Error(err)
		}
		for _, err := range c.WaitAll(ctx, Jobs("p", "q", "p"), opts...) {
			if err != nil {
				t.Error(err)
			}
			inside()
		}
		if calls < 5 {
			t.Errorf("%d calls", calls)
		}
	})
}

// recovered runs f on a goroutine of its own and returns how that ended.
func recovered(f func()) (end string) {
	done := make(chan string, 1)
	go func() {
		end := "goexit"
		defer func() {
			if r := recover(); r != nil {
				end = fmt.Sprint("panic: ", r)
			}
			done <- end
		}()
		f()
		end = "returned"
	}()
	return <-done
}

// A panic or a Goexit in a callback is the caller's, and cleans up.
func TestCallbackThatDoesNotReturn(t *testing.T) {
	for name, bad := range map[string]func(){"panic: oops": func() { panic("oops") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, f := startFake(t, func(id string, n int, at time.Duration) fakeReply {
					if id == "faulty" {
						return fakeReply{code: 503}
					}
					return doneAt(time.Minute)(id, n, at)
				})
				ctx := t.Context()
				other := make(chan error, 1)
				go func() {
					_, err := c.Wait(ctx, "a")
					other <- err
				}()
				onProgress, onError := OnProgress(func(Status) { bad() }), OnError(func(error) { bad() })
				for call, f := range map[string]func(){
					"Wait":          func() { c.Wait(ctx, "b", onProgress) },
					"Wait, OnError": func() { c.Wait(ctx, "faulty", onError) },
					"Wait, shared":  func() { c.Wait(ctx, "a", onProgress) },
					"Watch": func() {
						for range c.Watch(ctx, "c", onProgress) {
						}
					},
					"Watch's loop": func() {
						for range c.Watch(ctx, "c") {
							bad()
						}
					},
					"WaitAll": func() {
						for range c.WaitAll(ctx, Jobs("d", "e"), onProgress) {
						}
					},
					"WaitAll's loop": func() {
						for range c.WaitAll(ctx, Jobs("d", "..")) {
							bad()
						}
					},
				} {
					if end := recovered(f); end != name {
						t.Errorf("%s: %s", call, end)
					}
				}
				if err := <-other; err != nil {
					t.Error(err)
				}
				synctest.Wait()
				n := f.total()
				if time.Sleep(time.Hour); f.total() != n {
					t.Error("polling goes on")
				}
			})
		})
	}
}

type learnerFunc struct {
	Backoff
	learn func(Completion)
}

func (l learnerFunc) Learn(c Completion) { l.learn(c) }

// What the caller plugs in may panic or end the goroutine: the callers get it as an error, the engine goes on.
func TestPluggedInPartThatDoesNotReturn(t *testing.T) {
	every := Constant(10 * time.Second)
	for _, goexit := range []bool{false, true} {
		bad := func() {
			if goexit {
				runtime.Goexit()
			}
			panic("oops")
		}
		for name, opts := range map[string][]Option{
			"Decode": {WithEndpoint(Endpoint{Decode: func(a Answer) (Status, error) { bad(); return Status{}, nil }})},
			"Backoff.Next": {WithPolling(backoffFunc(func(Attempt) (time.Duration, bool) {
				bad()
				return 0, false
			}))},
			"Learner.Learn":       {WithPolling(learnerFunc{every, func(Completion) { bad() }})},
			"Trace.Sent":          {WithTrace(Trace{Sent: func(context.Context, TraceInfo) { bad() }})},
			"Trace.Answered":      {WithTrace(Trace{Answered: func(context.Context, TraceInfo) { bad() }})},
			"Trace.Scheduled":     {WithTrace(Trace{Scheduled: func(context.Context, TraceInfo) { bad() }})},
			"WithRequest":         {WithRequest(func(*http.Request) error { bad(); return nil })},
			"WithRetry":           {WithRetry(backoffFunc(func(Attempt) (time.Duration, bool) { bad(); return 0, true }))},
			"Learn when given up": {WithPolling(learnerFunc{every, func(Completion) { bad() }}), WithHeader("X-Never", "done")},
		} {
			t.Run(fmt.Sprint(name, map[bool]string{true: " ends the goroutine"}[goexit]), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					c, _ := startFake(t, func(id string, n int, _ time.Duration) fakeReply {
						switch {
						case name == "Learn when given up":
							return pending
						case name == "WithRetry" && n == 2:
							return fakeReply{code: 503}
						case n == 3:
							return completed
						}
						return pending
					}, append(opts, WithMaxInFlight(1))...)
					var mu sync.Mutex
					hit := 0
					note := func(end string, err error) {
						mu.Lock()
						defer mu.Unlock()
						var w *WaitError
						if strings.Contains(end, "oops") || end == "goexit" || err != nil && !errors.As(err, &w) {
							hit++
						}
					}
					var wg sync.WaitGroup
					for i := range 30 {
						wg.Go(func() {
							var err error
							id := fmt.Sprint(i / 2)
							end := recovered(func() {
								switch i % 3 {
								case 0:
									ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
									defer cancel()
									_, err = c.Wait(ctx, id)
								case 1:
									for _, err = range c.Watch(t.Context(), id) {
										if time.Now().Year() == 2000 && time.Now().Minute() > 0 {
											break
										}
									}
								case 2:
									for _, e := range c.WaitAll(t.Context(), slices.Values([]Job{{ID: id, Deadline: time.Now().Add(time.Minute)}})) {
										err = e
									}
								}
							})
							note(end, err)
						})
					}
					wg.Wait()
					// All callers of a job are hit. Any of them delivers its completion, and
					// one may deliver several.
					if lesson := strings.HasPrefix(name, "Learn"); !lesson && hit != 30 || lesson && (hit < 1 || hit > 15) {
						t.Errorf("%d of 30 learnt of it", hit)
					}
					// No lock is held, no place in flight is taken.
					for range 10 {
						recovered(func() {
							ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
							defer cancel()
							c.Wait(ctx, "x")
						})
						recovered(func() { c.Hint("x") })
					}
				})
			})
		}
	}
	t.Run("the others go on", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, doneAt(time.Minute), WithMaxInFlight(1), WithRequest(func(r *http.Request) error {
				if strings.HasSuffix(r.URL.Path, "bad") {
					panic("oops")
				}
				return nil
			}))
			done := make(chan error)
			go func() {
				_, err := c.Wait(t.Context(), "good")
				done <- err
			}()
			time.Sleep(5 * time.Second)
			end := recovered(func() { c.Wait(t.Context(), "bad") })
			if !strings.HasPrefix(end, `panic: vtclient: job "bad": panic in a poll: oops`) || !strings.Contains(end, "polls_test.go") {
				t.Errorf("the waiter's end: %s", end)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	})
}

// A caller that leaves holds an error that does not change any more.
func TestLeaverHoldsAFinishedError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		asked := make(chan bool)
		c, _ := startFake(t, inTurn(fakeReply{code: 503}, completed), WithRetry(backoffFunc(func(Attempt) (time.Duration, bool) {
			asked <- true
			time.Sleep(time.Second)
			return 5 * time.Second, true
		})))
		ctx, cancel := context.WithCancel(t.Context())
		other := make(chan error)
		go func() {
			_, err := c.Wait(t.Context(), "a")
			other <- err
		}()
		synctest.Wait()
		left := make(chan error)
		go func() {
			_, err := c.Wait(ctx, "a")
			left <- err
		}()
		<-asked
		synctest.Wait()
		cancel()
		err := <-left
		text := err.Error()
		if err := <-other; err != nil {
			t.Error(err)
		}
		if err.Error() != text {
			t.Errorf("the error was %s\nand is %s", text, err)
		}
	})
}

// Property 42 and the section Hint.
func TestHint(t *testing.T) {
	hintAt := func(c *Client, at ...float64) {
		for _, d := range seconds(at...) {
			time.AfterFunc(d, func() { c.Hint("a") })
		}
	}
	s := time.Second
	for _, tt := range []struct {
		name    string
		answer  func(string, int, time.Duration) fakeReply
		hints   []float64
		waits   []WaitOption
		want    []float64
		started bool
	}{
		{"is followed at once", doneAt(3 * s), []float64{4}, nil, []float64{0, 4}, false},
		{"in flight is answered by a check that began after it", inTurn(fakeReply{takes: 5 * s}, completed), []float64{2}, nil, []float64{0, 5}, false},
		{"leaves the schedule running from its check", doneAt(13 * s), []float64{4}, nil, []float64{0, 4, 14}, false},
		{"has a least gap per job", doneAt(6.5e9), []float64{4, 4.1, 4.2, 4.3, 5.2, 5.9, 6.6}, nil, []float64{0, 4, 5, 6, 7}, false},
		{"does not undercut the floor of polling", doneAt(6e6), []float64{0.005}, nil, []float64{0, .01}, false},
		{"does not delay what is due sooner", doneAt(9 * s), []float64{9.5, 9.9}, nil, []float64{0, 9.5}, false},
		{"goes past the schedule of a known start", doneAt(2 * s), []float64{3}, nil, []float64{3}, true},
		{"leaves the floor of a 429", inTurn(fakeReply{code: 429, retryAfter: 20 * s}, completed), []float64{5, 6}, nil, []float64{0, 20}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, f := startFake(t, tt.answer)
				hintAt(c, tt.hints...)
				opts := tt.waits
				if tt.started {
					opts = append(opts, StartedAt(time.Now()))
				}
				if _, err := c.Wait(t.Context(), "a", opts...); err != nil {
					t.Error(err)
				}
				wantTimes(t, f.at("a"), tt.want...)
				time.Sleep(time.Minute)
			})
		})
	}
	t.Run("for a job without a wait does nothing", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, always(pending))
			c.Hint("a")
			ctx, cancel := context.WithTimeout(t.Context(), 5*s)
			defer cancel()
			c.Wait(ctx, "b")
			c.Hint("b")
			time.Sleep(time.Minute)
			wantTimes(t, f.at("a"))
			wantTimes(t, f.at("b"), 0, 4.98)
		})
	})
	t.Run("past a cached pending answer", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, doneAt(3*s), WithCache(NewMemoryCache[Status](1)), WithCacheTTL(time.Hour, time.Hour))
			hintAt(c, 4)
			if st, err := c.Wait(t.Context(), "a"); err != nil || st.Cached {
				t.Error(st, err)
			}
			wantTimes(t, f.at("a"), 0, 4)
		})
	})
	t.Run("again and again costs one check a second", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, doneAt(20*s), WithPolling(Constant(time.Hour)))
			go func() {
				for range 3000 {
					c.Hint("a")
					time.Sleep(10 * time.Millisecond)
				}
			}()
			c.Wait(t.Context(), "a")
			if n := f.total(); n > 22 {
				t.Errorf("%d requests", n)
			}
			time.Sleep(time.Minute)
		})
	})
}

// What a Learner gets.
func TestWhatALearnerGets(t *testing.T) {
	s := time.Second
	for _, tt := range []struct {
		name   string
		answer func(string, int, time.Duration) fakeReply
		hint   float64
		limit  time.Duration
		opts   []WaitOption
		want   []Completion
	}{
		{"the interval in which the job ended", doneAt(25 * s), 0, 0, nil, []Completion{{PendingAt: 20 * s, DoneBy: 30 * s}}},
		{"that of a failed job alike", inTurn(pending, fakeReply{state: "error"}), 0, 0, nil, []Completion{{DoneBy: 10 * s, Failed: true}}},
		{"ages, where the start is known", doneAt(9 * s), 0, 0, []WaitOption{StartedAt(time.Date(1999, 12, 31, 23, 59, 56, 0, time.UTC)), Expect(time.Minute)},
			[]Completion{{PendingAt: 10 * s, DoneBy: 20 * s, Expected: time.Minute}}},
		{"times at which a pending answer was asked for and the last one came", func(_ string, n int, _ time.Duration) fakeReply {
			return fakeReply{takes: s, state: map[bool]string{true: "completed"}[n == 2]}
		}, 0, 0, nil, []Completion{{DoneBy: 12 * s}}},
		{"nothing of a job that is over at the first look", doneAt(0), 0, 0, nil, nil},
		{"but if its start is known", doneAt(0), 0, 0, []WaitOption{StartedAt(time.Date(1999, 12, 31, 23, 59, 0, 0, time.UTC))}, []Completion{{DoneBy: time.Minute}}},
		{"what was given up", doneAt(time.Hour), 0, 25 * s, nil, []Completion{{PendingAt: 24980 * time.Millisecond}}},
		{"nothing of what was given up unseen", always(fakeReply{code: 503}), 0, 25 * s, nil, nil},
		{"nor where its start is known", always(fakeReply{code: 503}), 0, 25 * s, []WaitOption{StartedAt(time.Date(1999, 12, 31, 23, 59, 56, 0, time.UTC))}, nil},
		{"no hint of what was given up", inTurn(pending, fakeReply{code: 503}), 5, 8 * s, nil, []Completion{{}}},
		{"what was learnt through a hint", doneAt(13 * s), 14, 0, nil, []Completion{{PendingAt: 10 * s, DoneBy: 14 * s, Hinted: true}}},
		{"not what came after one", doneAt(15 * s), 14, 0, nil, []Completion{{PendingAt: 14 * s, DoneBy: 24 * s}}},
		{"the hint too where its check meets a fault", inTurn(pending, fakeReply{code: 503}, completed), 5, 0, nil, []Completion{{DoneBy: 6 * s, Hinted: true}}},
		{"what a final error ends", inTurn(pending, pending, fakeReply{code: 404}), 0, 0, nil, []Completion{{PendingAt: 10 * s}}},
	} {
		for _, call := range []string{"Wait", "WaitAll", "Watch"} {
			t.Run(tt.name+" by "+call, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					var reported []Completion
					c, _ := startFake(t, tt.answer, WithPolling(learnerFunc{Constant(10 * s), func(c Completion) { reported = append(reported, c) }}))
					ctx, cancel := context.WithCancel(t.Context())
					if tt.limit > 0 {
						ctx, cancel = context.WithTimeout(ctx, tt.limit)
					}
					defer cancel()
					if tt.hint > 0 {
						time.AfterFunc(seconds(tt.hint)[0], func() { c.Hint("a") })
					}
					switch call {
					case "Wait":
						c.Wait(ctx, "a", tt.opts...)
					case "WaitAll":
						for range c.WaitAll(ctx, Jobs("a", "a"), tt.opts...) {
						}
					case "Watch":
						for range c.Watch(ctx, "a", tt.opts...) {
						}
					}
					if !slices.Equal(reported, tt.want) {
						t.Errorf("got %+v, want %+v", reported, tt.want)
					}
				})
			})
		}
	}
	t.Run("what the loop was left with, taken or not", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			reported := map[Completion]int{}
			c, _ := startFake(t, func(id string, n int, _ time.Duration) fakeReply {
				if n > 1 && id < "5" {
					return completed
				}
				return pending
			}, WithPolling(learnerFunc{Constant(10 * s), func(c Completion) { reported[c]++ }}))
			for range c.WaitAll(t.Context(), Jobs(ids(10)...)) {
				time.Sleep(time.Second)
				break
			}
			if reported[Completion{DoneBy: 10 * s}] != 5 || reported[Completion{PendingAt: 10 * s}] != 5 {
				t.Errorf("reported %v", reported)
			}
		})
	})
	t.Run("the age known pending, by a start that is learnt later", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			var reported []Completion
			c, _ := startFake(t, doneAt(5*s), WithPolling(learnerFunc{Constant(10 * s), func(c Completion) { reported = append(reported, c) }}))
			go c.Wait(t.Context(), "a")
			time.Sleep(3 * s)
			c.Wait(t.Context(), "a", StartedAt(time.Now().Add(-time.Minute)))
			synctest.Wait()
			if want := []Completion{{PendingAt: 57 * s, DoneBy: 67 * s}}; !slices.Equal(reported, want) {
				t.Errorf("got %+v, want %+v", reported, want)
			}
		})
	})
	t.Run("a job's own deadline", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			var reported []Completion
			c, _ := startFake(t, always(pending), WithPolling(learnerFunc{Constant(10 * s), func(c Completion) { reported = append(reported, c) }}))
			for range c.WaitAll(t.Context(), slices.Values([]Job{{ID: "a", Deadline: time.Now().Add(15 * s)}})) {
			}
			if want := []Completion{{PendingAt: 14980 * time.Millisecond}}; !slices.Equal(reported, want) {
				t.Errorf("got %+v, want %+v", reported, want)
			}
		})
	})
}

// A client that is made outside of a bubble works in one, and in the next, and outside again.
func TestClientAcrossBubbles(t *testing.T) {
	c, f := startFake(t, inTurn(pending, completed), WithPolling(Constant(10*time.Second)))
	for i := range 2 {
		bubble(t, func(t *testing.T) {
			start := time.Now()
			id := fmt.Sprint("in bubble ", i)
			if _, err := c.Wait(t.Context(), id); err != nil || time.Since(start) != 10*time.Second {
				t.Errorf("Wait: %v after %v", err, time.Since(start))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := c.Wait(ctx, id+" late"); err != nil {
				t.Error(err)
			}
			if at := f.at(id + " late"); len(at) != 2 || at[1]-at[0] != 4980*time.Millisecond {
				t.Errorf("polled at %v", at)
			}
		})
	}
	if _, err := c.Wait(t.Context(), "in bubble 0"); err != nil {
		t.Error(err)
	}
}
