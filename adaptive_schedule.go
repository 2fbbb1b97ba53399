package vtclient

import (
	"math"
	"sync/atomic"
)

// The schedule: when to poll, for durations of a known distribution F.
//
// # Recurrence
//
// Let c be the worth of a request in seconds of waiting. The cost still to come
// after a pending answer at age s, times the chance 1−F(s) of getting there, is
//
//	W(s) = min over t > s of  c·(1−F(s)) + ∫ₛᵗ (t−u) dF(u) + W(t)
//
// the next request, the waiting of those jobs that end before it, and the rest
// (Barlow, Hunter and Proschan, Optimum checking procedures, J. SIAM 11, 1963).
// With X(s) = ∫₀ˢ u dF(u) the integral is t·(F(t)−F(s)) − (X(t)−X(s)), so that
//
//	W(s) = c·(1−F(s)) + X(s) + min over t of [ b(t) − t·F(s) ],  b(t) = t·F(t) − X(t) + W(t)
//
// For each t the bracket is a straight line in F(s) with slope −t, and the
// minimum is the lower envelope of these lines. This is exact: nothing but the
// grid of candidates is approximate. Going from the last age to the first, lines
// are added in the order of rising slopes while F(s) falls. So the lines that can
// still win form a stack at the end of which new ones push out those that they
// make superfluous, and the best line moves through it in one direction only:
// the whole schedule takes time proportional to the grid. That t must be later
// than s needs no check: when s is asked about, only the lines of later ages are
// there.
//
// Where cells are so wide that several polls belong into one, choosing among
// cell bounds would be too coarse. There the continuous limit holds: with
// density f a gap g costs c + f/(1−F)·g²/2 per survivor, so g = √(2c(1−F)/f), and
// passing through a cell of mass p and width d costs √(2c(1−F)·p·d).
//
// # Random shifts
//
// Near the optimum the cost is flat, except where it is not: just before the
// jobs all end together. b(t) − t·F(s) says what another t would cost, so Next
// shifts each poll at random by up to jitterSpan of the gap, and takes the shift
// back by and by as long as it costs more than a hundredth of a request. That
// keeps replicas out of step, and cuts the durations at ever different points.
//
// # Exploring
//
// A poll that always comes late always finds the job done, and cannot tell that
// jobs have become faster. So now and then a gap that nearly always ends in
// success gets one more, earlier poll; at a distance before its end that is random
// on a log scale, to notice small and large changes. A counter rather than a die says
// when, so that the time to notice is bounded: every 25th job if a request costs
// as much as waiting does, rarer as the square root of the number of jobs
// after some hundred, and much more often while there are signs of a change. Such
// a poll costs one request at most: some 3 % of the cost where one poll a job is
// the optimum, less where it is many, for then most gaps end in a
// pending answer and a success is itself a surprise.
const (
	exploreShare = 0.04
	exploreDoubt = 2.0  // more of it per unit of probability that things have changed
	exploreMost  = 0.5  // of the gaps
	exploreNear  = 0.03 // how far before the end of the gap, in gaps
	exploreFar   = 0.5

	jitterSpan  = 0.15
	jitterTol   = 0.01
	jitterFirst = 0.3 // as much more, over the number of jobs: varied cuts teach more
)

// A schedule is the best schedule of polls for one estimate of the durations,
// tabulated over ages. It is never changed once it is made.
type schedule struct {
	c       float64   // the worth of a request
	jobs    int       // completions behind it
	explore float64   // how many of the gaps that end in success get an earlier poll
	t       []float64 // ages, rising, from 0
	f       []float64 // F(t)
	b       []float64 // b(t)
	v       []float64 // W(t)/(1−F(t)): the cost still to come for a job pending at t
	to      []float64 // the age of the poll after a pending answer at t
}

