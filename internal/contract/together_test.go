package contract_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/vtclient/vtclient"
)

// A caller that joins a wait is held to its own time as if it were alone: a last poll is made
// before its deadline, and the end comes at the deadline.
func TestAJoinersDeadlineIsKept(t *testing.T) {
	for _, own := range []bool{false, true} { // the job's own deadline, or the context's
		bubble(t, func(t *testing.T) {
			c, f := startFake(t, doneAt(time.Minute))
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := c.Wait(t.Context(), "a"); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Second)
			start, ctx, job := time.Now(), t.Context(), Job{ID: "a"}
			if own {
				job.Deadline = start.Add(5 * time.Second)
			} else {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
			}
			for st, err := range c.WaitAll(ctx, slices.Values([]Job{job})) {
				var w *WaitError
				if !errors.As(err, &w) || !errors.Is(err, context.DeadlineExceeded) || st.State != StatePending || !st.CheckedAt.Equal(start.Add(4980*time.Millisecond)) {
					t.Errorf("%+v, %v", st, err)
				}
			}
			if took := time.Since(start); took != 5*time.Second {
				t.Errorf("took %v", took)
			}
			wg.Wait()
			wantTimes(t, f.at("a"), 0, 5.98, 15.98, 25.98, 35.98, 45.98, 55.98, 65.98)
		})
	}
}

// A Wait for a job that a WaitAll has in its queue of first checks is not held to that queue.
func TestAWaitDoesNotQueueWithAWaitAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(pending), WithMaxInFlight(1))
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			for range c.WaitAll(ctx, Jobs(ids(1000)...)) {
			}
		})
		time.Sleep(10 * time.Millisecond)
		wg.Go(func() { c.Wait(ctx, "900") })
		wg.Wait()
		if at := f.at("900"); len(at) == 0 || at[0] != 10*time.Millisecond {
			t.Errorf("polled at %v", at)
		}
		if at := f.at("899"); len(at) == 0 || at[0] < 1700*time.Millisecond {
			t.Errorf("the one before it was polled at %v", at)
		}
	})
}

// Of several starts that are given for a job the earliest counts, in whichever order the callers come.
func TestTheEarliestStartCounts(t *testing.T) {
	for _, ages := range [][]time.Duration{{time.Minute, time.Second}, {time.Second, time.Minute}} {
		bubble(t, func(t *testing.T) {
			var reported []Completion
			c, _ := startFake(t, inTurn(pending, completed), WithPolling(learnerFunc{Constant(10 * time.Second), func(c Completion) { reported = append(reported, c) }}))
			var wg sync.WaitGroup
			for _, age := range ages {
				wg.Go(func() { c.Wait(t.Context(), "a", StartedAt(time.Now().Add(-age))) })
				synctest.Wait()
			}
			wg.Wait()
			// The first poll is that of the first to come: at once after a minute, 9 s later after a second.
			pendingAt := time.Minute
			if want := []Completion{{PendingAt: pendingAt, DoneBy: pendingAt + 10*time.Second}}; !slices.Equal(reported, want) {
				t.Errorf("ages %v: got %+v, want %+v", ages, reported, want)
			}
		})
	}
}

// Of several estimates that are given for a job the first counts.
func TestTheFirstEstimateCounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reported []time.Duration
		c, _ := startFake(t, inTurn(pending, pending, completed), WithPolling(backoffFunc(func(a Attempt) (time.Duration, bool) {
			reported = append(reported, a.Expected)
			return 10 * time.Second, true
		})))
		var wg sync.WaitGroup
		for _, d := range []time.Duration{0, time.Minute, time.Hour} {
			wg.Go(func() { c.Wait(t.Context(), "a", Expect(d)) })
			synctest.Wait()
		}
		wg.Wait()
		if want := []time.Duration{0, time.Minute}; !slices.Equal(reported, want) {
			t.Errorf("got %v, want %v", reported, want)
		}
	})
}

