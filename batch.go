package vtclient

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"
)

const (
	// gatherTime is how long a first check waits for others to share its
	// request: much less than a round trip, and enough for callers that begin
	// together.
	gatherTime = 10 * time.Millisecond

	// bulkRest is how long a bulk path that has failed is left alone at first,
	// and maxBulkRest at most.
	bulkRest    = 15 * time.Second
	maxBulkRest = 10 * time.Minute

	// soloAnswers is the number of answers to single requests after which a job
	// that a shared one did not settle shares again. A backend whose bulk path
	// never answers for a job is so asked five requests in the place of four.
	soloAnswers = 4

	// A poll that has met trialAfter faults in a row in shared requests is asked
	// for singly instead, once each trialEvery for the whole client. If that is
	// answered and the next shared request fails again, within trialTrust, it is
	// the sharing that fails: the bulk path is down, or one job's id breaks it.
	trialAfter = 4
	trialEvery = 30 * time.Second
	trialTrust = time.Minute
)

// A sharing is what the engine has learnt of the bulk path. The zero value knows
// of no trouble. Guarded by engine.mu.
type sharing struct {
	restFrom  int64 // when the bulk path failed last
	restUntil int64 // it is left alone before
	failures  int   // in a row
	trialAt   int64 // when the next trial by a single request may be made
	trialOK   int64 // when one was answered while shared requests failed
	singles   pacer // of the single requests that shared ones leave to be made

	size      int // jobs that a request may ask for, before sizeUntil
	sizeUntil int64
	shrunk    int // times, since a shared request was answered
}

// limit is how many jobs a request may ask for now, where the backend takes most.
func (s *sharing) limit(now int64, most int) int {
	switch {
	case now < s.restUntil:
		return 1
	case now < s.sizeUntil:
		return min(s.size, most)
	}
	return most
}

// maxShrunk is how often requests are made smaller in a row. An answer that is too
// large for a quarter of the jobs, too, is not so because of their number.
const maxShrunk = 2

// shrink makes requests half as large for a while, after an answer about n jobs
// that was larger than allowed. It returns the new size; 0: that is of no use.
func (s *sharing) shrink(now int64, n int) int {
	if now >= s.sizeUntil {
		s.size = n
	}
	if n <= s.size { // else one of several that were under way
		if s.shrunk++; s.shrunk > maxShrunk || n < 2 {
			return 0
		}
		s.size, s.sizeUntil = n/2, later(now, maxBulkRest)
	}
	return s.size
}

// rest leaves the bulk path alone for a while after a request that began at
// began, and returns for how long.
func (s *sharing) rest(now, began int64) time.Duration {
	if began >= s.restUntil { // not one of several that were under way
		s.failures++
		s.restFrom = now
		s.restUntil = later(now, min(bulkRest<<min(s.failures-1, 10), maxBulkRest))
	}
	return time.Duration(max(0, s.restUntil-now)).Round(time.Second)
}

// works notes that a shared request that began at began was answered.
func (s *sharing) works(began int64) {
	if s.shrunk = 0; began > s.restFrom {
		s.failures = 0
	}
}

// mistrusted reports whether the sharing is what fails: a single request was
// answered not long before a shared one that began at began failed.
func (s *sharing) mistrusted(began int64) bool {
	return s.trialOK != 0 && began > s.trialOK && began-s.trialOK <= int64(trialTrust)
}

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
func (e *engine) gather(en *entry, now int64) *batch {
	r, limit := e.c.route.bulk, e.share(now)
	if r == nil || limit < 2 || e.polls.n < 2 || en.solo() || !r.takes(en.id) {
		return nil
	}
	if en.faults() >= trialAfter && now >= e.sharing.trialAt {
		e.sharing.trialAt = later(now, trialEvery)
		return nil
	}
	b := &batch{began: now, entries: []*entry{en}, base: int(en.number)}
	b.size = len(url.QueryEscape(en.id)) + len(r.separator)
	e.gatherDue(b, r, limit, now)
	e.gatherSoon(b, r, limit, now)
	if len(b.entries) == 1 {
		return nil
	}
	b.query = query{ids: make([]string, len(b.entries)), open: make(map[string]bool, len(b.entries))}
	leave := b.leave
	for i, en := range b.entries {
		b.query.ids[i], b.query.open[en.id] = en.id, true
		en.cancel = leave
		e.begin(en, now)
	}
	b.open = len(b.entries)
	return b
}

