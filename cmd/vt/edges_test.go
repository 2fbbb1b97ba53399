package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/vtclient/vtclient/simserver"
)

// A fullDisk takes some bytes and then no more.
type fullDisk struct{ left int }

func (f *fullDisk) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

// Output that cannot be written ends each command with exit code 2 and the reason.
func TestOutputThatCannotBeWritten(t *testing.T) {
	for _, tt := range []struct {
		args string
		room int
	}{
		{"help", 0}, {"help wait", 0}, {"version", 0}, {"completion bash", 0}, {"plan -simulate 60s -n 5", 0}, {"plan -json -simulate 60s -n 5", 0},
		{"serve -addr 127.0.0.1:0", 0}, {"wait a", 0}, {"wait -json a", 0}, {"wait -json a b c", 400}, {"wait -duration 1h -every 1s a", 200},
	} {
		t.Run(tt.args, func(t *testing.T) {
			run := func(t *testing.T) {
				r := call{args: strings.Fields(tt.args), stdout: &fullDisk{left: tt.room}}.run()
				wantCode(t, r, exitError)
				if r.stderr != "vt: the output cannot be written: no space left on device\n" {
					t.Errorf("stderr: %q", r.stderr)
				}
			}
			if strings.HasPrefix(tt.args, "serve") { // listens on a port
				run(t)
				return
			}
			synctest.Test(t, run)
		})
	}
}

// What was learnt is saved though the output's reader has gone, and after a SIGHUP.
func TestProcessSavesWhatWasLearnt(t *testing.T) {
	for name, end := range map[string]func(cmd *exec.Cmd, out *os.File){
		"closed pipe": func(_ *exec.Cmd, out *os.File) { out.Close() },
		"SIGHUP":      func(cmd *exec.Cmd, _ *os.File) { cmd.Process.Signal(syscall.SIGHUP) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "learnt")
			cmd := exec.Command(binary(t), "wait", "-duration", "1h", "-learn", file, "-cost", "10ms", "slow")
			var errs bytes.Buffer
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			end(cmd, out.(*os.File))
			err = cmd.Wait()
			code := cmd.ProcessState.ExitCode()
			if name == "SIGHUP" && code != exitInterrupted || name != "SIGHUP" && (code != exitError || !strings.Contains(errs.String(), "broken pipe")) {
				t.Errorf("%v: %s", err, errs.String())
			}
			if text, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(text), "vtclient-adaptive ") {
				t.Errorf("%v: %q", err, text)
			}
		})
	}
}

const learntState = "vtclient-adaptive 1\nhints 0 0\np 4 5\np 5 6\n"

// waitLearning waits for a short job with -learn.
func waitLearning(t *testing.T, file string) (r result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { r = vt("wait", "-duration", "5s", "-fault", "none", "-learn", file, "a") })
	return r
}

