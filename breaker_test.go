package vtclient_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

var errDown = errors.New("backend down")

// allow returns the done function of a permit that must be given.
func allow(t *testing.T, b vtclient.Breaker) func(error) {
	t.Helper()
	done, err := b.Allow()
	if err != nil || done == nil {
		t.Fatalf("Allow() = done set %t, %v, want a permit", done != nil, err)
	}
	return done
}

// refuse returns the refusal of a permit that must not be given.
func refuse(t *testing.T, b vtclient.Breaker) refusal {
	t.Helper()
	done, err := b.Allow()
	var r refusal
	if done != nil || !errors.As(err, &r) {
		t.Fatalf("Allow() = done set %t, %v, want a refusal", done != nil, err)
	}
	return r
}

// A refusal is what a CircuitBreaker's error can do.
type refusal interface {
	error
	RetryAfter() time.Duration
}

// inState checks the state of b.
func inState(t *testing.T, b *vtclient.CircuitBreaker, want string) {
	t.Helper()
	if got := b.State(); got != want {
		t.Fatalf("State() = %v, want %v", got, want)
	}
}

// newOpen returns a breaker that one failure opened just now, for a second without jitter
// unless cfg sets one.
func newOpen(t *testing.T, cfg vtclient.BreakerConfig) *vtclient.CircuitBreaker {
	t.Helper()
	cfg.ConsecutiveFailures = 1
	if cfg.OpenPeriod == 0 {
		cfg.OpenPeriod = time.Second
	}
	if cfg.Jitter == 0 {
		cfg.Jitter = -1
	}
	b := vtclient.NewCircuitBreaker(cfg)
	allow(t, b)(errDown)
	inState(t, b, "open")
	return b
}

func TestBreakerTrips(t *testing.T) {
	const (
		closed = "closed"
		open   = "open"
	)
	times := strings.Repeat
	rate := vtclient.BreakerConfig{ConsecutiveFailures: -1}
	row := vtclient.BreakerConfig{FailureRate: -1}
	seven := vtclient.BreakerConfig{ConsecutiveFailures: -1, FailureRate: 0.07, MinCalls: 100}
	for _, tt := range []struct {
		rule   string
		cfg    vtclient.BreakerConfig
		script string // s: success, f: failure, d: timeout, n, w: the caller left, '.': a second passes
		want   string
	}{
		{"four failures in a row do not open it", row, "ffff", closed},
		{"five failures in a row open it", row, "fffff", open},
		{"a timeout is a failure", row, "ddddd", open},
		{"a success ends the row", row, "ffffsffff", closed},
		{"the row starts again after a success", row, "ffffsfffff", open},
		{"failures in a row count however far apart", row, "f" + times(times(".", 3600)+"f", 4), open},
		{"the caller's leaving is not a failure", vtclient.BreakerConfig{}, times("n", 100), closed},
		{"the caller's leaving is seen through wrapping", vtclient.BreakerConfig{}, times("w", 100), closed},
		{"the caller's leaving is not a success", row, "ffffnf", open},
		{"ConsecutiveFailures 1 opens at once", vtclient.BreakerConfig{ConsecutiveFailures: 1}, "f", open},
		{"half of twenty calls open it", rate, times("sf", 10), open},
		{"nine of twenty calls do not open it", rate, times("sf", 9) + "ss", closed},
		{"a rate over nineteen calls is not looked at", rate, "s" + times("sf", 9), closed},
		{"a success opens nothing", rate, times("f", 19) + "s", closed},
		{"the next failure does", rate, times("f", 19) + "sf", open},
		{"the caller's leaving is not a call", rate, times("f", 19) + times("n", 9), closed},
		{"a rate is met exactly, without rounding", seven, times("s", 93) + times("f", 7), open},
		{"and not before", seven, times("s", 94) + times("f", 6), closed},
		{"both criteria are on by default: the rate", vtclient.BreakerConfig{}, times("sf", 10), open},
		{"both criteria are on by default: the row", vtclient.BreakerConfig{}, "fffff", open},
		{"failures within the window count together", rate, times("f", 10) + times(".", 29) + times("f", 10), open},
		{"failures older than the window are forgotten", rate, times("f", 10) + times(".", 30) + times("f", 10), closed},
		{"successes older than the window are forgotten", rate, times("s", 99) + times(".", 30) + times("f", 20), open},
		{"successes within the window dilute failures", rate, times("s", 99) + times(".", 29) + times("f", 20), closed},
		{"the window moves on a tenth at a time", rate, "fffff..." + "fffff" + times(".", 27) + times("f", 14), closed},
		{"and keeps the other nine", rate, "fffff..." + "fffff" + times(".", 27) + times("f", 14) + "f", open},
		{"and are not met again a little later", rate, times("f", 10) + times(".", 33) + times("f", 10), closed},
		{"a window long past is empty", rate, times("f", 10) + times(".", 304) + times("f", 10), closed},
		{"Window sets the window", vtclient.BreakerConfig{ConsecutiveFailures: -1, Window: 10 * time.Second},
			times("f", 10) + times(".", 10) + times("f", 10), closed},
		{"a negative ConsecutiveFailures is off", rate, times("f", 19), closed},
		{"a negative FailureRate is off", row, times("sf", 1000), closed},
		{"with both criteria off nothing opens it", vtclient.BreakerConfig{ConsecutiveFailures: -1, FailureRate: -1}, times("f", 1000), closed},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := vtclient.NewCircuitBreaker(tt.cfg)
				for i, op := range tt.script {
					if op == '.' {
						time.Sleep(time.Second)
						continue
					}
					done, err := b.Allow()
					if err != nil {
						t.Fatalf("refused at step %d of %d: %v", i, len(tt.script), err)
					}
					switch op {
					case 's':
						done(nil)
					case 'f':
						done(errDown)
					case 'd':
						done(context.DeadlineExceeded)
					case 'n':
						done(context.Canceled)
					case 'w':
						done(fmt.Errorf("get status: %w", context.Canceled))
					}
				}
				inState(t, b, tt.want)
			})
		})
	}
}

func TestBreakerOpenPeriodIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOpen(t, vtclient.BreakerConfig{OpenPeriod: 4 * time.Second})
		for left := 4 * time.Second; left > 0; left -= time.Second {
			if got := refuse(t, b).RetryAfter(); got != left {
				t.Errorf("RetryAfter() = %v, want %v", got, left)
			}
			time.Sleep(time.Second - 1)
			if got := refuse(t, b).RetryAfter(); got != left-time.Second+1 {
				t.Errorf("RetryAfter() = %v, want %v", got, left-time.Second+1)
			}
			time.Sleep(time.Nanosecond)
		}
		allow(t, b)
		inState(t, b, "half-open")
	})
}

func TestBreakerStateChangesOnlyWithAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOpen(t, vtclient.BreakerConfig{})
		time.Sleep(time.Hour)
		inState(t, b, "open")
		allow(t, b)
		inState(t, b, "half-open")
	})
}

// openPeriods makes probes fail and returns the open periods between them.
func openPeriods(t *testing.T, b *vtclient.CircuitBreaker, n int) (periods []time.Duration) {
	t.Helper()
	for range n {
		wait := refuse(t, b).RetryAfter()
		periods = append(periods, wait)
		time.Sleep(wait)
		allow(t, b)(errDown)
		inState(t, b, "open")
	}
	return periods
}

func TestBreakerOpenPeriodGrows(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		rule string
		cfg  vtclient.BreakerConfig
		want []time.Duration
	}{
		{"by default", vtclient.BreakerConfig{OpenPeriod: 5 * s}, []time.Duration{5 * s, 10 * s, 20 * s, 30 * s, 30 * s, 30 * s}},
		{"by OpenGrowth", vtclient.BreakerConfig{OpenGrowth: 1.5}, []time.Duration{s, s * 3 / 2, s * 9 / 4}},
		{"not at growth 1", vtclient.BreakerConfig{OpenGrowth: 1}, []time.Duration{s, s, s}},
		{"up to MaxOpenPeriod", vtclient.BreakerConfig{MaxOpenPeriod: 3 * s}, []time.Duration{s, 2 * s, 3 * s, 3 * s}},
		{"not at a default bound below OpenPeriod", vtclient.BreakerConfig{OpenPeriod: 60 * s}, []time.Duration{60 * s, 60 * s}},
		{"without overflow", vtclient.BreakerConfig{OpenPeriod: time.Hour, OpenGrowth: math.MaxFloat64, MaxOpenPeriod: 100000 * time.Hour},
			[]time.Duration{time.Hour, 100000 * time.Hour, 100000 * time.Hour}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newOpen(t, tt.cfg)
				if got := openPeriods(t, b, len(tt.want)); !slices.Equal(got, tt.want) {
					t.Errorf("open periods %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestBreakerClosingResetsTheOpenPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOpen(t, vtclient.BreakerConfig{HalfOpenSuccesses: 1})
		openPeriods(t, b, 3)
		time.Sleep(refuse(t, b).RetryAfter())
		allow(t, b)(nil)
		inState(t, b, "closed")
		allow(t, b)(errDown)
		if got := refuse(t, b).RetryAfter(); got != time.Second {
			t.Errorf("open for %v after closing, want %v", got, time.Second)
		}
	})
}

func TestBreakerJitterShortensAndSpreads(t *testing.T) {
	for _, tt := range []struct {
		rule   string
		jitter float64
		low    time.Duration
	}{
		{"half by default", 0, 5 * time.Second},
		{"by its share", 0.1, 9 * time.Second},
		{"all of it", 1, 0},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n, high = 500, 10 * time.Second
				var sum time.Duration
				seen := map[time.Duration]bool{}
				for range n {
					b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{
						ConsecutiveFailures: 1, OpenPeriod: high, MaxOpenPeriod: high, Jitter: tt.jitter,
					})
					allow(t, b)(errDown)
					wait := refuse(t, b).RetryAfter()
					if wait < tt.low || wait > high {
						t.Fatalf("open for %v, want %v to %v", wait, tt.low, high)
					}
					sum += wait
					seen[wait] = true
				}
				if len(seen) < n*9/10 {
					t.Errorf("%d breakers share %d open periods", n, len(seen))
				}
				// Six standard errors of the mean of a uniform distribution.
				mean, slack := float64(tt.low+high)/2, 6*float64(high-tt.low)/math.Sqrt(12*n)
				if got := float64(sum) / n; math.Abs(got-mean) > slack {
					t.Errorf("mean open period %v, want %v", time.Duration(got), time.Duration(mean))
				}
			})
		})
	}
}

func TestBreakerJitterDoesNotGrowOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOpen(t, vtclient.BreakerConfig{OpenPeriod: 4 * time.Second, MaxOpenPeriod: 16 * time.Second, Jitter: 0.5})
		for i, got := range openPeriods(t, b, 20) {
			high := min(4*time.Second<<i, 16*time.Second)
			if got < high/2 || got > high {
				t.Errorf("open period %d is %v, want %v to %v", i, got, high/2, high)
			}
		}
	})
}

func TestBreakerRefusalHasStateReasonAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		check := func(err refusal, text string) {
			t.Helper()
			if !errors.Is(err, vtclient.ErrBreakerOpen) || errors.Is(err, errDown) {
				t.Errorf("errors.Is(%v, ErrBreakerOpen) = false, or Is(errDown)", err)
			}
			if err.Error() != text {
				t.Errorf("Error() = %q, want %q", err.Error(), text)
			}
		}
		b := newOpen(t, vtclient.BreakerConfig{OpenPeriod: 1500 * time.Millisecond})
		check(refuse(t, b), "vtclient: circuit breaker is open (failures in a row: 1): try again in 1.5s")
		time.Sleep(time.Second)
		check(refuse(t, b), "vtclient: circuit breaker is open (failures in a row: 1): try again in 500ms")
		old := refuse(t, b)
		time.Sleep(time.Second)
		if got := old.RetryAfter(); got != 0 {
			t.Errorf("RetryAfter() after the open period = %v, want 0", got)
		}
		probe := allow(t, b)
		check(refuse(t, b), "vtclient: circuit breaker is half-open (probes are under way): try again in 1s")
		probe(errDown)
		check(refuse(t, b), "vtclient: circuit breaker is open (a probe failed): try again in 3s")

		b = vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: -1, MinCalls: 2, Jitter: -1})
		allow(t, b)(nil)
		allow(t, b)(errDown)
		check(refuse(t, b), "vtclient: circuit breaker is open (failed calls: 1 of 2): try again in 5s")
	})
}

func TestBreakerRefusalsChangeNothing(t *testing.T) { // property 31
	synctest.Test(t, func(t *testing.T) {
		b := newOpen(t, vtclient.BreakerConfig{})
		for range 1000 {
			refuse(t, b)
		}
		if got := refuse(t, b).RetryAfter(); got != time.Second {
			t.Errorf("RetryAfter() = %v after 1000 refusals, want %v", got, time.Second)
		}
		time.Sleep(time.Second)
		probe := allow(t, b)
		for range 1000 {
			refuse(t, b)
		}
		inState(t, b, "half-open")
		probe(nil)
		allow(t, b)(nil)
		inState(t, b, "closed")
	})
}

func TestBreakerAllocatesNothing(t *testing.T) {
	check := func(rule string, b *vtclient.CircuitBreaker, result error, want string) {
		t.Helper()
		if got := testing.AllocsPerRun(1000, func() {
			if done, err := b.Allow(); err == nil {
				done(result)
			}
		}); got != 0 {
			t.Errorf("%s: %v allocations, want 0", rule, got)
		}
		inState(t, b, want)
	}
	off := vtclient.BreakerConfig{ConsecutiveFailures: -1, FailureRate: 1}
	b := vtclient.NewCircuitBreaker(off)
	check("a success while closed", b, nil, "closed")
	check("a failure while closed", b, errDown, "closed")
	check("a neutral result while closed", b, context.Canceled, "closed")
	check("a refusal while open", newOpen(t, vtclient.BreakerConfig{OpenPeriod: time.Hour}), nil, "open")
	b = newOpen(t, vtclient.BreakerConfig{OpenPeriod: 1, MaxOpenPeriod: 1})
	time.Sleep(time.Millisecond)
	allow(t, b)
	check("a refusal while half-open", b, nil, "half-open")
}

func TestBreakerHalfOpenBoundsProbes(t *testing.T) { // property 29
	for _, n := range []int{0, 1, 2, 5} { // 0 means 1
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newOpen(t, vtclient.BreakerConfig{HalfOpenProbes: n, HalfOpenSuccesses: 100})
				time.Sleep(time.Second)
				bound := max(n, 1)
				var probes []func(error)
				for range bound {
					probes = append(probes, allow(t, b))
				}
				if got := refuse(t, b).RetryAfter(); got != time.Second {
					t.Errorf("RetryAfter() = %v, want %v", got, time.Second)
				}
				for range 3 { // each that ends makes room for one
					probes[0](nil)
					probes = append(probes[1:], allow(t, b))
					refuse(t, b)
				}
			})
		})
	}
}

func TestBreakerHalfOpenBoundsConcurrentProbes(t *testing.T) { // property 29
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			b := newOpen(t, vtclient.BreakerConfig{HalfOpenProbes: 3})
			time.Sleep(time.Second)
			var probes atomic.Int64
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					if _, err := b.Allow(); err == nil {
						probes.Add(1)
					}
				})
			}
			wg.Wait()
			if got := probes.Load(); got != 3 {
				t.Fatalf("%d probes at once, want 3", got)
			}
		})
	}
}

func TestBreakerHalfOpenNeedsSuccesses(t *testing.T) {
	for _, n := range []int{0, 1, 2, 4} { // 0 means 2
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newOpen(t, vtclient.BreakerConfig{HalfOpenSuccesses: n})
				time.Sleep(time.Second)
				want := n
				if n == 0 {
					want = 2
				}
				for range want - 1 {
					allow(t, b)(nil)
					inState(t, b, "half-open")
				}
				allow(t, b)(nil)
				inState(t, b, "closed")
			})
		})
	}
}

