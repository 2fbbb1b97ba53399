package vtclient

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vtclient/vtclient/internal/cadence"
)

// ended is a completion of a job without an estimate.
func ended(pending, done time.Duration, hinted bool) Completion {
	return Completion{PendingAt: pending, DoneBy: done, Hinted: hinted}
}

// somewhat teaches a n jobs of about three minutes; hinted reports, for each i from 0, whether it ended with a hint.
func somewhat(a *Adaptive, r *rand.Rand, n int, hinted func(i int) bool) {
	for i := range n {
		d := time.Duration(180e9 * math.Exp(0.3*r.NormFloat64()))
		a.Learn(ended(d-d/20, d, hinted(i)))
	}
}

func allPolled(int) bool { return false }

// scripted returns draws one after the other, over and over.
func scripted(draws ...float64) func() float64 {
	i := 0
	return func() float64 { i++; return draws[(i-1)%len(draws)] }
}

// near fails the test unless got is want, but for rounding.
func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*max(1, math.Abs(want))) {
		t.Errorf("%s: %.12g, want %.12g", what, got, want)
	}
}

// The schedules are those for the present price, whether there is a new estimate or not.
func TestSchedulesFollowThePrice(t *testing.T) {
	follows := func(t *testing.T, a *Adaptive) {
		t.Helper()
		p := a.price()
		for _, at := range []Attempt{{}, {Shared: 16}, {Expected: 4 * time.Second}, {Expected: 4 * time.Second, Shared: 16}} {
			s, _ := a.schedule(at, time.Time{})
			taught := 1 - 0.6/(1+float64(s.Jobs)/3) // the share of the price that a request does not earn back by what it teaches
			if q := s.Cost / taught * at.unit(s) * math.Exp2(float64(shareClass(at.Shared))) / p; q > 1.2001 || q < 1/1.2001 {
				t.Errorf("%+v: the schedule is for a request worth %v times the present price", at, q)
			}
		}
	}
	r := rand.New(rand.NewPCG(2, 2))
	a := NewAdaptive(time.Second)
	a.hintsCome()
	for i := range 40 {
		e := time.Duration(3e9 * math.Exp(0.2*r.NormFloat64()))
		a.Learn(Completion{PendingAt: e - e/30, DoneBy: e, Expected: 4 * time.Second, Hinted: i%20 != 7})
		follows(t, a)
	}
	somewhat(a, r, 300, func(i int) bool { return i%40 != 7 })
	follows(t, a)
	state, _ := a.MarshalText()

	// Hints cease, in what was learnt here and in what was restored. What is restored
	// does not depend on what was known before.
	unwary, poller := NewAdaptive(time.Second), NewAdaptive(time.Second)
	somewhat(poller, r, 40, allPolled)
	for what, b := range map[string]*Adaptive{"taught": a, "restored": unwary, "restored over polls": poller} {
		t.Run(what, func(t *testing.T) {
			if b != a {
				if err := b.UnmarshalText(state); err != nil {
					t.Fatal(err)
				}
				follows(t, b)
			}
			most := b.price()
			for range 10 {
				b.Learn(ended(170*time.Second, 180*time.Second, false))
				follows(t, b)
			}
			if p := b.price(); p > 1.2 || most < 8 {
				t.Errorf("the price went from %v to %v", most, p)
			}
		})
	}
}

// The schedules for estimates are kept for eight octaves, and none is made twice.
func TestSchedulesAreKept(t *testing.T) {
	a := NewAdaptive(time.Second)
	size := func(i int) Attempt { return Attempt{Expected: time.Second << i} }
	made := make(map[int]*cadence.Schedule)
	for i := range 8 {
		made[i], _ = a.schedule(size(i), time.Time{})
	}
	for i := range 8 {
		if s, _ := a.schedule(size(i), time.Time{}); s != made[i] || size(i).unit(s) != float64(int(1)<<i) {
			t.Errorf("the schedule of size %d was made anew, or its unit is %v", i, size(i).unit(s))
		}
	}
	// Others that are asked for take their places.
	for i := 8; i < 12; i++ {
		if s, _ := a.schedule(size(i), time.Time{}); s == made[i-8] {
			t.Errorf("the schedule of size %d is that of %d", i, i-8)
		}
	}
	for i := 4; i < 8; i++ {
		if s, _ := a.schedule(size(i), time.Time{}); s != made[i] {
			t.Errorf("the schedule of size %d was made anew", i)
		}
	}
	a.renew([2]bool{cadence.Plain: true})
	if s, _ := a.schedule(size(7), time.Time{}); s != made[7] {
		t.Error("a schedule was made anew that is up to date")
	}
	a.renew([2]bool{cadence.Ratio: true})
	if s, _ := a.schedule(size(7), time.Time{}); s == made[7] {
		t.Error("a schedule is out of date")
	}
	// Half octaves of the estimate: 1.19 times a size and less is the same.
	for _, tt := range []struct {
		expected time.Duration
		same     bool // as of one second
	}{{1180 * time.Millisecond, true}, {1200 * time.Millisecond, false}, {850 * time.Millisecond, true}, {840 * time.Millisecond, false}} {
		b := NewAdaptive(time.Second)
		one, _ := b.schedule(Attempt{Expected: time.Second, Shared: 4}, time.Time{})
		at := Attempt{Expected: tt.expected, Shared: 4}
		s, _ := b.schedule(at, time.Time{})
		if unit := at.unit(s); unit != tt.expected.Seconds() || (s == one) != tt.same {
			t.Errorf("%v: the unit is %v, the schedule that of one second: %v", tt.expected, unit, s == one)
		}
	}
}

// Many jobs that begin at once are not polled more for what that teaches: it would come too
// late for them.
func TestManyAtOnceArePolledAtFullPrice(t *testing.T) {
	for n, want := range map[int]float64{0: 0.4, 1: 0.4, 2: 1 - 0.6*3/4, 32: 1 - 0.6*3/34, 1000: 1 - 0.6*3/66} {
		a := NewAdaptive(time.Second)
		for range n {
			a.Next(Attempt{Number: 1, Elapsed: time.Millisecond, PendingAt: time.Millisecond})
		}
		s, _ := a.schedule(Attempt{}, time.Time{})
		near(t, "what a request counts", s.Cost, want, 1e-9)
	}
}

// Where jobs end at full minutes of the time of day, polls come just behind them, and
// where the start is not known they come as ever.
func TestPollsFollowTheTimeOfDay(t *testing.T) {
	a := NewAdaptive(time.Second)
	a.Seed(1)
	r := rand.New(rand.NewPCG(1, 1))
	day := time.Date(2030, 5, 6, 7, 0, 0, 0, time.UTC)
	for range 80 {
		start := day.Add(time.Duration(r.Float64() * float64(24*time.Hour)))
		end := start.Add(time.Duration(180e9 * math.Exp(.3*r.NormFloat64()))).Truncate(time.Minute).Add(time.Minute + 100*time.Millisecond)
		x := end.Sub(start)
		for at := (Attempt{}); ; at.Number++ {
			d, _ := a.nextFrom(at, start)
			if at.Elapsed += d; at.Elapsed >= x {
				a.learnFrom(Completion{PendingAt: at.PendingAt, DoneBy: at.Elapsed}, start)
				break
			}
			at.PendingAt = at.Elapsed
		}
	}
	near := 0
	for range 100 {
		start := day.Add(time.Duration(r.Float64() * float64(24*time.Hour)))
		d, _ := a.nextFrom(Attempt{Elapsed: 2 * time.Minute, PendingAt: 2 * time.Minute, Number: 3}, start)
		end := start.Add(2*time.Minute + d)
		if past := end.Sub(end.Truncate(time.Minute)); past > 100*time.Millisecond && past < 3*time.Second {
			near++
		}
	}
	if near < 85 { // some are polled earlier, to see changes
		t.Errorf("%d of 100 jobs are polled just after a full minute", near)
	}
	if _, later := a.schedule(Attempt{}, time.Time{}); later != 0 {
		t.Errorf("ages of a job without a start are later by %v", later)
	}
}

