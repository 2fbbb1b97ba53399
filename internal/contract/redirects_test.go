package contract_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

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
			if !refusedRedirect(err) || !errors.As(err, &te) || len(seen) != 1 || arrived.Load() != 0 {
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
	if n := len(s.Requests()); !refusedRedirect(err) || n != 10 {
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
	if _, err := c.Status(t.Context(), "j"); !errors.Is(err, refusal) || !refusedRedirect(err) {
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
	if _, err := c.Status(t.Context(), "j"); !refusedRedirect(err) || asked != 0 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

// The one change of scheme and port that a redirect may bring is from http on
// port 80 to https on port 443.
func TestTheUpgradesThatAreNone(t *testing.T) {
	for _, tt := range []struct{ from, to string }{
		{"http://api.test:8080", "https://api.test/"},
		{"http://api.test", "http://api.test:443/"},
		{"http://api.test", "https://api.test:80/"},
		{"https://api.test:80", "https://api.test/"},
		{"https://api.test:8443", "https://api.test/"},
	} {
		requests := 0
		c, err := vtclient.New(tt.from, vtclient.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			requests++
			return respond(r, 302, "", "Location: "+tt.to), nil
		})}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Status(t.Context(), "j"); !refusedRedirect(err) || requests != 1 {
			t.Errorf("from %s to %s: %v after %d requests", tt.from, tt.to, err, requests)
		}
	}
}

// The default client works where somebody has wrapped http.DefaultTransport.
func TestNewWorksWithAWrappedDefaultTransport(t *testing.T) {
	s := testserver.Start(t, testserver.Pending())
	old := http.DefaultTransport
	defer func() { http.DefaultTransport = old }()
	http.DefaultTransport = tripper(func(*http.Request) (*http.Response, error) { t.Error("used"); return nil, io.EOF })
	c, err := vtclient.New(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	if _, err := c.Status(t.Context(), "j"); err != nil {
		t.Error(err)
	}
}
