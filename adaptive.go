package vtclient

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A Completion tells a [Learner] how one job ended, or that nobody stayed to
// see it end.
type Completion struct {
	// PendingAt is the age at which the job was last known to be pending;
	// zero when it was never seen pending.
	PendingAt time.Duration
	// DoneBy is the age at which the job was known to be over, well or badly:
	// its duration lies in (PendingAt, DoneBy]. Zero: it was not seen to
	// finish, because the wait was given up; it took longer than PendingAt.
	DoneBy time.Duration
	// Expected is the caller's estimate of the whole duration; zero: none.
	Expected time.Duration
	// Hinted says that a hint told of the end, so that DoneBy is close to the
	// truth and not merely the next poll after it.
	Hinted bool
}

// A Learner is a [Backoff] that learns from the jobs that it scheduled.
type Learner interface {
	Backoff
	// Learn takes one completion into account. A completion that makes no
	// sense is ignored.
	// A client tells of its jobs in the order in which they began, so of some
	// a while after they ended, and on the goroutine of somebody who waited.
	Learn(Completion)
}

// A Forecast says what an [Adaptive] expects of one job; see [Adaptive.Explain].
type Forecast struct {
	// Polls are the ages at which the next few polls are due if each of them
	// finds the job pending, before the small random shifts.
	Polls []time.Duration
	// Median and P90 are the times from now until which half, and nine tenths,
	// of such jobs are over. Zero means that this time has passed.
	Median, P90 time.Duration
	// Jobs is the number of remembered completions behind it; zero means that
	// everything here is a guess.
	Jobs int
}

// An Adaptive is a polling cadence that learns how long jobs take. It polls
// when a poll is worth its price: rarely where a job seldom ends, closely
// where it probably does, and not at all before the first moment that makes
// sense. It needs no set-up beyond the worth of a request.
//
// What it minimises is the mean, over jobs, of
//
//	requests × requestCost + time from "finished" to "we know"
//
// With no history it assumes that a job takes about two minutes, and perhaps as
// little as a second or as much as a day, and polls in slowly growing gaps.
// After some tens of jobs it is typically within a few per cent of the best
// schedule for the distribution that the durations come from. It remembers the
// last few hundred jobs and follows a backend that becomes slower or faster
// within some jobs: to notice that jobs became faster, it polls about one job
// in 25, later one in 80, once more, earlier.
//
// Jobs that carry an estimate (Attempt.Expected, Completion.Expected) are
// learnt apart from those that do not: of them it learns the ratio of the
// duration to the estimate. With an estimate and no history it centres on the
// estimate.
//
// Where hints tell of the ends ([Client.Hint], [Webhook]) a poll is there for the
// hint that gets lost, so the more of the hints arrive, the fewer polls are made. If
// none arrive any more, it polls after two or three jobs as if there had
// never been any.
//
// An Adaptive is safe for concurrent use by many waits and clients. Its zero
// value is ready to use, with requests worth one second. It starts no
// goroutine, holds about 110 kB once it has learnt from jobs without an estimate,
// up to 30 kB more for each order of magnitude of the number of jobs that share
// a request, and up to 380 kB more from jobs with an estimate, if those span
// minutes to days, and must not be copied after first use. Next is a table lookup, in about
// 100 ns. A Learn takes 20 µs on average once there are hundreds of jobs, and
// 150 µs while there are few and each of them changes the table.
type Adaptive struct {
	cost float64 // seconds; 0: one second

	plainNow  atomic.Pointer[schedule]
	sharedNow atomic.Pointer[lazyTable] // the same for shared requests
	ratioNow  atomic.Pointer[lazyTable]
	explore   atomic.Uint32  // what is left of the last exploration; see [schedule.next]
	chance    func() float64 // where the random shifts come from; nil: rand.Float64

	mu     sync.Mutex // guards what follows; never held while waiting for anything
	plain  model      // ages in seconds
	ratio  model      // ages in units of the estimate
	own    int        // completions without an estimate, up to sharedUntil
	hinted float64    // completions through hints while hints came, recent ones counting more
	polled float64    // completions through polls, likewise
	silent float64    // how sure it is that no hints come at present
	live   bool       // what is hinted says whether hints come
	priced float64    // the price that the schedules were last renewed for; 0: that of the beginning
}

