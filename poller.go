package vtclient

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

const (
	// pollFloor is the least time from the start of one poll of a job to the
	// start of the next, whatever a Backoff says: no bug in one may become a
	// busy loop.
	pollFloor = 10 * time.Millisecond

	// hintGap is the least time between two checks of one job that hints
	// brought about. It bounds what forged hints cost.
	hintGap = time.Second

	// lastLead is the least time before a deadline at which the last poll is
	// made, and firstLead the one used while no round trip has been measured.
	lastLead  = 20 * time.Millisecond
	firstLead = 500 * time.Millisecond

	// resultGap is the time until a job that is completed, but whose result is
	// missing, is looked at again; it doubles from look to look. After
	// resultBound from the first such answer the job is handed over as it is.
	resultGap   = time.Second
	resultBound = 30 * time.Second
)

// A poll is what the client knows about one job that somebody waits for. It
// is a small state machine without goroutine or timer. Its fields are guarded
// by poller.mu.
type poll struct {
	id   string
	subs *sub // those who wait

	index int   // in the heap; -1: not there
	key   int64 // when the engine has to look at it: the earlier of due and a job's own deadline
	due   int64 // when the next exchange is due
	next  int64 // the same before last polls are moved in front of deadlines

	cancel context.CancelFunc // of the exchange in flight; nil: none is
	pace   *pacer             // gives the first check its place among those of a WaitAll; nil: has done so

	began     int64         // start of the job where known, else of the wait
	pendingAt time.Duration // age at which it was last known to be pending
	expected  time.Duration
	checkedAt int64 // when the last answer came
	started   int64 // when the last exchange began; negative: none has
	floor     int64 // the server asked for no poll before
	faultAt   int64 // the first fault since the last answer
	refusedAt int64 // the first refusal since the last answer
	hintedAt  int64 // when the last check after a hint began; 0: there was none
	progress  float64
	message   string
	fault     error // the last one met
	refusal   error // what the breaker said last, if nothing was sent since
	bare      *bare // completed, but without its result so far; nil: not that we know

	ticket   int // its number in poller.order
	requests int32
	number   int32 // of the last request, those counted that a fault kept from being sent
	faults   int32 // since the last answer
	tries    int32 // faults and refusals since the last answer

	known  bool  // the job's start is known
	seen   bool  // it was seen pending
	apart  uint8 // so many more answers to single exchanges until it may share one
	hinted bool  // the next exchange answers a hint, or the one in flight does
	again  bool  // a hint came while an exchange was in flight
	queued bool  // in the queue of those due
	parked bool  // due, but nobody has room for an answer
	gone   bool  // over: no longer the client's
	taught bool  // its lesson is noted
}

// A bare is a completed job whose result is missing.
type bare struct {
	status Status // as last answered
	until  int64  // when it is handed over as it is
	gap    time.Duration
}

// overdue reports whether p is a completed job that is handed over without its
// result now.
func (p *poll) overdue(now int64) bool { return p.bare != nil && now >= p.bare.until }

// inTime returns t, or the time at which the result has been missing for long
// enough, if that is earlier.
func (p *poll) inTime(t int64) int64 {
	if p.bare != nil {
		return min(t, p.bare.until)
	}
	return t
}

// A sub is one subscription to a poll.
type sub struct {
	next, prev *sub // of the same poll
	poll       *poll
	to         *inbox
	nextIn     *sub // of the same inbox
	prevIn     *sub
	deadline   int64 // of the context or the job's own; never: none
	lastAt     int64 // when the last poll before the deadline is made; 0: not chosen yet
	moved      bool  // that poll was put off beyond its time because the server asked for it
	ownExpires bool  // the deadline is the job's own, so nobody but the engine watches it
	parked     bool  // in its inbox's list of those parked
}

// An event is what an inbox holds: a pending or terminal status, a fault that
// is survived, or the error that ends a job. Several inboxes may share it, so it is
// never changed.
type event struct {
	status   Status
	fault    error
	err      error
	panicked any
}

func (ev *event) ends() bool {
	return ev.err != nil || ev.panicked != nil || ev.status.State.Terminal()
}

// An inbox is where the answers for one Wait, Watch or WaitAll arrive. Its
// fields are guarded by poller.mu.
type inbox struct {
	ctx                     context.Context
	wantPending, wantFaults bool
	limit                   int           // this many events, and its jobs are not polled for it
	ready                   chan struct{} // holds a token if there may be something to take
	room                    chan struct{} // likewise, for who feeds the inbox; nil: nobody does
	events                  []*event
	loose                   int    // how many of them end no job, and so may be dropped
	subs, last              *sub   // in the order in which they were given
	parked                  []*sub // whose polls were put aside for want of room
	busy                    bool   // with the event taken last: its callback may be running
	closed                  bool
}

