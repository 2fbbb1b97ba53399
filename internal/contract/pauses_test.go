package contract_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// Property 57: with the default settings a Status returns within 10 s and one timeout, whatever
// pauses the server asks for and however they add up with what holds the client; and the
// pause is in its error.
func TestAStatusIsOneLook(t *testing.T) {
	const timeout = 10 * time.Second
	pauses := func(code int, seconds ...int) func(n int) (int, string) {
		return func(n int) (int, string) { return code, fmt.Sprint(seconds[min(n, len(seconds)-1)]) }
	}
	for name, tt := range map[string]struct {
		answer func(n int) (code int, retryAfter string)
		takes  time.Duration // each answer
		opts   []vtclient.Option
	}{
		"9 min, again and again":              {pauses(429, 540), 0, nil},
		"a pause that just fits, and more":    {pauses(429, 9), 0, nil},
		"many small ones":                     {pauses(429, 1), 0, []vtclient.Option{vtclient.WithRetry(vtclient.Constant(time.Millisecond))}},
		"many small ones of a 503":            {pauses(503, 1), 0, []vtclient.Option{vtclient.WithBreaker(nil), vtclient.WithRetry(vtclient.Exponential{Base: time.Millisecond, Limit: 1000})}},
		"of a 403":                            {pauses(403, 3), 0, nil},
		"of answers that cannot be read":      {pauses(200, 3), 0, nil},
		"growing ones":                        {pauses(429, 1, 2, 4, 8, 16), 0, nil},
		"of a slow server":                    {pauses(503, 1), 9 * time.Second, nil},
		"of a server nearly too slow":         {pauses(429, 3), timeout - 1, nil},
		"above WithMaxRetryAfter":             {pauses(429, 3600), 0, nil},
		"above a WithMaxRetryAfter of a day":  {pauses(429, 3600), 0, []vtclient.Option{vtclient.WithMaxRetryAfter(24 * time.Hour)}},
		"with a Limit of one":                 {pauses(503, 60), 0, []vtclient.Option{once()}},
		"with a Limit of a million":           {pauses(429, 2), 0, []vtclient.Option{vtclient.WithRetry(vtclient.Exponential{Base: time.Millisecond, Limit: 1_000_000})}},
		"of a server that is slow, then full": {pauses(429, 0, 0, 5), 4 * time.Second, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				code, pause := tt.answer(n)
				n++
				time.Sleep(tt.takes)
				return respond(r, code, "oops", "Retry-After: "+pause), nil
			}, tt.opts...)
			start := time.Now()
			_, err := c.Status(t.Context(), "j")
			var h *vtclient.HTTPError
			var d *vtclient.DecodeError
			if took := time.Since(start); took > 10*time.Second+timeout || !errors.As(err, &h) && !errors.As(err, &d) {
				t.Errorf("%s: after %v: %v", name, took, err)
			}
			if h != nil && h.RetryAfter == 0 || d != nil && d.RetryAfter == 0 {
				t.Errorf("%s: no pause in %v", name, err)
			}
		})
	}
}

// The same where what other calls and waits meet holds the client, for one job and for many,
// alone and in shared requests. None comes back in the same instant as the others.
func TestAStatusIsOneLookBesideOthers(t *testing.T) {
	for _, shared := range []bool{false, true} {
		for _, ids := range []int{1, 20, 3000} {
			t.Run(fmt.Sprint(shared, ids), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var mu sync.Mutex
					at := map[time.Duration]int{}
					start := time.Now()
					r := rand.New(rand.NewPCG(1, 2))
					reply := func(req *http.Request) (*http.Response, error) {
						mu.Lock()
						defer mu.Unlock()
						d := time.Since(start)
						if at[d]++; d < time.Minute {
							return respond(req, 429, "", fmt.Sprint("Retry-After: ", 1+r.IntN(4))), nil
						}
						return respond(req, 200, `{"result":"completed"}`), nil
					}
					opts := []vtclient.Option{vtclient.WithRetry(vtclient.Exponential{Limit: 100, Base: time.Millisecond})}
					if shared {
						opts = append(opts, vtclient.WithEndpoint(bulkEndpoint()))
					}
					c := stubbed(t, reply, opts...)
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
					defer cancel()
					var wg sync.WaitGroup
					wg.Go(func() {
						for range c.WaitAll(ctx, vtclient.Jobs(jobIDs(100)...)) {
						}
					})
					for i := range 3000 {
						wg.Go(func() {
							began := time.Now()
							_, err := c.Status(t.Context(), fmt.Sprint(i%ids))
							var h *vtclient.HTTPError
							if took := time.Since(began); took > 20*time.Second || !errors.As(err, &h) || h.RetryAfter == 0 {
								t.Errorf("after %v: %v", took, err)
							}
						})
					}
					wg.Wait()
					delete(at, 0)
					for d, n := range at {
						if n > 20 {
							t.Errorf("%d requests in one instant, at %v", n, d)
						}
					}
				})
			})
		}
	}
}

