package vtclient

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ask makes one exchange for the polls of a batch, and one for each further
// page of the answer, and does what follows.
func (b *batch) ask() {
	t, e := b.trip, b.trip.e
	in := inquiry{id: b.entries[0].id, many: &b.query, by: t}
	var lacking []*entry
	defer b.finish()
	for {
		out := e.c.exchange(t.ctx, in, b.base+b.made+1)
		b.requests += out.requests
		b.made = out.number - b.base
		if out.verdict != answered {
			b.askSolo(lacking, 0)
			b.missed(&out)
			return
		}
		more, lacks := b.page(&out)
		lacking = append(lacking, lacks...)
		if b.query.token = b.query.next; !more || b.query.next == "" || len(b.query.open) == 0 {
			b.askSolo(lacking, 0)
			b.askSolo(b.rest(), out.hint)
			return
		}
	}
}

// page deals with a page of the answer. It reports whether the page settled
// anything, and returns the jobs that have ended and lack their results.
func (b *batch) page(out *outcome) (settled bool, lacking []*entry) {
	t, e := b.trip, b.trip.e
	byID := make(map[string]*entry, len(b.entries))
	for _, en := range b.entries {
		byID[en.id] = en
	}
	own, _ := e.c.cache.(*MemoryCache[Status])
	var steps []step
	var lastSeen []Status // of lacking
	for i := range b.query.found {
		st := b.query.found[i]
		en := byID[st.JobID]
		st.JobID = en.id // not the answer's, of which it may be a part
		switch {
		case st.State == StatePending:
			st.Body = nil
		case st.settled() && len(st.Body) > 0:
		case st.State.Terminal():
			lacking, lastSeen = append(lacking, en), append(lastSeen, st)
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
	for i, en := range lacking {
		if en.phase != over {
			en.sight(&e.completions, &lastSeen[i], e.c.now())
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
func (b *batch) finish() {
	t := b.trip
	t.announce(b.done)
	for i := range b.done {
		if s := &b.done[i]; s.seen.JobID != "" {
			t.guard(s, func() { t.e.c.remember(t.ctx, &s.seen) })
		}
	}
}

// missed deals with a shared request that brought no answer.
func (b *batch) missed(out *outcome) {
	t, e := b.trip, b.trip.e
	var unreadable *DecodeError
	if out.verdict == final || errors.As(out.err, &unreadable) {
		b.fallBack(out)
		return
	}
	rest := b.rest()
	if out.verdict == fault && out.hint == 0 {
		e.mu.Lock()
		mistrusted := e.sharing.mistrusted(b.began)
		e.mu.Unlock()
		if mistrusted {
			solo := slices.DeleteFunc(slices.Clone(rest), func(en *entry) bool { return en.faults() < trialAfter })
			b.askSolo(solo, 0)
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
func (b *batch) fallBack(out *outcome) {
	e := b.trip.e
	rest := b.rest()
	en := rest[0]
	if i := slices.IndexFunc(rest, func(en *entry) bool { return b.trip.awaited(en) }); i > 0 {
		en = rest[i]
	}
	e.mu.Lock()
	now, size, then := e.c.now(), 0, ""
	if tooLarge(out.err) {
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
		if rest, ended = b.tryOne(en, out); ended {
			return
		}
	}
	err := forJob(out.err, en, b.base)
	details(err).then = then
	e.mu.Lock()
	en.publish(&event{fault: err})
	e.mu.Unlock()
	if size > 0 {
		b.again(rest)
		return
	}
	b.askSolo(rest, out.hint)
}

// tryOne asks about one job of a batch alone. If that brings an error of the same
// kind it ends all waits of the batch, and tryOne reports true; otherwise it returns the others.
func (b *batch) tryOne(en *entry, out *outcome) (rest []*entry, ended bool) {
	t, e := b.trip, b.trip.e
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
func (b *batch) askSolo(entries []*entry, pause time.Duration) {
	e := b.trip.e
	b.replan(entries, func(en *entry, now int64) {
		answers := uint8(soloAnswers)
		if now < e.sharing.restUntil {
			answers = 0 // all are asked for alone
		}
		at := e.sharing.singles.next(now, 1, int64(firstPace))
		en.askSolo(now, at, b.requests, b.made, min(pause, e.bounds.maxRetryAfter), answers)
	})
}

// again has polls made together once more, at once.
func (b *batch) again(entries []*entry) {
	b.replan(entries, func(en *entry, now int64) {
		en.askSolo(now, now, b.requests, b.made, 0, 0)
	})
}

// replan plans the next exchanges of polls that the batch has not settled.
func (b *batch) replan(entries []*entry, plan func(*entry, int64)) {
	t, e := b.trip, b.trip.e
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
