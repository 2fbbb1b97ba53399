package vtprom

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vtclient/vtclient/interop/vtredis"
)

// statsTime bounds the look at Redis that one scrape costs.
const statsTime = 5 * time.Second

// RegisterQueue registers with reg what q counts, across all replicas: each scrape of any
// replica brings the same figures, so alert on their maximum and not on their sum.
//
//	vtclient_queue_up                  1, or 0 if Redis did not answer; the others are missing then
//	vtclient_queue_jobs                unfinished jobs
//	vtclient_queue_claims              of them: claimed by a replica
//	vtclient_queue_replicas            replicas with claims
//	vtclient_queue_oldest_job_seconds  since the oldest unfinished job was added
//	vtclient_queue_takeovers_total     claims that lapsed and were taken up again
//	vtclient_queue_failures_total      handlings that returned an error
//	vtclient_queue_dead_letters        dead letters now
//	vtclient_queue_deliveries          a histogram of the deliveries that a handled job took
//
// For more than one queue, wrap reg with [prometheus.WrapRegistererWith] and a label for each.
func RegisterQueue(reg prometheus.Registerer, q *vtredis.Queue) error {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("vtclient_queue_"+name, help, nil, nil)
	}
	return reg.Register(&queueCollector{
		q:          q,
		up:         describe("up", "Whether Redis answered."),
		jobs:       describe("jobs", "Unfinished jobs."),
		claims:     describe("claims", "Jobs claimed by a replica."),
		replicas:   describe("replicas", "Replicas with claims."),
		oldest:     describe("oldest_job_seconds", "Time since the oldest unfinished job was added."),
		takeovers:  describe("takeovers_total", "Claims that lapsed and were taken up again."),
		failures:   describe("failures_total", "Handlings that returned an error."),
		dead:       describe("dead_letters", "Dead letters."),
		deliveries: describe("deliveries", "Deliveries that a handled job took."),
	})
}

type queueCollector struct {
	q                                             *vtredis.Queue
	up, jobs, claims, replicas, oldest, takeovers *prometheus.Desc
	failures, dead, deliveries                    *prometheus.Desc
}

// Describe implements [prometheus.Collector].
func (c *queueCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.up, c.jobs, c.claims, c.replicas, c.oldest, c.takeovers, c.failures, c.dead, c.deliveries} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *queueCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statsTime)
	defer cancel()
	s, err := c.q.Stats(ctx)
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	if err != nil {
		gauge(c.up, 0)
		return
	}
	gauge(c.up, 1)
	gauge(c.jobs, float64(s.Jobs))
	gauge(c.claims, float64(s.Claimed))
	gauge(c.replicas, float64(s.Replicas))
	gauge(c.oldest, s.Oldest.Seconds())
	gauge(c.dead, float64(s.Dead))
	ch <- prometheus.MustNewConstMetric(c.takeovers, prometheus.CounterValue, float64(s.Takeovers))
	ch <- prometheus.MustNewConstMetric(c.failures, prometheus.CounterValue, float64(s.Failed))
	var count, sum uint64
	buckets := map[float64]uint64{}
	for i, n := range s.Deliveries {
		count += uint64(n)
		sum += uint64(i+1) * uint64(n)
		buckets[float64(i+1)] = count
	}
	ch <- prometheus.MustNewConstHistogram(c.deliveries, count, float64(sum), buckets)
}