func jobIDs(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint("job-", i))
	}
	return ids
}

// More calls than fit into the time that is left come back spread over all of it.
func TestACrowdTooLargeForItsTimeIsSpreadOverIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10_000
		var mu sync.Mutex
		at := map[time.Duration]int{}
		start := time.Now()
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			d := time.Since(start)
			mu.Lock()
			at[d]++
			mu.Unlock()
			if d < 9*time.Second {
				return respond(r, 429, "", "Retry-After: 9"), nil
			}
			return respond(r, 200, `{"result":"pending"}`), nil
		}, vtclient.WithMaxInFlight(n))
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				if _, err := c.Status(t.Context(), fmt.Sprint(i)); err != nil || time.Since(start) > 10*time.Second {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
			})
		}
		wg.Wait()
		delete(at, 0)
		for d, n := range at {
			if n > 10 {
				t.Errorf("%d requests in one instant, at %v", n, d)
			}
		}
	})
}

// Delays of the caller's own are the caller's: WithRetry may lead beyond the 10 s.
func TestACallersOwnDelaysAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			if n++; n < 3 {
				return respond(r, 503, "", "Retry-After: 5"), nil
			}
			return respond(r, 200, `{"result":"pending"}`), nil
		}, vtclient.WithRetry(vtclient.Constant(30*time.Second)))
		start := time.Now()
		if _, err := c.Status(t.Context(), "j"); err != nil || time.Since(start) != time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

// pauseOn is the pause that a client takes from the headers of an answer; negative: the answer
// is final, or a 429 or 503 without any.
func pauseOn(t *testing.T, code int, header ...string) time.Duration {
	t.Helper()
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, code, "", header...), nil }, once())
	_, err := c.Status(t.Context(), "j")
	var h *vtclient.HTTPError
	if !errors.As(err, &h) {
		t.Fatal(err)
	}
	return h.RetryAfter
}

const year = 365 * 24 * time.Hour

