package outcome

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Label is the state of a sampled request's label. The set is closed: the counts of all labels add up to the sampled
// requests.
type Label uint8

// The labels.
const (
	// Matured rows have their label.
	Matured Label = iota
	// Pending rows wait for their label.
	Pending
	// NoLabel rows have gaps in the data of their horizon, or no quotes.
	NoLabel
	// NotReady rows have no usable time: it is missing, too far from the arrival, or after the symbol's quotes.
	NotReady
	// Expired rows came after their label or after the end of their block, or their label was known too late.
	Expired
	// Duplicate rows repeat a request id. The first row counts.
	Duplicate
	// NotKept rows exceed the rate at which rows are kept. They do not reduce coverage.
	NotKept

	labelEnd
)

var labelNames = [labelEnd]string{"matured", "pending", "no_label", "not_ready", "expired", "duplicate", "not_kept"}

// String returns the name of the label in metrics and evidence.
func (l Label) String() string { return labelNames[l] }

// Labels returns all labels.
func Labels() []Label {
	return []Label{Matured, Pending, NoLabel, NotReady, Expired, Duplicate, NotKept}
}

// Fallback is why a row's policy score is the baseline's. The set is closed. Except for Disagreement, the names are the
// shadow's outcomes.
type Fallback uint8

// The fallbacks.
const (
	// None means that the policy score is the model's.
	None Fallback = iota
	// Disagreement means that the model's score is farther from the baseline than the cap.
	Disagreement
	Deadline
	BreakerOpen
	Shed
	Unavailable
	InvalidScore
	Rejected
	Internal
	Canceled

	fallbackEnd
)

var fallbackNames = [fallbackEnd]string{
	"none", "disagreement", "deadline", "breaker_open", "shed", "unavailable", "invalid_score", "rejected", "internal", "canceled",
}

// String returns the name of the fallback.
func (f Fallback) String() string { return fallbackNames[f] }

// FallbackOf returns the fallback for the name of a shadow outcome. A compared score gives [None]; [Row.Shadow] decides about
// Disagreement. An unknown name gives [Internal].
func FallbackOf(shadowOutcome string) Fallback {
	switch shadowOutcome {
	case "match", "mismatch":
		return None
	}
	if i := slices.Index(fallbackNames[:], shadowOutcome); i > int(Disagreement) {
		return Fallback(i)
	}
	return Internal
}

// Source is where a request came from.
type Source uint8

// The sources.
const (
	Live Source = iota
	Replay
	Simulated

	sourceEnd
)

var sourceNames = [sourceEnd]string{"live", "replay", "simulated"}

// SourceOf returns the source of that name. An unknown one is [Simulated], so that it is never reported as live.
func SourceOf(name string) Source {
	if i := slices.Index(sourceNames[:], name); i >= 0 {
		return Source(i)
	}
	return Simulated
}

// LabelCounts are counts by label. In JSON, counts are objects with every name.
type LabelCounts [labelEnd]uint64

// FallbackCounts are counts by fallback.
type FallbackCounts [fallbackEnd]uint64

// SourceCounts are counts by source.
type SourceCounts [sourceEnd]uint64

// Total returns the sum over all labels: the sampled requests.
func (c *LabelCounts) Total() uint64 { return total(c[:]) }

// Unanswered returns how many rows had no model score.
func (c *FallbackCounts) Unanswered() uint64 { return total(c[Deadline:]) }

