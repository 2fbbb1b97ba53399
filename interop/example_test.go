package interop_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"golang.org/x/time/rate"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// The two-step breaker of sony/gobreaker is a vtclient.Breaker as it is. IsExcluded
// keeps calls that their callers have given up from counting either way.
func Example_gobreaker() {
	breaker := gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:    30 * time.Second,
		IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
	})
	sim := simserver.Start(nil) // your backend
	defer sim.Close()
	client, err := vtclient.New(sim.URL(), vtclient.WithBreaker(breaker))
	if err != nil {
		log.Fatal(err)
	}
	status, err := client.Wait(context.Background(), sim.Create(simserver.Job{Duration: -1}))
	fmt.Println(status.State, err, breaker.Counts().TotalSuccesses)
	// Output: completed <nil> 1
}

// A rate.Limiter is a vtclient.Limiter as it is. One for several clients bounds what
// they send together.
func Example_rateLimiter() {
	sim := simserver.Start(nil) // your backend
	defer sim.Close()
	client, err := vtclient.New(sim.URL(), vtclient.WithLimiter(rate.NewLimiter(rate.Limit(50), 10)))
	if err != nil {
		log.Fatal(err)
	}
	status, err := client.Wait(context.Background(), sim.Create(simserver.Job{Duration: -1}))
	fmt.Println(status.State, err)
	// Output: completed <nil>
}

// The transport of otelhttp makes a span of each request, a child of the span in the caller's
// context, and a Trace feeds metrics. Both take the process's global providers where they are
// given none.
func Example_openTelemetry() {
	spans := tracetest.NewInMemoryExporter()
	tracer := trace.NewTracerProvider(trace.WithSyncer(spans))
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("example")

	requests, err := meter.Int64Counter("vtclient.requests")
	if err != nil {
		log.Fatal(err)
	}
	sim := simserver.Start(nil) // your backend
	defer sim.Close()
	client, err := vtclient.New(sim.URL(),
		vtclient.WithHTTPClient(&http.Client{
			Transport: otelhttp.NewTransport(http.DefaultTransport.(*http.Transport).Clone(), otelhttp.WithTracerProvider(tracer)),
		}),
		vtclient.WithTrace(vtclient.Trace{Answered: func(ctx context.Context, i vtclient.TraceInfo) {
			requests.Add(ctx, 1, metric.WithAttributes(attribute.Int("http.response.status_code", i.StatusCode)))
		}}))
	if err != nil {
		log.Fatal(err)
	}

	ctx, root := tracer.Tracer("example").Start(context.Background(), "publish the video")
	status, err := client.Wait(ctx, sim.Create(simserver.Job{Duration: -1}))
	root.End()
	fmt.Println(status.State, err)

	for _, span := range spans.GetSpans() {
		fmt.Println(span.Name, span.Parent.SpanID() == root.SpanContext().SpanID())
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		log.Fatal(err)
	}
	for _, p := range all.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64]).DataPoints {
		code, _ := p.Attributes.Value("http.response.status_code")
		fmt.Println(code.AsInt64(), p.Value)
	}
	// Output:
	// completed <nil>
	// HTTP GET true
	// publish the video false
	// 200 1
}
