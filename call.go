package vtclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// A call is a request that changes something at the backend: it creates jobs, or cancels one.
// It goes through the same stages as a look at a job. A look has a nil call, whose methods do
// nothing.
type call struct {
	action      string // for errors and traces
	method      string
	asked       string // as Details.Target
	target      *target
	header, key string // of idempotency; "": none
	body        []byte // nil: none
	repeatable  bool   // to repeat it changes nothing
	decode      func(Answer) error

	// What came of it.
	sentAt  time.Time // the first request that may have been processed was sent; zero: none was
	sending time.Time // the latest request was sent
	wire    *wire     // what the latest request reached
}

// submits reports whether the call creates jobs.
func (k *call) submits() bool { return k != nil && k.decode != nil }

// errUncertain is the reason for which a call is not repeated.
const errUncertain = "not retried: it may have been processed, and the backend takes no idempotency key"

// A wire is how far a request has come. Its fields are set by the transport, from several
// goroutines.
type wire struct{ asked, connected atomic.Bool }

// traced returns a context with which the transport reports how far the request comes.
func (k *call) traced(ctx context.Context) context.Context {
	if k == nil {
		return ctx
	}
	w := new(wire)
	k.wire = w
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { w.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { w.connected.Store(true) },
	})
}

// shape makes r, which has headers of its own, the request of the call. Only with an
// idempotency key may net/http repeat it by itself, on a connection that turns out to
// be dead: without GetBody it does not repeat what has a body.
func (k *call) shape(r *http.Request) {
	r.Method = k.method
	if k.header != "" {
		r.Header.Set(k.header, k.key)
	}
	if k.body == nil {
		return
	}
	r.Header.Set("Content-Type", "application/json")
	r.Body, r.ContentLength = newCallBody(k.body), int64(len(k.body))
	if k.key != "" {
		r.GetBody = func() (io.ReadCloser, error) { return newCallBody(k.body), nil }
	}
}

// A callBody is the body of a call. Package redact finds the secrets in it.
type callBody struct {
	*bytes.Reader
	all []byte
}

func newCallBody(text []byte) *callBody { return &callBody{bytes.NewReader(text), text} }

func (b *callBody) Close() error  { return nil }
func (b *callBody) Bytes() []byte { return b.all }

// again reports whether a request whose connection was lost may be made again at once, as
// it is. WithRequest may have given it a body of its own, which cannot be read twice.
func (k *call) again(r *http.Request) bool {
	if k == nil {
		return r.Method == http.MethodGet && r.Body == nil
	}
	_, own := r.Body.(*callBody)
	return k.repeatable && (own || r.Body == nil)
}

// sends notes that the request is about to be sent.
func (k *call) sends(at time.Time) {
	if k != nil {
		k.sending = at
	}
}

// answered turns a 2xx answer to the call into an outcome.
func (k *call) answered(b *httpBackend, r reply, d Details, out *outcome) {
	out.verdict = answered
	if k.decode == nil {
		return
	}
	if err := k.decode(Answer{StatusCode: r.resp.StatusCode, Header: r.resp.Header, Body: r.body}); err != nil {
		b.unreadable(err, r, d, out)
	}
}

// judge completes the outcome of one try: whether the backend may have processed it, and
// whether it is worth another.
func (k *call) judge(out *outcome) {
	if k == nil {
		return
	}
	d := details(out.err)
	switch code := out.statusCode; {
	case code == http.StatusConflict && k.key != "": // the first request with this key is being processed
		out.verdict, d.then = fault, ""
	case code/100 == 3:
		d.then = "not retried: only a GET follows a redirect; are the base URL and the path right?"
	}
	processed := k.processed(out)
	if processed && k.sentAt.IsZero() {
		k.sentAt = k.sending
	}
	if out.verdict != fault || k.repeatable {
		return
	}
	switch code := out.statusCode; {
	case processed:
		out.verdict, d.then = final, errUncertain
	case code/100 == 4 && code != http.StatusMisdirectedRequest && code != http.StatusTooEarly && code != http.StatusTooManyRequests:
		out.verdict, d.then = final, "not retried: the backend takes no idempotency key" // although it asks for a pause
	}
}

// processed reports whether the backend may have processed the request.
//
// By their definitions a 421, a 425 and a 429 were not processed (RFC 9110, 15.5.20; RFC
// 8470, 5.2; RFC 6585, 4), nor is what another 4xx refuses, but for 408 and 409, or what
// a 3xx refers elsewhere, but for 303. A 503 is no such answer: a gateway sends it, too,
// for a request that it has passed on.
func (k *call) processed(out *outcome) bool {
	code := out.statusCode
	switch {
	case out.requests == 0: // and so not sent
		return false
	case code == 0: // there was no answer
		return !k.wire.asked.Load() || k.wire.connected.Load()
	case code/100 == 2: // with an error of the backend's own in it
		return out.verdict != final
	case code/100 == 3:
		return code == http.StatusSeeOther
	case code/100 == 4:
		return code == http.StatusRequestTimeout || code == http.StatusConflict && k.key != ""
	}
	return true
}

// subject is what an error is about.
func subject(action, jobID string) string {
	switch {
	case action == "":
		return "job " + quoteID(jobID)
	case jobID == "":
		return action
	}
	return action + " job " + quoteID(jobID)
}

// A submitRoute is a Submit bound to a base URL.
type submitRoute struct {
	target target
	asked  string
	header string
	decode func(Answer) ([]string, error)
}

// newSubmitRoute returns nil if s is the zero value.
func newSubmitRoute(base *url.URL, s Submit) (*submitRoute, error) {
	if s.Path == "" && s.IdempotencyHeader == "" && s.Decode == nil {
		return nil, nil
	}
	r := &submitRoute{header: s.IdempotencyHeader, decode: s.Decode}
	var err error
	if strings.Contains(s.Path, idMark) {
		err = badArgument("Endpoint.Submit.Path", s.Path, "a path without "+idMark+": there is no job yet")
	} else {
		r.target, err = parseTarget("Endpoint.Submit.Path", base, s.Path)
		r.asked = r.target.asked(http.MethodPost, base)
	}
	errs := []error{err}
	if strings.ContainsFunc(s.IdempotencyHeader, notToken) {
		errs = append(errs, badArgument("Endpoint.Submit.IdempotencyHeader", s.IdempotencyHeader, "a header name, such as Idempotency-Key"))
	}
	if s.Decode == nil {
		errs = append(errs, badArgument("Endpoint.Submit.Decode", words("nil"), "a function"))
	}
	return r, errors.Join(errs...)
}

// A cancelRoute is an Endpoint's Cancel bound to a base URL.
type cancelRoute struct {
	method string
	target target
	asked  string
}

// newCancelRoute returns nil if pattern is empty.
func newCancelRoute(base *url.URL, pattern string) (*cancelRoute, error) {
	if pattern == "" {
		return nil, nil
	}
	method, path, _ := strings.Cut(pattern, " ")
	looks := method == http.MethodGet || method == http.MethodHead
	if method == "" || looks || strings.ContainsFunc(method, func(c rune) bool { return c < 'A' || c > 'Z' }) || !strings.Contains(path, idMark) {
		return nil, badArgument("Endpoint.Cancel", pattern, `a method in capitals, other than GET and HEAD, and a path that contains `+idMark+`, as in "POST /v1/jobs/`+idMark+`/cancel"`)
	}
	target, err := parseTarget("Endpoint.Cancel", base, path)
	return &cancelRoute{method, target, target.asked(method, base)}, err
}
