package vtclient

import (
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

func TestHowTroubleIsCounted(t *testing.T) {
	const now = 100 * testSecond
	takeFault := func(out outcome, outage int64) func(*poll) any {
		return in(func(p *poll) { p.takeFault(now, &out, &testBounds, outage) })
	}
	set := func(t trouble) func(*poll) { return func(p *poll) { p.trouble = &t } }
	of := func(t trouble) poll { return poll{trouble: &t} }
	limit := testBounds.timeout
	checkPolls(t, []pollRow{
		{"the first fault", poll{}, takeFault(outcome{verdict: fault, took: 5, refusal: errRefusal}, 7), nil,
			set(trouble{since: now, from: now, to: now, outage: 7, tries: 1, faults: 1})},
		{"the first after an answer", of(trouble{fault: errFault}), takeFault(outcome{verdict: fault, took: 5}, 7), nil,
			set(trouble{fault: errFault, since: now, from: now, to: now, outage: 7, tries: 1, faults: 1})},
		{"the first refusal", poll{}, takeFault(outcome{verdict: refused, refusal: errRefusal}, 7), nil,
			set(trouble{since: now, from: now, to: now, outage: 7, tries: 1, refusal: errRefusal})},
		{"by the limiter", poll{}, takeFault(outcome{verdict: fault, limited: true}, 7), nil,
			set(trouble{since: now, from: now, to: now, outage: 7, tries: 1, faults: 1, limited: true})},
		{"the time of a request that failed counts", of(trouble{since: 1, from: 2, to: 3, outage: 7, asked: 10, own: 20, tries: 1, faults: 1}),
			takeFault(outcome{verdict: fault, took: 5}, 7), nil,
			set(trouble{since: 1, from: now, to: now, outage: 7, asked: 15, own: 25, tries: 2, faults: 2})},
		{"up to its timeout", of(trouble{since: 1, outage: 7}), takeFault(outcome{verdict: fault, took: limit + 5}, 7), nil,
			set(trouble{since: 1, from: now, to: now, outage: 7, asked: limit, own: limit, tries: 1, faults: 1})},
		{"anew where another job was answered", of(trouble{since: 1, outage: 7, asked: 10, own: 20}), takeFault(outcome{verdict: fault}, 8), nil,
			set(trouble{since: 1, from: now, to: now, outage: 8, own: 20, tries: 1, faults: 1})},
		{"and where no request has failed since", of(trouble{since: 1, asked: 10, own: 20}), takeFault(outcome{verdict: refused}, 0), nil,
			set(trouble{since: 1, from: now, to: now, own: 20, tries: 1})},
		{"a fault follows a refusal", of(trouble{since: 1, outage: 7, refusal: errRefusal, tries: 1}), takeFault(outcome{verdict: fault}, 7), nil,
			set(trouble{since: 1, from: now, to: now, outage: 7, tries: 2, faults: 1})},
		{"still the limiter alone", of(trouble{since: 1, outage: 7, limited: true}), takeFault(outcome{verdict: fault, limited: true}, 7), nil,
			set(trouble{since: 1, from: now, to: now, outage: 7, tries: 1, faults: 1, limited: true})},
		{"not the limiter alone any more", of(trouble{since: 1, outage: 7, limited: true}), takeFault(outcome{verdict: fault}, 7), nil,
			set(trouble{since: 1, from: now, to: now, outage: 7, tries: 1, faults: 1})},
		{"not the limiter alone", of(trouble{since: 1, outage: 7}), takeFault(outcome{verdict: fault, limited: true}, 7), nil,
			set(trouble{since: 1, from: now, to: now, outage: 7, tries: 1, faults: 1})},
	})

	pause := in(func(p *poll) { p.pause(now) })
	resume := func(from, next, tolerance int64) func(*poll) any {
		return in(func(p *poll) {
			p.trouble.resume(from, next, time.Duration(tolerance), time.Duration(tolerance)/rareFaults)
		})
	}
	obey := func(from, until int64, own bool, b *bounds) func(*poll) any {
		return in(func(p *poll) { p.trouble.obey(from, until, own, b) })
	}
	const hour, first = time.Hour, 5 * time.Minute // that of maxRetryAfter
	checkPolls(t, []pollRow{
		{"without trouble no pause is noted", of(trouble{}), obey(1, 5, true, &testBounds), nil, nil},
		{"nor one that is over", of(trouble{since: 1}), obey(5, 5, true, &testBounds), nil, nil},
		{"a pause is noted", of(trouble{since: 1}), obey(1, 5, true, &testBounds), nil, set(trouble{since: 1, paused: 4, ownPaused: 4})},
		{"for the client alone where another job met it", of(trouble{since: 1}), obey(1, 5, false, &testBounds), nil, set(trouble{since: 1, paused: 4})},
		{"and counts beyond an hour", of(trouble{since: 1, asked: 7, own: 8, paused: hour - 3, ownPaused: hour - 2}), obey(1, 5, true, &testBounds), nil,
			set(trouble{since: 1, asked: 8, own: 10, paused: hour + 1, ownPaused: hour + 2})},
		{"in full", of(trouble{since: 1, paused: hour + 3}), obey(1, 5, false, &testBounds), nil, set(trouble{since: 1, asked: 4, paused: hour + 7})},
		{"sooner before the first readable answer", of(trouble{since: 1, paused: first}), obey(1, 5, false, &earlyBounds), nil, set(trouble{since: 1, asked: 4, paused: first + 4})},
		{"anew where another job was answered", of(trouble{since: 1, outage: 7, paused: hour, ownPaused: hour}), takeFault(outcome{verdict: fault}, 8), nil,
			set(trouble{since: 1, from: now, to: now, outage: 8, ownPaused: hour, tries: 1, faults: 1})},
	})
	checkPolls(t, []pollRow{
		{"without trouble no gap counts", poll{}, pause, nil, nil},
		{"nor after an answer", of(trouble{from: 5}), pause, nil, nil},
		{"a gap counts until now", of(trouble{since: 1, from: now - 5, to: now + 9, asked: 1, own: 2}), pause, nil,
			set(trouble{since: 1, from: now, to: now, asked: 6, own: 7})},
		{"or until its planned end", of(trouble{since: 1, from: now - 5, to: now - 2}), pause, nil,
			set(trouble{since: 1, from: now, to: now, asked: 3, own: 3})},
		{"one that has not begun does not", of(trouble{since: 1, from: now + 5, to: now + 9}), pause, nil,
			set(trouble{since: 1, from: now, to: now})},

		{"after an answer there is no gap", of(trouble{}), resume(10, 30, 160), nil, nil},
		{"a gap reaches to the next exchange", of(trouble{since: 1}), resume(10, 169, 160), nil, set(trouble{since: 1, from: 10, to: 169})},
		{"a first one as long as the tolerance counts as a part of it", of(trouble{since: 1, tries: 1}), resume(10, 170, 160), nil, set(trouble{since: 1, tries: 1, from: 10, to: 20, rare: true})},
		{"so does a later one, after such a first one", of(trouble{since: 1, tries: 2, rare: true}), resume(10, 170, 160), nil, set(trouble{since: 1, tries: 2, from: 10, to: 20, rare: true})},
		{"a shorter one counts as it is, after such a first one", of(trouble{since: 1, tries: 2, rare: true}), resume(10, 169, 160), nil, set(trouble{since: 1, tries: 2, from: 10, to: 169, rare: true})},
		{"a later one counts as it is, after a shorter first one", of(trouble{since: 1, tries: 2}), resume(10, 170, 160), nil, set(trouble{since: 1, tries: 2, from: 10, to: 170})},
		{"so does one without end", of(trouble{since: 1}), resume(10, never, never), nil,
			set(trouble{since: 1, from: 10, to: 10 + never/ownFaults})},
		{"none is negative", of(trouble{since: 1}), resume(10, 5, 160), nil, set(trouble{since: 1, from: 10, to: 10})},
	})
}

func TestWhenTroubleEndsAWait(t *testing.T) {
	const all = 10 * time.Minute
	for _, tt := range []struct {
		rule string
		t    trouble
		want ending
	}{
		{"less than the tolerance", trouble{asked: all - 1, own: all, faults: ownFaults - 1}, goesOn},
		{"the tolerance", trouble{asked: all}, outageOver},
		{"of one job alone, with many faults", trouble{own: all, faults: ownFaults}, outageOver},
		{"with many, but a shorter time", trouble{own: all - 1, faults: ownFaults}, goesOn},
		{"the limiter's", trouble{asked: all, limited: true}, limited},
	} {
		if got := tt.t.ending(&bounds{tolerance: all}); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.rule, got, tt.want)
		}
	}
	if got, want := (&trouble{since: 3, tries: 5}).attempt(10, 2), (Attempt{Number: 2, Elapsed: 7}); got != want {
		t.Errorf("the attempt is %+v, want %+v", got, want)
	}
}

