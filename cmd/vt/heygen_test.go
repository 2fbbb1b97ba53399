package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"unicode"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// The key of these tests has what an address escapes.
const heygenKey = "s3cret/key+for=heygen"

var keyed = map[string]string{"HEYGEN_API_KEY": heygenKey}

// dones returns the last words about each job, by its id.
func dones(t *testing.T, evs []event) map[string]event {
	t.Helper()
	ends := make(map[string]event)
	for _, ev := range evs {
		if ev.Event == "done" {
			if _, twice := ends[ev.Job]; twice {
				t.Errorf("%s has ended twice", ev.Job)
			}
			ends[ev.Job] = ev
		}
	}
	return ends
}

var (
	counted    = regexp.MustCompile(`\b\d+ requests?\b`)
	hundredths = regexp.MustCompile(`(\d\.\d)\ds\b`)
)

// rough takes the numbers of requests out of a text, and of its times what is less than
// a tenth of a second. Those are up to the library, which may ask for several jobs
// at once and wait a moment for more to ask for. That vt counts requests well is checked by
// what the backend has counted.
func rough(text string) string {
	return hundredths.ReplaceAllString(counted.ReplaceAllString(text, "N requests"), "${1}s")
}

// checkRequests compares the count in a summary with what the backend has counted.
func checkRequests(t *testing.T, sum map[string]any, sim *simserver.Server) {
	t.Helper()
	if n := sim.TotalRequests(); sum["requests"] != float64(n) {
		t.Errorf("%v requests by vt's count, %d by the backend's", sum["requests"], n)
	}
}

// The whole flow: a video is submitted, webhooks announce the ends, and the results' URLs
// are shown. Nothing is polled within the time that the jobs take, so that an end is
// known within a round trip or not at all.
func TestHeyGenFlow(t *testing.T) {
	args := []string{"wait", "-api", "heygen", "-every", "1h", "-fault", "none"}
	t.Run("plain", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := call{args: append(args, "-duration", "3s"), env: keyed}.run()
			wantCode(t, r, exitOK)
			want := []string{
				"receiving webhooks at http://127.0.0.1:0/webhooks/heygen",
				"submitted a video, POST /v3/video-translations: jobs job-1, job-2, job-3, job-4",
				"4 jobs in 3.0s: 4 completed; N requests; 4 webhooks arrived; ends noticed 0.0s late on average, 0.0s at worst",
			}
			for n := range 4 {
				want = append(want,
					fmt.Sprintf("[  0.0s] job-%d: pending, N requests", n+1),
					fmt.Sprintf("[  3.0s] job-%d: a webhook announces its end", n+1),
					fmt.Sprintf("[  3.0s] job-%d: completed, N requests: https://videos.sim.invalid/job-%d.mp4", n+1, n+1))
			}
			got := strings.Split(strings.TrimSuffix(rough(r.stdout), "\n"), "\n")
			if !slices.Equal(got[:2], want[:2]) || got[len(got)-1] != want[2] {
				t.Errorf("the first and the last lines are not as they are to be")
			}
			slices.Sort(got) // what happens at one instant has no order
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant, in some order,\n%s", r.stdout, strings.Join(want, "\n"))
			}
		})
	})
	t.Run("json", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := call{args: append(args, "-json"), env: keyed}.run()
			wantCode(t, r, exitOK)
			evs, sum := events(t, r.stdout)
			for id, ev := range dones(t, evs) {
				if ev.ResultURL != "https://videos.sim.invalid/"+id+".mp4" || ev.ResultMissing || ev.Requests < 1 || !strings.Contains(string(ev.Result), ev.ResultURL) {
					t.Errorf("done is %+v", ev)
				}
			}
			if checkRequests(t, sum, r.sim); sum["late_worst"].(float64) >= 0.1 || sum["jobs"] != 4.0 {
				t.Errorf("the summary is %v", sum)
			}
			if got, want := fmt.Sprint(sum["webhooks"]), "map[arrived:4 lost:0 refused:0]"; got != want {
				t.Errorf("webhooks: %s, want %s", got, want)
			}
			if !strings.Contains(r.stdout, `{"event":"submitted",`) || !strings.Contains(r.stdout, `"jobs":["job-1","job-2","job-3","job-4"]}`) ||
				!strings.Contains(r.stdout, `{"event":"listening",`) || strings.Count(r.stdout, `{"event":"webhook",`) != 4 {
				t.Errorf("got %s", r.stdout)
			}
		})
	})
	t.Run("terminal", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var term fakeTerminal
			r := call{args: append(args, "-duration", "3s"), stdout: &term, env: map[string]string{"TERM": "xterm", "NO_COLOR": "1"}}.run()
			wantCode(t, r, exitOK)
			for i, line := range term.screen {
				term.screen[i] = rough(line)
			}
			slices.Sort(term.screen[2:6])
			want := []string{
				"receiving webhooks at http://127.0.0.1:0/webhooks/heygen",
				"submitted a video, POST /v3/video-translations: jobs job-1, job-2, job-3, job-4",
			}
			for n := range 4 {
				want = append(want, fmt.Sprintf("job-%d  [####################] 100%%  completed     3.0s  N requests, announced by webhook  https://videos.sim.invalid/job-%d.mp4", n+1, n+1))
			}
			term.check(t, append(want, "4 jobs in 3.0s: 4 completed; N requests; 4 webhooks arrived; ends noticed 0.0s late on average, 0.0s at worst")...)
		})
	})
	t.Run("failed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := call{args: append(args, "-fail-rate", "1")}.run()
			wantCode(t, r, exitJobFailed)
			if !strings.Contains(rough(r.stdout), "job-4: failed, N requests: the backend's reason: translation failed") || !strings.Contains(r.stdout, "4 webhooks arrived") {
				t.Errorf("got %s", r.stdout)
			}
		})
	})
}

func TestHeyGenWebhooksThatGetLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := vt("wait", "-api", "heygen", "-webhook-loss", "100%")
		wantCode(t, r, exitOK)
		if strings.Contains(r.stdout, "a webhook announces") || !strings.Contains(r.stdout, "; 0 webhooks arrived, 4 lost on the way; ") ||
			!strings.Contains(r.stdout, "job-4: completed, ") {
			t.Errorf("got %s", r.stdout)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := vt("wait", "-api", "heygen", "-webhook-loss", "50%", "-seed", "5")
		wantCode(t, r, exitOK)
		stats := r.sim.Stats()
		if stats.Webhooks == 0 || stats.WebhooksLost == 0 ||
			!strings.Contains(r.stdout, fmt.Sprintf("; %s arrived, %d lost on the way; ", count(stats.Webhooks, "webhook"), stats.WebhooksLost)) {
			t.Errorf("the backend has sent %d and lost %d; vt shows %s", stats.Webhooks, stats.WebhooksLost, r.stdout)
		}
	})
}

// With another secret no webhook is taken. That is shown, once unless more is wanted,
// and the wait ends by polling.
func TestHeyGenWebhooksThatAreRefused(t *testing.T) {
	const refusal = "webhook refused: webhook: the Heygen-Signature fits the body under none of the secrets"
	for extra, lines := range map[string]int{"": 1, "-v": 4, "-json": 4} {
		synctest.Test(t, func(t *testing.T) {
			args := []string{"wait", "-api", "heygen", "-every", "1s", "-fault", "none"}
			if extra != "" {
				args = append(args, extra)
			}
			r := call{args: args, tamper: func(r *http.Request) {
				r.Header.Set("Heygen-Signature", strings.Repeat("0", 64))
			}}.run()
			wantCode(t, r, exitOK)
			if extra == "-json" {
				_, sum := events(t, r.stdout)
				if got, want := fmt.Sprint(sum["webhooks"]), "map[arrived:0 lost:0 refused:4]"; got != want {
					t.Errorf("webhooks: %s, want %s", got, want)
				}
				if n := strings.Count(r.stdout, `{"event":"refused",`); n != lines || !strings.Contains(r.stdout, `"error":"vtclient: webhook: the Heygen-Signature`) {
					t.Errorf("%d refusals, want %d: %s", n, lines, r.stdout)
				}
				return
			}
			if n := strings.Count(r.stdout, refusal+"\n"); n != lines || !strings.Contains(r.stdout, "; 0 webhooks arrived, 4 refused; ") {
				t.Errorf("vt wait %s: %d refusals, want %d: %s", extra, n, lines, r.stdout)
			}
		})
	}
}

