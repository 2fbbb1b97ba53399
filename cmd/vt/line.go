package main

import (
	"fmt"
	"strings"
)

const (
	barWidth  = 20
	nameWidth = 32 // cells, at most
)

// line is a job in columns, its name padded to the given cells.
func (j *job) line(width int, paint func(word string) string) string {
	name := padded(cut(j.name, nameWidth), width)
	word := "waiting"
	switch {
	case j.outcome == timeout:
		word = "pending"
	case j.outcome != "":
		word = string(j.outcome)
	case j.state != "":
		word = string(j.state)
	}
	painted := paint(word) + strings.Repeat(" ", max(0, len(interrupted)-len(word)))
	return fmt.Sprintf("%s  %s  %s %6s  %s", name, bar(j.progress), painted, seconds(j.age()), count(j.requests(), "request")) + j.remark()
}

// padded fills a text with spaces up to the given cells.
func padded(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-cells(text)))
}

// remark is the end of a job's line.
func (j *job) remark() string {
	switch {
	case j.outcome == "" && j.lastFault != "":
		return "  " + clean(j.lastFault)
	case j.outcome == "" && j.resultMissing:
		return ", " + resultMissingText
	case j.outcome == "":
		return prefixed(", ", j.estimate())
	case j.outcome != completed:
		return "  " + j.why()
	}
	text := ""
	if j.hinted {
		text = ", announced by webhook"
	}
	if j.faults > 0 {
		text += fmt.Sprintf(", %s survived", count(j.faults, "fault"))
	}
	return text + prefixed("  ", j.where())
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// why is the reason that a job did not complete, escaped.
func (j *job) why() string {
	switch j.outcome {
	case failed:
		if j.message == "" {
			return "the backend gives no reason"
		}
		return "the backend's reason: " + clean(j.message)
	case interrupted, timeout:
		text := "last answer: none"
		if j.state != "" {
			text = "last answer: " + string(j.state)
		}
		return clean(text + prefixed("; since then: ", j.lastFault))
	}
	return clean(j.cause)
}

const (
	resultMissingText = "completed, and the result is not there yet"
	maxURL            = 4096 // bytes; the signed addresses of object stores have up to some two thousand
)

// where is the address of a completed job's result, escaped; "" if that is not known.
func (j *job) where() string {
	switch {
	case j.result != "":
		return cleanUpTo(maxURL, j.result)
	case j.resultMissing:
		return "without a result"
	}
	return ""
}

// bar draws a share from 0 to 1; 0 is a backend that gives none.
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
		width = max(width, cells(j.name))
	}
	return min(width, nameWidth)
}

// String is the line about a fault, escaped.
func (f *fault) String() string {
	if f.others > 0 {
		return clean(count(f.others+1, "job") + ": " + f.kind)
	}
	return f.job.name + ": " + clean(f.text)
}
