package cadence

import (
	"math"
	"sort"
)

const (
	minLogAge = -6.907755 // ln of 1 ms; for ratios, of a thousandth of the estimate
	maxLogAge = 16.118096 // ln of 10⁷ s, 116 days

	maxCells  = 600
	maxCell   = 0.15
	minCell   = 2e-5
	massCells = 200 // cells shared out by mass
	rootCells = 150 // cells shared out by the square root of mass
	grading   = 0.3 // how fast the size of cells may change
)

// A grid has the bounds of cells in log age, from minLogAge to maxLogAge.
type grid []float64

func (g grid) cells() int { return len(g) - 1 }

func evenGrid() grid {
	g := make(grid, maxCells+1)
	for i := range g {
		g[i] = minLogAge + (maxLogAge-minLogAge)*float64(i)/maxCells
	}
	return g
}

// A place is a point of a grid: a cell, and the share of it that lies below.
type place struct {
	cell  int
	share float64
}

// locate returns the place of an age.
func (g grid) locate(age float64) place {
	n, x := g.cells(), math.Log(age)
	switch {
	case !(x > g[0]):
		return place{0, 0}
	case x >= g[n]:
		return place{n - 1, 1}
	}
	j := sort.Search(n, func(i int) bool { return g[i+1] > x })
	return place{j, (x - g[j]) / (g[j+1] - g[j])}
}

// refine returns a grid for the masses of g's cells: cells of equal mass, plus
// cells of equal square root of mass (by which polls are spaced), none larger than
// maxCell, neighbours of similar size.
func (g grid) refine(mass []float64) grid {
	n := g.cells()
	density := make([]float64, n) // cells per unit of log age
	roots := 0.0
	for j, p := range mass {
		roots += math.Sqrt(p * (g[j+1] - g[j]))
	}
	for j, p := range mass {
		f := p / (g[j+1] - g[j])
		density[j] = min(1/maxCell+massCells*f+rootCells*math.Sqrt(f)/roots, 1/minCell)
	}
	for j := 1; j < n; j++ {
		density[j] = max(density[j], 1/(1/density[j-1]+grading*(g[j+1]-g[j-1])/2))
	}
	for j := n - 2; j >= 0; j-- {
		density[j] = max(density[j], 1/(1/density[j+1]+grading*(g[j+2]-g[j])/2))
	}
	total := 0.0
	for j, d := range density {
		total += d * (g[j+1] - g[j])
	}
	size := int(min(total, maxCells))
	step := total / float64(size)
	x := append(make(grid, 0, size+1), g[0])
	sum := 0.0 // new cells below g[j], before they are stretched to step
	for j, d := range density {
		c := d * (g[j+1] - g[j])
		for len(x) < size && float64(len(x))*step <= sum+c {
			x = append(x, g[j]+(g[j+1]-g[j])*(float64(len(x))*step-sum)/c)
		}
		sum += c
	}
	return append(x, g[n])
}

// carryOver returns the masses of the cells of to, given those of g's.
func (g grid) carryOver(mass []float64, to grid) []float64 {
	r := make([]float64, to.cells())
	i := 0
	for j := range r {
		lo, hi := to[j], to[j+1]
		for i < len(mass)-1 && g[i+1] <= lo {
			i++
		}
		for k := i; k < len(mass) && g[k] < hi; k++ {
			a, b := max(lo, g[k]), min(hi, g[k+1])
			r[j] += mass[k] * max(0, b-a) / (g[k+1] - g[k])
		}
	}
	return r
}
