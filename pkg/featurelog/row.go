package featurelog

import (
	"math"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// Row is one request and its results.
type Row struct {
	RequestID, Symbol string
	// EventTime is the time of the market state according to the caller; the zero time is null in the file. See Time.
	EventTime time.Time
	// ArrivalTime is when the request arrived, by the clock of this process. Log replaces the zero time by the current
	// time.
	ArrivalTime time.Time
	// Source says where the request came from: "live", "replay" or "simulated". It is empty if unknown, as in all logs of
	// older versions.
	Source string
	// Mid and SpreadBP are the raw inputs of the features: the mid price and the spread in basis points. They are
	// absent if the request had neither them nor a quote, and in logs of older versions.
	Mid, SpreadBP Optional
	// Schema describes Features, which have the same length; a row without features is logged with nulls.
	Schema   *Schema
	Features []float64
	// BaselineScore is NaN (null in the file) if the baseline had no score.
	BaselineScore                   float64
	BaselineVersion, BaselineDigest string
	// ShadowScore is absent if there is none.
	ShadowScore Optional
	// Outcome is the shadow's outcome, for example "match".
	Outcome                   string
	ModelVersion, ModelDigest string
	// ShadowLatencyMS is how long the shadow took, in milliseconds; absent if it was not sent.
	ShadowLatencyMS Optional
	// Decision is the zero Decision unless a gate was set, as in logs of older versions.
	Decision Decision
}

// Decision is whose score a gate let decide.
type Decision struct {
	// By is "baseline" or "model". Reason is why the baseline decided, for example "lease_lapsed"; empty if the model did.
	By, Reason string
	// Score is the decision: the baseline's score or the model's, bit for bit.
	Score Optional
	// Revision is the revision of the rollout at the time of the decision.
	Revision uint64
}

// maxAhead is how much later than its arrival an event may be: clocks differ, but not by days.
const maxAhead = 24 * time.Hour

// Time returns the time of the market state: the event time, or the arrival time if there is no event time. It reports
// false for impossible times: before 1973, after 2199, an event more than a day after its arrival, or an arrival more
// than a day ahead of this machine's clock.
func (r *Row) Time() (time.Time, bool) {
	at := r.ArrivalTime
	if !r.EventTime.IsZero() {
		at = r.EventTime
	}
	return at, market.IsTime(at.UnixMilli()) && at.Sub(r.ArrivalTime) <= maxAhead && time.Until(r.ArrivalTime) <= maxAhead
}

// Price returns the mid price and the spread in basis points, from the raw inputs or from features with those names.
// Missing ones are NaN.
func (r *Row) Price() (mid, spreadBP float64) {
	get := func(o Optional, name string) float64 {
		if o.Present {
			return o.Value
		}
		if k := slices.Index(r.Schema.Features, name); k >= 0 && k < len(r.Features) {
			return r.Features[k]
		}
		return math.NaN()
	}
	return get(r.Mid, "mid"), get(r.SpreadBP, "spread_bp")
}

// Optional is a number that may be absent. The zero value is absent.
type Optional struct {
	Value   float64
	Present bool
}

// Some returns a number that is present.
func Some(x float64) Optional { return Optional{Value: x, Present: true} }

// maxText limits the bytes of a row's texts together. They come from callers and must be bounded.
const maxText = 4096

// fits reports whether the row can be logged.
func (r *Row) fits() bool {
	text := len(r.RequestID) + len(r.Symbol) + len(r.BaselineVersion) + len(r.BaselineDigest) + len(r.Outcome) +
		len(r.ModelVersion) + len(r.ModelDigest) + len(r.Source) + len(r.Decision.By) + len(r.Decision.Reason)
	return r.Schema != nil && (len(r.Features) == len(r.Schema.Features) || len(r.Features) == 0) && text <= maxText
}
