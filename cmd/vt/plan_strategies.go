package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/vtclient/vtclient"
)

// A plan is the jobs to compare strategies on.
type plan struct {
	source  string
	command string // that makes the same again
	sample
	cost     time.Duration
	seed     uint64
	interval time.Duration // the best fixed one, once compared

	// population holds the quantiles of the distribution that the durations were
	// drawn from; nil: they were read.
	population []time.Duration
}

func (p *plan) mean() float64 {
	sum := 0.0
	for _, d := range p.durations {
		sum += d.Seconds()
	}
	return sum / float64(len(p.durations))
}

// A tally sums up jobs.
type tally struct{ jobs, requests, delay float64 }

func (t *tally) add(requests float64, delay time.Duration) {
	t.jobs++
	t.requests += requests
	t.delay += delay.Seconds()
}

func (t *tally) merge(u tally) {
	t.jobs += u.jobs
	t.requests += u.requests
	t.delay += u.delay
}

// cost is the mean waiting cost.
func (t tally) cost(request time.Duration) float64 {
	return (t.requests*request.Seconds() + t.delay) / t.jobs
}

// A planned strategy is one with what it costs, as means per job; times are in seconds.
type planned struct {
	name                         string
	kind                         kind
	requests, delay, cost, ratio float64
}

type kind int

const (
	fixed kind = iota // a setting that does not depend on the jobs
	found             // the best of its form, in hindsight
	learning
	learnt
	optimal
)

// A cadence gives the delay before poll number k of a job, from 0 on.
type cadence func(k int, r *rand.Rand) time.Duration

// A client is a well-known one, with its cadence.
type client struct {
	name  string
	delay cadence
	fixed time.Duration // the interval, if it is always the same; 0: it is not
}

// wellKnown returns the cadences of well-known clients. What their programs do at age 0
// is left out for all alike.
func wellKnown() []client {
	return []client{
		{"every 1s", steady(time.Second), time.Second},
		{"Azure SDK: every 30s", steady(30 * time.Second), 30 * time.Second},
		{"AWS waiter: 10s, doubling up to 2m", waiter(10*time.Second, 2*time.Minute), 0},
		{"Google LRO: 1s, doubling up to 1m", around(time.Second, 2, time.Minute, 0, 1), 0},
		{"cenkalti/backoff: 500ms ×1.5, up to 1m", around(500*time.Millisecond, 1.5, time.Minute, 0.5, 1.5), 0},
		{"HeyGen CLI: 2s, doubling up to 30s", around(2*time.Second, 2, 30*time.Second, 0.75, 1.25), 0},
		{"Exponential: 500ms, doubling up to 1m", func(k int, _ *rand.Rand) time.Duration {
			d, _ := vtclient.Exponential{}.Next(vtclient.Attempt{Number: k})
			return d
		}, 0},
	}
}

func steady(d time.Duration) cadence {
	return func(int, *rand.Rand) time.Duration { return d }
}

// growth is base·multᵏ, at most limit.
func growth(base time.Duration, mult float64, limit time.Duration, k int) time.Duration {
	d := float64(base) * math.Pow(mult, float64(k))
	if !(d < float64(limit)) {
		return limit
	}
	return time.Duration(d)
}

// around makes the delays uniform from lo to hi times the bounded exponential
// ones, at least 1 ns. This is what gax-go does with 0 and 1 ("full jitter"), and
// cenkalti/backoff with 0.5 and 1.5: the bound is one on the middle, and the
// jitter may go beyond it.
func around(base time.Duration, mult float64, limit time.Duration, lo, hi float64) cadence {
	return func(k int, r *rand.Rand) time.Duration {
		d := float64(growth(base, mult, limit, k))
		return max(1, time.Duration(d*(lo+(hi-lo)*r.Float64())))
	}
}

// waiter makes the delays uniform from the least delay to the bounded
// exponential one, as the waiters of the AWS SDKs do.
func waiter(least, limit time.Duration) cadence {
	return func(k int, r *rand.Rand) time.Duration {
		d := growth(least, 2, limit, k)
		if d <= least {
			return least
		}
		return least + time.Duration(r.Int64N(int64(d-least)))
	}
}

const (
	// maxPasses and maxDraws bound how often random strategies are tried on
	// the jobs. At some tens of passes over hundreds of jobs the mean is known to
	// a few parts in a thousand.
	maxPasses = 100
	maxDraws  = 3_000_000
)

// try returns what a cadence costs: it follows each job, and returns the mean over the random
// shifts. The jobs are taken in a random order, so that the mean is a fair one too where the
// draws run out before all jobs had their turn.
func try(delay cadence, durations []time.Duration, r *rand.Rand) tally {
	order := r.Perm(len(durations))
	var t tally
	draws := 0
	for range maxPasses {
		for _, i := range order {
			if draws > maxDraws {
				return t
			}
			var age time.Duration
			k := 0
			for age < durations[i] {
				age += delay(k, r)
				k++
			}
			draws += k
			t.add(float64(k), age-durations[i])
		}
	}
	return t
}

// A backoff is an exponential one without jitter: the delays are base, base·mult,
// base·mult², …, each at most limit.
type backoff struct {
	base, limit time.Duration
	mult        float64
}

func (b backoff) String() string {
	if b.mult == 1 || b.base == b.limit {
		return short(b.base)
	}
	return fmt.Sprintf("%s ×%.3g ≤ %s", short(b.base), b.mult, short(b.limit))
}

