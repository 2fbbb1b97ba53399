package cadence

import "math"

const (
	// doubtful is what a sample counts that is no evidence of a change: that of a failed
	// job, for failures in a row do not show that jobs have become shorter, and one whose
	// ratio to its estimate is off by more than absurd, as of an estimate in wrong units.
	doubtful = 0.99
	absurd   = 1e4
	// instant is the share of the age before which hardly any job ends, within which a
	// failure teaches nothing: what failed had hardly begun.
	instant = 1. / 32
	// exactShare of the age is how late a hint is at most, and how exact a duration
	// counts for that the backend reports.
	exactShare = 1e-3
	// maxAge bounds finite ages and ratios. 292 years, the longest time.Duration,
	// are less in seconds.
	maxAge = 1e10
)

// A Job is a completion in seconds: the duration lies in (Pending, Done].
type Job struct {
	Pending, Done float64 // Done is +Inf for a wait that was given up
	Expected      float64 // the caller's estimate; 0: none
	Hinted        bool    // Done is close to the truth
	Exact         bool    // Done is the duration itself
	Failed        bool
	ID            uint64  // random; 0: none
	Start         float64 // Unix time in seconds; 0: unknown
}

// sample returns what a job teaches, its ages being in units of unit seconds.
func (j Job) sample(unit float64) Sample {
	s := Sample{Lo: j.Pending, Hi: j.Done, Weight: 1, ID: j.ID, Start: j.Start}
	switch {
	case math.IsInf(j.Done, 1):
	case j.Exact: // it may have been seen pending after its end
		s.Lo = s.Hi * (1 - exactShare)
	case j.Hinted:
		s.Lo = max(s.Lo, s.Hi*(1-exactShare))
	}
	if j.Failed {
		s.Weight = doubtful
	}
	s.Lo /= unit
	s.Hi /= unit
	s.clamp()
	return s
}

// clamp brings a sample into the domain in which all operations stay: 0 ≤ Lo ≤ Hi, the
// finite ones up to maxAge.
func (s *Sample) clamp() {
	s.Lo = min(s.Lo, maxAge)
	if s.Hi > maxAge {
		s.Hi = math.Inf(1)
	}
}

// A Kind is what a model is about.
type Kind int

const (
	Plain Kind = iota // durations in seconds, of jobs without an estimate
	Ratio             // ratios of durations to estimates
)

// A Learner holds what is known of the jobs of one backend: a model of each kind, and
// how well hints come. Its zero value has learnt nothing; its methods are not safe for
// concurrent use.
type Learner struct {
	models   [2]*Model   // nil: not needed so far
	restored [2][]Sample // for the models that have not been needed since
	hints    Hints
	priced   float64 // Worth when CountHint last reported a change
}

// Worth returns how much dearer hints make a request.
func (l *Learner) Worth() float64 { return l.hints.Worth() }

// ExpectHints makes hints count in full: they come to a client.
func (l *Learner) ExpectHints() { l.hints.Live = true }

// Model returns the model of a kind. The first call after Restore takes some milliseconds.
func (l *Learner) Model(k Kind) *Model {
	if l.models[k] == nil {
		l.models[k] = RestoreModel(k, l.restored[k])
		l.restored[k] = nil
	}
	return l.models[k]
}

// CountHint learns whether a hint came for a job that has ended. It reports
// whether the price of a request has changed by so much that all schedules are out
// of date: that must not wait for the next estimate, as each job counts when
// hints cease.
func (l *Learner) CountHint(hinted bool) bool {
	l.hints.Count(hinted)
	w := l.Worth()
	if w <= 1.2*l.priced && l.priced <= 1.2*w {
		return false
	}
	l.priced = w
	return true
}

// Learn takes the duration of one job into account. It reports of which kinds the
// schedules are out of date. A job that failed at the first look, or in an instant, teaches
// nothing.
func (l *Learner) Learn(j Job) (changed [2]bool) {
	if j.Failed && (j.Pending == 0 || j.Done < instant*l.surely(j.Expected)) {
		return changed
	}
	if j.Expected <= 0 {
		changed[Plain] = l.Model(Plain).Learn(j.sample(1))
		return changed
	}
	s := j.sample(j.Expected)
	s.Estimate = min(j.Expected, maxAge)
	if s.Hi < 1/absurd || s.Lo > absurd {
		s.Weight = doubtful
	}
	changed[Ratio] = l.Model(Ratio).Learn(s)
	return changed
}

// surely returns the age before which hardly any job with an estimate ends, or without
// one where that is 0; 0 while little is known.
func (l *Learner) surely(expected float64) float64 {
	if expected > 0 {
		m := l.Model(Ratio)
		return (expected + m.Intercept) * m.Surely()
	}
	return l.Model(Plain).Surely()
}

// State returns what l has learnt; the samples are l's own.
func (l *Learner) State() State {
	st := State{Hints: l.hints, Samples: l.restored}
	for k, m := range l.models {
		if m != nil {
			st.Samples[k] = m.samples
		}
	}
	return st
}

// Restore replaces what l has learnt. It keeps the samples of st.
func (l *Learner) Restore(st State) {
	*l = Learner{hints: st.Hints, restored: st.Samples}
	l.priced = l.Worth()
}
