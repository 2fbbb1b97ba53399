package vtclient_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
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
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

const webhookSecret = "whsec_0123456789abcdef"

type verifierOf = func(...string) (func(*http.Request, []byte) (vtclient.WebhookEvent, error), error)

// sign is what HeyGen does.
func sign(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

func success(id string) string {
	return fmt.Sprintf(`{"event_type":"video_translate.success","event_data":{"video_translate_id":%q,"url":"https://v.example.com/1"}}`, id)
}

// delivery is a genuine one.
func delivery(body, event string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/webhooks/heygen", strings.NewReader(body))
	r.Header.Set("Heygen-Signature", sign(webhookSecret, body))
	r.Header.Set("Heygen-Timestamp", strconv.FormatInt(time.Now().Unix(), 10))
	r.Header.Set("Heygen-Event-Id", event)
	return r
}

// A receiver is a Webhook with what it received.
type receiver struct {
	vtclient.Webhook
	mu    sync.Mutex
	hints []string
	errs  []error
}

func newReceiver(t testing.TB, secrets ...string) *receiver {
	t.Helper()
	verify, err := vtclient.VerifyHeyGen(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	r := new(receiver)
	r.Verify = verify
	r.Hint = func(id string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.hints = append(r.hints, id)
	}
	r.OnError = func(_ *http.Request, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.errs = append(r.errs, err)
	}
	return r
}

func (r *receiver) take(req *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func TestWebhookDeliveries(t *testing.T) {
	const id = "tr/42 ü"
	fail := `{"event_type":"video_translate.fail","event_data":{"video_translate_id":"tr-7","message":"no speech","output_language":"German"}}`
	other := `{"event_type":"avatar_video.success","event_data":{"video_id":"x"}}`
	for _, test := range []struct {
		name   string
		body   string
		change func(*http.Request)
		code   int
		hints  []string
		text   string // in the error that OnError gets; empty: none
	}{
		{"success", success(id), nil, 200, []string{id}, ""},
		{"fail", fail, nil, 200, []string{"tr-7"}, ""},
		{"no event id", success(id), func(r *http.Request) { r.Header.Del("Heygen-Event-Id") }, 200, []string{id}, ""},
		{"another event", other, nil, 200, nil, ""},
		{"preflight", `{"event_type":"video_translate.preflight.download_failed","event_data":{"video_translate_id":"tr-8"}}`, nil, 200, []string{"tr-8"}, ""},
		{"preflight of no job", `{"event_type":"video_translate.preflight.validation_failed","event_data":{}}`, nil, 200, nil, ""},
		{"an event of tomorrow", `{"event_type":"video_translate.started","event_data":[1]}`, nil, 200, nil, ""},
		{"more members than known", `{"event_type":"video_translate.success","v":3,"event_data":{"video_translate_id":"a","more":{}}}`, nil, 200, []string{"a"}, ""},

		{"no signature", success(id), func(r *http.Request) { r.Header.Del("Heygen-Signature") }, 401, nil, "exactly one Heygen-Signature"},
		{"an empty signature", success(id), func(r *http.Request) { r.Header.Set("Heygen-Signature", "") }, 401, nil, "exactly one Heygen-Signature"},
		{"upper case", success(id), func(r *http.Request) {
			r.Header.Set("Heygen-Signature", strings.ToUpper(r.Header.Get("Heygen-Signature")))
		}, 401, nil, "under none of the secrets"},
		{"one digit short", success(id), func(r *http.Request) {
			r.Header.Set("Heygen-Signature", r.Header.Get("Heygen-Signature")[:63])
		}, 401, nil, "under none"},
		{"half of it", success(id), func(r *http.Request) {
			r.Header.Set("Heygen-Signature", r.Header.Get("Heygen-Signature")[:32])
		}, 401, nil, "under none"},
		{"a prefix", success(id), func(r *http.Request) {
			r.Header.Set("Heygen-Signature", "sha256="+r.Header.Get("Heygen-Signature"))
		}, 401, nil, "under none"},
		{"two signatures, one of them good", success(id), func(r *http.Request) {
			r.Header.Add("Heygen-Signature", sign("x", success(id)))
		}, 401, nil, "exactly one"},
		{"two in one line", success(id), func(r *http.Request) {
			good := r.Header.Get("Heygen-Signature")
			r.Header.Set("Heygen-Signature", good+","+good)
		}, 401, nil, "under none"},
		{"an empty secret's", success(id), func(r *http.Request) { r.Header.Set("Heygen-Signature", sign("", success(id))) }, 401, nil, "under none"},
		{"another secret's", success(id), func(r *http.Request) { r.Header.Set("Heygen-Signature", sign("whsec", success(id))) }, 401, nil, "under none"},
		{"of another body", success(id), func(r *http.Request) { r.Header.Set("Heygen-Signature", sign(webhookSecret, success("b"))) }, 401, nil, "under none"},
		{"a byte more", success(id), func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(success(id)+"\n")), -1
		}, 401, nil, "under none"},

		{"no time", success(id), func(r *http.Request) { r.Header.Del("Heygen-Timestamp") }, 401, nil, "exactly one Heygen-Timestamp"},
		{"two times", success(id), func(r *http.Request) { r.Header.Add("Heygen-Timestamp", "1") }, 401, nil, "exactly one Heygen-Timestamp"},
		{"no number", success(id), func(r *http.Request) { r.Header.Set("Heygen-Timestamp", "2026-11-23T20:15:06Z") }, 401, nil, "not a number of seconds"},
		{"a fraction", success(id), func(r *http.Request) { r.Header.Set("Heygen-Timestamp", "946684800.5") }, 401, nil, "not a number"},
		{"the far past", success(id), func(r *http.Request) { r.Header.Set("Heygen-Timestamp", "-9223372036854775808") }, 200, []string{id}, ""},
		{"the far future", success(id), func(r *http.Request) { r.Header.Set("Heygen-Timestamp", "9223372036854775807") }, 401, nil, "300 s"},

		{"nothing", "", nil, 400, nil, "cannot be read"},
		{"no JSON", "video_translate.success", nil, 400, nil, "cannot be read"},
		{"a list", `[]`, nil, 400, nil, "cannot be read"},
		{"null", `null`, nil, 400, nil, "no event_type"},
		{"no type", `{"event_data":{"video_translate_id":"a"}}`, nil, 400, nil, "no event_type"},
		{"no job", `{"event_type":"video_translate.success","event_data":{}}`, nil, 400, nil, "no event_data.video_translate_id"},
		{"no data", `{"event_type":"video_translate.success"}`, nil, 400, nil, "no event_data.video_translate_id"},
		{"a number for a job", `{"event_type":"video_translate.success","event_data":{"video_translate_id":7}}`, nil, 400, nil, "event_data"},
		{"broken off", success(id), func(r *http.Request) { r.Body = io.NopCloser(&brokenBody{}) }, 400, nil, "broken off"},

		{"too long", success(strings.Repeat("x", 256<<10)), nil, 413, nil, "longer than 262144 bytes"},
		{"too long, of unknown length", success(strings.Repeat("x", 256<<10)), func(r *http.Request) { r.ContentLength = -1 }, 413, nil, "longer than 262144 bytes"},
		{"as long as may be", success(strings.Repeat("x", 256<<10-len(success("")))), nil, 200, []string{strings.Repeat("x", 256<<10-len(success("")))}, ""},

		{"a probe", "", func(r *http.Request) { r.Method = http.MethodOptions; r.Header = http.Header{} }, 200, nil, ""},
		{"GET", success(id), func(r *http.Request) { r.Method = http.MethodGet }, 405, nil, "method"},
		{"HEAD", "", func(r *http.Request) { r.Method = http.MethodHead }, 405, nil, "method"},
		{"PUT", success(id), func(r *http.Request) { r.Method = http.MethodPut }, 405, nil, "method"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newReceiver(t, "another", webhookSecret)
			r := delivery(test.body, "evt-1")
			if test.change != nil {
				test.change(r)
			}
			w := h.take(r)
			if w.Code != test.code || w.Body.Len() > 0 {
				t.Errorf("%d with body %q, want %d and none", w.Code, w.Body, test.code)
			}
			if !slices.Equal(h.hints, test.hints) {
				t.Errorf("hints %q, want %q", h.hints, test.hints)
			}
			var text string
			if len(h.errs) > 0 {
				text = h.errs[0].Error()
			}
			if len(h.errs) > 1 || (test.text == "") != (text == "") || !strings.Contains(text, test.text) {
				t.Errorf("OnError got %v, want %q", h.errs, test.text)
			}
			if strings.Contains(text, webhookSecret) || strings.Contains(text, sign(webhookSecret, test.body)) {
				t.Errorf("a secret in %q", text)
			}
			if allow := w.Header().Get("Allow"); (allow == "OPTIONS, POST") != (test.code == 405 || r.Method == http.MethodOptions) {
				t.Errorf("Allow is %q", allow)
			}
		})
	}
}