func TestLearnReadsWhatAnEditorLeaves(t *testing.T) {
	for name, content := range map[string]string{
		"empty":           "",
		"only line ends":  "\r\n\n",
		"CRLF":            strings.ReplaceAll(learntState, "\n", "\r\n"),
		"byte order mark": "\ufeff" + learntState,
		"both":            "\ufeff" + strings.ReplaceAll(learntState, "\n", "\r\n"),
		"a damaged line":  learntState + "p one two three\n",
	} {
		file := filepath.Join(t.TempDir(), "learnt")
		if err := os.WriteFile(file, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		r := waitLearning(t, file)
		wantCode(t, r, exitOK)
		text, err := os.ReadFile(file)
		if left := strings.Contains(r.stderr, "left out"); left != (name == "a damaged line") {
			t.Errorf("%s: said %q", name, r.stderr)
		}
		if want := min(1, len(strings.TrimSpace(content)))*2 + 1; err != nil || strings.Count(string(text), "\np ") != want {
			t.Errorf("%s: %d jobs, want %d: %v, %s", name, strings.Count(string(text), "\np "), want, err, text)
		}
	}
}

func TestLearnKeepsModeAndLink(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("it has other modes")
	}
	for name, exists := range map[string]bool{"a file": true, "no file yet": false} {
		dir := t.TempDir()
		target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
		if exists {
			if err := os.WriteFile(target, []byte(learntState), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("target", link); err != nil {
			t.Skip(err)
		}
		wantCode(t, waitLearning(t, link), exitOK)
		if to, err := os.Readlink(link); err != nil || to != "target" {
			t.Errorf("%s: the link is %q, %v", name, to, err)
		}
		info, err := os.Stat(target)
		if want := map[bool]os.FileMode{true: 0o640, false: 0o600}[exists]; err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, want %v", name, info.Mode(), want)
		}
		if left, _ := os.ReadDir(dir); len(left) != 2 {
			t.Errorf("%s: there are %v", name, left)
		}
	}
}

// A file that cannot be used or saved is refused before the first request.
func TestLearnRefusesBeforeTheWait(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("it has other errors")
	}
	dir := t.TempDir()
	large, odd := filepath.Join(dir, "large"), filepath.Join(dir, "odd")
	file, err := os.Create(large)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Truncate(600<<20), file.Close(), os.WriteFile(odd, []byte("something else\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Skip(err)
	}
	for path, want := range map[string]string{
		large:                          "629145600 bytes are more than",
		odd:                            "not a state",
		dir:                            "is a d--------- and not a regular file",
		loop:                           "too many links",
		os.DevNull:                     "not a regular file",
		filepath.Join(dir, "no", "x"):  "cannot be saved: open ",
		filepath.Join(odd, "below-it"): "not a directory",
	} {
		r := waitLearning(t, path)
		wantCode(t, r, exitError)
		if !strings.Contains(r.stderr, want) || r.stdout != "" || r.sim != nil && r.sim.TotalRequests() > 0 {
			t.Errorf("%s: %s%s, want %q", path, r.stdout, r.stderr, want)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 3 {
		t.Errorf("files are left: %v", left)
	}
}

// Runs that end at the same time leave one whole state.
func TestLearnManyRunsAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "learnt")
	backend := simserver.Start(t, simserver.WithAutoCreate(), simserver.WithDurations(simserver.Fixed(1)))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for k := range 12 {
				if r := vt("wait", "-url", backend.URL(), "-learn", file, fmt.Sprint(i, "-", k)); r.code != exitOK {
					t.Errorf("exit code %d: %s", r.code, r.stderr)
				}
			}
		})
	}
	wg.Wait()
	text, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(text), "vtclient-adaptive ") {
		t.Errorf("%v: %q", err, text)
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
		t.Errorf("files are left: %v", left)
	}
}

func TestIDsFromStandardInput(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     string // ids in brackets
		err      string
	}{
		{"byte order mark and CRLF", "\ufeffa\r\nb\r\n", "[a][b]", ""},
		{"spaces around", "  a\t\n b c \n", "[a][b c]", ""},
		{"empty lines", "\n\r\na\n\n", "[a]", ""},
		{"no line end at the end", "a\nb", "[a][b]", ""},
		{"two carriage returns", "a\r\r\n", "[a]", ""},
		{"only spaces", "a\n   \nb\n", "[a]", `standard input, line 2: the id "   " is only spaces`},
		{"only a space that does not show", "a\n\u00a0\n", "[a]", `standard input, line 2: the id`},
		{"too long", "a\n" + strings.Repeat("x", 1<<17), "[a]", "standard input, line 2: bufio.Scanner: token too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got string
			var err error
			for id := range jobIDs([]string{"-"}, strings.NewReader(tt.in), &err) {
				got += "[" + id + "]"
			}
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s, %v; want %s, %s", got, err, tt.want, tt.err)
			}
		})
	}
}

// An id that cannot be read ends the wait at once, whatever else is waited for.
func TestBadIDEndsTheWait(t *testing.T) {
	for _, args := range [][]string{{"-", "b"}, {"a", " "}} {
		synctest.Test(t, func(t *testing.T) {
			r := call{args: append([]string{"wait", "-duration", "1h"}, args...), stdin: strings.NewReader("a\n \n")}.run()
			wantCode(t, r, exitError)
			if !strings.Contains(r.stderr, `the id " " is only spaces`) {
				t.Errorf("%q: %s", args, r.stderr)
			}
		})
	}
}

