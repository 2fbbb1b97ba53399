package vtclient_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// From the specification's own libraries (standard-webhooks/standard-webhooks,
// libraries/go/webhook_test.go).
const (
	standardSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	standardID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	standardBody      = `{"test": 2432232314}`
	standardTime      = 1614265330
	standardSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func standardSign(secret, id, timestamp, body string) string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, key)
	io.WriteString(mac, id+"."+timestamp+"."+body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func standardDelivery(body string, at time.Time) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	timestamp := strconv.FormatInt(at.Unix(), 10)
	r.Header.Set("webhook-id", standardID)
	r.Header.Set("webhook-timestamp", timestamp)
	r.Header.Set("webhook-signature", standardSign(standardSecret, standardID, timestamp, body))
	return r
}

func standardReceiver(t *testing.T, secrets ...string) *receiver {
	t.Helper()
	verify, err := vtclient.VerifyStandardWebhook(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	h := newReceiver(t, webhookSecret)
	h.Verify = verify
	return h
}

// until lets the bubble's clock, which begins in the year 2000, reach a time.
func until(t time.Time) { time.Sleep(time.Until(t)) }

// The specification's own vector: the signature of a known message at a known time.
func TestStandardWebhookVector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until(time.Unix(standardTime, 0))
		if got := standardSign(standardSecret, standardID, strconv.Itoa(standardTime), standardBody); got != standardSignature {
			t.Fatalf("this test signs %s", got)
		}
		for _, secret := range []string{standardSecret, strings.TrimPrefix(standardSecret, "whsec_")} {
			verify, err := vtclient.VerifyStandardWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			r := standardDelivery(standardBody, time.Now())
			r.Header.Set("webhook-signature", standardSignature)
			event, err := verify(r, []byte(standardBody))
			if err != nil || event.JobID != "" || !slices.Equal(event.Names, []string{"id " + standardID}) {
				t.Errorf("%+v, %v", event, err)
			}
		}
	})
}

