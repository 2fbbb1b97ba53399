package contract_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// Property 52: a header with which net/http would send something else than the caller set,
// or with which the answer would not be the job's status, is refused by name.
func TestHeadersThatBreakARequestAreRefused(t *testing.T) {
	for _, tt := range []struct {
		key, value string
		refused    bool
	}{
		{"Accept-Encoding", "br", true},
		{"accept-encoding", "gzip, deflate, br", true},
		{"Accept-Encoding", "*", true},
		{"Accept-Encoding", "zstd;q=0.1", true},
		{"Accept-Encoding", "gzip", false},
		{"Accept-Encoding", "identity", false},
		{"Accept-Encoding", "GZIP;q=0.5, identity;q=1, br;q=0, *;q=0.0", false},
		{"Accept-Encoding", "", false},
		{"Host", "other.test", true},
		{"Content-Length", "5", true},
		{"content-length", "0", true},
		{"Transfer-Encoding", "chunked", true},
		{"Trailer", "X", true},
		{"Connection", "close", true},
		{"Connection", "Upgrade", true},
		{"Upgrade", "h2c", true},
		{"Keep-Alive", "timeout=5", true},
		{"Proxy-Connection", "keep-alive", true},
		{"TE", "trailers", true},
		{"Expect", "100-continue", true},
		{"Range", "bytes=0-10", true},
		{"If-Range", `"x"`, true},
		{"If-None-Match", `"x"`, true},
		{"If-Modified-Since", "Mon, 02 Jan 2006 15:04:05 GMT", true},
		{"If-Match", "*", true},
		{"If-Unmodified-Since", "Mon, 02 Jan 2006 15:04:05 GMT", true},
		{"Accept", "application/json, */*", false},
		{"Accept-Language", "de", false},
		{"Cache-Control", "max-age=5", false},
		{"Cookie", "a=b", false},
		{"User-Agent", "mine", false},
		{"X-Range", "1", false},
	} {
		t.Run(tt.key+" "+tt.value, func(t *testing.T) {
			_, err := vtclient.New("http://api.test", vtclient.WithHeader(tt.key, tt.value))
			var a *vtclient.ArgumentError
			if refused := err != nil; refused != tt.refused || refused && (!errors.As(err, &a) || !strings.Contains(err.Error(), tt.key)) {
				t.Errorf("WithHeader: %v", err)
			}
			sent := 0
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				sent++
				return respond(r, 200, `{"result":"pending"}`), nil
			}, vtclient.WithRequest(func(r *http.Request) error { r.Header[tt.key] = []string{tt.value}; return nil }))
			_, err = c.Status(t.Context(), "j")
			var te *vtclient.TransportError
			if refused := err != nil; refused != tt.refused || refused && (!errors.As(err, &te) || !strings.Contains(err.Error(), tt.key) || sent != 0) {
				t.Errorf("WithRequest: %v, %d requests", err, sent)
			}
		})
	}
}

