package vtclient

import (
	"math"
	"net"
	"os"
	"time"
)

// A trouble is what a poll has met since the last answer about its job, and how much of
// that is an outage: time in which the backend was asked and did not answer.
//
//	a request that failed                  counts, up to its timeout
//	the gap up to the next exchange        counts, up to the time planned for that
//	a pause that the server asked for      counts once all this has lasted for bounds.pauseGrace
//	time in line, or in a stopped process  does not count
//
// Two meters add it up. The client's begins anew where any job is answered, and is the one
// that ends most waits: behind an open breaker, most polls meet nothing but refusals. The
// job's ends a wait while others are answered, once there are ownFaults faults.
type trouble struct {
	fault   error      // the last one, as keptFault keeps it; an answer does not clear it
	refusal *textError // of the breaker, if nothing was sent since

	client meter // since any job of the client was answered
	job    meter // since this one was
	gap    span  // what counts up to the next exchange; empty during an exchange

	number  int32  // of the request that met fault
	tries   int16  // faults and refusals; no more are counted than fit
	faults  int16  // of them
	absent  uint16 // from the first of them to the first 404, in seconds, plus 1; 0: there was none
	limited bool   // all tries were refusals of the limiter
	rare    bool   // the first gap was as long as the tolerance: the caller has chosen to ask so rarely
}

// A meter adds up an outage.
type meter struct {
	since int64 // the job's first fault or refusal, or the client's first fault; 0: none
	total time.Duration
}

// pause adds what counts of a pause that the server asks for: the part of it after grace.
func (m *meter) pause(from, until, grace int64) {
	m.total += time.Duration(max(0, until-max(from, grace)))
}

// A span is the time from one moment to another.
type span struct{ from, to int64 }

// takeFault takes a fault or a refusal into the state of the poll. outage is the time of
// the first fault since any job of the client was answered; 0: there was none.
func (p *poll) takeFault(now int64, out *outcome, b *bounds, outage int64) {
	if p.trouble == nil {
		p.trouble = new(trouble)
	}
	t := p.trouble
	counts := out.took < b.timeout+stoppedFor // else the process did not run meanwhile
	if !t.lasts() {
		t.job.since, t.client.since, t.limited = now, outage, true
		counts = b.early // else the backend may have been well until now
	}
	if counts {
		t.add(min(out.took, b.timeout))
	}
	t.renew(outage)
	t.limited = t.limited && out.limited
	if t.tries = increased(t.tries); out.verdict == refused {
		t.refusal = out.refusal
		return
	}
	t.fault, t.number, t.faults, t.refusal = out.err, p.number, increased(t.faults), nil
}

func increased(n int16) int16 { return min(n, math.MaxInt16-1) + 1 }

// lasts reports whether there has been no answer since a fault or a refusal.
func (t *trouble) lasts() bool { return t != nil && t.job.since != 0 }

// renew begins the client's meter anew if another job was answered since.
func (t *trouble) renew(outage int64) {
	if outage == 0 || outage != t.client.since {
		t.client = meter{since: outage}
	}
}

func (t *trouble) add(d time.Duration) {
	t.client.total += d
	t.job.total += d
}

// startGap plans what counts up to the next exchange. The server asks for none before floor.
// Where the first gap is as long as the tolerance, the caller has chosen to ask so rarely:
// then such a gap counts as a part of the tolerance. So does one without end.
func (t *trouble) startGap(now, floor, next int64, b *bounds) {
	grace := b.pauseGrace()
	t.job.pause(now, floor, later(t.job.since, grace))
	t.client.pause(now, floor, later(max(t.client.since, t.job.since), grace))
	t.gap = span{max(now, floor), next}
	long := next-t.gap.from >= int64(b.tolerance)
	if long && t.tries == 1 && !(b.early && t.refusal != nil) { // else the breaker has chosen
		t.rare = true
	}
	if long && t.rare || next == never {
		t.gap.to = later(t.gap.from, b.rareGap(t))
	}
}

// count adds what has passed of the gap.
func (t *trouble) count(now int64) {
	if d := min(now, t.gap.to) - t.gap.from; d > 0 {
		t.add(time.Duration(d))
		t.gap.from += d
	}
}

// endGap counts the gap up to now, and ends it.
func (p *poll) endGap(now int64) {
	if t := p.trouble; t != nil {
		t.count(now)
		t.gap = span{}
	}
}

// attempt is what the retrying Backoff gets.
func (t *trouble) attempt(now int64, number int16) Attempt {
	return Attempt{Number: int(number), Elapsed: time.Duration(now - t.job.since)}
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
