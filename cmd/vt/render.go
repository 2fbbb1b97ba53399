package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vtclient/vtclient"
)

// isTerminal reports whether w is a character device, as a terminal is.
func isTerminal(w io.Writer) bool {
	f, ok := w.(interface{ Stat() (os.FileInfo, error) })
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

const (
	barWidth  = 20
	nameWidth = 32 // at most
	liveLines = 10 // at most; the block must fit on any screen
)

// line is what there is to say about a job, in columns.
func (j *job) line(width int, paint func(word string) string) string {
	name := j.name
	if n := utf8.RuneCountInString(name); n > nameWidth {
		name = string([]rune(name)[:nameWidth-1]) + "…"
	}
	name += strings.Repeat(" ", max(0, width-utf8.RuneCountInString(name)))
	word := "waiting"
	switch {
	case j.outcome != "":
		word = string(j.outcome)
	case j.state != "":
		word = string(j.state)
	}
	painted := paint(word) + strings.Repeat(" ", max(0, len(interrupted)-len(word)))
	line := fmt.Sprintf("%s  %s  %s %6s  %s", name, bar(j.progress), painted, seconds(j.age()), count(j.requests(), "request"))
	switch {
	case j.outcome == "" && j.trouble != "":
		line += "  " + clean(j.trouble)
	case j.outcome != "" && j.outcome != completed:
		line += "  " + j.why()
	case j.outcome == completed:
		if j.told {
			line += ", told by webhook"
		}
		if j.faults > 0 {
			line += fmt.Sprintf(", %s survived", count(j.faults, "fault"))
		}
		if text := j.where(); text != "" {
			line += "  " + text
		}
	case j.bare:
		line += ", " + bareText
	case j.outcome == "":
		if text := j.estimate(); text != "" {
			line += ", " + text
		}
	}
	return line
}

// why says why a job did not complete, cleaned.
func (j *job) why() string {
	if j.outcome == failed {
		if j.message == "" {
			return "the backend gives no reason"
		}
		return "the backend says: " + clean(j.message)
	}
	text := causeText(j.id, j.err)
	if j.outcome == interrupted {
		text = "last answer: none"
		if j.state != "" {
			text = "last answer: " + string(j.state)
		}
	}
	return clean(text)
}

const (
	bareText = "completed, and the result is not there yet"
	maxURL   = 4096 // bytes; the signed addresses of object stores have up to some two thousand
)

// where says where the result of a completed job is, cleaned; "" if that is not known to vt.
func (j *job) where() string {
	switch {
	case j.result != "":
		return cleanUpTo(maxURL, j.result)
	case j.bare:
		return "without a result"
	}
	return ""
}

// bar draws a share from 0 to 1; 0 is a backend that does not say.
func bar(share float64) string {
	if !(share > 0) {
		return "[" + strings.Repeat(".", barWidth) + "]     "
	}
	share = min(share, 1)
	full := int(share * barWidth)
	return fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), int(share*100))
}

func nameColumn(jobs []*job) int {
	width := 0
	for _, j := range jobs {
		width = max(width, utf8.RuneCountInString(j.name))
	}
	return min(width, nameWidth)
}

// A terminal shows a block of live lines, one for each job that goes on.
// Lines that stay (a job's end, a fault) scroll up above the block.
type terminal struct {
	w     io.Writer
	color bool
	lines int // of the block on the screen
	stay  []string
	ended []*job
}

func (t *terminal) note(n note) { t.stay = append(t.stay, clean(n.text)) }

func (t *terminal) progress(*job) {}

func (t *terminal) told(*job) {}

func (t *terminal) fault(j *job, _ error, text string) {
	t.stay = append(t.stay, j.name+": "+clean(text))
}

func (t *terminal) done(j *job) { t.ended = append(t.ended, j) }

func (t *terminal) draw(b *board) {
	var buf bytes.Buffer
	width := nameColumn(b.jobs)
	if t.lines > 0 {
		fmt.Fprintf(&buf, "\x1b[%dA", t.lines)
	}
	if len(t.stay)+len(t.ended) > 0 {
		buf.WriteString("\x1b[J")
		for _, line := range t.stay {
			buf.WriteString(line + "\n")
		}
		for _, j := range t.ended {
			buf.WriteString(j.line(width, t.paint) + "\n")
		}
		t.stay, t.ended = nil, nil
	}
	// A live line that is too long is cut by the terminal and not wrapped,
	// or the block would have more lines than we know of.
	buf.WriteString("\x1b[?7l")
	t.lines = 0
	more := 0
	for _, j := range b.jobs {
		switch {
		case !j.ended.IsZero():
		case t.lines == liveLines:
			more++
		default:
			buf.WriteString(j.line(width, t.paint) + "\x1b[K\n")
			t.lines++
		}
	}
	if more > 0 {
		fmt.Fprintf(&buf, "and %d more\x1b[K\n", more)
		t.lines++
	}
	buf.WriteString("\x1b[J\x1b[?7h")
	t.w.Write(buf.Bytes())
}

func (t *terminal) summary(b *board, s summary) {
	t.draw(b)
	fmt.Fprintln(t.w, s.text())
}

func (t *terminal) paint(word string) string {
	code := ""
	switch outcome(word) {
	case completed:
		code = "32"
	case failed, errored, timeout:
		code = "31"
	case interrupted:
		code = "33"
	}
	if !t.color || code == "" {
		return word
	}
	return "\x1b[" + code + "m" + word + "\x1b[0m"
}

// A plain output writes a line for each thing that happens.
type plain struct{ w io.Writer }

