package contract_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// Property 61: a loop body that pauses once holds its jobs up for that time and no longer.
func TestAnIdleCallerGetsAllOfItsJobsPolled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const jobs = 3000
		c, f := startFake(t, func(id string, n int, at time.Duration) fakeReply {
			if len(id) == 3 && at > time.Minute { // 900 end while the loop body pauses
				return completed
			}
			return pending
		})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		ended, paused := 0, time.Duration(0)
		start := time.Now()
		for _, err := range c.WaitAll(ctx, Jobs(ids(jobs)...)) {
			if err != nil {
				continue
			}
			if ended++; ended == 1 {
				time.Sleep(10 * time.Minute)
				paused = time.Since(start)
			}
		}
		if ended != 900 {
			t.Errorf("%d of 900 results", ended)
		}
		for _, id := range ids(jobs) {
			at := f.at(id)
			if i := slices.IndexFunc(at, func(at time.Duration) bool { return at > paused }); len(id) != 3 && (i < 0 || at[i] > paused+20*time.Second) {
				t.Fatalf("job %s is polled at %v, not again within two rounds of %v", id, at, paused)
			}
		}
	})
}

// Property 61: a consumer that is slower than the polls gets those of all jobs in turn.
func TestASlowConsumerStarvesNoJob(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const jobs = 500
		long := 4 * time.Hour
		if race.Enabled { // the race detector is slow, and finds as much in less
			long = 20 * time.Minute
		}
		c, f := startFake(t, func(id string, n int, at time.Duration) fakeReply {
			if len(id) == 1 && at > long/4 {
				return completed
			}
			return pending
		})
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		ended := 0
		for _, err := range c.WaitAll(ctx, Jobs(ids(jobs)...), OnProgress(func(Status) { time.Sleep(50 * time.Millisecond) })) {
			if err == nil {
				ended++
			}
		}
		if ended != 10 {
			t.Errorf("%d of 10 finished jobs reported", ended)
		}
		least, most := 1<<30, 0
		for _, id := range ids(jobs) {
			if len(id) > 1 {
				n := len(f.at(id))
				least, most = min(least, n), max(most, n)
			}
		}
		if round := 25 * time.Second; least < int(long/round)*8/10 || most > least+least/10+2 {
			t.Errorf("polled %d to %d times", least, most)
		}
	})
}

// Property 60: a WaitAll that takes all of the requests in flight holds up neither a Wait nor
// a Hint for longer than an exchange.
func TestAWaitAllHoldsUpNoOtherCaller(t *testing.T) {
	for _, tt := range []struct {
		name string
		wait func(ctx context.Context, c *Client, f *fakeBackend) (checked time.Duration)
	}{
		{"a Wait", func(ctx context.Context, c *Client, f *fakeBackend) time.Duration {
			c.Wait(ctx, "x")
			return f.at("x")[0]
		}},
		{"a Wait with a deadline", func(ctx context.Context, c *Client, f *fakeBackend) time.Duration {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			c.Wait(ctx, "x")
			if at := f.at("x"); len(at) < 6 || at[len(at)-1] < 4*time.Minute+45*time.Second {
				return time.Hour
			}
			return f.at("x")[0]
		}},
		{"a Hint", func(_ context.Context, c *Client, f *fakeBackend) time.Duration {
			before := len(f.at("5000"))
			c.Hint("5000")
			time.Sleep(5 * time.Second)
			if at := f.at("5000"); len(at) > before {
				return at[before]
			}
			return time.Hour
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, f := startFake(t, func(id string, n int, at time.Duration) fakeReply {
					re := fakeReply{takes: time.Second}
					if id == "x" && n == 8 {
						re.state = "completed"
					}
					return re
				})
				ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
				defer cancel()
				var wg sync.WaitGroup
				wg.Go(func() {
					for range c.WaitAll(ctx, Jobs(ids(10_000)...)) {
					}
				})
				time.Sleep(4 * time.Minute)
				if d := tt.wait(ctx, c, f) - 4*time.Minute; d < 0 || d > 2*time.Second {
					t.Errorf("asked about after %v", d)
				}
				wg.Wait()
			})
		})
	}
}

