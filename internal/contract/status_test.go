package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
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
		requests int           // that its error has
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

// A caller that has joined another's call and leaves it gets a *WaitError as well.
func TestAFollowerThatLeavesGetsAWaitError(t *testing.T) {
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

// The panic of a caller that makes a request for several is the others' error, with the id in
// their Status.
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

// The Backoff given to WithRetry gets the number of the fault and the time since the call began
// its first request, not since the call itself.
func TestTheAttemptDescribesTheStatusCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reported []Attempt
		c, f := startFake(t, always(fakeReply{code: 503, takes: time.Second}), WithRetry(backoffFunc(func(a Attempt) (time.Duration, bool) {
			reported = append(reported, a)
			return 2 * time.Second, a.Number < 3
		})))
		if _, err := c.Status(t.Context(), "j"); err == nil {
			t.Error("no error")
		}
		if want := []Attempt{{Number: 1, Elapsed: time.Second}, {Number: 2, Elapsed: 4 * time.Second}, {Number: 3, Elapsed: 7 * time.Second}}; !slices.Equal(reported, want) {
			t.Errorf("got %+v, want %+v", reported, want)
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
					return fakeReply{code: 429, retryAfter: 9 * time.Second}
				}
				return pending
			}, WithMaxRetryAfter(9*time.Second-over), every(time.Second, 2))
			var wg sync.WaitGroup
			for _, id := range []string{"first", "second"} {
				wg.Go(func() {
					_, err := c.Status(t.Context(), id)
					var w *WaitError
					if over == 0 && err != nil || over != 0 && (!errors.As(err, &w) || !errors.Is(err, ErrRetryAfter) || w.JobID != id) {
						t.Errorf("%s with a bound %v below the pause: %v", id, over, err)
					} else if over != 0 && (w.Requests != len(f.at(id)) || !strings.Contains(err.Error(), "9s")) {
						t.Errorf("%s after %d requests: %v", id, len(f.at(id)), err)
					}
				})
				synctest.Wait()
			}
			wg.Wait()
			if over == 0 {
				wantTimes(t, f.at("first"), 0, 9)
				wantTimes(t, f.at("second"), 9)
			}
		})
	}
}

// Where another job's 429 comes between two tries, the error still has the call's own fault.
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
		var reported error
		c, _ := startFake(t, always(fakeReply{code: 503}), every(time.Hour, 5), WithTrace(Trace{Scheduled: func(_ context.Context, i TraceInfo) { reported = i.Err }}))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := c.Status(ctx, "j")
		var h *HTTPError
		if !errors.As(err, &h) || h.Next != 0 || !errors.As(reported, &h) || h.Next != time.Hour {
			t.Errorf("the call ended with %v, the trace got %v", err, reported)
		}
	})
}

// Property 57: the Status calls that one 429 holds come back one by one after its pause,
// those among them whose own request it answered included.
func TestCallsHeldByA429ComeBackOneByOne(t *testing.T) {
	const n, burst, pause = 1000, 4, 7 * time.Second
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Duration
		start := time.Now()
		c, _ := startFake(t, func(id string, k int, now time.Duration) fakeReply {
			mu.Lock()
			defer mu.Unlock()
			if now < pause {
				return fakeReply{code: 429, retryAfter: pause}
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
			if want := pause + time.Duration(max(0, i-burst+1))*2*time.Millisecond; now != want {
				t.Fatalf("request %d after the pause at %v, want %v", i, now, want)
			}
		}
		if took := time.Since(start); took != pause+(n-burst)*2*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// A call whose deadline comes before its turn after a 429 is made within the time that it has.
func TestAHeldCallWithLittleTimeComesBackEarlier(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, func(id string, k int, _ time.Duration) fakeReply {
			if id == "first" && k == 1 {
				return fakeReply{code: 429, retryAfter: 6 * time.Second}
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
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second+time.Millisecond)
		defer cancel()
		call(ctx, "hurried")
		wg.Wait()
		if at := f.at("hurried"); len(at) != 1 || at[0] < 6*time.Second || at[0] >= 6*time.Second+time.Millisecond {
			t.Errorf("hurried: %v", at)
		}
		wantTimes(t, f.at("19"), 6.034)
	})
}

// Property 11: a context that is already done makes no request.
func TestADoneContextMakesNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF })
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		past, cancel := context.WithDeadline(t.Context(), time.Now().Add(-1))
		defer cancel()
		now, cancel := context.WithDeadline(t.Context(), time.Now())
		defer cancel()
		for _, ctx := range []context.Context{canceled, past, now} {
			st, err := c.Status(ctx, "j")
			var w *WaitError
			if !errors.Is(err, ctx.Err()) || !errors.As(err, &w) || w.Requests != 0 || st.JobID != "j" || st.State != "" {
				t.Errorf("%+v, %v", st, err)
			}
		}
	})
}

