package contract_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
	"github.com/vtclient/vtclient/simserver"
)

// A fakeBackend is a backend inside the transport: it records exactly when a request was made,
// and is quick enough for 100,000 jobs.
type fakeBackend struct {
	answer func(id string, n int, at time.Duration) fakeReply // n counts the job's requests from 1

	mu    sync.Mutex
	start time.Time
	seen  map[string][]time.Duration // when the requests for a job were made
	all   []time.Duration
	late  int // requests whose context was done when they were made
	open  int // requests in flight
	peak  int
}

type fakeReply struct {
	state      string        // "" is pending
	code       int           // if not 200
	retryAfter time.Duration // 0: none
	takes      time.Duration
	err        error
	panics     any
}

var (
	pending   = fakeReply{}
	completed = fakeReply{state: "completed"}
)

func (f *fakeBackend) RoundTrip(r *http.Request) (*http.Response, error) {
	id, err := url.PathUnescape(strings.TrimPrefix(strings.TrimPrefix(r.URL.EscapedPath(), "/status"), "/"))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	f.mu.Lock()
	at := now.Sub(f.start)
	if d, ok := r.Context().Deadline(); r.Context().Err() != nil || ok && !now.Before(d) {
		f.late++
	}
	f.seen[id] = append(f.seen[id], at)
	f.all = append(f.all, at)
	n := len(f.seen[id])
	f.open++
	f.peak = max(f.peak, f.open)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
	}()
	re := f.answer(id, n, at)
	if re.takes > 0 {
		select {
		case <-time.After(re.takes):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if re.panics != nil {
		panic(re.panics)
	}
	if re.err != nil {
		return nil, re.err
	}
	if re.code == 0 {
		re.code = 200
	}
	if re.state == "" {
		re.state = "pending"
	}
	h := http.Header{}
	if re.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(re.retryAfter/time.Second)))
	}
	body := `{"result":"` + re.state + `"}`
	return &http.Response{
		StatusCode: re.code, Header: h, Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}, nil
}

// at returns when the requests for a job were made.
func (f *fakeBackend) at(id string) []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen[id])
}

func (f *fakeBackend) total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.all)
}

// rate is the most requests that were made within any time d.
func (f *fakeBackend) rate(d time.Duration) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.Sorted(slices.Values(f.all))
	most, from := 0, 0
	for i, at := range all {
		for at-all[from] >= d {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// startFake returns a client with a constant cadence, with neither cache nor breaker unless opts say otherwise.
func startFake(t testing.TB, answer func(id string, n int, at time.Duration) fakeReply, opts ...Option) (*Client, *fakeBackend) {
	t.Helper()
	f := &fakeBackend{answer: answer, start: time.Now(), seen: map[string][]time.Duration{}}
	opts = append([]Option{
		WithHTTPClient(&http.Client{Transport: f}), WithCache(nil), WithBreaker(nil),
		WithPolling(Constant(10 * time.Second)), WithRetry(Constant(time.Second)),
	}, opts...)
	c, err := New("http://backend.invalid", opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c, f
}

// doneAt answers pending until the time d from the start, and completed from then on.
func doneAt(d time.Duration) func(string, int, time.Duration) fakeReply {
	return func(_ string, _ int, at time.Duration) fakeReply {
		if at < d {
			return pending
		}
		return completed
	}
}

func always(re fakeReply) func(string, int, time.Duration) fakeReply {
	return func(string, int, time.Duration) fakeReply { return re }
}

// inTurn answers the k-th request for each job with the k-th reply, and all further ones with the last.
func inTurn(replies ...fakeReply) func(string, int, time.Duration) fakeReply {
	return func(_ string, n int, _ time.Duration) fakeReply { return replies[min(n, len(replies))-1] }
}

func seconds(s ...float64) (ds []time.Duration) {
	for _, s := range s {
		ds = append(ds, time.Duration(s*float64(time.Second)))
	}
	return ds
}

func wantTimes(t *testing.T, got []time.Duration, want ...float64) {
	t.Helper()
	if w := seconds(want...); !slices.Equal(got, w) {
		t.Errorf("requests at %v, want %v", got, w)
	}
}

// bubble runs a test in virtual time. If goroutines or timers were left, synctest fails it.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// Property 10 and the section Wait: checks at once.
func TestWaitReturnsFinishedJobAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Completed())
		c, _ := New(s.URL(), WithHTTPClient(s.Client()))
		start := time.Now()
		st, err := c.Wait(t.Context(), "a")
		if err != nil || st.State != StateCompleted || st.JobID != "a" || len(st.Body) == 0 || !st.CheckedAt.Equal(start) {
			t.Errorf("Wait = %+v, %v", st, err)
		}
		if d := time.Since(start); d != 0 || len(s.Requests()) != 1 {
			t.Errorf("took %v and %d requests", d, len(s.Requests()))
		}
	})
}

// Property 16: what is final ends a wait at once.
func TestWaitEndsAtOnceWhenTheAnswerIsFinal(t *testing.T) {
	for _, code := range []int{400, 401, 403, 410, 422} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, f := startFake(t, inTurn(pending, fakeReply{code: code}))
				start := time.Now()
				st, err := c.Wait(t.Context(), "a")
				var h *HTTPError
				if !errors.As(err, &h) || h.StatusCode != code || h.Attempt != 2 || h.JobID != "a" {
					t.Errorf("Wait = %v", err)
				}
				if st.State != StatePending || st.JobID != "a" || !st.CheckedAt.Equal(start) {
					t.Errorf("the Status is %+v, not the last one seen", st)
				}
				wantTimes(t, f.at("a"), 0, 10)
			})
		})
	}
	t.Run("with no answer before", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, always(fakeReply{code: 404}))
			if st, err := c.Wait(t.Context(), "a"); err == nil || !reflect.DeepEqual(st, Status{JobID: "a"}) {
				t.Errorf("Wait = %+v, %v", st, err)
			}
		})
	})
	t.Run("a failed job, its Status filled in", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s := testserver.StartInMemory(t, testserver.Pending(), testserver.Failed("out of frames"))
			c, _ := New(s.URL(), WithHTTPClient(s.Client()))
			st, err := c.Wait(t.Context(), "a")
			var j *JobError
			if !errors.Is(err, ErrJobFailed) || !errors.As(err, &j) || !reflect.DeepEqual(j.Status, st) ||
				st.State != StateFailed || st.Message != "out of frames" {
				t.Errorf("Wait = %+v, %v", st, err)
			}
		})
	})
}

