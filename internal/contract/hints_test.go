package contract_test

import (
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

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
		told := simserver.Webhook{Handler: webhook, Secret: webhookSecret, Loss: 0.02}
		sim := simserver.StartInMemory(t, simserver.WithSeed(seed), simserver.WithWebhook(told),
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
				told.Loss = 1
				sim.SetWebhook(told)
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