// A Learner gets the completion of a job before the caller has its result, whether that came or
// was given up, and not only when the last one is over.
func TestLearnComesBeforeTheCallersResult(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reported []Completion
		c, _ := startFake(t, func(id string, n int, at time.Duration) fakeReply {
			if id == "0" {
				return doneAt(5*time.Second)(id, n, at)
			}
			return pending
		}, WithPolling(learnerFunc{Constant(10 * time.Second), func(c Completion) { reported = append(reported, c) }}))
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		n := 0
		for range c.WaitAll(ctx, Jobs(ids(10)...)) {
			if n++; len(reported) < n {
				t.Errorf("reported: %d jobs when number %d is handed over", len(reported), n)
			}
		}
		if n != 10 || len(reported) != 10 || reported[0].DoneBy != 10*time.Second || reported[9].DoneBy != 0 {
			t.Errorf("reported %+v of %d", reported, n)
		}
	})
}

// The last answer in an error is the one that was seen, with all that it said.
func TestTheLastAnswerInAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := playing(`{"result":"pending","progress":0.25,"message":"a"}`, `{"result":"pending","progress":0.5,"message":"b"}`, "503")
		c := h.client(t, WithEndpoint(Endpoint{}))
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		st, err := c.Wait(ctx, "j")
		want := Status{JobID: "j", State: StatePending, Progress: 0.5, Message: "b", CheckedAt: start.Add(10 * time.Second)}
		var w *WaitError
		if !errors.As(err, &w) || !w.Last.CheckedAt.Equal(want.CheckedAt) {
			t.Fatalf("%v", err)
		}
		want.CheckedAt = w.Last.CheckedAt
		if !reflect.DeepEqual(w.Last, want) || !reflect.DeepEqual(st, want) {
			t.Errorf("%+v and %+v, want %+v", st, w.Last, want)
		}
	})
}

// A caller that leaves does not change the errors that the others got.
func TestALeaverDoesNotChangeTheOthersErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reported []error
		c, _ := startFake(t, inTurn(fakeReply{code: 503}, completed), WithRetry(Constant(20*time.Second)))
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Wait(t.Context(), "a", OnError(func(err error) { reported = append(reported, err) })); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		text := reported[0].Error()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		var h *HTTPError
		if _, err := c.Wait(ctx, "a"); !errors.As(err, &h) || h.Next != 0 || strings.Contains(err.Error(), "next request") {
			t.Error(err)
		}
		wg.Wait()
		if !errors.As(reported[0], &h) || h.Next != 20*time.Second || reported[0].Error() != text || len(reported) != 1 {
			t.Errorf("reported %v, of which the first was %s", reported, text)
		}
	})
}

