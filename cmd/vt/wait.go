package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"strings"
	"time"
)

const waitSynopsis = `
vt wait [flags] [job ...]

Waits until the jobs are over. On a terminal it draws a live line for each job,
elsewhere it writes a line for each answer. The job "-" stands for ids read from
standard input, one a line.

With -url and no job it waits for the one that has no id: GET URL/status.
Without -url it starts a simulated backend in this process, with some faults to
survive, and waits for jobs there through real HTTP. Without jobs, too, it is a
demonstration, which compares its waiting cost with that of a loop:

	vt wait
	vt wait -duration lognormal:5s,0.5 -fail-rate 0.3 -fault drop:20% a b c
	vt wait -url https://api.example.com -timeout 10m job-17 job-18

After a restart, -started is when the jobs began: by the clock, or how long ago.
They are then taken to exist, and are asked about when their age makes it worth
while:

	vt wait -url https://api.example.com -started 2026-01-02T15:04:05Z job-17
	vt wait -url https://api.example.com -started 90s job-17

With -api heygen it waits for video translations of HeyGen's, by version 3 of
its API, with the key from HEYGEN_API_KEY, and shows the URL of each result:

	vt wait -api heygen 4a1e6c 9f03bd

It polls. With -listen it receives webhooks, too, signed with
HEYGEN_WEBHOOK_SECRET: the address is to be reached from outside, over HTTPS, at
the URL that is registered with HeyGen.

Without a job and -url it shows the whole of that against the simulated backend:
it submits a video to be translated into four languages, receives webhooks on a
loopback port, and learns of each end within a round trip, or by polling where a
webhook is lost:

	vt wait -api heygen
	vt wait -api heygen -webhook-loss 50% -late-result 2s

With -submit it has a video translated, into a job for each -language, waits for
them and, with -download, saves the results. Each submission has a key that
follows from the video and the language, so the same command after a crash finds
the jobs that it made, for 24 hours; with -state for as long as the file is
kept. A download goes on where it broke off:

	vt wait -api heygen -submit https://example.com/film.mp4 \
	    -language German,French -download . -state film.json

With -page it serves a page that shows each job and request as they happen:

	vt wait -page 127.0.0.1:8090
`

type waitFlags struct {
	api     apiFlag
	url     string
	listen  string
	page    string
	timeout span
	outage  span
	every   span
	cost    span
	learn   string
	started beginning
	json    bool
	verbose bool
	sim     simulation

	submit    string
	languages languageList
	again     string
	atMost    uint
	download  string
	state     string

	given  map[string]bool
	ofJobs bool // the backend follows from the jobs
	demo   bool // jobs and backend are the demonstration's
}

func (f *waitFlags) set() *flag.FlagSet {
	fs := flag.NewFlagSet("wait", flag.ContinueOnError)
	fs.Var(&f.api, "api", "the backend's API: a `name`, plain or heygen")
	fs.StringVar(&f.url, "url", "", "the backend's base `URL`; without it one is simulated or, for jobs with -api heygen, it is "+heygenAPI.base)
	fs.StringVar(&f.listen, "listen", "", "receive webhooks at this `address`, such as 127.0.0.1:8089; with -api heygen (default: none; a free port where the backend is simulated)")
	fs.StringVar(&f.page, "page", "", "serve a page with the jobs and requests at this `address`, such as 127.0.0.1:8090")
	fs.Var(&f.timeout, "timeout", "end the whole wait after this `time` (default: none)")
	fs.Var(&f.outage, "outage", "give a job up when nothing but faults came back for this `time`; before the first answer, after 30s at the latest")
	fs.Var(&f.every, "every", "ask at this fixed `interval`, in place of the library's cadence")
	fs.Var(&f.cost, "cost", "how much waiting `time` a request is worth (default 1s; 100ms without -url, where jobs are short)")
	fs.StringVar(&f.learn, "learn", "", "read from this `FILE` what earlier runs have learnt about how long jobs take, and write there what this one does")
	fs.Var(&f.started, "started", "when the jobs began: a `time` like 2026-01-02T15:04:05Z, or how long ago, like 90s; with -url only (default: not known)")
	fs.BoolVar(&f.json, "json", false, "write one JSON object a line; cmd/vt/README.md describes them")
	fs.BoolVar(&f.verbose, "v", false, "log each fault that is survived, not only the first in a row")
	fs.StringVar(&f.submit, "submit", "", "have the video at this `URL` translated, and wait for that; with -api heygen")
	fs.Var(&f.languages, "language", "translate the video into these `languages`: names, separated by commas; may be repeated")
	fs.StringVar(&f.again, "again", "", "translate a video again that was translated before, and be charged again: a `label` that is new for it")
	fs.UintVar(&f.atMost, "at-most", 0, "have this `number` of jobs under way at a time (default: any number)")
	fs.StringVar(&f.download, "download", "", "save the results in this `folder`; with -api heygen")
	fs.StringVar(&f.state, "state", "", "keep in this `FILE` what was submitted, so that the same command goes on after it was killed; with -submit")
	f.sim.addFlags(fs, "; where the backend is simulated")
	return fs
}

