package main

import (
	"encoding/json"
	"io"
	"math"
	"time"

	"github.com/vtclient/vtclient"
)

// A jsonOutput writes one JSON object a line. event.schema.json describes them.
type jsonOutput struct {
	w     io.Writer
	words interface{ Replace(string) string }
	moved time.Time // when the last line about downloads was written
}

// An event is a line about one job. Times are in seconds.
type event struct {
	Event    string         `json:"event"` // progress, webhook, fault, done
	Time     time.Time      `json:"time"`
	Job      string         `json:"job"`
	Language string         `json:"language,omitempty"` // with -submit
	State    vtclient.State `json:"state"`              // as last seen, a failed one "failed"; "" before the first answer
	Progress float64        `json:"progress"`
	Requests int            `json:"requests"`
	Elapsed  float64        `json:"elapsed"`
	// Outcome is completed, failed, timeout, interrupted or error; for done.
	Outcome outcome `json:"outcome,omitempty"`
	// PendingAt is the age at which the job was last known to be pending, and DoneBy
	// that at which it was known to be over; for done.
	PendingAt  float64         `json:"pending_at,omitempty"`
	DoneBy     float64         `json:"done_by,omitempty"`
	Message    string          `json:"message,omitempty"`
	Error      string          `json:"error,omitempty"`
	StatusCode int             `json:"status_code,omitempty"` // for fault
	RetryIn    float64         `json:"retry_in,omitempty"`    // for fault
	Result     json.RawMessage `json:"result,omitempty"`      // the answer about a completed job
	ResultURL  string          `json:"result_url,omitempty"`  // the video's address in it; with -api heygen
	// ResultMissing: the backend calls the job completed, and the result is not there.
	ResultMissing bool `json:"result_missing,omitempty"`
}

// A noteEvent is a line about no job in particular.
type noteEvent struct {
	Event string    `json:"event"` // demo, listening, page, submitted, submitting, saved, not_saved, refused
	Time  time.Time `json:"time"`
	Text  string    `json:"text,omitempty"`
	Jobs  []string  `json:"jobs,omitempty"`
	URL   string    `json:"url,omitempty"`
	Error string    `json:"error,omitempty"`

	Language string `json:"language,omitempty"` // for submitted and submitting
	Job      string `json:"job,omitempty"`      // for saved and not_saved, as the others
	Path     string `json:"path,omitempty"`
	Bytes    int64  `json:"bytes,omitempty"`
}

// A downloadEvent is how far results are on their way into files.
type downloadEvent struct {
	Event string    `json:"event"` // downloading
	Time  time.Time `json:"time"`
	Files int       `json:"files"`
	Bytes int64     `json:"bytes"`
	Size  int64     `json:"size"` // of those files whose size is known
}

// A summaryEvent is the last line.
type summaryEvent struct {
	Event     string          `json:"event"` // summary
	Time      time.Time       `json:"time"`
	Jobs      int             `json:"jobs"`
	Outcomes  map[outcome]int `json:"outcomes"`
	Running   []string        `json:"still_running,omitempty"`
	Requests  int             `json:"requests"`
	Faults    int             `json:"faults"`
	Elapsed   float64         `json:"elapsed"`
	LateMean  float64         `json:"late_mean"`  // how late ends were noticed
	LateWorst float64         `json:"late_worst"` // the same
	LateExact bool            `json:"late_exact"` // false: at most so late

	Webhooks   *webhookCounts `json:"webhooks,omitempty"`   // where they are received
	Comparison *comparison    `json:"comparison,omitempty"` // in a demonstration
}

func (o *jsonOutput) write(v any) { o.w.Write(jsonLine(v)) }

func (o *jsonOutput) event(name string, j *job) event {
	state := j.state
	if state == vtclient.StateFailed {
		state = vtclient.State(failed)
	}
	return event{
		Event: name, Time: time.Now(), Job: j.id, Language: j.language, State: state, Progress: j.progress,
		Requests: j.requests(), Elapsed: milli(j.age()), Message: j.message, ResultMissing: j.resultMissing,
	}
}

func (o *jsonOutput) note(n note) {
	ev := noteEvent{Event: n.event, Time: time.Now(), Jobs: n.jobs, URL: n.url, Error: n.err, Language: n.language, Job: n.job, Path: n.path, Bytes: n.bytes}
	if n.event == "demo" {
		ev.Text = n.text
	}
	o.write(ev)
}

func (o *jsonOutput) hinted(j *job) { o.write(o.event("webhook", j)) }

func (o *jsonOutput) progress(j *job) { o.write(o.event("progress", j)) }

func (o *jsonOutput) fault(f fault) {
	ev, d := o.event("fault", f.job), details(f.err)
	ev.Error, ev.StatusCode, ev.RetryIn = o.words.Replace(f.err.Error()), d.StatusCode, milli(d.Next)
	o.write(ev)
}

func (o *jsonOutput) done(j *job) {
	ev := o.event("done", j)
	ev.Outcome = j.outcome
	if j.err != nil {
		ev.Error, ev.StatusCode = o.words.Replace(j.err.Error()), details(j.err).StatusCode
	} else if json.Valid(j.status.Body) {
		ev.Result = j.status.Body
	}
	if !j.lastPending.IsZero() {
		ev.PendingAt = milli(max(0, j.lastPending.Sub(j.started)))
	}
	if j.outcome == completed || j.outcome == failed {
		ev.DoneBy = milli(max(0, j.status.CheckedAt.Sub(j.started)))
	}
	ev.ResultURL = j.result
	o.write(ev)
}

// draw writes a line about downloads once a second.
func (o *jsonOutput) draw(b *board) {
	moving := b.transfers.moving()
	if len(moving) == 0 || time.Since(o.moved) < time.Second {
		return
	}
	o.moved = time.Now()
	ev := downloadEvent{Event: "downloading", Time: o.moved, Files: len(moving)}
	ev.Bytes, ev.Size = moving.sum()
	o.write(ev)
}

func (o *jsonOutput) summary(b *board, s *summary) {
	o.write(summaryEvent{
		Event: "summary", Time: time.Now(), Jobs: len(b.jobs), Outcomes: s.outcomes, Running: s.running,
		Requests: s.requests, Faults: s.faults, Elapsed: milli(s.elapsed),
		LateMean: milli(s.meanLate), LateWorst: milli(s.worst), LateExact: s.exact,
		Webhooks: s.hooks, Comparison: s.comparison,
	})
}

// milli is a duration in seconds, to the millisecond.
func milli(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }
