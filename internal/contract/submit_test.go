package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// unkeyed is HeyGen's API as if it took no idempotency key.
func unkeyed() vtclient.Endpoint {
	e := vtclient.HeyGenV3()
	e.Submit.IdempotencyHeader = ""
	return e
}

const (
	oneLanguage = `{"video":{"type":"url","url":"https://v.test/1.mp4"},"output_languages":["German"]}`
	created     = `{"data":{"video_translation_ids":["tr-de"]}}`
)

// What is tried again, with a key and without, and what is made of the end.
func TestSubmitIsRepeatedOnlyWhereThatIsSafe(t *testing.T) {
	for _, tt := range []struct {
		name           string
		script         []testserver.Step
		keyed, unkeyed int    // requests
		maybe          bool   // of the call without a key, if it fails
		text           string // of its error; "": none
	}{
		{"created", []testserver.Step{testserver.JSON(200, created)}, 1, 1, false, ""},
		{"created, with another 2xx", []testserver.Step{testserver.JSON(202, created)}, 1, 1, false, ""},
		{"a 500", []testserver.Step{testserver.JSON(500, `{}`), testserver.JSON(200, created)}, 2, 1, true, "500 Internal Server Error"},
		{"a 503 with Retry-After", []testserver.Step{testserver.JSON(503, `{}`, "Retry-After: 1"), testserver.JSON(200, created)}, 2, 1, true, "503 Service Unavailable"},
		{"a 408", []testserver.Step{testserver.JSON(408, `{}`), testserver.JSON(200, created)}, 2, 1, true, "408"},
		{"a 429", []testserver.Step{testserver.JSON(429, `{}`), testserver.JSON(200, created)}, 2, 2, false, ""},
		{"a 425", []testserver.Step{testserver.JSON(425, `{}`), testserver.JSON(200, created)}, 2, 2, false, ""},
		{"a connection that ends without an answer", []testserver.Step{testserver.Drop(), testserver.JSON(200, created)}, 2, 1, true, "EOF"},
		{"half an answer", []testserver.Step{testserver.HalfBody(created), testserver.JSON(200, created)}, 2, 1, true, "EOF"},
		{"silence", []testserver.Step{testserver.Silence(), testserver.JSON(200, created)}, 2, 1, true, "no whole answer within 10s"},
		{"an unreadable answer", []testserver.Step{testserver.JSON(200, `<html>`), testserver.JSON(200, created)}, 2, 1, true, "invalid character"},
		{"an answer without an id", []testserver.Step{testserver.JSON(200, `{"data":{}}`), testserver.JSON(200, created)}, 2, 1, true, "no \"data.video_translation_ids\""},
		{"an empty id", []testserver.Step{testserver.JSON(200, `{"data":{"video_translation_ids":["",""]}}`), testserver.JSON(200, created)}, 2, 1, true, "an empty job id"},
		{"being processed", []testserver.Step{testserver.JSON(409, `{"error":{"code":"request_in_progress"}}`), testserver.JSON(200, created)}, 2, 1, false, "409 Conflict"},
		{"being processed, with Retry-After", []testserver.Step{testserver.JSON(409, `{}`, "Retry-After: 1"), testserver.JSON(200, created)}, 2, 1, false, "409 Conflict"},
		{"a 403 with Retry-After", []testserver.Step{testserver.JSON(403, `{}`, "Retry-After: 1"), testserver.JSON(200, created)}, 2, 1, false, "403 Forbidden"},
		{"a 400", []testserver.Step{testserver.JSON(400, `{"error":{"code":"invalid_parameter"}}`)}, 1, 1, false, "invalid_parameter"},
		{"a 402", []testserver.Step{testserver.JSON(402, `{"error":{"code":"insufficient_credit"}}`)}, 1, 1, false, "insufficient_credit"},
		{"an error with 200", []testserver.Step{testserver.JSON(200, `{"error":{"code":"insufficient_credit"},"data":null}`)}, 1, 1, false, "insufficient_credit"},
		{"a 308", []testserver.Step{testserver.JSON(308, ``, "Location: /v4")}, 1, 1, false, "308 Permanent Redirect"},
		{"a 303", []testserver.Step{testserver.JSON(303, ``, "Location: /v4")}, 1, 1, true, "303 See Other"},
		{"a redirect to another host", []testserver.Step{testserver.JSON(307, ``, "Location: http://evil.test/")}, 1, 1, false, "307 Temporary Redirect"},
	} {
		for _, e := range []struct {
			endpoint vtclient.Endpoint
			key      string
			requests int
		}{{vtclient.HeyGenV3(), "order-17", tt.keyed}, {unkeyed(), "", tt.unkeyed}} {
			name := tt.name + ", without a key"
			if e.key != "" {
				name = tt.name + ", with a key"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := testserver.StartInMemory(t, tt.script...)
					c := clientFor(t, s, vtclient.WithEndpoint(e.endpoint), vtclient.WithHeader("X-Api-Key", "s3cret"))
					jobs, err := c.Submit(t.Context(), e.key, json.RawMessage(oneLanguage))
					requests := s.Requests()
					if len(requests) != e.requests {
						t.Fatalf("%d requests, want %d: %v", len(requests), e.requests, err)
					}
					for _, r := range requests {
						if r.Method != "POST" || r.URI != "/v3/video-translations" || r.Header.Get("Idempotency-Key") != e.key || string(r.Body) != oneLanguage ||
							r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Api-Key") != "s3cret" {
							t.Errorf("%s %s %v %s", r.Method, r.URI, r.Header, r.Body)
						}
					}
					fails := tt.text != "" && e.requests == len(tt.script) && len(tt.script) == 1 || tt.text != "" && e.key == ""
					if !fails {
						if err != nil || len(jobs) != 1 || jobs[0].ID != "tr-de" {
							t.Fatalf("%v, %v", jobs, err)
						}
						return
					}
					var failed *vtclient.SubmitError
					if !errors.As(err, &failed) || jobs != nil || failed.Key != e.key || failed.MaybeSubmitted != tt.maybe ||
						!strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "may have been submitted") != tt.maybe {
						t.Errorf("%v, %#v", err, failed)
					}
				})
			})
		}
	}
}

