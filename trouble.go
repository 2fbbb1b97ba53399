package vtclient

import (
	"math"
	"net"
	"os"
	"time"
)

// A trouble counts what a poll has met since the last answer. An outage is time
// in which the backend was asked and did not answer: the duration of requests
// that failed, and the gaps between them. Time in which nothing could be asked
// is no outage: a pause that the server asked for, a 429's hold, and what a
// poll waits in line or a stopped process loses beyond the time that was
// planned. Pauses count where they add up to more than bounds.obeys. Most polls behind
// an open breaker meet nothing but refusals, so what counts for them, too, is that no job
// of the client was answered.
type trouble struct {
	fault   error      // the last one met; an answer does not clear it. One of keptFault lacks what is the job's own
	refusal *textError // of the breaker, if nothing was sent since
	since   int64      // the first fault or refusal since the last answer; 0: none

	asked time.Duration // outage of the client, as far as this poll has seen it
	own   time.Duration // outage of this job, whatever other jobs are answered

	paused    time.Duration // pauses of the client, as far as this poll has met them
	ownPaused time.Duration // pauses asked for in the answers to this poll

	from int64 // the gap from here …
	to   int64 // … to here counts, unless the next exchange comes sooner

	outage  uint32 // the first fault since any job of the client was answered, when asked began: its lower half
	number  int32  // of the request that met fault
	tries   int16  // faults and refusals; no more are counted than fit
	faults  int16  // of them
	absent  uint16 // from since to the first 404 since the last answer, in seconds, plus 1; 0: there was none
	limited bool   // all of them were refusals of the limiter
	rare    bool   // the gaps are as long as the tolerance from the first one on
}

// takeFault takes a fault or a refusal into the state of the poll.
func (p *poll) takeFault(now int64, out *outcome, b *bounds, outage int64) {
	if p.trouble == nil {
		p.trouble = new(trouble)
	}
	t := p.trouble
	if t.tries = increased(t.tries); t.since == 0 {
		t.since, t.from, t.to, t.limited = now, now, now, true
	} else if out.took < b.timeout+stoppedFor { // else the process did not run meanwhile
		t.add(min(out.took, b.timeout))
	}
	t.follow(outage)
	if t.from, t.to = now, now; t.tries == 1 && b.early {
		t.add(min(out.took, b.timeout)) // the limit is one on what the caller waits
	}
	t.limited = t.limited && out.limited
	if out.verdict == refused {
		t.refusal = out.refusal
		return
	}
	t.faults = increased(t.faults)
	t.refusal = nil
}

func increased(n int16) int16 { return min(n, math.MaxInt16-1) + 1 }

// follow begins anew where another job was answered since.
func (t *trouble) follow(outage int64) (anew bool) {
	if anew = outage == 0 || uint32(outage) != t.outage; anew {
		t.outage, t.asked, t.paused = uint32(outage), 0, 0
	}
	return anew
}

func (t *trouble) add(d time.Duration) { t.asked, t.own = t.asked+d, t.own+d }

// obey takes in a pause that the server asks for, by an answer to this poll or to another one.
func (t *trouble) obey(from, until int64, own bool, b *bounds) {
	if t.since == 0 || until <= from {
		return
	}
	pause := time.Duration(until - from)
	count := func(outage, paused *time.Duration) {
		*outage += max(0, pause-max(0, b.obeys()-*paused))
		*paused += pause
	}
	count(&t.asked, &t.paused)
	if own {
		count(&t.own, &t.ownPaused)
	}
}

// pause ends the gap that counts, at the latest where it was planned to end.
func (p *poll) pause(now int64) {
	if t := p.trouble; t != nil && t.since != 0 {
		t.add(time.Duration(max(0, min(now, t.to)-t.from)))
		t.from, t.to = now, now
	}
}

// resume begins a gap that counts, up to the next exchange. Where the first gap is as
// long as the tolerance already, the caller has chosen to ask more rarely than that:
// then such a gap counts as so much of it as bounds.rare has.
func (t *trouble) resume(from, next int64, tolerance, rare time.Duration) {
	if t.since == 0 {
		return
	}
	long := next == never || next-from >= int64(tolerance)
	if t.tries == 1 {
		t.rare = long && rare > 0
	}
	if t.from, t.to = from, next; long && t.rare || next == never {
		t.to = from + int64(rare)
	}
	t.to = max(t.to, from)
}

// ending returns the reason to end a wait if the tolerance is used up.
func (t *trouble) ending(b *bounds) ending {
	tolerance := b.toleranceOf(t)
	if t.asked < tolerance && !(t.faults >= ownFaults && t.own >= tolerance) {
		return goesOn
	}
	return t.reason(b)
}

