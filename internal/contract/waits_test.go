package contract_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

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
