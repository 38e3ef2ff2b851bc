package featurelog

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"
)

// column is a column that every file has.
type column struct {
	name string
	node parquet.Node
	// put returns the value to write, or false for null; take reads it back.
	put  func(r *Row) (parquet.Value, bool)
	take func(r *Row, v parquet.Value)
}

// columns are the columns of every file, in order; files of older versions end before sourceColumn or deciderColumn. The
// features follow. Changing a name or type is a [CHANGE].
var columns = []column{
	text("request_id", &parquet.Plain, func(r *Row) *string { return &r.RequestID }),
	text("symbol", &parquet.RLEDictionary, func(r *Row) *string { return &r.Symbol }),
	instant("event_time", true, func(r *Row) *time.Time { return &r.EventTime }),
	instant("arrival_time", false, func(r *Row) *time.Time { return &r.ArrivalTime }),
	{
		"schema_hash", parquet.Encoded(parquet.String(), &parquet.RLEDictionary),
		func(r *Row) (parquet.Value, bool) { return textValue(r.Schema.Hash), true },
		func(*Row, parquet.Value) {}, // the reader gets it from the file's metadata
	},
	{
		"baseline_score", number(),
		func(r *Row) (parquet.Value, bool) { return numberValue(r.BaselineScore) },
		func(r *Row, v parquet.Value) { r.BaselineScore = numberOf(v) },
	},
	text("baseline_version", &parquet.RLEDictionary, func(r *Row) *string { return &r.BaselineVersion }),
	text("baseline_digest", &parquet.RLEDictionary, func(r *Row) *string { return &r.BaselineDigest }),
	optional("shadow_score", func(r *Row) *Optional { return &r.ShadowScore }),
	text("outcome", &parquet.RLEDictionary, func(r *Row) *string { return &r.Outcome }),
	text("model_version", &parquet.RLEDictionary, func(r *Row) *string { return &r.ModelVersion }),
	text("model_digest", &parquet.RLEDictionary, func(r *Row) *string { return &r.ModelDigest }),
	optional("shadow_latency_ms", func(r *Row) *Optional { return &r.ShadowLatencyMS }),
	text(sourceColumn, &parquet.RLEDictionary, func(r *Row) *string { return &r.Source }),
	optional("input_mid", func(r *Row) *Optional { return &r.Mid }),
	optional("input_spread_bp", func(r *Row) *Optional { return &r.SpreadBP }),
	textOrNull(deciderColumn, func(r *Row) *string { return &r.Decision.By }),
	textOrNull("reason", func(r *Row) *string { return &r.Decision.Reason }),
	optional("final_score", func(r *Row) *Optional { return &r.Decision.Score }),
	{
		"rollout_revision", parquet.Optional(parquet.Encoded(parquet.Int(64), &parquet.DeltaBinaryPacked)),
		func(r *Row) (parquet.Value, bool) {
			return parquet.Int64Value(int64(r.Decision.Revision)), r.Decision.By != ""
		},
		func(r *Row, v parquet.Value) {
			if !v.IsNull() {
				r.Decision.Revision = uint64(v.Int64())
			}
		},
	},
}

// sourceColumn and deciderColumn are the first columns that files of older versions lack.
const sourceColumn, deciderColumn = "source", "decided_by"

// columnsOf returns the columns of a file before its features, depending on whether it has sourceColumn and
// deciderColumn.
func columnsOf(fields []parquet.Field) []column {
	n := columnIndex(sourceColumn)
	for _, next := range []int{columnIndex(deciderColumn), len(columns)} {
		if len(fields) > n && fields[n].Name() == columns[n].name {
			n = next
		}
	}
	return columns[:n]
}

// columnIndex returns the position of a column that every file has, or -1.
func columnIndex(name string) int {
	return slices.IndexFunc(columns, func(c column) bool { return c.name == name })
}

// text returns a string column. Readers expect UTF-8, and some reject a whole file because of one invalid byte.
func text(name string, how encoding.Encoding, of func(*Row) *string) column {
	return column{
		name, parquet.Encoded(parquet.String(), how),
		func(r *Row) (parquet.Value, bool) { return textValue(*of(r)), true },
		func(r *Row, v parquet.Value) { *of(r) = string(v.ByteArray()) },
	}
}

// textOrNull is like text, with null for the empty string.
func textOrNull(name string, of func(*Row) *string) column {
	c := text(name, &parquet.RLEDictionary, of)
	c.node = parquet.Optional(c.node)
	c.put = func(r *Row) (parquet.Value, bool) { return textValue(*of(r)), *of(r) != "" }
	return c // a null has no bytes
}

func textValue(s string) parquet.Value {
	return parquet.ByteArrayValue([]byte(strings.ToValidUTF8(s, "\uFFFD")))
}

// instant returns a column of UTC microseconds.
func instant(name string, nullable bool, of func(*Row) *time.Time) column {
	node := parquet.Encoded(parquet.Timestamp(parquet.Microsecond), &parquet.DeltaBinaryPacked)
	if nullable {
		node = parquet.Optional(node)
	}
	return column{
		name, node,
		func(r *Row) (parquet.Value, bool) {
			t := *of(r)
			return parquet.Int64Value(t.UnixMicro()), !nullable || !t.IsZero()
		},
		func(r *Row, v parquet.Value) {
			if !v.IsNull() {
				*of(r) = time.UnixMicro(v.Int64()).UTC()
			}
		},
	}
}

// optional returns a column of numbers that may be absent.
func optional(name string, of func(*Row) *Optional) column {
	return column{
		name, number(),
		func(r *Row) (parquet.Value, bool) {
			v, finite := numberValue(of(r).Value)
			return v, finite && of(r).Present
		},
		func(r *Row, v parquet.Value) {
			if !v.IsNull() {
				*of(r) = Some(v.Double())
			}
		},
	}
}

func number() parquet.Node {
	return parquet.Optional(parquet.Encoded(parquet.Leaf(parquet.DoubleType), &parquet.Plain))
}

// numberValue returns a number, or false if it is not finite.
func numberValue(x float64) (parquet.Value, bool) {
	return parquet.DoubleValue(x), !math.IsNaN(x) && !math.IsInf(x, 0)
}

func numberOf(v parquet.Value) float64 {
	if v.IsNull() {
		return math.NaN()
	}
	return v.Double()
}
