package vtclient

import (
	"context"
	"math"
	"time"

	"github.com/vtclient/vtclient/internal/flight"
)

// A clock counts nanoseconds from its epoch: eight bytes where a time.Time has
// twenty-four, and monotonic.
type clock struct{ epoch time.Time }

// newClock returns a clock on which 0, which stands for "not yet" in many places, is no
// time of the client's life, nor of a synctest bubble, whose clock begins in 2000.
func newClock() clock { return clock{time.Now().Add(-50 * 365 * 24 * time.Hour)} }

// now is the time since the epoch. Not by time.Since, which in a synctest bubble is at
// odds with Sub if the client was made outside.
func (c *clock) now() int64 { return c.since(time.Now()) }

// since is now at the time given, which comes from time.Now.
func (c *clock) since(now time.Time) int64 { return int64(now.Sub(c.epoch)) }

// when translates a time that comes from outside, such as a start that was
// stored or a deadline. It is measured from now and not from the epoch: it may
// hold the time of day only, and the clock may have been set, or the machine
// suspended, since the epoch.
func (c *clock) when(t, now time.Time) int64 { return later(c.since(now), t.Sub(now)) }

// at is the inverse of since: the time of day of t by the clock as it is now.
func (c *clock) at(t int64) time.Time {
	now := time.Now()
	return now.Add(time.Duration(t - c.since(now)))
}

// A wall is a moment on both clocks, the client's and the one on the wall.
type wall struct {
	now int64
	t   time.Time
}

// at returns the time of day of t by the clock as it is now.
func (w wall) at(t int64) time.Time { return w.t.Add(time.Duration(t - w.now)) }

// wall is this moment on both clocks.
func (c *clock) wall() wall {
	t := time.Now()
	return wall{c.since(t), t}
}

// never is a time that does not come.
const never = math.MaxInt64

// later returns t + d, or never if that is beyond it.
func later(t int64, d time.Duration) int64 {
	if s := t + int64(d); d <= 0 || s > t {
		return s
	}
	return never
}

// expired reports whether ctx is done or its deadline has passed.
func expired(ctx context.Context) bool { return flight.Expired(ctx) }

// deadline translates the deadline of a context into the client's time; never: it
// has none.
func (c *clock) deadline(ctx context.Context) int64 {
	if t, ok := ctx.Deadline(); ok {
		return c.when(t, time.Now())
	}
	return never
}

// times translates the start and the deadline of a job into the client's time; never:
// it has none.
func (c *clock) times(job *Job) (start, deadline int64) {
	start, deadline = never, never
	if job.StartedAt.IsZero() && job.Deadline.IsZero() {
		return start, deadline
	}
	clock := time.Now()
	if !job.StartedAt.IsZero() {
		start = c.began(job.StartedAt, clock)
	}
	if !job.Deadline.IsZero() {
		deadline = c.when(job.Deadline, clock)
	}
	return start, deadline
}
