package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// A storing is a foreign cache that keeps what it is given.
type storing struct {
	mu       sync.Mutex
	gets     int
	sets     []time.Duration
	contexts []context.Context
	kept     map[string]Status
	hang     time.Duration // Get takes so long, at most until its context ends
	err      error         // of Get
}

func (s *storing) Get(ctx context.Context, key string) (Status, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	s.contexts = append(s.contexts, ctx)
	if s.hang > 0 {
		select {
		case <-ctx.Done():
			return Status{}, false, ctx.Err()
		case <-time.After(s.hang):
		}
	}
	st, ok := s.kept[key]
	return st, ok, s.err
}

func (s *storing) Set(ctx context.Context, key string, st Status, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.contexts = append(s.contexts, ctx)
	s.sets = append(s.sets, ttl)
	if s.kept == nil {
		s.kept = make(map[string]Status)
	}
	s.kept[key] = st
	return nil
}

// A foreign cache is given each answer with its time to live, and asked before each request;
// its answer is marked as cached, and traced.
func TestAForeignCacheIsWrittenAndRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &storing{}
		var r recorder
		c, f := startFake(t, inTurn(pending, completed), WithCache(s), WithCacheTTL(2*time.Second, time.Hour), WithTrace(r.trace()))
		for i, want := range []State{StatePending, StatePending, StateCompleted, StateCompleted} {
			if i == 2 {
				delete(s.kept, "j")
			}
			st, err := c.Status(t.Context(), "j")
			if err != nil || st.State != want || st.JobID != "j" || st.Cached != (i%2 == 1) || (len(st.Body) > 0) != (want == StateCompleted) {
				t.Errorf("call %d: %+v, %v", i, st, err)
			}
		}
		if got := r.String(); got != "sent answered cached sent answered cached" {
			t.Error(got)
		}
		if i := r.last("cached"); i.JobID != "j" || i.State != StateCompleted || i.Err != nil {
			t.Errorf("%+v", i)
		}
		if !slices.Equal(s.sets, []time.Duration{2 * time.Second, time.Hour}) {
			t.Errorf("times to live %v", s.sets)
		}
		for _, ctx := range s.contexts {
			if ctx.Err() == nil {
				t.Error("the context of a call of the cache outlives the call")
			}
		}
		wantTimes(t, f.at("j"), 0, 0)
	})
}

// A time to live of zero keeps such answers out of a cache, foreign ones too.
func TestAZeroTimeToLiveKeepsAnswersOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &storing{}
		c, _ := startFake(t, inTurn(pending, completed), WithCache(s), WithCacheTTL(0, time.Hour))
		for range 2 {
			if _, err := c.Status(t.Context(), "j"); err != nil {
				t.Error(err)
			}
		}
		if !slices.Equal(s.sets, []time.Duration{time.Hour}) {
			t.Errorf("stored for %v", s.sets)
		}
	})
}

// A wait takes from a foreign cache only the last word on its job.
func TestAWaitTakesOnlyTheEndFromAForeignCache(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &storing{kept: map[string]Status{
			"pending": {JobID: "pending", State: StatePending, Progress: 0.5},
			"half":    {JobID: "half", State: StateCompleted, ResultMissing: true},
			"failed":  {JobID: "failed", State: StateFailed, Message: "no sound", Progress: 7},
		}}
		c, f := startFake(t, always(completed), WithCache(s))
		for id, cached := range map[string]bool{"pending": false, "half": false, "failed": true} {
			st, err := c.Wait(t.Context(), id)
			if st.Cached != cached || errors.Is(err, ErrJobFailed) != cached || (len(f.at(id)) == 0) != cached || st.Progress > 1 {
				t.Errorf("%s: %+v, %v, %d requests", id, st, err, len(f.at(id)))
			}
		}
	})
}

