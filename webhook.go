package vtclient

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
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
//	500  Verify or Hint is nil
//
// with no body: a sender that is refused gets no reason. OnError does.
//
// A delivery that names an event seen within the last ten minutes is a replay:
// it is answered with 200, so that the sender does not repeat it, and does nothing.
// The memory holds the last 8192 names and is each Webhook's own. Should it
// overflow, or be that of another replica, a replay is one hint too many, which
// costs a request at most, and none if the job is no longer waited for.
//
// A Webhook is safe for concurrent use. It starts no goroutine. It must not be
// copied, nor its fields changed, once it has been used.
type Webhook struct {
	// Verify checks that a delivery is genuine, and reads it; see
	// [VerifyHeyGen].
	Verify WebhookVerifier

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

// A WebhookVerifier checks that a delivery is genuine, and reads it. The
// body has been read, to its end and byte for byte as it was signed; r.Body is of
// no use any more. An error means that the delivery is not to be believed; one that
// matches [ErrUnreadable], that it is genuine, and makes no sense. It must be
// safe for concurrent use and compare secrets in constant time (hmac.Equal).
type WebhookVerifier func(r *http.Request, body []byte) (WebhookEvent, error)

// A WebhookEvent is the content of a genuine delivery.
type WebhookEvent struct {
	// JobID is the job that has ended. Empty: the event is about something else.
	JobID string
	// Names are what deliveries of this one event have in common, and those of
	// others have not: one that shares a name with an earlier one is a
	// replay. With no names nothing is taken for a replay.
	Names []string
}

// ErrUnreadable is matched by the error of a [WebhookVerifier] about a delivery
// that is genuine and cannot be read.
var ErrUnreadable = errors.New("vtclient: webhook: the delivery is signed well and cannot be read")

var (
	errWebhookMethod  = errors.New("vtclient: webhook: a method other than POST and OPTIONS")
	errWebhookTooLong = fmt.Errorf("vtclient: webhook: the body is longer than %d bytes", webhookBody)
)

const (
	webhookBody   = 256 << 10        // a delivery has about one kilobyte
	webhookRead   = 10 * time.Second // for the whole body
	replayMemory  = 2 * heygenWindow // a delivery may come early as well as late
	replayNames   = 8192             // under a megabyte when full
	heygenWindow  = 300 * time.Second
	heygenSuccess = "video_translate.success"
	heygenFail    = "video_translate.fail"
)

// ServeHTTP takes one delivery.
func (h *Webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	code, err := h.take(w, r)
	if err != nil && h.OnError != nil {
		h.OnError(r, err)
	}
	if code == http.StatusMethodNotAllowed || r.Method == http.MethodOptions {
		w.Header().Set("Allow", "OPTIONS, POST")
	}
	w.WriteHeader(code)
}

func (h *Webhook) take(w http.ResponseWriter, r *http.Request) (code int, err error) {
	switch {
	case r.Method == http.MethodOptions:
		return http.StatusOK, nil
	case r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed, errWebhookMethod
	case h.Verify == nil:
		return http.StatusInternalServerError, badArgument("Webhook.Verify", words("nil"), "a WebhookVerifier")
	case h.Hint == nil:
		return http.StatusInternalServerError, badArgument("Webhook.Hint", words("nil"), "a function, such as Client.Hint")
	case r.ContentLength > webhookBody:
		return http.StatusRequestEntityTooLarge, errWebhookTooLong
	}
	body, code, err := readDelivery(w, r)
	if err != nil {
		return code, err
	}
	event, err := h.Verify(r, body)
	switch {
	case errors.Is(err, ErrUnreadable):
		return http.StatusBadRequest, err
	case err != nil:
		return http.StatusUnauthorized, err
	case event.JobID == "":
		return http.StatusOK, nil
	}
	names := make([]digest, len(event.Names))
	for i, name := range event.Names {
		sum := sha256.Sum256([]byte(name))
		names[i] = digest(sum[:16])
	}
	if !h.first(names, time.Now()) {
		return http.StatusOK, nil
	}
	hinted := false
	defer func() {
		if !hinted {
			h.forget(names)
		}
	}()
	h.Hint(event.JobID)
	hinted = true
	return http.StatusOK, nil
}

// readDelivery reads the body of a delivery within its bounds. Beside an error, code is
// the answer.
func readDelivery(w http.ResponseWriter, r *http.Request) (body []byte, code int, err error) {
	// A body that never ends must not hold a goroutine for ever. The server's own
	// timeout holds where it is the shorter one, and where w has no deadlines.
	if s, ok := r.Context().Value(http.ServerContextKey).(*http.Server); !ok || s.ReadTimeout <= 0 || s.ReadTimeout > webhookRead {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(webhookRead))
	}
	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, webhookBody))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return nil, http.StatusRequestEntityTooLarge, errWebhookTooLong
	}
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("vtclient: webhook: read the body: %w", err)
	}
	return body, 0, nil
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

