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
