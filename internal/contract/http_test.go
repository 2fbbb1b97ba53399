package contract_test

import (
	"bufio"
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
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// Property 21: many attempts, one connection, whatever the answers are.
func TestOneConnectionServesManyAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Times(20, testserver.Reply(503, strings.Repeat("x", 60<<10))), testserver.Times(20, testserver.Reply(200, "<html>"+strings.Repeat("x", 5000))), testserver.Pending())
		c := clientFor(t, s, every(time.Second, 100), vtclient.WithBreaker(nil))
		if _, err := c.Status(t.Context(), "j"); err != nil || len(s.Requests()) != 41 || s.Connections() != 1 {
			t.Errorf("%v, %d requests over %d connections", err, len(s.Requests()), s.Connections())
		}
	})
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// Property 21: a body is closed on every path.
func TestEveryBodyIsClosed(t *testing.T) {
	for name, answer := range map[string]func(*http.Request) *http.Response{
		"success":    func(r *http.Request) *http.Response { return respond(r, 200, `{"result":"pending"}`) },
		"an error":   func(r *http.Request) *http.Response { return respond(r, 500, "oops") },
		"too large":  func(r *http.Request) *http.Response { return respond(r, 200, strings.Repeat("x", 2000)) },
		"unreadable": func(r *http.Request) *http.Response { return respond(r, 200, "?") },
		"broken": func(r *http.Request) *http.Response {
			resp := respond(r, 200, "")
			resp.Body = io.NopCloser(failingReader{})
			return resp
		},
		"a refused redirect": func(r *http.Request) *http.Response { return respond(r, 302, "to", "Location: http://evil.test/") },
	} {
		opened, closed := 0, 0
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			resp := answer(r)
			opened++
			resp.Body = closing{resp.Body, &closed}
			return resp, nil
		}, once(), vtclient.WithMaxBody(1000))
		c.Status(t.Context(), "j")
		if opened != 1 || closed == 0 {
			t.Errorf("%s: %d bodies, %d closed", name, opened, closed)
		}
	}
}

// Property 21: the body of an answer that is an error is read within a bound
// too, however much the caller allows for one that is not.
func TestTheBodyOfAnErrorIsReadWithinABound(t *testing.T) {
	read := &countingReader{}
	c := stubbed(t, func(r *http.Request) (*http.Response, error) {
		resp := respond(r, 500, "")
		resp.Body, resp.ContentLength = io.NopCloser(read), -1
		return resp, nil
	}, once(), vtclient.WithMaxBody(16<<20))
	var h *vtclient.HTTPError
	if _, err := c.Status(t.Context(), "j"); !errors.As(err, &h) || h.StatusCode != 500 || len(h.Excerpt) < 100 {
		t.Error(err)
	}
	if read.n > 256<<10 {
		t.Errorf("%d bytes were read of an error", read.n)
	}
}

// A countingReader has no end.
type countingReader struct{ n int }

func (r *countingReader) Read(b []byte) (int, error) {
	if r.n += len(b); r.n > 64<<20 {
		return 0, io.EOF // so that a test without the bound ends
	}
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

// Property 22: what an exchange has used of contexts and timers is released
// when it is over, and not only when its time would have been up.
func TestTheContextsOfAnExchangeAreReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests, polls []context.Context
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			for _, ctx := range append(requests, polls[:max(0, len(polls)-1)]...) {
				if ctx.Err() == nil {
					t.Error("an earlier context is alive while the next request is made")
				}
			}
			if requests = append(requests, r.Context()); len(requests)%3 == 0 {
				return respond(r, 200, `{"result":"completed"}`), nil
			}
			return respond(r, 200, `{"result":"pending"}`), nil
		}, vtclient.WithCache(nil), vtclient.WithPolling(vtclient.Constant(time.Second)), vtclient.WithTimeout(time.Hour),
			vtclient.WithLimiter(limiterFunc(func(ctx context.Context) error { polls = append(polls, ctx); return nil })))
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		if _, err := c.Wait(ctx, "j"); err != nil {
			t.Error(err)
		}
		polls = polls[:0] // Status has its caller's own
		if _, err := c.Status(ctx, "j"); err != nil {
			t.Error(err)
		}
		if n := len(requests); n != 4 || requests[n-1].Err() == nil {
			t.Errorf("%d requests, the last one's context is alive: %v", n, requests[n-1].Err() == nil)
		}
	})
}

type closing struct {
	io.Reader
	closed *int
}

func (c closing) Close() error { *c.closed++; return nil }

