// Package rehearsal tests a model on a pair of services that this machine runs: smoke tests, a replay, drift, and a canary
// with the phases of a real one. No step counts for a promotion.
package rehearsal

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Trial is a model under trial and the data to send to it.
type Trial struct {
	Data     *experiment.Data
	Artifact *model.Artifact
	// Git is the revision of the program, for the evidence.
	Git string
}

func (t *Trial) header(schema string) evidence.Header {
	return t.Data.Header(schema, t.Artifact, t.Git)
}

// Unseen returns the states of the data that the model was not trained on, for an executor with the baseline. These are all
// states, unless the model was trained on this data.
func (t *Trial) Unseen(baseline traffic.Baseline) ([]traffic.State, error) {
	frame, err := t.Data.Rows()
	if err != nil {
		return nil, err
	}
	training := t.Artifact.Manifest.Training
	var minutes []int
	for i := range frame.Len() {
		if t.Data.Digest() != training.DataDigest || !time.UnixMilli(frame.End(i)).Before(training.End) {
			minutes = append(minutes, i)
		}
	}
	states, err := traffic.StatesFor(frame, t.Data.Symbol, minutes, t.Artifact, baseline, t.Data.Source())
	if err == nil && len(states) == 0 {
		err = fmt.Errorf("%s has no state after the training of %s in which its inputs are defined: market features need a day of warm-up", t.Data.Name, t.Artifact.Manifest.Version)
	}
	return states, err
}

// Smoke sends the states to an ml-engine and writes smoke_1k.json.
func (t *Trial) Smoke(ctx context.Context, store *evidence.Store, engine mlenginev1.ScoringServiceClient, states []traffic.State, pace traffic.Pace) (*traffic.SmokeResult, error) {
	r, err := traffic.Smoke(ctx, engine, t.Artifact, states, pace)
	if err != nil {
		return nil, err
	}
	return r, store.WriteJSON("smoke_1k.json", t.header(traffic.SmokeSchema), r)
}

// The files of [Trial.Shadow].
const (
	ShadowFile = "shadow_smoke_1k.json"
	ReplayFile = "shadow_replay.json"
)

// Shadow sends the states to the executor, waits for their shadows, and writes the file.
func (t *Trial) Shadow(ctx context.Context, store *evidence.Store, file string, executor fleet.Executor, states []traffic.State, pace traffic.Pace) (*traffic.ShadowResult, error) {
	r, err := traffic.Shadow(ctx, executor, t.Artifact, states, pace)
	if err != nil {
		return nil, err
	}
	return r, store.WriteJSON(file, t.header(traffic.ShadowSchema), r)
}

const (
	// driftHours is the window of [Trial.drift].
	driftHours = 7 * 24
	// driftTimeout is far longer than the first answer takes, which computes the noise in some hundred milliseconds.
	driftTimeout = 10 * time.Second
)

// drift reads the drift of all states that the ml-engine has scored, and writes the snapshot with its figures.
func (t *Trial) drift(ctx context.Context, store *evidence.Store, engine fleet.Engine) (*driftfleet.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, driftTimeout)
	defer cancel()
	r, err := driftfleet.Read(ctx, []fleet.Engine{engine}, driftHours, true)
	if err != nil {
		return nil, err
	}
	_, err = r.Write(store, t.header(driftfleet.Schema))
	return r, err
}

// maxMetrics is the maximum size of a metrics page, in bytes.
const maxMetrics = 16 << 20

// writeMetrics writes the metrics of the services at the HTTP addresses to a file of the evidence, and returns its name.
func writeMetrics(ctx context.Context, store *evidence.Store, addrs ...string) (string, error) {
	var text []byte
	for _, addr := range addrs {
		body, err := get(ctx, "http://"+addr+"/metrics")
		if err != nil {
			return "", err
		}
		text = append(append(text, "# "+addr+"\n"...), body...)
	}
	name := "metrics_baseline_" + time.Now().UTC().Format("20060102T150405Z") + ".txt"
	return name, store.WriteFile(name, text)
}

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	transport := rpc.HTTPTransport()
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxMetrics))
}
