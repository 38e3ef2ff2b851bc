package train

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/greenlight-ml/greenlight/pkg/model"
)

// blockRows is the number of rows in a block of the sums: large enough to hide the cost of scheduling it, small enough to
// share a fold of 20,000 rows among cores.
const blockRows = 4096

// problem is the penalised log loss over standardised rows. Coefficient 0 is the intercept; the others are the weights
// of the varying columns.
type problem struct {
	// z has width values per row; the first is 1.
	z       []float64
	y       []bool
	width   int
	columns []int
	penalty float64
	blocks  []derivatives
}

// derivatives are the loss, its gradient, and the lower triangle of its Hessian, packed in row-major order.
type derivatives struct {
	loss     float64
	gradient []float64
	hessian  []float64
}

func newDerivatives(width int) derivatives {
	return derivatives{gradient: make([]float64, width), hessian: make([]float64, width*(width+1)/2)}
}

func (d *derivatives) add(o derivatives) {
	d.loss += o.loss
	for i, v := range o.gradient {
		d.gradient[i] += v
	}
	for i, v := range o.hessian {
		d.hessian[i] += v
	}
}

func newProblem(m *model.Logistic, x []float64, y []bool, active []bool, penalty float64) *problem {
	p := &problem{y: y, penalty: penalty}
	for j, a := range active {
		if a {
			p.columns = append(p.columns, j)
		}
	}
	p.width = len(p.columns) + 1
	p.z = make([]float64, len(y)*p.width)
	k := len(active)
	for i := range y {
		row, to := x[i*k:(i+1)*k], p.z[i*p.width:(i+1)*p.width]
		to[0] = 1
		for c, j := range p.columns {
			to[c+1] = max(-m.Clip, min(m.Clip, (row[j]-m.Mean[j])/m.SD[j]))
		}
	}
	p.blocks = make([]derivatives, (len(y)+blockRows-1)/blockRows)
	for i := range p.blocks {
		p.blocks[i] = newDerivatives(p.width)
	}
	return p
}

// minimise runs Newton's method from beta, in place. The loss is convex; halving a step that overshoots makes the
// method safe far from the minimum.
func (p *problem) minimise(beta []float64, o FitOptions) error {
	at := newDerivatives(p.width)
	p.evaluate(beta, &at)
	next := newDerivatives(p.width)
	step, try := make([]float64, p.width), make([]float64, p.width)
	largest := math.Inf(1)
	for range o.MaxIterations {
		if !solve(at.hessian, at.gradient, step) {
			return fmt.Errorf("hessian is singular: %w", ErrNotConverged)
		}
		scale := 1.0
		for {
			largest = 0
			for i := range beta {
				try[i] = beta[i] - float64(scale*step[i])
				largest = max(largest, math.Abs(try[i]-beta[i]))
			}
			if largest <= o.Tolerance {
				if scale < 1 {
					return fmt.Errorf("no step lowers the loss: %w", ErrNotConverged)
				}
				copy(beta, try)
				return nil
			}
			p.evaluate(try, &next)
			// The slack covers rounding of the sum: near the minimum the loss cannot rank two steps.
			if next.loss <= at.loss+1e-12*math.Abs(at.loss) {
				break
			}
			scale /= 2
		}
		copy(beta, try)
		at, next = next, at
	}
	return fmt.Errorf("coefficients still move by %.2g after %d iterations: %w", largest, o.MaxIterations, ErrNotConverged)
}

// evaluate sets d to the derivatives at beta. Idle cores take the next block; the sum over blocks is in order.
func (p *problem) evaluate(beta []float64, d *derivatives) {
	var taken atomic.Int64
	work := func() {
		for {
			b := int(taken.Add(1)) - 1
			if b >= len(p.blocks) {
				return
			}
			p.evaluateBlock(b, beta)
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(p.blocks)) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()

	d.loss = 0
	clear(d.gradient)
	clear(d.hessian)
	for _, b := range p.blocks {
		d.add(b)
	}
	at := 0
	for i := range p.width {
		at += i + 1 // the diagonal element is the last of its row
		if i > 0 {
			d.loss += p.penalty / 2 * beta[i] * beta[i]
			d.gradient[i] += p.penalty * beta[i]
			d.hessian[at-1] += p.penalty
		}
	}
}

func (p *problem) evaluateBlock(block int, beta []float64) {
	d := &p.blocks[block]
	gradient, hessian := d.gradient, d.hessian
	clear(gradient)
	clear(hessian)
	loss := 0.0
	for i := block * blockRows; i < min(len(p.y), (block+1)*blockRows); i++ {
		z := p.z[i*p.width : (i+1)*p.width]
		odds := 0.0
		for j, v := range z {
			odds += float64(beta[j] * v)
		}
		e := math.Exp(-math.Abs(odds))
		score := 1 / (1 + e)
		if odds < 0 {
			score = e / (1 + e)
		}
		// ln(1 + exp(odds)) - y odds, and its first and second derivative.
		loss += math.Log1p(e) + max(odds, 0)
		residual, curvature := score, e/((1+e)*(1+e))
		if p.y[i] {
			loss -= odds
			residual = -e / (1 + e)
			if odds < 0 {
				residual = -1 / (1 + e)
			}
		}
		at := 0
		for j, v := range z {
			gradient[j] += float64(residual * v)
			c := curvature * v
			for _, u := range z[:j+1] {
				hessian[at] += float64(c * u)
				at++
			}
		}
	}
	d.loss = loss
}

// solve finds x with A x = b by Cholesky decomposition for a positive definite A, given as its lower triangle row by row. It
// reports false if A is not positive definite within rounding. It does not use gonum, which rounds differently and would change
// the digests of models, and takes ten times as long for the seven features of a model.
func solve(a, b, x []float64) bool {
	n := len(b)
	l := append([]float64(nil), a...)
	row := func(i int) []float64 { return l[i*(i+1)/2 : (i+1)*(i+2)/2] }
	for i := range n {
		ri := row(i)
		diagonal := ri[i]
		for j := range i + 1 {
			rj := row(j)
			sum := ri[j]
			for k := range j {
				sum -= float64(ri[k] * rj[k])
			}
			if i != j {
				ri[j] = sum / rj[j]
				continue
			}
			if !(sum > 1e-12*diagonal) {
				return false
			}
			ri[i] = math.Sqrt(sum)
		}
	}
	for i := range n {
		sum := b[i]
		for k := range i {
			sum -= float64(row(i)[k] * x[k])
		}
		x[i] = sum / row(i)[i]
	}
	for i := n - 1; i >= 0; i-- {
		sum := x[i]
		for k := i + 1; k < n; k++ {
			sum -= float64(row(k)[i] * x[k])
		}
		x[i] = sum / row(i)[i]
	}
	return true
}