// The tolerance ends a wait on time, and not only with the exchange after it.
func TestWhenTheToleranceIsUsedUp(t *testing.T) {
	const (
		now  = 100 * testSecond
		rest = 5 * testSecond
		much = int64(time.Hour)
	)
	asked := testBounds.tolerance - time.Duration(rest)
	end := func(p *poll) any { return p.outageEnd(&testBounds) }
	in := func(phase phase, t trouble) poll { return poll{phase: phase, started: now, trouble: &t, next: 9 * now} }
	lacks := in(waiting, trouble{since: 1, faults: 1, asked: asked, from: now, to: now + much})
	lacks.missing = new(missing)
	full := testBounds.tolerance
	slow := testBounds.tolerance - testBounds.timeout
	checkPolls(t, []pollRow{
		{"without trouble", poll{}, end, int64(never), nil},
		{"after an answer", in(waiting, trouble{fault: errFault, faults: 1, asked: asked, from: now, to: now + much}), end, int64(never), nil},
		{"while the result is missing", lacks, end, int64(never), nil},
		{"after a single refusal", in(waiting, trouble{since: 1, tries: 1, asked: asked, from: now, to: now + much}), end, int64(never), nil},
		{"after two", in(waiting, trouble{since: 1, tries: 2, asked: asked, from: now, to: now + much}), end, now + rest, nil},
		{"after a fault", in(waiting, trouble{since: 1, tries: 1, faults: 1, asked: asked, from: now, to: now + much}), end, now + rest, nil},
		{"within the gap alone", in(waiting, trouble{since: 1, faults: 1, asked: asked, from: now, to: now + rest}), end, int64(never), nil},
		{"of one job alone, with many faults", in(waiting, trouble{since: 1, faults: ownFaults, own: asked, from: now, to: now + much}), end, now + rest, nil},
		{"whichever is sooner", in(waiting, trouble{since: 1, faults: ownFaults, asked: asked, own: 1, from: now, to: now + much}), end, now + rest, nil},
		{"with fewer that of all", in(waiting, trouble{since: 1, faults: ownFaults - 1, own: asked, from: now, to: now + much}), end, now + int64(full), nil},
		{"during an exchange", in(asking, trouble{since: 1, faults: 1, asked: asked}), end, now + rest, nil},
		{"not where that times out first", in(asking, trouble{since: 1, faults: 1, asked: slow}), end, int64(never), nil},
		{"not in line", in(queued, trouble{since: 1, faults: 1, asked: asked, to: now + much}), end, int64(never), nil},
	})

	expire := func(late, outage int64) func(*poll) any {
		return func(p *poll) any { return p.expire(now+rest+late, &testBounds, outage) }
	}
	out := in(waiting, trouble{since: 1, faults: 1, asked: asked, from: now, to: now + much, outage: 7})
	byLimiter := in(waiting, trouble{since: 1, faults: 1, asked: asked, from: now, to: now + much, outage: 7, limited: true})
	own := in(waiting, trouble{since: 1, faults: ownFaults, asked: 1, own: full, from: now + rest, to: now + much, outage: 7})
	late := in(waiting, trouble{since: 1, faults: ownFaults, own: asked, from: now, to: now + much, outage: 7})
	stopped := int64(stoppedFor)
	checkPolls(t, []pollRow{
		{"before that time it goes on", out, expire(-1, 7), goesOn, nil},
		{"at that time it ends", out, expire(0, 7), outageOver, nil},
		{"a busy machine is late", out, expire(stopped, 7), outageOver, nil},
		{"a stopped process looks before it judges", out, expire(stopped+1, 7), goesOn, func(p *poll) { p.next, p.trouble.to = now+rest+stopped+1, now }},
		{"another job was answered meanwhile", out, expire(0, 8), goesOn,
			func(p *poll) {
				p.trouble.outage, p.trouble.asked, p.trouble.own, p.trouble.from = 8, 0, time.Duration(rest), now+rest
			}},
		{"which does not help a job with faults of its own", own, expire(0, 8), outageOver,
			func(p *poll) { p.trouble.outage, p.trouble.asked = 8, 0 }},
		{"nor one whose faults have lasted as long by now", late, expire(0, 8), outageOver,
			func(p *poll) { p.trouble.outage, p.trouble.own, p.trouble.from = 8, full, now+rest }},
		{"the limiter's is named", byLimiter, expire(0, 7), limited, nil},
	})
}

