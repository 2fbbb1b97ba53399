package cadence

import (
	"math/rand/v2"
	"testing"
)

// The probability that no hints come is that of Bayes' rule, summed over all the
// ways in which they may have ceased and returned; and what each completion counts
// for their reliability is the probability that they come.
func TestSilenceIsBayesRule(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 40 {
		var h Hints
		type step struct {
			hinted bool
			come   float64 // the reliability of hints before it
		}
		var steps []step
		hinted, polled := 0.0, 0.0
		for range 1 + r.IntN(9) {
			s := step{r.IntN(4) > 0, h.reliability()}
			h.Count(s.hinted)
			steps = append(steps, s)

			var p [2]float64 // that they come, or do not, after the steps
			for path := range 1 << len(steps) {
				weight, silent := 1.0, 0
				for i, s := range steps {
					now := path >> i & 1
					weight *= [2][2]float64{{1 - hintsCease, hintsCease}, {hintsReturn, 1 - hintsReturn}}[silent][now]
					share := [2]float64{s.come, hintsStray}[now]
					if !s.hinted {
						share = 1 - share
					}
					weight *= share
					silent = now
				}
				p[silent] += weight
			}
			silent := p[1] / (p[0] + p[1])
			near(t, "silence", h.Silent, silent, 1e-9)
			hinted *= 1 - 1./hintMemory
			polled *= 1 - 1./hintMemory
			if s.hinted {
				hinted += 1 - silent
			} else {
				polled += 1 - silent
			}
			near(t, "hinted", h.Hinted, hinted, 1e-9)
			near(t, "polled", h.Polled, polled, 1e-9)
			near(t, "reliability", h.reliability(), min((hinted+.7)/(hinted+polled+1), hintsMost), 1e-9)
		}
	}
}

func TestWhatARequestIsWorth(t *testing.T) {
	for _, tt := range []struct {
		rule string
		h    Hints
		want float64
	}{
		{"nothing more at first", Hints{}, 1},
		{"no hint has come", Hints{Polled: 30, Live: true}, 1},
		{"three of four come, of many", Hints{Hinted: 300 - .7, Polled: 99.7, Live: true}, 4},
		{"a record of the past counts for one half", Hints{Hinted: 300 - .7, Polled: 99.7}, 2},
		{"they have half ceased", Hints{Hinted: 320 - .7, Polled: 79.7, Silent: .5, Live: true}, 1 / .6},
		{"a hundred times as much at most", Hints{Hinted: 1e6, Live: true}, 100},
	} {
		near(t, tt.rule, tt.h.Worth(), tt.want, 1e-9)
	}
	var h Hints
	if h.Count(true); h.Live {
		t.Error("a hinted completion may be of the past")
	}
	if h.Count(false); !h.Live {
		t.Error("a poll found the job done: hints were to be expected")
	}
}

// However much was merged, what is counted next matters as much as it does to one learner.
func TestMergedHintsFollowTheNext(t *testing.T) {
	h := Hints{Hinted: hintsCap, Live: true}
	for range 400 {
		h.Count(false)
		h.Silent = 0 // the slower of the two means, alone
	}
	if p := h.reliability(); p > .5 {
		t.Errorf("after 400 completions without hints, their reliability is %v", p)
	}
}
