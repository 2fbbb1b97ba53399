package contract_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// A 401 is tried once more where WithRequest can bring a fresh token.
func TestA401IsTriedOnceMoreWithAFreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := 0
		fresh := vtclient.WithRequest(func(r *http.Request) error {
			tokens++
			r.Header.Set("Authorization", fmt.Sprint("Bearer ", tokens))
			return nil
		})
		for _, tt := range []struct {
			opts  []vtclient.Option
			steps []testserver.Step
			want  int
			ok    bool
		}{
			{nil, []testserver.Step{testserver.Reply(401, "")}, 1, false},
			{[]vtclient.Option{fresh}, []testserver.Step{testserver.Reply(401, "")}, 2, false},
			{[]vtclient.Option{fresh}, []testserver.Step{testserver.Reply(401, ""), testserver.Pending()}, 2, true},
			{[]vtclient.Option{fresh}, []testserver.Step{testserver.Reply(403, ""), testserver.Pending()}, 1, false},
		} {
			s := testserver.StartInMemory(t, tt.steps...)
			tokens = 0
			start := time.Now()
			_, err := clientFor(t, s, tt.opts...).Status(t.Context(), "j")
			got := s.Requests()
			if (err == nil) != tt.ok || len(got) != tt.want || time.Since(start) > 0 {
				t.Errorf("%v after %d requests, want %d", err, len(got), tt.want)
			}
			if tt.ok && got[1].Header.Get("Authorization") != "Bearer 2" {
				t.Errorf("the second try carries %q", got[1].Header.Get("Authorization"))
			}
		}
	})
}

// Properties 26 and 31 through the client: what is reported to a foreign breaker.
func TestWhatIsReportedToTheBreaker(t *testing.T) {
	for _, tt := range []struct {
		name   string
		step   testserver.Step
		unwell bool
	}{
		{"200", testserver.Pending(), false}, {"400", testserver.Reply(400, ""), false}, {"404", testserver.Reply(404, ""), false},
		{"408", testserver.Reply(408, ""), false}, {"425", testserver.Reply(425, ""), false}, {"429", testserver.Reply(429, ""), false},
		{"500", testserver.Reply(500, ""), true}, {"503", testserver.Reply(503, ""), true}, {"drop", testserver.Drop(), true}, {"timeout", testserver.Silence(), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &recordingBreaker{}
				clientFor(t, testserver.StartInMemory(t, tt.step), vtclient.WithBreaker(b), once()).Status(t.Context(), "j")
				if n, reported := b.recorded(); n != 1 || len(reported) != 1 || (reported[0] != nil) != tt.unwell || errors.Is(reported[0], context.Canceled) {
					t.Errorf("%d permits, reported %v", n, reported)
				}
			})
		})
	}
	t.Run("the caller leaves", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &recordingBreaker{}
			c := clientFor(t, testserver.StartInMemory(t, testserver.Silence()), vtclient.WithBreaker(b))
			for _, leave := range []func(context.Context) (context.Context, context.CancelFunc){
				func(ctx context.Context) (context.Context, context.CancelFunc) {
					return context.WithTimeout(ctx, time.Second)
				},
				func(ctx context.Context) (context.Context, context.CancelFunc) {
					ctx, cancel := context.WithCancel(ctx)
					time.AfterFunc(time.Second, cancel)
					return ctx, cancel
				},
			} {
				ctx, cancel := leave(t.Context())
				start := time.Now()
				_, err := c.Status(ctx, "j")
				if !errors.Is(err, ctx.Err()) || time.Since(start) != time.Second {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				cancel()
			}
			if n, reported := b.recorded(); n != 2 || len(reported) != 2 || !errors.Is(reported[0], context.Canceled) || !errors.Is(reported[1], context.Canceled) {
				t.Errorf("%d permits, reported %v", n, reported)
			}
		})
	})
	t.Run("a 429 where ours is asked to count it", func(t *testing.T) {
		b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 1, Count429: true})
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 429, ""), nil }, vtclient.WithBreaker(b), once())
		if c.Status(t.Context(), "j"); b.State() != "open" {
			t.Error(b.State())
		}
		var refused *vtclient.RefusedError
		if _, err := c.Status(t.Context(), "j"); !errors.As(err, &refused) || !errors.Is(err, vtclient.ErrBreakerOpen) || refused.RetryAfter() <= 0 {
			t.Error(err)
		}
	})
}

