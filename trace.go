package vtclient

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// A Trace is a set of callbacks for what a client does, in the style of
// net/http/httptrace: enough to feed any metrics system. Every field may be
// nil; a nil field costs nothing. The callbacks are called synchronously and
// from several goroutines at once, and should return quickly.
//
// A callback may ask the client about any other job: it is called under no lock, and
// while its request holds no place in flight (WithMaxInFlight). A call for the same job
// would wait for itself. The context is that of the call or wait on whose behalf the
// client acts (of one of them, where several share a poll), for its values.
type Trace struct {
	// Sent: a request is about to be sent. After the callback it takes its place in
	// flight again, for which it may have to queue; the attempt's timeout stands still
	// meanwhile. If a 429 comes or the caller leaves before it has one, it is not sent.
	Sent func(context.Context, TraceInfo)
	// Answered: an exchange is over, with a status or with an error in Err, and the
	// breaker has had its report. There is one Answered for each Sent, also where the
	// request was not sent after all.
	Answered func(context.Context, TraceInfo)
	// Refused: the breaker let no request through; Err has its reason.
	Refused func(context.Context, TraceInfo)
	// Scheduled: the next poll or retry will be made after Delay.
	Scheduled func(context.Context, TraceInfo)
	// Cached: the cache answered in the place of a request, or it failed and
	// the failure is in Err.
	Cached func(context.Context, TraceInfo)
}

// TraceInfo is the argument of a Trace callback. Fields that do not apply are zero.
type TraceInfo struct {
	JobID      string
	Attempt    int           // the request's number, as in Details
	Jobs       int           // Sent, Answered, Refused: asked for together, JobID being the first; 0: JobID alone
	State      State         // Answered, Cached: of the answer
	StatusCode int           // Answered: of the answer; 0: there was none
	Latency    time.Duration // Answered: from sending to the end of the body
	// Wire counts how often the request was written to the network, for
	// Answered. It is above 1 when it was made again over another connection
	// because the one it had failed, or when a redirect was followed, and 0 when no connection could be had. A call of the function
	// given to WithFetch counts as one.
	Wire  int
	Delay time.Duration // Scheduled: time until the next request
	Retry bool          // Scheduled: it follows a fault or a refusal, not a pending answer
	Err   error         // Answered, Refused, Cached, Scheduled: what went wrong

	first bool // Scheduled: Err has been in no other callback
}

type traceKind int

const (
	traceSent traceKind = iota
	traceAnswered
	traceRefused
	traceScheduled
	traceCached
)

func (t *Trace) hook(k traceKind) func(context.Context, TraceInfo) {
	switch k {
	case traceSent:
		return t.Sent
	case traceAnswered:
		return t.Answered
	case traceRefused:
		return t.Refused
	case traceScheduled:
		return t.Scheduled
	default:
		return t.Cached
	}
}

// A tracer is the traces of a client.
type tracer []Trace

// emit calls every trace. The caller checks the length first where building info costs.
func (t tracer) emit(ctx context.Context, k traceKind, info TraceInfo) {
	for i := range t {
		if f := t[i].hook(k); f != nil {
			f(ctx, info)
		}
	}
}

// announce reports whether a trace has a Sent.
func (t tracer) announce() bool {
	return slices.ContainsFunc(t, func(one Trace) bool { return one.Sent != nil })
}

// logTrace is logging as a Trace: what goes as it should at level Debug,
// faults, refusals and cache failures at level Warn, each of them once: what follows from a
// fault is not one more.
func logTrace(l *slog.Logger) Trace {
	log := func(msg string) func(context.Context, TraceInfo) {
		return func(ctx context.Context, t TraceInfo) {
			level := slog.LevelDebug
			if t.Err != nil {
				level = slog.LevelWarn
			}
			if !l.Enabled(ctx, level) {
				return
			}
			attrs := make([]slog.Attr, 0, 9)
			attrs = append(attrs, slog.String("job", t.JobID), slog.Int("attempt", t.Attempt))
			if t.Jobs != 0 {
				attrs = append(attrs, slog.Int("jobs", t.Jobs))
			}
			if t.State != "" {
				attrs = append(attrs, slog.String("state", string(t.State)))
			}
			if t.StatusCode != 0 {
				attrs = append(attrs, slog.Int("status_code", t.StatusCode))
			}
			if t.Latency != 0 {
				attrs = append(attrs, slog.Duration("latency", t.Latency))
			}
			if t.Delay != 0 {
				attrs = append(attrs, slog.Duration("delay", t.Delay))
			}
			if t.Err != nil {
				attrs = append(attrs, slog.String("error", t.Err.Error()))
			}
			l.LogAttrs(ctx, level, msg, attrs...)
		}
	}
	scheduled := log("vtclient: next request scheduled")
	return Trace{
		Answered: log("vtclient: exchange"),
		Refused:  log("vtclient: refused by breaker"),
		Scheduled: func(ctx context.Context, t TraceInfo) {
			if !t.first {
				t.Err = nil
			}
			scheduled(ctx, t)
		},
		Cached: log("vtclient: cache"),
	}
}
