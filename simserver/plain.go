package simserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// plain is the API that the package documentation describes.
var plain = api{
	route: routePlain,
	fault: plainFault,
}

func plainFault(code int, message string) answer {
	body, _ := json.Marshal(map[string]string{"error": message})
	return answer{code: code, body: append(body, '\n'), outcome: invalid}
}

func routePlain(_ *Server, r *http.Request) (op, bool) {
	path := r.URL.EscapedPath()
	if path == "/jobs" {
		if r.Method != http.MethodPost {
			return notAllowed(plainFault, "POST"), true
		}
		return op{run: submitPlain}, true
	}
	rest, ok := strings.CutPrefix(path, "/status")
	if !ok || rest != "" && rest[0] != '/' {
		return op{}, false
	}
	segment := strings.TrimPrefix(rest, "/")
	if strings.Contains(segment, "/") {
		return op{}, false // an id is one segment: its slashes come as %2F
	}
	id, err := url.PathUnescape(segment)
	if err != nil {
		return op{}, false
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return notAllowed(plainFault, "GET, HEAD"), true
	}
	return op{ids: []string{id}, run: func(x *exchange) answer { return statusPlain(x.s, id) }}, true
}

func notAllowed(fault func(int, string) answer, allow string) op {
	return op{run: func(x *exchange) answer {
		a := fault(http.StatusMethodNotAllowed, fmt.Sprintf("method %s not allowed here: use %s", x.r.Method, allow))
		a.header = [][2]string{{"Allow", allow}}
		return a
	}}
}

func statusPlain(s *Server, id string) answer {
	j := s.jobs.lookup(id)
	if j == nil {
		a := plainFault(http.StatusNotFound, fmt.Sprintf("no job %q", id))
		a.outcome = notFound
		return a
	}
	now := time.Now()
	switch j.state(now) {
	case pending:
		a := answer{code: http.StatusOK, outcome: answeredPending}
		a.body = append(a.body, `{"result":"pending"`...)
		if p := j.progress(now); p > 0 {
			a.body = append(a.body, `,"progress":`...)
			a.body = strconv.AppendFloat(a.body, p, 'f', -1, 64)
		}
		a.body = append(a.body, "}\n"...)
		if s.cfg.retryAfter > 0 {
			a.header = [][2]string{{"Retry-After", seconds(s.cfg.retryAfter)}}
		}
		return a
	case failed:
		body, _ := json.Marshal(struct {
			Result  string `json:"result"`
			Message string `json:"message"`
		}{"error", j.Message})
		return answer{code: http.StatusOK, body: append(body, '\n'), outcome: answeredFailed}
	}
	m := map[string]json.RawMessage{}
	for k, v := range s.files.result(j) {
		m[k] = v
	}
	m["result"] = json.RawMessage(`"completed"`)
	body, _ := json.Marshal(m)
	return answer{code: http.StatusOK, body: append(body, '\n'), outcome: answeredCompleted}
}

// maxBody bounds the body of a request.
const maxBody = 1 << 20

// submitPlain creates the job that the body describes.
func submitPlain(x *exchange) answer {
	j, err := decodeJob(x.r.Body)
	if err != nil {
		return plainFault(http.StatusBadRequest, err.Error())
	}
	return x.s.submitted.create(x, 1, func() answer {
		j.submitted = true
		id, ok := x.s.jobs.create(j, false)
		if !ok {
			return plainFault(http.StatusConflict, fmt.Sprintf("id: there is a job %q already", id))
		}
		body, _ := json.Marshal(map[string]string{"id": id})
		return answer{
			code:    http.StatusCreated,
			header:  [][2]string{{"Location", "/status/" + url.PathEscape(id)}},
			body:    append(body, '\n'),
			outcome: accepted,
		}
	})
}

// decodeJob reads the body of POST /jobs. Its errors name the value at fault.
func decodeJob(r io.Reader) (Job, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil {
		return Job{}, fmt.Errorf("body: %w", err)
	}
	if len(body) > maxBody {
		return Job{}, fmt.Errorf("body: longer than %d bytes", maxBody)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return Job{}, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return Job{}, fmt.Errorf("body: not a JSON object: %w", err)
	}
	var j Job
	for name, raw := range members {
		if string(raw) == "null" {
			continue
		}
		var err error
		switch name {
		case "id":
			err = as(raw, &j.ID, "a string")
		case "duration":
			j.Duration, err = decodeDuration(raw)
		case "fail":
			err = as(raw, &j.Fail, "true or false")
			j.Succeed = !j.Fail
		case "message":
			err = as(raw, &j.Message, "a string")
		case "result":
			err = as(raw, &j.Result, "an object")
		default:
			err = errors.New("no such member: there are id, duration, fail, message, result")
		}
		if err != nil {
			return Job{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return j, nil
}

func as(raw json.RawMessage, v any, want string) error {
	if json.Unmarshal(raw, v) != nil {
		return fmt.Errorf("%s is not %s", raw, want)
	}
	return nil
}

func decodeDuration(raw json.RawMessage) (time.Duration, error) {
	var d time.Duration
	var text string
	var secs float64
	switch {
	case json.Unmarshal(raw, &text) == nil:
		var err error
		if d, err = time.ParseDuration(text); err != nil {
			return 0, fmt.Errorf("%q is not a duration like \"90s\" or \"1h30m\"", text)
		}
	case json.Unmarshal(raw, &secs) == nil:
		d = saturate(secs * float64(time.Second))
	default:
		return 0, fmt.Errorf("%s is neither a string like \"90s\" nor a number of seconds", raw)
	}
	if d < 0 || secs < 0 || math.IsInf(secs, 0) {
		return 0, fmt.Errorf("%s is negative", raw)
	}
	if d == 0 {
		d = -1 // ends at once; 0 would be drawn
	}
	return d, nil
}
