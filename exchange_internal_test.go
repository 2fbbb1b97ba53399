package vtclient

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/internal/flight"
)

type refusingLimiter struct{}

func (refusingLimiter) Wait(context.Context) error { return errors.New("too many") }

// A limiter's refusal is a fault in which nothing was sent and that is no outage of the
// backend; its text names the limiter.
func TestALimitersRefusalIsNoOutage(t *testing.T) {
	c, err := New("http://stub.invalid", WithLimiter(refusingLimiter{}))
	if err != nil {
		t.Fatal(err)
	}
	out := c.exchange(t.Context(), inquiry{id: "j"}, 1)
	if out.verdict != fault || !out.limited || out.requests != 0 || out.number != 1 || !strings.Contains(out.err.Error(), "refused by the limiter: too many") {
		t.Errorf("%+v", out)
	}
	if c.outageSince.Load() != 0 {
		t.Error("an outage of the backend")
	}
}

// A fault of the backend is one.
func TestAFaultBeginsAnOutageAndAnAnswerEndsIt(t *testing.T) {
	var answer error
	c, err := New("", WithFetch(func(context.Context, string) (Status, error) { return Status{State: StatePending}, answer }))
	if err != nil {
		t.Fatal(err)
	}
	for _, answer = range []error{errors.New("down"), nil} {
		if out := c.exchange(t.Context(), inquiry{id: "j"}, 1); out.limited || (c.outageSince.Load() != 0) != (answer != nil) {
			t.Errorf("%v: an outage since %d", answer, c.outageSince.Load())
		}
	}
}

// traced is a client that asks a function, and the names of its traces with their errors.
// The breaker's reports are among them.
func traced(t *testing.T, fetch func(id string) (Status, error), opts ...Option) (*Client, *[]string) {
	t.Helper()
	var seen []string
	note := func(name string) func(context.Context, TraceInfo) {
		return func(_ context.Context, i TraceInfo) {
			if i.Err != nil {
				name += " " + i.Err.Error()
			}
			seen = append(seen, name)
		}
	}
	c, err := New("", append([]Option{
		WithFetch(func(_ context.Context, id string) (Status, error) { return fetch(id) }), WithCache(nil),
		WithBreaker(reporting(func(err error) {
			switch {
			case err == nil:
				seen = append(seen, "well")
			case errors.Is(err, context.Canceled):
				seen = append(seen, "neutral")
			default:
				seen = append(seen, "unwell")
			}
		})),
		WithTrace(Trace{Sent: note("sent"), Answered: note("answered"), Refused: note("refused")}),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c, &seen
}

// stubClient answers every request with a code and a header.
func stubClient(code int, key, value string) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: code, Header: http.Header{key: {value}}, Body: http.NoBody, Request: r}, nil
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type reporting func(error)

func (f reporting) Allow() (func(error), error) { return f, nil }

// What is not sent has no trace, unless its Sent has been shown: then it has an Answered,
// and a number of its own. The breaker learns nothing from it.
func TestWhatIsNotSentIsNotTraced(t *testing.T) {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	pause := func(c *Client) {
		c.hold429(nil, &HTTPError{Details: Details{RetryAfter: time.Minute}})
	}
	for _, tt := range []struct {
		name   string
		ctx    context.Context // nil: one without an end
		wanted []bool          // in turn, at each look; none: it always is
		before func(*Client)
		sent   func(*Client) // during Sent
		opts   []Option
		want   verdict
		number int
		seen   []string
	}{
		{name: "sent", want: answered, number: 7, seen: []string{"sent", "well", "answered"}},
		{name: "the context is done", ctx: done, want: left, number: 6},
		{name: "a 429 holds the client", before: pause, want: held, number: 6},
		{name: "not wanted", wanted: []bool{false}, want: left, number: 6, seen: []string{"neutral"}},
		{name: "a limiter refuses", opts: []Option{WithLimiter(refusingLimiter{})}, want: fault, number: 7},
		{name: "no longer wanted after Sent", wanted: []bool{true, false}, want: left, number: 7, seen: []string{"sent", "neutral", "answered context canceled"}},
		{name: "held after Sent", sent: pause, want: held, number: 7,
			seen: []string{"sent", "neutral", "answered not sent: a 429 holds it"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			var c *Client
			if tt.sent != nil {
				tt.opts = append(tt.opts, WithTrace(Trace{Sent: func(context.Context, TraceInfo) { tt.sent(c) }}))
			}
			c, seen := traced(t, func(string) (Status, error) { asked++; return Status{State: StatePending}, nil }, tt.opts...)
			if tt.before != nil {
				tt.before(c)
			}
			if tt.ctx == nil {
				tt.ctx = t.Context()
			}
			about := inquiry{id: "j"}
			if tt.wanted != nil {
				about.by = &scriptedAsker{tt.wanted}
			}
			out := c.exchange(tt.ctx, about, 7)
			if out.verdict != tt.want || out.number != tt.number || !slices.Equal(*seen, tt.seen) || (asked == 1) != (tt.want == answered) {
				t.Errorf("verdict %d, number %d, %d calls, seen %q", out.verdict, out.number, asked, *seen)
			}
			if len(c.gate) != 0 {
				t.Error("a place in flight is not given back")
			}
		})
	}
}

// The error of an Answered whose caller ran out of time during Sent is that of its context.
func TestTheTimeRunsOutDuringSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, seen := traced(t, func(string) (Status, error) { t.Error("sent"); return Status{}, nil },
			WithTrace(Trace{Sent: func(context.Context, TraceInfo) { time.Sleep(time.Minute) }}))
		mine := errors.New("mine")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, mine)
		defer cancel()
		if out := c.exchange(ctx, inquiry{id: "j"}, 1); out.verdict != left {
			t.Errorf("verdict %d", out.verdict)
		}
		if want := []string{"sent", "neutral", "answered context deadline exceeded: mine"}; !slices.Equal(*seen, want) {
			t.Errorf("%q, want %q", *seen, want)
		}
	})
}

