package simserver

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Faults describes what goes wrong, and how often. Each rate is the share of requests, 0 to
// 1, that meet the fault. A request meets one at most, so the rates must not add up to
// more than 1. The zero Faults is none.
//
// Cut, Drip and Garbage spoil the answer to a request that was carried out. With the other
// faults the request is not carried out.
type Faults struct {
	// Status is the rate of each status code that is answered in place of the truth:
	// {500: 0.05, 429: 0.01}. 200 is an error in an answer with the code of success:
	// {"error":…} and no data.
	Status map[int]float64

	// RetryAfter is the Retry-After that 429 and 503 answers carry, those of
	// [Server.Outage] included: seconds, rounded up, or with RetryAfterDate an HTTP
	// date. 0: none.
	RetryAfter     time.Duration
	RetryAfterDate bool

	Drop    float64 // the connection is closed with no answer
	Reset   float64 // the same by a TCP reset
	Cut     float64 // the answer is announced in full; in the middle of its body the connection is reset
	Silence float64 // no answer, until the client goes away or the server is closed
	Drip    float64 // the whole answer, its body byte by byte
	Garbage float64 // 200 with a body that is not JSON: a proxy's page, half an answer, noise or nothing

	// DripEvery is the time between two bytes of a dripping body. 0: 1 s.
	DripEvery time.Duration

	// Latency delays every request that Match lets through, also those that meet no
	// fault; Jitter adds between nothing and its value. They are no faults: they
	// are not counted and do not use up Limit.
	Latency, Jitter time.Duration

	// Limit is how many faults are made before requests are served well again:
	// Faults{Status: map[int]float64{503: 1}, Limit: 3} fails the next three. 0: no limit.
	Limit int

	// Match chooses the requests that can meet faults and latency. Nil: those that
	// ask for the status of jobs, so that a test can create its jobs unharmed.
	Match func(*http.Request) bool
}

// Validate returns an error that names the first value that makes no sense, such as a
// rate above 1. [New] and [Server.SetFaults] panic on such values.
func (f Faults) Validate() error {
	sum := 0.0
	for _, code := range f.codes() {
		if code < 200 || code > 599 {
			return fmt.Errorf("simserver: Faults.Status[%d]: not a status code from 200 to 599", code)
		}
		if p := f.Status[code]; !isRate(p) {
			return fmt.Errorf("simserver: Faults.Status[%d] is %v: not between 0 and 1", code, p)
		}
		sum += f.Status[code]
	}
	for _, k := range f.kinds() {
		if !isRate(k.rate) {
			return fmt.Errorf("simserver: Faults: rate of %s is %v: not between 0 and 1", k.fault, k.rate)
		}
		sum += k.rate
	}
	if sum > 1+1e-9 {
		return fmt.Errorf("simserver: Faults: the rates add up to %.4g, more than 1", sum)
	}
	if f.RetryAfter < 0 || f.DripEvery < 0 || f.Latency < 0 || f.Jitter < 0 {
		return errors.New("simserver: Faults: a time is negative")
	}
	if f.Limit < 0 {
		return fmt.Errorf("simserver: Faults.Limit is %d: negative", f.Limit)
	}
	return cmp.Or(unitless("Faults.RetryAfter", f.RetryAfter), unitless("Faults.DripEvery", f.DripEvery),
		unitless("Faults.Latency", f.Latency), unitless("Faults.Jitter", f.Jitter))
}

// A Fault names what was done to a request. An answer with a status code by
// [Faults.Status] has the code for its name: "503".
type Fault string

const (
	FaultDrop     Fault = "drop"
	FaultReset    Fault = "reset"
	FaultCut      Fault = "cut"
	FaultSilence  Fault = "silence"
	FaultDrip     Fault = "drip"
	FaultGarbage  Fault = "garbage"
	FaultOutage   Fault = "outage"   // 503 by Server.Outage
	FaultBlackout Fault = "blackout" // dropped by Server.Blackout
)

type kind struct {
	fault Fault
	rate  float64
}

func (f *Faults) kinds() [6]kind {
	return [...]kind{
		{FaultDrop, f.Drop}, {FaultReset, f.Reset}, {FaultCut, f.Cut},
		{FaultSilence, f.Silence}, {FaultDrip, f.Drip}, {FaultGarbage, f.Garbage},
	}
}

// codes returns the codes of Status in order, so that the same draw always picks the same code.
func (f *Faults) codes() []int { return slices.Sorted(maps.Keys(f.Status)) }

func (f Faults) clone() Faults {
	f.Status = maps.Clone(f.Status)
	return f
}

// SetFaults replaces the faults that requests meet from now on; SetFaults(Faults{})
// ends them. Requests that already met one are left to it. An outage goes on.
//
// SetFaults panics if f has an impossible value; see [Faults.Validate].
func (s *Server) SetFaults(f Faults) {
	if err := f.Validate(); err != nil {
		panic(err.Error())
	}
	s.faults.set(f.clone())
}

