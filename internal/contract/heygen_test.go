package contract_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
	"github.com/vtclient/vtclient/simserver"
)

// HeyGen's API as a whole, against the simulated one: hundreds of jobs share
// requests, over pages of an answer, and each ends once with its own result, also
// where that comes late, where the backend does not know the job, and where it
// has no answers for many.
func TestHeyGenJobsShareRequests(t *testing.T) {
	const jobs = 300
	for _, tt := range []struct {
		name   string
		server []simserver.Option
		faults simserver.Faults
		check  func(t *testing.T, s simserver.Stats, reported int)
	}{
		{"as it should be", nil, simserver.Faults{}, func(t *testing.T, s simserver.Stats, reported int) {
			// Each result is a request, the unknown job is one, and the last jobs of all have
			// none to share with.
			if s.Completed+s.Failed+s.NotFound > jobs+1 || s.Pending > 60 || s.Bulk == 0 || s.Bulk > jobs {
				t.Errorf("%+v", s)
			}
		}},
		{"pages", []simserver.Option{simserver.WithBulkPage(30)}, simserver.Faults{}, func(t *testing.T, s simserver.Stats, reported int) {
			if s.Completed+s.Failed+s.NotFound > jobs+1 || s.Pending > 60 || s.Bulk == 0 {
				t.Errorf("%+v", s)
			}
		}},
		{"late results", []simserver.Option{simserver.WithLateResult(5 * time.Second)}, simserver.Faults{}, func(t *testing.T, s simserver.Stats, reported int) {
			// At 0, 1, 3 and 7 s at most until the result is there.
			if s.Completed > 4*jobs || s.Completed < jobs {
				t.Errorf("%+v", s)
			}
		}},
		{"no such path", nil, simserver.Faults{
			Status: map[int]float64{404: 1},
			Match:  func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/statuses") },
		}, func(t *testing.T, s simserver.Stats, reported int) {
			if s.Bulk != 0 || reported == 0 {
				t.Errorf("%d errors reported; %+v", reported, s)
			}
			// It is tried after 15, 30, 60 s and so on, in vain.
			if n := s.Faults["404"]; n == 0 || n > 12 {
				t.Errorf("the bulk path was asked %d times", n)
			}
		}},
		{"trouble", nil, simserver.Faults{Status: map[int]float64{503: 0.1}, Cut: 0.1, Garbage: 0.02}, func(t *testing.T, s simserver.Stats, reported int) {
			if s.Bulk == 0 {
				t.Errorf("%+v", s)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				sim := simserver.StartInMemory(t, append([]simserver.Option{
					simserver.WithSeed(7), simserver.WithDurations(simserver.LogNormal(10*time.Minute, 0.5)),
				}, tt.server...)...)
				sim.SetFaults(tt.faults)
				c, err := vtclient.New(sim.URL(), vtclient.WithEndpoint(vtclient.HeyGenV3()), vtclient.WithHTTPClient(sim.HTTPClient()))
				if err != nil {
					t.Fatal(err)
				}
				ids := []string{"nobody's"}
				for i := range jobs {
					ids = append(ids, sim.Create(simserver.Job{ID: fmt.Sprintf("job %d", i), Fail: i%10 == 0, Message: "no speech"}))
				}
				var reported atomic.Int32
				got := map[string]bool{}
				for st, err := range c.WaitAll(t.Context(), vtclient.Jobs(ids...), vtclient.OnError(func(error) { reported.Add(1) })) {
					if got[st.JobID] {
						t.Errorf("%s ended twice", st.JobID)
					}
					got[st.JobID] = true
					job, known := sim.Job(st.JobID)
					var failed *vtclient.JobError
					var answer *vtclient.HTTPError
					switch {
					case !known:
						if !errors.As(err, &answer) || answer.StatusCode != 404 {
							t.Errorf("%s: %v", st.JobID, err)
						}
					case job.Fail:
						if !errors.As(err, &failed) || !strings.Contains(err.Error(), "no speech") {
							t.Errorf("%s: %v", st.JobID, err)
						}
					default:
						v, derr := vtclient.Decode[struct {
							Data struct {
								ID       string
								VideoURL string `json:"video_url"`
							}
						}](st)
						if err != nil || derr != nil || v.Data.ID != st.JobID || v.Data.VideoURL == "" {
							t.Errorf("%s: %v, %v, %s", st.JobID, err, derr, st.Body)
						}
					}
				}
				if len(got) != len(ids) {
					t.Errorf("%d of %d ended", len(got), len(ids))
				}
				tt.check(t, sim.Stats(), int(reported.Load()))
				if testing.Verbose() {
					t.Logf("%+v, %d errors reported", sim.Stats(), reported.Load())
				}
			})
		})
	}
}

