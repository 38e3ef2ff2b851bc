package shadow

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/shadow/batches"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// streamFaults are faults that only a stream can have, each with the outcome of a shadow.
var streamFaults = map[string]struct {
	send func(batches.Stream, *mlenginev1.BatchPredictResponse) error
	want Outcome
}{
	"another sequence": {func(s batches.Stream, r *mlenginev1.BatchPredictResponse) error {
		r.Sequence++
		return s.Send(r)
	}, Internal},
	"no sequence": {func(s batches.Stream, r *mlenginev1.BatchPredictResponse) error {
		r.Sequence = 0
		return s.Send(r)
	}, Internal},
	"answers twice": {func(s batches.Stream, r *mlenginev1.BatchPredictResponse) error {
		return errors.Join(s.Send(r), s.Send(r))
	}, Match},
	"an error of no code": {func(s batches.Stream, r *mlenginev1.BatchPredictResponse) error {
		return s.Send(&mlenginev1.BatchPredictResponse{Sequence: r.GetSequence(), Error: &mlenginev1.BatchError{Message: "no"}})
	}, Internal},
	"an error of a code that gRPC has not": {func(s batches.Stream, r *mlenginev1.BatchPredictResponse) error {
		return s.Send(&mlenginev1.BatchPredictResponse{Sequence: r.GetSequence(), Error: &mlenginev1.BatchError{Code: -4}})
	}, Internal},
	"ends": {func(batches.Stream, *mlenginev1.BatchPredictResponse) error { return io.EOF }, Unavailable},
	"ends as unavailable": {func(batches.Stream, *mlenginev1.BatchPredictResponse) error {
		return status.Error(codes.Unavailable, "")
	}, Unavailable},
	"ends as canceled": {func(batches.Stream, *mlenginev1.BatchPredictResponse) error { return status.Error(codes.Canceled, "") }, Unavailable},
	"ends as internal": {func(batches.Stream, *mlenginev1.BatchPredictResponse) error { return status.Error(codes.Internal, "") }, Internal},
	"panics": {func(batches.Stream, *mlenginev1.BatchPredictResponse) error {
		return status.Error(codes.Internal, "panic")
	}, Internal},
	"says deadline": {func(batches.Stream, *mlenginev1.BatchPredictResponse) error {
		return status.Error(codes.DeadlineExceeded, "")
	}, Deadline},
	"does not send": {func(s batches.Stream, _ *mlenginev1.BatchPredictResponse) error {
		<-s.Context().Done()
		return s.Context().Err()
	}, Deadline},
}

// Whatever a stream does, every request has the right outcome, and after the fault the next stream is used.
func TestOutcomeOfEveryStreamFault(t *testing.T) {
	for name, tt := range streamFaults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{}, nil)
				tr.engine.Break(enginetest.Fault{Send: tt.send})
				for range 3 {
					if r := tr.wait(t.Context()); r.Outcome != tt.want {
						t.Errorf("got %v (%v), want %v", r.Outcome, r.Err, tt.want)
					}
					synctest.Wait()
				}
				tr.engine.Heal()
				time.Sleep(time.Second) // the longest delay of a stream
				for range 8 {           // on every slot
					if r := tr.wait(t.Context()); r.Outcome != Match {
						t.Errorf("after the fault: got %v (%v), want a match", r.Outcome, r.Err)
					}
				}
				tr.wantTotals(sum(map[Outcome]uint64{tt.want: 3}, map[Outcome]uint64{Match: 8}))
				tr.wantConserved(0)
				tr.engine.Break(enginetest.Fault{Send: tt.send})
				chaos(tr, 300)
			})
		})
	}
}

func sum(all ...map[Outcome]uint64) map[Outcome]uint64 {
	total := map[Outcome]uint64{}
	for _, m := range all {
		for o, n := range m {
			total[o] += n
		}
	}
	return total
}
