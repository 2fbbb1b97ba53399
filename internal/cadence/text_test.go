package cadence

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Everything that a state can hold comes back, to nine digits.
func TestStateComesBack(t *testing.T) {
	st := State{
		Samples: [2][]Sample{Plain: {{Lo: 0, Hi: 61.5, Weight: 1, Turn: 7, ID: 0}, {Lo: 55, Hi: math.Inf(1), Weight: 1, Turn: 8, ID: 36}, {Lo: 1.0 / 3, Hi: 2.0 / 3, Weight: 0.25, Turn: 8, ID: 0}, {Lo: 1e-9, Hi: 1e10, Weight: 1, Turn: 9, ID: 0}, {Lo: 5, Hi: 5, Weight: 1, Turn: 10, ID: 0}},
			Ratio: {{Lo: 0.123456789, Hi: 0.2, Weight: 1, Turn: 3, ID: math.MaxUint64}, {Lo: 1, Hi: math.Inf(1), Weight: 0.99, Turn: 3, ID: 1}}},
		Hints: Hints{Hinted: 3.25, Polled: 0.125},
	}
	want := "vtclient-adaptive 1\nhints 3.25 0.125\np 0 61.5\np 55 - #10\nP 0.333333333 0.666666667 0.25\np 1e-09 1e+10\np 5 5\nr 0.123456789 0.2 #3w5e11264sgsf\nR 1 - 0.99 #1\n"
	if got := string(st.Text()); got != want {
		t.Errorf("text\n%s\nwant\n%s", got, want)
	}
	back, err := ParseState([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(back.Text()); !back.Hints.Live || back.Hints.Silent != 0 || strings.Count(got, "\n") != strings.Count(want, "\n") {
		t.Errorf("parsed and written again:\n%s\nwant\n%s", got, want)
	}
	for i, turn := range []int{-3, -2, -2, -1, 0} {
		if back.Samples[Plain][i].Turn != turn {
			t.Errorf("sample %d has turn %d, want %d", i, back.Samples[Plain][i].Turn, turn)
		}
	}
	for text, live := range map[string]bool{"": false, "\nhints 3 0": false, "\nhints 0 0.1\n": true} {
		if back, err := ParseState([]byte(stateHeader + text)); err != nil || back.Hints.Live != live {
			t.Errorf("%q: live %v, %v", text, back.Hints.Live, err)
		}
	}
}

// A text that is not a state, or is too large, is refused as a whole.
func TestWhatIsNoState(t *testing.T) {
	pad := func(n int) string { return stateHeader + strings.Repeat(" ", n-len(stateHeader)) }
	for text, want := range map[string]string{
		"":                               "no \"vtclient-adaptive 1\" in the first line",
		"vtclient-adaptive 2":            `no "vtclient-adaptive 1" in the first line`,
		"vtclient-adaptive 1 \n":         `no "vtclient-adaptive 1" in the first line`,
		pad(MaxText + 1):                 "131073 bytes are more than the 131072 allowed",
		"\n" + stateHeader + "\np 1 2\n": `no "vtclient-adaptive 1" in the first line`,
	} {
		st, err := ParseState([]byte(text))
		var skipped *SkippedError
		if err == nil || errors.As(err, &skipped) || !strings.HasPrefix(err.Error(), want) || len(st.Samples[Plain]) != 0 {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

// A line that cannot be read is left out, and the error gives the first of them.
func TestLinesAreLeftOut(t *testing.T) {
	const head = stateHeader + "\nhints 5 1\np 1 2\n"
	for line, want := range map[string]string{
		"":                     "not a line of a state",
		"p 1":                  "not a line of a state",
		"p 1 2 3 4":            "not a line of a state",
		"x 1 2":                "not a line of a state",
		"hints 5 5 1":          "not a line of a state",
		"hints 5 -":            "not a line of a state",
		"hints NaN 0":          "not a number from 0 to 1e+10",
		"p 1 1.1e10":           "not a number from 0 to 1e+10",
		"p -1 1":               "not a number from 0 to 1e+10",
		"p NaN 1":              "not a number from 0 to 1e+10",
		"p 1 Inf":              "not a number from 0 to 1e+10",
		"p - -":                "not a number from 0 to 1e+10",
		"p 1 - -":              "not a number from 0 to 1e+10",
		"p 1 2x":               "not a number from 0 to 1e+10",
		"p 2 1":                "not an interval",
		"p 0 0":                "not an interval",
		"p 1 2 1.1":            "the weight is not above 0 and up to 1",
		"p 1 2 0":              "the weight is not above 0 and up to 1",
		"p 1 2 #":              "not an id",
		"p 1 2 #-1":            "not an id",
		"r 1 2 ~":              "not a number from 0 to 1e+10",
		"r 1 2 ~-1":            "not a number from 0 to 1e+10",
		"r 1 2 ~Inf":           "not a number from 0 to 1e+10",
		"p 1 #1":               "not a line of a state",
		"#1":                   "not a line of a state",
		"hints 1 1 #1":         "not a line of a state",
		"p 1 2 #3w5e11264sgsg": "not an id",
	} {
		st, err := ParseState([]byte(head + line + "\nr 1 2\n" + line + "\n"))
		var skipped *SkippedError
		if !errors.As(err, &skipped) || skipped.First != 4 || skipped.Lines != 2 || skipped.Err.Error() != want {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
		if len(st.Samples[Plain]) != 1 || len(st.Samples[Ratio]) != 1 || st.Hints.Hinted != 5 || st.Hints.Polled != 1 {
			t.Errorf("%q: the rest is %+v", line, st)
		}
	}
	long := head + strings.Repeat("p 1 2\n", maxSamples+9) + strings.Repeat("r 1 2\n", maxSamples+9)
	if st, err := ParseState([]byte(long)); err != nil || len(st.Samples[Plain]) != maxSamples || len(st.Samples[Ratio]) != maxSamples {
		t.Errorf("more than are remembered: %d and %d, %v", len(st.Samples[Plain]), len(st.Samples[Ratio]), err)
	}
}

// someStates returns states that real learners have come to, with everything that can
// be in them.
func someStates(r *rand.Rand, n int) (states []State) {
	for range n {
		var l Learner
		if r.IntN(2) == 0 {
			l.ExpectHints()
		}
		scale := math.Exp(4 * r.NormFloat64())
		for i := range 1 + r.IntN(700) {
			d := scale * math.Exp(r.Float64())
			j := Job{Pending: d * r.Float64(), Done: d, Hinted: r.IntN(3) == 0, Exact: r.IntN(9) == 0, Failed: r.IntN(5) == 0}
			switch r.IntN(12) {
			case 0:
				j.Done, j.Hinted = math.Inf(1), false
			case 1, 2, 3:
				j.Expected = d
			case 4:
				j.Expected = 1e-9 * math.Exp(40*r.Float64()) // in any unit
			}
			if !math.IsInf(j.Done, 1) {
				l.CountHint(j.Hinted)
			}
			if i%100 == 99 {
				scale *= 5 // a change
			}
			l.Learn(j)
		}
		states = append(states, l.State().Clone())
	}
	return states
}

// What several learners know comes out the same in whatever order it is merged.
func TestMergesInAnyOrder(t *testing.T) {
	noRace(t)
	r := rand.New(rand.NewPCG(1, 1))
	for range 2 {
		states := someStates(r, 4)
		var want string
		for range 8 {
			list := slices.Clone(states)
			r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			for len(list) > 1 { // in any grouping, too
				i := r.IntN(len(list) - 1)
				var l Learner // as Adaptive.Merge does
				l.Restore(list[i].Merge(list[i+1]))
				list[i] = l.State()
				list = slices.Delete(list, i+1, i+2)
			}
			if got := fmt.Sprintf("%.9g %.9g\n%s", list[0].Hints.Silent, list[0].Hints.Worth(), list[0].Text()); want == "" {
				want = got
			} else if got != want {
				t.Fatalf("two orders differ:\n%.200s\n%.200s", got, want)
			}
		}
	}
}

// Everything that learners and merges come to is finite and bounded, and its text is read
// back whole.
func TestStatesStayInTheirDomain(t *testing.T) {
	noRace(t)
	r := rand.New(rand.NewPCG(2, 2))
	states := someStates(r, 4)
	for range 40 {
		states[0], states[1] = states[0].Merge(states[1]), states[1].Merge(states[0])
	}
	for range 1000 {
		states[2].Hints = states[2].Hints.merge(states[2].Hints)
	}
	for i, st := range states {
		text := st.Text()
		back, err := ParseState(text)
		if err != nil {
			t.Fatalf("state %d is not read back: %v", i, err)
		}
		if string(back.Text()) != string(st.Merge(State{}).Text()) {
			t.Errorf("state %d changes on its way through", i)
		}
		if len(text) > MaxText/2 || len(st.Samples[Plain]) > maxSamples || len(st.Samples[Ratio]) > maxSamples {
			t.Errorf("state %d: %d bytes, %d and %d samples", i, len(text), len(st.Samples[Plain]), len(st.Samples[Ratio]))
		}
		for _, s := range append(slices.Clone(st.Samples[Plain]), st.Samples[Ratio]...) {
			if !(s.Lo >= 0 && s.Lo <= maxAge && s.Lo <= s.Hi && s.Hi > 0) || s.Hi > maxAge && !math.IsInf(s.Hi, 1) {
				t.Errorf("state %d: sample %+v", i, s)
			}
		}
		var l Learner
		l.Restore(back)
		if w := l.Worth(); !(w >= 1 && w <= 101) {
			t.Errorf("state %d: requests are worth %v", i, w)
		}
		for _, pend := range []float64{0, 1, 100, 1e5, 1e9} {
			if to := l.Model(Plain).Schedule(l.Worth(), 0).Best(pend); !(to > pend && to < 2*pend+1e5) {
				t.Errorf("state %d: after %v comes %v", i, pend, to)
			}
		}
	}
}
