package vtclient

import (
	"net/http"
	"strings"
	"time"
)

// retryAfter returns the pause that a Retry-After header asks for (RFC 9110,
// 10.2.3): whole seconds, or a date in one of the three forms of HTTP. It
// returns 0 for a date in the past and for anything else.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if strings.Trim(v, "0123456789") == "" {
		var s int64
		for _, digit := range []byte(v) {
			if s = s*10 + int64(digit-'0'); s >= int64(maxHint/time.Second) {
				return maxHint
			}
		}
		return time.Duration(s) * time.Second
	}
	t, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	// By the server's own clock where the answer has it: ours may be off.
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(0, t.Sub(now)), maxHint)
}

// maxHint is the longest pause, ten years: longer ones are cut to it.
const maxHint = 10 * 365 * 24 * time.Hour

// clockSkew returns by how much the local clock is ahead of the server's, as the Date of
// an answer that arrived at the time given shows it; 0: by less than what a Date can
// show, or the answer comes out of a cache on the way.
func clockSkew(h http.Header, at time.Time) time.Duration {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || h.Get("Age") != "" {
		return 0
	}
	if d := at.Sub(date); d.Abs() > 2*time.Second {
		return d
	}
	return 0
}
