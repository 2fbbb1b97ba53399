package cadence

import (
	"math"
	"math/rand/v2"
	"testing"
)

// An estimator gives the caller's estimate of a job's duration x, from the length of its
// video and, at a poll, from the age and the progress that the backend reports; 0: none.
type estimator func(length, x, age float64, r *rand.Rand) float64

// covariates returns the mean cost of jobs 50 to 400 whose durations are offset + length,
// both in seconds, with some noise.
func covariates(offset, noise float64, estimate estimator, replicas int) (cost float64) {
	const c, jobs, first = 1.0, 400, 50
	for k := range replicas {
		r := rand.New(rand.NewPCG(uint64(k), 21))
		p := newPlayer(c, uint64(k))
		made := make(map[int]*Schedule) // by half octaves of the estimate, as Adaptive keeps them
		for job := range jobs {
			length := 180 * math.Exp(.7*r.NormFloat64())
			x := (offset + length) * math.Exp(noise*r.NormFloat64())
			pend, at, paid, expected := 0.0, 0.0, 0.0, 0.0
			for {
				if e := estimate(length, x, pend, r); e > 0 {
					size := int(math.Round(2 * math.Log2(e)))
					if made[size] == nil {
						m := p.learner.Model(Ratio)
						made[size] = m.Schedule(c*m.Discount(0)/(math.Exp2(float64(size)/2)+m.Intercept), 0)
					}
					unit := e + made[size].Intercept
					at, expected = unit*made[size].Next(pend/unit, &p.explored, p.r.Float64), e
				} else {
					at = p.next(pend)
				}
				at = max(at, pend+.05)
				if paid += c; at >= x {
					break
				}
				pend = at
			}
			p.learn(Job{Pending: pend, Done: at, Expected: expected})
			clear(made)
			if job >= first {
				cost += (paid + at - x) / float64((jobs-first)*replicas)
			}
		}
	}
	return cost
}

// What would it save to learn an intercept beside the ratio, and to use the progress that
// a backend reports? The figures decide; see docs/cadence.md.
func TestFiguresCovariates(t *testing.T) {
	if figures == 0 {
		t.Skip("only with VTCLIENT_FIGURES")
	}
	none := func(_, _, _ float64, _ *rand.Rand) float64 { return 0 }
	for _, offset := range []float64{0, 20, 60, 180} {
		for _, noise := range []float64{.05, .2} {
			progress := func(error float64, fits func(done float64) float64) estimator {
				return func(length, x, age float64, r *rand.Rand) float64 {
					if age == 0 {
						return offset + length
					}
					return age / min(1, max(.01, fits(age/x)+error*r.NormFloat64()))
				}
			}
			linear := func(done float64) float64 { return done }
			stalls := func(done float64) float64 { return min(.9, 2*done) } // at nine tenths, from 45 % on
			t.Logf("durations %3.0f s + length, noise %.2f: cost without estimate %.2f; length alone %.2f; intercept known %.2f; with exact progress %.2f, with noise 0.1 %.2f, stalling %.2f",
				offset, noise, covariates(offset, noise, none, figures),
				covariates(offset, noise, func(l, _, _ float64, _ *rand.Rand) float64 { return l }, figures),
				covariates(offset, noise, func(l, _, _ float64, _ *rand.Rand) float64 { return offset + l }, figures),
				covariates(offset, noise, progress(0, linear), figures),
				covariates(offset, noise, progress(.1, linear), figures),
				covariates(offset, noise, progress(0, stalls), figures))
		}
	}
}
