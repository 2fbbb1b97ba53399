package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A sample is the durations that were read.
type sample struct {
	read      int             // in all
	durations []time.Duration // those that are kept, in order
	drawn     bool            // some were known only to lie between two times
}

// readPlan reads durations from the file or standard input. It gives up when ctx is done,
// since reading from a terminal may take for ever.
func (e *env) readPlan(ctx context.Context, files []string, seed uint64) (source string, s sample, err error) {
	source, in := "standard input", e.stdin
	if len(files) > 0 && files[0] != "-" {
		file, err := os.Open(files[0])
		if err != nil {
			return "", s, err
		}
		defer file.Close()
		source, in = files[0], file
	} else if isTerminal(e.stdin) {
		fmt.Fprintln(e.stderr, "vt: plan: type durations, one a line, such as 90 or 1m30s; Ctrl-D ends them")
	}
	type result struct {
		sample
		err error
	}
	done := make(chan result, 1)
	go func() {
		s, err := readDurations(in, seed)
		done <- result{s, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return "", s, fmt.Errorf("%s: %w", source, r.err)
		}
		return source, r.sample, nil
	case <-ctx.Done():
		return "", s, ctx.Err()
	}
}

// maxPlanLine bounds a line: one of vt wait -json holds up to a mebibyte of result, escaped.
const maxPlanLine = 8 << 20

// readDurations reads a duration from each line that has one. Of more than maxPlanJobs it keeps
// that many, each set of lines being as likely as any other (reservoir sampling) and random
// numbers from the seed, so that no rhythm in the file can matter.
func readDurations(in io.Reader, seed uint64) (s sample, err error) {
	pick, within := rand.New(rand.NewPCG(seed, 2)), rand.New(rand.NewPCG(seed, 5))
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxPlanLine)
	number := 0
	parse := parseText
	for lines.Scan() {
		number++
		text := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		switch {
		case s.read == 0 && strings.HasPrefix(text, "{"):
			parse = parseEvent
		case number == 1 && strings.HasPrefix(text, "vtclient-adaptive "):
			parse = parseLesson
			continue
		}
		lo, hi, err := parse(text)
		if err != nil {
			return sample{}, fmt.Errorf("line %d: %w", number, err)
		}
		if hi <= 0 {
			continue
		}
		d := hi
		if lo < hi {
			s.drawn = true
			d -= time.Duration(within.Int64N(int64(hi - lo)))
		}
		s.read++
		if len(s.durations) < maxPlanJobs {
			s.durations = append(s.durations, d)
		} else if i := pick.IntN(s.read); i < maxPlanJobs {
			// The one that goes makes room at the end: the order stays.
			copy(s.durations[i:], s.durations[i+1:])
			s.durations[maxPlanJobs-1] = d
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return sample{}, fmt.Errorf("line %d: is longer than %d bytes", number+1, maxPlanLine)
	} else if err != nil {
		return sample{}, err
	}
	if s.read == 0 {
		return sample{}, errors.New("holds no durations; want one a line, such as 90 or 1m30s, what vt wait -json wrote, or a file of vt wait -learn")
	}
	return s, nil
}

// parseText reads a line with a duration. Like the functions below it returns the times
// between which the job was over, and zeros for a line to be skipped.
func parseText(text string) (lo, hi time.Duration, err error) {
	text, _, _ = strings.Cut(text, "#")
	if text = strings.TrimSpace(text); text == "" {
		return 0, 0, nil
	}
	d, err := parseDuration(text)
	return d, d, err
}

// parseEvent reads a line of vt wait -json.
func parseEvent(text string) (lo, hi time.Duration, err error) {
	if text == "" {
		return 0, 0, nil
	}
	var ev event
	if err := json.Unmarshal([]byte(text), &ev); err != nil {
		return 0, 0, fmt.Errorf("is no line of vt wait -json: %w", err)
	}
	if ev.Event != "done" || ev.Outcome != completed && ev.Outcome != failed {
		return 0, 0, nil
	}
	return between(ev.PendingAt, ev.DoneBy)
}

// parseLesson reads a line of a file of vt wait -learn: "p" and two times in seconds, or "r", two
// multiples of an estimate, and "~" with the estimate in seconds. Others hold no durations.
func parseLesson(text string) (lo, hi time.Duration, err error) {
	f := strings.Fields(text)
	if len(f) < 3 || f[2] == "-" { // a wait that was given up
		return 0, 0, nil
	}
	unit := "1"
	switch f[0] {
	case "p", "P":
	case "r", "R":
		i := slices.IndexFunc(f, func(s string) bool { return s[0] == '~' })
		if i < 0 { // of an earlier version
			return 0, 0, nil
		}
		unit = f[i][1:]
	default:
		return 0, 0, nil
	}
	from, err1 := strconv.ParseFloat(f[1], 64)
	to, err2 := strconv.ParseFloat(f[2], 64)
	times, err3 := strconv.ParseFloat(unit, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, 0, fmt.Errorf("is no line of vt wait -learn: %w", err)
	}
	return between(from*times, to*times)
}

// between checks two times in seconds.
func between(from, to float64) (lo, hi time.Duration, err error) {
	if !(from >= 0 && from <= to && to <= maxPlanDuration.Seconds()) {
		return 0, 0, fmt.Errorf("%v to %v s is no duration from 0 to %d h", from, to, int(maxPlanDuration.Hours()))
	}
	return time.Duration(from * 1e9), time.Duration(math.Round(to * 1e9)), nil
}

// parseDuration reads a number of seconds or a Go duration.
func parseDuration(text string) (time.Duration, error) {
	shown := text
	if len(shown) > 60 {
		shown = strings.ToValidUTF8(shown[:60], "") + "…"
	}
	d, err := time.ParseDuration(text)
	if s, ferr := strconv.ParseFloat(text, 64); ferr == nil {
		err = nil
		switch ns := math.Round(s * 1e9); {
		case math.IsNaN(s):
			err = errors.New("no number")
		case ns > float64(maxPlanDuration):
			d = maxPlanDuration + 1
		default:
			d = time.Duration(max(ns, -1))
		}
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration: want seconds, such as 90 or 1.5, or a duration like 1m30s", shown)
	case d <= 0:
		return 0, fmt.Errorf("%q is not positive: want a duration above 0", shown)
	case d > maxPlanDuration:
		return 0, fmt.Errorf("%q is too long: want at most %d h", shown, int(maxPlanDuration.Hours()))
	}
	return d, nil
}
