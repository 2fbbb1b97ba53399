package contract_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
)

// A failing limiter lets requests through once it has failed a number of times.
type failingLimiter struct {
	mu   sync.Mutex
	left int
}

func (l *failingLimiter) Wait(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left--; l.left >= 0 {
		return errors.New("no tokens")
	}
	return nil
}

// Each fault is one line of the log at level Warn, whatever it is and whichever event has it
// first; where jobs share the request the line has their number, or the error has it. Each
// job's OnError gets it once.
func TestEachFaultIsLoggedOnce(t *testing.T) {
	trouble := func(r *http.Request) (*http.Response, error) { return respond(r, 503, ""), nil }
	for _, tt := range []struct {
		rule string
		jobs int
		fail func(r *http.Request) (*http.Response, error) // the first request; nil: it is answered
		opts func(failures int) []vtclient.Option
		line string
	}{
		{"an answer", 1, trouble, nil, `msg="vtclient: exchange" job=a attempt=1 status_code=503 error=`},
		{"no answer", 1, func(*http.Request) (*http.Response, error) { return nil, errors.New("cut") }, nil, `msg="vtclient: exchange" job=a attempt=1 error=`},
		{"a shared answer", 3, trouble, nil, `msg="vtclient: exchange" job=a attempt=1 jobs=3 status_code=503 error=`},
		{"a limiter", 1, nil, func(n int) []vtclient.Option {
			return []vtclient.Option{vtclient.WithLimiter(&failingLimiter{left: n})}
		},
			`msg="vtclient: next request scheduled" job=a attempt=2 delay=1s error=`},
		{"a limiter, of a shared request", 3, nil, func(n int) []vtclient.Option {
			return []vtclient.Option{vtclient.WithLimiter(&failingLimiter{left: n})}
		},
			`for 3 jobs at once`},
		{"a function given to WithRequest", 1, nil, func(n int) []vtclient.Option {
			l := &failingLimiter{left: n}
			return []vtclient.Option{vtclient.WithRequest(func(r *http.Request) error { return l.Wait(r.Context()) })}
		}, `msg="vtclient: next request scheduled" job=a attempt=2 delay=1s error=`},
		{"a refusal", 1, nil, func(n int) []vtclient.Option {
			return []vtclient.Option{vtclient.WithBreaker(&refusing{left: n})}
		}, `msg="vtclient: refused by breaker" job=a attempt=1 error=`},
		{"a refusal of a shared request", 3, nil, func(n int) []vtclient.Option {
			return []vtclient.Option{vtclient.WithBreaker(&refusing{left: n})}
		}, `msg="vtclient: refused by breaker" job=a attempt=1 jobs=3 error=`},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log lockedBuilder
				var made sync.Once
				opts := []vtclient.Option{every(time.Second, 5), vtclient.WithCache(nil),
					vtclient.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))}
				bulk := vtclient.Bulk{Path: "/all?ids={ids}", Decode: func(a vtclient.Answer) (all []vtclient.Status, _ string, err error) {
					for _, id := range strings.Split("a,b,c", ",") {
						all = append(all, vtclient.Status{JobID: id, State: vtclient.StateCompleted, Body: []byte(`{}`)})
					}
					return all, "", nil
				}}
				if tt.jobs > 1 {
					opts = append(opts, vtclient.WithEndpoint(vtclient.Endpoint{Bulk: bulk}))
				}
				if tt.opts != nil {
					opts = append(opts, tt.opts(1)...)
				}
				c := stubbed(t, func(r *http.Request) (resp *http.Response, err error) {
					failed := false
					made.Do(func() {
						if tt.fail != nil {
							failed = true
							resp, err = tt.fail(r)
						}
					})
					if failed {
						return resp, err
					}
					return respond(r, 200, `{"result":"completed"}`), nil
				}, opts...)
				heard := map[string]int{}
				onError := vtclient.OnError(func(err error) {
					for _, id := range []string{"a", "b", "c"} {
						if strings.Contains(err.Error(), `job "`+id+`"`) {
							heard[id]++
						}
					}
				})
				for st, err := range c.WaitAll(t.Context(), vtclient.Jobs([]string{"a", "b", "c"}[:tt.jobs]...), onError) {
					if err != nil {
						t.Error(st, err)
					}
				}
				var warned []string
				for line := range strings.Lines(log.String()) {
					if strings.Contains(line, "level=WARN") {
						warned = append(warned, line)
					} else if strings.Contains(line, "error=") {
						t.Errorf("an error at another level: %s", line)
					}
				}
				if len(warned) != 1 || !strings.Contains(warned[0], tt.line) {
					t.Errorf("logged\n%swant one line with %s", strings.Join(warned, ""), tt.line)
				}
				refusal := strings.Contains(tt.rule, "refusal") // no fault of the backend's
				for _, id := range []string{"a", "b", "c"}[:tt.jobs] {
					if want := map[bool]int{false: 1}[refusal]; heard[id] != want {
						t.Errorf("OnError of %q was called %d times, want %d", id, heard[id], want)
					}
				}
			})
		})
	}
}

// The same for the tries of a Status.
func TestEachFaultOfAStatusIsLoggedOnce(t *testing.T) {
	for _, tt := range []struct {
		rule string
		opts []vtclient.Option
		code int
		line string
	}{
		{"an answer", nil, 503, `msg="vtclient: exchange" job=a attempt=1 status_code=503 error=`},
		{"a limiter", []vtclient.Option{vtclient.WithLimiter(&failingLimiter{left: 1})}, 200, `msg="vtclient: next request scheduled" job=a attempt=2 delay=1s error=`},
	} {
		synctest.Test(t, func(t *testing.T) {
			var log lockedBuilder
			n := 0
			c := stubbed(t, func(r *http.Request) (*http.Response, error) {
				if n++; n == 1 && tt.code != 200 {
					return respond(r, tt.code, ""), nil
				}
				return respond(r, 200, `{"result":"completed"}`), nil
			}, append(tt.opts, every(time.Second, 5), vtclient.WithCache(nil), vtclient.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))...)
			if _, err := c.Status(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, tt.line) {
				t.Errorf("%s: logged\n%swant one line with %s", tt.rule, got, tt.line)
			}
		})
	}
}

// refusing is a breaker that refuses a number of requests.
type refusing struct {
	mu   sync.Mutex
	left int
}

func (b *refusing) Allow() (func(error), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left--; b.left >= 0 {
		return nil, errors.New("not now")
	}
	return func(error) {}, nil
}

// A lockedBuilder is a strings.Builder for several goroutines.
type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
