package vtclient

import "hash/maphash"

// A registry finds the poll of a job. It is a map in parts, since a map does not
// shrink: a part that has lost most of its entries is made anew, which takes
// a millisecond with a million of them, where the whole would take a second.
type registry struct {
	seed  maphash.Seed
	n     int
	parts *[64]registryPart // nil: there are no polls
}

type registryPart struct {
	polls map[string]*entry
	most  int // the largest number of entries since it was made
}

func (r *registry) part(id string) *registryPart {
	return &r.parts[maphash.String(r.seed, id)%uint64(len(r.parts))]
}

func (r *registry) get(id string) *entry {
	if r.parts == nil {
		return nil
	}
	return r.part(id).polls[id]
}

// all yields the polls in no order.
func (r *registry) all(yield func(*entry) bool) {
	if r.parts == nil {
		return
	}
	for i := range r.parts {
		for _, e := range r.parts[i].polls {
			if !yield(e) {
				return
			}
		}
	}
}

func (r *registry) put(e *entry) {
	if r.parts == nil {
		r.seed, r.parts = maphash.MakeSeed(), new([64]registryPart)
	}
	p := r.part(e.id)
	if p.polls == nil {
		p.polls = make(map[string]*entry)
	}
	p.polls[e.id] = e
	p.most = max(p.most, len(p.polls))
	r.n++
}

func (r *registry) remove(e *entry) {
	p := r.part(e.id)
	delete(p.polls, e.id)
	if r.n--; r.n == 0 {
		r.parts = nil
		return
	}
	if n := len(p.polls); p.most > 64 && n < p.most/4 {
		polls := make(map[string]*entry, n)
		for id, e := range p.polls {
			polls[id] = e
		}
		p.polls, p.most = polls, n
	}
}
