package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const planSynopsis = `
vt plan [flags] [file]

Tells what different ways of polling would have cost for jobs that took the
given durations. It reads one duration a line, as a number of seconds or like
1m30s, from the file or else from standard input; blank lines and what follows
a # are skipped.

	vt plan durations.txt
	vt plan -cost 5s < durations.txt
	vt plan -simulate lognormal:3m,0.5 -n 2000 -svg chart.svg

What it compares is the mean waiting cost of a job: the number of requests times
what a request is worth (-cost), plus the time from the job's end to the request
that finds it over. Ages are counted from each job's start, and nothing is asked
at age 0. The strategies:

	fixed defaults       as well-known clients poll
	vtclient.Exponential its zero value
	best constant,
	best exponential     found by a search over these very durations
	Adaptive             vtclient's default, learning from one job to the next in
	                     the order given; and the second half of that by itself
	optimum              the best ages to ask at for someone who knew the durations,
	                     though not which job takes which; with -simulate also
	                     for someone who knew the distribution they come from

What knows these very durations knows them to the last digit: the fewer there
are, the further it is ahead of anything that learns. So with -simulate all are
measured against the optimum for the distribution. The chance in Adaptive is its
own, and its figures vary a little from run to run; all else follows from the
flags.
`

// maxPlanJobs bounds the durations that are simulated. The optimum takes time
// in their square, and more of them would change no figure that is shown.
const maxPlanJobs = 5000

// maxPlanDuration keeps products of times far from overflowing.
const maxPlanDuration = 10 * 365 * 24 * time.Hour

type planFlags struct {
	cost     time.Duration
	simulate distribution
	n        int
	seed     uint64
	svg      string
	json     bool
}

