package vtclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"iter"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// A verdict says what an exchange means for whoever asked for it.
type verdict uint8

const (
	answered verdict = iota // status holds the answer
	fault                   // err; worth another try
	final                   // err; another try would bring the same
	refused                 // err; by the breaker, nothing was sent
	held                    // nothing was sent: a 429 holds the whole client for hint
	left                    // the caller's context is done
)

// An outcome is what an exchange brought.
type outcome struct {
	verdict  verdict
	status   Status
	err      error
	refusal  error         // what the breaker said, for a poll
	pause    time.Duration // for which it goes on refusing, for a poll; 0: it does not say
	hint     time.Duration // the server's Retry-After; 0: none
	requests int           // sent
	took     time.Duration // from the first of them to the answer or the fault
	number   int           // the last one given to a request, or to a fault that kept one from being sent
	jobs     int           // that the request asked for together; 0: it asked for one alone
	limited  bool          // the limiter let no request through: nothing was sent
}

// An inquiry is what an exchange asks about: one job, or the jobs of a query.
type inquiry struct {
	id     string      // of the job, or of the first of them
	many   *query      // nil: it asks about one job
	wanted func() bool // is asked right before the request is sent; nil: the context alone decides
}

// jobs is the number of jobs that are asked about together; 0: one alone.
func (a inquiry) jobs() int {
	if a.many == nil {
		return 0
	}
	return len(a.many.ids)
}

// details are those that an error about it begins with.
func (a inquiry) details(number int) Details {
	return Details{JobID: a.id, Attempt: number, Jobs: a.jobs()}
}

// trace is what a Trace is told about it in any case.
func (a inquiry) trace(number int) TraceInfo {
	return TraceInfo{JobID: a.id, Attempt: number, Jobs: a.jobs()}
}

// exchange asks a backend once: gate, limiter, breaker, timeout, send,
// bound, classify. number is that of the request, for errors and traces. Where
// asked is about many jobs, what was said of them is in its query afterwards.
//
// A 401 is asked about once more where WithRequest can bring a fresh token.
func (c *Client) exchange(ctx context.Context, asked inquiry, number int) (out outcome) {
	c.exchangeOnce(ctx, asked, number, &out)
	if len(c.prepare) > 0 && unauthorized(out.err) {
		first := out
		out = outcome{}
		c.exchangeOnce(ctx, asked, first.number+1, &out)
		out.requests += first.requests
		out.took += first.took
	}
	switch out.verdict {
	case answered:
		if c.outageSince.Load() != 0 { // not to write what all read
			c.outageSince.Store(0)
		}
	case fault:
		c.outageSince.CompareAndSwap(0, c.now())
	}
	return out
}

func unauthorized(err error) bool {
	var h *HTTPError
	return errors.As(err, &h) && h.StatusCode == http.StatusUnauthorized
}

// exchangeOnce writes what came of it to out, which is empty before. An outcome is large:
// returning it from stage to stage costs a Status a tenth of its time over a stub.
func (c *Client) exchangeOnce(ctx context.Context, asked inquiry, number int, out *outcome) {
	defer func() {
		out.jobs = asked.jobs()
		if out.number = number; out.requests == 0 && out.verdict != fault {
			out.number-- // free for the next
		}
	}()
	if !c.enter(ctx, asked, number, out) {
		return
	}
	defer c.leave()

	var report func(error)
	if c.breaker != nil {
		done, err := c.breaker.Allow()
		if err != nil {
			err = &RefusedError{JobID: asked.id, Err: err}
			info := asked.trace(number)
			info.Err = err
			c.emit(ctx, traceRefused, info)
			out.verdict, out.err = refused, err
			return
		}
		// Said from a defer, so that a panic or a Goexit in what the caller
		// plugged in gives the permit back too.
		health := errNeutral
		defer func() { done(health) }()
		report = func(err error) { health = err }
	}
	// Last look before the wire: the engine's timers and those of the
	// caller's context may fire in the same instant, in any order. And while
	// this one queued, all who wait may have been cancelled without having
	// left: a loop body or a callback keeps them.
	if expired(ctx) || asked.wanted != nil && !asked.wanted() {
		out.verdict = left
		return
	}
	var result error
	if c.fetch != nil {
		result = c.call(ctx, asked, number, out)
	} else {
		result = c.send(ctx, asked, number, out)
	}
	if report != nil {
		report(result)
	}
}

