package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/vtclient/vtclient"
)

// An output shows what happens. The board calls it from one goroutine at a time.
type output interface {
	note(n note)
	progress(j *job)
	fault(f fault)
	hinted(j *job)
	done(j *job)
	draw(b *board)
	summary(b *board, s *summary)
}

// A note is something that happens to no job in particular.
type note struct {
	event string // its name in JSON
	text  string // not escaped
	jobs  []string
	url   string
	err   string
	bytes int64 // of a file

	language, job, path string
}

// A fault is one that a wait has survived; several jobs may have met it.
type fault struct {
	job    *job // the first of them
	others int
	age    time.Duration // of that job
	err    error
	text   string // not escaped
	kind   string // the same for the same fault of other jobs; not escaped
}

// A board holds the state of all jobs of a wait.
type board struct {
	out      output
	verbose  bool // each fault is shown, not only the first in a row
	began    time.Time
	started  time.Time  // the jobs; zero: not known
	forecast forecaster // nil: the cadence does not learn
	// finishedAt returns when a job was really over; nil where that is not known.
	finishedAt func(id string) time.Time
	// result finds the result's URL in an answer; nil: it is not shown.
	result  func(body []byte) string
	secrets secrets
	words   *strings.Replacer // the library's words → the command's
	hooks   *hooks            // nil: no webhooks are received
	page    *timeline         // nil: there is none
	demo    *demo             // nil: the wait is no demonstration
	named   int               // jobs that are known from the start

	mu        sync.Mutex
	jobs      []*job
	byID      map[string]*job
	open      int  // jobs that are waited for
	answered  bool // some answer has come
	lastFault string
	givesUp   time.Time // at the latest, for want of the first answer; zero: no fault has given it
	requests  int       // each once, however many jobs it asks for
	faults    int       // likewise, those that were survived
	unshown   []*fault
	shown     map[string]bool // the kinds of faults since the last answer
	transfers transfers       // results on their way, and those that have arrived
	finalized bool            // the summary is written
}

func newBoard(out output, verbose bool) *board {
	return &board{out: out, verbose: verbose, began: time.Now(), byID: make(map[string]*job), shown: make(map[string]bool), words: strings.NewReplacer()}
}

// add adds a job, unless it is there already.
func (b *board) add(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byID[id] != nil {
		return false
	}
	j := &job{id: id, name: clean(id), began: time.Now(), forecast: b.forecast}
	if j.started = j.began; !b.started.IsZero() && b.started.Before(j.began) {
		j.started = b.started
	}
	if id == "" {
		j.name = "(no id)"
	}
	b.jobs = append(b.jobs, j)
	b.byID[id] = j
	b.open++
	b.page.job(id, j.started)
	return true
}

// trace counts the requests, as they go over the wire.
func (b *board) trace() vtclient.Trace {
	on := func(f func(vtclient.TraceInfo)) func(context.Context, vtclient.TraceInfo) {
		return func(_ context.Context, info vtclient.TraceInfo) {
			b.mu.Lock()
			defer b.mu.Unlock()
			f(info)
		}
	}
	return vtclient.Trace{
		Sent: on(func(info vtclient.TraceInfo) { b.count(info, 1) }),
		Answered: on(func(info vtclient.TraceInfo) {
			b.count(info, max(0, info.Wire-1)) // what net/http repeated by itself
			if j := b.byID[info.JobID]; j != nil {
				j.faulty = info.Err != nil
			}
		}),
		Refused: on(func(info vtclient.TraceInfo) {
			if j := b.byID[info.JobID]; j != nil {
				j.lastFault = "paused: " + b.causeText(j.id, info.Err)
			}
		}),
	}
}

// count counts n requests, traced under one job's id.
func (b *board) count(info vtclient.TraceInfo, n int) {
	b.requests += n
	if j := b.byID[info.JobID]; j != nil {
		j.sent += n
	}
	b.page.requests(b.requests)
}

func (b *board) note(n note) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out.note(n)
}

func (b *board) progress(st vtclient.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.byID[st.JobID]
	b.showFaults(j)
	b.observe(j, st)
	if !st.State.Terminal() { // else done follows
		j.answers++
		b.page.mark(j.id, st.CheckedAt, markPending)
		b.out.progress(j)
	}
}

func (b *board) observe(j *job, st vtclient.Status) {
	if st.State != "" {
		b.answered = true
		clear(b.shown)
	}
	j.observe(st)
	j.crowded = b.crowded()
}

// crowded reports whether there are too many jobs for a line about each answer.
func (b *board) crowded() bool { return max(len(b.jobs), b.named) > manyJobs }

