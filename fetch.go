package vtclient

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"time"
)

// ErrFinal marks an error that no further try would change, such as that of a job that does
// not exist. The function given to [WithFetch] and the Decode functions of an [Endpoint]
// may return an error that wraps it:
//
//	return vtclient.Status{}, fmt.Errorf("%w: %w", vtclient.ErrFinal, err)
//
// It ends a wait or a Status call at once. Their other errors are retried.
var ErrFinal = errors.New("final")

// A fetchBackend asks by a function of the caller's.
type fetchBackend struct {
	fetch   func(context.Context, string) (Status, error)
	name    string // of the function, for errors
	timeout time.Duration
	latency *latency

	mu    sync.Mutex
	calls map[string]fetchCall // under way, by job
}

func (b *fetchBackend) target(inquiry) string { return b.name }

// functionName names a function given to WithFetch.
func functionName(f any) string {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	return "WithFetch(" + oneLine(name[strings.LastIndexByte(name, '/')+1:], 200) + ")"
}

// A fetchCall is the calls of the function about one job that are under way.
type fetchCall struct {
	n     int
	began time.Time // the first of them
}

// call calls the function.
func (b *fetchBackend) call(ctx context.Context, jobID string) (Status, error) {
	b.count(jobID, 1)
	defer b.count(jobID, -1) // also where it panics
	return b.fetch(ctx, jobID)
}

func (b *fetchBackend) count(jobID string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.calls[jobID]
	if c.n == 0 {
		c.began = time.Now()
	}
	if c.n += n; c.n == 0 {
		delete(b.calls, jobID)
		return
	}
	if b.calls == nil {
		b.calls = make(map[string]fetchCall)
	}
	b.calls[jobID] = c
}

// unreturned adds to the cause of the end of a wait that a call of the function given to
// WithFetch has not returned.
func (x *exchanger) unreturned(jobID string, cause error) error {
	b, ok := x.backend.(*fetchBackend)
	if !ok {
		return cause
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.calls[jobID]
	if !ok {
		return cause
	}
	return &unreturnedError{cause, time.Since(c.began)}
}

// An unreturnedError is the cause of the end of a wait while the function given to
// WithFetch had not returned. Its text is composed when it is asked for, as the cause may
// be the caller's own error.
type unreturnedError struct {
	cause error
	after time.Duration
}

func (e *unreturnedError) Error() string {
	return fmt.Sprintf("%v, while the function given to WithFetch, called %v before, had not returned", e.cause, e.after.Round(time.Millisecond))
}
func (e *unreturnedError) Unwrap() error { return e.cause }

// ask calls the function within the timeout.
func (b *fetchBackend) ask(parent context.Context, asked inquiry, number int, sent *announcement) (out outcome) {
	began := time.Now()
	if asked.by == nil { // the id is a caller's, and may be a part of a large text
		asked.id = strings.Clone(asked.id)
	}
	ctx := &lazyContext{parent: parent, deadline: began.Add(b.timeout)}
	defer ctx.end()
	if !sent.begin(ctx) {
		return sent.out
	}
	if sent != nil {
		began = time.Now()
	}
	st, err := b.call(ctx, asked.id)
	ended := time.Now()
	out.requests, out.wire, out.took = 1, 1, ended.Sub(began)

	d := asked.details(number)
	switch {
	case err == nil:
		b.latency.observe(out.took)
		acceptFetched(&st, d, ended, &out)
	case errors.Is(err, ErrFinal):
		d.then = "not retried"
		out.verdict, out.err = final, &TransportError{Details: d, Err: fetchError(err)}
	case expired(parent):
		out.verdict, out.health = left, errNeutral
	default:
		if err = fetchError(err); ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", timeoutError{b.timeout}, err)
		}
		var r interface{ RetryAfter() time.Duration }
		if errors.As(err, &r) {
			d.RetryAfter = min(max(0, r.RetryAfter()), maxHint)
		}
		out.health = &TransportError{Details: d, Err: err}
		out.verdict, out.err, out.hint = fault, out.health, d.RetryAfter
	}
	return out
}

// acceptFetched turns an answer of the caller's function into an outcome.
func acceptFetched(st *Status, d Details, at time.Time, out *outcome) {
	switch {
	case !st.known():
		d.then = "not retried: the function given to WithFetch must return one of the three states"
		out.verdict, out.lasting, out.err = fault, true, &UnknownStateError{Details: d, Word: clip(string(st.State))}
		return
	case st.State == StatePending:
		st.Body = nil
	default:
		st.Body = ownCopy(st.Body)
	}
	received(st, d.JobID, at)
	out.verdict, out.status = answered, *st
}

// fetchError is the error of the caller's function in all but the context errors.
func fetchError(err error) error {
	return &foreignError{text: clip(err.Error()), err: err, typed: true}
}
