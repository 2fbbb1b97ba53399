package contract_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// dated is an API that gives the times of a job, as seconds since the test's start by a
// clock of its own.
type dated struct {
	t0, clock          time.Time // by the client's clock; clock: what the backend's shows at t0
	start, end         float64   // zero: not given
	completed, missing time.Duration
	date               bool
	after              time.Duration
	requests           []time.Duration
}

func (d *dated) RoundTrip(r *http.Request) (*http.Response, error) {
	at := time.Since(d.t0)
	d.requests = append(d.requests, at)
	v := map[string]any{"state": "pending"}
	if d.start != 0 {
		v["start"] = d.clock.Add(time.Duration(d.start * 1e9))
	}
	if at >= d.completed {
		v["state"], v["missing"] = "completed", at < d.completed+d.missing
		if d.end != 0 && v["missing"] == false {
			v["end"] = d.clock.Add(time.Duration(d.end * 1e9))
		}
	}
	v["after"] = d.after
	body, err := json.Marshal(v)
	resp := respond(r, 200, string(body))
	if d.date {
		resp.Header.Set("Date", d.clock.Add(at).UTC().Format(http.TimeFormat))
	}
	return resp, err
}

var datedAPI = vtclient.Endpoint{Path: "/{id}", Decode: func(a vtclient.Answer) (vtclient.Status, error) {
	var v struct {
		State      vtclient.State
		Missing    bool
		Start, End time.Time
		After      time.Duration
	}
	err := json.Unmarshal(a.Body, &v)
	return vtclient.Status{State: v.State, ResultMissing: v.Missing, StartedAt: v.Start, EndedAt: v.End, PollAfter: v.After}, err
}}

// learning records its completions.
type learning struct {
	vtclient.Backoff
	got []vtclient.Completion
}

func (l *learning) Learn(c vtclient.Completion) { l.got = append(l.got, c) }

// The backend's times in an answer that a Status has seen are learnt, too.
func TestTimesThatAStatusSeesAreLearnt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var got []vtclient.Completion
		c, err := vtclient.New("", vtclient.WithCache(nil), vtclient.WithPolling(learnerFunc{vtclient.Constant(time.Hour), func(c vtclient.Completion) { got = append(got, c) }}),
			vtclient.WithFetch(func(context.Context, string) (vtclient.Status, error) {
				if at := time.Since(began); at > 0 {
					return vtclient.Status{State: vtclient.StateCompleted, StartedAt: began, EndedAt: began.Add(at / 2)}, nil
				}
				return vtclient.Status{State: vtclient.StatePending}, nil
			}))
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(10*time.Minute, func() { c.Status(t.Context(), "j") })
		if _, err := c.Wait(t.Context(), "j"); err != nil || time.Since(began) != 10*time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if want := (vtclient.Completion{DoneBy: 5 * time.Minute, Exact: true}); len(got) != 1 || got[0] != want {
			t.Errorf("learnt %+v, want %+v", got, want)
		}
	})
}

