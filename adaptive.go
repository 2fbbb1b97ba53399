package vtclient

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A Completion tells a Learner how one job ended.
type Completion struct {
	PendingAt, DoneBy time.Duration // ages; DoneBy 0: not seen to finish
	Expected          time.Duration // the caller's estimate; 0: none
	Hinted            bool          // learnt through a hint, so DoneBy is close to the truth
}

// A Learner is a Backoff that learns from the jobs that it scheduled.
type Learner interface {
	Backoff
	// Learn takes one completion into account.
	Learn(Completion)
}

type Adaptive struct {
	cost float64 // seconds; 0 means one second

	plainNow atomic.Pointer[schedule]
	explore  atomic.Uint32

	mu    sync.Mutex
	plain model
}

func NewAdaptive(requestCost time.Duration) *Adaptive {
	a := &Adaptive{cost: requestCost.Seconds()}
	if requestCost <= 0 {
		a.cost = 1
	}
	a.explore.Store(rand.Uint32())
	return a
}

func (a *Adaptive) price() float64 {
	if a.cost <= 0 {
		return 1
	}
	return a.cost
}

func (a *Adaptive) Next(at Attempt) (time.Duration, bool) {
	s := a.plainNow.Load()
	if s == nil {
		a.mu.Lock()
		a.plain.init(false)
		s = a.plain.schedule(a.price())
		a.plainNow.Store(s)
		a.mu.Unlock()
	}
	pend, now := at.PendingAt.Seconds(), at.Elapsed.Seconds()
	t := s.next(pend, &a.explore)
	d := t - now
	if d < 0.001 {
		d = 0.001
	}
	return time.Duration(d * 1e9), true
}

func (a *Adaptive) Learn(c Completion) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.plain.init(false)
	s := sample{lo: c.PendingAt.Seconds(), hi: c.DoneBy.Seconds(), w: 1}
	if c.DoneBy == 0 {
		s.hi = math.Inf(1)
	} else if c.Hinted {
		s.lo = max(s.lo, s.hi*(1-1e-3))
	}
	if a.plain.learn(s) {
		a.plainNow.Store(a.plain.schedule(a.price()))
	}
}
