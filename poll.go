package vtclient

import (
	"fmt"
	"time"
)

// A poll is the state of one job that is waited for, by one caller or by many. It is a state
// machine without lock, clock, goroutine or random number: the time and the event are
// arguments, and what follows is returned. Times are in nanoseconds of the client's clock (see
// Client.now).
//
//	waiting → queued → asking → deciding → waiting → …
//
// and from each of them to over. The engine applies what a poll decides.
type poll struct {
	id      string
	trouble *trouble // nil: there has been none yet
	missing *missing // completed, but without its result so far; nil: not so

	next      int64 // the next exchange, by the schedule
	floor     int64 // the server asked for none before
	started   int64 // the last exchange began; negative: there was none
	began     int64 // the job began, or the wait where that is not known
	checkedAt int64 // the last answer came
	hintedAt  int64 // the last exchange after a hint began; 0: there was none

	pendingAt time.Duration // age at which the job was last known to be pending
	expected  time.Duration // the caller's estimate; 0: none
	progress  float64
	message   string

	requests int32 // answered or failed
	number   int32 // of the last request; one that a fault kept from being sent counts

	phase     phase
	soloPolls uint8 // answers to single requests until the poll may share one again
	start     startOf
	seen      bool // the job has been seen pending
	hinted    bool // the next exchange answers a hint, or the one under way does
	hintedNew bool // a hint came while an exchange was under way
	placed    bool // the poll has its place in the pace of first checks or last polls
	lane      lane // of the agenda, while queued; it stands here since padding has room for it
}

// A phase is where a poll stands.
type phase uint8

const (
	waiting  phase = iota // for the time of its next exchange
	queued                // due
	asking                // an exchange about the job is under way
	deciding              // a Backoff is being asked for the next delay
	over
)

// An ending is a reason for a wait to end.
type ending uint8

const (
	goesOn        ending = iota
	jobEnded             // the backend gave its last answer
	withoutResult        // the job is completed and its result has been missing for resultBound
	finalFault           // no further try would change the error
	pauseTooLong         // the server asks for a longer pause than WithMaxRetryAfter allows
	heldTooLong          // a 429 holds the client for longer than that
	noContact            // the client has never had a readable answer, for as long as contactLimit allows
	outageOver           // the outage has lasted as long as WithOutageTolerance allows
	limited              // nothing but refusals by the limiter for that long
	stopped              // the polling Backoff returned false
	timeUp               // the deadline of the job, or the caller's context

	endings // how many there are
)

const (
	// pollFloor is the least time from the start of one exchange about a job to
	// the start of the next, whatever a Backoff returns: no bug in one may
	// become a busy loop.
	pollFloor = 10 * time.Millisecond

	// hintGap is the least time between two checks of one job that hints
	// brought about. It bounds what forged hints cost.
	hintGap = time.Second

	// resultGap is the time until a job that is completed, but whose result is
	// missing, is looked at again; it doubles from look to look. After
	// resultBound from the first such answer the job is handed over as it is.
	resultGap   = time.Second
	resultBound = 30 * time.Second

	// ownFaults is the number of faults in a row that ends the wait for one job
	// while the client's other jobs are answered. Behind a breaker that lets few
	// requests through, a backend that fails half of them would otherwise end a
	// wait by two or three.
	ownFaults = 16
)

// A missing is the state of a completed job whose result is missing.
type missing struct {
	status Status // as last answered
	until  int64  // when it is handed over as it is
	gap    time.Duration
}

// init makes p the poll of a job that is first asked about at due.
func (p *poll) init(id string, now, due int64) {
	p.id, p.next, p.began, p.started = id, due, now, -int64(pollFloor)
}

// untried reports whether no exchange about the job has been tried yet.
func (p *poll) untried() bool {
	return p.requests == 0 && (p.trouble == nil || p.trouble.tries == 0)
}

func (p *poll) faults() int {
	if p.trouble == nil {
		return 0
	}
	return int(p.trouble.faults)
}

// solo reports whether the job has to be asked about alone: a shared answer has
// just not settled it, or cannot bring what it lacks.
func (p *poll) solo() bool { return p.soloPolls > 0 || p.missing != nil }

// learn takes in the start and the estimate that a caller gives. start is never if it
// gives none.
func (p *poll) learn(start int64, expected time.Duration) {
	if start != never {
		if start < p.began {
			if p.seen {
				p.pendingAt += time.Duration(p.began - start)
			}
			p.began = start
		}
		p.start = max(p.start, ofCaller)
	}
	if p.expected == 0 {
		p.expected = expected
	}
}

