package vtclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/vtclient/vtclient"
)

// On an error a Status holds the job's id and nothing else, whatever the error
// is; a *WaitError names the job, the requests that were made, and the last fault.
func TestAFailedStatusHoldsTheIDAndNothingElse(t *testing.T) {
	slow := func(d time.Duration, answers ...fakeReply) func(string, int, time.Duration) fakeReply {
		return func(id string, n int, at time.Duration) fakeReply {
			r := inTurn(answers...)(id, n, at)
			r.takes = d
			return r
		}
	}
	fails := fakeReply{code: 503}
	for _, tt := range []struct {
		name     string
		id       string
		answer   func(string, int, time.Duration) fakeReply
		opts     []Option
		limit    time.Duration // of the call's context; 0: none
		wait     bool          // the error is a *WaitError
		requests int           // that it tells of
		fault    int           // the status code of its fault; 0: none
		matches  error
		text     string
	}{
		{name: "an id that cannot be asked about", id: strings.Repeat("x", 2049), answer: always(pending), text: "at most 2048 bytes"},
		{name: "no time left", limit: -1, answer: always(pending), wait: true, matches: context.DeadlineExceeded},
		{name: "a final answer", answer: always(fakeReply{code: 404}), text: "a 404 is final"},
		{name: "the last try", answer: always(fails), opts: []Option{every(time.Second, 3)}, text: "WithRetry stops after try 3"},
		{name: "no time for the first answer", answer: slow(time.Minute, pending), limit: 2 * time.Second, wait: true, matches: context.DeadlineExceeded},
		{name: "no time for the second", answer: slow(time.Second, fails), limit: 3500 * time.Millisecond, opts: []Option{every(2*time.Second, 3)},
			wait: true, requests: 1, fault: 503, matches: context.DeadlineExceeded},
		{name: "no time for the next try", answer: always(fails), limit: 4 * time.Second, opts: []Option{every(2*time.Second, 3)},
			wait: true, requests: 2, fault: 503, matches: context.DeadlineExceeded, text: "no further request fits before the deadline"},
		{name: "a longer pause than allowed", answer: inTurn(fails, fakeReply{code: 503, retryAfter: time.Hour}), opts: []Option{every(time.Second, 3)},
			wait: true, requests: 2, fault: 503, matches: ErrRetryAfter, text: "the server asks to wait 1h0m0s"},
		{name: "a refusal", answer: always(pending), opts: []Option{WithBreaker(breakerFunc(func() (func(error), error) { return nil, errors.New("shut") }))}, text: "shut"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				if tt.id == "" {
					tt.id = "j"
				}
				c, _ := startFake(t, tt.answer, tt.opts...)
				ctx := t.Context()
				if tt.limit != 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.limit)
					defer cancel()
				}
				st, err := c.Status(ctx, tt.id)
				if want := (Status{JobID: tt.id}); err == nil || !reflect.DeepEqual(st, want) || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("%+v, %v", st, err)
				}
				w, ok := err.(*WaitError)
				if ok != tt.wait {
					t.Fatalf("a %T", err)
				}
				if !ok {
					return
				}
				var h *HTTPError
				if errors.As(w.Fault, &h) != (tt.fault != 0) || h != nil && (h.StatusCode != tt.fault || h.JobID != tt.id) {
					t.Errorf("the fault is %v", w.Fault)
				}
				if w.JobID != tt.id || w.Requests != tt.requests || !errors.Is(err, tt.matches) || !strings.Contains(err.Error(), fmt.Sprintf("job %q", tt.id)) {
					t.Errorf("job %q, %d requests: %v", w.JobID, w.Requests, err)
				}
			})
		})
	}
}

// Who has joined another's call and leaves it is told by a *WaitError as well.
func TestAFollowerThatLeavesIsToldLikeAnyOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(fakeReply{takes: 5 * time.Second}))
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Status(t.Context(), "j"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		mine := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(mine) })
		st, err := c.Status(ctx, "j")
		var w *WaitError
		if !errors.As(err, &w) || w.JobID != "j" || !errors.Is(err, context.Canceled) || !errors.Is(err, mine) || !reflect.DeepEqual(st, Status{JobID: "j"}) {
			t.Errorf("%+v, %v", st, err)
		}
		wg.Wait()
		wantTimes(t, f.at("j"), 0)
	})
}

