package vtclient

import (
	"context"
	"iter"
	"time"
)

// Wait waits until the job is over and returns its last Status. It checks at once, so that a
// wrong id or key fails now and not minutes later (see [StartedAt] for jobs that are known to
// exist), and then polls by the schedule of [WithPolling]. A job is polled once for all its
// waits: a wait that joins follows the schedule of the one that has lasted longest, and a Limit
// of the schedule counts from where each of them joined. A [Client.Status] that sees the end of
// the job ends its waits.
//
// It returns a nil error for a completed job only, and looks again for up to 30
// s where the result of one is missing (see [Status.ResultMissing]). A failed
// job is a *JobError, with the Status filled in all the same. A fault of the
// network or the backend does not end the wait until [WithOutageTolerance] is
// used up: then, and when ctx is done, the error is a *WaitError that matches
// its cause (context.DeadlineExceeded, ErrOutage, …) and the last fault, and
// the Status is the last one seen. Answers that are final for any request, such
// as a 401, end it at once with the error that Status would return; a 404 does for a job
// that has not been seen before (see [HTTPError]). A host that cannot be reached and an
// answer that cannot be read are faults, too. Until the client has had its first readable
// answer they end a wait after 30 s; set OnError to get them at once. When ctx has a
// deadline, a last poll is made just before it. No request is sent after ctx is done.
func (c *Client) Wait(ctx context.Context, jobID string, opts ...WaitOption) (Status, error) {
	wc := newWaitConfig(opts)
	ev := c.begin(ctx, jobID, wc)
	if ev == nil {
		w := caller{&c.engine, c.newInbox(ctx, wc)}
		due, overdue := wc.first(c, &wc.job)
		w.join(jobID, &wc.job, due, overdue)
		for more := true; more; {
			if ev = w.take(); ev != nil || !w.in.await() {
				ev, more = w.deliver(wc, ev)
			}
		}
	}
	return ev.status, c.verdict(ev)
}

// Watch returns an iterator over the observations of one job: each answer, as
// it comes. It polls as Wait does and ends after the terminal answer or with
// the first error, which stands beside the last Status; a failed job is a
// *JobError beside its Status. Leaving the loop ends the polling. A loop body
// that takes long holds the polling back. Each run of the iterator is a watch
// of its own.
func (c *Client) Watch(ctx context.Context, jobID string, opts ...WaitOption) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		wc := newWaitConfig(opts)
		ev := c.begin(ctx, jobID, wc)
		if ev == nil {
			w := caller{&c.engine, c.newInbox(ctx, wc)}
			w.in.wantPending = true
			defer w.leave() // also when the loop is left
			due, overdue := wc.first(c, &wc.job)
			w.join(jobID, &wc.job, due, overdue)
			for more := true; more; {
				if ev = w.take(); ev == nil && w.in.await() {
					continue
				}
				ev, more = w.deliver(wc, ev)
				if more && ev.fault == nil && ev.overdue == nil && !yield(ev.status, nil) {
					return
				}
			}
		}
		yield(ev.status, c.verdict(ev))
	}
}

// deliver calls the callbacks for the next event and reports whether more are to come.
// If not, or if the caller's code panics or ends the goroutine, the inbox is closed.
func (w caller) deliver(wc *waitConfig, next *event) (ev *event, more bool) {
	defer func() {
		if !more {
			w.leave()
		}
	}()
	if next == nil {
		next = w.abandon()
	}
	return next, !w.handle(wc, next)
}

// handle calls the callbacks and the traces for an event, and reports whether it ends the
// job.
func (w caller) handle(wc *waitConfig, ev *event) (end bool) {
	switch {
	case ev.overdue != nil:
		w.overdue(wc, ev)
		return false
	case ev.ends():
		w.e.c.waitEnded(w.in.ctx, ev)
	}
	return wc.dispatch(ev)
}

// newInbox returns the inbox of a wait for one job.
func (c *Client) newInbox(ctx context.Context, wc *waitConfig) *inbox {
	return newInbox(ctx, c.deadline(ctx), wc.onProgress != nil, wc.onError != nil)
}

// begin begins a wait for one job, and returns the event that ends it at once, or nil.
func (c *Client) begin(ctx context.Context, jobID string, wc *waitConfig) *event {
	c.waitBegun(ctx, jobID)
	ev := c.refuse(ctx, jobID, wc)
	if ev == nil {
		if st := c.recall(ctx, jobID, false); st != nil {
			ev = recalled(st)
		}
	}
	if ev != nil {
		c.waitEnded(ctx, ev)
		wc.dispatch(ev)
	}
	return ev
}

// refuse returns the event that ends a wait for which nothing can be asked, or nil.
func (c *Client) refuse(ctx context.Context, jobID string, wc *waitConfig) *event {
	err := wc.err
	if err == nil && wc.atMost != 0 {
		err = badArgument("AtMost", wc.atMost, "no AtMost in a wait for one job: it is an option of WaitAll")
	}
	if err == nil {
		err = c.route.checkID(jobID)
	}
	if err == nil && ctx == nil {
		err = noContext("Wait and Watch")
	}
	if err == nil && expired(ctx) {
		err = &WaitError{JobID: jobID, Cause: contextCause(ctx)}
	}
	if err != nil {
		return &event{status: Status{JobID: jobID}, err: err}
	}
	return nil
}

// recalled is the event of a job whose end is in the cache.
func recalled(st *Status) *event {
	ev := &event{status: *st}
	ev.status.Cached = true
	return ev
}

// first returns when a job is to be polled first, and the age at which it is overdue.
func (wc *waitConfig) first(c *Client, job *Job) (due int64, overdue time.Duration) {
	return c.firstDue(job), wc.overdueAge(c, job)
}

// firstDue returns when a job is to be polled first: at once, or nearly so where
// polls share requests, or by the schedule from the start that is known.
func (c *Client) firstDue(job *Job) int64 {
	clock := time.Now()
	now := c.since(clock)
	due := now
	if c.route.bulk != nil { // for others to share its request
		due = later(now, gatherTime)
	}
	if job.StartedAt.IsZero() {
		return due
	}
	delay, _ := nextPoll(c.polling, Attempt{Expected: job.Expect, Shared: c.engine.shared()}, job.StartedAt)
	return max(due, later(c.began(job.StartedAt, clock), delay))
}

// began translates a job's start into the client's time.
func (c *clock) began(t, now time.Time) int64 {
	// Not so long ago that the age would overflow.
	return min(c.since(now), max(c.when(t, now), -never/2))
}

// dispatch calls the callbacks for one event and reports whether it ends the job.
func (wc *waitConfig) dispatch(ev *event) (end bool) {
	switch {
	case ev.panicked != nil:
		panic(ev.panicked)
	case ev.fault != nil:
		wc.onError(ev.fault) // it is there, since the inbox takes faults
		return false
	case ev.err != nil:
		return true
	}
	if wc.onProgress != nil {
		wc.onProgress(ev.status)
	}
	return ev.status.State.Terminal()
}

// Hint asks for a look at this job now. If there is a wait for the job, a check that
// begins after the hint is made as soon as the server's 429s and a gap of 1 s
// between hinted checks of one job allow. The truth still comes from the
// backend, so a forged hint costs a request and nothing else. For a job without
// a wait, Hint does nothing. It does not block. See [Webhook].
func (c *Client) Hint(jobID string) { c.engine.hint(jobID) }
