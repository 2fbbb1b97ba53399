package unit

import (
	"math"
	"testing"
	"time"
)

func TestMissing(t *testing.T) {
	const start = "at least 1ms; a number without a unit is in nanoseconds: did you mean "
	for _, tt := range []struct {
		rule string
		d    time.Duration
		want string
	}{
		{"zero has a meaning of its own", 0, ""},
		{"so has what is negative", -5, ""},
		{"the lowest", math.MinInt64, ""},
		{"one", 1, start + "1*time.Second?"},
		{"a number of seconds", 10, start + "10*time.Second?"},
		{"the last that is taken for seconds", 999, start + "999*time.Second?"},
		{"a number of milliseconds", 30_000, start + "30000*time.Millisecond?"},
		{"the seconds of a day", 86_400, start + "86400*time.Second?"},
		{"just below the least", time.Millisecond - 1, start + "999999*time.Millisecond?"},
		{"the least", time.Millisecond, ""},
		{"the longest", math.MaxInt64, ""},
	} {
		if got := Missing(tt.d, time.Millisecond); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.rule, got, tt.want)
		}
	}
}
