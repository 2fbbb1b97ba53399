package vtclient

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// ended is a completion of a job without an estimate.
func ended(pending, done time.Duration, hinted bool) Completion {
	return Completion{PendingAt: pending, DoneBy: done, Hinted: hinted}
}

// somewhat teaches a n jobs of about three minutes; i from 0 says which of them a hint told of.
func somewhat(a *Adaptive, r *rand.Rand, n int, hinted func(i int) bool) {
	for i := range n {
		d := time.Duration(180e9 * math.Exp(0.3*r.NormFloat64()))
		a.Learn(ended(d-d/20, d, hinted(i)))
	}
}

func allPolled(int) bool { return false }

func TestWhatASampleIs(t *testing.T) {
	inf := math.Inf(1)
	for _, tt := range []struct {
		rule string
		c    Completion
		want sample
		ok   bool
	}{
		{"an interval", ended(2*time.Second, 3*time.Second, false), sample{2, 3, 1}, true},
		{"never seen pending", ended(0, 3*time.Second, false), sample{0, 3, 1}, true},
		{"pending before it began", ended(-time.Second, 3*time.Second, false), sample{0, 3, 1}, true},
		{"a hint is late by a thousandth at most", ended(2*time.Second, 3*time.Second, true), sample{2.997, 3, 1}, true},
		{"or by the time since the last poll", ended(2999*time.Millisecond, 3*time.Second, true), sample{2.999, 3, 1}, true},
		{"seen pending when it was over", ended(3*time.Second, 3*time.Second, false), sample{3, 3, 1}, true},
		{"given up", ended(2*time.Second, 0, false), sample{2, inf, 1}, true},
		{"given up at once", Completion{}, sample{0, inf, 1}, false},
		{"given up before it began", ended(-1, 0, false), sample{0, inf, 1}, false},
		{"over before it began", ended(-2, -1, false), sample{}, false},
		{"pending after its end", ended(3, 2, false), sample{}, false},
	} {
		got, ok := newSample(tt.c)
		if ok != tt.ok || ok && (math.Abs(got.lo-tt.want.lo) > 1e-12 || got.hi != tt.want.hi || got.weight != tt.want.weight) {
			t.Errorf("%s: %+v, %v, want %+v, %v", tt.rule, got, ok, tt.want, tt.ok)
		}
	}
}

// How sure it is that no hints come is what Bayes' rule says, summed over all the
// ways in which they may have ceased and returned; and what each completion counts
// for their reliability is how sure it is that they come.
func TestSilenceIsBayesRule(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 40 {
		var a Adaptive
		n := 1 + r.IntN(9)
		type step struct {
			hinted bool
			come   float64 // the reliability of hints before it
		}
		var steps []step
		hinted, polled := 0.0, 0.0
		for range n {
			s := step{r.IntN(4) > 0, a.reliability()}
			a.countHint(s.hinted)
			steps = append(steps, s)

			var p [2]float64 // that they come, or do not, after the steps
			for path := range 1 << len(steps) {
				weight, silent := 1.0, 0
				for i, s := range steps {
					now := path >> i & 1
					weight *= [2][2]float64{{1 - hintsCease, hintsCease}, {hintsReturn, 1 - hintsReturn}}[silent][now]
					share := [2]float64{s.come, hintsStray}[now]
					if !s.hinted {
						share = 1 - share
					}
					weight *= share
					silent = now
				}
				p[silent] += weight
			}
			silent := p[1] / (p[0] + p[1])
			near(t, "silence", a.silent, silent, 1e-9)
			hinted *= 1 - 1./hintMemory
			polled *= 1 - 1./hintMemory
			if s.hinted {
				hinted += 1 - silent
			} else {
				polled += 1 - silent
			}
			near(t, "hinted", a.hinted, hinted, 1e-9)
			near(t, "polled", a.polled, polled, 1e-9)
			near(t, "reliability", a.reliability(), min((hinted+.7)/(hinted+polled+1), hintsMost), 1e-9)
		}
	}
}

func TestWhatARequestIsWorth(t *testing.T) {
	for _, tt := range []struct {
		rule string
		a    *Adaptive
		want float64
	}{
		{"a second by default", &Adaptive{}, 1},
		{"what it costs", &Adaptive{cost: 5}, 5},
		{"no hint has come", &Adaptive{cost: 5, polled: 30, live: true}, 5},
		{"three of four come, of many", &Adaptive{cost: 5, hinted: 300 - .7, polled: 99.7, live: true}, 20},
		{"a record of the past counts for one half", &Adaptive{cost: 5, hinted: 300 - .7, polled: 99.7}, 10},
		{"they have half ceased", &Adaptive{cost: 5, hinted: 320 - .7, polled: 79.7, silent: .5, live: true}, 5 / .6},
		{"a hundred times as much at most", &Adaptive{cost: 5, hinted: 1e6, live: true}, 500},
	} {
		near(t, tt.rule, tt.a.price(), tt.want, 1e-9)
	}
	var a Adaptive
	if a.countHint(true); a.live {
		t.Error("a hinted completion may be of the past")
	}
	if a.hintsCome(); !a.live {
		t.Error("a client's hints count")
	}
	var b Adaptive
	if b.countHint(false); !b.live {
		t.Error("a poll found the job done: hints were to be expected")
	}
}