// Property 20, and ids that cannot be asked about: refused, with nothing sent.
func TestWaitRefusesBadArguments(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(completed))
		ctx := t.Context()
		for _, tt := range []struct {
			name, id string
			opt      WaitOption
		}{
			{"a dot as id", "..", OnProgress(nil)},
			{"a nil option", "a", nil},
			{"a negative estimate", "a", Expect(-1)},
		} {
			check := func(call string, err error) {
				var a *ArgumentError
				if !errors.As(err, &a) {
					t.Errorf("%s with %s: %v", call, tt.name, err)
				}
			}
			_, err := c.Wait(ctx, tt.id, tt.opt)
			check("Wait", err)
			n := 0
			for _, err := range c.Watch(ctx, tt.id, tt.opt) {
				check("Watch", err)
				n++
			}
			for _, err := range c.WaitAll(ctx, Jobs(tt.id), tt.opt) {
				check("WaitAll", err)
				n++
			}
			if n != 2 {
				t.Errorf("%s: yielded %d times", tt.name, n)
			}
		}
		for _, err := range c.WaitAll(ctx, nil) {
			var a *ArgumentError
			if !errors.As(err, &a) {
				t.Errorf("WaitAll of a nil sequence: %v", err)
			}
		}
		if f.total() != 0 {
			t.Errorf("%d requests", f.total())
		}
	})
}

// The schedule, on the wire, with and without a known start.
func TestWaitKeepsToTheSchedule(t *testing.T) {
	for _, tt := range []struct {
		name    string
		started time.Duration // before now; 0: not given
		done    float64
		want    []float64
	}{
		{"no start known: at once, then every interval", 0, 35, []float64{0, 10, 20, 30, 40}},
		{"done between two polls is seen at the next", 0, 30.001, []float64{0, 10, 20, 30, 40}},
		{"done exactly when polled is seen", 0, 30, []float64{0, 10, 20, 30}},
		{"a start that is past by part of an interval", 4 * time.Second, 20, []float64{6, 16, 26}},
		{"a start exactly one interval past: now", 10 * time.Second, 20, []float64{0, 10, 20}},
		{"a start long past: now", time.Hour, 20, []float64{0, 10, 20}},
		{"a start centuries past: now", 200 * 365 * 24 * time.Hour, 20, []float64{0, 10, 20}},
		{"a start in the future counts as now", -time.Hour, 20, []float64{10, 20}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				start := time.Now()
				done := seconds(tt.done)[0]
				s := testserver.StartInMemory(t, testserver.Handler(func(w http.ResponseWriter, _ *http.Request) {
					state := "pending"
					if time.Since(start) >= done {
						state = "completed"
					}
					fmt.Fprintf(w, `{"result":%q}`, state)
				}))
				c, _ := New(s.URL(), WithHTTPClient(s.Client()), WithPolling(Constant(10*time.Second)))
				var opts []WaitOption
				if tt.started != 0 {
					opts = append(opts, StartedAt(start.Add(-tt.started)))
				}
				st, err := c.Wait(t.Context(), "a", opts...)
				if err != nil || st.State != StateCompleted {
					t.Errorf("Wait = %v, %v", st, err)
				}
				var at []time.Duration
				for _, r := range s.Requests() {
					at = append(at, r.Time.Sub(start))
				}
				wantTimes(t, at, tt.want...)
				if d := time.Since(start); d != at[len(at)-1] {
					t.Errorf("returned at %v, after the last request at %v", d, at[len(at)-1])
				}
			})
		})
	}
	t.Run("the zero time as start means unknown", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, doneAt(10*time.Second))
			if _, err := c.Wait(t.Context(), "a", StartedAt(time.Time{})); err != nil {
				t.Error(err)
			}
			wantTimes(t, f.at("a"), 0, 10)
		})
	})
}

type backoffFunc func(Attempt) (time.Duration, bool)

func (f backoffFunc) Next(a Attempt) (time.Duration, bool) { return f(a) }

// What a Backoff gets, polling and retrying.
func TestTheAttemptDescribesTheWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var polls, retries []Attempt
		c, f := startFake(t, func(_ string, n int, _ time.Duration) fakeReply {
			switch n {
			case 3, 4:
				return fakeReply{code: 503, takes: time.Second}
			case 6:
				return completed
			}
			return fakeReply{takes: time.Second}
		}, WithPolling(backoffFunc(func(a Attempt) (time.Duration, bool) {
			polls = append(polls, a)
			return 10 * time.Second, true
		})), WithRetry(backoffFunc(func(a Attempt) (time.Duration, bool) {
			retries = append(retries, a)
			return 3 * time.Second, true
		})))
		_, err := c.Wait(t.Context(), "a", StartedAt(time.Now().Add(-4*time.Second)), Expect(time.Hour))
		if err != nil {
			t.Error(err)
		}
		wantTimes(t, f.at("a"), 6, 17, 28, 32, 36, 47)
		s := time.Second
		if want := []Attempt{
			{Number: 0, Elapsed: 0, PendingAt: 0, Expected: time.Hour}, // the schedule runs from the start
			{Number: 1, Elapsed: 11 * s, PendingAt: 10 * s, Expected: time.Hour},
			{Number: 2, Elapsed: 22 * s, PendingAt: 21 * s, Expected: time.Hour},
			{Number: 5, Elapsed: 41 * s, PendingAt: 40 * s, Expected: time.Hour},
		}; !slices.Equal(polls, want) {
			t.Errorf("polling got\n%+v, want\n%+v", polls, want)
		}
		if want := []Attempt{{Number: 1}, {Number: 2, Elapsed: 4 * s}}; !slices.Equal(retries, want) {
			t.Errorf("retrying got\n%+v, want\n%+v", retries, want)
		}
	})
}

func TestWaitEndsWhenThePollingBackoffStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(pending), WithPolling(Exponential{Base: time.Second, Limit: 3}))
		st, err := c.Wait(t.Context(), "a")
		var w *WaitError
		if !errors.Is(err, ErrGaveUp) || !errors.As(err, &w) || w.Requests != 3 || w.Last.State != StatePending || w.Fault != nil {
			t.Errorf("Wait = %v", err)
		}
		if !reflect.DeepEqual(st, w.Last) {
			t.Errorf("Status %+v, Last %+v", st, w.Last)
		}
		wantTimes(t, f.at("a"), 0, 1, 3)
	})
}

func TestWaitGoesOnWhenTheRetryBackoffStops(t *testing.T) {
	for _, tt := range []struct {
		name  string
		retry Backoff
		want  []float64
	}{
		{"with the delay that comes with it", Exponential{Base: time.Second, Max: 4 * time.Second, Limit: 1}, []float64{0, 1, 3, 7, 11}},
		{"and with ours if there is none", backoffFunc(func(Attempt) (time.Duration, bool) { return 0, false }), nil},
		{"never below the floor", backoffFunc(func(Attempt) (time.Duration, bool) { return -5, true }), []float64{0, .01, .02, .03, .04}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				bad := fakeReply{code: 500}
				c, f := startFake(t, inTurn(bad, bad, bad, bad, completed), WithRetry(tt.retry))
				if _, err := c.Wait(t.Context(), "a"); err != nil {
					t.Error(err)
				}
				at := f.at("a")
				if tt.want != nil {
					wantTimes(t, at, tt.want...)
				} else if at[1] < 250*time.Millisecond || at[1] > 500*time.Millisecond || at[4]-at[3] < 2*time.Second {
					t.Errorf("requests at %v", at)
				}
			})
		})
	}
}

