// Command mutate measures what a package's tests are worth: it breaks the
// package in one small way after the other and reports which of these mutants
// the package's own tests notice, and above all which they do not.
//
//	go run -C tools ./mutate [flags] [files]
//
// mutates the root package, or only the files named. A whole run takes about an
// hour on two cores. With -log it can be interrupted and gone on with, and with
// -again, once there are new tests, only those are tried that had survived.
//
// # Mutants
//
//   - a comparison, or whatever else decides an if, an operand of && or || or a
//     bool result: always true, always false (these two say more than its
//     negation); < ↔ <=, > ↔ >=
//   - && ↔ ||, + ↔ -, * ↔ /, % → *, & ↔ |, << ↔ >>, -x → x, ++ ↔ --, += ↔ -=,
//     max ↔ min
//   - constants, where they are used: true ↔ false, 0 → 1, n → n+1 below 10 and
//     2n from there on, twice as long a duration (1 s in the place of 0), twice a
//     fraction; not strings, and not what stands beside a comparison, whose own
//     mutants say as much
//   - a statement less: an assignment (no declaration), a call, a send, defer,
//     go, ++, break, continue; conditions that are always true or false stand for
//     a body or an else that is not there
//   - a result or a field of a literal that is left at its zero value
//
// Loops are not made endless on purpose: no condition of a loop that is always
// true, no loop without its last clause.
//
// # How
//
// All mutants are compiled into one test binary, each behind an if, and the environment
// variable MUTANT selects one of them. What would not compile is found by the type checker
// beforehand and is not counted. Each test runs alone once, for its time and its coverage; a
// mutant is then tried on the tests that reach it, the quick ones first, and is killed by the
// first that fails, by a crash, by 2 GiB of live memory, or by taking five times as long as the
// tests took without it and 5 s more; unless they would take so long without it too, since the
// machine is busy. Tests that fail without a mutant are named and left out.
//
// Black-box tests in another package see the mutants too: -from names its folder.
// First without it and then with it, -log and -again gives the score of both.
//
// # Survivors
//
// Some mutants change nothing that a test could or should see. Those that were judged are
// in a file (-judged), so that the report shows the rest: one line each, of the file's name,
// the source line, the change, and why it stays, with tabs between them.
package main

import (
	"bufio"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "mutate:", err)
		}
		os.Exit(2)
	}
}

// A config is what the flags say.
type config struct {
	dir, log, judged string
	tests, from      string
	shard            string
	sample           int
	seed             uint64
	workers, memory  int
	limit, grace     time.Duration
	quick            time.Duration
	least            float64
	again, list      bool
	files            []string
}

func run(args []string, stdout io.Writer) error {
	var c config
	flags := flag.NewFlagSet("mutate", flag.ContinueOnError)
	flags.StringVar(&c.dir, "dir", "..", "the package's `folder`")
	flags.StringVar(&c.log, "log", "", "a `file` to keep results in; what it has already is not tried again")
	flags.StringVar(&c.judged, "judged", "mutate/judged.txt", "the `file` of survivors that are known to be harmless")
	flags.StringVar(&c.shard, "shard", "", "try only part `i/n` of the mutants: 1/3, 2/3 and 3/3 are all")
	flags.StringVar(&c.tests, "tests", "", "run only the tests that match this `regexp`")
	flags.StringVar(&c.from, "from", ".", "run the tests of this `folder` below the package's; with -log and -again they are tried on what the package's own tests let live")
	flags.IntVar(&c.sample, "sample", 0, "try only `n` mutants, chosen at random; 0: all")
	flags.Uint64Var(&c.seed, "seed", 1, "of the sample")
	flags.IntVar(&c.workers, "j", runtime.GOMAXPROCS(0), "test processes at a time")
	flags.IntVar(&c.memory, "memory", 2048, "kill a mutant that holds more than this many `MiB`")
	flags.DurationVar(&c.grace, "grace", 5*time.Second, "the `time` that tests may take beyond five times their usual one")
	flags.DurationVar(&c.quick, "quick", 0, "leave out tests that take longer than this `time`; try the survivors on all with -again")
	flags.DurationVar(&c.limit, "limit", 0, "start no more mutants after this `time`; 0: no limit")
	flags.Float64Var(&c.least, "least", 0, "fail if a smaller `percentage` of the mutants is killed or judged")
	flags.BoolVar(&c.again, "again", false, "try those again that survived according to the log")
	flags.BoolVar(&c.list, "list", false, "only list the mutants")
	if err := flags.Parse(args); err != nil {
		return err
	}
	c.files = flags.Args()
	r, err := mutate(c, os.Stderr, stdout)
	if err != nil || r == nil {
		return err
	}
	r.print(stdout)
	if p := r.share(); p < c.least {
		return fmt.Errorf("%.1f %% of the mutants are killed or judged, which is less than %v %%", p, c.least)
	}
	return nil
}

