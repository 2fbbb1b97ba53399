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
//	                                     completed, error, shared (for many jobs), submit or cancel (that the
//	                                     backend took), a status code that is no 2xx, unreadable, transport or left
//	vtclient_wire_requests_total         requests as written to the network, with those
//	                                     that net/http repeated by itself
//	vtclient_jobs_total                  jobs that were asked about; more than requests
//	                                     where one asks for many
//	vtclient_request_duration_seconds    a histogram of the exchanges that brought an answer
//	vtclient_refused_total               requests that the breaker did not let through
//	vtclient_cache_total{result}         answers from the cache (hit), and its failures (error)
//	vtclient_waits                       waits in progress, one for each job and caller
//	vtclient_job_duration_seconds{outcome}
//	                                     a histogram of the jobs' ages at the end of their waits, by
//	                                     what came of those: completed, failed, left, timeout or error
//	vtclient_job_requests                a histogram of the requests that a wait's poll took
//	vtclient_notice_delay_seconds        a histogram of the times from the end of a job to the answer
//	                                     that showed it, where the backend gives the time of the end
//
// No label holds a job's id. It returns an error if reg has one of the names
// already, as it does for a second client: wrap reg with
// [prometheus.WrapRegistererWith] and a label for each. After an error nothing of it
// is registered.
func NewTrace(reg prometheus.Registerer) (vtclient.Trace, error) {
	m := newMetrics()
	if err := registerAll(reg, m.all()...); err != nil {
		return vtclient.Trace{}, err
	}
	return vtclient.Trace{
		Answered: m.answered,
		Refused:  func(context.Context, vtclient.TraceInfo) { m.refused.Inc() },
		Cached: func(_ context.Context, i vtclient.TraceInfo) {
			if i.Err != nil {
				m.cache.WithLabelValues("error").Inc()
			} else {
				m.cache.WithLabelValues("hit").Inc()
			}
		},
		WaitBegun: func(context.Context, vtclient.TraceInfo) { m.waits.Inc() },
		WaitEnded: m.waitEnded,
	}, nil
}

// RegisterBreaker registers with reg the state of a circuit breaker:
//
//	vtclient_breaker_state{state}  1 for the state that it is in, of closed, half-open and open; 0 for the others
//
// For more than one, wrap reg with [prometheus.WrapRegistererWith] and a label for each.
func RegisterBreaker(reg prometheus.Registerer, b *vtclient.CircuitBreaker) error {
	var gauges []prometheus.Collector
	for _, state := range []string{"closed", "half-open", "open"} {
		gauges = append(gauges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "vtclient", Name: "breaker_state", Help: "1 for the state that the circuit breaker is in.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 {
			if b.State() == state {
				return 1
			}
			return 0
		}))
	}
	return registerAll(reg, gauges...)
}

// registerAll registers all collectors, or none and returns an error.
func registerAll(reg prometheus.Registerer, all ...prometheus.Collector) error {
	for i, c := range all {
		if err := reg.Register(c); err != nil {
			for _, done := range all[:i] {
				reg.Unregister(done)
			}
			return err
		}
	}
	return nil
}

type metrics struct {
	requests, cache       *prometheus.CounterVec
	wire, jobs, refused   prometheus.Counter
	duration              prometheus.Histogram
	waits                 prometheus.Gauge
	jobDuration           *prometheus.HistogramVec
	jobRequests, lateness prometheus.Histogram
}

func newMetrics() *metrics {
	const ns = "vtclient"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help}, []string{label})
	}
	histogram := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Namespace: ns, Name: name, Help: help, Buckets: buckets}
	}
	return &metrics{
		requests: vector("requests_total", "Exchanges by what came of them.", "outcome"),
		wire:     counter("wire_requests_total", "Requests as written to the network."),
		jobs:     counter("jobs_total", "Jobs that were asked about."),
		duration: prometheus.NewHistogram(histogram("request_duration_seconds", "Duration of the exchanges that brought an answer.", prometheus.ExponentialBuckets(0.005, 2, 12))),
		refused:  counter("refused_total", "Requests that the circuit breaker did not let through."),
		cache:    vector("cache_total", "Answers from the cache, and its failures.", "result"),
		waits:    prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Name: "waits", Help: "Waits in progress."}),
		// From 5 s to almost 12 h.
		jobDuration: prometheus.NewHistogramVec(histogram("job_duration_seconds", "Age of the jobs at the end of their waits.", prometheus.ExponentialBuckets(5, 2, 14)), []string{"outcome"}),
		jobRequests: prometheus.NewHistogram(histogram("job_requests", "Requests that a wait took.", []float64{1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233})),
		lateness:    prometheus.NewHistogram(histogram("notice_delay_seconds", "Time from the end of a job to the answer that showed it.", prometheus.ExponentialBuckets(0.1, 2, 13))),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.wire, m.jobs, m.duration, m.refused, m.cache, m.waits, m.jobDuration, m.jobRequests, m.lateness}
}

func (m *metrics) answered(_ context.Context, i vtclient.TraceInfo) {
	m.requests.WithLabelValues(outcome(i)).Inc()
	m.wire.Add(float64(i.Wire))
	if i.Action == "" {
		m.jobs.Add(float64(max(1, i.Jobs)))
	}
	if i.StatusCode != 0 {
		m.duration.Observe(i.Latency.Seconds())
	}
}

func (m *metrics) waitEnded(_ context.Context, i vtclient.TraceInfo) {
	m.waits.Dec()
	m.jobDuration.WithLabelValues(waitOutcome(i)).Observe(i.Age.Seconds())
	m.jobRequests.Observe(float64(i.Requests))
	if i.Late > 0 {
		m.lateness.Observe(i.Late.Seconds())
	}
}

func outcome(i vtclient.TraceInfo) string {
	var transport *vtclient.TransportError
	switch {
	case i.Err == nil && i.Action != "":
		return i.Action
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

// waitOutcome is what came of a wait.
func waitOutcome(i vtclient.TraceInfo) string {
	switch {
	case i.Err == nil:
		return "completed"
	case errors.Is(i.Err, vtclient.ErrJobFailed):
		return "failed"
	case errors.Is(i.Err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(i.Err, context.Canceled):
		return "left"
	}
	return "error"
}
