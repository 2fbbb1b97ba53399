package cadence

import (
	"math"
	"slices"
)

const (
	latticePrior = 0.2  // the probability of any lattice
	latticeFlow  = 1e-3 // what flows back to the prior with each sample
	latticeLeak  = 0.01 // the share of the ends that fall off the ticks all the same
	latticeLeast = 0.02 // the probability from which a lattice has influence
	snapUp       = 0.25 // the share of a period that counts to the tick before it
	latePlus     = 0.02 // seconds
	maxTicks     = 100
	phases       = 8 // of a period of the time of day; each has a schedule of its own
)

var (
	periods = [...]float64{1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 45, 60, 90, 120, 180, 240, 300, 600}
	lates   = [...]float64{1. / 500, 1. / 240, 1. / 120, 1. / 60, 1. / 30} // periods
)

// A lattice is the hypothesis that jobs end shortly after the ticks of a clock only. The
// ticks are multiples of a period of a job's age (a worker looks at its jobs every 5 s),
// or of the time of day (a status table is refreshed at every full minute).
type lattice struct {
	daily  bool    // of the time of day
	period float64 // seconds
	late   float64 // how long after a tick jobs end at most, seconds
	weight float64 // the probability
	phase  float64 // how long after a tick the job at hand begins
}

// lattices returns all hypotheses. What their weights leave to 1 is the probability of
// "no lattice". They are weighed by what they gave to the samples beforehand, as
// the widths of the kernels are.
func lattices() (ls []lattice) {
	for _, daily := range []bool{false, true} {
		for _, period := range periods {
			for _, late := range lates {
				ls = append(ls, lattice{daily: daily, period: period, late: latePlus + late*period, weight: flatLattice})
			}
		}
	}
	return ls
}

const flatLattice = latticePrior / float64(2*len(periods)*len(lates))

// A tick is the last one up to an age, with what a distribution has nearer to it than
// to others.
type tick struct {
	below, mass float64
	past        float64 // the time since the tick
}

// tick returns the tick up to an age.
func (l *lattice) tick(age float64, cdf func(age float64) float64) tick {
	k := math.Floor((age + l.phase) / l.period)
	if !(k >= 1) {
		return tick{}
	}
	if math.IsInf(k, 1) {
		return tick{below: 1}
	}
	t := tick{past: age + l.phase - k*l.period}
	if k > 1 {
		t.below = cdf((k-1+snapUp)*l.period - l.phase)
	}
	t.mass = cdf((k+snapUp)*l.period-l.phase) - t.below
	return t
}

// cdf returns the share of the jobs that end up to the age of the tick, and not
// later than late after it.
func (t tick) cdf(late float64) float64 { return t.below + t.mass*min(1, t.past/late) }

// judgeLattices weighs the hypotheses by what they gave to a sample. The distribution
// without a lattice is cdf, and gives it smooth.
func judgeLattices(ls []lattice, s Sample, smooth float64, cdf func(age float64) float64) {
	smooth = max(smooth, tiny)
	var lo, hi tick
	total, none := 0.0, 1.0
	for i := range ls {
		l := &ls[i]
		none -= l.weight
		if i%len(lates) == 0 { // the others of its period have the same ticks
			l.begin(s.Start)
			lo, hi = l.tick(s.Lo, cdf), l.tick(s.Hi, cdf)
		}
		p := smooth
		if !l.daily || s.Start > 0 {
			p = (1-latticeLeak)*(hi.cdf(l.late)-lo.cdf(l.late)) + latticeLeak*smooth
		}
		l.weight *= p
		total += l.weight
	}
	total += none * smooth
	for i := range ls {
		ls[i].weight = (1-latticeFlow)*ls[i].weight/total + latticeFlow*flatLattice
	}
}

// begin sets the phase for a job that begins at the Unix time start.
func (l *lattice) begin(start float64) {
	if l.daily {
		l.phase = math.Mod(start, l.period)
	}
}

// Phase returns in which of the phases of clock a job begins, from 1, and how much later than
// in its middle; 0 where that is not known. That phase's schedule holds for ages that are greater
// by that much.
func Phase(start, clock float64) (phase int, later float64) {
	if clock == 0 || start <= 0 {
		return 0, 0
	}
	at := math.Mod(start, clock)
	phase = 1 + int(at/clock*phases)
	return phase, at - middle(phase)*clock
}

func middle(phase int) float64 { return (float64(phase) - 0.5) / phases }

// dayClock returns the period of the likeliest lattice of the time of day; 0: none is likely.
func (m *Model) dayClock() (period float64) {
	best := latticeLeast
	for _, l := range m.lattices {
		if l.daily && l.weight > best {
			best, period = l.weight, l.period
		}
	}
	return period
}

// likely returns the likely lattices, for jobs of a phase of Clock; of those of the time of
// day only the ones whose ticks that determines.
func (m *Model) likely(phase int) (ls []lattice) {
	for _, l := range m.lattices {
		if l.weight > latticeLeast && (!l.daily || phase > 0 && math.Mod(m.Clock, l.period) == 0) {
			l.begin(middle(phase) * m.Clock)
			ls = append(ls, l)
		}
	}
	return ls
}

// withLattices returns the cells and masses of the distribution cdf with the given
// lattices: the cells t, which begin with 0, and more of them around the ticks.
func withLattices(ls []lattice, t []float64, cdf func(age float64) float64) (ages, p []float64) {
	first := 0
	for len(ls) > 0 && first < len(t)-1 && cdf(t[first+1]) < 1e-4 {
		first++
	}
	none, begin := 1.0, t[first]
	for _, l := range ls {
		none -= l.weight
		k := max(1, math.Floor((begin+l.phase)/l.period))
		for range maxTicks {
			t = append(t, k*l.period-l.phase, k*l.period-l.phase+l.late)
			k++
		}
	}
	slices.Sort(t)
	t = slices.Compact(t)
	p = make([]float64, len(t)-1)
	before := 0.0
	for n := range p {
		at := none * cdf(t[n+1])
		for _, l := range ls {
			at += l.weight * l.tick(t[n+1], cdf).cdf(l.late)
		}
		p[n] = max(at-before, 0)
		before = at
	}
	return t, p
}
