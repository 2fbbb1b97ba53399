package simserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
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
	net  *network      // nil for a server made by New
	done chan struct{} // closed by Close

	client *http.Client

	jobs      *jobs
	faults    *injector
	hooks     *announcer
	submitted *submissions
	files     *files
	tally     *tally
}

// New returns a server that does not listen: an [http.Handler] to mount wherever the
// test needs one. [Server.URL] is empty and the client of [Server.HTTPClient] reaches
// nothing. Close it before the http.Server that it is mounted on, so that requests
// held in silence end.
//
// New panics if an option has an impossible value, such as a rate above 1, or a duration
// above zero and below a microsecond, which can only be a number without a unit.
func New(opts ...Option) *Server {
	s := &Server{cfg: newConfig(opts), done: make(chan struct{})}
	d := dice(s.cfg.seed)
	s.tally = newTally()
	s.files = &files{dice: d, cfg: s.cfg.downloads, tally: s.tally, done: s.done}
	s.hooks = newAnnouncer(d, s.tally, s.files, s.cfg.webhook, s.cfg.onDelivery)
	s.jobs = newJobs(&s.cfg, d, s.hooks, s.tally)
	s.files.jobs = s.jobs
	s.faults = &injector{dice: d, base: s.cfg.faults}
	s.submitted = &submissions{cfg: &s.cfg, jobs: s.jobs, tally: s.tally, byKey: make(map[string]*creation)}
	s.client = &http.Client{Transport: &http.Transport{
		DialContext:         s.DialContext,
		MaxIdleConnsPerHost: 1024, // net/http's 2 would open a connection for almost every request of a busy test
		DisableCompression:  true,
	}}
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
	ln := loopback(tb)
	if ln == nil {
		return s
	}
	s.serve(tb, ln, "http://"+ln.Addr().String(), func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		if s.files.host == "" || addr != s.files.host {
			addr = ln.Addr().String()
		}
		return d.DialContext(ctx, "tcp", addr)
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
	s.hooks.inMemory = true
	ln := newMemListener()
	s.serve(tb, ln, "http://"+memHost, func(ctx context.Context, network, addr string) (net.Conn, error) {
		return ln.dial(ctx)
	})
	return s
}

// A network is what a started server listens on.
type network struct {
	url  string
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	each []*listening
}

// A listening is one listener of a server, and the http.Server that serves it.
type listening struct {
	conns  *trackingListener
	http   *http.Server
	served chan struct{} // closed when http.Serve has returned
}

func listen(ln net.Listener, h http.Handler) *listening {
	l := &listening{
		conns:  &trackingListener{Listener: ln, open: make(map[net.Conn]struct{})},
		http:   &http.Server{Handler: h},
		served: make(chan struct{}),
	}
	go func() {
		defer close(l.served)
		l.http.Serve(l.conns) // returns http.ErrServerClosed
	}()
	return l
}

func (l *listening) close() {
	l.http.Close()
	l.conns.Close() // http.Server does not have it yet if Serve has not begun
	<-l.served
	// http.Server.Close misses a connection accepted while it ran, and hijacked ones.
	l.conns.closeAll()
}

func (s *Server) serve(tb TB, ln net.Listener, url string, dial func(context.Context, string, string) (net.Conn, error)) {
	s.net = &network{url: url, dial: dial}
	var handler http.Handler = s
	if s.files.cfg.on() && s.files.cfg.URL == "" {
		handler = s.serveFiles(tb, url)
	}
	s.net.each = append(s.net.each, listen(ln, handler))
	if tb != nil {
		tb.Cleanup(s.Close)
	}
}

// serveFiles makes the files reachable on a host of their own: in memory by its name, and
// else by a port. It returns the handler of the server's own host.
func (s *Server) serveFiles(tb TB, url string) http.Handler {
	if s.hooks.inMemory {
		s.files.host = "files." + memHost
		s.files.cfg.URL = "http://" + s.files.host
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Host == s.files.host {
				s.files.ServeHTTP(w, r)
				return
			}
			s.ServeHTTP(w, r)
		})
	}
	ln := loopback(tb)
	if ln == nil {
		return s
	}
	s.files.host = ln.Addr().String()
	s.files.cfg.URL = "http://" + s.files.host
	s.net.each = append(s.net.each, listen(ln, s.files))
	return s
}

// loopback listens on a free port; nil: the test has failed.
func loopback(tb TB) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	switch {
	case err == nil:
		return ln
	case tb == nil:
		panic(fmt.Sprintf("simserver: no loopback port: %v", err))
	}
	tb.Fatalf("simserver: no loopback port: %v", err)
	return nil
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
	return s.net.dial(ctx, network, addr)
}

// Close ends the server: it stops listening, closes every connection, in whatever
// state, and the idle ones of [Server.HTTPClient], and waits until no request is
// being served and no delivery being sent; those still to come never are. Requests under
// way fail as they would with a server that died. What the server counted can still be
// read. Calling Close again does nothing.
func (s *Server) Close() {
	if s.tally.close() {
		close(s.done)
		s.hooks.close()
	}
	if s.net != nil {
		for _, l := range s.net.each {
			l.close()
		}
	}
	s.client.CloseIdleConnections()
	s.tally.wait()
	s.hooks.wait()
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
