package app_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/app"
)

// quotes are two days of a market.
func quotes(t *testing.T) (all []*executorv1.Quote) {
	t.Helper()
	sim, err := market.Simulate(market.SimulateOptions{Seed: 5, Days: 2})
	if err != nil {
		t.Fatal(err)
	}
	for q := range sim.Quotes() {
		all = append(all, &executorv1.Quote{Time: timestamppb.New(time.UnixMilli(q.Time)), Bid: q.Bid, Ask: q.Ask})
	}
	return all
}

// observe streams the quotes and returns the open stream.
func (r *running) observe(all []*executorv1.Quote) executorv1.DecisionService_ObserveQuotesClient {
	r.t.Helper()
	stream, err := executorv1.NewDecisionServiceClient(r.Conn).ObserveQuotes(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for batch := range slices.Chunk(all, 1000) {
		if err := stream.Send(&executorv1.ObserveQuotesRequest{Symbol: "SIM", Quotes: batch}); err != nil {
			r.t.Fatal(err)
		}
	}
	return stream
}

// After a restart with a state folder executor answers immediately, bit for bit as without the restart. An open stream does not
// delay the stop, and every request leaves a row.
func TestRestartWithState(t *testing.T) {
	engine := loopback(t)
	state, log := filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "log")
	all := quotes(t)
	half := len(all) * 3 / 4
	client := func(r *running) func(id string, i int) *executorv1.PredictWithShadowResponse {
		c := executorv1.NewDecisionServiceClient(r.Conn)
		return func(id string, i int) *executorv1.PredictWithShadowResponse {
			got, err := c.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{RequestId: id, Symbol: "SIM", Quote: all[i]})
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
	}

	steady := start(t, options(t, engine)) // sees all quotes without a restart
	steady.reached()
	if _, err := steady.observe(all[:half]).CloseAndRecv(); err != nil {
		t.Fatal(err)
	}

	o := options(t, engine)
	o.StateDir, o.FeatureLog = state, log
	first := start(t, o)
	first.reached()
	if _, err := first.observe(all[:half-10]).CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	open := first.observe(all[half-10 : half])
	for !strings.Contains(first.metric("ml_feature_quotes_total accepted"), fmt.Sprint(half)) {
		time.Sleep(time.Millisecond)
	}
	client(first)("before", half-1) // a duplicate
	begin := time.Now()
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > o.ShutdownGrace/2 {
		t.Errorf("the stop took %v: it waited for the stream", took)
	}
	if _, err := open.CloseAndRecv(); err == nil {
		t.Error("the stream outlived its service")
	}

	o = options(t, engine)
	o.StateDir, o.FeatureLog = state, log
	second := start(t, o)
	second.reached()
	if got := second.metric("ml_feature_quotes_total accepted") + second.metric("ml_feature_symbols"); got != "01" {
		t.Errorf("quotes and symbols after the restart: got %q, want 0 and 1", got)
	}
	compared := 0
	for i := half; i < half+50; i++ {
		want, got := client(steady)("steady", i), client(second)(fmt.Sprint("after-", i), i)
		both := got.GetShadow() != nil && want.GetShadow() != nil // a busy machine may cost either its shadow
		if got.GetBaseline().GetScore() != want.GetBaseline().GetScore() || both && got.GetShadow().GetScore() != want.GetShadow().GetScore() ||
			!got.GetFeatureTime().AsTime().Equal(want.GetFeatureTime().AsTime()) {
			t.Fatalf("quote %d: got %v, want %v as without the restart", i, got, want)
		}
		if both {
			compared++
		}
	}
	if compared == 0 {
		t.Error("no shadow was compared")
	}
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}
	rows := 0
	for row, err := range featurelog.Read(log, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)) {
		if err != nil {
			t.Fatal(err)
		}
		rows++
		if row.Symbol != "SIM" || row.Schema.Name != "v1.8.1" || row.ShadowScore.Present && row.ShadowScore.Value != engine.Model().Scorer.Score(row.Features) {
			t.Errorf("got %s in %s with the shadow %v", row.Symbol, row.Schema.Name, row.ShadowScore)
		}
	}
	if rows != 51 {
		t.Errorf("%d rows, want one for each of 51 requests", rows)
	}
}

// metric returns the value of a metric on the page, "" if it is not there.
func (r *running) metric(name string) string {
	r.t.Helper()
	_, page := r.Get("/metrics")
	v, ok := telemetrytest.Values(telemetrytest.Parse(r.t, strings.NewReader(page)), "ml_")[name]
	if !ok {
		return ""
	}
	return fmt.Sprint(v)
}

