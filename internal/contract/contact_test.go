package contract_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// A nuisance is trouble in the place of an answer.
type nuisance struct {
	name  string
	reply func(r *http.Request) (*http.Response, error)
	cause string // in the error
	setup bool   // before the first readable answer it can only be a mistake
}

func nuisances() []nuisance {
	met := func(name string, err error, cause string, setup bool) nuisance {
		return nuisance{name, func(*http.Request) (*http.Response, error) { return nil, err }, cause, setup}
	}
	answer := func(name string, code int, body, cause string, header ...string) nuisance {
		return nuisance{name, func(r *http.Request) (*http.Response, error) { return respond(r, code, body, header...), nil }, cause, false}
	}
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	elsewhere := answer("a redirect elsewhere", 302, "", "redirect refused", "Location: https://login.evil.test/")
	elsewhere.setup = true
	odd := answer("a redirect to nowhere", 304, "", "304 Not Modified")
	odd.setup = true
	return []nuisance{
		met("no such host", dial(&net.DNSError{Err: "no such host", Name: "api.test", IsNotFound: true}), "no such host", false),
		met("a name server that fails", dial(&net.DNSError{Err: "server misbehaving", Name: "api.test", IsTemporary: true}), "server misbehaving", false),
		met("connection refused", dial(syscall.ECONNREFUSED), "connection refused", false),
		met("no route", dial(syscall.EHOSTUNREACH), "no route to host", false),
		met("a reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, "connection reset", false),
		met("EOF", io.ErrUnexpectedEOF, "unexpected EOF", false),
		met("garbage", errors.New(`net/http: HTTP/1.x transport connection broken: malformed HTTP response "\x00\x00garbage"`), "malformed HTTP response", false),
		{"silence", func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() }, "no whole answer within 10s", false},
		answer("a 500", 500, "", "500 Internal Server Error"),
		answer("a 503 without a word", 503, "", "503 Service Unavailable"),
		answer("a 521 of a proxy", 521, "<html>", "521"),
		answer("a page in HTML", 200, "<html>welcome</html>", "unreadable answer: invalid character '<'"),
		answer("JSON of another API", 200, `{"ok":true,"items":[]}`, "unreadable answer: no "),
		answer("a JSON array", 200, `[]`, "unreadable answer"),
		answer("nothing", 200, "", "unreadable answer"),
		answer("a state of another API", 200, `{"result":"success","data":{"status":"success "}}`, `unknown job state "success`),
		answer("a 429", 429, "", "429 Too Many Requests"),

		met("an expired certificate", &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}}, "expired", true),
		met("a certificate for another host", x509.HostnameError{Certificate: &x509.Certificate{}, Host: "api.test"}, "certificate", true),
		met("a certificate of an unknown authority", x509.UnknownAuthorityError{}, "unknown authority", true),
		met("plain text on the TLS port", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, "does not look like a TLS handshake", true),
		met("HTTP on the TLS port", http.ErrSchemeMismatch, "HTTP response to HTTPS client", true),
		met("TLS on the plain port", errors.New(`net/http: HTTP/1.x transport connection broken: malformed HTTP response "\x15\x03\x01\x00\x02\x02\x16"`), `\x15\x03`, true),
		met("an alert in the handshake", &net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}, "handshake failure", true),
		met("no suitable address", dial(&net.AddrError{Err: "no suitable address found", Addr: "api.test"}), "no suitable address", true),
		elsewhere, odd,
	}
}

