package vtclient

import (
	"context"
	"iter"
	"runtime"
	"time"
)

// Wait waits until the job is over and returns its last Status. It checks at
// once, so that a wrong id or key fails now and not minutes later (see
// [StartedAt] for jobs that are known to exist), and then polls as
// [WithPolling] says. However many wait for one job, it is polled once for all.
//
// It returns a nil error for a completed job only, and looks again for up to 30
// s where the result of one is missing (see [Status.ResultMissing]). A failed
// job is a *JobError, with the Status filled in all the same. A fault of the
// network or the backend does not end the wait until [WithOutageTolerance] is
// used up: then, and when ctx is done, the error is a *WaitError that matches
// its cause (context.DeadlineExceeded, ErrOutage, …) and the last fault, and
// the Status is the last one seen. Answers that are final for any request, such
// as a 404, end it at once with the error that Status would return. A host that
// cannot be reached and an answer that cannot be read are faults: set OnError
// to hear of them at once. When ctx has a deadline, a last poll is made just
// before it. No request is sent after ctx is done.
func (c *Client) Wait(ctx context.Context, jobID string, opts ...WaitOption) (Status, error) {
	wc, err := newWaitConfig(opts)
	if err == nil {
		err = c.route.checkID(jobID)
	}
	if err != nil {
		return Status{JobID: jobID}, err
	}
	return c.follow(ctx, jobID, &wc, nil)
}

// Watch returns an iterator over the observations of one job: each answer, as
// it comes. It polls as Wait does and ends after the terminal answer or with
// the first error, which stands beside the last Status; a failed job is a
// *JobError beside its Status. Leaving the loop ends the polling. A loop body
// that takes long holds the polling back. Each run of the iterator is a watch
// of its own.
func (c *Client) Watch(ctx context.Context, jobID string, opts ...WaitOption) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		wc, err := newWaitConfig(opts)
		if err == nil {
			err = c.route.checkID(jobID)
		}
		if err != nil {
			yield(Status{JobID: jobID}, err)
			return
		}
		going := true
		st, err := c.follow(ctx, jobID, &wc, func(st Status) bool {
			going = yield(st, nil)
			return going
		})
		if going {
			yield(st, err)
		}
	}
}

// follow waits for one job on the caller's goroutine. observe, if not nil, is
// told each pending answer, and stops the wait by returning false.
func (c *Client) follow(ctx context.Context, jobID string, wc *waitConfig, observe func(Status) bool) (Status, error) {
	if expired(ctx) {
		return Status{JobID: jobID}, &WaitError{JobID: jobID, Cause: contextCause(ctx)}
	}
	if st, ok := c.recall(ctx, jobID, false); ok {
		if wc.onProgress != nil {
			wc.onProgress(st)
		}
		return verdictOn(st)
	}
	in := newInbox(ctx, wc.onProgress != nil || observe != nil, wc.onError != nil, 1)
	// Also when a callback panics or ends the goroutine.
	defer c.poller.leaveAll(in)
	job := Job{ID: jobID, StartedAt: wc.startedAt, Expect: wc.expect}
	c.poller.join(in, job, c.firstDue(job), nil)
	for {
		ev, ok := c.poller.take(in)
		if !ok {
			select {
			case <-in.ready:
				continue
			case <-ctx.Done():
				ev, _ = c.poller.abandon(in)
			}
		}
		st, err, done := wc.dispatch(ev)
		if done {
			return st, err
		}
		if ev.fault == nil && observe != nil && !observe(ev.status) {
			return Status{}, nil
		}
	}
}

// firstDue says when a job is to be polled first: at once, or nearly so where
// polls share requests, or as the schedule says from the start that is known.
func (c *Client) firstDue(job Job) int64 {
	clock := time.Now()
	now := c.since(clock)
	due := now
	if c.route.bulk != nil { // for others to share its request
		due = later(now, gatherTime)
	}
	if job.StartedAt.IsZero() {
		return due
	}
	delay, _ := c.polling.Next(Attempt{Expected: job.Expect, Shared: c.poller.shared()})
	return max(due, later(c.began(job.StartedAt, clock), delay))
}

// began translates a job's start into the client's time.
func (c *Client) began(t, now time.Time) int64 {
	// Not so long ago that the age would overflow.
	return min(c.since(now), max(c.when(t, now), -never/2))
}

// dispatch tells the callbacks of one event. If it ends the job, the result is
// returned.
func (wc *waitConfig) dispatch(ev event) (Status, error, bool) {
	if ev.panicked != nil {
		panic(ev.panicked)
	}
	switch {
	case ev.fault != nil:
		wc.onError(ev.fault) // only who has one is told of faults
		return Status{}, nil, false
	case ev.err != nil:
		return ev.status, ev.err, true
	}
	if wc.onProgress != nil {
		wc.onProgress(ev.status)
	}
	if !ev.status.State.Terminal() {
		return Status{}, nil, false
	}
	st, err := verdictOn(ev.status)
	return st, err, true
}

// verdictOn turns a terminal status into the result of a wait.
func verdictOn(st Status) (Status, error) {
	if st.State == StateFailed {
		return st, &JobError{Status: st}
	}
	return st, nil
}

