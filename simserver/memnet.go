package simserver

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// The network in memory: connections are pairs of bounded buffers. Everything that
// waits does so on channels and sync.Cond, which synctest takes for durably blocked.

const memHost = "sim.invalid"

type memAddr string

func (memAddr) Network() string  { return "memory" }
func (a memAddr) String() string { return string(a) }

type memListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newMemListener() *memListener {
	return &memListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memListener) Addr() net.Addr { return memAddr(memHost + ":80") }

func (l *memListener) dial(ctx context.Context) (net.Conn, error) {
	up, down := newStream(), newStream()
	client := &memConn{in: down, out: up, local: memHost + ":1024", remote: memHost + ":80"}
	server := &memConn{in: up, out: down, local: memHost + ":80", remote: memHost + ":1024"}
	var err error
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		err = os.NewSyscallError("connect", syscall.ECONNREFUSED)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, &net.OpError{Op: "dial", Net: "memory", Addr: l.Addr(), Err: err}
}

// A memConn is one end of a connection.
type memConn struct {
	in, out       *stream
	local, remote memAddr
	reset         bool
}

func (c *memConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *memConn) Write(p []byte) (int, error) { return c.out.write(p) }

func (c *memConn) Close() error {
	c.out.mu.Lock()
	reset := c.reset
	c.out.mu.Unlock()
	end := io.EOF
	if reset {
		end = &net.OpError{Op: "read", Net: "memory", Addr: c.local, Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	}
	c.out.closeWrite(end)
	c.in.closeRead()
	return nil
}

// SetLinger is as on a *net.TCPConn, as far as this package uses it: with 0, Close
// resets the connection.
func (c *memConn) SetLinger(sec int) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.reset = sec == 0
	return nil
}

func (c *memConn) LocalAddr() net.Addr  { return c.local }
func (c *memConn) RemoteAddr() net.Addr { return c.remote }

func (c *memConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	return nil
}

func (c *memConn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

// maxBuffered is how much one direction of a connection holds before writers wait.
const maxBuffered = 64 << 10

// A stream is one direction of a connection.
type stream struct {
	mu      sync.Mutex
	changed sync.Cond
	buf     []byte // buf[off:] is still to be read
	off     int
	end     error // what reads return after the last byte; nil while the writer's end is open
	closed  bool  // the reader's end is closed
	readBy  deadline
	writeBy deadline
}

func newStream() *stream {
	s := new(stream)
	s.changed.L = &s.mu
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, net.ErrClosed
		case s.readBy.passed:
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case s.off < len(s.buf):
			n := copy(p, s.buf[s.off:])
			if s.off += n; s.off == len(s.buf) {
				s.buf, s.off = s.buf[:0], 0
			}
			s.changed.Broadcast()
			return n, nil
		case s.end != nil:
			return 0, s.end
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.end != nil:
			return n, net.ErrClosed
		case s.closed:
			return n, &net.OpError{Op: "write", Net: "memory", Err: os.NewSyscallError("write", syscall.EPIPE)}
		case s.writeBy.passed:
			return n, os.ErrDeadlineExceeded
		}
		if room := maxBuffered - (len(s.buf) - s.off); room > 0 {
			if s.off > maxBuffered { // a reader that always lags must not make buf grow
				s.buf = append(s.buf[:0], s.buf[s.off:]...)
				s.off = 0
			}
			k := min(room, len(p))
			s.buf = append(s.buf, p[:k]...)
			p = p[k:]
			n += k
			s.changed.Broadcast()
		}
		if len(p) == 0 {
			return n, nil
		}
		s.changed.Wait()
	}
}

func (s *stream) closeWrite(end error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == nil {
		s.end = end
	}
	s.writeBy.stop()
	s.changed.Broadcast()
}

func (s *stream) closeRead() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.buf, s.off = nil, 0
	s.readBy.stop()
	s.changed.Broadcast()
}

// A deadline is under the lock of its stream.
type deadline struct {
	timer  *time.Timer // nil: none set
	passed bool
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (s *stream) setDeadline(d *deadline, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	d.passed = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.passed = true
		s.changed.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.timer == timer { // else it was set anew while this waited for the lock
			d.passed, d.timer = true, nil
			s.changed.Broadcast()
		}
	})
	d.timer = timer
}
