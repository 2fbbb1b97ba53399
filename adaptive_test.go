package vtclient_test

import (
	"encoding"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/race"
	"github.com/vtclient/vtclient/internal/yardstick"
)

var (
	_ vtclient.Learner         = (*vtclient.Adaptive)(nil)
	_ encoding.TextMarshaler   = (*vtclient.Adaptive)(nil)
	_ encoding.TextUnmarshaler = (*vtclient.Adaptive)(nil)
)

const maxDuration = time.Duration(math.MaxInt64)

// seeded returns an Adaptive that does the same in each run.
func seeded(cost time.Duration, seed uint64) *vtclient.Adaptive {
	a := vtclient.NewAdaptive(cost)
	a.Seed(seed)
	return a
}

// taught returns an Adaptive that has waited for n jobs of d.
func taught(cost time.Duration, n int, d dist, seed uint64) *vtclient.Adaptive {
	a := seeded(cost, seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range n {
		follow(a, d.Draw(r))
	}
	return a
}

func text(t testing.TB, a *vtclient.Adaptive) string {
	t.Helper()
	b, err := a.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAdaptiveNextAlwaysSensible(t *testing.T) {
	ages := []time.Duration{math.MinInt64, -1, 0, 1, time.Millisecond, time.Minute, 61 * time.Second,
		115 * 24 * time.Hour, 117 * 24 * time.Hour, 100 * 365 * 24 * time.Hour, maxDuration}
	costs := []time.Duration{math.MinInt64, 0, 1, time.Millisecond, time.Second, time.Hour, maxDuration}
	for _, cost := range costs {
		fresh := vtclient.NewAdaptive(cost)
		known := vtclient.NewAdaptive(cost)
		for i := range 40 {
			known.Learn(vtclient.Completion{PendingAt: 60 * time.Second, DoneBy: time.Duration(60400+i) * time.Millisecond})
			known.Learn(vtclient.Completion{PendingAt: 60 * time.Second, DoneBy: 61 * time.Second, Expected: time.Minute})
		}
		for _, a := range []*vtclient.Adaptive{fresh, known, new(vtclient.Adaptive)} {
			for _, exp := range ages {
				for _, now := range ages {
					for _, pend := range ages {
						for _, num := range []int{math.MinInt, 0, math.MaxInt} {
							d, ok := a.Next(vtclient.Attempt{Number: num, Elapsed: now, PendingAt: pend, Expected: exp})
							if !ok || d <= 0 || d > maxDuration/2 {
								t.Fatalf("cost %v: Next(%d, %v, %v, %v) = %v, %v", cost, num, now, pend, exp, d, ok)
							}
						}
					}
				}
			}
		}
	}
}

func TestAdaptiveZeroValueIsOneSecond(t *testing.T) {
	var zero vtclient.Adaptive
	at := vtclient.Attempt{Elapsed: time.Hour, PendingAt: time.Hour}
	want := vtclient.NewAdaptive(time.Second).Explain(at)
	for _, a := range []*vtclient.Adaptive{&zero, vtclient.NewAdaptive(0), vtclient.NewAdaptive(-5)} {
		if got := a.Explain(at); got.Polls[0] != want.Polls[0] {
			t.Errorf("first poll at %v, want %v", got.Polls[0], want.Polls[0])
		}
	}
}

func TestAdaptiveLongJobsStayPolled(t *testing.T) {
	a := taught(time.Second, 100, uniform("", 60, 61), 3)
	var at vtclient.Attempt
	for at.Elapsed < 1000*24*time.Hour {
		d, _ := a.Next(at)
		if at.Elapsed > 2*time.Minute && d > at.Elapsed/2 {
			t.Fatalf("at %v the next poll is %v away", at.Elapsed, d)
		}
		at.Elapsed += d
		at.PendingAt = at.Elapsed
		at.Number++
	}
	if at.Number > 20000 {
		t.Errorf("%d polls in 1000 days", at.Number)
	}
}

// TestAdaptiveFarBeyondExperience: hours past everything known, gaps are still
// those for a job of which only the age is known, not the learnt ones and
// not ever doubling ones.
func TestAdaptiveFarBeyondExperience(t *testing.T) {
	for _, n := range []int{0, 5, 300} {
		a := taught(time.Second, n, uniform("", 60, 61), 3)
		for _, age := range []time.Duration{time.Hour, 5 * time.Hour, 24 * time.Hour, 30 * 24 * time.Hour} {
			d, _ := a.Next(vtclient.Attempt{Number: 9, Elapsed: age, PendingAt: age})
			flat := math.Sqrt(2 * age.Seconds())
			if d.Seconds() < flat/4 || d.Seconds() > 4*flat {
				t.Errorf("%d jobs, at %v the next poll is %v away", n, age, d)
			}
		}
	}
}

func TestAdaptiveOverdueIsNow(t *testing.T) {
	a := taught(time.Second, 100, uniform("", 60, 61), 3)
	if d, _ := a.Next(vtclient.Attempt{Elapsed: time.Hour}); d > 10*time.Millisecond {
		t.Errorf("the first poll of a job that should be over comes after %v", d)
	}
	// A caller that never passes PendingAt must not get a busy loop.
	if d, _ := a.Next(vtclient.Attempt{Number: 3, Elapsed: time.Hour}); d < time.Second {
		t.Errorf("after a poll the next comes after %v", d)
	}
}

func TestAdaptiveExpect(t *testing.T) {
	a := seeded(time.Second, 1)
	for _, e := range []time.Duration{time.Minute, time.Hour} {
		f := a.Explain(vtclient.Attempt{Expected: e})
		if f.Median < e*8/10 || f.Median > e*12/10 || f.Jobs != 0 {
			t.Errorf("no history, expected %v: %+v", e, f)
		}
	}
	// Every job takes 0.7 times the estimate, and a part that is the same for all.
	for _, part := range []time.Duration{0, 2 * time.Minute} {
		a, r := seeded(time.Second, 1), rand.New(rand.NewPCG(1, 2))
		takes := func(e time.Duration) time.Duration { return part + e*7/10 }
		for range 150 {
			e := time.Duration(float64(time.Minute) * math.Exp(2*r.Float64()))
			cut(a, takes(e)+e*time.Duration(r.IntN(10))/1000, e)
		}
		restored := vtclient.NewAdaptive(time.Second)
		if err := restored.UnmarshalText([]byte(text(t, a))); err != nil {
			t.Fatal(err)
		}
		for _, a := range []*vtclient.Adaptive{a, restored} {
			for _, e := range []time.Duration{20 * time.Second, 5 * time.Minute, time.Hour} { // lengths never seen before, too
				f, want := a.Explain(vtclient.Attempt{Expected: e}), takes(e)
				if f.Median < want*94/100 || f.Median > want*107/100 || f.P90 > want*112/100 {
					t.Errorf("%v and 0.7 times %v: median %v, 90 %% %v, want about %v", part, e, f.Median, f.P90, want)
				}
			}
		}
	}
}

func TestAdaptiveHintsMakePollsDearer(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a, b := vtclient.NewAdaptive(time.Second), vtclient.NewAdaptive(time.Second)
	for i := range 300 {
		x := time.Duration(600 * r.ExpFloat64() * 1e9)
		c := vtclient.Completion{PendingAt: x - x/50, DoneBy: x}
		a.Learn(c)
		c.Hinted = i%10 != 0
		b.Learn(c)
	}
	at := vtclient.Attempt{Elapsed: 5 * time.Minute, PendingAt: 5 * time.Minute}
	ga, gb := a.Explain(at).Polls[0]-at.Elapsed, b.Explain(at).Polls[0]-at.Elapsed
	// √10 = 3.2
	if q := float64(gb) / float64(ga); q < 1.8 || q > 4.5 {
		t.Errorf("with nine in ten hinted, gaps grow by %.2f (%v, %v)", q, ga, gb)
	}
}

// Hints that nearly all come make polls rare; when they cease, a few jobs are enough
// to poll as if there had been none, and when they come back, to rely on them again.
func TestAdaptiveHintsThatCeaseAndReturn(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a, b := vtclient.NewAdaptive(time.Second), vtclient.NewAdaptive(time.Second)
	learn := func(n int, hinted func(i int) bool) {
		for i := range n {
			x := time.Duration(600 * r.ExpFloat64() * 1e9)
			c := vtclient.Completion{PendingAt: x - x/50, DoneBy: x}
			a.Learn(c)
			c.Hinted = hinted(i)
			b.Learn(c)
		}
	}
	gaps := func(what string, least, most float64) {
		t.Helper()
		at := vtclient.Attempt{Elapsed: 5 * time.Minute, PendingAt: 5 * time.Minute}
		ga, gb := a.Explain(at).Polls[0]-at.Elapsed, b.Explain(at).Polls[0]-at.Elapsed
		if q := float64(gb) / float64(ga); q < least || q > most {
			t.Errorf("%s, gaps are %.2f times as long as without hints, want %v to %v", what, q, least, most)
		}
	}
	never := func(int) bool { return false }
	most := func(i int) bool { return i%50 != 30 }
	learn(300, most)
	gaps("with 49 of 50 hints", 4, 10) // √50 = 7.1
	learn(1, never)
	gaps("after one without", 1.5, 6)
	// The schedule is not computed anew after each job, but the more for a surprise.
	learn(12, never)
	gaps("after twelve more", 0.8, 1.25)
	learn(12, most)
	gaps("when they are back", 4, 10)
}

func TestAdaptiveGarbageTeachesNothing(t *testing.T) {
	a := taught(time.Second, 50, uniform("", 60, 61), 3)
	before := text(t, a)
	for _, c := range []vtclient.Completion{
		{}, {DoneBy: -1}, {PendingAt: -1}, {PendingAt: 2, DoneBy: 1}, {PendingAt: math.MinInt64, DoneBy: math.MinInt64},
		{PendingAt: maxDuration, DoneBy: 1},
	} {
		a.Learn(c)
	}
	if text(t, a) != before {
		t.Error("nonsense was learnt")
	}
	for range 100 {
		a.Learn(vtclient.Completion{PendingAt: -5, DoneBy: 1})
		a.Learn(vtclient.Completion{DoneBy: maxDuration, Expected: 1})
		a.Learn(vtclient.Completion{PendingAt: maxDuration, DoneBy: maxDuration})
		a.Learn(vtclient.Completion{PendingAt: maxDuration, Expected: 1})
		a.Learn(vtclient.Completion{DoneBy: 1, Expected: maxDuration, Hinted: true})
	}
	for _, e := range []time.Duration{0, 1, time.Minute, maxDuration} {
		at := vtclient.Attempt{Expected: e}
		for range 50 {
			d, ok := a.Next(at)
			if d <= 0 || !ok {
				t.Fatalf("Next(%+v) = %v, %v", at, d, ok)
			}
			if at.Elapsed > maxDuration-d {
				break
			}
			at.Elapsed += d
			at.PendingAt = at.Elapsed
		}
	}
}

func TestAdaptiveReplicasDoNotMarchInStep(t *testing.T) {
	st := text(t, taught(time.Second, 60, lognormal("", 180, .3), 5))
	seen := map[time.Duration]bool{}
	for range 30 {
		var a vtclient.Adaptive
		if err := a.UnmarshalText([]byte(st)); err != nil {
			t.Fatal(err)
		}
		d, _ := a.Next(vtclient.Attempt{})
		seen[d.Round(10*time.Millisecond)] = true
	}
	// The shifts span some seconds, hundreds of such times: that half of thirty
	// should coincide by chance has a probability below 1e-12.
	if len(seen) < 15 {
		t.Errorf("30 replicas poll at %d different times", len(seen))
	}
}

func TestAdaptiveState(t *testing.T) {
	a := taught(time.Second, 200, lognormal("", 180, .3), 5)
	for range 30 {
		a.Learn(vtclient.Completion{PendingAt: 70 * time.Second, DoneBy: 80 * time.Second, Expected: time.Minute, Hinted: true})
		a.Learn(vtclient.Completion{PendingAt: 70 * time.Second})
	}
	st := text(t, a)
	var b vtclient.Adaptive
	if err := b.UnmarshalText([]byte(st)); err != nil {
		t.Fatal(err)
	}
	if got := text(t, &b); got != st {
		t.Error("the state changes on its way through")
	}
	for _, at := range []vtclient.Attempt{{}, {Expected: time.Hour}, {Elapsed: 3 * time.Minute, PendingAt: 3 * time.Minute}} {
		fa, fb := a.Explain(at), b.Explain(at)
		if q := float64(fa.Median) / float64(fb.Median); q < .95 || q > 1.05 {
			t.Errorf("%+v: before %+v, after %+v", at, fa, fb)
		}
	}
	if len(st) > 64<<10 {
		t.Errorf("the state has %d bytes", len(st))
	}
}

// A text that is no state leaves everything as it was; of a state with lines that cannot
// be read the others are learnt.
func TestAdaptiveStateRefused(t *testing.T) {
	const head = "vtclient-adaptive 1\nhints 0 0\n"
	a := taught(time.Second, 20, uniform("", 60, 61), 3)
	before := text(t, a)
	for _, s := range []string{"", "x", "vtclient-adaptive 2\n", "vtclient-adaptive 1 \n", head + strings.Repeat(" ", 1<<20)} {
		err := a.UnmarshalText([]byte(s))
		if err == nil || errors.Is(err, vtclient.ErrStateIncomplete) {
			t.Errorf("%.40q: %v", s, err)
		}
	}
	if text(t, a) != before {
		t.Error("a refused state has left traces")
	}
	err := a.UnmarshalText([]byte(head + "p 58 60\np 2 1\np 58 61\np NaN 1" + strings.Repeat("0", 2000) + "\n"))
	if !errors.Is(err, vtclient.ErrStateIncomplete) || !strings.Contains(err.Error(), "line 4: not an interval (lines left out: 2)") || len(err.Error()) > 200 {
		t.Errorf("lines that cannot be read: %v", err)
	}
	if f := a.Explain(vtclient.Attempt{}); f.Jobs != 2 {
		t.Errorf("%d jobs are left of two readable lines", f.Jobs)
	}
}

func TestAdaptiveMerge(t *testing.T) {
	const n = 200
	a := taught(time.Second, n, uniform("", 60, 61), 3)
	b := taught(time.Second, n, uniform("", 600, 610), 4)
	a.Merge(nil)
	a.Merge(a)
	if got := a.Explain(vtclient.Attempt{}); got.Jobs < n-10 || got.Jobs > n {
		t.Errorf("merging with itself: %d jobs", got.Jobs)
	}
	a.Merge(b)
	f := a.Explain(vtclient.Attempt{})
	if f.Jobs < 2*n-20 || f.Jobs > 2*n || f.P90 < 595*time.Second || f.P90 > 620*time.Second {
		t.Errorf("merged: %+v", f)
	}
	if f.Polls[0] > 70*time.Second {
		t.Errorf("merged: first poll at %v", f.Polls[0])
	}
}

func TestAdaptiveConcurrent(t *testing.T) {
	a, b := vtclient.NewAdaptive(time.Second), vtclient.NewAdaptive(time.Second)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 0))
			x, y := a, b
			if i%2 == 0 {
				x, y = b, a
			}
			for j := range 24 {
				e := time.Duration(j%3) * time.Minute
				d, _ := x.Next(vtclient.Attempt{Expected: e})
				x.Learn(vtclient.Completion{PendingAt: d, DoneBy: d + time.Duration(r.Int64N(1e9)), Expected: e})
				x.Explain(vtclient.Attempt{Expected: e})
				if j%12 == 11 {
					x.Merge(y)
					st, _ := x.MarshalText()
					if err := y.UnmarshalText(st); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestAdaptiveNextAllocatesNothing(t *testing.T) {
	a := taught(time.Second, 100, lognormal("", 180, .3), 5)
	for _, at := range []vtclient.Attempt{{}, {Elapsed: 3e11, PendingAt: 3e11}, {Expected: time.Hour}} {
		if n := testing.AllocsPerRun(100, func() { a.Next(at) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// Whatever text is read, the text that is written is read back whole and as the same; a
// merge is a union of sets; and every answer is finite.
func FuzzAdaptiveState(f *testing.F) {
	own := text(f, taught(time.Second, 40, lognormal("", 180, .3), 5))
	for _, s := range []string{
		"", "p 0 61.5\np 55 -\np 1 2 0.25\nr 0.5 1.5\n", "p 0 1e10\np 1e10 1e10\np 1e-300 1e-299\nr 0 5e-324\n",
		"p 1 2 #1\nP 1 2 #1\np 3 4 #1\nr 1 2 #1\n", "hints 1e10 1e10\np 5 5 5e-324\n",
	} {
		f.Add([]byte("vtclient-adaptive 1\nhints 3.5 2\n"+s), []byte(own))
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		read := func(b []byte) *vtclient.Adaptive {
			a := vtclient.NewAdaptive(time.Second)
			a.UnmarshalText(b) // of what is refused there is a state without jobs
			return a
		}
		union := func(texts ...[]byte) string {
			all := read(texts[0])
			for _, b := range texts[1:] {
				all.Merge(read(b))
			}
			return text(t, all)
		}
		a := read(one)
		for _, at := range []vtclient.Attempt{{}, {Elapsed: 1e9, PendingAt: 1e9}, {Elapsed: 1e18, PendingAt: 1e12, Expected: 1e10}, {Shared: 99, Expected: 1}} {
			if d, ok := a.Next(at); d <= 0 || d > math.MaxInt64/2 || !ok {
				t.Fatalf("Next(%+v) = %v, %v", at, d, ok)
			}
			if e := a.Explain(at); e.Median < 0 || e.P90 < e.Median || !slices.IsSorted(e.Polls) || e.Jobs < 0 {
				t.Fatalf("Explain(%+v) = %+v", at, e)
			}
		}
		state := text(t, a)
		if err := vtclient.NewAdaptive(time.Second).UnmarshalText([]byte(state)); err != nil {
			t.Fatal(err)
		}
		if again := text(t, read([]byte(state))); again != state {
			t.Fatalf("read and written again:\n%s\nwant\n%s", again, state)
		}
		ab := union(one, two)
		if ba := union(two, one); ab != ba {
			t.Fatalf("two orders differ:\n%s\nand\n%s", ab, ba)
		}
		// A line without an id is a job like no other.
		if strings.Count(ab, " #") == strings.Count(ab, "\n")-2 {
			if aba := union(one, two, one); aba != ab {
				t.Fatalf("merged once more:\n%s\nwant\n%s", aba, ab)
			}
		}
	})
}

func BenchmarkAdaptiveNext(b *testing.B) {
	a := vtclient.NewAdaptive(time.Second) // with the random numbers that it uses otherwise
	if err := a.UnmarshalText([]byte(text(b, taught(time.Second, 500, lognormal("", 180, .3), 5)))); err != nil {
		b.Fatal(err)
	}
	for name, at := range map[string]vtclient.Attempt{"first": {}, "later": {Elapsed: 18e10, PendingAt: 18e10, Number: 5}, "expect": {Expected: time.Hour}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a.Next(at)
			}
		})
	}
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				a.Next(vtclient.Attempt{})
			}
		})
	})
}