// A polling Backoff that always returns 0 does not make a busy loop.
func TestPollingHasAFloor(t *testing.T) {
	for _, d := range []time.Duration{0, -1, math.MinInt64, 1} {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, inTurn(pending, pending, completed), WithPolling(backoffFunc(func(Attempt) (time.Duration, bool) { return d, true })))
			if _, err := c.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			wantTimes(t, f.at("a"), 0, .01, .02)
		})
	}
}

// Properties 6, 8 and 9.
func TestRetryAfter(t *testing.T) {
	after := func(d time.Duration, code int) fakeReply { return fakeReply{code: code, retryAfter: d} }
	s := time.Second
	for _, tt := range []struct {
		name    string
		replies []fakeReply
		opts    []Option
		want    []float64
		err     error
	}{
		{"on a pending answer is a floor, fresh with each", []fakeReply{after(15*s, 0), after(25*s, 0), pending, completed}, nil, []float64{0, 15, 40, 50}, nil},
		{"shorter than the schedule changes nothing", []fakeReply{after(5*s, 0), completed}, nil, []float64{0, 10}, nil},
		{"on a pending answer is cut at the bound", []fakeReply{after(1000000*s, 0), completed}, []Option{WithMaxRetryAfter(time.Minute)}, []float64{0, 60}, nil},
		{"the bound does not shorten the schedule", []fakeReply{after(time.Hour, 0), completed}, []Option{WithMaxRetryAfter(5 * s)}, []float64{0, 10}, nil},
		{"on a fault is a floor", []fakeReply{after(7*s, 503), after(3*s, 500), completed}, nil, []float64{0, 7, 10}, nil},
		{"on a fault, exactly the bound is borne", []fakeReply{after(60*s, 503), completed}, []Option{WithMaxRetryAfter(time.Minute)}, []float64{0, 60}, nil},
		{"on a fault, above the bound ends the wait", []fakeReply{after(61*s, 503)}, []Option{WithMaxRetryAfter(time.Minute)}, []float64{0}, ErrRetryAfter},
		{"of a 429 above the bound ends the wait", []fakeReply{pending, after(61*s, 429)}, []Option{WithMaxRetryAfter(time.Minute)}, []float64{0, 10}, ErrRetryAfter},
		{"of a 429 is a floor", []fakeReply{after(30*s, 429), completed}, nil, []float64{0, 30}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, f := startFake(t, inTurn(tt.replies...), tt.opts...)
				_, err := c.Wait(t.Context(), "a")
				if tt.err == nil && err != nil || !errors.Is(err, tt.err) {
					t.Errorf("Wait: %v", err)
				}
				if tt.err != nil {
					var h *HTTPError
					if !errors.As(err, &h) || h.RetryAfter != 61*s {
						t.Errorf("the error does not carry the pause: %v", err)
					}
				}
				wantTimes(t, f.at("a"), tt.want...)
			})
		})
	}
	t.Run("of one answer is no floor after the next", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, inTurn(after(50*s, 0), pending), WithPolling(Constant(time.Hour)))
			time.AfterFunc(5*s, func() { c.Hint("a") })
			ctx, cancel := context.WithTimeout(t.Context(), 30*s)
			defer cancel()
			if _, err := c.Wait(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			wantTimes(t, f.at("a"), 0, 5, 29.98)
		})
	})
	t.Run("jitter never shortens it", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			full := Exponential{Base: 30 * s, Max: 30 * s, Jitter: 1}
			c, f := startFake(t, func(_ string, n int, _ time.Duration) fakeReply {
				switch {
				case n > 400:
					return completed
				case n%2 == 0:
					return after(20*s, 503)
				}
				return after(20*s, 0)
			}, WithPolling(full), WithRetry(full))
			if _, err := c.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			at := f.at("a")
			for i := 1; i < len(at); i++ {
				if gap := at[i] - at[i-1]; gap < 20*s || gap > 30*s {
					t.Fatalf("request %d after %v", i+1, gap)
				}
			}
		})
	})
}

// A 429's pause holds for the whole client.
func TestRetryAfterOf429HoldsAllJobs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, func(id string, n int, at time.Duration) fakeReply {
			if id == "limited" && n == 2 {
				return fakeReply{code: 429, retryAfter: 60 * time.Second}
			}
			return doneAt(100*time.Second)(id, n, at)
		})
		var ids []string
		for i := range 200 {
			ids = append(ids, fmt.Sprint(i))
		}
		var wg sync.WaitGroup
		wait := func(id string) {
			wg.Go(func() {
				if _, err := c.Wait(t.Context(), id); err != nil {
					t.Error(err)
				}
			})
		}
		wait("limited")
		synctest.Wait()
		time.Sleep(time.Second)
		for _, id := range ids {
			wait(id) // polled at 1 s, due at 11 s
		}
		time.Sleep(20 * time.Second) // the 429 came at 10 s
		wait("joined during the pause")
		wg.Wait()
		first := math.MaxInt
		for i, at := range slices.Sorted(slices.Values(f.all)) {
			if at > 10*time.Second && at < 70*time.Second {
				t.Fatalf("a request at %v", at)
			}
			if at >= 70*time.Second {
				first = min(first, i)
			}
		}
		// They come back spread out, at firstPace: 2 ms each.
		at := slices.Sorted(slices.Values(f.all))[first:]
		if n := 200; at[n-1]-at[0] < 300*time.Millisecond {
			t.Errorf("%d requests within %v after the pause", n, at[n-1]-at[0])
		}
		if n := len(f.at("joined during the pause")); n == 0 {
			t.Error("not polled")
		}
	})
	t.Run("and ends them if it is above the bound", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, func(id string, _ int, _ time.Duration) fakeReply {
				if id == "limited" {
					return fakeReply{code: 429, retryAfter: time.Hour}
				}
				return pending
			})
			errs := make(chan error, 1)
			go func() {
				_, err := c.Wait(t.Context(), "a")
				errs <- err
			}()
			time.Sleep(time.Second)
			_, err := c.Wait(t.Context(), "limited")
			for _, err := range []error{err, <-errs} {
				var h *HTTPError
				if !errors.Is(err, ErrRetryAfter) || !errors.As(err, &h) || h.RetryAfter != time.Hour || h.Next != 0 {
					t.Errorf("Wait: %v", err)
				}
			}
			wantTimes(t, f.at("a"), 0)
		})
	})
}