// errNeutral tells a breaker that an exchange says nothing about the backend.
var errNeutral error = neutralError{}

type neutralError struct{}

func (neutralError) Error() string        { return "the caller left" }
func (neutralError) Is(target error) bool { return target == context.Canceled }

func expired(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	t, ok := ctx.Deadline()
	return ok && !time.Now().Before(t)
}

// enter passes the gate and the limiter. If it reports true, leave must follow.
func (c *Client) enter(ctx context.Context, asked inquiry, number int, out *outcome) (ok bool) {
	if d := c.held(); d > 0 {
		out.verdict, out.hint = held, d
		return false
	}
	select {
	case c.gate <- struct{}{}:
	default:
		select {
		case c.gate <- struct{}{}:
		case <-ctx.Done():
			out.verdict = left
			return false
		}
	}
	entered := false
	defer func() {
		if !entered { // by a panic in the limiter too
			c.leave()
		}
	}()
	if c.limiter != nil {
		if err := c.limiter.Wait(ctx); err != nil {
			if expired(ctx) {
				out.verdict = left
				return false
			}
			out.verdict, out.limited = fault, true
			out.err = &TransportError{Details: asked.details(number), Err: fmt.Errorf("limiter: %w", opaque(err))}
			return false
		}
	}
	// A 429 may have come in while this one queued.
	if d := c.held(); d > 0 {
		out.verdict, out.hint = held, d
		return false
	}
	if expired(ctx) {
		out.verdict = left
		return false
	}
	entered = true
	return true
}

func (c *Client) leave() { <-c.gate }

// held returns how long a 429 still holds the client.
func (c *Client) held() time.Duration {
	until := c.holdUntil.Load()
	if until == 0 {
		return 0
	}
	return max(0, time.Duration(until-c.now()))
}

func (c *Client) hold(d time.Duration) {
	until := later(c.now(), d)
	for {
		old := c.holdUntil.Load()
		if until <= old || c.holdUntil.CompareAndSwap(old, until) {
			return
		}
	}
}

