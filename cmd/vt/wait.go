package main

import (
	"bufio"
	"context"
	"flag"
	"iter"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

const waitSynopsis = `
vt wait [flags] [job ...]

Waits until the jobs are over. On a terminal it draws a live line for each job,
elsewhere it writes a line for each answer. The job "-" stands for ids read from
standard input, one a line.

With -url and no job it waits for the one that has no id: GET URL/status. Without
-url it starts a simulated backend in this process, with a few jobs of 3 to 9
seconds and some faults to survive, and waits for those through real HTTP:

	vt wait
	vt wait -duration lognormal:5s,0.5 -fail-rate 0.3 -fault drop:20% a b c
	vt wait -url https://api.example.com -timeout 10m job-17 job-18
`

// The jobs and faults that make a demonstration: everything is over in about ten seconds,
// and a few requests meet a fault.
const (
	demoJobs     = 4
	demoDuration = "uniform:3s-9s"
	demoFaults   = "503:0.1,cut:0.1"
	demoSeed     = 1
)

type waitFlags struct {
	url     string
	timeout time.Duration
	outage  time.Duration
	every   time.Duration
	json    bool
	verbose bool
	sim     simulation
}

func (e *env) wait(ctx context.Context, args []string) int {
	var f waitFlags
	fs := flag.NewFlagSet("wait", flag.ContinueOnError)
	fs.StringVar(&f.url, "url", "", "the backend's base `URL`; without it one is simulated")
	fs.DurationVar(&f.timeout, "timeout", 0, "end the whole wait after this time (default: none)")
	fs.DurationVar(&f.outage, "outage", 5*time.Minute, "give a job up when nothing but faults came back for this time")
	fs.DurationVar(&f.every, "every", 0, "ask at this fixed interval, in place of the library's cadence")
	fs.BoolVar(&f.json, "json", false, "write one JSON object a line: events progress, fault, done and summary")
	fs.BoolVar(&f.verbose, "v", false, "log each fault that is survived, not only the first in a row")
	f.sim.seed = demoSeed
	_ = f.sim.duration.Set(demoDuration)
	const where = "; without -url only"
	f.sim.addFlags(fs, where)
	ids, code, ok := e.parse(fs, waitSynopsis, args)
	if !ok {
		return code
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, name := range simulationFlags {
		if f.url != "" && given[name] {
			return e.errorf("wait: -%s describes the simulated backend, and -url names another", name)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"timeout", f.timeout}, {"outage", f.outage}, {"every", f.every}} {
		if given[d.name] && d.value <= 0 {
			return e.errorf("wait: -%s %v is not positive", d.name, d.value)
		}
	}
	if f.url == "" && !given["fault"] {
		_ = f.sim.faults.Set(demoFaults)
	}
	return e.waitFor(ctx, &f, ids)
}

// waitFor waits for the jobs and reports on them as the flags say.
func (e *env) waitFor(ctx context.Context, f *waitFlags, ids []string) int {
	token := e.getenv("VT_TOKEN")
	var opts []vtclient.Option
	var sim *simserver.Server
	url := f.url
	if url == "" {
		simOpts, err := f.sim.options(token)
		if err != nil {
			return e.errorf("wait: %v", err)
		}
		sim, opts = e.simulate(simOpts...)
		defer sim.Close()
		url = sim.URL()
		if len(ids) == 0 {
			for range demoJobs {
				ids = append(ids, sim.Create(simserver.Job{}))
			}
		} else {
			for _, id := range ids {
				if id != "-" {
					sim.Create(simserver.Job{ID: id})
				}
			}
		}
	} else if len(ids) == 0 {
		ids = []string{""}
	}

	b := newBoard(e.output(f), f.verbose)
	if sim != nil {
		b.finishedAt = func(id string) time.Time {
			if j, ok := sim.Job(id); ok {
				return j.Started.Add(j.Duration)
			}
			return time.Time{}
		}
	}
	opts = append(opts, vtclient.WithOutageTolerance(f.outage), vtclient.WithTrace(b.trace()))
	if token != "" {
		opts = append(opts, vtclient.WithHeader("Authorization", "Bearer "+token))
	}
	if f.every > 0 {
		opts = append(opts, vtclient.WithPolling(vtclient.Constant(f.every)))
	}
	client, err := vtclient.New(url, opts...)
	if err != nil {
		return e.errorf("wait: %v", err)
	}
	defer client.CloseIdleConnections()

	interrupted := ctx
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	var readErr error
	jobs := func(yield func(vtclient.Job) bool) {
		for id := range e.ids(ids, &readErr) {
			if b.add(id) {
				if sim != nil {
					if _, ok := sim.Job(id); !ok {
						sim.Create(simserver.Job{ID: id})
					}
				}
				if !yield(vtclient.Job{ID: id}) {
					return
				}
			}
		}
	}
	stop := b.keepDrawing()
	for st, err := range client.WaitAll(ctx, jobs, vtclient.OnProgress(b.progress), vtclient.OnError(b.fault)) {
		b.done(st, err)
	}
	stop()
	code := b.finish()
	switch {
	case code != exitOK && interrupted.Err() != nil:
		return exitInterrupted
	case ctx.Err() == nil && readErr != nil:
		return e.errorf("wait: standard input: %v", readErr)
	}
	return code
}

// ids yields the ids given as arguments, with those of standard input in the
// place of "-".
func (e *env) ids(args []string, err *error) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, id := range args {
			if id != "-" {
				if !yield(id) {
					return
				}
				continue
			}
			lines := bufio.NewScanner(e.stdin)
			for lines.Scan() {
				if lines.Text() != "" && !yield(lines.Text()) {
					return
				}
			}
			*err = lines.Err()
		}
	}
}

// output picks how to report.
func (e *env) output(f *waitFlags) output {
	switch {
	case f.json:
		return &jsonOutput{w: e.stdout}
	case isTerminal(e.stdout) && e.getenv("TERM") != "dumb":
		return &terminal{w: e.stdout, color: e.getenv("NO_COLOR") == ""}
	}
	return &plain{w: e.stdout}
}
