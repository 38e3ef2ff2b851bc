package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/evidencedoc"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
)

func evidenceVerifyCommand(c console.Console) *cobra.Command {
	var folder, head, trust string
	var show func(evidence.Report) error
	cmd := console.Command("verify", "Recompute every digest, chain link and verdict, and name the first that does not verify",
		`Verify recomputes the evidence folder: the links of its chain, the digest of each file, and every verdict from its figures. A
file that is not in the chain is not evidence, and the folder does not verify. Files that file managers and editors leave
behind (.DS_Store, Thumbs.db, x~ and the like) are ignored with a note, unless they end in .json.

The folder alone cannot show whether somebody rebuilt it. With --trust, every line must be signed by one of the keys: commands
that write evidence sign it with --evidence-key. Nor can the folder show whether lines were removed from the end of the chain.
Store the head that verify prints in another place, and pass it with --head next time; or let --evidence-witness store it, and
give the same flag to verify.

It exits 0 when everything verifies and 3 when something does not.`,
		func(context.Context) error {
			keys, err := dsse.ReadKeys(trust)
			if err != nil {
				return console.Usagef("--trust: %w", err)
			}
			report, err := evidencedoc.Verify(folder)
			if err != nil {
				return err
			}
			if keys != nil {
				if err := report.Trust(keys); err != nil {
					return err
				}
				if err := promote.CheckStatement(folder, keys); err != nil {
					report.Problems = append(report.Problems, evidence.Problem{File: promote.StatementName, What: err.Error()})
				}
			}
			if head != "" {
				report.Pin(head)
			}
			if c.Seal.Witness != nil {
				kept, err := c.Seal.Witness.Head()
				if err != nil {
					return fmt.Errorf("--evidence-witness: %w", err)
				}
				report.Pin(kept)
			}
			for _, p := range report.Problems {
				c.Say("%s", p)
			}
			for _, s := range slices.Concat(report.Stale, report.Ignored) {
				c.Say("note: %v", s)
			}
			if err := show(report); err != nil {
				return err
			}
			if !report.OK() {
				c.Say("%s does not verify", folder)
				return console.ErrGate
			}
			by := ""
			if keys != nil {
				by = ", signed"
			}
			c.Say("%s verifies: %s, %s%s, head %s", folder, text.Count(report.Files, "file"), text.Count(report.Lines, "line"), by, report.Head)
			return nil
		})
	flags.Evidence(cmd.Flags(), &folder)
	flags.Head(cmd.Flags(), &head)
	show = console.Outputs[evidence.Report](c, cmd, "greenlight/evidence_verify/v1")
	cmd.Flags().StringVar(&trust, "trust", "", "`file` with public keys, PEM: every line of the chain must be signed with one of these keys")
	return cmd
}

func evidenceRenderCommand(c console.Console) *cobra.Command {
	var folder, out, models, policyFile string
	cmd := console.Command("render", "Write GREEN_EVIDENCE.md and .html from the files of the evidence folder",
		`Render writes the evidence folder as one document: whether the model may go live, which requirements of its promotion are
open and which are met, a scorecard, the tables and plots of every part, all files, and what is missing. It writes the document
as Markdown and as one HTML file with the plots inside, to send or to print. The same folder always gives the same document. If
the folder does not verify, render refuses it and prints the first problem.

Render judges the requirements again, like promote --check, as of the newest file and with the model from --models. Without the
model, it shows the requirements in promotion_check.json.`,
		func(ctx context.Context) error {
			policy, err := flags.ReadPolicy(policyFile)
			if err != nil {
				return err
			}
			if out != "" && evidencedoc.PageOf(out) == out {
				return console.Usagef("--out %s: want the name of the Markdown file; the HTML file is written next to it", out)
			}
			if out == "" {
				out = filepath.Join(filepath.Dir(filepath.Clean(folder)), evidencedoc.File)
			}
			err = evidencedoc.Write(out, folder, func(model string, now time.Time) (*promote.Check, error) {
				return promote.Judge(ctx, promote.Question{Models: models, Model: model, Evidence: folder, Policy: policy}, now)
			})
			if errors.Is(err, evidence.ErrBroken) {
				return console.WithHint(err, "greenlight evidence verify lists all problems")
			}
			if err != nil {
				return err
			}
			c.Say("document  %s", out)
			c.Say("page      %s", evidencedoc.PageOf(out))
			return nil
		})
	flags.Evidence(cmd.Flags(), &folder)
	cmd.Flags().StringVar(&models, "models", "models", "registry folder with the model that the evidence is about")
	cmd.Flags().StringVar(&policyFile, "policy", "", "file with the policy of the promotion, YAML; without it, the built-in one")
	cmd.Flags().StringVar(&out, "out", "", "Markdown file to write, with the HTML file next to it; by default GREEN_EVIDENCE.md next to the evidence folder")
	return cmd
}