// A timeoutError says that the attempt's own timeout passed. It does not match
// context.DeadlineExceeded, which callers must be able to take for the end of
// their own time.
type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string        { return fmt.Sprintf("no whole answer within %v", e.after) }
func (e timeoutError) Timeout() bool        { return true }
func (e timeoutError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// send makes the request and reads the answer. health is what the breaker is told.
func (c *Client) send(parent context.Context, asked inquiry, number int, out *outcome) (health error) {
	began := time.Now()
	timed := &lazyContext{parent: parent, deadline: began.Add(c.timeout)}
	defer timed.end()

	var ctx context.Context = timed
	var wire *atomic.Int32
	if len(c.traces) > 0 {
		wire = new(atomic.Int32)
		// Counted where net/http writes: it repeats a GET by itself when the
		// connection it had turns out to be dead.
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wire.Add(1) }})
	}
	req := c.newRequest(ctx, asked)
	details := asked.details(number)
	for _, prepare := range c.prepare {
		if err := prepare(req); err != nil {
			if expired(parent) {
				out.verdict = left
				return errNeutral
			}
			out.verdict = fault
			out.err = &TransportError{Details: details, Err: fmt.Errorf("WithRequest: %w", c.clean(err, req))}
			return errNeutral
		}
	}

	if len(c.prepare) > 0 { // else WithHeader and the base URL have been found good
		if err := sendable(req); err != nil {
			details.then = "not retried: WithRequest made it so"
			out.verdict, out.err = final, &TransportError{Details: details, Err: err}
			return errNeutral
		}
	}
	if len(c.traces) > 0 {
		c.emit(parent, traceSent, asked.trace(number))
	}
	if len(c.prepare) > 0 || len(c.traces) > 0 {
		began = time.Now() // what the caller's functions took is not the server's
	}
	resp, err := c.do(req)
	var body *bodyBuffer
	if err == nil {
		body = bodies.Get().(*bodyBuffer)
		defer body.release()
		details.StatusCode = resp.StatusCode
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols:
			// Its body is the bare connection, whose reads no context ends: a
			// server that then says nothing would hold the exchange for ever.
			resp.Body.Close()
		case resp.StatusCode/100 == 2:
			err = body.read(resp, c.maxBody)
		default:
			body.read(resp, min(c.maxBody, errorBody)) // whether or not it can be: the status code says enough
		}
	}
	ended := time.Now()
	latency := ended.Sub(began)

	switch {
	case err == nil:
		c.latency.observe(latency)
		health = c.classify(resp, req, body.b, &details, asked.many, ended, out)
	case errors.Is(err, ErrBodyTooLarge):
		details.RequestID = c.requestID(resp, req)
		details.Excerpt = c.excerpt(body.b, req)
		out.verdict, out.err = fault, &DecodeError{Details: details, Err: err}
	case expired(parent): // also where the connection's timer fired before the context's
		out.verdict, health = left, errNeutral
	default:
		if ctx.Err() != nil {
			err = timeoutError{c.timeout}
		}
		if body != nil {
			details.RequestID = c.requestID(resp, req)
		}
		health = c.classifyTransport(err, req, details, out)
	}
	out.requests, out.took = 1, latency
	if len(c.traces) > 0 {
		info := asked.trace(number)
		info.State, info.StatusCode, info.Err = out.status.State, details.StatusCode, snapshot(out.err)
		info.Latency, info.Wire = latency, int(wire.Load())
		if out.verdict == left {
			info.Err = contextCause(parent)
		}
		c.emit(parent, traceAnswered, info)
	}
	return health
}

// newRequest returns the request of an inquiry, and its address beside it: an allocation
// less, which is 1 % of a Status over a stub.
func (c *Client) newRequest(ctx context.Context, asked inquiry) *http.Request {
	r := &struct {
		req http.Request
		url url.URL
	}{req: *c.request.WithContext(ctx)}
	r.req.URL = &r.url
	c.route.address(&r.url, asked)
	switch {
	case len(c.prepare) > 0: // may write wherever it likes
		r.req.Header = c.request.Header.Clone()
	case !c.sharesHeader: // a map of its own, with the values of all: who writes there does so by Set and Add
		r.req.Header = maps.Clone(c.request.Header)
	}
	return &r.req
}

// do is c.http.Do, which copies headers and address for a redirect that hardly ever
// comes: 6 of the 23 allocations of a Status over a stub, and a seventh of its time. So
// what needs nothing but the transport goes there, and an answer on which Do would
// have more to do is given to it then.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	hc := c.http
	if hc.Jar != nil || hc.Timeout != 0 || req.URL.User != nil || req.Header == nil || req.RequestURI != "" {
		return hc.Do(req)
	}
	rt := hc.Transport
	if rt == nil {
		rt = http.DefaultTransport
	}
	resp, err := rt.RoundTrip(req)
	if err == nil && resp != nil && resp.Body != nil && resp.StatusCode/100 != 3 {
		return resp, nil
	}
	again := *hc
	again.Transport = &resumed{resp: resp, err: err, next: rt}
	return again.Do(req)
}

// A resumed transport has answered the first request already.
type resumed struct {
	resp *http.Response
	err  error
	next http.RoundTripper
	told bool
}

func (t *resumed) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.told {
		return t.next.RoundTrip(req)
	}
	t.told = true
	return t.resp, t.err
}

