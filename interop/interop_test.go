package interop_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/time/rate"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

var (
	_ vtclient.Breaker = (*gobreaker.TwoStepCircuitBreaker[struct{}])(nil)
	_ vtclient.Limiter = (*rate.Limiter)(nil)
)

func newClient(t *testing.T, sim *simserver.Server, opts ...vtclient.Option) *vtclient.Client {
	t.Helper()
	c, err := vtclient.New(sim.URL(), append([]vtclient.Option{vtclient.WithHTTPClient(sim.HTTPClient())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// gobreaker opens on what the client reports, its refusals are reported as they are, a wait
// survives them, and callers that leave count neither way.
func TestGobreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breaker := gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:    30 * time.Second,
			IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
		})
		sim := simserver.StartInMemory(t)
		c := newClient(t, sim, vtclient.WithBreaker(breaker), vtclient.WithCache(nil), vtclient.WithRetry(vtclient.Exponential{Base: time.Second, Limit: 1}))
		id := sim.Create(simserver.Job{Duration: 10 * time.Minute})

		// Callers that leave.
		sim.SetFaults(simserver.Faults{Latency: time.Minute})
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := c.Status(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
		}
		if n := breaker.Counts(); breaker.State() != gobreaker.StateClosed || n.TotalFailures != 0 || n.TotalSuccesses != 0 {
			t.Errorf("%v after callers left: %+v", breaker.State(), n)
		}

		// A backend that is down after it has answered once.
		sim.SetFaults(simserver.Faults{})
		if _, err := c.Status(t.Context(), id); err != nil {
			t.Error(err)
		}
		sim.SetFaults(simserver.Faults{Status: map[int]float64{500: 1}})
		for breaker.State() == gobreaker.StateClosed {
			_, err := c.Status(t.Context(), id)
			if !errors.As(err, new(*vtclient.HTTPError)) && !errors.As(err, new(*vtclient.RefusedError)) { // it may open between the tries
				t.Error(err)
			}
		}
		if n := sim.Requests(id); n < 6 || breaker.State() != gobreaker.StateOpen {
			t.Fatal(breaker.State(), n)
		}
		sent := sim.Requests(id)
		if _, err := c.Status(t.Context(), id); !errors.As(err, new(*vtclient.RefusedError)) || !errors.Is(err, gobreaker.ErrOpenState) {
			t.Error(err)
		}
		if n := sim.Requests(id); n != sent {
			t.Errorf("%d requests through an open breaker", n-sent)
		}

		// It comes back, and a wait that began meanwhile ends well.
		time.AfterFunc(time.Minute, func() { sim.SetFaults(simserver.Faults{}) })
		if st, err := c.Wait(t.Context(), id); err != nil || st.State != vtclient.StateCompleted {
			t.Error(st, err)
		}
		if breaker.State() != gobreaker.StateClosed {
			t.Error(breaker.State())
		}
	})
}

// One rate.Limiter spaces the requests of all that share it.
func TestRateLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		limiter := rate.NewLimiter(rate.Every(100*time.Millisecond), 1)
		a := newClient(t, sim, vtclient.WithLimiter(limiter))
		b := newClient(t, sim, vtclient.WithLimiter(limiter))
		began := time.Now()
		var wg sync.WaitGroup
		for _, c := range []*vtclient.Client{a, b} {
			for range 20 {
				id := sim.Create(simserver.Job{Duration: -1})
				wg.Go(func() {
					if _, err := c.Wait(t.Context(), id); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if d, n := time.Since(began), sim.TotalRequests(); n != 40 || d < 39*100*time.Millisecond {
			t.Errorf("%d requests within %v", n, d)
		}
		if n := sim.Stats().PeakPerSecond; n > 11 {
			t.Errorf("%d requests within a second", n)
		}
	})
}

// Each request is a span of its own, those that meet a fault too, and carries its
// context to the backend. The job's id is in no span's name.
func TestOpenTelemetrySpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewInMemoryExporter()
		tracer := trace.NewTracerProvider(trace.WithSyncer(spans))
		var mu sync.Mutex
		var parents []string
		sim := simserver.StartInMemory(t, simserver.WithOnExchange(func(e simserver.Exchange) {
			mu.Lock()
			defer mu.Unlock()
			parents = append(parents, e.Header.Get("Traceparent"))
		}))
		sim.SetFaults(simserver.Faults{Status: map[int]float64{503: 1}, Limit: 2})
		hc := &http.Client{Transport: otelhttp.NewTransport(sim.HTTPClient().Transport,
			otelhttp.WithTracerProvider(tracer), otelhttp.WithPropagators(propagation.TraceContext{}))}
		c := newClient(t, sim, vtclient.WithHTTPClient(hc), vtclient.WithPolling(vtclient.Constant(time.Minute)))
		id := sim.Create(simserver.Job{ID: "secret-job", Duration: 150 * time.Second})

		ctx, root := tracer.Tracer("test").Start(t.Context(), "root")
		if _, err := c.Wait(ctx, id); err != nil {
			t.Fatal(err)
		}
		root.End()
		got := spans.GetSpans()
		if n := sim.Requests(id); len(got) != n+1 || n < 5 {
			t.Fatalf("%d spans, %d requests", len(got), n)
		}
		mu.Lock()
		defer mu.Unlock()
		for i, s := range got[:len(got)-1] {
			if s.Parent.SpanID() != root.SpanContext().SpanID() || s.Name != "HTTP GET" {
				t.Errorf("%s, a child of %v", s.Name, s.Parent.SpanID())
			}
			if want := "00-" + s.SpanContext.TraceID().String() + "-" + s.SpanContext.SpanID().String() + "-01"; parents[i] != want {
				t.Errorf("request %d carried %q, want %q", i, parents[i], want)
			}
		}
	})
}
