package vtclient

import (
	"fmt"
	"sync/atomic"
	"time"
)

// A contact is whether a client has ever had a readable answer: one that the Endpoint read
// as the Status of a job, or of several, or as the ids of jobs that were submitted. Any
// server answers with a 404 or a 401, one that has been addressed by mistake too, so that no
// answer with such a code is one.
type contact struct {
	made  atomic.Bool
	fault atomic.Pointer[error] // the last one until then; nil: none, or made
}

// answered records a readable answer.
func (c *contact) answered() {
	if !c.made.Load() { // a load is cheaper than a store that all cores see
		c.made.Store(true)
		c.fault.Store(nil)
	}
}

// failed records a fault.
func (c *contact) failed(err error) {
	if !c.made.Load() {
		shared := snapshot(err) // the caller's is completed with what comes next
		c.fault.Store(&shared)
	}
}

// A contactError is the cause of a wait's end where no readable answer has ever come.
type contactError struct {
	address string
	after   time.Duration
}

func (e *contactError) Error() string {
	return fmt.Sprintf("no readable answer has ever come from %s, in %v of trying", e.address, e.after)
}

// Is reports whether target is ErrOutage.
func (e *contactError) Is(target error) bool { return target == ErrOutage }
