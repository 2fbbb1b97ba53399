package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

const planSynopsis = `
vt plan [flags] [file]

Shows what different ways of polling would have cost for jobs that took the
given durations. It reads, from the file or else from standard input, one of

	durations     one a line, as a number of seconds or like 1m30s; blank lines
	              and what follows a # are skipped
	vt wait -json what that wrote: each job that is over counts
	vt wait -learn FILE  the file with what was learnt: each job in it counts

From the latter two it is only known between which two requests a job was over.
A time between them is drawn at random.

	vt plan durations.txt
	vt plan -cost 5s < durations.txt
	vt wait -url https://api.example.com -json job-17 job-18 | vt plan
	vt plan -simulate lognormal:3m,0.5 -n 2000 -svg chart.svg

It compares the waiting cost of a job: the number of requests times what a
request is worth (-cost), plus the time from the job's end to the request that
finds it over. All figures are averages over the jobs. Ages are counted from
each job's start, and nothing is asked at age 0. The rows:

	every 1s, Azure SDK,   as well-known clients poll
	AWS waiter, …
	Exponential            vtclient.Exponential, with its defaults
	best fixed interval,   found by a search over these very durations: the best
	best growing interval  that such a loop could have done
	Adaptive               vtclient's default, learning from one job to the next
	                       in the order given; and the second half of the jobs
	                       by itself, when it has learnt
	least possible         the best ages to ask at, if all durations were known
	                       in advance, but not which job takes which; with
	                       -simulate also if only their distribution were known

The rows that a search finds fit these very durations: the fewer there are, the
greater their advantage over anything that learns. So with -simulate all rows
are compared with the least for the distribution. Adaptive draws random numbers
of its own, so its figures vary a little from run to run. All other figures
follow from the flags.
`

// maxPlanJobs bounds the durations that are simulated. The optimum takes time
// in their square, and more of them would change no figure that is shown.
const maxPlanJobs = 5000

// maxPlanDuration keeps products of times far from overflowing.
const maxPlanDuration = 10 * 365 * 24 * time.Hour

type planFlags struct {
	cost     span
	simulate distribution
	n        int
	seed     uint64
	svg      string
	json     bool

	given map[string]bool
}

func (f *planFlags) set() *flag.FlagSet {
	fs := flag.NewFlagSet("plan", flag.ContinueOnError)
	fs.Var(&f.cost, "cost", "how much waiting `time` one request is worth")
	fs.Var(&f.simulate, "simulate", "draw the durations from a `distribution` in place of reading them: one of 45s, uniform:5s-30s and lognormal:3m,0.5 (half of the jobs take less than 3m; with a second number of 0.5, two jobs of three take 0.6 to 1.65 times that)")
	fs.IntVar(&f.n, "n", 2000, "with -simulate, the `number` of jobs")
	fs.Uint64Var(&f.seed, "seed", 0, "seed of the random numbers: a `number`")
	fs.StringVar(&f.svg, "svg", "", "also draw requests against lateness, into this `file`")
	fs.BoolVar(&f.json, "json", false, "write one JSON object in place of the table")
	return fs
}

func (e *env) plan(ctx context.Context, args []string) int {
	f := planFlags{cost: span(time.Second)}
	fs := f.set()
	rest, code, ok := e.parse(fs, planSynopsis, args)
	if !ok {
		return code
	}
	f.given = given(fs)
	err := f.check(rest)
	if err == nil {
		err = e.planFor(ctx, &f, rest)
	}
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case err != nil:
		return e.errorf("plan: %v", err)
	}
	return exitOK
}

func (f *planFlags) check(rest []string) error {
	switch {
	case f.n < 1 || f.n > maxPlanJobs:
		return fmt.Errorf("-n %d is not from 1 to %d", f.n, maxPlanJobs)
	case f.given["n"] && !f.given["simulate"]:
		return errors.New("-n goes with -simulate; without it the lines are the jobs")
	case len(rest) > 1:
		return fmt.Errorf("%q: takes one file", rest[1])
	case len(rest) > 0 && f.given["simulate"]:
		return fmt.Errorf("%q: with -simulate there is no file to read", rest[0])
	}
	return nil
}

// planFor compares the strategies and writes the results.
func (e *env) planFor(ctx context.Context, f *planFlags, files []string) error {
	p, err := e.newPlan(ctx, f, files)
	if err != nil {
		return err
	}
	if mean := p.mean(); mean/p.cost.Seconds() > 1e9 {
		return fmt.Errorf("-cost %v is too small beside durations of %v on average: any strategy would ask all the time",
			p.cost, time.Duration(mean*1e9))
	}
	results, err := p.compare(ctx)
	if err != nil {
		return err
	}
	if f.svg != "" {
		p.command += " -svg " + f.svg
		c, err := p.chart(ctx, results)
		if err != nil {
			return err
		}
		if err := os.WriteFile(f.svg, c.svg(), 0o666); err != nil {
			return err
		}
	}
	if f.json {
		_, err = e.stdout.Write(p.json(results))
	} else {
		_, err = io.WriteString(e.stdout, p.table(results))
	}
	return err
}

// newPlan draws the durations or reads them.
func (e *env) newPlan(ctx context.Context, f *planFlags, files []string) (*plan, error) {
	p := &plan{cost: time.Duration(f.cost), seed: f.seed}
	p.command = fmt.Sprintf("vt plan -cost %v -seed %d", p.cost, f.seed)
	if f.given["simulate"] {
		p.source = f.simulate.text
		p.command += fmt.Sprintf(" -simulate %s -n %d", f.simulate.text, f.n)
		p.durations = drawDurations(f.simulate, f.n, f.seed, 1)
		p.population = quantiles(drawDurations(f.simulate, 200_000, f.seed, 3), 4000)
		p.read = len(p.durations)
		return p, nil
	}
	var err error
	if p.source, p.sample, err = e.readPlan(ctx, files, f.seed); err != nil {
		return nil, err
	}
	if len(files) > 0 {
		p.command += " " + files[0]
	}
	return p, nil
}

// drawDurations draws n durations. A draw that rounds to nothing is taken for
// the shortest there is.
func drawDurations(d distribution, n int, seed, stream uint64) []time.Duration {
	r := rand.New(rand.NewPCG(seed, stream))
	out := make([]time.Duration, n)
	for i := range out {
		out[i] = min(max(d.draw(r), 1), maxPlanDuration)
	}
	return out
}

// quantiles returns n quantiles of a sample, in the middle of n equal shares.
func quantiles(sample []time.Duration, n int) []time.Duration {
	slices.Sort(sample)
	out := make([]time.Duration, n)
	for i := range out {
		out[i] = sample[(2*i+1)*len(sample)/(2*n)]
	}
	return out
}
