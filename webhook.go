package vtclient

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A Webhook is an [http.Handler] that turns the deliveries of a backend's
// webhook into hints, so that a job is looked at when it ends and not at the next
// poll:
//
//	verify, err := vtclient.VerifyHeyGen(os.Getenv("HEYGEN_WEBHOOK_SECRET"))
//	...
//	mux.Handle("/webhooks/heygen", &vtclient.Webhook{Verify: verify, Hint: client.Hint})
//
// Mount it for all methods, as above: a backend may probe it with OPTIONS when it
// is registered, which is answered at once and calls nothing.
//
// A delivery is only a reason to look: the result
// still comes from the backend, and where deliveries get lost a wait ends by
// polling. [Adaptive] learns how many arrive and polls the less, the more do.
//
// It answers
//
//	200  taken, and the hint given; or an event that is no end of a job; or a replay
//	400  the body cannot be read, within 10 s to its end or as an event
//	401  Verify refused it
//	405  neither POST nor OPTIONS
//	413  the body is longer than 256 KiB
//	500  Verify or Hint is nil, or a handler around this one has read the body
//
// with no body: a sender that is refused gets no reason. OnError does. The answer comes
// within 10 s, whatever the method and however slowly the body arrives. (Behind a handler
// that hides the connection, such as http.TimeoutHandler, give the server a ReadTimeout
// too: the connection itself is out of reach there, and may be held for longer.)
//
// A delivery that names an event seen within the last ten minutes is a replay:
// it is answered with 200, so that the sender does not repeat it, and does nothing.
// The memory holds the last 8192 names and is each Webhook's own. Should it
// overflow, or be that of another replica, a replay is one hint too many, which
// costs a request at most, and none if the job is no longer waited for.
//
// A Webhook is safe for concurrent use. No goroutine of it outlives the request that it
// was started for. It must not be copied, nor its fields changed, once it has been used.
type Webhook struct {
	// Verify checks that a delivery is genuine, and reads it; see [VerifyHeyGen],
	// [VerifyHeyGenCallback] and [VerifyStandardWebhook]. The body has been read, to its end and
	// byte for byte as it was signed; r.Body is of no use any more. An error means that
	// the delivery is not to be believed, or, if it is one of encoding/json, that it is genuine and
	// cannot be read. Verify must be safe for concurrent use and compare secrets in constant
	// time (hmac.Equal).
	Verify func(r *http.Request, body []byte) (WebhookEvent, error)

	// Hint is called with the id of each job that has ended by a
	// delivery: [Client.Hint] of the client that waits, or a function that reaches all
	// replicas. It is called before the delivery is answered and so must
	// not wait for anything long; Client.Hint does not. If it panics, the sender gets no
	// answer, and its next try counts.
	Hint func(jobID string)

	// OnError, if not nil, gets the reason for which a delivery is refused: a wrong secret
	// shows nowhere else. The error holds no secret. It may be called by several
	// goroutines at once, with requests from any sender.
	OnError func(r *http.Request, err error)

	mu    sync.Mutex
	seen  map[digest]struct{}
	order []sighting // oldest first; of all that are in seen
}

// A WebhookEvent is the content of a genuine delivery.
type WebhookEvent struct {
	// JobID is the job that has ended. Empty: the event is about something else.
	JobID string
	// Names identify the event: its deliveries share them, and those of other events
	// do not. A delivery that has a name of an earlier one is a replay. Without names,
	// no delivery is taken for a replay.
	Names []string
}

// errUnreadable is matched by the error about a delivery that is genuine and cannot be read.
var errUnreadable = errors.New("vtclient: webhook: the delivery is signed well and cannot be read")

// unreadable reports whether an error of Verify is about what the delivery holds.
func unreadable(err error) bool {
	var syntax *json.SyntaxError
	var shape *json.UnmarshalTypeError
	return errors.Is(err, errUnreadable) || errors.As(err, &syntax) || errors.As(err, &shape)
}

var (
	errWebhookMethod  = errors.New("vtclient: webhook: a method other than POST and OPTIONS")
	errWebhookTooLong = fmt.Errorf("vtclient: webhook: the body is longer than %d bytes", webhookBody)

	errWebhookReadBefore = errors.New("vtclient: webhook: the body has been read or changed before it got here; mount the Webhook outside the middleware that does so")
)

const (
	webhookBody   = 256 << 10         // a delivery has about one kilobyte
	webhookRead   = 10 * time.Second  // for the whole body
	webhookWindow = 300 * time.Second // between the clocks of sender and receiver
	replayMemory  = 2 * webhookWindow // a delivery may come early as well as late
	replayNames   = 8192              // under a megabyte when full
)

// ServeHTTP takes one delivery.
func (h *Webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bounded := r.ContentLength == 0 || boundRead(w, r)
	code, err := h.take(w, r, bounded)
	if err != nil && h.OnError != nil {
		h.OnError(r, err)
	}
	if code == http.StatusMethodNotAllowed || r.Method == http.MethodOptions {
		w.Header().Set("Allow", "OPTIONS, POST")
	}
	w.WriteHeader(code)
}

