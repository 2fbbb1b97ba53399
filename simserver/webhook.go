package simserver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// A Webhook describes where a server announces the ends of jobs, and how reliably. The
// zero Webhook announces none.
//
// A delivery is what HeyGen's API, version 3, sends: a POST with the event
// video_translate.success or video_translate.fail, the event's id, the time, and a
// signature of the body. It is sent once, whatever comes back. The default job, whose
// id is empty, has none.
type Webhook struct {
	// URL is where deliveries go. A job submitted with a callback_url has its own.
	URL string

	// Handler gets the deliveries without a network in between, which also works
	// inside a synctest bubble. The URL is then only what the handler sees, and may be
	// empty. It must not call [Server.Close].
	Handler http.Handler

	// Transport sends them if Handler is nil. Nil: http.DefaultTransport.
	Transport http.RoundTripper

	// Secret is what they are signed with. It must not be empty.
	Secret string

	// Loss is the share of the deliveries, 0 to 1, that never arrive.
	Loss float64

	// Duplicates is the share of the others that arrive twice: the same event and
	// body, each sent with the time of its own.
	Duplicates float64

	// Delay is the time from the job's end until a delivery is sent, and Jitter the
	// most that chance adds to it. A duplicate comes once more as late.
	Delay, Jitter time.Duration
}

// Validate returns an error that names the first value of h that cannot be; nil: none.
func (h *Webhook) Validate() error {
	u, err := url.Parse(h.URL)
	switch {
	case h.off():
		return nil
	case h.Handler == nil && (err != nil || u.Host == ""):
		return fmt.Errorf("simserver: Webhook.URL: %q is not a URL", h.URL)
	case h.Secret == "":
		return errors.New("simserver: Webhook.Secret is empty")
	case !isRate(h.Loss):
		return fmt.Errorf("simserver: Webhook.Loss: %v is not between 0 and 1", h.Loss)
	case !isRate(h.Duplicates):
		return fmt.Errorf("simserver: Webhook.Duplicates: %v is not between 0 and 1", h.Duplicates)
	case h.Delay < 0 || h.Jitter < 0:
		return errors.New("simserver: Webhook.Delay or Jitter is negative")
	}
	return cmp.Or(unitless("Webhook.Delay", h.Delay), unitless("Webhook.Jitter", h.Jitter))
}

func (h *Webhook) off() bool { return h.URL == "" && h.Handler == nil }

// WithWebhook makes the server announce each job that ends. [Server.SetWebhook] changes
// it later. The default is the zero Webhook. [New] panics if h is not valid.
func WithWebhook(h Webhook) Option { return func(c *config) { c.webhook = h } }

// SetWebhook sets where deliveries go from now on and what becomes of them, also those
// of jobs that are under way. It panics if h is not valid.
func (s *Server) SetWebhook(h Webhook) {
	if err := h.Validate(); err != nil {
		panic(err.Error())
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.webhook = h
	for _, j := range s.jobs {
		if s.timers[j.ID] == nil && j.state(now) == pending {
			s.schedule(j, now)
		}
	}
}

// ProbeWebhook sends OPTIONS to the webhook's URL, as HeyGen does when an endpoint is
// registered. It returns an error unless the answer is a 2xx within a second.
func (s *Server) ProbeWebhook() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.mu.Lock()
	h := s.webhook
	s.mu.Unlock()
	if h.off() {
		return errors.New("simserver: ProbeWebhook: no webhook")
	}
	if err := h.send(ctx, http.MethodOptions, h.URL, nil, nil); err != nil {
		return fmt.Errorf("simserver: ProbeWebhook: %w", err)
	}
	return nil
}

// put stores a job in the place of any of its id, and schedules the delivery about its
// end. It is called under the lock.
func (s *Server) put(j *job, now time.Time) {
	if t := s.timers[j.ID]; t != nil {
		t.Stop()
		delete(s.timers, j.ID)
	}
	s.jobs[j.ID] = j
	s.schedule(j, now)
}

func (s *Server) schedule(j *job, now time.Time) {
	if s.webhook.off() || s.closed || j.ID == "" || j.Duration == Never {
		return
	}
	s.after(j, j.Started.Add(j.Duration).Sub(now), func() { s.ended(j) })
}

// after runs f, unless the server closes or the job is replaced before.
func (s *Server) after(j *job, d time.Duration, f func()) {
	var timer *time.Timer
	timer = time.AfterFunc(max(0, d), func() {
		s.mu.Lock()
		current := s.timers[j.ID] == timer && !s.closed
		if current {
			delete(s.timers, j.ID)
			s.sending++
		}
		s.mu.Unlock()
		if !current {
			return
		}
		defer s.sent()
		f()
	})
	s.timers[j.ID] = timer
}

