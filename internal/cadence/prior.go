package cadence

import (
	"math"
	"sync"
)

// priorDensity is the density of the log of the age, not normalised, that is
// assumed before anything is known: around two minutes, with tails so long that
// seconds and hours are no surprise. Around the estimate, where there is one.
func priorDensity(x float64, ratio bool) float64 {
	if ratio {
		return math.Exp(-math.Abs(x)/0.35) + 0.1*math.Exp(-math.Abs(x)/1.5)
	}
	flat := min(1, math.Exp((x-1)/1.5), math.Exp(11-x)) // 3 s to 17 h
	return 0.1*flat + 1/math.Cosh((x-4.8)/1.5)
}

const priorSteps = 2048

// A prior is the integral of priorDensity in equal steps over the grid's range.
type prior [priorSteps + 1]float64

// priors returns the priors of ages and of ratios.
var priors = sync.OnceValue(func() (r [2]*prior) {
	for k := range r {
		r[k] = new(prior)
		sum := 0.0
		for i := range priorSteps {
			r[k][i] = sum
			sum += priorDensity(minLogAge+(float64(i)+.5)*(maxLogAge-minLogAge)/priorSteps, k == 1)
		}
		r[k][priorSteps] = sum
		for i := range r[k] {
			r[k][i] /= sum
		}
	}
	return r
})

// below returns the prior's mass below the log age x.
func (p *prior) below(x float64) float64 {
	y := (x - minLogAge) * (priorSteps / (maxLogAge - minLogAge))
	if !(y > 0) {
		return 0
	}
	i := int(min(y, priorSteps-1))
	return p[i] + (p[i+1]-p[i])*min(y-float64(i), 1)
}

// masses returns the prior's masses of the cells of a grid.
func (p *prior) masses(g grid) []float64 {
	mass, before := make([]float64, g.cells()), 0.0
	for j := range mass {
		b := p.below(g[j+1])
		mass[j] = b - before
		before = b
	}
	return mass
}
