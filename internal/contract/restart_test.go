package contract_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// A Job is the same after it has been stored as JSON, but for what only this process has of
// a time.
func TestAJobIsStoredAsJSON(t *testing.T) {
	at := time.Date(2026, 3, 28, 15, 48, 56, 123456789, time.FixedZone("", 3600))
	for want, job := range map[string]vtclient.Job{
		`{"id":"a"}`: {ID: "a"},
		`{"id":"","started_at":"2026-03-28T15:48:56.123456789+01:00","expect":90000000000,"deadline":"2026-03-29T15:48:56.123456789+01:00"}`: {
			StartedAt: at, Expect: 90 * time.Second, Deadline: at.AddDate(0, 0, 1)},
	} {
		text, err := json.Marshal(job)
		if err != nil || string(text) != want {
			t.Errorf("%s, %v; want %s", text, err, want)
		}
		var got vtclient.Job
		if err := json.Unmarshal(text, &got); err != nil || !got.StartedAt.Equal(job.StartedAt) || !got.Deadline.Equal(job.Deadline) || got.Expect != job.Expect || got.ID != job.ID {
			t.Errorf("%+v, %v; want %+v", got, err, job)
		}
	}
	now := time.Now()
	text, _ := json.Marshal(vtclient.Job{StartedAt: now})
	var got vtclient.Job
	if err := json.Unmarshal(text, &got); err != nil || !got.StartedAt.Equal(now) || reflect.DeepEqual(got.StartedAt, now) {
		t.Errorf("%v of %v, %v", got.StartedAt, now, err)
	}
}

// A worker that is stopped and goes on with the stored jobs and the stored state learns
// each job once, with its true age, however it was stopped.
func TestAJobThatIsResumedIsLearntOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		stop func(t *testing.T, wait func(context.Context))
	}{
		{"cancelled", func(t *testing.T, wait func(context.Context)) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Minute, cancel)
			wait(ctx)
		}},
		{"cancelled with a cause", func(t *testing.T, wait func(context.Context)) {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Minute, func() { cancel(fmt.Errorf("SIGTERM: %w", context.DeadlineExceeded)) })
			wait(ctx)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &limitedAPI{ends: map[string]time.Time{}}
				var stored []byte
				knowledge := vtclient.NewAdaptive(time.Second)
				jobs := make([]vtclient.Job, 20)
				for i := range jobs {
					jobs[i] = vtclient.Job{ID: fmt.Sprint(i), StartedAt: time.Now()}
					api.submit(jobs[i].ID, 10*time.Minute)
				}
				stored, _ = json.Marshal(jobs)
				for range 3 {
					tt.stop(t, func(ctx context.Context) {
						learnt, _ := knowledge.MarshalText()
						if n := lessons(learnt); n != 0 {
							t.Errorf("%d lessons of jobs that go on", n)
						}
						knowledge = new(vtclient.Adaptive)
						if err := knowledge.UnmarshalText(learnt); err != nil {
							t.Fatal(err)
						}
						c := stubbed(t, api.RoundTrip, vtclient.WithPolling(knowledge))
						for range c.WaitAll(ctx, stored2jobs(t, stored)) {
						}
					})
				}
				c := stubbed(t, api.RoundTrip, vtclient.WithPolling(knowledge))
				for _, err := range c.WaitAll(t.Context(), stored2jobs(t, stored)) {
					if err != nil {
						t.Error(err)
					}
				}
				learnt, _ := knowledge.MarshalText()
				f := knowledge.Explain(vtclient.Attempt{})
				if n := lessons(learnt); n != len(jobs) || f.Jobs != len(jobs) || f.Median < 9*time.Minute || f.Median > 11*time.Minute {
					t.Errorf("%d lessons of %d jobs, %+v", n, len(jobs), f)
				}
			})
		})
	}
}

// lessons is the number of completions in the text of a state.
func lessons(state []byte) int {
	none, _ := new(vtclient.Adaptive).MarshalText()
	return strings.Count(string(state), "\n") - strings.Count(string(none), "\n")
}

func stored2jobs(t *testing.T, stored []byte) func(func(vtclient.Job) bool) {
	var jobs []vtclient.Job
	if err := json.Unmarshal(stored, &jobs); err != nil {
		t.Fatal(err)
	}
	return func(yield func(vtclient.Job) bool) {
		for _, job := range jobs {
			if !yield(job) {
				return
			}
		}
	}
}

