package vtprom_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtprom"
	"github.com/vtclient/vtclient/simserver"
)

func ExampleNewTrace() {
	registry := prometheus.NewRegistry() // or prometheus.DefaultRegisterer
	trace, err := vtprom.NewTrace(registry)
	if err != nil {
		log.Fatal(err)
	}
	sim := simserver.Start(nil) // your backend
	defer sim.Close()
	client, err := vtclient.New(sim.URL(), vtclient.WithTrace(trace))
	if err != nil {
		log.Fatal(err)
	}
	id := sim.Create(simserver.Job{Duration: -1})
	client.Wait(context.Background(), id)
	client.Status(context.Background(), id) // from the cache

	fmt.Println(testutil.GatherAndCompare(registry, strings.NewReader(`
		# HELP vtclient_requests_total Exchanges by what came of them.
		# TYPE vtclient_requests_total counter
		vtclient_requests_total{outcome="completed"} 1
		# HELP vtclient_cache_total Answers from the cache, and its failures.
		# TYPE vtclient_cache_total counter
		vtclient_cache_total{result="hit"} 1
	`), "vtclient_requests_total", "vtclient_cache_total"))
	// Output: <nil>
}

// Every exchange is counted once, and by what came of it.
func TestTraceCountsEachExchangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		trace, err := vtprom.NewTrace(reg)
		if err != nil {
			t.Fatal(err)
		}
		sim := simserver.StartInMemory(t, simserver.WithSeed(3), simserver.WithDurations(simserver.Fixed(3*time.Minute)))
		sim.SetFaults(simserver.Faults{Status: map[int]float64{503: 0.2, 429: 0.05}, Cut: 0.2, Garbage: 0.1})
		c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithTrace(trace), vtclient.WithCache(nil),
			vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 2})))
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for range 50 {
			ids = append(ids, sim.Create(simserver.Job{}))
		}
		for _, err := range c.WaitAll(t.Context(), vtclient.Jobs(ids...)) {
			if err != nil {
				t.Error(err)
			}
		}
		got := map[string]float64{}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.Metric {
				key := strings.TrimPrefix(f.GetName(), "vtclient_")
				for _, l := range m.Label {
					key += " " + l.GetValue()
				}
				got[key] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		stats := sim.Stats()
		want := map[string]float64{
			"requests_total completed":  50,
			"requests_total pending":    float64(stats.Pending),
			"requests_total 503":        float64(stats.Faults["503"]),
			"requests_total 429":        float64(stats.Faults["429"]),
			"requests_total transport":  float64(stats.Faults["cut"]),
			"requests_total unreadable": float64(stats.Faults["garbage"]),
			"wire_requests_total":       float64(stats.Requests),
			"jobs_total":                float64(stats.Requests),
		}
		for key, n := range want {
			if got[key] != n || n == 0 {
				t.Errorf("%s: %v, want %v", key, got[key], n)
			}
		}
		if got["refused_total"] == 0 || got["request_duration_seconds"] == 0 {
			t.Error(got)
		}
	})
}

func TestNewTraceTwiceIsAnError(t *testing.T) {
	reg := prometheus.NewRegistry()
	if _, err := vtprom.NewTrace(reg); err != nil {
		t.Fatal(err)
	}
	if _, err := vtprom.NewTrace(reg); err == nil {
		t.Error("no error")
	}
	reg = prometheus.NewRegistry()
	for _, backend := range []string{"a", "b"} {
		if _, err := vtprom.NewTrace(prometheus.WrapRegistererWith(prometheus.Labels{"backend": backend}, reg)); err != nil {
			t.Error(err)
		}
	}
}
