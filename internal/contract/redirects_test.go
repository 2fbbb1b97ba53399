package contract_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
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
			b := &recordingBreaker{}
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
			if _, reported := b.recorded(); len(reported) != 1 || reported[0] != nil {
				t.Errorf("the breaker got %v", reported)
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

// A caller's *http.Client is never modified, and its CheckRedirect is still asked.
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

// The default client works where http.DefaultTransport is wrapped.
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

// reached returns an HTTP client for which every name is that of one server, which speaks
// TLS where the URL has https.
func reached(plain, secure *httptest.Server) *http.Client {
	t := secure.Client().Transport.(*http.Transport).Clone()
	t.TLSClientConfig.ServerName = "example.com" // that of the certificate
	t.DialContext = func(ctx context.Context, _, addr string) (net.Conn, error) {
		to := plain
		if strings.HasSuffix(addr, "443") {
			to = secure
		}
		return new(net.Dialer).DialContext(ctx, "tcp", to.Listener.Addr().String())
	}
	return &http.Client{Transport: t}
}

// Property 51: credentials survive a redirect from the backend to itself, however it writes
// its own name; to another host there is none.
func TestCredentialsSurviveARedirectToItself(t *testing.T) {
	for _, tt := range []struct {
		name, base, to string
		follows        bool
	}{
		{"a path", "http://api.test", "/other", true},
		{"the whole address", "http://api.test", "http://api.test/other", true},
		{"a final dot", "http://api.test", "http://api.test./other", true},
		{"a final dot less", "http://api.test.", "http://api.test/other", true},
		{"other case", "http://api.test", "http://API.Test/other", true},
		{"other case of the base", "http://API.test", "http://api.test/other", true},
		{"the port written out", "http://api.test", "http://api.test:80/other", true},
		{"the port left out", "http://api.test:80", "http://api.test/other", true},
		{"an empty port", "http://api.test", "http://api.test:/other", true},
		{"zeros before the port", "http://api.test", "http://api.test:0080/other", true},
		{"all of these", "http://api.test", "http://API.TEST.:80/other", true},
		{"IDN in ASCII", "http://bücher.test", "http://xn--bcher-kva.test/other", true},
		{"IDN in Unicode", "http://xn--bcher-kva.test", "http://bücher.test/other", true},
		{"IDN in capitals", "http://bücher.test", "http://BÜCHER.test/other", true},
		{"IDN in ASCII capitals, with a dot", "http://bücher.test", "http://XN--BCHER-KVA.test./other", true},
		{"IPv6 in full", "http://[2001:db8::1]", "http://[2001:0db8:0:0:0:0:0:1]/other", true},
		{"IPv6 in capitals", "http://[2001:db8::a]", "http://[2001:DB8::A]:80/other", true},
		{"IPv6 of IPv4", "http://192.0.2.1", "http://[::ffff:192.0.2.1]/other", true},
		{"a user of its own", "http://api.test", "http://us3r:passw0rd@api.test/other", true},
		{"to https", "http://api.test", "https://api.test/other", true},
		{"to https, all of these", "http://api.test:80", "https://API.test.:443/other", true},
		{"over https, with a final dot", "https://api.test", "https://api.test./other", true},

		{"two final dots", "http://api.test", "http://api.test../other", false},
		{"another IDN", "http://bücher.test", "http://xn--bcher-kvb.test/other", false},
		{"ASCII for IDN", "http://bücher.test", "http://bucher.test/other", false},
		{"another IPv6", "http://[2001:db8::1]", "http://[2001:db8::10]/other", false},
		{"another zone", "http://[fe80::1%25a]", "http://[fe80::1%25b]/other", false},
		{"IPv4 in one number", "http://192.0.2.1", "http://3221225985/other", false},
		{"a subdomain", "http://api.test", "http://www.api.test/other", false},
		{"a parent", "http://www.api.test", "http://api.test/other", false},
		{"another port", "http://api.test", "http://api.test:8080/other", false},
		{"back to http", "https://api.test", "http://api.test/other", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, with := range map[string]struct {
				user   string
				opts   []vtclient.Option
				header string
			}{
				"the user of the base URL": {"us:pa55word@", nil, "Authorization"},
				"an Authorization":         {"", []vtclient.Option{vtclient.WithHeader("Authorization", "Bearer t0ken")}, "Authorization"},
				"a Cookie":                 {"", []vtclient.Option{vtclient.WithHeader("Cookie", "session=s3cret")}, "Cookie"},
				"an API key":               {"", []vtclient.Option{vtclient.WithHeader("X-Api-Key", "s3cret")}, "X-Api-Key"},
				"a function":               {"", []vtclient.Option{vtclient.WithRequest(func(r *http.Request) error { r.SetBasicAuth("us", "pa55word"); return nil })}, "Authorization"},
			} {
				var first, second []string
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/other" {
						second = r.Header[with.header]
						io.WriteString(w, `{"result":"pending"}`)
						return
					}
					first = r.Header[with.header]
					w.Header().Set("Location", tt.to)
					w.WriteHeader(http.StatusTemporaryRedirect)
				})
				plain, secure := httptest.NewServer(h), httptest.NewTLSServer(h)
				hc := reached(plain, secure)
				scheme, host, _ := strings.Cut(tt.base, "://")
				c, err := vtclient.New(scheme+"://"+with.user+host, append(with.opts, vtclient.WithHTTPClient(hc))...)
				if err != nil {
					t.Fatal(err)
				}
				_, err = c.Status(t.Context(), "j")
				switch {
				case len(first) != 1:
					t.Errorf("%s: the first request has %q", name, first)
				case tt.follows && (err != nil || len(second) != 1 || second[0] != first[0]):
					t.Errorf("%s: %v; after %q, %q", name, err, first, second)
				case !tt.follows && (second != nil || !refusedRedirect(err)):
					t.Errorf("%s: %v; sent %q there", name, err, second)
				}
				c.CloseIdleConnections()
				plain.Close()
				secure.Close()
			}
		})
	}
}

// A Host of the caller's, which the address does not show, survives too; and what a jar has
// is not sent twice.
func TestWhatElseSurvivesARedirectToItself(t *testing.T) {
	var hosts, cookies []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts, cookies = append(hosts, r.Host), append(cookies, r.Header.Get("Cookie"))
		if r.URL.Path != "/other" {
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "2", Path: "/"})
			http.Redirect(w, r, "http://"+r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()+"/other", http.StatusFound)
			return
		}
		io.WriteString(w, `{"result":"pending"}`)
	}))
	defer srv.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := vtclient.New(srv.URL, vtclient.WithHTTPClient(&http.Client{Transport: &http.Transport{}, Jar: jar}),
		vtclient.WithRequest(func(r *http.Request) error { r.Host = "virtual.test"; return nil }))
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	if _, err := c.Status(t.Context(), "j"); err != nil {
		t.Error(err)
	}
	if len(hosts) != 2 || hosts[0] != "virtual.test" || hosts[1] != "virtual.test" || cookies[1] != "a=2" {
		t.Errorf("hosts %q, cookies %q", hosts, cookies)
	}
}