type brokenBody struct{}

func (*brokenBody) Read([]byte) (int, error) { return 0, errors.New("broken off") }

// A delivery may be as old as a sender repeats it, and a clock may be ahead by five minutes,
// to the second.
func TestWebhookTimestampWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newReceiver(t, webhookSecret)
		for off, code := range map[int64]int{-86400: 200, -301: 200, 0: 200, 300: 200, 301: 401} {
			r := delivery(success(fmt.Sprint(off)), fmt.Sprint(off))
			r.Header.Set("Heygen-Timestamp", strconv.FormatInt(time.Now().Unix()+off, 10))
			if w := h.take(r); w.Code != code {
				t.Errorf("%+d s: %d, want %d", off, w.Code, code)
			}
		}
	})
}

func TestWebhookReplays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newReceiver(t, webhookSecret, "older")
		expect := func(what string, r *http.Request, hints int) {
			t.Helper()
			h.hints = nil
			if w := h.take(r); w.Code != 200 || len(h.hints) != hints {
				t.Errorf("%s: %d and hints %q, want 200 and %d", what, w.Code, h.hints, hints)
			}
		}
		expect("the first", delivery(success("a"), "e1"), 1)
		time.Sleep(time.Second)
		expect("the same again", delivery(success("a"), "e1"), 0)
		expect("the same body under another id", delivery(success("a"), "e2"), 0)
		expect("the same id with another body", delivery(success("b"), "e1"), 0)
		expect("the id that a replay bore", delivery(success("c"), "e2"), 1)
		older := delivery(success("a"), "e3")
		older.Header.Set("Heygen-Signature", sign("older", success("a")))
		expect("the same body under another secret", older, 0)
		forged := delivery(success("d"), "e4")
		forged.Header.Set("Heygen-Signature", sign("x", success("d")))
		h.take(forged)
		expect("what was forged before", delivery(success("d"), "e4"), 1)

		// As late as a recorded delivery can pass for new.
		time.Sleep(300 * time.Second)
		early := delivery(success("e"), "e5")
		early.Header.Set("Heygen-Timestamp", strconv.FormatInt(time.Now().Unix()+300, 10))
		recorded := early.Header
		expect("one with a fast clock", early, 1)
		time.Sleep(600 * time.Second)
		again := delivery(success("e"), "e5")
		again.Header = recorded
		expect("recorded, at the end of its time", again, 0)
		time.Sleep(time.Second)
		expect("when it is forgotten", delivery(success("e"), "e5"), 1)
	})
}

