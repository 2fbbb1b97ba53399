package cadence

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

const (
	stateHeader = "vtclient-adaptive 1"
	// MaxText bounds what ParseState reads; Text stays below it.
	MaxText = 128 << 10
)

// A State is what a Learner has learnt, without what follows from it.
type State struct {
	Plain, Ratio []Sample // oldest first
	Hints        Hints
	Own          int
}

// Clone returns a State with samples of its own.
func (st State) Clone() State {
	st.Plain, st.Ratio = slices.Clone(st.Plain), slices.Clone(st.Ratio)
	return st
}

// Merge returns what both states hold, as if their samples had been one sequence.
func (st State) Merge(o State) State {
	return State{
		Plain: interleave(st.Plain, o.Plain),
		Ratio: interleave(st.Ratio, o.Ratio),
		Hints: Hints{
			Hinted: st.Hints.Hinted + o.Hints.Hinted,
			Polled: st.Hints.Polled + o.Hints.Polled,
			Silent: (st.Hints.Silent + o.Hints.Silent) / 2,
			Live:   st.Hints.Live || o.Hints.Live,
		},
		Own: min(st.Own+o.Own, sharedUntil),
	}
}

// interleave merges two sequences so that equal shares of both lie before every
// point, and keeps the newest maxSamples.
func interleave(a, b []Sample) []Sample {
	r := make([]Sample, 0, len(a)+len(b))
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		if j == len(b) || i < len(a) && (2*i+1)*len(b) <= (2*j+1)*len(a) {
			r = append(r, a[i])
			i++
		} else {
			r = append(r, b[j])
			j++
		}
	}
	return r[max(0, len(r)-maxSamples):]
}

// Text returns the text form of a state: it has a header, a line for hints, and a line for each sample:
//
//	vtclient-adaptive 1
//	hints <hinted> <polled>
//	p <lo> <hi> [<weight>]
//	r <lo> <hi>
//
// p is a job without an estimate, in seconds, and r one with an estimate, in
// units of it. The hi of a wait that was given up is "-".
func (st State) Text() []byte {
	b := make([]byte, 0, 64+24*(len(st.Plain)+len(st.Ratio)))
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
	for _, l := range []struct {
		kind    byte
		samples []Sample
	}{{'p', st.Plain}, {'r', st.Ratio}} {
		for _, s := range l.samples {
			b = append(b, l.kind)
			num(s.Lo)
			num(s.Hi)
			if s.Weight != 1 {
				num(s.Weight)
			}
			b = append(b, '\n')
		}
	}
	return b
}

// ParseState reads what Text returned.
func ParseState(text []byte) (State, error) {
	var st State
	if len(text) > MaxText {
		return st, fmt.Errorf("%d bytes are more than the %d allowed", len(text), MaxText)
	}
	head, rest, _ := bytes.Cut(text, []byte("\n"))
	if string(head) != stateHeader {
		return st, fmt.Errorf("no %q in the first line: not a state, or of another version", stateHeader)
	}
	for n := 2; len(rest) > 0; n++ {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if err := st.parseLine(line, n); err != nil {
			return st, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return st, nil
}

var errStateLine = errors.New("not a line of a state")

func (st *State) parseLine(line []byte, n int) error {
	f := bytes.Fields(line)
	if len(f) < 3 || len(f) > 4 {
		return errStateLine
	}
	var v [3]float64
	for i, s := range f[1:] {
		if i == 1 && string(s) == "-" {
			v[i] = math.Inf(1)
			continue
		}
		x, err := strconv.ParseFloat(string(s), 64)
		if err != nil || !(x >= 0 && x <= 1e10) {
			return errors.New("not a number from 0 to 1e10")
		}
		v[i] = x
	}
	if string(f[0]) == "hints" {
		if n != 2 || len(f) != 3 || !(v[0]+v[1] <= 1e6) {
			return errStateLine
		}
		st.Hints.Hinted, st.Hints.Polled = v[0], v[1]
		st.Hints.Live = v[1] > 0
		return nil
	}
	s := Sample{Lo: v[0], Hi: v[1], Weight: 1}
	if s.Lo > s.Hi || s.Hi == 0 {
		return errors.New("not an interval")
	}
	to := &st.Ratio
	switch string(f[0]) {
	case "p":
		to = &st.Plain
		if len(f) == 4 {
			s.Weight = v[2]
			if !(s.Weight > 0 && s.Weight < 1) {
				return errors.New("the weight is not between 0 and 1")
			}
		} else {
			st.Own = min(st.Own+1, sharedUntil)
		}
	case "r":
		if len(f) == 4 {
			return errStateLine
		}
	default:
		return errStateLine
	}
	if len(*to) >= maxSamples {
		return fmt.Errorf("more than %d jobs of a kind", maxSamples)
	}
	*to = append(*to, s)
	return nil
}
