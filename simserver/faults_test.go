package simserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

// both runs f against a server in memory, in a bubble, and one on loopback.
func both(t *testing.T, name string, f func(t *testing.T, sim *simserver.Server)) {
	t.Helper()
	bubble(t, name+"/memory", func(t *testing.T) { f(t, simserver.StartInMemory(t)) })
	t.Run(name+"/loopback", func(t *testing.T) { f(t, simserver.Start(t)) })
}

// counted checks that the server counted the fault n times, and nothing else. It waits a
// little, as a client that does not wait for an answer can be faster than the server.
func counted(t *testing.T, sim *simserver.Server, f simserver.Fault, n int) {
	t.Helper()
	want := map[simserver.Fault]int{f: n}
	for range 10000 {
		if s := sim.Stats(); s.InFlight == 0 && maps.Equal(s.Faults, want) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%+v, want faults %v", sim.Stats(), want)
}

const done = `{"result":"completed","video_url":"https://videos.sim.invalid/x.mp4"}`

func TestFaultsAsAClientSeesThem(t *testing.T) {
	add := func(sim *simserver.Server) { sim.Create(simserver.Job{ID: "x", Duration: -1}) }

	for _, code := range []int{500, 503, 429, 404, 204} {
		both(t, fmt.Sprint("status ", code), func(t *testing.T, sim *simserver.Server) {
			add(sim)
			sim.SetFaults(simserver.Faults{Status: map[int]float64{code: 1}})
			c, body, err := get(sim, "/status/x")
			if want := fmt.Sprintf(`{"error":"simulated fault: %s"}`, http.StatusText(code)); err != nil || c != code || code != 204 && strings.TrimSpace(body) != want {
				t.Errorf("%d %q %v", c, body, err)
			}
			counted(t, sim, simserver.Fault(fmt.Sprint(code)), 1)
			if s := sim.Stats(); s.Completed+s.Invalid != 0 {
				t.Errorf("a fault is counted as an answer: %+v", s)
			}
		})
	}
	both(t, "drop", func(t *testing.T, sim *simserver.Server) {
		add(sim)
		sim.SetFaults(simserver.Faults{Drop: 1})
		if _, _, err := get(sim, "/status/x"); !errors.Is(err, io.EOF) {
			t.Errorf("err = %v", err)
		}
		counted(t, sim, simserver.FaultDrop, 1)
	})
	both(t, "reset", func(t *testing.T, sim *simserver.Server) {
		add(sim)
		sim.SetFaults(simserver.Faults{Reset: 1})
		if _, _, err := get(sim, "/status/x"); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("err = %v", err)
		}
		counted(t, sim, simserver.FaultReset, 1)
	})
	both(t, "cut", func(t *testing.T, sim *simserver.Server) {
		add(sim)
		sim.SetFaults(simserver.Faults{Cut: 1})
		code, body, err := get(sim, "/status/x")
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("err = %v", err)
		}
		// What a socket delivers of the bytes before a reset is up to the system.
		if strings.HasSuffix(t.Name(), "memory") && (code != 200 || body != done[:len(body)] || len(body) < 10) {
			t.Errorf("%d %q", code, body)
		}
		counted(t, sim, simserver.FaultCut, 1)
	})
	both(t, "silence until the client leaves", func(t *testing.T, sim *simserver.Server) {
		add(sim)
		sim.SetFaults(simserver.Faults{Silence: 1, Match: func(*http.Request) bool { return true }})
		for _, method := range []string{"GET", "POST"} {
			ctx, cancel := context.WithCancel(t.Context())
			before := sim.TotalRequests()
			go func() {
				defer cancel()
				for sim.TotalRequests() == before && ctx.Err() == nil {
					time.Sleep(time.Millisecond)
				}
				time.Sleep(10 * time.Millisecond)
			}()
			path := map[string]string{"GET": "/status/x", "POST": "/jobs"}[method]
			req, _ := http.NewRequestWithContext(ctx, method, sim.URL()+path, strings.NewReader(strings.Repeat(" ", 9000)))
			if _, err := sim.HTTPClient().Do(req); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: err = %v", method, err)
			}
			cancel()
		}
		counted(t, sim, simserver.FaultSilence, 2)
	})
	both(t, "silence until the server closes", func(t *testing.T, sim *simserver.Server) {
		add(sim)
		sim.SetFaults(simserver.Faults{Silence: 1})
		errs := make(chan error)
		go func() {
			_, _, err := get(sim, "/status/x")
			errs <- err
		}()
		for sim.Stats().InFlight == 0 {
			time.Sleep(time.Millisecond)
		}
		sim.Close()
		if err := <-errs; err == nil {
			t.Error("no error")
		}
		counted(t, sim, simserver.FaultSilence, 1)
	})
	both(t, "garbage", func(t *testing.T, sim *simserver.Server) {
		add(sim)
		sim.SetFaults(simserver.Faults{Garbage: 1})
		seen := map[string]bool{}
		for range 40 {
			code, body, err := get(sim, "/status/x")
			if err != nil || code != 200 || json.Valid([]byte(body)) {
				t.Errorf("%d %q %v", code, body, err)
			}
			seen[body] = true
		}
		if !seen[""] || len(seen) < 4 {
			t.Errorf("only %d kinds of garbage", len(seen))
		}
		counted(t, sim, simserver.FaultGarbage, 40)
	})
	both(t, "drip", func(t *testing.T, sim *simserver.Server) {
		add(sim)
		sim.SetFaults(simserver.Faults{Drip: 1, DripEvery: time.Millisecond})
		began := time.Now()
		code, body, err := get(sim, "/status/x")
		if err != nil || code != 200 || strings.TrimSpace(body) != done {
			t.Errorf("%d %q %v", code, body, err)
		}
		if took := time.Since(began); took < time.Duration(len(done))*time.Millisecond {
			t.Errorf("%d bytes took %v", len(done), took)
		}
		counted(t, sim, simserver.FaultDrip, 1)
		if n := sim.Stats().Completed; n != 0 {
			t.Errorf("%d answers counted", n)
		}
	})
	bubble(t, "drip to a client that leaves", func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithFaults(simserver.Faults{Drip: 1}))
		ctx, cancel := context.WithTimeout(t.Context(), 5500*time.Millisecond)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", sim.URL()+"/status", nil)
		res, err := sim.HTTPClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != `{"resu` || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%q, %v", b, err)
		}
		res.Body.Close()
		counted(t, sim, simserver.FaultDrip, 1)
		if n := sim.Stats().Pending; n != 0 {
			t.Errorf("%d answers counted", n)
		}
	})
	bubble(t, "latency", func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithFaults(simserver.Faults{Latency: time.Second, Jitter: time.Second}))
		lo, hi := time.Hour, time.Duration(0)
		for range 200 {
			began := time.Now()
			if _, _, err := get(sim, "/status"); err != nil {
				t.Fatal(err)
			}
			lo, hi = min(lo, time.Since(began)), max(hi, time.Since(began))
		}
		if lo < time.Second || lo > 1100*time.Millisecond || hi > 2*time.Second || hi < 1900*time.Millisecond {
			t.Errorf("from %v to %v", lo, hi)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", sim.URL()+"/status", nil)
		if _, err := sim.HTTPClient().Do(req); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		synctest.Wait()
		if s := sim.Stats(); len(s.Faults) != 0 || s.Pending+s.Completed != 200 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestRetryAfterOfFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		for _, c := range []struct {
			code  int
			after time.Duration
			date  bool
			want  string
		}{
			{429, 30 * time.Second, false, "30"},
			{503, time.Microsecond, false, "1"},
			{503, 0, false, ""},
			{500, time.Second, false, ""},
			{429, 30 * time.Second, true, "Sat, 01 Jan 2000 00:00:30 GMT"},
			{503, 100 * time.Millisecond, true, "Sat, 01 Jan 2000 00:00:01 GMT"},
		} {
			sim.SetFaults(simserver.Faults{Status: map[int]float64{c.code: 1}, RetryAfter: c.after, RetryAfterDate: c.date})
			res, err := sim.HTTPClient().Get(sim.URL() + "/status")
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if got := res.Header.Get("Retry-After"); got != c.want {
				t.Errorf("%+v: %q", c, got)
			}
		}
	})
}

