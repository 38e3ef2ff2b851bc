// Package faults injects faults between executor and ml-engine, and measures whether decisions suffer.
//
// # What runs
//
// Both services run as processes. A proxy ([netfault.Proxy]) between them delays, throttles, drops or refuses connections, and
// can lead to a server that does not speak gRPC, or to a relay that changes ml-engine's answers. Signals kill and freeze
// processes. Two executors are behind the proxy. They differ in one flag: one gives every request a shadow, the other gives
// none. The difference between them is the cost of the shadow.
// # How it is measured
//
// A fault starts in the first slice of load. Slices last a tenth of a second and alternate between the two executors: with,
// without, then without, with. In a round both get the same requests at the same times from the same client, so other load on
// the machine affects both alike. About half of the decisions are requested by calls, the others over 16 Decide streams. Every
// answer is compared bit for bit with the baseline, recomputed in process, and both executors must give the same answers. A
// decision is lost if it ends with an error, or has no answer within 20 s; the executor may have counted it. An answer after 2
// s is late: on a busy machine both executors have late answers.
//
// The ratio compares the p99 over all slices of each side. Its interval is a bootstrap of blocks of slices (Künsch 1989). The
// target is missed if the whole interval is beyond it. The remaining decisions are requested as fast as they are answered,
// while the fault lasts. Then the fault ends, a slow load continues, and the time is measured until the breaker is closed and
// shadows are compared as before. Goroutines, memory and file descriptors are read before the fault and after the recovery.
// The row without a fault shows the noise of the machine.
//
// A fault begins while the breaker is closed. Faults that change ml-engine's answers begin on open connections. On a busy
// machine, late shadows may open the breaker before an answer is changed: then the row is inconclusive.
//
// # Overload
//
// The executor has half of the CPUs. The load and ml-engine share the other half. With one CPU, and on systems that cannot pin
// processes, all share; the table has the CPU time of each. An open loop grows until the goodput no longer grows: that is
// saturation. Then multiples of it are offered, over eight connections, by a client that costs a fraction of gRPC's. If the
// executor had less CPU time under overload than at its peak, its goodput is not judged.
package faults
