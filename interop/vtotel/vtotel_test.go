package vtotel_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtotel"
	"github.com/vtclient/vtclient/simserver"
)

// recorded is a client with a trace, and the spans of it.
func recorded(t *testing.T, sim *simserver.Server, opts ...vtclient.Option) (*vtclient.Client, *sdk.TracerProvider, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	tp := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	c, err := vtclient.New(sim.URL(), append([]vtclient.Option{
		vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithTrace(vtotel.NewTrace(tp, sim.URL())), vtclient.WithCache(nil),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c, tp, spans
}

func attributes(s tracetest.SpanStub) map[string]attribute.Value {
	m := map[string]attribute.Value{}
	for _, kv := range s.Attributes {
		m[string(kv.Key)] = kv.Value
	}
	return m
}

func named(spans tracetest.SpanStubs, name string) (found tracetest.SpanStubs) {
	for _, s := range spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// Each wait is a span, within that of its caller, with a link to the span of each request for
// its job and to no other.
func TestASpanForEachWait(t *testing.T) {
	for _, endpoint := range []vtclient.Endpoint{{}, vtclient.HeyGenV3()} {
		synctest.Test(t, func(t *testing.T) {
			sim := simserver.StartInMemory(t, simserver.WithSeed(2), simserver.WithDurations(simserver.Fixed(time.Minute)))
			sim.SetFaults(simserver.Faults{Status: map[int]float64{503: 0.2}})
			c, tp, spans := recorded(t, sim, vtclient.WithEndpoint(endpoint), vtclient.WithPolling(vtclient.Constant(7*time.Second)))
			ctx, root := tp.Tracer("test").Start(t.Context(), "root")
			ids := []string{sim.Create(simserver.Job{}), sim.Create(simserver.Job{Fail: true}), sim.Create(simserver.Job{Duration: 2 * time.Minute})}
			for range c.WaitAll(ctx, vtclient.Jobs(ids...)) {
			}
			root.End()
			got := spans.GetSpans()
			waits, requests := named(got, "wait"), named(got, "GET status")
			if len(waits) != 3 || len(requests) != sim.TotalRequests() {
				t.Fatalf("%d waits, %d requests of %d", len(waits), len(requests), sim.TotalRequests())
			}
			shared := 0
			for _, s := range requests {
				a := attributes(s)
				if s.SpanKind != trace.SpanKindClient || a["http.request.method"].AsString() != "GET" || a["server.address"].AsString() != "sim.invalid" || a["server.port"].AsInt64() != 80 {
					t.Errorf("%+v", s)
				}
				code := a["http.response.status_code"].AsInt64()
				if (code == 503) != (s.Status.Code == codes.Error) || (code == 503) != (a["error.type"].AsString() == "503") {
					t.Errorf("%d: %+v, %v", code, s.Status, a["error.type"])
				}
				if a["vtclient.jobs"].AsInt64() > 1 {
					shared++
				}
			}
			if (shared > 0) != (endpoint.Path != "") {
				t.Errorf("%d shared requests", shared)
			}
			for _, w := range waits {
				a := attributes(w)
				id := a["vtclient.job.id"].AsString()
				if w.Parent.SpanID() != root.SpanContext().SpanID() || w.SpanKind != trace.SpanKindInternal || w.EndTime.Sub(w.StartTime) < time.Minute {
					t.Errorf("%s: %+v", id, w)
				}
				if n := sim.Requests(id); len(w.Links) != n || a["vtclient.requests"].AsInt64() != int64(n) {
					t.Errorf("%s: %d links and %v requests, want %d", id, len(w.Links), a["vtclient.requests"].AsInt64(), n)
				}
				for _, link := range w.Links {
					if !slices.ContainsFunc(requests, func(s tracetest.SpanStub) bool { return s.SpanContext.SpanID() == link.SpanContext.SpanID() }) {
						t.Errorf("%s: a link to no request", id)
					}
				}
				failed := id == ids[1]
				if failed != (w.Status.Code == codes.Error) || failed != (a["error.type"].AsString() == "failed") || a["vtclient.job.state"].AsString() == "" || a["vtclient.job.age"].AsFloat64() < 60 {
					t.Errorf("%s: %+v, %v", id, w.Status, a)
				}
			}
		})
	}
}

// A wait that is left is no error; one that ran out of time or was refused is.
func TestHowWaitsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		id := sim.Create(simserver.Job{Duration: simserver.Never})
		c, _, spans := recorded(t, sim)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		c.Wait(ctx, id)
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c.Wait(ctx, id)
		c.Wait(t.Context(), "nobody's")
		for range c.Watch(t.Context(), id) {
			break
		}
		var kinds []string
		for _, w := range named(spans.GetSpans(), "wait") {
			kind := attributes(w)["error.type"].AsString()
			if (kind == "") != (w.Status.Code == codes.Unset) {
				t.Errorf("%q: %+v", kind, w.Status)
			}
			kinds = append(kinds, kind)
		}
		if want := []string{"", "timeout", "*vtclient.HTTPError", ""}; !slices.Equal(kinds, want) {
			t.Errorf("%q, want %q", kinds, want)
		}
	})
}

// Waits for one job each end their own span, within their own trace.
func TestWaitsForOneJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		id := sim.Create(simserver.Job{Duration: time.Minute})
		c, tp, spans := recorded(t, sim)
		var wg sync.WaitGroup
		for n := range 5 {
			wg.Go(func() {
				ctx, root := tp.Tracer("test").Start(t.Context(), "root", trace.WithNewRoot())
				defer root.End()
				ctx, cancel := context.WithTimeout(ctx, time.Duration(n+1)*15*time.Second)
				defer cancel()
				c.Wait(ctx, id)
			})
		}
		wg.Wait()
		roots := map[trace.TraceID]tracetest.SpanStub{}
		for _, r := range named(spans.GetSpans(), "root") {
			roots[r.SpanContext.TraceID()] = r
		}
		waits := named(spans.GetSpans(), "wait")
		for _, w := range waits {
			if r := roots[w.SpanContext.TraceID()]; !r.EndTime.Equal(w.EndTime) || len(w.Links) == 0 {
				t.Errorf("a wait ends at %v and its caller at %v, with %d links", w.EndTime, r.EndTime, len(w.Links))
			}
		}
		if len(waits) != 5 || len(roots) != 5 {
			t.Errorf("%d waits, %d callers", len(waits), len(roots))
		}
	})
}

