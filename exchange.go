package vtclient

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

// A verdict is what an exchange means for its caller.
type verdict uint8

const (
	answered verdict = iota // status holds the answer
	fault                   // err; worth another try
	final                   // err; another try would bring the same
	refused                 // err; by the breaker, nothing was sent
	held                    // nothing was sent: a 429 holds the whole client for hint
	left                    // the caller's context is done
)

// An outcome is what an exchange brought.
type outcome struct {
	verdict  verdict
	limited  bool // the limiter let no request through: nothing was sent
	absent   bool // a 404 for a single job
	lasting  bool // a fault that another try brings again, if it comes soon
	status   Status
	err      error
	lost     *outgoing     // the request, where a connection that had served before failed; nil: it may not be repeated
	refusal  *textError    // the breaker's own error, for a poll
	pause    time.Duration // for which the breaker goes on refusing, for a poll; 0: that is not known
	hint     time.Duration // the server's Retry-After; 0: none
	requests int           // sent
	took     time.Duration // from the first of them to the answer or the fault
	number   int           // the last one given to a request, or to a fault that kept one from being sent
	jobs     int           // that the request asked for together; 0: it asked for one alone
	shown    bool          // to the traces, by Answered or Refused

	health     error // for the breaker: nil if the backend is well, errNeutral if it had no part in this
	statusCode int   // for the traces
	wire       int   // for the traces: how often the request was written
}

// An inquiry is what an exchange asks about: one job, or the jobs of a query.
type inquiry struct {
	id   string // of the job, or of the first of them
	many *query // nil: it asks about one job
	call *call  // nil: it only asks
	by   asker  // nil: the context alone decides

	target string    // as Details.Target
	again  int       // how often the request was made before, over connections that were lost
	lost   *outgoing // the last of these
}

// An asker is what an inquiry is made for.
type asker interface {
	wanted() bool // reports, right before the request is sent, whether the answer is still wanted
	freed()       // is called when the request has given its place in flight back
}

// jobs is the number of jobs that are asked about together; 0: one alone.
func (a inquiry) jobs() int {
	if a.many == nil {
		return 0
	}
	return len(a.many.ids)
}

// details are those that an error about it begins with.
func (a inquiry) details(number int) Details {
	return Details{JobID: a.id, Attempt: number, Jobs: a.jobs(), Target: a.target, action: a.action()}
}

// trace is what every TraceInfo about it begins with.
func (a inquiry) trace(number int) TraceInfo {
	return TraceInfo{JobID: a.id, Attempt: number, Jobs: a.jobs(), Action: a.action(), many: a.many}
}

// readable reports whether an answer to it is read. That to a call may not be.
func (a inquiry) readable() bool { return a.call == nil || a.call.decode != nil }

// action is what the request does; "": it asks how far jobs are.
func (a inquiry) action() string {
	if a.call == nil {
		return ""
	}
	return a.call.action
}

// A backend makes one request and reads its answer: over HTTP (httpBackend), or by a
// function of the caller's (fetchBackend). It begins sent when the request is ready, and
// does not make it if begin reports false. Where many jobs were asked about, the answers
// are in the inquiry's query afterwards.
type backend interface {
	target(asked inquiry) string // as Details.Target
	ask(ctx context.Context, asked inquiry, number int, sent *announcement) outcome
}

// errNeutral is reported to a breaker for an exchange that has no bearing on the backend.
var errNeutral error = &textError{"the caller left", context.Canceled}

// errWithdrawn is shown to the traces for a request that a 429 has overtaken.
var errWithdrawn error = &textError{"not sent: a 429 holds it", context.Canceled}

// An exchanger makes exchanges: admission, backend, outcome.
type exchanger struct {
	admission
	backend     backend
	traces      tracer
	announces   bool // a trace has a Sent
	refreshes   bool // a repeated request may carry a fresh token
	contact     contact
	outageSince atomic.Int64 // time of the first fault since any job was last answered; 0: none
}

// exchange asks the backend once. number is that of the request, for errors and traces.
// A 401 is asked about once more where WithRequest can bring a fresh token.
func (x *exchanger) exchange(ctx context.Context, asked inquiry, number int) (out outcome) {
	asked.target = x.backend.target(asked)
	x.attempt(ctx, asked, number, &out)
	if x.refreshes && out.verdict == final && unauthorized(out.err) { // else it asks for a pause
		first := out
		out = outcome{}
		x.attempt(ctx, asked, first.number+1, &out)
		out.requests += first.requests
		out.took += first.took
	}
	switch {
	case out.verdict == answered:
		if asked.readable() {
			x.contact.answered()
		}
		if x.outageSince.Load() != 0 { // a load is cheaper than a store that all cores see
			x.outageSince.Store(0)
		}
	case out.verdict == fault && !out.limited:
		x.contact.failed(out.err)
		x.outageSince.CompareAndSwap(0, x.clock.now())
	}
	return out
}

func unauthorized(err error) bool {
	var h *HTTPError
	return errors.As(err, &h) && h.StatusCode == http.StatusUnauthorized
}

func (x *exchanger) emit(ctx context.Context, k traceKind, info TraceInfo) {
	x.traces.emit(ctx, k, info)
}

