package vtclient

import (
	"context"
	"runtime"
	"time"
)

// A caller is a Wait, Watch or WaitAll that waits: its inbox, and the engine that fills
// it. Its methods are for the goroutines of the caller.
type caller struct {
	e  *engine
	in *inbox
}

// join subscribes the caller to the job with that id, of which job holds the rest. If
// there is no poll of it yet, the first exchange is due at due. overdue is the age at which
// the job's overdue event is due; 0: it is not asked for. It reports false if the inbox is
// closed.
func (w caller) join(id string, job *Job, due int64, overdue time.Duration) bool {
	e := w.e
	e.mu.Lock()
	open := !w.in.closed
	if open {
		e.enter(w.in, id, job, due, overdue)
	}
	e.mu.Unlock()
	return open
}

// post puts an event into an inbox from outside the engine, once it has room, and
// reports whether it is still open.
func (w caller) post(ev *event) bool {
	e, in := w.e, w.in
	if !w.awaitRoom() {
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
func (w caller) awaitRoom() bool {
	e, in := w.e, w.in
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
func (w caller) awaitFewer() bool {
	e, in := w.e, w.in
	for !expired(in.ctx) {
		e.mu.Lock()
		open, fewer := !in.closed, in.waiting+in.underWay < in.atMost
		e.mu.Unlock()
		if fewer || !open {
			return open
		}
		<-in.fewer // also when the context is done: the jobs are then given up one by one
	}
	return false
}

// announce notes that n more jobs are on their way to an inbox, and reports whether
// it is open.
func (w caller) announce(n int) bool {
	e, in := w.e, w.in
	e.mu.Lock()
	defer e.mu.Unlock()
	in.underWay += n
	signal(in.fewer)
	return !in.closed
}

// take returns the inbox's next event, or nil if there is none. An inbox that
// has room again gets back its turns, so that all of its polls go on.
func (w caller) take() *event {
	e, in := w.e, w.in
	e.mu.Lock()
	ev := in.take()
	w.refill()
	learns := len(e.completions.ready) > 0
	e.mu.Unlock()
	if learns {
		w.teachBefore()
	}
	return ev
}

// teachBefore calls the Learner before an event of an inbox is handed over. If that
// panics or ends the goroutine, the caller has left.
func (w caller) teachBefore() {
	e, in := w.e, w.in
	taught := false
	defer func() {
		if !taught {
			e.mu.Lock()
			dropped := in.close()
			e.mu.Unlock()
			go w.leaveRest(dropped)
		}
	}()
	w.teach(lessonsAtOnce)
	taught = true
}

// refill lets the polls and the feeding of an inbox go on if it has room.
func (w caller) refill() {
	e, in := w.e, w.in
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
func (w caller) abandon() *event {
	e, in := w.e, w.in
	cause := contextCause(in.ctx) // asks the caller's error: not under the lock
	cancelled := in.ctx.Err() == context.Canceled
	e.mu.Lock()
	ev := in.takeEnd()
	if s := in.first; ev == nil && s != nil {
		now := e.c.now()
		ev = s.entry.stamp(e.event(s.entry, timeUp, nil, cause), now)
		if cancelled {
			s.entry.forget(&e.completions, now)
		}
		e.drop(s, now)
	}
	e.mu.Unlock()
	w.teach(lessonsAtOnce)
	return ev
}

// empty reports whether an inbox has nothing to take and nothing to wait for.
func (w caller) empty() bool {
	e, in := w.e, w.in
	e.mu.Lock()
	defer e.mu.Unlock()
	return in.empty()
}

// expects reports whether jobs are on their way to an inbox.
func (w caller) expects() bool {
	e, in := w.e, w.in
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
func (w caller) leave() {
	e, in := w.e, w.in
	e.mu.Lock()
	dropped := in.close()
	more, left := w.dropSome()
	e.mu.Unlock()
	w.teach(lessonsAtOnce)
	e.mu.Lock()
	more = more || len(e.completions.ready) > 0
	e.mu.Unlock()
	if more {
		go w.leaveRest(append(dropped, left...))
		return
	}
	w.showLeft(append(dropped, left...))
}

// leaveRest does in the background what leave has left to be done.
func (w caller) leaveRest(left []*event) {
	e := w.e
	for more := true; more; {
		w.showLeft(left)
		e.mu.Lock()
		more, left = w.dropSome()
		e.mu.Unlock()
		runtime.Gosched()
	}
	w.showLeft(left)
	defer func() {
		if r := recover(); r != nil { // belongs on a goroutine of the caller's
			e.mu.Lock()
			e.completions.panic = r
			e.mu.Unlock()
		}
	}()
	for w.teach(lessonsAtOnce) {
		runtime.Gosched()
	}
}

// dropSome ends some of an inbox's subscriptions, and reports whether there are more. It
// returns the ends for the traces, if any has a use for them.
func (w caller) dropSome() (more bool, left []*event) {
	e, in := w.e, w.in
	now := e.c.now()
	for n := 0; n < dropsAtOnce && in.first != nil; n++ {
		if en := in.first.entry; e.c.tracesWaits {
			left = append(left, en.stamp(&event{status: en.last(e.c.wall()), err: errLoopLeft}, now))
		}
		e.drop(in.first, now)
	}
	// Jobs that have ended since the inbox was closed are in it.
	left, in.events = append(left, in.events...), nil
	return in.first != nil, left
}

// teach calls the Learner with at most limit completions, and reports whether
// there are more. It is the caller's code: called on the goroutine of a caller,
// where a panic belongs, and never under the lock.
func (w caller) teach(limit int) (more bool) {
	e := w.e
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
		if l, ok := e.learner.(*Adaptive); ok {
			l.learnFrom(c.Completion, e.c.wall().at(c.began))
		} else {
			e.learner.Learn(c.Completion)
		}
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
	}
	e.agenda.promote(en, laneUrgent)
	e.dispatch(now)
}

// jobEnded ends the waits for a job whose end a Status has seen.
func (e *engine) jobEnded(st *Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if en := e.polls.get(st.JobID); en != nil {
		out := outcome{status: *st}
		en.date(&e.c.clock, &out.status)
		e.finish(en, jobEnded, &out)
	}
}
