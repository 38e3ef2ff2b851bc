// Package bench measures what the system costs on this machine, as ratios to what gRPC alone costs here.
//
// # Ratios
//
// Every ratio compares two servers that answer messages of the same sizes to the same client code in the same run. The
// reference for ml-engine and executor is a bare grpc-go server that answers immediately ([Echo]), for the shadow an executor
// that samples nothing. Client and servers are separate processes that share the cores of this machine, so a ratio includes
// the client: a server that needs 10 % more CPU per call loses less than 10 % of the throughput. With a shadow, ml-engine uses
// some of the cores too.
//
// # How it is measured
//
// Closed loop: 1 or 16 calls are always in flight; the throughput is answers per second. Open loop: calls start at random
// times (Poisson) at a given rate, the same on both sides, whether or not earlier ones have been answered. Latency counts from
// the time when the call was due, so a stall delays all calls that were due meanwhile, not only the one that a closed loop
// would have sent ("coordinated omission").
//
// Streams: decisions over Decide are compared with the same unary echo, with an echo over streams, which is the limit of
// gRPC, and with a ping-pong of messages of the same sizes over a Unix socket, which is the limit of the machine. The client
// of a full stream keeps 64 decisions unanswered.
//
// Flood: an open loop over 8 full streams at multiples of their saturation. Like a trader, the client does not send a decision
// that was due more than 100 ms ago, and sends the newest first. Goodput counts the decisions that are answered correctly
// within 100 ms of their due time.
//
// Group: an executor in a group of three NATS servers, which run in the client, with a controller, is compared with one
// outside any group at 1,000 decisions per second, by the CPU time of each per decision.
//
// Failures: while ml-engine hangs, dies, or is replaced by a garbage server, the decisions of an executor with a shadow are
// compared with those of one without. All processes are just started.
//
// Sides alternate in slices of 0.1 or 0.2 s (0.5 s with one call in flight), A B and then B A, so that other load on the
// machine affects both. The slices of a round give one ratio. A row has the median, minimum and maximum of the rounds. A ratio
// of percentiles is taken within one round. Every answer is checked bit for bit.
//
// A missed target is a result: it is printed as missed. Only a run that could not be completed is an error.
package bench
