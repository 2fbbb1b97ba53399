package vtclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

// windowBuckets is the number of steps in which the window moves on.
const windowBuckets = 10

// An era is the time between two changes of state. Whatever is counted is
// counted in an era, so that results from before a change are lost with theirs.
type era struct {
	b     *CircuitBreaker
	state string
	start time.Time
	until time.Time   // open: the end of the period
	done  func(error) // closed: shared by all permits, so that none allocates
	err   error       // open and half-open: shared by all refusals

	// Half-open, under b.mu.
	probes    []*probe // under way, oldest first
	successes int

	// Closed, without a lock: see endCall and bucket.
	consecutive atomic.Int64 // failures in a row
	buckets     [windowBuckets]bucket
}

// A bucket counts the calls that ended in one tenth of a window.
type bucket struct {
	index     atomic.Int64 // which tenth, counted from the start of the era
	good, bad atomic.Int64
}

// A probe is one permit of the half-open state.
type probe struct{ expires time.Time }

// endProbe takes the result of a probe, unless p has ended before, has been
// replaced, or belongs to an era that is over.
func (e *era) endProbe(p *probe, err error) {
	b := e.b
	neutral := errors.Is(err, context.Canceled) // may run foreign code: not under the lock
	defer b.report()
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(e.probes, p)
	if i < 0 || b.era.Load() != e {
		return
	}
	e.probes = slices.Delete(e.probes, i, i+1)
	switch {
	case neutral:
	case err != nil:
		b.enter(breakerOpen, "a probe failed")
	default:
		if e.successes++; e.successes >= b.cfg.HalfOpenSuccesses {
			b.enter(breakerClosed, "")
		}
	}
}

// endCall takes the result of a call that was permitted in the closed state.
func (e *era) endCall(err error) {
	switch {
	case err == nil:
		if e.consecutive.Load() != 0 { // not to write what is read: 10 % on two cores
			e.consecutive.Store(0)
		}
		if e.b.cfg.FailureRate >= 0 {
			e.bucket(e.tenth()).good.Add(1)
		}
	case errors.Is(err, context.Canceled):
	default:
		if reason := e.countFailure(); reason != "" {
			e.trip(reason)
		}
	}
}

// countFailure counts one failure and returns the reason to open; "": there is none.
func (e *era) countFailure() (reason string) {
	c := &e.b.cfg
	row := e.consecutive.Add(1)
	var good, bad int64
	if c.FailureRate >= 0 {
		now := e.tenth()
		e.bucket(now).bad.Add(1)
		for i := range e.buckets {
			if k := &e.buckets[i]; k.index.Load() > now-windowBuckets {
				good, bad = good+k.good.Load(), bad+k.bad.Load()
			}
		}
	}
	switch calls := good + bad; {
	case c.ConsecutiveFailures > 0 && row >= int64(c.ConsecutiveFailures):
		return fmt.Sprintf("failures in a row: %d", row)
	case calls >= int64(c.MinCalls) && float64(bad)/float64(calls) >= c.FailureRate:
		return fmt.Sprintf("failed calls: %d of %d", bad, calls)
	}
	return ""
}

// trip opens the breaker unless its state has changed since e.
func (e *era) trip(reason string) {
	b := e.b
	defer b.report()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.era.Load() == e {
		b.enter(breakerOpen, reason)
	}
}

// tenth returns which tenth of a window it is, counted from the start of e.
func (e *era) tenth() int64 {
	// Not below 0: a breaker made outside of a synctest bubble has begun long after
	// the time inside.
	return max(0, int64(time.Since(e.start)/e.b.step))
}

// bucket returns the bucket of a tenth, emptied if an older tenth had it. A
// goroutine that stands still for a whole window between the clock and its count
// puts one call into a younger tenth, which does no harm.
func (e *era) bucket(tenth int64) *bucket {
	k := &e.buckets[tenth%windowBuckets]
	if k.index.Load() < tenth {
		e.b.mu.Lock()
		defer e.b.mu.Unlock()
		if k.index.Load() < tenth {
			k.good.Store(0)
			k.bad.Store(0)
			k.index.Store(tenth)
		}
	}
	return k
}

// enter begins a new era. The caller holds b.mu.
func (b *CircuitBreaker) enter(to string, reason string) *era {
	c, from := &b.cfg, b.era.Load()
	e := &era{b: b, state: to, start: time.Now()}
	switch to {
	case breakerClosed:
		e.done = e.endCall
		b.period = 0
	case breakerOpen:
		if longer := float64(b.period) * c.OpenGrowth; b.period == 0 {
			b.period = c.OpenPeriod
		} else if longer < float64(c.MaxOpenPeriod) {
			b.period = time.Duration(longer)
		} else {
			b.period = c.MaxOpenPeriod
		}
		less := max(0, c.Jitter) * rand.Float64() * float64(b.period)
		e.until = e.start.Add(b.period - time.Duration(less))
		e.err = &breakerRefusal{state: to, reason: reason, until: e.until}
	case breakerHalfOpen:
		e.err = &breakerRefusal{state: to, reason: reason}
	}
	b.era.Store(e)
	if from != nil && c.OnStateChange != nil {
		b.changes = append(b.changes, [2]string{from.state, to})
	}
	return e
}

// report passes the changes of state on, in order. Where it is running already, on
// this goroutine or another, that run passes on the new ones too.
func (b *CircuitBreaker) report() {
	if b.cfg.OnStateChange == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reporting {
		return
	}
	b.reporting = true
	defer func() { b.reporting = false }() // also if the callback panics
	for len(b.changes) > 0 {
		c := b.changes[0]
		b.changes = b.changes[1:]
		func() {
			b.mu.Unlock()
			defer b.mu.Lock()
			b.cfg.OnStateChange(c[0], c[1])
		}()
	}
}
