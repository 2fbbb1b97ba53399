package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// A result is what a command did.
type result struct {
	code           int
	stdout, stderr string
	sim            *simserver.Server // the simulated backend, if there was one
}

// A call describes a run of vt in this process. Backends that it simulates are in memory, so
// that it may run in a synctest bubble.
type call struct {
	ctx    context.Context
	args   []string
	stdin  io.Reader
	stdout io.Writer // nil: a buffer
	env    map[string]string
	web    *http.Client        // reaches backends that vt does not simulate; nil: over the network
	tamper func(*http.Request) // changes webhook deliveries on their way; nil: they are left alone

	listening func(addr string, h http.Handler) // is called with what is made reachable; nil: nothing is
}

// inMemory is a transport to a handler.
type inMemory http.HandlerFunc

func (t inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	t(w, r)
	return w.Result(), nil
}

func (c call) run() result {
	var r result
	var stdout, stderr bytes.Buffer
	e := &env{
		stdin: c.stdin, stdout: &stdout, stderr: &stderr, web: c.web,
		getenv: func(k string) string { return c.env[k] },
		simulate: func(opts ...simserver.Option) (*simserver.Server, []vtclient.Option) {
			r.sim = simserver.StartInMemory(nil, opts...)
			return r.sim, []vtclient.Option{vtclient.WithHTTPClient(r.sim.HTTPClient())}
		},
		listen: func(_ context.Context, addr string, h http.Handler) (site, error) {
			if c.listening != nil {
				c.listening(addr, h)
			}
			return site{url: "http://" + addr, transport: inMemory(func(w http.ResponseWriter, r *http.Request) {
				if c.tamper != nil {
					c.tamper(r)
				}
				h.ServeHTTP(w, r)
			}), stop: func() {}}, nil
		},
	}
	if c.stdin == nil {
		e.stdin = strings.NewReader("")
	}
	if c.stdout != nil {
		e.stdout = c.stdout
	}
	if c.ctx == nil {
		c.ctx = context.Background()
	}
	r.code = e.run(c.ctx, c.args)
	r.stdout, r.stderr = stdout.String(), stderr.String()
	return r
}

func vt(args ...string) result { return call{args: args}.run() }

// A fakeTerminal is a character device. It keeps what was written and what a
// screen would show, and has only the sequences that vt is meant to use.
type fakeTerminal struct {
	writes []string
	screen []string
	row    int
	errs   []string
}

type charDevice struct{ os.FileInfo }

func (charDevice) Mode() os.FileMode { return os.ModeDevice | os.ModeCharDevice }

func (f *fakeTerminal) Size() (cols, rows int) { return 80, 24 }

func (f *fakeTerminal) Stat() (os.FileInfo, error) { return charDevice{}, nil }

var sequence = regexp.MustCompile("^\x1b\\[([0-9]*)([ACJKm])|^\x1b\\[\\?7[lh]")

func escape(s string) []string {
	if s[0] != '\x1b' {
		return nil
	}
	return sequence.FindStringSubmatch(s)
}

var painted = regexp.MustCompile("\x1b\\[[0-9]+m")

