package contract_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// sdkError stands for the error of an SDK.
type sdkError struct {
	code  string
	pause time.Duration
}

func (e *sdkError) Error() string             { return "sdk: " + e.code }
func (e *sdkError) RetryAfter() time.Duration { return e.pause }

// fetching returns a client that asks f, whose argument n counts its calls from 1.
func fetching(t *testing.T, f func(ctx context.Context, n int) (vtclient.Status, error), opts ...vtclient.Option) *vtclient.Client {
	t.Helper()
	var mu sync.Mutex
	n := 0
	c, err := vtclient.New("", append([]vtclient.Option{
		vtclient.WithFetch(func(ctx context.Context, jobID string) (vtclient.Status, error) {
			mu.Lock()
			n++
			n := n
			mu.Unlock()
			return f(ctx, n)
		}),
		vtclient.WithPolling(vtclient.Constant(10 * time.Second)), every(time.Second, 3),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var done = vtclient.Status{State: vtclient.StateCompleted}

func TestWithFetchWaitsLikeOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := []byte(`{"url":"u"}`)
		var traced []string
		trace := vtclient.Trace{
			Sent: func(_ context.Context, i vtclient.TraceInfo) { traced = append(traced, fmt.Sprint("sent ", i.Attempt)) },
			Answered: func(_ context.Context, i vtclient.TraceInfo) {
				traced = append(traced, fmt.Sprintf("answered %d %q %t wire %d in %v", i.Attempt, i.State, i.Err != nil, i.Wire, i.Latency))
			},
		}
		learner := &lessonNotes{Constant: vtclient.Constant(10 * time.Second)}
		c := fetching(t, func(_ context.Context, n int) (vtclient.Status, error) {
			time.Sleep(time.Second)
			switch n {
			case 1:
				return vtclient.Status{JobID: "forged", Cached: true, State: vtclient.StatePending, Progress: 7, Body: body, ResultMissing: true}, nil
			case 2:
				return vtclient.Status{State: vtclient.StateCompleted}, errors.New("unavailable") // the error counts
			}
			return vtclient.Status{State: vtclient.StateCompleted, Body: body}, nil
		}, vtclient.WithTrace(trace), vtclient.WithPolling(learner))
		var seen []vtclient.Status
		var faults []string
		st, err := c.Wait(t.Context(), "j", vtclient.OnProgress(func(st vtclient.Status) { seen = append(seen, st) }),
			vtclient.OnError(func(err error) { faults = append(faults, err.Error()) }))
		body[2] = 'X'
		if err != nil || st.State != vtclient.StateCompleted || st.JobID != "j" || string(st.Body) != `{"url":"u"}` || !st.CheckedAt.Equal(time.Now()) {
			t.Errorf("%+v, %v", st, err)
		}
		if len(seen) != 2 || seen[0].JobID != "j" || seen[0].Cached || seen[0].Progress != 1 || seen[0].Body != nil || seen[0].ResultMissing {
			t.Errorf("seen %+v", seen)
		}
		if want := []string{`vtclient: job "j": request 2: WithFetch(contract_test.fetching.func1): unavailable; next request in 1s`}; !slices.Equal(faults, want) {
			t.Errorf("faults %q, want %q", faults, want)
		}
		want := []string{
			"sent 1", `answered 1 "pending" false wire 1 in 1s`,
			"sent 2", `answered 2 "" true wire 1 in 1s`,
			"sent 3", `answered 3 "completed" false wire 1 in 1s`,
		}
		if !slices.Equal(traced, want) {
			t.Errorf("traced %q, want %q", traced, want)
		}
		if l := learner.lessons; len(l) != 1 || l[0].PendingAt != 0 || l[0].DoneBy != 14*time.Second {
			t.Errorf("learnt %+v", l)
		}
		if st, err := c.Status(t.Context(), "j"); err != nil || !st.Cached {
			t.Errorf("cached: %+v, %v", st, err)
		}
		c.CloseIdleConnections() // has none
	})
}

func TestAnErrorOfFetchIsAFaultUnlessItMatchesErrFinal(t *testing.T) {
	sdk := &sdkError{code: "UNAVAILABLE"}
	for _, tt := range []struct {
		name  string
		give  error
		calls int
		text  string // how the error begins after job and request
	}{
		{"any error is retried", errors.New("boom"), 3, "boom; not retried: WithRetry stops after try 3"},
		{"an error of the caller's own type is retried", sdk, 3, "sdk: UNAVAILABLE; not retried"},
		{"one that wraps ErrFinal is not", fmt.Errorf("%w: no such job", vtclient.ErrFinal), 1, "final: no such job; not retried"},
		{"one that wraps ErrFinal and another", fmt.Errorf("%w: %w", vtclient.ErrFinal, sdk), 1, "final: sdk: UNAVAILABLE; not retried"},
		{"ErrFinal itself", vtclient.ErrFinal, 1, "final; not retried"},
		{"a deadline that is not the caller's is retried", fmt.Errorf("%w in the sdk: %w", context.DeadlineExceeded, sdk), 3, "context deadline exceeded in the sdk: "},
		{"a cancellation that is not the caller's is retried", context.Canceled, 3, "context canceled; not retried"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &recordingBreaker{}
				calls := 0
				c := fetching(t, func(context.Context, int) (vtclient.Status, error) { calls++; return done, tt.give }, vtclient.WithBreaker(b))
				st, err := c.Status(t.Context(), "j")
				var tr *vtclient.TransportError
				if !errors.As(err, &tr) || tr.JobID != "j" || tr.Attempt != tt.calls || calls != tt.calls || st.State != "" {
					t.Fatalf("%d calls, %+v, %v; want %d", calls, st, err, tt.calls)
				}
				if want := fmt.Sprintf(`vtclient: job "j": request %d: WithFetch(contract_test.fetching.func1): %s`, tt.calls, tt.text); !strings.HasPrefix(err.Error(), want) {
					t.Errorf("%v, want %s", err, want)
				}
				var own *sdkError
				if errors.As(tt.give, &own) != errors.As(err, &own) || errors.Is(tt.give, vtclient.ErrFinal) != errors.Is(err, vtclient.ErrFinal) {
					t.Errorf("the caller's error is not found in %v", err)
				}
				if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v speaks of the caller's context", err)
				}
				for _, reported := range b.reported {
					if (reported == nil) != errors.Is(tt.give, vtclient.ErrFinal) || errors.Is(reported, context.Canceled) {
						t.Errorf("the breaker got %v", reported)
					}
				}
				if len(b.reported) != tt.calls {
					t.Errorf("the breaker got %d of %d calls", len(b.reported), tt.calls)
				}
			})
		})
	}
}

