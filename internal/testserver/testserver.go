// Package testserver is an HTTP/1.1 server for this module's own tests that
// answers by script, below HTTP: besides good answers it can drop or reset a
// connection, send half a body, lie about lengths, drip, or stay silent.
//
// The k-th request that arrives, over all connections, takes the k-th [Step] of
// the script; the last step repeats for ever:
//
//	s := testserver.Start(t, testserver.Drop(), testserver.Times(2, testserver.Pending()), testserver.Completed())
//	client, err := vtclient.New(s.URL())
//	...
//	got := s.Requests() // what really went over the wire
//
// [Start] listens on a loopback port. [StartInMemory] speaks the same HTTP over
// pipes and is made for synctest bubbles, where its delays take virtual time.
//
// Everything that came over the wire is counted, and that may be more than the
// client believes it sent: net/http silently repeats a GET when a connection
// that had served a request before dies without an answer. The repetition takes
// a step of its own.
package testserver

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server answers requests by script. Make one with [Start] or [StartInMemory];
// it closes by itself when the test ends. All methods may be called at any time
// from any goroutine, except where a comment differs.
type Server struct {
	tb     testing.TB
	memory bool
	addr   string // host:port; stays the same over a restart
	client *http.Client

	mu       sync.Mutex
	script   []Step
	next     int // index of the next step to serve; len(script): the last one repeats
	requests []Request
	arrived  chan struct{} // closed and replaced whenever a request arrives
	accepted int
	up       *uptime // nil while stopped
	closed   bool
}

const anyPort = "127.0.0.1:0"

// uptime is what lives from a start of the server to its stop.
type uptime struct {
	ctx    context.Context
	cancel context.CancelFunc
	ln     net.Listener // nil in memory
	conns  map[net.Conn]struct{}
	wg     sync.WaitGroup // the accept loop and one goroutine per connection
}

// Request is one request as it arrived.
type Request struct {
	Method string
	URI    string // the request line's target as sent, escapes untouched
	Host   string // the Host header
	Header http.Header
	Body   []byte
	Time   time.Time // when its last byte had been read
	Conn   int       // the connection it came over, counted from 1
}

// Start starts a server on a loopback port. With no steps, each request is
// answered with 500 and fails the test, until [Server.Then] brings some.
func Start(tb testing.TB, script ...Step) *Server {
	tb.Helper()
	return start(tb, false, script)
}

// StartInMemory starts a server that is reached over pipes, through
// [Server.Client] or [Server.DialContext] only. Inside a synctest bubble, start
// it, use it and let it end in that same bubble.
//
// A pipe has no buffer: what one side writes waits until the other reads it.
func StartInMemory(tb testing.TB, script ...Step) *Server {
	tb.Helper()
	return start(tb, true, script)
}

func start(tb testing.TB, memory bool, script []Step) *Server {
	tb.Helper()
	s := &Server{tb: tb, memory: memory, addr: anyPort, arrived: make(chan struct{})}
	if memory {
		s.addr = "testserver.invalid:1" // a reserved name: a request that misses the pipe finds no server
	}
	s.client = &http.Client{Transport: &http.Transport{
		DialContext:         s.DialContext,
		MaxIdleConnsPerHost: 100,
	}}
	s.Then(script...)
	if err := s.listen(); err != nil {
		tb.Fatalf("testserver: %v", err)
	}
	tb.Cleanup(s.Close)
	return s
}

// URL is the base URL, without a slash at its end.
func (s *Server) URL() string { return "http://" + s.addr }

// Client returns an HTTP client that connects to this server whatever host a
// URL names, so that a redirect to another host shows in [Server.Requests]
// under its Host instead of getting lost. It is the same client at each call;
// it has no timeout and follows redirects as net/http does.
func (s *Server) Client() *http.Client { return s.client }

// DialContext connects to this server, whatever network and address are asked
// for: for an [http.Transport] of the test's own. While the server is stopped
// the connection is refused.
func (s *Server) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	if !s.memory {
		return new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	server, client := newPipe()
	if !s.serve(s.running(), server) {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	return client, nil
}

// Then appends steps to the script. Where the last step was being repeated, the
// next request takes the first of the new ones.
func (s *Server) Then(steps ...Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range steps {
		for range st.times {
			s.script = append(s.script, st)
		}
	}
}

// Requests returns what has arrived so far, in order.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Connections returns how many connections have been accepted so far.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// OpenConnections returns how many connections the server holds now. One that
// the client has closed may be counted until the server has noticed.
func (s *Server) OpenConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.up == nil {
		return 0
	}
	return len(s.up.conns)
}

