package simserver

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"time"
)

// A Job describes a job to create. The zero Job is one whose fate is drawn.
type Job struct {
	// ID names the job. It may hold any characters. Empty: the server makes one
	// (job-1, job-2, …).
	ID string

	// Started is when the job began; it may lie in the past or the future. Zero: now.
	Started time.Time

	// Duration is how long it takes. Zero: drawn from [WithDurations]. Negative:
	// none, it has ended when it starts. [Never]: until Complete or Fail ends it.
	Duration time.Duration

	// Fail makes it end in failure, Succeed in success. With neither,
	// [WithFailureRate] decides; Fail wins over Succeed.
	Fail, Succeed bool

	// Message is the reason in the answer about a failed job. Empty: "translation failed".
	Message string

	// Result holds members for the answer about a completed job, at its top level. It
	// must be fit for encoding/json. Nil: a "video_url" made from the id.
	Result map[string]any

	// Progress turns the share of the duration that has passed, 0 to 1 (0 for Never),
	// into the progress in the answers while the job is pending; 0 and less are left
	// out. Nil: the share itself. It must be safe for concurrent use.
	Progress func(share float64) float64

	submission // of one submitted over HTTP
}

// A submission is what a job was submitted with over HTTP.
type submission struct {
	submitted                                bool
	title, language, callbackURL, callbackID string
}

// Never is the Duration of a job that stays pending until [Server.Complete] or
// [Server.Fail] ends it.
const Never = time.Duration(math.MaxInt64)

const defaultMessage = "translation failed"

// Durations draws how long a job takes. It must draw all random numbers from the generator it
// is given, and must not call the server. A negative result counts as 0.
type Durations func(*rand.Rand) time.Duration

// Fixed makes every job take d.
func Fixed(d time.Duration) Durations {
	return func(*rand.Rand) time.Duration { return d }
}

// Uniform makes jobs take from min to max, each duration equally likely.
func Uniform(min, max time.Duration) Durations {
	if max < min {
		min, max = max, min
	}
	return func(r *rand.Rand) time.Duration {
		return saturate(float64(min) + r.Float64()*(float64(max)-float64(min)))
	}
}

// LogNormal makes half of the jobs take less than median, and the logarithm of the
// duration vary by sigma: with 0.5, two jobs in three lie between 0.6 and 1.65 times the
// median, and one in forty above 2.7 times. Durations of real jobs look like that.
func LogNormal(median time.Duration, sigma float64) Durations {
	return func(r *rand.Rand) time.Duration {
		return saturate(float64(median) * math.Exp(sigma*r.NormFloat64()))
	}
}

func saturate(ns float64) time.Duration {
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}

type state int

const (
	pending state = iota
	completed
	failed
)

// A job is a Job with nothing left open. It is never changed.
type job struct {
	Job
	result  map[string]json.RawMessage // the members of a completed answer
	hasFile bool                       // its result is the one made from the id, which WithDownloads serves
}

// draw draws what j leaves open. Each draw has its own generator, so that giving
// one value does not change another.
func (js *jobs) draw(j Job) *job {
	key := hash(j.ID)
	switch {
	case j.Duration == 0:
		j.Duration = max(0, js.cfg.durations(js.rand("duration", key, 0)))
	case j.Duration < 0:
		j.Duration = 0
	}
	if !j.Fail && !j.Succeed {
		j.Fail = js.rand("fail", key, 0).Float64() < js.cfg.failureRate
	}
	if j.Fail && j.Message == "" {
		j.Message = defaultMessage
	}
	made := &job{Job: j, hasFile: j.Result == nil}
	if made.hasFile {
		made.Result = map[string]any{"video_url": "https://videos.sim.invalid/" + fileName(j.ID)}
	}
	made.result = make(map[string]json.RawMessage, len(made.Result))
	for k, v := range made.Result {
		raw, err := json.Marshal(v)
		if err != nil {
			panic(fmt.Sprintf("simserver: Job.Result[%q]: %v", k, err))
		}
		made.result[k] = raw
	}
	return made
}

// fileName is the name of a job's result, escaped for a URL.
func fileName(id string) string {
	if id == "" {
		id = "default"
	}
	return url.PathEscape(id) + ".mp4"
}

func (j *job) state(now time.Time) state {
	switch {
	case j.Duration == Never || now.Sub(j.Started) < j.Duration:
		return pending
	case j.Fail:
		return failed
	}
	return completed
}

// progress is the progress of a pending job: below 1, in steps of 1/10000.
func (j *job) progress(now time.Time) float64 {
	if j.Duration <= 0 {
		return 0
	}
	var p float64 // a job that never ends by itself is nowhere on its way
	if j.Duration != Never {
		p = max(0, min(1, float64(now.Sub(j.Started))/float64(j.Duration)))
	}
	if j.Progress != nil {
		p = j.Progress(p)
	}
	if !(p > 0) { // NaN, too
		return 0
	}
	return math.Floor(min(p, 0.9999)*1e4) / 1e4
}
