package status

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Engine is one ml-engine.
type Engine struct {
	Address string `json:"address"`
	// Error is why it could not be read, Hint what to do about it. The other fields are then empty.
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	// ModelServer is the name and the version of a model server of the Open Inference Protocol; empty for an ml-engine. Model and
	// Since are then null.
	ModelServer string `json:"model_server,omitempty"`
	// Model is the served model, Since when it was loaded.
	Model *evidence.Model `json:"model"`
	Since *time.Time      `json:"since"`
	Drift *Drift          `json:"drift"`
}

// Drift is the population stability index over the rows that an engine scored in the last 7 days.
type Drift struct {
	// Error is why it could not be read, Hint what to do about it.
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	// PSI is the overall index; null without one. Reason then explains why.
	PSI     *float64 `json:"psi"`
	Q99     *float64 `json:"null_q99"`
	Verdict string   `json:"verdict"`
	Reason  string   `json:"reason"`
	Rows    uint64   `json:"rows"`
	Days    uint32   `json:"days"`
	// Worst is the feature of the model with the largest index; empty without one.
	Worst    string  `json:"worst"`
	WorstPSI float64 `json:"worst_psi"`
}

// Executor is one executor.
type Executor struct {
	Address string `json:"address"`
	// Error is why it could not be read, Hint what to do about it. All fields but Rollout are then empty.
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	// Baseline makes the decisions. Shadow is the last model to answer; null before the first answer.
	Baseline *evidence.Model `json:"baseline"`
	Shadow   *evidence.Model `json:"shadow"`
	// Requests are counted since Since, when it started.
	Requests uint64     `json:"requests"`
	Since    *time.Time `json:"since"`
	Quality  *Quality   `json:"quality"`
	Rollout  Rollout    `json:"rollout"`
	// Challengers are the other models that get the sampled requests.
	Challengers []Challenger `json:"challengers,omitempty"`
}

// Challenger is a model that gets the sampled requests in addition to the model under trial.
type Challenger struct {
	Name string `json:"name"`
	// Model is the last model to answer; null before the first answer.
	Model   *evidence.Model `json:"model"`
	Quality *Quality        `json:"quality"`
	// Noise describes the differences between two answers of one model; nil unless the challenger has the model under trial.
	Noise *Noise `json:"noise_floor"`
}

// Noise is the noise floor of an A/A test over the rolling window. Rates are in [0,1], and null without comparisons.
type Noise struct {
	Comparisons  uint64   `json:"comparisons"`
	MismatchRate *float64 `json:"mismatch_rate"`
	MismatchLow  *float64 `json:"mismatch_rate_low"`
	MismatchHigh *float64 `json:"mismatch_rate_high"`
}

// Quality is the shadow's quality over the rolling window. Rates are in [0,1], and null if they are undefined.
type Quality struct {
	WindowS     float64  `json:"window_s"`
	Comparisons uint64   `json:"comparisons"`
	MatchRate   *float64 `json:"match_rate"`
	MatchLow    *float64 `json:"match_rate_low"`
	MatchHigh   *float64 `json:"match_rate_high"`
	// MatchTolerance is the largest difference of a match. DecisionThreshold is null without one; DecisionAgreement is the
	// share of comparisons with both scores on one side of it, and Kappa is Cohen's.
	MatchTolerance    float64  `json:"match_tolerance"`
	DecisionThreshold *float64 `json:"decision_threshold"`
	DecisionAgreement *float64 `json:"decision_agreement"`
	Kappa             *float64 `json:"kappa"`
	Coverage          *float64 `json:"coverage"`
	ErrorRate         *float64 `json:"error_rate"`
	P95MS             *float64 `json:"p95_ms"`
	// Breaker is "CLOSED", "HALF_OPEN" or "OPEN". Blind reports whether it has too few requests to judge.
	Breaker string `json:"breaker"`
	Blind   bool   `json:"blind"`
}

