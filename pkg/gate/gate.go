// Package gate turns measurements into verdicts. It is pure: counts and values in, a verdict and its reason out; no I/O,
// no clock, no randomness, so that a verdict can be computed again from the evidence at any later time.
//
// The law it keeps: no data is never a pass. A value that is missing, NaN or infinite is [Error]; too few samples are
// [Inconclusive]; a rule for which nobody measured anything is [Error], and so is a scorecard without results. Only
// [Pass] advances.
package gate
