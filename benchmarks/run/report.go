package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
)

// figures are the values of all rounds, in their order, by benchmark and unit.
type figures struct {
	values  map[string]map[string][]float64
	names   []string // in the order in which they were met
	cpu     string
	remarks []string
}

// readFigures reads RESULTS.txt.
func readFigures(file string) (*figures, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	f := &figures{values: make(map[string]map[string][]float64)}
	for _, line := range strings.Split(string(text), "\n") {
		if remark, ok := strings.CutPrefix(line, "# "); ok {
			f.remarks = append(f.remarks, remark)
		}
	}
	r := benchfmt.NewReader(bytes.NewReader(text), file)
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.SyntaxError:
			if !strings.HasPrefix(rec.Msg, "unexpected") {
				return nil, rec
			}
		case *benchfmt.Result:
			f.cpu = rec.GetConfig("cpu")
			name := suffix.ReplaceAllString(rec.Name.String(), "")
			if f.values[name] == nil {
				f.values[name] = make(map[string][]float64)
				f.names = append(f.names, name)
			}
			for _, v := range rec.Values {
				unit, value := v.Unit, v.Value
				if v.OrigUnit != "" { // the reader turns ns into seconds
					unit, value = v.OrigUnit, v.OrigValue
				}
				f.values[name][unit] = append(f.values[name][unit], value)
			}
		}
	}
	if err := r.Err(); err != nil && err != io.EOF {
		return nil, err
	}
	return f, nil
}

// suffix is what package testing appends to the names of repeated benchmarks, and the
// number of processors.
var suffix = regexp.MustCompile(`(#\d+)?(-\d+)?$`)

// get returns the values of one contender.
func (f *figures) get(bench, by, unit string) []float64 { return f.values[bench+"/by="+by][unit] }

// summary is benchstat's: the median, and the interval of at least 95 % confidence.
// Of fewer than six values it has none, and their range stands in.
func summary(values []float64) benchmath.Summary {
	s := benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds), .95)
	if math.IsInf(s.Lo, 0) || math.IsInf(s.Hi, 0) {
		s.Lo, s.Hi = slices.Min(values), slices.Max(values)
	}
	return s
}

// byPeer returns the contenders of a benchmark but for vtclient, and for the optimum,
// which is none.
func (f *figures) byPeer(bench, unit string) (names []string) {
	for _, name := range f.names {
		if by, ok := strings.CutPrefix(name, bench+"/by="); ok && !strings.HasPrefix(by, "vtclient") && by != "optimum" && len(f.values[name][unit]) > 0 {
			names = append(names, by)
		}
	}
	slices.Sort(names)
	return names
}

// A line is a row with what was found.
type line struct {
	row
	own    benchmath.Summary
	peers  []string // each with its figure
	ref    string   // the best of the references
	ratio  benchmath.Summary
	rounds int
	allocs float64 // NaN: not measured
	extra  string
}

// met returns whether the goal was met, and whether the noise leaves that open.
func (l line) met() string {
	if l.goal == 0 {
		return "–"
	}
	s := l.ratio
	if l.absolute {
		s = l.own
	}
	good := func(v float64) bool { return v <= l.goal }
	if l.more || l.inverse {
		good = func(v float64) bool { return v >= l.goal }
	}
	if l.noAllocs && l.allocs != 0 {
		return "**no**, it allocates"
	}
	switch {
	case good(s.Lo) && good(s.Hi):
		return "yes"
	case good(s.Center):
		return "yes, not beyond the noise"
	case good(s.Lo) || good(s.Hi):
		return "**no**, not beyond the noise"
	}
	return "**no**"
}

func (f *figures) line(r row) (l line, ok bool) {
	l.row = r
	by := r.ours
	if by == "" {
		by = "vtclient"
	}
	own := f.get(r.bench, by, r.unit)
	if len(own) == 0 {
		return l, false
	}
	l.own, l.rounds, l.allocs = summary(own), len(own), math.NaN()
	if a := f.get(r.bench, by, "allocs/op"); len(a) > 0 {
		l.allocs = summary(a).Center
	}
	better := func(a, b float64) bool { return a < b != r.more }
	best := math.NaN()
	for _, p := range f.byPeer(r.bench, r.unit) {
		v := summary(f.get(r.bench, p, r.unit)).Center
		l.peers = append(l.peers, p+" "+show(v, r.unit))
		if slices.Contains(r.refs, p) && (l.ref == "" || better(v, best)) {
			l.ref, best = p, v
		}
	}
	if l.ref != "" {
		ref := f.get(r.bench, l.ref, r.unit)
		var ratios []float64
		for i := range min(len(own), len(ref)) {
			v := own[i] / ref[i]
			if r.inverse {
				v = 1 / v
			}
			ratios = append(ratios, v)
		}
		l.ratio = summary(ratios)
	}
	return l, true
}

// table makes the lines of everything that was measured.
func (f *figures) table() (lines []line) {
	for _, r := range rows {
		if l, ok := f.line(r); ok {
			lines = append(lines, l)
		}
	}
	return append(lines, f.waiting()...)
}

