package contract_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// Issue 2, item 7: each error says job, attempt, what the server said (code,
// request id, excerpt) and when to come back.
func TestErrorsSayWhatHappened(t *testing.T) {
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

// Each error is found by errors.As with its facts, and the caller who keeps one sees what comes next.
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

// Property 18, and what a WaitError says.
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

func TestRefusedErrorSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, testRefusedErrorSaysWhenToComeBack)
}

func testRefusedErrorSaysWhenToComeBack(t *testing.T) {
	for _, tt := range []struct {
		said error
		want time.Duration
		text string
	}{
		{comesBack(3 * time.Second), 3 * time.Second, `vtclient: job "j": no request made: go away; try again in 3s`},
		{comesBack(-1), 0, `vtclient: job "j": no request made: go away`},
		{openBreaker(t), time.Minute, // whose own text says it
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
func TestACancellationWithoutACauseIsSaidOnce(t *testing.T) {
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
