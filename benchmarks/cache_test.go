package benchmarks

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sort"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/jellydator/ttlcache/v3"
	"github.com/maypok86/otter/v2"
	"github.com/patrickmn/go-cache"

	"github.com/vtclient/vtclient"
)

// The value in all caches is the one that a client keeps: a vtclient.Status. Each
// lives for an hour from when it was set, whether or not it is asked for.
const ttl = time.Hour

// A store is one cache. The bool of get reports whether the value was found.
type store struct {
	get   func(key string) bool
	set   func(key string, v vtclient.Status)
	loop  func(b *testing.B, keys []string) // the serial loop over hits, with nothing in between
	ploop func(pb *testing.PB, keys []string, i int) bool
	close func()
}

type cacheMaker struct {
	name string
	make func(capacity int) store
}

// getLoops makes the loops of a store. All contenders go through it, so what a call
// costs here is the same for all.
func getLoops[G interface{ Get(string) bool }](g G, s store) store {
	s.get = g.Get
	s.loop = func(b *testing.B, keys []string) {
		i, n := 0, len(keys)
		for b.Loop() {
			if !g.Get(keys[i]) {
				b.Fatal("miss")
			}
			i = stride(i, n)
		}
	}
	s.ploop = func(pb *testing.PB, keys []string, i int) bool {
		for n := len(keys); pb.Next(); i = stride(i, n) {
			if !g.Get(keys[i]) {
				return false
			}
		}
		return true
	}
	return s
}

// Each Get takes the value and looks into it.
type (
	ourGet struct {
		c *vtclient.MemoryCache[vtclient.Status]
	}
	statusGet struct{ c *vtclient.Client }
	otterGet  struct {
		c *otter.Cache[string, vtclient.Status]
	}
	expirableGet struct {
		c *expirable.LRU[string, vtclient.Status]
	}
	ttlcacheGet struct {
		c *ttlcache.Cache[string, vtclient.Status]
	}
	goCacheGet struct{ c *cache.Cache }
)

var background = context.Background()

func (g ourGet) Get(k string) bool {
	v, ok, _ := g.c.Get(background, k)
	return ok && v.JobID == k
}

func (g statusGet) Get(id string) bool {
	v, err := g.c.Status(background, id)
	return err == nil && v.Cached && v.JobID == id
}

func (g otterGet) Get(k string) bool {
	v, ok := g.c.GetIfPresent(k)
	return ok && v.JobID == k
}

func (g expirableGet) Get(k string) bool {
	v, ok := g.c.Get(k)
	return ok && v.JobID == k
}

func (g ttlcacheGet) Get(k string) bool {
	item := g.c.Get(k)
	if item == nil {
		return false
	}
	v := item.Value()
	return v.JobID == k
}

func (g goCacheGet) Get(k string) bool {
	x, ok := g.c.Get(k)
	if !ok {
		return false
	}
	v := x.(vtclient.Status)
	return v.JobID == k
}

func caches() []cacheMaker {
	return []cacheMaker{
		{"vtclient", func(capacity int) store {
			c := vtclient.NewMemoryCache[vtclient.Status](capacity)
			return getLoops(ourGet{c}, store{set: func(k string, v vtclient.Status) { c.Set(background, k, v, ttl) },
				close: func() { runtime.KeepAlive(c) }})
		}},
		{"otter", func(capacity int) store {
			c := otter.Must(&otter.Options[string, vtclient.Status]{MaximumSize: capacity,
				ExpiryCalculator: otter.ExpiryWriting[string, vtclient.Status](ttl)})
			return getLoops(otterGet{c}, store{set: func(k string, v vtclient.Status) { c.Set(k, v) },
				close: func() { c.StopAllGoroutines() }})
		}},
		{"expirable", func(capacity int) store {
			c := expirable.NewLRU[string, vtclient.Status](capacity, nil, ttl)
			return getLoops(expirableGet{c}, store{set: func(k string, v vtclient.Status) { c.Add(k, v) },
				close: func() { c.Purge() }})
		}},
		{"ttlcache", func(capacity int) store {
			// By default a hit makes its entry live for longer, which none of the others does.
			c := ttlcache.New(ttlcache.WithTTL[string, vtclient.Status](ttl), ttlcache.WithCapacity[string, vtclient.Status](uint64(capacity)),
				ttlcache.WithDisableTouchOnHit[string, vtclient.Status]())
			return getLoops(ttlcacheGet{c}, store{set: func(k string, v vtclient.Status) { c.Set(k, v, ttlcache.DefaultTTL) },
				close: func() { runtime.KeepAlive(c) }})
		}},
		{"go-cache", func(int) store { // has no bound
			c := cache.New(ttl, 0)
			return getLoops(goCacheGet{c}, store{set: func(k string, v vtclient.Status) { c.SetDefault(k, v) },
				close: func() { runtime.KeepAlive(c) }})
		}},
	}
}

