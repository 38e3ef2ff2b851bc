package rollout

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/gate"
)

var digest = strings.Repeat("ab", 32)

// gatedKeeper opens a keeper in the folder whose gate is allowed, or not, until the returned function is called or the test
// ends. ml-engine has the model.
func gatedKeeper(t *testing.T, dir string, allowed bool) (*Keeper, *gate.Keeper, *shadow.Active) {
	t.Helper()
	g, err := gate.Open(gate.Options{Allowed: allowed, Dir: dir, Timeout: 60 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	schema, _ := feature.Lookup(feature.DefaultSchema)
	active := &shadow.Active{Version: "m", Digest: digest, Schema: schema, Domain: make([]decide.Range, schema.Len())}
	g.Ask(func() shadow.Active { return *active })
	k, _ := open(t, Options{Percent: 3, Salt: "salt", Dir: dir, Gate: g})
	return k, g, active
}

// gateRequest lets the model decide 10 %, and gives 80 % shadows.
func gateRequest() *executorv1.SetRolloutRequest {
	return &executorv1.SetRolloutRequest{
		Percent: 10, Mode: gated, Lease: durationpb.New(time.Minute), Holder: "gate-1", Reason: "start",
		Plan: wire.Plan(outcome.Plan{DisagreementCap: 0.2, Margin: 0.01, Alpha: 0.05, LabelSource: outcome.Reported, HorizonMS: 900_000}), Gate: &executorv1.Gate{ModelDigest: digest, AllSymbols: true, ObservePercent: pb.Float64(80)},
	}
}

func set(t *testing.T, k *Keeper, req *executorv1.SetRolloutRequest) *executorv1.Rollout {
	t.Helper()
	resp, err := NewService(k).SetRollout(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetRollout()
}

func TestGatedRefusals(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		change     func(*executorv1.SetRolloutRequest)
	}{
		{"valid", "<nil>", func(*executorv1.SetRolloutRequest) {}},
		{"no gate", "InvalidArgument GATE_INVALID", func(r *executorv1.SetRolloutRequest) { r.Gate = nil }},
		{"no plan", "InvalidArgument GATE_INVALID", func(r *executorv1.SetRolloutRequest) { r.Plan = nil }},
		{"no lease", "InvalidArgument GATE_INVALID", func(r *executorv1.SetRolloutRequest) { r.Lease, r.Holder = nil, "" }},
		{"no holder", "InvalidArgument FIELD_INVALID", func(r *executorv1.SetRolloutRequest) { r.Holder = "" }},
		{"a gate and OBSERVE_ONLY", "InvalidArgument GATE_INVALID", func(r *executorv1.SetRolloutRequest) { r.Mode = observe }},
		{"no such percentage", "InvalidArgument PERCENT_INVALID", func(r *executorv1.SetRolloutRequest) { r.Percent = 101 }},
		{"more than observed", "InvalidArgument GATE_INVALID", func(r *executorv1.SetRolloutRequest) { r.Percent = 81 }},
		{"symbols too", "InvalidArgument GATE_INVALID", func(r *executorv1.SetRolloutRequest) { r.Gate.Symbols = []string{"S"} }},
		{"a long wait", "InvalidArgument GATE_INVALID", func(r *executorv1.SetRolloutRequest) { r.Gate.WaitBudget = durationpb.New(time.Second) }},
		{"another model", "FailedPrecondition GATE_MODEL", func(r *executorv1.SetRolloutRequest) { r.Gate.ModelDigest = strings.Repeat("cd", 32) }},
		{"an old revision", "Aborted REVISION_CHANGED", func(r *executorv1.SetRolloutRequest) { r.ExpectedRevision = 9 }},
	} {
		k, _, _ := gatedKeeper(t, t.TempDir(), true)
		req := gateRequest()
		tt.change(req)
		before := k.Report()
		_, err := NewService(k).SetRollout(t.Context(), req)
		if got := refusal(t, err); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
		if tt.want != "<nil>" && !pb.Equal(before, k.Report()) {
			t.Errorf("%s: went from %v to %v", tt.name, before, k.Report())
		}
	}
	k, _, active := gatedKeeper(t, t.TempDir(), true)
	for what, broken := range map[string]shadow.Active{
		"has not been reached": {}, "lacks the 0.05": {Version: "m", Digest: digest, Schema: active.Schema}, "schema": {Version: "m", Digest: digest},
	} {
		healthy := *active
		*active = broken
		_, err := NewService(k).SetRollout(t.Context(), gateRequest())
		if got := refusal(t, err); got != "FailedPrecondition GATE_MODEL" || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %s: %v", what, got, err)
		}
		*active = healthy
	}
	k, _, _ = gatedKeeper(t, t.TempDir(), false)
	_, err := NewService(k).SetRollout(t.Context(), gateRequest())
	if got := refusal(t, err); got != "FailedPrecondition GATE_NOT_ALLOWED" {
		t.Errorf("not allowed: got %s", got)
	}
}

// The model's share is part of the shadows' share, and reports and metrics distinguish them.
func TestGatedShares(t *testing.T) {
	k, _, _ := gatedKeeper(t, t.TempDir(), true)
	r := set(t, k, gateRequest())
	if r.GetPercent() != 10 || r.GetMode() != gated || k.Percent() != 80 || r.GetGate().GetObservePercent() != 80 || r.GetGate().GetWaitBudget().AsDuration() != 5*time.Millisecond {
		t.Errorf("%v, %v %% get a shadow", r, k.Percent())
	}
	s := k.Gate(time.Now())
	sampled, decided := 0, 0
	for i := range 10_000 {
		id := fmt.Sprint("request-", i)
		shadowed := k.Sampled(id, time.Now())
		if shadowed {
			sampled++
		}
		if s.Shares.Sampled(id) {
			decided++
			if !shadowed {
				t.Fatalf("%s has no shadow, and the model may decide it", id)
			}
		}
	}
	if sampled < 7800 || sampled > 8200 || decided < 850 || decided > 1150 {
		t.Errorf("%d of 10000 get a shadow, and the model may decide %d", sampled, decided)
	}
}

// A renewal keeps the revision, whichever model ml-engine has by then. A lapse keeps the gate but the model decides nothing, and the
// holder may continue.
func TestGatedLease(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k, _, active := gatedKeeper(t, dir, true)
		first := set(t, k, gateRequest())
		time.Sleep(40 * time.Second)
		active.Digest = "other"
		again := gateRequest()
		again.Gate.MaxChangedPercent = pb.Float64(10) // the default
		if r := set(t, k, again); r.GetRevision() != first.GetRevision() {
			t.Errorf("a renewal is %v, want revision %d", r, first.GetRevision())
		}
		active.Digest = digest
		other := gateRequest()
		other.Gate.MaxChangedPercent = pb.Float64(9)
		if r := set(t, k, other); r.GetRevision() != first.GetRevision()+1 {
			t.Errorf("other terms are %v, want another revision", r)
		}
		time.Sleep(time.Minute)
		now := k.Report()
		if now.GetMode() != off || now.GetPercent() != 0 || now.GetGate() == nil || now.GetRevision() != first.GetRevision()+2 || k.Percent() != 0 || k.Gate(time.Now()).Phase != gate.Lapsed {
			t.Errorf("after the lapse: %v", now)
		}
		req := gateRequest()
		req.ExpectedRevision = now.GetRevision()
		if r := set(t, k, req); r.GetMode() != gated || k.Gate(time.Now()).Phase != gate.InForce {
			t.Errorf("resumed: %v", r)
		}
	})
}

