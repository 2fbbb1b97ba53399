package vtclient

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhenAJobIsOverdue(t *testing.T) {
	for _, tt := range []struct {
		name     string
		forecast Forecast
		expected time.Duration
		want     time.Duration
	}{
		{"nothing is known", Forecast{}, 0, 3 * time.Hour},
		{"an estimate", Forecast{}, time.Minute, 3 * time.Minute},
		{"an estimate, and a guess", Forecast{P99: time.Hour}, time.Minute, 3 * time.Minute},
		{"a guess", Forecast{P99: time.Minute}, 0, 3 * time.Hour},
		{"what is learnt", Forecast{P99: time.Hour, Jobs: 1}, time.Minute, time.Hour},
		{"an estimate that is absurd", Forecast{}, math.MaxInt64, math.MaxInt64 / 3 * 3},
	} {
		if got := overdueAge(tt.forecast, tt.expected); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Nothing stays of a wait that has ended, or was left.
func TestNothingIsLeftOfOverdueWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New("", WithFetch(func(_ context.Context, id string) (Status, error) {
			if id == "done" && time.Now().Minute() > 0 {
				return Status{State: StateCompleted}, nil
			}
			return Status{State: StatePending}, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		opts := []WaitOption{Expect(time.Second), OnOverdue(func(Status, Forecast) {})}
		go c.Wait(t.Context(), "other")
		c.Wait(t.Context(), "done", opts...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c.Wait(ctx, "other", opts...)
		for range c.Watch(t.Context(), "other", opts...) {
			break
		}
		c.engine.mu.Lock()
		defer c.engine.mu.Unlock()
		if n := len(c.engine.overdues); n != 0 || c.engine.polls.n != 1 {
			t.Errorf("%d left, %d polls", n, c.engine.polls.n)
		}
	})
}