// A call that asks while a schedule is being renewed gets the one before.
func TestNextDoesNotWaitForARenewal(t *testing.T) {
	a := NewAdaptive(time.Second)
	for _, at := range []Attempt{{}, {Shared: 16}, {Expected: time.Minute}} {
		before, _ := a.schedule(at, time.Time{})
		a.mu.Lock()
		a.renew([2]bool{true, true})
		during, _ := a.schedule(at, time.Time{})
		a.mu.Unlock()
		if during != before {
			t.Errorf("%+v: another schedule", at)
		}
		if after, _ := a.schedule(at, time.Time{}); after == before {
			t.Errorf("%+v: the schedule was not renewed", at)
		}
	}
}

// What is learnt reaches the schedules of all kinds of jobs.
func TestLessonsReachAllSchedules(t *testing.T) {
	a := NewAdaptive(time.Second)
	for i := range 12 {
		d := time.Duration(60+i) * time.Second
		a.Learn(ended(d-time.Second, d, false))
		a.Learn(Completion{PendingAt: d - time.Second, DoneBy: d, Expected: time.Minute})
		for _, at := range []Attempt{{}, {Shared: 16}} {
			if s, _ := a.schedule(at, time.Time{}); s.Jobs != i+1 {
				t.Errorf("%+v: a schedule of %d jobs after %d", at, s.Jobs, i+1)
			}
		}
		for _, at := range []Attempt{{Expected: time.Minute}, {Expected: time.Hour, Shared: 16}} {
			if s, _ := a.schedule(at, time.Time{}); s.Jobs != i+1 {
				t.Errorf("%+v: a schedule of %d jobs after %d with an estimate", at, s.Jobs, i+1)
			}
		}
	}
}

// Four times as many jobs to a request are a class further, up to the last.
func TestShareClass(t *testing.T) {
	for n, want := range map[int]int{math.MinInt: 0, -1: 0, 0: 0, 1: 0, 2: 1, 7: 1, 8: 2, 31: 2, 32: 3, 127: 3, 128: 4, 256: 4, 1 << 20: 4, math.MaxInt: 4} {
		if got := shareClass(n); got != want {
			t.Errorf("%d jobs are of class %d, want %d", n, got, want)
		}
	}
	for class, want := range []float64{1, 0.5, 0.25, 0.125} {
		near(t, "the price for one of the jobs", sharePrice(class), want, 1e-12)
	}
}

func TestToDuration(t *testing.T) {
	for _, tt := range []struct {
		s      float64
		lo, hi time.Duration
		want   time.Duration
	}{
		{1.5, 0, time.Hour, 1500 * time.Millisecond},
		{-1, 0, time.Hour, 0},
		{0.5, time.Second, time.Hour, time.Second},
		{1e9, 0, time.Hour, time.Hour},
		{math.NaN(), 3, time.Hour, 3},
		{math.Inf(1), 0, math.MaxInt64, math.MaxInt64},
		{math.Inf(-1), 7, math.MaxInt64, 7},
		{1e300, 0, math.MaxInt64 / 2, math.MaxInt64 / 2},
		{math.MaxInt64 / 1e9, 0, math.MaxInt64, math.MaxInt64}, // rounded, it is one too much
	} {
		if got := toDuration(tt.s, tt.lo, tt.hi); got != tt.want {
			t.Errorf("%v within %v and %v: %v, want %v", tt.s, tt.lo, tt.hi, got, tt.want)
		}
	}
}

