package vtclient

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// VerifyStandardWebhook returns the verifier for deliveries by the specification
// Standard Webhooks (standardwebhooks.com), as OpenAI, Replicate and others send them. A
// delivery is genuine if
//
//   - one of the signatures in its webhook-signature, "v1," and base64, is the
//     HMAC-SHA256 of its webhook-id, webhook-timestamp and body, with full stops
//     between, under one of the secrets;
//   - its webhook-timestamp, in seconds since 1970, is no further than 300 s from this
//     machine's clock, in either direction. A delivery that is repeated has a new one.
//
// A secret is base64, with the prefix "whsec_" or without. While one is being replaced
// give both. One that is empty, is no base64 or has spaces or a line break around it is
// an [*ArgumentError], and so is none at all.
//
// The specification leaves the body to the sender. The job is taken from data.id if the
// body has "data", as OpenAI's, and from id otherwise, as Replicate's; a body whose
// status is that of a job under way ends no job. For any other form of body put a
// function around the verifier, which sets the JobID of the [WebhookEvent] that it
// returns. An event has one name, the webhook-id.
func VerifyStandardWebhook(secrets ...string) (verify func(r *http.Request, body []byte) (WebhookEvent, error), err error) {
	const where = "VerifyStandardWebhook"
	if err := checkSecrets(where, secrets); err != nil {
		return nil, err
	}
	keys := make([][]byte, len(secrets))
	for i, secret := range secrets {
		if strings.HasPrefix(secret, "whpk_") || strings.HasPrefix(secret, "whsk_") {
			return nil, badArgument(where, words(fmt.Sprintf("a key for asymmetric signatures, %s…, as number %d", secret[:5], i+1)), `a secret that begins with "whsec_"`)
		}
		text := strings.TrimRight(strings.TrimPrefix(secret, "whsec_"), "=")
		key, err := base64.RawStdEncoding.DecodeString(text)
		if err != nil || len(key) == 0 {
			return nil, badArgument(where, words(fmt.Sprintf("a secret that is not base64 as number %d", i+1)), `base64, with the prefix "whsec_" or without`)
		}
		keys[i] = key
	}
	return func(r *http.Request, body []byte) (WebhookEvent, error) {
		id, err := standardSigned(r.Header, body, keys)
		if err != nil {
			return WebhookEvent{}, err
		}
		job, err := standardJob(body)
		return WebhookEvent{JobID: job, Names: []string{"id " + id}}, err
	}, nil
}

// standardSigned returns the id of a genuine delivery.
func standardSigned(h http.Header, body []byte, keys [][]byte) (id string, err error) {
	id, ok := single(h, "Webhook-Id")
	if !ok {
		return "", errors.New("vtclient: webhook: not exactly one webhook-id")
	}
	timestamp, ok := single(h, "Webhook-Timestamp")
	if !ok {
		return "", errors.New("vtclient: webhook: not exactly one webhook-timestamp")
	}
	signatures, ok := single(h, "Webhook-Signature")
	if !ok {
		return "", errors.New("vtclient: webhook: not exactly one webhook-signature")
	}
	genuine := false
	for _, key := range keys { // all of them: the time taken must not reveal which fits
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.", id, timestamp)
		mac.Write(body)
		want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		for signature := range strings.SplitSeq(signatures, " ") {
			if hmac.Equal([]byte(signature), want) {
				genuine = true
			}
		}
	}
	if !genuine {
		return "", errors.New("vtclient: webhook: no v1 signature of the webhook-signature fits under any of the secrets")
	}
	sent, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return "", fmt.Errorf("vtclient: webhook: webhook-timestamp %s is not a number of seconds", quoteID(timestamp))
	}
	const window = int64(webhookWindow / time.Second)
	if now := time.Now().Unix(); sent < now-window || sent > now+window {
		return "", fmt.Errorf("vtclient: webhook: webhook-timestamp %d is more than %d s from now, %d", sent, window, now)
	}
	return id, nil
}

// standardJob finds the job that has ended by a body.
func standardJob(body []byte) (string, error) {
	var b struct {
		ID     lenient[string] `json:"id"`
		Status lenient[string] `json:"status"`
		Data   *struct {
			ID     lenient[string] `json:"id"`
			Status lenient[string] `json:"status"`
		} `json:"data"`
	}
	var typed *json.UnmarshalTypeError // data that is no object
	if err := json.Unmarshal(body, &b); err != nil && !(errors.As(err, &typed) && typed.Field != "") {
		return "", fmt.Errorf("%w: %w", errUnreadable, jsonMismatch(err))
	}
	if b.Data != nil {
		b.ID, b.Status = b.Data.ID, b.Data.Status
	}
	switch b.Status.v {
	case "pending", "queued", "starting", "waiting", "processing", "running", "in_progress":
		return "", nil
	}
	return b.ID.v, nil
}

// checkSecrets finds the mistakes that leave a secret useless: to compare it would
// refuse every delivery without a reason.
func checkSecrets(where string, secrets []string) error {
	if len(secrets) == 0 {
		return badArgument(where, words("no secret"), "one at least")
	}
	for i, secret := range secrets {
		wrong := ""
		switch {
		case secret == "":
			return badArgument(where, words(fmt.Sprintf("an empty secret as number %d", i+1)), "secrets that are not empty")
		case strings.ContainsAny(secret, "\r\n"):
			wrong = "a line break"
		case strings.TrimSpace(secret) != secret:
			wrong = "spaces around it"
		case strings.ContainsFunc(secret, unicode.IsControl):
			wrong = "a control character"
		default:
			continue
		}
		return badArgument(where, words(fmt.Sprintf("a secret with %s as number %d", wrong, i+1)), "the secret alone (strings.TrimSpace of what a file holds)")
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
