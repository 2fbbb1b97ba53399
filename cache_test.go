package vtclient_test

import (
	"container/list"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/race"
)

var _ vtclient.Cache[vtclient.Status] = (*vtclient.MemoryCache[vtclient.Status])(nil)

// A tryCache drops the contexts and errors that a MemoryCache does not use.
type tryCache[V any] struct {
	*vtclient.MemoryCache[V]
	t testing.TB
}

func newCache[V any](t testing.TB, capacity int) tryCache[V] {
	return tryCache[V]{vtclient.NewMemoryCache[V](capacity), t}
}

func (c tryCache[V]) get(key string) (V, bool) {
	v, ok, err := c.Get(context.Background(), key)
	if err != nil {
		c.t.Errorf("Get(%q): %v", key, err)
	}
	return v, ok
}

func (c tryCache[V]) has(key string) bool {
	_, ok := c.get(key)
	return ok
}

func (c tryCache[V]) set(key string, v V, ttl time.Duration) {
	if err := c.Set(context.Background(), key, v, ttl); err != nil {
		c.t.Errorf("Set(%q): %v", key, err)
	}
}

func TestMemoryCacheKeepsWhatWasSet(t *testing.T) {
	const n = 10_000 // enough to double the table many times
	c := newCache[int](t, n)
	for i := range n {
		c.set(strconv.Itoa(i), i, time.Hour)
	}
	for i := range n {
		if v, ok := c.get(strconv.Itoa(i)); !ok || v != i {
			t.Fatalf("Get(%d) = %d, %t", i, v, ok)
		}
	}
	if c.has(strconv.Itoa(n)) || c.has("") {
		t.Error("a key that was never set is present")
	}
	c.set("", 7, time.Hour)
	if v, ok := c.get(""); !ok || v != 7 {
		t.Errorf("the empty key is a key: got %d, %t", v, ok)
	}
}

// Property 34.
func TestMemoryCacheNeverAnswersWithAnotherKeysValue(t *testing.T) {
	c := newCache[string](t, 500)
	rng := rand.New(rand.NewPCG(34, 0))
	for range 50_000 {
		key := strconv.Itoa(rng.IntN(2000))
		if v, ok := c.get(key); ok && v != key {
			t.Fatalf("Get(%q) = %q", key, v)
		}
		c.set(key, key, time.Hour)
		if v, ok := c.get(key); !ok || v != key {
			t.Fatalf("after Set: Get(%q) = %q, %t", key, v, ok)
		}
	}
}

// Property 35.
func TestMemoryCacheExpiry(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ttl     time.Duration
		advance time.Duration
		want    bool
	}{
		{"at once", time.Nanosecond, 0, true},
		{"just before", time.Second, time.Second - 1, true},
		{"at the exact instant", time.Second, time.Second, false},
		{"just after", time.Second, time.Second + 1, false},
		{"the shortest there is", 1, 1, false},
		{"the longest there is", math.MaxInt64, 100 * 365 * 24 * time.Hour, true},
		{"zero", 0, 0, false},
		{"negative", -time.Second, 0, false},
		{"as negative as there is", math.MinInt64, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache[int](t, 8)
				time.Sleep(time.Millisecond) // so that the cache's time does not begin with the entry's
				c.set("k", 1, tt.ttl)
				time.Sleep(tt.advance)
				wantLen := 0
				if tt.want {
					wantLen = 1
				}
				if v, ok := c.get("k"); ok != tt.want || (v == 1) != tt.want {
					t.Errorf("Get = %d, %t, want %t", v, ok, tt.want)
				}
				if n := c.Len(); n != wantLen {
					t.Errorf("Len = %d, want %d", n, wantLen)
				}
				if c.has("k") != tt.want {
					t.Error("Len changed what Get returns")
				}
			})
		})
	}
}

func TestMemoryCacheGetDoesNotProlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache[int](t, 1)
		c.set("k", 1, time.Second)
		for range 9 {
			time.Sleep(100 * time.Millisecond)
			if !c.has("k") {
				t.Fatal("gone too early")
			}
		}
		time.Sleep(100 * time.Millisecond)
		if c.has("k") {
			t.Error("Get gave the entry more time")
		}
	})
}

func TestMemoryCacheSetGivesANewTimeToLive(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first, second time.Duration
		after         time.Duration
		want          bool
	}{
		{"longer", time.Second, time.Minute, 30 * time.Second, true},
		{"shorter", time.Minute, time.Second, time.Second, false},
		{"none removes", time.Minute, 0, 0, false},
		{"negative removes", time.Minute, -1, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache[int](t, 2)
				c.set("k", 1, tt.first)
				c.set("k", 2, tt.second)
				time.Sleep(tt.after)
				v, ok := c.get("k")
				if ok != tt.want || ok && v != 2 {
					t.Errorf("Get = %d, %t, want 2, %t", v, ok, tt.want)
				}
			})
		})
	}
}

func TestMemoryCacheRemovalLeavesTheOthers(t *testing.T) {
	// Whichever is removed, first, last or between, in long chains or alone.
	const n = 16
	for i := range n {
		c := newCache[int](t, n)
		for k := range n {
			c.set(strconv.Itoa(k), k, time.Hour)
		}
		c.set(strconv.Itoa(i), -1, 0)
		for k := range n {
			if v, ok := c.get(strconv.Itoa(k)); ok != (k != i) || ok && v != k {
				t.Errorf("%d removed: Get(%d) = %d, %t", i, k, v, ok)
			}
		}
		c.set("new", 1, time.Hour)
		if got := c.Len(); got != n {
			t.Errorf("%d removed, one added: Len = %d, want %d", i, got, n)
		}
	}
}

// Property 36: the bound, one caller at a time.
func TestMemoryCacheHoldsItsBound(t *testing.T) {
	for _, capacity := range []int{1, 2, 3, 7, 16, 17, 100} {
		c := newCache[int](t, capacity)
		for i := range 10 * capacity {
			c.set(strconv.Itoa(i), i, time.Hour)
			if want := min(i+1, capacity); c.Len() != want {
				t.Fatalf("capacity %d: Len = %d after %d keys, want %d", capacity, c.Len(), i+1, want)
			}
			if !c.has(strconv.Itoa(i)) {
				t.Fatalf("capacity %d: the entry just set is gone", capacity)
			}
		}
	}
}

// Property 36: the bound, under concurrent writers.
func TestMemoryCacheHoldsItsBoundUnderConcurrentWriters(t *testing.T) {
	for _, capacity := range []int{1, 3, 64} {
		c := newCache[int](t, capacity)
		var (
			writers sync.WaitGroup
			watcher sync.WaitGroup
			stop    atomic.Bool
		)
		watcher.Go(func() {
			for !stop.Load() {
				if n := c.Len(); n > capacity {
					t.Errorf("capacity %d: Len = %d", capacity, n)
					return
				}
			}
		})
		for w := range 8 {
			writers.Go(func() {
				for i := range 2000 {
					c.set(strconv.Itoa(w*2000+i), i, time.Hour)
				}
			})
		}
		writers.Wait()
		stop.Store(true)
		watcher.Wait()
		if n := c.Len(); n != capacity {
			t.Errorf("capacity %d: Len = %d at the end", capacity, n)
		}
	}
}

// Property 36: no goroutine, no timer. In a bubble either would show: a goroutine
// that is left keeps Test from returning, and time would stop at a timer.
func TestMemoryCacheHasNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := runtime.NumGoroutine()
		c := newCache[int](t, 100)
		for i := range 1000 {
			c.set(strconv.Itoa(i), i, time.Duration(i))
			c.get(strconv.Itoa(i / 2))
		}
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines before, %d after", before, after)
		}
	})
}