// Property 62: last polls before a deadline that very many share fit before it, as many as the
// bound in flight and the latency allow.
func TestLastPollsFitBeforeTheDeadline(t *testing.T) {
	for _, tt := range []struct {
		takes    time.Duration
		reported int // at least
	}{{0, 14_900}, {50 * time.Millisecond, 14_500}, {200 * time.Millisecond, 4_500}} {
		if race.Enabled && tt.takes != 50*time.Millisecond {
			continue
		}
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, func(id string, n int, at time.Duration) fakeReply {
				re := fakeReply{takes: tt.takes}
				if at >= 45*time.Second {
					re.state = "completed"
				}
				return re
			}, WithPolling(Constant(time.Hour)))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ended, interrupted := 0, 0
			for _, err := range c.WaitAll(ctx, Jobs(ids(20_000)...)) {
				if err == nil {
					ended++
				} else {
					interrupted++
				}
			}
			if ended+interrupted != 20_000 || ended < tt.reported {
				t.Errorf("with an exchange of %v, %d ended and %d interrupted", tt.takes, ended, interrupted)
			}
			if n := f.rate(time.Second); n > 1064 {
				t.Errorf("with an exchange of %v, up to %d requests a second", tt.takes, n)
			}
		})
	}
}

// Property 63: waits for single jobs come back from a refusal at their own pace, whatever
// else waits.
func TestSingleWaitsComeBackFromARefusalAtTheirOwnPace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var open atomic.Bool
		refuse := breakerFunc(func() (func(error), error) {
			if open.Load() {
				return nil, retryError(2 * time.Second)
			}
			return func(error) {}, nil
		})
		// All second polls of the WaitAll come at 2 min, and are refused.
		c, f := startFake(t, always(pending), WithPolling(Constant(2*time.Minute)), WithBreaker(refuse), WithMaxInFlight(10_000))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			for range c.WaitAll(ctx, Jobs(ids(10_000)...)) {
			}
		})
		time.Sleep(2*time.Minute - time.Millisecond)
		open.Store(true)
		time.Sleep(2 * time.Millisecond)
		for i := range 20 {
			wg.Go(func() { c.Wait(ctx, fmt.Sprint("single", i)) })
		}
		time.Sleep(time.Second)
		open.Store(false)
		time.Sleep(time.Minute)
		for i := range 20 {
			if at := f.at(fmt.Sprint("single", i)); len(at) != 1 || at[0] > 2*time.Minute+3*time.Second {
				t.Errorf("wait %d is asked about at %v", i, at)
			}
		}
		cancel()
		wg.Wait()
	})
}

type retryError time.Duration

func (e retryError) Error() string             { return "open" }
func (e retryError) RetryAfter() time.Duration { return time.Duration(e) }

// Property 62: one last poll serves all deadlines of a job of which it falls into the last tenth.
func TestManyDeadlinesOnOneJobShareLastPolls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(pending), WithPolling(Constant(10*time.Minute)))
		var wg sync.WaitGroup
		for range 600 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				if _, err := c.Wait(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
			time.Sleep(100 * time.Millisecond)
		}
		wg.Wait()
		at := f.at("a")
		if len(at) > 40 {
			t.Errorf("%d requests", len(at))
		}
		for i := range 600 { // each wait has a poll in the last tenth of its time
			end := time.Duration(i)*100*time.Millisecond + 30*time.Second
			if !slices.ContainsFunc(at, func(at time.Duration) bool { return at >= end-3*time.Second && at < end }) {
				t.Errorf("no poll in the last tenth before %v: %v", end, at)
			}
		}
	})
}

