package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/vtclient/vtclient"
)

// A job is what is known about one job that is waited for.
type job struct {
	id       string
	name     string // the id, fit to be shown
	state    vtclient.State
	progress float64
	sent     int    // requests that went out in its name; see requests
	answers  int    // that told of it
	faults   int    // all
	faulty   bool   // a request in its name went wrong, and nothing is said of that yet
	inARow   int    // faults since the last answer
	trouble  string // why there is no answer at the moment; not cleaned

	explain func(vtclient.Attempt) vtclient.Forecast // nil: the cadence does not learn
	message string                                   // the backend's; not cleaned
	bare    bool                                     // completed, and its result is not there
	told    bool                                     // a webhook has said that it is over

	began       time.Time // the wait
	started     time.Time // the job, where that is known; else the wait
	lastPending time.Time // the last answer that said so
	ended       time.Time // the wait; zero: goes on
	outcome     outcome
	status      vtclient.Status // the last
	result      string          // the result's URL; not cleaned
	err         error
}

// requests is how many requests have asked for the job. A request that asks for several
// jobs at once goes out in the name of one of them; the others are known by what came
// back for them.
func (j *job) requests() int { return max(j.sent, j.answers+j.faults) }

// An outcome is how the wait for a job ended.
type outcome string

const (
	completed   outcome = "completed"
	failed      outcome = "failed"
	timeout     outcome = "timeout"
	interrupted outcome = "interrupted"
	errored     outcome = "error"
)

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return completed
	case errors.Is(err, vtclient.ErrJobFailed):
		return failed
	}
	// By the cause alone: the last fault may be a timeout, too.
	var w *vtclient.WaitError
	if errors.As(err, &w) {
		switch {
		case errors.Is(w.Cause, context.Canceled):
			return interrupted
		case errors.Is(w.Cause, context.DeadlineExceeded):
			return timeout
		}
	}
	return errored
}

// age is how long the job has been waited for.
func (j *job) age() time.Duration {
	if !j.ended.IsZero() {
		return j.ended.Sub(j.began)
	}
	return time.Since(j.began)
}

// estimate says how much longer a job will take, by what the cadence has learnt
// from others; "" if that is nothing.
func (j *job) estimate() string {
	if j.explain == nil || j.state != vtclient.StatePending || j.bare {
		return ""
	}
	f := j.explain(vtclient.Attempt{Number: j.requests(), Elapsed: time.Since(j.started), PendingAt: j.lastPending.Sub(j.started)})
	switch {
	case f.Jobs < 3: // too few to tell
		return ""
	case f.P90 <= 0:
		return "longer than others"
	case f.Median <= 0:
		return "any moment, 9 of 10 within " + seconds(f.P90)
	}
	return fmt.Sprintf("about %s to go, 9 of 10 within %s", seconds(f.Median), seconds(f.P90))
}

// An output shows what happens. The board calls it from one goroutine at a time.
type output interface {
	note(n note)
	progress(j *job)
	fault(j *job, err error, text string)
	told(j *job)
	done(j *job)
	draw(b *board)
	summary(b *board, s summary)
}

// A note is something that happens to no job in particular.
type note struct {
	event string // its name in JSON
	text  string // not cleaned
	jobs  []string
	url   string
	err   string
}

// A board holds what is known about all jobs of a wait.
type board struct {
	out     output
	verbose bool
	began   time.Time
	started time.Time // the jobs; zero: not known
	// explain says what the cadence expects of a job, if it learns.
	explain func(vtclient.Attempt) vtclient.Forecast
	// finishedAt says when a job was really over, if anybody knows.
	finishedAt func(id string) time.Time
	// result finds the result's URL in an answer; nil: it is not shown.
	result  func(body []byte) string
	secrets secrets
	hooks   *hooks // nil: no webhooks are received

	mu       sync.Mutex
	jobs     []*job
	byID     map[string]*job
	requests int  // each once, however many jobs it asks for
	faults   int  // likewise, those that were survived
	over     bool // the summary is written
}

func newBoard(out output, verbose bool) *board {
	return &board{out: out, verbose: verbose, began: time.Now(), byID: make(map[string]*job)}
}

// add adds a job, unless it is there already.
func (b *board) add(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byID[id] != nil {
		return false
	}
	j := &job{id: id, name: clean(id), began: time.Now(), explain: b.explain}
	if j.started = j.began; !b.started.IsZero() && b.started.Before(j.began) {
		j.started = b.started
	}
	if id == "" {
		j.name = "(no id)"
	}
	b.jobs = append(b.jobs, j)
	b.byID[id] = j
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
				j.trouble = "paused: " + causeText(j.id, info.Err)
			}
		}),
	}
}

// count counts n requests, for the job in whose name they go out.
func (b *board) count(info vtclient.TraceInfo, n int) {
	b.requests += n
	if j := b.byID[info.JobID]; j != nil {
		j.sent += n
	}
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
	j.see(st)
	if !st.State.Terminal() { // else done follows
		j.answers++
		b.out.progress(j)
	}
}

// see takes over what an answer says.
func (j *job) see(st vtclient.Status) {
	if st.State == "" {
		return
	}
	j.status, j.state, j.message, j.inARow, j.trouble, j.bare = st, st.State, st.Message, 0, "", st.ResultMissing
	switch st.State {
	case vtclient.StatePending:
		j.progress, j.lastPending = st.Progress, st.CheckedAt
	case vtclient.StateCompleted:
		j.progress = 1
	}
}

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
	j.trouble = causeText(j.id, err)
	if b.verbose || j.inARow == 1 {
		b.out.fault(j, err, j.trouble)
	}
}