// HeyGen may answer 200 with an error and no data. Its code decides whether that is the end
// of a call or a fault like others.
func TestHeyGenErrorsWith200(t *testing.T) {
	const done = `{"data":{"id":"a","status":"completed","video_url":"https://v.test/1"}}`
	for _, test := range []struct {
		name, answer string
		final        bool
		says         string
	}{
		{"no such job", `{"error":{"code":"not_found","message":"no such translation","param":null}}`, true, `the answer is an error, "not_found": "no such translation"`},
		{"beside null", `{"data":null,"error":{"code":"video_not_found","message":"gone"}}`, true, `"video_not_found": "gone"`},
		{"beside data without a state", `{"data":{},"error":{"code":"resource_access_denied"}}`, true, `an error, "resource_access_denied"`},
		{"no credit", `{"error":{"code":"insufficient_credit","message":"5 of 10"}}`, true, "insufficient_credit"},
		{"a parameter", `{"error":{"code":"invalid_parameter","message":"x"}}`, true, "invalid_parameter"},
		{"trouble of the server's", `{"error":{"code":"internal_error","message":"oops"}}`, false, "internal_error"},
		{"too many requests", `{"error":{"code":"rate_limit_exceeded","message":"slow down"}}`, false, "rate_limit_exceeded"},
		{"a code of tomorrow", `{"error":{"code":"moon_phase","message":"?"}}`, false, "moon_phase"},
		{"an error of another form", `{"error":"oops"}`, false, `no "data.status" in the answer`},
		{"nothing at all", `{}`, false, `no "data.status" in the answer`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testserver.StartInMemory(t, testserver.JSON(200, test.answer), testserver.JSON(200, done))
				endpoint := vtclient.HeyGenV3()
				endpoint.Bulk = vtclient.Bulk{}
				c := clientFor(t, s, vtclient.WithEndpoint(endpoint))
				var faults []error
				st, err := c.Wait(t.Context(), "a", vtclient.OnError(func(err error) { faults = append(faults, err) }))
				var unread *vtclient.DecodeError
				if test.final {
					if !errors.As(err, &unread) || !strings.Contains(err.Error(), test.says) || len(s.Requests()) != 1 || !strings.Contains(err.Error(), "not retried") {
						t.Errorf("%v after %d requests", err, len(s.Requests()))
					}
					return
				}
				if err != nil || st.State != vtclient.StateCompleted || len(faults) != 1 || !errors.As(faults[0], &unread) || !strings.Contains(faults[0].Error(), test.says) {
					t.Errorf("%v, %v, faults %v", st, err, faults)
				}
			})
		})
	}
	// The same of a submission: what is final was not carried out, and what passes is
	// repeated with the key.
	for answer, final := range map[string]bool{
		`{"error":{"code":"insufficient_credit","message":"5 of 10"}}`:         true,
		`{"error":{"code":"request_in_progress","message":"still under way"}}`: false,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := testserver.StartInMemory(t, testserver.JSON(200, answer), testserver.JSON(200, `{"data":{"video_translation_ids":["a"]}}`))
			c := clientFor(t, s, vtclient.WithEndpoint(vtclient.HeyGenV3()))
			jobs, err := c.Submit(t.Context(), "k", vtclient.HeyGenRequest{VideoURL: "https://v.test/1", Languages: []string{"German"}})
			var failed *vtclient.SubmitError
			if final != (errors.As(err, &failed) && !failed.MaybeSubmitted) || final == (len(jobs) == 1) {
				t.Errorf("%s: %v, %v", answer, jobs, err)
			}
		})
	}
}

