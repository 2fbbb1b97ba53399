package cadence

const (
	// hintMemory is the number of completions over which the reliability of
	// hints is estimated while they come. Before each completion they cease, or
	// come back, with the probabilities hintsCease and hintsReturn; while they
	// have ceased, hintsStray of the completions are hinted all the same.
	hintMemory  = 400
	hintsCease  = 1. / 300
	hintsReturn = 1. / 50
	hintsStray  = 0.02
	// hintsCap bounds what a text may have as counts.
	hintsCap = 1e9
	// hintsMost bounds how far hints are relied upon: however well they come,
	// a request is worth a hundred times as much as without them at most.
	hintsMost = 0.99
)

// Hints is how well hints come: the filter of a hidden Markov model with the two
// states "they come" and "they do not". A webhook that is down differs from one that
// loses a few deliveries: where nearly all hints come, two or three completions without
// any are enough to poll as if there were none, and a hint or two end that.
type Hints struct {
	Hinted float64 // completions through hints while hints came, recent ones counting more
	Polled float64 // completions through polls, likewise
	Silent float64 // the probability that no hints come at present
	Live   bool    // the completions are a client's own, and not a record of the past
}

// Count learns from one completion.
func (h *Hints) Count(hinted bool) {
	come, cease := h.reliability(), hintsStray
	if !hinted {
		come, cease = 1-come, 1-cease
		h.Live = true
	}
	silent := h.Silent + (1-h.Silent)*hintsCease - h.Silent*hintsReturn
	h.Silent = silent * cease / (silent*cease + (1-silent)*come)
	keep := min(1, hintMemory/max(h.Hinted+h.Polled, 1)) * (1 - 1.0/hintMemory)
	h.Hinted *= keep
	h.Polled *= keep
	if hinted {
		h.Hinted += 1 - h.Silent
	} else {
		h.Polled += 1 - h.Silent
	}
}

// Worth returns the factor by which hints make a request dearer. Where hints
// arrive with reliability p, the delay that a poll saves is there to be saved in
// 1−p of the cases only, so a request has to be worth c/(1−p).
//
// Completions of a record of past jobs do not show that hints will come. So p
// counts as at most one half unless the completions are live; and as at most
// hintsMost ever: a webhook that breaks must not leave the waits without polls.
func (h *Hints) Worth() float64 {
	if h.Hinted == 0 {
		return 1
	}
	p := (1 - h.Silent) * h.reliability()
	if !h.Live {
		p = min(p, 0.5)
	}
	return 1 / (1 - p)
}

// reliability is the share of the completions that are hinted while hints come.
func (h *Hints) reliability() float64 {
	return min((h.Hinted+0.7)/(h.Hinted+h.Polled+1), hintsMost)
}

// merge returns the larger of each count: the sum would count twice what both have from
// an earlier merge.
func (h Hints) merge(o Hints) Hints {
	return Hints{
		Hinted: min(max(h.Hinted, o.Hinted), hintsCap),
		Polled: min(max(h.Polled, o.Polled), hintsCap),
		Silent: max(h.Silent, o.Silent),
		Live:   h.Live || o.Live,
	}
}
