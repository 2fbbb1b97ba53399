package contract_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/relay"
)

// A lane is a client of a server behind a relay, over real TLS.
type lane struct {
	*relay.Relay
	own   bool
	srv   *httptest.Server
	conns atomic.Int32 // that the server has accepted

	// What the server does with a request over its n-th connection; nil: it answers.
	spoil atomic.Pointer[func(n int, w http.ResponseWriter, r *http.Request) (done bool)]
	over  chan struct{} // closed at the end of the test
}

type laneKey struct{}

// ample is a timeout of a request that no test waits for.
const ample = time.Minute

// timeouts are those of the tests that wait for one. What makes a request fail that is none of
// the test's own is a machine too busy to make its connections in time. So a rule has to
// hold with one of them; on a quiet machine the first is enough.
var timeouts = [...]time.Duration{250 * time.Millisecond, time.Second, 4 * time.Second, 16 * time.Second}

// A trial notes what fails in it.
type trial struct {
	testing.TB
	mu     sync.Mutex
	failed []string
}

func (f *trial) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = append(f.failed, fmt.Sprintf(format, args...))
}

func (f *trial) Error(args ...any) { f.Errorf("%s", fmt.Sprint(args...)) }

// withinTime runs a test with a new lane and the first timeout, and where it fails with
// the next one.
func withinTime(t *testing.T, l *lane, test func(t testing.TB, l *lane, timeout time.Duration)) {
	for n, timeout := range timeouts {
		f := &trial{TB: t}
		test(f, l, timeout)
		switch {
		case len(f.failed) == 0:
			return
		case n+1 < len(timeouts):
			l = newLane(t, l.srv.EnableHTTP2, l.own)
			continue
		}
		for _, text := range f.failed {
			t.Errorf("with a timeout of %v: %s", timeout, text)
		}
	}
}

// lanes runs a test for each protocol, with the client's own transport and with a caller's.
// They mostly wait, and so do so at the same time.
func lanes(t *testing.T, test func(t *testing.T, l *lane)) {
	// A client's own transport is made of this one. All servers have one certificate.
	some := httptest.NewTLSServer(nil)
	some.Close()
	old := http.DefaultTransport
	trusting := old.(*http.Transport).Clone()
	trusting.TLSClientConfig = &tls.Config{RootCAs: some.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	http.DefaultTransport = trusting
	t.Cleanup(func() { http.DefaultTransport = old })
	for _, proto := range []string{"HTTP/1.1", "HTTP/2"} {
		for _, of := range []string{"own", "caller's"} {
			t.Run(proto+", "+of, func(t *testing.T) {
				t.Parallel()
				test(t, newLane(t, proto == "HTTP/2", of == "own"))
			})
		}
	}
}

func newLane(t *testing.T, http2, own bool) *lane {
	l := &lane{own: own, over: make(chan struct{})}
	l.srv = httptest.NewUnstartedServer(l)
	l.srv.EnableHTTP2 = http2
	l.srv.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, laneKey{}, int(l.conns.Add(1)))
	}
	l.srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of dials that a client gives up
	l.srv.StartTLS()
	t.Cleanup(l.srv.Close)
	t.Cleanup(func() { close(l.over) })
	l.Relay = relay.Start(t, l.srv.Listener.Addr().String())
	return l
}

func (l *lane) client(t testing.TB, opts ...vtclient.Option) *vtclient.Client {
	t.Helper()
	if !l.own {
		callers := http.DefaultTransport.(*http.Transport).Clone()
		callers.MaxIdleConnsPerHost = 64
		opts = append(opts, vtclient.WithHTTPClient(&http.Client{Transport: callers}))
	}
	c, err := vtclient.New("https://"+l.Addr(), append(opts, vtclient.WithCache(nil))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func (l *lane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if spoil := l.spoil.Load(); spoil != nil && (*spoil)(r.Context().Value(laneKey{}).(int), w, r) {
		return
	}
	io.WriteString(w, `{"result":"pending"}`)
}

func (l *lane) does(spoil func(n int, w http.ResponseWriter, r *http.Request) (done bool)) {
	l.spoil.Store(&spoil)
}

// hang does not answer.
func (l *lane) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-l.over:
	}
}

