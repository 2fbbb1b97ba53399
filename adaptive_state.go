package vtclient

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
)

const (
	stateHeader = "vtclient-adaptive 1"
	// maxState bounds what UnmarshalText reads; MarshalText stays below it.
	maxState = 128 << 10
)

// MarshalText implements [encoding.TextMarshaler]: the completions that a
// remembers, one a line, so that a later process need not start cold. What a
// request is worth is no part of it.
func (a *Adaptive) MarshalText() ([]byte, error) {
	return a.snapshot().text(), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]: it replaces what a knows
// by a state that MarshalText wrote. The request cost of a stays as it is.
// A text that is not such a state is refused with an error, and a is unchanged.
// It takes some ten milliseconds at most.
func (a *Adaptive) UnmarshalText(text []byte) error {
	st, err := parseState(text)
	if err != nil {
		return fmt.Errorf("vtclient: adaptive state: %w", err)
	}
	a.restore(st)
	return nil
}

// Merge adds what b knows to what a knows, as if the recent jobs of both had
// been one sequence; b does not change. Merging the same knowledge twice counts
// it twice, as far as memory reaches. Merging an Adaptive with itself or with nil
// does nothing. Merge may be called in both directions at once.
func (a *Adaptive) Merge(b *Adaptive) {
	if b == nil || a == b {
		return
	}
	theirs := b.snapshot() // b's lock is free again before a's is taken
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replay(a.state().merge(theirs))
}

// A state is what an Adaptive knows, without what follows from it.
type state struct {
	plain, ratio   []sample // oldest first
	hinted, polled float64
	silent         float64
	live           bool
	own            int
}

// state returns a's state; the samples are a's own. Callers hold a.mu.
func (a *Adaptive) state() state {
	return state{a.plain.samples, a.ratio.samples, a.hinted, a.polled, a.silent, a.live, a.own}
}

func (a *Adaptive) snapshot() state {
	a.mu.Lock()
	defer a.mu.Unlock()
	st := a.state()
	st.plain = append([]sample(nil), st.plain...)
	st.ratio = append([]sample(nil), st.ratio...)
	return st
}

func (a *Adaptive) restore(st state) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replay(st)
}

// replay learns st from the beginning. Callers hold a.mu.
func (a *Adaptive) replay(st state) {
	a.hinted, a.polled, a.silent, a.live, a.own = st.hinted, st.polled, st.silent, st.live, st.own
	a.priced = a.price()
	a.plain.replay(false, st.plain)
	a.plainNow.Store(a.plain.schedule(a.priced))
	renew(&a.sharedNow)
	a.ratio = model{}
	if len(st.ratio) > 0 {
		a.ratio.replay(true, st.ratio)
	}
	renew(&a.ratioNow)
}

func (st state) merge(o state) state {
	return state{
		plain:  interleave(st.plain, o.plain),
		ratio:  interleave(st.ratio, o.ratio),
		hinted: st.hinted + o.hinted,
		polled: st.polled + o.polled,
		silent: (st.silent + o.silent) / 2,
		live:   st.live || o.live,
		own:    min(st.own+o.own, sharedUntil),
	}
}

// interleave merges two sequences so that equal shares of both lie before every
// point, and keeps the newest maxSamples.
func interleave(a, b []sample) []sample {
	r := make([]sample, 0, len(a)+len(b))
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

// text has a header, a line for hints, and a line for each sample:
//
//	vtclient-adaptive 1
//	hints <hinted> <polled>
//	p <lo> <hi> [<weight>]
//	r <lo> <hi>
//
// p is a job without an estimate, in seconds, and r one with an estimate, in
// units of it. The hi of a wait that was given up is "-".
func (st state) text() []byte {
	b := make([]byte, 0, 64+24*(len(st.plain)+len(st.ratio)))
	num := func(v float64) {
		b = append(b, ' ')
		if math.IsInf(v, 1) {
			b = append(b, '-')
			return
		}
		b = strconv.AppendFloat(b, v, 'g', 9, 64)
	}
	b = append(b, stateHeader+"\nhints"...)
	num(st.hinted)
	num(st.polled)
	b = append(b, '\n')
	for _, l := range []struct {
		kind    byte
		samples []sample
	}{{'p', st.plain}, {'r', st.ratio}} {
		for _, s := range l.samples {
			b = append(b, l.kind)
			num(s.lo)
			num(s.hi)
			if s.weight != 1 {
				num(s.weight)
			}
			b = append(b, '\n')
		}
	}
	return b
}

func parseState(text []byte) (state, error) {
	var st state
	if len(text) > maxState {
		return st, fmt.Errorf("%d bytes are more than the %d allowed", len(text), maxState)
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

func (st *state) parseLine(line []byte, n int) error {
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
		st.hinted, st.polled = v[0], v[1]
		st.live = v[1] > 0
		return nil
	}
	s := sample{lo: v[0], hi: v[1], weight: 1}
	if s.lo > s.hi || s.hi == 0 {
		return errors.New("not an interval")
	}
	to := &st.ratio
	switch string(f[0]) {
	case "p":
		to = &st.plain
		if len(f) == 4 {
			s.weight = v[2]
			if !(s.weight > 0 && s.weight < 1) {
				return errors.New("the weight is not between 0 and 1")
			}
		} else {
			st.own = min(st.own+1, sharedUntil)
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
