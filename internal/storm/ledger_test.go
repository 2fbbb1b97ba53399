package storm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"
)

// A kill is the time in which there was no server.
type kill struct{ from, to time.Time }

// Names for what became of a request on the wire, beside what the client reports.
const (
	repeated = "repeated silently" // by net/http or by the client, on another connection
	mortally = "cut off by a kill" // the server was killed before it knew, or before its answer was out
)

// Names for what a server did, beside the faults.
const (
	well     = "none"
	left     = "none: the client left"
	unending = "unknown: killed over it"
)

// A ledger sets off what servers did against what the client reported.
type ledger struct {
	counts map[string]map[string]int // requests on the wire: by what the server did, by what became of it
	// Without a request on the wire that a server saw.
	unreachable int // a connection could not be had while there was no server
	lost        int // written by the client, read by no server
	late        int // answers that came too late, by the client's own clock
	wires       int
	clientWires int
	wrong       []string
}

func (l *ledger) complain(format string, args ...any) {
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

func (l *ledger) count(did, became string) {
	if l.counts[did] == nil {
		l.counts[did] = make(map[string]int)
	}
	l.counts[did][became]++
}

// breaks holds the faults that a client sees as a connection that broke. A request over
// which that happened is repeated if the connection had served before.
var breaks = map[string]bool{"drop": true, "reset": true, "cut": true, "blackout": true}

// balance matches each request that reached a server with the exchange that it was made
// for. Server number i was killed at kills[i]; the last one was not.
func balance(exchanges []*exchange, wires []*wire, kills []kill, timeout time.Duration) *ledger {
	l := &ledger{counts: make(map[string]map[string]int), wires: len(wires)}
	byTag := make(map[string][]*wire)
	for _, w := range wires {
		byTag[w.tag] = append(byTag[w.tag], w)
	}
	// during reports whether an exchange was under way while there was no server.
	during := func(x *exchange, k kill) bool { return x.ended.After(k.from) && x.sent.Before(k.to) }
	anyKill := func(x *exchange) bool {
		return slices.ContainsFunc(kills, func(k kill) bool { return during(x, k) })
	}
	for _, x := range exchanges {
		mine := byTag[x.tag]
		delete(byTag, x.tag)
		l.clientWires += x.wire
		for i, w := range mine {
			did := w.fault
			switch {
			case !w.ended:
				did = unending
			case did == "" && w.code == 0:
				did = left
			case did == "":
				did = well
			}
			killed := w.server < len(kills) && during(x, kills[w.server])
			if did == unending && !killed {
				l.complain("%s: the server has no end of it, and was not killed: %s", x.tag, x.outcome)
			}
			became := x.outcome
			var fits bool
			switch {
			case i < len(mine)-1:
				became = repeated
				fits = breaks[did] || did == "silence" || did == left || did == "drip" || killed
			case killed && (x.outcome == broken || x.outcome == unreachable):
				became = mortally
				fits = true
			case did == unending: // the answer was out before the kill
				fits = true
			case did == well, did == "drip":
				fits = x.outcome == answered || x.outcome == timedOut
			case did == "garbage":
				fits = x.outcome == unreadable || x.outcome == timedOut
			case did == "silence", did == left:
				fits = x.outcome == timedOut
			case breaks[did]:
				// A repeat that found the server dead was seen by none.
				fits = x.outcome == broken || x.outcome == timedOut || x.outcome == unreachable && anyKill(x)
			case did == "outage":
				fits = x.outcome == "503" || x.outcome == timedOut
			default: // a status code
				fits = x.outcome == did || x.outcome == timedOut
			}
			if !fits {
				l.complain("%s: the server did %q, and the client reports %q", x.tag, did, became)
			}
			if became == timedOut && did != "silence" {
				l.late++
			}
			l.count(did, became)
		}
		if x.outcome == timedOut && !strings.Contains(x.text, fmt.Sprintf("no whole answer within %v", timeout)) {
			l.complain("%s: timed out, and not after %v: %s", x.tag, timeout, x.text)
		}
		switch missing := x.wire - len(mine); {
		case missing > 0:
			// A connection that a killed server has left takes one request more.
			if x.outcome == timedOut {
				break // the client left while it was being written
			}
			if l.lost += missing; len(kills) == 0 || x.ended.Before(kills[0].from) {
				l.complain("%s: over the wire %d times, and %d times seen by the server, which was never killed: %s", x.tag, x.wire, len(mine), x.outcome)
			}
		case missing < 0 && x.outcome != timedOut:
			l.complain("%s: over the wire %d times, and %d times seen by the server: %s", x.tag, x.wire, len(mine), x.outcome)
		}
		if len(mine) == 0 {
			switch {
			case x.outcome == unreachable && anyKill(x):
				l.unreachable++
			case x.outcome == broken && x.wire > 0: // counted as lost
			case x.outcome == broken && anyKill(x): // a connection that died before anything was written
				l.unreachable++
			case x.outcome == timedOut:
				l.late++
			case x.outcome == withdrawn && x.wire == 0:
			default:
				l.complain("%s: seen by no server, and the client reports %q (over the wire: %d)", x.tag, x.outcome, x.wire)
			}
		}
	}
	for tag, ws := range byTag {
		l.complain("%s: %d requests that the client did not report", tag, len(ws))
	}
	return l
}

// cutOff is how many requests the kills may have cut off.
func (l *ledger) cutOff() (n int) {
	for did, became := range l.counts {
		if n += became[mortally]; did == unending {
			for what, k := range became {
				if what != mortally {
					n += k
				}
			}
		}
	}
	return n + l.lost
}

// injected is how often a server did something.
func (l *ledger) injected(did string) (n int) {
	for _, k := range l.counts[did] {
		n += k
	}
	return n
}

func (l *ledger) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-24s %8s   what the client made of it\n", "what the server did", "requests")
	sum := 0
	for _, did := range slices.Sorted(maps.Keys(l.counts)) {
		n := l.injected(did)
		sum += n
		var parts []string
		for _, became := range slices.Sorted(maps.Keys(l.counts[did])) {
			parts = append(parts, fmt.Sprintf("%s %d", became, l.counts[did][became]))
		}
		fmt.Fprintf(&b, "%-24s %8d   %s\n", did, n, strings.Join(parts, ", "))
	}
	fmt.Fprintf(&b, "%-24s %8d   %d written by the client, of which %d read by no server; %d exchanges found no server; %d answers came too late",
		"sum", sum, l.clientWires, l.lost, l.unreachable, l.late)
	return b.String()
}

