package vtotel_test

import (
	"context"
	"fmt"
	"log"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtotel"
	"github.com/vtclient/vtclient/simserver"
)

func ExampleNewTrace() {
	spans := tracetest.NewInMemoryExporter() // yours sends them somewhere
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	sim := simserver.Start(nil) // your backend
	defer sim.Close()
	client, err := vtclient.New(sim.URL(), vtclient.WithTrace(vtotel.NewTrace(provider, sim.URL())))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := client.Wait(context.Background(), sim.Create(simserver.Job{Duration: -1})); err != nil {
		log.Fatal(err)
	}
	for _, s := range spans.GetSpans() {
		fmt.Println(s.Name, s.SpanKind, len(s.Links), "links")
	}
	// Output:
	// GET status client 0 links
	// wait internal 1 links
}