// Property 18: the caller's deadline matches DeadlineExceeded and the last fault. A
// Status that would have to sleep past it returns at once, and promises no request.
func TestTheCallersDeadlineEndsAStatusWithTheLastFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Reply(503, ""))
		var r recorder
		c := clientFor(t, s, every(2*time.Second, 10), WithTrace(r.trace()))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Status(ctx, "j")
		var w *WaitError
		var h *HTTPError
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &w) || w.Requests != 3 || !errors.As(err, &h) || h.Attempt != 3 || h.Next != 0 || strings.Contains(err.Error(), "next request") {
			t.Error(err)
		}
		if took := time.Since(start); took != 4*time.Second || ctx.Err() != nil || len(s.Requests()) != 3 {
			t.Errorf("took %v for %d requests, want to return at once at 4s", took, len(s.Requests()))
		}
		if got := r.String(); got != "sent answered scheduled sent answered scheduled sent answered" {
			t.Error(got)
		}
	})
}

// A 401 that is tried again at once makes two requests of one try, and no two have one number.
func TestEachRequestOfAStatusHasItsNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		codes := []int{401, 503, 401, 503, 503}
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			code := codes[0]
			codes = codes[1:]
			return respond(r, code, ""), nil
		}, every(time.Second, 3), WithBreaker(nil), WithTrace(r.trace()), WithRequest(func(*http.Request) error { return nil }))
		_, err := c.Status(t.Context(), "j")
		var h *HTTPError
		if !errors.As(err, &h) || h.Attempt != 5 || len(codes) != 0 {
			t.Error(err)
		}
		var sent, next []int
		for i, name := range r.names {
			switch name {
			case "sent":
				sent = append(sent, r.infos[i].Attempt)
			case "scheduled":
				next = append(next, r.infos[i].Attempt)
			}
		}
		if fmt.Sprint(sent, next) != "[1 2 3 4 5] [3 5]" {
			t.Errorf("requests %v, announced %v", sent, next)
		}
	})
}

// Property 12: cancelling during the pause between tries returns at once.
func TestCancellingBetweenTriesReturnsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clientFor(t, testserver.StartInMemory(t, testserver.Reply(503, "")), every(time.Hour, 10))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, err := c.Status(ctx, "j")
		var h *HTTPError
		if !errors.Is(err, context.Canceled) || !errors.As(err, &h) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A Backoff that always returns 0 does not make a Status spin.
func TestRetryingNeverSpins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { n++; return respond(r, 500, ""), nil },
			WithRetry(noPause{}), WithBreaker(nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Status(ctx, "j"); !errors.Is(err, context.DeadlineExceeded) || n != 100 {
			t.Errorf("%v after %d requests in a second, want 100", err, n)
		}
	})
}

type noPause struct{}

func (noPause) Next(Attempt) (time.Duration, bool) { return -1, true }

// Property 31, and design: a refusal is no fault; Status returns it at once and untried.
func TestARefusalIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		shut := errors.New("shut")
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF },
			WithBreaker(breakerFunc(func() (func(error), error) { asked++; return nil, shut })))
		start := time.Now()
		if _, err := c.Status(t.Context(), "j"); !errors.Is(err, shut) || asked != 1 || time.Since(start) != 0 {
			t.Error(err, asked)
		}
	})
}

