package yardstick

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vtclient/vtclient/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestOptimumOfAConstantIsOneRequest(t *testing.T) {
	o := Solve(Uniform("point", 60, 60.001), 2)
	if math.Abs(o.Cost-2) > .01 || math.Abs(o.Next(0)-60.001) > .001 {
		t.Errorf("cost %v, first poll at %v", o.Cost, o.Next(0))
	}
}

// With the constant hazard 1/m the gap g solves e^(g/m) − g/m = 1 + c/m, whatever the age.
func TestOptimumOfAnExponentialIsAFixedGap(t *testing.T) {
	const m, c = 600.0, 5.0
	g := math.Sqrt(2 * c * m)
	for range 50 {
		g -= (m*math.Expm1(g/m) - g - c) / math.Expm1(g/m)
	}
	o := Solve(Weibull("exponential", 1, m), c)
	for _, age := range []float64{0, 100, 1000} {
		if gap := o.Next(age) - age; math.Abs(gap/g-1) > .1 {
			t.Errorf("at %v: a gap of %v, want %v", age, gap, g)
		}
	}
	// The cost is that of the fixed gap: (c+g) per poll, less the mean duration.
	if want := (c+g)/-math.Expm1(-g/m) - m; math.Abs(o.Cost/want-1) > .005 {
		t.Errorf("cost %v, want %v", o.Cost, want)
	}
}

// What is drawn from a distribution follows its CDF (Kolmogorov-Smirnov).
func TestDrawsFollowTheCDF(t *testing.T) {
	for _, d := range slices.Concat(Own(), HeldOut(), Lattices(), Fresh()) {
		const n = 4000
		r := rand.New(rand.NewPCG(1, 1))
		for _, p := range []float64{.1, .3, .5, .8, .95} {
			x := d.Quantile(p)
			below := 0
			for range n {
				if d.Draw(r) <= x {
					below++
				}
			}
			if want := d.CDF(x); math.Abs(float64(below)/n-want) > .035 {
				t.Errorf("%s: %.3f of the draws are below the quantile of %.3f", d.Name, float64(below)/n, want)
			}
		}
	}
}

// Once the ideal learner has seen some jobs it is as good as the optimum, and never better.
func TestIdealLearnerReachesTheOptimum(t *testing.T) {
	family := []Dist{LogNormal("a", 180, .3), Uniform("b", 5, 30), Weibull("c", 1, 600)}
	const c = 5
	d := LogNormal("log-normal 40 s .3", 40, .3)
	opt := Solve(d, c)
	l := NewIdeal(family, c)
	r := rand.New(rand.NewPCG(2, 2))
	excess := 0.0
	for job := range 40 {
		x := d.Draw(r)
		cost := l.Run(x)
		if job >= 15 {
			excess += (cost - opt.Of(x, c)) / 25
		}
	}
	if excess > .1*opt.Cost || excess < -.1*opt.Cost {
		t.Errorf("the cost exceeds the optimum %.2f by %.2f", opt.Cost, excess)
	}
}
