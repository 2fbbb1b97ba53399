package cadence

import (
	"math"
	"testing"
)

func TestWhatAJobTeaches(t *testing.T) {
	inf := math.Inf(1)
	for _, tt := range []struct {
		rule string
		j    Job
		unit float64
		want Sample
	}{
		{"an interval", Job{Pending: 2, Done: 3}, 1, sampleOf(2, 3, 1)},
		{"in units of the estimate", Job{Pending: 2, Done: 3}, 4, sampleOf(.5, .75, 1)},
		{"never seen pending", Job{Done: 3}, 1, sampleOf(0, 3, 1)},
		{"a hint is late by a thousandth at most", Job{Pending: 2, Done: 3, Hinted: true}, 1, sampleOf(2.997, 3, 1)},
		{"or by the time since the last poll", Job{Pending: 2.999, Done: 3, Hinted: true}, 1, sampleOf(2.999, 3, 1)},
		{"an exact duration", Job{Pending: 2, Done: 3, Exact: true}, 1, sampleOf(2.997, 3, 1)},
		{"an exact duration, seen pending later", Job{Pending: 4, Done: 3, Exact: true}, 1, sampleOf(2.997, 3, 1)},
		{"seen pending when it was over", Job{Pending: 3, Done: 3}, 1, sampleOf(3, 3, 1)},
		{"given up", Job{Pending: 2, Done: inf}, 1, sampleOf(2, inf, 1)},
		{"failed", Job{Pending: 2, Done: 3, Failed: true}, 1, sampleOf(2, 3, doubtful)},
		{"an estimate in wrong units", Job{Pending: 2, Done: 3600}, 1e-9, sampleOf(2e9, inf, 1)},
		{"one that is wronger still", Job{Pending: 20, Done: 3600}, 1e-9, sampleOf(maxAge, inf, 1)},
	} {
		got := tt.j.sample(tt.unit)
		if math.Abs(got.Lo-tt.want.Lo) > 1e-12*tt.want.Lo || math.Abs(got.Hi-tt.want.Hi) > 1e-12*tt.want.Hi || got.Weight != tt.want.Weight {
			t.Errorf("%s: %+v, want %+v", tt.rule, got, tt.want)
		}
	}
}

// Jobs with an estimate and jobs without are learnt apart.
func TestEstimatesAreLearntApart(t *testing.T) {
	var l Learner
	for _, tt := range []struct {
		job     Job
		changed [2]bool
		samples [2]int
	}{
		{Job{Pending: 9, Done: 10, Expected: 5}, [2]bool{Ratio: true}, [2]int{Ratio: 1}},
		{Job{Pending: 9, Done: 10}, [2]bool{Plain: true}, [2]int{1, 1}},
	} {
		if got := l.Learn(tt.job); got != tt.changed {
			t.Errorf("%+v: changed %v", tt.job, got)
		}
		st := l.State()
		if n := [2]int{len(st.Samples[Plain]), len(st.Samples[Ratio])}; n != tt.samples {
			t.Errorf("%+v: %v samples, want %v", tt.job, n, tt.samples)
		}
	}
	if got := l.models[Ratio].samples[0]; got != (Sample{Lo: 1.8, Hi: 2, Weight: 1, Estimate: 5}) {
		t.Errorf("a ratio %v", got)
	}
}

// Failures that end in an instant change neither what is used nor, by much, what is
// expected: not at the first look, and not soon after it.
func TestInstantFailuresDoNotTeachThatJobsAreShort(t *testing.T) {
	p := newPlayer(1, 1)
	for range 200 {
		p.run(180*math.Exp(.3*p.r.NormFloat64()), polled, p.r)
	}
	median, used := p.learner.models[Plain].Schedule(1, 0).Quantile(0, .5), p.learner.models[Plain].used
	for range 10 {
		p.learn(Job{Done: .05, Failed: true})
	}
	if p.learner.models[Plain].used != used {
		t.Errorf("%d samples used, %d before failures at the first look", p.learner.models[Plain].used, used)
	}
	for range 5 {
		p.learn(Job{Pending: .02, Done: 5, Failed: true})
	}
	if p.learner.models[Plain].used != used+5 {
		t.Errorf("%d samples used, %d before five failures soon after", p.learner.models[Plain].used, used)
	}
	if after := p.learner.models[Plain].Schedule(1, 0).Quantile(0, .5); math.Abs(after/median-1) > .05 {
		t.Errorf("the median is %.1f s, and was %.1f s", after, median)
	}
}

// One estimate in wrong units changes what is learnt of the others as little as any
// other job.
func TestOneAbsurdEstimateLosesNothing(t *testing.T) {
	for _, absurd := range []float64{1e-9, 1e-300, 9e9, 1e300} {
		var l Learner
		for i := range 100 {
			if i == 60 {
				l.Learn(Job{Pending: 3000, Done: 3600, Expected: absurd})
			}
			d := 100 * (1 + .2*math.Sin(float64(i)))
			l.Learn(Job{Pending: d - 3, Done: d, Expected: 100})
		}
		s := l.Model(Ratio).Schedule(.01, 0)
		if s.Jobs != 101 {
			t.Errorf("%v: %d jobs used", absurd, s.Jobs)
		}
		if q := s.Quantile(0, .5); q < .9 || q > 1.1 {
			t.Errorf("%v: the median is %v of the estimate", absurd, q)
		}
		if _, err := ParseState(l.State().Text()); err != nil {
			t.Errorf("%v: %v", absurd, err)
		}
	}
}
