package fleet_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/stats"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// sound is a consistent report: 1,000 requests, 2 of them in flight.
func sound() *executorv1.GetShadowReportResponse {
	low, high := stats.Wilson(90, 100, stats.Z95)
	return &executorv1.GetShadowReportResponse{
		StartTime: timestamppb.New(now.Add(-time.Hour)), ReportTime: timestamppb.New(now.Add(time.Second)), InstanceId: "k3vq6xj2rw5pzt4m",
		RequestsTotal: 1000, InFlight: 2, BaselineTotal: 1000, SamplePercent: 25,
		OutcomesTotal:   outcomes(map[shadow.Outcome]uint64{shadow.Match: 180, shadow.Mismatch: 20, shadow.Deadline: 10, shadow.Shed: 5, shadow.NotSampled: 783}),
		BaselineVersion: "heuristic-v1", BaselineDigest: strings.Repeat("b", 64), ShadowVersion: "v1.8.1", ShadowDigest: strings.Repeat("a", 64),
		LatencyMsTotal: &executorv1.Histogram{Edges: []float64{1, 60, 80}, Counts: []uint64{190, 10, 10, 0}},
		Breaker:        &executorv1.BreakerStatus{State: executorv1.BreakerState_BREAKER_STATE_CLOSED},
		Window: &executorv1.ShadowWindow{
			Length:      durationpb.New(10 * time.Minute),
			Outcomes:    outcomes(map[shadow.Outcome]uint64{shadow.Match: 90, shadow.Mismatch: 10, shadow.Deadline: 20 / 4, shadow.Shed: 5, shadow.NotSampled: 300}),
			Comparisons: 100, MatchRate: proto.Float64(0.9), MatchRateLow: &low, MatchRateHigh: &high,
			Coverage: proto.Float64(100. / 110), MatchRateWorst: proto.Float64(90. / 110), MatchRateBest: proto.Float64(100. / 110),
			ErrorRate: proto.Float64(5. / 105), MeanDelta: proto.Float64(-0.01),
			AbsDelta:  &executorv1.Quantiles{Count: 100, P50: 0.01, P95: 0.06, P99: 0.2, Max: 0.3},
			LatencyMs: &executorv1.Quantiles{Count: 100, P50: 0.5, P95: 2, P99: 10, Max: 59},
		},
	}
}

func outcomes(n map[shadow.Outcome]uint64) []*executorv1.OutcomeCount {
	var all []*executorv1.OutcomeCount
	for _, o := range shadow.Outcomes() {
		all = append(all, &executorv1.OutcomeCount{Outcome: executorv1.ShadowOutcome(o), Count: n[o]})
	}
	return all
}

// agreement returns consistent counts of 100 comparisons: each score is above the threshold in 45, so the agreement by chance
// is 50.5 %.
func agreement(both, baseline, shadow, none uint64) *executorv1.DecisionAgreement {
	return &executorv1.DecisionAgreement{
		BothAbove: both, BaselineAbove: baseline, ShadowAbove: shadow, BothBelow: none,
		Agreement: proto.Float64(0.9), Kappa: proto.Float64((0.9 - 0.505) / (1 - 0.505)),
	}
}

