package vtclient

import (
	"context"
	"errors"
	"strings"
	"testing"
)

type refusingLimiter struct{}

func (refusingLimiter) Wait(context.Context) error { return errors.New("too many") }

// A limiter's refusal is a fault in which nothing was sent and that is no outage of the
// backend; its text names the limiter.
func TestALimitersRefusalIsNoOutage(t *testing.T) {
	c, err := New("http://stub.invalid", WithLimiter(refusingLimiter{}))
	if err != nil {
		t.Fatal(err)
	}
	out := c.exchange(t.Context(), inquiry{id: "j"}, 1)
	if out.verdict != fault || !out.limited || out.requests != 0 || out.number != 1 || !strings.Contains(out.err.Error(), "refused by the limiter: too many") {
		t.Errorf("%+v", out)
	}
	if c.outageSince.Load() != 0 {
		t.Error("an outage of the backend")
	}
}

// A fault of the backend is one.
func TestAFaultBeginsAnOutageAndAnAnswerEndsIt(t *testing.T) {
	var answer error
	c, err := New("", WithFetch(func(context.Context, string) (Status, error) { return Status{State: StatePending}, answer }))
	if err != nil {
		t.Fatal(err)
	}
	for _, answer = range []error{errors.New("down"), nil} {
		if out := c.exchange(t.Context(), inquiry{id: "j"}, 1); out.limited || (c.outageSince.Load() != 0) != (answer != nil) {
			t.Errorf("%v: an outage since %d", answer, c.outageSince.Load())
		}
	}
}
