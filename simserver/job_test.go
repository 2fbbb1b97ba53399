package simserver_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// expect asks for path and compares the answer.
func expect(t *testing.T, sim *simserver.Server, path string, code int, body string) {
	t.Helper()
	c, b, err := get(sim, path)
	if err != nil || c != code || strings.TrimSpace(b) != body {
		t.Errorf("GET %s: %d %s %v; want %d %s", path, c, strings.TrimSpace(b), err, code, body)
	}
}

func TestLifecycle(t *testing.T) {
	bubble(t, "completed", func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		id := sim.Create(simserver.Job{Duration: 100 * time.Second})
		if id != "job-1" {
			t.Errorf("id %q", id)
		}
		expect(t, sim, "/status/job-1", 200, `{"result":"pending"}`)
		time.Sleep(37 * time.Second)
		expect(t, sim, "/status/job-1", 200, `{"result":"pending","progress":0.37}`)
		time.Sleep(63*time.Second - 1)
		expect(t, sim, "/status/job-1", 200, `{"result":"pending","progress":0.9999}`)
		time.Sleep(time.Nanosecond)
		expect(t, sim, "/status/job-1", 200, `{"result":"completed","video_url":"https://videos.sim.invalid/job-1.mp4"}`)
		time.Sleep(1000 * time.Hour)
		expect(t, sim, "/status/job-1", 200, `{"result":"completed","video_url":"https://videos.sim.invalid/job-1.mp4"}`)
	})
	bubble(t, "failed", func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		sim.Create(simserver.Job{ID: "a", Duration: time.Minute, Fail: true})
		sim.Create(simserver.Job{ID: "b", Duration: time.Minute, Fail: true, Message: `no "audio"`})
		time.Sleep(time.Minute)
		expect(t, sim, "/status/a", 200, `{"result":"error","message":"translation failed"}`)
		expect(t, sim, "/status/b", 200, `{"result":"error","message":"no \"audio\""}`)
	})
	bubble(t, "default job", func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		time.Sleep(5 * time.Second)
		expect(t, sim, "/status", 200, `{"result":"pending","progress":0.5}`)
		expect(t, sim, "/status/", 200, `{"result":"pending","progress":0.5}`)
		time.Sleep(5 * time.Second)
		expect(t, sim, "/status", 200, `{"result":"completed","video_url":"https://videos.sim.invalid/default.mp4"}`)
		if n := sim.Requests(""); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
	bubble(t, "default job as set", func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithDefaultJob(simserver.Job{ID: "ignored", Duration: time.Hour, Fail: true}))
		time.Sleep(time.Hour)
		expect(t, sim, "/status", 200, `{"result":"error","message":"translation failed"}`)
		expect(t, sim, "/status/ignored", 404, `{"error":"no job \"ignored\""}`)
	})
	bubble(t, "result, progress and start", func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		j := simserver.Job{
			ID: "x", Started: time.Now().Add(-time.Minute), Duration: 2 * time.Minute,
			Result:   map[string]any{"video_url": "u", "minutes": 3, "result": "overruled"},
			Progress: func(share float64) float64 { return share / 2 },
		}
		sim.Create(j)
		expect(t, sim, "/status/x", 200, `{"result":"pending","progress":0.25}`)
		time.Sleep(time.Minute)
		expect(t, sim, "/status/x", 200, `{"minutes":3,"result":"completed","video_url":"u"}`)

		j.Started, j.Progress = time.Time{}, func(float64) float64 { return math.NaN() }
		sim.Create(j) // takes its place
		expect(t, sim, "/status/x", 200, `{"result":"pending"}`)
		sim.Create(simserver.Job{ID: "later", Started: time.Now().Add(time.Hour), Duration: -1})
		expect(t, sim, "/status/later", 200, `{"result":"pending"}`)
		time.Sleep(time.Hour)
		expect(t, sim, "/status/later", 200, `{"result":"completed","video_url":"https://videos.sim.invalid/later.mp4"}`)
	})
	bubble(t, "ended by hand", func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		for _, id := range []string{"a", "b", "c"} {
			sim.Create(simserver.Job{ID: id, Duration: simserver.Never, Message: "own"})
		}
		time.Sleep(1e6 * time.Hour)
		expect(t, sim, "/status/a", 200, `{"result":"pending"}`)
		if !sim.Complete("a") || !sim.Fail("b", "gone") || !sim.Fail("c", "") {
			t.Error("a pending job was not ended")
		}
		if sim.Complete("a") || sim.Fail("a", "") || sim.Complete("not there") {
			t.Error("ended what was not pending")
		}
		expect(t, sim, "/status/a", 200, `{"result":"completed","video_url":"https://videos.sim.invalid/a.mp4"}`)
		expect(t, sim, "/status/b", 200, `{"result":"error","message":"gone"}`)
		expect(t, sim, "/status/c", 200, `{"result":"error","message":"own"}`)
		if j, ok := sim.Job("a"); !ok || !j.Started.Add(j.Duration).Equal(time.Now()) {
			t.Errorf("job is %+v, %v", j, ok)
		}
		sim.Create(simserver.Job{ID: "d", Duration: simserver.Never})
		sim.Fail("d", "")
		expect(t, sim, "/status/d", 200, `{"result":"error","message":"translation failed"}`)
	})
	bubble(t, "unknown", func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		expect(t, sim, "/status/x", 404, `{"error":"no job \"x\""}`)
		if _, ok := sim.Job("x"); ok || sim.Requests("x") != 1 {
			t.Errorf("job %v, %d requests", ok, sim.Requests("x"))
		}
	})
	bubble(t, "made when first asked for", func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithAutoCreate())
		time.Sleep(time.Hour)
		expect(t, sim, "/status/x", 200, `{"result":"pending"}`)
		time.Sleep(5 * time.Second)
		expect(t, sim, "/status/x", 200, `{"result":"pending","progress":0.5}`)
		if n := sim.Stats().Created; n != 1 {
			t.Errorf("created %d", n)
		}
	})
	bubble(t, "Retry-After while pending", func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithRetryAfter(1500*time.Millisecond))
		for _, want := range []string{"2", ""} {
			res, err := sim.HTTPClient().Get(sim.URL() + "/status")
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if h := res.Header.Get("Retry-After"); h != want {
				t.Errorf("Retry-After %q, want %q", h, want)
			}
			time.Sleep(10 * time.Second)
		}
	})
}

