package vtclient_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// hinted returns what a client makes of a Retry-After header, in virtual time.
func pauseFor(t *testing.T, header ...string) time.Duration {
	t.Helper()
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 404, "", header...), nil })
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
	})}))
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
	}{{5, time.Minute, 5 * time.Second}, {60, time.Minute, time.Minute}, {61, time.Minute, 0}, {1, time.Minute, 2 * time.Second}} {
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

// Property 16: a 4xx is final at once, except 408, 425 and 429, which are tried again like a 5xx.
func TestWhichCodesAreTriedAgain(t *testing.T) {
	for code := 300; code < 600; code++ {
		if code == 304 {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			requests := 0
			c := stubbed(t, func(r *http.Request) (*http.Response, error) { requests++; return respond(r, code, ""), nil }, every(time.Second, 3))
			_, err := c.Status(t.Context(), "j")
			want := 1
			if code == 408 || code == 425 || code == 429 || code >= 500 {
				want = 3
			}
			var h *vtclient.HTTPError
			if !errors.As(err, &h) || h.StatusCode != code || requests != want {
				t.Errorf("%d: %d requests, %v", code, requests, err)
			}
		})
	}
}

// Design, Status: a 401 is tried once more where WithRequest can bring a fresh token.
func TestA401IsTriedOnceMoreWithAFreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := 0
		fresh := vtclient.WithRequest(func(r *http.Request) error {
			tokens++
			r.Header.Set("Authorization", fmt.Sprint("Bearer ", tokens))
			return nil
		})
		for _, tt := range []struct {
			opts  []vtclient.Option
			steps []testserver.Step
			want  int
			ok    bool
		}{
			{nil, []testserver.Step{testserver.Reply(401, "")}, 1, false},
			{[]vtclient.Option{fresh}, []testserver.Step{testserver.Reply(401, "")}, 2, false},
			{[]vtclient.Option{fresh}, []testserver.Step{testserver.Reply(401, ""), testserver.Pending()}, 2, true},
			{[]vtclient.Option{fresh}, []testserver.Step{testserver.Reply(403, ""), testserver.Pending()}, 1, false},
		} {
			s := testserver.StartInMemory(t, tt.steps...)
			tokens = 0
			start := time.Now()
			_, err := clientFor(t, s, tt.opts...).Status(t.Context(), "j")
			got := s.Requests()
			if (err == nil) != tt.ok || len(got) != tt.want || time.Since(start) > 0 {
				t.Errorf("%v after %d requests, want %d", err, len(got), tt.want)
			}
			if tt.ok && got[1].Header.Get("Authorization") != "Bearer 2" {
				t.Errorf("the second try carries %q", got[1].Header.Get("Authorization"))
			}
		}
	})
}

// Properties 24, 39: whatever breaks, the error is typed, bounded, reported to
// the breaker as what it is, and the next try brings the answer.
func TestFaultsAreTypedAndTriedAgain(t *testing.T) {
	const body = `{"result":"completed"}`
	const transport, decode = "transport", "decode"
	for _, tt := range []struct {
		name   string
		step   testserver.Step
		kind   string
		unwell bool // what the breaker is told
	}{
		{"dropped", testserver.Drop(), transport, true},
		{"reset", testserver.Reset(), transport, true},
		{"silence", testserver.Silence(), transport, true},
		{"half a body", testserver.HalfBody(body), transport, true},
		{"half a body and a reset", testserver.HalfBodyReset(body), transport, true},
		{"half a body and silence", testserver.HalfBodySilence(body), transport, true}, // property 22
		{"dripping past the timeout", testserver.SlowDrip(body, time.Second), transport, true},
		{"a head past the timeout", testserver.SlowHead(body, time.Second), transport, true},
		{"garbage", testserver.Garbage(), transport, true},
		{"a length too large", testserver.WrongLength(body, 100), transport, true},
		{"endless headers", testserver.EndlessHeaders(), transport, true},
		{"HTML with 200", testserver.Reply(200, "<html>oops</html>"), decode, false},
		{"empty", testserver.Reply(200, ""), decode, false},
		{"no content", testserver.Reply(204, ""), decode, false},
		{"another shape", testserver.JSON(200, `[1]`), decode, false},
		{"gzip bomb", testserver.GzipBomb(64 << 20), decode, false},
		{"endless body", testserver.EndlessBody(), decode, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testserver.StartInMemory(t, tt.step, testserver.Completed())
				b := &notingBreaker{}
				var first error
				c := clientFor(t, s, vtclient.WithTimeout(10*time.Second), every(time.Second, 2), vtclient.WithBreaker(b),
					vtclient.WithTrace(vtclient.Trace{Scheduled: func(_ context.Context, i vtclient.TraceInfo) { first = i.Err }}))
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				st, err := c.Status(ctx, "j")
				if err != nil || st.State != vtclient.StateCompleted {
					t.Errorf("%v, %v", st, err)
				}
				var te *vtclient.TransportError
				var de *vtclient.DecodeError
				if errors.As(first, &te) != (tt.kind == transport) || errors.As(first, &de) != (tt.kind == decode) || len(first.Error()) > 1000 {
					t.Errorf("%v", first)
				}
				if errors.Is(first, context.DeadlineExceeded) || errors.Is(first, context.Canceled) {
					t.Errorf("%v matches a context error while the caller's context lives", first)
				}
				if _, told := b.noted(); len(told) != 2 || (told[0] != nil) != tt.unwell || told[1] != nil {
					t.Errorf("the breaker was told %v", told)
				}
			})
		})
	}
}

// Property 17: an unknown state word is final and named.
func TestAnUnknownStateIsFinalAndNamed(t *testing.T) {
	s := testserver.Start(t, testserver.JSON(200, `{"result":"CANCELLED"}`))
	b := &notingBreaker{}
	_, err := clientFor(t, s, vtclient.WithBreaker(b)).Status(t.Context(), "j")
	var e *vtclient.StateError
	if !errors.As(err, &e) || e.Word != "CANCELLED" || len(s.Requests()) != 1 {
		t.Error(err, len(s.Requests()))
	}
	if _, told := b.noted(); len(told) != 1 || told[0] != nil {
		t.Errorf("the breaker was told %v", told)
	}
}

// Properties 24, 25: no secret in an error, however the server repeats it.
func TestSecretsNeverStandInErrors(t *testing.T) {
	const key, token, password = `k3y/with"odd+chars=`, "t0k3n-abcdefghijklmnopqrstuvwxyz-0123456789-abcdefghijklmnopqrstuvwxyz", "p4ss word/"
	basic := base64.StdEncoding.EncodeToString([]byte("user:" + password))
	shortened := func(s string) string { return s[:len(s)-2] }
	secrets := []string{key, token, password, basic, "k3y", "t0k3n", "p4ss", "odd", "uvwxyz", "JjNzcyB3b3Jk"}
	for _, tt := range []struct {
		name string
		resp func(*http.Request) (*http.Response, error)
	}{
		{"echoed headers", func(r *http.Request) (*http.Response, error) {
			return respond(r, 400, fmt.Sprint(key, token, password)), nil
		}},
		{"as JSON", func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, `{"k":"k3y/with\"odd+chars="}{`), nil
		}},
		{"as PHP writes JSON", func(r *http.Request) (*http.Response, error) {
			return respond(r, 400, `{"k":"k3y\/with\"odd+chars=","p":"p4ss word\/"}`), nil
		}},
		{"escaped", func(r *http.Request) (*http.Response, error) {
			return respond(r, 400, "k=k3y%2Fwith%22odd%2Bchars%3D p4ss+word%2F p4ss%20word%2F"), nil
		}},
		{"basic", func(r *http.Request) (*http.Response, error) {
			return respond(r, 400, "Authorization: Basic "+basic+" http://user:p4ss%20word%2F@h"), nil
		}},
		{"request id", func(r *http.Request) (*http.Response, error) {
			return respond(r, 400, "", "X-Request-Id: "+token), nil
		}},
		{"state word", func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, `{"result":"`+token+`"}`), nil
		}},
		{"over the excerpt's cut", func(r *http.Request) (*http.Response, error) {
			return respond(r, 400, strings.Repeat("x", 180)+token), nil
		}},
		{"over the cut of an error body", func(r *http.Request) (*http.Response, error) {
			return respond(r, 400, "x"+strings.Repeat(" ", 64<<10-11)+token), nil
		}},
		{"over the cut of a body", func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, strings.Repeat("x", 100)+strings.Repeat(" ", 128<<10-110)+token), nil
		}},
		{"over the end of a broken body", func(r *http.Request) (*http.Response, error) {
			resp := respond(r, 500, "")
			resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(shortened(token)), failingReader{}))
			return resp, nil
		}},
		{"transport error", func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("cannot send %q to %s", r.Header, r.URL)
		}},
		{"decode error", func(r *http.Request) (*http.Response, error) {
			return respond(r, 200, "fail"), nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := vtclient.New("http://user:p4ss%20word%2F@h", vtclient.WithHeader("X-Api-Key", key), once(), vtclient.WithMaxBody(128<<10),
				vtclient.WithRequest(func(r *http.Request) error { r.Header.Set("X-Auth", "Bearer "+token); return nil }),
				vtclient.WithEndpoint(vtclient.Endpoint{Decode: func(a vtclient.Answer) (vtclient.Status, error) {
					if string(a.Body) == "fail" {
						return vtclient.Status{}, fmt.Errorf("%s %s %w", token, key, io.ErrNoProgress)
					}
					return vtclient.PlainAPI().Decode(a)
				}}),
				vtclient.WithHTTPClient(&http.Client{Transport: tripper(tt.resp)}))
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Status(t.Context(), "j")
			if err == nil {
				t.Fatal("no error")
			}
			var h *vtclient.HTTPError
			text := fmt.Sprintf("%v", err)
			if errors.As(err, &h) {
				text += h.Excerpt + h.RequestID
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				text += "\n" + e.Error()
			}
			for _, secret := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("%q stands in %s", secret, text)
				}
			}
			if tt.name == "decode error" && !errors.Is(err, io.ErrNoProgress) {
				t.Errorf("%v does not match what it was", err)
			}
		})
	}
}