// Properties 13 and 14: one last poll just before the deadline.
func TestLastPollBeforeTheDeadline(t *testing.T) {
	s := time.Second
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		every   time.Duration
		started bool
		replies []fakeReply
		want    []float64
	}{
		{"is moved there by the round trips seen", 15 * s, 10 * s, false, []fakeReply{pending}, []float64{0, 10, 14.98}},
		{"is made though the interval is longer than all of the time", time.Minute, time.Hour, false, []fakeReply{pending}, []float64{0, 59.98}},
		{"is the only one where the first is not made at once", time.Minute, time.Hour, true, []fakeReply{pending}, []float64{59.5}},
		{"leaves time for slow answers", time.Minute, 50 * s, false, []fakeReply{{takes: s}, {takes: s}}, []float64{0, 51, 57.48}},
		{"is left out where the schedule comes as close", 10*s + 10*time.Millisecond, 10 * s, false, []fakeReply{pending}, []float64{0, 9.99}},
		{"is not below the server's floor", time.Minute, 50 * s, false, []fakeReply{{retryAfter: 90 * s}}, []float64{0}},
		{"waits for a floor that leaves room", time.Minute + 10*time.Millisecond, time.Hour, false, []fakeReply{{retryAfter: 60 * s}}, []float64{0, 60}},
		{"is the first where the time is as short as an answer", 100 * time.Millisecond, time.Hour, false, []fakeReply{pending}, []float64{0, .08}},
		{"is the first, and the only one, where the time is shorter", 15 * time.Millisecond, time.Hour, false, []fakeReply{pending}, []float64{0}},
		{"after a fault is no reason to spin", time.Minute, time.Hour, false, []fakeReply{pending, {code: 503}}, []float64{0, 59.98}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, f := startFake(t, inTurn(tt.replies...), WithPolling(Constant(tt.every)))
				ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
				defer cancel()
				start := time.Now()
				var opts []WaitOption
				if tt.started {
					opts = append(opts, StartedAt(start))
				}
				_, err := c.Wait(ctx, "a", opts...)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != tt.timeout {
					t.Errorf("Wait: %v after %v", err, time.Since(start))
				}
				wantTimes(t, f.at("a"), tt.want...)
				if f.late != 0 {
					t.Errorf("%d requests after the time was up", f.late)
				}
			})
		})
	}
	t.Run("finds the job done", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, doneAt(30*s), WithPolling(Constant(time.Hour)))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if st, err := c.Wait(ctx, "a"); err != nil || st.State != StateCompleted {
				t.Errorf("Wait = %v, %v", st, err)
			}
		})
	})
	t.Run("is spread out where 2,000 share the deadline", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, always(pending), WithPolling(Constant(time.Hour)))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			var ids []string
			for i := range 2000 {
				ids = append(ids, fmt.Sprint(i))
			}
			n := 0
			for _, err := range c.WaitAll(ctx, Jobs(ids...)) {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				n++
			}
			if n != 2000 || f.total() != 4000 {
				t.Fatalf("%d results, %d requests", n, f.total())
			}
			// 4 s at most, at 500 a second on average.
			last := slices.Sorted(slices.Values(f.all))[2000:]
			if from, to := last[0], last[1999]; from < 10*time.Minute-5*s || to-from < 3*s {
				t.Errorf("last polls from %v to %v", from, to)
			}
			if r := f.rate(s); r > 700 {
				t.Errorf("up to %d requests a second", r)
			}
		})
	})
	// Behind an open breaker the last poll is tried once.
	t.Run("is tried once where the breaker refuses", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			br := &refuser{after: time.Hour}
			c, f := startFake(t, always(pending), WithBreaker(br))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := c.Wait(ctx, "a", StartedAt(time.Now().Add(time.Hour)))
			if !errors.Is(err, context.DeadlineExceeded) || f.total() != 0 || br.asked > 3 {
				t.Errorf("Wait: %v, the breaker was asked %d times", err, br.asked)
			}
		})
	})
}

// A refuser is a breaker that refuses while on.
type refuser struct {
	mu    sync.Mutex
	after time.Duration // 0: it does not say
	until time.Time     // zero: for ever
	asked int
}

type refusal struct{ after time.Duration }

func (r refusal) Error() string             { return "refused" }
func (r refusal) RetryAfter() time.Duration { return r.after }

func (r *refuser) Allow() (func(error), error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.asked > 10_000 {
		panic("the breaker is asked without end")
	}
	if !r.until.IsZero() && !time.Now().Before(r.until) {
		return func(error) {}, nil
	}
	if r.after == 0 {
		return nil, errors.New("refused")
	}
	return nil, refusal{r.after}
}

// Property 11: Wait, Watch and WaitAll make no request when the context is done before.
func TestContextDoneBeforeMakesNoRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(completed))
		why := errors.New("the user left")
		cancelled, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		expired, cancel2 := context.WithDeadline(t.Context(), time.Now())
		defer cancel2()
		for ctx, want := range map[context.Context][]error{cancelled: {context.Canceled, why}, expired: {context.DeadlineExceeded}} {
			check := func(call string, err error) {
				t.Helper()
				for _, target := range want {
					if !errors.Is(err, target) {
						t.Errorf("%s: %v does not match %v", call, err, target)
					}
				}
			}
			st, err := c.Wait(ctx, "a")
			check("Wait", err)
			if st.JobID != "a" || st.State != "" {
				t.Errorf("Wait's Status is %+v", st)
			}
			n := 0
			for _, err := range c.Watch(ctx, "a") {
				check("Watch", err)
				n++
			}
			var ids []string
			for st, err := range c.WaitAll(ctx, Jobs("a", "b", "a")) {
				check("WaitAll", err)
				ids = append(ids, st.JobID)
			}
			if slices.Sort(ids); n != 1 || !slices.Equal(ids, []string{"a", "a", "b"}) {
				t.Errorf("Watch yielded %d times, WaitAll %v", n, ids)
			}
		}
		if f.total() != 0 {
			t.Errorf("%d requests", f.total())
		}
	})
}

// Property 12, and the cause of a cancellation.
func TestCancellingDuringASleepReturnsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, inTurn(fakeReply{code: 503}, pending))
		why := errors.New("the user left")
		ctx, cancel := context.WithCancelCause(t.Context())
		start := time.Now()
		time.AfterFunc(5*time.Second, func() { cancel(why) })
		st, err := c.Wait(ctx, "a")
		var w *WaitError
		var h *HTTPError
		if !errors.Is(err, context.Canceled) || !errors.Is(err, why) || !errors.As(err, &w) || !errors.As(err, &h) {
			t.Errorf("Wait: %v", err)
		}
		if w.Requests != 2 || w.Last.State != StatePending || !w.Last.CheckedAt.Equal(start.Add(time.Second)) || !reflect.DeepEqual(w.Last, st) {
			t.Errorf("WaitError %+v, Status %+v", w, st)
		}
		if time.Since(start) != 5*time.Second {
			t.Errorf("returned after %v", time.Since(start))
		}
		time.Sleep(time.Hour)
		wantTimes(t, f.at("a"), 0, 1)
	})
}