// Property 44: until there has been one readable answer, a wait ends within half a minute of its
// begin, and at once where it can only be a mistake. The cause comes first in the error, and
// the address that was asked is in it.
func TestTroubleBeforeTheFirstAnswerEndsAWaitSoon(t *testing.T) {
	ways := map[string]func(ctx context.Context, c *vtclient.Client) error{
		"Wait": func(ctx context.Context, c *vtclient.Client) error { _, err := c.Wait(ctx, "j"); return err },
		"Wait for a job with a start": func(ctx context.Context, c *vtclient.Client) error {
			_, err := c.Wait(ctx, "j", vtclient.StartedAt(time.Now().Add(-time.Hour)))
			return err
		},
		"WaitAll": func(ctx context.Context, c *vtclient.Client) (err error) {
			for _, err = range c.WaitAll(ctx, vtclient.Jobs("j")) {
			}
			return err
		},
		"Watch": func(ctx context.Context, c *vtclient.Client) (err error) {
			for _, err = range c.Watch(ctx, "j") {
			}
			return err
		},
	}
	for _, n := range nuisances() {
		for name, way := range ways {
			t.Run(n.name+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					requests := 0
					c := stubbed(t, func(r *http.Request) (*http.Response, error) { requests++; return n.reply(r) })
					start := time.Now()
					err := way(t.Context(), c)
					took := time.Since(start)
					text := fmt.Sprint(err)
					if n.setup {
						if took != 0 || requests != 1 || !strings.Contains(text, n.cause) || errors.Is(err, vtclient.ErrOutage) {
							t.Errorf("after %v and %d requests: %v", took, requests, err)
						}
						return
					}
					if took > 30*time.Second || took < 25*time.Second || !errors.Is(err, vtclient.ErrOutage) || requests < 3 {
						t.Errorf("after %v and %d requests: %v", took, requests, err)
					}
					if at := strings.Index(text, n.cause); at < 0 || at > 110 || !strings.Contains(text, "http://api.test") || strings.Contains(text, "breaker") && strings.Index(text, "breaker") < at {
						t.Errorf("the cause does not come first: %v", err)
					}
				})
			})
		}
	}
}

// The same for jobs that share their requests, each of which ends once.
func TestTroubleBeforeTheFirstAnswerEndsSharedWaitsSoon(t *testing.T) {
	const n = 50
	for _, trouble := range nuisances() {
		t.Run(trouble.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				c := startBulk(t, &bulkBackend{}, vtclient.WithHTTPClient(&http.Client{Transport: tripper(trouble.reply)}))
				ended := map[string]bool{}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				for st, err := range c.WaitAll(ctx, vtclient.Jobs(ids(n)...)) {
					at := strings.Index(fmt.Sprint(err), trouble.cause)
					if trouble.name == "JSON of another API" { // this Endpoint finds a state without a name in it
						at = strings.Index(fmt.Sprint(err), `unknown job state ""`)
					}
					if ended[st.JobID] || at < 0 || at > 220 {
						t.Fatalf("%s: %v", st.JobID, err)
					}
					ended[st.JobID] = true
				}
				// First checks wait 10 ms for others, and single ones follow one another.
				if took := time.Since(start); len(ended) != n || took > 31*time.Second || trouble.setup && took > time.Second {
					t.Errorf("%d jobs have ended after %v", len(ended), took)
				}
			})
		})
	}
}

