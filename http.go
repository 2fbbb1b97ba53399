package vtclient

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"time"
)

// An httpBackend asks over HTTP.
type httpBackend struct {
	connections  *connections
	route        *route
	request      http.Request // what all requests have in common
	sharesHeader bool         // all requests have one header; to copy it takes 2 % of the throughput over loopback
	jar          bool         // of cookies
	prepare      []func(*http.Request) error
	timeout      time.Duration
	maxBody      int64
	counts429    bool // a 429 counts against the backend's health
	traced       bool // writes are counted
	latency      *latency
	contact      *contact
}

func newHTTPBackend(cfg *config, r *route, conns *connections, l *latency, met *contact) *httpBackend {
	hc := conns.pool.Load().client
	header := newHeader(cfg, hc)
	b := &httpBackend{
		connections:  conns,
		route:        r,
		request:      http.Request{Method: http.MethodGet, Host: r.base.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header},
		sharesHeader: leavesHeader(hc),
		jar:          hc.Jar != nil,
		prepare:      cfg.prepare,
		timeout:      cfg.timeout,
		maxBody:      cfg.maxBody,
		traced:       len(cfg.traces) > 0,
		latency:      l,
		contact:      met,
	}
	if breaker, ok := cfg.breaker.(interface{ counts429() bool }); ok {
		b.counts429 = breaker.counts429()
	}
	return b
}

// ask makes the request and reads the answer within the timeout.
func (b *httpBackend) ask(parent context.Context, asked inquiry, number int, sent *announcement) (out outcome) {
	began := time.Now()
	p := b.connections.pool.Load()
	c := b.newOutgoing(parent, began.Add(b.timeout), asked, p)
	defer c.end()
	defer asked.call.judge(&out)
	req := &c.req
	if asked.by == nil { // the id is a caller's, and not that of a poll
		asked.id = b.route.ownID(req.URL, asked.id)
	}
	details := asked.details(number)
	if len(b.prepare) > 0 && asked.lost == nil && !b.prepared(c, &out, details) {
		return out
	}
	details.Target = c.target(details.Target)
	if !sent.begin(&c.lazyContext) {
		return sent.out
	}
	if len(b.prepare) > 0 || sent != nil { // the caller's functions are not the server's latency
		began = time.Now()
	}
	out.requests = 1
	asked.call.sends(began)
	resp, err := b.do(p.client, req)
	late := c.seenDone()
	var body *bodyBuffer
	var text []byte
	if err == nil {
		body = bodies.Get().(*bodyBuffer)
		defer body.release()
		details.StatusCode = resp.StatusCode
		text, err = b.readBody(resp, body)
	}
	ended := time.Now()
	out.took, out.statusCode, out.wire = ended.Sub(began), details.StatusCode, int(c.wire.Load())

	switch {
	case err == nil:
		b.connections.answered(p, resp)
		b.classify(reply{resp, req, text, ended}, details, asked, &out)
	case unreadableBody(err):
		b.unreadable(err, reply{resp, req, text, ended}, details, &out)
	default:
		if body != nil {
			details.RequestID = b.requestID(resp, req)
		}
		b.unanswered(c, asked, err, details, &out)
		return out
	}
	// A server that sees the connection close at the end of the attempt may still send an empty
	// 200 or an error, which is no answer.
	if late && out.verdict != answered {
		out = outcome{requests: 1, took: out.took, statusCode: out.statusCode, wire: out.wire}
		b.unanswered(c, asked, c.Err(), details, &out)
	}
	return out
}

// unanswered is the outcome of a request that ended without an answer.
func (b *httpBackend) unanswered(c *outgoing, asked inquiry, err error, d Details, out *outcome) {
	if expired(c.parent) { // also where the connection's timer fired before the context's
		out.verdict, out.health = left, errNeutral
		return
	}
	if c.Err() != nil {
		err = timeoutError{b.timeout}
	}
	b.classifyTransport(err, &c.req, d, out)
	b.diagnose(c, asked, err, out)
}

