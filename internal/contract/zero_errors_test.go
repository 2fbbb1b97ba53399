package contract_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/vtclient/vtclient"
)

// The zero value of each error type, and one whose fields are nil, has a text, and can be
// searched: a program may make them in its own tests.
func TestTheZeroValueOfEachErrorCanBeUsed(t *testing.T) {
	for _, err := range []error{
		&vtclient.JobError{}, &vtclient.HTTPError{}, &vtclient.TransportError{}, &vtclient.DecodeError{}, &vtclient.UnknownStateError{},
		&vtclient.RefusedError{}, &vtclient.WaitError{}, &vtclient.SubmitError{}, &vtclient.ArgumentError{},
		&vtclient.WaitError{Fault: &vtclient.TransportError{}}, &vtclient.WaitError{Cause: &vtclient.WaitError{}},
		&vtclient.WaitError{Fault: io.EOF, Last: vtclient.Status{State: vtclient.StatePending}},
	} {
		if text := err.Error(); !strings.HasPrefix(text, "vtclient: ") || strings.Contains(text, "nil") {
			t.Errorf("%T: %q", err, text)
		}
		var wait *vtclient.WaitError
		var timeout interface{ Timeout() bool }
		if errors.Is(err, context.Canceled) || errors.As(fmt.Errorf("%w", err), &timeout) && timeout.Timeout() {
			t.Errorf("%T matches what it is not", err)
		}
		if errors.As(err, &wait) {
			for _, e := range wait.Unwrap() {
				if e == nil {
					t.Errorf("%+v wraps a nil", wait)
				}
			}
		}
	}
	if (&vtclient.RefusedError{}).RetryAfter() != 0 || (&vtclient.TransportError{}).Timeout() {
		t.Error("a zero value has a pause or is a timeout")
	}
	if err := error(&vtclient.WaitError{Fault: io.EOF}); !errors.Is(err, io.EOF) {
		t.Error("the fault of an error without a cause is not found")
	}
	if got, want := (&vtclient.WaitError{JobID: "j", Requests: 2}).Error(), `vtclient: job "j": ended without a result after 2 requests: for an unknown reason`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
