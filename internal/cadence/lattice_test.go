package cadence

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vtclient/vtclient/internal/yardstick"
)

// taught returns a player that has waited for n jobs.
func taught(d yardstick.Dist, c float64, n int, seed uint64) *player {
	p, r := newPlayer(c, seed), rand.New(rand.NewPCG(seed, 3))
	for range n {
		p.run(d.Draw(r), polled, r)
	}
	return p
}

// weightOf returns the probability of a period, whatever the lateness.
func weightOf(l *lattices, period float64) (sum float64) {
	for i, p := range periods {
		if p == period {
			for _, w := range l[i] {
				sum += w
			}
		}
	}
	return sum
}

func TestLatticesAreFound(t *testing.T) {
	for _, tt := range []struct {
		d      yardstick.Dist
		period float64
	}{
		{yardstick.Lattice("", 5, .05, yardstick.LogNormal("", 60, .5)), 5},
		{yardstick.Lattice("", 60, .3, yardstick.LogNormal("", 300, .5)), 60},
		{yardstick.Lattice("", 30, .1, yardstick.Weibull("", 1, 200)), 30},
	} {
		p := taught(tt.d, .5, 150, 1)
		if w := weightOf(p.learner.plain.lattices, tt.period); w < .6 {
			t.Errorf("multiples of %v s have the probability %.3f", tt.period, w)
		}
		// The polls of the range in which most jobs end come shortly after ticks.
		s := p.learner.plain.Schedule(.5)
		for age := s.Quantile(0, .2); age < s.Quantile(0, .8); {
			age = s.Best(age)
			if past := math.Mod(age, tt.period); past > tt.period/30+2*latePlus {
				t.Errorf("multiples of %v s: a poll at %.2f s", tt.period, age)
			}
		}
	}
}

func TestNoLatticeIsFoundWhereThereIsNone(t *testing.T) {
	for _, d := range []yardstick.Dist{yardstick.LogNormal("", 180, .3), yardstick.Weibull("", 1, 600), yardstick.Uniform("", 5, 30)} {
		for _, l := range taught(d, .5, 300, 2).learner.plain.lattices.likely() {
			t.Errorf("multiples of %v s have the probability %.3f", l.period, l.weight)
		}
	}
}

// Durations that have left a lattice are followed.
func TestLatticesAreGivenUp(t *testing.T) {
	p := taught(yardstick.Lattice("", 30, .1, yardstick.LogNormal("", 180, .5)), .5, 150, 3)
	if w := weightOf(p.learner.plain.lattices, 30); w < .6 {
		t.Fatalf("multiples of 30 s have the probability %.3f", w)
	}
	d, r := yardstick.LogNormal("", 180, .5), rand.New(rand.NewPCG(3, 4))
	for range 60 {
		p.run(d.Draw(r), polled, r)
	}
	if w := weightOf(p.learner.plain.lattices, 30); w > .1 {
		t.Errorf("multiples of 30 s have the probability %.3f still", w)
	}
}

// With a lattice a distribution has all of its mass between a tick and late after it,
// as much as it had nearer to that tick than to others.
func TestTicksHaveTheMassAroundThem(t *testing.T) {
	cdf := func(age float64) float64 { return 1 - math.Exp(-age/40) }
	at := func(age float64) float64 { return tickAt(10, age, cdf).cdf(.5) }
	for _, tt := range []struct {
		rule      string
		age, want float64
	}{
		{"nothing before the first tick", 9.9, 0},
		{"half of the first at half the time", 10.25, cdf(13.5) / 2},
		{"all of the first", 10.5, cdf(13.5)},
		{"nothing between ticks", 19.9, cdf(13.5)},
		{"a later one", 30.5, cdf(33.5)},
		{"half of it", 30.25, (cdf(23.5) + cdf(33.5)) / 2},
		{"all in the end", math.Inf(1), 1},
	} {
		near(t, tt.rule, at(tt.age), tt.want, 1e-12)
	}
	ages, p := withLattices([]lattice{{10, .5, .75}}, []float64{0, 1, 7, 100, 2000}, cdf)
	sum := 0.0
	for j, v := range p {
		sum += v
		near(t, "the mixture", sum, .25*cdf(ages[j+1])+.75*at(ages[j+1]), 1e-9)
	}
}

// The weights are those of Bayes' rule, a little flowing back.
func TestLatticesAreWeighedByBayesRule(t *testing.T) {
	cdf := func(age float64) float64 { return 1 - math.Exp(-age/40) }
	l, r := newLattices(), rand.New(rand.NewPCG(5, 5))
	for range 30 {
		s := sampleOf(40*r.Float64(), 0, 1)
		s.Hi = s.Lo + 20*r.Float64()
		before, total, none := *l, 0.0, 1.0
		var want lattices
		for i, period := range periods {
			for j, late := range lates {
				late = 0.02 + late*period
				given := tickAt(period, s.Hi, cdf).cdf(late) - tickAt(period, s.Lo, cdf).cdf(late)
				want[i][j] = before[i][j] * (.99*given + .01*(cdf(s.Hi)-cdf(s.Lo)))
				total += want[i][j]
				none -= before[i][j]
			}
		}
		total += none * (cdf(s.Hi) - cdf(s.Lo))
		l.judge(s, cdf)
		for i := range want {
			for j := range want[i] {
				near(t, "a weight", l[i][j], .999*want[i][j]/total+.001*.1/float64(numLattices), 1e-12)
			}
		}
	}
}