// short writes a duration with as many digits as matter.
func short(d time.Duration) string {
	unit := time.Nanosecond
	for unit*100000 <= d && unit < time.Second {
		unit *= 10
	}
	return d.Round(unit).String()
}

// try returns what b costs for sorted durations: it finds the jobs that each
// poll ends, and once the delay no longer grows it counts by division.
func (b backoff) try(sorted []time.Duration, sums []float64) tally {
	n := len(sorted)
	t := tally{jobs: float64(n)}
	longest := sorted[n-1]
	var age time.Duration
	ended := 0
	step := float64(b.base)
	for ended < n {
		d := b.limit
		if step < float64(d) {
			d = time.Duration(max(1, step))
		} else if int64((longest-age)/d) > int64((n-ended)/8) {
			for _, x := range sorted[ended:] {
				k := (x - age + d - 1) / d
				t.requests += float64(k)
				t.delay += (age + k*d - x).Seconds()
			}
			return t
		}
		age += d
		step *= b.mult
		t.requests += float64(n - ended)
		if age < sorted[ended] {
			continue
		}
		lo, hi := ended+1, n
		for lo < hi {
			if mid := (lo + hi) / 2; sorted[mid] <= age {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		t.delay += age.Seconds()*float64(lo-ended) - (sums[lo] - sums[ended])
		ended = lo
	}
	return t
}

// learn follows the jobs one after another with a learner that begins with
// nothing. It returns the first half and the second half of them.
func learn(ctx context.Context, l vtclient.Learner, durations []time.Duration) (first, second tally) {
	for i, x := range durations {
		if ctx.Err() != nil {
			return
		}
		var at vtclient.Attempt
		for at.Elapsed < x {
			at.PendingAt = at.Elapsed
			d, _ := l.Next(at)
			at.Elapsed += d
			at.Number++
		}
		l.Learn(vtclient.Completion{PendingAt: at.PendingAt, DoneBy: at.Elapsed})
		half := &first
		if i >= len(durations)/2 {
			half = &second
		}
		half.add(float64(at.Number), at.Elapsed-x)
	}
	return first, second
}

// learnAll is learn for several request costs, each on average over some
// repetitions, on as many processors as there are.
func learnAll(ctx context.Context, costs []time.Duration, times int, durations []time.Duration) (first, second []tally) {
	first, second = make([]tally, len(costs)), make([]tally, len(costs))
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, cost := range costs {
		for range times {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				a, b := learn(ctx, vtclient.NewAdaptive(cost), durations)
				mu.Lock()
				defer mu.Unlock()
				first[i].merge(a)
				second[i].merge(b)
			})
		}
	}
	wg.Wait()
	return first, second
}

// learnTimes is how often Adaptive is tried: it draws random numbers of its own, which matter
// more with few jobs.
func learnTimes(jobs int) int { return min(max(2000/jobs, 1), 10) }

// reference returns the ages at which to ask that all strategies are measured
// against: the best for the distribution where it is known, else for the
// durations themselves.
func (p *plan) reference(cost time.Duration) []time.Duration {
	from := p.durations
	if p.population != nil {
		from = p.population
	}
	polls := optimalPolls(from, cost.Seconds())
	// A job may take longer than any of the distribution's quantiles.
	last := polls[len(polls)-1]
	gap := last
	if n := len(polls); n > 1 {
		gap -= polls[n-2]
	}
	for longest := slices.Max(p.durations); last < longest; {
		last += gap
		polls = append(polls, last)
	}
	return polls
}

// adaptiveName is the row of vtclient's default.
const adaptiveName = "Adaptive, learning as it goes"

// compare tries all strategies.
func (p *plan) compare(ctx context.Context) ([]planned, error) {
	polls := p.reference(p.cost)
	best := tryPolls(polls, p.durations)
	var results []planned
	add := func(name string, kind kind, t, than tally) {
		results = append(results, planned{name: name, kind: kind, requests: t.requests / t.jobs, delay: t.delay / t.jobs,
			cost: t.cost(p.cost), ratio: t.cost(p.cost) / than.cost(p.cost)})
	}
	s := newSearch(p.durations, p.cost)
	for i, w := range wellKnown() {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var t tally
		if w.fixed > 0 {
			t = backoff{w.fixed, w.fixed, 1}.try(s.sorted, s.sums)
		} else {
			t = try(w.delay, p.durations, rand.New(rand.NewPCG(p.seed, 10+uint64(i))))
		}
		add(w.name, fixed, t, best)
	}
	g := s.constant()
	p.interval = g
	constant := backoff{g, g, 1}
	add("best fixed interval: "+constant.String(), found, constant.try(s.sorted, s.sums), best)
	exp := s.exponential(g)
	add("best growing: "+exp.String(), found, exp.try(s.sorted, s.sums), best)

	first, second := learnAll(ctx, []time.Duration{p.cost}, learnTimes(len(p.durations)), p.durations)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	all := first[0]
	all.merge(second[0])
	add(adaptiveName, learning, all, best)
	add("Adaptive, second half of the jobs", learnt, second[0], tryPolls(polls, p.durations[len(p.durations)/2:]))
	if p.population != nil {
		add("least possible for such jobs", optimal, best, best)
		add("least possible for these very jobs", found, tryPolls(optimalPolls(p.durations, p.cost.Seconds()), p.durations), best)
	} else {
		add("least possible for these very jobs", optimal, best, best)
	}
	return results, nil
}
