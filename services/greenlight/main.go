// Command greenlight is the operator's command: it trains and judges models, tests the services, and runs canaries and
// promotions.
//
//	greenlight run                        everything from data to scorecard
//	greenlight run --data FILE --model v1.8-b0
//	greenlight train --data FILE
//	greenlight help
//
// Results go to standard output, everything else to standard error. Exit codes: 0 success, 1 failure, 2 wrong usage, 3 a
// gate did not pass.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	code := cli.Main(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