func TestAWaitEndsAtOnceWithAFinalErrorOfFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fetching(t, func(_ context.Context, n int) (vtclient.Status, error) {
			if n == 1 {
				return vtclient.Status{State: vtclient.StatePending}, nil
			}
			return done, fmt.Errorf("%w: deleted", vtclient.ErrFinal)
		})
		began := time.Now()
		st, err := c.Wait(t.Context(), "j")
		if took := time.Since(began); !errors.Is(err, vtclient.ErrFinal) || st.State != vtclient.StatePending || took != 10*time.Second {
			t.Errorf("%+v, %v after %v", st, err, took)
		}
	})
}

func TestFetchHasTheTimeoutOfAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &recordingBreaker{}
		c := fetching(t, func(ctx context.Context, n int) (vtclient.Status, error) {
			if n == 1 {
				<-ctx.Done()
				return done, fmt.Errorf("%w: %w", &sdkError{code: "DEADLINE_EXCEEDED"}, ctx.Err())
			}
			return done, nil
		}, vtclient.WithTimeout(3*time.Second), vtclient.WithBreaker(b))
		var fault error
		began := time.Now()
		st, err := c.Wait(t.Context(), "j", vtclient.OnError(func(err error) { fault = err }))
		var tr *vtclient.TransportError
		var own *sdkError
		if err != nil || st.State != vtclient.StateCompleted || time.Since(began) != 4*time.Second {
			t.Errorf("%+v, %v after %v", st, err, time.Since(began))
		}
		if !errors.As(fault, &tr) || !tr.Timeout() || !errors.As(fault, &own) || errors.Is(fault, context.DeadlineExceeded) ||
			!strings.Contains(fault.Error(), "request 1: WithFetch(contract_test.fetching.func1): no whole answer within 3s (sdk: DEADLINE_EXCEEDED") {
			t.Errorf("%v", fault)
		}
		if len(b.reported) != 2 || b.reported[0] == nil || b.reported[1] != nil {
			t.Errorf("the breaker got %v", b.reported)
		}
	})
}

func TestACallerThatLeavesFetchIsNoFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &recordingBreaker{}
		c := fetching(t, func(ctx context.Context, n int) (vtclient.Status, error) {
			<-ctx.Done()
			return done, errors.New("interrupted")
		}, vtclient.WithBreaker(b))
		for name, ask := range map[string]func(context.Context, string) (vtclient.Status, error){
			"Status": c.Status,
			"Wait":   func(ctx context.Context, id string) (vtclient.Status, error) { return c.Wait(ctx, id) },
		} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, err := ask(ctx, "j")
			var w *vtclient.WaitError
			if !errors.As(err, &w) || !errors.Is(err, context.Canceled) || w.Fault != nil {
				t.Errorf("%s: %v", name, err)
			}
			synctest.Wait()
		}
		for _, reported := range b.reported {
			if !errors.Is(reported, context.Canceled) {
				t.Errorf("the breaker got %v", reported)
			}
		}
	})
}

func TestAnErrorOfFetchMayCarryAPause(t *testing.T) {
	for _, tt := range []struct {
		name string
		give error
		next time.Duration // until the next call; 0: none
	}{
		{"a floor under the retry's own delay", &sdkError{"RESOURCE_EXHAUSTED", 9 * time.Second}, 9 * time.Second},
		{"wrapped", fmt.Errorf("status: %w", &sdkError{"RESOURCE_EXHAUSTED", 9 * time.Second}), 9 * time.Second},
		{"shorter than the retry's own delay", &sdkError{"RESOURCE_EXHAUSTED", time.Millisecond}, time.Second},
		{"negative", &sdkError{"RESOURCE_EXHAUSTED", -time.Hour}, time.Second},
		{"longer than WithMaxRetryAfter", &sdkError{"RESOURCE_EXHAUSTED", time.Hour}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, way := range []string{"Wait", "Status"} {
				synctest.Test(t, func(t *testing.T) {
					var calls []time.Time
					c := fetching(t, func(_ context.Context, n int) (vtclient.Status, error) {
						if calls = append(calls, time.Now()); n == 1 {
							return done, tt.give
						}
						return done, nil
					})
					var err error
					if way == "Wait" {
						_, err = c.Wait(t.Context(), "j")
					} else {
						_, err = c.Status(t.Context(), "j")
					}
					if tt.next == 0 {
						var tr *vtclient.TransportError
						if !errors.Is(err, vtclient.ErrRetryAfter) || !errors.As(err, &tr) || tr.RetryAfter != time.Hour || len(calls) != 1 {
							t.Errorf("%s: %d calls, %v", way, len(calls), err)
						}
						return
					}
					if err != nil || len(calls) != 2 || calls[1].Sub(calls[0]) != tt.next {
						t.Errorf("%s: called at %v, %v; want %v between", way, calls, err, tt.next)
					}
				})
			}
		})
	}
}

func TestAStateThatFetchMakesUpIsNamed(t *testing.T) {
	for _, word := range []string{"", "Running"} {
		calls := 0
		c := fetching(t, func(context.Context, int) (vtclient.Status, error) {
			calls++
			return vtclient.Status{State: vtclient.State(word)}, nil
		})
		_, err := c.Status(t.Context(), "j")
		var state *vtclient.UnknownStateError
		if !errors.As(err, &state) || state.Word != word || calls != 1 ||
			!strings.Contains(err.Error(), fmt.Sprintf("unknown job state %q; not retried: the function given to WithFetch must return one of the three states", word)) {
			t.Errorf("%q: %d calls, %v", word, calls, err)
		}
	}
}

