package contract_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
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
		check  func(t *testing.T, s simserver.Stats, told int)
	}{
		{"as it should be", nil, simserver.Faults{}, func(t *testing.T, s simserver.Stats, told int) {
			// Each result is a request, the job that nobody knows is one, and the
			// last jobs of all have nobody to share with.
			if s.Completed+s.Failed+s.NotFound > jobs+1 || s.Pending > 60 || s.Bulk == 0 || s.Bulk > jobs {
				t.Errorf("%+v", s)
			}
		}},
		{"pages", []simserver.Option{simserver.WithBulkPage(30)}, simserver.Faults{}, func(t *testing.T, s simserver.Stats, told int) {
			if s.Completed+s.Failed+s.NotFound > jobs+1 || s.Pending > 60 || s.Bulk == 0 {
				t.Errorf("%+v", s)
			}
		}},
		{"late results", []simserver.Option{simserver.WithLateResult(5 * time.Second)}, simserver.Faults{}, func(t *testing.T, s simserver.Stats, told int) {
			// At 0, 1, 3 and 7 s at most until the result is there.
			if s.Completed > 4*jobs || s.Completed < jobs {
				t.Errorf("%+v", s)
			}
		}},
		{"no such path", nil, simserver.Faults{
			Status: map[int]float64{404: 1},
			Match:  func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/statuses") },
		}, func(t *testing.T, s simserver.Stats, told int) {
			if s.Bulk != 0 || told == 0 {
				t.Errorf("%d errors told; %+v", told, s)
			}
			// It is tried after 15, 30, 60 s and so on, in vain.
			if n := s.Faults["404"]; n == 0 || n > 12 {
				t.Errorf("the bulk path was asked %d times", n)
			}
		}},
		{"trouble", nil, simserver.Faults{Status: map[int]float64{503: 0.1}, Cut: 0.1, Garbage: 0.02}, func(t *testing.T, s simserver.Stats, told int) {
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
				var told atomic.Int32
				got := map[string]bool{}
				for st, err := range c.WaitAll(t.Context(), vtclient.Jobs(ids...), vtclient.OnError(func(error) { told.Add(1) })) {
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
				tt.check(t, sim.Stats(), int(told.Load()))
				if testing.Verbose() {
					t.Logf("%+v, %d errors told", sim.Stats(), told.Load())
				}
			})
		})
	}
}
