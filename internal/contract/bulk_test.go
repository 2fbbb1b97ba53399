package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/vtclient/vtclient"
)

// A bulkBackend is a backend inside the transport that answers for one job or
// for many, as HeyGen's does.
type bulkBackend struct {
	// state returns how far a job is: queued, processing, completed, failed or not_found; ""
	// leaves it out of the answer.
	state func(id string, at time.Duration) string
	// bulk and single, if not nil, answer the n-th request of their kind in the
	// place of the jobs' states; nil from them: the states do.
	bulk   func(n int, at time.Duration, ids []string) *bulkReply
	single func(n int, at time.Duration, id string) *bulkReply
	page   int // jobs on a page; 0: all

	mu       sync.Mutex
	start    time.Time
	requests []bulkRequest
	kind     [2]int
	reported map[string]bool // jobs that a shared answer called completed
	fetches  int             // single requests for them
}

type bulkReply struct {
	code       int // 0: 200
	body       string
	retryAfter string
	takes      time.Duration
	err        error
}

type bulkRequest struct {
	at    time.Duration
	ids   []string
	bulk  bool
	query string
}

func (b *bulkBackend) RoundTrip(r *http.Request) (*http.Response, error) {
	const path = "/v3/video-translations/"
	q := bulkRequest{query: r.URL.RawQuery}
	switch rest, ok := strings.CutPrefix(r.URL.EscapedPath(), path); {
	case !ok:
		return nil, fmt.Errorf("path %q", r.URL.Path)
	case rest == "statuses":
		q.bulk = true
		q.ids = strings.Split(r.URL.Query().Get("video_translation_ids"), ",")
	default:
		id, err := url.PathUnescape(rest)
		if err != nil {
			return nil, err
		}
		q.ids = []string{id}
	}
	b.mu.Lock()
	q.at = time.Since(b.start)
	b.requests = append(b.requests, q)
	k := 0
	if q.bulk {
		k = 1
	}
	b.kind[k]++
	n := b.kind[k]
	if !q.bulk && b.reported[q.ids[0]] {
		b.fetches++
	}
	b.mu.Unlock()
	var re *bulkReply
	if q.bulk && b.bulk != nil {
		re = b.bulk(n, q.at, q.ids)
	} else if !q.bulk && b.single != nil {
		re = b.single(n, q.at, q.ids[0])
	}
	if re == nil {
		re = &bulkReply{}
	}
	if re.takes > 0 {
		select {
		case <-time.After(re.takes):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if re.err != nil {
		return nil, re.err
	}
	body := re.body
	switch {
	case body != "":
	case q.bulk:
		body = b.answer(r, q)
	default:
		switch st := b.state(q.ids[0], q.at); st {
		case "not_found":
			re.code, body = 404, `{"error":{"message":"no such translation"}}`
		case "": // only the answer for many lacks it
			body = `{"data":{"status":"running"}}`
		case "completed":
			body = `{"data":{"status":"completed","video_url":"https://example.com/v.mp4"}}`
		default:
			body = fmt.Sprintf(`{"data":{"status":%q}}`, st)
		}
	}
	h := http.Header{}
	if re.retryAfter != "" {
		h.Set("Retry-After", re.retryAfter)
	}
	return &http.Response{
		StatusCode: max(200, re.code), Header: h, Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}, nil
}

func (b *bulkBackend) answer(r *http.Request, q bulkRequest) string {
	from, _ := strconv.Atoi(r.URL.Query().Get("token"))
	to := len(q.ids)
	if b.page > 0 {
		to = min(to, from+b.page)
	}
	items := []map[string]string{}
	for _, id := range q.ids[from:to] {
		switch st := b.state(id, q.at); st {
		case "":
		case "failed":
			items = append(items, map[string]string{"video_id": id, "status": st, "error": "no speech in " + id})
		default:
			b.mu.Lock()
			b.reported[id] = b.reported[id] || st == "completed"
			b.mu.Unlock()
			items = append(items, map[string]string{"video_id": id, "status": st})
		}
	}
	v := map[string]any{"data": items, "has_more": to < len(q.ids)}
	if to < len(q.ids) {
		v["next_token"] = fmt.Sprint(to)
	}
	body, _ := json.Marshal(v)
	return string(body)
}

// made returns the requests of a kind.
func (b *bulkBackend) made(bulk bool) (rs []bulkRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.requests {
		if r.bulk == bulk {
			rs = append(rs, r)
		}
	}
	return rs
}

// log returns the requests as "at:jobs", single ones as "at:id".
func (b *bulkBackend) log() (s []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.requests {
		if r.bulk {
			s = append(s, fmt.Sprintf("%v:%d", r.at, len(r.ids)))
		} else {
			s = append(s, fmt.Sprintf("%v:%s", r.at, r.ids[0]))
		}
	}
	return s
}

func (b *bulkBackend) wants(t *testing.T, want ...string) {
	t.Helper()
	if got := b.log(); !slices.Equal(got, want) {
		t.Errorf("requests %q, want %q", got, want)
	}
}

// bulkEndpoint is HeyGen's API, its bulk side included.
func bulkEndpoint() Endpoint {
	return Endpoint{
		Path: "/v3/video-translations/{id}",
		Bulk: HeyGenV3().Bulk,
		Decode: func(a Answer) (Status, error) {
			var v struct {
				Data struct{ Status string } `json:"data"`
			}
			if err := json.Unmarshal(a.Body, &v); err != nil {
				return Status{}, err
			}
			switch v.Data.Status {
			case "queued", "processing", "running":
				return Status{State: StatePending}, nil
			case "failed":
				return Status{State: StateFailed}, nil
			}
			return Status{State: State(v.Data.Status)}, nil
		},
	}
}

// startBulk is startFake for a bulkBackend.
func startBulk(t testing.TB, b *bulkBackend, opts ...Option) *Client {
	t.Helper()
	b.start, b.reported = time.Now(), map[string]bool{}
	if b.state == nil {
		b.state = func(string, time.Duration) string { return "processing" }
	}
	c, err := New("http://backend.invalid", append([]Option{
		WithHTTPClient(&http.Client{Transport: b}), WithEndpoint(bulkEndpoint()), WithCache(nil), WithBreaker(nil),
		WithPolling(Constant(10 * time.Second)), WithRetry(Constant(time.Second)),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bulkFigure waits for n jobs at once, with sharing or without, and returns the
// status requests, fetches of results apart, and the mean delay in seconds.
func bulkFigure(t *testing.T, seed uint64, n, rounds int, share bool, polling Backoff) (requests int, delay float64) {
	bubble(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 1))
		ends := map[string]time.Duration{}
		b := &bulkBackend{state: func(id string, at time.Duration) string {
			if at < ends[id] {
				return "processing"
			}
			return "completed"
		}}
		e := bulkEndpoint()
		if !share {
			e.Bulk = Bulk{}
		}
		c := startBulk(t, b, WithEndpoint(e), WithPolling(polling))
		var sum time.Duration
		for round := range rounds {
			var jobs []Job
			at := time.Since(b.start)
			for i := range n {
				id := fmt.Sprint("job-", round, "-", i)
				ends[id] = at + time.Duration(600e9*math.Exp(0.5*r.NormFloat64()))
				jobs = append(jobs, Job{ID: id})
			}
			for st, err := range c.WaitAll(t.Context(), slices.Values(jobs)) {
				if err != nil {
					t.Error(err)
				}
				sum += time.Since(b.start) - ends[st.JobID]
			}
		}
		requests = len(b.made(false)) + len(b.made(true)) - b.fetches
		delay = (sum / time.Duration(n*rounds)).Seconds()
	})
	return requests, delay
}

// deaf hides from a Backoff that requests are shared.
type deaf struct{ *Adaptive }

func (d deaf) Next(at Attempt) (time.Duration, bool) {
	at.Shared = 0
	return d.Adaptive.Next(at)
}

// The figure: at most 1/20 of the status requests of the same client without sharing, at no
// more mean delay. And it pays that the cadence gets Attempt.Shared. The long form is
//
//	VTCLIENT_FIGURES=1 go test -run BulkFigure -v ./internal/contract
func TestBulkFigure(t *testing.T) {
	noRace(t)
	type setting struct{ jobs, rounds, atMost int }
	settings := []setting{{1000, 1, 20}, {10, 20, 2}}
	seeds := 1
	if os.Getenv("VTCLIENT_FIGURES") != "" {
		settings, seeds = []setting{{1000, 1, 20}, {1000, 3, 20}, {100, 5, 8}, {10, 20, 2}, {3, 40, 1}, {1, 40, 1}}, 3
	}
	for _, x := range settings {
		for seed := range uint64(seeds) {
			n := float64(x.jobs * x.rounds)
			cost := func(how string, share bool, polling Backoff) (int, float64, float64) {
				begin := time.Now()
				r, d := bulkFigure(t, seed, x.jobs, x.rounds, share, polling)
				t.Logf("%4d jobs at once, %2d times, %-33s %6d status requests, %5.2f s mean delay, cost %5.2f s a job (%v)",
					x.jobs, x.rounds, how, r, d, float64(r)/n+d, time.Since(begin).Round(time.Millisecond))
				return r, d, float64(r)/n + d
			}
			r0, d0, _ := cost("one by one:", false, NewAdaptive(time.Second))
			_, _, deafCost := cost("shared, the cadence unaware:", true, deaf{NewAdaptive(time.Second)})
			r, d, c := cost("shared:", true, NewAdaptive(time.Second))
			if x.jobs == 1 {
				continue
			}
			if r*x.atMost > r0 || d > d0 {
				t.Errorf("%d jobs: %d requests are not 1/%d of %d, or %.2f s are more than %.2f s", x.jobs, r, x.atMost, r0, d, d0)
			}
			if x.jobs >= 10 && c > deafCost { // among three it makes little difference, and chance more
				t.Errorf("%d jobs: cost %.2f, and %.2f if the cadence does not get Attempt.Shared", x.jobs, c, deafCost)
			}
		}
	}
}

// Wait, Watch and WaitAll of one client share requests, and what begins together is gathered.
func TestBulkSharesAcrossCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{state: func(id string, at time.Duration) string {
			if at < 15*time.Second {
				return "processing"
			}
			return "completed"
		}}
		c := startBulk(t, b)
		var wg sync.WaitGroup
		for _, id := range []string{"a", "b", "a"} {
			wg.Go(func() {
				if st, err := c.Wait(t.Context(), id); err != nil || st.JobID != id || !strings.Contains(string(st.Body), "video_url") {
					t.Error(st, err)
				}
			})
		}
		wg.Go(func() {
			n := 0
			for st, err := range c.Watch(t.Context(), "c") {
				if n++; err != nil || st.JobID != "c" || st.CheckedAt.IsZero() {
					t.Error(st, err)
				}
			}
			if n != 3 {
				t.Errorf("Watch yielded %d", n)
			}
		})
		wg.Go(func() {
			n := 0
			for _, err := range c.WaitAll(t.Context(), Jobs("a", "d", "d", "e")) {
				if n++; err != nil {
					t.Error(err)
				}
			}
			if n != 4 {
				t.Errorf("WaitAll yielded %d", n)
			}
		})
		wg.Wait()
		made := b.made(true)
		if len(made) != 3 || len(b.made(false)) != 5 || b.fetches != 5 {
			t.Errorf("requests %q", b.log())
		}
		for i, at := range []time.Duration{10 * time.Millisecond, 10*time.Second + 10*time.Millisecond, 20*time.Second + 10*time.Millisecond} {
			if ids := slices.Sorted(slices.Values(made[i].ids)); made[i].at != at || !slices.Equal(ids, []string{"a", "b", "c", "d", "e"}) {
				t.Errorf("request %d at %v for %v", i, made[i].at, ids)
			}
		}
	})
}

