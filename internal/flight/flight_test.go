package flight

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A tries is what these tests carry from leader to leader.
type tries struct{ made int }

type tryGroup = Group[string, tries]

// result is how one call of Do ended.
type result struct {
	v      string
	shared bool
	err    error
}

// A runner counts the runs of its function, each of which takes a second and
// then returns its number, or the end of its context before that.
type runner struct {
	runs, running, most atomic.Int64
}

func (r *runner) run(ctx context.Context, _ string, carry *tries) (string, error) {
	n := r.runs.Add(1)
	if now := r.running.Add(1); now > r.most.Load() {
		r.most.Store(now)
	}
	defer r.running.Add(-1)
	carry.made++
	select {
	case <-time.After(time.Second):
		return fmt.Sprintf("run %d, try %d", n, carry.made), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// checkIdle checks that f has forgotten all its calls.
func checkIdle[V, C any](t *testing.T, f *Group[V, C]) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.calls) != 0 {
		t.Errorf("%d calls are left over", len(f.calls))
	}
}

func TestFlightSimultaneousCallsShareARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f      tryGroup
			r      runner
			wg     sync.WaitGroup
			shared atomic.Int64
		)
		start := time.Now()
		for range 1000 {
			wg.Go(func() {
				v, sh, err := f.Do(t.Context(), "job", r.run)
				if v != "run 1, try 1" || err != nil {
					t.Errorf("got %q, %v", v, err)
				}
				if sh {
					shared.Add(1)
				}
			})
		}
		wg.Wait()
		if r.runs.Load() != 1 || shared.Load() != 999 || time.Since(start) != time.Second {
			t.Errorf("%d runs, %d shared, in %v", r.runs.Load(), shared.Load(), time.Since(start))
		}
		checkIdle(t, &f)
	})
}

func TestFlightErrorOfTheRunIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f    tryGroup
			runs atomic.Int64
			wg   sync.WaitGroup
		)
		broken := errors.New("broken")
		for range 10 {
			wg.Go(func() {
				v, _, err := f.Do(t.Context(), "job", func(context.Context, string, *tries) (string, error) {
					runs.Add(1)
					time.Sleep(time.Second)
					return "partly", broken
				})
				if v != "partly" || err != broken {
					t.Errorf("got %q, %v", v, err)
				}
			})
		}
		wg.Wait()
		if runs.Load() != 1 {
			t.Errorf("%d runs", runs.Load())
		}
		checkIdle(t, &f)
	})
}

func TestFlightLaterCallRunsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f tryGroup
		var r runner
		for i := 1; i <= 5; i++ {
			v, shared, err := f.Do(t.Context(), "job", r.run)
			// Try 1 each time: nothing is carried over from a call that is over.
			if want := fmt.Sprintf("run %d, try 1", i); v != want || shared || err != nil {
				t.Errorf("call %d: %q, %t, %v, want %q", i, v, shared, err, want)
			}
			checkIdle(t, &f)
		}
	})
}

// After the result is out, and before its followers have all woken up, the run is over.
func TestFlightFollowersReturnedNeverSeeALaterRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f  tryGroup
			r  runner
			wg sync.WaitGroup
		)
		for range 100 {
			wg.Go(func() {
				for i := 1; i <= 20; i++ {
					begun := r.runs.Load()
					v, _, err := f.Do(t.Context(), "job", r.run)
					var run, try int64
					if _, serr := fmt.Sscanf(v, "run %d, try %d", &run, &try); serr != nil || err != nil {
						t.Errorf("got %q, %v", v, err)
					} else if run < begun {
						t.Errorf("run %d answered a call that began during run %d", run, begun)
					}
				}
			})
		}
		wg.Wait()
		if r.most.Load() != 1 {
			t.Errorf("%d runs at once", r.most.Load())
		}
		checkIdle(t, &f)
	})
}

