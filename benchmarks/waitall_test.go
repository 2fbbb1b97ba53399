package benchmarks

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
)

// thrice polls three times in quick succession and then not for an hour.
type thrice struct{}

func (thrice) Next(a vtclient.Attempt) (time.Duration, bool) {
	if a.Number < 3 {
		return 20 * time.Millisecond, true
	}
	return time.Hour, true
}

// A counted transport answers "pending" to the first two requests for each job and then what
// third returns. It distinguishes the jobs by the last eight digits of their ids.
type counted struct {
	third stub
	asked []atomic.Int32
	polls atomic.Int64
}

func newCounted(n int, third stub) *counted {
	return &counted{third: third, asked: make([]atomic.Int32, n)}
}

var (
	pending   = stub{http.StatusOK, pendingBody}
	completed = stub{http.StatusOK, `{"result":"completed"}`}
	down      = stub{http.StatusServiceUnavailable, "upstream is down"}
)

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	job := 0
	for _, digit := range r.URL.Path[len(r.URL.Path)-8:] {
		job = 10*job + int(digit-'0')
	}
	c.polls.Add(1)
	if c.asked[job].Add(1) < 3 {
		return pending.RoundTrip(r)
	}
	return c.third.RoundTrip(r)
}

// reached waits until each job has been asked for three times.
func (c *counted) reached(b *testing.B) {
	b.Helper()
	want := 3 * int64(len(c.asked))
	for deadline := time.Now().Add(5 * time.Minute); c.polls.Load() < want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%d requests of %d", c.polls.Load(), want)
		}
	}
}

// pollingClient polls each job three times and then has an hour's pause, after a fault
// too. The breaker is off, as it would keep all requests from a stub that fails.
func pollingClient(b *testing.B, rt http.RoundTripper) *vtclient.Client {
	b.Helper()
	c, err := vtclient.New("http://backend.invalid", vtclient.WithHTTPClient(&http.Client{Transport: rt}),
		vtclient.WithPolling(thrice{}), vtclient.WithRetry(vtclient.Constant(time.Hour)),
		vtclient.WithOutageTolerance(3*time.Hour), vtclient.WithBreaker(nil))
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// hinted is the jobs, and hints at each as soon as it is waited for: WaitAll makes its first
// checks at 500 a second otherwise, so that a million of them would take half an hour.
func hinted(c *vtclient.Client, ids []string) iter.Seq[vtclient.Job] {
	return func(yield func(vtclient.Job) bool) {
		for _, id := range ids {
			if !yield(vtclient.Job{ID: id}) {
				return
			}
			c.Hint(id)
		}
	}
}

// pollLoop polls one job as a program without a library does: in a goroutine and with a
// timer of its own. It returns when it sees the job's end, or when ctx is done.
func pollLoop(ctx context.Context, hc *http.Client, id string) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 1; ; n++ {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://backend.invalid/status/"+id, nil)
		if err != nil {
			return
		}
		if resp, err := hc.Do(req); err == nil {
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			var v answer
			if err == nil && json.Unmarshal(body, &v) == nil && v.Result == "completed" {
				return
			}
		}
		if n < 3 {
			timer.Reset(20 * time.Millisecond)
		} else {
			timer.Reset(time.Hour)
		}
	}
}

// BenchmarkWaitAllMemory measures the live bytes of a job beyond its id when each of 100,000
// has been polled three times: while all are pending, and where the third answer was a 503 to
// all of them. The loop is a goroutine and a timer for each.
func BenchmarkWaitAllMemory(b *testing.B) {
	n := size(100_000, 500)
	measure := func(b *testing.B, third stub, start func(ctx context.Context, rt http.RoundTripper, ids []string) (wait func())) {
		for b.Loop() {
			rt := newCounted(n, third)
			ids := names(n)
			before := live()
			ctx, cancel := context.WithCancel(b.Context())
			wait := start(ctx, rt, ids)
			rt.reached(b)
			time.Sleep(100 * time.Millisecond) // until the last answer is taken in
			b.ReportMetric((live()-before)/float64(n), "B/job")
			cancel()
			wait()
			runtime.KeepAlive(ids)
		}
	}
	ours := func(b *testing.B, third stub) {
		measure(b, third, func(ctx context.Context, rt http.RoundTripper, ids []string) func() {
			c := pollingClient(b, rt)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range c.WaitAll(ctx, hinted(c, ids)) {
				}
			}()
			return func() { <-done }
		})
	}
	compare(b,
		contender{"vtclient", func(b *testing.B) { ours(b, pending) }},
		contender{"vtclient-outage", func(b *testing.B) { ours(b, down) }},
		contender{"loop", func(b *testing.B) {
			measure(b, pending, func(ctx context.Context, rt http.RoundTripper, ids []string) func() {
				hc := &http.Client{Transport: rt}
				var wg sync.WaitGroup
				for _, id := range ids {
					wg.Go(func() { pollLoop(ctx, hc, id) })
				}
				return wg.Wait
			})
		}},
	)
}