// VerifyHeyGen returns the verifier for the webhooks of HeyGen's API, version
// 3. A delivery is genuine if
//
//   - its Heygen-Signature is the HMAC-SHA256 of the body under one of the
//     secrets, in lower-case hexadecimal, once;
//   - its Heygen-Timestamp, in seconds since 1970, is no further than 300 s
//     from this machine's clock, in either direction.
//
// While a secret is being replaced give both, the old one and the new one. The
// events video_translate.success and video_translate.fail end the job in
// event_data.video_translate_id; all others are about something else.
//
// The signature covers the body, and neither the timestamp nor the
// Heygen-Event-Id. So the timestamp turns away a delivery that was
// recorded and is sent again as it was, but not one with a new timestamp, or a new
// id. That is why an event has two names here, its id (where there is one) and its
// body: the same body again is a replay under whatever id and time.
//
// A secret that is empty, or none at all, is an [*ArgumentError]: with an empty one
// any sender could sign.
func VerifyHeyGen(secrets ...string) (WebhookVerifier, error) {
	keys := make([][]byte, len(secrets))
	for i, secret := range secrets {
		if secret == "" {
			return nil, badArgument("VerifyHeyGen", words(fmt.Sprintf("an empty secret as number %d", i+1)), "secrets that are not empty")
		}
		keys[i] = []byte(secret)
	}
	if len(keys) == 0 {
		return nil, badArgument("VerifyHeyGen", words("no secret"), "one at least")
	}
	return func(r *http.Request, body []byte) (WebhookEvent, error) {
		if err := heygenSigned(r.Header, body, keys); err != nil {
			return WebhookEvent{}, err
		}
		return heygenEvent(r.Header, body)
	}, nil
}

// heygenSigned reports what is wrong with a delivery's signature or timestamp.
func heygenSigned(h http.Header, body []byte, keys [][]byte) error {
	signature, ok := single(h, "Heygen-Signature")
	if !ok {
		return errors.New("vtclient: webhook: not exactly one Heygen-Signature")
	}
	genuine := false
	for _, key := range keys { // all of them: the time taken must not reveal which fits
		mac := hmac.New(sha256.New, key)
		mac.Write(body)
		if hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(signature)) {
			genuine = true
		}
	}
	if !genuine {
		return errors.New("vtclient: webhook: the Heygen-Signature fits the body under none of the secrets")
	}
	timestamp, ok := single(h, "Heygen-Timestamp")
	if !ok {
		return errors.New("vtclient: webhook: not exactly one Heygen-Timestamp")
	}
	sent, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return fmt.Errorf("vtclient: webhook: Heygen-Timestamp %s is not a number of seconds", quoteID(timestamp))
	}
	const window = int64(heygenWindow / time.Second)
	if now := time.Now().Unix(); sent < now-window || sent > now+window {
		return fmt.Errorf("vtclient: webhook: Heygen-Timestamp %d is more than %d s from now, %d", sent, window, now)
	}
	return nil
}

// single returns a header that must be there once.
func single(h http.Header, key string) (string, bool) {
	if v := h[key]; len(v) == 1 && v[0] != "" {
		return v[0], true
	}
	return "", false
}

// heygenEvent reads the body of a delivery that is genuine.
func heygenEvent(h http.Header, body []byte) (WebhookEvent, error) {
	var b struct {
		Type string          `json:"event_type"`
		Data json.RawMessage `json:"event_data"`
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return WebhookEvent{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	switch b.Type {
	case heygenSuccess, heygenFail:
	case "":
		return WebhookEvent{}, fmt.Errorf("%w: no event_type", ErrUnreadable)
	default:
		return WebhookEvent{}, nil
	}
	var job struct {
		ID string `json:"video_translate_id"`
	}
	if len(b.Data) > 0 {
		if err := json.Unmarshal(b.Data, &job); err != nil {
			return WebhookEvent{}, fmt.Errorf("%w: event_data: %w", ErrUnreadable, err)
		}
	}
	if job.ID == "" {
		return WebhookEvent{}, fmt.Errorf("%w: no event_data.video_translate_id", ErrUnreadable)
	}
	sum := sha256.Sum256(body)
	event := WebhookEvent{JobID: job.ID, Names: []string{"body " + string(sum[:])}}
	if id, ok := single(h, "Heygen-Event-Id"); ok {
		event.Names = append(event.Names, "id "+id)
	}
	return event, nil
}
