package vtclient

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Breaker stops requests to a backend that is unwell. Before each request
// the client asks Allow for a permit.
//
// An error from Allow is a refusal: no request is made, and done is ignored. A
// wait does not take a refusal for a fault of the backend. If the refusal, or
// an error that it wraps, has a method RetryAfter() time.Duration, the wait
// asks again after that time.
//
// Otherwise the client makes its request and calls done exactly once, with
//
//   - nil if the backend is well. It answered, with 2xx or 4xx alike.
//   - an error that matches [context.Canceled] if the caller left. That has no
//     bearing on the backend; a breaker should count it neither way.
//   - any other error if the backend is unwell: a network fault, a timeout of
//     the client's own or a 5xx.
//
// The shape is that of the two-step breaker of github.com/sony/gobreaker/v2,
// which fits as it is. A Breaker must be safe for concurrent use.
type Breaker interface {
	Allow() (done func(error), err error)
}

// The states of a CircuitBreaker.
const (
	breakerClosed   = "closed"    // lets every request through and counts failures
	breakerOpen     = "open"      // refuses every request until its period is over
	breakerHalfOpen = "half-open" // lets a few probes through to see if the backend is well
)

// ErrBreakerOpen matches every refusal of a [CircuitBreaker], in the open and
// in the half-open state, under [errors.Is]. The refusal also has a method
// RetryAfter() time.Duration: how long to wait before asking the breaker again, which is
// what is left of the open period at the time of the call, or, in the half-open state,
// one second, in which a probe will mostly have ended. [RefusedError.RetryAfter] has it.
var ErrBreakerOpen = errors.New("vtclient: circuit breaker is open")

// A breakerRefusal is a refusal of a CircuitBreaker. Many callers may share one value.
type breakerRefusal struct {
	state  string    // half-open: all probes are taken
	until  time.Time // open: the end of the period
	reason string    // what brought the breaker into this state
}

func (e *breakerRefusal) RetryAfter() time.Duration {
	if e.state == breakerHalfOpen {
		return time.Second
	}
	return max(0, time.Until(e.until))
}

func (e *breakerRefusal) Error() string {
	return fmt.Sprintf("vtclient: circuit breaker is %v (%s): try again in %v", e.state, e.reason, e.RetryAfter().Round(time.Millisecond))
}

func (e *breakerRefusal) Is(target error) bool { return target == ErrBreakerOpen }

// A BreakerConfig sets up a [CircuitBreaker]. The zero value is ready to use:
// every field that is zero means the default given beside it.
type BreakerConfig struct {
	// ConsecutiveFailures opens the breaker at this many failures in a row.
	// Default 5: a single lost connection or restart does not open it, an
	// outage does within five requests. Negative: this criterion is off.
	ConsecutiveFailures int

	// FailureRate opens the breaker when at least this share of the calls
	// that ended within Window failed, at most 1. It is looked at whenever a
	// call fails. Default 0.5: when half of the calls fail, retries double the
	// load on a backend that is already unwell. Negative: this criterion is off.
	FailureRate float64
	// MinCalls is how many calls must have ended within Window before
	// FailureRate counts. Default 20: a rate over fewer means little.
	MinCalls int
	// Window is the rolling time over which FailureRate is taken. It moves on
	// in steps of a tenth. Default 30 s: long enough for a slow poller to make
	// MinCalls, short enough to forget the last deployment.
	Window time.Duration

	// OpenPeriod is how long the breaker first stays open. Default 5 s: most
	// restarts are over by then.
	OpenPeriod time.Duration
	// OpenGrowth multiplies the open period each time a probe fails, at
	// least 1; 1 keeps it constant. Closing starts again from OpenPeriod.
	// Default 2: 5 s, 10 s, 20 s, 30 s, 30 s.
	OpenGrowth float64
	// MaxOpenPeriod bounds the open period, jitter included; it is at least
	// OpenPeriod. Default 30 s, or OpenPeriod if that is longer: a probe in
	// half a minute costs the backend nothing, a longer wait after it has
	// recovered is felt.
	MaxOpenPeriod time.Duration
	// Jitter is the share of the open period that is random, at most 1, so
	// that many clients do not probe in step. It only ever shortens the
	// period. Default 0.5: 5 s becomes 2.5 s to 5 s. Negative: no jitter.
	Jitter float64

	// HalfOpenProbes is how many probes may be under way at once. Default 1:
	// a backend that comes back meets one request and not a crowd.
	HalfOpenProbes int
	// HalfOpenSuccesses is how many probes must succeed to close the breaker;
	// one that fails opens it again. Default 2: one good answer may be luck.
	HalfOpenSuccesses int
	// ProbeTimeout is the time after which a probe whose result never came
	// (a panic, a runtime.Goexit) may be replaced by another. It must be longer
	// than a request can take, or slow answers never count. Default 1 min.
	ProbeTimeout time.Duration

	// Count429 makes the client count a 429 (Too Many Requests) as a failure.
	// Default false: a backend that answers so is well, and gives a time to return.
	Count429 bool

	// OnStateChange, if not nil, is called for every change of state, one at a time
	// and in order. It runs on the goroutine whose call made the change, or on
	// one that is already running it, under no lock: it may use the breaker. It
	// should be quick, since that goroutine's request waits for it and keeps its
	// place in flight meanwhile.
	// The states are "closed", "open" and "half-open".
	OnStateChange func(from, to string)
}

