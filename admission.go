package vtclient

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// A Limiter bounds the rate of requests. *rate.Limiter of golang.org/x/time is
// one as it is. Wait blocks until the next request may be made or ctx is done.
// An error while ctx is not done, such as that the time would not suffice, is a
// fault of the attempt, and nothing is sent. It must be safe for concurrent
// use.
type Limiter interface {
	Wait(ctx context.Context) error
}

// An admission decides when a request may be sent: it bounds the requests in flight and
// their rate, and sends none while a 429 holds the client or the breaker refuses.
type admission struct {
	clock   *clock
	gate    chan struct{} // holds a token for each request in flight
	limiter Limiter       // nil: none
	breaker Breaker       // nil: none

	hold        hold // of all requests
	submissions hold // of those that create jobs only
}

// A hold is the pause that a 429 asks for.
type hold struct {
	until atomic.Int64              // its end; 0: there was none
	fault atomic.Pointer[HTTPError] // that 429
}

// enter takes a place in flight and waits for the limiter. If it reports true, leave
// must follow; if not, out has the reason. The gate and the limiter come before the
// breaker, so that no permit is held in a queue.
func (a *admission) enter(ctx context.Context, asked inquiry, number int, out *outcome) (ok bool) {
	if d := a.held(asked.call); d > 0 {
		out.verdict, out.hint = held, d
		return false
	}
	if !a.takePlace(ctx, out) {
		return false
	}
	defer func() {
		if !ok { // after a panic of the limiter, too
			a.leave()
		}
	}()
	if a.limiter != nil {
		if err := a.limiter.Wait(ctx); err != nil {
			if expired(ctx) {
				out.verdict = left
				return false
			}
			out.verdict, out.limited = fault, true
			out.err = &TransportError{Details: asked.details(number), Err: fmt.Errorf("refused by the limiter: %w", hideContextErrors(err))}
			return false
		}
	}
	return a.open(ctx, asked, out)
}

// takePlace waits for a place in flight.
func (a *admission) takePlace(ctx context.Context, out *outcome) bool {
	select {
	case a.gate <- struct{}{}:
		return true
	default:
	}
	select {
	case a.gate <- struct{}{}:
		return true
	case <-ctx.Done():
		out.verdict = left
		return false
	}
}

func (a *admission) leave() { <-a.gate }

// open reports whether nothing that came up in a queue keeps a request from being sent:
// a 429, or the end of the context.
func (a *admission) open(ctx context.Context, asked inquiry, out *outcome) bool {
	if d := a.held(asked.call); d > 0 {
		out.verdict, out.hint = held, d
		return false
	}
	if expired(ctx) {
		out.verdict = left
		return false
	}
	return true
}

// holdOf returns the hold that lasts longest for a request of k; nil: for a look at a job.
func (a *admission) holdOf(k *call) *hold {
	if k.submits() && a.submissions.until.Load() > a.hold.until.Load() {
		return &a.submissions
	}
	return &a.hold
}

// held returns how long a 429 still holds a request of k.
func (a *admission) held(k *call) time.Duration {
	until := a.holdOf(k).until.Load()
	if until == 0 {
		return 0
	}
	return max(0, time.Duration(until-a.clock.now()))
}

// hold429 makes the pause of a 429 hold, unless another one lasts longer. The answer to a
// look holds the whole client. The answer to a submission holds submissions only: it is
// mostly about the number of jobs, and those end sooner for being looked at.
func (a *admission) hold429(k *call, err *HTTPError) {
	h := &a.hold
	if k.submits() {
		h = &a.submissions
	}
	until := later(a.clock.now(), err.RetryAfter)
	if err.RetryAfter <= 0 || until <= h.until.Load() {
		return
	}
	shared := *err // the caller's is completed with what comes next, while others read this one
	h.fault.Store(&shared)
	for {
		old := h.until.Load()
		if until <= old || h.until.CompareAndSwap(old, until) {
			return
		}
	}
}
