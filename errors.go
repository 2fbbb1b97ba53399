package vtclient

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sentinels for errors.Is. The typed errors beside them carry the facts.
var (
	// ErrJobFailed is matched by every [*JobError]: the backend did its work
	// and the job ended badly.
	ErrJobFailed = errors.New("vtclient: job failed")

	// ErrOutage is matched by the Cause of a [*WaitError] when nothing but faults came
	// back for as long as [WithOutageTolerance] allows, which is at most 30 s until the
	// client has had its first readable answer.
	ErrOutage = errors.New("vtclient: the outage lasted longer than the tolerance")

	// ErrGaveUp is the Cause of a [*WaitError] when the Backoff given to
	// [WithPolling] gave up before the job was over.
	ErrGaveUp = errors.New("vtclient: the polling backoff gave up")

	// ErrRetryAfter is the Cause of a [*WaitError] when the server asked, with
	// a fault, for a longer pause than [WithMaxRetryAfter] allows, or than a
	// [Client.Status] waits for, which is 10 s at most; the fault in
	// the same error, mostly an *HTTPError (with [WithFetch] a *TransportError),
	// carries the pause.
	ErrRetryAfter = errors.New("vtclient: the server asks for a longer pause than allowed")
)

// Details are where in a wait an error arose, what the server answered and what
// happens next. The error types below embed them. They hold no secret: values
// of headers that the client sends are removed from what the server echoes.
type Details struct {
	JobID      string
	Attempt    int           // 1 for the first request of the wait or Status call; one that a fault kept from being sent counts
	Jobs       int           // that the request asked for together, this one among them; 0: it asked for this one alone
	Target     string        // what was asked: method, host and path, as in "GET api.example.com/status/{id}", or WithFetch and its function
	StatusCode int           // of the answer; 0: there was no answer
	RequestID  string        // the answer's X-Request-Id or the like; may be empty
	Excerpt    string        // the start of the answer's body on one line, at most 200 bytes
	RetryAfter time.Duration // the pause that the server asks for, by Retry-After or another header; 0: none
	Next       time.Duration // time until the request that follows; 0: none follows
	GivesUpIn  time.Duration // time until the wait ends for want of the client's first readable answer; 0: that has come

	then   string // why none follows, for the text
	action string // what the request was to do; "": to ask how far the job is
}

func (d *Details) details() *Details { return d }

// details returns the details of an error that an exchange made.
func details(err error) *Details {
	if e, ok := err.(interface{ details() *Details }); ok {
		return e.details()
	}
	return &Details{}
}

// snapshot returns a copy of an error that an exchange made: one that may be
// read while what comes next is still being written into the original.
func snapshot(err error) error {
	switch e := err.(type) {
	case *HTTPError:
		c := *e
		return &c
	case *TransportError:
		c := *e
		return &c
	case *DecodeError:
		c := *e
		return &c
	case *UnknownStateError:
		c := *e
		return &c
	case *RefusedError:
		c := *e
		return &c
	}
	return err
}

// text composes the one form that all errors of an exchange have:
// which job, which attempt, what happened, what the server answered, what is next.
func (d *Details) text(what string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "vtclient: %s: request %d", subject(d.action, d.JobID), d.Attempt)
	if d.Jobs > 0 {
		fmt.Fprintf(&b, ", for %d jobs at once", d.Jobs)
	}
	if d.Target != "" {
		b.WriteString(": " + d.Target)
	}
	b.WriteString(": " + what)
	if d.RequestID != "" {
		fmt.Fprintf(&b, " (request id %s)", d.RequestID)
	}
	if d.Excerpt != "" {
		fmt.Fprintf(&b, ": %q", d.Excerpt)
	}
	if d.RetryAfter > 0 {
		fmt.Fprintf(&b, "; the server asks to wait %v", d.RetryAfter)
	}
	switch {
	case d.Next > 0:
		fmt.Fprintf(&b, "; next request in %v", d.Next.Round(time.Millisecond))
	case d.then != "":
		b.WriteString("; ")
		b.WriteString(d.then)
	}
	if d.GivesUpIn > 0 {
		fmt.Fprintf(&b, "; no readable answer has come so far, giving up in %v", d.GivesUpIn.Round(time.Millisecond))
	}
	return b.String()
}

