package vtclient

import (
	"math"
	"sync"
)

// The model: what is known of the distribution F of the durations.
//
// # Data
//
// A completion says only that a duration lies in an interval, and the interval
// was chosen by our own polls. Mass put at its end or its middle would make the
// next schedule chase the last one's polls. So a sample's mass is spread over its
// interval in proportion to the present estimate (Turnbull's self-consistency
// estimator, an EM algorithm): an interval that merely confirms what is known
// changes nothing. A wait that was given up at age a is the interval (a, ∞). A
// hint gives an interval a thousandth of the age long.
//
// # Smoothing
//
// The spread mass is smoothed with a two-sided exponential kernel in log age,
// and no single width would do: the width that suits a log-normal distribution
// smears out a constant one, and the width that suits the constant believes
// that the gaps between a few scattered samples are there for ever. So there is
// one estimate for each of ten widths, from a factor of two down to 0.3
// per mille, and what counts is their mean, weighted by the product of the
// probabilities that each gave to the completions when they were yet to come
// (prequential likelihood). That is safe on atoms, where a narrow width doubles
// its lead with every completion that it saw coming twice as clearly, and on
// mixtures, where widths that leave out a part are punished as soon as a job
// falls there. A little weight flows back to all widths with each completion in
// proportion to how much it surprised, so that none is ever out for good.
//
// Each estimate holds a small share of the prior, so that nothing is ever held
// impossible: it is what the long tail beyond all experience is made of. Narrow
// widths hold less of it: where everything happens at one point, it does not take
// many jobs to believe so.
//
// The kernel is exponential because its convolution over any grid, however
// uneven, is two passes of a recursive filter.
//
// # Change
//
// There are two such pools: one learns from all samples, the other, the
// candidate, only from those after a supposed change. Before every completion a
// change has happened with probability changeProb; if a candidate born now
// explains the completion better than the old candidate does, it takes its place.
// Bayes' rule weighs the two pools. When the candidate has all but won, the
// samples before the change are forgotten. So a backend that becomes slower or
// faster is followed after two or three surprising completions, and without one
// nothing is thrown away. (This is Bayesian change point detection, Adams and
// MacKay 2007, with two run lengths instead of all.) Slow drift is followed by
// the fading of old samples, and by the same means.
//
// # Grid
//
// Everything lives on at most maxCells cells in log age, from a millisecond to
// 116 days. With every estimate the grid is laid out anew: cells of equal mass, plus
// cells of equal square root of mass (which is what polls are spaced by), none
// larger than maxCell, neighbours of similar size. So an atom is resolved to a
// fraction of its own width, and nothing is spent on ages where nothing happens.
const (
	minLogAge = -6.907755 // ln of 1 ms; for ratios, of a thousandth of the estimate
	maxLogAge = 16.118096 // ln of 10⁷ s, 116 days

	maxCells  = 600
	maxCell   = 0.15
	minCell   = 2e-5
	massCells = 200 // cells shared out by mass
	rootCells = 150 // cells shared out by the square root of mass
	grading   = 0.3 // how fast the size of cells may change

	maxSamples = 512   // samples remembered
	memory     = 400.0 // samples after which one counts 1/e
	priorCount = 0.2   // samples that the prior is worth, for the widths above priorWidth
	priorWidth = 0.35
	emRounds   = 2 // per estimate; the next estimate goes on from this one
	backflow   = 0.003

	changeProb = 1. / 300
	accept     = 0.99  // certainty at which a change is taken for granted
	surprising = 0.02  // a completion less probable than this is learnt at once, see learn
	minDoubt   = 0.005 // certainty below which it has no influence on the schedule

	exactShare = 1e-3  // a hint is late by no more than this share of the age
	tiny       = 1e-9  // a probability that stands for zero
	steadyMax  = 3000  // see schedule.explore
	steadyFrom = 150.0 // ...
	steadyTo   = 300.0 // ...
)

// widths of the kernels in log age, and how they are trusted at first.
var (
	widths     = [...]float64{.8, .35, .15, .065, .028, .012, .005, .002, .0008, .0003}
	widthPrior = weightsOfWidths()
	widthCount = countsOfWidths()
)

const numWidths = len(widths)

