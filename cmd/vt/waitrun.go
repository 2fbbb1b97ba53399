package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// A waitRun is one run of vt wait.
type waitRun struct {
	*env
	f   *waitFlags
	ids []string
	key string

	board   *board
	sim     *simserver.Server // nil: the backend is a real one
	client  *vtclient.Client
	cadence *vtclient.Adaptive // nil: the interval is fixed
	learnt  *learntFile        // nil: what is learnt is not kept

	submitter *submitter  // nil: the jobs are named
	downloads *downloader // nil: results are not saved
	cleanup   []func()
}

// waitFor waits for the jobs and reports on them as the flags ask.
func (e *env) waitFor(ctx context.Context, f *waitFlags, ids []string) int {
	w := &waitRun{env: e, f: f, ids: ids, key: e.getenv(f.api.keyVar)}
	defer func() {
		for _, f := range slices.Backward(w.cleanup) {
			f()
		}
	}()
	if err := w.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return exitInterrupted
		}
		return e.errorf("wait: %s", w.board.secrets.hide(w.board.errorText(err)))
	}
	code := w.run(ctx)
	if w.learnt != nil {
		if err := w.learnt.save(w.cadence); err != nil {
			return e.errorf("wait: -learn: %v", err)
		}
	}
	return code
}

// prepare makes everything ready for the first request.
func (w *waitRun) prepare(ctx context.Context) (err error) {
	w.newBoard()
	url, opts := w.f.url, []vtclient.Option(nil)
	switch {
	case url == "":
		if opts, err = w.simulateBackend(); err != nil {
			return err
		}
		url = w.sim.URL()
	case w.web != nil:
		opts = append(opts, vtclient.WithHTTPClient(w.web))
	}
	if opts, err = w.options(ctx, opts); err != nil {
		return err
	}
	if w.client, err = vtclient.New(url, opts...); err != nil {
		return err
	}
	w.cleanup = append(w.cleanup, w.client.CloseIdleConnections)
	if err := w.prepareFiles(); err != nil {
		return err
	}
	if w.f.page != "" {
		if err := w.servePage(ctx); err != nil {
			return err
		}
	}
	if err := w.receiveWebhooks(ctx); err != nil {
		return fmt.Errorf("webhooks: %w", err)
	}
	switch {
	case len(w.ids) > 0 || w.submitter != nil:
		return nil
	case w.sim != nil:
		return w.createJobs(ctx)
	}
	w.ids = []string{""}
	return nil
}

// options adds those of a client that follow from the flags.
func (w *waitRun) options(ctx context.Context, opts []vtclient.Option) ([]vtclient.Option, error) {
	opts = append(opts, vtclient.WithEndpoint(w.f.api.endpoint), vtclient.WithOutageTolerance(time.Duration(w.f.outage)), vtclient.WithTrace(w.board.trace()))
	if w.key != "" {
		opts = append(opts, vtclient.WithHeader(w.f.api.header(w.key)))
	}
	if w.f.download != "" {
		opts = append(opts, vtclient.WithCache(nil)) // or a fresh address would be an old one
	}
	if w.f.submit != "" { // the submitter tries again itself, and shows each try
		opts = append(opts, vtclient.WithRetry(vtclient.Exponential{Max: 30 * time.Second, Jitter: 0.5, Limit: 1}))
	}
	polling, err := w.polling(ctx)
	return append(opts, polling...), err
}

// prepareFiles opens what is written while the jobs are waited for.
func (w *waitRun) prepareFiles() error {
	state, err := openState(w.f.state)
	if err != nil {
		return fmt.Errorf("-state: %w", err)
	}
	if w.f.submit != "" {
		w.submitter = &submitter{w: w, state: state}
	}
	if w.f.download != "" {
		if w.downloads, err = newDownloader(w, w.f.download, state); err != nil {
			return fmt.Errorf("-download: %w", err)
		}
	}
	return nil
}

func (w *waitRun) newBoard() {
	words := w.f.api.commandWords()
	b := newBoard(w.output(words), w.f.verbose || w.f.json)
	b.started, b.result, b.words = w.f.started.Time, w.f.api.result, words
	b.secrets = b.secrets.with(w.key).with(w.getenv(heygenSecretVar))
	w.board = b
}

// output picks how to report.
func (w *waitRun) output(words *strings.Replacer) output {
	switch {
	case w.f.json:
		return &jsonOutput{w: w.stdout, words: words}
	case isTerminal(w.stdout) && w.getenv("TERM") != "dumb":
		return &terminal{w: w.stdout, color: w.getenv("NO_COLOR") == "", size: func() (int, int) { return screenSize(w.stdout) }}
	}
	return &plain{w: w.stdout}
}

func (w *waitRun) simulateBackend() ([]vtclient.Option, error) {
	simOpts, err := w.f.sim.options(w.key)
	if err != nil {
		return nil, err
	}
	sim, opts := w.simulate(simOpts...)
	w.sim = sim
	w.cleanup = append(w.cleanup, sim.Close)
	w.board.finishedAt = func(id string) time.Time {
		j, ok := sim.Job(id)
		switch {
		case !ok:
			return time.Time{}
		case j.Fail:
			return j.Started.Add(j.Duration)
		}
		return j.Started.Add(j.Duration + time.Duration(w.f.sim.lateResult)) // before that there is no result
	}
	return opts, nil
}

