package cadence

import (
	"math"
	"slices"
)

// Jobs with an estimate are learnt as ratios of their durations to it. A part that is the
// same for all jobs, such as half a minute to start up, makes that ratio large for short jobs and
// small for long ones. So their ages are in units of the estimate plus an intercept: the one with
// which the ratios lie closest together. It exceeds the estimates where they are of no use.

const (
	interceptMost  = 256 // the latest samples show it
	interceptEach  = 64  // samples it is looked at; before so many, with each new estimate
	interceptLeast = 8   // fewer show nothing
	interceptGain  = 5.0 // the log-likelihood that a change of it must gain
)

// unit returns the unit of a sample's ages in m, in estimates.
func (m *Model) unit(s Sample) float64 {
	if s.Estimate == 0 { // plain, or from a text of an earlier version
		return 1
	}
	return 1 + m.Intercept/s.Estimate
}

// bestIntercept returns the intercept that suits the latest samples; the present one unless another
// is clearly better.
func (m *Model) bestIntercept() float64 {
	var jobs []Sample
	longest := 0.0
	for _, s := range m.samples[max(len(m.samples)-m.used, len(m.samples)-interceptMost):] {
		if s.Estimate > 0 && s.Lo > 0 && s.Weight == 1 && !math.IsInf(s.Hi, 1) {
			jobs = append(jobs, s)
			longest = max(longest, s.Estimate)
		}
	}
	if len(jobs) < interceptLeast {
		return m.Intercept
	}
	best, least := m.Intercept, scatter(jobs, m.Intercept)*math.Exp(-interceptGain/float64(len(jobs)))
	top := math.Ceil(math.Log2(longest)) + 2.5
	for k := range 22 { // 0, and half octaves from 4 times the longest estimate down to a 256th
		intercept := 0.0
		if k > 0 {
			intercept = math.Exp2(top - float64(k)/2)
		}
		if s := scatter(jobs, intercept); s < least {
			best, least = intercept, s
		}
	}
	return best
}

// scatter returns the mean distance of the logs of the ratios from their median. By its log, times the
// number of jobs, the likelihoods of Laplace distributions differ.
func scatter(jobs []Sample, intercept float64) (sum float64) {
	logs := make([]float64, len(jobs))
	for i, s := range jobs {
		logs[i] = math.Log((s.Lo + s.Hi) / (1 + intercept/s.Estimate))
	}
	slices.Sort(logs)
	for _, x := range logs {
		sum += min(math.Abs(x-logs[len(logs)/2]), 1)
	}
	return sum / float64(len(jobs))
}
