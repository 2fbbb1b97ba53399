package cadence

import "math"

// A prior is the distribution of the log of the age that is assumed before
// anything is known: a mixture of logistic distributions.
type prior []struct{ share, centre, scale float64 }

var priors = [2]prior{
	// Around two minutes, with tails so long that seconds and hours are no surprise.
	Plain: {{1, 4.8, 1.4}},
	// Around the estimate.
	Ratio: {{.8, 0, .25}, {.2, 0, 1.2}},
}

// below returns the prior's mass below the log age x.
func (p prior) below(x float64) (sum float64) {
	for _, l := range p {
		sum += l.share / (1 + math.Exp((l.centre-x)/l.scale))
	}
	return sum
}

// masses returns the prior's masses of the cells of a grid, which has the whole of it.
func (p prior) masses(g grid) []float64 {
	mass, before := make([]float64, g.cells()), 0.0
	for j := range mass {
		below := 1.0
		if j+1 < len(mass) {
			below = p.below(g[j+1])
		}
		mass[j] = below - before
		before = below
	}
	return mass
}
