package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

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

// recordingBreaker is a foreign breaker that lets everything through and records what is reported to it.
type recordingBreaker struct {
	mu       sync.Mutex
	allowed  int
	reported []error
	refusal  error
}

func (b *recordingBreaker) Allow() (func(error), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refusal != nil {
		return nil, b.refusal
	}
	b.allowed++
	return func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.reported = append(b.reported, err)
	}, nil
}

func (b *recordingBreaker) recorded() (int, []error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.allowed, append([]error(nil), b.reported...)
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

// The suites see the library from outside, with three exceptions that no caller could
// observe: what a client still holds, when a poll began, and a learner's random numbers.

// field returns an unexported field of what v points to.
func field(v any, path ...string) reflect.Value {
	r := reflect.ValueOf(v).Elem()
	for _, name := range path {
		r = reflect.Indirect(r).FieldByName(name)
	}
	return reflect.NewAt(r.Type(), unsafe.Pointer(r.UnsafeAddr())).Elem()
}

func lock(c *vtclient.Client) (unlock func()) {
	mu := field(c, "engine", "mu").Addr().Interface().(*sync.Mutex)
	mu.Lock()
	return mu.Unlock
}

// leftovers returns an error if a client without a call under way holds anything.
func leftovers(c *vtclient.Client) error {
	defer lock(c)()
	e := field(c, "engine").Addr().Interface()
	due := false
	for turns, i := field(e, "agenda", "turns"), 0; i < turns.Len(); i++ {
		due = due || !turns.Index(i).IsNil()
	}
	got := []any{
		field(e, "polls", "n").Int(), field(e, "agenda", "heap").Len(), due, field(e, "underWay").Int(), !field(e, "timer").IsNil(),
		field(e, "completions", "order").Len(), field(e, "completions", "ready").Len(),
		field(c, "admission", "gate").Len(), field(c, "flights", "calls").Len(),
	}
	if text := fmt.Sprint(got...); text != fmt.Sprint(0, 0, false, 0, false, 0, 0, 0, 0) {
		return fmt.Errorf("polls, heap, due, under way, timer, order, completions, gate, flights: %v", got)
	}
	return nil
}

// pollOf returns the poll of a job, nil if there is none, and when its last exchange began.
func pollOf(c *vtclient.Client, id string) (p any, started time.Duration) {
	defer lock(c)()
	parts := reflect.Indirect(field(c, "engine", "polls", "parts"))
	for i := 0; parts.IsValid() && i < parts.Len(); i++ {
		polls := parts.Index(i).FieldByName("polls")
		if e := polls.MapIndex(reflect.ValueOf(id)); e.IsValid() {
			return e.Pointer(), time.Duration(e.Elem().FieldByName("started").Int())
		}
	}
	return nil, 0
}

// setSeed makes all that is random in a learner follow from a number. It comes before the
// learner's first use.
func setSeed(a *vtclient.Adaptive, number uint64) {
	r := rand.New(rand.NewPCG(number, 0))
	field(a, "explore").Addr().Interface().(interface{ Store(uint32) }).Store(r.Uint32())
	var mu sync.Mutex
	field(a, "chance").Set(reflect.ValueOf(func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64()
	}))
}

// seeded returns a learner that does the same in each run.
func seeded(cost time.Duration, number uint64) *vtclient.Adaptive {
	a := vtclient.NewAdaptive(cost)
	setSeed(a, number)
	return a
}