// Property 25: nor in the error of a failed job, whose message is the backend's.
func TestSecretsNeverStandInTheMessageOfAFailedJob(t *testing.T) {
	c := stubbed(t, func(r *http.Request) (*http.Response, error) {
		return respond(r, 200, `{"result":"error","message":"not for `+r.Header.Get("X-Api-Key")+`"}`), nil
	}, vtclient.WithHeader("X-Api-Key", "k3y-0123456789"))
	st, err := c.Wait(t.Context(), "j")
	if !errors.Is(err, vtclient.ErrJobFailed) || strings.Contains(fmt.Sprint(err, st.Message), "k3y") || !strings.Contains(err.Error(), "not for") {
		t.Errorf("%v; %q", err, st.Message)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Property 25: credentials never follow a redirect to where they do not belong.
func TestRedirectsElsewhereAreRefused(t *testing.T) {
	var arrived atomic.Int32
	second := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Add(1) }))
	defer second.Close()
	for _, tt := range []struct {
		name, base, to string
		follow         bool
	}{
		{"another path on the same host", "http://api.test", "/other", true},
		{"the same host in full", "http://api.test", "http://API.test/other", true},
		{"the default port written out", "http://api.test", "http://api.test:80/other", true},
		{"an upgrade to https", "http://api.test", "https://api.test/other", true},
		{"another host", "http://api.test", "http://evil.test/", false},
		{"a host that begins alike", "http://api.test", "http://api.test.evil.test/", false},
		{"a subdomain", "http://api.test", "http://sub.api.test/", false},
		{"no scheme", "http://api.test", "//evil.test/", false},
		{"another port", "http://api.test", "http://api.test:8080/", false},
		{"https to http", "https://api.test", "http://api.test/", false},
		{"https on another port", "http://api.test", "https://api.test:8443/", false},
		{"ftp", "http://api.test", "ftp://api.test/", false},
		{"a real second server", "http://api.test", second.URL, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var seen []string
			b := &notingBreaker{}
			hc := &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
				if seen = append(seen, r.URL.String()); r.URL.Host == strings.TrimPrefix(second.URL, "http://") {
					return http.DefaultTransport.RoundTrip(r)
				}
				if len(seen) == 1 {
					return respond(r, 302, "", "Location: "+tt.to), nil
				}
				return respond(r, 200, `{"result":"pending"}`), nil
			})}
			c, err := vtclient.New(tt.base, vtclient.WithHTTPClient(hc), vtclient.WithHeader("X-Api-Key", "s3cr3t"), vtclient.WithBreaker(b))
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Status(t.Context(), "j")
			if tt.follow {
				if err != nil || len(seen) != 2 {
					t.Errorf("%v after %q", err, seen)
				}
				return
			}
			var te *vtclient.TransportError
			if !errors.Is(err, vtclient.ErrRedirect) || !errors.As(err, &te) || len(seen) != 1 || arrived.Load() != 0 {
				t.Errorf("%v after %q, %d at the second server", err, seen, arrived.Load())
			}
			if _, told := b.noted(); len(told) != 1 || told[0] != nil {
				t.Errorf("the breaker was told %v", told)
			}
		})
	}
}

func TestEndlessRedirectsAreRefused(t *testing.T) {
	s := testserver.Start(t, testserver.Redirect("/again"))
	_, err := clientFor(t, s).Status(t.Context(), "j")
	if n := len(s.Requests()); !errors.Is(err, vtclient.ErrRedirect) || n != 10 {
		t.Errorf("%v after %d requests", err, n)
	}
}