const (
	// firstPace is the gap between the first checks that one WaitAll makes
	// once it has made those that may be in flight at once: 500 a second.
	// The same pace spreads out polls that would otherwise come back
	// together, after a pause that all of them were told to make.
	firstPace = 2 * time.Millisecond

	// feedGrace is how long a WaitAll whose context is done goes on to take
	// jobs from its sequence in order to report on each. One that blocks
	// must not keep the call from ending.
	feedGrace = 100 * time.Millisecond

	// feedPatience is how long it waits for such jobs altogether: one that
	// goes on for ever, at whatever pace, must not either.
	feedPatience = time.Second

	// batchBacklog is how many results a WaitAll holds for a slow consumer
	// before it stops polling.
	batchBacklog = 256
)

// WaitAll waits for all jobs of a sequence and yields each job exactly once, in
// the order in which they end; the error beside it is that job's, as Wait would
// return it. The sequence is read in a goroutine of its own, so it may block:
// jobs can stream in while others end. Ids that are given twice are two jobs
// with one poll.
//
// First checks are paced, those of jobs with a known start included: once as
// many have been made as may be in flight (WithMaxInFlight), one every 2 ms.
// Where polls share requests (see [Bulk]), it is the requests that are paced.
// Where the time would be up before, they come earlier. The sequence is read
// ahead of them; an endless one has to pace itself. A consumer that is slow
// holds the polling and the reading of the sequence back. When ctx is done,
// each job that has not ended is yielded with a *WaitError, in the order in
// which they were given; a sequence that then gives no further job for 100 ms,
// or has been waited for during 1 s in all, is not waited for. Leaving the loop
// stops everything that it started; the sequence is told so at its next yield.
//
// Of the options, StartedAt and Expect hold for jobs that bring none of their
// own, and the callbacks are called for all jobs, one at a time.
func (c *Client) WaitAll(ctx context.Context, jobs iter.Seq[Job], opts ...WaitOption) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		wc, err := newWaitConfig(opts)
		if err == nil && jobs == nil {
			err = badArgument("WaitAll: jobs", "nil", "a sequence")
		}
		if err != nil {
			yield(Status{}, err)
			return
		}
		in := newInbox(ctx, wc.onProgress != nil, wc.onError != nil, batchBacklog)
		defer c.poller.leaveAll(in)
		fed := make(chan feedEnd, 1)
		go func() {
			end := feedEnd{goexit: true}
			defer func() {
				end.panicked = recover()
				fed <- end
			}()
			c.feed(in, jobs, &wc)
			end.goexit = false
		}()
		c.drain(in, &wc, fed, yield)
	}
}

// A feedEnd says how the reading of a sequence ended: what it did there that
// ends a goroutine is done again on the caller's, as iter.Pull does.
type feedEnd struct {
	panicked any
	goexit   bool // also where it panicked
}

// feed hands the jobs of a sequence to the poller until the batch is closed.
func (c *Client) feed(in *inbox, jobs iter.Seq[Job], wc *waitConfig) {
	pace := new(pacer)
	for job := range jobs {
		if job.StartedAt.IsZero() {
			job.StartedAt = wc.startedAt
		}
		if job.Expect == 0 {
			job.Expect = wc.expect
		}
		err := c.route.checkID(job.ID)
		if err == nil && job.Expect < 0 {
			err = badArgument("Job.Expect", job.Expect, "a duration of 0 or more")
		}
		if err == nil && expired(in.ctx) {
			err = &WaitError{JobID: job.ID, Cause: contextCause(in.ctx)}
		}
		if err != nil {
			if !c.poller.post(in, event{status: Status{JobID: job.ID}, err: err}) {
				return
			}
			continue
		}
		if st, ok := c.recall(in.ctx, job.ID, false); ok {
			if !c.poller.post(in, event{status: st}) {
				return
			}
			continue
		}
		if !c.poller.join(in, job, c.firstDue(job), pace) {
			return
		}
	}
}

// drain yields the results of a batch until all have come.
func (c *Client) drain(in *inbox, wc *waitConfig, fed <-chan feedEnd, yield func(Status, error) bool) {
	var grace <-chan time.Time
	patience := feedPatience
	done, over := in.ctx.Done(), false
	for {
		if ev, ok := c.poller.take(in); ok {
			if st, err, end := wc.dispatch(ev); end {
				grace = nil
				if !yield(st, err) {
					return
				}
			}
			continue
		}
		if over {
			if ev, ok := c.poller.abandon(in); ok {
				if st, err, _ := wc.dispatch(ev); !yield(st, err) {
					return
				}
				continue
			}
			if grace == nil {
				grace = time.After(min(feedGrace, patience))
			}
		}
		if fed == nil && c.poller.empty(in) {
			return
		}
		waiting := over
		since := time.Now()
		select {
		case <-in.ready:
		case <-done:
			done, over = nil, true
		case end := <-fed:
			switch fed = nil; {
			case end.panicked != nil:
				panic(end.panicked)
			case end.goexit:
				runtime.Goexit()
			}
		case <-grace:
			if c.poller.empty(in) { // else a job came in the same moment
				return
			}
		}
		if waiting {
			patience -= time.Since(since)
		}
	}
}

// Hint says: look at this job now. If anybody waits for the job, a check that
// begins after the hint is made as soon as the server's 429s and a gap of 1 s
// between hinted checks of one job allow. The truth still comes from the
// backend, so a forged hint costs a request and nothing else. For a job that
// nobody waits for, Hint does nothing. It does not block. See [Webhook].
func (c *Client) Hint(jobID string) { c.poller.hint(jobID) }
