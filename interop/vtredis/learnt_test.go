package vtredis_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtredis"
	"github.com/vtclient/vtclient/simserver"
)

// What replicas have learnt adds up, and what is unreadable is named and left out.
func TestLearntAddsUp(t *testing.T) {
	s := startRedis(t)
	rdb := s.client(t)
	ctx := t.Context()
	r := rand.New(rand.NewPCG(1, 1))
	for _, name := range []string{"a", "b"} {
		l, err := vtredis.Load(ctx, rdb, "h", name, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			d := time.Duration(60e9 * math.Exp(0.2*r.NormFloat64()))
			l.Learn(vtclient.Completion{PendingAt: d - time.Second, DoneBy: d})
		}
		if err := l.Save(ctx); err != nil {
			t.Fatal(err)
		}
	}
	rdb.HSet(ctx, "h", "bad", "garbage")
	l, err := vtredis.Load(ctx, rdb, "h", "c", time.Second)
	if err == nil || !strings.Contains(err.Error(), `"bad"`) {
		t.Error(err)
	}
	if f := l.Explain(vtclient.Attempt{}); f.Jobs != 80 || f.Median < 50*time.Second || f.Median > 70*time.Second {
		t.Errorf("%+v", f)
	}
	rdb.Close()
	if l, err = vtredis.Load(ctx, rdb, "h", "c", time.Second); err == nil || l == nil {
		t.Error(l, err)
	}
	if d, ok := l.Next(vtclient.Attempt{}); !ok || d <= 0 {
		t.Error(d, ok)
	}
}

// Refresh takes over what others have saved since, and counts nothing twice however often it is called.
func TestLearntRefresh(t *testing.T) {
	s := startRedis(t)
	rdb := s.client(t)
	ctx := t.Context()
	var all []*vtredis.Learnt
	for _, name := range []string{"a", "b"} {
		l, err := vtredis.Load(ctx, rdb, "h", name, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			l.Learn(vtclient.Completion{PendingAt: 59 * time.Second, DoneBy: time.Minute})
		}
		all = append(all, l)
	}
	for range 3 {
		for _, l := range all {
			if err := l.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, l := range all {
		if n := l.Explain(vtclient.Attempt{}).Jobs; n != 40 {
			t.Errorf("%d jobs, want 40", n)
		}
	}
}

// The hash holds the replicas that saved last, not all that ever were.
func TestLearntIsBounded(t *testing.T) {
	s := startRedis(t)
	rdb := s.client(t)
	ctx := t.Context()
	var all []*vtredis.Learnt
	for i := range 20 {
		l, err := vtredis.Load(ctx, rdb, "h", fmt.Sprintf("replica %02d", i), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	for _, l := range all {
		if err := l.Save(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := rdb.HLen(ctx, "h").Val(); n != 16 {
		t.Errorf("%d replicas, want 16", n)
	}
}

// A queue saves what was learnt without a call by the user.
func TestQueueSavesLearnt(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	learnt, err := vtredis.Load(t.Context(), rdb, "h", "a", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	sim := simserver.Start(t)
	q := newQueue(t, rdb, vtredis.QueueOptions{Learnt: learnt})
	add(t, q, vtclient.Job{ID: sim.Create(simserver.Job{Duration: 10 * time.Millisecond}), StartedAt: time.Now(), Expect: 10 * time.Millisecond})
	run := startService(t, q, sim, nil, vtclient.WithPolling(learnt))
	run.await(t, 1)
	run.stop(t)
	other, err := vtredis.Load(t.Context(), rdb, "h", "b", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if n := other.Explain(vtclient.Attempt{Expected: 10 * time.Millisecond}).Jobs; n != 1 {
		t.Errorf("%d jobs, want 1", n)
	}
}
