package vtclient

// A subscription is one inbox's interest in one poll. It stands in the list of
// the poll, in that of the inbox, and while the poll is due in a queue of the
// inbox.
type subscription struct {
	entry *entry
	to    *inbox

	next, prev       *subscription // of the poll, in a ring that begins with the eldest
	nextIn, prevIn   *subscription // of the inbox, in the order in which the jobs were given
	nextDue, prevDue *subscription // of the queue, in a ring

	deadline *deadline // nil: none
	joinedAt int32     // the number of requests that had been made for the poll before
}

// subscriptions yields those of a poll, the eldest first. The loop may end the
// one that it is at.
func (e *entry) subscriptions(yield func(*subscription) bool) {
	for s, more := e.subs, e.subs != nil; more; {
		next := s.next
		if more = next != e.subs; !yield(s) {
			return
		}
		s = next
	}
}

// link enters a subscription at the end of both lists.
func (s *subscription) link() {
	e, in := s.entry, s.to
	if e.subs == nil {
		e.subs, s.next, s.prev = s, s, s
	} else {
		s.next, s.prev = e.subs, e.subs.prev
		s.prev.next, s.next.prev = s, s
	}
	if s.prevIn = in.latest; s.prevIn != nil {
		s.prevIn.nextIn = s
	} else {
		in.first = s
	}
	in.latest = s
	in.waiting++
}

// unlink takes a subscription out of both lists.
func (s *subscription) unlink() {
	e, in := s.entry, s.to
	if s.next == s {
		e.subs = nil
	} else {
		s.next.prev, s.prev.next = s.prev, s.next
		if e.subs == s {
			e.subs = s.next
		}
	}
	if s.prevIn != nil {
		s.prevIn.nextIn = s.nextIn
	} else {
		in.first = s.nextIn
	}
	if s.nextIn != nil {
		s.nextIn.prevIn = s.prevIn
	} else {
		in.latest = s.prevIn
	}
	s.next, s.prev, s.nextIn, s.prevIn = nil, nil, nil, nil
	in.waiting--
	signal(in.fewer)
}

func (en *entry) hasSingle() bool {
	for s := range en.subscriptions {
		if s.to.single {
			return true
		}
	}
	return false
}

// hasRoom reports whether a subscriber has room for an answer.
func (en *entry) hasRoom() bool {
	for s := range en.subscriptions {
		if !s.to.full() {
			return true
		}
	}
	return false
}
