package contract_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// The long form of TestAdaptiveThroughClient is
//
//	go test -run TestAdaptiveThroughClient -v . -args -client-jobs 3000
var clientJobs = flag.Int("client-jobs", 800, "jobs per distribution in TestAdaptiveThroughClient")

// means are what some jobs cost, per job and in seconds.
type means struct {
	requests, delay float64
	ratio           float64 // to the optimum
	late            float64 // the same from job 200 on
}

// A meter adds up jobs, each in comparison with the optimal schedule on the same
// duration, which takes most of the noise out.
type meter struct {
	opt               optimum
	c                 float64
	n, requests, wait float64
	diff              [2]float64
	jobs              [2]float64
	mu                sync.Mutex
}

func (m *meter) add(job int, x float64, requests int, delay float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	m.requests += float64(requests)
	m.wait += delay
	w := 0
	if job >= 200 {
		w = 1
	}
	m.diff[w] += float64(requests)*m.c + delay - m.opt.Of(x, m.c)
	m.jobs[w]++
}

func (m *meter) means() means {
	return means{
		m.requests / m.n, m.wait / m.n,
		1 + (m.diff[0]+m.diff[1])/m.n/m.opt.Cost,
		1 + m.diff[1]/max(m.jobs[1], 1)/m.opt.Cost,
	}
}

// byStrategy is a plain loop over Next and Learn.
func byStrategy(m *meter, xs []time.Duration) {
	a := seeded(time.Duration(m.c*1e9), 1)
	for i, x := range xs {
		var at vtclient.Attempt
		for at.Elapsed < x {
			at.PendingAt = at.Elapsed
			d, _ := a.Next(at)
			at.Elapsed += d
			at.Number++
		}
		a.Learn(vtclient.Completion{PendingAt: at.PendingAt, DoneBy: at.Elapsed})
		m.add(i, x.Seconds(), at.Number, (at.Elapsed - x).Seconds())
	}
}

// byClient waits for the jobs with one client, through HTTP in virtual time. A
// job is created every gap; with a gap of 0, when the one before is done.
func byClient(t *testing.T, m *meter, xs []time.Duration, gap time.Duration, opts func() []vtclient.WaitOption) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		client, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()),
			vtclient.WithPolling(seeded(time.Duration(m.c*1e9), 1)))
		if err != nil {
			t.Fatal(err)
		}
		one := func(i int) {
			id := sim.Create(simserver.Job{Duration: xs[i]})
			start := time.Now()
			if _, err := client.Wait(t.Context(), id, opts()...); err != nil {
				t.Error(err)
				return
			}
			delay := time.Since(start) - xs[i]
			if delay < 0 {
				t.Errorf("job of %v was done after %v", xs[i], xs[i]+delay)
			}
			m.add(i, xs[i].Seconds(), sim.Requests(id), delay.Seconds())
		}
		var wg sync.WaitGroup
		for i := range xs {
			if gap == 0 {
				one(i)
				continue
			}
			wg.Go(func() { one(i) })
			time.Sleep(gap)
		}
		wg.Wait()
	})
}

