package cli

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/evidencedoc"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
)

func evidenceCommand(c Console) *cobra.Command {
	cmd := &cobra.Command{Use: "evidence", Short: "Check the evidence folder, and render it", Args: NoArgs}
	cmd.AddCommand(evidenceVerifyCommand(c), evidenceRenderCommand(c))
	return cmd
}

func evidenceVerifyCommand(c Console) *cobra.Command {
	var folder, head string
	cmd := &cobra.Command{
		Use: "verify", Short: "Recompute every digest, chain link and verdict, and name the first that does not hold",
		Long: `Verify computes everything again that the evidence folder says: the links of its chain, the digest of each file, and every
verdict from its figures. A file that is not in the chain is no evidence: it fails the folder. What file managers and
editors leave behind (.DS_Store, Thumbs.db, x~ and the like) is ignored with a note, unless it ends in .json.

The folder alone cannot show that lines were removed from the end of the chain. Write down the head that verify prints,
elsewhere, and give it back with --head.

It exits 0 when all of it holds and 3 when something does not.`,
		Args: NoArgs,
		RunE: func(*cobra.Command, []string) error {
			report, err := evidencedoc.Verify(folder)
			if err != nil {
				return err
			}
			if head != "" {
				report.Pin(head)
			}
			for _, p := range report.Problems {
				c.Say("%s", p)
			}
			for _, s := range slices.Concat(report.Stale, report.Ignored) {
				c.Say("note: %v", s)
			}
			if !report.OK() {
				c.Say("%s does not hold", folder)
				return ErrGate
			}
			c.Say("%s holds: %s, %s, head %s", folder, text.Count(report.Files, "file"), text.Count(report.Lines, "line"), report.Head)
			return nil
		},
	}
	DeclareEvidence(cmd.Flags(), &folder)
	declareHead(cmd.Flags(), &head)
	return cmd
}

// headFlag is the head of an evidence chain that was written down; an empty one was not, and is refused.
type headFlag struct{ head *string }

func declareHead(fs *pflag.FlagSet, head *string) {
	fs.Var(headFlag{head}, "head", "what the head of the evidence chain must be, or its first 12 digits or more: as it was written down elsewhere")
}

// Set implements pflag.Value.
func (f headFlag) Set(s string) error {
	s = strings.ToLower(strings.TrimSpace(s))
	if err := evidence.CheckHead(s); err != nil {
		return err
	}
	*f.head = s
	return nil
}

// String implements pflag.Value.
func (f headFlag) String() string {
	if f.head == nil {
		return ""
	}
	return *f.head
}

// Type implements pflag.Value.
func (headFlag) Type() string { return "string" }

func evidenceRenderCommand(c Console) *cobra.Command {
	var folder, out, models, policyFile string
	cmd := &cobra.Command{
		Use: "render", Short: "Write GREEN_EVIDENCE.md from the files of the evidence folder",
		Long: `Render writes one document of what the evidence folder says: a scorecard, what blocks the promotion of the model that the
folder is about, the tables and plots of every part, all files, and what is missing. The same folder gives the same
document. A folder that does not verify is refused with the first thing that does not hold.

What blocks is judged anew, as promote --check does, as of the newest file, with the model from --models; without it, what
promotion_check.json says is shown.`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			policy, err := readPolicy(policyFile)
			if err != nil {
				return err
			}
			if out == "" {
				out = filepath.Join(filepath.Dir(filepath.Clean(folder)), "GREEN_EVIDENCE.md")
			}
			link, err := relative(filepath.Dir(out), folder)
			if err != nil {
				return err
			}
			text, err := evidencedoc.Render(folder, evidencedoc.Options{
				Link: filepath.ToSlash(link),
				Judge: func(model string, now time.Time) (*promote.Check, error) {
					return promote.Judge(cmd.Context(), promote.Question{Models: models, Model: model, Evidence: folder, Policy: policy}, now)
				},
			})
			if errors.Is(err, evidence.ErrBroken) {
				return WithHint(err, "greenlight evidence verify lists all that does not hold")
			}
			if err == nil {
				err = os.MkdirAll(filepath.Dir(out), 0o755)
			}
			if err != nil {
				return err
			}
			if err := durable.WriteFile(out, text, 0o644); err != nil {
				return err
			}
			c.Say("document  %s", out)
			return nil
		},
	}
	DeclareEvidence(cmd.Flags(), &folder)
	cmd.Flags().StringVar(&models, "models", "models", "registry folder with the model that the evidence is about")
	cmd.Flags().StringVar(&policyFile, "policy", "", "file with the policy of the promotion, YAML; without it, the built-in one")
	cmd.Flags().StringVar(&out, "out", "", "file to write; GREEN_EVIDENCE.md beside the evidence folder when it is not given")
	return cmd
}

// relative is the path of a file or folder as seen from a folder.
func relative(from, to string) (string, error) {
	from, err := filepath.Abs(from)
	if err != nil {
		return "", err
	}
	if to, err = filepath.Abs(to); err != nil {
		return "", err
	}
	return filepath.Rel(from, to)
}
