package yardstick

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// A Course is a sequence of jobs whose distribution changes. Jobs that begin together, as
// a batch, are learnt from when all of them have ended.
type Course struct {
	Name  string
	Batch int // jobs that begin at once; 0: one after the other
	At    func(job int) Dist
}

// Drawn returns n courses whose families and parameters are drawn at random from a seed: two
// lattices, mixtures, heavy tails, and smooth ones in turn, and then drift, a daily
// cycle, batches and videos of many lengths.
func Drawn(seed uint64) []Course {
	r := rand.New(rand.NewPCG(seed, 16))
	between := func(a, b float64) float64 { return a * math.Pow(b/a, r.Float64()) }
	normal := func() Dist { return LogNormal("", between(20, 1500), between(.15, 1)) }
	named := func(d Dist, format string, args ...any) Course {
		d.Name = fmt.Sprintf("%d: ", seed) + fmt.Sprintf(format, args...)
		return Course{d.Name, 0, func(int) Dist { return d }}
	}
	var cs []Course
	for range 2 {
		period := []float64{2, 4, 5, 10, 15, 20, 30, 60}[r.IntN(8)]
		median := period * between(3, 30)
		d := Lattice("", period, period*between(.001, .02), LogNormal("", median, .5))
		cs = append(cs, named(d, "multiples of %v s, median %.0f s", period, median))
	}
	for k := 2; k <= 4; k++ {
		ds, w := make([]Dist, k), make([]float64, k)
		for i := range ds {
			ds[i], w[i] = LogNormal("", between(10, 1500), between(.08, .4)), 1/float64(k)
		}
		cs = append(cs, named(Mixture("", w, ds...), "mixture of %d", k))
	}
	alpha, from, shape := between(1.2, 2.5), between(5, 120), between(1.5, 3)
	cs = append(cs, named(Pareto("", alpha, from), "Pareto %.1f from %.0f s", alpha, from), named(LogLogistic("", from*3, shape), "log-logistic %.1f", shape))
	shape = between(.6, 4)
	cs = append(cs, named(Weibull("", shape, between(30, 900)), "Weibull %.1f", shape), named(normal(), "log-normal"))
	a := between(20, 600)
	cs = append(cs, named(Uniform("", a, a*between(1.02, 3)), "uniform from %.0f s", a))
	median, sigma := between(40, 400), between(.15, .5)
	cs = append(cs, Course{"drift to twice as long", 0, func(job int) Dist {
		step := job / 50
		return LogNormal(fmt.Sprintf("%d: drift %d", seed, step), median*math.Exp2(float64(step)/16), sigma)
	}}, Course{"daily cycle", 0, func(job int) Dist {
		step := job / 25 % 12
		return LogNormal(fmt.Sprintf("%d: cycle %d", seed, step), median*(1+.4*math.Sin(float64(step)*math.Pi/6)), sigma)
	}})
	batch := named(normal(), "batches of 20")
	batch.Batch = 20
	lengths := Mixture("", []float64{.3, .5, .2}, LogNormal("", median/3, .5), LogNormal("", median, .5), LogNormal("", median*4, .5))
	return append(cs, batch, named(lengths, "videos of many lengths"))
}