// Each job of a WaitAll is yielded once, in whatever place of the sequence the
// jobs stand that end while it goes on.
func TestJobsThatEndWhileOthersAreGiven(t *testing.T) {
	for _, first := range []string{"0", "1", "2", "01", "02", "12", "012"} { // end before the rest is given
		bubble(t, func(t *testing.T) {
			c, _ := startFake(t, func(id string, _ int, _ time.Duration) fakeReply {
				if strings.Contains(first, id) {
					return completed
				}
				return pending
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var got []string
			for st := range c.WaitAll(ctx, func(yield func(Job) bool) {
				for i := range 6 {
					if i == 3 {
						time.Sleep(time.Second)
					}
					yield(Job{ID: fmt.Sprint(i)})
				}
			}) {
				got = append(got, st.JobID)
			}
			want := ""
			for _, id := range []string{"0", "1", "2", "3", "4", "5"} {
				if !strings.Contains(first, id) {
					want += id
				}
			}
			if s := strings.Join(got, ""); len(s) != 6 || s[len(first):] != want {
				t.Errorf("with %s ending first: %s", first, s)
			}
		})
	}
}

// An answer after the last caller has left, to a request that could not be stopped, leaves
// nothing behind, whatever it is.
func TestAnAnswerAfterTheLastWaitHasLeft(t *testing.T) {
	for _, answer := range []Status{{State: StatePending}, {State: StateCompleted}, {State: StateCompleted, ResultMissing: true}, {State: "strange"}, {}} {
		bubble(t, func(t *testing.T) {
			var scheduled int
			var reported []Completion
			c, err := New("", WithFetch(func(context.Context, string) (Status, error) {
				time.Sleep(5 * time.Second)
				if answer.State == "" {
					return answer, errors.New("no")
				}
				return answer, nil
			}), WithTrace(Trace{Scheduled: counting(&scheduled)}), WithPolling(learnerFunc{Constant(10 * time.Second), func(c Completion) { reported = append(reported, c) }}))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := c.Wait(ctx, "j"); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if err := leftovers(c); err != nil || scheduled != 0 || len(reported) != 0 {
				t.Errorf("after %q: %v; %d scheduled, reported %v", answer.State, err, scheduled, reported)
			}
		})
	}
}

// The last polls of many jobs that share a deadline are spread out before it:
// over a tenth of the time that there is at most, and where the server's pause
// ends just before the deadline, after that and over half of the rest.
func TestLastPollsOfManyAreSpreadOut(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name             string
		deadline, pause  time.Duration
		earliest, latest time.Duration // of the last polls
	}{
		{name: "before the deadline", deadline: time.Minute, earliest: 59782 * ms, latest: 59980 * ms},
		{name: "before one that is near", deadline: time.Second, earliest: 881 * ms, latest: 980 * ms},
		{name: "after a pause", deadline: time.Minute, pause: 59800 * ms, earliest: 59800 * ms, latest: 59980 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const jobs = 100
				start := time.Now()
				var mu sync.Mutex
				var last []time.Duration
				calls := map[string]int{}
				c, err := New("", WithFetch(func(_ context.Context, id string) (Status, error) {
					mu.Lock()
					defer mu.Unlock()
					if calls[id]++; calls[id] == 2 {
						last = append(last, time.Since(start))
					}
					if tt.pause > 0 && calls[id] == 1 {
						return Status{}, &sdkError{pause: tt.pause}
					}
					return Status{State: StatePending}, nil
				}), WithMaxInFlight(jobs), WithBreaker(nil), WithPolling(Constant(time.Hour)), WithRetry(Constant(time.Second)))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
				defer cancel()
				for range c.WaitAll(ctx, Jobs(ids(jobs)...)) {
				}
				if len(last) != jobs {
					t.Fatalf("%d last polls", len(last))
				}
				from, to := slices.Min(last), slices.Max(last)
				if from < tt.earliest || to > tt.latest || to-from < (tt.latest-tt.earliest)/2 {
					t.Errorf("from %v to %v, want them spread over %v to %v", from, to, tt.earliest, tt.latest)
				}
			})
		})
	}
}

// The last poll before a deadline that is very near keeps to the least time
// between two polls.
func TestTheLastPollKeepsTheFloor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, always(pending))
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Millisecond)
		defer cancel()
		c.Wait(ctx, "a")
		wantTimes(t, f.at("a"), 0, 0.01)
	})
}

// When the time of one caller is up, the others' polls go on unchanged: none is made for it,
// whether the poll is between two exchanges, in one, or queueing for one.
func TestAnExpiryDisturbsNoOtherWait(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(string, int, time.Duration) fakeReply
		hog    bool // the one place in flight is taken from 8 s to 15 s
		until  float64
		want   []float64
	}{
		{"between", doneAt(25 * time.Second), false, 10.005, []float64{0, 9.985, 19.985, 29.985}},
		{"in an exchange", func(_ string, n int, _ time.Duration) fakeReply {
			if n == 2 {
				return fakeReply{takes: 5 * time.Second}
			}
			return doneAt(20*time.Second)("", n, time.Duration(n-1)*10*time.Second)
		}, false, 10.005, []float64{0, 9.985, 24.985}},
		{"in the queue", func(id string, n int, at time.Duration) fakeReply {
			if id == "hog" {
				return fakeReply{state: "completed", takes: 7 * time.Second}
			}
			return doneAt(20*time.Second)(id, n, at)
		}, true, 12, []float64{0, 15, 25}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, f := startFake(t, tt.answer, WithMaxInFlight(1))
				start := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					if _, err := c.Wait(t.Context(), "a"); err != nil {
						t.Error(err)
					}
				})
				if tt.hog {
					time.AfterFunc(8*time.Second, func() { c.Wait(t.Context(), "hog") })
				}
				time.Sleep(9 * time.Second)
				late := Job{ID: "a", Deadline: start.Add(seconds(tt.until)[0])}
				n := 0
				for _, err := range c.WaitAll(t.Context(), slices.Values([]Job{late})) {
					if n++; !errors.Is(err, context.DeadlineExceeded) || !time.Now().Equal(late.Deadline) {
						t.Errorf("%v after %v", err, time.Since(start))
					}
				}
				if n != 1 {
					t.Errorf("yielded %d times", n)
				}
				wg.Wait()
				wantTimes(t, f.at("a"), tt.want...)
				synctest.Wait()
				if err := leftovers(c); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// However a wait ends, nothing of it is left.
