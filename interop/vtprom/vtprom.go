// Package vtprom feeds Prometheus with what a vtclient does.
package vtprom

import (
	"context"
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vtclient/vtclient"
)

// NewTrace returns a trace for [vtclient.WithTrace] that counts, in reg:
//
//	vtclient_requests_total{outcome}     exchanges by what came of them: pending,
//	                                     completed, error, shared (for many jobs), a status code that is no
//	                                     2xx, unreadable, transport or left
//	vtclient_wire_requests_total         requests as written to the network, with those
//	                                     that net/http repeated by itself
//	vtclient_jobs_total                  jobs that were asked about; more than requests
//	                                     where one asks for many
//	vtclient_request_duration_seconds    a histogram of the exchanges that brought an answer
//	vtclient_refused_total               requests that the breaker did not let through
//	vtclient_cache_total{result}         answers from the cache (hit), and its failures (error)
//
// No label holds a job's id. It returns an error if reg has one of the names
// already, as it does for a second client: wrap reg with
// [prometheus.WrapRegistererWith] and a label for each.
func NewTrace(reg prometheus.Registerer) (vtclient.Trace, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "vtclient", Name: name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "vtclient", Name: name, Help: help}, []string{label})
	}
	requests := vector("requests_total", "Exchanges by what came of them.", "outcome")
	wire := counter("wire_requests_total", "Requests as written to the network.")
	jobs := counter("jobs_total", "Jobs that were asked about.")
	duration := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "vtclient", Name: "request_duration_seconds", Help: "Duration of the exchanges that brought an answer.",
		Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
	})
	refused := counter("refused_total", "Requests that the circuit breaker did not let through.")
	cache := vector("cache_total", "Answers from the cache, and its failures.", "result")
	for _, c := range []prometheus.Collector{requests, wire, jobs, duration, refused, cache} {
		if err := reg.Register(c); err != nil {
			return vtclient.Trace{}, err
		}
	}
	return vtclient.Trace{
		Answered: func(_ context.Context, i vtclient.TraceInfo) {
			requests.WithLabelValues(outcome(i)).Inc()
			wire.Add(float64(i.Wire))
			jobs.Add(float64(max(1, i.Jobs)))
			if i.StatusCode != 0 {
				duration.Observe(i.Latency.Seconds())
			}
		},
		Refused: func(context.Context, vtclient.TraceInfo) { refused.Inc() },
		Cached: func(_ context.Context, i vtclient.TraceInfo) {
			if i.Err != nil {
				cache.WithLabelValues("error").Inc()
			} else {
				cache.WithLabelValues("hit").Inc()
			}
		},
	}, nil
}

func outcome(i vtclient.TraceInfo) string {
	var transport *vtclient.TransportError
	switch {
	case i.Err == nil && i.Jobs > 0:
		return "shared"
	case i.Err == nil:
		return string(i.State)
	case errors.Is(i.Err, context.Canceled), errors.Is(i.Err, context.DeadlineExceeded):
		return "left"
	case i.StatusCode/100 != 2 && i.StatusCode != 0:
		return strconv.Itoa(i.StatusCode)
	case errors.As(i.Err, &transport):
		return "transport"
	}
	return "unreadable"
}