func (e *env) wait(ctx context.Context, args []string) int {
	f := &waitFlags{api: apiFlag{plainAPI}, outage: span(5 * time.Minute)}
	f.sim.seed = demoSeed
	_ = f.sim.duration.Set(demoDuration)
	flags := f.set()
	ids, code, ok := e.parse(flags, waitSynopsis, args)
	if !ok {
		return code
	}
	f.given = given(flags)
	if err := f.check(ids, e.getenv); err != nil {
		return e.errorf("wait: %v", err)
	}
	return e.waitFor(ctx, f, ids)
}

// check refuses flags that contradict each other and fills in what follows from them.
func (f *waitFlags) check(ids []string, getenv func(string) string) error {
	if err := f.checkBackend(ids, getenv); err != nil {
		return err
	}
	if err := f.checkSubmit(ids); err != nil {
		return err
	}
	if f.url == "" && f.given["started"] {
		return errors.New("-started is when the jobs of a real backend began; without -url they begin now")
	}
	if f.every > 0 && (f.given["cost"] || f.given["learn"]) {
		return errors.New("-every polls at a fixed interval, so -cost and -learn have no use")
	}
	f.demo = f.isDemo(ids)
	switch {
	case f.cost > 0:
	case f.url == "":
		f.cost = span(demoCost)
	default:
		f.cost = span(time.Second)
	}
	if f.url == "" && !f.given["fault"] {
		_ = f.sim.faults.Set(demoFaults)
	}
	return nil
}

// isDemo reports whether the jobs, their backend and the cadence are all left to vt.
func (f *waitFlags) isDemo(ids []string) bool {
	for _, name := range simulationFlags {
		if name != "seed" && f.given[name] {
			return false
		}
	}
	return f.url == "" && f.submit == "" && len(ids) == 0 && f.every == 0 && f.cost == 0 && f.learn == ""
}

func (f *waitFlags) checkBackend(ids []string, getenv func(string) string) error {
	if name := misplaced(f.given, f.api.api, "listen", "submit", "language", "download"); name != "" {
		return fmt.Errorf("-%s is for -api heygen", name)
	}
	if f.api.base != "" {
		switch {
		case f.url == "" && (len(ids) > 0 || f.submit != ""):
			f.url, f.ofJobs = f.api.base, true
		case f.url != "" && len(ids) == 0 && f.submit == "":
			return fmt.Errorf("-api %s with -url waits for the jobs that are named after it; without -url and jobs it submits some to a simulated backend", f.api.name)
		}
	}
	if err := f.checkSimulation(); err != nil {
		return err
	}
	if f.api.needsKey(f.url) && strings.TrimSpace(getenv(f.api.keyVar)) == "" {
		return fmt.Errorf("%s refuses requests without a key: %w", f.api.host, unset(f.api.keyVar, "the key"))
	}
	if f.listen != "" && f.url != "" && getenv(heygenSecretVar) == "" {
		return fmt.Errorf("-listen: %w", unset(heygenSecretVar, whatSecret))
	}
	return nil
}

// checkSubmit refuses what does not go with a submission, or without one.
func (f *waitFlags) checkSubmit(ids []string) error {
	if f.submit == "" {
		for _, name := range []string{"submit", "language", "again", "state"} {
			if f.given[name] {
				return fmt.Errorf("-%s goes with -submit URL, the video to translate", name)
			}
		}
		return nil
	}
	switch u, err := url.Parse(f.submit); {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("-submit %q is not a URL like https://example.com/film.mp4", f.submit)
	case len(f.languages) == 0:
		return errors.New("-submit needs -language, the languages to translate into")
	case len(ids) > 0:
		return fmt.Errorf("%q: -submit makes the jobs to wait for, so none can be named", ids[0])
	case f.given["started"]:
		return errors.New("-started is when jobs began that were submitted elsewhere; those of -submit begin now")
	}
	return nil
}

// checkSimulation refuses flags that describe the simulated backend where it is another.
func (f *waitFlags) checkSimulation() error {
	for _, name := range simulationFlags {
		switch {
		case f.url == "" || !f.given[name]:
		case f.ofJobs:
			return fmt.Errorf("-%s describes the simulated backend, and jobs with -api %s are those of %s", name, f.api.name, f.url)
		default:
			return fmt.Errorf("-%s describes the simulated backend, and -url names another", name)
		}
	}
	return nil
}
