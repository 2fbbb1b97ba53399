package contract_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
)

// stub answers every request without a network.
type stub struct{ body string }

func (s stub) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(strings.NewReader(s.body)),
		ContentLength: int64(len(s.body)),
		Request:       r,
	}, nil
}

// BenchmarkStatus measures one whole Status over a stub transport, with retry,
// breaker, coalescing, cache write and decoding on, beside what a caller
// would write with net/http and encoding/json alone.
func BenchmarkStatus(b *testing.B) {
	const base = "http://backend.invalid"
	hc := &http.Client{Transport: stub{`{"result":"pending","message":"","progress":0.5}`}}
	// More ids than are asked for within the TTL, so that the cache answers none.
	ids := make([]string, 1<<16)
	for i := range ids {
		ids[i] = "job-" + strconv.Itoa(i)
	}
	b.Run("vtclient", func(b *testing.B) {
		c, err := vtclient.New(base, vtclient.WithHTTPClient(hc), vtclient.WithCacheTTL(time.Millisecond, time.Millisecond))
		if err != nil {
			b.Fatal(err)
		}
		ctx := b.Context()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			st, err := c.Status(ctx, ids[i%len(ids)])
			if err != nil || st.State != vtclient.StatePending || st.Cached {
				b.Fatal(st, err)
			}
		}
	})
	b.Run("net/http", func(b *testing.B) {
		ctx := b.Context()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/status/"+ids[i%len(ids)], nil)
			if err != nil {
				b.Fatal(err)
			}
			resp, err := hc.Do(req)
			if err != nil {
				b.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				b.Fatal(err)
			}
			var v struct {
				Result   string
				Message  string
				Progress float64
			}
			if err := json.Unmarshal(body, &v); err != nil || v.Result != "pending" {
				b.Fatal(v, err)
			}
		}
	})
	b.Run("cached", func(b *testing.B) {
		c, err := vtclient.New(base, vtclient.WithHTTPClient(&http.Client{Transport: stub{`{"result":"completed"}`}}))
		if err != nil {
			b.Fatal(err)
		}
		ctx := b.Context()
		if _, err := c.Status(ctx, "job"); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if st, err := c.Status(ctx, "job"); err != nil || !st.Cached {
				b.Fatal(st, err)
			}
		}
	})
}
