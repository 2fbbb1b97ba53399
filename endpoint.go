package vtclient

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// An Endpoint says what a backend looks like: where a job's status is asked
// for and how the answer is read. It is a value; the zero value of each field
// means that of [PlainAPI].
type Endpoint struct {
	// Path is the path below the base URL, with {id} in the place of the job
	// id, as in "/v1/jobs/{id}" or "/job?name={id}". The id is escaped, so
	// that it can never change the path, the host or the query.
	Path string
	// EmptyPath is the path that is asked for an empty job id. If Path is set
	// and EmptyPath is not, an empty id is refused.
	EmptyPath string
	// Decode reads an answer with a 2xx status code; others never reach it.
	// It fills in State and what it knows of Message and Progress; the client
	// fills in the rest. An error means that the answer is unreadable, which
	// is a fault and is retried. A State other than the three known ones means
	// that the backend used a word which Decode does not know: the client ends
	// the wait with a *StateError that names it. Decode must be safe for
	// concurrent use and must not keep a.Body, which is reused.
	Decode func(a Answer) (Status, error)
	// Bulk says how the backend is asked for many jobs at once. The zero value
	// says that it cannot be.
	Bulk Bulk
}

// An Answer is what the backend sent.
type Answer struct {
	StatusCode int
	Header     http.Header
	Body       []byte // at most WithMaxBody bytes, decompressed
}

// PlainAPI returns the Endpoint that a client uses unless told otherwise:
// GET {base}/status for an empty id and GET {base}/status/{id} otherwise,
// answering
//
//	{"result":"pending"|"completed"|"error"}
//
// and optionally "message", a string, and "progress", a number from 0 to 1.
func PlainAPI() Endpoint {
	return Endpoint{Path: "/status/{id}", EmptyPath: "/status", Decode: decodePlain}
}

func decodePlain(a Answer) (Status, error) {
	var v struct {
		Result   State            `json:"result"`
		Message  lenient[string]  `json:"message"`
		Progress lenient[float64] `json:"progress"`
	}
	if err := json.Unmarshal(a.Body, &v); err != nil {
		return Status{}, err
	}
	if v.Result == "" {
		return Status{}, errors.New(`no "result" in the answer`)
	}
	return Status{State: v.Result, Message: v.Message.v, Progress: v.Progress.v}, nil
}

// lenient takes a JSON value that merely decorates an answer: one of the wrong
// type counts as absent, for it would be wrong to lose the result over it.
type lenient[T any] struct{ v T }

func (l *lenient[T]) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &l.v) != nil {
		var zero T
		l.v = zero
	}
	return nil
}

// maxIDLength bounds a job id. Servers commonly refuse a request line of more
// than 8 KiB, and an escaped id is up to three times as long.
const maxIDLength = 2048

const idMark = "{id}"

// A route is an Endpoint bound to a base URL, ready to address jobs.
type route struct {
	base      *url.URL // no trailing slash, no query, no fragment
	path      target
	empty     target
	takeEmpty bool
	decode    func(Answer) (Status, error)
	bulk      *bulkRoute // nil: jobs are asked for one by one
}

// A target is a path pattern cut into its parts.
type target struct {
	path, rawPath []string // what stands around each {id}
	query         string
}

func newRoute(baseURL string, e Endpoint) (*route, error) {
	base, berr := parseBase(baseURL)
	plain := PlainAPI()
	if e.Path == "" {
		e.Path = plain.Path
		if e.EmptyPath == "" {
			e.EmptyPath = plain.EmptyPath
		}
	}
	if e.Decode == nil {
		e.Decode = plain.Decode
	}
	r := &route{base: base, decode: e.Decode, takeEmpty: e.EmptyPath != ""}
	var perr, eerr error
	if strings.Contains(e.Path, idMark) {
		r.path, perr = parseTarget("Endpoint.Path", base, e.Path)
	} else {
		perr = badArgument("Endpoint.Path", e.Path, "a path that contains "+idMark)
	}
	if r.takeEmpty {
		r.empty, eerr = parseTarget("Endpoint.EmptyPath", base, e.EmptyPath)
	}
	var kerr error
	r.bulk, kerr = newBulkRoute(base, e.Bulk)
	return r, errors.Join(berr, perr, eerr, kerr)
}

func parseBase(s string) (*url.URL, error) {
	// The errors name only the part that is wrong: a base URL may hold a
	// password, and url.Parse's own error would repeat all of it.
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return &url.URL{}, badArgument("New: baseURL", words("a string that is no URL"), "a URL such as https://api.example.com")
	case u.Scheme != "http" && u.Scheme != "https":
		return u, badArgument("New: baseURL", words("scheme "+quoteID(u.Scheme)), "scheme http or https, as in https://api.example.com")
	case u.Opaque != "" || u.Hostname() == "":
		return u, badArgument("New: baseURL", words("no host"), "a URL with a host, such as https://api.example.com")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return u, badArgument("New: baseURL", words("a query or a fragment"), "a URL without them; add parameters in Endpoint.Path or WithRequest")
	}
	u.RawPath = strings.TrimRight(u.EscapedPath(), "/") // escaped slashes are part of a name
	u.Path, _ = url.PathUnescape(u.RawPath)             // cannot fail: it was escaped just now
	return u, nil
}

func parseTarget(where string, base *url.URL, pattern string) (target, error) {
	path, query, _ := strings.Cut(pattern, "?")
	if !strings.HasPrefix(path, "/") || strings.Contains(pattern, "#") {
		return target{}, badArgument(where, pattern, "a path that begins with / and has no fragment")
	}
	if strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return target{}, badArgument(where, pattern, "a query that is escaped")
	}
	// Each part is brought to its canonical escaping now: net/url drops a
	// RawPath that is not well escaped, and with it the id's escaped slashes.
	parts := strings.Split(path, idMark)
	raw := make([]string, len(parts))
	for i, part := range parts {
		plain, err := url.PathUnescape(part)
		if err != nil {
			return target{}, badArgument(where, pattern, "a path with valid escapes")
		}
		parts[i], raw[i] = plain, (&url.URL{Path: plain, RawPath: part}).EscapedPath()
	}
	parts[0], raw[0] = base.Path+parts[0], base.EscapedPath()+raw[0]
	return target{path: parts, rawPath: raw, query: query}, nil
}

// checkID refuses ids that no escaping makes safe.
func (r *route) checkID(id string) error {
	switch {
	case id == "" && !r.takeEmpty:
		return badArgument("job id", id, "an id that is not empty")
	case len(id) > maxIDLength:
		return badArgument("job id", id, "an id of at most 2048 bytes")
	}
	// "." and ".." are path segments that servers and proxies resolve, escaped
	// or not; between slashes too, as many decode %2F before they resolve.
	if strings.ContainsRune(id, '.') {
		for seg := range strings.FieldsFuncSeq(id, func(r rune) bool { return r == '/' || r == '\\' }) {
			if seg == "." || seg == ".." {
				return badArgument("job id", id, `an id without the path segments "." and ".."`)
			}
		}
	}
	return nil
}

// url returns the address of a job whose id has passed checkID.
func (r *route) url(id string) *url.URL {
	u := *r.base
	t := &r.path
	if id == "" {
		t = &r.empty
	}
	u.Path = strings.Join(t.path, id)
	u.RawPath = strings.Join(t.rawPath, url.PathEscape(id))
	if t.query != "" {
		u.RawQuery = strings.ReplaceAll(t.query, idMark, url.QueryEscape(id))
	}
	return &u
}
