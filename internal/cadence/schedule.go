package cadence

import (
	"math"
	"sync/atomic"
)

const (
	exploreShare = 0.04 // of the gaps that end in success; see [Schedule.Next]
	exploreDoubt = 4.0  // more of it per unit of doubt
	exploreMost  = 0.5  // of the gaps
	exploreNear  = 0.04 // how far before the end of the gap, in gaps
	exploreFar   = 0.08
	exploreTicks = 0.75 // of the earlier polls where it is not known when after a tick jobs end

	jitterSpan = 0.15
	jitterTol  = 0.02
)

// A Schedule is the best schedule of polls for one estimate of the durations,
// tabulated over ages. It is never changed once it is made.
//
// With F the distribution and c the worth of a request, the cost still to come
// after a pending answer at age s, times the chance 1−F(s) of getting there, is
//
//	W(s) = min over t > s of  c·(1−F(s)) + ∫ₛᵗ (t−u) dF(u) + W(t)
//	     = c·(1−F(s)) + X(s) + min over t > s of [ B(t) − t·F(s) ]
//
// with X(s) = ∫₀ˢ u dF(u) and B(t) = t·F(t) − X(t) + W(t) (Barlow, Hunter and
// Proschan, Optimum checking procedures, J. SIAM 11, 1963).
type Schedule struct {
	Cost float64 // c
	Jobs int     // samples behind it

	// Ages are in units of the estimate and this many seconds, for jobs with an estimate.
	Intercept float64

	explore float64   // how many of the gaps that end in success get an earlier poll
	ticks   bool      // jobs end on ticks, probably
	spread  float64   // how far it is from known when after a tick they end, seconds
	t       []float64 // ages, rising, from 0
	f       []float64 // F(t)
	b       []float64 // B(t)
	v       []float64 // W(t)/(1−F(t)): the cost still to come for a job pending at t
	to      []float64 // the age of the poll after a pending answer at t
}

// newSchedule computes the schedule that is optimal for a job whose duration
// lies in (t[j], t[j+1]] with probability p[j], uniformly within. t[0] is 0. What
// p lacks to 1 lies beyond the last age H, with the chance of outlasting t > H
// falling like H/t; there gaps of √(2ct) are best.
//
// For each t the bracket B(t) − t·F(s) is a straight line in F(s) with slope −t,
// and the minimum is the lower envelope of these lines. From the last age to the
// first, lines are added in the order of rising slopes while F(s) falls. So the
// lines that can still win form a stack, new ones push out those that they make
// superfluous, and the best line moves through it in one direction only: the
// whole schedule takes time proportional to the grid.
func newSchedule(t, p []float64, c float64) *Schedule {
	n := len(p)
	column := func() []float64 { return make([]float64, n+1) }
	s := &Schedule{Cost: c, t: t, f: column(), b: column(), v: column(), to: column()}
	x := column() // X(t)
	for j := range n {
		s.f[j+1] = s.f[j] + p[j]
		x[j+1] = x[j] + p[j]*(t[j]+t[j+1])/2
	}
	h := t[n]
	s.v[n] = 2 * math.Sqrt(2*c*h)
	s.to[n] = h + math.Sqrt(2*c*h)
	s.b[n] = h*s.f[n] - x[n] + max(1-s.f[n], 0)*s.v[n]
	lines := append(make([]int, 0, n+1), n) // the envelope, steepest first
	best := 0                               // the index in it of the best line for the present age
	for i := n - 1; i >= 0; i-- {
		f, left := s.f[i], 1-s.f[i]
		for best+1 < len(lines) && s.b[lines[best+1]]-t[lines[best+1]]*f <= s.b[lines[best]]-t[lines[best]]*f {
			best++
		}
		j := lines[best]
		cost := c*left + x[i] + s.b[j] - t[j]*f
		s.to[i] = t[j]
		if within, gap := s.within(i, p[i], x[i+1]); within < cost {
			cost = within
			s.to[i] = t[i] + gap
		}
		s.v[i] = cost / max(left, 1e-300)
		s.b[i] = t[i]*f - x[i] + cost
		for len(lines)-best >= 2 {
			k, l := lines[len(lines)-2], lines[len(lines)-1]
			if (s.b[i]-s.b[k])*(t[k]-t[l]) > (s.b[l]-s.b[k])*(t[k]-t[i]) {
				break // l is still the lowest somewhere between k and i
			}
			lines = lines[:len(lines)-1]
		}
		lines = append(lines, i)
	}
	return s
}

