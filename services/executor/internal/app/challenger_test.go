package app_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/app"
)

// Challengers appear in the report, the metrics, the log and /readyz, and do not change the series of the model under trial. One at
// the same address is an A/A test. One that is absent or hangs delays neither an answer nor a stop.
func TestChallengers(t *testing.T) {
	engine := loopback(t)
	other := enginetest.Start(t, enginetest.Options{Loopback: true, Version: "gbm"})
	hangs := loopback(t)
	o := options(t, engine)
	o.Shadow.Timeout = 2 * time.Second
	o.Challengers = []app.Challenger{{Name: "gbm", Engine: other.Addr()}, {Name: "aa", Engine: engine.Addr()}, {Name: "absent", Engine: "127.0.0.1:1"}, {Name: "hangs", Engine: hangs.Addr()}}
	r := start(t, o)
	r.reached()
	for {
		_, body := r.Get("/readyz")
		if strings.Contains(body, "challenger gbm gbm") && strings.Contains(body, "challenger aa v1.8.1-test") && strings.Contains(body, "challenger hangs v1.8.1-test") {
			if !strings.Contains(body, "challenger absent cannot be reached") {
				t.Errorf("/readyz: got %q", body)
			}
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("the challengers are never reached: %s", body)
		case <-time.After(5 * time.Millisecond):
		}
	}
	hangs.Break(enginetest.Hang())
	decisions := executorv1.NewDecisionServiceClient(r.Conn)
	var report *executorv1.GetShadowReportResponse
	n := uint64(0)
	// A busy machine sheds some of the shadows, so requests are sent until each pair was compared.
	for n == 0 || report.GetChallengers()[1].GetNoiseFloor().GetComparisons() == 0 || report.GetChallengers()[0].GetWindow().GetComparisons() == 0 {
		for range 10 {
			n++
			if _, err := decisions.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{RequestId: fmt.Sprint(n), Vector: vector()}); err != nil {
				t.Fatal(err)
			}
		}
		report = r.settled(n)
	}
	for i, want := range []string{"gbm", "aa", "absent", "hangs"} {
		c := report.GetChallengers()[i]
		if c.GetName() != want || c.GetRequestsTotal() != n || c.GetSameModel() != (want == "aa" || want == "hangs") {
			t.Errorf("challenger %s: %v", want, c)
		}
		compared := c.GetWindow().GetComparisons()
		if (want == "gbm" || want == "aa") != (compared > 0) || c.GetNoiseFloor().GetMismatches() != 0 {
			t.Errorf("challenger %s: %d comparisons, noise floor %v", want, compared, c.GetNoiseFloor())
		}
	}
	_, page := r.Get("/metrics")
	families := telemetrytest.Parse(t, strings.NewReader(page))
	telemetrytest.Golden(t, "testdata/metrics-challengers.txt", telemetrytest.Inventory(families, []string{"ml_challenger_"}, []string{"digest"}))
	if got := telemetrytest.Values(families, "ml_shadow_"); got["ml_shadow_success_total"] != float64(report.GetWindow().GetComparisons()) || got["ml_shadow_success_total"] == 0 {
		t.Errorf("the model under trial: %v", got)
	}
	telemetrytest.Lint(t, strings.NewReader(page), []string{"ml_challenger_"}, map[string][]string{"metric names should not contain abbreviated units": {"*_ms"}})
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(r.Log(), "ml-engine cannot be reached") || !strings.Contains(r.Log(), "challenger=absent") {
		t.Errorf("the log does not name the challenger that cannot be reached:\n%s", r.Log())
	}
}

// settled returns the report once all n shadows of all challengers have ended.
func (r *running) settled(n uint64) *executorv1.GetShadowReportResponse {
	r.t.Helper()
	for {
		report, err := executorv1.NewShadowServiceClient(r.Conn).GetShadowReport(r.t.Context(), &executorv1.GetShadowReportRequest{})
		if err != nil {
			r.t.Fatal(err)
		}
		inFlight := report.GetInFlight()
		for _, c := range report.GetChallengers() {
			inFlight += c.GetInFlight()
		}
		if report.GetRequestsTotal() == n && inFlight == 0 {
			return report
		}
	}
}

func TestChallengersAreChecked(t *testing.T) {
	nine := make([]app.Challenger, shadow.MaxChallengers+1)
	for i := range nine {
		nine[i] = app.Challenger{Name: fmt.Sprint("c", i), Engine: "127.0.0.1:1"}
	}
	for name, tt := range map[string]struct {
		challengers []app.Challenger
		want        string
	}{
		"a capital":  {[]app.Challenger{{Name: "GBM", Engine: "127.0.0.1:1"}}, `--challenger: challenger "GBM": want a name of 1 to 32`},
		"no name":    {[]app.Challenger{{Engine: "127.0.0.1:1"}}, "want a name of 1 to 32"},
		"twice":      {[]app.Challenger{nine[0], nine[0]}, "given twice"},
		"nine":       {nine, "one too many: want at most 8"},
		"no address": {[]app.Challenger{{Name: "a"}}, "--challenger a: "},
	} {
		o := options(t, loopback(t))
		o.Challengers = tt.challengers
		if err := app.Run(t.Context(), o, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}