func total(counts []uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// MarshalJSON implements json.Marshaler.
func (c LabelCounts) MarshalJSON() ([]byte, error) { return marshalCounts(labelNames[:], c[:]), nil }

// UnmarshalJSON implements json.Unmarshaler. It refuses unknown and missing names.
func (c *LabelCounts) UnmarshalJSON(raw []byte) error {
	return unmarshalCounts(raw, labelNames[:], c[:])
}

// MarshalJSON implements json.Marshaler.
func (c FallbackCounts) MarshalJSON() ([]byte, error) {
	return marshalCounts(fallbackNames[:], c[:]), nil
}

// UnmarshalJSON implements json.Unmarshaler. It refuses unknown and missing names.
func (c *FallbackCounts) UnmarshalJSON(raw []byte) error {
	return unmarshalCounts(raw, fallbackNames[:], c[:])
}

// MarshalJSON implements json.Marshaler.
func (c SourceCounts) MarshalJSON() ([]byte, error) { return marshalCounts(sourceNames[:], c[:]), nil }

// UnmarshalJSON implements json.Unmarshaler. It refuses unknown and missing names.
func (c *SourceCounts) UnmarshalJSON(raw []byte) error {
	return unmarshalCounts(raw, sourceNames[:], c[:])
}

func marshalCounts(names []string, counts []uint64) []byte {
	out := []byte{'{'}
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, "%q:%d", name, counts[i])
	}
	return append(out, '}')
}

func unmarshalCounts(raw []byte, names []string, counts []uint64) error {
	var read map[string]uint64
	if err := json.Unmarshal(raw, &read); err != nil {
		return err
	}
	for i, name := range names {
		n, ok := read[name]
		if !ok {
			return fmt.Errorf("counts lack %q", name)
		}
		counts[i] = n
		delete(read, name)
	}
	for name := range read {
		return fmt.Errorf("counts have an unknown name %q", name)
	}
	return nil
}

// Fixed is a number in units of 2^-36. Sums of fixed numbers do not depend on their order. For values up to 1, a sum of
// 134 million rows fits.
type Fixed int64

const fixedBits = 36

// toFixed rounds x to the nearest fixed number.
func toFixed(x float64) Fixed { return Fixed(math.RoundToEven(x * (1 << fixedBits))) }

// Float returns the number.
func (f Fixed) Float() float64 { return float64(f) / (1 << fixedBits) }

// errOverflow is returned for a sum that is out of range.
var errOverflow = errors.New("a sum of block records is out of range")

// plus adds o, and returns an error on overflow.
func (f *Fixed) plus(o Fixed) error {
	sum := *f + o
	if (sum > *f) != (o > 0) && o != 0 {
		return errOverflow
	}
	*f = sum
	return nil
}

// Bins is the number of bins of a [Histogram], of equal width.
const Bins = 200

// Histogram counts scores by bin and class: each entry has the bin, the rows with y = 0 and those with y = 1. Bins ascend;
// empty ones are left out. In JSON it is a string such as "60:8,4 61:3,0", because nested lists make long files.
type Histogram [][3]uint64

// binOf returns the bin of a score in [0,1].
func binOf(score float64) uint64 { return uint64(min(Bins-1, int(score*Bins))) }

// add adds n rows to a bin; class is 0 or 1.
func (h *Histogram) add(bin uint64, class int, n uint64) {
	i := sort.Search(len(*h), func(i int) bool { return (*h)[i][0] >= bin })
	if i == len(*h) || (*h)[i][0] != bin {
		*h = slices.Insert(*h, i, [3]uint64{bin})
	}
	(*h)[i][1+class] += n
}

// Classes returns the rows with y = 0 and with y = 1.
func (h Histogram) Classes() (negatives, positives uint64) {
	for _, b := range h {
		negatives += b[1]
		positives += b[2]
	}
	return negatives, positives
}

// MarshalJSON implements json.Marshaler.
func (h Histogram) MarshalJSON() ([]byte, error) {
	out := []byte{'"'}
	for i, b := range h {
		if i > 0 {
			out = append(out, ' ')
		}
		out = fmt.Appendf(out, "%d:%d,%d", b[0], b[1], b[2])
	}
	return append(out, '"'), nil
}

