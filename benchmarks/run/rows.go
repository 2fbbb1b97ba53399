package main

// A row is one line of the table: one figure of vtclient beside its peers'.
type row struct {
	bench string // the benchmark, without "Benchmark"
	work  string // in the reader's words
	unit  string // of the benchmark's figure
	ours  string // by=…; empty: vtclient
	refs  []string
	// What is to be reached: the ratio of ours to the best of refs, or, with
	// absolute, the figure itself. 0: no goal, reported only.
	goal     float64
	absolute bool
	more     bool // more is better; the goal is a least value
	inverse  bool // the ratio is that of the rates, so more is better
	noAllocs bool // and no allocations
}

// A group is the rows that one benchmark makes.
type group struct {
	bench  string
	root   string // the benchmark of the root package that has vtclient's part; see rename
	once   bool   // one iteration a round is enough
	rounds int    // at most; 0: as many as there are
	turns  int    // times as many turns as others have; 0: 1
	// Contenders that each have a process of their own, as the second in one finds the
	// descriptors of the goroutines that have ended.
	apart []string
}

var groups = []group{
	{bench: "Status"},
	{bench: "StatusWatched"},
	{bench: "Loopback", turns: 4}, // hundreds of goroutines on few processors: no turn is like another
	{bench: "StatusCached"},
	{bench: "CacheGet"},
	{bench: "CacheGetParallel"},
	{bench: "CacheSet"},
	{bench: "CacheMemory", once: true, rounds: 6},
	{bench: "CacheHits", once: true, rounds: 6},
	{bench: "BreakerClosed"},
	{bench: "BreakerClosedParallel"},
	{bench: "BreakerOpen"},
	{bench: "Retry", root: "RetryStage"},
	{bench: "Flight", root: "Flight/uncontended"},
	{bench: "Flight64", root: "Flight/64-way"},
	{bench: "WaitAllMemory", once: true, rounds: 6},
	{bench: "WaitAllCPU", once: true, rounds: 6},
	{bench: "WaitMemory", once: true, rounds: 6, apart: []string{"vtclient", "loop"}},
	{bench: "Growth", once: true, rounds: 3}, // twenty seconds, half of them idle
	{bench: "FirstCheck", once: true, rounds: 3},
	{bench: "Leaving", once: true, rounds: 3},        // ten seconds
	{bench: "WaitAllMillion", once: true, rounds: 1}, // one and a half minutes
}

var (
	bounded = []string{"otter", "expirable", "ttlcache"}
	clients = []string{"retryablehttp", "failsafehttp", "resty"}
	plain   = []string{"net-http"}
	alike   = []string{"net-http-alike"}
	breaker = []string{"gobreaker", "failsafe"}
)