// newSchedule computes the schedule that is optimal for a job whose duration
// lies in (t[j], t[j+1]] with probability p[j], uniformly within. t[0] is 0. What
// p lacks to 1 lies beyond the last age H, with the chance of outlasting t > H
// falling like H/t; there gaps of √(2ct) are best.
func newSchedule(t, p []float64, c float64) *schedule {
	n := len(p)
	buf := make([]float64, 4*(n+1))
	cut := func() (s []float64) { s, buf = buf[:n+1:n+1], buf[n+1:]; return s }
	s := &schedule{c: c, t: t, f: cut(), b: cut(), v: cut(), to: cut()}
	w := getWork()
	defer w.put()
	x := w.a
	x[0] = 0
	for j := range n {
		s.f[j+1] = s.f[j] + p[j]
		x[j+1] = x[j] + p[j]*(t[j]+t[j+1])/2
	}
	h := t[n]
	s.v[n] = 2 * math.Sqrt(2*c*h)
	s.to[n] = h + math.Sqrt(2*c*h)
	s.b[n] = h*s.f[n] - x[n] + max(1-s.f[n], 0)*s.v[n]
	lines := append(w.ints[:0], n) // the envelope, steepest first
	best := 0                      // the index in it of the best line for the present age
	for i := n - 1; i >= 0; i-- {
		f := s.f[i]
		for best+1 < len(lines) && s.b[lines[best+1]]-t[lines[best+1]]*f <= s.b[lines[best]]-t[lines[best]]*f {
			best++
		}
		j := lines[best]
		left := 1 - f
		cost := c*left + x[i] + s.b[j] - t[j]*f
		s.to[i] = t[j]
		if p[i] > 0 {
			d, mid := t[i+1]-t[i], left-p[i]/2
			if gap := math.Sqrt(2 * c * mid * d / p[i]); d > 1.5*gap {
				rest := s.b[i+1] - t[i+1]*s.f[i+1] + x[i+1]
				if many := math.Sqrt(2*c*mid*p[i]*d) + rest; many < cost {
					cost = many
					s.to[i] = t[i] + gap
				}
			}
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

// find returns the last i with t[i] <= t.
func (s *schedule) find(t float64) int {
	lo, hi := 0, len(s.t)
	for hi-lo > 1 {
		if h := int(uint(lo+hi) >> 1); s.t[h] <= t {
			lo = h
		} else {
			hi = h
		}
	}
	return lo
}

// at interpolates v at the age t, which find says is in cell i.
func (s *schedule) at(v []float64, i int, t float64) float64 {
	if i >= len(s.t)-1 {
		return v[len(v)-1]
	}
	return v[i] + (v[i+1]-v[i])*(t-s.t[i])/(s.t[i+1]-s.t[i])
}

// best returns the age of the best next poll of a job that was pending at the
// age pend, and pend's cell.
func (s *schedule) best(pend float64) (t float64, i int) {
	i = s.find(pend)
	if i >= len(s.t)-1 { // beyond all experience
		return pend + math.Sqrt(2*s.c*pend), i
	}
	to0, to1 := s.to[i], s.to[i+1]
	t0, t1 := s.t[i], s.t[i+1]
	switch {
	case to0 < t1: // several polls in this cell
		return pend + (to0 - t0), i
	case to1-to0 <= 0.5*(to0-t0)+2*(t1-t0): // it moves on with the age
		return to0 + (to1-to0)*(pend-t0)/(t1-t0), i
	case to0 > t1: // it jumps, over a time in which hardly any job ends
		return to0, i
	}
	return to1, i
}

// next returns the age of the next poll of a job that was pending at the age
// pend: the best one, shifted a little, or now and then an earlier one.
// Explored counts shares of explorations, of which 2³² make a whole one. Chance
// draws from 0 to 1.
func (s *schedule) next(pend float64, explored *atomic.Uint32, chance func() float64) float64 {
	t, i := s.best(pend)
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
	share := min(s.explore*hit*math.Sqrt(s.v[i]/s.c), exploreMost)
	if step := uint32(share * (1 << 32)); step > 0 && explored.Add(step) < step {
		return t - gap*exploreNear*math.Pow(exploreFar/exploreNear, chance())
	}
	worst := s.at(s.b, j, t) - t*f + (jitterTol+jitterFirst/float64(1+s.jobs))*s.c*left
	for range 4 {
		if u := t + shift; s.at(s.b, s.find(u), u)-u*f <= worst {
			return u
		}
		shift *= 0.4
	}
	return t
}

// quantile returns the age by which the share p of the jobs are over of those
// that were pending at the age pend.
func (s *schedule) quantile(pend, p float64) float64 {
	i, n := s.find(pend), len(s.t)-1
	if i >= n {
		return pend / (1 - p)
	}
	f := s.at(s.f, i, pend)
	want := f + p*(1-f)
	if want >= s.f[n] {
		return s.t[n] * max(1, (1-s.f[n])/max(1-want, tiny))
	}
	lo, hi := i, n
	for hi-lo > 1 {
		if h := int(uint(lo+hi) >> 1); s.f[h] <= want {
			lo = h
		} else {
			hi = h
		}
	}
	t := s.t[lo] + (s.t[lo+1]-s.t[lo])*(want-s.f[lo])/max(s.f[lo+1]-s.f[lo], tiny)
	return max(t, pend)
}