// sendable reports what WithRequest did that makes a request one that net/http
// cannot send, or must not: it would refuse it, too, but as if the network had
// failed.
func sendable(req *http.Request) error {
	if u := req.URL; u == nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("the request has no http or https URL")
	}
	for k, values := range req.Header {
		if k == "" || strings.ContainsFunc(k, notToken) {
			return fmt.Errorf("%s is no name for a header", quoteID(k))
		}
		for _, v := range values {
			if strings.ContainsFunc(v, notText) {
				return fmt.Errorf("the value of header %s has a control character", k)
			}
		}
	}
	return nil
}

// classify says what an answer that arrived whole means.
func (c *Client) classify(resp *http.Response, req *http.Request, body []byte, d *Details, q *query, at time.Time, out *outcome) (health error) {
	if len(resp.Header["Retry-After"]) > 0 {
		d.RetryAfter = retryAfter(resp.Header, at)
		out.hint = d.RetryAfter
	}
	if code := resp.StatusCode; code/100 != 2 {
		d.RequestID = c.requestID(resp, req)
		d.Excerpt = c.excerpt(body, req)
		err := &HTTPError{Details: *d}
		out.verdict, out.err = fault, err
		switch {
		case code == http.StatusTooManyRequests:
			if c.hold429(err); c.counts429 {
				return err
			}
			return nil
		case code >= 500:
			return err
		case code == http.StatusRequestTimeout, code == http.StatusTooEarly:
			return nil
		}
		err.then = fmt.Sprintf("not retried: a %d is final", code)
		if code == http.StatusUnauthorized || code == http.StatusForbidden {
			if c.route.anonymous(req) {
				err.then += "; WithHeader, WithRequest and the base URL bring no credentials"
			} else {
				err.then += "; are the credentials right?"
			}
		}
		out.verdict = final
		return nil
	}

	var st Status
	var err error
	if a := (Answer{StatusCode: resp.StatusCode, Header: resp.Header, Body: body}); q != nil {
		err = q.read(c.route.bulk, a)
	} else {
		st, err = c.route.decode(a)
	}
	if err != nil {
		d.RequestID = c.requestID(resp, req)
		d.Excerpt = c.excerpt(body, req)
		out.verdict, out.err = fault, &DecodeError{Details: *d, Err: c.clean(err, req)}
		return nil
	}
	if q != nil {
		for i, st := range q.found {
			st.Body = slices.Clip(append([]byte(nil), st.Body...)) // it may be a part of body, which is reused
			c.accept(&st, st.JobID, req, at)
			q.found[i] = st
		}
		out.verdict = answered
		return nil
	}
	switch st.State {
	case StatePending:
		st.Body = nil
	case StateCompleted, StateFailed:
		// With no room at its end: who appends to it must not write into what
		// others who share it have appended.
		st.Body = slices.Clip(append([]byte(nil), body...))
	default:
		d.RequestID = c.requestID(resp, req)
		d.Excerpt = c.excerpt(body, req)
		d.then = "not retried: only a newer Endpoint can know it"
		out.verdict, out.err = final, &StateError{Details: *d, Word: clip(c.redact(string(st.State), req))}
		return nil
	}
	c.accept(&st, d.JobID, req, at)
	out.verdict, out.status = answered, st
	return nil
}

