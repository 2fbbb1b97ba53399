// Package vtotel makes OpenTelemetry spans of the waits of a vtclient and of its requests.
package vtotel

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/vtclient/vtclient"
)

// Name is the name of the instrumentation scope.
const Name = "github.com/vtclient/vtclient/interop/vtotel"

// The attributes that the semantic conventions have no name for.
const (
	JobIDKey    = attribute.Key("vtclient.job.id")           // of a wait's span
	StateKey    = attribute.Key("vtclient.job.state")        // the last state that was seen
	AgeKey      = attribute.Key("vtclient.job.age")          // of the job at the end of the wait, in seconds
	LateKey     = attribute.Key("vtclient.job.notice_delay") // from the end of the job to the answer that showed it, in seconds
	RequestsKey = attribute.Key("vtclient.requests")         // that the wait took
	JobsKey     = attribute.Key("vtclient.jobs")             // that a shared request asks about
	WireKey     = attribute.Key("vtclient.wire_requests")    // how often a request was written, where that is not once
)

// NewTrace returns a trace for [vtclient.WithTrace] that makes a span of each wait and of
// each request of the client. tp is where the spans go; nil is the global provider. baseURL is
// that of the client; it gives the requests' server.address and server.port, and may be empty.
//
// The span "wait" of a job has the kind internal and the parent of the context that was given to
// Wait, Watch or WaitAll. A poll may serve many waits, and a request many jobs, so the
// requests are not its children: it has a link to the span of each request for its job. A wait
// that ends with an error has the status error and error.type: "failed" for a failed job,
// "timeout", or else the error's type. A wait that is left has no error.
//
// The span of a request ("GET status", "POST submit", "cancel") has the kind client, and
// http.request.method, http.response.status_code, http.request.resend_count and error.type as
// the conventions for HTTP define them. It begins when the request is sent, after all queueing, and its
// parent is that of one of the waits. Nothing is propagated to the server: for that give
// the client a transport of otelhttp, whose spans then stand beside these.
//
// A trace serves one client. Job ids stand in spans, as they should not in metrics.
func NewTrace(tp trace.TracerProvider, baseURL string) vtclient.Trace {
	if tp == nil {
		tp = otel.GetTracerProvider()
	}
	r := &recorder{tracer: tp.Tracer(Name, trace.WithSchemaURL(semconv.SchemaURL)), server: server(baseURL), waits: make(map[string][]trace.Span)}
	return vtclient.Trace{WaitBegun: r.waitBegun, WaitEnded: r.waitEnded, Answered: r.answered}
}

// server are the attributes about the server at a URL.
func server(baseURL string) []attribute.KeyValue {
	u, err := url.Parse(baseURL)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	port, err := strconv.Atoi(u.Port())
	switch {
	case err == nil:
	case u.Scheme == "https":
		port = 443
	default:
		port = 80
	}
	return []attribute.KeyValue{semconv.ServerAddress(u.Hostname()), semconv.ServerPort(port)}
}

type recorder struct {
	tracer trace.Tracer
	server []attribute.KeyValue

	mu    sync.Mutex
	waits map[string][]trace.Span // those that go on, by job, oldest first
}

func (r *recorder) waitBegun(ctx context.Context, i vtclient.TraceInfo) {
	_, span := r.tracer.Start(ctx, "wait", trace.WithAttributes(JobIDKey.String(i.JobID)))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waits[i.JobID] = append(r.waits[i.JobID], span)
}

// take returns the span of a wait that has ended: of those for the job the one in the trace
// of the wait's context, if there is one.
func (r *recorder) take(ctx context.Context, job string) trace.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	spans := r.waits[job]
	if len(spans) == 0 {
		return nil
	}
	at := 0
	if parent := trace.SpanContextFromContext(ctx); parent.IsValid() {
		for n, span := range spans {
			if span.SpanContext().TraceID() == parent.TraceID() {
				at = n
				break
			}
		}
	}
	span := spans[at]
	if len(spans) == 1 {
		delete(r.waits, job)
	} else {
		r.waits[job] = append(spans[:at:at], spans[at+1:]...)
	}
	return span
}

func (r *recorder) waitEnded(ctx context.Context, i vtclient.TraceInfo) {
	span := r.take(ctx, i.JobID)
	if span == nil {
		return
	}
	span.SetAttributes(RequestsKey.Int(i.Requests), AgeKey.Float64(i.Age.Seconds()))
	if i.State != "" {
		span.SetAttributes(StateKey.String(string(i.State)))
	}
	if i.Late > 0 {
		span.SetAttributes(LateKey.Float64(i.Late.Seconds()))
	}
	fail(span, i.Err, waitError(i.Err))
	span.End()
}

func (r *recorder) answered(ctx context.Context, i vtclient.TraceInfo) {
	name, method := "GET status", http.MethodGet
	switch i.Action {
	case "":
	case "submit":
		name, method = "POST submit", http.MethodPost
	default: // the method is the Endpoint's
		name, method = i.Action, ""
	}
	attributes := slices.Clone(r.server)
	if method != "" {
		attributes = append(attributes, semconv.HTTPRequestMethodKey.String(method))
	}
	if i.Action != "" && i.Attempt > 1 { // a further poll is no repetition
		attributes = append(attributes, semconv.HTTPRequestResendCount(i.Attempt-1))
	}
	if i.StatusCode != 0 {
		attributes = append(attributes, semconv.HTTPResponseStatusCode(i.StatusCode))
	}
	if i.Jobs > 0 {
		attributes = append(attributes, JobsKey.Int(i.Jobs))
	}
	if i.Wire != 1 {
		attributes = append(attributes, WireKey.Int(i.Wire))
	}
	now := time.Now()
	_, span := r.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithTimestamp(now.Add(-i.Latency)), trace.WithAttributes(attributes...))
	fail(span, i.Err, requestError(i))
	span.End(trace.WithTimestamp(now))
	if i.Action != "" {
		return
	}
	link := trace.Link{SpanContext: span.SpanContext()}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range i.JobIDs() {
		for _, wait := range r.waits[id] {
			wait.AddLink(link)
		}
	}
}

// fail marks a span as failed, by a word for the kind of error; "" is none.
func fail(span trace.Span, err error, kind string) {
	if kind == "" {
		return
	}
	span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	span.SetStatus(codes.Error, err.Error())
}

// waitError is the error.type of a wait; "": it has none.
func waitError(err error) string {
	switch {
	case err == nil, errors.Is(err, context.Canceled) && !errors.Is(err, vtclient.ErrJobFailed):
		return ""
	case errors.Is(err, vtclient.ErrJobFailed):
		return "failed"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return typeName(err)
}

// requestError is the error.type of a request, by the conventions the status code where there
// is one; "": it has none.
func requestError(i vtclient.TraceInfo) string {
	switch {
	case i.Err == nil, errors.Is(i.Err, context.Canceled):
		return ""
	case i.StatusCode >= 400:
		return strconv.Itoa(i.StatusCode)
	}
	return typeName(i.Err)
}

func typeName(err error) string { return fmt.Sprintf("%T", err) }