// Issue 2, item 8: a caller's *http.Client is never modified, and its CheckRedirect is still asked.
func TestTheCallersHTTPClientIsLeftAsItIs(t *testing.T) {
	refusal := errors.New("not there")
	asked := 0
	s := testserver.Start(t, testserver.Redirect("/x"), testserver.Pending(), testserver.Redirect("/no"), testserver.Redirect("/last"))
	hc := &http.Client{Transport: s.Client().Transport, Timeout: time.Hour, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		asked++
		switch r.URL.Path {
		case "/no":
			return refusal
		case "/last":
			return http.ErrUseLastResponse
		}
		return nil
	}}
	before, check := *hc, reflect.ValueOf(hc.CheckRedirect).Pointer()
	c, err := vtclient.New(s.URL(), vtclient.WithHTTPClient(hc), vtclient.WithCache(nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context(), "j"); err != nil {
		t.Error(err)
	}
	if _, err := c.Status(t.Context(), "j"); !errors.Is(err, refusal) || !errors.Is(err, vtclient.ErrRedirect) {
		t.Error(err)
	}
	var h *vtclient.HTTPError
	if _, err := c.Status(t.Context(), "j"); !errors.As(err, &h) || h.StatusCode != 302 {
		t.Error(err)
	}
	if asked != 3 || hc.Transport != before.Transport || hc.Timeout != before.Timeout || hc.Jar != before.Jar || reflect.ValueOf(hc.CheckRedirect).Pointer() != check {
		t.Errorf("asked %d times; %+v, was %+v", asked, hc, before)
	}
	if n := len(s.Requests()); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
}

// Design, Status: TLS and URL errors are final.
func TestTLSAndURLErrorsAreFinal(t *testing.T) {
	quiet := log.New(io.Discard, "", 0)
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = quiet
	untrusted.StartTLS()
	defer untrusted.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	brokenURL := func(change func(*http.Request)) vtclient.Option {
		return vtclient.WithRequest(func(r *http.Request) error { change(r); return nil })
	}
	for _, tt := range []struct {
		name, url string
		opts      []vtclient.Option
		want      string
	}{
		{"a certificate that nobody trusts", untrusted.URL, nil, "certificate"},
		{"http answers to https", strings.Replace(plain.URL, "http:", "https:", 1), nil, "does not speak TLS"},
		{"an address that is none", "http://127.0.0.1:99999", nil, "no address"},
		{"no URL", plain.URL, []vtclient.Option{brokenURL(func(r *http.Request) { r.URL = nil })}, "no http or https URL"},
		{"another scheme", plain.URL, []vtclient.Option{brokenURL(func(r *http.Request) { r.URL.Scheme = "gopher" })}, "no http or https URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &notingBreaker{}
			c, err := vtclient.New(tt.url, append(tt.opts, vtclient.WithBreaker(b), every(time.Minute, 3))...)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Status(t.Context(), "j") // would take a minute if it were tried again
			var te *vtclient.TransportError
			if allowed, _ := b.noted(); !errors.As(err, &te) || !strings.Contains(err.Error(), tt.want) || allowed != 1 {
				t.Errorf("%v after %d tries", err, allowed)
			}
			c.CloseIdleConnections()
		})
	}
}

