package vtclient

import (
	"context"
	"strings"
	"sync"
	"time"
)

// An engine runs the polls of a client. It has the lock, the timer and the
// goroutines, and decides nothing: it feeds events to polls, applies what they
// decide, and runs the caller's code after unlocking. It starts with the first
// poll and is gone with the last; between exchanges it has no goroutine.
type engine struct {
	c       *Client
	bounds  bounds
	early   bounds // until the first readable answer
	foreign bool   // the caller's own code runs between exchanges

	mu       sync.Mutex
	polls    registry
	agenda   agenda
	underWay int  // exchanges
	starting bool // a goroutine that has not begun an exchange yet
	timer    *time.Timer
	armed    int64 // when the timer fires
	pace     pacing
	sharing  sharing
	faults   keptFault

	learner     Learner // nil: the polling does not learn
	completions completions
	overdues    overdues // nil: none
}

// An entry is a poll as the engine keeps it. Guarded by engine.mu.
type entry struct {
	poll
	subs      *subscription      // the eldest; nil: there is none
	deadlines *deadlines         // nil: no subscriber has one
	cancel    context.CancelFunc // of the exchange under way; nil: none is
	key       int64              // when the engine has to look at the poll
	index     int32              // in the agenda's heap; -1: not there
	ticket    uint32             // in completions; 0: nothing is to be recorded any more
}

func (e *engine) init(c *Client, most int) {
	e.c = c
	e.pace = pacing{most: most, timeout: c.timeout, latency: &c.latency}
	e.bounds = bounds{tolerance: c.outageTolerance, maxRetryAfter: c.maxRetryAfter, timeout: c.timeout, address: c.route.shown()}
	e.early = e.bounds
	e.early.early = true
	e.learner, _ = c.polling.(Learner)
	_, own := c.cache.(*MemoryCache[Status])
	e.foreign = len(c.traces) > 0 || !quick(c.polling) || !quick(c.retry) || c.cache != nil && !own
}

// limits are the bounds of all waits now.
func (e *engine) limits() *bounds {
	if e.c.contact.made.Load() {
		return &e.bounds
	}
	return &e.early
}

// quick reports whether a strategy is one of the package's own, which return at
// once.
func quick(b Backoff) bool {
	switch b.(type) {
	case Constant, Exponential, *Adaptive:
		return true
	}
	return false
}

// lastDeadline is the latest deadline of the subscribers.
func (en *entry) lastDeadline() (t int64) {
	for s := range en.subscriptions {
		if s.deadline == nil {
			return never
		}
		t = max(t, s.deadline.at)
	}
	return t
}

// enter adds an inbox's interest in a job; see caller.join.
func (e *engine) enter(in *inbox, id string, job *Job, due int64, overdue time.Duration) {
	now := e.c.now()
	start, deadline := e.c.times(job)
	en := e.polls.get(id)
	if en == nil {
		en = e.newEntry(id, now, due)
		e.polls.put(en)
	}
	en.learn(start, job.Expect)
	e.subscribe(en, in, now, deadline)
	e.overdues.add(en, in, overdue)
	en.request(due)
	e.expedite(en, now)
}

// expedite plans the next exchange of a poll that a caller has just joined.
func (e *engine) expedite(en *entry, now int64) {
	if en.subs.prev.to.single && en.untried() {
		e.agenda.promote(en, laneUrgent)
	}
	e.attend(en, now)
	e.dispatch(now)
}

// newEntry returns the poll of a job that has none, to be put among the others.
func (e *engine) newEntry(id string, now, due int64) *entry {
	en := &entry{index: -1}
	en.init(strings.Clone(id), now, due) // it may be a part of a large text
	if e.learner != nil {
		en.ticket = e.completions.begin(&en.poll, now)
	}
	return en
}

// subscribe enters an inbox's interest in a poll, up to a deadline of the job
// or that of the inbox.
func (e *engine) subscribe(en *entry, in *inbox, now, until int64) {
	s := &subscription{entry: en, to: in, joinedAt: en.requests}
	s.link()
	if en.phase == queued {
		e.agenda.add(s)
	}
	at := min(until, in.deadline)
	if at == never {
		return
	}
	if en.deadlines == nil {
		en.deadlines = new(deadlines)
	}
	crowd := &e.pace.bulk.deadlines
	if in.single {
		crowd = &e.pace.single.deadlines
	}
	s.deadline = &deadline{at: at, crowd: crowd, sub: s}
	en.deadlines.add(now, s.deadline, until < in.deadline)
}

// unsubscribe ends a subscription. The poll may have none then.
func (e *engine) unsubscribe(s *subscription) {
	en := s.entry
	if en.phase == queued {
		e.agenda.remove(s)
	}
	if s.deadline != nil {
		en.deadlines.remove(s.deadline)
	}
	e.overdues.remove(en, s.to)
	s.unlink()
}

// drop ends a subscription, and with the last one the poll.
func (e *engine) drop(s *subscription, now int64) {
	e.unsubscribe(s)
	e.unwanted(s.entry, now)
}

// unwanted ends a poll that has no subscriber any more, and reports whether it has none.
func (e *engine) unwanted(en *entry, now int64) bool {
	if en.subs != nil {
		return false
	}
	en.conclude(&e.completions, nil, now)
	e.end(en)
	return true
}

// finish ends a poll and delivers the end to all subscribers.
func (e *engine) finish(en *entry, why ending, out *outcome) {
	if met := e.c.contact.fault.Load(); why == noContact && en.trouble.fault == nil && met != nil {
		en.trouble.fault = *met // the breaker has let no request about this job through
	}
	var last *Status
	if why == jobEnded {
		last = &out.status
	}
	e.deliver(en, e.event(en, why, out, nil), last, e.c.now())
}

