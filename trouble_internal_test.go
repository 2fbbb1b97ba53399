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
			set(trouble{job: meter{since: now}, client: meter{since: 7}, tries: 1, faults: 1})},
		{"the first after an answer", of(trouble{fault: errNeutral}), takeFault(outcome{verdict: fault, err: errFault, took: 5}, 7), nil,
			set(trouble{fault: errFault, job: meter{since: now}, client: meter{since: 7}, tries: 1, faults: 1})},
		{"the first refusal, which leaves the last fault", of(trouble{fault: errFault}), takeFault(outcome{verdict: refused, refusal: errRefusal, err: errNeutral}, 7), nil,
			set(trouble{fault: errFault, job: meter{since: now}, client: meter{since: 7}, tries: 1, refusal: errRefusal})},
		{"by the limiter", poll{}, takeFault(outcome{verdict: fault, limited: true}, 7), nil,
			set(trouble{job: meter{since: now}, client: meter{since: 7}, tries: 1, faults: 1, limited: true})},
		{"the time of a request that failed counts", of(trouble{job: meter{1, 20}, client: meter{7, 10}, tries: 1, faults: 1}),
			takeFault(outcome{verdict: fault, took: 5}, 7), nil,
			set(trouble{job: meter{1, 25}, client: meter{7, 15}, tries: 2, faults: 2})},
		{"up to its timeout", of(trouble{job: meter{since: 1}, client: meter{since: 7}}), takeFault(outcome{verdict: fault, took: limit + 5}, 7), nil,
			set(trouble{job: meter{1, limit}, client: meter{7, limit}, tries: 1, faults: 1})},
		{"nothing of it where the process was stopped meanwhile", of(trouble{job: meter{since: 1}, client: meter{since: 7}}), takeFault(outcome{verdict: fault, took: limit + stoppedFor}, 7), nil,
			set(trouble{job: meter{since: 1}, client: meter{since: 7}, tries: 1, faults: 1})},
		{"a busy machine is late", of(trouble{job: meter{since: 1}, client: meter{since: 7}}), takeFault(outcome{verdict: fault, took: limit + stoppedFor - 1}, 7), nil,
			set(trouble{job: meter{1, limit}, client: meter{7, limit}, tries: 1, faults: 1})},
		{"anew where another job was answered", of(trouble{job: meter{1, 20}, client: meter{7, 10}}), takeFault(outcome{verdict: fault}, 8), nil,
			set(trouble{job: meter{1, 20}, client: meter{since: 8}, tries: 1, faults: 1})},
		{"and where no request has failed since", of(trouble{job: meter{1, 20}, client: meter{total: 10}}), takeFault(outcome{verdict: refused}, 0), nil,
			set(trouble{job: meter{1, 20}, tries: 1})},
		{"a fault follows a refusal", of(trouble{job: meter{since: 1}, client: meter{since: 7}, refusal: errRefusal, tries: 1}), takeFault(outcome{verdict: fault}, 7), nil,
			set(trouble{job: meter{since: 1}, client: meter{since: 7}, tries: 2, faults: 1})},
		{"still the limiter alone", of(trouble{job: meter{since: 1}, client: meter{since: 7}, limited: true}), takeFault(outcome{verdict: fault, limited: true}, 7), nil,
			set(trouble{job: meter{since: 1}, client: meter{since: 7}, tries: 1, faults: 1, limited: true})},
		{"not the limiter alone any more", of(trouble{job: meter{since: 1}, client: meter{since: 7}, limited: true}), takeFault(outcome{verdict: fault}, 7), nil,
			set(trouble{job: meter{since: 1}, client: meter{since: 7}, tries: 1, faults: 1})},
		{"not the limiter alone", of(trouble{job: meter{since: 1}, client: meter{since: 7}}), takeFault(outcome{verdict: fault, limited: true}, 7), nil,
			set(trouble{job: meter{since: 1}, client: meter{since: 7}, tries: 1, faults: 1})},
	})

	endGap := in(func(p *poll) { p.endGap(now) })
	startGap := func(from, floor, next, tolerance int64) func(*poll) any {
		b := testBounds
		b.tolerance = time.Duration(tolerance)
		return in(func(p *poll) { p.trouble.startGap(from, floor, next, &b) })
	}
	checkPolls(t, []pollRow{
		{"without trouble no gap counts", poll{}, endGap, nil, nil},
		{"nor after an answer", of(trouble{}), endGap, nil, nil},
		{"a gap counts until now", of(trouble{job: meter{1, 2}, client: meter{total: 1}, gap: span{now - 5, now + 9}}), endGap, nil,
			set(trouble{job: meter{1, 7}, client: meter{total: 6}})},
		{"or until its planned end", of(trouble{job: meter{since: 1}, gap: span{now - 5, now - 2}}), endGap, nil,
			set(trouble{job: meter{1, 3}, client: meter{total: 3}})},
		{"one that has not begun does not", of(trouble{job: meter{since: 1}, gap: span{now + 5, now + 9}}), endGap, nil,
			set(trouble{job: meter{since: 1}})},

		{"a gap reaches to the next exchange", of(trouble{job: meter{since: 1}}), startGap(10, 0, 169, 160), nil, set(trouble{job: meter{since: 1}, gap: span{10, 169}})},
		{"a first one as long as the tolerance counts as a part of it", of(trouble{job: meter{since: 1}, tries: 1}), startGap(10, 0, 170, 160), nil, set(trouble{job: meter{since: 1}, tries: 1, gap: span{10, 20}, rare: true})},
		{"so does a later one, after such a first one", of(trouble{job: meter{since: 1}, tries: 2, rare: true}), startGap(10, 0, 170, 160), nil, set(trouble{job: meter{since: 1}, tries: 2, gap: span{10, 20}, rare: true})},
		{"a shorter one counts as it is, after such a first one", of(trouble{job: meter{since: 1}, tries: 2, rare: true}), startGap(10, 0, 169, 160), nil, set(trouble{job: meter{since: 1}, tries: 2, gap: span{10, 169}, rare: true})},
		{"a later one counts as it is, after a shorter first one", of(trouble{job: meter{since: 1}, tries: 2}), startGap(10, 0, 170, 160), nil, set(trouble{job: meter{since: 1}, tries: 2, gap: span{10, 170}})},
		{"one without end counts as a part of the tolerance", of(trouble{job: meter{since: 1}, tries: 2}), startGap(10, 0, never, 160), nil, set(trouble{job: meter{since: 1}, tries: 2, gap: span{10, 20}})},
		{"a breaker's refusal may choose long gaps", of(trouble{job: meter{since: 1}, tries: 1, refusal: errRefusal}), startGap(10, 0, 170, 160), nil,
			set(trouble{job: meter{since: 1}, tries: 1, refusal: errRefusal, gap: span{10, 20}, rare: true})},
		{"not before the first readable answer", of(trouble{job: meter{since: 1}, tries: 1, refusal: errRefusal}), in(func(p *poll) {
			p.trouble.startGap(10, 0, 15*60*testSecond, &earlyBounds)
		}), nil, set(trouble{job: meter{since: 1}, tries: 1, refusal: errRefusal, gap: span{10, 15 * 60 * testSecond}})},
		{"there a fault may, and two such gaps end a wait", of(trouble{job: meter{since: 1}, tries: 1}), in(func(p *poll) {
			p.trouble.startGap(10, 0, 15*60*testSecond, &earlyBounds)
		}), nil, set(trouble{job: meter{since: 1}, tries: 1, rare: true, gap: span{10, 10 + int64(contactLimit/2)}})},
		{"a pause belongs to no gap", of(trouble{job: meter{since: 1}}), startGap(10, 50, 169, 160), nil, set(trouble{job: meter{since: 1}, gap: span{50, 169}})},
		{"nor to the length of one", of(trouble{job: meter{since: 1}, tries: 1}), startGap(10, 50, 209, 160), nil, set(trouble{job: meter{since: 1}, tries: 1, gap: span{50, 209}})},
	})

	const hour = int64(time.Hour)
	pause := func(from, until int64, b *bounds) func(*poll) any {
		return in(func(p *poll) { p.trouble.startGap(from, until, until+5, b) })
	}
	met := trouble{job: meter{since: 1}, client: meter{since: 3}}
	checkPolls(t, []pollRow{
		{"a pause that ends an hour after the first fault does not count", of(met), pause(hour-9, hour+1, &testBounds), nil,
			func(p *poll) { p.trouble.gap = span{hour + 1, hour + 6} }},
		{"what is later does, for the job and for the client", of(met), pause(hour-9, hour+4, &testBounds), nil,
			func(p *poll) {
				p.trouble.gap, p.trouble.job.total, p.trouble.client.total = span{hour + 4, hour + 9}, 3, 1
			}},
		{"for the client, too, where its first fault was before that of the job", of(trouble{job: meter{since: 3}, client: meter{since: 1}}), pause(hour-9, hour+4, &testBounds), nil,
			func(p *poll) {
				p.trouble.gap, p.trouble.job.total, p.trouble.client.total = span{hour + 4, hour + 9}, 1, 1
			}},
		{"then all of it does", of(met), pause(hour+5, hour+9, &testBounds), nil,
			func(p *poll) {
				p.trouble.gap, p.trouble.job.total, p.trouble.client.total = span{hour + 9, hour + 14}, 4, 4
			}},
		{"sooner before the first readable answer", of(met), pause(1, int64(earlyBounds.maxRetryAfter)+4, &earlyBounds), nil, func(p *poll) {
			until := int64(earlyBounds.maxRetryAfter) + 4
			p.trouble.gap, p.trouble.job.total, p.trouble.client.total = span{until, until + 5}, 3, 1
		}},
		{"one that is over does not", of(met), pause(hour+9, hour+5, &testBounds), nil,
			func(p *poll) { p.trouble.gap = span{hour + 9, hour + 10} }},
	})
}

