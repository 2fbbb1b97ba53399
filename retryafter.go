package vtclient

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxHint is the longest pause, ten years: longer ones are cut to it.
const maxHint = 10 * 365 * 24 * time.Hour

// pauseAsked returns the pause that an answer asks for, and reports whether it asks for one,
// which may be 0: by Retry-After in one of its forms, or on a 429 by the time at which the
// limit is lifted. Any answer may have the latter; only on a 429 is it a pause.
func pauseAsked(h http.Header, code int, now time.Time) (time.Duration, bool) {
	for _, name := range [...]string{"Retry-After-Ms", "X-Ms-Retry-After-Ms"} { // more exact than seconds
		if v := h[name]; len(v) > 0 {
			if d, ok := amount(v[0], time.Millisecond); ok {
				return d, true
			}
		}
	}
	if v := h["Retry-After"]; len(v) > 0 {
		if d, ok := retryAfter(v[0], h, now); ok {
			return d, true
		}
	}
	if code == http.StatusTooManyRequests {
		return untilReset(h, now)
	}
	return 0, false
}

// retryAfter reads a Retry-After header (RFC 9110, 10.2.3): whole seconds, or a date in one of
// the three forms of HTTP, 0 for one in the past.
func retryAfter(v string, h http.Header, now time.Time) (time.Duration, bool) {
	if digits(v) {
		return amount(v, time.Second)
	}
	t, err := http.ParseTime(v)
	return pauseUntil(t, h, now), err == nil
}

// pauseUntil returns the time until t, which is by the server's clock.
func pauseUntil(t time.Time, h http.Header, now time.Time) time.Duration {
	return min(max(0, t.Sub(serverTime(h, now))), maxHint)
}

// clockError is how far off a clock may be that has been set at all.
const clockError = 24 * time.Hour

// serverTime returns the time by the server's clock, as ours may be off. Date has it, but not
// beside an Age, where it is the time at which a cache got the answer, nor where it is
// further off than a clock can be.
func serverTime(h http.Header, now time.Time) time.Time {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || len(h["Age"]) > 0 || date.Sub(now).Abs() > clockError {
		return now
	}
	return date
}

// untilReset returns the time until a limit on requests is lifted: by RateLimit in both forms
// that its drafts have had, or by the headers that it is to replace.
func untilReset(h http.Header, now time.Time) (time.Duration, bool) {
	for _, name := range [...]string{"Ratelimit", "X-Ratelimit", "X-Rate-Limit"} {
		if v := h[name]; len(v) > 0 {
			if d, ok := rateLimit(strings.Join(v, ","), h, now); ok {
				return d, true
			}
		}
		if left, ok := amount(h.Get(name+"-Remaining"), 1); ok && left > 0 {
			continue // it is another limit
		}
		for _, suffix := range [...]string{"-Reset", "-Reset-After"} {
			if d, ok := resetTime(h.Get(name+suffix), h, now); ok {
				return d, true
			}
		}
	}
	return 0, false
}

// rateLimit reads a RateLimit header: a list of limits as in "default";r=0;t=30, or as earlier
// drafts had it limit=100, remaining=0, reset=30. Of several, the one of which the least is
// left counts, and of those the one that lasts longest.
func rateLimit(v string, h http.Header, now time.Time) (pause time.Duration, ok bool) {
	least := time.Duration(math.MaxInt64)
	for item := range strings.SplitSeq(v, ",") {
		var left, d time.Duration
		found := false
		for param := range strings.SplitSeq(item, ";") {
			key, value, _ := strings.Cut(strings.TrimSpace(param), "=")
			switch key {
			case "r", "remaining":
				left, _ = amount(value, 1)
			case "t", "reset":
				d, found = resetTime(value, h, now)
			}
		}
		switch {
		case !found || left > least:
		case left < least:
			least, pause, ok = left, d, true
		default:
			pause = max(pause, d)
		}
	}
	return pause, ok
}

// resetTime reads the time at which a limit is lifted: as a date, in seconds from now, in
// seconds since 1970, or in milliseconds since then. Their sizes differ: a pause is below
// maxHint, and the year 1980 is above that.
func resetTime(v string, h http.Header, now time.Time) (time.Duration, bool) {
	d, ok := amount(v, time.Second)
	if !ok {
		t, err := http.ParseTime(v)
		if err != nil {
			t, err = time.Parse(time.RFC3339, v)
		}
		return pauseUntil(t, h, now), err == nil
	}
	if d < maxHint {
		return d, true
	}
	f, _ := strconv.ParseFloat(v, 64)
	ms := f
	if f < maxHint.Seconds()*1000 {
		ms = math.Ceil(f * 1000)
	}
	return pauseUntil(time.UnixMilli(int64(min(ms, math.MaxInt64/1e6))), h, now), true
}

// amount reads a number of units, of digits with a point among them or without, and cuts it to
// maxHint.
func amount(v string, unit time.Duration) (time.Duration, bool) {
	whole, part, pointed := strings.Cut(v, ".")
	if !digits(whole) || pointed && !digits(part) {
		return 0, false
	}
	f, _ := strconv.ParseFloat(v, 64) // +Inf where it overflows
	if f = math.Ceil(f * float64(unit)); f < float64(maxHint) {
		return time.Duration(f), true
	}
	return maxHint, true
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// clockSkew returns by how much the local clock is ahead of the server's, as the Date of
// an answer that arrived at the time given shows it; 0: by less than what a Date can show.
func clockSkew(h http.Header, at time.Time) time.Duration {
	if d := at.Sub(serverTime(h, at)); d.Abs() > 2*time.Second {
		return d
	}
	return 0
}