func TestBreakerHalfOpenFailureReopens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOpen(t, vtclient.BreakerConfig{HalfOpenProbes: 2, HalfOpenSuccesses: 2})
		time.Sleep(time.Second)
		first, second := allow(t, b), allow(t, b)
		first(nil)
		second(errDown)
		inState(t, b, "open")
		time.Sleep(2 * time.Second)
		allow(t, b)(nil) // the success before the failure is forgotten
		inState(t, b, "half-open")
	})
}

func TestBreakerCancelledProbeGivesItsSlotBack(t *testing.T) { // property 26
	synctest.Test(t, func(t *testing.T) {
		b := newOpen(t, vtclient.BreakerConfig{HalfOpenSuccesses: 1})
		time.Sleep(time.Second)
		for range 10 {
			probe := allow(t, b)
			refuse(t, b)
			probe(fmt.Errorf("get status: %w", context.Canceled))
			inState(t, b, "half-open")
		}
		allow(t, b)(nil)
		inState(t, b, "closed")
	})
}

func TestBreakerLostProbeIsReclaimed(t *testing.T) { // property 27
	for _, tt := range []struct {
		rule string
		lose func()
	}{
		{"after a panic", func() { defer func() { _ = recover() }(); panic("in a transport") }},
		{"after a Goexit", func() { runtime.Goexit() }},
		{"after its caller vanished", func() {}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newOpen(t, vtclient.BreakerConfig{ProbeTimeout: 7 * time.Second, HalfOpenSuccesses: 1})
				time.Sleep(time.Second)
				for range 3 {
					go func() {
						done, err := b.Allow()
						if err != nil {
							t.Error(err)
							return
						}
						tt.lose()
						runtime.KeepAlive(done)
					}()
					synctest.Wait()
					refuse(t, b)
					time.Sleep(7*time.Second - 1)
					refuse(t, b)
					time.Sleep(time.Nanosecond)
				}
				allow(t, b)(nil)
				inState(t, b, "closed")
			})
		})
	}
}

func TestBreakerReclaimsOneProbePerPermit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOpen(t, vtclient.BreakerConfig{HalfOpenProbes: 2, HalfOpenSuccesses: 1})
		time.Sleep(time.Second)
		allow(t, b)
		time.Sleep(30 * time.Second)
		second := allow(t, b)
		time.Sleep(30 * time.Second) // ProbeTimeout is one minute by default
		allow(t, b)                  // in place of the first
		refuse(t, b)
		second(nil)
		inState(t, b, "closed")
	})
}

func TestBreakerReplacedProbeCountsNoMore(t *testing.T) {
	for _, result := range []error{nil, errDown, context.Canceled} {
		t.Run(fmt.Sprint(result), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newOpen(t, vtclient.BreakerConfig{HalfOpenSuccesses: 1})
				time.Sleep(time.Second)
				late := allow(t, b)
				time.Sleep(time.Minute)
				probe := allow(t, b)
				late(result)
				inState(t, b, "half-open")
				refuse(t, b) // and it frees no slot
				probe(nil)
				inState(t, b, "closed")
			})
		})
	}
}

func TestBreakerSlowProbeCountsWhileNotReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOpen(t, vtclient.BreakerConfig{HalfOpenSuccesses: 1})
		time.Sleep(time.Second)
		slow := allow(t, b)
		time.Sleep(time.Hour)
		slow(nil)
		inState(t, b, "closed")
	})
}

func TestBreakerProbeDoneTwiceCountsOnce(t *testing.T) { // property 30
	synctest.Test(t, func(t *testing.T) {
		b := newOpen(t, vtclient.BreakerConfig{HalfOpenProbes: 2, HalfOpenSuccesses: 3})
		time.Sleep(time.Second)
		first, second := allow(t, b), allow(t, b)
		for range 10 {
			first(nil)
		}
		first(errDown)
		inState(t, b, "half-open")
		third := allow(t, b)
		refuse(t, b) // ten calls freed one slot
		second(nil)
		inState(t, b, "half-open")
		third(nil)
		inState(t, b, "closed")
		third(errDown) // now in the next era
		inState(t, b, "closed")
	})
}

func TestBreakerIgnoresResultsOfAnEarlierEra(t *testing.T) { // property 28
	for _, result := range []error{nil, errDown, context.Canceled} {
		t.Run(fmt.Sprint(result), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{
					ConsecutiveFailures: 1, OpenPeriod: time.Second, OpenGrowth: 1, Jitter: -1,
					HalfOpenProbes: 2, HalfOpenSuccesses: 1,
				})
				var late []func(error) // permits of every era so far
				send := func(state string) {
					t.Helper()
					for _, done := range late {
						done(result)
					}
					inState(t, b, state)
				}
				for range 10 {
					late = append(late, allow(t, b))
				}
				allow(t, b)(errDown)
				send("open")
				if got := refuse(t, b).RetryAfter(); got != time.Second {
					t.Errorf("open for %v after late results, want %v", got, time.Second)
				}
				time.Sleep(time.Second)
				probe := allow(t, b)
				send("half-open")
				late = append(late, allow(t, b))
				refuse(t, b) // late results free no slot
				probe(errDown)
				send("open")
				time.Sleep(time.Second)
				probe = allow(t, b)
				send("half-open")
				late = append(late, allow(t, b))
				refuse(t, b)
				probe(nil)
				send("closed")
				allow(t, b)(nil)
			})
		})
	}
}

