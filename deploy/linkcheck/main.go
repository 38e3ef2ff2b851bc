// Command linkcheck is what a trading executor does with the generated client: it asks the sidecar for a decision by a
// call, over a stream, and by a call that waits for the shadow.
//
//	linkcheck --addr 127.0.0.1:4020
//
// It is a separate module outside the workspace, like the programs that link the client. Its test proves that linking the
// contract brings gRPC and Protocol Buffers, and nothing else.
//
// Answers go to standard output. Exit codes: 0 answered, 1 failed, 2 wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("linkcheck", flag.ContinueOnError)
	fs.SetOutput(stderr)
	addr := fs.String("addr", "127.0.0.1:4020", "gRPC `address` of the executor")
	connect := fs.Duration("connect-timeout", 2*time.Second, "how long connecting may take, and the first call")

	// The baseline is a formula of four numbers: the sidecar on the same host answers well within a millisecond. Five
	// milliseconds leave room for a scheduling delay, and are short enough to send the order in time without an answer.
	decide := fs.Duration("timeout", 5*time.Millisecond, "how long Predict and Decide may take")

	// A shadow may take 60 ms from the arrival of its request, and the sidecar keeps 5 ms of the caller's deadline for
	// its reply. With less than 65 ms the shadow has less time, and ends as DEADLINE sooner; the baseline's score is
	// returned in any case.
	observe := fs.Duration("shadow-timeout", 70*time.Millisecond, "how long PredictWithShadow may take")

	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil || fs.NArg() > 0 {
		_, _ = fmt.Fprintln(stderr, "linkcheck: everything is a flag; linkcheck -h lists them")
		return 2
	}
	if err := ask(ctx, stdout, *addr, *connect, *decide, *observe); err != nil {
		_, _ = fmt.Fprintf(stderr, "linkcheck: %v\n", err)
		return 1
	}
	return 0
}

func ask(ctx context.Context, stdout io.Writer, addr string, connect, decide, observe time.Duration) error {
	// The sidecar listens on loopback, so there is no TLS. By default gRPC closes idle connections after 30 minutes, and the
	// first decision after a quiet market would wait for a handshake: zero turns this off. By default the flow-control
	// windows grow with the measured bandwidth; those of the sidecar are fixed, and these should be too.
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithIdleTimeout(0),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window))
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	defer func() { _ = conn.Close() }()

	// By default a client connects with its first call. Connect before trading starts, so that no decision waits.
	if err := waitReady(ctx, conn, connect); err != nil {
		return fmt.Errorf("connect to %s: %w", addr, err)
	}
	client := executorv1.NewDecisionServiceClient(conn)

	// A quiet market of schema v1.8.1, packed in the schema's order: bias, mid_logret_1m_rel, mid_logret_5m_rel,
	// spread_bp_rel, vol1m_log_rel, rsi14_z, zscore_mid_24h. Bias is always 1.
	state := &executorv1.FeatureVector{Schema: "v1.8.1", Values: []float64{1, 0.2, -0.1, 0.05, -0.3, 0.4, 0.8}}
	instant := timestamppb.New(time.Now().Truncate(time.Minute))

	// The first call of a process sets up codecs and buffers on both sides and costs milliseconds; the second does not.
	// Make it before trading starts, without the trader's deadline. It counts as a request like any other.
	if _, err := predict(ctx, client, connect, &executorv1.PredictRequest{RequestId: "linkcheck-0", Vector: state}); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}

	// The decision. Its shadow, if the request is sampled, runs after the answer and can neither delay nor change it.
	decision, err := predict(ctx, client, decide, &executorv1.PredictRequest{
		RequestId: "linkcheck-1", Symbol: "BTC-PERP", EventTime: instant, Vector: state,
	})
	if err != nil {
		return fmt.Errorf("predict: %w", err)
	}
	_, _ = fmt.Fprintf(stdout, "Predict            %s: score %.6f by %s (sampled for a shadow: %t)\n",
		decision.GetRequestId(), decision.GetScore(), decision.GetModelVersion(), decision.GetShadowSampled())

	// The same over a stream, for programs that decide often, at a fraction of the cost of a call. The deadline is part of the
	// message. The first message of a stream is a warm-up too.
	stream, err := newDecider(ctx, client)
	if err != nil {
		return fmt.Errorf("open a stream: %w", err)
	}
	defer stream.close()
	if _, err := overStream(ctx, stream, connect, &executorv1.PredictRequest{RequestId: "linkcheck-2", Vector: state}); err != nil {
		return fmt.Errorf("warm up the stream: %w", err)
	}
	decision, err = overStream(ctx, stream, decide, &executorv1.PredictRequest{
		RequestId: "linkcheck-3", Symbol: "BTC-PERP", EventTime: instant, Vector: state,
	})
	if err != nil {
		return fmt.Errorf("decide: %w", err)
	}
	_, _ = fmt.Fprintf(stdout, "Decide             %s: score %.6f by %s (sampled for a shadow: %t)\n",
		decision.GetRequestId(), decision.GetScore(), decision.GetModelVersion(), decision.GetShadowSampled())

	// The same with the shadow in the answer: for inspection, not for trading. A failed shadow is an outcome, not an error.
	both, err := predictWithShadow(ctx, client, observe, &executorv1.PredictWithShadowRequest{
		RequestId: "linkcheck-4", Symbol: "BTC-PERP", EventTime: instant, Vector: state,
	})
	if err != nil {
		return fmt.Errorf("predict with shadow: %w", err)
	}
	outcome := strings.ToLower(strings.TrimPrefix(both.GetOutcome().String(), "SHADOW_OUTCOME_"))
	_, _ = fmt.Fprintf(stdout, "PredictWithShadow  %s: baseline %.6f by %s, shadow %s",
		both.GetRequestId(), both.GetBaseline().GetScore(), both.GetBaseline().GetModelVersion(), outcome)
	if c := both.GetComparison(); c != nil {
		_, _ = fmt.Fprintf(stdout, " %.6f by %s, delta %+.6f, %.2f ms",
			both.GetShadow().GetScore(), both.GetShadow().GetModelVersion(), c.GetDelta(), both.GetShadowLatencyMs())
	}
	_, _ = fmt.Fprintln(stdout)
	return nil
}

func predict(ctx context.Context, client executorv1.DecisionServiceClient, timeout time.Duration,
	req *executorv1.PredictRequest,
) (*executorv1.PredictResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return client.Predict(ctx, req)
}

func overStream(ctx context.Context, stream *decider, timeout time.Duration,
	req *executorv1.PredictRequest,
) (*executorv1.PredictResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return stream.decide(ctx, req)
}

func predictWithShadow(ctx context.Context, client executorv1.DecisionServiceClient, timeout time.Duration,
	req *executorv1.PredictWithShadowRequest,
) (*executorv1.PredictWithShadowResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return client.PredictWithShadow(ctx, req)
}

func waitReady(ctx context.Context, conn *grpc.ClientConn, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("%w (last state %s)", ctx.Err(), state)
		}
	}
	return nil
}
