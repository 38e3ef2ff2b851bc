package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/faults"
)

// Kinds of calls.
const (
	predicts     = "Predict"
	decides      = "Decide"
	withs        = "PredictWithShadow"
	facades      = "POST /predict-with-shadow"
	quotes       = "Predict of quotes, restarted executor"
	decideQuotes = "Decide of quotes, restarted executor"
	streams      = "ObserveQuotes"
)

func same(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }

// callers make calls at fixed times.
type callers struct {
	states   []State
	baseline string // digest
	book     *book
}

// every calls fn for i = 0, 1, ... at the rate until ctx ends. A late call delays the next ones.
func every(ctx context.Context, rate float64, fn func(ctx context.Context, i int)) {
	ticker := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), faults.CallTimeout)
		fn(call, i)
		cancel()
	}
}

// predict requests a decision on a vector.
func (t *callers) predict(kind string, decide faults.Decide) func(context.Context, int) {
	return func(ctx context.Context, i int) {
		s := t.states[i%len(t.states)]
		req := s.VectorRequest(feature.DefaultSchema)
		req.RequestId = fmt.Sprintf("%s-%d", kind, i)
		now(i, req)
		resp, err := decide(ctx, req)
		want, ok := s.decision(resp.GetGate(), t.baseline)
		switch {
		case err != nil:
			t.book.lost(kind, err)
		case !ok || !same(resp.GetScore(), want.value) || resp.GetModelDigest() != want.digest:
			t.book.wrong(kind, "%v of %s (%v): want %v", resp.GetScore(), resp.GetModelDigest(), resp.GetGate(), want.value)
		default:
			t.book.add(kind, func(c *Calls) {
				c.Answered++
				if want.digest != t.baseline {
					c.Model++
				}
			})
		}
	}
}

// withShadow requests a decision and waits for the shadow.
func (t *callers) withShadow(e *faults.Executor) func(context.Context, int) {
	return func(ctx context.Context, i int) {
		s := t.states[i%len(t.states)]
		resp, err := e.Decisions.PredictWithShadow(ctx, &executorv1.PredictWithShadowRequest{
			RequestId: fmt.Sprintf("w-%d", i), Symbol: s.Symbol, EventTime: s.Time, Features: s.Named,
		})
		if err != nil {
			t.book.lost(withs, err)
			return
		}
		t.judge(withs, s, score{resp.GetBaseline().GetScore(), resp.GetBaseline().GetModelDigest()},
			score{resp.GetShadow().GetScore(), resp.GetShadow().GetModelDigest()})
	}
}

// score is a score and the digest of its model; the digest is empty without a score.
type score struct {
	value  float64
	digest string
}

// judge checks both scores of an answer.
func (t *callers) judge(kind string, s State, baseline, shadow score) {
	if !same(baseline.value, s.Baseline) || baseline.digest != t.baseline {
		t.book.wrong(kind, "baseline %v of %s: want %v", baseline.value, baseline.digest, s.Baseline)
		return
	}
	if shadow.digest == "" {
		t.book.add(kind, func(c *Calls) { c.Answered++ })
		return
	}
	if want, ok := s.Scores[shadow.digest]; !ok || !same(shadow.value, want) {
		t.book.wrong(kind, "shadow %v of %s: want %v", shadow.value, shadow.digest, want)
		return
	}
	t.book.add(kind, func(c *Calls) { c.Answered, c.Shadows = c.Answered+1, c.Shadows+1 })
}

// facade requests a decision over HTTP.
func (t *callers) facade(e *faults.Executor) func(context.Context, int) {
	client := &http.Client{Transport: rpc.HTTPTransport()}
	return func(ctx context.Context, i int) {
		s := t.states[i%len(t.states)]
		var got struct {
			Baseline, Shadow struct {
				Score       float64
				ModelDigest string
			}
		}
		err := post(ctx, client, "http://"+e.Process.Addr("http")+"/predict-with-shadow",
			map[string]any{"requestId": fmt.Sprintf("h-%d", i), "symbol": s.Symbol, "features": s.Named}, &got)
		if err != nil {
			t.book.lost(facades, err)
			return
		}
		t.judge(facades, s, score{got.Baseline.Score, got.Baseline.ModelDigest}, score{got.Shadow.Score, got.Shadow.ModelDigest})
	}
}

func post(ctx context.Context, client *http.Client, url string, body, answer any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if raw, err = io.ReadAll(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, raw)
	}
	return json.Unmarshal(raw, answer)
}
