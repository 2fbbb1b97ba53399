package vtredis_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtredis"
	"github.com/vtclient/vtclient/simserver"
)

// A 429 that one replica is answered holds up the requests of another until its pause is over.
func TestPauseIsShared(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	var mu sync.Mutex
	arrived := map[string]time.Time{}
	sim := simserver.Start(t, simserver.WithOnExchange(func(e simserver.Exchange) {
		mu.Lock()
		defer mu.Unlock()
		arrived[e.Header.Get("X-Replica")] = e.Time
	}))
	sim.SetFaults(simserver.Faults{Status: map[int]float64{429: 1}, RetryAfter: 2 * time.Second, Limit: 1})
	id := sim.Create(simserver.Job{Duration: -1})
	ask := func(name string, opts ...vtclient.Option) error {
		pause := vtredis.NewPause(s.client(t), "pause", nil)
		c, err := vtclient.New(sim.URL(), append(opts, vtclient.WithHeader("X-Replica", name),
			vtclient.WithLimiter(pause), vtclient.WithTrace(pause.Trace()))...)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Status(t.Context(), id)
		return err
	}
	var answer *vtclient.HTTPError
	if err := ask("first", vtclient.WithRetry(vtclient.Exponential{Limit: 1})); !errors.As(err, &answer) || answer.StatusCode != 429 {
		t.Fatal(err)
	}
	if err := ask("second"); err != nil {
		t.Fatal(err)
	}
	if d := arrived["second"].Sub(arrived["first"]); d < 1900*time.Millisecond {
		t.Errorf("the second replica asked after %v, want 2s or later", d)
	}
}

// A longer pause takes the place of a shorter one and not the other way round, and an absurd one is cut.
func TestPauseLength(t *testing.T) {
	s := startRedis(t)
	rdb := s.client(t)
	met := vtredis.NewPause(rdb, "pause", nil).Trace().Answered
	for _, tt := range []struct {
		name                   string
		action                 string
		code                   int
		retryAfter, from, upTo time.Duration
	}{
		{"another status is no pause", "", 503, time.Minute, 0, 0},
		{"without a hint there is none", "", 429, 0, 0, 0},
		{"one to a submission is no pause of all", "submit", 429, time.Minute, 0, 0},
		{"a minute", "", 429, time.Minute, 50 * time.Second, time.Minute},
		{"a shorter one", "", 429, time.Second, 50 * time.Second, time.Minute},
		{"a longer one", "", 429, 2 * time.Minute, 110 * time.Second, 2 * time.Minute},
		{"an absurd one", "", 429, 24 * time.Hour, 590 * time.Second, 10 * time.Minute},
	} {
		met(t.Context(), vtclient.TraceInfo{Action: tt.action, StatusCode: tt.code,
			Err: &vtclient.HTTPError{Details: vtclient.Details{StatusCode: tt.code, RetryAfter: tt.retryAfter}}})
		if d := max(0, rdb.PTTL(t.Context(), "pause").Val()); d < tt.from || d > tt.upTo {
			t.Errorf("%s: %v, want %v to %v", tt.name, d, tt.from, tt.upTo)
		}
	}
}

// counting is a limiter that counts.
type counting struct{ n int }

func (c *counting) Wait(ctx context.Context) error { c.n++; return ctx.Err() }

// Without Redis a request goes ahead, to the next limiter; and a caller that leaves is not held.
func TestPauseWait(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", ContextTimeoutEnabled: true})
	defer rdb.Close()
	next := new(counting)
	gone := vtredis.NewPause(rdb, "pause", next)
	for range 3 {
		if err := gone.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if next.n != 3 {
		t.Errorf("the next limiter was asked %d times", next.n)
	}
	s := startRedis(t)
	held := s.client(t)
	held.Set(t.Context(), "pause", "", time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := vtredis.NewPause(held, "pause", next).Wait(ctx); !errors.Is(err, context.Canceled) || next.n != 3 {
		t.Error(err, next.n)
	}
}
