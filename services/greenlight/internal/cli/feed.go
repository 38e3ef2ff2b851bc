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
	cmd := console.Command("reset", "Drop the features that executors have computed from the quotes of a symbol",
		`Reset drops the features that executors have computed from the quotes of a symbol; they start again with the next quote.
Use it for a symbol that does not recover after two quotes with the same wrong time, or quotes with wrong prices, were
accepted. /readyz of an executor names the symbols whose quotes are refused.

Until there are 720 minutes of quotes and one whole UTC day, decisions that need the symbol's quotes are refused as NOT_READY.`,
		func(ctx context.Context) error {
			switch {
			case symbol == "":
				return console.Usagef("--symbol is required")
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
					return fmt.Sprintf("has dropped symbol %q: it is not ready until a day of quotes has arrived", symbol)
				})
		})
	fs := cmd.Flags()
	access.Declare(fs, c)
	flags.TargetsVar(fs, &executors, "executor", flags.LocalExecutor, "gRPC addresses of executor, one per replica")
	fs.StringVar(&symbol, "symbol", "", "instrument to reset (required)")
	fs.StringVar(&reason, "reason", "greenlight feed reset", "reason, for the audit log")
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
