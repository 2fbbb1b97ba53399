package vtclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// An httpBackend asks over HTTP.
type httpBackend struct {
	client       *http.Client
	route        *route
	request      http.Request // what all requests have in common
	sharesHeader bool         // all requests have one header; to copy it takes 2 % of the throughput over loopback
	prepare      []func(*http.Request) error
	timeout      time.Duration
	maxBody      int64
	counts429    bool // a 429 counts against the backend's health
	traced       bool // writes are counted
	latency      *latency
}

func newHTTPBackend(cfg *config, r *route, hc *http.Client, l *latency) *httpBackend {
	header := http.Header{"Accept": {"application/json"}, "User-Agent": {"vtclient"}}
	for k, v := range cfg.header {
		header[http.CanonicalHeaderKey(k)] = slices.Clip(v) // all requests share it: an append must not write into it
	}
	b := &httpBackend{
		client:       hc,
		route:        r,
		request:      http.Request{Method: http.MethodGet, Host: r.base.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header},
		sharesHeader: leavesHeader(hc),
		prepare:      cfg.prepare,
		timeout:      cfg.timeout,
		maxBody:      cfg.maxBody,
		traced:       len(cfg.traces) > 0,
		latency:      l,
	}
	if breaker, ok := cfg.breaker.(interface{ counts429() bool }); ok {
		b.counts429 = breaker.counts429()
	}
	return b
}

// ask makes the request and reads the answer within the timeout.
func (b *httpBackend) ask(parent context.Context, asked inquiry, number int, sent *announcement) (out outcome) {
	began := time.Now()
	ctx := &lazyContext{parent: parent, deadline: began.Add(b.timeout)}
	defer ctx.end()
	if b.traced {
		wire := new(atomic.Int32)
		// Counted where net/http writes: it repeats a GET by itself when the
		// connection it had turns out to be dead.
		ctx.parent = httptrace.WithClientTrace(parent, &httptrace.ClientTrace{WroteHeaders: func() { wire.Add(1) }})
		defer func() { out.wire = int(wire.Load()) }()
	}
	ctx.parent = asked.call.traced(ctx.parent)
	defer asked.call.judge(&out)
	req := b.newRequest(ctx, asked)
	details := asked.details(number)
	if len(b.prepare) > 0 && !b.prepared(parent, req, details, &out) {
		return out
	}
	if !sent.begin(ctx) {
		return sent.out
	}
	if len(b.prepare) > 0 || sent != nil { // the caller's functions are not the server's latency
		began = time.Now()
	}
	out.requests = 1
	asked.call.sends(began)
	resp, err := b.do(req)
	var body *bodyBuffer
	if err == nil {
		body = bodies.Get().(*bodyBuffer)
		defer body.release()
		details.StatusCode = resp.StatusCode
		err = b.readBody(resp, body)
	}
	ended := time.Now()
	out.took, out.statusCode = ended.Sub(began), details.StatusCode

	switch {
	case err == nil:
		b.classify(reply{resp, req, body.b, ended}, details, asked, &out)
	case tooLarge(err):
		b.describe(&details, reply{resp, req, body.b, ended})
		out.verdict, out.err = fault, &DecodeError{Details: details, Err: err}
	case expired(parent): // also where the connection's timer fired before the context's
		out.verdict, out.health = left, errNeutral
	default:
		if ctx.Err() != nil {
			err = timeoutError{b.timeout}
		}
		if body != nil {
			details.RequestID = b.requestID(resp, req)
		}
		b.classifyTransport(err, req, details, &out)
	}
	return out
}

// A timeoutError reports that the attempt's own timeout passed. It does not match
// context.DeadlineExceeded, which callers must be able to take for the end of
// their own time.
type timeoutError struct{ after time.Duration }

func (e timeoutError) Error() string        { return fmt.Sprintf("no whole answer within %v", e.after) }
func (e timeoutError) Timeout() bool        { return true }
func (e timeoutError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// newRequest returns the request of an inquiry, and its address beside it: an allocation
// less, which is 1 % of a Status over a stub.
func (b *httpBackend) newRequest(ctx context.Context, asked inquiry) *http.Request {
	r := &struct {
		req http.Request
		url url.URL
	}{req: *b.request.WithContext(ctx)}
	r.req.URL = &r.url
	b.route.address(&r.url, asked)
	switch {
	case len(b.prepare) > 0, asked.call != nil: // may write anywhere
		r.req.Header = b.request.Header.Clone()
	case !b.sharesHeader: // a map of its own with shared values: a transport that writes there does so by Set and Add
		r.req.Header = maps.Clone(b.request.Header)
	}
	if asked.call != nil {
		asked.call.shape(&r.req)
	}
	return &r.req
}

// prepared calls the functions given to WithRequest and reports whether the request may
// be sent. Without them, WithHeader and the base URL have been checked by New.
func (b *httpBackend) prepared(parent context.Context, req *http.Request, d Details, out *outcome) bool {
	out.health = errNeutral
	for _, prepare := range b.prepare {
		if err := prepare(req); err != nil {
			if expired(parent) {
				out.verdict = left
				return false
			}
			out.verdict = fault
			out.err = &TransportError{Details: d, Err: fmt.Errorf("WithRequest: %w", b.clean(err, req))}
			return false
		}
	}
	if err := sendable(req); err != nil {
		d.then = "not retried: WithRequest made it so"
		out.verdict, out.err = final, &TransportError{Details: d, Err: err}
		return false
	}
	out.health = nil
	return true
}

// sendable reports what WithRequest did that makes a request one that net/http
// cannot send, or must not. net/http would refuse it, too, but as if the network had
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

// errorBody bounds in bytes what is read of the body of an answer that is an
// error: enough for any message, and for the connection to be used again after
// it.
const errorBody = 64 << 10

// readBody reads and closes the body of an answer. That of an error need not be
// readable: the status code is enough.
func (b *httpBackend) readBody(resp *http.Response, body *bodyBuffer) error {
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		// The body is the bare connection. No context ends its reads, so a server that
		// then sends nothing would hold the exchange for ever.
		resp.Body.Close()
	case resp.StatusCode/100 == 2:
		return body.read(resp, b.maxBody)
	default:
		body.read(resp, min(b.maxBody, errorBody))
	}
	return nil
}

// A bodyBuffer is a body's bytes, to be used again.
type bodyBuffer struct{ b []byte }

var bodies = sync.Pool{New: func() any { return &bodyBuffer{b: make([]byte, 0, 1024)} }}

func (b *bodyBuffer) release() {
	if cap(b.b) <= errorBody { // one huge answer must not stay for ever
		b.b = b.b[:0]
		bodies.Put(b)
	}
}

// bodyTooLarge is the cause of an error about an answer above this many bytes. The text of
// the *http.MaxBytesError in it is about requests.
type bodyTooLarge int64

func (e bodyTooLarge) Error() string {
	return fmt.Sprintf("the body is larger than allowed: more than %d bytes", int64(e))
}

func (e bodyTooLarge) Unwrap() error { return &http.MaxBytesError{Limit: int64(e)} }

func tooLarge(err error) bool {
	var e bodyTooLarge
	return errors.As(err, &e)
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
			return bodyTooLarge(limit)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
