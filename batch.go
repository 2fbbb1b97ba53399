package vtclient

import (
	"container/heap"
	"context"
	"net/url"
	"slices"
)

// share is how many jobs a request may ask for now.
func (e *engine) share(now int64) int {
	if r := e.c.route.bulk; r != nil {
		return e.sharing.limit(now, r.limit)
	}
	return 1
}

// shared is how many jobs a request would probably ask for now, as Attempt.Shared
// has it.
func (e *engine) shared() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := min(e.share(e.c.now()), e.polls.n); n > 1 {
		return n
	}
	return 0
}

// A batch is the polls that share a request.
type batch struct {
	trip    *trip
	route   *bulkRoute
	limit   int // entries at most
	entries []*entry
	began   int64
	size    int // of the escaped ids, in bytes
	open    int // entries that have neither left nor been dealt with
	cancel  context.CancelFunc

	query    query
	done     []step // of which the traces and the cache are yet to be called
	base     int    // requests that had been made for the first entry
	requests int    // sent for the batch
	made     int    // numbers given to requests
}

// leave is each entry's cancel: the last one ends the exchange.
func (b *batch) leave() {
	if b.open--; b.open == 0 {
		b.cancel()
	}
}

// left returns the entries that the trip has not dealt with to the end. Of those
// that it has, another exchange may be under way, which began later.
func (b *batch) left() (left []*entry) {
	for _, en := range b.entries {
		if (en.phase == asking || en.phase == deciding) && en.started == b.began {
			left = append(left, en)
		}
	}
	return left
}

func (b *batch) lastDeadline() (t int64) {
	for _, en := range b.entries {
		t = max(t, en.lastDeadline())
	}
	return t
}

// rest returns the entries that no answer has settled, in their order.
func (b *batch) rest() (rest []*entry) {
	for _, en := range b.entries {
		if b.query.open[en.id] {
			rest = append(rest, en)
		}
	}
	return rest
}

// settle notes that an answer has settled a job.
func (b *batch) settle(en *entry) { delete(b.query.open, en.id) }

// gather returns a batch for a poll that is about to be made, with those that
// ride along marked as being asked about; nil: it is made alone.
func (t *trip) gather(en *entry, now int64) *batch {
	e := t.e
	r, limit := e.c.route.bulk, e.share(now)
	if limit < 2 || en.solo() || !r.takes(en.id) {
		return nil
	}
	if en.faults() >= trialAfter && now >= e.sharing.trialAt {
		e.sharing.trialAt = later(now, trialEvery)
		return nil
	}
	b := &batch{trip: t, route: r, limit: limit, entries: []*entry{en}, began: now, base: int(en.number)}
	b.size = len(url.QueryEscape(en.id)) + len(r.separator)
	b.addDue()
	b.addSoon()
	if len(b.entries) == 1 {
		return nil
	}
	b.query = query{ids: make([]string, len(b.entries)), open: make(map[string]bool, len(b.entries))}
	leave := b.leave
	for i, en := range b.entries {
		b.query.ids[i], b.query.open[en.id] = en.id, true
		en.cancel = leave
		t.begin(en, now)
	}
	b.open = len(b.entries)
	return b
}

// add adds a poll if it may ride and its id fits.
func (b *batch) add(en *entry) bool {
	e, r := b.trip.e, b.route
	size := len(r.separator) + len(url.QueryEscape(en.id))
	if !en.rides(b.began) || !r.takes(en.id) || b.size+size > maxBulkQuery-len(r.target.query) {
		return false
	}
	if in := en.subs.to; in.pace != nil && en.untried() && !en.placed { // it has its place among the first checks now
		e.pace.firstCheck(in, b.began, b.limit)
	}
	b.size += size
	b.entries = append(b.entries, en)
	return true
}

// rides reports whether a poll may be made now though it is not due, with
// another's request.
func (en *entry) rides(now int64) bool {
	return en.phase == waiting && !en.solo() && en.floor <= now && now-en.started >= int64(pollFloor) &&
		now < en.lastDeadline() && en.hasRoom()
}

// addDue adds polls that are due, in their order. What may not ride goes back
// to the head of its queues.
func (b *batch) addDue() {
	agenda := &b.trip.e.agenda
	b.entries[0].phase = deciding // neither waiting nor due any more
	var passed []*entry
	for len(b.entries) < b.limit && len(passed) < b.limit {
		en := agenda.take()
		if en == nil {
			break
		}
		if b.add(en) {
			en.phase = deciding
		} else {
			passed = append(passed, en)
		}
	}
	for _, en := range slices.Backward(passed) {
		agenda.giveBack(en)
	}
}

// addSoon adds those that would be due next.
func (b *batch) addSoon() {
	agenda := &b.trip.e.agenda
	var passed []*entry
	for len(agenda.heap) > 0 && len(b.entries) < b.limit && len(passed) < b.limit {
		en := heap.Pop(&agenda.heap).(*entry)
		if !b.add(en) {
			passed = append(passed, en)
		}
	}
	for _, en := range passed {
		heap.Push(&agenda.heap, en)
	}
}