// within returns the cost from the age t[i] on, times the chance of getting
// there, if several polls belong into the cell that begins there, and their gap; +Inf
// if the cell is too small. There the continuous limit holds: with density f a
// gap g costs c + f/(1−F)·g²/2 per survivor, so g = √(2c(1−F)/f), and passing
// through a cell of mass p and width d costs √(2c(1−F)·p·d).
func (s *Schedule) within(i int, p, x float64) (cost, gap float64) {
	if p <= 0 {
		return math.Inf(1), 0
	}
	c, d, left := s.Cost, s.t[i+1]-s.t[i], 1-s.f[i]-p/2
	gap = math.Sqrt(2 * c * left * d / p)
	if !(d > 1.5*gap) {
		return math.Inf(1), 0
	}
	return math.Sqrt(2*c*left*p*d) + s.b[i+1] - s.t[i+1]*s.f[i+1] + x, gap
}

// find returns the last i with t[i] <= age.
func (s *Schedule) find(age float64) int { return last(s.t, age) }

// at interpolates v at an age in cell i.
func (s *Schedule) at(v []float64, i int, age float64) float64 {
	if i >= len(s.t)-1 {
		return v[len(v)-1]
	}
	return v[i] + (v[i+1]-v[i])*(age-s.t[i])/(s.t[i+1]-s.t[i])
}

// Best returns the age of the best next poll of a job that was pending at the age
// pend.
func (s *Schedule) Best(pend float64) float64 { return s.best(s.find(pend), pend) }

// best is Best for an age in cell i.
func (s *Schedule) best(i int, pend float64) float64 {
	if i >= len(s.t)-1 { // beyond all experience
		return pend + math.Sqrt(2*s.Cost*pend)
	}
	to0, to1 := s.to[i], s.to[i+1]
	t0, t1 := s.t[i], s.t[i+1]
	switch {
	case to0 < t1: // several polls in this cell
		return pend + (to0 - t0)
	case !s.ticks && to1-to0 <= 0.5*(to0-t0)+2*(t1-t0): // it moves on with the age
		return to0 + (to1-to0)*(pend-t0)/(t1-t0)
	case to0 > t1: // it jumps, over a time in which hardly any job ends
		return to0
	}
	return to1
}

// Next returns the age of the next poll of a job that was pending at the age
// pend. chance draws from 0 to 1.
//
// It is the best age, shifted at random by up to jitterSpan of the gap, or by
// less where that costs more than about a fiftieth of a request. That keeps
// replicas out of step, and cuts the durations at ever different points.
//
// A poll that always comes late always finds the job done, and cannot show that
// jobs have become faster. So now and then a gap that nearly always ends in
// success gets an earlier poll, at a random distance before its end. Where jobs end on one
// of several ticks, most of these polls come between a tick and the latest end after it,
// which nothing else would show. explored counts shares of these explorations, of which
// 2³² make a whole one, so that the time to notice is bounded.
func (s *Schedule) Next(pend float64, explored *atomic.Uint32, chance func() float64) float64 {
	i := s.find(pend)
	t := s.best(i, pend)
	gap := t - pend
	shift := gap * jitterSpan * (2*chance() - 1)
	if i >= len(s.t)-1 {
		return t + shift
	}
	f := s.at(s.f, i, pend)
	left := 1 - f
	if !(left > 0 && gap > 0) {
		return t
	}
	j := s.find(t)
	hit := (s.at(s.f, j, t) - f) / left // the chance that the gap ends in success
	share := min(s.explore*hit*math.Sqrt(s.v[i]/s.Cost), exploreMost)
	if step := uint32(share * (1 << 32)); step > 0 && explored.Add(step) < step {
		if s.spread > 0 && hit < 0.5 && chance() < exploreTicks {
			return max(t-s.spread*chance(), pend)
		}
		return t - gap*(exploreNear+(exploreFar-exploreNear)*chance())
	}
	worst := s.at(s.b, j, t) - t*f + jitterTol*s.Cost*left
	for range 4 {
		if u := t + shift; s.at(s.b, s.find(u), u)-u*f <= worst {
			return u
		}
		shift *= 0.4
	}
	return t
}

// Quantile returns the age by which the share p of the jobs are over of those
// that were pending at the age pend.
func (s *Schedule) Quantile(pend, p float64) float64 {
	i, n := s.find(pend), len(s.t)-1
	if i >= n {
		return pend / (1 - p)
	}
	f := s.at(s.f, i, pend)
	want := f + p*(1-f)
	if want >= s.f[n] {
		return s.t[n] * max(1, (1-s.f[n])/max(1-want, tiny))
	}
	j := last(s.f, want)
	t := s.t[j] + (s.t[j+1]-s.t[j])*(want-s.f[j])/max(s.f[j+1]-s.f[j], tiny)
	return max(t, pend)
}
