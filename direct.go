package vtclient

import "net/http"

// do does what client.Do does, at less cost. Do copies headers and address for a redirect
// that hardly ever comes: 6 of the 23 allocations of a Status over a stub, and a seventh of
// its time. So a request that needs nothing but the transport goes there, and an answer on
// which Do would have more to do, such as a redirect, is given to Do.
func (b *httpBackend) do(hc *http.Client, req *http.Request) (*http.Response, error) {
	if hc.Jar != nil || hc.Timeout != 0 || req.URL.User != nil || req.Header == nil || req.RequestURI != "" {
		return hc.Do(req)
	}
	rt := hc.Transport
	if rt == nil {
		rt = http.DefaultTransport
	}
	resp, err := rt.RoundTrip(req)
	if err == nil && resp != nil && resp.Body != nil && resp.StatusCode/100 != 3 {
		return resp, nil
	}
	again := *hc
	again.Transport = &resumedTransport{resp: resp, err: err, next: rt}
	return again.Do(req)
}

// A resumedTransport has made the first round trip already.
type resumedTransport struct {
	resp    *http.Response
	err     error
	next    http.RoundTripper
	resumed bool
}

func (t *resumedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.resumed {
		return t.next.RoundTrip(req)
	}
	t.resumed = true
	return t.resp, t.err
}
