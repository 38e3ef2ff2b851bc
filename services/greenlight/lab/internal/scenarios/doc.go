// Package scenarios proves what a canary does when something goes wrong: real services and a real controller, each a
// process, a load beside them, and a fault at a chosen moment.
//
// Whatever goes wrong, no answer of the executor may be another than the baseline's, the executor must be at 0 % in the
// end, and the evidence must verify. A scenario passes when that holds and the canary did what was expected of it.
package scenarios