// Property 34.
func TestFlightDistinctKeysNeverShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f  tryGroup
			wg sync.WaitGroup
		)
		for i := range 300 {
			key := fmt.Sprint(i % 100)
			wg.Go(func() {
				for range 10 {
					v, _, err := f.Do(t.Context(), key, func(context.Context, string, *tries) (string, error) {
						time.Sleep(time.Second)
						return key, nil
					})
					if v != key || err != nil {
						t.Errorf("key %s: %q, %v", key, v, err)
					}
				}
			})
		}
		wg.Wait()
		checkIdle(t, &f)
	})
}

// The uncontended path: no goroutine and no detached context.
func TestFlightLeaderRunsOnItsOwnGoroutineWithItsOwnContext(t *testing.T) {
	var f tryGroup
	ctx := t.Context()
	pcs := make([]uintptr, 64)
	f.Do(ctx, "job", func(got context.Context, _ string, _ *tries) (string, error) {
		if got != ctx {
			t.Error("fn was given another context")
		}
		frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs)])
		for {
			frame, more := frames.Next()
			if strings.HasSuffix(frame.Function, ".TestFlightLeaderRunsOnItsOwnGoroutineWithItsOwnContext") {
				return "", nil
			}
			if !more {
				t.Error("fn does not run on the goroutine of its caller")
				return "", nil
			}
		}
	})
}

func TestFlightUncontendedCallAllocatesNothing(t *testing.T) {
	var f tryGroup
	ctx := t.Context()
	fn := func(context.Context, string, *tries) (string, error) { return "", nil }
	var mine error = LeaderError{errors.New("mine")}
	if n := testing.AllocsPerRun(1000, func() { f.Do(ctx, "job", fn) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	leave := func(context.Context, string, *tries) (string, error) { return "", mine }
	if n := testing.AllocsPerRun(1000, func() { f.Do(ctx, "job", leave) }); n != 0 {
		t.Errorf("%v allocations of a leader that leaves", n)
	}
}

// Property 32: a caller that cancels does not fail the others.
func TestFlightLeaderThatLeavesHurtsNoFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f  tryGroup
			r  runner
			wg sync.WaitGroup
		)
		leader, cancel := context.WithCancel(t.Context())
		var got result
		start := time.Now()
		wg.Go(func() { got.v, got.shared, got.err = f.Do(leader, "job", r.run) })
		synctest.Wait()
		var ran atomic.Int64
		for range 100 {
			wg.Go(func() {
				v, shared, err := f.Do(t.Context(), "job", r.run)
				// Try 2: what was carried survived.
				if v != "run 2, try 2" || err != nil {
					t.Errorf("follower: %q, %v", v, err)
				}
				if !shared {
					ran.Add(1)
				}
			})
		}
		time.Sleep(time.Second / 2)
		cancel()
		wg.Wait()
		if got.v != "" || got.shared || got.err != context.Canceled {
			t.Errorf("leader: %+v", got)
		}
		if r.runs.Load() != 2 || ran.Load() != 1 || r.most.Load() != 1 {
			t.Errorf("%d runs, %d by followers, %d at once", r.runs.Load(), ran.Load(), r.most.Load())
		}
		if d := time.Since(start); d != 1500*time.Millisecond {
			t.Errorf("took %v", d)
		}
		checkIdle(t, &f)
	})
}

