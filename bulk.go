package vtclient

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A Bulk says how a backend is asked for many jobs in one request. With it in
// an [Endpoint], the polls of Wait, Watch and WaitAll share requests: when one
// is due, others ride along, those that are due next before the rest, and count
// as polled. First checks wait 10 ms for others to join them. Status asks for one
// job all the same, and so does a poll that is alone.
//
// What the answer does not settle is asked for singly: at once for a job that
// it lacks, one of an unknown state and one that has ended without its result.
// After a final error, such as a 404 of the bulk path, and after an answer that
// Decode cannot read, the jobs are asked for one by one; the bulk path is tried
// again after 15 s, and each time that it fails again after twice as long, up to
// 10 min. Any other fault is one of all jobs of the request, which are asked for
// together again: it never turns one request into many.
type Bulk struct {
	// Path is the path below the base URL with {ids} in its query in the place
	// of the job ids, as in "/v1/jobs?ids={ids}". Each id is escaped.
	Path string
	// Separator stands between the escaped ids, as it is; empty: ",". With
	// "&id=" and a Path of "/v1/jobs?id={ids}" the parameter is repeated. An id
	// that contains the separator is asked for singly.
	Separator string
	// Limit is the number of ids that the backend takes at once; 0: 100. Fewer
	// are sent where the query would become longer than 7,000 bytes.
	Limit int
	// Page is the name of the query parameter that asks for a further page of
	// the same answer; empty: there are none.
	Page string
	// Decode reads an answer with a 2xx status code. It returns a Status for
	// each job that the answer holds, in any order, with JobID and State and
	// what it knows of Message and Progress. Body is for a job that has ended,
	// the part of the answer that is to be its result; where Body is empty, or
	// ResultMissing set, one single request brings it. A State other than the three known ones means
	// that the answer does not settle this job, and is what to return of a job
	// that the backend says it does not know. next is the token of the next page,
	// empty on the last. As for [Endpoint].Decode, an error means that the answer
	// is unreadable, and a.Body is reused.
	Decode func(a Answer) (jobs []Status, next string, err error)
}

const (
	idsMark = "{ids}"

	// defaultBulkLimit is the number of ids in one request where Bulk.Limit is 0.
	defaultBulkLimit = 100

	// maxBulkQuery bounds the query of a bulk request in bytes, and maxPageToken
	// what is added to it for a further page. Servers commonly refuse a request
	// line of more than 8 KiB.
	maxBulkQuery = 7000
	maxPageToken = 512

	// gatherTime is how long a first check waits for others to share its
	// request: much less than a round trip, and enough for callers that begin
	// together.
	gatherTime = 10 * time.Millisecond

	// bulkRest is how long a bulk path that has failed is left alone at first,
	// and maxBulkRest at most.
	bulkRest    = 15 * time.Second
	maxBulkRest = 10 * time.Minute

	// apartFor is the number of answers to single requests after which a job
	// that a shared one did not settle shares again. A backend whose bulk path
	// never knows a job is so asked five requests in the place of four.
	apartFor = 4

	// A poll that has met trialAfter faults in a row in shared requests is asked
	// for singly instead, once each trialEvery for the whole client. If that is
	// answered and the next shared request fails again, within trialTrust, it is
	// the sharing that fails: the bulk path is down, or one job's id breaks it.
	trialAfter = 4
	trialEvery = 30 * time.Second
	trialTrust = time.Minute
)

// A bulkRoute is a Bulk bound to a base URL.
type bulkRoute struct {
	target    target
	separator string
	limit     int
	page      string
	decode    func(Answer) ([]Status, string, error)
}

