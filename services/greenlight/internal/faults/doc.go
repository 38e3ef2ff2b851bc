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
// A fault is let loose with the first segment of load. Segments are short, of the two executors in turn, A B A B in one
// round and B A B A in the next; within a round both get the same requests at the same times, from the same client. Every
// answer is compared to the last bit with what the baseline computes in process, and the sum over the answers of both
// executors must be the same. The p99 is a ratio per round, and of these the median. The rest of the decisions is asked for as fast as
// they are answered, with the fault still there. Then the fault ends, load goes on
// slowly, and the time is taken until the circuit breaker is closed and shadows are compared as before. Goroutines, memory
// and file descriptors are read before the fault and after the recovery.
//
// What the machine does besides is in the ratios too: the row without a fault shows how much that is.
package faults
