package vtclient

import (
	"errors"
	"testing"
	"time"
)

// earlyBounds are testBounds before the first readable answer.
var earlyBounds = func() bounds {
	b := testBounds
	b.early, b.address = true, "https://api.test"
	return b
}()

// Property 44: how much trouble a wait bears, before the first readable answer and after it.
func TestHowMuchTroubleAWaitBears(t *testing.T) {
	const m = time.Minute
	for _, tt := range []struct {
		rule           string
		b              bounds
		t              trouble
		tolerance, gap time.Duration
	}{
		{"after the first answer, the tolerance", bounds{tolerance: 8 * m}, trouble{}, 8 * m, 30 * time.Second},
		{"before it, half a minute", bounds{tolerance: 8 * m, early: true}, trouble{}, 30 * time.Second, 15 * time.Second},
		{"or a shorter tolerance", bounds{tolerance: 10 * time.Second, early: true}, trouble{}, 10 * time.Second, 5 * time.Second},
		{"or none", bounds{early: true}, trouble{}, 0, 0},
		{"the limiter's refusals are not the backend's", bounds{tolerance: 8 * m, early: true}, trouble{limited: true}, 8 * m, 4 * m},
	} {
		if tolerance, gap := tt.b.toleranceOf(&tt.t), tt.b.rareGap(&tt.t); tolerance != tt.tolerance || gap != tt.gap {
			t.Errorf("%s: %v, and %v of it for a long gap; want %v and %v", tt.rule, tolerance, gap, tt.tolerance, tt.gap)
		}
	}
}

func TestTroubleBeforeTheFirstAnswer(t *testing.T) {
	const now = 100 * testSecond
	takeFault := func(took time.Duration) func(*poll) any {
		return in(func(p *poll) { p.takeFault(now, &outcome{verdict: fault, took: took}, &earlyBounds, 7) })
	}
	set := func(t trouble) func(*poll) { return func(p *poll) { p.trouble = &t } }
	ends := func(p *poll) any { return p.outageEnd(&earlyBounds) }
	gives := func(p *poll) any { return p.trouble.givesUpIn(now, &earlyBounds) }
	in := func(phase phase, t trouble) poll { return poll{phase: phase, started: now, trouble: &t, next: 9 * now} }
	checkPolls(t, []pollRow{
		{"the first request counts", poll{}, takeFault(5), nil,
			set(trouble{job: meter{now, 5}, client: meter{7, 5}, tries: 1, faults: 1})},
		{"up to its timeout", poll{}, takeFault(time.Hour), nil,
			set(trouble{job: meter{now, earlyBounds.timeout}, client: meter{7, earlyBounds.timeout}, tries: 1, faults: 1})},
		{"a gap ends after half a minute", in(waiting, trouble{job: meter{since: 1}, client: meter{total: 10 * time.Second}, faults: 1, gap: span{now, 9 * now}}), ends, now + 20*testSecond, nil},
		{"so does one after a single refusal", in(waiting, trouble{job: meter{since: 1}, tries: 1, gap: span{now, 9 * now}}), ends, now + 30*testSecond, nil},
		{"so does an exchange", in(asking, trouble{job: meter{since: 1}, client: meter{total: 10 * time.Second}, faults: 1}), ends, now + 20*testSecond, nil},

		{"which faults have", in(waiting, trouble{job: meter{since: 1}, client: meter{total: 10 * time.Second}, gap: span{from: now}}), gives, 20 * time.Second, nil},
		{"with the pause before it", in(waiting, trouble{job: meter{since: 1}, client: meter{total: 10 * time.Second}, gap: span{from: now + 5*testSecond}}), gives, 25 * time.Second, nil},
		{"as long as it is no less than nothing", in(waiting, trouble{job: meter{since: 1}, client: meter{total: time.Hour}, gap: span{from: now}}), gives, time.Duration(1), nil},
		{"not without trouble", poll{}, gives, time.Duration(0), nil},
		{"nor after an answer", in(waiting, trouble{fault: errFault}), gives, time.Duration(0), nil},
		{"nor where the gaps are the caller's own choice", in(waiting, trouble{job: meter{since: 1}, rare: true, gap: span{from: now}}), gives, time.Duration(0), nil},
		{"nor once an answer has come", in(waiting, trouble{job: meter{since: 1}, gap: span{from: now}}), func(p *poll) any { return p.trouble.givesUpIn(now, &testBounds) }, time.Duration(0), nil},
	})
	for _, tt := range []struct {
		rule string
		t    trouble
		want ending
	}{
		{"less than half a minute", trouble{client: meter{total: 30*time.Second - 1}}, goesOn},
		{"half a minute", trouble{client: meter{total: 30 * time.Second}}, noContact},
		{"the limiter's, for as long", trouble{client: meter{total: 30 * time.Second}, limited: true}, goesOn},
		{"the limiter's, for the tolerance", trouble{client: meter{total: earlyBounds.tolerance}, limited: true}, limited},
	} {
		if got := endingOf(&tt.t, &earlyBounds); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.rule, got, tt.want)
		}
	}
}