func TestBreakerForgetsCountsOfAnEarlierEra(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{
			ConsecutiveFailures: 3, MinCalls: 4, OpenPeriod: time.Second, Jitter: -1, HalfOpenSuccesses: 1,
		})
		for range 3 {
			allow(t, b)(errDown)
		}
		time.Sleep(time.Second)
		allow(t, b)(nil)
		inState(t, b, "closed")
		allow(t, b)(errDown)
		allow(t, b)(errDown)
		inState(t, b, "closed")
		allow(t, b)(errDown)
		inState(t, b, "open")
	})
}

// changes records the calls of OnStateChange.
type changes struct {
	mu  sync.Mutex
	got []string
}

func (c *changes) add(from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, fmt.Sprintf("%v to %v", from, to))
}

func TestBreakerReportsEveryChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported changes
		b := newOpen(t, vtclient.BreakerConfig{HalfOpenSuccesses: 1, OnStateChange: reported.add})
		time.Sleep(time.Second)
		allow(t, b)(errDown)
		time.Sleep(2 * time.Second)
		allow(t, b)(nil)
		want := []string{"closed to open", "open to half-open", "half-open to open", "open to half-open", "half-open to closed"}
		if !slices.Equal(reported.got, want) {
			t.Errorf("got %q, want %q", reported.got, want)
		}
	})
}

func TestBreakerCallbackMayUseTheBreaker(t *testing.T) { // property 30
	synctest.Test(t, func(t *testing.T) {
		var b *vtclient.CircuitBreaker
		var reported []string
		running := false
		b = vtclient.NewCircuitBreaker(vtclient.BreakerConfig{
			ConsecutiveFailures: 1, OpenPeriod: time.Second, OpenGrowth: 1, Jitter: -1, HalfOpenSuccesses: 1,
			OnStateChange: func(from, to string) {
				if running {
					t.Error("called while it runs")
				}
				running = true
				defer func() { running = false }()
				reported = append(reported, fmt.Sprintf("%v to %v", from, to))
				if len(reported) == 1 {
					inState(t, b, "open")
					time.Sleep(time.Second)
					allow(t, b)(nil) // two more changes from within
					inState(t, b, "closed")
				}
			},
		})
		allow(t, b)(errDown)
		want := []string{"closed to open", "open to half-open", "half-open to closed"}
		if !slices.Equal(reported, want) {
			t.Errorf("got %q, want %q", reported, want)
		}
	})
}

func TestBreakerCallbackThatBlocksHoldsUpNoOtherCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported changes
		release := make(chan struct{})
		cfg := vtclient.BreakerConfig{ConsecutiveFailures: 1, OpenPeriod: time.Second, Jitter: -1, HalfOpenSuccesses: 1}
		cfg.OnStateChange = func(from, to string) {
			<-release
			reported.add(from, to)
		}
		b := vtclient.NewCircuitBreaker(cfg)
		go allow(t, b)(errDown)
		synctest.Wait()
		refuse(t, b)
		time.Sleep(time.Second)
		allow(t, b)(nil)
		inState(t, b, "closed")
		close(release)
		synctest.Wait()
		want := []string{"closed to open", "open to half-open", "half-open to closed"}
		if !slices.Equal(reported.got, want) {
			t.Errorf("got %q, want %q", reported.got, want)
		}
	})
}

func TestBreakerCallbackThatPanicsIsCalledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported changes
		cfg := vtclient.BreakerConfig{ConsecutiveFailures: 1, OpenPeriod: time.Second, Jitter: -1, HalfOpenSuccesses: 1}
		cfg.OnStateChange = func(from, to string) {
			reported.add(from, to)
			if to == "open" {
				panic("callback")
			}
		}
		b := vtclient.NewCircuitBreaker(cfg)
		func() {
			defer func() {
				if recover() != "callback" {
					t.Error("the panic did not reach the caller of done")
				}
			}()
			allow(t, b)(errDown)
		}()
		inState(t, b, "open")
		time.Sleep(time.Second)
		allow(t, b)(nil)
		want := []string{"closed to open", "open to half-open", "half-open to closed"}
		if !slices.Equal(reported.got, want) {
			t.Errorf("got %q, want %q", reported.got, want)
		}
	})
}

func TestBreakerUnderConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound = 3
		state := "closed" // as reported; unguarded: one call at a time
		reported := 0
		b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{
			OpenPeriod: 10 * time.Millisecond, Window: 10 * time.Millisecond, HalfOpenProbes: bound,
			OnStateChange: func(from, to string) {
				if from != state || from == to {
					t.Errorf("reported %v to %v in state %v", from, to, state)
				}
				state = to
				reported++
			},
		})
		var wg sync.WaitGroup
		for id := range 8 {
			wg.Go(func() {
				for i := range 3000 {
					done, err := b.Allow()
					if err != nil {
						time.Sleep(time.Duration(id+1) * time.Millisecond)
						continue
					}
					switch (i + id) % 7 {
					case 0, 1, 2:
						done(errDown)
					case 3:
						done(context.Canceled)
					case 4:
						time.Sleep(time.Millisecond)
						done(nil)
					default:
						done(nil)
					}
					_ = b.State()
				}
			})
		}
		wg.Wait()
		if reported < 10 || state != b.State() {
			t.Errorf("reported %d changes, the last to %v; State() = %v", reported, state, b.State())
		}
	})
}