// A pause that comes with another fault than a 429 does not hold the client.
func TestOnlyA429HoldsTheClient(t *testing.T) {
	for code, want := range map[int]time.Duration{429: time.Minute, 503: 0} {
		synctest.Test(t, func(t *testing.T) {
			c, err := New("http://stub.invalid", WithHTTPClient(stubClient(code, "Retry-After", "60")))
			if err != nil {
				t.Fatal(err)
			}
			out := c.exchange(t.Context(), inquiry{id: "j"}, 1)
			if out.verdict != fault || out.hint != time.Minute || c.held(nil) != want {
				t.Errorf("%d: verdict %d, a pause of %v, held for %v", code, out.verdict, out.hint, c.held(nil))
			}
		})
	}
}

// A scriptedAsker uses the answer or not, in turn.
type scriptedAsker struct{ script []bool }

func (a *scriptedAsker) wanted() bool {
	w := a.script[0]
	a.script = a.script[1:]
	return w
}

func (*scriptedAsker) freed() {}

// BenchmarkRetryStage measures what the stage that retries adds to an exchange that succeeds at
// once: the difference between calls through it and calls without it, the median over blocks
// that take turns, so that what disturbs both disturbs the figure little. Folder benchmarks has
// the peers beside it.
func BenchmarkRetryStage(b *testing.B) {
	c, err := New("", WithCache(nil), WithBreaker(nil), WithFetch(func(ctx context.Context, id string) (Status, error) {
		return Status{State: StatePending}, nil
	}))
	if err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	through := func() {
		var t tries
		if _, err := c.check(ctx, "job-1", &t); err != nil {
			b.Fatal(err)
		}
	}
	without := func() {
		if out := c.exchange(ctx, inquiry{id: "job-1"}, 1); out.verdict != answered {
			b.Fatal(out.err)
		}
	}
	const block = 20
	var added []float64
	for b.Loop() {
		start := time.Now()
		for range block {
			through()
		}
		middle := time.Now()
		for range block {
			without()
		}
		added = append(added, float64(2*middle.Sub(start)-time.Since(start))/block)
	}
	slices.Sort(added)
	b.ReportMetric(added[len(added)/2], "ns/op")
	n1, bytes1 := allocated(through)
	n2, bytes2 := allocated(without)
	b.ReportAllocs()
	b.ReportMetric(n1-n2, "allocs/op")
	b.ReportMetric(bytes1-bytes2, "B/op")
}

