package vtclient

import (
	"context"
	"fmt"
	"math/rand/v2"
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
// else.
//
// A Status is one look: a pause that the server asks for, or that a 429 imposes on the
// client, is waited for only if it ends within 10 s of the first try. A longer one ends
// the call with a *WaitError that matches [ErrRetryAfter] and carries the pause. So the call
// returns within 10 s and one [WithTimeout], whatever the server asks for. A silent server
// is asked as often as WithRetry has it, for up to WithTimeout each.
//
// The errors are *HTTPError, *TransportError, *DecodeError and
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
			w := new(tries).ended(ctx, jobID)
			w.Cause = c.unreturned(jobID, w.Cause)
			err = w
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
	patience  time.Duration // with pauses that the server asks for; 0: statusPatience
	until     time.Time     // no try begins later for the server's sake
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
			// A LeaderError, as ctx itself may be done only in a moment.
			return flight.LeaderError{Err: t.ended(ctx, asked.id)}
		case held:
			fault := c.holdOf(asked.call).fault.Load()
			if out.hint > c.maxRetryAfter {
				return &WaitError{JobID: asked.id, Requests: t.requests(), Cause: errHeld(out.hint, c.maxRetryAfter), Fault: fault}
			}
			if t.fault == nil {
				t.fault = fault
			}
			if t.begin(time.Now()); !c.pause(ctx, t, out.hint) {
				return &WaitError{JobID: asked.id, Requests: t.requests(), Cause: errHeld(out.hint, t.patient()), Fault: fault}
			}
			continue
		case refused:
			if asked.call == nil || !c.outlasts(t, out) {
				return out.err
			}
		case fault:
			if out.lasting {
				return out.err
			}
		default:
			return out.err
		}
		if err := c.retryLater(ctx, asked, t, out); err != nil {
			return err
		}
	}
}

// outlasts reports whether a call outlasts a refusal of the breaker.
func (c *Client) outlasts(t *tries, out *outcome) bool {
	out.hint = out.err.(*RefusedError).RetryAfter()
	t.refusals++
	return out.hint > 0 && out.hint <= c.maxRetryAfter
}

// retryLater plans the try after a fault, or returns the error that ends the call.
func (c *Client) retryLater(ctx context.Context, asked inquiry, t *tries, out *outcome) error {
	if t.made++; t.made == 1 {
		t.first = time.Now().Add(-out.took) // not before the try: most need no clock
		t.begin(t.first)
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
	if delay = max(delay, pollFloor); out.hint < delay {
		t.notBefore = time.Now().Add(delay)
	} else if c.pause(ctx, t, out.hint) {
		delay = time.Until(t.notBefore)
	} else {
		return &WaitError{JobID: asked.id, Requests: t.requests(), Cause: errNoTime(t.patient()), Fault: out.err}
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

// statusPatience is how long a Status waits, from its first try, for the pauses that the server
// asks for. A call for one look has to return soon.
const statusPatience = 10 * time.Second

// errNoTime reports that the pauses which the server asks for outlast a call.
func errNoTime(patience time.Duration) error {
	return fmt.Errorf("%w: the call waits for %v at most", ErrRetryAfter, patience)
}

func (t *tries) patient() time.Duration {
	if t.patience == 0 {
		return statusPatience
	}
	return t.patience
}

// begin notes when the first try began, or was held.
func (t *tries) begin(at time.Time) {
	if t.until.IsZero() {
		t.until = at.Add(t.patient())
	}
}

// returns counts the calls that come back after a pause, by the time at which it ends.
type returns struct {
	mu   sync.Mutex
	ends crowd
}

// returnBurst is the number of calls that come back at once after a pause: too few for a
// crowd.
const returnBurst = 4

// pause plans the next try after a pause, and reports whether that is soon enough. Where ctx
// ends first, sleep ends the call.
func (c *Client) pause(ctx context.Context, t *tries, pause time.Duration) bool {
	end, last := time.Now().Add(pause), t.until
	deadline, limited := ctx.Deadline()
	if t.notBefore = end; limited && !end.Before(deadline) {
		return true
	}
	if !end.Before(last) {
		return false
	}
	if limited && deadline.Before(last) {
		last = deadline
	}
	t.notBefore = end.Add(c.returns.turn(c.since(end), last.Sub(end)))
	return true
}

// turn returns how long after the end of a pause a call comes back: at the pace of first
// checks, or where so many do not fit into the room that there is, at any time within it.
func (r *returns) turn(end int64, room time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ends) > 64 {
		r.ends.forget(end - int64(statusPatience))
	}
	turn := time.Duration(max(0, r.ends.add(end, 1)-returnBurst+1)) * firstPace
	if turn >= room {
		return rand.N(room)
	}
	return turn
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
func (t *tries) ended(ctx context.Context, jobID string) *WaitError {
	last := t.fault
	if last != nil {
		last = snapshot(last) // the next leader has the original
		details(last).Next = 0
	}
	return &WaitError{JobID: jobID, Requests: t.requests(), Cause: contextCause(ctx), Fault: last}
}
