package contract_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
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
