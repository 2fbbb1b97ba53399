package contract_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	. "github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// The properties of this file were found by reading the code as an attacker, as a slow network
// and as an impatient user. Each test states its property. Those below 101 are in the other
// files, 101 and 102 in polls_test.go, 103 and 104 in vtclient_internal_test.go.

// Property 105: appending to a Status's Body changes no other caller's.
func TestAppendingToABodyChangesNoOtherCopy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.JSON(200, `{"result":"completed","url":"longer"}`))
		c, _ := New(s.URL(), WithHTTPClient(s.Client()))
		var grown [][]byte
		for i := range 3 {
			st, err := c.Status(t.Context(), "a")
			if err != nil || cap(st.Body) != len(st.Body) {
				t.Fatalf("%v; %d bytes with room for %d", err, len(st.Body), cap(st.Body))
			}
			grown = append(grown, append(st.Body, byte('0'+i)))
		}
		for i, b := range grown {
			if b[len(b)-1] != byte('0'+i) {
				t.Errorf("body %d was overwritten: %s", i, b)
			}
		}
	})
}

// Property 106: however long the message of a pending answer is, of each job no more than 1 KiB of it is kept.
func TestMessageOfAPendingAnswerIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.JSON(200, `{"result":"pending","message":"é`+strings.Repeat("é", 100_000)+`"}`))
		c, _ := New(s.URL(), WithHTTPClient(s.Client()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		st, err := c.Wait(ctx, "a", OnProgress(func(st Status) {
			if n := len(st.Message); n > 1024 || n < 1000 || !utf8.ValidString(st.Message) {
				t.Errorf("reported a message of %d bytes", n)
			}
		}))
		if n := len(st.Message); !errors.Is(err, context.DeadlineExceeded) || n > 1024 || n < 1000 {
			t.Errorf("%v; a message of %d bytes", err, n)
		}
		if st, err := c.Status(t.Context(), "a"); err != nil || len(st.Message) > 1024 {
			t.Errorf("Status: %v; a message of %d bytes", err, len(st.Message))
		}
	})
}

// Property 107: a sequence that goes on for ever does not keep a WaitAll whose
// context is done, at whatever pace it goes.
func TestWaitAllEndsThoughItsSequenceGoesOn(t *testing.T) {
	for _, gap := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 99 * time.Millisecond, time.Hour} {
		t.Run(gap.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, _ := startFake(t, always(pending))
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				var read, got atomic.Int64
				start := time.Now()
				for _, err := range c.WaitAll(ctx, func(yield func(Job) bool) {
					for i := 0; time.Since(start) < 10*time.Hour && yield(Job{ID: fmt.Sprint(i)}); i++ {
						read.Add(1)
						time.Sleep(gap)
					}
				}) {
					got.Add(1)
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Fatal(err)
					}
				}
				if d := time.Since(start); d > 2100*time.Millisecond || read.Load()-got.Load() > 1 { // one may come as it ends
					t.Errorf("ended after %v, %d results for %d jobs", d, got.Load(), read.Load())
				}
				time.Sleep(2 * gap)
			})
		})
	}
}

// Property 108: a pending answer that was on its way while the job ended does not undo the end.
func TestALatePendingAnswerDoesNotUndoTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, inTurn(fakeReply{takes: 2 * time.Second}, completed),
			WithCache(NewMemoryCache[Status](10)), WithCacheTTL(time.Hour, time.Hour))
		late := make(chan Status)
		go func() {
			st, _ := c.Status(t.Context(), "a")
			late <- st
		}()
		time.Sleep(time.Second)
		if _, err := c.Wait(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if st := <-late; st.State != StatePending {
			t.Fatal(st)
		}
		if st, err := c.Status(t.Context(), "a"); err != nil || st.State != StateCompleted || f.total() != 2 {
			t.Errorf("after the end: %v, %v; %d requests", st.State, err, f.total())
		}
	})
}

