// Package interop shows how vtclient works together with what is around it. It
// is in a module of its own, so that vtclient itself requires nothing.
//
// The examples of this package need no adapter: a circuit breaker of
// sony/gobreaker, a limiter of golang.org/x/time/rate, and the transport of
// OpenTelemetry's otelhttp, with metrics fed by a Trace. Package vtprom feeds
// Prometheus, and package vtredis shares answers, what Adaptive has learnt, pauses,
// hints and a queue of waits among the replicas of a service; example/fleet shows the queue.
package interop
