package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A chart shows strategies as points and families of them as curves: requests
// per job to the right, delay per job in seconds upward, both on a logarithmic
// scale. Towards the lower left is better.
type chart struct {
	title, subtitle, command string

	curves []curve
	marks  []mark
	cost   float64 // what a request is worth, in seconds
	best   float64 // the optimum's waiting cost
}

// A curve is a family of strategies, or one as its setting varies.
type curve struct {
	name, class string
	at          []point
}

// A mark is one strategy.
type mark struct {
	name, class string
	at          point
}

type point struct{ x, y float64 }

func (t tally) point() point { return point{t.requests / t.jobs, t.delay / t.jobs} }

// kindClass gives each kind of strategy its look; see chartStyle.
var kindClass = map[kind]string{fixed: "fixed", found: "found", learning: "adaptive", optimal: "optimum"}

// chart tries families of strategies and gathers what is to be drawn.
func (p *plan) chart(ctx context.Context, results []planned) (*chart, error) {
	c := &chart{
		title:    fmt.Sprintf("What waiting costs: %s from %s", count(len(p.durations), "job"), clean(p.source)),
		subtitle: fmt.Sprintf("Behind each name its waiting cost ÷ that of the optimum, a request being worth %v; dotted: equal cost", p.cost),
		command:  p.command,
		cost:     p.cost.Seconds(),
	}
	for _, r := range results {
		if r.kind == optimal {
			c.best = r.cost
		}
		if r.kind == learnt || r.kind == found && strings.HasPrefix(r.name, "optimum") {
			continue
		}
		name, _, _ := strings.Cut(r.name, ":")
		name, _, _ = strings.Cut(name, ",")
		if r.kind != optimal {
			name += fmt.Sprintf(" %.2f×", r.ratio)
		}
		c.marks = append(c.marks, mark{name, kindClass[r.kind], point{r.requests, r.delay}})
	}

	s := newSearch(p.durations, p.cost)
	family := func(name, class string, from, to float64, of func(time.Duration) backoff) {
		const points = 64
		k := curve{name: name, class: class}
		for i := range points {
			d := time.Duration(max(1, 1e9*from*math.Pow(to/from, float64(i)/(points-1))))
			k.at = append(k.at, of(d).try(s.sorted, s.sums).point())
		}
		c.curves = append(c.curves, k)
	}
	mean := p.mean()
	family("constant intervals", "constants", mean/250, mean, func(d time.Duration) backoff { return backoff{d, d, 1} })
	family("exponential ×2 up to 30 × the first interval", "exponentials", mean/7500, mean/10,
		func(d time.Duration) backoff { return backoff{d, 30 * d, 2} })

	known := curve{name: "optimum, a request worth 1/64 to 64 times as much", class: "optimum"}
	for i := -12; i <= 12; i++ {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		cost := time.Duration(max(1, float64(p.cost)*math.Pow(2, float64(i)/2)))
		known.at = append(known.at, tryPolls(p.reference(cost), p.durations).point())
	}
	var costs []time.Duration
	for _, f := range []float64{1. / 16, 1. / 4, 4, 16} { // 1 is among the results
		costs = append(costs, time.Duration(max(1, f*float64(p.cost))))
	}
	learnt := curve{name: "Adaptive, 1/16 to 16 times", class: "adaptive"}
	first, second := learnAll(ctx, costs, 1, p.durations)
	for i := range costs {
		first[i].merge(second[i])
		learnt.at = append(learnt.at, first[i].point())
		for _, m := range c.marks {
			if i == 1 && m.class == "adaptive" {
				learnt.at = append(learnt.at, m.at)
			}
		}
	}
	c.curves = append(c.curves, learnt, known)
	return c, ctx.Err()
}

const (
	chartWidth, chartHeight = 880, 600
	plotLeft, plotRight     = 76, chartWidth - 20
	plotTop, plotBottom     = 74, chartHeight - 56
)

