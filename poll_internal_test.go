package vtclient

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

const (
	testSecond = int64(time.Second)
	testFloor  = int64(pollFloor)
)

var (
	testBounds = bounds{tolerance: 10 * time.Minute, maxRetryAfter: 5 * time.Minute, timeout: 30 * time.Second}
	errFault   = errors.New("the fault")
	errRefusal = &textError{"the refusal", errors.New("refused")}
)

// A pollRow is a rule of the state machine: what one step does to a poll.
type pollRow struct {
	rule string
	from poll
	step func(p *poll) any
	want any           // the result of the step
	to   func(p *poll) // what has changed after it; nil: nothing has
}

func checkPolls(t *testing.T, rows []pollRow) {
	t.Helper()
	for _, row := range rows {
		got, want := copyPoll(&row.from), copyPoll(&row.from)
		if row.to != nil {
			row.to(want)
		}
		if result := row.step(got); !reflect.DeepEqual(result, row.want) {
			t.Errorf("%s: returns %+v, want %+v", row.rule, result, row.want)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: leads to\n%s, want\n%s", row.rule, showPoll(got), showPoll(want))
		}
	}
}

func copyPoll(p *poll) *poll {
	c := *p
	if p.trouble != nil {
		t := *p.trouble
		c.trouble = &t
	}
	if p.missing != nil {
		m := *p.missing
		c.missing = &m
	}
	return &c
}

func showPoll(p *poll) string {
	return fmt.Sprintf("%+v, trouble %+v, missing %+v", *p, p.trouble, p.missing)
}

// in makes a step of one that returns nothing.
func in(f func(p *poll)) func(*poll) any { return func(p *poll) any { f(p); return nil } }

func TestThePredicatesOfAPoll(t *testing.T) {
	var row pollRow
	for _, tt := range []struct {
		rule string
		p    poll
		got  func(p *poll) any
		want any
	}{
		{"a new poll is untried", poll{}, func(p *poll) any { return p.untried() }, true},
		{"so is one of which the last answer is forgotten", poll{trouble: new(trouble)}, func(p *poll) any { return p.untried() }, true},
		{"a request is a try", poll{requests: 1}, func(p *poll) any { return p.untried() }, false},
		{"a refusal is a try", poll{trouble: &trouble{tries: 1}}, func(p *poll) any { return p.untried() }, false},
		{"no trouble is no try", poll{}, func(p *poll) any { return p.untried() }, true},
		{"a fault is a try", poll{trouble: &trouble{tries: 3}}, func(p *poll) any { return p.untried() }, false},
		{"no trouble is no faults", poll{}, func(p *poll) any { return p.faults() }, 0},
		{"faults are those of the trouble", poll{trouble: &trouble{faults: 3}}, func(p *poll) any { return p.faults() }, 3},
		{"a poll may share a request", poll{}, func(p *poll) any { return p.solo() }, false},
		{"it may not while single answers are due", poll{soloPolls: 1}, func(p *poll) any { return p.solo() }, true},
		{"it may not while the result is missing", poll{missing: new(missing)}, func(p *poll) any { return p.solo() }, true},
	} {
		row = pollRow{tt.rule, tt.p, tt.got, tt.want, nil}
		checkPolls(t, []pollRow{row})
	}
}

