package serve_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/serve"
)

type options struct{ addr string }

func declare(fs *flag.FlagSet) *options {
	o := &options{}
	fs.StringVar(&o.addr, "grpc-addr", "default", "`address`")
	return o
}

func TestMainProgram(t *testing.T) {
	for name, tt := range map[string]struct {
		args   []string
		env    map[string]string
		run    error
		code   int
		addr   string // the address that run got; empty if it did not run
		stderr string
		stdout string
	}{
		"defaults":                        {addr: "default"},
		"a flag":                          {args: []string{"--grpc-addr", "flag"}, addr: "flag"},
		"the environment":                 {env: map[string]string{"ML_ENGINE_GRPC_ADDR": "env"}, addr: "env"},
		"a flag is stronger":              {args: []string{"--grpc-addr=flag"}, env: map[string]string{"ML_ENGINE_GRPC_ADDR": "env"}, addr: "flag"},
		"log flags":                       {args: []string{"--log-level=debug", "--log-format=json"}, addr: "default"},
		"help":                            {args: []string{"-h"}, stderr: "-log-level"},
		"an unknown flag":                 {args: []string{"--grcp-addr", "x"}, code: serve.ExitUsage, stderr: "grcp-addr"},
		"an argument":                     {args: []string{"serve"}, code: serve.ExitUsage, stderr: `unexpected argument "serve"`},
		"a wrong level":                   {args: []string{"--log-level=loud"}, code: serve.ExitUsage, stderr: `log level "loud"`},
		"a wrong format":                  {args: []string{"--log-format=xml"}, code: serve.ExitUsage, stderr: `log format "xml"`},
		"a wrong value":                   {run: fmt.Errorf("--x: %w", serve.Usage(errors.New("want 1"))), code: serve.ExitUsage, addr: "default", stderr: "--x: want 1\nml-engine -h lists the flags"},
		"the version":                     {args: []string{"--version"}, stdout: "ml-engine devel, commit "},
		"the version, and more":           {args: []string{"--grpc-addr", "x", "-version"}, stdout: "ml-engine devel, commit "},
		"a variable that is not the flag": {env: map[string]string{"ML_ENGINE_VERSION": "v1.2"}, addr: "default"},
		"a failure of the run":            {run: errors.New("port taken"), code: serve.ExitFailure, addr: "default", stderr: "ml-engine: port taken\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			var stdout, stderr strings.Builder
			addr := ""
			code := serve.Main(t.Context(), "ml-engine", tt.args, &stdout, &stderr, declare,
				func(_ context.Context, o *options, logger *slog.Logger) error {
					addr = o.addr
					logger.Info("runs")
					return tt.run
				})
			if code != tt.code || addr != tt.addr {
				t.Errorf("got exit %d with %q, want %d with %q (%s)", code, addr, tt.code, tt.addr, &stderr)
			}
			if !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("stderr: got %q, want %q in it", &stderr, tt.stderr)
			}
			if !strings.HasPrefix(stdout.String(), tt.stdout) || tt.stdout == "" && stdout.Len() > 0 {
				t.Errorf("stdout: got %q, want %q", &stdout, tt.stdout)
			}
			if tt.code == serve.ExitUsage && strings.Count(stderr.String(), tt.stderr) != 1 {
				t.Errorf("stderr says it more than once: %q", &stderr)
			}
		})
	}
}

// A service works and ends even if its standard error is not read.
func TestStuckLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unread, stderr := io.Pipe()
		defer unread.Close()
		start, worked := time.Now(), time.Duration(-1)
		code := serve.Main(t.Context(), "ml-engine", nil, io.Discard, stderr, declare, func(_ context.Context, _ *options, logger *slog.Logger) error {
			for i := range 5000 {
				logger.Info("works", "i", i)
				logger.Info(fmt.Sprint("works-", i)) //nolint:sloglint // more messages than the limit per message lets pass
			}
			worked = time.Since(start)
			return nil
		})
		if code != serve.ExitOK || worked != 0 {
			t.Errorf("exit code %d, and the service waited for %v", code, worked)
		}
	})
}