func newInbox(ctx context.Context, pending, faults bool, limit int) *inbox {
	return &inbox{
		ctx: ctx, wantPending: pending, wantFaults: faults, limit: limit,
		ready: make(chan struct{}, 1),
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (in *inbox) full() bool { return in.space() <= 0 }

// space is the number of events that an inbox takes before its jobs are no
// longer polled for it.
func (in *inbox) space() int {
	n := in.limit - len(in.events)
	if in.busy {
		n--
	}
	return n
}

// put adds an event. If the inbox is full, which happens only when others who
// share the poll keep it going, the oldest pending observation makes room:
// a later one says more. So does the oldest fault where hundreds have piled up.
func (in *inbox) put(ev *event) {
	if n := len(in.events); n >= 2*in.limit && in.loose > 0 {
		for i := range in.events {
			if old := in.events[i]; !old.ends() && (old.fault == nil || n >= 2*batchBacklog) {
				in.events = slices.Delete(in.events, i, i+1)
				in.loose--
				break
			}
		}
	}
	if !ev.ends() {
		in.loose++
	}
	in.events = append(in.events, ev)
	signal(in.ready)
}

// The poller holds a poll for each job that is waited for and runs those that
// are due. It is the client's engine: a heap by time, one timer, and workers
// that exist while something is due. It starts with the first poll and is gone
// with the last.
type poller struct {
	c          *Client
	maxWorkers int

	mu      sync.Mutex
	polls   map[string]*poll
	heap    pollHeap
	ready   []*poll // due, first come first served
	workers int
	timer   *time.Timer
	armed   int64 // when the timer fires
	sharing sharing

	learner Learner       // nil: the polling does not learn
	order   []ticket      // of the jobs, in the order in which their polls began
	first   int           // the number of order[0]
	held    int           // how many in order are over
	longest time.Duration // that any job was seen to take
	lessons []Completion  // that may be told now
}

func (e *poller) init(c *Client, maxWorkers int) {
	e.c, e.maxWorkers = c, maxWorkers
	e.learner, _ = c.polling.(Learner)
}

// A ticket keeps a job's place until its lesson may be told.
//
// Lessons are told in the order in which the jobs began and not in that in
// which they ended. Of jobs that run at the same time the short ones end first:
// a Learner that is told of the ends as they come takes all for short at first,
// and for long in the end, and one that forgets remembers only the long.
type ticket struct {
	p      *poll       // nil: over
	lesson *Completion // nil: there is none
}

// A job holds up the lessons of those that began after it until it has taken
// overdue times as long as the longest seen, or holds up maxHeld of them. It is
// then told as given up, and told once more in the unlikely case that it ends.
const (
	overdue = 4
	maxHeld = 1 << 14
)

// conclude notes what the end of a poll teaches. doneBy is the age at which the
// job was seen to be over; 0: it was not. Not told are jobs of which nothing is
// known but that they were over at the first look: with no start known, that
// says nothing about how long they took. Told as given up, and so as lasting
// longer than that, are waits that ended for any other reason. A caller who
// waits for one job again and again, each time for a short while and without
// StartedAt, so tells of many jobs where there is one: the client cannot know.
//
// Only the first call for a poll counts: a completed job whose result is missing
// was over when it was first seen so, and not when the result came.
func (e *poller) conclude(p *poll, doneBy time.Duration) {
	if e.learner == nil || p.taught {
		return
	}
	p.taught = true
	e.longest = max(e.longest, doneBy)
	var lesson *Completion
	if p.seen || doneBy > 0 && p.known {
		lesson = &Completion{PendingAt: p.pendingAt, DoneBy: doneBy, Expected: p.expected, Hinted: doneBy > 0 && p.hinted}
	}
	if p.ticket >= e.first {
		e.order[p.ticket-e.first] = ticket{lesson: lesson}
		e.held++
	} else if lesson != nil {
		e.lessons = append(e.lessons, *lesson)
	}
	for len(e.order) > 0 {
		switch t := e.order[0]; {
		case t.lesson != nil:
			e.lessons = append(e.lessons, *t.lesson)
		case t.p == nil:
		case e.held < maxHeld && (e.longest == 0 || time.Duration(e.c.now()-t.p.began)/overdue <= e.longest):
			return
		case t.p.seen:
			e.lessons = append(e.lessons, Completion{PendingAt: t.p.pendingAt, Expected: t.p.expected})
		}
		if e.order[0].p == nil {
			e.held--
		}
		e.order[0] = ticket{}
		e.order = e.order[1:]
		e.first++
	}
	e.order = nil
}

// lessonsAtOnce bounds how long telling holds up whoever takes an answer.
const lessonsAtOnce = 64

// tell tells the Learner of at most limit jobs. It is the caller's code: called
// on the goroutine of somebody who waited, where a panic belongs, and never
// under our lock.
func (e *poller) tell(limit int) {
	for ; limit > 0; limit-- {
		e.mu.Lock()
		if len(e.lessons) == 0 {
			e.mu.Unlock()
			return
		}
		lesson := e.lessons[0]
		if e.lessons = e.lessons[1:]; len(e.lessons) == 0 {
			e.lessons = nil
		}
		e.mu.Unlock()
		if l, ok := e.learner.(interface{ hintsCome() }); ok && lesson.Hinted {
			l.hintsCome()
		}
		e.learner.Learn(lesson)
	}
}

// join subscribes an inbox to the job with that id, of which job says the rest. If there
// is no poll of it yet, the first is due at due, or when pace then says, if it is not nil.
// It is called with e.mu held and gives it back.
func (e *poller) join(in *inbox, id string, job *Job, due int64, pace *pacer) {
	defer e.mu.Unlock()
	clock := time.Now()
	now := e.c.since(clock)
	p, untouched := e.pollFor(id, due, pace, now)
	e.learnStart(p, job, clock)
	s := e.subscribe(in, p, job, clock)
	if untouched && !p.parked {
		// Those who wait already are planned for: looking at each of them
		// again would make a crowd that waits for one job quadratic.
		e.planFor(p, s, now)
		e.file(p)
	} else {
		p.parked = false // there is room for an answer now
		e.plan(p, now)
	}
	e.dispatch(now)
}

// pollFor returns the poll of a job, a new one if there is none. untouched says that there
// was one, and that it is due when it was.
func (e *poller) pollFor(id string, due int64, pace *pacer, now int64) (p *poll, untouched bool) {
	p = e.polls[id]
	if p == nil {
		p = &poll{id: id, index: -1, next: due, began: now, started: -int64(pollFloor), pace: pace}
		if e.polls == nil {
			e.polls = make(map[string]*poll)
		}
		e.polls[id] = p
		if e.learner != nil {
			p.ticket = e.first + len(e.order)
			e.order = append(e.order, ticket{p: p})
		}
		return p, false
	}
	before := p.next
	if p.cancel == nil && (p.requests == 0 && p.tries == 0 || p.next == never) {
		if p.next = min(p.next, due); pace == nil {
			p.pace = nil
		}
	}
	return p, p.next == before
}

// learnStart notes what a caller knows of a job's beginning and duration.
func (e *poller) learnStart(p *poll, job *Job, clock time.Time) {
	if !job.StartedAt.IsZero() {
		if t := e.c.began(job.StartedAt, clock); t < p.began {
			if p.seen {
				p.pendingAt += time.Duration(p.began - t)
			}
			p.began = t
		}
		p.known = true
	}
	if p.expected == 0 {
		p.expected = job.Expect
	}
}

// subscribe enters a subscription to p for an inbox.
func (e *poller) subscribe(in *inbox, p *poll, job *Job, clock time.Time) *sub {
	s := &sub{poll: p, to: in, deadline: never}
	if t, ok := in.ctx.Deadline(); ok {
		s.deadline = e.c.when(t, clock)
	}
	if !job.Deadline.IsZero() {
		if t := e.c.when(job.Deadline, clock); t < s.deadline {
			s.deadline, s.ownExpires = t, true
		}
	}
	e.link(s)
	return s
}

// post puts an event into an inbox from outside the engine, once it has room, and
// reports whether it is still open.
func (e *poller) post(in *inbox, ev *event) bool {
	if !e.awaitRoom(in) {
		return false
	}
	in.put(ev)
	e.mu.Unlock()
	return true
}

// awaitRoom returns with e.mu held and true once in has room, or with false if
// it is closed.
func (e *poller) awaitRoom(in *inbox) bool {
	for {
		e.mu.Lock()
		if in.closed {
			e.mu.Unlock()
			return false
		}
		if !in.full() {
			return true
		}
		e.mu.Unlock()
		<-in.room
	}
}

// take returns the inbox's next event, or nil if there is none. Until the next take the
// inbox counts as busy with it, so that no job is polled for a caller who has
// not yet dealt with the last answer.
func (e *poller) take(in *inbox) *event {
	e.mu.Lock()
	ev, untold := e.pull(in, 0), len(e.lessons) > 0
	e.mu.Unlock()
	if untold {
		e.tell(lessonsAtOnce)
	}
	return ev
}

// pull takes out event number i, if there are so many.
func (e *poller) pull(in *inbox, i int) *event {
	in.busy = i < len(in.events)
	defer e.unpark(in)
	if !in.busy {
		return nil
	}
	ev := in.events[i]
	if !ev.ends() {
		in.loose--
	}
	if i == 0 {
		in.events[0] = nil
		in.events = in.events[1:]
	} else {
		in.events = slices.Delete(in.events, i, i+1)
	}
	if len(in.events) == 0 {
		in.events = nil
	}
	return ev
}

// abandon ends one job of an inbox whose context is done: with its result if
// that is there already, else with the context's error. It returns nil if no
// job is left.
func (e *poller) abandon(in *inbox) *event {
	cause := contextCause(in.ctx) // asks the caller's error: not under our lock
	e.mu.Lock()
	ev := e.giveUp(in, cause)
	e.mu.Unlock()
	e.tell(lessonsAtOnce)
	return ev
}

func (e *poller) giveUp(in *inbox, cause error) *event {
	for i := range in.events {
		if in.events[i].ends() {
			return e.pull(in, i)
		}
	}
	if in.subs == nil {
		return nil
	}
	ev := e.failure(in.subs.poll, cause)
	e.drop(in.subs)
	return ev
}

// empty reports whether an inbox has nothing to take and nothing to wait for.
func (e *poller) empty(in *inbox) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(in.events) == 0 && in.subs == nil
}

// leaveAll closes an inbox: its jobs are no longer polled on its behalf.
func (e *poller) leaveAll(in *inbox) {
	e.mu.Lock()
	in.closed = true
	signal(in.room)
	in.events, in.loose, in.parked = nil, 0, nil
	for in.subs != nil {
		e.drop(in.subs)
	}
	e.mu.Unlock()
	e.tell(math.MaxInt) // whoever is the last to leave leaves nothing untold
}

// failure is the event that ends a wait for p with cause.
func (e *poller) failure(p *poll, cause error) *event {
	last := Status{JobID: p.id}
	if p.seen {
		last = e.lastSeen(p)
	}
	fault := p.fault
	if fault != nil {
		fault = snapshot(fault)
		details(fault).Next, details(fault).then = 0, "" // nothing follows
	}
	if p.refusal != nil {
		cause = &refusedUntil{cause, p.refusal}
	}
	return &event{status: last, err: &WaitError{JobID: p.id, Requests: int(p.requests), Last: last, Cause: cause, Fault: fault}}
}

// lastSeen is the pending answer that came last.
func (e *poller) lastSeen(p *poll) Status {
	return Status{
		JobID: p.id, State: StatePending, Message: p.message, Progress: p.progress,
		CheckedAt: e.c.at(p.checkedAt), ResultMissing: p.bare != nil,
	}
}

// drop ends a subscription, and with the last one the poll.
func (e *poller) drop(s *sub) {
	e.unlink(s)
	if p := s.poll; p.subs == nil {
		e.conclude(p, 0)
		e.end(p)
	}
}

// link enters a subscription into its poll's list, at the front, and into its
// inbox's, at the end.
func (e *poller) link(s *sub) {
	p, in := s.poll, s.to
	if s.next = p.subs; s.next != nil {
		s.next.prev = s
	}
	p.subs = s
	if s.prevIn = in.last; s.prevIn != nil {
		s.prevIn.nextIn = s
	} else {
		in.subs = s
	}
	in.last = s
}

// unlink takes a subscription out of both lists.
func (e *poller) unlink(s *sub) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		s.poll.subs = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	if s.prevIn != nil {
		s.prevIn.nextIn = s.nextIn
	} else {
		s.to.subs = s.nextIn
	}
	if s.nextIn != nil {
		s.nextIn.prevIn = s.prevIn
	} else {
		s.to.last = s.prevIn
	}
	s.next, s.prev, s.nextIn, s.prevIn = nil, nil, nil, nil
}