// Property 58: Date corrects Retry-After only where it can be right.
func TestWhereDateCorrectsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which begins at 2000-01-01T00:00:00Z
		const in30 = "Retry-After: Sat, 01 Jan 2000 00:00:30 GMT"
		for name, tt := range map[string]struct {
			header []string
			want   time.Duration
		}{
			"a server an hour ahead":               {[]string{"Retry-After: Sat, 01 Jan 2000 01:00:30 GMT", "Date: Sat, 01 Jan 2000 01:00:00 GMT"}, 30 * time.Second},
			"an hour behind":                       {[]string{"Retry-After: Fri, 31 Dec 1999 23:00:30 GMT", "Date: Fri, 31 Dec 1999 23:00:00 GMT"}, 30 * time.Second},
			"a day ahead":                          {[]string{"Retry-After: Sun, 02 Jan 2000 00:00:30 GMT", "Date: Sun, 02 Jan 2000 00:00:00 GMT"}, 30 * time.Second},
			"the other forms of a date":            {[]string{"Retry-After: Saturday, 01-Jan-00 01:00:30 GMT", "Date: Sat Jan  1 01:00:00 2000"}, 30 * time.Second},
			"from a cache, an hour old":            {[]string{in30, "Date: Fri, 31 Dec 1999 23:00:00 GMT", "Age: 3600"}, 30 * time.Second},
			"from a cache, fresh":                  {[]string{in30, "Date: Fri, 31 Dec 1999 23:59:00 GMT", "Age: 0"}, 30 * time.Second},
			"from a cache whose age is none":       {[]string{in30, "Date: Fri, 31 Dec 1999 23:59:00 GMT", "Age: old"}, 30 * time.Second},
			"years behind":                         {[]string{in30, "Date: Mon, 01 Jan 1990 00:00:00 GMT"}, 30 * time.Second},
			"since the beginning of time":          {[]string{in30, "Date: Thu, 01 Jan 1970 00:00:00 GMT"}, 30 * time.Second},
			"in the year 0":                        {[]string{in30, "Date: Sat, 01 Jan 0000 00:00:00 GMT"}, 30 * time.Second},
			"years ahead":                          {[]string{in30, "Date: Wed, 01 Jan 2020 00:00:00 GMT"}, 30 * time.Second},
			"in the year 9999":                     {[]string{in30, "Date: Fri, 31 Dec 9999 23:59:59 GMT"}, 30 * time.Second},
			"months behind":                        {[]string{in30, "Date: Fri, 01 Oct 1999 00:00:00 GMT"}, 30 * time.Second},
			"a date that is none":                  {[]string{in30, "Date: yesterday"}, 30 * time.Second},
			"seconds need no correction":           {[]string{"Retry-After: 30", "Date: Fri, 31 Dec 1999 23:00:00 GMT"}, 30 * time.Second},
			"a reset since 1970 is corrected, too": {[]string{"X-RateLimit-Reset: 946688430", "Date: Sat, 01 Jan 2000 01:00:00 GMT"}, 30 * time.Second},
			"but not beside an age":                {[]string{"X-RateLimit-Reset: 946684830", "Date: Fri, 31 Dec 1999 23:00:00 GMT", "Age: 9"}, 30 * time.Second},
			"nor from years away":                  {[]string{"X-RateLimit-Reset: 946684830", "Date: Mon, 01 Jan 1990 00:00:00 GMT"}, 30 * time.Second},
		} {
			if got := pauseOn(t, 429, tt.header...); got != tt.want {
				t.Errorf("%s: %v, want %v", name, got, tt.want)
			}
		}
	})
}

