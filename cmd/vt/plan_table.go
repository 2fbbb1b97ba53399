package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// table is the results for people. It fits into 80 columns.
func (p *plan) table(results []planned) string {
	var b strings.Builder
	jobs := count(len(p.durations), "job")
	if p.read > len(p.durations) {
		jobs += fmt.Sprintf(" picked at random from %d", p.read)
	}
	fmt.Fprintf(&b, "%s from %s, %s on average; a request is worth %v\n\n", jobs, clean(p.source), inSeconds(p.mean()), p.cost)
	fmt.Fprintf(&b, "%-40s%8s%11s%11s%9s\n", "way of polling", "requests", "late by", "cost", "÷ least")
	var fixed, adaptive float64
	for _, r := range results {
		name := cut(r.name, 39)
		b.WriteString(name + strings.Repeat(" ", 40-cells(name)))
		fmt.Fprintf(&b, "%8s%11s%11s%9s\n", figure(r.requests), inSeconds(r.delay), inSeconds(r.cost), figure(r.ratio))
		switch r.name {
		case adaptiveName:
			adaptive = r.cost
		case "best fixed interval: " + short(p.interval):
			fixed = r.cost
		}
	}
	fmt.Fprintf(&b, `
All figures are a job's average. Late by: from its end to the request that finds
it over. Cost: requests × %v, what one is worth, + late by. Least: the cost
of asking at the best ages, if all durations were known but not which job takes
which.
`, p.cost)
	if p.drawn {
		b.WriteString("Where only two requests are known between which a job was over, a time between\nthem was drawn at random.\n")
	}
	if fixed > 0 {
		b.WriteString("\n" + verdict(adaptive, fixed) + "\n")
	}
	return b.String()
}

// verdict is the answer to the question that a plan is made for.
func verdict(adaptive, fixed float64) string {
	change := 100 * (adaptive/fixed - 1)
	word := "less"
	if change > 0 {
		word = "more"
	}
	return fmt.Sprintf("With Adaptive, waiting for a job costs %s, %.0f %% %s than with the\nbest fixed interval there could have been.",
		inSeconds(adaptive), math.Abs(change), word)
}

// figure writes a number with two decimals, and a very large one short.
func figure(v float64) string {
	if v < 1e5 {
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// inSeconds writes seconds with three digits or more.
func inSeconds(s float64) string {
	switch {
	case s == 0:
		return "0 s"
	case s < 0.1:
		return strconv.FormatFloat(s, 'g', 2, 64) + " s"
	case s < 100:
		return strconv.FormatFloat(s, 'f', 2, 64) + " s"
	case s >= 1e6:
		return strconv.FormatFloat(s, 'g', 3, 64) + " s"
	}
	return strconv.FormatFloat(s, 'f', 1, 64) + " s"
}

// json is the results for programs.
func (p *plan) json(results []planned) []byte {
	type strategy struct {
		Name     string  `json:"name"`
		Requests float64 `json:"requests"`
		Delay    float64 `json:"delay_seconds"`
		Cost     float64 `json:"waiting_cost_seconds"`
		Ratio    float64 `json:"ratio_to_optimum"`
	}
	out := struct {
		Source      string     `json:"source"`
		Read        int        `json:"durations_read"`
		Jobs        int        `json:"jobs"`
		Mean        float64    `json:"mean_duration_seconds"`
		RequestCost float64    `json:"request_cost_seconds"`
		Strategies  []strategy `json:"strategies"`
	}{Source: p.source, Read: p.read, Jobs: len(p.durations), Mean: p.mean(), RequestCost: p.cost.Seconds()}
	for _, r := range results {
		out.Strategies = append(out.Strategies, strategy{r.name, r.requests, r.delay, r.cost, r.ratio})
	}
	return jsonLine(out)
}