// Property 27 through the client: a panic in what the caller plugged in gives
// the permit and the place in flight back.
func TestAPanicGivesPermitAndPlaceBack(t *testing.T) {
	boom := func(on *bool) {
		if *on {
			panic("boom")
		}
	}
	for _, where := range []string{"WithRequest", "Decode", "Sent", "Answered", "transport", "limiter"} {
		t.Run(where, func(t *testing.T) {
			on := map[string]*bool{}
			for _, w := range []string{"WithRequest", "Decode", "Sent", "Answered", "transport", "limiter"} {
				v := w == where
				on[w] = &v
			}
			b := &recordingBreaker{}
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				boom(on["transport"])
				return respond(r, 200, `{"result":"pending"}`), nil
			}, vtclient.WithMaxInFlight(1), vtclient.WithBreaker(b), vtclient.WithCache(nil),
				vtclient.WithLimiter(&countingLimiter{then: func() { boom(on["limiter"]) }}),
				vtclient.WithRequest(func(*http.Request) error { boom(on["WithRequest"]); return nil }),
				vtclient.WithEndpoint(vtclient.Endpoint{Decode: func(a vtclient.Answer) (vtclient.Status, error) {
					boom(on["Decode"])
					return plainDecode(a)
				}}),
				vtclient.WithTrace(vtclient.Trace{Sent: func(context.Context, vtclient.TraceInfo) { boom(on["Sent"]) }, Answered: func(context.Context, vtclient.TraceInfo) { boom(on["Answered"]) }}))
			func() {
				defer func() {
					if r := recover(); r != "boom" {
						t.Errorf("recovered %v", r)
					}
				}()
				c.Status(t.Context(), "j")
			}()
			*on[where] = false
			if _, err := c.Status(t.Context(), "j"); err != nil {
				t.Error(err)
			}
			if n, reported := b.recorded(); len(reported) != n {
				t.Errorf("%d permits, %v given back", n, reported)
			}
		})
	}
}

// Property 23: concurrent first use, under -race, over real sockets.
func TestConcurrentFirstUse(t *testing.T) {
	s := testserver.Start(t, testserver.Pending())
	c, err := vtclient.New(s.URL(), vtclient.WithHeader("X-Key", "value"), vtclient.WithRequest(func(r *http.Request) error { r.Header.Set("X-A", "b"); return nil }))
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			if _, err := c.Status(t.Context(), fmt.Sprint(i%8)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Property 26: a context error of another origin is not the end of the caller's own context.
func TestForeignContextErrorsAreNotTheCallers(t *testing.T) {
	for _, foreign := range []error{context.DeadlineExceeded, context.Canceled} {
		wrapped := fmt.Errorf("%w: %w", io.ErrNoProgress, foreign)
		for _, where := range []string{"transport", "with a secret", "body", "WithRequest", "limiter", "Decode"} {
			b := &recordingBreaker{}
			l := &countingLimiter{}
			if where == "limiter" {
				l.err = wrapped
			}
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				resp := respond(r, 200, "")
				switch where {
				case "transport":
					return nil, wrapped
				case "with a secret":
					return nil, fmt.Errorf("key s3cr3t: %w", wrapped)
				case "body":
					resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), errorReader{wrapped}))
				}
				return resp, nil
			}, once(), vtclient.WithBreaker(b), vtclient.WithLimiter(l), vtclient.WithHeader("X-Api-Key", "s3cr3t"),
				vtclient.WithRequest(func(*http.Request) error {
					if where == "WithRequest" {
						return wrapped
					}
					return nil
				}),
				vtclient.WithEndpoint(vtclient.Endpoint{Decode: func(vtclient.Answer) (vtclient.Status, error) { return vtclient.Status{}, wrapped }}))
			_, err := c.Status(t.Context(), "j")
			var te *vtclient.TransportError
			if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || !errors.Is(err, io.ErrNoProgress) ||
				errors.As(err, &te) != (where != "Decode") || te != nil && te.Timeout() != (foreign == context.DeadlineExceeded) {
				t.Errorf("%s: %v", where, err)
			}
			if _, reported := b.recorded(); where == "transport" && (len(reported) != 1 || errors.Is(reported[0], context.Canceled)) {
				t.Errorf("the breaker got %v", reported)
			}
		}
	}
}

// A dueContext has a deadline and a timer that is late.
type dueContext struct {
	context.Context
	deadline time.Time
}

func (c dueContext) Deadline() (time.Time, bool) { return c.deadline, true }

