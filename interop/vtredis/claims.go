package vtredis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
)

// commandTime bounds one command, its repetitions by the Redis client included. A command that hangs
// while Redis comes back must not keep claims from being renewed in time: see renewTime.
func (q *Queue) commandTime() time.Duration {
	return max(time.Second, min(5*time.Second, q.o.Idle/10))
}

// renewTime is how long no claim passes on after a gap: a command that hangs, a pause and
// a renewal fit into it.
func (q *Queue) renewTime() time.Duration { return max(2*time.Second, q.o.Idle/5) }

// do makes one request to Redis. An answer that shows the queue to be gone ends the run.
func (r *run) do(ctx context.Context, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.q.commandTime())
	defer cancel()
	err := f(ctx)
	if err == nil || errors.Is(err, redis.Nil) {
		return nil
	}
	if isGone(err) {
		r.stop(r.emptied())
	}
	return fmt.Errorf("vtredis: queue %q: %s: %w", r.q.name, what, err)
}

func (r *run) emptied() error {
	return fmt.Errorf("vtredis: queue %q: Run: %w; add the unfinished jobs again", r.q.name, ErrEmptied)
}

// insist makes one request to Redis until it succeeds, but once only when ctx is done.
func (r *run) insist(ctx context.Context, what string, f func(context.Context) error) error {
	for {
		last := ctx.Err() != nil
		err := r.do(context.WithoutCancel(ctx), what, f)
		if err == nil {
			return nil
		}
		r.q.o.OnError(err)
		if last {
			return err
		}
		sleep(ctx, r.q.o.Idle/30)
	}
}

// sleep reports whether ctx is not done meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// read claims jobs, lapsed claims first, while there is room for them.
func (r *run) read(ctx context.Context) {
	period := r.q.o.Idle / 10
	var swept time.Time // when the last round of the sweep was seen to be over
	astray := false     // an answer with claims may have been lost
	for {
		room := r.awaitRoom(ctx)
		if room == 0 {
			return
		}
		var entries []redis.XMessage
		err := r.do(ctx, "reading", func(ctx context.Context) (err error) {
			if time.Since(swept) < period {
				entries, err = r.fresh(ctx, room, min(time.Second, period/2))
				return err
			}
			if astray {
				if err := r.releaseAstray(ctx); err != nil {
					return err
				}
				astray = false
			}
			var over bool
			if entries, over, astray, err = r.sweep(ctx, room, period); over {
				swept = time.Now()
			}
			return err
		})
		if err != nil {
			astray, swept = true, time.Time{}
			if ctx.Err() == nil {
				r.q.o.OnError(err)
			}
			sleep(ctx, r.q.o.Idle/30)
			continue
		}
		for _, job := range r.take(entries) {
			select {
			case r.jobs <- job:
			case <-ctx.Done():
				return
			}
		}
	}
}

// awaitRoom returns the number of jobs to claim at once, or 0 when ctx is done. It waits until
// that is worth a command.
func (r *run) awaitRoom(ctx context.Context) int {
	least := max(1, min(batch, r.q.o.AtMost/20))
	for {
		r.mu.Lock()
		room := r.q.o.AtMost - len(r.held)
		r.mu.Unlock()
		if ctx.Err() != nil {
			return 0
		}
		if room >= least {
			return min(room, batch)
		}
		select {
		case <-r.room:
		case <-ctx.Done():
		}
	}
}

// fresh claims jobs that no replica has claimed before.
func (r *run) fresh(ctx context.Context, count int, block time.Duration) ([]redis.XMessage, error) {
	streams, err := r.q.rdb.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: group, Consumer: r.consumer, Streams: []string{r.q.keys[0], ">"}, Count: int64(count), Block: block,
	}).Result()
	if err != nil || len(streams) == 0 {
		return nil, err
	}
	return streams[0].Messages, nil
}

// sweep claims jobs whose claim has lapsed. over reports that there are no more for a while, astray that
// Redis has noted more claims for this consumer than it holds: an answer was lost, and the Redis client
// has made the request again.
func (r *run) sweep(ctx context.Context, count int, period time.Duration) (entries []redis.XMessage, over, astray bool, err error) {
	r.mu.Lock()
	holds := int64(len(r.held)) // an acknowledgement removes the claim first
	r.mu.Unlock()
	answer, err := sweepScript.Run(ctx, r.q.rdb, r.q.keys, group, r.consumer,
		r.q.o.Idle.Milliseconds(), count, period.Milliseconds(), r.q.renewTime().Milliseconds()).Slice()
	if err != nil {
		return nil, false, false, err
	}
	if len(answer) != 4 || answer[0] != any(r.born) {
		r.stop(r.emptied())
		return nil, false, false, ErrEmptied
	}
	found, _ := answer[2].([]any)
	for _, f := range found {
		entry, _ := f.([]any)
		if len(entry) != 2 {
			continue
		}
		m := redis.XMessage{Values: map[string]any{}}
		m.ID, _ = entry[0].(string)
		fields, _ := entry[1].([]any)
		for pair := range slices.Chunk(fields, 2) {
			if name, ok := pair[0].(string); ok && len(pair) == 2 {
				m.Values[name] = pair[1]
			}
		}
		entries = append(entries, m)
	}
	claims, _ := answer[3].(int64)
	return entries, answer[1] == any(int64(1)), claims > holds, nil
}

// take notes claims, and returns the jobs that are to be waited for from now on.
func (r *run) take(entries []redis.XMessage) (jobs []vtclient.Job) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range entries {
		text := func(name string) string { s, _ := m.Values[name].(string); return s }
		job := vtclient.Job{
			ID: text("id"), StartedAt: fromMicros(text("started")),
			Expect: time.Duration(number(text("expect"))), Deadline: fromMicros(text("deadline")),
		}
		if h := r.held[job.ID]; h != nil && h.entry == m.ID {
			h.claimed = now // its claim had lapsed
			continue
		}
		r.held[job.ID] = &held{job: job, entry: m.ID, claimed: now}
		jobs = append(jobs, job)
	}
	return jobs
}

