package vtclient

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// An Endpoint describes a backend: where a job's status is asked
// for and how the answer is read. It is a value. The zero value of a field means that of
// the plain API: GET {base}/status/{id}, and GET {base}/status for an empty id, answering
//
//	{"result":"pending"|"completed"|"error"}
//
// and optionally "message", a string, and "progress", a number from 0 to 1. Where a
// name occurs twice, the last one counts; a job id in the answer is ignored.
type Endpoint struct {
	// Path is the path below the base URL, with {id} in the place of the job
	// id, as in "/v1/jobs/{id}" or "/job?name={id}". The id is escaped, so
	// that it can never change the path, the host or the query.
	Path string
	// EmptyPath is the path that is asked for an empty job id. If Path is set
	// and EmptyPath is not, an empty id is refused.
	EmptyPath string
	// Decode reads an answer with a 2xx status code; others never reach it.
	// It fills in State and, where the answer has them, Message, Progress, StartedAt,
	// EndedAt, PollAfter and Cancelled; the client fills in the rest. An error means
	// that the answer is unreadable, which is a fault and is retried, unless it matches
	// [ErrFinal]. A State other than the three known ones means that the backend used an
	// unknown word: that is a fault, too, an *UnknownStateError that names it. Where a
	// completed answer lacks the result that makes it worth having, Decode sets
	// ResultMissing: a wait then looks again for a while. Decode must be safe for
	// concurrent use and must not keep a.Body, which is reused. The client copies the
	// texts of the Status, and keeps an error as it is while the wait lasts.
	//
	// Nil means the plain format. If Path is set, the error about an answer of another
	// format gives the missing Decode as the likely reason.
	Decode func(a Answer) (Status, error)
	// Bulk describes how the backend is asked for many jobs at once. The zero value
	// means that it cannot be.
	Bulk Bulk
	// Submit describes how jobs are created. The zero value means that they cannot be.
	Submit Submit
	// Cancel is the method and the path, with {id} in it, of the request that cancels a
	// job, as in "POST /v1/predictions/{id}/cancel". Empty: jobs cannot be cancelled.
	Cancel string
}

// A Submit describes how a backend is asked to create jobs; see [Client.Submit]. Path and
// Decode are needed.
type Submit struct {
	// Path is the path below the base URL to which the request is POSTed.
	Path string
	// IdempotencyHeader is the name of the header in which the backend takes an
	// idempotency key, such as Idempotency-Key. To a second request with the same key,
	// such a backend answers as it did to the first and creates nothing. Empty: the
	// backend takes no key.
	IdempotencyHeader string
	// Decode reads an answer with a 2xx status code: the ids of the jobs that were
	// created, at least one. An error means that the answer is unreadable, which is a
	// fault; one that wraps [ErrFinal] means that the backend has refused and created
	// nothing. Decode must be safe for concurrent use and must not keep a.Body, which is
	// reused.
	Decode func(a Answer) (ids []string, err error)
}

// An Answer is what the backend sent.
type Answer struct {
	StatusCode int
	Header     http.Header
	Body       []byte // at most WithMaxBody bytes, decompressed
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
	base       *url.URL // no trailing slash, no query, no fragment
	path       target
	empty      target
	takeEmpty  bool
	idParams   []string // the query parameters that hold ids, which are no secrets
	anyID      bool     // no URL is made of the id
	asked      string   // as Details.Target
	askedEmpty string   // the same for an empty id
	decode     func(Answer) (Status, error)
	bulk       *bulkRoute // nil: jobs are asked for one by one
	submit     *submitRoute
	cancel     *cancelRoute
}

// A target is a path pattern cut into its parts.
type target struct {
	path, rawPath []string // what stands around each {id}
	asIs          bool     // rawPath is path
	query         string
}

