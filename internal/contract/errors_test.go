package contract_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// Each error has job, attempt, the server's answer (code, request id, excerpt)
// and when to come back.
func TestErrorsDescribeWhatHappened(t *testing.T) {
	for _, tt := range []struct {
		name string
		step testserver.Step
		opts []vtclient.Option
		want string
	}{
		{"final", testserver.Reply(404, `{"error": "no such job"}`, "X-Request-Id: r-1"), nil,
			`vtclient: job "j\"1": request 1: GET testserver.invalid:1/status/{id}: 404 Not Found (request id r-1): "{\"error\": \"no such job\"}"; not retried: a 404 is final`},
		{"a code without a name", testserver.Reply(599, ""), nil, `vtclient: job "j\"1": request 1: GET testserver.invalid:1/status/{id}: 599; not retried: WithRetry stops after try 1`},
		{"with a pause", testserver.Reply(503, "busy", "Retry-After: 30", "Cf-Ray: 7"), nil,
			`vtclient: job "j\"1": request 1: GET testserver.invalid:1/status/{id}: 503 Service Unavailable (request id 7): "busy"; the server asks to wait 30s; not retried: WithRetry stops after try 1`},
		{"too long a pause", testserver.Reply(503, "", "Retry-After: 3600"), nil,
			`vtclient: job "j\"1": ended without a result after 1 request: the server asks for a longer pause than allowed: the bound is 10m0s; last fault: request 1: GET testserver.invalid:1/status/{id}: 503 Service Unavailable; the server asks to wait 1h0m0s`},
		{"unreadable", testserver.Reply(200, "<html>\r\n\tnew\x1b[31mred</html>"), nil,
			`vtclient: job "j\"1": request 1: GET testserver.invalid:1/status/{id}: unreadable answer: invalid character '<' looking for beginning of value: "<html> new [31mred</html>"; not retried: WithRetry stops after try 1`},
		{"too large", testserver.Reply(200, `{"result":"pending"}`), []vtclient.Option{vtclient.WithMaxBody(10)},
			`vtclient: job "j\"1": request 1: GET testserver.invalid:1/status/{id}: unreadable answer: the body is larger than allowed: more than 10 bytes: "{\"result\":"; not retried: WithRetry stops after try 1`},
		{"an unknown state", testserver.JSON(200, `{"result":"CANCELLED\n"}`, "Request-Id: q"), nil,
			`vtclient: job "j\"1": request 1: GET testserver.invalid:1/status/{id}: unknown job state "CANCELLED\n" (request id q): "{\"result\":\"CANCELLED\\n\"}"; not retried: the Endpoint has no such state`},
		{"no answer in time", testserver.Silence(), []vtclient.Option{vtclient.WithTimeout(time.Second)},
			`vtclient: job "j\"1": request 1: GET testserver.invalid:1/status/{id}: no whole answer within 1s; not retried: WithRetry stops after try 1`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testserver.StartInMemory(t, tt.step)
				_, err := clientFor(t, s, append(tt.opts, once())...).Status(t.Context(), `j"1`)
				if err == nil || err.Error() != tt.want {
					t.Errorf("got  %v\nwant %s", err, tt.want)
				}
			})
		})
	}
}

// Each error is found by errors.As with its facts, and has what comes next.
func TestErrorsCarryTheirFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Reply(429, "slow\ndown", "Retry-After: 4", "X-Request-Id: abc"))
		_, err := clientFor(t, s, every(time.Second, 3)).Status(t.Context(), "j")
		var h *vtclient.HTTPError
		want := vtclient.Details{JobID: "j", Attempt: 3, StatusCode: 429, RequestID: "abc", Excerpt: "slow down", RetryAfter: 4 * time.Second}
		if !errors.As(err, &h) || h.JobID != want.JobID || h.Attempt != want.Attempt || h.StatusCode != want.StatusCode ||
			h.RequestID != want.RequestID || h.Excerpt != want.Excerpt || h.RetryAfter != want.RetryAfter || h.Next != 0 {
			t.Errorf("%+v, want %+v", h, want)
		}
	})
}

func TestExcerptIsOneBoundedPrintableLine(t *testing.T) {
	for _, body := range []string{
		strings.Repeat("x", 10_000), strings.Repeat("ü☃", 5000), strings.Repeat("\n \t", 30_000) + "end", strings.Repeat("\xff", 1000),
		"\x00\x1b]0;title\x07\u202e\u2028\r\n200 OK", strings.Repeat("a", 196) + "ü" + strings.Repeat("b", 50),
	} {
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			return respond(r, 404, body, "X-Request-Id: "+strings.Repeat("r", 500)), nil
		})
		_, err := c.Status(t.Context(), "j")
		var h *vtclient.HTTPError
		if !errors.As(err, &h) || len(h.Excerpt) > 200 || len(h.RequestID) > 64 || !utf8.ValidString(h.Excerpt) ||
			strings.ContainsFunc(h.Excerpt+err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u202e' || r == '\u2028' }) {
			t.Errorf("%.40q: %q", body, err)
		}
	}
}

