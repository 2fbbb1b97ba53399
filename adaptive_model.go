package vtclient

import (
	"math"
)

const (
	xMin     = -6.907755 // ln 1 ms
	xMax     = 16.118096 // ln 1e7 s
	maxData  = 512
	memory   = 400.0
	priorN   = 0.5  // pseudo count of prior
	changeP  = 1. / 300
	share    = 0.01
	baseCell = 0.15
)

var widths = [...]float64{.8, .35, .15, .065, .028, .012, .005, .002, .0008, .0003}

const nw = len(widths)

type sample struct{ lo, hi, w float64 }

type model struct {
	ready   bool
	ratio   bool
	data    []sample
	seen    int // ever
	candN   int // how many of the newest data belong to the candidate
	pending int
	x       []float64 // cell bounds in log
	d       []float64
	prior   []float64
	post    [2][]float64 // cell masses
	cdf     [2][nw][]float64
	wk      [2]float64
	ww      [2][nw]float64
	decay   [nw][]float64
	cm, tmp []float64
}

var widthPrior = func() (p [nw]float64) {
	t := 0.
	for i := range p {
		p[i] = math.Pow(0.75, math.Abs(float64(i)-1))
		t += p[i]
	}
	for i := range p {
		p[i] /= t
	}
	return
}()

func priorDensity(x float64, ratio bool) float64 {
	if ratio {
		return .7/(2*.35)*math.Exp(-math.Abs(x)/.35) + .3/(2*1.5)*math.Exp(-math.Abs(x)/1.5)
	}
	switch {
	case x < 1:
		return math.Exp((x - 1) / 1.5)
	case x > 11:
		return math.Exp(-(x - 11))
	}
	return 1
}

func (m *model) init(ratio bool) {
	if m.ready {
		return
	}
	m.ready, m.ratio = true, ratio
	const n = 768
	m.x = make([]float64, n+1)
	for i := range m.x {
		m.x[i] = xMin + (xMax-xMin)*float64(i)/float64(n)
	}
	m.wk = [2]float64{1, 0}
	m.ww = [2][nw]float64{widthPrior, widthPrior}
	m.setGrid(m.x)
	for k := range m.post {
		m.post[k] = append([]float64(nil), m.prior...)
	}
	m.regrid()
	m.estimate(1)
}

func (m *model) setGrid(x []float64) {
	n := len(x) - 1
	m.x = x
	m.d = make([]float64, n)
	m.prior = make([]float64, n)
	tot := 0.
	for j := range m.d {
		m.d[j] = x[j+1] - x[j]
		m.prior[j] = priorDensity((x[j]+x[j+1])/2, m.ratio) * m.d[j]
		tot += m.prior[j]
	}
	for j := range m.prior {
		m.prior[j] /= tot
	}
	for l, w := range widths {
		m.decay[l] = make([]float64, n)
		for j, d := range m.d {
			m.decay[l][j] = math.Exp(-d / (2 * w))
		}
	}
	m.cm = make([]float64, n)
	m.tmp = make([]float64, n)
}

func (m *model) regrid() {
	n := len(m.d)
	// desired cell density
	rho := make([]float64, n)
	sq := 0.
	for j := range rho {
		f := (m.wk[0]*m.post[0][j] + m.wk[1]*m.post[1][j]) / m.d[j]
		rho[j] = f
		sq += math.Sqrt(f) * m.d[j]
	}
	for j, f := range rho {
		rho[j] = 1 / min(1/(1/baseCell+200*f+150*math.Sqrt(f)/sq), baseCell)
		rho[j] = min(rho[j], 1/2e-5)
	}
	// grading: the cell size may not change faster than 0.3 of the way walked
	for j := 1; j < n; j++ {
		rho[j] = max(rho[j], 1/(1/rho[j-1]+.3*(m.d[j]+m.d[j-1])/2))
	}
	for j := n - 2; j >= 0; j-- {
		rho[j] = max(rho[j], 1/(1/rho[j+1]+.3*(m.d[j]+m.d[j+1])/2))
	}
	tot := 0.
	for j := range rho {
		tot += rho[j] * m.d[j]
	}
	g := int(min(tot, 700))
	x := make([]float64, 0, g+1)
	x = append(x, m.x[0])
	acc, step := 0., tot/float64(g)
	for j := range rho {
		c := rho[j] * m.d[j]
		for len(x) < g && float64(len(x))*step <= acc+c {
			x = append(x, m.x[j]+m.d[j]*(float64(len(x))*step-acc)/c)
		}
		acc += c
	}
	x = append(x, m.x[n])
	// carry masses over
	old, post := m.x, m.post
	m.setGrid(x)
	for k := range post {
		m.post[k] = remap(old, post[k], x)
	}
}

