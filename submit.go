package vtclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/vtclient/vtclient/internal/flight"
)

// Submit makes one request that creates jobs, by the [Endpoint]'s Submit, and
// returns the jobs in the order of the answer, ready for [Client.WaitAll]: their
// StartedAt is the local time at which the first request that may have created them
// was sent. body is any value that marshals to JSON; a json.RawMessage is sent as it is,
// and a []byte or an io.Reader is refused.
//
// key makes it safe to submit again where the backend takes an idempotency key
// (Submit.IdempotencyHeader): all requests with one key create the jobs once. It is 1
// to 255 visible ASCII characters, best derived from what is submitted and stored
// with it, so that the same submission after a crash finds the jobs of the first.
// Empty stands for a random key, which lasts for this call. All tries of one call
// carry the same key, so faults are retried as those of [Client.Status] are, with the
// delays and the number of tries of [WithRetry]. So is a 409, with which a backend
// reports that the first request with this key is still being processed. Where the backend
// repeats the answer to an earlier request with this key, Submit returns the jobs in it.
//
// Where the backend takes no key, key must be empty, and only what cannot have been
// processed is retried: a connection that could not be made, an answer 421, 425 or
// 429, and a refusal by the limiter or the breaker. A 503 is not retried, as a gateway
// may send it for a request that it has passed on.
//
// Unlike Status, Submit waits for the pauses that the server asks for, up to
// [WithMaxRetryAfter] from its first try on, and waits out the refusals of a breaker that
// gives its RetryAfter. Each refusal counts as a try. The pause of a 429 to a submission
// holds all submissions of the client, but no request about a job's status: such a 429 is
// mostly about the number of jobs at a time. A redirect is not followed. The error is an
// *ArgumentError if nothing can be sent, else a *[SubmitError].
func (c *Client) Submit(ctx context.Context, key string, body any) ([]Job, error) {
	r := c.route.submit
	if r == nil {
		return nil, badArgument("Submit", words("a client without Endpoint.Submit"), "an Endpoint that describes how jobs are created")
	}
	if ctx == nil {
		return nil, noContext("Submit")
	}
	if err := r.checkKey(key); err != nil {
		return nil, err
	}
	text, err := marshal(body)
	if err != nil {
		return nil, err
	}
	if key == "" && r.header != "" {
		key = rand.Text()
	}
	var ids []string
	k := &call{action: "submit", method: http.MethodPost, asked: r.asked, target: &r.target, header: r.header, key: key, body: text, repeatable: r.header != ""}
	k.decode = func(a Answer) (err error) {
		ids, err = r.read(a)
		return err
	}
	if err := c.do(ctx, k, ""); err != nil {
		return nil, &SubmitError{Key: key, MaybeSubmitted: !k.sentAt.IsZero(), Err: err}
	}
	jobs := make([]Job, len(ids))
	for i, id := range ids {
		jobs[i] = Job{ID: id, StartedAt: k.sentAt}
	}
	return jobs, nil
}

// Cancel asks the backend to cancel a job, by the [Endpoint]'s Cancel. Faults are retried as
// those of [Client.Status] are; in addition, a refusal of a breaker that gives its RetryAfter
// is waited out. A nil error means that the backend has taken the request. The next Status
// of the job skips the cache and shows what became of it. The waits for the job look at once
// (see [Client.Hint]) and end with what the backend answers, which may be that the job was
// completed before. A cancelled job is a failed one, marked by Status.Cancelled where the
// Endpoint sets it.
//
// The errors are those of Status. A job that is over is refused by some backends, with
// a 4xx that is final.
func (c *Client) Cancel(ctx context.Context, jobID string) error {
	r := c.route.cancel
	if r == nil {
		return badArgument("Cancel", words("a client without Endpoint.Cancel"), "an Endpoint that describes how a job is cancelled")
	}
	if ctx == nil {
		return noContext("Cancel")
	}
	if err := c.route.checkID(jobID); err != nil {
		return err
	}
	k := &call{action: "cancel", method: r.method, asked: r.asked, target: &r.target, repeatable: true}
	if err := c.do(ctx, k, jobID); err != nil {
		return err
	}
	c.forget(ctx, jobID)
	c.Hint(jobID)
	return nil
}