func TestJobErrorIsBoundedAndMatchesErrJobFailed(t *testing.T) {
	for _, tt := range []struct{ message, want string }{
		{"", `vtclient: job "j" failed; the backend gives no reason`},
		{"no sound\n\x1b[2J", `vtclient: job "j" failed: "no sound [2J"`},
	} {
		err := error(&vtclient.JobError{Status: vtclient.Status{JobID: "j", State: "error", Message: tt.message}})
		if err.Error() != tt.want || !errors.Is(err, vtclient.ErrJobFailed) || errors.Is(err, vtclient.ErrOutage) {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
	if n := len((&vtclient.JobError{Status: vtclient.Status{JobID: strings.Repeat("j", 9999), Message: strings.Repeat("m", 9999)}}).Error()); n > 700 {
		t.Errorf("%d bytes", n)
	}
}

// Property 18, and the text of a WaitError.
func TestWaitErrorMatchesCauseAndFault(t *testing.T) {
	fault := &vtclient.HTTPError{Details: vtclient.Details{JobID: "j", Attempt: 2, StatusCode: 503}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		err  *vtclient.WaitError
		want string
	}{
		{&vtclient.WaitError{JobID: "j", Requests: 2, Cause: context.DeadlineExceeded, Fault: fault, Last: vtclient.Status{State: "pending", CheckedAt: at}},
			`vtclient: job "j": ended without a result after 2 requests: context deadline exceeded; last answer: pending at 2026-01-02T03:04:05Z; last fault: request 2: 503 Service Unavailable`},
		{&vtclient.WaitError{JobID: "j", Requests: 1, Cause: vtclient.ErrGaveUp}, `vtclient: job "j": ended without a result after 1 request: the polling backoff gave up`},
	} {
		var h *vtclient.HTTPError
		if tt.err.Error() != tt.want || !errors.Is(tt.err, tt.err.Cause) || errors.As(tt.err, &h) != (tt.err.Fault != nil) || errors.Is(tt.err, vtclient.ErrOutage) {
			t.Errorf("%v\nwant %s", tt.err, tt.want)
		}
	}
}

type comesBack time.Duration

func (c comesBack) Error() string             { return "go away" }
func (c comesBack) RetryAfter() time.Duration { return time.Duration(c) }

// openBreaker returns the refusal of a breaker that has just opened for a minute.
func openBreaker(t *testing.T) error {
	b := vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 1, OpenPeriod: time.Minute, Jitter: -1})
	done, err := b.Allow()
	if err != nil {
		t.Fatal(err)
	}
	done(errors.New("down"))
	_, err = b.Allow()
	return err
}

func TestRefusedErrorHasTheTimeToComeBack(t *testing.T) {
	synctest.Test(t, testRefusedErrorHasTheTimeToComeBack)
}

func testRefusedErrorHasTheTimeToComeBack(t *testing.T) {
	for _, tt := range []struct {
		said error
		want time.Duration
		text string
	}{
		{comesBack(3 * time.Second), 3 * time.Second, `vtclient: job "j": no request made: go away; try again in 3s`},
		{comesBack(-1), 0, `vtclient: job "j": no request made: go away`},
		{openBreaker(t), time.Minute, // whose own text has it
			`vtclient: job "j": no request made: circuit breaker is open (failures in a row: 1): try again in 1m0s`},
		{errors.New("shut"), 0, `vtclient: job "j": no request made: shut`},
	} {
		err := &vtclient.RefusedError{JobID: "j", Err: tt.said}
		if err.RetryAfter() != tt.want || err.Error() != tt.text || !errors.Is(err, tt.said) {
			t.Errorf("%v, %v; want %v, %s", err.RetryAfter(), err, tt.want, tt.text)
		}
	}
}

// A cause that the caller gave its context is matched beside the context's own error.
func TestTheCausesOfTheCallersContextAreKept(t *testing.T) {
	mine := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(mine)
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, mine })
	_, err := c.Status(ctx, "j")
	if !errors.Is(err, context.Canceled) || !errors.Is(err, mine) || !strings.Contains(err.Error(), "context canceled: shutting down") {
		t.Error(err)
	}
}

// A cancellation without a cause is said once.
func TestACancellationWithoutACauseIsPrintedOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, errors.New("sent") })
	_, err := c.Status(ctx, "j")
	if want := `vtclient: job "j": ended without a result after 0 requests (GET api.test/status/{id}): context canceled`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// A *WaitError unwraps to its cause, and to its fault only where it has one.
func TestWhatAWaitErrorUnwrapsTo(t *testing.T) {
	fault := errors.New("fault")
	for _, e := range []*vtclient.WaitError{{Cause: vtclient.ErrGaveUp}, {Cause: vtclient.ErrGaveUp, Fault: fault}} {
		all := e.Unwrap()
		if want := []error{vtclient.ErrGaveUp, fault}[:len(all)]; !slices.Equal(all, want) || (len(all) == 2) != (e.Fault != nil) {
			t.Errorf("%v unwraps to %v", e, all)
		}
	}
}