// What is learnt from the backend's own times. The wait begins at the age of 100 s, polls
// every 10 s, and sees the end at 130 s.
func TestTheBackendsTimesAreLearnt(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name    string
		api     dated
		start   time.Duration // the caller's, before the wait
		shown   time.Duration // StartedAt, before the wait; 0: none
		want    vtclient.Completion
		nothing bool // nothing is learnt
	}{
		{"no times", dated{}, 0, 0, vtclient.Completion{PendingAt: 20 * s, DoneBy: 30 * s}, false},
		{"a start", dated{start: -100}, 0, 100 * s, vtclient.Completion{PendingAt: 120 * s, DoneBy: 130 * s}, false},
		{"a start and an end", dated{start: -100, end: 25.5}, 0, 100 * s, vtclient.Completion{PendingAt: 120 * s, DoneBy: 125500 * time.Millisecond, Exact: true}, false},
		{"a start that is later than the caller's, in whole seconds", dated{start: -98.5, end: 25.5}, 100 * s, 98500 * time.Millisecond,
			vtclient.Completion{PendingAt: 120 * s, DoneBy: 124 * s, Exact: true}, false},
		{"a start that is earlier than the caller's, in whole seconds", dated{start: -101, end: 25.5}, 100 * s, 101 * s,
			vtclient.Completion{PendingAt: 120 * s, DoneBy: 126500 * time.Millisecond, Exact: true}, false},
		{"a start that the caller has much earlier", dated{start: -50, end: 25.5}, 100 * s, 50 * s, vtclient.Completion{PendingAt: 120 * s, DoneBy: 130 * s}, false},
		{"a start much earlier than the caller's: the submission was a repetition", dated{start: -3600, end: 25.5}, 100 * s, time.Hour,
			vtclient.Completion{PendingAt: time.Hour + 20*s, DoneBy: time.Hour + 25500*time.Millisecond, Exact: true}, false},
		{"an end alone", dated{end: 25.5}, 100 * s, 0, vtclient.Completion{PendingAt: 120 * s, DoneBy: 130 * s}, false},
		{"an end before the start", dated{start: -100, end: -200}, 0, 100 * s, vtclient.Completion{PendingAt: 120 * s, DoneBy: 130 * s}, false},
		{"an end in the future", dated{start: -100, end: 500}, 0, 100 * s, vtclient.Completion{PendingAt: 120 * s, DoneBy: 130 * s}, false},
		{"a start in the future", dated{start: 500}, 0, -500 * s, vtclient.Completion{PendingAt: 20 * s, DoneBy: 30 * s}, false},
		{"a start of decades back", dated{start: -1e9}, 0, 1e9 * s, vtclient.Completion{PendingAt: 20 * s, DoneBy: 30 * s}, false},
		{"a clock an hour ahead, which the Date shows", dated{start: -100, end: 25.5, date: true, clock: time.Unix(3600, 0)}, 0, 100 * s,
			vtclient.Completion{PendingAt: 120 * s, DoneBy: 125500 * time.Millisecond, Exact: true}, false},
		{"a clock an hour behind, which the Date shows", dated{start: -100, end: 25.5, date: true, clock: time.Unix(-3600, 0)}, 0, 100 * s,
			vtclient.Completion{PendingAt: 120 * s, DoneBy: 125500 * time.Millisecond, Exact: true}, false},
		{"a clock a second ahead, which no Date can show", dated{start: -100, date: true, clock: time.Unix(1, 0)}, 0, 99 * s,
			vtclient.Completion{PendingAt: 119 * s, DoneBy: 129 * s}, false},
		{"a result that comes late", dated{start: -100, end: 25.5, missing: 5 * s}, 0, 100 * s,
			vtclient.Completion{PendingAt: 120 * s, DoneBy: 125500 * time.Millisecond, Exact: true}, false},
		{"over at the first look", dated{start: -100, end: -1, completed: -s}, 0, 100 * s, vtclient.Completion{DoneBy: 99 * s, Exact: true}, false},
		{"over at the first look, no end", dated{start: -100, completed: -s}, 0, 100 * s, vtclient.Completion{DoneBy: 100 * s}, false},
		{"over at the first look, no times", dated{completed: -s}, 0, 0, vtclient.Completion{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := tt.api
				api.t0 = time.Now()
				if api.completed == 0 {
					api.completed = 30 * s
				}
				off := time.Duration(0)
				if !api.clock.IsZero() {
					off = api.clock.Sub(time.Unix(0, 0))
				}
				api.clock = api.t0.Add(off)
				l := &learning{Backoff: vtclient.Constant(10 * s)}
				c := stubbed(t, api.RoundTrip, vtclient.WithEndpoint(datedAPI), vtclient.WithPolling(l), vtclient.WithCache(nil))
				var opts []vtclient.WaitOption
				if tt.start != 0 {
					opts = append(opts, vtclient.StartedAt(api.t0.Add(-tt.start)))
				}
				st, err := c.Wait(t.Context(), "j", opts...)
				if err != nil {
					t.Fatal(err)
				}
				if shown := api.t0.Sub(st.StartedAt); tt.shown == 0 && !st.StartedAt.IsZero() || tt.shown != 0 && shown != tt.shown {
					t.Errorf("StartedAt is %v before the wait, want %v", shown, tt.shown)
				}
				want := []vtclient.Completion{tt.want}
				if tt.nothing {
					want = nil
				}
				if !slices.Equal(l.got, want) {
					t.Errorf("learnt %+v, want %+v", l.got, want)
				}
			})
		})
	}
}

