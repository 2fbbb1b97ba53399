package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/vtclient/vtclient/simserver"
)

// A simulation is the flags that describe a simulated backend.
type simulation struct {
	duration   distribution
	failRate   rate
	faults     faultList
	seed       uint64
	retryAfter span
	autoCreate bool
	epoch      instant

	loss       rate
	lateResult span
}

// names of the flags that simulation adds.
var simulationFlags = []string{"duration", "fail-rate", "fault", "seed", "retry-after", "webhook-loss", "late-result"}

// those of them that are for HeyGen's API alone.
var heygenFlags = []string{"webhook-loss", "late-result"}

func (s *simulation) addFlags(fs *flag.FlagSet, where string) {
	fs.Var(&s.duration, "duration", "how long jobs take: a `distribution`, one of 45s, uniform:5s-30s and lognormal:3m,0.5 (half of the jobs take less than 3m; with a second number of 0.5, two jobs of three take 0.6 to 1.65 times that)"+where)
	fs.Var(&s.failRate, "fail-rate", "the share of jobs that fail: a `rate`, 0.1 or 10%"+where+" (default 0)")
	fs.Var(&s.faults, "fault", "faults to inject: a `list` such as 503:0.1,drop:5%,latency=200ms. Rates for a status code, drop, reset, cut, silence, drip, garbage; and retry-after=2s (of 429 and 503), latency=, jitter=, drip-every=, limit=3 (faults in all). May be repeated: the lists add up"+where)
	fs.Uint64Var(&s.seed, "seed", s.seed, "seed of the random numbers: a `number`"+where)
	fs.Var(&s.retryAfter, "retry-after", "the Retry-After of answers about pending jobs: a `time`, in whole seconds"+where+" (default none)")
	fs.Var(&s.loss, "webhook-loss", "the share of webhook deliveries that get lost: a `rate`, 0.1 or 10%; with -api heygen"+where+" (default 0)")
	fs.Var(&s.lateResult, "late-result", "the `time` for which a completed job lacks its video_url; with -api heygen"+where+" (default 0)")
}

func (s *simulation) options(token string) ([]simserver.Option, error) {
	if err := s.faults.Validate(); err != nil {
		return nil, fmt.Errorf("-fault: %v", strings.TrimPrefix(err.Error(), "simserver: "))
	}
	opts := []simserver.Option{
		simserver.WithSeed(s.seed),
		simserver.WithDurations(s.duration.draw),
		simserver.WithFailureRate(float64(s.failRate)),
		simserver.WithFaults(s.faults.Faults),
		simserver.WithRetryAfter(time.Duration(s.retryAfter)),
		simserver.WithEpoch(s.epoch.Time),
		simserver.WithToken(token),
		simserver.WithLateResult(time.Duration(s.lateResult)),
	}
	if s.autoCreate {
		opts = append(opts, simserver.WithAutoCreate())
	}
	return opts, nil
}

// A distribution is a flag.Value: how long jobs take.
type distribution struct {
	text string
	draw simserver.Durations
}

func (d *distribution) String() string { return d.text }

func (d *distribution) Set(text string) error {
	kind, rest, ok := strings.Cut(text, ":")
	if !ok {
		kind, rest = "fixed", text
	}
	switch kind {
	case "fixed":
		v, err := positive(rest)
		if err != nil {
			return err
		}
		d.draw = simserver.Fixed(v)
	case "uniform":
		from, to, ok := strings.Cut(rest, "-")
		if !ok {
			return errors.New("want uniform:5s-30s")
		}
		lo, err := positive(from)
		if err != nil {
			return err
		}
		hi, err := positive(to)
		if err != nil {
			return err
		}
		if hi < lo {
			return fmt.Errorf("%v is less than %v", hi, lo)
		}
		d.draw = simserver.Uniform(lo, hi)
	case "lognormal":
		median, spread, ok := strings.Cut(rest, ",")
		if !ok {
			return errors.New("want lognormal:3m,0.5")
		}
		m, err := positive(median)
		if err != nil {
			return err
		}
		sigma, err := strconv.ParseFloat(spread, 64)
		if err != nil || !(sigma >= 0) || math.IsInf(sigma, 0) {
			return fmt.Errorf("sigma %q is not a number of 0 or more", spread)
		}
		d.draw = simserver.LogNormal(m, sigma)
	default:
		return fmt.Errorf("no distribution %q: there are fixed, uniform, lognormal", kind)
	}
	d.text = text
	return nil
}

// A rate is a flag.Value from 0 to 1.
type rate float64

func (r *rate) String() string {
	if *r == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(*r), 'g', -1, 64)
}

func (r *rate) Set(text string) error {
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return fmt.Errorf("%q is not a rate: want 0 to 1, or 0%% to 100%%", text)
	}
	*r = rate(v)
	return nil
}

// A faultList is a flag.Value: faults by name, that add up.
type faultList struct {
	simserver.Faults
	text string
}

func (f *faultList) String() string { return f.text }

func (f *faultList) Set(text string) error {
	if text == "none" {
		*f = faultList{text: text}
		return nil
	}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if name, value, ok := strings.Cut(item, "="); ok {
			if err := f.setting(name, value); err != nil {
				return fmt.Errorf("%s: %w", item, err)
			}
			continue
		}
		name, value, ok := strings.Cut(item, ":")
		if !ok {
			return fmt.Errorf("%q is neither kind:rate, as in drop:0.05, nor name=value, as in latency=200ms", item)
		}
		var v rate
		if err := v.Set(value); err != nil {
			return fmt.Errorf("%s: %w", item, err)
		}
		at := map[string]*float64{
			"drop": &f.Drop, "reset": &f.Reset, "cut": &f.Cut,
			"silence": &f.Silence, "drip": &f.Drip, "garbage": &f.Garbage,
		}[name]
		if at != nil {
			*at = float64(v)
			continue
		}
		code, err := strconv.Atoi(name)
		if err != nil {
			return fmt.Errorf("no fault %q: there are drop, reset, cut, silence, drip, garbage and status codes", name)
		}
		if f.Status == nil {
			f.Status = make(map[int]float64)
		}
		f.Status[code] = float64(v)
	}
	f.text = text
	return nil
}

func (f *faultList) setting(name, value string) error {
	if name == "limit" {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return errors.New("want a number of 1 or more")
		}
		f.Limit = n
		return nil
	}
	at := map[string]*time.Duration{
		"latency": &f.Latency, "jitter": &f.Jitter, "drip-every": &f.DripEvery, "retry-after": &f.RetryAfter,
	}[name]
	if at == nil {
		return errors.New("there are latency, jitter, drip-every, retry-after, limit")
	}
	d, err := positive(value)
	*at = d
	return err
}
