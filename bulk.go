package vtclient

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// A Bulk describes how a backend is asked for many jobs in one request. With it in
// an [Endpoint], the polls of Wait, Watch and WaitAll share requests: when one
// is due, others join its request, those that are due soonest first, and count
// as polled. First checks wait 10 ms for others to join them. Status asks for one
// job all the same, and so does a poll that is alone.
//
// A job that the answer does not settle is asked for singly at once: one that the
// answer lacks, one of an unknown state and one that has ended without its result.
// After a final error, such as a 404 of the bulk path, and after an answer that
// Decode cannot read, the jobs are asked for one by one; the bulk path is tried
// again after 15 s, and each time that it fails again after twice as long, up to
// 10 min. An answer larger than [WithMaxBody] allows makes the next requests ask for half
// as many jobs, for 10 min. A page of an answer that settles no job is the last one
// asked for. Any other fault is one of all jobs of the request, which are asked for
// together again: it never turns one request into many.
type Bulk struct {
	// Path is the path below the base URL with {ids} in its query in the place
	// of the job ids, as in "/v1/jobs?ids={ids}". Each id is escaped.
	Path string
	// Separator stands between the escaped ids, as it is; empty: ",". With
	// "&id=" and a Path of "/v1/jobs?id={ids}" the parameter is repeated. An id
	// that contains the separator is asked for singly, and so is one that contains
	// what an escaped separator stands for, such as a comma for "%2C".
	Separator string
	// Limit is the number of ids that the backend takes at once; 0: 100. Fewer
	// are sent where the query would become longer than 7,000 bytes.
	Limit int
	// Page is the name of the query parameter that asks for a further page of
	// the same answer; empty: there are none.
	Page string
	// Decode reads an answer with a 2xx status code. It returns a Status for
	// each job that the answer holds, in any order, with JobID, State and
	// what else the answer has of it, as for [Endpoint].Decode. For a job that has
	// ended, Body is the part of the answer that is to be its result; where Body is
	// empty, or ResultMissing set, one single request brings it. A State other than
	// the three known ones means that the answer does not settle the job; return one
	// for a job that the backend does not have. next is the token of the next page,
	// empty on the last. As for Endpoint.Decode, an error means that the answer is
	// unreadable, a.Body is reused, and calls may be concurrent.
	Decode func(a Answer) (jobs []Status, next string, err error)
}

const (
	idsMark = "{ids}"

	// defaultBulkLimit is the number of ids in one request where Bulk.Limit is 0.
	defaultBulkLimit = 100

	// maxBulkQuery bounds the query of a bulk request in bytes, and maxPageToken
	// what is added to it for a further page. Servers commonly refuse a request
	// line of more than 8 KiB.
	maxBulkQuery = 7000
	maxPageToken = 512
)

// A bulkRoute is a Bulk bound to a base URL.
type bulkRoute struct {
	target    target
	separator string
	splits    []string // at which the backend may split: the separator, and what it is an escape of
	limit     int
	page      string
	decode    func(Answer) ([]Status, string, error)
	asked     string // as Details.Target
}