// A CircuitBreaker is a [Breaker] with three states. Closed, it lets every
// request through. It opens after too many failures in a row or when too large a
// share of recent calls failed, and then refuses all requests for a while.
// The first request after that makes it half-open: a bounded number of probes
// goes through, and their results close it or open it for longer.
//
// A result counts only in the state in which its permit was given. Results that
// come later, when the state has changed since, are ignored. A permit whose done
// is never called costs nothing while closed; a probe's is given to another
// request after ProbeTimeout, and its own result, should it still come, ignored.
//
// Create one with [NewCircuitBreaker]; the zero value is not usable. One
// breaker serves one backend; clients of the same backend may share it. All
// methods are safe for concurrent use. It starts no goroutine and no timer.
type CircuitBreaker struct {
	era  atomic.Pointer[era] // replaced under mu only
	cfg  BreakerConfig       // defaults filled in
	err  error               // what was wrong with the caller's config
	step time.Duration       // of the window

	mu        sync.Mutex
	period    time.Duration // the open period without jitter; 0: closed since
	changes   [][2]string
	reporting bool // a goroutine is in report
}

// NewCircuitBreaker returns a closed breaker. A field of cfg that makes no
// sense is reported by [New] when the breaker is passed to it; until then the
// field's default stands in.
func NewCircuitBreaker(cfg BreakerConfig) *CircuitBreaker {
	b := &CircuitBreaker{cfg: cfg}
	c := &b.cfg
	fill(b, "ConsecutiveFailures", &c.ConsecutiveFailures, 5, true, "")
	fill(b, "FailureRate", &c.FailureRate, 0.5, c.FailureRate <= 1, "at most 1; negative: off")
	fill(b, "MinCalls", &c.MinCalls, 20, c.MinCalls > 0, "at least 1; 0: 20")
	fill(b, "Window", &c.Window, 30*time.Second, c.Window > 0, "above 0; 0: 30s")
	fill(b, "OpenPeriod", &c.OpenPeriod, 5*time.Second, c.OpenPeriod > 0, "above 0; 0: 5s")
	fill(b, "OpenGrowth", &c.OpenGrowth, 2, c.OpenGrowth >= 1, "at least 1; 0: 2")
	fill(b, "MaxOpenPeriod", &c.MaxOpenPeriod, max(c.OpenPeriod, 30*time.Second), c.MaxOpenPeriod >= c.OpenPeriod,
		fmt.Sprintf("at least OpenPeriod, %v; 0: 30s", c.OpenPeriod))
	fill(b, "Jitter", &c.Jitter, 0.5, c.Jitter <= 1, "at most 1; negative: none")
	fill(b, "HalfOpenProbes", &c.HalfOpenProbes, 1, c.HalfOpenProbes > 0, "at least 1; 0: 1")
	fill(b, "HalfOpenSuccesses", &c.HalfOpenSuccesses, 2, c.HalfOpenSuccesses > 0, "at least 1; 0: 2")
	fill(b, "ProbeTimeout", &c.ProbeTimeout, time.Minute, c.ProbeTimeout > 0, "above 0; 0: 1m0s")
	b.step = max(1, c.Window/windowBuckets)
	b.enter(breakerClosed, "")
	return b
}

// fill puts the default into a field that is zero or bad, and remembers the bad.
func fill[T int | float64 | time.Duration](b *CircuitBreaker, name string, field *T, byDefault T, good bool, want string) {
	v := *field
	if d, ok := any(v).(time.Duration); ok && good {
		b.err = errors.Join(b.err, badDuration("BreakerConfig."+name, d, true, ""))
	}
	if v == 0 || !good {
		*field = byDefault
		if v != 0 {
			b.err = errors.Join(b.err, badArgument("BreakerConfig."+name, v, want))
		}
	}
}

// validate returns what was wrong with the config of b, or with how b was made.
func (b *CircuitBreaker) validate() error {
	if b == nil || b.era.Load() == nil {
		return badArgument("breaker", fmt.Sprintf("%T not made by NewCircuitBreaker", b), "a breaker made by NewCircuitBreaker")
	}
	return b.err
}

// counts429 reports whether a 429 counts as a failure.
func (b *CircuitBreaker) counts429() bool { return b.cfg.Count429 }

// State returns the state that b is in: "closed", "open" or "half-open". It changes nothing: an open breaker
// whose period is over is open until the next Allow makes it half-open, so that
// State and OnStateChange always agree.
func (b *CircuitBreaker) State() string { return b.era.Load().state }

// Allow returns a permit for one request or, with an error that matches [ErrBreakerOpen], a
// refusal. The caller of a permitted request must call done once, when the
// request has ended, from any goroutine; see [Breaker] for its argument. Allow
// waits for nothing but OnStateChange, and allocates only for a probe and at a
// change of state.
func (b *CircuitBreaker) Allow() (done func(error), err error) {
	e := b.era.Load()
	if e.state == breakerClosed || e.state == breakerOpen && time.Until(e.until) > 0 {
		return e.done, e.err
	}
	return b.allowProbe()
}

// allowProbe is Allow in the half-open state or at the end of the open one.
func (b *CircuitBreaker) allowProbe() (func(error), error) {
	defer b.report()
	b.mu.Lock()
	defer b.mu.Unlock()
	e, now := b.era.Load(), time.Now()
	if e.state == breakerOpen && !now.Before(e.until) {
		e = b.enter(breakerHalfOpen, "probes are under way")
	}
	if e.state != breakerHalfOpen { // changed by another goroutine since Allow looked
		return e.done, e.err
	}
	if len(e.probes) >= b.cfg.HalfOpenProbes {
		if now.Before(e.probes[0].expires) {
			return nil, e.err
		}
		e.probes = slices.Delete(e.probes, 0, 1) // no longer expected to end
	}
	p := &probe{expires: now.Add(b.cfg.ProbeTimeout)}
	e.probes = append(e.probes, p)
	return func(err error) { e.endProbe(p, err) }, nil
}
