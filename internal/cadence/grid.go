package cadence

import "math"

const (
	minLogAge = -6.907755 // ln of 1 ms; for ratios, of a thousandth of the estimate
	maxLogAge = 16.118096 // ln of 10⁷ s, 116 days

	maxCells  = 400
	maxCell   = 0.2
	minCell   = 2e-5
	massCells = 100 // cells shared out by mass
	rootCells = 175 // cells shared out by the square root of mass
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

// ages returns the bounds as ages.
func (g grid) ages() []float64 {
	t := make([]float64, len(g))
	for j, x := range g {
		t[j] = math.Exp(x)
	}
	return t
}

// A place is a point of a grid: a cell, and the share of it that lies below.
type place struct {
	cell  int
	share float64
}

// locate returns the place of an age in a grid with the bounds ages.
func locate(ages []float64, age float64) place {
	n := len(ages) - 1
	switch {
	case !(age > ages[0]):
		return place{0, 0}
	case age >= ages[n]:
		return place{n - 1, 1}
	}
	j := last(ages, age)
	return place{j, (age - ages[j]) / (ages[j+1] - ages[j])}
}

// last returns the last i with list[i] <= x, at least 0. The list rises.
func last(list []float64, x float64) (i int) {
	for n := len(list); n > 1; {
		half := n / 2
		if list[i+half] <= x {
			i += half
		}
		n -= half
	}
	return i
}

// refine returns a grid for the masses of g's cells: cells of equal mass, plus
// cells of equal square root of mass (by which polls are spaced), none larger than
// maxCell.
func (g grid) refine(mass func(cell int) float64) grid {
	parts := make([]float64, g.cells()) // of each cell: how many new ones it becomes
	roots, total := 0.0, 0.0
	for j := range parts {
		parts[j] = math.Sqrt(mass(j) * (g[j+1] - g[j]))
		roots += parts[j]
	}
	for j, root := range parts {
		width := g[j+1] - g[j]
		parts[j] = min(width/maxCell+massCells*mass(j)+rootCells*root/roots, width/minCell)
		total += parts[j]
	}
	size := int(min(total, maxCells))
	x := append(make(grid, 0, size+1), g[0])
	sum := 0.0
	for j, n := range parts {
		for next := total / float64(size) * float64(len(x)); len(x) < size && next <= sum+n; next = total / float64(size) * float64(len(x)) {
			x = append(x, g[j]+(g[j+1]-g[j])*(next-sum)/n)
		}
		sum += n
	}
	return append(x, g[g.cells()])
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
