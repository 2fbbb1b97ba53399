package vtclient_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithSeed(1))
		c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()))
		if err != nil {
			t.Fatal(err)
		}
		id := sim.Create(simserver.Job{Duration: 10 * time.Minute})
		start := time.Now()
		st, err := c.Wait(t.Context(), id, vtclient.OnProgress(func(s vtclient.Status) { fmt.Println(time.Since(start), s.State, s.Progress) }))
		fmt.Println(st, err, time.Since(start), sim.Requests(id))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		id = sim.Create(simserver.Job{Duration: 10 * time.Minute})
		st, err = c.Wait(ctx, id)
		fmt.Println(st, err, errors.Is(err, context.DeadlineExceeded), sim.Requests(id))
		sim.SetFaults(simserver.Faults{Status: map[int]float64{503: 0.3}})
		var ids []string
		for range 100 {
			ids = append(ids, sim.Create(simserver.Job{Duration: 10 * time.Minute}))
		}
		n := 0
		for st, err := range c.WaitAll(t.Context(), vtclient.Jobs(ids...), vtclient.OnError(func(err error) {
			if n++; n < 5 {
				fmt.Println(err)
			}
		})) {
			if err != nil {
				t.Fatal(st, err)
			}
		}
		fmt.Println(n, sim.TotalRequests(), time.Since(start))
	})
}
