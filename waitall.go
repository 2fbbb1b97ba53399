package vtclient

import (
	"context"
	"iter"
	"runtime"
	"time"
)

const (
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
// First checks are paced, those of jobs with a known start included: after as
// many as may be in flight (WithMaxInFlight), one is made every 2 ms, or sooner
// where a deadline would pass before. Where polls share requests (see [Bulk]),
// the requests are paced. The sequence is read ahead of the first checks; an
// endless one has to pace itself. A slow consumer holds back the polling and
// the reading of the sequence.
//
// When ctx is done, each job that has not ended is yielded with a *WaitError, in
// the order in which the jobs were given. The sequence is read on for that, until
// it gives no further job for 100 ms, or has been waited for during 1 s in all.
// Leaving the loop stops everything that it started; the sequence ends at its
// next yield.
//
// The sequence may submit each job as it is read: see [Client.Submit] and [AtMost].
//
// Of the options, StartedAt and Expect hold for jobs that bring none of their
// own, and the callbacks are called for all jobs, one at a time.
func (c *Client) WaitAll(ctx context.Context, jobs iter.Seq[Job], opts ...WaitOption) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		wc := newWaitConfig(opts)
		err := wc.err
		if err == nil && jobs == nil {
			err = badArgument("WaitAll: jobs", "nil", "a sequence")
		}
		if err == nil && ctx == nil {
			err = noContext("WaitAll")
		}
		if err != nil {
			yield(Status{}, err)
			return
		}
		w := caller{&c.engine, newBatchInbox(ctx, c.deadline(ctx), wc.onProgress != nil, wc.onError != nil)}
		w.in.atMost = wc.atMost
		defer w.leave()
		fed := make(chan feedEnd, 1)
		go func() {
			end := feedEnd{goexit: true}
			defer func() {
				end.panicked = recover()
				fed <- end
			}()
			c.feed(w, jobs, wc)
			end.goexit = false
		}()
		w.drain(wc, fed, yield)
	}
}

// A feedEnd is how the reading of a sequence ended: a panic of it, or an end of the
// goroutine within it, is done again on the caller's goroutine, as iter.Pull does.
type feedEnd struct {
	panicked any
	goexit   bool // also where it panicked
}

// again does it again.
func (end feedEnd) again() {
	if end.panicked != nil {
		panic(end.panicked)
	}
	if end.goexit {
		runtime.Goexit()
	}
}

// feed hands the jobs of a sequence to the engine until the inbox is closed.
func (c *Client) feed(w caller, jobs iter.Seq[Job], wc *waitConfig) {
	enter := (*lookup).enter
	if _, own := c.cache.(*MemoryCache[Status]); c.cache != nil && !own {
		ahead := &lookups{queue: make(chan *lookup, lookupsAtOnce), over: make(chan struct{})}
		go ahead.enter(w)
		defer ahead.close()
		enter = ahead.begin
	}
	for job := range jobs {
		if job.StartedAt.IsZero() {
			job.StartedAt = wc.job.StartedAt
		}
		if job.Expect == 0 {
			job.Expect = wc.job.Expect
		}
		if !enter(&lookup{c: c, wc: wc, job: job}, w) || wc.atMost > 0 && !w.awaitFewer() {
			return
		}
	}
}

// A lookup is a job on its way from the sequence to the engine.
type lookup struct {
	c        *Client
	wc       *waitConfig
	job      Job
	st       *Status // from the cache; nil: not there
	err      error   // the job cannot be waited for
	panicked any     // by the cache
	done     chan struct{}
}

// check looks at the job, and reports whether it can be waited for.
func (l *lookup) check(ctx context.Context) bool {
	if l.err = l.c.route.checkID(l.job.ID); l.err == nil {
		l.err = badEstimate("Job.Expect", l.job.Expect)
	}
	if l.err == nil && expired(ctx) {
		l.err = &WaitError{JobID: l.job.ID, Cause: contextCause(ctx)}
	}
	return l.err == nil
}

// enter hands a job to the engine, or its end to the inbox. It reports false if the
// inbox is closed.
func (l *lookup) enter(w caller) bool {
	c := l.c
	if l.done == nil && l.check(w.in.ctx) {
		l.st = c.recall(w.in.ctx, l.job.ID, false)
	}
	switch {
	case l.panicked != nil:
		return l.post(w, &event{status: Status{JobID: l.job.ID}, panicked: l.panicked})
	case l.err != nil:
		return l.post(w, &event{status: Status{JobID: l.job.ID}, err: l.err})
	case l.st != nil:
		return l.post(w, recalled(l.st))
	}
	c.waitBegun(w.in.ctx, l.job.ID)
	if !w.awaitRoom() {
		return l.leave(w)
	}
	due, overdue := l.wc.first(c, &l.job)
	return w.join(l.job.ID, &l.job, due, overdue) || l.leave(w)
}

