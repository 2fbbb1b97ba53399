package contract_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
	"github.com/vtclient/vtclient/simserver"
)

func counting(n *int) func(context.Context, vtclient.TraceInfo) {
	return func(context.Context, vtclient.TraceInfo) { *n++ }
}

// recorder is a Trace that records its calls.
type recorder struct {
	mu    sync.Mutex
	names []string
	infos []vtclient.TraceInfo
}

func (r *recorder) trace() vtclient.Trace {
	note := func(name string) func(context.Context, vtclient.TraceInfo) {
		return func(_ context.Context, i vtclient.TraceInfo) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.names, r.infos = append(r.names, name), append(r.infos, i)
		}
	}
	return vtclient.Trace{Sent: note("sent"), Answered: note("answered"), Refused: note("refused"), Scheduled: note("scheduled"), Cached: note("cached")}
}

func (r *recorder) last(name string) (info vtclient.TraceInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, n := range r.names {
		if n == name {
			info = r.infos[i]
		}
	}
	return info
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.names, " ")
}

// Sent, answered, scheduled, cached and refused, each with its facts.
func TestTraceHasEachEventOfAStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Reply(503, ""), testserver.Delay(250*time.Millisecond, testserver.Pending()))
		var r recorder
		type key struct{}
		var values int
		c := clientFor(t, s, every(2*time.Second, 3), vtclient.WithTrace(r.trace()),
			vtclient.WithTrace(vtclient.Trace{Sent: func(ctx context.Context, _ vtclient.TraceInfo) {
				if ctx.Value(key{}) == "mine" {
					values++
				}
			}}))
		ctx := context.WithValue(t.Context(), key{}, "mine")
		for range 2 {
			if _, err := c.Status(ctx, "j"); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.String(); got != "sent answered scheduled sent answered cached" {
			t.Fatal(got)
		}
		i := r.infos
		var h *vtclient.HTTPError
		if i[0].JobID != "j" || i[0].Attempt != 1 || i[1].StatusCode != 503 || i[1].Wire != 1 || !errors.As(i[1].Err, &h) {
			t.Errorf("%+v %+v", i[0], i[1])
		}
		if i[2].Attempt != 2 || i[2].Delay != 2*time.Second || !i[2].Retry || !errors.As(i[2].Err, &h) || h.Next != 2*time.Second {
			t.Errorf("%+v", i[2])
		}
		if i[4].Attempt != 2 || i[4].State != "pending" || i[4].StatusCode != 200 || i[4].Latency != 250*time.Millisecond || i[4].Err != nil {
			t.Errorf("%+v", i[4])
		}
		if i[5].JobID != "j" || i[5].State != "pending" || i[5].Err != nil || values != 2 {
			t.Errorf("%+v, %d", i[5], values)
		}
	})
}

func TestTraceReportsRefusalsAndCallersThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Silence())
		var r recorder
		b := &recordingBreaker{refusal: errors.New("shut")}
		c := clientFor(t, s, vtclient.WithTrace(r.trace()), vtclient.WithBreaker(b))
		_, err := c.Status(t.Context(), "j")
		var refused *vtclient.RefusedError
		if info := r.last("refused"); !errors.As(err, &refused) || info.JobID != "j" || !errors.As(info.Err, &refused) || r.String() != "refused" {
			t.Errorf("%v: %v %+v", err, &r, info)
		}
		b.refusal = nil
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.Status(ctx, "j")
		if info := r.last("answered"); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(info.Err, context.DeadlineExceeded) || info.Latency != time.Second {
			t.Errorf("%v: %+v", err, info)
		}
	})
}

