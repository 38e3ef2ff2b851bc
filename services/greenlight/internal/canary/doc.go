// Package canary shadows a model for a growing share of the production requests, phase by phase. It stops the shadows when
// the model does not meet the policy.
//
// A canary is observe-only: the baseline always makes the decisions of an executor. A canary can cost load and invalid
// evidence, but never a decision.
//
// # A run
//
//	plan       records executors, baseline, model, drift, offline evidence and policy; prints a phrase to confirm them
//	preflight  checks that the services can be judged
//	start      takes the phrase once, and refuses if anything has changed since the plan
//	phases     each lasts until its time is over, it has enough comparisons, and its verdict is PASS
//	end        sets 0 %, and reads it back from every executor
//
// An abort rule that applies ends the run at once. If the verdict is not PASS at the end of its time, the phase is held, at
// most for the policy's hold limit. Then the run is stopped.
//
// # Failures
//
// Every share is set under a lease, which the [Controller] renews three times within its length. The controller is a single
// loop: if it hangs anywhere, it renews nothing, and the executors return to 0 % by themselves. Every call has a timeout far
// below the lease. Every change names the revision that it is based on: a call that timed out and arrives late changes
// nothing.
//
// Package fleet validates answers before they are judged, and bounds answers of Prometheus. An answer that contradicts
// itself, or lacks a required field, is an error of its source. The verdict is then ERROR, the phase is held, and the run is
// stopped at the hold limit. One process under two names is refused: it would count twice.
//
// A panic anywhere in the controller aborts the run. Every executor that a change may have reached is set to 0 %. The record
// and the journal give the reason.
//
// If an executor restarts, or its lease lapses while it cannot be reached, the phase is retried: new counts and the whole
// duration. The run is aborted if somebody else changes a rollout, or if the model or the baseline is not the confirmed
// one.
//
// # Counts
//
// The counts of a phase are a [fleet.Delta] of two readings of the same processes. The first is taken [settle] after the last
// executor has confirmed the share. Shadows live for at most 60 ms: those of the previous share have ended by then. A request
// in flight at the last poll is counted as a request without an outcome. Apart from those, requests equal outcomes.
//
// Coverage is comparisons / sampled shadows. Without it a phase could pass on a few shadows while an open breaker or a full
// queue hides the rest.
package canary
