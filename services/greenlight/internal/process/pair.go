package process

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/model"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

const (
	// StopGrace is how long a service may take to drain before it is killed. The services allow themselves 10 s.
	StopGrace = 12 * time.Second
	// firstShadow is the limit of [AwaitShadow]. It is longer than the breaker stays open, because the first calls on a busy
	// machine may open it.
	firstShadow = time.Minute
)

// Listen holds the addresses of a service. Empty addresses mean free ports of the loopback interface.
type Listen struct{ GRPC, HTTP string }

func (l Listen) flags() []string {
	const free = "127.0.0.1:0"
	return []string{"--grpc-addr", cmp.Or(l.GRPC, free), "--http-addr", cmp.Or(l.HTTP, free)}
}

// Services starts services for one model. All fields are required.
type Services struct {
	// Programs is the folder of the programs ml-engine and executor, Models the registry folder with Artifact.
	Programs, Models string
	Artifact         *model.Artifact
}

// Engine starts an ml-engine that serves the model. Its log goes to dir.
func (s Services) Engine(ctx context.Context, dir string, at Listen, flags ...string) (*Process, error) {
	m := s.Artifact.Manifest
	args := append([]string{"--models", s.Models, "--model", m.Name + "/" + m.Version}, at.flags()...)
	return Start(ctx, filepath.Join(s.Programs, "ml-engine"), dir, append(args, flags...)...)
}

// Executor starts an executor that decides by the model's baseline and sends its shadows to the address engine. Its log goes
// to dir.
func (s Services) Executor(ctx context.Context, dir, engine string, at Listen, flags ...string) (*Process, error) {
	m := s.Artifact.Manifest
	args := append([]string{
		"--baseline", "heuristic=" + filepath.Join(s.Models, m.Name, m.Version, model.BaselineFile), "--engine-addr", engine,
	}, at.flags()...)
	return Start(ctx, filepath.Join(s.Programs, "executor"), dir, append(args, flags...)...)
}

// FindPrograms returns the folder of the services' programs: dir, or the folder of this program if dir is empty.
func FindPrograms(dir string) (string, error) {
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		dir = filepath.Dir(self)
	}
	for _, name := range []string{"ml-engine", "executor"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// AwaitShadow sends the state until its shadow is answered, so that connections and caches are warm. It returns the number of
// requests sent.
func AwaitShadow(ctx context.Context, decisions executorv1.DecisionServiceClient, state traffic.State) (sent int, err error) {
	ctx, cancel := context.WithTimeout(ctx, firstShadow)
	defer cancel()
	for {
		sent++
		resp, err := decisions.PredictWithShadow(ctx, state.Request(), grpc.WaitForReady(true))
		if err != nil {
			return sent, fmt.Errorf("warm up the executor: %w", err)
		}
		if resp.GetShadow() != nil {
			return sent, nil
		}
		if !traffic.Pause(ctx, 20*time.Millisecond) {
			return sent, fmt.Errorf("warm up the executor: no shadow within %v: %s", firstShadow, resp.GetShadowError())
		}
	}
}
