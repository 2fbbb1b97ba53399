package vtclient

import (
	"math"
	"time"
)

// contactLimit is how long a wait bears trouble while its client has not had one readable
// answer: such trouble is most likely a mistake in the set-up, and half a minute is enough
// for a backend that is started together with the program.
const contactLimit = 30 * time.Second

// absentBound is how long a 404 for a job that is known to exist is taken for a replica
// that lags, or for a proxy during a deployment.
const absentBound = 2 * time.Minute

// pauseBound is how long an outage lasts before the pauses that the server asks for count: a
// server that goes on asking for them is as good as gone.
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

// pauseGrace returns how long an outage lasts before pauses count.
func (b *bounds) pauseGrace() time.Duration {
	if b.early {
		return b.maxRetryAfter // as long as one pause may be
	}
	return max(b.maxRetryAfter, pauseBound)
}

// rareGap returns what a gap as long as the tolerance counts as: so many of them use it up.
func (b *bounds) rareGap(t *trouble) time.Duration {
	if b.early {
		return b.toleranceOf(t) / 2
	}
	return b.toleranceOf(t) / ownFaults
}

// left returns how much more outage the wait bears. One refusal alone ends nothing, unless
// the client has never had a readable answer.
func (t *trouble) left(b *bounds) time.Duration {
	all := b.toleranceOf(t)
	if t.tries == 1 && t.faults == 0 && !(b.early && all > 0) {
		return never
	}
	left := all - t.client.total
	if t.faults >= ownFaults {
		left = min(left, all-t.job.total)
	}
	return left
}

// reason is that for which a wait ends that bears no more.
func (t *trouble) reason(b *bounds) ending {
	switch {
	case t.limited:
		return limited
	case b.early:
		return noContact
	}
	return outageOver
}

// stoppedFor is how late a timer has to fire for the process to count as having been
// stopped meanwhile. A busy machine is late by milliseconds.
const stoppedFor = time.Second

// outageEnd returns when the tolerance will be used up if nothing is answered
// until then; never: not before the next exchange.
func (p *poll) outageEnd(b *bounds) int64 {
	t := p.trouble
	if !t.lasts() || p.missing != nil {
		return never
	}
	left := t.left(b)
	switch {
	case p.phase == waiting && later(t.gap.from, left) < t.gap.to:
		return later(t.gap.from, left)
	case p.phase == asking && left < b.timeout:
		return later(p.started, left)
	}
	return never
}

// expire reports the reason for which a wait ends at a time that outageEnd has
// returned. If another job was answered since, or the process was stopped, the
// wait goes on.
func (p *poll) expire(now int64, b *bounds, outage int64) ending {
	end := p.outageEnd(b)
	if end > now {
		return goesOn
	}
	t := p.trouble
	if late := time.Duration(now - end); late > stoppedFor { // the wait bears one more exchange
		t.add(min(0, t.left(b)-b.timeout))
		if p.phase == waiting {
			p.next, t.gap = min(p.next, max(now, p.floor)), span{}
		}
		return goesOn
	}
	t.count(now)
	if t.renew(outage); p.outageEnd(b) > now {
		return goesOn
	}
	return t.reason(b)
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
	t, d := p.trouble, details(out.err)
	out.verdict, d.then = fault, ""
	if !t.lasts() {
		t.absent = 1
		return
	}
	if t.absent == 0 {
		t.absent = 1 + uint16(min((now-t.job.since)/int64(time.Second), math.MaxUint16-1))
	}
	if now >= t.absentUntil(b) {
		out.verdict, d.then = final, "not retried: the job has been missing for long enough"
	}
}

// absentUntil returns when a 404 for the job is final, after one.
func (t *trouble) absentUntil(b *bounds) int64 {
	return t.job.since + int64(t.absent-1)*int64(time.Second) + int64(min(absentBound, b.toleranceOf(t)))
}

// second returns when the exchange after a first fault is made: sooner than planned where the
// wait would end before it for want of the client's first readable answer, as one fault alone
// is no reason to. A gap as long as the whole tolerance is the caller's choice.
func (t *trouble) second(from, next int64, b *bounds) int64 {
	left, gap := t.left(b), time.Duration(next-from)
	if b.early && t.tries == 1 && left <= gap && gap < b.tolerance {
		return later(from, left*2/3)
	}
	return next
}

// givesUpIn returns how long the wait still bears trouble if the client has had no readable
// answer so far; else 0.
func (t *trouble) givesUpIn(now int64, b *bounds) time.Duration {
	if !b.early || !t.lasts() || t.rare {
		return 0
	}
	return max(1, time.Duration(later(t.gap.from, t.left(b))-now))
}
