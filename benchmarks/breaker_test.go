package benchmarks

import (
	"errors"
	"testing"
	"time"

	eapache "github.com/eapache/go-resiliency/breaker"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"

	"github.com/vtclient/vtclient"
)

var errDown = errors.New("down")

// All breakers but eapache's, which has no such thing, open at half of at least 20
// calls within a rolling 30 s that moves on in ten steps.
func newGobreaker() *gobreaker.TwoStepCircuitBreaker[any] {
	return gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		Interval: 30 * time.Second, BucketPeriod: 3 * time.Second, Timeout: time.Hour,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= 5 || c.Requests >= 20 && 2*c.TotalFailures >= c.Requests
		},
	})
}

func newFailsafe() circuitbreaker.CircuitBreaker[any] {
	return circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(.5, 20, 30*time.Second).WithDelay(time.Hour).Build()
}

// BenchmarkBreakerClosed is one permit and the report that the call went well.
func BenchmarkBreakerClosed(b *testing.B) {
	compare(b,
		contender{"vtclient", func(b *testing.B) {
			cb := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{})
			b.ReportAllocs()
			for b.Loop() {
				done, err := cb.Allow()
				if err != nil {
					b.Fatal(err)
				}
				done(nil)
			}
		}},
		contender{"gobreaker", func(b *testing.B) {
			cb := newGobreaker()
			b.ReportAllocs()
			for b.Loop() {
				done, err := cb.Allow()
				if err != nil {
					b.Fatal(err)
				}
				done(nil)
			}
		}},
		contender{"failsafe", func(b *testing.B) {
			cb := newFailsafe()
			b.ReportAllocs()
			for b.Loop() {
				if !cb.TryAcquirePermit() {
					b.Fatal("refused")
				}
				cb.RecordSuccess()
			}
		}},
		contender{"eapache", func(b *testing.B) { // counts failures only, in no window
			cb := eapache.New(5, 2, time.Hour)
			b.ReportAllocs()
			for b.Loop() {
				if err := cb.Run(func() error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		}},
	)
}

// BenchmarkBreakerClosedParallel is the same on all processors at once.
func BenchmarkBreakerClosedParallel(b *testing.B) {
	compare(b,
		contender{"vtclient", func(b *testing.B) {
			cb := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{})
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					done, err := cb.Allow()
					if err != nil {
						b.Error(err)
						return
					}
					done(nil)
				}
			})
		}},
		contender{"gobreaker", func(b *testing.B) {
			cb := newGobreaker()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					done, err := cb.Allow()
					if err != nil {
						b.Error(err)
						return
					}
					done(nil)
				}
			})
		}},
		contender{"failsafe", func(b *testing.B) {
			cb := newFailsafe()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if !cb.TryAcquirePermit() {
						b.Error("refused")
						return
					}
					cb.RecordSuccess()
				}
			})
		}},
		contender{"eapache", func(b *testing.B) {
			cb := eapache.New(5, 2, time.Hour)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := cb.Run(func() error { return nil }); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}},
	)
}

// BenchmarkBreakerOpen is one refusal of a breaker that stays open for an hour.
func BenchmarkBreakerOpen(b *testing.B) {
	compare(b,
		contender{"vtclient", func(b *testing.B) {
			cb := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{OpenPeriod: time.Hour, Jitter: -1})
			for range 5 {
				done, err := cb.Allow()
				if err != nil {
					b.Fatal(err)
				}
				done(errDown)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cb.Allow(); err == nil {
					b.Fatal("a permit")
				}
			}
		}},
		contender{"gobreaker", func(b *testing.B) {
			cb := newGobreaker()
			for range 5 {
				done, err := cb.Allow()
				if err != nil {
					b.Fatal(err)
				}
				done(errDown)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cb.Allow(); err == nil {
					b.Fatal("a permit")
				}
			}
		}},
		contender{"failsafe", func(b *testing.B) {
			cb := newFailsafe()
			cb.Open()
			b.ReportAllocs()
			for b.Loop() {
				if cb.TryAcquirePermit() {
					b.Fatal("a permit")
				}
			}
		}},
		contender{"eapache", func(b *testing.B) { // answers from a flag, which a timer resets
			cb := eapache.New(5, 2, time.Hour)
			for range 5 {
				cb.Run(func() error { return errDown })
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := cb.Run(func() error { return nil }); err == nil {
					b.Fatal("a permit")
				}
			}
		}},
	)
}
