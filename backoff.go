package vtclient

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// An Attempt is where a wait or a sequence of retries stands. It holds
// everything that a decision needs, so that a Backoff needs no state.
type Attempt struct {
	// Number counts the requests answered or failed so far: all requests of
	// the wait for polling, the failed tries in a row for retrying. It is 0
	// only before the first poll of a job whose start is known.
	Number int
	// Elapsed is the job's age now for polling (since StartedAt where that is
	// known, else since the wait began), and for retrying the time since the
	// first try of this sequence.
	Elapsed time.Duration
	// PendingAt is the age at which the job was last known to be pending, for
	// polling; 0 if it never was.
	PendingAt time.Duration
	// Expected is the caller's estimate of the whole duration; 0: none.
	Expected time.Duration
	// Shared is, for polling, how many jobs the last request asked for
	// together, as the next one probably will, too; 0: it asked for one.
	Shared int
}

// A Backoff chooses the delay before the next request. One value is used
// for all jobs of a client at once, so it must be safe for concurrent use and
// normally has no state: everything a decision needs is in the [Attempt].
//
// A client never polls one job more often than once in 10 milliseconds,
// whatever Next returns.
type Backoff interface {
	// Next returns the delay until the next request; ok false means stop. From the
	// Backoff of WithPolling it ends a wait with an error that matches ErrGaveUp.
	// From that of WithRetry it ends a Status call, but no wait: only
	// WithOutageTolerance ends a wait that meets faults, and a positive delay is
	// used all the same.
	Next(Attempt) (delay time.Duration, ok bool)
}

// A Forecast is what an [Adaptive] expects of one job; see [Adaptive.Explain].
type Forecast struct {
	// Polls are the ages at which the next few polls are due if each of them
	// finds the job pending, before the small random shifts.
	Polls []time.Duration
	// Median, P90 and P99 are the times from now until which half, nine tenths, and 99
	// in a hundred of such jobs are over. Zero means that this time has passed.
	Median, P90, P99 time.Duration
	// Jobs is the number of remembered completions behind it; zero means that
	// everything here is a guess.
	Jobs int
}

// Constant is the Backoff that always waits the same time and never stops.
// As Constant has no jitter, jobs that start in step are polled in step.
// New refuses a value below 100 microseconds.
type Constant time.Duration

// Next returns the constant, or 0 if it is negative, and true.
func (c Constant) Next(Attempt) (time.Duration, bool) { return max(0, time.Duration(c)), true }

func (c Constant) validate() error {
	return badDuration("Constant", time.Duration(c), c > 0, "a positive duration")
}

// Exponential is the Backoff whose delays grow by a factor up to a bound:
// with the fields b, m and x for Base, Multiplier and Max, the delay after
// request number n is min(b·mⁿ⁻¹, x), of which the share Jitter is random.
// The delay before the first request, where there is one, is Base.
//
//	Exponential{Base: time.Second, Max: 10 * time.Second, Limit: 6}
//
// waits 1 s, 2 s, 4 s, 8 s and 10 s between its six requests. The same with
// Jitter 0.5 waits 0.5–1 s, 1–2 s, 2–4 s, 4–8 s and 5–10 s.
//
// The jitter is taken off the bounded delay, never added to it: no delay is
// above Max, and at Max the delays are as spread out as before it. Jitter 1 is
// the "full jitter" of Marc Brooker, "Exponential Backoff And Jitter", AWS
// Architecture Blog, 2015; Jitter 0.5 is its "equal jitter".
//
// The zero value is ready to use: 500 ms, doubling up to 1 min, no jitter, no
// limit. New refuses negative fields, NaN, a Multiplier between 0 and 1 and a
// Jitter above 1. Next itself takes the default for a field that New would
// refuse, and never panics or overflows.
type Exponential struct {
	Base, Max  time.Duration // first delay and bound; 0: 500 ms, 1 min
	Multiplier float64       // growth from one delay to the next, at least 1; 0: 2
	Jitter     float64       // 0..1: the share of the delay that is random; 0: none
	Limit      int           // attempts, the first included; 0: no limit
}

// Next returns the delay after request a.Number. It returns false, and the
// delay all the same, once a.Number has reached a positive Limit.
func (e Exponential) Next(a Attempt) (time.Duration, bool) {
	base, bound, mult := e.Base, e.Max, e.Multiplier
	if base <= 0 {
		base = 500 * time.Millisecond
	}
	if bound <= 0 {
		bound = time.Minute
	}
	if !(mult >= 1) { // NaN included
		mult = 2
	}
	delay := bound
	// Compared as floats before the conversion, for an int64 cannot hold what
	// the power may reach; written so that NaN (0·Inf cannot occur, Inf can)
	// ends at the bound.
	if d := float64(base) * math.Pow(mult, float64(max(0, a.Number-1))); d < float64(bound) {
		delay = time.Duration(d)
	}
	if e.Jitter > 0 {
		delay -= time.Duration(min(e.Jitter, 1) * rand.Float64() * float64(delay))
	}
	return delay, e.Limit <= 0 || a.Number < e.Limit
}

func (e Exponential) validate() error {
	var errs []error
	refuse := func(bad bool, field string, value any, expected string) {
		if bad {
			errs = append(errs, badArgument("Exponential."+field, value, expected))
		}
	}
	errs = append(errs, badDuration("Exponential.Base", e.Base, e.Base >= 0, "a positive duration, or 0 for 500ms"))
	errs = append(errs, badDuration("Exponential.Max", e.Max, e.Max >= 0, "a positive duration, or 0 for 1m"))
	refuse(e.Max >= leastDuration && e.Base > e.Max, "Base", e.Base, fmt.Sprintf("at most Max, %v", e.Max))
	refuse(e.Multiplier != 0 && !(e.Multiplier >= 1 && e.Multiplier <= math.MaxFloat64),
		"Multiplier", e.Multiplier, "a finite number of at least 1, or 0 for 2")
	refuse(!(e.Jitter >= 0 && e.Jitter <= 1), "Jitter", e.Jitter, "a number from 0 to 1")
	refuse(e.Limit < 0, "Limit", e.Limit, "a positive number of attempts, or 0 for no limit")
	return errors.Join(errs...)
}

// A Completion is how one job ended, or that its wait was given up before, as a
// [Learner] learns it.
type Completion struct {
	// PendingAt is the age at which the job was last known to be pending;
	// zero when it was never seen pending.
	PendingAt time.Duration
	// DoneBy is the age at which the job was known to be over, well or badly:
	// its duration lies in (PendingAt, DoneBy]. Zero: it was not seen to
	// finish, because the wait was given up; it took longer than PendingAt.
	DoneBy time.Duration
	// Expected is the caller's estimate of the whole duration; zero: none.
	Expected time.Duration
	// Hinted is set if the end was noticed through a hint, so that DoneBy is close
	// to the truth and not merely the next poll after it.
	Hinted bool
	// Exact is set if DoneBy is the duration itself, from the backend's own times.
	// PendingAt may be later then.
	Exact bool
	// Failed is set if the job ended badly.
	Failed bool
}

// A Learner is a [Backoff] that learns from the jobs that it scheduled.
type Learner interface {
	Backoff
	// Learn takes one completion into account. A completion that makes no
	// sense is ignored.
	// A client passes its jobs in the order in which they began, so some of them a
	// while after they ended, on the goroutine of one of their waits. Calls may be
	// concurrent with each other and with Next.
	Learn(Completion)
}
