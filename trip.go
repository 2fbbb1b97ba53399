package vtclient

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// A trip is an exchange that the engine makes for a poll, or for the polls of a
// batch, with all that follows from it: the outcome is observed under the lock,
// strategies are asked and traces called without it.
type trip struct {
	e       *engine
	ctx     context.Context
	entry   *entry
	batch   *batch // nil: the entry travels alone
	counted bool   // among the engine's exchanges under way
	alone   [1]step
}

// start makes t the trip of a poll, and of those that share its exchange. The
// lock is held.
func (t *trip) start(en *entry, now int64) *trip {
	e := t.e
	t.entry, t.counted = en, true
	e.underWay++
	if t.batch = e.gather(en, now); t.batch != nil {
		t.ctx, t.batch.cancel = e.detach(en, t.batch.lastDeadline())
		return t
	}
	t.ctx, en.cancel = e.detach(en, en.lastDeadline())
	e.begin(en, now)
	return t
}

// begin notes that an exchange about a job begins.
func (e *engine) begin(en *entry, now int64) {
	en.joined = false
	if en.begin(now); en.deadlines != nil {
		en.deadlines.begin(now)
	}
	e.plan(en, now)
}

// detach returns a context that ends at a deadline and carries the values of
// the eldest subscriber.
func (e *engine) detach(en *entry, deadline int64) (context.Context, context.CancelFunc) {
	ctx := context.WithoutCancel(en.subs.to.ctx)
	if deadline == never {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, e.c.at(deadline))
}

// wanted reports whether a subscriber of one of some polls still waits. Contexts
// are the caller's code, and are asked after unlocking.
func (e *engine) wanted(entries ...*entry) bool {
	for skip := 0; ; skip++ {
		ctx := e.waiting(entries, skip)
		if ctx == nil {
			return false
		}
		if ctx.Err() == nil { // nearly always that of the first
			return true
		}
	}
}

// waiting returns the context of a subscriber whose time is not up, leaving out
// the first skip of them; nil: there is none.
func (e *engine) waiting(entries []*entry, skip int) (ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.c.now()
	for _, en := range entries {
		for s := range en.subscriptions {
			if s.to.closed || s.deadline != nil && s.deadline.at <= now {
				continue
			}
			if skip--; skip < 0 {
				return s.to.ctx
			}
		}
	}
	return nil
}

// work makes exchanges until none is due.
func (t *trip) work() {
	for first := true; t.next(first); first = false {
		t.run()
	}
}

// next makes t the trip of the poll whose exchange may begin now, and reports
// whether there is one.
func (t *trip) next(first bool) bool {
	e := t.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.free(); first {
		e.starting = false
	}
	now, budget := e.c.now(), atOnce
	var en *entry
	if e.underWay < e.most {
		if en = e.next(now, &budget); en != nil {
			t.start(en, now)
		}
	}
	if e.dispatch(now); budget <= 0 {
		e.arm(now, true)
	}
	return en != nil
}

// run makes one exchange and does what follows from it. A panic of the caller's
// code, or an end of the goroutine within it, ends the waits that the trip has
// not dealt with; the engine goes on.
func (t *trip) run() {
	returned := false
	defer func() {
		if !returned {
			t.fail(t.left(), recover())
		}
	}()
	if t.batch != nil {
		t.askTogether()
	} else {
		t.ask()
	}
	returned = true
}

// free gives up the trip's place among the exchanges under way.
func (t *trip) free() {
	if t.counted {
		t.counted = false
		t.e.underWay--
	}
}

// freed lets others have the trip's place while the caller's own code runs: it
// may ask the client about other jobs, and wait for the answer.
func (t *trip) freed() {
	if e := t.e; e.foreign && t.counted {
		e.mu.Lock()
		defer e.mu.Unlock()
		t.free()
		e.dispatch(e.c.now())
	}
}

// wanted reports whether the answer is wanted by a subscriber.
func (t *trip) wanted() bool {
	if t.batch != nil {
		return t.e.wanted(t.batch.rest()...)
	}
	return t.e.wanted(t.entry)
}

// left returns the polls that the trip has not dealt with to the end.
func (t *trip) left() []*entry {
	if t.batch != nil {
		return t.batch.left()
	}
	return []*entry{t.entry}
}

// fail ends the waits for polls whose trip has not come to its end: the caller's
// code panicked with r, or ended the goroutine. The panic goes on where the
// subscribers wait.
func (t *trip) fail(entries []*entry, r any) {
	e := t.e
	e.mu.Lock()
	defer e.mu.Unlock()
	t.free()
	now := e.c.now()
	for _, en := range entries {
		if en.phase == over {
			continue
		}
		ev := &event{status: Status{JobID: en.id}}
		if r != nil {
			ev.panicked = fmt.Sprintf("vtclient: job %s: panic in a poll: %v\n\n%s", quoteID(en.id), r, debug.Stack())
		} else {
			ev.err = fmt.Errorf("vtclient: job %s: the goroutine of its poll was ended from within", quoteID(en.id))
		}
		e.deliver(en, ev, 0, now)
	}
	e.dispatch(now)
}

// ask makes an exchange about one job.
func (t *trip) ask() {
	e, en := t.e, t.entry
	s := &t.alone[0]
	*s = step{entry: en}
	s.out = e.c.exchange(t.ctx, inquiry{id: en.id, by: t}, int(en.number)+1)
	if s.out.verdict == answered {
		e.c.remember(t.ctx, &s.out.status)
	}
	t.conclude(t.alone[:])
}

// A step is what a trip does about one poll.
type step struct {
	entry  *entry
	out    outcome
	d      decision
	goesOn bool
	wanted bool // a subscriber still waits
	delay  time.Duration
	next   time.Duration // until the next exchange
	traced bool
}