// accept is received for what a server sent.
func (c *Client) accept(st *Status, id string, req *http.Request, at time.Time) {
	st.Message = c.redact(st.Message, req) // JobError shows it, and so may the caller
	received(st, id, at)
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

// received fills in what the client knows better than whoever read the answer, which
// arrived at the time given.
func received(st *Status, id string, at time.Time) {
	st.JobID, st.CheckedAt, st.Cached = id, at, false
	st.Progress = clampProgress(st.Progress)
	st.ResultMissing = st.ResultMissing && st.State == StateCompleted
	if st.State == StatePending {
		st.Message = clip(st.Message)
	}
}

func clampProgress(p float64) float64 {
	if !(p > 0) { // NaN included
		return 0
	}
	return min(p, 1)
}

// hold429 makes a 429's pause hold for the whole client, unless another one lasts longer.
func (c *Client) hold429(err *HTTPError) {
	if err.RetryAfter > c.held() {
		shared := *err // ours is completed with what comes next, while others read this one
		c.holdFault.Store(&shared)
		c.hold(err.RetryAfter)
	}
}

// classifyTransport says what it means that no whole answer arrived.
func (c *Client) classifyTransport(err error, req *http.Request, d Details, out *outcome) (health error) {
	t := &TransportError{Details: d, Err: c.clean(err, req)}
	var (
		invalid  x509.CertificateInvalidError
		hostname x509.HostnameError
		unknown  x509.UnknownAuthorityError
		verify   *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		op       *net.OpError
		addr     *net.AddrError
	)
	switch {
	case errors.Is(err, ErrRedirect):
		t.then = "not retried: the server would redirect again"
		out.verdict, out.err = final, t
		return nil // the server is well
	case errors.As(err, &invalid), errors.As(err, &hostname), errors.As(err, &unknown), errors.As(err, &verify):
		t.then = "not retried: the certificate would be refused again"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		t.then = "not retried: the server does not speak TLS here"
	case errors.As(err, &op) && op.Op == "remote error": // what crypto/tls makes of an alert
		t.then = "not retried: the server refuses this client"
	case errors.As(err, &addr):
		t.then = "not retried: the address is no address"
	default:
		out.verdict, out.err = fault, t
		return t
	}
	out.verdict, out.err = final, t
	return t
}

// clean makes an error that came from outside fit to be kept, shown and
// matched: no URL (it may hold a password), no secret, no answer of a server's
// as a whole, and no match with the context errors, which belong to the caller's
// own context.
func (c *Client) clean(err error, req *http.Request) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	text := err.Error()
	secrets := c.route.secretsOf(req)
	shown := redact(redactQuoted(text, secrets), secrets)
	switch {
	case len(shown) > keptText:
		// net/http and encoding/json repeat a line or a number that they cannot
		// read. With it goes the error that has it.
		return opaqueError{text: oneLine(shown, 500)}
	case shown != text:
		return opaqueError{shown, err}
	}
	return opaque(err)
}

// redactQuoted does redact to each quoted part of an error's text. net/http and
// net/url quote what they cannot read, and often only the beginning of it.
func redactQuoted(text string, secrets []string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '"')
		if i < 0 {
			return b.String() + text
		}
		b.WriteString(text[:i])
		quoted, err := strconv.QuotedPrefix(text[i:])
		if err != nil {
			quoted = `"`
		} else if plain, err := strconv.Unquote(quoted); err == nil {
			if shown := redact(plain, secrets); shown != plain {
				b.WriteString(strconv.Quote(shown))
				text = text[i+len(quoted):]
				continue
			}
		}
		b.WriteString(quoted)
		text = text[i+len(quoted):]
	}
}

// opaque hides the context errors in err.
func opaque(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return opaqueError{err.Error(), err}
	}
	return err
}

// An opaqueError shows a text in the place of err's, and matches what err does
// except for the context errors.
type opaqueError struct {
	text string
	err  error
}

func (e opaqueError) Error() string { return e.text }

func (e opaqueError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.err, &t) && t.Timeout()
}

func (e opaqueError) Is(target error) bool {
	return target != context.Canceled && target != context.DeadlineExceeded && errors.Is(e.err, target)
}

// checkRedirect refuses what would carry credentials to where they do not
// belong: net/http drops Authorization on the way to another host, but not
// X-Api-Key and its like.
func checkRedirect(next func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		from := via[0].URL
		to := req.URL
		upgrade := from.Scheme == "http" && port(from) == "80" && to.Scheme == "https" && port(to) == "443"
		switch {
		case !strings.EqualFold(from.Hostname(), to.Hostname()),
			!upgrade && (from.Scheme != to.Scheme || port(from) != port(to)):
			return fmt.Errorf("%w: from %s to %s", ErrRedirect, origin(from), origin(to))
		case len(via) >= 10:
			return fmt.Errorf("%w: more than 10 in a row", ErrRedirect)
		case next != nil:
			err := next(req, via)
			if err != nil && err != http.ErrUseLastResponse {
				err = fmt.Errorf("%w: %w", ErrRedirect, err)
			}
			return err
		}
		return nil
	}
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