// A callingError calls a function in each of its methods.
type callingError struct{ ask func() }

func (e callingError) Error() string   { e.ask(); return "nosy" }
func (e callingError) Is(error) bool   { e.ask(); return false }
func (e callingError) Unwrap() []error { e.ask(); return nil }

// Property 109: no method of an error that comes from the caller's own code is
// called under a lock of the client's.
func TestForeignErrorsAreAskedUnderNoLock(t *testing.T) {
	var c *Client
	nosy := callingError{func() {
		done := make(chan bool)
		go func() {
			c.Hint("a")
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("an error was asked for its text while the client was locked")
		}
	}}
	c, _ = startFake(t, always(pending), WithBreaker(breakerFunc(func() (func(error), error) { return nil, nosy })))
	for range 3 {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(20*time.Millisecond, func() { cancel(nosy) })
		_, err := c.Wait(ctx, "a")
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "let nothing through (nosy)") {
			t.Error(err)
		}
		for range c.WaitAll(ctx, Jobs("a", "b")) {
		}
		if t.Failed() {
			return
		}
	}
}

type untilError struct{ until time.Time }

func (e untilError) Error() string { return fmt.Sprint("again in ", time.Until(e.until)) }

// Property 110: the text of an error is the same whenever it is read.
func TestTheTextOfAnErrorDoesNotChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _ := startFake(t, always(pending), WithBreaker(breakerFunc(func() (func(error), error) {
			return nil, untilError{time.Now().Add(time.Hour)}
		})))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := c.Wait(ctx, "a")
		text := err.Error()
		var u untilError
		if !errors.As(err, &u) || !strings.Contains(text, "again in 1h0m0s") {
			t.Error(err)
		}
		if time.Sleep(time.Minute); err.Error() != text {
			t.Errorf("the error was %s\nand is %s", text, err)
		}
	})
}

// Property 111: the Status of a call that has ended announces no request to come.
func TestAnEndedStatusPromisesNoRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(fakeReply{code: 503}), WithRetry(Constant(time.Hour)))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := c.Status(ctx, "a")
		var h *HTTPError
		if !errors.Is(err, context.Canceled) || !errors.As(err, &h) || h.Next != 0 || strings.Contains(err.Error(), "next request") {
			t.Errorf("Status: %v", err)
		}
		time.Sleep(2 * time.Hour)
		wantTimes(t, f.at("a"), 0)
	})
}

// Property 112: a Limiter that never lets anything through, or that returns early since the
// time will not suffice, holds no caller beyond its time and costs no request.
func TestALimiterHoldsNoCallerBeyondItsTime(t *testing.T) {
	t.Run("blocks", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, always(pending), WithMaxInFlight(2), WithLimiter(limiterFunc(func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			})))
			var wg sync.WaitGroup
			for i := range 10 { // more than there are places in flight
				wg.Go(func() {
					limit := time.Duration(i+1) * time.Second
					own := []Job{{ID: fmt.Sprint("own", i), Deadline: time.Now().Add(limit)}}
					for _, err := range c.WaitAll(t.Context(), slices.Values(own)) {
						if !errors.Is(err, context.DeadlineExceeded) || time.Since(f.start) != limit {
							t.Errorf("WaitAll: %v after %v, not %v", err, time.Since(f.start), limit)
						}
					}
				})
				wg.Go(func() {
					limit := time.Duration(i+1) * time.Second
					ctx, cancel := context.WithTimeout(t.Context(), limit)
					defer cancel()
					if _, err := c.Wait(ctx, fmt.Sprint(i)); !errors.Is(err, context.DeadlineExceeded) || time.Since(f.start) != limit {
						t.Errorf("Wait: %v after %v, not %v", err, time.Since(f.start), limit)
					}
				})
			}
			wg.Wait()
			if f.total() != 0 {
				t.Errorf("%d requests", f.total())
			}
		})
	})
	t.Run("refuses early", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			early := errors.New("rate: Wait(n=1) would exceed context deadline")
			var from time.Time
			c, f := startFake(t, always(completed), WithLimiter(limiterFunc(func(ctx context.Context) error {
				if time.Now().Before(from) {
					return early
				}
				return nil
			})))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			from = time.Now().Add(time.Hour)
			reported := 0
			_, err := c.Wait(ctx, "a", OnError(func(err error) {
				if reported++; !errors.Is(err, early) {
					t.Error(err)
				}
			}))
			var w *WaitError
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, early) || !errors.As(err, &w) || w.Requests != 0 || reported == 0 {
				t.Errorf("Wait: %v, reported %d times", err, reported)
			}
			if time.Since(f.start) != 10*time.Second || f.total() != 0 {
				t.Errorf("%d requests in %v", f.total(), time.Since(f.start))
			}
			from = time.Now().Add(5 * time.Second)
			if _, err := c.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			wantTimes(t, f.at("a"), 15)
		})
	})
}

