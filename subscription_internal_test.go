package vtclient

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A subscription stands in the list of its poll and in that of its inbox, each in the
// order in which they began.
func TestTheListsOfSubscriptions(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 6))
	entries, inboxes := make([]entry, 3), make([]inbox, 3)
	var all []*subscription
	for step := range 2000 {
		if n := len(all); n == 0 || rnd.IntN(n+5) < 5 {
			s := &subscription{entry: &entries[rnd.IntN(3)], to: &inboxes[rnd.IntN(3)]}
			s.link()
			all = append(all, s)
		} else {
			i := rnd.IntN(n)
			s := all[i]
			s.unlink()
			if s.next != nil || s.prev != nil || s.nextIn != nil || s.prevIn != nil {
				t.Fatalf("step %d: one that has ended holds others", step)
			}
			all = slices.Delete(all, i, i+1)
		}
		for i := range 3 {
			e, in := &entries[i], &inboxes[i]
			ofPoll := slices.DeleteFunc(slices.Clone(all), func(s *subscription) bool { return s.entry != e })
			ofInbox := slices.DeleteFunc(slices.Clone(all), func(s *subscription) bool { return s.to != in })
			if got := slices.Collect(e.subscriptions); !slices.Equal(got, ofPoll) {
				t.Fatalf("step %d: poll %d has %v, want %v", step, i, got, ofPoll)
			}
			for range e.subscriptions { // may be left
				break
			}
			if n := len(ofPoll); n == 0 && e.subs != nil || n > 0 && e.subs.prev != ofPoll[n-1] {
				t.Fatalf("step %d: poll %d has another youngest", step, i)
			}
			var got, back []*subscription
			for s := in.first; s != nil; s = s.nextIn {
				got = append(got, s)
			}
			for s := in.latest; s != nil; s = s.prevIn {
				back = append(back, s)
			}
			if slices.Reverse(back); !slices.Equal(got, ofInbox) || !slices.Equal(back, ofInbox) {
				t.Fatalf("step %d: inbox %d has %v, and backwards %v, want %v", step, i, got, back, ofInbox)
			}
		}
	}
	// The loop may end the subscription that it is at.
	for range 2 {
		(&subscription{entry: &entries[0], to: &inboxes[0]}).link()
	}
	for s := range entries[0].subscriptions {
		s.unlink()
	}
	if entries[0].subs != nil {
		t.Error("not all have ended")
	}
}