// attempt makes one request. It shows the traces the end of it when it holds neither a
// place in flight nor a permit any more: a callback may ask the client about other jobs.
// It fills out, which is empty before. An outcome is large: to return it from stage to
// stage costs a Status a tenth of its time over a stub.
func (x *exchanger) attempt(ctx context.Context, asked inquiry, number int, out *outcome) {
	announced := x.admitted(ctx, asked, number, out)
	if asked.by != nil {
		asked.by.freed()
	}
	out.jobs = asked.jobs()
	if out.number = number; !announced && out.requests == 0 && out.verdict != fault {
		out.number-- // free for the next
	}
	out.shown = announced || out.requests > 0 || out.verdict == refused
	if len(x.traces) == 0 {
		return
	}
	info := asked.trace(number)
	switch {
	case announced || out.requests > 0:
		info.State, info.StatusCode, info.Latency, info.Wire = out.status.State, out.statusCode, out.took, out.wire
		info.Err = x.tracedError(ctx, out)
		x.emit(ctx, traceAnswered, info)
	case out.verdict == refused:
		info.Err = out.err
		x.emit(ctx, traceRefused, info)
	}
}

// tracedError is the error that a trace is shown for the end of a request.
func (x *exchanger) tracedError(ctx context.Context, out *outcome) error {
	switch {
	case out.verdict == held:
		return errWithdrawn
	case out.verdict == left && expired(ctx):
		return contextCause(ctx)
	case out.verdict == left: // the last caller has gone
		return context.Canceled
	}
	return snapshot(out.err)
}

// admitted makes the request while it holds a place in flight and a permit of the
// breaker, and reports whether the traces have been shown its Sent.
func (x *exchanger) admitted(ctx context.Context, asked inquiry, number int, out *outcome) bool {
	if !x.enter(ctx, asked, number, out) {
		return false
	}
	var sent *announcement // nil: no trace has a Sent
	if x.announces {
		sent = &announcement{x: x, ctx: ctx, asked: asked, number: number}
	}
	defer func() {
		if sent == nil || !sent.unplaced {
			x.leave()
		}
	}()
	if x.breaker != nil {
		done, err := x.breaker.Allow()
		if err != nil {
			out.verdict, out.err = refused, &RefusedError{JobID: asked.id, Err: err, action: asked.action(), target: asked.target}
			return false
		}
		// From a defer, so that a panic or a Goexit in the caller's code gives the permit
		// back, too.
		out.health = errNeutral
		defer func() { done(out.health) }()
	}
	if !due(ctx, asked, out) {
		return false
	}
	*out = x.backend.ask(ctx, asked, number, sent)
	for out.lost != nil && asked.again < maxAgain && x.again(ctx, asked, out) {
		asked.again++
		asked.lost = out.lost
		wire := out.wire
		*out = x.backend.ask(ctx, asked, number, nil)
		out.wire += wire
	}
	out.lost = nil
	if h, ok := out.err.(*HTTPError); ok && h.StatusCode == http.StatusTooManyRequests {
		x.hold429(asked.call, h)
	}
	return sent != nil && sent.begun
}

// maxAgain bounds how often a request is made again over another connection: the second
// time over a new one.
const maxAgain = 2

// again reports whether a request whose connection was lost may be made again now. It
// keeps its place and its permit: the breaker gets the result of the last one.
func (x *exchanger) again(ctx context.Context, asked inquiry, out *outcome) bool {
	limited := x.limiter != nil && x.limiter.Wait(ctx) != nil
	return due(ctx, asked, out) && !limited && x.held(asked.call) == 0
}

// An announcement is the Sent of one request.
type announcement struct {
	x        *exchanger
	ctx      context.Context
	asked    inquiry
	number   int
	begun    bool
	unplaced bool    // the request has given its place in flight back
	out      outcome // why the request is not made after all
}

// begin emits Sent. Meanwhile the request holds no place in flight, so that callbacks
// which ask about other jobs never stand still together. It takes a place again
// afterwards, which is not taken for slowness: the attempt's timeout stands still.
func (a *announcement) begin(timed *lazyContext) bool {
	if a == nil {
		return true
	}
	paused := time.Now()
	a.begun, a.unplaced = true, true
	a.out.health = errNeutral
	a.x.leave()
	if a.asked.by != nil {
		a.asked.by.freed()
	}
	a.x.emit(a.ctx, traceSent, a.asked.trace(a.number))
	if !a.x.takePlace(a.ctx, &a.out) {
		return false
	}
	a.unplaced = false
	timed.postpone(time.Since(paused))
	return a.x.open(a.ctx, a.asked, &a.out) && due(a.ctx, a.asked, &a.out)
}

// due is the last look before the request: the engine's timers and those of the caller's
// context may fire in the same instant, in any order. And while this request queued, the
// contexts of all callers may have ended without the callers having left: a loop body or
// a callback keeps them.
func due(ctx context.Context, asked inquiry, out *outcome) bool {
	if expired(ctx) || asked.by != nil && !asked.by.wanted() {
		out.verdict = left
		return false
	}
	return true
}