// However many come, the memory of replays stays bounded: the oldest go first.
func TestWebhookReplayMemoryIsBounded(t *testing.T) {
	h := newReceiver(t, webhookSecret)
	const n = 4096 // two names each
	for i := range n + 1 {
		h.take(delivery(success(fmt.Sprint(i)), fmt.Sprint("e", i)))
	}
	h.hints = nil
	h.take(delivery(success("1"), "x1"))
	h.take(delivery(success(fmt.Sprint(n)), "x2"))
	if len(h.hints) > 0 {
		t.Errorf("hinted again at %q, which should be in memory", h.hints)
	}
	h.take(delivery(success("0"), "x0"))
	if len(h.hints) != 1 {
		t.Error("the first is still remembered")
	}
	if err := h.errs; len(err) > 0 {
		t.Error(err)
	}
}

func TestWebhookRotation(t *testing.T) {
	const fresh = "whsec_new"
	by := func(secret, id string) *http.Request {
		r := delivery(success(id), id)
		r.Header.Set("Heygen-Signature", sign(secret, success(id)))
		return r
	}
	for _, test := range []struct {
		secrets   []string
		old, new_ int
	}{{[]string{webhookSecret}, 200, 401}, {[]string{webhookSecret, fresh}, 200, 200}, {[]string{fresh}, 401, 200}} {
		h := newReceiver(t, test.secrets...)
		if c := h.take(by(webhookSecret, "a")).Code; c != test.old {
			t.Errorf("%d secrets: %d for the old one, want %d", len(test.secrets), c, test.old)
		}
		if c := h.take(by(fresh, "b")).Code; c != test.new_ {
			t.Errorf("%d secrets: %d for the new one, want %d", len(test.secrets), c, test.new_)
		}
	}
}

