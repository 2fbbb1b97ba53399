package yardstick

import (
	"math"
	"slices"
	"sync"
)

// An Optimum is the best schedule for a known distribution, found by plain
// dynamic programming over all pairs of a fine grid: no envelope, no
// estimate, nothing shared with the code under test.
type Optimum struct {
	Cost    float64 // the mean of requests × worth + delay
	t, next []float64
}

type problem struct {
	name string
	c    float64
}

var solved sync.Map // of Optimum, by problem

// Solve returns the optimum for d, a request being worth c. It remembers what it
// has solved by d's name.
func Solve(d Dist, c float64) Optimum {
	if o, ok := solved.Load(problem{d.Name, c}); ok {
		return o.(Optimum)
	}
	const n = 1500
	var t []float64
	for i := 0; i <= n; i++ {
		t = append(t, d.Quantile(min(max(float64(i)/n, 1e-9), 1-1e-8)))
	}
	lo, hi := t[1], t[n]
	for i := 0; i <= n; i++ {
		t = append(t, lo*math.Pow(hi/lo, float64(i)/n))
	}
	t = append(t, 0)
	slices.Sort(t)
	t = slices.Compact(t)
	f := make([]float64, len(t))
	for i := 1; i < len(t); i++ {
		f[i] = d.CDF(t[i])
	}
	o := plan(t, f, c)
	solved.Store(problem{d.Name, c}, o)
	return o
}

// plan returns the best schedule with polls at the ages t, which begin with 0, for
// a distribution that is f at these ages and linear between them.
func plan(t, f []float64, c float64) Optimum {
	m := len(t)
	area := make([]float64, m) // ∫F
	for i := 1; i < m; i++ {
		area[i] = area[i-1] + (t[i]-t[i-1])*(f[i]+f[i-1])/2
	}
	f[m-1] = 1
	w, next := make([]float64, m), make([]float64, m)
	next[m-1] = math.Inf(1)
	for i := m - 2; i >= 0; i-- {
		best, at := math.Inf(1), 0
		for j := i + 1; j < m; j++ {
			v := area[j] - area[i] - f[i]*(t[j]-t[i])
			if v > best { // the delay alone is already worse, and grows
				break
			}
			if v += w[j]; v < best {
				best, at = v, j
			}
		}
		w[i], next[i] = c*(1-f[i])+best, t[at]
	}
	return Optimum{w[0], t, next}
}

// Next returns the age of the poll after a pending answer at an age; +Inf if the
// job cannot outlast it.
func (o Optimum) Next(age float64) float64 {
	i, _ := slices.BinarySearch(o.t, age)
	return o.next[min(i, len(o.next)-1)]
}

// Of returns what the schedule costs for one duration.
func (o Optimum) Of(x, c float64) float64 {
	cost, at := 0., 0.
	for {
		at = o.Next(at)
		if math.IsInf(at, 1) {
			return cost + c
		}
		if cost += c; at >= x {
			return cost + at - x
		}
	}
}