// A report is what came of the mutants.
type report struct {
	results map[string]int
	broken  int       // mutants that do not compile
	left    int       // not tried yet
	alive   []*mutant // and not judged
	judged  []*mutant
	why     map[*mutant]string
}

func (r *report) tried() int {
	return r.results[killed] + r.results[timedOut] + r.results[survived] + r.results[unreached]
}

// share is the percentage of the mutants that are killed or judged.
func (r *report) share() float64 {
	return 100 * float64(r.tried()-len(r.alive)) / float64(max(1, r.tried()))
}

func (r *report) print(w io.Writer) {
	for _, m := range r.judged {
		fmt.Fprintf(w, "judged %s:%d:%d: %s: %s\n", m.file, m.line, m.col, m.what, r.why[m])
	}
	for _, m := range r.alive {
		fmt.Fprintf(w, "%s:%d:%d: %s\n\t%s\n", m.file, m.line, m.col, m.what, m.source)
	}
	dead := r.results[killed] + r.results[timedOut]
	fmt.Fprintf(w, "%d mutants: %d killed (%d of them by the time), %d survived (%d of them judged, %d not reached by any test); %.1f %% killed, %.1f %% killed or judged\n",
		r.tried(), dead, r.results[timedOut], r.tried()-dead, len(r.judged), r.results[unreached],
		100*float64(dead)/float64(max(1, r.tried())), r.share())
	if r.broken > 0 {
		fmt.Fprintf(w, "%d more do not compile\n", r.broken)
	}
	if r.left > 0 {
		fmt.Fprintf(w, "%d more have not been tried\n", r.left)
	}
}

func mutate(c config, progress, stdout io.Writer) (*report, error) {
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(progress, "%7s %s\n", time.Since(began).Round(time.Second), fmt.Sprintf(format, args...))
	}
	judged, err := readJudged(c.judged)
	if err != nil {
		return nil, err
	}
	s, err := load(c.dir, c.files)
	if err != nil {
		return nil, err
	}
	r := &report{results: make(map[string]int), why: make(map[*mutant]string)}
	var chosen []*mutant
	for _, m := range s.mutants {
		if m.dropped {
			r.broken++
		} else {
			chosen = append(chosen, m)
		}
	}
	if chosen, err = choose(chosen, c); err != nil {
		return nil, err
	}
	if c.list {
		for _, m := range chosen {
			fmt.Fprintln(stdout, m.key())
		}
		return nil, nil
	}
	say("%d mutants in %d files", len(chosen), len(s.files))

	results, write, err := openLog(c.log, s.hash)
	if err != nil {
		return nil, err
	}
	defer write.Close()
	var todo []*mutant
	for _, m := range chosen {
		old, ok := results[m.key()]
		if !ok || c.again && (old == survived || old == unreached) {
			todo = append(todo, m)
			delete(results, m.key())
		}
	}
	if len(todo) > 0 {
		if err := tryAll(c, s, todo, results, write, say); err != nil {
			return nil, err
		}
	}

	for _, m := range chosen {
		result, ok := results[m.key()]
		if !ok {
			r.left++
			continue
		}
		r.results[result]++
		if result == survived || result == unreached {
			if why, ok := judged[judgement{m.file, m.source, m.what}]; ok {
				r.why[m] = why
				r.judged = append(r.judged, m)
			} else {
				r.alive = append(r.alive, m)
			}
		}
	}
	return r, nil
}

