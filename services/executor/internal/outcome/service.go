package outcome

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	quality "github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// maxPage bounds the records of an answer, which take at most about 6 kB each.
const maxPage = 250

// Service is executor's OutcomeService.
type Service struct {
	executorv1.UnimplementedOutcomeServiceServer

	keeper *Keeper
}

// NewService returns a service that passes outcomes to the keeper.
func NewService(k *Keeper) *Service { return &Service{keeper: k} }

var errStopping = rpc.ExecutorError(codes.Unavailable, "STOPPING", "executor is stopping: report the rest when it is back")

// ReportOutcomes implements OutcomeService.
func (s *Service) ReportOutcomes(stream grpc.ClientStreamingServer[executorv1.ReportOutcomesRequest, executorv1.ReportOutcomesResponse]) error {
	sum := &executorv1.ReportOutcomesResponse{}
	err := rpc.Receive(stream, s.keeper.stopping, errStopping, func(req *executorv1.ReportOutcomesRequest) error {
		s.keeper.report(req.GetOutcomes(), sum)
		return nil
	})
	if err != nil {
		return err
	}
	return stream.SendAndClose(sum)
}

// EndStreams ends open streams and refuses new ones, so that a graceful stop need not wait for them. It must be called only
// once.
func (k *Keeper) EndStreams() { close(k.stopping) }

