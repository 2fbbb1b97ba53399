package contract_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// learnt returns an Adaptive that has learnt jobs of about three minutes, or of so many times
// their estimate.
func learnt(expected time.Duration) *vtclient.Adaptive {
	r := rand.New(rand.NewPCG(1, 2))
	a := vtclient.NewAdaptive(time.Second)
	for range 300 {
		d := time.Duration(180e9 * math.Exp(r.NormFloat64()/2))
		a.Learn(vtclient.Completion{PendingAt: d - 5*time.Second, DoneBy: d, Expected: expected})
	}
	return a
}

// OnOverdue is called once for each job, when it takes longer than 99 of 100 like it.
func TestOverdue(t *testing.T) {
	const minute = time.Minute
	p99 := func(expected time.Duration) time.Duration {
		return learnt(expected).Explain(vtclient.Attempt{Expected: expected}).P99
	}
	t.Logf("P99 %v; with an estimate %v", p99(0), p99(minute))
	for _, tt := range []struct {
		name    string
		polling vtclient.Backoff
		takes   time.Duration // the job; 0: for ever
		opts    []vtclient.WaitOption
		want    time.Duration // after the start of the wait; 0: never
	}{
		{"what is learnt", learnt(0), 0, nil, p99(0)},
		{"from the start that the caller gives", learnt(0), 0, []vtclient.WaitOption{vtclient.StartedAt(time.Unix(946684800, 0).Add(-2 * minute))}, p99(0) - 2*minute},
		{"what is learnt from estimates", learnt(minute), 0, []vtclient.WaitOption{vtclient.Expect(minute)}, p99(minute)},
		{"an estimate, and nothing learnt", vtclient.NewAdaptive(time.Second), 0, []vtclient.WaitOption{vtclient.Expect(minute)}, 3 * minute},
		{"an estimate, and a Backoff that does not learn", vtclient.Constant(time.Hour), 0, []vtclient.WaitOption{vtclient.Expect(minute)}, 3 * minute},
		{"nothing to go by", vtclient.Constant(time.Minute), 0, nil, 3 * time.Hour},
		{"nothing learnt yet", vtclient.NewAdaptive(time.Second), 0, nil, 3 * time.Hour},
		{"an absurd estimate", vtclient.Constant(time.Minute), 0, []vtclient.WaitOption{vtclient.Expect(math.MaxInt64)}, 0},
		{"a job that ends in time", learnt(0), 5 * minute, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &limitedAPI{ends: map[string]time.Time{}}
				if tt.takes == 0 {
					tt.takes = 1000 * time.Hour
				}
				began := time.Now()
				api.submit("j", tt.takes)
				c := stubbed(t, api.RoundTrip, vtclient.WithPolling(tt.polling))
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Hour)
				defer cancel()
				var called []time.Duration
				opts := append(tt.opts, vtclient.OnOverdue(func(st vtclient.Status, f vtclient.Forecast) {
					called = append(called, time.Since(began))
					if st.JobID != "j" || st.State != vtclient.StatePending || (f.Jobs != 0) != (f.P99 != 0 && tt.want != 3*minute && tt.want != 3*time.Hour) {
						t.Errorf("%v, %+v", st, f)
					}
				}))
				seen := 0
				for range c.Watch(ctx, "j", opts...) {
					seen++
				}
				if tt.want == 0 && called != nil || tt.want != 0 && (len(called) != 1 || (called[0]-tt.want).Abs() > time.Millisecond) {
					t.Errorf("called after %v, want %v", called, tt.want)
				}
				if asked := api.n; seen > asked+1 {
					t.Errorf("%d observations of %d answers", seen, asked)
				}
			})
		})
	}
}

// A job that was over before the wait began is not overdue, however long ago it began; one
// that is pending is at once.
func TestOverdueBeforeTheWait(t *testing.T) {
	for takes, want := range map[time.Duration]int{time.Minute: 0, 20 * time.Hour: 1} {
		synctest.Test(t, func(t *testing.T) {
			api := &limitedAPI{ends: map[string]time.Time{}}
			api.submit("j", takes)
			began := time.Now()
			time.Sleep(10 * time.Hour)
			c := stubbed(t, api.RoundTrip, vtclient.WithPolling(learnt(0)))
			n := 0
			resumed := time.Now()
			if _, err := c.Wait(t.Context(), "j", vtclient.StartedAt(began), vtclient.OnOverdue(func(vtclient.Status, vtclient.Forecast) {
				if n++; time.Since(resumed) > 10*time.Second {
					t.Errorf("after %v", time.Since(resumed))
				}
			})); err != nil || n != want {
				t.Errorf("called %d times, want %d; %v", n, want, err)
			}
		})
	}
}