// quoteID quotes a job id, or another word from outside, so that it cannot
// break out of a log line, and bounds it.
func quoteID(id string) string {
	if len(id) > 128 {
		return strconv.QuoteToASCII(id[:128]) + "…"
	}
	return strconv.Quote(id)
}

// A JobError reports that the job itself failed: the backend answered, and
// the answer is that there will be no result. It matches [ErrJobFailed].
type JobError struct {
	Status Status // State is StateFailed; Message is the reason, in the backend's words; see Cancelled
}

func (e *JobError) Error() string {
	job, m := quoteID(e.Status.JobID), oneLine(e.Status.Message, 500)
	switch {
	case e.Status.Cancelled && m == "":
		return fmt.Sprintf("vtclient: job %s was cancelled", job)
	case e.Status.Cancelled:
		return fmt.Sprintf("vtclient: job %s was cancelled: %q", job, m)
	case m == "":
		return fmt.Sprintf("vtclient: job %s failed; the backend gives no reason", job)
	}
	return fmt.Sprintf("vtclient: job %s failed: %q", job, m)
}

// Is reports whether target is ErrJobFailed.
func (e *JobError) Is(target error) bool { return target == ErrJobFailed }

// An HTTPError reports an answer with a status code other than 2xx. Codes 408, 421,
// 425, 429 and 5xx are faults, which are retried, 421 over another connection; so is any
// 4xx that carries a Retry-After that can be read. All other 4xx are final, with one
// exception: after a 404 for a job that has been seen, or whose start was given
// ([StartedAt]), a wait looks again for two minutes, as a replica may lag, or for as long
// as [WithOutageTolerance] has it bear faults if that is shorter. A code that is neither
// 4xx nor 5xx, such as a 304, is final until the client has had its first readable answer;
// from then on a wait takes it for a fault.
type HTTPError struct {
	Details
}

func (e *HTTPError) Error() string {
	what := strconv.Itoa(e.StatusCode)
	if t := http.StatusText(e.StatusCode); t != "" {
		what += " " + t
	}
	return e.text(what)
}

// A TransportError reports that no whole answer arrived: the connection could
// not be made or broke, the attempt's timeout passed, a redirect was refused,
// or what the caller plugged in (WithRequest, WithLimiter, WithFetch) failed.
// A redirect is refused to another host or port, and to another scheme than HTTPS, as it
// would carry the caller's credentials along; after ten in a row; and where the
// CheckRedirect of the caller's own http.Client does not allow it.
// Errors of WithFetch's function that wrap ErrFinal, and requests that WithRequest has
// made impossible, are final; the rest are faults, which are retried. Until the client has
// had its first readable answer, certificates that are refused, TLS to a plain port and the
// reverse, alerts in a handshake, addresses that are none and refused redirects are final,
// too: then they can only be mistakes in the set-up.
type TransportError struct {
	Details
	Err error // the cause; never the end of the caller's own context
}

func (e *TransportError) Error() string { return e.text(inside(e.Err)) }

