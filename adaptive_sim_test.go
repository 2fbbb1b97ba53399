package vtclient_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
)

// A dist is a distribution of durations in seconds.
type dist struct {
	name string
	cdf  func(x float64) float64
	draw func(r *rand.Rand) float64
}

func phi(z float64) float64 { return .5 * math.Erfc(-z/math.Sqrt2) }

func lognormal(name string, median, sigma float64) dist {
	return dist{name,
		func(x float64) float64 { return phi(math.Log(x/median) / sigma) },
		func(r *rand.Rand) float64 { return median * math.Exp(sigma*r.NormFloat64()) }}
}

func uniform(name string, a, b float64) dist {
	return dist{name,
		func(x float64) float64 { return min(1, max(0, (x-a)/(b-a))) },
		func(r *rand.Rand) float64 { return a + (b-a)*r.Float64() }}
}

func weibull(name string, k, scale float64) dist {
	return dist{name,
		func(x float64) float64 { return -math.Expm1(-math.Pow(x/scale, k)) },
		func(r *rand.Rand) float64 { return scale * math.Pow(r.ExpFloat64(), 1/k) }}
}

func pareto(name string, alpha, from float64) dist {
	return dist{name,
		func(x float64) float64 { return 1 - math.Pow(max(1, x/from), -alpha) },
		func(r *rand.Rand) float64 { return from * math.Exp(r.ExpFloat64()/alpha) }}
}

func mix(name string, w []float64, ds ...dist) dist {
	return dist{name,
		func(x float64) (s float64) {
			for i, d := range ds {
				s += w[i] * d.cdf(x)
			}
			return s
		},
		func(r *rand.Rand) float64 {
			u := r.Float64()
			for i, d := range ds {
				if u -= w[i]; u < 0 || i == len(ds)-1 {
					return d.draw(r)
				}
			}
			panic("unreachable")
		}}
}

// The list.
func listed() []dist {
	return []dist{
		uniform("uniform 5-30 s", 5, 30),
		uniform("constant 60 s", 60, 60.5),
		lognormal("lognormal 3 min .3", 180, .3),
		lognormal("lognormal 3 min 1", 180, 1),
		weibull("exponential 10 min", 1, 600),
		mix("bimodal 30 s, 20 min", []float64{.6, .4}, lognormal("", 30, .2), lognormal("", 1200, .2)),
		pareto("Pareto 1.5 from 20 s", 1.5, 20),
		weibull("Weibull 3, 5 min", 3, 300),
	}
}

// Held out: nothing was chosen by looking at these.
func heldOut() []dist {
	discrete := make([]dist, 12)
	dw := make([]float64, 12)
	for i := range discrete {
		a := 20 + 5*float64(i)
		discrete[i] = uniform("", a, a+.1)
		dw[i] = math.Pow(.8, float64(i)) * .2 / (1 - math.Pow(.8, 12))
	}
	return []dist{
		{"gamma 4, mean 2 min",
			func(x float64) float64 { y := x / 30; return 1 - math.Exp(-y)*(1+y+y*y/2+y*y*y/6) },
			func(r *rand.Rand) float64 {
				return 30 * (r.ExpFloat64() + r.ExpFloat64() + r.ExpFloat64() + r.ExpFloat64())
			}},
		{"triangular 1-9 min",
			func(x float64) float64 {
				y := min(1, max(0, (x-60)/480))
				if y < .5 {
					return 2 * y * y
				}
				return 1 - 2*(1-y)*(1-y)
			},
			func(r *rand.Rand) float64 { return 60 + 240*(r.Float64()+r.Float64()) }},
		mix("three modes", []float64{.3, .5, .2}, lognormal("", 12, .15), lognormal("", 90, .1), lognormal("", 900, .3)),
		mix("multiples of 5 s", dw, discrete...),
		{"log-logistic 3 min, 3",
			func(x float64) float64 { return 1 / (1 + math.Pow(x/180, -3)) },
			func(r *rand.Rand) float64 { u := r.Float64(); return 180 * math.Pow(u/(1-u), 1./3) }},
		mix("uniform 1-5 min + atom", []float64{.5, .5}, uniform("", 60, 300), uniform("", 120, 120.3)),
		lognormal("lognormal 2 s .5", 2, .5),
		lognormal("lognormal 3 h .5", 10800, .5),
	}
}