// The cases of the specification's libraries, and those between them.
func TestStandardWebhookSignatures(t *testing.T) {
	const wrong = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
	set := func(key, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(key, value) }
	}
	for _, test := range []struct {
		name   string
		change func(*http.Request)
		code   int
		says   string
	}{
		{"valid", func(*http.Request) {}, 200, ""},
		{"no id", func(r *http.Request) { r.Header.Del("webhook-id") }, 401, "webhook-id"},
		{"no time", func(r *http.Request) { r.Header.Del("webhook-timestamp") }, 401, "webhook-timestamp"},
		{"no signature", func(r *http.Request) { r.Header.Del("webhook-signature") }, 401, "webhook-signature"},
		{"two ids", func(r *http.Request) { r.Header.Add("webhook-id", "x") }, 401, "exactly one webhook-id"},
		{"another signature", set("webhook-signature", wrong), 401, "no v1 signature"},
		{"part of one", set("webhook-signature", "v1,"), 401, "no v1 signature"},
		{"none in the list", set("webhook-signature", " , v1 v1a"), 401, "no v1 signature"},
		{"several, one of them valid", func(r *http.Request) {
			r.Header.Set("webhook-signature", strings.Join([]string{wrong, "v2" + wrong[2:], r.Header.Get("webhook-signature"), wrong}, " "))
		}, 200, ""},
		{"beside an asymmetric one", func(r *http.Request) {
			r.Header.Set("webhook-signature", "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg== "+r.Header.Get("webhook-signature"))
		}, 200, ""},
		{"of another version", func(r *http.Request) {
			r.Header.Set("webhook-signature", "v2"+r.Header.Get("webhook-signature")[2:])
		}, 401, "no v1 signature"},
		{"with another id", set("webhook-id", "msg_2"), 401, "no v1 signature"},
		{"with another time", set("webhook-timestamp", "946684799"), 401, "no v1 signature"},
		{"a time that is none", func(r *http.Request) {
			r.Header.Set("webhook-timestamp", "now")
			r.Header.Set("webhook-signature", standardSign(standardSecret, standardID, "now", standardBody))
		}, 401, "not a number of seconds"},
		{"by a second secret", func(r *http.Request) {
			r.Header.Set("webhook-signature", standardSign("c2Vjb25k", standardID, r.Header.Get("webhook-timestamp"), standardBody))
		}, 200, ""},
		{"of another body", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"test": 2432232315}`)) }, 401, "no v1 signature"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := standardReceiver(t, standardSecret, "c2Vjb25k")
				r := standardDelivery(standardBody, time.Now())
				test.change(r)
				w := h.take(r)
				if w.Code != test.code || len(h.errs) > 1 || (len(h.errs) == 1) != (test.says != "") || test.says != "" && !strings.Contains(h.errs[0].Error(), test.says) {
					t.Errorf("%d, %v", w.Code, h.errs)
				}
				if len(h.errs) > 0 && strings.Contains(h.errs[0].Error(), "MfKQ9r8GKYqr") {
					t.Errorf("a secret in %v", h.errs)
				}
			})
		})
	}
}

// The timestamp is signed, and no further from now than five minutes, to the second.
func TestStandardWebhookWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := standardReceiver(t, standardSecret)
		for off, code := range map[time.Duration]int{-301: 401, -300: 200, 0: 200, 300: 200, 301: 401} {
			if w := h.take(standardDelivery(standardBody, time.Now().Add(off*time.Second))); w.Code != code {
				t.Errorf("%d s: %d, want %d", off, w.Code, code)
			}
		}
	})
}

// The job is found where OpenAI and Replicate put it, and anything else ends none.
func TestStandardWebhookJobs(t *testing.T) {
	for _, test := range []struct {
		body string
		code int
		job  string
	}{
		{`{"type":"video.completed","created_at":1,"data":{"id":"video_1"}}`, 200, "video_1"},
		{`{"id":"pred_1","status":"succeeded","output":["https://x.example.com/1.mp4"]}`, 200, "pred_1"},
		{`{"id":"pred_1","status":"failed","error":"no speech"}`, 200, "pred_1"},
		{`{"id":"pred_1","status":"processing"}`, 200, ""},
		{`{"type":"prediction.started","data":{"id":"pred_1","status":"starting"}}`, 200, ""},
		{`{"id":"evt_1","type":"x","data":{"user":"u"}}`, 200, ""},
		{`{"id":"evt_1","data":null}`, 200, "evt_1"},
		{`{"id":7}`, 200, ""},
		{`{"data":7}`, 200, ""},
		{`null`, 200, ""},
		{`{}`, 200, ""},
		{`[]`, 400, ""},
		{`7`, 400, ""},
		{`{`, 400, ""},
		{``, 400, ""},
	} {
		h := standardReceiver(t, standardSecret)
		w := h.take(standardDelivery(test.body, time.Now()))
		want := []string{}
		if test.job != "" {
			want = []string{test.job}
		}
		if w.Code != test.code || !slices.Equal(h.hints, want) {
			t.Errorf("%s: %d and hints %q, want %d and %q", test.body, w.Code, h.hints, test.code, want)
		}
		if test.code == 400 && (len(h.errs) != 1 || !errors.Is(h.errs[0], vtclient.ErrUnreadable)) {
			t.Errorf("%s: %v", test.body, h.errs)
		}
	}
}

// A delivery that is repeated has the same id and another time.
func TestStandardWebhookReplays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := standardReceiver(t, standardSecret)
		for range 3 {
			if w := h.take(standardDelivery(`{"id":"a","status":"succeeded"}`, time.Now())); w.Code != 200 {
				t.Error(w.Code)
			}
			time.Sleep(time.Minute)
		}
		if !slices.Equal(h.hints, []string{"a"}) {
			t.Errorf("hints %q", h.hints)
		}
	})
}

// A body of another form: a function around the verifier.
func TestStandardWebhookWithABodyOfAnotherForm(t *testing.T) {
	h := standardReceiver(t, standardSecret)
	verify := h.Verify
	h.Verify = func(r *http.Request, body []byte) (vtclient.WebhookEvent, error) {
		event, err := verify(r, body)
		if err != nil {
			return event, err
		}
		var b struct{ Job struct{ Key string } }
		err = json.Unmarshal(body, &b)
		event.JobID = b.Job.Key
		return event, err
	}
	h.take(standardDelivery(`{"job":{"key":"k"}}`, time.Now()))
	if !slices.Equal(h.hints, []string{"k"}) || len(h.errs) > 0 {
		t.Errorf("%q, %v", h.hints, h.errs)
	}
}

// A secret that cannot be right is refused where it is given, by its place and without
// its text.
func TestWebhookSecretsThatCannotBeRight(t *testing.T) {
	heygen, callback, standard := vtclient.VerifyHeyGen, vtclient.VerifyHeyGenCallback, vtclient.VerifyStandardWebhook
	const good = "bXktc2VjcmV0LW9mLXRlc3Q=" // fit for all of them
	for _, test := range []struct {
		name    string
		verify  func(...string) (vtclient.WebhookVerifier, error)
		secrets []string
		says    string
	}{
		{"none", heygen, nil, "VerifyHeyGen: got no secret, want one at least"},
		{"none, callback", callback, nil, "VerifyHeyGenCallback: got no secret, want one at least"},
		{"none, standard", standard, nil, "VerifyStandardWebhook: got no secret, want one at least"},
		{"empty", standard, []string{good, ""}, "an empty secret as number 2"},
		{"a line break behind it", heygen, []string{good + "\n"}, "a line break as number 1"},
		{"a line break of Windows", standard, []string{good, good + "\r\n"}, "a line break as number 2"},
		{"a line break before it", callback, []string{"\n" + good}, "a line break as number 1"},
		{"a line break within it", heygen, []string{good + "\n" + good}, "a line break as number 1"},
		{"a space behind it", heygen, []string{good + " "}, "spaces around it as number 1"},
		{"a space before it", standard, []string{" " + good}, "spaces around it as number 1"},
		{"a tab", callback, []string{good + "\t"}, "spaces around it as number 1"},
		{"a space that is none", heygen, []string{good + "\u00a0"}, "spaces around it as number 1"},
		{"a NUL", heygen, []string{good + "\x00"}, "a control character as number 1"},
		{"only the prefix", standard, []string{"whsec_"}, "not base64 as number 1"},
		{"no base64", standard, []string{good, "whsec_not-base64!"}, "not base64 as number 2"},
		{"asymmetric", standard, []string{"whpk_" + good}, "asymmetric signatures, whpk_…, as number 1"},
		{"guessable", callback, []string{good, "job-17"}, "an id of 6 characters as number 2, want 20 at least"},
	} {
		verify, err := test.verify(test.secrets...)
		var bad *vtclient.ArgumentError
		if verify != nil || !errors.As(err, &bad) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", test.name, err, test.says)
		}
		if err != nil && (strings.Contains(err.Error(), good) || strings.Contains(err.Error(), "not-base64!")) {
			t.Errorf("%s: a secret in %v", test.name, err)
		}
	}
	for name, verify := range map[string]func(...string) (vtclient.WebhookVerifier, error){"heygen": heygen, "callback": callback, "standard": standard} {
		if _, err := verify(good, strings.TrimRight(good, "=")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The deliveries to a callback_url are genuine by the id that the job was submitted
// with, and by nothing else.
func TestHeyGenCallbacks(t *testing.T) {
	const secret, older = "rrK7wVpYqA5dJYb1TGJ0cQ", "an-older-id-of-36-characters-0123456"
	body := func(kind, id string) string {
		return fmt.Sprintf(`{"event_type":%q,"event_data":{"video_translate_id":"tr-1","callback_id":%s,"message":"no speech","output_language":"German"}}`, kind, id)
	}
	for _, test := range []struct {
		name, body string
		code       int
		hints      []string
	}{
		{"success", body("video_translate.success", `"`+secret+`"`), 200, []string{"tr-1"}},
		{"failure, by an older id", body("video_translate.fail", `"`+older+`"`), 200, []string{"tr-1"}},
		{"another event", body("avatar_video.success", `"`+secret+`"`), 200, nil},
		{"another id", body("video_translate.success", `"rrK7wVpYqA5dJYb1TGJ0cR"`), 401, nil},
		{"part of it", body("video_translate.success", `"rrK7wVpYqA5dJYb1TGJ0"`), 401, nil},
		{"more than it", body("video_translate.success", `"`+secret+`."`), 401, nil},
		{"an empty one", body("video_translate.success", `""`), 401, nil},
		{"null", body("video_translate.success", `null`), 401, nil},
		{"a list of it", body("video_translate.success", `["`+secret+`"]`), 401, nil},
		{"none", `{"event_type":"video_translate.success","event_data":{"video_translate_id":"tr-1"}}`, 401, nil},
		{"elsewhere", `{"callback_id":"` + secret + `","event_type":"video_translate.success","event_data":{"video_translate_id":"tr-1"}}`, 401, nil},
		{"no JSON", secret, 401, nil},
		{"nothing", "", 401, nil},
		{"no job", `{"event_type":"video_translate.success","event_data":{"callback_id":"` + secret + `"}}`, 400, nil},
		{"no type", `{"event_data":{"callback_id":"` + secret + `","video_translate_id":"tr-1"}}`, 400, nil},
	} {
		h := newReceiver(t, webhookSecret)
		verify, err := vtclient.VerifyHeyGenCallback(secret, older)
		if err != nil {
			t.Fatal(err)
		}
		h.Verify = verify
		w := h.take(httptest.NewRequest("POST", "/", strings.NewReader(test.body)))
		if w.Code != test.code || !slices.Equal(h.hints, test.hints) || (len(h.errs) == 0) != (test.code == 200) {
			t.Errorf("%s: %d, hints %q, %v; want %d and %q", test.name, w.Code, h.hints, h.errs, test.code, test.hints)
		}
		if len(h.errs) > 0 && strings.Contains(h.errs[0].Error(), secret) {
			t.Errorf("%s: the id in %v", test.name, h.errs)
		}
		h.take(httptest.NewRequest("POST", "/", strings.NewReader(test.body)))
		if len(h.hints) > 1 {
			t.Errorf("%s: hinted again by a replay", test.name)
		}
	}
}

// A body that another handler has read, in whole or in part, is named as such, and is the
// receiver's fault: 500, so that the sender repeats it.
func TestWebhookBodyReadBefore(t *testing.T) {
	readAll := func(r *http.Request) { io.Copy(io.Discard, r.Body) }
	for _, test := range []struct {
		name   string
		before func(*http.Request)
		length int64 // as sent; 0: the real one
		code   int
		says   string
	}{
		{"read to its end", readAll, 0, 500, "has been read or changed before"},
		{"read to its end, of unknown length", readAll, -1, 500, "has been read or changed before"},
		{"read and closed", func(r *http.Request) { readAll(r); r.Body.Close() }, 0, 500, "has been read or changed before"},
		{"read in part", func(r *http.Request) { r.Body.Read(make([]byte, 10)) }, 0, 500, "10 bytes are left"},
		{"parsed and written again", func(r *http.Request) {
			var v any
			json.NewDecoder(r.Body).Decode(&v)
			b, _ := json.Marshal(v)
			r.Body = io.NopCloser(strings.NewReader(string(b) + "\n\n"))
		}, 0, 500, "has been read or changed before"},
		{"taken away", func(r *http.Request) { r.Body = nil }, 0, 500, "has been read or changed before"},
		{"read and put back", func(r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(b)))
		}, 0, 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newReceiver(t, webhookSecret)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				test.before(r)
				h.ServeHTTP(w, r)
			}))
			defer srv.Close()
			r := delivery(success("a"), "e")
			req, err := http.NewRequest("POST", srv.URL, strings.NewReader(success("a")))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = r.Header
			if test.length != 0 {
				req.ContentLength = test.length
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != test.code {
				t.Errorf("%s, want %d", resp.Status, test.code)
			}
			if test.says != "" && (len(h.errs) != 1 || !strings.Contains(strings.Replace(h.errs[0].Error(), fmt.Sprint(len(success("a"))-10, " bytes"), "10 bytes", 1), test.says)) || test.says == "" && len(h.errs) > 0 {
				t.Errorf("%v, want %q", h.errs, test.says)
			}
		})
	}
}

// Each request is answered within ten seconds, whatever its method, however slowly its body
// comes, and whatever stands between the server and the handler; what needs no body is
// answered at once. The connection is let go in the same time.
func TestWebhookAnswersInTime(t *testing.T) {
	plain := func(h http.Handler) http.Handler { return h }
	hidden := func(h http.Handler) http.Handler { // a middleware whose writer has no deadlines
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
		})
	}
	limited := func(h http.Handler) http.Handler { return http.TimeoutHandler(h, time.Hour, "") }
	for _, test := range []struct {
		name   string
		around func(http.Handler) http.Handler
		method string
		head   string
		code   string
		after  time.Duration
	}{
		{"POST", plain, "POST", "Content-Length: 1000", "400", 10 * time.Second},
		{"POST, chunked", plain, "POST", "Transfer-Encoding: chunked", "400", 10 * time.Second},
		{"POST, the writer has no deadlines", hidden, "POST", "Content-Length: 1000", "400", 10 * time.Second},
		{"POST, behind a TimeoutHandler", limited, "POST", "Content-Length: 1000", "400", 10 * time.Second},
		{"OPTIONS", plain, "OPTIONS", "Content-Length: 1000", "200", 0},
		{"GET", plain, "GET", "Content-Length: 1000", "405", 0},
		{"GET, chunked", plain, "GET", "Transfer-Encoding: chunked", "405", 0},
		{"PUT, the writer has no deadlines", hidden, "PUT", "Content-Length: 1000", "405", 0},
		{"DELETE, behind a TimeoutHandler", limited, "DELETE", "Content-Length: 1000", "405", 0},
		{"POST, too long", plain, "POST", "Content-Length: 10000000", "413", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newReceiver(t, webhookSecret)
				conn, there := net.Pipe()
				srv := &http.Server{Handler: test.around(h)}
				ln := make(oneConn, 1)
				ln <- there
				go srv.Serve(ln)
				defer srv.Close()
				start := time.Now()
				fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", test.method, test.head)
				ctx, stop := context.WithCancel(t.Context())
				dripped := make(chan struct{})
				go func() { // a byte a second, for a day
					defer close(dripped)
					for i := 0; i < 86400 && ctx.Err() == nil; i++ {
						drop := "x"
						if strings.Contains(test.head, "chunked") {
							drop = "1\r\nx\r\n"
						}
						if _, err := io.WriteString(conn, drop); err != nil {
							return
						}
						time.Sleep(time.Second)
					}
				}()
				answer := make([]byte, 12)
				if _, err := io.ReadFull(conn, answer); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took != test.after || string(answer[9:]) != test.code {
					t.Errorf("%s after %v, want %s after %v", answer, took, test.code, test.after)
				}
				io.Copy(io.Discard, conn) // until the server closes it
				if took := time.Since(start); took > 12*time.Second && strings.Contains(test.name, "no deadlines") == false && strings.Contains(test.name, "TimeoutHandler") == false {
					t.Errorf("the connection was held for %v", took)
				}
				conn.Close()
				stop()
				<-dripped
			})
		})
	}
}