// In an outage most jobs meet the same: their polls keep one error, and each wait ends with its
// own.
func TestAFaultOfManyJobsIsKeptOnce(t *testing.T) {
	refused := func(port int) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{Port: port}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	unknown := func() error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "h"}}
	}
	down := Details{StatusCode: 503, Target: "GET x", Excerpt: "down", RequestID: "r-1"}
	other := down
	other.RequestID, other.Excerpt = "r-2", strings.Clone("down")
	for _, tt := range []struct {
		rule string
		a, b error
		once bool
	}{
		{"the same answer", &HTTPError{down}, &HTTPError{down}, true},
		{"another one", &HTTPError{down}, &HTTPError{other}, false},
		{"no connection", &TransportError{Err: refused(1)}, &TransportError{Err: refused(1)}, true},
		{"to another address", &TransportError{Err: refused(1)}, &TransportError{Err: refused(2)}, false},
		{"no such host", &TransportError{Err: unknown()}, &TransportError{Err: unknown()}, true},
		{"silence", &TransportError{Err: timeoutError{5}}, &TransportError{Err: timeoutError{5}}, true},
		{"within an answer", &TransportError{down, timeoutError{5}}, &TransportError{other, timeoutError{5}}, false},
		{"an answer, and none", &HTTPError{}, &TransportError{Err: timeoutError{5}}, false},
		{"an error of the caller's", &TransportError{Err: errFault}, &TransportError{Err: errFault}, false},
		{"from a dialer", &TransportError{Err: &net.OpError{Err: errFault}}, &TransportError{Err: &net.OpError{Err: errFault}}, false},
		{"an unreadable answer", &DecodeError{Err: errFault}, &DecodeError{Err: errFault}, false},
	} {
		var k keptFault
		kept := [2]error{}
		for i, err := range []error{tt.a, tt.b} {
			d := details(err)
			d.JobID, d.Attempt = "j"+string(rune('0'+i)), 2+i
			want := snapshot(err)
			d.Next, d.GivesUpIn, d.then = time.Duration(1+i), time.Duration(1+i), d.JobID
			met := snapshot(err)
			kept[i] = k.keep(err)
			if !reflect.DeepEqual(err, met) {
				t.Errorf("%s: %+v was written to", tt.rule, met)
			}
			p := poll{id: d.JobID, number: 9, trouble: &trouble{fault: kept[i], number: int32(d.Attempt)}}
			if got := p.failure(ErrOutage, wall{}).err.(*WaitError).Fault; !reflect.DeepEqual(got, want) {
				t.Errorf("%s: the wait ends with %+v, want %+v", tt.rule, got, want)
			}
		}
		if (kept[0] == kept[1]) != tt.once {
			t.Errorf("%s: kept once: %v", tt.rule, !tt.once)
		}
		if a, b := details(kept[0]).Excerpt, details(kept[1]).Excerpt; unsafe.StringData(a) != unsafe.StringData(b) {
			t.Errorf("%s: the excerpt is kept twice", tt.rule)
		}
	}
}
