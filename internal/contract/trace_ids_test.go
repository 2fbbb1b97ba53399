package contract_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// A trace is shown all jobs of a request, those that share it too.
func TestTracesHaveTheJobsOfASharedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithDurations(simserver.Fixed(time.Minute)))
		var ids []string
		for i := range 5 {
			ids = append(ids, sim.Create(simserver.Job{ID: fmt.Sprint("job ", i)}))
		}
		shared := 0
		see := func(_ context.Context, i vtclient.TraceInfo) {
			got := slices.Collect(i.JobIDs())
			switch {
			case i.Jobs == 0:
				if !slices.Equal(got, []string{i.JobID}) {
					t.Errorf("%q of a request for %q", got, i.JobID)
				}
			case len(got) != i.Jobs || !slices.Contains(got, i.JobID):
				t.Errorf("%d jobs, one of them %q: %q", i.Jobs, i.JobID, got)
			default:
				shared++
			}
		}
		c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithEndpoint(vtclient.HeyGenV3()),
			vtclient.WithTrace(vtclient.Trace{Sent: see, Answered: see}))
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range c.WaitAll(t.Context(), vtclient.Jobs(ids...)) {
			if err != nil {
				t.Error(err)
			}
		}
		if shared == 0 {
			t.Error("no request was shared")
		}
	})
}
