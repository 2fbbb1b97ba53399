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
	"strings"
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
	pause, paused := pauseAsked(r.resp.Header, r.resp.StatusCode, r.at)
	d.RetryAfter, out.hint = pause, pause
	if r.resp.StatusCode/100 != 2 {
		b.classifyCode(r, d, paused, out)
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
		out.verdict, out.lasting, out.err = fault, true, &UnknownStateError{Details: d, Word: clip(b.redact(string(st.State), r.req))}
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

// classifyCode is the outcome of an answer with a status code other than 2xx. pause reports
// that the answer asks for one, if only of 0. What is neither of the server's success nor of
// this request's failure, such as a 304, is a mistake of the set-up or trouble on the way.
func (b *httpBackend) classifyCode(r reply, d Details, pause bool, out *outcome) {
	b.describe(&d, r)
	err := &HTTPError{Details: d}
	out.verdict, out.err = fault, err
	out.absent = d.StatusCode == http.StatusNotFound && d.Jobs == 0
	switch code := d.StatusCode; {
	case code >= 500, code == http.StatusTooManyRequests && b.counts429:
		out.health = err
		return
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code/100 == 4 && pause,
		code == http.StatusMisdirectedRequest: // of a connection that serves another host; it is given up
		return
	}
	if out.lasting = d.StatusCode/100 != 4 && b.contact.made.Load(); !out.lasting {
		out.verdict = final
	}
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
	out.verdict, out.err, out.health = fault, t, t
	why := mistake(err)
	if why == "" {
		return
	}
	if errors.Is(err, errRedirect) {
		out.lasting, out.health = true, nil // the server is well
	}
	if !b.contact.made.Load() {
		out.verdict = final
	}
	if out.lasting || out.verdict == final {
		t.then = "not retried: " + why
	}
}

// mistake is what is wrong with the set-up where an error can only come from that, unless
// the backend has been reached before; "" for other errors.
func mistake(err error) string {
	var (
		record tls.RecordHeaderError
		op     *net.OpError
		addr   *net.AddrError
	)
	switch {
	case errors.Is(err, errRedirect):
		return "the server would redirect again"
	case badCertificate(err):
		return "the certificate would be refused again"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "the server does not speak TLS here"
	case strings.Contains(err.Error(), tlsAlert):
		return "the server speaks TLS here, and the base URL begins with http"
	case errors.As(err, &op) && op.Op == "remote error": // what crypto/tls makes of an alert
		return "the server refuses this client"
	case errors.As(err, &addr):
		return "the address is no address"
	}
	return ""
}

// tlsAlert stands in net/http's error about a TLS alert that answers a request in plain text: a
// status line that it cannot read.
const tlsAlert = `malformed HTTP response "\x15\x03`

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

// clip returns a copy of s, cut where it is longer than keptText.
func clip(s string) string {
	if len(s) <= keptText {
		return strings.Clone(s)
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
