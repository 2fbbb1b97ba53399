package vtclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"time"

	"net/textproto"
)

// An Option changes one setting of a client. Where an option is given twice,
// the last one holds, except for WithHeader, WithRequest, WithTrace and
// WithLogger, which add up.
//
// New refuses a duration above zero and below 100 microseconds wherever it stands, in the
// fields of a strategy, too: it can only be a number without a unit, as in WithTimeout(10),
// which is ten nanoseconds.
type Option func(*config)

// WithHTTPClient sets the client that requests are sent with, for its
// transport, cookie jar and timeout. It is copied, never modified; redirects to
// other hosts are refused before its CheckRedirect is asked. Where a connection that has
// served before fails, its idle connections are closed. The default is a
// client with a transport of its own, whose pool keeps as many idle connections
// to the backend as requests may be in flight. If hc's transport is an
// *http.Transport with MaxConnsPerHost below WithMaxInFlight, that is the bound
// in flight, so that no attempt's timeout runs while it queues for a
// connection.
//
// The default transport reads at most 64 KiB of an answer's headers,
// informational answers included. net/http's own default is 10 MiB: set
// MaxResponseHeaderBytes in a transport of yours if you do not trust the
// backend. All other bounds hold with any *http.Transport; one of another type
// must itself end when the request's context does, and so must the reads of its
// bodies. A cookie jar keeps what a backend sends: net/http/cookiejar has no
// bound.
func WithHTTPClient(hc *http.Client) Option {
	return func(cfg *config) {
		cfg.forHTTP("WithHTTPClient")
		if cfg.httpClient = hc; hc == nil {
			cfg.refuse("WithHTTPClient", words("nil"), "an *http.Client")
		}
	}
}

// WithEndpoint sets what the backend looks like. The default is the zero Endpoint.
func WithEndpoint(e Endpoint) Option {
	return func(cfg *config) { cfg.forHTTP("WithEndpoint"); cfg.endpoint = e }
}

// WithFetch makes f the way to ask about a job, in the place of a request over
// HTTP: for a backend that is spoken to through an SDK or over gRPC. All else
// stays the same: waits and the sharing of polls, retries, breaker, cache,
// limits, learning and traces. Each call of f counts as a request.
//
// f fills in State and, where it has them, the other fields of the Status. JobID,
// CheckedAt and Cached are set by the client. A job that failed is a Status with
// StateFailed; an error means that there is no answer. It is a fault, and retried, unless
// it wraps [ErrFinal]. If it has, or wraps an error that has, the method
//
//	RetryAfter() time.Duration
//
// the job is not asked about again for so long, as with a Retry-After header:
// see WithMaxRetryAfter. The client wraps the error in a *TransportError,
// through which errors.As finds it, and keeps it while the wait lasts.
//
// The context ends with WithTimeout and when the last caller has left; f must return
// then, as nothing else can stop it. The error of a wait that ends before f has returned
// names it. f must be safe for concurrent use, and not ask this client about the same
// job, which would wait for itself.
//
// New takes an empty base URL then, and makes no use of another one; a job id is
// any string of 1 to 2048 bytes. WithHTTPClient, WithEndpoint, WithHeader,
// WithRequest and WithMaxBody shape what goes over HTTP: New refuses them beside
// WithFetch.
func WithFetch(f func(ctx context.Context, jobID string) (Status, error)) Option {
	return func(cfg *config) {
		if cfg.fetch = f; f == nil {
			cfg.refuse("WithFetch", words("nil"), "a function")
		}
	}
}

// WithHeader adds a header to every request, such as an API key. Given again
// with the same key it adds a further value. The value never appears in an
// error or a log line, also where the backend repeats it: errors and messages
// have [redacted] in its place, if it has four bytes or more.
//
// Requests have Accept: application/json, User-Agent: vtclient, Cache-Control: no-cache
// with Pragma: no-cache, and Accept-Encoding: gzip; a header given here takes the place of that
// one. Headers that net/http sets or ignores (Host, Content-Length, Transfer-Encoding, Connection
// and their like), those that ask for less than the whole answer (Range, If-None-Match
// and their like) and an Accept-Encoding other than gzip and identity are refused.
func WithHeader(key, value string) Option {
	return func(cfg *config) {
		cfg.forHTTP("WithHeader")
		k := textproto.TrimString(key)
		if k == "" || strings.ContainsFunc(k, notToken) {
			cfg.refuse("WithHeader: key", key, "a header name, such as X-Api-Key")
			return
		}
		if strings.ContainsFunc(value, notText) {
			cfg.refuse("WithHeader: value of "+k, words("a control character"), "a value without any")
			return
		}
		if reason := unfit(k, value); reason != "" {
			cfg.refuse("WithHeader: key", key, "another header: "+reason)
			return
		}
		if cfg.header == nil {
			cfg.header = http.Header{}
		}
		cfg.header.Add(k, value)
	}
}

