package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

const testFilm = "https://example.com/films/holiday.mov"

// submitting are the arguments of a wait that submits to a simulated HeyGen.
func submitting(sim *simserver.Server, more ...string) []string {
	return append([]string{"wait", "-api", "heygen", "-url", sim.URL(), "-submit", testFilm}, more...)
}

// results are the files in a folder, without those that begin with a dot.
func resultFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, entry := range list {
		if strings.HasPrefix(entry.Name(), ".") {
			t.Errorf("%s is left over", entry.Name())
			continue
		}
		if files[entry.Name()], err = os.ReadFile(filepath.Join(dir, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// The whole way: submitted in each language once, waited for, downloaded from a host that
// refuses the API's key, from addresses that expire, over connections that are cut. The same
// command again creates nothing and downloads nothing.
func TestSubmitWaitDownload(t *testing.T) {
	for _, state := range []bool{false, true} {
		for _, spoilt := range []bool{false, true} {
			t.Run(fmt.Sprintf("state %v, spoilt %v", state, spoilt), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					files := simserver.Downloads{Size: 200_000}
					opts := []simserver.Option{simserver.WithToken(heygenKey), simserver.WithDurations(simserver.Uniform(time.Minute, 10*time.Minute)), simserver.WithJobLimit(2, 5*time.Second)}
					if spoilt {
						files.Cut, files.Expires, files.Rate = 0.7, 3*time.Second, 50_000
						opts = append(opts, simserver.WithSubmitTime(time.Second), simserver.WithFaults(simserver.Faults{
							Status: map[int]float64{503: 0.1}, Drop: 0.1, Cut: 0.1, Match: func(*http.Request) bool { return true },
						}))
					}
					sim := simserver.StartInMemory(t, append(opts, simserver.WithDownloads(files))...)
					dir := t.TempDir()
					out := filepath.Join(dir, "films")
					args := submitting(sim, "-language", "German,French", "-language", "Chinese (Cantonese, Traditional),German", "-at-most", "2", "-download", out)
					if state {
						args = append(args, "-state", filepath.Join(dir, "state.json"))
					}
					run := call{args: args, env: keyed, web: sim.HTTPClient()}
					wantCode(t, run.run(), exitOK)
					got := resultFiles(t, out)
					names := []string{"holiday.Chinese (Cantonese, Traditional).mp4", "holiday.French.mp4", "holiday.German.mp4"}
					for _, name := range names {
						if len(got[name]) != 200_000 {
							t.Errorf("%s has %d bytes", name, len(got[name]))
						}
					}
					if s := sim.Stats(); s.Created != 3 || len(got) != 3 {
						t.Errorf("%d jobs, files %d", s.Created, len(got))
					}
					for _, pair := range [][2]string{{names[0], names[1]}, {names[1], names[2]}} {
						if bytes.Equal(got[pair[0]], got[pair[1]]) {
							t.Errorf("%q are the same", pair)
						}
					}
					again := run.run()
					wantCode(t, again, exitOK)
					if s := sim.Stats(); s.Created != 3 || !strings.Contains(again.stdout, "3 completed") {
						t.Errorf("%d jobs, and\n%s", s.Created, again.stdout)
					}
					// A label makes new jobs, on purpose.
					run.args = append(run.args, "-again", "2")
					wantCode(t, run.run(), exitOK)
					if n := sim.Stats().Created; n != 6 {
						t.Errorf("%d jobs", n)
					}
				})
			})
		}
	}
}

