package benchmarks

import (
	"context"
	"io"
	"iter"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
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

// A counted transport answers "pending" and counts; from its answer number turn on it
// gives the other answer.
type counted struct {
	n    atomic.Int64
	turn int64
	then stub
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.n.Add(1) > c.turn {
		return c.then.RoundTrip(r)
	}
	return stub{http.StatusOK, pendingBody}.RoundTrip(r)
}

// reached waits until n requests have been answered.
func (c *counted) reached(b *testing.B, n int) {
	b.Helper()
	for deadline := time.Now().Add(5 * time.Minute); c.n.Load() < int64(n); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%d requests of %d", c.n.Load(), n)
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

// hinted is the jobs, and says "look now" of each as soon as it is waited for: WaitAll
// makes its first checks at 500 a second otherwise, so that a million of them would take
// half an hour.
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
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if strings.Contains(string(body), "completed") {
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

// BenchmarkWaitAllMemory tells the live bytes of a job beyond its id when each of
// 100,000 has been polled three times: while all are pending, and where the third
// answer was a 503 to all of them. The loop is a goroutine and a timer for each.
func BenchmarkWaitAllMemory(b *testing.B) {
	n := size(100_000, 500)
	measure := func(b *testing.B, outage bool, start func(ctx context.Context, rt http.RoundTripper, ids []string) (wait func())) {
		for b.Loop() {
			rt := &counted{turn: 1 << 60}
			if outage {
				rt.turn, rt.then = int64(2*n), stub{http.StatusServiceUnavailable, "upstream is down"}
			}
			ids := names(n)
			before := live()
			ctx, cancel := context.WithCancel(b.Context())
			wait := start(ctx, rt, ids)
			rt.reached(b, 3*n)
			time.Sleep(100 * time.Millisecond) // until the last answer is taken in
			b.ReportMetric((live()-before)/float64(n), "B/job")
			cancel()
			wait()
			runtime.KeepAlive(ids)
		}
	}
	ours := func(b *testing.B, outage bool) {
		measure(b, outage, func(ctx context.Context, rt http.RoundTripper, ids []string) func() {
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
		contender{"vtclient", func(b *testing.B) { ours(b, false) }},
		contender{"vtclient-outage", func(b *testing.B) { ours(b, true) }},
		contender{"loop", func(b *testing.B) {
			measure(b, false, func(ctx context.Context, rt http.RoundTripper, ids []string) func() {
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

// BenchmarkWaitMemory tells the live bytes of each of 100,000 callers that wait, each in
// a goroutine of its own and for a job of its own, after three polls.
func BenchmarkWaitMemory(b *testing.B) {
	n := size(100_000, 500)
	measure := func(b *testing.B, start func(rt http.RoundTripper) func(ctx context.Context, id string)) {
		for b.Loop() {
			rt := &counted{turn: 1 << 60}
			ids := names(n)
			before := live()
			ctx, cancel := context.WithCancel(b.Context())
			wait := start(rt)
			var wg sync.WaitGroup
			for _, id := range ids {
				wg.Go(func() { wait(ctx, id) })
			}
			rt.reached(b, 3*n)
			time.Sleep(100 * time.Millisecond)
			b.ReportMetric((live()-before)/float64(n), "B/caller")
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

// thirdIsLast answers "completed" to the third request for each job. It tells them by
// the last eight digits of their ids.
type thirdIsLast struct {
	asked []atomic.Int32
	polls atomic.Int64
}

func (t *thirdIsLast) RoundTrip(r *http.Request) (*http.Response, error) {
	i := 0
	for _, c := range r.URL.Path[len(r.URL.Path)-8:] {
		i = 10*i + int(c-'0')
	}
	t.polls.Add(1)
	if t.asked[i].Add(1) < 3 {
		return stub{http.StatusOK, pendingBody}.RoundTrip(r)
	}
	return stub{http.StatusOK, `{"result":"completed"}`}.RoundTrip(r)
}

// BenchmarkWaitAllMillion waits for a million jobs in one WaitAll, each polled three
// times and then over, and tells the most memory that the process had and what a poll
// took of the processors. The loop does the same work for 100,000, and vtclient-100k
// is there to compare with it.
func BenchmarkWaitAllMillion(b *testing.B) {
	run := func(b *testing.B, n int, wait func(rt http.RoundTripper, ids []string)) {
		for b.Loop() {
			rt := &thirdIsLast{asked: make([]atomic.Int32, n)}
			ids := names(n)
			debug.FreeOSMemory()
			resetPeak()
			before := cpuTime()
			wait(rt, ids)
			b.ReportMetric(float64(cpuTime()-before)/float64(rt.polls.Load()), "cpu-ns/poll")
			b.ReportMetric(float64(rt.polls.Load())/float64(n), "polls/job")
			b.ReportMetric(peakMemory()/(1<<20), "peak-MiB")
		}
	}
	ours := func(b *testing.B, n int) {
		run(b, n, func(rt http.RoundTripper, ids []string) {
			c := pollingClient(b, rt)
			done := 0
			for st, err := range c.WaitAll(b.Context(), hinted(c, ids)) {
				if err != nil || st.State != vtclient.StateCompleted {
					b.Fatal(st, err)
				}
				done++
			}
			if done != n {
				b.Fatalf("%d jobs of %d", done, n)
			}
		})
	}
	compare(b,
		contender{"vtclient", func(b *testing.B) { ours(b, size(1_000_000, 1000)) }},
		contender{"vtclient-100k", func(b *testing.B) { ours(b, size(100_000, 1000)) }},
		contender{"loop", func(b *testing.B) {
			run(b, size(100_000, 1000), func(rt http.RoundTripper, ids []string) {
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
