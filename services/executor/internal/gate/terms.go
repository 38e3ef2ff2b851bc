package gate

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// The defaults of a gate.
const (
	defaultObserve    = 100.0
	defaultWait       = 5 * time.Millisecond
	defaultMaxChanged = 10.0
)

// maxSymbols limits the list of a gate.
const maxSymbols = 1000

// Terms define what a model may decide, and within which bounds. They are immutable.
type Terms struct {
	// Limits are the digest of the model, the disagreement cap, and the range of its scores.
	decide.Limits
	// Observe is the percentage of requests that get a shadow, in [0,100].
	Observe float64
	// Symbols are the symbols that the model may decide, in order. All is set if it may decide every symbol, and requests
	// without one.
	Symbols []string
	All     bool
	// Wait is how long a request waits for the model.
	Wait time.Duration
	// MaxChanged is the percentage of an hour's requests that the model may change, (0,100].
	MaxChanged float64
}

// TermsOf returns the terms of a gate for percent of the requests, with the disagreement cap. longest bounds the wait for the
// model. Absent fields get their defaults.
func TermsOf(g *executorv1.Gate, percent, disagreement float64, longest time.Duration) (*Terms, error) {
	or := func(v *float64, absent float64) float64 {
		if v == nil {
			return absent
		}
		return *v
	}
	t := &Terms{
		Limits: decide.Limits{
			Model: g.GetModelDigest(), Disagreement: disagreement, Low: or(g.MinScore, 0), High: or(g.MaxScore, 1),
		},
		Observe: or(g.ObservePercent, defaultObserve), Symbols: slices.Clone(g.GetSymbols()), All: g.GetAllSymbols(),
		Wait: min(defaultWait, longest), MaxChanged: or(g.MaxChangedPercent, defaultMaxChanged),
	}
	if w := g.GetWaitBudget(); w != nil {
		if t.Wait = w.AsDuration(); !w.IsValid() {
			t.Wait = -1
		}
	}
	slices.Sort(t.Symbols)
	if t.Wait > longest {
		return nil, fmt.Errorf("wait_budget is %v: want at most the shadow timeout, %v", t.Wait, longest)
	}
	if err := t.Validate(percent); err != nil {
		return nil, err
	}
	return t, nil
}

var digest = regexp.MustCompile("^[0-9a-f]{64}$")

// Validate returns an error for the first value that is out of range, for a gate whose model may decide percent of the
// requests.
func (t *Terms) Validate(percent float64) error {
	within := func(x, low, high float64) bool { return x >= low && x <= high } // false for NaN
	switch {
	case !digest.MatchString(t.Model):
		return fmt.Errorf("model_digest is %.80q: want 64 lower-case hexadecimal digits", t.Model)
	case !(t.Disagreement > 0 && t.Disagreement <= 1):
		return fmt.Errorf("the disagreement cap is %v: want more than 0 and at most 1", t.Disagreement)
	case !within(t.Observe, 0, 100):
		return fmt.Errorf("observe_percent is %v: want a number from 0 to 100", t.Observe)
	case !within(percent, 0, t.Observe):
		return fmt.Errorf("percent is %v: want at most observe_percent, %v", percent, t.Observe)
	case !within(t.Low, 0, 1) || !within(t.High, t.Low, 1):
		return fmt.Errorf("min_score is %v and max_score %v: want 0 <= min_score <= max_score <= 1", t.Low, t.High)
	case t.Wait <= 0 || t.Wait > time.Minute:
		return fmt.Errorf("wait_budget is %v: want more than 0 and at most the shadow timeout", t.Wait)
	case !(t.MaxChanged > 0 && t.MaxChanged <= 100):
		return fmt.Errorf("max_changed_percent is %v: want more than 0 and at most 100", t.MaxChanged)
	case t.All == (len(t.Symbols) > 0):
		return errors.New("want exactly one of symbols and all_symbols")
	case len(t.Symbols) > maxSymbols:
		return fmt.Errorf("%d symbols: want at most %d", len(t.Symbols), maxSymbols)
	}
	for i, s := range t.Symbols {
		if s == "" || len(s) > rpc.MaxSymbol {
			return fmt.Errorf("symbol %.80q has %d bytes: want 1 to %d", s, len(s), rpc.MaxSymbol)
		}
		if i > 0 && s == t.Symbols[i-1] {
			return fmt.Errorf("symbol %q appears twice", s)
		}
	}
	return nil
}

// Equal reports whether both are the same; nil equals nil.
func (t *Terms) Equal(o *Terms) bool {
	if t == nil || o == nil {
		return t == o
	}
	return t.Limits == o.Limits && t.Observe == o.Observe && t.All == o.All && t.Wait == o.Wait && t.MaxChanged == o.MaxChanged && slices.Equal(t.Symbols, o.Symbols)
}

// allows reports whether the model may decide the symbol.
func (t *Terms) allows(symbol string) bool {
	if t.All {
		return true
	}
	_, found := slices.BinarySearch(t.Symbols, symbol)
	return found
}

// Proto returns the terms as a message; nil for none.
func (t *Terms) Proto() *executorv1.Gate {
	if t == nil {
		return nil
	}
	return &executorv1.Gate{
		ModelDigest: t.Model, ObservePercent: proto.Float64(t.Observe), Symbols: slices.Clone(t.Symbols), AllSymbols: t.All,
		MinScore: proto.Float64(t.Low), MaxScore: proto.Float64(t.High), WaitBudget: durationpb.New(t.Wait),
		MaxChangedPercent: proto.Float64(t.MaxChanged),
	}
}

// Record is the form of terms in a file. The plan has the disagreement cap.
type Record struct {
	Model      string   `json:"model_digest"`
	Observe    float64  `json:"observe_percent"`
	Symbols    []string `json:"symbols,omitempty"`
	All        bool     `json:"all_symbols,omitempty"`
	Low        float64  `json:"min_score"`
	High       float64  `json:"max_score"`
	WaitMS     float64  `json:"wait_budget_ms"`
	MaxChanged float64  `json:"max_changed_percent"`
}

// Record returns the terms for a file; nil for none.
func (t *Terms) Record() *Record {
	if t == nil {
		return nil
	}
	return &Record{t.Model, t.Observe, t.Symbols, t.All, t.Low, t.High, float64(t.Wait) / float64(time.Millisecond), t.MaxChanged}
}

// Terms returns the terms of a record.
func (r *Record) Terms(percent, disagreement float64) (*Terms, error) {
	t := &Terms{
		Limits:  decide.Limits{Model: r.Model, Disagreement: disagreement, Low: r.Low, High: r.High},
		Observe: r.Observe, Symbols: r.Symbols, All: r.All, MaxChanged: r.MaxChanged,
		Wait: time.Duration(math.Round(r.WaitMS * float64(time.Millisecond))),
	}
	slices.Sort(t.Symbols)
	if err := t.Validate(percent); err != nil {
		return nil, err
	}
	return t, nil
}
