package featurelog

import (
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// Notebooks and the retrain pipeline depend on these columns.
func TestSchemaGolden(t *testing.T) {
	const want = `message row {
	required binary request_id (STRING);
	required binary symbol (STRING);
	optional int64 event_time (TIMESTAMP(isAdjustedToUTC=true,unit=MICROS));
	required int64 arrival_time (TIMESTAMP(isAdjustedToUTC=true,unit=MICROS));
	required binary schema_hash (STRING);
	optional double baseline_score;
	required binary baseline_version (STRING);
	required binary baseline_digest (STRING);
	optional double shadow_score;
	required binary outcome (STRING);
	required binary model_version (STRING);
	required binary model_digest (STRING);
	optional double shadow_latency_ms;
	required binary source (STRING);
	optional double input_mid;
	optional double input_spread_bp;
	optional double bias;
	optional double mid_logret_1m_rel;
	optional double mid_logret_5m_rel;
	optional double spread_bp_rel;
	optional double vol1m_log_rel;
	optional double rsi14_z;
	optional double zscore_mid_24h;
}`
	if got := schema(t, "v1.8.1").String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestNewSchema(t *testing.T) {
	for _, s := range feature.Schemas() {
		got, err := NewSchema(s)
		if err != nil || got.Name != s.Name || got.Hash != s.Hash() || len(got.Features) != s.Len() {
			t.Errorf("%s: got %+v, %v", s.Name, got, err)
		}
	}
	for _, d := range feature.Catalogue() { // any feature can be logged
		if _, err := newSchema("x", "", []string{d.Name}); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range [][]string{{"symbol"}, {"source"}, {"input_mid"}, {"date"}, {"Schema"}, {"a", "a"}, {""}} {
		if _, err := newSchema("x", "", bad); err == nil {
			t.Errorf("features %q were taken", bad)
		}
	}
	if _, err := newSchema("", "", nil); err == nil {
		t.Error("a schema without a name was accepted")
	}
}
