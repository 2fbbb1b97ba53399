package main

import (
	"math"
	"slices"
	"time"
)

// optimalPolls returns the ages at which to ask so that the mean waiting cost is
// the least, where the durations are known but not which job takes which. A job
// is asked about at these ages in turn until it is over; the last one is the
// longest duration.
//
// It is enough to look at ages that are durations themselves: a poll between two
// of them finds over exactly those jobs that it would find at the lower one, only
// later. So let d₁ < … < dₘ be the distinct durations, wₖ the number of jobs of
// each and Nᵢ the number of those longer than dᵢ. What is still to come in all
// after a poll at dᵢ, or after the start for i = 0, is
//
//	Vᵢ = min over j > i of  c·Nᵢ + Σ over i < k ≤ j of wₖ·(dⱼ − dₖ) + Vⱼ,   Vₘ = 0
//
// since the poll at dⱼ is made for each job that is left, ends those up to dⱼ
// and leaves the rest. That is exact; it takes m²/2 steps at the most, and fewer where
// requests are cheap, as the sum of the delays only grows with j.
func optimalPolls(durations []time.Duration, cost float64) []time.Duration {
	sorted := slices.Sorted(slices.Values(durations))
	var d, w []float64 // distinct durations, and how many jobs take each
	for i, x := range sorted {
		if i == 0 || x != sorted[i-1] {
			d, w = append(d, float64(x)), append(w, 0)
		}
		w[len(w)-1]++
	}
	m := len(d)
	v := make([]float64, m+1) // v[i] is Vᵢ; d[i-1] is dᵢ
	next := make([]int, m+1)
	left := 0.0 // Nᵢ
	for i := m - 1; i >= 0; i-- {
		left += w[i]
		best := math.Inf(1)
		delay, over := 0.0, 0.0
		for j := i + 1; j <= m; j++ {
			if j > i+1 {
				delay += over * (d[j-1] - d[j-2])
			}
			if delay >= best {
				break
			}
			over += w[j-1]
			if total := delay + v[j]; total < best {
				best, next[i] = total, j
			}
		}
		v[i] = best + cost*1e9*left
	}
	var polls []time.Duration
	for i := next[0]; ; i = next[i] {
		polls = append(polls, time.Duration(d[i-1]))
		if i == m {
			return polls
		}
	}
}

// tryPolls returns the mean requests and delay of jobs that are asked about at
// the given ages, which rise and reach the longest duration.
func tryPolls(polls []time.Duration, durations []time.Duration) tally {
	var t tally
	for _, x := range durations {
		i, _ := slices.BinarySearch(polls, x)
		t.add(float64(i+1), polls[i]-x)
	}
	return t
}
