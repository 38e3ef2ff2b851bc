package outcome

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// The limits of a verdict.
const (
	// LeastRows is the fewest sampled rows of a block that counts.
	LeastRows = 5
	// LeastBlocks is the fewest counted blocks of a stream.
	LeastBlocks = 50
	// LeastCounted is the least share of counted blocks of the blocks with requests.
	LeastCounted = 0.5
	// MostExpired is the largest share of expired and lost rows of the labels that are due.
	MostExpired = 0.05
	// MostUnlabelled is the largest share of rows without a label of the labels that are due.
	MostUnlabelled = 0.20
	// MostMissing is the largest share of an executor's requests whose records are missing.
	MostMissing = 0.05
	// MostOverCap is the largest share of rows whose score is over the cap.
	MostOverCap = 0.05
	// LeastAnswered is the least share of rows with a score.
	LeastAnswered = 0.95
)

// Verdict answers whether the model is at least as good as the baseline.
type Verdict string

// The verdicts.
const (
	Error Verdict = "ERROR"
	// Fail means that the model is worse by more than the margin.
	Fail Verdict = "FAIL"
	// Better means that the model is better. It is a PASS too.
	Better Verdict = "BETTER"
	// Pass means that the model is not worse by more than the margin.
	Pass         Verdict = "PASS"
	Inconclusive Verdict = "INCONCLUSIVE"
)

// Verdicts returns all verdicts.
func Verdicts() []Verdict { return []Verdict{Error, Fail, Better, Pass, Inconclusive} }

// Gate returns the verdict of a gate: BETTER is a PASS.
func (v Verdict) Gate() gate.Verdict {
	if v == Better {
		return gate.Pass
	}
	return gate.Worst(gate.Verdict(v))
}

// Judgment is a verdict and its basis. Differences and bounds are in units of the Brier loss; positive means that the model
// is better.
type Judgment struct {
	Verdict Verdict `json:"verdict"`
	// Reasons explain the verdict.
	Reasons    []string `json:"reasons"`
	Plan       Plan     `json:"plan"`
	PlanDigest string   `json:"plan_digest"`
	Model      string   `json:"model"`
	Baseline   string   `json:"baseline"`
	Executors  int      `json:"executors"`
	// Start is the start of the first block, and End the end of the last; zero without records.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Blocks is the number of blocks with requests, Counted the number of those with a mean.
	Blocks  int `json:"blocks"`
	Counted int `json:"counted_blocks"`
	// Lower and Upper bound the mean difference. Each is the tighter bound of the two streams.
	Lower   float64   `json:"lower"`
	Upper   float64   `json:"upper"`
	Streams [2]Stream `json:"streams"`
	// Claims are latched: the first block of each claim that held.
	Claims []Claim `json:"claims"`
	// Total is the sum over all records. Its key has no executor or block.
	Total Record `json:"total"`
	// Difference is the mean of d over all matured rows, Deviation its standard deviation.
	Difference float64 `json:"difference"`
	Deviation  float64 `json:"deviation"`
	Shares     Shares  `json:"shares"`
	// DaysNeeded estimates how many days a PASS still needs if future blocks are like the past ones: 0 if there is one, nil
	// if this difference never leads to one. LeastDays is how long two equal scorers need from the start.
	DaysNeeded *float64 `json:"days_needed"`
	// ExpectedDays is DaysNeeded, but from the start of the run.
	ExpectedDays *float64 `json:"expected_days"`
	LeastDays    float64  `json:"least_days"`

	// Points are the bounds over time, one for each counted block. They can be recomputed from the records.
	Points []Point `json:"-"`
}

// Stream is the even or the odd blocks.
type Stream struct {
	Name string `json:"name"`
	// Blocks is n, the number of counted blocks.
	Blocks int `json:"blocks"`
	// Lower is the highest lower bound so far and Upper the lowest upper bound, with the blocks that gave them.
	Lower      float64 `json:"lower"`
	Upper      float64 `json:"upper"`
	LowerBlock int64   `json:"lower_block"`
	UpperBlock int64   `json:"upper_block"`
	// LastLower and LastUpper are the bounds after the last block. If the difference changes over time, they may exclude
	// what held before.
	LastLower float64 `json:"last_lower"`
	LastUpper float64 `json:"last_upper"`
}

// Claim is a claim about the mean difference up to a block.
type Claim struct {
	Verdict Verdict `json:"verdict"`
	Stream  string  `json:"stream"`
	Block   int64   `json:"block"`
	// Time is the end of the block.
	Time time.Time `json:"time"`
}

// Shares are the conditions for an ERROR or a PASS besides the bounds. They are 0 without rows.
type Shares struct {
	// Of the labels that are due, Expired is the share of expired and lost rows, Unlabelled of rows without a label.
	Expired    float64 `json:"expired"`
	Unlabelled float64 `json:"no_label"`
	// Missing is the largest share of an executor's requests whose records are missing.
	Missing float64 `json:"missing"`
	// OverCap is the share of rows with |p - q| above the cap, Answered the share with a model score.
	OverCap  float64 `json:"over_cap"`
	Answered float64 `json:"answered"`
	// Counted is the share of blocks with requests that are counted.
	Counted float64 `json:"counted"`
}

// Point is the state of a stream after a counted block.
type Point struct {
	Stream int // 0 even, 1 odd
	Block  int64
	// X is the mean of d of the block. Lower and Upper are latched.
	X, Lower, Upper float64
}

// Judge judges the records of one model, baseline and plan, of all executors, in any order. Duplicate records count once.
// Records that contradict each other give an ERROR.
func Judge(p Plan, records []Record) *Judgment {
	v := &Judgment{Reasons: []string{}, Claims: []Claim{}, Plan: p, PlanDigest: p.Digest()}
	most := p.maxDifference()
	v.Lower, v.Upper = -most, most
	for i, name := range streamNames {
		v.Streams[i] = Stream{Name: name, Lower: -most, Upper: most, LastLower: -most, LastUpper: most}
	}
	if err := p.Validate(); err != nil {
		return v.settle(Error, err.Error())
	}
	v.LeastDays = p.LeastDays()
	sorted, err := arrange(p, records)
	if err != nil {
		return v.settle(Error, err.Error())
	}
	blocks, err := v.sum(sorted)
	if err != nil {
		return v.settle(Error, err.Error())
	}
	bounds := v.bound(blocks)
	v.need(bounds)
	v.decide()
	if v.Verdict == Pass || v.Verdict == Better {
		v.DaysNeeded = new(float64)
	}
	return v
}

var streamNames = [2]string{"even", "odd"}

// parity returns the stream of a block.
func parity(block int64) int { return int(block & 1) }

func (v *Judgment) settle(verdict Verdict, reasons ...string) *Judgment {
	v.Verdict, v.Reasons = verdict, append(v.Reasons, reasons...)
	return v
}

// arrange returns the records by executor and block, each once.
func arrange(p Plan, records []Record) ([]Record, error) {
	sorted := slices.Clone(records)
	slices.SortFunc(sorted, func(a, b Record) int {
		return cmp.Or(strings.Compare(a.Executor, b.Executor), cmp.Compare(a.Block, b.Block))
	})
	for i := range sorted {
		r := &sorted[i]
		if err := r.Validate(p); err != nil {
			return nil, err
		}
		if r.Model != sorted[0].Model || r.Baseline != sorted[0].Baseline {
			return nil, errors.New("records of several models or baselines cannot be judged together")
		}
		if i > 0 && r.Key == sorted[i-1].Key && !equal(r, &sorted[i-1]) {
			return nil, fmt.Errorf("two records of executor %s, block %d contradict each other", r.Executor, r.Block)
		}
	}
	return slices.CompactFunc(sorted, func(a, b Record) bool { return a.Key == b.Key }), nil
}

func equal(a, b *Record) bool {
	x, y := *a, *b
	x.BaselineScores, y.BaselineScores, x.PolicyScores, y.PolicyScores = nil, nil, nil, nil
	return fmt.Sprint(x) == fmt.Sprint(y) && slices.Equal(a.BaselineScores, b.BaselineScores) && slices.Equal(a.PolicyScores, b.PolicyScores)
}

// sum adds up the records by block, in order, and in total. It also finds missing records.
func (v *Judgment) sum(sorted []Record) ([]*Record, error) {
	byBlock := map[int64]*Record{}
	var errs error
	for first, i := 0, 0; i < len(sorted); i++ {
		r := &sorted[i]
		if i == 0 || r.Executor != sorted[i-1].Executor {
			first = i
			v.Executors++
		}
		if i > first && r.Through < sorted[i-1].Through+r.Requests() {
			return nil, fmt.Errorf("executor %s, block %d: %d requests in all, but %d before it", r.Executor, r.Block, r.Through, sorted[i-1].Through)
		}
		if i+1 == len(sorted) || sorted[i+1].Executor != r.Executor {
			v.miss(sorted[first : i+1])
		}
		b := byBlock[r.Block]
		if b == nil {
			b = &Record{Key: r.Key}
			b.Executor = ""
			byBlock[r.Block] = b
		}
		errs = errors.Join(errs, b.Merge(r), v.Total.Merge(r))
	}
	if len(sorted) == 0 {
		return nil, nil
	}
	v.Model, v.Baseline = sorted[0].Model, sorted[0].Baseline
	v.Total.Key = Key{Model: v.Model, Baseline: v.Baseline, Plan: v.PlanDigest}
	blocks := make([]*Record, 0, len(byBlock))
	for _, b := range byBlock {
		blocks = append(blocks, b)
	}
	slices.SortFunc(blocks, func(a, b *Record) int { return cmp.Compare(a.Block, b.Block) })
	v.Start, v.End = v.Plan.Start(blocks[0].Block), v.Plan.Start(blocks[len(blocks)-1].Block+1)
	v.Total.Through = v.Total.Requests()
	v.measure()
	return blocks, errs
}

