package storm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vtclient/vtclient"
)

// What a client reports of an exchange: a status code in digits, or one of these.
const (
	answered    = "answer"
	unreadable  = "unreadable"  // DecodeError
	broken      = "broken"      // TransportError: there was a connection
	unreachable = "unreachable" // TransportError: there was none
	timedOut    = "timeout"     // TransportError
	withdrawn   = "withdrawn"   // not sent after all: a 429 came before
)

// report returns the outcome that an error stands for.
func report(err error) string {
	var (
		h  *vtclient.HTTPError
		tr *vtclient.TransportError
		d  *vtclient.DecodeError
		op *net.OpError
	)
	switch {
	case err == nil:
		return answered
	case errors.As(err, &h):
		return strconv.Itoa(h.StatusCode)
	case errors.As(err, &tr) && tr.Timeout():
		return timedOut
	case errors.As(err, &tr) && errors.As(err, &op) && op.Op == "dial":
		return unreachable
	case errors.As(err, &tr):
		return broken
	case errors.As(err, &d):
		return unreadable
	case errors.Is(err, context.Canceled):
		return withdrawn
	}
	return fmt.Sprintf("%T", err)
}

// An exchange is one by the client's trace.
type exchange struct {
	tag         string
	sent, ended time.Time
	outcome     string
	wire        int
	text        string // of a timeout
}

// A recorder keeps what a client reports.
type recorder struct {
	secret string
	bound  int

	mu        sync.Mutex
	begun     map[string]int // exchanges, by job
	exchanges []*exchange
	open      map[string]*exchange // by job
	asked     map[string]bool      // the jobs that an exchange is over for
	onAsked   func(jobs int)
	refused   int
	reported  map[string]string // by OnError: the report, by tag
	leaks     []string          // texts with the secret in them
	wrong     []string          // what may not be

	inFlight, peakInFlight atomic.Int64 // in the transport
	conns, peakConns       atomic.Int64
	dials                  atomic.Int64
}

func newRecorder(secret string, bound int) *recorder {
	return &recorder{
		secret: secret, bound: bound, begun: make(map[string]int), open: make(map[string]*exchange),
		asked: make(map[string]bool), reported: make(map[string]string),
	}
}

// options make a client report to the recorder.
func (r *recorder) options() []vtclient.Option {
	// As the client's own transport is, with a count of its connections.
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = r.bound, r.bound
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		r.dials.Add(1)
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		raise(&r.peakConns, r.conns.Add(1))
		return &countedConn{Conn: conn, open: &r.conns}, nil
	}
	return []vtclient.Option{
		vtclient.WithMaxInFlight(r.bound),
		vtclient.WithHTTPClient(&http.Client{Transport: countedTransport{t, r}}),
		vtclient.WithHeader("Authorization", "Bearer "+r.secret),
		vtclient.WithRequest(r.tag),
		vtclient.WithTrace(vtclient.Trace{Sent: r.onSent, Answered: r.onAnswered, Refused: r.onRefused}),
		vtclient.WithLogger(slog.New(slog.NewTextHandler(logChecker{r}, &slog.HandlerOptions{Level: slog.LevelDebug}))),
	}
}

// tag names an exchange on the wire. A job has one in flight at a time.
func (r *recorder) tag(req *http.Request) error {
	id := strings.TrimPrefix(req.URL.Path, "/status/")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun[id]++
	req.Header.Set(tagHeader, tagOf(id, r.begun[id]))
	return nil
}

func tagOf(id string, number int) string { return id + "." + strconv.Itoa(number) }

func (r *recorder) onSent(_ context.Context, info vtclient.TraceInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := &exchange{tag: tagOf(info.JobID, r.begun[info.JobID]), sent: time.Now()}
	if x.tag != tagOf(info.JobID, info.Attempt) || r.open[info.JobID] != nil {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: sent as request %d", x.tag, info.Attempt))
	}
	r.open[info.JobID] = x
	r.exchanges = append(r.exchanges, x)
}

func (r *recorder) onAnswered(_ context.Context, info vtclient.TraceInfo) {
	outcome := report(info.Err)
	text := fmt.Sprint(info.Err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inspect(text)
	x := r.open[info.JobID]
	if x == nil || x.tag != tagOf(info.JobID, info.Attempt) {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: request %d was answered and not sent", info.JobID, info.Attempt))
		return
	}
	delete(r.open, info.JobID)
	x.ended, x.outcome, x.wire = time.Now(), outcome, info.Wire
	if outcome == timedOut {
		x.text = text
	}
	if !r.asked[info.JobID] {
		r.asked[info.JobID] = true
		r.onAsked(len(r.asked))
	}
}

func (r *recorder) onRefused(context.Context, vtclient.TraceInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused++
}

// onError is for the option of that name.
func (r *recorder) onError(err error) {
	outcome, text := report(err), err.Error()
	var d vtclient.Details
	var h *vtclient.HTTPError
	var tr *vtclient.TransportError
	var de *vtclient.DecodeError
	switch {
	case errors.As(err, &h):
		d = h.Details
	case errors.As(err, &tr):
		d = tr.Details
	case errors.As(err, &de):
		d = de.Details
	}
	tag := tagOf(d.JobID, d.Attempt)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inspect(text)
	if r.reported[tag] != "" {
		r.wrong = append(r.wrong, tag+": reported twice by OnError")
	}
	r.reported[tag] = outcome
	if d.Next <= 0 || !strings.Contains(text, strconv.Quote(d.JobID)) {
		r.wrong = append(r.wrong, fmt.Sprintf("OnError: the error does not say which job, or what is next: %s", text))
	}
}

// inspect looks for the secret. The caller holds r.mu.
func (r *recorder) inspect(text string) {
	if strings.Contains(text, r.secret) {
		r.leaks = append(r.leaks, text)
	}
}

type logChecker struct{ r *recorder }

func (l logChecker) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(l.r.secret)) {
		l.r.mu.Lock()
		defer l.r.mu.Unlock()
		l.r.leaks = append(l.r.leaks, string(p))
	}
	return len(p), nil
}

func raise(peak *atomic.Int64, n int64) {
	for {
		old := peak.Load()
		if n <= old || peak.CompareAndSwap(old, n) {
			return
		}
	}
}

// A countedTransport counts a request as in flight until its body is closed.
type countedTransport struct {
	*http.Transport
	r *recorder
}

func (t countedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	raise(&t.r.peakInFlight, t.r.inFlight.Add(1))
	resp, err := t.Transport.RoundTrip(req)
	if err != nil {
		t.r.inFlight.Add(-1)
		return nil, err
	}
	resp.Body = &countedBody{ReadCloser: resp.Body, open: &t.r.inFlight}
	return resp, nil
}

type countedBody struct {
	io.ReadCloser
	once sync.Once
	open *atomic.Int64
}

func (b *countedBody) Close() error {
	defer b.once.Do(func() { b.open.Add(-1) })
	return b.ReadCloser.Close()
}

type countedConn struct {
	net.Conn
	once sync.Once
	open *atomic.Int64
}

func (c *countedConn) Close() error {
	defer c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}
