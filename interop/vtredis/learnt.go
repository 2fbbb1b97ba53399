package vtredis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/unit"
)

// A Learnt is a [vtclient.Adaptive] that knows what all replicas have learnt about
// the durations of jobs. Make it the polling of one client, and give it to the
// [QueueOptions] if there is a queue, which then saves it:
//
//	learnt, err := vtredis.Load(ctx, rdb, "heygen:acme:learnt", hostname, time.Second)
//	client, err := vtclient.New(url, vtclient.WithPolling(learnt))
//	...
//	defer learnt.Save(context.Background())
type Learnt struct {
	*vtclient.Adaptive
	own           *vtclient.Adaptive // what this replica has seen itself, so that nothing counts twice
	requestCost   time.Duration
	rdb           redis.Cmdable
	hash, replica string
}

// Load returns what the replicas have saved in a Redis hash, one field for each, the
// one named replica being the caller's own. requestCost is as for
// [vtclient.NewAdaptive]. If it makes no sense, Redis fails, or a field is unreadable, Load
// returns the error and, all the same, a Learnt that knows what could be read.
func Load(ctx context.Context, rdb redis.Cmdable, hash, replica string, requestCost time.Duration) (*Learnt, error) {
	l := &Learnt{
		Adaptive: vtclient.NewAdaptive(requestCost), own: vtclient.NewAdaptive(requestCost),
		requestCost: requestCost, rdb: rdb, hash: hash, replica: replica,
	}
	if want := unit.Missing(requestCost, time.Millisecond); want != "" {
		return l, fmt.Errorf("vtredis: Load: requestCost: %v, want %s", requestCost, want)
	}
	fields, err := rdb.HGetAll(ctx, hash).Result()
	if err != nil {
		return l, err
	}
	var errs []error
	if text, ok := fields[replica]; ok {
		if err := l.own.UnmarshalText([]byte(text)); err != nil {
			errs = append(errs, l.unreadable(replica, err))
		}
	}
	return l, errors.Join(append(errs, l.merge(l.Adaptive, fields))...)
}

// merge adds to what this replica has learnt itself what the fields of the others hold.
func (l *Learnt) merge(to *vtclient.Adaptive, fields map[string]string) error {
	var errs []error
	to.Merge(l.own)
	for name, text := range fields {
		if name == l.replica {
			continue
		}
		theirs := vtclient.NewAdaptive(l.requestCost)
		if err := theirs.UnmarshalText([]byte(text)); err != nil {
			errs = append(errs, l.unreadable(name, err))
			if !errors.Is(err, vtclient.ErrStateIncomplete) {
				continue
			}
		}
		to.Merge(theirs)
	}
	return errors.Join(errs...)
}

func (l *Learnt) unreadable(field string, err error) error {
	return fmt.Errorf("vtredis: field %q of %q: %w", field, l.hash, err)
}

// Learn implements [vtclient.Learner].
func (l *Learnt) Learn(c vtclient.Completion) {
	l.Adaptive.Learn(c)
	l.own.Learn(c)
}

// replicasKept bounds the replicas in the hash: those that saved last. Names of replicas
// may change with each deployment, and an Adaptive remembers some hundred jobs.
const replicasKept = 16

// saveScript stores a field, and removes those of the replicas that saved longest ago.
// KEYS: hash, times. ARGV: replica, text, replicas kept.
var saveScript = redis.NewScript(`
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local t = redis.call('TIME')
redis.call('ZADD', KEYS[2], t[1], ARGV[1])
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1 - ARGV[3])) do
	redis.call('HDEL', KEYS[1], name)
	redis.call('ZREM', KEYS[2], name)
end
`)

// Save stores what this replica has learnt, for the 16 replicas that saved last. Call
// it before the process ends, and from time to time; [Queue.Run] does.
func (l *Learnt) Save(ctx context.Context) error {
	text, err := l.own.MarshalText()
	if err != nil {
		return err
	}
	err = saveScript.Run(ctx, l.rdb, []string{l.hash, tagged(l.hash) + ":saved"}, l.replica, text, replicasKept).Err()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// Refresh saves what this replica has learnt, and takes over what others have saved since.
func (l *Learnt) Refresh(ctx context.Context) error {
	if err := l.Save(ctx); err != nil {
		return err
	}
	fields, err := l.rdb.HGetAll(ctx, l.hash).Result()
	if err != nil {
		return err
	}
	all := vtclient.NewAdaptive(l.requestCost)
	errs := l.merge(all, fields)
	text, err := all.MarshalText()
	if err != nil {
		return err
	}
	// What is learnt since the merge is in own alone until the next one.
	return errors.Join(errs, l.UnmarshalText(text))
}
