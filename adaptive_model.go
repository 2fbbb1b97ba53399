package vtclient

import (
	"math"
	"sync"
	"time"
)

const (
	minLogAge = -6.907755 // ln of 1 ms, or of a thousandth of the estimate
	maxLogAge = 16.118096 // ln of 10⁷ s, 116 days

	maxSamples = 512
	memory     = 400.0 // samples after which one counts 1/e
	priorCount = 0.5   // what the prior counts, in samples

	changeProb = 1. / 300 // of a change of regime, per completion
	shareRate  = 0.01     // see learn

	maxCells  = 600
	maxCell   = 0.15 // size of a cell in log age
	minCell   = 2e-5
	massCells = 200 // cells for equal shares of the mass
	rootCells = 150 // cells for equal shares of its square root
	grading   = 0.3

	exactShare = 1e-3 // a hint is late by no more than this share of the age
)

// widths of the kernels, in log age.
var widths = [...]float64{.8, .35, .15, .065, .028, .012, .005, .002, .0008, .0003}

const (
	numWidths  = len(widths)
	numExperts = numWidths + 1 // each width, and the local choice of widths
	local      = numWidths
)

var expertPrior = func() (p [numExperts]float64) {
	t := 0.
	for i := range widths {
		p[i] = math.Pow(.75, math.Abs(float64(i)-1))
		t += p[i]
	}
	p[local] = t * localPrior
	t += p[local]
	for i := range p {
		p[i] /= t
	}
	return
}()

var localPrior = 0.25

// A sample is a completion as a model sees it.
type sample struct {
	lo, hi float64 // the duration lies in (lo, hi]; hi may be +Inf
	weight float64
	width  [numWidths]float32 // how probably it belongs to a cluster of each width
}

// newSample turns a completion into a sample in seconds; ok is false if there
// is nothing to learn from it.
func newSample(c Completion) (s sample, ok bool) {
	s.weight = 1
	s.lo = max(c.PendingAt, 0).Seconds()
	switch {
	case c.DoneBy == 0:
		s.hi = math.Inf(1)
		return s, s.lo > 0
	case c.DoneBy < 0 || c.PendingAt > c.DoneBy:
		return s, false
	}
	s.hi = c.DoneBy.Seconds()
	if c.Hinted {
		s.lo = max(s.lo, s.hi*(1-exactShare))
	}
	return s, true
}

type model struct {
	ratio   bool
	samples []sample
	since   int // of them, how many are newer than the possible change
	fresh   int // samples since the last estimate
	x       []float64
	post    [2][]float64
	cdf     [2][numExperts][]float32
	comp    [numWidths][]float32
	now     [2]float64
	mix     [2][numExperts]float64
}

// work is scratch space, shared by all models of the process.
type work struct {
	a, b, c, d, e []float64
	decay         [numWidths][]float64
	comp          [numWidths][]float64
	ints          []int
}

var workPool = sync.Pool{New: func() any {
	n := maxCells + 200
	buf := make([]float64, (5+2*numWidths)*n)
	cut := func() (s []float64) { s, buf = buf[:n:n], buf[n:]; return s }
	w := &work{a: cut(), b: cut(), c: cut(), d: cut(), e: cut(), ints: make([]int, n)}
	for i := range w.decay {
		w.decay[i] = cut()
		w.comp[i] = cut()
	}
	return w
}}

func getWork(n int) *work { return workPool.Get().(*work) }
func (w *work) put()      { workPool.Put(w) }

func (m *model) init(ratio bool) {
	if m.x != nil {
		return
	}
	m.ratio = ratio
	m.now = [2]float64{1, 0}
	m.mix = [2][numExperts]float64{expertPrior, expertPrior}
	const n = 600
	m.x = make([]float64, n+1)
	for i := range m.x {
		m.x[i] = minLogAge + (maxLogAge-minLogAge)*float64(i)/n
	}
	prior := m.prior(make([]float64, n))
	m.post[0] = append([]float64(nil), prior...)
	m.post[1] = append([]float64(nil), prior...)
	m.estimate()
}

func (m *model) cells() int { return len(m.x) - 1 }

