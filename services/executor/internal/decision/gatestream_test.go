package decision_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/gate"
)

// onlySymbol lets the model decide only the symbol S, and requests wait up to 50 ms for it.
func onlySymbol(r *executorv1.SetRolloutRequest) {
	r.Gate.AllSymbols, r.Gate.Symbols, r.Gate.WaitBudget = false, []string{"S"}, durationpb.New(50*time.Millisecond)
}

// send sends messages of the symbol, with the next sequences.
func (e *executor) send(stream decideStream, from, n int, symbol string) {
	e.t.Helper()
	for i := range n {
		r := e.calmNow(fmt.Sprint(from + i))
		r.Symbol = symbol
		if err := stream.Send(&executorv1.DecideRequest{Sequence: uint64(from + i), Request: r}); err != nil {
			e.t.Fatal(err)
		}
	}
}

// drain reads the answers until the stream ends.
func drain(t *testing.T, stream decideStream) (answers []*executorv1.DecideResponse, end error) {
	t.Helper()
	for {
		got, err := stream.Recv()
		if err != nil {
			return answers, err
		}
		answers = append(answers, got)
	}
}

// Answers that do not wait for the model overtake those that do.
func TestGateStreamOvertakes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := behindGate(t, dir, enginetest.Options{}, onlySymbol)
		e.engine.Break(enginetest.Delay(20 * time.Millisecond))
		stream, begin := e.decides(t.Context()), time.Now()
		e.send(stream, 0, 1, "S")
		e.send(stream, 1, 1, "T")
		e.send(stream, 2, 1, "S")
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		answers, err := drain(t, stream)
		if !errors.Is(err, io.EOF) || len(answers) != 3 || answers[0].GetSequence() != 1 {
			t.Fatalf("got %v, %v", answers, err)
		}
		if took := time.Since(begin); took < 20*time.Millisecond || took > 50*time.Millisecond {
			t.Errorf("took %v", took)
		}
		for _, a := range answers {
			g := a.GetResponse().GetGate()
			if byModel := g.GetDecidedBy() == executorv1.Decider_DECIDER_MODEL; byModel != (a.GetSequence() != 1) {
				t.Errorf("message %d: %v", a.GetSequence(), g)
			}
		}
		e.decisions()
	})
}

// At most 64 messages of a stream wait for the model, and the others wait in the stream. All are answered before it ends.
func TestGateStreamIsBounded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := behindGate(t, dir, enginetest.Options{}, onlySymbol)
		e.engine.Break(enginetest.Hang())
		stream := e.decides(t.Context())
		e.send(stream, 0, 150, "S")
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		for i, want := range []uint64{64, 128, 150, 150} {
			synctest.Wait()
			if r, _ := e.report(); r.GetRequestsTotal() != want {
				t.Errorf("after %d wait budgets: %d messages were begun, want %d", i, r.GetRequestsTotal(), want)
			}
			time.Sleep(50 * time.Millisecond)
		}
		answers, err := drain(t, stream)
		if !errors.Is(err, io.EOF) || len(answers) != 150 {
			t.Fatalf("%d answers, %v", len(answers), err)
		}
		seen := map[uint64]bool{}
		for _, a := range answers {
			r := e.decisionOf(a)
			if seen[a.GetSequence()] || r == "" {
				t.Errorf("message %d: %v", a.GetSequence(), a)
			}
			seen[a.GetSequence()] = true
		}
		e.decisions()
	})
}

// decisionOf returns the reason of an answer's decision; none if the model decided.
func (e *executor) decisionOf(a *executorv1.DecideResponse) string {
	r := a.GetResponse()
	if r == nil {
		e.t.Fatalf("message %d: %v", a.GetSequence(), a)
	}
	if r.GetGate().GetDecidedBy() == executorv1.Decider_DECIDER_MODEL {
		return ""
	}
	if math.Float64bits(r.GetScore()) != math.Float64bits(r.GetGate().GetBaselineScore()) {
		e.t.Errorf("message %d: %v", a.GetSequence(), a)
	}
	return reasonWord(r.GetGate().GetFallbackReason())
}

// A stop answers the messages that wait, and then ends the stream.
func TestGateStreamStops(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := behindGate(t, dir, enginetest.Options{}, onlySymbol)
		e.engine.Break(enginetest.Delay(20 * time.Millisecond))
		stream, begin := e.decides(t.Context()), time.Now()
		e.send(stream, 0, 30, "S")
		synctest.Wait()
		e.service.EndStreams()
		answers, err := drain(t, stream)
		wantReason(t, err, codes.Unavailable, "STOPPING")
		if len(answers) != 30 || time.Since(begin) > 50*time.Millisecond {
			t.Errorf("%d answers after %v", len(answers), time.Since(begin))
		}
		e.decisions()
	})
}

// A client that does not read delays a stop by one second, even with waiting messages, and no goroutine is left.
func TestGateStreamSlowReader(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := behindGate(t, dir, enginetest.Options{}, onlySymbol)
		ctx, cancel := context.WithCancel(t.Context())
		slow := e.decides(ctx)
		m := &executorv1.DecideRequest{Request: e.calmNow("slow")}
		sent := 0
		for before := -1; before != sent; {
			before = sent
			sent += e.fill(slow, m)
			time.Sleep(time.Second)
		}
		e.service.EndStreams()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		answers, err := drain(t, slow)
		wantReason(t, err, codes.Unavailable, "STOPPING")
		if r, _ := e.report(); r.GetRequestsTotal()-uint64(len(answers)) > 65 {
			t.Errorf("%d messages were decided on and %d answered", r.GetRequestsTotal(), len(answers))
		}
		e.decisions()
		cancel()
	})
}

