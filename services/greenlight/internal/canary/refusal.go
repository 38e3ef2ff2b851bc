package canary

import (
	"errors"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
)

// Kinds of errors that callers check for.
var (
	ErrHeld       = errors.New("somebody else holds the rollout")
	ErrRunning    = errors.New("this run already has a controller")
	ErrPSIChanged = errors.New("the drift is not the confirmed one")
)

// The kinds of errors for which a canary is not planned, started or resumed. Each has a hint: see [Hint].
var (
	errNotActive       = errors.New("the model that was judged offline is not active")
	errNoMetrics       = errors.New("no counts to judge by")
	errPlanChanged     = errors.New("the plan was changed after it was confirmed")
	errModelChanged    = errors.New("the active model is not the confirmed one")
	errBaselineChanged = errors.New("the baseline is not the confirmed one")
	errComparison      = errors.New("an executor does not compare as the policy requires")
	errNoLabel         = errors.New("no label to judge the quality by")
	errEvidenceChanged = errors.New("the offline evidence is not the confirmed one")
	errPhraseChanged   = errors.New("the phrase of the plan has changed")
	errFleetAway       = errors.New("executors of the group are missing")
	errNotResumable    = errors.New("this run cannot be resumed")
	errNoRun           = errors.New("there is no such run")
	planAgain          = "nothing was changed; review the new state with greenlight canary plan, and confirm its phrase"
	hints              = map[error]string{
		errNotActive:             "nothing was changed; activate it on every ml-engine, or evaluate the served model: greenlight train, greenlight eval",
		errNoMetrics:             "nothing was changed; check that Prometheus is up and scrapes every executor, and that --match selects only their series; canary plan takes a user and a password from --prometheus-basic-file, and a token from --prometheus-token-file",
		errPlanChanged:           planAgain,
		errModelChanged:          planAgain + "; or activate the model again",
		errBaselineChanged:       planAgain + "; or start the executors with the former baseline",
		errComparison:            "nothing was changed; the counts would not answer the question that was confirmed",
		errNoLabel:               "the model needs a label with a horizon: greenlight model import --horizon sets one; without --quality-cap and --quality-margin there is no verdict on quality",
		errEvidenceChanged:       planAgain,
		ErrPSIChanged:            planAgain,
		errPhraseChanged:         planAgain,
		confirmation.ErrForm:     "repeat the whole line that greenlight canary plan printed, in quotes",
		confirmation.ErrUnknown:  "--state must name the folder in which it was planned",
		confirmation.ErrMismatch: "repeat the line exactly as greenlight canary plan printed it",
		confirmation.ErrUsed:     "a phrase works once: print a new one with greenlight canary plan",
		confirmation.ErrExpired:  "print a new one with greenlight canary plan; --expires sets how long it is valid",
		errFleetAway:             "nothing was changed; greenlight fleet ls shows which executors report, and their troubles",
		errNotResumable:          "start a new one with greenlight canary plan",
		errNoRun:                 "--state names the folder of the runs; greenlight canary plan and greenlight canary start create a run",
		ErrHeld:                  "nothing was changed; wait until it has ended, or end it with greenlight canary abort",
		ErrRunning:               "greenlight canary status shows it, greenlight canary abort ends it",
	}
)

// Hint returns what to do about an error; empty if there is no advice.
func Hint(err error) string {
	for kind, hint := range hints {
		if errors.Is(err, kind) {
			return hint
		}
	}
	return preflight.Hint(err)
}
