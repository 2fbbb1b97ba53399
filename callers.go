package vtclient

import "runtime"

// What an engine does for the goroutines of its callers.

// post puts an event into an inbox from outside the engine, once it has room, and
// reports whether it is still open.
func (e *engine) post(in *inbox, ev *event) bool {
	if !e.awaitRoom(in) {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !in.closed {
		in.put(ev)
	}
	return !in.closed
}

// awaitRoom waits until an inbox has room, and reports whether it is still open.
func (e *engine) awaitRoom(in *inbox) bool {
	for {
		e.mu.Lock()
		full, closed := in.full(), in.closed
		e.mu.Unlock()
		if !full || closed {
			return !closed
		}
		<-in.room
	}
}

// awaitFewer waits until fewer jobs than its bound are unfinished in an inbox, and
// reports false if it is closed or its context done.
func (e *engine) awaitFewer(in *inbox) bool {
	for !expired(in.ctx) {
		e.mu.Lock()
		open, fewer := !in.closed, in.waiting+in.underWay < in.atMost
		e.mu.Unlock()
		if fewer || !open {
			return open
		}
		select {
		case <-in.fewer:
		case <-in.ctx.Done():
		}
	}
	return false
}

// announce notes that n more jobs are on their way to an inbox, and reports whether
// it is open.
func (e *engine) announce(in *inbox, n int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	in.underWay += n
	signal(in.fewer)
	return !in.closed
}

// take returns the inbox's next event, or nil if there is none. An inbox that
// has room again gets back its turns, so that all of its polls go on.
func (e *engine) take(in *inbox) *event {
	e.mu.Lock()
	ev := in.take()
	e.refill(in)
	learns := len(e.completions.ready) > 0 || e.completions.panic != nil
	e.mu.Unlock()
	if learns {
		e.teachBefore(in)
	}
	return ev
}

// teachBefore calls the Learner before an event of an inbox is handed over. If that
// panics or ends the goroutine, the caller has left.
func (e *engine) teachBefore(in *inbox) {
	taught := false
	defer func() {
		if !taught {
			e.mu.Lock()
			in.close()
			e.mu.Unlock()
			go e.leaveRest(in)
		}
	}()
	e.teach(lessonsAtOnce)
	taught = true
}

// refill lets the polls and the feeding of an inbox go on if it has room.
func (e *engine) refill(in *inbox) {
	if in.full() {
		return
	}
	signal(in.room)
	if e.agenda.resumeAll(in) {
		e.dispatch(e.c.now())
	}
}

// abandon ends one job of an inbox whose context is done: with its result if
// that is there already, else with the context's error. It returns nil if no
// job is left.
func (e *engine) abandon(in *inbox) *event {
	cause := contextCause(in.ctx) // asks the caller's error: not under the lock
	e.mu.Lock()
	ev := in.takeEnd()
	if ev != nil {
		e.refill(in)
	} else if s := in.first; s != nil {
		ev = s.entry.event(timeUp, e.c.wall(), &e.bounds, nil, cause, 0)
		now := e.c.now()
		e.drop(s, now)
		e.dispatch(now)
	}
	e.mu.Unlock()
	e.teach(lessonsAtOnce)
	return ev
}

// empty reports whether an inbox has nothing to take and nothing to wait for.
func (e *engine) empty(in *inbox) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return in.empty()
}

// expects reports whether jobs are on their way to an inbox.
func (e *engine) expects(in *inbox) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return in.underWay > 0
}

const (
	// dropsAtOnce bounds the polls that are left while the lock is held.
	dropsAtOnce = 256
	// lessonsAtOnce bounds how long a Learner holds up a caller.
	lessonsAtOnce = 64
)

// leave closes an inbox: its jobs are no longer polled on its behalf. What is a
// matter of a moment is done at once, and the rest in the background: a caller
// that leaves 100,000 jobs must neither wait for that nor hold the lock.
func (e *engine) leave(in *inbox) {
	e.mu.Lock()
	in.close()
	more := e.dropSome(in)
	e.mu.Unlock()
	e.teach(lessonsAtOnce)
	e.mu.Lock()
	more = more || len(e.completions.ready) > 0
	e.mu.Unlock()
	if more {
		go e.leaveRest(in)
	}
}

// leaveRest does in the background what leave has left to be done.
func (e *engine) leaveRest(in *inbox) {
	for more := true; more; {
		e.mu.Lock()
		more = e.dropSome(in)
		e.mu.Unlock()
		runtime.Gosched()
	}
	defer func() {
		if r := recover(); r != nil { // belongs on a goroutine of the caller's
			e.mu.Lock()
			e.completions.panic = r
			e.mu.Unlock()
		}
	}()
	for e.teach(lessonsAtOnce) {
		runtime.Gosched()
	}
}

// dropSome ends some of an inbox's subscriptions, and reports whether there are more.
func (e *engine) dropSome(in *inbox) (more bool) {
	now := e.c.now()
	for n := 0; n < dropsAtOnce && in.first != nil; n++ {
		e.drop(in.first, now)
	}
	e.dispatch(now)
	return in.first != nil
}

// conclude records what the end of a poll teaches. last is the answer with which the job
// is over; nil: there is none. A wait that ends before its job is learnt as given up,
// and so as lasting longer than that. A caller that waits for one job again and again,
// each time for a short while and without StartedAt, so teaches many jobs where there is
// one: to the client they look alike.
func (e *engine) conclude(en *entry, last *Status, now int64) {
	if en.ticket == 0 {
		return
	}
	if last != nil {
		e.sight(en, last, now)
	}
	over := e.over[en]
	delete(e.over, en)
	e.completions.end(en.ticket, en.completion(over, last), over != nil && en.seen, now)
	en.ticket = 0
}

// sight notes that a job is over, perhaps without its result so far. It was over when it
// was first seen so, and not when the result came.
func (e *engine) sight(en *entry, st *Status, now int64) {
	if en.ticket == 0 || e.over[en] != nil {
		return
	}
	if e.over == nil {
		e.over = make(map[*entry]*overSeen)
	}
	e.over[en] = en.poll.sight(now, st)
}

// teach calls the Learner with at most limit completions, and reports whether
// there are more. It is the caller's code: called on the goroutine of a caller,
// where a panic belongs, and never under the lock.
func (e *engine) teach(limit int) (more bool) {
	for ; limit > 0; limit-- {
		e.mu.Lock()
		if r := e.completions.panic; r != nil {
			e.completions.panic = nil
			e.mu.Unlock()
			panic(r)
		}
		c, ok := e.completions.next()
		e.mu.Unlock()
		if !ok {
			return false
		}
		if l, ok := e.learner.(interface{ hintsCome() }); ok && c.Hinted {
			l.hintsCome()
		}
		e.learner.Learn(c)
	}
	return true
}

// hint makes a poll due whose exchange begins after now.
func (e *engine) hint(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.c.now()
	en := e.polls.get(id)
	if en == nil {
		return
	}
	if en.hint(now) {
		e.plan(en, now)
	} else if en.phase == queued {
		e.agenda.promote(en, laneUrgent)
	}
	e.dispatch(now)
}

// jobEnded ends the waits for a job whose end a Status has seen.
func (e *engine) jobEnded(st *Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if en := e.polls.get(st.JobID); en != nil {
		e.finish(en, jobEnded, &outcome{verdict: answered, status: *st}, 0)
		e.dispatch(e.c.now())
	}
}
