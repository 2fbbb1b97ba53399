package vtclient

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryCacheValidate(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cache *MemoryCache[int]
		want  string // in the error; empty: none
	}{
		{"one", NewMemoryCache[int](1), ""},
		{"huge", NewMemoryCache[int](math.MaxInt), ""},
		{"zero", NewMemoryCache[int](0), "capacity: got 0"},
		{"negative", NewMemoryCache[int](-5), "capacity: got -5"},
		{"zero value", new(MemoryCache[int]), "capacity: got 0"},
		{"nil", nil, "nil *MemoryCache"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cache.validate()
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// Property 34: two keys may have the same hash.
func TestMemoryCacheKeysWithTheSameHash(t *testing.T) {
	c := NewMemoryCache[string](4)
	hash := c.hash("a")
	for _, key := range []string{"a", "b", "c"} {
		c.insert(&cacheEntry[string]{hash: hash, key: key, value: key, expires: math.MaxInt64})
	}
	check := func(want string) {
		t.Helper()
		got := ""
		for _, key := range []string{"a", "b", "c", "d"} {
			if e := c.table.Load().find(hash, key); e != nil {
				got += e.value
			}
		}
		if got != want {
			t.Errorf("found %q, want %q", got, want)
		}
	}
	check("abc")
	c.remove(c.table.Load().find(hash, "b"))
	check("ac")
	c.Set(t.Context(), "a", "A", time.Hour)
	check("Ac")
}

// A plainCache does what a MemoryCache does, with a slice and no thought for speed.
type plainCache struct {
	capacity    int
	entries     []plainEntry // oldest first
	hand, broom int          // where to go on; len(entries): at the oldest
}

type plainEntry struct {
	key     string
	value   int
	expires int64
	visited bool
}

func (c *plainCache) find(key string) int {
	return slices.IndexFunc(c.entries, func(e plainEntry) bool { return e.key == key })
}

func (c *plainCache) remove(i int) {
	c.entries = slices.Delete(c.entries, i, i+1)
	for _, at := range []*int{&c.hand, &c.broom} {
		if *at > i {
			*at--
		}
		if *at >= len(c.entries) {
			*at = 0
		}
	}
}

func (c *plainCache) get(now int64, key string) (int, bool) {
	i := c.find(key)
	if i < 0 || now >= c.entries[i].expires {
		return 0, false
	}
	c.entries[i].visited = true
	return c.entries[i].value, true
}

func (c *plainCache) set(now int64, key string, value int, ttl time.Duration) {
	i := c.find(key)
	switch {
	case i >= 0 && ttl > 0 && now < c.entries[i].expires:
		c.entries[i] = plainEntry{key, value, now + int64(ttl), true}
		return
	case i >= 0:
		c.remove(i)
	}
	if ttl <= 0 {
		return
	}
	for range 2 {
		if len(c.entries) > 0 {
			if i := c.broom; now >= c.entries[i].expires {
				c.remove(i)
			} else {
				c.broom = (i + 1) % len(c.entries)
			}
		}
	}
	if len(c.entries) >= c.capacity {
		for now < c.entries[c.hand].expires && c.entries[c.hand].visited {
			c.entries[c.hand].visited = false
			c.hand = (c.hand + 1) % len(c.entries)
		}
		c.remove(c.hand)
	}
	c.entries = append(c.entries, plainEntry{key, value, now + int64(ttl), false})
}

func (c *plainCache) len(now int64) int {
	for i := len(c.entries) - 1; i >= 0; i-- {
		if now >= c.entries[i].expires {
			c.remove(i)
		}
	}
	return len(c.entries)
}

// contents returns what c holds and checks that its list and its table agree.
func (c *MemoryCache[V]) contents(t *testing.T) (all []*cacheEntry[V]) {
	hand, broom := c.hand == nil, c.broom == nil
	var older *cacheEntry[V]
	for e := c.oldest; e != nil; e = e.newer {
		if e.older != older {
			t.Fatalf("entry %q does not point back", e.key)
		}
		if c.table.Load().find(e.hash, e.key) != e {
			t.Fatalf("entry %q is not in the table", e.key)
		}
		hand, broom = hand || c.hand == e, broom || c.broom == e
		all = append(all, e)
		older = e
	}
	chained := 0
	for i := range *c.table.Load() {
		for e := (*c.table.Load())[i].Load(); e != nil; e = e.next.Load() {
			chained++
		}
	}
	if c.newest != older || len(all) != c.count || chained != c.count || !hand || !broom {
		t.Fatalf("newest %p, want %p; %d listed, %d in the table, count %d; hand in place %t, broom %t",
			c.newest, older, len(all), chained, c.count, hand, broom)
	}
	if n := len(*c.table.Load()); n < c.count {
		t.Fatalf("a table of %d for %d entries", n, c.count)
	}
	return all
}

// Each operation leaves exactly what the plain cache has: the same entries in the
// same order, the same ones marked, nothing evicted that need not be.
func TestMemoryCacheAgainstAPlainOne(t *testing.T) {
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			capacity := 1 + rng.IntN(40)
			c, p := NewMemoryCache[int](capacity), plainCache{capacity: capacity}
			for op := range 500 {
				key := strconv.Itoa(rng.IntN(2 * capacity))
				now := c.now()
				switch rng.IntN(8) {
				case 0, 1, 2:
					ttl := time.Duration(rng.IntN(40))
					c.Set(t.Context(), key, op, ttl)
					p.set(now, key, op, ttl)
				case 3, 4, 5:
					v, ok, _ := c.Get(t.Context(), key)
					if want, wantOK := p.get(now, key); v != want || ok != wantOK {
						t.Fatalf("seed %d, op %d: Get = %d, %t, want %d, %t", seed, op, v, ok, want, wantOK)
					}
				case 6:
					time.Sleep(time.Duration(rng.IntN(8)))
				case 7:
					if rng.IntN(4) == 0 {
						if got, want := c.Len(), p.len(now); got != want {
							t.Fatalf("seed %d, op %d: Len = %d, want %d", seed, op, got, want)
						}
					}
				}
				var got []plainEntry
				for _, e := range c.contents(t) {
					got = append(got, plainEntry{e.key, e.value, e.expires, e.visited.Load() == 1})
				}
				if !slices.Equal(got, p.entries) {
					t.Fatalf("seed %d, op %d: the cache holds\n%v, want\n%v", seed, op, got, p.entries)
				}
			}
		})
	}
}

// A cache with room for many, in which few live at a time, does not fill up with
// the dead: Set alone, without Len, keeps them to about as many as the living.
func TestMemoryCacheReclaimsWhatExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const living = 1000
		c := NewMemoryCache[int](1_000_000)
		for i := range 20 * living {
			c.Set(t.Context(), strconv.Itoa(i), i, living*time.Millisecond)
			time.Sleep(time.Millisecond)
			if c.count > 3*living {
				t.Fatalf("%d entries are held, of which %d live", c.count, living)
			}
		}
	})
}

// One round clears every mark, and the eviction then takes the first it cleared.
func TestMemoryCacheEvictsWhenAllWereAskedFor(t *testing.T) {
	c := NewMemoryCache[int](3)
	for i := range 3 {
		c.Set(t.Context(), strconv.Itoa(i), i, time.Hour)
	}
	for e := c.oldest; e != nil; e = e.newer {
		e.visited.Store(1)
	}
	c.Set(t.Context(), "new", 1, time.Hour)
	if _, ok, _ := c.Get(t.Context(), "0"); ok {
		t.Error("the first that the hand came to is still there")
	}
	if c.count != 3 {
		t.Errorf("%d entries", c.count)
	}
}