func TestNothingIsLeftOfAWait(t *testing.T) {
	for name, run := range map[string]func(*testing.T, *Client){
		"its result": func(t *testing.T, c *Client) { c.Wait(t.Context(), "done") },
		"a job's own deadline": func(t *testing.T, c *Client) {
			for range c.WaitAll(t.Context(), slices.Values([]Job{{ID: "a", Deadline: time.Now().Add(15 * time.Second)}})) {
			}
		},
		"several of them": func(t *testing.T, c *Client) {
			for range c.WaitAll(t.Context(), func(yield func(Job) bool) {
				for i := range 5 {
					yield(Job{ID: fmt.Sprint(i % 3), Deadline: time.Now().Add(time.Duration(15+i) * time.Second)})
				}
			}) {
			}
		},
		"one that is past": func(t *testing.T, c *Client) {
			for range c.WaitAll(t.Context(), slices.Values([]Job{{ID: "a", Deadline: time.Now().Add(-time.Second)}})) {
			}
		},
		"the context's deadline": func(t *testing.T, c *Client) {
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			c.Wait(ctx, "a")
		},
		"cancelled": func(t *testing.T, c *Client) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(15*time.Second, cancel)
			c.Wait(ctx, "a")
		},
		"cancelled in an exchange": func(t *testing.T, c *Client) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			c.Wait(ctx, "slow")
		},
		"the loop was left": func(t *testing.T, c *Client) {
			for range c.WaitAll(t.Context(), Jobs("a", "done", "slow")) {
				break
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, _ := startFake(t, func(id string, n int, _ time.Duration) fakeReply {
					switch id {
					case "done":
						return completed
					case "slow":
						return fakeReply{takes: 5 * time.Second}
					}
					return pending
				}, WithPolling(learnerFunc{Constant(10 * time.Second), func(Completion) {}}))
				run(t, c)
				synctest.Wait()
				if err := leftovers(c); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Another job's 429 that holds the client when a missing result has been waited
// for long enough: the job is handed over as it is, at that moment, with no look.
func TestAHoldWhenAMissingResultIsHandedOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		start := time.Now()
		looks := 0
		endpoint := HeyGenV3()
		endpoint.Bulk = Bulk{} // so that the first check does not wait for others
		c, err := New("https://api.test", WithEndpoint(endpoint), WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "other") {
				return respond(r, 429, "", "Retry-After: 60"), nil
			}
			looks++
			return respond(r, 200, hgBare), nil
		})}), once())
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(20*time.Second, func() { c.Status(t.Context(), "other") })
		st, err := c.Wait(t.Context(), "j")
		if err != nil || !st.ResultMissing || st.State != StateCompleted || time.Since(start) != 30*time.Second || looks != 5 {
			t.Errorf("%+v, %v after %v and %d looks", st, err, time.Since(start), looks)
		}
	})
}