// Submissions are spans too, with the number of repetitions; faults without an answer have
// the type of their error.
func TestSubmissionsAndFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithFaults(simserver.Faults{Drop: 1, Limit: 2, Match: func(r *http.Request) bool { return r.Method == "POST" }}))
		c, _, spans := recorded(t, sim, vtclient.WithEndpoint(vtclient.HeyGenV3()))
		if _, err := c.Submit(t.Context(), "", vtclient.HeyGenRequest{VideoURL: "https://v.test/1", Languages: []string{"German"}}); err != nil {
			t.Fatal(err)
		}
		got := named(spans.GetSpans(), "POST submit")
		if len(got) < 2 {
			t.Fatalf("%d spans", len(got))
		}
		for n, s := range got {
			a := attributes(s)
			last := n == len(got)-1
			if a["http.request.resend_count"].AsInt64() != int64(n) || (a["error.type"].AsString() == "") != last || !last && a["error.type"].AsString() != "*vtclient.TransportError" {
				t.Errorf("%d: %v", n, a)
			}
		}
	})
}

// With no provider the global one is used, which does nothing unless it is set; and a base URL
// that is none costs the attributes only.
func TestNoProvider(t *testing.T) {
	sim := simserver.StartInMemory(t)
	c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithTrace(vtotel.NewTrace(nil, ":")))
	if err != nil {
		t.Fatal(err)
	}
	id := sim.Create(simserver.Job{Duration: -1, Fail: true})
	if _, err := c.Wait(t.Context(), id); !errors.Is(err, vtclient.ErrJobFailed) {
		t.Error(err)
	}
}
