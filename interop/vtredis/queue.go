package vtredis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/unit"
)

// ErrEmptied is matched by the error of [Queue.Run] when Redis no longer has the
// queue that Run began with: it was restarted without its data, or the keys were
// deleted. Add the unfinished jobs again, from where their ids are kept.
var ErrEmptied = errors.New("the queue is no longer in Redis")

// A Queue is a set of jobs to wait for that outlives the processes which wait: a
// Redis stream with a consumer group. Any number of replicas run it at the same
// time, and each job is waited for by one of them. It is safe for concurrent use.
//
// A job leaves the queue when its end has been handled. Where a replica dies, others
// take over its jobs after the idle time. So a job is handled at least once, and more
// than once only where a replica died, or stood still for the idle time, after it
// had begun to handle the job and before Redis had noted the acknowledgement.
//
// All keys of a queue begin with its key as a hash tag, "{heygen:acme}:…", so that they
// share a slot of a Redis cluster:
//
//	:jobs    the stream, an entry for each unfinished job
//	:ids     a hash from job id to entry, so that no job is in the stream twice
//	:state   a hash of counts, and of how far the search for lost claims has come
//	:errors  a hash from job id to the error that handling it returned last
//	:dead    the stream of dead letters, with the fields id, started, expect, deadline, error and deliveries
//
// Redis must not evict keys (maxmemory-policy noeviction). What it loses when it
// crashes depends on its persistence: with appendonly yes and appendfsync everysec,
// the last second. A lost acknowledgement is a job handled again. A lost Add is a
// job that is missing: add what is unfinished from time to time, which does
// nothing to jobs that are there.
type Queue struct {
	rdb  redis.UniversalClient
	name string   // as given, for errors
	keys []string // in the order that the scripts rely on
	base string
	o    QueueOptions
}

// QueueOptions are the settings of a [Queue]. A zero field means its default. All
// replicas should use the same Idle and MaxDeliveries.
type QueueOptions struct {
	// AtMost bounds the unfinished jobs of one Run, those whose end waits to be
	// handled included. 0: 20,000.
	AtMost int
	// Handlers is how many calls of handle one Run makes at the same time, and so
	// the number of jobs that a death can cause to be handled twice. 0: 1.
	Handlers int
	// Idle is how long a claim stands without being renewed: after so long, the
	// jobs of a dead replica pass to others. A Run renews its claims three times
	// within it. 0: 30 s; at least 1 s.
	Idle time.Duration
	// MaxDeliveries is how often a job may be handed to handle without success
	// before it becomes a dead letter. 0: 5.
	MaxDeliveries int
	// Learnt, if not nil, is the polling of the client given to Run. Run saves it
	// every minute and when it ends, and merges what other replicas have saved.
	Learnt *Learnt
	// OnError, if not nil, receives each error that Run survives: failed commands,
	// which it repeats, and errors of handle. It may be called by several
	// goroutines at once.
	OnError func(error)
}

