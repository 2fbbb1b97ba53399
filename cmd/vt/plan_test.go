package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// runPlan runs "vt plan" and returns what it wrote and its exit code.
func runPlan(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"plan"}, args...), strings.NewReader(stdin), &out, &errs, func(string) string { return "" })
	return out.String(), errs.String(), code
}

func TestPlanErrors(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, test := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"60\n\n# all\nsoon\n", nil, `line 4: "soon" is not a duration: want seconds, such as 90 or 1.5, or a duration like 1m30s`},
		{"60 70\n", nil, `line 1: "60 70" is not a duration`},
		{"1m\n0\n", nil, `line 2: "0" is not positive: want a duration above 0`},
		{"-5s\n", nil, `line 1: "-5s" is not positive`},
		{"NaN\n", nil, `line 1: "NaN" is not a duration`},
		{"-Inf\n", nil, `line 1: "-Inf" is not positive`},
		{"1e300\n", nil, `line 1: "1e300" is too long: want at most 87600 h`},
		{"100000h\n", nil, `line 1: "100000h" is too long`},
		{"\x1b[31m\n", nil, `line 1: "\x1b[31m" is not a duration`},
		{strings.Repeat("9", maxPlanLine+1) + "\n", nil, "line 1: is longer than 8388608 bytes"},
		{"# nothing\n\n", nil, "standard input: holds no durations"},
		{"", []string{missing}, "no such file"},
		{"60\n", []string{"-cost", "0"}, "0s is not positive"},
		{"60\n", []string{"-cost", "much"}, `invalid value "much" for flag -cost`},
		{"60\n", []string{"-cost", "1ns"}, "-cost 1ns is too small beside durations of 1m0s on average"},
		{"", []string{"-simulate", "60s", "-n", "0"}, "-n 0 is not from 1 to 5000"},
		{"", []string{"-simulate", "60s", "-n", "5001"}, "-n 5001 is not from 1 to 5000"},
		{"", []string{"-simulate", "normal:3m"}, `no distribution "normal"`},
		{"", []string{"-simulate", "60s", "file"}, "there is no file to read"},
		{"60\n", []string{"-n", "5"}, "-n goes with -simulate"},
		{"60\n", []string{"a", "b"}, `"b": takes one file`},
		{"60\n", []string{"-svg", filepath.Join(missing, "x.svg")}, "no such file"},
	} {
		out, errs, code := runPlan(t, test.stdin, test.args...)
		if code != exitError || out != "" || !strings.Contains(errs, test.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%.40q %q: code %d, wrote %q and %q; want %q", test.stdin, test.args, code, out, errs, test.want)
		}
	}
}