func (m *model) prior(p []float64) []float64 {
	tot := 0.
	for j := range p {
		p[j] = priorDensity((m.x[j]+m.x[j+1])/2, m.ratio) * (m.x[j+1] - m.x[j])
		tot += p[j]
	}
	for j := range p {
		p[j] /= tot
	}
	return p
}

func priorDensity(x float64, ratio bool) float64 {
	if ratio {
		return 1*math.Exp(-math.Abs(x)/.35) + .1*math.Exp(-math.Abs(x)/1.5)
	}
	switch {
	case x < 1:
		return math.Exp((x - 1) / 1.5)
	case x > 11:
		return math.Exp(-(x - 11))
	}
	return 1
}

func (m *model) regrid(w *work) {
	n := m.cells()
	rho := w.a[:n]
	sq := 0.
	for j := range rho {
		d := m.x[j+1] - m.x[j]
		f := m.now[0]*m.post[0][j] + m.now[1]*m.post[1][j]
		rho[j] = f / d
		sq += math.Sqrt(f * d)
	}
	for j, f := range rho {
		rho[j] = min(1/maxCell+massCells*f+rootCells*math.Sqrt(f)/sq, 1/minCell)
	}
	for j := 1; j < n; j++ {
		rho[j] = max(rho[j], 1/(1/rho[j-1]+grading*(m.x[j+1]-m.x[j-1])/2))
	}
	for j := n - 2; j >= 0; j-- {
		rho[j] = max(rho[j], 1/(1/rho[j+1]+grading*(m.x[j+2]-m.x[j])/2))
	}
	tot := 0.
	for j := range rho {
		rho[j] *= m.x[j+1] - m.x[j]
		tot += rho[j]
	}
	g := int(min(tot, maxCells))
	x := make([]float64, 1, g+1)
	x[0] = m.x[0]
	acc, step := 0., tot/float64(g)
	for j, c := range rho {
		for len(x) < g && float64(len(x))*step <= acc+c {
			x = append(x, m.x[j]+(m.x[j+1]-m.x[j])*(float64(len(x))*step-acc)/c)
		}
		acc += c
	}
	x = append(x, m.x[n])
	for k, p := range m.post {
		m.post[k] = remap(m.x, p, x)
	}
	m.x = x
}

// remap carries the masses p of the cells ox over to the cells x.
func remap(ox, p, x []float64) []float64 {
	r := make([]float64, len(x)-1)
	i := 0
	for j := range r {
		lo, hi := x[j], x[j+1]
		for i < len(p) && ox[i+1] <= lo {
			i++
		}
		for k := i; k < len(p) && ox[k] < hi; k++ {
			a, b := max(lo, ox[k]), min(hi, ox[k+1])
			r[j] += p[k] * (b - a) / (ox[k+1] - ox[k])
		}
	}
	return r
}

// A place is a point of the grid: a cell and the share of it that lies below.
type place struct {
	cell  int
	share float64
}

func (m *model) locate(v float64) place {
	n := m.cells()
	if v <= 0 {
		return place{0, 0}
	}
	x := math.Log(v)
	if x <= m.x[0] {
		return place{0, 0}
	}
	if x >= m.x[n] {
		return place{n - 1, 1}
	}
	lo, hi := 0, n
	for hi-lo > 1 {
		h := int(uint(lo+hi) >> 1)
		if m.x[h] <= x {
			lo = h
		} else {
			hi = h
		}
	}
	return place{lo, (x - m.x[lo]) / (m.x[lo+1] - m.x[lo])}
}

// between returns the mass between two places.
func between(cdf []float32, a, b place) float64 {
	at := func(p place) float64 {
		return float64(cdf[p.cell]) + p.share*float64(cdf[p.cell+1]-cdf[p.cell])
	}
	return at(b) - at(a)
}