// end takes a poll out of the client. Its exchange in flight, if there is one,
// is cancelled.
func (e *poller) end(p *poll) {
	p.gone = true
	delete(e.polls, p.id)
	if p.index >= 0 {
		heap.Remove(&e.heap, p.index)
	}
	if p.cancel != nil {
		p.cancel()
	}
	if len(e.polls) == 0 {
		if e.timer != nil {
			e.timer.Stop()
			e.timer = nil
		}
		e.heap, e.polls = nil, nil // a map does not shrink by itself
	}
}

// finish delivers the end of a poll to all who wait for it. doneBy is the age
// at which the job was seen to be over; 0: it was not.
func (e *poller) finish(p *poll, ev *event, doneBy time.Duration) {
	e.conclude(p, doneBy)
	for p.subs != nil {
		s := p.subs
		e.unlink(s)
		s.to.put(ev)
	}
	e.end(p)
}

// plan works out when a poll is due, with a last poll before each deadline
// that would come too early otherwise, and files it.
func (e *poller) plan(p *poll, now int64) {
	p.due, p.key = p.next, never
	for s := p.subs; s != nil; s = s.next {
		e.planFor(p, s, now)
	}
	e.file(p)
}

// idle says that the next exchange of a poll is yet to become due.
func (p *poll) idle() bool { return p.cancel == nil && !p.queued && !p.parked }

