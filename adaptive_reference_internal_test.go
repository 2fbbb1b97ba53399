package vtclient

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// near fails the test unless got is want, but for rounding.
func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*max(1, math.Abs(want))) {
		t.Errorf("%s: %.12g, want %.12g", what, got, want)
	}
}

// randomCells returns n random cells within lo and hi and random masses that add up to sum.
func randomCells(r *rand.Rand, n int, lo, hi, sum float64) (x, mass []float64) {
	x, mass = make([]float64, n+1), make([]float64, n)
	for i := range x {
		x[i] = lo + (hi-lo)*r.Float64()
	}
	x[0], x[n] = lo, hi
	slices.Sort(x)
	total := 0.0
	for i := range mass {
		if r.IntN(4) > 0 || i == n/2 {
			mass[i] = r.ExpFloat64()
		}
		total += mass[i]
	}
	for i := range mass {
		mass[i] *= sum / total
	}
	return x, mass
}

// The schedule is the one that trying all ages of the grid for each next poll finds.
func TestScheduleIsTheBestOfAll(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 60 {
		n := 2 + r.IntN(60)
		age, p := randomCells(r, n, 0, 100, 1-[]float64{0, 0.001, 0.2}[round%3])
		c := math.Exp(6 * r.Float64())
		s := newSchedule(age, p, c)

		f, mid := make([]float64, n+1), make([]float64, n)
		for i := range p {
			f[i+1], mid[i] = f[i]+p[i], (age[i]+age[i+1])/2
		}
		cost := make([]float64, n+1)
		cost[n] = max(0, 1-f[n]) * 2 * math.Sqrt(2*c*age[n])
		for i := n - 1; i >= 0; i-- {
			cost[i] = math.Inf(1)
			to := 0.0
			for j := i + 1; j <= n; j++ {
				v := c*(1-f[i]) + cost[j]
				for k := i; k < j; k++ {
					v += p[k] * (age[j] - mid[k])
				}
				if v < cost[i] {
					cost[i], to = v, age[j]
				}
			}
			// Where several polls belong into a cell, the continuous limit.
			if d := age[i+1] - age[i]; p[i] > 0 {
				left := 1 - f[i] - p[i]/2
				if gap := math.Sqrt(2 * c * left * d / p[i]); d > 1.5*gap {
					if v := math.Sqrt(2*c*left*p[i]*d) + cost[i+1]; v < cost[i] {
						cost[i], to = v, age[i]+gap
					}
				}
			}
			if 1-f[i] < 1e-9 { // nobody is left
				continue
			}
			near(t, fmt.Sprintf("round %d: cost at %d of %d", round, i, n), s.v[i]*(1-f[i]), cost[i], 1e-9)
			if math.Abs(s.to[i]-to) > 1e-9 {
				// Another age may be as good.
				j := s.find(s.to[i])
				near(t, fmt.Sprintf("round %d: the choice at %d", round, i), s.b[j]-age[j]*f[i]+c*(1-f[i]), cost[i]-func() (x float64) {
					for k := range i {
						x += p[k] * mid[k]
					}
					return x
				}(), 1e-9)
			}
		}
		near(t, "F at the end", s.f[n], f[n], 1e-12)
		near(t, "beyond the end", s.to[n], age[n]+math.Sqrt(2*c*age[n]), 1e-12)
		near(t, "the cost beyond the end", s.v[n], 2*math.Sqrt(2*c*age[n]), 1e-12)

		// Quantiles, by going through the cells.
		for range 20 {
			if 1-f[n] < 1e-6 {
				break
			}
			pend, share := 100*r.Float64(), r.Float64()
			below := func(a float64) (sum float64) {
				for k := range p {
					sum += p[k] * min(1, max(0, (a-age[k])/(age[k+1]-age[k])))
				}
				return sum
			}
			want := below(pend) + share*(1-below(pend))
			got := s.quantile(pend, share)
			if want >= f[n] {
				near(t, "a quantile beyond the end", got, age[n]*max(1, (1-f[n])/(1-want)), 1e-6)
			} else if near(t, "F at a quantile", below(got), want, 1e-6); got < pend {
				t.Errorf("the quantile %v lies before %v", got, pend)
			}
		}
		near(t, "a quantile of a job beyond the end", s.quantile(200, 0.75), 800, 1e-12)
	}
}