// A wait whose time ends within the pause that another job's 429 asks for makes
// no last poll, and ends in time.
func TestNoLastPollWithinAHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, func(id string, _ int, _ time.Duration) fakeReply {
			if id == "other" {
				return fakeReply{code: 429, retryAfter: time.Minute}
			}
			return pending
		}, once())
		time.AfterFunc(15*time.Second, func() { c.Status(t.Context(), "other") })
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
		defer cancel()
		var w *WaitError
		if _, err := c.Wait(ctx, "a"); !errors.As(err, &w) || !errors.Is(err, context.DeadlineExceeded) || w.Requests != 2 || time.Since(start) != 45*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		wantTimes(t, f.at("a"), 0, 10)
	})
}

// What comes of a request whose callers have left, be it a panic, does not reach callers that
// have begun to wait for the same job since.
func TestALateEndOfAnEarlierWait(t *testing.T) {
	for name, end := range map[string]func() (Status, error){
		"pending":       func() (Status, error) { return Status{State: StatePending}, nil },
		"completed":     func() (Status, error) { return Status{State: StateCompleted}, nil },
		"missing":       func() (Status, error) { return Status{State: StateCompleted, ResultMissing: true}, nil },
		"strange":       func() (Status, error) { return Status{State: "strange"}, nil },
		"a fault":       func() (Status, error) { return Status{}, errors.New("no") },
		"a final error": func() (Status, error) { return Status{}, ErrFinal },
		"a panic":       func() (Status, error) { panic("oops") },
		"a Goexit":      func() (Status, error) { runtime.Goexit(); return Status{}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				start := time.Now()
				var mu sync.Mutex
				var at []time.Duration
				var reported []Completion
				c, err := New("", WithFetch(func(context.Context, string) (Status, error) {
					mu.Lock()
					at = append(at, time.Since(start))
					n := len(at)
					mu.Unlock()
					if n == 1 {
						time.Sleep(5 * time.Second) // whatever its context returns
						return end()
					}
					if n < 4 {
						return Status{State: StatePending}, nil
					}
					return Status{State: StateCompleted}, nil
				}), WithCache(nil), WithPolling(learnerFunc{Constant(10 * time.Second), func(c Completion) { reported = append(reported, c) }}))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := c.Wait(ctx, "j"); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				time.Sleep(time.Second)
				reported = nil
				if st, err := c.Wait(t.Context(), "j"); err != nil || st.State != StateCompleted {
					t.Errorf("%+v, %v", st, err)
				}
				wantTimes(t, at, 0, 2, 12, 22)
				if want := []Completion{{PendingAt: 10 * time.Second, DoneBy: 20 * time.Second}}; !slices.Equal(reported, want) {
					t.Errorf("got %+v, want %+v", reported, want)
				}
				synctest.Wait()
				if err := leftovers(c); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A wait whose poll's goroutine was ended from within ends with an error that has the job's
// name.
func TestAPollWhoseGoroutineWasEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, err := New("", WithFetch(func(context.Context, string) (Status, error) { runtime.Goexit(); return Status{}, nil }))
		if err != nil {
			t.Fatal(err)
		}
		if st, err := c.Wait(t.Context(), "j"); !reflect.DeepEqual(st, Status{JobID: "j"}) || err == nil || !strings.Contains(err.Error(), `job "j"`) {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// A poll that ends its wait announces no further one, and no strategy is asked
// about a wait that is over.
func TestWhatEndsAWaitAnnouncesNothing(t *testing.T) {
	fails := fakeReply{code: 503}
	for _, tt := range []struct {
		name           string
		answers        []fakeReply
		opts           []Option
		limit          time.Duration
		scheduled      int
		polled, failed int // questions to WithPolling and WithRetry
	}{
		{"its result", []fakeReply{pending, completed}, nil, time.Hour, 1, 1, 0},
		{"a final error", []fakeReply{pending, {code: 403}}, nil, time.Hour, 1, 1, 0},
		{"the outage tolerance", []fakeReply{pending, fails}, []Option{WithOutageTolerance(0)}, time.Hour, 1, 1, 0},
		{"too long a pause", []fakeReply{pending, {code: 503, retryAfter: time.Hour}}, nil, time.Hour, 1, 1, 0},
		{"a last poll", []fakeReply{pending}, nil, 15 * time.Second, 2, 3, 0},
		{"a last poll that fails", []fakeReply{pending, pending, fails}, nil, 15 * time.Second, 2, 2, 1},
		{"leaving in a request", []fakeReply{pending, {takes: time.Minute}}, nil, 15 * time.Second, 1, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var scheduled, polled, failed int
				asked := func(n *int, d time.Duration) Backoff {
					return backoffFunc(func(Attempt) (time.Duration, bool) { *n++; return d, true })
				}
				opts := append([]Option{WithTrace(Trace{Scheduled: counting(&scheduled)}), WithPolling(asked(&polled, 10*time.Second)), WithRetry(asked(&failed, time.Second))}, tt.opts...)
				c, _ := startFake(t, inTurn(tt.answers...), opts...)
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				defer cancel()
				c.Wait(ctx, "a")
				synctest.Wait()
				if scheduled != tt.scheduled || polled != tt.polled || failed != tt.failed {
					t.Errorf("%d announced; WithPolling was asked %d times, WithRetry %d; want %d, %d, %d", scheduled, polled, failed, tt.scheduled, tt.polled, tt.failed)
				}
			})
		})
	}
}

// An answer ends the count of faults and refusals in the Attempt of WithRetry.
func TestAnAnswerEndsTheCountOfFaults(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reported []Attempt
		var refuse atomic.Bool
		shut := breakerFunc(func() (func(error), error) {
			if refuse.Load() {
				return nil, errors.New("shut")
			}
			return func(error) {}, nil
		})
		for _, d := range []time.Duration{25, 58} {
			time.AfterFunc(d*time.Second, func() { refuse.Store(true) })
			time.AfterFunc((d+19)*time.Second, func() { refuse.Store(false) })
		}
		c, f := startFake(t, inTurn(pending, fakeReply{code: 503}, pending, pending, pending, pending, completed), WithBreaker(shut), WithRetry(backoffFunc(func(a Attempt) (time.Duration, bool) {
			reported = append(reported, a)
			return 4 * time.Second, true
		})))
		if _, err := c.Wait(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		s := time.Second
		if want := []Attempt{{Number: 1}, {Number: 1}, {Number: 2, Elapsed: 4 * s}, {Number: 3, Elapsed: 8 * s}, {Number: 1}, {Number: 2, Elapsed: 4 * s}, {Number: 3, Elapsed: 8 * s}}; !slices.Equal(reported, want) {
			t.Errorf("got %+v, want %+v; requests at %v", reported, want, f.at("a"))
		}
	})
}

