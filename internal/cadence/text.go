package cadence

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

const (
	stateHeader = "vtclient-adaptive 1"
	// MaxText bounds what ParseState reads; Text stays below it.
	MaxText = 128 << 10
)

// A State is what a Learner has learnt, without what follows from it.
type State struct {
	Samples [2][]Sample // of each Kind, oldest first
	Hints   Hints
}

// Clone returns a State with samples of its own.
func (st State) Clone() State {
	for k, samples := range st.Samples {
		st.Samples[k] = slices.Clone(samples)
	}
	return st
}

// Merge returns what both states hold. It is a union of sets: neither the order in which
// states are merged nor how often makes a difference.
func (st State) Merge(o State) State {
	for k, samples := range o.Samples {
		st.Samples[k] = mergeSamples(st.Samples[k], samples)
	}
	st.Hints = st.Hints.merge(o.Hints)
	return st
}

// mergeSamples aligns the ends of two sequences and keeps the newest maxSamples. Of those with
// one ID it keeps the last. The last turn of what it returns is 0. Samples of one turn are in
// the order of their values.
func mergeSamples(a, b []Sample) []Sample {
	r := make([]Sample, 0, len(a)+len(b))
	for _, list := range [][]Sample{a, b} {
		for _, s := range list {
			s.Turn -= list[len(list)-1].Turn
			r = append(r, s)
		}
	}
	slices.SortFunc(r, func(x, y Sample) int {
		return cmp.Or(cmp.Compare(y.Turn, x.Turn), cmp.Compare(y.Lo, x.Lo), cmp.Compare(y.Hi, x.Hi),
			cmp.Compare(y.Weight, x.Weight), cmp.Compare(y.Estimate, x.Estimate), cmp.Compare(y.ID, x.ID))
	})
	seen := make(map[uint64]bool, len(r))
	r = slices.DeleteFunc(r, func(s Sample) bool {
		twice := s.ID != 0 && seen[s.ID]
		seen[s.ID] = true
		return twice
	})
	r = r[:min(len(r), maxSamples)]
	slices.Reverse(r)
	return r
}

// Text returns the text form of a state, a line for hints and one for each sample:
//
//	vtclient-adaptive 1
//	hints <hinted> <polled>
//	p <lo> <hi> [<weight>] [#<id>]
//	r <lo> <hi> [<weight>] [~<estimate>] [#<id>]
//
// p is a job without an estimate, in seconds, and r one with an estimate, in
// units of it, which is in seconds. P and R are the same, in the turn of the line before.
// The hi of a wait that was given up is "-". The id is in base 36.
func (st State) Text() []byte {
	b := make([]byte, 0, 64+40*(len(st.Samples[Plain])+len(st.Samples[Ratio])))
	num := func(v float64) {
		b = append(b, ' ')
		if math.IsInf(v, 1) {
			b = append(b, '-')
			return
		}
		b = strconv.AppendFloat(b, v, 'g', 9, 64)
	}
	b = append(b, stateHeader+"\nhints"...)
	num(st.Hints.Hinted)
	num(st.Hints.Polled)
	b = append(b, '\n')
	for k, samples := range st.Samples {
		for i, s := range samples {
			letter := "pr"[k]
			if i > 0 && s.Turn == samples[i-1].Turn {
				letter = "PR"[k]
			}
			b = append(b, letter)
			num(s.Lo)
			num(s.Hi)
			if s.Weight != 1 {
				num(s.Weight)
			}
			if s.Estimate != 0 {
				b = strconv.AppendFloat(append(b, " ~"...), s.Estimate, 'g', 6, 64)
			}
			if s.ID != 0 {
				b = strconv.AppendUint(append(b, " #"...), s.ID, 36)
			}
			b = append(b, '\n')
		}
	}
	return b
}

// A SkippedError reports the lines of a state that could not be read.
type SkippedError struct {
	Lines int   // how many were left out
	First int   // the number of the first of them, from 1
	Err   error // what is wrong with it
}

func (e *SkippedError) Error() string {
	return fmt.Sprintf("line %d: %v (lines left out: %d)", e.First, e.Err, e.Lines)
}

// ParseState reads what Text returned. Lines that cannot be read are left out, and
// reported by a *SkippedError beside the state; with any other error there is no state.
func ParseState(text []byte) (State, error) {
	var st State
	if len(text) > MaxText {
		return st, fmt.Errorf("%d bytes are more than the %d allowed", len(text), MaxText)
	}
	head, rest, _ := bytes.Cut(text, []byte("\n"))
	if string(head) != stateHeader {
		return st, fmt.Errorf("no %q in the first line: not a state, or of another version", stateHeader)
	}
	var skipped SkippedError
	for n := 2; len(rest) > 0; n++ {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if err := st.parseLine(line); err != nil {
			if skipped.Lines++; skipped.Lines == 1 {
				skipped.First, skipped.Err = n, err
			}
		}
	}
	st = st.Merge(State{}) // bounded, and in the order of Merge
	if skipped.Lines > 0 {
		return st, &skipped
	}
	return st, nil
}

var errStateLine = errors.New("not a line of a state")

// parseLine reads a line into the state.
func (st *State) parseLine(line []byte) error {
	f, err := parseFields(line)
	if err != nil {
		return err
	}
	switch kind := strings.Index("prPR", f.word); {
	case f.word == "hints" && f.n == 2 && f.id == 0 && !math.IsInf(f.v[1], 1):
		st.Hints = Hints{}.merge(Hints{Hinted: f.v[0], Polled: f.v[1], Live: f.v[1] > 0})
		return nil
	case len(f.word) == 1 && kind >= 0:
		return st.add(kind, Sample{Lo: f.v[0], Hi: f.v[1], Weight: f.v[2], Estimate: f.estimate, ID: f.id})
	}
	return errStateLine
}

// fields are those of a line: a word, two or three numbers, and an estimate and an id, which
// may be missing.
type fields struct {
	word     string
	v        [3]float64 // the third is 1 where it is missing
	n        int        // of the numbers
	estimate float64
	id       uint64
}

func parseFields(line []byte) (f fields, err error) {
	f.v[2] = 1
	for i, s := range strings.Fields(string(line)) {
		switch {
		case i == 0:
			f.word = s
		case s[0] == '#':
			if f.id, err = strconv.ParseUint(s[1:], 36, 64); err != nil {
				err = errors.New("not an id")
			}
		case s[0] == '~':
			f.estimate, err = parseNumber(s[1:])
		case f.n == len(f.v):
			err = errStateLine
		case f.n == 1 && s == "-":
			f.v[1] = math.Inf(1)
			f.n++
		default:
			f.v[f.n], err = parseNumber(s)
			f.n++
		}
		if err != nil {
			return f, err
		}
	}
	if f.n < 2 {
		return f, errStateLine
	}
	return f, nil
}

func parseNumber(s string) (v float64, err error) {
	if v, err = strconv.ParseFloat(s, 64); err != nil || !(v >= 0 && v <= maxAge) {
		return 0, fmt.Errorf("not a number from 0 to %g", maxAge)
	}
	return v, nil
}

// add appends a sample of one of the kinds p, r, P and R.
func (st *State) add(kind int, s Sample) error {
	switch {
	case s.Lo > s.Hi || s.Hi == 0:
		return errors.New("not an interval")
	case !(s.Weight > 0 && s.Weight <= 1):
		return errors.New("the weight is not above 0 and up to 1")
	}
	to := &st.Samples[kind%2]
	if n := len(*to); n > 0 {
		s.Turn = (*to)[n-1].Turn + 1 - kind/2
	}
	*to = append(*to, s)
	return nil
}
