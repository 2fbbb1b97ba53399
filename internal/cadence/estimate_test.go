package cadence

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Smoothing is the convolution of point masses in the middle of the cells with a
// two-sided exponential kernel.
func TestSmoothIsAConvolution(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, width := range []float64{0.01, 0.3, 5} {
		n := 40
		x, mass := randomCells(r, n, -3, 4, 1)
		decay, out, want := make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range n {
			decay[i] = math.Exp((x[i] - x[i+1]) / (2 * width))
			out[i], want[i] = 0.25, 0.25
		}
		kernel := func(d float64) float64 { // its integral
			if d < 0 {
				return math.Exp(d/width) / 2
			}
			return 1 - math.Exp(-d/width)/2
		}
		for i := range n {
			for j := range n {
				mid := (x[j] + x[j+1]) / 2
				want[i] += mass[j] * (kernel(x[i+1]-mid) - kernel(x[i]-mid))
			}
		}
		smooth(decay, mass, out)
		for i := range n {
			near(t, fmt.Sprintf("width %v, cell %d", width, i), out[i], want[i], 1e-8)
		}
	}
}

// The weight of a span is spread over it in proportion to the estimate.
func TestSpreadIsInProportionToTheEstimate(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for range 40 {
		n := 3 + r.IntN(30)
		x, mass := randomCells(r, n, minLogAge, maxLogAge, 1)
		g, c := grid(x), &pool{mass: mass}
		c.normalize()
		want, total := make([]float64, n), 0.0
		var spans []span
		for range 1 + r.IntN(20) {
			lo, hi, w := math.Exp(minLogAge+20*r.Float64()), math.Exp(minLogAge+25*r.Float64()), r.Float64()
			lo, hi = min(lo, hi), max(lo, hi)
			switch r.IntN(6) {
			case 0:
				lo = 0
			case 1:
				hi = math.Inf(1)
			}
			spans = append(spans, span{locate(g.ages(), lo), locate(g.ages(), hi), w})
			part, sum := make([]float64, n), 0.0
			for j := range part {
				part[j] = mass[j] * (shareBelow(g, j, hi) - shareBelow(g, j, lo))
				sum += part[j]
			}
			if sum < tiny {
				continue
			}
			total += w
			for j := range part {
				want[j] += w * part[j] / sum
			}
		}
		data, sum := c.spread(spans)
		near(t, "the total", sum, total, 1e-9)
		for j := range want {
			near(t, fmt.Sprintf("cell %d of %d", j, n), data[j], want[j], 1e-6)
		}
	}
}

// shareBelow returns how much of a cell lies below an age.
func shareBelow(g grid, j int, age float64) float64 {
	t := g.ages()
	return min(1, max(0, (age-t[j])/(t[j+1]-t[j])))
}

// An estimate is, for each pool, two rounds of this: the mass of the samples, spread
// over their intervals as the estimate has it, smoothed with each width, with a
// share of the prior, and of these the mean, weighted as the widths are trusted.
func TestEstimateIsTheMeanOfTheWidths(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for _, kind := range []Kind{Plain, Ratio} {
		m := NewModel(kind)
		for i := range 24 {
			d := 100 * math.Exp(r.NormFloat64())
			if i > 20 {
				d *= 60
			}
			m.Learn(sampleOf(d*0.9, d, []float64{1, 1, doubtful}[i%3]))
		}
		if m.since == 0 || m.since == len(m.samples) {
			t.Fatalf("%d of %d samples are since the change: choose others", m.since, len(m.samples))
		}
		oldGrid, old := m.grid, m.pools
		for k := range old {
			old[k].mass = slices.Clone(old[k].mass)
		}
		m.estimate()

		n, prior := m.grid.cells(), m.prior.masses(m.grid)
		for k := range m.pools {
			mass := oldGrid.carryOver(old[k].mass, m.grid)
			first := 0
			if k == 1 {
				first = len(m.samples) - m.since
			}
			var widthMass [numWidths][]float64
			for range 2 {
				points, total := make([]float64, n), 0.0
				for i := first; i < len(m.samples); i++ {
					s := m.samples[i]
					weight := s.Weight * math.Exp(-float64(len(m.samples)-1-i)/400)
					part, sum := make([]float64, n), 0.0
					for j := range part {
						part[j] = mass[j] * (shareBelow(m.grid, j, s.Hi) - shareBelow(m.grid, j, s.Lo))
						sum += part[j]
					}
					if sum < tiny {
						continue
					}
					total += weight
					for j := range part {
						points[j] += weight * part[j] / sum
					}
				}
				clear(mass)
				for l := range numWidths {
					width := 0.8 / math.Pow(3, float64(l))
					count := 0.2 * min(1, math.Sqrt(width/0.35))
					one := make([]float64, n)
					integral := func(d float64) float64 { // of the kernel, from below to d
						if d < 0 {
							return math.Exp(d/width) / 2
						}
						return 1 - math.Exp(-d/width)/2
					}
					for j := range n {
						one[j] = count * prior[j]
					}
					for i, p := range points {
						if p < 1e-12 {
							continue
						}
						mid := (m.grid[i] + m.grid[i+1]) / 2
						for j := range n {
							if a, b := m.grid[j]-mid, m.grid[j+1]-mid; b > -30*width && a < 30*width {
								one[j] += p * (integral(b) - integral(a))
							}
						}
					}
					for j := range one {
						one[j] /= total + count
						mass[j] += old[k].mix[l] * one[j]
					}
					widthMass[l] = one
				}
				sum := 0.0
				for _, v := range mass {
					sum += v
				}
				for j := range mass {
					mass[j] /= sum
				}
			}
			for j := range n {
				near(t, fmt.Sprintf("pool %d, cell %d of %d", k, j, n), m.pools[k].mass[j], mass[j], 1e-7)
			}
			for l, one := range widthMass {
				sum := 0.0
				for j, v := range one {
					near(t, fmt.Sprintf("pool %d, width %d, below cell %d", k, l, j), float64(m.pools[k].cdf[l][j]), sum, 1e-6)
					sum += v
				}
				near(t, "all of a width", float64(m.pools[k].cdf[l][n]), sum, 1e-6)
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}