// newBulkRoute returns nil if b is the zero value.
func newBulkRoute(base *url.URL, b Bulk) (*bulkRoute, error) {
	if b.Path == "" && b.Separator == "" && b.Limit == 0 && b.Page == "" && b.Decode == nil {
		return nil, nil
	}
	var errs []error
	refuse := func(bad bool, field string, value any, expected string) {
		if bad {
			errs = append(errs, badArgument("Endpoint.Bulk."+field, value, expected))
		}
	}
	r := &bulkRoute{separator: b.Separator, limit: b.Limit, page: b.Page, decode: b.Decode}
	if r.separator == "" {
		r.separator = ","
	}
	if r.limit == 0 {
		r.limit = defaultBulkLimit
	}
	unescaped := func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '#' }
	_, query, _ := strings.Cut(b.Path, "?")
	if strings.Count(b.Path, idsMark) != 1 || !strings.Contains(query, idsMark) || strings.Contains(b.Path, idMark) {
		refuse(true, "Path", b.Path, "a path with "+idsMark+" once in its query, as in /v1/jobs?ids={ids}")
	} else {
		var err error
		r.target, err = parseTarget("Endpoint.Bulk.Path", base, b.Path)
		errs = append(errs, err)
	}
	refuse(strings.ContainsFunc(r.separator, unescaped), "Separator", b.Separator, "a separator that may stand in a query")
	refuse(b.Limit < 0, "Limit", b.Limit, "a positive number, or 0 for 100")
	refuse(b.Page != url.QueryEscape(b.Page), "Page", b.Page, "a parameter name that needs no escaping")
	refuse(b.Decode == nil, "Decode", words("nil"), "a function")
	return r, errors.Join(errs...)
}

// takes reports whether an id may stand among others.
func (r *bulkRoute) takes(id string) bool {
	return id != "" && !strings.Contains(id, r.separator)
}

// idParams returns the query parameters that hold ids.
func (r *bulkRoute) idParams() (names []string) {
	two := strings.Replace(r.target.query, idsMark, idsMark+r.separator+idsMark, 1)
	for pair := range strings.SplitSeq(two, "&") {
		if name, value, _ := strings.Cut(pair, "="); strings.Contains(value, idsMark) {
			names = append(names, name)
		}
	}
	return names
}

// address makes u the URL of a request.
func (r *route) address(u *url.URL, asked inquiry) {
	*u = *r.base
	q := asked.many
	if q == nil {
		r.url(u, asked.id)
		return
	}
	escaped := make([]string, len(q.ids))
	for i, id := range q.ids {
		escaped[i] = url.QueryEscape(id)
	}
	t := &r.bulk.target
	u.Path, u.RawPath = t.path[0], t.rawPath[0]
	u.RawQuery = strings.Replace(t.query, idsMark, strings.Join(escaped, r.bulk.separator), 1)
	if q.token != "" {
		u.RawQuery += "&" + r.bulk.page + "=" + url.QueryEscape(q.token)
	}
}

// A query is one request for several jobs, or for a further page of the answer
// about them.
type query struct {
	ids   []string        // those asked for
	open  map[string]bool // those of them that no page has settled
	token string          // of the page; "": the first
	found []Status
	next  string
}

// read reads an answer into q: the open jobs that it holds, each once.
func (q *query) read(r *bulkRoute, a Answer) error {
	all, next, err := r.decode(a)
	if err != nil {
		return err
	}
	if q.found, q.next = q.found[:0], next; r.page == "" {
		q.next = ""
	}
	if len(url.QueryEscape(q.next)) > maxPageToken {
		return fmt.Errorf("the token of the next page is longer than %d bytes", maxPageToken)
	}
	seen := make(map[string]bool, len(all))
	for _, st := range all {
		if q.open[st.JobID] && !seen[st.JobID] {
			seen[st.JobID] = true
			q.found = append(q.found, st)
		}
	}
	if len(q.found) == 0 && q.next == "" && q.token == "" {
		return fmt.Errorf("none of the %d jobs asked for is in the answer", len(q.ids))
	}
	return nil
}

// A batch is the polls that share a request.
type batch struct {
	polls  []*poll
	began  int64
	size   int // of the escaped ids, in bytes
	open   int // polls that have neither left nor been dealt with; guarded by poller.mu
	cancel context.CancelFunc
	wanted map[string]*poll // those without an answer yet
	at     *poll            // the one being dealt with
}

// leave is each poll's cancel: the last one ends the exchange.
func (b *batch) leave() {
	if b.open--; b.open == 0 {
		b.cancel()
	}
}

// left returns the polls that have not been dealt with to the end. Of those that
// have, the exchange is over, or another one is in flight, which began later.
func (b *batch) left() (ps []*poll) {
	for _, p := range b.polls {
		if !p.gone && (p == b.at || p.cancel != nil && p.started == b.began) {
			ps = append(ps, p)
		}
	}
	return ps
}

