package vtredis_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/interop/vtredis"
	"github.com/vtclient/vtclient/simserver"
)

// While Redis is away, for longer than the idle time, the waits go on. Ends are handed over when it
// is back, each once, and no claim lapses.
func TestQueueRedisAway(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		away, back func(*testing.T, *server)
	}{
		{"restarted", func(_ *testing.T, s *server) { s.stop() }, func(t *testing.T, s *server) {
			if !s.start(t) {
				t.Fatal("redis-server does not start again")
			}
		}},
		{"standing still",
			func(_ *testing.T, s *server) { s.cmd.Process.Signal(syscall.SIGSTOP) },
			func(_ *testing.T, s *server) { s.cmd.Process.Signal(syscall.SIGCONT) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t, "--appendonly", "yes")
			rdb := s.client(t)
			sim := simserver.Start(t)
			var ids []string
			for range 40 {
				ids = append(ids, sim.Create(simserver.Job{Duration: simserver.Never}))
			}
			const idle = time.Second
			reported := make(chan error, 10_000)
			o := vtredis.QueueOptions{AtMost: 20, Idle: idle, OnError: func(err error) { reported <- err }}
			begun, hold := make(chan string, len(ids)), make(chan struct{})
			var runs []*service
			for range 2 {
				runs = append(runs, startService(t, newQueue(t, s.client(t), o), sim, func(e end) error {
					begun <- e.st.JobID
					<-hold
					return nil
				}))
			}
			q := newQueue(t, rdb, o)
			add(t, q, named(ids...)...)
			until(t, "polls of all", func() bool {
				return !slices.ContainsFunc(ids, func(id string) bool { return sim.Requests(id) == 0 })
			})
			sim.Complete(ids[0])
			<-begun // is being handled when Redis goes
			left := time.Now()
			tt.away(t, s)
			for _, id := range ids[1:20] {
				sim.Complete(id)
			}
			until(t, "all ends are known", func() bool { return sim.Stats().Completed >= 20 })
			close(hold)
			until(t, "the idle time is over", func() bool { return time.Since(left) > 2*idle && len(reported) > 0 })
			tt.back(t, s)
			until(t, "20 jobs are handled", func() bool { return stats(t, q).Jobs == 20 })
			for _, id := range ids[20:] {
				sim.Complete(id)
			}
			until(t, "all jobs are handled", func() bool { return stats(t, q).Jobs == 0 })
			times := map[string]int{}
			for _, r := range runs {
				r.mu.Lock()
				for id, n := range r.handled {
					times[id] += n
				}
				r.mu.Unlock()
			}
			for _, id := range ids {
				if times[id] != 1 {
					t.Errorf("%s was handled %d times", id, times[id])
				}
			}
			if got := stats(t, q); got.Takeovers != 0 || fmt.Sprint(got.Deliveries) != "[40 0 0 0 0]" {
				t.Errorf("%+v", got)
			}
			t.Log("reported first:", <-reported)
		})
	}
}

// Without Redis there is no Run, and none that begins and then waits for nothing.
func TestQueueWithoutRedis(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	sim := simserver.Start(t)
	q := newQueue(t, rdb, vtredis.QueueOptions{})
	s.stop()
	run := startService(t, q, sim, nil)
	select {
	case err := <-run.result:
		run.result <- err
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(patience):
		t.Fatal("Run goes on")
	}
	if err := q.Add(t.Context(), named("j")...); err == nil {
		t.Error("no error of Add")
	}
}

// thief takes the claim on the only entry of the queue "q", and reports whether it had it before.
func thief(t *testing.T, rdb *redis.Client) (had bool) {
	t.Helper()
	ctx := t.Context()
	p, err := rdb.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: "{q}:jobs", Group: "vtclient", Start: "-", End: "+", Count: 1}).Result()
	if err != nil || len(p) != 1 {
		t.Fatal(p, err)
	}
	err = rdb.XClaimJustID(ctx, &redis.XClaimArgs{Stream: "{q}:jobs", Group: "vtclient", Consumer: "thief", Messages: []string{p[0].ID}}).Err()
	if err != nil {
		t.Fatal(err)
	}
	return p[0].Consumer == "thief"
}

