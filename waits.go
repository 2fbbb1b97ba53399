package vtclient

import (
	"context"
	"fmt"
	"time"
)

// What the traces are shown of waits: a WaitBegun and a WaitEnded for each.

// errLoopLeft is shown for a wait that was left before its end.
var errLoopLeft error = &textError{"the wait was left", context.Canceled}

// waitBegun shows the beginning of a wait. It is not inlined, as its TraceInfo would then
// stand on the stack of each wait: see [inbox.await].
//
//go:noinline
func (c *Client) waitBegun(ctx context.Context, jobID string) {
	if c.tracesWaits && ctx != nil {
		c.emit(ctx, traceWaitBegun, TraceInfo{JobID: jobID})
	}
}

// stamp puts the cost of the poll into an event that ends a wait.
func (en *entry) stamp(ev *event, now int64) *event {
	ev.age, ev.requests = time.Duration(now-en.began), en.requests
	return ev
}

// waitEnded is called with the event that ends a wait, once.
func (c *Client) waitEnded(ctx context.Context, ev *event) {
	if !c.tracesWaits || ctx == nil { // a nil context is refused
		return
	}
	st := &ev.status
	info := TraceInfo{JobID: st.JobID, State: st.State, Age: ev.age, Requests: int(ev.requests), Err: ev.verdict()}
	if st.State.Terminal() && !st.EndedAt.IsZero() && !st.Cached {
		info.Late = max(0, st.CheckedAt.Sub(st.EndedAt))
	}
	if ev.panicked != nil {
		info.Err = &textError{"panic", fmt.Errorf("%v", ev.panicked)}
	}
	c.emit(ctx, traceWaitEnded, info)
}

// showLeft shows the ends of waits that were left, and those that were not taken.
func (w caller) showLeft(events []*event) {
	for _, ev := range events {
		if ev.ends() {
			w.e.c.waitEnded(w.in.ctx, ev)
		}
	}
}
