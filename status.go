package vtclient

import (
	"encoding/json"
	"fmt"
	"iter"
	"time"
)

// A State is how far a job has come.
type State string

// The states of a job. An [Endpoint] translates whatever words its backend
// uses into these three.
const (
	StatePending   State = "pending"   // not finished: ask again later
	StateCompleted State = "completed" // finished well; the result is in Status.Body, but see Status.ResultMissing
	StateFailed    State = "error"     // finished badly; the reason is in Status.Message
)

// Terminal reports whether a job in state s is over, well or badly, so that
// asking again cannot bring anything new.
func (s State) Terminal() bool { return s == StateCompleted || s == StateFailed }

// A Status is one answer of the backend about one job.
type Status struct {
	// JobID is the id that was asked for.
	JobID string
	// State is one of the three states above in every Status that the client
	// hands out without an error. It is empty where nothing is known yet, as
	// in a WaitError before the first answer.
	State State
	// Message is the backend's own text, above all on a failed job. It is
	// whatever the backend sent, without the secrets of the request and, while
	// the job is pending, cut at 1 KiB: do not print it to a terminal unescaped.
	Message string
	// Progress runs from 0 to 1. It is 0 where the answer has none, on a
	// completed job too; and it may go back, as the backend's does.
	Progress float64
	// Body is the answer as received. It is present on terminal answers;
	// pending ones may drop it. Do not modify it: others may share it.
	Body json.RawMessage
	// CheckedAt is the local time at which the answer arrived.
	CheckedAt time.Time
	// Cached reports that this Status came from the Cache and not from a
	// request made for this call.
	Cached bool
	// ResultMissing reports that the backend calls the job completed while the
	// answer does not hold the result yet, such as the URL of the video. Status
	// reports such an answer as it is, with StateCompleted. A wait takes it for
	// pending, shows it so to OnProgress and Watch, and looks again after 1, 2,
	// 4, 8 and 15 s; if the result is still missing 30 s after the first such
	// answer, the wait ends with StateCompleted and ResultMissing. The cache
	// holds an answer without its result no longer than a pending one.
	ResultMissing bool
}

// settled reports whether s is the last word on its job.
func (s *Status) settled() bool { return s.State.Terminal() && !s.ResultMissing }

// known reports whether s has one of the three states.
func (s *Status) known() bool { return s.State == StatePending || s.State.Terminal() }

// Decode unmarshals the body of a status, normally that of a completed job,
// into a value of the caller's own type. It returns an error that names the
// job when s has no body or the body does not fit T.
func Decode[T any](s Status) (T, error) {
	var v T
	if len(s.Body) == 0 {
		return v, fmt.Errorf("vtclient: job %s (%s): the status has no body to decode into %T", quoteID(s.JobID), oneLine(string(s.State), 64), v)
	}
	if err := json.Unmarshal(s.Body, &v); err != nil {
		// encoding/json repeats a number that does not fit, however long.
		return v, fmt.Errorf("vtclient: job %s (%s): decode body into %T: %w", quoteID(s.JobID), oneLine(string(s.State), 64), v, brief(err))
	}
	return v, nil
}

// A Job is one unit of work for [Client.WaitAll].
type Job struct {
	// ID is the backend's name for the job.
	ID string
	// StartedAt is the time when the job began; zero: unknown. A job with a start is
	// known to exist, so that its first poll follows the schedule and need not
	// be made at once. See [StartedAt].
	StartedAt time.Time
	// Expect is the caller's estimate of the whole duration; 0: none. See [Expect].
	Expect time.Duration
	// Deadline ends the wait for this job alone; zero: the context's.
	Deadline time.Time
}

// Jobs returns a sequence of jobs of which only the ids are known.
func Jobs(ids ...string) iter.Seq[Job] {
	return func(yield func(Job) bool) {
		for _, id := range ids {
			if !yield(Job{ID: id}) {
				return
			}
		}
	}
}