// post hands the end of a job to the inbox, and reports false if that is closed.
func (l *lookup) post(w caller, ev *event) bool {
	l.c.waitBegun(w.in.ctx, l.job.ID)
	return w.post(ev) || l.leave(w)
}

// leave shows the traces the end of a wait for which the inbox was closed too early.
func (l *lookup) leave(w caller) bool {
	l.c.waitEnded(w.in.ctx, &event{status: Status{JobID: l.job.ID}, err: errLoopLeft})
	return false
}

// lookupsAtOnce bounds the jobs that are looked up in a foreign cache at the same
// time. One by one, 10,000 jobs would take 50 s with a cache of 5 ms.
const lookupsAtOnce = 64

// lookups are under way, in the order of the sequence.
type lookups struct {
	queue chan *lookup
	over  chan struct{} // is closed when nothing is handed over any more
	end   feedEnd
}

// begin begins to look up a job. It reports false if the inbox is closed.
func (ls *lookups) begin(l *lookup, w caller) bool {
	if !w.announce(1) {
		return false
	}
	l.done = make(chan struct{})
	if l.check(w.in.ctx) {
		go func() {
			defer close(l.done)
			defer func() { l.panicked = recover() }()
			l.st = l.c.recall(w.in.ctx, l.job.ID, false)
		}()
	} else {
		close(l.done)
	}
	select {
	case ls.queue <- l:
		return true
	case <-ls.over:
		return false
	}
}

// enter hands over the jobs that have been looked up until the inbox is closed.
func (ls *lookups) enter(w caller) {
	ls.end.goexit = true
	defer func() {
		ls.end.panicked = recover()
		close(ls.over)
	}()
	for l := range ls.queue {
		open := ls.handOver(l, w)
		w.announce(-1)
		if signal(w.in.ready); !open {
			break
		}
	}
	ls.end.goexit = false
}

// handOver waits for a lookup and hands its job over. A cache that goes on although the
// context is done is not waited for.
func (ls *lookups) handOver(l *lookup, w caller) (open bool) {
	select {
	case <-l.done:
		return l.enter(w)
	default:
	}
	select {
	case <-l.done:
		return l.enter(w)
	case <-w.in.ctx.Done():
		id := l.job.ID
		return l.post(w, &event{status: Status{JobID: id}, err: &WaitError{JobID: id, Cause: contextCause(w.in.ctx)}})
	}
}

// close waits until all jobs are handed over. What the caller's code did there is done
// again on this goroutine.
func (ls *lookups) close() {
	close(ls.queue)
	<-ls.over
	ls.end.again()
}

// drain yields the results of a WaitAll until all have come.
func (w caller) drain(wc *waitConfig, fed <-chan feedEnd, yield func(Status, error) bool) {
	d := draining{w: w, fed: fed, done: w.in.ctx.Done(), patience: feedPatience}
	for {
		ev := w.take()
		if ev == nil && d.over {
			ev = w.abandon()
		}
		switch {
		case ev == nil && d.wait():
		case ev == nil:
			return
		case w.handle(wc, ev):
			d.grace = nil
			if !yield(ev.status, w.e.c.verdict(ev)) {
				return
			}
		}
	}
}

// A draining is how far a WaitAll has come.
type draining struct {
	w        caller
	fed      <-chan feedEnd  // nil: the sequence has ended
	done     <-chan struct{} // of the context; nil: it is done
	over     bool            // the context is done
	grace    <-chan time.Time
	patience time.Duration
}

// wait waits for something to take, and reports false if nothing more is to come.
func (d *draining) wait() bool {
	if d.fed == nil && d.w.empty() {
		return false
	}
	if d.over && d.grace == nil {
		d.grace = time.After(min(feedGrace, d.patience))
	}
	if d.over {
		since := time.Now()
		defer func() { d.patience -= time.Since(since) }()
	}
	select {
	case <-d.w.in.ready:
	case <-d.done:
		d.done, d.over = nil, true
	case end := <-d.fed:
		d.fed = nil
		end.again()
	case <-d.grace:
		d.grace = nil // a job may be on its way, or have come in the same moment
		return !d.w.empty() || d.patience > 0 && d.w.expects()
	}
	return true
}
