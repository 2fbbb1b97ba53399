package simserver

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An api is one backend's API for jobs. The server serves all of them at once: their
// paths differ.
type api struct {
	// route parses a request; ok is false if its path is not the api's.
	route func(s *Server, r *http.Request) (o op, ok bool)

	// fault words an error that has nothing to do with a job: no token, an injected
	// status code.
	fault func(code int, message string) answer

	requestID bool // its answers carry an X-Request-Id
}

// The first one answers for the paths of none.
var apis = []*api{&plain, &heygen}

// An op is a request, parsed.
type op struct {
	ids []string // the jobs whose status is asked for; nil: it is no status request
	run func(*exchange) answer
}

// An answer is what goes back if nothing goes wrong.
type answer struct {
	code    int
	header  [][2]string // in canonical form, besides Content-Type and Content-Length
	body    []byte
	outcome outcome
}

// ServeHTTP serves the API described above. Faults that break the connection hijack
// it, or else panic with [http.ErrAbortHandler], which net/http takes for the same wish.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seen := Exchange{Time: time.Now(), Method: r.Method, Path: r.URL.EscapedPath(), Header: r.Header}
	a, o := find(s, r)
	seen.JobIDs = o.ids
	n, ok := s.tally.begin(seen.Time, o.ids)
	if !ok {
		panic(http.ErrAbortHandler) // closed
	}
	defer s.tally.end()
	if s.cfg.onExchange != nil {
		defer func() {
			seen.Took = time.Since(seen.Time)
			s.cfg.onExchange(seen)
		}()
	}

	key := hash(r.Method)
	for _, id := range o.ids {
		key = mix(key ^ hash(id))
	}
	v := s.faults.judge(r, o.ids != nil, key, n)
	x := &exchange{s: s, w: w, r: r, api: a, op: o, verdict: v}
	if v.latency > 0 && !x.sleep(v.latency) {
		x.abort(false)
	}
	if seen.Fault = v.fault; seen.Fault != "" {
		s.tally.count(func(c *counters) { c.faults[v.fault]++ })
	}

	ans := x.answer()
	if seen.Fault == "" { // before the client can see the answer, and then look
		s.tally.count(func(c *counters) { c.outcomes[ans.outcome]++ })
	}
	if a.requestID {
		id := fmt.Sprintf("%016x", mix(s.cfg.seed^mix(key+mix(uint64(n)))))
		ans.header = append(ans.header, [2]string{"X-Request-Id", id})
	}
	x.write(ans)
	seen.Code = ans.code
}

// find returns what a request asks for, and of which API.
func find(s *Server, r *http.Request) (*api, op) {
	for _, a := range apis {
		if o, ok := a.route(s, r); ok {
			return a, o
		}
	}
	a := apis[0]
	return a, op{run: func(x *exchange) answer {
		return a.fault(http.StatusNotFound, "no such path: "+x.r.URL.EscapedPath())
	}}
}

// An exchange is a request that is being served.
type exchange struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	api     *api
	op      op
	verdict verdict
}

// answer returns what goes back. It does not return where the connection breaks before
// an answer.
func (x *exchange) answer() answer {
	var ans answer
	switch v := x.verdict; {
	case v.fault == FaultDrop || v.fault == FaultBlackout:
		x.abort(false)
	case v.fault == FaultReset:
		x.abort(true)
	case v.fault == FaultSilence:
		x.sleep(0)
		x.abort(false)
	case v.code != 0:
		ans = x.api.fault(v.code, "simulated fault: "+http.StatusText(v.code))
		if v.retryAfter != "" {
			ans.header = append(ans.header, [2]string{"Retry-After", v.retryAfter})
		}
	case !x.authorized():
		ans = x.api.fault(http.StatusUnauthorized, "no valid token: send it as Authorization: Bearer or X-Api-Key")
		ans.header = append(ans.header, [2]string{"Www-Authenticate", "Bearer"})
		ans.outcome = unauthorized
	default:
		ans = x.op.run(x)
	}
	if x.verdict.fault == FaultGarbage {
		ans.code, ans.body = http.StatusOK, garbage(x.verdict.rand, ans.body)
	}
	return ans
}

// write sends an answer, whole or broken. It does not return where the connection breaks.
func (x *exchange) write(ans answer) {
	h := x.w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(ans.body))}
	for _, kv := range ans.header {
		h[kv[0]] = []string{kv[1]}
	}
	x.w.WriteHeader(ans.code)
	switch {
	case x.verdict.fault == FaultCut:
		x.w.Write(ans.body[:len(ans.body)/2])
		http.NewResponseController(x.w).Flush()
		x.abort(true)
	case x.verdict.fault == FaultDrip && x.r.Method != http.MethodHead:
		x.drip(ans.body)
	default:
		x.w.Write(ans.body)
	}
}

var jsonType = []string{"application/json"}

func (x *exchange) authorized() bool {
	want := x.s.cfg.token
	if want == "" || x.r.Header.Get("X-Api-Key") == want {
		return true
	}
	scheme, token, _ := strings.Cut(x.r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && token == want
}

// sleep waits for d, or for ever if d is 0, and reports whether the client and the server are
// still there.
func (x *exchange) sleep(d time.Duration) bool {
	// net/http notices that a client left only once the request's body has been read.
	if x.r.Body != nil && x.r.Body != http.NoBody {
		b, err := io.ReadAll(io.LimitReader(x.r.Body, maxBody+1))
		if err != nil {
			return false
		}
		x.r.Body = io.NopCloser(strings.NewReader(string(b)))
	}
	var c <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		c = t.C
	}
	select {
	case <-c:
		return true
	case <-x.r.Context().Done():
	case <-x.s.done:
	}
	return false
}

func (x *exchange) drip(body []byte) {
	rc := http.NewResponseController(x.w)
	for i := range body {
		if _, err := x.w.Write(body[i : i+1]); err != nil {
			x.abort(false)
		}
		rc.Flush()
		if i < len(body)-1 && !x.sleep(x.verdict.dripEvery) {
			x.abort(false)
		}
	}
}

// abort ends the connection and the handler.
func (x *exchange) abort(reset bool) {
	if reset {
		resetConn(x.w)
	}
	panic(http.ErrAbortHandler)
}

// resetConn closes the connection, by a TCP reset where it can.
func resetConn(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if l, ok := conn.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0)
	}
	conn.Close()
}