// waiting makes the lines of the waiting cost. What is to be reached follows from what
// the optimum leaves: 0.8 of the best peer where that is possible, else 1.05.
func (f *figures) waiting() (lines []line) {
	for _, name := range f.names {
		bench, by, _ := strings.Cut(name, "/by=")
		if !strings.HasPrefix(bench, "Waiting/") || by != "vtclient" {
			continue
		}
		peers := f.byPeer(bench, "cost/job")
		law, cost, _ := strings.Cut(strings.TrimPrefix(bench, "Waiting/law="), "/cost=")
		l, ok := f.line(row{bench: bench, work: "waiting cost, " + strings.ReplaceAll(law, "-", " ") + ", a request worth " + cost + " s",
			unit: "cost/job", refs: peers})
		if !ok || l.ref == "" {
			continue
		}
		best := summary(f.get(bench, l.ref, "cost/job")).Center
		room := summary(f.get(bench, "optimum", "cost/job")).Center / best
		started := summary(f.get(bench, "vtclient-started", "cost/job")).Center / best
		if l.goal = 1.05; room <= .8 {
			l.goal = .8
		}
		l.extra = fmt.Sprintf("the optimum %.2f; with `StartedAt` %.2f", room, started)
		lines = append(lines, l)
	}
	return lines
}

// show writes a figure with its unit.
func show(v float64, unit string) string {
	text := strconv.FormatFloat(v, 'f', 0, 64)
	if v < 100 {
		text = strconv.FormatFloat(v, 'g', 3, 64)
	}
	switch unit {
	case "ns/op", "cpu-ns/poll":
		if v >= 10_000 {
			return strconv.FormatFloat(v/1000, 'f', 1, 64) + " µs"
		}
		return text + " ns"
	case "allocs/op":
		return text
	case "exponent", "exchanges":
		return strconv.FormatFloat(v, 'f', 2, 64)
	case "held-ms":
		return text + " ms"
	case "hit-%":
		return strconv.FormatFloat(v, 'f', 1, 64) + " %"
	case "peak-MiB":
		return text + " MiB"
	case "cost/job":
		return strconv.FormatFloat(v, 'f', 1, 64) + " s"
	}
	return text + " B"
}

func (l line) goalText() string {
	sign, text := "≤", strconv.FormatFloat(l.goal, 'f', 2, 64)
	switch {
	case l.goal == 0:
		return "–"
	case l.more || l.inverse:
		sign = "≥"
	}
	if l.absolute {
		return sign + " " + show(l.goal, l.unit)
	}
	if l.noAllocs {
		text += ", 0 allocations"
	}
	return sign + " " + text
}

func (l line) ratioText() (ratio, spread string) {
	if l.ref == "" {
		return "–", "–"
	}
	spread = fmt.Sprintf("%.2f–%.2f", l.ratio.Lo, l.ratio.Hi)
	if l.rounds < 6 {
		spread += " (too few rounds)"
	}
	return fmt.Sprintf("**%.2f** of %s", l.ratio.Center, l.ref), spread
}

// report is RESULTS.md.
func (f *figures) report(ctx context.Context, o options, lines []line, peers []peer) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# vtclient beside its peers\n\n")
	fmt.Fprintf(&b, "Written by `go run ./run` in this folder; [README.md](README.md) describes what is measured and how.\n"+
		"A ratio below 1 means that vtclient takes less. Times on this machine mean little by themselves; the\n"+
		"ratios are of figures taken within the same second, the median over all rounds, with the 95 %% confidence\n"+
		"interval beside it. Of several references the one with the best median counts.\n\n")
	if o.note != "" {
		fmt.Fprintf(&b, "%s\n\n", o.note)
	}
	fmt.Fprintf(&b, "Machine: %s, %d processors, %s, %s/%s, %s.\n", f.cpu, runtime.NumCPU(), memory(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	for _, r := range f.remarks {
		fmt.Fprintf(&b, "Run: %s.\n", r)
	}
	fmt.Fprintf(&b, "\n| work | vtclient | peers | ratio | spread | goal | met |\n|---|---|---|---|---|---|---|\n")
	for _, l := range lines {
		ratio, spread := l.ratioText()
		others := strings.Join(l.peers, ", ")
		if others == "" {
			others = "–"
		}
		if l.extra != "" {
			others += "; ÷ the best peer: " + l.extra
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", l.work, show(l.own.Center, l.unit), others, ratio, spread, l.goalText(), l.met())
	}
	if len(peers) > 0 {
		fmt.Fprintf(&b, "\n## What comes with each\n\n"+
			"Modules: those that `go get` of the package adds to an empty module, its own included. Names: the\n"+
			"exported constants, variables, functions, types and methods of the package. Lines: those with code, in\n"+
			"the package without its tests, and in all packages outside the standard library that it links.\n\n"+
			"| package | version | modules | names | lines | lines linked |\n|---|---|---|---|---|---|\n")
		for _, p := range peers {
			modules := "?"
			if p.modules > 0 {
				modules = strconv.Itoa(p.modules)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %d | %d | %d |\n", p.path, p.version, modules, p.names, p.lines, p.linked)
		}
	}
	fmt.Fprintf(&b, "\n## All figures\n\n[RESULTS.txt](RESULTS.txt) holds the figures of all rounds; `go tool benchstat -col /by RESULTS.txt` shows\n"+
		"them side by side. Medians and intervals above are those of benchstat's own packages\n(`%s`).\n", benchstatVersion(ctx))
	return b.Bytes()
}

func benchstatVersion(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "golang.org/x/perf").Output()
	if err != nil {
		return "golang.org/x/perf"
	}
	return strings.TrimSpace(string(out))
}

// memory is how much the machine has.
func memory() string {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return "memory unknown"
	}
	var kib float64
	fmt.Sscanf(string(text), "MemTotal: %f kB", &kib)
	return fmt.Sprintf("%.0f GiB", kib/(1<<20))
}
