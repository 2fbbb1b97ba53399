package cadence

const (
	// sharedUntil is how many jobs without an estimate it takes until those
	// with one no longer teach the plain distribution; sharedWeight is what
	// they count until then.
	sharedUntil  = 20
	sharedWeight = 0.25
	// exactShare of the age is how late a hint is at most.
	exactShare = 1e-3
)

// A Job is a completion in seconds: the duration lies in (Pending, Done].
type Job struct {
	Pending, Done float64 // Done is +Inf for a wait that was given up
	Expected      float64 // the caller's estimate; 0: none
	Hinted        bool
}

// A Learner holds what is known of the jobs of one backend: durations without an
// estimate, ratios of durations to estimates, and how well hints come. Its zero
// value has learnt nothing; its methods are not safe for concurrent use.
type Learner struct {
	plain, ratio *Model // nil: not needed so far
	hints        Hints
	own          int     // completions without an estimate, up to sharedUntil
	priced       float64 // Worth when CountHint last reported a change
}

// Worth returns how much dearer hints make a request.
func (l *Learner) Worth() float64 { return l.hints.Worth() }

// ExpectHints makes hints count in full: they come to a client.
func (l *Learner) ExpectHints() { l.hints.Live = true }

// Plain returns the model of durations in seconds.
func (l *Learner) Plain() *Model {
	if l.plain == nil {
		l.plain = NewModel(false)
	}
	return l.plain
}

// Ratio returns the model of the ratios of durations to estimates.
func (l *Learner) Ratio() *Model {
	if l.ratio == nil {
		l.ratio = NewModel(true)
	}
	return l.ratio
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

// Learn takes the duration of one job into account. It reports whether the schedules of jobs
// without an estimate, and of those with one, are out of date.
func (l *Learner) Learn(j Job) (plain, ratio bool) {
	s := Sample{j.Pending, j.Done, 1}
	if j.Hinted {
		s.Lo = max(s.Lo, s.Hi*(1-exactShare))
	}
	if j.Expected <= 0 {
		l.own = min(l.own+1, sharedUntil)
		return l.Plain().Learn(s), false
	}
	// Until there are enough jobs without an estimate, those with one are the
	// best there is to learn from about durations as such.
	if l.own < sharedUntil {
		shared := Sample{s.Lo, s.Hi, sharedWeight}
		if lo := j.Expected * l.Ratio().Surely(); lo < s.Hi {
			shared.Lo = max(s.Lo, lo)
		}
		plain = l.Plain().Learn(shared)
	}
	s.Lo /= j.Expected
	s.Hi /= j.Expected
	return plain, l.Ratio().Learn(s)
}

// State returns what l has learnt; the samples are l's own.
func (l *Learner) State() State {
	st := State{Hints: l.hints, Own: l.own}
	if l.plain != nil {
		st.Plain = l.plain.samples
	}
	if l.ratio != nil {
		st.Ratio = l.ratio.samples
	}
	return st
}

// Restore replaces what l has learnt.
func (l *Learner) Restore(st State) {
	*l = Learner{hints: st.Hints, own: st.Own, plain: RestoreModel(false, st.Plain)}
	l.priced = l.Worth()
	if len(st.Ratio) > 0 {
		l.ratio = RestoreModel(true, st.Ratio)
	}
}
