package vtclient_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
)

// Property 1: a delay is within [0, Max] for every attempt number up to a
// million and for every field at its extreme. Property 3: nothing panics.
func TestExponentialDelayIsWithinBoundsAtEveryExtreme(t *testing.T) {
	const longest = time.Duration(math.MaxInt64)
	durations := []time.Duration{0, 1, time.Second, longest / 2, longest - 1, longest, -1, math.MinInt64}
	multipliers := []float64{0, 1, math.Nextafter(1, 2), 2, 1e300, math.MaxFloat64, math.Inf(1), math.Inf(-1), math.NaN(), -1, 0.5}
	jitters := []float64{0, math.SmallestNonzeroFloat64, 0.5, 1, 2, math.Inf(1), math.NaN(), -1}
	numbers := []int{math.MinInt + 1, -1, 0, 1, 2, 3, 10, 62, 63, 64, 65, 1000, 1e6, math.MaxInt}
	for _, base := range durations {
		for _, bound := range durations {
			for _, mult := range multipliers {
				for _, jitter := range jitters {
					e := vtclient.Exponential{Base: base, Max: bound, Multiplier: mult, Jitter: jitter}
					want := bound
					if want <= 0 {
						want = time.Minute
					}
					for _, n := range numbers {
						if d, ok := e.Next(vtclient.Attempt{Number: n}); d < 0 || d > want || !ok {
							t.Fatalf("%+v, request %d: %v, %v; want within [0, %v]", e, n, d, ok, want)
						}
					}
				}
			}
		}
	}
}

// Properties 1 and 4: every attempt up to a million; at Max it goes on at Max.
func TestExponentialGrowsUpToMaxAndStaysThere(t *testing.T) {
	e := vtclient.Exponential{Base: time.Millisecond, Max: time.Hour, Multiplier: 1.001}
	last := time.Duration(0)
	for n := range 1_000_001 {
		d, ok := e.Next(vtclient.Attempt{Number: n})
		if d < last || d > time.Hour || !ok {
			t.Fatalf("request %d: %v, %v after %v", n, d, ok, last)
		}
		last = d
	}
	if last != time.Hour {
		t.Errorf("after a million requests: %v, want Max", last)
	}
}

func TestExponentialFollowsItsDocumentedNumbers(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name string
		e    vtclient.Exponential
		want []time.Duration // after request 0, 1, 2, …
		last int             // the request after which it stops; 0: never
	}{
		{"the example of the documentation", vtclient.Exponential{Base: s, Max: 10 * s, Limit: 6}, []time.Duration{s, s, 2 * s, 4 * s, 8 * s, 10 * s, 10 * s}, 6},
		{"the zero value", vtclient.Exponential{}, []time.Duration{s / 2, s / 2, s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 60 * s, 60 * s}, 0},
		{"a factor of one is constant", vtclient.Exponential{Base: 3 * s, Multiplier: 1}, []time.Duration{3 * s, 3 * s, 3 * s, 3 * s}, 0},
		{"a base above max is max", vtclient.Exponential{Base: time.Hour, Max: s}, []time.Duration{s, s, s}, 0},
		{"a factor that makes no sense is two", vtclient.Exponential{Multiplier: math.NaN()}, []time.Duration{s / 2, s / 2, s, 2 * s}, 0},
		{"nor does one below one", vtclient.Exponential{Multiplier: -3}, []time.Duration{s / 2, s / 2, s, 2 * s}, 0},
		{"a limit of one stops after the first", vtclient.Exponential{Limit: 1}, []time.Duration{s / 2, s / 2}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for n, want := range tt.want {
				d, ok := tt.e.Next(vtclient.Attempt{Number: n})
				if wantOK := tt.last == 0 || n < tt.last; d != want || ok != wantOK {
					t.Errorf("after request %d: %v, %v; want %v, %v", n, d, ok, want, wantOK)
				}
			}
		})
	}
}

