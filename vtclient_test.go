package vtclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// clientFor returns a client of a scripted server.
func clientFor(t testing.TB, s *testserver.Server, opts ...vtclient.Option) *vtclient.Client {
	t.Helper()
	c, err := vtclient.New(s.URL(), append([]vtclient.Option{vtclient.WithHTTPClient(s.Client())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tripper answers requests without a network.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(r *http.Request, code int, body string, header ...string) *http.Response {
	h := http.Header{}
	for _, line := range header {
		k, v, _ := strings.Cut(line, ": ")
		h.Add(k, v)
	}
	return &http.Response{
		StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}
}

// stubbed returns a client whose requests f answers.
func stubbed(t testing.TB, f tripper, opts ...vtclient.Option) *vtclient.Client {
	t.Helper()
	c, err := vtclient.New("http://api.test", append([]vtclient.Option{vtclient.WithHTTPClient(&http.Client{Transport: f})}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// once makes Status give up at the first fault.
func once() vtclient.Option { return vtclient.WithRetry(vtclient.Exponential{Limit: 1}) }

// every retries after exactly d, n tries in all.
func every(d time.Duration, n int) vtclient.Option {
	return vtclient.WithRetry(vtclient.Exponential{Base: d, Max: d, Limit: n})
}

// notingBreaker is a foreign breaker that lets everything through and notes what it is told.
type notingBreaker struct {
	mu      sync.Mutex
	allowed int
	told    []error
	refusal error
}

func (b *notingBreaker) Allow() (func(error), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refusal != nil {
		return nil, b.refusal
	}
	b.allowed++
	return func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.told = append(b.told, err)
	}, nil
}

func (b *notingBreaker) noted() (int, []error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.allowed, append([]error(nil), b.told...)
}

// countingLimiter lets a request through after a pause, and counts.
type countingLimiter struct {
	pause time.Duration
	err   error
	waits atomic.Int32
	then  func()
}

func (l *countingLimiter) Wait(ctx context.Context) error {
	l.waits.Add(1)
	select {
	case <-time.After(l.pause):
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.then != nil {
		l.then()
	}
	return l.err
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
			var w *vtclient.WaitError
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
		c := clientFor(t, s, every(2*time.Second, 10), vtclient.WithTrace(r.trace()))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Status(ctx, "j")
		var w *vtclient.WaitError
		var h *vtclient.HTTPError
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
		}, every(time.Second, 3), vtclient.WithBreaker(nil), vtclient.WithTrace(r.trace()), vtclient.WithRequest(func(*http.Request) error { return nil }))
		_, err := c.Status(t.Context(), "j")
		var h *vtclient.HTTPError
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
		var h *vtclient.HTTPError
		if !errors.Is(err, context.Canceled) || !errors.As(err, &h) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A Backoff that says 0 for ever does not make a Status spin.
func TestRetryingNeverSpins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { n++; return respond(r, 500, ""), nil },
			vtclient.WithRetry(noPause{}), vtclient.WithBreaker(nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Status(ctx, "j"); !errors.Is(err, context.DeadlineExceeded) || n != 100 {
			t.Errorf("%v after %d requests in a second, want 100", err, n)
		}
	})
}

type noPause struct{}

func (noPause) Next(vtclient.Attempt) (time.Duration, bool) { return -1, true }

// Design, Wait: a 429's hint holds for the whole client; over the bound there is an error and no request.
func TestA429HoldsTheWholeClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Reply(429, "", "Retry-After: 30"), testserver.Times(2, testserver.Pending()), testserver.Reply(429, "", "Retry-After: 3600"))
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
		if _, err := c.Status(t.Context(), "b"); err != nil || time.Since(start) < 30*time.Second {
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

// Property 31, and design: a refusal is no fault; Status returns it at once and untried.
func TestARefusalIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		shut := errors.New("shut")
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF },
			vtclient.WithBreaker(breakerFunc(func() (func(error), error) { asked++; return nil, shut })))
		start := time.Now()
		if _, err := c.Status(t.Context(), "j"); !errors.Is(err, shut) || asked != 1 || time.Since(start) != 0 {
			t.Error(err, asked)
		}
	})
}

type breakerFunc func() (func(error), error)

func (f breakerFunc) Allow() (func(error), error) { return f() }

// Design, Cache and Wait's numbers: pending for 1 s, terminal for 5 min, absent at the exact instant (property 35).
func TestTheCacheHoldsAnswersForTheirTime(t *testing.T) {
	for _, tt := range []struct {
		step testserver.Step
		ttl  time.Duration
	}{{testserver.Pending(), time.Second}, {testserver.Completed(), 5 * time.Minute}, {testserver.Failed("x"), 5 * time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			s := testserver.StartInMemory(t, tt.step)
			c := clientFor(t, s)
			first, err := c.Status(t.Context(), "j")
			if err != nil || first.Cached {
				t.Fatal(err)
			}
			time.Sleep(tt.ttl - 1)
			st, err := c.Status(t.Context(), "j")
			if err != nil || !st.Cached || st.State != first.State || !st.CheckedAt.Equal(first.CheckedAt) || len(s.Requests()) != 1 {
				t.Errorf("%+v, %v, %d requests", st, err, len(s.Requests()))
			}
			time.Sleep(time.Nanosecond)
			if st, err := c.Status(t.Context(), "j"); err != nil || st.Cached || len(s.Requests()) != 2 {
				t.Errorf("at the instant: %+v, %v", st, err)
			}
		})
	}
}