// The half minute follows a tolerance that is shorter, and is not prolonged by long gaps of the
// caller's own.
func TestTheBoundBeforeTheFirstAnswer(t *testing.T) {
	refused := func(*http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	for _, tt := range []struct {
		name string
		opts []vtclient.Option
		ends time.Duration
	}{
		{"a longer tolerance", []vtclient.Option{vtclient.WithOutageTolerance(time.Hour)}, 30 * time.Second},
		{"a shorter one", []vtclient.Option{vtclient.WithOutageTolerance(10 * time.Second)}, 10 * time.Second},
		{"none", []vtclient.Option{vtclient.WithOutageTolerance(0)}, 0},
		{"a fixed retry", []vtclient.Option{vtclient.WithRetry(vtclient.Constant(20 * time.Second))}, 30 * time.Second},
		{"a retry as long as the bound", []vtclient.Option{vtclient.WithRetry(vtclient.Constant(30 * time.Second)), vtclient.WithBreaker(nil)}, 30 * time.Second},
		{"a longer one than the bound", []vtclient.Option{vtclient.WithRetry(vtclient.Constant(time.Minute))}, 30 * time.Second},
		{"a longer one than the bound, and an hour's tolerance", []vtclient.Option{vtclient.WithRetry(vtclient.Constant(time.Minute)), vtclient.WithOutageTolerance(time.Hour)}, 30 * time.Second},
		{"one as long as the tolerance", []vtclient.Option{vtclient.WithRetry(vtclient.Constant(time.Minute)), vtclient.WithBreaker(nil), vtclient.WithOutageTolerance(time.Minute)}, 2 * time.Minute},
		{"a longer one", []vtclient.Option{vtclient.WithRetry(vtclient.Constant(6 * time.Minute)), vtclient.WithBreaker(nil)}, 12 * time.Minute},
		{"without a breaker", []vtclient.Option{vtclient.WithBreaker(nil)}, 30 * time.Second},
		{"a breaker that opens with the first fault", []vtclient.Option{vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 1, OpenPeriod: time.Minute}))}, 30 * time.Second},
		{"a longer timeout", []vtclient.Option{vtclient.WithTimeout(time.Minute)}, 30 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := stubbed(t, refused, tt.opts...)
			start := time.Now()
			_, err := c.Wait(t.Context(), "j")
			if took := time.Since(start); took != tt.ends || !errors.Is(err, syscall.ECONNREFUSED) || !errors.Is(err, vtclient.ErrOutage) {
				t.Errorf("%s: ends after %v: %v", tt.name, took, err)
			}
		})
	}
	// One fault alone ends no wait, however long the gap after it would be.
	for _, gap := range []time.Duration{29 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				if n++; n == 1 {
					return respond(r, 503, ""), nil
				}
				return respond(r, 200, `{"result":"completed"}`), nil
			}, vtclient.WithRetry(vtclient.Constant(gap)))
			if _, err := c.Wait(t.Context(), "j"); err != nil || n != 2 {
				t.Errorf("%v: %v", gap, err)
			}
		})
	}
	// A request that has not failed yet is no trouble: a timeout of a minute is kept.
	synctest.Test(t, func(t *testing.T) {
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			time.Sleep(50 * time.Second)
			return respond(r, 200, `{"result":"completed"}`), nil
		}, vtclient.WithTimeout(time.Minute))
		if _, err := c.Wait(t.Context(), "j"); err != nil {
			t.Error(err)
		}
	})
}

// A job about which the breaker let nothing through ends with what another one met.
func TestTheBreakerDoesNotHideTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "api.test"}}
		}, vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 1, OpenPeriod: time.Hour, MaxOpenPeriod: time.Hour, Jitter: -1})))
		c.Status(t.Context(), "first")
		start := time.Now()
		_, err := c.Wait(t.Context(), "j")
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("after %v", took)
		}
		var dns *net.DNSError
		if at := strings.Index(fmt.Sprint(err), "no such host"); at < 0 || at > 100 || !errors.As(err, &dns) || !strings.HasPrefix(err.Error(), `vtclient: job "j": `) {
			t.Error(err)
		}
	})
}

// The cause of a wait's end is what its own job has met; where it is a mistake, it is that.
func TestTheCauseIsTheJobsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		codes := map[string]int{"a": 500, "b": 502, "c": 401}
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			return respond(r, codes[r.URL.Path[len(r.URL.Path)-1:]], ""), nil
		}, vtclient.WithBreaker(nil))
		var wg sync.WaitGroup
		for id, code := range codes {
			wg.Go(func() {
				if id == "c" {
					time.Sleep(time.Second)
				}
				_, err := c.Wait(t.Context(), id)
				var h *vtclient.HTTPError
				if !errors.As(err, &h) || h.StatusCode != code {
					t.Errorf("%s: %v", id, err)
				}
			})
		}
		wg.Wait()
	})
}