func TestPlanReads(t *testing.T) {
	s, err := readDurations(strings.NewReader("\ufeff90\r\n  1.5 # half\n\n#\n1m30s\n1e3\n.001"), 0)
	want := []time.Duration{90 * time.Second, 1500 * time.Millisecond, 90 * time.Second, 1000 * time.Second, time.Millisecond}
	if err != nil || s.read != 5 || !slices.Equal(s.durations, want) {
		t.Errorf("%+v, %v; want %v", s, err, want)
	}
	broken := errors.New("broken")
	if _, err := readDurations(io.MultiReader(strings.NewReader("1\n"), failing{broken}), 0); !errors.Is(err, broken) {
		t.Errorf("a reader's error is lost: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Of too many durations some are picked, at random but the same each time, and
// in their order.
func TestPlanPicks(t *testing.T) {
	var in strings.Builder
	const n = 3 * maxPlanJobs
	for i := range n {
		fmt.Fprintln(&in, i+1)
	}
	s, err := readDurations(strings.NewReader(in.String()), 7)
	again, _ := readDurations(strings.NewReader(in.String()), 7)
	a := s.durations
	if err != nil || s.read != n || len(a) != maxPlanJobs || !slices.Equal(a, again.durations) {
		t.Fatalf("picked %d of %d, %v; again the same: %t", len(a), s.read, err, slices.Equal(a, again.durations))
	}
	if !slices.IsSorted(a) {
		t.Error("the order is lost")
	}
	if mean := (&plan{sample: s}).mean(); math.Abs(mean/n-0.5) > 0.02 {
		t.Errorf("their mean is %v, of all it is %v", mean, n/2)
	}
	p := plan{source: "x", sample: s, cost: time.Second}
	if s := p.table(nil); !strings.HasPrefix(s, "5000 jobs picked at random from 15000 from x, ") {
		t.Errorf("the table lacks it: %s", s)
	}
}

// The dynamic programme agrees with a trial of every list of ages that are
// multiples of a second, durations or not.
func TestPlanOptimum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		longest := 1 + r.IntN(11)
		durations := make([]time.Duration, 1+r.IntN(8))
		for i := range durations {
			durations[i] = time.Duration(1+r.IntN(longest)) * time.Second
		}
		last := slices.Max(durations)
		cost := time.Duration((0.05 + 6*r.Float64()) * 1e9)
		least := math.Inf(1)
		for set := range 1 << (last/time.Second - 1) {
			var polls []time.Duration
			for k := time.Second; k < last; k += time.Second {
				if set>>(k/time.Second-1)&1 == 1 {
					polls = append(polls, k)
				}
			}
			least = min(least, tryPolls(append(polls, last), durations).cost(cost))
		}
		polls := optimalPolls(durations, cost.Seconds())
		if got := tryPolls(polls, durations).cost(cost); math.Abs(got-least) > 1e-9 {
			t.Fatalf("%v at %v: %v costs %v, the best is %v", durations, cost, polls, got, least)
		}
	}
}

func TestPlanKnownOptima(t *testing.T) {
	const s = time.Second
	for _, test := range []struct {
		durations []time.Duration
		cost      time.Duration
		want      []time.Duration
	}{
		{[]time.Duration{60 * s, 60 * s, 60 * s}, s, []time.Duration{60 * s}},
		{[]time.Duration{7}, time.Hour, []time.Duration{7}},
		// Asking at 10 s costs the job of 100 s one request more, and spares that
		// of 10 s the wait for 90 s.
		{[]time.Duration{100 * s, 10 * s}, 89 * s, []time.Duration{10 * s, 100 * s}},
		{[]time.Duration{100 * s, 10 * s}, 91 * s, []time.Duration{100 * s}},
	} {
		if got := optimalPolls(test.durations, test.cost.Seconds()); !slices.Equal(got, test.want) {
			t.Errorf("%v at %v: %v, want %v", test.durations, test.cost, got, test.want)
		}
	}
}

// Where all jobs take the same the best constant asks exactly then, and no search
// finds less than the optimum.
func TestPlanSearch(t *testing.T) {
	same := []time.Duration{60 * time.Second, 60 * time.Second}
	if g := newSearch(same, time.Second).constant(); g != time.Minute {
		t.Errorf("best constant %v, want 1m", g)
	}
	r := rand.New(rand.NewPCG(2, 2))
	for range 6 {
		durations := make([]time.Duration, 30)
		for i := range durations {
			durations[i] = time.Duration(60e9 * math.Exp(r.NormFloat64()))
		}
		cost := 2 * time.Second
		s := newSearch(durations, cost)
		g := s.constant()
		b := s.exponential(g)
		constant, exponential := s.of(backoff{g, g, 1}), s.of(b)
		least := tryPolls(optimalPolls(durations, cost.Seconds()), durations).cost(cost)
		if !(least <= exponential && exponential <= constant) {
			t.Errorf("optimum %v, best exponential %v, best constant %v", least, exponential, constant)
		}
		for k := 1.0; k < 300; k *= 1.01 { // no other constant is much better
			d := time.Duration(k * 1e9)
			if c := s.of(backoff{d, d, 1}); c < constant*0.98 {
				t.Errorf("best constant %v costs %v, but %v costs %v", g, constant, d, c)
				break
			}
		}
	}
}

// The two ways of trying a cadence, job by job and with all jobs at once, agree.
func TestPlanTries(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 30 {
		durations := make([]time.Duration, 1+r.IntN(20))
		for i := range durations {
			durations[i] = time.Duration(1 + r.Int64N(300e9))
		}
		b := backoff{base: time.Duration(1e9 + r.Int64N(30e9)), mult: 1 + 2*r.Float64()}
		b.limit = b.base + time.Duration(r.Int64N(60e9))
		a := b.try(newSearch(durations, time.Second).sorted, newSearch(durations, time.Second).sums)
		step := float64(b.base)
		c := try(func(k int, _ *rand.Rand) time.Duration {
			if k == 0 {
				step = float64(b.base)
			}
			d := time.Duration(min(step, float64(b.limit)))
			step *= b.mult
			return d
		}, durations, r)
		if math.Abs(a.requests/a.jobs-c.requests/c.jobs) > 1e-9 || math.Abs(a.delay/a.jobs-c.delay/c.jobs) > 1e-6 {
			t.Fatalf("%v on %v: %v at once, %v one by one", b, durations, a.point(), c.point())
		}
	}
}

// The delays follow the strategies' definitions.
func TestPlanDelays(t *testing.T) {
	const s = time.Second
	type span struct{ lo, hi time.Duration }
	exact := func(ds ...time.Duration) (out []span) {
		for _, d := range ds {
			out = append(out, span{d, d})
		}
		return out
	}
	want := map[string][]span{
		"every 1s":             exact(s, s, s),
		"Azure SDK: every 30s": exact(30*s, 30*s, 30*s),
		"AWS waiter: 10s, doubling up to 2m": {
			{10 * s, 10 * s}, {10 * s, 20 * s}, {10 * s, 40 * s}, {10 * s, 80 * s}, {10 * s, 120 * s}, {10 * s, 120 * s}},
		"Google LRO: 1s, doubling up to 1m": {
			{0, s}, {0, 2 * s}, {0, 4 * s}, {0, 8 * s}, {0, 16 * s}, {0, 32 * s}, {0, 60 * s}, {0, 60 * s}},
		"cenkalti/backoff: 500ms ×1.5, up to 1m": {
			{s / 4, 3 * s / 4}, {375 * s / 1000, 1125 * s / 1000}, {5625 * s / 10000, 16875 * s / 10000}},
		"HeyGen CLI: 2s, doubling up to 30s": {
			{1500 * s / 1000, 2500 * s / 1000}, {3 * s, 5 * s}, {6 * s, 10 * s}, {12 * s, 20 * s}, {22500 * s / 1000, 37500 * s / 1000}},
		"Exponential: 500ms, doubling up to 1m": exact(s/2, s/2, s, 2*s, 4*s, 8*s, 16*s, 32*s, 60*s, 60*s),
	}
	r := rand.New(rand.NewPCG(4, 4))
	for _, w := range wellKnown() {
		spans := want[w.name]
		if spans == nil {
			t.Errorf("%s: not tested", w.name)
		}
		for k, span := range spans {
			lo, hi := time.Duration(math.MaxInt64), time.Duration(0)
			for range 400 {
				d := w.delay(k, r)
				lo, hi = min(lo, d), max(hi, d)
			}
			width := span.hi - span.lo
			if lo < span.lo || hi > span.hi || lo > span.lo+width/20+1 || hi < span.hi-width/20-1 {
				t.Errorf("%s: delay %d from %v to %v, want %v to %v", w.name, k, lo, hi, span.lo, span.hi)
			}
			if span.lo == 0 && lo <= 0 {
				t.Errorf("%s: a delay of nothing would never end", w.name)
			}
		}
	}
}

// All rows but those of random strategies and of the finer search, to the letter.
func TestPlanTable(t *testing.T) {
	out, errs, code := runPlan(t, "# two short, one long\n10\n10s\n\n1m40s\n", "-cost", "2s")
	if code != exitOK || errs != "" {
		t.Fatalf("code %d, %q", code, errs)
	}
	var fixed []string
	for line := range strings.Lines(out) {
		if !strings.Contains(line, "doubling up to 2m") && !strings.Contains(line, "LRO") && !strings.Contains(line, "cenkalti") && !strings.Contains(line, "CLI") &&
			!strings.Contains(line, "Adaptive") && !strings.Contains(line, "best growing") {
			fixed = append(fixed, strings.TrimRight(line, "\n"))
		}
	}
	want := `3 jobs from standard input, 40.00 s on average; a request is worth 2s

way of polling                          requests    late by       cost  ÷ least
every 1s                                   40.00        0 s    80.00 s    30.00
Azure SDK: every 30s                        2.00    20.00 s    24.00 s     9.00
Exponential: 500ms, doubling up to 1m       7.00    12.00 s    26.00 s     9.75
best fixed interval: 10s                    4.00        0 s     8.00 s     3.00
least possible for these very jobs          1.33        0 s     2.67 s     1.00

All figures are a job's average. Late by: from its end to the request that finds
it over. Cost: requests × 2s, what one is worth, + late by. Least: the cost
of asking at the best ages, if all durations were known but not which job takes
which.

best fixed interval there could have been.`
	if got := strings.Join(fixed, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, name := range []string{"AWS waiter", "Google LRO", "cenkalti/backoff", "HeyGen", "best growing", "Adaptive, learning", "Adaptive, second half", "With Adaptive, waiting for a job costs "} {
		if !strings.Contains(out, name) {
			t.Errorf("no row for %s", name)
		}
	}
}

func TestPlanFitsInto80Columns(t *testing.T) {
	for _, args := range [][]string{
		{"-simulate", "lognormal:3m,0.5", "-n", "50"}, {"-simulate", "lognormal:100h,2", "-n", "3", "-cost", "1h"},
	} {
		out, errs, code := runPlan(t, "", args...)
		if code != exitOK {
			t.Fatal(errs)
		}
		for line := range strings.Lines(out) {
			line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "        ")
			if n := cells(line); n > 80 {
				t.Errorf("%q: %d cells: %s", args, n, line)
			}
		}
	}
}

// What vt wait has written, to a file of -learn or as JSON, is read back: each job that was
// over counts with a time between the two requests that it was over between.
func TestPlanReadsWhatWaitWrote(t *testing.T) {
	file := filepath.Join(t.TempDir(), "learnt")
	var written string
	synctest.Test(t, func(t *testing.T) {
		args := []string{"wait", "-json", "-cost", "1s", "-learn", file, "-duration", "uniform:50s-70s", "-fail-rate", "20%"}
		for i := range 40 {
			args = append(args, fmt.Sprint("job-", i))
		}
		written = vt(args...).stdout
	})
	learnt, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"JSON": written, "learnt": string(learnt)} {
		s, err := readDurations(strings.NewReader(text), 0)
		if err != nil || s.read < 30 || s.read > 40 || !s.drawn {
			t.Errorf("%s: %d durations, %v, from\n%s", name, s.read, err, text)
			continue
		}
		if mean := (&plan{sample: s}).mean(); mean < 55 || mean > 70 {
			t.Errorf("%s: their mean is %.1f s, of jobs of 50 to 70 s", name, mean)
		}
	}
	// With and without an estimate; those whose estimate is not known, and waits that were given up, are left out.
	const lines = "vtclient-adaptive 1\nhints 0 0\np 5 5 0.99 #a1\nP 6 6\nr 2 2 ~4 #b2\nR 0.5 0.5 0.99 ~8\nr 1 2\nr 1 - ~4\n"
	want := []time.Duration{5 * time.Second, 6 * time.Second, 8 * time.Second, 4 * time.Second}
	if s, err := readDurations(strings.NewReader(lines), 0); err != nil || !slices.Equal(s.durations, want) {
		t.Errorf("%q: %v, %v, want %v", lines, s.durations, err, want)
	}
	for _, tt := range []struct{ in, want string }{
		{"vtclient-adaptive 1\nhints 0 0\np 5 x\n", "line 3: is no line of vt wait -learn"},
		{"vtclient-adaptive 1\nr 5 6 ~x\n", "line 2: is no line of vt wait -learn"},
		{"vtclient-adaptive 1\np 9 5\n", "line 2: 9 to 5 s is no duration"},
		{"vtclient-adaptive 1\nhints 0 0\nr 1 2\np 5 -\n", "holds no durations"},
		{`{"event":"done"` + "\n", "line 1: is no line of vt wait -json"},
		{`{"event":"done","outcome":"completed","done_by":-4}` + "\n", "line 1: 0 to -4 s is no duration"},
		{`{"event":"progress"}` + "\n" + `{"event":"done","outcome":"timeout","done_by":4}` + "\n", "holds no durations"},
	} {
		if _, err := readDurations(strings.NewReader(tt.in), 0); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.in, err, tt.want)
		}
	}
}

