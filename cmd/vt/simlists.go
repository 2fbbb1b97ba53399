package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

// A settings is a flag.Value: a list like a=1,b=2s.
type settings struct {
	text string
	set  map[string]func(value string) error
}

func (s *settings) String() string { return s.text }

func (s *settings) Set(text string) error {
	for item := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(item), "=")
		set := s.set[name]
		if !ok || set == nil {
			return fmt.Errorf("%q is none of %s", item, strings.Join(s.names(), ", "))
		}
		if err := set(value); err != nil {
			return fmt.Errorf("%s: %w", item, err)
		}
	}
	s.text = text
	return nil
}

func (s *settings) names() []string {
	var names []string
	for _, name := range []string{"size", "expires", "rate", "cut", "limit", "pause", "credit", "time"} {
		if s.set[name] != nil {
			names = append(names, name+"=")
		}
	}
	return names
}

// results is a flag.Value: the files of a simulated backend.
func results(d *simserver.Downloads) *settings {
	return &settings{set: map[string]func(string) error{
		"size":    func(v string) error { return setSize(&d.Size, v) },
		"rate":    func(v string) error { return setSize(&d.Rate, v) },
		"expires": func(v string) error { return setTime(&d.Expires, v) },
		"cut": func(v string) error {
			var r rate
			err := r.Set(v)
			d.Cut = float64(r)
			return err
		},
	}}
}

// Submissions are what a simulated backend makes of those.
type submissions struct {
	limit, credit int // 0: none; negative credit: any
	pause, time   time.Duration
}

func (s *submissions) flag() *settings {
	return &settings{set: map[string]func(string) error{
		"limit":  func(v string) error { return setNumber(&s.limit, v) },
		"credit": func(v string) error { return setNumber(&s.credit, v) },
		"pause":  func(v string) error { return setTime(&s.pause, v) },
		"time":   func(v string) error { return setTime(&s.time, v) },
	}}
}

func (s *submissions) options() []simserver.Option {
	opts := []simserver.Option{simserver.WithJobLimit(s.limit, s.pause), simserver.WithSubmitTime(s.time)}
	if s.credit >= 0 {
		opts = append(opts, simserver.WithCredit(s.credit))
	}
	return opts
}

func setTime(d *time.Duration, text string) (err error) {
	*d, err = positive(text)
	return err
}

func setNumber(n *int, text string) (err error) {
	if *n, err = strconv.Atoi(text); err != nil || *n < 0 {
		return errors.New("want a number of 0 or more")
	}
	return nil
}

// setSize reads a number of bytes, such as 5MB.
func setSize(n *int64, text string) error {
	number, unit := text, 1.0
	for _, u := range []struct {
		name  string
		bytes float64
	}{{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			number, unit = rest, u.bytes
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v > 0) || v*unit < 1 || v*unit > math.MaxInt64/2 {
		return fmt.Errorf("%q is not a size like 500kB or 5MB", text)
	}
	*n = int64(v * unit)
	return nil
}

// size is a number of bytes to be read by people.
func size(n int64) string {
	switch {
	case n < 1000:
		return count(int(n), "byte")
	case n < 1e6:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