// faultsMet asks for jobs and returns what happened to each request for each.
func faultsMet(t *testing.T, seed uint64, parallel bool) map[string][]string {
	met := map[string][]string{}
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithSeed(seed), simserver.WithAutoCreate(), simserver.WithDurations(simserver.Fixed(simserver.Never)), simserver.WithFaults(simserver.Faults{
			Status: map[int]float64{500: 0.1, 503: 0.1, 429: 0.1}, Drop: 0.1, Reset: 0.1, Cut: 0.1, Garbage: 0.1, Drip: 0.1,
			Latency: time.Second, Jitter: time.Second,
		}))
		// Jobs that never end always get the same answer, however long the asking takes. With a connection of its own for each request nothing is repeated by net/http.
		client := &http.Client{Transport: &http.Transport{DialContext: sim.DialContext, DisableKeepAlives: true}}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 10 {
			id := fmt.Sprint(i)
			ask := func() {
				for range 30 {
					began := time.Now()
					res, err := client.Get(sim.URL() + "/status/" + id)
					what := fmt.Sprint(err)
					if err == nil {
						body, err := io.ReadAll(res.Body)
						res.Body.Close()
						what = fmt.Sprintf("%d %q %v", res.StatusCode, body, err)
					}
					what += fmt.Sprint(" ", time.Since(began))
					mu.Lock()
					met[id] = append(met[id], what)
					mu.Unlock()
				}
			}
			if parallel {
				wg.Go(ask)
			} else {
				ask()
			}
		}
		wg.Wait()
	})
	return met
}

