package outcome

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Figures describe the scores. They do not affect the verdict. Except for the Brier losses and the means, they come from
// histograms of 200 bins, which rounds scores to 0.005.
type Figures struct {
	Rows      uint64  `json:"rows"`
	Positives uint64  `json:"positives"`
	BaseRate  float64 `json:"base_rate"`
	// Baseline describes q, Policy p'.
	Baseline ScoreFigures `json:"baseline"`
	Policy   ScoreFigures `json:"policy"`
}

// ScoreFigures are the figures of one scorer.
type ScoreFigures struct {
	Brier   float64 `json:"brier"`
	LogLoss float64 `json:"log_loss"`
	// AUC is nil unless both classes occur. Its interval is nil with fewer than 5 days.
	AUC         *float64       `json:"auc"`
	AUCInterval *eval.Interval `json:"auc_interval"`
	// Excess is the mean of y minus the score, the calibration in the large: above 0 the scores are too low. Its bounds are
	// the verdict's, after the last block.
	Excess      float64    `json:"excess"`
	ExcessLower float64    `json:"excess_lower"`
	ExcessUpper float64    `json:"excess_upper"`
	Reliability []eval.Bin `json:"reliability"`
}

// dense holds the counts of a histogram by bin and class.
type dense [Bins][2]float64

func (d *dense) add(h Histogram) {
	for _, b := range h {
		d[b[0]][0] += float64(b[1])
		d[b[0]][1] += float64(b[2])
	}
}

// centre is the score that stands for a bin.
func centre(bin int) float64 { return (float64(bin) + 0.5) / Bins }

// Describe returns the figures of the records of one model, baseline and plan. It returns nil if no row has matured, and an
// error for records that [Judge] rejects.
func Describe(p Plan, records []Record, b eval.Bootstrap) (*Figures, error) {
	sorted, err := arrange(p, records)
	if err != nil {
		return nil, err
	}
	v := Judgment{Plan: p}
	blocks, err := v.sum(sorted)
	if err != nil || v.Total.Labels[Matured] == 0 {
		return nil, err
	}
	n := float64(v.Total.Labels[Matured])
	_, positives := v.Total.BaselineScores.Classes()
	f := &Figures{Rows: v.Total.Labels[Matured], Positives: positives, BaseRate: float64(positives) / n}
	loss := v.Total.SumLoss.Float() / n
	f.Baseline = describe(p, blocks, b, loss, func(r *Record) (Histogram, Fixed) { return r.BaselineScores, r.SumBaseline })
	f.Policy = describe(p, blocks, b, loss-v.Difference, func(r *Record) (Histogram, Fixed) { return r.PolicyScores, r.SumPolicy })
	return f, nil
}

func describe(p Plan, blocks []*Record, b eval.Bootstrap, brier float64, of func(*Record) (Histogram, Fixed)) ScoreFigures {
	f := ScoreFigures{Brier: brier, ExcessLower: -1, ExcessUpper: 1}
	var all dense
	var days []*dense
	var bounds [2]stats.MeanBound
	n, last, sum := 0.0, int64(math.MinInt64), 0.0
	alpha := p.Alpha / 2
	if alpha == 0 { // no plan
		alpha = DefaultAlpha / 2
	}
	for _, r := range blocks {
		scores, total := of(r)
		if day := floorDiv(p.Start(r.Block).Unix(), 24*60*60); day != last {
			last, days = day, append(days, &dense{})
		}
		all.add(scores)
		days[len(days)-1].add(scores)
		_, positives := scores.Classes()
		rows, excess := float64(r.Labels[Matured]), float64(positives)-total.Float()
		n, sum = n+rows, sum+excess
		if _, ok := r.x(1); ok {
			bounds[parity(r.Block)].Add(excess / rows)
		}
	}
	for k := range bounds {
		f.ExcessLower = max(f.ExcessLower, bounds[k].Lower(alpha))
		f.ExcessUpper = min(f.ExcessUpper, bounds[k].Upper(alpha))
	}
	f.Excess = sum / n
	f.LogLoss, f.Reliability = all.calibration(n)
	if auc := all.auc(); !math.IsNaN(auc) {
		f.AUC = &auc
	}
	f.AUCInterval = interval(days, b)
	return f
}

// calibration returns the log loss and the reliability table.
func (d *dense) calibration(n float64) (logLoss float64, table []eval.Bin) {
	const per = Bins / eval.Bins
	table = make([]eval.Bin, eval.Bins)
	for i, classes := range d {
		score, rows := centre(i), classes[0]+classes[1]
		logLoss -= (classes[1]*math.Log(score) + classes[0]*math.Log1p(-score)) / n
		t := &table[i/per]
		t.N += int(rows)
		t.MeanScore += score * rows
		t.Rate += classes[1]
	}
	for i := range table {
		t := &table[i]
		t.Low, t.High = float64(i)/eval.Bins, float64(i+1)/eval.Bins
		if t.N > 0 {
			t.MeanScore /= float64(t.N)
			t.Rate /= float64(t.N)
		}
	}
	return logLoss, table
}

// auc returns the area under the ROC curve; scores of one bin are ties. It is NaN without both classes.
func (d *dense) auc() float64 {
	var below, positives, pairs float64
	for _, classes := range d {
		pairs += classes[1] * (below + classes[0]/2)
		below += classes[0]
		positives += classes[1]
	}
	return pairs / (below * positives)
}

// interval returns the interval of the AUC by bootstrap of whole days; nil if there are too few.
func interval(days []*dense, b eval.Bootstrap) *eval.Interval {
	if len(days) < b.MinDays {
		return nil
	}
	rng := rand.New(rand.NewPCG(b.Seed, 0))
	values := make([]float64, 0, b.Replicates)
	for range b.Replicates {
		var drawn dense
		for range days {
			day := days[rng.IntN(len(days))]
			for i := range drawn {
				drawn[i][0] += day[i][0]
				drawn[i][1] += day[i][1]
			}
		}
		if auc := drawn.auc(); !math.IsNaN(auc) {
			values = append(values, auc)
		}
	}
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	tail := (1 - b.Level) / 2
	return &eval.Interval{Low: stats.Quantile(values, tail), High: stats.Quantile(values, 1-tail)}
}
