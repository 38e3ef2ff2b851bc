package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// scripted is a sidecar whose streams do what a test wants.
type scripted struct {
	executorv1.UnimplementedDecisionServiceServer

	received atomic.Int64
	opened   atomic.Int64
	script   func(stream executorv1.DecisionService_DecideServer) error
}

func (s *scripted) Decide(stream executorv1.DecisionService_DecideServer) error {
	s.opened.Add(1)
	return s.script(counting{stream, &s.received})
}

type counting struct {
	executorv1.DecisionService_DecideServer

	received *atomic.Int64
}

func (c counting) Recv() (*executorv1.DecideRequest, error) {
	m, err := c.DecisionService_DecideServer.Recv()
	if err == nil {
		c.received.Add(1)
	}
	return m, err
}

// reply answers a message with its id.
func reply(m *executorv1.DecideRequest) *executorv1.DecideResponse {
	return &executorv1.DecideResponse{Sequence: m.GetSequence(), Result: &executorv1.DecideResponse_Response{
		Response: &executorv1.PredictResponse{RequestId: m.GetRequest().GetRequestId()},
	}}
}

// echo answers messages in turn. Each of its first n streams ends after one message.
func echo(n int64) func(*scripted) {
	return func(s *scripted) {
		s.script = func(stream executorv1.DecisionService_DecideServer) error {
			for {
				m, err := stream.Recv()
				if err != nil {
					return err
				}
				if s.opened.Load() <= n {
					return status.Error(codes.Unavailable, "stopping")
				}
				if err := stream.Send(reply(m)); err != nil {
					return err
				}
			}
		}
	}
}

// silent never answers.
func silent(s *scripted) {
	s.script = func(stream executorv1.DecisionService_DecideServer) error {
		for {
			if _, err := stream.Recv(); err != nil {
				return err
			}
		}
	}
}

// open returns a decider of the sidecar. It must run in a synctest bubble.
func open(t *testing.T, set func(*scripted)) (*decider, *scripted) {
	t.Helper()
	s := &scripted{}
	set(s)
	l := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	executorv1.RegisterDecisionServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///bufnet", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDecider(context.WithoutCancel(t.Context()), executorv1.NewDecisionServiceClient(conn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.close()
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if n := len(d.unanswered); n != 0 {
			t.Errorf("%d messages are left", n)
		}
	})
	return d, s
}

func request(id string) *executorv1.PredictRequest { return &executorv1.PredictRequest{RequestId: id} }

// Answers are matched to callers by sequence, whatever their order.
func TestAnswersAreMatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t, func(s *scripted) {
			s.script = func(stream executorv1.DecisionService_DecideServer) error {
				for {
					var batch []*executorv1.DecideRequest
					for range 8 {
						m, err := stream.Recv()
						if err != nil {
							return err
						}
						batch = append(batch, m)
					}
					_ = stream.Send(&executorv1.DecideResponse{Sequence: 1 << 40}) // for no message
					for _, m := range slices.Backward(batch) {
						if err := stream.Send(reply(m)); err != nil {
							return err
						}
						_ = stream.Send(reply(m)) // a second answer
					}
				}
			}
		})
		var callers sync.WaitGroup
		for caller := range 8 {
			callers.Go(func() {
				for i := range 100 {
					id := fmt.Sprintf("%d-%d", caller, i)
					if got, err := d.decide(t.Context(), request(id)); err != nil || got.GetRequestId() != id {
						t.Errorf("%s: got %v, %v", id, got, err)
					}
				}
			})
		}
		callers.Wait()
	})
}

