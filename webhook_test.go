package vtclient_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
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

// A receiver is a Webhook and what it was told.
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
		says   string // in what OnError is told; empty: nothing
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
			var says string
			if len(h.errs) > 0 {
				says = h.errs[0].Error()
			}
			if len(h.errs) > 1 || (test.says == "") != (says == "") || !strings.Contains(says, test.says) {
				t.Errorf("OnError was told %v, want %q", h.errs, test.says)
			}
			if strings.Contains(says, webhookSecret) || strings.Contains(says, sign(webhookSecret, test.body)) {
				t.Errorf("a secret in %q", says)
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

// FuzzWebhook: nothing that anybody may send makes the handler panic, answer with a
// body, or hint without a signature; what is signed gives one hint at most.
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

// What says to be too long is not read at all, and a genuine event that cannot
// be read says why.
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
		if c := h.take(delivery(body, "x")).Code; c != 400 || len(h.errs) != 1 || !errors.Is(h.errs[0], vtclient.ErrUnreadable) ||
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