// Rollout is the share of requests that get a shadow, and who set it.
type Rollout struct {
	// Error is why it could not be read, Hint what to do about it. The other fields are then empty.
	Error   string  `json:"error"`
	Hint    string  `json:"hint,omitempty"`
	Percent float64 `json:"percent"`
	Mode    string  `json:"mode"`
	// Holder has the lease, which lasts for another LeaseLeftS seconds; empty and null without one.
	Holder     string     `json:"holder"`
	LeaseLeftS *float64   `json:"lease_left_s"`
	SetBy      string     `json:"set_by"`
	SetFrom    string     `json:"set_from"`
	SetTime    *time.Time `json:"set_time"`
	Reason     string     `json:"reason"`
	// Gate shows who decides; null unless a gate or one of its latches is set.
	Gate *Gate `json:"gate,omitempty"`
}

// Gate is an executor's gate, behind which a model decides Percent of the requests.
type Gate struct {
	// Open reports whether the model may decide now. Latches keep it shut until a person clears them.
	Open    bool     `json:"open"`
	Latches []string `json:"latches"`
	// Decisions counts who decided since the executor started.
	Decisions fleet.Decisions `json:"decisions"`
	// HourChanged of HourRequests were changed by the model; it may change HourLimit.
	HourRequests uint64 `json:"hour_requests"`
	HourChanged  uint64 `json:"hour_changed"`
	HourLimit    uint64 `json:"hour_limit"`
}

// engineOf returns an ml-engine's answer, without the drift.
func engineOf(r *fleet.EngineReading) Engine {
	var server *fleet.ModelServerError
	if errors.As(r.Err, &server) {
		return Engine{Address: r.Addr, ModelServer: server.Server, Drift: &Drift{Reason: oip.NoDrift}}
	}
	if r.Raw == nil {
		return Engine{Address: r.Addr, Error: fleet.Plain(r.Err).Error(), Hint: fleet.Hint(r.Err)}
	}
	since := r.Raw.GetLoadTime().AsTime()
	return Engine{Address: r.Addr, Model: &evidence.Model{Version: r.Raw.GetVersion(), Digest: r.Raw.GetDigest()}, Since: &since}
}

func readDrift(ctx context.Context, e fleet.Engine) *Drift {
	answer, err := e.Drift.GetDrift(ctx, &mlenginev1.GetDriftRequest{})
	switch {
	case status.Code(err) == codes.FailedPrecondition: // an answer: the model has no drift profile
		return &Drift{Reason: status.Convert(err).Message()}
	case err != nil:
		return &Drift{Error: fleet.Plain(err).Error(), Hint: fleet.Hint(err)}
	}
	d := &Drift{Rows: answer.GetRows(), Days: answer.GetDays()}
	if o := answer.GetOverall(); o == nil {
		d.Reason = "nothing was scored"
	} else {
		psi := o.GetPsi()
		d.PSI, d.Q99, d.Reason = &psi, o.NullQ99, o.GetReason()
		d.Verdict = strings.TrimPrefix(o.GetVerdict().String(), "DRIFT_VERDICT_")
	}
	for _, f := range answer.GetFeatures() {
		if f.GetRole() == "feature" && f.GetReading() != nil && f.GetReading().GetPsi() >= d.WorstPSI {
			d.Worst, d.WorstPSI = f.GetFeature(), f.GetReading().GetPsi()
		}
	}
	return d
}

// executorOf returns an executor's answer at the given time.
func executorOf(r *fleet.ExecutorReading, asked time.Time) Executor {
	x := Executor{Address: r.Addr, Rollout: rolloutOf(r, asked)}
	report := r.Raw.Report
	if report == nil {
		x.Error, x.Hint = fleet.Plain(r.ReportErr).Error(), fleet.Hint(r.ReportErr)
		return x
	}
	since := report.GetStartTime().AsTime()
	x.Requests, x.Since = report.GetRequestsTotal(), &since
	x.Baseline = &evidence.Model{Version: report.GetBaselineVersion(), Digest: report.GetBaselineDigest()}
	if report.GetShadowDigest() != "" {
		x.Shadow = &evidence.Model{Version: report.GetShadowVersion(), Digest: report.GetShadowDigest()}
	}
	x.Quality = qualityOf(report, report.GetWindow(), report.GetBreaker())
	for _, c := range report.GetChallengers() {
		x.Challengers = append(x.Challengers, challengerOf(report, c))
	}
	return x
}