func TestWhatCallersAddToAPoll(t *testing.T) {
	learn := func(start int64, expected time.Duration) func(*poll) any {
		return in(func(p *poll) { p.learn(start, expected) })
	}
	request := func(due int64) func(*poll) any { return in(func(p *poll) { p.request(due) }) }
	hint := func(now int64) func(*poll) any { return func(p *poll) any { return p.hint(now) } }
	checkPolls(t, []pollRow{
		{"a new poll waits for its first exchange, and any was long ago", poll{}, in(func(p *poll) { p.init("j", 100, 250) }), nil,
			func(p *poll) { *p = poll{id: "j", next: 250, began: 100, started: -testFloor} }},

		{"an earlier start makes the job older", poll{began: 100}, learn(60, 5), nil,
			func(p *poll) { p.began, p.start, p.expected = 60, ofCaller, 5 }},
		{"the age at which it was pending grows as much", poll{began: 100, seen: true, pendingAt: 10}, learn(60, 0), nil,
			func(p *poll) { p.began, p.start, p.pendingAt = 60, ofCaller, 50 }},
		{"a later start changes no age", poll{began: 100, seen: true, pendingAt: 10}, learn(150, 0), nil, func(p *poll) { p.start = ofCaller }},
		{"without a start none is known", poll{began: 100}, learn(never, 0), nil, nil},
		{"the first estimate stays", poll{expected: 7}, learn(never, 5), nil, nil},

		{"a caller brings the first exchange forward", poll{next: 100}, request(50), nil, func(p *poll) { p.next = 50 }},
		{"and never puts it off", poll{next: 100}, request(150), nil, nil},
		{"the first exchange alone", poll{next: 100, requests: 1}, request(50), nil, nil},
		{"or where none was to come", poll{next: never, requests: 1}, request(50), nil, func(p *poll) { p.next = 50 }},
		{"nothing under way", poll{phase: asking, next: never}, request(50), nil, nil},
		{"nothing undecided", poll{phase: deciding, next: never}, request(50), nil, nil},

		{"a hint brings the next exchange forward to now", poll{next: 9 * testSecond}, hint(testSecond / 2), true,
			func(p *poll) { p.next, p.hinted, p.placed = testSecond/2, true, true }},
		{"not where it is due already", poll{next: testSecond}, hint(testSecond), false, func(p *poll) { p.hinted, p.placed = true, true }},
		{"not before the least time between exchanges", poll{next: 9 * testSecond, started: testSecond}, hint(testSecond + 1), true,
			func(p *poll) { p.next, p.hinted, p.placed = testSecond+testFloor, true, true }},
		{"not before the gap between hinted exchanges", poll{next: 9 * testSecond, hintedAt: testSecond}, hint(testSecond + 1), true,
			func(p *poll) { p.next, p.hinted, p.placed = 2*testSecond, true, true }},
		{"a hint during an exchange is for the next one", poll{phase: asking, next: 9}, hint(3), false, func(p *poll) { p.hintedNew = true }},
		{"so is one during a decision", poll{phase: deciding, next: 9}, hint(3), false, func(p *poll) { p.hintedNew = true }},
		{"one that is due answers a hint", poll{phase: queued, next: 3}, hint(5), false, func(p *poll) { p.hinted, p.placed = true, true }},
	})
}

func TestWhatHappensToAPollWhoseTurnHasCome(t *testing.T) {
	admit := func(now int64, hold time.Duration) func(*poll) any {
		return func(p *poll) any {
			why, wait := p.admit(now, hold, &testBounds)
			return []any{why, wait}
		}
	}
	bound := testBounds.maxRetryAfter
	missing50 := &missing{until: 50}
	const hour = int64(time.Hour)
	checkPolls(t, []pollRow{
		{"nothing holds it", poll{}, admit(40, 0), []any{goesOn, time.Duration(0)}, nil},
		{"a 429 holds it", poll{}, admit(40, bound), []any{goesOn, bound}, nil},
		{"for longer than allowed", poll{}, admit(40, bound+1), []any{heldTooLong, time.Duration(0)}, nil},
		{"a missing result has a bound of its own", poll{missing: missing50}, admit(49, bound+1), []any{goesOn, bound + 1}, nil},
		{"missing for long enough, a last look is allowed", poll{missing: missing50, floor: 50}, admit(50, 0), []any{goesOn, time.Duration(0)}, nil},
		{"not during a 429", poll{missing: missing50}, admit(50, 1), []any{withoutResult, time.Duration(0)}, nil},
		{"not before the server allows it", poll{missing: missing50, floor: 51}, admit(50, 0), []any{withoutResult, time.Duration(0)}, nil},

		{"put off, it waits for the time given", poll{phase: queued, next: 5}, in(func(p *poll) { p.postpone(20, 30, 35, &testBounds) }), nil,
			func(p *poll) { p.phase, p.floor, p.next = waiting, 30, 35 }},
		{"not beyond that of a missing result", poll{missing: missing50}, in(func(p *poll) { p.postpone(20, 30, 60, &testBounds) }), nil,
			func(p *poll) { p.floor, p.next = 30, 50 }},
		{"and the outage pauses", poll{trouble: &trouble{job: meter{since: 1}, gap: span{10, 90}}}, in(func(p *poll) { p.postpone(20, 30, 35, &testBounds) }), nil,
			func(p *poll) {
				p.floor, p.next = 30, 35
				*p.trouble = trouble{job: meter{1, 10}, client: meter{total: 10}, gap: span{30, 30}}
			}},

		{"of the pauses that count, each counts once", poll{floor: hour + 25, trouble: &trouble{job: meter{since: 1}}}, in(func(p *poll) { p.postpone(hour+20, hour+30, hour+35, &testBounds) }), nil,
			func(p *poll) {
				p.floor, p.next = hour+30, hour+35
				*p.trouble = trouble{job: meter{1, 5}, client: meter{total: 5}, gap: span{hour + 30, hour + 30}}
			}},

		{"an exchange begins", poll{phase: queued, next: 5, hintedAt: 3, hintedNew: true, placed: true}, in(func(p *poll) { p.begin(20) }), nil,
			func(p *poll) { p.phase, p.started, p.hintedNew, p.placed = asking, 20, false, false }},
		{"for a hint", poll{next: 5, hinted: true}, in(func(p *poll) { p.begin(20) }), nil,
			func(p *poll) { p.phase, p.started, p.hintedAt = asking, 20, 20 }},
		{"time in line is no outage", poll{next: 15, trouble: &trouble{job: meter{since: 1}, gap: span{10, 90}}}, in(func(p *poll) { p.begin(20) }), nil,
			func(p *poll) {
				p.phase, p.started = asking, 20
				*p.trouble = trouble{job: meter{1, 5}, client: meter{total: 5}}
			}},
		{"the time until an early exchange is", poll{next: 25, trouble: &trouble{job: meter{since: 1}, gap: span{10, 90}}}, in(func(p *poll) { p.begin(20) }), nil,
			func(p *poll) {
				p.phase, p.started = asking, 20
				*p.trouble = trouble{job: meter{1, 10}, client: meter{total: 10}}
			}},
	})
}

