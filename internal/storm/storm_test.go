package storm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// A scale is one form of the test.
type scale struct {
	jobs        int
	short, long time.Duration // of the jobs
	outage      time.Duration
	timeout     time.Duration
	options     []vtclient.Option
	tooMany     float64       // the rate of 429s
	again       float64       // the share of the jobs that has ended when the server is killed once more
	step        time.Duration // of the report's account of the load
	figures     bool          // there is enough of each phase to compare their loads
}

// stragglers is how many jobs are added while the server is in trouble, so that some jobs meet
// it however slow the machine is.
const stragglers = 8

// bound is the default of WithMaxInFlight.
const bound = 64

func chooseScale(t *testing.T) scale {
	text := os.Getenv("VTCLIENT_STORM")
	if text == "" {
		return scale{
			jobs: 500, short: 1500 * time.Millisecond, long: 5 * time.Second, outage: time.Second,
			timeout: time.Second, tooMany: 0.0005, again: 0.8, step: time.Second,
			options: []vtclient.Option{
				vtclient.WithTimeout(time.Second),
				vtclient.WithPolling(vtclient.NewAdaptive(20 * time.Millisecond)),
				vtclient.WithRetry(vtclient.Exponential{Base: 100 * time.Millisecond, Max: 500 * time.Millisecond, Jitter: 0.5}),
				vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{
					OpenPeriod: 100 * time.Millisecond, MaxOpenPeriod: 400 * time.Millisecond,
				})),
			},
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 500 {
		t.Fatalf("VTCLIENT_STORM=%s: want a number of jobs, at least 500", text)
	}
	// The client is as New makes it.
	return scale{
		jobs: n, short: 15 * time.Second, long: 6 * time.Minute, outage: time.Minute,
		timeout: 10 * time.Second, tooMany: 0.0001, again: 0.9, step: 10 * time.Second, figures: true,
	}
}

// seed makes at least one request meet each kind of fault when every job is asked about
// for the first time.
const seed = 16

// Every job ends once, with the right result, whatever the server and the network do; the
// faults that the server made are those that the client reports; nothing is left.
func TestStorm(t *testing.T) {
	processes(t)
	sc := chooseScale(t)
	before := runtime.NumGoroutine()
	runStorm(t, sc)

	// Whatever is left would hold on to something of the client's.
	for began := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Since(began) > patience {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(time.Millisecond)
	}
}

// An ending is how WaitAll ended a job.
type ending struct {
	status vtclient.Status
	err    error
}

