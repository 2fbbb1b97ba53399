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
	"github.com/vtclient/vtclient/simserver"
)

// The limiter comes before the breaker, and its queueing is not
// counted in the attempt's timeout.
func TestTheLimiterComesFirstAndOutsideTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &recordingBreaker{}
		l := &countingLimiter{pause: time.Hour}
		l.then = func() {
			if n, _ := b.recorded(); n != 0 {
				t.Errorf("%d permits held in the limiter's queue", n)
			}
		}
		c := clientFor(t, testserver.StartInMemory(t, testserver.Delay(900*time.Millisecond, testserver.Pending())),
			vtclient.WithLimiter(l), vtclient.WithTimeout(time.Second), vtclient.WithBreaker(b), once())
		if _, err := c.Status(t.Context(), "j"); err != nil || l.waits.Load() != 1 {
			t.Error(err)
		}
		// Its own failure is a fault of the try; the caller's end is the caller's.
		l.then, l.err = nil, errors.New("limiter broke")
		var te *vtclient.TransportError
		if _, err := c.Status(t.Context(), "k"); !errors.As(err, &te) || !errors.Is(err, l.err) {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Status(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &te) {
			t.Error(err)
		}
		if n, _ := b.recorded(); n != 1 {
			t.Errorf("%d permits", n)
		}
	})
}

