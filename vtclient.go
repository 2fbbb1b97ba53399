// Package vtclient tells a program when its video translation is done: soon
// after it is done, with few requests, through whatever the network and the
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
//	Status → cache → coalescing → retry ─┐
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
// timeout, a 5xx, a 429), and [WithRetry] says how soon to try again. The two
// are set apart and have different defaults. A wait ends with the job; with an
// error that no further try would change, such as a 404; when faults have
// lasted as long as [WithOutageTolerance] says; or with its context. Each
// option's comment gives its default, with the unit and the reason.
//
// # Errors
//
// Every error says which job, which request, what the server said and what
// happens next, and holds no secret. What to tell apart:
//
//	*JobError       the job itself failed; matches ErrJobFailed
//	*WaitError      the wait ended first: matches context.DeadlineExceeded,
//	                context.Canceled, ErrOutage, ErrRetryAfter or ErrGaveUp,
//	                and the last fault
//	*HTTPError      a status code that is no success
//	*TransportError no whole answer, or an error of WithFetch's function
//	*DecodeError    an answer that cannot be read
//	*StateError     a job state that the Endpoint does not know
//	*RefusedError   the breaker let no request through
//	*ArgumentError  a bad argument; nothing was sent
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
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// A Client asks one backend about jobs. It is safe for concurrent use, and
// meant to be made once and shared: its breaker, its cache, its bound on
// requests in flight and its polls, one per job, serve all who use it. It holds no
// goroutine while nobody waits and needs no closing.
type Client struct {
	route        *route
	fetch        func(context.Context, string) (Status, error) // nil: over HTTP
	http         *http.Client                                  // nil: not over HTTP
	request      http.Request                                  // what all requests have in common
	sharesHeader bool                                          // all requests have one header; to copy it takes 2 % of the throughput over loopback
	prepare      []func(*http.Request) error
	gate         chan struct{} // holds a token for each request in flight
	limiter      Limiter
	breaker      Breaker
	counts429    bool
	cache        Cache[Status]
	polling      Backoff
	retry        Backoff
	traces       []Trace

	timeout, outageTolerance, maxRetryAfter, pendingTTL, terminalTTL time.Duration
	maxBody                                                          int64

	epoch       time.Time // what now counts from
	holdUntil   atomic.Int64
	holdFault   atomic.Pointer[HTTPError]
	cacheRest   atomic.Int64 // no cache call before, after one that hung
	outageSince atomic.Int64 // time of the first fault since any job was last answered; 0: none
	latency     latency
	flights     flight[Status, tries]
	try         func(context.Context, string, *tries) (Status, error) // c.ask, made once
	engine      engine
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
		route:   r,
		fetch:   cfg.fetch,
		prepare: cfg.prepare,
		limiter: cfg.limiter,
		breaker: cfg.breaker,
		cache:   cfg.cache,
		polling: cfg.polling,
		retry:   cfg.retry,
		traces:  cfg.traces,

		timeout:         cfg.timeout,
		outageTolerance: cfg.outageTolerance,
		maxRetryAfter:   cfg.maxRetryAfter,
		pendingTTL:      cfg.pendingTTL,
		terminalTTL:     cfg.terminalTTL,
		maxBody:         cfg.maxBody,
		// 0, which says "not yet", is no time of the client's life, nor is it in
		// a synctest bubble, whose clock begins in 2000.
		epoch: time.Now().Add(-50 * 365 * 24 * time.Hour),
	}
	header := http.Header{"Accept": {"application/json"}, "User-Agent": {"vtclient"}}
	for k, v := range cfg.header {
		header[http.CanonicalHeaderKey(k)] = slices.Clip(v) // all requests share it: who adds to it must not write into it
	}
	if b, ok := cfg.breaker.(interface{ counts429() bool }); ok {
		c.counts429 = b.counts429()
	}
	inFlight := cfg.maxInFlight
	if c.fetch == nil {
		c.http, inFlight = httpClient(cfg.httpClient, inFlight)
		c.sharesHeader = leavesHeader(c.http)
		c.request = http.Request{Method: http.MethodGet, Host: r.base.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header}
	}
	c.gate = make(chan struct{}, inFlight)
	c.try = c.ask
	c.engine.init(c, inFlight)
	return c, nil
}

