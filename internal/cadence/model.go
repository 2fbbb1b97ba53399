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
	minDoubt   = 0.005    // certainty of a change below which it does not influence the schedule
	backflow   = 0.003    // see judge

	surprising = 0.02 // a sample less probable than this is learnt at once
	tiny       = 1e-9 // a probability that stands for zero

	exploreShare = 0.04 // of the gaps that end in success; see [Schedule.Next]
	exploreDoubt = 2.0  // more of it per unit of probability of a change
	steadyFrom   = 150  // samples without a change until the share is reached
	steadyTo     = 300  // samples from which the share falls as their square root
	steadyMax    = 3000 // and no further
)

// A Sample is what is known of the duration of one job: it lies in (Lo, Hi].
type Sample struct {
	Lo, Hi float64 // Hi may be +Inf
	Weight float64 // what it counts, up to 1
}

// A Model is an estimate of the distribution of durations. It has two pools: one
// learns from all samples, the other, the candidate, from those after a supposed
// change. Bayes' rule weighs them. A Model must be made by NewModel.
type Model struct {
	prior   *prior
	samples []Sample // oldest first
	since   int      // how many of them belong to the candidate
	fresh   int      // how many are not in the estimate yet
	steady  int      // samples since the last change, up to steadyMax
	coarse  bool     // make do with few estimates

	grid   grid
	weight [2]float64
	pools  [2]pool // all samples, and the candidate
}

// NewModel returns a model of durations in seconds, or of the ratio of durations
// to their estimates, that has learnt from no sample.
func NewModel(ratio bool) *Model {
	m := &Model{prior: priors()[0], weight: [2]float64{1, 0}, grid: evenGrid()}
	if ratio {
		m.prior = priors()[1]
	}
	for k := range m.pools {
		m.pools[k] = pool{mix: widthPrior, mass: m.prior.masses(m.grid)}
	}
	m.estimate()
	return m
}

// RestoreModel returns a model that has learnt from samples, oldest first. It
// makes few estimates on the way.
func RestoreModel(ratio bool, samples []Sample) *Model {
	m := NewModel(ratio)
	m.coarse = true
	for _, s := range samples {
		m.Learn(s)
	}
	m.coarse = false
	m.estimate()
	return m
}

// Samples returns the samples remembered, oldest first. They are the model's own.
func (m *Model) Samples() []Sample { return m.samples }

// Learn adds a sample and reports whether there is a new estimate. Estimates
// become rarer as there is more behind them; but a surprise is learnt at once.
// The interval of a hint is improbable because it is narrow. It is no surprise as
// long as the prior gave it still less.
func (m *Model) Learn(s Sample) bool {
	p, prior := m.judge(s)
	w0, w1 := m.weight[0]*p[0], m.weight[1]*p[1]
	m.since++
	// A sample of less than full weight is no evidence of a change.
	if born := changeProb * prior; born > w1 && s.Weight == 1 && len(m.samples) > 0 {
		w1 = born
		m.since = 1
		c := &m.pools[1]
		for l := range c.mix {
			c.mix[l] = (widthPrior[l] + m.pools[0].mix[l]) / 2
		}
		c.mass = m.prior.masses(m.grid)
	}
	m.weight = [2]float64{w0 / (w0 + w1), w1 / (w0 + w1)}
	m.samples = append(m.samples, s)
	m.steady = min(m.steady+1, steadyMax)
	changed := m.weight[1] > accept && m.since >= 3
	if changed {
		m.acceptChange()
	}
	if len(m.samples) > maxSamples {
		m.forget(maxSamples * 7 / 8)
	}
	m.fresh++
	if !changed && !m.due(p[0], prior) {
		return false
	}
	m.estimate()
	return true
}

// due reports whether the estimate has to be renewed after a sample that had the
// probability p, and prior before anything was known.
func (m *Model) due(p, prior float64) bool {
	if m.coarse {
		return m.fresh > len(m.samples)/8
	}
	return p < min(surprising, 2*prior) || m.fresh > len(m.samples)/32
}

// acceptChange makes the candidate the estimate and forgets the samples before it.
func (m *Model) acceptChange() {
	m.forget(m.since)
	m.weight = [2]float64{1, 0}
	copy(m.pools[0].mass, m.pools[1].mass)
	for l, w := range m.pools[1].mix {
		m.pools[0].mix[l] = 0.8*w + 0.2*widthPrior[l]
	}
	m.steady, m.since = m.since, 0
}

// forget keeps the newest n samples.
func (m *Model) forget(n int) {
	m.samples = append(m.samples[:0], m.samples[len(m.samples)-n:]...)
	m.since = min(m.since, n)
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
	if len(m.samples) < 10 {
		return 0
	}
	f := 0.0
	for j, p := range m.pools[0].mass {
		if f += p; f > 0.02 {
			return math.Exp(m.grid[j])
		}
	}
	return 0
}

// Schedule returns the best schedule for the present estimate, a request being
// worth c.
func (m *Model) Schedule(c float64) *Schedule {
	n, x := m.grid.cells(), m.grid
	t, p := make([]float64, n+2), make([]float64, n+1)
	// A change of which there are no more signs than there always are has no
	// influence: for long and nearly constant jobs its small share would be worth a
	// useless early poll each. Looking for changes is the purpose of exploring.
	doubt := max(0, m.weight[1]-minDoubt) / (1 - minDoubt)
	mass := func(j int) float64 { return (1-doubt)*m.pools[0].mass[j] + doubt*m.pools[1].mass[j] }
	z := 1 / (1 + mass(n-1)/(x[n]-x[n-1])) // leave room for the tail
	for j := range n {
		t[j+1] = math.Exp(x[j])
		p[j+1] = z * mass(j)
	}
	t[n+1] = math.Exp(x[n])
	s := newSchedule(t, p, c)
	s.Jobs = len(m.samples)
	steady := float64(m.steady)
	s.explore = exploreShare * math.Sqrt(min(1, steady/steadyFrom, steadyTo/(steady+1)))
	s.explore += exploreDoubt * doubt
	return s
}