// The panic of one who makes a request for several is the others' error, with
// the id in their Status.
func TestAFollowerOfAPanicStillHasItsID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _ := startFake(t, always(fakeReply{takes: time.Second, panics: "boom"}))
		go func() {
			defer func() { recover() }()
			c.Status(t.Context(), "j")
		}()
		synctest.Wait()
		if st, err := c.Status(t.Context(), "j"); err == nil || !strings.Contains(err.Error(), "boom") || !reflect.DeepEqual(st, Status{JobID: "j"}) {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// The Backoff given to WithRetry is told which fault it is and how long the
// call has gone on since it began its first request, not since it was made.
func TestRetryIsToldWhereAStatusStands(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told []Attempt
		c, f := startFake(t, always(fakeReply{code: 503, takes: time.Second}), WithRetry(backoffFunc(func(a Attempt) (time.Duration, bool) {
			told = append(told, a)
			return 2 * time.Second, a.Number < 3
		})))
		if _, err := c.Status(t.Context(), "j"); err == nil {
			t.Error("no error")
		}
		if want := []Attempt{{Number: 1, Elapsed: time.Second}, {Number: 2, Elapsed: 4 * time.Second}, {Number: 3, Elapsed: 7 * time.Second}}; !slices.Equal(told, want) {
			t.Errorf("told %+v, want %+v", told, want)
		}
		wantTimes(t, f.at("j"), 0, 3, 6)
	})
}

// A pause of exactly WithMaxRetryAfter is waited for: on one's own fault, and
// where another job's 429 holds the client. One that is a moment longer is not.
func TestThePauseAtItsBound(t *testing.T) {
	for _, over := range []time.Duration{0, 1} {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, func(id string, n int, _ time.Duration) fakeReply {
				if id == "first" && n == 1 {
					return fakeReply{code: 429, retryAfter: time.Minute}
				}
				return pending
			}, WithMaxRetryAfter(time.Minute-over), every(time.Second, 2))
			var wg sync.WaitGroup
			for _, id := range []string{"first", "second"} {
				wg.Go(func() {
					_, err := c.Status(t.Context(), id)
					var w *WaitError
					if over == 0 && err != nil || over != 0 && (!errors.As(err, &w) || !errors.Is(err, ErrRetryAfter) || w.JobID != id) {
						t.Errorf("%s with a bound %v below the pause: %v", id, over, err)
					} else if over != 0 && (w.Requests != len(f.at(id)) || !strings.Contains(err.Error(), "1m0s")) {
						t.Errorf("%s after %d requests: %v", id, len(f.at(id)), err)
					}
				})
				synctest.Wait()
			}
			wg.Wait()
			if over == 0 {
				wantTimes(t, f.at("first"), 0, 60)
				wantTimes(t, f.at("second"), 60)
			}
		})
	}
}

// Where another job's 429 comes between two tries, the error still tells of the
// call's own fault.
func TestAHoldDoesNotHideACallsOwnFault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, func(id string, n int, _ time.Duration) fakeReply {
			if id == "a" {
				return fakeReply{code: 503}
			}
			return fakeReply{code: 429, retryAfter: time.Minute}
		}, every(2*time.Second, 5))
		time.AfterFunc(time.Second, func() { c.Status(t.Context(), "b") })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := c.Status(ctx, "a")
		var h *HTTPError
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &h) || h.StatusCode != 503 || h.JobID != "a" {
			t.Error(err)
		}
		wantTimes(t, f.at("a"), 0)
		time.Sleep(time.Hour) // the other one's tries end
	})
}

// Each Scheduled names its job.
func TestScheduledNamesTheJob(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r recorder
		c, _ := startFake(t, inTurn(fakeReply{code: 503}, pending, completed), every(time.Second, 5), WithTrace(r.trace()))
		if _, err := c.Status(t.Context(), "s"); err != nil {
			t.Error(err)
		}
		if i := r.last("scheduled"); i.JobID != "s" || i.Attempt != 2 || !i.Retry || i.Delay != time.Second || i.Err == nil {
			t.Errorf("%+v", i)
		}
		var faults, polls []TraceInfo
		c, _ = startFake(t, inTurn(pending, fakeReply{code: 503}, completed), every(3*time.Second, 5), WithTrace(Trace{Scheduled: func(_ context.Context, i TraceInfo) {
			if i.Retry {
				faults = append(faults, i)
			} else {
				polls = append(polls, i)
			}
		}}))
		if _, err := c.Wait(t.Context(), "w"); err != nil {
			t.Error(err)
		}
		if len(polls) != 1 || polls[0] != (TraceInfo{JobID: "w", Attempt: 2, Delay: 10 * time.Second}) {
			t.Errorf("after a pending answer: %+v", polls)
		}
		var h *HTTPError
		if len(faults) != 1 || faults[0].JobID != "w" || faults[0].Attempt != 3 || faults[0].Delay != 3*time.Second || !errors.As(faults[0].Err, &h) {
			t.Errorf("after a fault: %+v", faults)
		}
	})
}

