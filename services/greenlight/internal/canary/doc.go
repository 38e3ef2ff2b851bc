// Package canary shadows a model for a growing share of the production requests, phase by phase. It stops the shadows when
// the model does not meet the policy.
//
// A canary is observe-only: the baseline always makes the decisions of an executor. A canary may cause load and invalid
// evidence, but it cannot change a decision.
//
// # A run
//
//	plan       records executors, baseline, model, drift, offline evidence and policy; prints a phrase to confirm them
//	preflight  checks that the services can be judged
//	start      accepts the phrase once, and refuses if anything has changed since the plan
//	phases     each lasts until its time is up, it has enough comparisons, and its verdict is PASS
//	end        sets 0 %, and reads it back from every executor
//
// An abort rule that applies ends the run immediately. If the verdict is not PASS when the time of a phase is up, the phase is
// held for at most the policy's hold limit. Then the run is stopped.
//
// # Failures
//
// Every share is set under a lease, which the [Controller] renews three times before it would lapse. The controller is a
// single loop: if it hangs anywhere, it renews nothing, and the executors return to 0 % by themselves. Every call has a
// timeout far below the lease. Every change names the revision that it is based on, so a call that timed out and arrives late
// changes nothing.
//
// Package fleet validates answers before they are judged, and limits the size of Prometheus answers. An answer that
// contradicts itself, or lacks a required field, is an error of its source. The verdict is then ERROR, the phase is held, and
// the run is stopped at the hold limit. A process that appears under two names is refused, because it would count twice.
//
// A panic anywhere in the controller aborts the run. Every executor that a change may have reached is set to 0 %. The record
// and the journal give the reason.
//
// If an executor restarts, or its lease lapses while it cannot be reached, the phase is retried with new counts and for its
// whole duration. The run is aborted if somebody else changes a rollout, or if the model or the baseline is not the confirmed
// one.
//
// # Counts
//
// The counts of a phase are a [fleet.Delta] of two readings of the same processes. The first is taken [settle] after the last
// executor has confirmed the share. A shadow takes at most 60 ms, so all shadows of the previous share have ended by then. A
// request in flight at the last poll is counted as a request without an outcome. Otherwise there is one outcome per request.
//
// Coverage is comparisons / sampled shadows. Without it a phase could pass on a few shadows while an open breaker or a full
// queue hides the rest.
package canary