func (b *board) fault(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := details(err)
	j := b.byID[d.JobID]
	if j == nil {
		return
	}
	j.faults++
	j.inARow++
	if j.faulty {
		j.faulty = false
		b.faults++
	}
	j.lastFault = b.causeText(j.id, err)
	b.lastFault = j.lastFault
	if at := time.Now().Add(d.GivesUpIn); d.GivesUpIn > 0 && at.After(b.givesUp) {
		b.givesUp = at
	}
	b.page.mark(j.id, time.Now(), markOf(d.StatusCode))
	f := &fault{job: j, age: j.age(), err: err, text: j.lastFault, kind: b.words.Replace(faultKind(err))}
	switch {
	case b.verbose:
		b.out.fault(*f)
	case j.inARow == 1 && !b.shown[f.kind]:
		b.unshown = append(b.unshown, f)
	}
}

// showFaults shows the faults that wait to be shown, those that several jobs have met as
// one. With a job, only if that one is among them.
func (b *board) showFaults(j *job) {
	mine := j == nil
	for _, f := range b.unshown {
		mine = mine || f.job == j
	}
	if !mine {
		return
	}
	first := make(map[string]*fault)
	for _, f := range b.unshown {
		if same := first[f.kind]; same != nil {
			same.others++
			continue
		}
		first[f.kind] = f
	}
	for _, f := range b.unshown {
		if first[f.kind] == f {
			b.out.fault(*f)
			b.shown[f.kind] = true
		}
	}
	b.unshown = nil
}

func (b *board) done(st vtclient.Status, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.byID[st.JobID]
	if j == nil {
		return
	}
	b.showFaults(j)
	b.observe(j, st)
	j.ended, j.err, j.outcome = time.Now(), err, outcomeOf(err)
	b.open--
	if err != nil {
		j.cause = b.causeText(j.id, err)
	}
	over := j.outcome == completed || j.outcome == failed
	if over && !st.ResultMissing { // else it may be an earlier answer once more
		j.answers++
	}
	if j.outcome == completed {
		j.status.Body = b.secrets.hideInJSON(j.status.Body)
		if b.result != nil {
			j.result = b.result(j.status.Body)
		}
	}
	if over {
		earliest, exact := b.overSince(j)
		b.page.end(j.id, earliest, exact, j.outcome == failed)
		b.page.mark(j.id, j.status.CheckedAt, markEnded)
	}
	b.out.done(j)
	j.status.Body = nil // up to a mebibyte for each of the jobs, and of no more use
}

// overSince returns the time at which a job was over: the real one, or else the last
// answer before, which is the earliest it can have been. It is zero where there is none.
func (b *board) overSince(j *job) (at time.Time, exact bool) {
	if b.finishedAt != nil {
		return b.finishedAt(j.id), true
	}
	return j.lastPending, false
}

// frame is the time from one drawing to the next. What happens in between is
// drawn together: with thousands of jobs a drawing for each answer would be
// most of the work.
const frame = 200 * time.Millisecond

// keepDrawing draws once a frame until stop is called.
func (b *board) keepDrawing() (stop func()) {
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(frame)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				b.mu.Lock()
				b.showFaults(nil)
				b.out.draw(b)
				b.mu.Unlock()
			}
		}
	}()
	return func() {
		close(quit)
		<-gone
	}
}

// finish writes the summary and returns the exit code.
func (b *board) finish() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.showFaults(nil)
	s := b.sum()
	b.finalized = true
	b.out.summary(b, s)
	switch {
	case s.outcomes[interrupted] > 0:
		return exitInterrupted
	case s.outcomes[errored] > 0:
		return exitError
	case s.outcomes[timeout] > 0:
		return exitStillRunning
	case s.outcomes[failed] > 0:
		return exitJobFailed
	}
	return exitOK
}

// status is one line about all jobs: "37 of 500 done, about 4m0s to go".
func (b *board) status() string {
	line := fmt.Sprintf("%d of %d done", len(b.jobs)-b.open, len(b.jobs))
	for i := len(b.jobs) - 1; i >= 0; i-- {
		j := b.jobs[i]
		if !j.ended.IsZero() {
			continue
		}
		if left, ok := j.lastOf(b.open); ok { // the youngest of them
			line += ", about " + roughly(left) + " to go"
		}
		break
	}
	return line
}

// noAnswer is a line for a wait whose requests have had no answer so far; "" for others.
func (b *board) noAnswer() string {
	if b.answered || b.requests == 0 {
		return ""
	}
	left := time.Until(b.givesUp)
	if b.lastFault == "" || left <= 0 {
		return "nothing reached yet, for " + seconds(time.Since(b.began)) + prefixed(": ", b.lastFault)
	}
	return "nothing reached yet; giving up in " + seconds(left) + ": " + b.lastFault
}

// errorText is an error's text in the command's words.
func (b *board) errorText(err error) string { return b.words.Replace(err.Error()) }

// causeText is an error's text without the words that a line about the job repeats.
func (b *board) causeText(id string, err error) string {
	text := strings.TrimPrefix(b.errorText(err), "vtclient: ")
	text = strings.TrimPrefix(text, fmt.Sprintf("job %q: ", id))
	return strings.TrimPrefix(text, "no request made: ")
}