// panics is a rollout whose bug appears only while a message waits for the model.
type panics struct {
	gate.Rollout

	calls atomic.Int64
}

func (p *panics) Gate(at time.Time) gate.Standing {
	if p.calls.Add(1) == 2 {
		panic("a bug")
	}
	return p.Rollout.Gate(at)
}

// A panic of a waiting message ends its stream like any other panic.
func TestGateStreamPanic(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := behindGate(t, dir, enginetest.Options{}, onlySymbol)
		e.engine.Break(enginetest.Hang())
		e.gate.Govern(&panics{Rollout: e.rollouts})
		stream := e.decides(t.Context())
		e.send(stream, 0, 1, "S")
		if answers, err := drain(t, stream); status.Code(err) != codes.Internal || len(answers) != 0 {
			t.Errorf("got %v, %v; want INTERNAL", answers, err)
		}
		if n := counter(t, e.reg, "grpc_server_panics_recovered_total"); n != 1 {
			t.Errorf("%v panics are counted, want 1", n)
		}
		time.Sleep(timeout)
	})
}

// For random messages, faults, kills and ends of the stream, every decided message has one answer in time, which is the model's only
// while the gate is open.
func TestGateStreamModel(t *testing.T) {
	byModel, ends := 0, map[string]int{}
	for seed := range uint64(6) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			e := behindGate(t, dir, enginetest.Options{}, onlySymbol)
			e.rng = rand.New(rand.NewPCG(seed, 5))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream := e.decides(ctx)
			type answer struct {
				*executorv1.DecideResponse

				at time.Time
			}
			var answers []answer
			var answered atomic.Int64
			end := make(chan error)
			go func() {
				for {
					got, err := stream.Recv()
					if err != nil {
						end <- err
						return
					}
					answers = append(answers, answer{got, time.Now()})
					answered.Add(1)
				}
			}()
			sent := map[uint64]time.Time{}
			model := map[uint64]bool{} // whether the model may decide
			killed := false
			for len(sent) < 300 {
				switch k := e.rng.IntN(100); {
				case k < 60 && len(sent)-int(answered.Load()) < 64: // so that none waits for a place
					n := uint64(len(sent))
					r := e.calmNow(fmt.Sprint(n))
					r.Symbol = []string{"S", "S", "T"}[e.rng.IntN(3)]
					m := &executorv1.DecideRequest{Sequence: n, Request: r}
					if e.rng.IntN(5) == 0 {
						m.Deadline = timestamppb.New(time.Now().Add(time.Duration(e.rng.IntN(60)) * time.Millisecond))
					}
					sent[n], model[n] = time.Now(), r.GetSymbol() == "S" && !killed
					if err := stream.Send(m); err != nil {
						t.Fatal(err)
					}
				case k < 95:
					time.Sleep(time.Duration(e.rng.IntN(20_000)) * time.Microsecond)
				case k < 99:
					e.engine.Break(faults[e.rng.IntN(len(faults))].fault)
				case e.rng.IntN(4) == 0:
					synctest.Wait() // the messages so far have begun, and waiting ones get the baseline
					killed = true
					if err := e.gate.Kill("test", "", ""); err != nil {
						t.Fatal(err)
					}
				}
			}
			how := []string{"half-close", "cancel", "stop"}[seed%3]
			ends[how]++
			switch how {
			case "half-close":
				if err := stream.CloseSend(); err != nil {
					t.Fatal(err)
				}
			case "cancel":
				cancel()
			case "stop":
				synctest.Wait()
				e.service.EndStreams()
			}
			if err := <-end; errors.Is(err, io.EOF) != (how == "half-close") {
				t.Fatalf("seed %d: %s: %v", seed, how, err)
			}
			seen := map[uint64]bool{}
			for _, a := range answers {
				n := a.GetSequence()
				if seen[n] {
					t.Fatalf("seed %d: message %d was answered twice", seed, n)
				}
				seen[n] = true
				if f := a.GetError(); f != nil {
					if f.GetReason() != "EXPIRED" {
						t.Fatalf("seed %d: %v", seed, f)
					}
					continue
				}
				if e.decisionOf(a.DecideResponse) == "" {
					byModel++
					if !model[n] {
						t.Errorf("seed %d: message %d was decided by the model", seed, n)
					}
				}
				if took := a.at.Sub(sent[n]); took > 50*time.Millisecond {
					t.Errorf("seed %d: message %d took %v", seed, n, took)
				}
			}
			if how != "cancel" && len(answers) != len(sent) {
				t.Errorf("seed %d: %d messages, %d answers", seed, len(sent), len(answers))
			}
			time.Sleep(timeout)
			synctest.Wait()
			e.decisions()
		})
	}
	if byModel < 100 {
		t.Errorf("the model decided %d times: too few to tell", byModel)
	}
	t.Log(byModel, ends)
}

// If a stream is canceled, its waiting messages are decided immediately by the baseline.
func TestGateStreamCanceled(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := behindGate(t, dir, enginetest.Options{}, onlySymbol)
		e.engine.Break(enginetest.Delay(25 * time.Millisecond)) // two calls one after the other fit into the 60 ms of a shadow
		ctx, cancel := context.WithCancel(t.Context())
		stream := e.decides(ctx)
		e.send(stream, 0, 20, "S")
		synctest.Wait()
		cancel()
		synctest.Wait()
		if got := e.decisions(); got["canceled"] != 20 {
			t.Errorf("got %v, want 20 canceled", got)
		}
		time.Sleep(timeout)
		_, outcomes := e.report()
		if outcomes["match"]+outcomes["mismatch"] != 20 {
			t.Errorf("the shadows ended as %v, want all compared", outcomes)
		}
	})
}
