package contract_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

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
