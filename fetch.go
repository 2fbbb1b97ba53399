package vtclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrFinal is what an error of the function given to [WithFetch] wraps to say
// that no further try would change it, such as for a job that does not exist:
//
//	return vtclient.Status{}, fmt.Errorf("%w: %w", vtclient.ErrFinal, err)
//
// It ends a wait or a Status call at once. All other errors are retried.
var ErrFinal = errors.New("final")

// call is to the caller's own function what send is to HTTP.
func (c *Client) call(parent context.Context, asked inquiry, number int, out *outcome) (health error) {
	ctx := &lazyContext{parent: parent, deadline: time.Now().Add(c.timeout)}
	defer ctx.end()
	c.emit(parent, traceSent, asked.trace(number))
	began := time.Now()
	st, err := c.fetch(ctx, asked.id)
	ended := time.Now()
	latency := ended.Sub(began)

	d := asked.details(number)
	switch {
	case err == nil:
		c.latency.observe(latency)
		c.acceptFetched(&st, d, ended, out)
	case errors.Is(err, ErrFinal):
		d.then = "not retried: the error is final"
		out.verdict, out.err = final, &TransportError{Details: d, Err: fetchError{err}}
	case expired(parent):
		out.verdict, health = left, errNeutral
	default:
		if err = (fetchError{err}); ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", timeoutError{c.timeout}, err)
		}
		var r interface{ RetryAfter() time.Duration }
		if errors.As(err, &r) {
			d.RetryAfter = min(max(0, r.RetryAfter()), maxHint)
		}
		health = &TransportError{Details: d, Err: err}
		out.verdict, out.err, out.hint = fault, health, d.RetryAfter
	}
	out.requests, out.took = 1, latency
	if len(c.traces) > 0 {
		info := asked.trace(number)
		info.State, info.Latency, info.Wire, info.Err = out.status.State, latency, 1, snapshot(out.err)
		if out.verdict == left {
			info.Err = contextCause(parent)
		}
		c.emit(parent, traceAnswered, info)
	}
	return health
}

// acceptFetched says what an answer of the caller's own function means.
func (c *Client) acceptFetched(st *Status, d Details, at time.Time, out *outcome) {
	switch {
	case !st.known():
		d.then = "not retried: the function given to WithFetch has to know it"
		out.verdict, out.err = final, &StateError{Details: d, Word: clip(string(st.State))}
		return
	case st.State == StatePending:
		st.Body = nil
	default:
		st.Body = slices.Clip(slices.Clone(st.Body))
	}
	received(st, d.JobID, at)
	out.verdict, out.status = answered, *st
}

// A fetchError is an error of the caller's own function. It is that error in all
// but the context errors, which belong to the context of whoever waits.
type fetchError struct{ error }

func (e fetchError) Is(target error) bool {
	return target != context.Canceled && target != context.DeadlineExceeded && errors.Is(e.error, target)
}

func (e fetchError) As(target any) bool { return errors.As(e.error, target) }
