package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

func TestForecastIsShownOnceItMeansSomething(t *testing.T) {
	for _, tt := range []struct {
		name   string
		jobs   int
		median time.Duration
		p90    time.Duration
		want   string
	}{
		{"rests on enough jobs", 10, time.Minute, 2 * time.Minute, "about 1m0s to go, 9 of 10 within 2m0s"},
		{"rests on too few", 9, time.Minute, 2 * time.Minute, ""},
		{"is as wide as may be", 10, time.Minute, 5 * time.Minute, "about 1m0s to go, 9 of 10 within 5m0s"}, // at the age of a minute, 2 to 6 min in all
		{"is too wide", 10, time.Minute, 5*time.Minute + time.Second, ""},
		{"the median has passed", 10, 0, time.Minute, "any moment, 9 of 10 within 1m0s"},
		{"both have passed", 10, 0, 0, "longer than others"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBoard(&plain{w: io.Discard}, false)
				b.forecast = func(vtclient.Attempt) vtclient.Forecast {
					return vtclient.Forecast{Jobs: tt.jobs, Median: tt.median, P90: tt.p90}
				}
				b.add("a")
				b.progress(vtclient.Status{JobID: "a", State: vtclient.StatePending, CheckedAt: time.Now()})
				time.Sleep(time.Minute)
				if got := b.jobs[0].estimate(); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// The last of many jobs ends later than the median of one, and the estimate of a single
// job is its median.
func TestLastOfManyJobs(t *testing.T) {
	j := &job{state: vtclient.StatePending, started: time.Now(), lastPending: time.Now()}
	j.forecast = func(vtclient.Attempt) vtclient.Forecast {
		return vtclient.Forecast{Jobs: 50, Median: 100 * time.Second, P90: 150 * time.Second}
	}
	before := time.Duration(0)
	if left, ok := j.lastOf(1); !ok || left.Round(time.Second) != 100*time.Second {
		t.Errorf("of 1: %v, want the median of 100 s", left)
	}
	for _, n := range []int{1, 2, 10, 500} {
		left, ok := j.lastOf(n)
		if !ok || left <= before {
			t.Errorf("of %d: %v after %v", n, left, before)
		}
		before = left
	}
	if before < 220*time.Second || before > 300*time.Second { // three standard deviations above the median
		t.Errorf("of 500: %v", before)
	}
}

// A fault is one line for all jobs that meet it, until an answer comes.
func TestSharedFaultIsOneLineUntilAnAnswerComes(t *testing.T) {
	var out bytes.Buffer
	b := newBoard(&plain{w: &out}, false)
	for i := range 10 {
		b.add(fmt.Sprint("job-", i))
	}
	meet := func(from, to int, code int) {
		for i := from; i < to; i++ {
			b.fault(&vtclient.HTTPError{Details: vtclient.Details{JobID: fmt.Sprint("job-", i), StatusCode: code, Attempt: i}})
		}
		b.mu.Lock()
		b.showFaults(nil)
		b.mu.Unlock()
	}
	lines := func() (n int) {
		n = strings.Count(out.String(), "\n")
		out.Reset()
		return n
	}
	for _, step := range []struct {
		name string
		do   func()
		want int
	}{
		{"three jobs meet it at once", func() { meet(0, 3, 503) }, 1},
		{"others meet it later", func() { meet(3, 6, 503) }, 0},
		{"others meet another", func() { meet(6, 8, 500) }, 1},
		{"an answer", func() {
			b.progress(vtclient.Status{JobID: "job-9", State: vtclient.StatePending, CheckedAt: time.Now()})
		}, 1},
		{"one more meets it after that", func() { meet(8, 9, 503) }, 1},
	} {
		step.do()
		if n := lines(); n != step.want {
			t.Errorf("%s: %d lines, want %d", step.name, n, step.want)
		}
	}
}

// What differs from job to job is no part of a fault's kind.
func TestFaultKind(t *testing.T) {
	at := func(id string, n int) vtclient.Details {
		return vtclient.Details{JobID: id, Attempt: n, StatusCode: 503}
	}
	for _, two := range [][2]error{
		{&vtclient.HTTPError{Details: at("a", 1)}, &vtclient.HTTPError{Details: at("b", 2)}},
		{&vtclient.TransportError{Details: at("a", 1), Err: io.EOF}, &vtclient.TransportError{Details: at("b", 2), Err: io.EOF}},
		{&vtclient.DecodeError{Details: at("a", 1), Err: errors.New("x")}, &vtclient.DecodeError{Details: at("b", 2), Err: errors.New("y")}},
	} {
		if a, b := faultKind(two[0]), faultKind(two[1]); a != b || a == "" {
			t.Errorf("%q and %q", a, b)
		}
	}
}

// The marks on the page of vt serve are what became of each request and webhook.
func TestTimelineOfASimulatedBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := &timeline{}
		var sim *simserver.Server
		seen := 0
		sim = simserver.StartInMemory(t, page.watch(func() *simserver.Server { return sim }, func(simserver.Exchange) { seen++ })...)
		ask := func(path string) {
			if resp, err := sim.HTTPClient().Get(sim.URL() + path); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			synctest.Wait()
		}
		last := func() string {
			b, _ := page.after(0)
			if len(b.Events) == 0 {
				return ""
			}
			return string(b.Events[len(b.Events)-1])
		}
		sim.Create(simserver.Job{ID: "a", Duration: time.Minute})
		sim.Create(simserver.Job{ID: "b", Duration: time.Hour, Fail: true})
		for _, step := range []struct {
			name   string
			faults simserver.Faults
			path   string
			sleep  time.Duration
			want   string
		}{
			{"pending", simserver.Faults{}, "/status/a", 0, `"marks":{"pending":["a"]}`},
			{"garbage with 200", simserver.Faults{Garbage: 1}, "/status/a", 0, `"marks":{"fault":["a"]}`},
			{"cut", simserver.Faults{Cut: 1}, "/status/a", 0, `"marks":{"fault":["a"]}`},
			{"429", simserver.Faults{Status: map[int]float64{429: 1}}, "/status/a", 0, `"marks":{"limited":["a"]}`},
			{"shared, one over", simserver.Faults{}, "/v3/video-translations/statuses?video_translation_ids=a,b", time.Minute, `"marks":{"ended":["a"],"pending":["b"]}`},
			{"dripping", simserver.Faults{Drip: 1, DripEvery: time.Millisecond}, "/status/a", 0, `"marks":{"ended":["a"]}`},
			{"no such job", simserver.Faults{}, "/status/c", 0, `"marks":{"ended":["a"]}`}, // nothing new
			{"the default job", simserver.Faults{}, "/status", 0, `"marks":{"ended":[""]}`},
		} {
			time.Sleep(step.sleep)
			sim.SetFaults(step.faults)
			ask(step.path)
			if !strings.Contains(last(), step.want) {
				t.Errorf("%s: the last event is %s, want %s", step.name, last(), step.want)
			}
		}
		if seen != 8 {
			t.Errorf("%d exchanges were passed on, want 8", seen)
		}
		sim.SetWebhook(simserver.Webhook{Handler: http.NotFoundHandler(), Secret: "s"})
		sim.Create(simserver.Job{ID: "d", Duration: time.Second})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !strings.Contains(last(), `"marks":{"refused":["d"]}`) {
			t.Errorf("the last event is %s", last())
		}
	})
}