// Properties 15 and 18, with an exchange in flight when the time is up.
func TestTimeoutErrorHasDeadlineFaultAndLastStatus(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, inTurn(pending, fakeReply{code: 502}, fakeReply{takes: time.Hour}), WithTimeout(time.Minute))
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		st, err := c.Wait(ctx, "a")
		var w *WaitError
		var h *HTTPError
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &w) || !errors.As(err, &h) || h.StatusCode != 502 || h.Next != 0 {
			t.Fatalf("Wait: %v", err)
		}
		if w.JobID != "a" || w.Last.State != StatePending || !reflect.DeepEqual(w.Last, st) {
			t.Errorf("WaitError %+v", w)
		}
		if time.Since(start) != 20*time.Second {
			t.Errorf("returned after %v", time.Since(start))
		}
		time.Sleep(time.Hour)
		wantTimes(t, f.at("a"), 0, 10, 11)
	})
}

// No request is ever sent after the context is done, even when its deadline is
// the very moment at which a poll is due. Timers of one moment fire in any order, so: many times.
func TestNoRequestAtTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(fakeReply{retryAfter: 10 * time.Second}))
		var wg sync.WaitGroup
		for i := range 300 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // polls are due at 0, 10 and 20
				defer cancel()
				var err error
				id := fmt.Sprint(i)
				switch i % 3 {
				case 0:
					_, err = c.Wait(ctx, id)
				case 1:
					for _, err = range c.WaitAll(t.Context(), slices.Values([]Job{{ID: id, Deadline: time.Now().Add(20 * time.Second)}})) {
					}
				case 2:
					for _, err = range c.Watch(ctx, id) {
					}
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Hour)
		for id := range f.seen {
			wantTimes(t, f.at(id), 0, 10)
		}
		if f.late != 0 {
			t.Errorf("%d requests whose context was done", f.late)
		}
	})
}

// Waits take only terminal answers from the cache, and write to it (property 37: a cache that fails delays nothing).
func TestWaitsAndTheCache(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, doneAt(10*time.Second), WithCache(NewMemoryCache[Status](10)), WithCacheTTL(time.Hour, time.Hour))
		ctx := t.Context()
		if st, err := c.Status(ctx, "a"); err != nil || st.State != StatePending {
			t.Fatal(st, err)
		}
		n := 0
		for st, err := range c.Watch(ctx, "a") {
			if n++; err != nil || st.Cached {
				t.Errorf("Watch: %+v, %v", st, err)
			}
			if n == 1 {
				if st, err := c.Status(ctx, "a"); err != nil || !st.Cached {
					t.Errorf("Status: %+v, %v", st, err)
				}
			}
		}
		wantTimes(t, f.at("a"), 0, 0, 10)
		reported := 0
		st, err := c.Wait(ctx, "a", OnProgress(func(Status) { reported++ }))
		if err != nil || !st.Cached || reported != 1 {
			t.Errorf("Wait = %+v, %v; reported %d times", st, err, reported)
		}
		for st, err := range c.WaitAll(ctx, Jobs("a", "a"), OnProgress(func(Status) { reported++ })) {
			if err != nil || !st.Cached {
				t.Errorf("WaitAll: %+v, %v", st, err)
			}
			reported++
		}
		for st, err := range c.Watch(ctx, "a") {
			if err != nil || !st.Cached {
				t.Errorf("Watch: %+v, %v", st, err)
			}
			reported++
		}
		if reported != 6 || f.total() != 3 {
			t.Errorf("reported %d times, %d requests", reported, f.total())
		}
	})
}

// Properties 16 (one 503 does not end a wait), 39, 40 and 43.
func TestOutageTolerance(t *testing.T) {
	m := time.Minute
	outage := func(from, to time.Duration) func(string, int, time.Duration) fakeReply {
		return func(_ string, _ int, at time.Duration) fakeReply {
			switch {
			case at >= from && at < to:
				return fakeReply{code: 503}
			case at < time.Hour:
				return pending
			}
			return completed
		}
	}
	for _, tt := range []struct {
		name   string
		answer func(string, int, time.Duration) fakeReply
		opts   []Option
		ends   time.Duration // 0: it is survived
	}{
		{"a shorter outage costs nothing but time", outage(10*m, 15*m-time.Second), nil, 0},
		{"a longer one ends the wait when the tolerance is used up", outage(10*m, 16*m), nil, 15 * m},
		{"it counts from the first fault since the last answer", func(id string, n int, at time.Duration) fakeReply {
			if at > m && n%5 != 0 {
				return fakeReply{code: 503}
			}
			return outage(0, 0)(id, n, at)
		}, []Option{WithRetry(Constant(50 * time.Second))}, 0},
		{"one 503 after a long gap does not", outage(20*m, 20*m+1), []Option{WithPolling(Constant(20 * m))}, 0},
		{"from the beginning, as long as nothing has been answered", outage(0, time.Hour), nil, 30 * time.Second},
		{"no tolerance ends it at the first fault", outage(10*m, 10*m+1), []Option{WithOutageTolerance(0)}, 10 * m},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, _ := startFake(t, tt.answer, tt.opts...)
				start := time.Now()
				faults := 0
				_, err := c.Wait(t.Context(), "a", OnError(func(error) { faults++ }))
				if tt.ends == 0 {
					if err != nil || faults == 0 {
						t.Errorf("Wait: %v; %d faults", err, faults)
					}
					return
				}
				var h *HTTPError
				if !errors.Is(err, ErrOutage) || !errors.As(err, &h) || h.Next != 0 || time.Since(start) != tt.ends {
					t.Errorf("Wait: %v after %v", err, time.Since(start))
				}
			})
		})
	}
	t.Run("a fault from before the wait does not count", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, inTurn(fakeReply{code: 503}, fakeReply{code: 503}, completed), WithRetry(Exponential{Base: time.Second, Limit: 1}))
			if _, err := c.Status(t.Context(), "a"); err == nil {
				t.Error("Status met no fault")
			}
			time.Sleep(time.Hour)
			if _, err := c.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("a job that has trouble alone is given 16 tries", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, func(id string, _ int, _ time.Duration) fakeReply {
				if id == "bad" {
					return fakeReply{code: 503}
				}
				return pending
			}, WithRetry(Constant(time.Minute)))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go c.Wait(ctx, "good")
			_, err := c.Wait(ctx, "bad")
			if !errors.Is(err, ErrOutage) || len(f.at("bad")) != 16 {
				t.Errorf("Wait: %v after %d requests", err, len(f.at("bad")))
			}
		})
	})
}

