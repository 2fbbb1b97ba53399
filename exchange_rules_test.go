package vtclient_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

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

// Whatever a transport does to the header of a request, though it should leave it alone,
// and a function given to WithRequest, which may do anything to it: the next request has
// the header that New was told of.
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

// What would go wrong in the same way again ends a Status and a wait at once,
// whoever found it: crypto/tls, or a callback or transport of the caller's that
// returns what crypto/x509 said.
func TestTransportErrorsThatAreFinal(t *testing.T) {
	for _, tt := range []struct {
		name  string
		err   error // nil: a redirect elsewhere
		final string
	}{
		{"expired", x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}, "the certificate would be refused again"},
		{"for another host", x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}, "the certificate would be refused again"},
		{"signed by nobody known", x509.UnknownAuthorityError{}, "the certificate would be refused again"},
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
					b := &notingBreaker{}
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
					if _, told := b.noted(); len(told) != requests || (told[0] == nil) != (tt.err == nil) {
						t.Errorf("the breaker was told %v", told)
					}
				})
			})
		}
	}
}

// What a breaker is told when the caller left matches context.Canceled, says
// something, and matches nothing else.
func TestWhatTheBreakerIsToldOfACallerThatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &notingBreaker{}
		c := clientFor(t, testserver.StartInMemory(t, testserver.Silence()), vtclient.WithBreaker(b))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.Status(ctx, "j")
		_, told := b.noted()
		if len(told) != 1 || !errors.Is(told[0], context.Canceled) || errors.Is(told[0], io.EOF) || errors.Is(told[0], context.DeadlineExceeded) || told[0].Error() == "" {
			t.Errorf("told %v", told)
		}
	})
}

// A breaker that takes its time, beyond the caller's: nothing is sent, and the
// permit is given back without a word about the backend.
func TestNoRequestAfterALateBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []error
		slow := breakerFunc(func() (func(error), error) {
			time.Sleep(time.Minute)
			return func(err error) { told = append(told, err) }, nil
		})
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF }, vtclient.WithBreaker(slow))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var w *vtclient.WaitError
		if _, err := c.Status(ctx, "j"); !errors.As(err, &w) || w.Requests != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if len(told) != 1 || !errors.Is(told[0], context.Canceled) {
			t.Errorf("the breaker was told %v", told)
		}
	})
}

// A breaker is not asked for a permit on behalf of a caller whose time a limiter
// has used up: its refusal would hide why the call ended.
func TestNoPermitAfterALateLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &notingBreaker{refusal: errors.New("shut")}
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF }, vtclient.WithBreaker(b),
			vtclient.WithLimiter(limiterFunc(func(context.Context) error { time.Sleep(time.Minute); return nil })))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var refused *vtclient.RefusedError
		if _, err := c.Status(ctx, "j"); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &refused) {
			t.Error(err)
		}
	})
}

// A refusal names its job and the number that the request would have had.
func TestARefusalNamesJobAndNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		b := &notingBreaker{}
		answers := []string{"oops", "oops", `{"result":"completed"}`}
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			answer := answers[0]
			answers = answers[1:]
			b.mu.Lock()
			b.refusal = errors.New("shut")
			b.mu.Unlock()
			time.AfterFunc(90*time.Second, func() { b.mu.Lock(); b.refusal = nil; b.mu.Unlock() })
			return respond(r, 200, answer), nil
		}, vtclient.WithBreaker(b), vtclient.WithRetry(vtclient.Constant(time.Minute)), vtclient.WithOutageTolerance(time.Hour), vtclient.WithTrace(r.trace()))
		if _, err := c.Wait(t.Context(), "j"); err != nil {
			t.Error(err)
		}
		var got []string
		for i, name := range r.names {
			if name == "sent" || name == "refused" {
				got = append(got, fmt.Sprint(name, r.infos[i].Attempt))
			}
			var refused *vtclient.RefusedError
			if name == "refused" && (!errors.As(r.infos[i].Err, &refused) || refused.JobID != "j" || r.infos[i].JobID != "j") {
				t.Errorf("%+v", r.infos[i])
			}
		}
		if want := "[sent1 refused2 sent2 refused3 sent3]"; fmt.Sprint(got) != want {
			t.Errorf("%v, want %s", got, want)
		}
	})
}

// While a 429 holds the client, nothing is taken from the limiter, and what was
// queueing when it came is held, too.
func TestAHoldComesBeforeTheLimiterAndAfterTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &countingLimiter{}
		start := time.Now()
		sent := map[string][]time.Duration{}
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			id := strings.TrimPrefix(r.URL.Path, "/status/")
			sent[id] = append(sent[id], time.Since(start))
			time.Sleep(time.Second)
			if len(sent) == 1 && len(sent[id]) == 1 {
				return respond(r, 429, "", "Retry-After: 60"), nil
			}
			return respond(r, 200, `{"result":"pending"}`), nil
		}, vtclient.WithMaxInFlight(1), vtclient.WithLimiter(l), vtclient.WithCache(nil), once())
		var wg sync.WaitGroup
		wg.Go(func() { c.Status(t.Context(), "a") })
		synctest.Wait()
		wg.Go(func() { // queues at the gate when the 429 comes
			if _, err := c.Status(t.Context(), "b"); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(2 * time.Second)
		before := l.waits.Load()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Status(ctx, "c"); !errors.Is(err, context.DeadlineExceeded) || l.waits.Load() != before {
			t.Errorf("%v, and the limiter was asked %d times", err, l.waits.Load()-before)
		}
		wg.Wait()
		if got := sent["b"]; len(got) != 1 || got[0] != 61*time.Second {
			t.Errorf("what had queued was sent at %v", got)
		}
	})
}