func TestAFailedJobIsAnAnswerOfFetch(t *testing.T) {
	c := fetching(t, func(context.Context, int) (vtclient.Status, error) {
		return vtclient.Status{State: vtclient.StateFailed, Message: "no speech"}, nil
	})
	_, err := c.Wait(t.Context(), "j")
	if !errors.Is(err, vtclient.ErrJobFailed) || !strings.Contains(err.Error(), "no speech") {
		t.Error(err)
	}
}

func TestFetchMayHandOverAResultThatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		c := fetching(t, func(context.Context, int) (vtclient.Status, error) {
			calls++
			return vtclient.Status{State: vtclient.StateCompleted, ResultMissing: calls < 3}, nil
		})
		if st, err := c.Wait(t.Context(), "j"); err != nil || st.ResultMissing || calls != 3 {
			t.Errorf("%d calls, %+v, %v", calls, st, err)
		}
	})
}

// The panic reaches the callers of this call, and no other: the next call works.
func TestAPanicInFetchIsThatOfTheCaller(t *testing.T) {
	for _, way := range []string{"Wait", "Status"} {
		b := &recordingBreaker{}
		c := fetching(t, func(_ context.Context, n int) (vtclient.Status, error) {
			if n == 1 {
				panic("in the sdk")
			}
			return done, nil
		}, vtclient.WithMaxInFlight(1), vtclient.WithBreaker(b))
		ask := func() (_ vtclient.Status, err error) {
			if way == "Wait" {
				return c.Wait(t.Context(), "j")
			}
			return c.Status(t.Context(), "j")
		}
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "in the sdk") {
					t.Errorf("%s: recovered %v", way, p)
				}
			}()
			ask()
		}()
		if st, err := ask(); err != nil || st.State != vtclient.StateCompleted || len(b.reported) != 2 || !errors.Is(b.reported[0], context.Canceled) {
			t.Errorf("%s: %+v, %v, the breaker got %v", way, st, err, b.reported)
		}
	}
}

func TestWithFetchSharesAndBoundsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		calls, now, most := map[string]int{}, 0, 0
		c, err := vtclient.New("", vtclient.WithMaxInFlight(2), vtclient.WithFetch(func(ctx context.Context, id string) (vtclient.Status, error) {
			mu.Lock()
			calls[id]++
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return done, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				id := fmt.Sprint("job ", i%3)
				if i < 15 {
					c.Status(t.Context(), id)
				} else {
					c.Wait(t.Context(), id)
				}
			})
		}
		wg.Wait()
		// One for the Status calls, one for the waits.
		for id, n := range calls {
			if n > 2 {
				t.Errorf("%s: %d calls", id, n)
			}
		}
		if len(calls) != 3 || most != 2 {
			t.Errorf("%v, %d at once", calls, most)
		}
	})
}

