package cadence

import "math"

const (
	memory     = 400.0 // samples after which one counts 1/e
	priorCount = 0.2   // samples that the prior is worth, for the widths above priorWidth
	priorWidth = 0.35
	emRounds   = 2     // per estimate; the next estimate goes on from this one
	backflow   = 0.002 // see judge
)

// The kernels are widest, and each a third as wide as the one before.
const (
	widest    = 0.8
	numWidths = 8
)

// widthPrior is how the widths are trusted at first; widthCount is how many samples the
// prior is worth to them. Narrow widths hold less of it: it takes few jobs to believe
// that all end at one point, and few to see that they no longer do.
var widthPrior, widthCount = initialWidths()

func initialWidths() (trust, count [numWidths]float64) {
	sum, width := 0.0, widest
	for l := range trust {
		trust[l] = math.Pow(0.85, math.Abs(float64(l-1)))
		count[l] = priorCount * min(1, math.Sqrt(width/priorWidth))
		sum += trust[l]
		width /= 3
	}
	for l := range trust {
		trust[l] /= sum
	}
	return trust, count
}

// A pool is what was learnt from one choice of samples.
type pool struct {
	mass []float64            // of each cell: the mean of the widths
	cum  []float64            // the mass below each cell
	mix  [numWidths]float64   // how the widths are trusted
	cdf  [numWidths][]float32 // of each width, at the cells' bounds
}

// estimate computes the distribution anew from the samples, on a grid for the
// distribution so far, in time proportional to cells × widths + samples.
func (m *Model) estimate() {
	if m.used > 0 {
		m.layGrid()
	}
	m.ages, m.expected = m.grid.ages(), m.prior.masses(m.grid)
	n := m.grid.cells()
	decay := make([]float64, numWidths*n) // how far each kernel falls over half of each cell
	for j := range n {
		d := math.Exp((m.grid[j] - m.grid[j+1]) / (2 * widest))
		for l := range numWidths {
			decay[l*n+j] = d
			d *= d * d
		}
	}
	samples := m.samples[len(m.samples)-m.used:]
	spans := make([]span, m.used)
	fade, weight := math.Exp(-1/memory), 1.0
	for i := len(spans) - 1; i >= 0; i-- {
		s, unit := samples[i], m.unit(samples[i])
		spans[i] = span{locate(m.ages, s.Lo/unit), locate(m.ages, s.Hi/unit), s.Weight * weight}
		weight *= fade
	}
	m.pools[0].fit(spans, m.expected, decay)
	m.pools[1].fit(spans[len(spans)-m.since:], m.expected, decay)
	m.fresh, m.Clock = 0, m.dayClock()
}

// layGrid lays out the grid for the present estimate and carries that over.
func (m *Model) layGrid() {
	to := m.grid.refine(m.mass)
	for k := range m.pools {
		m.pools[k].mass = m.grid.carryOver(m.pools[k].mass, to)
		m.pools[k].normalize()
	}
	m.grid = to
}

// A span is a sample on the grid.
type span struct {
	from, to place
	weight   float64
}

// fit estimates from spans. It is Turnbull's self-consistency estimator, an EM
// algorithm, with smoothing.
func (c *pool) fit(spans []span, prior, decay []float64) {
	n := len(prior)
	one := make([]float64, n) // of one width
	for round := range emRounds {
		data, total := c.spread(spans)
		clear(c.mass)
		for l, count := range widthCount {
			for j, p := range prior {
				one[j] = count * p
			}
			if total > 0 {
				smooth(decay[l*n:(l+1)*n], data, one)
			}
			z := 1 / (total + count)
			w := c.mix[l] * z
			for j, v := range one {
				c.mass[j] += w * v
			}
			if round == emRounds-1 {
				c.cdf[l] = cumulate(c.cdf[l], one, z)
			}
		}
		c.normalize() // the kernels leak at the ends of the grid
	}
}

// normalize makes the masses add up to 1.
func (c *pool) normalize() {
	sum := 0.0
	for _, v := range c.mass {
		sum += v
	}
	c.cum = make([]float64, len(c.mass))
	below := 0.0
	for j := range c.mass {
		c.mass[j] /= sum
		c.cum[j] = below
		below += c.mass[j]
	}
}

// below returns the mass below a place.
func (c *pool) below(a place) float64 { return c.cum[a.cell] + a.share*c.mass[a.cell] }

// judge returns the probability that the pool gave to what lies between two places,
// and gives more weight to the widths that gave it more. A little of the weight
// flows back to all widths in proportion to the surprise, so that none is lost.
func (c *pool) judge(lo, hi place) (p float64) {
	var q [numWidths]float64
	for l, cdf := range c.cdf {
		q[l] = max(lo.in(cdf, hi), tiny)
		p += c.mix[l] * q[l]
	}
	back := backflow * max(0, 1-p)
	for l := range q {
		c.mix[l] = (1-back)*c.mix[l]*q[l]/p + back*widthPrior[l]
	}
	return p
}

// in returns the mass from a to b.
func (a place) in(cdf []float32, b place) float64 {
	at := func(p place) float64 {
		return float64(cdf[p.cell]) + p.share*float64(cdf[p.cell+1]-cdf[p.cell])
	}
	return at(b) - at(a)
}

// spread returns the spans' weight in each cell: that of each is where the
// estimate has it within the span. It returns the total, too.
func (c *pool) spread(spans []span) (data []float64, total float64) {
	n := len(c.mass)
	// First, the factors on the mass of the cells: steps are the differences
	// between neighbours, ends concern one cell alone.
	steps, ends := make([]float64, n), make([]float64, n)
	for i := len(spans) - 1; i >= 0; i-- {
		a, b, w := spans[i].from, spans[i].to, spans[i].weight
		p := c.below(b) - c.below(a)
		if p < tiny {
			continue
		}
		total += w
		r := w / p
		if a.cell == b.cell {
			ends[a.cell] += r * (b.share - a.share)
			continue
		}
		ends[a.cell] += r * (1 - a.share)
		ends[b.cell] += r * b.share
		steps[a.cell+1] += r
		steps[b.cell] -= r
	}
	data = ends
	factor := 0.0
	for j, d := range steps {
		factor += d
		data[j] = (max(factor, 0) + ends[j]) * c.mass[j]
	}
	return data, total
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