// planFor takes the deadline of one who waits into the plan.
func (e *poller) planFor(p *poll, s *sub, now int64) {
	if s.ownExpires {
		p.key = min(p.key, s.deadline)
	}
	if s.deadline != never && p.idle() {
		p.due = min(p.due, e.lastPoll(p, s, now))
	}
}

// file puts a poll where the engine finds it when it has to look at it.
func (e *poller) file(p *poll) {
	if p.idle() {
		p.key = min(p.key, p.due)
	}
	switch {
	case p.key == never && p.index >= 0:
		heap.Remove(&e.heap, p.index)
	case p.key == never:
	case p.index >= 0:
		heap.Fix(&e.heap, p.index)
	default:
		heap.Push(&e.heap, p)
	}
}

// lastPoll says when to poll for the last time before the deadline of s, or
// never if the schedule itself comes close enough to it or nothing fits any
// more. The answer is to come before the deadline, by the round trips seen so
// far, and where many share a deadline their last polls are spread out.
func (e *poller) lastPoll(p *poll, s *sub, now int64) int64 {
	lead := firstLead
	if d, ok := e.c.latency.bound(); ok {
		lead = d + lastLead
	}
	latest := s.deadline - int64(min(lead, e.c.timeout))
	if p.next <= max(latest, now) {
		return never
	}
	if s.moved && p.floor <= latest { // what the server asked for then holds no more
		s.lastAt, s.moved = 0, false
	}
	switch from := max(now, p.floor); {
	case s.lastAt == 0 && from < latest:
		s.lastAt = latest - min(int64(e.spread()), (latest-from)/10)
	case s.lastAt == 0:
		s.lastAt = max(1, latest)
	}
	if p.started >= s.lastAt { // made already, or as good as made
		return never
	}
	if s.lastAt < p.floor { // the server has asked for it since
		s.lastAt, s.moved = p.floor+min(int64(e.spread()), max(0, s.deadline-p.floor)/2), true
	}
	if at := max(s.lastAt, now, p.started+int64(pollFloor)); at < s.deadline && s.to.ctx.Err() == nil {
		return at
	}
	return never
}