const chartStyle = `
text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.back { fill: #ffffff }
.title { font-size: 17px; font-weight: 600 }
.quiet { fill: #59636e }
.tick { fill: #59636e; font-size: 11px }
.label { paint-order: stroke; stroke: #ffffff; stroke-width: 3px; stroke-linejoin: round }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.frame { fill: none; stroke: #8c959f; stroke-width: 1 }
.iso { fill: none; stroke: #8c959f; stroke-width: 1; stroke-dasharray: 1 4 }
.leader { stroke: #8c959f; stroke-width: 1 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.line.constants { stroke: #0969da }       text.constants { fill: #0550ae }
.line.exponentials { stroke: #bc4c00 }    text.exponentials { fill: #953800 }
.line.adaptive { stroke: #1a7f37; stroke-width: 3 }  text.adaptive { fill: #116329; font-weight: 600 }
.line.optimum { stroke: #1f2328 }         text.optimum { font-weight: 600 }
.dot { stroke: #ffffff; stroke-width: 1.5 }
.dot.fixed { fill: #8250df }
.dot.found { fill: #0969da }
.dot.adaptive { fill: #1a7f37 }
.dot.optimum { fill: #1f2328 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.back { fill: #0d1117 }
.quiet, .tick { fill: #9198a1 }
.label { stroke: #0d1117 }
.grid { stroke: #262c34 }
.frame, .iso, .leader { stroke: #656c76 }
.line.constants { stroke: #4493f8 }       text.constants { fill: #79c0ff }
.line.exponentials { stroke: #db6d28 }    text.exponentials { fill: #ffa657 }
.line.adaptive { stroke: #3fb950 }        text.adaptive { fill: #56d364 }
.line.optimum { stroke: #e6edf3 }
.dot { stroke: #0d1117 }
.dot.fixed { fill: #ab7df8 }
.dot.found { fill: #4493f8 }
.dot.adaptive { fill: #3fb950 }
.dot.optimum { fill: #e6edf3 }
}
`

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
// says near which.
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

// textWidth is about how wide a text is, in a font that is not known.
func textWidth(s string, bold bool) float64 {
	w := 6.3
	if bold {
		w = 6.8
	}
	return w * float64(len([]rune(s)))
}