// After a restart under a gated lease the model decides nothing until the holder renews it. Without --allow-gated shadows continue.
func TestGatedRestart(t *testing.T) {
	dir := t.TempDir()
	k, g, _ := gatedKeeper(t, dir, true)
	first := set(t, k, gateRequest())
	restart := func(allowed bool) {
		k.Stop()
		g.Stop()
		k, g, _ = gatedKeeper(t, dir, allowed)
	}
	restart(true)
	if r := k.Report(); !r.GetAwaitingRenewal() || r.GetPercent() != 0 || r.GetMode() != off || k.Percent() != 0 || k.Gate(time.Now()).Phase != gate.Lapsed || k.Gate(time.Now()).Terms == nil {
		t.Errorf("after a restart: %v", r)
	}
	if r := set(t, k, gateRequest()); r.GetRevision() != first.GetRevision() || r.GetPercent() != 10 || k.Gate(time.Now()).Phase != gate.InForce {
		t.Errorf("renewed: %v", r)
	}
	restart(false)
	r := k.Report()
	if r.GetMode() != observe || r.GetPercent() != 80 || r.GetGate() != nil || r.GetHolder() != "" || !strings.Contains(r.GetReason(), "--allow-gated") || r.GetSetBy() != "executor" {
		t.Errorf("without --allow-gated: %v", r)
	}
	restart(true)
	if after := k.Report(); !pb.Equal(after, r) {
		t.Errorf("with --allow-gated again: %v, want %v", after, r)
	}
}

