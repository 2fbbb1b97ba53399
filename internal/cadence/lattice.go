package cadence

import (
	"math"
	"slices"
)

const (
	latticePrior = 0.1  // the probability of any lattice
	latticeFlow  = 1e-3 // what flows back to the prior with each sample
	latticeLeak  = 0.01 // the share of the ends that fall off the ticks all the same
	latticeLeast = 0.02 // the probability from which a lattice has influence
	snapUp       = 0.35 // the share of a period that counts to the tick before it
	latePlus     = 0.02 // seconds
	maxTicks     = 100
)

var (
	periods = [...]float64{1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 45, 60, 90, 120, 180, 240, 300, 600}
	lates   = [...]float64{1. / 500, 1. / 100, 1. / 30} // periods
)

const numLattices = len(periods) * len(lates)

// Lattices are the probabilities that jobs end on multiples of a period only, and
// shortly after: a worker looks at its jobs every 5 s, a status table is refreshed at
// every full minute of a job's age. A hypothesis has a period and how late after a
// tick jobs end at most; what is left to 1 is the probability of "no lattice". They are
// weighed by what they gave to the samples beforehand, as the widths of the
// kernels are.
type lattices [len(periods)][len(lates)]float64

func newLattices() *lattices {
	l := new(lattices)
	for i := range l {
		for j := range l[i] {
			l[i][j] = latticePrior / float64(numLattices)
		}
	}
	return l
}

// late returns how late after a tick jobs end at most, in seconds.
func late(i, j int) float64 { return latePlus + periods[i]*lates[j] }

// A tick is the last multiple of a period up to an age, with what a distribution
// has nearer to it than to others.
type tick struct {
	below, mass float64
	past        float64 // the time since the tick
}

func tickAt(period, age float64, cdf func(age float64) float64) tick {
	k := math.Floor(age / period)
	if !(k >= 1) {
		return tick{}
	}
	if math.IsInf(k, 1) {
		return tick{below: 1}
	}
	t := tick{past: age - k*period}
	if k > 1 {
		t.below = cdf((k - 1 + snapUp) * period)
	}
	t.mass = cdf((k+snapUp)*period) - t.below
	return t
}

// cdf returns the share of the jobs that end up to the age of the tick, and not
// later than late after it.
func (t tick) cdf(late float64) float64 { return t.below + t.mass*min(1, t.past/late) }

// judge weighs the hypotheses by what they gave to a sample, the distribution
// without a lattice being cdf.
func (l *lattices) judge(s Sample, cdf func(age float64) float64) {
	smooth := max(cdf(s.Hi)-cdf(s.Lo), tiny)
	total, none := 0.0, 1.0
	for i, period := range periods {
		lo, hi := tickAt(period, s.Lo, cdf), tickAt(period, s.Hi, cdf)
		for j, w := range l[i] {
			none -= w
			p := (1-latticeLeak)*(hi.cdf(late(i, j))-lo.cdf(late(i, j))) + latticeLeak*smooth
			l[i][j] = w * math.Pow(p, s.Weight)
			total += l[i][j]
		}
	}
	total += none * math.Pow(smooth, s.Weight)
	for i := range l {
		for j, w := range l[i] {
			l[i][j] = (1-latticeFlow)*w/total + latticeFlow*latticePrior/float64(numLattices)
		}
	}
}

// A lattice is a hypothesis that is likely.
type lattice struct {
	period, late float64
	weight       float64
}

func (l *lattices) likely() (r []lattice) {
	for i, period := range periods {
		for j, w := range l[i] {
			if w > latticeLeast {
				r = append(r, lattice{period, late(i, j), w})
			}
		}
	}
	return r
}

// withLattices returns the cells and masses of the distribution cdf with the given
// lattices: the cells t, which begin with 0, and more of them around the ticks.
func withLattices(ls []lattice, t []float64, cdf func(age float64) float64) (ages, p []float64) {
	first := 0
	for first < len(t)-1 && cdf(t[first+1]) < 1e-4 {
		first++
	}
	none, begin := 1.0, t[first]
	for _, l := range ls {
		none -= l.weight
		k := max(1, math.Floor(begin/l.period))
		for range maxTicks {
			t = append(t, k*l.period, k*l.period+l.late)
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
			at += l.weight * tickAt(l.period, t[n+1], cdf).cdf(l.late)
		}
		p[n] = max(at-before, 0)
		before = at
	}
	return t, p
}