// A breaker that other clients have opened is no trouble of the backend's: a client that has
// not asked it yet waits for as long as it likes.
func TestABreakerThatIsOpenFromTheBeginningEndsNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 1, OpenPeriod: 4 * time.Minute, MaxOpenPeriod: 4 * time.Minute})
		done, _ := b.Allow()
		done(errors.New("down"))
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"completed"}`), nil }, vtclient.WithBreaker(b))
		if _, err := c.Wait(t.Context(), "j"); err != nil {
			t.Error(err)
		}
	})
}

// Property 44 with WithFetch.
func TestAFunctionThatNeverAnswersEndsAWaitSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fetching(t, func(context.Context, int) (vtclient.Status, error) {
			return vtclient.Status{}, errors.New("rpc: name resolver error")
		})
		start := time.Now()
		_, err := c.Wait(t.Context(), "j")
		if took := time.Since(start); took != 30*time.Second || !strings.Contains(fmt.Sprint(err), "rpc: name resolver error; ended without a result after") {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// OnError gets the trouble at once, with the time until the wait is given up, and in the text;
// after the first answer there is no such time.
func TestAFaultHasTheTimeUntilTheWaitGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			if n++; n == 3 {
				return respond(r, 200, `{"result":"pending"}`), nil
			}
			return respond(r, 503, ""), nil
		}, vtclient.WithRetry(vtclient.Constant(4*time.Second)), vtclient.WithPolling(vtclient.Constant(time.Second)))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var left []time.Duration
		_, err := c.Wait(ctx, "j", vtclient.OnError(func(err error) {
			var h *vtclient.HTTPError
			errors.As(err, &h)
			left = append(left, h.GivesUpIn)
			if strings.Contains(err.Error(), fmt.Sprintf("giving up in %v", h.GivesUpIn)) != (h.GivesUpIn > 0) {
				t.Error(err)
			}
		}))
		if want := seconds(30, 26, 0, 0); len(left) < 4 || !slices.Equal(left[:4], want) {
			t.Errorf("gives up in %v, want %v", left, want)
		}
		var h *vtclient.HTTPError
		if !errors.As(err, &h) || h.GivesUpIn != 0 {
			t.Errorf("the wait is over: %v", err)
		}
	})
}

// Property 45, the part of the engine: once there has been a readable answer, be it one to
// another job, to a Status or to a shared request, no trouble ends a wait before the
// tolerance is used up.
func TestAfterTheFirstAnswerNoTroubleEndsAWait(t *testing.T) {
	const ok = `{"result":"pending"}`
	for _, n := range nuisances() {
		for _, ends := range []bool{false, true} {
			t.Run(fmt.Sprint(n.name, " ", ends), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					start := time.Now()
					c := stubbed(t, func(r *http.Request) (*http.Response, error) {
						switch d := time.Since(start); {
						case d == 0:
							return respond(r, 200, ok), nil
						case ends || d < 4*time.Minute:
							return n.reply(r)
						}
						return respond(r, 200, `{"result":"completed"}`), nil
					}, vtclient.WithPolling(vtclient.Constant(time.Second)))
					if _, err := c.Status(t.Context(), "another"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					faults := 0
					_, err := c.Wait(t.Context(), "j", vtclient.OnError(func(error) { faults++ }))
					if !ends {
						if err != nil || faults < 5 {
							t.Errorf("after %v and %d faults: %v", time.Since(start), faults, err)
						}
						return
					}
					// Counted from the first fault, which silence makes after 10 s.
					if d := time.Since(start) - time.Second; d < 5*time.Minute || d > 5*time.Minute+10*time.Second || !errors.Is(err, vtclient.ErrOutage) || !strings.Contains(err.Error(), n.cause) {
						t.Errorf("after %v: %v", d, err)
					}
				})
			})
		}
	}
}

// The same for jobs that share their requests.
func TestAfterTheFirstAnswerNoTroubleEndsASharedWait(t *testing.T) {
	const n = 50
	for _, trouble := range nuisances() {
		t.Run(trouble.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				b := &bulkBackend{state: func(_ string, at time.Duration) string {
					if at > 4*time.Minute {
						return "completed"
					}
					return "processing"
				}}
				c := startBulk(t, b, vtclient.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
					if d := time.Since(start); d > 5*time.Second && d < 2*time.Minute {
						return trouble.reply(r)
					}
					return b.RoundTrip(r)
				})}))
				done := 0
				for st, err := range c.WaitAll(t.Context(), vtclient.Jobs(ids(n)...)) {
					if done++; err != nil {
						t.Fatalf("%s after %v: %v", st.JobID, time.Since(start), err)
					}
				}
				if done != n {
					t.Errorf("%d of %d jobs", done, n)
				}
			})
		})
	}
}

// A submission that was answered with the ids of jobs counts as the first readable answer. That of
// a cancellation does not: it is not read, and any server gives it.
func TestAnAnsweredSubmissionIsTheFirstAnswer(t *testing.T) {
	for _, tt := range []struct {
		name string
		call func(ctx context.Context, c *vtclient.Client) error
		body string
		ok   bool
		ends time.Duration
	}{
		{"a submission", submitted, `{"id":"j"}`, true, 5 * time.Minute},
		{"one that cannot be read", submitted, `<html>welcome</html>`, false, 30 * time.Second},
		{"a cancellation", func(ctx context.Context, c *vtclient.Client) error { return c.Cancel(ctx, "j") }, `<html>welcome</html>`, true, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := vtclient.Endpoint{Cancel: "POST /jobs/{id}/cancel", Submit: vtclient.Submit{Path: "/jobs", Decode: func(a vtclient.Answer) ([]string, error) {
					var v struct{ ID string }
					err := json.Unmarshal(a.Body, &v)
					return []string{v.ID}, err
				}}}
				c := stubbed(t, func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodPost {
						return respond(r, 200, tt.body), nil
					}
					return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
				}, vtclient.WithEndpoint(e))
				if err := tt.call(t.Context(), c); (err == nil) != tt.ok {
					t.Fatal(err)
				}
				start := time.Now()
				if _, err := c.Wait(t.Context(), "j"); time.Since(start) != tt.ends || !errors.Is(err, vtclient.ErrOutage) {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
			})
		})
	}
}

func submitted(ctx context.Context, c *vtclient.Client) error {
	_, err := c.Submit(ctx, "", struct{}{})
	return err
}

// What is no readable answer does not count as the first: any server gives those.
func TestWhatIsNoFirstAnswer(t *testing.T) {
	for _, code := range []int{401, 403, 404, 410} {
		synctest.Test(t, func(t *testing.T) {
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/first") {
					return respond(r, code, ""), nil
				}
				return respond(r, 503, ""), nil
			})
			c.Status(t.Context(), "first")
			start := time.Now()
			if _, err := c.Wait(t.Context(), "j"); time.Since(start) != 30*time.Second {
				t.Errorf("%d: after %v: %v", code, time.Since(start), err)
			}
		})
	}
}

// Property 44, over real connections: what can only be a mistake ends a wait at once.
func TestMistakesOfTheSetUpEndAWaitAtOnce(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"result":"completed"}`) })
	secure := httptest.NewUnstartedServer(handler)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewServer(handler)
	defer plain.Close()
	alert := listen(t, "\x15\x03\x01\x00\x02\x02\x16")
	for name, tt := range map[string]struct{ url, want string }{
		"a certificate of an unknown authority": {secure.URL, "certificate"},
		"TLS to a plain port":                   {strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS"},
		"plain to a TLS port of net/http":       {strings.Replace(secure.URL, "https:", "http:", 1), "400 Bad Request"},
		"plain to a TLS port that only alerts":  {"http://" + alert, "speaks TLS here"},
	} {
		c, err := vtclient.New(tt.url, vtclient.WithRetry(vtclient.Constant(time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wait(t.Context(), "j"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
		c.CloseIdleConnections()
	}
}

// listen returns the address of a server that answers whatever it gets with some bytes.
func listen(t *testing.T, answer string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 1024))
			io.WriteString(conn, answer)
			conn.Close()
		}
	}()
	return l.Addr().String()
}