// Property 2: jitter never lifts a delay above Max and is no point mass at Max:
// it is as spread out there as before.
func TestExponentialJitterIsSpreadEvenlyBelowTheDelay(t *testing.T) {
	const draws = 20_000
	for _, tt := range []struct {
		jitter float64
		number int
	}{{0.2, 1}, {0.2, 100}, {0.5, 1}, {0.5, 1e6}, {1, 1}, {1, 100}} {
		e := vtclient.Exponential{Base: time.Second, Max: 8 * time.Second, Jitter: tt.jitter}
		full := min(time.Second<<min(tt.number-1, 10), 8*time.Second)
		low := time.Duration(float64(full) * (1 - tt.jitter))
		var tenths [10]int
		for range draws {
			d, _ := e.Next(vtclient.Attempt{Number: tt.number})
			if d < low || d > full {
				t.Fatalf("jitter %v: %v outside [%v, %v]", tt.jitter, d, low, full)
			}
			tenths[min(9, int(10*float64(d-low)/float64(full-low)))]++
		}
		for i, n := range tenths { // expected 2000, standard deviation 42
			if n < 1700 || n > 2300 {
				t.Errorf("jitter %v after request %d: %d of %d draws in tenth %d", tt.jitter, tt.number, n, draws, i)
			}
		}
	}
}

func TestConstantNeverChangesNorStops(t *testing.T) {
	for _, n := range []int{0, 1, 1e6, math.MaxInt} {
		if d, ok := vtclient.Constant(time.Second).Next(vtclient.Attempt{Number: n}); d != time.Second || !ok {
			t.Errorf("Constant after request %d: %v, %v", n, d, ok)
		}
	}
	if d, ok := vtclient.Constant(-1).Next(vtclient.Attempt{}); d != 0 || !ok {
		t.Errorf("a negative Constant: %v, %v; want 0, true", d, ok)
	}
}

// Properties 3, 5 and 20: what makes no sense is refused by New, which names field and
// value; what is at the edge of sense, an explicit zero among it, is taken.
func TestNewRefusesBackoffsThatMakeNoSense(t *testing.T) {
	type e = vtclient.Exponential
	for _, tt := range []struct {
		b     vtclient.Backoff
		where string // "": taken
	}{
		{e{}, ""},
		{e{Base: time.Millisecond, Max: math.MaxInt64, Multiplier: math.MaxFloat64, Jitter: 1, Limit: math.MaxInt}, ""},
		{&e{Multiplier: 1}, ""},
		{vtclient.Constant(time.Millisecond), ""},
		{e{Base: -1}, "Exponential.Base: got -1ns"},
		{e{Base: time.Hour}, ""},
		{e{Base: time.Second, Max: time.Second}, ""},
		{e{Base: 2 * time.Second, Max: time.Second}, "Exponential.Base: got 2s, want at most Max, 1s"},
		{e{Base: time.Millisecond, Max: 100 * time.Microsecond}, "Exponential.Base: got 1ms, want at most Max, 100µs"},
		{e{Max: math.MinInt64}, "Exponential.Max: got -2562047h47m16.854775808s"},
		{e{Base: 3, Max: 2}, "Exponential.Base: got 3ns"},
		{e{Multiplier: 0.99}, "Exponential.Multiplier: got 0.99"},
		{e{Multiplier: -2}, "Exponential.Multiplier: got -2"},
		{e{Multiplier: math.NaN()}, "Exponential.Multiplier: got NaN"},
		{e{Multiplier: math.Inf(1)}, "Exponential.Multiplier: got +Inf"},
		{e{Jitter: -0.1}, "Exponential.Jitter: got -0.1"},
		{e{Jitter: 1.1}, "Exponential.Jitter: got 1.1"},
		{e{Jitter: math.NaN()}, "Exponential.Jitter: got NaN"},
		{e{Limit: -1}, "Exponential.Limit: got -1"},
		{&e{Limit: -1}, "Exponential.Limit: got -1"},
		{vtclient.Constant(0), "Constant: got 0s"},
		{vtclient.Constant(-time.Second), "Constant: got -1s"},
	} {
		for option, with := range map[string]func(vtclient.Backoff) vtclient.Option{"WithPolling": vtclient.WithPolling, "WithRetry": vtclient.WithRetry} {
			_, err := vtclient.New("http://h", with(tt.b))
			var arg *vtclient.ArgumentError
			switch {
			case tt.where == "" && err != nil:
				t.Errorf("%s(%+v): %v", option, tt.b, err)
			case tt.where != "" && (!errors.As(err, &arg) || !strings.Contains(err.Error(), option+": ") || !strings.Contains(err.Error(), tt.where)):
				t.Errorf("%s(%+v): %v; want an error that contains %q", option, tt.b, err, tt.where)
			}
		}
	}
}
