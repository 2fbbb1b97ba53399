package vtclient

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// HeyGenV3 returns the Endpoint of HeyGen's video translations, version 3 of its
// API: GET /v3/video-translations/{id}, answering
//
//	{"data":{"id":…,"status":"pending"|"running"|"completed"|"failed","video_url":…,"failure_message":…,…}}
//
// The base URL is https://api.heygen.com, and the key goes in as
// WithHeader("X-Api-Key", key) or WithHeader("Authorization", "Bearer "+token).
// The words "success" (version 2's) and "succeeded" count as completed, too; "queued",
// "waiting" and "processing" as pending; and "canceled" and "expired" as failed. A
// completed answer without a video_url (of an audio-only translation: with
// neither that nor an audio_url) is marked ResultMissing. Message is the
// failure_message of a failed job. StartedAt is created_at, in whole seconds; HeyGen
// does not give the time of the end. What went wrong with a request is in an
// *HTTPError's Excerpt, as in {"error":{"code":…,"message":…,…}}. An answer 200 that
// has such an error and no data is a *DecodeError; it is final if waiting does not change
// its code, as with "not_found" or "insufficient_credit".
//
// Polls share requests: GET /v3/video-translations/statuses answers for up to a
// hundred jobs at once, without their results. When a job is completed, one request for
// that job alone brings the result. If a shared answer reports a failed job, Message is the
// error in it, and Body its entry for that job:
//
//	{"video_id":…,"status":"failed","error":{"code":…,"message":…}}
//
// See [Bulk].
//
// The URLs expire: a Status from the cache is at most as old as WithCacheTTL allows.
//
// [Client.Submit] creates one job for each language of a [HeyGenRequest]:
// POST /v3/video-translations, with an Idempotency-Key of 1 to 255 characters out of
// A-Z, a-z, 0-9, "_", ":", "." and "-". For 24 hours, HeyGen answers a second request
// with the same key as it did the first, whatever its body.
//
// Sources: https://developers.heygen.com/docs/video-translate,
// https://developers.heygen.com/reference/create-video-translation
func HeyGenV3() Endpoint {
	return Endpoint{
		Path: "/v3/video-translations/{id}", Decode: decodeHeyGenV3, Bulk: heygenBulk(),
		Submit: Submit{Path: "/v3/video-translations", IdempotencyHeader: "Idempotency-Key", Decode: decodeHeyGenSubmit},
	}
}

func decodeHeyGenV3(a Answer) (Status, error) {
	var v struct {
		Data struct {
			Status         string          `json:"status"`
			CreatedAt      lenient[int64]  `json:"created_at"`
			FailureMessage lenient[string] `json:"failure_message"`
			VideoURL       lenient[string] `json:"video_url"`
			AudioURL       lenient[string] `json:"audio_url"`
			AudioOnly      lenient[bool]   `json:"translate_audio_only"`
		} `json:"data"`
	}
	if err := json.Unmarshal(a.Body, &v); err != nil {
		return Status{}, err
	}
	d := &v.Data
	if d.Status == "" {
		return Status{}, heygenAnswerError(a.Body, `"data.status"`)
	}
	st := Status{State: heygenState(d.Status)}
	switch st.State {
	case StateCompleted:
		st.ResultMissing = d.VideoURL.v == "" && !(d.AudioOnly.v && d.AudioURL.v != "")
	case StateFailed:
		st.Message = heygenMessage(d.FailureMessage.v, d.Status)
		st.Cancelled = heygenCancelled(d.Status)
	}
	if at := d.CreatedAt.v; at > 0 {
		st.StartedAt = time.Unix(at, 0)
	}
	return st, nil
}

// decodeHeyGenSubmit reads {"data":{"video_translation_ids":[…]}}.
func decodeHeyGenSubmit(a Answer) ([]string, error) {
	var v struct {
		Data struct {
			IDs []string `json:"video_translation_ids"`
		} `json:"data"`
	}
	if err := json.Unmarshal(a.Body, &v); err != nil {
		return nil, err
	}
	if len(v.Data.IDs) == 0 {
		return nil, heygenAnswerError(a.Body, `"data.video_translation_ids"`)
	}
	return v.Data.IDs, nil
}

// A HeyGenRequest is the body of a [Client.Submit] to [HeyGenV3], for the common case:
// a video, and the languages to translate it into, each of which becomes a job. Other
// settings of HeyGen's go in as a body of your own.
type HeyGenRequest struct {
	VideoURL    string   // the video's public https address; or else
	AssetID     string   // the asset that the video was uploaded as
	Languages   []string // names as HeyGen lists them, such as "German" or "Spanish (Spain)"
	Title       string   // may be empty
	CallbackURL string   // receives HeyGen's webhooks about the jobs; may be empty
	CallbackID  string   // stands in those webhooks; may be empty
}