// Property 32: at most one more run for each leader that left.
func TestFlightEachLeaderThatLeavesCostsOneMoreRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f  tryGroup
			r  runner
			wg sync.WaitGroup
		)
		const leavers = 20
		var cancels [leavers]context.CancelFunc
		leads := make(chan int, leavers) // the leader now
		for i := range leavers {
			var ctx context.Context
			ctx, cancels[i] = context.WithCancel(t.Context())
			wg.Go(func() {
				_, shared, err := f.Do(ctx, "job", func(ctx context.Context, _ string, carry *tries) (string, error) {
					leads <- i
					return r.run(ctx, "job", carry)
				})
				if shared || err != context.Canceled {
					t.Errorf("leaver %d: %t, %v", i, shared, err)
				}
			})
		}
		synctest.Wait()
		// A caller that leaves while leading, again and again, and one that stays.
		for range leavers - 1 {
			cancels[<-leads]()
			synctest.Wait()
		}
		wg.Go(func() {
			v, _, err := f.Do(t.Context(), "job", r.run)
			if want := fmt.Sprintf("run %d, try %[1]d", leavers+1); v != want || err != nil {
				t.Errorf("the caller that stayed: %q, %v, want %q", v, err, want)
			}
		})
		synctest.Wait()
		cancels[<-leads]()
		wg.Wait()
		if n := r.runs.Load(); n != leavers+1 {
			t.Errorf("%d runs for %d leavers", n, leavers)
		}
		checkIdle(t, &f)
	})
}

// Property 32: each follower obeys its own context, and costs nothing when it leaves.
func TestFlightFollowerObeysItsOwnContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f  tryGroup
			r  runner
			wg sync.WaitGroup
		)
		wg.Go(func() {
			if v, _, err := f.Do(t.Context(), "job", r.run); v != "run 1, try 1" || err != nil {
				t.Errorf("leader: %q, %v", v, err)
			}
		})
		synctest.Wait()
		start := time.Now()
		for i := range 100 {
			wg.Go(func() {
				d := time.Duration(i) * time.Millisecond
				ctx, cancel := context.WithTimeout(t.Context(), d)
				defer cancel()
				v, shared, err := f.Do(ctx, "job", r.run)
				if v != "" || shared || err != context.DeadlineExceeded || time.Since(start) != d {
					t.Errorf("timeout %v: %q, %t, %v after %v", d, v, shared, err, time.Since(start))
				}
			})
		}
		wg.Wait()
		if r.runs.Load() != 1 {
			t.Errorf("%d runs", r.runs.Load())
		}
		checkIdle(t, &f)
	})
}

// Property 32: the last one to leave cancels the request.
func TestFlightLastToLeaveCancelsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f  tryGroup
			r  runner
			wg sync.WaitGroup
		)
		ctx, cancel := context.WithCancel(t.Context())
		for range 10 {
			wg.Go(func() {
				if _, _, err := f.Do(ctx, "job", r.run); err != context.Canceled {
					t.Errorf("got %v", err)
				}
			})
		}
		time.Sleep(time.Second / 4)
		start := time.Now()
		cancel()
		wg.Wait()
		if time.Since(start) != 0 || r.running.Load() != 0 || r.runs.Load() != 1 {
			t.Errorf("after %v: %d runs, %d still running", time.Since(start), r.runs.Load(), r.running.Load())
		}
		checkIdle(t, &f)
		// And the key is free again.
		if v, _, err := f.Do(t.Context(), "job", r.run); v != "run 2, try 1" || err != nil {
			t.Errorf("the next call: %q, %v", v, err)
		}
	})
}

// A call whose followers have all left serves again, with the channel that they
// waited at: neither they nor what they were sent must show in the next one.
func TestFlightCallServesAgainAfterItsFollowersLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f  tryGroup
			r  runner
			wg sync.WaitGroup
		)
		for round := 1; round <= 10; round++ {
			begin := func(after, left time.Duration, want result) {
				wg.Go(func() {
					time.Sleep(after)
					ctx, cancel := context.WithTimeout(t.Context(), left)
					defer cancel()
					var got result
					if got.v, got.shared, got.err = f.Do(ctx, "job", r.run); got != want {
						t.Errorf("round %d, begun after %v: %+v, want %+v", round, after, got, want)
					}
				})
			}
			late := context.DeadlineExceeded
			// The first leads and leaves, the second is promoted, the third leaves before that one has its answer.
			n := int(r.runs.Load())
			begin(0, 100*time.Millisecond, result{"", false, late})
			begin(1, time.Hour, result{fmt.Sprintf("run %d, try 2", n+2), false, nil})
			time.Sleep(200 * time.Millisecond)
			begin(0, 100*time.Millisecond, result{"", false, late})
			wg.Wait()
			checkIdle(t, &f)
		}
		if f.nfree != 1 {
			t.Errorf("%d free calls after calls in turn, want the one", f.nfree)
		}
	})
}