func (s *Server) sent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sending--; s.sending == 0 {
		s.idle.Broadcast()
	}
}

// ended decides what becomes of the deliveries of a job that has ended.
func (s *Server) ended(j *job) {
	r := s.rand("webhook", hash(j.ID), 0)
	lost, twice, late := r.Float64(), r.Float64(), r.Float64()
	s.mu.Lock()
	h := s.webhook
	switch {
	case h.off():
		s.mu.Unlock()
		return
	case lost < h.Loss:
		s.stats.webhooksLost++
		s.mu.Unlock()
		s.delivered(Delivery{Time: time.Now(), JobID: j.ID, Lost: true})
		return
	}
	times := 1
	if twice < h.Duplicates {
		times = 2
	}
	s.mu.Unlock()
	s.deliver(j, h.Delay+time.Duration(late*float64(h.Jitter)), times)
}

// deliver sends a delivery when it has waited long enough, and again as often as it is
// to come.
func (s *Server) deliver(j *job, wait time.Duration, times int) {
	if wait > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.jobs[j.ID] == j && !s.closed {
			s.after(j, wait, func() {
				s.send(j)
				if times > 1 {
					s.deliver(j, wait, times-1)
				}
			})
		}
		return
	}
	for range times {
		s.send(j)
	}
}

// send makes one delivery.
func (s *Server) send(j *job) {
	event := map[string]any{"video_translate_id": j.ID}
	kind := "video_translate.success"
	if j.Fail {
		kind = "video_translate.fail"
		event["msg"] = j.Message
	} else if u, ok := j.result["video_url"]; ok {
		event["url"] = u
	}
	if j.callbackID != "" {
		event["callback_id"] = j.callbackID
	}
	body, _ := json.Marshal(map[string]any{"event_type": kind, "event_data": event})

	s.mu.Lock()
	h := s.webhook
	s.stats.webhooks++
	s.mu.Unlock()
	mac := hmac.New(sha256.New, []byte(h.Secret))
	mac.Write(body)
	header := http.Header{
		"Content-Type":     jsonType,
		"Heygen-Signature": {hex.EncodeToString(mac.Sum(nil))},
		"Heygen-Timestamp": {strconv.FormatInt(time.Now().Unix(), 10)},
		"Heygen-Event-Id":  {fmt.Sprintf("evt_%016x", s.rand("event", hash(kind+" "+j.ID), 0).Uint64())},
	}
	target := h.URL
	if j.callbackURL != "" {
		target = j.callbackURL
	}
	ctx, cancel := context.WithTimeout(context.Background(), webhookTimeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	d := Delivery{Time: time.Now(), JobID: j.ID}
	if d.Err = h.send(ctx, http.MethodPost, target, header, body); d.Err != nil {
		s.mu.Lock()
		s.stats.webhooksRefused++
		s.mu.Unlock()
	}
	s.delivered(d)
}

// delivered reports a delivery. The lock is not held.
func (s *Server) delivered(d Delivery) {
	if s.cfg.onDelivery != nil {
		s.cfg.onDelivery(d)
	}
}

// webhookTimeout is how long a delivery waits for the receiver's answer.
const webhookTimeout = 10 * time.Second

// send returns an error unless a 2xx comes back.
func (h *Webhook) send(ctx context.Context, method, target string, header http.Header, body []byte) error {
	if target == "" {
		target = "http://webhook.invalid/"
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if header != nil {
		req.Header = header
	}
	transport := h.Transport
	if h.Handler != nil {
		transport = inProcess{h.Handler}
	} else if transport == nil {
		transport = http.DefaultTransport
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s", resp.Status)
	}
	return nil
}

// inProcess is a transport to a handler.
type inProcess struct{ handler http.Handler }

func (t inProcess) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	in := req.Clone(req.Context())
	in.RequestURI, in.Host, in.RemoteAddr = req.URL.RequestURI(), req.URL.Host, memHost+":1024"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &discarder{header: http.Header{}}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the handler panicked: %v", r)
		}
	}()
	t.handler.ServeHTTP(w, in)
	w.WriteHeader(http.StatusOK)
	if err := req.Context().Err(); err != nil {
		return nil, err // too late
	}
	return &http.Response{
		StatusCode: w.code, Status: strconv.Itoa(w.code) + " " + http.StatusText(w.code),
		Header: w.header, Body: http.NoBody, Request: req,
	}, nil
}

// A discarder keeps of an answer what a sender of deliveries looks at.
type discarder struct {
	header http.Header
	code   int
}

func (w *discarder) Header() http.Header { return w.header }

func (w *discarder) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
}

func (w *discarder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(b), nil
}