// A job whose poll panicked is learnt as given up.
func TestAPollThatPanickedTeachesNoEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reported []Completion
		n := 0
		c, err := New("", WithFetch(func(context.Context, string) (Status, error) {
			if n++; n == 2 {
				panic("oops")
			}
			return Status{State: StatePending}, nil
		}), WithPolling(learnerFunc{Constant(10 * time.Second), func(c Completion) { reported = append(reported, c) }}))
		if err != nil {
			t.Fatal(err)
		}
		recovered(func() { c.Wait(t.Context(), "j") })
		if want := []Completion{{}}; !slices.Equal(reported, want) {
			t.Errorf("got %+v, want %+v", reported, want)
		}
	})
}

// Behind a breaker that has opened most waits see nothing but refusals: they end
// too when no job has been answered for the tolerance, counted from the first
// trouble of their own, but not at a first refusal.
func TestRefusalsDuringAnOutage(t *testing.T) {
	const refused, failed, good = 'r', 'f', 'a'
	for _, tt := range []struct {
		name      string
		asks      string // what becomes of each try of the wait, a second apart; the last one repeats
		tolerance time.Duration
		ends      time.Duration // after the wait's begin, which is a minute after the outage's
		outage    bool
	}{
		{"refusals alone", "r", 30 * time.Second, 30 * time.Second, true},
		{"refusals, then faults", "rrrrrf", 30 * time.Second, 30 * time.Second, true},
		{"faults, then refusals", "fffffr", 30 * time.Second, 30 * time.Second, true},
		{"an answer in between", "rrrrra", 30 * time.Second, 5 * time.Second, false},
		{"a first refusal, with no tolerance", "ra", 0, time.Second, false},
		{"a second one", "rra", 0, time.Second, true},
		{"a fault after a refusal", "rfa", 0, time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				waiting := false
				asks := []rune(tt.asks)
				next := func() rune {
					what := asks[0]
					if len(asks) > 1 {
						asks = asks[1:]
					}
					return what
				}
				now := rune(failed)
				breaker := breakerFunc(func() (func(error), error) {
					if waiting {
						if now = next(); now == refused {
							return nil, errors.New("shut")
						}
					}
					return func(error) {}, nil
				})
				c, _ := startFake(t, func(string, int, time.Duration) fakeReply {
					if now == good {
						return completed
					}
					return fakeReply{code: 503}
				}, WithBreaker(breaker), WithOutageTolerance(tt.tolerance), WithRetry(Constant(time.Second)))
				short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				c.Status(short, "another") // begins the outage
				time.Sleep(time.Minute)
				waiting = true
				start := time.Now()
				_, err := c.Wait(t.Context(), "a")
				if errors.Is(err, ErrOutage) != tt.outage || (err == nil) == tt.outage || time.Since(start) != tt.ends {
					t.Errorf("%v after %v", err, time.Since(start))
				}
			})
		})
	}
}

