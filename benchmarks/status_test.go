package benchmarks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/singleflight"
	"resty.dev/v3"

	"github.com/vtclient/vtclient"
)

// answer is what every contender but vtclient, which has its own type, decodes an
// answer into.
type answer struct {
	Result   string  `json:"result"`
	Message  string  `json:"message"`
	Progress float64 `json:"progress"`
}

var errAnswer = errors.New("not the answer that was sent")

// An asker asks for the status of one job and checks that the answer is "pending".
type asker func(ctx context.Context, id string) error

// read takes the answer apart, as a caller of net/http does.
func read(resp *http.Response) (v answer, err error) {
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return v, err
	}
	if resp.StatusCode != http.StatusOK {
		return v, fmt.Errorf("status %d", resp.StatusCode)
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, err
	}
	if v.Result != "pending" {
		return v, errAnswer
	}
	return v, nil
}

// askers returns everything that can ask for a status at base, through transports
// that newTransport makes, one for each.
func askers(b *testing.B, base string, newTransport func() http.RoundTripper) []struct {
	name string
	make func() asker
} {
	type named = struct {
		name string
		make func() asker
	}
	get := func(ctx context.Context, hc *http.Client, id string, header http.Header) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/status/"+id, nil)
		if err != nil {
			return err
		}
		if header != nil {
			req.Header = header
		}
		resp, err := hc.Do(req)
		if err != nil {
			return err
		}
		_, err = read(resp)
		return err
	}
	plain := func(hc *http.Client) asker {
		return func(ctx context.Context, id string) error { return get(ctx, hc, id, nil) }
	}
	return []named{
		// Everything on, as it is by default. The cache is written and answers
		// nothing: a job comes up again only when 65,535 others have passed.
		{"vtclient", func() asker {
			c, err := vtclient.New(base, vtclient.WithHTTPClient(&http.Client{Transport: newTransport()}))
			if err != nil {
				b.Fatal(err)
			}
			return func(ctx context.Context, id string) error {
				st, err := c.Status(ctx, id)
				if err == nil && (st.State != vtclient.StatePending || st.Cached) {
					err = errAnswer
				}
				return err
			}
		}},
		// The lower bound: no retry, no breaker, no coalescing, no cache, no timeout.
		{"net-http", func() asker { return plain(&http.Client{Transport: newTransport()}) }},
		// The same with what each request of vtclient's has: a timeout and two headers.
		{"net-http-alike", func() asker {
			hc := &http.Client{Transport: newTransport()}
			return func(ctx context.Context, id string) error {
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				return get(ctx, hc, id, http.Header{"Accept": {"application/json"}, "User-Agent": {"vtclient"}})
			}
		}},
		// Retries alone.
		{"retryablehttp", func() asker {
			c := retryablehttp.NewClient()
			c.HTTPClient = &http.Client{Transport: newTransport()}
			c.Logger = nil // two lines a request by default
			return func(ctx context.Context, id string) error {
				req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, base+"/status/"+id, nil)
				if err != nil {
					return err
				}
				resp, err := c.Do(req)
				if err != nil {
					return err
				}
				_, err = read(resp)
				return err
			}
		}},
		// Retries and a breaker.
		{"failsafehttp", func() asker {
			cb := circuitbreaker.NewBuilder[*http.Response]().WithFailureRateThreshold(.5, 20, 30*time.Second).Build()
			rt := failsafehttp.NewRoundTripper(newTransport(), failsafehttp.NewRetryPolicyBuilder().Build(), cb)
			return plain(&http.Client{Transport: rt})
		}},
		// Retries and a breaker; it decodes by itself.
		{"resty", func() asker {
			c := resty.New().SetTransport(newTransport()).SetBaseURL(base).SetRetryCount(4).
				SetCircuitBreaker(resty.NewCircuitBreakerRatio(.5, 20, 30*time.Second))
			return func(ctx context.Context, id string) error {
				var v answer
				resp, err := c.R().SetContext(ctx).SetPathParam("id", id).SetResult(&v).Get("/status/{id}")
				if err == nil && (resp.StatusCode() != http.StatusOK || v.Result != "pending") {
					err = errAnswer
				}
				return err
			}
		}},
		{"assembled", func() asker { return assembled(base, &http.Client{Transport: newTransport()}) }},
	}
}