// NewQueue returns the queue with that key. It makes no request. The error names
// an argument that is out of range.
func NewQueue(rdb redis.UniversalClient, key string, o QueueOptions) (*Queue, error) {
	if rdb == nil {
		return nil, errors.New("vtredis: NewQueue: rdb is nil")
	}
	if key == "" {
		return nil, errors.New("vtredis: NewQueue: key is empty")
	}
	for name, n := range map[string]int{"AtMost": o.AtMost, "Handlers": o.Handlers, "MaxDeliveries": o.MaxDeliveries} {
		if n < 0 {
			return nil, fmt.Errorf("vtredis: QueueOptions.%s: %d, want 0 or more", name, n)
		}
	}
	if o.Idle != 0 && o.Idle < time.Second {
		return nil, fmt.Errorf("vtredis: QueueOptions.Idle: %v, want 0, or 1s or more", o.Idle)
	}
	o.AtMost = orDefault(o.AtMost, 20_000)
	o.Handlers = orDefault(o.Handlers, 1)
	o.Idle = orDefault(o.Idle, 30*time.Second)
	o.MaxDeliveries = orDefault(o.MaxDeliveries, 5)
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	q := &Queue{rdb: rdb, name: key, base: tagged(key), o: o}
	for _, part := range []string{":jobs", ":ids", ":state", ":errors", ":dead"} {
		q.keys = append(q.keys, q.base+part)
	}
	return q, nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// tagged makes key a hash tag, unless it contains one.
func tagged(key string) string {
	if _, rest, ok := strings.Cut(key, "{"); ok && strings.Index(rest, "}") > 0 {
		return key
	}
	return "{" + key + "}"
}

// group is the consumer group of every queue's stream.
const group = "vtclient"

// batch bounds the entries in one command: Redis serves no other client meanwhile.
const batch = 1000

// Add puts jobs into the queue and returns once they are in Redis. A job whose id is
// in the queue stays as it is; one that has been handled and left the queue is
// added anew. A Job.Expect that is negative, or can only lack its unit, is an error before
// any job is added. After another error, some of the jobs may be in the queue: add all of
// them again.
func (q *Queue) Add(ctx context.Context, jobs ...vtclient.Job) error {
	for _, j := range jobs {
		want := unit.Missing(j.Expect, 100*time.Microsecond)
		if j.Expect < 0 {
			want = "a duration of 0 or more"
		}
		if want != "" {
			return fmt.Errorf("vtredis: queue %q: Add: job %q: Expect: %v, want %s", q.name, j.ID, j.Expect, want)
		}
	}
	added := 0
	for some := range slices.Chunk(jobs, batch) {
		args := make([]any, 0, 1+4*len(some))
		args = append(args, group)
		for _, j := range some {
			args = append(args, j.ID, micros(j.StartedAt), int64(j.Expect), micros(j.Deadline))
		}
		if err := q.eval(ctx, addScript, args...); err != nil {
			return fmt.Errorf("vtredis: queue %q: Add: %d of %d jobs are in Redis: %w", q.name, added, len(jobs), err)
		}
		added += len(some)
	}
	return nil
}

// Remove takes jobs out of the queue without handling them. The replica that waits for
// one stops within half of the idle time; if it is handling its end, it goes on.
// Ids that are not in the queue are ignored.
func (q *Queue) Remove(ctx context.Context, ids ...string) error {
	for some := range slices.Chunk(ids, batch) {
		args := []any{group}
		for _, id := range some {
			args = append(args, id)
		}
		if err := q.eval(ctx, removeScript, args...); err != nil {
			return fmt.Errorf("vtredis: queue %q: Remove: %w", q.name, err)
		}
	}
	return nil
}

// Hint passes a hint that a job has ended to the replica that waits for it, whichever
// that is. It is the Hint of a [vtclient.Webhook] at any replica. A hint that
// Redis does not take within two seconds is lost and reported to OnError: polls make up for it.
func (q *Queue) Hint(jobID string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := q.eval(ctx, hintScript, group, jobID, q.hints("")); err != nil {
		q.o.OnError(fmt.Errorf("vtredis: queue %q: Hint of job %q: %w", q.name, jobID, err))
	}
}

// hints is the channel on which a consumer receives hints.
func (q *Queue) hints(consumer string) string { return q.base + ":hints:" + consumer }

// QueueStats describes a queue at one moment, across all replicas.
type QueueStats struct {
	Jobs      int64         // unfinished
	Claimed   int64         // of them: claimed by a replica
	Replicas  int           // that have claims, dead ones included until their jobs are taken over
	Oldest    time.Duration // since the oldest unfinished job was added
	Takeovers int64         // claims that lapsed or were given up, and were taken up again, ever
	Failed    int64         // handlings that returned an error, ever
	Dead      int64         // dead letters now
	// Deliveries counts the jobs that were handled, by the delivery that succeeded:
	// Deliveries[0] at the first.
	Deliveries []int64
}

// Stats returns the state of the queue. Its cost does not depend on the number of jobs.
func (q *Queue) Stats(ctx context.Context) (QueueStats, error) {
	var (
		s       QueueStats
		n, dead *redis.IntCmd
		pending *redis.XPendingCmd
		first   *redis.XMessageSliceCmd
		state   *redis.MapStringStringCmd
		now     *redis.TimeCmd
	)
	_, err := q.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		n, dead = p.XLen(ctx, q.keys[0]), p.XLen(ctx, q.keys[4])
		pending = p.XPending(ctx, q.keys[0], group)
		first = p.XRangeN(ctx, q.keys[0], "-", "+", 1)
		state = p.HGetAll(ctx, q.keys[2])
		now = p.Time(ctx)
		return nil
	})
	if err != nil && !isGone(err) { // a queue without jobs so far is empty
		return s, fmt.Errorf("vtredis: queue %q: Stats: %w", q.name, err)
	}
	s.Jobs, s.Dead = n.Val(), dead.Val()
	if p := pending.Val(); p != nil {
		for name, claims := range p.Consumers {
			if name != free {
				s.Claimed += claims
				s.Replicas++
			}
		}
	}
	if m := first.Val(); len(m) > 0 {
		ms, _, _ := strings.Cut(m[0].ID, "-")
		s.Oldest = max(0, now.Val().Sub(time.UnixMilli(number(ms))))
	}
	counts := state.Val()
	s.Takeovers, s.Failed = number(counts["takeovers"]), number(counts["failed"])
	for i := 1; i <= q.o.MaxDeliveries; i++ {
		s.Deliveries = append(s.Deliveries, number(counts["delivery:"+strconv.Itoa(i)]))
	}
	return s, nil
}

// open creates the stream and its group where they are missing. Its answer is the moment of
// their creation, which distinguishes one queue from another under the same key.
func (q *Queue) open(ctx context.Context) *redis.Cmd {
	return openScript.Run(ctx, q.rdb, q.keys, group)
}

// eval runs a script without an answer.
func (q *Queue) eval(ctx context.Context, s *redis.Script, args ...any) error {
	err := s.Run(ctx, q.rdb, q.keys, args...).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// isGone reports that there is no stream with our group.
func isGone(err error) bool { return strings.Contains(err.Error(), "NOGROUP") }

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(text string) time.Time {
	if n := number(text); n != 0 {
		return time.UnixMicro(n)
	}
	return time.Time{}
}

// number is 0 where there is none.
func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}