func TestCorruptState(t *testing.T) {
	o := options(t, loopback(t))
	o.StateDir = t.TempDir()
	if err := os.WriteFile(filepath.Join(o.StateDir, "features.snapshot"), []byte("no snapshot at all, for sure"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, o)
	if log := r.Log(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "set_aside_as=") {
		t.Errorf("log: got %s", log)
	}
	aside, err := filepath.Glob(filepath.Join(o.StateDir, "features.snapshot.unusable-*"))
	if err != nil || len(aside) != 1 {
		t.Errorf("set aside: got %v, %v", aside, err)
	}
	if code, body := r.Post("/predict-with-shadow", `{"features":`+features+`}`); code != http.StatusOK {
		t.Errorf("got %d %s", code, body)
	}
}

func TestQuotesOverHTTP(t *testing.T) {
	r := start(t, options(t, loopback(t)))
	r.reached()
	all := quotes(t)
	last := all[len(all)-1]
	body := func(q *executorv1.Quote) string {
		return fmt.Sprintf(`{"requestId":"r1","symbol":"SIM","quote":{"time":%q,"bid":%v,"ask":%v,"last":%v,"volume":2}}`,
			q.GetTime().AsTime().Format(time.RFC3339Nano), q.GetBid(), q.GetAsk(), q.GetBid())
	}
	if code, got := r.Post("/predict-with-shadow", body(all[0])); code != http.StatusBadRequest || !strings.Contains(got, "NOT_READY") || !strings.Contains(got, "no minute is complete") {
		t.Errorf("cold: got %d %s", code, got)
	}
	if _, err := r.observe(all).CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	code, got := r.Post("/predict-with-shadow", body(last))
	var answer struct {
		Baseline    struct{ Score float64 }
		Shadow      struct{ ModelVersion string }
		FeatureTime time.Time
	}
	minute := last.GetTime().AsTime().Truncate(time.Minute)
	if err := json.Unmarshal([]byte(got), &answer); err != nil || code != http.StatusOK || answer.Baseline.Score <= 0 ||
		answer.Shadow.ModelVersion != "v1.8.1-test" || !answer.FeatureTime.Equal(minute) {
		t.Errorf("warm: got %d %s (%v)", code, got, err)
	}
}

// A log that cannot be written delays no request, and is reported in the metrics and the exit error.
func TestFeatureLogThatCannotBeWritten(t *testing.T) {
	o := options(t, loopback(t))
	o.FeatureLog, o.FeatureLogInterval = t.TempDir(), time.Millisecond
	r := start(t, o)
	r.reached()
	for _, day := range []int{0, 1} { // a file in place of the folder, for this day and the next
		if err := os.WriteFile(filepath.Join(o.FeatureLog, time.Now().UTC().AddDate(0, 0, day).Format("date=2006-01-02")), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		if code, body := r.Post("/predict-with-shadow", `{"features":`+features+`}`); code != http.StatusOK {
			t.Fatalf("got %d %s", code, body)
		}
	}
	for r.metric("ml_feature_log_write_errors_total") == "0" {
		time.Sleep(time.Millisecond)
	}
	if got := r.metric("ml_feature_log_rows_total"); got != "0" {
		t.Errorf("%s rows written", got)
	}
	if err := r.Stop(); err == nil || !strings.Contains(err.Error(), "5 rows were not written") {
		t.Errorf("stop: got %v, want the rows that are lost", err)
	}
	if log := r.Log(); !strings.Contains(log, "rows of the feature log are lost") {
		t.Errorf("log: got %s", log)
	}
}

func TestFlagsOfFeaturesAreChecked(t *testing.T) {
	engine := loopback(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(o *app.Options)
		want   string
	}{
		"no symbols":            {func(o *app.Options) { o.MaxSymbols = 0 }, "--max-symbols 0"},
		"state is a file":       {func(o *app.Options) { o.StateDir = file }, "--state-dir"},
		"log is a file":         {func(o *app.Options) { o.FeatureLog = file }, "--feature-log"},
		"log without a pause":   {func(o *app.Options) { o.FeatureLog, o.FeatureLogInterval = t.TempDir(), 0 }, "--feature-log-interval"},
		"log of negative pause": {func(o *app.Options) { o.FeatureLogInterval = -1 }, "--feature-log-interval"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, engine)
			tt.change(o)
			if err := app.Run(t.Context(), o, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// A batch of 1,000 quotes with all fields fits into a message.
func TestThousandQuotesFit(t *testing.T) {
	req := &executorv1.ObserveQuotesRequest{Symbol: strings.Repeat("S", rpc.MaxSymbol)}
	for range 1000 {
		req.Quotes = append(req.GetQuotes(), &executorv1.Quote{
			Time: timestamppb.New(time.Date(2199, 1, 1, 0, 0, 0, 999_999_999, time.UTC)), Bid: 1, Ask: 2, Last: 1.5, Volume: 3,
		})
	}
	if n := proto.Size(req); n > rpc.SmallMessage {
		t.Errorf("it has %d bytes, and %d are taken", n, rpc.SmallMessage)
	}
}
