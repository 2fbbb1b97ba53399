package simserver

import (
	"maps"
	"sync"
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
	Accepted                   int // submissions over HTTP; one may create several jobs
	Replayed                   int // those of them that were answered as before, by their Idempotency-Key
	Refused                    int // submissions refused by WithJobLimit, WithCredit or because their key is in use
	NotFound                   int // no such job
	Unauthorized               int // by WithToken
	Invalid                    int // anything else: wrong path, method or body

	// Deliveries to the webhook: sent, duplicates included; lost on the way, and so not
	// sent; and those sent that got no 2xx.
	Webhooks, WebhooksLost, WebhooksRefused int

	// Requests for a file of [WithDownloads]: those that got some of it, and those that were refused.
	Downloads, DownloadsRefused int

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
	refused
	notFound
	unauthorized
	outcomes // how many there are
)

// A tally counts what a server does, and what is under way.
type tally struct {
	mu     sync.Mutex
	idle   sync.Cond // signalled when active falls to 0
	closed bool
	active int            // handlers running
	asked  map[string]int // status requests, by job id
	others int            // requests of any other kind
	stats  counters
}

func newTally() *tally {
	t := &tally{asked: make(map[string]int), stats: newCounters(0)}
	t.idle.L = &t.mu
	return t
}

// begin counts a request in; n is how many came before it that asked for the same job
// or, like it, for none. ok is false if the server is closed.
func (t *tally) begin(now time.Time, ids []string) (n int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0, false
	}
	if len(ids) == 0 {
		n = t.others
		t.others++
	}
	for i, id := range ids {
		if i == 0 {
			n = t.asked[id]
		}
		t.asked[id]++
	}
	t.active++
	t.stats.begin(now, t.active)
	return n, true
}

func (t *tally) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.active--; t.active == 0 {
		t.idle.Broadcast()
	}
}

// count changes the counters.
func (t *tally) count(change func(*counters)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.stats)
}

// close lets no more requests begin, and reports whether it is the first time.
func (t *tally) close() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := !t.closed
	t.closed = true
	return first
}

// wait returns when no request is being served.
func (t *tally) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.active > 0 {
		t.idle.Wait()
	}
}

// Counters are the numbers of a tally.
type counters struct {
	requests, created int
	outcomes          [outcomes]int
	faults            map[Fault]int
	peakInFlight      int
	second            int64 // the second that inSecond counts
	inSecond          int
	peakPerSecond     int

	webhooks, webhooksLost, webhooksRefused int
	replayed, downloads, downloadsRefused   int
}

func newCounters(active int) counters {
	return counters{faults: make(map[Fault]int), peakInFlight: active}
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
	t := s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.stats
	return Stats{
		Requests:      c.requests,
		Created:       c.created,
		Pending:       c.outcomes[answeredPending],
		Completed:     c.outcomes[answeredCompleted],
		Failed:        c.outcomes[answeredFailed],
		Bulk:          c.outcomes[answeredBulk],
		Accepted:      c.outcomes[accepted],
		Refused:       c.outcomes[refused],
		NotFound:      c.outcomes[notFound],
		Unauthorized:  c.outcomes[unauthorized],
		Invalid:       c.outcomes[invalid],
		Faults:        maps.Clone(c.faults),
		InFlight:      t.active,
		PeakInFlight:  c.peakInFlight,
		PeakPerSecond: c.peakPerSecond,
		Replayed:      c.replayed,

		Downloads: c.downloads, DownloadsRefused: c.downloadsRefused,
		Webhooks: c.webhooks, WebhooksLost: c.webhooksLost, WebhooksRefused: c.webhooksRefused,
	}
}

// ResetStats begins the counts of [Server.Stats] anew, so that a test can count its
// phases (before an outage, after it) one by one. [Server.Requests] goes on counting.
func (s *Server) ResetStats() {
	t := s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats = newCounters(t.active)
}

// Requests returns how many status requests for a job reached the server, those that
// met a fault included, whether or not there is such a job. Note that net/http's client
// repeats a GET by itself if a connection that it used before died under it.
func (s *Server) Requests(id string) int {
	t := s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.asked[id]
}

// TotalRequests returns how many requests of any kind reached the server.
func (s *Server) TotalRequests() int { return s.Stats().Requests }