// Errors are in the command's words, not in the library's.
func TestErrorsSpeakTheCommandsLanguage(t *testing.T) {
	locked := simserver.Start(t, simserver.WithToken("abcdefgh"))
	for _, tt := range []struct {
		args, env string
		want      string
	}{
		{"-url " + locked.URL() + " a", "", "a 401 is final; VT_TOKEN is not set"},
		{"-api heygen -url " + locked.URL() + " a", "", "a 401 is final; HEYGEN_API_KEY is not set"},
		{"-json -url " + locked.URL() + " a", "", "VT_TOKEN is not set"},
		{"-url ftp://x a", "", `vt: wait: -url: got scheme "ftp"`},
		{"-url http://x?y a", "", "want a URL without them\n"},
		{"-url http://x a", "a\nb", "vt: wait: VT_TOKEN: got a control character"},
		{"-url http://127.0.0.1:1 -outage 1ms a", "", "no readable answer has ever come from http://127.0.0.1:1, in 1ms of trying"},
		{"-timeout 1", "", `invalid value "1" for flag -timeout: 1 has no unit: 1s?`},
		{"-every 2.5", "", "2.5 has no unit: 2.5s?"},
		{"-duration 30", "", "30 has no unit: 30s?"},
		{"-duration uniform:1-30s", "", "1 has no unit: 1s?"},
		{"-fault latency=100", "", "100 has no unit: 100s?"},
		{"-url http://x -started 90", "", "90 has no unit: 90s?"},
		{"-outage soon", "", `"soon" is not a duration like 45s or 1h30m`},
	} {
		r := call{args: append([]string{"wait"}, strings.Fields(tt.args)...), env: map[string]string{"VT_TOKEN": tt.env}}.run()
		wantCode(t, r, exitError)
		out := r.stdout + r.stderr
		if !strings.Contains(out, tt.want) || strings.Contains(out, "With") || strings.Contains(out, "baseURL") {
			t.Errorf("vt wait %s: %s\nwant %q", tt.args, out, tt.want)
		}
	}
}

// A wait whose time is up lists the jobs that are still running and has an exit code of
// its own.
func TestStillRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		args := []string{"wait", "-timeout", "30s", "-duration", "uniform:10s-50s", "-fault", "none", "a", "b", "c", "d", "e", "f"}
		r := vt(args...)
		wantCode(t, r, exitStillRunning)
		var running []string
		for _, id := range args[7:] {
			if j, _ := r.sim.Job(id); j.Duration.Seconds() > 30 {
				running = append(running, id)
			}
		}
		if len(running) == 0 || len(running) == 6 || !strings.HasSuffix(r.stdout, "still running: "+strings.Join(running, " ")+"\n") {
			t.Errorf("%q should be running:\n%s", running, r.stdout)
		}
	})
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		r := vt("completion", shell)
		wantCode(t, r, exitOK)
		for _, word := range []string{"wait", "serve", "plan", "timeout", "auto-create", "svg", "webhook-loss"} {
			if !strings.Contains(r.stdout, word) {
				t.Errorf("%s: no %s", shell, word)
			}
		}
		if path, err := exec.LookPath(shell); err == nil {
			flag := map[bool]string{false: "-n", true: "--no-execute"}[shell == "fish"]
			check := exec.Command(path, flag)
			check.Stdin = strings.NewReader(r.stdout)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", shell, err, out)
			}
		}
	}
	for _, args := range [][]string{{}, {"csh"}, {"bash", "zsh"}} {
		wantCode(t, vt(append([]string{"completion"}, args...)...), exitError)
	}
}

func TestCompletionInBash(t *testing.T) {
	path, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	for line, want := range map[string]string{
		"vt se": "serve", "vt wait -tim": "-timeout", "vt serve -au": "-auto-create", "vt wait -api h": "heygen", "vt completion f": "fish", "vt help p": "plan",
	} {
		words := strings.Fields(line)
		script := vt("completion", "bash").stdout + fmt.Sprintf("COMP_WORDS=(%s); COMP_CWORD=%d; _vt; echo ${COMPREPLY[*]}", line, len(words)-1)
		out, err := exec.Command(path, "-c", script).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%s: %s, %v; want %s", line, out, err, want)
		}
	}
}