// spread is a random time to put between polls that would otherwise come back
// together. It grows with their number, so that they come at firstPace.
func (e *poller) spread() time.Duration {
	if n := len(e.polls); n > 1 {
		return rand.N(time.Duration(n-1)*firstPace/time.Duration(e.share(e.c.now())) + 1)
	}
	return 0
}

// dispatch queues what is due, starts workers for it and sets the timer for
// what is next.
func (e *poller) dispatch(now int64) {
	for len(e.heap) > 0 && e.heap[0].key <= now {
		p := e.heap[0]
		if e.expire(p, now); p.gone {
			continue
		}
		if p.due <= now && p.cancel == nil && !p.queued && !p.parked {
			p.queued = true
			e.ready = append(e.ready, p)
		}
		e.plan(p, now)
	}
	for e.workers < e.maxWorkers {
		p := e.pop(now)
		if p == nil {
			break
		}
		e.workers++
		go e.work(e.start(p, now))
	}
	e.arm(now)
}

// arm sets the timer for the first poll of the heap.
func (e *poller) arm(now int64) {
	if len(e.heap) == 0 {
		return
	}
	at := e.heap[0].key
	switch d := time.Duration(max(0, at-now)); {
	case e.timer == nil:
		// A timer of its own for each life of the engine: in a synctest
		// bubble, a timer may not outlive its bubble.
		e.timer = time.AfterFunc(d, e.wake)
	case at != e.armed:
		e.timer.Reset(d)
	default:
		return
	}
	e.armed = at
}

func (e *poller) wake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.armed = 0
	if e.timer != nil {
		e.dispatch(e.c.now())
	}
}

// expire ends the subscriptions whose job has a deadline of its own that has come.
func (e *poller) expire(p *poll, now int64) {
	for s, next := p.subs, (*sub)(nil); s != nil; s = next {
		if next = s.next; !s.ownExpires || s.deadline > now {
			continue
		}
		e.unlink(s)
		ev := e.failure(p, context.DeadlineExceeded)
		if p.subs == nil {
			e.conclude(p, 0)
			e.end(p)
		}
		s.to.put(ev)
	}
}

// pop takes the next poll out of the queue whose exchange may begin now, and
// marks it as in flight.
func (e *poller) pop(now int64) *poll {
	for len(e.ready) > 0 {
		p := e.ready[0]
		e.ready[0] = nil
		if e.ready = e.ready[1:]; len(e.ready) == 0 {
			e.ready = nil
		}
		p.queued = false
		switch held := e.c.held(); {
		case p.gone:
		case !p.alive(now): // whoever waits is about to leave
			p.next = never
			e.plan(p, now)
		case p.overdue(now) && (held > 0 || p.floor > now): // no look is allowed
			e.finish(p, &event{status: p.bare.status}, 0)
		case held > e.c.maxRetryAfter && p.bare == nil:
			p.fault = e.c.holdFault.Load()
			e.finish(p, e.failure(p, e.c.errHeld(held)), 0)
		case held > 0:
			// More slowly than otherwise: the server has just had too much.
			p.next = p.inTime(later(now, held+min(held, 4*e.spread())))
			p.floor = later(now, held)
			e.plan(p, now)
		case p.allFull():
			e.park(p)
			e.plan(p, now)
		case p.pace != nil:
			p.next = p.pace.next(now, e.maxWorkers, e.share(now))
			if p.pace = nil; p.next <= now {
				return p
			}
			e.plan(p, now)
		default:
			return p
		}
	}
	return nil
}

