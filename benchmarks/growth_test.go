package benchmarks

import (
	"context"
	"math"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
)

// A backend is a transport that counts requests. It answers "pending", and "completed"
// once all jobs are over.
type backend struct {
	takes time.Duration
	asked atomic.Int64
	over  atomic.Bool
}

func (s *backend) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked.Add(1)
	if s.takes > 0 {
		time.Sleep(s.takes)
	}
	if s.over.Load() {
		return completed.RoundTrip(r)
	}
	return pending.RoundTrip(r)
}

// A crowd is a WaitAll in a goroutine of its own.
type crowd struct {
	client  *vtclient.Client
	backend *backend
	jobs    []vtclient.Job
	cancel  context.CancelFunc
	leaves  bool          // the loop at its first result
	joined  chan struct{} // is closed when all jobs have been taken
	done    chan struct{} // is closed when the loop has ended
}

// newCrowd makes a WaitAll of n jobs that polls each of them every so often. Jobs with a
// known start are not asked about before, and all others at once.
func newCrowd(b *testing.B, n int, every time.Duration, known bool) *crowd {
	b.Helper()
	w := &crowd{backend: new(backend), jobs: make([]vtclient.Job, n), joined: make(chan struct{}), done: make(chan struct{})}
	for i, id := range names(n) {
		if w.jobs[i].ID = id; known {
			w.jobs[i].StartedAt = time.Now()
		}
	}
	var err error
	w.client, err = vtclient.New("http://backend.invalid", vtclient.WithHTTPClient(&http.Client{Transport: w.backend}),
		vtclient.WithPolling(vtclient.Constant(every)), vtclient.WithMaxInFlight(max(64, n)), vtclient.WithCache(nil), vtclient.WithBreaker(nil))
	if err != nil {
		b.Fatal(err)
	}
	return w
}

func (w *crowd) start(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	w.cancel = cancel
	go func() {
		defer close(w.done)
		for range w.client.WaitAll(ctx, func(yield func(vtclient.Job) bool) {
			for _, j := range w.jobs {
				if !yield(j) {
					return
				}
			}
			close(w.joined)
		}) {
			if w.leaves {
				return
			}
		}
	}()
}

func (w *crowd) hintAll() {
	for _, j := range w.jobs {
		w.client.Hint(j.ID)
	}
}

// reached waits until so many requests have been made.
func (w *crowd) reached(b *testing.B, requests int) {
	b.Helper()
	for deadline := time.Now().Add(5 * time.Minute); w.backend.asked.Load() < int64(requests); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("%d requests of %d", w.backend.asked.Load(), requests)
		}
	}
}

// A growing work is done for many jobs at once; what has to be done before does not count.
type growing struct {
	name   string
	most   int  // jobs
	known  bool // the jobs' start: they are first asked about in an hour
	before func(b *testing.B, w *crowd)
	work   func(b *testing.B, w *crowd)
}

func join(b *testing.B, w *crowd) {
	w.start(b)
	<-w.joined
}

func firstChecks(b *testing.B, w *crowd) {
	w.start(b)
	w.reached(b, len(w.jobs))
}

var works = []growing{
	{name: "join", most: 100_000, known: true, work: join},
	{name: "first-check", most: 100_000, work: firstChecks},
	{name: "cancel", most: 100_000, known: true, before: join, work: func(b *testing.B, w *crowd) {
		w.cancel()
		<-w.done
	}},
	{name: "hint", most: 100_000, known: true, before: join, work: func(b *testing.B, w *crowd) {
		w.hintAll()
		w.reached(b, len(w.jobs))
	}},
	{name: "end", most: 100_000, known: true, before: join, work: func(b *testing.B, w *crowd) {
		w.backend.over.Store(true)
		w.hintAll()
		<-w.done
	}},
	{name: "deadlines", most: 10_000, known: true, before: func(b *testing.B, w *crowd) {
		end := time.Now().Add(500 * time.Millisecond)
		for i := range w.jobs {
			w.jobs[i].ID, w.jobs[i].Deadline = "job", end.Add(time.Duration(i)*time.Microsecond)
		}
	}, work: func(b *testing.B, w *crowd) {
		w.start(b)
		<-w.done
	}},
}

