package gate

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Policy holds the limits for a canary and a promotion as data, so that it can be read, changed and kept with the
// evidence.
type Policy struct {
	// Schema is [PolicySchema].
	Schema string `yaml:"schema" json:"schema"`
	// Kind is what a model must prove to be promoted. It is empty in policies of version 1.9 and before, which are
	// [Agreement].
	Kind Kind `yaml:"policy" json:"policy,omitempty"`
	// MatchTolerance is the largest |shadow - baseline| that counts as a match, in (0,1); 0 in policies of version 1.9 and
	// before: see [Policy.Tolerance]. DecisionThreshold is the score at and above which the desk acts, in (0,1), or 0 for
	// none. Executors must use the same values: see [Policy.Compares].
	MatchTolerance    float64 `yaml:"match_tolerance" json:"match_tolerance,omitempty"`
	DecisionThreshold float64 `yaml:"decision_threshold" json:"decision_threshold,omitempty"`
	// Phases are the percentages of requests that get a shadow, ascending, in (0,100].
	Phases []float64 `yaml:"phases" json:"phases"`
	// PhaseDuration is the shortest duration of a phase, and MinComparisons the fewest comparisons. HoldLimit is how
	// much longer a phase may take if it cannot be judged.
	PhaseDuration  Duration `yaml:"phase_duration" json:"phase_duration"`
	MinComparisons uint64   `yaml:"min_comparisons" json:"min_comparisons"`
	HoldLimit      Duration `yaml:"hold_limit" json:"hold_limit"`
	// Lease is how long an executor keeps a rollout without a renewal.
	Lease Duration `yaml:"lease" json:"lease"`
	// SLO is what a phase must keep to pass; crossing Abort ends the run immediately.
	SLO   Limits `yaml:"slo" json:"slo"`
	Abort Limits `yaml:"abort" json:"abort"`
	// Alpha is the error probability of the tests that are valid at any time (e-values), in (0,0.5].
	Alpha float64 `yaml:"alpha" json:"alpha"`
	// Promotion is what a model must have achieved.
	Promotion Promotion `yaml:"promotion" json:"promotion"`
}

// Kind is what a model must prove to be promoted.
type Kind string

// The kinds.
const (
	// Agreement is for a model that must answer like the baseline: the match rate is binding.
	Agreement Kind = "agreement"
	// Improvement is for a model that is meant to differ: the match rate is only shown, and on actual outcomes the model must
	// be at least as good as the baseline: see [LiveQuality].
	Improvement Kind = "improvement"
)

// Limits bound a shadow's quality.
type Limits struct {
	// P95MS bounds the time within which 95 % of the shadows ended, in milliseconds, in (0,1000). If the limit is a histogram
	// edge (60, 80, 100, 120, ...), it is known exactly whether a p95 is above it; between edges the p95 is interpolated.
	P95MS float64 `yaml:"p95_ms" json:"p95_ms"`
	// ErrorRate is the upper limit of failures / (comparisons + failures), MatchRate the lower limit of matches /
	// comparisons; both in (0,1). Under [Improvement], MatchRate is not binding.
	ErrorRate float64 `yaml:"error_rate" json:"error_rate"`
	MatchRate float64 `yaml:"match_rate" json:"match_rate"`
	// Coverage is the lower limit of comparisons / sampled shadows, in (0,1). It is 0 only in policies from before
	// coverage was judged, which have no rule for it.
	Coverage float64 `yaml:"coverage" json:"coverage,omitempty"`
}

// Promotion is what a model must have achieved before it may be promoted.
type Promotion struct {
	// PSI and FeaturePSI are upper limits of the overall index and of each feature's index, > 0.
	PSI        float64 `yaml:"psi" json:"psi"`
	FeaturePSI float64 `yaml:"feature_psi" json:"feature_psi"`
	// AUC and PrecisionAt20 are lower limits for the offline report, in (0,1).
	AUC           float64 `yaml:"auc" json:"auc"`
	PrecisionAt20 float64 `yaml:"precision_at_20" json:"precision_at_20"`
	// Soak is how long all requests must have been shadowed, in canary phases of 100 % that passed. SoakWithin is how
	// long ago the last of these phases may have ended.
	Soak       Duration `yaml:"soak" json:"soak"`
	SoakWithin Duration `yaml:"soak_within" json:"soak_within"`
}