// "requests made" counts what went over the wire: net/http
// silently repeats a GET on a connection that died.
func TestWireCountsASilentRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Pending(), testserver.Drop(), testserver.Pending(), testserver.Redirect("/x"), testserver.Pending())
		var r recorder
		c := clientFor(t, s, vtclient.WithTrace(r.trace()), vtclient.WithCache(nil), once())
		for i, want := range []int{1, 2, 2} {
			if _, err := c.Status(t.Context(), "j"); err != nil {
				t.Fatal(err)
			}
			if got := r.last("answered").Wire; got != want {
				t.Errorf("call %d: %d requests on the wire, want %d", i, got, want)
			}
		}
		s.Stop()
		c.CloseIdleConnections()
		if _, err := c.Status(t.Context(), "j"); err == nil || r.last("answered").Wire != 0 {
			t.Errorf("%v, %d on the wire of no connection", err, r.last("answered").Wire)
		}
	})
}

// What a Trace was given may be read later, on another goroutine: run with -race.
func TestTraceErrorsMayBeReadLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errs := make(chan error, 100)
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			switch r.URL.Path {
			case "/status/a":
				return respond(r, 500, ""), nil
			case "/status/b":
				return respond(r, 200, "?"), nil
			}
			return nil, errors.New("broken")
		}, vtclient.WithBreaker(nil), every(time.Second, 4),
			vtclient.WithTrace(vtclient.Trace{Answered: func(_ context.Context, i vtclient.TraceInfo) { errs <- i.Err }}))
		var wg sync.WaitGroup
		wg.Go(func() {
			for err := range errs {
				_ = fmt.Sprint(err)
			}
		})
		for _, id := range []string{"a", "b", "c"} {
			c.Status(t.Context(), id)
		}
		close(errs)
		wg.Wait()
	})
}

// Property 25 and design, Trace: log lines hold no secret and cannot be forged.
func TestLogHasNoSecretAndNoForgedLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const key, id = "k3y-s3cr3t-value", "j\nlevel=ERROR msg=forged"
		echo := testserver.Handler(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Request-Id", r.Header.Get("X-Api-Key"))
			w.WriteHeader(500)
			fmt.Fprintf(w, "\r\nlevel=ERROR msg=forged %v %v", r.Header, r.URL)
		})
		s := testserver.StartInMemory(t, echo, testserver.Reply(200, key+"\nmsg=forged"), testserver.JSON(200, `{"result":"`+key+`\nmsg=forged"}`), testserver.Pending())
		var log bytes.Buffer
		c := clientFor(t, s, vtclient.WithHeader("X-Api-Key", key), every(time.Second, 5), vtclient.WithCache(brokenCache{}),
			vtclient.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
		c.Status(t.Context(), id)
		c.Status(t.Context(), id)
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		for _, line := range lines {
			if !strings.HasPrefix(line, "time=") || strings.Contains(line, key) {
				t.Error(line)
			}
		}
		for _, want := range []string{"level=WARN msg=\"vtclient: exchange\"", "status_code=500", "level=DEBUG msg=\"vtclient: exchange\"", "state=pending",
			"msg=\"vtclient: next request scheduled\"", "delay=1s", "level=WARN msg=\"vtclient: cache\"", "attempt=2", "unknown job state", "latency="} {
			if want != "latency=" && !strings.Contains(log.String(), want) {
				t.Errorf("no %s in\n%s", want, &log)
			}
		}
	})
}