// miss computes the share of requests in missing records of an executor, as far as the first record allows.
func (v *Judgment) miss(of []Record) {
	var have uint64
	for i := range of {
		have += of[i].Requests()
	}
	expected := of[len(of)-1].Through - of[0].Through + of[0].Requests()
	v.Shares.Missing = max(v.Shares.Missing, share(expected-have, expected))
}

func share(k, n uint64) float64 {
	if n == 0 {
		return 0
	}
	return float64(k) / float64(n)
}

// measure computes the shares and means of the total.
func (v *Judgment) measure() {
	t := &v.Total
	gone := t.Labels[Expired] + t.Lost
	due := t.Labels[Matured] + t.Labels[NoLabel] + gone
	v.Shares.Expired, v.Shares.Unlabelled = share(gone, due), share(t.Labels[NoLabel], due)
	v.Shares.OverCap, v.Shares.Answered = share(t.Fallbacks[Disagreement], t.Rows), share(t.Rows-t.Fallbacks.Unanswered(), t.Rows)
	if n := float64(t.Labels[Matured]); n > 0 {
		v.Difference = t.SumD.Float() / n
		v.Deviation = math.Sqrt(max(0, t.SumD2.Float()/n-v.Difference*v.Difference))
	}
}

// x returns the mean of d of a block, divided by B. ok is false for a block that does not count.
func (r *Record) x(most float64) (x float64, ok bool) {
	if r.Rows < LeastRows || r.Labels[Matured] == 0 {
		return 0, false
	}
	return r.SumD.Float() / float64(r.Labels[Matured]) / most, true
}

// bound runs the bounds over the blocks, and records the claims.
func (v *Judgment) bound(blocks []*Record) (bounds [2]stats.MeanBound) {
	most, alpha := v.Plan.MaxDifference(), v.Plan.Alpha/2
	claimed := map[Verdict]bool{}
	for _, r := range blocks {
		if r.Rows > 0 {
			v.Blocks++
		}
		x, ok := r.x(most)
		if !ok {
			continue
		}
		v.Counted++
		k := parity(r.Block)
		b, s := &bounds[k], &v.Streams[k]
		b.Add(x)
		s.Blocks = b.N()
		// Search for the bound only if it has improved.
		if b.Above(s.Lower/most, alpha) {
			if l := most * b.Lower(alpha); l > s.Lower {
				s.Lower, s.LowerBlock = l, r.Block
			}
		}
		if b.Below(s.Upper/most, alpha) {
			if u := most * b.Upper(alpha); u < s.Upper {
				s.Upper, s.UpperBlock = u, r.Block
			}
		}
		v.Lower, v.Upper = max(v.Lower, s.Lower), min(v.Upper, s.Upper)
		v.Points = append(v.Points, Point{k, r.Block, most * x, s.Lower, s.Upper})
		for _, verdict := range v.claims() {
			if !claimed[verdict] {
				claimed[verdict] = true
				v.Claims = append(v.Claims, Claim{verdict, s.Name, r.Block, v.Plan.Start(r.Block + 1)})
			}
		}
	}
	for k := range bounds {
		v.Streams[k].LastLower, v.Streams[k].LastUpper = most*bounds[k].Lower(alpha), most*bounds[k].Upper(alpha)
	}
	v.Shares.Counted = share(uint64(v.Counted), uint64(v.Blocks))
	return bounds
}

// claims returns the verdicts that the bounds support.
func (v *Judgment) claims() (all []Verdict) {
	if v.Upper < -v.Plan.Margin {
		all = append(all, Fail)
	}
	if v.Lower > 0 {
		all = append(all, Better)
	}
	if v.Lower > -v.Plan.Margin {
		all = append(all, Pass)
	}
	return all
}

// need estimates the days until a PASS.
func (v *Judgment) need(bounds [2]stats.MeanBound) {
	margin, alpha := v.Plan.Margin/v.Plan.MaxDifference(), v.Plan.Alpha/2
	all, left := math.Inf(1), math.Inf(1)
	var allFewest, leftFewest float64
	for k := range bounds {
		n := float64(bounds[k].N())
		// Markets with sessions have fewer blocks a day. Below a day the rate is not known yet.
		rate := 1 / (2 * v.Plan.Width().Hours() / 24)
		if span := v.End.Sub(v.Start).Hours() / 24; span >= 1 && n > 0 {
			rate = n / span
		}
		needed := stats.LeastCount(margin, alpha)
		if n > 0 {
			needed = bounds[k].Needed(-margin, alpha)
		}
		all, left = min(all, needed/rate), min(left, max(0, needed-n)/rate)
		allFewest, leftFewest = max(allFewest, LeastBlocks/rate), max(leftFewest, (LeastBlocks-n)/rate)
	}
	if !math.IsInf(all, 1) {
		all, left = max(all, allFewest), max(left, leftFewest)
		v.ExpectedDays, v.DaysNeeded = &all, &left
	}
}

