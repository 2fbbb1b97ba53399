package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A block is a stretch of the source as package cover sees it.
type block struct {
	from, to token.Position // line and column only
}

func before(a, b token.Position) bool {
	return a.Line < b.Line || a.Line == b.Line && a.Column < b.Column
}

// A suite is the package's tests: how long each takes, and what it reaches.
type suite struct {
	dir    string // of the tests
	binary string // instrumented
	tests  []string
	took   []time.Duration
	memory int           // MiB
	grace  time.Duration // that a mutant may take longer than five times as long

	reached map[string]map[block][]int // by file and block, the tests
}

// build compiles the test binary in tmp. extra are more arguments of go test -c.
func build(dir, out string, extra ...string) error {
	_, err := goTool(dir, append(append([]string{"test", "-c", "-vet=off", "-o", out}, extra...), ".")...)
	return err
}

// prepare builds the instrumented tests, runs each test alone, and finds what
// each reaches. A test that fails without any mutant is left out: it cannot
// judge one.
func prepare(s *subject, tmp string, c config, say func(string, ...any)) (*suite, error) {
	only, err := regexp.Compile(c.tests)
	if err != nil {
		return nil, fmt.Errorf("-tests: %w", err)
	}
	u := &suite{dir: filepath.Join(s.dir, c.from), binary: filepath.Join(tmp, "mutate.test"), memory: c.memory, grace: c.grace, reached: make(map[string]map[block][]int)}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	dir, err := filepath.Abs(s.dir)
	if err != nil {
		return nil, err
	}
	for name, text := range s.instrumented {
		file := filepath.Join(tmp, name)
		if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
			return nil, err
		}
		overlay.Replace[filepath.Join(dir, name)] = file
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(tmp, "overlay.json"), b, 0o666); err != nil {
		return nil, err
	}
	if err := build(u.dir, u.binary, "-overlay", filepath.Join(tmp, "overlay.json")); err != nil {
		return nil, err
	}
	cover := filepath.Join(tmp, "cover.test")
	if err := build(u.dir, cover, "-cover", "-coverpkg", s.path); err != nil {
		return nil, err
	}
	out, err := u.command(context.Background(), u.binary, 0, "-test.list", "^(Test|Example|Fuzz)").Output()
	if err != nil {
		return nil, fmt.Errorf("listing the tests: %w", err)
	}
	all := slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool { return !only.MatchString(name) })
	if len(all) == 0 {
		return nil, errors.New("there are no such tests")
	}
	say("%d tests, each alone", len(all))

	type measured struct {
		took    time.Duration
		profile map[string][]block
		slow    bool
		err     error
	}
	results := make([]measured, len(all))
	parallel(c.workers, len(all), func(i int) {
		r := &results[i]
		profile := filepath.Join(tmp, fmt.Sprint("cover.", i))
		run := func(binary string, args ...string) (time.Duration, error) {
			args = append(args, "-test.run", "^"+all[i]+"$")
			began := time.Now()
			out, err := u.command(context.Background(), binary, 0, args...).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, out)
			}
			return time.Since(began), err
		}
		var took time.Duration
		took, r.err = run(cover, "-test.coverprofile", profile)
		if r.slow = c.quick > 0 && took > c.quick; r.slow || r.err != nil {
			return
		}
		if r.profile, r.err = readProfile(profile); r.err != nil {
			return
		}
		if !slices.ContainsFunc(s.files, func(name string) bool { return r.profile[name] != nil }) {
			return // it will not be needed
		}
		if r.took, r.err = run(u.binary); r.err == nil && r.took < time.Second {
			r.took, r.err = run(u.binary) // once more, for what fails now and then
		}
	})
	for i, r := range results {
		if r.err != nil {
			say("left out, for it fails without a mutant: %s: %v", all[i], r.err)
			continue
		}
		if r.slow {
			say("left out, for it is slow: %s", all[i])
			continue
		}
		n := len(u.tests)
		u.tests = append(u.tests, all[i])
		u.took = append(u.took, r.took)
		for file, blocks := range r.profile {
			if u.reached[file] == nil {
				u.reached[file] = make(map[block][]int)
			}
			for _, b := range blocks {
				u.reached[file][b] = append(u.reached[file][b], n)
			}
		}
	}
	if len(u.tests) == 0 {
		return nil, errors.New("no test passes")
	}
	profile, err := os.ReadFile(filepath.Join(tmp, "cover.0")) // each holds all blocks
	if err != nil {
		return nil, err
	}
	blocks := parseProfile(profile, true)
	for _, m := range s.mutants {
		u.assign(m, blocks[m.file])
	}
	return u, nil
}

