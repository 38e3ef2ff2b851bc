package shadow

import (
	"context"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// instantEngine answers immediately in process, so that only the dispatcher's cost is measured.
type instantEngine struct {
	mlenginev1.ScoringServiceClient

	schema *feature.Schema
	scores []float64
}

func (e *instantEngine) GetModelInfo(context.Context, *mlenginev1.GetModelInfoRequest, ...grpc.CallOption) (*mlenginev1.GetModelInfoResponse, error) {
	return &mlenginev1.GetModelInfoResponse{Version: "v", Digest: "d", Schema: e.schema.Name, SchemaHash: e.schema.Hash()}, nil
}

func (e *instantEngine) BatchPredict(_ context.Context, req *mlenginev1.BatchPredictRequest, _ ...grpc.CallOption) (*mlenginev1.BatchPredictResponse, error) {
	n := len(req.GetValues()) / e.schema.Len()
	return &mlenginev1.BatchPredictResponse{Scores: e.scores[:n], ModelVersion: "v", ModelDigest: "d"}, nil
}

func newBench(b *testing.B) (*Dispatcher, State) {
	schema, ok := feature.Lookup("v1.8.1")
	if !ok {
		b.Fatal("no schema v1.8.1")
	}
	opts := DefaultOptions()
	opts.Engine = &instantEngine{schema: schema, scores: make([]float64, opts.MaxBatch)}
	opts.Logger, opts.Registerer = slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	d, err := New(opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Stop(context.WithoutCancel(b.Context())) })
	for _, ok := d.Ready(); !ok; _, ok = d.Ready() {
		time.Sleep(time.Millisecond)
	}
	return d, State{Schema: schema, Vector: make([]float64, schema.Len())}
}

// BenchmarkDetach measures a detached shadow from request to outcome, without the shared call.
func BenchmarkDetach(b *testing.B) {
	d, state := newBench(b)
	b.ReportAllocs()
	for b.Loop() {
		d.Detach(Request{Arrival: time.Now(), State: state})
		for d.recorder.InFlight() > uint64(2*d.opts.MaxBatch) { // so that a full batch can wait
			runtime.Gosched()
		}
	}
	for d.recorder.InFlight() > 0 {
		runtime.Gosched()
	}
	if n := d.recorder.Total(Match); n != d.recorder.begun() {
		b.Fatalf("%d of %d shadows were answered", n, d.recorder.begun())
	}
}

func BenchmarkWait(b *testing.B) {
	d, state := newBench(b)
	b.ReportAllocs()
	for b.Loop() {
		if r := d.Wait(b.Context(), Request{Arrival: time.Now(), State: state}); r.Outcome != Match {
			b.Fatalf("got %v (%v), want a match", r.Outcome, r.Err)
		}
	}
}

// BenchmarkWatched measures the extra cost of raw inputs and times in a call of 64 rows.
func BenchmarkWatched(b *testing.B) {
	model, _ := feature.Lookup("v1.8.1")
	live, err := feature.NewSchema("live", append(model.Names(), feature.RawInputs()...)...)
	if err != nil {
		b.Fatal(err)
	}
	var batch []*call
	for range DefaultOptions().MaxBatch {
		batch = append(batch, &call{schema: model, Request: Request{
			State: State{Schema: live, Vector: make([]float64, live.Len())}, EventTime: time.Now(),
		}})
	}
	var w watched
	req := &mlenginev1.BatchPredictRequest{}
	b.ReportAllocs()
	for b.Loop() {
		w.add(req, batch)
	}
}

// BenchmarkBatch measures encoding a full call and decoding its answer, without gRPC.
func BenchmarkBatch(b *testing.B) {
	rows := DefaultOptions().MaxBatch
	schema, _ := feature.Lookup("v1.8.1")
	req := &mlenginev1.BatchPredictRequest{Schema: schema.Name, Values: make([]float64, rows*schema.Len())}
	answer, err := proto.Marshal(&mlenginev1.BatchPredictResponse{
		Scores: make([]float64, rows), ModelVersion: "v1.8.1-rc1", ModelDigest: strings.Repeat("0", 64),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := proto.Marshal(req); err != nil {
			b.Fatal(err)
		}
		if err := proto.Unmarshal(answer, &mlenginev1.BatchPredictResponse{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSkip(b *testing.B) {
	d, _ := newBench(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			d.Skip(Request{})
		}
	})
}

// BenchmarkRecord measures the end of a request: the counts, and publishing without watchers.
func BenchmarkRecord(b *testing.B) {
	d, _ := newBench(b)
	b.ReportAllocs()
	req := Request{BaselineLatency: time.Microsecond}
	r := Result{Outcome: Match, Delta: 0.01, Latency: time.Millisecond, Version: "v", Digest: "d"}
	for b.Loop() {
		d.recorder.begin(Live)
		d.record(&req, r, row{})
	}
}

// BenchmarkPublish measures the cost of watchers, which do not read, at the end of a request.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{0, 1, maxWatchers} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			d, state := newBench(b)
			for range n {
				w, err := d.Watch(WatchOptions{})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(w.Close)
			}
			b.ReportAllocs()
			req := Request{ID: "SIM-PERP-1700000000000", Symbol: "SIM-PERP"}
			r := Result{Outcome: Match, Delta: 0.01, Latency: time.Millisecond, Version: "v", Digest: "d"}
			for b.Loop() {
				d.watchers.publish(&req, &r, row{schema: state.Schema})
			}
		})
	}
}

func BenchmarkBreaker(b *testing.B) {
	d, _ := newBench(b)
	b.ReportAllocs()
	for b.Loop() {
		d.breaker.Allow()(nil)
	}
}

func BenchmarkSampled(b *testing.B) {
	s, err := NewSampler("salt", 50)
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]string, 1024)
	for i := range ids {
		ids[i] = "SIM-PERP-" + strconv.Itoa(1_700_000_000_000+i*60_000)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s.Sampled(ids[i%len(ids)])
		i++
	}
}
