package vtclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/vtclient/vtclient/internal/redact"
)

// A reply is an answer that arrived whole.
type reply struct {
	resp *http.Response
	req  *http.Request
	body []byte
	at   time.Time
}

// classify turns the answer to an inquiry into an outcome.
func (b *httpBackend) classify(r reply, d Details, asked inquiry, out *outcome) {
	if asked.call == nil {
		b.latency.observe(out.took)
	}
	if len(r.resp.Header["Retry-After"]) > 0 {
		d.RetryAfter = retryAfter(r.resp.Header, r.at)
		out.hint = d.RetryAfter
	}
	if r.resp.StatusCode/100 != 2 {
		b.classifyCode(r, d, out)
		return
	}
	if asked.call != nil {
		asked.call.answered(b, r, d, out)
		return
	}
	a := Answer{StatusCode: r.resp.StatusCode, Header: r.resp.Header, Body: r.body}
	if q := asked.many; q != nil {
		if err := q.read(b.route.bulk, a); err != nil {
			b.unreadable(err, r, d, out)
			return
		}
		for i, st := range q.found {
			st.Body = ownCopy(st.Body) // it may be a part of r.body
			b.accept(&st, st.JobID, r)
			q.found[i] = st
		}
		out.verdict = answered
		return
	}
	st, err := b.route.decode(a)
	if err != nil {
		b.unreadable(err, r, d, out)
		return
	}
	switch st.State {
	case StatePending:
		st.Body = nil
	case StateCompleted, StateFailed:
		st.Body = ownCopy(r.body)
	default:
		b.describe(&d, r)
		d.then = "not retried: the Endpoint has no such state"
		out.verdict, out.err = final, &UnknownStateError{Details: d, Word: clip(b.redact(string(st.State), r.req))}
		return
	}
	b.accept(&st, d.JobID, r)
	out.verdict, out.status = answered, st
}

// ownCopy copies a body out of a buffer that is reused. It leaves no room at the end, so
// that an append by one of those that share the copy never writes into it.
func ownCopy(body []byte) []byte { return slices.Clip(append([]byte(nil), body...)) }

// unreadable is the outcome of a 2xx answer that the Endpoint cannot read.
func (b *httpBackend) unreadable(err error, r reply, d Details, out *outcome) {
	b.describe(&d, r)
	out.verdict = fault
	if errors.Is(err, ErrFinal) {
		out.verdict, d.then = final, "not retried: the error is final"
	}
	out.err = &DecodeError{Details: d, Err: b.clean(jsonMismatch(err), r.req)}
}

// classifyCode is the outcome of an answer with a status code other than 2xx.
func (b *httpBackend) classifyCode(r reply, d Details, out *outcome) {
	b.describe(&d, r)
	err := &HTTPError{Details: d}
	out.verdict, out.err = fault, err
	switch code := d.StatusCode; {
	case code >= 500, code == http.StatusTooManyRequests && b.counts429:
		out.health = err
		return
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return
	}
	out.verdict = final
	err.then = fmt.Sprintf("not retried: a %d is final", d.StatusCode)
	if d.StatusCode != http.StatusUnauthorized && d.StatusCode != http.StatusForbidden {
		return
	}
	if redact.Anonymous(r.req, b.route.idParams) {
		err.then += "; WithHeader, WithRequest and the base URL bring no credentials"
	} else {
		err.then += "; are the credentials right?"
	}
}

// classifyTransport is the outcome where no whole answer arrived.
func (b *httpBackend) classifyTransport(err error, req *http.Request, d Details, out *outcome) {
	t := &TransportError{Details: d, Err: b.clean(err, req)}
	out.verdict, out.err, out.health = final, t, t
	var (
		record tls.RecordHeaderError
		op     *net.OpError
		addr   *net.AddrError
	)
	switch {
	case errors.Is(err, errRedirect):
		t.then = "not retried: the server would redirect again"
		out.health = nil // the server is well
	case badCertificate(err):
		t.then = "not retried: the certificate would be refused again"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		t.then = "not retried: the server does not speak TLS here"
	case errors.As(err, &op) && op.Op == "remote error": // what crypto/tls makes of an alert
		t.then = "not retried: the server refuses this client"
	case errors.As(err, &addr):
		t.then = "not retried: the address is no address"
	default:
		out.verdict = fault
	}
}

func badCertificate(err error) bool {
	var (
		invalid  x509.CertificateInvalidError
		hostname x509.HostnameError
		unknown  x509.UnknownAuthorityError
		verify   *tls.CertificateVerificationError
	)
	return errors.As(err, &invalid) || errors.As(err, &hostname) || errors.As(err, &unknown) || errors.As(err, &verify)
}

// accept completes a status that a server sent.
func (b *httpBackend) accept(st *Status, id string, r reply) {
	st.Message = b.redact(st.Message, r.req) // JobError shows it, and so may the caller
	received(st, id, r.at)
	if !st.StartedAt.IsZero() || !st.EndedAt.IsZero() {
		st.shift(clockSkew(r.resp.Header, r.at))
	}
}

// keptText bounds in bytes each text from outside that is kept for as long as
// a wait lasts: there may be very many waits.
const keptText = 1 << 10

// clip cuts what is longer than keptText, without holding on to the rest of it.
func clip(s string) string {
	if len(s) <= keptText {
		return s
	}
	n := keptText - len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// clean makes an error that came from outside fit to be kept, shown and
// matched: no URL (it may hold a password), no secret, no whole answer of a
// server, and no match with the context errors, which belong to the caller's
// own context.
func (b *httpBackend) clean(err error, req *http.Request) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	text := err.Error()
	shown := redact.Of(req, b.route.idParams).Message(text)
	switch {
	case len(shown) > keptText:
		// net/http and encoding/json repeat a line or a number that they cannot
		// read. The error that holds it is dropped with it.
		return &foreignError{text: oneLine(shown, 500)}
	case shown != text:
		return &foreignError{text: shown, err: err}
	}
	return hideContextErrors(err)
}

// describe completes details with what the server sent.
func (b *httpBackend) describe(d *Details, r reply) {
	d.RequestID = b.requestID(r.resp, r.req)
	d.Excerpt = oneLine(b.redact(string(r.body[:min(len(r.body), errorBody)]), r.req), 200)
}

// requestID is the name of an answer in the server's own logs, for errors.
func (b *httpBackend) requestID(resp *http.Response, req *http.Request) string {
	for _, k := range [...]string{"X-Request-Id", "Request-Id", "X-Correlation-Id", "X-Amzn-Requestid", "X-Ms-Request-Id", "Cf-Ray"} {
		if v := resp.Header.Get(k); v != "" {
			return oneLine(b.redact(v, req), 64)
		}
	}
	return ""
}

// redact takes the secrets of req out of a text from outside.
func (b *httpBackend) redact(text string, req *http.Request) string {
	if text == "" {
		return text
	}
	return redact.Of(req, b.route.idParams).Text(text)
}