type cacheFuncs struct {
	get func(string) (Status, bool, error)
	set func(string, Status) error
}

func (c cacheFuncs) Get(_ context.Context, key string) (Status, bool, error) { return c.get(key) }
func (c cacheFuncs) Set(_ context.Context, key string, st Status, _ time.Duration) error {
	return c.set(key, st)
}

// Property 113: a panic in a part that stands around the exchange reaches the callers, and
// leaves neither a place in flight taken nor a caller waiting.
func TestPanicAroundTheExchange(t *testing.T) {
	var on atomic.Bool
	bad := func() {
		if on.Load() {
			panic("oops")
		}
	}
	for name, opt := range map[string]Option{
		"Breaker.Allow": WithBreaker(breakerFunc(func() (func(error), error) { bad(); return func(error) {}, nil })),
		"Breaker, done": WithBreaker(breakerFunc(func() (func(error), error) { return func(error) { bad() }, nil })),
		"Limiter":       WithLimiter(limiterFunc(func(context.Context) error { bad(); return nil })),
		"Cache.Get": WithCache(cacheFuncs{func(string) (Status, bool, error) { bad(); return Status{}, false, nil },
			func(string, Status) error { return nil }}),
		"Cache.Set": WithCache(cacheFuncs{func(string) (Status, bool, error) { return Status{}, false, nil },
			func(string, Status) error { bad(); return nil }}),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, _ := startFake(t, always(completed), WithMaxInFlight(1), opt)
				for range 3 {
					on.Store(true)
					for call, f := range map[string]func(){
						"Status": func() { c.Status(t.Context(), "a") },
						"Wait":   func() { c.Wait(t.Context(), "a") },
						"WaitAll": func() {
							for range c.WaitAll(t.Context(), Jobs("a", "a", "b")) {
							}
						},
					} {
						if end := recovered(f); !strings.Contains(end, "oops") {
							t.Errorf("%s: %s", call, end)
						}
					}
					on.Store(false)
					if _, err := c.Wait(t.Context(), "a"); err != nil {
						t.Error(err)
					}
					if _, err := c.Status(t.Context(), "b"); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// Property 114: no time or estimate is so absurd that a wait polls without end,
// never polls, or outlasts its deadline.
func TestAbsurdTimes(t *testing.T) {
	year1, year9999 := time.Time{}.Add(1), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // a bubble's beginning
	for _, tt := range []struct {
		name string
		job  Job
		want []float64
		late bool
	}{
		{"a start in the year 1", Job{StartedAt: year1}, []float64{0, 10, 20}, false},
		{"a start in the year 9999", Job{StartedAt: year9999}, []float64{10, 20}, false},
		{"a start before 1970", Job{StartedAt: time.Unix(-1, 0)}, []float64{0, 10, 20}, false},
		{"a deadline in the year 1", Job{Deadline: year1}, nil, true},
		{"a deadline before 1970", Job{Deadline: time.Unix(-1e10, 0)}, nil, true},
		{"a deadline in the year 9999", Job{Deadline: year9999}, []float64{0, 10, 20}, false},
		{"a deadline before the start", Job{StartedAt: start.Add(time.Hour), Deadline: start.Add(5 * time.Second)}, []float64{4.5}, true},
		{"the largest estimate", Job{Expect: math.MaxInt64}, []float64{0, 10, 20}, false},
		{"both ends of time", Job{StartedAt: year1, Deadline: year9999, Expect: math.MaxInt64}, []float64{0, 10, 20}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, f := startFake(t, doneAt(20*time.Second))
				tt.job.ID = "a"
				ctx, cancel := context.WithDeadline(t.Context(), year9999)
				defer cancel()
				for _, err := range c.WaitAll(ctx, slices.Values([]Job{tt.job})) {
					if tt.late != errors.Is(err, context.DeadlineExceeded) || !tt.late && err != nil {
						t.Error(err)
					}
				}
				if tt.late && len(tt.want) == 0 && time.Since(f.start) != 0 {
					t.Errorf("ended after %v", time.Since(f.start))
				}
				wantTimes(t, f.at("a"), tt.want...)
			})
		})
	}
	for _, d := range []time.Duration{time.Millisecond, math.MaxInt64} {
		bubble(t, func(t *testing.T) { // the cadence that learns
			c, f := startFake(t, always(pending), WithPolling(NewAdaptive(time.Second)))
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			c.Wait(ctx, "a", Expect(d), StartedAt(year1))
			if n := f.total(); n < 1 || n > 3600 {
				t.Errorf("an estimate of %v: %d polls in an hour", d, n)
			}
		})
	}
}