// full returns a cache that holds all keys.
func full(p cacheMaker, capacity int, keys []string) store {
	s := p.make(capacity)
	for _, k := range keys {
		s.set(k, vtclient.Status{JobID: k, State: vtclient.StateCompleted})
	}
	for _, k := range keys { // also lets what works in the background come to rest
		s.get(k)
	}
	return s
}

func benchGet(b *testing.B, p cacheMaker, capacity int, keys []string) {
	s := full(p, capacity, keys)
	defer s.close()
	b.ReportAllocs()
	s.loop(b, keys)
}

func eachCache(b *testing.B, run func(b *testing.B, p cacheMaker)) {
	var cs []contender
	for _, p := range caches() {
		cs = append(cs, contender{p.name, func(b *testing.B) { run(b, p) }})
	}
	compare(b, cs...)
}

// BenchmarkCacheGet is a hit among 10,000 entries, which fill the cache.
func BenchmarkCacheGet(b *testing.B) {
	keys := names(size(10_000, 100))
	eachCache(b, func(b *testing.B, p cacheMaker) { benchGet(b, p, len(keys), keys) })
}

// BenchmarkCacheGetParallel is the same on all processors at once.
func BenchmarkCacheGetParallel(b *testing.B) {
	keys := names(size(10_000, 100))
	eachCache(b, func(b *testing.B, p cacheMaker) {
		s := full(p, len(keys), keys)
		defer s.close()
		var start atomic.Int64
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			if !s.ploop(pb, keys, int(start.Add(3331))%len(keys)) {
				b.Error("miss")
			}
		})
	})
}

// BenchmarkCacheSet gives an entry that is there a new value.
func BenchmarkCacheSet(b *testing.B) {
	keys := names(size(10_000, 100))
	eachCache(b, func(b *testing.B, p cacheMaker) {
		s := full(p, len(keys), keys)
		defer s.close()
		i, n := 0, len(keys)
		b.ReportAllocs()
		for b.Loop() {
			s.set(keys[i], vtclient.Status{JobID: keys[i], State: vtclient.StatePending})
			i = stride(i, n)
		}
	})
}

// BenchmarkCacheMemory measures the live bytes of an entry beyond its key, among 100,000 that
// fill the cache.
func BenchmarkCacheMemory(b *testing.B) {
	keys := names(size(100_000, 1000))
	eachCache(b, func(b *testing.B, p cacheMaker) {
		for b.Loop() {
			before := live()
			s := full(p, len(keys), keys)
			b.ReportMetric((live()-before)/float64(len(keys)), "B/entry")
			s.close()
			runtime.KeepAlive(s)
		}
		runtime.KeepAlive(keys)
	})
}

// BenchmarkCacheHits measures what share of lookups finds its key, where a miss is followed by
// a Set: on Zipf's law with exponent 1, and on the same with a scan over as many keys as fit
// into the cache, each of them asked for once, after every so many lookups. The cache holds a
// tenth of the keys.
func BenchmarkCacheHits(b *testing.B) {
	n := size(100_000, 1000)
	zipf := zipfTrace(n, size(1_000_000, 5000), 1)
	scans := withScans(zipf, n/10)
	for _, t := range []struct {
		name string
		keys []string
	}{{"zipf", zipf}, {"scan", scans}} {
		b.Run(t.name, func(b *testing.B) {
			eachCache(b, func(b *testing.B, p cacheMaker) {
				if p.name == "go-cache" {
					b.Skip("it has no bound")
				}
				for b.Loop() {
					s := p.make(n / 10)
					hits := 0
					for _, k := range t.keys {
						if s.get(k) {
							hits++
						} else {
							s.set(k, vtclient.Status{JobID: k})
						}
					}
					b.ReportMetric(100*float64(hits)/float64(len(t.keys)), "hit-%")
					s.close()
				}
			})
		})
	}
}

// zipfTrace returns lookups among n keys, the k-th of which is asked for in
// proportion to 1/k.
func zipfTrace(n, lookups int, seed uint64) []string {
	keys := names(n)
	sums, sum := make([]float64, n), 0.
	for i := range sums {
		sum += 1 / float64(i+1)
		sums[i] = sum
	}
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]string, lookups)
	for i := range out {
		out[i] = keys[min(n-1, sort.SearchFloat64s(sums, r.Float64()*sum))]
	}
	return out
}

// withScans puts, after every five times as many lookups, a scan of so many keys
// that are asked for once and never again.
func withScans(lookups []string, scan int) []string {
	var out []string
	for i, k := range lookups {
		out = append(out, k)
		if (i+1)%(5*scan) == 0 {
			for j := range scan {
				out = append(out, fmt.Sprintf("scan-%d-%d", i, j))
			}
		}
	}
	return out
}