func TestLogKeepsToTheLevelOfItsHandler(t *testing.T) {
	var log bytes.Buffer
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"pending"}`), nil },
		vtclient.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if _, err := c.Status(t.Context(), "j"); err != nil || log.Len() != 0 {
		t.Error(err, log.String())
	}
}

// brokenCache fails each call, the one to Get beside a value.
type brokenCache struct{}

func (brokenCache) Get(context.Context, string) (vtclient.Status, bool, error) {
	return vtclient.Status{JobID: "j", State: "completed"}, true, errors.New("cache is broken")
}

func (brokenCache) Set(context.Context, string, vtclient.Status, time.Duration) error {
	return errors.New("cache is broken")
}

// Each log line has the facts that apply to it, and no others.
func TestWhatALogLineHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines lineRecorder
		cache := vtclient.NewMemoryCache[vtclient.Status](10)
		c := clientFor(t, testserver.StartInMemory(t, testserver.Reply(503, ""), testserver.Delay(250*time.Millisecond, testserver.Pending())),
			every(2*time.Second, 2), vtclient.WithCache(cache), vtclient.WithLogger(slog.New(&lines)))
		for range 2 {
			if _, err := c.Status(t.Context(), "j"); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{
			"WARN vtclient: exchange: job attempt status_code error",
			"DEBUG vtclient: next request scheduled: job attempt delay",
			"DEBUG vtclient: exchange: job attempt state status_code latency",
			"DEBUG vtclient: cache: job state",
		}
		if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
		}
	})
}

// lineRecorder is a slog.Handler that keeps level, message and keys of each line.
type lineRecorder []string

func (n *lineRecorder) Enabled(context.Context, slog.Level) bool { return true }
func (n *lineRecorder) WithAttrs([]slog.Attr) slog.Handler       { return n }
func (n *lineRecorder) WithGroup(string) slog.Handler            { return n }
func (n *lineRecorder) Handle(_ context.Context, r slog.Record) error {
	line := fmt.Sprintf("%v %s:", r.Level, r.Message)
	r.Attrs(func(a slog.Attr) bool { line += " " + a.Key; return true })
	*n = append(*n, line)
	return nil
}

// A trace is shown all jobs of a request, those that share it too.
func TestTracesHaveTheJobsOfASharedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithDurations(simserver.Fixed(time.Minute)))
		var ids []string
		for i := range 5 {
			ids = append(ids, sim.Create(simserver.Job{ID: fmt.Sprint("job ", i)}))
		}
		shared := 0
		see := func(_ context.Context, i vtclient.TraceInfo) {
			got := slices.Collect(i.JobIDs())
			switch {
			case i.Jobs == 0:
				if !slices.Equal(got, []string{i.JobID}) {
					t.Errorf("%q of a request for %q", got, i.JobID)
				}
			case len(got) != i.Jobs || !slices.Contains(got, i.JobID):
				t.Errorf("%d jobs, one of them %q: %q", i.Jobs, i.JobID, got)
			default:
				shared++
			}
		}
		c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithEndpoint(vtclient.HeyGenV3()),
			vtclient.WithTrace(vtclient.Trace{Sent: see, Answered: see}))
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range c.WaitAll(t.Context(), vtclient.Jobs(ids...)) {
			if err != nil {
				t.Error(err)
			}
		}
		if shared == 0 {
			t.Error("no request was shared")
		}
	})
}

// waitLog keeps what a Trace is shown of waits.
type waitLog struct {
	mu    sync.Mutex
	begun map[string]int
	ended map[string][]vtclient.TraceInfo
}

func (l *waitLog) option() vtclient.Option {
	l.begun, l.ended = map[string]int{}, map[string][]vtclient.TraceInfo{}
	return vtclient.WithTrace(vtclient.Trace{
		WaitBegun: func(_ context.Context, i vtclient.TraceInfo) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.begun[i.JobID]++
		},
		WaitEnded: func(_ context.Context, i vtclient.TraceInfo) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.ended[i.JobID] = append(l.ended[i.JobID], i)
		},
	})
}

// balanced reports whether each wait that began has ended, and how many there were.
func (l *waitLog) balanced(t *testing.T) (n int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, begun := range l.begun {
		n += begun
		if ended := len(l.ended[id]); ended != begun {
			t.Errorf("job %.20q: %d waits began, %d ended", id, begun, ended)
		}
	}
	for id := range l.ended {
		if l.begun[id] == 0 {
			t.Errorf("job %.20q ended and has not begun", id)
		}
	}
	return n
}

// Each wait has one WaitBegun and one WaitEnded, however it ends.
func TestEachWaitBeginsAndEndsOnce(t *testing.T) {
	const each = 20 * time.Second
	long := strings.Repeat("x", 3000)
	cause := errors.New("enough")
	for _, tt := range []struct {
		name  string
		opts  []vtclient.Option
		run   func(t *testing.T, ctx context.Context, c *vtclient.Client)
		waits int
		check func(i vtclient.TraceInfo) bool // of each end
	}{
		{"a Wait", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) { c.Wait(ctx, "0") }, 1,
			func(i vtclient.TraceInfo) bool {
				return i.State == vtclient.StateCompleted && i.Err == nil && i.Age == 20*time.Second && i.Requests == 21
			}},
		{"with a start", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			c.Wait(ctx, "0", vtclient.StartedAt(time.Now().Add(-time.Minute)))
		}, 1, func(i vtclient.TraceInfo) bool { return i.Age == 80*time.Second }},
		{"a job that fails", []vtclient.Option{vtclient.WithEndpoint(vtclient.Endpoint{Decode: func(vtclient.Answer) (vtclient.Status, error) {
			return vtclient.Status{State: vtclient.StateFailed}, nil
		}})}, func(t *testing.T, ctx context.Context, c *vtclient.Client) { c.Wait(ctx, "0") }, 1,
			func(i vtclient.TraceInfo) bool { return errors.Is(i.Err, vtclient.ErrJobFailed) }},
		{"two that share a poll", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			var wg sync.WaitGroup
			wg.Go(func() { c.Wait(ctx, "0") })
			wg.Go(func() { c.Wait(ctx, "0") })
			wg.Wait()
		}, 2, func(i vtclient.TraceInfo) bool { return i.Requests == 21 }},
		{"a job that is unknown", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) { c.Wait(ctx, "lost") }, 1,
			func(i vtclient.TraceInfo) bool { return i.Err != nil && i.Requests == 1 }},
		{"an id that is refused", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) { c.Wait(ctx, long) }, 1,
			func(i vtclient.TraceInfo) bool { return i.Err != nil && i.Requests == 0 && i.Age == 0 }},
		{"a nil context, which no callback is to get", nil, func(t *testing.T, _ context.Context, c *vtclient.Client) {
			var ctx context.Context
			c.Wait(ctx, "0")
			for range c.Watch(ctx, "0") {
			}
			for range c.WaitAll(ctx, vtclient.Jobs("0")) {
			}
		}, 0, nil},
		{"out of the cache", []vtclient.Option{vtclient.WithCache(vtclient.NewMemoryCache[vtclient.Status](9))}, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			c.Wait(ctx, "0")
			c.Wait(ctx, "0")
			for range c.WaitAll(ctx, vtclient.Jobs("0")) {
			}
		}, 3, func(i vtclient.TraceInfo) bool { return i.State == vtclient.StateCompleted }},
		{"a deadline", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			c.Wait(ctx, "0")
		}, 1, func(i vtclient.TraceInfo) bool {
			return errors.Is(i.Err, context.DeadlineExceeded) && i.State == vtclient.StatePending && i.Age == 10*time.Second
		}},
		{"a deadline of a job", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			for range c.WaitAll(ctx, func(yield func(vtclient.Job) bool) {
				yield(vtclient.Job{ID: "0", Deadline: time.Now().Add(5 * time.Second)})
			}) {
			}
		}, 1, func(i vtclient.TraceInfo) bool { return errors.Is(i.Err, context.DeadlineExceeded) }},
		{"cancelled", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(10*time.Second, func() { cancel(cause) })
			for range c.WaitAll(ctx, vtclient.Jobs("0", "1")) {
			}
		}, 2, func(i vtclient.TraceInfo) bool { return errors.Is(i.Err, cause) }},
		{"a context that is done", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			c.Wait(ctx, "0")
			for range c.WaitAll(ctx, vtclient.Jobs("0", "1")) {
			}
		}, 3, func(i vtclient.TraceInfo) bool { return errors.Is(i.Err, context.Canceled) && i.Requests == 0 }},
		{"a Watch that is left", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			for range c.Watch(ctx, "0") {
				break
			}
		}, 1, func(i vtclient.TraceInfo) bool {
			return errors.Is(i.Err, context.Canceled) && i.State == vtclient.StatePending && i.Requests == 1
		}},
		{"a WaitAll that is left", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			n := 0
			for range c.WaitAll(ctx, someJobs(1000)) {
				if n++; n == 10 {
					break
				}
			}
		}, 1000, nil},
		{"with a foreign cache", []vtclient.Option{vtclient.WithCache(cacheFuncs{func(string) (vtclient.Status, bool, error) {
			time.Sleep(time.Second)
			return vtclient.Status{}, false, nil
		}, func(string, vtclient.Status) error { return nil }})}, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			for range c.WaitAll(ctx, someJobs(1000)) {
				break
			}
		}, -1, nil},
		{"a WaitAll that is left while it holds results back", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			for range c.WaitAll(ctx, func(yield func(vtclient.Job) bool) {
				for range 1000 {
					if !yield(vtclient.Job{ID: long}) { // ends at once
						return
					}
				}
			}) {
				time.Sleep(time.Second)
				break
			}
		}, -1, nil},
		{"a callback that panics", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			defer func() { recover() }()
			c.Wait(ctx, "0", vtclient.OnProgress(func(vtclient.Status) { panic("oops") }))
		}, 1, nil},
		{"a loop body that panics", nil, func(t *testing.T, ctx context.Context, c *vtclient.Client) {
			defer func() { recover() }()
			for range c.WaitAll(ctx, someJobs(100)) {
				panic("oops")
			}
		}, 100, nil},
		{"a Backoff that gives up", []vtclient.Option{vtclient.WithPolling(vtclient.Exponential{Limit: 3})},
			func(t *testing.T, ctx context.Context, c *vtclient.Client) { c.Wait(ctx, "0") }, 1,
			func(i vtclient.TraceInfo) bool { return errors.Is(i.Err, vtclient.ErrGaveUp) && i.Requests == 3 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l waitLog
				api := &limitedAPI{ends: map[string]time.Time{}}
				for i := range 1000 {
					api.submit(fmt.Sprint(i), each)
				}
				c := stubbed(t, api.RoundTrip, append([]vtclient.Option{vtclient.WithPolling(vtclient.Constant(time.Second)), vtclient.WithCache(nil), l.option()}, tt.opts...)...)
				tt.run(t, t.Context(), c)
				time.Sleep(time.Minute) // what is left is left in the background
				if n := l.balanced(t); tt.waits >= 0 && n != tt.waits {
					t.Errorf("%d waits, want %d", n, tt.waits)
				}
				for _, ends := range l.ended {
					for _, i := range ends {
						if tt.check != nil && !tt.check(i) {
							t.Errorf("%+v", i)
						}
					}
				}
			})
		})
	}
}

// someJobs yields jobs from 0 on.
func someJobs(n int) func(func(vtclient.Job) bool) {
	return func(yield func(vtclient.Job) bool) {
		for i := range n {
			if !yield(vtclient.Job{ID: fmt.Sprint(i)}) {
				return
			}
		}
	}
}

// Where the backend gives the time of the end, the trace has how late it was seen.
func TestTheTraceHasTheLateness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l waitLog
		api := &dated{t0: time.Now(), clock: time.Now(), start: -100, end: 25.5, completed: 25500 * time.Millisecond}
		c := stubbed(t, api.RoundTrip, vtclient.WithEndpoint(datedAPI), vtclient.WithPolling(vtclient.Constant(10*time.Second)), l.option())
		c.Wait(t.Context(), "j")
		if i := l.ended["j"][0]; i.Late != 4500*time.Millisecond || i.Age != 130*time.Second {
			t.Errorf("%+v", i)
		}
	})
}

// The log has a line for the begin and one for the end of a wait, and the end is no
// warning: its error goes to the caller.
func TestTheLogOfAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		api := &limitedAPI{ends: map[string]time.Time{"j": time.Now().Add(time.Second)}, failing: true}
		c := stubbed(t, api.RoundTrip, vtclient.WithPolling(vtclient.Constant(time.Second)), vtclient.WithLogger(logger))
		c.Wait(t.Context(), "j")
		want := `level=DEBUG msg="vtclient: wait begun" job=j
