package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func fixture(t *testing.T) config {
	dir := t.TempDir()
	return config{dir: "testdata/fixture", log: filepath.Join(dir, "log"), judged: filepath.Join(dir, "judged"), workers: 2, memory: 1024, grace: time.Second}
}

// try runs the mutants and returns their results and what was said.
func try(t *testing.T, c config) (*report, string) {
	t.Helper()
	var said bytes.Buffer
	r, err := mutate(c, &said, &said)
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	return r, said.String()
}

func whats(all []*mutant) (out []string) {
	for _, m := range all {
		out = append(out, m.what)
	}
	return out
}

// The survivors of the fixture are known.
func TestSurvivors(t *testing.T) {
	c := fixture(t)
	judged := "# a comment\n\nfixture.go\tif a < b {\ta < b → a <= b\tthey are equal then\n"
	if err := os.WriteFile(c.judged, []byte(judged), 0o666); err != nil {
		t.Fatal(err)
	}
	r, said := try(t, c)
	want := []string{
		"true → false",    // Never, which no test reaches
		"pause → 2*pause", // the test takes any pause
	}
	if got := whats(r.alive); !slices.Equal(got, want) {
		t.Errorf("survivors %q\nwant %q\n%s", got, want, said)
	}
	if got := whats(r.judged); !slices.Equal(got, []string{"a < b → a <= b"}) || r.why[r.judged[0]] != "they are equal then" {
		t.Errorf("judged %q", got)
	}
	if r.results[unreached] != 1 || r.broken != 0 || r.left != 0 {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(said, "left out, for it fails without a mutant: TestBroken") {
		t.Errorf("TestBroken is not named:\n%s", said)
	}

	// All is in the log: nothing is tried again but the survivors, on demand.
	began := r.results[killed]
	if r, said = try(t, c); strings.Contains(said, "trying") || r.results[killed] != began {
		t.Errorf("tried again: %s", said)
	}
	c.again = true
	if r, said = try(t, c); !strings.Contains(said, "trying 3 mutants") || len(r.alive) != 2 {
		t.Errorf("%v\n%s", whats(r.alive), said)
	}
}

// A log is of certain sources.
func TestLogOfOtherSources(t *testing.T) {
	c := fixture(t)
	if err := os.WriteFile(c.log, []byte("# sources 0123\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := mutate(c, &bytes.Buffer{}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "other sources") {
		t.Error(err)
	}
}

// The parts are all there is, and no mutant is in two of them.
func TestShardsAndSamples(t *testing.T) {
	s, err := load("testdata/fixture", nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for _, shard := range []string{"1/3", "2/3", "3/3"} {
		part, err := choose(s.mutants, config{shard: shard})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range part {
			seen[m.key()]++
		}
	}
	if len(seen) != len(s.mutants) {
		t.Errorf("%d mutants in the parts, want %d, each with a key of its own", len(seen), len(s.mutants))
	}
	for _, bad := range []string{"0/3", "4/3", "x"} {
		if _, err := choose(s.mutants, config{shard: bad}); err == nil {
			t.Errorf("-shard %s is taken", bad)
		}
	}
	a, _ := choose(s.mutants, config{sample: 5, seed: 1})
	b, _ := choose(s.mutants, config{sample: 5, seed: 1})
	other, _ := choose(s.mutants, config{sample: 5, seed: 2})
	if len(a) != 5 || !slices.Equal(a, b) || slices.Equal(a, other) {
		t.Errorf("%q, %q, %q", whats(a), whats(b), whats(other))
	}
}

// What the mutants of a piece of code are, and that they nest.
func TestMutants(t *testing.T) {
	s, err := load("testdata/fixture", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"a < b → a <= b", "a < b → true", "a < b → false", "removed: a = b", "min(a, 10) → max(a, 10)", "10 → 2*10",
		"i < n → false", "removed: i++", "i++ → i--", "return i → its zero value",
		"n == 0 → true", `return "small" → its zero value`, "pause → 2*pause",
		"-w * -h → -w / -h", "-w → w", "A: -w * -h → its zero value",
		"removed: sum += x", "sum += x → sum -= x",
	} {
		if !slices.Contains(whats(s.mutants), want) {
			t.Errorf("no mutant %q in\n%s", want, strings.Join(whats(s.mutants), "\n"))
		}
	}
	for _, bad := range []string{"i < n → true", "removed: panic(\"99\")", "return true → its zero value"} {
		if slices.Contains(whats(s.mutants), bad) {
			t.Errorf("mutant %q", bad)
		}
	}
	if text := s.instrumented["fixture.go"]; strings.Count(text, "\n") != strings.Count(read(t, "testdata/fixture/fixture.go"), "\n") {
		t.Errorf("lines have moved:\n%s", text)
	}
}

func read(t *testing.T, name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What the time has run out for is not tried, and is said to be left.
func TestLimit(t *testing.T) {
	c := fixture(t)
	c.limit = time.Nanosecond
	r, _ := try(t, c)
	if r.tried() != 0 || r.left == 0 {
		t.Errorf("%+v", r)
	}
}

// Tests of another package are tried on what the package's own let live.
func TestSurvivorsOfBothPackages(t *testing.T) {
	c := fixture(t)
	try(t, c)
	c.from, c.again = "outside", true
	r, said := try(t, c)
	if got := whats(r.alive); slices.Contains(got, "true → false") || !slices.Contains(got, "pause → 2*pause") {
		t.Errorf("survivors %q\n%s", got, said)
	}
}