func TestHelpFitsInto80Columns(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"help", "wait"}, {"help", "serve"}, {"help", "plan"}, {"completion", "-h"}} {
		r := vt(args...)
		wantCode(t, r, exitOK)
		for line := range strings.Lines(r.stdout) {
			line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "        ")
			if n := cells(line); n > 80 {
				t.Errorf("%q: %d cells: %s", args, n, line)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	r := vt("version")
	wantCode(t, r, exitOK)
	if !strings.HasPrefix(r.stdout, "vt ") || !strings.Contains(r.stdout, "go1") {
		t.Errorf("got %q", r.stdout)
	}
}

// The commands that serve prints for the plain API work.
func TestProcessPlainExamples(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	for name, token := range map[string]string{"with a token": "s3cret-token", "without": ""} {
		t.Run(name, func(t *testing.T) {
			env := []string{"VT_TOKEN=" + token}
			server := startWith(t, "serve", nil, env, "serve", "-addr", "127.0.0.1:0", "-duration", "1h")
			server.until("wait:   ")
			for _, example := range []struct{ name, want string }{{"create: ", `{"id":"job-1"}`}, {"status: ", `"result":"pending"`}} {
				var command string
				for _, line := range server.seen {
					if rest, ok := strings.CutPrefix(line, example.name); ok {
						command = rest
					}
				}
				sh := exec.Command("sh", "-c", command)
				sh.Env = append(os.Environ(), append(env, "no_proxy=*")...)
				out, err := sh.CombinedOutput()
				if err != nil || !strings.Contains(string(out), example.want) || token != "" && strings.Contains(command, token) {
					t.Errorf("%s: %s: %v", command, out, err)
				}
			}
		})
	}
}

// A wait that reaches nothing reports it and when it gives up; many jobs are one line from
// time to time, and a fault that they share is one line.
func TestPlainLinesAboutAllJobs(t *testing.T) {
	many := []string{"wait", "-duration", "uniform:2m-4m", "-learn", filepath.Join(t.TempDir(), "learnt"), "-cost", "1s", "-fault"}
	ids := make([]string, 500)
	for i := range ids {
		ids[i] = fmt.Sprint("job-", i)
	}
	synctest.Test(t, func(t *testing.T) {
		wantCode(t, vt(append(append(many, "none"), ids[:50]...)...), exitOK)
		r := vt(append(append(many, "none"), ids...)...)
		wantCode(t, r, exitOK)
		status, done := 0, 0
		for line := range strings.Lines(r.stdout) {
			switch {
			case strings.Contains(line, " of 500 done"):
				status++
			case strings.Contains(line, "completed, "):
				done++
			case strings.Contains(line, "pending"):
				t.Errorf("a line about a pending answer: %s", line)
			}
		}
		if done != 500 || status < 3 || status > 13 || !strings.Contains(r.stdout, " of 500 done, about ") {
			t.Errorf("%d lines about ends, %d about all:\n%s", done, status, r.stdout)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := vt(append(append(many, "503:1", "-outage", "1m"), ids...)...)
		wantCode(t, r, exitError)
		if n := strings.Count(r.stdout, " jobs: 503 Service Unavailable\n"); n != 1 {
			t.Errorf("%d lines about the fault that all share:\n%.2000s", n, r.stdout)
		}
		if n := strings.Count(r.stdout, " jobs: error: nothing reached: 503 Service Unavailable\n"); n < 1 || n > 20 || !strings.Contains(r.stdout, "\ngiven up: job-0 job-1 job-2 ") || strings.Count(r.stdout, "\n") > 30 {
			t.Errorf("%d lines about the jobs that were given up:\n%.6000s", n, r.stdout)
		}
		if !strings.Contains(r.stdout, "nothing reached yet; giving up in 20.0s: request ") {
			t.Errorf("no line that nothing was reached:\n%.2000s", r.stdout)
		}
	})
}

// A forecast is shown once it rests on some jobs and is not far too wide.
func TestForecastsThatMeanNothingAreNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, args := range []string{"-duration 30s a b c", "-cost 100ms -duration lognormal:5s,1.5 a b c d e f g h i"} {
			r := vt(append([]string{"wait"}, strings.Fields(args)...)...)
			if strings.Contains(r.stdout, "to go") {
				t.Errorf("a forecast from few jobs:\n%s", r.stdout)
			}
		}
		if r := vt("wait"); !strings.Contains(r.stdout, "0 of 24 done, about ") {
			t.Errorf("no forecast in the demonstration:\n%s", r.stdout)
		}
	})
}

func TestPageOfWaitThatCannotBeServed(t *testing.T) {
	e := &env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, getenv: func(string) string { return "" },
		listen: func(context.Context, string, http.Handler) (site, error) { return site{}, errors.New("port taken") }}
	var errs bytes.Buffer
	e.stderr = &errs
	if code := e.run(t.Context(), []string{"wait", "-url", "http://127.0.0.1:1", "-page", "127.0.0.1:1", "a"}); code != exitError || errs.String() != "vt: wait: -page: port taken\n" {
		t.Errorf("code %d: %s", code, errs.String())
	}
}