func newRoute(baseURL string, e Endpoint) (*route, error) {
	base, berr := parseBase(baseURL)
	if e.Decode == nil && e.Path != "" {
		e.Decode = decodeAssumedPlain
	}
	if e.Path == "" {
		e.Path = "/status/{id}"
		if e.EmptyPath == "" {
			e.EmptyPath = "/status"
		}
	}
	if e.Decode == nil {
		e.Decode = decodePlain
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
	r.asked, r.askedEmpty = r.path.asked(http.MethodGet, base), r.empty.asked(http.MethodGet, base)
	r.idParams = r.path.idParams()
	var kerr error
	if r.bulk, kerr = newBulkRoute(base, e.Bulk); r.bulk != nil {
		r.idParams = append(r.idParams, r.bulk.idParams()...)
	}
	var serr, cerr error
	r.submit, serr = newSubmitRoute(base, e.Submit)
	if r.cancel, cerr = newCancelRoute(base, e.Cancel); r.cancel != nil {
		r.idParams = append(r.idParams, r.cancel.target.idParams()...)
	}
	return r, errors.Join(berr, perr, eerr, kerr, serr, cerr)
}

// fetchRoute is the route of a client that asks a function: it only checks ids.
func fetchRoute(baseURL string) (*route, error) {
	if baseURL == "" {
		return &route{anyID: true}, nil
	}
	_, err := parseBase(baseURL)
	return &route{anyID: true}, err
}

func parseBase(s string) (*url.URL, error) {
	// A base URL may hold a password, and url.Parse's own error would repeat all
	// of it. What cannot be parsed is not shown at all: any part of it may be one.
	u, err := url.Parse(s)
	if err != nil {
		return &url.URL{}, badArgument("New: baseURL", words("a string that is no URL"), "a URL such as https://api.example.com")
	}
	refuse := func(what, where, expected string) (*url.URL, error) {
		if shown := shownBase(u); shown != "" {
			what += " " + where + " " + quoteID(shown)
		}
		return u, badArgument("New: baseURL", words(what), expected)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("scheme "+quoteID(u.Scheme), "in", "scheme http or https, as in https://api.example.com")
	case u.Hostname() == "":
		return refuse("no host", "in", "a URL with a host, such as https://api.example.com")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return refuse("a query or a fragment", "after", "a URL without them; add parameters in Endpoint.Path or WithRequest")
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		// Most likely left over from a file or from copying, and invisible in a 404.
		return refuse("a space or an invisible character", "in", "a URL without any; %20 stands for a space that belongs there")
	}
	u.RawPath = strings.TrimRight(u.EscapedPath(), "/") // escaped slashes are part of a name
	u.Path, _ = url.PathUnescape(u.RawPath)             // cannot fail: it was escaped just now
	return u, nil
}

// shownBase is what of a refused base URL may stand in an error: not its user
// and password, its query or its fragment, and nothing of a string in which
// those cannot be separated from the rest, as where a password is not escaped.
func shownBase(u *url.URL) string {
	if u.Opaque != "" || strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
		return ""
	}
	if u.Scheme == "" {
		return u.Host + u.Path
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// shown is the address of the backend as it stands in errors.
func (r *route) shown() string {
	if r.base == nil {
		return "the function given to WithFetch"
	}
	return oneLine(shownBase(r.base), 200)
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
	return target{path: parts, rawPath: raw, asIs: slices.Equal(raw, parts), query: query}, nil
}

// idParams are the query parameters of t that hold an id.
func (t *target) idParams() (names []string) {
	for pair := range strings.SplitSeq(t.query, "&") {
		if name, value, _ := strings.Cut(pair, "="); strings.Contains(value, idMark) {
			names = append(names, name)
		}
	}
	return names
}

// asked is the Details.Target of a request to t.
func (t *target) asked(method string, base *url.URL) string {
	return requestLine(method, base, strings.Join(t.rawPath, idMark))
}

// checkID refuses ids that no escaping makes safe.
func (r *route) checkID(id string) error {
	switch {
	case id == "" && !r.takeEmpty:
		return badArgument("job id", id, "an id that is not empty")
	case len(id) > maxIDLength:
		return badArgument("job id", id, "an id of at most 2048 bytes")
	case r.anyID:
		return nil
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

// ownID returns a copy of a job id, out of its address u where that has the id as it is. The
// id that a caller gives may be a part of a large text, and what the client keeps under it
// must not keep that text. A call has another address, and WithRequest may have changed it.
func (r *route) ownID(u *url.URL, id string) string {
	if before := len(r.path.path[0]); before < len(u.Path) && strings.HasPrefix(u.Path[before:], id) {
		return u.Path[before : before+len(id)]
	}
	return strings.Clone(id)
}

// url makes u, which is the base, the address of a job whose id has passed checkID.
func (r *route) url(u *url.URL, id string) {
	t := &r.path
	if id == "" {
		t = &r.empty
	}
	t.address(u, id)
}

// address makes u, which is the base, the address of a job at t.
func (t *target) address(u *url.URL, id string) {
	u.Path = strings.Join(t.path, id)
	u.RawPath = u.Path
	if raw := url.PathEscape(id); raw != id || !t.asIs {
		u.RawPath = strings.Join(t.rawPath, raw)
	}
	if t.query != "" {
		u.RawQuery = strings.ReplaceAll(t.query, idMark, url.QueryEscape(id))
	}
}
