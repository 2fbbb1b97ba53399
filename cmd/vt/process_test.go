package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/leak"
	"github.com/vtclient/vtclient/simserver"
)

// The tests in this file run vt as processes of their own, in real time.

var buildVT = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binDir, "vt.exe") // the suffix does no harm elsewhere
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

var binDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "vt-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binDir = dir
	code := leak.Check(m.Run())
	os.RemoveAll(dir)
	os.Exit(code)
}

// patience bounds every wait for something that is sure to come.
const patience = 30 * time.Second

// A process is a running vt.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd

	lines chan string // of its output; closed at the end
	seen  []string
	left  sync.Once
	err   error
}

// binary returns the path of vt, built once for all tests.
func binary(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs processes in real time")
	}
	if runtime.GOOS == "windows" {
		t.Skip("sends signals")
	}
	path, err := buildVT()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs vt in a process that ends with the test.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startWith(t, name, nil, nil, args...)
}

// startWith is start with a standard input and with more in the environment.
func startWith(t *testing.T, name string, stdin io.Reader, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: exec.Command(binary(t), args...), lines: make(chan string, 1000)}
	p.cmd.Env = append(append(os.Environ(), "VT_TOKEN=", "HEYGEN_API_KEY=", "HEYGEN_WEBHOOK_SECRET="), env...)
	p.cmd.Stdin = stdin
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		defer r.Close()
		for sc := bufio.NewScanner(r); sc.Scan(); {
			p.lines <- sc.Text()
		}
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		p.wait()
	})
	return p
}

// serve starts a backend and returns its URL.
func serve(t *testing.T, args ...string) (*process, string) {
	t.Helper()
	p := start(t, "serve", append([]string{"serve"}, args...)...)
	line := p.until("listening on http://")
	return p, strings.TrimPrefix(line, "listening on ")
}

// until reads the output up to a line that contains part, and logs it.
func (p *process) until(part string) string {
	p.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("%s ended without %q; it wrote\n%s", p.name, part, strings.Join(p.seen, "\n"))
			}
			p.take(line)
			if strings.Contains(line, part) {
				return line
			}
		case <-limit:
			p.t.Fatalf("%s has not written %q but\n%s", p.name, part, strings.Join(p.seen, "\n"))
		}
	}
}

func (p *process) take(line string) {
	p.seen = append(p.seen, line)
	p.t.Logf("%s: %s", p.name, line)
}

func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// wait reads the rest of the output and returns the exit code, -1 if a signal
// ended the process.
func (p *process) wait() int {
	p.left.Do(func() {
		stuck := time.AfterFunc(patience, func() { p.signal(syscall.SIGKILL) })
		defer stuck.Stop()
		for line := range p.lines {
			p.take(line)
		}
		p.err = p.cmd.Wait()
	})
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) wantExit(code int, parts ...string) {
	p.t.Helper()
	if got := p.wait(); got != code {
		p.t.Errorf("%s: exit code %d (%v), want %d", p.name, got, p.err, code)
	}
	out := strings.Join(p.seen, "\n")
	for _, part := range parts {
		if !strings.Contains(out, part) {
			p.t.Errorf("%s has not written %q", p.name, part)
		}
	}
}

// create makes a job over HTTP.
func create(t *testing.T, url, job string) {
	t.Helper()
	resp, err := http.Post(url+"/jobs", "application/json", strings.NewReader(job))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
		t.Fatalf("POST /jobs: %s: %s", resp.Status, body)
	}
}

