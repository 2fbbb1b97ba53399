package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/vtclient/vtclient"
)

// A job is one job of a wait.
type job struct {
	id        string
	name      string // the id, escaped for display
	language  string // that it was submitted for; "": it was not
	state     vtclient.State
	progress  float64
	sent      int    // requests that went out under its id; see requests
	answers   int    // with its state
	faults    int    // all
	faulty    bool   // the last request under its id met a fault that is not counted yet
	inARow    int    // faults since the last answer
	lastFault string // of those; not escaped

	forecast      forecaster // nil: the cadence does not learn
	message       string     // the backend's; not escaped
	resultMissing bool       // completed, and its result is not there
	hinted        bool       // a webhook has announced its end

	began       time.Time // the wait
	started     time.Time // the job, where that is known; else the wait
	lastPending time.Time // the last answer of that state
	ended       time.Time // the wait; zero: goes on
	outcome     outcome
	status      vtclient.Status // the last
	result      string          // the result's URL; not escaped
	err         error
	cause       string // of err, in the command's words; not escaped
	crowded     bool   // there are too many jobs for a line about each pending answer
}

// A forecaster is the method Explain of an Adaptive.
type forecaster func(vtclient.Attempt) vtclient.Forecast

// requests is how many requests have asked for the job. A request for several jobs
// at once is traced under one id; for the others, its answers and faults count.
func (j *job) requests() int { return max(j.sent, j.answers+j.faults) }

// An outcome is how the wait for a job ended.
type outcome string

const (
	completed   outcome = "completed"
	failed      outcome = "failed"
	timeout     outcome = "timeout"
	interrupted outcome = "interrupted"
	errored     outcome = "error"
)

// word is the outcome for people.
func (o outcome) word() string {
	if o == timeout {
		return "still running"
	}
	return string(o)
}

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return completed
	case errors.Is(err, vtclient.ErrJobFailed):
		return failed
	}
	// By the cause alone: the last fault may be a timeout, too.
	var w *vtclient.WaitError
	if errors.As(err, &w) {
		switch {
		case errors.Is(w.Cause, context.Canceled):
			return interrupted
		case errors.Is(w.Cause, context.DeadlineExceeded):
			return timeout
		}
	}
	return errored
}

// age is how long the job has been waited for.
func (j *job) age() time.Duration {
	if !j.ended.IsZero() {
		return j.ended.Sub(j.began)
	}
	return time.Since(j.began)
}

// observe takes over an answer.
func (j *job) observe(st vtclient.Status) {
	if st.State == "" {
		return
	}
	j.status, j.state, j.message, j.inARow, j.lastFault, j.resultMissing = st, st.State, st.Message, 0, "", st.ResultMissing
	switch st.State {
	case vtclient.StatePending:
		j.progress, j.lastPending = st.Progress, st.CheckedAt
	case vtclient.StateCompleted:
		j.progress = 1
	}
}

// A forecast means something once it rests on this many jobs, and when nine of ten
// jobs take at most three times as long as half of them do. A cadence that has learnt
// nothing expects anything between a moment and an hour.
const (
	forecastJobs   = 10
	forecastSpread = 3
)

// outlook returns what the cadence expects of a job that goes on; ok is false where that
// means nothing yet.
func (j *job) outlook() (age time.Duration, f vtclient.Forecast, ok bool) {
	if j.forecast == nil || j.state.Terminal() || j.resultMissing || j.lastFault != "" {
		return 0, f, false
	}
	age = time.Since(j.started)
	at := vtclient.Attempt{Number: j.requests(), Elapsed: age}
	if !j.lastPending.IsZero() {
		at.PendingAt = j.lastPending.Sub(j.started)
	}
	f = j.forecast(at)
	return age, f, f.Jobs >= forecastJobs && age+f.P90 <= forecastSpread*(age+f.Median)
}

// estimate is how much longer the job is expected to take; "" where that is not known.
func (j *job) estimate() string {
	_, f, ok := j.outlook()
	switch {
	case !ok:
		return ""
	case f.P90 <= 0:
		return "longer than others"
	case f.Median <= 0:
		return "any moment, 9 of 10 within " + seconds(f.P90)
	}
	return fmt.Sprintf("about %s to go, 9 of 10 within %s", seconds(f.Median), seconds(f.P90))
}

// lastOf is the time until the last of n jobs like j is expected to end: half the
// time it is more, half the time less. It takes the duration's logarithm to be
// normally distributed, which the median and the ninth decile then determine.
func (j *job) lastOf(n int) (left time.Duration, ok bool) {
	age, f, ok := j.outlook()
	if !ok || f.Median <= 0 || f.P90 <= f.Median {
		return 0, false
	}
	const ninthDecile = 1.2816 // in standard deviations above the median
	sigma := math.Log(float64(age+f.P90)/float64(age+f.Median)) / ninthDecile
	all := math.Pow(0.5, 1/float64(n)) // the share of jobs that end before the last one does
	z := math.Sqrt2 * math.Erfinv(2*all-1)
	return time.Duration(float64(age+f.Median)*math.Exp(sigma*z)) - age, true
}
