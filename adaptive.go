package vtclient

import "time"

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