// Property 46: an unknown state word is reported, ridden out like any other fault, and ends the
// wait by name when the tolerance is used up.
func TestUnknownStateWordsAreRiddenOut(t *testing.T) {
	for _, word := range []string{"rendering", "PENDING", "completed ", "", "null", "état", strings.Repeat("x", 5000)} {
		for _, ends := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				start, calls := time.Now(), 0
				c := fetching(t, func(context.Context, int) (vtclient.Status, error) {
					calls++
					switch d := time.Since(start); {
					case d == 0:
						return vtclient.Status{State: vtclient.StatePending}, nil
					case ends || d < 4*time.Minute:
						return vtclient.Status{State: vtclient.State(word)}, nil
					}
					return vtclient.Status{State: vtclient.StateCompleted}, nil
				})
				met := 0
				st, err := c.Wait(t.Context(), "j", vtclient.OnError(func(err error) {
					var s *vtclient.UnknownStateError
					if met++; !errors.As(err, &s) || s.Next == 0 || !strings.HasPrefix(word, strings.TrimSuffix(s.Word, "…")) {
						t.Errorf("%.20q: %v", word, err)
					}
				}))
				var s *vtclient.UnknownStateError
				switch {
				case !ends && (err != nil || st.State != vtclient.StateCompleted):
					t.Errorf("%.20q: %v after %v", word, err, time.Since(start))
				case ends && (!errors.As(err, &s) || !errors.Is(err, vtclient.ErrOutage) || time.Since(start) != 5*time.Minute+10*time.Second || st.State != vtclient.StatePending):
					t.Errorf("%.20q: %v after %v", word, err, time.Since(start))
				case met < 5 || met > calls:
					t.Errorf("%.20q: met %d times of %d", word, met, calls)
				}
			})
		}
	}
}

