package vtprom_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

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
		got := values(t, reg)
		stats := sim.Stats()
		exchanges := 0.0
		for key, n := range got {
			if strings.HasPrefix(key, "requests_total ") {
				exchanges += n
			}
		}
		want := map[string]float64{
			"requests_total completed":  50,
			"requests_total pending":    float64(stats.Pending),
			"requests_total 503":        float64(stats.Faults["503"]),
			"requests_total 429":        float64(stats.Faults["429"]),
			"requests_total unreadable": float64(stats.Faults["garbage"]),
			"wire_requests_total":       float64(stats.Requests),
			"jobs_total":                exchanges,
		}
		for key, n := range want {
			if got[key] != n || n == 0 {
				t.Errorf("%s: %v, want %v", key, got[key], n)
			}
		}
		// A request that is lost on a connection that had served before is repeated within its exchange.
		if n := got["requests_total transport"]; n == 0 || n > float64(stats.Faults["cut"]) {
			t.Errorf("%v exchanges without an answer, of %d that were cut", n, stats.Faults["cut"])
		}
		if got["refused_total"] == 0 || got["request_duration_seconds"] == 0 {
			t.Error(got)
		}
	})
}

// A registerer that refuses the n-th collector.
type refusing struct {
	prometheus.Registerer
	left int
}

func (r *refusing) Register(c prometheus.Collector) error {
	if r.left--; r.left < 0 {
		return errors.New("refused")
	}
	return r.Registerer.Register(c)
}

// What fails halfway leaves nothing registered, so that it can be done again.
func TestNothingIsLeftRegistered(t *testing.T) {
	for name, register := range map[string]func(prometheus.Registerer) error{
		"NewTrace": func(reg prometheus.Registerer) error { _, err := vtprom.NewTrace(reg); return err },
		"RegisterBreaker": func(reg prometheus.Registerer) error {
			return vtprom.RegisterBreaker(reg, vtclient.NewCircuitBreaker(vtclient.BreakerConfig{}))
		},
	} {
		for n := 0; ; n++ {
			reg := prometheus.NewRegistry()
			if register(&refusing{reg, n}) == nil {
				if n < 3 {
					t.Errorf("%s registers %d collectors", name, n)
				}
				break
			}
			if err := register(reg); err != nil {
				t.Errorf("%s, after collector %d was refused: %v", name, n+1, err)
			}
		}
	}
}

// Waits are counted while they go on, and each once when it ends, by what came of it.
func TestTraceCountsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		trace, err := vtprom.NewTrace(reg)
		if err != nil {
			t.Fatal(err)
		}
		sim := simserver.StartInMemory(t, simserver.WithDurations(simserver.Fixed(3*time.Minute)))
		c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithTrace(trace), vtclient.WithCache(nil), vtclient.WithPolling(vtclient.Constant(time.Minute)))
		if err != nil {
			t.Fatal(err)
		}
		ids := []string{sim.Create(simserver.Job{}), sim.Create(simserver.Job{Fail: true}), "nobody's", sim.Create(simserver.Job{Duration: simserver.Never})}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		go func() {
			for range c.WaitAll(ctx, vtclient.Jobs(ids...)) {
			}
		}()
		for at, want := range []int{3, 3, 3, 1, 1} { // a minute after the other
			time.Sleep(time.Second)
			if got := values(t, reg)["waits"]; got != float64(want) {
				t.Errorf("after %d min: %v waits, want %d", at, got, want)
			}
			time.Sleep(time.Minute - time.Second)
		}
		time.Sleep(10 * time.Minute)
		for range c.Watch(t.Context(), ids[3]) {
			break
		}
		got := values(t, reg)
		for key, want := range map[string]float64{
			"waits": 0, "job_duration_seconds completed": 1, "job_duration_seconds failed": 1, "job_duration_seconds timeout": 1,
			"job_duration_seconds error": 1, "job_duration_seconds left": 1, "job_requests": 5,
		} {
			if got[key] != want {
				t.Errorf("%s: %v, want %v", key, got[key], want)
			}
		}
	})
}

// The breaker is in one state at a time.
func TestBreakerState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 1})
		if err := vtprom.RegisterBreaker(reg, b); err != nil {
			t.Fatal(err)
		}
		expect := func(state string) {
			t.Helper()
			for key, v := range values(t, reg) {
				if (v == 1) != (key == "breaker_state "+state) {
					t.Errorf("%s is %v, want %s", key, v, state)
				}
			}
		}
		expect("closed")
		done, err := b.Allow()
		if err != nil {
			t.Fatal(err)
		}
		done(errors.New("down"))
		expect("open")
		time.Sleep(time.Hour)
		if _, err := b.Allow(); err != nil {
			t.Fatal(err)
		}
		expect("half-open")
	})
}

var metricName = regexp.MustCompile(`vtclient_[a-z_]+`)

// The dashboard asks for metrics that there are, and shows each of them.
func TestDashboardShowsTheMetrics(t *testing.T) {
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if len(p.Targets) == 0 || ids[p.ID] || p.Title == "" || p.Type == "" || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%+v", p)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			names := metricName.FindAllString(target.Expr, -1)
			if len(names) == 0 {
				t.Errorf("%s: %q has no metric", p.Title, target.Expr)
			}
			for _, name := range names {
				shown[name] = true
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		there := map[string]bool{} // as they are stored
		for _, f := range families(t, everything(t)) {
			if f.GetType() == dto.MetricType_HISTOGRAM {
				hit := false
				for _, suffix := range []string{"_bucket", "_sum", "_count"} {
					there[f.GetName()+suffix] = true
					hit = hit || shown[f.GetName()+suffix]
				}
				if !hit {
					t.Errorf("%s is not shown", f.GetName())
				}
				continue
			}
			there[f.GetName()] = true
			if !shown[f.GetName()] {
				t.Errorf("%s is not shown", f.GetName())
			}
		}
		for name := range shown {
			if !there[name] {
				t.Errorf("%s is shown, and there is no such metric", name)
			}
		}
	})
}

// everything is a registry in which each metric has a value.
func everything(t *testing.T) *prometheus.Registry {
	t.Helper()
	reg := prometheus.NewRegistry()
	trace, err := vtprom.NewTrace(reg)
	if err != nil {
		t.Fatal(err)
	}
	if err := vtprom.RegisterBreaker(reg, vtclient.NewCircuitBreaker(vtclient.BreakerConfig{})); err != nil {
		t.Fatal(err)
	}
	info := vtclient.TraceInfo{JobID: "a", State: vtclient.StateCompleted, StatusCode: 200, Late: time.Second}
	for _, call := range []func(context.Context, vtclient.TraceInfo){trace.WaitBegun, trace.Answered, trace.Refused, trace.Cached, trace.WaitEnded} {
		call(t.Context(), info)
	}
	return reg
}

func families(t *testing.T, reg *prometheus.Registry) []*dto.MetricFamily {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// values are all metrics by their names and labels; of a histogram its count.
func values(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	got := map[string]float64{}
	for _, f := range families(t, reg) {
		for _, m := range f.Metric {
			key := strings.TrimPrefix(f.GetName(), "vtclient_")
			for _, l := range m.Label {
				key += " " + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return got
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
