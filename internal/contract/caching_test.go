package contract_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
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

// Design, Cache and Wait's numbers: pending for 1 s, terminal for 5 min, absent at the exact instant (property 35).
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