// Property 46: one list of words serves the single and the shared answer of a preset.
func TestAPresetReadsTheSameWordsInBothAnswers(t *testing.T) {
	e := vtclient.HeyGenV3()
	for word, want := range map[string]vtclient.State{
		"pending": vtclient.StatePending, "queued": vtclient.StatePending, "waiting": vtclient.StatePending, "processing": vtclient.StatePending, "running": vtclient.StatePending,
		"completed": vtclient.StateCompleted, "success": vtclient.StateCompleted, "succeeded": vtclient.StateCompleted,
		"failed": vtclient.StateFailed, "canceled": vtclient.StateFailed, "cancelled": vtclient.StateFailed, "expired": vtclient.StateFailed,
		"rendering": "rendering", "Running": "Running", "not_found": "not_found",
	} {
		single, err := e.Decode(vtclient.Answer{StatusCode: 200, Body: fmt.Appendf(nil, `{"data":{"id":"a","status":%q}}`, word)})
		if err != nil || single.State != want {
			t.Errorf("single, %s: %v, %v", word, single.State, err)
		}
		shared, _, err := e.Bulk.Decode(vtclient.Answer{StatusCode: 200, Body: fmt.Appendf(nil, `{"data":[{"video_id":"a","status":%q}]}`, word)})
		if err != nil || len(shared) != 1 || shared[0].State != want {
			t.Errorf("shared, %s: %v, %v", word, shared, err)
		}
		if want == vtclient.StateFailed && word != "failed" && (single.Message != word || shared[0].Message != word) {
			t.Errorf("%s: the reasons are %q and %q", word, single.Message, shared[0].Message)
		}
	}
}