func TestVerifyHeyGenRefusesEmptySecrets(t *testing.T) {
	for _, secrets := range [][]string{nil, {""}, {webhookSecret, ""}, {"", webhookSecret}} {
		verify, err := vtclient.VerifyHeyGen(secrets...)
		var bad *vtclient.ArgumentError
		if !errors.As(err, &bad) || verify != nil || strings.Contains(err.Error(), webhookSecret) {
			t.Errorf("%d secrets: %v", len(secrets), err)
		}
	}
}

func TestWebhookWithoutItsParts(t *testing.T) {
	for name, h := range map[string]*receiver{"Webhook.Verify": newReceiver(t, webhookSecret), "Webhook.Hint": newReceiver(t, webhookSecret)} {
		if name == "Webhook.Verify" {
			h.Verify = nil
		} else {
			h.Hint = nil
		}
		w := h.take(delivery(success("a"), "e"))
		var bad *vtclient.ArgumentError
		if w.Code != 500 || len(h.errs) != 1 || !errors.As(h.errs[0], &bad) || bad.Where != name {
			t.Errorf("without %s: %d, %v", name, w.Code, h.errs)
		}
		h.OnError = nil
		if w := h.take(delivery("", "")); w.Code != 500 {
			t.Error(w.Code)
		}
	}
}

// A delivery whose hint was not taken is not yet known.
func TestWebhookHintThatPanics(t *testing.T) {
	h := newReceiver(t, webhookSecret)
	hint := h.Hint
	h.Hint = func(string) { panic("no connection") }
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		h.take(delivery(success("a"), "e"))
	}()
	h.Hint = hint
	h.take(delivery(success("a"), "e"))
	h.take(delivery(success("a"), "e"))
	if !slices.Equal(h.hints, []string{"a"}) {
		t.Errorf("hints %q, want one", h.hints)
	}
}

// Ten senders of the same delivery at once, and of many others: each hint once.
func TestWebhookAtOnce(t *testing.T) {
	h := newReceiver(t, webhookSecret)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for i := range 50 {
				if w := h.take(delivery(success(fmt.Sprint(i)), fmt.Sprint(i))); w.Code != 200 {
					t.Error(w.Code)
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(h.hints)
	if len(h.hints) != 50 || len(slices.Compact(h.hints)) != 50 {
		t.Errorf("%d hints, want one for each of 50", len(h.hints))
	}
}

// A sender that stops in the middle of a body holds nothing for long, also where the
// server has no timeout of its own; and a shorter one of the server's holds.
func TestWebhookBodyThatNeverEnds(t *testing.T) {
	for _, test := range []struct{ server, want time.Duration }{{0, 10 * time.Second}, {time.Minute, 10 * time.Second}, {3 * time.Second, 3 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			h := newReceiver(t, webhookSecret)
			conn, there := net.Pipe()
			defer conn.Close()
			srv := &http.Server{Handler: h, ReadTimeout: test.server}
			ln := make(oneConn, 1)
			ln <- there
			go srv.Serve(ln)
			defer srv.Close()
			start := time.Now()
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
			answer, _ := io.ReadAll(conn)
			if took := time.Since(start); took != test.want || !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) {
				t.Errorf("after %v: %.20q; want a 400 after %v", took, answer, test.want)
			}
		})
	}
}

