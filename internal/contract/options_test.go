package contract_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// Properties 3, 20: a bad argument is refused by New, by value, expectation and place.
func TestNewRefusesBadArguments(t *testing.T) {
	type option = vtclient.Option
	for _, tt := range []struct {
		with option
		want string
	}{
		{nil, "New: got nil as option 1, want an Option"},
		{vtclient.WithHTTPClient(nil), "WithHTTPClient: got nil, want an *http.Client"},
		{vtclient.WithHeader("", "v"), `WithHeader: key: got "", want a header name`},
		{vtclient.WithHeader("X Y", "v"), `WithHeader: key: got "X Y", want a header name`},
		{vtclient.WithHeader("X:Y", "v"), `WithHeader: key: got "X:Y", want a header name`},
		{vtclient.WithHeader("Ü", "v"), `WithHeader: key: got "Ü", want a header name`},
		{vtclient.WithHeader("X\r\nY", "v"), `WithHeader: key: got "X\r\nY", want a header name`},
		{vtclient.WithHeader("host", "v"), `WithHeader: key: got "host", want another header: net/http ignores it; WithRequest can set r.Host`},
		{vtclient.WithHeader("X-Key", "s3cr3t\r\nX-Evil: 1"), "WithHeader: value of X-Key: got a control character, want a value without any"},
		{vtclient.WithHeader("X-Key", "s3cr3t\x7f"), "WithHeader: value of X-Key: got a control character, want a value without any"},
		{vtclient.WithRequest(nil), "WithRequest: got nil, want a function"},
		{vtclient.WithTimeout(0), "WithTimeout: got 0s, want a positive value"},
		{vtclient.WithTimeout(-time.Second), "WithTimeout: got -1s, want a positive value"},
		{vtclient.WithPolling(nil), "WithPolling: got nil, want a value that is not nil"},
		{vtclient.WithPolling((*vtclient.Exponential)(nil)), "WithPolling: got a nil *vtclient.Exponential, want a value that is not nil"},
		{vtclient.WithRetry(nil), "WithRetry: got nil, want a value that is not nil"},
		{vtclient.WithOutageTolerance(-1), "WithOutageTolerance: got -1ns, want a duration of 0 or more"},
		{vtclient.WithMaxRetryAfter(-1), "WithMaxRetryAfter: got -1ns, want a duration of 0 or more"},
		{vtclient.WithMaxBody(0), "WithMaxBody: got 0, want a positive number of bytes"},
		{vtclient.WithMaxBody(-1), "WithMaxBody: got -1, want a positive number of bytes"},
		{vtclient.WithMaxBody(math.MaxInt64), "WithMaxBody: got 9223372036854775807, want a positive number of bytes below"},
		{vtclient.WithMaxInFlight(0), "WithMaxInFlight: got 0, want a positive value"},
		{vtclient.WithMaxInFlight(-1), "WithMaxInFlight: got -1, want a positive value"},
		{vtclient.WithBreaker((*vtclient.CircuitBreaker)(nil)), "WithBreaker: got a nil *vtclient.CircuitBreaker, want a value that is not nil"},
		{vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{FailureRate: 2})), "vtclient: WithBreaker: BreakerConfig.FailureRate: got 2, want at most 1"},
		{vtclient.WithCache((*vtclient.MemoryCache[vtclient.Status])(nil)), "WithCache: got a nil *vtclient.MemoryCache[github.com/vtclient/vtclient.Status], want a value that is not nil"},
		{vtclient.WithCache(vtclient.NewMemoryCache[vtclient.Status](0)), "vtclient: WithCache: NewMemoryCache: capacity: got 0, want at least 1"},
		{vtclient.WithCacheTTL(-1, 0), "WithCacheTTL: pending: got -1ns, want a duration of 0 or more"},
		{vtclient.WithCacheTTL(0, -1), "WithCacheTTL: terminal: got -1ns, want a duration of 0 or more"},
		{vtclient.WithLimiter((*countingLimiter)(nil)), "WithLimiter: got a nil *contract_test.countingLimiter, want a value that is not nil"},
		{vtclient.WithLogger(nil), "WithLogger: got nil, want a *slog.Logger"},
	} {
		c, err := vtclient.New("http://h", tt.with)
		if c != nil || err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%v\nwant %s", err, tt.want)
		}
	}
}

