package main

import (
	"context"
	"fmt"
	"math"
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
		subtitle: fmt.Sprintf("Lower left is better. Behind each name: its cost ÷ the least possible, where a request is worth %v; dotted: equal cost", p.cost),
		command:  p.command,
		cost:     p.cost.Seconds(),
	}
	c.addMarks(results)
	s := newSearch(p.durations, p.cost)
	mean := p.mean()
	c.curves = append(c.curves,
		s.family("fixed intervals", "constants", mean/250, mean, func(d time.Duration) backoff { return backoff{d, d, 1} }),
		s.family("doubling up to 30 × the first interval", "exponentials", mean/7500, mean/10, func(d time.Duration) backoff { return backoff{d, 30 * d, 2} }),
		p.learningCurve(ctx, c.marks))
	known := curve{name: "least possible, a request worth 1/64 to 64×", class: "optimum"}
	for i := -12; i <= 12 && ctx.Err() == nil; i++ {
		cost := time.Duration(max(1, float64(p.cost)*math.Pow(2, float64(i)/2)))
		known.at = append(known.at, tryPolls(p.reference(cost), p.durations).point())
	}
	c.curves = append(c.curves, known)
	return c, ctx.Err()
}

// addMarks makes a mark of each result, but for those that repeat another.
func (c *chart) addMarks(results []planned) {
	for _, r := range results {
		if r.kind == optimal {
			c.best = r.cost
		}
		if r.kind == learnt || r.kind == found && strings.HasPrefix(r.name, "least") {
			continue
		}
		name, _, _ := strings.Cut(r.name, ":")
		name, _, _ = strings.Cut(name, ",")
		if r.kind == optimal {
			name = "least possible"
		} else {
			name += fmt.Sprintf(" %.2f×", r.ratio)
		}
		c.marks = append(c.marks, mark{name, kindClass[r.kind], point{r.requests, r.delay}})
	}
}

// family tries backoffs of one form.
func (s *search) family(name, class string, from, to float64, of func(time.Duration) backoff) curve {
	const points = 64
	k := curve{name: name, class: class}
	for i := range points {
		d := time.Duration(max(1, 1e9*from*math.Pow(to/from, float64(i)/(points-1))))
		k.at = append(k.at, of(d).try(s.sorted, s.sums).point())
	}
	return k
}

// learningCurve tries Adaptive with other worths of a request; that of the plan is among
// the marks.
func (p *plan) learningCurve(ctx context.Context, marks []mark) curve {
	var costs []time.Duration
	for _, f := range []float64{1. / 16, 1. / 4, 4, 16} {
		costs = append(costs, time.Duration(max(1, f*float64(p.cost))))
	}
	k := curve{name: "Adaptive, a request worth 1/16 to 16×", class: "adaptive"}
	first, second := learnAll(ctx, costs, 1, p.durations)
	for i := range costs {
		first[i].merge(second[i])
		k.at = append(k.at, first[i].point())
		for _, m := range marks {
			if i == 1 && m.class == "adaptive" {
				k.at = append(k.at, m.at)
			}
		}
	}
	return k
}