func (f *fakeTerminal) Write(p []byte) (int, error) {
	s := string(p)
	f.writes = append(f.writes, s)
	col := 0
	for s != "" {
		if m := escape(s); m != nil {
			s = s[len(m[0]):]
			switch n, _ := strconv.Atoi(m[1]); m[2] {
			case "A":
				f.row -= n
				if f.row < 0 {
					f.errs = append(f.errs, fmt.Sprintf("cursor up %d leaves the screen", n))
					f.row = 0
				}
			case "C":
				col++
			case "J":
				f.screen = f.screen[:min(f.row+min(col, 1), len(f.screen))]
			case "K":
				if f.row < len(f.screen) {
					f.screen[f.row] = f.screen[f.row][:col]
				}
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		for len(f.screen) <= f.row {
			f.screen = append(f.screen, "")
		}
		switch {
		case r == '\r':
			col = 0
		case r == '\n':
			f.row, col = f.row+1, 0
		case !unicode.IsPrint(r):
			f.errs = append(f.errs, fmt.Sprintf("unexpected %q before %q", r, s))
		default:
			line := f.screen[f.row]
			rest := ""
			if n := col + len(string(r)); n < len(line) {
				rest = line[n:]
			}
			f.screen[f.row] = line[:col] + string(r) + rest
			col += len(string(r))
		}
	}
	return len(p), nil
}

func (f *fakeTerminal) check(t *testing.T, want ...string) {
	t.Helper()
	for _, err := range f.errs {
		t.Error(err)
	}
	if got := strings.Join(f.screen, "\n"); want != nil && got != strings.Join(want, "\n") {
		t.Errorf("the screen shows\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func wantCode(t *testing.T, r result, want int) {
	t.Helper()
	if r.code != want {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, want, r.stdout, r.stderr)
	}
}

func TestWaitDrawsALiveLineForEachJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var term fakeTerminal
		r := call{
			args:   []string{"wait", "-every", "1950ms", "-duration", "3s", "-fault", "none", "a", "bb"},
			stdout: &term,
			env:    map[string]string{"TERM": "xterm"},
		}.run()
		wantCode(t, r, exitOK)
		// Asked at 0, 1.95 and 3.9 s; drawn every 0.2 s.
		if len(term.writes) != 21 {
			t.Fatalf("%d writes, want 19 frames, the last one and the summary: %q", len(term.writes), term.writes)
		}
		empty, part := strings.Repeat(".", 20)+"]     ", "#############.......]  65%"
		for i, want := range map[int]string{
			0: "\r\x1b[?7l" +
				"a   [" + empty + "  pending       0.2s  1 request\x1b[K\n" +
				"bb  [" + empty + "  pending       0.2s  1 request\x1b[K\n\x1b[J\x1b[?7h",
			8: "\x1b[2A\r\x1b[?7l" +
				"a   [" + empty + "  pending       1.8s  1 request\x1b[K\n" +
				"bb  [" + empty + "  pending       1.8s  1 request\x1b[K\n\x1b[J\x1b[?7h",
			9: "\x1b[2A\r\x1b[?7l" +
				"a   [" + part + "  pending       2.0s  2 requests\x1b[K\n" +
				"bb  [" + part + "  pending       2.0s  2 requests\x1b[K\n\x1b[J\x1b[?7h",
		} {
			if term.writes[i] != want {
				t.Errorf("write %d is\n%q, want\n%q", i, term.writes[i], want)
			}
		}
		if last := term.writes[19]; !strings.HasPrefix(last, "\x1b[2A\r\x1b[K\x1b[C\x1b[J\r") || !strings.Contains(last, "\x1b[32mcompleted\x1b[0m") || !strings.HasSuffix(last, "\x1b[?7l\x1b[J\x1b[?7h") {
			t.Errorf("the last frame is %q", last)
		}
		slices.Sort(term.screen[:2]) // they end at the same instant
		term.check(t,
			"a   [####################] 100%  completed     3.9s  3 requests",
			"bb  [####################] 100%  completed     3.9s  3 requests",
			"2 jobs in 3.9s: 2 completed; 6 requests; ends noticed 0.9s late on average, 0.9s at worst")
	})
}

func TestWaitKeepsTheBlockSmallAndEndedJobsAbove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var term fakeTerminal
		args := []string{"wait", "-every", "1s", "-duration", "uniform:5s-2m", "-fail-rate", "0.3", "-fault", "503:5%,cut:5%"}
		for i := range 100 {
			args = append(args, fmt.Sprintf("job %d", i))
		}
		r := call{args: args, stdout: &term, env: map[string]string{"TERM": "xterm", "NO_COLOR": "1"}}.run()
		wantCode(t, r, exitJobFailed)
		term.check(t)
		for _, w := range term.writes {
			if painted.MatchString(w) {
				t.Fatalf("NO_COLOR is set, and there is colour: %q", w)
			}
		}
		if !strings.Contains(term.writes[0], "0 of 100 done\x1b[K\n") {
			t.Errorf("the first frame is %q", term.writes[0])
		}
		for i := range 100 {
			n := 0
			for _, line := range term.screen {
				if strings.HasPrefix(line, fmt.Sprintf("job %d ", i)) && !strings.Contains(line, "pending") {
					n++
				}
			}
			if n != 1 {
				t.Errorf("job %d: %d lines on the screen in the end, want 1", i, n)
			}
		}
	})
}

