package vtclient

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What a slow caller does not take does not pile up while a faster one keeps the poll going.
func TestInboxOfASlowCallerIsBounded(t *testing.T) {
	in := newInbox(context.Background(), never, true, true)
	for i := range 10_000 {
		in.put(&event{status: Status{State: StatePending, Progress: float64(i)}})
		in.put(&event{fault: fmt.Errorf("fault %d", i)})
	}
	in.put(&event{status: Status{State: StateCompleted}})
	if n := len(in.events); n > 2*batchBacklog+1 {
		t.Errorf("%d events", n)
	}
	if !in.events[len(in.events)-1].ends() {
		t.Error("the end is lost")
	}
}

// What ends a job is never what makes room in an inbox: it is the only word on that job.
func TestWhatEndsAJob(t *testing.T) {
	for _, tt := range []struct {
		ev   event
		ends bool
	}{
		{event{status: Status{State: StatePending}}, false},
		{event{status: Status{State: StateCompleted}}, true},
		{event{status: Status{State: StateFailed}}, true},
		{event{fault: errNeutral}, false},
		{event{err: errNeutral}, true},
		{event{status: Status{State: StatePending}, err: errNeutral}, true},
		{event{panicked: "oops"}, true},
	} {
		if tt.ev.ends() != tt.ends {
			t.Errorf("%+v: ends %v", tt.ev, !tt.ends)
		}
	}
}

// The error beside an end is the caller's, or that of a failed job.
func TestTheVerdictOfAnEvent(t *testing.T) {
	failed := Status{JobID: "j", State: StateFailed}
	for _, tt := range []struct {
		ev   event
		want error
	}{
		{event{status: Status{State: StateCompleted}}, nil},
		{event{status: failed}, &JobError{Status: failed}},
		{event{err: errNeutral}, errNeutral},
		{event{status: failed, err: errNeutral}, errNeutral},
	} {
		if got := tt.ev.verdict(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%+v: %v, want %v", tt.ev, got, tt.want)
		}
	}
}

// Events are taken in their order, or the first end before others.
func TestWhatIsTakenFromAnInbox(t *testing.T) {
	p := []*event{{status: Status{State: StatePending}}, {status: Status{State: StatePending}}, {err: errNeutral}, {status: Status{State: StatePending}}}
	in := newBatchInbox(context.Background(), never, true, true)
	for _, ev := range p {
		in.put(ev)
	}
	for i, tt := range []struct {
		take func() *event
		want *event
		left int // that end no job
	}{
		{in.take, p[0], 2}, {in.takeEnd, p[2], 2}, {in.takeEnd, nil, 2}, {in.take, p[1], 1}, {in.take, p[3], 0}, {in.take, nil, 0},
	} {
		if got := tt.take(); got != tt.want || in.droppable != tt.left {
			t.Errorf("%d: took %p, %d left that end no job, want %p and %d", i, got, in.droppable, tt.want, tt.left)
		}
	}
	if in.events != nil || in.busy {
		t.Errorf("an inbox from which all was taken: %+v", in)
	}
	in.put(p[2])
	if in.takeEnd() != p[2] {
		t.Error("an end that is first is not taken")
	}
}