// A cache that hangs for as long as it may is left alone for 5 s; one that fails at once, or
// had less time than it may take, is asked again at the next call. Each of that is traced, but
// not that the caller left meanwhile.
func TestACacheThatHangsIsLeftAloneForAWhile(t *testing.T) {
	for _, tt := range []struct {
		name     string
		cache    *storing
		limit    time.Duration // of the first call
		leave    bool          // at a third of a second
		want     []int         // Gets after the calls at 0, 4.9, 5.3 s
		reported int
	}{
		{"it fails at once", &storing{err: io.ErrClosedPipe}, time.Hour, false, []int{1, 2, 3}, 3},
		{"it hangs", &storing{hang: time.Hour}, time.Hour, false, []int{1, 1, 2}, 2},
		{"it is slow, within its time", &storing{hang: 249 * time.Millisecond}, time.Hour, false, []int{1, 2, 3}, 0},
		{"it is slow, and fails", &storing{hang: 249 * time.Millisecond, err: io.ErrClosedPipe}, time.Hour, false, []int{1, 2, 3}, 3},
		{"the call had little time", &storing{hang: time.Hour}, 100 * time.Millisecond, false, []int{1, 2, 2}, 2},
		{"the caller left", &storing{hang: time.Hour}, time.Hour, true, []int{1, 2, 2}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var failures []TraceInfo
				c, _ := startFake(t, always(pending), WithCache(tt.cache), WithCacheTTL(0, 0), WithTrace(Trace{Cached: func(_ context.Context, i TraceInfo) {
					if i.Err != nil {
						failures = append(failures, i)
					}
				}}))
				start := time.Now()
				for i, at := range []time.Duration{0, 4900 * time.Millisecond, 5300 * time.Millisecond} {
					time.Sleep(time.Until(start.Add(at)))
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					if i == 0 {
						cancel()
						ctx, cancel = context.WithTimeout(t.Context(), tt.limit)
						if tt.leave {
							time.AfterFunc(100*time.Millisecond, cancel)
						}
					}
					st, err := c.Status(ctx, "j")
					if left := i == 0 && tt.leave; left != errors.Is(err, context.Canceled) || !left && (err != nil || st.Cached) {
						t.Errorf("call %d: %+v, %v", i, st, err)
					}
					cancel()
					if tt.cache.gets != tt.want[i] {
						t.Errorf("after call %d the cache was asked %d times, want %d", i, tt.cache.gets, tt.want[i])
					}
				}
				for _, f := range failures {
					if f.JobID != "j" || !strings.Contains(f.Err.Error(), `job "j": cache: `) {
						t.Errorf("reported %+v", f)
					}
				}
				if len(failures) != tt.reported {
					t.Errorf("reported: %d failures, want %d", len(failures), tt.reported)
				}
			})
		})
	}
}

// The 5 s end at the very moment.
func TestACacheThatHungIsAskedAgainInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &storing{hang: time.Hour}
		c, _ := startFake(t, always(pending), WithCache(s), WithCacheTTL(0, 0))
		for i, pause := range []time.Duration{0, 5*time.Second - 1, 1} {
			time.Sleep(pause)
			if _, err := c.Status(t.Context(), "j"); err != nil || s.gets != 1+i/2 {
				t.Errorf("call %d: asked %d times: %v", i, s.gets, err)
			}
		}
	})
}

// A Status whose context is done returns the context's error though the cache has the answer.
func TestADoneContextComesBeforeTheCache(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, opt := range []Option{WithCache(NewMemoryCache[Status](10)), WithCache(&storing{})} {
			c, _ := startFake(t, always(completed), opt)
			if _, err := c.Status(t.Context(), "j"); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if st, err := c.Status(ctx, "j"); !errors.Is(err, context.Canceled) || st.State != "" {
				t.Errorf("%+v, %v", st, err)
			}
		}
	})
}

// The cache keeps the newest pending answer; and in place of an answer that is
// too large for it nothing, the answer before that included.
func TestWhatTheCacheKeepsOfAWait(t *testing.T) {
	const most = 32 << 10
	body := func(state string, size int) string {
		s := fmt.Sprintf(`{"result":%q,"progress":0.7,"x":""}`, state)
		return strings.Replace(s, `""`, `"`+strings.Repeat("x", max(0, size-len(s)))+`"`, 1)
	}
	for _, tt := range []struct {
		name  string
		last  string // body that the wait sees second
		state State  // in the cache then; empty: none
		limit time.Duration
	}{
		{"a later pending answer", body("pending", 0), StatePending, 5 * time.Second},
		{"an end", body("completed", 0), StateCompleted, time.Hour},
		{"an end of the size that is allowed", body("completed", most), StateCompleted, time.Hour},
		{"a larger one", body("completed", most+1), "", time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := playing(body("pending", 0)[:len(`{"result":"pending"`)]+"}", tt.last)
				c := h.client(t, WithEndpoint(Endpoint{}), WithCache(NewMemoryCache[Status](10)), WithCacheTTL(time.Hour, time.Hour), WithPolling(Constant(2*time.Second)))
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				defer cancel()
				c.Wait(ctx, "j")
				before := len(h.times())
				st, err := c.Status(t.Context(), "j")
				if err != nil || st.Cached != (tt.state != "") || tt.state != "" && (st.State != tt.state || st.Progress != map[State]float64{StatePending: 0.7, StateCompleted: 1}[st.State]) || len(h.times()) != before+map[bool]int{true: 1}[tt.state == ""] {
					t.Errorf("cached %v, %s at %v, %v", st.Cached, st.State, st.Progress, err)
				}
			})
		})
	}
}