// BenchmarkAdaptiveMemory reports what an Adaptive holds after many jobs, in kB: without
// estimates, and with estimates of more magnitudes than it keeps schedules for.
func BenchmarkAdaptiveMemory(b *testing.B) {
	for name, expect := range map[string]bool{"plain": false, "expect": true} {
		b.Run(name, func(b *testing.B) {
			const n = 20
			var held [n]*vtclient.Adaptive
			heap := func() uint64 {
				runtime.GC()
				runtime.GC() // the pools of scratch space need two
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.HeapAlloc
			}
			for b.Loop() {
				clear(held[:])
				before := heap()
				for i := range held {
					a := vtclient.NewAdaptive(time.Second)
					r := rand.New(rand.NewPCG(uint64(i), 1))
					for range 700 {
						x := time.Duration(180e9 * math.Exp(.3*r.NormFloat64()))
						c := vtclient.Completion{PendingAt: x - x/20, DoneBy: x + x/20}
						a.Learn(c)
						if expect {
							c.Expected = time.Duration(float64(x) * (.8 + .4*r.Float64()))
							a.Learn(c)
						}
					}
					if expect {
						for e := time.Second; e < 48*time.Hour; e += e / 4 {
							a.Next(vtclient.Attempt{Expected: e})
						}
					}
					held[i] = a
				}
				b.ReportMetric(float64(heap()-before)/n/1024, "kB/Adaptive")
			}
			runtime.KeepAlive(&held)
		})
	}
}