func TestFateFollowsFromSeedAndIDAlone(t *testing.T) {
	opts := func(seed uint64) []simserver.Option {
		return []simserver.Option{
			simserver.WithSeed(seed), simserver.WithFailureRate(0.3), simserver.WithAutoCreate(),
			simserver.WithDurations(simserver.LogNormal(time.Hour, 0.5)),
		}
	}
	fate := func(s *simserver.Server, id string) string {
		j, _ := s.Job(id)
		return fmt.Sprint(j.Duration, j.Fail)
	}
	one, two, other := simserver.New(opts(7)...), simserver.New(opts(7)...), simserver.New(opts(8)...)
	const n = 300
	for range n {
		one.Create(simserver.Job{})
	}
	var wg sync.WaitGroup
	for range n { // at once, and with other things between
		wg.Go(func() {
			two.Create(simserver.Job{ID: "named", Duration: time.Second})
			two.Create(simserver.Job{})
		})
		other.Create(simserver.Job{})
	}
	wg.Wait()
	same, failed := 0, 0
	for i := 1; i <= n; i++ {
		id := fmt.Sprint("job-", i)
		if fate(one, id) != fate(two, id) {
			t.Fatalf("%s: %s, then %s", id, fate(one, id), fate(two, id))
		}
		if fate(one, id) == fate(other, id) {
			same++
		}
		if j, _ := one.Job(id); j.Fail {
			failed++
		}
	}
	if same > n/10 {
		t.Errorf("another seed gives %d of %d jobs the same fate", same, n)
	}
	if failed < n/5 || failed > n*2/5 {
		t.Errorf("%d of %d failed at a rate of 0.3", failed, n)
	}
	// A value that is given does not change one that is drawn.
	j1, _ := one.Job(one.Create(simserver.Job{ID: "j"}))
	j2, _ := one.Job(one.Create(simserver.Job{ID: "j", Fail: true}))
	if j1.Duration != j2.Duration {
		t.Errorf("Fail changed the duration: %v, %v", j1.Duration, j2.Duration)
	}
	if j, _ := simserver.New(simserver.WithFailureRate(1)).Job(""); !j.Fail {
		t.Error("the default job does not fail at a rate of 1")
	}
}

func TestEpochLetsASecondServerTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := []simserver.Option{
			simserver.WithSeed(3), simserver.WithAutoCreate(), simserver.WithEpoch(time.Now()),
			simserver.WithDurations(simserver.Uniform(time.Minute, time.Hour)),
		}
		first := simserver.StartInMemory(t, opts...)
		time.Sleep(30 * time.Second)
		_, before, _ := get(first, "/status/x")
		first.Close()
		second := simserver.StartInMemory(t, opts...)
		_, after, _ := get(second, "/status/x")
		if before != after || !strings.Contains(before, "progress") {
			t.Errorf("%q, then %q", before, after)
		}
	})
}

func TestDurations(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	draw := func(d simserver.Durations) (mean time.Duration, lo, hi time.Duration, below int) {
		lo = math.MaxInt64
		sum := 0.0
		for range 10000 {
			x := d(r)
			sum += float64(x)
			lo, hi = min(lo, x), max(hi, x)
			if x < time.Minute {
				below++
			}
		}
		return time.Duration(sum / 10000), lo, hi, below
	}
	if _, lo, hi, _ := draw(simserver.Fixed(time.Minute)); lo != time.Minute || hi != time.Minute {
		t.Errorf("Fixed: %v to %v", lo, hi)
	}
	for _, u := range []simserver.Durations{simserver.Uniform(0, 2*time.Minute), simserver.Uniform(2*time.Minute, 0)} {
		if m, lo, hi, _ := draw(u); lo < 0 || lo > time.Second || hi > 2*time.Minute || hi < 119*time.Second || m < 58*time.Second || m > 62*time.Second {
			t.Errorf("Uniform: %v to %v, mean %v", lo, hi, m)
		}
	}
	if _, lo, _, below := draw(simserver.LogNormal(time.Minute, 0.5)); lo <= 0 || below < 4800 || below > 5200 {
		t.Errorf("LogNormal: least %v, %d of 10000 below the median", lo, below)
	}
	if _, lo, hi, _ := draw(simserver.LogNormal(math.MaxInt64, 3)); lo <= 0 || hi != math.MaxInt64 {
		t.Errorf("LogNormal overflows: %v to %v", lo, hi)
	}
	j, _ := simserver.New(simserver.WithDurations(simserver.Fixed(-1))).Job("")
	if j.Duration != 0 {
		t.Errorf("negative duration: %v", j.Duration)
	}
	j, _ = simserver.New(simserver.WithDurations(nil)).Job("")
	if j.Duration != 10*time.Second {
		t.Errorf("default duration: %v", j.Duration)
	}
}

var oddIDs = []string{
	"a/b", "a%2Fb", "a b", "a+b", ".", "..", "../jobs", "//", "a//b", "?x=1", "#f", "%", "%zz", "ünï/çødé", "日本",
	"\x00\n\r", "\xff\xfe", `"quotes"`, "a;b,c", "job-1", " ", strings.Repeat("long", 500),
}

func TestAnyIDIsOneJob(t *testing.T) {
	sim := simserver.Start(t)
	for _, id := range oddIDs {
		if got := sim.Create(simserver.Job{ID: id, Duration: -1, Result: map[string]any{"is": hexed(id)}}); got != id {
			t.Errorf("%q became %q", id, got)
		}
	}
	for _, id := range oddIDs {
		code, body, err := get(sim, "/status/"+url.PathEscape(id))
		if err != nil || code != 200 || !strings.Contains(body, hexed(id)) || sim.Requests(id) != 1 {
			t.Errorf("%q: %d %q %v, %d requests", id, code, body, err, sim.Requests(id))
		}
	}
	// An id whose slash is not escaped is no id.
	expect(t, sim, "/status/a/b", 404, `{"error":"no such path: /status/a/b"}`)
	if n := sim.Requests("a/b"); n != 1 {
		t.Errorf("%d requests for a/b", n)
	}
	// A made id goes round those that are taken.
	if id := sim.Create(simserver.Job{}); id != "job-2" {
		t.Errorf("made %q although job-1 is taken", id)
	}
}

