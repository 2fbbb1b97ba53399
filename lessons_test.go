package vtclient_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// told is the end in each lesson that a Learner was told; 0: given up.
type told []time.Duration

type toldLearner struct {
	vtclient.Backoff
	told *told
}

func (r toldLearner) Learn(c vtclient.Completion) { *r.told = append(*r.told, c.DoneBy) }

// Of jobs that run at the same time the short ones end first. A Learner is told
// of them in the order in which they began, which says nothing about how long
// they take.
func TestLessonsAreToldInTheOrderOfTheStarts(t *testing.T) {
	for _, tt := range []struct {
		rule string
		run  func(t *testing.T, sim *simserver.Server, c *vtclient.Client)
		want told
	}{
		{"jobs that overlap", func(t *testing.T, sim *simserver.Server, c *vtclient.Client) {
			var ids []string
			for _, d := range []time.Duration{30, 10, 50, 20} {
				ids = append(ids, sim.Create(simserver.Job{Duration: d * time.Second}))
			}
			for _, err := range c.WaitAll(t.Context(), vtclient.Jobs(ids...)) {
				if err != nil {
					t.Error(err)
				}
			}
		}, told{30 * time.Second, 10 * time.Second, 50 * time.Second, 20 * time.Second}},
		{"a job that is given up keeps its place", func(t *testing.T, sim *simserver.Server, c *vtclient.Client) {
			slow := sim.Create(simserver.Job{Duration: simserver.Never})
			fast := sim.Create(simserver.Job{Duration: 10 * time.Second})
			jobs := []vtclient.Job{{ID: slow, Deadline: time.Now().Add(25 * time.Second)}, {ID: fast}}
			for range c.WaitAll(t.Context(), slices.Values(jobs)) {
			}
		}, told{0, 10 * time.Second}},
		{"a job that lasts far longer than others does not hold them up", func(t *testing.T, sim *simserver.Server, c *vtclient.Client) {
			slow := sim.Create(simserver.Job{Duration: 200 * time.Second})
			jobs := func(yield func(vtclient.Job) bool) {
				yield(vtclient.Job{ID: slow})
				for range 6 {
					yield(vtclient.Job{ID: sim.Create(simserver.Job{Duration: 10 * time.Second})})
					time.Sleep(10 * time.Second)
				}
			}
			for range c.WaitAll(t.Context(), jobs) {
			}
		}, told{0, 10 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second, 200 * time.Second}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got told
				sim := simserver.StartInMemory(t)
				c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()),
					vtclient.WithPolling(toldLearner{vtclient.Constant(10 * time.Second), &got}))
				if err != nil {
					t.Fatal(err)
				}
				tt.run(t, sim, c)
				if !slices.Equal(got, tt.want) {
					t.Errorf("told %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// What Adaptive has learnt from one batch of jobs that run all at once serves
// the next one, which is where an order of endings would mislead it most.
func TestAdaptiveLearnsFromBatches(t *testing.T) {
	const jobs, batches = 200, 4
	// The optimum for these durations and a request worth a second, as
	// "vt plan -simulate lognormal:3m,0.5" tells; 1 more for the first check.
	const optimum = 17.5 + 1
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithSeed(7), simserver.WithDurations(simserver.LogNormal(3*time.Minute, 0.5)))
		c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithPolling(seeded(time.Second, 1)))
		if err != nil {
			t.Fatal(err)
		}
		for batch := range batches {
			var ids []string
			for range jobs {
				ids = append(ids, sim.Create(simserver.Job{}))
			}
			asked, late := sim.TotalRequests(), time.Duration(0)
			for st, err := range c.WaitAll(t.Context(), vtclient.Jobs(ids...)) {
				if err != nil {
					t.Fatal(err)
				}
				j, _ := sim.Job(st.JobID)
				late += time.Since(j.Started.Add(j.Duration))
			}
			requests := float64(sim.TotalRequests()-asked) / jobs
			cost := requests + late.Seconds()/jobs
			t.Logf("batch %d: %.1f requests, %.1f s late, %.2f of the optimum", batch+1, requests, late.Seconds()/jobs, cost/optimum)
			if batch > 0 && cost > 1.25*optimum {
				t.Errorf("batch %d costs %.2f of the optimum", batch+1, cost/optimum)
			}
		}
	})
}