// Property 115: a Backoff that returns the longest delay there is keeps neither the last poll
// nor a hint from being made.
func TestALongDelayIsNotForEver(t *testing.T) {
	for _, reply := range []fakeReply{pending, {code: 503}} {
		bubble(t, func(t *testing.T) {
			endless := backoffFunc(func(Attempt) (time.Duration, bool) { return math.MaxInt64, true })
			c, f := startFake(t, always(reply), WithPolling(endless), WithRetry(endless))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			time.AfterFunc(5*time.Second, func() { c.Hint("a") })
			_, err := c.Wait(ctx, "a")
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(f.start) != time.Minute {
				t.Errorf("%v after %v", err, time.Since(f.start))
			}
			wantTimes(t, f.at("a"), 0, 5, 59.98)
		})
	}
}

// Property 116: whatever pause a breaker's refusal names, a wait neither spins nor is lost.
func TestAbsurdPausesOfABreaker(t *testing.T) {
	for _, pause := range []time.Duration{math.MinInt64, -time.Hour, -1, 1, math.MaxInt64} {
		most := map[bool]int{true: 32, false: 3}[pause < 0] // after the delay of WithRetry; or now, at the hint, and no more
		if pause == 1 {
			most = 3001 // as the floor allows
		}
		t.Run(pause.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				br := &refuser{after: pause, until: time.Now().Add(30 * time.Second)}
				c, f := startFake(t, always(completed), WithBreaker(br))
				time.AfterFunc(time.Minute, func() { c.Hint("a") })
				if _, err := c.Wait(t.Context(), "a"); err != nil {
					t.Error(err)
				}
				if at := f.at("a"); len(at) != 1 || at[0] < 30*time.Second || at[0] > time.Minute || br.asked > most {
					t.Errorf("requests at %v, the breaker was asked %d times", at, br.asked)
				}
			})
		})
	}
}