// Property 11.
func TestFlightContextDoneBeforeRunsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f tryGroup
		var r runner
		done, cancel := context.WithCancel(t.Context())
		cancel()
		check := func(when string, runs int64) {
			if _, _, err := f.Do(done, "job", r.run); err != context.Canceled || r.runs.Load() != runs {
				t.Errorf("%s: %v, %d runs", when, err, r.runs.Load())
			}
		}
		check("alone", 0)
		go f.Do(t.Context(), "job", r.run)
		synctest.Wait()
		check("beside a run", 1)
		time.Sleep(time.Second)
		synctest.Wait()
		check("after a run", 1)
		checkIdle(t, &f)
	})
}

// A follower is promoted at the instant at which its own context ends: it runs
// nothing, and the lead goes on to the next.
func TestFlightPromotionOfALeavingFollower(t *testing.T) {
	for round := range 50 { // select takes its cases in random order
		synctest.Test(t, func(t *testing.T) {
			var (
				f  tryGroup
				r  runner
				wg sync.WaitGroup
			)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
			defer cancel()
			for range 5 {
				wg.Go(func() {
					if _, shared, err := f.Do(ctx, "job", r.run); shared || err != context.DeadlineExceeded {
						t.Errorf("the caller that leaves: %t, %v", shared, err)
					}
				})
			}
			synctest.Wait()
			stays := round%2 == 0
			if stays {
				wg.Go(func() {
					if v, _, err := f.Do(t.Context(), "job", r.run); v != "run 2, try 2" || err != nil {
						t.Errorf("the caller that stays: %q, %v", v, err)
					}
				})
			}
			wg.Wait()
			want := int64(1)
			if stays {
				want = 2
			}
			if r.runs.Load() != want {
				t.Errorf("%d runs, want %d", r.runs.Load(), want)
			}
			checkIdle(t, &f)
		})
	}
}

// A lateContext has ended, but its Done is not closed yet.
type lateContext struct {
	context.Context
	ended atomic.Bool
}

func (c *lateContext) Err() error {
	if c.ended.Load() {
		return context.Canceled
	}
	return nil
}

// The same, with the promotion first for certain.
func TestFlightPromotedWithAContextThatIsDoneRunsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f  tryGroup
			r  runner
			wg sync.WaitGroup
		)
		leader, cancel := context.WithCancel(t.Context())
		wg.Go(func() { f.Do(leader, "job", r.run) })
		synctest.Wait()
		late := &lateContext{Context: t.Context()}
		wg.Go(func() {
			if _, shared, err := f.Do(late, "job", r.run); shared || err != context.Canceled {
				t.Errorf("the follower that was promoted too late: %t, %v", shared, err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if v, shared, err := f.Do(t.Context(), "job", r.run); v != "run 2, try 2" || shared || err != nil {
				t.Errorf("the next: %q, %t, %v", v, shared, err)
			}
		})
		synctest.Wait()
		late.ended.Store(true)
		cancel()
		wg.Wait()
		checkIdle(t, &f)
	})
}

