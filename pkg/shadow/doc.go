// Package shadow runs the model under trial beside the baseline without ever getting in its way.
//
// A handler scores the baseline, decides with a [Sampler] whether the request gets a shadow, and hands it to the
// [Dispatcher], which sends whatever is queued as one batch whenever one of its few call slots is free. A [Breaker]
// stops the calls when ml-engine is ill. Every request ends in exactly one [Outcome], counted by the [Recorder].
package shadow