func TestBreakerThatClosesMeanwhilePermits(t *testing.T) {
	for range 2000 {
		var reported changes
		b := newOpen(t, vtclient.BreakerConfig{OpenPeriod: 1, HalfOpenProbes: 4, HalfOpenSuccesses: 1, OnStateChange: reported.add})
		var wg sync.WaitGroup
		for range 4 { // fewer calls than probes: none may be refused
			wg.Go(func() {
				for b.State() != "closed" {
					done, err := b.Allow()
					if done == nil || err != nil {
						t.Errorf("Allow() = done set %t, %v, want a permit", done != nil, err)
						return
					}
					done(nil)
				}
			})
		}
		wg.Wait()
		if want := []string{"closed to open", "open to half-open", "half-open to closed"}; !slices.Equal(reported.got, want) {
			t.Fatalf("got %q, want %q", reported.got, want)
		}
	}
}

func TestBreakerCountsEveryConcurrentCall(t *testing.T) {
	const workers, each = 4, 50_000
	const n = workers * each
	b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{
		ConsecutiveFailures: -1, FailureRate: 0.5, MinCalls: 2*n + 1, Window: 100 * time.Hour,
	})
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				good, _ := b.Allow() // closed: never refused
				good(nil)
				bad, _ := b.Allow()
				bad(errDown)
			}
		})
	}
	wg.Wait()
	inState(t, b, "closed")
	allow(t, b)(errDown) // the first call over MinCalls, if none was missed
	if want := fmt.Sprintf("failed calls: %d of %d", n+1, 2*n+1); !strings.Contains(refuse(t, b).Error(), want) {
		t.Errorf("%v, want %s", refuse(t, b), want)
	}
}

func TestBreakerConfigBadFieldIsReportedAndDefaulted(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		field string
		cfg   vtclient.BreakerConfig
		value string
	}{
		{"FailureRate", vtclient.BreakerConfig{FailureRate: 1.5}, "1.5"},
		{"FailureRate", vtclient.BreakerConfig{FailureRate: nan}, "NaN"},
		{"MinCalls", vtclient.BreakerConfig{MinCalls: -1}, "-1"},
		{"Window", vtclient.BreakerConfig{Window: -time.Second}, "-1s"},
		{"OpenPeriod", vtclient.BreakerConfig{OpenPeriod: -time.Second}, "-1s"},
		{"OpenGrowth", vtclient.BreakerConfig{OpenGrowth: 0.5}, "0.5"},
		{"OpenGrowth", vtclient.BreakerConfig{OpenGrowth: nan}, "NaN"},
		{"MaxOpenPeriod", vtclient.BreakerConfig{MaxOpenPeriod: -time.Second}, "-1s"},
		{"MaxOpenPeriod", vtclient.BreakerConfig{MaxOpenPeriod: time.Second}, "1s"},
		{"Jitter", vtclient.BreakerConfig{Jitter: 1.01}, "1.01"},
		{"Jitter", vtclient.BreakerConfig{Jitter: nan}, "NaN"},
		{"HalfOpenProbes", vtclient.BreakerConfig{HalfOpenProbes: -1}, "-1"},
		{"HalfOpenSuccesses", vtclient.BreakerConfig{HalfOpenSuccesses: -1}, "-1"},
		{"ProbeTimeout", vtclient.BreakerConfig{ProbeTimeout: -time.Second}, "-1s"},
	} {
		t.Run(tt.field+" "+tt.value, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := vtclient.NewCircuitBreaker(tt.cfg)
				err := b.Validate()
				if want := "vtclient: BreakerConfig." + tt.field + ": got " + tt.value + ", want "; err == nil || !strings.HasPrefix(err.Error(), want) {
					t.Fatalf("validate() = %v, want %s…", err, want)
				}
				// The defaults, each by its effect.
				for range 5 {
					inState(t, b, "closed")
					allow(t, b)(errDown)
				}
				if got := refuse(t, b).RetryAfter(); got < 2500*time.Millisecond || got > 5*time.Second {
					t.Errorf("open for %v, want 2.5s to 5s", got)
				}
				time.Sleep(5 * time.Second)
				allow(t, b)
				refuse(t, b)
				time.Sleep(time.Minute)
				allow(t, b)(nil)
				allow(t, b)(nil)
				for range 10 { // once more by the rate
					inState(t, b, "closed")
					allow(t, b)(nil)
					allow(t, b)(errDown)
				}
				inState(t, b, "open")
			})
		})
	}
}

func TestBreakerConfigReportsEveryBadField(t *testing.T) {
	err := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{Window: -1, ProbeTimeout: -1}).Validate()
	if err == nil || !strings.Contains(err.Error(), "Window") || !strings.Contains(err.Error(), "ProbeTimeout") {
		t.Errorf("validate() = %v, want both fields named", err)
	}
}