// Property 32 through Status: a caller that leaves does not hurt those that share its request,
// and costs at most one more; the last one to leave cancels it.
func TestACallerThatLeavesDoesNotHurtTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Delay(2*time.Second, testserver.Pending()))
		c := clientFor(t, s, WithCache(nil))
		var wg sync.WaitGroup
		start := time.Now()
		for i := range 10 {
			wg.Go(func() {
				ctx := t.Context()
				if i == 0 || i == 5 { // the first, which makes the request, and one that follows
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, time.Second)
					defer cancel()
				}
				_, err := c.Status(ctx, "j")
				if left := ctx.Err() != nil; left != errors.Is(err, context.DeadlineExceeded) || !left && (err != nil || time.Since(start) != 3*time.Second) || left && time.Since(start) != time.Second {
					t.Errorf("caller %d: %v at %v", i, err, time.Since(start))
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if n := len(s.Requests()); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var ended error
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			ended = r.Context().Err()
			return nil, ended
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Status(ctx, "j"); !errors.Is(err, context.DeadlineExceeded) || ended == nil {
			t.Error(err, ended)
		}
	})
}

// A leader whose time is too short for the next try leaves it to a caller that has more, tries counted on.
func TestTheNextTryGoesToACallerThatHasTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Delay(time.Second, testserver.Reply(503, "")), testserver.Pending())
		c := clientFor(t, s, every(5*time.Second, 3))
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if _, err := c.Status(ctx, "j"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Error(err, time.Since(start))
			}
		})
		synctest.Wait()
		if _, err := c.Status(t.Context(), "j"); err != nil || time.Since(start) != 6*time.Second || len(s.Requests()) != 2 {
			t.Error(err, time.Since(start), len(s.Requests()))
		}
		wg.Wait()
	})
}

// Property 33 through Status: a panic or a Goexit in the shared call releases everyone.
func TestAPanicReleasesTheCallersOfASharedCall(t *testing.T) {
	for _, how := range []string{"panic", "Goexit"} {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int32
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				if n.Add(1) == 1 {
					if how == "panic" {
						panic("boom")
					}
					runtime.Goexit()
				}
				return respond(r, 200, `{"result":"pending"}`), nil
			}, WithMaxInFlight(1))
			var wg sync.WaitGroup
			wg.Go(func() {
				defer func() { recover() }()
				c.Status(t.Context(), "j")
			})
			synctest.Wait()
			for range 3 {
				wg.Go(func() {
					if _, err := c.Status(t.Context(), "j"); (err == nil) != (how == "Goexit") {
						t.Error(how, err)
					}
				})
			}
			wg.Wait()
			if _, err := c.Status(t.Context(), "j"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Property 34: distinct ids never share an answer.
func TestDistinctJobsNeverShareAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return respond(r, 200, `{"result":"pending","message":"`+r.URL.Path[len("/status/"):]+`"}`), nil
		})
		var wg sync.WaitGroup
		for i := range 200 {
			id := fmt.Sprint(i % 50)
			wg.Go(func() {
				if st, err := c.Status(t.Context(), id); err != nil || st.JobID != id || st.Message != id {
					t.Errorf("%s: %+v, %v", id, st, err)
				}
			})
		}
		wg.Wait()
	})
}

// A failed job is an answer of Status. Property 10: a finished job is returned without a tick.
func TestStatusReportsAFailedJobAsAnAnswer(t *testing.T) {
	s := testserver.Start(t, testserver.Failed("no sound"))
	st, err := clientFor(t, s).Status(t.Context(), "j")
	if err != nil || st.State != StateFailed || st.Message != "no sound" || !strings.Contains(string(st.Body), "no sound") || st.CheckedAt.IsZero() {
		t.Errorf("%+v, %v", st, err)
	}
}

