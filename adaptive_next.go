package vtclient

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
)

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

func (s *schedule) lerp(v []float64, i int, t float64) float64 {
	if i >= len(s.t)-1 {
		return v[len(v)-1]
	}
	return v[i] + (v[i+1]-v[i])*(t-s.t[i])/(s.t[i+1]-s.t[i])
}

func (s *schedule) best(pend float64) (t float64, i int) {
	i = s.find(pend)
	n := len(s.t) - 1
	if i >= n {
		return pend + math.Sqrt(2*s.c*pend), n
	}
	T0, T1 := s.T[i], s.T[i+1]
	t0, t1 := s.t[i], s.t[i+1]
	if T0-t0 < t1-t0 { // several polls within a cell
		return pend + (T0 - t0), i
	}
	if T1-T0 <= .5*(T0-t0)+2*(t1-t0) {
		return T0 + (T1-T0)*(pend-t0)/(t1-t0), i
	}
	if T0 > t1 {
		return T0, i
	}
	return T1, i
}

func (s *schedule) next(pend float64, ex *atomic.Uint32) float64 {
	t, i := s.best(pend)
	if i >= len(s.t)-1 {
		return t
	}
	F := s.lerp(s.f, i, pend)
	S := 1 - F
	j := s.find(t)
	gap := t - pend
	if S <= 0 || gap <= 0 {
		return t
	}
	q := (s.lerp(s.f, j, t) - F) / S
	beta := exploreBudget * math.Sqrt(300/max(float64(s.n), 300))
	if p := beta * s.w[i] / s.c * q; ex.Add(uint32(p*(1<<32))) < uint32(p*(1<<32)) {
		return t - gap*.01*math.Pow(60, rand.Float64())
	}
	// anywhere where the cost is as good as the least
	tol := (jitterTol + jitterTol0/float64(1+s.n)) * s.c * S
	best := s.lerp(s.b, j, t) - t*F
	off := gap * jitterSpan * (2*rand.Float64() - 1)
	for range 4 {
		u := t + off
		if u > pend && s.lerp(s.b, s.find(u), u)-u*F <= best+tol {
			return u
		}
		off *= .4
	}
	return t
}

const (
	exploreBudget = .04
	jitterTol     = .01
	jitterTol0    = .3
	jitterSpan    = .15
)