// The key is sent to the API and to no other host, and stands nowhere.
func TestTheKeyIsNotSentToTheFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithToken(heygenKey), simserver.WithDownloads(simserver.Downloads{Size: 1000}))
		hosts := map[string][]string{}
		web := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			hosts[r.URL.Host] = append(hosts[r.URL.Host], r.Header.Get("X-Api-Key")+r.Header.Get("Authorization"))
			return sim.HTTPClient().Transport.RoundTrip(r)
		})}
		dir := t.TempDir()
		r := call{args: submitting(sim, "-language", "German", "-download", dir, "-state", filepath.Join(dir, "s")), env: keyed, web: web}.run()
		wantCode(t, r, exitOK)
		if len(hosts) != 2 {
			t.Errorf("hosts %v", hosts)
		}
		for host, keys := range hosts {
			want := ""
			if "http://"+host == sim.URL() {
				want = heygenKey
			}
			if slices.ContainsFunc(keys, func(k string) bool { return k != want }) {
				t.Errorf("%s got %q", host, keys)
			}
		}
		state, err := os.ReadFile(filepath.Join(dir, "s"))
		if err != nil || strings.Contains(string(state)+r.stdout+r.stderr, heygenKey) {
			t.Errorf("%v, or the key stands in\n%s%s", err, state, r.stdout)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What cannot be submitted is reported for its language, and the others go on; what may pass is
// tried again, for as long as that is worth it.
func TestSubmissionsThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		name    string
		server  []simserver.Option
		args    []string
		code    int
		text    []string
		created int
	}{
		{"no credit for the second", []simserver.Option{simserver.WithCredit(1)}, nil, exitError, []string{"German (job-1): completed", "French: error", "not submitted: submit: request 1: ", ": 402 Payment Required", "1 completed, 1 error"}, 1},
		{"a full account", []simserver.Option{simserver.WithJobLimit(1, 20*time.Second)}, nil, exitOK, []string{"French: not submitted yet: submit:", "429 Too Many Requests", "2 completed"}, 2},
		{"a full account, for five minutes, in which the jobs are looked at", []simserver.Option{simserver.WithJobLimit(1, 5*time.Minute), simserver.WithDurations(simserver.Fixed(time.Minute))}, []string{"-every", "11s"}, exitOK, []string{"French: not submitted yet: submit:", "[ 66.01s] German (job-1): completed", "2 jobs in 6m"}, 2},
		{"a key that is refused", []simserver.Option{simserver.WithToken("another")}, nil, exitError, []string{"German: error", "401 Unauthorized"}, 0},
		{"nothing but faults", []simserver.Option{simserver.WithFaults(simserver.Faults{Status: map[int]float64{503: 1}, Match: func(*http.Request) bool { return true }})}, []string{"-outage", "1m"}, exitError, []string{"503 Service Unavailable", "2 error"}, 0},
		{"time is up before", []simserver.Option{simserver.WithJobLimit(1, time.Hour), simserver.WithDurations(simserver.Fixed(time.Hour))}, []string{"-timeout", "1m"}, exitStillRunning, []string{"German (job-1): still running"}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := simserver.StartInMemory(t, test.server...)
				r := call{args: append(submitting(sim, "-language", "German,French"), test.args...), env: keyed, web: sim.HTTPClient()}.run()
				wantCode(t, r, test.code)
				for _, part := range test.text {
					if !strings.Contains(r.stdout, part) {
						t.Errorf("%q is missing in\n%s", part, r.stdout)
					}
				}
				if n := sim.Stats().Created; n != test.created {
					t.Errorf("%d jobs, want %d", n, test.created)
				}
			})
		})
	}
}

// A host that is not there is given up within 30 s.
func TestSubmittingToNoHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("no such host")
		})}
		began := time.Now()
		r := call{args: []string{"wait", "-api", "heygen", "-url", "http://nowhere.invalid", "-submit", testFilm, "-language", "German"}, web: web}.run()
		wantCode(t, r, exitError)
		if took := time.Since(began); took > 30*time.Second || !strings.Contains(r.stdout, "no such host") {
			t.Errorf("after %v:\n%s", took, r.stdout)
		}
	})
}

// A submission whose answer was never seen, and whose key is too old to be safe, is not
// repeated.
func TestASubmissionOfLongAgoIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		state := filepath.Join(t.TempDir(), "s")
		key := submissionKey(testFilm, "German", "")
		text := fmt.Sprintf(`{"version":1,"jobs":[{"key":%q,"video":%q,"language":"German","tried":%q}]}`, key, testFilm, time.Now().Format(time.RFC3339))
		if err := os.WriteFile(state, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		run := call{args: submitting(sim, "-language", "German", "-state", state), web: sim.HTTPClient()}
		time.Sleep(24 * time.Hour)
		r := run.run()
		wantCode(t, r, exitError)
		if sim.Stats().Requests != 0 || !strings.Contains(r.stdout, "repeat with -again") {
			t.Errorf("%d requests, and\n%s", sim.Stats().Requests, r.stdout)
		}
		run.args = append(run.args, "-again", "x")
		wantCode(t, run.run(), exitOK)
		if info, err := os.Stat(state); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	})
}

