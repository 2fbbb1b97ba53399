// Package yardstick is what a learning cadence is measured with, independent of
// the code under test: distributions of durations, the best schedule for
// each, and the floor, an ideal learner that begins without the distribution.
// It is for tests alone.
package yardstick

import (
	"math"
	"math/rand/v2"
)

// A Dist is a distribution of durations in seconds.
type Dist struct {
	Name string
	CDF  func(x float64) float64
	Draw func(r *rand.Rand) float64
}

func phi(z float64) float64 { return .5 * math.Erfc(-z/math.Sqrt2) }

// LogNormal has the given median, and the standard deviation sigma of the logarithm.
func LogNormal(name string, median, sigma float64) Dist {
	return Dist{name,
		func(x float64) float64 { return phi(math.Log(x/median) / sigma) },
		func(r *rand.Rand) float64 { return median * math.Exp(sigma*r.NormFloat64()) }}
}

// Uniform lies between a and b.
func Uniform(name string, a, b float64) Dist {
	return Dist{name,
		func(x float64) float64 { return min(1, max(0, (x-a)/(b-a))) },
		func(r *rand.Rand) float64 { return a + (b-a)*r.Float64() }}
}

// Weibull has the shape k; k = 1 is the exponential distribution.
func Weibull(name string, k, scale float64) Dist {
	return Dist{name,
		func(x float64) float64 { return -math.Expm1(-math.Pow(x/scale, k)) },
		func(r *rand.Rand) float64 { return scale * math.Pow(r.ExpFloat64(), 1/k) }}
}

// Pareto begins at from; the chance of outlasting x falls like x^−alpha.
func Pareto(name string, alpha, from float64) Dist {
	return Dist{name,
		func(x float64) float64 { return 1 - math.Pow(max(1, x/from), -alpha) },
		func(r *rand.Rand) float64 { return from * math.Exp(r.ExpFloat64()/alpha) }}
}

// Gamma4 is the sum of four exponential phases.
func Gamma4(name string, mean float64) Dist {
	return Dist{name,
		func(x float64) float64 { y := 4 * x / mean; return 1 - math.Exp(-y)*(1+y+y*y/2+y*y*y/6) },
		func(r *rand.Rand) float64 {
			return mean / 4 * (r.ExpFloat64() + r.ExpFloat64() + r.ExpFloat64() + r.ExpFloat64())
		}}
}

// Triangular is the sum of two uniform phases, between a and b.
func Triangular(name string, a, b float64) Dist {
	return Dist{name,
		func(x float64) float64 {
			y := min(1, max(0, (x-a)/(b-a)))
			if y < .5 {
				return 2 * y * y
			}
			return 1 - 2*(1-y)*(1-y)
		},
		func(r *rand.Rand) float64 { return a + (b-a)/2*(r.Float64()+r.Float64()) }}
}

// LogLogistic has the tail exponent k.
func LogLogistic(name string, median, k float64) Dist {
	return Dist{name,
		func(x float64) float64 { return 1 / (1 + math.Pow(x/median, -k)) },
		func(r *rand.Rand) float64 { u := r.Float64(); return median * math.Pow(u/(1-u), 1/k) }}
}

// Mixture draws from ds with the probabilities w.
func Mixture(name string, w []float64, ds ...Dist) Dist {
	return Dist{name,
		func(x float64) (s float64) {
			for i, d := range ds {
				s += w[i] * d.CDF(x)
			}
			return s
		},
		func(r *rand.Rand) float64 {
			u := r.Float64()
			for i, d := range ds {
				if u -= w[i]; u < 0 || i == len(ds)-1 {
					return d.Draw(r)
				}
			}
			panic("unreachable")
		}}
}

// Lattice rounds the durations of d up to multiples of period and adds a uniform
// time of up to late.
func Lattice(name string, period, late float64, d Dist) Dist { return Ticks(name, period, 0, late, d) }

// Ticks is Lattice for jobs that begin phase after a tick.
func Ticks(name string, period, phase, late float64, d Dist) Dist {
	return Dist{name,
		func(x float64) float64 {
			k := math.Floor((x + phase) / period)
			before, at := 0.0, d.CDF(k*period-phase)
			if k < 1 {
				return 0
			}
			if k > 1 {
				before = d.CDF((k-1)*period - phase)
			}
			return before + (at-before)*min(1, (x+phase-k*period)/late)
		},
		func(r *rand.Rand) float64 {
			return period*math.Ceil((d.Draw(r)+phase)/period) - phase + late*r.Float64()
		}}
}

