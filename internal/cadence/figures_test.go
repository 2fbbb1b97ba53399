package cadence

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/vtclient/vtclient/internal/race"
	"github.com/vtclient/vtclient/internal/yardstick"
)

// figures is how many replicas the complete tables have; 0: only the short forms
// run, which assert the bounds.
//
//	VTCLIENT_FIGURES=40 go test -run Figures -v -timeout 1h ./internal/cadence
var figures = func() int {
	n, err := strconv.Atoi(os.Getenv("VTCLIENT_FIGURES"))
	if err != nil && os.Getenv("VTCLIENT_FIGURES") != "" || n == 1 {
		n = 10
	}
	return n
}()

// noRace skips what simulates in a single goroutine, where the race detector finds
// nothing and takes ten times as long.
func noRace(t *testing.T) {
	t.Helper()
	if race.Enabled {
		t.Skip("nothing here for the race detector")
	}
}

// A table adds up ratios to the optimum, by window.
type table struct {
	rows  []string
	means [][]float64 // of all distributions, for each replica and window
	each  [][]float64 // of all replicas, for each row and window
	n     float64
}

func (t *table) add(name string, rs [][]float64) {
	row := make([]float64, len(rs[0]))
	for k, ws := range rs {
		if k == len(t.means) {
			t.means = append(t.means, make([]float64, len(ws)))
		}
		for w, v := range ws {
			t.means[k][w] += v
			row[w] += v / float64(len(rs))
		}
	}
	t.n++
	t.rows, t.each = append(t.rows, name), append(t.each, row)
}

// mean returns the mean of a window and its standard error.
func (t *table) mean(w int) (m, se float64) {
	n := float64(len(t.means))
	for _, v := range t.means {
		m += v[w] / t.n / n
	}
	for _, v := range t.means {
		se += (v[w]/t.n - m) * (v[w]/t.n - m)
	}
	return m, math.Sqrt(se / max(n-1, 1) / n)
}

func (t *table) log(tb testing.TB, title string) {
	tb.Helper()
	s := fmt.Sprintf("%s, %d replicas; jobs", title, len(t.means))
	for w := range t.each[0] {
		s += fmt.Sprintf(" %d-%d", windows[w], windows[w+1])
	}
	worst := make([]float64, len(t.each[0]))
	for i, row := range t.each {
		s += fmt.Sprintf("\n%-34s", t.rows[i])
		for w, v := range row {
			s += fmt.Sprintf(" %6.3f       ", v)
			worst[w] = max(worst[w], v)
		}
	}
	s += fmt.Sprintf("\n%-34s", "mean")
	for w := range t.each[0] {
		m, se := t.mean(w)
		s += fmt.Sprintf(" %6.3f ±%.3f", m, se)
	}
	s += fmt.Sprintf("\n%-34s", "worst")
	for _, v := range worst {
		s += fmt.Sprintf(" %6.3f       ", v)
	}
	tb.Log(s)
}

func tabulate(ds []yardstick.Dist, e effort, how lesson) *table {
	t := &table{}
	for _, d := range ds {
		for _, c := range costs {
			t.add(fmt.Sprintf("%s, c=%v", d.Name, c), ratios(d, c, e, how))
		}
	}
	return t
}

// floor is tabulate for the ideal learner whose family are the distributions
// themselves, at unknown scale, and on the same durations.
func floor(ds []yardstick.Dist, replicas int) *table {
	t := &table{}
	for _, d := range ds {
		for _, c := range costs {
			opt := yardstick.Solve(d, c)
			rs := make([][]float64, replicas)
			for k := range rs {
				r := rand.New(rand.NewPCG(uint64(k), 7))
				l := yardstick.NewIdeal(ds, c)
				for w := range 2 {
					sum := 0.0
					for range windows[w+1] - windows[w] {
						x := d.Draw(r)
						sum += l.Run(x) - opt.Of(x, c)
					}
					rs[k] = append(rs[k], 1+sum/float64(windows[w+1]-windows[w])/opt.Cost)
				}
			}
			t.add(fmt.Sprintf("%s, c=%v", d.Name, c), rs)
		}
	}
	return t
}

// A bound is asserted on the mean of all distributions, by window.
type bound []float64

// measure logs a table, and checks its means against a bound, in the short form of a few
// replicas with some slack for chance.
func measure(t *testing.T, title string, ds []yardstick.Dist, how lesson, most bound) {
	t.Helper()
	noRace(t)
	e, slack := effort{figures, windows[len(windows)-1]}, 1.0
	if figures == 0 {
		e, slack = effort{2, 200}, 1.06
	}
	table := tabulate(ds, e, how)
	table.log(t, title)
	for w := range table.each[0] {
		m, _ := table.mean(w)
		if w == 0 {
			m = 1 + (m-1)/slack // few jobs, much chance
		}
		if m > most[w]*slack {
			t.Errorf("%s, jobs %d to %d: %.3f times the optimum, more than %.3f", title, windows[w], windows[w+1], m, most[w]*slack)
		}
	}
}

