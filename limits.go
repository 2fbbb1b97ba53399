package vtclient

import (
	"math"
	"time"
)

// contactLimit is how long a wait bears trouble while its client has not had one readable
// answer: such trouble is most likely a mistake in the set-up, and half a minute is enough
// for a backend that is started together with the program.
const contactLimit = 30 * time.Second

// rareFaults and rareFirst are how many gaps, each as long as the tolerance or longer, use
// the tolerance up: after the first readable answer, and before it.
const (
	rareFaults = ownFaults
	rareFirst  = 2
)

// absentBound is how long a 404 for a job that is known to exist is taken for a replica
// that lags, or for a proxy during a deployment.
const absentBound = 2 * time.Minute

// pauseBound is how long pauses that the server asks for, without an answer between them, are
// no outage in all: one that goes on asking for them is as good as gone.
const pauseBound = time.Hour

// bounds are the client's settings that end a wait.
type bounds struct {
	tolerance     time.Duration // WithOutageTolerance
	maxRetryAfter time.Duration // WithMaxRetryAfter
	timeout       time.Duration // WithTimeout
	early         bool          // the client has had no readable answer so far
	address       string        // of the backend, for errors
}

// toleranceOf returns how much trouble a wait bears.
func (b *bounds) toleranceOf(t *trouble) time.Duration {
	if b.early && !t.limited { // a limiter has nothing to do with the backend
		return min(b.tolerance, contactLimit)
	}
	return b.tolerance
}

// obeys returns how long pauses in a row are no outage. Before the first answer it is no longer
// than one pause may be.
func (b *bounds) obeys() time.Duration {
	if b.early {
		return b.maxRetryAfter
	}
	return max(b.maxRetryAfter, pauseBound)
}

// rare is the part of the tolerance that a gap as long as the tolerance uses up; 0: all of it.
func (b *bounds) rare(t *trouble) time.Duration {
	switch {
	case b.early && t.refusal != nil: // a breaker's, and no choice of the caller's
		return 0
	case b.early:
		return b.toleranceOf(t) / rareFirst
	}
	return b.toleranceOf(t) / rareFaults
}

// doubt decides about a 404. For a job that has been seen, or of which a caller has given the
// start, it is a fault for a while. So is one that asks for a pause, which is obeyed.
func doubt(p *poll, now int64, out *outcome, b *bounds) {
	if out.verdict == final && (b.tolerance == 0 || !p.seen && p.start == ofWait) {
		return
	}
	if p.trouble == nil {
		p.trouble = new(trouble)
	}
	t := p.trouble
	if t.absent == 0 {
		if t.absent = 1; t.since != 0 {
			t.absent += uint16(min((now-t.since)/int64(time.Second), math.MaxUint16-1))
		}
	}
	d := details(out.err)
	if out.verdict, d.then = fault, ""; t.since != 0 && now >= t.absentUntil(b) {
		out.verdict, d.then = final, "not retried: the job has been missing for long enough"
	}
}

// absentUntil returns when a 404 for the job is final, after one.
func (t *trouble) absentUntil(b *bounds) int64 {
	return t.since + int64(t.absent-1)*int64(time.Second) + int64(min(absentBound, b.toleranceOf(t)))
}

// second returns when the exchange after a first fault is made: sooner than planned where the
// wait would end before it for want of the client's first readable answer, as one fault alone
// is no reason to. A gap as long as the whole tolerance is the caller's choice.
func (t *trouble) second(from, next int64, b *bounds) int64 {
	left := b.toleranceOf(t) - t.asked
	if gap := time.Duration(next - from); !b.early || t.tries != 1 || gap < left || gap >= b.tolerance {
		return next
	}
	return later(from, left*2/3)
}

// givesUpIn returns how long the wait still bears trouble if the client has had no readable
// answer so far; else 0.
func (t *trouble) givesUpIn(now int64, b *bounds) time.Duration {
	if !b.early || t == nil || t.since == 0 || t.rare {
		return 0
	}
	return max(1, time.Duration(later(t.from, b.toleranceOf(t)-t.asked)-now))
}