// A keyed call that gives up has the key, with which it can be repeated.
func TestSubmitErrorHasTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.JSON(502, `{}`))
		c := clientFor(t, s, vtclient.WithEndpoint(vtclient.HeyGenV3()), every(time.Second, 3), vtclient.WithBreaker(nil))
		_, err := c.Submit(t.Context(), "", json.RawMessage(oneLanguage))
		var failed *vtclient.SubmitError
		if !errors.As(err, &failed) || !failed.MaybeSubmitted || len(failed.Key) < 20 || !strings.Contains(err.Error(), failed.Key) {
			t.Fatalf("%v", err)
		}
		if want := "vtclient: submit: request 3: POST testserver.invalid:1/v3/video-translations: 502 Bad Gateway: \"{}\"; not retried: WithRetry stops after try 3; may have been submitted: it is safe to repeat with key "; !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v", err)
		}
		for _, r := range s.Requests() {
			if r.Header.Get("Idempotency-Key") != failed.Key {
				t.Errorf("key %q, then %q", failed.Key, r.Header.Get("Idempotency-Key"))
			}
		}
		c.Submit(t.Context(), "", json.RawMessage(oneLanguage))
		if last := s.Requests()[5].Header.Get("Idempotency-Key"); last == failed.Key || len(s.Requests()) != 6 {
			t.Errorf("two calls with key %q", last)
		}
	})
}

