package main

import (
	"fmt"
	"time"
)

// addNamed adds a job that was submitted for a language, unless it is there already.
func (b *board) addNamed(id, language string, started time.Time) bool {
	if !b.add(id) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answered = true // the submission was
	j := b.byID[id]
	j.language, j.name = language, clean(language+" ("+id+")")
	if !started.IsZero() && started.Before(j.started) {
		j.started = started
	}
	return true
}

// notSubmitted adds a job that there is not.
func (b *board) notSubmitted(language string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	j := &job{name: clean(language), language: language, began: now, started: now, ended: now, outcome: errored, err: err}
	j.cause = "not submitted: " + b.causeText("", err)
	b.jobs = append(b.jobs, j)
	b.out.done(j)
}

// transferring shows a job's result on its way into the file that place picks.
func (b *board) transferring(id string, place func(*job) string) *transfer {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &transfer{job: b.byID[id]}
	t.path = place(t.job)
	b.transfers = append(b.transfers, t)
	return t
}

// transferred shows how that has ended.
func (b *board) transferred(t *transfer, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t.over.Store(true)
	n := note{event: "saved", job: t.job.id, path: t.path, bytes: t.got.Load()}
	n.text = fmt.Sprintf("%s: saved as %s, %s", plainName(t.job), t.path, size(n.bytes))
	if err != nil {
		n.event, n.err = "not_saved", b.secrets.hide(b.errorText(err))
		n.text = fmt.Sprintf("%s: not saved as %s: %s", plainName(t.job), t.path, b.secrets.hide(b.causeText(t.job.id, err)))
	}
	b.out.note(n)
}

// plainName is a job's name, not escaped.
func plainName(j *job) string {
	if j.language != "" {
		return j.language + " (" + j.id + ")"
	}
	return j.id
}

// Transfers are the results that are on their way, or have been.
type transfers []*transfer

// moving are those on their way.
func (all transfers) moving() (moving transfers) {
	for _, t := range all {
		if !t.over.Load() {
			moving = append(moving, t)
		}
	}
	return moving
}

// sum is how many bytes have arrived, and of how many.
func (all transfers) sum() (got, of int64) {
	for _, t := range all {
		got, of = got+t.got.Load(), of+t.size.Load()
	}
	return got, of
}

// text is one line about the results on their way; "" if there are none.
func (all transfers) text() string {
	moving := all.moving()
	if len(moving) == 0 {
		return ""
	}
	got, of := moving.sum()
	return fmt.Sprintf("downloading %s, %s of %s", count(len(moving), "file"), size(got), size(max(got, of)))
}

// line is a result on its way, with the job's name padded to the given cells.
func (t *transfer) line(width int) string {
	share := 0.0
	if all := t.size.Load(); all > 0 {
		share = float64(t.got.Load()) / float64(all)
	}
	return padded(cut(t.job.name, nameWidth), width) + "  " + bar(share) + "  " + t.text()
}