// BenchmarkAdaptiveLearn includes the share of the new estimates.
func BenchmarkAdaptiveLearn(b *testing.B) {
	for _, g := range []struct {
		name   string
		old    int // jobs before
		jobs   int // until it starts again; 0: never
		expect bool
	}{{"first hundred", 0, 100, false}, {"later", 500, 0, false}, {"expect first hundred", 0, 100, true}, {"expect later", 500, 0, true}} {
		b.Run(g.name, func(b *testing.B) {
			a := taught(time.Second, g.old, lognormal("", 180, .3), 5)
			r := rand.New(rand.NewPCG(1, 1))
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if i++; i == g.jobs {
					a, i = vtclient.NewAdaptive(time.Second), 0
				}
				x := time.Duration(180e9 * math.Exp(.3*r.NormFloat64()))
				c := vtclient.Completion{PendingAt: x - x/20, DoneBy: x + x/20}
				if g.expect {
					c.Expected = max(time.Second, time.Duration(float64(x)*(.9+.2*r.Float64()))-time.Minute)
				}
				a.Learn(c)
			}
		})
	}
}

// What the cadence costs is measured in internal/cadence; here it is seen from outside.
type dist = yardstick.Dist

var lognormal, uniform = yardstick.LogNormal, yardstick.Uniform