// In a full inbox the oldest pending observation makes room, and nothing else
// does, until hundreds of faults have piled up.
func TestWhatMakesRoomInAFullInbox(t *testing.T) {
	const p, f, e = 'p', 'f', 'e' // pending, fault, end
	many := func(kind rune, n int) []rune { return []rune(strings.Repeat(string(kind), n)) }
	for _, tt := range []struct {
		rule  string
		limit int
		put   []rune
		want  []int // which of them are there in the end
	}{
		{"up to twice the limit is kept", 3, many(p, 6), []int{0, 1, 2, 3, 4, 5}},
		{"then the oldest goes", 3, many(p, 8), []int{2, 3, 4, 5, 6, 7}},
		{"an end stays", 1, []rune{e, p, p, p}, []int{0, 3}},
		{"a fault stays", 1, []rune{f, p, p, p}, []int{0, 3}},
		{"ends and faults alone only add up", 1, []rune{e, f, f, e}, []int{0, 1, 2, 3}},
		{"one goes at a time", 1, []rune{f, f, p, p, p}, []int{0, 1, 4}},
		{"hundreds of faults lose the oldest", 1, append(many(f, 2*batchBacklog), e), seq(1, 2*batchBacklog+1)},
		{"and not before", 1, append(many(f, 2*batchBacklog-1), e), seq(0, 2*batchBacklog)},
		{"hundreds of ends lose none", 1, many(e, 2*batchBacklog+2), seq(0, 2*batchBacklog+2)},
	} {
		in := newInbox(context.Background(), never, true, true)
		in.limit = tt.limit
		for i, kind := range tt.put {
			ev := &event{status: Status{JobID: fmt.Sprint(i), State: StatePending}}
			switch kind {
			case f:
				ev.fault = errNeutral
			case e:
				ev.err = errNeutral
			}
			in.put(ev)
		}
		var got []int
		loose := 0
		for _, ev := range in.events {
			n, _ := strconv.Atoi(ev.status.JobID)
			got = append(got, n)
			if !ev.ends() {
				loose++
			}
		}
		if in.droppable != loose {
			t.Errorf("%s: counts %d that end no job, there are %d", tt.rule, in.droppable, loose)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: of %q there are %v, want %v", tt.rule, string(tt.put), got, tt.want)
		}
	}
}

// An inbox is full with what it holds and what its caller is busy with.
func TestWhenAnInboxIsFull(t *testing.T) {
	pending, end := &event{status: Status{State: StatePending}}, &event{err: errNeutral}
	for _, tt := range []struct {
		rule  string
		do    func(in *inbox)
		full  bool
		empty bool
		ready int
		left  int // that end no job
	}{
		{"new", func(in *inbox) {}, false, true, 0, 0},
		{"with room", func(in *inbox) { in.put(pending) }, false, false, 1, 1},
		{"without", func(in *inbox) { in.put(pending); in.put(end) }, true, false, 1, 1},
		{"busy", func(in *inbox) { in.put(end); in.put(pending); in.take() }, true, false, 1, 1},
		{"busy with the only one", func(in *inbox) { in.put(pending); in.take() }, false, true, 1, 0},
		{"not busy any more", func(in *inbox) { in.put(pending); in.put(end); in.take(); in.take(); in.take() }, false, true, 1, 0},
		{"an end is taken", func(in *inbox) { in.put(pending); in.put(end); in.takeEnd() }, true, false, 1, 1},
		{"and no second one", func(in *inbox) { in.put(pending); in.put(end); in.takeEnd(); in.takeEnd() }, true, false, 1, 1},
		{"closed", func(in *inbox) { in.put(pending); in.close() }, true, true, 1, 0},
	} {
		in := newBatchInbox(context.Background(), never, true, true)
		in.limit = 2
		tt.do(in)
		if in.full() != tt.full || in.empty() != tt.empty || len(in.ready) != tt.ready || in.droppable != tt.left || in.closed != (len(in.room) > 0) {
			t.Errorf("%s: full %v, empty %v, %d signals, %d that end no job", tt.rule, in.full(), in.empty(), len(in.ready), in.droppable)
		}
	}
	for _, tt := range []struct {
		in                          *inbox
		limit                       int
		single, room, pending, pace bool
	}{
		{newInbox(context.Background(), 7, true, false), 1, true, false, true, false},
		{newBatchInbox(context.Background(), 7, false, true), batchBacklog, false, true, false, true},
	} {
		if in := tt.in; in.limit != tt.limit || in.single != tt.single || in.room != nil != tt.room || in.pace != nil != tt.pace ||
			in.wantPending != tt.pending || in.wantFaults == tt.pending || in.deadline != 7 || in.ctx == nil {
			t.Errorf("%+v, want %+v", in, tt)
		}
	}
	in := newInbox(context.Background(), never, true, true)
	if in.put(pending); in.empty() {
		t.Error("an inbox with an event is empty")
	}
	in.take()
	(&subscription{entry: new(entry), to: in}).link()
	if in.empty() {
		t.Error("an inbox with a job is empty")
	}
}

func seq(from, to int) (s []int) {
	for i := from; i < to; i++ {
		s = append(s, i)
	}
	return s
}