func TestWhatFollowsFromAnOutcome(t *testing.T) {
	const now = 100 * testSecond
	observe := func(out outcome) func(*poll) any {
		return func(p *poll) any { return p.observe(now, &out, &testBounds, 7) }
	}
	pending := outcome{verdict: answered, status: Status{State: StatePending, Progress: 0.5, Message: "half"}, requests: 1, number: 3, jobs: 4}
	lacks := outcome{verdict: answered, status: Status{State: StateCompleted, ResultMissing: true, Body: []byte("{}"), Progress: 1}, requests: 1, number: 3}
	asLast := func(p *poll) {
		p.phase, p.requests, p.number, p.seen, p.checkedAt, p.progress = deciding, p.requests+1, 3, true, now, 1
	}
	met := func(p *poll, requests int32) { p.phase, p.requests, p.number = deciding, requests, 3 }
	checkPolls(t, []pollRow{
		{"pending: the polling is asked", poll{began: now - 50, started: now - 10, requests: 2, expected: 9}, observe(pending),
			decision{asks: true, polling: true, attempt: Attempt{Number: 3, Elapsed: 50, PendingAt: 40, Expected: 9, Shared: 4}},
			func(p *poll) {
				met(p, 3)
				p.pendingAt, p.seen, p.checkedAt, p.progress, p.message = 40, true, now, 0.5, "half"
			}},
		{"the age at which it was pending never falls", poll{began: now - 50, started: now - 10, pendingAt: 45}, observe(pending),
			decision{asks: true, polling: true, attempt: Attempt{Number: 1, Elapsed: 50, PendingAt: 45, Shared: 4}},
			func(p *poll) { met(p, 1); p.seen, p.checkedAt, p.progress, p.message = true, now, 0.5, "half" }},
		{"an answer ends the trouble, and its fault is kept", poll{began: now, started: now, trouble: &trouble{fault: errFault, refusal: errRefusal, job: meter{since: 1}, client: meter{total: 5}, number: 2, tries: 3, faults: 2}},
			observe(pending), decision{asks: true, polling: true, attempt: Attempt{Number: 1, Shared: 4}},
			func(p *poll) {
				met(p, 1)
				p.seen, p.checkedAt, p.progress, p.message = true, now, 0.5, "half"
				*p.trouble = trouble{fault: errFault, number: 2}
			}},
		{"the end of the job", poll{soloPolls: 2}, observe(outcome{verdict: answered, status: Status{State: StateCompleted}, requests: 2, number: 3}),
			decision{end: jobEnded}, func(p *poll) { met(p, 2); p.soloPolls = 1 }},
		{"an answer counts as single", poll{soloPolls: 1, pendingAt: 1}, observe(pending),
			decision{asks: true, polling: true, attempt: Attempt{Number: 1, Elapsed: time.Duration(now), PendingAt: 1, Shared: 4}},
			func(p *poll) {
				met(p, 1)
				p.soloPolls, p.seen, p.checkedAt, p.progress, p.message = 0, true, now, 0.5, "half"
			}},

		{"without its result, looked at again soon", poll{began: now - 50}, observe(lacks), decision{delay: resultGap}, func(p *poll) {
			asLast(p)
			p.missing = &missing{status: lacks.status, until: now + int64(resultBound), gap: 2 * resultGap}
		}},
		{"and then later", poll{missing: &missing{until: now + 1, gap: 4}}, observe(lacks), decision{delay: 4}, func(p *poll) {
			asLast(p)
			p.missing = &missing{status: lacks.status, until: now + 1, gap: 8}
		}},
		{"and in the end never", poll{missing: &missing{until: now, gap: 4}}, observe(lacks), decision{end: withoutResult, delay: 4}, func(p *poll) {
			asLast(p)
			p.missing = &missing{status: lacks.status, until: now, gap: 8}
		}},
		{"a result that is not missing any more is waited for again", poll{began: now, started: now, missing: &missing{until: now, gap: 4}}, observe(pending),
			decision{asks: true, polling: true, attempt: Attempt{Number: 1, Shared: 4}}, func(p *poll) {
				met(p, 1)
				p.missing, p.seen, p.checkedAt, p.progress, p.message = nil, true, now, 0.5, "half"
			}},
		{"a fault while the result is missing ends nothing", poll{missing: &missing{until: now + 1}}, observe(outcome{verdict: fault, hint: time.Hour, requests: 1, number: 3}),
			decision{asks: true, attempt: Attempt{Number: 1}}, func(p *poll) {
				met(p, 1)
				p.trouble = &trouble{job: meter{since: now}, client: meter{since: 7}, number: 3, tries: 1, faults: 1}
			}},
		{"but the last one does", poll{missing: &missing{until: now}}, observe(outcome{verdict: fault, requests: 1, number: 3}),
			decision{end: withoutResult}, func(p *poll) {
				met(p, 1)
				p.trouble = &trouble{job: meter{since: now}, client: meter{since: 7}, number: 3, tries: 1, faults: 1}
			}},

		{"a fault: the retrying is asked", poll{trouble: &trouble{job: meter{since: now - 50}, client: meter{since: 7}, tries: 4, faults: 2}}, observe(outcome{verdict: fault, requests: 1, number: 3, hint: testBounds.maxRetryAfter}),
			decision{asks: true, attempt: Attempt{Number: 3, Elapsed: 50}}, func(p *poll) {
				met(p, 1)
				*p.trouble = trouble{job: meter{since: now - 50}, client: meter{since: 7}, number: 3, tries: 5, faults: 3}
			}},
		{"a refusal for a time that is known", poll{}, observe(outcome{verdict: refused, pause: 9, number: 3}),
			decision{delay: 9}, func(p *poll) {
				met(p, 0)
				p.trouble = &trouble{job: meter{since: now}, client: meter{since: 7}, tries: 1}
			}},
		{"for one that is not, the retrying is asked", poll{trouble: &trouble{job: meter{since: now - 50}, client: meter{since: 7}, tries: 4, faults: 2}}, observe(outcome{verdict: refused, number: 3}),
			decision{asks: true, attempt: Attempt{Number: 5, Elapsed: 50}}, func(p *poll) {
				met(p, 0)
				*p.trouble = trouble{job: meter{since: now - 50}, client: meter{since: 7}, tries: 5, faults: 2}
			}},
		{"a refusal's hint is no pause of the server's", poll{}, observe(outcome{verdict: refused, pause: 9, number: 3, hint: time.Hour}),
			decision{delay: 9}, func(p *poll) {
				met(p, 0)
				p.trouble = &trouble{job: meter{since: now}, client: meter{since: 7}, tries: 1}
			}},
		{"an outage as long as is tolerated", poll{trouble: &trouble{job: meter{since: 1}, client: meter{7, testBounds.tolerance}, tries: 1, faults: 1}}, observe(outcome{verdict: fault, requests: 1, number: 3}),
			decision{end: outageOver}, func(p *poll) {
				met(p, 1)
				*p.trouble = trouble{job: meter{since: 1}, client: meter{7, testBounds.tolerance}, number: 3, tries: 2, faults: 2}
			}},
		{"of refusals, too", poll{trouble: &trouble{job: meter{since: 1}, client: meter{7, testBounds.tolerance}, tries: 1}}, observe(outcome{verdict: refused, number: 3}),
			decision{end: outageOver}, func(p *poll) {
				met(p, 0)
				*p.trouble = trouble{job: meter{since: 1}, client: meter{7, testBounds.tolerance}, tries: 2}
			}},
		{"a final error", poll{}, observe(outcome{verdict: final, requests: 1, number: 3}), decision{end: finalFault}, func(p *poll) { met(p, 1) }},
		{"a 429 that holds the client", poll{}, observe(outcome{verdict: held, number: 3}), decision{}, func(p *poll) { met(p, 0) }},
		{"an exchange without caller", poll{missing: &missing{until: now}}, observe(outcome{verdict: left, number: 3}), decision{}, func(p *poll) { met(p, 0) }},
	})
	// The callers see a job whose result is missing as one that is pending.
	var complete poll
	out := lacks
	if complete.observe(now, &out, &testBounds, 7); out.status.State != StatePending || out.status.Body != nil || !out.status.ResultMissing {
		t.Errorf("a job without its result is shown as %+v", out.status)
	}
	// With no tolerance at all the first fault ends a wait, and the second refusal.
	for _, tt := range []struct {
		b    bounds
		over ending
	}{{testBounds, outageOver}, {earlyBounds, noContact}} {
		tt.b.tolerance = 0
		var p poll
		for i, want := range []ending{goesOn, tt.over} {
			if d := p.observe(now, &outcome{verdict: refused}, &tt.b, 7); d.end != want {
				t.Errorf("refusal %d without tolerance: %d, want %d", i, d.end, want)
			}
		}
	}
}

