package status

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Engine is one ml-engine.
type Engine struct {
	Address string `json:"address"`
	// Error is why it could not be read, Hint what to do about it. The other fields are then empty.
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	// Model is the served model, Since when it was loaded.
	Model *evidence.Model `json:"model"`
	Since *time.Time      `json:"since"`
	Drift *Drift          `json:"drift"`
}

// Drift is the population stability index of what an engine has scored in the last 7 days.
type Drift struct {
	// Error is why it could not be read, Hint what to do about it.
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	// PSI is the overall index; null without one, and Reason is then why.
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
	// Baseline makes the decisions. Shadow answered last; null before the first answer.
	Baseline *evidence.Model `json:"baseline"`
	Shadow   *evidence.Model `json:"shadow"`
	// Requests are counted since Since, when it started.
	Requests uint64     `json:"requests"`
	Since    *time.Time `json:"since"`
	Quality  *Quality   `json:"quality"`
	Rollout  Rollout    `json:"rollout"`
}

// Quality is that of the shadow over the rolling window. Rates are in [0,1], and null if they are undefined.
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

// Rollout is the share of requests that get a shadow, and who has set it.
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
}

// engineOf returns what an ml-engine answered. The drift is not asked for here.
func engineOf(r *fleet.EngineReading) Engine {
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

// executorOf returns what an executor answered to a question at the given time.
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
	w, b := report.GetWindow(), report.GetBreaker()
	x.Quality = &Quality{Breaker: fleet.Breaker(b.GetState()), Blind: b.GetBlind(), MatchTolerance: fleet.Tolerance(report)}
	if v := report.GetDecisionThreshold(); v != 0 {
		x.Quality.DecisionThreshold = &v
	}
	if w == nil {
		return x
	}
	q := x.Quality
	q.WindowS, q.Comparisons, q.MatchRate, q.MatchLow, q.MatchHigh = w.GetLength().AsDuration().Seconds(), w.GetComparisons(), w.MatchRate, w.MatchRateLow, w.MatchRateHigh
	q.Coverage, q.ErrorRate = w.Coverage, w.ErrorRate
	if d := w.GetDecisions(); d != nil {
		q.DecisionAgreement, q.Kappa = d.Agreement, d.Kappa
	}
	if l := w.GetLatencyMs(); l.GetCount() > 0 {
		p95 := l.GetP95()
		q.P95MS = &p95
	}
	return x
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
	return out
}