func TestScheduleLookups(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 100 {
		age, p := randomCells(r, 1+r.IntN(50), 0, 100, 0.9)
		s := newSchedule(age, p, 1)
		for range 20 {
			a := 120 * r.Float64()
			if r.IntN(3) == 0 {
				a = age[r.IntN(len(age))]
			}
			want := 0
			for i, x := range age {
				if x <= a {
					want = i
				}
			}
			if got := s.find(a); got != want {
				t.Fatalf("%v is in cell %d, want %d, of %v", a, got, want, age)
			}
			v := s.f[len(s.f)-1]
			if i := want; i < len(p) {
				v = s.f[i] + p[i]*(a-age[i])/(age[i+1]-age[i])
			}
			near(t, "interpolated", s.at(s.f, want, a), v, 1e-12)
		}
	}
}

// Smoothing is the convolution of point masses in the middle of the cells with a
// two-sided exponential kernel.
func TestSmoothIsAConvolution(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, width := range []float64{0.01, 0.3, 5} {
		n := 40
		x, mass := randomCells(r, n, -3, 4, 1)
		decay, out, want := make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range n {
			decay[i] = decayTable().exp((x[i+1] - x[i]) / (2 * width))
			out[i], want[i] = 0.25, 0.25
		}
		kernel := func(d float64) float64 { // its integral
			if d < 0 {
				return math.Exp(d/width) / 2
			}
			return 1 - math.Exp(-d/width)/2
		}
		for i := range n {
			for j := range n {
				mid := (x[j] + x[j+1]) / 2
				want[i] += mass[j] * (kernel(x[i+1]-mid) - kernel(x[i]-mid))
			}
		}
		smooth(decay, mass, out)
		for i := range n {
			near(t, fmt.Sprintf("width %v, cell %d", width, i), out[i], want[i], 1e-8)
		}
	}
}

func TestDecayTable(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 1000 {
		y := 40 * r.Float64() * r.Float64()
		near(t, fmt.Sprint("exp of -", y), decayTable().exp(y), math.Exp(-y), 1e-8)
	}
	for _, y := range []float64{decayFar, 1e9, math.Inf(1), math.NaN()} {
		if v := decayTable().exp(y); v != 0 {
			t.Errorf("exp of -%v: %v, want 0", y, v)
		}
	}
}

// What is carried over from one grid to another is the mass that lies there.
func TestCarryOverKeepsMassWhereItIs(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 50 {
		old, mass := randomCells(r, 1+r.IntN(40), 0, 10, 1)
		x, _ := randomCells(r, 1+r.IntN(40), 0, 10, 1)
		got := carryOver(old, mass, x)
		for j := range got {
			want := 0.0
			for i, m := range mass {
				want += m * max(0, min(x[j+1], old[i+1])-max(x[j], old[i])) / (old[i+1] - old[i])
			}
			near(t, "a cell", got[j], want, 1e-12)
		}
	}
}

// The mass of a sample is spread over its interval in proportion to the estimate,
// older samples counting less.
func TestSpreadIsInProportionToTheEstimate(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for range 40 {
		n := 3 + r.IntN(30)
		m := &model{}
		var mass []float64
		m.x, mass = randomCells(r, n, minLogAge, maxLogAge, 1)
		c := &pool{mass: mass}
		w := getWork()
		var samples []sample
		for range 1 + r.IntN(20) {
			lo, hi := math.Exp(minLogAge+20*r.Float64()), math.Exp(minLogAge+25*r.Float64())
			s := sample{min(lo, hi), max(lo, hi), []float64{1, 1, sharedWeight}[r.IntN(3)]}
			switch r.IntN(6) {
			case 0:
				s.lo = 0
			case 1:
				s.hi = math.Inf(1)
			}
			samples = append(samples, s)
		}
		first := r.IntN(len(samples))
		for i, s := range samples {
			w.from[i], w.to[i] = m.interval(s)
		}
		got := c.spread(w, samples, first)

		// How much of a cell lies below an age, in log age.
		below := func(j int, age float64) float64 {
			return min(1, max(0, (math.Log(age)-m.x[j])/(m.x[j+1]-m.x[j])))
		}
		want, total := make([]float64, n), 0.0
		for i := first; i < len(samples); i++ {
			s := samples[i]
			weight := s.weight * math.Exp(-float64(len(samples)-1-i)/memory)
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
				want[j] += weight * part[j] / sum
			}
		}
		near(t, "the total", got, total, 1e-9)
		for j := range want {
			near(t, fmt.Sprintf("cell %d of %d", j, n), w.c[j], want[j], 1e-6)
		}
		w.put()
	}
}