// What fails at the very instant of the caller's deadline is the caller's end: neutral, and not reported to others.
func TestAFailureAtTheDeadlineIsTheCallersEnd(t *testing.T) {
	for _, where := range []string{"transport", "WithRequest", "limiter"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int32
				failing := func(at string) error {
					if at == where && n.Add(1) == 1 {
						time.Sleep(time.Second)
						return errors.New("broke")
					}
					return nil
				}
				b := &recordingBreaker{}
				l := limiterFunc(func(context.Context) error { return failing("limiter") })
				c := stubbed(t, func(r *http.Request) (*http.Response, error) {
					if err := failing("transport"); err != nil {
						return nil, err
					}
					return respond(r, 200, `{"result":"pending"}`), nil
				}, once(), vtclient.WithBreaker(b), vtclient.WithLimiter(l), vtclient.WithRequest(func(*http.Request) error { return failing("WithRequest") }))
				var wg sync.WaitGroup
				wg.Go(func() {
					_, err := c.Status(dueContext{t.Context(), time.Now().Add(time.Second)}, "j")
					var te *vtclient.TransportError
					if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &te) {
						t.Errorf("the caller got %v", err)
					}
				})
				synctest.Wait()
				if _, err := c.Status(t.Context(), "j"); err != nil {
					t.Errorf("a caller that shares the call got %v", err)
				}
				wg.Wait()
				want := 2
				if where == "limiter" {
					want = 1
				}
				if _, reported := b.recorded(); len(reported) != want || want == 2 && !errors.Is(reported[0], context.Canceled) || reported[want-1] != nil {
					t.Errorf("the breaker got %v", reported)
				}
			})
		})
	}
}

// What is reported to a breaker when the caller left matches context.Canceled, has a text, and
// matches nothing else.
func TestWhatIsReportedToTheBreakerOfACallerThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &recordingBreaker{}
		c := clientFor(t, testserver.StartInMemory(t, testserver.Silence()), vtclient.WithBreaker(b))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.Status(ctx, "j")
		_, reported := b.recorded()
		if len(reported) != 1 || !errors.Is(reported[0], context.Canceled) || errors.Is(reported[0], io.EOF) || errors.Is(reported[0], context.DeadlineExceeded) || reported[0].Error() == "" {
			t.Errorf("reported %v", reported)
		}
	})
}

// A breaker that takes its time, beyond the caller's: nothing is sent, and the
// permit is given back without a word about the backend.
func TestNoRequestAfterALateBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported []error
		slow := breakerFunc(func() (func(error), error) {
			time.Sleep(time.Minute)
			return func(err error) { reported = append(reported, err) }, nil
		})
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF }, vtclient.WithBreaker(slow))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var w *vtclient.WaitError
		if _, err := c.Status(ctx, "j"); !errors.As(err, &w) || w.Requests != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if len(reported) != 1 || !errors.Is(reported[0], context.Canceled) {
			t.Errorf("the breaker got %v", reported)
		}
	})
}

// A refusal names its job and the number that the request would have had.
func TestARefusalNamesJobAndNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		b := &recordingBreaker{}
		answers := []string{`{"result":"pending"}`, "oops", "oops", `{"result":"completed"}`}
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			answer := answers[0]
			if answers = answers[1:]; answer != "oops" {
				return respond(r, 200, answer), nil
			}
			b.mu.Lock()
			b.refusal = errors.New("shut")
			b.mu.Unlock()
			time.AfterFunc(90*time.Second, func() { b.mu.Lock(); b.refusal = nil; b.mu.Unlock() })
			return respond(r, 200, answer), nil
		}, vtclient.WithBreaker(b), vtclient.WithRetry(vtclient.Constant(time.Minute)), vtclient.WithOutageTolerance(time.Hour), vtclient.WithPolling(vtclient.Constant(time.Second)), vtclient.WithTrace(r.trace()))
		if _, err := c.Wait(t.Context(), "j"); err != nil {
			t.Error(err)
		}
		var got []string
		for i, name := range r.names {
			if name == "sent" || name == "refused" {
				got = append(got, fmt.Sprint(name, r.infos[i].Attempt))
			}
			var refused *vtclient.RefusedError
			if name == "refused" && (!errors.As(r.infos[i].Err, &refused) || refused.JobID != "j" || r.infos[i].JobID != "j") {
				t.Errorf("%+v", r.infos[i])
			}
		}
		if want := "[sent1 sent2 refused3 sent3 refused4 sent4]"; fmt.Sprint(got) != want {
			t.Errorf("%v, want %s", got, want)
		}
	})
}

