package vtclient

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// crowdOf returns deadlines at those times, each begun at 0, of one poll.
func crowdOf(c *crowd, own bool, ats ...int64) (d *deadlines, all []*deadline) {
	d = new(deadlines)
	for _, at := range ats {
		dl := &deadline{at: at, crowd: c, sub: new(subscription)}
		d.add(0, dl, own)
		all = append(all, dl)
	}
	return d, all
}

func TestWhenTheLastPollIsDue(t *testing.T) {
	const sec = testSecond
	pace := lastPace{usual: 10, least: 5}
	for _, tt := range []struct {
		rule      string
		ats       []int64
		now, next int64
		floor     int64
		started   int64
		madeAt    int64
		want      int64
		left      int // deadlines that a last poll may still be made for
	}{
		{rule: "none without a deadline", next: never, want: never},
		{rule: "just before the deadline", ats: []int64{100 * sec}, next: never, want: 99 * sec, left: 1},
		{rule: "of the earliest of them", ats: []int64{100 * sec, 50 * sec}, next: never, want: 49 * sec, left: 2},
		{rule: "none where the schedule has one before", ats: []int64{100 * sec}, next: 99 * sec, want: never, left: 1},
		{rule: "one where it does not", ats: []int64{100 * sec}, next: 99*sec + 1, want: 99 * sec, left: 1},
		{rule: "none where the schedule's is due", ats: []int64{100 * sec}, now: 99*sec + 5, next: 99*sec + 5, want: never, left: 1},
		{rule: "at once where an answer takes longer than there is time", ats: []int64{100 * sec}, now: 99*sec + 5, next: never, want: 99*sec + 5, left: 1},
		{rule: "none once it has been made", ats: []int64{100 * sec}, next: never, started: 99 * sec, want: never},
		{rule: "one where the last exchange was before", ats: []int64{100 * sec}, next: never, started: 99*sec - 1, want: 99*sec - 1 + testFloor, left: 1},
		{rule: "one for all of which it falls into the last tenth", ats: []int64{100 * sec, 101 * sec}, next: never, started: 99 * sec, madeAt: 99 * sec, want: never},
		{rule: "from its beginning", ats: []int64{100 * sec}, next: never, started: 90 * sec, madeAt: 90 * sec, want: never},
		{rule: "and not for the others", ats: []int64{100 * sec, 111 * sec}, next: never, started: 99 * sec, madeAt: 99 * sec, want: 110 * sec, left: 1},
		{rule: "an exchange of the schedule's serves no others", ats: []int64{101 * sec}, next: never, started: 99 * sec, want: 100 * sec, left: 1},
		{rule: "not before the server allows it", ats: []int64{100 * sec}, next: never, floor: 99*sec + 7, want: 99*sec + 7, left: 1},
		{rule: "none where it allows it too late", ats: []int64{100 * sec}, next: never, floor: 100 * sec, want: never, left: 1},
		{rule: "none at the deadline itself", ats: []int64{100 * sec}, now: 100 * sec, next: never, want: never, left: 1},
	} {
		var c crowd
		d, _ := crowdOf(&c, false, tt.ats...)
		d.madeAt = tt.madeAt
		p := poll{floor: tt.floor, started: tt.started}
		if tt.started == 0 {
			p.started = -testFloor
		}
		if got := d.lastPoll(tt.now, tt.next, &p, time.Second, pace); got != tt.want || d.unserved.Len() != tt.left {
			t.Errorf("%s: at %d with %d left, want %d with %d", tt.rule, got, d.unserved.Len(), tt.want, tt.left)
		}
		if len(c) > 0 != (tt.left > 0) {
			t.Errorf("%s: %v are counted", tt.rule, c)
		}
	}
}

// An exchange that begins when a last poll is due is one, and no other is.
func TestWhichExchangeIsALastPoll(t *testing.T) {
	for _, tt := range []struct {
		rule   string
		lastAt int64
		now    int64
		madeAt int64
		left   int
	}{
		{"before any is planned", 0, 95, 0, 2},
		{"before it is due", 90, 89, 0, 2},
		{"when it is due", 90, 90, 90, 1},
		{"later", 90, 95, 95, 1},
	} {
		var c crowd
		d, all := crowdOf(&c, false, 100, 200)
		all[0].lastAt = tt.lastAt
		if d.begin(tt.now); d.madeAt != tt.madeAt || d.unserved.Len() != tt.left {
			t.Errorf("%s: made at %d with %d left, want %d with %d", tt.rule, d.madeAt, d.unserved.Len(), tt.madeAt, tt.left)
		}
		d.serve(all[0])
		d.serve(all[1])
		if d.begin(tt.now); c != nil {
			t.Errorf("%s: %v are counted, and none is left", tt.rule, c)
		}
	}
}