// Property 64: what one job's caller plugs in reaches no other job that shared its request.
func TestOneJobsTroubleIsNoOtherJobs(t *testing.T) {
	running := func(at time.Duration) string {
		if at < 15*time.Second {
			return "processing"
		}
		return "completed"
	}
	t.Run("a Backoff that panics", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := &bulkBackend{state: func(_ string, at time.Duration) string { return running(at) }}
			var calls atomic.Int32
			c := startBulk(t, b, WithPolling(backoffFunc(func(Attempt) (time.Duration, bool) {
				if calls.Add(1) == 7 {
					panic("oops")
				}
				return 10 * time.Second, true
			})))
			var wg sync.WaitGroup
			var panicked, completed atomic.Int32
			for i := range 50 {
				wg.Go(func() {
					defer func() {
						if recover() != nil {
							panicked.Add(1)
						}
					}()
					if _, err := c.Wait(t.Context(), fmt.Sprint(i)); err == nil {
						completed.Add(1)
					}
				})
			}
			wg.Wait()
			if panicked.Load() != 1 || completed.Load() != 49 {
				t.Errorf("%d panicked, %d completed", panicked.Load(), completed.Load())
			}
		})
	})
	t.Run("a trace that is slow", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := &bulkBackend{state: func(_ string, at time.Duration) string { return running(at) }}
			var slow atomic.Bool
			c := startBulk(t, b, WithPolling(Constant(10*time.Second)), WithTrace(Trace{Scheduled: func(context.Context, TraceInfo) {
				if slow.CompareAndSwap(false, true) {
					time.Sleep(time.Hour)
				}
			}}))
			start := time.Now()
			n := 0
			for _, err := range c.WaitAll(t.Context(), Jobs(ids(50)...)) {
				if n++; err != nil || time.Since(start) > time.Minute {
					t.Errorf("job %d ended after %v: %v", n, time.Since(start), err)
				}
			}
			if n != 50 {
				t.Errorf("%d ended", n)
			}
			time.Sleep(time.Hour)
		})
	})
	t.Run("a trace that is slow, nor the job's own", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			var slow atomic.Bool
			c, f := startFake(t, doneAt(25*time.Second), WithTrace(Trace{Scheduled: func(context.Context, TraceInfo) {
				if slow.CompareAndSwap(false, true) {
					time.Sleep(time.Hour)
				}
			}}))
			if _, err := c.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			wantTimes(t, f.at("a"), 0, 10, 20, 30)
			time.Sleep(time.Hour)
		})
	})
	t.Run("a cache that is slow", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := &bulkBackend{state: func(string, time.Duration) string { return "failed" }}
			c := startBulk(t, b, WithCache(slowCache{100 * time.Millisecond}))
			var wg sync.WaitGroup
			for i := range 100 {
				wg.Go(func() {
					start := time.Now()
					if _, err := c.Wait(t.Context(), fmt.Sprint(i)); !errors.Is(err, ErrJobFailed) || time.Since(start) > time.Second {
						t.Errorf("after %v: %v", time.Since(start), err)
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Minute) // what is left to be put into the cache
		})
	})
}

// A slowCache holds nothing, and takes its time.
type slowCache struct{ takes time.Duration }

func (c slowCache) Get(context.Context, string) (st Status, ok bool, err error) {
	time.Sleep(c.takes)
	return st, false, nil
}

func (c slowCache) Set(context.Context, string, Status, time.Duration) error {
	time.Sleep(c.takes)
	return nil
}

// Property 67: one absurd start stops nothing from being learnt.
func TestAnAbsurdStartHoldsUpNoCompletion(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		learnt := 0
		l := countingLearner{Constant(10 * time.Second), func() { mu.Lock(); learnt++; mu.Unlock() }}
		c, _ := startFake(t, func(id string, n int, _ time.Duration) fakeReply {
			if id != "absurd" && n > 3 || id == "ancient" {
				return completed
			}
			return pending
		}, WithPolling(l))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Hour)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { c.Wait(ctx, "absurd", StartedAt(time.Unix(0, 0))) })
		wg.Go(func() { c.Wait(ctx, "ancient", StartedAt(time.Unix(0, 0))) })
		synctest.Wait()
		for range c.WaitAll(ctx, Jobs(ids(3000)...)) {
		}
		time.Sleep(10 * time.Minute)
		c.Wait(ctx, "more")
		synctest.Wait()
		mu.Lock()
		n := learnt
		mu.Unlock()
		if n < 3000 {
			t.Errorf("%d of 3000 completions are learnt", n)
		}
		cancel()
		wg.Wait()
	})
}

type countingLearner struct {
	Constant
	learn func()
}

func (l countingLearner) Learn(Completion) { l.learn() }