// reason is that for which a wait ends whose tolerance is used up.
func (t *trouble) reason(b *bounds) ending {
	switch {
	case t.limited:
		return limited
	case b.early:
		return noContact
	}
	return outageOver
}

// attempt is what the retrying Backoff gets.
func (t *trouble) attempt(now int64, number int16) Attempt {
	return Attempt{Number: int(number), Elapsed: time.Duration(now - t.since)}
}

// stoppedFor is how late a timer has to fire for the process to count as having been
// stopped meanwhile. A busy machine is late by milliseconds.
const stoppedFor = time.Second

// outageEnd returns when the tolerance will be used up if nothing is answered
// until then; never: not before the next exchange.
func (p *poll) outageEnd(b *bounds) int64 {
	t := p.trouble
	if t == nil || t.since == 0 || p.missing != nil {
		return never
	}
	all := b.toleranceOf(t)
	if t.faults == 0 && t.tries < 2 && !(b.early && all > 0) {
		return never // one refusal alone ends nothing, unless no job has ever been answered
	}
	left := all - t.asked
	if t.faults >= ownFaults {
		left = min(left, all-t.own)
	}
	switch p.phase {
	case waiting:
		if end := later(t.from, left); end < t.to {
			return end
		}
	case asking:
		if left < b.timeout {
			return later(p.started, left)
		}
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
	if late := time.Duration(now - end); late > stoppedFor {
		if p.phase == waiting {
			p.next, t.to = min(p.next, max(now, p.floor)), t.from // look before judging
		} else {
			t.add(-late - stoppedFor) // the exchange under way decides
		}
		return goesOn
	}
	if t.follow(outage) {
		at := max(t.from, min(now, t.to))
		t.own += time.Duration(at - t.from) // else the wait would draw ever closer to its end
		if t.from = at; p.outageEnd(b) > now {
			return goesOn
		}
	}
	return t.reason(b)
}

// failure is the event that ends a wait with an error of the kind WaitError.
func (p *poll) failure(cause error, w wall) *event {
	last := p.last(w)
	var met error
	if t := p.trouble; t != nil {
		if t.fault != nil {
			met = snapshot(t.fault)
			d := details(met)
			d.Next, d.GivesUpIn, d.then = 0, 0, "" // nothing follows
			if d.JobID == "" {
				d.JobID, d.Attempt = p.id, int(t.number)
			}
		}
		if t.refusal != nil {
			cause = &refusedUntil{cause, t.refusal}
		}
	}
	return &event{status: last, err: &WaitError{JobID: p.id, Requests: int(p.requests), Last: last, Cause: cause, Fault: met}}
}

// last is the pending answer that came last; its State is empty if none has come.
func (p *poll) last(w wall) Status {
	if !p.seen {
		return Status{JobID: p.id}
	}
	st := Status{
		JobID: p.id, State: StatePending, Message: p.message, Progress: p.progress,
		CheckedAt: w.at(p.checkedAt), ResultMissing: p.missing != nil,
	}
	if p.start == ofBackend {
		st.StartedAt = w.at(p.began)
	}
	return st
}

// A keptFault is the last fault that a poll has kept for the error of its wait. In an outage all
// jobs mostly meet the same: then they keep one.
type keptFault struct {
	last  error
	cause string // its text; "": an answer
}

// keep returns a fault as a poll is to keep it: where it may be shared, without what is the job's own.
func (k *keptFault) keep(err error) error {
	cause, ok := sharable(err)
	if !ok {
		return err
	}
	own, last := *details(err), details(k.last)
	own.JobID, own.Attempt, own.Next, own.GivesUpIn, own.then = "", 0, 0, 0, ""
	if own.Excerpt == last.Excerpt {
		own.Excerpt = last.Excerpt // where the request ids differ
	}
	if k.last == nil || own != *last || cause != k.cause {
		k.last, k.cause = snapshot(err), cause
		*details(k.last) = own
	}
	return k.last
}

// sharable reports whether faults of this kind are the same for a caller if they have the same
// details and the same cause, of which it returns the text. One that may hold an error of the
// caller's own is not.
func sharable(err error) (cause string, ok bool) {
	switch e := err.(type) {
	case *HTTPError:
		return "", true
	case *TransportError:
		switch c := e.Err.(type) {
		case timeoutError:
			return c.Error(), true
		case *net.OpError:
			switch c.Err.(type) {
			case *os.SyscallError, *net.DNSError:
				return c.Error(), true
			}
		}
	}
	return "", false
}