// A latch makes the gate OBSERVE_ONLY, also across a restart, and ends the lease for its holder. Another rollout ends the gate.
func TestGateIsDemoted(t *testing.T) {
	dir := t.TempDir()
	k, g, _ := gatedKeeper(t, dir, true)
	s := NewService(k)
	first := set(t, k, gateRequest())
	killed, err := s.KillGate(t.Context(), &executorv1.KillGateRequest{Reason: "fire"})
	if err != nil || killed.GetGate().GetOpen() || len(killed.GetGate().GetLatches()) != 1 {
		t.Fatalf("%v, %v", killed, err)
	}
	want := func(what string) {
		t.Helper()
		r := k.Report()
		if r.GetMode() != observe || r.GetPercent() != 80 || k.Percent() != 80 || r.GetHolder() != "" || r.GetGate() == nil || r.GetRevision() != first.GetRevision()+1 || r.GetReason() != "the gate was demoted: killed: fire" || k.Gate(time.Now()).Phase != gate.Demoted {
			t.Errorf("%s: %v", what, r)
		}
		_, err := s.SetRollout(t.Context(), gateRequest())
		if got := refusal(t, err); got != "Aborted REVISION_CHANGED" {
			t.Errorf("%s: a renewal: %s", what, got)
		}
		again := gateRequest()
		again.ExpectedRevision = r.GetRevision()
		_, err = s.SetRollout(t.Context(), again)
		if got := refusal(t, err); got != "FailedPrecondition GATE_LATCHED" || !strings.Contains(err.Error(), "killed by") || !strings.Contains(err.Error(), "fire") {
			t.Errorf("%s: another start: %v", what, err)
		}
	}
	want("killed")
	k.Stop()
	g.Stop()
	k, g, _ = gatedKeeper(t, dir, true)
	s = NewService(k)
	want("after a restart")
	clearing := &executorv1.ClearGateLatchesRequest{Latches: []executorv1.GateLatch{1}, LastSetTimes: []*timestamppb.Timestamp{timestamppb.Now()}, Reason: "put out"}
	if _, err := s.ClearGateLatches(t.Context(), clearing); status.Code(err) != codes.Aborted {
		t.Errorf("a clear of another kill: %v", err)
	}
	clearing.LastSetTimes[0] = g.Status().GetLatches()[0].GetSetTime()
	if _, err := s.ClearGateLatches(t.Context(), clearing); err != nil {
		t.Fatal(err)
	}
	if r := k.Report(); r.GetMode() != observe || r.GetGate() == nil {
		t.Errorf("cleared: %v", r)
	}
	again := gateRequest()
	again.ExpectedRevision = k.Report().GetRevision()
	set(t, k, again)
	if _, err := s.RaiseGateAlarm(t.Context(), &executorv1.RaiseGateAlarmRequest{Alarm: 3, ModelDigest: digest, Reason: "moved"}); err != nil || k.Report().GetMode() != observe {
		t.Errorf("%v, %v", err, k.Report())
	}
	if r := set(t, k, &executorv1.SetRolloutRequest{Percent: 5, Mode: observe}); r.GetGate() != nil || k.Gate(time.Now()).Terms != nil {
		t.Errorf("another rollout: %v", r)
	}
	if err := g.Clear([]executorv1.GateLatch{3}, "x", "", "why"); err != nil {
		t.Fatal(err)
	}
	set(t, k, gateRequest())
	if r, err := s.AbortRollout(t.Context(), &executorv1.AbortRolloutRequest{}); err != nil || r.GetRollout().GetGate() != nil || r.GetRollout().GetMode() != off {
		t.Errorf("aborted: %v, %v", r, err)
	}
}

