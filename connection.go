package vtclient

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// connections are those of a client. A connection is not the backend: one that has served
// before and then fails is replaced, the request is made again, and the fault does not count
// for the breaker (outcome.lost).
//
// net/http shows neither which connection a request had nor lets one be closed. So all are
// given up together: later requests go to a new pool, and those under way end where they
// are. The pool of a caller's transport can only be emptied of its idle connections.
type connections struct {
	own    *http.Transport // of which each pool has a copy; nil: the transport is the caller's
	pool   atomic.Pointer[pool]
	former atomic.Pointer[pool] // the one before, where requests may still be under way

	mu   sync.Mutex
	made map[net.Conn]bool // of a caller's transport, while the pool has not served: see got
}

// A pool is the connections that were made since the ones before were given up.
type pool struct {
	all    *connections
	client *http.Client
	since  time.Time
	served atomic.Bool  // an answer other than a 5xx came
	bad    atomic.Int32 // answers of 5xx in a row
	http2  atomic.Bool  // an answer came over HTTP/2

	// Over HTTP/2, a connection of a caller's transport is not idle while other requests are
	// under way. A request with Close takes it out of use.
	busy   bool        // the connections before may be in use still
	closes atomic.Bool // the next request has Close
}

// close reports whether a request is to have Close: one of them all, and each that is made
// again until an answer has come, as it may be sent before that one.
func (p *pool) close(again bool) bool {
	return p.busy && (again && !p.served.Load() || p.closes.CompareAndSwap(true, false))
}

func newConnections(given *http.Client, n int) (*connections, int) {
	hc, n := httpClient(given, n)
	c := new(connections)
	if given == nil {
		c.own = hc.Transport.(*http.Transport)
	}
	c.pool.Store(c.next(hc))
	return c, n
}

func (c *connections) next(hc *http.Client) *pool {
	p := &pool{all: c, client: hc, since: time.Now()}
	if c.own != nil {
		fresh := *hc
		fresh.Transport = c.own.Clone()
		p.client = &fresh
	}
	return p
}

// giveUp makes later requests go over connections that are not p's.
func (c *connections) giveUp(p *pool) {
	if c.pool.Load() != p { // because of another request
		if c.own == nil { // a connection that was in use then may be idle now
			p.client.CloseIdleConnections()
		}
		return
	}
	next := c.next(p.client)
	next.busy = c.own == nil && (p.http2.Load() || p.busy)
	next.closes.Store(next.busy)
	if c.pool.CompareAndSwap(p, next) {
		if old := c.former.Swap(p); old != nil {
			old.client.CloseIdleConnections()
		}
		p.client.CloseIdleConnections()
	}
}

func (c *connections) closeIdle() {
	c.pool.Load().client.CloseIdleConnections()
	if old := c.former.Load(); old != nil {
		old.client.CloseIdleConnections()
	}
}

// got records the connection that a request gets, and reports whether it has served before.
// Over HTTP/2, the second request on a connection may come before the first answer. A caller's
// transport may have connections from before, which are those that the client has not seen
// made.
func (c *connections) got(p *pool, conn net.Conn, reused bool) (kept bool) {
	switch {
	case p.served.Load():
		return reused
	case c.own != nil:
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !reused {
		if c.made == nil || len(c.made) > 256 { // in a long outage
			c.made = make(map[net.Conn]bool)
		}
		c.made[conn] = true
	}
	return !c.made[conn]
}

// badInARow is the number of 5xx in a row after which the connections are given up: they
// may all lead to one replica, while others are well. Where those that follow have not
// brought anything else, it is an outage, and they are kept for badFor.
const (
	badInARow = 2
	badFor    = time.Minute
)

// answered notes an answer.
func (c *connections) answered(p *pool, resp *http.Response) {
	if resp.StatusCode == http.StatusMisdirectedRequest { // the connection serves another host
		c.giveUp(p)
		return
	}
	if resp.StatusCode/100 == 5 {
		if p.bad.Add(1) >= badInARow && (p.served.Load() || time.Since(p.since) >= badFor) {
			c.giveUp(p)
		}
		return
	}
	// A load is cheaper than a store that all cores see.
	if !p.served.Load() {
		p.http2.Store(resp.ProtoMajor == 2)
		p.served.Store(true)
		c.mu.Lock()
		c.made = nil
		c.mu.Unlock()
	}
	if p.bad.Load() != 0 {
		p.bad.Store(0)
	}
}

// An outgoing is one request with its context and its address, in one allocation. Its
// context has a trace that records which connection the request gets. The trace is made when
// net/http looks for it; a stub does not look, and costs none.
type outgoing struct {
	lazyContext
	req    http.Request
	url    url.URL
	pool   *pool
	traced bool      // writes are counted
	shape  *prepared // by WithRequest
	trace  atomic.Pointer[httptrace.ClientTrace]
	wire   atomic.Int32 // how often the request was written

	conn atomic.Int32 // the one that the request got last
}

const (
	noConn int32 = iota
	newConn
	keptConn // it has served before
)

// A prepared is what WithRequest has made of a request, to be sent again.
type prepared struct {
	header http.Header
	target string // as Details.Target; "": that of the route
}

// target is Details.Target: the prepared one, else that of the route, as given.
func (c *outgoing) target(route string) string {
	if c.shape != nil {
		return cmp.Or(c.shape.target, route)
	}
	return route
}

// traceKey is the context key of a trace. Package httptrace does not export it, but passes it
// to the Value method of any context that it is given.
var traceKey = func() (key any) {
	httptrace.ContextClientTrace(keyFinder{context.Background(), &key})
	return key
}()

type keyFinder struct {
	context.Context
	key *any
}

func (f keyFinder) Value(key any) any { *f.key = key; return nil }

// outgoingKey is the key of an outgoing in its context.
type outgoingKey struct{}

func (c *outgoing) Value(key any) any {
	switch key {
	case traceKey:
		return c.clientTrace()
	case outgoingKey{}:
		return c
	}
	return c.lazyContext.Value(key)
}

func (c *outgoing) clientTrace() *httptrace.ClientTrace {
	if t := c.trace.Load(); t != nil {
		return t
	}
	t := &httptrace.ClientTrace{
		GetConn: func(string) { c.conn.Store(noConn) },
		GotConn: func(got httptrace.GotConnInfo) {
			if c.pool.all.got(c.pool, got.Conn, got.Reused) {
				c.conn.Store(keptConn)
			} else {
				c.conn.Store(newConn)
			}
		},
	}
	if c.traced {
		// Counted where net/http writes: it repeats a GET by itself when the
		// connection it had turns out to be dead.
		t.WroteHeaders = func() { c.wire.Add(1) }
	}
	if httptrace.ContextClientTrace(c.parent) != nil { // the caller's goes on seeing all
		httptrace.WithClientTrace(c.parent, t)
	}
	c.trace.CompareAndSwap(nil, t)
	return c.trace.Load()
}