func TestMemoryCacheOverwritingAtCapacityEvictsNothing(t *testing.T) {
	for capacity := 1; capacity <= 20; capacity++ {
		c := newCache[int](t, capacity)
		for i := range capacity {
			c.set(strconv.Itoa(i), 0, time.Hour)
		}
		for round := 1; round < 5; round++ {
			for i := range capacity {
				c.set(strconv.Itoa(i), round, time.Hour)
			}
			for i := range capacity {
				if v, ok := c.get(strconv.Itoa(i)); !ok || v != round {
					t.Fatalf("capacity %d, round %d: Get(%d) = %d, %t", capacity, round, i, v, ok)
				}
			}
		}
	}
}

func TestMemoryCachePrefersToEvictTheExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The dead are the newest and were asked for; the living are neither. The
		// broom finds what the hand would come to last.
		c := newCache[int](t, 4)
		c.set("live1", 1, time.Hour)
		c.set("live2", 1, time.Hour)
		c.set("dead1", 1, time.Second)
		c.set("dead2", 1, time.Second)
		c.get("dead1")
		c.get("dead2")
		time.Sleep(time.Second)
		c.set("live1", 2, time.Hour)
		c.set("live2", 2, time.Hour)
		c.set("new1", 1, time.Hour)
		c.set("new2", 1, time.Hour)
		for _, k := range []string{"live1", "live2", "new1", "new2"} {
			if !c.has(k) {
				t.Errorf("%s was evicted, and not an expired one", k)
			}
		}
	})
}

func TestMemoryCacheEvictsTheExpiredEvenIfAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache[int](t, 8)
		c.set("dead", 1, time.Second)
		for i := range 7 {
			c.set(strconv.Itoa(i), i, time.Hour)
		}
		c.get("dead")
		time.Sleep(time.Second)
		c.set("new", 1, time.Hour)
		for i := range 7 {
			if !c.has(strconv.Itoa(i)) {
				t.Errorf("%d was evicted, and not the expired one", i)
			}
		}
	})
}

func TestMemoryCacheThatHoldsNothing(t *testing.T) {
	for name, c := range map[string]*vtclient.MemoryCache[int]{
		"zero value":        new(vtclient.MemoryCache[int]),
		"capacity zero":     vtclient.NewMemoryCache[int](0),
		"capacity negative": vtclient.NewMemoryCache[int](-1),
		"capacity smallest": vtclient.NewMemoryCache[int](math.MinInt),
	} {
		t.Run(name, func(t *testing.T) {
			c := tryCache[int]{c, t}
			c.set("k", 1, time.Hour)
			c.set("k", 1, 0)
			if c.has("k") {
				t.Error("it holds something")
			}
			if n := c.Len(); n != 0 {
				t.Errorf("Len = %d", n)
			}
		})
	}
}

func TestMemoryCacheOfHugeCapacityCostsNothing(t *testing.T) {
	c := newCache[int](t, math.MaxInt)
	c.set("k", 1, time.Hour)
	if !c.has("k") {
		t.Error("it holds nothing")
	}
}

// A cache may be made in a package variable and used in a test's bubble, where
// it is the year 2000.
func TestMemoryCacheAcrossABubble(t *testing.T) {
	outside := newCache[int](t, 4)
	outside.set("before", 1, time.Hour)
	var inside tryCache[int]
	synctest.Test(t, func(t *testing.T) {
		outside.get("before") // present or not, but no panic
		outside.set("k", 1, time.Second)
		time.Sleep(time.Second - 1)
		if !outside.has("k") {
			t.Error("made outside, set inside: gone too early")
		}
		time.Sleep(time.Nanosecond)
		if outside.has("k") {
			t.Error("made outside, set inside: did not expire")
		}
		inside = newCache[int](t, 4)
		inside.set("before", 1, time.Hour)
	})
	inside.get("before")
	inside.set("k", 1, time.Hour)
	if !inside.has("k") {
		t.Error("made inside, set outside: gone too early")
	}
	outside.Len()
	inside.Len()
}

