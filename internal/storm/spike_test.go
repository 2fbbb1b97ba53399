package storm

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// After a minute of trouble the load does not come back all at once: no second sees more
// than the first checks of a WaitAll bring about, one each 2 ms. In virtual time, where
// the figures do not depend on the machine.
func TestNoSpikeAfterAnOutage(t *testing.T) {
	const jobs = 1000
	for name, trouble := range map[string]func(*simserver.Server){
		"outage":   func(s *simserver.Server) { s.Outage(time.Minute) },
		"blackout": func(s *simserver.Server) { s.Blackout(time.Minute) },
		"429": func(s *simserver.Server) {
			s.SetFaults(simserver.Faults{Status: map[int]float64{429: 1}, RetryAfter: 20 * time.Second})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				well := simserver.Faults{Latency: 20 * time.Millisecond}
				sim := simserver.StartInMemory(t, simserver.WithSeed(seed), simserver.WithAutoCreate(),
					simserver.WithDurations(simserver.Fixed(simserver.Never)), simserver.WithFaults(well))
				client, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()))
				if err != nil {
					t.Fatal(err)
				}
				phase := func(d time.Duration) simserver.Stats {
					sim.ResetStats()
					time.Sleep(d)
					return sim.Stats()
				}
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					defer cancel()
					first := phase(30 * time.Second)
					steady := phase(30 * time.Second)
					trouble(sim)
					during := phase(time.Minute)
					sim.SetFaults(well)
					after := phase(time.Minute)
					t.Logf("%d jobs: requests (peak in a second): first half minute %d (%d), next one %d (%d), minute of trouble %d (%d), minute after it %d (%d)", jobs,
						first.Requests, first.PeakPerSecond, steady.Requests, steady.PeakPerSecond,
						during.Requests, during.PeakPerSecond, after.Requests, after.PeakPerSecond)
					if after.Requests < jobs {
						t.Errorf("after the trouble: %d requests in a minute, for %d jobs", after.Requests, jobs)
					}
					// By chance a second may get a little more than 500.
					if after.PeakPerSecond > 600 {
						t.Errorf("after the trouble: %d requests in one second, %d in a steady one", after.PeakPerSecond, steady.PeakPerSecond)
					}
				}()
				ids := make([]string, jobs)
				for i := range ids {
					ids[i] = fmt.Sprint(i)
				}
				for _, err := range client.WaitAll(ctx, vtclient.Jobs(ids...)) {
					if ctx.Err() == nil {
						t.Error(err)
					}
				}
			})
		})
	}
}