// together makes n Status calls of which all are at the server at once before it answers
// the first. When they are there, then is called; its calls are not held up.
func (l *lane) together(t testing.TB, c *vtclient.Client, n int, then func()) []error {
	t.Helper()
	arrived, held := make(chan struct{}, 4*n), make(chan struct{})
	var first atomic.Int32
	l.does(func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		if int(first.Add(1)) > n {
			return false
		}
		arrived <- struct{}{}
		select {
		case <-held:
		case <-r.Context().Done():
		case <-l.over:
		}
		return false
	})
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { _, errs[i] = c.Status(t.Context(), fmt.Sprint("j", i)) })
	}
	over := make(chan struct{})
	go func() { wg.Wait(); close(over) }()
	for range n {
		select {
		case <-arrived:
		case <-over: // some did not get so far
		}
	}
	then()
	close(held)
	<-over
	return errs
}

// warm leaves connections that have served: over HTTP/1.1, n of them.
func (l *lane) warm(t testing.TB, c *vtclient.Client, n int) {
	t.Helper()
	if l.srv.EnableHTTP2 {
		n = 1 // net/http would dial as often as there are calls, and use one
	}
	for _, err := range l.together(t, c, n, func() {}) {
		if err != nil {
			t.Errorf("no connection: %v", err)
			return
		}
	}
	l.does(func(int, http.ResponseWriter, *http.Request) bool { return false })
}

// Property 49: a connection is not the backend. 20 calls are under way on kept connections
// when these fail, or begin on kept connections that fail.
func TestAFaultOfAKeptConnectionIsTriedAgainOnAnother(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fail   func(*lane)
		before bool // before the calls, else while they are under way
	}{
		{"it is closed", func(l *lane) { l.Cut() }, false},
		{"it is closed before", func(l *lane) { l.Cut() }, true},
		{"it is reset", func(l *lane) { l.Reset() }, false},
		{"it is reset before", func(l *lane) { l.Reset() }, true},
		{"the server closes it", func(l *lane) { l.srv.CloseClientConnections() }, false},
		{"it is silent until the timeout", func(l *lane) { l.Silence() }, false},
		{"a record to the client is damaged", func(l *lane) { l.DamageToClient() }, false},
		{"a record to the server is damaged", func(l *lane) { l.DamageToServer() }, true},
		{"GOAWAY, then it is closed", func(l *lane) { l.srv.Config.SetKeepAlivesEnabled(false); l.Cut() }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lanes(t, func(t *testing.T, l *lane) {
				if tt.name != "it is silent until the timeout" {
					triedAgain(t, l, ample, tt.before, tt.fail)
					return
				}
				withinTime(t, l, func(t testing.TB, l *lane, timeout time.Duration) { triedAgain(t, l, timeout, tt.before, tt.fail) })
			})
		})
	}
}

// triedAgain checks that calls under way on connections that fail are tried again over others.
func triedAgain(t testing.TB, l *lane, timeout time.Duration, before bool, fail func(*lane)) {
	calls := 20
	if !l.srv.EnableHTTP2 { // each has a connection of its own
		calls = 5
	}
	b := &recordingBreaker{}
	var met atomic.Int32
	c := l.client(t, once(), vtclient.WithTimeout(timeout), vtclient.WithBreaker(b),
		vtclient.WithTrace(vtclient.Trace{Answered: func(_ context.Context, i vtclient.TraceInfo) {
			if i.Err != nil {
				met.Add(1)
			}
		}}))
	l.warm(t, c, calls)
	asked, reported := b.recorded()
	met.Store(0)
	made, then := l.Accepted(), func() { fail(l) }
	if before {
		fail(l)
		then = func() {}
	}
	for i, err := range l.together(t, c, calls, then) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if l.Accepted() == made {
		t.Errorf("no connection was made after the %d that failed", made)
	}
	allowed, all := b.recorded()
	for _, err := range all[len(reported):] {
		if err != nil {
			t.Errorf("the breaker got %v", err)
		}
	}
	if allowed-asked != calls || met.Load() != 0 {
		t.Errorf("the breaker was asked %d times, %d faults were traced; want %d and none", allowed-asked, met.Load(), calls)
	}
}

// A connection that has served nothing yet is no better than the backend: its fault counts,
// and doubles no load.
func TestAFaultOfANewConnectionCounts(t *testing.T) {
	lanes(t, func(t *testing.T, l *lane) {
		b := &recordingBreaker{}
		c := l.client(t, once(), vtclient.WithTimeout(timeouts[0]), vtclient.WithBreaker(b))
		var asked atomic.Int32
		l.does(func(_ int, _ http.ResponseWriter, r *http.Request) bool {
			asked.Add(1)
			l.hang(r)
			return true
		})
		for n := 1; n <= 2; n++ {
			var te *vtclient.TransportError
			if _, err := c.Status(t.Context(), "j"); !errors.As(err, &te) || !te.Timeout() {
				t.Error(err)
			}
			if _, reported := b.recorded(); len(reported) != n || reported[n-1] == nil || errors.Is(reported[n-1], context.Canceled) {
				t.Errorf("the breaker got %v", reported)
			}
		}
		if n := asked.Load(); n > 2 {
			t.Errorf("%d requests for 2 calls", n)
		}
	})
}