// Flags that do not go together, and files that cannot be, are refused before the first
// request.
func TestSubmitRefusesBadUsage(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("durations"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := []string{"-api", "heygen", "-url", "http://127.0.0.1:1"}
	with := func(args ...string) []string { return append(slices.Clone(url), args...) }
	for _, test := range []struct {
		args []string
		text string
	}{
		{[]string{"-submit", testFilm, "-language", "German"}, "-submit is for -api heygen"},
		{[]string{"-download", dir}, "-download is for -api heygen"},
		{with("-submit", testFilm), "-submit needs -language"},
		{with("-submit", "film.mp4", "-language", "German"), "is not a URL like https://"},
		{with("-submit", testFilm, "-language", ","), "no language"},
		{with("-submit", testFilm, "-language", "German", "job-1"), "-submit makes the jobs"},
		{with("-submit", testFilm, "-language", "German", "-started", "1m"), "-started is when"},
		{with("-language", "German", "job-1"), "-language goes with -submit"},
		{with("-state", bad, "job-1"), "-state goes with -submit"},
		{with("-submit", testFilm, "-language", "German", "-state", bad), "not a file of -state"},
		{with("-submit", testFilm, "-language", "German", "-state", filepath.Join(dir, "no", "such")), "-state: "},
		{with("-submit", testFilm, "-language", "German", "-download", filepath.Join(bad, "x")), "-download: "},
		{[]string{"-api", "heygen", "-submit", testFilm, "-language", "German"}, "HEYGEN_API_KEY is not set"},
	} {
		r := vt(append([]string{"wait"}, test.args...)...)
		if r.code != exitError || !strings.Contains(r.stderr, test.text) || r.stdout != "" {
			t.Errorf("%q: %d, %s%s; want %q", test.args, r.code, r.stdout, r.stderr, test.text)
		}
	}
}

// Killed at random moments, by a signal that nothing can catch, the same command ends with
// one job for each language and with files that are whole.
func TestProcessSubmitKilled(t *testing.T) {
	t.Parallel()
	env := []string{"HEYGEN_API_KEY=" + heygenKey}
	server := startWith(t, "serve", nil, env, "serve", "-api", "heygen", "-addr", "127.0.0.1:0", "-duration", "uniform:300ms-2s",
		"-results", "size=400kB,expires=1s,rate=500kB,cut=20%", "-submissions", "limit=3,pause=1s,time=150ms", "-fault", "503:5%,cut:5%", "-auto-create")
	url := strings.TrimPrefix(server.until("listening on http://"), "listening on ")
	dir := t.TempDir()
	languages := []string{"German", "French", "Japanese", "Spanish (Spain)", "Chinese (Cantonese, Traditional)"}
	args := []string{"wait", "-api", "heygen", "-url", url, "-submit", testFilm, "-language", strings.Join(languages, ","),
		"-at-most", "3", "-every", "200ms", "-download", filepath.Join(dir, "films"), "-state", filepath.Join(dir, "state")}
	kills := 0
	for ; kills < 12; kills++ {
		p := startWith(t, fmt.Sprint("wait ", kills), nil, env, args...)
		moment := time.NewTimer(50*time.Millisecond + rand.N(900*time.Millisecond))
		ended := make(chan struct{})
		go func() { p.wait(); close(ended) }()
		select {
		case <-ended:
		case <-moment.C:
			p.signal(syscall.SIGKILL)
			<-ended
			continue
		}
		break
	}
	last := startWith(t, "the last wait", nil, env, args...)
	last.wantExit(exitOK, "5 completed")
	files := resultFiles(t, filepath.Join(dir, "films"))
	text, err := os.ReadFile(filepath.Join(dir, "state"))
	var state stateText
	if err != nil || json.Unmarshal(text, &state) != nil || len(state.Jobs) != len(languages) || len(files) != len(languages) {
		t.Fatalf("%v, %d files, state %s", err, len(files), text)
	}
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.HasPrefix(url, "http://"+r.URL.Host) {
			r.Header.Set("X-Api-Key", heygenKey)
		}
		return http.DefaultTransport.RoundTrip(r)
	})}
	for _, e := range state.Jobs {
		want := eventually(func() ([]byte, bool) { return tryDirect(client, url, e.Job) })
		if got := files[filepath.Base(e.File)]; !bytes.Equal(got, want) || len(got) != 400_000 {
			t.Errorf("%s: %d bytes, which are the right ones: %v", e.File, len(got), bytes.Equal(got, want))
		}
	}
	t.Logf("killed %d times", kills)
	server.signal(syscall.SIGTERM)
	server.wantExit(exitOK, ", 5 jobs created")
}

// eventually repeats what faults may spoil.
func eventually[T any](try func() (T, bool)) (v T) {
	for range 100 {
		var ok bool
		if v, ok = try(); ok {
			return v
		}
	}
	return v
}

func tryDirect(client *http.Client, base, id string) ([]byte, bool) {
	read := func(url string) ([]byte, bool) {
		resp, err := client.Get(url)
		if err != nil {
			return nil, false
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return b, err == nil && resp.StatusCode == 200
	}
	answer, ok := read(base + submitPath + "/" + id)
	if url := heygenResult(answer); ok && url != "" {
		return read(url)
	}
	return nil, false
}