// PolicySchema identifies the format of a policy.
const PolicySchema = "greenlight/gate-policy/v1"

// DefaultPolicy returns the default policy. Every call returns a fresh copy.
func DefaultPolicy() Policy {
	return Policy{
		Schema: PolicySchema, Kind: Agreement, MatchTolerance: MatchTolerance,
		Phases:        []float64{5, 10, 25, 50, 100},
		PhaseDuration: Duration(30 * time.Minute), MinComparisons: comparisons, HoldLimit: Duration(4 * time.Hour), Lease: Duration(30 * time.Second),
		SLO:   Limits{P95MS: latencyTargetMS, ErrorRate: errorLimit / 2, MatchRate: matchTarget, Coverage: 0.95},
		Abort: Limits{P95MS: 120, ErrorRate: errorLimit, MatchRate: 0.90, Coverage: 0.80},
		Alpha: 0.01,
		Promotion: Promotion{
			PSI: 0.2, FeaturePSI: 0.3, AUC: aucTarget, PrecisionAt20: precisionTarget, Soak: Duration(24 * time.Hour), SoakWithin: Duration(48 * time.Hour),
		},
	}
}

// ParsePolicy reads a policy in YAML. Missing keys get their defaults. An unknown key, a second document, and a value that is
// unreadable, null or out of range are errors that name the line or the key.
func ParsePolicy(raw []byte) (Policy, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(raw, &document); err != nil {
		return Policy{}, fmt.Errorf("policy: %w", err)
	}
	for _, n := range document.Content {
		if err := misread("", n); err != nil {
			return Policy{}, err
		}
	}
	p := DefaultPolicy()
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return Policy{}, fmt.Errorf("policy: %w", err)
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return Policy{}, errors.New("policy: more than one document")
	}
	if err := errors.Join(p.Validate(), p.given()); err != nil {
		return Policy{}, err
	}
	return p, nil
}

// misread returns an error for values that the decoder would misread: null as the default, and a count of 2.5 as 2.
func misread(section string, n *yaml.Node) error {
	var errs []error
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		key, value := section+n.Content[i].Value, n.Content[i+1]
		switch {
		case value.Tag == "!!null":
			errs = append(errs, fmt.Errorf("policy: %s is null: give a value, or leave the key out", key))
		case key == "min_comparisons" && value.Tag == "!!float":
			errs = append(errs, fmt.Errorf("policy: %s is %s: want a whole number", key, value.Value))
		default:
			errs = append(errs, misread(key+".", value))
		}
	}
	return errors.Join(errs...)
}

// given returns an error if a value is missing that only older evidence may lack: a file cannot turn a rule off.
func (p Policy) given() error {
	var errs []error
	if p.Kind == "" {
		errs = append(errs, fmt.Errorf("policy: policy is empty: want %s or %s", Agreement, Improvement))
	}
	if p.MatchTolerance == 0 {
		errs = append(errs, errors.New("policy: match_tolerance is 0: want more than 0 and less than 1"))
	}
	for name, v := range map[string]float64{"slo": p.SLO.Coverage, "abort": p.Abort.Coverage} {
		if v == 0 {
			errs = append(errs, fmt.Errorf("policy: %s.coverage is 0: want more than 0 and less than 1", name))
		}
	}
	return errors.Join(errs...)
}

// YAML returns the policy in the form that [ParsePolicy] reads.
func (p Policy) YAML() ([]byte, error) { return yaml.Marshal(p) }