const (
	// minDelay stands for "now": a poll that is overdue.
	minDelay = time.Millisecond
	// sharedUntil is how many jobs without an estimate it takes until those
	// with one no longer teach the plain distribution; sharedWeight is what
	// they count until then.
	sharedUntil  = 20
	sharedWeight = 0.25
	// hintMemory is the number of completions over which the reliability of
	// hints is estimated while they come. Before each completion they cease, or
	// come back, with the probabilities hintsCease and hintsReturn; while they
	// have ceased, hintsStray of the completions are hinted all the same.
	hintMemory  = 400
	hintsCease  = 1. / 300
	hintsReturn = 1. / 50
	hintsStray  = 0.02
	// hintsMost bounds how far hints are relied upon: however well they come,
	// a request is worth a hundred times as much as without them at most.
	hintsMost = 0.99
	// maxTables bounds the schedules kept for different estimates.
	maxTables = 12
	// maxShare is the highest share class.
	maxShare = 4
)

// NewAdaptive returns an [Adaptive] with no history. The request cost says how
// much waiting one request is worth: with time.Second, a poll is made when it
// is expected to end the wait at least a second sooner. Larger values mean
// fewer requests and later answers; requests and delay each change with the
// square root of it. A cost that is not positive counts as one second.
func NewAdaptive(requestCost time.Duration) *Adaptive {
	a := &Adaptive{cost: requestCost.Seconds()}
	if requestCost <= 0 {
		a.cost = 1
	}
	a.explore.Store(rand.Uint32()) // replicas explore at different times
	return a
}

// price returns what a request is worth in seconds. Where hints arrive with
// reliability p, the delay that a poll saves is there to be saved in 1−p of
// the cases only, so a request has to be worth c/(1−p).
//
// Completions may as well come from a record of past jobs, which says nothing
// about hints to come. So p counts as at most one half until a client tells of
// hints that came to it, or a poll finds a job done; and as at most hintsMost
// ever: a webhook that breaks must not leave the waits without polls.
func (a *Adaptive) price() float64 {
	c := a.cost
	if c <= 0 {
		c = 1
	}
	if a.hinted == 0 {
		return c
	}
	p := (1 - a.silent) * a.reliability()
	if !a.live {
		p = min(p, 0.5)
	}
	return c / (1 - p)
}

// hintsCome says that the completions are a client's own, so that its hints are
// no record of the past.
func (a *Adaptive) hintsCome() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.live = true
}

// reliability is the share of the completions that are hinted while hints come.
func (a *Adaptive) reliability() float64 {
	return min((a.hinted+0.7)/(a.hinted+a.polled+1), hintsMost)
}

// Next implements [Backoff]. It returns the time from at.Elapsed, the job's age
// now, until the next poll, given that the job was pending at the age
// at.PendingAt; ok is always true and the delay always positive. A poll that
// should have been made already is due in a millisecond. Fields that make no
// sense are taken for the nearest that do.
//
// The zero Attempt asks for the first poll of a job that begins now. The delays
// are random by a little, where that costs next to nothing, so that waits that
// start together do not stay together.
func (a *Adaptive) Next(at Attempt) (delay time.Duration, ok bool) {
	now := max(at.Elapsed, 0)
	pend := min(max(at.PendingAt, 0), now)
	if pend == 0 && at.Number > 0 {
		// Requests were made and nobody says that the job was seen pending: do
		// not fire at once, for ever.
		pend = now
	}
	s, unit := a.schedule(at)
	chance := a.chance
	if chance == nil {
		chance = rand.Float64
	}
	t := unit * s.next(pend.Seconds()/unit, &a.explore, chance)
	return toDuration(t-now.Seconds(), minDelay, math.MaxInt64/2), true
}

