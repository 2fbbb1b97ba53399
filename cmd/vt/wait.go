package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"strings"
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

With -api heygen it waits for video translations of HeyGen's, by version 3 of its API,
with the key from HEYGEN_API_KEY, and shows the URL of each result:

	vt wait -api heygen 4a1e6c 9f03bd

It polls. With -listen it receives webhooks, too, signed with HEYGEN_WEBHOOK_SECRET: the
address is to be reached from outside, over HTTPS, at the URL that HeyGen knows.

Without a job and -url it shows the whole of that against the simulated backend: it
submits a video to be translated into four languages, receives webhooks on a loopback
port, and knows of each end within a round trip, or by polling where a webhook is lost:

	vt wait -api heygen
	vt wait -api heygen -webhook-loss 50% -late-result 2s
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
	api     apiFlag
	url     string
	listen  string
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
	f := waitFlags{api: apiFlag{plainAPI}}
	flags := flag.NewFlagSet("wait", flag.ContinueOnError)
	flags.Var(&f.api, "api", "the backend's API: a `name`, plain or heygen")
	flags.StringVar(&f.url, "url", "", "the backend's base `URL`; without it one is simulated or, for jobs with\n-api heygen, it is "+heygenAPI.base)
	flags.StringVar(&f.listen, "listen", "", "receive webhooks at this `address`, such as 127.0.0.1:8089; with -api heygen\n(default: none; a free port where the backend is simulated)")
	flags.DurationVar(&f.timeout, "timeout", 0, "end the whole wait after this time (default: none)")
	flags.DurationVar(&f.outage, "outage", 5*time.Minute, "give a job up when nothing but faults came back for this time")
	flags.DurationVar(&f.every, "every", 0, "ask at this fixed interval, in place of the library's cadence")
	flags.DurationVar(&f.cost, "cost", 0, "how much waiting a request is worth (default 1s; 100ms without -url, where jobs are short)")
	flags.StringVar(&f.learn, "learn", "", "read from this `FILE` what earlier runs learnt about how long jobs take, and write there what this one does")
	flags.Var(&f.started, "started", "when the jobs began: a `time` like 2026-01-02T15:04:05Z, or how long ago, like 90s;\nwith -url only (default: not known)")
	flags.BoolVar(&f.json, "json", false, "write one JSON object a line: events progress, fault, done and summary, and\nwith -api heygen listening, submitted, webhook and refused")
	flags.BoolVar(&f.verbose, "v", false, "log each fault that is survived, not only the first in a row")
	f.sim.seed = demoSeed
	_ = f.sim.duration.Set(demoDuration)
	f.sim.addFlags(flags, "; where the backend is simulated")
	ids, code, ok := e.parse(flags, waitSynopsis, args)
	if !ok {
		return code
	}
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if name := misplaced(given, f.api.api, "listen"); name != "" {
		return e.errorf("wait: -%s is for -api heygen", name)
	}
	ofJobs := false // the backend is that which the jobs say
	if f.api.base != "" {
		switch {
		case f.url == "" && len(ids) > 0:
			f.url, ofJobs = f.api.base, true
		case f.url != "" && len(ids) == 0:
			return e.errorf("wait: -api %s with -url waits for the jobs that are named after it; without -url and jobs it submits some to a simulated backend", f.api.name)
		}
	}
	for _, name := range simulationFlags {
		switch {
		case f.url == "" || !given[name]:
		case ofJobs:
			return e.errorf("wait: -%s describes the simulated backend, and jobs with -api %s are those of %s", name, f.api.name, f.url)
		default:
			return e.errorf("wait: -%s describes the simulated backend, and -url names another", name)
		}
	}
	if f.api.wantsKey(f.url) && strings.TrimSpace(e.getenv(f.api.keyVar)) == "" {
		return e.errorf("wait: %s asks for a key: put it into the environment variable %s; there is no flag for it, since other users of a machine can read a command line", f.api.host, f.api.keyVar)
	}
	if f.listen != "" && f.url != "" && e.getenv(heygenSecretVar) == "" {
		return e.errorf("wait: -listen: %s", noSecret)
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
	key := e.getenv(f.api.keyVar)
	var opts []vtclient.Option
	var sim *simserver.Server
	url := f.url
	if url == "" {
		simOpts, err := f.sim.options(key)
		if err != nil {
			return e.errorf("wait: %v", err)
		}
		sim, opts = e.simulate(simOpts...)
		defer sim.Close()
		url = sim.URL()
		if len(ids) == 0 && f.api.api == plainAPI {
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
	b.started, b.result = f.started.Time, f.api.result
	b.secrets = b.secrets.with(key).with(e.getenv(heygenSecretVar))
	if sim != nil {
		b.finishedAt = func(id string) time.Time {
			j, ok := sim.Job(id)
			switch {
			case !ok:
				return time.Time{}
			case j.Fail:
				return j.Started.Add(j.Duration)
			}
			return j.Started.Add(j.Duration + f.sim.lateResult) // before that there is no result
		}
	}
	opts = append(opts, vtclient.WithEndpoint(f.api.endpoint), vtclient.WithOutageTolerance(f.outage), vtclient.WithTrace(b.trace()))
	if key != "" {
		opts = append(opts, vtclient.WithHeader(f.api.header(key)))
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

	if f.api.api == heygenAPI && (sim != nil || f.listen != "") {
		stop, err := e.receiveWebhooks(ctx, f, b, client, sim)
		if err != nil {
			return e.errorf("wait: webhooks: %v", err)
		}
		defer stop()
	}
	if sim != nil && len(ids) == 0 {
		if ids, err = submit(ctx, sim, f.api.api, key); err != nil {
			if ctx.Err() != nil {
				return exitInterrupted
			}
			return e.errorf("wait: submit: %s", b.secrets.hide(err.Error()))
		}
		b.note(note{event: "submitted", text: "submitted a video, POST " + submitPath + ": jobs " + strings.Join(ids, ", "), jobs: ids})
	}

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

// receiveWebhooks starts to receive webhooks for a wait until stop is called. Those of a
// simulated backend are signed with a secret of this run's own.
func (e *env) receiveWebhooks(ctx context.Context, f *waitFlags, b *board, client *vtclient.Client, sim *simserver.Server) (stop func(), err error) {
	addr, secret := f.listen, e.getenv(heygenSecretVar)
	if sim != nil {
		secret = rand.Text()
		if addr == "" {
			addr = "127.0.0.1:0"
		}
	}
	handler, err := b.webhook(secret, client.Hint)
	if err != nil {
		return nil, err
	}
	hook, stop, err := e.receive(ctx, addr, handler)
	if err != nil {
		return nil, err
	}
	if sim != nil {
		b.hooks.lost = func() int { return sim.Stats().WebhooksLost }
		hook.Secret, hook.Loss = secret, float64(f.sim.loss)
		sim.SetWebhook(hook)
	}
	b.note(note{event: "listening", text: "receiving webhooks at " + hook.URL, url: hook.URL})
	return stop, nil
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
