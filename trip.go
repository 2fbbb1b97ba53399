package vtclient

import (
	"context"
	"fmt"
	"runtime/debug"
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
func (t *trip) start(en *entry, now int64) {
	e := t.e
	t.entry, t.counted = en, true
	e.underWay++
	if t.batch = t.gather(en, now); t.batch != nil {
		t.ctx, t.batch.cancel = t.detach(en, t.batch.lastDeadline())
		return
	}
	t.ctx, en.cancel = t.detach(en, en.lastDeadline())
	t.begin(en, now)
}

// begin notes that an exchange about a job begins.
func (t *trip) begin(en *entry, now int64) {
	if en.begin(now); en.deadlines != nil {
		en.deadlines.begin(now)
	}
	t.e.plan(en, now)
}

// event returns what the subscribers of a poll get when the wait ends; see poll.event.
func (e *engine) event(en *entry, why ending, out *outcome, cause error) *event {
	ev := en.event(why, e.c.wall(), e.limits(), out, cause, e.c.held(nil))
	if w, ok := ev.err.(*WaitError); ok && en.phase == asking {
		w.Cause = e.c.unreturned(en.id, w.Cause)
	}
	return ev
}

// detach returns a context that ends at a deadline and carries the values of
// the eldest subscriber.
func (t *trip) detach(en *entry, deadline int64) (context.Context, context.CancelFunc) {
	ctx := context.WithoutCancel(en.subs.to.ctx)
	if deadline == never {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, t.e.c.at(deadline))
}

// awaited reports whether a subscriber of one of some polls still waits. Contexts
// are the caller's code, and are asked after unlocking.
func (t *trip) awaited(entries ...*entry) bool {
	for skip := 0; ; skip++ {
		ctx := t.waiting(entries, skip)
		if ctx == nil {
			return false
		}
		if ctx.Err() == nil { // nearly always that of the first
			return true
		}
	}
}

// youngest returns the subscription of a poll that was made last, or nil.
func (t *trip) youngest(en *entry) *subscription {
	e := t.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if en.subs == nil {
		return nil
	}
	return en.subs.prev
}

// waiting returns the context of a subscriber whose time is not up, leaving out
// the first skip of them; nil: there is none.
func (t *trip) waiting(entries []*entry, skip int) (ctx context.Context) {
	e := t.e
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
	if e.underWay < e.pace.most {
		if en = e.next(now, &budget); en != nil {
			t.start(en, now)
		}
	}
	e.dispatch(now)
	return en != nil
}

// run makes one exchange and does what follows from it. A panic of the caller's
// code, or an end of the goroutine within it, ends the waits that the trip has
// not dealt with; the engine goes on.
func (t *trip) run() {
	returned := false
	defer func() {
		if !returned {
			t.fail(nil, recover())
		}
	}()
	if t.batch != nil {
		t.batch.ask()
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
	if e := t.e; e.foreign {
		e.mu.Lock()
		defer e.mu.Unlock()
		t.free()
		e.dispatch(e.c.now())
	}
}

// wanted reports whether the answer is wanted by a subscriber.
func (t *trip) wanted() bool {
	if t.batch != nil {
		return t.awaited(t.batch.rest()...)
	}
	return t.awaited(t.entry)
}

// left returns the polls that the trip has not dealt with to the end. The lock is held.
func (t *trip) left() []*entry {
	if t.batch != nil {
		return t.batch.left()
	}
	return []*entry{t.entry}
}

// fail ends the wait for a poll, or for all that the trip has not dealt with to the end
// if en is nil: the caller's code panicked with r, or ended the goroutine. The panic goes
// on where the subscribers wait.
func (t *trip) fail(en *entry, r any) {
	e := t.e
	e.mu.Lock()
	defer e.mu.Unlock()
	t.free()
	entries := []*entry{en}
	if en == nil {
		entries = t.left()
	}
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
		e.deliver(en, ev, nil, now)
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
	t.announce(t.alone[:])
}