func hexed(s string) string { return fmt.Sprintf("%x.", s) }

func post(sim *simserver.Server, body string) (code int, answer map[string]any, location string, err error) {
	res, err := sim.HTTPClient().Post(sim.URL()+"/jobs", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	err = json.NewDecoder(res.Body).Decode(&answer)
	return res.StatusCode, answer, res.Header.Get("Location"), err
}

func TestCreateOverHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithFailureRate(1))
		for _, c := range []struct {
			body, id string
			want     simserver.Job
		}{
			{"", "job-1", simserver.Job{Duration: 10 * time.Second, Fail: true, Message: "translation failed"}},
			{" {} ", "job-2", simserver.Job{Duration: 10 * time.Second, Fail: true, Message: "translation failed"}},
			{`{"id":null,"duration":null,"fail":null,"message":null,"result":null}`, "job-3", simserver.Job{Duration: 10 * time.Second, Fail: true, Message: "translation failed"}},
			{`{"id":"a/b","duration":"1h30m","fail":true,"message":"no"}`, "a/b", simserver.Job{Duration: 90 * time.Minute, Fail: true, Message: "no"}},
			{`{"duration":2.5,"fail":false}`, "job-4", simserver.Job{Duration: 2500 * time.Millisecond}},
			{`{"duration":0,"fail":false}`, "job-5", simserver.Job{}},
			{`{"duration":"0s","result":{"n":[1]}}`, "job-6", simserver.Job{Fail: true, Message: "translation failed"}},
			{`{"duration":1e300,"fail":false}`, "job-7", simserver.Job{Duration: simserver.Never}},
		} {
			code, answer, location, err := post(sim, c.body)
			if err != nil || code != 201 || answer["id"] != c.id || location != "/status/"+url.PathEscape(c.id) {
				t.Errorf("POST %s: %d %v %q %v", c.body, code, answer, location, err)
				continue
			}
			j, _ := sim.Job(c.id)
			if j.Duration != c.want.Duration || j.Fail != c.want.Fail || j.Message != c.want.Message || !j.Started.Equal(time.Now()) {
				t.Errorf("POST %s made %+v", c.body, j)
			}
		}
		if s := sim.Stats(); s.Accepted != 8 || s.Created != 8 {
			t.Errorf("%+v", s)
		}
	})
}

func TestCreateOverHTTPRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		sim.Create(simserver.Job{ID: "taken"})
		cases := []struct {
			body, want string
			code       int
		}{
			{`{"id":"taken"}`, `id: there is a job "taken" already`, 409},
			{`{"id":7}`, `id: 7 is not a string`, 400},
			{`{"duration":"soon"}`, `duration: "soon" is not a duration like "90s" or "1h30m"`, 400},
			{`{"duration":true}`, `duration: true is neither a string like "90s" nor a number of seconds`, 400},
			{`{"duration":"-3s"}`, `duration: "-3s" is negative`, 400},
			{`{"duration":-3}`, `duration: -3 is negative`, 400},
			{`{"fail":"yes"}`, `fail: "yes" is not true or false`, 400},
			{`{"message":[1]}`, `message: [1] is not a string`, 400},
			{`{"result":3}`, `result: 3 is not an object`, 400},
			{`{"durration":3}`, `durration: no such member: there are id, duration, fail, message, result`, 400},
			{`[]`, `body: not a JSON object: `, 400},
			{`{} {}`, `body: not a JSON object: `, 400},
			{`{"id":`, `body: not a JSON object: `, 400},
			{strings.Repeat(" ", 1<<20+1), `body: longer than 1048576 bytes`, 400},
		}
		for _, c := range cases {
			code, answer, _, err := post(sim, c.body)
			if msg, _ := answer["error"].(string); err != nil || code != c.code || !strings.HasPrefix(msg, c.want) {
				t.Errorf("POST %.40s: %d %v %v", c.body, code, answer, err)
			}
		}
		if s := sim.Stats(); s.Created != 1 || s.Accepted != 0 || s.Invalid != len(cases) {
			t.Errorf("%+v", s)
		}
	})
}

func TestPathsAndMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		for _, c := range []struct {
			method, path string
			code         int
			allow        string
		}{
			{"HEAD", "/status", 200, ""},
			{"POST", "/status", 405, "GET, HEAD"},
			{"DELETE", "/status/x", 405, "GET, HEAD"},
			{"GET", "/jobs", 405, "POST"},
			{"GET", "/", 404, ""},
			{"GET", "/statuses", 404, ""},
			{"GET", "/jobs/", 404, ""},
		} {
			req, _ := http.NewRequest(c.method, sim.URL()+c.path, nil)
			res, err := sim.HTTPClient().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != c.code || res.Header.Get("Allow") != c.allow {
				t.Errorf("%s %s: %d, Allow %q", c.method, c.path, res.StatusCode, res.Header.Get("Allow"))
			}
		}
	})
}

func TestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithToken("secret"))
		for _, c := range []struct {
			key, value string
			code       int
		}{
			{"X-None", "", 401},
			{"Authorization", "Bearer secret", 200},
			{"Authorization", "bearer secret", 200},
			{"Authorization", "Bearer wrong", 401},
			{"Authorization", "Basic secret", 401},
			{"Authorization", "secret", 401},
			{"X-Api-Key", "secret", 200},
			{"X-Api-Key", "", 401},
		} {
			req, _ := http.NewRequest("GET", sim.URL()+"/status", nil)
			req.Header.Set(c.key, c.value)
			res, err := sim.HTTPClient().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != c.code || (c.code == 401) != (res.Header.Get("WWW-Authenticate") == "Bearer") {
				t.Errorf("%s: %s: %d", c.key, c.value, res.StatusCode)
			}
		}
		if s := sim.Stats(); s.Unauthorized != 5 || s.Pending != 3 || sim.Requests("") != 8 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPanicsOnImpossibleValues(t *testing.T) {
	for want, f := range map[string]func(){
		"simserver: WithFailureRate(1.5): not between 0 and 1": func() { simserver.New(simserver.WithFailureRate(1.5)) },
		"simserver: WithFailureRate(NaN): not between 0 and 1": func() { simserver.New(simserver.WithFailureRate(math.NaN())) },
		"simserver: Faults: rate of drop is -1: not between 0 and 1": func() {
			simserver.New(simserver.WithFaults(simserver.Faults{Drop: -1}))
		},
		"simserver: Faults.Limit is -1: negative": func() { simserver.New().SetFaults(simserver.Faults{Limit: -1}) },
		`simserver: Job.Result["f"]: json: unsupported type: func()`: func() {
			simserver.New().Create(simserver.Job{Result: map[string]any{"f": func() {}}})
		},
	} {
		func() {
			defer func() {
				if got := recover(); got != want {
					t.Errorf("panic %v, want %s", got, want)
				}
			}()
			f()
		}()
	}
}

func FuzzCreateOverHTTP(f *testing.F) {
	for _, id := range oddIDs {
		b, _ := json.Marshal(map[string]any{"id": id, "duration": "1s"})
		f.Add(string(b))
	}
	f.Add(`{"duration":1e400}`)
	sim := simserver.Start(f)
	f.Fuzz(func(t *testing.T, body string) {
		code, answer, location, err := post(sim, body)
		if err != nil {
			t.Fatal(err)
		}
		switch code {
		case 201:
			if c, b, err := get(sim, location); err != nil || c != 200 {
				t.Errorf("%q: then %d %q %v", body, c, b, err)
			}
		case 400, 409:
			if answer["error"] == "" {
				t.Errorf("%q: %d without a reason", body, code)
			}
		default:
			t.Errorf("%q: %d", body, code)
		}
	})
}
