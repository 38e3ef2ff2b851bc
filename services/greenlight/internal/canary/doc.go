// Package canary puts a model under trial beside the production heuristic for a growing share of the requests, phase by
// phase, and takes it away again when it does not do well.
//
// A canary is observe-only: whatever happens, the decision that leaves an executor is the baseline's. What is at stake is
// load, and the worth of the evidence.
//
// # A run
//
//	plan       what is there now: executors, baseline, model, drift, offline evidence, policy; a phrase to confirm it by
//	preflight  whether the pair is fit to be judged
//	start      the phrase is given back, once, and nothing has changed meanwhile
//	phases     a share each, until its time is over, it has enough comparisons, and its verdict is PASS
//	end        0 %, read back from every executor
//
// An abort rule that holds ends the run at once. A verdict that is not PASS when the time is over holds the phase, at most
// for the policy's hold limit; then the run is stopped.
//
// # What can go wrong
//
// Every share is set under a lease, which the [Controller] renews three times as often as it must. All it does is one
// loop, so that a controller which hangs, wherever it hangs, renews nothing, and the executors go back to 0 % by
// themselves. Every call has a timeout far below the lease. Every change names the revision that it is based on, so that
// a call which was given up and arrives late changes nothing.
//
// Answers are validated as a whole before they are judged, by package answer, and answers of Prometheus are bounded. What
// contradicts itself, or lacks what it must have, is an error of its source: the verdict is ERROR, the phase is held, and
// then the run is stopped. One process under two names is refused, since it would count twice.
//
// A panic anywhere in the controller aborts the run: every executor that a change may have reached is set to 0 %, and the
// record and the journal give the reason.
//
// An executor that restarts, or whose lease has lapsed while it was cut off, makes the phase begin anew: fresh counts and
// the whole duration. Somebody else's change of a rollout, and another model or baseline than the one that was confirmed,
// abort the run.
//
// # Counts
//
// Counts of a phase are the differences of two reports of the same process. The first is taken [settle] after the last
// executor has confirmed the share: shadows live for at most 60 ms, so that those of the share before have ended by then
// and are in neither. A request that is under way at the last look is counted in requests and in no outcome; but for a few
// of those, requests are as many as outcomes.
//
// Coverage is comparisons / sampled shadows. It keeps a phase from passing on the shadows that were seen while an open
// breaker or a full queue hides the others.
package canary