// Property 59: pauses in the other headers that servers use are obeyed, within the same bounds.
func TestPausesInOtherHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which begins at 946684800 s
		for _, tt := range []struct {
			header []string
			want   time.Duration
			only   bool // on a 429
		}{
			{[]string{"Retry-After-Ms: 1500"}, 1500 * time.Millisecond, false},
			{[]string{"Retry-After-Ms: 1500.25"}, 1500*time.Millisecond + 250*time.Microsecond, false},
			{[]string{"Retry-After-Ms: 0"}, 0, false},
			{[]string{"X-Ms-Retry-After-Ms: 250"}, 250 * time.Millisecond, false},
			{[]string{"retry-after-ms: 250"}, 250 * time.Millisecond, false},
			{[]string{"Retry-After-Ms: 700", "Retry-After: 1"}, 700 * time.Millisecond, false},
			{[]string{"Retry-After-Ms: junk", "Retry-After: 1"}, time.Second, false},
			{[]string{"Retry-After-Ms: -5", "X-Ms-Retry-After-Ms: 5"}, 5 * time.Millisecond, false},
			{[]string{"Retry-After-Ms: 9223372036854775807"}, 10 * year, false},
			{[]string{"Retry-After-Ms: 99999999999999999999999999"}, 10 * year, false},
			{[]string{"Retry-After-Ms: "}, 0, false},
			{[]string{"Retry-After-Ms: 1e3"}, 0, false},
			{[]string{"Retry-After-Ms: Inf"}, 0, false},
			{[]string{"Retry-After-Ms: .5"}, 0, false},

			{[]string{`RateLimit: "default";r=0;t=30`}, 30 * time.Second, true},
			{[]string{`RateLimit: "default";t=30;r=0`}, 30 * time.Second, true},
			{[]string{`RateLimit: "default"; r=0; t=30; pk=:cHNsZg==:`}, 30 * time.Second, true},
			{[]string{`RateLimit: default;r=0;t=30`}, 30 * time.Second, true},
			{[]string{`RateLimit: "burst";r=0;t=5, "day";r=900;t=3600`}, 5 * time.Second, true},
			{[]string{`RateLimit: "burst";r=3;t=5, "day";r=0;t=3600`}, time.Hour, true},
			{[]string{`RateLimit: "a";r=0;t=5, "b";r=0;t=7`}, 7 * time.Second, true},
			{[]string{`RateLimit: "a";r=3;t=50`, `RateLimit: "b";r=0;t=7`}, 7 * time.Second, true},
			{[]string{`RateLimit: "a, b; t=9";r=0;t=7`}, 7 * time.Second, true},
			{[]string{`RateLimit: limit=100, remaining=0, reset=30`}, 30 * time.Second, true},
			{[]string{`RateLimit: limit=100,remaining=0,reset=30`}, 30 * time.Second, true},
			{[]string{`RateLimit: reset=30`}, 30 * time.Second, true},
			{[]string{`X-RateLimit: limit=100, remaining=0, reset=30`}, 30 * time.Second, true},
			{[]string{`RateLimit: "default";r=0`}, 0, true},
			{[]string{`RateLimit: "default";r=0;t=-3`}, 0, true},
			{[]string{`RateLimit: `}, 0, true},

			{[]string{"RateLimit-Reset: 30"}, 30 * time.Second, true},
			{[]string{"RateLimit-Reset: 0.5"}, 500 * time.Millisecond, true},
			{[]string{"RateLimit-Limit: 100", "RateLimit-Remaining: 0", "RateLimit-Reset: 30"}, 30 * time.Second, true},
			{[]string{"X-RateLimit-Reset: 30"}, 30 * time.Second, true},
			{[]string{"X-Rate-Limit-Reset: 30"}, 30 * time.Second, true},
			{[]string{"x-ratelimit-reset: 30"}, 30 * time.Second, true},
			{[]string{"X-RateLimit-Reset-After: 1.5"}, 1500 * time.Millisecond, true},
			{[]string{"RateLimit-Reset: 946684830"}, 30 * time.Second, true},
			{[]string{"X-RateLimit-Reset: 946684830"}, 30 * time.Second, true},
			{[]string{"X-Rate-Limit-Reset: 946684830"}, 30 * time.Second, true},
			{[]string{"X-RateLimit-Reset: 946684830.123"}, 30*time.Second + 123*time.Millisecond, true},
			{[]string{"X-RateLimit-Reset: 946684830000"}, 30 * time.Second, true},
			{[]string{"X-RateLimit-Reset: 946684800"}, 0, true},
			{[]string{"X-RateLimit-Reset: 946680000"}, 0, true},
			{[]string{"X-RateLimit-Reset: 946681200000"}, 0, true},
			{[]string{"X-RateLimit-Reset: 99999999999"}, 10 * year, true},
			{[]string{"X-RateLimit-Reset: 9223372036854775807"}, 10 * year, true},
			{[]string{"X-RateLimit-Reset: 99999999999999999999999999"}, 10 * year, true},
			{[]string{"X-RateLimit-Reset: -30"}, 0, true},
			{[]string{"X-RateLimit-Reset: soon"}, 0, true},
			{[]string{"X-RateLimit-Reset: Sat, 01 Jan 2000 00:00:30 GMT"}, 30 * time.Second, true},
			{[]string{"X-RateLimit-Reset: 2000-01-01T00:00:30Z"}, 30 * time.Second, true},
			{[]string{"X-Rate-Limit-Reset: 2000-01-01T02:00:30.5+02:00"}, 30*time.Second + 500*time.Millisecond, true},
			{[]string{"RateLimit-Reset: 1999-12-31T00:00:00Z"}, 0, true},
			{[]string{"RateLimit-Reset: 9999-12-31T00:00:00Z"}, 10 * year, true},
			{[]string{"RateLimit-Reset: 2000-13-01T00:00:00Z"}, 0, true},
			{[]string{"X-RateLimit-Remaining: 12", "X-RateLimit-Reset: 30"}, 0, true}, // it is another limit
			{[]string{"X-RateLimit-Remaining: 12", "X-RateLimit-Reset: 30", "X-Rate-Limit-Reset: 7"}, 7 * time.Second, true},

			{[]string{"Retry-After: 2", "RateLimit-Reset: 30", `RateLimit: "default";r=0;t=40`}, 2 * time.Second, false},
			{[]string{"Retry-After: 0", "RateLimit-Reset: 30"}, 0, false},
			{[]string{"Retry-After: junk", "RateLimit-Reset: 30"}, 30 * time.Second, true},
			{[]string{`RateLimit: "default";r=0;t=40`, "RateLimit-Reset: 30"}, 40 * time.Second, true},
		} {
			if got := pauseOn(t, 429, tt.header...); got != tt.want {
				t.Errorf("%q: %v, want %v", tt.header, got, tt.want)
			}
			want := tt.want
			if tt.only {
				want = 0
			}
			if got := pauseOn(t, 503, tt.header...); got != want {
				t.Errorf("%q on a 503: %v, want %v", tt.header, got, want)
			}
		}
	})
}