// tryAll tries mutants and notes what came of them.
func tryAll(c config, s *subject, todo []*mutant, results map[string]string, write io.Writer, say func(string, ...any)) error {
	tmp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	u, err := prepare(s, tmp, c, say)
	if err != nil {
		return err
	}
	say("trying %d mutants", len(todo))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(stop)
	began := time.Now()
	var (
		mu    sync.Mutex
		over  bool
		cut   bool // by a signal, which may have ended the tests that were running, too
		tried int
		alive int
	)
	var failed error
	parallel(c.workers, len(todo), func(i int) {
		m := todo[i]
		interrupted := func() bool {
			select {
			case <-stop:
				cut = true
			default:
			}
			return cut
		}
		mu.Lock()
		over = over || interrupted() || c.limit > 0 && time.Since(began) > c.limit
		skip := over
		mu.Unlock()
		if skip {
			return
		}
		start := time.Now()
		result, by := u.try(m)
		mu.Lock()
		defer mu.Unlock()
		if interrupted() {
			return
		}
		results[m.key()] = result
		tried++
		if result == survived || result == unreached {
			alive++
			say("%s %s", result, m.key())
		}
		if tried%100 == 0 {
			say("%d of %d tried, %.1f %% killed", tried, len(todo), 100*float64(tried-alive)/float64(tried))
		}
		_, err := fmt.Fprintf(write, "%s\t%s\t%s\t%.1fs\t%s\n", result, m.key(), by, time.Since(start).Seconds(), m.source)
		failed = cmp.Or(failed, err)
	})
	return failed
}

// choose applies -sample and -shard.
func choose(all []*mutant, c config) ([]*mutant, error) {
	if c.sample > 0 && c.sample < len(all) {
		all = slices.Clone(all)
		r := rand.New(rand.NewPCG(c.seed, 0))
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:c.sample]
		slices.SortFunc(all, func(a, b *mutant) int { return a.id - b.id })
	}
	if c.shard == "" {
		return all, nil
	}
	var i, n int
	if _, err := fmt.Sscanf(c.shard, "%d/%d", &i, &n); err != nil || i < 1 || i > n {
		return nil, fmt.Errorf("-shard %s: expected i/n with i from 1 to n", c.shard)
	}
	var part []*mutant
	for k, m := range all {
		if k%n == i-1 {
			part = append(part, m)
		}
	}
	return part, nil
}

// openLog reads the results that a log holds and opens it to add more.
func openLog(name, hash string) (map[string]string, io.WriteCloser, error) {
	results := make(map[string]string)
	if name == "" {
		return results, discard{}, nil
	}
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, nil, err
	}
	head := "# sources " + hash
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	n := 0
	for ; lines.Scan(); n++ {
		if n == 0 && lines.Text() != head {
			file.Close()
			return nil, nil, fmt.Errorf("%s is of other sources than there are now: take another log, or remove it", name)
		}
		if f := strings.Split(lines.Text(), "\t"); len(f) >= 3 {
			results[f[1]+"\t"+f[2]] = f[0] // the last one counts
		}
	}
	if err := lines.Err(); err != nil {
		file.Close()
		return nil, nil, err
	}
	if n == 0 {
		_, err = fmt.Fprintln(file, head)
	}
	return results, file, err
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }

type judgement struct{ file, source, what string }

// readJudged reads the survivors that were judged, and why they stay.
func readJudged(name string) (map[judgement]string, error) {
	known := make(map[judgement]string)
	b, err := os.ReadFile(filepath.FromSlash(name))
	if errors.Is(err, os.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 4 {
			return nil, fmt.Errorf("%s:%d: expected file, source line, change and reason with tabs between them", name, n)
		}
		known[judgement{f[0], f[1], f[2]}] = f[3]
	}
	return known, nil
}
