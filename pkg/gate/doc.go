// Package gate turns measurements into verdicts. It is pure: counts and values in, a verdict and its reason out. It has
// no I/O, clock or randomness, so a verdict can be recomputed from the evidence at any time.
//
// Missing data never passes. A missing, NaN or infinite value is [Error]. Too few samples are [Inconclusive]. A rule
// without a measurement is [Error], and so is a scorecard without results. Only [Pass] advances.
package gate