// Property 39 for Status: a server that restarts on the same port is found again.
func TestStatusSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Pending())
		c := clientFor(t, s, every(time.Second, 5), WithCache(nil), WithBreaker(nil))
		if _, err := c.Status(t.Context(), "j"); err != nil {
			t.Fatal(err)
		}
		s.Stop()
		time.AfterFunc(2500*time.Millisecond, s.Restart)
		start := time.Now()
		if _, err := c.Status(t.Context(), "j"); err != nil || time.Since(start) != 3*time.Second {
			t.Error(err, time.Since(start))
		}
	})
}

// retryFunc is a Backoff made of a function.
type retryFunc func(Attempt) (time.Duration, bool)

func (f retryFunc) Next(a Attempt) (time.Duration, bool) { return f(a) }

// Attempt.Elapsed counts for retrying from where the first try began, and not from
// its end.
func TestRetryingCountsFromTheBeginningOfTheFirstTry(t *testing.T) {
	slow := func(ctx context.Context) error {
		select {
		case <-time.After(2 * time.Second):
			return errors.New("down")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var got []time.Duration
	retry := WithRetry(retryFunc(func(a Attempt) (time.Duration, bool) {
		got = append(got, a.Elapsed)
		return time.Second, a.Number < 3
	}))
	for _, tt := range []struct {
		name string
		opts []Option
		base string
	}{
		{"HTTP", []Option{WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			return nil, slow(r.Context())
		})})}, "http://backend.invalid"},
		{"WithFetch", []Option{WithFetch(func(ctx context.Context, _ string) (Status, error) {
			return Status{}, slow(ctx)
		})}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, err := New(tt.base, append(tt.opts, retry)...)
				if err != nil {
					t.Fatal(err)
				}
				got = nil
				if _, err := c.Status(t.Context(), "a"); err == nil {
					t.Error("no error")
				}
				if want := []time.Duration{2 * time.Second, 5 * time.Second, 8 * time.Second}; !slices.Equal(got, want) {
					t.Errorf("elapsed %v, want %v", got, want)
				}
			})
		})
	}
}

// stub answers every request without a network.
type stub struct{ body string }

func (s stub) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(strings.NewReader(s.body)),
		ContentLength: int64(len(s.body)),
		Request:       r,
	}, nil
}

// BenchmarkStatus measures one whole Status over a stub transport, with retry,
// breaker, coalescing, cache write and decoding on, beside what a caller
// would write with net/http and encoding/json alone.
func BenchmarkStatus(b *testing.B) {
	const base = "http://backend.invalid"
	hc := &http.Client{Transport: stub{`{"result":"pending","message":"","progress":0.5}`}}
	// More ids than are asked for within the TTL, so that the cache answers none.
	ids := make([]string, 1<<16)
	for i := range ids {
		ids[i] = "job-" + strconv.Itoa(i)
	}
	b.Run("vtclient", func(b *testing.B) {
		c, err := New(base, WithHTTPClient(hc), WithCacheTTL(time.Millisecond, time.Millisecond))
		if err != nil {
			b.Fatal(err)
		}
		ctx := b.Context()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			st, err := c.Status(ctx, ids[i%len(ids)])
			if err != nil || st.State != StatePending || st.Cached {
				b.Fatal(st, err)
			}
		}
	})
	b.Run("net/http", func(b *testing.B) {
		ctx := b.Context()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/status/"+ids[i%len(ids)], nil)
			if err != nil {
				b.Fatal(err)
			}
			resp, err := hc.Do(req)
			if err != nil {
				b.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				b.Fatal(err)
			}
			var v struct {
				Result   string
				Message  string
				Progress float64
			}
			if err := json.Unmarshal(body, &v); err != nil || v.Result != "pending" {
				b.Fatal(v, err)
			}
		}
	})
	b.Run("cached", func(b *testing.B) {
		c, err := New(base, WithHTTPClient(&http.Client{Transport: stub{`{"result":"completed"}`}}))
		if err != nil {
			b.Fatal(err)
		}
		ctx := b.Context()
		if _, err := c.Status(ctx, "job"); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if st, err := c.Status(ctx, "job"); err != nil || !st.Cached {
				b.Fatal(st, err)
			}
		}
	})
}
