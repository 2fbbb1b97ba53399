package testserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// exchange is one request with what is needed to answer it, or to fail to.
type exchange struct {
	ctx    context.Context // done when the server stops
	tb     testing.TB
	conn   net.Conn
	r      *bufio.Reader
	req    *http.Request
	body   []byte
	hungUp bool // close the connection after this step
}

// write sends bytes and reports whether the client still takes them.
func (x *exchange) write(p []byte) bool {
	if x.hungUp {
		return false
	}
	if _, err := x.conn.Write(p); err != nil {
		x.hungUp = true
	}
	return !x.hungUp
}

// pause waits and reports whether the client is still there after it. The wait is
// a read with a deadline: that sees the client leave without a goroutine, and
// in a bubble a pipe's deadline is virtual.
func (x *exchange) pause(d time.Duration) bool {
	if x.hungUp {
		return false
	}
	if d <= 0 {
		return true
	}
	end := time.Now().Add(d)
	x.conn.SetReadDeadline(end)
	_, err := x.r.Peek(1)
	x.conn.SetReadDeadline(time.Time{})
	switch {
	case err == nil: // the client sent its next request ahead
		t := time.NewTimer(time.Until(end))
		defer t.Stop()
		select {
		case <-t.C:
		case <-x.ctx.Done():
			x.hungUp = true
		}
	case !errors.Is(err, os.ErrDeadlineExceeded):
		x.hungUp = true
	}
	return !x.hungUp
}

// silence sends nothing until the client leaves or the server stops.
func (x *exchange) silence() {
	io.Copy(io.Discard, x.r)
	x.hungUp = true
}

// reset ends the connection as a crashed machine would: with an RST.
func (x *exchange) reset() {
	switch c := x.conn.(type) {
	case *net.TCPConn:
		c.SetLinger(0)
	case *pipeEnd:
		c.reset.Store(true)
	}
	x.hungUp = true
}

// pipeEnd is one end of an in-memory connection. After a reset the other end
// sees what it would see on TCP.
type pipeEnd struct {
	net.Conn
	reset *atomic.Bool // shared by both ends
}

func newPipe() (server, client *pipeEnd) {
	a, b := net.Pipe()
	reset := new(atomic.Bool)
	return &pipeEnd{a, reset}, &pipeEnd{b, reset}
}

func (p *pipeEnd) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	return n, p.err("read", err)
}

func (p *pipeEnd) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	return n, p.err("write", err)
}

func (p *pipeEnd) err(op string, err error) error {
	if (err == io.EOF || err == io.ErrClosedPipe) && p.reset.Load() {
		return &net.OpError{Op: op, Net: "pipe", Err: os.NewSyscallError(op, syscall.ECONNRESET)}
	}
	return err
}

// request returns the request for a handler, with its body to be read again.
func (x *exchange) request() *http.Request {
	r := x.req.WithContext(x.ctx)
	r.Body = io.NopCloser(bytes.NewReader(x.body))
	r.RemoteAddr = x.conn.RemoteAddr().String()
	return r
}