func origin(u *url.URL) string { return oneLine(u.Scheme+"://"+u.Host, 200) }

// errorBody bounds in bytes what is read of the body of an answer that is an
// error: enough for any message, and for the connection to be used again after
// it.
const errorBody = 64 << 10

// A bodyBuffer is a body's bytes, to be used again.
type bodyBuffer struct{ b []byte }

var bodies = sync.Pool{New: func() any { return &bodyBuffer{b: make([]byte, 0, 1024)} }}

func (b *bodyBuffer) release() {
	if cap(b.b) <= errorBody { // one huge answer must not stay for ever
		b.b = b.b[:0]
		bodies.Put(b)
	}
}

// read reads the body of resp, at most limit bytes of it, and closes it.
func (b *bodyBuffer) read(resp *http.Response, limit int64) error {
	defer resp.Body.Close()
	for {
		if len(b.b) == cap(b.b) {
			b.b = append(b.b, 0)[:len(b.b)]
		}
		n, err := resp.Body.Read(b.b[len(b.b):cap(b.b)])
		b.b = b.b[:len(b.b)+n]
		if int64(len(b.b)) > limit {
			b.b = b.b[:limit]
			return fmt.Errorf("%w: more than %d bytes", ErrBodyTooLarge, limit)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// retryAfter returns the pause that a Retry-After header asks for (RFC 9110,
// 10.2.3): whole seconds, or a date in one of the three forms of HTTP. It
// returns 0 for a date in the past and for anything else.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if strings.Trim(v, "0123456789") == "" {
		var s int64
		for _, digit := range []byte(v) {
			if s = s*10 + int64(digit-'0'); s >= int64(maxHint/time.Second) {
				return maxHint
			}
		}
		return time.Duration(s) * time.Second
	}
	t, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	// The server's own clock where it tells it: ours may be off.
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(0, t.Sub(now)), maxHint)
}

// maxHint is the longest pause that is told apart from longer ones: ten years.
const maxHint = 10 * 365 * 24 * time.Hour

// requestID is what an answer says that it is called, for errors.
func (c *Client) requestID(resp *http.Response, req *http.Request) string {
	for _, k := range [...]string{"X-Request-Id", "Request-Id", "X-Correlation-Id", "X-Amzn-Requestid", "X-Ms-Request-Id", "Cf-Ray"} {
		if v := resp.Header.Get(k); v != "" {
			return oneLine(c.redact(v, req), 64)
		}
	}
	return ""
}

func (c *Client) excerpt(body []byte, req *http.Request) string {
	return oneLine(c.redact(string(body[:min(len(body), errorBody)]), req), 200)
}

// redact takes out of a text from outside what the client sent as a secret: the
// value of every header that is not known to be harmless and of every query
// parameter but the job id, and the base URL's user and password. As the text
// may have been cut, the beginning of a secret at its end is taken out, too.
func (c *Client) redact(text string, req *http.Request) string {
	if text == "" {
		return text
	}
	return redact(text, c.route.secretsOf(req))
}

func redact(text string, secrets []string) string {
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, redacted)
	}
	for _, s := range secrets {
		for n := min(len(s)-1, len(text)); n >= minSecret; n-- {
			if strings.HasSuffix(text, s[:n]) {
				return text[:len(text)-n] + redacted
			}
		}
	}
	return text
}

const (
	redacted = "[redacted]"
	// minSecret is the least length in bytes of what is taken for a secret: a
	// shorter one would tear words apart.
	minSecret = 4
)