// Last polls begin as early as is needed for all of them to come before their deadlines.
func TestLastPollsAreSpread(t *testing.T) {
	const sec = testSecond
	for _, tt := range []struct {
		rule    string
		counted int32 // deadlines of the crowd in the same second
		now     int64
		floor   int64
		pace    lastPace
		want    int64
	}{
		{"one alone", 1, 0, 0, lastPace{usual: sec, least: sec / 2}, 99 * sec},
		{"many, at the usual pace while they fit into the last tenth", 11, 0, 0, lastPace{usual: sec, least: sec / 2}, 89 * sec},
		{"and at the least where they do not", 12, 0, 0, lastPace{usual: sec, least: sec / 2}, 93*sec + sec/2},
		{"or where there is less time left", 11, 89*sec + 1, 0, lastPace{usual: sec, least: sec / 2}, 94 * sec},
		{"but never faster than the latency allows", 11, 0, 0, lastPace{usual: sec, least: 2 * sec}, 79 * sec},
		{"not in the past", 11, 98 * sec, 0, lastPace{usual: sec, least: sec}, 98 * sec},
		{"not before the server allows it", 11, 0, 95 * sec, lastPace{usual: sec, least: sec}, 95 * sec},
		{"after that in half of the time that is left", 11, 0, 99*sec + sec/2, lastPace{usual: sec, least: sec}, 99*sec + sec/2 + sec/4},
		{"or in as much as they need", 2, 0, 99*sec + sec/2, lastPace{usual: 10, least: 4}, 99*sec + sec/2 + 10},
		{"at no time before the first", 1, 0, 0, lastPace{usual: 1, least: 1}, 99 * sec},
	} {
		c := crowd{100: tt.counted}
		dl := &deadline{at: 100 * sec, opens: 90 * sec, crowd: &c}
		if got := dl.choose(tt.now, 99*sec, tt.floor, tt.pace); got != tt.want {
			t.Errorf("%s: at %v, want %v", tt.rule, time.Duration(got), time.Duration(tt.want))
		}
	}
	c := crowd{0: 1}
	if got := (&deadline{at: 5, crowd: &c}).choose(0, -3, 0, lastPace{1, 1}); got != 1 {
		t.Errorf("a time of 0 or less stands for none: %d", got)
	}
}

func TestCrowd(t *testing.T) {
	const sec = testSecond
	var c crowd
	for i, at := range []int64{5 * sec, 5*sec + 7, 6 * sec} {
		if before, want := c.add(at, 1), []int32{0, 1, 0}[i]; before != want {
			t.Errorf("%d: %d before, want %d", at, before, want)
		}
	}
	if c.add(5*sec, -1); !reflect.DeepEqual(c, crowd{5: 1, 6: 1}) {
		t.Errorf("one gone: %v", c)
	}
	if c.forget(6 * sec); !reflect.DeepEqual(c, crowd{6: 1}) {
		t.Errorf("after forgetting: %v", c)
	}
	if c.add(6*sec, -1); c != nil {
		t.Errorf("an empty crowd keeps %v", c)
	}
	for _, tt := range []struct {
		rule    string
		c       crowd
		at, gap int64
		want    int64
	}{
		{"nothing", nil, 100 * sec, 10, 0},
		{"one", crowd{100: 1}, 100 * sec, 10, 0},
		{"those of one second", crowd{100: 5}, 100*sec + sec/2, sec / 10, 4 * sec / 10},
		{"a second that is full overflows into the one before", crowd{97: 5, 99: 3, 100: 11}, 100 * sec, sec / 10, 13 * sec / 10},
		{"and one that is not does not", crowd{99: 3, 100: 11}, 101 * sec, sec / 10, 0},
		{"nor one that is just full", crowd{99: 3, 100: 6}, 100*sec + sec/2, sec / 10, 5 * sec / 10},
		{"but one that has one more does", crowd{99: 3, 100: 7}, 100*sec + sec/2, sec / 10, 9 * sec / 10},
		{"up to ten minutes back", crowd{0: 1, 1: 1, 600: 601}, 600 * sec, sec, 601 * sec},
	} {
		if got := tt.c.spread(tt.at, tt.gap); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.rule, got, tt.want)
		}
	}
}

// The deadlines of jobs end their waits, the earliest first, and those of callers do not.
func TestOwnDeadlines(t *testing.T) {
	var c crowd
	d, all := crowdOf(&c, true, 30, 10, 20)
	other := &deadline{at: 5, crowd: &c}
	d.add(0, other, false)
	if got := d.nextOwn(); got != 10 {
		t.Errorf("the earliest is %d", got)
	}
	if d.expired(9) != nil || d.expired(10) != all[1].sub {
		t.Error("the first is not the one at 10")
	}
	d.remove(other)
	d.serve(all[1]) // its last poll was made
	for i, want := range []int64{20, 30, never} {
		d.remove(d.expired(40).deadlineIn(all))
		if got := d.nextOwn(); got != want {
			t.Errorf("after %d: the earliest is %d, want %d", i, got, want)
		}
	}
	if d.expired(40) != nil || c != nil || d.own.list != nil || d.unserved.list != nil || d.counted != nil {
		t.Errorf("what is left: %+v, crowd %v", d, c)
	}
	late := &deadline{at: 150, crowd: &c}
	d.add(50, late, false)
	if late.opens != 140 || d.nextOwn() != never {
		t.Errorf("the last tenth begins at %d", late.opens)
	}
}

// deadlineIn returns the one of a subscription.
func (s *subscription) deadlineIn(all []*deadline) *deadline {
	return all[slices.IndexFunc(all, func(dl *deadline) bool { return dl.sub == s })]
}

// In whatever order deadlines come and go, the earliest is first and counted once.
func TestDeadlinesInRandomOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 4))
	var c crowd
	d := new(deadlines)
	var left []*deadline
	for step := range 2000 {
		if n := len(left); n == 0 || rnd.IntN(n+20) < 20 {
			dl := &deadline{at: int64(rnd.IntN(1_000_000)), crowd: &c}
			d.add(0, dl, step%2 == 0)
			left = append(left, dl)
		} else {
			i := rnd.IntN(n)
			d.remove(left[i])
			left = slices.Delete(left, i, i+1)
		}
		var first *deadline
		if len(left) > 0 {
			first = slices.MinFunc(left, func(a, b *deadline) int { return int(a.at - b.at) })
		}
		switch got := d.unserved.first(); {
		case first == nil && (got != nil || c != nil), first != nil && (got == nil || got.at != first.at || fmt.Sprint(c) != "map[0:1]"):
			t.Fatalf("step %d: first %+v, want %+v; counted %v", step, got, first, c)
		}
	}
}