// A storing is a foreign cache that keeps what it is given.
type storing struct {
	mu       sync.Mutex
	gets     int
	sets     []time.Duration
	contexts []context.Context
	kept     map[string]Status
	hang     time.Duration // Get takes so long, at most until its context ends
	err      error         // of Get
}

func (s *storing) Get(ctx context.Context, key string) (Status, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	s.contexts = append(s.contexts, ctx)
	if s.hang > 0 {
		select {
		case <-ctx.Done():
			return Status{}, false, ctx.Err()
		case <-time.After(s.hang):
		}
	}
	st, ok := s.kept[key]
	return st, ok, s.err
}

func (s *storing) Set(ctx context.Context, key string, st Status, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.contexts = append(s.contexts, ctx)
	s.sets = append(s.sets, ttl)
	if s.kept == nil {
		s.kept = make(map[string]Status)
	}
	s.kept[key] = st
	return nil
}

// A foreign cache is given each answer with its time to live, and asked before
// each request; what it answers is marked as cached, and told to the traces.
func TestAForeignCacheIsWrittenAndRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &storing{}
		var r recorder
		c, f := startFake(t, inTurn(pending, completed), WithCache(s), WithCacheTTL(2*time.Second, time.Hour), WithTrace(r.trace()))
		for i, want := range []State{StatePending, StatePending, StateCompleted, StateCompleted} {
			if i == 2 {
				delete(s.kept, "j")
			}
			st, err := c.Status(t.Context(), "j")
			if err != nil || st.State != want || st.JobID != "j" || st.Cached != (i%2 == 1) || (len(st.Body) > 0) != (want == StateCompleted) {
				t.Errorf("call %d: %+v, %v", i, st, err)
			}
		}
		if got := r.String(); got != "sent answered cached sent answered cached" {
			t.Error(got)
		}
		if i := r.last("cached"); i.JobID != "j" || i.State != StateCompleted || i.Err != nil {
			t.Errorf("%+v", i)
		}
		if !slices.Equal(s.sets, []time.Duration{2 * time.Second, time.Hour}) {
			t.Errorf("times to live %v", s.sets)
		}
		for _, ctx := range s.contexts {
			if ctx.Err() == nil {
				t.Error("the context of a call of the cache outlives the call")
			}
		}
		wantTimes(t, f.at("j"), 0, 0)
	})
}

// A time to live of zero keeps such answers out of a cache, foreign ones too.
func TestAZeroTimeToLiveKeepsAnswersOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &storing{}
		c, _ := startFake(t, inTurn(pending, completed), WithCache(s), WithCacheTTL(0, time.Hour))
		for range 2 {
			if _, err := c.Status(t.Context(), "j"); err != nil {
				t.Error(err)
			}
		}
		if !slices.Equal(s.sets, []time.Duration{time.Hour}) {
			t.Errorf("stored for %v", s.sets)
		}
	})
}

// A wait takes from a foreign cache only the last word on its job.
func TestAWaitTakesOnlyTheEndFromAForeignCache(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &storing{kept: map[string]Status{
			"pending": {JobID: "pending", State: StatePending, Progress: 0.5},
			"half":    {JobID: "half", State: StateCompleted, ResultMissing: true},
			"failed":  {JobID: "failed", State: StateFailed, Message: "no sound", Progress: 7},
		}}
		c, f := startFake(t, always(completed), WithCache(s))
		for id, cached := range map[string]bool{"pending": false, "half": false, "failed": true} {
			st, err := c.Wait(t.Context(), id)
			if st.Cached != cached || errors.Is(err, ErrJobFailed) != cached || (len(f.at(id)) == 0) != cached || st.Progress > 1 {
				t.Errorf("%s: %+v, %v, %d requests", id, st, err, len(f.at(id)))
			}
		}
	})
}

