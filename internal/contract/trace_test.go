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

// recorder is a Trace that notes what it is told.
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

// Design, Trace: sent, answered, scheduled, cached and refused, each with its facts.
func TestTraceTellsTheWholeStoryOfAStatus(t *testing.T) {
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

func TestTraceTellsOfRefusalsAndOfCallersThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Silence())
		var r recorder
		b := &notingBreaker{refusal: errors.New("shut")}
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

// Design, Trace: "requests made" counts what went over the wire: net/http
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
		var lines noting
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

// noting is a slog.Handler that notes level, message and keys of each line.
type noting []string

func (n *noting) Enabled(context.Context, slog.Level) bool { return true }
func (n *noting) WithAttrs([]slog.Attr) slog.Handler       { return n }
func (n *noting) WithGroup(string) slog.Handler            { return n }
func (n *noting) Handle(_ context.Context, r slog.Record) error {
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