// WithRequest sets a function that may change each request before it is sent,
// to sign it or to bring in a token that is renewed. It is called anew for each
// try, so that a 401 is tried once more at once; where a connection fails that has served
// before, the same request is sent again, as net/http does. Its time counts towards the
// attempt's timeout, which r.Context() carries; an error from it is a fault of
// the attempt, and nothing is sent. A request without an http or https URL, or
// with a header that HTTP cannot carry, such as a token with a line break at its
// end or one that WithHeader refuses, is a final error; so is one with a context that is not
// made from r.Context(). The headers and query parameters that it sets are kept
// out of errors and logs like those of WithHeader. It must be safe for
// concurrent use. Given
// more than once, the functions are called in order. It must not ask this
// client for the status of the same job, which would wait for itself.
func WithRequest(f func(r *http.Request) error) Option {
	return func(cfg *config) {
		cfg.forHTTP("WithRequest")
		if f == nil {
			cfg.refuse("WithRequest", words("nil"), "a function")
			return
		}
		cfg.prepare = append(cfg.prepare, f)
	}
}

// WithTimeout bounds one exchange, from the moment it may be sent (queueing for
// the gate, the limiter and the breaker does not count) to the end of its body. If a
// connection that has served before stays silent for so long, the request is made once more
// over another one, with as much time again. The default is 10 s: a status endpoint that
// takes longer is in trouble, and the wait is better off asking again.
func WithTimeout(d time.Duration) Option {
	return func(cfg *config) { cfg.timeout = d; cfg.duration("WithTimeout", d, d > 0, "a positive value") }
}

// WithPolling sets how long a wait lets pass between "still pending" and the
// next poll. The default is NewAdaptive(1 s), one for each client, which learns
// how long the jobs take and polls when a poll is expected to end the wait a
// second sooner: a request is worth a second of waiting. Give NewAdaptive
// another value if requests are dearer or cheaper to you; share one [Adaptive]
// between the clients of one backend to share what it has learnt. A Backoff that is
// a [Learner] gets each job that ends. [Exponential] and [Constant] do
// not learn.
func WithPolling(b Backoff) Option {
	return func(cfg *config) { cfg.polling = b; cfg.part("WithPolling", b) }
}

// WithRetry sets the delay after a fault, and for Status also the number of
// tries; a wait goes on in any case, until WithOutageTolerance. The default
// is Exponential{Base: 500 ms, Max: 30 s, Multiplier: 2, Jitter: 0.5, Limit:
// 4}: a Status call rides out about 2 to 3.5 s of trouble, and after
// an outage the waits come back spread over 15 s. Exponential{Limit: 1} turns
// retrying of Status off.
func WithRetry(b Backoff) Option {
	return func(cfg *config) { cfg.retry = b; cfg.part("WithRetry", b) }
}

