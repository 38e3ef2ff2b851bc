package rpc

import (
	"context"
	"testing"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
)

type silentStream struct{ grpc.ServerStream }

func (silentStream) Context() context.Context { return context.Background() }
func (silentStream) SendMsg(any) error        { return nil }
func (silentStream) RecvMsg(any) error        { return nil }

func TestMessagesOfStreamsAreCounted(t *testing.T) {
	metrics := grpcprom.NewServerMetrics()
	reg := prometheus.NewRegistry()
	reg.MustRegister(metrics)
	count := countStreams(metrics)
	for method, both := range map[string]bool{"/s.S/Upload": false, "/s.S/Ask": true} {
		info := &grpc.StreamServerInfo{FullMethod: method, IsClientStream: true, IsServerStream: both}
		err := count(nil, silentStream{}, info, func(_ any, ss grpc.ServerStream) error { return ss.RecvMsg(nil) })
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int{"grpc_server_started_total": 2, "grpc_server_handled_total": 2, "grpc_server_msg_received_total": 1} {
		if got, err := testutil.GatherAndCount(reg, name); err != nil || got != want {
			t.Errorf("%s: got %d series, %v, want %d", name, got, err, want)
		}
	}
}

func BenchmarkMessageOfStream(b *testing.B) {
	for name, both := range map[string]bool{"one direction": false, "both": true} {
		b.Run(name, func(b *testing.B) {
			info := &grpc.StreamServerInfo{FullMethod: "/s.S/M", IsClientStream: true, IsServerStream: both}
			_ = countStreams(grpcprom.NewServerMetrics())(nil, silentStream{}, info, func(_ any, ss grpc.ServerStream) error {
				for b.Loop() {
					_, _ = ss.RecvMsg(nil), ss.SendMsg(nil)
				}
				return nil
			})
		})
	}
}