// A connection that cannot be made is tried again without a key, too.
func TestSubmitRepeatsWhatWasNotSent(t *testing.T) {
	for _, tt := range []struct {
		name      string
		transport func(*testserver.Server) http.RoundTripper
		requests  int
		maybe     bool
	}{
		{"refused", func(*testserver.Server) http.RoundTripper {
			return &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
			}}
		}, 3, false},
		{"no answer to the dial", func(*testserver.Server) http.RoundTripper {
			return &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				time.Sleep(time.Minute)
				return nil, errors.New("no route")
			}}
		}, 3, false},
		{"a transport that does not report connections", func(*testserver.Server) http.RoundTripper {
			return tripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("oops") })
		}, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				c, err := vtclient.New("http://api.test", vtclient.WithEndpoint(unkeyed()), every(time.Second, 3),
					vtclient.WithHTTPClient(&http.Client{Transport: tt.transport(nil)}),
					vtclient.WithTrace(vtclient.Trace{Answered: func(context.Context, vtclient.TraceInfo) { n++ }}))
				if err != nil {
					t.Fatal(err)
				}
				_, err = c.Submit(t.Context(), "", json.RawMessage(oneLanguage))
				var failed *vtclient.SubmitError
				if !errors.As(err, &failed) || failed.MaybeSubmitted != tt.maybe || n != tt.requests {
					t.Errorf("%d requests: %v", n, err)
				}
				time.Sleep(time.Minute) // net/http goes on to dial
			})
		})
	}
}

// A connection that had served before and is lost is no reason to create jobs twice; with a
// key, the request is made again at once.
func TestSubmitOverAConnectionThatIsLost(t *testing.T) {
	for _, end := range map[string]testserver.Step{"closed": testserver.Drop(), "reset": testserver.Reset(), "half an answer": testserver.HalfBody(created)} {
		for _, keyed := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				s := testserver.StartInMemory(t, testserver.JSON(200, `{"data":{"status":"running"}}`), end, testserver.JSON(200, created))
				e := unkeyed()
				if keyed {
					e = vtclient.HeyGenV3()
				}
				c := clientFor(t, s, vtclient.WithEndpoint(e), vtclient.WithCache(nil))
				if _, err := c.Status(t.Context(), "j"); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				_, err := c.Submit(t.Context(), "", json.RawMessage(oneLanguage))
				var failed *vtclient.SubmitError
				if keyed && (err != nil || time.Since(began) != 0 || len(s.Requests()) != 3) {
					t.Errorf("with a key: %v after %v, %d requests", err, time.Since(began), len(s.Requests()))
				}
				if !keyed && (!errors.As(err, &failed) || !failed.MaybeSubmitted || len(s.Requests()) != 2) {
					t.Errorf("without: %v, %d requests", err, len(s.Requests()))
				}
			})
		}
	}
}

// A handshake that fails has sent nothing either.
func TestSubmitRepeatsAfterAHandshake(t *testing.T) {
	srv := httptest.NewUnstartedServer(nil)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	c, err := vtclient.New(srv.URL, vtclient.WithEndpoint(unkeyed()), once())
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Submit(t.Context(), "", json.RawMessage(oneLanguage))
	var failed *vtclient.SubmitError
	if !errors.As(err, &failed) || failed.MaybeSubmitted || !strings.HasSuffix(err.Error(), "nothing was submitted") {
		t.Error(err)
	}
}

// What a job's start is: the first request that may have created it.
func TestSubmittedJobsHaveAStart(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script []testserver.Step
		after  time.Duration
	}{
		{"at once", []testserver.Step{testserver.Delay(3*time.Second, testserver.JSON(200, created))}, 0},
		{"after a fault that may have created it", []testserver.Step{testserver.Delay(2*time.Second, testserver.JSON(500, `{}`)), testserver.JSON(200, created)}, 0},
		{"after one that has not", []testserver.Step{testserver.Delay(2*time.Second, testserver.JSON(429, `{}`)), testserver.JSON(200, created)}, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testserver.StartInMemory(t, tt.script...)
				c := clientFor(t, s, vtclient.WithEndpoint(vtclient.HeyGenV3()), every(time.Second, 3))
				began := time.Now()
				jobs, err := c.Submit(t.Context(), "k", json.RawMessage(oneLanguage))
				if err != nil || !jobs[0].StartedAt.Equal(began.Add(tt.after)) {
					t.Errorf("%v, %v, want %v", jobs, err, began.Add(tt.after))
				}
			})
		})
	}
}

