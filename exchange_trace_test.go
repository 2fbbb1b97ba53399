package vtclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

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
					opts = append(opts, vtclient.WithBreaker(allowing(func() (func(error), error) {
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

type allowing func() (func(error), error)

func (f allowing) Allow() (func(error), error) { return f() }

// Properties 26 and 65: before Answered, the permit of the breaker has been given back.
func TestAnsweredComesAfterTheReportToTheBreaker(t *testing.T) {
	b := &notingBreaker{}
	told := 0
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"pending"}`), nil }, vtclient.WithBreaker(b),
		vtclient.WithTrace(vtclient.Trace{Answered: func(context.Context, vtclient.TraceInfo) {
			_, reports := b.noted()
			told = len(reports)
		}}))
	if _, err := c.Status(t.Context(), "j"); err != nil || told != 1 {
		t.Errorf("%d reports: %v", told, err)
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
						return respond(r, 429, "", "Retry-After: 60"), nil
					}
					return respond(r, 200, `{"result":"pending"}`), nil
				}, vtclient.WithMaxInFlight(1), vtclient.WithBreaker(nil), vtclient.WithTrace(vtclient.Trace{
					Sent: func(_ context.Context, i vtclient.TraceInfo) {
						mu.Lock()
						sent = append(sent, i.JobID)
						mu.Unlock()
						if i.JobID == "second" {
							time.Sleep(time.Second)
						}
					},
					Answered: func(_ context.Context, i vtclient.TraceInfo) {
						mu.Lock()
						defer mu.Unlock()
						line := i.JobID
						var h *vtclient.HTTPError
						switch {
						case errors.As(i.Err, &h):
							line += fmt.Sprintf(" %d of %s, wire %d", h.StatusCode, h.JobID, i.Wire)
						case i.Err != nil:
							line += " " + i.Err.Error()
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
				ctxFirst, cancelFirst := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancelFirst()
				wg.Go(func() { c.Status(ctxFirst, "first") })
				wg.Wait()
				if len(sent) != len(answered) {
					t.Errorf("sent %q, answered %q", sent, answered)
				}
				if tt.want == nil {
					if sentAt[1] != 63*time.Second || answered[1] != "second 429 of first, wire 0" {
						t.Errorf("sent at %v, answered %q", sentAt, answered)
					}
				} else if len(sentAt) != 1 || answered[0] != "second context deadline exceeded" {
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
	b := &notingBreaker{}
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
	if n, told := b.noted(); n != 4 || len(told) != 4 || !errors.Is(told[0], context.Canceled) || told[3] != nil {
		t.Errorf("%d permits, told %v", n, told)
	}
}