func TestWaitWritesPlainLinesElsewhere(t *testing.T) {
	const want = `[  0.00s] a: pending, 1 request
[  1.95s] a: pending 65%, 2 requests
[  3.90s] a: completed, 3 requests
1 job in 3.9s: 1 completed; 3 requests; ends noticed 0.9s late on average, 0.9s at worst
`
	args := []string{"wait", "a", "-every", "1950ms", "-duration", "3s", "-fault", "none"}
	t.Run("pipe", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := vt(args...)
			wantCode(t, r, exitOK)
			if r.stdout != want {
				t.Errorf("got\n%s\nwant\n%s", r.stdout, want)
			}
		})
	})
	t.Run("dumb terminal", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var term fakeTerminal
			call{args: args, stdout: &term, env: map[string]string{"TERM": "dumb"}}.run()
			if got := strings.Join(term.writes, ""); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	})
}

// events decodes what vt wait -json wrote.
func events(t *testing.T, out string) (evs []event, sum map[string]any) {
	t.Helper()
	for line := range strings.Lines(out) {
		var ev event
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if ev.Event == "summary" {
			_ = json.Unmarshal([]byte(line), &sum)
			continue
		}
		evs = append(evs, ev)
	}
	return evs, sum
}

func TestWaitJSONLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := vt("wait", "-json", "-every", "1950ms", "-duration", "3s", "-fault", "503:1,limit=1,retry-after=1s", "a")
		wantCode(t, r, exitOK)
		evs, sum := events(t, r.stdout)
		var got []string
		for _, ev := range evs {
			got = append(got, fmt.Sprintf("%s %s state=%s requests=%d elapsed=%v code=%d retry=%v outcome=%s",
				ev.Event, ev.Job, ev.State, ev.Requests, ev.Elapsed, ev.StatusCode, ev.RetryIn, ev.Outcome))
		}
		want := []string{
			"fault a state= requests=1 elapsed=0 code=503 retry=1 outcome=",
			"progress a state=pending requests=2 elapsed=1 code=0 retry=0 outcome=",
			"progress a state=pending requests=3 elapsed=2.95 code=0 retry=0 outcome=",
			"done a state=completed requests=4 elapsed=4.9 code=0 retry=0 outcome=completed",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if last := evs[len(evs)-1]; !strings.Contains(string(last.Result), "video_url") || last.Progress != 1 {
			t.Errorf("done is %+v", last)
		}
		for k, v := range map[string]any{
			"jobs": 1.0, "requests": 4.0, "faults": 1.0, "elapsed": 4.9, "late_mean": 1.9, "late_exact": true,
		} {
			if sum[k] != v {
				t.Errorf("summary: %s is %v, want %v", k, sum[k], v)
			}
		}
	})
}

func TestWaitCountsWhatWentOverTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		args := []string{"wait", "-json", "-duration", "uniform:5s-2m", "-fault", "drop:10%,reset:5%,cut:5%,503:5%"}
		for i := range 50 {
			args = append(args, fmt.Sprint("j", i))
		}
		r := vt(args...)
		wantCode(t, r, exitOK)
		evs, sum := events(t, r.stdout)
		for _, ev := range evs {
			if ev.Event == "done" && ev.Requests != r.sim.Requests(ev.Job) {
				t.Errorf("job %s: vt counted %d requests, the backend %d", ev.Job, ev.Requests, r.sim.Requests(ev.Job))
			}
		}
		if int(sum["requests"].(float64)) != r.sim.TotalRequests() {
			t.Errorf("the summary has %v requests, the backend saw %d", sum["requests"], r.sim.TotalRequests())
		}
		t.Logf("%v", sum)
	})
}

