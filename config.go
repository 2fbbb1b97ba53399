package vtclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/vtclient/vtclient/internal/unit"
)

// The defaults of a client, each with its unit and reason in the comment of
// the option that changes it.
const (
	defaultTimeout         = 10 * time.Second
	defaultOutageTolerance = 5 * time.Minute
	defaultMaxRetryAfter   = 10 * time.Minute
	defaultMaxBody         = 1 << 20
	defaultMaxInFlight     = 64
	defaultCacheEntries    = 1024
	defaultPendingTTL      = time.Second
	defaultTerminalTTL     = 5 * time.Minute
)

// A client learns from its own jobs: a new Adaptive for each.
func defaultPolling() Backoff { return NewAdaptive(time.Second) }

var defaultRetry = Exponential{Base: 500 * time.Millisecond, Max: 30 * time.Second, Multiplier: 2, Jitter: 0.5, Limit: 4}

type config struct {
	httpClient      *http.Client
	endpoint        Endpoint
	fetch           func(context.Context, string) (Status, error)
	overHTTP        []string // the options given that shape what goes over HTTP
	header          http.Header
	prepare         []func(*http.Request) error
	timeout         time.Duration
	polling, retry  Backoff
	outageTolerance time.Duration
	maxRetryAfter   time.Duration
	maxBody         int64
	maxInFlight     int
	breaker         Breaker
	breakerSet      bool
	cache           Cache[Status]
	cacheSet        bool
	pendingTTL      time.Duration
	terminalTTL     time.Duration
	limiter         Limiter
	traces          tracer
	errs            []error
}

// forHTTP notes that an option was given that means nothing without HTTP.
func (cfg *config) forHTTP(option string) {
	if !slices.Contains(cfg.overHTTP, option) {
		cfg.overHTTP = append(cfg.overHTTP, option)
	}
}

func (cfg *config) refuse(where string, value any, expected string) {
	cfg.errs = append(cfg.errs, badArgument(where, value, expected))
}

// leastDuration is the shortest duration above zero that an option or a field takes. No
// exchange, pause or gap between two is shorter: what is can only be a number that lacks
// its unit, such as the 10 of WithTimeout(10), which is ten nanoseconds, or a day in seconds.
const leastDuration = 100 * time.Microsecond

// badDuration returns an error if a duration is not ok, for what is expected, or is a
// number that lacks its unit; otherwise nil.
func badDuration(where string, d time.Duration, ok bool, expected string) error {
	if !ok {
		return badArgument(where, d, expected)
	}
	if want := unit.Missing(d, leastDuration); want != "" {
		return badArgument(where, d, want)
	}
	return nil
}

// badEstimate returns an error if d is no estimate of a job's duration.
func badEstimate(where string, d time.Duration) error {
	return badDuration(where, d, d >= 0, "a duration of 0 or more")
}

func (cfg *config) positive(where string, n int) {
	if n <= 0 {
		cfg.refuse(where, n, "a positive value")
	}
}

// duration refuses what badDuration refuses.
func (cfg *config) duration(where string, d time.Duration, ok bool, expected string) {
	if err := badDuration(where, d, ok, expected); err != nil {
		cfg.errs = append(cfg.errs, err)
	}
}

// isNil also sees the nil pointer inside a non-nil interface value, which
// would panic at first use, far from the option that brought it in.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Chan:
		return r.IsNil()
	}
	return false
}

// part checks a part that the caller plugged in, and the fields of the library's own.
func (cfg *config) part(where string, v any) {
	if isNil(v) {
		what := "nil"
		if v != nil {
			what = fmt.Sprintf("a nil %T", v)
		}
		cfg.refuse(where, words(what), "a value that is not nil")
		return
	}
	if p, ok := v.(interface{ validate() error }); ok {
		if err := p.validate(); err != nil {
			cfg.errs = append(cfg.errs, within(where, err))
		}
	}
}

// within adds to an ArgumentError, or to each of several, which option it came
// in by.
func within(where string, err error) error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		errs := slices.Clone(all.Unwrap())
		for i := range errs {
			errs[i] = within(where, errs[i])
		}
		return errors.Join(errs...)
	}
	a := err.(*ArgumentError)
	return &ArgumentError{Where: where + ": " + a.Where, Value: a.Value, Expected: a.Expected}
}

func newConfig(opts []Option) (*config, error) {
	cfg := &config{
		polling:         defaultPolling(),
		retry:           defaultRetry,
		timeout:         defaultTimeout,
		outageTolerance: defaultOutageTolerance,
		maxRetryAfter:   defaultMaxRetryAfter,
		maxBody:         defaultMaxBody,
		maxInFlight:     defaultMaxInFlight,
		pendingTTL:      defaultPendingTTL,
		terminalTTL:     defaultTerminalTTL,
	}
	for i, opt := range opts {
		if opt == nil {
			cfg.refuse("New", words(fmt.Sprintf("nil as option %d", i+1)), "an Option")
			continue
		}
		opt(cfg)
	}
	if cfg.fetch != nil {
		for _, option := range cfg.overHTTP {
			cfg.refuse(option, words("WithFetch beside it"), "only one of the two: with WithFetch, nothing goes over HTTP")
		}
	}
	if !cfg.breakerSet {
		cfg.breaker = NewCircuitBreaker(BreakerConfig{})
	}
	if !cfg.cacheSet {
		cfg.cache = NewMemoryCache[Status](defaultCacheEntries)
	}
	return cfg, errors.Join(cfg.errs...)
}
