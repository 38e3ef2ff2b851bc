package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/operator"
)

// monitoring is a Prometheus that scrapes the executor every second.
type monitoring struct {
	*operator.Command
	addr string
}

func (s *stage) monitor(ctx context.Context) (*monitoring, error) {
	if s.Prometheus == "" {
		return nil, fmt.Errorf("%w: prometheus is not installed (Debian: apt-get install prometheus)", errNotPlayed)
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s}\nscrape_configs:\n  - job_name: executor\n    static_configs: [{targets: ['%s']}]\n", s.executor.Addr("http"))
	if err := os.WriteFile(filepath.Join(s.Dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0") // Prometheus does not report the port that it chose
		if err != nil {
			return nil, err
		}
		m := &monitoring{addr: l.Addr().String()}
		if err := l.Close(); err != nil {
			return nil, err
		}
		// Another program may have taken the port.
		if err := s.serve(ctx, m); !errors.Is(err, errEnded) || try == monitorTries {
			return m, err
		}
	}
}

// monitorTries bounds the number of ports tried.
const monitorTries = 5

var errEnded = errors.New("prometheus has ended: see its log")

// serve starts it, and waits until it has scraped.
func (s *stage) serve(ctx context.Context, m *monitoring) (err error) {
	m.Command, err = s.Spawn(s.Prometheus, "prometheus", "--config.file="+filepath.Join(s.Dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(s.Dir, "prometheus"), "--web.listen-address="+m.addr)
	if err != nil {
		return err
	}
	source, err := fleet.NewPrometheus(fleet.PrometheusOptions{URL: m.url(), Match: fleet.DefaultMatch}, 1)
	if err != nil {
		return err
	}
	return s.await(ctx, "the first scrape", func() (bool, error) {
		if m.Ended() {
			return false, errEnded
		}
		_, err := source.Read(ctx)
		return err == nil, nil
	})
}

func (m *monitoring) url() string { return "http://" + m.addr }

func prometheusDown(ctx context.Context, s *stage) (string, error) {
	m, err := s.monitor(ctx)
	if err != nil {
		return "", err
	}
	c, err := s.startTo(ctx, 1, "--prometheus", m.url())
	if err == nil {
		err = m.Kill()
	}
	if err != nil {
		return "", err
	}
	// The time of the phase is over, but the phase has not ended.
	held, err := s.awaitEvent(ctx, c, "a phase that is held without Prometheus", func(e canary.Event) bool {
		return e.Kind == canary.Held && e.Phase == 1 && strings.Contains(e.Reason, m.url())
	})
	if err != nil {
		return "", err
	}
	_, err = s.awaitEvent(ctx, c, "a verdict without Prometheus", func(e canary.Event) bool {
		return e.Kind == canary.Polled && !e.Time.Before(held.Time) && e.Poll.Verdict == gate.Error
	})
	if err != nil {
		return "", err
	}
	if p, err := s.percent(ctx); err != nil || p != held.Percent {
		return "", errors.Join(err, fmt.Errorf("%g %% while it is held", p))
	}
	if err := s.serve(ctx, m); err != nil {
		return "", err
	}
	if _, err := s.finished(ctx, c, canary.Passed); err != nil {
		return "", err
	}
	return "ERROR and held while it was down; PASSED once it was back", nil
}