// MarshalJSON implements [json.Marshaler]. It returns an error unless r has a video in
// one of the two forms, and a language.
func (r HeyGenRequest) MarshalJSON() ([]byte, error) {
	type video struct {
		Type    string `json:"type"`
		URL     string `json:"url,omitempty"`
		AssetID string `json:"asset_id,omitempty"`
	}
	v := video{"url", r.VideoURL, ""}
	if r.AssetID != "" {
		v = video{"asset_id", "", r.AssetID}
	}
	switch {
	case (r.VideoURL == "") == (r.AssetID == ""):
		return nil, errors.New("one of VideoURL and AssetID has to be set, and not both")
	case len(r.Languages) == 0:
		return nil, errors.New("the field Languages is empty")
	}
	return json.Marshal(struct {
		Video       video    `json:"video"`
		Languages   []string `json:"output_languages"`
		Title       string   `json:"title,omitempty"`
		CallbackURL string   `json:"callback_url,omitempty"`
		CallbackID  string   `json:"callback_id,omitempty"`
	}{v, r.Languages, r.Title, r.CallbackURL, r.CallbackID})
}

// A HeyGenResult is what [Decode] makes of the Status of a completed job of [HeyGenV3]:
//
//	result, err := vtclient.Decode[vtclient.HeyGenResult](status)
//	fmt.Println(result.Data.VideoURL)
//
// The addresses expire. A field that the answer lacks, or has with another type, is empty.
type HeyGenResult struct {
	Data struct {
		ID             string  `json:"id"`
		Title          string  `json:"title"`
		InputLanguage  string  `json:"input_language"`
		OutputLanguage string  `json:"output_language"`
		Duration       float64 `json:"duration"` // of the video, in seconds
		VideoURL       string  `json:"video_url"`
		AudioURL       string  `json:"audio_url"`
		SRTCaptionURL  string  `json:"srt_caption_url"`
		VTTCaptionURL  string  `json:"vtt_caption_url"`
	} `json:"data"`
}

// UnmarshalJSON implements [json.Unmarshaler].
func (r *HeyGenResult) UnmarshalJSON(b []byte) error {
	type plain HeyGenResult
	err := json.Unmarshal(b, (*plain)(r)) // reads what it can, and reports the first field that it cannot
	var typed *json.UnmarshalTypeError
	if errors.As(err, &typed) && strings.HasPrefix(typed.Field, "data.") {
		return nil
	}
	return err
}

// heygenBulk asks version 3 of HeyGen's API for up to a hundred translations at
// once. Its answer lacks the result of a completed one.
func heygenBulk() Bulk {
	return Bulk{
		Path:   "/v3/video-translations/statuses?video_translation_ids={ids}",
		Limit:  100,
		Page:   "token",
		Decode: decodeHeygenBulk,
	}
}

// heygenState translates HeyGen's words, those of single and of shared answers. A word that it
// lacks stays as it is.
func heygenState(word string) State {
	switch word {
	case "pending", "queued", "waiting", "processing", "running":
		return StatePending
	case "completed", "success", "succeeded":
		return StateCompleted
	case "failed", "canceled", "cancelled", "expired":
		return StateFailed
	}
	return State(word)
}

func heygenCancelled(word string) bool { return word == "canceled" || word == "cancelled" }

// heygenMessage is the reason of a failed job: without any, its state word.
func heygenMessage(message, word string) string {
	if message == "" && word != "failed" {
		return word
	}
	return message
}

func decodeHeygenBulk(a Answer) ([]Status, string, error) {
	var v struct {
		Data    []json.RawMessage `json:"data"`
		HasMore lenient[bool]     `json:"has_more"`
		Next    lenient[string]   `json:"next_token"`
	}
	if err := json.Unmarshal(a.Body, &v); err != nil {
		return nil, "", err
	}
	if v.Data == nil {
		return nil, "", heygenAnswerError(a.Body, `"data"`)
	}
	all := make([]Status, 0, len(v.Data))
	for _, raw := range v.Data {
		var item struct {
			ID     string                   `json:"video_id"`
			Status string                   `json:"status"`
			Error  lenient[json.RawMessage] `json:"error"`
		}
		if json.Unmarshal(raw, &item) != nil {
			continue // the client asks for what the answer lacks
		}
		st := Status{JobID: item.ID, State: heygenState(item.Status)}
		if st.State == StateFailed { // a completed one has no Body
			st.Message, st.Body = heygenMessage(heygenBulkError(item.Error.v), item.Status), raw
			st.Cancelled = heygenCancelled(item.Status)
		}
		all = append(all, st)
	}
	if !v.HasMore.v {
		v.Next.v = ""
	}
	return all, v.Next.v, nil
}

// heygenBulkError finds the words in an error that is a string, or an object
// with a message.
func heygenBulkError(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var v struct {
		Message lenient[string] `json:"message"`
		Detail  lenient[string] `json:"detail"`
	}
	if json.Unmarshal(raw, &v) != nil {
		return ""
	}
	if v.Message.v == "" {
		return v.Detail.v
	}
	return v.Message.v
}
