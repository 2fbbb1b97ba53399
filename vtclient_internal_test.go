package vtclient

import (
	"net/http"
	"testing"
)

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
