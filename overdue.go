package vtclient

import (
	"slices"
	"time"
)

// overdueFactor is how many times the caller's estimate a job takes before it is overdue,
// while nothing is learnt. Of jobs whose durations spread by the half around their
// estimate, one in a hundred takes longer.
const overdueFactor = 3

// overdueAge returns the age at which a job is overdue by a forecast that was made for its
// start; 0: there is none.
func overdueAge(f Forecast, expected time.Duration) time.Duration {
	if f.Jobs == 0 && expected > 0 {
		return min(expected, never/overdueFactor) * overdueFactor
	}
	return f.P99
}

// A forecaster is a polling Backoff that forecasts, such as [Adaptive].
type forecaster interface{ Explain(Attempt) Forecast }

// forecast returns what is expected of a job. It may be the caller's code.
func (c *Client) forecast(at Attempt) (f Forecast) {
	if p, ok := c.polling.(forecaster); ok {
		f = p.Explain(at)
	}
	return f
}

// overdueAge returns the age at which a job is overdue by what is known now; 0: there is
// none.
func (c *Client) overdueAge(expected time.Duration) time.Duration {
	return overdueAge(c.forecast(Attempt{Expected: expected}), expected)
}

// overdue calls the callback, unless more has been learnt meanwhile and the job's time is
// not up by that.
func (c *Client) overdue(in *inbox, wc *waitConfig, ev *event) {
	at := ev.overdue
	if age := c.overdueAge(at.Expected); age > at.Elapsed {
		c.engine.awaitOverdue(in, ev.status.JobID, age)
		return
	}
	wc.onOverdue(ev.status, c.forecast(*at))
}

// An overdueEvent is one that an inbox is to have when a job is overdue.
type overdueEvent struct {
	to  *inbox
	age time.Duration // of the job; 0: the event is there
}

// nextOverdue returns when the next event of a poll is due.
func (e *engine) nextOverdue(en *entry) (at int64) {
	at = never
	for _, o := range e.overdue[en] {
		if o.age > 0 && en.seen { // not before the first look: the job may be over
			at = min(at, later(en.began, o.age))
		}
	}
	return at
}

// awaitOverdue plans an event for an inbox, one for each job. Again for the same, it
// plans it anew.
func (e *engine) awaitOverdue(in *inbox, jobID string, age time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	en := e.polls.get(jobID)
	if en == nil || in.closed {
		return
	}
	if e.overdue == nil {
		e.overdue = make(map[*entry][]overdueEvent)
	}
	all := e.overdue[en]
	if i := slices.IndexFunc(all, func(o overdueEvent) bool { return o.to == in }); i >= 0 {
		all[i].age = age
	} else {
		e.overdue[en] = append(all, overdueEvent{in, age})
	}
	now := e.c.now()
	e.plan(en, now)
	e.dispatch(now)
}

// putOverdue delivers the events that are due.
func (e *engine) putOverdue(en *entry, now int64) {
	for i := range e.overdue[en] {
		o := &e.overdue[en][i]
		age := time.Duration(now - en.began)
		if o.age == 0 || o.age > age || !en.seen {
			continue
		}
		o.age = 0
		o.to.put(&event{status: en.last(e.c.wall()), overdue: &Attempt{Number: int(en.requests), Elapsed: age, PendingAt: en.pendingAt, Expected: en.expected}})
	}
}

// leaveOverdue drops what is planned for an inbox that leaves a poll.
func (e *engine) leaveOverdue(en *entry, in *inbox) {
	all := slices.DeleteFunc(e.overdue[en], func(o overdueEvent) bool { return o.to == in })
	if e.overdue[en] = all; len(all) == 0 {
		delete(e.overdue, en)
	}
}