// An error of WithRequest is a fault of the try, with nothing sent and nothing said of the backend.
func TestWithRequestMayFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broke := errors.New("no token")
		calls, sent := 0, 0
		b := &recordingBreaker{}
		f := func(*http.Request) error {
			if calls++; calls <= 2 {
				return broke
			}
			return nil
		}
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			sent++
			return respond(r, 200, `{"result":"pending"}`), nil
		}, every(time.Second, 2), vtclient.WithBreaker(b), vtclient.WithRequest(func(r *http.Request) error { return f(r) }))
		var te *vtclient.TransportError
		if _, err := c.Status(t.Context(), "j"); !errors.As(err, &te) || !errors.Is(err, broke) || te.Attempt != 2 || te.Timeout() || calls != 2 || sent != 0 {
			t.Errorf("%v after %d calls, %d requests", err, calls, sent)
		}
		if _, err := c.Status(t.Context(), "j"); err != nil || sent != 1 {
			t.Error(err)
		}
		f = func(r *http.Request) error { <-r.Context().Done(); return r.Context().Err() }
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		te = nil
		if _, err := c.Status(ctx, "k"); !errors.Is(err, context.Canceled) || errors.As(err, &te) || sent != 1 {
			t.Error(err)
		}
		if _, reported := b.recorded(); len(reported) != 4 || !errors.Is(reported[0], context.Canceled) || !errors.Is(reported[1], context.Canceled) || reported[2] != nil || !errors.Is(reported[3], context.Canceled) {
			t.Errorf("the breaker got %v", reported)
		}
	})
}