// Property 26, 31 through the client: what a foreign breaker is told.
func TestWhatTheBreakerIsTold(t *testing.T) {
	for _, tt := range []struct {
		name   string
		step   testserver.Step
		unwell bool
	}{
		{"200", testserver.Pending(), false}, {"400", testserver.Reply(400, ""), false}, {"404", testserver.Reply(404, ""), false},
		{"408", testserver.Reply(408, ""), false}, {"425", testserver.Reply(425, ""), false}, {"429", testserver.Reply(429, ""), false},
		{"500", testserver.Reply(500, ""), true}, {"503", testserver.Reply(503, ""), true}, {"drop", testserver.Drop(), true}, {"timeout", testserver.Silence(), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &notingBreaker{}
				clientFor(t, testserver.StartInMemory(t, tt.step), vtclient.WithBreaker(b), once()).Status(t.Context(), "j")
				if n, told := b.noted(); n != 1 || len(told) != 1 || (told[0] != nil) != tt.unwell || errors.Is(told[0], context.Canceled) {
					t.Errorf("%d permits, told %v", n, told)
				}
			})
		})
	}
	t.Run("the caller leaves", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &notingBreaker{}
			c := clientFor(t, testserver.StartInMemory(t, testserver.Silence()), vtclient.WithBreaker(b))
			for _, leave := range []func(context.Context) (context.Context, context.CancelFunc){
				func(ctx context.Context) (context.Context, context.CancelFunc) {
					return context.WithTimeout(ctx, time.Second)
				},
				func(ctx context.Context) (context.Context, context.CancelFunc) {
					ctx, cancel := context.WithCancel(ctx)
					time.AfterFunc(time.Second, cancel)
					return ctx, cancel
				},
			} {
				ctx, cancel := leave(t.Context())
				start := time.Now()
				_, err := c.Status(ctx, "j")
				if !errors.Is(err, ctx.Err()) || time.Since(start) != time.Second {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				cancel()
			}
			if n, told := b.noted(); n != 2 || len(told) != 2 || !errors.Is(told[0], context.Canceled) || !errors.Is(told[1], context.Canceled) {
				t.Errorf("%d permits, told %v", n, told)
			}
		})
	})
	t.Run("a 429 where ours is asked to count it", func(t *testing.T) {
		b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 1, Count429: true})
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 429, ""), nil }, vtclient.WithBreaker(b), once())
		if c.Status(t.Context(), "j"); b.State() != vtclient.BreakerOpen {
			t.Error(b.State())
		}
		var refused *vtclient.RefusedError
		if _, err := c.Status(t.Context(), "j"); !errors.As(err, &refused) || !errors.Is(err, vtclient.ErrBreakerOpen) || refused.RetryAfter() <= 0 {
			t.Error(err)
		}
	})
}

// Property 27 through the client: a panic in what the caller plugged in gives
// the permit and the place in flight back.
func TestAPanicGivesPermitAndPlaceBack(t *testing.T) {
	boom := func(on *bool) {
		if *on {
			panic("boom")
		}
	}
	for _, where := range []string{"WithRequest", "Decode", "Sent", "Answered", "transport", "limiter"} {
		t.Run(where, func(t *testing.T) {
			on := map[string]*bool{}
			for _, w := range []string{"WithRequest", "Decode", "Sent", "Answered", "transport", "limiter"} {
				v := w == where
				on[w] = &v
			}
			b := &notingBreaker{}
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				boom(on["transport"])
				return respond(r, 200, `{"result":"pending"}`), nil
			}, vtclient.WithMaxInFlight(1), vtclient.WithBreaker(b), vtclient.WithCache(nil),
				vtclient.WithLimiter(&countingLimiter{then: func() { boom(on["limiter"]) }}),
				vtclient.WithRequest(func(*http.Request) error { boom(on["WithRequest"]); return nil }),
				vtclient.WithEndpoint(vtclient.Endpoint{Decode: func(a vtclient.Answer) (vtclient.Status, error) {
					boom(on["Decode"])
					return vtclient.PlainAPI().Decode(a)
				}}),
				vtclient.WithTrace(vtclient.Trace{Sent: func(context.Context, vtclient.TraceInfo) { boom(on["Sent"]) }, Answered: func(context.Context, vtclient.TraceInfo) { boom(on["Answered"]) }}))
			func() {
				defer func() {
					if r := recover(); r != "boom" {
						t.Errorf("recovered %v", r)
					}
				}()
				c.Status(t.Context(), "j")
			}()
			*on[where] = false
			if _, err := c.Status(t.Context(), "j"); err != nil {
				t.Error(err)
			}
			if n, told := b.noted(); len(told) != n {
				t.Errorf("%d permits, %v given back", n, told)
			}
		})
	}
}

// Design, Shape: the limiter comes before the breaker, and its queueing is not
// counted in the attempt's timeout.
func TestTheLimiterComesFirstAndOutsideTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &notingBreaker{}
		l := &countingLimiter{pause: time.Hour}
		l.then = func() {
			if n, _ := b.noted(); n != 0 {
				t.Errorf("%d permits held in the limiter's queue", n)
			}
		}
		c := clientFor(t, testserver.StartInMemory(t, testserver.Delay(900*time.Millisecond, testserver.Pending())),
			vtclient.WithLimiter(l), vtclient.WithTimeout(time.Second), vtclient.WithBreaker(b), once())
		if _, err := c.Status(t.Context(), "j"); err != nil || l.waits.Load() != 1 {
			t.Error(err)
		}
		// Its own failure is a fault of the try; the caller's end is the caller's.
		l.then, l.err = nil, errors.New("limiter broke")
		var te *vtclient.TransportError
		if _, err := c.Status(t.Context(), "k"); !errors.As(err, &te) || !errors.Is(err, l.err) {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Status(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &te) {
			t.Error(err)
		}
		if n, _ := b.noted(); n != 1 {
			t.Errorf("%d permits", n)
		}
	})
}