// A cache that hangs for as long as it may is left alone for 5 s; one that fails
// at once, or had less time than it may take, is asked again at the next call.
// Each of that is told to the traces, but not that the caller left meanwhile.
func TestACacheThatHangsIsLeftAloneForAWhile(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cache *storing
		limit time.Duration // of the first call
		leave bool          // at a third of a second
		want  []int         // Gets after the calls at 0, 4.9, 5.3 s
		told  int
	}{
		{"it fails at once", &storing{err: io.ErrClosedPipe}, time.Hour, false, []int{1, 2, 3}, 3},
		{"it hangs", &storing{hang: time.Hour}, time.Hour, false, []int{1, 1, 2}, 2},
		{"it is slow, within its time", &storing{hang: 249 * time.Millisecond}, time.Hour, false, []int{1, 2, 3}, 0},
		{"it is slow, and fails", &storing{hang: 249 * time.Millisecond, err: io.ErrClosedPipe}, time.Hour, false, []int{1, 2, 3}, 3},
		{"the call had little time", &storing{hang: time.Hour}, 100 * time.Millisecond, false, []int{1, 2, 2}, 2},
		{"the caller left", &storing{hang: time.Hour}, time.Hour, true, []int{1, 2, 2}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var failures []TraceInfo
				c, _ := startFake(t, always(pending), WithCache(tt.cache), WithCacheTTL(0, 0), WithTrace(Trace{Cached: func(_ context.Context, i TraceInfo) {
					if i.Err != nil {
						failures = append(failures, i)
					}
				}}))
				start := time.Now()
				for i, at := range []time.Duration{0, 4900 * time.Millisecond, 5300 * time.Millisecond} {
					time.Sleep(time.Until(start.Add(at)))
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					if i == 0 {
						cancel()
						ctx, cancel = context.WithTimeout(t.Context(), tt.limit)
						if tt.leave {
							time.AfterFunc(100*time.Millisecond, cancel)
						}
					}
					st, err := c.Status(ctx, "j")
					if left := i == 0 && tt.leave; left != errors.Is(err, context.Canceled) || !left && (err != nil || st.Cached) {
						t.Errorf("call %d: %+v, %v", i, st, err)
					}
					cancel()
					if tt.cache.gets != tt.want[i] {
						t.Errorf("after call %d the cache was asked %d times, want %d", i, tt.cache.gets, tt.want[i])
					}
				}
				for _, f := range failures {
					if f.JobID != "j" || !strings.Contains(f.Err.Error(), `job "j": cache: `) {
						t.Errorf("told %+v", f)
					}
				}
				if len(failures) != tt.told {
					t.Errorf("told of %d failures, want %d", len(failures), tt.told)
				}
			})
		})
	}
}

// The 5 s end at the very moment.
func TestACacheThatHungIsAskedAgainInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &storing{hang: time.Hour}
		c, _ := startFake(t, always(pending), WithCache(s), WithCacheTTL(0, 0))
		for i, pause := range []time.Duration{0, 5*time.Second - 1, 1} {
			time.Sleep(pause)
			if _, err := c.Status(t.Context(), "j"); err != nil || s.gets != 1+i/2 {
				t.Errorf("call %d: asked %d times: %v", i, s.gets, err)
			}
		}
	})
}

// A Status whose context is done is told so though the cache knows the answer.
func TestADoneContextComesBeforeTheCache(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, opt := range []Option{WithCache(NewMemoryCache[Status](10)), WithCache(&storing{})} {
			c, _ := startFake(t, always(completed), opt)
			if _, err := c.Status(t.Context(), "j"); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if st, err := c.Status(ctx, "j"); !errors.Is(err, context.Canceled) || st.State != "" {
				t.Errorf("%+v, %v", st, err)
			}
		}
	})
}

// Where another job's 429 ends a call, the error counts the call's own requests.
func TestAHoldThatEndsACallCountsItsRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _ := startFake(t, func(id string, n int, _ time.Duration) fakeReply {
			if id == "a" {
				return fakeReply{code: 503}
			}
			return fakeReply{code: 429, retryAfter: time.Hour}
		}, every(2*time.Second, 5))
		time.AfterFunc(3*time.Second, func() { c.Status(t.Context(), "b") })
		_, err := c.Status(t.Context(), "a")
		var w *WaitError
		if !errors.As(err, &w) || !errors.Is(err, ErrRetryAfter) || w.JobID != "a" || w.Requests != 2 {
			t.Error(err)
		}
	})
}

// What a trace was given of a fault stays as it was, whatever becomes of the call.
func TestTheErrorOfATraceStaysAsItWas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told error
		c, _ := startFake(t, always(fakeReply{code: 503}), every(time.Hour, 5), WithTrace(Trace{Scheduled: func(_ context.Context, i TraceInfo) { told = i.Err }}))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := c.Status(ctx, "j")
		var h *HTTPError
		if !errors.As(err, &h) || h.Next != 0 || !errors.As(told, &h) || h.Next != time.Hour {
			t.Errorf("the call ended with %v, the trace was told %v", err, told)
		}
	})
}