// do makes a call about a job, or about none.
func (c *Client) do(ctx context.Context, k *call, jobID string) error {
	t := tries{patience: c.maxRetryAfter}
	var out outcome
	err := error(nil)
	if expired(ctx) {
		err = t.ended(ctx, jobID)
	} else {
		err = c.ask(ctx, inquiry{id: jobID, call: k}, &t, &out)
	}
	if own, ok := err.(flight.LeaderError); ok {
		err = own.Err
	}
	if w, ok := err.(*WaitError); ok {
		if w.action = k.action; w.Fault == nil {
			w.target = k.asked
		}
	}
	return err
}

// marshal returns the JSON of a value.
func marshal(body any) ([]byte, error) {
	switch b := body.(type) {
	case json.RawMessage:
		if json.Valid(b) {
			return bytes.Clone(b), nil // a transport may read it after the call has been left
		}
	case []byte, io.Reader: // which marshal as a text in base64, and as {}
		return nil, badArgument("Submit: body", words(fmt.Sprintf("a %T", body)), "a json.RawMessage, or a value that marshals to JSON")
	}
	text, err := json.Marshal(body)
	if err != nil {
		var own *json.MarshalerError
		if errors.As(err, &own) {
			err = own.Err
		}
		return nil, badArgument("Submit: body", words(fmt.Sprintf("a %T (%s)", body, inside(err))), "a value that marshals to JSON")
	}
	return text, nil
}

// maxKey bounds an idempotency key in bytes, as the backends do.
const maxKey = 255

// checkKey reports whether a key may be sent.
func (r *submitRoute) checkKey(key string) error {
	switch {
	case key == "":
		return nil
	case r.header == "":
		return badArgument("Submit: key", key, `"": the backend takes no idempotency key (Endpoint.Submit.IdempotencyHeader)`)
	case len(key) > maxKey:
		return badArgument("Submit: key", key, fmt.Sprintf("at most %d characters", maxKey))
	case strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		return badArgument("Submit: key", key, "visible ASCII characters only, as in a UUID")
	}
	return nil
}

// read reads the answer to a submission.
func (r *submitRoute) read(a Answer) (ids []string, err error) {
	if ids, err = r.decode(a); err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, errors.New("no job id in the answer")
	}
	for i, id := range ids {
		if ids[i] = strings.Clone(id); id == "" {
			return nil, errors.New("an empty job id in the answer")
		}
	}
	return ids, nil
}

// A SubmitError reports that [Client.Submit] has no jobs to return.
type SubmitError struct {
	// Key is the idempotency key of the call; empty: the backend takes none. To submit
	// the same again with this key is safe.
	Key string
	// MaybeSubmitted reports that the backend may have created the jobs. If it is
	// false, none was.
	MaybeSubmitted bool
	// Err is the reason: an *HTTPError, a *TransportError, a *DecodeError, a
	// *RefusedError, or a *WaitError where the context ended first.
	Err error
}

func (e *SubmitError) Error() string {
	s := "vtclient: " + inside(nil)
	if e.Err != nil {
		s = "vtclient: " + strings.TrimPrefix(e.Err.Error(), "vtclient: ")
	}
	switch {
	case e.MaybeSubmitted && e.Key != "":
		return s + "; may have been submitted: it is safe to repeat with key " + quoteID(e.Key)
	case e.MaybeSubmitted:
		return s + "; may have been submitted"
	}
	return s + "; nothing was submitted"
}

// Unwrap returns the reason.
func (e *SubmitError) Unwrap() error { return e.Err }