func TestWaitExitCodes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   string
		cancel time.Duration
		code   int
		stdout string // a part
	}{
		{name: "completed", args: "-duration 20s a b", code: exitOK, stdout: "2 completed"},
		{name: "job failed", args: "-fail-rate 1 a", code: exitJobFailed, stdout: "a: failed, "},
		{name: "time is up", args: "-timeout 5s -duration 1h a", code: exitStillRunning, stdout: "still running: a\n"},
		{name: "outage", args: "-outage 20s -fault 503:1 a", code: exitError, stdout: "a: error, "},
		{name: "id refused", args: "-- ..", code: exitError, stdout: `want an id without the path segments`},
		{name: "error before failed", args: "-fail-rate 1 -timeout 30s -- a ..", code: exitError, stdout: "1 failed, 1 error"},
		{name: "interrupted", args: "-duration 1h a b", cancel: time.Second, code: exitInterrupted, stdout: "a: interrupted, 1 request: last answer: pending"}, // the second comes after some two seconds
		{name: "interrupted before any answer", args: "-fault silence:1 a", cancel: 5 * time.Second, code: exitInterrupted, stdout: "last answer: none"},
		{name: "interrupted at once", args: "a", cancel: -1, code: exitInterrupted, stdout: "a: interrupted, 0 requests"},
		{name: "interrupted, and a job failed before", args: "-fail-rate 1 -duration uniform:1s-1h a b c d e f", cancel: 30 * time.Minute, code: exitInterrupted, stdout: "failed, "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.cancel < 0 {
					cancel()
				} else if tt.cancel > 0 {
					defer time.AfterFunc(tt.cancel, cancel).Stop()
				}
				args := strings.Fields("wait " + tt.args)
				if !strings.Contains(tt.args, "-fault") {
					args = slices.Insert(args, 1, "-fault", "none")
				}
				start := time.Now()
				r := call{ctx: ctx, args: args}.run()
				wantCode(t, r, tt.code)
				if !strings.Contains(r.stdout, tt.stdout) {
					t.Errorf("stdout lacks %q:\n%s", tt.stdout, r.stdout)
				}
				if tt.cancel > 0 && time.Since(start) != tt.cancel {
					t.Errorf("took %v, interrupted after %v", time.Since(start), tt.cancel)
				}
			})
		})
	}
}

func TestWaitReadsIDsFromStandardInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := call{args: []string{"wait", "-duration", "5s", "first", "-", "last"}, stdin: strings.NewReader("x\n\ny\nfirst\n")}.run()
		wantCode(t, r, exitOK)
		if !strings.Contains(r.stdout, "4 jobs in ") || !strings.Contains(r.stdout, ": 4 completed") {
			t.Errorf("got %s", r.stdout)
		}
	})
}