// toDuration converts seconds, clamped to lo..hi; NaN gives lo.
func toDuration(s float64, lo, hi time.Duration) time.Duration {
	switch ns := s * 1e9; {
	case !(ns > float64(lo)):
		return lo
	case ns >= float64(hi):
		return hi
	default:
		return time.Duration(ns)
	}
}

// Learn implements [Learner]: it takes one completion into account. A
// completion that contradicts itself or says nothing is ignored.
func (a *Adaptive) Learn(c Completion) {
	s, ok := newSample(c)
	if !ok {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.DoneBy > 0 {
		a.countHint(c.Hinted)
		a.reprice()
	}
	if c.Expected <= 0 {
		a.own = min(a.own+1, sharedUntil)
		a.teachPlain(s)
		return
	}
	unit := c.Expected.Seconds()
	// Until there are enough jobs without an estimate, those with one are the
	// best there is to learn from about durations as such.
	if a.own < sharedUntil {
		shared := s
		shared.weight = sharedWeight
		if lo := unit * a.ratio.surely(); lo < s.hi {
			shared.lo = max(s.lo, lo)
		}
		a.teachPlain(shared)
	}
	s.lo /= unit
	s.hi /= unit
	a.ratio.init(true)
	if a.ratio.learn(s) {
		renew(&a.ratioNow)
	}
}

// countHint learns from one completion how well hints come. A webhook that is
// down is another thing than one that loses a few: where nearly all hints
// come, two or three jobs without any are enough to poll as if there were none,
// and a hint or two end that. What is lost meanwhile says nothing of how
// well they come otherwise. (This is the filter of a hidden Markov model with the
// two states "they come" and "they do not".)
func (a *Adaptive) countHint(hinted bool) {
	come, cease := a.reliability(), hintsStray
	if !hinted {
		come, cease = 1-come, 1-cease
		a.live = true
	}
	silent := a.silent + (1-a.silent)*hintsCease - a.silent*hintsReturn
	a.silent = silent * cease / (silent*cease + (1-silent)*come)
	const keep = 1 - 1.0/hintMemory
	a.hinted *= keep
	a.polled *= keep
	if hinted {
		a.hinted += 1 - a.silent
	} else {
		a.polled += 1 - a.silent
	}
}

// reprice renews the schedules when the price of a request has changed, which
// must not wait for the next estimate: when hints cease, each job counts.
func (a *Adaptive) reprice() {
	p := a.price()
	if p <= 1.2*a.priced && a.priced <= 1.2*p {
		return
	}
	a.priced = p
	if a.plain.x != nil {
		a.plainNow.Store(a.plain.schedule(p))
	}
	renew(&a.sharedNow)
	renew(&a.ratioNow)
}

func (a *Adaptive) teachPlain(s sample) {
	a.plain.init(false)
	if a.plain.learn(s) {
		a.plainNow.Store(a.plain.schedule(a.price()))
		renew(&a.sharedNow)
	}
}

// A lazyTable holds schedules that are made when they are asked for: those for
// shared requests, by share class, and those for jobs with an estimate, by share
// class and size of the estimate. Ages in the latter are in units of the
// estimate, and so is the price of a request. A table is never changed, only
// replaced.
type lazyTable struct {
	gen int // of what was learnt
	tab []lazyEntry
}

type lazyEntry struct {
	share int // class
	size  int // of the estimate: half octaves of a second; 0 if there is none
	gen   int
	sched *schedule
}

func (t *lazyTable) find(share, size int) *lazyEntry {
	if t != nil {
		for i := range t.tab {
			if t.tab[i].share == share && t.tab[i].size == size {
				return &t.tab[i]
			}
		}
	}
	return nil
}

// renew makes the schedules of a table out of date. The next wait of each kind
// renews its own.
func renew(now *atomic.Pointer[lazyTable]) {
	n := &lazyTable{}
	if t := now.Load(); t != nil {
		*n = *t
	}
	n.gen++
	now.Store(n)
}

// shareClass sorts requests by the number n of jobs that they ask for: class k is
// that of about 4ᵏ jobs, 1, 4, 16, 64 and 256.
func shareClass(n int) int {
	return min(bits.Len(uint(max(n, 0)))/2, maxShare)
}

// sharePrice is the price for one job of a request of a share class, in
// requests of its own. A request for n jobs counts as √n requests, so that each
// of them pays 1/√n. It is less than n, as one request replaces n, and more than
// one, as a request for many is more work for a backend, and as it is made when
// the first of n polls is due, so that each job is polled more often than its
// schedule says. Of a thousand jobs at once, of ten minutes each, in hundreds,
// 1/n makes 2.7 times as many requests for a third of the delay; among ten jobs
// it costs as much as 1/√n, and among three more.
func sharePrice(class int) float64 { return math.Exp2(-float64(class)) }

// schedule returns the schedule for a job and the unit of its ages in seconds.
func (a *Adaptive) schedule(at Attempt) (*schedule, float64) {
	share := shareClass(at.Shared)
	unit, size, now := 1.0, 0, &a.sharedNow
	switch {
	case at.Expected > 0:
		unit = at.Expected.Seconds()
		size, now = int(math.Round(2*math.Log2(unit))), &a.ratioNow
	case share == 0:
		s := a.plainNow.Load()
		if s == nil {
			s = a.firstPlain()
		}
		return s, 1
	}
	t := now.Load()
	e := t.find(share, size)
	if e != nil && e.gen == t.gen {
		return e.sched, unit
	}
	return a.newEntry(now, share, size, e), unit
}

func (a *Adaptive) firstPlain() *schedule {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.plainNow.Load()
	if s == nil {
		a.plain.init(false)
		s = a.plain.schedule(a.price())
		a.plainNow.Store(s)
	}
	return s
}

// newEntry computes one schedule of a table. One caller does so; others
// meanwhile go on with the stale one, if there is one.
func (a *Adaptive) newEntry(now *atomic.Pointer[lazyTable], share, size int, stale *lazyEntry) *schedule {
	if stale == nil {
		a.mu.Lock()
	} else if !a.mu.TryLock() {
		return stale.sched
	}
	defer a.mu.Unlock()
	m, price := &a.plain, a.price()*sharePrice(share)
	m.init(false)
	if now == &a.ratioNow {
		m, price = &a.ratio, price/math.Exp2(float64(size)/2)
		m.init(true)
	}
	t := now.Load()
	if t == nil {
		t = &lazyTable{}
	}
	if e := t.find(share, size); e != nil && e.gen == t.gen {
		return e.sched // another caller was faster
	}
	s := m.schedule(price)
	n := &lazyTable{gen: t.gen, tab: []lazyEntry{{share, size, t.gen, s}}}
	for _, e := range t.tab { // the latest first, the oldest out
		if (e.share != share || e.size != size) && len(n.tab) < maxTables {
			n.tab = append(n.tab, e)
		}
	}
	now.Store(n)
	return s
}

// Explain tells what is expected of a job and when it will be polled, given the
// same facts as for [Adaptive.Next].
func (a *Adaptive) Explain(at Attempt) Forecast {
	now := max(at.Elapsed, 0)
	pend := min(max(at.PendingAt, 0), now)
	s, unit := a.schedule(at)
	from, p := now.Seconds()/unit, pend.Seconds()/unit
	f := Forecast{
		Median: toDuration((s.quantile(p, 0.5)-from)*unit, 0, math.MaxInt64/2),
		P90:    toDuration((s.quantile(p, 0.9)-from)*unit, 0, math.MaxInt64/2),
		Jobs:   s.jobs,
	}
	for range 5 {
		p, _ = s.best(p)
		p = max(p, from)
		age := toDuration(p*unit, 0, math.MaxInt64)
		if n := len(f.Polls); n > 0 && age <= f.Polls[n-1] {
			break
		}
		f.Polls = append(f.Polls, age)
	}
	return f
}