// endingOf returns how a wait goes on after a fault.
func endingOf(t *trouble, b *bounds) ending {
	return (&poll{trouble: t}).ending(0, &outcome{verdict: fault}, b)
}

func TestWhenTroubleEndsAWait(t *testing.T) {
	const all = 10 * time.Minute
	for _, tt := range []struct {
		rule string
		t    trouble
		want ending
	}{
		{"less than the tolerance", trouble{job: meter{total: all}, client: meter{total: all - 1}, faults: ownFaults - 1}, goesOn},
		{"the tolerance", trouble{client: meter{total: all}}, outageOver},
		{"of one job alone, with many faults", trouble{job: meter{total: all}, faults: ownFaults}, outageOver},
		{"with many, but a shorter time", trouble{job: meter{total: all - 1}, faults: ownFaults}, goesOn},
		{"the limiter's", trouble{client: meter{total: all}, limited: true}, limited},
	} {
		if got := endingOf(&tt.t, &bounds{tolerance: all}); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.rule, got, tt.want)
		}
	}
	if got, want := (&trouble{job: meter{since: 3}, tries: 5}).attempt(10, 2), (Attempt{Number: 2, Elapsed: 7}); got != want {
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
	lacks := in(waiting, trouble{job: meter{since: 1}, client: meter{total: asked}, faults: 1, gap: span{now, now + much}})
	lacks.missing = new(missing)
	full := testBounds.tolerance
	slow := testBounds.tolerance - testBounds.timeout
	checkPolls(t, []pollRow{
		{"without trouble", poll{}, end, int64(never), nil},
		{"after an answer", in(waiting, trouble{fault: errFault, faults: 1, client: meter{total: asked}, gap: span{now, now + much}}), end, int64(never), nil},
		{"while the result is missing", lacks, end, int64(never), nil},
		{"after a single refusal", in(waiting, trouble{job: meter{since: 1}, client: meter{total: asked}, tries: 1, gap: span{now, now + much}}), end, int64(never), nil},
		{"after two", in(waiting, trouble{job: meter{since: 1}, client: meter{total: asked}, tries: 2, gap: span{now, now + much}}), end, now + rest, nil},
		{"after a fault", in(waiting, trouble{job: meter{since: 1}, client: meter{total: asked}, tries: 1, faults: 1, gap: span{now, now + much}}), end, now + rest, nil},
		{"within the gap alone", in(waiting, trouble{job: meter{since: 1}, client: meter{total: asked}, faults: 1, gap: span{now, now + rest}}), end, int64(never), nil},
		{"of one job alone, with many faults", in(waiting, trouble{job: meter{1, asked}, faults: ownFaults, gap: span{now, now + much}}), end, now + rest, nil},
		{"whichever is sooner", in(waiting, trouble{job: meter{1, 1}, client: meter{total: asked}, faults: ownFaults, gap: span{now, now + much}}), end, now + rest, nil},
		{"with fewer that of all", in(waiting, trouble{job: meter{1, asked}, faults: ownFaults - 1, gap: span{now, now + much}}), end, now + int64(full), nil},
		{"during an exchange", in(asking, trouble{job: meter{since: 1}, client: meter{total: asked}, faults: 1}), end, now + rest, nil},
		{"not where that times out first", in(asking, trouble{job: meter{since: 1}, client: meter{total: slow}, faults: 1}), end, int64(never), nil},
		{"not in line", in(queued, trouble{job: meter{since: 1}, client: meter{total: asked}, faults: 1, gap: span{to: now + much}}), end, int64(never), nil},
	})

	expire := func(late, outage int64) func(*poll) any {
		return func(p *poll) any { return p.expire(now+rest+late, &testBounds, outage) }
	}
	out := in(waiting, trouble{job: meter{since: 1}, client: meter{7, asked}, faults: 1, gap: span{now, now + much}})
	byLimiter := in(waiting, trouble{job: meter{since: 1}, client: meter{7, asked}, faults: 1, gap: span{now, now + much}, limited: true})
	own := in(waiting, trouble{job: meter{1, full}, client: meter{7, 1}, faults: ownFaults, gap: span{now + rest, now + much}})
	late := in(waiting, trouble{job: meter{1, asked}, client: meter{since: 7}, faults: ownFaults, gap: span{now, now + much}})
	stopped := int64(stoppedFor)
	with := func(phase phase, p poll) poll {
		p.phase = phase
		return p
	}
	paused := in(waiting, trouble{job: meter{since: 1}, client: meter{7, full + 3*time.Duration(rest)}, faults: 1, gap: span{now + rest, now + rest}})
	paused.next, paused.floor = now+rest, now+rest
	longer := in(waiting, trouble{job: meter{since: 1}, client: meter{7, full - time.Minute}, faults: 1, gap: span{now, now + much}})
	counted := func(p *poll, d int64) { // the gap, for so long
		p.trouble.add(time.Duration(d))
		p.trouble.gap.from += d
	}
	checkPolls(t, []pollRow{
		{"before that time it goes on", out, expire(-1, 7), goesOn, nil},
		{"at that time it ends", out, expire(0, 7), outageOver, func(p *poll) { counted(p, rest) }},
		{"a busy machine is late", out, expire(stopped, 7), outageOver, func(p *poll) { counted(p, rest+stopped) }},
		{"a stopped process looks before it judges", out, expire(stopped+1, 7), goesOn,
			func(p *poll) {
				p.next, p.trouble.gap = now+rest+stopped+1, span{}
				p.trouble.add(time.Duration(rest) - testBounds.timeout)
			}},
		{"with no more than is left", longer, func(p *poll) any { return p.expire(now+60*testSecond+stopped+1, &testBounds, 7) }, goesOn,
			func(p *poll) { p.next, p.trouble.gap = now+60*testSecond+stopped+1, span{} }},
		{"nor does it judge before an exchange under way ends", with(asking, out), expire(stopped+1, 7), goesOn,
			func(p *poll) { p.trouble.add(time.Duration(rest) - testBounds.timeout) }},
		{"nor within a pause that counts", paused, func(p *poll) any { return []any{p.expire(now, &testBounds, 7), p.outageEnd(&testBounds)} }, []any{goesOn, int64(never)},
			func(p *poll) { p.trouble.gap = span{}; p.trouble.add(-3*time.Duration(rest) - testBounds.timeout) }},
		{"however long it was stopped", with(asking, out), expire(much, 7), goesOn,
			func(p *poll) { p.trouble.add(time.Duration(rest) - testBounds.timeout) }},
		{"another job was answered meanwhile", out, expire(0, 8), goesOn,
			func(p *poll) { counted(p, rest); p.trouble.client = meter{since: 8} }},
		{"which does not help a job with faults of its own", own, expire(0, 8), outageOver,
			func(p *poll) { p.trouble.client = meter{since: 8} }},
		{"nor one whose faults have lasted as long by now", late, expire(0, 8), outageOver,
			func(p *poll) { counted(p, rest); p.trouble.client = meter{since: 8} }},
		{"the limiter's is named", byLimiter, expire(0, 7), limited, func(p *poll) { counted(p, rest) }},
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
