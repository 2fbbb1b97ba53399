package vtclient

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vtclient/vtclient/internal/cadence"
)

// An Adaptive is a polling cadence that learns how long jobs take. It polls
// when a poll is worth its price: rarely where a job seldom ends, closely
// where it probably does, and not at all before the first moment that makes
// sense. It needs no set-up beyond the worth of a request.
//
// What it minimises is the mean, over jobs, of
//
//	requests × requestCost + time from "finished" to "known"
//
// With no history it assumes that a job takes about two minutes, and perhaps as
// little as a second or as much as a day, and polls in slowly growing gaps.
// After some tens of jobs it is typically within a few per cent of the best
// schedule for the distribution that the durations come from. It remembers the
// last few hundred jobs and follows a backend that becomes slower or faster
// within some jobs: to notice that jobs became faster, it polls about one job
// in 25 once more, earlier. Where jobs end on multiples of a period, as with a
// worker that looks every 5 s, it polls just behind the ticks; and where they end at full
// minutes of the time of day, too, if it is the cadence of a client itself and not part of another.
//
// Jobs that carry an estimate (Attempt.Expected, Completion.Expected) are
// learnt apart from those that do not: of them it learns the ratio of the
// duration to the estimate, and a part of the durations that is the same for all. So
// the length of the video will do as an estimate. With an estimate and no history it
// centres on the estimate.
//
// Where hints announce the ends ([Client.Hint], [Webhook]) a poll is there for the
// hint that gets lost, so the more of the hints arrive, the fewer polls are made. If
// none arrive any more, it polls after two or three jobs as if there had
// never been any.
//
// An Adaptive is safe for concurrent use by many waits and clients. Its zero
// value is ready to use, with requests worth one second. It starts no
// goroutine, holds about 100 kB once it has learnt from jobs without an estimate, as much
// again from jobs with one, up to 250 kB more for the schedules of different estimates and
// of shared requests, and must not be copied after first use. Next is a table lookup, in
// about 100 ns; the first one after a lesson computes the table, in some tens of
// microseconds. A Learn takes 20 µs on average from the hundredth job on, and 75 µs before; the
// few with which the constant part of estimated jobs changes take ten milliseconds.
//
// docs/cadence.md has the mathematics and the figures.
type Adaptive struct {
	cost float64 // seconds; 0: one second

	made    [16]atomic.Pointer[made] // by kind; two kinds may contend for a place
	lessons [2]atomic.Uint32         // rises when the schedules of a cadence.Kind are out of date
	clock   atomic.Uint64            // the bits of the plain model's Clock
	begun   atomic.Int64             // jobs that were polled, see [cadence.Model.Discount]
	explore atomic.Uint32            // what is left of the last exploration; see [cadence.Schedule.Next]
	chance  func() float64           // where the random shifts come from; nil: rand.Float64

	mu      sync.Mutex // guards what follows; never held while waiting for anything
	learner cadence.Learner
}

const (
	// minDelay stands for "now": a poll that is overdue.
	minDelay = time.Millisecond
	// maxShare is the highest share class.
	maxShare = 4
)

// NewAdaptive returns an [Adaptive] with no history. The request cost is
// the waiting that one request is worth: with time.Second, a poll is made when it
// is expected to end the wait at least a second sooner. Larger values mean
// fewer requests and later answers; requests and delay each change with the
// square root of it. A cost that is not positive counts as one second; New refuses
// one below 100 microseconds.
func NewAdaptive(requestCost time.Duration) *Adaptive {
	a := &Adaptive{cost: requestCost.Seconds()}
	if requestCost <= 0 {
		a.cost = 1
	}
	a.explore.Store(rand.Uint32()) // replicas explore at different times
	return a
}

// price returns what a request is worth in seconds. Callers hold a.mu.
func (a *Adaptive) price() float64 {
	c := a.cost
	if c <= 0 {
		c = 1
	}
	return c * a.learner.Worth()
}

// hintsCome makes hints count in full: the completions are a client's own.
func (a *Adaptive) hintsCome() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.learner.ExpectHints()
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
	return a.nextFrom(at, time.Time{})
}

