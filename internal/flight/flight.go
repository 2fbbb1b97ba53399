// Package flight coalesces calls: simultaneous calls with the same key share one
// run of a function.
//
// It differs from golang.org/x/sync/singleflight in whose run it is. The first
// caller, the leader, runs the function on its own goroutine with its own context,
// so that nothing runs without a caller that waits. The other callers, the followers,
// wait for its result or for the end of their own contexts. When the leader leaves,
// a follower takes over.
package flight

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A Group is a set of runs that are under way, one for each key.
//
// V is the type of the result. C is the type of the carry: what a run that is given
// up hands on to the next leader, such as the number of tries so far.
//
// The zero value is ready for use. A Group is safe for concurrent use and must
// not be copied after first use.
type Group[V, C any] struct {
	mu    sync.Mutex
	calls map[string]*call[V, C]

	// Calls that ended without a follower. Nothing else refers to them, so they can
	// serve again.
	free  *call[V, C]
	nfree int
}

// maxFree bounds the free calls that are kept. They serve callers that come soon
// after one another, and those need few.
const maxFree = 16

type call[V, C any] struct {
	carry C // touched by the leader only

	// Guarded by the group's mu.
	followers int           // callers that wait, or that are on their way out
	wake      chan struct{} // made for the first follower; a message promotes one, closing ends all
	vacant    bool          // a message is in wake: there is no leader
	next      *call[V, C]   // in the free list

	// Written before wake is closed, read after.
	value V
	err   error
}

// A PanicError is the error of the followers of a leader whose function panicked.
// The panic itself goes on in the leader alone: the other goroutines did nothing
// wrong, and to run the function again in each of them would most likely repeat a bug.
type PanicError struct {
	Value any // what was given to panic
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("vtclient: a call that this one had joined panicked: %v", e.Value)
}

// A LeaderError marks an error that concerns the leader alone although its context is
// not done, such as that the next try would fall past its deadline. The group treats
// it like the end of the leader's context, and the leader gets the error without the mark.
type LeaderError struct{ Err error }

func (e LeaderError) Error() string { return fmt.Sprint(e.Err) }

// Unwrap returns the error without the mark.
func (e LeaderError) Unwrap() error { return e.Err }

// Do runs fn for key, or joins a run of it that is under way. shared reports that
// the result is that of another caller's run.
//
//   - A run is shared by the calls that begin before it ends. A call that begins
//     after another one of the same run has returned the result starts anew.
//   - A call with a context that is done neither runs nor joins anything.
//   - Once its context is done, a follower returns at once, with ctx.Err().
//   - If fn fails and its ctx has [Expired], or the error is a [LeaderError], the
//     leader leaves: the error is for it alone. One of the followers, if there are
//     any, then runs fn with its own ctx and the carry as it was left. So each leader
//     that leaves costs the others at most one more run.
//   - If fn panics, so does Do in the leader, and the followers get a
//     *PanicError. If fn calls runtime.Goexit, a follower takes over.
//
// fn must not keep carry after it has returned, and must not call Do with its own
// key: it would wait for itself until its ctx is done.
func (g *Group[V, C]) Do(ctx context.Context, key string, fn func(ctx context.Context, key string, carry *C) (V, error)) (v V, shared bool, err error) {
	if err := ctx.Err(); err != nil {
		return v, false, err
	}
	g.mu.Lock()
	c, joined := g.calls[key]
	if !joined {
		c = g.newCall(key)
		g.mu.Unlock()
		v, err = g.lead(ctx, key, c, fn)
		return v, false, err
	}
	if c.wake == nil {
		c.wake = make(chan struct{}, 1) // one, so that a leader that leaves never waits for its successor
	}
	wake := c.wake
	c.followers++
	g.mu.Unlock()

	select {
	case _, promoted := <-wake:
		if !promoted {
			return c.value, true, c.err
		}
		g.mu.Lock()
		c.followers--
		c.vacant = false
		g.mu.Unlock()
		if err := ctx.Err(); err != nil {
			g.leave(key, c)
			return v, false, err
		}
		v, err = g.lead(ctx, key, c, fn)
		return v, false, err

	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		c.followers--
		if c.vacant && c.followers == 0 {
			// The promotion found no follower: the last one has just left.
			delete(g.calls, key)
		}
		return v, false, ctx.Err()
	}
}

// Len returns the number of runs that are under way.
func (g *Group[V, C]) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.calls)
}

// lead runs fn and reports to the followers of c how it ended, however it ended.
func (g *Group[V, C]) lead(ctx context.Context, key string, c *call[V, C], fn func(context.Context, string, *C) (V, error)) (v V, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil {
			g.land(key, c, v, &PanicError{p})
			panic(p)
		}
		g.leave(key, c)
		// After a Goexit the result is of no use. But a panic(nil) looks like one where
		// GODEBUG asks for the nil of old, and has just been recovered.
		err = &PanicError{nil}
	}()
	v, err = fn(ctx, key, &c.carry)
	returned = true

	if err != nil {
		own, isOwn := err.(LeaderError)
		if isOwn {
			err = own.Err
		}
		if isOwn || Expired(ctx) {
			g.leave(key, c)
			return v, err
		}
	}
	g.land(key, c, v, err)
	return v, err
}

// Expired reports whether ctx is done or its deadline has passed. The second comes
// a moment before the first: a dialer takes the deadline from ctx and may give up
// by its own timer before that of ctx has fired.
func Expired(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

// land ends the call with a result for all.
func (g *Group[V, C]) land(key string, c *call[V, C], v V, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.calls, key)
	if c.followers == 0 {
		g.recycle(c)
		return
	}
	c.value, c.err = v, err
	close(c.wake)
}

// leave gives the lead to one of the followers, or ends the call if there are none.
func (g *Group[V, C]) leave(key string, c *call[V, C]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.followers > 0 {
		c.vacant = true
		c.wake <- struct{}{} // has room: only a leader sends, and the last message made this one leader
		return
	}
	delete(g.calls, key)
	g.recycle(c)
}

// newCall enters a call for key. Most calls are alone with their key, and a call
// without followers can serve again, which saves the only allocation.
func (g *Group[V, C]) newCall(key string) *call[V, C] {
	c := g.free
	if c != nil {
		g.free, g.nfree = c.next, g.nfree-1
		c.next = nil
	} else {
		c = new(call[V, C])
	}
	if g.calls == nil {
		g.calls = make(map[string]*call[V, C])
	}
	g.calls[key] = c
	return c
}

// recycle keeps c, which is over and has no follower, for another call. It is
// empty but for what fn left in the carry, and perhaps a channel of followers
// that have left since: it is open and holds no message.
func (g *Group[V, C]) recycle(c *call[V, C]) {
	if g.nfree < maxFree {
		var zero C
		c.carry = zero
		c.next, g.free, g.nfree = g.free, c, g.nfree+1
	}
}