// Quantile returns the duration below which the share p lies.
func (d Dist) Quantile(p float64) float64 {
	lo, hi := 1e-6, 1e9
	for range 90 {
		m := math.Sqrt(lo * hi)
		if d.CDF(m) < p {
			lo = m
		} else {
			hi = m
		}
	}
	return hi
}

// Own is the list on which the constants of the cadence were chosen.
func Own() []Dist {
	return []Dist{
		Uniform("uniform 5-30 s", 5, 30),
		Uniform("constant 60 s", 60, 60.5),
		LogNormal("log-normal 3 min .3", 180, .3),
		LogNormal("log-normal 3 min 1", 180, 1),
		Weibull("exponential 10 min", 1, 600),
		Mixture("bimodal 30 s, 20 min", []float64{.6, .4}, LogNormal("", 30, .2), LogNormal("", 1200, .2)),
		Pareto("Pareto 1.5 from 20 s", 1.5, 20),
		Weibull("Weibull 3, 5 min", 3, 300),
	}
}

// HeldOut is a second list. Its figures were seen on the way, so it is no blind test.
func HeldOut() []Dist {
	discrete, share := make([]Dist, 12), make([]float64, 12)
	for i := range discrete {
		a := 20 + 5*float64(i)
		discrete[i] = Uniform("", a, a+.1)
		share[i] = math.Pow(.8, float64(i)) * .2 / (1 - math.Pow(.8, 12))
	}
	return []Dist{
		Gamma4("gamma 4, mean 2 min", 120),
		Triangular("triangular 1-9 min", 60, 540),
		Mixture("three modes", []float64{.3, .5, .2}, LogNormal("", 12, .15), LogNormal("", 90, .1), LogNormal("", 900, .3)),
		Mixture("multiples of 5 s", share, discrete...),
		LogLogistic("log-logistic 3 min, 3", 180, 3),
		Mixture("uniform 1-5 min + atom", []float64{.5, .5}, Uniform("", 60, 300), Uniform("", 120, 120.3)),
		LogNormal("log-normal 2 s .5", 2, .5),
		LogNormal("log-normal 3 h .5", 10800, .5),
	}
}

// Lattices is a list of durations that fall on multiples.
func Lattices() []Dist {
	return []Dist{
		Lattice("5 s, log-normal 1 min .5", 5, .05, LogNormal("", 60, .5)),
		Lattice("5 s, uniform 20-80 s", 5, .1, Uniform("", 20, 80)),
		Lattice("60 s, log-normal 5 min .5", 60, .5, LogNormal("", 300, .5)),
		Lattice("60 s, exponential 10 min", 60, .2, Weibull("", 1, 600)),
		Lattice("10 s, Weibull 2, 3 min", 10, .1, Weibull("", 2, 180)),
		Lattice("30 s, log-normal 3 min 1", 30, .1, LogNormal("", 180, 1)),
	}
}

// Fresh is a list that was drawn up when the constants of the cadence stood.
func Fresh() []Dist {
	return []Dist{
		Lattice("multiples of 7 s, gamma 1 min", 7, .1, Gamma4("", 60)),
		Lattice("multiples of 15 s, bimodal", 15, .2, Mixture("", []float64{.5, .5}, LogNormal("", 50, .2), LogNormal("", 400, .3))),
		Lattice("multiples of 60 s, Weibull 1.5", 60, 1, Weibull("", 1.5, 500)),
		Mixture("failures 30 s, success 8 min", []float64{.15, .85}, LogNormal("", 30, .1), LogNormal("", 480, .25)),
		Mixture("short cached, long", []float64{.3, .7}, Uniform("", 1, 2), LogNormal("", 240, .4)),
		Mixture("four modes", []float64{.2, .3, .3, .2}, LogNormal("", 20, .1), LogNormal("", 70, .1), LogNormal("", 250, .1), LogNormal("", 900, .1)),
		Mixture("two atoms and a tail", []float64{.4, .4, .2}, Uniform("", 45, 45.4), Uniform("", 90, 90.4), Pareto("", 1.5, 90)),
		Pareto("Pareto 1.2 from 1 min", 1.2, 60),
		LogNormal("log-normal 5 min 1.3", 300, 1.3),
		LogLogistic("log-logistic 30 s, 1.8", 30, 1.8),
		Uniform("queue, uniform 3-4 min", 180, 240),
		Triangular("triangular 4-5 min", 240, 300),
		Weibull("Weibull .7, 4 min", .7, 240),
		Gamma4("gamma 4, mean 40 min", 2400),
	}
}