// A follower that leaves after another one was promoted does not take the run with it: a caller
// that comes then still joins.
func TestFlightFollowerLeavesAfterAPromotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f  tryGroup
			r  runner
			wg sync.WaitGroup
		)
		within := func(d time.Duration, want string) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				defer cancel()
				if v, _, err := f.Do(ctx, "job", r.run); v != want || (err == nil) != (want != "") {
					t.Errorf("within %v: %q, %v, want %q", d, v, err, want)
				}
			})
			synctest.Wait()
		}
		within(100*time.Millisecond, "")  // leads
		within(time.Hour, "run 2, try 2") // is promoted
		within(200*time.Millisecond, "")  // leaves
		time.Sleep(300 * time.Millisecond)
		within(time.Hour, "run 2, try 2")
		wg.Wait()
		if r.most.Load() != 1 {
			t.Errorf("%d runs at once", r.most.Load())
		}
		checkIdle(t, &f)
	})
}

// A leader whose context ended after its answer has an answer for all.
func TestFlightAnswerOfALeaderThatIsLateIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f    tryGroup
			runs atomic.Int64
			wg   sync.WaitGroup
		)
		stubborn := func(context.Context, string, *tries) (string, error) {
			runs.Add(1)
			time.Sleep(time.Second)
			return "answer", nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		wg.Go(func() {
			if v, _, err := f.Do(ctx, "job", stubborn); v != "answer" || err != nil {
				t.Errorf("leader: %q, %v", v, err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if v, shared, err := f.Do(t.Context(), "job", stubborn); v != "answer" || !shared || err != nil {
				t.Errorf("follower: %q, %t, %v", v, shared, err)
			}
		})
		wg.Wait()
		if runs.Load() != 1 {
			t.Errorf("%d runs", runs.Load())
		}
		checkIdle(t, &f)
	})
}

// A result and the end of the follower's context at the same instant: either is
// right, but a result without its error, or the reverse, is not.
func TestFlightResultAtTheInstantOfTheEnd(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			var (
				f  tryGroup
				r  runner
				wg sync.WaitGroup
			)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			wg.Go(func() { f.Do(t.Context(), "job", r.run) })
			synctest.Wait()
			for range 10 {
				wg.Go(func() {
					v, shared, err := f.Do(ctx, "job", r.run)
					got := result{v, shared, err}
					if got != (result{"run 1, try 1", true, nil}) && got != (result{"", false, context.DeadlineExceeded}) {
						t.Errorf("got %+v", got)
					}
				})
			}
			wg.Wait()
			checkIdle(t, &f)
		})
	}
}

// A lateTimer is a context whose deadline has passed and whose timer has not fired.
type lateTimer struct {
	context.Context
	deadline time.Time
}

func (c lateTimer) Deadline() (time.Time, bool) { return c.deadline, true }

func TestFlightErrorAtTheDeadlineStaysWithTheLeader(t *testing.T) {
	for _, tt := range []struct {
		left time.Duration // until the leader's deadline, when it fails
		runs int64
	}{{0, 1}, {-1, 1}, {1, 0}} {
		synctest.Test(t, func(t *testing.T) {
			var (
				f  tryGroup
				r  runner
				wg sync.WaitGroup
			)
			timeout := errors.New("i/o timeout")
			wg.Go(func() {
				ctx := lateTimer{t.Context(), time.Now().Add(time.Second + tt.left)}
				_, _, err := f.Do(ctx, "job", func(context.Context, string, *tries) (string, error) {
					time.Sleep(time.Second)
					return "", timeout
				})
				if err != timeout {
					t.Errorf("%v left: leader: %v", tt.left, err)
				}
			})
			synctest.Wait()
			_, shared, err := f.Do(t.Context(), "job", r.run)
			if ran := tt.runs == 1; shared == ran || (err == nil) != ran || r.runs.Load() != tt.runs {
				t.Errorf("%v left: follower: %t, %v, %d runs", tt.left, shared, err, r.runs.Load())
			}
			wg.Wait()
			checkIdle(t, &f)
		})
	}
}

func TestFlightOwnErrorStaysWithTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f  tryGroup
			r  runner
			wg sync.WaitGroup
		)
		tooLate := errors.New("the next try would come too late")
		wg.Go(func() {
			_, _, err := f.Do(t.Context(), "job", func(context.Context, string, *tries) (string, error) {
				time.Sleep(time.Second)
				return "", LeaderError{tooLate}
			})
			if err != tooLate {
				t.Errorf("leader: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if v, shared, err := f.Do(t.Context(), "job", r.run); v != "run 1, try 1" || shared || err != nil {
				t.Errorf("follower: %q, %t, %v", v, shared, err)
			}
		})
		wg.Wait()
		checkIdle(t, &f)
	})
	if err := (LeaderError{context.Canceled}); !errors.Is(err, context.Canceled) {
		t.Error("a LeaderError hides what it marks")
	}
}

// Property 33.
func TestFlightPanicReleasesEveryone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f    tryGroup
			runs atomic.Int64
			wg   sync.WaitGroup
		)
		bug := errors.New("a bug")
		fn := func(context.Context, string, *tries) (string, error) {
			runs.Add(1)
			time.Sleep(time.Second)
			panic(bug)
		}
		wg.Go(func() {
			defer func() {
				if p := recover(); p != bug {
					t.Errorf("leader: recovered %v", p)
				}
			}()
			f.Do(t.Context(), "job", fn)
			t.Error("leader: do returned")
		})
		synctest.Wait()
		for range 10 {
			wg.Go(func() {
				v, shared, err := f.Do(t.Context(), "job", fn)
				var p *PanicError
				if v != "" || !shared || !errors.As(err, &p) || p.Value != bug || !strings.Contains(err.Error(), "a bug") {
					t.Errorf("follower: %q, %t, %v", v, shared, err)
				}
			})
		}
		wg.Wait()
		if runs.Load() != 1 {
			t.Errorf("%d runs", runs.Load())
		}
		checkIdle(t, &f)
		if v, _, err := f.Do(t.Context(), "job", new(runner).run); v != "run 1, try 1" || err != nil {
			t.Errorf("the next call: %q, %v", v, err)
		}
	})
}

// Property 33: alone, where the call is kept for another key.
func TestFlightPanicWithoutFollowersLeavesNothingBehind(t *testing.T) {
	var f tryGroup
	func() {
		defer func() {
			if recover() != "bug" {
				t.Error("no panic")
			}
		}()
		f.Do(t.Context(), "job", func(_ context.Context, _ string, carry *tries) (string, error) {
			carry.made = 5
			panic("bug")
		})
	}()
	checkIdle(t, &f)
	f.Do(t.Context(), "other", func(_ context.Context, _ string, carry *tries) (string, error) {
		if carry.made != 0 {
			t.Errorf("carried %d from another call", carry.made)
		}
		return "", nil
	})
	checkIdle(t, &f)
}

// With GODEBUG=panicnil=1 recover cannot distinguish panic(nil) from Goexit. It must at least
// not end as a success.
func TestFlightPanicNilIsNoSuccess(t *testing.T) {
	t.Setenv("GODEBUG", "panicnil=1")
	var f tryGroup
	v, shared, err := f.Do(t.Context(), "job", func(context.Context, string, *tries) (string, error) { panic(nil) })
	if err == nil {
		t.Errorf("got %q, %t, %v", v, shared, err)
	}
	checkIdle(t, &f)
}

// Property 33.
func TestFlightGoexitPromotesAFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f  tryGroup
			r  runner
			wg sync.WaitGroup
		)
		wg.Go(func() {
			f.Do(t.Context(), "job", func(_ context.Context, _ string, carry *tries) (string, error) {
				carry.made++
				time.Sleep(time.Second)
				runtime.Goexit()
				return "", nil
			})
			t.Error("leader: do returned")
		})
		synctest.Wait()
		for range 10 {
			wg.Go(func() {
				if v, _, err := f.Do(t.Context(), "job", r.run); v != "run 1, try 2" || err != nil {
					t.Errorf("follower: %q, %v", v, err)
				}
			})
		}
		wg.Wait()
		if r.runs.Load() != 1 {
			t.Errorf("%d more runs", r.runs.Load())
		}
		checkIdle(t, &f)
	})
}