// deliver ends a poll with an event. last is the answer with which the job is over; nil:
// there is none.
func (e *engine) deliver(en *entry, ev *event, last *Status, now int64) {
	en.conclude(&e.completions, last, now)
	en.stamp(ev, now)
	for s := range en.subscriptions {
		e.unsubscribe(s)
		s.to.put(ev)
	}
	e.end(en)
}

// end takes a poll out of the engine. Its exchange, if one is under way, is
// cancelled.
func (e *engine) end(en *entry) {
	en.phase = over
	e.agenda.file(en, never)
	e.polls.remove(en)
	if en.cancel != nil {
		en.cancel()
	}
	if e.polls.n == 0 {
		if e.timer != nil {
			e.timer.Stop()
			e.timer = nil
		}
		e.pace.single.returns, e.pace.bulk.returns = nil, nil
	}
}

// plan works out when the engine has to look at a poll next, and returns when
// its next exchange is due.
func (e *engine) plan(en *entry, now int64) (due int64) {
	due = never
	if en.phase == waiting {
		due = min(en.next, e.lastPoll(en, now, en.next))
	}
	key := min(due, en.outageEnd(e.limits()))
	if d := en.deadlines; d != nil {
		if key = min(key, d.nextOwn()); en.phase == queued && en.lane == laneRest {
			key = min(key, e.lastPoll(en, now, never))
		}
	}
	e.agenda.file(en, min(key, e.overdues.next(en)))
	return due
}

// lastPoll returns when the next last poll before a deadline is due, where the
// schedule has an exchange at next.
func (e *engine) lastPoll(en *entry, now, next int64) int64 {
	if en.deadlines == nil {
		return never
	}
	return en.deadlines.lastPoll(now, next, &en.poll, e.pace.lead(), e.pace.lastPace(e.share(now)))
}

// atOnce bounds the polls that are looked at while the lock is held.
const atOnce = 1 << 10

// dispatch queues what is due, starts a goroutine for it and sets the timer. Each
// goroutine that has begun an exchange starts the next one, if more is due.
func (e *engine) dispatch(now int64) {
	budget := atOnce
	for ; budget > 0; budget-- {
		en := e.agenda.first()
		if en == nil || en.key > now {
			break
		}
		e.attend(en, now)
	}
	if !e.starting && e.underWay < e.pace.most && e.agenda.due() {
		e.starting = true
		go (&trip{e: e}).work()
	}
	e.arm(now)
}

// arm sets the timer for what has to be looked at next.
func (e *engine) arm(now int64) {
	first := e.agenda.first()
	if first == nil {
		return
	}
	at := first.key
	switch d := time.Duration(max(0, at-now)); {
	case e.timer == nil:
		// A timer of its own for each life of the engine: in a synctest
		// bubble, a timer may not outlive its bubble.
		e.timer, e.armed = time.AfterFunc(d, e.wake), at
	case at != e.armed:
		e.timer.Reset(d)
		e.armed = at
	}
}

func (e *engine) wake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.armed = 0
	e.dispatch(e.c.now())
}

// attend looks at a poll at the time of its key.
func (e *engine) attend(en *entry, now int64) {
	if len(e.overdues) > 0 {
		e.overdues.deliver(en, now, e.c.wall())
	}
	if d := en.deadlines; d != nil {
		for s := d.expired(now); s != nil; s = d.expired(now) {
			ev := e.event(en, timeUp, nil, context.DeadlineExceeded)
			e.unsubscribe(s)
			s.to.put(en.stamp(ev, now))
		}
		if e.unwanted(en, now) {
			return
		}
	}
	if why := en.expire(now, e.limits(), e.c.outageSince.Load()); why != goesOn {
		e.finish(en, why, nil)
		return
	}
	e.enqueue(en, now)
	e.plan(en, now)
}

// enqueue puts a poll that is due into the lane that it belongs to.
func (e *engine) enqueue(en *entry, now int64) {
	switch {
	case en.phase == waiting && en.next <= now && (en.hinted || en.untried() && en.hasSingle()):
		e.agenda.enqueue(en, laneUrgent)
	case en.phase == waiting && en.next <= now:
		e.agenda.enqueue(en, laneRest)
	case en.phase == waiting && e.lastPoll(en, now, en.next) <= now:
		e.agenda.enqueue(en, laneLast)
	case en.phase == queued && e.lastPoll(en, now, never) <= now:
		e.agenda.promote(en, laneLast)
	}
}

// next takes the poll out of the queues whose exchange may begin now.
func (e *engine) next(now int64, budget *int) *entry {
	for ; *budget > 0; *budget-- {
		en := e.agenda.take()
		if en == nil {
			return nil
		}
		hold := e.c.held(nil)
		switch why, wait := en.admit(now, hold, e.limits()); {
		case why == heldTooLong:
			en.trouble = &trouble{fault: e.c.hold.fault.Load()}
			fallthrough
		case why != goesOn:
			e.finish(en, why, nil)
			continue
		case now >= en.lastDeadline(): // the subscribers are about to leave
			en.next = never
		case wait > 0:
			// More slowly than otherwise: the server has just had too much.
			until := e.c.hold.until.Load()
			spread := 4 * e.pace.returnAt(en, now, until, en.floor == until, e.share(now)) % (int64(wait) + 1)
			en.postpone(now, until, later(until, time.Duration(spread)), e.limits())
		default:
			if e.pace.place(en, now, e.share(now)) {
				return en
			}
		}
		e.plan(en, now)
	}
	return nil
}