// A 401 that is asked about once more is two requests: in the Attempt of a wait's Backoff, and
// in the error that a wait ends with.
func TestA401CountsAsTheRequestThatItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		var reported []int
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			if n++; n == 1 {
				return respond(r, 401, ""), nil
			}
			return respond(r, 200, `{"result":"pending"}`), nil
		}, vtclient.WithRequest(func(*http.Request) error { return nil }), vtclient.WithPolling(backoffFunc(func(a vtclient.Attempt) (time.Duration, bool) {
			reported = append(reported, a.Number)
			return time.Second, len(reported) < 3
		})))
		var w *vtclient.WaitError
		if _, err := c.Wait(t.Context(), "j"); !errors.As(err, &w) || w.Requests != 4 || n != 4 || !slices.Equal(reported, []int{2, 3, 4}) {
			t.Errorf("%v after %d requests, reported %v", err, n, reported)
		}
	})
}

// Property 65: callbacks that ask about another job never stand still together, though
// there are as many as there are places in flight.
func TestTraceCallbacksMayAskAboutOtherJobs(t *testing.T) {
	const n = 64
	for _, where := range []string{"Sent", "Answered", "Refused"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c *vtclient.Client
				var met sync.WaitGroup // so that all callbacks run at once
				met.Add(n)
				ask := func(ctx context.Context, info vtclient.TraceInfo) {
					if id, first := strings.CutPrefix(info.JobID, "job"); first {
						met.Done()
						met.Wait()
						if _, err := c.Status(ctx, "other"+id); err != nil {
							t.Error(err)
						}
					}
				}
				trace := vtclient.Trace{Sent: ask}
				opts := []vtclient.Option{vtclient.WithMaxInFlight(n), once(), vtclient.WithBreaker(nil)}
				switch where {
				case "Answered":
					trace = vtclient.Trace{Answered: ask}
				case "Refused":
					trace = vtclient.Trace{Refused: ask}
					var asked atomic.Int32
					opts = append(opts, vtclient.WithBreaker(breakerFunc(func() (func(error), error) {
						if asked.Add(1) <= n {
							return nil, errors.New("shut")
						}
						return func(error) {}, nil
					})))
				}
				var inFlight, most atomic.Int32
				c = stubbed(t, func(r *http.Request) (*http.Response, error) {
					most.Store(max(most.Load(), inFlight.Add(1)))
					defer inFlight.Add(-1)
					time.Sleep(time.Second)
					return respond(r, 200, `{"result":"pending"}`), nil
				}, append(opts, vtclient.WithTrace(trace))...)
				var wg sync.WaitGroup
				for i := range n {
					wg.Go(func() {
						var refused *vtclient.RefusedError
						if _, err := c.Status(t.Context(), fmt.Sprint("job", i)); err != nil && (where != "Refused" || !errors.As(err, &refused)) {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if most.Load() > n {
					t.Errorf("%d requests in flight", most.Load())
				}
			})
		})
	}
}