func TestFiguresOwn(t *testing.T) {
	measure(t, "own list", yardstick.Own(), polled, bound{1.45, 1.085, 1.045, 1.035})
}

func TestFiguresHeldOut(t *testing.T) {
	measure(t, "held-out list", yardstick.HeldOut(), polled, bound{1.47, 1.17, 1.09, 1.055})
}

func TestFiguresLattices(t *testing.T) {
	measure(t, "lattices", yardstick.Lattices(), polled, bound{2.25, 1.38, 1.2, 1.11})
}

func TestFiguresFresh(t *testing.T) {
	measure(t, "fresh list", yardstick.Fresh(), polled, bound{1.66, 1.25, 1.15, 1.1})
}

func TestFiguresHinted(t *testing.T) {
	measure(t, "own list, learnt from hints", yardstick.Own(), hinted, bound{1.5, 1.15, 1.12, 1.1})
}

func TestFiguresExact(t *testing.T) {
	measure(t, "own list, learnt from exact durations", yardstick.Own(), exact, bound{1.5, 1.12, 1.07, 1.05})
}

func TestFiguresGivenUp(t *testing.T) {
	measure(t, "own list, a third of the waits given up", yardstick.Own(), givenUp, bound{1.55, 1.12, 1.07, 1.05})
}

// courses is ratios for a sequence of jobs whose distribution changes, against the optimum of
// each job's own.
func courses(g yardstick.Course, c float64, e effort) [][]float64 {
	out := make([][]float64, e.replicas)
	for k := range out {
		r := rand.New(rand.NewPCG(uint64(k), 7))
		p := newPlayer(c, uint64(k))
		job := 0
		for w := 0; w+1 < len(windows) && windows[w] < e.jobs; w++ {
			excess, best := 0.0, 0.0
			for ; job < min(e.jobs, windows[w+1]); job++ {
				d := g.At(job)
				opt, x := yardstick.Solve(d, c), d.Draw(r)
				p.hold = g.Batch > 0 && job%g.Batch < g.Batch-1
				excess += p.run(x, polled, r) - opt.Of(x, c)
				best += opt.Cost
			}
			out[k] = append(out[k], 1+excess/best)
		}
	}
	return out
}

// Distributions that were drawn at random when the code was finished. The seed may be any.
func TestFiguresDrawn(t *testing.T) {
	noRace(t)
	e, most := effort{max(figures, 2), 200}, bound{1.8, 1.3, 1.2}
	if figures > 0 {
		e.jobs, most = 800, bound{1.6, 1.2, 1.12, 1.1}
	}
	table := &table{}
	for _, g := range yardstick.Drawn(2026) {
		for _, c := range costs {
			table.add(fmt.Sprintf("%s, c=%v", g.Name, c), courses(g, c, e))
		}
	}
	table.log(t, "drawn list")
	for w := range table.each[0] {
		if m, _ := table.mean(w); m > most[w] {
			t.Errorf("jobs %d to %d: %.3f times the optimum, more than %.3f", windows[w], windows[w+1], m, most[w])
		}
	}
}

// regime returns, for each replica, the figures of jobs 0-50, 50-150 and 150-300 after a
// change from a to b that happens after 300 jobs, against b's optimum.
func regime(a, b yardstick.Dist, c float64, replicas int) [][]float64 {
	opt := yardstick.Solve(b, c)
	out := make([][]float64, replicas)
	for k := range out {
		r := rand.New(rand.NewPCG(uint64(k), 9))
		p := newPlayer(c, uint64(k))
		for range 300 {
			p.run(a.Draw(r), polled, r)
		}
		for _, n := range []int{50, 100, 150} {
			sum := 0.0
			for range n {
				x := b.Draw(r)
				sum += p.run(x, polled, r) - opt.Of(x, c)
			}
			out[k] = append(out[k], 1+sum/float64(n)/opt.Cost)
		}
	}
	return out
}

