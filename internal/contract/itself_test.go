package contract_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vtclient/vtclient"
)

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
