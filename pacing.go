package vtclient

import (
	"math/rand/v2"
	"time"
)

// firstPace is the gap between the first checks that one WaitAll makes once it
// has made those that may be in flight at once: 500 a second. Polls that would
// otherwise come back together after a pause come at the same pace, and last
// polls before a deadline that many share at twice that.
const firstPace = 2 * time.Millisecond

// A pacer gives out the moments for requests that would otherwise come all at
// once: burst of them at once, then one each gap (the virtual scheduling form of
// the leaky bucket, as in ITU-T I.371's GCRA).
type pacer struct{ tat int64 }

func (p *pacer) next(now int64, burst int, gap int64) int64 {
	p.tat = max(p.tat, now) + gap
	return max(now, p.tat-int64(burst)*gap)
}

// A pacing spreads requests that would otherwise come together. Guarded by engine.mu.
type pacing struct {
	most         int // exchanges under way
	timeout      time.Duration
	latency      *latency
	single, bulk class
}

// A class has the paces of one kind of polls: those of single waits, or those of WaitAlls.
// A single wait is not held to the pace of those in bulk.
type class struct {
	deadlines crowd // of which the last polls are yet to be made
	returns   crowd // of the polls that come back after a refusal or a pause
	last      pacer // of last polls
}

// classOf returns the class of a poll: single if one of its subscribers is.
func (p *pacing) classOf(en *entry) *class {
	if en.hasSingle() {
		return &p.single
	}
	return &p.bulk
}

// lead is the time that an answer takes, as far as that is known.
func (p *pacing) lead() time.Duration {
	lead := firstLead
	if d, ok := p.latency.bound(); ok {
		lead = d + lastLead
	}
	return min(lead, p.timeout)
}

// lastPace is the pace of last polls, where a request may ask for share jobs.
func (p *pacing) lastPace(share int) lastPace {
	typical, _ := p.latency.bound()
	return lastPace{
		usual: max(1, int64(firstPace)/int64(share)),
		least: max(1, max(int64(firstPace)/2, int64(typical)/int64(p.most))/int64(share)),
	}
}

// returnAt returns what to add to a time at which a poll comes back, so that those
// that come back at about the same time come at the pace of first checks. counted
// reports that the poll is among them already.
func (p *pacing) returnAt(en *entry, now, t int64, counted bool, share int) (spread int64) {
	r := &p.classOf(en).returns
	if len(*r) > 64 {
		r.forget(now)
	}
	n := int64(0)
	if counted {
		n = rand.Int64N(int64(max(1, r.add(t, 0))))
	} else {
		n = int64(r.add(t, 1))
	}
	return n * int64(firstPace) / int64(share)
}

// place reports whether a poll whose turn has come may begin now, by the pace of first
// checks and that of last polls. If not, it is due later.
func (p *pacing) place(en *entry, now int64, share int) bool {
	at := now
	switch in := en.subs.to; {
	case en.placed:
	case en.lane == laneRest && in.pace != nil && en.untried():
		at = p.firstCheck(in, now, share)
	case en.lane == laneLast:
		if dl := en.deadlines.unserved.first(); dl != nil {
			at = p.classOf(en).last.next(now, 1, dl.gap(now, dl.at-int64(p.lead()), p.lastPace(share)))
		}
	}
	if en.placed = true; at > now {
		en.next = at
		return false
	}
	return true
}

// firstCheck takes a place in the pace of a WaitAll's first checks. It is requests
// that are paced: where jobs share one, as many times more jobs.
func (p *pacing) firstCheck(in *inbox, now int64, share int) int64 {
	return in.pace.next(now, p.most*share, max(1, int64(firstPace)/int64(share)))
}