func TestPlanAsksForInputOnATerminal(t *testing.T) {
	var errs bytes.Buffer
	code := run(t.Context(), []string{"plan"}, struct {
		io.Reader
		*fakeTerminal
	}{strings.NewReader("60\n"), &fakeTerminal{}}, io.Discard, &errs, os.Getenv)
	if code != exitOK || !strings.Contains(errs.String(), "type durations, one a line") {
		t.Errorf("code %d: %q", code, errs.String())
	}
}

func TestPlanJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "durations")
	if err := os.WriteFile(file, []byte("60\n61\n59.5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, code := runPlan(t, "", "-json", file)
	var got struct {
		Source      string
		Jobs        int
		RequestCost float64 `json:"request_cost_seconds"`
		Strategies  []struct {
			Name     string
			Requests float64
			Delay    float64 `json:"delay_seconds"`
			Cost     float64 `json:"waiting_cost_seconds"`
			Ratio    float64 `json:"ratio_to_optimum"`
		}
	}
	if err := json.Unmarshal([]byte(out), &got); code != exitOK || err != nil {
		t.Fatalf("code %d, %v: %s", code, err, out)
	}
	if got.Source != file || got.Jobs != 3 || got.RequestCost != 1 || len(got.Strategies) != 12 {
		t.Errorf("got %+v", got)
	}
	for _, s := range got.Strategies {
		if s.Name == "" || s.Requests < 1 || s.Delay < 0 || s.Ratio < 0.99 || math.Abs(s.Requests+s.Delay-s.Cost) > 1e-9 {
			t.Errorf("%+v", s)
		}
	}
}

// The figures of what is random by the seed are the same each time, and
// Adaptive's are near the optimum's.
func TestPlanSimulate(t *testing.T) {
	rows := func() map[string]string {
		out, errs, code := runPlan(t, "", "-simulate", "lognormal:3m,0.5", "-n", "400", "-cost", "5s", "-seed", "3")
		if code != exitOK {
			t.Fatal(code, errs)
		}
		m := make(map[string]string)
		for line := range strings.Lines(out) {
			if name, figures, ok := strings.Cut(line, "  "); ok {
				m[name] = strings.Join(strings.Fields(figures), " ")
			}
		}
		return m
	}
	a, b := rows(), rows()
	for name, figures := range a {
		if !strings.Contains(name, "Adaptive") && b[name] != figures {
			t.Errorf("%s: first %q, then %q", name, figures, b[name])
		}
	}
	var ratio float64
	fields := strings.Fields(a["Adaptive, second half of the jobs"])
	if _, err := fmt.Sscan(fields[len(fields)-1], &ratio); err != nil || ratio > 1.2 {
		t.Errorf("Adaptive, once learnt: %v (%v)", fields, err)
	}
}

func TestPlanChart(t *testing.T) {
	for _, args := range [][]string{
		{"-simulate", "lognormal:3m,0.5", "-n", "60"},
		{"-simulate", "60s", "-n", "20"}, // delays of nothing, on a logarithmic scale
		{"-simulate", "1ns", "-n", "1"},
	} {
		file := filepath.Join(t.TempDir(), "a--b<&>.svg")
		if _, errs, code := runPlan(t, "", append(args, "-svg", file)...); code != exitOK {
			t.Fatalf("%q: %s", args, errs)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		wellFormed(t, text)
		for _, want := range []string{"prefers-color-scheme", "vt plan -cost 1s -seed 0 -simulate " + args[1] + " -n " + args[3] + " -svg "} {
			if !bytes.Contains(text, []byte(want)) {
				t.Errorf("%q: no %q", args, want)
			}
		}
		if bytes.Contains(text, []byte("NaN")) || bytes.Contains(text, []byte("Inf")) || bytes.Contains(text, []byte("%!")) {
			t.Errorf("%q: not a number in it", args)
		}
	}
}

func wellFormed(t *testing.T, text []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("the SVG is not well-formed: %v", err)
		}
	}
}