// Property 47: a 404 is looked at again for two minutes where the job is known to exist, and is
// then final; for a job never seen it is so at once.
func TestA404ForAJobThatExists(t *testing.T) {
	const m = time.Minute
	gone := fakeReply{code: 404}
	for _, tt := range []struct {
		name    string
		started bool
		answer  func(n int, at time.Duration) fakeReply
		ends    time.Duration
		code    int // 0: the job completes
	}{
		{"never seen", false, func(int, time.Duration) fakeReply { return gone }, 0, 404},
		{"with a start", true, func(int, time.Duration) fakeReply { return gone }, 2 * m, 404},
		{"with a start, found after a while", true, func(_ int, at time.Duration) fakeReply {
			if at < 100*time.Second {
				return gone
			}
			return completed
		}, 100 * time.Second, 0},
		{"seen, and then deleted", false, func(n int, _ time.Duration) fakeReply {
			if n > 1 {
				return gone
			}
			return pending
		}, 10*time.Second + 2*m, 404},
		{"an ingress during a deployment", false, func(_ int, at time.Duration) fakeReply {
			switch {
			case at >= 10*time.Second && at < 2*m:
				return gone
			case at < 3*m:
				return pending
			}
			return completed
		}, 3 * m, 0},
		{"a replica that lags, now and then", false, func(n int, at time.Duration) fakeReply {
			switch {
			case at > 20*m:
				return completed
			case n%2 == 0:
				return gone
			}
			return pending
		}, 20*m + 9*time.Second, 0},
		{"amid other trouble", false, func(n int, _ time.Duration) fakeReply {
			switch {
			case n == 1:
				return pending
			case n%3 == 0:
				return fakeReply{code: 503}
			}
			return gone
		}, 10*time.Second + 2*m, 404},
		{"another code is final at once", false, func(n int, _ time.Duration) fakeReply {
			if n > 1 {
				return fakeReply{code: 410}
			}
			return pending
		}, 10 * time.Second, 410},
	} {
		for _, all := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " ", all), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, f := startFake(t, func(id string, n int, at time.Duration) fakeReply {
						if id == "another" {
							return pending
						}
						return tt.answer(n, at)
					})
					c.Status(t.Context(), "another")
					job := vtclient.Job{ID: "a"}
					if tt.started {
						job.StartedAt = time.Now().Add(-time.Hour)
					}
					var err error
					if all {
						for _, err = range c.WaitAll(t.Context(), slices.Values([]vtclient.Job{job})) {
						}
					} else {
						_, err = c.Wait(t.Context(), "a", vtclient.StartedAt(job.StartedAt))
					}
					at := time.Since(f.start)
					var h *vtclient.HTTPError
					if tt.code == 0 && err != nil || tt.code != 0 && (!errors.As(err, &h) || h.StatusCode != tt.code || errors.Is(err, vtclient.ErrOutage)) || at != tt.ends {
						t.Errorf("ends after %v: %v; want %v", at, err, tt.ends)
					}
				})
			})
		}
	}
}

// The same for jobs that share their requests: a job that the shared answer lacks, and that a
// single one does not find.
func TestA404ForAJobThatASharedAnswerLacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bulkBackend{state: func(id string, at time.Duration) string {
			switch {
			case id == "lost" && at > 15*time.Second, id == "lagging" && at > 15*time.Second && at < time.Minute:
				return "not_found"
			case at > 3*time.Minute:
				return "completed"
			}
			return "processing"
		}}
		c := startBulk(t, b)
		start := time.Now()
		for st, err := range c.WaitAll(t.Context(), vtclient.Jobs("lost", "lagging", "well", "never")) {
			var h *vtclient.HTTPError
			lost := errors.As(err, &h) && h.StatusCode == 404
			if at := time.Since(start); lost != (st.JobID == "lost") || lost && (at < 2*time.Minute || at > 150*time.Second) || !lost && err != nil {
				t.Errorf("%s at %v: %v", st.JobID, at, err)
			}
		}
	})
}

