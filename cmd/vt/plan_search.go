package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// A search looks for settings that are best for given jobs.
type search struct {
	sorted []time.Duration
	sums   []float64 // sums[i] is the sum of the first i of sorted, in seconds
	cost   time.Duration
}

func newSearch(durations []time.Duration, cost time.Duration) *search {
	s := &search{sorted: slices.Sorted(slices.Values(durations)), sums: make([]float64, len(durations)+1), cost: cost}
	for i, x := range s.sorted {
		s.sums[i+1] = s.sums[i] + x.Seconds()
	}
	return s
}

func (s *search) of(b backoff) float64 { return b.try(s.sorted, s.sums).cost(s.cost) }

// constant returns the best interval. It tries a grid and then a finer one around
// the best, and moves each point down to the shortest interval that asks about
// each job as often as before: the same requests with less delay. The best interval
// of all is such a one, so on durations with few values it is found exactly.
func (s *search) constant() time.Duration {
	longest := s.sorted[len(s.sorted)-1]
	shortest := s.sorted[0].Seconds()
	best, least := longest, s.of(backoff{longest, longest, 1})
	look := func(from, to float64, points int) {
		for i := range points {
			g := s.tighten(time.Duration(math.Ceil(from * math.Pow(to/from, float64(i)/float64(points)))))
			if c := s.of(backoff{g, g, 1}); c < least {
				best, least = g, c
			}
		}
	}
	look(max(1, 1e8*min(shortest, math.Sqrt(2*s.cost.Seconds()*shortest))), float64(longest), 500)
	for _, width := range []float64{1.03, 1.001} {
		look(float64(best)/width, float64(best)*width, 250)
	}
	return best
}

// tighten returns the shortest interval that asks about each job as often as g.
func (s *search) tighten(g time.Duration) time.Duration {
	var tight time.Duration
	for _, x := range s.sorted {
		k := (x + g - 1) / g
		if tight*k < x {
			tight = (x + k - 1) / k
		}
	}
	return tight
}

// A candidate is a setting with its cost.
type candidate struct {
	backoff
	cost float64
}

// exponential returns the best exponential backoff without jitter: the best of a
// grid and of the best constant, improved step by step.
func (s *search) exponential(constant time.Duration) backoff {
	all := s.grid(constant)
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.cost, b.cost) })
	best := all[0]
	for _, c := range all[:min(6, len(all))] {
		if c = s.improve(c); c.cost < best.cost {
			best = c
		}
	}
	return best.backoff
}

// grid returns the best constant and settings over the whole range that makes sense.
func (s *search) grid(constant time.Duration) []candidate {
	longest := s.sorted[len(s.sorted)-1]
	first := backoff{constant, constant, 1}
	all := []candidate{{first, s.of(first)}}
	low := float64(min(s.sorted[0], constant)) / 20
	for i := range 24 {
		base := time.Duration(max(1, low*math.Pow(float64(longest)/low, float64(i)/23)))
		for _, mult := range []float64{1.02, 1.05, 1.1, 1.2, 1.35, 1.5, 1.75, 2, 2.5, 3, 4} {
			for limit := base; ; limit *= 2 {
				b := backoff{base, min(limit, longest), mult}
				all = append(all, candidate{b, s.of(b)})
				if limit >= longest {
					break
				}
			}
		}
	}
	return all
}

// improve changes one of the three settings at a time, in smaller and smaller steps, as
// long as that makes it cheaper.
func (s *search) improve(c candidate) candidate {
	longest := s.sorted[len(s.sorted)-1]
	for step := 0.2; step > 1e-4; {
		improved := false
		for _, dir := range [6][3]float64{{1, 0, 0}, {-1, 0, 0}, {0, 1, 0}, {0, -1, 0}, {0, 0, 1}, {0, 0, -1}} {
			b := backoff{
				base:  time.Duration(float64(c.base) * math.Exp(step*dir[0])),
				limit: time.Duration(float64(c.limit) * math.Exp(step*dir[1])),
				mult:  1 + (c.mult-1)*math.Exp(2*step*dir[2]),
			}
			b.base = min(max(b.base, 1), longest)
			b.limit = min(max(b.limit, b.base), longest)
			if cost := s.of(b); cost < c.cost {
				c, improved = candidate{b, cost}, true
			}
		}
		if !improved {
			step /= 2
		}
	}
	return c
}