// httpClient returns a client that may be used with n requests in flight, and
// the n that its transport has connections for.
func httpClient(given *http.Client, n int) (*http.Client, int) {
	if given == nil {
		t, ok := http.DefaultTransport.(*http.Transport)
		if ok {
			t = t.Clone()
		} else { // somebody has put a wrapper there
			t = &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
				IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second}
		}
		if t.MaxConnsPerHost > 0 {
			n = min(n, t.MaxConnsPerHost)
		}
		// net/http keeps two idle connections per host: beyond two requests at
		// once, nearly every request would open and close one.
		t.MaxIdleConns, t.MaxIdleConnsPerHost = n, n
		t.MaxResponseHeaderBytes = 64 << 10
		return &http.Client{Transport: t, CheckRedirect: checkRedirect(nil)}, n
	}
	hc := *given
	hc.CheckRedirect = checkRedirect(given.CheckRedirect)
	rt := hc.Transport
	if rt == nil {
		rt = http.DefaultTransport
	}
	if t, ok := rt.(*http.Transport); ok && t.MaxConnsPerHost > 0 {
		n = min(n, t.MaxConnsPerHost)
	}
	return &hc, n
}

// leavesHeader reports whether hc does not write to the header of a request. net/http's own
// transport does not; others are known to although they should not, and a jar's cookies go
// there.
func leavesHeader(hc *http.Client) bool {
	_, ok := hc.Transport.(*http.Transport)
	return ok && hc.Jar == nil
}

// CloseIdleConnections closes the connections that wait for further use. The
// client remains usable.
func (c *Client) CloseIdleConnections() {
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
}

// now is the time since the client's epoch, in nanoseconds: eight bytes where a
// time.Time has twenty-four, and monotonic. Not by time.Since, which in a
// synctest bubble is at odds with Sub if the client was made outside.
func (c *Client) now() int64 { return c.since(time.Now()) }

// since is now at the time given, which comes from time.Now.
func (c *Client) since(now time.Time) int64 { return int64(now.Sub(c.epoch)) }

// when translates a time that comes from outside, such as a start that was
// stored or a deadline. It is measured from now and not from the epoch: it may
// hold the time of day only, and the clock may have been set, or the machine
// suspended, since the epoch.
func (c *Client) when(t, now time.Time) int64 { return later(c.since(now), t.Sub(now)) }

// at is the inverse of since: the time of day of t by the clock as it is now.
func (c *Client) at(t int64) time.Time {
	now := time.Now()
	return now.Add(time.Duration(t - c.since(now)))
}

// never is a time that does not come.
const never = math.MaxInt64

// later returns t + d, or never if that is beyond it.
func later(t int64, d time.Duration) int64 {
	if s := t + int64(d); d <= 0 || s > t {
		return s
	}
	return never
}

// Status asks how far a job is. It answers from the cache if it can, shares
// the request with other calls for the same job that are under way, and
// retries faults as [WithRetry] says.
//
// A job that failed is an answer, not an error: look at State, and for some
// backends at ResultMissing. On an error the Status holds the JobID and nothing
// else. The errors are *HTTPError, *TransportError, *DecodeError and
// *StateError for what the backend did, *RefusedError for the breaker's
// refusal, *ArgumentError for an id that cannot be asked about, and *WaitError
// when ctx ended first, or is sure to end before the next try may be made.
func (c *Client) Status(ctx context.Context, jobID string) (Status, error) {
	if err := c.route.checkID(jobID); err != nil {
		return Status{JobID: jobID}, err
	}
	if expired(ctx) {
		return Status{JobID: jobID}, c.ended(ctx, jobID, &tries{})
	}
	if st := c.recall(ctx, jobID, true); st != nil {
		hit := *st
		hit.Cached = true
		return hit, nil
	}
	st, _, err := c.flights.do(ctx, jobID, c.try)
	if err != nil {
		st = Status{JobID: jobID}
		if err == ctx.Err() { // said of a follower: the call that it had joined goes on
			err = c.ended(ctx, jobID, &tries{})
		}
	}
	return st, err
}