// A pacer gives out the moments for the first checks of one WaitAll: burst of
// them at once, then one each firstPace (the virtual scheduling form of the
// leaky bucket, as in ITU-T I.371's GCRA). It paces requests: where share jobs
// may share one, as many times more jobs.
type pacer struct{ tat int64 }

func (p *pacer) next(now int64, burst, share int) int64 {
	gap := max(1, int64(firstPace)/int64(share))
	p.tat = max(p.tat, now) + gap
	return max(now, p.tat-int64(burst*share)*gap)
}

// alive reports whether anybody waits whose time is not up.
func (p *poll) alive(now int64) bool {
	for s := p.subs; s != nil; s = s.next {
		if now < s.deadline && s.to.ctx.Err() == nil {
			return true
		}
	}
	return false
}

// wanted reports whether anybody waits for the answer about one of some polls.
func (e *poller) wanted(polls ...*poll) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.c.now()
	return slices.ContainsFunc(polls, func(p *poll) bool { return p.alive(now) })
}

func (p *poll) allFull() bool {
	for s := p.subs; s != nil; s = s.next {
		if !s.to.full() {
			return false
		}
	}
	return true
}

// park puts a poll aside until somebody has room for an answer.
func (e *poller) park(p *poll) {
	p.parked = true
	for s := p.subs; s != nil; s = s.next {
		if !s.parked { // it still is where another inbox let the poll go on
			s.parked = true
			s.to.parked = append(s.to.parked, s)
		}
	}
}

// unpark lets the feeding of an inbox go on, and as many polls as it has room for.
func (e *poller) unpark(in *inbox) {
	room := in.space()
	if room > 0 {
		signal(in.room)
	}
	if len(in.parked) == 0 {
		return
	}
	now := e.c.now()
	for room > 0 && len(in.parked) > 0 {
		s := in.parked[len(in.parked)-1]
		in.parked = in.parked[:len(in.parked)-1]
		s.parked = false
		if p := s.poll; p.parked && !p.gone {
			p.parked = false
			room--
			e.plan(p, now)
		}
	}
	e.dispatch(now)
}

// A trip is a poll that is in flight, with those that share its exchange, if
// batch is not nil.
type trip struct {
	ctx   context.Context
	p     *poll
	batch *batch
}

// start marks a poll as in flight, and those that may share its exchange.
func (e *poller) start(p *poll, now int64) trip {
	if b := e.gather(p, now); b != nil {
		return trip{e.depart(b), p, b}
	}
	return trip{e.begin(p, now), p, nil}
}

// begin marks a poll as in flight and returns its context, which carries the
// values of one of those who wait, and ends when the last of them has left.
func (e *poller) begin(p *poll, now int64) (ctx context.Context) {
	ctx, p.cancel = e.detach(p, p.lastDeadline())
	e.mark(p, now)
	return ctx
}

// detach returns a context that ends at a deadline and carries the values of
// one of those who wait.
func (e *poller) detach(p *poll, deadline int64) (context.Context, context.CancelFunc) {
	ctx := context.WithoutCancel(p.subs.to.ctx)
	if deadline == never {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, e.c.at(deadline))
}

// mark notes that the exchange of a poll begins.
func (e *poller) mark(p *poll, now int64) {
	p.started, p.again = now, false
	if p.hinted {
		p.hintedAt = now
	}
	e.plan(p, now)
}

// work runs polls until none is due.
func (e *poller) work(t trip) {
	ended := false
	defer func() {
		if ended {
			return
		}
		// What the caller plugged in panicked, or ended the goroutine. Those
		// who wait learn of it on their own goroutines; the engine goes on.
		r := recover()
		e.mu.Lock()
		defer e.mu.Unlock()
		e.workers--
		for _, p := range t.left() {
			ev := &event{status: Status{JobID: p.id}}
			if r != nil {
				ev.panicked = fmt.Sprintf("vtclient: job %s: panic in a poll: %v\n\n%s", quoteID(p.id), r, debug.Stack())
			} else {
				ev.err = fmt.Errorf("vtclient: job %s: the goroutine of its poll was ended from within", quoteID(p.id))
			}
			e.finish(p, ev, 0)
		}
		e.dispatch(e.c.now())
	}()
	for {
		if t.batch != nil {
			e.runBatch(t.ctx, t.batch)
		} else {
			e.run(t.ctx, t.p)
		}
		e.mu.Lock()
		now := e.c.now()
		next := e.pop(now)
		if next == nil {
			e.workers--
			ended = true
			e.dispatch(now)
			e.mu.Unlock()
			return
		}
		t = e.start(next, now)
		e.dispatch(now)
		e.mu.Unlock()
	}
}

// left returns the polls that a trip which has not come to its end is about.
func (t trip) left() []*poll {
	switch {
	case t.batch != nil:
		return t.batch.left()
	case t.p.gone:
		return nil
	}
	return []*poll{t.p}
}