// The learning cadence costs the same through the whole client as in a plain loop: what it
// learns from the client, and when it polls, is right to the end.
func TestAdaptiveThroughClient(t *testing.T) {
	noRace(t)
	started := func() []vtclient.WaitOption {
		return []vtclient.WaitOption{vtclient.StartedAt(time.Now())}
	}
	plain := func() []vtclient.WaitOption { return nil }
	for _, test := range []struct {
		d dist
		c float64
	}{
		{lognormal("log-normal, median 3 min, σ 0.3", 180, .3), 5},
		{uniform("uniform 5-30 s", 5, 30), 5},
		{mix("bimodal, 30 s and 20 min", []float64{.6, .4}, lognormal("", 30, .2), lognormal("", 1200, .2)), 5},
	} {
		r := rand.New(rand.NewPCG(1, 5))
		opt := solve(test.d, test.c)
		xs := make([]time.Duration, *clientJobs)
		mean := 0.0
		for i := range xs {
			xs[i] = time.Duration(test.d.Draw(r) * 1e9)
			mean += xs[i].Seconds() / float64(len(xs))
		}
		// Those that wait overlap: about eight at a time.
		gap := time.Duration(mean / 8 * 1e9)
		show := func(how string, follow func(*meter)) means {
			m := &meter{opt: opt, c: test.c}
			begin := time.Now()
			follow(m)
			f := m.means()
			t.Logf("%-32s c=%gs %-26s %6.2f requests %7.2f s delay; ratio %.3f, from job 200 on %.3f (%v)",
				test.d.Name, test.c, how, f.requests, f.delay, f.ratio, f.late, time.Since(begin).Round(time.Millisecond))
			return f
		}
		loop := show("plain loop", func(m *meter) { byStrategy(m, xs) })
		whole := show("Wait, StartedAt", func(m *meter) { byClient(t, m, xs, 0, started) })
		overlap := show("Wait, StartedAt, 8 at once", func(m *meter) { byClient(t, m, xs, gap, started) })
		first := show("plain Wait", func(m *meter) { byClient(t, m, xs, 0, plain) })

		// With the same seed, chance in the cadence is not the same in each way, as
		// they ask in different order; the exact part is
		// TestAdaptiveClientKeepsTheSchedule's.
		const noise = 0.09
		agree := func(what string, got, want float64) {
			if math.Abs(got-want) > noise {
				t.Errorf("%s: %s: ratio %.3f, the plain loop's is %.3f", test.d.Name, what, got, want)
			}
		}
		agree("StartedAt", whole.late, loop.late)
		agree("StartedAt, overlapping", overlap.late, loop.late)
		agree("plain Wait, less its first check", first.late-test.c/opt.Cost, loop.late)
		for _, f := range []means{loop, whole, overlap} {
			if f.late > 1.05+noise {
				t.Errorf("%s: after 200 jobs the waiting cost is %.3f times the optimum", test.d.Name, f.late)
			}
		}
	}
}

// A recordingLearner records the calls of its methods.
type recordingLearner struct {
	*vtclient.Adaptive
	asked    []vtclient.Attempt
	delays   []time.Duration
	reported []vtclient.Completion
}

func (r *recordingLearner) Next(at vtclient.Attempt) (time.Duration, bool) {
	d, ok := r.Adaptive.Next(at)
	r.asked, r.delays = append(r.asked, at), append(r.delays, d)
	return d, ok
}

func (r *recordingLearner) Learn(c vtclient.Completion) {
	r.reported = append(r.reported, c)
	r.Adaptive.Learn(c)
}

// What a plain loop over Next and Learn does, Wait with StartedAt does to the
// nanosecond: the same questions, requests when the answers say, one lesson.
func TestAdaptiveClientKeepsTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		rec := &recordingLearner{Adaptive: vtclient.NewAdaptive(2 * time.Second)}
		client, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithPolling(rec))
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(2, 5))
		for range 150 {
			x := time.Duration(90e9 * math.Exp(.5*r.NormFloat64()))
			rec.asked, rec.delays, rec.reported = nil, nil, nil
			start := time.Now()
			id := sim.Create(simserver.Job{Duration: x})
			if _, err := client.Wait(t.Context(), id, vtclient.StartedAt(start)); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			synctest.Wait() // until the lesson is learnt
			var at vtclient.Attempt
			for i, asked := range rec.asked {
				if at.PendingAt = at.Elapsed; asked != at {
					t.Fatalf("job of %v: asked %+v, want %+v", x, asked, at)
				}
				at.Elapsed += rec.delays[i]
				at.Number++
			}
			want := vtclient.Completion{PendingAt: at.PendingAt, DoneBy: at.Elapsed}
			if len(rec.reported) != 1 || rec.reported[0] != want {
				t.Fatalf("job of %v: got %+v, want %+v once", x, rec.reported, want)
			}
			if n := sim.Requests(id); n != at.Number || took != at.Elapsed || at.PendingAt >= x || at.Elapsed < x {
				t.Fatalf("job of %v: %d requests and %v, the schedule has %d and %v", x, n, took, at.Number, at.Elapsed)
			}
		}
	})
}

// ends are the DoneBy of each completion; 0: given up.
type ends []time.Duration

