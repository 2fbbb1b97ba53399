package vtclient

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A flight makes one run of a function out of those that are asked for at the
// same time under the same key. It differs from x/sync/singleflight in whose
// run it is: the first caller, the leader, runs the function itself, on its own
// goroutine and with its own context, so that nothing runs that nobody waits
// for. The others, the followers, wait for its result or for the end of their
// own contexts, and when the leader leaves, one of them takes over.
//
// V is the type of the result. C is the type of what a run hands on to the next
// leader when it is given up, such as the number of tries so far.
//
// The zero value is ready for use. A flight is safe for concurrent use and must
// not be copied after first use.
type flight[V, C any] struct {
	mu    sync.Mutex
	calls map[string]*flightCall[V, C]

	// Calls that ended with no follower, so that nobody else knows them and they
	// can serve again.
	free  *flightCall[V, C]
	nfree int
}

// More than a few free calls are of no use: they are for a caller who comes
// soon after another.
const flightMaxFree = 16

type flightCall[V, C any] struct {
	carry C // touched by the leader only

	// Guarded by the flight's mu.
	followers int               // callers that wait, or that are on their way out
	wake      chan struct{}     // made for the first follower; a message promotes one, closing ends all
	vacant    bool              // a message is in wake: there is no leader
	next      *flightCall[V, C] // in the free list

	// Written before wake is closed, read after.
	value V
	err   error
}

// A flightPanic is what followers get when the function panicked in the leader.
// The panic itself goes on in the leader alone: a follower's goroutine is not
// the one that went wrong, and to run the function once more in each of them
// would repeat what is most likely a bug.
type flightPanic struct {
	value any // what was given to panic
}

func (e *flightPanic) Error() string {
	return fmt.Sprintf("vtclient: a call that this one had joined panicked: %v", e.value)
}

// An ownError marks an error of a leader that says nothing to its followers,
// although its context is not done: that the next try would fall past its
// deadline, say. The flight treats it like a context that is done, and the
// leader gets the error without the mark.
type ownError struct{ error }

func (e ownError) Unwrap() error { return e.error }

// do runs fn for key, or joins a run of it that is under way. shared says that
// the result is that of another caller's run.
//
//   - A run is shared by the calls that begin before it ends. A call that begins
//     after another one of the same run has returned the result starts anew.
//   - A call with a context that is done neither runs nor joins anything.
//   - Once its context is done, a follower returns at once, with ctx.Err().
//   - If fn fails and its ctx is done or past its deadline, or the error is an ownError, the leader
//     leaves: the error is for it alone. One of the followers, if there are any,
//     then runs fn itself, with its own ctx and the carry as it was left. So
//     each leader that leaves costs the others at most one more run.
//   - If fn panics, so does do in the leader, and the followers get a
//     *flightPanic. If fn calls runtime.Goexit, a follower takes over.
//
// fn must not keep carry after it has returned, and must not call do with its own
// key: it would wait for itself until its ctx is done.
func (f *flight[V, C]) do(ctx context.Context, key string, fn func(ctx context.Context, key string, carry *C) (V, error)) (v V, shared bool, err error) {
	if err := ctx.Err(); err != nil {
		return v, false, err
	}
	f.mu.Lock()
	c, joined := f.calls[key]
	if !joined {
		c = f.newCall(key)
		f.mu.Unlock()
		v, err = f.lead(ctx, key, c, fn)
		return v, false, err
	}
	if c.wake == nil {
		c.wake = make(chan struct{}, 1) // one, so that the leader that leaves never waits for who takes over
	}
	wake := c.wake
	c.followers++
	f.mu.Unlock()

	select {
	case _, promoted := <-wake:
		if !promoted {
			return c.value, true, c.err
		}
		f.mu.Lock()
		c.followers--
		c.vacant = false
		f.mu.Unlock()
		if err := ctx.Err(); err != nil {
			f.leave(key, c)
			return v, false, err
		}
		v, err = f.lead(ctx, key, c, fn)
		return v, false, err

	case <-ctx.Done():
		f.mu.Lock()
		defer f.mu.Unlock()
		c.followers--
		if c.vacant && c.followers == 0 {
			// The promotion reached nobody: who came is gone again.
			delete(f.calls, key)
		}
		return v, false, ctx.Err()
	}
}

// lead runs fn and tells the followers of c how it ended, however it ended.
func (f *flight[V, C]) lead(ctx context.Context, key string, c *flightCall[V, C], fn func(context.Context, string, *C) (V, error)) (v V, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil {
			e := &flightPanic{p}
			f.land(key, c, v, e)
			panic(p)
		}
		f.leave(key, c)
		// Goexit has no use for a result. But a panic(nil) looks like one where
		// GODEBUG asks for the nil of old, and has just been recovered.
		err = &flightPanic{nil}
	}()
	v, err = fn(ctx, key, &c.carry)
	returned = true

	if err != nil {
		own, isOwn := err.(ownError)
		if isOwn {
			err = own.error
		}
		if isOwn || isOver(ctx) {
			f.leave(key, c)
			return v, err
		}
	}
	f.land(key, c, v, err)
	return v, err
}

// isOver reports whether ctx is done or its deadline has passed. The second comes
// a moment before the first: a dialer takes the deadline from ctx and may give up
// by its own timer before that of ctx has fired.
func isOver(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

// land ends the call with a result for all.
func (f *flight[V, C]) land(key string, c *flightCall[V, C], v V, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.calls, key)
	if c.followers == 0 {
		f.recycle(c)
		return
	}
	c.value, c.err = v, err
	close(c.wake)
}

// leave gives the lead to one of the followers, or ends the call if there are none.
func (f *flight[V, C]) leave(key string, c *flightCall[V, C]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.followers > 0 {
		c.vacant = true
		c.wake <- struct{}{} // has room: only a leader sends, and the last message made this one leader
		return
	}
	delete(f.calls, key)
	f.recycle(c)
}

// newCall enters a call for key. Most calls are alone with their key, and one
// that was can serve again, which saves them their only allocation.
func (f *flight[V, C]) newCall(key string) *flightCall[V, C] {
	c := f.free
	if c != nil {
		f.free, f.nfree = c.next, f.nfree-1
		c.next = nil
	} else {
		c = new(flightCall[V, C])
	}
	if f.calls == nil {
		f.calls = make(map[string]*flightCall[V, C])
	}
	f.calls[key] = c
	return c
}

// recycle keeps c, which is over and has no follower, for another call. It is
// empty but for what fn left in the carry, and perhaps a channel that followers
// waited at who have left since: it is open and holds no message.
func (f *flight[V, C]) recycle(c *flightCall[V, C]) {
	if f.nfree < flightMaxFree {
		var zero C
		c.carry = zero
		c.next, f.free, f.nfree = f.free, c, f.nfree+1
	}
}