func TestNewNamesEveryBadArgumentAtOnce(t *testing.T) {
	_, err := vtclient.New("ftp://user:s3cr3t@h", nil, vtclient.WithTimeout(0), vtclient.WithMaxBody(0), vtclient.WithCacheTTL(-1, -2),
		vtclient.WithEndpoint(vtclient.Endpoint{Path: "x", EmptyPath: "y"}), vtclient.WithRetry(vtclient.Constant(0)))
	for _, want := range []string{"baseURL", "option 1", "WithTimeout", "WithMaxBody", "pending", "terminal", "Endpoint.Path", "Endpoint.EmptyPath", "WithRetry"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
	var arg *vtclient.ArgumentError
	if !errors.As(err, &arg) || strings.Contains(err.Error(), "s3cr3t") {
		t.Error(err)
	}
}

// Property 5: an explicit zero, or nil, is a value and not "unset".
func TestZeroAndNilAreValues(t *testing.T) {
	if _, err := vtclient.New("http://h", vtclient.WithOutageTolerance(0), vtclient.WithMaxRetryAfter(0), vtclient.WithCacheTTL(0, 0),
		vtclient.WithBreaker(nil), vtclient.WithCache(nil), vtclient.WithLimiter(nil), vtclient.WithTrace(vtclient.Trace{})); err != nil {
		t.Error(err)
	}
	s := testserver.Start(t, testserver.Completed())
	c := clientFor(t, s, vtclient.WithCacheTTL(0, 0))
	for range 2 {
		if st, err := c.Status(t.Context(), "j"); err != nil || st.Cached {
			t.Error(st, err)
		}
	}
	if n := len(s.Requests()); n != 2 {
		t.Errorf("%d requests with a cache that may keep nothing, want 2", n)
	}
	s.Then(testserver.Pending())
	for range 2 {
		if st, err := c.Status(t.Context(), "pending"); err != nil || st.Cached {
			t.Error(st, err)
		}
	}
	if n := len(s.Requests()); n != 4 {
		t.Errorf("%d requests for pending answers too, want 4", n)
	}
	s.Then(testserver.Reply(503, ""))
	c = clientFor(t, s, vtclient.WithOutageTolerance(0))
	if _, err := c.Wait(t.Context(), "k"); !errors.Is(err, vtclient.ErrOutage) {
		t.Errorf("a fault with a tolerance of 0: %v", err)
	}
	s.Then(testserver.Reply(503, "", "Retry-After: 1"))
	c = clientFor(t, s, vtclient.WithMaxRetryAfter(0))
	if _, err := c.Status(t.Context(), "k"); !errors.Is(err, vtclient.ErrRetryAfter) {
		t.Errorf("a pause of 1 s with a bound of 0: %v", err)
	}
}

// What is given more than once adds up for headers and functions, and the last one holds for the rest.
func TestOptionsGivenTwice(t *testing.T) {
	s := testserver.Start(t, testserver.Pending())
	var order []string
	note := func(what string) vtclient.Option {
		return vtclient.WithRequest(func(r *http.Request) error {
			order = append(order, what)
			r.Header.Set("X-Order", strings.Join(order, ","))
			return nil
		})
	}
	c := clientFor(t, s,
		vtclient.WithHeader("x-key", "1"), vtclient.WithHeader("X-KEY", "2"), vtclient.WithHeader("Accept", "text/json"),
		note("a"), note("b"), vtclient.WithEndpoint(vtclient.Endpoint{Path: "/wrong/{id}"}), vtclient.WithEndpoint(vtclient.Endpoint{}))
	if _, err := c.Status(t.Context(), "j"); err != nil {
		t.Fatal(err)
	}
	r := s.Requests()[0]
	if got := r.Header["X-Key"]; !reflect.DeepEqual(got, []string{"1", "2"}) {
		t.Errorf("X-Key: %q", got)
	}
	if r.URI != "/status/j" || r.Method != "GET" || r.Header.Get("X-Order") != "a,b" || r.Header.Get("Accept") != "text/json" || r.Header.Get("User-Agent") != "vtclient" {
		t.Errorf("%+v", r)
	}
}

// WithTrace and WithLogger several times add up.
func TestTracesAddUp(t *testing.T) {
	var a, b int
	var log strings.Builder
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"pending"}`), nil },
		vtclient.WithTrace(vtclient.Trace{Answered: counting(&a)}), vtclient.WithTrace(vtclient.Trace{Answered: counting(&b)}),
		vtclient.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	if _, err := c.Status(t.Context(), "j"); err != nil || a != 1 || b != 1 || !strings.Contains(log.String(), "exchange") {
		t.Error(err, a, b, log.String())
	}
}

type (
	limiterMap  map[string]bool
	limiterChan chan bool
)

func (limiterMap) Wait(context.Context) error  { return nil }
func (limiterChan) Wait(context.Context) error { return nil }

// A nil inside an interface is refused whatever kind of value it is, and what
// only looks like one is not.
func TestNewRefusesANilOfEachKind(t *testing.T) {
	for _, l := range []vtclient.Limiter{(*countingLimiter)(nil), limiterFunc(nil), limiterMap(nil), limiterChan(nil)} {
		_, err := vtclient.New("http://h", vtclient.WithLimiter(l))
		if want := fmt.Sprintf("vtclient: WithLimiter: got a nil %T, want a value that is not nil", l); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, l := range []vtclient.Limiter{&countingLimiter{}, limiterFunc(func(context.Context) error { return nil }), limiterMap{}, make(limiterChan)} {
		if _, err := vtclient.New("http://h", vtclient.WithLimiter(l)); err != nil {
			t.Errorf("%T: %v", l, err)
		}
	}
}

// What is at the edge of sense is taken: a tab in a header's value, an
// estimate of nothing.
func TestWhatIsAtTheEdgeOfSenseIsTaken(t *testing.T) {
	var got string
	c := stubbed(t, func(r *http.Request) (*http.Response, error) {
		got = r.Header.Get("X-Key")
		return respond(r, 200, `{"result":"completed"}`), nil
	}, vtclient.WithHeader("X-Key", "a\tb"))
	if _, err := c.Wait(t.Context(), "j", vtclient.Expect(0)); err != nil || got != "a\tb" {
		t.Errorf("%q, %v", got, err)
	}
}

// A nil among the options of a wait is named by its place.
func TestANilWaitOptionIsNamedByItsPlace(t *testing.T) {
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF })
	st, err := c.Wait(t.Context(), "j", vtclient.Expect(1), nil)
	if want := "vtclient: wait options: got nil as option 2, want a WaitOption"; err == nil || err.Error() != want || st.JobID != "j" {
		t.Errorf("%+v, %v, want %s", st, err, want)
	}
}

// unitless are the durations that callers give, each as a function of one of them. where is
// how an error names it; zero reports whether an explicit zero is taken.
var unitless = []struct {
	where string
	zero  bool
	with  func(d time.Duration) vtclient.Option
}{
	{"WithTimeout", false, vtclient.WithTimeout},
	{"WithOutageTolerance", true, vtclient.WithOutageTolerance},
	{"WithMaxRetryAfter", true, vtclient.WithMaxRetryAfter},
	{"WithCacheTTL: pending", true, func(d time.Duration) vtclient.Option { return vtclient.WithCacheTTL(d, time.Hour) }},
	{"WithCacheTTL: terminal", true, func(d time.Duration) vtclient.Option { return vtclient.WithCacheTTL(time.Second, d) }},
	{"WithPolling: Constant", false, func(d time.Duration) vtclient.Option { return vtclient.WithPolling(vtclient.Constant(d)) }},
	{"WithRetry: Constant", false, func(d time.Duration) vtclient.Option { return vtclient.WithRetry(vtclient.Constant(d)) }},
	{"WithPolling: Exponential.Base", true, func(d time.Duration) vtclient.Option {
		return vtclient.WithPolling(vtclient.Exponential{Base: d, Max: time.Minute})
	}},
	{"WithRetry: Exponential.Base", true, func(d time.Duration) vtclient.Option {
		return vtclient.WithRetry(&vtclient.Exponential{Base: d})
	}},
	{"WithRetry: Exponential.Max", true, func(d time.Duration) vtclient.Option { return vtclient.WithRetry(vtclient.Exponential{Max: d}) }},
	{"WithPolling: NewAdaptive: requestCost", true, func(d time.Duration) vtclient.Option {
		return vtclient.WithPolling(vtclient.NewAdaptive(d))
	}},
	{"WithPolling: NewAdaptive: requestCost", true, func(d time.Duration) vtclient.Option {
		return vtclient.WithPolling(struct{ *vtclient.Adaptive }{vtclient.NewAdaptive(d)})
	}},
	{"WithBreaker: BreakerConfig.Window", true, func(d time.Duration) vtclient.Option {
		return vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{Window: d}))
	}},
	{"WithBreaker: BreakerConfig.OpenPeriod", true, func(d time.Duration) vtclient.Option {
		return vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{OpenPeriod: d}))
	}},
	{"WithBreaker: BreakerConfig.MaxOpenPeriod", true, func(d time.Duration) vtclient.Option {
		return vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{OpenPeriod: d, MaxOpenPeriod: d}))
	}},
	{"WithBreaker: BreakerConfig.ProbeTimeout", true, func(d time.Duration) vtclient.Option {
		return vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ProbeTimeout: d}))
	}},
}

// Property 77: a number without a unit, which can only be a mistake, is refused by New with
// the value, the place and what was probably meant. An explicit zero keeps its meaning, and
// 100 µs is a duration like any other.
func TestANumberWithoutAUnitIsRefused(t *testing.T) {
	for _, tt := range unitless {
		for d, meant := range map[time.Duration]string{
			1: "1*time.Second", 5: "5*time.Second", 999: "999*time.Second", 30_000: "30000*time.Millisecond",
			86_400: "86400*time.Second", 100*time.Microsecond - 1: "99999*time.Millisecond",
		} {
			c, err := vtclient.New("http://h", tt.with(d))
			want := fmt.Sprintf("%s: got %v, want at least 100µs; a number without a unit is in nanoseconds: did you mean %s?", tt.where, d, meant)
			var arg *vtclient.ArgumentError
			if c != nil || !errors.As(err, &arg) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v\nwant %s", err, want)
			}
		}
		for d, taken := range map[time.Duration]bool{0: tt.zero, 100 * time.Microsecond: true, time.Minute: true} {
			if _, err := vtclient.New("http://h", tt.with(d)); (err == nil) != taken {
				t.Errorf("%s of %v: %v, taken: %t", tt.where, d, err, taken)
			}
		}
	}
	_, err := vtclient.New("http://h", vtclient.WithCacheTTL(30, 60), vtclient.WithRetry(vtclient.Exponential{Base: 5, Max: 3}))
	for _, want := range []string{"pending: got 30ns", "terminal: got 60ns", "Exponential.Base: got 5ns", "Exponential.Max: got 3ns"} {
		if err == nil || strings.Count(err.Error(), want) != 1 {
			t.Errorf("%v\nwant %s once", err, want)
		}
	}
	if _, err := vtclient.New("http://h", vtclient.WithPolling(struct{ *vtclient.Adaptive }{})); err == nil {
		t.Error("a nil Adaptive inside another strategy is taken")
	}
}

// The same for estimates: of a Wait and a Watch, of a WaitAll, and of one of its jobs, the
// others of which are waited for.
func TestAnEstimateWithoutAUnitIsRefused(t *testing.T) {
	const want = "Expect: got 90ns, want at least 100µs; a number without a unit is in nanoseconds: did you mean 90*time.Second?"
	var arg *vtclient.ArgumentError
	var requests atomic.Int32
	c, err := vtclient.New("", vtclient.WithFetch(func(context.Context, string) (vtclient.Status, error) {
		requests.Add(1)
		return vtclient.Status{State: vtclient.StateCompleted}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.As(err, &arg) || !strings.Contains(err.Error(), want) || requests.Load() != 0 {
			t.Errorf("%s: %v after %d requests", what, err, requests.Load())
		}
	}
	_, err = c.Wait(t.Context(), "j", vtclient.Expect(90))
	refused("Wait", err)
	for _, err := range c.Watch(t.Context(), "j", vtclient.Expect(90)) {
		refused("Watch", err)
	}
	for _, err := range c.WaitAll(t.Context(), vtclient.Jobs("j"), vtclient.Expect(90)) {
		refused("WaitAll", err)
	}
	jobs := []vtclient.Job{{ID: "a", Expect: time.Millisecond}, {ID: "b", Expect: 90}, {ID: "c"}, {ID: "d", Expect: -1}}
	got := map[string]string{}
	for st, err := range c.WaitAll(t.Context(), slices.Values(jobs)) {
		got[st.JobID] = fmt.Sprint(err)
	}
	if got["a"] != "<nil>" || got["c"] != "<nil>" || !strings.Contains(got["b"], "Job."+want) || !strings.Contains(got["d"], "0 or more") || requests.Load() != 2 {
		t.Errorf("%q after %d requests", got, requests.Load())
	}
}
