package simserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// A TB is the part of testing.TB that this package uses, so that it need not
// import package testing. Every *testing.T, *testing.B and *testing.F is one.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// A Server is a simulated backend. Make one with [New], [Start] or
// [StartInMemory]; the zero Server is not usable. Its methods may be called from any
// goroutine, also while requests are being served.
type Server struct {
	cfg  config
	born time.Time
	net  *network      // nil for a server made by New
	done chan struct{} // closed by Close

	client *http.Client

	mu     sync.Mutex
	idle   sync.Cond // signalled when active or sending falls to 0
	closed bool
	active int // handlers running
	made   int // ids made so far
	jobs   map[string]*job
	asked  map[string]int // status requests, by job id
	others int            // requests of any other kind
	faults faultState
	stats  counters

	webhook Webhook
	timers  map[string]*time.Timer // by job id: when the next delivery about it is due
	sending int                    // deliveries under way
	ctx     context.Context        // ends with Close
	cancel  context.CancelFunc
}

// New returns a server that does not listen: an [http.Handler] to mount wherever the
// test needs one. [Server.URL] is empty and the client of [Server.HTTPClient] reaches
// nothing. Close it before the http.Server that it is mounted on, so that requests
// held in silence end.
//
// New panics if an option has an impossible value, such as a rate above 1, or a duration
// above zero and below a microsecond, which can only be a number without a unit.
func New(opts ...Option) *Server {
	s := &Server{
		cfg:   newConfig(opts),
		born:  time.Now(),
		done:  make(chan struct{}),
		jobs:  make(map[string]*job),
		asked: make(map[string]int),

		timers: make(map[string]*time.Timer),
	}
	s.webhook = s.cfg.webhook
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.idle.L = &s.mu
	s.stats.faults = make(map[Fault]int)
	s.faults.base = s.cfg.faults
	s.client = &http.Client{Transport: &http.Transport{
		DialContext:         s.DialContext,
		MaxIdleConnsPerHost: 1024, // net/http's 2 would open a connection for almost every request of a busy test
		DisableCompression:  true,
	}}
	def := s.cfg.defaultJob
	def.ID = ""
	if def.Started.IsZero() {
		def.Started = s.epoch()
	}
	s.jobs[""] = s.newJob(def)
	return s
}

// Start returns a server that listens on a loopback port until the test ends. It
// fails the test if there is no port to be had.
//
// A nil tb is allowed: then the caller must call [Server.Close], and what would fail the
// test panics.
func Start(tb TB, opts ...Option) *Server {
	if tb != nil {
		tb.Helper()
	}
	s := New(opts...)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		if tb == nil {
			panic(fmt.Sprintf("simserver: no loopback port: %v", err))
		}
		tb.Fatalf("simserver: no loopback port: %v", err)
		return s
	}
	var d net.Dialer
	s.serve(tb, &network{
		url:      "http://" + ln.Addr().String(),
		listener: ln,
		dial: func(ctx context.Context) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", ln.Addr().String())
		},
	})
	return s
}

// StartInMemory returns a server that is reached over pipes in memory, through
// [Server.HTTPClient] or [Server.DialContext], until the test ends. The HTTP spoken is
// real: net/http serves it and net/http's transport asks.
//
// Called inside a testing/synctest bubble, with the bubble's own t, all of it belongs
// to the bubble: its clock is the server's, an idle server does not keep that clock
// from advancing, and it ends before the bubble does. The network itself takes no
// time; [Faults.Latency] adds some.
//
// A nil tb is allowed: then the caller must call [Server.Close] (inside the bubble, if
// there is one).
func StartInMemory(tb TB, opts ...Option) *Server {
	if tb != nil {
		tb.Helper()
	}
	s := New(opts...)
	ln := newMemListener()
	s.serve(tb, &network{url: "http://" + memHost, listener: ln, dial: ln.dial})
	return s
}

// network is what a started server listens on.
type network struct {
	url      string
	listener net.Listener
	dial     func(context.Context) (net.Conn, error)

	conns  *trackingListener
	http   *http.Server
	served chan struct{} // closed when http.Serve has returned
}

func (s *Server) serve(tb TB, n *network) {
	s.net = n
	n.conns = &trackingListener{Listener: n.listener, open: make(map[net.Conn]struct{})}
	n.http = &http.Server{Handler: s}
	n.served = make(chan struct{})
	go func() {
		defer close(n.served)
		n.http.Serve(n.conns) // returns http.ErrServerClosed
	}()
	if tb != nil {
		tb.Cleanup(s.Close)
	}
}

// URL is the base URL of a started server, with no slash at its end:
// "http://127.0.0.1:port", or "http://sim.invalid" in memory. It is empty for a server
// made by [New].
func (s *Server) URL() string {
	if s.net == nil {
		return ""
	}
	return s.net.url
}

// HTTPClient returns a client that reaches the server. It is the same one on every
// call, has no timeout, keeps up to 1024 idle connections, and reaches this server
// whatever host the URL names. [Server.Close] closes its idle connections.
func (s *Server) HTTPClient() *http.Client { return s.client }

// DialContext connects to the server, whatever network and address it is asked for.
// It is there for an [http.Transport] of the caller's own:
//
//	&http.Transport{DialContext: sim.DialContext}
func (s *Server) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if s.net == nil {
		return nil, errors.New("simserver: a server made by New does not listen; use Start or StartInMemory")
	}
	return s.net.dial(ctx)
}

// Close ends the server: it stops listening, closes every connection, in whatever
// state, and the idle ones of [Server.HTTPClient], and waits until no request is
// being served and no delivery being sent; those still to come never are. Requests under
// way fail as they would with a server that died. What the server counted can still be
// read. Calling Close again does nothing.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
		s.cancel()
		for _, t := range s.timers {
			t.Stop()
		}
		clear(s.timers)
	}
	s.mu.Unlock()

	if n := s.net; n != nil {
		n.http.Close()
		n.listener.Close() // http.Server does not have it yet if Serve has not begun
		<-n.served
		// http.Server.Close misses a connection accepted while it ran, and hijacked ones.
		n.conns.closeAll()
	}
	s.client.CloseIdleConnections()

	s.mu.Lock()
	for s.active > 0 || s.sending > 0 {
		s.idle.Wait()
	}
	s.mu.Unlock()
}

// A trackingListener keeps the connections that it accepted and that are still open.
type trackingListener struct {
	net.Listener
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

func (l *trackingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tc := &trackedConn{Conn: c, l: l}
	l.mu.Lock()
	l.open[tc] = struct{}{}
	l.mu.Unlock()
	return tc, nil
}

func (l *trackingListener) closeAll() {
	l.mu.Lock()
	open := make([]net.Conn, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}

type trackedConn struct {
	net.Conn
	l *trackingListener
}

func (c *trackedConn) Close() error {
	c.l.mu.Lock()
	delete(c.l.open, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// SetLinger makes the next Close reset the connection, if sec is 0 and the
// connection can do so.
func (c *trackedConn) SetLinger(sec int) error {
	if l, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		return l.SetLinger(sec)
	}
	return nil
}
