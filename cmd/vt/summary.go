package main

import (
	"fmt"
	"strings"
	"time"
)

// A summary is the result of a whole wait.
type summary struct {
	outcomes map[outcome]int
	running  []string // the ids of the jobs that were not over when the time was up
	givenUp  []string // the ids of the jobs with an error, where they are too many to have a line each
	requests int
	faults   int
	elapsed  time.Duration

	hooks *webhookCounts // nil: none are received

	// How late the ends were noticed: exact where the backend's own time is
	// known, else at most, by the last answer before.
	exact           bool
	noticed         int // ends with such a time
	meanLate, worst time.Duration

	comparison *comparison // in a demonstration where all went well
}

func (b *board) sum() *summary {
	s := &summary{outcomes: make(map[outcome]int), elapsed: time.Since(b.began), exact: b.finishedAt != nil, requests: b.requests, faults: b.faults}
	if b.hooks != nil {
		s.hooks = &webhookCounts{Arrived: b.hooks.arrived, Refused: b.hooks.refused}
		if b.hooks.lost != nil {
			s.hooks.Lost = b.hooks.lost()
		}
	}
	var late time.Duration
	for _, j := range b.jobs {
		s.outcomes[j.outcome]++
		switch j.outcome {
		case timeout:
			s.running = append(s.running, j.id)
		case errored:
			if b.crowded() {
				s.givenUp = append(s.givenUp, j.id)
			}
		case completed, failed:
			over, _ := b.overSince(j)
			if over.IsZero() { // never seen pending
				continue
			}
			d := max(0, j.status.CheckedAt.Sub(over))
			s.noticed++
			late, s.worst = late+d, max(s.worst, d)
		}
	}
	if s.noticed > 0 {
		s.meanLate = late / time.Duration(s.noticed)
	}
	if b.demo != nil && s.noticed == len(b.jobs) {
		s.comparison = b.demo.compare(b.jobs, s)
	}
	return s
}

func (s *summary) text() string {
	var parts []string
	jobs := 0
	for _, o := range []outcome{completed, failed, timeout, errored, interrupted} {
		if n := s.outcomes[o]; n > 0 {
			jobs += n
			parts = append(parts, fmt.Sprintf("%d %s", n, o.word()))
		}
	}
	if len(parts) == 0 {
		return "no jobs\n"
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
	line += "\n"
	line += listed("still running: ", s.running) + listed("given up: ", s.givenUp)
	if s.comparison != nil {
		line += s.comparison.text()
	}
	return line
}

// listed is a line with ids; "" if there are none.
func listed(title string, ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = clean(id)
	}
	return title + strings.Join(names, " ") + "\n"
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
	case d.Round(100*time.Millisecond) < time.Minute: // or it would be 60.0s
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// roughly is a duration with one unit: "40 s", "4 min", "3 h".
func roughly(d time.Duration) string {
	switch {
	case d < 90*time.Second:
		return fmt.Sprintf("%.0f s", max(1, d.Seconds()))
	case d < 90*time.Minute:
		return fmt.Sprintf("%.0f min", d.Minutes())
	}
	return fmt.Sprintf("%.0f h", d.Hours())
}
