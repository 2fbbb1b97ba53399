package contract_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

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
			if code == 408 || code == 421 || code == 425 || code == 429 || code >= 500 {
				want = 3
			}
			var h *vtclient.HTTPError
			if !errors.As(err, &h) || h.StatusCode != code || requests != want {
				t.Errorf("%d: %d requests, %v", code, requests, err)
			}
		})
	}
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
		unwell bool // what is reported to the breaker
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
				b := &recordingBreaker{}
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
				if _, reported := b.recorded(); len(reported) != 2 || (reported[0] != nil) != tt.unwell || reported[1] != nil {
					t.Errorf("the breaker got %v", reported)
				}
			})
		})
	}
}

// Property 17: a Status returns an unknown state word at once, by name.
func TestAnUnknownStateIsNamedAtOnce(t *testing.T) {
	s := testserver.Start(t, testserver.JSON(200, `{"result":"CANCELLED"}`))
	b := &recordingBreaker{}
	_, err := clientFor(t, s, vtclient.WithBreaker(b)).Status(t.Context(), "j")
	var e *vtclient.UnknownStateError
	if !errors.As(err, &e) || e.Word != "CANCELLED" || len(s.Requests()) != 1 {
		t.Error(err, len(s.Requests()))
	}
	if _, reported := b.recorded(); len(reported) != 1 || reported[0] != nil {
		t.Errorf("the breaker got %v", reported)
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
					return plainDecode(a)
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

// TLS and URL errors are final.
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
		{"a certificate that is not trusted", untrusted.URL, nil, "certificate"},
		{"http answers to https", strings.Replace(plain.URL, "http:", "https:", 1), nil, "does not speak TLS"},
		{"an address that is none", "http://127.0.0.1:99999", nil, "no address"},
		{"no URL", plain.URL, []vtclient.Option{brokenURL(func(r *http.Request) { r.URL = nil })}, "no http or https URL"},
		{"another scheme", plain.URL, []vtclient.Option{brokenURL(func(r *http.Request) { r.URL.Scheme = "gopher" })}, "no http or https URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &recordingBreaker{}
			c, err := vtclient.New(tt.url, append(tt.opts, vtclient.WithBreaker(b), every(time.Minute, 3))...)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Status(t.Context(), "j") // would take a minute if it were tried again
			var te *vtclient.TransportError
			if allowed, _ := b.recorded(); !errors.As(err, &te) || !strings.Contains(err.Error(), tt.want) || allowed != 1 {
				t.Errorf("%v after %d tries", err, allowed)
			}
			c.CloseIdleConnections()
		})
	}
}

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

// A server that demands a client certificate will demand it again.
func TestAnAlertOfTheServersIsFinal(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	// In TLS 1.2 the alert comes within the handshake; in 1.3 it may be lost to a reset after it.
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}
	s.StartTLS()
	defer s.Close()
	b := &recordingBreaker{}
	c, err := vtclient.New(s.URL, vtclient.WithHTTPClient(s.Client()), vtclient.WithBreaker(b), every(time.Millisecond, 3))
	if err != nil {
		t.Fatal(err)
	}
	var te *vtclient.TransportError
	_, err = c.Status(t.Context(), "j")
	if n, _ := b.recorded(); !errors.As(err, &te) || n != 1 || !strings.Contains(err.Error(), "refuses this client") {
		t.Errorf("%v after %d tries", err, n)
	}
}

// Ours does not count a 429 unless asked to.
func TestA429DoesNotOpenOurBreaker(t *testing.T) {
	b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 1})
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 429, ""), nil }, vtclient.WithBreaker(b), once())
	for range 3 {
		c.Status(t.Context(), "j")
	}
	if b.State() != "closed" {
		t.Error(b.State())
	}
}

