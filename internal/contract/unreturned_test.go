package contract_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// The error of a wait that ends while the function given to WithFetch has not returned names
// it, with the time since it was called. It does so for the job of that call alone, and
// for no call that has returned.
func TestAFetchThatHasNotReturnedIsNamed(t *testing.T) {
	const named = ", while the function given to WithFetch, called %s before, had not returned"
	type client = vtclient.Client
	expect := func(t *testing.T, err, cause error, after string) {
		t.Helper()
		want := ""
		if after != "" {
			want = strings.Replace(named, "%s", after, 1)
		}
		if !errors.Is(err, cause) || strings.Contains(err.Error(), "WithFetch, called") != (after != "") || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want one that matches %v and has %q", err, cause, want)
		}
	}
	within := func(t *testing.T, d time.Duration) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		t.Cleanup(cancel)
		return ctx
	}
	for _, tt := range []struct {
		rule string
		run  func(t *testing.T, c *client)
	}{
		{"a deadline", func(t *testing.T, c *client) {
			_, err := c.Wait(within(t, time.Minute), "hangs")
			expect(t, err, context.DeadlineExceeded, "1m0s")
		}},
		{"the caller leaves", func(t *testing.T, c *client) {
			gone := errors.New("gone")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(2500*time.Millisecond, func() { cancel(gone) })
			_, err := c.Wait(ctx, "hangs")
			expect(t, err, gone, "2.5s")
			expect(t, err, context.Canceled, "2.5s")
		}},
		{"a Watch", func(t *testing.T, c *client) {
			for _, err := range c.Watch(within(t, time.Minute), "hangs later") {
				if err != nil {
					expect(t, err, context.DeadlineExceeded, "50s") // it is polled after 10 s
				}
			}
		}},
		{"a WaitAll names it for that job alone", func(t *testing.T, c *client) {
			for st, err := range c.WaitAll(within(t, time.Minute), vtclient.Jobs("hangs", "pending")) {
				expect(t, err, context.DeadlineExceeded, map[string]string{"hangs": "1m0s"}[st.JobID])
			}
		}},
		{"a job's own deadline", func(t *testing.T, c *client) {
			jobs := []vtclient.Job{{ID: "hangs", Deadline: time.Now().Add(3 * time.Second)}}
			for _, err := range c.WaitAll(t.Context(), slices.Values(jobs)) {
				expect(t, err, context.DeadlineExceeded, "3s")
			}
		}},
		{"a Status that shares the call", func(t *testing.T, c *client) {
			go c.Status(t.Context(), "hangs")
			synctest.Wait()
			_, err := c.Status(within(t, 4*time.Second), "hangs")
			expect(t, err, context.DeadlineExceeded, "4s")
		}},
		{"the call of another wait, after that wait", func(t *testing.T, c *client) {
			c.Wait(within(t, time.Second), "hangs")
			_, err := c.Wait(within(t, 2*time.Second), "pending")
			expect(t, err, context.DeadlineExceeded, "")
			_, err = c.Wait(within(t, 4*time.Second), "hangs") // one more call
			expect(t, err, context.DeadlineExceeded, "7s")
		}},
		{"calls that have returned", func(t *testing.T, c *client) {
			_, err := c.Wait(within(t, 5*time.Second), "pending")
			expect(t, err, context.DeadlineExceeded, "")
			_, err = c.Wait(within(t, 5*time.Second), "fails")
			expect(t, err, context.DeadlineExceeded, "")
		}},
		{"a job that queues behind it", func(t *testing.T, c *client) {
			for range 3 { // WithMaxInFlight
				go c.Wait(t.Context(), "hangs")
			}
			synctest.Wait()
			go c.Status(t.Context(), "hangs too")
			go c.Status(t.Context(), "hangs as well")
			synctest.Wait()
			_, err := c.Wait(within(t, 5*time.Second), "pending")
			expect(t, err, context.DeadlineExceeded, "")
		}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				asked := map[string]int{}
				c, err := vtclient.New("", vtclient.WithMaxInFlight(3), vtclient.WithPolling(vtclient.Constant(10*time.Second)),
					vtclient.WithCache(nil), vtclient.WithFetch(func(ctx context.Context, id string) (vtclient.Status, error) {
						if id == "hangs later" {
							asked[id]++
						}
						if strings.HasPrefix(id, "hangs") && !(id == "hangs later" && asked[id] == 1) {
							<-release // whatever becomes of ctx
						}
						if id == "fails" {
							return vtclient.Status{}, errors.New("no")
						}
						return vtclient.Status{State: vtclient.StatePending}, nil
					}))
				if err != nil {
					t.Fatal(err)
				}
				tt.run(t, c)
				close(release)
			})
		})
	}
	t.Run("not over HTTP", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := stubbed(t, func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() })
			_, err := c.Wait(within(t, 5*time.Second), "j")
			expect(t, err, context.DeadlineExceeded, "")
		})
	})
}