// run makes one exchange for a poll and acts on what it brought.
func (e *poller) run(ctx context.Context, p *poll) {
	out := e.c.exchange(ctx, inquiry{id: p.id, wanted: func() bool { return e.wanted(p) }}, int(p.number)+1)
	e.act(ctx, p, &out)
}

// act does what follows from an outcome.
func (e *poller) act(ctx context.Context, p *poll, out *outcome) {
	switch out.verdict {
	case answered:
		e.c.remember(ctx, &out.status)
	case refused:
		out.refusal = asSaid(errors.Unwrap(out.err))
	}
	n, ok := e.note(p, out)
	if !ok {
		return
	}
	n.ask(e.c, out) // the strategies are the caller's: not under our lock
	e.goOn(ctx, p, out, n)
}

// goOn settles a poll that goes on and tells the traces.
func (e *poller) goOn(ctx context.Context, p *poll, out *outcome, n note) {
	if delay, ok := e.settle(p, out, n); ok && len(e.c.traces) > 0 {
		e.c.emit(ctx, traceScheduled, TraceInfo{
			JobID: p.id, Attempt: out.number + 1, Delay: delay, Retry: out.verdict != answered, Err: out.err,
		})
	}
}

// A note is what an exchange leaves to be decided about a poll that goes on.
type note struct {
	polling, retrying Attempt
	cause             error // ends the wait
	delay             time.Duration
}

// note takes an outcome into the state of the poll. It returns false if there
// is nothing to decide, because the poll is over.
func (e *poller) note(p *poll, out *outcome) (n note, ok bool) {
	c := e.c
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.gone {
		return n, false
	}
	now := c.now()
	age := time.Duration(now - p.began)
	p.requests += int32(out.requests)
	p.number = int32(out.number)
	switch out.verdict {
	case answered:
		if p.apart > 0 {
			p.apart--
		}
		if p.faults >= trialAfter && out.jobs == 0 {
			e.sharing.trialOK = now
		}
		p.tries, p.faults, p.faultAt, p.refusedAt, p.refusal = 0, 0, 0, 0, nil
		if out.status.settled() {
			e.finish(p, &event{status: out.status}, max(1, age))
			return n, false
		}
		if !out.status.ResultMissing {
			p.bare = nil
			p.pendingAt = max(p.pendingAt, time.Duration(p.started-p.began))
		} else {
			n.delay = e.noteBare(p, out.status, now)
			out.status.State, out.status.Body = StatePending, nil // for those who watch: it is not over
		}
		p.seen = true
		p.checkedAt, p.progress, p.message = now, out.status.Progress, out.status.Message
	case fault:
		p.faults++
		p.tries++
		if p.faultAt == 0 {
			p.faultAt = now
		}
		switch {
		case p.bare != nil: // has a bound of its own
		case out.hint > c.maxRetryAfter:
			n.cause = c.errTooLong()
		case e.outageOver(p, now):
			n.cause = e.errOutage()
		}
	case refused:
		p.refusal = out.refusal
		p.tries++
		if p.refusedAt == 0 {
			p.refusedAt = now
		}
		if p.tries > 1 && p.bare == nil && e.outageOver(p, now) {
			n.cause = e.errOutage()
		}
	case final:
		ev := &event{status: Status{JobID: p.id}, err: out.err}
		if p.seen {
			ev.status = e.lastSeen(p)
		}
		e.finish(p, ev, 0)
		return n, false
	}
	if p.overdue(now) && out.verdict != left {
		e.finish(p, &event{status: p.bare.status}, 0)
		return n, false
	}
	n.polling = Attempt{Number: int(p.requests), Elapsed: age, PendingAt: p.pendingAt, Expected: p.expected, Shared: out.jobs}
	n.retrying = Attempt{Number: int(p.faults)}
	if out.verdict == refused { // not so after a fault, whose delay the breaker's refusals must not stretch
		n.retrying.Number = int(p.tries)
	}
	if p.tries > 0 {
		n.retrying.Elapsed = time.Duration(now - p.troubledSince())
	}
	return n, true
}

// noteBare notes that a job is completed without its result, and returns the
// time until the next look.
func (e *poller) noteBare(p *poll, st Status, now int64) time.Duration {
	if p.bare == nil {
		e.conclude(p, max(1, time.Duration(now-p.began)))
		p.bare = &bare{until: later(now, resultBound), gap: resultGap}
	}
	b := p.bare
	b.status = st
	b.gap *= 2
	return b.gap / 2
}

func (e *poller) errOutage() error {
	return fmt.Errorf("%w of %v", ErrOutage, e.c.outageTolerance)
}

// troubledSince is the time of the first fault or refusal since the last answer.
func (p *poll) troubledSince() int64 {
	switch {
	case p.faultAt == 0:
		return p.refusedAt
	case p.refusedAt == 0:
		return p.faultAt
	}
	return min(p.faultAt, p.refusedAt)
}

// ownFaults is how many faults in a row it takes to give one job up while the
// client's other jobs are answered. Behind a breaker that lets few requests
// through, a backend that fails half of them would otherwise end a wait by two
// or three.
const ownFaults = 16