// What would go wrong in the same way again ends a Status and a wait at once, whichever code
// found it: crypto/tls, or a callback or transport of the caller's that returns an error of
// crypto/x509.
func TestTransportErrorsThatAreFinal(t *testing.T) {
	for _, tt := range []struct {
		name  string
		err   error // nil: a redirect elsewhere
		final string
	}{
		{"expired", x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}, "the certificate would be refused again"},
		{"for another host", x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}, "the certificate would be refused again"},
		{"signed by an unknown authority", x509.UnknownAuthorityError{}, "the certificate would be refused again"},
		{"as crypto/tls wraps it", &tls.CertificateVerificationError{Err: errors.New("no")}, "the certificate would be refused again"},
		{"no TLS record", tls.RecordHeaderError{Msg: "no"}, "does not speak TLS"},
		{"http to https", http.ErrSchemeMismatch, "does not speak TLS"},
		{"an alert", &net.OpError{Op: "remote error", Err: errors.New("bad certificate")}, "the server refuses this client"},
		{"no address", &net.OpError{Op: "dial", Err: &net.AddrError{Err: "no", Addr: "x"}}, "the address is no address"},
		{"a redirect", nil, "the server would redirect again"},
		{"another fault of the network", &net.OpError{Op: "dial", Err: errors.New("refused")}, ""},
	} {
		for _, wait := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " ", wait), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					requests := 0
					b := &recordingBreaker{}
					c := stubbed(t, func(r *http.Request) (*http.Response, error) {
						if requests++; tt.err == nil {
							return respond(r, 302, "", "Location: http://evil.test/there"), nil
						}
						return nil, tt.err
					}, every(time.Second, 3), vtclient.WithOutageTolerance(0), vtclient.WithBreaker(b))
					ask := c.Status
					if wait {
						ask = func(ctx context.Context, id string) (vtclient.Status, error) { return c.Wait(ctx, id) }
					}
					st, err := ask(t.Context(), "j")
					var te *vtclient.TransportError
					if !errors.As(err, &te) || te.JobID != "j" || te.Attempt != requests || te.Next != 0 || st.JobID != "j" || st.State != "" {
						t.Fatalf("%+v, %v", st, err)
					}
					if final := !errors.Is(err, vtclient.ErrOutage) && requests == 1; final != (tt.final != "") || !strings.Contains(err.Error(), tt.final) {
						t.Errorf("after %d requests: %v", requests, err)
					}
					if tt.err == nil && !strings.Contains(err.Error(), "from http://api.test to http://evil.test") {
						t.Errorf("not said from where to where: %v", err)
					}
					if _, reported := b.recorded(); len(reported) != requests || (reported[0] == nil) != (tt.err == nil) {
						t.Errorf("the breaker got %v", reported)
					}
				})
			})
		}
	}
}

// The causes of a *TransportError are found by errors.As and errors.Is, with
// their own text, as long as they show no secret; nothing else matches.
func TestTheCauseOfATransportErrorIsFound(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", os.ErrPermission)}
	for _, tt := range []struct {
		cause   error
		as      bool // the *net.OpError is found
		text    string
		timeout bool
	}{
		{dial, true, "dial tcp", false},
		{fmt.Errorf("key s3cr3t: %w", dial), false, "key [redacted]: dial tcp", false},
		{fmt.Errorf("%w: %w", dial, context.Canceled), false, "dial tcp", false},
		{fmt.Errorf("%w: %w", os.ErrPermission, context.DeadlineExceeded), false, "permission denied", true},
	} {
		c := stubbed(t, func(*http.Request) (*http.Response, error) { return nil, tt.cause }, once(), vtclient.WithHeader("X-Api-Key", "s3cr3t"))
		_, err := c.Status(t.Context(), "j")
		var te *vtclient.TransportError
		var op *net.OpError
		if !errors.As(err, &te) || errors.As(err, &op) != tt.as || !errors.Is(err, os.ErrPermission) || errors.Is(err, io.EOF) ||
			errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), tt.text) || te.Timeout() != tt.timeout {
			t.Errorf("of %v: %v, a timeout: %v", tt.cause, err, te.Timeout())
		}
	}
}