// Property 65: a caller's context is asked under no lock.
func TestAContextMayCallTheClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _ := startFake(t, doneAt(25*time.Second))
		parent, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ctx := callingContext{parent, func() { c.Hint("a") }}
		if _, err := c.Wait(ctx, "a"); err != nil {
			t.Error(err)
		}
		for _, err := range c.WaitAll(ctx, slices.Values([]Job{{ID: "a"}, {ID: "b", Deadline: time.Now().Add(time.Second)}})) {
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// A callingContext calls a function in each of its methods.
type callingContext struct {
	context.Context
	called func()
}

func (c callingContext) Err() error                  { c.called(); return c.Context.Err() }
func (c callingContext) Deadline() (time.Time, bool) { c.called(); return c.Context.Deadline() }
func (c callingContext) Done() <-chan struct{}       { c.called(); return c.Context.Done() }
func (c callingContext) Value(key any) any           { c.called(); return c.Context.Value(key) }

// Property 65: the caller's code may ask about any other job, however much of it does so at once.
func TestTracesMayWaitForOtherJobs(t *testing.T) {
	for name, option := range map[string]func(ask func(id string)) Option{
		"Answered": func(ask func(string)) Option {
			return WithTrace(Trace{Answered: func(_ context.Context, i TraceInfo) { ask(i.JobID) }})
		},
		"Scheduled": func(ask func(string)) Option {
			return WithTrace(Trace{Scheduled: func(_ context.Context, i TraceInfo) { ask(i.JobID) }})
		},
		"WithPolling": func(ask func(string)) Option {
			return WithPolling(backoffFunc(func(Attempt) (time.Duration, bool) { ask(""); return time.Second, true }))
		},
		"WithRetry": func(ask func(string)) Option {
			return WithRetry(backoffFunc(func(Attempt) (time.Duration, bool) { ask(""); return time.Second, true }))
		},
		"WithCache": func(ask func(string)) Option {
			return WithCache(askingCache{NewMemoryCache[Status](100), ask})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var c *Client
				var asked atomic.Int32
				opt := option(func(id string) {
					if n := asked.Add(1); n <= 32 && !strings.HasPrefix(id, "other") {
						if _, err := c.Wait(t.Context(), fmt.Sprint("other", n)); err != nil {
							t.Error(err)
						}
						if _, err := c.Status(t.Context(), fmt.Sprint("otherstatus", n)); err != nil {
							t.Error(err)
						}
					}
				})
				c, _ = startFake(t, func(id string, n int, at time.Duration) fakeReply {
					re := pending
					switch {
					case n == 3 || strings.HasPrefix(id, "other"):
						re = completed
					case n == 2:
						re = fakeReply{code: 503}
					}
					re.takes = time.Second // so that eight are under way at once
					return re
				}, WithMaxInFlight(8), opt)
				start := time.Now()
				var wg sync.WaitGroup
				for i := range 16 {
					wg.Go(func() {
						if _, err := c.Wait(t.Context(), fmt.Sprint(i)); err != nil || time.Since(start) > time.Minute {
							t.Errorf("after %v: %v", time.Since(start), err)
						}
					})
				}
				wg.Wait()
				if n := asked.Load(); n < 16 {
					t.Errorf("%d times", n)
				}
			})
		})
	}
}

// An askingCache calls a function before it stores.
type askingCache struct {
	Cache[Status]
	ask func(id string)
}

func (c askingCache) Set(ctx context.Context, id string, st Status, ttl time.Duration) error {
	c.ask(id)
	return c.Cache.Set(ctx, id, st, ttl)
}

// No last poll is made for a deadline of a caller that has left.
func TestNoLastPollForACallerThatHasLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, doneAt(5*time.Minute), WithPolling(Constant(10*time.Minute)))
		var wg sync.WaitGroup
		wg.Go(func() { c.Wait(t.Context(), "a") })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		wg.Go(func() { c.Wait(ctx, "a") })
		time.Sleep(30 * time.Second)
		cancel()
		wg.Wait()
		wantTimes(t, f.at("a"), 0, 600)
	})
}

// The feeding of a WaitAll takes as long with a slow cache as without one.
func TestASlowCacheDoesNotSlowDownTheFeeding(t *testing.T) {
	bubble(t, func(t *testing.T) {
		feeding := func(opts ...Option) time.Duration {
			c, f := startFake(t, always(completed), opts...)
			start := time.Now()
			n := 0
			for st, err := range c.WaitAll(t.Context(), Jobs(ids(10_000)...)) {
				if n++; err != nil || st.Cached {
					t.Error(err)
				}
			}
			if n != 10_000 || f.total() != n {
				t.Errorf("%d ended with %d requests", n, f.total())
			}
			return time.Since(start)
		}
		without, with := feeding(), feeding(WithCache(slowCache{5 * time.Millisecond}))
		if with > without+time.Second {
			t.Errorf("%v with a cache, %v without", with, without)
		}
	})
}