// request brings the first exchange forward to due, for a caller that has just
// joined. It does nothing once the job has been asked about, unless no further
// exchange was to come.
func (p *poll) request(due int64) {
	if p.phase != asking && p.phase != deciding && (p.untried() || p.next == never) {
		p.next = min(p.next, due)
	}
}

// hint notes a hint, and reports whether the next exchange comes sooner for it.
func (p *poll) hint(now int64) bool {
	if p.phase == asking || p.phase == deciding {
		p.hintedNew = true // the exchange under way began before
		return false
	}
	p.hinted, p.placed = true, true
	at := p.hintDue(now)
	if at >= p.next {
		return false
	}
	p.next = at
	return true
}

// hintDue returns when a hint that comes now may bring about a check.
func (p *poll) hintDue(now int64) int64 {
	at := max(now, p.started+int64(pollFloor))
	if p.hintedAt != 0 {
		at = max(at, p.hintedAt+int64(hintGap))
	}
	return at
}

// admit decides about a poll whose turn has come while a 429 may hold the
// client for some time. Where it returns goesOn and wait is positive, the poll
// has to wait for so long.
func (p *poll) admit(now int64, hold time.Duration, b *bounds) (why ending, wait time.Duration) {
	switch {
	case p.lacksResult(now) && (hold > 0 || p.floor > now): // no look is allowed
		return withoutResult, 0
	case hold > b.maxRetryAfter && p.missing == nil:
		return heldTooLong, 0
	}
	return goesOn, hold
}

// postpone puts the next exchange off to a time that the server has asked for.
func (p *poll) postpone(now, until, at int64, b *bounds) {
	p.endGap(now)
	if p.trouble.lasts() {
		p.trouble.startGap(max(now, p.floor), until, until, b)
	}
	p.phase = waiting
	p.floor = until
	p.next = p.inTime(now, at, b)
}

// begin notes that an exchange begins.
func (p *poll) begin(now int64) {
	p.endGap(min(now, p.next)) // without the time in line
	p.phase, p.started, p.hintedNew, p.placed = asking, now, false, false
	if p.hinted {
		p.hintedAt = now
	}
}

// A decision is what follows from an outcome.
type decision struct {
	end     ending  // goesOn: the poll goes on
	attempt Attempt // for the Backoff that is asked for the delay
	polling bool    // it is that of WithPolling, else that of WithRetry
	asks    bool    // a Backoff is asked; else delay holds
	delay   time.Duration
}

// observe takes an outcome into the state of the poll and returns what follows.
// outage is the time of the first fault since any job of the client was
// answered; 0: there was none.
func (p *poll) observe(now int64, out *outcome, b *bounds, outage int64) (d decision) {
	p.phase = deciding
	p.requests += int32(out.requests)
	p.number = int32(out.number)
	if out.absent {
		doubt(p, now, out, b)
	}
	switch out.verdict {
	case answered:
		d.delay = p.answer(now, out)
	case fault, refused:
		p.takeFault(now, out, b, outage)
	}
	if d.end = p.ending(now, out, b); d.end != goesOn {
		return d
	}
	switch out.verdict {
	case answered:
		if d.asks = d.delay == 0; d.asks {
			d.polling = true
			d.attempt = Attempt{Number: int(p.requests), Elapsed: time.Duration(now - p.began), PendingAt: p.pendingAt, Expected: p.expected, Shared: out.jobs}
		}
	case refused:
		if d.delay = out.pause; d.delay == 0 {
			d.asks, d.attempt = true, p.trouble.attempt(now, p.trouble.tries)
		}
	case fault: // the refusals of a breaker do not stretch the delay after a fault
		d.asks, d.attempt = true, p.trouble.attempt(now, p.trouble.faults)
	}
	return d
}

// ending returns the reason for which an outcome ends the wait. Each reason that
// an exchange can bring is one case.
func (p *poll) ending(now int64, out *outcome, b *bounds) ending {
	switch {
	case out.verdict == answered && out.status.settled():
		return jobEnded
	case out.verdict == final:
		return finalFault
	case out.verdict == left:
		return goesOn
	case p.lacksResult(now):
		return withoutResult
	case p.missing != nil: // has a bound of its own
		return goesOn
	case out.verdict == fault && out.hint > b.maxRetryAfter:
		return pauseTooLong
	case (out.verdict == fault || out.verdict == refused) && p.trouble.left(b) <= 0:
		return p.trouble.reason(b)
	}
	return goesOn
}

