package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

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

var escapeXML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

// A drawing is a chart on its way to SVG.
type drawing struct {
	strings.Builder
	chart  *chart
	x, y   scale
	layout layout
	labels strings.Builder // drawn last, over all else
}

func (d *drawing) put(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

func (d *drawing) at(p point) point { return point{d.x.pos(p.x), d.y.pos(p.y)} }

// svg draws the chart. It depends on nothing but c.
func (c *chart) svg() []byte {
	d := &drawing{chart: c}
	d.x, d.y = c.scales()
	d.frame()
	d.equalCosts()
	d.put(`<rect class="frame" x="%d" y="%d" width="%d" height="%d"/>`, plotLeft, plotTop, plotRight-plotLeft, plotBottom-plotTop)
	var lines [][]point
	for _, k := range c.curves {
		var run []point
		for _, p := range k.at {
			run = append(run, d.at(p))
		}
		lines = append(lines, run)
		d.layout.along(run)
		d.put(`<path class="line %s" d="%s"/>`, k.class, path(run))
	}
	marks := c.merged(d.at)
	for _, m := range marks {
		p := d.at(m.at)
		d.layout.taken = append(d.layout.taken, box{p.x - 7, p.y - 7, p.x + 7, p.y + 7})
	}
	for _, m := range marks {
		d.label(m.name, m.class, true, d.at(m.at))
	}
	for i, k := range c.curves {
		d.label(k.name, k.class, false, thin(lines[i])...)
	}
	for _, m := range slices.Backward(marks) { // the optimum under what comes close to it
		p := d.at(m.at)
		d.put(`<circle class="dot %s" cx="%.1f" cy="%.1f" r="5.5"/>`, m.class, p.x, p.y)
	}
	d.WriteString(d.labels.String())
	d.put("</svg>")
	return []byte(d.String())
}

// frame draws the titles and the axes.
func (d *drawing) frame() {
	c := d.chart
	d.put(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-labelledby="t d">`, chartWidth, chartHeight)
	d.put("<!-- made by: %s -->", strings.ReplaceAll(escapeXML.Replace(clean(c.command)), "--", "- -"))
	d.put(`<title id="t">%s</title>`, escapeXML.Replace(c.title))
	d.put(`<desc id="d">Requests per job against lateness per job, both in factors. %s.</desc>`, escapeXML.Replace(c.describe()))
	d.put("<style>%s</style>", chartStyle)
	d.put(`<rect class="back" width="%d" height="%d"/>`, chartWidth, chartHeight)
	d.put(`<text class="title" x="%d" y="30">%s</text>`, plotLeft, escapeXML.Replace(c.title))
	d.put(`<text class="quiet" x="%d" y="52">%s</text>`, plotLeft, escapeXML.Replace(c.subtitle))
	for _, v := range d.x.ticks() {
		d.put(`<line class="grid" x1="%.1f" y1="%d" x2="%.1[1]f" y2="%[3]d"/>`, d.x.pos(v), plotTop, plotBottom)
		d.put(`<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>`, d.x.pos(v), plotBottom+18, round(v))
	}
	for _, v := range d.y.ticks() {
		d.put(`<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1[2]f"/>`, plotLeft, d.y.pos(v), plotRight)
		d.put(`<text class="tick" x="%d" y="%.1f" text-anchor="end">%s s</text>`, plotLeft-8, d.y.pos(v)+4, round(v))
	}
	d.put(`<text class="quiet" x="%d" y="%d" text-anchor="middle">requests per job</text>`, (plotLeft+plotRight)/2, chartHeight-14)
	d.put(`<text class="quiet" transform="translate(20 %d) rotate(-90)" text-anchor="middle">late by, per job: from its end to the request that finds it over</text>`, (plotTop+plotBottom)/2)
}

// equalCosts draws lines on which the cost is the same multiple of the least.
func (d *drawing) equalCosts() {
	c := d.chart
	for i := 1.0; i <= 16; i *= 2 {
		var run []point
		const n = 160
		for k := range n + 1 {
			v := d.x.lo * math.Pow(d.x.hi/d.x.lo, float64(k)/n)
			if delay := i*c.best - v*c.cost; delay > d.y.lo && delay < d.y.hi {
				run = append(run, d.at(point{v, delay}))
			}
		}
		if len(run) < 2 {
			continue
		}
		d.put(`<path class="iso" d="%s"/>`, path(run))
		if end := run[0]; end.y > plotTop+16 {
			d.put(`<text class="tick" x="%.1f" y="%.1f">%g×</text>`, end.x+4, end.y-4, i)
			d.layout.taken = append(d.layout.taken, box{end.x, end.y - 16, end.x + 28, end.y})
		}
	}
}

// label places a name near one of the points, with a line to it where it is far away and
// a leader is asked for.
func (d *drawing) label(name, class string, leader bool, near ...point) {
	r, p := d.layout.place(near, textWidth(name, class == "adaptive" || class == "optimum"))
	if q := (point{min(max(p.x, r.x0), r.x1), min(max(p.y, r.y0), r.y1)}); leader && math.Hypot(p.x-q.x, p.y-q.y) > 16 {
		d.put(`<line class="leader" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, p.x, p.y, q.x, q.y)
	}
	anchor, tx := "middle", (r.x0+r.x1)/2
	switch { // so that a font of another width moves the far end only
	case r.x0 > p.x:
		anchor, tx = "start", r.x0
	case r.x1 < p.x:
		anchor, tx = "end", r.x1
	}
	fmt.Fprintf(&d.labels, `<text class="label %s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", class, tx, r.y1-3.5, anchor, escapeXML.Replace(name))
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

// describe lists the marks in words, for readers that cannot see them.
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
