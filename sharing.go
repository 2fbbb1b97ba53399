package vtclient

import "time"

const (
	// gatherTime is how long a first check waits for others to share its
	// request: much less than a round trip, and enough for callers that begin
	// together.
	gatherTime = 10 * time.Millisecond

	// bulkRest is how long a bulk path that has failed is left alone at first,
	// and maxBulkRest at most.
	bulkRest    = 15 * time.Second
	maxBulkRest = 10 * time.Minute

	// soloAnswers is the number of answers to single requests after which a job
	// that a shared one did not settle shares again. A backend whose bulk path
	// never answers for a job is so asked five requests in the place of four.
	soloAnswers = 4

	// A poll that has met trialAfter faults in a row in shared requests is asked
	// for singly instead, once each trialEvery for the whole client. If that is
	// answered and the next shared request fails again, within trialTrust, it is
	// the sharing that fails: the bulk path is down, or one job's id breaks it.
	trialAfter = 4
	trialEvery = 30 * time.Second
	trialTrust = time.Minute
)

// A sharing is what the engine has learnt of the bulk path. The zero value has
// met no trouble. Guarded by engine.mu.
type sharing struct {
	restFrom  int64 // when the bulk path failed last
	restUntil int64 // it is left alone before
	failures  int   // in a row
	trialAt   int64 // when the next trial by a single request may be made
	trialOK   int64 // when one was answered while shared requests failed
	singles   pacer // of the single requests that shared ones leave to be made

	size      int // jobs that a request may ask for, before sizeUntil
	sizeUntil int64
	shrunk    int // times, since a shared request was answered
}

// limit is how many jobs a request may ask for now, where the backend takes most.
func (s *sharing) limit(now int64, most int) int {
	switch {
	case now < s.restUntil:
		return 1
	case now < s.sizeUntil:
		return min(s.size, most)
	}
	return most
}

// maxShrunk is how often requests are made smaller in a row. An answer that is too
// large for a quarter of the jobs, too, is not so because of their number.
const maxShrunk = 2

// shrink makes requests half as large for a while, after an answer about n jobs
// that was larger than allowed. It returns the new size; 0: that is of no use.
func (s *sharing) shrink(now int64, n int) int {
	if now >= s.sizeUntil {
		s.size = n
	}
	if n <= s.size { // else one of several that were under way
		if s.shrunk++; s.shrunk > maxShrunk || n < 2 {
			return 0
		}
		s.size, s.sizeUntil = n/2, later(now, maxBulkRest)
	}
	return s.size
}

// rest leaves the bulk path alone for a while after a request that began at
// began, and returns for how long.
func (s *sharing) rest(now, began int64) time.Duration {
	if began >= s.restUntil { // not one of several that were under way
		s.failures++
		s.restFrom = now
		s.restUntil = later(now, min(bulkRest<<min(s.failures-1, 10), maxBulkRest))
	}
	return time.Duration(max(0, s.restUntil-now)).Round(time.Second)
}

// works notes that a shared request that began at began was answered.
func (s *sharing) works(began int64) {
	if s.shrunk = 0; began > s.restFrom {
		s.failures = 0
	}
}

// mistrusted reports whether the sharing is what fails: a single request was
// answered not long before a shared one that began at began failed.
func (s *sharing) mistrusted(began int64) bool {
	return s.trialOK != 0 && began > s.trialOK && began-s.trialOK <= int64(trialTrust)
}

// askSolo plans a single exchange for a job that a shared one did not settle.
// at is the place of the poll in the pace of such exchanges; pause is what the
// server asked for.
func (p *poll) askSolo(now, at int64, requests, made int, pause time.Duration, answers uint8) {
	p.phase = waiting
	p.requests += int32(requests)
	p.number += int32(made)
	p.hinted, p.hintedNew = p.hinted || p.hintedNew, false
	p.soloPolls = answers
	p.floor = 0
	p.next = max(at, p.started+int64(pollFloor))
	if pause > 0 {
		p.floor = later(now, pause)
		p.next = max(p.next, p.floor)
	}
	if p.trouble.lasts() {
		p.trouble.gap = span{max(now, p.floor), p.next}
	}
}
