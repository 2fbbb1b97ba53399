package vtclient_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/vtclient/vtclient"
)

// Who joins a wait that goes on is held to its own time as if it were alone: a
// last poll is made before its deadline, and the end comes at the deadline.
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

// Who waits alone for a job that a WaitAll has in its queue of first checks is
// not held to that queue.
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

// Of several starts that are given for a job the earliest counts, whoever comes first.
func TestTheEarliestStartCounts(t *testing.T) {
	for _, ages := range [][]time.Duration{{time.Minute, time.Second}, {time.Second, time.Minute}} {
		bubble(t, func(t *testing.T) {
			var told []Completion
			c, _ := startFake(t, inTurn(pending, completed), WithPolling(learnerFunc{Constant(10 * time.Second), func(c Completion) { told = append(told, c) }}))
			var wg sync.WaitGroup
			for _, age := range ages {
				wg.Go(func() { c.Wait(t.Context(), "a", StartedAt(time.Now().Add(-age))) })
				synctest.Wait()
			}
			wg.Wait()
			// The first poll is that of the first to come: at once after a minute, 9 s later after a second.
			pendingAt := time.Minute
			if want := []Completion{{PendingAt: pendingAt, DoneBy: pendingAt + 10*time.Second}}; !slices.Equal(told, want) {
				t.Errorf("ages %v: told %+v, want %+v", ages, told, want)
			}
		})
	}
}

// Of several estimates that are given for a job the first counts.
func TestTheFirstEstimateCounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told []time.Duration
		c, _ := startFake(t, inTurn(pending, completed), WithPolling(backoffFunc(func(a Attempt) (time.Duration, bool) {
			told = append(told, a.Expected)
			return 10 * time.Second, true
		})))
		var wg sync.WaitGroup
		for _, d := range []time.Duration{0, time.Minute, time.Hour} {
			wg.Go(func() { c.Wait(t.Context(), "a", Expect(d)) })
		}
		wg.Wait()
		for _, d := range told {
			if d != time.Minute && d != time.Hour {
				t.Errorf("told %v", told)
			}
		}
	})
}

// A Learner is told of a job before the caller has its result, whether that came
// or was given up, and not only when the last one is over.
func TestALearnerIsToldBeforeTheCaller(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told []Completion
		c, _ := startFake(t, func(id string, n int, at time.Duration) fakeReply {
			if id == "0" {
				return doneAt(5*time.Second)(id, n, at)
			}
			return pending
		}, WithPolling(learnerFunc{Constant(10 * time.Second), func(c Completion) { told = append(told, c) }}))
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		n := 0
		for range c.WaitAll(ctx, Jobs(ids(10)...)) {
			if n++; len(told) < n {
				t.Errorf("told of %d jobs when number %d is handed over", len(told), n)
			}
		}
		if n != 10 || len(told) != 10 || told[0].DoneBy != 10*time.Second || told[9].DoneBy != 0 {
			t.Errorf("told %+v of %d", told, n)
		}
	})
}

// The last answer in an error is the one that was seen, with all that it said.
func TestTheLastAnswerInAnError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := playing(`{"result":"pending","progress":0.25,"message":"a"}`, `{"result":"pending","progress":0.5,"message":"b"}`, "503")
		c := h.client(t, WithEndpoint(PlainAPI()))
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

// Who leaves does not change what the others were told of a fault.
func TestALeaverDoesNotChangeTheOthersErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told []error
		c, _ := startFake(t, inTurn(fakeReply{code: 503}, completed), WithRetry(Constant(30*time.Second)))
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Wait(t.Context(), "a", OnError(func(err error) { told = append(told, err) })); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		text := told[0].Error()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		var h *HTTPError
		if _, err := c.Wait(ctx, "a"); !errors.As(err, &h) || h.Next != 0 || strings.Contains(err.Error(), "next request") {
			t.Error(err)
		}
		wg.Wait()
		if !errors.As(told[0], &h) || h.Next != 30*time.Second || told[0].Error() != text || len(told) != 1 {
			t.Errorf("told %v, of which the first was %s", told, text)
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

// An answer that comes when nobody waits any more, to a request that could not be
// stopped, leaves nothing behind, whatever it says.
func TestAnAnswerThatNobodyWaitsForAnyMore(t *testing.T) {
	for _, answer := range []Status{{State: StatePending}, {State: StateCompleted}, {State: StateCompleted, ResultMissing: true}, {State: "strange"}, {}} {
		bubble(t, func(t *testing.T) {
			var scheduled int
			var told []Completion
			c, err := New("", WithFetch(func(context.Context, string) (Status, error) {
				time.Sleep(5 * time.Second)
				if answer.State == "" {
					return answer, errors.New("no")
				}
				return answer, nil
			}), WithTrace(Trace{Scheduled: counting(&scheduled)}), WithPolling(learnerFunc{Constant(10 * time.Second), func(c Completion) { told = append(told, c) }}))
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
			if err := c.Leftovers(); err != nil || scheduled != 0 || len(told) != 0 {
				t.Errorf("after %q: %v; %d scheduled, told %v", answer.State, err, scheduled, told)
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
		{name: "before one that is near", deadline: time.Second, earliest: 882 * ms, latest: 980 * ms},
		{name: "after a pause", deadline: time.Minute, pause: 59800 * ms, earliest: 59800 * ms, latest: 59900 * ms},
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

// When the time of one who waits is up, the others' polls go on as if nothing
// had been: none is made for it, whether the poll is between two exchanges, in
// one, or queueing for one.
func TestAnExpiryDisturbsNobody(t *testing.T) {
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
				if err := c.Leftovers(); err != nil {
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
				if err := c.Leftovers(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
