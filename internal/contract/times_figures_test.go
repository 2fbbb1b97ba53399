package contract_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

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
