package simserver

import (
	"strconv"
	"sync"
	"time"
)

// Create adds a job and returns its id. If there is a job of that ID already, the new
// one takes its place; what was counted for the id stays.
//
// Create panics if Job.Result cannot be encoded as JSON, or if Job.Duration is above zero
// and below a microsecond: that can only be a number without a unit.
func (s *Server) Create(j Job) (id string) {
	if err := unitless("Job.Duration", j.Duration); err != nil {
		panic(err.Error())
	}
	id, _ = s.jobs.create(j, true)
	return id
}

// Job returns a job as it was created, with Started, Duration, Fail and Message filled
// in by what was drawn for it: it ends at Started.Add(Duration). The empty id is the
// default job's; ok is false if there is no such job.
func (s *Server) Job(id string) (j Job, ok bool) {
	made := s.jobs.get(id)
	if made == nil {
		return Job{}, false
	}
	return made.Job, true
}

// Complete ends a pending job now, with success, and reports whether there was one.
func (s *Server) Complete(id string) bool {
	return s.jobs.end(id, func(j *Job) { j.Fail, j.Succeed, j.Message = false, true, "" })
}

// Fail ends a pending job now, with failure, and reports whether there was one. An
// empty message is the job's own, or "translation failed".
func (s *Server) Fail(id, message string) bool {
	return s.jobs.end(id, func(j *Job) {
		j.Fail, j.Succeed = true, false
		if message != "" {
			j.Message = message
		}
		if j.Message == "" {
			j.Message = defaultMessage
		}
	})
}

// Jobs are those of one server, by id.
type jobs struct {
	dice
	cfg   *config
	hooks *announcer // is called under the lock, and never calls back
	tally *tally

	mu   sync.Mutex
	byID map[string]*job
	made int // ids made so far
}

func newJobs(cfg *config, d dice, hooks *announcer, t *tally) *jobs {
	js := &jobs{dice: d, cfg: cfg, hooks: hooks, tally: t, byID: make(map[string]*job)}
	def := cfg.defaultJob
	def.ID = ""
	if def.Started.IsZero() {
		def.Started = js.epoch()
	}
	js.byID[""] = js.draw(def)
	return js
}

// get returns a job, or nil if there is none.
func (js *jobs) get(id string) *job {
	js.mu.Lock()
	defer js.mu.Unlock()
	return js.byID[id]
}

// create returns ok false if the id is taken and must not be.
func (js *jobs) create(j Job, replace bool) (id string, ok bool) {
	now := time.Now()
	if j.Started.IsZero() {
		j.Started = now
	}
	js.mu.Lock()
	if j.ID == "" {
		for taken := true; taken; _, taken = js.byID[j.ID] {
			js.made++
			j.ID = "job-" + strconv.Itoa(js.made)
		}
	} else if _, taken := js.byID[j.ID]; taken && !replace {
		js.mu.Unlock()
		return j.ID, false
	}
	made := js.draw(j)
	js.put(made, now)
	js.mu.Unlock()
	js.created(made)
	return j.ID, true
}

// put stores a job in the place of any of its id. It is called under the lock.
func (js *jobs) put(j *job, now time.Time) {
	js.byID[j.ID] = j
	js.hooks.watch(j, now)
}

func (js *jobs) created(j *job) {
	js.tally.count(func(c *counters) { c.created++ })
	js.changed(j)
}

// changed reports a new or changed job. The lock is not held.
func (js *jobs) changed(j *job) {
	if js.cfg.onJob != nil {
		js.cfg.onJob(j.Job)
	}
}

func (js *jobs) end(id string, how func(*Job)) bool {
	now := time.Now()
	js.mu.Lock()
	old, ok := js.byID[id]
	if !ok || old.state(now) != pending {
		js.mu.Unlock()
		return false
	}
	j := *old // handlers read jobs without the lock: replace, never change
	j.Duration = now.Sub(j.Started)
	how(&j.Job)
	js.put(&j, now)
	js.mu.Unlock()
	js.changed(&j)
	return true
}

// lookup returns a job, creating it if the server does so, and nil if there is none.
func (js *jobs) lookup(id string) *job {
	js.mu.Lock()
	j := js.byID[id]
	create := j == nil && js.cfg.autoCreate
	if create {
		j = js.draw(Job{ID: id, Started: js.epoch()})
		js.put(j, time.Now())
	}
	js.mu.Unlock()
	if create {
		js.created(j)
	}
	return j
}

// watch has the announcer watch the jobs that are pending.
func (js *jobs) watch(now time.Time) {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.byID {
		if j.state(now) == pending {
			js.hooks.watchNew(j, now)
		}
	}
}

// unfinished is how many jobs of those submitted over HTTP are pending.
func (js *jobs) unfinished(now time.Time) (n int) {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.byID {
		if j.submitted && j.state(now) == pending {
			n++
		}
	}
	return n
}

func (js *jobs) epoch() time.Time {
	if js.cfg.epoch.IsZero() {
		return time.Now()
	}
	return js.cfg.epoch
}
