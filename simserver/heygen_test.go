package simserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

const v3 = "/v3/video-translations"

// doV3 makes a request and returns the answer with its body read.
func doV3(t *testing.T, sim *simserver.Server, method, path, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, sim.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := sim.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.Header.Get("X-Request-Id") == "" {
		t.Errorf("%s %s: no X-Request-Id", method, path)
	}
	return res, strings.TrimSpace(string(b))
}

func expectV3(t *testing.T, sim *simserver.Server, path string, code int, body string) {
	t.Helper()
	if res, got := doV3(t, sim, "GET", path, ""); res.StatusCode != code || got != body {
		t.Errorf("GET %s: %d %s; want %d %s", path, res.StatusCode, got, code, body)
	}
}

func TestHeyGenStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithLateResult(5*time.Second), simserver.WithRetryAfter(3*time.Second))
		sim.Create(simserver.Job{ID: "a/b", Duration: 100 * time.Second})
		sim.Create(simserver.Job{ID: "bad", Duration: time.Second, Fail: true, Message: "no speech"})
		data := func(id, more string) string {
			return fmt.Sprintf(`{"data":{"created_at":946684800,%s,"id":"%s",%s}}`, strings.Split(more, "|")[0], id, strings.Split(more, "|")[1])
		}
		pending := data("a/b", `"failure_message":null|"status":"pending","title":"","video_url":null`)
		expectV3(t, sim, v3+"/a%2Fb", 200, pending)
		time.Sleep(10 * time.Second)
		expectV3(t, sim, v3+"/a%2Fb", 200, strings.Replace(pending, `"pending"`, `"running"`, 1))
		if res, _ := doV3(t, sim, "GET", v3+"/a%2Fb", ""); res.Header.Get("Retry-After") != "3" {
			t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
		}
		expectV3(t, sim, v3+"/bad", 200, data("bad", `"failure_message":"no speech"|"status":"failed","title":"","video_url":null`))
		time.Sleep(90 * time.Second)
		late := strings.Replace(pending, `"pending"`, `"completed"`, 1)
		expectV3(t, sim, v3+"/a%2Fb", 200, late)
		time.Sleep(5*time.Second - 1)
		expectV3(t, sim, v3+"/a%2Fb", 200, late)
		time.Sleep(time.Nanosecond)
		expectV3(t, sim, v3+"/a%2Fb", 200, strings.Replace(late, `"video_url":null`, `"video_url":"https://videos.sim.invalid/a%2Fb.mp4"`, 1))
		expectV3(t, sim, v3+"/none", 404, `{"error":{"code":"not_found","message":"no video translation \"none\"","param":"video_translation_id","doc_url":"https://docs.sim.invalid/errors#not_found"}}`)
		if s := sim.Stats(); s.Pending != 3 || s.Completed != 3 || s.Failed != 1 || s.NotFound != 1 || sim.Requests("a/b") != 6 {
			t.Errorf("%+v", s)
		}
	})
}

func TestHeyGenBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithBulkPage(3))
		for i, d := range []time.Duration{time.Hour, 100 * time.Second, 10 * time.Second, 10 * time.Second} {
			sim.Create(simserver.Job{ID: string(rune('a' + i)), Duration: d, Fail: i == 3, Message: "no"})
		}
		time.Sleep(50 * time.Second)
		expectV3(t, sim, v3+"/statuses?video_translation_ids=a,b,c,d,e,a", 200, `{"data":[`+
			`{"video_id":"a","status":"queued","error":null},{"video_id":"b","status":"processing","error":null},{"video_id":"c","status":"completed","error":null}`+
			`],"has_more":true,"next_token":"from-3"}`)
		expectV3(t, sim, v3+"/statuses?video_translation_ids=a,b,c,d,e,a&token=from-3", 200, `{"data":[`+
			`{"video_id":"d","status":"failed","error":{"code":"translation_failed","message":"no"}},{"video_id":"e","status":"not_found","error":null}`+
			`],"has_more":false,"next_token":null}`)
		if s := sim.Stats(); s.Requests != 2 || s.Bulk != 2 || s.Pending+s.Completed+s.Failed+s.NotFound+s.Invalid != 0 {
			t.Errorf("%+v", s)
		}
		for id, n := range map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1} {
			if got := sim.Requests(id); got != n {
				t.Errorf("%d checks of %s, want %d", got, id, n)
			}
		}
		hundred := strings.Repeat("x,", 50) + "x0"
		for i := 1; i < 100; i++ {
			hundred += fmt.Sprintf(",x%d", i)
		}
		for query, want := range map[string]string{
			"":                             `"no ids"`,
			"?video_translation_ids=,":     `"no ids"`,
			"?video_translation_ids=a&%zz": `"the query cannot be read"`,
			"?video_translation_ids=a,b,c,d&token=from-4": `"no such page"`,
			"?video_translation_ids=a&token=x":            `"no such page"`,
			"?video_translation_ids=" + hundred:           `"101 ids, at most 100 are allowed"`,
		} {
			if res, body := doV3(t, sim, "GET", v3+"/statuses"+query, ""); res.StatusCode != 400 || !strings.Contains(body, want) {
				t.Errorf("%s: %d %s, want %s", query, res.StatusCode, body, want)
			}
		}
		if s := sim.Stats(); s.Invalid != 6 || sim.Requests("x0") != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestHeyGenFaultsAndPaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithToken("key"))
		res, body := doV3(t, sim, "GET", v3+"/a", "")
		if res.StatusCode != 401 || !strings.Contains(body, `"code":"unauthorized"`) {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithFaults(simserver.Faults{Status: map[int]float64{429: 1}, RetryAfter: 7 * time.Second}))
		sim.Create(simserver.Job{ID: "a"})
		ids := map[string]bool{}
		for _, path := range []string{"/a", "/a", "/statuses?video_translation_ids=a,b"} {
			res, body := doV3(t, sim, "GET", v3+path, "")
			if res.StatusCode != 429 || res.Header.Get("Retry-After") != "7" || !strings.Contains(body, `"code":"rate_limit_exceeded"`) {
				t.Errorf("%s: %d %v %s", path, res.StatusCode, res.Header, body)
			}
			ids[res.Header.Get("X-Request-Id")] = true
		}
		if len(ids) != 3 {
			t.Errorf("request ids %v", ids)
		}
		sim.SetFaults(simserver.Faults{})
		for _, c := range []struct {
			method, path string
			code         int
			allow        string
		}{
			{"GET", v3, 405, "POST"}, {"POST", v3 + "/a", 405, "GET, HEAD"}, {"POST", v3 + "/statuses", 405, "GET, HEAD"},
			{"GET", v3 + "/", 404, ""}, {"GET", v3 + "/a/b", 404, ""}, {"HEAD", v3 + "/a", 200, ""},
		} {
			if res, _ := doV3(t, sim, c.method, c.path, ""); res.StatusCode != c.code || res.Header.Get("Allow") != c.allow {
				t.Errorf("%s %s: %d %q", c.method, c.path, res.StatusCode, res.Header.Get("Allow"))
			}
		}
		if c, _, _ := get(sim, v3+"s"); c != 404 {
			t.Error(c)
		}
	})
}

func TestHeyGenSubmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		received := new(webhookReceiver)
		sim := simserver.StartInMemory(t, simserver.WithWebhook(simserver.Webhook{Handler: received, Secret: "s"}))
		res, body := doV3(t, sim, "POST", v3, `{"video":{"type":"url","url":"https://x"},"output_languages":["German","French"],`+
			`"title":"Hi","callback_url":"https://me.example.com/hook?k=1","callback_id":"c-1","mode":"speed"}`)
		if res.StatusCode != 200 || body != `{"data":{"video_translation_ids":["job-1","job-2"]}}` {
			t.Errorf("%d %s", res.StatusCode, body)
		}
		_, body = doV3(t, sim, "GET", v3+"/job-2", "")
		if !strings.Contains(body, `"title":"Hi"`) {
			t.Error(body)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := received.all(); len(got) != 2 || got[0].url != "https://me.example.com/hook?k=1" || got[0].Data.CallbackID != "c-1" {
			t.Errorf("%+v", got)
		}
		for body, param := range map[string]string{
			"": `null`, "[]": `null`, `{"output_languages":["x"]}`: `"video"`, `{"video":{},"output_languages":[]}`: `"output_languages"`,
			`{"video":{},"output_languages":["x"],"callback_url":"x"}`:     `"callback_url"`,
			`{"video":"` + string(bytes.Repeat([]byte("x"), 1<<20)) + `"}`: `null`,
		} {
			if res, got := doV3(t, sim, "POST", v3, body); res.StatusCode != 400 || !strings.Contains(got, `"param":`+param) {
				t.Errorf("%.60s: %d %s", body, res.StatusCode, got)
			}
		}
		if s := sim.Stats(); s.Accepted != 1 || s.Created != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// What a client sends as a query never breaks the server.
func FuzzHeyGenBulk(f *testing.F) {
	f.Add("video_translation_ids=a,b&token=from-1")
	f.Add("video_translation_ids=%2C&video_translation_ids=a;b")
	sim := simserver.New(simserver.WithBulkPage(1))
	f.Fuzz(func(t *testing.T, query string) {
		req, err := http.NewRequest("GET", "http://sim.invalid"+v3+"/statuses", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.RawQuery = query
		w := &answerTo{header: http.Header{}}
		sim.ServeHTTP(w, req)
		if (w.code != 200 && w.code != 400) || !json.Valid(w.body.Bytes()) {
			t.Errorf("%q: %d %s", query, w.code, w.body.Bytes())
		}
	})
}

type answerTo struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (w *answerTo) Header() http.Header         { return w.header }
func (w *answerTo) WriteHeader(code int)        { w.code = code }
func (w *answerTo) Write(b []byte) (int, error) { return w.body.Write(b) }
