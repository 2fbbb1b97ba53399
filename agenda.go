package vtclient

import "container/heap"

// A lane is a class of polls that are due.
type lane uint8

const (
	laneUrgent lane = iota // hints, and the first checks of a Wait or Watch
	laneLast               // last polls before a deadline
	laneRest               // all others
	lanes
)

// An agenda holds what is to be done when: a heap of the polls by the time at
// which the engine has to look at them next, and queues of those that are due.
//
// Each inbox has a queue for each lane, and a poll that is due stands in a queue
// of each of its subscribers. Within a lane the inboxes take turns, so that no
// caller holds up another; one whose inbox is full has no turn until it has room
// again, and its polls keep their order meanwhile. Of four turns at most three
// go to an urgent lane while a lower one has polls, so that none starves.
type agenda struct {
	heap  pollHeap
	turns [lanes]*dueQueue // the queue that is next, in a ring; nil: there is none
	count uint8
}

// A dueQueue holds the subscriptions of an inbox whose polls are due in one
// lane, first come, first served.
type dueQueue struct {
	first      *subscription // of a ring
	next, prev *dueQueue     // of the ring of those that have turns; nil: it has none
}

// file puts a poll where it is found at the time of its key.
func (a *agenda) file(e *entry, key int64) {
	e.key = key
	switch {
	case key == never && e.index >= 0:
		a.unfile(e)
	case key == never:
	case e.index >= 0:
		heap.Fix(&a.heap, int(e.index))
	default:
		heap.Push(&a.heap, e)
	}
}

// unfile takes a poll out of the heap.
func (a *agenda) unfile(e *entry) {
	heap.Remove(&a.heap, int(e.index))
	if n := cap(a.heap); n > 1024 && len(a.heap) < n/4 {
		a.shrink()
	}
}

// shrink gives back the memory of a heap that is mostly unused.
func (a *agenda) shrink() { a.heap = append(make(pollHeap, 0, 2*len(a.heap)), a.heap...) }

// first returns the poll to look at first, or nil.
func (a *agenda) first() *entry {
	if len(a.heap) == 0 {
		return nil
	}
	return a.heap[0]
}

// enqueue puts a poll into a queue of each of its subscribers.
func (a *agenda) enqueue(e *entry, l lane) {
	e.phase, e.lane = queued, l
	for s := range e.subscriptions {
		a.add(s)
	}
}

// add puts a subscription at the end of its inbox's queue.
func (a *agenda) add(s *subscription) {
	q := &s.to.due[s.entry.lane]
	if q.first == nil {
		q.first, s.nextDue, s.prevDue = s, s, s
	} else {
		s.nextDue, s.prevDue = q.first, q.first.prevDue
		s.prevDue.nextDue, s.nextDue.prevDue = s, s
	}
	a.resume(q, s.entry.lane)
}

// remove takes a subscription out of its inbox's queue.
func (a *agenda) remove(s *subscription) {
	q := &s.to.due[s.entry.lane]
	if s.nextDue == s {
		q.first = nil
		a.suspend(q, s.entry.lane)
	} else {
		s.nextDue.prevDue, s.prevDue.nextDue = s.prevDue, s.nextDue
		if q.first == s {
			q.first = s.nextDue
		}
	}
	s.nextDue, s.prevDue = nil, nil
}

// dequeue takes a poll out of all queues. Its phase is then waiting.
func (a *agenda) dequeue(e *entry) {
	if e.phase != queued {
		return
	}
	for s := range e.subscriptions {
		a.remove(s)
	}
	e.phase = waiting
}

// promote moves a poll that is due to a better lane.
func (a *agenda) promote(e *entry, l lane) {
	if e.phase == queued && l < e.lane {
		a.dequeue(e)
		a.enqueue(e, l)
	}
}

// giveBack puts a poll that was taken back to the head of its queues.
func (a *agenda) giveBack(e *entry) {
	e.phase = queued
	for s := range e.subscriptions {
		a.add(s)
		s.to.due[e.lane].first = s
	}
}

// resume gives a queue its turns, after all others. It reports whether the queue
// had none.
func (a *agenda) resume(q *dueQueue, l lane) bool {
	if q.next != nil || q.first == nil {
		return false
	}
	if t := a.turns[l]; t == nil {
		a.turns[l], q.next, q.prev = q, q, q
	} else {
		q.next, q.prev = t, t.prev
		q.prev.next, q.next.prev = q, q
	}
	return true
}

// resumeAll gives an inbox its turns in all lanes. It reports whether it had not
// all of them.
func (a *agenda) resumeAll(in *inbox) (resumed bool) {
	for l := range in.due {
		resumed = a.resume(&in.due[l], lane(l)) || resumed
	}
	return resumed
}

// suspend takes its turns from a queue.
func (a *agenda) suspend(q *dueQueue, l lane) {
	switch {
	case q.next == nil:
		return
	case q.next == q:
		a.turns[l] = nil
	default:
		q.next.prev, q.prev.next = q.prev, q.next
		if a.turns[l] == q {
			a.turns[l] = q.next
		}
	}
	q.next, q.prev = nil, nil
}

// due reports whether a queue has a turn.
func (a *agenda) due() bool {
	for _, q := range a.turns {
		if q != nil {
			return true
		}
	}
	return false
}

// take returns the poll whose turn it is, or nil if none is due for an inbox with
// room. The poll leaves all queues.
func (a *agenda) take() *entry {
	a.count++
	order := [lanes]lane{laneUrgent, laneLast, laneRest}
	switch a.count % 8 {
	case 3:
		order = [lanes]lane{laneRest, laneUrgent, laneLast}
	case 7:
		order = [lanes]lane{laneLast, laneRest, laneUrgent}
	}
	for _, l := range order {
		for q := a.turns[l]; q != nil; q = a.turns[l] {
			if q.first.to.full() {
				a.suspend(q, l)
				continue
			}
			e := q.first.entry
			a.turns[l] = q.next
			a.dequeue(e)
			return e
		}
	}
	return nil
}

// A pollHeap has the poll with the earliest key first.
type pollHeap []*entry

func (h pollHeap) Len() int           { return len(h) }
func (h pollHeap) Less(i, j int) bool { return h[i].key < h[j].key }
func (h pollHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = int32(i), int32(j)
}
func (h *pollHeap) Push(x any) {
	e := x.(*entry)
	e.index = int32(len(*h))
	*h = append(*h, e)
}
func (h *pollHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