// Property 39, on the wire: each fault is reported once, with what comes next, and the wait goes on.
func TestEachFaultIsReportedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Pending(), testserver.HalfBody(`{"result":"completed"}`),
			testserver.Reply(503, "down"), testserver.Reply(200, "<html>"), testserver.Silence(), testserver.Completed())
		// Each on a connection of its own: the fault of one that has served before is not
		// reported where another one brings the answer.
		hc := &http.Client{Transport: &http.Transport{DialContext: s.DialContext, DisableKeepAlives: true}}
		c, _ := New(s.URL(), WithHTTPClient(hc), WithPolling(Constant(10*time.Second)), WithRetry(Constant(time.Second)))
		var reported []error
		start := time.Now()
		if _, err := c.Wait(t.Context(), "a", OnError(func(err error) { reported = append(reported, err) })); err != nil {
			t.Error(err)
		}
		if len(reported) != 4 {
			t.Fatalf("reported %d faults: %v", len(reported), reported)
		}
		for i, err := range reported {
			if !strings.Contains(err.Error(), fmt.Sprintf(`job "a": request %d: `, i+2)) || !strings.Contains(err.Error(), "next request in 1s") {
				t.Errorf("fault %d: %v", i+1, err)
			}
		}
		if d := time.Since(start); d != 24*time.Second { // 10 for the poll, 4 retries, 10 of silence
			t.Errorf("took %v", d)
		}
	})
}

// Property 31, and the rule on breakers: a refusal is neither a fault nor a request.
func TestBreakerRefusals(t *testing.T) {
	t.Run("are asked about again when they say", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			br := &refuser{after: 20 * time.Second, until: time.Now().Add(70 * time.Second)}
			c, f := startFake(t, always(completed), WithBreaker(br))
			if _, err := c.Wait(t.Context(), "a", OnError(func(err error) { t.Errorf("reported %v", err) })); err != nil {
				t.Error(err)
			}
			if br.asked != 5 {
				t.Errorf("asked %d times", br.asked)
			}
			wantTimes(t, f.at("a"), 80)
		})
	})
	t.Run("or at the delay of WithRetry", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			br := &refuser{until: time.Now().Add(4 * time.Second)}
			c, f := startFake(t, always(completed), WithBreaker(br), WithRetry(Exponential{Base: time.Second, Limit: 1}))
			if _, err := c.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			wantTimes(t, f.at("a"), 7)
		})
	})
	t.Run("for hours with no fault do not end a wait", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			br := &refuser{after: time.Minute, until: time.Now().Add(10 * time.Hour)}
			c, f := startFake(t, always(completed), WithBreaker(br))
			if _, err := c.Wait(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			wantTimes(t, f.at("a"), 36000)
		})
	})
	t.Run("do not count as requests", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, always(completed), WithBreaker(&refuser{after: time.Minute}))
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			_, err := c.Wait(ctx, "a")
			var w *WaitError
			if !errors.As(err, &w) || w.Requests != 0 || w.Fault != nil {
				t.Errorf("Wait: %v", err)
			}
		})
	})
}

// Refusals of the breaker do not stretch the delay after a fault, which follows from the faults in a row.
func TestRefusalsDoNotStretchTheDelayAfterAFault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reported []int
		br := &refuser{until: time.Now()}
		c, f := startFake(t, func(_ string, n int, at time.Duration) fakeReply {
			if n == 1 {
				br.until = br.until.Add(at + 3*time.Second) // refuses at 1 s, and then at the delays of WithRetry
			}
			return []fakeReply{{code: 503}, {code: 503}, completed}[n-1]
		}, WithBreaker(br), WithRetry(backoffFunc(func(a Attempt) (time.Duration, bool) {
			reported = append(reported, a.Number)
			return time.Second, true
		})))
		if _, err := c.Wait(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		wantTimes(t, f.at("a"), 0, 3, 4)
		if want := []int{1, 2, 3, 2}; !slices.Equal(reported, want) {
			t.Errorf("retrying was asked about tries %v, want %v", reported, want)
		}
	})
}

// No two requests of a wait have one number, though a 401 is tried again at once and
// WithRequest may keep a request from being sent.
func TestEachRequestOfAWaitHasItsNumber(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var numbers, next []int
		calls := 0
		c, _ := startFake(t, inTurn(fakeReply{code: 401}, fakeReply{code: 503}, fakeReply{code: 401}, pending, fakeReply{code: 500}, completed),
			WithRequest(func(*http.Request) error {
				if calls++; calls == 3 {
					return errors.New("no token")
				}
				return nil
			}),
			WithTrace(Trace{
				Sent:      func(_ context.Context, i TraceInfo) { numbers = append(numbers, i.Attempt) },
				Scheduled: func(_ context.Context, i TraceInfo) { next = append(next, i.Attempt) },
			}))
		var faults []int
		_, err := c.Wait(t.Context(), "a", OnError(func(err error) {
			var h *HTTPError
			var tr *TransportError
			if errors.As(err, &h) {
				faults = append(faults, h.Attempt)
			} else if errors.As(err, &tr) {
				faults = append(faults, tr.Attempt)
			}
		}))
		if err != nil {
			t.Error(err)
		}
		for _, got := range []struct {
			what      string
			got, want []int
		}{{"requests", numbers, []int{1, 2, 4, 5, 6, 7}}, {"faults", faults, []int{2, 3, 6}}, {"announced requests", next, []int{3, 4, 6, 7}}} {
			if !slices.Equal(got.got, got.want) {
				t.Errorf("%s have the numbers %v, want %v", got.what, got.got, got.want)
			}
		}
	})
}

// A dead backend behind our breaker: most waits see nothing but refusals, and
// yet all end soon after the tolerance.
func TestDeadBackendEndsAllWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, func(id string, n int, at time.Duration) fakeReply {
			if at < 10*time.Minute {
				return pending
			}
			return fakeReply{code: 503}
		}, WithBreaker(NewCircuitBreaker(BreakerConfig{})), WithPolling(Constant(2*time.Minute)), WithRetry(Exponential{Base: time.Second, Max: 30 * time.Second, Jitter: .5}))
		start := time.Now()
		var ids []string
		for i := range 5000 {
			ids = append(ids, fmt.Sprint(i))
		}
		n := 0
		for _, err := range c.WaitAll(t.Context(), Jobs(ids...)) {
			if n++; !errors.Is(err, ErrOutage) {
				t.Fatal(err)
			}
		}
		// The tolerance, the longest open period of the breaker (30 s), and
		// the spread of 5,000 jobs at 2 ms each, with a second cycle of both for those that come early.
		if d := time.Since(start) - 15*time.Minute; n != 5000 || d < 0 || d > 90*time.Second {
			t.Errorf("%d ended, the last one %v after the tolerance", n, d)
		}
		dead := 0
		for _, at := range f.all {
			if at >= 10*time.Minute {
				dead++
			}
		}
		if dead > 200 {
			t.Errorf("%d requests to a dead backend", dead)
		}
	})
}