func TestTheBreakerOpensOverFetch(t *testing.T) {
	calls := 0
	c := fetching(t, func(context.Context, int) (vtclient.Status, error) { calls++; return done, errors.New("down") }, once())
	for range 5 {
		c.Status(t.Context(), "j")
	}
	if _, err := c.Status(t.Context(), "j"); !errors.Is(err, vtclient.ErrBreakerOpen) || calls != 5 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// No URL is made of an id, so none is dangerous; only the empty and the huge are refused.
func TestFetchIsGivenTheIDAsItIs(t *testing.T) {
	for _, tt := range []struct {
		id string
		ok bool
	}{
		{"projects/p/operations/1", true},
		{"../../x", true},
		{".", true},
		{"a\x00b\xff", true},
		{strings.Repeat("x", 2048), true},
		{strings.Repeat("x", 2049), false},
		{"", false},
	} {
		var got []string
		c, err := vtclient.New("", vtclient.WithFetch(func(_ context.Context, id string) (vtclient.Status, error) {
			got = append(got, id)
			return done, nil
		}), vtclient.WithCache(nil))
		if err != nil {
			t.Fatal(err)
		}
		_, serr := c.Status(t.Context(), tt.id)
		_, werr := c.Wait(t.Context(), tt.id)
		var arg *vtclient.ArgumentError
		switch {
		case tt.ok && (serr != nil || werr != nil || !slices.Equal(got, []string{tt.id, tt.id})):
			t.Errorf("%.20q: %v, %v, %.20q", tt.id, serr, werr, got)
		case !tt.ok && (!errors.As(serr, &arg) || !errors.As(werr, &arg) || arg.Where != "job id" || len(got) != 0):
			t.Errorf("%.20q: %v, %v, %d calls; want refusals", tt.id, serr, werr, len(got))
		}
	}
}

func TestNewRefusesWhatWithFetchWouldOverride(t *testing.T) {
	fetch := vtclient.WithFetch(func(context.Context, string) (vtclient.Status, error) { return done, nil })
	for _, tt := range []struct {
		name string
		base string
		opts []vtclient.Option
		want []string // the lines of the error
	}{
		{"no base URL", "", nil, nil},
		{"a base URL that is not needed", "https://api.example.com", nil, nil},
		{"a base URL that is none", "api.example.com", nil, []string{"New: baseURL: "}},
		{"the last WithFetch holds", "", []vtclient.Option{fetch}, nil},
		{"nil", "", []vtclient.Option{vtclient.WithFetch(nil)}, []string{"WithFetch: got nil, want a function"}},
		{"WithHTTPClient", "", []vtclient.Option{vtclient.WithHTTPClient(http.DefaultClient)}, []string{"WithHTTPClient: got WithFetch beside it"}},
		{"WithEndpoint", "", []vtclient.Option{vtclient.WithEndpoint(vtclient.HeyGenV3())}, []string{"WithEndpoint: got WithFetch beside it"}},
		{"the zero Endpoint", "", []vtclient.Option{vtclient.WithEndpoint(vtclient.Endpoint{})}, []string{"WithEndpoint: got WithFetch beside it"}},
		{"WithRequest", "", []vtclient.Option{vtclient.WithRequest(func(*http.Request) error { return nil })}, []string{"WithRequest: got WithFetch beside it"}},
		{"WithMaxBody", "", []vtclient.Option{vtclient.WithMaxBody(1 << 20)}, []string{"WithMaxBody: got WithFetch beside it"}},
		{"WithHeader, once for all", "", []vtclient.Option{vtclient.WithHeader("A", "secret"), vtclient.WithHeader("B", "secret")}, []string{"WithHeader: got WithFetch beside it"}},
		{"all that is wrong is named", "x", []vtclient.Option{vtclient.WithMaxBody(1), vtclient.WithEndpoint(vtclient.Endpoint{Path: "x"})},
			[]string{"New: baseURL: ", "WithMaxBody: ", "WithEndpoint: "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, opts := range [][]vtclient.Option{append([]vtclient.Option{fetch}, tt.opts...), append(slices.Clone(tt.opts), fetch)} {
				if tt.name == "nil" {
					opts = tt.opts
				}
				_, err := vtclient.New(tt.base, opts...)
				if tt.want == nil {
					if err != nil {
						t.Error(err)
					}
					continue
				}
				if err == nil {
					t.Fatal("no error")
				}
				lines := strings.Split(err.Error(), "\n")
				if tt.name != "nil" && len(lines) != len(tt.want) {
					t.Errorf("%d errors, want %d: %v", len(lines), len(tt.want), err)
				}
				for _, want := range tt.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%v, want %s", err, want)
					}
				}
				var arg *vtclient.ArgumentError
				if !errors.As(err, &arg) || strings.Contains(err.Error(), "secret") {
					t.Error(err)
				}
			}
		})
	}
}

// A base URL beside WithFetch may be there, and is of no use: an id remains any string.
func TestFetchMakesNoUseOfABaseURL(t *testing.T) {
	c, err := vtclient.New("https://api.example.com/v1", vtclient.WithFetch(func(context.Context, string) (vtclient.Status, error) { return done, nil }))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"j", "..", "a/../b"} {
		if st, err := c.Status(t.Context(), id); err != nil || st.JobID != id {
			t.Errorf("%q: %+v, %v", id, st, err)
		}
	}
	if _, err := vtclient.New("ftp://api.example.com", vtclient.WithFetch(func(context.Context, string) (vtclient.Status, error) { return done, nil })); err == nil {
		t.Error("a base URL that is none is taken")
	}
}