// A pending answer of a wait that ends without the job keeps the start.
func TestTheLastAnswerHasTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &dated{t0: time.Now(), clock: time.Now(), start: -100, completed: time.Hour}
		c := stubbed(t, api.RoundTrip, vtclient.WithEndpoint(datedAPI))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		st, err := c.Wait(ctx, "j")
		if err == nil || !st.StartedAt.Equal(api.t0.Add(-100*time.Second)) {
			t.Errorf("%v, %v", st, err)
		}
	})
}

// PollAfter is a floor, cut at WithMaxRetryAfter, fresh with each answer.
func TestPollAfterIsAFloor(t *testing.T) {
	for _, tt := range []struct {
		after, polling, want time.Duration
	}{
		{0, 10 * time.Second, 10 * time.Second},
		{30 * time.Second, 10 * time.Second, 30 * time.Second},
		{5 * time.Second, 10 * time.Second, 10 * time.Second},
		{-time.Second, 10 * time.Second, 10 * time.Second},
		{time.Hour, 10 * time.Second, 2 * time.Minute},
	} {
		t.Run(fmt.Sprint(tt.after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &dated{t0: time.Now(), clock: time.Now(), after: tt.after, completed: time.Second}
				c := stubbed(t, api.RoundTrip, vtclient.WithEndpoint(datedAPI), vtclient.WithPolling(vtclient.Constant(tt.polling)), vtclient.WithMaxRetryAfter(2*time.Minute))
				if _, err := c.Wait(t.Context(), "j"); err != nil || len(api.requests) != 2 || api.requests[1] != tt.want {
					t.Errorf("requests at %v, %v", api.requests, err)
				}
			})
		})
	}
}

// HeyGen's created_at is the start of the job, whatever else stands in its place.
func TestHeyGenStart(t *testing.T) {
	for body, want := range map[string]int64{
		`{"data":{"status":"running","created_at":1774712936}}`:    1774712936,
		`{"data":{"status":"failed","created_at":1774712936}}`:     1774712936,
		`{"data":{"status":"completed","created_at":null}}`:        0,
		`{"data":{"status":"completed","created_at":"yesterday"}}`: 0,
		`{"data":{"status":"completed","created_at":-5}}`:          0,
		`{"data":{"status":"completed"}}`:                          0,
	} {
		st, err := vtclient.HeyGenV3().Decode(vtclient.Answer{Body: []byte(body)})
		if err != nil || want == 0 && !st.StartedAt.IsZero() || want != 0 && st.StartedAt.Unix() != want {
			t.Errorf("%s: %v, %v", body, st, err)
		}
	}
}

