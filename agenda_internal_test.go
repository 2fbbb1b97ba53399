package vtclient

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// An agendaModel is the naive form of an agenda's queues.
type agendaModel struct {
	turns [lanes][]*inbox
	due   map[*inbox]*[lanes][]*entry
	takes int
}

func (m *agendaModel) resume(in *inbox, l lane) {
	if len(m.due[in][l]) > 0 && !slices.Contains(m.turns[l], in) {
		m.turns[l] = append(m.turns[l], in)
	}
}

func (m *agendaModel) enqueue(e *entry, first bool) {
	for s := range e.subscriptions {
		q := &m.due[s.to][e.lane]
		if first {
			*q = slices.Insert(*q, 0, e)
		} else {
			*q = append(*q, e)
		}
		m.resume(s.to, e.lane)
	}
}

func (m *agendaModel) dequeue(e *entry) {
	for s := range e.subscriptions {
		q := &m.due[s.to][e.lane]
		if *q = slices.DeleteFunc(*q, func(other *entry) bool { return other == e }); len(*q) == 0 {
			m.turns[e.lane] = slices.DeleteFunc(m.turns[e.lane], func(in *inbox) bool { return in == s.to })
		}
	}
}

// take is the rule of the turns: urgent, last, rest; but of eight turns one is the rest's
// first, and one the last polls' and then the rest's.
func (m *agendaModel) take() *entry {
	m.takes++
	order := []lane{laneUrgent, laneLast, laneRest}
	switch m.takes % 8 {
	case 3:
		order = []lane{laneRest, laneUrgent, laneLast}
	case 7:
		order = []lane{laneLast, laneRest, laneUrgent}
	}
	for _, l := range order {
		for len(m.turns[l]) > 0 {
			in := m.turns[l][0]
			if m.turns[l] = m.turns[l][1:]; in.full() {
				continue
			}
			e := m.due[in][l][0]
			m.turns[l] = append(m.turns[l], in)
			m.dequeue(e)
			return e
		}
	}
	return nil
}

// What is due is taken in the order that a naive model gives: in each lane the callers with
// room take turns, one poll each, and a caller's polls keep their order.
func TestTurns(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		var a agenda
		m := agendaModel{due: map[*inbox]*[lanes][]*entry{}}
		var inboxes []*inbox
		for range 1 + rnd.IntN(5) {
			in := newInbox(context.Background(), never, true, true)
			inboxes = append(inboxes, in)
			m.due[in] = new([lanes][]*entry)
		}
		var entries []*entry
		for i := range 1 + rnd.IntN(20) {
			e := &entry{index: -1}
			e.id = fmt.Sprint(i)
			for range 1 + rnd.IntN(3) {
				(&subscription{entry: e, to: inboxes[rnd.IntN(len(inboxes))]}).link()
			}
			entries = append(entries, e)
		}
		for step := range 300 {
			e, in, l := entries[rnd.IntN(len(entries))], inboxes[rnd.IntN(len(inboxes))], lane(rnd.IntN(int(lanes)))
			switch rnd.IntN(9) {
			case 0, 1, 2:
				if e.phase == waiting {
					a.enqueue(e, l)
					m.enqueue(e, false)
				}
			case 3:
				if e.phase == queued && l < e.lane {
					m.dequeue(e)
					a.promote(e, l)
					m.enqueue(e, false)
				} else {
					a.promote(e, l)
				}
			case 4:
				in.busy = !in.busy
			case 5:
				in.busy = false
				before := fmt.Sprint(m.turns)
				for l := range lanes {
					m.resume(in, l)
				}
				if resumed := a.resumeAll(in); resumed != (fmt.Sprint(m.turns) != before) {
					t.Fatalf("seed %d, step %d: resumed: %v", seed, step, resumed)
				}
			case 6:
				if e.phase == waiting {
					e.lane = l
					a.giveBack(e)
					m.enqueue(e, true)
				}
			default:
				want := m.take()
				if got := a.take(); got != want {
					t.Fatalf("seed %d, step %d: took %v, want %v", seed, step, got, want)
				}
				if want == nil {
					break
				}
				for s := range want.subscriptions {
					if want.phase != waiting || s.nextDue != nil || s.prevDue != nil {
						t.Fatalf("seed %d, step %d: taken, in phase %d, and still in a queue", seed, step, want.phase)
					}
				}
			}
			due := slices.ContainsFunc(m.turns[:], func(l []*inbox) bool { return len(l) > 0 })
			if a.due() != due {
				t.Fatalf("seed %d, step %d: due: %v, want %v", seed, step, !due, due)
			}
		}
	}
}

