package simserver

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// heygen is HeyGen's API, version 3, as far as waiting for a translation needs it.
var heygen = api{
	route:     routeHeyGen,
	fault:     heygenFault,
	requestID: true,
}

const (
	heygenPath = "/v3/video-translations"
	bulkMost   = 100 // ids in one request
)

// heygenCodes are the words for the status codes in error answers.
var heygenCodes = map[int]string{
	http.StatusBadRequest:       "invalid_parameter",
	http.StatusPaymentRequired:  "insufficient_credit",
	http.StatusConflict:         "request_in_progress",
	http.StatusUnauthorized:     "unauthorized",
	http.StatusForbidden:        "forbidden",
	http.StatusNotFound:         "not_found",
	http.StatusMethodNotAllowed: "method_not_allowed",
	http.StatusTooManyRequests:  "rate_limit_exceeded",
}

func heygenFault(code int, message string) answer { return heygenError(code, message, "") }

func heygenError(code int, message, param string) answer {
	word := heygenCodes[code]
	if word == "" {
		word = "internal_error"
	}
	type envelope struct {
		Code    string  `json:"code"`
		Message string  `json:"message"`
		Param   *string `json:"param"`
		DocURL  string  `json:"doc_url"`
	}
	e := envelope{Code: word, Message: message, DocURL: "https://docs.sim.invalid/errors#" + word}
	if param != "" {
		e.Param = &param
	}
	return heygenAnswer(code, map[string]any{"error": e}, invalid)
}

func heygenAnswer(code int, v any, o outcome) answer {
	body, _ := json.Marshal(v)
	return answer{code: code, body: append(body, '\n'), outcome: o}
}

func routeHeyGen(s *Server, r *http.Request) (op, bool) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), heygenPath)
	if !ok || rest != "" && rest[0] != '/' {
		return op{}, false
	}
	id, err := url.PathUnescape(strings.TrimPrefix(rest, "/"))
	switch {
	case rest == "" && r.Method != http.MethodPost:
		return notAllowed(heygenFault, "POST"), true
	case rest == "":
		return op{run: submitHeyGen}, true
	case rest == "/" || strings.Contains(rest[1:], "/") || err != nil:
		return heygenRefusal(http.StatusNotFound, "no such path", ""), true
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return notAllowed(heygenFault, "GET, HEAD"), true
	case id == "statuses":
		return bulkHeyGen(s, r), true
	}
	return op{ids: []string{id}, run: func(x *exchange) answer { return statusHeyGen(x.s, id) }}, true
}

func heygenRefusal(code int, message, param string) op {
	return op{run: func(*exchange) answer { return heygenError(code, message, param) }}
}

func statusHeyGen(s *Server, id string) answer {
	j := s.jobs.lookup(id)
	if j == nil {
		a := heygenError(http.StatusNotFound, fmt.Sprintf("no video translation %q", id), "video_translation_id")
		a.outcome = notFound
		return a
	}
	now := time.Now()
	data := map[string]any{
		"id": id, "title": j.title, "status": "", "video_url": nil, "failure_message": nil,
		"created_at": j.Started.Unix(),
	}
	if j.submitted {
		data["output_language"], data["callback_id"] = j.language, j.callbackID
	}
	var a answer
	switch j.state(now) {
	case pending:
		data["status"] = queuedOr(j, now, "pending", "running")
		a = heygenAnswer(http.StatusOK, map[string]any{"data": data}, answeredPending)
		if s.cfg.retryAfter > 0 {
			a.header = [][2]string{{"Retry-After", seconds(s.cfg.retryAfter)}}
		}
		return a
	case failed:
		data["status"], data["failure_message"] = "failed", j.Message
		return heygenAnswer(http.StatusOK, map[string]any{"data": data}, answeredFailed)
	}
	data["status"] = "completed"
	if now.Sub(j.Started)-j.Duration >= s.cfg.lateResult {
		for k, v := range s.files.result(j) {
			data[k] = v
		}
	}
	return heygenAnswer(http.StatusOK, map[string]any{"data": data}, answeredCompleted)
}