// The waits of an outage, which all get the same answer, end with a fault of their own each.
func TestEachWaitOfAnOutageHasAFaultOfItsOwn(t *testing.T) {
	for _, tt := range []struct {
		name  string
		again bool // the job is answered once more after the last fault
	}{{"until the end", false}, {"and an answer after it", true}} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				requests, faults := map[string]int{}, map[string]int{} // of each job; the last that was one
				c := stubbed(t, func(r *http.Request) (*http.Response, error) {
					id := path.Base(r.URL.Path)
					requests[id]++
					if n := requests[id]; n == 1 && id != "a" || n == 2 && id == "c" || tt.again && faults[id] > 0 {
						return respond(r, 200, `{"result":"pending"}`), nil
					}
					faults[id] = requests[id]
					return respond(r, 503, "down"), nil
				}, vtclient.WithMaxInFlight(1), vtclient.WithBreaker(nil), vtclient.WithPolling(vtclient.Constant(time.Second)), every(7*time.Second, 4))
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for st, err := range c.WaitAll(ctx, vtclient.Jobs("a", "b", "c")) {
					var h *vtclient.HTTPError
					if !errors.As(err, &h) {
						t.Fatalf("%s ends with %v, want an *HTTPError within", st.JobID, err)
					}
					if h.JobID != st.JobID || h.Attempt != faults[st.JobID] || h.StatusCode != 503 || h.Excerpt != "down" || h.Next != 0 {
						t.Errorf("%s ends with %+v, want its request %d", st.JobID, h.Details, faults[st.JobID])
					}
					hasOnce(t, err, fmt.Sprintf("request %d: GET api.test/status/{id}: 503", faults[st.JobID]))
				}
			})
		})
	}
	bubble(t, func(t *testing.T) { // a job without an id
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 503, "down"), nil }, vtclient.WithOutageTolerance(0))
		_, err := c.Wait(t.Context(), "")
		hasOnce(t, err, "request 1: GET api.test/status: 503")
	})
}

// Property 78: an error gives what was asked: method, host and path, without secrets.
func TestErrorsNameTheRequest(t *testing.T) {
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
		{"the breaker refuses", "https://api.example.com", down, []vtclient.Option{vtclient.WithBreaker(&recordingBreaker{refusal: errors.New("open")})}, "j", "no request made: GET api.example.com/status/{id}: open"},
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
				hasOnce(t, err, tt.want)
			})
		})
	}
}

// hasOnce checks that an error has a text once, and no secret.
func hasOnce(t *testing.T, err error, want string) {
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

// So does the error of a call that ends without any fault, and of one that ends with its last.
func TestTheErrorOfAWaitNamesTheRequest(t *testing.T) {
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

// The zero value of each error type, and one whose fields are nil, has a text, and can be
// searched: a program may make them in its own tests.
func TestTheZeroValueOfEachErrorCanBeUsed(t *testing.T) {
	for _, err := range []error{
		&vtclient.JobError{}, &vtclient.HTTPError{}, &vtclient.TransportError{}, &vtclient.DecodeError{}, &vtclient.UnknownStateError{},
		&vtclient.RefusedError{}, &vtclient.WaitError{}, &vtclient.SubmitError{}, &vtclient.ArgumentError{},
		&vtclient.WaitError{Fault: &vtclient.TransportError{}}, &vtclient.WaitError{Cause: &vtclient.WaitError{}},
		&vtclient.WaitError{Fault: io.EOF, Last: vtclient.Status{State: vtclient.StatePending}},
	} {
		if text := err.Error(); !strings.HasPrefix(text, "vtclient: ") || strings.Contains(text, "nil") {
			t.Errorf("%T: %q", err, text)
		}
		var wait *vtclient.WaitError
		var timeout interface{ Timeout() bool }
		if errors.Is(err, context.Canceled) || errors.As(fmt.Errorf("%w", err), &timeout) && timeout.Timeout() {
			t.Errorf("%T matches what it is not", err)
		}
		if errors.As(err, &wait) {
			for _, e := range wait.Unwrap() {
				if e == nil {
					t.Errorf("%+v wraps a nil", wait)
				}
			}
		}
	}
	if (&vtclient.RefusedError{}).RetryAfter() != 0 || (&vtclient.TransportError{}).Timeout() {
		t.Error("a zero value has a pause or is a timeout")
	}
	if err := error(&vtclient.WaitError{Fault: io.EOF}); !errors.Is(err, io.EOF) {
		t.Error("the fault of an error without a cause is not found")
	}
	if got, want := (&vtclient.WaitError{JobID: "j", Requests: 2}).Error(), `vtclient: job "j": ended without a result after 2 requests: for an unknown reason`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
