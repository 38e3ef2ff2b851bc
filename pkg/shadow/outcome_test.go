package shadow

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

func TestOutcomeOfEveryCode(t *testing.T) {
	want := map[codes.Code]Outcome{
		codes.Canceled:           Canceled,
		codes.Unknown:            Internal,
		codes.InvalidArgument:    Rejected,
		codes.DeadlineExceeded:   Deadline,
		codes.NotFound:           Rejected,
		codes.AlreadyExists:      Internal,
		codes.PermissionDenied:   Unavailable,
		codes.ResourceExhausted:  Unavailable,
		codes.FailedPrecondition: Rejected,
		codes.Aborted:            Internal,
		codes.OutOfRange:         Rejected,
		codes.Unimplemented:      Internal,
		codes.Internal:           Internal,
		codes.Unavailable:        Unavailable,
		codes.DataLoss:           Internal,
		codes.Unauthenticated:    Unavailable,
	}
	for c := codes.OK + 1; c <= codes.Unauthenticated; c++ {
		outcome, ok := want[c]
		if !ok {
			t.Errorf("the table lacks %v", c)
			continue
		}
		err := status.Error(c, "made up")
		if got := OutcomeOf(err); got != outcome {
			t.Errorf("%v: got %v, want %v", c, got, outcome)
		}
		if got := OutcomeOf(fmt.Errorf("call: %w", err)); got != outcome {
			t.Errorf("%v, wrapped: got %v, want %v", c, got, outcome)
		}
	}
}

func TestOutcomeOfOtherErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want Outcome
	}{
		"context deadline":  {context.DeadlineExceeded, Deadline},
		"context canceled":  {context.Canceled, Canceled},
		"wrapped deadline":  {fmt.Errorf("call: %w", context.DeadlineExceeded), Deadline},
		"unknown to gRPC":   {errors.New("disk on fire"), Internal},
		"an undefined code": {status.Error(codes.Code(99), "made up"), Internal},
	} {
		if got := OutcomeOf(tt.err); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// The names match the contract, so that labels, log fields and reports agree.
func TestOutcomesAreTheContracts(t *testing.T) {
	names := executorv1.ShadowOutcome_name
	if got, want := len(Outcomes()), len(names)-1; got != want {
		t.Fatalf("got %d outcomes, want the contract's %d", got, want)
	}
	for _, o := range Outcomes() {
		want := strings.ToLower(strings.TrimPrefix(names[int32(o)], "SHADOW_OUTCOME_"))
		if got := o.String(); got != want {
			t.Errorf("outcome %d: got %q, want %q", o, got, want)
		}
	}
	for _, o := range []Outcome{0, outcomeEnd, 200} {
		if got := o.String(); got != "unknown" {
			t.Errorf("outcome %d: got %q, want unknown", o, got)
		}
	}
}

func TestOutcomeKinds(t *testing.T) {
	for _, o := range Outcomes() {
		var compared, failed, trips bool
		switch o {
		case Match, Mismatch:
			compared = true
		case Deadline, Unavailable, InvalidScore, Internal:
			failed, trips = true, true
		case Rejected:
			failed = true
		}
		if o.Compared() != compared || o.Failed() != failed || o.trips() != trips {
			t.Errorf("%v: got compared %v, failed %v, trips %v; want %v, %v, %v",
				o, o.Compared(), o.Failed(), o.trips(), compared, failed, trips)
		}
	}
}