// tries is where a sequence of retries stands. It belongs to the shared call
// and not to the caller who makes it, so that whoever goes on after a caller
// that left goes on from there.
type tries struct {
	made      int
	number    int // of the last request: a 401 makes two of one try
	first     time.Time
	notBefore time.Time
	fault     error
}

// ask asks until there is an answer, or an error that is not worth another try.
func (c *Client) ask(ctx context.Context, jobID string, t *tries) (Status, error) {
	for {
		if err := c.sleepUntil(ctx, jobID, t); err != nil {
			return Status{}, err
		}
		out := c.exchange(ctx, inquiry{id: jobID}, t.number+1)
		t.number = out.number
		switch out.verdict {
		case answered:
			c.remember(ctx, &out.status)
			if out.status.settled() {
				c.engine.jobEnded(&out.status)
			}
			return out.status, nil
		case left:
			// Marked, as ctx itself may say so only in a moment.
			return Status{}, ownError{c.ended(ctx, jobID, t)}
		case held:
			if out.hint > c.maxRetryAfter {
				return Status{}, &WaitError{JobID: jobID, Requests: t.made, Cause: errHeld(out.hint, c.maxRetryAfter), Fault: c.holdFault.Load()}
			}
			t.notBefore = time.Now().Add(out.hint)
			if t.fault == nil {
				t.fault = c.holdFault.Load()
			}
			continue
		case fault:
		default:
			return Status{}, out.err
		}
		if t.made++; t.made == 1 {
			t.first = time.Now().Add(-out.took) // not before the try: most need no clock
		}
		t.fault = out.err
		if out.hint > c.maxRetryAfter {
			return Status{}, &WaitError{JobID: jobID, Requests: t.made, Cause: errTooLong(c.maxRetryAfter), Fault: out.err}
		}
		d := details(out.err)
		delay, ok := c.retry.Next(Attempt{Number: t.made, Elapsed: time.Since(t.first)})
		if !ok {
			d.then = fmt.Sprintf("not retried: WithRetry stops after try %d", t.made)
			return Status{}, out.err
		}
		delay = max(delay, out.hint, pollFloor)
		t.notBefore = time.Now().Add(delay)
		if deadline, ok := ctx.Deadline(); ok && !t.notBefore.Before(deadline) {
			d.then = "no further request fits before the deadline"
			continue // to the error that says so
		}
		d.Next = delay
		c.emit(ctx, traceScheduled, TraceInfo{JobID: jobID, Attempt: t.number + 1, Delay: delay, Retry: true, Err: out.err})
	}
}

// details returns the details of an error that an exchange made.
func details(err error) *Details {
	if e, ok := err.(interface{ details() *Details }); ok {
		return e.details()
	}
	return &Details{}
}