// What makes no sense is taken for the nearest that does.
func TestAdaptiveTakesWhatMakesSense(t *testing.T) {
	a := NewAdaptive(time.Second)
	a.chance = scripted(0.5)
	somewhat(a, rand.New(rand.NewPCG(11, 11)), 30, allPolled)
	a.explore.Store(0)
	const m = time.Minute
	for _, tt := range []struct {
		rule     string
		at, like Attempt
	}{
		{"an age before the beginning", Attempt{Elapsed: -m}, Attempt{}},
		{"pending before the beginning", Attempt{Elapsed: m, PendingAt: -m}, Attempt{Elapsed: m}},
		{"pending in the future", Attempt{Elapsed: m, PendingAt: 2 * m}, Attempt{Elapsed: m, PendingAt: m}},
		{"both before the beginning", Attempt{Elapsed: -2 * m, PendingAt: -m}, Attempt{}},
		{"a negative estimate", Attempt{Elapsed: m, PendingAt: m, Expected: -m}, Attempt{Elapsed: m, PendingAt: m}},
		{"polls that saw nothing", Attempt{Elapsed: m, Number: 1}, Attempt{Elapsed: m, PendingAt: m}},
		{"a negative number of polls", Attempt{Elapsed: m, Number: -1}, Attempt{Elapsed: m}},
		{"polls that saw it pending", Attempt{Elapsed: 2 * m, PendingAt: m, Number: 1}, Attempt{Elapsed: 2 * m, PendingAt: m}},
	} {
		a.explore.Store(0)
		got, _ := a.Next(tt.at)
		a.explore.Store(0)
		if want, _ := a.Next(tt.like); got != want {
			t.Errorf("%s: %v, want %v", tt.rule, got, want)
		}
		// Explain has no number of polls to go by.
		f, want := a.Explain(tt.at), a.Explain(tt.like)
		if tt.at.Number == 0 && (f.Median != want.Median || f.P90 != want.P90 || !slices.Equal(f.Polls, want.Polls)) {
			t.Errorf("%s: %+v, want %+v", tt.rule, f, want)
		}
	}
	if d, _ := a.Next(Attempt{Elapsed: time.Hour}); d != minDelay {
		t.Errorf("an overdue poll is due in %v", d)
	}
}

// Explain's polls are those that Next would make, but for the shifts.
func TestExplainIsWhatNextDoes(t *testing.T) {
	a := NewAdaptive(time.Second)
	a.chance = scripted(0.5)
	r := rand.New(rand.NewPCG(12, 12))
	somewhat(a, r, 60, allPolled)
	for range 40 {
		d := time.Duration(50e9 * math.Exp(0.3*r.NormFloat64()))
		a.Learn(Completion{PendingAt: d - d/20, DoneBy: d, Expected: 40 * time.Second})
	}
	for _, at := range []Attempt{
		{}, {Elapsed: 3 * time.Minute, PendingAt: 2 * time.Minute}, {Elapsed: time.Hour, PendingAt: 0}, {Elapsed: 4000 * time.Hour, PendingAt: 4000 * time.Hour},
		{Expected: 40 * time.Second}, {Expected: 40 * time.Second, Elapsed: time.Minute, PendingAt: time.Minute}, {Shared: 20},
	} {
		s, _ := a.schedule(at, time.Time{})
		a.explore.Store(0)
		f := a.Explain(at)
		if len(f.Polls) != 5 || f.Jobs != s.Jobs {
			t.Fatalf("%+v: %+v", at, f)
		}
		walk := at
		for i, age := range f.Polls {
			a.explore.Store(0)
			d, _ := a.Next(walk)
			if got := walk.Elapsed + d; math.Abs(got.Seconds()-age.Seconds()) > 1e-6*age.Seconds()+minDelay.Seconds() {
				t.Errorf("%+v: poll %d at %v, and at %v in Explain", at, i, got, age)
			}
			walk.Elapsed, walk.PendingAt = age, age
		}
		unit := at.unit(s)
		pend := at.PendingAt.Seconds() / unit
		for share, got := range map[float64]time.Duration{0.5: f.Median, 0.9: f.P90} {
			want := max(0, s.Quantile(pend, share)*unit-at.Elapsed.Seconds())
			near(t, "a quantile", got.Seconds(), want, 1e-6)
		}
	}
	// A clock that has run out: no poll is listed twice.
	far := a.Explain(Attempt{Elapsed: math.MaxInt64, PendingAt: math.MaxInt64})
	if len(far.Polls) != 1 {
		t.Errorf("at the end of time: %v", far.Polls)
	}
}

// Adaptives that start together explore at different times.
func TestExplorationsBeginAnywhere(t *testing.T) {
	seen := make(map[uint32]bool)
	for range 20 {
		seen[NewAdaptive(time.Second).explore.Load()] = true
	}
	if len(seen) < 15 {
		t.Errorf("20 Adaptives begin at %d different points", len(seen))
	}
}

// Seed makes all that is random in a follow from seed. To be called before a is
// used.
func (a *Adaptive) Seed(seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	a.explore.Store(r.Uint32())
	var mu sync.Mutex
	a.chance = func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64()
	}
}