// keep renews the claims until ctx is done. After an error it tries again soon: when Redis is
// back, claims lapse soon.
func (r *run) keep(ctx context.Context) {
	for pause := r.q.o.Idle / 3; sleep(ctx, pause); {
		pause = r.q.o.Idle / 3
		for some := range slices.Chunk(r.claims(pause/2), batch) {
			if err := r.renewClaims(ctx, some); err != nil {
				if ctx.Err() == nil {
					r.q.o.OnError(err)
				}
				pause = r.q.o.Idle / 30
				break
			}
		}
	}
}

// claims returns the jobs whose claim is of at least that age, in the order of their entries:
// that takes Redis half the time to look them up.
func (r *run) claims(age time.Duration) (old []*held) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.held {
		if now.Sub(h.claimed) >= age {
			old = append(old, h)
		}
	}
	slices.SortFunc(old, func(a, b *held) int { return strings.Compare(a.entry, b.entry) })
	return old
}

// renewClaims renews claims in one command. XCLAIM takes an entry from any consumer. That only
// claims of our own are renewed follows from their age: one that
// another consumer took over while we stood still was renewed since, and is younger
// than ours would be. Half the age allows for a step of the server's clock.
func (r *run) renewClaims(ctx context.Context, some []*held) error {
	now, byEntry := time.Now(), make(map[string]*held, len(some))
	entries := make([]string, 0, len(some))
	r.mu.Lock()
	age := now.Sub(some[0].claimed)
	for _, h := range some {
		byEntry[h.entry] = h
		entries = append(entries, h.entry)
		age = min(age, now.Sub(h.claimed))
	}
	r.mu.Unlock()
	var renewed []string
	err := r.do(ctx, "renewing claims", func(ctx context.Context) (err error) {
		renewed, err = r.q.rdb.XClaimJustID(ctx, &redis.XClaimArgs{
			Stream: r.q.keys[0], Group: group, Consumer: r.consumer, MinIdle: age / 2, Messages: entries,
		}).Result()
		return err
	})
	if err != nil {
		return err
	}
	for _, entry := range renewed {
		delete(byEntry, entry)
	}
	if len(byEntry) > 0 { // refused: lost, or renewed by a command of ours whose answer came too late
		err = r.do(ctx, "renewing claims", func(ctx context.Context) (err error) {
			args := append([]any{group, r.consumer}, anys(slices.Collect(maps.Keys(byEntry)))...)
			renewed, err = ownScript.Run(ctx, r.q.rdb, r.q.keys, args...).StringSlice()
			return err
		})
		if err != nil {
			return err
		}
		for _, entry := range renewed {
			delete(byEntry, entry)
		}
	}
	r.noteRenewal(some, byEntry)
	return nil
}

// noteRenewal notes that the claims of some jobs are fresh, and that those of others are lost.
func (r *run) noteRenewal(some []*held, lost map[string]*held) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range some {
		if lost[h.entry] == nil {
			h.claimed = now
			continue
		}
		if h.busy || r.held[h.job.ID] != h {
			continue
		}
		delete(r.held, h.job.ID)
		signal(r.room)
		signal(r.renew)
	}
}

// release frees the claims that are left.
func (r *run) release() {
	for some := range slices.Chunk(r.claims(0), batch) {
		var entries []string
		for _, h := range some {
			entries = append(entries, h.entry)
		}
		if err := r.free(context.Background(), entries); err != nil {
			r.q.o.OnError(err)
			return
		}
	}
}

// free frees claims of this consumer in one command.
func (r *run) free(ctx context.Context, entries []string) error {
	args := append([]any{group, r.consumer, r.q.o.Idle.Milliseconds()}, anys(entries)...)
	return r.do(ctx, "releasing claims", func(ctx context.Context) error {
		return r.q.eval(ctx, releaseScript, args...)
	})
}

func anys(texts []string) []any {
	all := make([]any, 0, len(texts))
	for _, text := range texts {
		all = append(all, text)
	}
	return all
}

// releaseAstray frees the claims that Redis has noted for this consumer in an answer that did
// not arrive. It is for the goroutine that reads: no other answer is on its way then.
func (r *run) releaseAstray(ctx context.Context) error {
	known := map[string]bool{}
	for _, h := range r.claims(0) {
		known[h.entry] = true
	}
	for from, more := "-", true; more; {
		page, err := r.q.rdb.XPendingExt(ctx, &redis.XPendingExtArgs{
			Stream: r.q.keys[0], Group: group, Start: from, End: "+", Count: batch, Consumer: r.consumer,
		}).Result()
		if err != nil {
			return err
		}
		var astray []string
		for _, p := range page {
			if from = "(" + p.ID; !known[p.ID] {
				astray = append(astray, p.ID)
			}
		}
		if err := r.free(ctx, astray); err != nil {
			return err
		}
		more = len(page) == batch
	}
	return nil
}

// learnEvery is the time from one exchange of learnt durations to the next.
const learnEvery = time.Minute

// learn exchanges what was learnt about durations with the other replicas.
func (r *run) learn(ctx context.Context) {
	l := r.q.o.Learnt
	if l == nil {
		return
	}
	for again := true; again; {
		again = sleep(ctx, learnEvery)
		err := r.do(context.WithoutCancel(ctx), "learnt durations", func(ctx context.Context) error {
			if again {
				return l.Refresh(ctx)
			}
			return l.Save(ctx)
		})
		if err != nil {
			r.q.o.OnError(err)
		}
	}
}