level=DEBUG msg="vtclient: exchange" job=j attempt=1 state=pending status_code=200
level=DEBUG msg="vtclient: next request scheduled" job=j attempt=2 delay=1s
level=DEBUG msg="vtclient: exchange" job=j attempt=2 state=error status_code=200
level=INFO msg="vtclient: wait ended" job=j state=error age=1s requests=2 error="vtclient: job \"j\" failed; the backend gives no reason"
`
		if b.String() != want {
			t.Errorf("%s", b.String())
		}
	})
}

// A failing limiter lets requests through once it has failed a number of times.
type failingLimiter struct {
	mu   sync.Mutex
	left int
}

func (l *failingLimiter) Wait(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left--; l.left >= 0 {
		return errors.New("no tokens")
	}
	return nil
}

// Each fault is one line of the log at level Warn, whatever it is and whichever event has it
// first; where jobs share the request the line has their number, or the error has it. Each
// job's OnError gets it once.
func TestEachFaultIsLoggedOnce(t *testing.T) {
	trouble := func(r *http.Request) (*http.Response, error) { return respond(r, 503, ""), nil }
	for _, tt := range []struct {
		rule string
		jobs int
		fail func(r *http.Request) (*http.Response, error) // the first request; nil: it is answered
		opts func(failures int) []vtclient.Option
		line string
	}{
		{"an answer", 1, trouble, nil, `msg="vtclient: exchange" job=a attempt=1 status_code=503 error=`},
		{"no answer", 1, func(*http.Request) (*http.Response, error) { return nil, errors.New("cut") }, nil, `msg="vtclient: exchange" job=a attempt=1 error=`},
		{"a shared answer", 3, trouble, nil, `msg="vtclient: exchange" job=a attempt=1 jobs=3 status_code=503 error=`},
		{"a limiter", 1, nil, func(n int) []vtclient.Option {
			return []vtclient.Option{vtclient.WithLimiter(&failingLimiter{left: n})}
		},
			`msg="vtclient: next request scheduled" job=a attempt=2 delay=1s error=`},
		{"a limiter, of a shared request", 3, nil, func(n int) []vtclient.Option {
			return []vtclient.Option{vtclient.WithLimiter(&failingLimiter{left: n})}
		},
			`for 3 jobs at once`},
		{"a function given to WithRequest", 1, nil, func(n int) []vtclient.Option {
			l := &failingLimiter{left: n}
			return []vtclient.Option{vtclient.WithRequest(func(r *http.Request) error { return l.Wait(r.Context()) })}
		}, `msg="vtclient: next request scheduled" job=a attempt=2 delay=1s error=`},
		{"a refusal", 1, nil, func(n int) []vtclient.Option {
			return []vtclient.Option{vtclient.WithBreaker(&refusing{left: n})}
		}, `msg="vtclient: refused by breaker" job=a attempt=1 error=`},
		{"a refusal of a shared request", 3, nil, func(n int) []vtclient.Option {
			return []vtclient.Option{vtclient.WithBreaker(&refusing{left: n})}
		}, `msg="vtclient: refused by breaker" job=a attempt=1 jobs=3 error=`},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log lockedBuilder
				var made sync.Once
				opts := []vtclient.Option{every(time.Second, 5), vtclient.WithCache(nil),
					vtclient.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))}
				bulk := vtclient.Bulk{Path: "/all?ids={ids}", Decode: func(a vtclient.Answer) (all []vtclient.Status, _ string, err error) {
					for _, id := range strings.Split("a,b,c", ",") {
						all = append(all, vtclient.Status{JobID: id, State: vtclient.StateCompleted, Body: []byte(`{}`)})
					}
					return all, "", nil
				}}
				if tt.jobs > 1 {
					opts = append(opts, vtclient.WithEndpoint(vtclient.Endpoint{Bulk: bulk}))
				}
				if tt.opts != nil {
					opts = append(opts, tt.opts(1)...)
				}
				c := stubbed(t, func(r *http.Request) (resp *http.Response, err error) {
					failed := false
					made.Do(func() {
						if tt.fail != nil {
							failed = true
							resp, err = tt.fail(r)
						}
					})
					if failed {
						return resp, err
					}
					return respond(r, 200, `{"result":"completed"}`), nil
				}, opts...)
				received := map[string]int{}
				onError := vtclient.OnError(func(err error) {
					for _, id := range []string{"a", "b", "c"} {
						if strings.Contains(err.Error(), `job "`+id+`"`) {
							received[id]++
						}
					}
				})
				for st, err := range c.WaitAll(t.Context(), vtclient.Jobs([]string{"a", "b", "c"}[:tt.jobs]...), onError) {
					if err != nil {
						t.Error(st, err)
					}
				}
				var warned []string
				for line := range strings.Lines(log.String()) {
					if strings.Contains(line, "level=WARN") {
						warned = append(warned, line)
					} else if strings.Contains(line, "error=") {
						t.Errorf("an error at another level: %s", line)
					}
				}
				if len(warned) != 1 || !strings.Contains(warned[0], tt.line) {
					t.Errorf("logged\n%swant one line with %s", strings.Join(warned, ""), tt.line)
				}
				refusal := strings.Contains(tt.rule, "refusal") // no fault of the backend's
				for _, id := range []string{"a", "b", "c"}[:tt.jobs] {
					if want := map[bool]int{false: 1}[refusal]; received[id] != want {
						t.Errorf("OnError of %q was called %d times, want %d", id, received[id], want)
					}
				}
			})
		})
	}
}

// The same for the tries of a Status.
func TestEachFaultOfAStatusIsLoggedOnce(t *testing.T) {
	for _, tt := range []struct {
		rule string
		opts []vtclient.Option
		code int
		line string
	}{
		{"an answer", nil, 503, `msg="vtclient: exchange" job=a attempt=1 status_code=503 error=`},
		{"a limiter", []vtclient.Option{vtclient.WithLimiter(&failingLimiter{left: 1})}, 200, `msg="vtclient: next request scheduled" job=a attempt=2 delay=1s error=`},
	} {
		synctest.Test(t, func(t *testing.T) {
			var log lockedBuilder
			n := 0
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				if n++; n == 1 && tt.code != 200 {
					return respond(r, tt.code, ""), nil
				}
				return respond(r, 200, `{"result":"completed"}`), nil
			}, append(tt.opts, every(time.Second, 5), vtclient.WithCache(nil), vtclient.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))...)
			if _, err := c.Status(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, tt.line) {
				t.Errorf("%s: logged\n%swant one line with %s", tt.rule, got, tt.line)
			}
		})
	}
}

// refusing is a breaker that refuses a number of requests.
type refusing struct {
	mu   sync.Mutex
	left int
}

func (b *refusing) Allow() (func(error), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left--; b.left >= 0 {
		return nil, errors.New("not now")
	}
	return func(error) {}, nil
}

// A lockedBuilder is a strings.Builder for several goroutines.
type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A wait that is left before its job was asked about has no last state.
func TestAWaitLeftBeforeAnyAnswerHasNoState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log waitLog
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/status/first" {
				return respond(r, 200, `{"result":"completed"}`), nil
			}
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, log.option())
		for range c.WaitAll(t.Context(), vtclient.Jobs("first", "silent")) {
			break
		}
		synctest.Wait()
		log.balanced(t)
		if got := log.ended["silent"]; len(got) != 1 || got[0].State != "" || got[0].Err == nil {
			t.Errorf("%+v", got)
		}
	})
}