func remap(ox, om, x []float64) []float64 {
	r := make([]float64, len(x)-1)
	i := 0
	for j := range r {
		lo, hi := x[j], x[j+1]
		for i < len(om) && ox[i+1] <= lo {
			i++
		}
		for k := i; k < len(om) && ox[k] < hi; k++ {
			a, b := max(lo, ox[k]), min(hi, ox[k+1])
			r[j] += om[k] * (b - a) / (ox[k+1] - ox[k])
		}
	}
	return r
}

// locate returns the cell of x and the fraction of it to the left of x.
func (m *model) locate(v float64) (int, float64) {
	n := len(m.d)
	if v <= 0 {
		return 0, 0
	}
	x := math.Log(v)
	if x <= m.x[0] {
		return 0, 0
	}
	if x >= m.x[n] {
		return n - 1, 1
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
	return lo, (x - m.x[lo]) / m.d[lo]
}

// allocate puts each datum's unit of mass where the current estimate says.
func (m *model) allocate(k int) float64 {
	n := len(m.d)
	f := m.post[k]
	cum := m.tmp // cumulative mass at left bound
	s := 0.
	for j := range f {
		cum[j] = s
		s += f[j]
	}
	c := m.cm
	clear(c)
	// c holds differences of multipliers first
	first := 0
	if k == 1 {
		first = len(m.data) - m.candN
	}
	tot := 0.
	extra := make([]float64, n)
	for i := first; i < len(m.data); i++ {
		d := m.data[i]
		w := d.w * math.Exp(-float64(len(m.data)-1-i)/memory)
		ia, fa := m.locate(d.lo)
		ib, fb := n-1, 1.
		if !math.IsInf(d.hi, 1) {
			ib, fb = m.locate(d.hi)
		}
		p := cum[ib] + fb*f[ib] - cum[ia] - fa*f[ia]
		if p < 1e-12 {
			continue
		}
		tot += w
		r := w / p
		if ia == ib {
			extra[ia] += r * (fb - fa)
			continue
		}
		extra[ia] += r * (1 - fa)
		extra[ib] += r * fb
		if ib > ia+1 {
			c[ia+1] += r
			c[ib] -= r
		}
	}
	r := 0.
	for j := range c {
		r += c[j]
		c[j] = (r + extra[j]) * f[j]
	}
	return tot
}

// smooth spreads c with a two-sided exponential kernel of width l into out.
func (m *model) smooth(l int, c, out []float64) {
	e := m.decay[l]
	run := 0.
	for j, v := range c {
		h := e[j]
		out[j] = run*(1-h*h) + v*(1-h)
		run = (run*h + v/2) * h
	}
	run2 := 0.
	for j := len(c) - 1; j >= 0; j-- {
		h := e[j]
		out[j] += run2 * (1 - h*h)
		run2 = (run2*h + c[j]/2) * h
	}
}

func (m *model) estimate(iter int) {
	n := len(m.d)
	out := make([]float64, n)
	for k := range m.post {
		for it := 0; it < iter; it++ {
			tot := m.allocate(k)
			last := it == iter-1
			clear(m.post[k])
			for l := range widths {
				if tot > 0 {
					m.smooth(l, m.cm, out)
				}
				z := 1 / (tot + priorN)
				w := m.ww[k][l] * z
				if last {
					if len(m.cdf[k][l]) < n+1 {
						m.cdf[k][l] = make([]float64, n+1)
					}
					cdf := m.cdf[k][l][:n+1]
					m.cdf[k][l] = cdf
					s := 0.
					for j := range out {
						v := out[j] + priorN*m.prior[j]
						cdf[j] = s
						s += v * z
						m.post[k][j] += w * v
					}
					cdf[n] = s
				} else {
					for j := range out {
						m.post[k][j] += w * (out[j] + priorN*m.prior[j])
					}
				}
			}
			// the kernels leak a little at the ends
			s := 0.
			for _, v := range m.post[k] {
				s += v
			}
			for j := range m.post[k] {
				m.post[k][j] /= s
			}
		}
	}
	m.pending = 0
}

func (m *model) priorMass(ia int, fa float64, ib int, fb float64) float64 {
	if ia == ib {
		return m.prior[ia] * (fb - fa)
	}
	p := m.prior[ia]*(1-fa) + m.prior[ib]*fb
	for j := ia + 1; j < ib; j++ {
		p += m.prior[j]
	}
	return p
}

func (m *model) learn(s sample) bool {
	n := len(m.d)
	ia, fa := m.locate(s.lo)
	ib, fb := n-1, 1.
	if !math.IsInf(s.hi, 1) {
		ib, fb = m.locate(s.hi)
	}
	// how well did each width of each memory predict this?
	var pk [2]float64
	for k := range m.ww {
		if k == 1 && m.wk[1] == 0 {
			continue
		}
		var p [nw]float64
		for l := range widths {
			c := m.cdf[k][l]
			p[l] = c[ib] + fb*(c[ib+1]-c[ib]) - c[ia] - fa*(c[ia+1]-c[ia])
			p[l] = max(p[l], 1e-12)
			pk[k] += m.ww[k][l] * p[l]
		}
		a := share * (1 - min(1, pk[k]))
		for l := range widths {
			m.ww[k][l] = (1-a)*m.ww[k][l]*p[l]/pk[k] + a*widthPrior[l]
		}
	}
	p0 := max(m.priorMass(ia, fa, ib, fb), 1e-12)
	w0, w1 := m.wk[0]*pk[0], m.wk[1]*pk[1]
	m.candN++
	if len(m.data) > 0 && changeP*p0 > w1 {
		w1 = changeP * p0
		m.candN = 1
		for l := range widths {
			m.ww[1][l] = .5*widthPrior[l] + .5*m.ww[0][l]
		}
		copy(m.post[1], m.prior)
	}
	m.wk[0], m.wk[1] = w0/(w0+w1), w1/(w0+w1)
	surprise := pk[0] < .02
	m.data = append(m.data, s)
	m.seen++
	if m.wk[1] > .99 && m.candN >= 3 {
		m.data = append(m.data[:0], m.data[len(m.data)-m.candN:]...)
		m.wk = [2]float64{1, 0}
		m.ww[0] = m.ww[1]
		copy(m.post[0], m.post[1])
		m.candN = 0
		surprise = true
	}
	if len(m.data) > maxData {
		m.data = append(m.data[:0], m.data[len(m.data)-maxData*7/8:]...)
		m.candN = min(m.candN, len(m.data))
	}
	m.pending++
	if surprise || m.pending > len(m.data)/32 {
		m.regrid()
		m.estimate(2)
		return true
	}
	return false
}

type schedule struct {
	c             float64
	n             int       // data behind it
	t, f, b, w, T []float64 // ages, cdf, t·F−X+W, W/S, next poll
}

func (m *model) schedule(c float64) *schedule {
	n := len(m.d) + 1
	buf := make([]float64, 5*(n+1))
	s := &schedule{c: c, n: len(m.data)}
	s.t, s.f, s.b, s.w, s.T = buf[:n+1], buf[n+1:2*(n+1)], buf[2*(n+1):3*(n+1)], buf[3*(n+1):4*(n+1)], buf[4*(n+1):]
	X := make([]float64, n+1)
	dens := (m.wk[0]*m.post[0][n-2] + m.wk[1]*m.post[1][n-2]) / m.d[n-2]
	z := 1 / (1 + dens)
	for j := 1; j <= n; j++ {
		s.t[j] = math.Exp(m.x[j-1])
		if j > 1 {
			p := z * (m.wk[0]*m.post[0][j-2] + m.wk[1]*m.post[1][j-2])
			s.f[j] = s.f[j-1] + p
			X[j] = X[j-1] + p*(s.t[j]+s.t[j-1])/2
		}
	}
	// backward recurrence over the lower envelope
	h := s.t[n]
	sn := max(1-s.f[n], 0)
	wn := sn * 2 * math.Sqrt(2*c*h)
	s.b[n] = h*s.f[n] - X[n] + wn
	s.w[n] = 2 * math.Sqrt(2*c*h)
	s.T[n] = h + math.Sqrt(2*c*h)
	q := make([]int, 0, n+1) // lines, steepest first
	front := 0
	q = append(q, n)
	for i := n - 1; i >= 0; i-- {
		F := s.f[i]
		for front+1 < len(q) && s.b[q[front+1]]-s.t[q[front+1]]*F <= s.b[q[front]]-s.t[q[front]]*F {
			front++
		}
		j := q[front]
		S := 1 - F
		W := c*S + X[i] + s.b[j] - s.t[j]*F
		s.T[i] = s.t[j]
		// many polls within the next cell: continuous approximation
		if d, p := s.t[i+1]-s.t[i], s.f[i+1]-s.f[i]; p > 0 {
			Sm := S - p/2
			g := math.Sqrt(2 * c * Sm * d / p)
			if d > 1.5*g {
				Wn := s.b[i+1] - s.t[i+1]*s.f[i+1] + X[i+1]
				if wc := math.Sqrt(2*c*Sm*p*d) + Wn; wc < W {
					W = wc
					s.T[i] = s.t[i] + g
				}
			}
		}
		s.w[i] = W / max(S, 1e-300)
		s.b[i] = s.t[i]*F - X[i] + W
		// add line i
		for len(q)-front >= 2 {
			a, b := q[len(q)-2], q[len(q)-1]
			// b unnecessary if intersection(a,i) is right of intersection(a,b)
			if (s.b[i]-s.b[a])*(s.t[a]-s.t[b]) <= (s.b[b]-s.b[a])*(s.t[a]-s.t[i]) {
				q = q[:len(q)-1]
			} else {
				break
			}
		}
		q = append(q, i)
	}
	return s
}
