// Package vtredis lets the replicas of a service share, through Redis, what their
// vtclients know: the ends of jobs ([Cache]), how long jobs take ([Learnt]), the pauses
// that the backend asks for ([Pause]), and hints that a job has ended ([Publish], [Subscribe]).
// A [Queue] is the set of jobs to wait for itself, which outlives the replicas.
//
// The Redis client must have ContextTimeoutEnabled, so that a server that hangs
// costs no more than the short time that vtclient gives to a cache:
//
//	rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
//
// But for a Queue, nothing here is needed for the right answer: where Redis is down or hangs,
// each replica asks the backend itself, and the Cached callback of a [vtclient.Trace] reports
// it. docs/scaling.md compares the ways to share.
package vtredis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
)

// A Cache is a [vtclient.Cache] of answers in Redis. It is safe for concurrent use.
type Cache struct {
	rdb    redis.Cmdable
	prefix string
}

// NewCache returns a cache whose keys all begin with prefix. One prefix serves one
// backend and one tenant, as job ids say nothing about either:
//
//	vtclient.WithCache(vtredis.NewCache(rdb, "heygen:acme:"))
func NewCache(rdb redis.Cmdable, prefix string) *Cache { return &Cache{rdb, prefix} }

// A record is a vtclient.Status as it is stored. The body is not taken for JSON: an
// Endpoint may read anything.
type record struct {
	JobID         string
	State         vtclient.State
	Message       string  `json:",omitempty"`
	Progress      float64 `json:",omitempty"`
	Body          []byte  `json:",omitempty"`
	CheckedAt     time.Time
	ResultMissing bool `json:",omitempty"`
}

// Get implements [vtclient.Cache].
func (c *Cache) Get(ctx context.Context, key string) (vtclient.Status, bool, error) {
	text, err := c.rdb.Get(ctx, c.prefix+key).Bytes()
	if errors.Is(err, redis.Nil) {
		return vtclient.Status{}, false, nil
	}
	if err != nil {
		return vtclient.Status{}, false, err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return vtclient.Status{}, false, fmt.Errorf("vtredis: what is stored under %q is no answer: %w", c.prefix+key, err)
	}
	return vtclient.Status{
		JobID: r.JobID, State: r.State, Message: r.Message, Progress: r.Progress,
		Body: r.Body, CheckedAt: r.CheckedAt, ResultMissing: r.ResultMissing,
	}, true, nil
}

// Set implements [vtclient.Cache].
func (c *Cache) Set(ctx context.Context, key string, st vtclient.Status, ttl time.Duration) error {
	if ttl < time.Millisecond { // Redis counts in milliseconds, and takes 0 for ever
		return c.rdb.Del(ctx, c.prefix+key).Err()
	}
	text, err := json.Marshal(record{
		JobID: st.JobID, State: st.State, Message: st.Message, Progress: st.Progress,
		Body: st.Body, CheckedAt: st.CheckedAt, ResultMissing: st.ResultMissing,
	})
	if err != nil {
		return err
	}
	return c.rdb.Set(ctx, c.prefix+key, text, ttl).Err()
}

// Publish sends a hint to all replicas that a job has ended. It is for the Hint of the one
// replica that the backend's webhook reaches:
//
//	&vtclient.Webhook{Verify: verify, Hint: func(id string) {
//		if err := vtredis.Publish(ctx, rdb, "heygen:acme:hints", id); err != nil {
//			client.Hint(id) // at least our own
//		}
//	}}
//
// The backend waits meanwhile, so it gives up after two seconds.
func Publish(ctx context.Context, rdb redis.Cmdable, channel, jobID string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return rdb.Publish(ctx, channel, jobID).Err()
}

// Subscribe calls hint, normally [vtclient.Client.Hint], for each job that any
// replica publishes, this one included, and returns once Redis has confirmed the
// subscription. It ends with ctx; done is closed then. Hints that are published while
// the connection is down are lost: polls make up for them.
func Subscribe(ctx context.Context, rdb redis.UniversalClient, channel string, hint func(jobID string)) (done <-chan struct{}, err error) {
	sub := rdb.Subscribe(ctx, channel)
	if _, err := sub.Receive(ctx); err != nil {
		sub.Close()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer sub.Close()
		messages := sub.Channel()
		for {
			select {
			case m, ok := <-messages:
				if !ok {
					return
				}
				hint(m.Payload)
			case <-ctx.Done():
				return
			}
		}
	}()
	return ended, nil
}
