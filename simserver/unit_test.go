package simserver_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

// A number without a unit is refused wherever a duration is given: New, the setters and
// Create panic, and Validate returns the error. What is negative keeps its meaning or its
// own error, and a microsecond is a duration like any other.
func TestANumberWithoutAUnitIsRefused(t *testing.T) {
	h := http.NotFoundHandler()
	for where, with := range map[string]func(d time.Duration){
		"Faults.RetryAfter": func(d time.Duration) { simserver.New(simserver.WithFaults(simserver.Faults{RetryAfter: d})).Close() },
		"Faults.DripEvery":  func(d time.Duration) { simserver.New(simserver.WithFaults(simserver.Faults{DripEvery: d})).Close() },
		"Faults.Latency":    func(d time.Duration) { simserver.New().SetFaults(simserver.Faults{Latency: d}) },
		"Faults.Jitter":     func(d time.Duration) { simserver.New().SetFaults(simserver.Faults{Jitter: d}) },
		"Webhook.Delay": func(d time.Duration) {
			simserver.New(simserver.WithWebhook(simserver.Webhook{Handler: h, Secret: "s", Delay: d})).Close()
		},
		"Webhook.Jitter": func(d time.Duration) {
			simserver.New().SetWebhook(simserver.Webhook{Handler: h, Secret: "s", Jitter: d})
		},
		"WithRetryAfter": func(d time.Duration) { simserver.New(simserver.WithRetryAfter(d)).Close() },
		"WithLateResult": func(d time.Duration) { simserver.New(simserver.WithLateResult(d)).Close() },
		"Job.Duration":   func(d time.Duration) { simserver.New().Create(simserver.Job{Duration: d}) },
	} {
		for _, d := range []time.Duration{0, 1, 30, 999, time.Microsecond, time.Minute} {
			got := fmt.Sprint(panicOf(func() { with(d) }))
			want := "<nil>"
			if 0 < d && d < time.Microsecond {
				want = fmt.Sprintf("simserver: %s: %v, want at least 1µs; a number without a unit is in nanoseconds: did you mean %d*time.Second?", where, d, int64(d))
			}
			if got != want {
				t.Errorf("%s of %v: %s, want %s", where, d, got, want)
			}
		}
	}
	if got := panicOf(func() { simserver.New().Create(simserver.Job{Duration: -1}) }); got != nil {
		t.Errorf("a negative duration, which is none: %v", got)
	}
}

func panicOf(f func()) (r any) {
	defer func() { r = recover() }()
	f()
	return nil
}
