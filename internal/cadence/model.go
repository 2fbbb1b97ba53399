// Package cadence is the mathematics of vtclient's Adaptive: the distribution of
// the durations of jobs, estimated from intervals, and the best schedule of polls
// for it. It computes with floats and slices; it has no client, clock, lock or
// random source. Ages are in seconds, or in units of the caller's estimate.
//
// docs/cadence.md has the derivation, the sources and the measured figures.
package cadence

import (
	"math"
)

const (
	maxSamples = 512 // samples remembered

	changeProb = 1. / 300 // of a change before a sample
	accept     = 0.99     // certainty at which a change is taken for granted
	backflow   = 0.003    // see judge

	surprising = 0.02 // a sample less probable than this is learnt at once
	tiny       = 1e-9 // a probability that stands for zero

	// What a request teaches is worth this share of its cost at first, and half of it
	// after so many jobs.
	learnShare = 0.6
	learnJobs  = 3
)

// A Sample is what is known of the duration of one job: it lies in (Lo, Hi].
type Sample struct {
	Lo, Hi float64 // Hi may be +Inf
	Weight float64 // what it counts, up to 1; a sample of less weight is no evidence of a change
	Turn   int     // rises by one with each sample; samples of merged sequences share turns
	ID     uint64  // by which merges know it; 0: it is like no other
}

// A Model is an estimate of the distribution of durations. It has two pools: one
// learns from all samples since the last change, the other, the candidate, from
// those after a supposed change. Bayes' rule weighs them. A Model must be made by
// NewModel.
type Model struct {
	prior    prior
	samples  []Sample // all that are remembered, oldest first
	used     int      // how many of them came after the last change
	since    int      // how many of them belong to the candidate
	fresh    int      // how many are not in the estimate yet
	coarse   bool     // make do with few estimates
	grid     grid
	pools    [2]pool // the samples used, and the candidate
	weight   [2]float64
	lattices *lattices // nil for ratios
}

// NewModel returns a model that has learnt from no sample.
func NewModel(kind Kind) *Model {
	m := &Model{prior: priors[kind], grid: evenGrid(), weight: [2]float64{1, 0}}
	if kind == Plain {
		m.lattices = newLattices()
	}
	for k := range m.pools {
		m.pools[k] = pool{mix: widthPrior, mass: m.prior.masses(m.grid)}
	}
	m.estimate()
	return m
}

// RestoreModel returns a model that has learnt from samples, oldest first, and
// keeps their turns. It makes few estimates on the way.
func RestoreModel(kind Kind, samples []Sample) *Model {
	m := NewModel(kind)
	if len(samples) == 0 {
		return m
	}
	m.coarse = true
	for _, s := range samples {
		m.Learn(s)
		m.samples[len(m.samples)-1].Turn = s.Turn
	}
	m.coarse = false
	m.estimate()
	return m
}

// Learn adds a sample, in the next turn, and reports whether there is a new
// estimate. Estimates become rarer as there is more behind them; but a surprise is
// learnt at once. The interval of a hint is improbable because it is narrow. It is no
// surprise as long as the prior gave it still less.
func (m *Model) Learn(s Sample) bool {
	if n := len(m.samples); n > 0 {
		s.Turn = m.samples[n-1].Turn + 1
	}
	if m.lattices != nil {
		m.lattices.judge(s, func(age float64) float64 { return m.pools[0].below(m.grid.locate(age)) })
	}
	p, prior := m.judge(s)
	m.samples = append(m.samples, s)
	m.used++
	m.since++
	if s.Weight == 1 {
		m.weigh(p, prior)
	}
	changed := m.weight[1] > accept && m.since >= 3
	if changed {
		m.used = m.since
		m.weight = [2]float64{1, 0}
		copy(m.pools[0].mass, m.pools[1].mass)
		m.pools[0].mix = m.pools[1].mix
		m.since = 0
	}
	if len(m.samples) > maxSamples {
		const keep = maxSamples * 7 / 8
		m.samples = append(m.samples[:0], m.samples[len(m.samples)-keep:]...)
		m.used, m.since = min(m.used, keep), min(m.since, keep)
	}
	m.fresh++
	if !changed && !m.due(p[0], prior) {
		return false
	}
	m.estimate()
	return true
}

