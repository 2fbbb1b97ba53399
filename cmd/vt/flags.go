package main

import (
	"fmt"
	"strconv"
	"time"
)

// parseSpan reads a duration with its unit.
func parseSpan(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return 0, fmt.Errorf("%s has no unit: %ss?", text, text)
		}
		return 0, fmt.Errorf("%q is not a duration like 45s or 1h30m", text)
	}
	return d, nil
}

func positive(text string) (time.Duration, error) {
	d, err := parseSpan(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%v is not positive", d)
	}
	return d, err
}

// A span is a flag.Value: a positive duration. The zero span is one that was not given.
type span time.Duration

func (s *span) String() string {
	if *s == 0 {
		return ""
	}
	return time.Duration(*s).String()
}

func (s *span) Set(text string) error {
	d, err := positive(text)
	*s = span(d)
	return err
}

// An instant is a flag.Value: a time of day in RFC 3339.
type instant struct{ time.Time }

func (i *instant) String() string {
	if i.IsZero() {
		return ""
	}
	return i.Format(time.RFC3339Nano)
}

func (i *instant) Set(text string) error {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return fmt.Errorf("%q is not a time like 2026-01-02T15:04:05Z", text)
	}
	i.Time = t
	return nil
}

// A beginning is a flag.Value: when the jobs began.
type beginning struct{ instant }

func (b *beginning) Set(text string) error {
	if b.instant.Set(text) == nil {
		return nil
	}
	d, err := parseSpan(text)
	switch {
	case err != nil:
		return fmt.Errorf("%w, nor a time like 2026-01-02T15:04:05Z", err)
	case d < 0:
		return fmt.Errorf("%v ago is in the future", d)
	}
	b.Time = time.Now().Add(-d)
	return nil
}
