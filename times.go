package vtclient

import "time"

// The start of a job, of which the caller and the backend may each have an account.

// A startOf is the source of a job's start.
type startOf uint8

const (
	ofWait    startOf = iota // not known: ages count from the start of the wait
	ofCaller                 // the caller's, unlike the backend's
	ofBackend                // the backend's, and the caller's within startSlack
)

// startSlack is how far two accounts of one start may be apart: a backend counts in
// seconds, and clocks differ.
const startSlack = 2 * time.Second

// date takes in the start of the job by the backend. The earlier of two accounts holds: a
// submission that the backend recognised may be a repetition of one of yesterday.
func date(p *poll, start int64) {
	if p.start == ofWait || start < p.began-int64(startSlack) {
		p.learn(start, 0)
	}
	if p.start = ofCaller; start <= p.began+int64(startSlack) {
		p.start = ofBackend
	}
}

// date takes the start of a job out of an answer. One that is years back is a mistake.
func (en *entry) date(c *clock, st *Status) {
	if st.StartedAt.IsZero() {
		return
	}
	if now := time.Now(); now.Sub(st.StartedAt) < maxHint {
		date(&en.poll, c.began(st.StartedAt, now))
	}
}