// The rows, but for those of the waiting cost, which report.go makes.
var rows = []row{
	{bench: "Status", work: "`Status` over a stub, time", unit: "ns/op", refs: plain, goal: 1},
	{bench: "Status", work: "`Status` over a stub, allocations", unit: "allocs/op", refs: plain, goal: 1},
	{bench: "Status", work: "`Status` over a stub, bytes", unit: "B/op", refs: plain, goal: 1},
	{bench: "Status", work: "the same, time beside the best peer", unit: "ns/op", refs: clients, goal: 1},
	{bench: "Status", work: "the same, allocations beside the best peer", unit: "allocs/op", refs: clients, goal: 1},
	{bench: "Status", work: "the same, bytes beside the best peer", unit: "B/op", refs: clients, goal: 1},
	{bench: "StatusWatched", work: "`Status` over a stub that watches the request's context, time", unit: "ns/op", refs: plain},
	{bench: "StatusWatched", work: "the same beside net/http with as long a timeout and the same header", unit: "ns/op", refs: alike},
	{bench: "Status", work: "`Status` over a stub, time, beside all of it assembled from peers", unit: "ns/op", refs: []string{"assembled"}},
	{bench: "Loopback", work: "`Status` over loopback HTTP, 64 goroutines, throughput", unit: "ns/op", refs: plain, goal: .98, inverse: true},
	{bench: "Loopback", work: "the same beside net/http with as long a timeout and the same header", unit: "ns/op", refs: alike, inverse: true},
	{bench: "StatusCached", work: "`Status` from the cache beside a bare `Get`", unit: "ns/op", refs: append([]string{"go-cache"}, bounded...), goal: 2, noAllocs: true},
	{bench: "CacheGet", work: "cache hit, 10,000 entries", unit: "ns/op", refs: bounded, goal: 1, noAllocs: true},
	{bench: "CacheGetParallel", work: "cache hit, all processors", unit: "ns/op", refs: bounded, goal: 1, noAllocs: true},
	{bench: "CacheSet", work: "cache overwrite", unit: "ns/op", refs: bounded},
	{bench: "CacheMemory", work: "cache, bytes an entry of 100,000", unit: "B/entry", refs: bounded, goal: 1},
	{bench: "CacheHits/zipf", work: "cache, hit ratio on Zipf 1.0", unit: "hit-%", refs: []string{"expirable"}, goal: 1, more: true},
	{bench: "CacheHits/scan", work: "cache, hit ratio on Zipf 1.0 with scans", unit: "hit-%", refs: []string{"expirable"}, goal: 1, more: true},
	{bench: "BreakerClosed", work: "breaker closed, a permit and its result", unit: "ns/op", refs: breaker, goal: 1, noAllocs: true},
	{bench: "BreakerClosedParallel", work: "the same, all processors", unit: "ns/op", refs: breaker, goal: 1, noAllocs: true},
	{bench: "BreakerOpen", work: "breaker open, a refusal", unit: "ns/op", refs: []string{"gobreaker"}, goal: .5, noAllocs: true},
	{bench: "Retry", work: "retry stage, success at once", unit: "ns/op", refs: []string{"cenkalti", "avast", "sethvargo", "failsafe"}, goal: 1, noAllocs: true},
	{bench: "Flight", work: "coalescing, uncontended", unit: "ns/op", refs: []string{"singleflight"}, goal: 1},
	{bench: "Flight64", work: "coalescing, 64-way", unit: "ns/op", refs: []string{"singleflight"}},
	{bench: "Flight64", work: "the same beside callers that may leave", unit: "ns/op", refs: []string{"singleflight-ctx"}},
	{bench: "WaitAllMemory", work: "`WaitAll`, bytes a job of 100,000, polled three times", unit: "B/job", refs: []string{"loop"}, goal: 330, absolute: true},
	{bench: "WaitAllMemory", work: "the same in an outage", unit: "B/job", ours: "vtclient-outage", refs: []string{"loop"}, goal: 510, absolute: true},
	{bench: "WaitAllMillion", work: "`WaitAll`, 1,000,000 jobs, most memory of the process", unit: "peak-MiB", goal: 1024, absolute: true},
	{bench: "WaitAllCPU", work: "`WaitAll`, processor time a poll, 100,000 jobs", unit: "cpu-ns/poll", refs: []string{"loop"}, goal: .8},
	{bench: "FirstCheck", work: "first check of a `Wait` beside a saturated `WaitAll`, exchanges until then", unit: "exchanges", goal: 2, absolute: true},
	{bench: "Growth/join", work: "power of the number of jobs with which the time to join grows", unit: "exponent", goal: 1.15, absolute: true},
	{bench: "Growth/first-check", work: "… until all have been asked about", unit: "exponent", goal: 1.15, absolute: true},
	{bench: "Growth/hint", work: "… to hint at all", unit: "exponent", goal: 1.15, absolute: true},
	{bench: "Growth/end", work: "… until all have ended together", unit: "exponent", goal: 1.15, absolute: true},
	{bench: "Growth/cancel", work: "… until all are cancelled", unit: "exponent", goal: 1.15, absolute: true},
	{bench: "Growth/deadlines", work: "… for waits for one job with a deadline each", unit: "exponent", goal: 1.15, absolute: true},
	{bench: "Leaving", work: "longest hold of the engine's lock, 1,000,000 jobs, `break`", unit: "held-ms", goal: 5, absolute: true},
	{bench: "WaitMemory", work: "`Wait`, bytes a caller of 100,000", unit: "B/caller", refs: []string{"loop"}, goal: .8},
	{bench: "WaitMemory", work: "of which stacks", unit: "stack-B/caller", refs: []string{"loop"}},
}