// Outage makes the server answer every request with 503 for the time d from now: the
// backend is down, the proxy before it is up. A later call to Outage or Blackout
// replaces it; Outage(0) ends it at once.
func (s *Server) Outage(d time.Duration) { s.faults.down(d, FaultOutage) }

// Blackout drops the connection of every request for the time d from now: nothing is
// there at all. A later call to Outage or Blackout replaces it; Blackout(0) ends it at
// once.
func (s *Server) Blackout(d time.Duration) { s.faults.down(d, FaultBlackout) }

// An injector decides which requests meet a fault.
type injector struct {
	dice

	mu        sync.Mutex
	base      Faults
	used      int // faults made since base was set
	downUntil time.Time
	downHow   Fault
}

func (i *injector) set(f Faults) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.base, i.used = f, 0
}

func (i *injector) down(d time.Duration, how Fault) {
	now := time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.downUntil, i.downHow = now.Add(d), how
}

// A verdict is what is to be done to one request.
type verdict struct {
	fault      Fault // empty: serve it well
	code       int   // answer this in place of the truth
	retryAfter string
	latency    time.Duration
	dripEvery  time.Duration
	rand       *rand.Rand // nil when there is no fault that needs it
}

// judge decides about a request: the n-th for the job(s) that key stands for.
func (i *injector) judge(r *http.Request, isStatus bool, key uint64, n int) verdict {
	now := time.Now()
	i.mu.Lock()
	f := i.base
	until, how := i.downUntil, i.downHow
	i.mu.Unlock()

	if now.Before(until) {
		v := verdict{fault: how}
		if how == FaultOutage {
			v.code, v.retryAfter = http.StatusServiceUnavailable, f.retryAfter(now)
		}
		return v
	}
	if f.Match == nil && !isStatus || f.Match != nil && !f.Match(r) {
		return verdict{}
	}
	var v verdict
	v.latency = f.Latency
	if f.Jitter > 0 {
		v.latency += time.Duration(i.rand("jitter", key, n).Int64N(int64(f.Jitter) + 1))
	}
	v.fault, v.code = f.draw(i.dice, key, n)
	if v.fault == "" || f.Limit > 0 && !i.withinLimit(f.Limit) {
		return verdict{latency: v.latency}
	}
	switch {
	case v.code == http.StatusTooManyRequests || v.code == http.StatusServiceUnavailable:
		v.retryAfter = f.retryAfter(now)
	case v.fault == FaultGarbage:
		v.rand = i.rand("garbage", key, n)
	case v.fault == FaultDrip:
		v.dripEvery = cmp.Or(f.DripEvery, time.Second)
	}
	return v
}

// withinLimit counts a fault, unless earlier ones have used up the limit.
func (i *injector) withinLimit(limit int) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.used >= limit {
		return false
	}
	i.used++
	return true
}

// draw picks the fault that a request meets, and the code if the fault is one.
func (f *Faults) draw(d dice, key uint64, n int) (Fault, int) {
	kinds := f.kinds()
	sum := 0.0
	for _, k := range kinds {
		sum += k.rate
	}
	if sum == 0 && len(f.Status) == 0 {
		return "", 0
	}
	u := d.rand("fault", key, n).Float64()
	for _, code := range f.codes() {
		if u -= f.Status[code]; u < 0 {
			return Fault(strconv.Itoa(code)), code
		}
	}
	for _, k := range kinds {
		if u -= k.rate; u < 0 {
			return k.fault, 0
		}
	}
	return "", 0
}

func (f *Faults) retryAfter(now time.Time) string {
	switch {
	case f.RetryAfter <= 0:
		return ""
	case f.RetryAfterDate:
		// A date has whole seconds: round up, as for seconds.
		return now.Add(f.RetryAfter + time.Second - 1).UTC().Truncate(time.Second).Format(http.TimeFormat)
	}
	return seconds(f.RetryAfter)
}

// seconds rounds up to whole seconds.
func seconds(d time.Duration) string {
	n := int64(d / time.Second)
	if d%time.Second > 0 {
		n++
	}
	return strconv.FormatInt(n, 10)
}

// garbage is one of the things that stand where JSON should.
func garbage(r *rand.Rand, truth []byte) []byte {
	switch r.IntN(4) {
	case 0:
		return []byte("<!DOCTYPE html><html><title>Please wait</title><p>The site will be back soon.</html>\n")
	case 1:
		return truth[:len(truth)/2]
	case 2:
		b := make([]byte, 16+r.IntN(240))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		b[0] = 0xff // nothing in JSON begins so
		return b
	}
	return nil
}