// The bound of what is kept counts the message as well.
func TestTheCacheCountsTheMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, over := range []int{0, 1} {
			calls := 0
			c, err := New("", WithFetch(func(context.Context, string) (Status, error) {
				calls++
				return Status{State: StateFailed, Message: strings.Repeat("m", 20<<10), Body: []byte(strings.Repeat("b", 12<<10+over))}, nil
			}))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if _, err := c.Status(t.Context(), "j"); err != nil {
					t.Error(err)
				}
			}
			if calls != 1+over {
				t.Errorf("%d bytes over the bound: %d calls", over, calls)
			}
		}
	})
}

// Pending for 1 s, terminal for 5 min, absent at the exact instant (property 35).
func TestTheCacheHoldsAnswersForTheirTime(t *testing.T) {
	for _, tt := range []struct {
		step testserver.Step
		ttl  time.Duration
	}{{testserver.Pending(), time.Second}, {testserver.Completed(), 5 * time.Minute}, {testserver.Failed("x"), 5 * time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			s := testserver.StartInMemory(t, tt.step)
			c := clientFor(t, s)
			first, err := c.Status(t.Context(), "j")
			if err != nil || first.Cached {
				t.Fatal(err)
			}
			time.Sleep(tt.ttl - 1)
			st, err := c.Status(t.Context(), "j")
			if err != nil || !st.Cached || st.State != first.State || !st.CheckedAt.Equal(first.CheckedAt) || len(s.Requests()) != 1 {
				t.Errorf("%+v, %v, %d requests", st, err, len(s.Requests()))
			}
			time.Sleep(time.Nanosecond)
			if st, err := c.Status(t.Context(), "j"); err != nil || st.Cached || len(s.Requests()) != 2 {
				t.Errorf("at the instant: %+v, %v", st, err)
			}
		})
	}
}

func TestWithoutCacheAndBreakerEachStatusIsARequest(t *testing.T) {
	s := testserver.Start(t, testserver.Times(2, testserver.Completed()), testserver.Reply(500, ""))
	c := clientFor(t, s, WithCache(nil), WithBreaker(nil), once())
	for i := range 20 {
		st, err := c.Status(t.Context(), "j")
		if st.Cached || (err == nil) != (i < 2) || errors.Is(err, ErrBreakerOpen) {
			t.Error(i, st, err)
		}
	}
	if n := len(s.Requests()); n != 20 {
		t.Errorf("%d requests", n)
	}
}

// fakeCache answers Get by a function and drops what is set.
type fakeCache func(ctx context.Context, key string) (Status, bool, error)

func (f fakeCache) Get(ctx context.Context, key string) (Status, bool, error) {
	return f(ctx, key)
}

func (f fakeCache) Set(ctx context.Context, key string, _ Status, _ time.Duration) error {
	_, _, err := f(ctx, key)
	return err
}

// Property 37: a cache that errors, hangs or returns garbage is reported and is a miss.
func TestABadCacheIsAMiss(t *testing.T) {
	hang := func(ctx context.Context, _ string) (Status, bool, error) {
		<-ctx.Done()
		return Status{}, false, ctx.Err()
	}
	full := NewMemoryCache[Status](10)
	full.Set(context.Background(), "j", Status{JobID: "other", State: "completed"}, time.Hour)
	full.Set(context.Background(), "k", Status{JobID: "k", State: "strange"}, time.Hour)
	for _, tt := range []struct {
		name  string
		cache Cache[Status]
		most  time.Duration
		tell  bool
	}{
		{"errors", brokenCache{}, 0, true},
		{"hangs", fakeCache(hang), 250 * time.Millisecond, true},
		{"another job's status", fakeCache(func(context.Context, string) (Status, bool, error) {
			return Status{JobID: "other", State: "completed"}, true, nil
		}), 0, true},
		{"a state that is none", fakeCache(func(_ context.Context, k string) (Status, bool, error) {
			return Status{JobID: k, State: "strange"}, true, nil
		}), 0, true},
		{"garbage in our own", full, 0, false},
	} {
		for _, traced := range []bool{true, false} {
			t.Run(fmt.Sprint(tt.name, " ", traced), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := testserver.StartInMemory(t, testserver.Pending())
					var r recorder
					opts := []Option{WithCache(tt.cache), WithCacheTTL(0, 0)}
					if traced {
						opts = append(opts, WithTrace(r.trace()))
					}
					c := clientFor(t, s, opts...)
					start := time.Now()
					for _, id := range []string{"j", "k", "j"} { // a cache that hung is left alone for a while
						if st, err := c.Status(t.Context(), id); err != nil || st.Cached || st.State != "pending" {
							t.Error(st, err)
						}
					}
					if took := time.Since(start); took != tt.most {
						t.Errorf("took %v, want %v", took, tt.most)
					}
					if tt.tell && traced && r.last("cached").Err == nil {
						t.Error("not reported")
					}
				})
			})
		}
	}
	t.Run("a short deadline is not used up by a cache that hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := clientFor(t, testserver.StartInMemory(t, testserver.Pending()), WithCache(fakeCache(hang)))
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := c.Status(ctx, "j"); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("the caller leaves while it hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := stubbed(t, func(r *http.Request) (*http.Response, error) { t.Error("sent"); return nil, io.EOF }, WithCache(fakeCache(hang)))
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			start := time.Now()
			if _, err := c.Status(ctx, "j"); !errors.Is(err, context.Canceled) || time.Since(start) != time.Millisecond {
				t.Error(err, time.Since(start))
			}
		})
	})
}