// Property 15: a limiter that lets a request through when the time is up does so in vain.
func TestNoRequestAfterALateLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"completed"}`), nil },
			vtclient.WithTrace(vtclient.Trace{Sent: counting(&sent)}),
			vtclient.WithLimiter(limiterFunc(func(context.Context) error { time.Sleep(time.Minute); return nil })))
		for _, ask := range []func(context.Context, string) (vtclient.Status, error){c.Status,
			func(ctx context.Context, id string) (vtclient.Status, error) { return c.Wait(ctx, id) }} {
			for _, limit := range []time.Duration{time.Second, time.Minute} {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				if _, err := ask(ctx, "j"); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				cancel()
				time.Sleep(time.Hour)
			}
		}
		if sent != 0 {
			t.Errorf("%d requests", sent)
		}
	})
}

// Property 41: queueing for a connection or a place in flight is never taken
// for a slow backend, and the bound in flight holds.
func TestQueueingIsNoFault(t *testing.T) {
	old := http.DefaultTransport
	defer func() { http.DefaultTransport = old }()
	for _, how := range []string{"WithMaxInFlight", "MaxConnsPerHost", "MaxConnsPerHost of http.DefaultTransport", "and of a client without a transport"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var inFlight, most atomic.Int32
				s := testserver.StartInMemory(t, testserver.Handler(func(w http.ResponseWriter, _ *http.Request) {
					now := inFlight.Add(1)
					defer inFlight.Add(-1)
					for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
					}
					time.Sleep(20 * time.Millisecond)
					io.WriteString(w, `{"result":"pending"}`)
				}))
				transport := &http.Transport{DialContext: s.DialContext, MaxIdleConnsPerHost: 1000, MaxConnsPerHost: 4}
				defer transport.CloseIdleConnections()
				with, n := vtclient.WithHTTPClient(&http.Client{Transport: transport}), 1000
				switch how {
				case "WithMaxInFlight":
					transport.MaxConnsPerHost, n = 0, 4
				case "MaxConnsPerHost of http.DefaultTransport":
					http.DefaultTransport, with = transport, vtclient.WithTrace(vtclient.Trace{})
				case "and of a client without a transport":
					http.DefaultTransport, with = transport, vtclient.WithHTTPClient(&http.Client{})
				}
				b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 1})
				c, err := vtclient.New(s.URL(), with, vtclient.WithMaxInFlight(n), vtclient.WithTimeout(time.Second), vtclient.WithBreaker(b), once())
				if err != nil {
					t.Fatal(err)
				}
				defer c.CloseIdleConnections()
				start := time.Now()
				var wg sync.WaitGroup
				for i := range 1000 {
					wg.Go(func() {
						if _, err := c.Status(t.Context(), fmt.Sprint(i)); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if took := time.Since(start); took != 5*time.Second || b.State() != vtclient.BreakerClosed || len(s.Requests()) != 1000 || s.Connections() != 4 || most.Load() != 4 {
					t.Errorf("took %v, breaker %v, %d requests, %d connections, %d in flight", took, b.State(), len(s.Requests()), s.Connections(), most.Load())
				}
			})
		})
	}
}

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

// Property 23: concurrent first use, under -race, over real sockets.
func TestConcurrentFirstUse(t *testing.T) {
	s := testserver.Start(t, testserver.Pending())
	c, err := vtclient.New(s.URL(), vtclient.WithHeader("X-Key", "value"), vtclient.WithRequest(func(r *http.Request) error { r.Header.Set("X-A", "b"); return nil }))
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			if _, err := c.Status(t.Context(), fmt.Sprint(i%8)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Property 26: a context error of somebody else's is not the end of the caller's own context.
func TestForeignContextErrorsAreNotTheCallers(t *testing.T) {
	for _, foreign := range []error{context.DeadlineExceeded, context.Canceled} {
		wrapped := fmt.Errorf("%w: %w", io.ErrNoProgress, foreign)
		for _, where := range []string{"transport", "with a secret", "body", "WithRequest", "limiter", "Decode"} {
			b := &notingBreaker{}
			l := &countingLimiter{}
			if where == "limiter" {
				l.err = wrapped
			}
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				resp := respond(r, 200, "")
				switch where {
				case "transport":
					return nil, wrapped
				case "with a secret":
					return nil, fmt.Errorf("key s3cr3t: %w", wrapped)
				case "body":
					resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), errorReader{wrapped}))
				}
				return resp, nil
			}, once(), vtclient.WithBreaker(b), vtclient.WithLimiter(l), vtclient.WithHeader("X-Api-Key", "s3cr3t"),
				vtclient.WithRequest(func(*http.Request) error {
					if where == "WithRequest" {
						return wrapped
					}
					return nil
				}),
				vtclient.WithEndpoint(vtclient.Endpoint{Decode: func(vtclient.Answer) (vtclient.Status, error) { return vtclient.Status{}, wrapped }}))
			_, err := c.Status(t.Context(), "j")
			var te *vtclient.TransportError
			if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || !errors.Is(err, io.ErrNoProgress) ||
				errors.As(err, &te) != (where != "Decode") || te != nil && te.Timeout() != (foreign == context.DeadlineExceeded) {
				t.Errorf("%s: %v", where, err)
			}
			if _, told := b.noted(); where == "transport" && (len(told) != 1 || errors.Is(told[0], context.Canceled)) {
				t.Errorf("the breaker was told %v", told)
			}
		}
	}
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

// Property 24: what is a secret, and what is too short for one.
func TestWhatCountsAsASecret(t *testing.T) {
	for _, tt := range []struct {
		name, base string
		prepare    func(*http.Request)
		body, want string
	}{
		{"one the beginning of another", "http://h", func(r *http.Request) { r.Header["X-Key"] = []string{"s3cret", "s3cret-and-more"} }, "a s3cret-and-more b s3cret", "a [redacted] b [redacted]"},
		{"cookies", "http://h", func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: "a", Value: "c00kie"})
			r.AddCookie(&http.Cookie{Name: "b", Value: "b1scuit"})
		}, "c00kie, b1scuit", "[redacted], [redacted]"},
		{"a key for a user", "http://us3rkey:@h", nil, "us3rkey is no user", "[redacted] is no user"},
		{"but no user beside a password", "http://user:p4ssword@h", nil, "user and p4ssword", "user and [redacted]"},
		{"Basic of WithRequest", "http://h", func(r *http.Request) { r.SetBasicAuth("user", "p4ssword") }, "p4ssword of user 1", "[redacted] of user 1"},
		{"short ones", "http://h", func(r *http.Request) { r.Header.Set("X-Version", "abc") }, "abcdef abc", "abcdef abc"},
		{"and four bytes", "http://h", func(r *http.Request) { r.Header.Set("X-Version", "abcd") }, "abcdef", "[redacted]ef"},
	} {
		c, err := vtclient.New(tt.base, vtclient.WithRequest(func(r *http.Request) error {
			if tt.prepare != nil {
				tt.prepare(r)
			}
			return nil
		}), vtclient.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) { return respond(r, 400, tt.body), nil })}))
		if err != nil {
			t.Fatal(err)
		}
		var h *vtclient.HTTPError
		if _, err := c.Status(t.Context(), "j"); !errors.As(err, &h) || h.Excerpt != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

// A dueContext has a deadline and a timer that is late.
type dueContext struct {
	context.Context
	deadline time.Time
}

func (c dueContext) Deadline() (time.Time, bool) { return c.deadline, true }

// What fails at the very instant of the caller's deadline is the caller's end: neutral, and not told to others.
func TestAFailureAtTheDeadlineIsTheCallersEnd(t *testing.T) {
	for _, where := range []string{"transport", "WithRequest", "limiter"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int32
				failing := func(at string) error {
					if at == where && n.Add(1) == 1 {
						time.Sleep(time.Second)
						return errors.New("broke")
					}
					return nil
				}
				b := &notingBreaker{}
				l := limiterFunc(func(context.Context) error { return failing("limiter") })
				c := stubbed(t, func(r *http.Request) (*http.Response, error) {
					if err := failing("transport"); err != nil {
						return nil, err
					}
					return respond(r, 200, `{"result":"pending"}`), nil
				}, once(), vtclient.WithBreaker(b), vtclient.WithLimiter(l), vtclient.WithRequest(func(*http.Request) error { return failing("WithRequest") }))
				var wg sync.WaitGroup
				wg.Go(func() {
					_, err := c.Status(dueContext{t.Context(), time.Now().Add(time.Second)}, "j")
					var te *vtclient.TransportError
					if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &te) {
						t.Errorf("the caller got %v", err)
					}
				})
				synctest.Wait()
				if _, err := c.Status(t.Context(), "j"); err != nil {
					t.Errorf("who shares the call got %v", err)
				}
				wg.Wait()
				want := 2
				if where == "limiter" {
					want = 1
				}
				if _, told := b.noted(); len(told) != want || want == 2 && !errors.Is(told[0], context.Canceled) || told[want-1] != nil {
					t.Errorf("the breaker was told %v", told)
				}
			})
		})
	}
}

type limiterFunc func(context.Context) error

func (f limiterFunc) Wait(ctx context.Context) error { return f(ctx) }

// A server that wants a certificate of the client's will want it again.
func TestAnAlertOfTheServersIsFinal(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	// In TLS 1.2 the alert comes within the handshake; in 1.3 it may be lost to a reset after it.
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}
	s.StartTLS()
	defer s.Close()
	b := &notingBreaker{}
	c, err := vtclient.New(s.URL, vtclient.WithHTTPClient(s.Client()), vtclient.WithBreaker(b), every(time.Millisecond, 3))
	if err != nil {
		t.Fatal(err)
	}
	var te *vtclient.TransportError
	_, err = c.Status(t.Context(), "j")
	if n, _ := b.noted(); !errors.As(err, &te) || n != 1 || !strings.Contains(err.Error(), "refuses this client") {
		t.Errorf("%v after %d tries", err, n)
	}
}

// An error of WithRequest is a fault of the try, with nothing sent and nothing said of the backend.
func TestWithRequestMayFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broke := errors.New("no token")
		calls, sent := 0, 0
		b := &notingBreaker{}
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
		if _, told := b.noted(); len(told) != 4 || !errors.Is(told[0], context.Canceled) || !errors.Is(told[1], context.Canceled) || told[2] != nil || !errors.Is(told[3], context.Canceled) {
			t.Errorf("the breaker was told %v", told)
		}
	})
}

// Who leaves while queueing gets its own context's error, sends nothing and keeps no place.
func TestLeavingAQueue(t *testing.T) {
	for _, where := range []string{"gate", "limiter"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				l := &countingLimiter{}
				c := stubbed(t, func(r *http.Request) (*http.Response, error) {
					sent++
					time.Sleep(10 * time.Second)
					return respond(r, 200, `{"result":"pending"}`), nil
				}, vtclient.WithMaxInFlight(1), vtclient.WithLimiter(l), vtclient.WithTimeout(time.Minute))
				var wg sync.WaitGroup
				if where == "limiter" {
					l.pause = time.Hour
				} else {
					wg.Go(func() { c.Status(t.Context(), "first") })
					synctest.Wait()
				}
				before, start := sent, time.Now()
				mine := errors.New("shutting down")
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { cancel(mine) })
				_, err := c.Status(ctx, "j")
				if !errors.Is(err, context.Canceled) || !errors.Is(err, mine) || time.Since(start) != time.Second || sent != before {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				wg.Wait()
				l.pause = 0
				last, cancelLast := context.WithTimeout(t.Context(), time.Minute)
				defer cancelLast()
				if _, err := c.Status(last, "j"); err != nil || sent != before+1 {
					t.Errorf("the next one: %v", err)
				}
			})
		})
	}
}

// The error of a 429 that holds the client is read by others while its own call goes on: run with -race.
func TestTheErrorOfAHoldMayBeReadByOthers(t *testing.T) {
	held, read := make(chan struct{}), make(chan struct{})
	var first sync.Once
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 429, "", "Retry-After: 60"), nil }, vtclient.WithCache(nil),
		vtclient.WithTrace(vtclient.Trace{Answered: func(context.Context, vtclient.TraceInfo) { first.Do(func() { close(held) }) }}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(read)
		<-held
		short, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		time.Sleep(50 * time.Millisecond)
		_, err := c.Status(short, "other")
		var h *vtclient.HTTPError
		if !errors.As(err, &h) || h.Next != 0 || !strings.Contains(err.Error(), "429") {
			t.Errorf("%v", err)
		}
		cancel()
	}()
	c.Status(ctx, "j")
	<-read
}

// A redirect that we refuse is none of the caller's CheckRedirect's business.
func TestOurRefusalOfARedirectComesFirst(t *testing.T) {
	asked := 0
	c, err := vtclient.New("http://api.test", vtclient.WithHTTPClient(&http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { asked++; return nil },
		Transport: tripper(func(r *http.Request) (*http.Response, error) {
			return respond(r, 302, "", "Location: http://evil.test/"), nil
		}),
	}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context(), "j"); !errors.Is(err, vtclient.ErrRedirect) || asked != 0 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

// Ours does not count a 429 unless asked to.
func TestA429DoesNotOpenOurBreaker(t *testing.T) {
	b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 1})
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 429, ""), nil }, vtclient.WithBreaker(b), once())
	for range 3 {
		c.Status(t.Context(), "j")
	}
	if b.State() != vtclient.BreakerClosed {
		t.Error(b.State())
	}
}