// They are under the bounds of all pauses: never sooner, never above WithMaxRetryAfter, a 429's
// holds the client, and each answer's own counts.
func TestPausesInOtherHeadersAreBounded(t *testing.T) {
	for _, tt := range []struct {
		code   int
		header string
		next   []time.Duration // requests of a wait; the last one is the end
	}{
		{503, "Retry-After-Ms: 20500", []time.Duration{0, 20500 * time.Millisecond}},
		{429, "X-Ms-Retry-After-Ms: 20500", []time.Duration{0, 20500 * time.Millisecond}},
		{429, `RateLimit: "default";r=0;t=20`, []time.Duration{0, 20 * time.Second}},
		{429, "X-RateLimit-Reset: 946684820", []time.Duration{0, 20 * time.Second}},
		{429, "X-RateLimit-Reset: 3600", []time.Duration{0}},
		{503, "Retry-After-Ms: 600001", []time.Duration{0}},
		{503, "X-RateLimit-Reset: 20", []time.Duration{0, time.Second}},
		{200, "Retry-After-Ms: 20500", []time.Duration{0, 20500 * time.Millisecond}},
		{200, "Retry-After-Ms: 86400000", []time.Duration{0, 10 * time.Minute}},
		{200, "X-RateLimit-Reset: 20", []time.Duration{0, 2 * time.Second}},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			var at []time.Duration
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				if at = append(at, time.Since(start)); len(at) == 1 {
					return respond(r, tt.code, `{"result":"pending"}`, tt.header), nil
				}
				return respond(r, 200, `{"result":"completed"}`), nil
			}, vtclient.WithRetry(vtclient.Constant(time.Second)), vtclient.WithPolling(vtclient.Constant(2*time.Second)))
			_, err := c.Wait(t.Context(), "j")
			if !slices.Equal(at, tt.next) || (err == nil) != (len(tt.next) == 2) || err != nil && !errors.Is(err, vtclient.ErrRetryAfter) {
				t.Errorf("%d, %s: requests at %v, want %v; %v", tt.code, tt.header, at, tt.next, err)
			}
		})
	}
}

