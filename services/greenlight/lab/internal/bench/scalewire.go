package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// streamsPerConnection keeps a connection below the server's limit of streams.
const streamsPerConnection = 125

// rows measures batches of the size.
func (s *scaling) rows(ctx context.Context, size, _ int) ([]float64, error) {
	b := *s.sides[batchSide]
	b.batch(s.opts.Artifact, s.opts.States, size)
	got, err := b.closed(ctx, batchCalls, s.span())
	if err != nil {
		return nil, err
	}
	return []float64{cpuPerCall(got) / float64(size)}, nil
}

// calls measures decisions with a shadow, with n in flight, on as many connections as they need.
func (s *scaling) calls(ctx context.Context, underWay, _ int) (_ []float64, err error) {
	on, own := s.sides[shadowOn], newFleet(s.opts)
	defer func() { err = errors.Join(err, own.Close()) }()
	var sides []*side
	for range (underWay + streamsPerConnection - 1) / streamsPerConnection {
		c, err := own.connect(on.name, on.process)
		if err == nil {
			err = c.decision(ctx, s.opts.Artifact, s.opts.States, baselineOf, 0)
		}
		if err != nil {
			return nil, err
		}
		sides = append(sides, c)
	}
	spread := *on
	spread.call = func(ctx context.Context, i int) error { return sides[i%len(sides)].call(ctx, i) }
	got, err := spread.closed(ctx, underWay, s.span())
	if err != nil {
		return nil, err
	}
	return []float64{got.Throughput(), got.Quantile(99) / 1e3}, nil
}

// balanced measures predictions that the client distributes round-robin over n replicas.
func (s *scaling) balanced(ctx context.Context, replicas, _ int) ([]float64, error) {
	for len(s.replicas) < replicas {
		p, err := s.startEngine(ctx, fmt.Sprintf("replica-%d", len(s.replicas)))
		if err != nil {
			return nil, err
		}
		s.replicas = append(s.replicas, p)
	}
	var addrs []resolver.Address
	for _, r := range s.replicas[:replicas] {
		addrs = append(addrs, resolver.Address{Addr: r.Addr("grpc")})
	}
	names := manual.NewBuilderWithScheme("replicas")
	names.InitialState(resolver.State{Addresses: addrs})
	conn, err := rpc.Dial("replicas:///ml-engine", nil, grpc.WithResolvers(names),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c := &side{name: engineSide, process: s.replicas[0], conn: conn}
	if err := c.scoring(ctx, s.opts.Artifact, s.opts.States, scoreOf); err != nil {
		return nil, err
	}
	before := s.replicasCPU(replicas)
	got, err := c.closed(ctx, manyUnderWay, s.span())
	if err != nil {
		return nil, err
	}
	used := s.replicasCPU(replicas) - before
	return []float64{got.Throughput(), float64(used.Nanoseconds()) / 1e3 / float64(got.all)}, nil
}

func (s *scaling) replicasCPU(n int) (sum time.Duration) {
	for _, r := range s.replicas[:n] {
		cpu, _ := rig.CPU(r.PID())
		sum += cpu
	}
	return sum
}