// boundRead bounds the time for which a body can hold the connection, whether or not it
// is read here: net/http reads the rest of a body before it sends an answer, unless the
// connection is to be closed, and once more after that (golang/go#25475). It reports
// false where w has no deadlines, as behind http.TimeoutHandler.
func boundRead(w http.ResponseWriter, r *http.Request) bool {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close") // until the body has been read
	}
	if s, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && 0 < s.ReadTimeout && s.ReadTimeout <= webhookRead {
		return true
	}
	return http.NewResponseController(w).SetReadDeadline(time.Now().Add(webhookRead)) == nil
}

// take takes a delivery, and returns what to answer.
func (h *Webhook) take(w http.ResponseWriter, r *http.Request, bounded bool) (code int, err error) {
	if code, err := h.answerUnread(r); code != 0 {
		return code, err
	}
	body, err := readDelivery(r, bounded)
	switch {
	case errors.Is(err, http.ErrBodyReadAfterClose):
		return http.StatusInternalServerError, errWebhookReadBefore
	case err != nil:
		return http.StatusBadRequest, fmt.Errorf("vtclient: webhook: read the body: %w", err)
	case len(body) > webhookBody:
		return http.StatusRequestEntityTooLarge, errWebhookTooLong
	}
	w.Header().Del("Connection")
	event, err := h.Verify(r, body)
	switch {
	case err != nil && int64(len(body)) != r.ContentLength && (r.ContentLength > 0 || len(body) == 0):
		return http.StatusInternalServerError, fmt.Errorf("%w: %d bytes are left of a body of %s", errWebhookReadBefore, len(body), length(r))
	case unreadable(err):
		return http.StatusBadRequest, err
	case err != nil:
		return http.StatusUnauthorized, err
	case event.JobID == "":
		return http.StatusOK, nil
	}
	h.hint(event)
	return http.StatusOK, nil
}

// answerUnread answers a request whose body need not be read; code 0: it has to be.
func (h *Webhook) answerUnread(r *http.Request) (code int, err error) {
	switch {
	case r.Method == http.MethodOptions:
		return http.StatusOK, nil
	case r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed, errWebhookMethod
	case h.Verify == nil:
		return http.StatusInternalServerError, badArgument("Webhook.Verify", words("nil"), "a function, such as that of VerifyHeyGen")
	case h.Hint == nil:
		return http.StatusInternalServerError, badArgument("Webhook.Hint", words("nil"), "a function, such as Client.Hint")
	case r.ContentLength > webhookBody:
		return http.StatusRequestEntityTooLarge, errWebhookTooLong
	}
	return 0, nil
}

// hint gives the hint of an event, unless it is a replay.
func (h *Webhook) hint(event WebhookEvent) {
	names := make([]digest, len(event.Names))
	for i, name := range event.Names {
		sum := sha256.Sum256([]byte(name))
		names[i] = digest(sum[:16])
	}
	if !h.first(names, time.Now()) {
		return
	}
	hinted := false
	defer func() {
		if !hinted {
			h.forget(names)
		}
	}()
	h.Hint(event.JobID)
	hinted = true
}

// readDelivery reads the body of a delivery, and a byte more than is allowed at most. A read
// that nothing else bounds is left to a goroutine, which net/http ends with the request.
func readDelivery(r *http.Request, bounded bool) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	body := io.LimitReader(r.Body, webhookBody+1)
	if bounded {
		return io.ReadAll(body)
	}
	type result struct {
		body []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		var got result
		defer func() {
			if p := recover(); p != nil {
				got.err = fmt.Errorf("its reader panicked: %v", p)
			}
			done <- got
		}()
		got.body, got.err = io.ReadAll(body)
	}()
	timer := time.NewTimer(webhookRead)
	defer timer.Stop()
	select {
	case got := <-done:
		return got.body, got.err
	case <-timer.C:
		return nil, fmt.Errorf("it has not arrived within %v", webhookRead)
	}
}

// length is a body's length as the sender gave it.
func length(r *http.Request) string {
	if r.ContentLength < 0 {
		return "unknown length"
	}
	return strconv.FormatInt(r.ContentLength, 10)
}

// A digest stands for a name, however long that is.
type digest [16]byte

type sighting struct {
	name digest
	at   time.Time
}

// first reports whether none of the names has been seen, and notes them all.
func (h *Webhook) first(names []digest, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	names = names[:min(len(names), replayNames)]
	drop := func(n int) {
		for _, s := range h.order[:n] {
			delete(h.seen, s.name)
		}
		h.order = h.order[n:]
	}
	old := 0
	for old < len(h.order) && now.Sub(h.order[old].at) > replayMemory {
		old++
	}
	drop(old)
	for _, name := range names {
		if _, again := h.seen[name]; again {
			return false
		}
	}
	drop(max(0, len(h.order)+len(names)-replayNames))
	if len(h.order) == 0 { // give back what a busy time took
		h.seen, h.order = make(map[digest]struct{}), nil
	}
	for _, name := range names {
		h.seen[name] = struct{}{}
		h.order = append(h.order, sighting{name, now})
	}
	return true
}

// forget takes names back.
func (h *Webhook) forget(names []digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range names {
		delete(h.seen, name)
	}
	h.order = slices.DeleteFunc(h.order, func(s sighting) bool { return slices.Contains(names, s.name) })
}
