package storm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

const (
	// tagHeader names the exchange that a request belongs to: the job's id, a dot, and
	// the number of the exchange among those for the job.
	tagHeader = "X-Storm-Tag"
	// wireHeader is how the server numbers what comes over the wire, for itself.
	wireHeader = "X-Storm-Wire"
)

// A serverConfig describes a server process. Two with the same seed and epoch give the same
// answers about any job, so one takes over where another was killed.
type serverConfig struct {
	Addr        string
	Ledger      string // the file that it writes down its requests in; "": none
	Seed        uint64
	Epoch       time.Time // when all jobs began
	Short, Long time.Duration
	FailureRate float64
	Token       string
	Storm       bool    // with faults
	TooMany     float64 // the rate of 429s; each holds the whole client for a second
}

func (c *serverConfig) options() []simserver.Option {
	opts := []simserver.Option{
		simserver.WithSeed(c.Seed), simserver.WithEpoch(c.Epoch), simserver.WithAutoCreate(),
		simserver.WithDurations(simserver.Uniform(c.Short, c.Long)),
		simserver.WithFailureRate(c.FailureRate), simserver.WithToken(c.Token),
	}
	if c.Storm {
		opts = append(opts, simserver.WithFaults(simserver.Faults{
			Status:     map[int]float64{500: 0.02, 502: 0.005, 503: 0.01, 429: c.TooMany},
			RetryAfter: time.Second,
			Drop:       0.02, Reset: 0.01, Cut: 0.02, Garbage: 0.02,
			Silence: 0.002, Drip: 0.01, DripEvery: 5 * time.Millisecond,
			Latency: 5 * time.Millisecond, Jitter: 20 * time.Millisecond,
		}))
	}
	return opts
}

// truth returns what becomes of the jobs, by their ids.
func (c *serverConfig) truth(ids []string) map[string]simserver.Job {
	sim := simserver.New(c.options()...)
	defer sim.Close()
	jobs := make(map[string]simserver.Job, len(ids))
	for _, id := range ids {
		sim.Create(simserver.Job{ID: id, Started: c.Epoch})
		jobs[id], _ = sim.Job(id)
	}
	return jobs
}

// serve is the server process. It prints "listening ADDRESS", obeys the commands outage,
// blackout, well and stats on its standard input, and stops when that ends. It answers each
// with its counts.
func serve(cfg serverConfig) error {
	file := io.Discard
	if cfg.Ledger != "" {
		f, err := os.Create(cfg.Ledger)
		if err != nil {
			return err
		}
		defer f.Close()
		file = f
	}
	// One write for each line, with no buffer of ours: what is written survives a SIGKILL.
	var mu sync.Mutex
	note := func(format string, args ...any) {
		line := fmt.Appendf(nil, format, args...)
		mu.Lock()
		defer mu.Unlock()
		file.Write(line)
	}
	sim := simserver.New(append(cfg.options(), simserver.WithOnExchange(func(x simserver.Exchange) {
		note("end %s %d %d %s\n", x.Header.Get(wireHeader), time.Now().UnixNano(), x.Code, x.Fault)
	}))...)
	var wires atomic.Int64
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wire := strconv.FormatInt(wires.Add(1), 10)
		note("begin %s %d %s\n", wire, time.Now().UnixNano(), r.Header.Get(tagHeader))
		r.Header.Set(wireHeader, wire)
		// As some servers do, it repeats the credentials it got.
		w.Header().Set("X-Request-Id", r.Header.Get("Authorization"))
		sim.ServeHTTP(w, r)
	})}
	ln, err := net.Listen("tcp", cfg.Addr)
	for began := time.Now(); err != nil && time.Since(began) < patience; ln, err = net.Listen("tcp", cfg.Addr) {
		time.Sleep(10 * time.Millisecond) // an outgoing connection may have the port for a moment
	}
	if err != nil {
		return err
	}
	fmt.Printf("listening %s\n", ln.Addr())
	go server.Serve(ln)
	say := func() {
		text, _ := json.Marshal(sim.Stats())
		fmt.Printf("%s\n", text)
	}
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); say() {
		switch commands.Text() {
		case "outage":
			sim.Outage(time.Hour)
		case "blackout":
			sim.Blackout(time.Hour)
		case "well":
			sim.Outage(0)
		}
	}
	sim.Close() // first, so that requests held in silence end
	server.Close()
	say()
	return nil
}

// A server is a server process, as the test sees it.
type server struct {
	*process
	cfg serverConfig
}

func startServer(t *testing.T, cfg serverConfig) *server {
	t.Helper()
	s := &server{start(t, serverEnv, cfg), cfg}
	line, _ := s.line()
	addr, ok := strings.CutPrefix(line, "listening ")
	if !ok {
		t.Fatalf("the server said %q", line)
	}
	s.cfg.Addr = addr
	return s
}

func (s *server) url() string { return "http://" + s.cfg.Addr }

// send sends a command and returns the counts that come back.
func (s *server) send(command string) simserver.Stats {
	s.t.Helper()
	fmt.Fprintln(s.in, command)
	line, _ := s.line()
	return s.counts(line)
}

func (s *server) counts(line string) (stats simserver.Stats) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(line), &stats); err != nil {
		s.t.Fatalf("the server said %q", line)
	}
	return stats
}

// stop ends the server in order and returns its last counts.
func (s *server) stop() simserver.Stats {
	s.t.Helper()
	lines := s.rest()
	if s.err != nil || len(lines) != 1 {
		s.t.Fatalf("the server ended with %v and said %q", s.err, lines)
	}
	return s.counts(lines[0])
}

// A wire is one request as a server saw it.
type wire struct {
	tag        string
	server     int // which of the servers
	begin, end int64
	fault      string
	code       int
	ended      bool // the server knew what had become of it before it was killed
}

// readLedger returns what a server wrote down.
func readLedger(t *testing.T, path string, server int) (wires []*wire) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	byNumber := make(map[string]*wire)
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, "\n") {
			continue // the server was killed over it
		}
		// The tag or the fault may be missing, and the last field empty.
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		at, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			t.Fatalf("%s: %q: %v", path, line, err)
		}
		switch f[0] {
		case "begin":
			w := &wire{tag: f[3], server: server, begin: at}
			byNumber[f[1]] = w
			wires = append(wires, w)
		case "end":
			w := byNumber[f[1]]
			w.ended, w.end, w.fault = true, at, f[4]
			if w.code, err = strconv.Atoi(f[3]); err != nil {
				t.Fatalf("%s: %q: %v", path, line, err)
			}
		}
	}
	return wires
}