// A report that contradicts itself gives an error that names the contradiction.
func TestCheckReport(t *testing.T) {
	type report = executorv1.GetShadowReportResponse
	at := func(o shadow.Outcome) int { return int(o) - 1 }
	for name, test := range map[string]struct {
		spoil func(*report)
		want  string
	}{
		"sound":                     {func(*report) {}, ""},
		"fresh start":               {func(r *report) { proto.Reset(r); proto.Merge(r, fresh()) }, ""},
		"executor with a threshold": {func(r *report) { r.DecisionThreshold, r.Window.Decisions = 0.5, agreement(40, 5, 5, 50) }, ""},
		"tolerance of an executor":  {func(r *report) { r.MatchTolerance = 0.9 }, "no difference above 0."},
		"tolerance 0.04":            {func(r *report) { r.MatchTolerance = 0.04 }, ""},
		"tolerance NaN":             {func(r *report) { r.MatchTolerance = math.NaN() }, "match_tolerance is NaN"},
		"tolerance 1":               {func(r *report) { r.MatchTolerance = 1 }, "match_tolerance is 1"},
		"threshold 1":               {func(r *report) { r.DecisionThreshold, r.Window.Decisions = 1, agreement(40, 5, 5, 50) }, "decision_threshold is 1"},
		"threshold without counts":  {func(r *report) { r.DecisionThreshold = 0.5 }, "window.decisions is inconsistent with"},
		"counts without threshold":  {func(r *report) { r.Window.Decisions = agreement(40, 5, 5, 50) }, "window.decisions is inconsistent with"},
		"too few decisions":         {func(r *report) { r.DecisionThreshold, r.Window.Decisions = 0.5, agreement(40, 5, 5, 49) }, "99 decisions of 100 comparisons"},
		"agreement differs": {func(r *report) {
			r.DecisionThreshold, r.Window.Decisions = 0.5, agreement(40, 5, 5, 50)
			r.Window.Decisions.Agreement = proto.Float64(0.99)
		}, "agreement and kappa do not follow"},
		"kappa missing": {func(r *report) {
			r.DecisionThreshold, r.Window.Decisions = 0.5, agreement(40, 5, 5, 50)
			r.Window.Decisions.Kappa = nil
		}, "agreement and kappa do not follow"},
		"answers of a model server": {func(r *report) { r.ShadowVersion, r.ShadowDigest = oip.Identity("m", "1") }, ""},
		"absent outcomes are zero":  {func(r *report) { r.OutcomesTotal = append(r.OutcomesTotal[:7], r.OutcomesTotal[8:]...) }, ""},
		"an executor before 1.9":    {func(r *report) { r.BaselineTotal, r.Window = 0, nil }, ""},
		"latencies a moment behind": {func(r *report) { r.LatencyMsTotal.Counts[0] -= 64 }, ""},
		"open breaker": {func(r *report) {
			r.Breaker.State, r.Breaker.NextProbeTime = executorv1.BreakerState_BREAKER_STATE_OPEN, timestamppb.Now()
		}, ""},

		"no instance":               {func(r *report) { r.InstanceId = "" }, "instance_id is empty"},
		"endless instance":          {func(r *report) { r.InstanceId = strings.Repeat("x", 1e6) }, "instance_id is"},
		"instance moves the cursor": {func(r *report) { r.InstanceId = "a\x1b[2J" }, "instance_id is"},
		"no start":                  {func(r *report) { r.StartTime = nil }, "start_time or report_time is missing"},
		"no report time":            {func(r *report) { r.ReportTime = nil }, "start_time or report_time is missing"},
		"started in 1970":           {func(r *report) { r.StartTime = &timestamppb.Timestamp{} }, "start_time or report_time is missing"},
		"start is no time":          {func(r *report) { r.StartTime.Nanos = -5 }, "not a time"},
		"started in the future":     {func(r *report) { r.StartTime = timestamppb.New(now.Add(time.Minute)) }, "is after report_time"},
		"report of yesterday":       {func(r *report) { r.ReportTime = timestamppb.New(now.Add(-6 * time.Minute)) }, "report_time is"},
		"report of tomorrow":        {func(r *report) { r.ReportTime = timestamppb.New(now.Add(24 * time.Hour)) }, "report_time is"},
		"percent NaN":               {func(r *report) { r.SamplePercent = math.NaN() }, "sample_percent is NaN"},
		"percent negative":          {func(r *report) { r.SamplePercent = -1 }, "sample_percent is -1"},
		"percent above 100":         {func(r *report) { r.SamplePercent = 101 }, "sample_percent is 101"},
		"no baseline digest":        {func(r *report) { r.BaselineDigest = "" }, "baseline_digest is"},
		"baseline digest in capitals": {func(r *report) {
			r.BaselineDigest = strings.ToUpper(r.BaselineDigest)
		}, "baseline_digest is"},
		"no baseline version":              {func(r *report) { r.BaselineVersion = "" }, "baseline_version is empty"},
		"comparisons of no model":          {func(r *report) { r.ShadowDigest, r.ShadowVersion = "", "" }, "200 comparisons, but no digest"},
		"version without digest":           {func(r *report) { r.ShadowDigest = "" }, "shadow_digest is"},
		"digest without version":           {func(r *report) { r.ShadowVersion = "" }, "shadow_version is empty"},
		"endless version":                  {func(r *report) { r.ShadowVersion = strings.Repeat("v", 3e6) }, "shadow_version is"},
		"version moves the cursor":         {func(r *report) { r.BaselineVersion = "v1\x1b[2J" }, "baseline_version is"},
		"version is not UTF-8":             {func(r *report) { r.BaselineVersion = "v1\xff" }, "baseline_version is"},
		"digest like a model server's":     {func(r *report) { r.ShadowDigest = "oip:" + strings.Repeat("\x1b", 60) }, "shadow_digest is"},
		"short digest of a model server":   {func(r *report) { r.ShadowDigest = "oip:abc" }, "shadow_digest is"},
		"baseline of a model server":       {func(r *report) { r.BaselineDigest = "oip:" + strings.Repeat("a", 60) }, "baseline_digest is"},
		"digest too short":                 {func(r *report) { r.ShadowDigest = "abc" }, "shadow_digest is"},
		"no requests":                      {func(r *report) { r.RequestsTotal, r.BaselineTotal = 0, 0 }, "0 requests, but 998 outcomes and 2 in flight"},
		"more requests than outcomes":      {func(r *report) { r.RequestsTotal, r.BaselineTotal = 10_000, 0 }, "10000 requests, but 998"},
		"fewer requests than outcomes":     {func(r *report) { r.RequestsTotal, r.BaselineTotal = 100, 0 }, "100 requests, but 998"},
		"one request too many":             {func(r *report) { r.RequestsTotal, r.BaselineTotal = 1001, 0 }, "1001 requests"},
		"in flight wraps":                  {func(r *report) { r.InFlight = math.MaxUint64 - 900 }, "in flight"},
		"baseline answers differ":          {func(r *report) { r.BaselineTotal = 999 }, "999 baseline answers to 1000 requests"},
		"outcome of tomorrow":              {func(r *report) { r.OutcomesTotal[0].Outcome = 99 }, "unknown outcome 99"},
		"outcome 257 is not match":         {func(r *report) { r.OutcomesTotal[0].Outcome = 257 }, "unknown outcome 257"},
		"outcome unspecified":              {func(r *report) { r.OutcomesTotal[0].Outcome = 0 }, "unknown outcome 0"},
		"outcome negative":                 {func(r *report) { r.OutcomesTotal[0].Outcome = -1 }, "unknown outcome -1"},
		"nil entry":                        {func(r *report) { r.OutcomesTotal[0] = nil }, "unknown outcome 0"},
		"outcome twice":                    {func(r *report) { r.OutcomesTotal = append(r.OutcomesTotal, &executorv1.OutcomeCount{Outcome: 1}) }, "match twice"},
		"count that overflows":             {func(r *report) { r.OutcomesTotal[0].Count = math.MaxUint64 - 20 }, "of match"},
		"no outcomes":                      {func(r *report) { r.OutcomesTotal = nil }, "1000 requests, but 0 outcomes"},
		"no histogram":                     {func(r *report) { r.LatencyMsTotal = nil }, "0 edges and 0 counts"},
		"histogram too short":              {func(r *report) { r.LatencyMsTotal.Counts = r.LatencyMsTotal.Counts[:3] }, "3 edges and 3 counts"},
		"edge NaN":                         {func(r *report) { r.LatencyMsTotal.Edges[1] = math.NaN() }, "not positive and ascending"},
		"edge infinite":                    {func(r *report) { r.LatencyMsTotal.Edges[2] = math.Inf(1) }, "not positive and ascending"},
		"edges negative":                   {func(r *report) { r.LatencyMsTotal.Edges = []float64{-1000, -60, -1} }, "not positive and ascending"},
		"edges descend":                    {func(r *report) { r.LatencyMsTotal.Edges = []float64{80, 60, 1} }, "not positive and ascending"},
		"edges equal":                      {func(r *report) { r.LatencyMsTotal.Edges[1] = 1 }, "not positive and ascending"},
		"too many edges":                   {func(r *report) { r.LatencyMsTotal.Edges = make([]float64, 2000) }, "2000 edges"},
		"three latencies":                  {func(r *report) { r.LatencyMsTotal.Counts = []uint64{3, 0, 0, 0} }, "3 latencies of 210 shadows"},
		"latencies overflow":               {func(r *report) { r.LatencyMsTotal.Counts[3] = math.MaxUint64 - 100 }, "of 210 shadows"},
		"latencies without shadows":        {func(r *report) { r.LatencyMsTotal.Counts[0] = 5000 }, "5020 latencies of 210"},
		"window above the totals":          {func(r *report) { r.Window.Outcomes[at(shadow.Deadline)].Count = 11 }, "11 of deadline in the window, and 10 since start"},
		"window of no length":              {func(r *report) { r.Window.Length = nil }, "window.length"},
		"window with an outcome twice":     {func(r *report) { r.Window.Outcomes[1].Outcome = 1 }, "window.outcomes has match twice"},
		"window with unknown outcome":      {func(r *report) { r.Window.Outcomes[1].Outcome = 300 }, "window.outcomes has the unknown outcome 300"},
		"comparisons differ":               {func(r *report) { r.Window.Comparisons = 99 }, "window.comparisons is 99, but its outcomes have 100"},
		"match rate differs":               {func(r *report) { r.Window.MatchRate = proto.Float64(0.99) }, "window.match_rate is 0.99"},
		"match rate missing":               {func(r *report) { r.Window.MatchRate = nil }, "window.match_rate is missing"},
		"match rate NaN":                   {func(r *report) { r.Window.MatchRate = proto.Float64(math.NaN()) }, "window.match_rate is NaN"},
		"interval differs":                 {func(r *report) { r.Window.MatchRateLow = proto.Float64(0.91) }, "are not the interval"},
		"interval missing":                 {func(r *report) { r.Window.MatchRateHigh = nil }, "are not the interval"},
		"coverage differs":                 {func(r *report) { r.Window.Coverage = proto.Float64(1) }, "window.coverage is 1"},
		"worst match rate differs":         {func(r *report) { r.Window.MatchRateWorst = proto.Float64(0.9) }, "window.match_rate_worst"},
		"best match rate differs":          {func(r *report) { r.Window.MatchRateBest = proto.Float64(0.5) }, "window.match_rate_best"},
		"error rate differs":               {func(r *report) { r.Window.ErrorRate = proto.Float64(0) }, "window.error_rate is 0"},
		"mean difference above 1":          {func(r *report) { r.Window.MeanDelta = proto.Float64(1.5) }, "window.mean_delta is 1.5"},
		"mean difference NaN":              {func(r *report) { r.Window.MeanDelta = proto.Float64(math.NaN()) }, "window.mean_delta is NaN"},
		"mean difference missing":          {func(r *report) { r.Window.MeanDelta = nil }, "window.mean_delta is inconsistent with"},
		"mean difference above the max":    {func(r *report) { r.Window.MeanDelta = proto.Float64(0.4) }, "no difference is above 0.3"},
		"differences of other comparisons": {func(r *report) { r.Window.AbsDelta.Count = 7 }, "window.abs_delta has 7 values"},
		"difference above 1":               {func(r *report) { r.Window.AbsDelta.Max = 1.2 }, "window.abs_delta does not ascend"},
		"quantiles fall":                   {func(r *report) { r.Window.LatencyMs.P95 = 20 }, "window.latency_ms does not ascend"},
		"p99 above the maximum":            {func(r *report) { r.Window.LatencyMs.Max = 9 }, "window.latency_ms does not ascend"},
		"quantile NaN":                     {func(r *report) { r.Window.LatencyMs.P50 = math.NaN() }, "window.latency_ms does not ascend"},
		"quantile negative":                {func(r *report) { r.Window.LatencyMs.P50 = -1 }, "window.latency_ms does not ascend"},
		"no quantiles":                     {func(r *report) { r.Window.LatencyMs = nil }, "window.latency_ms has 0 values"},
		"difference without a mismatch": {func(r *report) {
			r.Window.AbsDelta.Max = 0.04 // of 10 mismatches
			r.Window.AbsDelta.P95, r.Window.AbsDelta.P99 = 0.03, 0.03
		}, "window has 10 mismatches, but no difference above 0.04"},
		"slow in the window alone": {func(r *report) {
			r.Window.LatencyMs = &executorv1.Quantiles{Count: 100, P50: 200, P95: 300, P99: 300, Max: 300}
			r.LatencyMsTotal.Counts = []uint64{210, 0, 0, 0}
			r.Window.LatencyMs.Count, r.Window.Comparisons = 1000, 1000
		}, "window.latency_ms.p50 is 200, but since start only 0 shadows were as slow"},
		"no breaker":                {func(r *report) { r.Breaker = nil }, "breaker.state is 0"},
		"breaker of tomorrow":       {func(r *report) { r.Breaker.State = 7 }, "breaker.state is 7"},
		"probe of a closed breaker": {func(r *report) { r.Breaker.NextProbeTime = timestamppb.Now() }, "next_probe_time is set, but the breaker is not open"},
	} {
		t.Run(name, func(t *testing.T) {
			r := sound()
			test.spoil(r)
			err := fleet.CheckReport(r, now)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	if err := fleet.CheckReport(nil, now); err == nil {
		t.Error("a nil report was accepted")
	}
}

// A challenger that contradicts itself gives an error that names it, and does not invalidate the report on the model under
// trial.
func TestCheckChallengers(t *testing.T) {
	type challenger = executorv1.Challenger
	low, high := stats.Wilson(1, 50, stats.Z95)
	of := func(name string) *challenger {
		r := sound()
		return &challenger{
			Name: name, RequestsTotal: 1000, InFlight: 2, OutcomesTotal: r.GetOutcomesTotal(), Window: r.GetWindow(), Breaker: r.GetBreaker(),
			ModelVersion: "whatever an engine says \x1b[2J", SameModel: true, NoiseFloor: &executorv1.NoiseFloor{
				Comparisons: 50, Mismatches: 1, MismatchRate: proto.Float64(0.02), MismatchRateLow: &low, MismatchRateHigh: &high, MaxDelta: 0.06,
			},
		}
	}
	for name, test := range map[string]struct {
		spoil func(*challenger)
		want  string
	}{
		"sound":                    {func(*challenger) {}, ""},
		"no A/A test":              {func(c *challenger) { c.SameModel, c.NoiseFloor = false, nil }, ""},
		"no pairs":                 {func(c *challenger) { c.NoiseFloor = &executorv1.NoiseFloor{} }, ""},
		"no name":                  {func(c *challenger) { c.Name = "" }, `challenger "": the name is not valid`},
		"a name twice":             {func(c *challenger) { c.Name = "a" }, "given twice"},
		"a name that moves":        {func(c *challenger) { c.Name = "b\x1b[2J" }, "is not valid"},
		"a request too many":       {func(c *challenger) { c.RequestsTotal++ }, "challenger b: 1001 requests"},
		"no window":                {func(c *challenger) { c.Window = nil }, "the window is missing"},
		"another match rate":       {func(c *challenger) { c.Window.MatchRate = proto.Float64(1) }, "window.match_rate is 1"},
		"no breaker":               {func(c *challenger) { c.Breaker = nil }, "breaker.state is 0"},
		"noise without A/A":        {func(c *challenger) { c.SameModel = false }, "without an A/A test"},
		"another noise":            {func(c *challenger) { c.NoiseFloor.Mismatches = 2 }, "noise_floor.mismatch_rate is 0.02"},
		"more mismatches than all": {func(c *challenger) { c.NoiseFloor.Mismatches = 51 }, "51 mismatches of 50"},
		"noise without interval":   {func(c *challenger) { c.NoiseFloor.MismatchRateLow = nil }, "are not the interval"},
		"a difference above 1":     {func(c *challenger) { c.NoiseFloor.MaxDelta = 1.5 }, "noise_floor.max_delta is 1.5"},
	} {
		r := sound()
		r.Challengers = []*challenger{of("a"), of("b")}
		test.spoil(r.GetChallengers()[1])
		err := fleet.CheckChallengers(r)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
		if err := fleet.CheckReport(r, now); err != nil {
			t.Errorf("%s: the report on the model under trial has the error %v", name, err)
		}
	}
	r := sound()
	r.Challengers = make([]*challenger, 9)
	if err := fleet.CheckChallengers(r); err == nil {
		t.Error("nine challengers are accepted")
	}
}

// fresh returns the report of an executor that has just started.
func fresh() *executorv1.GetShadowReportResponse {
	return &executorv1.GetShadowReportResponse{
		StartTime: timestamppb.New(now), ReportTime: timestamppb.New(now), InstanceId: "i", OutcomesTotal: outcomes(nil),
		BaselineVersion: "heuristic-v1", BaselineDigest: strings.Repeat("0", 64),
		LatencyMsTotal: &executorv1.Histogram{Edges: []float64{1}, Counts: []uint64{0, 0}},
		Breaker:        &executorv1.BreakerStatus{State: executorv1.BreakerState_BREAKER_STATE_CLOSED, Blind: true},
		Window: &executorv1.ShadowWindow{
			Length: durationpb.New(time.Minute), Outcomes: outcomes(nil), AbsDelta: &executorv1.Quantiles{}, LatencyMs: &executorv1.Quantiles{},
		},
	}
}

// An answer that is empty, or that differs from the request, confirms nothing.
func TestCheckSet(t *testing.T) {
	type response = executorv1.SetRolloutResponse
	req := &executorv1.SetRolloutRequest{
		Percent: 25, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Lease: durationpb.New(time.Minute), Holder: "run-1",
	}
	for name, test := range map[string]struct {
		spoil func(*response)
		want  string
	}{
		"sound":             {func(*response) {}, ""},
		"empty":             {func(r *response) { proto.Reset(r) }, "has no rollout"},
		"no rollout":        {func(r *response) { r.Rollout = nil }, "has no rollout"},
		"empty rollout":     {func(r *response) { r.Rollout = &executorv1.Rollout{} }, "revision is 0"},
		"no instance":       {func(r *response) { r.InstanceId = "" }, "instance_id is empty"},
		"another percent":   {func(r *response) { r.Rollout.Percent = 5 }, "25 % was requested, but 5 %"},
		"percent NaN":       {func(r *response) { r.Rollout.Percent = math.NaN() }, "percent is NaN"},
		"no revision":       {func(r *response) { r.Rollout.Revision = 0 }, "revision is 0"},
		"no mode":           {func(r *response) { r.Rollout.Mode = 0 }, "mode is 0"},
		"off":               {func(r *response) { r.Rollout.Mode = executorv1.RolloutMode_ROLLOUT_MODE_OFF }, "25 % and mode OFF"},
		"mode of tomorrow":  {func(r *response) { r.Rollout.Mode = 9 }, "mode is 9"},
		"another holder":    {func(r *response) { r.Rollout.Holder = "run-2" }, `one of "run-2" is confirmed`},
		"no lease":          {func(r *response) { r.Rollout.LeaseExpireTime = nil }, "the rollout has none"},
		"lease is no time":  {func(r *response) { r.Rollout.LeaseExpireTime.Nanos = -1 }, "not a time"},
		"set at what is no": {func(r *response) { r.Rollout.SetTime = &timestamppb.Timestamp{Seconds: math.MaxInt64} }, "not a time"},
	} {
		t.Run(name, func(t *testing.T) {
			resp := &response{InstanceId: "i", Rollout: &executorv1.Rollout{
				Percent: 25, Mode: req.GetMode(), Revision: 3, Holder: "run-1", LeaseExpireTime: timestamppb.New(now), SetTime: timestamppb.New(now),
			}}
			test.spoil(resp)
			err := fleet.CheckSet(req, resp)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if err := fleet.CheckSet(req, nil); err == nil {
		t.Error("a nil answer was accepted")
	}
}

func TestCheckModel(t *testing.T) {
	if err := fleet.CheckModel(&mlenginev1.GetModelInfoResponse{Version: "v1.8.1", Digest: strings.Repeat("a", 64)}); err != nil {
		t.Error(err)
	}
	for _, info := range []*mlenginev1.GetModelInfoResponse{nil, {}, {Version: "v1.8.1"}, {Version: "v1.8.1", Digest: "ab"}, {Digest: strings.Repeat("a", 64)}} {
		if err := fleet.CheckModel(info); err == nil {
			t.Errorf("%v names a model", info)
		}
	}
}

// One process under two names is refused, and the error has both names.
func TestCheckDistinct(t *testing.T) {
	names := []string{"a:1", "b:1", "localhost:1"}
	err := fleet.CheckDistinct("executor", names, []string{"x", "y", "x"})
	if !errors.Is(err, fleet.ErrDuplicate) || !strings.Contains(err.Error(), "a:1 and localhost:1 are one process") {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(fleet.CheckDistinct("executor", names, []string{"x", "y", "z"}), fleet.CheckDistinct("executor", names, []string{"", "", ""})); err != nil {
		t.Error(err)
	}
}