// assign finds the tests that reach a mutant.
func (u *suite) assign(m *mutant, blocks []block) {
	at, found := block{}, false
	for _, place := range m.places {
		for _, b := range blocks {
			inside := !before(place, b.from) && before(place, b.to)
			if inside && (!found || before(at.from, b.from)) {
				at, found = b, true
			}
		}
		if found {
			break
		}
	}
	if found {
		m.tests = slices.Clone(u.reached[m.file][at])
	} else { // it runs before any test does
		for i := range u.tests {
			m.tests = append(m.tests, i)
		}
	}
	slices.SortStableFunc(m.tests, func(a, b int) int { return int(u.took[a] - u.took[b]) })
}

func readProfile(name string) (map[string][]block, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return parseProfile(b, false), nil
}

var profileLine = regexp.MustCompile(`^(?:.*/)?([^/]+\.go):(\d+)\.(\d+),(\d+)\.(\d+) \d+ (\d+)$`)

// parseProfile returns the blocks by file: those reached, or all.
func parseProfile(b []byte, all bool) map[string][]block {
	found := make(map[string][]block)
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		m := profileLine.FindStringSubmatch(lines.Text())
		if m == nil || m[6] == "0" && !all {
			continue
		}
		var n [4]int
		for i := range n {
			n[i], _ = strconv.Atoi(m[2+i])
		}
		found[m[1]] = append(found[m[1]], block{token.Position{Line: n[0], Column: n[1]}, token.Position{Line: n[2], Column: n[3]}})
	}
	return found
}

func (u *suite) command(ctx context.Context, binary string, id int, args ...string) *exec.Cmd {
	binary, _ = filepath.Abs(binary)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = u.dir
	cmd.Env = append(os.Environ(), fmt.Sprint("MUTANT=", id), fmt.Sprint("MUTANT_MEMORY=", u.memory<<20))
	cmd.WaitDelay = time.Second
	return cmd
}

// The ways for a mutant to end.
const (
	killed    = "killed"
	timedOut  = "timeout"
	survived  = "survived"
	unreached = "unreached"
)

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
var runningTest = regexp.MustCompile(`(?m)^(?:panic|fatal error): (.*)$`)

// together is how long tests take that run in one process: a process costs
// something, and so does waiting for five times as long when one hangs.
const together = 300 * time.Millisecond

// try runs the tests that reach a mutant, the quick ones first, until one fails.
func (u *suite) try(m *mutant) (result, by string) {
	if len(m.tests) == 0 {
		return unreached, ""
	}
	for rest := m.tests; len(rest) > 0; {
		// Together as long as they are quick: a process costs something too.
		n, sum := 0, time.Duration(0)
		names := make([]string, 0, len(rest))
		for n < len(rest) && (n == 0 || sum+u.took[rest[n]] < together) && n < 100 {
			sum += u.took[rest[n]]
			names = append(names, u.tests[rest[n]])
			n++
		}
		rest = rest[n:]
		limit := 5*sum + u.grace
		out, late, err := u.runTests(m.id, names, limit)
		for late {
			// Unless the machine is so busy that they would not make it anyway.
			began := time.Now()
			if _, late, _ := u.runTests(0, names, limit); !late && time.Since(began) < limit/3 {
				break
			}
			limit *= 2
			out, late, err = u.runTests(m.id, names, limit)
		}
		switch {
		case late:
			return timedOut, fmt.Sprintf("after %v", limit.Round(time.Second))
		case err != nil:
			by = "?"
			if found := failedTest.FindSubmatch(out); found != nil {
				by = string(found[1])
			} else if found := runningTest.FindSubmatch(out); found != nil {
				by = short(string(found[0]))
			} else if bytes.Contains(out, []byte("mutate: too much memory")) {
				by = "too much memory"
			}
			return killed, by
		}
	}
	return survived, ""
}

// runTests runs tests by name, and reports whether it took more than the limit.
func (u *suite) runTests(id int, names []string, limit time.Duration) (out []byte, late bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, err = u.command(ctx, u.binary, id, "-test.failfast", "-test.timeout", "0",
		"-test.run", "^("+strings.Join(names, "|")+")$").CombinedOutput()
	return out, ctx.Err() != nil && err != nil, err
}

// parallel calls f for 0 to n-1 on that many workers, in order of their start.
func parallel(workers, n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range workers {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
