package vtclient

import (
	"slices"
	"time"
)

// OnOverdue sets a function that is called once for each job that takes longer than 99 of
// 100 jobs like it, by what the polling Backoff has learnt ([Adaptive]): the job may
// hang. While nothing is learnt, and with a Backoff that does not learn, it is called when
// the job takes three times as long as [Expect] gives; without Expect, after three hours.
// Of several waits for one job, each calls its own function.
//
// The Status is the last answer, a pending one: a job without an answer so far is not overdue
// yet. The Forecast is what is expected of the job at its age now, that of [Adaptive.Explain]; it
// is empty with a Backoff that has none. The wait goes on. The function is called like
// OnProgress, at the time and not at the next poll.
func OnOverdue(f func(Status, Forecast)) WaitOption {
	return func(wc *waitConfig) { wc.onOverdue = f }
}

// overdueFactor is how many times the caller's estimate a job takes before it is overdue, while
// nothing is learnt. Where the logarithm of the ratio to the estimate has a standard deviation
// of one half, one job in a hundred takes longer.
const overdueFactor = 3

// overdueExpect stands for the caller's estimate where there is none: a video translation
// takes seconds to an hour.
const overdueExpect = time.Hour

// overdueAge returns the age at which a job is overdue by a forecast that was made for its
// start.
func overdueAge(f Forecast, expected time.Duration) time.Duration {
	if f.Jobs > 0 {
		return f.P99
	}
	if expected <= 0 {
		expected = overdueExpect
	}
	return min(expected, never/overdueFactor) * overdueFactor
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

// overdueAge returns the age at which a job is overdue by what is known now.
func (c *Client) overdueAge(expected time.Duration) time.Duration {
	return overdueAge(c.forecast(Attempt{Expected: expected}), expected)
}

// overdueAge returns the age at which a job is overdue; 0: its overdue event is not asked for.
func (wc *waitConfig) overdueAge(c *Client, job *Job) time.Duration {
	if wc.onOverdue == nil {
		return 0
	}
	return c.overdueAge(job.Expect)
}

// overdue calls the callback, unless what has been learnt meanwhile gives the job more time.
func (w caller) overdue(wc *waitConfig, ev *event) {
	c, at := w.e.c, ev.overdue
	if age := c.overdueAge(at.Expected); age > at.Elapsed {
		w.awaitOverdue(ev.status.JobID, age)
		return
	}
	wc.onOverdue(ev.status, c.forecast(*at))
}

// awaitOverdue plans the caller's event for a job anew.
func (w caller) awaitOverdue(jobID string, age time.Duration) {
	e := w.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if en := e.polls.get(jobID); en != nil && !w.in.closed {
		e.awaitOverdue(en, w.in, age)
		now := e.c.now()
		e.plan(en, now)
		e.dispatch(now)
	}
}

// awaitOverdue notes that an inbox is to have an event when the job of a poll has that age.
func (e *engine) awaitOverdue(en *entry, in *inbox, age time.Duration) {
	if e.overdues == nil {
		e.overdues = make(overdues)
	}
	e.overdues.add(en, in, age)
}

// overdues are the inboxes that are to have an event when the job of a poll is overdue.
type overdues map[*entry][]overdueEvent

type overdueEvent struct {
	to  *inbox
	age time.Duration // of the job; 0: the event is there
}

func (o overdues) add(en *entry, in *inbox, age time.Duration) {
	all := o[en]
	if i := slices.IndexFunc(all, func(ev overdueEvent) bool { return ev.to == in }); i >= 0 {
		all[i].age = age
		return
	}
	o[en] = append(all, overdueEvent{in, age})
}

// remove drops what is planned for an inbox that leaves a poll.
func (o overdues) remove(en *entry, in *inbox) {
	all := slices.DeleteFunc(o[en], func(ev overdueEvent) bool { return ev.to == in })
	if o[en] = all; len(all) == 0 {
		delete(o, en)
	}
}

// next returns when the next event of a poll is due: not before the first look, as the
// job may be over.
func (o overdues) next(en *entry) (at int64) {
	at = never
	for _, ev := range o[en] {
		if ev.age > 0 && en.seen {
			at = min(at, later(en.began, ev.age))
		}
	}
	return at
}

// deliver puts the events that are due into their inboxes.
func (o overdues) deliver(en *entry, now int64, w wall) {
	for i, ev := range o[en] {
		if age := time.Duration(now - en.began); ev.age > 0 && ev.age <= age && en.seen {
			o[en][i].age = 0
			at := Attempt{Number: int(en.requests), Elapsed: age, PendingAt: en.pendingAt, Expected: en.expected}
			ev.to.put(&event{status: en.last(w), overdue: &at})
		}
	}
}
