package cadence

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

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

// The floor is what an ideal learner pays that does not know the distribution.
func TestFiguresFloor(t *testing.T) {
	if figures == 0 {
		t.Skip("only with VTCLIENT_FIGURES")
	}
	floor(yardstick.Own(), min(figures, 10)).log(t, "the floor, own list")
	floor(yardstick.HeldOut(), min(figures, 10)).log(t, "the floor, held-out list")
}