// UnmarshalJSON implements json.Unmarshaler. It accepts only what MarshalJSON writes.
func (h *Histogram) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	*h = nil
	for i, word := range strings.Fields(text) {
		var b [3]uint64
		var errs [3]error
		bin, counts, _ := strings.Cut(word, ":")
		negatives, positives, _ := strings.Cut(counts, ",")
		for k, number := range []string{bin, negatives, positives} {
			b[k], errs[k] = strconv.ParseUint(number, 10, 64)
		}
		if errors.Join(errs[:]...) != nil || b[0] >= Bins || i > 0 && b[0] <= (*h)[i-1][0] {
			return fmt.Errorf("histogram entry %q: want bin:count,count with bins below %d in ascending order", word, Bins)
		}
		*h = append(*h, b)
	}
	if again, _ := h.MarshalJSON(); string(again) != strconv.Quote(text) {
		return fmt.Errorf("histogram %.40q: want entries as in \"60:8,4 61:3,0\"", text)
	}
	return nil
}

// Key identifies a record.
type Key struct {
	// Executor is the executor's id, which outlives restarts.
	Executor string `json:"executor_id"`
	Block    int64  `json:"block"`
	// Model, Baseline and Plan are digests. Without a plan, Plan is empty.
	Model    string `json:"model"`
	Baseline string `json:"baseline"`
	Plan     string `json:"plan"`
}

// Record sums the rows of one block and one executor. Records of several executors can be added up.
type Record struct {
	Key
	// Revision is the latest rollout revision of the rows.
	Revision uint64 `json:"rollout_revision"`
	// Labels count the sampled requests. Requests that belong to no open block (without a usable time, repeated, or after
	// the end of their block) are counted in the next block that closes.
	Labels LabelCounts `json:"labels"`
	// Lost counts the rows lost when an executor was killed.
	Lost uint64 `json:"lost"`
	// Through is the number of requests in all records of the executor for the same model, baseline and plan up to this one.
	// It shows records that are missing.
	Through uint64 `json:"requests_through"`
	// Rows is the number of sampled rows whose time is in the block. Fallbacks count them; their sum is Rows.
	Rows      uint64         `json:"rows"`
	Fallbacks FallbackCounts `json:"fallbacks"`
	// Sources count the sampled requests.
	Sources SourceCounts `json:"sources"`
	// SumD and SumD2 are sums of d and d^2 over the matured rows, SumLoss of the baseline's (q - y)^2, SumBaseline of q and
	// SumPolicy of p'. Units of 2^-36.
	SumD        Fixed `json:"sum_d"`
	SumD2       Fixed `json:"sum_d2"`
	SumLoss     Fixed `json:"sum_baseline_loss"`
	SumBaseline Fixed `json:"sum_baseline_score"`
	SumPolicy   Fixed `json:"sum_policy_score"`
	// BaselineScores and PolicyScores count q and p' of the matured rows.
	BaselineScores Histogram `json:"baseline_scores"`
	PolicyScores   Histogram `json:"policy_scores"`
}

// Requests returns the number of requests that the record accounts for.
func (r *Record) Requests() uint64 { return r.Labels.Total() + r.Lost }

// Merge adds the counts and sums of another record; the key stays. It returns an error, and leaves r undefined, if a sum
// is out of range.
func (r *Record) Merge(o *Record) error {
	r.Revision = max(r.Revision, o.Revision)
	r.Lost += o.Lost
	r.Through += o.Through
	r.Rows += o.Rows
	for i := range r.Labels {
		r.Labels[i] += o.Labels[i]
	}
	for i := range r.Fallbacks {
		r.Fallbacks[i] += o.Fallbacks[i]
	}
	for i := range r.Sources {
		r.Sources[i] += o.Sources[i]
	}
	r.BaselineScores.merge(o.BaselineScores)
	r.PolicyScores.merge(o.PolicyScores)
	return errors.Join(r.SumD.plus(o.SumD), r.SumD2.plus(o.SumD2), r.SumLoss.plus(o.SumLoss), r.SumBaseline.plus(o.SumBaseline),
		r.SumPolicy.plus(o.SumPolicy))
}