// polling returns the options for when to ask.
func (w *waitRun) polling(ctx context.Context) ([]vtclient.Option, error) {
	if w.f.every > 0 {
		return []vtclient.Option{vtclient.WithPolling(vtclient.Constant(w.f.every))}, nil
	}
	w.cadence = vtclient.NewAdaptive(time.Duration(w.f.cost))
	w.board.forecast = w.cadence.Explain
	opts := []vtclient.Option{vtclient.WithPolling(w.cadence)}
	if w.f.learn != "" {
		file, content, err := openLearnt(w.f.learn)
		if err == nil {
			err = file.teach(w.cadence, content)
		}
		if errors.Is(err, vtclient.ErrStateIncomplete) { // the rest of it serves
			w.errorf("wait: -learn: %v", err)
			err = nil
		}
		if err != nil {
			return nil, fmt.Errorf("-learn: %w", err)
		}
		w.learnt = file
	}
	if w.f.demo {
		d := &demo{cost: time.Duration(w.f.cost), lessons: demoLessons, duration: func(id string) time.Duration {
			j, _ := w.sim.Job(id)
			return j.Duration
		}}
		d.teach(ctx, w.cadence, w.f.sim.duration, w.f.sim.seed)
		if w.f.api.api == plainAPI { // webhooks are no matter of polling well
			w.board.demo = d
		}
		w.board.note(note{event: "demo", text: fmt.Sprintf("a simulated backend, 45 to 1 in small; the cadence has learnt from %d such jobs", d.lessons)})
		opts = append(opts, vtclient.WithRetry(demoRetry))
	}
	return opts, nil
}

// createJobs creates the jobs of a wait for the simulated backend that names none.
func (w *waitRun) createJobs(ctx context.Context) error {
	if w.f.api.api == plainAPI {
		for range demoJobs {
			w.ids = append(w.ids, w.sim.Create(simserver.Job{}))
		}
		return nil
	}
	jobs, err := w.client.Submit(ctx, "", vtclient.HeyGenRequest{VideoURL: "https://example.com/film.mp4", Languages: demoLanguages})
	if err != nil {
		return err
	}
	for _, j := range jobs {
		w.ids = append(w.ids, j.ID)
	}
	w.board.note(note{event: "submitted", text: "submitted a video, POST " + submitPath + ": jobs " + strings.Join(w.ids, ", "), jobs: w.ids})
	return nil
}

// demoLanguages are what the demonstration has its video translated into, a job each.
var demoLanguages = []string{"German", "French", "Japanese", "Spanish"}

// run waits for the jobs and returns the exit code.
func (w *waitRun) run(ctx context.Context) int {
	interrupted := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if w.f.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(w.f.timeout))
		defer cancel()
	}
	if fd, ok := terminalOf(w.board.out); ok && !slices.Contains(w.ids, "-") {
		stopEcho(fd)
		defer restoreEcho()
	}
	read := make(chan error, 1) // gets a value once all ids are known
	w.board.named = len(w.ids) + len(w.f.languages)
	stop := w.board.keepDrawing()
	w.waitAll(ctx, func(yield func(vtclient.Job) bool) {
		if all, err := w.jobs(ctx, yield); all || err != nil {
			if read <- err; err != nil {
				cancel()
			}
		}
	})
	stop()
	code := w.board.finish()
	if w.downloads != nil && w.downloads.failed.Load() > 0 && code != exitInterrupted {
		code = exitError
	}
	select {
	case err := <-read:
		if err != nil {
			return w.errorf("wait: %v", err)
		}
	default: // the wait ended before standard input did
		code = max(code, exitStillRunning)
	}
	if code != exitOK && interrupted.Err() != nil {
		return exitInterrupted
	}
	return code
}

// jobs yields the jobs. It reports whether those were all.
func (w *waitRun) jobs(ctx context.Context, yield func(vtclient.Job) bool) (all bool, err error) {
	if w.submitter != nil {
		return w.submitter.jobs(ctx, yield), nil
	}
	for id := range jobIDs(w.ids, w.stdin, &err) {
		if w.board.add(id) {
			w.createJob(id)
			if !yield(vtclient.Job{ID: id, StartedAt: w.startOf(id)}) {
				return false, nil
			}
		}
	}
	return true, err
}

// waitAll waits for the jobs, and saves their results if that is asked for.
func (w *waitRun) waitAll(ctx context.Context, jobs iter.Seq[vtclient.Job]) {
	for st, err := range w.client.WaitAll(ctx, jobs, w.waitOptions()...) {
		body := st.Body // done lets go of it
		w.board.done(st, err)
		if w.downloads != nil && err == nil {
			w.downloads.start(ctx, st.JobID, w.f.api.result(body))
		}
	}
	if w.downloads != nil {
		w.downloads.wait()
	}
}

func (w *waitRun) waitOptions() []vtclient.WaitOption {
	opts := []vtclient.WaitOption{vtclient.OnProgress(w.board.progress), vtclient.OnError(w.board.fault)}
	if w.f.atMost > 0 {
		opts = append(opts, vtclient.AtMost(int(w.f.atMost)))
	}
	return opts
}

// createJob creates a job of that id in the simulated backend, unless it is there.
func (w *waitRun) createJob(id string) {
	if w.sim == nil {
		return
	}
	if _, ok := w.sim.Job(id); !ok {
		w.sim.Create(simserver.Job{ID: id})
	}
}

// startOf is when a job began, where that is known.
func (w *waitRun) startOf(id string) time.Time {
	if w.f.demo {
		j, _ := w.sim.Job(id)
		return j.Started
	}
	return w.f.started.Time
}

// terminalOf returns the descriptor of the terminal that an output draws on.
func terminalOf(out output) (fd uintptr, ok bool) {
	t, ok := out.(*terminal)
	if !ok {
		return 0, false
	}
	c, ok := t.w.(*checkedWriter)
	if !ok {
		return 0, false
	}
	f, ok := c.w.(*os.File)
	if !ok {
		return 0, false
	}
	return f.Fd(), true
}
