package featurelog

import (
	"fmt"
	"io"
	"testing"
	"time"

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
	optional binary decided_by (STRING);
	optional binary reason (STRING);
	optional double final_score;
	optional int64 rollout_revision (INT(64,true));
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

// No feature may have the name of a column.
func TestColumnNamesAreReserved(t *testing.T) {
	for _, c := range columns {
		if err := feature.CheckName(c.name); err == nil {
			t.Errorf("a feature may be called %q, like a column", c.name)
		}
	}
	for _, name := range reserved {
		if err := feature.CheckName(name); err == nil {
			t.Errorf("a feature may be called %q, which the folders define", name)
		}
	}
	if _, err := feature.Named("x", reserved[0]); err == nil {
		t.Errorf("a schema may have the feature %q", reserved[0])
	}
}

// Wide rows take more of the capacity, so that its bytes are bounded.
func TestWideRowsTakeMorePlaces(t *testing.T) {
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("f%d", i)
	}
	s, err := newSchema("wide", "hash", names)
	if err != nil {
		t.Fatal(err)
	}
	disk := make(chan struct{})
	l, err := open(Options{Dir: t.TempDir(), Capacity: 160, Interval: time.Hour}, func(string, func(io.Writer, bool) error) (io.Closer, error) {
		<-disk
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for range 100 {
		if l.Log(Row{Schema: s, Features: make([]float64, 1000)}) {
			taken++
		}
	}
	close(disk)
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if taken < 5 || taken > 40 { // 160/16 in the queue, and as many that the writer took meanwhile, twice
		t.Errorf("%d rows of 1,000 features were taken by a log of 160 rows", taken)
	}
}
