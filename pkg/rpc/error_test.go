package rpc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

func TestErrorArrivesWithItsReason(t *testing.T) {
	plain := &rpc.Error{
		Code: codes.InvalidArgument, Domain: "mlengine.greenlight", Reason: "FEATURE_MISSING",
		Message: "schema v1.8 needs mid, vol1m", Features: []string{"mid", "vol1m"},
	}
	nameless := &rpc.Error{Code: codes.Internal, Domain: "mlengine.greenlight", Reason: "SCORE_INVALID", Message: "NaN"}
	for name, tt := range map[string]struct {
		err     error
		message string
		reason  string
		names   string
		code    codes.Code
	}{
		"with names":    {plain, plain.Message, "FEATURE_MISSING", "mid,vol1m", codes.InvalidArgument},
		"without names": {nameless, nameless.Message, "SCORE_INVALID", "", codes.Internal},
		"wrapped":       {fmt.Errorf("row 3: %w", plain), "row 3: " + plain.Message, "FEATURE_MISSING", "mid,vol1m", codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, &stub{predict: func(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
					return nil, tt.err
				}})
				_, err := p.client.Predict(t.Context(), nil)
				s := status.Convert(err)
				if s.Code() != tt.code || s.Message() != tt.message {
					t.Errorf("got %v %q, want %v %q", s.Code(), s.Message(), tt.code, tt.message)
				}
				if got := rpc.Reason(err); got != tt.reason {
					t.Errorf("reason: got %q, want %q", got, tt.reason)
				}
				if len(s.Details()) != 1 {
					t.Fatalf("details: got %v, want one", s.Details())
				}
				info, ok := s.Details()[0].(*errdetails.ErrorInfo)
				if !ok || info.GetDomain() != "mlengine.greenlight" || info.GetReason() != tt.reason || info.GetMetadata()["features"] != tt.names {
					t.Errorf("detail: got %v, want reason %s with the names %q", s.Details()[0], tt.reason, tt.names)
				}
			})
		})
	}
}

// An error that quotes the caller is bounded.
func TestErrorIsBounded(t *testing.T) {
	names := make([]string, 1000)
	for i := range names {
		names[i] = strings.Repeat("ü", 5000)
	}
	e := &rpc.Error{Code: codes.InvalidArgument, Message: rpc.Names(names) + strings.Repeat("ü", 5000), Features: names}
	s := e.GRPCStatus()
	if n := proto.Size(s.Proto()); n > 4000 || !utf8.ValidString(s.Message()) || !strings.HasSuffix(s.Message(), "ü…") {
		t.Errorf("got %d bytes: %q", n, s.Message())
	}
	if got := rpc.Names(names[:2]); got != strings.Repeat("ü", 30)+"…, "+strings.Repeat("ü", 30)+"…" {
		t.Errorf("got %q", got)
	}
	if !strings.Contains(e.Error(), "… and 980 more") {
		t.Errorf("got %q", e.Error())
	}
}

// An Error with code OK is a programming error, but does not panic.
func TestErrorOfCodeOK(t *testing.T) {
	if got := (&rpc.Error{Message: "no error"}).GRPCStatus().Code(); got != codes.OK {
		t.Errorf("got %v, want OK", got)
	}
}