// outageOver reports whether the outage tolerance of a poll is used up. A
// refusal by the breaker is no fault, but behind a breaker most polls see
// nothing else of an outage: so what counts is that no job of the client
// was answered for that long. A job that alone has trouble counts its own faults.
func (e *poller) outageOver(p *poll, now int64) bool {
	tolerance := int64(e.c.outageTolerance)
	if outage := e.c.outageSince.Load(); outage != 0 && now-max(outage, p.troubledSince()) >= tolerance {
		return true
	}
	return p.faults >= ownFaults && now-p.faultAt >= tolerance
}

// ask asks the strategies for the delay until the next request.
func (n *note) ask(c *Client, out *outcome) {
	if n.cause != nil || n.delay > 0 {
		return
	}
	ok := true
	switch out.verdict {
	case answered:
		if n.delay, ok = c.polling.Next(n.polling); !ok {
			n.cause = ErrGaveUp
		}
	case refused:
		var r *RefusedError
		if errors.As(out.err, &r) && r.RetryAfter() > 0 {
			n.delay = r.RetryAfter()
			return
		}
		fallthrough
	case fault:
		// Only the outage tolerance ends a wait that meets faults.
		if n.delay, ok = c.retry.Next(n.retrying); !ok && n.delay <= 0 {
			n.delay, _ = defaultRetry.Next(n.retrying)
		}
	}
}

// settle plans the next exchange of a poll and tells those who wait. It
// returns the time until then, and false if there is none.
func (e *poller) settle(p *poll, out *outcome, n note) (time.Duration, bool) {
	c := e.c
	e.mu.Lock()
	defer e.mu.Unlock()
	if p.gone {
		return 0, false
	}
	p.cancel() // releases the exchange's context
	p.cancel = nil
	// A hint stands until there is an answer to a check that began after it.
	p.hinted, p.again = p.again || p.hinted && out.verdict != answered, false
	if out.verdict == fault {
		// Not before: whoever leaves earlier must not hold an error that is
		// still written to below.
		p.fault = out.err
	}
	if n.cause != nil {
		e.finish(p, e.failure(p, n.cause), 0)
		return 0, false
	}

	now := c.now()
	p.floor = 0
	p.next = later(now, max(n.delay, 0))
	if hint := min(out.hint, c.maxRetryAfter); hint > 0 && out.verdict != held {
		p.floor = later(now, hint)
		p.next = max(p.next, p.floor)
	}
	switch {
	case out.verdict == left && !p.alive(now):
		p.next = never // those who wait are about to go
	case out.verdict == refused, out.verdict == fault && p.next == p.floor:
		p.next = later(p.next, e.spread())
	case out.verdict == answered && p.hinted:
		p.next = min(p.next, e.hintDue(p, now))
	}
	if p.next != never {
		p.next = p.inTime(p.next)
	}
	p.next = max(p.next, p.started+int64(pollFloor))
	e.plan(p, now)

	delay := time.Duration(max(0, p.due-now))
	goesOn := p.due < p.lastDeadline()
	switch out.verdict {
	case answered:
		e.publish(p, &event{status: out.status})
	case fault:
		if d := details(out.err); goesOn {
			d.Next = max(1, delay)
		} else {
			d.then = "no further request fits before the deadline"
		}
		e.publish(p, &event{fault: out.err})
	}
	return delay, goesOn && out.verdict != left
}

// lastDeadline is the latest deadline of those who wait.
func (p *poll) lastDeadline() (t int64) {
	for s := p.subs; s != nil; s = s.next {
		t = max(t, s.deadline)
	}
	return t
}

// publish tells those who want to know of an observation or a fault.
func (e *poller) publish(p *poll, ev *event) {
	for s := p.subs; s != nil; s = s.next {
		if ev.fault != nil && s.to.wantFaults || ev.fault == nil && s.to.wantPending {
			s.to.put(ev)
		}
	}
}

// hint makes a poll due whose exchange begins after now.
func (e *poller) hint(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.polls[id]
	switch {
	case p == nil:
	case p.cancel != nil:
		p.again = true // what is in flight began before
	default:
		now := e.c.now()
		p.hinted, p.pace = true, nil
		if at := e.hintDue(p, now); at < p.next {
			p.next = at
			e.plan(p, now)
			e.dispatch(now)
		}
	}
}

// hintDue says when a hint that is given now may bring about a check.
func (e *poller) hintDue(p *poll, now int64) int64 {
	at := max(now, p.started+int64(pollFloor))
	if p.hintedAt != 0 {
		at = max(at, p.hintedAt+int64(hintGap))
	}
	return at
}

type pollHeap []*poll

func (h pollHeap) Len() int           { return len(h) }
func (h pollHeap) Less(i, j int) bool { return h[i].key < h[j].key }
func (h pollHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *pollHeap) Push(x any) {
	p := x.(*poll)
	p.index = len(*h)
	*h = append(*h, p)
}
func (h *pollHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	p.index = -1
	return p
}