// The drawing follows from the figures alone, and its labels keep apart.
func TestPlanChartLayout(t *testing.T) {
	p := plan{source: "x", command: "vt plan", cost: time.Second, sample: sample{read: 300, durations: drawDurations(mustDistribution(t, "lognormal:3m,0.5"), 300, 0, 1)}}
	results, err := p.compare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.chart(t.Context(), results)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := c.svg(), c.svg(); !bytes.Equal(a, b) {
		t.Error("two drawings of the same figures differ")
	}
	labels := regexp.MustCompile(`<text class="label (\w+)" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]*)<`).FindAllStringSubmatch(string(c.svg()), -1)
	var boxes []box
	for _, m := range labels {
		x, _ := strconv.ParseFloat(m[2], 64)
		y, _ := strconv.ParseFloat(m[3], 64)
		width := textWidth(html.UnescapeString(m[5]), m[1] == "adaptive" || m[1] == "optimum")
		left := x - width*map[string]float64{"start": 0, "middle": 0.5, "end": 1}[m[4]]
		boxes = append(boxes, box{left, y - 11, left + width, y + 3})
	}
	if len(boxes) < 12 {
		t.Errorf("%d labels", len(boxes))
	}
	for i, a := range boxes {
		if a.x0 < 0 || a.x1 > chartWidth {
			t.Errorf("%q sticks out", labels[i][5])
		}
		for k, b := range boxes[:i] {
			if a.overlap(b) > 0 {
				t.Errorf("%q and %q overlap", labels[i][5], labels[k][5])
			}
		}
	}
}

func mustDistribution(t *testing.T, text string) (d distribution) {
	t.Helper()
	if err := d.Set(text); err != nil {
		t.Fatal(err)
	}
	return d
}

// An interrupt ends it, also while it waits for input.
func TestPlanInterrupted(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code := run(ctx, []string{"plan"}, r, io.Discard, io.Discard, os.Getenv); code != exitInterrupted {
		t.Errorf("code %d while reading", code)
	}
	if code := run(ctx, []string{"plan", "-simulate", "60s", "-svg", filepath.Join(t.TempDir(), "x")}, r, io.Discard, io.Discard, os.Getenv); code != exitInterrupted {
		t.Errorf("code %d while trying", code)
	}
}

func TestPlanHelp(t *testing.T) {
	out, _, code := runPlan(t, "", "-h")
	if code != exitOK || !strings.Contains(out, "vt plan [flags] [file]") || !strings.Contains(out, "-simulate") {
		t.Errorf("code %d: %s", code, out)
	}
}
