package vtclient

import (
	"slices"
	"testing"
	"time"
)

// A job about which nothing is known holds up the completions of maxHeld others and no
// more: then it counts as given up if it was seen, and once more if it ends.
func TestAJobHoldsUpABoundedNumberOfCompletions(t *testing.T) {
	for _, tt := range []struct {
		rule string
		seen bool
		ends *lesson  // the holder's, in the end; nil: there is none
		want []lesson // before those held up
		last []lesson // and after them
	}{
		{"seen, and ends after all", true, &lesson{Completion: Completion{PendingAt: time.Minute, Expected: time.Second, DoneBy: time.Hour}},
			[]lesson{{Completion: Completion{PendingAt: time.Minute, Expected: time.Second}}}, []lesson{{Completion: Completion{PendingAt: time.Minute, Expected: time.Second, DoneBy: time.Hour}}}},
		{"never seen, and given up", false, nil, nil, nil},
	} {
		var o completions
		for range 2 { // the count starts anew
			holder := o.begin(&poll{seen: tt.seen, pendingAt: time.Minute, expected: time.Second}, 0)
			var want []lesson
			for i := range maxHeld {
				if len(o.ready) != 0 || o.held != i {
					t.Fatalf("%s: %d completions are ready and %d held after %d jobs", tt.rule, len(o.ready), o.held, i)
				}
				c := lesson{Completion: Completion{DoneBy: time.Duration(i + 1)}}
				o.end(o.begin(&poll{seen: true}, 0), &c, true, 0)
				want = append(want, c)
			}
			o.end(holder, tt.ends, tt.ends != nil, 0)
			want = append(append(slices.Clone(tt.want), want...), tt.last...)
			if !slices.Equal(slices.Concat(o.ready...), want) {
				t.Fatalf("%s: %d completions, want %d, or others", tt.rule, len(o.ready), len(want))
			}
			if o.held != 0 || o.order != nil {
				t.Errorf("%s: %d are held, order %v", tt.rule, o.held, o.order)
			}
			o.ready, o.longest = nil, 0
		}
	}
}

// A million completions in one piece would be copied under the engine's lock.
func TestCompletionsWaitInSmallParts(t *testing.T) {
	var o completions
	const n = 10 * readyPart
	for i := range n {
		o.deliver(lesson{Completion: Completion{DoneBy: time.Duration(i)}})
	}
	for _, part := range o.ready {
		if cap(part) >= 2*readyPart {
			t.Fatalf("a part has room for %d", cap(part))
		}
	}
	for i := range n {
		if c, ok := o.next(); !ok || c.DoneBy != time.Duration(i) {
			t.Fatalf("%v, %v, want %d", c.DoneBy, ok, i)
		}
	}
	if _, ok := o.next(); ok || o.ready != nil {
		t.Error("something is left")
	}
}

// Completions are ready in the order in which the jobs began to be waited for.
func TestTheOrderOfCompletions(t *testing.T) {
	const s = testSecond
	done := func(n int) *lesson { return &lesson{Completion: Completion{DoneBy: time.Duration(n)}} }
	type end struct {
		job  int
		at   int64
		c    *lesson
		done bool
	}
	for _, tt := range []struct {
		rule string
		ends []end
		want []time.Duration // of jobs 0, 1, 2, which begin at 0, 1 s and 2 s
		left int
	}{
		{"in their order", []end{{0, 3 * s, done(1), true}, {1, 4 * s, done(2), true}}, []time.Duration{1, 2}, 1},
		{"one that is still waited for holds up the others", []end{{1, 3 * s, done(2), true}, {2, 4 * s, done(3), true}}, nil, 3},
		{"until it ends", []end{{1, 3 * s, done(2), true}, {0, 4 * s, done(1), true}}, []time.Duration{1, 2}, 1},
		{"one that teaches nothing holds up none", []end{{1, 3 * s, done(2), true}, {0, 4 * s, nil, false}}, []time.Duration{2}, 1},
		{"waited for four times as long as any, it holds up", []end{{1, 3 * s, done(2), true}, {2, 8 * s, done(3), false}}, nil, 3},
		{"longer, it does not", []end{{1, 3 * s, done(2), true}, {2, 8*s + 4, done(3), false}}, []time.Duration{0, 2, 3}, 0},
		{"given up is no measure of how long a job takes", []end{{1, 3 * s, done(2), false}, {2, 100 * s, done(3), false}}, nil, 3},
		{"learnt as given up, it is learnt once more", []end{{1, 3 * s, done(2), true}, {2, 9 * s, done(3), false}, {0, 20 * s, done(1), true}}, []time.Duration{0, 2, 3, 1}, 0},
		{"or not, where nothing is to be learnt", []end{{1, 3 * s, done(2), true}, {2, 9 * s, done(3), false}, {0, 20 * s, nil, false}}, []time.Duration{0, 2, 3}, 0},
	} {
		var o completions
		o.first = 1<<32 - 2 // numbers begin anew
		for i := range 3 {
			if number := o.begin(&poll{seen: i == 0}, int64(i)*s); number != o.first+uint32(i)+1 {
				t.Errorf("%s: job %d has number %d", tt.rule, i, number)
			}
		}
		first := o.first
		for _, e := range tt.ends {
			o.end(first+uint32(e.job)+1, e.c, e.done, e.at)
		}
		if len(o.order) != tt.left {
			t.Errorf("%s: %d are left in the order, want %d", tt.rule, len(o.order), tt.left)
		}
		var got []time.Duration
		for c, ok := o.next(); ok; c, ok = o.next() {
			got = append(got, c.DoneBy)
		}
		if !slices.Equal(got, tt.want) || o.ready != nil {
			t.Errorf("%s: %v, want %v", tt.rule, got, tt.want)
		}
	}
}
