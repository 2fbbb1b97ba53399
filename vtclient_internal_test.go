package vtclient

import (
	"net/http"
	"testing"
	"time"
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

// The defaults are those of the options' comments.
func TestDefaultsAreThoseOfTheComments(t *testing.T) {
	cfg, err := newConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Exponential{Base: 500 * time.Millisecond, Max: 30 * time.Second, Multiplier: 2, Jitter: 0.5, Limit: 4}); cfg.retry != want {
		t.Errorf("WithRetry: %+v", cfg.retry)
	}
	if a, ok := cfg.polling.(*Adaptive); !ok || a.cost != 1 {
		t.Errorf("WithPolling: %+v", cfg.polling)
	}
	if cfg.timeout != 10*time.Second || cfg.outageTolerance != 5*time.Minute || cfg.maxRetryAfter != 10*time.Minute || cfg.maxBody != 1<<20 ||
		cfg.maxInFlight != 64 || cfg.pendingTTL != time.Second || cfg.terminalTTL != 5*time.Minute {
		t.Errorf("%+v", cfg)
	}
	if c, ok := cfg.cache.(*MemoryCache[Status]); !ok || c.capacity != 1024 {
		t.Errorf("WithCache: %+v", cfg.cache)
	}
}