// What the widths are trusted is the product of what they gave to the samples, a
// little of the trust that they began with flowing back.
func TestJudgeIsBayesRule(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	m := &model{}
	m.init(false)
	for i := range 60 {
		s := sample{lo: 100 * math.Exp(r.NormFloat64()), weight: 1}
		if s.hi = s.lo * (1.01 + r.Float64()); i%7 == 0 {
			s.hi = math.Inf(1)
		}
		if i%5 == 0 {
			s.weight = sharedWeight
		}
		old := m.pools
		p, prior := m.judge(s)
		below := func(cdf []float32, age float64) float64 {
			for j := range m.cells() {
				if x := math.Log(age); x < m.x[j+1] {
					return float64(cdf[j]) + max(0, (x-m.x[j])/(m.x[j+1]-m.x[j]))*float64(cdf[j+1]-cdf[j])
				}
			}
			return float64(cdf[m.cells()])
		}
		for k := range m.pools {
			var q, trust [numWidths]float64
			sum := 0.0
			for l := range q {
				q[l] = math.Pow(max(below(old[k].cdf[l], s.hi)-below(old[k].cdf[l], s.lo), tiny), s.weight)
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
		// The prior's mass in the interval, by adding up its density.
		want, sum := 0.0, 0.0
		const steps = 1 << 15
		for i := range steps {
			x := minLogAge + (float64(i)+.5)*(maxLogAge-minLogAge)/steps
			d := priorDensity(x, false)
			if sum += d; x > math.Log(s.lo) && x <= math.Log(s.hi) {
				want += d
			}
		}
		near(t, "the prior", prior, max(want/sum, tiny), 2e-3)
		m.learn(s)
	}
}

// An age lies in the cell that contains it, and in what share of it.
func TestLocate(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	m := &model{}
	m.x, _ = randomCells(r, 50, minLogAge, maxLogAge, 1)
	for range 500 {
		x := minLogAge - 1 + (maxLogAge-minLogAge+2)*r.Float64()
		got := m.locate(math.Exp(x))
		want := place{0, 0}
		for j := range 50 {
			if m.x[j] <= x {
				want = place{j, min(1, (x-m.x[j])/(m.x[j+1]-m.x[j]))}
			}
		}
		if got.cell != want.cell {
			t.Fatalf("%v is in cell %d, want %d", x, got.cell, want.cell)
		}
		near(t, "share", got.share, want.share, 1e-9)
	}
	for _, tt := range []struct {
		age  float64
		want place
	}{{0, place{0, 0}}, {-1, place{0, 0}}, {math.Inf(1), place{49, 1}}, {math.Exp(minLogAge), place{0, 0}}, {1e300, place{49, 1}}} {
		if got := m.locate(tt.age); got != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.age, got, tt.want)
		}
	}
}

// The grid holds what its comment says, whatever was learnt.
func TestGridIsAsPromised(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for _, sigma := range []float64{0, 0.01, 0.5, 2} {
		m := &model{}
		m.init(false)
		for range 120 {
			d := 180 * math.Exp(sigma*r.NormFloat64())
			m.learn(sample{lo: d * 0.97, hi: d, weight: 1})
			n := m.cells()
			if n > maxCells || m.x[0] != minLogAge || m.x[n] != maxLogAge {
				t.Fatalf("σ %v: %d cells from %v to %v", sigma, n, m.x[0], m.x[n])
			}
			for j := range n {
				d := m.x[j+1] - m.x[j]
				if !(d > 0) || len(m.samples) > 0 && d > maxCell*3 {
					t.Fatalf("σ %v: cell %d of %d is %v wide", sigma, j, n, d)
				}
				if j > 0 && n < maxCells {
					if before := m.x[j] - m.x[j-1]; max(d/before, before/d) > 4 {
						t.Fatalf("σ %v: cell %d is %v wide after %v", sigma, j, d, before)
					}
				}
			}
		}
		for k := range m.pools {
			sum := 0.0
			for _, v := range m.pools[k].mass {
				sum += v
			}
			near(t, "the mass", sum, 1, 1e-9)
			for l, cdf := range m.pools[k].cdf {
				if !slices.IsSorted(cdf) || cdf[0] != 0 {
					t.Errorf("width %d: not a distribution", l)
				}
			}
		}
	}
}
