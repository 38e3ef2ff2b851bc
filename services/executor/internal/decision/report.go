package decision

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// The reasons of refused calls of ShadowService, documented in its contract, besides reasonFieldTooLong and reasonStopping.
const (
	reasonOutcomeUnknown  = "OUTCOME_UNKNOWN"
	reasonSampleInvalid   = "SAMPLE_INVALID"
	reasonOperatorOnly    = "OPERATOR_ONLY"
	reasonTooManyWatchers = "TOO_MANY_WATCHERS"
)

// ReportService is executor's ShadowService.
type ReportService struct {
	executorv1.UnimplementedShadowServiceServer

	baseline   *Baseline
	shadow     *shadow.Dispatcher
	rollout    Rollout
	asOperator AsOperator
	quality    func(context.Context, *executorv1.GetQualityReportRequest) (*executorv1.GetQualityReportResponse, error)
	// stopping is closed when streams must end.
	stopping chan struct{}
}

// AsOperator runs call if the caller of the method is an operator, and returns its error, or the reason for refusing the caller.
type AsOperator func(ctx context.Context, method string, req any, call func(context.Context) error) error

// NewReportService returns a service that reports on the dispatcher.
func NewReportService(b *Baseline, d *shadow.Dispatcher, r Rollout) *ReportService {
	return &ReportService{baseline: b, shadow: d, rollout: r, stopping: make(chan struct{})}
}

// SetOperators sets who may ask for features. Call it before the first request.
func (s *ReportService) SetOperators(as AsOperator) { s.asOperator = as }

// SetQuality sets the function that answers GetQualityReport. Call it before the first request.
func (s *ReportService) SetQuality(report func(context.Context, *executorv1.GetQualityReportRequest) (*executorv1.GetQualityReportResponse, error)) {
	s.quality = report
}

// GetQualityReport implements ShadowService.
func (s *ReportService) GetQualityReport(ctx context.Context, req *executorv1.GetQualityReportRequest) (*executorv1.GetQualityReportResponse, error) {
	if s.quality == nil {
		return s.UnimplementedShadowServiceServer.GetQualityReport(ctx, req)
	}
	return s.quality(ctx, req)
}

// GetShadowReport implements ShadowService.
func (s *ReportService) GetShadowReport(context.Context, *executorv1.GetShadowReportRequest) (*executorv1.GetShadowReportResponse, error) {
	r := s.shadow.Report()
	r.SamplePercent, r.InstanceId = s.rollout.Percent(), s.rollout.Instance()
	r.BaselineVersion, r.BaselineDigest = s.baseline.Version, s.baseline.Digest
	return r, nil
}

// WatchComparisons implements ShadowService.
func (s *ReportService) WatchComparisons(req *executorv1.WatchComparisonsRequest, stream grpc.ServerStreamingServer[executorv1.WatchComparisonsResponse]) error {
	watcher, err := s.watch(stream.Context(), req)
	if err != nil {
		return err
	}
	defer watcher.Close()
	// The header shows the caller that it is admitted and that requests are selected from now on.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	// A stop does not wait for a client that does not read. Send ends only when this handler returns, so a goroutine sends.
	ended := make(chan error, 1)
	go func() { ended <- sendComparisons(stream, watcher) }()
	select {
	case err := <-ended:
		return err
	case <-s.stopping:
		return errStopping
	}
}

// sendComparisons sends until the stream ends.
func sendComparisons(stream grpc.ServerStreamingServer[executorv1.WatchComparisonsResponse], w *shadow.Watcher) error {
	ctx := stream.Context()
	for {
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case c := <-w.Comparisons():
			p := c.Proto()
			p.DroppedTotal = w.Dropped()
			if err := stream.Send(p); err != nil {
				return err
			}
		}
	}
}

// watch checks the request and starts its watcher.
func (s *ReportService) watch(ctx context.Context, req *executorv1.WatchComparisonsRequest) (watcher *shadow.Watcher, err error) {
	if err := checkLength(req.GetSymbol()); err != nil {
		return nil, err
	}
	opts := shadow.WatchOptions{Percent: req.GetSamplePercent(), Symbol: req.GetSymbol(), Features: req.GetIncludeFeatures()}
	for _, o := range req.GetOutcomes() {
		if _, known := executorv1.ShadowOutcome_name[int32(o)]; !known || o == executorv1.ShadowOutcome_SHADOW_OUTCOME_UNSPECIFIED {
			return nil, rpc.ExecutorError(codes.InvalidArgument, reasonOutcomeUnknown, "unknown outcome %d: this executor may be older than the calling program", o)
		}
		opts.Outcomes = append(opts.Outcomes, shadow.Outcome(o))
	}
	start := func(context.Context) (err error) {
		watcher, err = s.shadow.Watch(opts)
		switch {
		case errors.Is(err, shadow.ErrTooManyWatchers):
			return rpc.ExecutorError(codes.ResourceExhausted, reasonTooManyWatchers, "%v: end one of them", err)
		case err != nil:
			return rpc.ExecutorError(codes.InvalidArgument, reasonSampleInvalid, "%v", err)
		}
		return nil
	}
	if !opts.Features {
		err = start(ctx)
		return watcher, err
	}
	// The audit line is written before the first feature is sent.
	err = s.asOperator(ctx, executorv1.ShadowService_WatchComparisons_FullMethodName, req, start)
	if code := status.Code(err); code == codes.Unauthenticated || code == codes.PermissionDenied {
		return nil, rpc.ExecutorError(codes.PermissionDenied, reasonOperatorOnly, "include_features: %s", status.Convert(err).Message())
	}
	return watcher, err
}

// EndStreams ends open streams and refuses new ones, so that a graceful stop need not wait for them. It must be called only
// once.
func (s *ReportService) EndStreams() { close(s.stopping) }