// took returns the processor time of a work for n jobs.
func (g growing) took(b *testing.B, n int) float64 {
	w := newCrowd(b, n, time.Hour, g.known)
	if g.before != nil {
		g.before(b, w)
	}
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would not run at all for few jobs
	before := cpuTime()
	g.work(b, w)
	took := cpuTime() - before
	w.cancel()
	<-w.done
	return float64(took)
}

// BenchmarkGrowth gives the power of the number of jobs with which the processor time of a
// work grows, from 1,000 jobs to 100,000; with deadlines, each of a wait for the same
// job, to 10,000. Both sides do the work for as many jobs in all.
func BenchmarkGrowth(b *testing.B) {
	for _, g := range works {
		b.Run(g.name, func(b *testing.B) {
			compare(b, contender{"vtclient", func(b *testing.B) {
				few := size(1000, 50)
				times := size(g.most, 100) / few
				for b.Loop() {
					small, large := 0., g.took(b, few*times)
					for range times {
						small += g.took(b, few)
					}
					b.ReportMetric(1+math.Log(large/small)/math.Log(float64(times)), "exponent")
				}
			}})
		})
	}
}

// BenchmarkFirstCheck gives the exchanges that pass from the call of Wait to its first
// check while a WaitAll has far more polls due than may be in flight.
func BenchmarkFirstCheck(b *testing.B) {
	compare(b, contender{"vtclient", func(b *testing.B) {
		w := newCrowd(b, 64, 10*time.Millisecond, false) // what may be in flight
		w.backend.takes = 50 * time.Millisecond
		for i := range size(10_000, 200) - 64 {
			w.jobs = append(w.jobs, vtclient.Job{ID: "more-" + strconv.Itoa(i)})
		}
		w.start(b)
		<-w.joined
		w.hintAll() // else first checks are made at 500 a second
		w.reached(b, 1000)
		var delays []float64
		for b.Loop() {
			for i := range size(20, 3) {
				begin := time.Now()
				began := make(chan time.Duration, 1)
				ctx, cancel := context.WithCancel(b.Context())
				go func() {
					for range w.client.Watch(ctx, "single-"+strconv.Itoa(i)) {
						began <- time.Since(begin) - w.backend.takes
						return
					}
				}()
				delays = append(delays, float64(<-began)/float64(w.backend.takes))
				cancel()
			}
		}
		slices.Sort(delays)
		b.ReportMetric(delays[len(delays)/2], "exchanges")
		w.cancel()
		<-w.done
	}})
}

// BenchmarkLeaving gives the longest time for which the engine's lock holds a Hint up
// while a WaitAll of 1,000,000 jobs is left by break. What idle gives is the machine's
// part: there the WaitAll goes on.
func BenchmarkLeaving(b *testing.B) {
	run := func(leaves bool) func(b *testing.B) {
		return func(b *testing.B) {
			for b.Loop() {
				w := newCrowd(b, size(1_000_000, 1000), time.Hour, true)
				w.leaves = leaves
				join(b, w)
				runtime.GC()
				if leaves {
					w.backend.over.Store(true)
				}
				w.client.Hint(w.jobs[0].ID)
				longest := time.Duration(0)
				for end := time.Now().Add(time.Duration(size(3000, 10)) * time.Millisecond); time.Now().Before(end); {
					begin := time.Now()
					w.client.Hint("another")
					longest = max(longest, time.Since(begin))
				}
				b.ReportMetric(float64(longest)/1e6, "held-ms")
				w.cancel()
				<-w.done
			}
		}
	}
	compare(b, contender{"vtclient", run(true)}, contender{"idle", run(false)})
}