// assembled is what vtclient's Status does, put together from well-known parts:
// a cache, coalescing, retries, a breaker and a timeout around net/http.
func assembled(base string, hc *http.Client) asker {
	cache := expirable.NewLRU[string, answer](1024, nil, time.Second)
	cb := gobreaker.NewCircuitBreaker[answer](gobreaker.Settings{Interval: 30 * time.Second, BucketPeriod: 3 * time.Second})
	var flights singleflight.Group
	once := func(ctx context.Context, id string) (answer, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/status/"+id, nil)
		if err != nil {
			return answer{}, err
		}
		resp, err := hc.Do(req)
		if err != nil {
			return answer{}, err
		}
		return read(resp)
	}
	return func(ctx context.Context, id string) error {
		if _, ok := cache.Get(id); ok {
			return errAnswer
		}
		_, err, _ := flights.Do(id, func() (any, error) {
			v, err := backoff.Retry(ctx, func() (answer, error) {
				return cb.Execute(func() (answer, error) { return once(ctx, id) })
			}, backoff.WithMaxTries(4))
			if err == nil {
				cache.Add(id, v)
			}
			return v, err
		})
		return err
	}
}

// BenchmarkStatus is one status that no cache can answer, over a stub transport,
// decoding included.
func BenchmarkStatus(b *testing.B) { benchStatus(b, stub{http.StatusOK, pendingBody}) }

// BenchmarkStatusWatched is the same over a stub that listens whether the request is given up.
// vtclient makes the context of a request, with its timer, only when it is asked for.
func BenchmarkStatusWatched(b *testing.B) { benchStatus(b, watching{stub{http.StatusOK, pendingBody}}) }

func benchStatus(b *testing.B, rt http.RoundTripper) {
	const base = "http://backend.invalid"
	ids := names(size(1<<16, 1<<12))
	var cs []contender
	for _, a := range askers(b, base, func() http.RoundTripper { return rt }) {
		cs = append(cs, contender{a.name, func(b *testing.B) {
			ask, ctx := a.make(), b.Context()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := ask(ctx, ids[i%len(ids)]); err != nil {
					b.Fatal(err)
				}
			}
		}})
	}
	compare(b, cs...)
}

// BenchmarkLoopback is the same over HTTP on the loopback interface, from 64
// goroutines at once; the server runs in this process.
func BenchmarkLoopback(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, pendingBody)
	}))
	defer srv.Close()
	tuned := func() http.RoundTripper {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 64, 64
		return t
	}
	ids := names(size(1<<16, 1<<12))
	var cs []contender
	for _, a := range askers(b, srv.URL, tuned) {
		cs = append(cs, contender{a.name, func(b *testing.B) {
			ask, ctx := a.make(), b.Context()
			defer srv.CloseClientConnections()
			var start atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
			// The connections are there before the clock runs: to open 64 of them takes as
			// long as a third of what is measured in a turn.
			var dialled sync.WaitGroup
			for i := range 64 {
				dialled.Go(func() {
					if err := ask(ctx, fmt.Sprint("first-", i)); err != nil {
						b.Error(err)
					}
				})
			}
			dialled.Wait()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for i := int(start.Add(1009)); pb.Next(); i++ {
					if err := ask(ctx, ids[i%len(ids)]); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}})
	}
	compare(b, cs...)
}

// BenchmarkStatusCached is a whole Status of vtclient that the cache answers, beside
// a bare Get of each peer, in caches of 1000 entries with room for 1024.
func BenchmarkStatusCached(b *testing.B) {
	const n = 1000
	ids := names(n)
	cs := []contender{{"vtclient", func(b *testing.B) {
		c, err := vtclient.New("http://backend.invalid",
			vtclient.WithHTTPClient(&http.Client{Transport: stub{http.StatusOK, `{"result":"completed"}`}}))
		if err != nil {
			b.Fatal(err)
		}
		for _, id := range ids {
			if _, err := c.Status(b.Context(), id); err != nil {
				b.Fatal(err)
			}
		}
		s := getLoops(statusGet{c}, store{})
		b.ReportAllocs()
		s.loop(b, ids)
	}}}
	for _, p := range caches() {
		if p.name == "vtclient" {
			continue
		}
		cs = append(cs, contender{p.name, func(b *testing.B) { benchGet(b, p, 1024, ids) }})
	}
	compare(b, cs...)
}
