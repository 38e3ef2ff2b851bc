package rollout

import (
	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// planOf returns the plan of a request; the zero Plan if it has none.
func planOf(q *executorv1.QualityPlan) (outcome.Plan, error) {
	p, err := wire.PlanOf(q)
	if err != nil {
		return p, rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_PLAN_INVALID, "%v", err)
	}
	return p, nil
}
