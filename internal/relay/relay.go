// Package relay stands between a client and a server on the loopback interface and spoils
// the connections between them, for this module's own tests: it falls silent, cuts, resets,
// damages a record, or answers in the place of the server.
//
// It handles bytes alone, so TLS and HTTP/2 are real on both sides.
package relay

import (
	"cmp"
	"net"
	"sync"
	"testing"
)

// A Relay passes connections on to a server. Its methods may be called from any goroutine.
type Relay struct {
	ln     net.Listener
	server string

	mu       sync.Mutex
	links    map[*link]struct{}
	accepted int
	fates    []Fate
	closed   bool
	wg       sync.WaitGroup
}

// A Fate is what becomes of a new connection.
type Fate struct{ answer, server string }

// Pass connects it with the server.
func Pass() Fate { return Fate{} }

// Answer sends a text as soon as the client has sent something, and closes.
func Answer(text string) Fate { return Fate{answer: text} }

// To connects it with another server.
func To(server string) Fate { return Fate{server: server} }

// Alert answers with a fatal TLS alert, as a server does that refuses a handshake.
func Alert() Fate { return Answer("\x15\x03\x01\x00\x02\x02\x28") }

// Start starts a relay to the server at an address. It ends with the test.
func Start(tb testing.TB, server string) *Relay {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	r := &Relay{ln: ln, server: server, links: map[*link]struct{}{}}
	r.wg.Go(r.accept)
	tb.Cleanup(r.close)
	return r
}

// Addr is the address of the relay.
func (r *Relay) Addr() string { return r.ln.Addr().String() }

// Accepted returns how many connections have been made so far.
func (r *Relay) Accepted() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted
}

// Next sets what becomes of the next connections, one each. Later ones are passed on.
func (r *Relay) Next(fates ...Fate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fates = append(r.fates, fates...)
}

// Silence lets nothing pass on the present connections any more, in either direction, and
// keeps them open.
func (r *Relay) Silence() { r.each(func(l *link) { l.toServer.set(silent); l.toClient.set(silent) }) }

// DamageToServer and DamageToClient change a bit of what passes next on each of the present
// connections.
func (r *Relay) DamageToServer() { r.each(func(l *link) { l.toServer.set(damaged) }) }
func (r *Relay) DamageToClient() { r.each(func(l *link) { l.toClient.set(damaged) }) }

// Cut closes the present connections.
func (r *Relay) Cut() { r.each(func(l *link) { l.close() }) }

// Reset ends the present connections as a crashed machine would, with an RST.
func (r *Relay) Reset() {
	r.each(func(l *link) {
		l.client.(*net.TCPConn).SetLinger(0)
		l.close()
	})
}

func (r *Relay) each(f func(*link)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.links {
		f(l)
	}
}

func (r *Relay) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.ln.Close()
	r.Cut()
	r.wg.Wait()
}

func (r *Relay) accept() {
	for {
		client, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.serve(client) })
	}
}

// serve passes a connection on until one side has ended it.
func (r *Relay) serve(client net.Conn) {
	defer client.Close()
	l := &link{client: client}
	fate, ok := r.add(l)
	if !ok {
		return
	}
	defer r.remove(l)
	if fate.answer != "" {
		first := make([]byte, 16<<10)
		if _, err := client.Read(first); err == nil {
			client.Write([]byte(fate.answer))
		}
		return
	}
	server, err := net.Dial("tcp", cmp.Or(fate.server, r.server))
	if err != nil || !l.connect(server) {
		return
	}
	r.wg.Go(func() { l.toServer.pass(server, client); l.close() })
	l.toClient.pass(client, server)
	l.close()
}

func (r *Relay) add(l *link) (fate Fate, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accepted++
	r.links[l] = struct{}{}
	if len(r.fates) > 0 {
		fate, r.fates = r.fates[0], r.fates[1:]
	}
	return fate, !r.closed
}

func (r *Relay) remove(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.links, l)
}

// A link is one connection, and the one to the server that belongs to it.
type link struct {
	client             net.Conn
	toServer, toClient way

	mu     sync.Mutex
	server net.Conn
	closed bool
}

// connect gives the link its other side, and reports whether it is still open.
func (l *link) connect(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		server.Close()
		return false
	}
	l.server = server
	return true
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.client.Close()
	if l.server != nil {
		l.server.Close()
	}
}

// A way is one direction of a link.
type way struct {
	mu sync.Mutex
	do treatment
}

type treatment int

const (
	passed treatment = iota
	damaged
	silent
)

func (w *way) set(t treatment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.do = t
}

// next returns what is to be done with the bytes at hand: only one piece is damaged.
func (w *way) next() treatment {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.do
	if t == damaged {
		w.do = passed
	}
	return t
}

// pass copies until a side ends. A silent way goes on reading, as a network does that
// loses everything: an end is as lost as the rest.
func (w *way) pass(to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		switch t := w.next(); {
		case err != nil:
			return
		case t == silent:
			continue
		case t == damaged:
			b[n-1] ^= 1
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
