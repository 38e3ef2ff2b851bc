package rollout

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// labelSources are the label sources in the contract.
var labelSources = map[outcome.LabelSource]executorv1.LabelSource{
	outcome.Quotes:   executorv1.LabelSource_LABEL_SOURCE_QUOTES,
	outcome.Reported: executorv1.LabelSource_LABEL_SOURCE_REPORTED,
}

// PlanProto returns a plan in the contract's form; nil for no plan.
func PlanProto(p outcome.Plan) *executorv1.QualityPlan {
	if p == (outcome.Plan{}) {
		return nil
	}
	return &executorv1.QualityPlan{
		Digest: p.Digest(), DisagreementCap: p.DisagreementCap, Margin: p.Margin, Alpha: p.Alpha,
		LabelSource: labelSources[p.LabelSource], Horizon: durationpb.New(p.Horizon()),
	}
}

// planOf returns the plan of a request; the zero Plan if it has none.
func planOf(q *executorv1.QualityPlan) (outcome.Plan, error) {
	if q == nil {
		return outcome.Plan{}, nil
	}
	p := outcome.Plan{DisagreementCap: q.GetDisagreementCap(), Margin: q.GetMargin(), Alpha: q.GetAlpha()}
	for source, named := range labelSources {
		if named == q.GetLabelSource() {
			p.LabelSource = source
		}
	}
	horizon, err := q.GetHorizon().AsDuration(), q.GetHorizon().CheckValid()
	p.HorizonMS = horizon.Milliseconds()
	switch {
	case err != nil:
		err = fmt.Errorf("quality plan: horizon: %w", err)
	case horizon%time.Millisecond != 0:
		err = fmt.Errorf("quality plan: horizon %v: want whole milliseconds", horizon)
	default:
		err = p.Validate()
	}
	if err == nil && q.GetDigest() != "" && q.GetDigest() != p.Digest() {
		err = fmt.Errorf("quality plan: digest %.64q: its values have %s", q.GetDigest(), p.Digest())
	}
	if err != nil {
		return outcome.Plan{}, rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_PLAN_INVALID, "%v", err)
	}
	return p, nil
}
