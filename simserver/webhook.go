package simserver

import (
	"bytes"
	"cmp"
	"context"
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
// signature of the body. The default job, whose id is empty, has none.
//
// A job that was submitted with a callback_url is announced there, and not at URL, by a
// delivery without signature, time or id of the event. That needs no Webhook, except in
// memory, where one with a Handler or a Transport has to say how URLs are reached.
type Webhook struct {
	// URL is where deliveries go, but for those of jobs submitted with a callback_url.
	URL string

	// Handler gets the deliveries without a network in between, which also works
	// inside a synctest bubble. The URL is then only what the handler sees, and may be
	// empty. It must not call [Server.Close].
	Handler http.Handler

	// Transport sends them if Handler is nil. Nil: http.DefaultTransport.
	Transport http.RoundTripper

	// Secret is what they are signed with. It must not be empty where there is a URL or a
	// Handler.
	Secret string

	// Loss is the share of the deliveries, 0 to 1, that never arrive.
	Loss float64

	// Duplicates is the share of the others that arrive twice: the same event and
	// body, each sent with the time of its own.
	Duplicates float64

	// Retry is for how long after the first try a delivery is repeated that got no 2xx:
	// after 30 s, 1 min, 2 min and so on, an hour at most, with the body, id and time of
	// the first one. 0: it is sent once. HeyGen repeats for up to 24 hours.
	Retry time.Duration

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
	case h.Delay < 0 || h.Jitter < 0 || h.Retry < 0:
		return errors.New("simserver: Webhook.Delay, Jitter or Retry is negative")
	}
	return cmp.Or(unitless("Webhook.Delay", h.Delay), unitless("Webhook.Jitter", h.Jitter), unitless("Webhook.Retry", h.Retry))
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
	s.hooks.set(h)
	s.jobs.watch(time.Now())
}

// ProbeWebhook sends OPTIONS to the webhook's URL, as HeyGen does when an endpoint is
// registered. It returns an error unless the answer is a 2xx within a second.
func (s *Server) ProbeWebhook() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	h := s.hooks.webhook()
	if h.off() {
		return errors.New("simserver: ProbeWebhook: no webhook")
	}
	if err := h.send(ctx, http.MethodOptions, h.URL, nil, nil); err != nil {
		return fmt.Errorf("simserver: ProbeWebhook: %w", err)
	}
	return nil
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