type learnerOfEnds struct {
	vtclient.Backoff
	reported *ends
}

func (r learnerOfEnds) Learn(c vtclient.Completion) { *r.reported = append(*r.reported, c.DoneBy) }

// Of jobs that run at the same time the short ones end first. A Learner gets them in the order
// in which they began, which does not depend on how long they take.
func TestCompletionsAreLearntInTheOrderOfTheStarts(t *testing.T) {
	for _, tt := range []struct {
		rule string
		run  func(t *testing.T, sim *simserver.Server, c *vtclient.Client)
		want ends
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
		}, ends{30 * time.Second, 10 * time.Second, 50 * time.Second, 20 * time.Second}},
		{"a job that is given up keeps its place", func(t *testing.T, sim *simserver.Server, c *vtclient.Client) {
			slow := sim.Create(simserver.Job{Duration: simserver.Never})
			fast := sim.Create(simserver.Job{Duration: 10 * time.Second})
			jobs := []vtclient.Job{{ID: slow, Deadline: time.Now().Add(25 * time.Second)}, {ID: fast}}
			for range c.WaitAll(t.Context(), slices.Values(jobs)) {
			}
		}, ends{0, 10 * time.Second}},
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
		}, ends{0, 10 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second, 200 * time.Second}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got ends
				sim := simserver.StartInMemory(t)
				c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()),
					vtclient.WithPolling(learnerOfEnds{vtclient.Constant(10 * time.Second), &got}))
				if err != nil {
					t.Fatal(err)
				}
				tt.run(t, sim, c)
				if !slices.Equal(got, tt.want) {
					t.Errorf("got %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// What Adaptive has learnt from one batch of jobs that run all at once serves
// the next one, which is where an order of endings would mislead it most.
func TestAdaptiveLearnsFromBatches(t *testing.T) {
	const jobs, batches = 200, 4
	// The optimum for these durations and a request worth a second, as "vt plan -simulate
	// lognormal:3m,0.5" prints; 1 more for the first check.
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

// Where jobs end at full minutes of the time of day, a client comes to poll just behind them.
func TestEndsAtFullMinutesAreLearnt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 1))
		var end time.Time
		requests := 0
		client, err := vtclient.New("", vtclient.WithCache(nil), vtclient.WithFetch(func(_ context.Context, id string) (vtclient.Status, error) {
			requests++
			st := vtclient.Status{JobID: id, State: vtclient.StatePending}
			if !time.Now().Before(end) {
				st.State = vtclient.StateCompleted
			}
			return st, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		const jobs, known = 200, 80
		late := time.Duration(0)
		for i := range jobs {
			time.Sleep(time.Duration(r.Float64() * float64(time.Hour)))
			start := time.Now()
			end = start.Add(time.Duration(180e9 * math.Exp(.5*r.NormFloat64()))).Truncate(time.Minute).Add(time.Minute)
			if i == known {
				requests, late = 0, 0
			}
			if _, err := client.Wait(t.Context(), fmt.Sprint(i), vtclient.StartedAt(start)); err != nil {
				t.Fatal(err)
			}
			late += time.Since(end)
		}
		// Without the minutes it would be 10 requests and 7 s.
		perJob, mean := float64(requests)/(jobs-known), late/(jobs-known)
		if perJob > 6 || mean > 4*time.Second {
			t.Errorf("%.1f requests a job, known %v late", perJob, mean)
		}
		t.Logf("%.1f requests a job, known %v late", perJob, mean)
	})
}

const webhookSecret = "whsec_0123456789abcdef"

// hintedJobs is what the jobs of one client with a webhook cost: of those after the
// ones that taught it, and of those after the moment at which the last delivery arrived.
type hintedJobs struct {
	requests float64       // per job
	late     time.Duration // from the end until it is known, at the worst, of jobs with a hint
	after    [3]float64    // cost ÷ optimum without hints: jobs 1–50, 51–150 and later
}

const hintTrip = 20 * time.Millisecond // from a request to its answer

// followHinted waits for one job after another, each known to have begun at a
// certain time, so that there is no first check: the least is one request a job. A
// plain Wait makes one more.
func followHinted(t *testing.T, d dist, c float64, seed uint64, teach, measure, lost int) (f hintedJobs) {
	opt := solve(d, c)
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 11))
		verify, err := vtclient.VerifyHeyGen(webhookSecret)
		if err != nil {
			t.Fatal(err)
		}
		webhook := &vtclient.Webhook{Verify: verify}
		reported := simserver.Webhook{Handler: webhook, Secret: webhookSecret, Loss: 0.02}
		sim := simserver.StartInMemory(t, simserver.WithSeed(seed), simserver.WithWebhook(reported),
			simserver.WithFaults(simserver.Faults{Latency: hintTrip}))
		client, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()),
			vtclient.WithPolling(vtclient.NewAdaptive(time.Duration(c*1e9))))
		if err != nil {
			t.Fatal(err)
		}
		hinted := false
		webhook.Hint = func(id string) { hinted = true; client.Hint(id) }
		var diff [3]float64
		var jobs [3]int
		for i := range teach + measure + lost {
			if i == teach+measure {
				reported.Loss = 1
				sim.SetWebhook(reported)
			}
			x := time.Duration(d.Draw(r) * 1e9)
			hinted = false
			start := time.Now()
			id := sim.Create(simserver.Job{Duration: x})
			if _, err := client.Wait(t.Context(), id, vtclient.StartedAt(start)); err != nil {
				t.Fatal(err)
			}
			n, delay := sim.Requests(id), time.Since(start)-x
			switch k := i - teach - measure; {
			case i < teach:
			case k < 0:
				f.requests += float64(n) / float64(measure)
				if hinted {
					f.late = max(f.late, delay)
				}
			case hinted:
				t.Error("a delivery has arrived that was to be lost")
			default:
				w := min((k+50)/100, 2)
				diff[w] += float64(n)*c + delay.Seconds() - opt.Of(x.Seconds(), c)
				jobs[w]++
			}
		}
		for w := range diff {
			f.after[w] = 1 + diff[w]/float64(max(jobs[w], 1))/opt.Cost
		}
	})
	return f
}