// board adds a poll to the batch and marks it as in flight.
func (e *poller) board(b *batch, p *poll, leave func(), now int64) {
	b.size += len(url.QueryEscape(p.id)) + len(e.c.route.bulk.separator)
	b.polls = append(b.polls, p)
	b.open++
	p.cancel = leave
	if p.pace != nil { // it has its place among the first checks now
		p.pace.next(now, e.maxWorkers, e.share(now))
		p.pace = nil
	}
	e.mark(p, now)
}

// sharing is what a client with a Bulk knows of its bulk path. It is guarded by
// poller.mu.
type sharing struct {
	restFrom  int64 // when the bulk path failed last
	restUntil int64 // it is left alone before
	failures  int   // in a row
	trialAt   int64 // when the next trial by a single request may be made
	trialOK   int64 // when one was answered while shared requests failed
	singles   pacer // of the single requests that shared ones leave to be made
}

// share is how many jobs a request may ask for now.
func (e *poller) share(now int64) int {
	if r := e.c.route.bulk; r != nil && now >= e.sharing.restUntil {
		return r.limit
	}
	return 1
}

// shared is how many jobs a request would probably ask for now, as Attempt.Shared
// has it.
func (e *poller) shared() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := min(e.share(e.c.now()), len(e.polls)); n > 1 {
		return n
	}
	return 0
}

// gather returns a batch for a poll that is about to be made, with those that
// ride along marked as in flight; nil: it is made alone.
func (e *poller) gather(p *poll, now int64) *batch {
	r := e.c.route.bulk
	limit := e.share(now)
	if r == nil || limit < 2 || len(e.polls) < 2 || p.alone() || !r.takes(p.id) {
		return nil
	}
	if p.faults >= trialAfter && now >= e.sharing.trialAt {
		e.sharing.trialAt = later(now, trialEvery)
		return nil
	}
	b := &batch{began: now}
	leave := b.leave
	e.board(b, p, leave, now)
	room := maxBulkQuery - len(r.target.query)
	rides := func(p *poll) bool {
		return len(b.polls) < limit && p.rides(now) && r.takes(p.id) &&
			b.size+len(r.separator)+len(url.QueryEscape(p.id)) <= room
	}
	// First those that are due, in their order. What may not ride stays in front.
	kept := 0
	for i := 0; i < len(e.ready) && len(b.polls) < limit && kept < limit; i++ {
		if q := e.ready[i]; rides(q) {
			q.queued = false
			e.board(b, q, leave, now)
		} else {
			kept++
		}
	}
	if n := len(b.polls) - 1; n > 0 {
		e.ready = unqueue(e.ready, n+kept)
	}
	// Then those that would be due next.
	var passed []*poll
	for len(e.heap) > 0 && len(b.polls) < limit && len(passed) < limit {
		q := heap.Pop(&e.heap).(*poll)
		if rides(q) && !q.queued {
			e.board(b, q, leave, now)
		} else {
			passed = append(passed, q)
		}
	}
	for _, q := range passed {
		heap.Push(&e.heap, q)
	}
	if len(b.polls) == 1 {
		p.cancel = nil
		return nil
	}
	return b
}

// unqueue takes out of the first n of a queue those that are no longer queued.
func unqueue(ready []*poll, n int) []*poll {
	at := n
	for i := n - 1; i >= 0; i-- {
		if q := ready[i]; q.queued {
			at--
			ready[at] = q
		}
	}
	clear(ready[:at])
	if ready = ready[at:]; len(ready) == 0 {
		return nil
	}
	return ready
}

// alone reports whether a poll has to be made by a single request, as a shared
// one has just not settled it, or cannot bring what it lacks.
func (p *poll) alone() bool { return p.apart > 0 || p.bare != nil }

// rides reports whether a poll may be made now though it is not due, with
// another's request.
func (p *poll) rides(now int64) bool {
	return !p.gone && p.cancel == nil && !p.parked && !p.alone() && p.floor <= now &&
		now-p.started >= int64(pollFloor) && p.alive(now) && !p.allFull()
}

// depart returns the context of a batch: it carries the values of one of those
// who wait, and ends when the last of them all has left.
func (e *poller) depart(b *batch) context.Context {
	deadline := int64(0)
	for _, p := range b.polls {
		deadline = max(deadline, p.lastDeadline())
	}
	var ctx context.Context
	ctx, b.cancel = e.detach(b.polls[0], deadline)
	return ctx
}