// allocate spreads the samples over their intervals as the estimate k has it,
// and returns the mass in w.c, in w.comp that of each width.
func (m *model) allocate(k int, w *work, from, to []place) float64 {
	n := m.cells()
	f := m.post[k]
	cum, c, extra := w.b[:n], w.c[:n], w.d[:n]
	s := 0.
	for j := range f {
		cum[j] = s
		s += f[j]
	}
	clear(c)
	clear(extra)
	if k == 0 {
		for l := range w.comp {
			clear(w.comp[l][:n])
		}
	}
	first := 0
	if k == 1 {
		first = len(m.samples) - m.since
	}
	tot := 0.
	fade := math.Exp(-1 / memory)
	age := 1.
	for i := len(m.samples) - 1; i >= first; i-- {
		wt := m.samples[i].weight * age
		age *= fade
		a, b := from[i], to[i]
		p := cum[b.cell] + b.share*f[b.cell] - cum[a.cell] - a.share*f[a.cell]
		if p < 1e-12 {
			continue
		}
		tot += wt
		r := wt / p
		if a.cell == b.cell {
			extra[a.cell] += r * (b.share - a.share)
		} else {
			extra[a.cell] += r * (1 - a.share)
			extra[b.cell] += r * b.share
			if b.cell > a.cell+1 {
				c[a.cell+1] += r
				c[b.cell] -= r
			}
		}
		if k == 0 {
			// the ends' cells only roughly
			r = wt / (p + (1-b.share)*f[b.cell] + a.share*f[a.cell])
			for l, g := range m.samples[i].width {
				w.comp[l][a.cell] += r * float64(g)
				if b.cell+1 < n {
					w.comp[l][b.cell+1] -= r * float64(g)
				}
			}
		}
	}
	r := 0.
	for j := range c {
		r += c[j]
		c[j] = (r + extra[j]) * f[j]
	}
	if k == 0 {
		for l := range w.comp {
			r := 0.
			cl := w.comp[l][:n]
			for j := range cl {
				r += cl[j]
				cl[j] = max(r, 0) * f[j]
			}
		}
	}
	return tot
}

// smooth spreads c with a two-sided exponential kernel into out.
func smooth(decay, c, out []float64) {
	run := 0.
	decay, out = decay[:len(c)], out[:len(c)]
	for j, v := range c {
		h := decay[j]
		out[j] = run*(1-h*h) + v*(1-h)
		run = (run*h + v/2) * h
	}
	run = 0.
	for j := len(c) - 1; j >= 0; j-- {
		h := decay[j]
		out[j] += run * (1 - h*h)
		run = (run*h + c[j]/2) * h
	}
}

const rounds = 2

func (m *model) estimate() {
	w := getWork(0)
	defer w.put()
	if len(m.samples) > 0 {
		m.regrid(w)
	}
	n := m.cells()
	for j := range n {
		d := m.x[j+1] - m.x[j]
		for l, wd := range widths {
			w.decay[l][j] = math.Exp(-d / (2 * wd))
		}
	}
	from, to := make([]place, len(m.samples)), make([]place, len(m.samples))
	for i, s := range m.samples {
		from[i], to[i] = m.locate(s.lo), place{n - 1, 1}
		if !math.IsInf(s.hi, 1) {
			to[i] = m.locate(s.hi)
		}
	}
	prior := m.prior(w.a[:n])
	out, sum := w.e[:n], w.b[:n]
	for k := range m.post {
		post := m.post[k]
		for it := range rounds {
			tot := m.allocate(k, w, from, to)
			z := 1 / (tot + priorCount)
			clear(post)
			for l := range widths {
				clear(out)
				if tot > 0 {
					smooth(w.decay[l], w.c[:n], out)
				}
				wt := m.mix[k][l] * z
				for j := range out {
					out[j] += priorCount * prior[j]
					post[j] += wt * out[j]
				}
				if it == rounds-1 {
					m.cdf[k][l] = cumulate(m.cdf[k][l], out, z)
				}
			}
			if k == 0 {
				copy(sum, prior)
				for j := range sum {
					sum[j] *= priorCount
				}
				for l := range widths {
					clear(out)
					if tot > 0 {
						smooth(w.decay[l], w.comp[l][:n], out)
					}
					for j := range out {
						sum[j] += out[j]
					}
					if it == rounds-1 {
						m.comp[l] = cumulate(m.comp[l], out, z)
					}
				}
				wt := m.mix[k][local] * z
				for j := range sum {
					post[j] += wt * sum[j]
				}
				if it == rounds-1 {
					m.cdf[k][local] = cumulate(m.cdf[k][local], sum, z)
				}
			} else {
				if it == rounds-1 {
					m.cdf[k][local] = append(m.cdf[k][local][:0], m.cdf[k][0]...)
				}
			}
			s := 0.
			for _, v := range post {
				s += v
			}
			for j := range post {
				post[j] /= s
			}
		}
	}
	m.fresh = 0
}