func TestBreakerConfigExtremesWork(t *testing.T) {
	const long = time.Duration(math.MaxInt64)
	for _, tt := range []struct {
		rule string
		cfg  vtclient.BreakerConfig
	}{
		{"zero", vtclient.BreakerConfig{}},
		{"large", vtclient.BreakerConfig{
			ConsecutiveFailures: math.MaxInt, FailureRate: 1, MinCalls: math.MaxInt, Window: long, OpenPeriod: long, MaxOpenPeriod: long,
			OpenGrowth: math.Inf(1), Jitter: 1, HalfOpenProbes: math.MaxInt, HalfOpenSuccesses: math.MaxInt, ProbeTimeout: long,
		}},
		{"large, opening", vtclient.BreakerConfig{
			ConsecutiveFailures: 1, Window: long, OpenPeriod: long, MaxOpenPeriod: long, Jitter: -1, OpenGrowth: math.MaxFloat64, ProbeTimeout: long,
		}},
		{"small", vtclient.BreakerConfig{
			ConsecutiveFailures: 1, FailureRate: math.SmallestNonzeroFloat64, MinCalls: 1, Window: time.Millisecond, OpenPeriod: time.Millisecond, MaxOpenPeriod: time.Millisecond,
			OpenGrowth: 1, Jitter: math.SmallestNonzeroFloat64, HalfOpenProbes: 1, HalfOpenSuccesses: 1, ProbeTimeout: time.Millisecond,
		}},
		{"off", vtclient.BreakerConfig{ConsecutiveFailures: math.MinInt, FailureRate: math.Inf(-1), Jitter: math.Inf(-1)}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := vtclient.NewCircuitBreaker(tt.cfg)
				if err := b.Validate(); err != nil {
					t.Fatal(err)
				}
				for i := range 100 {
					done, err := b.Allow()
					if err != nil {
						if wait := err.(refusal).RetryAfter(); wait <= 0 {
							t.Fatalf("refused with RetryAfter() = %v", wait)
						}
					} else if i%3 == 0 {
						done(nil)
					} else {
						done(errDown)
					}
					time.Sleep(time.Hour)
				}
			})
		})
	}
}

func TestBreakerNotMadeByNewCircuitBreakerIsReported(t *testing.T) {
	for _, b := range []*vtclient.CircuitBreaker{nil, {}} {
		if err := b.Validate(); err == nil || !strings.Contains(err.Error(), "NewCircuitBreaker") {
			t.Errorf("validate() = %v, want an error that names NewCircuitBreaker", err)
		}
	}
}

func TestBreakerCounts429OnlyIfAsked(t *testing.T) {
	for _, want := range []bool{false, true} {
		if got := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{Count429: want}).Counts429(); got != want {
			t.Errorf("counts429() = %t, want %t", got, want)
		}
	}
}

// A breakerModel is a CircuitBreaker written again as simply as can be: it keeps
// every permit and every result for ever and counts anew whenever it is asked.
type breakerModel struct {
	cfg       vtclient.BreakerConfig // every field set
	state     string
	era       int
	begun     time.Time // the era
	period    time.Duration
	permits   []*modelPermit
	results   []modelResult
	changes   []string
	successes int // of probes in this era
}

type modelPermit struct {
	era             int
	probe, finished bool // finished: ended, or replaced by another probe
	given           time.Time
}

type modelResult struct {
	era int
	at  time.Time
	ok  bool
}

func (m *breakerModel) enter(to string) {
	m.changes = append(m.changes, fmt.Sprintf("%v to %v", m.state, to))
	m.state, m.begun, m.successes = to, time.Now(), 0
	m.era++
	switch to {
	case "closed":
		m.period = 0
	case "open":
		m.period = min(m.cfg.MaxOpenPeriod, max(m.cfg.OpenPeriod, time.Duration(float64(m.period)*m.cfg.OpenGrowth)))
	}
}

// allow returns a permit, or nil and how long to wait.
func (m *breakerModel) allow() (*modelPermit, time.Duration) {
	if m.state == "open" {
		if left := m.period - time.Since(m.begun); left > 0 {
			return nil, left
		}
		m.enter("half-open")
	}
	p := &modelPermit{era: m.era, given: time.Now()}
	if m.state == "half-open" {
		var underway []*modelPermit
		for _, q := range m.permits {
			if q.era == m.era && !q.finished {
				underway = append(underway, q)
			}
		}
		if len(underway) >= m.cfg.HalfOpenProbes {
			if time.Since(underway[0].given) < m.cfg.ProbeTimeout {
				return nil, time.Second
			}
			underway[0].finished = true
		}
		p.probe = true
	}
	m.permits = append(m.permits, p)
	return p, 0
}

func (m *breakerModel) done(p *modelPermit, err error) {
	if p.finished || p.era != m.era {
		return
	}
	p.finished = true
	switch {
	case err == context.Canceled:
	case p.probe && err != nil:
		m.enter("open")
	case p.probe:
		if m.successes++; m.successes == m.cfg.HalfOpenSuccesses {
			m.enter("closed")
		}
	default:
		m.results = append(m.results, modelResult{m.era, time.Now(), err == nil})
		if err != nil && (m.rowTrips() || m.rateTrips()) {
			m.enter("open")
		}
	}
}

func (m *breakerModel) rowTrips() bool {
	row := 0
	for _, r := range m.results {
		if r.era == m.era {
			if row++; r.ok {
				row = 0
			}
		}
	}
	return m.cfg.ConsecutiveFailures > 0 && row >= m.cfg.ConsecutiveFailures
}

func (m *breakerModel) rateTrips() bool {
	tenth := func(at time.Time) int { return int(at.Sub(m.begun) / (m.cfg.Window / 10)) }
	calls, failed := 0, 0
	for _, r := range m.results {
		if r.era == m.era && tenth(time.Now())-tenth(r.at) < 10 {
			calls++
			if !r.ok {
				failed++
			}
		}
	}
	return m.cfg.FailureRate > 0 && calls >= m.cfg.MinCalls && float64(failed)/float64(calls) >= m.cfg.FailureRate
}

