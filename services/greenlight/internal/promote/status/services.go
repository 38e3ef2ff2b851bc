package status

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
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
	Coverage    *float64 `json:"coverage"`
	ErrorRate   *float64 `json:"error_rate"`
	P95MS       *float64 `json:"p95_ms"`
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

func readEngine(ctx context.Context, e fleet.Engine) Engine {
	info, err := e.Scoring.GetModelInfo(ctx, &mlenginev1.GetModelInfoRequest{})
	if err != nil {
		return Engine{Address: e.Addr, Error: fleet.Plain(err).Error(), Hint: fleet.Hint(err)}
	}
	since := info.GetLoadTime().AsTime()
	return Engine{
		Address: e.Addr, Model: &evidence.Model{Version: info.GetVersion(), Digest: info.GetDigest()}, Since: &since,
		Drift: readDrift(ctx, e),
	}
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

func readExecutor(ctx context.Context, e fleet.Executor) Executor {
	x := Executor{Address: e.Addr, Rollout: readRollout(ctx, e)}
	r, err := e.Shadows.GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
	if err != nil {
		x.Error, x.Hint = fleet.Plain(err).Error(), fleet.Hint(err)
		return x
	}
	since := r.GetStartTime().AsTime()
	x.Requests, x.Since = r.GetRequestsTotal(), &since
	x.Baseline = &evidence.Model{Version: r.GetBaselineVersion(), Digest: r.GetBaselineDigest()}
	if r.GetShadowDigest() != "" {
		x.Shadow = &evidence.Model{Version: r.GetShadowVersion(), Digest: r.GetShadowDigest()}
	}
	w := r.GetWindow()
	x.Quality = &Quality{
		WindowS: w.GetLength().AsDuration().Seconds(), Comparisons: w.GetComparisons(), MatchRate: w.MatchRate, MatchLow: w.MatchRateLow,
		MatchHigh: w.MatchRateHigh, Coverage: w.Coverage, ErrorRate: w.ErrorRate,
		Breaker: strings.TrimPrefix(r.GetBreaker().GetState().String(), "BREAKER_STATE_"), Blind: r.GetBreaker().GetBlind(),
	}
	if l := w.GetLatencyMs(); l.GetCount() > 0 {
		p95 := l.GetP95()
		x.Quality.P95MS = &p95
	}
	return x
}

func readRollout(ctx context.Context, e fleet.Executor) Rollout {
	asked := time.Now()
	answer, err := e.Rollouts.GetRollout(ctx, &executorv1.GetRolloutRequest{})
	if err != nil {
		return Rollout{Error: fleet.Plain(err).Error(), Hint: fleet.Hint(err)}
	}
	r := answer.GetRollout()
	out := Rollout{
		Percent: r.GetPercent(), Mode: fleet.Mode(r.GetMode()), Holder: r.GetHolder(), SetBy: r.GetSetBy(), SetFrom: r.GetSetFrom(), Reason: r.GetReason(),
	}
	if t := r.GetSetTime(); t != nil {
		set := t.AsTime()
		out.SetTime = &set
	}
	if t := r.GetLeaseExpireTime(); t != nil {
		left := t.AsTime().Sub(asked).Seconds()
		out.LeaseLeftS = &left
	}
	return out
}