// Only the caller of a failed message gets its error.
func TestFailuresOfMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t, func(s *scripted) {
			s.script = func(stream executorv1.DecisionService_DecideServer) error {
				for {
					m, err := stream.Recv()
					if err != nil {
						return err
					}
					a := reply(m)
					if m.GetRequest().GetRequestId() == "bad" {
						a.Result = &executorv1.DecideResponse_Error{Error: &executorv1.DecideError{
							Code: int32(codes.InvalidArgument), Reason: "FEATURE_MISSING", Message: "the baseline needs rsi14_z",
						}}
					}
					if err := stream.Send(a); err != nil {
						return err
					}
				}
			}
		})
		for range 3 {
			_, err := d.decide(t.Context(), request("bad"))
			if s := status.Convert(err); s.Code() != codes.InvalidArgument || s.Message() != "FEATURE_MISSING the baseline needs rsi14_z" {
				t.Errorf("got %v", err)
			}
			if got, err := d.decide(t.Context(), request("good")); err != nil || got.GetRequestId() != "good" {
				t.Errorf("got %v, %v", got, err)
			}
		}
	})
}

// At most 64 messages are unanswered, even if nobody waits for them any more.
func TestAtMost64Unanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := open(t, silent)
		var callers sync.WaitGroup
		for range 200 {
			callers.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := d.decide(ctx, request("r")); status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("got %v", err)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if n := s.received.Load(); n != maxUnanswered {
			t.Errorf("%d messages were sent, want %d", n, maxUnanswered)
		}
	})
}

// The deadline travels with the message. A late answer is dropped and frees its slot.
func TestLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deadlines := make(chan time.Time, 1)
		d, _ := open(t, func(s *scripted) {
			s.script = func(stream executorv1.DecisionService_DecideServer) error {
				for {
					m, err := stream.Recv()
					if err != nil {
						return err
					}
					deadlines <- m.GetDeadline().AsTime()
					time.Sleep(10 * time.Millisecond)
					if err := stream.Send(reply(m)); err != nil {
						return err
					}
				}
			}
		})
		for range 2 * maxUnanswered {
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			if _, err := d.decide(ctx, request("late")); status.Code(err) != codes.DeadlineExceeded || time.Since(begin) != 5*time.Millisecond {
				t.Fatalf("got %v after %v", err, time.Since(begin))
			}
			cancel()
			time.Sleep(10 * time.Millisecond)
			if got := <-deadlines; !got.Equal(begin.Add(5 * time.Millisecond)) {
				t.Fatalf("the sidecar got the deadline %v, want %v", got, begin.Add(5*time.Millisecond))
			}
		}
	})
}

// Messages that a stream leaves unanswered fail, and are not sent again. The next stream is opened after a pause, which grows
// until streams answer again.
func TestStreamsThatEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := open(t, echo(5))
		for i := range int64(5) {
			for { // until there is a stream
				if _, err := d.decide(t.Context(), request("lost")); status.Code(err) != codes.Unavailable {
					t.Fatalf("got %v, want UNAVAILABLE", err)
				}
				synctest.Wait()
				if s.received.Load() == i+1 {
					break
				}
				time.Sleep(time.Millisecond)
			}
		}
		if n := s.received.Load(); n != 5 {
			t.Errorf("%d messages were sent, want 5", n)
		}
		begin := time.Now()
		for {
			got, err := d.decide(t.Context(), request("found"))
			if err == nil && got.GetRequestId() == "found" {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(begin); took < 400*time.Millisecond || took > maxBackoff {
			t.Errorf("the sixth stream was opened after %v", took)
		}
		if n := s.opened.Load(); n != 6 {
			t.Errorf("%d streams were opened, want 6", n)
		}
	})
}

// Closing fails pending decisions immediately.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := open(t, silent)
		begin := time.Now()
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				if _, err := d.decide(t.Context(), request("r")); status.Code(err) != codes.Canceled {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		d.close()
		callers.Wait()
		if took := time.Since(begin); took != 0 {
			t.Errorf("closing took %v", took)
		}
		if _, err := d.decide(t.Context(), request("r")); status.Code(err) != codes.Unavailable {
			t.Errorf("after the end: got %v", err)
		}
	})
}
