// Command run measures vtclient beside its peers and writes down what it found.
//
//	go run ./run                       # everything, in under ten minutes
//	go run ./run -rows 'Cache|Breaker' # some rows
//	go run ./run -from RESULTS.txt     # measures nothing, only writes the table and the charts
//
// It is to be started in folder benchmarks. It builds the benchmarks of this module and
// of the root module and runs them in rounds, each of which measures everything once, so
// that a slow minute of the machine hits vtclient and its peers alike. A figure is the
// median over the rounds and a ratio the median of the rounds' ratios, both with the 95 %
// confidence interval that benchstat gives.
//
// RESULTS.txt holds the figures of all rounds in the format of Go's benchmarks: go tool
// benchstat -col /by RESULTS.txt reads it. RESULTS.md is the table made of it, and folder
// charts holds the charts.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

type options struct {
	rounds    int
	reps      int
	benchtime time.Duration
	rows      *regexp.Regexp
	from      string
	out       string
	note      string
	peers     bool
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("run: ")
	o := options{}
	rowsText := ""
	flag.IntVar(&o.rounds, "rounds", 10, "how many rounds; ratios of fewer than six say little")
	flag.IntVar(&o.reps, "reps", 5, "how many turns each contender has in each round")
	flag.DurationVar(&o.benchtime, "benchtime", 20*time.Millisecond, "how long a turn is")
	flag.StringVar(&rowsText, "rows", "", "measure only the benchmarks whose names match this `regexp`; Waiting is one of them")
	flag.StringVar(&o.from, "from", "", "measure nothing, and take the figures from this `file`")
	flag.StringVar(&o.out, "out", ".", "the `folder` to write to")
	flag.StringVar(&o.note, "note", "", "a `remark` about this run, for the head of RESULTS.md")
	flag.BoolVar(&o.peers, "peers", true, "also count the modules, names and lines of each peer; asks the module proxy")
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 || o.reps < 1 {
		flag.Usage()
		os.Exit(2)
	}
	var err error
	if o.rows, err = regexp.Compile(rowsText); err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		stop()
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options) error {
	if err := os.MkdirAll(o.out, 0o777); err != nil {
		return err
	}
	raw := o.from
	if raw == "" {
		raw = filepath.Join(o.out, "RESULTS.txt")
		if err := measure(ctx, o, raw); err != nil {
			return err
		}
	}
	f, err := readFigures(raw)
	if err != nil {
		return err
	}
	var peers []peer
	if o.peers {
		if peers, err = countPeers(ctx); err != nil {
			return err
		}
	}
	lines := f.table()
	if err := os.WriteFile(filepath.Join(o.out, "RESULTS.md"), f.report(ctx, o, lines, peers), 0o666); err != nil {
		return err
	}
	charts := filepath.Join(o.out, "charts")
	if err := os.MkdirAll(charts, 0o777); err != nil {
		return err
	}
	for name, svg := range map[string][]byte{"status.svg": f.statusChart(), "ratios.svg": ratioChart(lines)} {
		if svg == nil { // its rows were not measured
			continue
		}
		if err := os.WriteFile(filepath.Join(charts, name), svg, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// measure runs the rounds and leaves their figures in file raw.
func measure(ctx context.Context, o options, raw string) error {
	tmp, err := os.MkdirTemp("", "benchmarks")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if raw, err = filepath.Abs(raw); err != nil {
		return err
	}
	for name, dir := range map[string]string{"peers": ".", "root": ".."} {
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", filepath.Join(tmp, name), ".")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %v\n%s", cmd, err, out)
		}
	}
	w, err := os.Create(raw)
	if err != nil {
		return err
	}
	defer w.Close()
	began := time.Now()
	fmt.Fprintf(w, "# began %s, load %s\n", began.UTC().Format(time.DateOnly), load())
	bench := func(binary string, args ...string) error {
		cmd := exec.CommandContext(ctx, filepath.Join(tmp, binary), append([]string{"-test.run", "^$", "-test.timeout", "20m"}, args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%v: %v\n%s%s", cmd, err, out, stderr.Bytes())
		}
		_, err = w.WriteString(rename(string(out)))
		return err
	}
	for round := range o.rounds {
		for _, g := range groups {
			if !o.rows.MatchString(g.bench) || g.rounds > 0 && round >= g.rounds {
				continue
			}
			benchtime, reps := o.benchtime.String(), strconv.Itoa(o.reps*max(1, g.turns))
			if g.once {
				benchtime, reps = "1x", "1"
			}
			// Which comes first changes from round to round.
			ours := func() error {
				if g.root == "" {
					return nil
				}
				return bench("root", "-test.bench", pattern(g.root), "-test.benchtime", benchtime, "-test.count", reps)
			}
			theirs := func() error {
				of := []string{pattern(g.bench)}
				if g.apart != nil {
					of = nil
					for i := range g.apart {
						of = append(of, pattern(g.bench+"/by="+g.apart[(i+round)%len(g.apart)]))
					}
				}
				for _, p := range of {
					if err := bench("peers", "-test.bench", p, "-test.benchtime", benchtime, "-rotate", strconv.Itoa(round), "-reps", reps); err != nil {
						return err
					}
				}
				return nil
			}
			if round%2 == 1 {
				ours, theirs = theirs, ours
			}
			if err := ours(); err != nil {
				return err
			}
			if err := theirs(); err != nil {
				return err
			}
		}
		log.Printf("round %d of %d, %v, load %s", round+1, o.rounds, time.Since(began).Round(time.Second), load())
	}
	if o.rows.MatchString("Waiting") {
		// In virtual time: chance follows from a seed, and the machine does not matter.
		if err := bench("peers", "-test.run", "^TestWaitingCost$", "-waiting", raw); err != nil {
			return err
		}
		log.Printf("waiting cost, %v", time.Since(began).Round(time.Second))
	}
	_, err = fmt.Fprintf(w, "# ended after %v, load %s\n", time.Since(began).Round(time.Second), load())
	return err
}

// pattern makes a pattern that matches nothing but the benchmark named.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	parts[0] = "^Benchmark" + parts[0][1:]
	return strings.Join(parts, "/")
}

// rename gives what the root package measures its place beside the peers.
func rename(out string) string {
	for _, g := range groups {
		if g.root != "" {
			re := regexp.MustCompile(`(?m)^Benchmark` + regexp.QuoteMeta(g.root) + `(-\d+)?(\s)`)
			out = re.ReplaceAllString(out, "Benchmark"+g.bench+"/by=vtclient$1$2")
		}
	}
	return strings.ReplaceAll(out, "PASS\n", "")
}

// load is the mean number of processes that wanted to run in the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