// The same for what else WithRequest can do to a request.
func TestRequestsThatCannotBeSentAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*http.Request){
		"RequestURI":       func(r *http.Request) { r.RequestURI = "/x" },
		"method":           func(r *http.Request) { r.Method = "HEAD" },
		`"BAD METHOD"`:     func(r *http.Request) { r.Method = "BAD METHOD" },
		"TransferEncoding": func(r *http.Request) { r.TransferEncoding = []string{"chunked"} },
		"Trailer":          func(r *http.Request) { r.Trailer = http.Header{"X": nil} },
		"ContentLength":    func(r *http.Request) { r.ContentLength = 3 },
		"context":          func(r *http.Request) { *r = *r.WithContext(context.Background()) },
		"URL":              func(r *http.Request) { r.URL = nil },
	} {
		sent, b := 0, &recordingBreaker{}
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			sent++
			return respond(r, 200, `{"result":"pending"}`), nil
		}, vtclient.WithBreaker(b), vtclient.WithRequest(func(r *http.Request) error { spoil(r); return nil }))
		_, err := c.Status(t.Context(), "j")
		var te *vtclient.TransportError
		if !errors.As(err, &te) || te.Attempt != 1 || !strings.Contains(err.Error(), name) || sent != 0 {
			t.Errorf("%s: %v, %d requests", name, err, sent)
		}
		if _, reported := b.recorded(); len(reported) != 1 || !errors.Is(reported[0], context.Canceled) {
			t.Errorf("%s: the breaker got %v", name, reported)
		}
	}
	type key struct{}
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"pending"}`), nil },
		vtclient.WithRequest(func(r *http.Request) error {
			*r = *r.WithContext(context.WithValue(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{}), key{}, 1))
			return nil
		}))
	if _, err := c.Status(t.Context(), "j"); err != nil {
		t.Errorf("a context made from the request's own: %v", err)
	}
}

// A compressed answer is read however it was asked for.
func TestCompressedAnswersAreRead(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(strings.ToLower(r.Header.Get("Accept-Encoding")), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, gzipped(`{"result":"completed","x":"`+strings.Repeat("x", 10000)+`"}`))
			return
		}
		io.WriteString(w, `{"result":"completed"}`)
	}))
	defer srv.Close()
	for name, opts := range map[string][]vtclient.Option{
		"the client":                         nil,
		"WithHeader":                         {vtclient.WithHeader("Accept-Encoding", "gzip")},
		"WithRequest":                        {vtclient.WithRequest(func(r *http.Request) error { r.Header.Set("Accept-Encoding", "gzip;q=1"); return nil })},
		"no one":                             {vtclient.WithRequest(func(r *http.Request) error { r.Header.Set("Accept-Encoding", "identity"); return nil })},
		"net/http":                           {vtclient.WithRequest(func(r *http.Request) error { r.Header.Del("Accept-Encoding"); return nil })},
		"a transport that does not compress": {vtclient.WithHTTPClient(&http.Client{Transport: &http.Transport{DisableCompression: true}})},
	} {
		seen := ""
		e := vtclient.Endpoint{Path: "/{id}", Decode: func(a vtclient.Answer) (vtclient.Status, error) {
			seen = a.Header.Get("Content-Encoding")
			return vtclient.Status{State: vtclient.StateCompleted}, nil
		}}
		c, err := vtclient.New(srv.URL, append(opts, vtclient.WithEndpoint(e))...)
		if err != nil {
			t.Fatal(err)
		}
		st, err := c.Status(t.Context(), "j")
		if err != nil || !strings.HasPrefix(string(st.Body), `{"result":"completed"`) || seen != "" {
			t.Errorf("%s asks: %.40q, %v; Decode sees the encoding %q", name, st.Body, err, seen)
		}
		c.CloseIdleConnections()
	}
}

// Property 52: a nil context is refused where it is given.
func TestANilContextIsRefused(t *testing.T) {
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF })
	var none context.Context
	_, status := c.Status(none, "j")
	_, wait := c.Wait(none, "j")
	errs := map[string]error{"Status": status, "Wait": wait}
	for _, err := range c.Watch(none, "j") {
		errs["Watch"] = err
	}
	for _, err := range c.WaitAll(none, vtclient.Jobs("j")) {
		errs["WaitAll"] = err
	}
	for name, err := range errs {
		var a *vtclient.ArgumentError
		if !errors.As(err, &a) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "ctx: got nil") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(errs) != 4 {
		t.Errorf("%v", errs)
	}
}

// Property 53: no cache on the way may serve a poll, unless the caller sets otherwise.
func TestRequestsAskForNoCache(t *testing.T) {
	for _, tt := range []struct {
		name           string
		opts           []vtclient.Option
		control, older []string
	}{
		{"by default", nil, []string{"no-cache"}, []string{"no-cache"}},
		{"the caller's own", []vtclient.Option{vtclient.WithHeader("cache-control", "max-age=5")}, []string{"max-age=5"}, nil},
		{"the caller's own, for HTTP/1.0", []vtclient.Option{vtclient.WithHeader("Pragma", "x")}, []string{"no-cache"}, []string{"x"}},
		{"of WithRequest", []vtclient.Option{vtclient.WithRequest(func(r *http.Request) error { r.Header.Set("Cache-Control", "no-store"); return nil })},
			[]string{"no-store"}, []string{"no-cache"}},
	} {
		var got http.Header
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			got = maps.Clone(r.Header)
			return respond(r, 200, `{"result":"pending"}`), nil
		}, tt.opts...)
		if _, err := c.Status(t.Context(), "j"); err != nil {
			t.Error(err)
		}
		if !slices.Equal(got["Cache-Control"], tt.control) || !slices.Equal(got["Pragma"], tt.older) {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

// Property 54: what is odd about a body is read, or a fault of the answer and never of the
// network.
func TestOddBodies(t *testing.T) {
	const good = `{"result":"completed"}`
	zip := gzipped(good)
	var stored bytes.Buffer
	z, _ := gzip.NewWriterLevel(&stored, gzip.NoCompression)
	io.WriteString(z, good)
	z.Close()
	flipped := bytes.Clone(stored.Bytes())
	flipped[15] ^= 1
	read := []error{nil}
	damaged := []error{new(vtclient.DecodeError)}
	for _, tt := range []struct {
		name, body string
		zipped     bool
		want       []error
	}{
		{"a byte order mark", "\ufeff" + good, false, read},
		{"a byte order mark in gzip", gzipped("\ufeff" + good), true, read},
		{"UTF-16, the great end first", "\xfe\xff\x00{\x00}", false, damaged},
		{"UTF-16, the little end first", "\xff\xfe{\x00}\x00", false, damaged},
		{"nothing but a byte order mark", "\ufeff", false, damaged},
		{"gzip", zip, true, read},
		{"gzip in two members", gzipped(good[:5]) + gzipped(good[5:]), true, read},
		{"an empty member behind", zip + gzipped(""), true, read},
		{"a zero byte behind the gzip", zip + "\x00", true, read},
		{"many zero bytes behind", zip + strings.Repeat("\x00", 5000), true, read},
		{"text behind the gzip", zip + "\r\n<!-- served by x -->", true, read},
		{"half a header behind", zip + zip[:5], true, read},
		{"declared as gzip, and plain", good, true, read},
		{"declared as gzip, and empty", "", true, damaged},
		{"gzip that is cut in its header", zip[:7], true, damaged},
		{"gzip that is cut in its data", zip[:len(zip)-12], true, damaged},
		{"gzip without its end", zip[:len(zip)-4], true, damaged},
		{"gzip with a wrong sum", zip[:len(zip)-8] + "\x00\x00\x00\x00" + zip[len(zip)-4:], true, damaged},
		{"gzip with a flipped bit", string(flipped), true, damaged},
		{"gzip of another kind", "\x1f\x8b\x07" + zip[3:], true, damaged},
		{"gzip that is not declared", zip, false, damaged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &recordingBreaker{}
			c, err := vtclient.New(serving(t, func(w http.ResponseWriter, r *http.Request) {
				if tt.zipped {
					w.Header().Set("Content-Encoding", "gzip")
				}
				w.Header().Set("Content-Type", "application/json")
				io.WriteString(w, tt.body)
			}), once(), vtclient.WithBreaker(b))
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseIdleConnections()
			st, err := c.Status(t.Context(), "j")
			var de *vtclient.DecodeError
			if want := tt.want[0]; want == nil && (err != nil || string(st.Body) != good) || want != nil && !errors.As(err, &de) {
				t.Errorf("%+v, %v", st, err)
			}
			if _, reported := b.recorded(); len(reported) != 1 || reported[0] != nil {
				t.Errorf("the breaker got %v", reported)
			}
		})
	}
	// Where the network cuts the compressed answer, it is one of the network.
	c, err := vtclient.New(serving(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", fmt.Sprint(len(zip)))
		io.WriteString(w, zip[:len(zip)-6])
	}), once())
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	var te *vtclient.TransportError
	if _, err := c.Status(t.Context(), "j"); !errors.As(err, &te) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut by the network: %v", err)
	}
}

// serving starts a server and returns its URL.
func serving(t *testing.T, h http.HandlerFunc) string {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// A request that is made again because its connection failed is the same request, as one that
// net/http repeats: WithRequest is called once, and nothing is added twice.
func TestARepeatedRequestIsTheSame(t *testing.T) {
	for _, jar := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			s := testserver.StartInMemory(t, testserver.Reply(200, `{"result":"pending"}`, "Set-Cookie: a=b"), testserver.HalfBody(`{"result":"completed"}`), testserver.Completed())
			hc := &http.Client{Transport: s.Client().Transport}
			if jar {
				hc.Jar, _ = cookiejar.New(nil)
			}
			calls, limiter := 0, &countingLimiter{}
			wire := 0
			c := clientFor(t, s, vtclient.WithHTTPClient(hc), once(), vtclient.WithCache(nil), vtclient.WithLimiter(limiter),
				vtclient.WithTrace(vtclient.Trace{Answered: func(_ context.Context, i vtclient.TraceInfo) { wire = i.Wire }}),
				vtclient.WithRequest(func(r *http.Request) error {
					calls++
					r.Header.Set("X-Call", fmt.Sprint(calls))
					r.URL.RawQuery = fmt.Sprint("call=", calls)
					return nil
				}))
			for i, want := range []vtclient.State{vtclient.StatePending, vtclient.StateCompleted} {
				if st, err := c.Status(t.Context(), "j"); err != nil || st.State != want || wire != i+1 {
					t.Errorf("%+v, %v, on the wire %d times", st, err, wire)
				}
			}
			all := s.Requests()
			if len(all) != 3 || calls != 2 || limiter.waits.Load() != 3 {
				t.Fatalf("%d requests, of which the limiter let %d through; %d calls of WithRequest", len(all), limiter.waits.Load(), calls)
			}
			first, second := all[1], all[2]
			if first.URI != second.URI || !maps.EqualFunc(first.Header, second.Header, slices.Equal) || first.Conn == second.Conn || len(second.Header["Cookie"]) > 1 || jar != (second.Header.Get("Cookie") == "a=b") {
				t.Errorf("%+v\nand then %+v", first, second)
			}
		})
	}
}

// While a 429 holds the client, or when the caller has left, no request is made again.
func TestWhatIsHeldIsNotRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Pending(), testserver.Silence(), testserver.Reply(429, "", "Retry-After: 60"), testserver.Completed())
		b := &recordingBreaker{}
		c := clientFor(t, s, once(), vtclient.WithCache(nil), vtclient.WithBreaker(b), vtclient.WithTimeout(10*time.Second))
		if _, err := c.Status(t.Context(), "j"); err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(time.Second)
			c.Status(t.Context(), "k") // meets the 429
		}()
		_, err := c.Status(t.Context(), "j")
		var te *vtclient.TransportError
		if !errors.As(err, &te) || !te.Timeout() || len(s.Requests()) != 3 {
			t.Errorf("%v after %d requests", err, len(s.Requests()))
		}
		if _, reported := b.recorded(); len(reported) != 3 || !errors.Is(reported[2], context.Canceled) {
			t.Errorf("the breaker got %v", reported)
		}
	})
	bubble(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Pending(), testserver.Silence(), testserver.Completed())
		c := clientFor(t, s, once(), vtclient.WithCache(nil), vtclient.WithTimeout(10*time.Second))
		if _, err := c.Status(t.Context(), "j"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // with the timeout, to the instant
		defer cancel()
		if _, err := c.Status(ctx, "j"); !errors.Is(err, context.DeadlineExceeded) || len(s.Requests()) != 2 {
			t.Errorf("%v after %d requests", err, len(s.Requests()))
		}
	})
}