// Property 48: a 4xx that carries Retry-After is a pause and not the end; without one that can
// be read it is final.
func TestA4xxThatCarriesRetryAfterIsAPause(t *testing.T) {
	for code := 400; code < 500; code++ {
		for _, tt := range []struct {
			header string
			next   time.Duration // 0: none
		}{{"Retry-After: 20", 20 * time.Second}, {"Retry-After: 0", time.Second}, {"Retry-After-Ms: 20000", 20 * time.Second}, {"Retry-After: soon", 0}, {"X-RateLimit-Reset: 20", 0}} {
			if code == 408 || code == 421 || code == 425 || code == 429 {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				var at []time.Time
				c := stubbed(t, func(r *http.Request) (*http.Response, error) {
					if at = append(at, time.Now()); len(at) == 1 {
						return respond(r, code, "", tt.header), nil
					}
					return respond(r, 200, `{"result":"completed"}`), nil
				}, vtclient.WithRetry(vtclient.Constant(time.Second)),
					vtclient.WithRequest(func(*http.Request) error { return nil })) // a 401 is not asked about again at once
				_, err := c.Wait(t.Context(), "j")
				if tt.next == 0 {
					var h *vtclient.HTTPError
					if want := 1 + b2i(code == 401); tt.next == 0 && (code != 401 && (!errors.As(err, &h) || h.StatusCode != code) || len(at) != want) {
						t.Errorf("%d, %s: %d requests, %v", code, tt.header, len(at), err)
					}
					return
				}
				if err != nil || len(at) != 2 || at[1].Sub(at[0]) != tt.next {
					t.Errorf("%d, %s: %v, %v", code, tt.header, at, err)
				}
			})
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Pauses without end are no way to ask for ever about a job that is not there.
func TestA404ThatAsksForPausesEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := startFake(t, always(fakeReply{code: 404, retryAfter: 50 * time.Second}))
		_, err := c.Wait(t.Context(), "a")
		var h *vtclient.HTTPError
		if !errors.As(err, &h) || h.StatusCode != 404 || time.Since(f.start) > 3*time.Minute {
			t.Errorf("after %v: %v", time.Since(f.start), err)
		}
	})
}

// Property 48: a 421 is answered by another connection.
func TestA421IsWorthAnotherConnection(t *testing.T) {
	for _, body := range []string{"", "misdirected"} {
		var mu sync.Mutex
		first, conns := "", map[string]bool{}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			conns[r.RemoteAddr] = true
			if first == "" {
				first = r.RemoteAddr
			}
			if r.RemoteAddr == first {
				w.WriteHeader(http.StatusMisdirectedRequest)
				io.WriteString(w, body)
				return
			}
			io.WriteString(w, `{"result":"completed"}`)
		}))
		c, err := vtclient.New(s.URL, vtclient.WithRetry(vtclient.Exponential{Base: time.Millisecond, Max: time.Millisecond, Limit: 2}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Status(t.Context(), "j"); err != nil || len(conns) != 2 {
			t.Errorf("%q: %v over %d connections", body, err, len(conns))
		}
		c.CloseIdleConnections()
		s.Close()
	}
}

// Property 55 holds before the first answer, too: an obeyed pause is no trouble.
func TestAPauseBeforeTheFirstAnswerIsObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			switch n++; n {
			case 1:
				return respond(r, 503, "", "Retry-After: 360"), nil
			case 2:
				return respond(r, 503, ""), nil
			}
			return respond(r, 200, `{"result":"completed"}`), nil
		})
		start := time.Now()
		if _, err := c.Wait(t.Context(), "j"); err != nil || time.Since(start) < 6*time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}