func (h *Histogram) merge(o Histogram) {
	for _, b := range o {
		h.add(b[0], 0, b[1])
		h.add(b[0], 1, b[2])
	}
}

// Validate returns an error if the counts and sums of a record of the plan contradict each other.
func (r *Record) Validate(p Plan) error {
	fail := func(what string, args ...any) error {
		return fmt.Errorf("record of executor %s, block %d: %s", r.Executor, r.Block, fmt.Sprintf(what, args...))
	}
	negatives, positives := r.PolicyScores.Classes()
	n, m := r.BaselineScores.Classes()
	matured := r.Labels[Matured]
	most := float64(matured)
	switch {
	case r.Executor == "":
		return fail("executor_id is empty")
	case r.Plan != p.Digest():
		return fail("is of plan %.12s, not of %.12s", r.Plan, p.Digest())
	case r.Labels[Pending] != 0:
		return fail("%d rows are pending; a closed block has none", r.Labels[Pending])
	case negatives != n || positives != m || n+m != matured:
		return fail("%d rows matured, but the histograms have %d and %d", matured, n+m, negatives+positives)
	case matured > r.Rows || r.Rows > r.Labels.Total():
		return fail("%d rows in the block, of %d requests with %d matured", r.Rows, r.Labels.Total(), matured)
	case total(r.Fallbacks[:]) != r.Rows:
		return fail("%d rows, but fallbacks of %d", r.Rows, total(r.Fallbacks[:]))
	case total(r.Sources[:]) != r.Labels.Total():
		return fail("%d requests, but sources of %d", r.Labels.Total(), total(r.Sources[:]))
	case r.Through < r.Requests():
		return fail("%d requests, but %d through it", r.Requests(), r.Through)
	case math.Abs(r.SumD.Float()) > most*(p.maxDifference()+rounding), r.SumD2 < 0 || r.SumD2.Float() > most*(p.maxDifference()*p.maxDifference()+rounding):
		return fail("the sum of differences is out of range for %d rows", matured)
	}
	for _, sum := range []Fixed{r.SumLoss, r.SumBaseline, r.SumPolicy} {
		if sum < 0 || sum.Float() > most*(1+rounding) {
			return fail("a sum of scores or losses is out of range for %d rows", matured)
		}
	}
	return nil
}

// rounding is the largest error of a fixed number.
const rounding = 1.0 / (1 << fixedBits)

// maxDifference is [Plan.MaxDifference], and 1 without a plan.
func (p Plan) maxDifference() float64 {
	if p == (Plan{}) {
		return 1
	}
	return p.MaxDifference()
}

// ReadRecord reads a record in JSON. Unknown and missing keys are errors.
func ReadRecord(raw []byte) (*Record, error) {
	r := &Record{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(r); err != nil {
		return nil, fmt.Errorf("block record: %w", err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(raw, &keys); err != nil {
		return nil, fmt.Errorf("block record: %w", err)
	}
	for _, key := range recordKeys {
		if v, ok := keys[key]; !ok || bytes.Equal(v, []byte("null")) {
			return nil, fmt.Errorf("block record lacks %q", key)
		}
	}
	return r, nil
}

var recordKeys = []string{
	"executor_id", "block", "model", "baseline", "plan", "rollout_revision", "labels", "lost", "requests_through", "rows", "fallbacks",
	"sources", "sum_d", "sum_d2", "sum_baseline_loss", "sum_baseline_score", "sum_policy_score", "baseline_scores", "policy_scores",
}

// Records is a JSON list of records, each read like [ReadRecord].
type Records []Record

// UnmarshalJSON implements json.Unmarshaler.
func (rs *Records) UnmarshalJSON(raw []byte) error {
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	*rs = make(Records, len(all))
	for i, one := range all {
		r, err := ReadRecord(one)
		if err != nil {
			return fmt.Errorf("record %d: %w", i+1, err)
		}
		(*rs)[i] = *r
	}
	return nil
}