// most returns the largest number of moments that lie within one second, of those from
// one moment to another, and their mean per second.
func most(moments []int64, from, to time.Time) (peak int, mean float64) {
	a, b := from.UnixNano(), to.UnixNano()
	var in []int64
	for _, m := range moments {
		if a <= m && m < b {
			in = append(in, m)
		}
	}
	slices.Sort(in)
	first := 0
	for i, m := range in {
		for m-in[first] >= int64(time.Second) {
			first++
		}
		peak = max(peak, i-first+1)
	}
	if d := to.Sub(from).Seconds(); d > 0 {
		mean = float64(len(in)) / d
	}
	return peak, mean
}

// peakAtServers is the most exchanges that had a request at a server at one moment: each
// from when the server saw its first request until the server had done with the last or
// the client knew, whatever came first, since a server learns late that a client has
// left. With raw, only the servers are asked.
func peakAtServers(exchanges []*exchange, wires []*wire, kills []kill, raw bool) (peak int) {
	type span struct{ from, to int64 }
	spans := make(map[string]*span)
	var all []*span
	for _, w := range wires {
		end := w.end
		if !w.ended {
			end = max(w.begin, kills[w.server].to.UnixNano())
		}
		s := spans[w.tag]
		if s == nil || raw {
			s = &span{w.begin, end}
			spans[w.tag] = s
			all = append(all, s)
		}
		s.to = max(s.to, end)
	}
	if !raw {
		for _, x := range exchanges {
			if s := spans[x.tag]; s != nil {
				s.to = max(s.from, min(s.to, x.ended.UnixNano()))
			}
		}
	}
	type step struct {
		at int64
		by int
	}
	var steps []step
	for _, s := range all {
		steps = append(steps, step{s.from, 1}, step{s.to, -1})
	}
	sort.Slice(steps, func(i, j int) bool {
		return cmp.Or(cmp.Compare(steps[i].at, steps[j].at), cmp.Compare(steps[i].by, steps[j].by)) < 0
	})
	n := 0
	for _, s := range steps {
		n += s.by
		peak = max(peak, n)
	}
	return peak
}
