package vtclient

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
)

// A schedule is the best schedule of polls for one estimate of the durations,
// tabulated over ages. It is never changed once it is made.
type schedule struct {
	c    float64   // the worth of a request
	jobs int       // completions behind it
	t    []float64 // ages, rising, from 0
	f    []float64 // F(t): the share of jobs that are over
	b    []float64 // t·F(t) − X(t) + W(t): what choosing t for the next poll costs, at slope −t
	v    []float64 // W(t)/(1−F(t)): the cost still to come for a job pending at t
	to   []float64 // the age of the poll after a pending answer at t
}

const (
	// exploreBudget is the share of the expected cost of a job that may be
	// spent on looking whether things have changed.
	exploreBudget = 0.04
	exploreJobs   = 300

	jitterSpan  = 0.15 // polls shift by at most this share of the gap ...
	jitterTol   = 0.01 // ... and as long as it costs at most this share of a request
	jitterFirst = 0.3  // ... plus this over the number of jobs learnt from
)

// newSchedule computes the schedule that is optimal for a job whose duration
// lies in (t[j], t[j+1]] with probability p[j], uniformly within. t[0] is 0.
// What is missing in p to 1 lies beyond the last age H, with P(T > t) falling like
// H/t.
func newSchedule(t, p []float64, c float64, jobs int) *schedule {
	n := len(p)
	buf := make([]float64, 4*(n+1))
	cut := func() (s []float64) { s, buf = buf[:n+1:n+1], buf[n+1:]; return s }
	s := &schedule{c: c, jobs: jobs, t: t, f: cut(), b: cut(), v: cut(), to: cut()}
	w := getWork(n + 1)
	defer w.put()
	x := w.a // ∫₀ᵗ u dF(u)
	for j := range n {
		s.f[j+1] = s.f[j] + p[j]
		x[j+1] = x[j] + p[j]*(t[j]+t[j+1])/2
	}
	h := t[n]
	s.v[n] = 2 * math.Sqrt(2*c*h)
	s.to[n] = h + math.Sqrt(2*c*h)
	s.b[n] = h*s.f[n] - x[n] + max(1-s.f[n], 0)*s.v[n]
	q := w.ints[:0] // the lines of the envelope, steepest first
	q = append(q, n)
	front := 0
	for i := n - 1; i >= 0; i-- {
		f := s.f[i]
		for front+1 < len(q) && s.b[q[front+1]]-t[q[front+1]]*f <= s.b[q[front]]-t[q[front]]*f {
			front++
		}
		j := q[front]
		left := 1 - f
		cost := c*left + x[i] + s.b[j] - t[j]*f
		s.to[i] = t[j]
		if d := t[i+1] - t[i]; p[i] > 0 {
			mid := left - p[i]/2
			gap := math.Sqrt(2 * c * mid * d / p[i])
			if d > 1.5*gap {
				rest := s.b[i+1] - t[i+1]*s.f[i+1] + x[i+1]
				if many := math.Sqrt(2*c*mid*p[i]*d) + rest; many < cost {
					cost = many
					s.to[i] = t[i] + gap
				}
			}
		}
		s.v[i] = cost / max(left, 1e-300)
		s.b[i] = t[i]*f - x[i] + cost
		for len(q)-front >= 2 {
			k, l := q[len(q)-2], q[len(q)-1]
			if (s.b[i]-s.b[k])*(t[k]-t[l]) > (s.b[l]-s.b[k])*(t[k]-t[i]) {
				break
			}
			q = q[:len(q)-1]
		}
		q = append(q, i)
	}
	return s
}

// find returns the last i with t[i] <= t.
func (s *schedule) find(t float64) int {
	lo, hi := 0, len(s.t)
	for hi-lo > 1 {
		h := int(uint(lo+hi) >> 1)
		if s.t[h] <= t {
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
	n := len(s.t) - 1
	if i >= n { // beyond all experience
		return pend + math.Sqrt(2*s.c*pend), n
	}
	to0, to1 := s.to[i], s.to[i+1]
	t0, t1 := s.t[i], s.t[i+1]
	switch {
	case to0 < t1: // several polls in this cell
		return pend + (to0 - t0), i
	case to1-to0 <= .5*(to0-t0)+2*(t1-t0): // moves on smoothly
		return to0 + (to1-to0)*(pend-t0)/(t1-t0), i
	case to0 > t1:
		return to0, i
	}
	return to1, i
}

// next returns the age of the next poll of a job that was pending at the age
// pend: the best one, shifted a little where that is almost free, and now and
// then an earlier one to see whether things have changed.
func (s *schedule) next(pend float64, explored *atomic.Uint32) float64 {
	t, i := s.best(pend)
	if i >= len(s.t)-1 {
		return t + (t-pend)*jitterSpan*(2*rand.Float64()-1)
	}
	f := s.at(s.f, i, pend)
	left, gap := 1-f, t-pend
	if !(left > 0 && gap > 0) {
		return t
	}
	j := s.find(t)
	hit := (s.at(s.f, j, t) - f) / left
	share := exploreBudget * math.Sqrt(exploreJobs/max(float64(s.jobs), exploreJobs))
	step := uint32(min(share*s.v[i]/s.c*hit, .5) * (1 << 32))
	if step > 0 && explored.Add(step) < step {
		return t - gap*.01*math.Pow(60, rand.Float64())
	}
	worst := s.at(s.b, j, t) - t*f + (jitterTol+jitterFirst/float64(1+s.jobs))*s.c*left
	off := gap * jitterSpan * (2*rand.Float64() - 1)
	for range 4 {
		if u := t + off; s.at(s.b, s.find(u), u)-u*f <= worst {
			return u
		}
		off *= .4
	}
	return t
}

// quantile returns the age by which the share p of the jobs are over of those
// that were pending at the age pend.
func (s *schedule) quantile(pend, p float64) float64 {
	i := s.find(pend)
	n := len(s.t) - 1
	if i >= n {
		return pend / (1 - p)
	}
	f := s.at(s.f, i, pend)
	want := f + p*(1-f)
	if want >= s.f[n] {
		return s.t[n] * max(1, (1-s.f[n])/max(1-want, 1e-12))
	}
	lo, hi := i, n
	for hi-lo > 1 {
		h := int(uint(lo+hi) >> 1)
		if s.f[h] <= want {
			lo = h
		} else {
			hi = h
		}
	}
	t := s.t[lo] + (s.t[lo+1]-s.t[lo])*(want-s.f[lo])/max(s.f[lo+1]-s.f[lo], 1e-300)
	return max(t, pend)
}