// A oneConn listens and accepts one connection.
type oneConn chan net.Conn

func (c oneConn) Accept() (net.Conn, error) {
	if conn, ok := <-c; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (c oneConn) Close() error   { close(c); return nil }
func (c oneConn) Addr() net.Addr { return &net.IPAddr{} }

// From the backend's end of the job to the end of the wait, through the real
// handler.
func TestWebhookEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newReceiver(t, webhookSecret)
		sim := simserver.StartInMemory(t, simserver.WithWebhook(simserver.Webhook{
			Handler: h, Secret: webhookSecret, Duplicates: 1, Delay: 2 * time.Second,
		}))
		client, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithPolling(vtclient.Constant(time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		hints := 0
		h.Hint = func(id string) { hints++; client.Hint(id) }
		good := sim.Create(simserver.Job{Duration: time.Minute})
		bad := sim.Create(simserver.Job{Duration: 2 * time.Minute, Fail: true})
		start := time.Now()
		if st, err := client.Wait(t.Context(), good); err != nil || st.State != vtclient.StateCompleted || time.Since(start) != 62*time.Second {
			t.Errorf("%v, %v after %v", st.State, err, time.Since(start))
		}
		if st, err := client.Wait(t.Context(), bad); !errors.Is(err, vtclient.ErrJobFailed) || time.Since(start) != 122*time.Second {
			t.Errorf("%v, %v after %v", st.State, err, time.Since(start))
		}
		time.Sleep(time.Minute)
		if n := sim.TotalRequests(); n != 4 || hints != 2 || sim.Stats().Webhooks != 4 {
			t.Errorf("%d requests and %d hints of %d deliveries, want 4, 2 and 4", n, hints, sim.Stats().Webhooks)
		}
	})
}

// The same over a real network: registration, deliveries, no body in any answer.
func TestWebhookOverHTTP(t *testing.T) {
	h := newReceiver(t, webhookSecret)
	mux := http.NewServeMux()
	mux.Handle("/webhooks/heygen", h)
	srv := httptest.NewServer(mux)
	defer srv.Close()
	got := make(chan string, 1)
	h.Hint = func(id string) { got <- id }
	sim := simserver.Start(t, simserver.WithWebhook(simserver.Webhook{URL: srv.URL + "/webhooks/heygen", Secret: webhookSecret}))
	if err := sim.ProbeWebhook(); err != nil {
		t.Error(err)
	}
	id := sim.Create(simserver.Job{Duration: simserver.Never})
	sim.Complete(id)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case g := <-got:
		if g != id {
			t.Errorf("hint for %q, want %q", g, id)
		}
	case <-ctx.Done():
		t.Error("no delivery")
	}
	resp, err := http.Post(srv.URL+"/webhooks/heygen", "application/json", strings.NewReader(success("a")))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 401 || len(b) > 0 {
		t.Errorf("%s %q", resp.Status, b)
	}
}

