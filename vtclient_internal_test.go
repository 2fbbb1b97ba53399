package vtclient

import (
	"context"
	"net/http"
	"testing"
	"time"
	"unsafe"
)

// CloseIdleConnections closes the connections of the client's transport.
func TestCloseIdleConnectionsReachesTheTransport(t *testing.T) {
	tr := &closeCounter{}
	c, err := New("http://h", WithHTTPClient(&http.Client{Transport: tr}))
	if err != nil {
		t.Fatal(err)
	}
	if c.CloseIdleConnections(); tr.closed != 1 {
		t.Errorf("closed %d times", tr.closed)
	}
}

type closeCounter struct {
	http.RoundTripper
	closed int
}

func (c *closeCounter) CloseIdleConnections() { c.closed++ }

// The defaults are those of the options' comments.
func TestDefaultsAreThoseOfTheComments(t *testing.T) {
	cfg, err := newConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Exponential{Base: 500 * time.Millisecond, Max: 30 * time.Second, Multiplier: 2, Jitter: 0.5, Limit: 4}); cfg.retry != want {
		t.Errorf("WithRetry: %+v", cfg.retry)
	}
	if a, ok := cfg.polling.(*Adaptive); !ok || a.cost != 1 {
		t.Errorf("WithPolling: %+v", cfg.polling)
	}
	if cfg.timeout != 10*time.Second || cfg.outageTolerance != 5*time.Minute || cfg.maxRetryAfter != 10*time.Minute || cfg.maxBody != 1<<20 ||
		cfg.maxInFlight != 64 || cfg.pendingTTL != time.Second || cfg.terminalTTL != 5*time.Minute {
		t.Errorf("%+v", cfg)
	}
	if c, ok := cfg.cache.(*MemoryCache[Status]); !ok || c.capacity != 1024 {
		t.Errorf("WithCache: %+v", cfg.cache)
	}
}

// setBack returns t, which comes from time.Now, as it would be if the clock on
// the wall had been behind by d then: its monotonic reading is the same. It
// writes to the seconds since 1885 in the upper half of a Time's first word.
func setBack(tb testing.TB, t time.Time, d time.Duration) time.Time {
	wall := t.Round(0)
	*(*uint64)(unsafe.Pointer(&t)) -= uint64(d/time.Second) << 30
	if got := wall.Sub(t.Round(0)); got != d || t.String() == t.Round(0).String() {
		tb.Skipf("a Time is no longer what this test takes it for: moved by %v", got)
	}
	return t
}

// Property 103: a start or a deadline that holds only the time of day, as one
// from a database does, is measured by the clock as it is now, though the clock
// was set or the machine was suspended since the client was made.
// Property 104: so is the CheckedAt in an error, the time of day of the last answer.
func TestTheClockIsSetWhileTheClientLives(t *testing.T) {
	const jump = 8 * time.Hour
	c, err := New("http://stub.invalid", WithPolling(Constant(time.Hour)),
		WithHTTPClient(&http.Client{Transport: stubAnswer{200, `{"result":"pending"}`}}))
	if err != nil {
		t.Fatal(err)
	}
	c.epoch = setBack(t, c.epoch, jump)

	started := time.Now().Round(0).Add(-time.Minute)
	if age := time.Duration(c.now() - c.began(started, time.Now())); age < time.Minute || age > 2*time.Minute {
		t.Errorf("a job that began a minute ago has the age %v", age)
	}
	if due := c.firstDue(&Job{StartedAt: started.Add(-2 * time.Hour)}); due > c.now() {
		t.Errorf("the first poll of a job that is overdue is due in %v", time.Duration(due-c.now()))
	}

	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Round(0).Add(2*time.Hour))
	defer cancel()
	in := newInbox(ctx, c.deadline(ctx), false, false)
	defer (caller{&c.engine, in}).leave()
	(caller{&c.engine, in}).join("a", &Job{}, never, 0)
	(caller{&c.engine, in}).join("b", &Job{Deadline: time.Now().Round(0).Add(time.Hour)}, never, 0)
	c.engine.mu.Lock()
	for id, want := range map[string]time.Duration{"a": 2 * time.Hour, "b": time.Hour} {
		if left := time.Duration(c.engine.polls.get(id).subs.deadline.at - c.now()); left > want || left < want-time.Minute {
			t.Errorf("job %s has %v left, not %v", id, left, want)
		}
	}
	c.engine.mu.Unlock()

	short, cancel := context.WithCancel(context.Background())
	st, err := c.Wait(short, "c", OnProgress(func(Status) { cancel() }))
	if off := time.Now().Round(0).Sub(st.CheckedAt.Round(0)); st.State != StatePending || off < 0 || off > time.Minute {
		t.Errorf("the last answer came %v ago; %v", off, err)
	}
}

// Sums of times stop at never, and a delay of nothing or less is no overflow.
func TestLaterStopsAtNever(t *testing.T) {
	for _, tt := range []struct {
		t    int64
		d    time.Duration
		want int64
	}{{5, 7, 12}, {5, 0, 5}, {5, -7, -2}, {never, 0, never}, {never, -1, never - 1}, {never - 1, 1, never}, {never - 1, 2, never}, {never, never, never}} {
		if got := later(tt.t, tt.d); got != tt.want {
			t.Errorf("later(%d, %d) = %d, want %d", tt.t, tt.d, got, tt.want)
		}
	}
}

// The bound within which nearly all exchanges end is that of RFC 6298, 2.2 and 2.3.
func TestLatencyFollowsRFC6298(t *testing.T) {
	var l latency
	if _, ok := l.bound(); ok {
		t.Error("a bound before anything was seen")
	}
	const ms = time.Millisecond
	for i, step := range []struct{ seen, mean, dev time.Duration }{
		{160 * ms, 160 * ms, 80 * ms},
		{80 * ms, 150 * ms, 80 * ms},
		{310 * ms, 170 * ms, 100 * ms},
	} {
		l.observe(step.seen)
		if got, ok := l.bound(); !ok || got != step.mean+4*step.dev {
			t.Errorf("after %d exchanges: %v, want %v", i+1, got, step.mean+4*step.dev)
		}
	}
}
