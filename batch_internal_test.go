package vtclient

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// bulkClient is a client whose requests ask for so many jobs at most.
func bulkClient(t *testing.T, limit int) *Client {
	t.Helper()
	c, err := New("http://stub.invalid", WithEndpoint(Endpoint{
		Path:   "/j/{id}",
		Decode: func(Answer) (Status, error) { return Status{State: StatePending}, nil },
		Bulk:   Bulk{Path: "/j?ids={ids}", Limit: limit, Decode: func(Answer) ([]Status, string, error) { return nil, "", nil }},
	}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Which jobs a request for job "a" asks about, where "a" to "e" are waited for, "a" is due and
// the others are not.
func TestWhichJobsShareARequest(t *testing.T) {
	faults := func(n int16) func(en *entry, now int64) {
		return func(en *entry, _ int64) { en.trouble = &trouble{faults: n} }
	}
	var e *engine
	full := newInbox(t.Context(), never, true, false)
	full.events = []*event{{}}
	for _, tt := range []struct {
		rule  string
		limit int
		of    string // the job that change is about; "": none
		do    func(en *entry, now int64)
		to    *inbox // the caller of that job; nil: the same as that of the others
		s     sharing
		want  string
	}{
		{rule: "those that would be due next", limit: 3, want: "abc"},
		{rule: "two at most", limit: 2, want: "ab"},
		{rule: "all that there are", limit: 100, want: "abcde"},
		{rule: "none while the bulk path is left alone", limit: 3, s: sharing{restUntil: math.MaxInt64}, want: "a"},
		{rule: "what is due comes first", limit: 3, of: "d", do: func(en *entry, now int64) { en.next = now; e.agenda.enqueue(en, laneRest) }, want: "adb"},
		{rule: "and keeps its turn if it may not ride", limit: 3, of: "d", do: func(en *entry, now int64) {
			en.next, en.floor = now, now+1
			e.agenda.enqueue(en, laneRest)
		}, want: "abc"},
		{rule: "none that the server holds", limit: 3, of: "b", do: func(en *entry, now int64) { en.floor = now + 1 }, want: "acd"},
		{rule: "until then", limit: 3, of: "b", do: func(en *entry, now int64) { en.floor = now }, want: "abc"},
		{rule: "none that has just been asked about", limit: 3, of: "b", do: func(en *entry, now int64) { en.started = now - int64(pollFloor) + 1 }, want: "acd"},
		{rule: "but one asked about before", limit: 3, of: "b", do: func(en *entry, now int64) { en.started = now - int64(pollFloor) }, want: "abc"},
		{rule: "none that is being asked about", limit: 3, of: "b", do: func(en *entry, _ int64) { en.phase = asking }, want: "acd"},
		{rule: "none that has to be asked about alone", limit: 3, of: "b", do: func(en *entry, _ int64) { en.soloPolls = 1 }, want: "acd"},
		{rule: "nor with another one", limit: 3, of: "a", do: func(en *entry, _ int64) { en.soloPolls = 1 }, want: "a"},
		{rule: "none whose caller has no room", limit: 3, of: "b", to: full, want: "acd"},
		{rule: "none whose time is up", limit: 3, of: "b", do: func(en *entry, now int64) { en.subs.deadline = &deadline{at: now} }, want: "acd"},
		{rule: "but one whose time is not", limit: 3, of: "b", do: func(en *entry, now int64) { en.subs.deadline = &deadline{at: now + 1} }, want: "abc"},
		{rule: "after four faults it is tried alone", limit: 3, of: "a", do: faults(trialAfter), want: "a"},
		{rule: "after three it is not", limit: 3, of: "a", do: faults(trialAfter - 1), want: "abc"},
		{rule: "nor soon after another trial", limit: 3, of: "a", do: faults(trialAfter), s: sharing{trialAt: math.MaxInt64}, want: "abc"},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := bulkClient(t, tt.limit)
			e = &c.engine
			e.sharing = tt.s
			all := newBatchInbox(t.Context(), never, false, false)
			for _, id := range []string{"a", "b", "c", "d", "e"} {
				in := all
				if id == tt.of && tt.to != nil {
					in = tt.to
					in.ctx = t.Context()
				}
				waitsFor(t, c, in, id)
				time.Sleep(time.Second) // in this order
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			now := c.now()
			first := e.polls.get("a")
			if tt.do != nil {
				tt.do(e.polls.get(tt.of), now)
			}
			tr := &trip{e: e}
			got := "a"
			if b := tr.gather(first, now); b != nil {
				got = strings.Join(b.query.ids, "")
				for _, en := range b.entries {
					if en.phase != asking || !b.query.open[en.id] {
						t.Errorf("%s: %s is not asked about", tt.rule, en.id)
					}
				}
			}
			if got != tt.want || e.agenda.due() != (tt.rule == "and keeps its turn if it may not ride") {
				t.Errorf("%s: %q, want %q; some are due: %v", tt.rule, got, tt.want, e.agenda.due())
			}
			if alone := tt.rule == "after four faults it is tried alone"; (e.sharing.trialAt == later(now, trialEvery)) != alone {
				t.Errorf("%s: the next trial is at %d, now is %d", tt.rule, e.sharing.trialAt, now)
			}
			e.timer.Stop()
		})
	}
}

// What is learnt of the bulk path sets how many jobs a request may ask for.
func TestHowManyJobsMayShareARequest(t *testing.T) {
	long := int64(maxBulkRest)
	for _, tt := range []struct {
		rule string
		s    sharing
		now  int64
		want int
	}{
		{"no trouble", sharing{}, 5, 100},
		{"a path that is left alone", sharing{restUntil: 6}, 5, 1},
		{"not any more", sharing{restUntil: 5}, 5, 100},
		{"an answer that was too large", sharing{size: 10, sizeUntil: 6}, 5, 10},
		{"long ago", sharing{size: 10, sizeUntil: 5}, 5, 100},
		{"for more than the backend takes", sharing{size: 300, sizeUntil: 6}, 5, 100},
	} {
		if got := tt.s.limit(tt.now, 100); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.rule, got, tt.want)
		}
	}
	for _, tt := range []struct {
		rule string
		s    sharing
		n    int
		want int
		then sharing
	}{
		{"half as many", sharing{}, 100, 50, sharing{size: 50, sizeUntil: 5 + long, shrunk: 1}},
		{"and half of that", sharing{size: 50, sizeUntil: 6, shrunk: 1}, 50, 25, sharing{size: 25, sizeUntil: 5 + long, shrunk: 2}},
		{"a third time is of no use", sharing{size: 25, sizeUntil: 6, shrunk: 2}, 25, 0, sharing{size: 25, sizeUntil: 6, shrunk: 3}},
		{"nor is it for one job", sharing{}, 1, 0, sharing{size: 1, shrunk: 1}},
		{"two become one", sharing{}, 2, 1, sharing{size: 1, sizeUntil: 5 + long, shrunk: 1}},
		{"one of several under way does not count", sharing{size: 50, sizeUntil: 6, shrunk: 1}, 100, 50, sharing{size: 50, sizeUntil: 6, shrunk: 1}},
		{"anew after a while", sharing{size: 50, sizeUntil: 5, shrunk: 1}, 100, 50, sharing{size: 50, sizeUntil: 5 + long, shrunk: 2}},
	} {
		if got := tt.s.shrink(5, tt.n); got != tt.want || tt.s != tt.then {
			t.Errorf("%s: %d, %+v, want %d, %+v", tt.rule, got, tt.s, tt.want, tt.then)
		}
	}
}

