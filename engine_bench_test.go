package vtclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"
)

// stubAnswer is a transport that gives every request the same answer.
type stubAnswer struct {
	code int
	body string
}

func (s stubAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: s.code, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader([]byte(s.body))), ContentLength: int64(len(s.body))}, nil
}

func benchClient(b *testing.B, s stubAnswer, opts ...Option) *Client {
	b.Helper()
	c, err := New("http://stub.invalid", append([]Option{WithHTTPClient(&http.Client{Transport: s}),
		WithPolling(Constant(time.Hour)), WithRetry(Constant(time.Hour)), WithOutageTolerance(2 * time.Hour)}, opts...)...)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// live returns the bytes that are live now: objects and goroutine stacks.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// settled waits until n polls have had an exchange each.
func (e *engine) settled(b *testing.B, n int) {
	for deadline := time.Now().Add(time.Minute * 5); ; time.Sleep(20 * time.Millisecond) {
		e.mu.Lock()
		done := 0
		for p := range e.polls.all {
			if !p.untried() && p.phase == waiting {
				done++
			}
		}
		e.mu.Unlock()
		if done == n {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d polls settled", done, n)
		}
	}
}

// BenchmarkWaitAllBytesPerJob tells the live bytes per job of a WaitAll over
// 100,000 jobs, beyond the ids, while all are pending, and in an outage.
func BenchmarkWaitAllBytesPerJob(b *testing.B) {
	const n = 100_000
	for name, s := range map[string]stubAnswer{"pending": {200, `{"result":"pending","progress":0.5}`}, "outage": {503, "upstream is down"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c := benchClient(b, s, WithBreaker(nil))
				jobs := make([]Job, n)
				for i := range jobs {
					jobs[i].ID = fmt.Sprint("job-", i)
				}
				before := live()
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan bool)
				go func() {
					defer close(done)
					for range c.WaitAll(ctx, func(yield func(Job) bool) {
						for _, j := range jobs {
							if !yield(j) {
								return
							}
							c.Hint(j.ID) // takes it out of the pace of first checks, which is 500 a second
						}
					}) {
					}
				}()
				c.engine.settled(b, n)
				b.ReportMetric(float64(live()-before)/n, "B/job")
				cancel()
				<-done
				runtime.KeepAlive(jobs)
			}
		})
	}
}

// The sizes are size classes of Go's allocator: one byte more costs sixteen for each job.
func TestAJobTakesFewBytes(t *testing.T) {
	for typ, most := range map[reflect.Type]uintptr{
		reflect.TypeFor[entry]():        176,
		reflect.TypeFor[subscription](): 80,
		reflect.TypeFor[trouble]():      80,
	} {
		if typ.Size() > most {
			t.Errorf("%v takes %d bytes, want at most %d", typ, typ.Size(), most)
		}
	}
}

// BenchmarkParkedWaitBytes tells the live bytes of 100,000 callers that wait,
// each for a job of its own, beside those of a plain loop of polling in a goroutine each.
func BenchmarkParkedWaitBytes(b *testing.B) {
	const n = 100_000
	s := stubAnswer{200, `{"result":"pending"}`}
	run := func(b *testing.B, wait func(ctx context.Context, id string), settled func()) {
		for b.Loop() {
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprint("job-", i)
			}
			before := live()
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			for _, id := range ids {
				wg.Go(func() { wait(ctx, id) })
			}
			settled()
			b.ReportMetric(float64(live()-before)/n, "B/caller")
			cancel()
			wg.Wait()
		}
	}
	b.Run("Wait", func(b *testing.B) {
		c := benchClient(b, s, WithCache(nil), WithBreaker(nil))
		run(b, func(ctx context.Context, id string) { c.Wait(ctx, id) }, func() { c.engine.settled(b, n) })
	})
	b.Run("loop", func(b *testing.B) {
		hc := &http.Client{Transport: s}
		var polled sync.WaitGroup
		polled.Add(n)
		run(b, func(ctx context.Context, id string) {
			timer := time.NewTimer(0)
			defer timer.Stop()
			for first := true; ; first = false {
				select {
				case <-timer.C:
				case <-ctx.Done():
					return
				}
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://stub.invalid/status/"+id, nil)
				if resp, err := hc.Do(req); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if first {
					polled.Done()
				}
				timer.Reset(time.Hour)
			}
		}, func() { polled.Wait(); time.Sleep(50 * time.Millisecond); polled.Add(n) })
	})
}

// BenchmarkPoll is the time and memory of one poll: an exchange over a stub
// transport, the plan for the next one and the telling of who waits.
func BenchmarkPoll(b *testing.B) {
	b.ReportAllocs()
	c := benchClient(b, stubAnswer{200, `{"result":"pending"}`}, WithCache(nil))
	in := newInbox(context.Background(), never, false, false)
	c.engine.join(in, "a", &Job{StartedAt: time.Now().Add(time.Hour)}, never)
	t := &trip{e: &c.engine}
	en := c.engine.polls.get("a")
	for b.Loop() {
		c.engine.mu.Lock()
		t.start(en, c.now())
		c.engine.mu.Unlock()
		t.run()
		c.engine.mu.Lock()
		t.free()
		c.engine.mu.Unlock()
	}
	c.engine.leave(in)
}