// Property 50: a kept connection that no longer serves costs a wait two faults at most.
func TestAKeptConnectionThatNoLongerServes(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func(l *lane)
	}{
		{"it is silent", func(l *lane) { l.Silence() }},
		{"it answers PING and no request", func(l *lane) {
			last := int(l.conns.Load())
			l.does(func(n int, _ http.ResponseWriter, r *http.Request) bool {
				if n <= last {
					l.hang(r)
				}
				return n <= last
			})
		}},
		{"it leads to a replica that answers nothing but 503", func(l *lane) {
			last := int(l.conns.Load())
			l.does(func(n int, w http.ResponseWriter, _ *http.Request) bool {
				if n <= last {
					w.WriteHeader(503)
				}
				return n <= last
			})
		}},
		{"it does not begin its answers anew", func(l *lane) {
			last := int(l.conns.Load())
			l.does(func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n <= last {
					io.WriteString(w, `{"resu`)
					http.NewResponseController(w).Flush()
					l.hang(r)
				}
				return n <= last
			})
		}},
		{"it ends in the middle of each answer", func(l *lane) {
			last := int(l.conns.Load())
			l.does(func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n <= last {
					io.WriteString(w, `{"resu`)
					http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
				return n <= last
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lanes(t, func(t *testing.T, l *lane) {
				withinTime(t, l, func(t testing.TB, l *lane, timeout time.Duration) {
					waits := 20 // over one connection
					if !l.srv.EnableHTTP2 {
						waits = 1 // which could meet forty that are dead
					}
					c := l.client(t, vtclient.WithTimeout(timeout), vtclient.WithBreaker(nil), vtclient.WithPolling(vtclient.Constant(20*time.Millisecond)), every(10*time.Millisecond, 1))
					l.warm(t, c, 40)
					tt.fail(l)
					var wg sync.WaitGroup
					for i := range waits {
						wg.Go(func() { l.answered(t, c, fmt.Sprint("w", i)) })
					}
					wg.Wait()
				})
			})
		})
	}
}

// answered waits for the first answer about a job, which may come after two faults.
func (l *lane) answered(t testing.TB, c *vtclient.Client, id string) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	faults := 0
	_, err := c.Wait(ctx, id, vtclient.OnProgress(func(vtclient.Status) { cancel() }), vtclient.OnError(func(err error) {
		if faults++; faults == 3 {
			t.Errorf("the third fault: %v", err)
			cancel()
		}
	}))
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Property 45: from the first answer on, no trouble with a connection or a handshake ends a
// wait. Each new connection meets one more kind.
func TestNoHandshakeEndsAWaitAfterTheFirstAnswer(t *testing.T) {
	old := httptest.NewUnstartedServer(nil)
	old.TLS = &tls.Config{Certificates: []tls.Certificate{expiredCertificate(t)}}
	old.Config.ErrorLog = log.New(io.Discard, "", 0)
	old.StartTLS()
	defer old.Close()
	plain := httptest.NewServer(nil)
	defer plain.Close()
	fates := []relay.Fate{
		relay.Alert(),
		relay.Answer("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"),
		relay.Answer("\x00garbage\xff\xfe"),
		relay.Answer("\x16\x03\x03\xff\xff"),                 // a record above the bound
		relay.Answer("\x16\x03\x03\x00\x04\x02\x00\x00\x00"), // an empty hello
		relay.To(old.Listener.Addr().String()),
		relay.To(plain.Listener.Addr().String()),
	}
	t.Run("each", func(t *testing.T) { // ends before the servers above
		lanes(t, func(t *testing.T, l *lane) {
			c := l.client(t, vtclient.WithBreaker(nil), vtclient.WithPolling(vtclient.Constant(20*time.Millisecond)), every(10*time.Millisecond, 1))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			answers, faults := 0, 0
			_, err := c.Wait(ctx, "j", vtclient.OnProgress(func(vtclient.Status) {
				if answers++; answers > 1 {
					cancel()
					return
				}
				l.Next(fates...)
				l.Cut()
			}), vtclient.OnError(func(err error) { faults++ }))
			if !errors.Is(err, context.Canceled) || answers != 2 || faults < len(fates)-1 {
				t.Errorf("%v after %d answers and %d faults", err, answers, faults)
			}
		})
	})
}

// expiredCertificate makes a certificate for the loopback address that has expired.
func expiredCertificate(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
