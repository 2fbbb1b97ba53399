package vtclient

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"
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
	// Progress runs from 0 to 1. It is 1 on a completed job, and else 0 where the
	// answer has none; it may go back, as the backend's does.
	Progress float64
	// Body is the answer as received. It is present on terminal answers;
	// pending ones may drop it. Do not modify it: others may share it.
	Body json.RawMessage
	// StartedAt and EndedAt are the times at which the job began and ended, as the
	// backend has them; zero: it does not. The client brings them to the local clock
	// where the answer's Date shows that the backend's differs. A wait counts the age
	// of the job from StartedAt, unless an earlier start is known, and learns from the
	// two how long the job took.
	StartedAt, EndedAt time.Time
	// PollAfter is the pause that the backend asks for before the next look at a
	// pending job; zero: none. A wait obeys it as it does a Retry-After header: it is
	// a floor, up to WithMaxRetryAfter. It is for backends that ask in the body, or in
	// a header of another name.
	PollAfter time.Duration
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
	// Cancelled reports that State is StateFailed because the job was cancelled, by
	// [Client.Cancel] or otherwise, where the Endpoint distinguishes that.
	Cancelled bool
}

// String describes s on one line: the job, its state, and what there is of progress,
// message and times. The body is left out.
func (s Status) String() string {
	var b strings.Builder
	b.WriteString("job " + quoteID(s.JobID) + ": ")
	switch {
	case s.Cancelled:
		b.WriteString("cancelled")
	case s.State == "":
		b.WriteString("nothing known yet")
	default:
		b.WriteString(oneLine(string(s.State), 64))
	}
	if s.ResultMissing {
		b.WriteString(", without its result so far")
	}
	if s.State == StatePending && s.Progress > 0 {
		fmt.Fprintf(&b, ", %.0f%%", 100*s.Progress)
	}
	if m := oneLine(s.Message, 200); m != "" {
		fmt.Fprintf(&b, ", %q", m)
	}
	if took := s.EndedAt.Sub(s.StartedAt); took > 0 && !s.StartedAt.IsZero() {
		fmt.Fprintf(&b, ", took %v", took.Round(time.Millisecond))
	}
	if !s.CheckedAt.IsZero() {
		b.WriteString(", seen at " + s.CheckedAt.UTC().Format(time.RFC3339))
	}
	if s.Cached {
		b.WriteString(", from the cache")
	}
	return b.String()
}

// settled reports whether s is the last word on its job.
func (s *Status) settled() bool { return s.State.Terminal() && !s.ResultMissing }

// known reports whether s has one of the three states.
func (s *Status) known() bool { return s.State == StatePending || s.State.Terminal() }

// received fills in the fields of a status that are the client's own, for an answer that
// arrived at the time given, and brings the others within their bounds. No text of it is a
// part of a larger one any more.
func received(st *Status, id string, at time.Time) {
	st.JobID, st.CheckedAt, st.Cached = id, at, false
	st.State = plainState([]byte(st.State))
	st.Progress = st.share()
	st.StartedAt, st.EndedAt = ownTime(st.StartedAt), ownTime(st.EndedAt)
	st.ResultMissing = st.ResultMissing && st.State == StateCompleted
	st.Cancelled = st.Cancelled && st.State == StateFailed
	if st.State == StatePending {
		st.Message = clip(st.Message)
		st.PollAfter = min(max(0, st.PollAfter), maxHint)
	} else {
		st.Message = strings.Clone(st.Message)
		st.PollAfter = 0
	}
}

// ownTime drops a time that no format of dates can hold, such as one that the backend counts
// in milliseconds and the Endpoint in seconds: a Cache could not keep it.
func ownTime(t time.Time) time.Time {
	if y := t.Year(); y > 9999 || y < 0 {
		return time.Time{}
	}
	return t
}

// shift moves the times that are the backend's.
func (s *Status) shift(d time.Duration) {
	if !s.StartedAt.IsZero() {
		s.StartedAt = s.StartedAt.Add(d)
	}
	if !s.EndedAt.IsZero() {
		s.EndedAt = s.EndedAt.Add(d)
	}
}

// share is the progress, within its bounds.
func (s *Status) share() float64 {
	switch {
	case s.State == StateCompleted:
		return 1
	case !(s.Progress > 0): // NaN included
		return 0
	}
	return min(s.Progress, 1)
}

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

// A Job is one unit of work for [Client.WaitAll]. It marshals to JSON and back, so that a
// program which is killed can go on with the same jobs and their ages.
type Job struct {
	// ID is the backend's name for the job.
	ID string `json:"id"`
	// StartedAt is the time when the job began; zero: unknown. A job with a start is
	// known to exist, so that its first poll follows the schedule and need not
	// be made at once. See [StartedAt].
	StartedAt time.Time `json:"started_at,omitzero"`
	// Expect is the caller's estimate of the whole duration; 0: none. See [Expect].
	// In JSON it is a number of nanoseconds.
	Expect time.Duration `json:"expect,omitzero"`
	// Deadline ends the wait for this job alone; zero: the context's.
	Deadline time.Time `json:"deadline,omitzero"`
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