// A call of the function is one request to the traces and to the error that a wait ends with;
// its context ends with it; how long it took decides when the last poll before a deadline is
// made.
func TestACallOfFetchIsARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		var contexts []context.Context
		var at []time.Duration
		start := time.Now()
		c := fetching(t, func(ctx context.Context, n int) (vtclient.Status, error) {
			for _, ctx := range contexts {
				if ctx.Err() == nil {
					t.Error("the context of an earlier call is alive")
				}
			}
			contexts, at = append(contexts, ctx), append(at, time.Since(start))
			time.Sleep(100 * time.Millisecond)
			return vtclient.Status{State: vtclient.StatePending}, nil
		}, vtclient.WithTrace(r.trace()))
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		_, err := c.Wait(ctx, "j")
		var w *vtclient.WaitError
		if !errors.As(err, &w) || w.Requests != len(at) || len(at) != 3 {
			t.Errorf("%v after %d calls", err, len(at))
		}
		// Three calls of 100 ms have a mean of that and a deviation of 28.125 ms: the
		// last one begins earlier by the bound of these and 20 ms.
		if last := at[len(at)-1]; last < 14*time.Second+600*time.Millisecond || last > 14*time.Second+800*time.Millisecond {
			t.Errorf("calls at %v", at)
		}
		for i, name := range r.names {
			info := r.infos[i]
			if info.JobID != "j" || name == "answered" && (info.Wire != 1 || info.Latency != 100*time.Millisecond || info.State != vtclient.StatePending || info.Err != nil) {
				t.Errorf("%s: %+v", name, info)
			}
		}
	})
}

// The traces get the reason for which a call that its caller left has ended.
func TestTheTraceOfACallOfFetchThatWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		c := fetching(t, func(ctx context.Context, n int) (vtclient.Status, error) { <-ctx.Done(); return done, ctx.Err() }, vtclient.WithTrace(r.trace()))
		mine := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(mine) })
		c.Status(ctx, "j")
		if info := r.last("answered"); !errors.Is(info.Err, context.Canceled) || !errors.Is(info.Err, mine) || info.JobID != "j" {
			t.Errorf("%+v", info)
		}
	})
}

// A state that the function makes up is a fault, and ends a wait by its name.
func TestAStateThatFetchMakesUpEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		c := fetching(t, func(context.Context, int) (vtclient.Status, error) {
			calls++
			return vtclient.Status{State: "paused"}, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var e *vtclient.UnknownStateError
		if _, err := c.Wait(ctx, "j"); !errors.As(err, &e) || e.Word != "paused" || calls < 2 || ctx.Err() != nil {
			t.Errorf("%v after %d calls", err, calls)
		}
	})
}

// A pause beyond ten years is ten years, as in a header.
func TestAPauseOfFetchBeyondTenYears(t *testing.T) {
	c := fetching(t, func(context.Context, int) (vtclient.Status, error) {
		return vtclient.Status{}, &sdkError{pause: 11 * 365 * 24 * time.Hour}
	})
	var tr *vtclient.TransportError
	if _, err := c.Status(t.Context(), "j"); !errors.As(err, &tr) || tr.RetryAfter != 10*365*24*time.Hour {
		t.Error(err)
	}
}

// The context of a call of the function ends with the call, for a Status too.
func TestTheContextOfACallOfFetchEndsWithIt(t *testing.T) {
	var given context.Context
	c := fetching(t, func(ctx context.Context, n int) (vtclient.Status, error) { given = ctx; return done, nil })
	if _, err := c.Status(t.Context(), "j"); err != nil || given.Err() == nil {
		t.Errorf("%v; the context is alive: %v", err, given.Err() == nil)
	}
}