// When one is due, others ride along and count as polled.
func TestBulkRidersCountAsPolled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{}
		var mu sync.Mutex
		var asked []Attempt
		c := startBulk(t, b, WithPolling(backoffFunc(func(a Attempt) (time.Duration, bool) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, a)
			return 10 * time.Second, true
		})))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		go func() { _, last = c.Wait(ctx, "a") }()
		time.Sleep(3 * time.Second)
		go c.Wait(ctx, "b")
		time.Sleep(21 * time.Second)
		b.wants(t, "10ms:a", "3.01s:2", "13.01s:2", "23.01s:2")
		cancel()
		synctest.Wait()
		var w *WaitError
		if !errors.As(last, &w) || w.Requests != 4 {
			t.Errorf("Wait = %v", last)
		}
		at := func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }
		want := []Attempt{{Number: 1, Elapsed: at(10), PendingAt: at(10)}, {Number: 2, Elapsed: at(3010), PendingAt: at(3010), Shared: 2}}
		if first := []Attempt{asked[0], asked[1]}; asked[1].Number == 2 && !slices.Equal(first, want) {
			t.Errorf("got %+v, want %+v", first, want)
		} else if asked[2].Number == 2 && asked[2] != want[1] {
			t.Errorf("got %+v, want %+v", asked, want)
		}
	})
}

func TestBulkLimitAndLength(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{}
		e := bulkEndpoint()
		e.Bulk.Limit = 3
		c := startBulk(t, b, WithEndpoint(e))
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		for range c.WaitAll(ctx, Jobs("a", "b", "c", "d", "e", "f", "g")) {
		}
		// Three requests a round. The third is for the job that is left over, and takes along
		// the jobs that are not in flight: none, or some that the first two have just answered.
		rounds, full := map[string]int{}, map[string]int{}
		for _, r := range b.log() {
			at, jobs, _ := strings.Cut(r, ":")
			rounds[at]++
			if n, err := strconv.Atoi(jobs); err == nil && n > 3 {
				t.Errorf("%d jobs in one request", n)
			}
			if jobs == "3" {
				full[at]++
			}
		}
		for _, at := range []string{"10ms", "10.01s"} {
			if rounds[at] != 3 || full[at] < 2 {
				t.Errorf("%s: %d requests, %d of them for 3 jobs; all: %q", at, rounds[at], full[at], b.log())
			}
		}
	})
	bubble(t, func(t *testing.T) { // ids whose query would become too long
		b := &bulkBackend{}
		c := startBulk(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var long []string
		for i := range 50 {
			long = append(long, fmt.Sprint(i)+strings.Repeat("é", 100)) // 600 bytes escaped
		}
		for range c.WaitAll(ctx, Jobs(long...)) {
		}
		var sizes []int
		for _, r := range b.made(true)[:5] {
			if sizes = append(sizes, len(r.ids)); len(r.query) > 7000 {
				t.Errorf("a query of %d bytes for %d jobs", len(r.query), len(r.ids))
			}
		}
		if slices.Sort(sizes); !slices.Equal(sizes, []int{6, 11, 11, 11, 11}) {
			t.Errorf("asked for %v", sizes)
		}
	})
}

