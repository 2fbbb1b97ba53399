// Package vtclient waits for video translations. A program learns that its job is
// done soon after it is done, with few requests, whatever the network and the
// backend do in between.
//
//	client, err := vtclient.New("https://api.example.com", vtclient.WithHeader("X-Api-Key", key))
//	...
//	status, err := client.Wait(ctx, jobID)
//
// Make one [Client] for a backend and share it. [Client.Wait] waits for one
// job, [Client.Watch] ranges over what is seen of it on the way, and
// [Client.WaitAll] ranges over any number of jobs as they end; [Client.Status]
// asks once. All that wait for one job share one poll, and no job that is
// waited for costs a goroutine of the client's.
//
// # How a request travels
//
//	Submit, Cancel ─────────────→ retry ─┐
//	Status → cache → coalescing → retry ─┤
//	                                     ├→ gate → limiter → breaker → timeout → HTTP → Endpoint
//	Wait, Watch, WaitAll → engine ───────┘
//
// The cache answers what was asked a moment ago. Simultaneous calls for one job
// become one request. The gate bounds the requests in flight, the limiter
// their rate; both come before the breaker and the timeout, so that queueing
// is never taken for a slow backend. The breaker keeps requests from a backend that
// is down. The [Endpoint] reads the answer. With [WithFetch], a function of the
// caller's stands in the place of HTTP and Endpoint.
//
// # Pending is not a fault
//
// "Still pending" is an answer, and how soon to ask again is the business of
// [WithPolling]. A fault is the lack of an answer (a broken connection, a
// timeout, a 5xx, a 429), and [WithRetry] sets how soon to try again. The two
// are set apart and have different defaults. A wait ends with the job; with an
// error that no further try would change, such as a 401; when faults have
// lasted as long as [WithOutageTolerance] allows, which is 30 s until the first readable
// answer has come; or with its context. Each
// option's comment gives its default, with the unit and the reason.
//
// # Errors
//
// Every error has the job, the request, what the server answered and what
// happens next, and holds no secret. The kinds are:
//
//	*JobError           the job itself failed; matches ErrJobFailed
//	*WaitError          the wait ended first: matches context.DeadlineExceeded,
//	                    context.Canceled, ErrOutage, ErrRetryAfter or ErrGaveUp,
//	                    and the last fault
//	*HTTPError          a status code that is no success
//	*TransportError     no whole answer, or an error of WithFetch's function
//	*DecodeError        an answer that cannot be read
//	*UnknownStateError  a job state that is unknown to the Endpoint
//	*RefusedError       the breaker let no request through
//	*SubmitError        Submit has no jobs to return; the backend may have created some
//	*ArgumentError      a bad argument; nothing was sent
//
// # Testing
//
// Package simserver holds a simulated backend to embed in tests. The library
// takes its time from package time alone, so a test inside testing/synctest
// waits for hours in an instant.
package vtclient

import (
	"context"
	"errors"
	"time"

	"github.com/vtclient/vtclient/internal/flight"
)

// A Client asks one backend about jobs. It is safe for concurrent use, and
// meant to be made once and shared: its breaker, its cache, its bound on
// requests in flight and its polls, one per job, serve all callers. It holds no
// goroutine while nothing is waited for and needs no closing.
type Client struct {
	engine engine // first, as its address is then c, which a Wait has on its stack: see inbox.await
	clock
	exchanger
	statusCache
	route   *route
	conns   *connections // nil: not over HTTP
	polling Backoff
	retry   Backoff
	latency latency

	timeout, outageTolerance, maxRetryAfter time.Duration

	flights flight.Group[Status, tries]
	try     func(context.Context, string, *tries) (Status, error) // c.check, made once
	returns returns

	tracesWaits bool // a trace has a WaitBegun or a WaitEnded
}

// New returns a client of the backend at baseURL, an http or https URL with
// neither query nor fragment; with [WithFetch] it may be empty. It makes no
// request. The error names everything that is wrong with the arguments, each as
// an [*ArgumentError].
func New(baseURL string, opts ...Option) (*Client, error) {
	cfg, err := newConfig(opts)
	r, rerr := newRoute(baseURL, cfg.endpoint)
	if cfg.fetch != nil {
		r, rerr = fetchRoute(baseURL)
	}
	if err := errors.Join(rerr, err); err != nil {
		return nil, err
	}
	c := &Client{
		clock:   newClock(),
		route:   r,
		polling: cfg.polling,
		retry:   cfg.retry,

		timeout:         cfg.timeout,
		outageTolerance: cfg.outageTolerance,
		maxRetryAfter:   cfg.maxRetryAfter,
	}
	inFlight := cfg.maxInFlight
	if cfg.fetch != nil {
		c.backend = &fetchBackend{fetch: cfg.fetch, name: functionName(cfg.fetch), timeout: cfg.timeout, latency: &c.latency}
	} else {
		c.conns, inFlight = newConnections(cfg.httpClient, inFlight)
		c.backend = newHTTPBackend(cfg, r, c.conns, &c.latency, &c.contact)
	}
	c.admission = admission{clock: &c.clock, gate: make(chan struct{}, inFlight), limiter: cfg.limiter, breaker: cfg.breaker}
	c.traces = cfg.traces
	c.announces = c.traces.announce()
	c.tracesWaits = c.traces.waits()
	c.refreshes = len(cfg.prepare) > 0
	c.statusCache = statusCache{cache: cfg.cache, pendingTTL: cfg.pendingTTL, terminalTTL: cfg.terminalTTL, clock: &c.clock, tracer: cfg.traces}
	c.try = c.check
	c.engine.init(c, inFlight)
	return c, nil
}

// CloseIdleConnections closes the connections that wait for further use. The
// client remains usable.
func (c *Client) CloseIdleConnections() {
	if c.conns != nil {
		c.conns.closeIdle()
	}
}

// named adds to an error that ends a call what was asked of what, if no fault has it.
func (c *Client) named(err error) error {
	if e, ok := err.(*WaitError); ok && e.Fault == nil {
		own := *e // several calls may share it
		own.target = c.backend.target(inquiry{id: e.JobID})
		return &own
	}
	return err
}

// verdict is the error beside the status of an event that ends a job.
func (c *Client) verdict(ev *event) error { return c.named(ev.verdict()) }
