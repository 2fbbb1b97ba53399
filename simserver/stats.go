package simserver

import (
	"maps"
	"time"
)

// Stats is what a server counted since it was made, or since [Server.ResetStats].
type Stats struct {
	Requests int // that reached the server, each as often as it came over the wire
	Created  int // jobs; the default job is not counted

	// Requests by the answer they got. Those that met a fault are counted under
	// Faults alone, also where the answer was the truth (FaultDrip).
	Pending, Completed, Failed int // answers about a job
	Bulk                       int // answers about many jobs at once; each counts once
	Accepted                   int // jobs created over HTTP
	NotFound                   int // no such job
	Unauthorized               int // by WithToken
	Invalid                    int // anything else: wrong path, method or body

	// Deliveries to the webhook: sent, duplicates included; lost on the way, and so not
	// sent; and those sent that got no 2xx.
	Webhooks, WebhooksLost, WebhooksRefused int

	// Faults counts the faults made, by name. It is never nil.
	Faults map[Fault]int

	InFlight     int // requests being served at this moment
	PeakInFlight int
	// PeakPerSecond is the most requests that arrived within one second of the clock.
	PeakPerSecond int
}

type outcome int

const (
	invalid outcome = iota
	answeredPending
	answeredCompleted
	answeredFailed
	answeredBulk
	accepted
	notFound
	unauthorized
	outcomes // how many there are
)

// counters are the Server's, under its lock.
type counters struct {
	requests, created int
	outcomes          [outcomes]int
	faults            map[Fault]int
	peakInFlight      int
	second            int64 // the second that inSecond counts
	inSecond          int
	peakPerSecond     int

	webhooks, webhooksLost, webhooksRefused int
}

func (c *counters) begin(now time.Time, active int) {
	c.requests++
	c.peakInFlight = max(c.peakInFlight, active)
	if t := now.Unix(); t != c.second {
		c.second, c.inSecond = t, 0
	}
	c.inSecond++
	c.peakPerSecond = max(c.peakPerSecond, c.inSecond)
}

// Stats returns the counts so far. A request is counted under Requests when it arrives,
// and under its answer or fault before the client can notice either; one whose client
// left during [Faults.Latency] is counted under neither. InFlight can fall a moment after
// the client has read its answer.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.stats
	return Stats{
		Requests:      c.requests,
		Created:       c.created,
		Pending:       c.outcomes[answeredPending],
		Completed:     c.outcomes[answeredCompleted],
		Failed:        c.outcomes[answeredFailed],
		Bulk:          c.outcomes[answeredBulk],
		Accepted:      c.outcomes[accepted],
		NotFound:      c.outcomes[notFound],
		Unauthorized:  c.outcomes[unauthorized],
		Invalid:       c.outcomes[invalid],
		Faults:        maps.Clone(c.faults),
		InFlight:      s.active,
		PeakInFlight:  c.peakInFlight,
		PeakPerSecond: c.peakPerSecond,

		Webhooks: c.webhooks, WebhooksLost: c.webhooksLost, WebhooksRefused: c.webhooksRefused,
	}
}

// ResetStats begins the counts of [Server.Stats] anew, so that a test can count its
// phases (before an outage, after it) one by one. [Server.Requests] goes on counting.
func (s *Server) ResetStats() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats = counters{faults: make(map[Fault]int), peakInFlight: s.active}
}

// Requests returns how many status requests for a job reached the server, those that
// met a fault included, whether or not there is such a job. Note that net/http's client
// repeats a GET by itself if a connection that it used before died under it.
func (s *Server) Requests(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[id]
}

// TotalRequests returns how many requests of any kind reached the server.
func (s *Server) TotalRequests() int { return s.Stats().Requests }
