package vtclient

import (
	"context"
	"sync"
	"time"
)

// A lazyContext stands for context.WithDeadline(parent, deadline), which it makes at the
// first use of anything but its deadline. A transport over a network uses it at once. A
// backend that answers from memory, such as a transport in a test, one that caches or a
// function given to WithFetch, mostly does not; that saves three allocations and a timer, a
// fifth of a Status over a stub.
//
// end must be called when the work that the context is for is over.
type lazyContext struct {
	parent   context.Context
	deadline time.Time

	mu     sync.Mutex
	made   context.Context // nil: not used yet
	cancel context.CancelFunc
	ended  bool
}

func (l *lazyContext) Deadline() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.parent.Deadline(); ok && d.Before(l.deadline) {
		return d, true
	}
	return l.deadline, true
}

func (l *lazyContext) Done() <-chan struct{} { return l.get().Done() }
func (l *lazyContext) Err() error            { return l.get().Err() }

// Value asks the context that is made, not the parent: package context looks here for
// the parent of a child that it makes, and finds one that needs no goroutine.
func (l *lazyContext) Value(key any) any { return l.get().Value(key) }

func (l *lazyContext) get() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made == nil {
		if l.ended { // by end, whatever the parent's state is now
			l.made, l.cancel = context.WithCancel(context.WithoutCancel(l.parent))
			l.cancel()
		} else {
			l.made, l.cancel = context.WithDeadline(l.parent, l.deadline)
		}
	}
	return l.made
}

// postpone moves the deadline. What has been made of the context until now keeps the
// earlier one.
func (l *lazyContext) postpone(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = l.deadline.Add(d)
	if l.made != nil {
		earlier := l.cancel
		made, cancel := context.WithDeadline(l.parent, l.deadline)
		l.made, l.cancel = made, func() { cancel(); earlier() }
	}
}

// seenDone reports whether the context is done, and has been looked at.
func (l *lazyContext) seenDone() bool {
	l.mu.Lock()
	made := l.made
	l.mu.Unlock()
	return made != nil && made.Err() != nil
}

// end cancels the context, also for what asks it from now on.
func (l *lazyContext) end() {
	l.mu.Lock()
	l.ended = true
	cancel := l.cancel
	l.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}