var escapeXML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// svg draws the chart. It depends on nothing but c.
func (c *chart) svg() []byte {
	var b strings.Builder
	put := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	x, y := c.scales()
	at := func(p point) point { return point{x.pos(p.x), y.pos(p.y)} }

	put(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-labelledby="t d">`, chartWidth, chartHeight)
	put("<!-- made by: %s -->", strings.ReplaceAll(escapeXML.Replace(clean(c.command)), "--", "- -"))
	put(`<title id="t">%s</title>`, escapeXML.Replace(c.title))
	put(`<desc id="d">Requests per job against delay per job, both logarithmic. %s.</desc>`, escapeXML.Replace(c.describe()))
	put("<style>%s</style>", chartStyle)
	put(`<rect class="back" width="%d" height="%d"/>`, chartWidth, chartHeight)
	put(`<text class="title" x="%d" y="30">%s</text>`, plotLeft, escapeXML.Replace(c.title))
	put(`<text class="quiet" x="%d" y="52">%s</text>`, plotLeft, escapeXML.Replace(c.subtitle))

	for _, v := range x.ticks() {
		put(`<line class="grid" x1="%.1f" y1="%d" x2="%.1[1]f" y2="%[3]d"/>`, x.pos(v), plotTop, plotBottom)
		put(`<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>`, x.pos(v), plotBottom+18, round(v))
	}
	for _, v := range y.ticks() {
		put(`<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1[2]f"/>`, plotLeft, y.pos(v), plotRight)
		put(`<text class="tick" x="%d" y="%.1f" text-anchor="end">%s s</text>`, plotLeft-8, y.pos(v)+4, round(v))
	}
	put(`<text class="quiet" x="%d" y="%d" text-anchor="middle">requests per job (logarithmic)</text>`, (plotLeft+plotRight)/2, chartHeight-14)
	put(`<text class="quiet" transform="translate(20 %d) rotate(-90)" text-anchor="middle">delay per job: from its end until we know (logarithmic)</text>`, (plotTop+plotBottom)/2)

	var l layout
	for i := 1.0; i <= 16; i *= 2 {
		var run []point
		const n = 160
		for k := range n + 1 {
			v := x.lo * math.Pow(x.hi/x.lo, float64(k)/n)
			if d := i*c.best - v*c.cost; d > y.lo && d < y.hi {
				run = append(run, at(point{v, d}))
			}
		}
		if len(run) > 1 {
			put(`<path class="iso" d="%s"/>`, path(run))
			end := run[0]
			if end.y > plotTop+16 {
				put(`<text class="tick" x="%.1f" y="%.1f">%g×</text>`, end.x+4, end.y-4, i)
				l.taken = append(l.taken, box{end.x, end.y - 16, end.x + 28, end.y})
			}
		}
	}
	put(`<rect class="frame" x="%d" y="%d" width="%d" height="%d"/>`, plotLeft, plotTop, plotRight-plotLeft, plotBottom-plotTop)

	var lines [][]point
	for _, k := range c.curves {
		var run []point
		for _, p := range k.at {
			run = append(run, at(p))
		}
		lines = append(lines, run)
		l.along(run)
		put(`<path class="line %s" d="%s"/>`, k.class, path(run))
	}
	marks := c.merged(at)
	for _, m := range marks {
		p := at(m.at)
		l.taken = append(l.taken, box{p.x - 7, p.y - 7, p.x + 7, p.y + 7})
	}
	var labels strings.Builder
	label := func(name, class string, leader bool, near ...point) {
		r, p := l.place(near, textWidth(name, class == "adaptive" || class == "optimum"))
		if q := (point{min(max(p.x, r.x0), r.x1), min(max(p.y, r.y0), r.y1)}); leader && math.Hypot(p.x-q.x, p.y-q.y) > 16 {
			put(`<line class="leader" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, p.x, p.y, q.x, q.y)
		}
		anchor, tx := "middle", (r.x0+r.x1)/2
		switch { // so that a font of another width moves the far end only
		case r.x0 > p.x:
			anchor, tx = "start", r.x0
		case r.x1 < p.x:
			anchor, tx = "end", r.x1
		}
		fmt.Fprintf(&labels, `<text class="label %s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", class, tx, r.y1-3.5, anchor, escapeXML.Replace(name))
	}
	for _, m := range marks {
		label(m.name, m.class, true, at(m.at))
	}
	for i, k := range c.curves {
		label(k.name, k.class, false, thin(lines[i])...)
	}
	for _, m := range slices.Backward(marks) { // the optimum under what comes close to it
		p := at(m.at)
		put(`<circle class="dot %s" cx="%.1f" cy="%.1f" r="5.5"/>`, m.class, p.x, p.y)
	}
	b.WriteString(labels.String())
	put("</svg>")
	return []byte(b.String())
}

// thin picks some points of a curve, evenly by number, from where the curves lie
// apart: to the right, where all ask often, they come together.
func thin(run []point) (out []point) {
	for k := 4; k < 12; k++ {
		out = append(out, run[k*(len(run)-1)/11])
	}
	return out
}

// merged joins marks that lie on each other under one name.
func (c *chart) merged(at func(point) point) (out []mark) {
next:
	for _, m := range c.marks {
		p := at(m.at)
		for i := range out {
			if q := at(out[i].at); out[i].class == m.class && math.Hypot(p.x-q.x, p.y-q.y) < 6 {
				out[i].name += ", " + m.name
				continue next
			}
		}
		out = append(out, m)
	}
	return out
}

// describe says in words what the marks are, for who cannot see them.
func (c *chart) describe() string {
	var parts []string
	for _, m := range c.marks {
		parts = append(parts, fmt.Sprintf("%s: %.2f requests, %s", m.name, m.at.x, inSeconds(m.at.y)))
	}
	return strings.Join(parts, "; ")
}

func path(run []point) string {
	var b strings.Builder
	for i, p := range run {
		b.WriteByte("ML"[min(i, 1)])
		fmt.Fprintf(&b, "%.1f %.1f", p.x, p.y)
	}
	return b.String()
}

func round(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