// One fault alone ends no wait: the second exchange comes before the limit.
func TestWhenTheExchangeAfterAFirstFaultIsMade(t *testing.T) {
	const now = 100 * testSecond
	second := func(next int64, b *bounds) func(*poll) any {
		return func(p *poll) any { return p.trouble.second(now, next, b) }
	}
	first := poll{trouble: &trouble{job: meter{since: 1}, client: meter{total: 15 * time.Second}, tries: 1, faults: 1}}
	later := poll{trouble: &trouble{job: meter{since: 1}, client: meter{total: 15 * time.Second}, tries: 2, faults: 2}}
	nearlyOver := poll{trouble: &trouble{job: meter{since: 1}, client: meter{total: testBounds.tolerance - time.Second}, tries: 1, faults: 1}}
	full := int64(earlyBounds.tolerance)
	checkPolls(t, []pollRow{
		{"as planned, if that is soon enough", first, second(now+15*testSecond-1, &earlyBounds), now + 15*testSecond - 1, nil},
		{"else after two thirds of what is left", first, second(now+15*testSecond, &earlyBounds), now + 10*testSecond, nil},
		{"not where the caller has chosen gaps as long as the tolerance", first, second(now+full, &earlyBounds), now + full, nil},
		{"a gap that is shorter is cut", first, second(now+full-1, &earlyBounds), now + 10*testSecond, nil},
		{"nor after a later fault", later, second(now+15*testSecond, &earlyBounds), now + 15*testSecond, nil},
		{"nor after the first readable answer", nearlyOver, second(now+15*testSecond, &testBounds), now + 15*testSecond, nil},
	})
}

// Property 47: what becomes of a 404.
func TestWhatA404Means(t *testing.T) {
	const now = 100 * testSecond
	until := now + int64(absentBound)
	doubt := func(now int64, v verdict, b *bounds) func(*poll) any {
		return func(p *poll) any {
			out := outcome{verdict: v, err: &HTTPError{Details{then: "as classified"}}}
			doubt(p, now, &out, b)
			return out.verdict
		}
	}
	set := func(t trouble) func(*poll) { return func(p *poll) { p.trouble = &t } }
	absent := poll{seen: true, trouble: &trouble{job: meter{since: now}, absent: 1}}
	later8 := poll{seen: true, trouble: &trouble{job: meter{since: now}, absent: 8}} // seconds, less one
	none := testBounds
	none.tolerance = 0
	checkPolls(t, []pollRow{
		{"final for a job that has never been seen", poll{}, doubt(now, final, &testBounds), final, nil},
		{"a fault for one that has been", poll{seen: true}, doubt(now, final, &testBounds), fault, set(trouble{absent: 1})},
		{"and for one of which the start is known", poll{start: ofCaller}, doubt(now, final, &testBounds), fault, set(trouble{absent: 1})},
		{"a pause is obeyed in any case", poll{}, doubt(now, fault, &testBounds), fault, set(trouble{absent: 1})},
		{"its time begins with the first 404", poll{seen: true, trouble: &trouble{job: meter{since: now - 7*testSecond}}}, doubt(now, final, &testBounds), fault,
			func(p *poll) { p.trouble.absent = 8 }},
		{"not with the next one", absent, doubt(until-1, final, &testBounds), fault, nil},
		{"and then it is final", absent, doubt(until, final, &testBounds), final, nil},
		{"by the time of the first 404", later8, doubt(until+7*testSecond-1, final, &testBounds), fault, nil},
		{"and not of the first fault", later8, doubt(until+7*testSecond, final, &testBounds), final, nil},
		{"though it asks for another pause", absent, doubt(until, fault, &testBounds), final, nil},
		{"sooner before the first readable answer", absent, doubt(now+int64(contactLimit), final, &earlyBounds), final, nil},
		{"at once without tolerance", poll{seen: true}, doubt(now, final, &none), final, nil},
		{"after trouble that lasts for ever, too", poll{seen: true, trouble: &trouble{job: meter{since: 1}}}, doubt(never/2, final, &testBounds), final,
			func(p *poll) { p.trouble.absent = 65535 }},
	})
	reschedule := func(hint time.Duration) func(*poll) any {
		return in(func(p *poll) {
			p.reschedule(now, &outcome{verdict: fault, hint: hint}, time.Hour, 0, true, &testBounds)
		})
	}
	counted := func(next, floor int64) func(*poll) {
		return func(p *poll) {
			p.next, p.floor = next, floor
			p.trouble.gap = span{max(now, floor), next}
		}
	}
	checkPolls(t, []pollRow{
		{"the last look is made when the time is over", absent, reschedule(0), nil, counted(until, 0)},
		{"not during a pause", absent, reschedule(3 * time.Minute), nil, counted(now+3*60*testSecond, now+3*60*testSecond)},
		{"once it is over, nothing is put forward", poll{trouble: &trouble{job: meter{since: 1}, absent: 1}}, in(func(p *poll) {
			p.reschedule(2*until, &outcome{verdict: fault}, time.Minute, 0, true, &testBounds)
		}), nil, func(p *poll) {
			p.next, p.trouble.gap = 2*until+60*testSecond, span{2 * until, 2*until + 60*testSecond}
		}},
	})
}

// The cause comes first, and the address that was asked.
func TestTheErrorBeforeTheFirstAnswer(t *testing.T) {
	cause := &contactError{"https://api.exmaple.com", 30 * time.Second}
	met := &TransportError{Details: Details{JobID: "j", Attempt: 7}, Err: errors.New("no such host")}
	for want, err := range map[string]*WaitError{
		`vtclient: job "j": request 7: no such host; ended without a result after 7 requests: no readable answer has ever come from https://api.exmaple.com, in 30s of trying`: {JobID: "j", Requests: 7, Cause: cause, Fault: met},
		`vtclient: job "j": ended without a result after 0 requests: no readable answer has ever come from https://api.exmaple.com, in 30s of trying`:                          {JobID: "j", Cause: cause},
	} {
		if err.Error() != want || !errors.Is(err, ErrOutage) || errors.Is(err, ErrGaveUp) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