// The schedules are those for the present price, whether there is a new estimate or not.
func TestSchedulesFollowThePrice(t *testing.T) {
	follows := func(t *testing.T, a *Adaptive) {
		t.Helper()
		p := a.price()
		for _, at := range []Attempt{{}, {Shared: 16}, {Expected: 4 * time.Second}, {Expected: 4 * time.Second, Shared: 16}} {
			s, unit := a.schedule(at)
			if q := s.c * unit * math.Exp2(float64(shareClass(at.Shared))) / p; q > 1.2001 || q < 1/1.2001 {
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

// The first twenty jobs without an estimate share the plain distribution with those
// that have one, which count a fourth, and which are not shorter than nearly all
// jobs are in proportion to their estimates.
func TestJobsWithAnEstimateHelpOutAtFirst(t *testing.T) {
	var a Adaptive
	with := Completion{PendingAt: 9 * time.Second, DoneBy: 10 * time.Second, Expected: 5 * time.Second}
	a.Learn(with)
	if got, want := a.plain.samples, []sample{{9, 10, sharedWeight}}; !slices.Equal(got, want) {
		t.Errorf("plain %v, want %v", got, want)
	}
	if got, want := a.ratio.samples, []sample{{1.8, 2, 1}}; !slices.Equal(got, want) || !a.ratio.ratio || a.plain.ratio {
		t.Errorf("ratio %v, want %v", got, want)
	}
	for i := range sharedUntil {
		if n := len(a.plain.samples); n != 2*i+1 {
			t.Fatalf("%d plain samples before job %d", n, i)
		}
		a.Learn(ended(time.Second, 2*time.Second, false))
		a.Learn(with)
	}
	for range 3 {
		a.Learn(ended(time.Second, 2*time.Second, false))
		a.Learn(with)
	}
	if n := len(a.plain.samples); n != 2*sharedUntil+3 {
		t.Errorf("%d plain samples in the end", n)
	}
	if n := len(a.ratio.samples); n != sharedUntil+4 {
		t.Errorf("%d samples of ratios in the end", n)
	}
	if s := a.plain.samples[2*sharedUntil+2]; s.weight != 1 {
		t.Errorf("the last plain sample is %v", s)
	}

	// Such a job was not seen pending, but hardly any job is over before the time
	// that 2 % of the ratios lie below.
	var b Adaptive
	for range 12 {
		b.Learn(with)
	}
	lo := 5 * b.ratio.surely()
	if lo < 8 || lo > 9.5 {
		t.Errorf("hardly any job ends before %v s", lo)
	}
	late := with
	late.PendingAt = 0
	b.Learn(late)
	near(t, "the beginning of the interval", b.plain.samples[12].lo, lo, 1e-12)
	late.DoneBy = 6 * time.Second // nearly none, but this one
	b.Learn(late)
	if got := b.plain.samples[13]; got.lo != 0 {
		t.Errorf("learnt %v of a job that was faster than all others", got)
	}
	late.PendingAt, late.DoneBy = time.Duration(lo*1e9)+time.Second, 0
	b.Learn(late)
	if got := b.plain.samples[14]; got.lo < lo+0.9 {
		t.Errorf("learnt %v of a job that was pending later than that", got)
	}
}

func TestSurely(t *testing.T) {
	m := &model{x: []float64{0, 1, 2, 3}}
	m.pools[0].mass = []float64{0.019, 0.002, 0.979}
	m.samples = make([]sample, 9)
	if got := m.surely(); got != 0 {
		t.Errorf("of nine jobs: %v", got)
	}
	m.samples = make([]sample, 10)
	near(t, "where 2 % lie below", m.surely(), math.E, 1e-12)
	m.pools[0].mass = []float64{0.021, 0.979, 0}
	near(t, "in the first cell", m.surely(), 1, 1e-12)
	m.pools[0].mass = []float64{0, 0.02, 0} // nothing adds up to more
	if got := m.surely(); got != 0 {
		t.Errorf("nowhere: %v", got)
	}
}

// What the samples make of the two pools is Bayes' rule with a change before each
// sample with the probability changeProb.
func TestChangesAreFoundByBayesRule(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	m := &model{}
	m.init(false)
	var accepted, bornAgain int
	for i := range 160 {
		median := 180.0
		if i >= 60 && i < 110 {
			median = 20 // for good
		} else if i%23 == 22 {
			median = 700 // now and then
		}
		d := median * math.Exp(0.2*r.NormFloat64())
		s := sample{d * 0.9, d * 1.02, 1}
		if i%11 == 0 && i < 60 {
			s.weight = sharedWeight
		}
		kept, since, weight, steady := slices.Clone(m.samples), m.since+1, m.weight, m.steady
		before := *m
		p, prior := before.judge(s) // of a copy: it changes the trust in the widths

		w0, w1 := weight[0]*p[0], weight[1]*p[1]
		mix := before.pools[1].mix
		if born := prior / 300; s.weight == 1 && len(kept) > 0 && born > w1 {
			w1, since = born, 1
			bornAgain++
			for l := range mix {
				mix[l] = (before.pools[0].mix[l] + widthPrior[l]) / 2
			}
		}
		w0, w1 = w0/(w0+w1), w1/(w0+w1)
		kept, steady = append(kept, s), steady+1
		first := before.pools[0].mix
		if w1 > 0.99 && since >= 3 {
			accepted++
			w0, w1 = 1, 0
			kept, steady = kept[len(kept)-since:], since
			since = 0
			for l := range first {
				first[l] = 0.8*mix[l] + 0.2*widthPrior[l]
			}
		}

		m.learn(s)
		near(t, fmt.Sprintf("sample %d: what all samples are trusted", i), m.weight[0], w0, 1e-9)
		near(t, fmt.Sprintf("sample %d: what the latest are trusted", i), m.weight[1], w1, 1e-9)
		if m.since != since || m.steady != steady || !slices.Equal(m.samples, kept) {
			t.Errorf("sample %d: %d samples, %d since the change, steady for %d; want %d, %d, %d",
				i, len(m.samples), m.since, m.steady, len(kept), since, steady)
		}
		for l := range first {
			near(t, fmt.Sprintf("sample %d: the trust in width %d", i, l), m.pools[0].mix[l], first[l], 1e-9)
			near(t, fmt.Sprintf("sample %d: the candidate's trust in width %d", i, l), m.pools[1].mix[l], mix[l], 1e-9)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if accepted != 2 || bornAgain < 5 {
		t.Errorf("%d changes were found, and %d supposed", accepted, bornAgain)
	}
}

// The memory is bounded; what is forgotten is the oldest, and the candidate's
// samples are never more than there are.
func TestSamplesAreForgotten(t *testing.T) {
	m := &model{}
	m.init(false)
	m.coarse = true // few estimates: this is about samples
	for i := range 1200 {
		s := sample{float64(100 + i%7), float64(110 + i%7), 1}
		was := len(m.samples)
		m.learn(s)
		n := len(m.samples)
		if want := was + 1; n != want && (want <= maxSamples || n != maxSamples*7/8) {
			t.Fatalf("%d samples after %d", n, was)
		}
		if m.samples[n-1] != s || m.since > n || m.since < 0 {
			t.Fatalf("sample %d: the newest of %d is %v, %d are since the change", i, n, m.samples[n-1], m.since)
		}
		if m.steady != i+1 {
			t.Fatalf("steady for %d jobs, of %d", m.steady, i+1)
		}
	}
	m.steady = steadyMax
	if m.learn(m.samples[0]); m.steady != steadyMax {
		t.Errorf("steady for %d jobs", m.steady)
	}
	m.since = len(m.samples)
	m.forget(5)
	if len(m.samples) != 5 || m.since != 5 {
		t.Errorf("%d samples, %d of them since the change", len(m.samples), m.since)
	}
	m.since = 2
	if m.forget(4); m.since != 2 {
		t.Errorf("%d samples since the change", m.since)
	}
}

// Estimates become rarer as there is more behind them, by a thirty-second of the
// samples, or an eighth when a state is restored; a surprise is learnt at once.
func TestEstimatesBecomeRarer(t *testing.T) {
	for _, coarse := range []bool{false, true} {
		m := &model{}
		m.init(false)
		r := rand.New(rand.NewPCG(4, 4))
		fresh, regular, surprises := 0, 0, 0
		for i := range 400 {
			m.coarse = coarse
			d := 180 * math.Exp(0.3*r.NormFloat64())
			if i%50 == 49 {
				d *= 20
			}
			s := sample{d * 0.7, d, 1}
			copied := *m
			p, prior := copied.judge(s)
			part := 32
			if coarse {
				part = 8
			}
			fresh++
			due := fresh > (i+1)/part
			surprise := !coarse && p[0] < min(0.02, 2*prior)
			got := m.learn(s)
			if len(m.samples) != i+1 {
				t.Fatal("a change was found where there was none")
			}
			if got != (due || surprise) {
				t.Fatalf("coarse %v, sample %d: new estimate %v, want %v or %v", coarse, i, got, due, surprise)
			}
			if got {
				if m.fresh != 0 {
					t.Fatalf("%d samples are not in the estimate", m.fresh)
				}
				fresh = 0
			}
			if due {
				regular++
			} else if surprise {
				surprises++
			}
		}
		if regular < 20 || !coarse && surprises < 4 {
			t.Errorf("coarse %v: %d regular estimates and %d of surprises", coarse, regular, surprises)
		}
	}
	// What a hint tells is improbable because it is narrow, which surprises nobody.
	m := &model{}
	m.init(false)
	r := rand.New(rand.NewPCG(5, 5))
	estimates := 0
	for range 300 {
		d := 180 * math.Exp(0.3*r.NormFloat64())
		if m.learn(sample{d * 0.999, d, 1}) {
			estimates++
		}
	}
	if estimates > 140 {
		t.Errorf("%d estimates of 300 hints", estimates)
	}
}

// A restored model is up to date, and learns on as one that was taught.
func TestRestoredModelLearnsOn(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for _, n := range []int{0, 1, 50, 300} {
		var samples []sample
		for range n {
			d := 180 * math.Exp(0.3*r.NormFloat64())
			samples = append(samples, sample{d * 0.95, d, 1})
		}
		m := &model{samples: []sample{{1, 2, 1}}, steady: 7, since: 1}
		m.replay(true, samples)
		if !m.ratio || m.coarse || m.fresh != 0 || !slices.Equal(m.samples, samples) {
			t.Errorf("%d samples: of ratios %v, coarse %v, %d fresh, %d restored", n, m.ratio, m.coarse, m.fresh, len(m.samples))
		}
	}
}

// An estimate is, for each pool, two rounds of this: the mass of the samples, spread
// over their intervals as the estimate has it, smoothed with each width, with a
// share of the prior, and of these the mean, weighted as the widths are trusted.
func TestEstimateIsTheMeanOfTheWidths(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, ratio := range []bool{false, true} {
		m := &model{}
		m.init(ratio)
		for i := range 24 {
			d := math.Exp(r.NormFloat64())
			if i > 20 {
				d *= 60
			}
			m.learn(sample{d * 0.9, d, []float64{1, 1, sharedWeight}[i%3]})
		}
		if m.since == 0 || m.since == len(m.samples) {
			t.Fatalf("%d of %d samples are since the change: choose others", m.since, len(m.samples))
		}
		oldX, old := m.x, m.pools
		for k := range old {
			old[k].mass = slices.Clone(old[k].mass)
		}
		m.estimate()

		n := m.cells()
		below := func(j int, age float64) float64 { // the share of a cell below an age
			return min(1, max(0, (math.Log(age)-m.x[j])/(m.x[j+1]-m.x[j])))
		}
		tab := m.priorTable()
		for k := range m.pools {
			mass := carryOver(oldX, old[k].mass, m.x)
			first := 0
			if k == 1 {
				first = len(m.samples) - m.since
			}
			var widthMass [numWidths][]float64
			for range 2 {
				points, total := make([]float64, n), 0.0
				for i := first; i < len(m.samples); i++ {
					s := m.samples[i]
					weight := s.weight * math.Exp(-float64(len(m.samples)-1-i)/400)
					part, sum := make([]float64, n), 0.0
					for j := range part {
						part[j] = mass[j] * (below(j, s.hi) - below(j, s.lo))
						sum += part[j]
					}
					if sum < tiny {
						continue
					}
					total += weight
					for j := range part {
						points[j] += weight * part[j] / sum
					}
				}
				clear(mass)
				for l, width := range widths {
					count := 0.2 * min(1, math.Sqrt(width/0.35))
					one := make([]float64, n)
					integral := func(d float64) float64 { // of the kernel, from below to d
						if d < 0 {
							return math.Exp(d/width) / 2
						}
						return 1 - math.Exp(-d/width)/2
					}
					for j := range n {
						one[j] = count * (priorBelow(tab, m.x[j+1]) - priorBelow(tab, m.x[j]))
					}
					for i, p := range points {
						if p < 1e-12 {
							continue
						}
						mid := (m.x[i] + m.x[i+1]) / 2
						for j := range n {
							if a, b := m.x[j]-mid, m.x[j+1]-mid; b > -30*width && a < 30*width {
								one[j] += p * (integral(b) - integral(a))
							}
						}
					}
					for j := range one {
						one[j] /= total + count
						mass[j] += old[k].mix[l] * one[j]
					}
					widthMass[l] = one
				}
				sum := 0.0
				for _, v := range mass {
					sum += v
				}
				for j := range mass {
					mass[j] /= sum
				}
			}
			for j := range n {
				near(t, fmt.Sprintf("pool %d, cell %d of %d", k, j, n), m.pools[k].mass[j], mass[j], 1e-7)
			}
			for l, one := range widthMass {
				sum := 0.0
				for j, v := range one {
					near(t, fmt.Sprintf("pool %d, width %d, below cell %d", k, l, j), float64(m.pools[k].cdf[l][j]), sum, 1e-6)
					sum += v
				}
				near(t, "all of a width", float64(m.pools[k].cdf[l][n]), sum, 1e-6)
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}

// Nothing is known: the distribution is the prior, and the grid is even.
func TestFirstEstimateIsThePrior(t *testing.T) {
	for _, ratio := range []bool{false, true} {
		m := &model{}
		m.init(ratio)
		m.init(!ratio) // does nothing
		n := m.cells()
		if n != maxCells || m.ratio != ratio || m.weight != [2]float64{1, 0} {
			t.Errorf("%d cells, ratio %v, weight %v", n, m.ratio, m.weight)
		}
		total := 0.0
		for j := range n {
			total += priorDensity((m.x[j]+m.x[j+1])/2, ratio)
		}
		for j := range n {
			near(t, "a bound", m.x[j], minLogAge+(maxLogAge-minLogAge)*float64(j)/maxCells, 1e-12)
			for k := range m.pools {
				near(t, "a mass", m.pools[k].mass[j], priorDensity((m.x[j]+m.x[j+1])/2, ratio)/total, 1e-4)
			}
		}
	}
	for _, tt := range []struct {
		rule        string
		ratio       bool
		from, to    float64
		least, most float64
	}{
		{"about two minutes", false, 30, 480, 0.35, 0.65},
		{"seconds and less", false, 0, 5, 0.02, 0.15},
		{"hours", false, 3600, 86400, 0.05, 0.2},
		{"more than a day", false, 86400, math.Inf(1), 0.002, 0.05},
		{"near the estimate", true, 0.7, 1.4, 0.4, 0.7},
		{"less than a tenth of it", true, 0, 0.1, 0.01, 0.1},
		{"more than ten times as long", true, 10, math.Inf(1), 0.01, 0.1},
	} {
		m := &model{ratio: tt.ratio}
		tab := m.priorTable()
		if p := priorBelow(tab, math.Log(tt.to)) - priorBelow(tab, math.Log(tt.from)); p < tt.least || p > tt.most {
			t.Errorf("%s: a share of %.3f, want %v to %v", tt.rule, p, tt.least, tt.most)
		}
	}
}

// What is scheduled is the present estimate: of both pools, as they are trusted
// beyond a little doubt, with the tail beyond the grid.
func TestScheduleOfAModel(t *testing.T) {
	m := &model{}
	m.init(false)
	r := rand.New(rand.NewPCG(8, 8))
	for range 30 {
		d := 100 * math.Exp(0.3*r.NormFloat64())
		m.learn(sample{d * 0.9, d, 1})
	}
	for _, tt := range []struct{ weight, doubt float64 }{{0, 0}, {0.004, 0}, {0.005, 0}, {0.5, 0.495 / 0.995}, {1, 1}} {
		m.weight = [2]float64{1 - tt.weight, tt.weight}
		for _, steady := range []int{0, 1, 75, 150, 299, 1000, steadyMax} {
			m.steady = steady
			s := m.schedule(3)
			n := m.cells()
			if s.c != 3 || s.jobs != 30 || len(s.t) != n+2 || s.t[0] != 0 || s.f[0] != 0 {
				t.Fatalf("cost %v, %d jobs, %d ages from %v", s.c, s.jobs, len(s.t), s.t[0])
			}
			// Beyond the end the density falls as the square of the age, so that
			// the tail holds as much as the last cell does for each unit of log age.
			mass := func(j int) float64 { return (1-tt.doubt)*m.pools[0].mass[j] + tt.doubt*m.pools[1].mass[j] }
			last := mass(n-1) / (m.x[n] - m.x[n-1])
			sum := 0.0
			for j := range n {
				near(t, "an age", s.t[j+1]/math.Exp(m.x[j]), 1, 1e-12)
				near(t, "F", s.f[j+1], sum/(1+last), 1e-9)
				sum += mass(j)
			}
			near(t, "the last age", s.t[n+1], math.Exp(m.x[n]), 1e-9)
			near(t, "F at the end", s.f[n+1], sum/(1+last), 1e-9)
			explore := 0.04 * math.Sqrt(min(1, float64(steady)/150, 300/float64(steady+1)))
			near(t, fmt.Sprintf("exploring, steady for %d", steady), s.explore, explore+2*tt.doubt, 1e-9)
		}
	}
}

// Following a schedule costs what it promises, by plain summation, from wherever one begins.
func TestScheduleCostsWhatItPromises(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for _, kind := range []string{"log-normal", "two kinds", "nearly the same"} {
		m := &model{coarse: true}
		m.init(false)
		for i := range 200 {
			d := 180 * math.Exp(0.4*r.NormFloat64())
			switch kind {
			case "two kinds":
				d = []float64{30, 1200}[i%2] * (1 + 0.05*r.Float64())
			case "nearly the same":
				d = 60 + r.Float64()
			}
			m.learn(sample{d * 0.98, d, 1})
		}
		for _, c := range []float64{0.5, 5, 60} {
			s := m.schedule(c)
			n := len(s.t) - 1
			// The chance to outlast an age, and its integral.
			left := func(age float64) float64 {
				if age >= s.t[n] {
					return (1 - s.f[n]) * s.t[n] / age
				}
				return 1 - s.at(s.f, s.find(age), age)
			}
			sum := make([]float64, n+1)
			for i := n - 1; i >= 0; i-- {
				sum[i] = sum[i+1] + (s.t[i+1]-s.t[i])*(2-s.f[i]-s.f[i+1])/2
			}
			rest := func(age float64) float64 { // ∫ (1−F) from age to the end of the grid
				i := s.find(age)
				if i >= n {
					return -(1 - s.f[n]) * s.t[n] * math.Log(age/s.t[n])
				}
				return sum[i+1] + (s.t[i+1]-age)*(left(age)+left(s.t[i+1]))/2
			}
			for _, from := range []float64{0, 20, 61, 300, 2000} {
				cost := 0.0
				age := from
				for polls := 0; left(age) > 1e-3*left(from); polls++ {
					to, i := s.best(age)
					if i != s.find(age) || !(to > age) || polls > 1e6 {
						t.Fatalf("%s: after %v comes %v, in cell %d", kind, age, to, i)
					}
					// A request, and the time from the ends before it until it.
					cost += c*left(age) + (to-age)*left(age) - (rest(age) - rest(to))
					age = to
				}
				cost += left(age) * s.at(s.v, s.find(age), age) // the few that are left
				promise := s.at(s.v, s.find(from), from)
				if q := cost / left(from) / promise; q < 0.93 || q > 1.07 {
					t.Errorf("%s, requests worth %v, from %v: costs %.4g, which is %.3f of the promise", kind, c, from, cost/left(from), q)
				}
			}
		}
	}
}

// scripted returns draws one after the other, over and over.
func scripted(draws ...float64) func() float64 {
	i := 0
	return func() float64 { i++; return draws[(i-1)%len(draws)] }
}

func someSchedule(t *testing.T, jobs int) *schedule {
	t.Helper()
	m := &model{}
	m.init(false)
	r := rand.New(rand.NewPCG(10, 10))
	for range jobs {
		d := 180 * math.Exp(0.4*r.NormFloat64())
		m.learn(sample{d * 0.95, d, 1})
	}
	return m.schedule(2)
}

// A poll is shifted by 15 % of its gap at most, and by less where that would cost
// more than a hundredth of a request, or somewhat more while there are few jobs.
func TestRandomShifts(t *testing.T) {
	for _, jobs := range []int{0, 3, 200} {
		s := someSchedule(t, jobs)
		s.explore = 0
		var explored atomic.Uint32
		full, less := 0, 0
		for age := 0.0; age < 3000; age = age*1.02 + 0.3 {
			to, i := s.best(age)
			gap := to - age
			if u := s.next(age, &explored, scripted(0.5)); u != to {
				t.Fatalf("at %v, in the middle: %v, want %v", age, u, to)
			}
			f := s.at(s.f, i, age)
			cost := func(u float64) float64 { return s.at(s.b, s.find(u), u) - u*f }
			limit := cost(to) + (0.01+0.3/float64(1+jobs))*s.c*(1-f)
			for _, draw := range []float64{0, 0.2, 0.9, 1} {
				shift := gap * 0.15 * (2*draw - 1)
				want := to
				for k := range 4 {
					if u := to + shift*math.Pow(0.4, float64(k)); cost(u) <= limit {
						want = u
						if k == 0 {
							full++
						} else {
							less++
						}
						break
					}
				}
				if u := s.next(age, &explored, scripted(draw)); math.Abs(u-want) > 1e-9*to {
					t.Fatalf("%d jobs, at %v, draw %v: %v, want %v, the best being %v", jobs, age, draw, u, want, to)
				}
			}
		}
		if full == 0 || jobs > 0 && less == 0 {
			t.Errorf("%d jobs: %d full shifts, %d smaller ones: choose another schedule", jobs, full, less)
		}
		// Beyond all experience.
		h := s.t[len(s.t)-1]
		for _, age := range []float64{h, 3 * h} {
			gap := math.Sqrt(2 * s.c * age)
			near(t, "beyond the end, earliest", s.next(age, &explored, scripted(0))-age, 0.85*gap, 1e-6)
			near(t, "beyond the end, latest", s.next(age, &explored, scripted(1))-age, 1.15*gap, 1e-6)
		}
		if explored.Load() != 0 {
			t.Error("there was exploring")
		}
	}
}

// Every so many gaps that end in success one has an earlier poll, 3 % to 50 % of the
// gap before its end, and at most every second gap.
func TestExploring(t *testing.T) {
	s := someSchedule(t, 200)
	for _, share := range []float64{0.04, 0.3, 3} {
		s.explore = share
		for _, age := range []float64{0, 100, 180, 400} {
			to, i := s.best(age)
			gap := to - age
			f := s.at(s.f, i, age)
			success := (s.at(s.f, s.find(to), to) - f) / (1 - f)
			each := min(share*success*math.Sqrt(s.v[i]/s.c), 0.5)
			const calls = 1000
			var explored atomic.Uint32
			n := 0
			for range calls {
				// The first draw is that of the shift, the second that of the earlier poll.
				if u := s.next(age, &explored, scripted(0.5, 0)); math.Abs(u-(to-0.03*gap)) < 1e-9*to {
					n++
				} else if u != to {
					t.Fatalf("share %v, at %v: %v, the best being %v", share, age, u, to)
				}
			}
			if math.Abs(float64(n)-calls*each) > 1 {
				t.Errorf("share %v, at %v: %d of %d explored, want %v", share, age, n, calls, calls*each)
			}
			explored.Store(math.MaxUint32)
			near(t, "the earliest", s.next(age, &explored, scripted(0.5, 1)), to-0.5*gap, 1e-9)
			explored.Store(math.MaxUint32)
			near(t, "in the middle", s.next(age, &explored, scripted(0.5, 0.5)), to-math.Sqrt(0.5*0.03)*gap, 1e-9)
		}
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

// Where gaps grow with the age, the next poll after an age between two of the grid
// lies between theirs; where one goes on to wait for the next crowd, it is one of them.
func TestBestBetweenTheAgesOfTheGrid(t *testing.T) {
	for _, tt := range []struct {
		rule     string
		to0, to1 float64 // at 100 and 110
		pend     float64
		want     float64
	}{
		{"it moves on with the age", 150, 160, 105, 155},
		{"by as much as two cells and half the gap", 150, 195, 105, 172.5},
		{"it jumps beyond that", 150, 195.1, 105, 150},
		{"to the later, once the earlier has passed", 110, 195.1, 105, 195.1},
		{"several polls in a cell", 104, 115, 108, 112},
		{"at the bound itself", 150, 160, 100, 150},
	} {
		s := &schedule{c: 1, t: []float64{0, 100, 110, 300}, to: []float64{100, tt.to0, tt.to1, 400}}
		got, i := s.best(tt.pend)
		if near(t, tt.rule, got, tt.want, 1e-12); i != 1 {
			t.Errorf("%s: cell %d", tt.rule, i)
		}
	}
	s := &schedule{c: 2, t: []float64{0, 100}, to: []float64{100, 120}}
	for _, age := range []float64{100, 144} {
		got, i := s.best(age)
		if near(t, "beyond the end", got, age+2*math.Sqrt(age), 1e-12); i != 1 {
			t.Errorf("cell %d", i)
		}
	}
}

// The schedules for estimates are kept for the latest sizes, and none is made twice.
func TestTablesKeepTheLatest(t *testing.T) {
	a := NewAdaptive(time.Second)
	size := func(i int) Attempt { return Attempt{Expected: time.Second << i} }
	made := make(map[int]*schedule)
	for i := range maxTables + 3 {
		made[i], _ = a.schedule(size(i))
	}
	tab := a.ratioNow.Load().tab
	if len(tab) != maxTables {
		t.Fatalf("%d schedules, want %d", len(tab), maxTables)
	}
	for i, e := range tab {
		if want := 2 * (maxTables + 2 - i); e.size != want || e.share != 0 {
			t.Errorf("place %d has size %d of share %d, want size %d of share 0", i, e.size, e.share, want)
		}
	}
	for i := range maxTables {
		if s, unit := a.schedule(size(i + 3)); s != made[i+3] || unit != float64(int(1)<<(i+3)) {
			t.Errorf("the schedule of size %d was made anew, or its unit is %v", i+3, unit)
		}
	}
	// Another caller may have made it meanwhile.
	if s := a.newEntry(&a.ratioNow, 0, 10, nil); s != made[5] {
		t.Error("a schedule was made anew though there is one")
	}
	// What is asked for again once it is out of date is renewed in the first place.
	renew(&a.ratioNow)
	if s, _ := a.schedule(size(7)); s == made[7] {
		t.Error("a schedule is out of date")
	}
	tab = a.ratioNow.Load().tab
	if len(tab) != maxTables || tab[0].size != 14 || tab[1].size != 2*(maxTables+2) {
		t.Errorf("%d schedules, those of the sizes %d and %d first", len(tab), tab[0].size, tab[1].size)
	}
	for i := range tab {
		if i > 0 && tab[i].size == 14 {
			t.Error("a size is there twice")
		}
	}
	// Half octaves of the estimate: 1.19 times a size and less is the same.
	for _, tt := range []struct {
		expected time.Duration
		size     int
	}{{1180 * time.Millisecond, 0}, {1200 * time.Millisecond, 1}, {850 * time.Millisecond, 0}, {1680 * time.Millisecond, 1}, {1690 * time.Millisecond, 2}} {
		b := NewAdaptive(time.Second)
		if _, unit := b.schedule(Attempt{Expected: tt.expected, Shared: 4}); unit != tt.expected.Seconds() {
			t.Errorf("%v: the unit is %v", tt.expected, unit)
		}
		if e := b.ratioNow.Load().tab[0]; e.size != tt.size || e.share != 1 {
			t.Errorf("%v: size %d, share %d; want %d, 1", tt.expected, e.size, e.share, tt.size)
		}
	}
}

// Who asks while a schedule is being renewed goes on with the one before.
func TestNextDoesNotWaitForARenewal(t *testing.T) {
	a := NewAdaptive(time.Second)
	for _, at := range []Attempt{{}, {Shared: 16}, {Expected: time.Minute}} {
		before, _ := a.schedule(at)
		a.mu.Lock()
		renew(&a.ratioNow)
		renew(&a.sharedNow)
		during, _ := a.schedule(at)
		a.mu.Unlock()
		if during != before {
			t.Errorf("%+v: another schedule", at)
		}
		if after, _ := a.schedule(at); at != (Attempt{}) && after == before {
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
			if s, _ := a.schedule(at); s.jobs != 2*i+2 {
				t.Errorf("%+v: a schedule of %d jobs after %d", at, s.jobs, 2*i+2)
			}
		}
		for _, at := range []Attempt{{Expected: time.Minute}, {Expected: time.Hour, Shared: 16}} {
			if s, _ := a.schedule(at); s.jobs != i+1 {
				t.Errorf("%+v: a schedule of %d jobs after %d with an estimate", at, s.jobs, i+1)
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
	a.plainNow.Load().explore = 0
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
		got, _ := a.Next(tt.at)
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

// Explain tells of the polls that Next would make, but for the shifts.
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
		s, unit := a.schedule(at)
		s.explore = 0
		f := a.Explain(at)
		if len(f.Polls) != 5 || f.Jobs != s.jobs {
			t.Fatalf("%+v: %+v", at, f)
		}
		walk := at
		for i, age := range f.Polls {
			d, _ := a.Next(walk)
			if got := walk.Elapsed + d; math.Abs(got.Seconds()-age.Seconds()) > 1e-6*age.Seconds()+minDelay.Seconds() {
				t.Errorf("%+v: poll %d at %v, Explain says %v", at, i, got, age)
			}
			walk.Elapsed, walk.PendingAt = age, age
		}
		pend := at.PendingAt.Seconds() / unit
		for share, got := range map[float64]time.Duration{0.5: f.Median, 0.9: f.P90} {
			want := max(0, s.quantile(pend, share)*unit-at.Elapsed.Seconds())
			near(t, "a quantile", got.Seconds(), want, 1e-6)
		}
	}
	// A clock that has run out: no poll is told of twice.
	far := a.Explain(Attempt{Elapsed: math.MaxInt64, PendingAt: math.MaxInt64})
	if len(far.Polls) != 1 {
		t.Errorf("at the end of time: %v", far.Polls)
	}
}

// Two sequences are merged in proportion, the newest last, and no more than are remembered.
func TestInterleave(t *testing.T) {
	seq := func(tag float64, n int) (r []sample) {
		for i := range n {
			r = append(r, sample{lo: tag, hi: float64(i), weight: 1})
		}
		return r
	}
	order := func(s []sample) (r string) {
		for _, s := range s {
			r += string("ab"[int(s.lo)]) + fmt.Sprint(s.hi) + " "
		}
		return strings.TrimSpace(r)
	}
	for _, tt := range []struct {
		a, b int
		want string
	}{
		{0, 0, ""}, {2, 0, "a0 a1"}, {0, 2, "b0 b1"}, {1, 1, "a0 b0"}, {2, 2, "a0 b0 a1 b1"},
		{1, 3, "b0 a0 b1 b2"}, {3, 1, "a0 a1 b0 a2"}, {4, 2, "a0 b0 a1 a2 b1 a3"}, {2, 4, "b0 a0 b1 b2 a1 b3"}, {5, 1, "a0 a1 a2 b0 a3 a4"},
	} {
		if got := order(interleave(seq(0, tt.a), seq(1, tt.b))); got != tt.want {
			t.Errorf("%d and %d: %s, want %s", tt.a, tt.b, got, tt.want)
		}
	}
	got := interleave(seq(0, 400), seq(1, 400))
	if len(got) != maxSamples || got[maxSamples-1] != (sample{1, 399, 1}) || got[maxSamples-2] != (sample{0, 399, 1}) {
		t.Errorf("%d samples of 800, ending in %v", len(got), got[len(got)-2:])
	}
}

// A merged state has what both know, and the one that was merged keeps its own.
func TestMergeAddsUp(t *testing.T) {
	x := state{plain: []sample{{1, 2, 1}}, hinted: 10, polled: 5, silent: 0.2, own: 3}
	y := state{ratio: []sample{{0.5, 1, 1}}, hinted: 1, polled: 2, silent: 0.4, live: true, own: 4}
	for _, m := range []state{x.merge(y), y.merge(x)} {
		if !slices.Equal(m.plain, x.plain) || !slices.Equal(m.ratio, y.ratio) || m.hinted != 11 || m.polled != 7 || !m.live || m.own != 7 {
			t.Errorf("merged: %+v", m)
		}
		near(t, "silence", m.silent, 0.3, 1e-12)
	}
	if m := x.merge(x); m.live || m.own != 6 {
		t.Errorf("merged: %+v", m)
	}
	x.own, y.own = 15, 15
	if m := x.merge(y); m.own != sharedUntil {
		t.Errorf("%d jobs without an estimate", m.own)
	}

	r := rand.New(rand.NewPCG(13, 13))
	a, b := NewAdaptive(time.Second), NewAdaptive(time.Second)
	somewhat(a, r, 20, func(i int) bool { return i%3 == 0 })
	a.Learn(Completion{PendingAt: time.Second, DoneBy: 2 * time.Second, Expected: time.Second})
	somewhat(b, r, 30, allPolled)
	first, _ := a.schedule(Attempt{Expected: time.Second})
	shared, _ := a.schedule(Attempt{Shared: 16})
	theirs, _ := b.MarshalText()
	a.Merge(b)
	if a.own != sharedUntil || len(a.plain.samples) != 50 || len(a.ratio.samples) != 1 || !a.live {
		t.Errorf("merged: own %d, %d and %d samples", a.own, len(a.plain.samples), len(a.ratio.samples))
	}
	if s, _ := a.schedule(Attempt{Expected: time.Second}); s == first {
		t.Error("the schedules of estimates are from before")
	}
	if s, _ := a.schedule(Attempt{Shared: 16}); s == shared {
		t.Error("the schedules of shared requests are from before")
	}
	somewhat(a, r, 1000, allPolled) // a forgets, which moves its samples
	if now, _ := b.MarshalText(); string(now) != string(theirs) {
		t.Error("b has changed")
	}
}

// A snapshot stays as it is when more is learnt and forgotten.
func TestSnapshotIsACopy(t *testing.T) {
	a := NewAdaptive(time.Second)
	learn := func(n int) {
		for i := range n {
			d := time.Duration(100+i%17) * time.Second
			a.Learn(ended(d-time.Second, d, false))
			a.Learn(Completion{PendingAt: d - time.Second, DoneBy: d, Expected: 100 * time.Second})
		}
	}
	learn(maxSamples - 40)
	st := a.snapshot()
	plain, ratio := slices.Clone(st.plain), slices.Clone(st.ratio)
	learn(200)
	if !slices.Equal(st.plain, plain) || !slices.Equal(st.ratio, ratio) {
		t.Error("the snapshot has changed")
	}
}

// Everything that a state can hold comes back, to nine digits.
func TestStateTellsEverything(t *testing.T) {
	st := state{
		plain:  []sample{{0, 61.5, 1}, {55, math.Inf(1), 1}, {1.0 / 3, 2.0 / 3, 0.25}, {1e-9, 1e10, 1}, {5, 5, 1}},
		ratio:  []sample{{0.123456789, 0.2, 1}, {1, math.Inf(1), 1}},
		hinted: 3.25, polled: 0.125,
	}
	want := "vtclient-adaptive 1\nhints 3.25 0.125\np 0 61.5\np 55 -\np 0.333333333 0.666666667 0.25\np 1e-09 1e+10\np 5 5\nr 0.123456789 0.2\nr 1 -\n"
	if got := string(st.text()); got != want {
		t.Errorf("text\n%s\nwant\n%s", got, want)
	}
	back, err := parseState([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	st.plain[2] = sample{0.333333333, 0.666666667, 0.25}
	if !slices.Equal(back.plain, st.plain) || !slices.Equal(back.ratio, st.ratio) || back.hinted != st.hinted || back.polled != st.polled {
		t.Errorf("parsed %+v, want %+v", back, st)
	}
	if !back.live || back.own != 4 || back.silent != 0 {
		t.Errorf("live %v, own %d, silent %v", back.live, back.own, back.silent)
	}
	for text, live := range map[string]bool{"": false, "\nhints 3 0": false, "\nhints 0 0.1\n": true} {
		if back, err := parseState([]byte(stateHeader + text)); err != nil || back.live != live {
			t.Errorf("%q: live %v, %v", text, back.live, err)
		}
	}
	many := stateHeader + "\nhints 0 0\n" + strings.Repeat("p 1 2\n", 30)
	if back, err := parseState([]byte(many)); err != nil || back.own != sharedUntil || len(back.plain) != 30 {
		t.Errorf("own %d of %d jobs, %v", back.own, len(back.plain), err)
	}

	// Restoring leaves nothing of what was known before.
	a := NewAdaptive(time.Second)
	r := rand.New(rand.NewPCG(14, 14))
	somewhat(a, r, 60, func(i int) bool { return i < 50 })
	a.Learn(Completion{PendingAt: 9 * time.Second, DoneBy: 10 * time.Second, Expected: 5 * time.Second})
	asked, _ := a.schedule(Attempt{Expected: time.Minute})
	sharing, _ := a.schedule(Attempt{Shared: 16})
	if err := a.UnmarshalText([]byte(stateHeader + "\nhints 2 0\np 1 2\n")); err != nil {
		t.Fatal(err)
	}
	if a.hinted != 2 || a.polled != 0 || a.silent != 0 || a.live || a.own != 1 || len(a.plain.samples) != 1 || len(a.ratio.samples) != 0 {
		t.Errorf("restored: hinted %v, polled %v, silent %v, live %v, own %d, %d and %d samples",
			a.hinted, a.polled, a.silent, a.live, a.own, len(a.plain.samples), len(a.ratio.samples))
	}
	fresh := NewAdaptive(time.Second)
	fresh.hinted = 2
	for _, at := range []Attempt{{Expected: time.Minute}, {Shared: 16}} {
		s, _ := a.schedule(at)
		if s == asked || s == sharing {
			t.Errorf("%+v: the schedule is from before", at)
		}
		if at.Expected > 0 {
			want, _ := fresh.schedule(at)
			near(t, "the cost of a job with an estimate", s.v[0], want.v[0], 1e-9)
		}
	}
}

// A state is read up to the bounds that it may have, and an error says where it is wrong.
func TestStateBounds(t *testing.T) {
	const head = stateHeader + "\nhints 0 0\n"
	pad := func(n int) string { return head + "p 1 2" + strings.Repeat(" ", n-len(head)-5) }
	for _, text := range []string{
		stateHeader, stateHeader + "\n", head, stateHeader + "\np 1 2", // no line of hints: as if there were none
		pad(maxState), stateHeader + "\nhints 5e5 5e5\n", head + "p 0 1e10\n", head + "p 1e10 1e10\n", head + "r 1 -\n", head + "p 1 1\n",
		head + strings.Repeat("p 1 2\n", maxSamples) + strings.Repeat("r 1 2\n", maxSamples), head + "p 1 2 0.999999999\n",
	} {
		if _, err := parseState([]byte(text)); err != nil {
			t.Errorf("%.60q: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		pad(maxState + 1):                  "131073 bytes are more than the 131072 allowed",
		"vtclient-adaptive 2":              `no "vtclient-adaptive 1" in the first line`,
		stateHeader + "\nhints 5e5 5e5 1":  "line 2: not a line of a state",
		stateHeader + "\nhints 5e5 500001": "line 2: not a line of a state",
		head + "hints 1 1":                 "line 3: not a line of a state",
		head + "p 1 2\np 1":                "line 4: not a line of a state",
		head + "\n":                        "line 3: not a line of a state",
		head + "p 1 2 3 4":                 "line 3: not a line of a state",
		head + "r 1 2 0.5":                 "line 3: not a line of a state",
		head + "x 1 2":                     "line 3: not a line of a state",
		head + "p 1 1.1e10":                "line 3: not a number from 0 to 1e10",
		head + "p -1 1":                    "line 3: not a number from 0 to 1e10",
		head + "p - -":                     "line 3: not a number from 0 to 1e10",
		head + "p 1 - -":                   "line 3: not a number from 0 to 1e10",
		head + "p 1 2x":                    "line 3: not a number from 0 to 1e10",
		head + "p 2 1":                     "line 3: not an interval",
		head + "p 0 0":                     "line 3: not an interval",
		head + "p 1 2 1":                   "line 3: the weight is not between 0 and 1",
		head + "p 1 2 0":                   "line 3: the weight is not between 0 and 1",
		head + strings.Repeat("p 1 2\n", maxSamples+1): "line 515: more than 512 jobs of a kind",
		head + strings.Repeat("r 1 2\n", maxSamples+1): "line 515: more than 512 jobs of a kind",
	} {
		if _, err := parseState([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", text, err, want)
		}
	}
}
