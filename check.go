package vtclient

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/vtclient/vtclient/internal/flight"
)

// Status asks how far a job is. It answers from the cache if it can, shares
// the request with other calls for the same job that are under way, and
// retries faults with the delays of [WithRetry].
//
// A job that failed is an answer, not an error: look at State, and for some
// backends at ResultMissing. On an error the Status holds the JobID and nothing
// else. The errors are *HTTPError, *TransportError, *DecodeError and
// *UnknownStateError for what the backend did, *RefusedError for the breaker's
// refusal, *ArgumentError for an id that cannot be asked about, and *WaitError
// when ctx ended first, or is sure to end before the next try may be made.
func (c *Client) Status(ctx context.Context, jobID string) (Status, error) {
	if err := c.route.checkID(jobID); err != nil {
		return Status{JobID: jobID}, err
	}
	if ctx == nil {
		return Status{JobID: jobID}, noContext("Status")
	}
	if expired(ctx) {
		return Status{JobID: jobID}, c.named(new(tries).ended(ctx, jobID))
	}
	if st := c.recall(ctx, jobID, true); st != nil {
		hit := *st
		hit.Cached = true
		return hit, nil
	}
	st, _, err := c.flights.Do(ctx, jobID, c.try)
	if err != nil {
		st = Status{JobID: jobID}
		if err == ctx.Err() { // of a follower: the call that it had joined goes on
			err = new(tries).ended(ctx, jobID)
		}
		err = c.named(err)
	}
	return st, err
}

// tries is where a sequence of retries stands. It belongs to the shared call and not to
// its leader: the next leader goes on from there.
type tries struct {
	made      int
	refusals  int // of the breaker, among those made
	number    int // of the last request: a 401 makes two of one try
	first     time.Time
	notBefore time.Time
	fault     error
}

func (t *tries) requests() int { return t.made - t.refusals }

// check asks how far a job is until there is an answer, or an error that is not worth
// another try.
func (c *Client) check(ctx context.Context, jobID string, t *tries) (Status, error) {
	var out outcome
	if err := c.ask(ctx, inquiry{id: jobID}, t, &out); err != nil {
		return Status{}, err
	}
	c.remember(ctx, &out.status)
	if out.status.settled() {
		c.engine.jobEnded(&out.status)
	}
	return out.status, nil
}

// ask makes exchanges until there is an answer, or an error that is not worth another
// try. A call also outlasts the refusals of a breaker that gives the time: there is no
// schedule by which its caller would come back.
func (c *Client) ask(ctx context.Context, asked inquiry, t *tries, out *outcome) error {
	for {
		if err := t.sleep(ctx, asked.id); err != nil {
			return err
		}
		*out = c.exchange(ctx, asked, t.number+1)
		t.number = out.number
		switch out.verdict {
		case answered:
			return nil
		case left:
			// Marked, as ctx itself may be done only in a moment.
			return flight.LeaderError{Err: t.ended(ctx, asked.id)}
		case held:
			if out.hint > c.maxRetryAfter {
				return &WaitError{JobID: asked.id, Requests: t.requests(), Cause: errHeld(out.hint, c.maxRetryAfter), Fault: c.holdFault.Load()}
			}
			t.notBefore = c.returnAfter(ctx, out.hint)
			if t.fault == nil {
				t.fault = c.holdFault.Load()
			}
			continue
		case refused:
			out.hint = out.err.(*RefusedError).RetryAfter()
			if asked.call == nil || out.hint == 0 || out.hint > c.maxRetryAfter {
				return out.err
			}
			t.refusals++
		case final:
			return out.err
		}
		if err := c.retryLater(ctx, asked, t, out); err != nil {
			return err
		}
	}
}

// retryLater plans the try after a fault, or returns the error that ends the call.
func (c *Client) retryLater(ctx context.Context, asked inquiry, t *tries, out *outcome) error {
	if t.made++; t.made == 1 {
		t.first = time.Now().Add(-out.took) // not before the try: most need no clock
	}
	t.fault = out.err
	if out.hint > c.maxRetryAfter {
		return &WaitError{JobID: asked.id, Requests: t.requests(), Cause: errTooLong(c.maxRetryAfter), Fault: out.err}
	}
	d := details(out.err)
	delay, ok := c.retry.Next(Attempt{Number: t.made, Elapsed: time.Since(t.first)})
	if !ok {
		d.then = fmt.Sprintf("not retried: WithRetry stops after try %d", t.made)
		return out.err
	}
	if delay = max(delay, out.hint, pollFloor); delay == out.hint && c.held() > 0 {
		t.notBefore = c.returnAfter(ctx, delay)
		delay = time.Until(t.notBefore)
	} else {
		t.notBefore = time.Now().Add(delay)
	}
	if deadline, ok := ctx.Deadline(); ok && !t.notBefore.Before(deadline) {
		d.then = "no further request fits before the deadline"
		return nil // sleep ends the call
	}
	d.Next = delay
	info := asked.trace(t.number + 1)
	info.Delay, info.Retry, info.Err, info.first = delay, true, out.err, !out.shown
	c.emit(ctx, traceScheduled, info)
	return nil
}

// returns gives the calls that one 429 holds their places after its pause.
type returns struct {
	mu   sync.Mutex
	pace pacer
}

// returnBurst is the number of calls that come back at once after a 429's pause: too few
// for a crowd.
const returnBurst = 4

// returnAfter returns the time of the next try after a 429's pause. The calls that it
// holds come back one by one, at the pace of first checks. A call whose deadline comes
// before its place is due at the end of the pause.
func (c *Client) returnAfter(ctx context.Context, pause time.Duration) time.Time {
	now := time.Now()
	end := now.Add(pause)
	deadline, limited := ctx.Deadline()
	if limited && !end.Before(deadline) {
		return end
	}
	c.returns.mu.Lock()
	t := c.returns.pace.next(c.since(end), returnBurst, int64(firstPace))
	c.returns.mu.Unlock()
	place := now.Add(time.Duration(t - c.since(now)))
	if limited && !place.Before(deadline) {
		return end
	}
	return place
}

// sleep waits until the next try may be made. Where the context's deadline
// comes first there is no use in waiting for either, and it returns at once.
func (t *tries) sleep(ctx context.Context, jobID string) error {
	if t.notBefore.IsZero() { // saves the first try a look at the clock
		return nil
	}
	d := time.Until(t.notBefore)
	if d <= 0 {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && !t.notBefore.Before(deadline) {
		return flight.LeaderError{Err: &WaitError{JobID: jobID, Requests: t.requests(), Fault: t.fault,
			Cause: fmt.Errorf("the next try in %v would come too late: %w", d.Round(time.Millisecond), context.DeadlineExceeded)}}
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return t.ended(ctx, jobID)
	}
}

// ended is the error of a call whose context is done.
func (t *tries) ended(ctx context.Context, jobID string) error {
	last := t.fault
	if last != nil {
		last = snapshot(last) // the next leader has the original
		details(last).Next = 0
	}
	return &WaitError{JobID: jobID, Requests: t.requests(), Cause: contextCause(ctx), Fault: last}
}
