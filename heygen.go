package vtclient

import (
	"encoding/json"
	"errors"
)

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
		return nil, "", errors.New(`no "data" in the answer`)
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