func TestSubmitWhatIsRefused(t *testing.T) {
	plain := vtclient.Endpoint{}
	for _, tt := range []struct {
		name     string
		endpoint vtclient.Endpoint
		key      string
		body     any
		want     string
	}{
		{"no Submit", plain, "", 1, "Submit: got a client without Endpoint.Submit"},
		{"a key that is too long", vtclient.HeyGenV3(), strings.Repeat("k", 256), 1, "want at most 255 characters"},
		{"a key with a space", vtclient.HeyGenV3(), "order 17", 1, `Submit: key: got "order 17", want visible ASCII`},
		{"a key with a line break", vtclient.HeyGenV3(), "order\r\nX: y", 1, "want visible ASCII"},
		{"a key that is not ASCII", vtclient.HeyGenV3(), "é", 1, "want visible ASCII"},
		{"a key for a backend that takes none", unkeyed(), "k", 1, "the backend takes no idempotency key"},
		{"a body that is no JSON", vtclient.HeyGenV3(), "k", json.RawMessage(`{`), "want a value that marshals to JSON"},
		{"a body that does not marshal", vtclient.HeyGenV3(), "k", make(chan int), "a chan int (json: unsupported type"},
		{"bytes", vtclient.HeyGenV3(), "k", []byte(`{}`), "got a []uint8, want a json.RawMessage"},
		{"a reader", vtclient.HeyGenV3(), "k", strings.NewReader(`{}`), "got a *strings.Reader, want a json.RawMessage"},
		{"no video", vtclient.HeyGenV3(), "k", vtclient.HeyGenRequest{Languages: []string{"German"}}, "one of VideoURL and AssetID"},
		{"two videos", vtclient.HeyGenV3(), "k", vtclient.HeyGenRequest{VideoURL: "u", AssetID: "a", Languages: []string{"German"}}, "one of VideoURL and AssetID"},
		{"no language", vtclient.HeyGenV3(), "k", vtclient.HeyGenRequest{VideoURL: "u"}, "Languages is empty"},
	} {
		c := stubbed(t, func(*http.Request) (*http.Response, error) { t.Errorf("%s: sent", tt.name); return nil, errors.New("") }, vtclient.WithEndpoint(tt.endpoint))
		_, err := c.Submit(t.Context(), tt.key, tt.body)
		var bad *vtclient.ArgumentError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	fetching, _ := vtclient.New("", vtclient.WithFetch(func(context.Context, string) (vtclient.Status, error) { return vtclient.Status{}, nil }))
	if _, err := fetching.Submit(t.Context(), "", 1); err == nil {
		t.Error("submitted without HTTP")
	}
	if err := fetching.Cancel(t.Context(), "j"); err == nil {
		t.Error("cancelled without HTTP")
	}
	for _, e := range []vtclient.Endpoint{
		{Submit: vtclient.Submit{Path: "/jobs"}},
		{Submit: vtclient.Submit{Path: "jobs", Decode: vtclient.HeyGenV3().Submit.Decode}},
		{Submit: vtclient.Submit{Path: "/jobs/{id}", Decode: vtclient.HeyGenV3().Submit.Decode}},
		{Submit: vtclient.Submit{IdempotencyHeader: "Key", Decode: vtclient.HeyGenV3().Submit.Decode}},
		{Submit: vtclient.Submit{Path: "/jobs", IdempotencyHeader: "A Key", Decode: vtclient.HeyGenV3().Submit.Decode}},
		{Cancel: "/jobs/{id}"}, {Cancel: "POST /jobs"}, {Cancel: "GET /jobs/{id}"}, {Cancel: "HEAD /jobs/{id}"}, {Cancel: "POST"}, {Cancel: " POST /jobs/{id}"}, {Cancel: "POST  /jobs/{id}"}, {Cancel: "post /jobs/{id}"}, {Cancel: "POST jobs/{id}"},
	} {
		if _, err := vtclient.New("http://api.test", vtclient.WithEndpoint(e)); err == nil {
			t.Errorf("accepted %+v", e)
		}
	}
}

// A call that its context ends reports whether its request was on its way.
func TestSubmitThatIsLeft(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limit  time.Duration
		maybe  bool
		script testserver.Step
	}{
		{"before it began", 0, false, testserver.Silence()},
		{"while it was on its way", time.Second, true, testserver.Silence()},
		{"between two tries that may have created jobs", 15 * time.Second, true, testserver.JSON(500, `{}`, "Retry-After: 60")},
		{"between two tries that have not", 15 * time.Second, false, testserver.JSON(429, `{}`, "Retry-After: 60")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testserver.StartInMemory(t, tt.script)
				c := clientFor(t, s, vtclient.WithEndpoint(vtclient.HeyGenV3()))
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				defer cancel()
				_, err := c.Submit(ctx, "k", json.RawMessage(oneLanguage))
				var failed *vtclient.SubmitError
				if !errors.As(err, &failed) || failed.MaybeSubmitted != tt.maybe || !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "vtclient: submit: ended without a result after") {
					t.Error(err)
				}
			})
		})
	}
}