// HeyGen calls a job completed before its video_url is there.
func TestHeyGenLateResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := vt("wait", "-api", "heygen", "-every", "1h", "-fault", "none", "-duration", "3s", "-late-result", "3s")
		wantCode(t, r, exitOK)
		for n := 1; n <= 4; n++ { // asked at 0, 3, 4 and 6 s
			for _, line := range []string{
				"[  0.0s] job-%d: pending, N requests\n",
				"[  3.0s] job-%d: completed, and the result is not there yet, N requests\n",
				"[  4.0s] job-%d: completed, and the result is not there yet, N requests\n",
				fmt.Sprintf("[  6.0s] job-%%d: completed, N requests: https://videos.sim.invalid/job-%d.mp4\n", n),
			} {
				if line = fmt.Sprintf(line, n); !strings.Contains(rough(r.stdout), line) {
					t.Errorf("no line %q", line)
				}
			}
		}
		if !strings.Contains(rough(r.stdout), " requests; 4 webhooks arrived; ends noticed 0.0s late") || t.Failed() {
			t.Errorf("got %s", r.stdout)
		}
	})
}

func TestHeyGenResultThatNeverComes(t *testing.T) {
	for _, mode := range []string{"plain", "json", "terminal"} {
		synctest.Test(t, func(t *testing.T) {
			var term fakeTerminal
			c := call{args: []string{"wait", "-api", "heygen", "-every", "1h", "-fault", "none", "-late-result", "1h"}, env: map[string]string{"TERM": "xterm"}}
			switch mode {
			case "json":
				c.args = append(c.args, "-json")
			case "terminal":
				c.stdout = &term
			}
			r := c.run()
			wantCode(t, r, exitOK) // by the backend, the job is completed
			written := r.stdout + strings.Join(term.writes, "")
			term.check(t)
			if mode != "json" {
				if !regexp.MustCompile(`job-4.*completed.* requests.* without a result\n`).MatchString(written) || strings.Contains(written, "videos.sim.invalid") {
					t.Errorf("%s: got %q", mode, written)
				}
				return
			}
			evs, sum := events(t, r.stdout)
			checkRequests(t, sum, r.sim)
			ends := dones(t, evs)
			for _, ev := range ends {
				if !ev.ResultMissing || ev.ResultURL != "" || ev.Outcome != completed {
					t.Errorf("done is %+v", ev)
				}
			}
			if len(ends) != 4 {
				t.Errorf("%d jobs ended, want 4", len(ends))
			}
		})
	}
}

// Jobs that are named, and no URL: they are HeyGen's own.
func TestHeyGenJobsAreAskedForAtHeyGen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var asked []string
		over := func(client, server net.Conn) {
			defer server.Close()
			for r := bufio.NewReader(server); ; {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				mu.Lock()
				asked = append(asked, fmt.Sprint(req.Method, " ", req.Host, req.URL.EscapedPath(), " ", req.Header["X-Api-Key"], req.Header["Authorization"]))
				mu.Unlock()
				const body = `{"data":{"id":"x","status":"completed","video_url":"https://files.heygen.test/x.mp4?Signature=abc"}}`
				fmt.Fprintf(server, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			}
		}
		var conns sync.WaitGroup
		var dialed []string
		old := http.DefaultTransport
		http.DefaultTransport = &http.Transport{
			DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
				return nil, errors.New("not over TLS: " + addr)
			},
			DialTLSContext: func(_ context.Context, _, addr string) (net.Conn, error) {
				client, server := net.Pipe()
				mu.Lock()
				dialed = append(dialed, addr)
				mu.Unlock()
				conns.Go(func() { over(client, server) })
				return client, nil
			},
		}
		defer func() {
			http.DefaultTransport = old
			conns.Wait()
		}()
		r := call{args: []string{"wait", "-api", "heygen", "a/b"}, env: map[string]string{"HEYGEN_API_KEY": heygenKey, "VT_TOKEN": "of-the-plain-api"}}.run()
		wantCode(t, r, exitOK)
		if want := []string{"GET api.heygen.com/v3/video-translations/a%2Fb [" + heygenKey + "] []"}; !slices.Equal(asked, want) || !slices.Equal(dialed, []string{"api.heygen.com:443"}) {
			t.Errorf("asked %q at %q, want %q", asked, dialed, want)
		}
		if !strings.Contains(r.stdout, "a/b: completed, 1 request: https://files.heygen.test/x.mp4?Signature=abc\n") || strings.Contains(r.stdout+r.stderr, heygenKey) {
			t.Errorf("got %s%s", r.stdout, r.stderr)
		}
	})
}

