package telemetrytest_test

import (
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
)

func TestInventory(t *testing.T) {
	families := telemetrytest.Parse(t, strings.NewReader(`# TYPE ml_a_total counter
ml_a_total{status="ok",digest="abc"} 1
ml_a_total{status="bad",digest="abc"} 2
# TYPE go_x gauge
go_x 1
# TYPE ml_b_ms histogram
ml_b_ms_bucket{le="1"} 1
ml_b_ms_bucket{le="60"} 2
ml_b_ms_bucket{le="+Inf"} 3
ml_b_ms_sum 9
ml_b_ms_count 3
`))
	want := `counter ml_a_total: 2 series
  digest: ...
  status: bad ok
histogram ml_b_ms: 1 series
  buckets: 1 60 +Inf
`
	if got := telemetrytest.Inventory(families, []string{"ml_"}, []string{"digest"}); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	values := telemetrytest.Values(families, "ml_")
	if len(values) != 3 || values["ml_a_total abc bad"] != 2 || values["ml_b_ms"] != 3 {
		t.Errorf("values: got %v", values)
	}
}
