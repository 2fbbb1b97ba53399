package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

//go:embed page.html
var pageHTML []byte

// A timeline keeps what happened to jobs and shows it on a page: the file page.html at
// /, which reads the events from /events. A nil timeline keeps nothing.
type timeline struct {
	worth float64 // of a request, in seconds, that the page starts with; 0: its own

	mu      sync.Mutex
	events  []json.RawMessage
	dropped int // older events that are not kept any more
	sent    int // requests, where they are counted apart from the events
	counted bool
}

// maxEvents bounds the events that are kept; they take some ten megabytes. Beyond it the
// oldest quarter is dropped.
const maxEvents = 100_000

// The marks on a job's line.
const (
	markPending  = "pending"
	markEnded    = "ended"
	markFault    = "fault"
	markLimited  = "limited" // 429
	markArrived  = "arrived" // a webhook
	markLost     = "lost"    // a webhook
	markRejected = "refused" // a webhook
)

// markOf is the mark of a request that met a fault.
func markOf(statusCode int) string {
	if statusCode == http.StatusTooManyRequests {
		return markLimited
	}
	return markFault
}

// millis is a time as JavaScript has it; nil for the zero time.
func millis(t time.Time) *float64 {
	if t.IsZero() {
		return nil
	}
	ms := float64(t.UnixMicro()) / 1000
	return &ms
}

func (t *timeline) add(event any) {
	raw, err := json.Marshal(event)
	if err != nil { // only a bug can bring this about
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.events) == maxEvents {
		const quarter = maxEvents / 4
		t.events = append([]json.RawMessage(nil), t.events[quarter:]...)
		t.dropped += quarter
	}
	t.events = append(t.events, raw)
}

// A jobEvent is a job that begins, or ends.
type jobEvent struct {
	Job     string   `json:"job"`
	Start   *float64 `json:"start,omitempty"`
	End     *float64 `json:"end,omitempty"`
	AtLeast bool     `json:"atLeast,omitempty"` // the end is the earliest that it can have been
	Failed  bool     `json:"failed,omitempty"`
}

func (t *timeline) job(id string, started time.Time) {
	if t != nil {
		t.add(jobEvent{Job: id, Start: millis(started)})
	}
}

func (t *timeline) end(id string, at time.Time, exact, failed bool) {
	if t != nil {
		t.add(jobEvent{Job: id, End: millis(at), AtLeast: !exact, Failed: failed})
	}
}

// A markEvent is one request or webhook with the jobs that it was about, by mark.
type markEvent struct {
	At    *float64            `json:"at"`
	Marks map[string][]string `json:"marks"`
}

func (t *timeline) mark(id string, at time.Time, mark string) {
	if t != nil {
		t.add(markEvent{At: millis(at), Marks: map[string][]string{mark: {id}}})
	}
}

// requests sets the number of requests so far, where one may be about several jobs.
func (t *timeline) requests(n int) {
	if t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.sent, t.counted = n, true
	}
}

// A batch is what the page is sent at a time.
type batch struct {
	Now      *float64          `json:"now"`
	First    bool              `json:"first,omitempty"` // the page starts anew
	Worth    float64           `json:"worth,omitempty"` // with First
	Requests *int              `json:"requests,omitempty"`
	Events   []json.RawMessage `json:"events"`
}

// after returns the events that follow the first n ever kept, and how many there are.
func (t *timeline) after(n int) (batch, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := batch{Now: millis(time.Now()), First: n == 0, Events: t.events[max(0, n-t.dropped):]}
	if b.First {
		b.Worth = t.worth
	}
	if t.counted {
		sent := t.sent
		b.Requests = &sent
	}
	return b, t.dropped + len(t.events)
}

// contentPolicy lets the page load and reach nothing but its own events.
const contentPolicy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'"

func (t *timeline) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
	case r.URL.Path == "/":
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("Cache-Control", "no-store")
		w.Write(pageHTML)
	case r.URL.Path == "/events":
		t.stream(w, r)
	default:
		http.NotFound(w, r)
	}
}

// streamEvery is the time between two batches.
const streamEvery = 250 * time.Millisecond

// stream sends the events so far and then each as it comes, until the page is closed.
func (t *timeline) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	controller := http.NewResponseController(w)
	for seen, first := 0, true; ; first = false {
		b, n := t.after(seen)
		if first || n > seen {
			seen = n
			raw, err := json.Marshal(b)
			if err != nil {
				return
			}
			if _, err := fmt.Fprintf(w, "data: %s\n\n", raw); err != nil {
				return
			}
			if controller.Flush() != nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// servePage serves a page with the client's own view.
func (w *waitRun) servePage(ctx context.Context) error {
	w.board.page = &timeline{worth: time.Duration(w.f.cost).Seconds()}
	at, err := w.listen(ctx, w.f.page, w.board.page)
	if err != nil {
		return fmt.Errorf("-page: %w", err)
	}
	w.cleanup = append(w.cleanup, at.stop)
	w.board.note(note{event: "page", text: "a page with the jobs and requests: " + at.url + "/", url: at.url + "/"})
	return nil
}

// watch returns the options that feed the timeline from a simulated backend. Each exchange
// goes to also, too.
func (t *timeline) watch(backend func() *simserver.Server, also func(simserver.Exchange)) []simserver.Option {
	var defaultJob sync.Once // it is there from the start, and shown when it is asked for
	return []simserver.Option{
		simserver.WithOnJob(t.simulated),
		simserver.WithOnDelivery(func(d simserver.Delivery) {
			switch {
			case d.Lost:
				t.mark(d.JobID, d.Time, markLost)
			case d.Err != nil:
				t.mark(d.JobID, d.Time, markRejected)
			default:
				t.mark(d.JobID, d.Time, markArrived)
			}
		}),
		simserver.WithOnExchange(func(x simserver.Exchange) {
			marks := make(map[string][]string)
			at := x.Time.Add(x.Took)
			for _, id := range x.JobIDs {
				j, ok := backend().Job(id)
				if ok && id == "" {
					defaultJob.Do(func() { t.simulated(j) })
				}
				mark := markOf(x.Code)
				if ok && x.Code/100 == 2 && (x.Fault == "" || x.Fault == simserver.FaultDrip) {
					if mark = markPending; !endOf(j).IsZero() && !at.Before(endOf(j)) {
						mark = markEnded
					}
				}
				if ok || x.Fault != "" { // the job may be created by a later request
					marks[mark] = append(marks[mark], id)
				}
			}
			if len(marks) > 0 {
				t.add(markEvent{At: millis(at), Marks: marks})
			}
			also(x)
		}),
	}
}

// simulated adds a job whose end is known from the start.
func (t *timeline) simulated(j simserver.Job) {
	t.add(jobEvent{Job: j.ID, Start: millis(j.Started), End: millis(endOf(j)), Failed: j.Fail})
}

// endOf is when a simulated job ends; zero where it does not by itself.
func endOf(j simserver.Job) time.Time {
	if j.Duration == simserver.Never {
		return time.Time{}
	}
	return j.Started.Add(j.Duration)
}