// BenchmarkWaitMemory measures the live bytes of each of 100,000 callers that wait, each in a
// goroutine of its own and for a job of its own, after three polls.
func BenchmarkWaitMemory(b *testing.B) {
	n := size(100_000, 500)
	measure := func(b *testing.B, start func(rt http.RoundTripper) func(ctx context.Context, id string)) {
		for b.Loop() {
			rt := newCounted(n, pending)
			ids := names(n)
			heap, stacks := liveParts()
			ctx, cancel := context.WithCancel(b.Context())
			wait := start(rt)
			var wg sync.WaitGroup
			for _, id := range ids {
				wg.Go(func() { wait(ctx, id) })
			}
			rt.reached(b)
			time.Sleep(100 * time.Millisecond)
			heap2, stacks2 := liveParts()
			b.ReportMetric((heap2-heap+stacks2-stacks)/float64(n), "B/caller")
			b.ReportMetric((stacks2-stacks)/float64(n), "stack-B/caller")
			cancel()
			wg.Wait()
			runtime.KeepAlive(ids)
		}
	}
	compare(b,
		contender{"vtclient", func(b *testing.B) {
			measure(b, func(rt http.RoundTripper) func(context.Context, string) {
				c := pollingClient(b, rt)
				return func(ctx context.Context, id string) { c.Wait(ctx, id) }
			})
		}},
		contender{"loop", func(b *testing.B) {
			measure(b, func(rt http.RoundTripper) func(context.Context, string) {
				hc := &http.Client{Transport: rt}
				return func(ctx context.Context, id string) { pollLoop(ctx, hc, id) }
			})
		}},
	)
}

// BenchmarkWaitAllMillion waits for a million jobs in one WaitAll, each polled three times and
// then over, and measures the most memory that the process had meanwhile.
func BenchmarkWaitAllMillion(b *testing.B) {
	n := size(1_000_000, 1000)
	compare(b, contender{"vtclient", func(b *testing.B) { toTheEnd(b, n, waitAll(b)) }})
}

// BenchmarkWaitAllCPU is the same for 100,000 jobs, beside a loop of polls in a goroutine for
// each of them, and measures what a poll took of the processors.
func BenchmarkWaitAllCPU(b *testing.B) {
	n := size(100_000, 500)
	compare(b,
		contender{"vtclient", func(b *testing.B) { toTheEnd(b, n, waitAll(b)) }},
		contender{"loop", func(b *testing.B) {
			toTheEnd(b, n, func(rt http.RoundTripper, ids []string) {
				hc := &http.Client{Transport: rt}
				var wg sync.WaitGroup
				for _, id := range ids {
					wg.Go(func() { pollLoop(b.Context(), hc, id) })
				}
				wg.Wait()
			})
		}},
	)
}

func waitAll(b *testing.B) func(http.RoundTripper, []string) {
	return func(rt http.RoundTripper, ids []string) {
		c := pollingClient(b, rt)
		done := 0
		for st, err := range c.WaitAll(b.Context(), hinted(c, ids)) {
			if err != nil || st.State != vtclient.StateCompleted {
				b.Fatal(st, err)
			}
			done++
		}
		if done != len(ids) {
			b.Fatalf("%d jobs of %d", done, len(ids))
		}
	}
}

func toTheEnd(b *testing.B, n int, wait func(rt http.RoundTripper, ids []string)) {
	for b.Loop() {
		rt := newCounted(n, completed)
		ids := names(n)
		debug.FreeOSMemory()
		resetPeak()
		before := cpuTime()
		wait(rt, ids)
		b.ReportMetric(float64(cpuTime()-before)/float64(rt.polls.Load()), "cpu-ns/poll")
		b.ReportMetric(peakMemory()/(1<<20), "peak-MiB")
		if polls := rt.polls.Load(); polls != int64(3*n) {
			b.Fatalf("%d polls of %d jobs", polls, n)
		}
	}
}
