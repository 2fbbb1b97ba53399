package contract_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
)

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