// A claim that has passed to another consumer is not taken back while that one renews it: the job is
// no longer polled. When the other one is gone, it is waited for and handled.
func TestQueueLetsGoOfLostClaims(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	sim := simserver.Start(t)
	q := newQueue(t, rdb, vtredis.QueueOptions{Idle: time.Second})
	id := sim.Create(simserver.Job{Duration: simserver.Never})
	add(t, q, named(id)...)
	run := startService(t, q, sim, nil)
	until(t, "a poll", func() bool { return sim.Requests(id) > 0 })
	thief(t, rdb)
	seen, since := sim.Requests(id), time.Now()
	until(t, "a second without a poll", func() bool {
		if !thief(t, rdb) {
			t.Fatal("the claim was taken back")
		}
		if n := sim.Requests(id); n != seen {
			seen, since = n, time.Now()
		}
		return time.Since(since) > time.Second
	})
	sim.Complete(id)
	run.await(t, 1)
	if n := sim.Requests(id); n == seen {
		t.Error("handled without a poll")
	}
}

// An end is not handed over where the claim has passed to another consumer.
func TestQueueHandlesOnlyWhatItHolds(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	sim := simserver.Start(t)
	q := newQueue(t, rdb, vtredis.QueueOptions{})
	lost, kept := sim.Create(simserver.Job{Duration: simserver.Never}), sim.Create(simserver.Job{Duration: simserver.Never})
	add(t, q, named(lost)...)
	run := startService(t, q, sim, nil)
	until(t, "a poll", func() bool { return sim.Requests(lost) > 0 })
	thief(t, rdb)
	sim.Complete(lost)
	until(t, "the end is known", func() bool { return sim.Stats().Completed == 1 })
	add(t, q, named(kept)...)
	sim.Complete(kept)
	if ids := run.await(t, 1); ids[0] != kept {
		t.Errorf("handled %v, whose claim is another's", ids)
	}
	if got := stats(t, q); got.Jobs != 1 && got.Jobs != 2 {
		t.Errorf("%+v", got)
	}
}

// steal claims the only entry of the queue "q" for a consumer that then does nothing.
func steal(t *testing.T, rdb *redis.Client, deliveries int) {
	t.Helper()
	read, err := rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "vtclient", Consumer: "thief", Streams: []string{"{q}:jobs", ">"}}).Result()
	if err != nil {
		t.Fatal(err)
	}
	err = rdb.Do(t.Context(), "XCLAIM", "{q}:jobs", "vtclient", "thief", 0, read[0].Messages[0].ID, "RETRYCOUNT", deliveries, "JUSTID").Err()
	if err != nil {
		t.Fatal(err)
	}
}

// After a time without any replica, or without Redis, lapsed claims are not taken over before the living replicas had
// time to renew theirs.
func TestQueueGivesTimeToRenew(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	sim := simserver.Start(t)
	const idle = 3 * time.Second
	q := newQueue(t, rdb, vtredis.QueueOptions{Idle: idle})
	add(t, q, named(sim.Create(simserver.Job{Duration: -1}))...)
	steal(t, rdb, 1)
	stolen := time.Now()
	until(t, "the claim has lapsed", func() bool { return time.Since(stolen) > idle })
	began := time.Now()
	startService(t, q, sim, nil).await(t, 1)
	if d := time.Since(began); d < idle/8 {
		t.Errorf("taken over after %v", d)
	}
}

// A job whose every delivery ended with the death of a replica becomes a dead letter and is not handled once more.
func TestQueueBuriesWhatKills(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	sim := simserver.Start(t)
	q := newQueue(t, rdb, vtredis.QueueOptions{Idle: time.Second, MaxDeliveries: 3})
	add(t, q, named(sim.Create(simserver.Job{Duration: -1}))...)
	steal(t, rdb, 4) // three deliveries have begun
	run := startService(t, q, sim, nil)
	until(t, "a dead letter", func() bool { return stats(t, q).Dead == 1 })
	letter := rdb.XRange(t.Context(), "{q}:dead", "-", "+").Val()[0].Values
	if letter["error"] != "each replica that began to handle it died" || letter["deliveries"] != "3" {
		t.Error(letter)
	}
	if got := stats(t, q); got.Jobs != 0 || got.Failed != 0 || len(run.handled) != 0 {
		t.Errorf("%+v, handled %v", got, run.handled)
	}
}

