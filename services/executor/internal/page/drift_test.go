package page

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

func TestDriftIsAskedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		d := startDrift(func(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error) {
			asked++
			if asked == 2 {
				return nil, status.Error(codes.FailedPrecondition, "the model has no reference")
			}
			return &mlenginev1.GetDriftResponse{Rows: uint64(asked)}, nil
		})
		defer d.stop()
		if _, _, err := d.latest(); !errors.Is(err, errNotAsked) {
			t.Errorf("before the first answer: got %v, want %v", err, errNotAsked)
		}
		synctest.Wait()
		for range 30 { // every second of half a minute
			if got, raw, err := d.latest(); err != nil || got.GetRows() != 1 || len(raw) == 0 {
				t.Fatalf("got %v, %v; want the first answer", got, err)
			}
			time.Sleep(time.Second)
		}
		_, _, _ = d.latest()
		synctest.Wait()
		if got, raw, err := d.latest(); err == nil || err.Error() != "the model has no reference" || got != nil || raw != nil {
			t.Errorf("got %v, %v; want why there is none", got, err)
		}
		time.Sleep(driftRetry) // the page soon notices that the engine is back
		_, _, _ = d.latest()
		synctest.Wait()
		if got, _, err := d.latest(); err != nil || got.GetRows() != 3 || asked != 3 {
			t.Errorf("got %v, %v after %d calls; want the third answer", got, err, asked)
		}
		time.Sleep(time.Hour)
		if asked != 3 {
			t.Errorf("asked %d times while nobody looked", asked-3)
		}
	})
}

func TestReason(t *testing.T) {
	for code, want := range map[codes.Code]string{
		codes.Unavailable: "ml-engine cannot be reached", codes.DeadlineExceeded: "ml-engine did not answer within 5s", codes.FailedPrecondition: "what it said",
	} {
		if got := reason(status.Error(code, "what it said")); got.Error() != want {
			t.Errorf("%s: got %q, want %q", code, got, want)
		}
	}
}

// A hung engine delays neither the statuses nor the stop.
func TestDriftOfAnEngineThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startDrift(func(ctx context.Context, _ *mlenginev1.GetDriftRequest, _ ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error) {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		})
		began := time.Now()
		_, _, _ = d.latest()
		synctest.Wait()
		if _, _, err := d.latest(); !errors.Is(err, errNotAsked) || !time.Now().Equal(began) {
			t.Errorf("got %v after %v, want %v at once", err, time.Since(began), errNotAsked)
		}
		time.Sleep(driftTimeout)
		synctest.Wait()
		if _, _, err := d.latest(); err == nil || errors.Is(err, errNotAsked) {
			t.Errorf("got %v after the timeout", err)
		}
		time.Sleep(driftInterval)
		_, _, _ = d.latest() // requested again
		synctest.Wait()
		began = time.Now()
		d.stop()
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the end took %v", waited)
		}
	})
}