// partOf returns a part of a text of a mebibyte, which it keeps alive.
func partOf(text string) string {
	large := strings.Repeat("x", 1<<20) + text
	return large[1<<20:]
}

// live returns the bytes of the heap that something refers to.
func live() int64 {
	runtime.GC()
	runtime.GC() // what a pool holds goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// An ownError has a text that it composes when it is asked for.
type ownError struct{}

func (ownError) Error() string { return strings.Repeat("no ", 1<<18) }

// Property 71: bounds are on what is kept alive. A message, a state word, an id, a key, a body
// or the text of an error that is a part of a mebibyte keeps none of the rest of it: not in
// the cache, not for a job that is waited for, not in the error that a caller keeps, and not
// in what the client itself remembers of a fault.
func TestWhatIsKeptIsNoPartOfALargerText(t *testing.T) {
	const jobs, bound = 24, 24 << 10 // bytes a job

	decode := func(make func() Status) Option {
		return WithEndpoint(Endpoint{Path: "/{id}", Decode: func(Answer) (Status, error) { return make(), nil }})
	}
	fetch := func(make func() (Status, error)) Option {
		return WithFetch(func(context.Context, string) (Status, error) { return make() })
	}
	plain := WithMaxInFlight(1) // in turn, so that what is in flight does not count
	pending := func(message string) Status {
		return Status{State: StatePending, Message: message}
	}
	failed := func(message string) Status {
		return Status{State: StateFailed, Message: message, Body: []byte(`{}`)}
	}
	short := func(i int) string { return fmt.Sprint("job-", i) }
	part := func(i int) string { return partOf(fmt.Sprint("job-", i)) }
	shared := WithEndpoint(Endpoint{Bulk: Bulk{Path: "/all?ids={ids}", Decode: func(a Answer) (all []Status, _ string, err error) {
		for i := range jobs {
			body := append(make([]byte, 1<<20), `{}`...)
			st := Status{JobID: part(i), State: State(partOf("pending")), Message: partOf("at work")}
			if i%2 == 0 {
				st.State, st.Body = State(partOf("completed")), json.RawMessage(body[1<<20:])
			}
			all = append(all, st)
		}
		return all, "", nil
	}}})

	for _, tt := range []struct {
		rule  string
		with  Option
		body  string // of the answers; with a code
		code  int
		id    func(i int) string
		waits bool // else a Status each
	}{
		{"a message, in the cache", decode(func() Status { return failed(partOf("it broke")) }), "", 200, short, false},
		{"a message of a pending job, in the cache", decode(func() Status { return pending(partOf("at work")) }), "", 200, short, false},
		{"a state word, in the cache", decode(func() Status { return Status{State: State(partOf("completed"))} }), "", 200, short, false},
		{"an unknown state word, in an error", decode(func() Status { return Status{State: State(partOf("odd"))} }), "", 200, short, false},
		{"an id, in the cache", plain, `{"result":"completed"}`, 200, part, false},
		{"an id in a query, in the cache", WithEndpoint(Endpoint{Path: "/?id={id}"}), `{"result":"completed"}`, 200, part, false},
		{"an id, in an error", plain, `nothing`, 503, part, false},
		{"a message, of a job that is waited for", decode(func() Status { return pending(partOf("at work")) }), "", 200, short, true},
		{"an id, of a job that is waited for", plain, `{"result":"pending"}`, 200, part, true},
		{"an id, of a job that meets faults", plain, `nothing`, 503, part, true},
		{"what a function returns, in the cache", fetch(func() (Status, error) {
			body := append(make([]byte, 1<<20), `{"a":1}`...)
			return Status{State: State(partOf("completed")), Message: partOf("done"), Body: json.RawMessage(body[1<<20:])}, nil
		}), "", 0, part, false},
		{"what a function returns, of a job that is waited for", fetch(func() (Status, error) {
			return Status{State: State(partOf("pending")), Message: partOf("at work"), Body: make([]byte, 1<<20)}, nil
		}), "", 0, part, true},
		{"the text of an error of a function", fetch(func() (Status, error) { return Status{}, ownError{} }), "", 0, short, true},
		{"the same, in the error of a Status", fetch(func() (Status, error) { return Status{}, ownError{} }), "", 0, short, false},
		{"an unknown state word of a function", fetch(func() (Status, error) {
			return Status{State: State(partOf("odd"))}, nil
		}), "", 0, short, false},
		{"ids, states, messages and bodies of a shared answer", shared, ``, 200, short, true},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := []Option{tt.with, WithCacheTTL(time.Hour, time.Hour), WithBreaker(nil),
					WithPolling(Constant(time.Hour)), WithRetry(Exponential{Base: time.Minute, Limit: 1})}
				if tt.code > 0 {
					opts = append(opts, WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
						return respond(r, tt.code, tt.body), nil
					})}))
				}
				base := "http://h"
				c, err := New(base, opts...)
				if err != nil {
					t.Fatal(err)
				}
				before := live()
				ctx, leave := context.WithCancel(t.Context())
				errs := make([]error, jobs)
				var wg sync.WaitGroup
				for i := range jobs {
					if !tt.waits {
						_, errs[i] = c.Status(ctx, tt.id(i))
						continue
					}
					job := one(tt.id(i)) // a Wait would have the id on its stack
					wg.Go(func() {
						for range c.WaitAll(ctx, job) {
						}
					})
				}
				synctest.Wait()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				kept := (live() - before) / jobs
				if kept > bound {
					t.Errorf("%d bytes a job are kept, want at most %d", kept, bound)
				}
				leave()
				wg.Wait()
				runtime.KeepAlive(errs)
				runtime.KeepAlive(c)
			})
		})
	}
}

