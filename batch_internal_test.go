package vtclient

import (
	"testing"
	"time"
)

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