func TestFaultsFollowFromSeedJobAndNumber(t *testing.T) {
	one, again, other := faultsMet(t, 1, false), faultsMet(t, 1, true), faultsMet(t, 2, false)
	same := 0
	for id := range one {
		for i := range one[id] {
			if one[id][i] != again[id][i] {
				t.Errorf("job %s, request %d: %s, then %s", id, i, one[id][i], again[id][i])
			}
			if one[id][i] == other[id][i] {
				same++
			}
		}
	}
	if same > 100 {
		t.Errorf("with another seed %d of 300 requests met the same", same)
	}
}

func TestFaultRatesAreMet(t *testing.T) {
	sim := simserver.New(simserver.WithSeed(1), simserver.WithDefaultJob(simserver.Job{Duration: simserver.Never}),
		simserver.WithFaults(simserver.Faults{Status: map[int]float64{500: 0.2, 429: 0.1}, Garbage: 0.3}))
	const n = 10000
	for range n {
		sim.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/status", nil))
	}
	s := sim.Stats()
	near := func(what string, got int, rate float64) {
		if d := float64(got)/n - rate; d < -0.02 || d > 0.02 {
			t.Errorf("%s: %d of %d, want a share of %v", what, got, n, rate)
		}
	}
	near("500", s.Faults["500"], 0.2)
	near("429", s.Faults["429"], 0.1)
	near("garbage", s.Faults[simserver.FaultGarbage], 0.3)
	near("pending", s.Pending, 0.4)
	if sim.Requests("") != n || sim.TotalRequests() != n || s.PeakInFlight != 1 {
		t.Errorf("%+v", s)
	}
}

func TestFaultLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		for range 2 { // setting it again begins anew
			sim.SetFaults(simserver.Faults{Status: map[int]float64{503: 1}, Limit: 3})
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() { get(sim, "/status") })
			}
			wg.Wait()
		}
		if s := sim.Stats(); s.Faults["503"] != 6 || s.Pending != 34 {
			t.Errorf("%+v", s)
		}
		sim.SetFaults(simserver.Faults{Status: map[int]float64{503: 1}})
		sim.SetFaults(simserver.Faults{})
		expect(t, sim, "/status", 200, `{"result":"pending"}`)
	})
}