// The error of a wait that ends while the function given to WithFetch has not returned names
// it, with the time since it was called. It does so for the job of that call alone, and
// for no call that has returned.
func TestAFetchThatHasNotReturnedIsNamed(t *testing.T) {
	const named = ", while the function given to WithFetch, called %s before, had not returned"
	type client = vtclient.Client
	expect := func(t *testing.T, err, cause error, after string) {
		t.Helper()
		want := ""
		if after != "" {
			want = strings.Replace(named, "%s", after, 1)
		}
		if !errors.Is(err, cause) || strings.Contains(err.Error(), "WithFetch, called") != (after != "") || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want one that matches %v and has %q", err, cause, want)
		}
	}
	within := func(t *testing.T, d time.Duration) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		t.Cleanup(cancel)
		return ctx
	}
	for _, tt := range []struct {
		rule string
		run  func(t *testing.T, c *client)
	}{
		{"a deadline", func(t *testing.T, c *client) {
			_, err := c.Wait(within(t, time.Minute), "hangs")
			expect(t, err, context.DeadlineExceeded, "1m0s")
		}},
		{"the caller leaves", func(t *testing.T, c *client) {
			gone := errors.New("gone")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(2500*time.Millisecond, func() { cancel(gone) })
			_, err := c.Wait(ctx, "hangs")
			expect(t, err, gone, "2.5s")
			expect(t, err, context.Canceled, "2.5s")
		}},
		{"a Watch", func(t *testing.T, c *client) {
			for _, err := range c.Watch(within(t, time.Minute), "hangs later") {
				if err != nil {
					expect(t, err, context.DeadlineExceeded, "50s") // it is polled after 10 s
				}
			}
		}},
		{"a WaitAll names it for that job alone", func(t *testing.T, c *client) {
			for st, err := range c.WaitAll(within(t, time.Minute), vtclient.Jobs("hangs", "pending")) {
				expect(t, err, context.DeadlineExceeded, map[string]string{"hangs": "1m0s"}[st.JobID])
			}
		}},
		{"a job's own deadline", func(t *testing.T, c *client) {
			jobs := []vtclient.Job{{ID: "hangs", Deadline: time.Now().Add(3 * time.Second)}}
			for _, err := range c.WaitAll(t.Context(), slices.Values(jobs)) {
				expect(t, err, context.DeadlineExceeded, "3s")
			}
		}},
		{"a Status that shares the call", func(t *testing.T, c *client) {
			go c.Status(t.Context(), "hangs")
			synctest.Wait()
			_, err := c.Status(within(t, 4*time.Second), "hangs")
			expect(t, err, context.DeadlineExceeded, "4s")
		}},
		{"the call of another wait, after that wait", func(t *testing.T, c *client) {
			c.Wait(within(t, time.Second), "hangs")
			_, err := c.Wait(within(t, 2*time.Second), "pending")
			expect(t, err, context.DeadlineExceeded, "")
			_, err = c.Wait(within(t, 4*time.Second), "hangs") // one more call
			expect(t, err, context.DeadlineExceeded, "7s")
		}},
		{"calls that have returned", func(t *testing.T, c *client) {
			_, err := c.Wait(within(t, 5*time.Second), "pending")
			expect(t, err, context.DeadlineExceeded, "")
			_, err = c.Wait(within(t, 5*time.Second), "fails")
			expect(t, err, context.DeadlineExceeded, "")
		}},
		{"a job that queues behind it", func(t *testing.T, c *client) {
			for range 3 { // WithMaxInFlight
				go c.Wait(t.Context(), "hangs")
			}
			synctest.Wait()
			go c.Status(t.Context(), "hangs too")
			go c.Status(t.Context(), "hangs as well")
			synctest.Wait()
			_, err := c.Wait(within(t, 5*time.Second), "pending")
			expect(t, err, context.DeadlineExceeded, "")
		}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				asked := map[string]int{}
				c, err := vtclient.New("", vtclient.WithMaxInFlight(3), vtclient.WithPolling(vtclient.Constant(10*time.Second)),
					vtclient.WithCache(nil), vtclient.WithFetch(func(ctx context.Context, id string) (vtclient.Status, error) {
						if id == "hangs later" {
							asked[id]++
						}
						if strings.HasPrefix(id, "hangs") && !(id == "hangs later" && asked[id] == 1) {
							<-release // whatever becomes of ctx
						}
						if id == "fails" {
							return vtclient.Status{}, errors.New("no")
						}
						return vtclient.Status{State: vtclient.StatePending}, nil
					}))
				if err != nil {
					t.Fatal(err)
				}
				tt.run(t, c)
				close(release)
			})
		})
	}
	t.Run("not over HTTP", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := stubbed(t, func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() })
			_, err := c.Wait(within(t, 5*time.Second), "j")
			expect(t, err, context.DeadlineExceeded, "")
		})
	})
}
