package rollout

import (
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/gate"
)

// sane checks the invariants of a rollout in force.
func sane(t *testing.T, r *Rollout, now time.Time) {
	t.Helper()
	leased := !r.Expires.IsZero()
	switch {
	case math.IsNaN(r.Percent) || r.Percent < 0 || r.Percent > 100:
		t.Fatalf("percent %v", r.Percent)
	case r.Mode == off && r.Percent != 0 || r.Mode != gated && r.Decides != 0 || r.Decides > r.Percent || math.IsNaN(r.Decides):
		t.Fatalf("%v %% in mode %v", r.Percent, r.Mode)
	case leased != (r.Holder != "") || leased && r.Expires.Sub(now) > maxLease:
		t.Fatalf("holder %q until %v, in %v", r.Holder, r.Expires, r.Expires.Sub(now))
	case r.Mode == gated && (!leased || r.Gate == nil || r.Plan == (outcome.Plan{}) || r.Gate.Validate(r.Decides) != nil):
		t.Fatalf("gated with %+v until %v", r.Gate, r.Expires)
	case r.Revision == 0:
		t.Fatal("revision 0")
	}
}

// FuzzFile reads arbitrary rollout files. Each is either set aside and means 0 %, or is a valid rollout that is written as
// it was read.
func FuzzFile(f *testing.F) {
	f.Add([]byte(`{"schema":"greenlight/rollout/v1","percent":5,"mode":"observe_only","revision":7,"holder":"c","lease_expire_time":"2100-01-01T00:00:00Z","lease_s":30,"set_by":"token","reason":"r","set_time":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"schema":"greenlight/rollout/v1","percent":100,"mode":"observe_only","revision":1,"set_by":"x","reason":"","set_time":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"schema":"greenlight/rollout/v1","percent":1e-320,"mode":"off","revision":18446744073709551615,"lease_s":1e300}`))
	f.Add([]byte(`{"schema":"greenlight/rollout/v1","percent":5,"mode":"gated","revision":7,"holder":"c","lease_expire_time":"2100-01-01T00:00:00Z","lease_s":30,"set_by":"token","reason":"r","set_time":"2026-01-01T00:00:00Z",` +
		`"quality_plan":{"disagreement_cap":0.2,"margin":0.01,"alpha":0.05,"label_source":"reported","horizon_ms":900000},` +
		`"gate":{"model_digest":"` + digest + `","observe_percent":80,"symbols":["S","T"],"min_score":0,"max_score":1,"wait_budget_ms":5,"max_changed_percent":10}}`))
	f.Add([]byte(`{"schema":"greenlight/rollout/v1","mode":"off","revision":7,"quality_plan":{"disagreement_cap":0.2,"margin":0.01,"alpha":0.05,"label_source":"reported","horizon_ms":900000},"gate":{"model_digest":"","wait_budget_ms":1e300}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, fileName)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		logger := slog.New(slog.DiscardHandler)
		g, err := gate.Open(gate.Options{Allowed: true, Dir: t.TempDir(), Timeout: time.Second, Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Stop()
		k, err := Open(Options{Dir: dir, Percent: 50, Salt: "salt", Gate: g, Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		r := k.current(time.Now())
		k.Stop()
		sane(t, r, time.Now())
		aside, err := filepath.Glob(path + ".unusable-*")
		if err != nil {
			t.Fatal(err)
		}
		if len(aside) > 0 {
			if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != string(raw) || r.Percent != 0 {
				t.Fatalf("set aside as %q, %v, with %v %%", kept, err, r.Percent)
			}
			return
		}
		if err := k.save(r); err != nil {
			t.Fatal(err)
		}
		written, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parse(k, written)
		if err != nil {
			t.Fatalf("does not read what it wrote: %v\n%s", err, written)
		}
		r = r.wanted()
		if back.Percent != r.Percent || back.Mode != r.Mode || back.Revision != r.Revision || back.Holder != r.Holder || back.Lease != r.Lease || back.Decides != r.Decides || !back.Gate.Equal(r.Gate) {
			t.Fatalf("got %+v, want %+v", back, r)
		}
	})
}

// FuzzSetRollout sends arbitrary messages. Each is either refused and changes nothing, or is in force as requested.
func FuzzSetRollout(f *testing.F) {
	add := func(r *executorv1.SetRolloutRequest) {
		raw, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	add(&executorv1.SetRolloutRequest{Percent: 5, Mode: observe, Holder: "c", Lease: durationpb.New(30 * time.Second), Reason: "r", ExpectedRevision: 1})
	add(&executorv1.SetRolloutRequest{Percent: math.NaN(), Mode: 7})
	add(gateRequest())
	add(&executorv1.SetRolloutRequest{Mode: off, Lease: &durationpb.Duration{Seconds: math.MaxInt64, Nanos: -5}})
	f.Fuzz(func(t *testing.T, raw []byte) {
		req := &executorv1.SetRolloutRequest{}
		if proto.Unmarshal(raw, req) != nil {
			return
		}
		k, err := Open(Options{Percent: 7, Salt: "salt", Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Stop()
		before := k.current(time.Now())
		_, err = NewService(k).SetRollout(t.Context(), req)
		after := k.current(time.Now())
		sane(t, after, time.Now())
		if err != nil {
			if code := status.Code(err); code != codes.InvalidArgument && code != codes.Aborted && (code != codes.FailedPrecondition || req.GetMode() != gated) || after != before {
				t.Fatalf("refused as %v (%v), and went from %+v to %+v", code, err, before, after)
			}
			return
		}
		if after.Percent != req.GetPercent() || after.Mode != req.GetMode() || after.Holder != req.GetHolder() || after.Revision != before.Revision+1 {
			t.Fatalf("asked for %v, got %+v", req, after)
		}
	})
}
