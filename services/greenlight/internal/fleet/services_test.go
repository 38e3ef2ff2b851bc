package fleet

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// rollouts records the tokens of the calls.
type rollouts struct {
	executorv1.UnimplementedRolloutServiceServer

	tokens []string
}

func (r *rollouts) GetRollout(ctx context.Context, _ *executorv1.GetRolloutRequest) (*executorv1.GetRolloutResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	r.tokens = append(r.tokens, strings.Join(md.Get("authorization"), ","))
	return &executorv1.GetRolloutResponse{}, nil
}

// serve returns the address of a server.
func serve(t *testing.T, r *rollouts) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	executorv1.RegisterRolloutServiceServer(s, r)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// The token is read again for every call and sent with it. If it cannot be read, no call is made.
func TestToken(t *testing.T) {
	t.Parallel()
	r := &rollouts{}
	file := filepath.Join(t.TempDir(), "token")
	p, err := Dial(Options{Access: Access{TokenFile: file}, Executors: []string{serve(t, r)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	call := func(token string) error {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := p.Executors[0].Rollouts.GetRollout(t.Context(), &executorv1.GetRolloutRequest{})
		return err
	}
	if err := errors.Join(call("one-of-many-tokens\n"), call("two-of-many-tokens")); err != nil {
		t.Fatal(err)
	}
	if err := call(" \n"); err == nil || !strings.Contains(Plain(err).Error(), "no token in the file") {
		t.Errorf("an empty token: %v", err)
	}
	if got := strings.Join(r.tokens, "; "); got != "Bearer one-of-many-tokens; Bearer two-of-many-tokens" {
		t.Errorf("the server saw %q", got)
	}
}

func TestDialNobody(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Engines: []string{""}}, {Engines: []string{"a:1", " "}}, {Executors: []string{"127.0.0.1:1", "127.0.0.1:1"}}, {Executors: []string{"%%%"}}} {
		if p, err := Dial(o); err == nil {
			t.Errorf("%+v: connected to %+v", o, p)
		}
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	err := Plain(status.Error(codes.NotFound, "no such model"))
	if err.Error() != "NotFound: no such model" || status.Code(err) != codes.NotFound {
		t.Errorf("%v, code %v", err, status.Code(err))
	}
	if wrapped := Plain(errors.Join(err, nil)); wrapped.Error() != err.Error() {
		t.Errorf("wrapped: %v", wrapped)
	}
	other := errors.New("no status")
	if Plain(nil) != nil || !errors.Is(Plain(other), other) {
		t.Error("an error without a status must stay unchanged")
	}
}