func TestHeyGenMissingKey(t *testing.T) {
	old := http.DefaultTransport
	http.DefaultTransport = &http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		t.Errorf("dialed %s", addr)
		return nil, errors.New("not in a test")
	}}
	defer func() { http.DefaultTransport = old }()
	for _, args := range [][]string{
		{"a"}, {"-"}, {"-url", "https://api.heygen.com", "a"}, {"-url", "https://user:pa55word@API.HeyGen.COM./v9", "a"}, {"-url", "https://api.eu.heygen.com:8443/", "a"},
	} {
		for _, key := range []string{"", " \n"} {
			r := call{args: append([]string{"wait", "-api", "heygen"}, args...), env: map[string]string{"HEYGEN_API_KEY": key, "VT_TOKEN": "x"}}.run()
			wantCode(t, r, exitError)
			if r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "vt: wait: heygen.com refuses requests without a key: HEYGEN_API_KEY is not set") {
				t.Errorf("%q: %s%s", args, r.stdout, r.stderr)
			}
		}
	}
}

// Elsewhere a key may not be needed.
func TestHeyGenNoKey(t *testing.T) {
	sim := simserver.Start(t)
	sim.Create(simserver.Job{ID: "a", Duration: -1})
	wantCode(t, vt("wait", "-api", "heygen", "-url", sim.URL(), "a"), exitOK)
}

func TestHeyGenKeyThatCannotBeSent(t *testing.T) {
	r := call{args: []string{"wait", "-api", "heygen", "a"}, env: map[string]string{"HEYGEN_API_KEY": heygenKey + "\n"}}.run()
	wantCode(t, r, exitError)
	if strings.Contains(r.stdout+r.stderr, heygenKey) || !strings.Contains(r.stderr, "a control character") {
		t.Errorf("got %s%s", r.stdout, r.stderr)
	}
}

// A simulated backend asks for the key, and a wrong one is refused.
func TestHeyGenKeyIsSent(t *testing.T) {
	sim := simserver.Start(t, simserver.WithToken(heygenKey))
	sim.Create(simserver.Job{ID: "a", Duration: -1})
	args := []string{"wait", "-api", "heygen", "-v", "-url", sim.URL(), "a"}
	r := call{args: args, env: keyed}.run()
	wantCode(t, r, exitOK)
	const other = "an0ther/key"
	wrong := call{args: args, env: map[string]string{"HEYGEN_API_KEY": other, "VT_TOKEN": heygenKey}}.run()
	wantCode(t, wrong, exitError)
	if out := r.stdout + r.stderr + wrong.stdout + wrong.stderr; !strings.Contains(wrong.stdout, "401 Unauthorized") || strings.Contains(out, heygenKey) || strings.Contains(out, other) {
		t.Errorf("got %s", out)
	}
}

// respondV3 answers every request with a state and more members of "data".
func respondV3(status string, members map[string]any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		data := map[string]any{"id": "x", "status": status}
		for k, v := range members {
			data[k] = v
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
	}
}