// WithOutageTolerance sets how long a wait bears faults in a row: it survives
// every outage that is shorter, counted from the first fault since the last
// answer, and ends when a longer one has lasted so long, whether or not a
// request is due then. Time in which nothing could be asked does not count: a pause
// that the server asked for, or a process that was stopped. Pauses do count once an outage
// has lasted for an hour, or for WithMaxRetryAfter if that is longer; before the first
// readable answer (see below), for WithMaxRetryAfter. Where WithRetry makes even the first
// gap between two requests as long as the tolerance, such a gap counts as a
// sixteenth of the tolerance. While other jobs of the client are answered, a job that alone meets
// faults is also given at least 16 tries. The default is 5 min, which covers a
// deployment or a restart. Zero ends a wait at its first fault.
//
// Until the client has had its first readable answer (one that the Endpoint reads as a
// Status, or as the jobs of a Submit), trouble is most likely a mistake in the set-up, such
// as a mistyped host. Then a wait ends after 30 s of it, or after the tolerance if that is
// shorter, and the time of the first request counts, too. One fault alone ends nothing: a
// first gap of WithRetry's that is longer than that is cut. A gap as long as the whole
// tolerance is kept, and then the wait ends at the third request. The error begins with
// the fault and gives the address that was asked. What can only be a mistake, such as a
// certificate for another host, ends the wait at once. The faults that OnError gets have
// the time that is left in Details.GivesUpIn.
func WithOutageTolerance(d time.Duration) Option {
	return func(cfg *config) {
		cfg.outageTolerance = d
		cfg.duration("WithOutageTolerance", d, d >= 0, "a duration of 0 or more")
	}
}

// WithMaxRetryAfter bounds the pauses that the server may ask for: with
// Retry-After, Retry-After-Ms or X-Ms-Retry-After-Ms on any answer, and on a 429 without
// these by the time at which its limit is lifted, as RateLimit, RateLimit-Reset,
// X-RateLimit-Reset and X-Rate-Limit-Reset have it. A longer pause on a pending answer is
// cut to the bound; on a fault it ends the wait or the call with an error that matches
// [ErrRetryAfter].
//
// The pause of a 429 holds all requests of the client; that of a 429 to a [Client.Submit]
// holds submissions only. A wait or a call that would be held for longer than this bound
// ends with the same error.
//
// The default is 10 min: longer pauses are mostly mistakes, and the caller should see them.
// A Status waits for 10 s at most, whatever this bound is.
func WithMaxRetryAfter(d time.Duration) Option {
	return func(cfg *config) {
		cfg.maxRetryAfter = d
		cfg.duration("WithMaxRetryAfter", d, d >= 0, "a duration of 0 or more")
	}
}

// WithMaxBody bounds an answer's body in bytes, after decompression. The
// default is 1 MiB, far above any status answer. A larger one is a *DecodeError
// that has an [*http.MaxBytesError] as its cause. Of an answer with a status code other than 2xx
// at most 64 KiB are read, and what goes beyond is left out.
func WithMaxBody(bytes int64) Option {
	return func(cfg *config) {
		cfg.forHTTP("WithMaxBody")
		if cfg.maxBody = bytes; bytes <= 0 || bytes == math.MaxInt64 {
			cfg.refuse("WithMaxBody", bytes, "a positive number of bytes below the largest int64")
		}
	}
}

// WithMaxInFlight bounds the client's requests in flight, those of Status and
// of waits together. The default is 64: enough for thousands of requests
// a second at usual latencies, and no burden for a server.
func WithMaxInFlight(n int) Option {
	return func(cfg *config) { cfg.maxInFlight = n; cfg.positive("WithMaxInFlight", n) }
}

// WithBreaker sets the circuit breaker; nil turns it off. The default is
// NewCircuitBreaker(BreakerConfig{}). A breaker may be shared by the clients of
// one backend.
func WithBreaker(b Breaker) Option {
	return func(cfg *config) {
		cfg.breakerSet, cfg.breaker = true, b
		if b != nil {
			cfg.part("WithBreaker", b)
		}
	}
}

// WithCache sets the cache of answers; nil turns it off. The default is
// NewMemoryCache[Status](1024). A cache serves one backend and one tenant: its
// keys are the bare job ids. In a MemoryCache the client keeps no answer of more
// than 32 KiB, so that a full one of 1024 entries is below 40 MiB whatever the
// backend sends.
func WithCache(cache Cache[Status]) Option {
	return func(cfg *config) {
		cfg.cacheSet, cfg.cache = true, cache
		if cache != nil {
			cfg.part("WithCache", cache)
		}
	}
}

// WithCacheTTL sets how long the cache holds an answer. The default is 1 s for
// a pending one, which takes the edge off a page that many reload, and 5 min
// for a terminal one, as result URLs expire. Zero keeps such answers out of the
// cache.
func WithCacheTTL(pending, terminal time.Duration) Option {
	return func(cfg *config) {
		cfg.pendingTTL, cfg.terminalTTL = pending, terminal
		cfg.duration("WithCacheTTL: pending", pending, pending >= 0, "a duration of 0 or more")
		cfg.duration("WithCacheTTL: terminal", terminal, terminal >= 0, "a duration of 0 or more")
	}
}

