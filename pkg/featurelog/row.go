package featurelog

import (
	"math"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// Row is one request and what came of it.
type Row struct {
	RequestID, Symbol string
	// EventTime is when the market was so, as the caller says; the zero time is null in the file. See Time.
	EventTime time.Time
	// ArrivalTime is when the request came in, by the clock of this process. The zero time is the time of Log.
	ArrivalTime time.Time
	// Source says where the request came from: "live", "replay" or "simulated". It is empty when that is not known, as in
	// all logs of older versions.
	Source string
	// Mid and SpreadBP are the raw inputs of the features: the mid price and the spread in basis points. They are absent
	// when the request had neither them nor a quote, and in logs of older versions.
	Mid, SpreadBP Optional
	// Schema is what Features are, of the same length; no features at all are logged as nulls.
	Schema   *Schema
	Features []float64
	// BaselineScore is NaN, null in the file, when the baseline had no score.
	BaselineScore                   float64
	BaselineVersion, BaselineDigest string
	// ShadowScore is absent when there is none.
	ShadowScore Optional
	// Outcome is the word of the shadow's outcome, for example "match".
	Outcome                   string
	ModelVersion, ModelDigest string
	// ShadowLatencyMS is how long the shadow took, in milliseconds; absent when it was not sent.
	ShadowLatencyMS Optional
}

// maxAhead is by how much an event may be later than its arrival: clocks differ, but not by days.
const maxAhead = 24 * time.Hour

// Time is when the market was so: the time of the event, or that of the arrival where no event is named. It is false for a
// row whose times cannot be: before 1973, after 2199, of an event that is more than a day after its arrival, or of an arrival
// that is as much ahead of this machine's clock.
func (r *Row) Time() (time.Time, bool) {
	at := r.ArrivalTime
	if !r.EventTime.IsZero() {
		at = r.EventTime
	}
	return at, market.IsTime(at.UnixMilli()) && at.Sub(r.ArrivalTime) <= maxAhead && time.Until(r.ArrivalTime) <= maxAhead
}

// Price is the mid price and the spread in basis points, from the raw inputs or from features of those names; NaN where the
// row has none.
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

// Optional is a number that may be absent. The zero value is.
type Optional struct {
	Value   float64
	Present bool
}

// Some is a number that is there.
func Some(x float64) Optional { return Optional{Value: x, Present: true} }

// maxText is how many bytes the texts of a row may have together. What a caller sends ends here, and must be bounded.
const maxText = 4096

// fits reports whether the row can be logged.
func (r *Row) fits() bool {
	text := len(r.RequestID) + len(r.Symbol) + len(r.BaselineVersion) + len(r.BaselineDigest) + len(r.Outcome) +
		len(r.ModelVersion) + len(r.ModelDigest) + len(r.Source)
	return r.Schema != nil && (len(r.Features) == len(r.Schema.Features) || len(r.Features) == 0) && text <= maxText
}