// The simulated HeyGen's refusals as the client sees them: no credit is final and creates
// nothing, too many jobs and a key in use pass, and a lost answer costs no second job.
func TestHeyGenSubmissionsAgainstTheSimulator(t *testing.T) {
	request := vtclient.HeyGenRequest{VideoURL: "https://v.test/1", Languages: []string{"German", "French"}}
	for _, test := range []struct {
		name    string
		server  []simserver.Option
		fails   bool // by a 402
		created int
	}{
		{"well", nil, false, 2},
		{"no credit", []simserver.Option{simserver.WithCredit(1)}, true, 0},
		{"slower than the client waits", []simserver.Option{simserver.WithSubmitTime(12 * time.Second)}, false, 2},
		{"answers that are cut", []simserver.Option{simserver.WithFaults(simserver.Faults{Cut: 1, Limit: 2, Match: isPost})}, false, 2},
		{"errors with 200", []simserver.Option{simserver.WithFaults(simserver.Faults{Status: map[int]float64{200: 1}, Limit: 2, Match: isPost})}, false, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := simserver.StartInMemory(t, append(test.server, simserver.WithDurations(simserver.Fixed(time.Minute)))...)
				c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithEndpoint(vtclient.HeyGenV3()))
				if err != nil {
					t.Fatal(err)
				}
				jobs, err := c.Submit(t.Context(), "key-of-this-test", request)
				if test.fails {
					var failed *vtclient.HTTPError
					if !errors.As(err, &failed) || failed.StatusCode != 402 || !strings.Contains(err.Error(), "insufficient_credit") {
						t.Errorf("%v, %v", jobs, err)
					}
				} else if err != nil || len(jobs) != 2 {
					t.Errorf("%v, %v", jobs, err)
				}
				if n := sim.Stats().Created; n != test.created {
					t.Errorf("%d jobs created, want %d", n, test.created)
				}
			})
		})
	}
}

func isPost(r *http.Request) bool { return r.Method == http.MethodPost }

// A field of another type than HeyGen documents is empty, and costs no other one.
func TestHeyGenResultIsLenient(t *testing.T) {
	for body, want := range map[string]string{
		`{"data":{"id":"j","title":"Launch","duration":12.5,"video_url":"v","srt_caption_url":"s"}}`:                 "j Launch 12.5 v s",
		`{"data":{"id":7,"title":{"en":"Launch"},"duration":"12.5","video_url":"v","srt_caption_url":["s"]}}`:        "  0 v ",
		`{"data":{"title":false,"duration":1e999,"video_url":"v","input_language":1,"later":{}},"error":"","x":[1]}`: "  0 v ",
		`{"data":{"title":null,"duration":null,"video_url":null}}`:                                                   "  0  ",
		`{}`:            "  0  ",
		`{"data":null}`: "  0  ",
		`{"data":[]}`:   "error",
		`{"data":"v"}`:  "error",
		`[]`:            "error",
		`{"data":{`:     "error",
	} {
		r, err := vtclient.Decode[vtclient.HeyGenResult](vtclient.Status{JobID: "j", Body: json.RawMessage(body)})
		got := "error"
		if err == nil {
			d := r.Data
			got = fmt.Sprint(d.ID, " ", d.Title, " ", d.Duration, " ", d.VideoURL, " ", d.SRTCaptionURL)
		}
		if got != want {
			t.Errorf("%s: %q, want %q (%v)", body, got, want, err)
		}
	}
}