// secretsOf returns the secrets that req carries, in the forms in which a
// server or net/http may repeat them, the longest first, as one may be a part of
// another.
func (r *route) secretsOf(req *http.Request) (secrets []string) {
	hide := func(secret string) {
		if len(secret) < minSecret {
			return
		}
		// Twice: an error page in JSON, an address in HTML. Most keys have one
		// form or two in all.
		for once := range written(secret) {
			for twice := range written(once) {
				if !slices.Contains(secrets, twice) {
					secrets = append(secrets, twice)
				}
			}
		}
	}
	basic := func(user, password string) {
		hide(password)
		if password == "" {
			hide(user) // some services take a key for the user
		}
		hide(user + ":" + password)
		hide(base64.StdEncoding.EncodeToString([]byte(user + ":" + password)))
	}
	for k, values := range req.Header {
		if harmless(k) {
			continue
		}
		for _, v := range values {
			hide(v)
			_, token, _ := strings.Cut(v, " ") // "Bearer x"
			hide(strings.TrimSpace(token))
		}
	}
	for _, cookie := range req.Cookies() {
		hide(cookie.Value)
	}
	if user, password, ok := req.BasicAuth(); ok {
		basic(user, password)
	}
	if req.URL != nil {
		if user := req.URL.User; user != nil {
			password, _ := user.Password()
			basic(user.Username(), password)
			hide(user.String())
		}
		for pair := range strings.SplitSeq(req.URL.RawQuery, "&") {
			if name, value, _ := strings.Cut(pair, "="); !slices.Contains(r.idParams, name) {
				hide(value)
				if plain, err := url.QueryUnescape(value); err == nil {
					hide(plain)
				}
			}
		}
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	return secrets
}

// written yields the forms in which a text stands in other texts: as it is, and
// as JSON, Go, HTML and URLs have it.
func written(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		inQuery := url.QueryEscape(s)
		if inQuery == s { // and so do all others
			yield(s)
			return
		}
		quoted, _ := json.Marshal(s) // a string always marshals
		inJSON := string(quoted[1 : len(quoted)-1])
		inGo := strconv.Quote(s) // and JSON of encoders that leave <, > and & alone
		inGo = inGo[1 : len(inGo)-1]
		inHTML := html.EscapeString(s)
		for _, form := range [...]string{
			s, inJSON, strings.ReplaceAll(inJSON, "/", `\/`), inGo, strings.ReplaceAll(inGo, "/", `\/`),
			inHTML, strings.ReplaceAll(inHTML, "&#34;", "&quot;"), inQuery, url.PathEscape(s),
		} {
			if !yield(form) {
				return
			}
		}
	}
}

// harmless reports whether the header k is known to hold no secret.
func harmless(k string) bool {
	switch k {
	case "Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "User-Agent", "Traceparent", "Tracestate":
		return true
	}
	return false
}

// anonymous reports whether req carries nothing that could be a credential.
func (r *route) anonymous(req *http.Request) bool {
	for k := range req.Header {
		if !harmless(k) {
			return false
		}
	}
	if req.URL.RawQuery != "" {
		for pair := range strings.SplitSeq(req.URL.RawQuery, "&") {
			if name, _, _ := strings.Cut(pair, "="); !slices.Contains(r.idParams, name) {
				return false
			}
		}
	}
	return req.URL.User == nil
}

// latency keeps a smoothed round trip and its mean deviation, as TCP does for
// its retransmission timer (Jacobson and Karels, "Congestion Avoidance and
// Control", 1988; RFC 6298).
type latency struct {
	mu        sync.Mutex
	seen      bool
	mean, dev time.Duration
}

func (l *latency) observe(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.seen {
		l.seen, l.mean, l.dev = true, d, d/2
		return
	}
	l.dev += ((l.mean - d).Abs() - l.dev) / 4
	l.mean += (d - l.mean) / 8
}

// bound returns a time within which nearly all exchanges end, by RFC 6298, and
// false if none has been seen yet.
func (l *latency) bound() (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mean + 4*l.dev, l.seen
}
