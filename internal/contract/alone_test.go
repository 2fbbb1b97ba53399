package contract_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// Property 56 for a job that alone meets faults while others are answered, and for one that the
// limiter holds back: a wait ends when the tolerance is used up, and does not spin before.
func TestAJobAloneEndsWhenTheToleranceIsUsedUp(t *testing.T) {
	for name, retry := range map[string]vtclient.Backoff{
		"growing":  vtclient.Exponential{Jitter: 0.5, Max: 30 * time.Second},
		"of 1 s":   vtclient.Constant(time.Second),
		"of 7 s":   vtclient.Constant(7 * time.Second),
		"of 19 s":  vtclient.Constant(19 * time.Second), // the last of 16 tries is made in time
		"of 299 s": vtclient.Constant(299 * time.Second),
	} {
		ends := 5 * time.Minute
		if name == "of 299 s" {
			ends = 15 * 299 * time.Second // of the 16th try
		}
		for _, limited := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				opts := []vtclient.Option{vtclient.WithBreaker(nil), vtclient.WithRetry(retry), vtclient.WithPolling(vtclient.Constant(time.Second))}
				if limited {
					opts = append(opts, vtclient.WithLimiter(&countingLimiter{err: errors.New("closed")}))
				}
				c := stubbed(t, func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == "/status/another" {
						return respond(r, 200, `{"result":"pending"}`), nil
					}
					return respond(r, 503, ""), nil
				}, opts...)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
				defer cancel()
				if !limited {
					go c.Wait(ctx, "another")
				}
				time.Sleep(time.Second / 3)
				start := time.Now()
				_, err := c.Wait(ctx, "j")
				if took := time.Since(start); took != ends || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, vtclient.ErrOutage) == limited {
					t.Errorf("gaps %s, limited: %t: ends after %v, want %v: %v", name, limited, took, ends, err)
				}
			})
		}
	}
}