// newBulkRoute returns nil if b is the zero value.
func newBulkRoute(base *url.URL, b Bulk) (*bulkRoute, error) {
	if b.Path == "" && b.Separator == "" && b.Limit == 0 && b.Page == "" && b.Decode == nil {
		return nil, nil
	}
	var errs []error
	refuse := func(bad bool, field string, value any, expected string) {
		if bad {
			errs = append(errs, badArgument("Endpoint.Bulk."+field, value, expected))
		}
	}
	r := &bulkRoute{separator: b.Separator, limit: b.Limit, page: b.Page, decode: b.Decode}
	if r.separator == "" {
		r.separator = ","
	}
	r.splits = unescapes(r.separator)
	if r.limit == 0 {
		r.limit = defaultBulkLimit
	}
	unescaped := func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '#' }
	_, query, _ := strings.Cut(b.Path, "?")
	if strings.Count(b.Path, idsMark) != 1 || !strings.Contains(query, idsMark) || strings.Contains(b.Path, idMark) {
		refuse(true, "Path", b.Path, "a path with "+idsMark+" once in its query, as in /v1/jobs?ids={ids}")
	} else {
		var err error
		r.target, err = parseTarget("Endpoint.Bulk.Path", base, b.Path)
		r.asked = r.target.asked(http.MethodGet, base)
		errs = append(errs, err)
	}
	refuse(strings.ContainsFunc(r.separator, unescaped), "Separator", b.Separator, "a separator that may stand in a query")
	refuse(b.Limit < 0, "Limit", b.Limit, "a positive number, or 0 for 100")
	refuse(b.Page != url.QueryEscape(b.Page), "Page", b.Page, "a parameter name that needs no escaping")
	refuse(b.Decode == nil, "Decode", words("nil"), "a function")
	return r, errors.Join(errs...)
}

// unescapes returns s, and what it stands for in a query that is unescaped once or more.
func unescapes(s string) (all []string) {
	for {
		all = append(all, s)
		plain, err := url.QueryUnescape(s)
		if err != nil || plain == s {
			return all
		}
		s = plain
	}
}

// takes reports whether an id may stand among others: the first place at which the
// backend splits behind its beginning is its end.
func (r *bulkRoute) takes(id string) bool {
	for _, split := range r.splits {
		if strings.Index(id+split, split) != len(id) {
			return false
		}
	}
	return id != ""
}

// idParams returns the query parameters that hold ids.
func (r *bulkRoute) idParams() (names []string) {
	two := strings.Replace(r.target.query, idsMark, idsMark+r.separator+idsMark, 1)
	for pair := range strings.SplitSeq(two, "&") {
		if name, value, _ := strings.Cut(pair, "="); strings.Contains(value, idsMark) {
			names = append(names, name)
		}
	}
	return names
}

// address makes u the URL of a request.
func (r *route) address(u *url.URL, asked inquiry) {
	*u = *r.base
	q := asked.many
	switch {
	case asked.call != nil:
		asked.call.target.address(u, asked.id)
		return
	case q == nil:
		r.url(u, asked.id)
		return
	}
	escaped := make([]string, len(q.ids))
	for i, id := range q.ids {
		escaped[i] = url.QueryEscape(id)
	}
	t := &r.bulk.target
	u.Path, u.RawPath = t.path[0], t.rawPath[0]
	u.RawQuery = strings.Replace(t.query, idsMark, strings.Join(escaped, r.bulk.separator), 1)
	if q.token != "" {
		u.RawQuery += "&" + r.bulk.page + "=" + url.QueryEscape(q.token)
	}
}

// A query is one request for several jobs, or for a further page of the answer
// about them.
type query struct {
	ids   []string        // those asked for
	open  map[string]bool // those of them that no page has settled
	token string          // of the page; "": the first
	found []Status
	next  string
}

// read reads an answer into q: the open jobs that it holds, each once.
func (q *query) read(r *bulkRoute, a Answer) error {
	all, next, err := r.decode(a)
	if err != nil {
		return err
	}
	if q.found, q.next = q.found[:0], next; r.page == "" {
		q.next = ""
	}
	if len(url.QueryEscape(q.next)) > maxPageToken {
		return fmt.Errorf("the token of the next page is longer than %d bytes", maxPageToken)
	}
	seen := make(map[string]bool, len(all))
	for _, st := range all {
		if q.open[st.JobID] && !seen[st.JobID] {
			seen[st.JobID] = true
			q.found = append(q.found, st)
		}
	}
	if len(q.found) == 0 && q.next == "" && q.token == "" {
		return fmt.Errorf("none of the %d jobs asked for is in the answer", len(q.ids))
	}
	return nil
}