// A submission outlasts an open breaker, and no refusal counts as a request.
func TestSubmitOutlastsTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Times(3, testserver.JSON(500, `{}`)), testserver.JSON(200, created))
		c := clientFor(t, s, vtclient.WithEndpoint(vtclient.HeyGenV3()), every(time.Second, 8),
			vtclient.WithBreaker(vtclient.NewCircuitBreaker(vtclient.BreakerConfig{ConsecutiveFailures: 1, OpenPeriod: 20 * time.Second})))
		began := time.Now()
		jobs, err := c.Submit(t.Context(), "k", json.RawMessage(oneLanguage))
		if took := time.Since(began); err != nil || len(jobs) != 1 || took < 20*time.Second || took > 2*time.Minute {
			t.Errorf("%v after %v", err, took)
		}
		if n := len(s.Requests()); n != 4 {
			t.Errorf("%d requests", n)
		}
	})
}

// Secrets of the request stand in no error, those within the body included.
func TestSubmitErrorsHoldNoSecret(t *testing.T) {
	const body = `{"video":{"type":"url","url":"https://user:passw0rd@v.test/1.mp4?X-Amz-Signature=deadbeef&part=1"},"output_languages":["German"],"callback_url":"https://me.test/hook?token=t0psecret"}`
	for _, code := range []int{200, 400, 500} {
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			return respond(r, code, `{"message":"key s3cret: cannot read https://user:passw0rd@v.test/1.mp4?X-Amz-Signature=deadbeef, token t0psecret"}`), nil
		}, vtclient.WithEndpoint(vtclient.HeyGenV3()), vtclient.WithHeader("X-Api-Key", "s3cret"), once())
		_, err := c.Submit(t.Context(), "k", json.RawMessage(body))
		if err == nil || slices.ContainsFunc([]string{"s3cret", "passw0rd", "deadbeef", "t0psecret"}, func(s string) bool { return strings.Contains(err.Error(), s) }) {
			t.Errorf("%d: %v", code, err)
		}
	}
}

