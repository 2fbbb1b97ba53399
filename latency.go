package vtclient

import (
	"sync"
	"time"
)

// latency keeps a smoothed round trip and its mean deviation, as TCP does for
// its retransmission timer (Jacobson and Karels, "Congestion Avoidance and
// Control", 1988; RFC 6298).
type latency struct {
	mu        sync.Mutex
	seen      bool
	mean, dev time.Duration
}

func (l *latency) observe(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.seen {
		l.seen, l.mean, l.dev = true, d, d/2
		return
	}
	l.dev += ((l.mean - d).Abs() - l.dev) / 4
	l.mean += (d - l.mean) / 8
}

// bound returns a time within which nearly all exchanges end, by RFC 6298, and
// false if none has been seen yet.
func (l *latency) bound() (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mean + 4*l.dev, l.seen
}