// follow waits for a job of the duration x seconds from its start with no first check, as
// a client does.
func follow(b vtclient.Learner, x float64) {
	var at vtclient.Attempt
	for {
		d, _ := b.Next(at)
		at.Elapsed += d
		at.Number++
		if at.Elapsed.Seconds() >= x {
			b.Learn(vtclient.Completion{PendingAt: at.PendingAt, DoneBy: at.Elapsed})
			return
		}
		at.PendingAt = at.Elapsed
	}
}

// noRace skips what simulates in single goroutines, where the race detector
// finds nothing and takes ten times as long.
func noRace(t *testing.T) {
	t.Helper()
	if race.Enabled {
		t.Skip("nothing here for the race detector")
	}
}

var update = flag.Bool("update", false, "write testdata/adaptive.golden anew")

// histories are what an Adaptive may have behind it.
var histories = []struct {
	name  string
	cost  time.Duration
	learn func(a *vtclient.Adaptive, r *rand.Rand)
}{
	{"nothing", time.Second, func(*vtclient.Adaptive, *rand.Rand) {}},
	{"one job", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { cut(a, 3*time.Minute, 0) }},
	{"few jobs", 2 * time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { logNormal(a, r, 8, 0.3, 0) }},
	{"many jobs", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { logNormal(a, r, 250, 0.5, 0) }},
	{"more than are remembered", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { logNormal(a, r, 600, 0.2, 0) }},
	{"requests that cost much", time.Minute, func(a *vtclient.Adaptive, r *rand.Rand) { logNormal(a, r, 60, 0.5, 0) }},
	{"requests that cost little", 10 * time.Millisecond, func(a *vtclient.Adaptive, r *rand.Rand) { logNormal(a, r, 60, 0.5, 0) }},
	{"all the same", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for range 60 {
			cut(a, 2*time.Minute, 0)
		}
	}},
	{"two kinds", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for i := range 100 {
			cut(a, time.Duration(1+19*(i%2))*time.Minute+time.Duration(r.IntN(1000))*time.Millisecond, 0)
		}
	}},
	{"given up", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for range 60 {
			d := time.Duration(180e9 * math.Exp(0.5*r.NormFloat64()))
			if d > 4*time.Minute {
				a.Learn(vtclient.Completion{PendingAt: 4 * time.Minute})
			} else {
				cut(a, d, 0)
			}
		}
	}},
	{"faster since", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		logNormal(a, r, 100, 0.3, 0)
		for range 5 {
			cut(a, time.Duration(20e9*math.Exp(0.2*r.NormFloat64())), 0)
		}
	}},
	{"faster for good", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		logNormal(a, r, 100, 0.3, 0)
		for range 25 {
			cut(a, time.Duration(20e9*math.Exp(0.2*r.NormFloat64())), 0)
		}
	}},
	{"slower for good", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		logNormal(a, r, 100, 0.3, 0)
		for range 10 {
			cut(a, time.Duration(900e9*math.Exp(0.2*r.NormFloat64())), 0)
		}
	}},
	{"slower by and by", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for i := range 150 {
			cut(a, time.Duration(60e9*math.Exp(0.01*float64(i)+0.1*r.NormFloat64())), 0)
		}
	}},
	{"slower since", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		logNormal(a, r, 100, 0.3, 0)
		for range 2 {
			cut(a, time.Duration(900e9*math.Exp(0.2*r.NormFloat64())), 0)
		}
	}},
	{"estimates", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for range 60 {
			e := time.Duration(float64(time.Minute) * math.Exp(2*r.Float64()))
			cut(a, time.Duration(float64(e)*(1+0.2*r.NormFloat64())), e)
		}
	}},
	{"with and without estimates", 3 * time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		logNormal(a, r, 30, 0.5, 0)
		logNormal(a, r, 30, 0.3, 2*time.Minute)
	}},
	{"hints", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { hints(a, r, 80, 0.97) }},
	{"hints, some lost", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { hints(a, r, 80, 0.6) }},
	{"hints that ceased", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		hints(a, r, 60, 0.98)
		hints(a, r, 4, 0)
	}},
	{"hints that came back", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		hints(a, r, 60, 0.98)
		hints(a, r, 4, 0)
		hints(a, r, 2, 1)
	}},
	{"hints of the past alone", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) { hints(a, r, 40, 1) }},
	{"hints for jobs with estimates", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for i := range 70 {
			e := time.Duration(float64(time.Minute) * math.Exp(2*r.Float64()))
			d := time.Duration(float64(e) * math.Exp(0.2*r.NormFloat64()))
			if i%10 == 0 {
				cut(a, d, e)
			} else {
				a.Learn(vtclient.Completion{PendingAt: d / 3, DoneBy: d, Expected: e, Hinted: true})
			}
		}
	}},
	{"estimates that were far too low", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		logNormal(a, r, 25, 0.2, time.Second)
		a.Learn(vtclient.Completion{PendingAt: time.Minute, Expected: time.Second})
		logNormal(a, r, 5, 0.2, 0)
	}},
	{"hardly any time, and years", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		for range 12 {
			a.Learn(vtclient.Completion{DoneBy: 1})
			a.Learn(vtclient.Completion{PendingAt: 900 * time.Microsecond, DoneBy: 1100 * time.Microsecond})
			a.Learn(vtclient.Completion{PendingAt: 100 * 24 * time.Hour, DoneBy: 130 * 24 * time.Hour})
			a.Learn(vtclient.Completion{PendingAt: 10 * 365 * 24 * time.Hour})
			a.Learn(vtclient.Completion{PendingAt: time.Hour, DoneBy: time.Hour})
		}
	}},
	{"requests that cost next to nothing", 100 * time.Microsecond, func(a *vtclient.Adaptive, r *rand.Rand) {
		for range 30 {
			d := time.Duration(60e9 * math.Exp(0.3*r.NormFloat64()))
			a.Learn(vtclient.Completion{PendingAt: d - d/100, DoneBy: d})
		}
	}},
	{"requests that cost a day", 24 * time.Hour, func(a *vtclient.Adaptive, r *rand.Rand) { logNormal(a, r, 30, 0.3, 0) }},
	{"restored", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		b := vtclient.NewAdaptive(time.Minute)
		b.Seed(r.Uint64())
		logNormal(b, r, 90, 0.4, 0)
		logNormal(b, r, 40, 0.4, time.Minute)
		text, _ := b.MarshalText()
		if err := a.UnmarshalText(text); err != nil {
			panic(err)
		}
	}},
	{"merged", time.Second, func(a *vtclient.Adaptive, r *rand.Rand) {
		b := vtclient.NewAdaptive(time.Minute)
		b.Seed(r.Uint64())
		logNormal(b, r, 90, 0.2, 0)
		hints(a, r, 30, 0.8)
		a.Merge(b)
	}},
}