// net/http, or a transport in its place, can send a body again only with a key.
func TestSubmitGivesABodyToRepeatOnlyWithAKey(t *testing.T) {
	for _, e := range []vtclient.Endpoint{vtclient.HeyGenV3(), unkeyed()} {
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			if keyed := e.Submit.IdempotencyHeader != ""; (r.GetBody != nil) != keyed {
				t.Errorf("GetBody with a key: %v", keyed)
			}
			if r.GetBody != nil {
				again, err := r.GetBody()
				if text, _ := io.ReadAll(again); err != nil || string(text) != oneLanguage {
					t.Errorf("%s, %v", text, err)
				}
			}
			return respond(r, 200, created), nil
		}, vtclient.WithEndpoint(e))
		if _, err := c.Submit(t.Context(), "", json.RawMessage(oneLanguage)); err != nil {
			t.Error(err)
		}
	}
}

// HeyGen's request, and the jobs of its answer in their order.
func TestHeyGenSubmit(t *testing.T) {
	var sent string
	c := stubbed(t, func(r *http.Request) (*http.Response, error) {
		var v json.RawMessage
		err := json.NewDecoder(r.Body).Decode(&v)
		sent = string(v)
		return respond(r, 200, `{"error":null,"data":{"video_translation_ids":["tr-de","tr-fr"]}}`), err
	}, vtclient.WithEndpoint(vtclient.HeyGenV3()))
	for _, tt := range []struct {
		request vtclient.HeyGenRequest
		want    string
	}{
		{vtclient.HeyGenRequest{VideoURL: "https://v.test/1.mp4", Languages: []string{"German", "French"}, Title: "Launch", CallbackURL: "https://me.test/hook", CallbackID: "17"},
			`{"video":{"type":"url","url":"https://v.test/1.mp4"},"output_languages":["German","French"],"title":"Launch","callback_url":"https://me.test/hook","callback_id":"17"}`},
		{vtclient.HeyGenRequest{AssetID: "as-1", Languages: []string{"German"}}, `{"video":{"type":"asset_id","asset_id":"as-1"},"output_languages":["German"]}`},
	} {
		jobs, err := c.Submit(t.Context(), "k", tt.request)
		if err != nil || len(jobs) != 2 || jobs[0].ID != "tr-de" || jobs[1].ID != "tr-fr" || sent != tt.want {
			t.Errorf("%v, %v of %s", jobs, err, sent)
		}
	}
}

// Traces show a call by its action.
func TestTracesOfASubmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.JSON(500, `{}`), testserver.JSON(200, created))
		var got []string
		note := func(kind string) func(context.Context, vtclient.TraceInfo) {
			return func(_ context.Context, i vtclient.TraceInfo) { got = append(got, kind+" "+i.Action+i.JobID) }
		}
		c := clientFor(t, s, vtclient.WithEndpoint(vtclient.HeyGenV3()),
			vtclient.WithTrace(vtclient.Trace{Sent: note("sent"), Answered: note("answered"), Scheduled: note("scheduled")}))
		if _, err := c.Submit(t.Context(), "k", json.RawMessage(oneLanguage)); err != nil {
			t.Error(err)
		}
		if want := []string{"sent submit", "answered submit", "scheduled submit", "sent submit", "answered submit"}; !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
}

// cancelling is an API of which jobs can be cancelled.
var cancelling = vtclient.Endpoint{Path: "/v1/predictions/{id}", Cancel: "POST /v1/predictions/{id}/cancel", Decode: func(a vtclient.Answer) (vtclient.Status, error) {
	var v struct{ Status string }
	err := json.Unmarshal(a.Body, &v)
	if v.Status == "canceled" {
		return vtclient.Status{State: vtclient.StateFailed, Cancelled: true}, err
	}
	return vtclient.Status{State: vtclient.StatePending}, err
}}