func cumulate(cdf []float32, p []float64, z float64) []float32 {
	if cap(cdf) < len(p)+1 {
		cdf = make([]float32, maxCells+1)
	}
	cdf = cdf[:len(p)+1]
	s := 0.
	for j, v := range p {
		cdf[j] = float32(s)
		s += v * z
	}
	cdf[len(p)] = float32(s)
	return cdf
}

// learn adds a sample and reports whether there is a new estimate.
func (m *model) learn(s sample) bool {
	n := m.cells()
	a, b := m.locate(s.lo), place{n - 1, 1}
	if !math.IsInf(s.hi, 1) {
		b = m.locate(s.hi)
	}
	const tiny = 1e-9
	// how well did each expert predict this?
	var pk [2]float64
	for k := range m.mix {
		mix := &m.mix[k]
		var p [numExperts]float64
		for l := range p {
			p[l] = math.Pow(max(between(m.cdf[k][l], a, b), tiny), s.weight)
			pk[k] += mix[l] * p[l]
		}
		sh := shareRate * (1 - min(1, pk[k]))
		for l := range p {
			mix[l] = (1-sh)*mix[l]*p[l]/pk[k] + sh*expertPrior[l]
		}
	}
	var pr float64
	{
		w := getWork(n)
		prior := m.prior(w.a[:n])
		for j := a.cell; j <= b.cell; j++ {
			pr += prior[j]
		}
		pr -= prior[a.cell]*a.share + prior[b.cell]*(1-b.share)
		w.put()
	}
	pr = max(pr, tiny)
	tot := 0.
	var g [numWidths]float64
	for l := range g {
		g[l] = max(between(m.comp[l], a, b), 0) + .3*pr*expertPrior[l]/float64(1+len(m.samples))
		tot += g[l]
	}
	for l := range g {
		s.width[l] = float32(g[l] / tot)
	}

	w0, w1 := m.now[0]*pk[0], m.now[1]*pk[1]
	m.since++
	if len(m.samples) > 0 && s.weight == 1 && changeProb*pr > w1 {
		w1 = changeProb * pr
		m.since = 1
		for l := range m.mix[1] {
			m.mix[1][l] = .5*expertPrior[l] + .5*m.mix[0][l]
		}
		m.mix[1][0] += m.mix[1][local]
		m.mix[1][local] = 0
		m.prior(m.post[1])
	}
	m.now = [2]float64{w0 / (w0 + w1), w1 / (w0 + w1)}
	surprise := pk[0] < .02
	m.samples = append(m.samples, s)
	if m.now[1] > .99 && m.since >= 3 {
		m.samples = append(m.samples[:0], m.samples[len(m.samples)-m.since:]...)
		m.now = [2]float64{1, 0}
		m.mix[0] = m.mix[1]
		for l := range m.mix[0] {
			m.mix[0][l] = .8*m.mix[0][l] + .2*expertPrior[l]
		}
		copy(m.post[0], m.post[1])
		m.since = 0
		surprise = true
	}
	if len(m.samples) > maxSamples {
		m.samples = append(m.samples[:0], m.samples[len(m.samples)-maxSamples*7/8:]...)
		m.since = min(m.since, len(m.samples))
	}
	m.fresh++
	if surprise || m.fresh > len(m.samples)/32 {
		m.estimate()
		return true
	}
	return false
}

func (m *model) schedule(c float64) *schedule {
	n := m.cells()
	buf := make([]float64, 2*n+3)
	t, p := buf[:n+2], buf[n+2:]
	for j := range n + 1 {
		t[j+1] = math.Exp(m.x[j])
	}
	mass := func(j int) float64 { return m.now[0]*m.post[0][j] + m.now[1]*m.post[1][j] }
	z := 1 / (1 + mass(n-1)/(m.x[n]-m.x[n-1]))
	for j := range n {
		p[j+1] = z * mass(j)
	}
	return newSchedule(t, p, c, len(m.samples))
}

var _ = time.Second
