package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// listen makes a handler reachable at an address until stop is called.
func listen(ctx context.Context, addr string, h http.Handler) (site, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return site{}, err
	}
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // it would tear the live lines
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		server.Serve(listener) // returns http.ErrServerClosed
	}()
	transport := &http.Transport{}
	stop := func() {
		server.Close()
		listener.Close() // the server does not have it yet if Serve has not begun
		<-gone
		transport.CloseIdleConnections()
	}
	return site{url: "http://" + listener.Addr().String(), transport: transport, stop: stop}, nil
}

// webhookPath is where vt wait takes webhooks; it takes them at any other path, too.
const webhookPath = "/webhooks/heygen"

// receiveWebhooks starts to receive webhooks for a wait that is to have some. Those of a
// simulated backend are signed with a secret of this run's own.
func (w *waitRun) receiveWebhooks(ctx context.Context) error {
	if w.f.api.api != heygenAPI || w.sim == nil && w.f.listen == "" {
		return nil
	}
	addr, secret := w.f.listen, w.getenv(heygenSecretVar)
	if w.sim != nil {
		secret = rand.Text()
		if addr == "" {
			addr = "127.0.0.1:0"
		}
	}
	handler, err := w.board.webhook(secret, w.client.Hint)
	if err != nil {
		return err
	}
	at, err := w.listen(ctx, addr, handler)
	if err != nil {
		return err
	}
	w.cleanup = append(w.cleanup, at.stop)
	url := at.url + webhookPath
	if w.sim != nil {
		w.board.hooks.lost = func() int { return w.sim.Stats().WebhooksLost }
		w.sim.SetWebhook(simserver.Webhook{URL: url, Transport: at.transport, Secret: secret, Loss: float64(w.f.sim.loss)})
	}
	w.board.note(note{event: "listening", text: "receiving webhooks at " + url, url: url})
	return nil
}

const submitPath = "/v3/video-translations"

// webhook returns the handler that takes the deliveries for a wait: it hints the client
// and marks the job.
func (b *board) webhook(secret string, hint func(id string)) (http.Handler, error) {
	verify, err := vtclient.VerifyHeyGen(secret)
	if err != nil {
		return nil, err
	}
	b.hooks = &hooks{}
	return &vtclient.Webhook{
		Verify: verify,
		Hint: func(id string) {
			b.hinted(id)
			hint(id)
		},
		OnError: func(_ *http.Request, err error) { b.refused(err) },
	}, nil
}

// Hooks are the webhooks of a wait, counted.
type hooks struct {
	arrived int // for jobs that are waited for
	refused int
	inARow  int // refused since the last that arrived

	lost func() int // on the way to us; nil: that is not known
}

// hinted marks a job whose end a delivery has announced.
func (b *board) hinted(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.byID[id]
	if j == nil || b.finalized { // webhooks announce all jobs of an account
		return
	}
	b.hooks.arrived++
	b.hooks.inARow = 0
	b.page.mark(id, time.Now(), markArrived)
	if j.ended.IsZero() {
		j.hinted = true
		b.out.hinted(j)
	}
}

// refused counts a delivery that was refused.
func (b *board) refused(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finalized {
		return
	}
	b.hooks.refused++
	b.hooks.inARow++
	if b.verbose || b.hooks.inARow == 1 {
		b.out.note(note{event: "refused", text: "webhook refused: " + b.causeText("", err), err: b.errorText(err)})
	}
}

// webhookCounts are the webhooks in a summary.
type webhookCounts struct {
	Arrived int `json:"arrived"` // for jobs that were waited for
	Refused int `json:"refused"` // for a wrong signature, mostly
	Lost    int `json:"lost"`    // on purpose, by the simulated backend in this process
}

func (w *webhookCounts) text() string {
	line := count(w.Arrived, "webhook") + " arrived"
	if w.Lost > 0 {
		line += fmt.Sprintf(", %d lost on the way", w.Lost)
	}
	if w.Refused > 0 {
		line += fmt.Sprintf(", %d refused", w.Refused)
	}
	return line
}