// A wait that is left while a strategy is asked about it leaves nothing either.
func TestLeavingWhileAStrategyIsAsked(t *testing.T) {
	for _, answer := range []fakeReply{pending, {code: 503}} {
		bubble(t, func(t *testing.T) {
			asked := backoffFunc(func(Attempt) (time.Duration, bool) { time.Sleep(5 * time.Second); return time.Minute, true })
			c, f := startFake(t, always(answer), WithPolling(asked), WithRetry(asked))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := c.Wait(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if err := leftovers(c); err != nil || f.total() != 1 {
				t.Errorf("%v after %d requests", err, f.total())
			}
		})
	}
}

// Only a hint makes an end one that a hint brought about: not a fault before it.
func TestAFaultIsNoHint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reported []Completion
		c, _ := startFake(t, inTurn(pending, fakeReply{code: 503}, pending, fakeReply{code: 503}, completed), WithPolling(learnerFunc{Constant(10 * time.Second), func(c Completion) { reported = append(reported, c) }}))
		if _, err := c.Wait(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		if want := []Completion{{PendingAt: 11 * time.Second, DoneBy: 22 * time.Second}}; !slices.Equal(reported, want) {
			t.Errorf("got %+v, want %+v", reported, want)
		}
	})
}

// A wait that ended otherwise than by the job's own end is learnt as given up.
func TestWhatIsLearntAsGivenUp(t *testing.T) {
	for name, opts := range map[string][]Option{"the outage tolerance": {WithOutageTolerance(0)}, "too long a pause": {WithMaxRetryAfter(time.Second)}} {
		bubble(t, func(t *testing.T) {
			var reported []Completion
			c, _ := startFake(t, inTurn(pending, pending, fakeReply{code: 503, retryAfter: 2 * time.Second}),
				append(opts, WithPolling(learnerFunc{Constant(10 * time.Second), func(c Completion) { reported = append(reported, c) }}))...)
			if _, err := c.Wait(t.Context(), "a"); err == nil {
				t.Error("no error")
			}
			if want := []Completion{{PendingAt: 10 * time.Second}}; !slices.Equal(reported, want) {
				t.Errorf("%s: got %+v, want %+v", name, reported, want)
			}
		})
	}
}

