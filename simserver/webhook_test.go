package simserver_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

// A webhookReceiver keeps the deliveries that are signed with "s".
type webhookReceiver struct {
	mu   sync.Mutex
	got  []received
	code int // what it answers; 0: nothing in particular
}

type received struct {
	Type string `json:"event_type"`
	Data struct {
		ID         string `json:"video_translate_id"`
		URL        string `json:"url"`
		Message    string `json:"message"`
		CallbackID string `json:"callback_id"`
	} `json:"event_data"`
	url, event string
	at         time.Time
	bad        string
}

func (e *webhookReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := received{url: r.URL.String(), event: r.Header.Get("Heygen-Event-Id"), at: time.Now()}
	if r.URL.Host == "" {
		h.url = "http://" + r.Host + r.URL.String()
	}
	body, err := io.ReadAll(r.Body)
	mac := hmac.New(sha256.New, []byte("s"))
	mac.Write(body)
	switch {
	case r.Method != http.MethodPost:
		h.bad = r.Method
	case err != nil || json.Unmarshal(body, &h) != nil:
		h.bad = fmt.Sprintf("body %s, %v", body, err)
	case r.Header.Get("Heygen-Signature") != hex.EncodeToString(mac.Sum(nil)):
		h.bad = "signature"
	case r.Header.Get("Heygen-Timestamp") != strconv.FormatInt(time.Now().Unix(), 10):
		h.bad = "timestamp"
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got = append(e.got, h)
	if e.code != 0 {
		w.WriteHeader(e.code)
	}
}

// all returns what was received, sorted by job.
func (e *webhookReceiver) all() []received {
	e.mu.Lock()
	defer e.mu.Unlock()
	got := slices.Clone(e.got)
	slices.SortStableFunc(got, func(a, b received) int { return strings.Compare(a.Data.ID, b.Data.ID) })
	return got
}

func TestEachEndIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(webhookReceiver)
		start := time.Now()
		sim := simserver.StartInMemory(t, simserver.WithAutoCreate(), simserver.WithWebhook(simserver.Webhook{
			Handler: e, Secret: "s", Delay: time.Second,
		}))
		sim.Create(simserver.Job{ID: "a", Duration: time.Minute})
		sim.Create(simserver.Job{ID: "b", Duration: 2 * time.Minute, Fail: true, Message: "no"})
		sim.Create(simserver.Job{ID: "c", Duration: simserver.Never})
		sim.Create(simserver.Job{ID: "d", Duration: time.Hour})
		sim.Create(simserver.Job{ID: "e", Started: start.Add(-time.Hour), Duration: time.Minute})
		sim.Create(simserver.Job{ID: "f", Duration: time.Hour})
		sim.Create(simserver.Job{ID: "f", Duration: 3 * time.Hour}) // in its place
		get(sim, "/status/g")
		time.Sleep(5 * time.Minute)
		sim.Complete("c")
		sim.Fail("d", "stopped")
		time.Sleep(2 * time.Hour)
		want := []struct {
			id, kind, message string
			at                time.Duration
		}{
			{"a", "video_translate.success", "", time.Minute},
			{"b", "video_translate.fail", "no", 2 * time.Minute},
			{"c", "video_translate.success", "", 5 * time.Minute},
			{"d", "video_translate.fail", "stopped", 5 * time.Minute},
			{"e", "video_translate.success", "", 0},
			{"g", "video_translate.success", "", 10 * time.Second},
		}
		got := e.all()
		events := map[string]bool{}
		for i, h := range got {
			events[h.event] = true
			if i >= len(want) {
				break
			}
			w := want[i]
			if h.bad != "" || h.Data.ID != w.id || h.Type != w.kind || h.Data.Message != w.message || h.at.Sub(start) != w.at+time.Second ||
				(h.Data.URL == "") != (w.message != "") || h.url != "http://webhook.invalid/" {
				t.Errorf("got %+v after %v, want %+v", h, h.at.Sub(start), w)
			}
		}
		if len(got) != len(want) || len(events) != len(want) {
			t.Errorf("%d deliveries of %d events, want %d", len(got), len(events), len(want))
		}
		if s := sim.Stats(); s.Webhooks != len(want) || s.WebhooksLost+s.WebhooksRefused != 0 {
			t.Errorf("%+v", s)
		}
		// What is still to come does not keep the bubble.
	})
}

func TestWebhookLossesAndDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(webhookReceiver)
		h := simserver.Webhook{Handler: e, Secret: "s", Loss: 0.3, Duplicates: 0.5, Delay: time.Second, Jitter: time.Minute}
		run := func() (ids []string) {
			e.got = nil
			sim := simserver.StartInMemory(nil, simserver.WithWebhook(h))
			defer sim.Close()
			start := time.Now()
			for range 1000 {
				sim.Create(simserver.Job{Duration: time.Minute})
			}
			time.Sleep(10 * time.Minute)
			first, twice := map[string]received{}, 0
			for _, d := range e.all() {
				ids = append(ids, d.Data.ID)
				late := d.at.Sub(start) - time.Minute
				f, again := first[d.Data.ID]
				if again {
					twice++
					late /= 2
				}
				if d.bad != "" || late < time.Second || late > 61*time.Second || again && f.event != d.event {
					t.Fatalf("%+v, %v late", d, late)
				}
				first[d.Data.ID] = d
			}
			s := sim.Stats()
			if s.WebhooksLost+len(first) != 1000 || s.Webhooks != len(ids) || s.WebhooksLost < 240 || s.WebhooksLost > 360 || twice < 280 || twice > 420 {
				t.Errorf("%d arrived, %d twice, %+v", len(first), twice, s)
			}
			return ids
		}
		if a, b := run(), run(); !slices.Equal(a, b) {
			t.Error("not the same with the same seed")
		}
	})
}

func TestSetWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &webhookReceiver{code: 500}
		sim := simserver.StartInMemory(t)
		if err := sim.ProbeWebhook(); err == nil {
			t.Error("probed nothing")
		}
		sim.Create(simserver.Job{ID: "over", Duration: -1})
		sim.Create(simserver.Job{ID: "a", Duration: time.Minute})
		sim.Create(simserver.Job{ID: "b", Duration: 2 * time.Minute})
		sim.Create(simserver.Job{ID: "c", Duration: 3 * time.Minute})
		sim.SetWebhook(simserver.Webhook{Handler: e, Secret: "s", URL: "http://me.invalid/x"})
		time.Sleep(90 * time.Second)
		sim.SetWebhook(simserver.Webhook{Handler: e, Secret: "s", Loss: 1})
		time.Sleep(time.Minute)
		sim.SetWebhook(simserver.Webhook{})
		time.Sleep(time.Hour)
		if got := e.all(); len(got) != 1 || got[0].Data.ID != "a" || got[0].url != "http://me.invalid/x" {
			t.Errorf("%+v", got)
		}
		if s := sim.Stats(); s.Webhooks != 1 || s.WebhooksRefused != 1 || s.WebhooksLost != 1 {
			t.Errorf("%+v", s)
		}
		sim.ResetStats()
		if s := sim.Stats(); s.Webhooks+s.WebhooksRefused+s.WebhooksLost != 0 {
			t.Errorf("%+v", s)
		}
		for want, h := range map[string]simserver.Webhook{
			"URL": {URL: "x", Secret: "s"}, "Secret": {Handler: e}, "Loss": {Handler: e, Secret: "s", Loss: 2},
			"Duplicates": {Handler: e, Secret: "s", Duplicates: -1}, "Delay": {Handler: e, Secret: "s", Jitter: -1},
		} {
			for _, set := range []func(){func() { sim.SetWebhook(h) }, func() { simserver.New(simserver.WithWebhook(h)) }} {
				func() {
					defer func() {
						if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), "Webhook."+want) {
							t.Errorf("panic %v, want Webhook.%s", r, want)
						}
					}()
					set()
				}()
			}
		}
	})
}

func TestProbeWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			handler http.HandlerFunc
			ok      bool
		}{
			"answers":  {func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Allow", r.Method) }, true},
			"in time":  {func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Second - 1); w.WriteHeader(204) }, true},
			"too late": {func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Second + 1) }, false},
			"refuses":  {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(405); w.WriteHeader(200) }, false},
			"panics":   {func(w http.ResponseWriter, r *http.Request) { panic("no") }, false},
		} {
			var methods []string
			sim := simserver.New(simserver.WithWebhook(simserver.Webhook{Secret: "s", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				methods = append(methods, r.Method)
				c.handler(w, r)
			})}))
			if err := sim.ProbeWebhook(); (err == nil) != c.ok || !slices.Equal(methods, []string{"OPTIONS"}) {
				t.Errorf("%s: %v after %v", name, err, methods)
			}
			sim.Close()
		}
	})
}