// Property 40: thousands of waits come back spread out.
func TestWaitsComeBackSpreadOut(t *testing.T) {
	for name, breaker := range map[string]func() Breaker{
		"with the breaker": func() Breaker { return NewCircuitBreaker(BreakerConfig{}) },
		"without one":      func() Breaker { return nil },
		"with a foreign one": func() Breaker {
			return &outageBreaker{from: time.Now().Add(10 * time.Minute), to: time.Now().Add(14 * time.Minute)}
		},
		"by Retry-After": nil,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const n = 3000
				up := 14 * time.Minute
				opts := []Option{WithRetry(Exponential{Base: 500 * time.Millisecond, Max: 30 * time.Second, Jitter: .5}), WithPolling(Constant(2 * time.Minute))}
				if breaker != nil {
					opts = append(opts, WithBreaker(breaker()))
				}
				c, f := startFake(t, func(_ string, _ int, at time.Duration) fakeReply {
					switch {
					case at >= 10*time.Minute && at < up && breaker == nil:
						return fakeReply{code: 503, retryAfter: (up - at).Truncate(time.Second) + time.Second}
					case at >= 10*time.Minute && at < up:
						return fakeReply{code: 503}
					case at < 20*time.Minute:
						return pending
					}
					return completed
				}, opts...)
				var ids []string
				for i := range n {
					ids = append(ids, fmt.Sprint(i))
				}
				for _, err := range c.WaitAll(t.Context(), Jobs(ids...)) {
					if err != nil {
						t.Fatal(err)
					}
				}
				f.all = slices.DeleteFunc(f.all, func(at time.Duration) bool { return at < up || at > up+5*time.Minute })
				// 3,000 within the 6 s that the spread of 2 ms each makes, or the 15 s of retrying's jitter.
				if r := f.rate(100 * time.Millisecond); r > 150 {
					t.Errorf("%d requests within 100 ms of the recovery", r)
				}
				if r := f.rate(time.Second); r > 750 {
					t.Errorf("%d requests a second after the outage", r)
				}
			})
		})
	}
}

// An outageBreaker refuses for a time, and its errors have the end of it.
type outageBreaker struct{ from, to time.Time }

func (b *outageBreaker) Allow() (func(error), error) {
	if now := time.Now(); now.Before(b.from) || !now.Before(b.to) {
		return func(error) {}, nil
	}
	return nil, refusal{time.Until(b.to)}
}

// The simulator, end to end: an outage and a blackout in the middle, in virtual time.
func TestWaitAllThroughTrouble(t *testing.T) {
	bubble(t, func(t *testing.T) {
		sim := simserver.StartInMemory(t, simserver.WithSeed(1), simserver.WithDurations(simserver.LogNormal(10*time.Minute, .5)), simserver.WithFailureRate(.1))
		sim.SetFaults(simserver.Faults{Status: map[int]float64{503: .05, 429: .01}, Drop: .02, Cut: .02, Garbage: .02, RetryAfter: 5 * time.Second})
		c, err := New(sim.URL(), WithHTTPClient(sim.HTTPClient()))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{}
		var ids []string
		for range 300 {
			id := sim.Create(simserver.Job{})
			ids = append(ids, id)
			j, _ := sim.Job(id)
			want[id] = j.Fail
		}
		time.AfterFunc(3*time.Minute, func() { sim.Outage(2 * time.Minute) })
		time.AfterFunc(8*time.Minute, func() { sim.Blackout(2 * time.Minute) })
		for st, err := range c.WaitAll(t.Context(), Jobs(ids...)) {
			failed, ok := want[st.JobID]
			if !ok || errors.Is(err, ErrJobFailed) != failed || !failed && err != nil {
				t.Errorf("%+v, %v; failed %v, known %v", st, err, failed, ok)
			}
			delete(want, st.JobID)
		}
		if len(want) != 0 {
			t.Errorf("%d jobs missing", len(want))
		}
		if s := sim.Stats(); s.PeakInFlight > 64 {
			t.Errorf("%d requests in flight", s.PeakInFlight)
		}
	})
}

// A Wait or Watch that is refused names the job, in the Status too, and so does one whose
// context is done, though the cache has the end.
func TestARefusedWaitNamesTheJob(t *testing.T) {
	cache := NewMemoryCache[Status](10)
	c, f := startFake(t, always(completed), WithCache(cache))
	if _, err := c.Wait(t.Context(), "j"); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	long := strings.Repeat("x", 2049)
	for _, tt := range []struct {
		ctx  context.Context
		id   string
		opts []WaitOption
	}{{t.Context(), long, nil}, {t.Context(), "j", []WaitOption{Expect(-1)}}, {gone, "j", nil}} {
		st, err := c.Wait(tt.ctx, tt.id, tt.opts...)
		ended := tt.ctx.Err() != nil
		var w *WaitError
		var bad *ArgumentError
		if !reflect.DeepEqual(st, Status{JobID: tt.id}) || errors.As(err, &w) != ended || errors.As(err, &bad) == ended || ended && (w.JobID != tt.id || !errors.Is(err, context.Canceled)) {
			t.Errorf("Wait: %+v, %v", st, err)
		}
		n := 0
		for st, werr := range c.Watch(tt.ctx, tt.id, tt.opts...) {
			if n++; !reflect.DeepEqual(st, Status{JobID: tt.id}) || werr == nil || werr.Error() != err.Error() {
				t.Errorf("Watch: %+v, %v", st, werr)
			}
		}
		if n != 1 {
			t.Errorf("Watch yields %d times", n)
		}
	}
	if n := f.total(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// A fault goes to OnError, and is no observation of a Watch.
func TestAFaultIsNoObservation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _ := startFake(t, inTurn(pending, fakeReply{code: 503}, completed))
		var seen []string
		for st, err := range c.Watch(t.Context(), "j", OnError(func(err error) { seen = append(seen, "fault") })) {
			if seen = append(seen, string(st.State)); err != nil {
				t.Error(err)
			}
		}
		if want := []string{"pending", "fault", "completed"}; !slices.Equal(seen, want) {
			t.Errorf("%q, want %q", seen, want)
		}
	})
}

// A WaitAll polls what the cache has as pending, and reports a bad id as that
// though the time is up.
func TestWhatAWaitAllTakesFromItsCacheAndItsArguments(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, inTurn(pending, completed), WithCache(NewMemoryCache[Status](10)))
		if _, err := c.Status(t.Context(), "j"); err != nil {
			t.Fatal(err)
		}
		n := 0
		for st, err := range c.WaitAll(t.Context(), Jobs("j")) {
			if n++; err != nil || st.State != StateCompleted || st.Cached {
				t.Errorf("%+v, %v", st, err)
			}
		}
		if n != 1 || f.total() != 2 {
			t.Errorf("%d results after %d requests", n, f.total())
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		long := strings.Repeat("x", 2049)
		for st, err := range c.WaitAll(gone, Jobs(long, "k")) {
			var w *WaitError
			var bad *ArgumentError
			if !reflect.DeepEqual(st, Status{JobID: st.JobID}) || errors.As(err, &bad) != (st.JobID == long) || errors.As(err, &w) != (st.JobID == "k") || w != nil && w.JobID != "k" {
				t.Errorf("%+v, %v", st, err)
			}
		}
	})
}

