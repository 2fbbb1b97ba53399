package cadence

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestTheInterceptOfEstimates(t *testing.T) {
	for _, tt := range []struct {
		rule         string
		offset       float64 // seconds
		slope, noise float64
		lo, hi       float64 // the intercept
	}{
		{"none where durations are the estimate", 0, 1, .05, 0, 4},
		{"none where they are a multiple of it", 0, 3, .05, 0, 4},
		{"a constant part", 60, 1, .05, 45, 85},
		{"one that is longer than most jobs", 600, 1, .05, 450, 850},
		{"in units of what a second of the estimate takes", 60, .25, .05, 170, 340},
		{"with noise", 60, 1, .2, 30, 120},
		{"beyond all estimates where they are of no use", 180, 0, .2, 1000, 1e5},
	} {
		r := rand.New(rand.NewPCG(1, 1))
		m, changes := NewModel(Ratio), 0
		for range 400 {
			estimate := 180 * math.Exp(.7*r.NormFloat64())
			x := (tt.offset + tt.slope*estimate) * math.Exp(tt.noise*r.NormFloat64()) / estimate
			was := m.Intercept
			m.Learn(Sample{Lo: x * (1 - .05*r.Float64()), Hi: x * (1 + .05*r.Float64()), Weight: 1, Estimate: estimate})
			if m.Intercept != was {
				changes++
			}
		}
		if m.Intercept < tt.lo || m.Intercept > tt.hi {
			t.Errorf("%s: an intercept of %.1f s, want %v to %v", tt.rule, m.Intercept, tt.lo, tt.hi)
		}
		if changes > 8 {
			t.Errorf("%s: it changed %d times", tt.rule, changes)
		}
		if again := RestoreModel(Ratio, m.samples).Intercept; again < tt.lo || again > tt.hi {
			t.Errorf("%s: an intercept of %.1f s after restoring", tt.rule, again)
		}
	}
}

// Where estimates come to differ after many that were alike, it is learnt then, without a change
// that would make the model begin anew.
func TestTheInterceptIsLearntLate(t *testing.T) {
	r, m := rand.New(rand.NewPCG(1, 1)), NewModel(Ratio)
	for job := range 400 {
		estimate := 100.0
		if job >= 100 {
			estimate *= math.Exp(.4 * r.NormFloat64())
		} else if m.Intercept != 0 {
			t.Fatalf("job %d: an intercept of %.1f s, which nothing shows", job, m.Intercept)
		}
		x := (60 + estimate) * math.Exp(.1*r.NormFloat64()) / estimate
		m.Learn(Sample{Lo: x * (1 - .05*r.Float64()), Hi: x * (1 + .05*r.Float64()), Weight: 1, Estimate: estimate})
	}
	if m.Intercept < 30 || m.Intercept > 120 || m.used < 300 {
		t.Errorf("an intercept of %.1f s, from %d jobs, where jobs take 60 s more than the estimate", m.Intercept, m.used)
	}
}

// Samples that show nothing of it leave the intercept as it is: few, all alike, failed, given up,
// found over at the first poll, and ones of an older text, which has no estimates.
func TestWhatShowsNoIntercept(t *testing.T) {
	for rule, s := range map[string]Sample{
		"of one estimate":     {Lo: 1.4, Hi: 1.6, Weight: 1, Estimate: 100},
		"failed":              {Lo: .1, Hi: .2, Weight: doubtful, Estimate: 1000},
		"given up":            {Lo: .1, Hi: math.Inf(1), Weight: 1, Estimate: 1000},
		"over at the first":   {Lo: 0, Hi: .1, Weight: 1, Estimate: 1000},
		"without an estimate": {Lo: .1, Hi: .2, Weight: 1},
	} {
		m := NewModel(Ratio)
		for range 20 {
			m.Learn(Sample{Lo: 1.4, Hi: 1.6, Weight: 1, Estimate: 100})
			m.Learn(s)
		}
		if m.Intercept != 0 {
			t.Errorf("%s: an intercept of %v s", rule, m.Intercept)
		}
	}
}
