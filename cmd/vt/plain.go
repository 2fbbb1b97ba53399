package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/vtclient/vtclient"
)

// A plain output writes a line for each thing that happens.
type plain struct {
	w       io.Writer
	next    time.Duration // when a line about all jobs is due, since the wait began
	givenUp []*job        // of many jobs, those whose line is yet to come
}

// With more jobs than manyJobs a line about all of them stands for those about each
// pending answer.
const manyJobs = 20

// A line about all jobs comes early once, and then after one of these times at least, and
// the other at most.
const (
	statusFirst = time.Second
	statusLeast = 10 * time.Second
	statusMost  = 5 * time.Minute
)

func (p *plain) line(j *job, age time.Duration, text string) {
	fmt.Fprintf(p.w, "%s %s: %s\n", stamp(age), j.name, text)
}

func stamp(age time.Duration) string {
	return fmt.Sprintf("[%7s]", fmt.Sprintf("%.2fs", age.Seconds()))
}

func (p *plain) note(n note) { fmt.Fprintln(p.w, clean(n.text)) }

func (p *plain) hinted(j *job) { p.line(j, j.age(), "a webhook announces its end") }

func (p *plain) progress(j *job) {
	text := string(j.state)
	switch {
	case j.crowded:
		return
	case j.resultMissing:
		text = resultMissingText
	case j.progress > 0:
		text += fmt.Sprintf(" %d%%", int(j.progress*100))
	}
	p.line(j, j.age(), text+", "+count(j.requests(), "request")+prefixed(", ", j.estimate()))
}

func (p *plain) fault(f fault) { fmt.Fprintf(p.w, "%s %s\n", stamp(f.age), &f) }

func (p *plain) done(j *job) {
	if j.crowded && j.outcome == errored {
		p.givenUp = append(p.givenUp, j)
		return
	}
	p.end(j)
}

// showGivenUp writes a line about the jobs that were given up for the same reason. reached
// reports that there has been an answer.
func (p *plain) showGivenUp(reached bool) {
	byKind := make(map[string][]*job)
	for _, j := range p.givenUp {
		kind := faultKind(j.err)
		switch outage := errors.Is(j.err, vtclient.ErrOutage); {
		case outage && !reached:
			kind = "nothing reached: " + kind
		case outage:
			kind = "nothing but faults for longer than -outage"
		}
		byKind[kind] = append(byKind[kind], j)
	}
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		switch jobs := byKind[kind]; len(jobs) {
		case 1:
			p.end(jobs[0])
		default:
			fmt.Fprintf(p.w, "%s %s: error: %s\n", stamp(jobs[0].age()), count(len(jobs), "job"), clean(kind))
		}
	}
	p.givenUp = nil
}

func (p *plain) end(j *job) {
	text := fmt.Sprintf("%s, %s", j.outcome.word(), count(j.requests(), "request"))
	if j.outcome != completed {
		text += ": " + j.why()
	} else {
		text += prefixed(": ", j.where())
	}
	p.line(j, j.age(), text)
}

// draw writes a line about all jobs when one is due: where no answer has come so far,
// and where there are too many jobs for a line each.
func (p *plain) draw(b *board) {
	p.showGivenUp(b.answered)
	waited := time.Since(b.began)
	if p.next = max(p.next, statusFirst); waited < p.next {
		return
	}
	text := ""
	if p.next >= statusLeast {
		text = b.noAnswer()
	}
	if p.next == statusFirst {
		p.next = statusLeast
	} else {
		p.next = waited + min(max(statusLeast, waited/2), statusMost)
	}
	if text == "" && len(b.jobs) > manyJobs && b.open > 0 {
		text = b.status()
	}
	if text == "" {
		text = b.transfers.text()
	}
	if text != "" {
		fmt.Fprintf(p.w, "%s %s\n", stamp(waited), clean(text))
	}
}

func (p *plain) summary(b *board, s *summary) {
	p.showGivenUp(b.answered)
	io.WriteString(p.w, s.text())
}