// A long reason does not prevent the end of a gate or rollout.
func TestLongReasonsAreCut(t *testing.T) {
	long, s := strings.Repeat("x", 513), (*Service)(nil)
	for name, tt := range map[string]struct {
		end  func() error
		mode executorv1.RolloutMode
	}{
		"kill": {func() error {
			_, err := s.KillGate(t.Context(), &executorv1.KillGateRequest{Reason: long})
			return err
		}, observe},
		"alarm": {func() error {
			_, err := s.RaiseGateAlarm(t.Context(), &executorv1.RaiseGateAlarmRequest{Alarm: 2, ModelDigest: digest, Reason: long})
			return err
		}, observe},
		"abort": {func() error {
			_, err := s.AbortRollout(t.Context(), &executorv1.AbortRolloutRequest{Reason: long})
			return err
		}, off},
	} {
		k, _, _ := gatedKeeper(t, t.TempDir(), true)
		s = NewService(k)
		set(t, k, gateRequest())
		if err := tt.end(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r := k.Report(); r.GetMode() != tt.mode || len(r.GetReason()) > maxReason || !strings.Contains(r.GetReason(), "xxx") {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// A latch that was set before the rollout is read demotes it at startup, for example after a kill of the process between writing the
// two files. So does the kill file.
func TestLatchAtTheStart(t *testing.T) {
	for _, file := range []bool{false, true} {
		dir := t.TempDir()
		k, g, _ := gatedKeeper(t, dir, true)
		set(t, k, gateRequest())
		k.Stop()
		if file {
			if err := os.WriteFile(filepath.Join(dir, "gate.kill"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		} else if err := g.Kill("x", "", "y"); err != nil {
			t.Fatal(err)
		}
		g.Stop()
		k, _, _ = gatedKeeper(t, dir, true)
		if r := k.Report(); r.GetMode() != observe || r.GetPercent() != 80 || r.GetHolder() != "" || k.Gate(time.Now()).Phase != gate.Demoted {
			t.Errorf("file %v: %v", file, r)
		}
	}
}

// A kill during a change to GATED wins, whichever is written first.
func TestKillDuringAStart(t *testing.T) {
	dir := t.TempDir()
	k, g, _ := gatedKeeper(t, dir, true)
	before := k.Report()
	release := durabletest.Hang(t, dir)
	ended := make(chan error)
	go func() {
		_, err := NewService(k).SetRollout(t.Context(), gateRequest())
		ended <- err
	}()
	for k.saver.Hold(time.Millisecond) == nil { // until SetRollout holds it
		k.saver.Release()
	}
	killed := make(chan error)
	go func() { killed <- g.Kill("x", "", "y") }()
	for len(g.Status().GetLatches()) == 0 {
		time.Sleep(time.Millisecond)
	}
	release()
	if got := refusal(t, <-ended); got != "FailedPrecondition GATE_LATCHED" {
		t.Error(got)
	}
	if err := <-killed; err != nil {
		t.Error(err)
	}
	if r := k.Report(); !pb.Equal(r, before) {
		t.Errorf("%v, want %v", r, before)
	}
	raw, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil || strings.Contains(string(raw), "gated") {
		t.Errorf("the file has %s, %v", raw, err)
	}
}

// A gate with the largest number of symbols of maximum length can be read back.
func TestManySymbols(t *testing.T) {
	dir := t.TempDir()
	k, g, _ := gatedKeeper(t, dir, true)
	req := gateRequest()
	req.Gate.AllSymbols = false
	for i := range 1000 {
		req.Gate.Symbols = append(req.Gate.GetSymbols(), fmt.Sprintf("%s%04d", strings.Repeat("\x01", 60), i))
	}
	want := set(t, k, req)
	k.Stop()
	g.Stop()
	k, _, _ = gatedKeeper(t, dir, true)
	if got := k.Report(); !pb.Equal(got.GetGate(), want.GetGate()) || !got.GetAwaitingRenewal() {
		t.Errorf("%d symbols, awaiting renewal: %v", len(got.GetGate().GetSymbols()), got.GetAwaitingRenewal())
	}
}
