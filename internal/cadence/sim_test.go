package cadence

import (
	"math"
	"math/rand/v2"
	"sync/atomic"

	"github.com/vtclient/vtclient/internal/yardstick"
)

// A player waits for jobs with a Learner, as Adaptive does.
type player struct {
	learner  Learner
	c        float64
	hold     bool              // learn from the next jobs later
	held     []Job             // until then
	begun    float64           // Unix time of the present job's start; 0: not known
	schedule map[int]*Schedule // by phase
	explored atomic.Uint32
	r        *rand.Rand
}

func newPlayer(c float64, seed uint64) *player {
	p := &player{c: c, r: rand.New(rand.NewPCG(seed, 0)), schedule: make(map[int]*Schedule)}
	p.explored.Store(p.r.Uint32())
	return p
}

func (p *player) learn(j Job) {
	p.held = append(p.held, j)
	if p.hold {
		return
	}
	for _, j := range p.held {
		p.learnNow(j)
	}
	p.held = p.held[:0]
}

func (p *player) learnNow(j Job) {
	priced := !math.IsInf(j.Done, 1) && p.learner.CountHint(j.Hinted)
	if changed := p.learner.Learn(j); changed[Plain] || priced {
		clear(p.schedule)
	}
}

// next returns the age of the next poll.
func (p *player) next(pend float64) float64 {
	m := p.learner.Model(Plain)
	phase, later := Phase(p.begun, m.Clock)
	s := p.schedule[phase]
	if s == nil {
		s = m.Schedule(p.c*p.learner.Worth()*m.Discount(m.used+len(p.held)), phase)
		p.schedule[phase] = s
	}
	return s.Next(max(pend+later, 0), &p.explored, p.r.Float64) - later
}

// A lesson is how the end of a job becomes known to the learner.
type lesson int

const (
	polled  lesson = iota // from the polls
	hinted                // from a hint
	exact                 // from the backend's own times
	givenUp               // from the polls, but a third of the waits are given up at a random age
)

// run waits for a job of the duration x and returns its cost.
func (p *player) run(x float64, how lesson, r *rand.Rand) float64 {
	quit := math.Inf(1)
	if how == givenUp && r.IntN(3) == 0 {
		quit = x * 2 * r.Float64()
	}
	pend, at, cost := 0., 0., 0.
	for {
		at = p.next(pend)
		if at > quit { // the cost is still that of the whole wait
			p.learn(Job{Pending: pend, Done: math.Inf(1)})
			how, quit = -1, math.Inf(1)
		}
		if cost += p.c; at >= x {
			break
		}
		pend = at
	}
	switch how {
	case polled, givenUp:
		p.learn(Job{Pending: pend, Done: at, Start: p.begun})
	case exact:
		p.learn(Job{Pending: pend, Done: x, Exact: true})
	case hinted:
		p.learn(Job{Pending: pend, Done: x, Hinted: true})
	}
	return cost + at - x
}

// windows are the spans of jobs for which costs are compared.
var windows = []int{0, 10, 50, 200, 800}

// costs are what a request is worth, in seconds of waiting.
var costs = []float64{.5, 5}

// An effort is how much to simulate: so many replicas of so many jobs.
type effort struct{ replicas, jobs int }

// ratios returns, for each replica and window, the mean cost over that of the
// optimum, counted as the difference to the optimal schedule on the very same
// durations, which takes most of the noise out.
func ratios(d yardstick.Dist, c float64, e effort, how lesson) [][]float64 {
	opt := yardstick.Solve(d, c)
	out := make([][]float64, e.replicas)
	for k := range out {
		r := rand.New(rand.NewPCG(uint64(k), 7))
		p := newPlayer(c, uint64(k))
		for w := 0; w+1 < len(windows) && windows[w] < e.jobs; w++ {
			n, sum := min(e.jobs, windows[w+1])-windows[w], 0.0
			for range n {
				x := d.Draw(r)
				sum += p.run(x, how, r) - opt.Of(x, c)
			}
			out[k] = append(out[k], 1+sum/float64(n)/opt.Cost)
		}
	}
	return out
}

func sampleOf(lo, hi, weight float64) Sample { return Sample{Lo: lo, Hi: hi, Weight: weight} }