// diagnose finds out whether a fault is one of the connection.
func (b *httpBackend) diagnose(c *outgoing, asked inquiry, err error, out *outcome) {
	conn, p := c.conn.Load(), c.pool
	if conn == noConn || errors.Is(err, errRedirect) {
		return
	}
	kept := conn == keptConn
	if kept {
		out.verdict, out.lasting, out.health = fault, false, errNeutral
		if asked.call.again(&c.req) {
			out.lost = c
		}
		details(out.err).then = ""
	}
	// net/http drops a connection that breaks. One that is silent it keeps if it speaks
	// HTTP/2. Others that it keeps may be as dead, and with HTTP/2 there may be some that
	// it has never used.
	if timedOut(err) || kept && (p.http2.Load() || asked.again > 0) {
		b.connections.giveUp(p)
	}
}

func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// A timeoutError reports that the attempt's own timeout passed. It does not match
// context.DeadlineExceeded, which callers must be able to take for the end of
// their own time.
type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string        { return fmt.Sprintf("no whole answer within %v", e.after) }
func (e timeoutError) Timeout() bool        { return true }
func (e timeoutError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

func (b *httpBackend) target(asked inquiry) string {
	switch r := b.route; {
	case asked.call != nil:
		return asked.call.asked
	case asked.many != nil:
		return r.bulk.asked
	case asked.id == "":
		return r.askedEmpty
	default:
		return r.asked
	}
}

// newOutgoing returns the request of an inquiry.
func (b *httpBackend) newOutgoing(parent context.Context, deadline time.Time, asked inquiry, p *pool) *outgoing {
	c := &outgoing{pool: p, traced: b.traced}
	c.parent, c.deadline = asked.call.traced(parent), deadline
	c.req = *b.request.WithContext(c)
	closes := p.close(asked.lost != nil)
	c.req.URL, c.req.Close = &c.url, closes
	if first := asked.lost; first != nil && first.shape != nil { // the same request, as net/http repeats one
		c.req, c.url, c.shape = *first.req.WithContext(c), *first.req.URL, first.shape
		c.req.URL, c.req.Header = &c.url, first.shape.header.Clone()
		c.req.Close = c.req.Close || closes
		if body, ok := c.req.Body.(*callBody); ok {
			c.req.Body = newCallBody(body.all)
		}
		return c
	}
	b.route.address(&c.url, asked)
	switch {
	case len(b.prepare) > 0, asked.call != nil: // may write anywhere
		c.req.Header = b.request.Header.Clone()
	case !b.sharesHeader: // a map of its own with shared values: a transport that writes there does so by Set and Add
		c.req.Header = maps.Clone(b.request.Header)
	}
	if asked.call != nil {
		asked.call.shape(&c.req)
	}
	return c
}

// prepared calls the functions given to WithRequest and reports whether the request may
// be sent. Without them, WithHeader and the base URL have been checked by New.
func (b *httpBackend) prepared(c *outgoing, out *outcome, d Details) bool {
	out.health = errNeutral
	req := &c.req
	before := c.url
	for _, prepare := range b.prepare {
		if err := prepare(req); err != nil {
			if expired(c.parent) {
				out.verdict = left
				return false
			}
			out.verdict = fault
			out.err = &TransportError{Details: d, Err: fmt.Errorf("WithRequest: %w", b.clean(err, req))}
			return false
		}
	}
	err := sendable(req)
	if ctx := req.Context(); err == nil && ctx != context.Context(c) && ctx.Value(outgoingKey{}) != any(c) {
		err = errors.New("the request's context is not made from r.Context()")
	}
	if err != nil {
		d.then = "not retried: WithRequest has made a request that cannot be sent"
		out.verdict, out.err = final, &TransportError{Details: d, Err: err}
		return false
	}
	c.shape = &prepared{header: req.Header}
	if b.jar { // which adds to the header
		c.shape.header = req.Header.Clone()
	}
	if u := req.URL; u.Host != before.Host || u.Path != before.Path || req.Method != b.request.Method {
		c.shape.target = requestLine(req.Method, u, b.redact(u.EscapedPath(), req))
	}
	out.health = nil
	return true
}