// FuzzWebhook: no request makes the handler panic, answer with a body, or hint without a
// signature; what is signed gives one hint at most.
func FuzzWebhook(f *testing.F) {
	f.Add("POST", []byte(success("a")), "", "0", "e", true)
	f.Add("POST", []byte(`{"event_type":"video_translate.fail","event_data":null}`), "00", "x", "", true)
	f.Add("POST", []byte("[1"), sign(webhookSecret, "[1"), "946684800", "e\n", false)
	f.Add("OPTIONS", []byte(nil), "", "", "", false)
	f.Fuzz(func(t *testing.T, method string, body []byte, signature, timestamp, event string, signed bool) {
		h := newReceiver(t, webhookSecret)
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.Method = method
		if signed {
			signature = sign(webhookSecret, string(body))
			timestamp = strconv.FormatInt(time.Now().Unix(), 10)
		}
		r.Header = http.Header{"Heygen-Signature": {signature}, "Heygen-Timestamp": {timestamp}, "Heygen-Event-Id": {event}}
		w := h.take(r)
		genuine := method == http.MethodPost && signature == sign(webhookSecret, string(body))
		if w.Body.Len() > 0 || len(h.hints) > 0 && (!genuine || w.Code != 200) {
			t.Fatalf("%d, %q, hints %q", w.Code, w.Body, h.hints)
		}
		if signed && genuine && len(body) <= 256<<10 && w.Code != 200 && w.Code != 400 {
			t.Fatalf("%d for what is signed", w.Code)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if h.take(r); len(h.hints) > 1 {
			t.Fatalf("hinted twice: %q", h.hints)
		}
	})
}

// Of two events without an id, of different bodies, none is a replay of the other.
func TestWebhookEventsWithoutAnID(t *testing.T) {
	h := newReceiver(t, webhookSecret)
	for _, id := range []string{"a", "b", "a"} {
		r := delivery(success(id), "")
		r.Header.Del("Heygen-Event-Id")
		if c := h.take(r).Code; c != 200 {
			t.Error(c)
		}
	}
	if !slices.Equal(h.hints, []string{"a", "b"}) {
		t.Errorf("hints %q", h.hints)
	}
}

// A body whose Content-Length is too long is not read at all. The error about a genuine event
// that cannot be read has the reason.
func TestWebhookBodiesThatAreRefused(t *testing.T) {
	h := newReceiver(t, webhookSecret)
	long := delivery(success("a"), "e")
	long.ContentLength = 256<<10 + 1
	long.Body = io.NopCloser(unread{t})
	if c := h.take(long).Code; c != 413 {
		t.Error(c)
	}
	exact := delivery(success("a"), "e")
	exact.ContentLength = 256 << 10 // it is shorter; the server would have noticed
	if c := h.take(exact).Code; c != 200 {
		t.Error(c)
	}
	for _, body := range []string{`{`, `{"event_type":"video_translate.success","event_data":7}`} {
		h.errs = nil
		var syntax *json.SyntaxError
		var wrong *json.UnmarshalTypeError
		if c := h.take(delivery(body, "x")).Code; c != 400 || len(h.errs) != 1 || !strings.Contains(h.errs[0].Error(), "signed well and cannot be read") ||
			!errors.As(h.errs[0], &syntax) && !errors.As(h.errs[0], &wrong) {
			t.Errorf("%s: %d, %v", body, c, h.errs)
		}
	}
}

type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) { u.t.Error("read"); return 0, io.EOF }

// An empty secret is named by its place.
func TestVerifyHeyGenNamesTheEmptySecret(t *testing.T) {
	_, err := vtclient.VerifyHeyGen("a", "", "c")
	if want := "vtclient: VerifyHeyGen: got an empty secret as number 2, want secrets that are not empty"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

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
		text   string
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
				if w.Code != test.code || len(h.errs) > 1 || (len(h.errs) == 1) != (test.text != "") || test.text != "" && !strings.Contains(h.errs[0].Error(), test.text) {
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
		if test.code == 400 && (len(h.errs) != 1 || !strings.Contains(h.errs[0].Error(), "signed well and cannot be read") || strings.Contains(h.errs[0].Error(), "Go value")) {
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
		verify  verifierOf
		secrets []string
		text    string
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
		if verify != nil || !errors.As(err, &bad) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v, want %q", test.name, err, test.text)
		}
		if err != nil && (strings.Contains(err.Error(), good) || strings.Contains(err.Error(), "not-base64!")) {
			t.Errorf("%s: a secret in %v", test.name, err)
		}
	}
	for name, verify := range map[string]verifierOf{"heygen": heygen, "callback": callback, "standard": standard} {
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
		text   string
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
			if test.text != "" && (len(h.errs) != 1 || !strings.Contains(strings.Replace(h.errs[0].Error(), fmt.Sprint(len(success("a"))-10, " bytes"), "10 bytes", 1), test.text)) || test.text == "" && len(h.errs) > 0 {
				t.Errorf("%v, want %q", h.errs, test.text)
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
