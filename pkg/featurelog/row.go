package featurelog

import "time"

// Row is one request and what came of it.
type Row struct {
	RequestID, Symbol string
	// EventTime is when the market was so, as the caller says; the zero time is null in the file.
	EventTime time.Time
	// ArrivalTime is when the request came in, by the clock of this process. The zero time is the time of Log.
	ArrivalTime time.Time
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

// Optional is a number that may be absent. The zero value is.
type Optional struct {
	Value   float64
	Present bool
}

// Some is a number that is there.
func Some(x float64) Optional { return Optional{Value: x, Present: true} }

// maxText is how many bytes the texts of a row may have together. What a caller sends ends here, and must be bounded.
const maxText = 4096

// fits says whether the row can be logged.
func (r *Row) fits() bool {
	text := len(r.RequestID) + len(r.Symbol) + len(r.BaselineVersion) + len(r.BaselineDigest) + len(r.Outcome) +
		len(r.ModelVersion) + len(r.ModelDigest)
	return r.Schema != nil && (len(r.Features) == len(r.Schema.Features) || len(r.Features) == 0) && text <= maxText
}
