package vtclient_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// An error that a wait ends with while the breaker refuses says so: nothing
// else would tell why no request was made.
func TestWaitThatEndsBehindAnOpenBreakerSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t)
		id := sim.Create(simserver.Job{Duration: time.Hour})
		breaker := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{OpenPeriod: 20 * time.Second})
		for range 5 {
			done, err := breaker.Allow()
			if err != nil {
				t.Fatal(err)
			}
			done(errors.New("down"))
		}
		c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithBreaker(breaker))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.Wait(ctx, id)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, vtclient.ErrBreakerOpen) ||
			!strings.Contains(err.Error(), "failures in a row: 5") || sim.TotalRequests() != 0 {
			t.Errorf("%v, after %d requests", err, sim.TotalRequests())
		}

		// Once there has been an answer again, it is past.
		time.Sleep(20 * time.Second)
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = c.Wait(ctx, id)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, vtclient.ErrBreakerOpen) {
			t.Errorf("after an answer: %v", err)
		}
	})
}
