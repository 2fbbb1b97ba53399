package vtclient

import (
	"container/heap"
	"time"
)

// A deadline is the end of one subscriber's time.
type deadline struct {
	at     int64
	opens  int64 // the last tenth of the time: a last poll from here on serves
	lastAt int64 // when the last poll before it is due, as planned last; 0: not planned yet
	crowd  *crowd
	sub    *subscription
	place  [2]int32 // in the heaps of deadlines, by its order; -1: not there
}

// deadlines are those of the subscribers of one poll.
//
// A last poll is made before a deadline that the schedule would miss. One poll
// serves all deadlines of which it falls into the last tenth of the time, so
// that a thousand of them on one job are not a thousand requests.
type deadlines struct {
	unserved deadlineHeap // those that a last poll may still be made for
	own      deadlineHeap // those of jobs, which the engine has to watch
	counted  *deadline    // in its crowd: the first of unserved, as one poll serves many
	madeAt   int64        // when the last of the last polls began
}

const (
	// lastLead is the least time before a deadline at which the last poll is
	// made, and firstLead the one used while no round trip has been measured.
	lastLead  = 20 * time.Millisecond
	firstLead = 500 * time.Millisecond
)

func (d *deadlines) add(now int64, dl *deadline, own bool) {
	d.own.order = 1
	dl.opens = dl.at - (dl.at-now)/10
	dl.place = [2]int32{-1, -1}
	d.unserved.push(dl)
	d.count()
	if own {
		d.own.push(dl)
	}
}

func (d *deadlines) remove(dl *deadline) {
	d.serve(dl)
	d.own.remove(dl)
}

// serve notes that no last poll is to be made for a deadline any more.
func (d *deadlines) serve(dl *deadline) {
	d.unserved.remove(dl)
	d.count()
}

// count keeps the crowds in step with unserved.
func (d *deadlines) count() {
	first := d.unserved.first()
	if first == d.counted {
		return
	}
	if d.counted != nil {
		d.counted.crowd.add(d.counted.at, -1)
	}
	if d.counted = first; first != nil {
		first.crowd.add(first.at, 1)
	}
}

// expired returns a subscriber whose job's own deadline has come, or nil.
func (d *deadlines) expired(now int64) *subscription {
	if first := d.own.first(); first != nil && first.at <= now {
		return first.sub
	}
	return nil
}

// nextOwn returns the earliest deadline that the engine has to watch, or never.
func (d *deadlines) nextOwn() int64 {
	if first := d.own.first(); first != nil {
		return first.at
	}
	return never
}

// begin notes that an exchange begins. If a last poll was due, it is one.
func (d *deadlines) begin(now int64) {
	for {
		first := d.unserved.first()
		if first == nil || first.lastAt == 0 || now < first.lastAt {
			return
		}
		d.madeAt = now
		d.serve(first)
	}
}

// lastPoll returns when the next last poll is due, or never. The schedule has an
// exchange at next, and lead is the time that an answer takes.
func (d *deadlines) lastPoll(now, next int64, p *poll, lead time.Duration, pace lastPace) int64 {
	for {
		dl := d.unserved.first()
		if dl == nil {
			return never
		}
		latest := dl.at - int64(lead)
		if next <= max(latest, now) {
			return never // the schedule itself comes before it
		}
		dl.lastAt = dl.choose(now, latest, p.floor, pace)
		if p.started >= dl.lastAt || d.madeAt >= dl.opens && d.madeAt > 0 {
			d.serve(dl) // made already, or as good as made
			continue
		}
		if at := max(dl.lastAt, now, p.started+int64(pollFloor)); at < dl.at {
			return at
		}
		return never // nothing fits any more
	}
}

// choose returns when the last poll before a deadline is due: early enough for
// those of all deadlines at about the same time to fit, and not while the server
// asks for a pause.
func (dl *deadline) choose(now, latest, floor int64, pace lastPace) int64 {
	spread := dl.crowd.spread(dl.at, dl.gap(now, latest, pace))
	at := max(1, latest)
	if from := max(now, floor); from < latest {
		at = max(from, latest-spread)
	}
	if at < floor {
		at = floor + min(spread, max(0, dl.at-floor)/2)
	}
	return at
}

// A lastPace is the time between two last polls of a client.
type lastPace struct {
	usual int64 // the time between first checks
	least int64 // half of that, or what the latency allows with so many exchanges under way
}

// gap returns the time between last polls before a deadline: the usual one, if
// all fit into the last tenth of the time with it, else the least.
func (dl *deadline) gap(now, latest int64, pace lastPace) int64 {
	if all := dl.crowd.spread(dl.at, pace.usual); all <= dl.at-dl.opens && all <= latest-now {
		return max(pace.usual, pace.least)
	}
	return pace.least
}

// A crowd counts times by the second in which they fall.
type crowd map[int64]int32

// crowdSeconds bounds how far spread looks back.
const crowdSeconds = 600

func (c *crowd) add(at int64, n int32) (before int32) {
	second := at / int64(time.Second)
	if *c == nil {
		*c = make(crowd)
	}
	before = (*c)[second]
	if before+n > 0 {
		(*c)[second] = before + n
	} else {
		delete(*c, second)
	}
	if len(*c) == 0 {
		*c = nil // a map does not shrink by itself
	}
	return before
}

// spread returns how long before a time events have to begin, one each gap, for
// all those counted at about the same time to come before it.
func (c *crowd) spread(at, gap int64) int64 {
	second := at / int64(time.Second)
	n := int64(0)
	for back := range int64(crowdSeconds) {
		if n += int64((*c)[second-back]); (n-1)*gap <= at-(second-back)*int64(time.Second) {
			break
		}
	}
	return max(0, n-1) * gap
}

// forget removes what lies before a time.
func (c *crowd) forget(now int64) {
	for second := range *c {
		if second < now/int64(time.Second) {
			delete(*c, second)
		}
	}
}

// A deadlineHeap has the earliest deadline first. order is that of the heap in
// deadline.place.
type deadlineHeap struct {
	list  []*deadline
	order int
}

func (h *deadlineHeap) first() *deadline {
	if len(h.list) == 0 {
		return nil
	}
	return h.list[0]
}

func (h *deadlineHeap) push(dl *deadline) { heap.Push(h, dl) }

// remove takes a deadline out if it is there.
func (h *deadlineHeap) remove(dl *deadline) {
	if i := dl.place[h.order]; i >= 0 {
		heap.Remove(h, int(i))
	}
}

func (h *deadlineHeap) Len() int           { return len(h.list) }
func (h *deadlineHeap) Less(i, j int) bool { return h.list[i].at < h.list[j].at }
func (h *deadlineHeap) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].place[h.order], h.list[j].place[h.order] = int32(i), int32(j)
}

func (h *deadlineHeap) Push(x any) {
	dl := x.(*deadline)
	dl.place[h.order] = int32(len(h.list))
	h.list = append(h.list, dl)
}

func (h *deadlineHeap) Pop() any {
	n := len(h.list) - 1
	dl := h.list[n]
	h.list[n] = nil
	if h.list = h.list[:n]; n == 0 {
		h.list = nil
	}
	dl.place[h.order] = -1
	return dl
}