// Cancel makes the waits of a job look at once, and what they see is the backend's word.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.JSON(200, `{"status":"processing"}`), testserver.JSON(503, `{}`),
			testserver.JSON(200, `{"status":"processing"}`), testserver.JSON(200, `{"status":"canceled"}`))
		c := clientFor(t, s, vtclient.WithEndpoint(cancelling), vtclient.WithPolling(vtclient.Constant(time.Hour)), vtclient.WithCache(nil))
		began := time.Now()
		time.AfterFunc(10*time.Second, func() {
			if err := c.Cancel(t.Context(), "a/b"); err != nil {
				t.Error(err)
			}
		})
		st, err := c.Wait(t.Context(), "a/b")
		var failed *vtclient.JobError
		if !errors.As(err, &failed) || !failed.Status.Cancelled || !st.Cancelled || time.Since(began) > 15*time.Second {
			t.Errorf("%+v, %v after %v", st, err, time.Since(began))
		}
		var lines []string
		for _, r := range s.Requests() {
			lines = append(lines, r.Method+" "+r.URI)
		}
		if want := []string{"GET /v1/predictions/a%2Fb", "POST /v1/predictions/a%2Fb/cancel", "POST /v1/predictions/a%2Fb/cancel", "GET /v1/predictions/a%2Fb"}; !slices.Equal(lines, want) {
			t.Errorf("%q", lines)
		}
	})
}

type jobKey struct{} // of a context

// The pause of a 429 to a submission, which is mostly about the number of jobs, holds the
// submissions and no look at a job. The pause of one to a look holds all.
func TestA429ToASubmissionHoldsSubmissionsOnly(t *testing.T) {
	const pause = 40 * time.Second
	do := map[string]func(context.Context, *vtclient.Client){
		"submission":   func(ctx context.Context, c *vtclient.Client) { c.Submit(ctx, "", json.RawMessage(oneLanguage)) },
		"cancellation": func(ctx context.Context, c *vtclient.Client) { c.Cancel(ctx, "j") },
		"status":       func(ctx context.Context, c *vtclient.Client) { c.Status(ctx, ctx.Value(jobKey{}).(string)) },
		"wait":         func(ctx context.Context, c *vtclient.Client) { c.Wait(ctx, ctx.Value(jobKey{}).(string)) },
	}
	e := vtclient.HeyGenV3()
	e.Cancel = "POST /cancel/{id}"
	for first := range do {
		for second := range do {
			t.Run(second+" after that of a "+first, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var mu sync.Mutex
					began, limited := time.Now(), false
					var last time.Duration // of the second's first request
					c := stubbed(t, func(r *http.Request) (*http.Response, error) {
						mu.Lock()
						defer mu.Unlock()
						last = time.Since(began).Round(time.Second) // a wait may be put off a little
						switch {
						case !limited:
							limited = true
							return respond(r, 429, `{}`, "Retry-After: 40"), nil
						case r.URL.Path == e.Submit.Path:
							return respond(r, 200, created), nil
						}
						return respond(r, 200, `{"data":{"status":"completed","video_url":"u"}}`), nil
					}, vtclient.WithEndpoint(e), vtclient.WithCache(nil))
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					go do[first](context.WithValue(ctx, jobKey{}, "first"), c)
					time.Sleep(time.Second)
					cancel()
					synctest.Wait()
					do[second](context.WithValue(t.Context(), jobKey{}, "second"), c)
					want := time.Second
					if first != "submission" && second != "status" || first == "submission" && second == "submission" {
						want = pause
					}
					if second == "status" && first != "submission" { // one look does not wait for so long
						want = 0
					}
					if last != want {
						t.Errorf("asked after %v, want %v", last, want)
					}
				})
			})
		}
	}
}

