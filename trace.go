package vtclient

import (
	"context"
	"iter"
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
	// WaitBegun: a wait for one job has begun, of Wait, of Watch, or of a job of WaitAll.
	WaitBegun func(context.Context, TraceInfo)
	// WaitEnded: it is over, with the job's last status, with the error in Err, or
	// because the loop was left. There is one WaitEnded for each WaitBegun, called
	// before the end is handed over; where many jobs are left at once, after that.
	WaitEnded func(context.Context, TraceInfo)
}

// TraceInfo is the argument of a Trace callback. Fields that do not apply are zero.
type TraceInfo struct {
	JobID      string
	Action     string        // "submit" or "cancel"; "": the request asks how far jobs are
	Attempt    int           // the request's number, as in Details
	Jobs       int           // Sent, Answered, Refused: asked for together, JobID being the first; 0: JobID alone
	State      State         // Answered, Cached: of the answer; WaitEnded: of the last one
	StatusCode int           // Answered: of the answer; 0: there was none
	Latency    time.Duration // Answered: from sending to the end of the body
	// Wire counts how often the request was written to the network, for Answered. It is above 1 after a repetition over another
	// connection or a redirect, and 0 without a connection. A call of the function given to WithFetch counts as one.
	Wire  int
	Delay time.Duration // Scheduled: time until the next request
	Retry bool          // Scheduled: it follows a fault or a refusal, not a pending answer
	Err   error         // Answered, Refused, Cached, Scheduled, WaitEnded: what went wrong
	// Age, for WaitEnded, is that of the job, counted from the start of the wait where
	// the start of the job is not known; 0: it was not asked about.
	Age      time.Duration
	Requests int // WaitEnded: those of the job's poll, which several waits may share
	// Late, for WaitEnded, is the time from the end of the job by the backend's own
	// times to the answer that showed it; 0: not known.
	Late time.Duration

	first bool   // Scheduled: Err has been in no other callback
	many  *query // asked for together; nil: JobID alone
}

// JobIDs returns the ids of the jobs that a request asks for: JobID, or those that were
// asked for together. It is for use during the callback.
func (t TraceInfo) JobIDs() iter.Seq[string] {
	if t.many == nil {
		return func(yield func(string) bool) { yield(t.JobID) }
	}
	return slices.Values(t.many.ids)
}

type traceKind int

const (
	traceSent traceKind = iota
	traceAnswered
	traceRefused
	traceScheduled
	traceCached
	traceWaitBegun
	traceWaitEnded
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
	case traceCached:
		return t.Cached
	case traceWaitBegun:
		return t.WaitBegun
	default:
		return t.WaitEnded
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

// waits reports whether a trace has a WaitBegun or a WaitEnded.
func (t tracer) waits() bool {
	return slices.ContainsFunc(t, func(one Trace) bool { return one.WaitBegun != nil || one.WaitEnded != nil })
}

// logTrace returns a Trace that logs. Faults, refusals and cache failures are at level Warn,
// each of them once: the retry that a fault brings about is no second line. The end of a wait
// is at level Info, as its error goes to the caller, and all else at level Debug.
func logTrace(l *slog.Logger) Trace {
	log := func(msg string, well, failed slog.Level) func(context.Context, TraceInfo) {
		return func(ctx context.Context, t TraceInfo) {
			level := well
			if t.Err != nil {
				level = failed
			}
			if l.Enabled(ctx, level) {
				l.LogAttrs(ctx, level, msg, t.attrs()...)
			}
		}
	}
	const debug, info, warn = slog.LevelDebug, slog.LevelInfo, slog.LevelWarn
	scheduled := log("vtclient: next request scheduled", debug, warn)
	return Trace{
		Answered: log("vtclient: exchange", debug, warn),
		Refused:  log("vtclient: refused by breaker", debug, warn),
		Scheduled: func(ctx context.Context, t TraceInfo) {
			if !t.first {
				t.Err = nil
			}
			scheduled(ctx, t)
		},
		Cached:    log("vtclient: cache", debug, warn),
		WaitBegun: log("vtclient: wait begun", debug, debug),
		WaitEnded: log("vtclient: wait ended", info, info),
	}
}

// attrs are the fields that are set, for a log.
func (t *TraceInfo) attrs() []slog.Attr {
	attrs := append(make([]slog.Attr, 0, 12), slog.String("job", t.JobID))
	add := func(there bool, a slog.Attr) {
		if there {
			attrs = append(attrs, a)
		}
	}
	add(t.Attempt != 0, slog.Int("attempt", t.Attempt))
	add(t.Action != "", slog.String("action", t.Action))
	add(t.Jobs != 0, slog.Int("jobs", t.Jobs))
	add(t.State != "", slog.String("state", string(t.State)))
	add(t.StatusCode != 0, slog.Int("status_code", t.StatusCode))
	add(t.Latency != 0, slog.Duration("latency", t.Latency))
	add(t.Delay != 0, slog.Duration("delay", t.Delay))
	add(t.Age != 0, slog.Duration("age", t.Age))
	add(t.Requests != 0, slog.Int("requests", t.Requests))
	add(t.Late != 0, slog.Duration("late", t.Late))
	if t.Err != nil {
		attrs = append(attrs, slog.String("error", t.Err.Error()))
	}
	return attrs
}
