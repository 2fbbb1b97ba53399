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
	run func(s *Server, r *http.Request) answer
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
	x := Exchange{Time: time.Now(), Method: r.Method, Path: r.URL.EscapedPath(), Header: r.Header}
	a, o := s.find(r)
	x.JobIDs = o.ids
	n, ok := s.begin(x.Time, o.ids)
	if !ok {
		panic(http.ErrAbortHandler) // closed
	}
	defer s.leave()
	if s.cfg.onExchange != nil {
		defer func() {
			x.Took = time.Since(x.Time)
			s.cfg.onExchange(x)
		}()
	}

	key := hash(r.Method)
	for _, id := range o.ids {
		key = mix(key ^ hash(id))
	}
	v := s.judge(r, o.ids != nil, key, n)
	if v.latency > 0 && !s.sleep(r, v.latency) {
		abort(w, false)
	}
	if x.Fault = v.fault; x.Fault != "" {
		s.countFault(x.Fault)
	}

	ans := s.answer(w, r, a, o, v)
	if x.Fault == "" { // before the client can see the answer, and then look
		s.countAnswer(ans.outcome)
	}
	if a.requestID {
		id := fmt.Sprintf("%016x", mix(s.cfg.seed^mix(key+mix(uint64(n)))))
		ans.header = append(ans.header, [2]string{"X-Request-Id", id})
	}
	s.write(w, r, ans, v)
	x.Code = ans.code
}

// answer returns what goes back to a request. It does not return where the connection
// breaks before an answer.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, a *api, o op, v verdict) answer {
	var ans answer
	switch {
	case v.fault == FaultDrop || v.fault == FaultBlackout:
		abort(w, false)
	case v.fault == FaultReset:
		abort(w, true)
	case v.fault == FaultSilence:
		s.sleep(r, 0)
		abort(w, false)
	case v.code != 0:
		ans = a.fault(v.code, "simulated fault: "+http.StatusText(v.code))
		if v.retryAfter != "" {
			ans.header = append(ans.header, [2]string{"Retry-After", v.retryAfter})
		}
	case !s.authorized(r):
		ans = a.fault(http.StatusUnauthorized, "no valid token: send it as Authorization: Bearer or X-Api-Key")
		ans.header = append(ans.header, [2]string{"Www-Authenticate", "Bearer"})
		ans.outcome = unauthorized
	default:
		ans = o.run(s, r)
	}
	if v.fault == FaultGarbage {
		ans.code, ans.body = http.StatusOK, garbage(v.rand, ans.body)
	}
	return ans
}

// write sends an answer, whole or broken. It does not return where the connection breaks.
func (s *Server) write(w http.ResponseWriter, r *http.Request, ans answer, v verdict) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(ans.body))}
	for _, kv := range ans.header {
		h[kv[0]] = []string{kv[1]}
	}
	w.WriteHeader(ans.code)
	switch {
	case v.fault == FaultCut:
		w.Write(ans.body[:len(ans.body)/2])
		http.NewResponseController(w).Flush()
		abort(w, true)
	case v.fault == FaultDrip && r.Method != http.MethodHead:
		s.drip(w, r, ans.body, v.dripEvery)
	default:
		w.Write(ans.body)
	}
}

var jsonType = []string{"application/json"}

func (s *Server) find(r *http.Request) (*api, op) {
	for _, a := range apis {
		if o, ok := a.route(s, r); ok {
			return a, o
		}
	}
	a := apis[0]
	return a, op{run: func(_ *Server, r *http.Request) answer {
		return a.fault(http.StatusNotFound, "no such path: "+r.URL.EscapedPath())
	}}
}

func (s *Server) authorized(r *http.Request) bool {
	if s.cfg.token == "" || r.Header.Get("X-Api-Key") == s.cfg.token {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && token == s.cfg.token
}

// sleep waits for d, or with d 0 for ever, and reports whether the client and the
// server are still there.
func (s *Server) sleep(r *http.Request, d time.Duration) bool {
	// net/http notices that a client left only once the request's body has been read.
	if r.Body != nil && r.Body != http.NoBody {
		b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
		if err != nil {
			return false
		}
		r.Body = io.NopCloser(strings.NewReader(string(b)))
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
	case <-r.Context().Done():
	case <-s.done:
	}
	return false
}

func (s *Server) drip(w http.ResponseWriter, r *http.Request, body []byte, every time.Duration) {
	rc := http.NewResponseController(w)
	for i := range body {
		if _, err := w.Write(body[i : i+1]); err != nil {
			abort(w, false)
		}
		rc.Flush()
		if i < len(body)-1 && !s.sleep(r, every) {
			abort(w, false)
		}
	}
}

// abort ends the connection and the handler.
func abort(w http.ResponseWriter, reset bool) {
	if reset {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			if l, ok := conn.(interface{ SetLinger(int) error }); ok {
				l.SetLinger(0)
			}
			conn.Close()
		}
	}
	panic(http.ErrAbortHandler)
}

// begin counts a request in; n is how many came before it that asked for the same job
// or, like it, for none.
// ok is false if the server is closed.
func (s *Server) begin(now time.Time, ids []string) (n int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, false
	}
	if len(ids) == 0 {
		n = s.others
		s.others++
	}
	for i, id := range ids {
		if i == 0 {
			n = s.asked[id]
		}
		s.asked[id]++
	}
	s.active++
	s.stats.begin(now, s.active)
	return n, true
}

func (s *Server) countFault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.faults[f]++
}

func (s *Server) countAnswer(o outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.outcomes[o]++
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active--; s.active == 0 {
		s.idle.Broadcast()
	}
}
