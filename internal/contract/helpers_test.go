package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/race"
	"github.com/vtclient/vtclient/internal/testserver"
	"github.com/vtclient/vtclient/internal/yardstick"
)

// clientFor returns a client of a scripted server.
func clientFor(t testing.TB, s *testserver.Server, opts ...vtclient.Option) *vtclient.Client {
	t.Helper()
	c, err := vtclient.New(s.URL(), append([]vtclient.Option{vtclient.WithHTTPClient(s.Client())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tripper answers requests without a network.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(r *http.Request, code int, body string, header ...string) *http.Response {
	h := http.Header{}
	for _, line := range header {
		k, v, _ := strings.Cut(line, ": ")
		h.Add(k, v)
	}
	return &http.Response{
		StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}
}

// stubbed returns a client whose requests f answers.
func stubbed(t testing.TB, f tripper, opts ...vtclient.Option) *vtclient.Client {
	t.Helper()
	c, err := vtclient.New("http://api.test", append([]vtclient.Option{vtclient.WithHTTPClient(&http.Client{Transport: f})}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// once makes Status give up at the first fault.
func once() vtclient.Option { return vtclient.WithRetry(vtclient.Exponential{Limit: 1}) }

// every retries after exactly d, n tries in all.
func every(d time.Duration, n int) vtclient.Option {
	return vtclient.WithRetry(vtclient.Exponential{Base: d, Max: d, Limit: n})
}

// notingBreaker is a foreign breaker that lets everything through and notes what it is told.
type notingBreaker struct {
	mu      sync.Mutex
	allowed int
	told    []error
	refusal error
}

func (b *notingBreaker) Allow() (func(error), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refusal != nil {
		return nil, b.refusal
	}
	b.allowed++
	return func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.told = append(b.told, err)
	}, nil
}

func (b *notingBreaker) noted() (int, []error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.allowed, append([]error(nil), b.told...)
}

// countingLimiter lets a request through after a pause, and counts.
type countingLimiter struct {
	pause time.Duration
	err   error
	waits atomic.Int32
	then  func()
}

func (l *countingLimiter) Wait(ctx context.Context) error {
	l.waits.Add(1)
	select {
	case <-time.After(l.pause):
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.then != nil {
		l.then()
	}
	return l.err
}

type breakerFunc func() (func(error), error)

func (f breakerFunc) Allow() (func(error), error) { return f() }

type (
	dist    = yardstick.Dist
	optimum = yardstick.Optimum
)

var lognormal, uniform, mix, solve = yardstick.LogNormal, yardstick.Uniform, yardstick.Mixture, yardstick.Solve

// noRace skips what simulates in single goroutines, where the race detector
// finds nothing and takes ten times as long.
func noRace(t *testing.T) {
	t.Helper()
	if race.Enabled {
		t.Skip("nothing here for the race detector")
	}
}

// errTooLarge stands for an *http.MaxBytesError in tables.
var errTooLarge = errors.New("too large")

func matches(err, target error) bool {
	if target == errTooLarge {
		var e *http.MaxBytesError
		return errors.As(err, &e)
	}
	return errors.Is(err, target)
}

func refusedRedirect(err error) bool {
	var e *vtclient.TransportError
	return errors.As(err, &e) && strings.Contains(e.Error(), "redirect refused")
}

// plainDecode reads the plain API's answers.
func plainDecode(a vtclient.Answer) (st vtclient.Status, err error) {
	var v struct {
		Result   vtclient.State `json:"result"`
		Message  string         `json:"message"`
		Progress float64        `json:"progress"`
	}
	err = json.Unmarshal(a.Body, &v)
	return vtclient.Status{State: v.Result, Message: v.Message, Progress: v.Progress}, err
}
