// Package shadow scores requests with the model under trial and never delays the baseline's answer.
//
// A handler scores the baseline and asks a [Sampler] whether the request gets a shadow. If so, it hands the request to the
// [Dispatcher], which sends queued rows in batches over a few call slots. Package link sends the batches over streams to the
// addresses of ml-engine. A [Breaker] stops the calls while ml-engine is unhealthy. Every request ends in exactly one
// [Outcome], counted by the [Recorder].
//
// The 60 ms are enforced in deadline.go.
package shadow
