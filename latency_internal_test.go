package vtclient

import (
	"testing"
	"time"
)

// The bound within which nearly all exchanges end is that of RFC 6298, 2.2 and 2.3.
func TestLatencyFollowsRFC6298(t *testing.T) {
	var l latency
	if _, ok := l.bound(); ok {
		t.Error("a bound before anything was seen")
	}
	const ms = time.Millisecond
	for i, step := range []struct{ seen, mean, dev time.Duration }{
		{160 * ms, 160 * ms, 80 * ms},
		{80 * ms, 150 * ms, 80 * ms},
		{310 * ms, 170 * ms, 100 * ms},
	} {
		l.observe(step.seen)
		if got, ok := l.bound(); !ok || got != step.mean+4*step.dev {
			t.Errorf("after %d exchanges: %v, want %v", i+1, got, step.mean+4*step.dev)
		}
	}
}