// Property 15: a limiter that lets a request through when the time is up does so in vain.
func TestNoRequestAfterALateLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"completed"}`), nil },
			vtclient.WithTrace(vtclient.Trace{Sent: counting(&sent)}),
			vtclient.WithLimiter(limiterFunc(func(context.Context) error { time.Sleep(time.Minute); return nil })))
		for _, ask := range []func(context.Context, string) (vtclient.Status, error){c.Status,
			func(ctx context.Context, id string) (vtclient.Status, error) { return c.Wait(ctx, id) }} {
			for _, limit := range []time.Duration{time.Second, time.Minute} {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				if _, err := ask(ctx, "j"); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				cancel()
				time.Sleep(time.Hour)
			}
		}
		if sent != 0 {
			t.Errorf("%d requests", sent)
		}
	})
}

// Property 41: queueing for a connection or a place in flight is never taken
// for a slow backend, and the bound in flight holds.
func TestQueueingIsNoFault(t *testing.T) {
	old := http.DefaultTransport
	defer func() { http.DefaultTransport = old }()
	for _, how := range []string{"WithMaxInFlight", "MaxConnsPerHost", "MaxConnsPerHost of http.DefaultTransport", "and of a client without a transport"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var inFlight, most atomic.Int32
				s := testserver.StartInMemory(t, testserver.Handler(func(w http.ResponseWriter, _ *http.Request) {
					now := inFlight.Add(1)
					defer inFlight.Add(-1)
					for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
					}
					time.Sleep(20 * time.Millisecond)
					io.WriteString(w, `{"result":"pending"}`)
				}))
				transport := &http.Transport{DialContext: s.DialContext, MaxIdleConnsPerHost: 1000, MaxConnsPerHost: 4}
				defer transport.CloseIdleConnections()
				with, n := vtclient.WithHTTPClient(&http.Client{Transport: transport}), 1000
				switch how {
				case "WithMaxInFlight":
					transport.MaxConnsPerHost, n = 0, 4
				case "MaxConnsPerHost of http.DefaultTransport":
					http.DefaultTransport, with = transport, vtclient.WithTrace(vtclient.Trace{})
				case "and of a client without a transport":
					http.DefaultTransport, with = transport, vtclient.WithHTTPClient(&http.Client{})
				}
				b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 1})
				c, err := vtclient.New(s.URL(), with, vtclient.WithMaxInFlight(n), vtclient.WithTimeout(time.Second), vtclient.WithBreaker(b), once())
				if err != nil {
					t.Fatal(err)
				}
				defer c.CloseIdleConnections()
				start := time.Now()
				var wg sync.WaitGroup
				for i := range 1000 {
					wg.Go(func() {
						if _, err := c.Status(t.Context(), fmt.Sprint(i)); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if took := time.Since(start); took != 5*time.Second || b.State() != "closed" || len(s.Requests()) != 1000 || s.Connections() != 4 || most.Load() != 4 {
					t.Errorf("took %v, breaker %v, %d requests, %d connections, %d in flight", took, b.State(), len(s.Requests()), s.Connections(), most.Load())
				}
			})
		})
	}
}

type limiterFunc func(context.Context) error

func (f limiterFunc) Wait(ctx context.Context) error { return f(ctx) }

// A caller that leaves while queueing gets its own context's error, sends nothing and keeps no place.
func TestLeavingAQueue(t *testing.T) {
	for _, where := range []string{"gate", "limiter"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				l := &countingLimiter{}
				c := stubbed(t, func(r *http.Request) (*http.Response, error) {
					sent++
					time.Sleep(10 * time.Second)
					return respond(r, 200, `{"result":"pending"}`), nil
				}, vtclient.WithMaxInFlight(1), vtclient.WithLimiter(l), vtclient.WithTimeout(time.Minute))
				var wg sync.WaitGroup
				if where == "limiter" {
					l.pause = time.Hour
				} else {
					wg.Go(func() { c.Status(t.Context(), "first") })
					synctest.Wait()
				}
				before, start := sent, time.Now()
				mine := errors.New("shutting down")
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { cancel(mine) })
				_, err := c.Status(ctx, "j")
				if !errors.Is(err, context.Canceled) || !errors.Is(err, mine) || time.Since(start) != time.Second || sent != before {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				wg.Wait()
				l.pause = 0
				last, cancelLast := context.WithTimeout(t.Context(), time.Minute)
				defer cancelLast()
				if _, err := c.Status(last, "j"); err != nil || sent != before+1 {
					t.Errorf("the next one: %v", err)
				}
			})
		})
	}
}

// The error of a 429 that holds the client is read by others while its own call goes on: run with -race.
func TestTheErrorOfAHoldMayBeReadByOthers(t *testing.T) {
	held, read := make(chan struct{}), make(chan struct{})
	var first sync.Once
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 429, "", "Retry-After: 60"), nil }, vtclient.WithCache(nil),
		vtclient.WithTrace(vtclient.Trace{Answered: func(context.Context, vtclient.TraceInfo) { first.Do(func() { close(held) }) }}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(read)
		<-held
		short, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		time.Sleep(50 * time.Millisecond)
		_, err := c.Status(short, "other")
		var h *vtclient.HTTPError
		if !errors.As(err, &h) || h.Next != 0 || !strings.Contains(err.Error(), "429") {
			t.Errorf("%v", err)
		}
		cancel()
	}()
	c.Status(ctx, "j")
	<-read
}

// A breaker is not asked for a permit on behalf of a caller whose time a limiter
// has used up: its refusal would hide why the call ended.
func TestNoPermitAfterALateLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &recordingBreaker{refusal: errors.New("shut")}
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF }, vtclient.WithBreaker(b),
			vtclient.WithLimiter(limiterFunc(func(context.Context) error { time.Sleep(time.Minute); return nil })))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var refused *vtclient.RefusedError
		if _, err := c.Status(ctx, "j"); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &refused) {
			t.Error(err)
		}
	})
}

// While a 429 holds the client, nothing is taken from the limiter, and what was
// queueing when it came is held, too.
func TestAHoldComesBeforeTheLimiterAndAfterTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &countingLimiter{}
		start := time.Now()
		sent := map[string][]time.Duration{}
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			id := strings.TrimPrefix(r.URL.Path, "/status/")
			sent[id] = append(sent[id], time.Since(start))
			time.Sleep(time.Second)
			if len(sent) == 1 && len(sent[id]) == 1 {
				return respond(r, 429, "", "Retry-After: 6"), nil
			}
			return respond(r, 200, `{"result":"pending"}`), nil
		}, vtclient.WithMaxInFlight(1), vtclient.WithLimiter(l), vtclient.WithCache(nil), once())
		var wg sync.WaitGroup
		wg.Go(func() { c.Status(t.Context(), "a") })
		synctest.Wait()
		wg.Go(func() { // queues at the gate when the 429 comes
			if _, err := c.Status(t.Context(), "b"); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(2 * time.Second)
		before := l.waits.Load()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Status(ctx, "c"); !errors.Is(err, context.DeadlineExceeded) || l.waits.Load() != before {
			t.Errorf("%v, and the limiter was asked %d times", err, l.waits.Load()-before)
		}
		wg.Wait()
		if got := sent["b"]; len(got) != 1 || got[0] != 7*time.Second {
			t.Errorf("what had queued was sent at %v", got)
		}
	})
}

// Of several 429s the one that lasts longest holds the client, in whatever order they come, and
// is the one in the errors.
func TestTheLongestPauseHolds(t *testing.T) {
	const none = "x"
	for _, pauses := range [][]string{{"6", "3", none}, {"3", "6", none}, {none, "6", "3"}, {"6", none, "3"}} {
		synctest.Test(t, func(t *testing.T) {
			start, n := time.Now(), 0
			var last time.Duration
			longest := fmt.Sprint(slices.Index(pauses, "6"))
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				n++
				if last = time.Since(start); n > len(pauses) {
					return respond(r, 200, `{"result":"pending"}`), nil
				}
				i := n - 1
				time.Sleep(time.Duration(n) * time.Second) // all are in flight at once, and are answered in turn
				return respond(r, 429, "", "Retry-After: "+pauses[i]), nil
			}, once())
			var wg sync.WaitGroup
			for i := range pauses {
				wg.Go(func() { c.Status(t.Context(), fmt.Sprint(i)) })
				synctest.Wait()
			}
			wg.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var h *vtclient.HTTPError
			if _, err := c.Status(ctx, "j"); !errors.As(err, &h) || h.JobID != longest || h.RetryAfter != 6*time.Second {
				t.Errorf("%v: %v", pauses, err)
			}
			if _, err := c.Status(t.Context(), "j"); err != nil || last != time.Duration(slices.Index(pauses, "6")+7)*time.Second {
				t.Errorf("%v: sent at %v: %v", pauses, last, err)
			}
		})
	}
}

// An error of the limiter is a fault of the attempt: it names job and attempt,
// and is tried again.
func TestALimitersErrorIsAFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		l := limiterFunc(func(context.Context) error {
			if asked++; asked < 6 {
				return errors.New("broke")
			}
			return nil
		})
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"pending"}`), nil },
			every(time.Second, 3), vtclient.WithLimiter(l))
		var te *vtclient.TransportError
		if _, err := c.Status(t.Context(), "j"); !errors.As(err, &te) || te.JobID != "j" || te.Attempt != 3 || asked != 3 || !strings.Contains(err.Error(), "limiter: broke") {
			t.Error(err)
		}
		if _, err := c.Status(t.Context(), "k"); err != nil || asked != 6 {
			t.Errorf("%v after %d questions", err, asked)
		}
	})
}

