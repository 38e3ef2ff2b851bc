package flags

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
)

// Policy has the flags for the policy file and for values that are often changed.
type Policy struct {
	File                     string
	phases                   []float64
	phaseDuration, holdLimit time.Duration
	minComparisons           uint64

	// Changed reports whether a flag was given.
	Changed func(name string) bool
}

// Declare declares the flags.
func (f *Policy) Declare(fs *pflag.FlagSet) {
	p := gate.DefaultPolicy()
	fs.StringVar(&f.File, "policy", "", "file with the policy, YAML; without it, the built-in one")
	f.phases = p.Phases
	fs.Var(Percents{&f.phases}, "phases", "percentages of the requests that get a shadow, ascending")
	fs.DurationVar(&f.phaseDuration, "phase-duration", time.Duration(p.PhaseDuration), "minimum duration of a phase")
	fs.DurationVar(&f.holdLimit, "hold-limit", time.Duration(p.HoldLimit), "how much longer a phase may take if it cannot be judged")
	fs.Uint64Var(&f.minComparisons, "min-comparisons", p.MinComparisons, "minimum number of comparisons in a phase")
	f.Changed = fs.Changed
}

// Read returns the policy from the file, or the default, with the changes from the flags.
func (f *Policy) Read() (gate.Policy, error) {
	p, err := ReadPolicy(f.File)
	if err != nil {
		return p, err
	}
	if f.Changed("phases") {
		p.Phases = f.phases
	}
	if f.Changed("phase-duration") {
		p.PhaseDuration = gate.Duration(f.phaseDuration)
	}
	if f.Changed("hold-limit") {
		p.HoldLimit = gate.Duration(f.holdLimit)
	}
	if f.Changed("min-comparisons") {
		p.MinComparisons = f.minComparisons
	}
	if err := p.Validate(); err != nil {
		return p, console.Usage(err)
	}
	return p, nil
}

// ReadShort returns the policy of a dry run: times are short unless a flag sets them.
func (f *Policy) ReadShort() (gate.Policy, error) {
	p, err := f.Read()
	if err != nil {
		return p, err
	}
	rehearsal.Shorten(&p, f.Changed("phase-duration"), f.Changed("hold-limit"))
	return p, p.Validate()
}

// maxPolicy bounds a policy file, in bytes.
const maxPolicy = 1 << 20

// ReadPolicy returns the policy from the file, or the built-in one if path is empty.
func ReadPolicy(path string) (gate.Policy, error) {
	if path == "" {
		return gate.DefaultPolicy(), nil
	}
	raw, err := durable.ReadFile(path, maxPolicy)
	if err != nil {
		return gate.Policy{}, console.Usage(fmt.Errorf("--policy: %w", err))
	}
	policy, err := gate.ParsePolicy(raw)
	if err != nil {
		return gate.Policy{}, console.Usage(fmt.Errorf("--policy %s: %w", path, err))
	}
	return policy, nil
}

// Percents is a flag with several numbers, in percent: "5,10,25".
type Percents struct{ All *[]float64 }

var errPercents = errors.New("want ascending percentages, such as 5,10,25,50,100")

// Set implements pflag.Value.
func (p Percents) Set(s string) error {
	var all []float64
	for text := range strings.SplitSeq(s, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil {
			return errPercents
		}
		all = append(all, v)
	}
	*p.All = all
	return nil
}

// String implements pflag.Value.
func (p Percents) String() string {
	texts := make([]string, len(*p.All))
	for i, v := range *p.All {
		texts[i] = strconv.FormatFloat(v, 'g', -1, 64)
	}
	return strings.Join(texts, ",")
}

// Type implements pflag.Value.
func (Percents) Type() string { return "percents" }
