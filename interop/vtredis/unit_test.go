package vtredis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtredis"
)

// A number without a unit is refused before any request to Redis, with what was probably meant.
func TestANumberWithoutAUnitIsRefused(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer rdb.Close()
	const lost = "90ns, want at least 100µs; a number without a unit is in nanoseconds: did you mean 90*time.Second?"

	learnt, err := vtredis.Load(t.Context(), rdb, "h", "a", 90)
	if want := "vtredis: Load: requestCost: " + lost; learnt == nil || err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := vtclient.New("http://h", vtclient.WithPolling(learnt)); err == nil || !strings.Contains(err.Error(), "requestCost: got 90ns") {
		t.Errorf("as a client's polling: %v", err)
	}
	if _, err := vtclient.New("http://h", vtclient.WithPolling(&vtredis.Learnt{})); err == nil || !strings.Contains(err.Error(), "Adaptive") {
		t.Errorf("a Learnt that was not loaded: %v", err)
	}
	for _, cost := range []time.Duration{0, time.Millisecond} {
		if _, err := vtredis.Load(t.Context(), rdb, "h", "a", cost); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("a request cost of %v: %v, want Redis to be asked", cost, err)
		}
	}

	q := newQueue(t, rdb, vtredis.QueueOptions{})
	for expect, want := range map[time.Duration]string{
		90: lost, -1: "-1ns, want a duration of 0 or more", 0: "refused", time.Millisecond: "refused",
	} {
		err := q.Add(t.Context(), vtclient.Job{ID: "a"}, vtclient.Job{ID: "b", Expect: expect})
		if err == nil || !strings.Contains(err.Error(), want) || want != "refused" && !strings.Contains(err.Error(), `job "b": Expect`) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
