// Package cadence is the mathematics of vtclient's Adaptive: the distribution of
// the durations of jobs, estimated from intervals, and the best schedule of polls
// for it. It computes with floats and slices; it has no client, clock, lock or
// random source. Ages are in seconds, or in units of the caller's estimate.
//
// docs/cadence.md has the derivation, the sources and the measured figures.
package cadence

import "math"

const (
	maxSamples = 512 // samples remembered

	changeProb = 1. / 300 // of a change before a sample
	accept     = 0.99     // certainty at which a change is taken for granted
	inDoubt    = 0.02     // probability of a change from which estimates follow the candidate's pace
	surprising = 0.02     // a sample less probable than this is learnt at once
	tiny       = 1e-9     // a probability that stands for zero

	// What a request teaches is worth this share of its cost at first, and half of it
	// after so many jobs.
	learnShare = 0.6
	learnJobs  = 3
)

// A Sample is what is known of the duration of one job: it lies in (Lo, Hi].
type Sample struct {
	Lo, Hi float64 // Hi may be +Inf
	Weight float64 // what it counts, up to 1; a sample of less weight is no evidence of a change
	Start  float64 // Unix time of the job's start in seconds; 0: unknown
	// Estimate is the one of which Lo and Hi are multiples, in seconds; 0: there is none, or
	// it is unknown.
	Estimate float64
	Turn     int    // rises by one with each sample; samples of merged sequences share turns
	ID       uint64 // by which merges know it; 0: it is like no other
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
	grid     grid
	ages     []float64 // its bounds
	expected []float64 // the prior's masses of its cells
	pools    [2]pool   // of the samples used, and the candidate
	change   float64   // the probability that the candidate is right
	lattices []lattice // none for ratios

	// Clock is the period of the likeliest lattice of the time of day at the last
	// estimate; 0: none is likely.
	Clock float64
	// Intercept is what is added to each estimate, in seconds.
	Intercept float64
}

// NewModel returns a model that has learnt from no sample.
func NewModel(kind Kind) *Model {
	m := &Model{prior: priors[kind], grid: evenGrid()}
	if kind == Plain {
		m.lattices = lattices()
	}
	for k := range m.pools {
		m.pools[k] = pool{mix: widthPrior, mass: m.prior.masses(m.grid)}
	}
	m.estimate()
	return m
}

// RestoreModel returns a model that has learnt from samples, oldest first, and
// keeps their turns.
func RestoreModel(kind Kind, samples []Sample) *Model {
	m := &Model{samples: samples, used: len(samples)}
	return m.replay(kind, m.bestIntercept())
}

// replay returns a model that has learnt from m's samples with an intercept.
func (m *Model) replay(kind Kind, intercept float64) *Model {
	r := NewModel(kind)
	r.Intercept = intercept
	for _, s := range m.samples {
		r.learn(s)
		r.samples[len(r.samples)-1].Turn = s.Turn
	}
	r.estimate()
	return r
}

// Learn adds a sample, in the next turn, and reports whether there is a new
// estimate. Estimates become rarer as there is more behind them; but a surprise is
// learnt at once. The interval of a hint is improbable because it is narrow. It is no
// surprise as long as the prior gave it still less.
func (m *Model) Learn(s Sample) bool {
	changed := m.learn(s)
	if s.Estimate > 0 && (changed && m.used < interceptEach || len(m.samples)%interceptEach == 0) {
		if intercept := m.bestIntercept(); intercept != m.Intercept {
			*m = *m.replay(Ratio, intercept)
			return true
		}
	}
	return changed
}

// learn is Learn with the present intercept.
func (m *Model) learn(s Sample) bool {
	if n := len(m.samples); n > 0 {
		s.Turn = m.samples[n-1].Turn + 1
	}
	unit := m.unit(s)
	lo, hi := locate(m.ages, s.Lo/unit), locate(m.ages, s.Hi/unit)
	p, candidate := m.pools[0].judge(lo, hi), m.pools[1].judge(lo, hi)
	prior := max(m.prior.below(math.Log(s.Hi/unit))-m.prior.below(math.Log(s.Lo/unit)), tiny)
	// What a change explains is no evidence of a lattice.
	judgeLattices(m.lattices, s, (1-m.change)*p+max(m.change*candidate, changeProb*prior), m.below)
	if len(m.samples) == maxSamples {
		const keep = maxSamples * 7 / 8
		m.samples = append(m.samples[:0], m.samples[maxSamples-keep:]...)
		m.used, m.since = min(m.used, keep), min(m.since, keep)
	}
	m.samples = append(m.samples, s)
	m.used++
	m.since++
	m.fresh++
	if s.Weight == 1 {
		m.weigh(p, candidate, prior)
	}
	changed := m.change > accept && m.since >= 3
	if changed {
		m.used, m.since, m.change = m.since, 0, 0
		copy(m.pools[0].mass, m.pools[1].mass)
		m.pools[0].mix = m.pools[1].mix
	}
	behind := m.used
	if m.change > inDoubt {
		behind = m.since
	}
	if !changed && p >= min(surprising, 2*prior) && m.fresh <= behind/24 {
		return false
	}
	m.estimate()
	return true
}

// weigh weighs the pools by the probabilities that they gave to the newest sample.
// If a candidate born now explains it better than the old one does, it takes its place.
func (m *Model) weigh(p, candidate, prior float64) {
	w0, w1 := (1-m.change)*p, m.change*candidate
	if born := changeProb * prior; born > w1 && m.used > 1 {
		w1 = born
		m.since = 1
		c := &m.pools[1]
		for l := range c.mix {
			c.mix[l] = (widthPrior[l] + m.pools[0].mix[l]) / 2
		}
		copy(c.mass, m.expected)
		c.normalize()
	}
	m.change = w1 / (w0 + w1)
}

// mass returns the probability of a cell.
func (m *Model) mass(j int) float64 {
	return (1-m.change)*m.pools[0].mass[j] + m.change*m.pools[1].mass[j]
}

// doubt returns the probability of a change, times the share of the jobs that end at other
// ages then.
func (m *Model) doubt() (d float64) {
	for j, p := range m.pools[0].mass {
		d += m.change * math.Abs(m.pools[1].mass[j]-p) / 2
	}
	return d
}

// below returns the probability that a job ends before an age.
func (m *Model) below(age float64) float64 {
	a := locate(m.ages, age)
	return (1-m.change)*m.pools[0].below(a) + m.change*m.pools[1].below(a)
}

// Surely returns the age before which hardly any job ends; 0 while little is known.
func (m *Model) Surely() float64 {
	if m.used < 10 {
		return 0
	}
	return m.ages[last(m.pools[0].cum, 0.02)]
}

// Discount returns the share of its cost that a request counts for while little is
// known: what it teaches is worth something, too, to the jobs that begin later. begun
// is how many have.
func (m *Model) Discount(begun int) float64 {
	return 1 - learnShare/(1+float64(max(m.used, begun))/learnJobs)
}

// Schedule returns the best schedule for the present estimate, a request being
// worth c, for jobs that begin in a [Phase] of m.Clock.
func (m *Model) Schedule(c float64, phase int) *Schedule {
	ls := m.likely(phase)
	t, p := withLattices(ls, append([]float64{0}, m.ages...), m.below)
	s := newSchedule(t, p, c)
	s.Jobs, s.Intercept = m.used, m.Intercept
	s.explore = exploreShare + exploreDoubt*m.doubt()
	on := 0.0
	for _, l := range ls {
		on += l.weight
		s.spread = max(s.spread, l.late-ls[0].late)
	}
	s.ticks = on > 0.5
	return s
}