// Property 117: a Retry-After beside an answer that ends a job holds up no other job.
func TestRetryAfterOfAnEndHoldsUpNoOtherJob(t *testing.T) {
	for _, reply := range []fakeReply{{state: "completed"}, {state: "error"}, {code: 301}, {state: "what"}, {code: 404}, {code: 503}} {
		bubble(t, func(t *testing.T) {
			reply.retryAfter = 300 * time.Second
			c, f := startFake(t, func(id string, n int, _ time.Duration) fakeReply {
				if id == "a" && n == 1 {
					return reply
				}
				return completed
			})
			c.Wait(t.Context(), "a")
			at := time.Since(f.start)
			if ends := reply.code == 301 || reply.state == "completed" || reply.state == "error"; ends && at != 0 || !ends && at != 300*time.Second {
				t.Errorf("%+v: ended after %v", reply, at)
			}
			if _, err := c.Wait(t.Context(), "b"); err != nil || time.Since(f.start) != at {
				t.Errorf("%+v: the next job ended after %v more, %v", reply, time.Since(f.start)-at, err)
			}
		})
	}
}

// Property 118: during a 429's pause that is above the bound every call, for new
// jobs too, ends at once with the pause that is left and makes no request; when
// no more than the bound is left, calls wait for its end, and the client is as before.
func TestAPauseAboveTheBoundPasses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, func(id string, n int, _ time.Duration) fakeReply {
			if id == "a" && n == 1 {
				return fakeReply{code: 429, retryAfter: time.Hour}
			}
			return completed
		})
		for minute := range 51 {
			for call, err := range map[string]error{
				"Wait":   second(c.Wait(t.Context(), "a")),
				"new":    second(c.Wait(t.Context(), fmt.Sprint("new", minute))),
				"Status": second(c.Status(t.Context(), "c")),
			} {
				if minute == 50 { // the bound, 10 min, is left: they have waited for it
					if err != nil || time.Since(f.start) != time.Hour {
						t.Errorf("%s after the pause: %v at %v", call, err, time.Since(f.start))
					}
					continue
				}
				var h *HTTPError
				if !errors.Is(err, ErrRetryAfter) || !errors.As(err, &h) || time.Since(f.start) != time.Duration(minute)*time.Minute || f.total() != 1 {
					t.Errorf("%s in minute %d: %v at %v, %d requests", call, minute, err, time.Since(f.start), f.total())
				}
			}
			time.Sleep(time.Minute)
		}
	})
}

func second(_ Status, err error) error { return err }

// Property 119: a job that a stale replica reports pending after its end has ended all the same.
func TestAnEndIsAnEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, inTurn(pending, completed, pending), WithCache(NewMemoryCache[Status](10)))
		reported := 0
		for range 3 {
			st, err := c.Wait(t.Context(), "a", OnProgress(func(Status) { reported++ }))
			if err != nil || st.State != StateCompleted {
				t.Fatal(st, err)
			}
			c.Hint("a")
			time.Sleep(time.Minute)
		}
		if f.total() != 2 || reported != 4 {
			t.Errorf("%d requests, reported %d times", f.total(), reported)
		}
	})
}

// Property 120: Progress is within 0..1 whatever the Endpoint or a cache returns, may go back, and is 1
// on a completed job.
func TestProgressIsAlwaysAShare(t *testing.T) {
	odd := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 2, 1e300, .5, .25}
	want := []float64{0, 1, 0, 0, 1, 1, .5, 1}
	bubble(t, func(t *testing.T) {
		n := 0
		c, _ := startFake(t, always(pending), WithEndpoint(Endpoint{Decode: func(Answer) (Status, error) {
			n++
			if n == len(odd) {
				return Status{State: StateCompleted, Progress: odd[n-1]}, nil
			}
			return Status{State: StatePending, Progress: odd[n-1]}, nil
		}}))
		var got []float64
		if _, err := c.Wait(t.Context(), "a", OnProgress(func(st Status) { got = append(got, st.Progress) })); err != nil {
			t.Error(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	for _, p := range odd {
		c, _ := startFake(t, always(pending), WithCache(cacheFuncs{func(id string) (Status, bool, error) {
			return Status{JobID: id, State: StateCompleted, Progress: p}, true, nil
		}, nil}))
		for range 2 {
			if st, err := c.Wait(t.Context(), "a"); err != nil || st.Progress != 1 {
				t.Errorf("a cached %v came out as %v; %v", p, st.Progress, err)
			}
		}
	}
}

// Property 121: thousands of hints while a check is in flight bring one further check.
func TestHintsInFlightAreOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, inTurn(fakeReply{takes: 5 * time.Second}, fakeReply{takes: 5 * time.Second}, completed))
		time.AfterFunc(time.Second, func() {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					for range 500 {
						c.Hint("a")
					}
				})
			}
			wg.Wait()
		})
		if _, err := c.Wait(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		wantTimes(t, f.at("a"), 0, 5, 20)
	})
}

