package main

import "math"

// A scale maps values to positions, logarithmically. What lies below it is put
// on its lower edge: a delay of nothing has no place on such a scale.
type scale struct{ lo, hi, from, to float64 }

func (s scale) pos(v float64) float64 {
	return s.from + (s.to-s.from)*math.Log(max(v, s.lo)/s.lo)/math.Log(s.hi/s.lo)
}

// ticks are the round values on the scale: 1, 2, 5, 10, … or powers of ten.
func (s scale) ticks() (out []float64) {
	steps := []float64{1, 2, 5}
	if s.hi/s.lo > 2e4 {
		steps = steps[:1]
	}
	for e := math.Floor(math.Log10(s.lo)); e <= math.Log10(s.hi); e++ {
		for _, m := range steps {
			if v := m * math.Pow(10, e); v >= s.lo*0.999 && v <= s.hi*1.001 {
				out = append(out, v)
			}
		}
	}
	return out
}

// scales fits the axes to what is drawn.
func (c *chart) scales() (x, y scale) {
	low, high := point{math.Inf(1), math.Inf(1)}, point{}
	see := func(p point) {
		low.x, high.x, high.y = min(low.x, p.x), max(high.x, p.x), max(high.y, p.y)
		if p.y > 0 {
			low.y = min(low.y, p.y)
		}
	}
	for _, m := range c.marks {
		see(m.at)
	}
	for _, k := range c.curves {
		for _, p := range k.at {
			see(p)
		}
	}
	high.y = max(high.y, 1e-9)
	low.y = max(min(low.y, high.y/10), high.y/2000)
	return scale{low.x / 1.1, max(high.x, 2*low.x) * 1.15, plotLeft, plotRight},
		scale{low.y / 1.2, high.y * 1.25, plotBottom, plotTop}
}

// A box is where a piece of text is.
type box struct{ x0, y0, x1, y1 float64 }

func (a box) overlap(b box) float64 {
	w, h := min(a.x1, b.x1)-max(a.x0, b.x0), min(a.y1, b.y1)-max(a.y0, b.y0)
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h
}

func (a box) holds(p point) bool { return p.x >= a.x0 && p.x <= a.x1 && p.y >= a.y0 && p.y <= a.y1 }

// A layout places labels one after another, each where it hides least.
type layout struct {
	taken []box   // by labels and marks
	ink   []point // of curves
}

// along notes a curve, given by its positions, at steps of a few pixels.
func (l *layout) along(at []point) {
	for i := 1; i < len(at); i++ {
		a, b := at[i-1], at[i]
		n := int(math.Hypot(b.x-a.x, b.y-a.y)/4) + 1
		for k := range n + 1 {
			f := float64(k) / float64(n)
			l.ink = append(l.ink, point{a.x + f*(b.x-a.x), a.y + f*(b.y-a.y)})
		}
	}
}

// place finds room for a label of the given width near one of the points, and
// returns that point, too.
func (l *layout) place(near []point, width float64) (best box, at point) {
	const height = 15
	const angles = 16
	radii := []float64{8, 14, 22, 32, 46, 64, 90}
	least := math.Inf(1)
	for _, p := range near {
		for k := range angles * len(radii) {
			r := radii[k/angles]
			sin, cos := math.Sincos(2 * math.Pi * float64(k) / angles)
			mid := point{p.x + cos*(r+width/2), p.y - sin*(r+height/2)}
			b := box{mid.x - width/2, mid.y - height/2, mid.x + width/2, mid.y + height/2}
			bad := r
			if b.x0 < plotLeft+4 || b.x1 > plotRight-4 || b.y0 < plotTop+4 || b.y1 > plotBottom-4 {
				bad += 1e6
			}
			for _, o := range l.taken {
				if a := b.overlap(o); a > 0 {
					bad += 500 + 10*a
				}
			}
			for _, q := range l.ink {
				if b.holds(q) {
					bad += 12
				}
			}
			if bad < least {
				best, at, least = b, p, bad
			}
		}
	}
	l.taken = append(l.taken, box{best.x0 - 3, best.y0 - 1, best.x1 + 3, best.y1 + 1})
	return best, at
}

// textWidth is about how wide a text is, whatever the font.
func textWidth(s string, bold bool) float64 {
	w := 6.3
	if bold {
		w = 6.8
	}
	return w * float64(len([]rune(s)))
}