// FuzzCircuitBreaker runs a sequence of operations against the model: the first
// bytes choose the config, each of the others an operation.
func FuzzCircuitBreaker(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Add([]byte("\x02\x00\x00\x00" + "\x00\x01\x00\x01\x00\x01" + "\x00\x27\x00\x02\x00\x02"))                 // trips, recovers
	f.Add([]byte("\x01\x01\x01\x01" + "\x00\x00\x00\x00\x01\x01\x09\x02" + "\x4f\x00\x00\x01\x27\x00\x0b\x13")) // late results
	f.Add([]byte("\x01\x02\x00\x00" + "\x00\x01\x4f\x00\x00\x4f\x00\x04\x02\x04"))                              // a lost probe
	f.Add([]byte("\x00\x03\x02\x01" + "\x00\x02\x00\x01\x07\x0f\x17\x00\x01\x1f\x00\x02\x00\x01\x87\x00\x01"))  // the rate
	f.Add([]byte("\x01\x00\x01\x02" + "\x00\x01\x27\x00\x03\x04\x00\x02\x04\x05\x00\x02\x06"))                  // done twice
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) < 4 || len(ops) > 1000 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			var reported []string
			cfg := vtclient.BreakerConfig{
				ConsecutiveFailures: []int{-1, 1, 3}[ops[0]%3],
				FailureRate:         []float64{0.5, -1, 1, 0.3}[ops[1]%4],
				MinCalls:            1 + int(ops[2]%8),
				Window:              10 * time.Second,
				OpenPeriod:          time.Second,
				OpenGrowth:          []float64{2, 1, 1.5}[ops[2]%3],
				MaxOpenPeriod:       5 * time.Second,
				Jitter:              -1,
				HalfOpenProbes:      1 + int(ops[3]%3),
				HalfOpenSuccesses:   1 + int(ops[3]/3%3),
				ProbeTimeout:        4 * time.Second,
				OnStateChange: func(from, to string) {
					reported = append(reported, fmt.Sprintf("%v to %v", from, to))
				},
			}
			b, m := vtclient.NewCircuitBreaker(cfg), &breakerModel{cfg: cfg, state: "closed", begun: time.Now()}
			if err := b.Validate(); err != nil {
				t.Fatal(err)
			}
			var dones []func(error) // of the permits in m.permits
			for i, op := range ops[4:] {
				// end calls the done of a permit, the latest for arg 0. Only a
				// probe's may be called again: a closed permit's is shared.
				arg := int(op / 8)
				end := func(err error) {
					if k := len(dones) - 1 - arg%max(1, len(dones)); k >= 0 && (m.permits[k].probe || !m.permits[k].finished) {
						m.done(m.permits[k], err)
						dones[k](err)
						m.permits[k].finished = true
					}
				}
				switch op % 8 {
				case 0:
					done, err := b.Allow()
					p, wait := m.allow()
					if (p != nil) != (err == nil) {
						t.Fatalf("op %d: Allow() = %v, want a permit: %t", i, err, p != nil)
					}
					if p != nil {
						dones = append(dones, done)
					} else if got := err.(refusal).RetryAfter(); got != wait {
						t.Fatalf("op %d: RetryAfter() = %v, want %v", i, got, wait)
					}
				case 1, 3:
					end(errDown)
				case 2, 5:
					end(nil)
				case 4:
					end(context.Canceled)
				case 6: // to just before or just after a multiple of a quarter
					time.Sleep([]time.Duration{1, 250*time.Millisecond - 1}[arg%2])
				case 7:
					time.Sleep(time.Duration(arg) * 250 * time.Millisecond)
				}
				if got := b.State(); got != m.state || !slices.Equal(reported, m.changes) {
					t.Fatalf("op %d (%d): state %v after %q, want %v after %q", i, op, got, reported, m.state, m.changes)
				}
			}
		})
	})
}

func ExampleNewCircuitBreaker() {
	breaker := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{
		ConsecutiveFailures: 3,
		OpenPeriod:          time.Minute,
		Jitter:              -1, // none, so that the output below is always the same
		OnStateChange: func(from, to string) {
			fmt.Printf("breaker: %v to %v\n", from, to)
		},
	})
	// A client does this for each request, given vtclient.WithBreaker(breaker).
	for range 4 {
		done, err := breaker.Allow()
		if errors.Is(err, vtclient.ErrBreakerOpen) {
			fmt.Println("refused:", err)
			continue
		}
		done(errors.New("connection refused"))
	}
	// Output:
	// breaker: closed to open
	// refused: vtclient: circuit breaker is open (failures in a row: 3): try again in 1m0s
}

// BenchmarkBreaker measures what a breaker adds to a request: one permit and
// its result while closed, on one goroutine and on all cores at once, with both
// criteria on as in the default config; and one refusal while open.
func BenchmarkBreaker(b *testing.B) {
	b.Run("closed", func(b *testing.B) {
		cb := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{})
		b.ReportAllocs()
		for b.Loop() {
			done, err := cb.Allow()
			if err != nil {
				b.Fatal(err)
			}
			done(nil)
		}
	})
	b.Run("closed-parallel", func(b *testing.B) {
		cb := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{})
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				done, err := cb.Allow()
				if err != nil {
					b.Error(err)
					return
				}
				done(nil)
			}
		})
	})
	b.Run("open", func(b *testing.B) {
		cb := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{
			ConsecutiveFailures: 1, OpenPeriod: time.Hour, Jitter: -1,
		})
		done, _ := cb.Allow()
		done(errors.New("down"))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := cb.Allow(); err == nil {
				b.Fatal("an open breaker gave a permit")
			}
		}
	})
}
