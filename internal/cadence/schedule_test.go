package cadence

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
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
			if 1-f[i] < 1e-9 { // no job is left
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
			got := s.Quantile(pend, share)
			if want >= f[n] {
				near(t, "a quantile beyond the end", got, age[n]*max(1, (1-f[n])/(1-want)), 1e-6)
			} else if near(t, "F at a quantile", below(got), want, 1e-6); got < pend {
				t.Errorf("the quantile %v lies before %v", got, pend)
			}
		}
		near(t, "a quantile of a job beyond the end", s.Quantile(200, 0.75), 800, 1e-12)
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

// Following a schedule costs what it promises, by plain summation, from wherever one begins.
func TestScheduleCostsWhatItPromises(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for _, kind := range []string{"log-normal", "two kinds", "nearly the same"} {
		m := NewModel(Plain)
		for i := range 200 {
			d := 180 * math.Exp(0.4*r.NormFloat64())
			switch kind {
			case "two kinds":
				d = []float64{30, 1200}[i%2] * (1 + 0.05*r.Float64())
			case "nearly the same":
				d = 60 + r.Float64()
			}
			m.Learn(sampleOf(d*0.98, d, 1))
		}
		for _, c := range []float64{0.5, 5, 60} {
			s := m.Schedule(c, 0)
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
					to := s.Best(age)
					if !(to > age) || polls > 1e6 {
						t.Fatalf("%s: after %v comes %v", kind, age, to)
					}
					// A request, and the time from the ends before it until it.
					cost += s.Cost*left(age) + (to-age)*left(age) - (rest(age) - rest(to))
					age = to
				}
				cost += left(age) * s.at(s.v, s.find(age), age) // the few that are left
				promise := s.at(s.v, s.find(from), from)
				if q := cost / left(from) / promise; q < 0.93 || q > 1.13 {
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

func someSchedule(t *testing.T, jobs int) *Schedule {
	t.Helper()
	m := NewModel(Plain)
	r := rand.New(rand.NewPCG(10, 10))
	for range jobs {
		d := 180 * math.Exp(0.4*r.NormFloat64())
		m.Learn(sampleOf(d*0.95, d, 1))
	}
	return m.Schedule(2, 0)
}

// A poll is shifted by 15 % of its gap at most, and by less where that would cost
// more than a fiftieth of a request.
func TestRandomShifts(t *testing.T) {
	for _, jobs := range []int{0, 3, 200} {
		s := someSchedule(t, jobs)
		s.explore = 0
		var explored atomic.Uint32
		full, less := 0, 0
		for age := 0.0; age < 3000; age = age*1.02 + 0.3 {
			i := s.find(age)
			to := s.best(i, age)
			gap := to - age
			if u := s.Next(age, &explored, scripted(0.5)); u != to {
				t.Fatalf("at %v, in the middle: %v, want %v", age, u, to)
			}
			f := s.at(s.f, i, age)
			cost := func(u float64) float64 { return s.at(s.b, s.find(u), u) - u*f }
			limit := cost(to) + 0.02*s.Cost*(1-f)
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
				if u := s.Next(age, &explored, scripted(draw)); math.Abs(u-want) > 1e-9*to {
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
			gap := math.Sqrt(2 * s.Cost * age)
			near(t, "beyond the end, earliest", s.Next(age, &explored, scripted(0))-age, 0.85*gap, 1e-6)
			near(t, "beyond the end, latest", s.Next(age, &explored, scripted(1))-age, 1.15*gap, 1e-6)
		}
		if explored.Load() != 0 {
			t.Error("there was exploring")
		}
	}
}

// Every so many gaps that end in success one has an earlier poll, 4 % to 8 % of the
// gap before its end, and at most every second gap.
func TestExploring(t *testing.T) {
	s := someSchedule(t, 200)
	for _, share := range []float64{0.04, 0.3, 3} {
		s.explore = share
		for _, age := range []float64{0, 100, 180, 400} {
			i := s.find(age)
			to := s.best(i, age)
			gap := to - age
			f := s.at(s.f, i, age)
			success := (s.at(s.f, s.find(to), to) - f) / (1 - f)
			each := min(share*success*math.Sqrt(s.v[i]/s.Cost), 0.5)
			const calls = 1000
			var explored atomic.Uint32
			n := 0
			for range calls {
				// The first draw is that of the shift, the second that of the earlier poll.
				if u := s.Next(age, &explored, scripted(0.5, 0)); math.Abs(u-(to-0.04*gap)) < 1e-9*to {
					n++
				} else if u != to {
					t.Fatalf("share %v, at %v: %v, the best being %v", share, age, u, to)
				}
			}
			if math.Abs(float64(n)-calls*each) > 1 {
				t.Errorf("share %v, at %v: %d of %d explored, want %v", share, age, n, calls, calls*each)
			}
			explored.Store(math.MaxUint32)
			near(t, "the earliest", s.Next(age, &explored, scripted(0.5, 1)), to-0.08*gap, 1e-9)
			explored.Store(math.MaxUint32)
			near(t, "in the middle", s.Next(age, &explored, scripted(0.5, 0.5)), to-0.06*gap, 1e-9)
		}
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
		s := &Schedule{Cost: 1, t: []float64{0, 100, 110, 300}, to: []float64{100, tt.to0, tt.to1, 400}}
		near(t, tt.rule, s.Best(tt.pend), tt.want, 1e-12)
	}
	s := &Schedule{Cost: 2, t: []float64{0, 100}, to: []float64{100, 120}}
	for _, age := range []float64{100, 144} {
		near(t, "beyond the end", s.Best(age), age+2*math.Sqrt(age), 1e-12)
	}
}
