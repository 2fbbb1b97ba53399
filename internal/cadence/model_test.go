package cadence

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// judge returns what the pools of a copy of m, and the prior, gave to a sample. It changes how
// the copy's widths are trusted.
func (m *Model) judge(s Sample) (p [2]float64, prior float64) {
	for k := range m.pools {
		p[k] = m.pools[k].judge(locate(m.ages, s.Lo), locate(m.ages, s.Hi))
	}
	return p, max(m.prior.below(math.Log(s.Hi))-m.prior.below(math.Log(s.Lo)), tiny)
}

// What the widths are trusted is the product of what they gave to the samples, a
// little of the trust that they began with flowing back.
func TestJudgeIsBayesRule(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	m := NewModel(Plain)
	for i := range 60 {
		s := Sample{Lo: 100 * math.Exp(r.NormFloat64()), Weight: 1}
		if s.Hi = s.Lo * (1.01 + r.Float64()); i%7 == 0 {
			s.Hi = math.Inf(1)
		}
		old := m.pools
		p, prior := m.judge(s)
		below := func(cdf []float32, age float64) float64 {
			for j := range m.grid.cells() {
				if t := m.grid.ages(); age < t[j+1] {
					return float64(cdf[j]) + max(0, (age-t[j])/(t[j+1]-t[j]))*float64(cdf[j+1]-cdf[j])
				}
			}
			return float64(cdf[m.grid.cells()])
		}
		for k := range m.pools {
			var q, trust [numWidths]float64
			sum := 0.0
			for l := range q {
				q[l] = max(below(old[k].cdf[l], s.Hi)-below(old[k].cdf[l], s.Lo), tiny)
				sum += old[k].mix[l] * q[l]
			}
			near(t, "the probability", p[k], sum, 1e-9)
			all := 0.0
			for l := range trust {
				back := backflow * max(0, 1-sum)
				trust[l] = (1-back)*old[k].mix[l]*q[l]/sum + back*widthPrior[l]
				all += m.pools[k].mix[l]
				near(t, fmt.Sprintf("the trust in width %d", l), m.pools[k].mix[l], trust[l], 1e-9)
			}
			near(t, "all trust", all, 1, 1e-9)
		}
		logistic := func(age, centre, scale float64) float64 {
			return 1 / (1 + math.Exp(-(math.Log(age)-centre)/scale))
		}
		cdf := func(age float64) float64 { return logistic(age, 4.8, 1.4) }
		near(t, "the prior", prior, max(cdf(s.Hi)-cdf(s.Lo), tiny), 1e-9)
		m.Learn(s)
	}
}