func TestWaitEndsThoughStandardInputDoesNot(t *testing.T) {
	pr, pw := io.Pipe()
	defer pw.Close()
	r := call{args: []string{"wait", "-timeout", "50ms", "-"}, stdin: pr}.run()
	wantCode(t, r, exitStillRunning)
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		args   string
		code   int
		stdout string
		stderr string
	}{
		{args: "", code: exitError, stderr: "vt wait [flags]"},
		{args: "help", code: exitOK, stdout: "130  interrupted"},
		{args: "-h", code: exitOK, stdout: "130  interrupted"},
		{args: "help wait", code: exitOK, stdout: "-timeout"},
		{args: "wait -h", code: exitOK, stdout: "130  interrupted"},
		{args: "serve --help", code: exitOK, stdout: "-auto-create"},
		{args: "fly", code: exitError, stderr: `unknown command "fly"`},
		{args: "help fly", code: exitError, stderr: `unknown command "fly"`},
		{args: "wait -nonsense", code: exitError, stderr: "nonsense"},
		{args: "wait -url ftp://x", code: exitError, stderr: "scheme http or https"},
		{args: "wait -url http://x -seed 3", code: exitError, stderr: "-seed describes the simulated backend"},
		{args: "wait -timeout -3s", code: exitError, stderr: "not positive"},
		{args: "wait -duration soon", code: exitError, stderr: `"soon" is not a duration`},
		{args: "wait -duration uniform:5s-3s", code: exitError, stderr: "3s is less than 5s"},
		{args: "wait -duration normal:5s", code: exitError, stderr: "there are fixed, uniform, lognormal"},
		{args: "wait -duration lognormal:5s,x", code: exitError, stderr: "sigma"},
		{args: "wait -fault explode:1", code: exitError, stderr: "there are drop, reset"},
		{args: "wait -fault drop", code: exitError, stderr: "neither kind:rate"},
		{args: "wait -fault drop:2", code: exitError, stderr: "not a rate"},
		{args: "wait -fault drop:60%,cut:60%", code: exitError, stderr: "-fault"},
		{args: "wait -fault 99:1", code: exitError, stderr: "-fault"},
		{args: "wait -fault speed=3s", code: exitError, stderr: "there are latency"},
		{args: "wait -fault limit=0", code: exitError, stderr: "1 or more"},
		{args: "wait -fail-rate 101%", code: exitError, stderr: "not a rate"},
		{args: "wait -retry-after -1s", code: exitError, stderr: "not positive"},
		{args: "wait -started 5m", code: exitError, stderr: "without -url they begin now"},
		{args: "wait -url http://x -started -5m", code: exitError, stderr: "5m0s ago is in the future"},
		{args: "wait -url http://x -started yesterday", code: exitError, stderr: "nor a time like"},
		{args: "serve -epoch yesterday", code: exitError, stderr: "not a time like"},
		{args: "serve job", code: exitError, stderr: "takes no arguments"},
		{args: "serve -addr nowhere:x:y", code: exitError, stderr: "serve: listen"},
		{args: "wait -token x", code: exitError, stderr: "not defined: -token"},
		{args: "help", code: exitOK, stdout: "HEYGEN_API_KEY"},
		{args: "wait -h", code: exitOK, stdout: "-late-result"},
		{args: "serve -h", code: exitOK, stdout: "-webhook-loss"},
		{args: "wait -api colossyan", code: exitError, stderr: "there are plain, heygen"},
		{args: "wait -api heygen -url http://x", code: exitError, stderr: "waits for the jobs that are named after it"},
		{args: "wait -api heygen -seed 3 a", code: exitError, stderr: "those of https://api.heygen.com"},
		{args: "wait -api heygen -url http://x -webhook-loss 1 a", code: exitError, stderr: "-url names another"},
		{args: "wait -api heygen -url http://x -listen 127.0.0.1:0 a", code: exitError, stderr: "HEYGEN_WEBHOOK_SECRET"},
		{args: "wait -api heygen -started 5m", code: exitError, stderr: "without -url they begin now"},
		{args: "wait -api heygen -webhook-loss 2", code: exitError, stderr: "not a rate"},
		{args: "wait -api heygen -late-result -1s", code: exitError, stderr: "-1s is not positive"},
		{args: "wait -api heygen -api-key x", code: exitError, stderr: "not defined: -api-key"},
		{args: "wait -listen 127.0.0.1:0", code: exitError, stderr: "-listen is for -api heygen"},
		{args: "wait -webhook-loss 1", code: exitError, stderr: "-webhook-loss is for -api heygen"},
		{args: "wait -late-result 1s", code: exitError, stderr: "-late-result is for -api heygen"},
		{args: "serve -webhook http://x", code: exitError, stderr: "-webhook is for -api heygen"},
		{args: "serve -api heygen -webhook http://x", code: exitError, stderr: "HEYGEN_WEBHOOK_SECRET"},
		{args: "serve -api heygen -webhook-loss 1", code: exitError, stderr: "without -webhook there are none"},
	} {
		r := vt(strings.Fields(tt.args)...)
		if r.code != tt.code || !strings.Contains(r.stdout, tt.stdout) || !strings.Contains(r.stderr, tt.stderr) ||
			(tt.stderr == "") != (r.stderr == "") {
			t.Errorf("vt %s: exit code %d, want %d\nstdout: %s\nstderr: %s", tt.args, r.code, tt.code, r.stdout, r.stderr)
		}
	}
}

