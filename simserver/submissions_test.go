package simserver_test

import (
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

// submitWith posts a submission with an idempotency key; "" sends none.
func submitWith(t *testing.T, sim *simserver.Server, path, key, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("POST", sim.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := sim.HTTPClient().Do(req)
	if err != nil {
		return nil, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err.Error()
	}
	return res, strings.TrimSpace(string(b))
}

func film(languages ...string) string {
	b, _ := json.Marshal(map[string]any{"video": map[string]string{"type": "url", "url": "https://example.com/film.mp4"}, "output_languages": languages})
	return string(b)
}

// One key creates one set of jobs for 24 hours, whatever the body, on its path alone; a
// refused submission leaves its key unused.
func TestIdempotencyKeys(t *testing.T) {
	for _, api := range []struct{ path, body, other, first string }{
		{v3, film("German", "French"), film("Japanese"), `{"data":{"video_translation_ids":["job-1","job-2"]}}`},
		{"/jobs", `{"duration":"1h"}`, `{"duration":"2h"}`, `{"id":"job-1"}`},
	} {
		synctest.Test(t, func(t *testing.T) {
			sim := simserver.StartInMemory(t)
			expect := func(what, key, body, want string, created int) {
				t.Helper()
				before := sim.Stats().Created
				res, got := submitWith(t, sim, api.path, key, body)
				if res == nil || res.StatusCode/100 != 2 || want != "" && got != want || sim.Stats().Created-before != created {
					t.Errorf("%s, %s: %s, and %d jobs; want %s and %d", api.path, what, got, sim.Stats().Created-before, want, created)
				}
			}
			n := 1
			if api.path == v3 {
				n = 2
			}
			expect("the first", "k", api.body, api.first, n)
			expect("the same again", "k", api.body, api.first, 0)
			expect("another body", "k", api.other, api.first, 0)
			expect("another key", "K", api.other, "", 1)
			expect("no key", "", api.other, "", 1)
			expect("no key again", "", api.other, "", 1)
			time.Sleep(24*time.Hour - 1)
			expect("a nanosecond before its end", "k", api.body, api.first, 0)
			time.Sleep(time.Nanosecond)
			expect("after its end", "k", api.body, "", n)
			if s := sim.Stats(); s.Replayed != 3 || s.Accepted != 8 {
				t.Errorf("%+v", s)
			}
			for _, key := range []string{"a b", "ä", strings.Repeat("k", 256), "a/b"} {
				if res, got := submitWith(t, sim, api.path, key, api.body); res.StatusCode != 400 || !strings.Contains(got, "Idempotency-Key") {
					t.Errorf("key %q: %s %s", key, res.Status, got)
				}
			}
			if res, _ := submitWith(t, sim, api.path, "bad", `{"video":7}`); res.StatusCode != 400 {
				t.Error(res.Status)
			}
			expect("a key that was refused before", "bad", api.body, "", n)
		})
	}
}

// A submission is carried out though its client leaves, and while it is, its key is in use.
func TestASubmissionUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithSubmitTime(3*time.Second))
		client := *sim.HTTPClient()
		client.Timeout = time.Second
		req, _ := http.NewRequest("POST", sim.URL()+v3, strings.NewReader(film("German")))
		req.Header.Set("Idempotency-Key", "k")
		if _, err := client.Do(req); err == nil {
			t.Error("no timeout")
		}
		if res, got := submitWith(t, sim, v3, "k", film("German")); res.StatusCode != 409 || !strings.Contains(got, `"request_in_progress"`) {
			t.Errorf("%s %s", res.Status, got)
		}
		time.Sleep(2*time.Second + 1)
		if res, got := submitWith(t, sim, v3, "k", film("German")); res.StatusCode != 200 || got != `{"data":{"video_translation_ids":["job-1"]}}` {
			t.Errorf("%s %s", res.Status, got)
		}
		if s := sim.Stats(); s.Created != 1 || s.Refused != 1 || s.Replayed != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// The limit counts what is under way, and a submission is taken whole or not at all.
func TestJobLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithJobLimit(3, 7*time.Second), simserver.WithDurations(simserver.Fixed(time.Minute)))
		sim.Create(simserver.Job{}) // not submitted over HTTP
		expect := func(code int, path, body string) {
			t.Helper()
			res, got := submitWith(t, sim, path, "", body)
			if res.StatusCode != code || code == 429 && (res.Header.Get("Retry-After") != "7" || path == v3 && !strings.Contains(got, `"rate_limit_exceeded"`)) {
				t.Errorf("%s %s, Retry-After %q; want %d", res.Status, got, res.Header.Get("Retry-After"), code)
			}
		}
		expect(200, v3, film("a", "b"))
		expect(429, v3, film("c", "d"))
		expect(200, v3, film("c"))
		expect(429, v3, film("d"))
		expect(429, "/jobs", "")
		time.Sleep(time.Minute)
		expect(200, v3, film("d", "e"))
		expect(201, "/jobs", "")
		expect(429, "/jobs", "")
	})
}

func TestCredit(t *testing.T) {
	sim := simserver.StartInMemory(t, simserver.WithCredit(2))
	for i, code := range []int{200, 200, 402, 402} {
		if res, got := submitWith(t, sim, v3, fmt.Sprint(i), film("German")); res.StatusCode != code || code == 402 && !strings.Contains(got, `"insufficient_credit"`) {
			t.Errorf("%d: %s %s", i, res.Status, got)
		}
	}
	if s := sim.Stats(); s.Created != 2 || s.Refused != 2 {
		t.Errorf("%+v", s)
	}
	none := simserver.StartInMemory(t, simserver.WithCredit(0))
	if res, got := submitWith(t, none, "/jobs", "", ""); res.StatusCode != 402 {
		t.Errorf("%s %s", res.Status, got)
	}
}

// An error may come with a 200, and no data beside it.
func TestAnErrorWith200(t *testing.T) {
	sim := simserver.StartInMemory(t, simserver.WithFaults(simserver.Faults{Status: map[int]float64{200: 1}}))
	sim.Create(simserver.Job{ID: "a"})
	res, got := doV3(t, sim, "GET", v3+"/a", "")
	if res.StatusCode != 200 || !strings.HasPrefix(got, `{"error":{"code":"internal_error","message":`) {
		t.Errorf("%s %s", res.Status, got)
	}
}