// Close stops what is to come and ends what is under way.
func TestCloseWithDeliveriesUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		sim := simserver.StartInMemory(nil, simserver.WithWebhook(simserver.Webhook{
			URL: "http://me.invalid/", Secret: "s", Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				ended = true
				return nil, errors.New("no answer")
			}),
		}))
		sim.Create(simserver.Job{Duration: time.Minute})
		sim.Create(simserver.Job{Duration: time.Hour})
		time.Sleep(time.Minute + time.Second)
		start := time.Now()
		sim.Close()
		if !ended || time.Since(start) != 0 {
			t.Errorf("ended: %v, after %v", ended, time.Since(start))
		}
		sim.Create(simserver.Job{Duration: time.Second})
		time.Sleep(2 * time.Hour)
		if s := sim.Stats(); s.Webhooks != 1 || s.WebhooksRefused != 1 {
			t.Errorf("%+v", s)
		}
	})
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A job with a callback_url is announced there, unsigned, with the language and the id that
// it was submitted with.
func TestCallbacksAreNotSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		received := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			for key := range r.Header {
				if strings.HasPrefix(key, "Heygen-") {
					t.Errorf("a delivery with %s", key)
				}
			}
			got = append(got, r.Host+r.URL.Path+" "+string(body))
		})
		sim := simserver.StartInMemory(t, simserver.WithSeed(3), simserver.WithWebhook(simserver.Webhook{
			Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
				w := httptest.NewRecorder()
				in := r.Clone(r.Context())
				in.Host = r.URL.Host
				received.ServeHTTP(w, in)
				return w.Result(), nil
			}),
		}))
		res, body := submitWith(t, sim, v3, "", `{"video":{"type":"url","url":"https://x.invalid/f"},"output_languages":["German","French"],"callback_url":"http://me.invalid/cb","callback_id":"secret-id"}`)
		if res.StatusCode != 200 {
			t.Fatal(body)
		}
		sim.Create(simserver.Job{}) // announced nowhere
		sim.Fail("job-2", "no speech")
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []string{
			`me.invalid/cb {"event_data":{"callback_id":"secret-id","message":"no speech","output_language":"French","video_translate_id":"job-2"},"event_type":"video_translate.fail"}`,
			`me.invalid/cb {"event_data":{"callback_id":"secret-id","output_language":"German","url":"https://videos.sim.invalid/job-1.mp4","video_translate_id":"job-1"},"event_type":"video_translate.success"}`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	})
}

// A delivery that got no 2xx comes again, later and later, with the body, id and time of the
// first try, until the time for that is over.
func TestDeliveriesAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		stamps := map[string]bool{}
		fails := 3
		sim := simserver.StartInMemory(t, simserver.WithWebhook(simserver.Webhook{
			Secret: "s", Retry: 24 * time.Hour,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				at = append(at, time.Since(start))
				stamps[r.Header.Get("Heygen-Timestamp")+r.Header.Get("Heygen-Event-Id")+r.Header.Get("Heygen-Signature")] = true
				if fails--; fails >= 0 {
					w.WriteHeader(503)
				}
			}),
		}))
		sim.Create(simserver.Job{Duration: time.Minute})
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		m := time.Minute
		if want := []time.Duration{m, m + m/2, m + m/2 + m, m + m/2 + m + 2*m}; !slices.Equal(at, want) || len(stamps) != 1 {
			t.Errorf("%v, %d stamps", at, len(stamps))
		}
		at, fails = nil, 1000
		start = time.Now()
		sim.Create(simserver.Job{Duration: time.Minute})
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if n := len(at); n < 20 || n > 40 || at[n-1] > 24*time.Hour+m || at[n-1] < 22*time.Hour {
			t.Errorf("%d tries, the last after %v", n, at[n-1])
		}
		// A job that is replaced is announced no more.
		at, fails = nil, 1000
		id := sim.Create(simserver.Job{Duration: time.Minute})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		sim.Create(simserver.Job{ID: id, Duration: simserver.Never})
		n := len(at)
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if len(at) != n || n != 2 {
			t.Errorf("%d tries after %d", len(at), n)
		}
	})
}