// Property 122: a callback or loop body may wait for, and hint at, the very job that it is called for.
func TestWaitingWithinAWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, doneAt(5*time.Millisecond))
		if _, err := c.Wait(t.Context(), "a", OnProgress(func(Status) { c.Hint("a") })); err != nil {
			t.Error(err)
		}
		wantTimes(t, f.at("a"), 0, .01)
	})
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, doneAt(15*time.Second))
		var seen []State
		for st, err := range c.Watch(t.Context(), "a") {
			if seen = append(seen, st.State); err != nil {
				t.Error(err)
			}
			if st.State == StatePending {
				if st, err := c.Wait(t.Context(), "a"); err != nil || st.State != StateCompleted {
					t.Error(st, err)
				}
			}
		}
		// The answer at 10 s came while the body ran, and is yielded after it; the Wait in it is a new one.
		if want := []State{StatePending, StatePending, StateCompleted}; !slices.Equal(seen, want) {
			t.Errorf("seen %v, want %v", seen, want)
		}
		wantTimes(t, f.at("a"), 0, 10, 20, 20)
	})
}

type ctxKey struct{}

// Property 123: the transport, the strategies' hooks and the traces see the values of a caller's context.
func TestTheCallersValuesReachTheTransport(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var seen []any
		look := func(ctx context.Context) { seen = append(seen, ctx.Value(ctxKey{})) }
		c, err := New("http://backend.invalid", WithCache(nil), WithLimiter(limiterFunc(func(ctx context.Context) error { look(ctx); return nil })),
			WithRequest(func(r *http.Request) error { look(r.Context()); return nil }),
			WithTrace(Trace{Answered: func(ctx context.Context, _ TraceInfo) { look(ctx) }}),
			WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
				look(r.Context())
				return &http.Response{StatusCode: 200, Request: r, Body: io.NopCloser(strings.NewReader(`{"result":"completed"}`))}, nil
			})}))
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.WithValue(t.Context(), ctxKey{}, "trace id")
		c.Status(ctx, "a")
		c.Wait(ctx, "a")
		for range c.WaitAll(ctx, Jobs("a")) {
		}
		if len(seen) != 12 || slices.ContainsFunc(seen, func(v any) bool { return v != "trace id" }) {
			t.Errorf("seen %v", seen)
		}
	})
}

// Property 124: the http.Client's own Timeout is a fault of one attempt and not the end of the caller's time.
func TestTheHTTPClientsTimeoutIsAFault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := &fakeBackend{answer: inTurn(fakeReply{takes: time.Hour}, completed), start: time.Now(), seen: map[string][]time.Duration{}}
		c, _ := New("http://backend.invalid", WithHTTPClient(&http.Client{Transport: f, Timeout: time.Second}), WithRetry(Constant(time.Second)))
		var fault error
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Wait(ctx, "a", OnError(func(err error) { fault = err })); err != nil {
			t.Error(err)
		}
		var tr *TransportError
		if !errors.As(fault, &tr) || !tr.Timeout() || errors.Is(fault, context.DeadlineExceeded) || errors.Is(fault, context.Canceled) {
			t.Errorf("reported %v", fault)
		}
		wantTimes(t, f.at("a"), 0, 2)
	})
}