// What the samples make of the two pools is Bayes' rule with a change before each
// sample with the probability changeProb. A change changes what is used, and not what is
// remembered.
func TestChangesAreFoundByBayesRule(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	m := NewModel(Plain)
	var accepted, bornAgain int
	for i := range 160 {
		median := 180.0
		if i >= 60 && i < 110 {
			median = 20 // for good
		} else if i%23 == 22 {
			median = 700 // now and then
		}
		d := median * math.Exp(0.2*r.NormFloat64())
		s := sampleOf(d*0.9, d*1.02, 1)
		if i%11 == 0 {
			s.Weight = doubtful
		}
		since, used := m.since+1, m.used+1
		before := *m
		p, prior := before.judge(s) // of a copy: it changes the trust in the widths

		w1, mix := m.change, before.pools[1].mix
		if s.Weight == 1 {
			w0 := (1 - w1) * p[0]
			w1 *= p[1]
			if born := prior / 300; used > 1 && born > w1 {
				w1, since = born, 1
				bornAgain++
				for l := range mix {
					mix[l] = (before.pools[0].mix[l] + widthPrior[l]) / 2
				}
			}
			w1 /= w0 + w1
		}
		first := before.pools[0].mix
		if w1 > 0.99 && since >= 3 {
			accepted++
			w1 = 0
			used, since = since, 0
			first = mix
		}

		m.Learn(s)
		near(t, fmt.Sprintf("sample %d: what the latest are trusted", i), m.change, w1, 1e-9)
		if m.since != since || m.used != used || len(m.samples) != i+1 {
			t.Errorf("sample %d: %d used, %d since the change, of %d; want %d, %d", i, m.used, m.since, len(m.samples), used, since)
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

// The memory is bounded, and what is forgotten is the oldest. Turns go on rising.
func TestSamplesAreForgotten(t *testing.T) {
	m := NewModel(Plain)
	for i := range 1200 {
		s := sampleOf(float64(100+i%7), float64(110+i%7), 1)
		was := len(m.samples)
		m.Learn(s)
		n := len(m.samples)
		if want := was + 1; n != want && (want <= maxSamples || n != maxSamples*7/8+1) {
			t.Fatalf("%d samples after %d", n, was)
		}
		s.Turn = i
		if m.samples[n-1] != s || m.used > n || m.since > n || m.since < 0 {
			t.Fatalf("sample %d: the newest of %d is %v, %d are used, %d are since the change", i, n, m.samples[n-1], m.used, m.since)
		}
	}
}

// Estimates become rarer as there is more behind them, by a twenty-fourth of the
// samples, or of those of a candidate that is in doubt; a surprise is learnt at once.
func TestEstimatesBecomeRarer(t *testing.T) {
	m := NewModel(Plain)
	r := rand.New(rand.NewPCG(4, 4))
	fresh, regular, doubts, surprises := 0, 0, 0, 0
	for i := range 400 {
		d := 180 * math.Exp(0.3*r.NormFloat64())
		if i%50 == 49 {
			d *= 20
		}
		s := sampleOf(d*0.7, d, 1)
		copied := *m
		p, prior := copied.judge(s)
		surprise := p[0] < min(0.02, 2*prior)
		got := m.Learn(s)
		if len(m.samples) != i+1 {
			t.Fatal("a change was found where there was none")
		}
		fresh++
		due, doubt := fresh > m.used/24, m.change > 0.02 && fresh > m.since/24
		if got != (due || doubt || surprise) {
			t.Fatalf("sample %d: new estimate %v, want %v, %v or %v", i, got, due, doubt, surprise)
		}
		if got {
			if m.fresh != 0 {
				t.Fatalf("%d samples are not in the estimate", m.fresh)
			}
			fresh = 0
		}
		switch {
		case due:
			regular++
		case surprise:
			surprises++
		case doubt:
			doubts++
		}
	}
	if regular < 20 || surprises < 4 || doubts < 1 {
		t.Errorf("%d regular estimates, %d of surprises and %d in doubt", regular, surprises, doubts)
	}
	// The interval of a hint is improbable because it is narrow, which is no surprise.
	m, r = NewModel(Plain), rand.New(rand.NewPCG(5, 5))
	estimates := 0
	for range 300 {
		d := 180 * math.Exp(0.3*r.NormFloat64())
		if m.Learn(sampleOf(d*0.999, d, 1)) {
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
		var samples []Sample
		for range n {
			d := 180 * math.Exp(0.3*r.NormFloat64())
			samples = append(samples, sampleOf(d*0.95, d, 1))
		}
		m := RestoreModel(Ratio, samples)
		if len(m.prior) != len(priors[Ratio]) || m.fresh != 0 || m.used != n || len(m.samples) != n {
			t.Errorf("%d samples: %d fresh, %d used of %d restored", n, m.fresh, m.used, len(m.samples))
		}
	}
}

// Nothing is known: the distribution is the prior, and the grid is even.
func TestFirstEstimateIsThePrior(t *testing.T) {
	for _, kind := range []Kind{Plain, Ratio} {
		m := NewModel(kind)
		n := m.grid.cells()
		if n != maxCells || m.change != 0 {
			t.Errorf("%d cells, a change is likely by %v", n, m.change)
		}
		for j := range n {
			near(t, "a bound", m.grid[j], minLogAge+(maxLogAge-minLogAge)*float64(j)/maxCells, 1e-12)
			want := m.prior.below(m.grid[j+1]) - m.prior.below(m.grid[j])
			if j == 0 || j == n-1 {
				continue // the first and the last hold the rest
			}
			for k := range m.pools {
				near(t, "a mass", m.pools[k].mass[j], want, 1e-4)
			}
		}
	}
	for _, tt := range []struct {
		rule        string
		kind        Kind
		from, to    float64
		least, most float64
	}{
		{"about two minutes", Plain, 30, 480, 0.35, 0.65},
		{"seconds and less", Plain, 0, 5, 0.02, 0.15},
		{"hours", Plain, 3600, 86400, 0.05, 0.2},
		{"more than a day", Plain, 86400, math.Inf(1), 0.002, 0.05},
		{"near the estimate", Ratio, 0.7, 1.4, 0.4, 0.7},
		{"less than a tenth of it", Ratio, 0, 0.1, 0.01, 0.1},
		{"more than ten times as long", Ratio, 10, math.Inf(1), 0.01, 0.1},
	} {
		m := NewModel(tt.kind)
		if p := m.prior.below(math.Log(tt.to)) - m.prior.below(math.Log(tt.from)); p < tt.least || p > tt.most {
			t.Errorf("%s: a share of %.3f, want %v to %v", tt.rule, p, tt.least, tt.most)
		}
	}
}

// What is scheduled is the present estimate: of both pools, as they are trusted. Requests
// may count for two fifths at first, and for more the more is known.
func TestScheduleOfAModel(t *testing.T) {
	m := NewModel(Plain)
	r := rand.New(rand.NewPCG(8, 8))
	for n := range 30 {
		near(t, fmt.Sprintf("the worth of a request after %d jobs", n), m.Discount(n-1), 1-0.6/(1+float64(n)/3), 1e-9)
		near(t, "the same while others have begun", m.Discount(n+9), 1-0.6/(4+float64(n)/3), 1e-9)
		d := 100 * math.Exp(0.3*r.NormFloat64())
		m.Learn(sampleOf(d*0.9, d, 1))
	}
	for _, w := range []float64{0, 0.004, 0.5, 1} {
		m.change = w
		s := m.Schedule(3, 0)
		n := m.grid.cells()
		if s.Cost != 3 || s.Jobs != 30 || len(s.t) != n+2 || s.t[0] != 0 || s.f[0] != 0 {
			t.Fatalf("%d jobs, %d ages from %v", s.Jobs, len(s.t), s.t[0])
		}
		sum := 0.0
		for j := range n {
			near(t, "an age", s.t[j+1]/math.Exp(m.grid[j]), 1, 1e-12)
			near(t, "F", s.f[j+1], sum, 1e-9)
			sum += (1-w)*m.pools[0].mass[j] + w*m.pools[1].mass[j]
		}
		near(t, "the last age", s.t[n+1], math.Exp(m.grid[n]), 1e-9)
		near(t, "F at the end", s.f[n+1], 1, 1e-9)
		elsewhere := 0.0
		for j := range n {
			elsewhere += max(m.pools[1].mass[j]-m.pools[0].mass[j], 0)
		}
		near(t, "exploring", s.explore, 0.04+4*w*elsewhere, 1e-9)
	}
	copy(m.pools[1].mass, m.pools[0].mass)
	near(t, "exploring, where a change would make no difference", m.Schedule(3, 0).explore, 0.04, 1e-9)
}
