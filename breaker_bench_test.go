package vtclient_test

import (
	"errors"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
)

// BenchmarkBreaker measures what a breaker adds to a request: one permit and
// its result while closed, on one goroutine and on all cores at once, with both
// criteria on as in the default config; and one refusal while open.
func BenchmarkBreaker(b *testing.B) {
	b.Run("closed", func(b *testing.B) {
		cb := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{})
		b.ReportAllocs()
		for b.Loop() {
			done, err := cb.Allow()
			if err != nil {
				b.Fatal(err)
			}
			done(nil)
		}
	})
	b.Run("closed-parallel", func(b *testing.B) {
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
	})
	b.Run("open", func(b *testing.B) {
		cb := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{
			ConsecutiveFailures: 1, OpenPeriod: time.Hour, Jitter: -1,
		})
		done, _ := cb.Allow()
		done(errors.New("down"))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := cb.Allow(); err == nil {
				b.Fatal("an open breaker gave a permit")
			}
		}
	})
}
