package contract_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// Property 78: an error says what was asked of what: method, host and path, without secrets.
func TestErrorsSayWhatWasAsked(t *testing.T) {
	down := func(r *http.Request) (*http.Response, error) { return respond(r, 503, ""), nil }
	list := vtclient.Endpoint{Path: "/jobs/{id}", Bulk: vtclient.Bulk{Path: "/jobs?key=s3cret&ids={ids}", Decode: func(vtclient.Answer) ([]vtclient.Status, string, error) {
		return nil, "", errors.New("unread")
	}}}
	for _, tt := range []struct {
		name, base string
		answer     tripper
		opts       []vtclient.Option
		id, want   string
	}{
		{"a single job", "https://api.example.com", down, nil, "j", "GET api.example.com/status/{id}: 503"},
		{"a base with a path", "https://api.example.com/v1/", down, nil, "j", "GET api.example.com/v1/status/{id}: 503"},
		{"a base with a port", "http://127.0.0.1:8080", down, nil, "j", "GET 127.0.0.1:8080/status/{id}: 503"},
		{"a base with a password", "https://us3r:passw0rd@api.example.com", down, nil, "j", "GET api.example.com/status/{id}: 503"},
		{"no id", "https://api.example.com", down, nil, "", "GET api.example.com/status: 503"},
		{"an id in the query", "https://api.example.com", down, []vtclient.Option{vtclient.WithEndpoint(vtclient.Endpoint{Path: "/job?key=s3cret&of={id}"})}, "j", "GET api.example.com/job: 503"},
		{"an escaped path", "https://api.example.com", down, []vtclient.Option{vtclient.WithEndpoint(vtclient.Endpoint{Path: "/a%2Fb/{id}"})}, "j", "GET api.example.com/a%2Fb/{id}: 503"},
		{"final", "https://api.example.com", func(r *http.Request) (*http.Response, error) { return respond(r, 404, ""), nil }, nil, "j", "GET api.example.com/status/{id}: 404"},
		{"unreadable", "https://api.example.com", func(r *http.Request) (*http.Response, error) { return respond(r, 200, "<html>"), nil }, nil, "j", "GET api.example.com/status/{id}: unreadable"},
		{"an unknown state", "https://api.example.com", func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"odd"}`), nil }, nil, "j", "GET api.example.com/status/{id}: unknown job state"},
		{"no answer", "https://api.example.com", func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, nil, "j", "GET api.example.com/status/{id}: unexpected EOF"},
		{"WithRequest fails", "https://api.example.com", down, []vtclient.Option{vtclient.WithRequest(func(*http.Request) error { return errors.New("no token") })}, "j", "GET api.example.com/status/{id}: WithRequest: no token"},
		{"WithRequest adds a key", "https://api.example.com", down, []vtclient.Option{vtclient.WithRequest(func(r *http.Request) error { r.URL.RawQuery = "key=s3cret"; return nil })}, "j", "GET api.example.com/status/{id}: 503"},
		{"WithRequest asks elsewhere", "https://api.example.com", down, []vtclient.Option{vtclient.WithRequest(func(r *http.Request) error {
			r.URL.Host, r.URL.Path, r.URL.RawPath, r.Method = "other.test", "/x", "", "POST"
			return nil
		})}, "j", "POST other.test/x: 503"},
		{"the limiter fails", "https://api.example.com", down, []vtclient.Option{vtclient.WithLimiter(&countingLimiter{err: errors.New("closed")})}, "j", "GET api.example.com/status/{id}: refused by the limiter"},
		{"the breaker refuses", "https://api.example.com", down, []vtclient.Option{vtclient.WithBreaker(&notingBreaker{refusal: errors.New("open")})}, "j", "no request made: GET api.example.com/status/{id}: open"},
		{"many jobs", "https://api.example.com", down, []vtclient.Option{vtclient.WithEndpoint(list)}, "many", "for 3 jobs at once: GET api.example.com/jobs: 503"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, err := vtclient.New(tt.base, append([]vtclient.Option{vtclient.WithHTTPClient(&http.Client{Transport: tt.answer}), once(), vtclient.WithOutageTolerance(0)}, tt.opts...)...)
				if err != nil {
					t.Fatal(err)
				}
				if tt.id == "many" {
					for _, e := range c.WaitAll(t.Context(), vtclient.Jobs("a", "b", "c")) {
						err = e
					}
				} else {
					_, err = c.Status(t.Context(), tt.id)
				}
				saysOnce(t, err, tt.want)
			})
		})
	}
}

// saysOnce checks that an error has a text once, and no secret.
func saysOnce(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, secret := range []string{"s3cret", "us3r", "passw0rd", "key="} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("shows %q: %v", secret, err)
		}
	}
	if strings.Count(err.Error(), want) != 1 || strings.Count(err.Error(), "GET ") > 1 {
		t.Errorf("got %v, want %q in it, once", err, want)
	}
	if strings.Count(err.Error(), `job "j"`) > 1 {
		t.Errorf("names the job twice: %v", err)
	}
}

// A call that ends without any fault says it, too, and so does one that ends with its last.
func TestAWaitThatEndsSaysWhatWasAsked(t *testing.T) {
	for name, step := range map[string]testserver.Step{"silence": testserver.Silence(), "a fault": testserver.Reply(503, ""), "pending": testserver.Pending()} {
		bubble(t, func(t *testing.T) {
			s := testserver.StartInMemory(t, step)
			c := clientFor(t, s, vtclient.WithTimeout(time.Minute))
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			errs := map[string]error{}
			_, errs["Wait"] = c.Wait(ctx, "j")
			if name != "pending" {
				_, errs["Status"] = c.Status(t.Context(), "j")
			}
			for _, err := range c.Watch(ctx, "j") {
				errs["Watch"] = err
			}
			for _, err := range c.WaitAll(ctx, vtclient.Jobs("j")) {
				errs["WaitAll"] = err
			}
			for call, err := range errs {
				if strings.Count(err.Error(), "GET testserver.invalid:1/status/{id}") != 1 {
					t.Errorf("%s, %s: %v", name, call, err)
				}
			}
		})
	}
}

func asksTheBackend(context.Context, string) (vtclient.Status, error) {
	return vtclient.Status{}, vtclient.ErrFinal
}

// With WithFetch, it is the function that is named.
func TestErrorsNameTheFunctionOfWithFetch(t *testing.T) {
	c, err := vtclient.New("", vtclient.WithFetch(asksTheBackend))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Status(t.Context(), "j")
	if want := `vtclient: job "j": request 1: WithFetch(contract_test.asksTheBackend): final; not retried`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