func TestFaultsMeetOnlyStatusRequestsByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithFaults(simserver.Faults{Status: map[int]float64{500: 1}}))
		if code, _, _, err := post(sim, ""); code != 201 || err != nil {
			t.Errorf("%d %v", code, err)
		}
		sim.SetFaults(simserver.Faults{Status: map[int]float64{500: 1}, Match: func(r *http.Request) bool { return r.URL.Path == "/jobs" }})
		if code, _, _, err := post(sim, ""); code != 500 || err != nil {
			t.Errorf("%d %v", code, err)
		}
		expect(t, sim, "/status", 200, `{"result":"pending"}`)
		// What is spoilt on its way back was done all the same.
		sim.SetFaults(simserver.Faults{Cut: 1, Match: func(*http.Request) bool { return true }})
		if _, _, _, err := post(sim, `{"id":"made"}`); err == nil {
			t.Error("no error")
		}
		if _, ok := sim.Job("made"); !ok {
			t.Error("no job")
		}
	})
}

func TestOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithDefaultJob(simserver.Job{Duration: simserver.Never}),
			simserver.WithFaults(simserver.Faults{RetryAfter: 7 * time.Second}))
		const up = `{"result":"pending"}`
		const down = `{"error":"simulated fault: Service Unavailable"}`
		expect(t, sim, "/status", 200, up)
		sim.Outage(time.Minute)
		expect(t, sim, "/status", 503, down)
		if code, _, _, _ := post(sim, ""); code != 503 {
			t.Errorf("POST: %d", code)
		}
		time.Sleep(time.Minute - 1)
		expect(t, sim, "/status", 503, down)
		time.Sleep(time.Nanosecond)
		expect(t, sim, "/status", 200, up)

		sim.Blackout(time.Minute)
		if _, _, err := get(sim, "/status"); err == nil {
			t.Error("an answer in a blackout")
		}
		sim.Outage(time.Hour) // in its place
		res, err := sim.HTTPClient().Get(sim.URL() + "/status")
		if err != nil || res.StatusCode != 503 || res.Header.Get("Retry-After") != "7" {
			t.Errorf("%+v %v", res, err)
		}
		res.Body.Close()
		sim.Outage(0)
		expect(t, sim, "/status", 200, up)
		// net/http repeats a GET on a connection that died after use: two, not one.
		if f := sim.Stats().Faults; f[simserver.FaultOutage] != 4 || f[simserver.FaultBlackout] != 2 {
			t.Errorf("%v", f)
		}
	})
}

func TestValidate(t *testing.T) {
	for want, f := range map[string]simserver.Faults{
		"": {Status: map[int]float64{500: 0.3, 429: 0.3}, Drop: 0.2, Cut: 0.2},
		"simserver: Faults.Status[99]: not a status code from 200 to 599": {Status: map[int]float64{99: 0.1}},
		"simserver: Faults.Status[500] is 2: not between 0 and 1":         {Status: map[int]float64{500: 2}},
		"simserver: Faults: rate of silence is 1.1: not between 0 and 1":  {Silence: 1.1},
		"simserver: Faults: the rates add up to 1.2, more than 1":         {Status: map[int]float64{500: 0.6}, Reset: 0.6},
		"simserver: Faults: a time is negative":                           {Latency: -1},
		"simserver: Faults.Limit is -3: negative":                         {Limit: -3},
	} {
		got := ""
		if err := f.Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%+v: %q, want %q", f, got, want)
		}
	}
}

// A handler that is no part of an http.Server cannot break a connection: it panics as
// net/http prescribes.
func TestBrokenConnectionWithoutAServer(t *testing.T) {
	for _, f := range []simserver.Faults{{Drop: 1}, {Reset: 1}, {Cut: 1}} {
		func() {
			defer func() {
				if got := recover(); got != http.ErrAbortHandler {
					t.Errorf("%+v: panic %v", f, got)
				}
			}()
			sim := simserver.New(simserver.WithFaults(f))
			sim.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/status", nil))
		}()
	}
}
