package cli

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

// policyFlags are the policy, and what is often changed in it.
type policyFlags struct {
	file                     string
	phases                   []float64
	phaseDuration, holdLimit time.Duration
	minComparisons           uint64

	changed func(name string) bool
}

func (f *policyFlags) declare(fs *pflag.FlagSet) {
	p := gate.DefaultPolicy()
	fs.StringVar(&f.file, "policy", "", "file with the policy, YAML; without it, the built-in one")
	f.phases = p.Phases
	fs.Var(percents{&f.phases}, "phases", "shares of the requests that get a shadow, in percent, rising")
	fs.DurationVar(&f.phaseDuration, "phase-duration", time.Duration(p.PhaseDuration), "how long a phase takes at least")
	fs.DurationVar(&f.holdLimit, "hold-limit", time.Duration(p.HoldLimit), "how much longer a phase may take that cannot be judged")
	fs.Uint64Var(&f.minComparisons, "min-comparisons", p.MinComparisons, "how many comparisons a phase takes at least")
	f.changed = fs.Changed
}

// policy returns the policy of the file, or the default, with the changes of the flags.
func (f *policyFlags) policy() (gate.Policy, error) {
	p, err := readPolicy(f.file)
	if err != nil {
		return p, err
	}
	if f.changed("phases") {
		p.Phases = f.phases
	}
	if f.changed("phase-duration") {
		p.PhaseDuration = gate.Duration(f.phaseDuration)
	}
	if f.changed("hold-limit") {
		p.HoldLimit = gate.Duration(f.holdLimit)
	}
	if f.changed("min-comparisons") {
		p.MinComparisons = f.minComparisons
	}
	if err := p.Validate(); err != nil {
		return p, console.Usage(err)
	}
	return p, nil
}

// rehearsalPolicy returns the policy of a dry run: times are short unless a flag sets them.
func (f *policyFlags) rehearsalPolicy() (gate.Policy, error) {
	p, err := f.policy()
	if err != nil {
		return p, err
	}
	rehearsal.Shorten(&p, f.changed("phase-duration"), f.changed("hold-limit"))
	return p, p.Validate()
}

// maxPolicy is the largest size of a policy file, in bytes.
const maxPolicy = 1 << 20

// readPolicy returns the policy of the file, or the built-in one if path is empty.
func readPolicy(path string) (gate.Policy, error) {
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

// percents is a flag with several numbers, in percent: "5,10,25".
type percents struct{ all *[]float64 }

var errPercents = errors.New("want percentages that rise, such as 5,10,25,50,100")

// Set implements pflag.Value.
func (p percents) Set(s string) error {
	var all []float64
	for text := range strings.SplitSeq(s, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil {
			return errPercents
		}
		all = append(all, v)
	}
	*p.all = all
	return nil
}

// String implements pflag.Value.
func (p percents) String() string {
	texts := make([]string, len(*p.all))
	for i, v := range *p.all {
		texts[i] = strconv.FormatFloat(v, 'g', -1, 64)
	}
	return strings.Join(texts, ",")
}

// Type implements pflag.Value.
func (percents) Type() string { return "percents" }
