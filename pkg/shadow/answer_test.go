package shadow

import (
	"context"
	"io"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/shadow/batches"
	"github.com/greenlight-ml/greenlight/pkg/shadow/link"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// lie makes every call and every stream fail with the error.
func lie(err error) enginetest.Fault {
	return enginetest.Fault{
		Everywhere: true, Before: func(context.Context) error { return err },
		Send: func(batches.Stream, *mlenginev1.BatchPredictResponse) error { return err },
	}
}

func answer(change func(*mlenginev1.BatchPredictResponse)) enginetest.Fault {
	return enginetest.Fault{After: change}
}

// rowError lists row as an error.
func rowError(rows ...uint32) enginetest.Fault {
	return answer(func(r *mlenginev1.BatchPredictResponse) {
		for _, row := range rows {
			r.Errors = append(r.Errors, &mlenginev1.RowError{Row: row, Message: "no"})
		}
	})
}

// Whatever ml-engine answers, a shadow ends in time, in an outcome with short, valid texts.
func TestWhateverTheEngineAnswers(t *testing.T) {
	const mega = 1 << 20
	long := strings.Repeat("v", 3*mega)
	for name, tt := range map[string]struct {
		fault enginetest.Fault
		want  Outcome
		text  string // in the error
	}{
		"a version just under the limit": {answer(func(r *mlenginev1.BatchPredictResponse) { r.ModelVersion = long[:60<<10] }), Match, ""},
		"a version of 3 MB":              {enginetest.Version(long, "d"), Unavailable, "larger than max"},
		"a digest of 3 MB":               {enginetest.Version("v", long), Unavailable, "larger than max"},
		"control characters":             {enginetest.Version("v1\x1b[2J\nlevel=ERROR", "\u202ed"), Match, ""},
		"a long row error": {answer(func(r *mlenginev1.BatchPredictResponse) {
			r.Errors = []*mlenginev1.RowError{{Message: long[:50<<10]}}
		}), Rejected, "ml-engine refused the state: vvv"},
		"an error that is not UTF-8":   {lie(status.Error(codes.Internal, "bad \xff\xfe text")), Internal, "bad \uFFFD\uFFFD text"},
		"an error of 5 kB":             {lie(status.Error(codes.Internal, long[:5<<10])), Internal, "vvv…"},
		"an error of 3 MB":             {lie(status.Error(codes.Internal, long)), Internal, "INTERNAL_ERROR"},
		"an error with escape codes":   {lie(status.Error(codes.Internal, "\x1b]0;x\x07")), Internal, "\uFFFD]0;x\uFFFD"},
		"a code that gRPC has not":     {lie(status.Error(codes.Code(4_000_000), "odd")), Internal, "odd"},
		"no scores":                    {enginetest.Surplus(-64), InvalidScore, "0 scores for 1 row"},
		"a score too many":             {enginetest.Surplus(1), InvalidScore, "2 scores for 1 row"},
		"half a million scores":        {enginetest.Surplus(500_000), Unavailable, "larger than max"},
		"NaN":                          {enginetest.Answer(math.NaN()), InvalidScore, "NaN"},
		"infinite":                     {enginetest.Answer(math.Inf(-1)), InvalidScore, "-Inf"},
		"an error of a row far away":   {rowError(math.MaxUint32), InvalidScore, "row 4294967295"},
		"an error of the row after":    {rowError(1), InvalidScore, "row 1"},
		"the same row twice":           {rowError(0, 0), InvalidScore, "row 0"},
		"more errors than a batch has": {rowError(make([]uint32, 5000)...), Internal, "more than 2112 parts"},
		"headers of 3 MB": {enginetest.Fault{
			Before: func(ctx context.Context) error { return grpc.SetTrailer(ctx, metadata.Pairs("x", long)) },
			Send:   func(batches.Stream, *mlenginev1.BatchPredictResponse) error { return io.EOF },
		}, Internal, "INTERNAL_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{}, nil)
				tr.engine.Break(tt.fault)
				r := tr.wait(t.Context())
				if r.Outcome != tt.want || (r.Err == nil) != (tt.text == "") || r.Err != nil && !strings.Contains(r.Err.Error(), tt.text) {
					t.Errorf("got %v, error %.300v; want %v with %q", r.Outcome, r.Err, tt.want, tt.text)
				}
				report := tr.Report()
				for _, s := range []string{r.Version, r.Digest, report.GetShadowVersion(), report.GetShadowDigest()} {
					wantClean(t, s, link.MaxName)
				}
				if r.Err != nil {
					wantClean(t, r.Err.Error(), 2*link.MaxText)
				}
				if _, err := proto.Marshal(report); err != nil || proto.Size(report) > 8<<10 {
					t.Errorf("the report has %d bytes, error %v", proto.Size(report), err)
				}
			})
		})
	}
}

// The description of the model arrives short and valid too.
func TestWhateverTheEngineReportsAboutItsModel(t *testing.T) {
	for name, info := range map[string]func(*mlenginev1.GetModelInfoResponse){
		"a long version":    func(r *mlenginev1.GetModelInfoResponse) { r.Version = strings.Repeat("v", 60<<10) },
		"escape codes":      func(r *mlenginev1.GetModelInfoResponse) { r.Version, r.Digest = "v\x1b[2J", "\nlevel=ERROR" },
		"a version of 3 MB": func(r *mlenginev1.GetModelInfoResponse) { r.Version = strings.Repeat("v", 3<<20) },
		"100,000 features": func(r *mlenginev1.GetModelInfoResponse) {
			r.Features = make([]*mlenginev1.FeatureInfo, 100_000)
			for i := range r.Features {
				r.Features[i] = &mlenginev1.FeatureInfo{}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{}, nil)
				tr.engine.Break(enginetest.Fault{Info: info})
				time.Sleep(modelPeriod)
				synctest.Wait()
				m := tr.model.current.Load()
				wantClean(t, m.version, link.MaxName)
				wantClean(t, m.digest, link.MaxName)
				if r := tr.wait(t.Context()); r.Outcome != Match {
					t.Errorf("got %v: %v", r.Outcome, r.Err)
				}
			})
		})
	}
}

func wantClean(t *testing.T, s string, limit int) {
	t.Helper()
	if len(s) > limit || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		t.Errorf("got a text of %d bytes, %.100q; want at most %d, valid and without control characters", len(s), s, limit)
	}
}