// A Status prints as one line without its body.
func TestAStatusPrintsAsText(t *testing.T) {
	at := time.Unix(1774712936, 0)
	for want, st := range map[string]vtclient.Status{
		`job "": nothing known yet`:                                        {},
		`job "a": pending, 40%, "rendering", seen at 2026-03-28T15:48:56Z`: {JobID: "a", State: vtclient.StatePending, Progress: 0.4, Message: "rendering", CheckedAt: at},
		`job "a": completed, took 1m30s, from the cache`:                   {JobID: "a", State: vtclient.StateCompleted, Progress: 1, Body: []byte(`{"x":1}`), StartedAt: at, EndedAt: at.Add(90 * time.Second), Cached: true},
		`job "a": completed, without its result so far`:                    {JobID: "a", State: vtclient.StateCompleted, ResultMissing: true},
		`job "a\nb": error, "no speech"`:                                   {JobID: "a\nb", State: vtclient.StateFailed, Message: "no\n\x1b speech"},
		`job "a": cancelled`:                                               {JobID: "a", State: vtclient.StateFailed, Cancelled: true},
	} {
		if got := fmt.Sprint(st); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got := fmt.Sprintf("%v", &st); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// The waiting cost of jobs one after the other, of about three minutes each, by what the
// backend gives of their times: in requests and seconds a job, by how many jobs were learnt
// before. A first check that is late is one after a restart, at a random age up to five
// minutes. For the figures of docs/submit.md:
//
//	VTCLIENT_FIGURES=1 go test -run FiguresOfTheBackendsTimes -v ./internal/contract
func TestFiguresOfTheBackendsTimes(t *testing.T) {
	replicas := 1
	if os.Getenv("VTCLIENT_FIGURES") != "" {
		replicas = 60
	}
	bands := []int{0, 6, 20, 50, 150, 300}
	cost := map[string][]float64{}
	for _, given := range []string{"nothing", "the start", "the start and the end"} {
		for _, late := range []bool{false, true} {
			name := fmt.Sprintf("%-22s first check late: %v", given, late)
			sums := make([]float64, len(bands)-1)
			for k := range replicas {
				synctest.Test(t, func(t *testing.T) {
					for band, c := range costsOf(t, given, late, bands, uint64(k)) {
						sums[band] += c / float64(replicas)
					}
				})
			}
			cost[name] = sums
			var row strings.Builder
			for band, c := range sums {
				fmt.Fprintf(&row, "  %d-%d: %5.1f", bands[band], bands[band+1], c)
			}
			t.Logf("%s %s", name, row.String())
			if given != "nothing" && sums[len(sums)-1] > 22 {
				t.Errorf("%s: %.1f after 150 jobs", name, sums[len(sums)-1])
			}
		}
	}
}

// costsOf returns the mean cost of a job in each band.
func costsOf(t *testing.T, given string, late bool, bands []int, seed uint64) []float64 {
	r := rand.New(rand.NewPCG(seed, 7))
	api := &dated{}
	a := seeded(time.Second, seed)
	c := stubbed(t, api.RoundTrip, vtclient.WithEndpoint(datedAPI), vtclient.WithPolling(a), vtclient.WithCache(nil))
	costs := make([]float64, len(bands)-1)
	for band := range costs {
		for i := bands[band]; i < bands[band+1]; i++ {
			d := time.Duration(180e9 * math.Exp(r.NormFloat64()/2))
			began := time.Now()
			*api = dated{t0: began, clock: began, completed: d}
			if given != "nothing" {
				api.start = 1e-9 // as good as 0, which stands for none
			}
			if given == "the start and the end" {
				api.end = d.Seconds()
			}
			var opts []vtclient.WaitOption
			if late {
				time.Sleep(time.Duration(r.Float64() * 300e9))
			} else {
				opts = append(opts, vtclient.StartedAt(began))
			}
			asked := time.Since(began)
			if _, err := c.Wait(t.Context(), fmt.Sprint(i), opts...); err != nil {
				t.Fatal(err)
			}
			costs[band] += (float64(len(api.requests)) + (time.Since(began) - max(d, asked)).Seconds()) / float64(bands[band+1]-bands[band])
		}
	}
	return costs
}

// A time that no date can hold, such as one in milliseconds that is read as seconds, is none:
// the status can be kept, and the wait goes by its own clock.
func TestATimeThatNoDateHoldsIsNone(t *testing.T) {
	for _, at := range []int64{1_700_000_000_000, 1 << 62, -1 << 62} {
		e := vtclient.Endpoint{Path: "/{id}", Decode: func(vtclient.Answer) (vtclient.Status, error) {
			return vtclient.Status{State: vtclient.StateCompleted, StartedAt: time.Unix(at, 0), EndedAt: time.Unix(at, 0)}, nil
		}}
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{}`), nil }, vtclient.WithEndpoint(e))
		st, err := c.Wait(t.Context(), "j")
		if _, unfit := json.Marshal(st); err != nil || unfit != nil || !st.StartedAt.IsZero() || !st.EndedAt.IsZero() {
			t.Errorf("%d: %v, %v, %v", at, st, err, unfit)
		}
	}
}