func TestMemoryCacheAllocatesNothingOnAHit(t *testing.T) {
	c := vtclient.NewMemoryCache[vtclient.Status](100)
	ctx := context.Background()
	c.Set(ctx, "job", vtclient.Status{JobID: "job"}, time.Hour)
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok, _ := c.Get(ctx, "job"); !ok {
			t.Fatal("miss")
		}
		c.Get(ctx, "none")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Readers of one key that is always there must find it, and find whole values,
// while writers replace it, the table doubles and other entries come and go.
func TestMemoryCacheReadersDuringChange(t *testing.T) {
	type pair struct{ a, b int }
	for range 10 {
		c := newCache[pair](t, 5000)
		const stable = 4
		for k := range stable {
			c.set("stable"+strconv.Itoa(k), pair{}, time.Hour)
		}
		var (
			writers, readers sync.WaitGroup
			stop             atomic.Bool
		)
		for range 2 {
			readers.Go(func() {
				for !stop.Load() {
					for k := range stable {
						v, ok := c.get("stable" + strconv.Itoa(k))
						if !ok || v.a != v.b {
							t.Errorf("Get = %v, %t", v, ok)
							return
						}
					}
				}
			})
		}
		writers.Go(func() {
			for i := range 4000 {
				c.set(strconv.Itoa(i), pair{}, time.Hour)
				if i%3 == 0 {
					c.set(strconv.Itoa(i/2), pair{}, 0)
				}
			}
		})
		writers.Go(func() {
			for i := range 4000 {
				c.set("stable"+strconv.Itoa(i%stable), pair{i, i}, time.Hour)
			}
		})
		writers.Wait()
		stop.Store(true)
		readers.Wait()
	}
}

// A reader that is led from one chain into another while the table doubles must
// look again. Small tables double so fast that this may begin and end within one Get.
func TestMemoryCacheReadersDuringGrowth(t *testing.T) {
	var (
		current atomic.Pointer[tryCache[int]]
		readers sync.WaitGroup
		stop    atomic.Bool
	)
	renew := func() *tryCache[int] {
		c := newCache[int](t, 1000)
		c.set("stable", 1, time.Hour) // the first in, and so the last in its chain
		current.Store(&c)
		return &c
	}
	renew()
	for range 3 {
		readers.Go(func() {
			for !stop.Load() {
				if c := current.Load(); !c.has("stable") {
					t.Error("missed")
					return
				}
			}
		})
	}
	rounds := 5000
	if race.Enabled {
		rounds = 1500
	}
	for range rounds {
		c := renew()
		for i := range 70 {
			c.set(strconv.Itoa(i), i, time.Hour)
		}
	}
	stop.Store(true)
	readers.Wait()
}

// A reader never sees a value older than one that it has seen.
func TestMemoryCacheNeverGoesBack(t *testing.T) {
	c := newCache[int](t, 64)
	var (
		wg   sync.WaitGroup
		stop atomic.Bool
	)
	c.set("k", 0, time.Hour)
	for range 2 {
		wg.Go(func() {
			last := 0
			for !stop.Load() {
				v, ok := c.get("k")
				if ok && v < last {
					t.Errorf("saw %d after %d", v, last)
					return
				}
				last = max(last, v)
			}
		})
	}
	for i := range 20_000 {
		c.set("k", i, time.Hour)
		c.set(strconv.Itoa(i%100), i, time.Hour) // pushes it out now and then
	}
	stop.Store(true)
	wg.Wait()
}

// A sieve is the algorithm as the paper has it, slow and plain.
type sieve struct {
	capacity int
	keys     []int // oldest first
	visited  map[int]bool
	hand     int
}

func (s *sieve) access(key int) (hit bool) {
	if _, ok := s.visited[key]; ok {
		s.visited[key] = true
		return true
	}
	if len(s.keys) == s.capacity {
		for {
			k := s.keys[s.hand]
			if !s.visited[k] {
				break
			}
			s.visited[k] = false
			s.hand = (s.hand + 1) % len(s.keys)
		}
		delete(s.visited, s.keys[s.hand])
		s.keys = slices.Delete(s.keys, s.hand, s.hand+1)
		if s.hand == len(s.keys) { // the newest went: the next round begins, whatever comes in now
			s.hand = 0
		}
	}
	s.keys = append(s.keys, key)
	s.visited[key] = false
	return false
}

type lru struct {
	capacity int
	order    list.List
	at       map[int]*list.Element
}

func (l *lru) access(key int) (hit bool) {
	if e, ok := l.at[key]; ok {
		l.order.MoveToFront(e)
		return true
	}
	if l.order.Len() == l.capacity {
		delete(l.at, l.order.Remove(l.order.Back()).(int))
	}
	l.at[key] = l.order.PushFront(key)
	return false
}

// zipf returns draws from 0..n-1 with weights 1/(i+1); math/rand/v2 has no exponent 1.
func zipf(rng *rand.Rand, n int) func() int {
	sums := make([]float64, n)
	sum := 0.0
	for i := range sums {
		sum += 1 / float64(i+1)
		sums[i] = sum
	}
	return func() int { return sort.SearchFloat64s(sums, rng.Float64()*sum) }
}

// A cacheTrace is a sequence of keys, and from where on hits are counted.
type cacheTrace struct {
	name  string
	keys  []int
	count int
}

func cacheTraces(universe, capacity int) []cacheTrace {
	rng := rand.New(rand.NewPCG(1, 2))
	draw := zipf(rng, universe)
	some := func(n int) (keys []int) {
		for range n {
			keys = append(keys, draw())
		}
		return keys
	}
	plain := some(5 * universe)
	scanned := some(5 * universe)
	after := len(scanned)
	for i := range capacity {
		scanned = append(scanned, universe+i)
	}
	scanned = append(scanned, some(capacity)...)
	return []cacheTrace{{"zipf", plain, 0}, {"after a scan", scanned, after}}
}

func TestMemoryCacheIsSIEVE(t *testing.T) {
	for _, capacity := range []int{1, 2, 3, 10, 100} {
		for _, trace := range cacheTraces(1000, capacity) {
			c := newCache[int](t, capacity)
			s := &sieve{capacity: capacity, visited: map[int]bool{}}
			for i, k := range trace.keys {
				key := strconv.Itoa(k)
				got := c.has(key)
				if want := s.access(k); got != want {
					t.Fatalf("%s, capacity %d: access %d to %d: hit %t, want %t", trace.name, capacity, i, k, got, want)
				}
				if !got {
					c.set(key, k, time.Hour)
				}
			}
		}
	}
}

func TestMemoryCacheHitsMoreThanLRU(t *testing.T) {
	for _, capacity := range []int{10, 100, 1000} {
		for _, trace := range cacheTraces(10_000, capacity) {
			c := newCache[int](t, capacity)
			l := &lru{capacity: capacity, at: map[int]*list.Element{}}
			var ours, theirs int
			for i, k := range trace.keys {
				key := strconv.Itoa(k)
				hit := c.has(key)
				if !hit {
					c.set(key, k, time.Hour)
				}
				lruHit := l.access(k)
				if i >= trace.count {
					if hit {
						ours++
					}
					if lruHit {
						theirs++
					}
				}
			}
			n := float64(len(trace.keys) - trace.count)
			t.Logf("%s, %d of 10,000: %.4f, LRU %.4f", trace.name, capacity, float64(ours)/n, float64(theirs)/n)
			if ours < theirs {
				t.Errorf("%s, %d of 10,000: %d hits, LRU has %d", trace.name, capacity, ours, theirs)
			}
		}
	}
}

// FuzzMemoryCache runs random operations against a map. The model does not know which entry is
// evicted, only how many can have been: at most one for each new key that was set while, by the
// model, the cache was full.
func FuzzMemoryCache(f *testing.F) {
	f.Add(uint8(1), []byte("\x00\x01\x10\x00\x02\x10\x01\x01\x00"))
	f.Add(uint8(3), []byte("\x00\x01\x05\x02\x00\x05\x01\x01\x00\x03\x00\x00"))
	f.Add(uint8(20), slices.Repeat([]byte{0, 1, 200, 0, 2, 0, 0, 3, 7, 1, 1, 0, 2, 0, 7}, 20))
	f.Fuzz(func(t *testing.T, capacity uint8, ops []byte) {
		synctest.Test(t, func(t *testing.T) {
			type entry struct {
				value   int
				expires time.Time
			}
			c := newCache[int](t, int(capacity))
			model := map[string]entry{}
			evicted := 0 // at most so many of the model's entries are gone
			get := func(key string) bool {
				v, ok := c.get(key)
				m, there := model[key]
				alive := there && time.Now().Before(m.expires)
				switch {
				case ok && (!alive || v != m.value):
					t.Fatalf("Get(%q) = %d, want %+v, alive %t, at %v", key, v, m, alive, time.Now())
				case !ok && alive:
					if evicted--; evicted < 0 {
						t.Fatalf("Get(%q) misses, though nothing need have been evicted", key)
					}
					delete(model, key)
				}
				return ok
			}
			for i := 0; i+2 < len(ops); i += 3 {
				key := strconv.Itoa(int(ops[i+1] & 31))
				arg := time.Duration(ops[i+2])
				switch ops[i] % 5 {
				case 0, 1: // twice as often as the others
					if m, there := model[key]; int(capacity) <= len(model) && (!there || !time.Now().Before(m.expires) || evicted > 0) {
						evicted++
					}
					c.set(key, i, arg)
					delete(model, key)
					if arg > 0 {
						model[key] = entry{i, time.Now().Add(arg)}
						if capacity > 0 && !get(key) {
							t.Fatalf("Set(%q), and it is not there", key)
						}
					}
				case 2:
					get(key)
				case 3:
					time.Sleep(arg)
				case 4:
					alive := 0
					for _, m := range model {
						if time.Now().Before(m.expires) {
							alive++
						}
					}
					if n := c.Len(); n > alive || n > int(capacity) || n < alive-evicted {
						t.Fatalf("Len = %d, capacity %d, %d set and %d perhaps evicted", n, capacity, alive, evicted)
					}
				}
			}
			present := 0
			for key := range model {
				if get(key) {
					present++
				}
			}
			if n := c.Len(); n != present || n > int(capacity) {
				t.Fatalf("Len = %d, capacity %d, but %d are there", n, capacity, present)
			}
		})
	})
}

func ExampleNewMemoryCache() {
	ctx := context.Background()
	cache := vtclient.NewMemoryCache[string](2)

	cache.Set(ctx, "a", "first", time.Minute)
	cache.Set(ctx, "b", "second", time.Minute)
	cache.Get(ctx, "a")
	cache.Set(ctx, "c", "third", time.Minute) // the cache is full, and b has not been asked for

	for _, key := range []string{"a", "b", "c"} {
		value, ok, _ := cache.Get(ctx, key)
		fmt.Printf("%s: %q %t\n", key, value, ok)
	}
	// Output:
	// a: "first" true
	// b: "" false
	// c: "third" true
}

// A prefixCache is a Cache over a store that others use as well, here a map in
// the place of a server far away.
type prefixCache struct {
	prefix string // the backend and the tenant
	store  *sync.Map
}

type prefixEntry struct {
	status  vtclient.Status
	expires time.Time
}

func (c prefixCache) Get(ctx context.Context, key string) (vtclient.Status, bool, error) {
	if err := ctx.Err(); err != nil { // a real store is given ctx and returns its error
		return vtclient.Status{}, false, err
	}
	v, ok := c.store.Load(c.prefix + key)
	if !ok || !time.Now().Before(v.(prefixEntry).expires) {
		return vtclient.Status{}, false, nil
	}
	return v.(prefixEntry).status, true, nil
}

func (c prefixCache) Set(ctx context.Context, key string, s vtclient.Status, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ttl <= 0 {
		c.store.Delete(c.prefix + key)
		return nil
	}
	c.store.Store(c.prefix+key, prefixEntry{s, time.Now().Add(ttl)})
	return nil
}

// Two tenants share a store; the prefix keeps their jobs apart.
func ExampleCache() {
	var store sync.Map
	var ours, theirs vtclient.Cache[vtclient.Status]
	ours = prefixCache{"api.example.com/acme/", &store}
	theirs = prefixCache{"api.example.com/globex/", &store}

	ctx := context.Background()
	ours.Set(ctx, "job-1", vtclient.Status{JobID: "job-1", State: vtclient.StateCompleted}, time.Minute)

	s, ok, _ := ours.Get(ctx, "job-1")
	fmt.Println(s.State, ok)
	s, ok, _ = theirs.Get(ctx, "job-1")
	fmt.Printf("%q %t\n", s.State, ok)
	// Output:
	// completed true
	// "" false
}

func BenchmarkMemoryCache(b *testing.B) {
	const n = 10_000
	ctx := context.Background()
	keys := make([]string, 2*n)
	for i := range keys {
		keys[i] = fmt.Sprintf("job-%08d", i)
	}
	full := func() *vtclient.MemoryCache[vtclient.Status] {
		c := vtclient.NewMemoryCache[vtclient.Status](n)
		for _, k := range keys[:n] {
			c.Set(ctx, k, vtclient.Status{JobID: k}, time.Hour)
		}
		return c
	}
	// 7919 is prime to n: each key in turn, in no order that a processor could foresee.
	next := func(i, n int) int {
		if i += 7919; i >= n {
			i -= n
		}
		return i
	}
	b.Run("hit", func(b *testing.B) {
		c := full()
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			if _, ok, _ := c.Get(ctx, keys[i]); !ok {
				b.Fatal("miss")
			}
			i = next(i, n)
		}
	})
	b.Run("hit-parallel", func(b *testing.B) {
		c := full()
		var start atomic.Int64
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			i := int(start.Add(3331)) % n
			for pb.Next() {
				if _, ok, _ := c.Get(ctx, keys[i]); !ok {
					b.Error("miss")
					return
				}
				i = next(i, n)
			}
		})
	})
	b.Run("hit-while-set", func(b *testing.B) {
		c := full()
		var stop atomic.Bool
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; !stop.Load(); i = next(i, n) {
				c.Set(ctx, keys[i], vtclient.Status{}, time.Hour)
			}
		})
		i := 0
		for b.Loop() {
			c.Get(ctx, keys[i])
			i = next(i, n)
		}
		stop.Store(true)
		wg.Wait()
	})
	b.Run("miss", func(b *testing.B) {
		c := full()
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			c.Get(ctx, keys[n+i])
			i = next(i, n)
		}
	})
	b.Run("set", func(b *testing.B) {
		c := full()
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			c.Set(ctx, keys[i], vtclient.Status{}, time.Hour)
			i = next(i, n)
		}
	})
	b.Run("set-evict", func(b *testing.B) {
		c := full()
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			c.Set(ctx, keys[i], vtclient.Status{}, time.Hour)
			i = next(i, 2*n)
		}
	})
	b.Run("set-parallel", func(b *testing.B) {
		c := full()
		var start atomic.Int64
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			i := int(start.Add(3331)) % n
			for pb.Next() {
				c.Set(ctx, keys[i], vtclient.Status{}, time.Hour)
				i = next(i, n)
			}
		})
	})
	b.Run("memory", func(b *testing.B) {
		const n = 100_000
		keys := make([]string, n)
		for i := range keys {
			keys[i] = strconv.Itoa(i)
		}
		live := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		for b.Loop() {
			before := live()
			c := vtclient.NewMemoryCache[int64](n)
			for _, k := range keys {
				c.Set(ctx, k, 1, time.Hour)
			}
			b.ReportMetric((float64(live())-float64(before))/n, "B/entry")
			runtime.KeepAlive(c)
		}
		runtime.KeepAlive(keys)
	})
}