// Terminal sequences must not reach the terminal, and the key must not reach anything,
// wherever the answer holds them.
func TestHeyGenAnswersThatAreHostile(t *testing.T) {
	escaped := func(s string) (in string) { // as JSON may have it
		for _, c := range s {
			in += fmt.Sprintf(`\u%04x`, c)
		}
		return in
	}
	for _, tt := range []struct {
		name string
		code int
		h    http.HandlerFunc
	}{
		{"video_url", exitOK, respondV3("completed", map[string]any{"video_url": "https://x.test/" + hostile + heygenKey})},
		{"video_url, raw", exitOK, func(w http.ResponseWriter, _ *http.Request) {
			// What JSON lets through unescaped, and a byte that is no UTF-8.
			fmt.Fprintf(w, "{\"data\":{\"status\":\"completed\",\"video_url\":\"\u009b31m\x7f\u202e\xff%s\"}}", heygenKey)
		}},
		{"video_url of 600 kB", exitOK, respondV3("completed", map[string]any{"video_url": strings.Repeat("\u202e", 200_000)})},
		{"video_url, the key escaped", exitOK, respondV3("completed", map[string]any{
			"video_url": "https://x.test/" + url.PathEscape(heygenKey) + "?key=" + url.QueryEscape(heygenKey)})},
		{"members, the key spelled in JSON's way", exitOK, func(w http.ResponseWriter, _ *http.Request) {
			k := escaped(heygenKey)
			fmt.Fprintf(w, `{"data":{"status":"completed","video_url":"https:\/\/x.test\/%s","%s":["\\","%s\"",1e400,{"%s":"first"}],"again":"%s","again":""}}`, k, k, k, k, k)
		}},
		{"audio_url", exitOK, respondV3("completed", map[string]any{"audio_url": hostile + heygenKey, "translate_audio_only": true})},
		{"failure_message", exitJobFailed, respondV3("failed", map[string]any{"failure_message": hostile + heygenKey})},
		{"state", exitError, respondV3(hostile+heygenKey, nil)},
		{"error page", exitError, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Request-Id", "\u009b31m\u202e"+heygenKey)
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"error":{"code":"forbidden","message":"%s"}}`, hostile+heygenKey)
		}},
	} {
		for _, mode := range []string{"plain", "json", "terminal"} {
			t.Run(tt.name+"/"+mode, func(t *testing.T) {
				backend := httptest.NewServer(slow(tt.h))
				defer backend.Close()
				var term fakeTerminal
				c := call{args: []string{"wait", "-api", "heygen", "-v", "-outage", "1ms", "-url", backend.URL, "x" + hostile},
					env: map[string]string{"HEYGEN_API_KEY": heygenKey, "TERM": "xterm"}}
				switch mode {
				case "json":
					c.args = append(c.args, "-json")
				case "terminal":
					c.stdout = &term
				}
				r := c.run()
				wantCode(t, r, tt.code)
				written := r.stdout + r.stderr + strings.Join(term.writes, "")
				for _, piece := range []string{"\x1b[2J", "\x1b]", heygenKey, url.PathEscape(heygenKey), url.QueryEscape(heygenKey), escaped(heygenKey)} {
					if strings.Contains(written, piece) {
						t.Errorf("%q is in the output: %q", piece, written)
					}
				}
				if r.stderr != "" {
					t.Errorf("standard error: %q", r.stderr)
				}
				term.check(t)
				if mode == "terminal" {
					return
				}
				lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
				if len(lines) != 2 {
					t.Errorf("%d lines, want the job's and the summary: %s", len(lines), r.stdout)
				}
				for _, line := range lines {
					if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
						t.Errorf("not printable: %q", line)
					}
					if mode == "plain" && len(line) > 32<<10 {
						t.Errorf("a line of %d bytes", len(line))
					}
				}
				if mode == "json" && tt.name == "video_url" {
					evs, _ := events(t, r.stdout)
					if got, want := evs[0].ResultURL, "https://x.test/"+hostile+"[redacted]"; got != want {
						t.Errorf("the URL has become %q, want %q", got, want)
					}
				}
			})
		}
	}
}

func TestHideInJSON(t *testing.T) {
	hidden := secrets(nil).with("se\"cret").with("abc").with("x y z")
	for in, want := range map[string]string{
		`null`: `null`, `""`: `""`, `{"n": 1.50, "m":[true,"\u0041\\"]}`: `{"n": 1.50, "m":[true,"\u0041\\"]}`,
		`"se\"cret"`:                      `"[redacted]"`,
		`{"se\u0022cret":"\\se\"cret\\"}`: `{"[redacted]":"\\[redacted]\\"}`,
		`["x y z","x%20y%20z","x+y+z"]`:   `["[redacted]","[redacted]","[redacted]"]`,
		`"{\"x\":\"se\\\"cret\"}"`:        `"{\"x\":\"[redacted]\"}"`,
		`"<p>se&#34;cret</p>"`:            `"\u003cp\u003e[redacted]\u003c/p\u003e"`,
		`"abc"`:                           `"abc"`, // too short for a secret
	} {
		if got := string(hidden.hideInJSON([]byte(in))); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}

// A request that asks for several jobs goes out in the name of one. It counts once in
// all, and for each of the jobs.
func TestSharedRequestsCountOnce(t *testing.T) {
	var out bytes.Buffer
	b := newBoard(&plain{w: &out}, false)
	trace := b.trace()
	for _, id := range []string{"a", "b", "c"} {
		b.add(id)
	}
	look := func(first string, err error) {
		trace.Sent(t.Context(), vtclient.TraceInfo{JobID: first})
		trace.Answered(t.Context(), vtclient.TraceInfo{JobID: first, Wire: 1, Err: err})
	}
	look("a", nil)
	for id := range b.byID {
		b.progress(vtclient.Status{JobID: id, State: vtclient.StatePending})
	}
	look("b", errors.New("gone"))
	for id := range b.byID {
		b.fault(&vtclient.TransportError{Details: vtclient.Details{JobID: id}, Err: errors.New("gone")})
	}
	look("a", nil)
	for id := range b.byID {
		b.done(vtclient.Status{JobID: id, State: vtclient.StateCompleted}, nil)
	}
	if code := b.finish(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	for _, j := range b.jobs {
		if j.requests() != 3 {
			t.Errorf("job %s: %d requests, want 3", j.id, j.requests())
		}
	}
	if !strings.Contains(out.String(), ": 3 completed; 3 requests, 1 fault survived") {
		t.Errorf("got %s", out.String())
	}
}

// A job that is handed over without its result is not for that asked for once more.
func TestHandedOverIsNoRequest(t *testing.T) {
	b := newBoard(&plain{w: io.Discard}, false)
	b.add("a")
	b.trace().Sent(t.Context(), vtclient.TraceInfo{JobID: "a"})
	b.progress(vtclient.Status{JobID: "a", State: vtclient.StatePending, ResultMissing: true})
	b.done(vtclient.Status{JobID: "a", State: vtclient.StateCompleted, ResultMissing: true}, nil)
	if n := b.jobs[0].requests(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// Of refusals in a row the first is shown, and a webhook that is taken ends the row.
func TestRefusalsInARow(t *testing.T) {
	var out bytes.Buffer
	b := newBoard(&plain{w: &out}, false)
	if _, err := b.webhook("whsec", func(string) {}); err != nil {
		t.Fatal(err)
	}
	b.add("a")
	for _, err := range []error{errors.New("first"), errors.New("second"), nil, errors.New("third")} {
		if err != nil {
			b.refused(err)
			continue
		}
		b.hinted("of another program")
		b.hinted("a")
	}
	got := regexp.MustCompile(`(?m)^\[.*?\] `).ReplaceAllString(out.String(), "")
	if want := "webhook refused: first\na: a webhook announces its end\nwebhook refused: third\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if w := b.sum().hooks; *w != (webhookCounts{Arrived: 1, Refused: 3}) {
		t.Errorf("counted %+v", w)
	}
}

// What the webhook's handler receives after the summary is not shown any more.
func TestWebhooksAfterTheSummary(t *testing.T) {
	var out bytes.Buffer
	b := newBoard(&plain{w: &out}, true)
	if _, err := b.webhook("whsec", func(string) {}); err != nil {
		t.Fatal(err)
	}
	b.add("a")
	b.finish()
	n := out.Len()
	b.hinted("a")
	b.refused(errors.New("forged"))
	if out.Len() != n {
		t.Errorf("got %s", out.String())
	}
}

// submitted creates a job for each language by HeyGen's API.
func submitted(t *testing.T, base string, body map[string]any) []string {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, base+submitPath, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", heygenKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v struct {
		Data struct {
			IDs []string `json:"video_translation_ids"`
		}
	}
	answer, _ := io.ReadAll(resp.Body)
	if err := json.Unmarshal(answer, &v); err != nil || len(v.Data.IDs) == 0 {
		t.Fatalf("%s: %s", resp.Status, answer)
	}
	return v.Data.IDs
}

// Two processes: one serves HeyGen's API and sends webhooks, the other waits and receives
// them. The one that waits polls once an hour, so that it ends by webhooks alone, but for
// jobs that were over when it first looked.
func TestProcessHeyGenServeAndWait(t *testing.T) {
	t.Parallel()
	const secret = "whsec-of-this-test"
	env := []string{"HEYGEN_API_KEY=" + heygenKey, "HEYGEN_WEBHOOK_SECRET=" + secret}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hooks := free.Addr().String()
	free.Close()
	server := startWith(t, "serve", nil, env, "serve", "-api", "heygen", "-addr", "127.0.0.1:0", "-v", "-duration", "1s", "-webhook", "http://"+hooks+"/")
	base := strings.TrimPrefix(server.until("listening on http://"), "listening on ")
	server.until("wait:   vt wait -api heygen -url " + base + " job-1 job-2")

	stdin, ids, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ids.Close()
	cli := startWith(t, "vt wait", stdin, env, "wait", "-api", "heygen", "-url", base, "-every", "1h", "-listen", hooks, "-json", "-")
	stdin.Close()
	var note struct{ URL string }
	if err := json.Unmarshal([]byte(cli.until(`"event":"listening"`)), &note); err != nil {
		t.Fatal(err)
	}
	jobs := submitted(t, base, map[string]any{"video": map[string]string{"url": "https://x.test"}, "output_languages": []string{"German", "French"}})
	fmt.Fprintln(ids, strings.Join(jobs, "\n"))
	ids.Close()
	cli.wantExit(exitOK)

	announced, pending := make(map[string]bool), make(map[string]bool)
	ends := 0
	for _, line := range cli.seen {
		var ev event
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		switch ev.Event {
		case "webhook":
			announced[ev.Job] = true
		case "progress":
			pending[ev.Job] = true
		case "done":
			ends++
			if !strings.Contains(ev.ResultURL, "/"+ev.Job+".mp4?") || pending[ev.Job] && !announced[ev.Job] {
				t.Errorf("%s, announced by webhook: %v, seen pending: %v", line, announced[ev.Job], pending[ev.Job])
			}
		}
	}
	if ends != 2 {
		t.Errorf("%d jobs have ended, want 2", ends)
	}
	server.signal(syscall.SIGTERM)
	server.wantExit(exitOK, "stopped after ", "POST /v3/video-translations: 200")
	for _, p := range []*process{server, cli} {
		for _, word := range []string{heygenKey, secret} {
			if strings.Contains(strings.Join(p.seen, "\n"), word) {
				t.Errorf("%s shows %q", p.name, word)
			}
		}
	}
}

// Webhooks over the network that are signed with another secret are reported, and
// polling ends the wait; those signed well end it without.
func TestProcessHeyGenListens(t *testing.T) {
	t.Parallel()
	binary(t)
	const secret = "whsec-of-this-test"
	sim := simserver.Start(t)
	for _, id := range []string{"a", "b", "c"} {
		sim.Create(simserver.Job{ID: id, Duration: simserver.Never})
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	listen := func(every string, ids ...string) (*process, simserver.Webhook) {
		args := append([]string{"wait", "-api", "heygen", "-url", sim.URL(), "-every", every, "-listen", "127.0.0.1:0"}, ids...)
		cli := startWith(t, "vt wait", nil, []string{"HEYGEN_WEBHOOK_SECRET=" + secret}, args...)
		line := cli.until("receiving webhooks at ")
		return cli, simserver.Webhook{URL: strings.TrimPrefix(line, "receiving webhooks at "), Secret: secret, Transport: transport}
	}

	cli, hook := listen("100ms", "a", "b")
	hook.Secret = "another"
	sim.SetWebhook(hook)
	sim.Complete("a")
	cli.until("webhook refused: webhook: the Heygen-Signature fits the body under none of the secrets")
	sim.Complete("b") // not before, or the wait might end without a webhook
	cli.wantExit(exitOK, "a: completed, ", "b: completed, ", "0 webhooks arrived, ", " refused")

	cli, hook = listen("1h", "c")
	cli.until("c: pending, 1 request")
	sim.SetWebhook(hook)
	sim.Complete("c")
	cli.wantExit(exitOK, "c: a webhook announces its end", "c: completed, 2 requests: https://videos.sim.invalid/c.mp4", "1 webhook arrived")
	if out := strings.Join(cli.seen, "\n"); strings.Contains(out, secret) {
		t.Error("the secret is shown")
	}
}

// The demonstration as it is to be run, with shorter jobs: everything over loopback.
func TestProcessHeyGenDemonstration(t *testing.T) {
	t.Parallel()
	cli := startWith(t, "vt wait", nil, []string{"HEYGEN_API_KEY=" + heygenKey}, "wait", "-api", "heygen", "-duration", "uniform:300ms-1s", "-webhook-loss", "50%", "-late-result", "200ms")
	cli.wantExit(exitOK, "receiving webhooks at http://127.0.0.1:", "submitted a video, ", ": https://videos.sim.invalid/job-4.mp4", ": 4 completed; ", " arrived")
	if strings.Contains(strings.Join(cli.seen, "\n"), heygenKey) {
		t.Error("the key is shown")
	}
}

// The commands that serve prints work.
func TestProcessHeyGenExamples(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	for name, key := range map[string]string{"with a key": heygenKey, "without": ""} {
		t.Run(name, func(t *testing.T) {
			env := []string{"HEYGEN_API_KEY=" + key}
			server := startWith(t, "serve", nil, env, "serve", "-api", "heygen", "-addr", "127.0.0.1:0", "-duration", "1ms")
			server.until("wait:   ")
			for _, example := range []struct{ name, want string }{
				{"submit: ", `{"data":{"video_translation_ids":["job-1","job-2"]}}`},
				{"status: ", `"id":"job-1"`},
				{"bulk:   ", `"has_more":false`},
			} {
				i := slices.IndexFunc(server.seen, func(line string) bool { return strings.HasPrefix(line, example.name) })
				if i < 0 {
					t.Fatalf("no example %q", example.name)
				}
				command := strings.TrimPrefix(server.seen[i], example.name)
				sh := exec.Command("sh", "-c", command)
				sh.Env = append(os.Environ(), append(env, "no_proxy=*")...)
				out, err := sh.CombinedOutput()
				if err != nil || !strings.Contains(string(out), example.want) || strings.Contains(command, heygenKey) {
					t.Errorf("%s: %s: %v", command, out, err)
				}
			}
			server.signal(os.Interrupt)
			server.wantExit(exitOK, "stopped after 3 requests")
		})
	}
}

// The handler for webhooks over loopback holds on to no connection once it is stopped.
func TestListen(t *testing.T) {
	at, err := listen(t.Context(), "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: at.transport, Timeout: patience}
	resp, err := client.Post(at.url, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Error(resp.Status)
	}
	if _, err := listen(t.Context(), strings.TrimPrefix(at.url, "http://"), nil); err == nil {
		t.Error("the port is taken, and there is no error")
	}
	at.stop()
	if _, err := client.Post(at.url, "application/json", strings.NewReader("{}")); err == nil {
		t.Error("it still answers")
	}
}
