package benchmarks

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/avast/retry-go/v5"
	"github.com/cenkalti/backoff/v5"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	sethvargo "github.com/sethvargo/go-retry"
	"golang.org/x/sync/singleflight"

	"github.com/vtclient/vtclient"
)

// BenchmarkRetry is a call that succeeds at once, through a retry loop that keeps the
// result. vtclient's stage cannot be had by itself from outside: the root package
// measures a call through it and the same call without it, in BenchmarkRetryStage.
func BenchmarkRetry(b *testing.B) {
	want := vtclient.Status{JobID: "job-1", State: vtclient.StatePending}
	compare(b,
		contender{"cenkalti", func(b *testing.B) {
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if v, err := backoff.Retry(ctx, func() (vtclient.Status, error) { return want, nil }, backoff.WithMaxTries(4)); err != nil || v.JobID == "" {
					b.Fatal(err)
				}
			}
		}},
		contender{"avast", func(b *testing.B) {
			ctx := b.Context()
			r := retry.NewWithData[vtclient.Status](retry.Attempts(4), retry.Context(ctx))
			b.ReportAllocs()
			for b.Loop() {
				if v, err := r.Do(func() (vtclient.Status, error) { return want, nil }); err != nil || v.JobID == "" {
					b.Fatal(err)
				}
			}
		}},
		contender{"sethvargo", func(b *testing.B) {
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				// A backoff of this package counts, so each call needs its own.
				policy := sethvargo.WithMaxRetries(3, sethvargo.NewExponential(500*time.Millisecond))
				if v, err := sethvargo.DoValue(ctx, policy, func(context.Context) (vtclient.Status, error) { return want, nil }); err != nil || v.JobID == "" {
					b.Fatal(err)
				}
			}
		}},
		contender{"failsafe", func(b *testing.B) {
			policy := retrypolicy.NewBuilder[vtclient.Status]().WithMaxAttempts(4).WithBackoff(500*time.Millisecond, 30*time.Second).Build()
			executor := failsafe.With[vtclient.Status](policy).WithContext(b.Context())
			b.ReportAllocs()
			for b.Loop() {
				if v, err := executor.Get(func() (vtclient.Status, error) { return want, nil }); err != nil || v.JobID == "" {
					b.Fatal(err)
				}
			}
		}},
	)
}

// BenchmarkFlight is a call that no other caller makes at the same time. vtclient's is measured
// by the root package, under the same name.
func BenchmarkFlight(b *testing.B) {
	compare(b,
		contender{"singleflight", func(b *testing.B) {
			var g singleflight.Group
			b.ReportAllocs()
			for b.Loop() {
				if v, err, _ := g.Do("job-1", func() (any, error) { return vtclient.Status{}, nil }); err != nil || v.(vtclient.Status).Cached {
					b.Fatal(err)
				}
			}
		}},
		// With callers that may leave.
		contender{"singleflight-ctx", func(b *testing.B) {
			var g singleflight.Group
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				select {
				case <-g.DoChan("job-1", func() (any, error) { return vtclient.Status{}, nil }):
				case <-ctx.Done():
				}
			}
		}},
	)
}

// BenchmarkFlight64 is 64 goroutines that make the same call over and over; the call
// yields the processor, so that others join it.
func BenchmarkFlight64(b *testing.B) {
	work := func() (any, error) { runtime.Gosched(); return vtclient.Status{}, nil }
	compare(b,
		contender{"singleflight", func(b *testing.B) {
			var g singleflight.Group
			b.ReportAllocs()
			b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					g.Do("job-1", work)
				}
			})
		}},
		contender{"singleflight-ctx", func(b *testing.B) {
			var g singleflight.Group
			b.ReportAllocs()
			b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				for pb.Next() {
					select {
					case <-g.DoChan("job-1", work):
					case <-ctx.Done():
					}
				}
			})
		}},
	)
}