// AwaitRequests returns once n requests have arrived in all, and fails the test
// if that takes more than ten seconds. Call it from the test's own goroutine.
func (s *Server) AwaitRequests(n int) {
	s.tb.Helper()
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		got, arrived := len(s.requests), s.arrived
		s.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-arrived:
		case <-timeout.C:
			s.tb.Fatalf("testserver: %d requests arrived in ten seconds, want %d", got, n)
		}
	}
}

// Stop closes the listener and every connection, in the middle of an answer
// too, and returns when all of that has ended. Until [Server.Restart],
// connections are refused. Stopping a stopped server does nothing.
func (s *Server) Stop() {
	s.mu.Lock()
	up := s.up
	s.up = nil
	if up != nil {
		up.cancel()
		if up.ln != nil {
			up.ln.Close()
		}
		for c := range up.conns {
			c.Close()
		}
	}
	s.mu.Unlock()
	if up != nil {
		up.wg.Wait()
	}
}

// Restart stops the server, if it runs, and listens again on the same port. The
// script goes on where it was. Call it from the test's own goroutine.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	// Some other process may hold the port for a moment as the near end of a
	// connection of its own.
	err := s.listen()
	for range 100 {
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		time.Sleep(20 * time.Millisecond)
		err = s.listen()
	}
	if err != nil {
		s.tb.Fatalf("testserver: restart: %v", err)
	}
}

// Close stops the server for good and drops what [Server.Client] keeps idle.
// The end of the test calls it; calling it before is fine.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.Stop()
	s.client.CloseIdleConnections()
}

func (s *Server) running() *uptime {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up
}

func (s *Server) listen() error {
	up := &uptime{conns: make(map[net.Conn]struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.up != nil:
		return errors.New("already running")
	}
	if !s.memory {
		ln, err := net.Listen("tcp", s.addr)
		if err != nil {
			return err
		}
		up.ln = ln
		if s.addr == anyPort { // the first time; from now on it is read without the lock
			s.addr = ln.Addr().String()
		}
		up.wg.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				if !s.serve(up, c) {
					c.Close()
				}
			}
		})
	}
	up.ctx, up.cancel = context.WithCancel(context.Background())
	s.up = up
	return nil
}

// serve gives a connection its goroutine, unless the server has been stopped.
func (s *Server) serve(up *uptime, c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if up == nil || s.up != up {
		return false
	}
	s.accepted++
	number := s.accepted
	up.conns[c] = struct{}{}
	up.wg.Go(func() {
		s.converse(up, c, number)
		c.Close()
		s.mu.Lock()
		delete(up.conns, c)
		s.mu.Unlock()
	})
	return true
}

// converse answers the requests of one connection, one at a time.
func (s *Server) converse(up *uptime, c net.Conn, number int) {
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			if !errors.Is(err, io.EOF) && !gone(err) {
				io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			}
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // it never became a whole request
		}
		x := &exchange{ctx: up.ctx, tb: s.tb, conn: c, r: r, req: req, body: body}
		st := s.take(Request{
			Method: req.Method, URI: req.RequestURI, Host: req.Host,
			Header: req.Header.Clone(), Body: body, Time: time.Now(), Conn: number,
		})
		st.play(x)
		if x.hungUp || req.Close {
			return
		}
	}
}

// take records a request and returns the step that answers it.
func (s *Server) take(req Request) Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, req)
	close(s.arrived)
	s.arrived = make(chan struct{})
	if len(s.script) == 0 {
		s.tb.Errorf("testserver: %s %s arrived, and there is no script", req.Method, req.URI)
		return Reply(http.StatusInternalServerError, "no script")
	}
	st := s.script[min(s.next, len(s.script)-1)]
	s.next = min(s.next+1, len(s.script))
	return st
}

// gone reports whether an error means that a connection has ended, here or at the
// far side, rather than that something unreadable came over it.
func gone(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