// The cache keeps the newest pending answer; and in place of an answer that is
// too large for it nothing, the answer before that included.
func TestWhatTheCacheKeepsOfAWait(t *testing.T) {
	const most = 32 << 10
	body := func(state string, size int) string {
		s := fmt.Sprintf(`{"result":%q,"progress":0.7,"x":""}`, state)
		return strings.Replace(s, `""`, `"`+strings.Repeat("x", max(0, size-len(s)))+`"`, 1)
	}
	for _, tt := range []struct {
		name  string
		last  string // body that the wait sees second
		state State  // in the cache then; empty: none
		limit time.Duration
	}{
		{"a later pending answer", body("pending", 0), StatePending, 5 * time.Second},
		{"an end", body("completed", 0), StateCompleted, time.Hour},
		{"an end of the size that is allowed", body("completed", most), StateCompleted, time.Hour},
		{"a larger one", body("completed", most+1), "", time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := playing(body("pending", 0)[:len(`{"result":"pending"`)]+"}", tt.last)
				c := h.client(t, WithEndpoint(PlainAPI()), WithCache(NewMemoryCache[Status](10)), WithCacheTTL(time.Hour, time.Hour), WithPolling(Constant(2*time.Second)))
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				defer cancel()
				c.Wait(ctx, "j")
				before := len(h.times())
				st, err := c.Status(t.Context(), "j")
				if err != nil || st.Cached != (tt.state != "") || tt.state != "" && (st.State != tt.state || st.Progress != 0.7) || len(h.times()) != before+map[bool]int{true: 1}[tt.state == ""] {
					t.Errorf("cached %v, %s at %v, %v", st.Cached, st.State, st.Progress, err)
				}
			})
		})
	}
}

// The bound of what is kept counts the message as well.
func TestTheCacheCountsTheMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, over := range []int{0, 1} {
			calls := 0
			c, err := New("", WithFetch(func(context.Context, string) (Status, error) {
				calls++
				return Status{State: StateFailed, Message: strings.Repeat("m", 20<<10), Body: []byte(strings.Repeat("b", 12<<10+over))}, nil
			}))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := c.Status(t.Context(), "j"); err != nil {
					t.Error(err)
				}
			}
			if calls != 1+over {
				t.Errorf("%d bytes over the bound: %d calls", over, calls)
			}
		}
	})
}

// Property 57: the Status calls that one 429 holds come back one by one after its pause,
// those among them whose own request it answered included.
func TestCallsHeldByA429ComeBackOneByOne(t *testing.T) {
	const n, burst = 1000, 4
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Duration
		start := time.Now()
		c, _ := startFake(t, func(id string, k int, now time.Duration) fakeReply {
			mu.Lock()
			defer mu.Unlock()
			if now < time.Minute {
				return fakeReply{code: 429, retryAfter: time.Minute}
			}
			at = append(at, now)
			return pending
		}, every(time.Second, 2))
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				if _, err := c.Status(t.Context(), fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(at) != n {
			t.Fatalf("%d requests after the pause", len(at))
		}
		for i, now := range at {
			if want := time.Minute + time.Duration(max(0, i-burst+1))*2*time.Millisecond; now != want {
				t.Fatalf("request %d after the pause at %v, want %v", i, now, want)
			}
		}
		if took := time.Since(start); took != time.Minute+(n-burst)*2*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// A call whose deadline comes before its place after a 429 is made at the end of the pause.
func TestAHeldCallWithLittleTimeComesBackEarlier(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, func(id string, k int, _ time.Duration) fakeReply {
			if id == "first" && k == 1 {
				return fakeReply{code: 429, retryAfter: time.Minute}
			}
			return pending
		}, every(time.Second, 2))
		var wg sync.WaitGroup
		call := func(ctx context.Context, id string) {
			wg.Go(func() {
				if _, err := c.Status(ctx, id); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			})
			synctest.Wait()
		}
		call(t.Context(), "first")
		for i := range 20 {
			call(t.Context(), fmt.Sprint(i))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Millisecond)
		defer cancel()
		call(ctx, "hurried")
		wg.Wait()
		wantTimes(t, f.at("hurried"), 60)
		wantTimes(t, f.at("19"), 60.034)
	})
}