// Each wait is called for, and each job of a WaitAll, on the caller's goroutine, while the
// backend is down, too.
func TestOverdueOfManyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &limitedAPI{ends: map[string]time.Time{}}
		for _, id := range []string{"0", "1", "2"} {
			api.submit(id, 30*time.Minute)
		}
		api.submit("3", time.Minute)
		c := stubbed(t, api.RoundTrip, vtclient.WithPolling(vtclient.Constant(time.Minute)), vtclient.WithBreaker(nil))
		time.AfterFunc(90*time.Second, func() { api.mu.Lock(); defer api.mu.Unlock(); api.faults = 1 })
		time.AfterFunc(5*time.Minute, func() { api.mu.Lock(); defer api.mu.Unlock(); api.faults = 0 })
		began := time.Now()
		var mu sync.Mutex
		var called []string
		note := func(wait string) vtclient.WaitOption {
			return vtclient.OnOverdue(func(st vtclient.Status, _ vtclient.Forecast) {
				mu.Lock()
				defer mu.Unlock()
				called = append(called, fmt.Sprint(wait, st.JobID, " ", time.Since(began)))
			})
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, err := range c.WaitAll(t.Context(), vtclient.Jobs("0", "1", "2", "2", "3"), vtclient.Expect(time.Minute), note("all ")) {
				if err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() { c.Wait(t.Context(), "0", vtclient.Expect(time.Minute), note("one ")) })
		wg.Go(func() { // joins when the job is overdue already
			time.Sleep(10 * time.Minute)
			c.Wait(t.Context(), "0", vtclient.Expect(time.Minute), note("late "))
		})
		wg.Go(func() { // has no time left for one of its jobs
			time.Sleep(time.Minute)
			for range c.WaitAll(t.Context(), slices.Values([]vtclient.Job{{ID: "1", Deadline: began}, {ID: "0"}}), vtclient.Expect(time.Minute), note("more ")) {
			}
		})
		wg.Go(func() { // leaves before
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			c.Wait(ctx, "1", vtclient.Expect(time.Minute), note("left "))
		})
		wg.Wait()
		slices.Sort(called)
		if want := []string{"all 0 3m0s", "all 1 3m0s", "all 2 3m0s", "late 0 10m0s", "more 0 3m0s", "one 0 3m0s"}; !slices.Equal(called, want) {
			t.Errorf("%q", called)
		}
	})
}

// What is learnt meanwhile counts.
func TestOverdueByWhatIsLearntMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &limitedAPI{ends: map[string]time.Time{}}
		api.submit("j", 1000*time.Hour)
		a := vtclient.NewAdaptive(time.Second)
		c := stubbed(t, api.RoundTrip, vtclient.WithPolling(a))
		time.AfterFunc(time.Minute, func() {
			for range 100 {
				a.Learn(vtclient.Completion{PendingAt: 19 * time.Minute, DoneBy: 20 * time.Minute, Expected: time.Minute})
			}
		})
		began, n := time.Now(), 0
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Hour)
		defer cancel()
		c.Wait(ctx, "j", vtclient.Expect(time.Minute), vtclient.OnOverdue(func(_ vtclient.Status, f vtclient.Forecast) {
			n++
			if after := time.Since(began); f.Jobs != 100 || after < 19*time.Minute || after > time.Hour {
				t.Errorf("after %v, %+v", after, f)
			}
		}))
		if n != 1 {
			t.Errorf("called %d times", n)
		}
	})
}

// A slow loop body loses no call, though another wait keeps the poll going.
func TestOverdueDuringASlowLoopBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &limitedAPI{ends: map[string]time.Time{}}
		api.submit("j", 2*time.Hour)
		c := stubbed(t, api.RoundTrip, vtclient.WithPolling(vtclient.Constant(time.Minute)))
		go c.Wait(t.Context(), "j")
		calls := 0
		for range c.Watch(t.Context(), "j", vtclient.Expect(time.Minute), vtclient.OnOverdue(func(vtclient.Status, vtclient.Forecast) { calls++ })) {
			time.Sleep(20 * time.Minute)
		}
		if calls != 1 {
			t.Errorf("%d calls", calls)
		}
	})
}

// A slow consumer loses no call.
func TestOverdueOfASlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &limitedAPI{ends: map[string]time.Time{}}
		for i := range 2000 {
			api.submit(fmt.Sprint(i), 10*time.Minute)
		}
		c := stubbed(t, api.RoundTrip, vtclient.WithPolling(vtclient.Constant(time.Minute)))
		calls, first := map[string]int{}, true
		for _, err := range c.WaitAll(t.Context(), someJobs(2000), vtclient.Expect(time.Minute),
			vtclient.OnProgress(func(vtclient.Status) {
				if first {
					first = false
					time.Sleep(5 * time.Minute)
				}
			}),
			vtclient.OnOverdue(func(st vtclient.Status, _ vtclient.Forecast) { calls[st.JobID]++ })) {
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		for id, n := range calls {
			if n != 1 {
				t.Errorf("job %s: %d calls", id, n)
			}
		}
		if len(calls) < 1700 { // all but what had not been looked at before it was over
			t.Errorf("%d calls", len(calls))
		}
	})
}