func TestWithoutCacheAndBreakerEachStatusIsARequest(t *testing.T) {
	s := testserver.Start(t, testserver.Times(2, testserver.Completed()), testserver.Reply(500, ""))
	c := clientFor(t, s, vtclient.WithCache(nil), vtclient.WithBreaker(nil), once())
	for i := range 20 {
		st, err := c.Status(t.Context(), "j")
		if st.Cached || (err == nil) != (i < 2) || errors.Is(err, vtclient.ErrBreakerOpen) {
			t.Error(i, st, err)
		}
	}
	if n := len(s.Requests()); n != 20 {
		t.Errorf("%d requests", n)
	}
}

// fakeCache answers Get by a function and drops what is set.
type fakeCache func(ctx context.Context, key string) (vtclient.Status, bool, error)

func (f fakeCache) Get(ctx context.Context, key string) (vtclient.Status, bool, error) {
	return f(ctx, key)
}
func (f fakeCache) Set(ctx context.Context, key string, _ vtclient.Status, _ time.Duration) error {
	_, _, err := f(ctx, key)
	return err
}

// Property 37: a cache that errors, hangs or returns garbage is reported and is a miss.
func TestABadCacheIsAMiss(t *testing.T) {
	hang := func(ctx context.Context, _ string) (vtclient.Status, bool, error) {
		<-ctx.Done()
		return vtclient.Status{}, false, ctx.Err()
	}
	full := vtclient.NewMemoryCache[vtclient.Status](10)
	full.Set(context.Background(), "j", vtclient.Status{JobID: "other", State: "completed"}, time.Hour)
	full.Set(context.Background(), "k", vtclient.Status{JobID: "k", State: "strange"}, time.Hour)
	for _, tt := range []struct {
		name  string
		cache vtclient.Cache[vtclient.Status]
		most  time.Duration
		tell  bool
	}{
		{"errors", brokenCache{}, 0, true},
		{"hangs", fakeCache(hang), 250 * time.Millisecond, true},
		{"another job's status", fakeCache(func(context.Context, string) (vtclient.Status, bool, error) {
			return vtclient.Status{JobID: "other", State: "completed"}, true, nil
		}), 0, true},
		{"a state that is none", fakeCache(func(_ context.Context, k string) (vtclient.Status, bool, error) {
			return vtclient.Status{JobID: k, State: "strange"}, true, nil
		}), 0, true},
		{"garbage in our own", full, 0, false},
	} {
		for _, traced := range []bool{true, false} {
			t.Run(fmt.Sprint(tt.name, " ", traced), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := testserver.StartInMemory(t, testserver.Pending())
					var r recorder
					opts := []vtclient.Option{vtclient.WithCache(tt.cache), vtclient.WithCacheTTL(0, 0)}
					if traced {
						opts = append(opts, vtclient.WithTrace(r.trace()))
					}
					c := clientFor(t, s, opts...)
					start := time.Now()
					for _, id := range []string{"j", "k", "j"} { // a cache that hung is left alone for a while
						if st, err := c.Status(t.Context(), id); err != nil || st.Cached || st.State != "pending" {
							t.Error(st, err)
						}
					}
					if took := time.Since(start); took != tt.most {
						t.Errorf("took %v, want %v", took, tt.most)
					}
					if tt.tell && traced && r.last("cached").Err == nil {
						t.Error("not reported")
					}
				})
			})
		}
	}
	t.Run("a short deadline is not used up by a cache that hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := clientFor(t, testserver.StartInMemory(t, testserver.Pending()), vtclient.WithCache(fakeCache(hang)))
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := c.Status(ctx, "j"); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("the caller leaves while it hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF }, vtclient.WithCache(fakeCache(hang)))
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			start := time.Now()
			if _, err := c.Status(ctx, "j"); !errors.Is(err, context.Canceled) || time.Since(start) != time.Millisecond {
				t.Error(err, time.Since(start))
			}
		})
	})
}

// Property 32 through Status: who leaves does not hurt those who share its
// request, and costs at most one more; the last one to leave cancels it.
func TestACallerThatLeavesDoesNotHurtTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Delay(2*time.Second, testserver.Pending()))
		c := clientFor(t, s, vtclient.WithCache(nil))
		var wg sync.WaitGroup
		start := time.Now()
		for i := range 10 {
			wg.Go(func() {
				ctx := t.Context()
				if i == 0 || i == 5 { // the first, who makes the request, and one who follows
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

// A leader whose time is too short for the next try leaves it to who has more, tries counted on.
func TestTheNextTryIsLeftToWhoHasTheTime(t *testing.T) {
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
func TestAPanicReleasesThoseWhoShareTheCall(t *testing.T) {
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
			}, vtclient.WithMaxInFlight(1))
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

// A failed job is an answer of Status. Property 10: a finished job is told without a tick.
func TestStatusReportsAFailedJobAsAnAnswer(t *testing.T) {
	s := testserver.Start(t, testserver.Failed("no sound"))
	st, err := clientFor(t, s).Status(t.Context(), "j")
	if err != nil || st.State != vtclient.StateFailed || st.Message != "no sound" || !strings.Contains(string(st.Body), "no sound") || st.CheckedAt.IsZero() {
		t.Errorf("%+v, %v", st, err)
	}
}

// Property 39 for Status: a server that restarts on the same port is found again.
func TestStatusSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Pending())
		c := clientFor(t, s, every(time.Second, 5), vtclient.WithCache(nil), vtclient.WithBreaker(nil))
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

// The default client works where somebody has wrapped http.DefaultTransport.
func TestNewWorksWithAWrappedDefaultTransport(t *testing.T) {
	s := testserver.Start(t, testserver.Pending())
	old := http.DefaultTransport
	defer func() { http.DefaultTransport = old }()
	http.DefaultTransport = tripper(func(*http.Request) (*http.Response, error) { t.Error("used"); return nil, io.EOF })
	c, err := vtclient.New(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	if _, err := c.Status(t.Context(), "j"); err != nil {
		t.Error(err)
	}
}