// nextFrom is Next for a job whose start is known; zero: it is not.
func (a *Adaptive) nextFrom(at Attempt, start time.Time) (delay time.Duration, ok bool) {
	now := max(at.Elapsed, 0)
	pend := min(max(at.PendingAt, 0), now)
	if pend == 0 && at.Number > 0 {
		// Requests were made, and the caller does not pass when the job was pending: do
		// not fire at once, for ever.
		pend = now
	}
	if at.Number == 1 {
		a.begin()
	}
	s, later := a.schedule(at, start)
	unit := at.unit(s)
	chance := a.chance
	if chance == nil {
		chance = rand.Float64
	}
	t := unit*s.Next(max(pend.Seconds()+later, 0)/unit, &a.explore, chance) - later
	return toDuration(t-now.Seconds(), minDelay, math.MaxInt64/2), true
}

// begin counts a job. Many that begin at once renew the schedules, as those for few jobs
// are for polls that teach something.
func (a *Adaptive) begin() {
	if n := a.begun.Add(1); n <= 64 && n&(n-1) == 0 {
		a.renew([2]bool{true, true})
	}
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
// completion that contradicts itself or is empty is ignored.
func (a *Adaptive) Learn(c Completion) { a.learnFrom(c, time.Time{}) }

// learnFrom is Learn for a job whose start is known; zero: it is not.
func (a *Adaptive) learnFrom(c Completion, start time.Time) {
	j := cadence.Job{
		Pending: max(c.PendingAt, 0).Seconds(), Done: c.DoneBy.Seconds(),
		Expected: c.Expected.Seconds(), Hinted: c.Hinted, Exact: c.Exact, Failed: c.Failed, ID: rand.Uint64(),
		Start: unixSeconds(start),
	}
	switch {
	case c.DoneBy == 0 && c.PendingAt > 0:
		j.Done = math.Inf(1)
	case c.DoneBy <= 0 || c.PendingAt > c.DoneBy && !c.Exact:
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.DoneBy > 0 && a.learner.CountHint(c.Hinted) {
		a.renew([2]bool{true, true})
	}
	a.learnt(a.learner.Learn(j))
}

// learnt publishes what has changed. Callers hold a.mu.
func (a *Adaptive) learnt(changed [2]bool) {
	if changed[cadence.Plain] {
		a.clock.Store(math.Float64bits(a.learner.Model(cadence.Plain).Clock))
	}
	a.renew(changed)
}

// unixSeconds returns the seconds since 1970; 0 before.
func unixSeconds(t time.Time) float64 {
	return max(float64(t.Unix())+float64(t.Nanosecond())/1e9, 0)
}

// A made is a schedule, made when it was asked for. It is never changed, only replaced.
type made struct {
	kind
	lessons  uint32 // when it was made
	schedule *cadence.Schedule
}

// A kind is what jobs have in common that share a schedule. With an estimate, the ages
// of the schedule are in units that follow from it, and so is the price of a request.
type kind struct {
	of    cadence.Kind
	size  int // of the estimate: half octaves of a second
	share int // class
	phase int // see cadence.Phase
}

// renew makes the schedules of some kinds out of date. The next wait that needs one
// renews it.
func (a *Adaptive) renew(changed [2]bool) {
	for k, c := range changed {
		if c {
			a.lessons[k].Add(1)
		}
	}
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
// schedule would have it. Of a thousand jobs at once, of ten minutes each, in hundreds,
// 1/n makes 2.7 times as many requests for a third of the delay; among ten jobs
// it costs as much as 1/√n, and among three more.
func sharePrice(class int) float64 { return math.Exp2(-float64(class)) }

// schedule returns the schedule for a job, and how much later than the job's its ages are.
func (a *Adaptive) schedule(at Attempt, start time.Time) (s *cadence.Schedule, later float64) {
	k := kind{share: shareClass(at.Shared)}
	if at.Expected > 0 {
		k.of, k.size = cadence.Ratio, halfOctave(at.Expected.Seconds())
	} else if clock := a.clock.Load(); clock != 0 && !start.IsZero() {
		k.phase, later = cadence.Phase(unixSeconds(start), math.Float64frombits(clock))
	}
	place := &a.made[uint(5*int(k.of)+k.size+7*k.share+k.phase)%uint(len(a.made))]
	e := place.Load()
	switch {
	case e == nil || e.kind != k:
		a.mu.Lock()
	case e.lessons == a.lessons[k.of].Load():
		return e.schedule, later
	case !a.mu.TryLock(): // another caller renews it, or a job is learnt
		return e.schedule, later
	}
	defer a.mu.Unlock()
	lessons := a.lessons[k.of].Load()
	if e := place.Load(); e != nil && e.kind == k && e.lessons == lessons {
		return e.schedule, later // another caller was faster
	}
	m := a.learner.Model(k.of)
	price := a.price() * m.Discount(int(a.begun.Load()-1)) * sharePrice(k.share) / (math.Exp2(float64(k.size)/2) + m.Intercept)
	s = m.Schedule(price, k.phase)
	place.Store(&made{k, lessons, s})
	return s, later
}

// halfOctave returns 2·log₂(x), rounded. With math.Log2 it takes five times as long, 20 ns.
func halfOctave(x float64) int {
	fraction, exp := math.Frexp(x * 1.189207115) // 2^¼, for the rounding
	if fraction >= math.Sqrt2/2 {
		return 2*exp - 1
	}
	return 2*exp - 2
}

// unit returns the unit of s's ages in seconds.
func (at Attempt) unit(s *cadence.Schedule) float64 {
	if at.Expected <= 0 {
		return 1
	}
	return at.Expected.Seconds() + s.Intercept
}

// Explain returns what is expected of a job and when it will be polled, given the
// same facts as for [Adaptive.Next].
func (a *Adaptive) Explain(at Attempt) Forecast {
	now := max(at.Elapsed, 0)
	pend := min(max(at.PendingAt, 0), now)
	s, _ := a.schedule(at, time.Time{})
	unit := at.unit(s)
	from, p := now.Seconds()/unit, pend.Seconds()/unit
	f := Forecast{
		Median: toDuration((s.Quantile(p, 0.5)-from)*unit, 0, math.MaxInt64/2),
		P90:    toDuration((s.Quantile(p, 0.9)-from)*unit, 0, math.MaxInt64/2),
		P99:    toDuration((s.Quantile(p, 0.99)-from)*unit, 0, math.MaxInt64/2),
		Jobs:   s.Jobs,
	}
	for range 5 {
		p = s.Best(p)
		p = max(p, from)
		age := toDuration(p*unit, 0, math.MaxInt64)
		if n := len(f.Polls); n > 0 && age <= f.Polls[n-1] {
			break
		}
		f.Polls = append(f.Polls, age)
	}
	return f
}

// MarshalText implements [encoding.TextMarshaler]: the completions that a
// remembers, one a line, so that a later process need not start cold. What a
// request is worth is no part of it.
func (a *Adaptive) MarshalText() ([]byte, error) {
	return a.state().Text(), nil
}

// ErrStateIncomplete is the error of [Adaptive.UnmarshalText] for a state of which
// some lines could not be read.
var ErrStateIncomplete = errors.New("some lines of the state were left out")

// UnmarshalText implements [encoding.TextUnmarshaler]: it replaces what a has learnt
// by a state that MarshalText wrote. The request cost of a stays as it is. A line
// that cannot be read is left out: a has learnt the rest, and the error, which matches
// [ErrStateIncomplete], gives the line and the reason. With any other error the text is
// no state, and a is unchanged. The first Next after it takes some ten milliseconds at most.
func (a *Adaptive) UnmarshalText(text []byte) error {
	st, err := cadence.ParseState(text)
	var skipped *cadence.SkippedError
	if err != nil && !errors.As(err, &skipped) {
		return fmt.Errorf("vtclient: adaptive state: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.restore(st)
	if skipped != nil {
		return fmt.Errorf("vtclient: adaptive state: %w: %w", ErrStateIncomplete, skipped)
	}
	return nil
}

// Merge adds what b has learnt to what a has, as if the recent jobs of both had
// happened side by side; b does not change. It is a union of sets: what several Adaptives
// have learnt comes out the same in whatever order it is merged, and however often, as each
// job counts once. Merging with nil does nothing. Merge may be called in both directions at
// once. The first Next after it takes some ten milliseconds at most.
func (a *Adaptive) Merge(b *Adaptive) {
	if b == nil || a == b {
		return
	}
	theirs := b.state() // b's lock is free again before a's is taken
	a.mu.Lock()
	defer a.mu.Unlock()
	a.restore(a.learner.State().Merge(theirs))
}

// state returns a copy of what a has learnt.
func (a *Adaptive) state() cadence.State {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.learner.State().Clone()
}

// restore replaces what a has learnt. Callers hold a.mu.
func (a *Adaptive) restore(st cadence.State) {
	a.learner.Restore(st)
	a.clock.Store(0) // the text has no starts
	a.renew([2]bool{true, true})
}

// validate returns the reason for which New refuses a.
func (a *Adaptive) validate() error {
	if a == nil {
		return badArgument("Adaptive", words("nil"), "an Adaptive")
	}
	cost := time.Duration(math.Round(a.cost * 1e9))
	return badDuration("NewAdaptive: requestCost", cost, true, "")
}