// cut teaches a the duration d as its own polls would have cut it.
func cut(a *vtclient.Adaptive, d, expected time.Duration) {
	at := vtclient.Attempt{Expected: expected}
	for {
		delay, _ := a.Next(at)
		if at.Number++; at.Elapsed+delay >= d {
			a.Learn(vtclient.Completion{PendingAt: at.PendingAt, DoneBy: at.Elapsed + delay, Expected: expected})
			return
		}
		at.Elapsed += delay
		at.PendingAt = at.Elapsed
	}
}

func logNormal(a *vtclient.Adaptive, r *rand.Rand, jobs int, sigma float64, expected time.Duration) {
	for range jobs {
		cut(a, time.Duration(180e9*math.Exp(sigma*r.NormFloat64())), expected)
	}
}

func hints(a *vtclient.Adaptive, r *rand.Rand, jobs int, share float64) {
	for range jobs {
		d := time.Duration(180e9 * math.Exp(0.3*r.NormFloat64()))
		if r.Float64() < share {
			a.Learn(vtclient.Completion{PendingAt: d / 2, DoneBy: d, Hinted: true})
		} else {
			cut(a, d, 0)
		}
	}
}

// The schedule that Adaptive makes of a history equals the golden file. A difference is a
// change of behaviour, which belongs into the CHANGELOG. Numbers may differ by the rounding of
// another architecture.
//
//	go test -run TestAdaptiveIsWhatItWas -update .
func TestAdaptiveIsWhatItWas(t *testing.T) {
	noRace(t)
	const file = "testdata/adaptive.golden"
	if *update {
		var all strings.Builder
		for i := range histories {
			all.WriteString(account(i))
		}
		if err := os.WriteFile(file, []byte(all.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	golden := "\n" + strings.ReplaceAll(string(text), "\r\n", "\n")
	parts := strings.Split(golden, "\n# ")[1:]
	if len(parts) != len(histories) {
		t.Fatalf("%d histories in %s, want %d", len(parts), file, len(histories))
	}
	for i, h := range histories {
		t.Run(h.name, func(t *testing.T) {
			got, want := strings.Split(strings.TrimSpace(account(i)), "\n"), strings.Split("# "+strings.TrimSpace(parts[i]), "\n")
			if len(got) != len(want) {
				t.Fatalf("%d lines, want %d", len(got), len(want))
			}
			differ := 0
			for j := range want {
				if sameNumbers(got[j], want[j]) {
					continue
				}
				if differ++; differ <= 3 {
					t.Errorf("line %d:\n%s\nwant\n%s", j+1, got[j], want[j])
				}
			}
			if differ > 3 {
				t.Errorf("%d lines differ, of %d", differ, len(want))
			}
		})
	}
}

// account is what the golden file holds of a history.
func account(i int) string {
	h := histories[i]
	seed := uint64(crc32.ChecksumIEEE([]byte(h.name))) // so that the others stay when one is added
	a := vtclient.NewAdaptive(h.cost)
	a.Seed(seed)
	h.learn(a, rand.New(rand.NewPCG(seed, 1)))
	var b strings.Builder
	describe(&b, h.name, a)
	return b.String()
}

// describe writes down what a foretells, when it would poll next at thirty ages, and
// what it would remember.
func describe(b *strings.Builder, name string, a *vtclient.Adaptive) {
	fmt.Fprintf(b, "# %s\n", name)
	line := func(what string, values ...float64) {
		b.WriteString(what)
		for _, v := range values {
			fmt.Fprintf(b, " %.9g", v)
		}
		b.WriteByte('\n')
	}
	for _, at := range []vtclient.Attempt{
		{}, {Elapsed: 20 * time.Second}, {Elapsed: 100 * time.Second, PendingAt: 90 * time.Second},
		{Elapsed: 4 * time.Minute, PendingAt: 4 * time.Minute, Number: 7}, {PendingAt: 3 * time.Hour, Elapsed: 4 * time.Hour},
		{PendingAt: 4000 * time.Hour, Elapsed: 4000 * time.Hour},
		{Expected: time.Minute}, {Expected: time.Minute, Elapsed: time.Minute, PendingAt: 50 * time.Second},
		{Expected: 20 * time.Minute}, {Expected: time.Hour, Elapsed: 50 * time.Minute, PendingAt: 50 * time.Minute},
		{Shared: 3}, {Shared: 100, Elapsed: time.Minute, PendingAt: time.Minute}, {Shared: 100, Expected: time.Minute},
	} {
		f := a.Explain(at)
		values := []float64{f.Median.Seconds(), f.P90.Seconds(), float64(f.Jobs)}
		for _, p := range f.Polls {
			values = append(values, p.Seconds())
		}
		line("explain", values...)
	}
	for n := range 30 {
		age := time.Duration(50e6 * math.Exp(float64(n)*0.6)).Truncate(time.Millisecond) // to 21 days
		var values []float64
		for _, at := range []vtclient.Attempt{
			{Number: n, Elapsed: age, PendingAt: age}, {Number: n, Elapsed: age, PendingAt: age},
			{Number: n, Elapsed: age + age/8, PendingAt: age, Expected: 2 * time.Minute},
		} {
			d, _ := a.Next(at)
			values = append(values, d.Seconds())
		}
		line("next at "+age.String(), values...)
	}
	text, _ := a.MarshalText()
	state := strings.Split(strings.TrimSpace(string(text)), "\n")
	fmt.Fprintf(b, "state of %d lines\n", len(state))
	for i, s := range state {
		if s, _, _ = strings.Cut(s, " #"); i < 4 || i >= len(state)-3 || i%37 == 0 { // ids are random
			b.WriteString(s + "\n")
		}
	}
}

// sameNumbers compares two lines word by word: numbers to six digits, since a
// processor may round a product and a sum at once or one after the other, and
// short times to 10 ns.
func sameNumbers(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i] == y[i] {
			continue
		}
		v, err1 := strconv.ParseFloat(x[i], 64)
		w, err2 := strconv.ParseFloat(y[i], 64)
		if err1 != nil || err2 != nil || !(math.Abs(v-w) <= 1e-6*max(math.Abs(v), math.Abs(w), 1e-2)) {
			return false
		}
	}
	return true
}
