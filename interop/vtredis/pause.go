package vtredis

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/vtclient/vtclient"
)

const (
	// maxPause bounds a shared pause: a longer one is most likely a mistake.
	maxPause = 10 * time.Minute

	// pauseTime bounds what a look for a pause may take, and pauseRest is the time
	// without a look after one that failed.
	pauseTime = 250 * time.Millisecond
	pauseRest = 5 * time.Second
)

// A Pause has all replicas pause when one of them is answered 429 with a Retry-After. It is
// a [vtclient.Limiter], and its trace finds the 429s:
//
//	pause := vtredis.NewPause(rdb, "heygen:acme:pause", nil)
//	client, err := vtclient.New(url, vtclient.WithLimiter(pause), vtclient.WithTrace(pause.Trace()))
//
// A 429 to a submission holds the submissions of the client that met it, and nothing here: it
// is mostly about the number of jobs.
//
// Each request costs a look at a key in Redis. Without Redis there is no shared
// pause: a client still obeys those that it is asked for itself.
type Pause struct {
	rdb    redis.UniversalClient
	key    string
	next   vtclient.Limiter
	failed atomic.Int64 // when a look failed, as UnixNano
}

// NewPause returns the pause that is kept under that key. One key serves one backend and
// one tenant. next, if not nil, is the limiter to ask once there is no pause.
func NewPause(rdb redis.UniversalClient, key string, next vtclient.Limiter) *Pause {
	return &Pause{rdb: rdb, key: key, next: next}
}

// Wait returns once there is no pause, or with the error of ctx. After a pause the
// requests come back spread over a tenth of it, a second at most.
func (p *Pause) Wait(ctx context.Context) error {
	for left := p.left(ctx); left > 0; left = p.left(ctx) {
		if !sleep(ctx, left+rand.N(min(left/10+1, time.Second))) {
			return ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil || p.next == nil {
		return err
	}
	return p.next.Wait(ctx)
}

// left returns how much of a pause is left.
func (p *Pause) left(ctx context.Context) time.Duration {
	if time.Since(time.Unix(0, p.failed.Load())) < pauseRest {
		return 0
	}
	short, cancel := context.WithTimeout(ctx, pauseTime)
	defer cancel()
	left, err := p.rdb.PTTL(short, p.key).Result()
	if err != nil && ctx.Err() == nil {
		p.failed.Store(time.Now().UnixNano())
	}
	return min(left, maxPause)
}

// pauseScript makes a pause, or makes it longer. KEYS: the key. ARGV: milliseconds.
var pauseScript = redis.NewScript(`
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '', 'PX', ARGV[1]) end
`)

// Trace returns the trace for [vtclient.WithTrace] that makes a pause of each 429 with a
// Retry-After, of 10 min at most.
func (p *Pause) Trace() vtclient.Trace {
	return vtclient.Trace{Answered: func(ctx context.Context, i vtclient.TraceInfo) {
		var answer *vtclient.HTTPError
		if i.StatusCode != http.StatusTooManyRequests || i.Action == "submit" || !errors.As(i.Err, &answer) {
			return
		}
		ms := min(answer.RetryAfter, maxPause).Milliseconds()
		if ms <= 0 {
			return
		}
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), pauseTime)
		defer cancel()
		pauseScript.Run(short, p.rdb, []string{p.key}, ms) // without Redis, this client's own pause remains
	}}
}
