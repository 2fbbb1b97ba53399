package cadence

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// What is carried over from one grid to another is the mass that lies there.
func TestCarryOverKeepsMassWhereItIs(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 50 {
		old, mass := randomCells(r, 1+r.IntN(40), 0, 10, 1)
		x, _ := randomCells(r, 1+r.IntN(40), 0, 10, 1)
		got := grid(old).carryOver(mass, x)
		for j := range got {
			want := 0.0
			for i, m := range mass {
				want += m * max(0, min(x[j+1], old[i+1])-max(x[j], old[i])) / (old[i+1] - old[i])
			}
			near(t, "a cell", got[j], want, 1e-12)
		}
	}
}

// An age lies in the cell that contains it, and in what share of it.
func TestLocate(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	ages, _ := randomCells(r, 50, 1e-3, 1e7, 1)
	for range 500 {
		x := -1 + 1.1e7*r.Float64()
		got := locate(ages, x)
		want := place{0, 0}
		for j := range 50 {
			if ages[j] <= x {
				want = place{j, min(1, (x-ages[j])/(ages[j+1]-ages[j]))}
			}
		}
		if got.cell != want.cell {
			t.Fatalf("%v is in cell %d, want %d", x, got.cell, want.cell)
		}
		near(t, "share", got.share, want.share, 1e-9)
	}
	for _, tt := range []struct {
		age  float64
		want place
	}{{0, place{0, 0}}, {-1, place{0, 0}}, {math.Inf(1), place{49, 1}}, {1e-3, place{0, 0}}, {1e300, place{49, 1}}} {
		if got := locate(ages, tt.age); got != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.age, got, tt.want)
		}
	}
}

// The grid is as its comment describes it, whatever was learnt.
func TestGridIsAsPromised(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for _, sigma := range []float64{0, 0.01, 0.5, 2} {
		m := NewModel(Plain)
		for range 120 {
			d := 180 * math.Exp(sigma*r.NormFloat64())
			m.Learn(Sample{Lo: d * 0.97, Hi: d, Weight: 1})
			n := m.grid.cells()
			if n > maxCells || m.grid[0] != minLogAge || m.grid[n] != maxLogAge {
				t.Fatalf("σ %v: %d cells from %v to %v", sigma, n, m.grid[0], m.grid[n])
			}
			for j := range n {
				d := m.grid[j+1] - m.grid[j]
				if !(d > 0) || len(m.samples) > 0 && d > maxCell*3 {
					t.Fatalf("σ %v: cell %d of %d is %v wide", sigma, j, n, d)
				}
			}
		}
		for k := range m.pools {
			sum := 0.0
			for _, v := range m.pools[k].mass {
				sum += v
			}
			near(t, "the mass", sum, 1, 1e-9)
			for l, cdf := range m.pools[k].cdf {
				if !slices.IsSorted(cdf) || cdf[0] != 0 {
					t.Errorf("width %d: not a distribution", l)
				}
			}
		}
	}
}