// Of several 429s the one that lasts longest holds the client, in whatever order
// they come, and is the one that errors tell of.
func TestTheLongestPauseHolds(t *testing.T) {
	const none = "x"
	for _, pauses := range [][]string{{"60", "10", none}, {"10", "60", none}, {none, "60", "10"}, {"60", none, "10"}} {
		synctest.Test(t, func(t *testing.T) {
			start, n := time.Now(), 0
			var last time.Duration
			longest := fmt.Sprint(slices.Index(pauses, "60"))
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				n++
				if last = time.Since(start); n > len(pauses) {
					return respond(r, 200, `{"result":"pending"}`), nil
				}
				i := n - 1
				time.Sleep(time.Duration(n) * time.Second) // all are in flight at once, and are answered in turn
				return respond(r, 429, "", "Retry-After: "+pauses[i]), nil
			}, once())
			var wg sync.WaitGroup
			for i := range pauses {
				wg.Go(func() { c.Status(t.Context(), fmt.Sprint(i)) })
				synctest.Wait()
			}
			wg.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var h *vtclient.HTTPError
			if _, err := c.Status(ctx, "j"); !errors.As(err, &h) || h.JobID != longest || h.RetryAfter != time.Minute {
				t.Errorf("%v: %v", pauses, err)
			}
			if _, err := c.Status(t.Context(), "j"); err != nil || last != time.Duration(slices.Index(pauses, "60")+61)*time.Second {
				t.Errorf("%v: sent at %v: %v", pauses, last, err)
			}
		})
	}
}

// An error of the limiter is a fault of the attempt: it names job and attempt,
// and is tried again.
func TestALimitersErrorIsAFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		l := limiterFunc(func(context.Context) error {
			if asked++; asked < 6 {
				return errors.New("broke")
			}
			return nil
		})
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"pending"}`), nil },
			every(time.Second, 3), vtclient.WithLimiter(l))
		var te *vtclient.TransportError
		if _, err := c.Status(t.Context(), "j"); !errors.As(err, &te) || te.JobID != "j" || te.Attempt != 3 || asked != 3 || !strings.Contains(err.Error(), "limiter: broke") {
			t.Error(err)
		}
		if _, err := c.Status(t.Context(), "k"); err != nil || asked != 6 {
			t.Errorf("%v after %d questions", err, asked)
		}
	})
}

// An attempt that runs into WithTimeout is a timeout as package net knows it.
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
		if over == 0 && (err != nil || string(st.Body) != body) || over == 1 && (!errors.Is(err, vtclient.ErrBodyTooLarge) || !strings.Contains(err.Error(), "more than 21 bytes")) {
			t.Errorf("%d over: %v", over, err)
		}
	}
}

// The pause that comes with an unreadable answer is kept, too.
func TestAPauseBesideAnUnreadableAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Reply(200, "<html>", "Retry-After: 30"), testserver.Completed())
		c := clientFor(t, s, every(time.Second, 3))
		start := time.Now()
		if _, err := c.Status(t.Context(), "j"); err != nil || time.Since(start) != 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
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
		if _, err := c.Status(t.Context(), "j"); !errors.Is(err, vtclient.ErrRedirect) || requests != 1 {
			t.Errorf("from %s to %s: %v after %d requests", tt.from, tt.to, err, requests)
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

// A pause of seconds beyond ten years is ten years.
func TestAPauseOfElevenYears(t *testing.T) {
	if got := pauseFor(t, "Retry-After: 346896000"); got != 10*365*24*time.Hour {
		t.Error(got)
	}
}

// A 401 that is asked about once more is two requests: in what a wait's Backoff
// is told and in the error that a wait ends with.
func TestA401CountsAsTheRequestThatItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		var told []int
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			if n++; n == 1 {
				return respond(r, 401, ""), nil
			}
			return respond(r, 200, `{"result":"pending"}`), nil
		}, vtclient.WithRequest(func(*http.Request) error { return nil }), vtclient.WithPolling(backoffFunc(func(a vtclient.Attempt) (time.Duration, bool) {
			told = append(told, a.Number)
			return time.Second, len(told) < 3
		})))
		var w *vtclient.WaitError
		if _, err := c.Wait(t.Context(), "j"); !errors.As(err, &w) || w.Requests != 4 || n != 4 || !slices.Equal(told, []int{2, 3, 4}) {
			t.Errorf("%v after %d requests, told %v", err, n, told)
		}
	})
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

// An answer that is too large or breaks off still says which one it was.
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
		if want := `vtclient: job "j": request 1: ` + tt.want + "; not retried: WithRetry stops after try 1"; err == nil || err.Error() != want {
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