// What the answer does not settle is asked for singly, at once and once.
func TestBulkUnsettledIsAskedSingly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{state: func(id string, at time.Duration) string {
			switch {
			case id == "lacked":
				return ""
			case id == "unknown":
				return "not_found"
			case id == "odd":
				return "hibernating"
			case id == "bad" && at > 5*time.Second:
				return "failed"
			case id == "good" && at > 5*time.Second:
				return "completed"
			}
			return "processing"
		}}
		c := startBulk(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 75*time.Second)
		defer cancel()
		results := map[string]error{}
		bodies := map[string]string{}
		for st, err := range c.WaitAll(ctx, Jobs("lacked", "unknown", "odd", "bad", "good", "slow")) {
			results[st.JobID] = err
			bodies[st.JobID] = string(st.Body)
		}
		var h *HTTPError
		if !errors.As(results["unknown"], &h) || h.StatusCode != 404 || h.JobID != "unknown" || h.Attempt != 2 || h.Jobs != 0 {
			t.Errorf("unknown: %v", results["unknown"])
		}
		var s *UnknownStateError
		if !errors.As(results["odd"], &s) || s.Word != "hibernating" || s.JobID != "odd" {
			t.Errorf("odd: %v", results["odd"])
		}
		var j *JobError
		if !errors.As(results["bad"], &j) || j.Status.Message != "no speech in bad" || !strings.Contains(bodies["bad"], `"video_id":"bad"`) {
			t.Errorf("bad: %v, body %s", results["bad"], bodies["bad"])
		}
		if results["good"] != nil || !strings.Contains(bodies["good"], "video_url") {
			t.Errorf("good: %v, body %s", results["good"], bodies["good"])
		}
		singles := map[string][]time.Duration{}
		for _, r := range b.made(false) {
			singles[r.ids[0]] = append(singles[r.ids[0]], r.at.Truncate(100*time.Millisecond))
		}
		for id, want := range map[string][]time.Duration{
			"unknown": seconds(0), "odd": seconds(0, 1, 2), "bad": nil, "good": seconds(10),
			"lacked": seconds(0, 10, 20, 30, 40), // singly for four answers; then it shares again, is lacked again, and asked for at once
		} {
			if got := singles[id]; !slices.Equal(got[:min(len(got), len(want))], want) || len(want) < 2 && len(got) != len(want) {
				t.Errorf("%s: single requests at %v, want %v", id, got, want)
			}
		}
	})
}

func TestBulkPages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{page: 2}
		c := startBulk(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		reported := map[string]int{}
		for _, err := range c.WaitAll(ctx, Jobs(ids(5)...), OnProgress(func(st Status) { reported[st.JobID]++ })) {
			var w *WaitError
			if !errors.As(err, &w) || w.Last.State != StatePending {
				t.Error(err)
			}
		}
		for i, r := range b.made(true)[:3] {
			if want := []string{"", "&token=2", "&token=4"}[i]; !strings.HasSuffix(r.query, want) || len(r.ids) != 5 {
				t.Errorf("page %d was asked for by %s", i, r.query)
			}
		}
		if len(reported) != 5 || reported["4"] < 1 || len(b.made(false)) != 0 {
			t.Errorf("reported %v, requests %q", reported, b.log())
		}
	})
	bubble(t, func(t *testing.T) { // a page that fails is a fault of those that are not on the pages before
		b := &bulkBackend{page: 2, bulk: func(n int, _ time.Duration, _ []string) *bulkReply {
			if n == 2 {
				return &bulkReply{code: 503}
			}
			return nil
		}}
		c := startBulk(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
		defer cancel()
		faults := map[string]bool{}
		for range c.WaitAll(ctx, Jobs(ids(5)...), OnError(func(err error) {
			var h *HTTPError
			if !errors.As(err, &h) || h.Attempt != 2 || h.Jobs != 5 {
				t.Error(err)
			}
			faults[h.JobID] = true
		})) {
		}
		if len(faults) != 3 {
			t.Errorf("faults of %v", faults)
		}
	})
	bubble(t, func(t *testing.T) { // pages that bring nothing new come to an end
		b := &bulkBackend{bulk: func(n int, _ time.Duration, ids []string) *bulkReply {
			return &bulkReply{body: fmt.Sprintf(`{"data":[{"video_id":%q,"status":"processing"}],"has_more":true,"next_token":"t"}`, ids[0])}
		}}
		c := startBulk(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range c.WaitAll(ctx, Jobs(ids(3)...)) {
		}
		if n := len(b.made(true)); n != 2 {
			t.Errorf("%d pages", n)
		}
	})
}

// No id can change the query, and none is split in two.
func TestBulkIDs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{}
		c := startBulk(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		given := []string{"a&token=9", "x,y", "é /?#%2C", "b=c", "plain", "plain", `"`, "x+y"}
		for range c.WaitAll(ctx, Jobs(given...)) {
		}
		shared := slices.Sorted(slices.Values(b.made(true)[0].ids))
		if want := []string{`"`, "a&token=9", "b=c", "plain", "x+y", "é /?#%2C"}; !slices.Equal(shared, want) {
			t.Errorf("asked for %q together, want %q", shared, want)
		}
		if one := b.made(false)[0].ids[0]; one != "x,y" {
			t.Errorf("asked for %q alone", one)
		}
	})
}