// A bulk path that fails is left alone, longer from time to time, until it works again.
func TestHowLongABulkPathIsLeftAlone(t *testing.T) {
	var s sharing
	now := int64(0)
	for i, want := range []time.Duration{15, 30, 60, 120, 240, 480, 600, 600, 600, 600, 600, 600, 600} {
		if got := s.rest(now, now); got != want*time.Second || s.restFrom != now || s.restUntil != now+int64(got) {
			t.Errorf("failure %d: %v, %+v, want %v", i, got, s, want*time.Second)
		}
		began, failures := s.restUntil-1, s.failures // one of several under way
		if got := s.rest(now+testSecond, began); got != (want-1)*time.Second || s.failures != failures || s.restFrom != now {
			t.Errorf("failure %d, again: %v, %+v", i, got, s)
		}
		now = s.restUntil
	}
	if got := s.rest(s.restUntil+testSecond, 0); got != 0 {
		t.Errorf("a rest that is over lasts %v", got)
	}
	s.shrunk = 1
	if s.works(s.restFrom); s.failures == 0 || s.shrunk != 0 {
		t.Errorf("a request that began before the failure was answered: %+v", s)
	}
	if s.works(s.restFrom + 1); s.failures != 0 {
		t.Errorf("one that began after it was answered: %+v", s)
	}
	for _, tt := range []struct {
		rule  string
		ok    int64
		began int64
		want  bool
	}{
		{"no trial was answered", 0, 5, false},
		{"a trial was, just before", 5, 6, true},
		{"a trial was, after it began", 5, 5, false},
		{"a minute before", 5, 5 + int64(trialTrust), true},
		{"long before", 5, 6 + int64(trialTrust), false},
	} {
		if s := (sharing{trialOK: tt.ok}); s.mistrusted(tt.began) != tt.want {
			t.Errorf("%s: mistrusted: %v", tt.rule, !tt.want)
		}
	}
}

