package app_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/natsgroup"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/natstest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/app"
)

// inFleet returns the options of an executor of a group, and the key of its operator.
func inFleet(t *testing.T, engine *enginetest.Engine, url string) (*app.Options, *dsse.Signer) {
	t.Helper()
	signer, key := keytest.New(t)
	o := options(t, engine)
	o.Control.Insecure, o.StateDir, o.SamplePercent = true, t.TempDir(), 0
	o.Fleet = app.Fleet{URL: url, Group: "desk-a", Trust: key + ".pub"}
	return o, signer
}

func TestFleetOptions(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*app.Options)
		want   string
	}{
		"no servers":      {func(o *app.Options) { o.Fleet.URL = "" }, "need --fleet"},
		"no group":        {func(o *app.Options) { o.Fleet.Group = "" }, "--fleet-group"},
		"no keys":         {func(o *app.Options) { o.Fleet.Trust = "" }, "--fleet-trust"},
		"no folder":       {func(o *app.Options) { o.StateDir = "" }, "--state-dir"},
		"a percentage":    {func(o *app.Options) { o.SamplePercent = 1 }, "--sample-percent"},
		"another scheme":  {func(o *app.Options) { o.Fleet.URL = "http://a" }, "nats://"},
		"no such creds":   {func(o *app.Options) { o.Fleet.Creds = filepath.Join(t.TempDir(), "none") }, "none"},
		"a strange group": {func(o *app.Options) { o.Fleet.Group = "desk.a" }, "desk.a"},
	} {
		t.Run(name, func(t *testing.T) {
			o, _ := inFleet(t, loopback(t), "nats://127.0.0.1:4222")
			test.change(o)
			if err := app.Run(t.Context(), o, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// The whole program follows the record of its group over NATS, and works as before without NATS.
func TestFleetOfRunningExecutor(t *testing.T) {
	nats := natstest.Start(t, 1)
	o, signer := inFleet(t, loopback(t), nats.URL)
	r := start(t, o)
	r.reached()
	operator, err := natsgroup.Open(natsgroup.Options{URL: nats.URL, Group: "desk-a", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	ctx, cancel := context.WithCancel(t.Context())
	reports := make(chan *fleetv1.Report, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = operator.Reports(ctx, func(raw []byte) {
				report := &fleetv1.Report{}
				if err := proto.Unmarshal(raw, report); err != nil {
					t.Error(err)
				}
				select {
				case reports <- report:
				case <-ctx.Done():
				}
			})
		}
	}()
	defer func() {
		cancel()
		<-done
	}()
	session := group.NewSession("desk-a", "test", signer, time.Now())
	terms := &fleetv1.Record{Percent: 100, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Lease: durationpb.New(time.Hour), Holder: "run-1"}
	first := <-reports
	if first.GetTrouble() == "" || first.GetShadow().GetSamplePercent() != 0 || first.GetShadow().GetInstanceId() != first.GetInstanceId() || first.GetRollout().GetRollout() == nil {
		t.Errorf("the first report is %v", first)
	}
	var version uint64
	change := func(percent float64) {
		t.Helper()
		terms.Percent = percent
		_, e, err := session.Change(terms, 0, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if version, err = operator.Put(t.Context(), e, version); err != nil {
			t.Fatal(err)
		}
	}
	// reported answers reports until one has the percentage.
	reported := func(percent float64) *fleetv1.Report {
		t.Helper()
		for {
			report := <-reports
			if report.GetRollout().GetRollout().GetPercent() == percent && report.GetRevision() == session.Last().GetRevision() {
				return report
			}
			a, err := session.Admit(report, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if err := operator.Admit(t.Context(), report.GetExecutorId(), a); err != nil {
				t.Fatal(err)
			}
		}
	}
	change(100)
	if report := reported(100); report.GetTrouble() != "" || report.GetSession() == "" || report.GetExecutorId() == "" {
		t.Errorf("the report is %v", report)
	}
	decisions, rollouts := executorv1.NewDecisionServiceClient(r.Conn), executorv1.NewRolloutServiceClient(r.Conn)
	decide := func() *executorv1.PredictWithShadowResponse {
		t.Helper()
		resp, err := decisions.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Vector: vector()})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	if decide().GetShadow() == nil {
		t.Error("at 100 % a decision has no shadow")
	}
	if _, err := rollouts.SetRollout(t.Context(), observe(50)); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "desk-a") {
		t.Errorf("a direct change: %v", err)
	}
	if _, page := r.Get("/metrics"); !strings.Contains(page, "\nml_fleet_connected{group=\"desk-a\"} 1\n") || !strings.Contains(page, "\nml_fleet_refused_total{reason=\"conflict\"} 0\n") {
		t.Errorf("the metrics do not have the fleet:\n%s", page)
	}
	nats.Kill(0) // the lease goes on, and decisions do
	if decide().GetShadow() == nil {
		t.Error("a decision without NATS has no shadow")
	}
	if _, err := rollouts.AbortRollout(t.Context(), &executorv1.AbortRolloutRequest{Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	if decide().GetShadow() != nil {
		t.Error("a decision after an abort has a shadow")
	}
	if code, body := r.Get("/readyz"); code != 200 || !strings.Contains(body, "group desk-a") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	nats.Restart(0)
	report := reported(0) // the record counts no longer, though NATS has it
	if !strings.Contains(report.GetTrouble(), "aborted") {
		t.Errorf("the trouble is %q", report.GetTrouble())
	}
	session = group.NewSession("desk-a", "test", signer, time.Now()) // another run
	change(99)
	reported(99)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}