// lacksResult reports whether the job is to be handed over without its result.
func (p *poll) lacksResult(now int64) bool { return p.missing != nil && now >= p.missing.until }

// inTime returns at, or an earlier time: that at which the result has been missing for long
// enough, or the job itself, which is no time during a pause that the server asks for.
func (p *poll) inTime(now, at int64, b *bounds) int64 {
	if p.missing != nil {
		return min(at, p.missing.until)
	}
	if t := p.trouble; t != nil && t.absent > 0 && t.absentUntil(b) > now {
		return min(at, max(t.absentUntil(b), p.floor))
	}
	return at
}

// answer takes in an answer, and returns the time until the next look where the
// result is missing.
func (p *poll) answer(now int64, out *outcome) (delay time.Duration) {
	if p.soloPolls > 0 {
		p.soloPolls--
	}
	if p.trouble != nil {
		*p.trouble = trouble{fault: p.trouble.fault, number: p.trouble.number}
	}
	st := &out.status
	if st.settled() {
		return 0
	}
	if st.ResultMissing {
		if p.missing == nil {
			p.missing = &missing{until: later(now, resultBound), gap: resultGap}
		}
		delay = p.missing.gap
		p.missing.gap *= 2
		p.missing.status = *st
		st.State, st.Body = StatePending, nil // the wait goes on
	} else {
		p.missing = nil
		p.pendingAt = max(p.pendingAt, time.Duration(p.started-p.began))
	}
	p.seen = true
	p.checkedAt, p.progress, p.message = now, st.Progress, st.Message
	return delay
}

// reschedule plans the next exchange after an outcome. delay is what the
// Backoff returned, or what the decision holds; spread is added where polls
// would otherwise come back in the same instant; wanted reports whether a
// subscriber still waits for an answer.
func (p *poll) reschedule(now int64, out *outcome, delay time.Duration, spread int64, wanted bool, b *bounds) {
	p.phase = waiting
	// A hint holds until there is an answer to a check that began after it.
	p.hinted, p.hintedNew = p.hintedNew || p.hinted && out.verdict != answered, false
	p.floor = 0
	p.next = later(now, max(delay, 0))
	if hint := min(max(out.hint, out.status.PollAfter), b.maxRetryAfter); hint > 0 && out.verdict != held {
		p.floor = later(now, hint)
		p.next = max(p.next, p.floor)
	}
	switch {
	case out.verdict == left && !wanted:
		p.next = never // the subscribers are about to leave
	case out.verdict == refused, out.verdict == fault && p.next == p.floor:
		p.next = later(p.next, time.Duration(spread))
	case out.verdict == answered && p.hinted:
		p.next = min(p.next, p.hintDue(now))
	}
	if out.verdict == fault {
		p.next = p.trouble.second(max(now, p.floor), p.next, b)
	}
	if p.next != never {
		p.next = max(p.inTime(now, p.next, b), p.started+int64(pollFloor))
	}
	if t := p.trouble; t.lasts() {
		t.startGap(now, p.floor, p.next, b)
	}
}

// event returns what the subscribers get when the wait ends for a reason. out is
// the outcome that brought it, or nil; cause is that of timeUp; pause is how
// long the client is held, for heldTooLong.
func (p *poll) event(why ending, w wall, b *bounds, out *outcome, cause error, pause time.Duration) *event {
	switch why {
	case jobEnded:
		return &event{status: out.status}
	case withoutResult:
		return &event{status: p.missing.status}
	case finalFault:
		return &event{status: p.last(w), err: out.err}
	case pauseTooLong:
		cause = errTooLong(b.maxRetryAfter)
	case heldTooLong:
		cause = errHeld(pause, b.maxRetryAfter)
	case noContact:
		cause = &contactError{b.address, min(b.tolerance, contactLimit)}
	case outageOver:
		cause = fmt.Errorf("%w of %v", ErrOutage, b.tolerance)
	case limited:
		cause = fmt.Errorf("the limiter has let no request through for %v", b.tolerance)
	case stopped:
		cause = ErrGaveUp
	}
	return p.failure(cause, w)
}