// The ids of a request are as long as fits, to the byte, as they are written.
func TestHowLongTheIDsOfARequestAre(t *testing.T) {
	room := maxBulkQuery - len(bulkClient(t, 10).route.bulk.target.query) - 2*len(",")
	for _, tt := range []struct {
		first, second string
		want          int
	}{
		{"a", strings.Repeat("b", room-1), 2},
		{"a", strings.Repeat("b", room), 1},
		{"a", strings.Repeat("ü", (room-1)/6), 2},
		{"a", strings.Repeat("ü", (room-1)/6+1), 1},
		{strings.Repeat("ü", 200), strings.Repeat("b", room-1200), 2},
		{strings.Repeat("ü", 200), strings.Repeat("b", room-1199), 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := bulkClient(t, 10)
			e := &c.engine
			waitsFor(t, c, newBatchInbox(t.Context(), never, false, false), tt.first, tt.second)
			e.mu.Lock()
			defer e.mu.Unlock()
			got := 1
			if b := (&trip{e: e}).gather(e.polls.get(tt.first), c.now()); b != nil {
				got = len(b.entries)
			}
			if e.timer.Stop(); got != tt.want {
				t.Errorf("%.3s… and %.3s…: %d ids, want %d", tt.first, tt.second, got, tt.want)
			}
		})
	}
}

// What rides along takes its place in the pace of first checks, unless it has been tried or has
// a place.
func TestWhatRidesAlongIsPaced(t *testing.T) {
	for _, tt := range []struct {
		rule  string
		do    func(*entry)
		paced bool
	}{
		{"a first check", func(*entry) {}, true},
		{"one that has its place", func(en *entry) { en.placed = true }, false},
		{"no first check", func(en *entry) { en.requests = 1 }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := bulkClient(t, 10)
			e := &c.engine
			in := newBatchInbox(t.Context(), never, false, false)
			waitsFor(t, c, in, "a", "b")
			e.mu.Lock()
			defer e.mu.Unlock()
			tt.do(e.polls.get("b"))
			(&trip{e: e}).gather(e.polls.get("a"), c.now())
			if e.timer.Stop(); in.pace.tat != 0 != tt.paced {
				t.Errorf("%s: paced: %v", tt.rule, !tt.paced)
			}
		})
	}
}

// What a request would probably ask for now: as many jobs as are waited for, or as it may.
func TestHowManyJobsARequestWouldAskFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bulkClient(t, 3)
		in := newBatchInbox(t.Context(), never, false, false)
		for n, want := range []int{0, 0, 2, 3, 3} {
			if got := c.engine.shared(); got != want {
				t.Errorf("%d jobs: %d, want %d", n, got, want)
			}
			defer waitsFor(t, c, in, numbers(n + 1)[n]).leave()
		}
	})
}

// A trip that is ended from within has dealt with the jobs that it asks about no more: those
// that another exchange asks about, or that wait.
func TestWhatATripHasNotDealtWith(t *testing.T) {
	b := &batch{began: 5}
	for _, tt := range []struct {
		phase   phase
		started int64
		want    bool
	}{{waiting, 5, false}, {queued, 5, false}, {asking, 5, true}, {deciding, 5, true}, {over, 5, false}, {asking, 6, false}, {deciding, 6, false}} {
		b.entries = []*entry{{poll: poll{phase: tt.phase, started: tt.started}}}
		if got := len(b.left()) == 1; got != tt.want {
			t.Errorf("phase %d, asked about at %d: %v", tt.phase, tt.started, got)
		}
	}
}

// A single answer to a job that has met four faults in shared requests is a trial that has
// succeeded.
func TestWhatIsATrial(t *testing.T) {
	for _, tt := range []struct {
		rule   string
		faults int16
		out    outcome
		want   bool
	}{
		{"answered alone", trialAfter, outcome{}, true},
		{"answered with others", trialAfter, outcome{jobs: 2}, false},
		{"after three faults", trialAfter - 1, outcome{}, false},
		{"not answered", trialAfter, outcome{verdict: left}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := bulkClient(t, 10)
			defer waitsFor(t, c, newInbox(t.Context(), never, false, false), "a").leave()
			e := &c.engine
			e.mu.Lock()
			defer e.mu.Unlock()
			en := e.polls.get("a")
			en.trouble = &trouble{faults: tt.faults}
			tt.out.status.State = StatePending
			(&trip{e: e}).observe(&step{entry: en, out: tt.out})
			if got := e.sharing.trialOK == c.now(); got != tt.want {
				t.Errorf("%s: a trial: %v", tt.rule, got)
			}
		})
	}
}