// What is taken out of a text, to the byte: a secret that the text's end cuts,
// in whatever form, and nothing that every request carries.
func TestWhatIsTakenOutOfATextToTheByte(t *testing.T) {
	for _, tt := range []struct {
		name         string
		key, value   string
		echoed, want string
	}{
		{"whole", "X-Key", "s3cret", "a s3cret b", "a [redacted] b"},
		{"cut by one byte", "X-Key", "s3cret", "a s3cre", "a [redacted]"},
		{"cut to four bytes", "X-Key", "s3cret", "a s3cr", "a [redacted]"},
		{"cut to three bytes", "X-Key", "s3cret", "a s3c", "a s3c"},
		{"but for its beginning", "X-Key", "s3cret", "s3cre", "[redacted]"},
		{"in the middle, not whole", "X-Key", "s3cret", "s3cre b", "s3cre b"},
		{"its second part", "Authorization", "Bearer s3cret", "s3cret", "[redacted]"},
		{"its second part, in more than two", "Authorization", "Key  id s3cret", "id s3cret", "[redacted]"},
		{"what is harmless", "X-Key", "s3cret", "vtclient takes application/json", "vtclient takes application/json"},
		{"no credentials, encoded", "X-Key", "s3cret", "Og==", "Og=="},
		{"nothing", "X-Key", "s3cret", "", ""},
	} {
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 400, tt.echoed), nil }, vtclient.WithHeader(tt.key, tt.value))
		var h *vtclient.HTTPError
		if _, err := c.Status(t.Context(), "j"); !errors.As(err, &h) || h.Excerpt != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, h.Excerpt, tt.want)
		}
	}
}

// A 429 that the breaker is asked to count is an *HTTPError all the same, and a fault.
func TestA429ThatCountsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { requests++; return respond(r, 429, ""), nil },
			vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{Count429: true})), every(time.Second, 3))
		var h *vtclient.HTTPError
		if _, err := c.Status(t.Context(), "j"); !errors.As(err, &h) || h.StatusCode != 429 || requests != 3 {
			t.Errorf("%v after %d requests", err, requests)
		}
	})
}

// Of a pending answer no body is kept, even if the Endpoint sets one.
func TestAPendingAnswerHasNoBody(t *testing.T) {
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, "x"), nil },
		vtclient.WithEndpoint(vtclient.Endpoint{Decode: func(a vtclient.Answer) (vtclient.Status, error) {
			return vtclient.Status{State: vtclient.StatePending, Body: []byte("x")}, nil
		}}))
	if st, err := c.Status(t.Context(), "j"); err != nil || st.Body != nil {
		t.Errorf("%q, %v", st.Body, err)
	}
}

// The error about an answer that is too large or breaks off has its request id.
func TestTheRequestIDOfABodyThatIsOfNoUse(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"too large":  strings.NewReader(strings.Repeat("x", 2000)),
		"broken":     io.MultiReader(strings.NewReader("{"), failingReader{}),
		"unreadable": strings.NewReader("<html>"),
	} {
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			resp := respond(r, 200, "", "X-Request-Id: r-1")
			resp.Body, resp.ContentLength = io.NopCloser(body), -1
			return resp, nil
		}, once(), vtclient.WithMaxBody(1000))
		_, err := c.Status(t.Context(), "j")
		if e, ok := err.(interface{ Timeout() bool }); err == nil || !strings.Contains(err.Error(), "request id r-1") || ok && e.Timeout() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The message of a pending answer is cut between two characters, at 1 KiB; that