// Pauses without an answer between them are obeyed for an hour in all, or for as long as one may
// be, before the first answer for the latter. Beyond that they use the tolerance up.
func TestPausesWithoutEndEndAWait(t *testing.T) {
	const m = time.Minute
	for _, tt := range []struct {
		name  string
		code  int
		pause string
		early bool
		opts  []vtclient.Option
		ends  time.Duration
	}{
		{"of a 503", 503, "60", false, nil, 65 * m},
		{"of 1 s", 503, "1", false, nil, 65 * m},
		{"that last beyond the end", 503, "420", false, nil, 65 * m},
		{"of a 429", 429, "60", false, nil, 65 * m},
		{"of a 401", 401, "60", false, nil, 65 * m},
		{"of a 403", 403, "60", false, nil, 65 * m},
		{"of an unreadable answer", 200, "60", false, nil, 65 * m},
		{"with a breaker", 503, "60", false, []vtclient.Option{vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{}))}, 65 * m},
		{"with a tolerance of 20 min", 503, "60", false, []vtclient.Option{vtclient.WithOutageTolerance(20 * m)}, 80 * m},
		{"with a tolerance of 5 s", 503, "60", false, []vtclient.Option{vtclient.WithOutageTolerance(5 * time.Second)}, 60*m + 5*time.Second},
		{"as long as one may be", 503, "7200", false, []vtclient.Option{vtclient.WithMaxRetryAfter(2 * time.Hour)}, 125 * m},
		{"before the first answer", 503, "60", true, nil, 10*m + 30*time.Second},
		{"of a 403, before the first answer", 403, "90", true, nil, 10*m + 30*time.Second},
		{"of a 429, before the first answer", 429, "60", true, nil, 10*m + 30*time.Second},
		{"of a minute at most, before the first answer", 503, "60", true, []vtclient.Option{vtclient.WithMaxRetryAfter(m)}, m + 30*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := stubbed(t, func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == "/status/another" {
						return respond(r, 200, `{"result":"pending"}`), nil
					}
					return respond(r, tt.code, "oops", "Retry-After: "+tt.pause), nil
				}, append([]vtclient.Option{vtclient.WithRetry(vtclient.Constant(time.Second)), vtclient.WithBreaker(nil)}, tt.opts...)...)
				if !tt.early {
					c.Status(t.Context(), "another")
				}
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
				defer cancel()
				_, err := c.Wait(ctx, "j")
				// Behind a breaker, requests come later than the pauses end.
				if took := time.Since(start); !errors.Is(err, vtclient.ErrOutage) || took > tt.ends || took < tt.ends-tt.ends/20 {
					t.Errorf("ends after %v, want %v: %v", took, tt.ends, err)
				}
			})
		})
	}
	// While other jobs are answered, a job that alone meets pauses has 16 tries.
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			switch d := time.Since(start); {
			case d >= 4*time.Hour:
				return respond(r, 200, `{"result":"completed"}`), nil
			case r.URL.Path == "/status/another":
				return respond(r, 200, `{"result":"pending"}`), nil
			}
			return respond(r, 503, "", "Retry-After: 590"), nil
		}, vtclient.WithBreaker(nil), vtclient.WithPolling(vtclient.Constant(30*time.Minute)))
		for st, err := range c.WaitAll(t.Context(), vtclient.Jobs("j", "another")) {
			took, alone := time.Since(start), st.JobID == "j"
			if errors.Is(err, vtclient.ErrOutage) != alone || alone && (took < 15*590*time.Second || took > 16*590*time.Second) {
				t.Errorf("%s after %v: %v", st.JobID, took, err)
			}
		}
	})
}

// pauseFor returns what a client makes of a Retry-After header, in virtual time.
func pauseFor(t *testing.T, header ...string) time.Duration {
	t.Helper()
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 404, "", header...), nil }, once())
	_, err := c.Status(t.Context(), "j")
	var h *vtclient.HTTPError
	if !errors.As(err, &h) {
		t.Fatal(err)
	}
	return h.RetryAfter
}

