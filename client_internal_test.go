package vtclient

import (
	"net/http"
	"testing"
	"time"
)

// The default transport is the client's own, made of net/http's: it keeps as
// many connections as may be in flight, and reads no endless headers.
func TestTheDefaultTransport(t *testing.T) {
	old := http.DefaultTransport
	defer func() { http.DefaultTransport = old }()
	wrapped := struct{ http.RoundTripper }{old}
	for _, base := range []http.RoundTripper{old, wrapped} {
		http.DefaultTransport = base
		given := *old.(*http.Transport).Clone()
		hc, n := httpClient(nil, 100)
		tr := hc.Transport.(*http.Transport)
		if tr == old || n != 100 || tr.MaxIdleConns != 100 || tr.MaxIdleConnsPerHost != 100 || tr.MaxResponseHeaderBytes != 64<<10 || hc.CheckRedirect == nil {
			t.Errorf("%d in flight, %d idle, %d for one host, %d bytes of headers", n, tr.MaxIdleConns, tr.MaxIdleConnsPerHost, tr.MaxResponseHeaderBytes)
		}
		if tr.Proxy == nil || !tr.ForceAttemptHTTP2 || tr.IdleConnTimeout != given.IdleConnTimeout || tr.TLSHandshakeTimeout != given.TLSHandshakeTimeout {
			t.Errorf("without what net/http's own has: %+v", tr)
		}
		if now := old.(*http.Transport); now.MaxIdleConnsPerHost != given.MaxIdleConnsPerHost || now.MaxIdleConns != given.MaxIdleConns || now.MaxResponseHeaderBytes != given.MaxResponseHeaderBytes {
			t.Error("http.DefaultTransport has been changed")
		}
	}
}

// CloseIdleConnections closes the connections of the client's transport.
func TestCloseIdleConnectionsReachesTheTransport(t *testing.T) {
	tr := &closeCounter{}
	c, err := New("http://h", WithHTTPClient(&http.Client{Transport: tr}))
	if err != nil {
		t.Fatal(err)
	}
	if c.CloseIdleConnections(); tr.closed != 1 {
		t.Errorf("closed %d times", tr.closed)
	}
}

type closeCounter struct {
	http.RoundTripper
	closed int
}

func (c *closeCounter) CloseIdleConnections() { c.closed++ }

// Sums of times stop at never, and a delay of nothing or less is no overflow.
func TestLaterStopsAtNever(t *testing.T) {
	for _, tt := range []struct {
		t    int64
		d    time.Duration
		want int64
	}{{5, 7, 12}, {5, 0, 5}, {5, -7, -2}, {never, 0, never}, {never, -1, never - 1}, {never - 1, 1, never}, {never - 1, 2, never}, {never, never, never}} {
		if got := later(tt.t, tt.d); got != tt.want {
			t.Errorf("later(%d, %d) = %d, want %d", tt.t, tt.d, got, tt.want)
		}
	}
}

// The bound within which nearly all exchanges end is that of RFC 6298, 2.2 and 2.3.
func TestLatencyFollowsRFC6298(t *testing.T) {
	var l latency
	if _, ok := l.bound(); ok {
		t.Error("a bound before anything was seen")
	}
	const ms = time.Millisecond
	for i, step := range []struct{ seen, mean, dev time.Duration }{
		{160 * ms, 160 * ms, 80 * ms},
		{80 * ms, 150 * ms, 80 * ms},
		{310 * ms, 170 * ms, 100 * ms},
	} {
		l.observe(step.seen)
		if got, ok := l.bound(); !ok || got != step.mean+4*step.dev {
			t.Errorf("after %d exchanges: %v, want %v", i+1, got, step.mean+4*step.dev)
		}
	}
}