// board adds a poll to a batch if it may ride and there is room.
func (e *engine) board(b *batch, r *bulkRoute, limit int, en *entry, now int64) bool {
	size := len(r.separator) + len(url.QueryEscape(en.id))
	if len(b.entries) == limit || !en.rides(now) || !r.takes(en.id) || b.size+size > maxBulkQuery-len(r.target.query) {
		return false
	}
	if in := en.subs.to; in.pace != nil && en.untried() && !en.placed { // it has its place among the first checks now
		e.firstCheck(in, now)
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

// gatherDue adds polls that are due, in their order. What may not ride goes back
// to the head of its queues.
func (e *engine) gatherDue(b *batch, r *bulkRoute, limit int, now int64) {
	b.entries[0].phase = deciding // neither waiting nor due any more
	var passed []*entry
	for len(b.entries) < limit && len(passed) < limit {
		en := e.agenda.take()
		if en == nil {
			break
		}
		if e.board(b, r, limit, en, now) {
			en.phase = deciding
		} else {
			passed = append(passed, en)
		}
	}
	for _, en := range slices.Backward(passed) {
		e.agenda.giveBack(en)
	}
}

// gatherSoon adds those that would be due next.
func (e *engine) gatherSoon(b *batch, r *bulkRoute, limit int, now int64) {
	var passed []*entry
	for len(e.agenda.heap) > 0 && len(b.entries) < limit && len(passed) < limit {
		en := heap.Pop(&e.agenda.heap).(*entry)
		if en.phase != waiting || !e.board(b, r, limit, en, now) {
			passed = append(passed, en)
		}
	}
	for _, en := range passed {
		heap.Push(&e.agenda.heap, en)
	}
}

// askTogether makes one exchange for the polls of a batch, and one for each further
// page of the answer, and does what follows.
func (t *trip) askTogether() {
	e, b := t.e, t.batch
	in := inquiry{id: b.entries[0].id, many: &b.query, by: t}
	var lacking []*entry
	defer t.finish()
	for {
		out := e.c.exchange(t.ctx, in, b.base+b.made+1)
		b.requests += out.requests
		b.made = out.number - b.base
		if out.verdict != answered {
			t.askSolo(lacking, 0)
			t.missed(&out)
			return
		}
		more, lacks := t.page(&out)
		lacking = append(lacking, lacks...)
		if b.query.token = b.query.next; !more || b.query.next == "" || len(b.query.open) == 0 {
			t.askSolo(lacking, 0)
			t.askSolo(b.rest(), out.hint)
			return
		}
	}
}

// page deals with a page of the answer. It reports whether the page settled
// anything, and returns the jobs that have ended and lack their results.
func (t *trip) page(out *outcome) (settled bool, lacking []*entry) {
	e, b := t.e, t.batch
	byID := make(map[string]*entry, len(b.entries))
	for _, en := range b.entries {
		byID[en.id] = en
	}
	own, _ := e.c.cache.(*MemoryCache[Status])
	var steps []step
	for i := range b.query.found {
		st := b.query.found[i]
		en := byID[st.JobID]
		switch {
		case st.State == StatePending:
			st.Body = nil
		case st.settled() && len(st.Body) > 0:
		case st.State.Terminal():
			lacking = append(lacking, en)
			b.settle(en)
			continue
		default:
			continue // open still
		}
		b.settle(en)
		steps = append(steps, step{entry: en, out: outcome{
			verdict: answered, status: st, hint: out.hint,
			requests: b.requests, number: int(en.number) + b.made, jobs: out.jobs,
		}})
		if own != nil {
			e.c.remember(t.ctx, &st)
		}
	}
	e.mu.Lock()
	e.sharing.works(b.began)
	for _, en := range lacking {
		if en.phase != over {
			e.conclude(en, max(1, time.Duration(e.c.now()-en.began)), e.c.now())
		}
	}
	e.mu.Unlock()
	if own == nil {
		for i := range steps {
			steps[i].seen = steps[i].out.status
		}
	}
	t.conclude(steps)
	b.done = append(b.done, steps...)
	return len(steps)+len(lacking) > 0, lacking
}

// finish calls the caller's code about jobs that are dealt with: the traces, and a cache
// that is not the package's own. Neither holds up a further page of the answer.
func (t *trip) finish() {
	b := t.batch
	t.announce(b.done)
	for i := range b.done {
		if s := &b.done[i]; s.seen.JobID != "" {
			t.guard(s, func() { t.e.c.remember(t.ctx, &s.seen) })
		}
	}
}

// missed deals with a shared request that brought no answer.
func (t *trip) missed(out *outcome) {
	e, b := t.e, t.batch
	var unreadable *DecodeError
	if out.verdict == final || errors.As(out.err, &unreadable) {
		t.fallBack(out)
		return
	}
	rest := b.rest()
	if out.verdict == fault && out.hint == 0 {
		e.mu.Lock()
		mistrusted := e.sharing.mistrusted(b.began)
		e.mu.Unlock()
		if mistrusted {
			solo := slices.DeleteFunc(slices.Clone(rest), func(en *entry) bool { return en.faults() < trialAfter })
			t.askSolo(solo, 0)
			for _, en := range solo {
				b.settle(en)
			}
			rest = b.rest()
		}
	}
	steps := make([]step, len(rest))
	for i, en := range rest {
		steps[i] = step{entry: en, out: *out}
		steps[i].out.requests, steps[i].out.number = b.requests, int(en.number)+b.made
		steps[i].out.err = forJob(out.err, en, b.base)
	}
	t.conclude(steps)
	b.done = append(b.done, steps...)
}

// forJob returns the error of a shared request as that of one of its jobs.
// base is the number of requests that had been made for the first one.
func forJob(err error, en *entry, base int) error {
	if err == nil {
		return nil
	}
	err = snapshot(err)
	if r, ok := err.(*RefusedError); ok {
		r.JobID = en.id
	}
	d := details(err)
	d.JobID, d.Attempt = en.id, int(en.number)+d.Attempt-base
	return err
}

// fallBack has the jobs of a batch asked for one by one, because the bulk path
// gave an error that a further try would not change, or nothing that can be
// read; an answer that was too large is asked for again in halves. One wait gets
// the error. Where it is likely to be that of single requests, too, one of them
// decides: then it ends them all.
func (t *trip) fallBack(out *outcome) {
	e, b := t.e, t.batch
	rest := b.rest()
	en := rest[0]
	if i := slices.IndexFunc(rest, func(en *entry) bool { return e.wanted(en) }); i > 0 {
		en = rest[i]
	}
	e.mu.Lock()
	now, size, then := e.c.now(), 0, ""
	if errors.Is(out.err, ErrBodyTooLarge) {
		size = e.sharing.shrink(now, len(b.entries))
	}
	if size > 0 {
		then = fmt.Sprintf("the next request asks for %d jobs at most", size)
	} else {
		then = fmt.Sprintf("jobs are asked for one by one for %v", e.sharing.rest(now, b.began))
	}
	e.mu.Unlock()
	if out.verdict == final && blanket(out.err) {
		var ended bool
		if rest, ended = t.tryOne(en, out); ended {
			return
		}
	}
	err := forJob(out.err, en, b.base)
	details(err).then = then
	e.mu.Lock()
	en.publish(&event{fault: err})
	e.mu.Unlock()
	if size > 0 {
		t.again(rest)
		return
	}
	t.askSolo(rest, out.hint)
}

// tryOne asks about one job of a batch alone. If that brings an error of the same
// kind it ends all waits of the batch, and tryOne reports true; otherwise it returns the others.
func (t *trip) tryOne(en *entry, out *outcome) (rest []*entry, ended bool) {
	e, b := t.e, t.batch
	single := e.c.exchange(t.ctx, inquiry{id: en.id, by: &trip{e: e, entry: en}}, int(en.number)+b.made+1)
	single.requests += b.requests
	b.settle(en)
	if single.verdict == answered {
		e.c.remember(t.ctx, &single.status)
	}
	same := single.verdict == final && blanket(single.err)
	steps := []step{{entry: en, out: single}}
	rest = b.rest()
	if same {
		for _, en := range rest {
			steps = append(steps, step{entry: en, out: outcome{
				verdict: final, err: forJob(out.err, en, b.base), requests: b.requests, number: int(en.number) + b.made,
			}})
		}
	}
	t.conclude(steps)
	b.done = append(b.done, steps...)
	return rest, same
}

// blanket reports whether an error is of the kind that has nothing to do with
// the path that was asked: a wrong key, a wrong certificate. A 403 may be about
// one of the jobs.
func blanket(err error) bool {
	var t *TransportError
	return unauthorized(err) || errors.As(err, &t)
}

// askSolo has polls made alone that a shared request did not settle: now, one
// after the other, or after the pause that the server asked for.
func (t *trip) askSolo(entries []*entry, pause time.Duration) {
	e := t.e
	t.replan(entries, func(en *entry, now int64) {
		answers := uint8(soloAnswers)
		if now < e.sharing.restUntil {
			answers = 0 // all are asked for alone
		}
		at := e.sharing.singles.next(now, 1, int64(firstPace))
		en.askSolo(now, at, t.batch.requests, t.batch.made, min(pause, e.bounds.maxRetryAfter), answers)
	})
}

// again has polls made together once more, at once.
func (t *trip) again(entries []*entry) {
	t.replan(entries, func(en *entry, now int64) {
		en.askSolo(now, now, t.batch.requests, t.batch.made, 0, 0)
	})
}

// replan plans the next exchanges of polls that the batch has not settled.
func (t *trip) replan(entries []*entry, plan func(*entry, int64)) {
	e := t.e
	infos := make([]TraceInfo, 0, len(entries))
	e.mu.Lock()
	now := e.c.now()
	for _, en := range entries {
		if en.phase == over {
			continue
		}
		en.cancel()
		en.cancel = nil
		plan(en, now)
		due := e.plan(en, now)
		infos = append(infos, TraceInfo{JobID: en.id, Attempt: int(en.number) + 1, Delay: time.Duration(max(0, due-now))})
	}
	e.dispatch(now)
	e.mu.Unlock()
	for _, info := range infos {
		e.c.emit(t.ctx, traceScheduled, info)
	}
}