// When the context of a WaitAll is done, jobs that its sequence still gives are
// reported as long as no two of them are 100 ms apart, and not waited for after that.
func TestJobsThatComeAfterTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _ := startFake(t, always(pending))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		var got []string
		for st, err := range c.WaitAll(ctx, func(yield func(Job) bool) {
			yield(Job{ID: "0"})
			time.Sleep(time.Second)
			for i := 1; i <= 5; i++ {
				time.Sleep(90 * time.Millisecond)
				yield(Job{ID: strconv.Itoa(i)})
			}
			time.Sleep(101 * time.Millisecond)
			yield(Job{ID: "6"})
		}) {
			if got = append(got, st.JobID); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		if took := time.Since(start); strings.Join(got, "") != "012345" || took != 1550*time.Millisecond {
			t.Errorf("%q after %v", got, took)
		}
		time.Sleep(time.Second)
	})
}

// Property 55: time in which nothing was asked is no outage.
func TestTimeInWhichNothingWasAskedIsNoOutage(t *testing.T) {
	unwell := fakeReply{code: 503}
	for _, tt := range []struct {
		rule    string
		replies []fakeReply
		opts    []Option
		ends    bool
	}{
		{"a pause that was asked for", []fakeReply{pending, {code: 503, retryAfter: 6 * time.Minute}, unwell, completed}, nil, false},
		{"pauses, again and again", []fakeReply{pending, {code: 503, retryAfter: 6 * time.Minute}, {code: 503, retryAfter: 6 * time.Minute}, {code: 503, retryAfter: 6 * time.Minute}, completed}, nil, false},
		{"pauses shorter than the tolerance, again and again", []fakeReply{pending, {code: 503, retryAfter: 4 * time.Minute}, {code: 503, retryAfter: 4 * time.Minute}, {code: 503, retryAfter: 4 * time.Minute}, completed}, nil, false},
		{"a gap of the caller's own backoff", []fakeReply{pending, unwell, unwell, unwell, completed}, []Option{WithRetry(Constant(6 * time.Minute))}, false},
		{"gaps shorter than the tolerance are asked time", []fakeReply{pending, unwell, unwell, unwell, unwell, completed}, []Option{WithRetry(Constant(2 * time.Minute))}, true},
		{"a hold of a 429", []fakeReply{pending, {code: 429, retryAfter: 6 * time.Minute}, unwell, completed}, nil, false},
	} {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, inTurn(tt.replies...), tt.opts...)
			_, err := c.Wait(t.Context(), "a")
			if (err != nil) != tt.ends || tt.ends && !errors.Is(err, ErrOutage) {
				t.Errorf("%s: %v after %v", tt.rule, err, f.at("a"))
			}
		})
	}
	// A fault that was the client's last answer for hours does not make the pauses of a later wait count.
	bubble(t, func(t *testing.T) {
		paused := fakeReply{code: 503, retryAfter: 8 * time.Minute}
		c, _ := startFake(t, inTurn(pending, unwell, paused, paused, paused, completed), WithCache(nil), once())
		c.Status(t.Context(), "a")
		c.Status(t.Context(), "a")
		time.Sleep(3 * time.Hour)
		if _, err := c.Wait(t.Context(), "a"); err != nil {
			t.Error(err)
		}
	})
}

// Property 56: a wait ends when the tolerance is used up, and not at its next poll.
func TestAWaitEndsWhenTheToleranceIsUsedUp(t *testing.T) {
	for _, tt := range []struct {
		rule string
		re   fakeReply
		opts []Option
	}{
		{"between two tries", fakeReply{code: 503}, []Option{WithRetry(Exponential{Base: time.Second, Max: 45 * time.Second})}},
		{"in a gap longer than the tolerance, after shorter ones", fakeReply{code: 503}, []Option{WithRetry(Exponential{Base: time.Second, Max: time.Hour, Multiplier: 10})}},
		{"during an exchange", fakeReply{code: 503, takes: 9 * time.Second}, []Option{WithRetry(Constant(30 * time.Second))}},
		{"behind a breaker", fakeReply{code: 503}, []Option{WithBreaker(NewCircuitBreaker(BreakerConfig{}))}},
	} {
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, func(id string, _ int, _ time.Duration) fakeReply {
				if id == "b" {
					return pending // the client's first readable answer
				}
				return tt.re
			}, tt.opts...)
			c.Status(t.Context(), "b")
			_, err := c.Wait(t.Context(), "a")
			if d := time.Since(f.start) - tt.re.takes; !errors.Is(err, ErrOutage) || d != 5*time.Minute {
				t.Errorf("%s: ends %v after the first fault: %v", tt.rule, d, err)
			}
		})
	}
}

// Property 69: a Status that sees the end of a job ends the waits for it.
func TestAStatusThatSeesTheEndEndsTheWaits(t *testing.T) {
	for _, state := range []string{"completed", "error"} {
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, func(_ string, n int, _ time.Duration) fakeReply {
				if n > 1 {
					return fakeReply{state: state}
				}
				return pending
			}, WithPolling(Constant(time.Hour)))
			start := time.Now()
			var wg sync.WaitGroup
			wg.Go(func() {
				if st, _ := c.Wait(t.Context(), "a"); string(st.State) != state || time.Since(start) != time.Minute {
					t.Errorf("%v after %v", st.State, time.Since(start))
				}
			})
			wg.Go(func() {
				for st := range c.WaitAll(t.Context(), Jobs("a")) {
					if string(st.State) != state || time.Since(start) != time.Minute {
						t.Errorf("%v after %v", st.State, time.Since(start))
					}
				}
			})
			time.Sleep(time.Minute)
			c.Status(t.Context(), "a")
			wg.Wait()
		})
	}
}

// Refusals of the limiter end a wait by its name, and not as an outage of the backend.
func TestALimiterThatRefusesIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		refusal := errors.New("burst exceeded")
		c, f := startFake(t, always(pending), WithLimiter(limiterFunc(func(context.Context) error { return refusal })))
		_, err := c.Wait(t.Context(), "a")
		if err == nil || errors.Is(err, ErrOutage) || !errors.Is(err, refusal) || !strings.Contains(err.Error(), "the limiter has let no request through for 5m0s") || f.total() != 0 {
			t.Error(err)
		}
	})
}

// A Limit of the polling Backoff counts the requests that a wait has seen, and not those made
// before it joined.
func TestALimitCountsFromWhereAWaitJoined(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(pending), WithPolling(Exponential{Base: 10 * time.Second, Multiplier: 1, Limit: 10}))
		start := time.Now()
		var wg sync.WaitGroup
		for _, joins := range []time.Duration{0, 45 * time.Second, 85 * time.Second} {
			wg.Go(func() {
				time.Sleep(joins)
				_, err := c.Wait(t.Context(), "a")
				// Ten requests of its own, ten seconds apart, the first one when the poll is due.
				want := (joins + 9*time.Second) / (10 * time.Second) * 10 * time.Second
				if d := time.Since(start); !errors.Is(err, ErrGaveUp) || d != want+90*time.Second {
					t.Errorf("joined after %v, given up after %v: %v", joins, d, err)
				}
			})
		}
		wg.Wait()
		if n := len(f.at("a")); n != 19 {
			t.Errorf("%d requests", n)
		}
	})
}