func (p *plain) say(j *job, format string, args ...any) {
	fmt.Fprintf(p.w, "[%7s] %s: %s\n", fmt.Sprintf("%.2fs", j.age().Seconds()), j.name, fmt.Sprintf(format, args...))
}

func (p *plain) note(n note) { fmt.Fprintln(p.w, clean(n.text)) }

func (p *plain) told(j *job) { p.say(j, "a webhook says that it is over") }

func (p *plain) progress(j *job) {
	if j.bare {
		p.say(j, "%s, %s", bareText, count(j.requests(), "request"))
		return
	}
	share := ""
	if j.progress > 0 {
		share = fmt.Sprintf(" %d%%", int(j.progress*100))
	}
	estimate := j.estimate()
	if estimate != "" {
		estimate = ", " + estimate
	}
	p.say(j, "%s%s, %s%s", j.state, share, count(j.requests(), "request"), estimate)
}

func (p *plain) fault(j *job, _ error, text string) { p.say(j, "%s", clean(text)) }

func (p *plain) done(j *job) {
	line := fmt.Sprintf("%s, %s", j.outcome, count(j.requests(), "request"))
	if j.outcome != completed {
		line += ": " + j.why()
	} else if text := j.where(); text != "" {
		line += ": " + text
	}
	p.say(j, "%s", line)
}

func (p *plain) draw(*board) {}

func (p *plain) summary(_ *board, s summary) { fmt.Fprintln(p.w, s.text()) }

// A jsonOutput writes one JSON object a line.
type jsonOutput struct{ w io.Writer }

// An event is one line of vt wait -json. Times are in seconds.
type event struct {
	Event    string         `json:"event"` // progress, webhook, fault, done
	Time     time.Time      `json:"time"`
	Job      string         `json:"job"`
	State    vtclient.State `json:"state"` // as last seen; "" before the first answer
	Progress float64        `json:"progress"`
	Requests int            `json:"requests"`
	Elapsed  float64        `json:"elapsed"`
	// Outcome is completed, failed, timeout, interrupted or error; for done.
	Outcome    outcome         `json:"outcome,omitempty"`
	Message    string          `json:"message,omitempty"`
	Error      string          `json:"error,omitempty"`
	StatusCode int             `json:"status_code,omitempty"` // for fault
	RetryIn    float64         `json:"retry_in,omitempty"`    // for fault
	Result     json.RawMessage `json:"result,omitempty"`      // the answer about a completed job
	ResultURL  string          `json:"result_url,omitempty"`  // what that says of the video; with -api heygen
	// ResultMissing: the backend calls the job completed, and the result is not there.
	ResultMissing bool `json:"result_missing,omitempty"`
}

func (o *jsonOutput) event(name string, j *job) event {
	return event{
		Event: name, Time: time.Now(), Job: j.id, State: j.state, Progress: j.progress,
		Requests: j.requests(), Elapsed: milli(j.age()), Message: j.message, ResultMissing: j.bare,
	}
}

func (o *jsonOutput) note(n note) {
	o.w.Write(jsonLine(struct {
		Event string    `json:"event"` // listening, submitted, refused
		Time  time.Time `json:"time"`
		Jobs  []string  `json:"jobs,omitempty"`
		URL   string    `json:"url,omitempty"`
		Error string    `json:"error,omitempty"`
	}{n.event, time.Now(), n.jobs, n.url, n.err}))
}

func (o *jsonOutput) told(j *job) { o.w.Write(jsonLine(o.event("webhook", j))) }

func (o *jsonOutput) progress(j *job) { o.w.Write(jsonLine(o.event("progress", j))) }

func (o *jsonOutput) fault(j *job, err error, _ string) {
	ev, d := o.event("fault", j), details(err)
	ev.Error, ev.StatusCode, ev.RetryIn = err.Error(), d.StatusCode, milli(d.Next)
	o.w.Write(jsonLine(ev))
}

func (o *jsonOutput) done(j *job) {
	ev := o.event("done", j)
	ev.Outcome = j.outcome
	if j.err != nil {
		ev.Error, ev.StatusCode = j.err.Error(), details(j.err).StatusCode
	} else if json.Valid(j.status.Body) {
		ev.Result = j.status.Body
	}
	ev.ResultURL = j.result
	o.w.Write(jsonLine(ev))
}

func (o *jsonOutput) draw(*board) {}

func (o *jsonOutput) summary(_ *board, s summary) {
	jobs := 0
	for _, n := range s.outcomes {
		jobs += n
	}
	o.w.Write(jsonLine(struct {
		Event        string          `json:"event"` // summary
		Time         time.Time       `json:"time"`
		Jobs         int             `json:"jobs"`
		Outcomes     map[outcome]int `json:"outcomes"`
		Requests     int             `json:"requests"`
		Faults       int             `json:"faults"`
		Elapsed      float64         `json:"elapsed"`
		LateMean     float64         `json:"late_mean"`  // how late ends were noticed
		LateWorst    float64         `json:"late_worst"` // the same
		LateExact    bool            `json:"late_exact"` // false: at most so late
		LoopRequests int             `json:"loop_requests_computed"`

		Webhooks *webhookCounts `json:"webhooks,omitempty"` // where they are received
	}{"summary", time.Now(), jobs, s.outcomes, s.requests, s.faults, milli(s.elapsed), milli(s.meanLate), milli(s.worst), s.exact, s.loopRequests, s.hooks}))
}

// milli is a duration in seconds, to the millisecond.
func milli(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }
