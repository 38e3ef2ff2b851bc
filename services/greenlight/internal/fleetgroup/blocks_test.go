package fleetgroup

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/group/grouptest"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	"github.com/greenlight-ml/greenlight/pkg/testkit/outcometest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// publish stores records of an executor, in pages of 7.
func publish(t *testing.T, c group.Carrier, id string, plan outcome.Plan, records []outcome.Record) {
	t.Helper()
	for i := 0; i < len(records); i += 7 {
		q := &executorv1.GetQualityReportResponse{
			ExecutorId: id, ModelDigest: modelDigest, BaselineDigest: baselineDigest, Plan: wire.Plan(plan), Labels: &executorv1.LabelCounts{Matured: uint64(i)},
		}
		for j := i; j < min(i+7, len(records)); j++ {
			q.Records = append(q.Records, wire.Record(&records[j]))
		}
		raw, err := proto.Marshal(&fleetv1.Blocks{Group: "desk-a", Quality: q})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.PublishBlocks(t.Context(), id, string(raw), raw); err != nil {
			t.Fatal(err)
		}
	}
}

// The stored records of all executors are judged, including those of one that is gone, and are exactly the records that were
// published.
func TestQuality(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		plan := outcometest.Plan()
		d := newDesk(t)
		carrier := d.net.Carrier()
		g, err := Open(Options{Group: "desk-a", Carrier: d.net.Carrier()})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		want := map[string][]outcome.Record{}
		for _, id := range []string{"a", "b", "gone"} {
			key := outcome.Key{Executor: id, Model: modelDigest, Baseline: baselineDigest, Plan: plan.Digest()}
			want[id] = outcometest.Records(plan, key, time.Now(), 120, outcometest.Equal)
			publish(t, carrier, id, plan, want[id])
			publish(t, carrier, id, plan, want[id][:7]) // again
		}
		r := report("a", "p", 1)
		r.Rollout.Rollout.Plan = wire.Plan(plan)
		r2 := proto.CloneOf(r)
		r2.ExecutorId, r2.InstanceId = "b", "q"
		for _, one := range []*fleetv1.Report{r, r2} {
			g.Take(raw(t, one), time.Now())
		}
		all, err := g.Recorders(t.Context())
		if err != nil || len(all) != 3 || all[2].Addr != "gone" {
			t.Fatalf("got %d executors, %v", len(all), err)
		}
		var every []outcome.Record
		for _, e := range all {
			q, err := e.Quality(t.Context(), "", "", "")
			if err != nil {
				t.Fatal(err)
			}
			if len(q.Records) != len(want[e.Addr]) {
				t.Fatalf("executor %s: %d records, want %d", e.Addr, len(q.Records), len(want[e.Addr]))
			}
			for i := range q.Records {
				if !proto.Equal(wire.Record(&q.Records[i]), wire.Record(&want[e.Addr][i])) {
					t.Errorf("executor %s: record %d differs", e.Addr, i)
				}
			}
			every = append(every, want[e.Addr]...)
		}
		live, err := quality.FromExecutors(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		if own := quality.Summarize(plan, every); live.Judgment.Verdict != own.Verdict || live.Judgment.Verdict != outcome.Pass {
			t.Errorf("the group: %s, all records: %s", live.Judgment.Verdict, own.Verdict)
		}
		records := fleet.NewRecords(g.Recorders, modelDigest, baselineDigest, plan)
		if more, err := records.Read(t.Context()); err != nil || !more || len(records.All()) != len(every) {
			t.Errorf("%d records, %v", len(records.All()), err)
		}
		if more, err := records.Read(t.Context()); err != nil || more {
			t.Errorf("nothing is new: %v, %v", more, err)
		}
		changed := want["a"][50]
		changed.SumD++
		publish(t, carrier, "a", plan, []outcome.Record{changed})
		time.Sleep(blocksAge + time.Second)
		g.Take(raw(t, report("a", "p", 2)), time.Now())
		if _, err := g.quality(t.Context(), "a", &executorv1.GetQualityReportRequest{ModelDigest: modelDigest, BaselineDigest: baselineDigest, PlanDigest: plan.Digest()}); status.Code(err) != codes.DataLoss {
			t.Errorf("two records of one block: %v", err)
		}
	})
}

// Messages that cannot be blocks are left out and counted in the log, once.
func TestBlocksLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		plan := outcometest.Plan()
		d := newDesk(t)
		var log bytes.Buffer
		g, err := Open(Options{Group: "desk-a", Carrier: d.net.Carrier(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		carrier := d.net.Carrier()
		key := outcome.Key{Executor: "a", Model: modelDigest, Baseline: baselineDigest, Plan: plan.Digest()}
		publish(t, carrier, "a", plan, outcometest.Records(plan, key, time.Now(), 3, outcometest.Equal))
		for i, b := range []*fleetv1.Blocks{
			{Group: "other", Quality: &executorv1.GetQualityReportResponse{ExecutorId: "a"}},
			{Group: "desk-a", Quality: &executorv1.GetQualityReportResponse{ExecutorId: "a b"}},
			{Group: "desk-a", Quality: &executorv1.GetQualityReportResponse{ExecutorId: "a", ModelDigest: strings.Repeat("f", maxDigest+1)}},
			{Group: "desk-a", Quality: &executorv1.GetQualityReportResponse{ExecutorId: "a", InstanceId: strings.Repeat("x", group.MaxBlocks)}},
		} {
			raw, err := proto.Marshal(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := carrier.PublishBlocks(t.Context(), "a", fmt.Sprint(i), raw); err != nil {
				t.Fatal(err)
			}
		}
		if err := carrier.PublishBlocks(t.Context(), "a", "unreadable", []byte{0xff}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			all, err := g.load(t.Context())
			if err != nil || len(all) != 1 || all[blockKey{"a", modelDigest, baselineDigest, plan.Digest()}] == nil {
				t.Fatalf("%d sets of records, %v", len(all), err)
			}
			if got := log.String(); strings.Count(got, "left out") != 1 || !strings.Contains(got, `messages=5 first="it is of group \"other\""`) {
				t.Errorf("the log is %s", got)
			}
			time.Sleep(2 * blocksAge)
		}
	})
}

// If blocks cannot be read, that is an error, and they are read again later.
func TestQualityUnread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, "a")
		defer d.end()
		g := d.open(t)
		defer g.Close()
		d.net.SetFaults(grouptest.Faults{Fail: 1})
		e := g.Executors()[0]
		if _, err := e.Quality(t.Context(), "", "", ""); err == nil || !strings.Contains(err.Error(), "the stored blocks cannot be read") {
			t.Errorf("got %v", err)
		}
		d.net.Heal()
		if q, err := e.Quality(t.Context(), "", "", ""); err != nil || q.Model != modelDigest || len(q.Records) != 0 {
			t.Errorf("got %+v, %v", q, err)
		}
	})
}
