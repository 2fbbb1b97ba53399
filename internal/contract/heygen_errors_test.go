package contract_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
	"github.com/vtclient/vtclient/simserver"
)

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
