package vtclient

import (
	"context"
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Cache remembers values under string keys, each for a limited time. The
// Client keeps the last Status of each job in one; see WithCache.
//
// An implementation over another store must hold the following:
//
//   - Get and Set are safe for concurrent use.
//   - They return when ctx is done. The Client gives them a context with a
//     short bound of its own, because a cache that hangs must not hold up the
//     answer that it was to speed up.
//   - Get returns the value that was last stored for exactly that key, or
//     false: not a value of another key, not one older than its time to live.
//     It may return false at any time; a cache may forget.
//   - An entry stored with a ttl is absent once ttl has passed. A ttl of zero
//     or less stores nothing, and what the key held before is forgotten.
//   - A failure of the store is an error, not a miss, so that it can be seen:
//     the Client reports it (see Trace) and goes on as after a miss. It never
//     fails a call of the Client.
//   - Values are shared, not copied: what lies behind one must not be changed.
//
// Keys do not name backends, credentials or tenants. One cache therefore
// serves one backend and one tenant; an implementation over a store that many
// share carries both in a prefix that it puts before each key.
type Cache[V any] interface {
	// Get returns the value stored for key. The bool is false if there is none.
	Get(ctx context.Context, key string) (V, bool, error)

	// Set stores value for key for the duration ttl, in place of whatever the
	// key held before.
	Set(ctx context.Context, key string, value V, ttl time.Duration) error
}

// A MemoryCache is a Cache in the memory of the process. It holds at most as
// many entries as its capacity and has no goroutine and no timer.
//
// An entry is absent from the instant at which its time to live has passed. Its
// memory is reclaimed later: each Set of a new key looks at a few entries for
// expired ones, so that in a cache in use the dead do not outnumber the living
// for long, whatever the capacity. Time is measured with the monotonic clock.
//
// When the cache is full, an expired entry makes room if one is found on the
// way, else the first that was not asked for since the eviction last passed it
// (SIEVE). Setting a key that is present removes no other.
//
// All methods are safe for concurrent use. Get takes no lock when it finds its
// key and allocates nothing, so readers do not slow each other down; Set takes
// a lock.
//
// The zero value holds nothing: each Get misses, each Set is dropped. It must
// not be copied after first use.
type MemoryCache[V any] struct {
	// Get reads these and no more. They change only when the table grows.
	table    atomic.Pointer[cacheTable[V]] // nil in a cache that holds nothing
	growing  atomic.Bool                   // chains are being moved to a larger table
	seed     maphash.Seed
	epoch    time.Time
	capacity int

	mu sync.Mutex // held during changes
	// All entries in the order of their insertion.
	newest, oldest *cacheEntry[V]
	count          int
	hand           *cacheEntry[V] // where the eviction goes on; nil: at the oldest
	broom          *cacheEntry[V] // where the search for expired ones goes on; nil: at the oldest
}

// A cacheTable is a hash table of chained entries, its length a power of two.
// Get walks it without a lock while Set changes it, which is sound because
//
//   - key, value and expiry of an entry never change once it is in a chain: Set
//     puts a new entry in the place of the old one;
//   - an entry that is taken out of its chain still points to the rest of it,
//     so a Get that stands on it gets to the end;
//   - no entry enters a chain twice, except when the table grows: then entries
//     move to other chains, and a Get that missed meanwhile looks again under
//     the lock.
//
// What it buys over a map and a sync.RWMutex: a hit on two cores takes 43 ns and
// not 63, on one core 86 and not 102, and more cores do not wait in line. Of one
// hit, 26 ns are the clock. An entry costs 56 bytes and its value, the table
// eight to sixteen more.
type cacheTable[V any] []atomic.Pointer[cacheEntry[V]]

type cacheEntry[V any] struct {
	next    atomic.Pointer[cacheEntry[V]] // in the chain
	hash    uint32
	visited atomic.Uint32 // 1: asked for since the hand last passed
	expires int64         // nanoseconds since the epoch
	key     string

	newer, older *cacheEntry[V] // guarded by mu

	value V
}

func (t cacheTable[V]) bucket(hash uint32) *atomic.Pointer[cacheEntry[V]] {
	return &t[int(hash)&(len(t)-1)]
}

func (t cacheTable[V]) find(hash uint32, key string) *cacheEntry[V] {
	e := t.bucket(hash).Load()
	for e != nil && (e.hash != hash || e.key != key) {
		e = e.next.Load()
	}
	return e
}

// The table starts small and doubles, so that a cache costs what it holds and
// not what it could hold.
const cacheMinTable = 16

// NewMemoryCache returns an empty cache that never holds more than capacity
// entries. It grows as it fills: a capacity that is never reached costs nothing.
//
// A cache with a capacity of zero or less holds nothing; New refuses one,
// because WithCache(nil) is clearer.
func NewMemoryCache[V any](capacity int) *MemoryCache[V] {
	c := &MemoryCache[V]{
		seed:     maphash.MakeSeed(),
		epoch:    time.Now(),
		capacity: capacity,
	}
	if capacity > 0 {
		t := make(cacheTable[V], cacheMinTable)
		c.table.Store(&t)
	}
	return c
}

// validate returns the reason for which New refuses the cache.
func (c *MemoryCache[V]) validate() error {
	switch {
	case c == nil:
		return badArgument("cache", "a nil *MemoryCache", "a cache, or WithCache(nil) for none")
	case c.capacity <= 0:
		return badArgument("NewMemoryCache: capacity", c.capacity, "at least 1, or WithCache(nil) for no cache")
	}
	return nil
}

// now is the time since the cache was made. Measured like this it takes one
// reading of the monotonic clock; time.Now reads the wall clock as well and
// takes 47 ns instead of 26.
func (c *MemoryCache[V]) now() int64 { return int64(time.Since(c.epoch)) }

func (c *MemoryCache[V]) hash(key string) uint32 { return uint32(maphash.String(c.seed, key)) }

// Get returns the value stored for key, unless its time to live has passed. It
// answers at once: it does not look at ctx, and the error is always nil.
func (c *MemoryCache[V]) Get(ctx context.Context, key string) (value V, ok bool, err error) {
	if v := c.get(key); v != nil {
		return *v, true, nil
	}
	return value, false, nil
}

// get is Get, but returns where the value lies, or nil. It must not be written to.
func (c *MemoryCache[V]) get(key string) *V {
	t := c.table.Load()
	if t == nil {
		return nil
	}
	hash := c.hash(key)
	e := t.find(hash, key)
	// In this order: growing falls only after the new table is in place.
	if e == nil && (c.growing.Load() || c.table.Load() != t) {
		c.mu.Lock()
		e = c.table.Load().find(hash, key)
		c.mu.Unlock()
	}
	if e == nil || c.now() >= e.expires {
		return nil
	}
	if e.visited.Load() == 0 { // a store each time would have the cores fight for the line
		e.visited.Store(1)
	}
	return &e.value
}

// Set stores value for key until ttl has passed. A ttl of zero or less removes
// the key. The error is always nil.
func (c *MemoryCache[V]) Set(ctx context.Context, key string, value V, ttl time.Duration) error {
	c.set(strings.Clone(key), &value, ttl, nil) // key may be a part of a large text
	return nil
}

// set is Set, but keeps key itself, and a living value of which spare, if not nil, reports true.
func (c *MemoryCache[V]) set(key string, value *V, ttl time.Duration, spare func(old V) bool) {
	if c.capacity <= 0 {
		return
	}
	hash := c.hash(key)
	if ttl <= 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if old := c.table.Load().find(hash, key); old != nil {
			c.remove(old)
		}
		return
	}

	now := c.now()
	e := &cacheEntry[V]{hash: hash, expires: now + int64(ttl), key: key, value: *value}
	if e.expires < now {
		e.expires = math.MaxInt64
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.table.Load().find(hash, key)
	if old != nil && now < old.expires {
		if spare == nil || !spare(old.value) {
			c.replace(old, e)
		}
		return
	}
	if old != nil {
		// Its place among the oldest is not that of the new value.
		c.remove(old)
	}
	c.sweep(now)
	if c.count >= c.capacity {
		c.evict(now)
	}
	c.insert(e)
}

// Len returns the number of entries whose time to live has not passed. It looks
// at all of them, with the lock held, and frees those that have expired.
func (c *MemoryCache[V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for e := c.oldest; e != nil; {
		newer := e.newer
		if now >= e.expires {
			c.remove(e)
		}
		e = newer
	}
	return c.count
}

func (c *MemoryCache[V]) insert(e *cacheEntry[V]) {
	if c.count >= len(*c.table.Load()) {
		c.grow()
	}
	b := c.table.Load().bucket(e.hash)
	e.next.Store(b.Load())
	b.Store(e)

	e.older = c.newest
	if e.older != nil {
		e.older.newer = e
	} else {
		c.oldest = e
	}
	c.newest = e
	c.count++
}

// grow doubles the table. At each moment the chains of the new one hold only
// entries that have been moved, so a Get that is led from an old chain into a
// new one still comes to an end.
func (c *MemoryCache[V]) grow() {
	t := make(cacheTable[V], 2*len(*c.table.Load()))
	c.growing.Store(true)
	for e := c.oldest; e != nil; e = e.newer {
		b := t.bucket(e.hash)
		e.next.Store(b.Load())
		b.Store(e)
	}
	c.table.Store(&t)
	c.growing.Store(false)
}

// link returns the pointer that holds e in its chain.
func (c *MemoryCache[V]) link(e *cacheEntry[V]) *atomic.Pointer[cacheEntry[V]] {
	p := c.table.Load().bucket(e.hash)
	for at := p.Load(); at != e; at = p.Load() {
		p = &at.next
	}
	return p
}

// replace puts e where old is. To be written again is to be in use.
func (c *MemoryCache[V]) replace(old, e *cacheEntry[V]) {
	e.visited.Store(1)
	e.next.Store(old.next.Load())
	c.link(old).Store(e)

	e.newer, e.older = old.newer, old.older
	*c.newerEnd(e.older), *c.olderEnd(e.newer) = e, e
	if c.hand == old {
		c.hand = e
	}
	if c.broom == old {
		c.broom = e
	}
	old.newer, old.older = nil, nil
}

func (c *MemoryCache[V]) remove(e *cacheEntry[V]) {
	c.link(e).Store(e.next.Load())

	*c.newerEnd(e.older), *c.olderEnd(e.newer) = e.newer, e.older
	if c.hand == e {
		c.hand = e.newer
	}
	if c.broom == e {
		c.broom = e.newer
	}
	e.newer, e.older = nil, nil
	c.count--
}

// newerEnd returns the pointer to the next newer entry after e; before
// the first of them that is the start of the list.
func (c *MemoryCache[V]) newerEnd(e *cacheEntry[V]) **cacheEntry[V] {
	if e == nil {
		return &c.oldest
	}
	return &e.newer
}

func (c *MemoryCache[V]) olderEnd(e *cacheEntry[V]) **cacheEntry[V] {
	if e == nil {
		return &c.newest
	}
	return &e.older
}

// sweep looks at the next two entries and frees those that have expired. Two,
// because one is about to be added: at one each, the broom would never catch up.
func (c *MemoryCache[V]) sweep(now int64) {
	for range 2 {
		e := c.broom
		if e == nil {
			e = c.oldest
		}
		if e == nil {
			return
		}
		c.broom = e.newer
		if now >= e.expires {
			c.remove(e)
		}
	}
}

// evict removes one entry. This is SIEVE (Zhang, Yang, Yue, Vigfusson and
// Rashmi, "SIEVE is Simpler than LRU", NSDI 2024): a hand goes from the oldest
// to the newest entry and round again, spares once what was asked for since it
// last came by, and takes the first that was not. Unlike in LRU a hit moves
// nothing, which is why Get needs no lock; unlike in CLOCK what was spared
// keeps its place, so that newcomers are tried soon and the proven stay.
func (c *MemoryCache[V]) evict(now int64) {
	e := c.hand
	// One round is enough: after it, an entry is marked only if it was asked for
	// while the hand went round, and waiting for that to stop could take for ever.
	for range c.count {
		if e == nil {
			e = c.oldest
		}
		if now >= e.expires || e.visited.Load() == 0 {
			break
		}
		e.visited.Store(0)
		e = e.newer
	}
	if e == nil {
		e = c.oldest
	}
	c.hand = e.newer
	c.remove(e)
}