// Property 7: seconds and all three HTTP dates; a past date is zero; junk,
// negative and decimal values fall back; what overflows is not negative.
func TestRetryAfterForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which begins at 2000-01-01T00:00:00Z
		const years = 10 * 365 * 24 * time.Hour
		for _, tt := range []struct {
			value, date string
			want        time.Duration
		}{
			{"0", "", 0},
			{"120", "", 2 * time.Minute},
			{"007", "", 7 * time.Second},
			{"Sat, 01 Jan 2000 00:01:30 GMT", "", 90 * time.Second},
			{"Saturday, 01-Jan-00 00:01:30 GMT", "", 90 * time.Second},
			{"Sat Jan  1 00:01:30 2000", "", 90 * time.Second},
			{"Fri, 31 Dec 1999 23:59:59 GMT", "", 0},
			{"Sat, 01 Jan 2000 00:00:00 GMT", "", 0},
			{"Fri, 31 Dec 9999 23:59:59 GMT", "", years},
			// The server's clock is an hour fast, an hour slow, or unreadable.
			{"Sat, 01 Jan 2000 01:00:30 GMT", "Sat, 01 Jan 2000 01:00:00 GMT", 30 * time.Second},
			{"Fri, 31 Dec 1999 23:00:30 GMT", "Fri, 31 Dec 1999 23:00:00 GMT", 30 * time.Second},
			{"Sat, 01 Jan 2000 00:00:30 GMT", "today", 30 * time.Second},
			{"", "", 0}, {"soon", "", 0}, {"-1", "", 0}, {"+5", "", 0}, {"1.5", "", 0}, {"1e3", "", 0}, {"5s", "", 0}, {"5, 6", "", 0}, {"٣", "", 0},
			{"Sat, 32 Jan 2000 00:00:30 GMT", "", 0},
			{"315359999", "", years - time.Second},
			{"315360000", "", years},
			{"922337203", "", years},
			{"9223372036", "", years},
			{"9223372037", "", years}, // the first whose nanoseconds overflow
			{"9223372039", "", years},
			{"18446744073709551616", "", years},
			{strings.Repeat("9", 1000), "", years},
		} {
			header := []string{"Retry-After: " + tt.value}
			if tt.date != "" {
				header = append(header, "Date: "+tt.date)
			}
			if got := pauseFor(t, header...); got != tt.want {
				t.Errorf("%.40q at %q: %v, want %v", tt.value, tt.date, got, tt.want)
			}
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, v := range []string{"0", "1", "-1", "9223372037", "99999999999999999999", "1.5", "Sat, 01 Jan 2000 00:01:30 GMT", "Saturday, 01-Jan-00 00:01:30 GMT", "Sat Jan  1 00:01:30 2000", "", "x"} {
		f.Add(v, "")
		f.Add(v, "Sat, 01 Jan 2000 00:00:00 GMT")
	}
	var header http.Header
	c, err := vtclient.New("http://h", vtclient.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
		resp := respond(r, 404, "")
		resp.Header = header
		return resp, nil
	})}), once())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		header = http.Header{"Retry-After": {value}, "Date": {date}}
		_, err := c.Status(context.Background(), "j")
		var h *vtclient.HTTPError
		if !errors.As(err, &h) || h.RetryAfter < 0 || h.RetryAfter > 10*365*24*time.Hour {
			t.Fatalf("%q at %q: %v", value, date, err)
		}
		if h.RetryAfter > 0 && strings.Trim(value, "0123456789") != "" {
			if _, err := http.ParseTime(value); err != nil {
				t.Errorf("%q is no pause, and was taken for %v", value, h.RetryAfter)
			}
		}
	})
}

// Properties 6 and 8: never above the bound and never sooner than asked.
func TestRetryAfterOnAFaultIsAFloorWithinTheBound(t *testing.T) {
	for _, tt := range []struct {
		seconds int
		bound   time.Duration
		want    time.Duration // from the first request to the second; 0: none is made
	}{{5, time.Minute, 5 * time.Second}, {9, 9 * time.Second, 9 * time.Second}, {61, time.Minute, 0}, {1, time.Minute, 2 * time.Second}} {
		for _, code := range []int{429, 503} {
			synctest.Test(t, func(t *testing.T) {
				s := testserver.StartInMemory(t, testserver.Reply(code, "", fmt.Sprintf("Retry-After: %d", tt.seconds)), testserver.Pending())
				c := clientFor(t, s, vtclient.WithMaxRetryAfter(tt.bound),
					vtclient.WithRetry(vtclient.Exponential{Base: 4 * time.Second, Max: 4 * time.Second, Jitter: 0.5, Limit: 2}))
				start := time.Now()
				_, err := c.Status(t.Context(), "j")
				got := s.Requests()
				if tt.want == 0 {
					var h *vtclient.HTTPError
					if !errors.Is(err, vtclient.ErrRetryAfter) || !errors.As(err, &h) || h.RetryAfter != 61*time.Second || len(got) != 1 || time.Since(start) > 0 {
						t.Errorf("%d: %v, %d requests", code, err, len(got))
					}
					return
				}
				if err != nil || len(got) != 2 || got[1].Time.Sub(got[0].Time) < tt.want || got[1].Time.Sub(got[0].Time) > max(tt.want, 4*time.Second) {
					t.Errorf("%d, %d s: %v, %v", code, tt.seconds, err, got)
				}
			})
		}
	}
}

// The pause that comes with an unreadable answer is kept, too.
func TestAPauseBesideAnUnreadableAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Reply(200, "<html>", "Retry-After: 9"), testserver.Completed())
		c := clientFor(t, s, every(time.Second, 3))
		start := time.Now()
		if _, err := c.Status(t.Context(), "j"); err != nil || time.Since(start) != 9*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A pause of seconds beyond ten years is ten years.
func TestAPauseOfElevenYears(t *testing.T) {
	if got := pauseFor(t, "Retry-After: 346896000"); got != 10*365*24*time.Hour {
		t.Error(got)
	}
}
