package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"iter"
	"os"
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

After a restart, -started says when the jobs began: by the clock, or how long ago. They
are then taken to exist, and are asked about when their age makes it worth while:

	vt wait -url https://api.example.com -started 2026-01-02T15:04:05Z job-17
	vt wait -url https://api.example.com -started 90s job-17
`

// The jobs and faults that make a demonstration: everything is over in about ten seconds,
// and a few requests meet a fault.
const (
	demoJobs     = 4
	demoDuration = "uniform:3s-9s"
	demoFaults   = "503:5%,cut:5%"
	demoSeed     = 100 // with these, one request meets a 503 and one a cut
)

type waitFlags struct {
	url     string
	timeout time.Duration
	outage  time.Duration
	every   time.Duration
	cost    time.Duration
	learn   string
	started beginning
	json    bool
	verbose bool
	sim     simulation
}

func (e *env) wait(ctx context.Context, args []string) int {
	var f waitFlags
	flags := flag.NewFlagSet("wait", flag.ContinueOnError)
	flags.StringVar(&f.url, "url", "", "the backend's base `URL`; without it one is simulated")
	flags.DurationVar(&f.timeout, "timeout", 0, "end the whole wait after this time (default: none)")
	flags.DurationVar(&f.outage, "outage", 5*time.Minute, "give a job up when nothing but faults came back for this time")
	flags.DurationVar(&f.every, "every", 0, "ask at this fixed interval, in place of the library's cadence")
	flags.DurationVar(&f.cost, "cost", 0, "how much waiting a request is worth (default 1s; 100ms without -url, where jobs are short)")
	flags.StringVar(&f.learn, "learn", "", "read from this `FILE` what earlier runs learnt about how long jobs take, and write there what this one does")
	flags.Var(&f.started, "started", "when the jobs began: a `time` like 2026-01-02T15:04:05Z, or how long ago, like 90s;\nwith -url only (default: not known)")
	flags.BoolVar(&f.json, "json", false, "write one JSON object a line: events progress, fault, done and summary")
	flags.BoolVar(&f.verbose, "v", false, "log each fault that is survived, not only the first in a row")
	f.sim.seed = demoSeed
	_ = f.sim.duration.Set(demoDuration)
	const where = "; without -url only"
	f.sim.addFlags(flags, where)
	ids, code, ok := e.parse(flags, waitSynopsis, args)
	if !ok {
		return code
	}
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, name := range simulationFlags {
		if f.url != "" && given[name] {
			return e.errorf("wait: -%s describes the simulated backend, and -url names another", name)
		}
	}
	if f.url == "" && given["started"] {
		return e.errorf("wait: -started says when the jobs of a real backend began; without -url they begin now")
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"timeout", f.timeout}, {"outage", f.outage}, {"every", f.every}, {"cost", f.cost}} {
		if given[d.name] && d.value <= 0 {
			return e.errorf("wait: -%s %v is not positive", d.name, d.value)
		}
	}
	if f.every > 0 && (given["cost"] || given["learn"]) {
		return e.errorf("wait: -every polls at a fixed interval, so -cost and -learn have no use")
	}
	if f.cost == 0 {
		if f.cost = time.Second; f.url == "" {
			f.cost = 100 * time.Millisecond
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

	b := newBoard(e.output(f), f.verbose || f.json)
	b.started = f.started.Time
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
	} else {
		cadence, err := recall(f.cost, f.learn)
		if err != nil {
			return e.errorf("wait: -learn: %v", err)
		}
		if f.learn != "" {
			defer func() {
				if err := retain(cadence, f.learn); err != nil {
					e.errorf("wait: -learn: %v", err)
				}
			}()
		}
		opts = append(opts, vtclient.WithPolling(cadence))
		b.explain = cadence.Explain
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
	read := make(chan error, 1) // gets a value once all ids are known
	jobs := func(yield func(vtclient.Job) bool) {
		var err error
		for id := range e.ids(ids, &err) {
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
		read <- err
	}
	stop := b.keepDrawing()
	for st, err := range client.WaitAll(ctx, jobs, vtclient.OnProgress(b.progress), vtclient.OnError(b.fault), vtclient.StartedAt(f.started.Time)) {
		b.done(st, err)
	}
	stop()
	code := b.finish()
	select {
	case err := <-read:
		if err != nil {
			return e.errorf("wait: standard input: %v", err)
		}
	default: // the wait ended before standard input did
		code = exitError
	}
	if code != exitOK && interrupted.Err() != nil {
		return exitInterrupted
	}
	return code
}

// A beginning is a flag.Value: when the jobs began.
type beginning struct{ instant }

func (b *beginning) Set(text string) error {
	if d, err := time.ParseDuration(text); err == nil {
		if d < 0 {
			return fmt.Errorf("%v ago is in the future", d)
		}
		b.Time = time.Now().Add(-d)
		return nil
	}
	if b.instant.Set(text) != nil {
		return fmt.Errorf("%q is neither a time like 2026-01-02T15:04:05Z nor a duration like 90s", text)
	}
	return nil
}

// recall returns a cadence that knows what file holds, if there is such a file.
func recall(cost time.Duration, file string) (*vtclient.Adaptive, error) {
	a := vtclient.NewAdaptive(cost)
	if file == "" {
		return a, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, err
	}
	if err := a.UnmarshalText(text); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return a, nil
}

// retain writes what a cadence knows to file, so that there is always a whole
// state in it.
func retain(a *vtclient.Adaptive, file string) error {
	text, err := a.MarshalText()
	if err != nil {
		return err
	}
	part := file + ".part"
	if err := os.WriteFile(part, text, 0o600); err != nil {
		return err
	}
	return os.Rename(part, file)
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