// sleepUntil waits until the next try may be made. Where the context's deadline
// comes first there is no use in waiting for either, and it returns at once.
func (c *Client) sleepUntil(ctx context.Context, jobID string, t *tries) error {
	if t.notBefore.IsZero() { // saves the first try a look at the clock
		return nil
	}
	d := time.Until(t.notBefore)
	if d <= 0 {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && !t.notBefore.Before(deadline) {
		return ownError{&WaitError{JobID: jobID, Requests: t.made, Fault: t.fault,
			Cause: fmt.Errorf("the next try in %v would come too late: %w", d.Round(time.Millisecond), context.DeadlineExceeded)}}
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return c.ended(ctx, jobID, t)
	}
}

// ended reports that the caller's context is done.
func (c *Client) ended(ctx context.Context, jobID string, t *tries) error {
	last := t.fault
	if last != nil {
		last = snapshot(last) // whoever goes on has the original
		details(last).Next = 0
	}
	return &WaitError{JobID: jobID, Requests: t.made, Cause: contextCause(ctx), Fault: last}
}

const (
	// cachedAnswer bounds in bytes an answer that a MemoryCache keeps: it counts
	// entries, and a full one of the largest answers would take a gibibyte.
	cachedAnswer = 32 << 10
	// cacheTimeout bounds one call of a cache: what takes longer than a
	// request would is no cache.
	cacheTimeout = 250 * time.Millisecond
	// cacheRest is how long a cache that hung is left alone, so that a dead
	// one costs each call nothing and all of them together 5 %.
	cacheRest = 5 * time.Second
)

// recall returns the job's status from the cache, or nil; one that is not the last
// word only if asked for pending ones. It may lie in the cache, so it must not be
// written to, and whoever copies it has to set Cached.
// Whatever goes wrong there is reported to the traces and counts as a miss.
func (c *Client) recall(ctx context.Context, jobID string, pending bool) *Status {
	if c.cache == nil {
		return nil
	}
	if m, ok := c.cache.(*MemoryCache[Status]); ok && len(c.traces) == 0 { // it neither hangs nor fails
		st := m.get(jobID)
		if st == nil || st.JobID != jobID || !st.settled() && !(pending && st.known()) {
			return nil
		}
		return st
	}
	return c.recallFrom(ctx, jobID, pending)
}

// recallFrom is recall for any cache.
func (c *Client) recallFrom(ctx context.Context, jobID string, pending bool) *Status {
	var st Status
	var hit bool
	c.callCache(ctx, jobID, func(ctx context.Context) (err error) {
		if st, hit, err = c.cache.Get(ctx, jobID); err != nil || !hit {
			hit = false
			return err
		}
		if st.JobID != jobID || !st.known() {
			hit = false
			return fmt.Errorf("the entry is not this job's status: job %s, state %q", quoteID(st.JobID), oneLine(string(st.State), 64))
		}
		return nil
	})
	if !hit || !pending && !st.settled() {
		return nil
	}
	st.Progress = clampProgress(st.Progress)
	c.emit(ctx, traceCached, TraceInfo{JobID: jobID, State: st.State})
	return &st
}

// remember puts an answer into the cache.
func (c *Client) remember(ctx context.Context, st *Status) {
	ttl := c.pendingTTL
	if st.settled() {
		ttl = c.terminalTTL
	}
	if c.cache == nil || ttl <= 0 {
		return
	}
	if m, ok := c.cache.(*MemoryCache[Status]); ok {
		var spare func(Status) bool
		switch {
		case len(st.Body)+len(st.Message) > cachedAnswer:
			ttl = 0 // forgets what there is, which is out of date
		case !st.settled():
			// An answer that was long on the way does not undo the end that
			// another request has seen since. (In a foreign cache it does, until
			// its short time is over: to look first would cost a call for each poll.)
			spare = func(old Status) bool { return old.settled() }
		}
		m.set(st.JobID, st, ttl, spare)
		return
	}
	c.callCache(ctx, st.JobID, func(ctx context.Context) error {
		return c.cache.Set(ctx, st.JobID, *st, ttl)
	})
}

func (c *Client) callCache(ctx context.Context, jobID string, call func(context.Context) error) {
	if c.now() < c.cacheRest.Load() {
		return
	}
	bound := cacheTimeout
	if deadline, ok := ctx.Deadline(); ok {
		bound = min(bound, time.Until(deadline)/4) // leave time for the request itself
	}
	bounded, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	err := call(bounded)
	if err == nil || ctx.Err() != nil {
		return
	}
	if bounded.Err() != nil && bound == cacheTimeout {
		c.cacheRest.Store(later(c.now(), cacheRest))
	}
	c.emit(ctx, traceCached, TraceInfo{JobID: jobID, Err: fmt.Errorf("vtclient: job %s: cache: %w", quoteID(jobID), briefError{err})})
}