// Validate returns all errors of the policy.
func (p Policy) Validate() error {
	var errs []error
	check := func(ok bool, key, want string, have any) {
		if !ok {
			errs = append(errs, fmt.Errorf("policy: %s is %v: want %s", key, have, want))
		}
	}
	check(p.Schema == PolicySchema, "schema", PolicySchema, p.Schema)
	check(p.Kind == "" || p.Kind == Agreement || p.Kind == Improvement, "policy", fmt.Sprintf("%s or %s", Agreement, Improvement), p.Kind)
	check(p.MatchTolerance == 0 || within(p.MatchTolerance), "match_tolerance", "more than 0 and less than 1", p.MatchTolerance)
	check(p.DecisionThreshold == 0 || within(p.DecisionThreshold), "decision_threshold", "more than 0 and less than 1, or 0 for none", p.DecisionThreshold)
	check(len(p.Phases) > 0, "phases", "at least one percentage", p.Phases)
	for i, v := range p.Phases {
		check(v > 0 && v <= 100, fmt.Sprintf("phases[%d]", i), "more than 0 and at most 100", v)
		if i > 0 {
			check(v > p.Phases[i-1], fmt.Sprintf("phases[%d]", i), fmt.Sprintf("more than the %v before it", p.Phases[i-1]), v)
		}
	}
	check(p.PhaseDuration > 0, "phase_duration", "more than 0", p.PhaseDuration)
	check(p.MinComparisons >= leastComparisons, "min_comparisons", fmt.Sprintf("at least %d: fewer prove nothing", leastComparisons), p.MinComparisons)
	check(p.HoldLimit >= 0, "hold_limit", "0 or more", p.HoldLimit)
	check(p.Lease >= Duration(time.Second) && p.Lease <= Duration(time.Hour), "lease", "1s to 1h", p.Lease)
	for _, l := range []struct {
		name   string
		limits Limits
	}{{"slo", p.SLO}, {"abort", p.Abort}} {
		check(l.limits.P95MS > 0 && l.limits.P95MS < lastEdgeMS, l.name+".p95_ms",
			fmt.Sprintf("more than 0 and less than %d, above which the histograms cannot distinguish latencies", lastEdgeMS), l.limits.P95MS)
		check(within(l.limits.ErrorRate), l.name+".error_rate", "more than 0 and less than 1", l.limits.ErrorRate)
		check(within(l.limits.MatchRate), l.name+".match_rate", "more than 0 and less than 1", l.limits.MatchRate)
		check(l.limits.Coverage == 0 || within(l.limits.Coverage), l.name+".coverage", "more than 0 and less than 1", l.limits.Coverage)
	}
	check(p.Abort.P95MS >= p.SLO.P95MS, "abort.p95_ms", "at least that of slo", p.Abort.P95MS)
	check(p.Abort.ErrorRate >= p.SLO.ErrorRate, "abort.error_rate", "at least that of slo", p.Abort.ErrorRate)
	check(p.Abort.MatchRate <= p.SLO.MatchRate, "abort.match_rate", "at most that of slo", p.Abort.MatchRate)
	check(p.Abort.Coverage <= p.SLO.Coverage, "abort.coverage", "at most that of slo", p.Abort.Coverage)
	check(p.Alpha > 0 && p.Alpha <= 0.5, "alpha", "more than 0 and at most 0.5", p.Alpha)
	r := p.Promotion
	check(r.PSI > 0 && !math.IsInf(r.PSI, 0), "promotion.psi", "more than 0", r.PSI)
	check(r.FeaturePSI > 0 && !math.IsInf(r.FeaturePSI, 0), "promotion.feature_psi", "more than 0", r.FeaturePSI)
	check(within(r.AUC), "promotion.auc", "more than 0 and less than 1", r.AUC)
	check(within(r.PrecisionAt20), "promotion.precision_at_20", "more than 0 and less than 1", r.PrecisionAt20)
	check(r.Soak >= 0, "promotion.soak", "0 or more", r.Soak)
	check(r.SoakWithin > 0, "promotion.soak_within", "more than 0", r.SoakWithin)
	return errors.Join(errs...)
}

// leastComparisons is the smallest allowed floor of comparisons: with 20, one mismatch is 5 %.
const leastComparisons = 20

// lastEdgeMS is the last edge of the latency histograms, in milliseconds. A p95 above it is reported as this edge, so a
// limit there could never be crossed.
const lastEdgeMS = 1000

func within(v float64) bool { return v > 0 && v < 1 }

// Improves reports whether the policy is of the kind [Improvement].
func (p Policy) Improves() bool { return p.Kind == Improvement }

