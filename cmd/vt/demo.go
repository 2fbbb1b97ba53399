package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/vtclient/vtclient"
)

// The demonstration has jobs that look like a backend's in small, 45 to 1: three minutes
// become four seconds, and a request that is worth 4.5 s of waiting is worth 100 ms. With
// that many jobs the result does not depend on luck; see TestDemoWinsWhateverTheSeed.
const (
	demoJobs     = 24
	demoDuration = "lognormal:4s,0.25"
	demoCost     = 100 * time.Millisecond
	demoFaults   = "503:5%,cut:5%,limit=3"
	demoSeed     = 6
	demoLessons  = 200
)

// demoRetry is the library's retry in small.
var demoRetry = vtclient.Exponential{Base: 20 * time.Millisecond, Max: time.Second, Jitter: 0.5}

// A demo is a demonstration: a cadence that has learnt beside the best loop.
type demo struct {
	cost     time.Duration
	lessons  int
	duration func(id string) time.Duration
}

// teach has a cadence follow jobs like those of the demonstration, one after another,
// in simulated time.
func (d *demo) teach(ctx context.Context, a *vtclient.Adaptive, like distribution, seed uint64) {
	const stream = 4 // others draw from lower ones
	learn(ctx, a, drawDurations(like, d.lessons, seed, stream))
}

// A row is what a way of polling cost, as means per job.
type row struct {
	Requests float64 `json:"requests_per_job"`
	Late     float64 `json:"late_mean"`
	Cost     float64 `json:"waiting_cost"`
}

// A comparison sets the client beside a loop with a fixed interval: the best for these
// very jobs, which is the strongest that a loop can be.
type comparison struct {
	RequestCost float64 `json:"request_cost"`
	Client      row     `json:"client"`
	Loop        row     `json:"loop"`
	Interval    float64 `json:"loop_interval"`

	jobs, lessons int
}

func (d *demo) compare(jobs []*job, s *summary) *comparison {
	durations := make([]time.Duration, len(jobs))
	for i, j := range jobs {
		durations[i] = max(1, d.duration(j.id))
	}
	of := func(t tally) row { return row{t.requests / t.jobs, t.delay / t.jobs, t.cost(d.cost)} }
	n := float64(len(jobs))
	client := tally{jobs: n, requests: float64(s.requests), delay: n * s.meanLate.Seconds()}
	loops := newSearch(durations, d.cost)
	every := loops.constant()
	best := backoff{every, every, 1}.try(loops.sorted, loops.sums)
	return &comparison{
		RequestCost: d.cost.Seconds(), Client: of(client), Loop: of(best), Interval: every.Seconds(),
		jobs: len(jobs), lessons: d.lessons,
	}
}

func (c *comparison) text() string {
	var b strings.Builder
	line := func(name string, r row) {
		fmt.Fprintf(&b, "%-34s %8.1f %13.2fs %13.2fs\n", name, r.Requests, r.Late, r.Cost)
	}
	fmt.Fprintf(&b, "\n%-34s %s %s %s\n", "", "requests/job", "late on average", "waiting cost")
	line("vtclient", c.Client)
	line(fmt.Sprintf("the best loop, every %.2fs", c.Interval), c.Loop)
	fmt.Fprintf(&b, "\nvtclient had learnt from %d such jobs. The loop is computed: no fault, and the\n"+
		"interval that turned out best for these %d. Waiting cost: requests × %gs, which\n"+
		"is what one is worth here, + lateness. For jobs of your own: vt help plan\n", c.lessons, c.jobs, c.RequestCost)
	return b.String()
}