// decide sets the verdict by the first condition that applies.
func (v *Judgment) decide() {
	s := v.Shares
	for _, e := range []struct {
		share, most float64
		what        string
	}{
		{s.Expired, MostExpired, "of the labels due are expired or lost"},
		{s.Unlabelled, MostUnlabelled, "of the labels due are missing: the data have holes"},
		{s.Missing, MostMissing, "of an executor's requests are in records that are missing"},
	} {
		if e.share > e.most {
			v.settle(Error, fmt.Sprintf("%.1f %% %s; at most %.0f %% may be", 100*e.share, e.what, 100*e.most))
		}
	}
	if v.Verdict == Error {
		return
	}
	claims := v.claims()
	if slices.Contains(claims, Fail) {
		v.settle(Fail, fmt.Sprintf("the model's Brier loss is higher by more than the margin of %.4g", v.Plan.Margin))
		return
	}
	if v.wait(); len(v.Reasons) > 0 || len(claims) == 0 {
		if len(claims) == 0 {
			v.Reasons = append(v.Reasons, v.unclaimed())
		}
		v.settle(Inconclusive)
		return
	}
	v.settle(claims[0])
}

// wait adds the reasons why a PASS is not possible yet.
func (v *Judgment) wait() {
	add := func(is bool, what string, args ...any) {
		if is {
			v.Reasons = append(v.Reasons, fmt.Sprintf(what, args...))
		}
	}
	fewest := min(v.Streams[0].Blocks, v.Streams[1].Blocks)
	add(fewest < LeastBlocks, "%d counted blocks in a stream, %d needed", fewest, LeastBlocks)
	if v.Blocks == 0 {
		return
	}
	s := v.Shares
	add(s.Counted < LeastCounted, "%d of %d blocks with requests have %d rows and a label", v.Counted, v.Blocks, LeastRows)
	add(s.OverCap > MostOverCap, "%.1f %% of the scores are farther from the baseline than the cap of %v; at most %.0f %% may be, or the cap hides the model",
		100*s.OverCap, v.Plan.DisagreementCap, 100*MostOverCap)
	add(s.Answered < LeastAnswered, "%.1f %% of the rows have a score; %.0f %% are needed", 100*s.Answered, 100*LeastAnswered)
}

// unclaimed describes what the bounds leave open.
func (v *Judgment) unclaimed() string {
	text := fmt.Sprintf("the mean difference is between %.4g and %.4g, the margin %.4g", v.Lower, v.Upper, v.Plan.Margin)
	if v.DaysNeeded == nil {
		return text + "; at the difference so far it never passes"
	}
	return text + "; " + Days(*v.DaysNeeded) + " more at the difference so far"
}

// Days formats a number of days for people.
func Days(days float64) string {
	switch {
	case math.IsInf(days, 1):
		return "never"
	case days >= 365:
		return fmt.Sprintf("%.1f years", days/365)
	case days >= 100:
		return fmt.Sprintf("%.0f days", days)
	default:
		return fmt.Sprintf("%.1f days", days)
	}
}

// Alarm is the state of the watch after a promotion.
type Alarm struct {
	// Statistic is the highest statistic of the two streams so far, Threshold the value that raises the alarm.
	Statistic float64 `json:"statistic"`
	Threshold float64 `json:"threshold"`
	Raised    bool    `json:"raised"`
	// Block is the block that raised it.
	Block int64 `json:"block"`
}

// Watch detects a drop in quality below the margin in the records since a promotion. At the worst quality that the margin
// allows, it raises about one false alarm a year.
func Watch(p Plan, records []Record) (*Alarm, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	sorted, err := arrange(p, records)
	if err != nil {
		return nil, err
	}
	blocks, err := (&Judgment{Plan: p}).sum(sorted)
	if err != nil {
		return nil, err
	}
	a := &Alarm{Threshold: float64(365*24*time.Hour) / float64(p.Width())}
	var streams [2]stats.Detector
	margin := p.Margin / p.MaxDifference()
	for _, r := range blocks {
		x, ok := r.x(p.MaxDifference())
		if !ok {
			continue
		}
		a.Statistic = max(a.Statistic, streams[parity(r.Block)].Add(-(x+margin)/(1+margin)))
		if a.Statistic >= a.Threshold && !a.Raised {
			a.Raised, a.Block = true, r.Block
		}
	}
	return a, nil
}
