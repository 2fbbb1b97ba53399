package contract_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/internal/testserver"
)

// hinted returns what a client makes of a Retry-After header, in virtual time.
func pauseFor(t *testing.T, header ...string) time.Duration {
	t.Helper()
	c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 404, "", header...), nil }, once())
	_, err := c.Status(t.Context(), "j")
	var h *vtclient.HTTPError
	if !errors.As(err, &h) {
		t.Fatal(err)
	}
	return h.RetryAfter
}

// Property 7: seconds and all three HTTP dates; a past date is zero; junk,
// negative and decimal values fall back; what overflows is not negative.
func TestRetryAfterForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which begins at 2000-01-01T00:00:00Z
		const years = 10 * 365 * 24 * time.Hour
		for _, tt := range []struct {
			value, date string
			want        time.Duration
		}{
			{"0", "", 0},
			{"120", "", 2 * time.Minute},
			{"007", "", 7 * time.Second},
			{"Sat, 01 Jan 2000 00:01:30 GMT", "", 90 * time.Second},
			{"Saturday, 01-Jan-00 00:01:30 GMT", "", 90 * time.Second},
			{"Sat Jan  1 00:01:30 2000", "", 90 * time.Second},
			{"Fri, 31 Dec 1999 23:59:59 GMT", "", 0},
			{"Sat, 01 Jan 2000 00:00:00 GMT", "", 0},
			{"Fri, 31 Dec 9999 23:59:59 GMT", "", years},
			// The server's clock is an hour fast, an hour slow, or unreadable.
			{"Sat, 01 Jan 2000 01:00:30 GMT", "Sat, 01 Jan 2000 01:00:00 GMT", 30 * time.Second},
			{"Fri, 31 Dec 1999 23:00:30 GMT", "Fri, 31 Dec 1999 23:00:00 GMT", 30 * time.Second},
			{"Sat, 01 Jan 2000 00:00:30 GMT", "today", 30 * time.Second},
			{"", "", 0}, {"soon", "", 0}, {"-1", "", 0}, {"+5", "", 0}, {"1.5", "", 0}, {"1e3", "", 0}, {"5s", "", 0}, {"5, 6", "", 0}, {"٣", "", 0},
			{"Sat, 32 Jan 2000 00:00:30 GMT", "", 0},
			{"315359999", "", years - time.Second},
			{"315360000", "", years},
			{"922337203", "", years},
			{"9223372036", "", years},
			{"9223372037", "", years}, // the first whose nanoseconds overflow
			{"9223372039", "", years},
			{"18446744073709551616", "", years},
			{strings.Repeat("9", 1000), "", years},
		} {
			header := []string{"Retry-After: " + tt.value}
			if tt.date != "" {
				header = append(header, "Date: "+tt.date)
			}
			if got := pauseFor(t, header...); got != tt.want {
				t.Errorf("%.40q at %q: %v, want %v", tt.value, tt.date, got, tt.want)
			}
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, v := range []string{"0", "1", "-1", "9223372037", "99999999999999999999", "1.5", "Sat, 01 Jan 2000 00:01:30 GMT", "Saturday, 01-Jan-00 00:01:30 GMT", "Sat Jan  1 00:01:30 2000", "", "x"} {
		f.Add(v, "")
		f.Add(v, "Sat, 01 Jan 2000 00:00:00 GMT")
	}
	var header http.Header
	c, err := vtclient.New("http://h", vtclient.WithHTTPClient(&http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
		resp := respond(r, 404, "")
		resp.Header = header
		return resp, nil
	})}), once())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		header = http.Header{"Retry-After": {value}, "Date": {date}}
		_, err := c.Status(context.Background(), "j")
		var h *vtclient.HTTPError
		if !errors.As(err, &h) || h.RetryAfter < 0 || h.RetryAfter > 10*365*24*time.Hour {
			t.Fatalf("%q at %q: %v", value, date, err)
		}
		if h.RetryAfter > 0 && strings.Trim(value, "0123456789") != "" {
			if _, err := http.ParseTime(value); err != nil {
				t.Errorf("%q is no pause, and was taken for %v", value, h.RetryAfter)
			}
		}
	})
}

// Properties 6 and 8: never above the bound and never sooner than asked.
func TestRetryAfterOnAFaultIsAFloorWithinTheBound(t *testing.T) {
	for _, tt := range []struct {
		seconds int
		bound   time.Duration
		want    time.Duration // from the first request to the second; 0: none is made
	}{{5, time.Minute, 5 * time.Second}, {9, 9 * time.Second, 9 * time.Second}, {61, time.Minute, 0}, {1, time.Minute, 2 * time.Second}} {
		for _, code := range []int{429, 503} {
			synctest.Test(t, func(t *testing.T) {
				s := testserver.StartInMemory(t, testserver.Reply(code, "", fmt.Sprintf("Retry-After: %d", tt.seconds)), testserver.Pending())
				c := clientFor(t, s, vtclient.WithMaxRetryAfter(tt.bound),
					vtclient.WithRetry(vtclient.Exponential{Base: 4 * time.Second, Max: 4 * time.Second, Jitter: 0.5, Limit: 2}))
				start := time.Now()
				_, err := c.Status(t.Context(), "j")
				got := s.Requests()
				if tt.want == 0 {
					var h *vtclient.HTTPError
					if !errors.Is(err, vtclient.ErrRetryAfter) || !errors.As(err, &h) || h.RetryAfter != 61*time.Second || len(got) != 1 || time.Since(start) > 0 {
						t.Errorf("%d: %v, %d requests", code, err, len(got))
					}
					return
				}
				if err != nil || len(got) != 2 || got[1].Time.Sub(got[0].Time) < tt.want || got[1].Time.Sub(got[0].Time) > max(tt.want, 4*time.Second) {
					t.Errorf("%d, %d s: %v, %v", code, tt.seconds, err, got)
				}
			})
		}
	}
}

// The pause that comes with an unreadable answer is kept, too.
func TestAPauseBesideAnUnreadableAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testserver.StartInMemory(t, testserver.Reply(200, "<html>", "Retry-After: 9"), testserver.Completed())
		c := clientFor(t, s, every(time.Second, 3))
		start := time.Now()
		if _, err := c.Status(t.Context(), "j"); err != nil || time.Since(start) != 9*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A pause of seconds beyond ten years is ten years.
func TestAPauseOfElevenYears(t *testing.T) {
	if got := pauseFor(t, "Retry-After: 346896000"); got != 10*365*24*time.Hour {
		t.Error(got)
	}
}
