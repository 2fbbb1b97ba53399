package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sample is ten turns of three contenders. The machine is three times as slow in the
// second half, which no ratio may show.
func sample(t *testing.T) *figures {
	t.Helper()
	var b strings.Builder
	b.WriteString("# began 2026-01-02, load 0.10\ngoos: linux\ncpu: Some CPU\n")
	for i := range 10 {
		slow := 1.
		suffix := ""
		if i >= 5 {
			slow, suffix = 3, fmt.Sprintf("#%02d", i)
		}
		for by, ns := range map[string]float64{"vtclient": 40, "gobreaker": 160, "failsafe": 80, "eapache": 10} {
			fmt.Fprintf(&b, "BenchmarkBreakerClosed/by=%s%s-2 \t 100 \t %.1f ns/op \t 0 B/op \t 0 allocs/op\n", by, suffix, ns*slow+float64(i)/10)
		}
		for by, cost := range map[string]float64{"vtclient": 75, "aws": 100, "azcore": 120, "optimum": 79, "vtclient-started": 70} {
			fmt.Fprintf(&b, "BenchmarkWaiting/law=even/cost=5/by=%s 1 %.1f cost/job\n", by, cost)
		}
	}
	file := filepath.Join(t.TempDir(), "figures.txt")
	if err := os.WriteFile(file, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := readFigures(file)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTable(t *testing.T) {
	f := sample(t)
	lines := f.table()
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2: %+v", len(lines), lines)
	}
	for i, want := range []struct {
		ref   string
		ratio float64
		goal  float64
		met   string
	}{
		{"failsafe", .5, 1, "yes"}, // the best of the references; eapache is none
		{"aws", .75, .8, "yes"},    // the optimum, no peer, leaves the room
	} {
		l := lines[i]
		if l.ref != want.ref || l.ratio.Center < want.ratio-.01 || l.ratio.Center > want.ratio+.01 || l.goal != want.goal || l.met() != want.met {
			t.Errorf("%s: %.3f of %s, goal %v, met %q; want %+v", l.work, l.ratio.Center, l.ref, l.goal, l.met(), want)
		}
	}
	if l := lines[0]; l.ratio.Lo < .49 || l.ratio.Hi > .51 {
		t.Errorf("the slow half shows in the ratios: %.3f to %.3f", l.ratio.Lo, l.ratio.Hi)
	}
	report := string(f.report(t.Context(), options{note: "A note."}, lines, nil))
	for _, part := range []string{"Some CPU", "A note.", "load 0.10", "eapache 20.5 ns", "azcore 120.0 s; ÷", "**0.50** of failsafe"} {
		if !strings.Contains(report, part) {
			t.Errorf("the report lacks %q:\n%s", part, report)
		}
	}
	if host, err := os.Hostname(); err == nil && len(host) > 3 && strings.Contains(report, host) {
		t.Error("the report names the machine")
	}
}

func TestMet(t *testing.T) {
	at := func(l line, lo, center, hi float64) string {
		l.ratio.Lo, l.ratio.Center, l.ratio.Hi = lo, center, hi
		return l.met()
	}
	less := line{row: row{goal: 1}}
	more := line{row: row{goal: 1, more: true}}
	for _, c := range []struct{ got, want string }{
		{at(less, .8, .9, 1), "yes"},
		{at(less, .8, .9, 1.1), "yes, not beyond the noise"},
		{at(less, .9, 1.1, 1.2), "**no**, not beyond the noise"},
		{at(less, 1.1, 1.2, 1.3), "**no**"},
		{at(more, 1, 1.1, 1.2), "yes"},
		{at(more, .8, .9, .99), "**no**"},
		{at(line{}, .8, .9, 1), "–"},
		{at(line{row: row{goal: 1, noAllocs: true}, allocs: 1}, .8, .9, 1), "**no**, it allocates"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// TestNames sees to it that each group and row names a benchmark that is there.
func TestNames(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func Benchmark(\w+)\(`)
	find := func(dir string) (names []string) {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
				names = append(names, m[1])
			}
		}
		return names
	}
	here, root := find(".."), find("../..")
	var run []string
	for _, g := range groups {
		run = append(run, g.bench)
		if !slices.Contains(here, g.bench) {
			t.Errorf("no benchmark %s here", g.bench)
		}
		if name, _, _ := strings.Cut(g.root, "/"); name != "" && !slices.Contains(root, name) {
			t.Errorf("no benchmark %s in the root package", name)
		}
	}
	for _, name := range here {
		if !slices.Contains(run, name) {
			t.Errorf("benchmark %s is never run", name)
		}
	}
	for _, r := range rows {
		if name, _, _ := strings.Cut(r.bench, "/"); !slices.Contains(run, name) {
			t.Errorf("no benchmark for the row %q", r.work)
		}
	}
}

func TestRename(t *testing.T) {
	got := rename("cpu: x\nBenchmarkFlight/uncontended-2  10 5 ns/op\nBenchmarkFlight/64-way  10 5 ns/op\nBenchmarkRetryStage-2\t10 5 ns/op\nPASS\n")
	want := "cpu: x\nBenchmarkFlight/by=vtclient-2  10 5 ns/op\nBenchmarkFlight64/by=vtclient  10 5 ns/op\nBenchmarkRetry/by=vtclient-2\t10 5 ns/op\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCount(t *testing.T) {
	dir := t.TempDir()
	src := "// Package p.\npackage p\n\nconst A, b = 1, 2\n\n/* no\ncode */\ntype T struct{ inner }\n\ntype inner int\n\nfunc (inner) M() {} // seen through T\nfunc (x *other) N() {}\n\ntype other int\ntype I interface{ Do(); undo() }\n\nvar text = `two\nlines`\n"
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(src), 0o666); err != nil {
		t.Fatal(err)
	}
	lines, names, err := count(listed{Dir: dir, GoFiles: []string{"p.go"}})
	// A, T, M, I and Do.
	if err != nil || lines != 10 || names != 5 {
		t.Errorf("%d lines, %d names, %v; want 10 and 5", lines, names, err)
	}
}
