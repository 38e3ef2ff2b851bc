package app_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Only an operator may report outcomes. They reach the requests that executor has answered, and invalid ones do not fail the
// stream.
func TestReportOutcomes(t *testing.T) {
	closed := start(t, options(t, loopback(t)))
	stream, err := executorv1.NewOutcomeServiceClient(closed.Conn).ReportOutcomes(t.Context())
	if err == nil {
		_, err = stream.CloseAndRecv()
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("without a role: %v", err)
	}

	o := options(t, loopback(t))
	o.Control.Insecure, o.StateDir = true, t.TempDir()
	r := start(t, o)
	r.reached()
	set := observe(100)
	set.Plan = &executorv1.QualityPlan{
		DisagreementCap: 0.5, Margin: 0.01, Alpha: 0.05, LabelSource: executorv1.LabelSource_LABEL_SOURCE_REPORTED, Horizon: durationpb.New(time.Minute),
	}
	got, err := executorv1.NewRolloutServiceClient(r.Conn).SetRollout(t.Context(), set)
	if err != nil || len(got.GetRollout().GetPlan().GetDigest()) != 64 {
		t.Fatalf("got %v, %v", got, err)
	}
	at := time.Now()
	if _, err := executorv1.NewDecisionServiceClient(r.Conn).PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{
		RequestId: "a", EventTime: timestamppb.New(at), Vector: &executorv1.FeatureVector{Schema: "v1.8.1", Values: []float64{1, 0, 0, 0, 0, 0, 0}},
	}); err != nil {
		t.Fatal(err)
	}
	stream, err = executorv1.NewOutcomeServiceClient(r.Conn).ReportOutcomes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one := uint32(1)
	known := timestamppb.New(at.Add(time.Second))
	for range 100 { // a flood of invalid reports
		if err := stream.Send(&executorv1.ReportOutcomesRequest{Outcomes: []*executorv1.ReportedOutcome{{}, {RequestId: "other", Outcome: &one, KnownTime: known}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.Send(&executorv1.ReportOutcomesRequest{Outcomes: []*executorv1.ReportedOutcome{
		{RequestId: "a", Outcome: &one, KnownTime: known}, {RequestId: "a", Outcome: &one, KnownTime: known},
	}}); err != nil {
		t.Fatal(err)
	}
	sum, err := stream.CloseAndRecv()
	if err != nil || sum.GetAccepted() != 1 || sum.GetRepeated() != 1 || sum.GetInvalid() != 100 || sum.GetUnknown() != 100 {
		t.Errorf("got %v, %v", sum, err)
	}
	report, err := executorv1.NewShadowServiceClient(r.Conn).GetQualityReport(t.Context(), &executorv1.GetQualityReportRequest{})
	if err != nil || report.GetLabels().GetMatured() != 1 || report.GetPlan().GetDigest() != got.GetRollout().GetPlan().GetDigest() ||
		report.GetJudgment().GetVerdict() != executorv1.QualityVerdict_QUALITY_VERDICT_INCONCLUSIVE || report.GetModelDigest() == "" {
		t.Errorf("got %v, %v", report, err)
	}
}