func TestTokenIsSentAndNeverShown(t *testing.T) {
	const token = "s3cret-token"
	backend := simserver.Start(t, simserver.WithToken(token), simserver.WithDefaultJob(simserver.Job{Duration: -1}))
	args := []string{"wait", "-url", backend.URL(), "-v"}
	r := call{args: args, env: map[string]string{"VT_TOKEN": token}}.run()
	wantCode(t, r, exitOK)
	r2 := call{args: args}.run()
	wantCode(t, r2, exitError)
	if out := r.stdout + r.stderr; strings.Contains(out, token) || !strings.Contains(r2.stdout, "401 Unauthorized") {
		t.Errorf("with the token: %s\nwithout: %s", out, r2.stdout)
	}
	synctest.Test(t, func(t *testing.T) {
		wantCode(t, call{args: []string{"wait"}, env: map[string]string{"VT_TOKEN": token}}.run(), exitOK)
	})
}

// Hostile text, piece by piece: a terminal sequence, a title, C1 controls, line breaks of all
// kinds, overrides of the writing direction, the invisible, and what is no UTF-8.
const hostile = "\x1b[2J\x1b]0;owned\x07\u009b31m\x7f\r\n2026 forged line\u2028\u202edesrever\u2066\u200b\U000e0041\x00end"

func TestTextFromTheServerIsEscaped(t *testing.T) {
	for _, tt := range []struct {
		name string
		code int // exit code
		h    http.HandlerFunc
	}{
		{"message", exitJobFailed, func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"result": "error", "message": hostile})
		}},
		{"raw message", exitJobFailed, func(w http.ResponseWriter, _ *http.Request) {
			// What JSON lets through unescaped, and a byte that is no UTF-8.
			fmt.Fprint(w, "{\"result\":\"error\",\"message\":\"\u009b31m\x7f\u202e\xff\"}")
		}},
		{"state", exitError, func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"result": hostile})
		}},
		{"error page", exitError, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Request-Id", "\u009b31m\u202e")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, hostile)
		}},
		{"redirect", exitError, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://elsewhere.invalid/\u009b31m\u202e")
			w.WriteHeader(http.StatusFound)
		}},
		{"result", exitOK, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "{\"result\":\"completed\",\"x\":\"\u009b31m\x7f\u202e\xff\"}")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			backend := httptest.NewServer(slow(tt.h))
			defer backend.Close()
			args := []string{"wait", "-v", "-outage", "1ms", "-url", backend.URL, "x" + hostile}
			for _, extra := range []string{"", "-json"} {
				r := vt(append(args, extra)[:len(args)+len(extra)/5]...)
				wantCode(t, r, tt.code)
				lines := 0
				for _, c := range r.stdout + r.stderr {
					if c == '\n' {
						lines++
					} else if !unicode.IsPrint(c) {
						t.Errorf("%q is in the output: %q", c, r.stdout)
						break
					}
				}
				if lines != 2 {
					t.Errorf("%d lines, want the job's and the summary: %s", lines, r.stdout)
				}
				if extra == "-json" {
					evs, _ := events(t, r.stdout)
					if evs[0].Job != "x"+hostile {
						t.Errorf("the id has become %q", evs[0].Job)
					}
					if tt.name == "message" && evs[0].Message != hostile {
						t.Errorf("the message has become %q", evs[0].Message)
					}
				}
			}
			var term fakeTerminal
			r := call{args: args, stdout: &term, env: map[string]string{"TERM": "xterm"}}.run()
			wantCode(t, r, tt.code)
			term.check(t)
			if len(term.screen) != 2 {
				t.Errorf("the screen has %d lines, want 2: %q", len(term.screen), term.screen)
			}
		})
	}
}

