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
		ends *Completion  // the holder's, in the end; nil: there is none
		want []Completion // before those held up
		last []Completion // and after them
	}{
		{"seen, and ends after all", true, &Completion{PendingAt: time.Minute, Expected: time.Second, DoneBy: time.Hour},
			[]Completion{{PendingAt: time.Minute, Expected: time.Second}}, []Completion{{PendingAt: time.Minute, Expected: time.Second, DoneBy: time.Hour}}},
		{"never seen, and given up", false, nil, nil, nil},
	} {
		var o completions
		for range 2 { // the count starts anew
			holder := o.begin(&poll{seen: tt.seen, pendingAt: time.Minute, expected: time.Second}, 0)
			var want []Completion
			for i := range maxHeld {
				if len(o.ready) != 0 || o.held != i {
					t.Fatalf("%s: %d completions are ready and %d held after %d jobs", tt.rule, len(o.ready), o.held, i)
				}
				c := Completion{DoneBy: time.Duration(i + 1)}
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
		o.deliver(Completion{DoneBy: time.Duration(i)})
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
