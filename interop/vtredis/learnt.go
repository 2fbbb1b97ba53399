package vtredis

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/unit"
)

// A Learnt is a [vtclient.Adaptive] with what all replicas have learnt about the durations of
// jobs. Make it the polling of one client, and give it to the [QueueOptions] if there is a
// queue, which then saves it:
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

// Load returns what the 16 replicas that saved last have saved in a Redis hash, one field for
// each, the one named replica being the caller's own. requestCost is as for
// [vtclient.NewAdaptive]. If it makes no sense, Redis fails, or a field is unreadable, Load
// returns the error and a Learnt with what could be read.
func Load(ctx context.Context, rdb redis.Cmdable, hash, replica string, requestCost time.Duration) (*Learnt, error) {
	l := &Learnt{
		Adaptive: vtclient.NewAdaptive(requestCost), own: vtclient.NewAdaptive(requestCost),
		requestCost: requestCost, rdb: rdb, hash: hash, replica: replica,
	}
	if want := unit.Missing(requestCost, 100*time.Microsecond); want != "" {
		return l, fmt.Errorf("vtredis: Load: requestCost: %v, want %s", requestCost, want)
	}
	fields, err := l.fields(ctx)
	if err != nil {
		return l, err
	}
	var errs []error
	for name, text := range fields {
		if name != replica {
			continue
		}
		if err := l.own.UnmarshalText([]byte(text)); err != nil {
			errs = append(errs, l.unreadable(replica, err))
		}
	}
	return l, errors.Join(append(errs, l.merge(l.Adaptive, fields))...)
}

// fieldsScript returns the names and texts of the caller's own field and of those that were
// saved last; where the time of some is not known, these come after the others, by name.
// KEYS: hash, times. ARGV: replica, replicas kept.
var fieldsScript = redis.NewScript(`
local out, seen = {}, {}
local function take(name)
	local text = not seen[name] and #out < 2 * ARGV[2] and redis.call('HGET', KEYS[1], name)
	if text then
		seen[name] = true
		out[#out+1], out[#out+2] = name, text
	end
end
take(ARGV[1])
for _, name in ipairs(redis.call('ZREVRANGE', KEYS[2], 0, ARGV[2])) do take(name) end
if #out < 2 * ARGV[2] then
	local names = redis.call('HKEYS', KEYS[1])
	table.sort(names)
	for _, name in ipairs(names) do take(name) end
end
return out
`)

// fields yields the replicas that count, and what they have saved.
func (l *Learnt) fields(ctx context.Context) (iter.Seq2[string, string], error) {
	out, err := fieldsScript.Run(ctx, l.rdb, l.keys(), l.replica, replicasKept).StringSlice()
	if err != nil {
		return nil, err
	}
	return func(yield func(string, string) bool) {
		for pair := range slices.Chunk(out, 2) {
			if !yield(pair[0], pair[1]) {
				return
			}
		}
	}, nil
}

// keys are the hash of the texts, and the sorted set of the times at which they were saved.
func (l *Learnt) keys() []string { return []string{l.hash, tagged(l.hash) + ":saved"} }

// merge adds to what this replica has learnt itself what the fields of the others hold.
// Their order makes no difference.
func (l *Learnt) merge(to *vtclient.Adaptive, fields iter.Seq2[string, string]) error {
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

// replicasKept bounds the replicas that count: those that saved last. Names of replicas
// may change with each deployment, and an Adaptive remembers some hundred jobs.
const replicasKept = 16

// saveScript stores a field, and removes those of the replicas that saved longest ago, and
// beyond the bound those of which no time is known.
// KEYS: hash, times. ARGV: replica, text, replicas kept.
var saveScript = redis.NewScript(`
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local t = redis.call('TIME')
redis.call('ZADD', KEYS[2], t[1], ARGV[1])
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1 - ARGV[3])) do
	redis.call('HDEL', KEYS[1], name)
	redis.call('ZREM', KEYS[2], name)
end
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[3]) then
	for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
		if not redis.call('ZSCORE', KEYS[2], name) then redis.call('HDEL', KEYS[1], name) end
	end
end
`)

// Save stores what this replica has learnt, for the 16 replicas that saved last. Call
// it before the process ends, and from time to time; [Queue.Run] does.
func (l *Learnt) Save(ctx context.Context) error {
	text, err := l.own.MarshalText()
	if err != nil {
		return err
	}
	err = saveScript.Run(ctx, l.rdb, l.keys(), l.replica, text, replicasKept).Err()
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
	fields, err := l.fields(ctx)
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