// Properties 26 and 65: before Answered, the permit of the breaker has been given back.
func TestAnsweredComesAfterTheReportToTheBreaker(t *testing.T) {
	b := &recordingBreaker{}
	reported := 0
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"pending"}`), nil }, vtclient.WithBreaker(b),
		vtclient.WithTrace(vtclient.Trace{Answered: func(context.Context, vtclient.TraceInfo) {
			_, reports := b.recorded()
			reported = len(reports)
		}}))
	if _, err := c.Status(t.Context(), "j"); err != nil || reported != 1 {
		t.Errorf("%d reports: %v", reported, err)
	}
}

// Property 41: the time in which a Sent runs, and that in which its request then waits for
// a place in flight, is no slowness of the backend: the attempt's timeout stands still.
func TestTheTimeoutStandsStillDuringSent(t *testing.T) {
	for name, prepare := range map[string]func(*http.Request) error{
		"plain":                        nil,
		"WithRequest":                  func(*http.Request) error { return nil },
		"WithRequest uses the context": func(r *http.Request) error { return r.Context().Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 5
				opts := []vtclient.Option{vtclient.WithMaxInFlight(1), vtclient.WithTimeout(time.Second), once(),
					vtclient.WithTrace(vtclient.Trace{
						Sent: func(context.Context, vtclient.TraceInfo) { time.Sleep(2 * time.Second) },
						Answered: func(_ context.Context, i vtclient.TraceInfo) {
							if i.Latency != 900*time.Millisecond {
								t.Errorf("a latency of %v", i.Latency)
							}
						},
					})}
				if prepare != nil {
					opts = append(opts, vtclient.WithRequest(prepare))
				}
				c := stubbed(t, func(r *http.Request) (*http.Response, error) {
					select {
					case <-time.After(900 * time.Millisecond):
						return respond(r, 200, `{"result":"pending"}`), nil
					case <-r.Context().Done():
						return nil, r.Context().Err()
					}
				}, opts...)
				start := time.Now()
				var wg sync.WaitGroup
				for i := range n {
					wg.Go(func() {
						if _, err := c.Status(t.Context(), fmt.Sprint(i)); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if took := time.Since(start); took != 2*time.Second+n*900*time.Millisecond {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// There is one Answered for each Sent, also where the request is not made after all: a 429
// has come meanwhile, or the caller has left. Neither is a fault, and nothing is sent.
func TestWhatComesUpDuringSent(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit time.Duration // of the second call's context
		want  error
	}{
		{"a 429", time.Hour, nil},
		{"the end of the caller's time in the callback", 500 * time.Millisecond, context.DeadlineExceeded},
		{"the end of the caller's time in the queue", 1500 * time.Millisecond, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var sent, answered []string
				var sentAt []time.Duration
				start := time.Now()
				c := stubbed(t, func(r *http.Request) (*http.Response, error) {
					mu.Lock()
					sentAt = append(sentAt, time.Since(start))
					n := len(sentAt)
					mu.Unlock()
					if n == 1 {
						time.Sleep(2 * time.Second)
						return respond(r, 429, "", "Retry-After: 6"), nil
					}
					return respond(r, 200, `{"result":"pending"}`), nil
				}, vtclient.WithMaxInFlight(1), vtclient.WithBreaker(nil), vtclient.WithTrace(vtclient.Trace{
					Sent: func(_ context.Context, i vtclient.TraceInfo) {
						mu.Lock()
						sent = append(sent, fmt.Sprint(i.JobID, " as number ", i.Attempt))
						mu.Unlock()
						if i.JobID == "second" {
							time.Sleep(time.Second)
						}
					},
					Answered: func(_ context.Context, i vtclient.TraceInfo) {
						mu.Lock()
						defer mu.Unlock()
						line := i.JobID
						if i.Err != nil {
							line += fmt.Sprintf(" as number %d, wire %d: %v", i.Attempt, i.Wire, i.Err)
						}
						answered = append(answered, line)
					},
				}))
				var wg sync.WaitGroup
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				defer cancel()
				wg.Go(func() {
					if _, err := c.Status(ctx, "second"); !errors.Is(err, tt.want) {
						t.Errorf("second: %v", err)
					}
				})
				synctest.Wait()
				ctxFirst, cancelFirst := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancelFirst()
				wg.Go(func() { c.Status(ctxFirst, "first") })
				wg.Wait()
				if len(sent) != len(answered) || slices.Contains(sent[1:], sent[0]) {
					t.Errorf("sent %q, answered %q", sent, answered)
				}
				if tt.want == nil {
					if sentAt[1] != 9*time.Second || answered[1] != "second as number 1, wire 0: not sent: a 429 holds it" || answered[2] != "second" {
						t.Errorf("sent at %v, answered %q", sentAt, answered)
					}
				} else if len(sentAt) != 1 || answered[0] != "second as number 1, wire 0: context deadline exceeded" {
					t.Errorf("sent at %v, answered %q", sentAt, answered)
				}
				if _, err := c.Status(t.Context(), "third"); err != nil {
					t.Error(err) // the places have been given back
				}
			})
		})
	}
}

// What a Sent that panics or ends its goroutine had, is given back.
func TestASentThatEndsItsGoroutineLeavesItsPlace(t *testing.T) {
	b := &recordingBreaker{}
	panics := true
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"pending"}`), nil },
		vtclient.WithMaxInFlight(1), vtclient.WithBreaker(b), vtclient.WithTrace(vtclient.Trace{Sent: func(context.Context, vtclient.TraceInfo) {
			if panics {
				panic(io.EOF)
			}
		}}))
	for range 3 {
		func() {
			defer func() {
				if r := recover(); r != io.EOF {
					t.Errorf("recovered %v", r)
				}
			}()
			c.Status(t.Context(), "j")
		}()
	}
	panics = false
	if _, err := c.Status(t.Context(), "j"); err != nil {
		t.Error(err)
	}
	if n, reported := b.recorded(); n != 4 || len(reported) != 4 || !errors.Is(reported[0], context.Canceled) || reported[3] != nil {
		t.Errorf("%d permits, reported %v", n, reported)
	}
}