// one yields a job, and does not hold its id afterwards.
func one(id string) func(func(Job) bool) {
	return func(yield func(Job) bool) {
		job := Job{ID: id}
		id = ""
		yield(job)
	}
}

// The client's own memory of a 429 keeps nothing of the id that met it, and a MemoryCache
// keeps nothing of what a key is a part of.
func TestWhatTheClientAndTheCacheRemember(t *testing.T) {
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 429, "", "Retry-After: 3600"), nil },
		WithCache(nil), WithBreaker(nil))
	cache := NewMemoryCache[int](100)
	before := live()
	if _, err := c.Status(t.Context(), partOf("j")); !errors.Is(err, ErrRetryAfter) {
		t.Fatal(err)
	}
	if kept := live() - before; kept > 64<<10 {
		t.Errorf("%d bytes are kept of a 429", kept)
	}
	for i := range 20 {
		for range 2 { // a new key, and one that is there
			cache.Set(t.Context(), partOf(fmt.Sprint(i)), i, time.Hour)
		}
	}
	if kept := live() - before; kept > 128<<10 {
		t.Errorf("%d bytes are kept for 20 keys", kept)
	}
	runtime.KeepAlive(c)
	runtime.KeepAlive(cache)
}

// A full cache is below its bound with the largest answers that it keeps, however their sizes
// fall: the longest ids, and messages beside the bodies.
func TestAFullCacheIsBelowItsBound(t *testing.T) {
	const entries = 1024
	for name, split := range map[string]int{"bodies alone": 0, "messages that take what is left": 4095, "halves": 16<<10 - 64} {
		answer, err := json.Marshal(map[string]string{"result": "error", "message": strings.Repeat("m", split)})
		if err != nil {
			t.Fatal(err)
		}
		// The body has the message in it: together they are as long as the cache allows.
		answer = append(answer, strings.Repeat(" ", max(0, 32<<10-split-len(answer)))...)
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, string(answer)), nil })
		before := live()
		for i := range entries {
			if _, err := c.Status(t.Context(), fmt.Sprintf("%02048d", i)); err != nil {
				t.Fatal(err)
			}
		}
		kept := live() - before
		if kept > 40<<20 || split == 0 && kept < 32<<20 {
			t.Errorf("%s: %d KiB are kept, want at most 40 MiB", name, kept>>10)
		}
		runtime.KeepAlive(c)
	}
}