// A 429's hint holds for the whole client; over the bound there is an error and no request.
func TestA429HoldsTheWholeClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Reply(429, "", "Retry-After: 9"), testserver.Times(2, testserver.Pending()), testserver.Reply(429, "", "Retry-After: 3600"))
		c := clientFor(t, s)
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Status(t.Context(), "a"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		time.Sleep(time.Second)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var h *vtclient.HTTPError
		if _, err := c.Status(short, "b"); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &h) || h.JobID != "a" || time.Since(start) != time.Second {
			t.Errorf("%v at %v", err, time.Since(start))
		}
		if _, err := c.Status(t.Context(), "b"); err != nil || time.Since(start) < 9*time.Second {
			t.Errorf("%v at %v", err, time.Since(start))
		}
		wg.Wait()
		for _, id := range []string{"c", "d"} { // the second one makes no request
			_, err := c.Status(t.Context(), id)
			if !errors.Is(err, vtclient.ErrRetryAfter) || !errors.As(err, &h) || h.JobID != "c" || h.RetryAfter != time.Hour || len(s.Requests()) != 4 {
				t.Errorf("%v after %d requests", err, len(s.Requests()))
			}
		}
		time.Sleep(time.Hour)
		s.Then(testserver.Pending())
		if _, err := c.Status(t.Context(), "d"); err != nil {
			t.Error(err)
		}
	})
}

// A wait that ends while the breaker refuses has the refusal in its error: nothing else shows
// why no request was made.
func TestWaitThatEndsBehindAnOpenBreakerNamesTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		id := sim.Create(simserver.Job{Duration: time.Hour})
		breaker := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{OpenPeriod: 20 * time.Second})
		for range 5 {
			done, err := breaker.Allow()
			if err != nil {
				t.Fatal(err)
			}
			done(errors.New("down"))
		}
		c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithBreaker(breaker))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.Wait(ctx, id)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, vtclient.ErrBreakerOpen) ||
			!strings.Contains(err.Error(), "failures in a row: 5") || sim.TotalRequests() != 0 {
			t.Errorf("%v, after %d requests", err, sim.TotalRequests())
		}

		// Once there has been an answer again, it is past.
		time.Sleep(20 * time.Second)
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = c.Wait(ctx, id)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, vtclient.ErrBreakerOpen) {
			t.Errorf("after an answer: %v", err)
		}
	})
}
