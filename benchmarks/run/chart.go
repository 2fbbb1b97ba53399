package main

import (
	"bytes"
	"fmt"
	"html"
	"strings"
)

// style is that of the other charts of this repository, in few words.
const style = `
text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.back { fill: #ffffff }
.title { font-size: 15px; font-weight: 600 }
.head { font-weight: 600 }
.quiet { fill: #59636e; font-size: 11px }
.ours { fill: #1a7f37 }
.other { fill: #8c959f }
.one { stroke: #1f2328; stroke-dasharray: 3 3 }
.goal { stroke: #bc4c00; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.back { fill: #0d1117 }
.quiet { fill: #9198a1 }
.ours { fill: #3fb950 }
.other { fill: #656c76 }
.one { stroke: #e6edf3 }
.goal { stroke: #db6d28 }
}
`

// A bar is one value; a bar without a class is a heading.
type bar struct {
	name, class string
	value, goal float64
}

// bars draws values as horizontal bars, with a line at 1.
func bars(title, subtitle string, list []bar) []byte {
	const width, left, right, top, step = 720, 300, 60, 56, 19
	most := 1.1
	for _, b := range list {
		most = max(most, b.value*1.05, b.goal*1.05)
	}
	x := func(v float64) float64 { return left + (width-left-right)*v/most }
	height := top + step*len(list) + 14
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" aria-label=\"%s\">\n<style>%s</style>\n",
		width, height, width, height, html.EscapeString(title), style)
	fmt.Fprintf(&b, "<rect class=\"back\" width=\"%d\" height=\"%d\"/>\n", width, height)
	fmt.Fprintf(&b, "<text class=\"title\" x=\"12\" y=\"22\">%s</text>\n<text class=\"quiet\" x=\"12\" y=\"40\">%s</text>\n", html.EscapeString(title), html.EscapeString(subtitle))
	for i, v := range list {
		y := top + step*i
		if v.class == "" {
			fmt.Fprintf(&b, "<text class=\"head\" x=\"12\" y=\"%d\">%s</text>\n", y+12, html.EscapeString(v.name))
			continue
		}
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left-8, y+12, html.EscapeString(v.name))
		fmt.Fprintf(&b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n", v.class, left, y+2, x(v.value)-left, step-6)
		if v.goal > 0 {
			fmt.Fprintf(&b, "<path class=\"goal\" d=\"M%.1f %dv%d\"/>\n", x(v.goal), y, step-2)
		}
		at := x(max(v.value, v.goal)) + 5
		if one := x(1); at < one && one < at+26 { // not across the line
			at = one + 5
		}
		fmt.Fprintf(&b, "<text class=\"quiet\" x=\"%.1f\" y=\"%d\">%.2f</text>\n", at, y+12, v.value)
	}
	fmt.Fprintf(&b, "<path class=\"one\" d=\"M%.1f %dV%d\"/>\n</svg>\n", x(1), top-4, height-10)
	return b.Bytes()
}

// statusChart shows what one status costs through each client, beside net/http alone.
func (f *figures) statusChart() []byte {
	names := []struct{ by, name string }{
		{"vtclient", "vtclient, everything on"},
		{"net-http-alike", "net/http with timeout and header"},
		{"retryablehttp", "retryablehttp: retries"},
		{"failsafehttp", "failsafehttp: retries, breaker"},
		{"resty", "resty: retries, breaker"},
		{"assembled", "assembled from five packages"},
	}
	var list []bar
	for _, u := range []struct{ unit, name string }{{"ns/op", "time"}, {"allocs/op", "allocations"}} {
		list = append(list, bar{name: u.name})
		for _, n := range names {
			l, ok := f.line(row{bench: "Status", unit: u.unit, ours: n.by, refs: plain})
			if !ok || l.ref == "" {
				return nil
			}
			class := "other"
			if n.by == "vtclient" {
				class = "ours"
			}
			list = append(list, bar{name: n.name, class: class, value: l.ratio.Center})
		}
	}
	return bars("One status over a stub, ÷ net/http and encoding/json alone", "dashed: net/http without retries, breaker, coalescing, cache, timeout or header", list)
}

// ratioChart shows the ratio of each line to its reference, with the goal.
func ratioChart(lines []line) []byte {
	var list []bar
	for _, l := range lines {
		if l.ref == "" || l.goal == 0 || l.absolute || l.more {
			continue
		}
		value, goal := l.ratio.Center, l.goal
		if l.inverse { // of rates
			value, goal = 1/value, 1/goal
		}
		name := strings.NewReplacer("`", "", "waiting cost, ", "waiting: ", ", a request worth ", ", ", "the same, ", "… ", ", throughput", "").Replace(l.work)
		list = append(list, bar{name: name, class: "ours", value: value, goal: goal})
	}
	if list == nil {
		return nil
	}
	return bars("vtclient ÷ its reference: less is better", "orange: the goal; dashed: as much as the reference", list)
}
