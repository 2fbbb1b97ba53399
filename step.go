package vtclient

import "time"

// A step is what a trip does about one poll.
type step struct {
	entry    *entry
	out      outcome
	d        decision
	wanted   bool          // a subscriber still waits
	youngest *subscription // the last one that had joined when that was found out
	began    int64         // the job, for a decision to poll
	delay    time.Duration
	next     time.Duration // until the next exchange
	traced   bool
	seen     Status // to be put into a foreign cache; of a batch only
}

// conclude observes outcomes, asks for the delays of the polls that go on, and
// plans their next exchanges. All polls are dealt with before code of the
// caller's is called for one of them.
func (t *trip) conclude(steps []step) {
	e := t.e
	for i := range steps {
		s := &steps[i]
		switch s.out.verdict {
		case left:
			s.youngest = t.youngest(s.entry)
			s.wanted = t.awaited(s.entry)
		case refused:
			r := s.out.err.(*RefusedError)
			s.out.refusal, s.out.pause = asSaid(r.Err), r.RetryAfter()
		}
	}
	e.mu.Lock()
	for i := range steps {
		t.observe(&steps[i])
	}
	e.mu.Unlock()
	t.decide(steps)
}

// decide asks for the delays of the polls that go on and plans their next exchanges.
func (t *trip) decide(steps []step) {
	e := t.e
	for i := range steps {
		s := &steps[i]
		t.guard(s, func() { t.backoff(s) })
	}
	e.mu.Lock()
	for i := range steps {
		t.commit(&steps[i])
	}
	e.dispatch(e.c.now())
	e.mu.Unlock()
}

// announce calls the traces for the next exchanges.
func (t *trip) announce(steps []step) {
	e := t.e
	if len(e.c.traces) == 0 {
		return
	}
	first := true // of a request that several jobs share, one has its error
	for i := range steps {
		if s := &steps[i]; s.traced {
			t.guard(s, func() {
				e.c.emit(t.ctx, traceScheduled, TraceInfo{
					JobID: s.entry.id, Attempt: s.out.number + 1, Delay: s.next, Retry: s.out.verdict != answered, Err: s.out.err,
					first: first && !s.out.shown,
				})
			})
			first = first && s.out.shown
		}
	}
}

// guard calls code of the caller's for one poll. A panic ends the wait for that
// poll alone.
func (t *trip) guard(s *step, f func()) {
	defer func() {
		if r := recover(); r != nil {
			t.fail(s.entry, r)
		}
	}()
	f()
}

// observe takes an outcome into a poll. The wait may be over then, or before.
func (t *trip) observe(s *step) {
	e := t.e
	en, out := s.entry, &s.out
	if en.phase == over {
		return
	}
	now := e.c.now()
	if out.verdict == answered && out.jobs == 0 && en.faults() >= trialAfter {
		e.sharing.trialOK = now
	}
	en.date(&e.c.clock, &out.status)
	s.d = en.poll.observe(now, out, e.limits(), e.c.outageSince.Load())
	if en.missing != nil {
		en.sight(&e.completions, &en.missing.status, now)
	}
	if s.d.polling {
		s.d.attempt.Number -= int(en.subs.joinedAt)
		s.began = en.began
	}
	if s.d.end != goesOn {
		e.finish(en, s.d.end, out)
	}
}

// nextPoll asks b for the delay until the next poll of a job that began at start.
func nextPoll(b Backoff, at Attempt, start time.Time) (delay time.Duration, ok bool) {
	if a, ok := b.(*Adaptive); ok {
		return a.nextFrom(at, start)
	}
	return b.Next(at)
}

// backoff asks the strategies for the delay until the next exchange.
func (t *trip) backoff(s *step) {
	e := t.e
	s.delay = s.d.delay
	for ok := false; s.d.asks && !ok; {
		if s.d.polling {
			s.delay, ok = nextPoll(e.c.polling, s.d.attempt, e.c.wall().at(s.began))
			if !ok && !t.stop(s) {
				return
			}
			continue
		}
		// Only the outage tolerance ends a wait that meets faults.
		if s.delay, ok = e.c.retry.Next(s.d.attempt); !ok && s.delay <= 0 {
			s.delay, _ = defaultRetry.Next(s.d.attempt)
		}
		ok = true
	}
}

// stop ends the waits that the polling Backoff has just ended: those that began
// together with the eldest. A wait that joined later is given up after as many
// requests of its own. It reports whether there is one.
func (t *trip) stop(s *step) bool {
	e := t.e
	e.mu.Lock()
	defer e.mu.Unlock()
	en := s.entry
	if en.phase == over {
		return false
	}
	now, ended := e.c.now(), en.subs.joinedAt
	ev := en.stamp(e.event(en, stopped, &s.out, nil), now)
	for sub := range en.subscriptions {
		if sub.joinedAt == ended {
			e.unsubscribe(sub)
			sub.to.put(ev)
		}
	}
	if e.unwanted(en, now) {
		return false
	}
	s.d.attempt.Number = int(en.requests - en.subs.joinedAt)
	return true
}

// commit plans the next exchange of a poll and publishes the outcome.
func (t *trip) commit(s *step) {
	e := t.e
	en, out := s.entry, &s.out
	if en.phase == over {
		return
	}
	en.cancel() // releases the exchange's context
	en.cancel = nil
	now := e.c.now()
	var spread int64
	if out.verdict == refused || out.verdict == fault && out.hint > s.delay {
		spread = e.pace.returnAt(en, now, later(now, max(s.delay, out.hint)), false, e.share(now))
	}
	b := e.limits()
	en.reschedule(now, out, s.delay, spread, s.wanted || en.subs.prev != s.youngest, b)
	due := e.plan(en, now)
	s.next = time.Duration(due - now)
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
		details(out.err).GivesUpIn = en.trouble.givesUpIn(now, b)
		en.publish(&event{fault: out.err})
		en.trouble.fault = e.faults.keep(out.err)
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