// report takes reported outcomes and counts the reactions.
func (k *Keeper) report(outcomes []*executorv1.ReportedOutcome, sum *executorv1.ReportOutcomesResponse) {
	now := time.Now()
	counts := [...]*uint64{
		quality.Accepted: &sum.Accepted, quality.UnknownID: &sum.Unknown, quality.Repeated: &sum.Repeated,
		quality.Late: &sum.Late, quality.Contradicting: &sum.Contradicting,
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drain() // rows that were answered earlier
	for _, o := range outcomes {
		id := o.GetRequestId()
		known, ok := rpc.EventTime(o.GetKnownTime(), now, k.opts.Ahead)
		if !ok || id == "" || len(id) > rpc.MaxRequestID || o.Outcome == nil || o.GetOutcome() > 1 { //nolint:protogetter // presence
			sum.Invalid++
			continue
		}
		*counts[k.react(id, o.GetOutcome() == 1, known.UnixMilli())]++
	}
	k.changed = true
	k.collect()
}

// react passes the outcome to every join. At most one knows the request, unless it was repeated.
func (k *Keeper) react(id string, y bool, known int64) quality.Reaction {
	did := quality.UnknownID
	for _, j := range k.joins {
		if r := j.Report(id, y, known); r != quality.UnknownID {
			did = r
		}
	}
	return did
}

// Report implements GetQualityReport of ShadowService.
func (k *Keeper) Report(_ context.Context, req *executorv1.GetQualityReportRequest) (*executorv1.GetQualityReportResponse, error) {
	for _, digest := range []string{req.GetModelDigest(), req.GetBaselineDigest(), req.GetPlanDigest()} {
		if digest != "" && (len(digest) != 64 || strings.Trim(digest, "0123456789abcdef") != "") {
			return nil, rpc.ExecutorError(codes.InvalidArgument, "DIGEST_INVALID", "digest %.64q: want 64 lower-case hexadecimal digits, or none", digest)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drain()
	key := quality.Key{Executor: k.id, Model: req.GetModelDigest(), Baseline: req.GetBaselineDigest(), Plan: req.GetPlanDigest()}
	if key == (quality.Key{Executor: k.id}) {
		key = k.current
	}
	all := k.records.of(key)
	resp := k.page(key, all)
	most := int(req.GetMaxRecords())
	if most == 0 || most > maxPage {
		most = maxPage
	}
	for _, r := range all {
		if req.FromBlock != nil && r.light.Block < req.GetFromBlock() { //nolint:protogetter // presence
			continue
		}
		if len(resp.Records) == most {
			resp.NextBlock = proto.Int64(r.light.Block)
			break
		}
		if err := appendRecord(resp, r); err != nil {
			return nil, err
		}
	}
	if key == k.current {
		resp.Judgment = judgmentProto(k.judged)
	}
	return resp, nil
}

// page returns an answer about a key without records. all are the key's records.
func (k *Keeper) page(key quality.Key, all []*keptRecord) *executorv1.GetQualityReportResponse {
	labels, lost := countsOf(all)
	if j := k.joins[key]; j != nil {
		labels, lost = j.Counts()
	}
	return &executorv1.GetQualityReportResponse{
		ExecutorId: k.id, InstanceId: k.opts.Instance, ModelDigest: key.Model, BaselineDigest: key.Baseline,
		Labels: wire.Labels(&labels), Lost: lost, Plan: wire.Plan(k.records.plans[key.Plan]),
	}
}

func appendRecord(to *executorv1.GetQualityReportResponse, r *keptRecord) error {
	one := &executorv1.QualityRecord{}
	if err := proto.Unmarshal(r.raw, one); err != nil {
		return err
	}
	to.Records = append(to.Records, one)
	return nil
}

// ID returns the id of this executor, which survives restarts with a state folder.
func (k *Keeper) ID() string { return k.id }

// Closed returns the first record after the given number, as an answer like GetQualityReport's without a verdict, the record's
// number, and how many records there are. If there is no such record, the answer is nil. Numbers survive restarts with a state folder.
func (k *Keeper) Closed(after uint64) (page *executorv1.GetQualityReportResponse, number uint64, waiting int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drain()
	for i := len(k.records.all) - 1; i >= 0 && k.records.all[i].number > after; i-- {
		if r := k.records.all[i]; r.number <= k.records.saved {
			waiting++
			number = r.number
		}
	}
	if waiting == 0 {
		return nil, 0, 0, nil
	}
	r := k.records.all[slices.IndexFunc(k.records.all, func(r *keptRecord) bool { return r.number == number })]
	key := keyOf(&r.light)
	page = k.page(key, k.records.of(key))
	return page, number, waiting, appendRecord(page, r)
}

// Bounds returns the verdict, nil without one, and at most n points of its bounds over time.
func (k *Keeper) Bounds(n int, point func(at time.Time, lower, upper float64)) *executorv1.QualityJudgment {
	k.mu.Lock()
	v := k.judged
	k.mu.Unlock()
	if v == nil {
		return nil
	}
	lower, upper := -v.Plan.MaxDifference(), v.Plan.MaxDifference()
	every := (len(v.Points) + n - 1) / n
	for i, p := range v.Points {
		lower, upper = max(lower, p.Lower), min(upper, p.Upper)
		if (len(v.Points)-1-i)%every == 0 {
			point(v.Plan.Start(p.Block+1), lower, upper)
		}
	}
	return judgmentProto(v)
}

func countsOf(all []*keptRecord) (labels quality.LabelCounts, lost uint64) {
	for _, r := range all {
		for l, n := range r.light.Labels {
			labels[l] += n
		}
		lost += r.light.Lost
	}
	return labels, lost
}

var verdicts = map[quality.Verdict]executorv1.QualityVerdict{
	quality.Error:        executorv1.QualityVerdict_QUALITY_VERDICT_ERROR,
	quality.Fail:         executorv1.QualityVerdict_QUALITY_VERDICT_FAIL,
	quality.Better:       executorv1.QualityVerdict_QUALITY_VERDICT_BETTER,
	quality.Pass:         executorv1.QualityVerdict_QUALITY_VERDICT_PASS,
	quality.Inconclusive: executorv1.QualityVerdict_QUALITY_VERDICT_INCONCLUSIVE,
}

func judgmentProto(v *quality.Judgment) *executorv1.QualityJudgment {
	if v == nil {
		return nil
	}
	j := &executorv1.QualityJudgment{
		Verdict: verdicts[v.Verdict], Reasons: v.Reasons, Lower: v.Lower, Upper: v.Upper, Difference: v.Difference,
		Blocks: uint64(v.Blocks), CountedBlocks: uint64(v.Counted), DaysNeeded: v.DaysNeeded, LeastDays: v.LeastDays,
	}
	if share, ok := coverage(&v.Total.Labels, v.Total.Lost); ok {
		j.Coverage = &share
	}
	return j
}

// coverage returns the matured share of the rows whose label is due. ok is false if none is due.
func coverage(l *quality.LabelCounts, lost uint64) (share float64, ok bool) {
	due := l[quality.Matured] + l[quality.NoLabel] + l[quality.Expired] + lost
	return float64(l[quality.Matured]) / float64(due), due > 0
}
