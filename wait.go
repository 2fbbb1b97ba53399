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
	in, wc, ev := c.begin(ctx, jobID, opts, false)
	if ev == nil {
		ev = c.follow(in, wc, nil)
	}
	return ev.status, ev.verdict()
}

// Watch returns an iterator over the observations of one job: each answer, as
// it comes. It polls as Wait does and ends after the terminal answer or with
// the first error, which stands beside the last Status; a failed job is a
// *JobError beside its Status. Leaving the loop ends the polling. A loop body
// that takes long holds the polling back. Each run of the iterator is a watch
// of its own.
func (c *Client) Watch(ctx context.Context, jobID string, opts ...WaitOption) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		in, wc, ev := c.begin(ctx, jobID, opts, true)
		if ev == nil {
			ev = c.follow(in, wc, func(ev *event) bool { return yield(ev.status, nil) })
		}
		if ev != nil {
			yield(ev.status, ev.verdict())
		}
	}
}

// follow waits for the event that ends a job and returns it. observe, if not nil, is told
// of each pending answer; if it wants no more of them, follow returns nil.
//
// A goroutine that waits costs little more than its stack, which has 1.1 kB of room at first
// and grows to 4 kB for good where that is not enough. So from Wait to the select here,
// and in join, no frame holds a Status: a Status is behind a pointer, or in a function
// that returns. It takes 100,000 waits from 5.1 kB each to 3.3 kB.
func (c *Client) follow(in *inbox, wc *waitConfig, observe func(*event) bool) *event {
	defer c.poller.leaveAll(in) // also when a callback panics or ends the goroutine
	for {
		ev := c.poller.take(in)
		if ev == nil {
			select {
			case <-in.ready:
				continue
			case <-in.ctx.Done():
				ev = c.poller.abandon(in)
			}
		}
		if wc.dispatch(ev) {
			return ev
		}
		if ev.fault == nil && observe != nil && !observe(ev) {
			return nil
		}
	}
}

// begin begins to wait for one job: with an inbox, which has to be closed with leaveAll,
// or with the event that ends the wait already.
func (c *Client) begin(ctx context.Context, jobID string, opts []WaitOption, watch bool) (*inbox, *waitConfig, *event) {
	wc, ev := c.foregone(ctx, jobID, opts)
	if ev != nil {
		return nil, nil, ev
	}
	in := newInbox(ctx, watch || wc.onProgress != nil, wc.onError != nil, 1)
	due := c.firstDue(&wc.job)
	c.poller.mu.Lock()
	c.poller.join(in, jobID, &wc.job, due, nil)
	return in, wc, nil
}

// foregone returns the event that ends a wait before it has begun, nil if there is none.
func (c *Client) foregone(ctx context.Context, jobID string, opts []WaitOption) (*waitConfig, *event) {
	wc, err := newWaitConfig(opts)
	if err == nil {
		err = c.route.checkID(jobID)
	}
	if err == nil && expired(ctx) {
		err = &WaitError{JobID: jobID, Cause: contextCause(ctx)}
	}
	if err != nil {
		return wc, &event{status: Status{JobID: jobID}, err: err}
	}
	if st := c.recall(ctx, jobID, false); st != nil {
		ev := recalled(st)
		wc.dispatch(ev)
		return wc, ev
	}
	return wc, nil
}

// recalled is the event of a job of which the cache knows the end.
func recalled(st *Status) *event {
	ev := &event{status: *st}
	ev.status.Cached = true
	return ev
}

// firstDue says when a job is to be polled first: at once, or nearly so where
// polls share requests, or as the schedule says from the start that is known.
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
	delay, _ := c.polling.Next(Attempt{Expected: job.Expect, Shared: c.poller.shared()})
	return max(due, later(c.began(job.StartedAt, clock), delay))
}

// began translates a job's start into the client's time.
func (c *Client) began(t, now time.Time) int64 {
	// Not so long ago that the age would overflow.
	return min(c.since(now), max(c.when(t, now), -never/2))
}

// dispatch tells the callbacks of one event and reports whether it ends the job.
func (wc *waitConfig) dispatch(ev *event) (end bool) {
	switch {
	case ev.panicked != nil:
		panic(ev.panicked)
	case ev.fault != nil:
		wc.onError(ev.fault) // only who has one is told of faults
		return false
	case ev.err != nil:
		return true
	}
	if wc.onProgress != nil {
		wc.onProgress(ev.status)
	}
	return ev.status.State.Terminal()
}

// verdict is the error beside the status of an event that ends a job.
func (ev *event) verdict() error {
	if ev.err == nil && ev.status.State == StateFailed {
		return &JobError{Status: ev.status}
	}
	return ev.err
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
		in.room = make(chan struct{}, 1)
		defer c.poller.leaveAll(in)
		fed := make(chan feedEnd, 1)
		go func() {
			end := feedEnd{goexit: true}
			defer func() {
				end.panicked = recover()
				fed <- end
			}()
			c.feed(in, jobs, wc)
			end.goexit = false
		}()
		c.drain(in, wc, fed, yield)
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
			job.StartedAt = wc.job.StartedAt
		}
		if job.Expect == 0 {
			job.Expect = wc.job.Expect
		}
		err := c.route.checkID(job.ID)
		if err == nil && job.Expect < 0 {
			err = badArgument("Job.Expect", job.Expect, "a duration of 0 or more")
		}
		if err == nil && expired(in.ctx) {
			err = &WaitError{JobID: job.ID, Cause: contextCause(in.ctx)}
		}
		if err != nil {
			if !c.poller.post(in, &event{status: Status{JobID: job.ID}, err: err}) {
				return
			}
			continue
		}
		if st := c.recall(in.ctx, job.ID, false); st != nil {
			if !c.poller.post(in, recalled(st)) {
				return
			}
			continue
		}
		due := c.firstDue(&job)
		if !c.poller.awaitRoom(in) {
			return
		}
		c.poller.join(in, job.ID, &job, due, pace)
	}
}

// drain yields the results of a batch until all have come.
func (c *Client) drain(in *inbox, wc *waitConfig, fed <-chan feedEnd, yield func(Status, error) bool) {
	var grace <-chan time.Time
	patience := feedPatience
	done, over := in.ctx.Done(), false
	for {
		if ev := c.poller.take(in); ev != nil {
			if wc.dispatch(ev) {
				grace = nil
				if !yield(ev.status, ev.verdict()) {
					return
				}
			}
			continue
		}
		if over {
			if ev := c.poller.abandon(in); ev != nil {
				wc.dispatch(ev)
				if !yield(ev.status, ev.verdict()) {
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