// WithLimiter sets a limiter of the request rate. There is none by default; nil
// means none.
func WithLimiter(l Limiter) Option {
	return func(cfg *config) {
		if cfg.limiter = l; l != nil {
			cfg.part("WithLimiter", l)
		}
	}
}

// WithLogger logs what the client does: faults, refusals by the breaker and cache
// failures at level Warn, the end of each wait at level Info, the rest at level Debug. Each
// fault is one line, with the number of its jobs where they shared the request. There is no
// logging by default. net/http itself writes to package log when a server sends what was not
// asked for, and quotes it, secrets included; log.SetOutput can stop that.
func WithLogger(l *slog.Logger) Option {
	return func(cfg *config) {
		if l == nil {
			cfg.refuse("WithLogger", words("nil"), "a *slog.Logger")
			return
		}
		cfg.traces = append(cfg.traces, logTrace(l))
	}
}

// WithTrace adds callbacks for what the client does.
func WithTrace(t Trace) Option { return func(cfg *config) { cfg.traces = append(cfg.traces, t) } }

// A WaitOption changes one Wait, Watch or WaitAll.
type WaitOption func(*waitConfig)

type waitConfig struct {
	job        Job // defaults for jobs that bring none of their own
	onProgress func(Status)
	onError    func(error)
	onOverdue  func(Status, Forecast)
	atMost     int // 0: no bound
	err        error
}

// OnProgress sets a function that gets each answer about a job, the last
// one included. It is called on the goroutine of the wait, one call at a time.
// While it runs, the job is not polled on behalf of this wait.
func OnProgress(f func(Status)) WaitOption { return func(wc *waitConfig) { wc.onProgress = f } }

// OnError sets a function that gets each fault that the wait survives, once; the error
// includes what happens next. It is called like OnProgress. The error that ends the wait
// is returned and not given to it.
func OnError(f func(error)) WaitOption { return func(wc *waitConfig) { wc.onError = f } }

// Expect gives the caller's estimate of the job's whole duration. The length of the video
// will do: a polling [Adaptive] learns by what factor jobs are longer or shorter, and what
// part of them is the same for all. Before that it centres on the estimate. For WaitAll
// it holds for the jobs that bring none of their own.
func Expect(d time.Duration) WaitOption {
	return func(wc *waitConfig) {
		wc.job.Expect = d
		wc.err = errors.Join(wc.err, badEstimate("Expect", d))
	}
}

// StartedAt sets the time when the job began. Such a job is known to exist: the schedule
// runs from the job's age, and the first poll is made when the schedule has it, or at once
// if that moment is past. Where the backend gives a start that is more
// than 2 s earlier, that one holds. A time in the future counts as now;
// the zero time means unknown. For WaitAll it holds for the jobs that bring
// none of their own.
func StartedAt(t time.Time) WaitOption { return func(wc *waitConfig) { wc.job.StartedAt = t } }

// AtMost makes WaitAll read the next job from its sequence only while fewer than n of
// the jobs read before are unfinished: for a backend that runs n jobs at a time, with a
// sequence that submits each job as it is read. A job is unfinished until its wait has
// ended, well or not. A sequence whose submission creates k jobs at once should ask for
// n-k+1. Once the context is done, no further job is read. n must be 1 or more. Wait and
// Watch, which wait for one job, refuse it.
func AtMost(n int) WaitOption {
	return func(wc *waitConfig) {
		if wc.atMost = n; n < 1 {
			wc.err = errors.Join(wc.err, badArgument("AtMost", n, "a number of 1 or more"))
		}
	}
}

// plainWait is the config of a wait without options. It is never written to.
var plainWait waitConfig

func newWaitConfig(opts []WaitOption) *waitConfig {
	if len(opts) == 0 {
		return &plainWait
	}
	wc := new(waitConfig)
	for i, opt := range opts {
		if opt == nil {
			wc.err = badArgument("wait options", words(fmt.Sprintf("nil as option %d", i+1)), "a WaitOption")
			return wc
		}
		opt(wc)
	}
	return wc
}