func (e *env) plan(ctx context.Context, args []string) int {
	fs := flag.NewFlagSet("plan", flag.ContinueOnError)
	var f planFlags
	fs.DurationVar(&f.cost, "cost", time.Second, "how much waiting one request is worth")
	fs.Var(&f.simulate, "simulate", "draw the durations from a `distribution` in place of reading them: one of\n45s, uniform:5s-30s and lognormal:3m,0.5 (median, sigma)")
	fs.IntVar(&f.n, "n", 2000, "with -simulate, the `number` of jobs")
	fs.Uint64Var(&f.seed, "seed", 0, "what all chance follows from: a `number`")
	fs.StringVar(&f.svg, "svg", "", "also draw requests against delay, into this `file`")
	fs.BoolVar(&f.json, "json", false, "write one JSON object in place of the table")
	rest, code, ok := e.parse(fs, planSynopsis, args)
	if !ok {
		return code
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case f.cost <= 0:
		return e.errorf("plan: -cost %v is not positive", f.cost)
	case f.n < 1 || f.n > maxPlanJobs:
		return e.errorf("plan: -n %d is not from 1 to %d", f.n, maxPlanJobs)
	case given["n"] && !given["simulate"]:
		return e.errorf("plan: -n goes with -simulate; without it the lines are the jobs")
	case len(rest) > 1:
		return e.errorf("plan: %q: takes one file", rest[1])
	case len(rest) > 0 && given["simulate"]:
		return e.errorf("plan: %q: with -simulate there is no file to read", rest[0])
	}

	p := plan{cost: f.cost, seed: f.seed}
	p.command = fmt.Sprintf("vt plan -cost %v -seed %d", f.cost, f.seed)
	if given["simulate"] {
		p.source = f.simulate.text
		p.command += fmt.Sprintf(" -simulate %s -n %d", f.simulate.text, f.n)
		p.durations = drawDurations(f.simulate, f.n, f.seed, 1)
		p.population = quantiles(drawDurations(f.simulate, 200_000, f.seed, 3), 4000)
		p.read = len(p.durations)
	} else {
		var err error
		p.source, p.durations, p.read, err = e.durations(ctx, rest, f.seed)
		if ctx.Err() != nil {
			return exitInterrupted
		}
		if err != nil {
			return e.errorf("plan: %v", err)
		}
		if len(rest) > 0 {
			p.command += " " + rest[0]
		}
	}
	if mean := p.mean(); mean/f.cost.Seconds() > 1e9 {
		return e.errorf("plan: -cost %v is too small beside durations of %v on average: any strategy would ask all the time",
			f.cost, time.Duration(mean*1e9))
	}
	if f.svg != "" {
		p.command += " -svg " + f.svg
	}
	results, err := p.compare(ctx)
	if err != nil {
		return exitInterrupted
	}
	if f.svg != "" {
		c, err := p.chart(ctx, results)
		if err != nil {
			return exitInterrupted
		}
		if err := os.WriteFile(f.svg, c.svg(), 0o666); err != nil {
			return e.errorf("plan: %v", err)
		}
	}
	if f.json {
		_, err = e.stdout.Write(p.json(results))
	} else {
		_, err = io.WriteString(e.stdout, p.table(results))
	}
	if err != nil {
		return e.errorf("plan: %v", err)
	}
	return exitOK
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

// durations reads them from the file in args or standard input. It gives up
// when ctx is done, since reading from a terminal may take for ever.
func (e *env) durations(ctx context.Context, args []string, seed uint64) (source string, kept []time.Duration, read int, err error) {
	source, in := "standard input", e.stdin
	if len(args) > 0 && args[0] != "-" {
		file, err := os.Open(args[0])
		if err != nil {
			return "", nil, 0, err
		}
		defer file.Close()
		source, in = args[0], file
	}
	done := make(chan struct{})
	var (
		k []time.Duration
		n int
		x error
	)
	go func() {
		defer close(done)
		k, n, x = readDurations(in, seed)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return "", nil, 0, ctx.Err()
	}
	if x != nil {
		return "", nil, 0, fmt.Errorf("%s: %w", source, x)
	}
	return source, k, n, nil
}

// readDurations reads one duration a line and returns them in order, with their
// number. Of more than maxPlanJobs it keeps that many, each set of lines being
// as likely as any other (reservoir sampling) and chance following from the seed,
// so that no rhythm in the file can matter.
func readDurations(in io.Reader, seed uint64) (kept []time.Duration, read int, err error) {
	r := rand.New(rand.NewPCG(seed, 2))
	lines := bufio.NewScanner(in)
	number := 0
	for lines.Scan() {
		number++
		text, _, _ := strings.Cut(lines.Text(), "#")
		if number == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		d, err := parseDuration(text)
		if err != nil {
			return nil, 0, fmt.Errorf("line %d: %w", number, err)
		}
		read++
		if len(kept) < maxPlanJobs {
			kept = append(kept, d)
		} else if i := r.IntN(read); i < maxPlanJobs {
			// The one that goes makes room at the end: the order stays.
			copy(kept[i:], kept[i+1:])
			kept[maxPlanJobs-1] = d
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, 0, fmt.Errorf("line %d: is longer than %d bytes", number+1, bufio.MaxScanTokenSize)
	} else if err != nil {
		return nil, 0, err
	}
	if read == 0 {
		return nil, 0, errors.New("holds no durations; want one a line, such as 90 or 1m30s")
	}
	return kept, read, nil
}

// parseDuration reads a number of seconds or a Go duration.
func parseDuration(text string) (time.Duration, error) {
	shown := text
	if len(shown) > 60 {
		shown = strings.ToValidUTF8(shown[:60], "") + "…"
	}
	d, err := time.ParseDuration(text)
	if s, ferr := strconv.ParseFloat(text, 64); ferr == nil {
		err = nil
		switch ns := math.Round(s * 1e9); {
		case math.IsNaN(s):
			err = errors.New("no number")
		case ns > float64(maxPlanDuration):
			d = maxPlanDuration + 1
		default:
			d = time.Duration(max(ns, -1))
		}
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration: want seconds, such as 90 or 1.5, or a duration like 1m30s", shown)
	case d <= 0:
		return 0, fmt.Errorf("%q is not positive: want a duration above 0", shown)
	case d > maxPlanDuration:
		return 0, fmt.Errorf("%q is too long: want at most %d h", shown, int(maxPlanDuration.Hours()))
	}
	return d, nil
}

// table is the results for people.
func (p *plan) table(results []planned) string {
	var b strings.Builder
	jobs := count(len(p.durations), "job")
	if p.read > len(p.durations) {
		jobs += fmt.Sprintf(" picked at random from %d", p.read)
	}
	fmt.Fprintf(&b, "%s from %s, %s on average; a request is worth %v\n\n", jobs, clean(p.source), inSeconds(p.mean()), p.cost)
	rows := [][]string{{"strategy", "requests/job", "delay/job", "waiting cost", "÷ optimum"}}
	for _, r := range results {
		rows = append(rows, []string{r.name, strconv.FormatFloat(r.requests, 'f', 2, 64), inSeconds(r.delay),
			inSeconds(r.cost), strconv.FormatFloat(r.ratio, 'f', 2, 64)})
	}
	var width [5]int
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString(cell + pad)
			} else {
				b.WriteString("  " + pad + cell)
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString("\nMeans over the jobs, from each job's start, with nothing asked at age 0.\n" +
		"Waiting cost: requests × worth + delay. The second half is compared with the\n" +
		"optimum on the same jobs.\n")
	return b.String()
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