// runBatch makes one exchange for the polls of a batch, and one for each further
// page of the answer, and acts on what they bring.
func (e *poller) runBatch(ctx context.Context, b *batch) {
	q := &query{ids: make([]string, len(b.polls)), open: make(map[string]bool, len(b.polls))}
	b.wanted = make(map[string]*poll, len(b.polls))
	for i, p := range b.polls {
		b.wanted[p.id] = p
		q.ids[i], q.open[p.id] = p.id, true
	}
	wanted := func() bool { return e.wanted(b.rest()...) }
	base := int(b.polls[0].number)
	requests, made := 0, 0
	var lacking []*poll
	for {
		out := e.c.exchange(ctx, inquiry{id: b.polls[0].id, many: q, wanted: wanted}, base+made+1)
		requests += out.requests
		made = out.number - base
		if out.verdict != answered {
			e.askSingly(ctx, b, lacking, requests, made, 0)
			e.missed(ctx, b, &out, requests, made, base)
			return
		}
		e.bulkWorks(b)
		for i := range q.found {
			st := q.found[i]
			p := b.wanted[st.JobID]
			switch {
			case st.State == StatePending:
				st.Body = nil
			case st.settled() && len(st.Body) > 0:
			case st.State.Terminal():
				delete(b.wanted, p.id)
				delete(q.open, p.id)
				lacking = append(lacking, p)
				e.sawEnd(p)
				continue
			default:
				continue // wanted still
			}
			delete(b.wanted, p.id)
			delete(q.open, p.id)
			b.at = p
			e.act(ctx, p, &outcome{
				verdict: answered, status: st, hint: out.hint,
				requests: requests, number: int(p.number) + made, jobs: out.jobs,
			})
		}
		b.at = nil
		if q.token = q.next; q.next == "" || len(q.found) == 0 || len(b.wanted) == 0 {
			e.askSingly(ctx, b, lacking, requests, made, 0)
			e.askSingly(ctx, b, b.rest(), requests, made, out.hint)
			return
		}
	}
}

// sawEnd notes that a job is over, whose result is yet to be asked for.
func (e *poller) sawEnd(p *poll) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !p.gone {
		e.conclude(p, max(1, time.Duration(e.c.now()-p.began)))
	}
}

// rest returns the polls that no answer has settled, in their order.
func (b *batch) rest() (ps []*poll) {
	for _, p := range b.polls {
		if b.wanted[p.id] != nil {
			ps = append(ps, p)
		}
	}
	return ps
}

// missed acts on a shared request that brought no answer.
func (e *poller) missed(ctx context.Context, b *batch, out *outcome, requests, made, base int) {
	var unreadable *DecodeError
	if out.verdict == final || errors.As(out.err, &unreadable) {
		e.fallBack(ctx, b, out, requests, made, base)
		return
	}
	if out.verdict == refused {
		out.refusal = asSaid(errors.Unwrap(out.err))
	}
	rest := b.rest()
	if out.verdict == fault && out.hint == 0 {
		if apart := e.mistrusted(b, rest); len(apart) > 0 {
			e.askSingly(ctx, b, apart, requests, made, 0)
			for _, p := range apart {
				delete(b.wanted, p.id)
			}
			rest = b.rest()
		}
	}
	// The delay is that of the poll that has met most trouble, and one for all,
	// so that they are asked for together again.
	type missing struct {
		p   *poll
		out outcome
		n   note
	}
	var all []missing
	var worst *note
	for _, p := range rest {
		m := missing{p: p, out: *out}
		m.out.requests, m.out.number = requests, int(p.number)+made
		m.out.err = forJob(out.err, p, base)
		var ok bool
		if m.n, ok = e.note(p, &m.out); ok {
			all = append(all, m)
		}
	}
	for i := range all {
		if n := &all[i].n; n.cause == nil && (worst == nil || n.retrying.Number > worst.retrying.Number) {
			worst = n
		}
	}
	if worst != nil {
		worst.ask(e.c, out)
	}
	for i := range all {
		m := &all[i]
		if m.n.cause == nil {
			m.n.delay = worst.delay
		}
		b.at = m.p
		e.goOn(ctx, m.p, &m.out, m.n)
	}
}