func TestWhenAPollIsMadeNext(t *testing.T) {
	const now = 100 * testSecond
	type args struct {
		out    outcome
		delay  time.Duration
		spread int64
		left   bool // no subscriber waits
	}
	plan := func(a args) func(*poll) any {
		return in(func(p *poll) { p.reschedule(now, &a.out, a.delay, a.spread, !a.left, &testBounds) })
	}
	at := func(next, floor int64) func(p *poll) {
		return func(p *poll) { p.phase, p.next, p.floor = waiting, next, floor }
	}
	asked := poll{phase: deciding, next: 3, floor: 5}
	bound := int64(testBounds.maxRetryAfter)
	checkPolls(t, []pollRow{
		{"after the delay", asked, plan(args{delay: 7}), nil, at(now+7, 0)},
		{"a negative delay is none", asked, plan(args{delay: -7}), nil, at(now, 0)},
		{"not before the least time between exchanges", poll{started: now - 1}, plan(args{}), nil, at(now-1+testFloor, 0)},
		{"not before the server allows it", asked, plan(args{out: outcome{hint: 20}, delay: 7, spread: 5}), nil, at(now+20, now+20)},
		{"which is a floor under the delay", asked, plan(args{out: outcome{hint: 5}, delay: 7}), nil, at(now+7, now+5)},
		{"and bounded", asked, plan(args{out: outcome{hint: time.Hour}}), nil, at(now+bound, now+bound)},
		{"a 429's hold is the client's", asked, plan(args{out: outcome{verdict: held, hint: 20}, delay: 7}), nil, at(now+7, 0)},
		{"never where the caller has left", poll{missing: &missing{until: now + 1}}, plan(args{out: outcome{verdict: left}, delay: 7, left: true}), nil, at(never, 0)},
		{"after the delay where another has stayed", asked, plan(args{out: outcome{verdict: left}, delay: 7}), nil, at(now+7, 0)},
		{"an answer plans in any case", asked, plan(args{delay: 7, left: true}), nil, at(now+7, 0)},
		{"refused ones are spread", asked, plan(args{out: outcome{verdict: refused}, delay: 7, spread: 5}), nil, at(now+12, 0)},
		{"so are those that the server has put off", poll{trouble: new(trouble)}, plan(args{out: outcome{verdict: fault, hint: 20}, delay: 7, spread: 5}), nil, at(now+25, now+20)},
		{"others are not", poll{trouble: new(trouble)}, plan(args{out: outcome{verdict: fault, hint: 20}, delay: 27, spread: 5}), nil, at(now+27, now+20)},
		{"nor without a hint", poll{trouble: new(trouble)}, plan(args{out: outcome{verdict: fault}, delay: 7, spread: 5}), nil, at(now+7, 0)},
		{"a missing result is looked for in time", poll{missing: &missing{until: now + 5}}, plan(args{delay: 7}), nil, at(now+5, 0)},
		{"but not at once", poll{missing: &missing{until: now}, started: now}, plan(args{delay: 7}), nil, at(now+testFloor, 0)},

		{"a hint is answered", poll{hinted: true, hintedAt: now}, plan(args{delay: 7 * time.Second}), nil,
			func(p *poll) { p.hinted, p.next = false, now+7*testSecond }},
		{"a fault is no answer", poll{hinted: true, hintedAt: now, trouble: new(trouble)}, plan(args{out: outcome{verdict: fault}, delay: 7 * time.Second}), nil,
			func(p *poll) { p.next = now + 7*testSecond }},
		{"nor is an answer that began before the hint", poll{hintedNew: true, hintedAt: now}, plan(args{delay: 7 * time.Second}), nil,
			func(p *poll) { p.hinted, p.hintedNew, p.next = true, false, now+int64(hintGap) }},
		{"a hint puts nothing off", poll{hintedNew: true, hintedAt: now}, plan(args{delay: 7}), nil,
			func(p *poll) { p.hinted, p.hintedNew, p.next = true, false, now+7 }},
		{"nor does it hurry after a fault", poll{hintedNew: true, trouble: new(trouble)}, plan(args{out: outcome{verdict: fault}, delay: 7}), nil,
			func(p *poll) { p.hinted, p.hintedNew, p.next = true, false, now+7 }},

		{"the gap after a fault counts", poll{trouble: &trouble{job: meter{since: 1}}}, plan(args{out: outcome{verdict: fault}, delay: 7}), nil,
			func(p *poll) {
				p.next = now + 7
				*p.trouble = trouble{job: meter{since: 1}, gap: span{now, now + 7}}
			}},
		{"less the pause of the server's", poll{trouble: &trouble{job: meter{since: 1}}}, plan(args{out: outcome{verdict: fault, hint: 5}, delay: 7}), nil,
			func(p *poll) {
				p.next, p.floor = now+7, now+5
				*p.trouble = trouble{job: meter{since: 1}, gap: span{now + 5, now + 7}}
			}},
		{"an answer leaves the last fault", poll{trouble: &trouble{fault: errFault}}, plan(args{out: outcome{err: errRefusal}, delay: 7}), nil,
			func(p *poll) { p.next = now + 7 }},
	})

	solo := func(at int64, pause time.Duration) func(*poll) any {
		return in(func(p *poll) { p.askSolo(now, at, 2, 3, pause, 4) })
	}
	after := func(next, floor int64, more ...func(*poll)) func(*poll) {
		return func(p *poll) {
			p.phase, p.requests, p.number, p.soloPolls, p.next, p.floor = waiting, p.requests+2, p.number+3, 4, next, floor
			for _, f := range more {
				f(p)
			}
		}
	}
	checkPolls(t, []pollRow{
		{"alone, at its place", poll{phase: asking, requests: 5, number: 6, floor: 9}, solo(now+7, 0), nil, after(now+7, 0)},
		{"not before the least time between exchanges", poll{started: now}, solo(now+7, 0), nil, after(now+testFloor, 0)},
		{"not before the server allows it", poll{}, solo(now+7, 20), nil, after(now+20, now+20)},
		{"which is a floor", poll{}, solo(now+27, 20), nil, after(now+27, now+20)},
		{"a hint is not answered", poll{hinted: true}, solo(now+7, 0), nil, after(now+7, 0)},
		{"nor is one during the exchange", poll{hintedNew: true}, solo(now+7, 0), nil, after(now+7, 0, func(p *poll) { p.hinted, p.hintedNew = true, false })},
		{"the gap counts", poll{trouble: &trouble{job: meter{since: 1}}}, solo(now+7, 5), nil,
			after(now+7, now+5, func(p *poll) { *p.trouble = trouble{job: meter{since: 1}, gap: span{now + 5, now + 7}} })},
		{"all of it without a pause", poll{trouble: &trouble{job: meter{since: 1}}}, solo(now+7, 0), nil,
			after(now+7, 0, func(p *poll) { *p.trouble = trouble{job: meter{since: 1}, gap: span{now, now + 7}} })},
	})
}