// of a failed job is not.
func TestWhereAMessageIsCut(t *testing.T) {
	for _, tt := range []struct {
		state vtclient.State
		in    string
		want  string
	}{
		{vtclient.StatePending, strings.Repeat("x", 1024), strings.Repeat("x", 1024)},
		{vtclient.StatePending, strings.Repeat("x", 1025), strings.Repeat("x", 1021) + "…"},
		{vtclient.StatePending, "x" + strings.Repeat("ü", 1024), "x" + strings.Repeat("ü", 510) + "…"},
		{vtclient.StatePending, strings.Repeat("\x80", 2000), "…"}, // no character begins
		{vtclient.StateFailed, strings.Repeat("x", 5000), strings.Repeat("x", 5000)},
	} {
		c, err := vtclient.New("", vtclient.WithFetch(func(context.Context, string) (vtclient.Status, error) {
			return vtclient.Status{State: tt.state, Message: tt.in}, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		if st, err := c.Status(t.Context(), "j"); err != nil || st.Message != tt.want {
			t.Errorf("%s, %d bytes: %d bytes, %v", tt.state, len(tt.in), len(st.Message), err)
		}
	}
}

// In an error's text, a part that is quoted is looked at by itself, since what
// quotes often quotes the beginning of a secret only; and of an error of more
// than 1 KiB only the text is kept.
func TestSecretsInWhatAnErrorQuotes(t *testing.T) {
	const secret = "s3cret\t0123456789"
	for _, tt := range []struct {
		text, want string
		kept       bool
	}{
		{`bad "s3cret\t0123" here`, `bad "[redacted]" here`, true},
		{`"s3cret\t0123"`, `"[redacted]"`, true},
		{`bad "ok" and "s3cret\t" or "x"`, `bad "ok" and "[redacted]" or "x"`, true},
		{`5" of "s3cret`, `5" of "[redacted]`, true},
		{`"D" is no quote`, `"D" is no quote`, true},
		{strings.Repeat("x", 1024), strings.Repeat("x", 497) + "…", true},
		{strings.Repeat("x", 1025), strings.Repeat("x", 497) + "…", false},
	} {
		c := stubbed(t, func(*http.Request) (*http.Response, error) { return nil, worded{tt.text, io.ErrNoProgress} }, once(), vtclient.WithHeader("X-Api-Key", secret))
		_, err := c.Status(t.Context(), "j")
		if want := `vtclient: job "j": request 1: GET api.test/status/{id}: ` + tt.want + "; not retried: WithRetry stops after try 1"; err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
		if errors.Is(err, io.ErrNoProgress) != tt.kept {
			t.Errorf("%.40s: the error itself is kept: %v", tt.text, !tt.kept)
		}
	}
}

// A worded error has a text of its own.
type worded struct {
	text string
	error
}

func (w worded) Error() string { return w.text }

func (w worded) Unwrap() error { return w.error }

// A user in the base URL counts as a credential that the server has refused.
func TestAUserInTheBaseURLIsACredential(t *testing.T) {
	for base, want := range map[string]string{"http://user:p4ssword@h": "are the credentials right?", "http://h": "bring no credentials"} {
		c, err := vtclient.New(base, vtclient.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) { return respond(r, 401, ""), nil })}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Status(t.Context(), "j"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", base, err)
		}
	}
}

// What a query parameter holds is a secret as it stands there and as it is meant.
func TestAQueryParameterIsASecret(t *testing.T) {
	c := stubbed(t, func(r *http.Request) (*http.Response, error) {
		return respond(r, 400, r.URL.RawQuery+" and "+r.URL.Query().Get("key")+" for "+r.URL.Query().Get("name")), nil
	}, vtclient.WithEndpoint(vtclient.Endpoint{Path: "/job?key=s3cr+et%2F1&bad=%zz0123&name={id}"}))
	var h *vtclient.HTTPError
	if _, err := c.Status(t.Context(), "j-1234"); !errors.As(err, &h) || h.Excerpt != "key=[redacted]&bad=[redacted]&name=j-1234 and [redacted] for j-1234" {
		t.Errorf("%v", err)
	}
}