// conclude observes outcomes, asks for the delays of the polls that go on, and
// plans their next exchanges. All polls are dealt with before code of the
// caller's is called for one of them.
func (t *trip) conclude(steps []step) {
	e := t.e
	for i := range steps {
		s := &steps[i]
		if s.wanted = true; s.out.verdict == left {
			s.wanted = e.wanted(s.entry)
		}
		if s.out.verdict == refused {
			r := s.out.err.(*RefusedError)
			s.out.refusal, s.out.pause = asSaid(r.Err), r.RetryAfter()
		}
	}
	e.mu.Lock()
	for i := range steps {
		steps[i].goesOn = e.observe(&steps[i])
	}
	e.mu.Unlock()
	t.decide(steps)
}

// decide asks for the delays of the polls that go on, plans their next exchanges
// and calls the traces.
func (t *trip) decide(steps []step) {
	e := t.e
	for i := range steps {
		if s := &steps[i]; s.goesOn {
			t.guard(s, func() { s.goesOn = e.backoff(s) })
		}
	}
	e.mu.Lock()
	for i := range steps {
		if steps[i].goesOn {
			e.commit(&steps[i])
		}
	}
	if t.batch != nil || e.foreign { // else the trip is about to go on
		e.dispatch(e.c.now())
	}
	e.mu.Unlock()
	if len(e.c.traces) == 0 {
		return
	}
	for i := range steps {
		if s := &steps[i]; s.traced {
			t.guard(s, func() {
				e.c.emit(t.ctx, traceScheduled, TraceInfo{
					JobID: s.entry.id, Attempt: s.out.number + 1, Delay: s.next, Retry: s.out.verdict != answered, Err: s.out.err,
				})
			})
		}
	}
}

// guard calls code of the caller's for one poll. A panic ends the wait for that
// poll alone.
func (t *trip) guard(s *step, f func()) {
	if t.batch == nil {
		f()
		return
	}
	defer func() {
		if r := recover(); r != nil {
			s.goesOn = false
			t.fail([]*entry{s.entry}, r)
		}
	}()
	f()
}

// observe takes an outcome into a poll, and reports whether the wait goes on.
func (e *engine) observe(s *step) bool {
	en, out := s.entry, &s.out
	if en.phase == over {
		return false
	}
	now := e.c.now()
	if out.verdict == answered && out.jobs == 0 && en.faults() >= trialAfter {
		e.sharing.trialOK = now
	}
	complete := en.missing != nil
	s.d = en.poll.observe(now, out, &e.bounds, e.c.outageSince.Load())
	if !complete && en.missing != nil {
		e.conclude(en, max(1, time.Duration(now-en.began)), now)
	}
	if s.d.polling {
		s.d.attempt.Number -= int(en.subs.joinedAt)
	}
	if s.d.end != goesOn {
		e.finish(en, s.d.end, out, 0)
		return false
	}
	return true
}

// backoff asks the strategies for the delay until the next exchange, and reports
// whether the wait goes on.
func (e *engine) backoff(s *step) bool {
	s.delay = s.d.delay
	for ok := false; s.d.asks && !ok; {
		if s.d.polling {
			s.delay, ok = e.c.polling.Next(s.d.attempt)
			if !ok && !e.stop(s) {
				return false
			}
			continue
		}
		// Only the outage tolerance ends a wait that meets faults.
		if s.delay, ok = e.c.retry.Next(s.d.attempt); !ok && s.delay <= 0 {
			s.delay, _ = defaultRetry.Next(s.d.attempt)
		}
		ok = true
	}
	return true
}

// stop ends the waits that the polling Backoff has just ended: those that began
// together with the eldest. A wait that joined later is given up after as many
// requests of its own. It reports whether there is one.
func (e *engine) stop(s *step) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	en := s.entry
	if en.phase == over {
		return false
	}
	ended := en.subs.joinedAt
	if youngest := en.subs.prev.joinedAt; youngest == ended {
		e.finish(en, stopped, &s.out, 0)
		return false
	}
	ev := en.event(stopped, e.c.wall(), &e.bounds, &s.out, nil, 0)
	for sub := range en.subscriptions {
		if sub.joinedAt == ended {
			e.unsubscribe(sub)
			sub.to.put(ev)
		}
	}
	s.d.attempt.Number = int(en.requests - en.subs.joinedAt)
	return true
}

// commit plans the next exchange of a poll and publishes the outcome.
func (e *engine) commit(s *step) {
	en, out := s.entry, &s.out
	if en.phase == over {
		return
	}
	if en.cancel != nil {
		en.cancel() // releases the exchange's context
		en.cancel = nil
	}
	now := e.c.now()
	spread := int64(0)
	switch hint := min(out.hint, e.bounds.maxRetryAfter); {
	case out.verdict == refused, out.verdict == fault && hint > s.delay:
		spread = e.returnAt(en, now, later(now, max(s.delay, hint)), false)
	}
	en.reschedule(now, out, s.delay, spread, s.wanted || en.joined, &e.bounds)
	due := e.plan(en, now)
	s.next = time.Duration(max(0, due-now))
	fits := due < en.lastDeadline()
	s.traced = fits && out.verdict != left
	switch out.verdict {
	case answered:
		en.publish(&event{status: out.status})
	case fault:
		if d := details(out.err); fits {
			d.Next = max(1, s.next)
		} else {
			d.then = "no further request fits before the deadline"
		}
		en.publish(&event{fault: out.err})
	}
}

// publish puts an observation or a fault into the inboxes that take it.
func (en *entry) publish(ev *event) {
	for s := range en.subscriptions {
		if ev.fault != nil && s.to.wantFaults || ev.fault == nil && s.to.wantPending {
			s.to.put(ev)
		}
	}
}