func TestWhatTheEndOfAPollTeaches(t *testing.T) {
	completion := func(doneBy time.Duration) func(*poll) any {
		return func(p *poll) any {
			if doneBy == 0 {
				return completion(p, nil, nil)
			}
			var o completions
			en := entry{poll: *p, ticket: 1}
			en.sight(&o, &Status{State: StateCompleted}, int64(doneBy))
			return completion(p, o.over[1], &Status{State: StateCompleted})
		}
	}
	nothing := (*Completion)(nil)
	checkPolls(t, []pollRow{
		{"a job that was seen pending", poll{seen: true, pendingAt: 3, expected: 4}, completion(5), &Completion{PendingAt: 3, DoneBy: 5, Expected: 4}, nil},
		{"through a hint", poll{seen: true, hinted: true}, completion(5), &Completion{DoneBy: 5, Hinted: true}, nil},
		{"given up: no hint has shown its end", poll{seen: true, hinted: true, pendingAt: 3}, completion(0), &Completion{PendingAt: 3}, nil},
		{"over at the first look, with a start that is known", poll{start: ofCaller}, completion(5), &Completion{DoneBy: 5}, nil},
		{"with one that is not", poll{}, completion(5), nothing, nil},
		{"given up before the first answer", poll{start: ofCaller}, completion(0), nothing, nil},
	})
}