// A bulk path that is not there, or talks nonsense, costs a request now and then and nothing else.
func TestBulkFallsBack(t *testing.T) {
	for name, re := range map[string]bulkReply{
		"404":     {code: 404, body: "no such path"},
		"400":     {code: 400, body: "bad request"},
		"403":     {code: 403, body: "not for you"},
		"html":    {body: "<html>welcome</html>"},
		"no data": {body: `{"code":100}`},
		"none":    {body: `{"data":[]}`},
		"others":  {body: `{"data":[{"video_id":"z","status":"completed"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := &bulkBackend{state: func(_ string, at time.Duration) string {
					if at < time.Hour {
						return "processing"
					}
					return "completed"
				}, bulk: func(int, time.Duration, []string) *bulkReply { return &re }}
				c := startBulk(t, b, WithPolling(Constant(time.Minute)))
				var faults []error
				n := 0
				for st, err := range c.WaitAll(t.Context(), Jobs(ids(200)...), OnError(func(err error) { faults = append(faults, err) })) {
					if n++; err != nil || len(st.Body) == 0 {
						t.Error(err)
					}
				}
				if n != 200 {
					t.Errorf("%d ended", n)
				}
				var at []time.Duration
				for _, r := range b.made(true) {
					at = append(at, r.at)
				}
				// One or two at once, then after rests of 15 s, 30 s, … 10 min.
				if len(at) > 1 && at[1] != at[0] {
					at = slices.Insert(at, 0, at[0])
					faults = slices.Insert(faults, 0, faults[0])
				}
				if len(at) < 8 || len(at) > 14 || at[2] < 15*time.Second || at[3] < 45*time.Second || at[4] < 105*time.Second {
					t.Errorf("the bulk path was tried at %v", at)
				}
				if len(faults) != len(at) {
					t.Errorf("reported: %d faults in %d", len(faults), len(at))
				}
				if text := faults[0].Error(); !strings.Contains(text, "for 100 jobs at once") || !strings.Contains(text, "jobs are asked for one by one for 15s") {
					t.Error(text)
				}
				// One by one: 200 first requests in 2 ms each.
				early := 0
				for _, r := range b.made(false) {
					if r.at < 200*time.Millisecond {
						early++
					}
				}
				if early < 90 || early > 200 {
					t.Errorf("%d single requests in 190 ms", early)
				}
			})
		})
	}
}

// A shared answer that is too large makes the next request ask for half as many
// jobs, twice at most; the path stays in use where that helps.
func TestBulkTooLarge(t *testing.T) {
	for _, tt := range []struct {
		rule  string
		fits  int // jobs in an answer
		asked []int
		then  string
	}{
		{"half of it fits", 50, []int{100, 50}, "the next request asks for 50 jobs at most"},
		{"a quarter fits", 30, []int{100, 50, 25}, "the next request asks for 50 jobs at most"},
		{"nothing fits", 0, []int{100, 50, 25}, "the next request asks for 50 jobs at most"},
	} {
		bubble(t, func(t *testing.T) {
			b := &bulkBackend{state: func(_ string, at time.Duration) string {
				if at < time.Hour {
					return "processing"
				}
				return "completed"
			}, bulk: func(_ int, _ time.Duration, ids []string) *bulkReply {
				if len(ids) > tt.fits {
					return &bulkReply{body: strings.Repeat(" ", 2<<20)}
				}
				return nil
			}}
			c := startBulk(t, b, WithPolling(Constant(30*time.Second)), WithMaxInFlight(2))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			var faults []string
			for range c.WaitAll(ctx, Jobs(ids(200)...), OnError(func(err error) { faults = append(faults, err.Error()) })) {
			}
			var asked []int
			for _, r := range b.made(true) {
				if r.at < 5*time.Second {
					asked = append(asked, len(r.ids))
				}
			}
			slices.SortFunc(asked, func(a, b int) int { return b - a }) // two are under way at once
			if sizes := slices.Compact(slices.Clone(asked)); !slices.Equal(sizes, tt.asked) || len(asked) > 12 {
				t.Errorf("%s: asked for %v jobs, want %v", tt.rule, asked, tt.asked)
			}
			if len(faults) == 0 || !strings.Contains(faults[0], tt.then) {
				t.Errorf("%s: faults %q", tt.rule, faults)
			}
			if single := len(b.made(false)); single > 0 != (tt.fits == 0) {
				t.Errorf("%s: %d single requests", tt.rule, single)
			}
		})
	}
}

// A bulk path that comes back is used again, and the rests begin anew.
func TestBulkPathComesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{bulk: func(n int, at time.Duration, _ []string) *bulkReply {
			if at < time.Minute || n == 20 {
				return &bulkReply{code: 404}
			}
			return nil
		}}
		c := startBulk(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		for range c.WaitAll(ctx, Jobs(ids(5)...)) {
		}
		made := b.made(true)
		if gap := made[20].at - made[19].at; gap < 15*time.Second || gap > 30*time.Second || len(made) < 40 {
			t.Errorf("%d requests; rest of %v", len(made), gap)
		}
	})
}

// A wrong key ends all waits, as in single mode, once a single request has got the same answer.
func TestBulkUnauthorized(t *testing.T) {
	bubble(t, func(t *testing.T) {
		denied := &bulkReply{code: 401, body: "who are you?"}
		b := &bulkBackend{bulk: func(int, time.Duration, []string) *bulkReply { return denied },
			single: func(int, time.Duration, string) *bulkReply { return denied }}
		c := startBulk(t, b)
		n := 0
		for st, err := range c.WaitAll(t.Context(), Jobs(ids(50)...)) {
			var h *HTTPError
			if n++; !errors.As(err, &h) || h.StatusCode != 401 || h.JobID != st.JobID {
				t.Error(err)
			}
		}
		if n != 50 || len(b.made(true)) != 1 || len(b.made(false)) != 1 {
			t.Errorf("%d ended, requests %q", n, b.log())
		}
	})
	bubble(t, func(t *testing.T) { // of the bulk path only
		b := &bulkBackend{bulk: func(int, time.Duration, []string) *bulkReply { return &bulkReply{code: 401} }}
		c := startBulk(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		for _, err := range c.WaitAll(ctx, Jobs(ids(50)...)) {
			var w *WaitError
			if !errors.As(err, &w) || w.Last.State != StatePending {
				t.Error(err)
			}
		}
		if len(b.made(true)) != 1 {
			t.Errorf("requests %q", b.log())
		}
	})
}

// A 5xx, a 429, a timeout never multiplies the load: over an outage of minutes
// the requests are those of one job, times the number of requests that all jobs
// need together, and a single one each 30 s at most.
func TestBulkOutageDoesNotMultiplyTheLoad(t *testing.T) {
	const jobs, outage = 300, 4 * time.Minute
	for name, re := range map[string]bulkReply{
		"500":            {code: 500},
		"503 with pause": {code: 503, retryAfter: "7"},
		"429":            {code: 429},
		"429 with pause": {code: 429, retryAfter: "7"},
		"silence":        {takes: time.Hour},
		"reset":          {err: errors.New("connection reset by peer")},
	} {
		t.Run(name, func(t *testing.T) {
			run := func(n int) (during int, last time.Duration) {
				bubble(t, func(t *testing.T) {
					down := func(at time.Duration) *bulkReply {
						if at > 30*time.Second && at < 30*time.Second+outage {
							return &re
						}
						return nil
					}
					b := &bulkBackend{
						state: func(_ string, at time.Duration) string {
							if at < 30*time.Second+outage {
								return "processing"
							}
							return "completed"
						},
						bulk:   func(_ int, at time.Duration, _ []string) *bulkReply { return down(at) },
						single: func(_ int, at time.Duration, _ string) *bulkReply { return down(at) },
					}
					c := startBulk(t, b, WithRetry(Exponential{Base: 500 * time.Millisecond, Max: 30 * time.Second, Jitter: 0.5}))
					reported := map[string]int{}
					for _, err := range c.WaitAll(t.Context(), Jobs(ids(n)...), OnError(func(err error) {
						if d := new(HTTPError); errors.As(err, &d) {
							reported[d.JobID]++
						}
					})) {
						if err != nil {
							t.Error(err)
						}
					}
					if re.code != 0 && re.retryAfter == "" && len(reported) != n {
						t.Errorf("reported: faults of %d jobs", len(reported))
					}
					last = time.Since(b.start) - 30*time.Second - outage
					for _, r := range slices.Concat(b.made(true), b.made(false)) {
						if r.at > 30*time.Second && r.at < 30*time.Second+outage {
							during++
						}
					}
				})
				return during, last
			}
			one, _ := run(1)
			many, last := run(jobs)
			t.Logf("%d requests for one job, %d for %d; over %v after the outage", one, many, jobs, last)
			// Jitter makes one differ from one.
			if most := (one + 3) * 3 * 3 / 2; many > most+int(outage/(30*time.Second)) {
				t.Errorf("%d requests for %d jobs, %d for one", many, jobs, one)
			}
			if last > time.Minute {
				t.Errorf("over %v after the outage", last)
			}
		})
	}
}

// Where it is the sharing that fails, single requests find out, and no wait ends for it.
func TestBulkThatAloneFails(t *testing.T) {
	for name, broken := range map[string]func(ids []string) bool{
		"always":   func([]string) bool { return true },
		"with one": func(ids []string) bool { return slices.Contains(ids, "7") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := &bulkBackend{
					state: func(_ string, at time.Duration) string {
						if at < 20*time.Minute {
							return "processing"
						}
						return "completed"
					},
					bulk: func(_ int, _ time.Duration, ids []string) *bulkReply {
						if broken(ids) {
							return &bulkReply{code: 500}
						}
						return nil
					},
				}
				c := startBulk(t, b, WithRetry(Exponential{Base: 500 * time.Millisecond, Max: 30 * time.Second, Jitter: 0.5}))
				for st, err := range c.WaitAll(t.Context(), Jobs(ids(50)...)) {
					if err != nil {
						t.Error(st.JobID, err)
					}
				}
				t.Logf("%d shared requests, %d single ones", len(b.made(true)), len(b.made(false)))
				if d := time.Since(b.start); d > 22*time.Minute {
					t.Errorf("took %v", d)
				}
			})
		})
	}
}

func TestBulkBehindABreaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		down := func(at time.Duration) *bulkReply {
			if at < 6*time.Second {
				return &bulkReply{code: 500}
			}
			return nil
		}
		b := &bulkBackend{
			bulk:   func(_ int, at time.Duration, _ []string) *bulkReply { return down(at) },
			single: func(_ int, at time.Duration, _ string) *bulkReply { return down(at) },
		}
		var mu sync.Mutex
		refused := 0
		c := startBulk(t, b, WithBreaker(NewCircuitBreaker(BreakerConfig{})), WithTrace(Trace{
			Refused: func(_ context.Context, i TraceInfo) {
				mu.Lock()
				defer mu.Unlock()
				if i.Jobs > 1 { // the others are trials by a single request
					refused++
				}
			},
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, err := range c.WaitAll(ctx, Jobs(ids(100)...)) {
			var w *WaitError
			if !errors.As(err, &w) || w.Last.State != StatePending {
				t.Error(err)
			}
		}
		if n := len(b.made(true)); refused == 0 || n > 16 {
			t.Errorf("%d refusals, %d requests", refused, n)
		}
	})
}

// A caller that leaves during an exchange hurts no other; the last one to leave ends it.
func TestBulkLeavers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{bulk: func(int, time.Duration, []string) *bulkReply { return &bulkReply{takes: 5 * time.Second} }}
		var mu sync.Mutex
		var over []time.Duration
		c := startBulk(t, b, WithTrace(Trace{Answered: func(context.Context, TraceInfo) {
			mu.Lock()
			defer mu.Unlock()
			over = append(over, time.Since(b.start))
		}}))
		var cancels []context.CancelFunc
		ended := make([]time.Duration, 3)
		for i, id := range []string{"a", "b", "c"} {
			ctx, cancel := context.WithCancel(t.Context())
			cancels = append(cancels, cancel)
			go func() {
				if _, err := c.Wait(ctx, id); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				ended[i] = time.Since(b.start)
			}()
		}
		time.Sleep(time.Second)
		cancels[0]()
		time.Sleep(15*time.Second + 10*time.Millisecond) // the first is over, the second under way
		cancels[1]()
		time.Sleep(time.Second)
		cancels[2]()
		synctest.Wait()
		want := []time.Duration{time.Second, 16010 * time.Millisecond, 17010 * time.Millisecond}
		if !slices.Equal(ended, want) {
			t.Errorf("ended at %v, want %v", ended, want)
		}
		b.wants(t, "10ms:3", "15.01s:2")
		mu.Lock()
		defer mu.Unlock()
		if want := []time.Duration{5010 * time.Millisecond, 17010 * time.Millisecond}; !slices.Equal(over, want) {
			t.Errorf("over at %v, want %v", over, want)
		}
	})
}

// A hint makes its job due, and others ride along.
func TestBulkHint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{}
		c := startBulk(t, b)
		for range 2 {
			go c.Wait(t.Context(), "a")
			go c.Wait(t.Context(), "b")
		}
		time.Sleep(4 * time.Second)
		c.Hint("a")
		time.Sleep(500 * time.Millisecond)
		c.Hint("a")
		time.Sleep(11 * time.Second)
		b.wants(t, "10ms:2", "4s:2", "5s:2", "15s:2")
	})
}

// Deadlines hold for each job of a batch, and last polls are shared.
func TestBulkDeadlines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{bulk: func(int, time.Duration, []string) *bulkReply { return &bulkReply{takes: 100 * time.Millisecond} }}
		c := startBulk(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 27*time.Second)
		defer cancel()
		jobs := []Job{{ID: "a"}, {ID: "b"}, {ID: "c", Deadline: time.Now().Add(10150 * time.Millisecond)}}
		for st, err := range c.WaitAll(ctx, slices.Values(jobs)) {
			var w *WaitError
			want := 27 * time.Second
			if st.JobID == "c" {
				want = 10150 * time.Millisecond
			}
			if d := time.Since(b.start); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &w) || w.Last.State != StatePending || d != want {
				t.Errorf("%v after %v", err, d)
			}
		}
		got := b.made(true)
		if len(got) < 4 || len(got) > 5 || len(b.made(false)) != 0 {
			t.Errorf("requests %q", b.log())
		}
		if last := got[len(got)-1].at; last < 26*time.Second || last > 27*time.Second-100*time.Millisecond {
			t.Errorf("the last poll was at %v", last)
		}
	})
}

// First checks share requests, and their pace counts requests.
func TestBulkFirstChecks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{}
		c := startBulk(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(i%10) * time.Millisecond)
				c.Wait(ctx, fmt.Sprint(i))
			})
		}
		time.Sleep(time.Second)
		b.wants(t, "10ms:100")
		wg.Wait()
	})
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{}
		e := bulkEndpoint()
		e.Bulk.Limit = 10
		c := startBulk(t, b, WithEndpoint(e), WithMaxInFlight(8), WithPolling(Constant(time.Hour)))
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for range c.WaitAll(ctx, Jobs(ids(1000)...)) {
			}
		}()
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if n := len(b.made(true)); n < 8 || n > 9 {
			t.Errorf("%d requests at once", n)
		}
		time.Sleep(time.Second)
		if n := len(b.log()); n != 100 {
			t.Errorf("%d requests for 1000 jobs, 10 in each", n)
		}
		last := b.requests[99].at
		if last < 150*time.Millisecond || last > 220*time.Millisecond {
			t.Errorf("the last first check was at %v", last)
		}
		cancel()
		synctest.Wait()
	})
}

// A job that the backend asked to pause shares no request, nor does one for whose answer there is no room.
func TestBulkJobsThatDoNotShare(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{bulk: func(_ int, at time.Duration, _ []string) *bulkReply {
			if at < time.Second {
				return &bulkReply{retryAfter: "60"}
			}
			return nil
		}}
		c := startBulk(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 65*time.Second)
		defer cancel()
		go c.Wait(ctx, "a")
		go c.Wait(ctx, "b")
		time.Sleep(5 * time.Second)
		go c.Wait(ctx, "c")
		time.Sleep(30 * time.Second)
		for _, r := range b.log()[1:] {
			if !strings.HasSuffix(r, ":c") {
				t.Errorf("request %s", r)
			}
		}
		<-ctx.Done()
		synctest.Wait()
	})
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{}
		c := startBulk(t, b)
		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Second)
		defer cancel()
		go c.Wait(ctx, "a", OnProgress(func(Status) { time.Sleep(25 * time.Second) }))
		go c.Wait(ctx, "b")
		time.Sleep(24 * time.Second)
		// The answer of the second request waits in the inbox of a; more than that is not asked for.
		if got := b.log(); !slices.Equal(got, []string{"10ms:2", "10.01s:b", "20.01s:b"}) {
			t.Errorf("requests %q", got)
		}
		<-ctx.Done()
		time.Sleep(time.Minute)
	})
}

// Whatever a plugged-in part does in a shared exchange, each of its waits learns of it.
func TestBulkPanics(t *testing.T) {
	for name, opt := range map[string]func(*Endpoint) Option{
		"Decode": func(e *Endpoint) Option {
			e.Bulk.Decode = func(Answer) ([]Status, string, error) { panic("oops") }
			return WithCache(nil)
		},
		"Polling": func(*Endpoint) Option {
			return WithPolling(backoffFunc(func(Attempt) (time.Duration, bool) { panic("oops") }))
		},
		"Scheduled": func(*Endpoint) Option {
			return WithTrace(Trace{Scheduled: func(context.Context, TraceInfo) { panic("oops") }})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				e := bulkEndpoint()
				o := opt(&e)
				c := startBulk(t, &bulkBackend{}, WithEndpoint(e), o)
				var wg sync.WaitGroup
				for _, id := range ids(5) {
					wg.Go(func() {
						defer func() {
							if r := recover(); !strings.Contains(fmt.Sprint(r), "oops") {
								t.Errorf("recovered %v", r)
							}
						}()
						c.Wait(t.Context(), id)
					})
				}
				wg.Wait()
			})
		})
	}
}

// One request on the wire is traced once, with the number of its jobs, and its error has that number.
func TestBulkTraceAndErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{bulk: func(n int, _ time.Duration, _ []string) *bulkReply {
			if n == 1 {
				return &bulkReply{code: 503, body: "upstream is down"}
			}
			return nil
		}}
		var mu sync.Mutex
		var reported []string
		note := func(what string) func(context.Context, TraceInfo) {
			return func(_ context.Context, i TraceInfo) {
				mu.Lock()
				defer mu.Unlock()
				reported = append(reported, fmt.Sprintf("%s %d %d", what, i.Jobs, i.Attempt))
			}
		}
		c := startBulk(t, b, WithTrace(Trace{Sent: note("sent"), Answered: note("answered")}))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		texts := map[string]string{}
		var mine []error
		for st, err := range c.WaitAll(ctx, Jobs("a", "b", "c"), OnError(func(err error) { mine = append(mine, err) })) {
			texts[st.JobID] = err.Error()
		}
		if want := []string{"sent 3 1", "answered 3 1", "sent 3 2", "answered 3 2"}; !slices.Equal(reported[:4], want) {
			t.Errorf("got %q, want %q", reported, want)
		}
		if len(mine) != 3 {
			t.Errorf("reported: %v", mine)
		}
		for i, err := range mine {
			var h *HTTPError
			if !errors.As(err, &h) || h.Jobs != 3 || h.Next != time.Second {
				t.Errorf("%v", err)
			}
			if want := fmt.Sprintf(`vtclient: job %q: request 1, for 3 jobs at once: GET backend.invalid/v3/video-translations/statuses: 503 Service Unavailable: "upstream is down"; next request in 1s; no readable answer has come so far, giving up in 30s`, h.JobID); err.Error() != want {
				t.Errorf("fault %d is\n%v, want\n%v", i, err, want)
			}
		}
	})
}

// Requests that fail do so with one delay for all, so that they are shared again.
func TestBulkRetriesTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{bulk: func(_ int, at time.Duration, _ []string) *bulkReply {
			if at < 20*time.Second {
				return &bulkReply{code: 500}
			}
			return nil
		}}
		b.single = func(_ int, at time.Duration, id string) *bulkReply { return b.bulk(0, at, nil) }
		c := startBulk(t, b, WithRetry(Exponential{Jitter: 1, Max: 4 * time.Second}))
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		for range c.WaitAll(ctx, Jobs(ids(20)...)) {
		}
		for _, r := range b.made(true) {
			if len(r.ids) < 19 {
				t.Errorf("requests %q", b.log())
				break
			}
		}
	})
}

func TestBulkArguments(t *testing.T) {
	ok := Bulk{Path: "/jobs?ids={ids}", Decode: func(Answer) ([]Status, string, error) { return nil, "", nil }}
	for field, spoil := range map[string]func(*Bulk){
		"":               func(b *Bulk) { b.Separator, b.Page, b.Limit = "&ids=", "page", 7 },
		"Path":           func(b *Bulk) { b.Path = "/jobs/{ids}" },
		"Path ":          func(b *Bulk) { b.Path = "/jobs?ids={ids}&ids={ids}" },
		"Path  ":         func(b *Bulk) { b.Path = "" },
		"Path    ":       func(b *Bulk) { b.Path = "/jobs/{id}?ids={ids}" },
		"Path (no slash": func(b *Bulk) { b.Path = "jobs?ids={ids}" },
		"Separator":      func(b *Bulk) { b.Separator = "#" },
		"Separator ":     func(b *Bulk) { b.Separator = ", " },
		"Limit":          func(b *Bulk) { b.Limit = -1 },
		"Page":           func(b *Bulk) { b.Page = "a=b" },
		"Decode":         func(b *Bulk) { b.Decode = nil },
	} {
		b := ok
		spoil(&b)
		_, err := New("http://backend.invalid", WithEndpoint(Endpoint{Bulk: b}))
		var a *ArgumentError
		if word, _, _ := strings.Cut(field, " "); field == "" && err != nil || field != "" && (!errors.As(err, &a) || a.Where != "Endpoint.Bulk."+word) {
			t.Errorf("%q: %v", field, err)
		}
	}
}

// The separator stands as it is, so that a parameter can be repeated.
func TestBulkRepeatedParameter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := &bulkBackend{}
		e := bulkEndpoint()
		e.Bulk.Path, e.Bulk.Separator = "/v3/video-translations/statuses?k=v&id={ids}&z", "&id="
		c := startBulk(t, b, WithEndpoint(e))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range c.WaitAll(ctx, Jobs("a&id=b", "c d", "e,f")) {
		}
		if q := b.made(true)[0].query; q != "k=v&id=c+d&id=e%2Cf&z" && q != "k=v&id=e%2Cf&id=c+d&z" {
			t.Errorf("query %s", q)
		}
	})
}

func TestHeygenBulkDecode(t *testing.T) {
	read := HeyGenV3().Bulk.Decode
	got, next, err := read(Answer{Body: []byte(`{"data":[
		{"video_id":"a","status":"queued"},{"video_id":"b","status":"processing","error":null},
		{"video_id":"c","status":"completed"},{"video_id":"d","status":"failed","error":"no speech"},
		{"video_id":"e","status":"failed","error":{"code":7,"message":"too loud"}},{"video_id":"f","status":"failed","error":{"detail":"x"}},
		{"video_id":"g","status":"failed","error":[1]},{"video_id":"h","status":"not_found"},{"video_id":7},"?"],
		"has_more":true,"next_token":"t"}`)})
	if err != nil || next != "t" {
		t.Fatal(next, err)
	}
	var lines []string
	for _, st := range got {
		lines = append(lines, fmt.Sprintf("%s %s %s %t", st.JobID, st.State, st.Message, len(st.Body) > 0))
	}
	if want := []string{"a pending  false", "b pending  false", "c completed  false", "d error no speech true", "e error too loud true",
		"f error x true", "g error  true", "h not_found  false"}; !slices.Equal(lines, want) {
		t.Errorf("read %q, want %q", lines, want)
	}
	if _, next, err := read(Answer{Body: []byte(`{"data":[],"has_more":false,"next_token":"t"}`)}); next != "" || err != nil {
		t.Errorf("read %q, %v", next, err)
	}
	for _, body := range []string{"", "[]", "{}", `{"data":7}`, "<html>"} {
		if _, _, err := read(Answer{Body: []byte(body)}); err == nil {
			t.Errorf("%q was read", body)
		}
	}
}

// A shared request is cheaper: Next polls more often, and without allocation.
func TestAdaptiveSharedRequests(t *testing.T) {
	a := NewAdaptive(time.Second)
	r := rand.New(rand.NewPCG(3, 3))
	mean := func(at Attempt) (sum float64) {
		for range 100 {
			d, _ := a.Next(at)
			sum += d.Seconds() / 100
		}
		return sum
	}
	for _, expected := range []time.Duration{0, 10 * time.Minute} {
		for learnt := range 2 {
			at := Attempt{Number: 3, Elapsed: 10 * time.Minute, PendingAt: 10 * time.Minute, Expected: expected}
			before := mean(at)
			alone := before
			for _, n := range []int{16, 256} { // a fourth of the price is half the gap
				at.Shared = n
				gap := mean(at)
				if gap > before*0.65 || gap < before*0.35 {
					t.Errorf("estimate %v, learnt %d: %v s between polls that %d share, %v s for a 16th of that", expected, learnt, gap, n, before)
				}
				before = gap
			}
			at.Shared = math.MaxInt
			if gap := mean(at); gap < before*0.8 {
				t.Errorf("%v s for more than any, %v s for 256", gap, before)
			}
			for _, n := range []int{-7, 0, 1} {
				if at.Shared = n; math.Abs(mean(at)-alone) > 0.2*alone {
					t.Errorf("%v s for Shared %d, %v s alone", mean(at), n, alone)
				}
			}
			if at.Shared = 100; testing.AllocsPerRun(100, func() { a.Next(at) }) != 0 {
				t.Error("Next allocates")
			}
			for range 200 {
				x := time.Duration(600e9 * math.Exp(0.5*r.NormFloat64()))
				a.Learn(Completion{PendingAt: x - 5*time.Second, DoneBy: x + 5*time.Second, Expected: expected})
			}
		}
	}
}

// A job that a shared answer calls completed, and a single one too but without its
// result, is looked at by itself until the result is there, or for 30 s. It ended
// when it was first said to have.
func TestBulkLateResult(t *testing.T) {
	for _, tt := range []struct {
		name    string
		there   time.Duration
		missing bool
		want    []string
	}{
		{"late", 16 * time.Second, false, []string{
			"10ms:3", "10.01s:3", "10.02s:a", "11.02s:a", "13.02s:a", "17.02s:a", "20.01s:2", "30.01s:2", "40.01s:2", "50.01s:2"}},
		{"never", time.Hour, true, []string{
			"10ms:3", "10.01s:3", "10.02s:a", "11.02s:a", "13.02s:a", "17.02s:a", "20.01s:2", "25.02s:a", "30.01s:2", "40.01s:2", "40.02s:a", "50.01s:2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := &bulkBackend{
					state: func(id string, at time.Duration) string {
						if id == "a" && at > 5*time.Second {
							return "completed"
						}
						return "processing"
					},
					single: func(_ int, at time.Duration, _ string) *bulkReply {
						if at < tt.there {
							return &bulkReply{body: `{"data":{"status":"completed","video_url":null}}`}
						}
						return nil
					},
				}
				l := &lessonNotes{Constant: Constant(10 * time.Second)}
				c := startBulk(t, b, WithEndpoint(HeyGenV3()), WithPolling(l))
				ctx, cancel := context.WithTimeout(t.Context(), 55*time.Second)
				defer cancel()
				shown := 0
				for st, err := range c.WaitAll(ctx, Jobs("a", "b", "c"), OnProgress(func(st Status) {
					if st.ResultMissing && st.State == StatePending {
						shown++
					}
				})) {
					if st.JobID == "a" && (err != nil || st.State != StateCompleted || st.ResultMissing != tt.missing || len(st.Body) == 0) {
						t.Errorf("%+v, %v", st, err)
					}
				}
				got := b.log() // the last polls before the deadline follow
				if !slices.Equal(got[:min(len(tt.want), len(got))], tt.want) || shown < 3 {
					t.Errorf("requests %q, want %q; shown as without its result %d times", got, tt.want, shown)
				}
				if want := (Completion{PendingAt: 10 * time.Millisecond, DoneBy: 10010 * time.Millisecond}); len(l.lessons) == 0 || l.lessons[0] != want {
					t.Errorf("taught %+v, want %+v first", l.lessons, want)
				}
			})
		})
	}
}

// A request that stands in a queue is not sent once all waits for its jobs have left, and is
// sent while one remains.
func TestBulkRequestIsNotSentWithoutAWait(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		t.Run(fmt.Sprint(wanted), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := &bulkBackend{state: func(string, time.Duration) string { return "completed" }}
				var calls atomic.Int32
				c := startBulk(t, b, WithLimiter(limiterFunc(func(context.Context) error {
					if calls.Add(1) == 2 {
						time.Sleep(5 * time.Second)
					}
					return nil
				})))
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(3*time.Second, cancel)
				if wanted {
					time.AfterFunc(2*time.Second, func() { c.Wait(t.Context(), "c") })
				}
				for range c.WaitAll(ctx, func(yield func(Job) bool) {
					yield(Job{ID: "a"})
					time.Sleep(time.Second)
					yield(Job{ID: "b"})
					yield(Job{ID: "c"})
				}) {
					time.Sleep(10 * time.Second)
				}
				got, want := b.log(), []string{"10ms:a"}
				if wanted { // and what brings the result of c
					want = append(want, "6.01s:2", "c")
					got[len(got)-1] = got[len(got)-1][strings.LastIndexByte(got[len(got)-1], ':')+1:]
				}
				if !slices.Equal(got, want) {
					t.Errorf("requests %q, want %q", got, want)
				}
			})
		})
	}
}

// A job in a shared answer is treated like one in a single answer.
func TestBulkAnswersAreCompleted(t *testing.T) {
	const key = "k-123456"
	read := func(a Answer) (all []Status, _ string, _ error) {
		var items []json.RawMessage
		if err := json.Unmarshal(a.Body, &items); err != nil {
			return nil, "", err
		}
		at := 0
		for _, raw := range items {
			var st Status
			if err := json.Unmarshal(raw, &st); err != nil {
				return nil, "", err
			}
			at += strings.Index(string(a.Body[at:]), string(raw))
			st.Body = a.Body[at : at+len(raw)] // what is reused afterwards
			all = append(all, st)
		}
		return all, "", nil
	}
	bubble(t, func(t *testing.T) {
		long := strings.Repeat("é", 1000)
		b := &bulkBackend{
			bulk: func(n int, _ time.Duration, ids []string) *bulkReply {
				if n == 1 {
					return &bulkReply{body: `[
						{"JobID":"job-1","State":"pending","Message":"` + long + `","Progress":7,"ResultMissing":true,"Cached":true},
						{"JobID":"job-2","State":"pending","Message":"with ` + key + `","Progress":-1},
						{"JobID":"job-3","State":"pending"}]`}
				}
				return &bulkReply{body: `[
					{"JobID":"job-1","State":"completed","Message":"` + long + `"},
					{"JobID":"job-2","State":"error","Message":"job-2 has ` + key + `","ResultMissing":true},
					{"JobID":"job-3","State":"completed","ResultMissing":true}]`}
			},
			single: func(int, time.Duration, string) *bulkReply {
				return &bulkReply{body: `{"data":{"status":"completed","video_url":"https://example.com/v.mp4"}}` + strings.Repeat(" ", 2000)}
			},
		}
		e := bulkEndpoint()
		e.Bulk.Path, e.Bulk.Separator, e.Bulk.Decode = "/v3/video-translations/statuses?v=1&id={ids}", "&job=", read
		c := startBulk(t, b, WithEndpoint(e), WithHeader("X-Api-Key", key))
		pending, ended := map[string]Status{}, map[string]Status{}
		for st := range c.WaitAll(t.Context(), Jobs("job-1", "job-2", "job-3"), OnProgress(func(st Status) {
			if st.State == StatePending {
				pending[st.JobID] = st
			}
		})) {
			ended[st.JobID] = st
		}
		if st := pending["job-1"]; len(st.Message) > 1024 || !strings.HasSuffix(st.Message, "é…") || st.Progress != 1 || st.ResultMissing || st.Cached || st.Body != nil || st.CheckedAt.IsZero() {
			t.Errorf("job-1 pending: %+v", st)
		}
		if st := pending["job-2"]; st.Message != "with [redacted]" || st.Progress != 0 {
			t.Errorf("job-2 pending: %+v", st)
		}
		if st := ended["job-1"]; st.Message != long || !json.Valid(st.Body) || !strings.Contains(string(st.Body), `"job-1"`) || cap(st.Body) != len(st.Body) {
			t.Errorf("job-1: %+v, room for %d", st, cap(st.Body)-len(st.Body))
		}
		if st := ended["job-2"]; st.Message != "job-2 has [redacted]" || st.ResultMissing || !json.Valid(st.Body) {
			t.Errorf("job-2: %+v", st)
		}
		if st := ended["job-3"]; st.State != StateCompleted || st.ResultMissing || !strings.Contains(string(st.Body), "video_url") {
			t.Errorf("job-3: %+v", st)
		}
		if got := b.made(false); len(got) != 1 || got[0].ids[0] != "job-3" || got[0].at-b.made(true)[1].at > 100*time.Millisecond {
			t.Errorf("requests %q", b.log())
		}
	})
}

// The ids in the query are no secrets: an error page may name them.
func TestBulkErrorsNameTheIDs(t *testing.T) {
	for _, separator := range []string{"", "&job="} {
		bubble(t, func(t *testing.T) {
			b := &bulkBackend{bulk: func(int, time.Duration, []string) *bulkReply {
				return &bulkReply{code: 400, body: "neither first-job nor second-job, said secret-1"}
			}}
			e := bulkEndpoint()
			e.Bulk.Path, e.Bulk.Separator = "/v3/video-translations/statuses?k=secret-1&id={ids}", separator
			c := startBulk(t, b, WithEndpoint(e))
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			var reported []error
			for range c.WaitAll(ctx, Jobs("first-job", "second-job"), OnError(func(err error) { reported = append(reported, err) })) {
			}
			if len(reported) != 1 || !strings.Contains(reported[0].Error(), `"neither first-job nor second-job, said [redacted]"`) {
				t.Errorf("reported: %v", reported)
			}
		})
	}
}

// A wait that is refused for want of credentials has that in its error, whichever request it was.
func TestBulkWithoutCredentials(t *testing.T) {
	bubble(t, func(t *testing.T) {
		denied := &bulkReply{code: 401}
		b := &bulkBackend{bulk: func(int, time.Duration, []string) *bulkReply { return denied },
			single: func(int, time.Duration, string) *bulkReply { return denied }}
		for st, err := range startBulk(t, b).WaitAll(t.Context(), Jobs("a", "b", "c")) {
			if err == nil || !strings.Contains(err.Error(), "bring no credentials") {
				t.Errorf("%s: %v", st.JobID, err)
			}
		}
	})
}

// The wait that gets the fault of a bulk path, and the job that is asked for to see whether a
// key is wrong, are among those that have not left.
func TestBulkFallsBackForTheJobsThatAreLeft(t *testing.T) {
	for code, want := range map[int]int{404: 2, 401: 1} {
		bubble(t, func(t *testing.T) {
			b := &bulkBackend{
				state: func(string, time.Duration) string { return "completed" },
				bulk: func(int, time.Duration, []string) *bulkReply {
					return &bulkReply{code: code, takes: time.Second}
				},
			}
			if code == 401 {
				b.single = func(int, time.Duration, string) *bulkReply { return &bulkReply{code: code} }
			}
			c := startBulk(t, b)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(500*time.Millisecond, cancel)
			go c.Wait(ctx, "a")
			synctest.Wait()
			reported := 0
			for st, err := range c.WaitAll(t.Context(), Jobs("b", "c"), OnError(func(error) { reported++ })) {
				if (err == nil) != (code == 404) {
					t.Errorf("%d: %s: %v", code, st.JobID, err)
				}
			}
			if code == 404 && reported != 1 {
				t.Errorf("reported: %d faults", reported)
			}
			for _, r := range b.made(false) {
				if r.ids[0] == "a" {
					t.Errorf("%d: a was asked for", code)
				}
			}
			if n := len(b.made(false)); n != want || len(b.made(true)) != 1 {
				t.Errorf("%d: requests %q, want %d single ones", code, b.log(), want)
			}
		})
	}
}

// A wait that ends while the breaker refuses shared requests has the breaker's refusal in its error.
func TestBulkRefusalIsReported(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shut := errors.New("shut for repairs")
		b := &bulkBackend{}
		var calls atomic.Int32
		c := startBulk(t, b, WithBreaker(allowFunc(func() (func(error), error) {
			if calls.Add(1) > 1 {
				return nil, shut
			}
			return func(error) {}, nil
		})))
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		n := 0
		for st, err := range c.WaitAll(ctx, Jobs("a", "b")) {
			var w *WaitError
			if n++; !errors.Is(err, shut) || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &w) || w.JobID != st.JobID || w.Last.State != StatePending {
				t.Errorf("%s: %v", st.JobID, err)
			}
		}
		if n != 2 || len(b.log()) != 1 {
			t.Errorf("%d ended, requests %q", n, b.log())
		}
	})
}

type allowFunc func() (func(error), error)

func (f allowFunc) Allow() (func(error), error) { return f() }

// Property 70: a page of a shared answer that settles nothing new ends the request.
func TestPagesThatSettleNothingEndTheRequest(t *testing.T) {
	for _, tt := range []struct {
		rule string
		item string // of the endless pages
	}{
		{"the token is ignored", `{"video_id":"0","status":"processing"}`},
		{"a state that is not known", `{"video_id":"0","status":"dreaming"}`},
		{"another job each time", `{"video_id":"other","status":"processing"}`},
	} {
		bubble(t, func(t *testing.T) {
			b := &bulkBackend{state: func(string, time.Duration) string { return "processing" }}
			b.bulk = func(n int, _ time.Duration, _ []string) *bulkReply {
				return &bulkReply{body: fmt.Sprintf(`{"data":[%s],"has_more":true,"next_token":"%d"}`, tt.item, n)}
			}
			c := startBulk(t, b, WithPolling(Constant(10*time.Second)))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			for range c.WaitAll(ctx, Jobs("0", "1", "2")) {
			}
			if n := len(b.made(true)) + len(b.made(false)); n > 300 {
				t.Errorf("%s: %d requests in 10 min for 3 jobs that are polled 60 times each", tt.rule, n)
			}
			for _, id := range []string{"1", "2"} {
				if n := len(b.made(false)); n == 0 {
					t.Errorf("%s: job %s was not asked about alone", tt.rule, id)
				}
			}
		})
	}
}