func (d dist) quantile(p float64) float64 {
	lo, hi := 1e-6, 1e9
	for range 90 {
		m := math.Sqrt(lo * hi)
		if d.cdf(m) < p {
			lo = m
		} else {
			hi = m
		}
	}
	return hi
}

// An optimum is the best schedule for a known distribution, found by plain
// dynamic programming over all pairs of a fine grid: no envelope, no
// estimate, nothing shared with the code under test.
type optimum struct {
	t, next []float64
	cost    float64
}

func solve(d dist, c float64) optimum {
	const n = 1500
	var t []float64
	for i := 0; i <= n; i++ {
		t = append(t, d.quantile(min(max(float64(i)/n, 1e-9), 1-1e-8)))
	}
	lo, hi := t[0], t[n]
	for i := 0; i <= n; i++ {
		t = append(t, lo*math.Pow(hi/lo, float64(i)/n))
	}
	t = append(t, 0)
	slices.Sort(t)
	t = slices.Compact(t)
	m := len(t)
	f, g := make([]float64, m), make([]float64, m) // F and ∫F
	for i := 1; i < m; i++ {
		f[i] = d.cdf(t[i])
		g[i] = g[i-1] + (t[i]-t[i-1])*(f[i]+f[i-1])/2
	}
	f[m-1] = 1
	w, next := make([]float64, m), make([]float64, m)
	next[m-1] = math.Inf(1)
	for i := m - 2; i >= 0; i-- {
		best, at := math.Inf(1), 0
		for j := i + 1; j < m; j++ {
			v := g[j] - g[i] - f[i]*(t[j]-t[i])
			if v > best { // the delay alone is already worse, and grows
				break
			}
			if v += w[j]; v < best {
				best, at = v, j
			}
		}
		w[i], next[i] = c*(1-f[i])+best, t[at]
	}
	return optimum{t, next, w[0]}
}

// of returns what the optimal schedule costs for one duration.
func (o optimum) of(x, c float64) float64 {
	cost, at := 0., 0.
	for {
		i, _ := slices.BinarySearch(o.t, at)
		at = o.next[min(i, len(o.next)-1)]
		if math.IsInf(at, 1) {
			return cost + c
		}
		cost += c
		if at >= x {
			return cost + at - x
		}
	}
}

// teach says what the learner is told of a job.
type teach int

const (
	polled  teach = iota // what the polls saw
	hinted               // a hint told the end
	givenUp              // a third of the waits are given up at a random age
)

// run follows one job from its start with no first check and returns its cost.
func run(b vtclient.Learner, x, c float64, how teach, r *rand.Rand) float64 {
	sec := func(s float64) time.Duration { return time.Duration(s * 1e9) }
	quit := math.Inf(1)
	if how == givenUp && r.IntN(3) == 0 {
		quit = x * 2 * r.Float64()
	}
	var at vtclient.Attempt
	cost := 0.
	told := false
	for {
		d, _ := b.Next(at)
		if d <= 0 {
			panic("no delay")
		}
		at.Elapsed += d
		if now := at.Elapsed.Seconds(); now > quit && !told {
			told = true // the cost is still that of the whole wait
			b.Learn(vtclient.Completion{PendingAt: at.PendingAt})
		}
		at.Number++
		cost += c
		if at.Elapsed.Seconds() >= x {
			break
		}
		at.PendingAt = at.Elapsed
	}
	cost += at.Elapsed.Seconds() - x
	switch {
	case told:
	case how == hinted:
		b.Learn(vtclient.Completion{PendingAt: at.PendingAt, DoneBy: sec(x), Hinted: true})
	default:
		b.Learn(vtclient.Completion{PendingAt: at.PendingAt, DoneBy: at.Elapsed})
	}
	return cost
}