// Property 33: every way to end, in one crowd: all return, no two runs of one key
// at once, no more runs than there are calls. Test itself fails if one hangs.
func TestFlightCrowd(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			var (
				f       tryGroup
				wg      sync.WaitGroup
				running [3]atomic.Int64
				began   = make(map[string]bool) // guarded by mu
				mu      sync.Mutex
				calls   atomic.Int64
				runs    atomic.Int64
			)
			for g := range uint64(64) {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(seed, g))
					for range 20 {
						time.Sleep(time.Duration(rng.IntN(8)) * time.Millisecond)
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rng.IntN(10))*time.Millisecond)
						key := rng.IntN(len(running))
						took, end := time.Duration(rng.IntN(5))*time.Millisecond, rng.IntN(10)
						inner := make(chan struct{})
						calls.Add(1)
						go func() { // Goexit ends the goroutine that it is called on
							defer close(inner)
							defer func() { recover() }()
							v, _, err := f.Do(ctx, fmt.Sprint(key), func(ctx context.Context, _ string, carry *tries) (string, error) {
								runs.Add(1)
								if n := running[key].Add(1); n != 1 {
									t.Errorf("%d runs of one key at once", n)
								}
								defer running[key].Add(-1)
								carry.made++
								select {
								case <-time.After(took):
								case <-ctx.Done():
									return "", ctx.Err()
								}
								switch end {
								case 0:
									panic("bug")
								case 1:
									runtime.Goexit()
								case 2:
									return "", LeaderError{errors.New("mine")}
								case 3:
									return "", errors.New("all of ours")
								}
								mu.Lock()
								defer mu.Unlock()
								v := fmt.Sprintf("%d %d", key, runs.Load())
								began[v] = true
								return v, nil
							})
							if err == nil {
								mu.Lock()
								if !began[v] || !strings.HasPrefix(v, fmt.Sprint(key)+" ") {
									t.Errorf("key %d: %q is not its result", key, v)
								}
								mu.Unlock()
							}
						}()
						<-inner
						cancel()
					}
				})
			}
			wg.Wait()
			if runs.Load() > calls.Load() {
				t.Errorf("%d runs for %d calls", runs.Load(), calls.Load())
			}
			checkIdle(t, &f)
		})
	}
}

// In real time, where the processor and not the clock decides which comes first.
func TestFlightCrowdInRealTime(t *testing.T) {
	var (
		f  Group[int, tries]
		wg sync.WaitGroup
		n  atomic.Int64
	)
	for g := range uint64(16) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(g, 0))
			for range 2000 {
				ctx, cancel := context.WithCancel(context.Background())
				stop := rng.IntN(4)
				if stop == 0 {
					go cancel()
				}
				before := n.Load()
				v, _, err := f.Do(ctx, "job", func(ctx context.Context, _ string, _ *tries) (int, error) {
					v := n.Add(1)
					for range rng.IntN(3) {
						runtime.Gosched()
					}
					return int(v), ctx.Err()
				})
				switch {
				case err != nil && (stop != 0 || err != context.Canceled):
					t.Errorf("got %v", err)
				case err == nil && int64(v) < before:
					t.Errorf("result %d for a call that began after run %d", v, before)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	checkIdle(t, &f)
}

// Calls that many began at once are not kept for ever.
func TestFlightKeepsFewFreeCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			f  tryGroup
			r  runner
			wg sync.WaitGroup
		)
		for i := range 1000 {
			wg.Go(func() { f.Do(t.Context(), fmt.Sprint(i), r.run) })
		}
		wg.Wait()
		n := 0
		for c := f.free; c != nil; c = c.next {
			n++
		}
		if n == 0 || n > maxFree || n != f.nfree {
			t.Errorf("%d free calls, counted %d, want at most %d", n, f.nfree, maxFree)
		}
	})
}
