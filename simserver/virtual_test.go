package simserver_test

import (
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

// get asks for a job's status with a plain client.
func get(sim *simserver.Server, path string) (code int, body string, err error) {
	res, err := sim.HTTPClient().Get(sim.URL() + path)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// pollTenHours waits for 200 jobs of ten hours, each asked for every interval, and
// returns how many requests were made.
func pollTenHours(t testing.TB, interval time.Duration, opts ...simserver.Option) int {
	const jobs = 200
	sim := simserver.StartInMemory(t, append(opts, simserver.WithDurations(simserver.Fixed(10*time.Hour)))...)
	var wg sync.WaitGroup
	for range jobs {
		id := sim.Create(simserver.Job{})
		wg.Go(func() {
			for {
				code, body, err := get(sim, "/status/"+id)
				if err != nil || code != 200 {
					t.Errorf("%s: %d %q %v", id, code, body, err)
					return
				}
				if strings.Contains(body, `"completed"`) {
					return
				}
				time.Sleep(interval)
			}
		})
	}
	wg.Wait()
	if s := sim.Stats(); s.Completed != jobs || s.PeakInFlight > jobs {
		t.Errorf("%+v", s)
	}
	return sim.TotalRequests()
}

func TestTenVirtualHours(t *testing.T) {
	began := time.Now()
	var requests int
	synctest.Test(t, func(t *testing.T) { requests = pollTenHours(t, 5*time.Minute) })
	took := time.Since(began)
	if want := 200 * 121; requests != want {
		t.Errorf("%d requests, want %d", requests, want)
	}
	t.Logf("%d requests over ten virtual hours took %v", requests, took)
}
