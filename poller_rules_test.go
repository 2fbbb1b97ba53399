package vtclient_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/vtclient/vtclient"
)

// Who joins a wait that goes on is held to its own time as if it were alone: a
// last poll is made before its deadline, and the end comes at the deadline.
func TestAJoinersDeadlineIsKept(t *testing.T) {
	for _, own := range []bool{false, true} { // the job's own deadline, or the context's
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, doneAt(time.Minute))
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := c.Wait(t.Context(), "a"); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Second)
			start, ctx, job := time.Now(), t.Context(), Job{ID: "a"}
			if own {
				job.Deadline = start.Add(5 * time.Second)
			} else {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
			}
			for st, err := range c.WaitAll(ctx, slices.Values([]Job{job})) {
				var w *WaitError
				if !errors.As(err, &w) || !errors.Is(err, context.DeadlineExceeded) || st.State != StatePending || !st.CheckedAt.Equal(start.Add(4980*time.Millisecond)) {
					t.Errorf("%+v, %v", st, err)
				}
			}
			if took := time.Since(start); took != 5*time.Second {
				t.Errorf("took %v", took)
			}
			wg.Wait()
			wantTimes(t, f.at("a"), 0, 5.98, 15.98, 25.98, 35.98, 45.98, 55.98, 65.98)
		})
	}
}

// Who waits alone for a job that a WaitAll has in its queue of first checks is
// not held to that queue.
func TestAWaitDoesNotQueueWithAWaitAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(pending), WithMaxInFlight(1))
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			for range c.WaitAll(ctx, Jobs(ids(1000)...)) {
			}
		})
		time.Sleep(10 * time.Millisecond)
		wg.Go(func() { c.Wait(ctx, "900") })
		wg.Wait()
		if at := f.at("900"); len(at) == 0 || at[0] != 10*time.Millisecond {
			t.Errorf("polled at %v", at)
		}
		if at := f.at("899"); len(at) == 0 || at[0] < 1700*time.Millisecond {
			t.Errorf("the one before it was polled at %v", at)
		}
	})
}

// Of several starts that are given for a job the earliest counts, whoever comes first.
func TestTheEarliestStartCounts(t *testing.T) {
	for _, ages := range [][]time.Duration{{time.Minute, time.Second}, {time.Second, time.Minute}} {
		bubble(t, func(t *testing.T) {
			var told []Completion
			c, _ := startFake(t, inTurn(pending, completed), WithPolling(learnerFunc{Constant(10 * time.Second), func(c Completion) { told = append(told, c) }}))
			var wg sync.WaitGroup
			for _, age := range ages {
				wg.Go(func() { c.Wait(t.Context(), "a", StartedAt(time.Now().Add(-age))) })
				synctest.Wait()
			}
			wg.Wait()
			// The first poll is that of the first to come: at once after a minute, 9 s later after a second.
			pendingAt := time.Minute
			if want := []Completion{{PendingAt: pendingAt, DoneBy: pendingAt + 10*time.Second}}; !slices.Equal(told, want) {
				t.Errorf("ages %v: told %+v, want %+v", ages, told, want)
			}
		})
	}
}

// Of several estimates that are given for a job the first counts.
func TestTheFirstEstimateCounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told []time.Duration
		c, _ := startFake(t, inTurn(pending, completed), WithPolling(backoffFunc(func(a Attempt) (time.Duration, bool) {
			told = append(told, a.Expected)
			return 10 * time.Second, true
		})))
		var wg sync.WaitGroup
		for _, d := range []time.Duration{0, time.Minute, time.Hour} {
			wg.Go(func() { c.Wait(t.Context(), "a", Expect(d)) })
		}
		wg.Wait()
		for _, d := range told {
			if d != time.Minute && d != time.Hour {
				t.Errorf("told %v", told)
			}
		}
	})
}

// A Learner is told of a job before the caller has its result, whether that came
// or was given up, and not only when the last one is over.
func TestALearnerIsToldBeforeTheCaller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told []Completion
		c, _ := startFake(t, func(id string, n int, at time.Duration) fakeReply {
			if id == "0" {
				return doneAt(5*time.Second)(id, n, at)
			}
			return pending
		}, WithPolling(learnerFunc{Constant(10 * time.Second), func(c Completion) { told = append(told, c) }}))
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		n := 0
		for range c.WaitAll(ctx, Jobs(ids(10)...)) {
			if n++; len(told) < n {
				t.Errorf("told of %d jobs when number %d is handed over", len(told), n)
			}
		}
		if n != 10 || len(told) != 10 || told[0].DoneBy != 10*time.Second || told[9].DoneBy != 0 {
			t.Errorf("told %+v of %d", told, n)
		}
	})
}