// Each reason to end a wait has its row: how it comes, and what the callers get.
func TestEachEnding(t *testing.T) {
	b := &testBounds
	w := wall{now: 10, t: time.Unix(1_700_000_000, 0)}
	seen := poll{id: "j", requests: 2, seen: true, checkedAt: 10 - testSecond, progress: 0.5, message: "half"}
	last := Status{JobID: "j", State: StatePending, Message: "half", Progress: 0.5, CheckedAt: w.t.Add(-time.Second)}
	at := func(o outcome) func(p *poll) (ending, *outcome) {
		return func(p *poll) (ending, *outcome) { return p.observe(10, &o, b, 0).end, &o }
	}
	given := func(why ending) func(p *poll) (ending, *outcome) {
		return func(*poll) (ending, *outcome) { return why, nil }
	}
	down := &HTTPError{Details{JobID: "j", Attempt: 3, StatusCode: 503, Next: 5, then: "more"}}
	ended := *down
	ended.Next, ended.then = 0, ""
	waitError := func(requests int, last Status, cause string, fault error) *WaitError {
		return &WaitError{JobID: "j", Requests: requests, Last: last, Cause: errors.New(cause), Fault: fault}
	}
	with := func(t trouble) poll {
		p := seen
		p.trouble = &t
		return p
	}
	complete := Status{JobID: "j", State: StateCompleted, ResultMissing: true, Body: []byte("{}")}
	lacks := poll{id: "j", missing: &missing{until: 10, status: complete}}
	lastLacks := last
	lastLacks.ResultMissing = true
	half := seen
	half.missing = &missing{until: 99}

	covered := map[ending]bool{}
	for _, tt := range []struct {
		why    ending
		rule   string
		p      poll
		happen func(p *poll) (ending, *outcome)
		status Status
		err    error
		is     error
	}{
		{goesOn, "a pending answer ends nothing", seen, at(outcome{status: Status{State: StatePending}}), Status{}, nil, nil},
		{jobEnded, "the job is over", seen, at(outcome{status: Status{JobID: "j", State: StateFailed}}), Status{JobID: "j", State: StateFailed}, nil, nil},
		{withoutResult, "the result stays missing", lacks, at(outcome{status: complete}), complete, nil, nil},
		{withoutResult, "and nothing can be asked", lacks, func(p *poll) (ending, *outcome) { why, _ := p.admit(10, 1, b); return why, nil }, complete, nil, nil},
		{finalFault, "an error that will not change", poll{id: "j"}, at(outcome{verdict: final, err: errFault}), Status{JobID: "j"}, errFault, errFault},
		{finalFault, "after an answer", seen, at(outcome{verdict: final, err: errFault}), last, errFault, errFault},
		{pauseTooLong, "the server asks for a long pause", seen, at(outcome{verdict: fault, err: down, hint: b.maxRetryAfter + 1, requests: 1}), last,
			waitError(3, last, "vtclient: the server asks for a longer pause than allowed: the bound is 5m0s", &ended), ErrRetryAfter},
		{heldTooLong, "a 429 holds all", with(trouble{fault: errFault}), func(p *poll) (ending, *outcome) { why, _ := p.admit(10, 400500*time.Millisecond, b); return why, nil }, last,
			waitError(2, last, "vtclient: the server asks for a longer pause than allowed: an earlier 429 holds this request for another 6m41s, and the bound is 5m0s", errFault), ErrRetryAfter},
		{outageOver, "faults for as long as is tolerated", with(trouble{job: meter{since: 1}, client: meter{7, b.tolerance}, fault: errFault}),
			func(p *poll) (ending, *outcome) {
				o := outcome{verdict: fault, err: down, requests: 1}
				return p.observe(10, &o, b, 7).end, &o
			}, last, waitError(3, last, "vtclient: the outage lasted longer than the tolerance of 10m0s", &ended), ErrOutage},
		{outageOver, "refusals, too", with(trouble{job: meter{since: 1}, client: meter{7, b.tolerance}, tries: 1, fault: down}),
			func(p *poll) (ending, *outcome) {
				o := outcome{verdict: refused, refusal: errRefusal, err: errNeutral}
				return p.observe(10, &o, b, 7).end, &o
			}, last, waitError(2, last, "vtclient: the outage lasted longer than the tolerance of 10m0s, while the breaker let nothing through (the refusal)", &ended), errRefusal},
		{noContact, "faults before any readable answer", poll{id: "j", requests: 2, trouble: &trouble{job: meter{since: 1}, client: meter{7, contactLimit}}},
			func(p *poll) (ending, *outcome) {
				o := outcome{verdict: fault, err: down, requests: 1}
				return p.observe(10, &o, &earlyBounds, 7).end, &o
			}, Status{JobID: "j"}, &WaitError{JobID: "j", Requests: 3, Last: Status{JobID: "j"}, Cause: &contactError{"https://api.test", contactLimit}, Fault: &ended}, ErrOutage},
		{noContact, "by the timer", poll{id: "j", requests: 2, trouble: &trouble{job: meter{since: 1}, client: meter{7, contactLimit}, tries: 2, gap: span{10, 11}}},
			func(p *poll) (ending, *outcome) { return p.expire(10, &earlyBounds, 7), nil }, Status{JobID: "j"},
			&WaitError{JobID: "j", Requests: 2, Last: Status{JobID: "j"}, Cause: &contactError{"https://api.test", contactLimit}}, ErrOutage},
		{finalFault, "a 404 for long enough", with(trouble{job: meter{since: 10 - int64(absentBound)}, absent: 1}), at(outcome{verdict: final, absent: true, err: errFault}), last, errFault, errFault},
		{outageOver, "by the timer", with(trouble{job: meter{since: 1}, client: meter{7, b.tolerance}, tries: 2, gap: span{10, 11}}),
			func(p *poll) (ending, *outcome) { return p.expire(10, b, 7), nil }, last,
			waitError(2, last, "vtclient: the outage lasted longer than the tolerance of 10m0s", nil), ErrOutage},
		{limited, "by the limiter alone", with(trouble{job: meter{since: 1}, client: meter{7, b.tolerance}, tries: 2, gap: span{10, 11}, limited: true}),
			func(p *poll) (ending, *outcome) { return p.expire(10, b, 7), nil }, last,
			waitError(2, last, "the limiter has let no request through for 10m0s", nil), nil},
		{stopped, "the polling gives up", seen, given(stopped), last, waitError(2, last, "vtclient: the polling backoff gave up", nil), ErrGaveUp},
		{timeUp, "the time is up", poll{id: "j"}, given(timeUp), Status{JobID: "j"}, waitError(0, Status{JobID: "j"}, "context deadline exceeded", nil), context.DeadlineExceeded},
		{timeUp, "while the result is missing", half, given(timeUp), lastLacks, waitError(2, lastLacks, "context deadline exceeded", nil), context.DeadlineExceeded},
	} {
		covered[tt.why] = true
		p := copyPoll(&tt.p)
		why, out := tt.happen(p)
		if why != tt.why {
			t.Errorf("%s: ends by reason %d, want %d", tt.rule, why, tt.why)
			continue
		}
		if why == goesOn {
			continue
		}
		by := b
		if why == noContact {
			by = &earlyBounds
		}
		ev := p.event(why, w, by, out, context.DeadlineExceeded, 400500*time.Millisecond)
		if !reflect.DeepEqual(ev.status, tt.status) || ev.fault != nil || ev.panicked != nil {
			t.Errorf("%s: %+v, want %+v", tt.rule, ev.status, tt.status)
		}
		if fmt.Sprint(ev.err) != fmt.Sprint(tt.err) || tt.is != nil && !errors.Is(ev.err, tt.is) {
			t.Errorf("%s:\n%v, want\n%v, and %v inside", tt.rule, ev.err, tt.err, tt.is)
		}
		want, ok := tt.err.(*WaitError)
		if got, _ := ev.err.(*WaitError); ok && (got == nil || got.JobID != want.JobID || got.Requests != want.Requests ||
			!reflect.DeepEqual(got.Last, want.Last) || !reflect.DeepEqual(got.Fault, want.Fault)) {
			t.Errorf("%s: %+v, want %+v", tt.rule, got, want)
		}
		if down.Next != 5 || down.then != "more" {
			t.Fatalf("%s: the fault that was met has been changed", tt.rule)
		}
	}
	for why := range endings {
		if !covered[why] {
			t.Errorf("ending %d has no row", why)
		}
	}
}