// A cancellation may have another address than a look, of any shape.
func TestCancelHasAnAddressOfItsOwn(t *testing.T) {
	for _, path := range []string{"/v1/jobs/{id}", "/a/very/much/longer/path/{id}", "/{id}", "/job?name={id}"} {
		for cancel, uri := range map[string]string{
			"POST /c/{id}": "/c/id-of-%2F%20job", "DELETE /v1/jobs/{id}": "/v1/jobs/id-of-%2F%20job",
			"PUT /{id}/cancel?now=1": "/id-of-%2F%20job/cancel?now=1", "POST /c?job={id}": "/c?job=id-of-%2F+job",
		} {
			t.Run(path+" "+cancel, func(t *testing.T) {
				c := stubbed(t, func(r *http.Request) (*http.Response, error) {
					if r.Method+" "+r.URL.RequestURI() != strings.Fields(cancel)[0]+" "+uri {
						t.Errorf("%s %s", r.Method, r.URL.RequestURI())
					}
					return respond(r, 400, "no id-of-/ job here"), nil
				}, vtclient.WithEndpoint(vtclient.Endpoint{Path: path, Cancel: cancel}))
				err := c.Cancel(t.Context(), "id-of-/ job")
				var h *vtclient.HTTPError
				if !errors.As(err, &h) || h.JobID != "id-of-/ job" || h.Excerpt != "no id-of-/ job here" {
					t.Errorf("%+v, %v", h, err)
				}
			})
		}
	}
}

// A WithRequest that changes the address changes no id, also where the request is made again
// over another connection.
func TestAnAddressChangedByWithRequestChangesNoID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.JSON(200, `{"result":"pending"}`), testserver.Drop(), testserver.JSON(400, `{}`))
		c := clientFor(t, s, vtclient.WithCache(nil), vtclient.WithRequest(func(r *http.Request) error { r.URL.Path, r.URL.RawPath = "/", ""; return nil }))
		c.Status(t.Context(), "job-1")
		_, err := c.Status(t.Context(), "job-2")
		var h *vtclient.HTTPError
		if !errors.As(err, &h) || h.JobID != "job-2" || len(s.Requests()) != 3 {
			t.Errorf("%v", err)
		}
	})
}

// A transport may read the body after a call has been left; the caller may write over it then.
func TestSubmitKeepsNothingOfTheCallersBody(t *testing.T) {
	body := json.RawMessage(oneLanguage)
	var late io.Reader
	c := stubbed(t, func(r *http.Request) (*http.Response, error) {
		late = r.Body
		return respond(r, 200, created), nil
	}, vtclient.WithEndpoint(vtclient.HeyGenV3()))
	if _, err := c.Submit(t.Context(), "k", body); err != nil {
		t.Fatal(err)
	}
	clear(body)
	if text, _ := io.ReadAll(late); string(text) != oneLanguage {
		t.Errorf("%q", text)
	}
}

// A Status after a Cancel is the backend's, and not what a cache has kept from before.
func TestCancelForgetsWhatIsCached(t *testing.T) {
	kept := map[string]vtclient.Status{}
	foreign := cacheFuncs{
		func(id string) (vtclient.Status, bool, error) { st, ok := kept[id]; return st, ok, nil },
		func(id string, st vtclient.Status) error {
			if kept[id] = st; st.State == "" {
				delete(kept, id)
			}
			return nil
		},
	}
	for name, cache := range map[string]vtclient.Cache[vtclient.Status]{"in memory": vtclient.NewMemoryCache[vtclient.Status](10), "foreign": foreign} {
		state := "processing"
		c := stubbed(t, func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				state = "canceled"
			}
			return respond(r, 200, `{"status":"`+state+`"}`), nil
		}, vtclient.WithEndpoint(cancelling), vtclient.WithCache(cache), vtclient.WithCacheTTL(time.Hour, time.Hour))
		if st, err := c.Status(t.Context(), "j"); err != nil || st.Cancelled {
			t.Fatal(st, err)
		}
		if err := c.Cancel(t.Context(), "j"); err != nil {
			t.Fatal(err)
		}
		if st, err := c.Status(t.Context(), "j"); err != nil || !st.Cancelled || st.Cached {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
}
