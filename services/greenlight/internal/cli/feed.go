package cli

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/replies"
)

// feedTimeout is how long an executor may take to reset a symbol.
const feedTimeout = 5 * time.Second

func feedResetCommand(c console.Console) *cobra.Command {
	var access flags.Access
	var executors []string
	var symbol, reason string
	var show func([]replies.Reply) error
	cmd := console.Command("reset", "Drop what executors have learned from the quotes of a symbol",
		`Reset drops the features that executors have computed from the quotes of a symbol; the next quote starts again. Use it for a
symbol that does not recover: two quotes with the same wrong time were accepted, or wrong prices were. /readyz of an executor
names the symbols whose quotes are refused.

Decisions on quotes of the symbol are refused as NOT_READY until it has 720 minutes of quotes and one whole UTC day.`,
		func(ctx context.Context) error {
			switch {
			case symbol == "":
				return console.Usagef("--symbol is not given")
			case !utf8.ValidString(symbol):
				return console.Usagef("--symbol %q: want UTF-8", symbol)
			}
			if err := access.Open(); err != nil {
				return err
			}
			return replies.Each(c, show, "executor", executors, func(addr string) string { return addr },
				func(addr string) (struct{}, error) {
					return struct{}{}, resetSymbol(ctx, access.Connect, addr, symbol, reason)
				},
				func(string, struct{}) string {
					return fmt.Sprintf("has dropped symbol %q: it is not ready until a day of quotes has come", symbol)
				})
		})
	fs := cmd.Flags()
	access.Declare(fs, c)
	flags.TargetsVar(fs, &executors, "executor", flags.LocalExecutor, "gRPC addresses of executor, one per replica")
	fs.StringVar(&symbol, "symbol", "", "instrument to reset (required)")
	fs.StringVar(&reason, "reason", "greenlight feed reset", "why, for the audit log")
	show = replies.Outputs(c, cmd)
	return cmd
}

func resetSymbol(ctx context.Context, connect fleet.Dialer, addr, symbol, reason string) error {
	conn, err := connect(addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	_, err = executorv1.NewFeedServiceClient(conn).ResetSymbol(ctx, &executorv1.ResetSymbolRequest{Symbol: symbol, Reason: text.Printable(reason)})
	return errors.Join(err, conn.Close())
}