func weightsOfWidths() (p [numWidths]float64) {
	sum := 0.0
	for i := range p {
		p[i] = math.Pow(0.85, math.Abs(float64(i-1)))
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

func countsOfWidths() (c [numWidths]float64) {
	for i, w := range widths {
		c[i] = priorCount * min(1, math.Sqrt(w/priorWidth))
	}
	return c
}

// priorDensity is the density of the log of the age, not normalised, that is
// assumed before anything is known: around two minutes, with tails so long that
// seconds and hours are no surprise. Around the estimate, where there is one.
func priorDensity(x float64, ratio bool) float64 {
	if ratio {
		return math.Exp(-math.Abs(x)/0.35) + 0.1*math.Exp(-math.Abs(x)/1.5)
	}
	flat := min(1, math.Exp((x-1)/1.5), math.Exp(11-x)) // 3 s to 17 h
	return 0.1*flat + 1/math.Cosh((x-4.8)/1.5)
}

// priorSteps is the fineness of the tables of the prior.
const priorSteps = 2048

// priorTables holds the integral of priorDensity, for ages and for ratios: it is
// asked for with every estimate, for each cell.
var priorTables = sync.OnceValue(func() *[2][priorSteps + 1]float64 {
	var r [2][priorSteps + 1]float64
	for k := range r {
		sum := 0.0
		for i := range priorSteps {
			r[k][i] = sum
			sum += priorDensity(minLogAge+(float64(i)+.5)*(maxLogAge-minLogAge)/priorSteps, k == 1)
		}
		r[k][priorSteps] = sum
		for i := range r[k] {
			r[k][i] /= sum
		}
	}
	return &r
})

// priorBelow looks up the prior's mass below the log age x.
func priorBelow(tab *[priorSteps + 1]float64, x float64) float64 {
	y := (x - minLogAge) * (priorSteps / (maxLogAge - minLogAge))
	if !(y > 0) {
		return 0
	}
	i := int(min(y, priorSteps-1))
	return tab[i] + (tab[i+1]-tab[i])*min(y-float64(i), 1)
}

func (m *model) priorTable() *[priorSteps + 1]float64 {
	if m.ratio {
		return &priorTables()[1]
	}
	return &priorTables()[0]
}

// A sample is a completion as a model sees it.
type sample struct {
	lo, hi float64 // the duration lies in (lo, hi]; hi may be +Inf
	weight float64 // what it counts; 1, but for those that only help out
}

// newSample turns a completion into a sample in seconds; ok is false if there
// is nothing to learn from it.
func newSample(c Completion) (s sample, ok bool) {
	s = sample{lo: max(c.PendingAt, 0).Seconds(), hi: c.DoneBy.Seconds(), weight: 1}
	switch {
	case c.DoneBy == 0:
		s.hi = math.Inf(1)
		return s, s.lo > 0
	case c.DoneBy < 0 || c.PendingAt > c.DoneBy:
		return s, false
	}
	if c.Hinted {
		s.lo = max(s.lo, s.hi*(1-exactShare))
	}
	return s, true
}

// A model is an estimate of a distribution. Its methods are not safe for
// concurrent use.
type model struct {
	ratio   bool
	samples []sample // oldest first
	since   int      // how many of them belong to the candidate
	fresh   int      // how many are not in the estimate yet
	steady  int      // completions since the last change, up to steadyMax
	coarse  bool     // make do with few estimates

	x      []float64 // bounds of the cells
	weight [2]float64
	pools  [2]pool // all samples, and the candidate
}

// A pool is what was learnt from one choice of samples.
type pool struct {
	mass []float64            // of each cell: the mean of the widths
	mix  [numWidths]float64   // how the widths are trusted
	cdf  [numWidths][]float32 // of each width, at the cells' bounds
}

// work is scratch space for an estimate, shared by all models of a process.
type work struct {
	a, b, c, d, e []float64
	decay         [numWidths][]float64
	from, to      []place
	ints          []int
}

var workPool = sync.Pool{New: func() any {
	const n = maxCells + 8
	buf := make([]float64, (5+numWidths)*n)
	cut := func() (s []float64) { s, buf = buf[:n:n], buf[n:]; return s }
	w := &work{a: cut(), b: cut(), c: cut(), d: cut(), e: cut(), ints: make([]int, n)}
	for i := range w.decay {
		w.decay[i] = cut()
	}
	w.from, w.to = make([]place, maxSamples+1), make([]place, maxSamples+1)
	return w
}}

func getWork() *work { return workPool.Get().(*work) }
func (w *work) put() { workPool.Put(w) }

// init makes a model ready; later calls do nothing.
func (m *model) init(ratio bool) {
	if m.x != nil {
		return
	}
	m.ratio = ratio
	m.weight = [2]float64{1, 0}
	m.x = make([]float64, maxCells+1)
	for i := range m.x {
		m.x[i] = minLogAge + (maxLogAge-minLogAge)*float64(i)/maxCells
	}
	for k := range m.pools {
		m.pools[k].mix = widthPrior
		m.pools[k].mass = m.prior(make([]float64, maxCells))
	}
	m.estimate()
}

func (m *model) cells() int { return len(m.x) - 1 }

// prior sets p to the prior's masses.
func (m *model) prior(p []float64) []float64 {
	tab, below := m.priorTable(), 0.0
	for j := range p {
		b := priorBelow(tab, m.x[j+1])
		p[j] = b - below
		below = b
	}
	return p
}

// replay learns samples from the beginning, with few estimates on the way: it
// takes some ten milliseconds at most.
func (m *model) replay(ratio bool, samples []sample) {
	*m = model{coarse: true}
	m.init(ratio)
	for _, s := range samples {
		m.learn(s)
	}
	m.coarse = false
	m.estimate()
}

// learn adds a sample and reports whether there is a new estimate. Estimates
// become rarer as there is more behind them; but a surprise is learnt at once.
// That the interval of a hint is improbable, being narrow, is no surprise as
// long as the prior gave it still less.
func (m *model) learn(s sample) bool {
	p, prior := m.judge(s)
	w0, w1 := m.weight[0]*p[0], m.weight[1]*p[1]
	m.since++
	// A sample of less than full weight is no witness of a change.
	if born := changeProb * prior; born > w1 && s.weight == 1 && len(m.samples) > 0 {
		w1 = born
		m.since = 1
		c := &m.pools[1]
		for l := range c.mix {
			c.mix[l] = (widthPrior[l] + m.pools[0].mix[l]) / 2
		}
		m.prior(c.mass)
	}
	m.weight = [2]float64{w0 / (w0 + w1), w1 / (w0 + w1)}
	m.samples = append(m.samples, s)
	m.steady = min(m.steady+1, steadyMax)
	changed := m.weight[1] > accept && m.since >= 3
	if changed {
		m.forget(m.since)
		m.weight = [2]float64{1, 0}
		copy(m.pools[0].mass, m.pools[1].mass)
		for l, w := range m.pools[1].mix {
			m.pools[0].mix[l] = 0.8*w + 0.2*widthPrior[l]
		}
		m.steady, m.since = m.since, 0
	}
	if len(m.samples) > maxSamples {
		m.forget(maxSamples * 7 / 8)
	}
	m.fresh++
	if m.coarse {
		if !changed && m.fresh <= len(m.samples)/8 {
			return false
		}
	} else if !changed && p[0] >= min(surprising, 2*prior) && m.fresh <= len(m.samples)/32 {
		return false
	}
	m.estimate()
	return true
}

// forget keeps the newest n samples.
func (m *model) forget(n int) {
	m.samples = append(m.samples[:0], m.samples[len(m.samples)-n:]...)
	m.since = min(m.since, n)
}

// judge returns the probabilities that the pools and the prior gave to a sample,
// and makes those widths count more that saw it coming.
func (m *model) judge(s sample) (p [2]float64, prior float64) {
	a, b := m.interval(s)
	for k := range m.pools {
		c := &m.pools[k]
		var q [numWidths]float64
		for l := range q {
			q[l] = math.Pow(max(between(c.cdf[l], a, b), tiny), s.weight)
			p[k] += c.mix[l] * q[l]
		}
		back := backflow * max(0, 1-p[k])
		for l := range q {
			c.mix[l] = (1-back)*c.mix[l]*q[l]/p[k] + back*widthPrior[l]
		}
	}
	tab := m.priorTable()
	prior = priorBelow(tab, math.Log(s.hi)) - priorBelow(tab, math.Log(s.lo))
	return p, max(prior, tiny)
}

// A place is a point of the grid: a cell, and the share of it that lies below.
type place struct {
	cell  int
	share float64
}

// between returns the mass between two places.
func between(cdf []float32, a, b place) float64 {
	at := func(p place) float64 {
		return float64(cdf[p.cell]) + p.share*float64(cdf[p.cell+1]-cdf[p.cell])
	}
	return at(b) - at(a)
}

func (m *model) interval(s sample) (a, b place) { return m.locate(s.lo), m.locate(s.hi) }

func (m *model) locate(age float64) place {
	n, x := m.cells(), math.Log(age)
	switch {
	case !(x > m.x[0]):
		return place{0, 0}
	case x >= m.x[n]:
		return place{n - 1, 1}
	}
	lo, hi := 0, n
	for hi-lo > 1 {
		if h := int(uint(lo+hi) >> 1); m.x[h] <= x {
			lo = h
		} else {
			hi = h
		}
	}
	return place{lo, (x - m.x[lo]) / (m.x[lo+1] - m.x[lo])}
}

// estimate computes the distribution anew from the samples, in time
// proportional to cells × widths + samples.
func (m *model) estimate() {
	w := getWork()
	defer w.put()
	if len(m.samples) > 0 {
		m.layGrid(w)
	}
	n := m.cells()
	tab := decayTable()
	for l, width := range widths {
		half := 1 / (2 * width)
		for j := range n {
			w.decay[l][j] = tab.exp((m.x[j+1] - m.x[j]) * half)
		}
	}
	for i, s := range m.samples {
		w.from[i], w.to[i] = m.interval(s)
	}
	prior := m.prior(w.a[:n])
	m.pools[0].fit(w, prior, m.samples, 0)
	m.pools[1].fit(w, prior, m.samples, len(m.samples)-m.since)
	m.fresh = 0
}

// fit estimates from the samples from the first on.
func (c *pool) fit(w *work, prior []float64, samples []sample, first int) {
	n := len(prior)
	out := w.e[:n]
	for round := range emRounds {
		total := c.spread(w, samples, first)
		clear(c.mass)
		for l, count := range widthCount {
			for j, p := range prior {
				out[j] = count * p
			}
			if total > 0 {
				smooth(w.decay[l], w.c[:n], out)
			}
			z := 1 / (total + count)
			wt := c.mix[l] * z
			for j, v := range out {
				c.mass[j] += wt * v
			}
			if round == emRounds-1 {
				c.cdf[l] = cumulate(c.cdf[l], out, z)
			}
		}
		sum := 0.0 // the kernels leak at the ends of the grid
		for _, v := range c.mass {
			sum += v
		}
		for j := range c.mass {
			c.mass[j] /= sum
		}
	}
}

// spread puts the samples' mass into w.c: that of each where the estimate has
// it within the interval. It returns the total.
func (c *pool) spread(w *work, samples []sample, first int) (total float64) {
	n := len(c.mass)
	f, cum, out, ends := c.mass, w.b[:n], w.c[:n], w.d[:n]
	sum := 0.0
	for j, v := range f {
		cum[j] = sum
		sum += v
	}
	// First, the factors on the mass of the cells: out holds the steps between
	// neighbours, ends what concerns a cell alone.
	clear(out)
	clear(ends)
	fade, age := math.Exp(-1/memory), 1.0
	for i := len(samples) - 1; i >= first; i-- {
		wt := samples[i].weight * age
		age *= fade
		a, b := w.from[i], w.to[i]
		p := cum[b.cell] + b.share*f[b.cell] - cum[a.cell] - a.share*f[a.cell]
		if p < tiny {
			continue
		}
		total += wt
		r := wt / p
		if a.cell == b.cell {
			ends[a.cell] += r * (b.share - a.share)
			continue
		}
		ends[a.cell] += r * (1 - a.share)
		ends[b.cell] += r * b.share
		out[a.cell+1] += r
		out[b.cell] -= r
	}
	r := 0.0
	for j := range out {
		r += out[j]
		out[j] = (max(r, 0) + ends[j]) * f[j]
	}
	return total
}

// smooth spreads the masses c with a two-sided exponential kernel and adds them
// to out. decay is how far the kernel falls over half of each cell. The two
// sides go through the cells at once, because each waits for its own last step.
func smooth(decay, c, out []float64) {
	n := len(c)
	decay, out = decay[:n], out[:n]
	right, left := 0.0, 0.0 // mass on its way to the right, and to the left
	for j, v := range c {
		h := decay[j]
		hh := h * h
		out[j] += right*(1-hh) + v*(1-h)
		right = right*hh + v/2*h
		k := n - 1 - j
		h = decay[k]
		hh = h * h
		out[k] += left * (1 - hh)
		left = left*hh + c[k]/2*h
	}
}

const (
	decayFar   = 32
	decaySteps = 64
)

type decays [decayFar * decaySteps]float64

var decayTable = sync.OnceValue(func() *decays {
	var t decays
	for i := range t {
		t[i] = math.Exp(-float64(i) / decaySteps)
	}
	return &t
})

// exp returns exp(−y) for y ≥ 0, to nine digits and faster than math.Exp.
func (t *decays) exp(y float64) float64 {
	if !(y < decayFar) {
		return 0
	}
	i := int(y * decaySteps)
	r := y - float64(i)*(1./decaySteps)
	return t[i] * (1 - r*(1-r*(1./2-r*(1./6))))
}

func cumulate(cdf []float32, p []float64, z float64) []float32 {
	if cdf == nil {
		cdf = make([]float32, maxCells+1)
	}
	cdf = cdf[:len(p)+1]
	sum := 0.0
	for j, v := range p {
		cdf[j] = float32(sum)
		sum += v * z
	}
	cdf[len(p)] = float32(sum)
	return cdf
}

// layGrid lays out the grid for the present estimate and carries that over.
func (m *model) layGrid(w *work) {
	n := m.cells()
	rho := w.a[:n] // cells per unit of log age
	roots := 0.0
	for j := range rho {
		d := m.x[j+1] - m.x[j]
		p := m.weight[0]*m.pools[0].mass[j] + m.weight[1]*m.pools[1].mass[j]
		rho[j] = p / d
		roots += math.Sqrt(p * d)
	}
	for j, f := range rho {
		rho[j] = min(1/maxCell+massCells*f+rootCells*math.Sqrt(f)/roots, 1/minCell)
	}
	for j := 1; j < n; j++ {
		rho[j] = max(rho[j], 1/(1/rho[j-1]+grading*(m.x[j+1]-m.x[j-1])/2))
	}
	for j := n - 2; j >= 0; j-- {
		rho[j] = max(rho[j], 1/(1/rho[j+1]+grading*(m.x[j+2]-m.x[j])/2))
	}
	total := 0.0
	for j := range rho {
		rho[j] *= m.x[j+1] - m.x[j]
		total += rho[j]
	}
	size := int(min(total, maxCells))
	step := total / float64(size)
	x := make([]float64, 1, size+1)
	x[0] = m.x[0]
	sum := 0.0
	for j, c := range rho {
		for len(x) < size && float64(len(x))*step <= sum+c {
			x = append(x, m.x[j]+(m.x[j+1]-m.x[j])*(float64(len(x))*step-sum)/c)
		}
		sum += c
	}
	x = append(x, m.x[n])
	for k := range m.pools {
		m.pools[k].mass = carryOver(m.x, m.pools[k].mass, x)
	}
	m.x = x
}

// carryOver returns the masses of the cells x, given those of the cells old.
func carryOver(old, mass, x []float64) []float64 {
	r := make([]float64, len(x)-1)
	i := 0
	for j := range r {
		lo, hi := x[j], x[j+1]
		for i < len(mass)-1 && old[i+1] <= lo {
			i++
		}
		for k := i; k < len(mass) && old[k] < hi; k++ {
			a, b := max(lo, old[k]), min(hi, old[k+1])
			r[j] += mass[k] * max(0, b-a) / (old[k+1] - old[k])
		}
	}
	return r
}

// surely returns the age before which hardly any job ends.
func (m *model) surely() float64 {
	if len(m.samples) < 10 {
		return 0
	}
	f := 0.0
	for j, p := range m.pools[0].mass {
		if f += p; f > 0.02 {
			return math.Exp(m.x[j])
		}
	}
	return 0
}

// schedule returns the best schedule for the present estimate, a request being
// worth c.
func (m *model) schedule(c float64) *schedule {
	n := m.cells()
	buf := make([]float64, 2*n+3)
	t, p := buf[:n+2:n+2], buf[n+2:]
	// A change of which there are no more signs than there always are has no
	// say: for long and nearly constant jobs its small share would be worth a
	// useless early poll each. Looking for changes is what exploring is for.
	doubt := max(0, m.weight[1]-minDoubt) / (1 - minDoubt)
	mass := func(j int) float64 { return (1-doubt)*m.pools[0].mass[j] + doubt*m.pools[1].mass[j] }
	z := 1 / (1 + mass(n-1)/(m.x[n]-m.x[n-1])) // leave room for the tail
	for j := range n {
		t[j+1] = math.Exp(m.x[j])
		p[j+1] = z * mass(j)
	}
	t[n+1] = math.Exp(m.x[n])
	s := newSchedule(t, p, c)
	s.jobs = len(m.samples)
	steady := float64(m.steady)
	s.explore = exploreShare * math.Sqrt(min(1, steady/steadyFrom, steadyTo/(steady+1)))
	s.explore += exploreDoubt * doubt
	return s
}