// After the loop was left, the next yield of a sequence returns false, with a slow cache, too.
func TestASequenceWithASlowCacheIsEndedAtItsNextYield(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for range 20 {
			c, _ := startFake(t, always(completed), WithCache(slowCache{5 * time.Millisecond}))
			var yields atomic.Int32
			for range c.WaitAll(t.Context(), func(yield func(Job) bool) {
				for yield(Job{ID: "a"}) {
					yields.Add(1)
					time.Sleep(time.Second)
				}
			}) {
				break
			}
			time.Sleep(10 * time.Second)
			if n := yields.Load(); n > 2 {
				t.Fatalf("%d jobs were taken", n)
			}
		}
	})
}

// Property 68: what remains is in proportion to what waits.
func TestLeavingIsLeftToTheBackground(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(pending), WithHTTPClient(&http.Client{Transport: &fakeBackend{answer: always(pending), start: time.Now(), seen: map[string][]time.Duration{}}}))
		n := 0
		for range c.WaitAll(t.Context(), func(yield func(Job) bool) {
			for _, id := range ids(5000) {
				if !yield(Job{ID: id}) {
					return
				}
			}
			yield(Job{ID: "x", Expect: -1}) // is refused
		}) {
			if n++; n == 1 {
				break
			}
		}
		synctest.Wait()
		if err := leftovers(c); err != nil {
			t.Error(err)
		}
		before := f.total()
		time.Sleep(time.Minute)
		if f.total() != before {
			t.Errorf("%d requests after leaving", f.total()-before)
		}
	})
}

// A Learner that panics where many jobs that were left are learnt, in the background, panics in
// the next wait, once.
func TestALearnerThatPanicsInTheBackground(t *testing.T) {
	for _, at := range []int32{100, 200} { // of 200
		bubble(t, func(t *testing.T) {
			var learnt atomic.Int32
			c, _ := startFake(t, func(id string, _ int, _ time.Duration) fakeReply {
				if id == "over" {
					return completed
				}
				return pending
			}, WithPolling(countingLearner{Constant(10 * time.Second), func() {
				if learnt.Add(1) == at {
					panic("oops")
				}
			}}))
			for range c.WaitAll(t.Context(), Jobs(append(ids(200), "over")...)) {
				break
			}
			synctest.Wait()
			for _, want := range []any{"oops", nil} {
				func() {
					defer func() {
						if r := recover(); r != want {
							t.Errorf("after lesson %d: recovered %v, want %v", at, r, want)
						}
					}()
					if _, err := c.Wait(t.Context(), "over"); err != nil {
						t.Error(err)
					}
				}()
			}
			if synctest.Wait(); learnt.Load() != 200 {
				t.Errorf("%d lessons", learnt.Load())
			}
		})
	}
}

// A Learner that panics ends the wait on whose goroutine it was called, and the polling for it.
func TestALearnerThatPanicsLeavesNoWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, func(id string, _ int, _ time.Duration) fakeReply {
			if id == "x" {
				return completed
			}
			return pending
		}, WithPolling(countingLearner{Constant(10 * time.Second), func() { panic("oops") }}))
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { recover() }() // from what b's end teaches
			for range c.WaitAll(t.Context(), slices.Values([]Job{{ID: "x"}, {ID: "a", Deadline: time.Now().Add(5 * time.Second)}})) {
				time.Sleep(time.Hour) // the end of a is learnt on another goroutine
				break
			}
		})
		synctest.Wait()
		func() {
			defer func() {
				if r := recover(); r != "oops" {
					t.Errorf("recovered %v", r)
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			c.Wait(ctx, "b", OnProgress(func(Status) {}))
		}()
		wg.Wait()
		wantTimes(t, f.at("b"), 0, 10)
		if synctest.Wait(); leftovers(c) != nil {
			t.Error(leftovers(c))
		}
	})
}
