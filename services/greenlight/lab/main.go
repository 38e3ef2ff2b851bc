// Command greenlight-lab tests Greenlight: what it costs, how it scales, how faults affect it, and how often its gates err.
// Greenlight runs without it.
//
//	greenlight-lab bench          what a shadow costs on this machine
//	greenlight-lab faults         what faults between executor and ml-engine do to decisions
//	greenlight-lab fleet          whether anything can keep a share of a group of executors alive
//	greenlight-lab help
//
// Results go to standard output, everything else to standard error. Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 a target
// was missed.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	code := command.Main(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