// challengerOf returns a challenger of the report.
func challengerOf(report *executorv1.GetShadowReportResponse, c *executorv1.Challenger) Challenger {
	x := Challenger{Name: text.Clean(c.GetName(), maxName), Quality: qualityOf(report, c.GetWindow(), c.GetBreaker())}
	if c.GetModelVersion() != "" {
		x.Model = &evidence.Model{Version: text.Clean(c.GetModelVersion(), maxName), Digest: text.Clean(c.GetModelDigest(), maxName)}
	}
	if f := c.GetNoiseFloor(); f != nil {
		x.Noise = &Noise{Comparisons: f.GetComparisons(), MismatchRate: f.MismatchRate, MismatchLow: f.MismatchRateLow, MismatchHigh: f.MismatchRateHigh}
	}
	return x
}

// maxName bounds the name, the version and the digest of a challenger, in bytes.
const maxName = 64

// qualityOf returns the shadow's quality in a window of the report.
func qualityOf(report *executorv1.GetShadowReportResponse, w *executorv1.ShadowWindow, b *executorv1.BreakerStatus) *Quality {
	q := &Quality{Breaker: fleet.Breaker(b.GetState()), Blind: b.GetBlind(), MatchTolerance: fleet.Tolerance(report)}
	if v := report.GetDecisionThreshold(); v != 0 {
		q.DecisionThreshold = &v
	}
	if w == nil {
		return q
	}
	q.WindowS, q.Comparisons, q.MatchRate, q.MatchLow, q.MatchHigh = w.GetLength().AsDuration().Seconds(), w.GetComparisons(), w.MatchRate, w.MatchRateLow, w.MatchRateHigh
	q.Coverage, q.ErrorRate = w.Coverage, w.ErrorRate
	if d := w.GetDecisions(); d != nil {
		q.DecisionAgreement, q.Kappa = d.Agreement, d.Kappa
	}
	if l := w.GetLatencyMs(); l.GetCount() > 0 {
		p95 := l.GetP95()
		q.P95MS = &p95
	}
	return q
}

func rolloutOf(r *fleet.ExecutorReading, asked time.Time) Rollout {
	if r.Raw.Rollout == nil {
		return Rollout{Error: fleet.Plain(r.RolloutErr).Error(), Hint: fleet.Hint(r.RolloutErr)}
	}
	now := r.Raw.Rollout.GetRollout()
	out := Rollout{
		Percent: now.GetPercent(), Mode: fleet.Mode(now.GetMode()), Holder: now.GetHolder(), SetBy: now.GetSetBy(), SetFrom: now.GetSetFrom(), Reason: now.GetReason(),
	}
	if t := now.GetSetTime(); t != nil {
		set := t.AsTime()
		out.SetTime = &set
	}
	if t := now.GetLeaseExpireTime(); t != nil {
		left := t.AsTime().Sub(asked).Seconds()
		out.LeaseLeftS = &left
	}
	if g := r.Raw.Rollout.GetGate(); now.GetGate() != nil || len(g.GetLatches()) > 0 {
		out.Gate = gateOf(g)
	}
	return out
}

func gateOf(g *executorv1.GateStatus) *Gate {
	out := &Gate{
		Open: g.GetOpen(), Latches: []string{}, Decisions: fleet.DecisionsOf(g),
		HourRequests: g.GetHourRequests(), HourChanged: g.GetHourChanged(), HourLimit: g.GetHourChangedLimit(),
	}
	for _, l := range g.GetLatches() {
		out.Latches = append(out.Latches, fmt.Sprintf("%s by %s at %s: %s", fleet.Latch(l.GetLatch()), text.Clean(l.GetSetBy(), maxBy),
			l.GetSetTime().AsTime().Format("2006-01-02T15:04:05Z"), text.Clean(l.GetReason(), maxReason)))
	}
	return out
}

// maxBy and maxReason bound who set a latch and why, in bytes.
const maxBy, maxReason = 200, 512