// Polls that one pause would bring back together come back spread out, after it:
// 2 ms apart on average, and more slowly after a 429. Other polls come exactly
// when the strategies say.
func TestPollsThatComeBackTogether(t *testing.T) {
	const jobs = 50
	const ms = time.Millisecond
	pause := fakeReply{code: 503, retryAfter: 30 * time.Second}
	for _, tt := range []struct {
		name     string
		first    func(id string) fakeReply
		opts     func(start time.Time) []Option
		from, to time.Duration
		spread   time.Duration // at least
	}{
		{"after the pause of a fault", func(string) fakeReply { return pause }, nil, 30 * time.Second, 30*time.Second + 98*ms, 50 * ms},
		{"after a breaker's", nil, func(start time.Time) []Option {
			return []Option{WithBreaker(breakerFunc(func() (func(error), error) {
				if left := 30*time.Second - time.Since(start); left > 0 {
					return nil, comesBack(left)
				}
				return func(error) {}, nil
			}))}
		}, 30 * time.Second, 30*time.Second + 98*ms, 50 * ms},
		{"after a 429, those that queued for the limiter when it came", func(string) fakeReply {
			return fakeReply{code: 429, retryAfter: 30 * time.Second}
		}, func(start time.Time) []Option {
			var n atomic.Int32
			return []Option{WithLimiter(limiterFunc(func(context.Context) error {
				if n.Add(1) > 1 && time.Since(start) < time.Second { // one is through at once
					time.Sleep(time.Second)
				}
				return nil
			}))}
		}, 30 * time.Second, 30*time.Second + 392*ms, 50 * ms},
		{"after a fault without a pause", func(string) fakeReply { return fakeReply{code: 503} }, nil, time.Second, time.Second, 0},
		{"after an answer", func(string) fakeReply { return pending }, nil, 10 * time.Second, 10 * time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				start := time.Now()
				opts := []Option{WithMaxInFlight(jobs)}
				if tt.opts != nil {
					opts = append(opts, tt.opts(start)...)
				}
				var mu sync.Mutex
				var back []time.Duration
				c, _ := startFake(t, func(id string, n int, at time.Duration) fakeReply {
					if n == 1 && tt.first != nil && at == 0 {
						return tt.first(id)
					}
					mu.Lock()
					defer mu.Unlock()
					back = append(back, at)
					return completed
				}, opts...)
				for _, err := range c.WaitAll(t.Context(), Jobs(ids(jobs)...)) {
					if err != nil {
						t.Error(err)
					}
				}
				if len(back) != jobs {
					t.Fatalf("%d came back", len(back))
				}
				from, to := slices.Min(back), slices.Max(back)
				if from < tt.from || to > tt.to || to-from < tt.spread {
					t.Errorf("from %v to %v, want at least %v between %v and %v", from, to, tt.spread, tt.from, tt.to)
				}
			})
		})
	}
}

// A fault of the last poll announces no other, and one before it has the delay to the next.
func TestAFaultHasTheDelayOfTheNextPoll(t *testing.T) {
	for retry, want := range map[time.Duration][]string{
		4 * time.Second:       {"4s next request in 4s", "1.98s next request in 1.98s", "0s no further request fits before the deadline"},
		20 * time.Millisecond: {"20ms next request in 20ms", "0s no further request fits before the deadline"}, // it would be made at the deadline
	} {
		theDelaysOfTheNextPolls(t, retry, want)
	}
}

func theDelaysOfTheNextPolls(t *testing.T, retry time.Duration, want []string) {
	bubble(t, func(t *testing.T) {
		c, _ := startFake(t, inTurn(pending, fakeReply{code: 503}), WithRetry(Constant(retry)))
		ctx, cancel := context.WithTimeout(t.Context(), 16*time.Second)
		defer cancel()
		var said []string
		c.Wait(ctx, "a", OnError(func(err error) {
			var h *HTTPError
			if !errors.As(err, &h) {
				t.Error(err)
				return
			}
			_, what, _ := strings.Cut(err.Error(), "; ")
			said = append(said, fmt.Sprint(h.Next, " ", what))
		}))
		if said = slices.Compact(said); !slices.Equal(said, want) {
			t.Errorf("%q, want %q", said, want)
		}
	})
}

// A hint never makes a poll later than it would be without.
func TestAHintDelaysNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, f := startFake(t, doneAt(time.Second), WithPolling(Constant(500*time.Millisecond)))
		for _, d := range seconds(0.1, 0.2) {
			time.AfterFunc(d, func() { c.Hint("a") })
		}
		if _, err := c.Wait(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		wantTimes(t, f.at("a"), 0, 0.1, 0.6, 1.1)
	})
}