// Property 125: a cookie of the http.Client's Jar is a secret as a header is.
func TestCookiesOfTheJarNeverStandInErrors(t *testing.T) {
	jar, _ := cookiejar.New(nil)
	u, _ := url.Parse("http://backend.invalid")
	jar.SetCookies(u, []*http.Cookie{{Name: "session", Value: "c00kie-5ecret"}})
	echo := tripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 400, Request: r, Header: http.Header{"X-Request-Id": {"id c00kie-5ecret"}},
			Body: io.NopCloser(strings.NewReader("bad cookie " + r.Header.Get("Cookie")))}, nil
	})
	c, _ := New("http://backend.invalid", WithHTTPClient(&http.Client{Transport: echo, Jar: jar}))
	_, err := c.Status(t.Context(), "a")
	if err == nil || strings.Contains(err.Error(), "5ecret") || !strings.Contains(err.Error(), "bad cookie") {
		t.Error(err)
	}
}

// Property 126: leaving a WaitAll loop, or its context's end, does not wait for a sequence that blocks.
func TestLeavingThoughTheSequenceBlocks(t *testing.T) {
	blocks := func(until <-chan bool) iter.Seq[Job] {
		return func(yield func(Job) bool) {
			if yield(Job{ID: "a"}) {
				<-until
			}
		}
	}
	bubble(t, func(t *testing.T) {
		until := make(chan bool)
		defer close(until)
		c, f := startFake(t, always(completed))
		n := 0
		for range c.WaitAll(t.Context(), blocks(until)) {
			n++
			break
		}
		if n != 1 || time.Since(f.start) != 0 {
			t.Errorf("%d results in %v", n, time.Since(f.start))
		}
		if end := recovered(func() {
			for range c.WaitAll(t.Context(), blocks(until)) {
				panic("enough")
			}
		}); end != "panic: enough" || time.Since(f.start) != 0 {
			t.Errorf("%s after %v", end, time.Since(f.start))
		}
	})
}

// Property 127: the sequence of a WaitAll is read ahead of the paced checks, so
// that a job far back in it whose own time is short is still looked at in time.
func TestAShortDeadlineFarBackIsKept(t *testing.T) {
	for name, tt := range map[string]struct {
		jobs, inFlight int
		takes          time.Duration
	}{
		"ten seconds of first checks":  {5000, 64, 0},
		"ten seconds of slow requests": {100, 1, 100 * time.Millisecond},
	} {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, always(fakeReply{state: "completed", takes: tt.takes}), WithMaxInFlight(tt.inFlight))
			last := fmt.Sprint(tt.jobs - 1)
			jobs := func(yield func(Job) bool) {
				for _, id := range ids(tt.jobs) {
					job := Job{ID: id}
					if id == last {
						job.Deadline = time.Now().Add(3 * time.Second)
					}
					if !yield(job) {
						return
					}
				}
			}
			for st, err := range c.WaitAll(t.Context(), jobs) {
				if err != nil && (tt.takes == 0 || st.JobID != last) { // its answer may come too late
					t.Errorf("%s: %s: %v", name, st.JobID, err)
				}
			}
			if at := f.at(last); len(at) != 1 || at[0] >= 3*time.Second {
				t.Errorf("%s: checked at %v", name, at)
			}
		})
	}
}

// Property 128: a client whose waits have all ended, or whose idle connections
// were closed in the middle of waits, serves the next as the first.
func TestTheClientServesAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := testserver.StartInMemory(t)
		c, _ := New(s.URL(), WithHTTPClient(s.Client()), WithCache(nil), WithPolling(Constant(10*time.Second)))
		for range 5 {
			s.Then(testserver.Pending(), testserver.Completed())
			time.AfterFunc(5*time.Second, c.CloseIdleConnections)
			start := time.Now()
			if _, err := c.Wait(t.Context(), "a"); err != nil || time.Since(start) != 10*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			synctest.Wait()
			time.Sleep(time.Hour)
		}
	})
}
