package cadence

import (
	"math"
	"math/rand/v2"
	"slices"
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

// Where jobs end on ticks only, polls come just behind them after some tens of jobs.
func TestLatticesAreFound(t *testing.T) {
	noRace(t)
	for _, d := range []yardstick.Dist{
		yardstick.Lattice("multiples of 5 s, found", 5, .05, yardstick.LogNormal("", 60, .5)),
		yardstick.Lattice("multiples of 60 s, found", 60, .3, yardstick.LogNormal("", 300, .5)),
		yardstick.Lattice("multiples of 30 s, found", 30, .1, yardstick.Weibull("", 1, 200)),
	} {
		const c, replicas, jobs = .5, 3, 100
		opt, excess, blind := yardstick.Solve(d, c), 0.0, 0.0
		for k := range uint64(replicas) {
			for _, sees := range []bool{true, false} {
				p, r := taught(d, c, 150, k), rand.New(rand.NewPCG(k, 4))
				if !sees {
					p.learner.models[Plain].lattices = nil
					clear(p.schedule)
				}
				for range jobs {
					x := d.Draw(r)
					v := (p.run(x, polled, r) - opt.Of(x, c)) / jobs / replicas / opt.Cost
					if sees {
						excess += v
					} else {
						blind += v
					}
				}
			}
		}
		if excess > .6 || excess > .8*blind {
			t.Errorf("%s: %.2f above the optimum, and %.2f if the lattice is not seen", d.Name, excess, blind)
		}
	}
}

func TestNoLatticeIsFoundWhereThereIsNone(t *testing.T) {
	for _, d := range []yardstick.Dist{yardstick.LogNormal("log-normal", 180, .3), yardstick.Weibull("exponential", 1, 600), yardstick.Uniform("uniform", 5, 30)} {
		total := 0.0
		const replicas = 4
		for k := range uint64(replicas) {
			for _, l := range taught(d, .5, 300, k).learner.models[Plain].lattices {
				total += l.weight / replicas
			}
		}
		if total > 2*latticePrior {
			t.Errorf("%s: lattices have the probability %.3f", d.Name, total)
		}
	}
}

// Durations that leave a lattice are followed, though polls behind the ticks show little.
func TestLatticesAreGivenUp(t *testing.T) {
	noRace(t)
	d := yardstick.LogNormal("log-normal 3 min .5", 180, .5)
	table := &table{}
	table.add("", regime(yardstick.Lattice("", 30, .1, d), d, .5, 4))
	for w, most := range []float64{1.8, 1.25, 1.12} {
		if m, _ := table.mean(w); m > most {
			t.Errorf("span %d after the change: %.3f times the optimum, more than %v", w, m, most)
		}
	}
}

// With a lattice a distribution has all of its mass between a tick and late after it,
// as much as it had nearer to that tick than to others.
func TestTicksHaveTheMassAroundThem(t *testing.T) {
	cdf := func(age float64) float64 { return 1 - math.Exp(-age/40) }
	l := lattice{period: 10, late: .5, weight: .75}
	at := func(age float64) float64 { return l.tick(age, cdf).cdf(.5) }
	for _, tt := range []struct {
		rule      string
		age, want float64
	}{
		{"nothing before the first tick", 9.9, 0},
		{"half of the first at half the time", 10.25, cdf(12.5) / 2},
		{"all of the first", 10.5, cdf(12.5)},
		{"nothing between ticks", 19.9, cdf(12.5)},
		{"a later one", 30.5, cdf(32.5)},
		{"half of it", 30.25, (cdf(22.5) + cdf(32.5)) / 2},
		{"all in the end", math.Inf(1), 1},
	} {
		near(t, tt.rule, at(tt.age), tt.want, 1e-12)
	}
	ages, p := withLattices([]lattice{l}, []float64{0, 1, 7, 100, 2000}, cdf)
	sum := 0.0
	for j, v := range p {
		sum += v
		near(t, "the mixture", sum, .25*cdf(ages[j+1])+.75*at(ages[j+1]), 1e-9)
	}
}

// The weights are those of Bayes' rule, a little flowing back.
func TestLatticesAreWeighedByBayesRule(t *testing.T) {
	cdf := func(age float64) float64 { return 1 - math.Exp(-age/40) }
	ls, r := lattices(), rand.New(rand.NewPCG(5, 5))
	for range 30 {
		s := sampleOf(40*r.Float64(), 0, 1)
		s.Hi = s.Lo + 20*r.Float64()
		if r.IntN(4) > 0 {
			s.Start = 1e9 + 3600*r.Float64()
		}
		before, total, none := slices.Clone(ls), 0.0, 1.0
		smooth := cdf(s.Hi) - cdf(s.Lo)
		want := make([]float64, len(ls))
		for i, l := range before {
			if l.daily {
				l.phase = math.Mod(s.Start, l.period)
			}
			given := .99*(l.tick(s.Hi, cdf).cdf(l.late)-l.tick(s.Lo, cdf).cdf(l.late)) + .01*smooth
			if l.daily && s.Start == 0 {
				given = smooth // no evidence
			}
			want[i] = l.weight * given
			total += want[i]
			none -= l.weight
		}
		total += none * smooth
		judgeLattices(ls, s, smooth, cdf)
		for i := range want {
			near(t, "a weight", ls[i].weight, .999*want[i]/total+.001*flatLattice, 1e-12)
		}
	}
}

// Jobs that become shorter are no evidence of a lattice onto whose ticks the estimate would have
// to be moved, as from 55 s to one of 45 s; but for some jobs, if polls happen to come just behind
// such a tick.
func TestAChangeIsNoLattice(t *testing.T) {
	const from, to = 55.0, 27.0
	misled := 0
	for seed := range uint64(8) {
		r, p := rand.New(rand.NewPCG(seed, 9)), newPlayer(5, seed)
		for job := range 350 {
			d := from
			if job >= 300 {
				d = to
			}
			p.run(d+r.Float64()/2, polled, r)
			on := 0.0
			for _, l := range p.learner.Model(Plain).lattices {
				if math.Mod(from, l.period) > 0 && math.Mod(to, l.period) > 0 {
					on += l.weight
				}
			}
			if on > 0.5 {
				misled++
			}
		}
	}
	if misled > 20 {
		t.Errorf("after %d of 2800 jobs there were lattices that do not fit", misled)
	}
}