func (b *board) done(st vtclient.Status, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.byID[st.JobID]
	if j == nil {
		return
	}
	j.see(st)
	j.ended, j.err, j.outcome = time.Now(), err, outcomeOf(err)
	if (j.outcome == completed || j.outcome == failed) && !st.ResultMissing { // else it may be an earlier answer once more
		j.answers++
	}
	if j.outcome == completed {
		j.status.Body = b.secrets.hideInJSON(j.status.Body)
		if b.result != nil {
			j.result = b.result(j.status.Body)
		}
	}
	b.out.done(j)
	j.status.Body = nil // up to a mebibyte for each of the jobs, and of no more use
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
	s := b.sum()
	b.over = true
	b.out.summary(b, s)
	switch {
	case s.outcomes[interrupted] > 0:
		return exitInterrupted
	case s.outcomes[errored]+s.outcomes[timeout] > 0:
		return exitError
	case s.outcomes[failed] > 0:
		return exitJobFailed
	}
	return exitOK
}

// details returns what an error knows about the exchange that it comes from.
func details(err error) vtclient.Details {
	var (
		h *vtclient.HTTPError
		t *vtclient.TransportError
		d *vtclient.DecodeError
		s *vtclient.StateError
	)
	switch {
	case errors.As(err, &h):
		return h.Details
	case errors.As(err, &t):
		return t.Details
	case errors.As(err, &d):
		return d.Details
	case errors.As(err, &s):
		return s.Details
	}
	return vtclient.Details{}
}

// causeText is an error's text without the words that a line about the job
// says already.
func causeText(id string, err error) string {
	text := strings.TrimPrefix(err.Error(), "vtclient: ")
	text = strings.TrimPrefix(text, fmt.Sprintf("job %q: ", id))
	return strings.TrimPrefix(text, "no request made: ")
}

// A summary is what there is to say in the end.
type summary struct {
	outcomes map[outcome]int
	requests int
	faults   int
	elapsed  time.Duration

	hooks *webhookCounts // nil: none are received

	// How late the ends were noticed: exact where the backend's own time is
	// known, else at most, by the last answer before.
	exact           bool
	noticed         int // ends of which anything is known
	meanLate, worst time.Duration

	// What a loop with time.Sleep(loopSleep) would have done for the same
	// jobs: computed, and where nothing exact is known the least.
	loopRequests int
	loopLate     time.Duration // mean; if exact
}

// loopSleep is the pause of the loop that a wait is compared with.
const loopSleep = time.Second

func (b *board) sum() summary {
	s := summary{outcomes: make(map[outcome]int), elapsed: time.Since(b.began), exact: b.finishedAt != nil, requests: b.requests, faults: b.faults}
	if b.hooks != nil {
		s.hooks = &webhookCounts{Arrived: b.hooks.arrived, Refused: b.hooks.refused}
		if b.hooks.lost != nil {
			s.hooks.Lost = b.hooks.lost()
		}
	}
	var late, loopLate time.Duration
	for _, j := range b.jobs {
		s.outcomes[j.outcome]++
		if j.outcome != completed && j.outcome != failed {
			s.loopRequests += asked(j.age())
			continue
		}
		over := j.lastPending // at the earliest
		if s.exact {
			over = b.finishedAt(j.id)
		}
		if over.IsZero() { // never seen pending
			s.loopRequests++
			continue
		}
		d := max(0, j.status.CheckedAt.Sub(over))
		s.noticed++
		late, s.worst = late+d, max(s.worst, d)
		took := max(0, over.Sub(j.began))
		if !s.exact {
			s.loopRequests += asked(took) + 1
			continue
		}
		polls := int((took + loopSleep - 1) / loopSleep) // the first at 0 comes on top
		s.loopRequests += polls + 1
		loopLate += time.Duration(polls)*loopSleep - took
	}
	if s.noticed > 0 {
		s.meanLate, s.loopLate = late/time.Duration(s.noticed), loopLate/time.Duration(s.noticed)
	}
	return s
}

// asked is how often the loop asks up to and including the age t.
func asked(t time.Duration) int { return int(t/loopSleep) + 1 }

func (s *summary) text() string {
	var parts []string
	jobs := 0
	for _, o := range []outcome{completed, failed, timeout, errored, interrupted} {
		if n := s.outcomes[o]; n > 0 {
			jobs += n
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	if len(parts) == 0 {
		return "no jobs"
	}
	line := fmt.Sprintf("%s in %s: %s; %s", count(jobs, "job"), seconds(s.elapsed), strings.Join(parts, ", "), count(s.requests, "request"))
	if s.faults > 0 {
		line += fmt.Sprintf(", %s survived", count(s.faults, "fault"))
	}
	if s.hooks != nil {
		line += "; " + s.hooks.text()
	}
	if s.noticed > 0 {
		atMost := ""
		if !s.exact {
			atMost = "at most "
		}
		line += fmt.Sprintf("; ends noticed %s%s late on average, %s at worst", atMost, seconds(s.meanLate), seconds(s.worst))
	}
	line += ". A loop with time.Sleep(1s) would have made "
	if !s.exact {
		line += "at least "
	}
	line += count(s.loopRequests, "request")
	if s.exact && s.noticed > 0 {
		line += fmt.Sprintf(" and been %s late", seconds(s.loopLate))
	}
	return line + " (computed, not run)."
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// seconds is a duration to be read by people.
func seconds(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d.Round(100*time.Millisecond) < time.Minute: // or it would say 60.0s
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}
