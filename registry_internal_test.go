package vtclient

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// A registry finds what a map would, and keeps no memory for what has gone.
func TestRegistry(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 5))
	var r registry
	want := map[string]*entry{}
	check := func() {
		t.Helper()
		n := 0
		for e := range r.all {
			if n++; want[e.id] != e {
				t.Fatalf("%s is there", e.id)
			}
		}
		if n != len(want) || r.n != n {
			t.Fatalf("%d polls, counted as %d, want %d", n, r.n, len(want))
		}
	}
	check()
	for step := range 20_000 {
		id := fmt.Sprint(rnd.IntN(10_000))
		e := r.get(id)
		if e != want[id] {
			t.Fatalf("%s: %v, want %v", id, e, want[id])
		}
		if e == nil {
			e = new(entry)
			e.id = id
			r.put(e)
			want[id] = e
		} else {
			r.remove(e)
			delete(want, id)
		}
		if step%1000 == 0 {
			check()
		}
	}
	for range r.all { // may be left
		break
	}
	for id, e := range want {
		r.remove(e)
		if delete(want, id); len(want) == 1000 {
			check()
			for i, p := range r.parts {
				if p.most > 64 && len(p.polls) < p.most/4 {
					t.Errorf("part %d has room for %d polls and holds %d", i, p.most, len(p.polls))
				}
			}
		}
	}
	if check(); r.parts != nil {
		t.Error("an empty registry keeps its parts")
	}
}

// A part that has lost most of its polls is made anew with the others, and none sooner.
func TestRegistryShrinks(t *testing.T) {
	for _, tt := range []struct {
		rule         string
		n, left      int
		most, polls0 int
	}{
		{"a quarter is left", 400, 100, 400, 100},
		{"less than a quarter is left", 400, 99, 99, 99},
		{"a small one stays", 64, 1, 64, 1},
	} {
		var r registry
		var all []*entry
		for i := range 1 << 20 {
			e := new(entry)
			if e.id = fmt.Sprint(i); i == 0 {
				r.put(e)
			} else if r.part(e.id) == r.part("0") {
				r.put(e)
			}
			if r.get(e.id) == e {
				all = append(all, e)
			}
			if len(all) == tt.n {
				break
			}
		}
		for _, e := range all[tt.left:] {
			r.remove(e)
		}
		if p := r.part("0"); p.most != tt.most || len(p.polls) != tt.polls0 {
			t.Errorf("%s: %d polls in room for %d, want %d in %d", tt.rule, len(p.polls), p.most, tt.polls0, tt.most)
		}
		for i, e := range all {
			if got := r.get(e.id); (got == e) != (i < tt.left) {
				t.Fatalf("%s: %s: %v", tt.rule, e.id, got)
			}
		}
	}
}
