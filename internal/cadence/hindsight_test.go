package cadence

import (
	"math"
	"testing"

	"github.com/vtclient/vtclient/internal/yardstick"
)

// A fixed is a schedule whose gaps grow by a factor: first,
// first·factor, first·factor², but never more than most.
type fixed struct{ first, factor, most float64 }

// hindsight is what the cost of a fixed schedule follows from.
type hindsight struct {
	d          yardstick.Dist
	c          float64
	mean       float64 // of the durations
	last, tail float64 // an age that hardly any job outlasts, and ∫(1-F) from there
}

func newHindsight(d yardstick.Dist, c float64) *hindsight {
	h := &hindsight{d: d, c: c, last: d.Quantile(1 - 1e-6)}
	const n = 200000
	lo, hi := 1e-3, 1e9
	h.mean = lo
	for i := range n {
		a, b := lo*math.Pow(hi/lo, float64(i)/n), lo*math.Pow(hi/lo, float64(i+1)/n)
		p := (b - a) * (1 - d.CDF((a+b)/2))
		h.mean += p
		if a > h.last {
			h.tail += p
		}
	}
	return h
}

// cost returns the mean cost of a job, from the true distribution:
// the sum over the gaps g of (c+g)(1-F) at their beginnings, less the mean duration.
func (h *hindsight) cost(f fixed) float64 {
	cost, at, gap := -h.mean, 0.0, f.first
	for at < h.last {
		g := min(gap, f.most)
		cost += (h.c + g) * (1 - h.d.CDF(at))
		at += g
		gap = g * f.factor
	}
	return cost + (1+h.c/min(gap, f.most))*h.tail
}

// best returns the least cost that fixed schedules reach, and the schedule.
// Gaps far below that of the best constant are not worth a look.
func (h *hindsight) best(factors []float64) (least float64, at fixed) {
	least = math.Inf(1)
	try := func(f fixed) {
		if v := h.cost(f); v < least {
			least, at = v, f
		}
	}
	from, to := math.Sqrt(2*h.c*h.mean)/6, 2*h.d.Quantile(.99)
	atom := h.d.Quantile(.99999)
	for _, q := range factors {
		step := 1.3
		if q == 1 {
			step = 1.03
		}
		for first := from; first < to; first *= step {
			if q == 1 {
				try(fixed{first, 1, first})
				continue
			}
			for most := first; most < 2*to; most *= 1.5 {
				try(fixed{first, q, most})
			}
		}
		for k := 1; k <= 8; k++ { // some poll falls right behind an atom
			sum := 0.0
			for i := range k {
				sum += math.Pow(q, float64(i))
			}
			try(fixed{atom / sum, q, atom})
		}
	}
	for step := 1.1; step > 1.002; step = math.Sqrt(step) {
		for better := true; better; {
			before := least
			for _, m := range []float64{step, 1 / step} {
				b := at
				if b.factor == 1 {
					try(fixed{b.first * m, 1, b.first * m})
					continue
				}
				try(fixed{b.first * m, b.factor, b.most})
				try(fixed{b.first, b.factor, b.most * m})
				try(fixed{b.first, max(1, b.factor*m), b.most})
			}
			better = least < before
		}
	}
	return least, at
}

// After 200 jobs the cadence is as good as the best constant and the best exponential
// that a search finds for the very distribution.
func TestFiguresHindsight(t *testing.T) {
	if figures == 0 {
		t.Skip("only with VTCLIENT_FIGURES")
	}
	for _, d := range yardstick.Own() {
		for _, c := range costs {
			opt := yardstick.Solve(d, c)
			h := newHindsight(d, c)
			constant, cf := h.best([]float64{1})
			exponential, ef := h.best([]float64{1.05, 1.1, 1.25, 1.5, 2, 3})
			a := 0.0
			for _, ws := range ratios(d, c, effort{10, 800}, polled) {
				a += ws[3] * opt.Cost / 10
			}
			t.Logf("%-24s c=%-4v optimum %7.3f  cadence %7.3f  constant %7.3f (%.3f) %.1f s  exponential %7.3f (%.3f) %.1f s x %.2f <= %.0f s",
				d.Name, c, opt.Cost, a, constant, a/constant, cf.first, exponential, a/exponential, ef.first, ef.factor, ef.most)
			if m := min(constant, exponential); a > 1.05*m {
				t.Errorf("%s, c=%v: %.3f times the best of hindsight", d.Name, c, a/m)
			}
		}
	}
}
