package vtclient

import (
	"context"
	"slices"
	"time"
)

// An event is what an inbox holds: a pending or terminal status, a fault that
// is survived, or the error that ends a job. Several inboxes may share it, so it is
// never changed.
type event struct {
	status   Status
	fault    error
	err      error
	panicked any
	overdue  *Attempt // where the job, which is overdue, stands

	age      time.Duration // for the traces, of one that ends a job; 0: it had no poll
	requests int32         // likewise: those of the poll
}

// droppable reports whether a later event has all that ev has, or more.
func (ev *event) droppable() bool { return !ev.ends() && ev.overdue == nil }

func (ev *event) ends() bool {
	return ev.err != nil || ev.panicked != nil || ev.status.State.Terminal()
}

// verdict is the error beside the status of an event that ends a job.
func (ev *event) verdict() error {
	if ev.err == nil && ev.status.State == StateFailed {
		return &JobError{Status: ev.status}
	}
	return ev.err
}

// An inbox is where the events for one Wait, Watch or WaitAll arrive. It has
// room for a number of events; while it is full, none of its jobs is polled on
// its behalf. Its fields are guarded by the engine's lock.
type inbox struct {
	ctx                     context.Context
	deadline                int64 // of ctx; never: none
	limit                   int   // the number of events that fill it
	single                  bool  // of a Wait or Watch
	wantPending, wantFaults bool

	busy   bool // with the event taken last: its callback may be running
	closed bool // the caller has left

	pace   *pacer        // of the first checks of a WaitAll; nil: there is no pace
	ready  chan struct{} // holds a token if there may be something to take
	room   chan struct{} // likewise, for what feeds the inbox; nil: nothing does
	fewer  chan struct{} // likewise, for what waits until fewer jobs are unfinished
	atMost int           // unfinished jobs; 0: no bound

	events    []*event
	droppable int             // the number of events that are
	underWay  int             // jobs that are yet to be entered
	waiting   int             // subscriptions
	first     *subscription   // all, in the order in which the jobs were given
	latest    *subscription   //
	due       [lanes]dueQueue // those whose polls are due
}

// newInbox returns an inbox for one job.
func newInbox(ctx context.Context, deadline int64, pending, faults bool) *inbox {
	return &inbox{
		ctx: ctx, deadline: deadline, wantPending: pending, wantFaults: faults, limit: 1, single: true,
		ready: make(chan struct{}, 1),
	}
}

// newBatchInbox returns an inbox for the jobs of a WaitAll.
func newBatchInbox(ctx context.Context, deadline int64, pending, faults bool) *inbox {
	in := newInbox(ctx, deadline, pending, faults)
	in.limit, in.single, in.pace = batchBacklog, false, new(pacer)
	in.room, in.fewer = make(chan struct{}, 1), make(chan struct{}, 1)
	return in
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// await waits until there may be something to take, and reports false if the context is
// done.
//
// A goroutine that waits costs little more than its stack, which has 1.1 kB of room at
// first and grows to 4 kB for good where that is not enough. So the frames of Wait, join,
// take and await are small: no defer in them, few arguments, and no call where a function that
// returns before would do (benchmarks/RESULTS.md has the figure).
func (in *inbox) await() bool {
	select {
	case <-in.ctx.Done():
		return false
	case <-in.ready:
		return true
	}
}

// full reports whether no job is to be polled on behalf of the inbox.
func (in *inbox) full() bool {
	n := len(in.events)
	if in.busy {
		n++
	}
	return n >= in.limit || in.closed
}

// empty reports whether there is nothing to take and nothing to wait for.
func (in *inbox) empty() bool { return len(in.events) == 0 && in.first == nil }

// put adds an event. If the inbox is full, which happens only when other
// subscribers of a poll keep it going, the oldest pending observation makes room:
// a later one holds more. So does the oldest fault where hundreds have piled up.
func (in *inbox) put(ev *event) {
	if n := len(in.events); n >= 2*in.limit && in.droppable > 0 {
		for i := range in.events {
			if old := in.events[i]; old.droppable() && (old.fault == nil || n >= 2*batchBacklog) {
				in.events = slices.Delete(in.events, i, i+1)
				in.droppable--
				break
			}
		}
	}
	if ev.droppable() {
		in.droppable++
	}
	in.events = append(in.events, ev)
	signal(in.ready)
}

// take returns the next event, or nil. Until the next take the inbox counts as
// busy with it, so that no job is polled for a caller that has not yet dealt
// with the last answer.
func (in *inbox) take() *event { return in.pull(0) }

// takeEnd returns the first event that ends a job, or nil.
func (in *inbox) takeEnd() *event {
	i := slices.IndexFunc(in.events, (*event).ends)
	if i < 0 {
		return nil
	}
	return in.pull(i)
}

// pull takes out event number i, if there are so many.
func (in *inbox) pull(i int) *event {
	if in.busy = i < len(in.events); !in.busy {
		return nil
	}
	ev := in.events[i]
	if ev.droppable() {
		in.droppable--
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

// close drops what is in the inbox, and returns it.
func (in *inbox) close() (dropped []*event) {
	dropped = in.events
	in.closed = true
	in.events, in.droppable = nil, 0
	signal(in.room)
	signal(in.fewer)
	return dropped
}