// No poll waits for longer than one round of turns of all callers for each poll of its own
// caller that is before it, and eight times that in the lowest lane.
func TestARoundOfTurns(t *testing.T) {
	for l := range lanes {
		var a agenda
		var inboxes []*inbox
		for range 5 {
			inboxes = append(inboxes, newInbox(context.Background(), never, true, true))
		}
		add := func(in *inbox, l lane) *entry {
			e := &entry{index: -1}
			(&subscription{entry: e, to: in}).link()
			a.enqueue(e, l)
			return e
		}
		for other := range lanes {
			for _, in := range inboxes {
				add(in, other)
			}
		}
		last := add(inboxes[4], l)
		share := map[lane]int{laneUrgent: 2, laneLast: 8, laneRest: 8}[l]
		n := 1
		for e := a.take(); e != last; e = a.take() {
			if n++; e == nil || n > share*2*len(inboxes) {
				t.Errorf("lane %d: not taken in %d turns", l, n)
				break
			}
			a.enqueue(e, e.lane) // due again at once
		}
	}
}

// A poll is in the heap while its key is a time, and the heap gives back its memory.
func TestTheHeapOfAnAgenda(t *testing.T) {
	var a agenda
	rnd := rand.New(rand.NewPCG(1, 3))
	entries := make([]*entry, 3000)
	for i := range entries {
		entries[i] = &entry{index: -1, key: never}
	}
	keys := map[*entry]int64{}
	file := func(e *entry, key int64) {
		t.Helper()
		a.file(e, key)
		if keys[e] = key; key == never {
			delete(keys, e)
		}
		if e.key != key || (e.index >= 0) != (key != never) || len(a.heap) != len(keys) {
			t.Fatalf("key %d, index %d, %d polls in the heap, want key %d and %d polls", e.key, e.index, len(a.heap), key, len(keys))
		}
	}
	inOrder := func() {
		t.Helper()
		if first := a.first(); len(keys) > 0 && keys[first] != slices.Min(slices.Collect(maps.Values(keys))) {
			t.Fatalf("the first key is %d", keys[first])
		}
	}
	if inOrder(); a.first() != nil {
		t.Error("an empty agenda has a first poll")
	}
	for i, e := range entries {
		file(e, int64(rnd.IntN(1000)))
		if i%20 == 0 {
			inOrder()
			file(a.first(), int64(rnd.IntN(1000)))
			inOrder()
			file(entries[rnd.IntN(i+1)], int64(rnd.IntN(1000)))
			inOrder()
		}
	}
	most := cap(a.heap)
	for i, e := range entries[1:] {
		file(e, never)
		file(e, never) // is not there
		if i%100 == 0 {
			inOrder()
		}
		if n := cap(a.heap); len(a.heap) >= most/4 && n != most || n > 1024 && len(a.heap) < n/4 || len(a.heap) > 512 && n < 2*len(a.heap) && n < most {
			t.Fatalf("%d polls in a heap for %d, which was one for %d", len(a.heap), n, most)
		}
	}
	file(entries[0], 7)
	if inOrder(); a.first() != entries[0] {
		t.Error("one poll is left, and is not the first")
	}
}

// A pacer lets a burst begin at once, then one each gap; what is not used is not saved up
// beyond the burst.
func TestPacer(t *testing.T) {
	for _, tt := range []struct {
		rule        string
		burst       int
		now, places []int64
	}{
		{"one each gap", 1, []int64{100, 100, 100, 105}, []int64{100, 110, 120, 130}},
		{"after a burst", 3, []int64{100, 100, 100, 100, 100}, []int64{100, 100, 100, 110, 120}},
		{"late ones begin at once", 1, []int64{100, 200, 200}, []int64{100, 200, 210}},
		{"and a pause brings the burst back", 2, []int64{100, 100, 100, 500, 500, 500}, []int64{100, 100, 110, 500, 500, 510}},
	} {
		var p pacer
		var got []int64
		for _, now := range tt.now {
			got = append(got, p.next(now, tt.burst, 10))
		}
		if !slices.Equal(got, tt.places) {
			t.Errorf("%s: %v, want %v", tt.rule, got, tt.places)
		}
	}
	if firstPace != 2*time.Millisecond {
		t.Errorf("the documentation of WaitAll has a pace of 2 ms, it is %v", firstPace)
	}
}
