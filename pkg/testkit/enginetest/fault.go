package enginetest

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/shadow/batches"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Fault is a failure of a call. The zero value is no fault. For a fault that no function below returns, write a Fault with a
// custom function.
type Fault struct {
	// Before, if set, runs before a call is scored. Its error becomes the error of the call.
	Before func(ctx context.Context) error
	// After, if set, may change the answer to a batch before it is sent. Predict returns the first row.
	After func(*mlenginev1.BatchPredictResponse)
	// Send, if set, sends the answer to a message of StreamPredict. Its error ends the stream; io.EOF ends it without an error.
	Send func(batches.Stream, *mlenginev1.BatchPredictResponse) error
	// Info, if set, may change the answer of GetModelInfo before it is sent.
	Info func(*mlenginev1.GetModelInfoResponse)
	// Everywhere applies Before to GetModelInfo too: the whole process is unhealthy, not only scoring.
	Everywhere bool
}

// Delay makes every scoring call take at least d.
func Delay(d time.Duration) Fault {
	return Fault{Before: func(ctx context.Context) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}}
}

// Hang never answers any call. A call ends when its caller cancels it.
func Hang() Fault {
	return Fault{Everywhere: true, Before: func(ctx context.Context) error {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}}
}

// Gate blocks every scoring call until release is called.
func Gate() (f Fault, release func()) {
	opened := make(chan struct{})
	return Fault{Before: func(ctx context.Context) error {
		select {
		case <-opened:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}, func() { close(opened) }
}

// Fail ends every scoring call with the code.
func Fail(code codes.Code) Fault {
	return Fault{Before: func(context.Context) error { return status.Error(code, "enginetest: made to fail") }}
}

// Answer gives every row the same score, which may be NaN, infinite or out of range.
func Answer(score float64) Fault {
	return Fault{After: func(r *mlenginev1.BatchPredictResponse) {
		for i := range r.GetScores() {
			r.Scores[i] = score
		}
	}}
}

// Shift adds by to every score, within [0,1].
func Shift(by float64) Fault {
	return Fault{After: func(r *mlenginev1.BatchPredictResponse) {
		for i, s := range r.GetScores() {
			r.Scores[i] = max(0, min(1, s+by))
		}
	}}
}

// Surplus answers with n scores too many, or -n too few if n is negative.
func Surplus(n int) Fault {
	return Fault{After: func(r *mlenginev1.BatchPredictResponse) {
		if n <= 0 {
			r.Scores = r.GetScores()[:max(0, len(r.GetScores())+n)]
			return
		}
		r.Scores = append(r.GetScores(), make([]float64, n)...)
	}}
}

// RefuseRows returns an error with the reason for every row.
func RefuseRows(reason mlenginev1.ErrorReason) Fault {
	return Fault{After: func(r *mlenginev1.BatchPredictResponse) {
		r.Errors = nil
		for i := range r.GetScores() {
			r.Errors = append(r.GetErrors(), &mlenginev1.RowError{Row: uint32(i), Reason: reason, Message: "enginetest: made to fail"})
		}
	}}
}

// Version makes the answers name a different model than GetModelInfo.
func Version(version, digest string) Fault {
	return Fault{After: func(r *mlenginev1.BatchPredictResponse) { r.ModelVersion, r.ModelDigest = version, digest }}
}
