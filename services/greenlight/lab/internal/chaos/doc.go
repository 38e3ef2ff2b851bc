// Package chaos lets the pair run for a while under mixed load, with everything that happens in operation and everything that
// should not: faults between the services, swaps of the model, canaries that begin and end, executors that are drained and
// started again. What happens when is a function of a seed.
//
// Two executors stand behind the faulty proxy. The steady one runs throughout, so that what leaks in it can be seen; the other
// is drained and started again from its state folder. Every answer is checked to the last bit: decisions against the
// baseline, shadow scores against the model whose digest they carry, decisions on quotes against features that are computed
// here of the same quotes. At the end every request of every life of an executor must have had one outcome.
package chaos
