package vtclient

import "time"

// An Attempt says where a wait or a sequence of retries stands. It holds
// everything that a decision needs, so that a Backoff needs no state.
type Attempt struct {
	Number    int           // requests answered or failed so far
	Elapsed   time.Duration // polling: the job's age now; retrying: since the first try
	PendingAt time.Duration // polling: the age at which it was last known to be pending
	Expected  time.Duration // the caller's estimate; 0: none
}

// A Backoff says how long to wait before the next request.
type Backoff interface {
	// Next returns the delay until the next request; ok false means stop.
	Next(Attempt) (delay time.Duration, ok bool)
}