// A function given to WithRequest sees a request as http.NewRequest makes it:
// what signs requests reads the host and the protocol from it.
func TestWithRequestSeesAWholeRequest(t *testing.T) {
	want, err := http.NewRequest("GET", "http://api.test/status/a%2Fb", nil)
	if err != nil {
		t.Fatal(err)
	}
	facts := func(r *http.Request) string {
		return fmt.Sprint(r.Method, r.URL, r.Host, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Body, r.ContentLength)
	}
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"pending"}`), nil },
		vtclient.WithRequest(func(r *http.Request) error {
			if got := facts(r); got != facts(want) {
				t.Errorf("%s, want %s", got, facts(want))
			}
			return nil
		}))
	if _, err := c.Status(t.Context(), "a/b"); err != nil {
		t.Error(err)
	}
}

// Whatever a transport does to the header of a request, though it should leave it alone, and a
// function given to WithRequest, which may do anything to it: the next request has the header
// that was given to New.
func TestEachRequestHasAHeaderOfItsOwn(t *testing.T) {
	spoil := func(r *http.Request, with string) {
		r.Header.Add("X-Three", with)
		r.Header.Set("X-Api-Key", with)
		r.Header.Del("Accept")
		r.Header["New"] = []string{with}
	}
	for _, opts := range [][]vtclient.Option{nil, {vtclient.WithRequest(func(r *http.Request) error {
		r.Header["User-Agent"][0] = "spoilt"
		spoil(r, "WithRequest")
		return nil
	})}} {
		var first http.Header
		var all []http.Header
		opts = append(opts, vtclient.WithHeader("X-Api-Key", "k"), vtclient.WithCache(nil),
			vtclient.WithHeader("X-Three", "1"), vtclient.WithHeader("X-Three", "2"), vtclient.WithHeader("X-Three", "3"))
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			if first == nil {
				first = r.Header.Clone()
			} else if !maps.EqualFunc(r.Header, first, slices.Equal) {
				t.Errorf("%v, the first request had %v", r.Header, first)
			}
			spoil(r, fmt.Sprint(len(all)))
			all = append(all, r.Header)
			return respond(r, 200, `{"result":"pending"}`), nil
		}, opts...)
		for range 3 {
			if _, err := c.Status(t.Context(), "j"); err != nil {
				t.Error(err)
			}
		}
		for i, h := range all { // no place in memory is that of two
			if three := h["X-Three"]; three[len(three)-1] != fmt.Sprint(i) {
				t.Errorf("request %d has what request %s was given", i, three[len(three)-1])
			}
		}
	}
}

// Nor do the cookies of one request, which net/http writes into its header, stay for the next.
func TestEachRequestHasItsOwnCookies(t *testing.T) {
	var sent []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Header.Get("Cookie"))
		http.SetCookie(w, &http.Cookie{Name: "session", Value: fmt.Sprint(len(sent))})
		io.WriteString(w, `{"result":"pending"}`)
	}))
	defer srv.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := vtclient.New(srv.URL, vtclient.WithCache(nil), vtclient.WithHTTPClient(&http.Client{Transport: &http.Transport{}, Jar: jar}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	for range 3 {
		if _, err := c.Status(t.Context(), "j"); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"", "session=1", "session=2"}; !slices.Equal(sent, want) {
		t.Errorf("cookies %q, want %q", sent, want)
	}
}

// An attempt that runs into WithTimeout is a timeout in the sense of net.Error.
func TestTheTimeoutOfAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clientFor(t, testserver.StartInMemory(t, testserver.Silence()), once(), vtclient.WithTimeout(3*time.Second))
		_, err := c.Status(t.Context(), "j")
		var te *vtclient.TransportError
		if !errors.As(err, &te) || !te.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "no whole answer within 3s") {
			t.Error(err)
		}
	})
}

// The bound of WithMaxBody itself is allowed.
func TestABodyOfExactlyTheBound(t *testing.T) {
	const body = `{"result":"completed"}`
	for over := range 2 {
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, body), nil }, once(), vtclient.WithMaxBody(int64(len(body)-over)))
		st, err := c.Status(t.Context(), "j")
		if over == 0 && (err != nil || string(st.Body) != body) || over == 1 && (!matches(err, errTooLarge) || !strings.Contains(err.Error(), "more than 21 bytes")) {
			t.Errorf("%d over: %v", over, err)
		}
	}
}

// A request that WithRequest has robbed of its host is final.
func TestARequestWithoutAHostIsFinal(t *testing.T) {
	calls := 0
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF }, every(time.Minute, 3),
		vtclient.WithRequest(func(r *http.Request) error { calls++; r.URL.Host = ""; return nil }))
	var te *vtclient.TransportError
	if _, err := c.Status(t.Context(), "j"); !errors.As(err, &te) || te.JobID != "j" || calls != 1 || !strings.Contains(err.Error(), "no http or https URL") || !strings.Contains(err.Error(), "not retried") {
		t.Errorf("%v after %d calls", err, calls)
	}
}

// A function that spoils its request and then fails is a fault like any other
// that fails.
func TestWithRequestFailsOnASpoiltRequest(t *testing.T) {
	broke := errors.New("broke")
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF }, once(),
		vtclient.WithRequest(func(r *http.Request) error { r.URL = nil; return broke }))
	var te *vtclient.TransportError
	if _, err := c.Status(t.Context(), "j"); !errors.As(err, &te) || !errors.Is(err, broke) {
		t.Error(err)
	}
}

// A request that WithRequest could not make has no trace: it was never about to be sent.
func TestARequestThatWithRequestCannotMakeIsNotTraced(t *testing.T) {
	traces := 0
	c := stubbed(t, func(*http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF }, once(),
		vtclient.WithRequest(func(*http.Request) error { return errors.New("no token") }),
		vtclient.WithTrace(vtclient.Trace{Sent: counting(&traces), Answered: counting(&traces), Refused: counting(&traces)}))
	if _, err := c.Status(t.Context(), "j"); err == nil || traces != 0 {
		t.Errorf("%d traces: %v", traces, err)
	}
}

// What a caller's http.Client does beyond its transport, it does for vtclient, too,
// although vtclient goes past it where nothing of that is asked for.
func TestACallersHTTPClientDoesAllItDoes(t *testing.T) {
	var requests atomic.Int32
	var last atomic.Pointer[http.Request]
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		last.Store(r)
		switch r.URL.Path {
		case "/status/moved":
			http.Redirect(w, r, "/status/here", http.StatusTemporaryRedirect)
		case "/status/nowhere":
			w.WriteHeader(http.StatusFound) // and no Location
		default:
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "next", Path: "/"})
			io.WriteString(w, `{"result":"completed"}`)
		}
	}))
	defer s.Close()
	withUser := strings.Replace(s.URL, "http://", "http://me:secret@", 1)

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(server, []*http.Cookie{{Name: "session", Value: "first", Path: "/"}})

	for _, tt := range []struct {
		name, base, id string
		client         http.Client
		requests       int32
		code           int // of an *HTTPError; 0: the job is completed
		check          func(r *http.Request) string
		want           string
	}{
		{"a redirect takes one request more", s.URL, "moved", http.Client{}, 2, 0,
			func(r *http.Request) string { return r.URL.Path }, "/status/here"},
		{"a redirect is followed with the header", s.URL, "moved", http.Client{}, 2, 0,
			func(r *http.Request) string { return r.Header.Get("X-Api-Key") }, "the-key"},
		{"ErrUseLastResponse gives the redirect", s.URL, "moved", http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}, 1, http.StatusTemporaryRedirect, nil, ""},
		{"a redirect to nowhere is an answer", s.URL, "nowhere", http.Client{}, 1, http.StatusFound, nil, ""},
		{"cookies are sent", s.URL, "a", http.Client{Jar: jar}, 1, 0,
			func(r *http.Request) string { return r.Header.Get("Cookie") }, "session=first"},
		{"and kept", s.URL, "b", http.Client{Jar: jar}, 1, 0,
			func(r *http.Request) string { return r.Header.Get("Cookie") }, "session=next"},
		{"the URL's user is sent", withUser, "a", http.Client{}, 1, 0,
			func(r *http.Request) string { return r.Header.Get("Authorization") }, "Basic bWU6c2VjcmV0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.client.Transport = s.Client().Transport
			c, err := vtclient.New(tt.base, vtclient.WithHTTPClient(&tt.client), vtclient.WithHeader("X-Api-Key", "the-key"))
			if err != nil {
				t.Fatal(err)
			}
			requests.Store(0)
			st, err := c.Status(t.Context(), tt.id)
			var h *vtclient.HTTPError
			switch {
			case tt.code == 0 && (err != nil || st.State != vtclient.StateCompleted):
				t.Errorf("got %v, %v", st, err)
			case tt.code != 0 && (!errors.As(err, &h) || h.StatusCode != tt.code):
				t.Errorf("got %v, want an HTTPError of %d", err, tt.code)
			}
			if n := requests.Load(); n != tt.requests {
				t.Errorf("%d requests, want %d", n, tt.requests)
			}
			if tt.check != nil {
				if got := tt.check(last.Load()); got != tt.want {
					t.Errorf("the last request has %q, want %q", got, tt.want)
				}
			}
		})
	}
}

// A transport may break its contract; what net/http makes of that is what comes out.
func TestTransportsThatBreakTheirContract(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer *http.Response
		err    error
		want   string
	}{
		{"neither an answer nor an error", nil, nil, "nil *Response with a nil error"},
		{"an answer of some length without a body", &http.Response{StatusCode: 200, ContentLength: 5}, nil, "content length 5 but a nil Body"},
		{"an answer without a body", &http.Response{StatusCode: 200}, nil, "unexpected end of JSON"},
		{"an answer and an error", &http.Response{StatusCode: 200, Body: http.NoBody}, errors.New("broken pipe"), "broken pipe"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				rt := tripper(func(*http.Request) (*http.Response, error) {
					sent++
					return tt.answer, tt.err
				})
				c, err := vtclient.New("http://backend.invalid", vtclient.WithHTTPClient(&http.Client{Transport: rt}),
					vtclient.WithRetry(vtclient.Exponential{Base: time.Second, Limit: 3}))
				if err != nil {
					t.Fatal(err)
				}
				_, err = c.Status(t.Context(), "a")
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "http://") {
					t.Errorf("got %v, want an error with %q and no URL", err, tt.want)
				}
				if sent != 3 {
					t.Errorf("the transport was called %d times, want 3", sent)
				}
			})
		})
	}
}

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

// What a server sends when it sees the request's connection close at the end of the timeout is
// no answer, unless it is a whole one.
func TestAnAnswerToTheEndOfARequestIsNone(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		is           bool
	}{
		{"an empty 200", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false},
		{"half of one", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"result\":", false},
		{"another text", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ncanceled", false},
		{"a client error", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", false},
		{"no such job", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", false},
		{"a server error", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", false},
		{"a pause", "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n", false},
		{"a whole one", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"result\":\"pending\"}", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &recordingBreaker{}
				late := tripper(func(r *http.Request) (*http.Response, error) {
					<-r.Context().Done()
					return http.ReadResponse(bufio.NewReader(strings.NewReader(tt.answer)), r)
				})
				c, err := vtclient.New("http://api.example", vtclient.WithHTTPClient(&http.Client{Transport: late}), once(), vtclient.WithBreaker(b), vtclient.WithTimeout(time.Second), vtclient.WithCache(nil))
				if err != nil {
					t.Fatal(err)
				}
				_, err = c.Status(t.Context(), "j")
				var te *vtclient.TransportError
				if timedOut := errors.As(err, &te) && te.Timeout(); timedOut == tt.is || tt.is && err != nil {
					t.Errorf("got %v", err)
				}
				if _, reported := b.recorded(); len(reported) != 1 || (reported[0] == nil) != tt.is {
					t.Errorf("the breaker got %v", reported)
				}
				// The caller's own end is that and nothing else.
				ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
				defer cancel()
				if _, err := c.Status(ctx, "j"); !tt.is && (!errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*vtclient.HTTPError))) {
					t.Errorf("at the caller's end: %v", err)
				}
				if _, reported := b.recorded(); !tt.is && (len(reported) != 2 || !errors.Is(reported[1], context.Canceled)) {
					t.Errorf("at the caller's end the breaker got %v", reported)
				}
			})
		})
	}
}
