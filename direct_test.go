package vtclient_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

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
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "backend.invalid") {
					t.Errorf("got %v, want an error with %q and no URL", err, tt.want)
				}
				if sent != 3 {
					t.Errorf("the transport was called %d times, want 3", sent)
				}
			})
		})
	}
}