// allocated returns how many objects, and how many bytes, one call of f allocates.
func allocated(f func()) (objects, bytes float64) {
	const calls = 1000
	var before, after runtime.MemStats
	f() // what it allocates only once is not meant
	runtime.ReadMemStats(&before)
	for range calls {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64((after.Mallocs - before.Mallocs) / calls), float64((after.TotalAlloc - before.TotalAlloc) / calls)
}

// BenchmarkFlight measures the stage that coalesces calls: a call that is alone with its
// key, and 64 goroutines with the same key. Folder benchmarks has the peers beside it.
func BenchmarkFlight(b *testing.B) {
	b.Run("uncontended", func(b *testing.B) {
		var f flight.Group[Status, tries]
		ctx := b.Context()
		fn := func(context.Context, string, *tries) (Status, error) { return Status{}, nil }
		b.ReportAllocs()
		for b.Loop() {
			f.Do(ctx, "job-1", fn)
		}
	})
	b.Run("64-way", func(b *testing.B) {
		var f flight.Group[Status, tries]
		fn := func(context.Context, string, *tries) (Status, error) { runtime.Gosched(); return Status{}, nil }
		b.ReportAllocs()
		b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
		b.RunParallel(func(pb *testing.PB) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			for pb.Next() {
				f.Do(ctx, "job-1", fn)
			}
		})
	})
}

// One line of text from outside: what cannot be printed and runs of space are
// one space, none at either end, and the cut is within the limit, to the byte.
func TestOneLine(t *testing.T) {
	for _, tt := range []struct {
		in    string
		limit int
		want  string
	}{
		{"", 10, ""},
		{"a b", 10, "a b"},
		{"  a  b  ", 10, "a b"},
		{"\x00\na\t\r\nb\x1b", 10, "a b"},
		{"a\u00a0\u2028b", 10, "a b"},
		{"a\xffb", 10, "a\ufffdb"},
		{"ü☃", 10, "ü☃"},
		// The mark of a cut takes three bytes, which are kept free for it.
		{"1234567", 10, "1234567"},
		{"12345678", 10, "1234567…"},
		{"12345 7", 10, "12345 7"},
		{"123456 8", 10, "123456…"},
		{"12345 78", 10, "12345 7…"},
		{"123456ü", 10, "123456…"},
		{"12345ü", 10, "12345ü"},
	} {
		if got := oneLine(tt.in, tt.limit); got != tt.want || len(got) > tt.limit {
			t.Errorf("oneLine(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
}

// An id of up to 128 bytes is quoted as it is, a longer one is cut.
func TestQuoteID(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"ü\n", `"ü\n"`},
		{strings.Repeat("x", 127) + "\n", `"` + strings.Repeat("x", 127) + `\n"`},
		{strings.Repeat("ü", 64), `"` + strings.Repeat("ü", 64) + `"`},
		{strings.Repeat("x", 129), `"` + strings.Repeat("x", 128) + `"…`},
		{strings.Repeat("x", 127) + "ü", `"` + strings.Repeat("x", 127) + `\xc3"…`},
	} {
		if got := quoteID(tt.in); got != tt.want {
			t.Errorf("quoteID(%q) = %s, want %s", tt.in, got, tt.want)
		}
	}
}

// The default transport is the client's own, made of net/http's: it keeps as
// many connections as may be in flight, and reads no endless headers.
func TestTheDefaultTransport(t *testing.T) {
	old := http.DefaultTransport
	defer func() { http.DefaultTransport = old }()
	wrapped := struct{ http.RoundTripper }{old}
	for _, base := range []http.RoundTripper{old, wrapped} {
		http.DefaultTransport = base
		given := *old.(*http.Transport).Clone()
		hc, n := httpClient(nil, 100)
		tr := hc.Transport.(*http.Transport)
		if tr == old || n != 100 || tr.MaxIdleConns != 100 || tr.MaxIdleConnsPerHost != 100 || tr.MaxResponseHeaderBytes != 64<<10 || hc.CheckRedirect == nil {
			t.Errorf("%d in flight, %d idle, %d for one host, %d bytes of headers", n, tr.MaxIdleConns, tr.MaxIdleConnsPerHost, tr.MaxResponseHeaderBytes)
		}
		if h2 := tr.HTTP2; h2 == nil || h2.SendPingTimeout <= 0 || h2.PingTimeout <= 0 {
			t.Errorf("no pings: %+v", h2)
		}
		if tr.Proxy == nil || !tr.ForceAttemptHTTP2 || tr.IdleConnTimeout != given.IdleConnTimeout || tr.TLSHandshakeTimeout != given.TLSHandshakeTimeout {
			t.Errorf("without what net/http's own has: %+v", tr)
		}
		if now := old.(*http.Transport); now.MaxIdleConnsPerHost != given.MaxIdleConnsPerHost || now.MaxIdleConns != given.MaxIdleConns || now.MaxResponseHeaderBytes != given.MaxResponseHeaderBytes {
			t.Error("http.DefaultTransport has been changed")
		}
	}
}