// forJob returns the error of a shared request as that of one of its jobs.
// base is the number of requests that had been made for the first one.
func forJob(err error, p *poll, base int) error {
	if err == nil {
		return nil
	}
	err = snapshot(err)
	if r, ok := err.(*RefusedError); ok {
		r.JobID = p.id
	}
	d := details(err)
	d.JobID, d.Attempt = p.id, int(p.number)+d.Attempt-base
	return err
}

// mistrusted returns those of the polls whose single requests are worth a try,
// because one was answered while shared ones failed.
func (e *poller) mistrusted(b *batch, ps []*poll) (apart []*poll) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ok := e.sharing.trialOK; ok == 0 || b.began <= ok || b.began-ok > int64(trialTrust) {
		return nil
	}
	for _, p := range ps {
		if p.faults >= trialAfter {
			apart = append(apart, p)
		}
	}
	return apart
}

// fallBack has the jobs of a batch asked for one by one, because the bulk path
// gave an error that a further try would not change, or nothing that can be
// read. One wait is told. Where the error is likely to be that of single
// requests, too, one of them says whether it is: then it ends them all.
func (e *poller) fallBack(ctx context.Context, b *batch, out *outcome, requests, made, base int) {
	rest := b.rest()
	p := rest[0]
	if i := slices.IndexFunc(rest, func(p *poll) bool { return e.wanted(p) }); i > 0 {
		p = rest[i]
	}
	pause := e.restBulk(b)
	if out.verdict == final && blanket(out.err) {
		single := e.c.exchange(ctx, inquiry{id: p.id, wanted: func() bool { return e.wanted(p) }}, int(p.number)+made+1)
		single.requests += requests
		delete(b.wanted, p.id)
		same := single.verdict == final && blanket(single.err)
		b.at = p
		e.act(ctx, p, &single)
		if rest = b.rest(); same {
			for _, p := range rest {
				b.at = p
				e.act(ctx, p, &outcome{verdict: final, err: forJob(out.err, p, base), requests: requests, number: int(p.number) + made})
			}
			return
		}
	}
	err := forJob(out.err, p, base)
	details(err).then = fmt.Sprintf("jobs are asked for one by one for %v", pause)
	e.mu.Lock()
	e.publish(p, &event{fault: err})
	e.mu.Unlock()
	e.askSingly(ctx, b, rest, requests, made, out.hint)
}

// blanket reports whether an error is of the kind that has nothing to do with
// the path that was asked: a wrong key, a wrong certificate. A 403 may be about
// one of the jobs.
func blanket(err error) bool {
	var t *TransportError
	return unauthorized(err) || errors.As(err, &t)
}

// restBulk leaves the bulk path alone for a while, and returns how long.
func (e *poller) restBulk(b *batch) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, now := &e.sharing, e.c.now()
	if b.began >= s.restUntil { // not one of several that were under way
		s.failures++
		s.restFrom = now
		s.restUntil = later(now, min(bulkRest<<min(s.failures-1, 10), maxBulkRest))
	}
	return time.Duration(max(0, s.restUntil-now)).Round(time.Second)
}

func (e *poller) bulkWorks(b *batch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.began > e.sharing.restFrom {
		e.sharing.failures = 0
	}
}

// askSingly has polls made alone that a shared request did not settle: now, one
// after the other, or after the pause that the server asked for.
func (e *poller) askSingly(ctx context.Context, b *batch, ps []*poll, requests, made int, pause time.Duration) {
	for _, p := range ps {
		e.mu.Lock()
		if p.gone {
			e.mu.Unlock()
			continue
		}
		now := e.c.now()
		p.requests += int32(requests)
		p.number += int32(made)
		p.cancel()
		p.cancel = nil
		p.hinted, p.again = p.hinted || p.again, false
		if p.apart = apartFor; now < e.sharing.restUntil {
			p.apart = 0 // all are asked for alone
		}
		p.floor = 0
		p.next = max(e.sharing.singles.next(now, 1, 1), p.started+int64(pollFloor))
		if pause = min(pause, e.c.maxRetryAfter); pause > 0 {
			p.floor = later(now, pause)
			p.next = max(p.next, p.floor)
		}
		e.plan(p, now)
		info := TraceInfo{JobID: p.id, Attempt: int(p.number) + 1, Delay: time.Duration(max(0, p.due-now))}
		b.at = p
		e.mu.Unlock()
		e.c.emit(ctx, traceScheduled, info)
		b.at = nil
	}
}