// A job that is removed and added again while it is waited for is handled once.
func TestQueueJobAddedAgain(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	sim := simserver.Start(t)
	q := newQueue(t, rdb, vtredis.QueueOptions{Handlers: 2}) // the second one is free for an end too many
	again, last := sim.Create(simserver.Job{Duration: simserver.Never}), sim.Create(simserver.Job{Duration: simserver.Never})
	add(t, q, named(again)...)
	run := startService(t, q, sim, func(e end) error {
		if e.st.JobID == again {
			until(t, "the last one ends", func() bool { return sim.Stats().Completed == 2 })
		}
		return nil
	})
	until(t, "a poll", func() bool { return sim.Requests(again) > 0 })
	if err := q.Remove(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	add(t, q, named(again, last)...)
	until(t, "both are claimed and polled", func() bool { return stats(t, q).Claimed == 2 && sim.Requests(last) > 0 })
	sim.Complete(again)
	sim.Complete(last)
	run.await(t, 2)
	until(t, "an empty queue", func() bool { return stats(t, q).Jobs == 0 })
	run.stop(t)
	if run.handled[again] != 1 || run.handled[last] != 1 {
		t.Error(run.handled)
	}
}

// losing loses the first answer with jobs on its way. The client reports that, or makes the request again.
type losing struct {
	redis.Hook
	again bool
	lost  atomic.Bool
}

func (l *losing) DialHook(next redis.DialHook) redis.DialHook { return next }
func (l *losing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (l *losing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if c, ok := cmd.(*redis.XStreamSliceCmd); ok && len(c.Val()) > 0 && !l.lost.Swap(true) {
			c.SetVal(nil)
			if l.again {
				return next(ctx, cmd)
			}
			err = errors.New("the connection broke")
			c.SetErr(err)
		}
		return err
	}
}

// Jobs in an answer that got lost do not wait until their claims lapse.
func TestQueueLostAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		again bool
	}{{"reported", false}, {"made again", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			rdb := s.client(t)
			hook := &losing{again: tt.again}
			rdb.AddHook(hook)
			sim := simserver.Start(t)
			q := newQueue(t, rdb, vtredis.QueueOptions{Idle: 70 * time.Second})
			add(t, q, named(sim.Create(simserver.Job{Duration: -1}))...)
			startService(t, q, sim, nil).await(t, 1) // within patience: the claim lapses later
			if !hook.lost.Load() {
				t.Error("nothing was lost")
			}
		})
	}
}

// When ctx ends while a job is being handled, an end that is handled all the same is acknowledged, and one that
// is not is left to others, as no failure.
func TestQueueEndsWhileHandling(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	rdb := s.client(t)
	sim := simserver.Start(t)
	q := newQueue(t, rdb, vtredis.QueueOptions{Handlers: 2, Idle: 5 * time.Second})
	good, bad := sim.Create(simserver.Job{Duration: -1}), sim.Create(simserver.Job{Duration: -1})
	add(t, q, named(good, bad)...)
	begun := make(chan struct{}, 2)
	first := startService(t, q, sim, func(e end) error {
		begun <- struct{}{}
		<-e.ctx.Done()
		if e.st.JobID == good {
			return nil
		}
		return e.ctx.Err()
	})
	<-begun
	<-begun
	first.stop(t)
	if got := stats(t, q); got.Jobs != 1 || got.Claimed != 0 || got.Failed != 0 {
		t.Errorf("%+v", got)
	}
	second := startService(t, q, sim, func(e end) error {
		if n := vtredis.Delivery(e.ctx); n != 2 {
			t.Errorf("delivery %d, want 2", n)
		}
		return nil
	})
	if ids := second.await(t, 1); ids[0] != bad {
		t.Error(ids)
	}
}

// More bodies than are kept hold the wait back, and all ends are handled.
func TestQueueKeepsABoundedNumberOfBodies(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	sim := simserver.Start(t)
	q := newQueue(t, s.client(t), vtredis.QueueOptions{})
	const jobs = 90
	var ids []string
	for range jobs {
		ids = append(ids, sim.Create(simserver.Job{Duration: -1, Result: map[string]any{"text": strings.Repeat("x", 1e6)}}))
	}
	add(t, q, named(ids...)...)
	run := startService(t, q, sim, func(end) error {
		until(t, "more have ended than are kept", func() bool { return sim.Stats().Completed > 70 })
		return nil
	}, vtclient.WithCache(nil))
	run.await(t, jobs)
}
