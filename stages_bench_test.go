package vtclient

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vtclient/vtclient/internal/flight"
)

// BenchmarkRetryStage tells what the stage that retries adds to an exchange that
// succeeds at once: the difference between calls through it and calls without it, the
// median over blocks that take turns, so that what disturbs both disturbs the figure
// little. Folder benchmarks has the peers beside it.
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

// allocated tells how many objects, and how many bytes, one call of f allocates.
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