// newClient returns a client of the library that logs what happens.
func newClient(t *testing.T, url string) (*vtclient.Client, []vtclient.WaitOption) {
	t.Helper()
	c, err := vtclient.New(url, vtclient.WithPolling(vtclient.Constant(200*time.Millisecond)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	began := time.Now()
	since := func() time.Duration { return time.Since(began).Round(time.Millisecond) }
	return c, []vtclient.WaitOption{
		vtclient.OnProgress(func(st vtclient.Status) {
			t.Logf("client: %v: %s %s %.0f%% %s", since(), st.JobID, st.State, st.Progress*100, st.Message)
		}),
		vtclient.OnError(func(err error) { t.Logf("client: %v: %v", since(), err) }),
	}
}

func TestProcessCompletedAndFailed(t *testing.T) {
	t.Parallel()
	server, url := serve(t, "-addr", "127.0.0.1:0", "-v", "-seed", "3", "-fault", "503:10%,cut:10%", "-duration", "1s")
	create(t, url, `{"id":"good"}`)
	create(t, url, `{"id":"bad","duration":0.5,"fail":true,"message":"no speech found"}`)

	cli := start(t, "vt wait", "wait", "-url", url, "-v", "-every", "300ms", "good", "bad")
	c, opts := newClient(t, url)
	results := make(map[string]error)
	for st, err := range c.WaitAll(context.Background(), vtclient.Jobs("good", "bad", "missing"), opts...) {
		t.Logf("client: end of %s: %s, %v", st.JobID, st.State, err)
		results[st.JobID] = err
		if video, derr := vtclient.Decode[struct{ Video_URL string }](st); err == nil && (derr != nil || video.Video_URL == "") {
			t.Errorf("the result of %s is %s: %v", st.JobID, st.Body, derr)
		}
	}
	var job *vtclient.JobError
	if err := results["bad"]; !errors.As(err, &job) || job.Status.Message != "no speech found" {
		t.Errorf("bad: %v", err)
	}
	var missing *vtclient.HTTPError
	if err := results["missing"]; !errors.As(err, &missing) || missing.StatusCode != http.StatusNotFound {
		t.Errorf("missing: %v", err)
	}
	if err, ok := results["good"]; err != nil || !ok {
		t.Errorf("good: %v", err)
	}
	cli.wantExit(exitJobFailed, "good: completed, ", "bad: failed, ", "the backend's reason: no speech found", "1 completed, 1 failed")

	good := start(t, "vt wait", "wait", "-url", url, "good")
	good.wantExit(exitOK, "1 job in ", ": 1 completed")
	missingCLI := start(t, "vt wait", "wait", "-url", url, "missing")
	missingCLI.wantExit(exitError, "missing: error, 1 request: request 1: GET ", "/status/{id}: 404 Not Found")

	server.signal(syscall.SIGTERM)
	server.wantExit(exitOK, "GET /status/good: 200", "stopped after ")
}

func TestProcessTimedOut(t *testing.T) {
	t.Parallel()
	_, url := serve(t, "-addr", "127.0.0.1:0", "-auto-create", "-duration", "1h")
	cli := start(t, "vt wait", "wait", "-url", url, "-timeout", "1500ms", "slow")
	c, opts := newClient(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	st, err := c.Wait(ctx, "slow", opts...)
	t.Logf("client: %v", err)
	var w *vtclient.WaitError
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &w) || w.Requests < 3 || st.State != vtclient.StatePending {
		t.Errorf("got %+v, %v", st, err)
	}
	cli.wantExit(exitStillRunning, "slow: still running, ", "last answer: pending")
}

func TestProcessUnreachable(t *testing.T) {
	t.Parallel()
	server, url := serve(t, "-addr", "127.0.0.1:0")
	server.signal(syscall.SIGINT)
	server.wantExit(exitOK, "stopped after 0 requests")
	cli := start(t, "vt wait", "wait", "-url", url, "-outage", "700ms", "job")
	cli.wantExit(exitError, "job: error, ", "connection refused", "no readable answer has ever come from "+url)
}

func TestProcessServerKilledAndRestarted(t *testing.T) {
	t.Parallel()
	binary(t) // before the clock of the job starts
	// The same seed and epoch: the second server gives the job the same fate.
	began := time.Now()
	args := []string{"-auto-create", "-seed", "7", "-epoch", began.UTC().Format(time.RFC3339Nano), "-duration", "3s", "-addr"}
	server, url := serve(t, append(args, "127.0.0.1:0")...)

	cli := start(t, "vt wait", "wait", "-url", url, "-json", "-every", "200ms", "film")
	type end struct {
		st  vtclient.Status
		err error
	}
	c, opts := newClient(t, url)
	ended := make(chan end, 1)
	go func() {
		st, err := c.Wait(t.Context(), "film", opts...)
		ended <- end{st, err}
	}()

	cli.until(`"event":"progress"`)
	server.signal(syscall.SIGKILL)
	server.wantExit(-1)
	cli.until(`"event":"fault"`)
	serve(t, append(args, strings.TrimPrefix(url, "http://"))...)

	cli.wantExit(exitOK)
	var got []string
	for _, line := range cli.seen {
		var ev event
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if len(got) == 0 || got[len(got)-1] != ev.Event {
			got = append(got, ev.Event)
		}
		if ev.Event == "done" && ev.Outcome != completed {
			t.Errorf("ended with %s", line)
		}
	}
	t.Logf("events, repetitions left out: %v", got)
	n := len(got)
	if n < 4 || !slices.Equal(got[:2], []string{"progress", "fault"}) || !slices.Equal(got[n-2:], []string{"done", "summary"}) {
		t.Errorf("want progress and fault first, done and summary last")
	}
	select {
	case e := <-ended:
		if e.err != nil || e.st.State != vtclient.StateCompleted {
			t.Errorf("client: %+v, %v", e.st, e.err)
		}
		if took := e.st.CheckedAt.Sub(began); took < 3*time.Second {
			t.Errorf("client: completed after %v, before the job was", took)
		}
	case <-time.After(patience):
		t.Error("client: the wait has not ended")
	}
}

// A client that is killed and started again with -started goes by the job's age: it does
// not ask before the job is worth asking about.
func TestProcessClientKilledAndRestarted(t *testing.T) {
	t.Parallel()
	server, url := serve(t, "-addr", "127.0.0.1:0", "-v", "-auto-create", "-duration", "1500ms") // from the first request on
	first := start(t, "vt wait", "wait", "-url", url, "-json", "-every", "1h", "film")
	var pending event
	if err := json.Unmarshal([]byte(first.until(`"state":"pending"`)), &pending); err != nil {
		t.Fatal(err)
	}
	first.signal(syscall.SIGKILL)
	first.wantExit(-1)

	// The job is over two seconds after it began, and the client need not ask before.
	began := pending.Time.UTC().Format(time.RFC3339Nano)
	second := start(t, "vt wait again", "wait", "-url", url, "-json", "-every", "2s", "-started", began, "film")
	second.wantExit(exitOK)
	second.wantOne("film")
	// An hour after, there is no reason to wait.
	third := start(t, "vt wait once more", "wait", "-url", url, "-json", "-every", "59m", "-started", "1h", "film")
	third.wantExit(exitOK)
	third.wantOne("film")

	server.signal(syscall.SIGTERM)
	server.wantExit(exitOK, "stopped after 3 requests: 1 pending, 2 completed, 0 failed, 1 jobs created")
}

// wantOne checks that a wait has reported one thing: that the job is completed, by its first
// request.
func (p *process) wantOne(id string) {
	p.t.Helper()
	var ev event
	if len(p.seen) != 2 || json.Unmarshal([]byte(p.seen[0]), &ev) != nil { // the other is the summary
		p.t.Errorf("%s: want two lines of JSON", p.name)
	}
	if ev.Event != "done" || ev.Job != id || ev.Outcome != completed || ev.Requests != 1 || !strings.Contains(string(ev.Result), "/"+id+".mp4") {
		p.t.Errorf("%s: %+v, want it to be done by its first request", p.name, ev)
	}
}

// Several waits, of jobs that complete and jobs that fail, while the server is killed, and
// the client too: each job ends once, as it is to.
func TestProcessKilledUnderSeveralWaits(t *testing.T) {
	t.Parallel()
	for _, both := range []bool{false, true} {
		t.Run(map[bool]string{false: "server", true: "server and client"}[both], func(t *testing.T) {
			t.Parallel()
			binary(t) // before the clock of the jobs starts
			began := time.Now().UTC()
			args := []string{"-auto-create", "-seed", "7", "-epoch", began.Format(time.RFC3339Nano),
				"-duration", "uniform:5s-6s", "-fail-rate", "50%", "-fault", "503:5%,cut:5%", "-addr"}
			truth := simserver.New(simserver.WithSeed(7), simserver.WithFailureRate(0.5))
			defer truth.Close()
			server, url := serve(t, append(args, "127.0.0.1:0")...)
			wait := []string{"wait", "-url", url, "-json", "-every", "200ms"}
			want := make(map[string]outcome)
			for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
				wait = append(wait, id)
				truth.Create(simserver.Job{ID: id})
				if j, _ := truth.Job(id); j.Fail {
					want[id] = failed
				} else {
					want[id] = completed
				}
			}

			cli := start(t, "vt wait", wait...)
			for seen := make(map[string]bool); len(seen) < len(want); {
				var ev event
				if err := json.Unmarshal([]byte(cli.until(`"progress"`)), &ev); err != nil {
					t.Fatal(err)
				}
				seen[ev.Job] = true
			}
			server.signal(syscall.SIGKILL)
			server.wantExit(-1)
			cli.until("connection refused")
			if both {
				cli.signal(syscall.SIGKILL)
				cli.wantExit(-1)
				cli = start(t, "vt wait again", append(wait, "-started", began.Format(time.RFC3339Nano))...)
				cli.until("connection refused")
			}
			serve(t, append(args, strings.TrimPrefix(url, "http://"))...)

			cli.wantExit(exitJobFailed)
			got := make(map[string]outcome)
			for _, line := range cli.seen {
				var ev event
				if err := json.Unmarshal([]byte(line), &ev); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				if ev.Event != "done" {
					continue
				}
				if got[ev.Job] != "" {
					t.Errorf("%s has ended twice", ev.Job)
				}
				got[ev.Job] = ev.Outcome
				if ev.Outcome == completed && !strings.Contains(string(ev.Result), "/"+ev.Job+".mp4") {
					t.Errorf("the result of %s is %s", ev.Job, ev.Result)
				}
				if at := began.Add(5 * time.Second); ev.Time.Before(at) {
					t.Errorf("%s ended at %v, and no job is over before %v", ev.Job, ev.Time, at)
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestProcessInterrupted(t *testing.T) {
	t.Parallel()
	_, url := serve(t, "-addr", "127.0.0.1:0", "-auto-create", "-duration", "1h")
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		cli := start(t, "vt wait", "wait", "-url", url, "-every", "1h", "one", "two")
		cli.until("pending")
		cli.until("pending")
		sent := time.Now()
		cli.signal(sig)
		cli.wantExit(exitInterrupted, "one: interrupted, 1 request: last answer: pending", "two: interrupted, 1 request", "2 interrupted")
		t.Logf("%v: gone after %v", sig, time.Since(sent))
	}
}

func TestProcessPortTaken(t *testing.T) {
	t.Parallel()
	_, url := serve(t, "-addr", "127.0.0.1:0")
	second := start(t, "serve", "serve", "-addr", strings.TrimPrefix(url, "http://"))
	second.wantExit(exitError, "vt: serve: listen tcp")
}