// queuedOr returns the word for a pending job: it is queued for the first tenth of its
// duration, and then runs.
func queuedOr(j *job, now time.Time, queued, runs string) string {
	if now.Sub(j.Started) < j.Duration/10 {
		return queued
	}
	return runs
}

// bulkHeyGen is a request for the states of many jobs. Those on further pages are
// not asked about by it.
func bulkHeyGen(s *Server, r *http.Request) op {
	const param = "video_translation_ids"
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return heygenRefusal(http.StatusBadRequest, "the query cannot be read", "")
	}
	var ids []string
	named := map[string]bool{}
	for _, id := range strings.Split(strings.Join(query[param], ","), ",") {
		if id != "" && !named[id] {
			named[id] = true
			ids = append(ids, id)
		}
	}
	switch {
	case len(ids) == 0:
		return heygenRefusal(http.StatusBadRequest, "no ids", param)
	case len(ids) > bulkMost:
		return heygenRefusal(http.StatusBadRequest, fmt.Sprintf("%d ids, at most %d are allowed", len(ids), bulkMost), param)
	}
	from := 0
	if token := query.Get("token"); token != "" {
		from, err = strconv.Atoi(strings.TrimPrefix(token, "from-"))
		if err != nil || from < 0 || from >= len(ids) {
			return heygenRefusal(http.StatusBadRequest, "no such page", "token")
		}
	}
	to := len(ids)
	if s.cfg.bulkPage > 0 {
		to = min(to, from+s.cfg.bulkPage)
	}
	page := ids[from:to]
	var next *string
	if to < len(ids) {
		token := "from-" + strconv.Itoa(to)
		next = &token
	}
	return op{ids: page, run: func(x *exchange) answer {
		data := make([]any, len(page))
		for i, id := range page {
			data[i] = bulkItem(x.s, id)
		}
		return heygenAnswer(http.StatusOK, map[string]any{"data": data, "has_more": next != nil, "next_token": next}, answeredBulk)
	}}
}

// bulkItem is one job in a bulk answer: its state and no result.
func bulkItem(s *Server, id string) any {
	type failure struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	item := struct {
		ID     string   `json:"video_id"`
		Status string   `json:"status"`
		Error  *failure `json:"error"`
	}{ID: id, Status: "not_found"}
	j := s.jobs.lookup(id)
	if j == nil {
		return item
	}
	now := time.Now()
	switch j.state(now) {
	case pending:
		item.Status = queuedOr(j, now, "queued", "processing")
	case failed:
		item.Status, item.Error = "failed", &failure{"translation_failed", j.Message}
	default:
		item.Status = "completed"
	}
	return item
}

// submitHeyGen creates a job for each language asked for.
func submitHeyGen(x *exchange) answer {
	body, err := io.ReadAll(io.LimitReader(x.r.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		return heygenError(http.StatusBadRequest, "the body cannot be read, or is too long", "")
	}
	var b struct {
		Video       json.RawMessage `json:"video"`
		Languages   []string        `json:"output_languages"`
		Title       string          `json:"title"`
		CallbackURL string          `json:"callback_url"`
		CallbackID  string          `json:"callback_id"`
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return heygenError(http.StatusBadRequest, "the body is not what it should be: "+err.Error(), "")
	}
	switch {
	case len(b.Video) == 0 || string(b.Video) == "null":
		return heygenError(http.StatusBadRequest, "no video", "video")
	case len(b.Languages) == 0:
		return heygenError(http.StatusBadRequest, "no language", "output_languages")
	}
	if b.CallbackURL != "" {
		if u, err := url.Parse(b.CallbackURL); err != nil || u.Host == "" {
			return heygenError(http.StatusBadRequest, "not a URL", "callback_url")
		}
	}
	return x.s.submitted.create(x, len(b.Languages), func() answer {
		ids := make([]string, len(b.Languages))
		for i, language := range b.Languages {
			ids[i] = x.s.Create(Job{submission: submission{true, b.Title, language, b.CallbackURL, b.CallbackID}})
		}
		return heygenAnswer(http.StatusOK, map[string]any{"data": map[string]any{"video_translation_ids": ids}}, accepted)
	})
}