// Tolerance returns the largest |shadow - baseline| that counts as a match.
func (p Policy) Tolerance() float64 { return cmp.Or(p.MatchTolerance, MatchTolerance) }

// Compares returns an error unless an executor with this match tolerance and decision threshold compares as the policy
// requires. A policy without a threshold accepts any.
func (p Policy) Compares(tolerance, threshold float64) error {
	var errs []error
	for _, d := range []struct {
		what       string
		have, want float64
	}{{"match tolerance", tolerance, p.Tolerance()}, {"decision threshold", threshold, p.DecisionThreshold}} {
		if d.have != d.want && d.want != 0 {
			flag := strings.ReplaceAll(d.what, " ", "-")
			errs = append(errs, fmt.Errorf("its %s is %v, but the policy has %v: start it with --%s %v, or set %s: %v in the policy",
				d.what, d.have, d.want, flag, d.want, strings.ReplaceAll(flag, "-", "_"), d.have))
		}
	}
	return errors.Join(errs...)
}

// Terms returns the policy's part of a confirmation phrase: its kind, tolerance and threshold if they are not the default,
// each followed by a space.
func (p Policy) Terms() string {
	var terms strings.Builder
	if p.Improves() {
		fmt.Fprintf(&terms, "policy=%s ", p.Kind)
	}
	if v := p.Tolerance(); v != MatchTolerance {
		fmt.Fprintf(&terms, "tolerance=%v ", v)
	}
	if v := p.DecisionThreshold; v != 0 {
		fmt.Fprintf(&terms, "threshold=%v ", v)
	}
	return terms.String()
}

// Laxer lists the requirements that are weaker than in the other policy. A policy from before coverage was judged does not
// count as laxer for that: a promotion judges the coverage of its phases again, from their counts and by a current policy.
// Live quality is not listed: a promotion judges it by the policy in force.
func (p Policy) Laxer(other Policy) []string {
	var laxer []string
	add := func(lax bool, key string, have, want any) {
		if lax {
			laxer = append(laxer, fmt.Sprintf("%s is %v, not %v", key, have, want))
		}
	}
	bindsMatches := !p.Improves() && !other.Improves()
	add(p.Improves() && !other.Improves(), "policy", p.Kind, Agreement)
	add(bindsMatches && p.Tolerance() > other.Tolerance(), "match_tolerance", p.Tolerance(), other.Tolerance())
	have := make(map[float64]bool)
	for _, v := range p.Phases {
		have[v] = true
	}
	for _, v := range other.Phases {
		add(!have[v], "phases", p.Phases, other.Phases)
		if !have[v] {
			break
		}
	}
	add(p.PhaseDuration < other.PhaseDuration, "phase_duration", p.PhaseDuration, other.PhaseDuration)
	add(p.MinComparisons < other.MinComparisons, "min_comparisons", p.MinComparisons, other.MinComparisons)
	for _, l := range []struct {
		name         string
		mine, theirs Limits
	}{{"slo", p.SLO, other.SLO}, {"abort", p.Abort, other.Abort}} {
		add(l.mine.P95MS > l.theirs.P95MS, l.name+".p95_ms", l.mine.P95MS, l.theirs.P95MS)
		add(l.mine.ErrorRate > l.theirs.ErrorRate, l.name+".error_rate", l.mine.ErrorRate, l.theirs.ErrorRate)
		add(bindsMatches && l.mine.MatchRate < l.theirs.MatchRate, l.name+".match_rate", l.mine.MatchRate, l.theirs.MatchRate)
		add(l.mine.Coverage > 0 && l.mine.Coverage < l.theirs.Coverage, l.name+".coverage", l.mine.Coverage, l.theirs.Coverage)
	}
	add(p.Alpha < other.Alpha, "alpha", p.Alpha, other.Alpha)
	return laxer
}

// Duration is a time.Duration with its usual notation in YAML and JSON: "30m", "1h30m", "45s".
type Duration time.Duration

// String returns the short form: "30m", where time.Duration prints "30m0s".
func (d Duration) String() string { return text.Duration(time.Duration(d)) }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration: "30m", "1h30m", "45s".
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: want a form like 30m or 45s", text)
	}
	*d = Duration(v)
	return nil
}