func TestFiguresChange(t *testing.T) {
	noRace(t)
	normal, sixty := yardstick.LogNormal("log-normal 3 min .3", 180, .3), yardstick.Uniform("constant 60 s", 60, 60.5)
	replicas := max(figures, 4)
	for _, g := range []struct {
		to   yardstick.Dist
		from yardstick.Dist
	}{
		{from: normal, to: yardstick.LogNormal("4 times as long", 720, .3)},
		{from: normal, to: yardstick.LogNormal("a fourth", 45, .3)},
		{from: sixty, to: yardstick.Uniform("15 s", 15, 15.5)},
		{from: sixty, to: yardstick.Uniform("30 s", 30, 30.5)},
		{from: sixty, to: yardstick.Uniform("55 s", 55, 55.5)},
		{from: sixty, to: yardstick.Uniform("240 s", 240, 240.5)},
	} {
		for _, c := range costs {
			table := &table{}
			table.add("", regime(g.from, g.to, c, replicas))
			row := ""
			for w := range 3 {
				m, se := table.mean(w)
				row += fmt.Sprintf(" %6.3f ±%.3f", m, se)
				if w == 1 && g.from.Name == normal.Name && m > 1.15+3*se {
					t.Errorf("%s -> %s, c=%v: jobs 50 to 150 after the change: %.3f times the new optimum", g.from.Name, g.to.Name, c, m)
				}
			}
			t.Logf("%-20s -> %-16s c=%-4v jobs 0-50, 50-150, 150-300: %s", g.from.Name, g.to.Name, c, row)
		}
	}
}

// timeOfDay is ratios for a table of states that is refreshed every period seconds of
// the time of day, jobs beginning at any of twelve times within a period. Without the starts
// the learner sees no more than ages.
func timeOfDay(d yardstick.Dist, period, late, c float64, e effort, starts bool) [][]float64 {
	const times = 12
	var ds [times]yardstick.Dist
	for i := range ds {
		ds[i] = yardstick.Ticks(fmt.Sprintf("%s, every %v s, %d", d.Name, period, i), period, period*(float64(i)+.3)/times, late, d)
	}
	out := make([][]float64, e.replicas)
	for k := range out {
		r := rand.New(rand.NewPCG(uint64(k), 7))
		p := newPlayer(c, uint64(k))
		for w := 0; w+1 < len(windows) && windows[w] < e.jobs; w++ {
			excess, best := 0.0, 0.0
			for range windows[w+1] - windows[w] {
				i := r.IntN(times)
				if starts {
					p.begun = 1e9 - math.Mod(1e9, period) + period*float64(r.IntN(1000)) + period*(float64(i)+.3)/times
				}
				opt := yardstick.Solve(ds[i], c)
				x := ds[i].Draw(r)
				excess += p.run(x, polled, r) - opt.Of(x, c)
				best += opt.Cost
			}
			out[k] = append(out[k], 1+excess/best)
		}
	}
	return out
}

// Where jobs end at full minutes of the time of day, polls come just behind them.
func TestFiguresTimeOfDay(t *testing.T) {
	noRace(t)
	e := effort{max(figures, 2), 200}
	if figures > 0 {
		e.jobs = 800
	}
	for _, starts := range []bool{false, true} {
		table := &table{}
		for _, c := range costs {
			for _, g := range []struct {
				d            yardstick.Dist
				period, late float64
			}{
				{yardstick.LogNormal("log-normal 3 min .3", 180, .3), 60, .5},
				{yardstick.LogNormal("log-normal 5 min .5", 300, .5), 60, 1},
				{yardstick.Weibull("exponential 10 min", 1, 600), 30, .2},
				{yardstick.LogNormal("log-normal 1 min .5", 60, .5), 10, .1},
			} {
				table.add(fmt.Sprintf("%s, every %v s, c=%v", g.d.Name, g.period, c), timeOfDay(g.d, g.period, g.late, c, e, starts))
			}
		}
		table.log(t, fmt.Sprintf("ends by the time of day, starts known: %v", starts))
		if m, _ := table.mean(2); starts && m > 1.3 {
			t.Errorf("jobs 50 to 200: %.3f times the optimum", m)
		}
	}
}

// What to expect of a single job with no history.
func TestFiguresColdStart(t *testing.T) {
	noRace(t)
	for _, x := range []float64{10, 60, 600, 3600} {
		const n = 300
		requests, delay := 0.0, 0.0
		for seed := range uint64(n) {
			p := newPlayer(1, seed)
			for at := p.next(0); ; at = p.next(at) {
				if requests++; at >= x {
					delay += at - x
					break
				}
			}
		}
		t.Logf("a job of %4.0f s, a request being worth 1 s: %5.1f requests, %5.1f s late", x, requests/n, delay/n)
	}
}

// The floor is what an ideal learner pays that does not know the distribution.
func TestFiguresFloor(t *testing.T) {
	if figures == 0 {
		t.Skip("only with VTCLIENT_FIGURES")
	}
	floor(yardstick.Own(), min(figures, 10)).log(t, "the floor, own list")
	floor(yardstick.HeldOut(), min(figures, 10)).log(t, "the floor, held-out list")
}