// The library's own errors quote what a server sent. vt does not rely on it.
func TestTextOfErrorsIsEscaped(t *testing.T) {
	var out bytes.Buffer
	var term fakeTerminal
	for _, o := range []output{&plain{w: &out}, &jsonOutput{w: &out, words: strings.NewReplacer()}, &terminal{w: &term, size: term.Size}} {
		b := newBoard(o, true)
		b.add("x")
		err := &vtclient.TransportError{Details: vtclient.Details{JobID: "x"}, Err: errors.New(hostile)}
		b.fault(err)
		o.draw(b)
		b.trace().Refused(t.Context(), vtclient.TraceInfo{JobID: "x", Err: err})
		o.draw(b)
		b.done(vtclient.Status{JobID: "x"}, err)
		if code := b.finish(); code != exitError {
			t.Errorf("%T: exit code %d, want %d", o, code, exitError)
		}
	}
	for _, c := range out.String() {
		if c != '\n' && !unicode.IsPrint(c) {
			t.Fatalf("%q is in the output: %q", c, out.String())
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 6 {
		t.Errorf("%d lines, want 6: %s", n, out.String())
	}
	term.check(t)
	if len(term.screen) != 3 {
		t.Errorf("the screen has %d lines, want 3: %q", len(term.screen), term.screen)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain, ünïcødé, 漢字 ✓ \\n":   "plain, ünïcødé, 漢字 ✓ \\n",
		"a\x1b[31mb":                 `a\x1b[31mb`,
		"a\r\nb\tc":                  `a\r\nb\tc`,
		"\u202e\u2066\u200b\ufeff":   `\u202e\u2066\u200b\ufeff`,
		"\u009b\x7f\xff\U000e0041":   `\u009b\u007f\xff\U000e0041`,
		"\u00a0\u2028":               `\u00a0\u2028`,
		strings.Repeat("x", 2000):    strings.Repeat("x", maxText) + "…",
		strings.Repeat("x", 999):     strings.Repeat("x", 999),
		"\ufffd is a character, too": "\ufffd is a character, too",
	} {
		if got := clean(in); got != want {
			if got = strings.ReplaceAll(got, `\x7f`, `\u007f`); got != want {
				t.Errorf("clean(%q) = %q, want %q", in, got, want)
			}
		}
	}
}

func TestJSONLineKeepsTheValue(t *testing.T) {
	line := jsonLine(map[string]string{"x": hostile})
	var got map[string]string
	if err := json.Unmarshal(line, &got); err != nil || got["x"] != hostile {
		t.Errorf("%q decodes to %q, %v", line, got["x"], err)
	}
}

func TestFaultFlag(t *testing.T) {
	var f faultList
	for _, s := range []string{"503:0.1,429:5%", "drop:0.01, reset:0.02,cut:0.03,silence:0.04,drip:0.05,garbage:0.06",
		"latency=1s,jitter=2s,drip-every=3s,retry-after=4s,limit=5"} {
		if err := f.Set(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	got := fmt.Sprintf("%+v", f.Faults)
	want := fmt.Sprintf("%+v", simserver.Faults{
		Status: map[int]float64{503: .1, 429: .05},
		Drop:   .01, Reset: .02, Cut: .03, Silence: .04, Drip: .05, Garbage: .06,
		Latency: time.Second, Jitter: 2 * time.Second, DripEvery: 3 * time.Second, RetryAfter: 4 * time.Second, Limit: 5,
	})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSummaryOfARealBackendIsAnUpperBound(t *testing.T) {
	b := newBoard(&plain{w: io.Discard}, false)
	b.began, b.requests = time.Now(), 8
	for i, age := range []time.Duration{10 * time.Second, 0} {
		j := &job{id: fmt.Sprint(i), began: b.began, outcome: completed, ended: b.began.Add(12 * time.Second)}
		j.status.CheckedAt = j.ended
		if age > 0 {
			j.lastPending = b.began.Add(age)
		}
		b.jobs = append(b.jobs, j)
	}
	s := b.sum()
	s.elapsed = 12 * time.Second
	const want = "2 jobs in 12.0s: 2 completed; 8 requests; ends noticed at most 2.0s late on average, 2.0s at worst\n"
	if got := s.text(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.00s", 99 * time.Millisecond: "0.10s", 100 * time.Millisecond: "0.1s", 59949 * time.Millisecond: "59.9s",
		59950 * time.Millisecond: "1m0s", time.Minute: "1m0s", 90400 * time.Millisecond: "1m30s",
	} {
		if got := seconds(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// slow makes each request longer than an outage tolerance of a millisecond, so that the first
// fault ends a wait.
func slow(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(2 * time.Millisecond)
		h(w, r)
	}
}
