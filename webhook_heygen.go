package vtclient

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// VerifyHeyGen returns the verifier for deliveries to an endpoint that is registered
// with HeyGen's API, version 3. Those to the callback_url of a job are not signed: see
// [VerifyHeyGenCallback]. A delivery is genuine if
//
//   - its Heygen-Signature is the HMAC-SHA256 of the body under one of the
//     secrets, in lower-case hexadecimal, once;
//   - its Heygen-Timestamp, in seconds since 1970, is not more than 300 s ahead of
//     this machine's clock.
//
// While a secret is being replaced give both, the old one and the new one. The
// events video_translate.success and video_translate.fail end the job in
// event_data.video_translate_id, and so do those of video_translate.preflight
// that name one; all others are about something else.
//
// HeyGen repeats a delivery that got no 2xx for up to 24 hours, so an old timestamp is
// accepted. It would prove nothing either: the signature covers the body, and neither
// the timestamp nor the Heygen-Event-Id. A delivery that was recorded and is sent
// again is recognized by the body instead. That is why an event has two
// names here, its id (where there is one) and its body: the same body again is a replay
// under whatever id and time, for as long as the [Webhook] remembers it, and after
// that one hint too many.
//
// Secrets are taken as they are. One that is empty, or that has spaces or a
// line break around it as one read from a file has, is an [*ArgumentError], and so is
// none at all: with an empty one any sender could sign.
func VerifyHeyGen(secrets ...string) (verify func(r *http.Request, body []byte) (WebhookEvent, error), err error) {
	if err := checkSecrets("VerifyHeyGen", secrets); err != nil {
		return nil, err
	}
	keys := make([][]byte, len(secrets))
	for i, secret := range secrets {
		keys[i] = []byte(secret)
	}
	return func(r *http.Request, body []byte) (WebhookEvent, error) {
		if err := heygenSigned(r.Header, body, keys); err != nil {
			return WebhookEvent{}, err
		}
		event, _, err := heygenEvent(r.Header, body)
		return event, err
	}, nil
}

// callbackID is the shortest id that passes for unguessable: 16 random bytes in base64
// have 22 characters, a UUID has 36.
const callbackID = 20

// VerifyHeyGenCallback returns the verifier for the deliveries that HeyGen sends to the
// callback_url of a job. They are not signed. What can be checked is the callback_id
// that the job was submitted with and that each of them repeats, so it has to be a secret:
//
//	id := rand.Text() // of crypto/rand; the same in all replicas, from the configuration
//	verify, err := vtclient.VerifyHeyGenCallback(id)
//
// A delivery is genuine if its event_data.callback_id is one of the ids. The comparison
// takes the same time whatever was sent. Use a callback_url with https, or the id can
// be read on the way.
//
// An id of less than 20 characters, or with spaces or line breaks around it, is
// an [*ArgumentError], and so is none at all.
func VerifyHeyGenCallback(ids ...string) (verify func(r *http.Request, body []byte) (WebhookEvent, error), err error) {
	if err := checkSecrets("VerifyHeyGenCallback", ids); err != nil {
		return nil, err
	}
	sums := make([][sha256.Size]byte, len(ids)) // equally long, so that lengths show in no time taken
	for i, id := range ids {
		if len(id) < callbackID {
			return nil, badArgument("VerifyHeyGenCallback", words(fmt.Sprintf("an id of %d characters as number %d", len(id), i+1)),
				fmt.Sprintf("%d at least, drawn at random", callbackID))
		}
		sums[i] = sha256.Sum256([]byte(id))
	}
	return func(r *http.Request, body []byte) (WebhookEvent, error) {
		event, id, err := heygenEvent(r.Header, body)
		sent := sha256.Sum256([]byte(id))
		genuine := false
		for _, sum := range sums {
			if hmac.Equal(sum[:], sent[:]) {
				genuine = true
			}
		}
		if !genuine {
			return WebhookEvent{}, errors.New("vtclient: webhook: event_data.callback_id is none of the ids")
		}
		return event, err
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
	const window = int64(webhookWindow / time.Second)
	if now := time.Now().Unix(); sent > now+window {
		return fmt.Errorf("vtclient: webhook: Heygen-Timestamp %d is more than %d s ahead of the clock here, %d", sent, window, now)
	}
	return nil
}

// heygenEvent reads the body of a delivery. The callback id is what stands there, also
// beside an error.
func heygenEvent(h http.Header, body []byte) (event WebhookEvent, callback string, err error) {
	var b struct {
		Type string `json:"event_type"`
		Data struct {
			ID       lenient[string] `json:"video_translate_id"`
			Callback lenient[string] `json:"callback_id"`
		} `json:"event_data"`
	}
	wrongData := json.Unmarshal(body, &b)
	callback = b.Data.Callback.v
	var typed *json.UnmarshalTypeError
	if wrongData != nil && (!errors.As(wrongData, &typed) || b.Type == "") {
		return event, callback, fmt.Errorf("%w: %w", errUnreadable, jsonMismatch(wrongData))
	}
	job := b.Data.ID.v
	switch b.Type {
	case "video_translate.success", "video_translate.fail":
	case "video_translate.preflight.validation_failed", "video_translate.preflight.download_failed":
		if job == "" { // their content is not documented
			return event, callback, nil
		}
	case "":
		return event, callback, fmt.Errorf("%w: no event_type", errUnreadable)
	default:
		return event, callback, nil
	}
	switch {
	case wrongData != nil:
		return event, callback, fmt.Errorf("%w: event_data: %w", errUnreadable, jsonMismatch(wrongData))
	case job == "":
		return event, callback, fmt.Errorf("%w: no event_data.video_translate_id", errUnreadable)
	}
	sum := sha256.Sum256(body)
	event = WebhookEvent{JobID: job, Names: []string{"body " + string(sum[:])}}
	if id, ok := single(h, "Heygen-Event-Id"); ok {
		event.Names = append(event.Names, "id "+id)
	}
	return event, callback, nil
}
