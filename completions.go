package vtclient

import "time"

// completions hold what a Learner is to learn, in the order in which the jobs
// began to be waited for, and not in that in which they ended. Of jobs that run
// at the same time the short ones end first: a Learner that gets the ends as they
// come takes all for short at first, and for long in the end, and one that forgets
// remembers only the long.
//
// A job holds up those after it until it has been waited for overdue times as
// long as any job that has ended, or holds up maxHeld of them. It is then
// learnt as given up, and learnt once more in the unlikely case that it ends.
type completions struct {
	order   []ticket
	first   uint32               // the number before that of order[0]
	held    int                  // how many in order are over
	longest time.Duration        // that any job was waited for to its end
	ready   [][]lesson           // to be delivered, in parts: to copy a million at once would take 40 ms
	panic   any                  // of a delivery in the background
	over    map[uint32]*overSeen // by number: jobs that are over, and whose results are awaited
}

// A ticket keeps a job's place in the order.
type ticket struct {
	p     *poll // nil: over
	since int64
	c     *lesson // nil: there is none
}

// A lesson is a completion and when its job began.
type lesson struct {
	Completion
	began int64
}

const (
	overdue = 4
	maxHeld = 1 << 14
)

// begin gives a poll its place.
func (o *completions) begin(p *poll, now int64) (number uint32) {
	o.order = append(o.order, ticket{p: p, since: now})
	return o.first + uint32(len(o.order))
}

// end records the end of the poll with that number. c is nil where nothing is to be
// learnt from it, and done is true if the job was seen pending and then seen to end.
func (o *completions) end(number uint32, c *lesson, done bool, now int64) {
	if i := number - o.first - 1; i < uint32(len(o.order)) {
		if done {
			o.longest = max(o.longest, time.Duration(now-o.order[i].since))
		}
		o.order[i] = ticket{c: c}
		o.held++
	} else if c != nil {
		o.deliver(*c)
	}
	o.release(now)
}

// release makes ready what no job holds up any more.
func (o *completions) release(now int64) {
	for len(o.order) > 0 {
		t := &o.order[0]
		switch {
		case t.c != nil:
			o.deliver(*t.c)
		case t.p == nil:
		case o.held < maxHeld && (o.longest == 0 || time.Duration(now-t.since)/overdue <= o.longest):
			return
		case t.p.seen:
			o.deliver(lesson{Completion{PendingAt: t.p.pendingAt, Expected: t.p.expected}, t.p.began})
		}
		if t.p == nil {
			o.held--
		}
		*t = ticket{}
		o.order = o.order[1:]
		o.first++
	}
	o.order = nil
}

// readyPart is the number of completions in a part of ready.
const readyPart = 256

// deliver makes a completion ready.
func (o *completions) deliver(c lesson) {
	last := len(o.ready) - 1
	if last < 0 || cap(o.ready[last]) >= readyPart && len(o.ready[last]) == cap(o.ready[last]) {
		o.ready = append(o.ready, nil)
		last++
	}
	o.ready[last] = append(o.ready[last], c)
}

// next takes out the completion to be delivered next.
func (o *completions) next() (c lesson, ok bool) {
	if len(o.ready) == 0 {
		return c, false
	}
	part := &o.ready[0]
	c = (*part)[0]
	if *part = (*part)[1:]; len(*part) == 0 {
		*part = nil
		o.ready = o.ready[1:]
	}
	if len(o.ready) == 0 {
		o.ready = nil
	}
	return c, true
}

// An overSeen is how a job was first seen to be over.
type overSeen struct {
	at        int64
	pendingAt int64 // it was last known to be pending
	seen      bool  // pending
	failed    bool
	hinted    bool
}

// completion returns what the end of a wait teaches, or nil. over is nil for a job that
// was not seen to be over. Nothing is learnt from one that was over at the first look
// with no start known: that is no measure of how long it took.
func completion(p *poll, over *overSeen, last *Status) *Completion {
	if over == nil {
		if !p.seen {
			return nil
		}
		return &Completion{PendingAt: p.pendingAt, Expected: p.expected}
	}
	if !over.seen && p.start == ofWait {
		return nil
	}
	c := &Completion{
		PendingAt: time.Duration(over.pendingAt - p.began), DoneBy: time.Duration(over.at - p.began),
		Expected: p.expected, Hinted: over.hinted, Failed: over.failed,
	}
	if last != nil && p.start == ofBackend && !last.EndedAt.IsZero() {
		if d := last.EndedAt.Sub(last.StartedAt); d > 0 && d <= c.DoneBy+startSlack {
			c.DoneBy, c.Exact = d, true
		}
	}
	return c
}

// sight notes that a job is over, perhaps without its result so far. It was over when it
// was first seen so, and not when the result came.
func (en *entry) sight(o *completions, st *Status, now int64) {
	if en.ticket == 0 || o.over[en.ticket] != nil {
		return
	}
	if o.over == nil {
		o.over = make(map[uint32]*overSeen)
	}
	o.over[en.ticket] = &overSeen{max(now, en.began+1), en.began + int64(en.pendingAt), en.seen, st.State == StateFailed, en.hinted}
}

// conclude records what the end of a poll teaches. last is the answer with which the job
// is over; nil: there is none. A wait that ends before its job is learnt as given up,
// and so as lasting longer than that. A caller that waits for one job again and again,
// each time for a short while and without StartedAt, so teaches many jobs where there is
// one: to the client they look alike.
func (en *entry) conclude(o *completions, last *Status, now int64) {
	if en.ticket == 0 {
		return
	}
	if last != nil {
		en.sight(o, last, now)
	}
	over := o.over[en.ticket]
	delete(o.over, en.ticket)
	var l *lesson
	if c := completion(&en.poll, over, last); c != nil {
		l = &lesson{*c, en.began}
	}
	o.end(en.ticket, l, over != nil && en.seen, now)
	en.ticket = 0
}

// forget keeps a wait whose context is cancelled from being learnt: the job goes on, and
// is learnt when this process or the next one waits for it to its end. It does nothing
// while others wait for the job, or where it is over.
func (en *entry) forget(o *completions, now int64) {
	if en.ticket != 0 && en.subs.next == en.subs && o.over[en.ticket] == nil {
		o.end(en.ticket, nil, false, now)
		en.ticket = 0
	}
}
