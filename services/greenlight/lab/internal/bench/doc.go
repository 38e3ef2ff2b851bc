// Package bench measures what the system costs on this machine, as ratios to what gRPC alone costs here.
//
// # What a ratio is of
//
// Every ratio compares two servers that answer messages of the same sizes to the same client code in the same run: for
// ml-engine and executor a bare grpc-go server that answers at once ([Echo]), for the shadow an executor that samples
// nothing. Client and servers are processes of their own and share the cores of this machine. A ratio is therefore of
// the whole machine, client included: on two cores a server that takes a tenth more of them per call costs less than a
// tenth of the throughput, since the client's share stays. The same holds for the shadow, where ml-engine takes its part
// of the cores as well.
//
// # How it is measured
//
// Closed loop: 1 or 16 calls are always under way; the throughput is answers by time. Open loop: calls begin at random
// times (Poisson) of a given rate, the same times on both sides, whether or not earlier ones have been answered, and
// latency counts from the instant at which the call was due. A server that stalls is so charged with all who wait, not
// only with the one call that a closed loop would have sent ("coordinated omission").
//
// Streams: decisions over Decide are compared with the same unary echo, and with a ping-pong of the same sizes over a Unix
// socket, which is the limit of the machine. The client of a full stream keeps 64 decisions unanswered.
//
// Flood: an open loop over 8 full streams at multiples of what they can have. Like a trader, the client does not send a decision
// that was due more than 100 ms ago, and sends the newest first. Goodput is the decisions answered right within 100 ms of the
// time at which they were due.
//
// Sides are measured in turn, in slices of a tenth of a second or two (half a second with one call under way), A B and
// then B A, so that what else the machine does hits both; the slices of a round add up to one ratio, and a row is the
// median of the rounds with the smallest and the largest. A percentile of a ratio is the ratio of the percentiles of one
// round. Every answer is checked to be the right one, to the last bit.
//
// A missed target is a result: it is printed as missed. Only a run that could not be completed is an error.
package bench
