// Package faults puts everything between executor and ml-engine that can go wrong there, and looks whether the decision
// suffers.
//
// # What runs
//
// Both services as processes. Between them is a proxy ([Proxy]) that can be slow, narrow, deaf, or closed, and that can be
// made to lead elsewhere: to a server that is no gRPC server, or to one that passes calls on to ml-engine and lies about the
// answers. Processes are killed and frozen by signals. Two executors stand behind the proxy with the same flags but one:
// one gives every request a shadow, one gives none. What the first does worse than the second is the harm of the shadow.
//
// # How it is measured
//
// A fault is let loose in the first slice of load. Slices last a tenth of a second and are of the two executors in turn, with
// first, then without, then the other way round; within a round both get the same requests at the same times, from the same
// client. So what the machine does besides falls on both alike. Every answer is compared to the last bit with what the baseline
// computes in process, and the sum over the answers of both executors must be the same. The latencies of all slices of a side
// are taken together, and the ratio is of their p99; its interval comes from resampling blocks of slices (Künsch 1989), and a
// target counts as missed when the whole interval is beyond it. The rest of the decisions is asked for as fast as they are answered, with the
// fault still there. Then the fault ends, load goes on slowly, and the time is taken until the circuit breaker is closed and
// shadows are compared as before. Goroutines, memory and file descriptors are read before the fault and after the recovery.
//
// What the machine does besides is in the ratios too: the row without a fault shows how much that is.
//
// # Overload
//
// The executor has half of the CPUs for itself; the load and ml-engine have the others, so that the load takes nothing away from
// who answers it. On one CPU, and where processes cannot be held to CPUs, all share: the CPU time of each is in the table. An
// open loop grows until the goodput does not grow with it any more: that is saturation, and multiples of it are offered. The load comes
// from a client that costs a fraction of gRPC's, over eight connections, whatever is answered.
// Where the executor had less CPU time under overload than at its peak, others took it, and its goodput is not judged.
package faults