// Unwrap returns the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// Timeout reports whether the attempt ran into a timeout, as in [net.Error].
func (e *TransportError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// A DecodeError reports an answer with a 2xx status code that the Endpoint
// cannot read: too large, not JSON, JSON of another shape, an error page in
// HTML. It is a fault, which is retried. An answer with more bytes, after decompression,
// than [WithMaxBody] allows has an [*http.MaxBytesError] as its cause.
type DecodeError struct {
	Details
	Err error // the cause
}

func (e *DecodeError) Error() string {
	return e.text("unreadable answer: " + inside(e.Err))
}

// Unwrap returns the cause.
func (e *DecodeError) Unwrap() error { return e.Err }

// An UnknownStateError reports an answer with a state word that is unknown to the Endpoint.
// For a wait it is a fault: a backend that adds a word must not end every wait, and the word may
// be gone with the next answer. It ends the wait when the tolerance is used up. A Status
// returns it at once.
type UnknownStateError struct {
	Details
	Word string // the state as the backend names it, at most about 1 KiB of it
}

func (e *UnknownStateError) Error() string {
	// Quoted as it is, and not cleaned: what makes the word an unknown one may
	// be just what cannot be seen.
	return e.text("unknown job state " + quoteID(e.Word))
}

// A RefusedError reports that the circuit breaker let no request through. With
// the client's own breaker it matches [ErrBreakerOpen]. A Status call returns it
// at once; a wait goes on and asks again later.
type RefusedError struct {
	JobID string
	Err   error // the breaker's own

	action string // as in Details
	target string // as in Details
}

func (e *RefusedError) Error() string {
	s := fmt.Sprintf("vtclient: %s: no request made: ", subject(e.action, e.JobID))
	if e.target != "" {
		s += e.target + ": "
	}
	s += inside(e.Err)
	// The text of a CircuitBreaker has the time already.
	if d := e.RetryAfter(); d > 0 && !errors.Is(e.Err, ErrBreakerOpen) {
		s += fmt.Sprintf("; try again in %v", d.Round(time.Millisecond))
	}
	return s
}

// Unwrap returns the breaker's own error.
func (e *RefusedError) Unwrap() error { return e.Err }

// RetryAfter returns how long the breaker will go on refusing, or 0 if that is
// unknown.
func (e *RefusedError) RetryAfter() time.Duration {
	var r interface{ RetryAfter() time.Duration }
	if errors.As(e.Err, &r) {
		return max(0, r.RetryAfter())
	}
	return 0
}

// A WaitError reports that a call ended before the job did: its context was
// done, the outage tolerance was used up, the server asked for too long a
// pause, or the polling backoff gave up. It matches both its Cause and the
// last Fault, so that errors.Is(err, context.DeadlineExceeded) means that the
// time was up and errors.As finds the *HTTPError that was met last.
type WaitError struct {
	JobID    string
	Requests int    // requests of this wait or call that were answered or failed; one under way at the end does not count
	Last     Status // the last answer; its State is empty if there was none
	Cause    error  // the context's error, ErrOutage, ErrRetryAfter or ErrGaveUp
	Fault    error  // the last fault met; nil: none

	action string // as in Details
	target string // as in Details, where no fault has it
}

func (e *WaitError) Error() string {
	var b strings.Builder
	var early *contactError
	fault := e.Fault
	job := fmt.Sprintf("vtclient: %s: ", subject(e.action, e.JobID))
	b.WriteString(job)
	if fault != nil && errors.As(e.Cause, &early) { // the fault has most of the cause
		b.WriteString(strings.TrimPrefix(strings.TrimPrefix(fault.Error(), job), "vtclient: "))
		b.WriteString("; ")
		fault = nil
	}
	fmt.Fprintf(&b, "ended without a result after %d request", e.Requests)
	if e.Requests != 1 {
		b.WriteByte('s')
	}
	if e.target != "" {
		b.WriteString(" (" + e.target + ")")
	}
	b.WriteString(": ")
	b.WriteString(inside(e.Cause))
	if e.Last.State != "" {
		state := string(e.Last.State)
		if e.Last.ResultMissing {
			state = "completed, but without its result,"
		}
		fmt.Fprintf(&b, "; last answer: %s at %s", state, e.Last.CheckedAt.UTC().Format(time.RFC3339))
	}
	if fault != nil {
		b.WriteString("; last fault: ")
		text := strings.TrimPrefix(fault.Error(), "vtclient: ")
		b.WriteString(strings.TrimPrefix(text, subject(e.action, e.JobID)+": "))
	}
	return b.String()
}

// Unwrap returns the cause and the last fault, without those that are nil.
func (e *WaitError) Unwrap() []error {
	return slices.DeleteFunc([]error{e.Cause, e.Fault}, func(err error) bool { return err == nil })
}

// An ArgumentError reports a bad argument to New, to one of its options, or to
// a call: what was given, what was expected, and where. Nothing was sent.
type ArgumentError struct {
	Where    string // the function or field
	Value    string // what was given, without secrets
	Expected string
}

func (e *ArgumentError) Error() string {
	return fmt.Sprintf("vtclient: %s: got %s, want %s", e.Where, e.Value, e.Expected)
}

// noContext refuses a nil context, which would panic in another goroutine, far from the call.
func noContext(where string) error {
	return badArgument(where+": ctx", words("nil"), "a context, such as context.Background()")
}

// words describe a value that cannot be shown, in the place of the value.
type words string

func badArgument(where string, value any, expected string) error {
	var v string
	switch x := value.(type) {
	case string:
		v = quoteID(x)
	case words:
		v = string(x)
	default:
		v = fmt.Sprint(x)
	}
	return &ArgumentError{Where: where, Value: v, Expected: expected}
}