// What a webhook saves: requests per wait once 200 jobs have been learnt and while
// 98 % of the deliveries arrive, through the whole client and the real handler; and
// what it costs when all of them are lost from one moment on.
//
// With 0.98 known, and the distribution, the optimum would be 1.135 requests at a cost
// of 5 s, and 1.814 at 0.5 s: the figures asserted are these, rounded. Means of 20
// clients: 1.13 and 1.81. One client differs by 0.03 and 0.15 from that, as chance has
// it with the hints, which is where the slack comes from.
func TestWebhookFigures(t *testing.T) {
	noRace(t)
	replicas := uint64(3)
	if os.Getenv("VTCLIENT_FIGURES") != "" {
		replicas = 20
	}
	d := lognormal("log-normal, median 3 min, σ 0.3", 180, .3)
	for _, test := range []struct{ cost, requests, slack float64 }{{5, 1.1, .05}, {.5, 1.8, .15}} {
		var mean hintedJobs
		for seed := range replicas {
			f := followHinted(t, d, test.cost, seed, 200, 200, 200)
			t.Logf("cost %gs: %.3f requests, %v late; after the loss %.3f", test.cost, f.requests, f.late, f.after)
			mean.requests += f.requests / float64(replicas)
			for w := range f.after {
				mean.after[w] += f.after[w] / float64(replicas)
			}
			// A hint is given at the end itself, so one request later it is known. It
			// may find a poll in flight that began before, and follows it.
			if f.late > 2*hintTrip {
				t.Errorf("cost %gs: known %v after the end, though hinted", test.cost, f.late)
			}
		}
		t.Logf("cost %gs: mean %.3f requests; after the loss %.3f", test.cost, mean.requests, mean.after)
		if mean.requests > test.requests+test.slack {
			t.Errorf("cost %gs: %.3f requests a wait, want %v at most", test.cost, mean.requests, test.requests)
		}
		for w, most := range []float64{1.6, 1.25, 1.25} {
			if mean.after[w] > most {
				t.Errorf("cost %gs: %.3f times the optimum in span %d after the loss, want %v at most", test.cost, mean.after[w], w, most)
			}
		}
	}
}
