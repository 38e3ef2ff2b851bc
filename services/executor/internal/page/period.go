package page

import (
	"fmt"
	"time"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// period describes a length of time that ends now; 0 means since the start of the executor.
func period(length time.Duration) string {
	switch seconds := int(length.Round(time.Second).Seconds()); {
	case seconds == 0:
		return "since start"
	case seconds < 120:
		return fmt.Sprintf("last %d s", seconds)
	case seconds < 2*60*60:
		return fmt.Sprintf("last %d min", seconds/60)
	case seconds < 48*60*60:
		return fmt.Sprintf("last %d h", seconds/(60*60))
	default:
		return fmt.Sprintf("last %d days", seconds/(24*60*60))
	}
}

// periodOf describes the report's window, which cannot begin before the executor.
func periodOf(r *executorv1.GetShadowReportResponse) string {
	length := r.GetWindow().GetLength().AsDuration()
	if r.GetReportTime().AsTime().Sub(r.GetStartTime().AsTime()) < length {
		return "since start"
	}
	return period(length)
}

// periodOfDrift describes ml-engine's window. It is empty while there is no answer.
func periodOfDrift(d *mlenginev1.GetDriftResponse) string {
	if d.GetWindowStartTime() == nil || d.GetWindowEndTime() == nil {
		return ""
	}
	return period(max(0, d.GetWindowEndTime().AsTime().Sub(d.GetWindowStartTime().AsTime())))
}