func runStorm(t *testing.T, sc scale) {
	dir := t.TempDir()
	const secret = "storm-secret-5f2a81c4"
	cfg := serverConfig{
		Addr: "127.0.0.1:0", Seed: seed, Epoch: time.Now().Round(0), Short: sc.short, Long: sc.long,
		FailureRate: 0.1, Token: secret, Storm: true, TooMany: sc.tooMany,
	}
	ledgerFile := func(n int) string { return filepath.Join(dir, fmt.Sprintf("ledger-%d", n)) }
	cfg.Ledger = ledgerFile(0)
	srv := startServer(t, cfg)
	servers := 1

	// The jobs.
	main := make([]string, sc.jobs-4*stragglers)
	for i := range main {
		main[i] = fmt.Sprintf("job-%d", i)
	}
	late := make([][]string, 4)
	ids := slices.Clone(main)
	for i := range late {
		for k := range stragglers {
			late[i] = append(late[i], fmt.Sprintf("late-%d-%d", i, k))
		}
		ids = append(ids, late[i]...)
	}
	truth := cfg.truth(ids)
	more := make(chan []string, len(late))
	jobs := func(yield func(vtclient.Job) bool) {
		for _, id := range main {
			if !yield(vtclient.Job{ID: id}) {
				return
			}
		}
		for ids := range more {
			for _, id := range ids {
				if !yield(vtclient.Job{ID: id}) {
					return
				}
			}
		}
	}

	// The client, and what it reports.
	rec := newRecorder(secret, bound)
	allAsked := make(chan struct{})
	rec.onAsked = func(n int) {
		if n == len(main) {
			close(allAsked)
		}
	}
	var idle, loaded runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&idle)
	client, err := vtclient.New(srv.url(), append(rec.options(), sc.options...)...)
	if err != nil {
		t.Fatal(err)
	}
	collected := make(chan struct{})
	runtime.AddCleanup(client, func(struct{}) { close(collected) }, struct{}{})

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ends := make(map[string][]ending) // of the goroutine below, until done is closed
	done := make(chan struct{})
	var ended atomic.Int64
	someEnded, mostEnded := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(done)
		for st, err := range client.WaitAll(ctx, jobs, vtclient.OnError(rec.onError)) {
			ends[st.JobID] = append(ends[st.JobID], ending{st, err})
			if !strings.HasPrefix(st.JobID, "job-") {
				continue
			}
			switch n := int(ended.Add(1)); n {
			case int(0.3 * float64(len(main))):
				close(someEnded)
			case int(sc.again * float64(len(main))):
				close(mostEnded)
			}
		}
	}()

	// What happens to the server. Each step waits for something that is sure to come.
	await := func(ch <-chan struct{}, what string) {
		t.Helper()
		select {
		case <-ch:
		case <-time.After(sc.long + sc.outage + patience):
			t.Fatalf("%s: not so after %v; %d jobs have ended", what, time.Since(began), ended.Load())
		}
	}
	var kills []kill
	restart := func(meanwhile []string) {
		t.Helper()
		k := kill{from: time.Now()}
		srv.kill()
		more <- meanwhile
		until(t, "a request finds no server", func() bool {
			rec.mu.Lock()
			defer rec.mu.Unlock()
			for i := len(rec.exchanges) - 1; i >= 0 && !rec.exchanges[i].sent.Before(k.from); i-- {
				if rec.exchanges[i].outcome == unreachable {
					return true
				}
			}
			return false
		})
		next := srv.cfg
		next.Ledger = ledgerFile(servers)
		srv = startServer(t, next)
		servers++
		k.to = time.Now()
		kills = append(kills, k)
	}
	down := func(how simserver.Fault) {
		t.Helper()
		srv.send(string(how))
		over := time.Now().Add(sc.outage / 2)
		until(t, "a request meets the "+string(how), func() bool { return srv.send("stats").Faults[how] > 0 })
		time.Sleep(time.Until(over)) // so long is the outage
	}

	await(allAsked, "every job was asked about")
	asked := time.Now()
	runtime.GC()
	runtime.ReadMemStats(&loaded)
	restart(late[0])
	await(someEnded, "some jobs have ended")
	outage := time.Now()
	more <- late[1]
	down(simserver.FaultOutage)
	down(simserver.FaultBlackout)
	srv.send("well")
	recovered := time.Now()
	await(mostEnded, "most jobs have ended")
	restart(late[2])
	again := kills[1].from
	restart(late[3]) // a server that comes back and goes again
	close(more)
	await(done, "all jobs have ended")
	took := time.Since(began)
	stats := srv.stop()
	client.CloseIdleConnections()
	client = nil

	// Each job ended once, with the right result, and not before it was over.
	if len(ends) != len(ids) {
		t.Errorf("%d jobs have ended, want %d", len(ends), len(ids))
	}
	failed := 0
	for _, id := range ids {
		if len(ends[id]) != 1 {
			t.Errorf("%s ended %d times", id, len(ends[id]))
			continue
		}
		if end := ends[id][0]; end.err != nil {
			failed++
			rec.inspect(end.err.Error())
		}
		if err := check(ends[id][0].status, ends[id][0].err, truth[id]); err != nil {
			t.Error(err)
		}
	}

	// The books.
	var wires []*wire
	for i := range servers {
		wires = append(wires, readLedger(t, ledgerFile(i), i)...)
	}
	l := balance(rec.exchanges, wires, kills, sc.timeout)
	l.wrong = append(l.wrong, rec.wrong...)
	l.wrong = append(l.wrong, compareReports(rec)...)
	for i, text := range l.wrong {
		if i == 20 {
			t.Errorf("and %d more", len(l.wrong)-i)
			break
		}
		t.Error(text)
	}
	// A connection has one request at a time: those in use when the server was killed, and
	// those idle, of which each takes one more before it is found dead.
	if n, most := l.cutOff(), len(kills)*2*bound; n > most {
		t.Errorf("%d requests were cut off by %d kills: want at most %d", n, len(kills), most)
	}
	for _, kind := range []string{"429", "500", "502", "503", "drop", "reset", "cut", "silence", "drip", "garbage", "outage", "blackout"} {
		if l.injected(kind) == 0 {
			t.Errorf("no request has met the fault %s", kind)
		}
	}
	if l.counts["drop"][repeated] == 0 {
		t.Error("net/http has repeated no request, so whether those are counted was not tested")
	}
	// The last server's own counts are what it wrote down.
	counted := make(map[simserver.Fault]int)
	for _, w := range wires {
		if w.server == servers-1 && w.fault != "" {
			counted[simserver.Fault(w.fault)]++
		}
	}
	if !maps.Equal(counted, stats.Faults) {
		t.Errorf("the last server counted %v, and wrote down %v", stats.Faults, counted)
	}

	for _, text := range rec.leaks {
		t.Errorf("a secret is shown: %s", text)
	}
	atServers := peakAtServers(rec.exchanges, wires, kills, false)
	if n := rec.peakInFlight.Load(); n > bound || atServers > bound {
		t.Errorf("in flight at most: %d in the transport, %d at the server; want %d", n, atServers, bound)
	}
	if n := rec.inFlight.Load(); n != 0 {
		t.Errorf("%d requests are in flight still", n)
	}
	until(t, "all connections are closed", func() bool { return rec.conns.Load() == 0 })
	until(t, "nothing holds the client: no timer, no goroutine", func() bool {
		runtime.GC()
		select {
		case <-collected:
			return true
		default:
			return false
		}
	})

	var begins []int64
	for _, w := range wires {
		begins = append(begins, w.begin)
	}
	firstPeak, firstMean := most(begins, began, asked)
	steady := outage.Add(-outage.Sub(kills[0].to) / 2) // well after the restart
	steadyPeak, steadyMean := most(begins, steady, outage)
	downPeak, downMean := most(begins, outage, recovered)
	afterPeak, afterMean := most(begins, recovered, again)
	// The pace at which a client comes back is 500 a second; what was due anyway comes on
	// top. If all jobs came back at once, it would be thousands.
	if limit := 2 * max(firstPeak, steadyPeak, 500); sc.figures && afterPeak > limit {
		t.Errorf("after the outage there were %d requests in one second, before it %d; want at most %d", afterPeak, max(firstPeak, steadyPeak), limit)
	}
	var load []int
	for at := began; at.Before(began.Add(took)); at = at.Add(sc.step) {
		_, mean := most(begins, at, at.Add(sc.step))
		load = append(load, int(mean))
	}
	var firstAnswer time.Duration
	for _, x := range rec.exchanges {
		if d := x.ended.Sub(recovered); x.outcome == answered && x.sent.After(recovered) && (firstAnswer == 0 || d < firstAnswer) {
			firstAnswer = d
		}
	}
	var lags []time.Duration // of the knowledge behind the end of a job
	for id, end := range ends {
		over := truth[id].Started.Add(truth[id].Duration)
		if strings.HasPrefix(id, "late-") {
			continue // waited for later than it may have been over
		}
		lags = append(lags, end[0].status.CheckedAt.Round(0).Sub(over))
	}
	slices.Sort(lags)
	lag := func(share float64) time.Duration {
		return lags[int(share*float64(len(lags)-1))].Round(time.Millisecond)
	}
	reports := make(map[string]int)
	for _, x := range rec.exchanges {
		reports[x.outcome]++
	}
	t.Logf(`
%d jobs (%d failed) in %v; %d exchanges, %d requests over the wire, %.1f a job; %d refused by the breaker
killed and restarted: %s
reported by the client: %s
%v
requests a second, mean and peak of any second:
    first checks         %7.1f %5d   (%v)
    steady state         %7.1f %5d   (%v)
    outage               %7.1f %5d   (%v)
    after the outage     %7.1f %5d   (%v; first answer after %v)
    mean of each %v: %v
an end was noticed late by: median %v, 90 %% below %v, 99 %% below %v, at most %v (the outage included)
in flight at most: %d in the transport, %d at the server (%d as the server alone sees it), bound %d
connections: %d dialled, at most %d open at once
heap: %.1f MiB before, %.1f MiB with all jobs waited for (the test's own records included), %.1f MiB from the system`,
		len(ends), failed, took.Round(time.Millisecond), len(rec.exchanges), l.wires, float64(l.wires)/float64(len(ids)), rec.refused,
		downTimes(kills), list(reports), l,
		firstMean, firstPeak, asked.Sub(began).Round(time.Millisecond),
		steadyMean, steadyPeak, outage.Sub(steady).Round(time.Millisecond),
		downMean, downPeak, recovered.Sub(outage).Round(time.Millisecond),
		afterMean, afterPeak, again.Sub(recovered).Round(time.Millisecond), firstAnswer.Round(time.Millisecond),
		sc.step, load, lag(0.5), lag(0.9), lag(0.99), lag(1),
		rec.peakInFlight.Load(), atServers, peakAtServers(rec.exchanges, wires, kills, true), bound,
		rec.dials.Load(), rec.peakConns.Load(),
		float64(idle.HeapAlloc)/(1<<20), float64(loaded.HeapAlloc)/(1<<20), float64(loaded.Sys)/(1<<20))
}

