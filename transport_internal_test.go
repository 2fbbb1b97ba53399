package vtclient

import (
	"net/http"
	"testing"
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