// windows are the spans of jobs.
var windows = []int{0, 10, 50, 200, 2000}

// ratios returns, for each window up to jobs, the mean cost over the mean cost
// of the optimum. It counts the difference to the optimal schedule on the very
// same durations, which takes most of the noise out.
func ratios(d dist, c float64, jobs, replicas int, how teach) []float64 {
	opt := solve(d, c)
	var diff [8]float64
	var n [8]float64
	for k := range replicas {
		r := rand.New(rand.NewPCG(uint64(k), 7))
		a := vtclient.NewAdaptive(time.Duration(c * 1e9))
		w := 0
		for i := range jobs {
			if i == windows[w+1] {
				w++
			}
			x := d.draw(r)
			diff[w] += run(a, x, c, how, r) - opt.of(x, c)
			n[w]++
		}
	}
	var out []float64
	for w := 0; w+1 < len(windows) && n[w] > 0; w++ {
		out = append(out, 1+diff[w]/n[w]/opt.cost)
	}
	return out
}

func env(name string, def int) int {
	if v, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return v
	}
	return def
}

func TestAdaptiveFigures(t *testing.T) {
	jobs, reps := env("SIM_JOBS", 200), env("SIM_REPS", 10)
	ds := listed()
	if os.Getenv("SIM_HELD") != "" {
		ds = heldOut()
	}
	sum := make([]float64, 8)
	cnt := 0
	for _, d := range ds {
		if f := os.Getenv("SIM_ONLY"); f != "" && !strings.Contains(d.name, f) {
			continue
		}
		for _, c := range []float64{.5, 5} {
			rs := ratios(d, c, jobs, reps, teach(env("SIM_TEACH", 0)))
			s := ""
			for i, v := range rs {
				s += fmt.Sprintf(" %6.3f", v)
				sum[i] += v
			}
			cnt++
			t.Logf("%-24s c=%-4v%s", d.name, c, s)
		}
	}
	s := ""
	for _, v := range sum[:4] {
		s += fmt.Sprintf(" %6.3f", v/float64(cnt))
	}
	t.Logf("%-31s%s", "mean", s)
}

func TestAdaptiveRegimes(t *testing.T) {
	reps := env("SIM_REPS", 10)
	for _, g := range []struct{ a, b dist }{
		{lognormal("ln 3 min", 180, .3), lognormal("x4", 720, .3)},
		{lognormal("ln 3 min", 180, .3), lognormal("/4", 45, .3)},
		{uniform("const 60", 60, 60.5), uniform("const 15", 15, 15.5)},
		{uniform("const 60", 60, 60.5), uniform("const 55", 55, 55.5)},
		{uniform("const 60", 60, 60.5), uniform("const 240", 240, 240.5)},
	} {
		for _, c := range []float64{.5, 5} {
			opt := solve(g.b, c)
			var sum, n [4]float64
			for k := range reps {
				r := rand.New(rand.NewPCG(uint64(k), 9))
				a := vtclient.NewAdaptive(time.Duration(c * 1e9))
				for range 300 {
					run(a, g.a.draw(r), c, polled, r)
				}
				for i := range 300 {
					x := g.b.draw(r)
					w := 0
					if i >= 50 {
						w = 1
					}
					if i >= 150 {
						w = 2
					}
					sum[w] += run(a, x, c, polled, r) - opt.of(x, c)
					n[w]++
				}
			}
			t.Logf("%s -> %-10s c=%-4v %7.3f %7.3f %7.3f", g.a.name, g.b.name, c, 1+sum[0]/n[0]/opt.cost, 1+sum[1]/n[1]/opt.cost, 1+sum[2]/n[2]/opt.cost)
		}
	}
}
