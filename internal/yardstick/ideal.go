package yardstick

import "math"

const (
	idealStep  = 0.0025 // of the grid, in log age
	idealFirst = 0.05   // seconds
	idealCells = 7000   // to 2·10⁶ s
	idealLow   = 1.0    // the shortest and the longest median thought possible, seconds
	idealHigh  = 86400
	idealMid   = 120.0 // the most probable one
	idealWide  = 1.4   // scale of a logistic distribution of its logarithm
	idealLeast = 1e-7  // probability of a hypothesis that is given up
	idealTiny  = 1e-12 // probability that stands for zero
)

// An Ideal is the floor under all learners: it holds a family of distributions at
// unknown scale, updates exactly by Bayes' rule after each job, and polls at the ages
// that are best for its predictive distribution. It begins with neither the distribution
// nor the scale, but the true one is in its family. Its prior of the scale is that of the
// cadence of the durations: around two minutes, with long tails.
type Ideal struct {
	c      float64
	ages   []float64
	shapes []shape
	now    Optimum
}

// A shape is a distribution on the grid, for each of some scales.
type shape struct {
	from   int       // the grid index of cdf[0] at scale index 0
	cdf    []float64 // 0 before, 1 behind
	stride int       // of the scales, in cells
	weight []float64 // of each scale
}

// NewIdeal returns an ideal learner with no history whose family are the shapes of ds.
func NewIdeal(ds []Dist, c float64) *Ideal {
	l := &Ideal{c: c, ages: make([]float64, idealCells+1)}
	for j := range idealCells {
		l.ages[j+1] = idealFirst * math.Exp(float64(j)*idealStep)
	}
	scales := math.Log(idealHigh/idealLow) / idealStep
	for _, d := range ds {
		median := d.Quantile(.5)
		lo, hi := math.Log(d.Quantile(1e-6)/median)/idealStep, math.Log(d.Quantile(1-1e-6)/median)/idealStep
		s := shape{from: int(math.Floor(lo) + math.Log(idealLow/idealFirst)/idealStep)}
		for j := math.Floor(lo); j <= hi+1; j++ {
			s.cdf = append(s.cdf, d.CDF(median*math.Exp(j*idealStep)))
		}
		spread := math.Log(d.Quantile(.75)/d.Quantile(.25)) / idealStep
		s.stride = int(min(max(spread/20, 1), 32))
		s.weight = make([]float64, int(scales)/s.stride)
		sum := 0.0
		for i := range s.weight {
			z := (math.Log(idealLow/idealMid) + float64(i*s.stride)*idealStep) / idealWide
			s.weight[i] = 1 / math.Pow(math.Cosh(z/2), 2)
			sum += s.weight[i]
		}
		for i := range s.weight {
			s.weight[i] /= sum * float64(len(ds))
		}
		l.shapes = append(l.shapes, s)
	}
	return l
}

// at returns the distribution at scale i and the age a, an index of the grid with fractions.
func (s *shape) at(i int, a float64) float64 {
	y := a - float64(s.from+i*s.stride)
	n := len(s.cdf) - 1
	switch {
	case !(y > 0):
		return 0
	case y >= float64(n):
		return 1
	}
	j := int(y)
	return s.cdf[j] + (s.cdf[j+1]-s.cdf[j])*(y-float64(j))
}

// Learn updates by a duration in (lo, hi].
func (l *Ideal) Learn(lo, hi float64) {
	index := func(age float64) float64 { return math.Log(age/idealFirst) / idealStep }
	a, b := index(lo), index(hi)
	total := 0.0
	for k := range l.shapes {
		s := &l.shapes[k]
		for i, w := range s.weight {
			if w > 0 {
				s.weight[i] = w * max(s.at(i, b)-s.at(i, a), idealTiny) // no job rules out all
				total += s.weight[i]
			}
		}
	}
	for _, s := range l.shapes {
		for i, w := range s.weight {
			if w /= total; w < idealLeast {
				w = 0
			}
			s.weight[i] = w
		}
	}
	l.now = Optimum{}
}

// Next returns the age of the poll after a pending answer at an age.
func (l *Ideal) Next(age float64) float64 {
	if l.now.t == nil {
		l.now = plan(l.ages, l.predictive(), l.c)
	}
	return l.now.Next(age)
}

// predictive returns the distribution of the next job at the ages of the grid.
func (l *Ideal) predictive() []float64 {
	f, over := make([]float64, idealCells+1), make([]float64, idealCells+2)
	total := 0.0
	for _, s := range l.shapes {
		for i, w := range s.weight {
			if w == 0 {
				continue
			}
			total += w
			from := s.from + i*s.stride + 1 // ages[0] is 0
			for j := max(from, 0); j < min(from+len(s.cdf), idealCells+1); j++ {
				f[j] += w * s.cdf[j-from]
			}
			over[min(max(from+len(s.cdf), 0), idealCells+1)] += w
		}
	}
	sum := 0.0
	for j := range f {
		sum += over[j]
		f[j] = (f[j] + sum) / total
	}
	return f
}

// Run waits for a job of the duration x, learns from it, and returns its cost.
func (l *Ideal) Run(x float64) float64 {
	pend, cost := 0.0, 0.0
	for {
		at := l.Next(pend)
		cost += l.c
		if at >= x {
			l.Learn(pend, at)
			return cost + at - x
		}
		pend = at
	}
}