// weigh weighs the pools by the probabilities p that they gave to the newest sample.
// If a candidate born now explains it better than the old one does, it takes its place.
func (m *Model) weigh(p [2]float64, prior float64) {
	w0, w1 := m.weight[0]*p[0], m.weight[1]*p[1]
	if born := changeProb * prior; born > w1 && m.used > 1 {
		w1 = born
		m.since = 1
		c := &m.pools[1]
		for l := range c.mix {
			c.mix[l] = (widthPrior[l] + m.pools[0].mix[l]) / 2
		}
		c.mass = m.prior.masses(m.grid)
		c.normalize()
	}
	m.weight = [2]float64{w0 / (w0 + w1), w1 / (w0 + w1)}
}

// due reports whether the estimate has to be renewed after a sample that had the
// probability p, and prior before anything was known.
func (m *Model) due(p, prior float64) bool {
	if m.coarse {
		return m.fresh > m.used/8
	}
	return p < min(surprising, 2*prior) || m.fresh > m.used/32
}

// judge returns the probabilities that the pools and the prior gave to a sample,
// and gives more weight to the widths that gave it more. A little of the weight
// flows back to all widths in proportion to the surprise, so that none is lost.
func (m *Model) judge(s Sample) (p [2]float64, prior float64) {
	a, b := m.grid.locate(s.Lo), m.grid.locate(s.Hi)
	for k := range m.pools {
		c := &m.pools[k]
		var q [numWidths]float64
		for l := range q {
			q[l] = math.Pow(max(between(c.cdf[l], a, b), tiny), s.Weight)
			p[k] += c.mix[l] * q[l]
		}
		back := backflow * max(0, 1-p[k])
		for l := range q {
			c.mix[l] = (1-back)*c.mix[l]*q[l]/p[k] + back*widthPrior[l]
		}
	}
	prior = m.prior.below(math.Log(s.Hi)) - m.prior.below(math.Log(s.Lo))
	return p, max(prior, tiny)
}

// between returns the mass between two places.
func between(cdf []float32, a, b place) float64 {
	at := func(p place) float64 {
		return float64(cdf[p.cell]) + p.share*float64(cdf[p.cell+1]-cdf[p.cell])
	}
	return at(b) - at(a)
}

// Surely returns the age before which hardly any job ends; 0 while little is known.
func (m *Model) Surely() float64 {
	if m.used < 10 {
		return 0
	}
	c := &m.pools[0]
	for j := range c.mass {
		if c.cum[j]+c.mass[j] > 0.02 {
			return math.Exp(m.grid[j])
		}
	}
	return 0
}

// Discount returns the share of its cost that a request counts for while little is
// known: what it teaches is worth something, too.
func (m *Model) Discount() float64 { return 1 - learnShare/(1+float64(m.used)/learnJobs) }

// Schedule returns the best schedule for the present estimate, a request being
// worth c.
func (m *Model) Schedule(c float64) *Schedule {
	mass := func(j int) float64 { return m.weight[0]*m.pools[0].mass[j] + m.weight[1]*m.pools[1].mass[j] }
	n := m.grid.cells()
	t, p := make([]float64, n+2), make([]float64, n+1)
	t[1] = math.Exp(m.grid[0])
	for j := range n {
		t[j+2] = math.Exp(m.grid[j+1])
		p[j+1] = mass(j)
	}
	if m.lattices != nil {
		if ls := m.lattices.likely(); len(ls) > 0 {
			t, p = withLattices(ls, t, func(age float64) float64 {
				a := m.grid.locate(age)
				return m.weight[0]*m.pools[0].below(a) + m.weight[1]*m.pools[1].below(a)
			})
		}
	}
	s := newSchedule(t, p, c)
	s.Jobs = m.used
	s.explore = exploreShare + exploreDoubt*m.weight[1]
	return s
}
