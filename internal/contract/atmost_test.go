package contract_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// limitedAPI is a backend on which jobs run, each for its time from when it was submitted.
type limitedAPI struct {
	mu      sync.Mutex
	ends    map[string]time.Time
	peak    int // jobs that ran at once
	faults  int // every so many requests is a fault; 0: none
	failing bool
	n       int
}

// submit begins a job.
func (b *limitedAPI) submit(id string, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, running := time.Now(), 1
	for _, end := range b.ends {
		if end.After(now) {
			running++
		}
	}
	b.peak = max(b.peak, running)
	if _, ok := b.ends[id]; !ok {
		b.ends[id] = now.Add(d)
	}
}

func (b *limitedAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n++
	end := b.ends[path.Base(r.URL.Path)]
	switch {
	case b.faults > 0 && b.n%b.faults == 0:
		return respond(r, 503, `{}`), nil
	case end.IsZero():
		return respond(r, 404, `{}`), nil
	case time.Now().Before(end):
		return respond(r, 200, `{"result":"pending"}`), nil
	case b.failing:
		return respond(r, 200, `{"result":"error"}`), nil
	}
	return respond(r, 200, `{"result":"completed"}`), nil
}

// Never more than n jobs are unfinished, whatever happens to them, and n are as long as
// there are so many.
func TestAtMostSoManyAreUnfinished(t *testing.T) {
	const jobs, each = 100, 20 * time.Second
	slow := cacheFuncs{func(string) (vtclient.Status, bool, error) {
		time.Sleep(50 * time.Millisecond)
		return vtclient.Status{}, false, nil
	}, func(string, vtclient.Status) error { return nil }}
	for _, tt := range []struct {
		name    string
		api     *limitedAPI
		atMost  int
		consume time.Duration
		opts    []vtclient.Option
		id      func(i int) string
		within  time.Duration
	}{
		{name: "ten", atMost: 10, within: 250 * time.Second},
		{name: "one", atMost: 1, within: 2500 * time.Second},
		{name: "more than there are", atMost: 1000, within: 30 * time.Second},
		{name: "with faults", atMost: 10, api: &limitedAPI{faults: 3}, within: 400 * time.Second},
		{name: "that fail", atMost: 10, api: &limitedAPI{failing: true}, within: 250 * time.Second},
		{name: "a slow consumer", atMost: 10, consume: 5 * time.Second, within: 600 * time.Second},
		{name: "a foreign cache", atMost: 10, opts: []vtclient.Option{vtclient.WithCache(slow)}, within: 300 * time.Second},
		{name: "ids given twice", atMost: 10, id: func(i int) string { return fmt.Sprint(i / 2) }, within: 250 * time.Second},
		{name: "ids that cannot be asked about among them", atMost: 10, id: func(i int) string {
			if i%2 == 0 {
				return strings.Repeat("x", 3000)
			}
			return fmt.Sprint(i)
		}, within: 130 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := tt.api
				if api == nil {
					api = new(limitedAPI)
				}
				api.ends = map[string]time.Time{}
				c := stubbed(t, api.RoundTrip, append([]vtclient.Option{vtclient.WithPolling(vtclient.Constant(time.Second)), vtclient.WithBreaker(nil),
					vtclient.WithRetry(vtclient.Constant(time.Second)), vtclient.WithCache(nil)}, tt.opts...)...)
				began := time.Now()
				read := map[string]int{}
				sequence := func(yield func(vtclient.Job) bool) {
					for i := range jobs {
						id := fmt.Sprint(i)
						if tt.id != nil {
							id = tt.id(i)
						}
						read[id]++
						if len(id) < 100 {
							api.submit(id, each)
						}
						if !yield(vtclient.Job{ID: id}) {
							return
						}
					}
				}
				got := map[string]int{}
				for st := range c.WaitAll(t.Context(), sequence, vtclient.AtMost(tt.atMost)) {
					got[st.JobID]++
					time.Sleep(tt.consume)
				}
				if fmt.Sprint(got) != fmt.Sprint(read) {
					t.Errorf("read %v, yielded %v", read, got)
				}
				if took := time.Since(began); api.peak > tt.atMost || took > tt.within {
					t.Errorf("%d at once, all after %v", api.peak, took)
				}
			})
		})
	}
}

// Leaving the loop, and the end of the context, end the reading.
func TestAtMostEndsWithTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &limitedAPI{ends: map[string]time.Time{}}
		c := stubbed(t, api.RoundTrip, vtclient.WithPolling(vtclient.Constant(time.Second)))
		over := 0
		endless := func(yield func(vtclient.Job) bool) {
			defer func() { over++ }()
			for i := 0; ; i++ {
				id := fmt.Sprint(i)
				api.submit(id, time.Duration(i+1)*time.Minute)
				if !yield(vtclient.Job{ID: id}) {
					return
				}
			}
		}
		for range c.WaitAll(t.Context(), endless, vtclient.AtMost(3)) {
			break
		}
		synctest.Wait()
		if over != 1 || len(api.ends) > 4 {
			t.Errorf("ended %d times, %d jobs read", over, len(api.ends))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		began, yielded := time.Now(), 0
		for _, err := range c.WaitAll(ctx, endless, vtclient.AtMost(3)) {
			if yielded++; err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		if took := time.Since(began); took > 92*time.Second || yielded < 3 {
			t.Errorf("%d after %v", yielded, took)
		}
	})
}

func TestAtMostIsRefused(t *testing.T) {
	c := stubbed(t, func(*http.Request) (*http.Response, error) { t.Error("sent"); return nil, errors.New("") })
	refused := func(what string, err error) {
		t.Helper()
		if bad := new(vtclient.ArgumentError); !errors.As(err, &bad) || !strings.Contains(err.Error(), what) {
			t.Error(err)
		}
	}
	_, err := c.Wait(t.Context(), "j", vtclient.AtMost(3))
	refused("an option of WaitAll", err)
	for _, err := range c.Watch(t.Context(), "j", vtclient.AtMost(3)) {
		refused("an option of WaitAll", err)
	}
	for _, n := range []int{0, -1} {
		for _, err := range c.WaitAll(t.Context(), vtclient.Jobs("j"), vtclient.AtMost(n)) {
			refused("a number of 1 or more", err)
		}
	}
}
