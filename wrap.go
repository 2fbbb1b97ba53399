package vtclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// contextCause describes why ctx is done: it matches ctx.Err() and, where the
// caller gave one, the cause.
func contextCause(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	switch {
	case err == nil: // its deadline has come; its timer is about to fire
		return context.DeadlineExceeded
	case errors.Is(cause, err):
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// A refusedUntil is the cause of a wait's end where nothing came of it since the
// breaker's last refusal. Its text is composed when it is asked for, as the cause
// may be the caller's own error.
type refusedUntil struct{ cause, refusal error }

func (e *refusedUntil) Error() string {
	return e.cause.Error() + ", while the breaker let nothing through (" + e.refusal.Error() + ")"
}
func (e *refusedUntil) Unwrap() []error { return []error{e.cause, e.refusal} }

// asSaid keeps the text of an error as it is now: that of a breaker has the time that
// is left.
func asSaid(err error) *textError { return &textError{err.Error(), err} }

// brief shows the text of an error from outside on one bounded line.
func brief(err error) error { return &textError{inside(err), err} }

// A textError has a text of its own in the place of err's, and wraps err.
type textError struct {
	text string
	err  error
}

func (e *textError) Error() string { return e.text }
func (e *textError) Unwrap() error { return e.err }

// A foreignError is an error from outside under a text that may be shown. It matches
// what err does, except for the context errors: those belong to the caller's own context.
type foreignError struct {
	text  string
	err   error // nil: dropped
	typed bool  // errors.As finds what err has
}

// hideContextErrors returns err, as a foreignError if it matches a context error.
func hideContextErrors(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &foreignError{text: err.Error(), err: err}
	}
	return err
}

func (e *foreignError) Error() string { return e.text }

func (e *foreignError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.err, &t) && t.Timeout()
}

func (e *foreignError) Is(target error) bool {
	return target != context.Canceled && target != context.DeadlineExceeded && errors.Is(e.err, target)
}

func (e *foreignError) As(target any) bool { return e.typed && errors.As(e.err, target) }

// jsonMismatch rewrites what encoding/json reports about JSON of another shape: its words
// are the names of Go's types, which do not appear in the description of an API.
func jsonMismatch(err error) error {
	var m *json.UnmarshalTypeError
	if !errors.As(err, &m) || m.Type == nil {
		return err
	}
	kind, digits, _ := strings.Cut(m.Value, " ") // as in "array" and "number 1.5"
	got := "a JSON " + strings.Replace(kind, "bool", "boolean", 1)
	if digits != "" {
		got += " (" + digits + ")"
	}
	if m.Field != "" {
		got += " in " + strconv.Quote(m.Field)
	}
	return &textError{strings.Replace(err.Error(), m.Error(), got+", expected "+jsonKind(m.Type), 1), err}
}

// jsonKind is the kind of JSON value that fits a type of Go.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return jsonKind(t.Elem())
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "a boolean"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	if t.ConvertibleTo(reflect.TypeFor[int]()) {
		return "an integer of " + strconv.Itoa(t.Bits()) + " bits"
	}
	return "another kind of value"
}

// errHeld reports that a 429 holds the client for longer than WithMaxRetryAfter
// allows.
func errHeld(left, bound time.Duration) error {
	return fmt.Errorf("%w: an earlier 429 holds this request for another %v, and the bound is %v",
		ErrRetryAfter, left.Round(time.Second), bound)
}

// errTooLong reports that the server asks for a longer pause than WithMaxRetryAfter allows.
func errTooLong(bound time.Duration) error {
	return fmt.Errorf("%w: the bound is %v", ErrRetryAfter, bound)
}

// inside is the text of an error as it stands inside that of another: on one
// line, which is all that a log may get of it, and without our prefix. err is nil in
// an error of the caller's own making that lacks its cause.
func inside(err error) string {
	if err == nil {
		return "for an unknown reason"
	}
	return oneLine(strings.TrimPrefix(err.Error(), "vtclient: "), 500)
}

// oneLine makes a short printable line of text from outside: control
// characters and runs of space become one space, what is not UTF-8 becomes
// U+FFFD, and what goes past limit bytes is cut.
func oneLine(s string, limit int) string {
	var b strings.Builder
	space := false
	for _, r := range s {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			space = b.Len() > 0
			continue
		}
		n := utf8.RuneLen(r)
		if space {
			n++
		}
		if b.Len()+n > limit-len("…") {
			b.WriteString("…")
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}