// polled teaches a the durations of jobs of three minutes, more or less, and returns it.
func polled(a *vtclient.Adaptive, jobs int, seed uint64, expect func(d time.Duration) time.Duration) *vtclient.Adaptive {
	r := rand.New(rand.NewPCG(seed, 1))
	for range jobs {
		d := time.Duration(180e9 * math.Exp(.3*r.NormFloat64()))
		c := vtclient.Completion{PendingAt: d - 4*time.Second, DoneBy: d}
		if expect != nil {
			c.Expected = expect(d)
		}
		a.Learn(c)
	}
	return a
}

func stateOf(t *testing.T, a *vtclient.Adaptive) []byte {
	t.Helper()
	text, err := a.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// restored returns what a text holds.
func restored(t *testing.T, text []byte) *vtclient.Adaptive {
	t.Helper()
	a := vtclient.NewAdaptive(time.Second)
	if err := a.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	return a
}

// Property 72: a merge is a union of sets. Whatever is merged, in whatever order and however
// often, with a text in between or without, comes to one state, which is read back whole and
// has each job once.
func TestMergesInAnyOrderAndNumberComeToOneState(t *testing.T) {
	live := []*vtclient.Adaptive{
		polled(vtclient.NewAdaptive(time.Second), 120, 1, nil),
		polled(vtclient.NewAdaptive(time.Second), 100, 2, func(d time.Duration) time.Duration { return d / 2 }),
		polled(vtclient.NewAdaptive(time.Second), 150, 3, nil),
	}
	var texts [][]byte
	for _, a := range live {
		texts = append(texts, stateOf(t, a))
	}
	copies := func() (a []*vtclient.Adaptive) {
		for _, text := range texts {
			a = append(a, restored(t, text))
		}
		return a
	}
	union := copies()[0]
	union.Merge(live[1])
	union.Merge(live[2])
	want, first := stateOf(t, union), union.Explain(vtclient.Attempt{})
	if first.Jobs < 270 {
		t.Fatalf("%+v", first)
	}
	for name, merge := range map[string]func(a []*vtclient.Adaptive) *vtclient.Adaptive{
		"another order": func(a []*vtclient.Adaptive) *vtclient.Adaptive {
			a[2].Merge(a[1])
			a[2].Merge(a[0])
			return a[2]
		},
		"in groups": func(a []*vtclient.Adaptive) *vtclient.Adaptive {
			a[1].Merge(a[2])
			a[0].Merge(a[1])
			return a[0]
		},
		"ten times in both directions": func(a []*vtclient.Adaptive) *vtclient.Adaptive {
			a[1].Merge(a[2])
			for range 10 {
				a[0].Merge(a[1])
				a[1].Merge(a[0])
			}
			return a[1]
		},
		"733 times": func(a []*vtclient.Adaptive) *vtclient.Adaptive {
			for i := range 733 {
				a[0].Merge(a[1+i%2])
			}
			return a[0]
		},
		"with itself and with copies that are not rounded": func(a []*vtclient.Adaptive) *vtclient.Adaptive {
			for i := range 3 {
				a[0].Merge(live[i])
				a[0].Merge(a[i])
			}
			return a[0]
		},
		"through texts": func(a []*vtclient.Adaptive) *vtclient.Adaptive {
			to := vtclient.NewAdaptive(time.Second)
			for i := range 9 {
				a[i%3].Merge(to)
				to = restored(t, stateOf(t, a[i%3]))
			}
			return to
		},
	} {
		a := merge(copies())
		if got := stateOf(t, a); !bytes.Equal(got, want) {
			t.Errorf("%s: a state of %d bytes, want one of %d", name, len(got), len(want))
		}
		// The values of a text are rounded to nine digits.
		if got := a.Explain(vtclient.Attempt{}); got.Jobs != first.Jobs || (got.Polls[0]-first.Polls[0]).Abs() > time.Millisecond {
			t.Errorf("%s: %+v, want %+v", name, got, first)
		}
	}
}

// Replicas that merge again and again while they learn have each job once, and poll as one
// that has learnt from all jobs by itself.
func TestReplicasThatKeepMergingHaveEachJobOnce(t *testing.T) {
	a, b, alone := vtclient.NewAdaptive(time.Second), vtclient.NewAdaptive(time.Second), vtclient.NewAdaptive(time.Second)
	r := rand.New(rand.NewPCG(4, 4))
	for i := range 200 {
		d := time.Duration(180e9 * math.Exp(.3*r.NormFloat64()))
		c := vtclient.Completion{PendingAt: d - 4*time.Second, DoneBy: d}
		alone.Learn(c)
		if i%2 == 0 {
			a.Learn(c)
		} else {
			b.Learn(c)
		}
		if i%20 == 0 {
			a.Merge(b)
			b.Merge(a)
		}
	}
	a.Merge(b)
	got, want := a.Explain(vtclient.Attempt{}), alone.Explain(vtclient.Attempt{})
	if lines := bytes.Count(stateOf(t, a), []byte("\np ")) + bytes.Count(stateOf(t, a), []byte("\nP ")); lines != 200 {
		t.Errorf("%d lines for 200 jobs", lines)
	}
	if got.Jobs < 180 || got.Jobs > 200 || math.Abs(got.Polls[0].Seconds()/want.Polls[0].Seconds()-1) > .15 {
		t.Errorf("%+v, want about %+v", got, want)
	}
}

// What clients merge of hints counts once, too: a request is worth the same afterwards.
func TestHintsMergedManyTimesAreWorthTheSame(t *testing.T) {
	hinted := func(seed uint64, share float64) *vtclient.Adaptive {
		a, r := vtclient.NewAdaptive(time.Second), rand.New(rand.NewPCG(seed, 0))
		for range 60 {
			d := time.Duration(180e9 * math.Exp(.3*r.NormFloat64()))
			a.Learn(vtclient.Completion{PendingAt: d / 2, DoneBy: d, Hinted: r.Float64() < share})
		}
		return a
	}
	a, b := hinted(1, .9), hinted(2, .5)
	a.Merge(b)
	once := a.Explain(vtclient.Attempt{})
	for range 200 {
		b.Merge(a)
		a.Merge(b)
	}
	if got := a.Explain(vtclient.Attempt{}); fmt.Sprint(got) != fmt.Sprint(once) {
		t.Errorf("%+v after 200 merges, %+v after one", got, once)
	}
}

// Estimates in wrong units, and absurd ages, lose nothing else: the other jobs are polled as
// before, and the state is read back whole.
func TestOneAbsurdCompletionLosesNothingElse(t *testing.T) {
	const minute = time.Minute
	exact := func(d time.Duration) time.Duration { return d }
	for name, c := range map[string]vtclient.Completion{
		"an estimate in nanoseconds":           {PendingAt: 170e9, DoneBy: 180e9, Expected: 180},
		"an estimate in microseconds":          {PendingAt: 170e9, DoneBy: 180e9, Expected: 180e3},
		"an estimate a million times too high": {PendingAt: 170e9, DoneBy: 180e9, Expected: 180e15},
		"the longest estimate":                 {PendingAt: 170e9, DoneBy: 180e9, Expected: math.MaxInt64},
		"the shortest, given up":               {PendingAt: math.MaxInt64, Expected: 1},
		"a start in 1970":                      {PendingAt: 56 * 8766 * time.Hour, DoneBy: 56*8766*time.Hour + 3*minute},
		"the longest age":                      {PendingAt: math.MaxInt64, DoneBy: math.MaxInt64},
		"an end in no time":                    {DoneBy: 1},
		"an exact end in no time, expected":    {DoneBy: 1, Exact: true, Expected: math.MaxInt64},
	} {
		a := polled(polled(vtclient.NewAdaptive(time.Second), 100, 1, exact), 100, 2, nil)
		at := []vtclient.Attempt{{}, {Expected: 3 * minute}, {Expected: 30 * minute, Elapsed: 10 * minute, PendingAt: 10 * minute}}
		var before []vtclient.Forecast
		for _, at := range at {
			before = append(before, a.Explain(at))
		}
		a.Learn(c)
		a.Merge(restored(t, stateOf(t, a)))
		b := restored(t, stateOf(t, a))
		for i, at := range at {
			for _, a := range []*vtclient.Adaptive{a, b} {
				got := a.Explain(at)
				if got.Jobs < before[i].Jobs || math.Abs(got.Polls[0].Seconds()/before[i].Polls[0].Seconds()-1) > .12 {
					t.Errorf("%s, %+v: %+v, before %+v", name, at, got, before[i])
				}
			}
		}
	}
}

// A line that cannot be read is left out, and so reported; the others count.
func TestAStateIsReadLineByLine(t *testing.T) {
	text := stateOf(t, polled(polled(vtclient.NewAdaptive(time.Second), 60, 1, nil), 50, 2, func(d time.Duration) time.Duration { return d }))
	want := restored(t, text).Explain(vtclient.Attempt{}).Jobs
	lines := strings.SplitAfter(string(text), "\n")
	for name, spoil := range map[string]func(line string) string{
		"cut":              func(line string) string { return line[:3] + "\n" },
		"another id":       func(line string) string { return strings.Fields(line)[0] + " 1 2 #-\n" },
		"no number":        func(line string) string { return strings.Replace(line, " ", " NaN", 1) },
		"infinite":         func(line string) string { return strings.Replace(line, " ", " Inf", 1) },
		"upside down":      func(line string) string { return "p 5 4\n" },
		"a foreign line":   func(string) string { return "<<<<<<< HEAD\n" },
		"bytes of no text": func(string) string { return "\xff\x00\n" },
	} {
		for _, at := range []int{1, 2, 30, len(lines) - 2} {
			spoilt := slices.Clone(lines)
			spoilt[at] = spoil(spoilt[at])
			a := vtclient.NewAdaptive(time.Second)
			err := a.UnmarshalText([]byte(strings.Join(spoilt, "")))
			if !errors.Is(err, vtclient.ErrStateIncomplete) || !strings.Contains(err.Error(), fmt.Sprintf("line %d: ", at+1)) {
				t.Errorf("%s, line %d: %v", name, at+1, err)
			}
			if got := a.Explain(vtclient.Attempt{}).Jobs; got < want-2 || got > want {
				t.Errorf("%s, line %d: %d jobs, want about %d", name, at+1, got, want)
			}
			restored(t, stateOf(t, a)) // whole again
		}
	}
}

// Property 73: jobs that fail in an instant do not teach that jobs are short: neither those
// that have failed at the first look, nor those whose end is seen through a hint, with an
// estimate or without. Some that are found failed at the next poll teach no more than that.
func TestInstantFailuresTeachNothing(t *testing.T) {
	for _, tt := range []struct {
		rule     string
		failures int
		lasts    time.Duration
		hint     bool
		expect   time.Duration
		off      float64 // how far the first poll of later jobs may move
	}{
		{"at the first look", 50, -1, false, 0, 0},
		{"seen through a hint", 50, 1200 * time.Millisecond, true, 0, 0},
		{"seen through a hint, with an estimate", 50, 1200 * time.Millisecond, true, 3 * time.Minute, 0},
		{"found at the next poll", 3, 700 * time.Millisecond, false, 0, .5},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := polled(polled(vtclient.NewAdaptive(time.Second), 200, 1, nil), 100, 2, func(d time.Duration) time.Duration { return d * 11 / 10 })
			now := []vtclient.Attempt{{}, {Expected: 3 * time.Minute}}
			before := []vtclient.Forecast{a.Explain(now[0]), a.Explain(now[1])}
			sim := simserver.StartInMemory(t)
			c, err := vtclient.New(sim.URL(), vtclient.WithHTTPClient(sim.HTTPClient()), vtclient.WithPolling(a))
			if err != nil {
				t.Fatal(err)
			}
			for range tt.failures {
				id := sim.Create(simserver.Job{Duration: tt.lasts, Fail: true})
				if tt.hint {
					time.AfterFunc(100*time.Millisecond, func() { c.Hint(id) }) // finds it pending
					time.AfterFunc(tt.lasts, func() { c.Hint(id) })
				}
				if _, err := c.Wait(t.Context(), id, vtclient.Expect(tt.expect)); !errors.Is(err, vtclient.ErrJobFailed) {
					t.Error(err)
				}
			}
			for i, at := range now {
				got, want := a.Explain(at), before[i]
				if tt.hint { // they make requests dearer
					want.Polls[0] = max(want.Polls[0], got.Polls[0])
				}
				if got.Jobs < want.Jobs || got.Polls[0] < want.Polls[0]-time.Duration(tt.off*float64(want.Polls[0])) {
					t.Errorf("%s, %+v: %+v, before %+v", tt.rule, at, got, before[i])
				}
			}
		})
	}
}
