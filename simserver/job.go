package simserver

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"strconv"
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

	title, callbackURL, callbackID string // of one submitted over HTTP
}

// Never is the Duration of a job that stays pending until [Server.Complete] or
// [Server.Fail] ends it.
const Never = time.Duration(math.MaxInt64)

const defaultMessage = "translation failed"

// Durations draws how long a job takes. It must take all its chance from the
// generator it is given, and must not call the server. A negative result counts as 0.
type Durations func(*rand.Rand) time.Duration

// Fixed makes every job take d.
func Fixed(d time.Duration) Durations {
	return func(*rand.Rand) time.Duration { return d }
}

// Uniform makes jobs take anything from min to max, all alike likely.
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

// Create adds a job and returns its id. If there is a job of that ID already, the new
// one takes its place; what was counted for the id stays.
//
// Create panics if Job.Result cannot be encoded as JSON, or if Job.Duration is above zero
// and below a microsecond: that can only be a number without a unit.
func (s *Server) Create(j Job) (id string) {
	if err := unitless("Job.Duration", j.Duration); err != nil {
		panic(err.Error())
	}
	id, _ = s.create(j, true)
	return id
}

// create returns ok false if the id is taken and must not be.
func (s *Server) create(j Job, replace bool) (id string, ok bool) {
	now := time.Now()
	if j.Started.IsZero() {
		j.Started = now
	}
	s.mu.Lock()
	if j.ID == "" {
		for taken := true; taken; _, taken = s.jobs[j.ID] {
			s.made++
			j.ID = "job-" + strconv.Itoa(s.made)
		}
	} else if _, taken := s.jobs[j.ID]; taken && !replace {
		s.mu.Unlock()
		return j.ID, false
	}
	made := s.newJob(j)
	s.put(made, now)
	s.stats.created++
	s.mu.Unlock()
	s.changed(made)
	return j.ID, true
}

// changed reports a new or changed job. The lock is not held.
func (s *Server) changed(j *job) {
	if s.cfg.onJob != nil {
		s.cfg.onJob(j.Job)
	}
}

// Job returns a job as it was created, with Started, Duration, Fail and Message filled
// in by what was drawn for it: it ends at Started.Add(Duration). The empty id is the
// default job's; ok is false if there is no such job.
func (s *Server) Job(id string) (j Job, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j, ok := s.jobs[id]; ok {
		return j.Job, true
	}
	return Job{}, false
}

// Complete ends a pending job now, with success, and reports whether there was one.
func (s *Server) Complete(id string) bool {
	return s.end(id, func(j *Job) { j.Fail, j.Succeed, j.Message = false, true, "" })
}

// Fail ends a pending job now, with failure, and reports whether there was one. An
// empty message is the job's own, or "translation failed".
func (s *Server) Fail(id, message string) bool {
	return s.end(id, func(j *Job) {
		j.Fail, j.Succeed = true, false
		if message != "" {
			j.Message = message
		}
		if j.Message == "" {
			j.Message = defaultMessage
		}
	})
}

func (s *Server) end(id string, how func(*Job)) bool {
	now := time.Now()
	s.mu.Lock()
	old, ok := s.jobs[id]
	if !ok || old.state(now) != pending {
		s.mu.Unlock()
		return false
	}
	j := *old // handlers read jobs without the lock: replace, never change
	j.Duration = now.Sub(j.Started)
	how(&j.Job)
	s.put(&j, now)
	s.mu.Unlock()
	s.changed(&j)
	return true
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
	result map[string]json.RawMessage // the members of a completed answer
}

// newJob draws what j leaves open. Each draw has its own generator, so that giving
// one value does not change another.
func (s *Server) newJob(j Job) *job {
	key := hash(j.ID)
	switch {
	case j.Duration == 0:
		j.Duration = max(0, s.cfg.durations(s.rand("duration", key, 0)))
	case j.Duration < 0:
		j.Duration = 0
	}
	if !j.Fail && !j.Succeed {
		j.Fail = s.rand("fail", key, 0).Float64() < s.cfg.failureRate
	}
	if j.Fail && j.Message == "" {
		j.Message = defaultMessage
	}
	if j.Result == nil {
		name := j.ID
		if name == "" {
			name = "default"
		}
		j.Result = map[string]any{"video_url": "https://videos.sim.invalid/" + url.PathEscape(name) + ".mp4"}
	}
	made := &job{Job: j, result: make(map[string]json.RawMessage, len(j.Result))}
	for k, v := range j.Result {
		raw, err := json.Marshal(v)
		if err != nil {
			panic(fmt.Sprintf("simserver: Job.Result[%q]: %v", k, err))
		}
		made.result[k] = raw
	}
	return made
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

// lookup returns a job, creating it if the server does so, and nil if there is none.
func (s *Server) lookup(id string) *job {
	s.mu.Lock()
	j := s.jobs[id]
	create := j == nil && s.cfg.autoCreate
	if create {
		j = s.newJob(Job{ID: id, Started: s.epoch()})
		s.put(j, time.Now())
		s.stats.created++
	}
	s.mu.Unlock()
	if create {
		s.changed(j)
	}
	return j
}

func (s *Server) epoch() time.Time {
	if s.cfg.epoch.IsZero() {
		return time.Now()
	}
	return s.cfg.epoch
}

// rand returns the generator for one purpose, one job and the n-th time.
func (s *Server) rand(purpose string, key uint64, n int) *rand.Rand {
	return rand.New(rand.NewPCG(mix(s.cfg.seed^hash(purpose)), mix(key+mix(uint64(n)))))
}

// hash is 64-bit FNV-1a.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix is the output function of SplitMix64: neighbouring numbers come out unrelated.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
