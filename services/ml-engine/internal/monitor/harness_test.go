package monitor_test

import (
	"bytes"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
)

// trial is a monitor with one active model.
type trial struct {
	t testing.TB
	*monitor.Monitor

	model *model.Artifact
	watch *monitor.Watch
	log   *bytes.Buffer
}

func open(t testing.TB, a *model.Artifact, dir string, event bool) *trial {
	t.Helper()
	return openWith(t, a, monitor.Options{Dir: dir, EventClock: event})
}

// limited counts by event time, with a limit on events ahead of the clock.
func limited(t testing.TB, a *model.Artifact, dir string, ahead time.Duration) *trial {
	t.Helper()
	return openWith(t, a, monitor.Options{Dir: dir, EventClock: true, MaxEventAhead: ahead})
}

func openWith(t testing.TB, a *model.Artifact, o monitor.Options) *trial {
	t.Helper()
	log := &bytes.Buffer{}
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	m, err := monitor.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	w, err := m.Watch(a)
	if err != nil {
		t.Fatal(err)
	}
	m.Activate(w)
	return &trial{t: t, Monitor: m, model: a, watch: w, log: log}
}

// observe counts n random rows, with or without raw inputs, and returns them in the profile's order.
func (tr *trial) observe(rng *rand.Rand, n int, inputs bool, event time.Time) [][]float64 {
	var vectors [][]float64
	for range n {
		x := enginetest.Vector(rng, tr.model.Schema)
		r := monitor.Rows{X: x, Scores: []float64{tr.model.Scorer.Score(x)}}
		if !event.IsZero() {
			r.EventMS = []int64{event.UnixMilli()}
		}
		v := append(slices.Clone(x[1:]), r.Scores[0])
		if inputs {
			r.Inputs, r.Values = []string{"other", "rsi14", "mid"}, []float64{7, 50, 100 + rng.NormFloat64()}
			v = append(v, r.Values[2], math.NaN(), math.NaN(), 50)
		}
		tr.watch.Observe(time.Now(), r)
		vectors = append(vectors, v)
	}
	return vectors
}

// shifted counts n drifted rows without raw inputs.
func (tr *trial) shifted(rng *rand.Rand, n int) {
	for range n {
		x := enginetest.Vector(rng, tr.model.Schema)
		for i := 1; i < len(x); i++ {
			x[i] += 0.7
		}
		tr.watch.Observe(time.Now(), monitor.Rows{X: x, Scores: []float64{tr.model.Scorer.Score(x)}})
	}
}

func (tr *trial) drift(req *mlenginev1.GetDriftRequest) *mlenginev1.GetDriftResponse {
	tr.t.Helper()
	resp, err := monitor.NewService(tr.Monitor).GetDrift(tr.t.Context(), req)
	if err != nil {
		tr.t.Fatal(err)
	}
	return resp
}

// window requests a window of that length.
func window(length time.Duration) *mlenginev1.GetDriftRequest {
	return &mlenginev1.GetDriftRequest{Window: durationpb.New(length)}
}

func (tr *trial) stop() {
	tr.t.Helper()
	if err := tr.Stop(tr.t.Context()); err != nil {
		tr.t.Error(err)
	}
}