// until waits for something that is sure to come.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("%s: not so after %v", what, patience)
		}
	}
}

// check returns an error if a job has not ended as it was to.
func check(st vtclient.Status, err error, want simserver.Job) error {
	result, _ := vtclient.Decode[struct {
		Video string `json:"video_url"`
	}](st)
	video := "https://videos.sim.invalid/" + want.ID + ".mp4"
	over := want.Started.Add(want.Duration)
	switch {
	case want.Fail && (!errors.Is(err, vtclient.ErrJobFailed) || st.State != vtclient.StateFailed || st.Message != want.Message):
		return fmt.Errorf("%s: %s %q, %v; want it to fail", want.ID, st.State, st.Message, err)
	case !want.Fail && (err != nil || st.State != vtclient.StateCompleted || result.Video != video):
		return fmt.Errorf("%s: %s, %v, video %q; want %q", want.ID, st.State, err, result.Video, video)
	case st.CheckedAt.Round(0).Before(over):
		return fmt.Errorf("%s: over at %v, before %v", want.ID, st.CheckedAt, over)
	}
	return nil
}

// compareReports returns where OnError and the trace differ.
func compareReports(r *recorder) (wrong []string) {
	for _, x := range r.exchanges {
		want := x.outcome
		if want == answered || want == withdrawn {
			want = ""
		}
		if got := r.reported[x.tag]; got != want {
			wrong = append(wrong, fmt.Sprintf("%s: the trace has %q, and OnError %q", x.tag, x.outcome, got))
		}
		delete(r.reported, x.tag)
	}
	for tag, what := range r.reported {
		wrong = append(wrong, fmt.Sprintf("%s: OnError has %q, and the trace nothing", tag, what))
	}
	return wrong
}

func list(counts map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, counts[k]))
	}
	return strings.Join(parts, ", ")
}

func downTimes(kills []kill) string {
	var parts []string
	for _, k := range kills {
		parts = append(parts, fmt.Sprintf("down for %v", k.to.Sub(k.from).Round(time.Millisecond)))
	}
	return fmt.Sprintf("%d times, %s", len(kills), strings.Join(parts, ", "))
}
