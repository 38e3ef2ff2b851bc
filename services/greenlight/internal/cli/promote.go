package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
)

// promoteFlags say what to promote, and by which evidence.
type promoteFlags struct {
	flags.Pair

	models, model, as, evidence, policy, head, state, phrase, key string
	check                                                         bool
	// given reports whether a flag was given.
	given func(name string) bool
	// show prints the check with --output json.
	show func(*promote.Check) error
}

// promoteTimeout is how long the services may take to say what they serve, or to load and verify a model.
const promoteTimeout = 10 * time.Second

func promoteCommand(c console.Console) *cobra.Command {
	p := &promoteFlags{}
	cmd := &cobra.Command{
		Use: "promote --check | --confirm PHRASE", Short: "Show what blocks the promotion of a model; promote it once nothing does",
		Long: `Promote --check judges every blocker from the figures of the evidence, prints them, and writes promotion_check.json:
  - drift: a live psi_snapshot.json of the last day, of any window
  - AUC and P@20: offline_report.json
  - a live canary that passed all phases, under a policy at least as strict as the one in force
  - a soak of 24 h at 100 % that ended within 48 h: a canary whose policy has one such phase; the policy may require 48 h
  - the evidence folder and the model verify, and the version of the release is free
  - with --engine and --executor: they serve and shadow this model
It exits 0 when all are PASS and only the confirmation is missing, and prints the phrase; it exits 3 otherwise. Missing
evidence is ERROR, never PASS.

Promote --confirm takes the phrase, which works once, for 30 minutes, and only for this model, this evidence and this drift.
Everything is judged again. Then the release is recorded in the registry under the version without -rcN (or --as), with the
same digest, promotion.json is written, and the entry for CHANGELOG.md is printed. Every --engine then activates the release,
which is read back. It exits 0 when the model is promoted, 3 when something blocks, 1 when the phrase is refused or a step
failed. The same command again finishes an interrupted promotion.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p.given = cmd.Flags().Changed
			switch {
			case p.check == p.given("confirm"):
				return console.Usagef("give either --check or --confirm")
			case p.check:
				return p.runCheck(cmd.Context(), c)
			default:
				return p.runConfirm(cmd.Context(), c)
			}
		},
	}
	// The confirmation prints the check too, when something blocks.
	p.show = console.Outputs[*promote.Check](c, cmd, promote.CheckSchema)
	p.declareAll(cmd.Flags(), c)
	return cmd
}

func (p *promoteFlags) declareAll(fs *pflag.FlagSet, c console.Console) {
	p.Declare(fs, c, nil, nil, promoteTimeout)
	fs.BoolVar(&p.check, "check", false, "judge, print and record the blockers, and change nothing else")
	fs.StringVar(&p.phrase, "confirm", "", "the phrase that --check printed")
	fs.StringVar(&p.models, "models", "models", "registry folder")
	fs.StringVar(&p.model, "model", flags.DefaultModel, "the model to promote: name/version, or version")
	fs.StringVar(&p.as, "as", "", "version of the release; by default the model's version without -rcN")
	fs.StringVar(&p.policy, "policy", "", "file with the policy in force, YAML; without it, the built-in one")
	flags.Head(fs, &p.head)
	fs.StringVar(&p.key, "sign-key", "", "file with the private key that signs the release, for services with --require-signature")
	fs.StringVar(&p.state, "state", filepath.Join("var", "promote"), "folder of the phrases that were issued and used")
	flags.Evidence(fs, &p.evidence)
}

func (p *promoteFlags) ledger() *confirmation.Ledger { return confirmation.NewLedger(p.state) }

func (p *promoteFlags) runCheck(ctx context.Context, c console.Console) error {
	policy, err := flags.ReadPolicy(p.policy)
	if err != nil {
		return err
	}
	return p.Use(ctx, func(ctx context.Context, services *fleet.Services) error {
		q := promote.Question{
			Models: p.models, Model: p.model, As: p.as, Evidence: p.evidence, Policy: policy, Head: p.head,
			Engines: services.Engines, Executors: services.Executors,
		}
		check, err := promote.Judge(ctx, q, time.Now())
		if err != nil {
			return console.WithHint(err, "greenlight model list says which models there are; --as says what one is released as")
		}
		if err := errors.Join(sayCheck(c, check), p.show(check)); err != nil {
			return err
		}
		head, err := check.Keep(p.evidence, console.Revision(), *c.Seal)
		if err != nil {
			return console.WithHint(err, "greenlight evidence verify says what does not verify")
		}
		c.Say("evidence  %s, head %s", filepath.Join(p.evidence, promote.CheckName), head)
		if !check.Ready() {
			return console.ErrGate
		}
		ticket, err := promote.Ask(p.ledger(), q, check, head)
		if err != nil {
			return err
		}
		c.Say("nothing blocks but the confirmation; until %s, once (%s):", ticket.ExpiryTime.Format("15:04Z"), onay)
		c.Say("greenlight promote --confirm %q%s", ticket.Phrase, p.again())
		return nil
	})
}

// again returns the flags that --confirm needs as well.
func (p *promoteFlags) again() string {
	return p.Access.Again() + flags.Flagged("state", p.ifGiven("state", p.state)) + flags.Flagged("sign-key", p.key) +
		flags.Flagged("engine", strings.Join(p.Engines, ","))
}

// ifGiven returns the value of a flag that was given; otherwise it is empty.
func (p *promoteFlags) ifGiven(name, value string) string {
	if !p.given(name) {
		return ""
	}
	return value
}

// sayCheck prints the blockers, and the indices that do not block.
func sayCheck(c console.Console, check *promote.Check) error {
	c.Say("%s/%s -> %s, digest %.12s", check.Name, check.From, check.To, check.Digest)
	if err := check.Table(c.Out); err != nil {
		return err
	}
	if len(check.Watched) > 0 {
		c.Say("PSI of what is watched and does not block: %s", check.WatchedText())
	}
	return nil
}

func (p *promoteFlags) runConfirm(ctx context.Context, c console.Console) error {
	pledge, err := promote.Redeem(p.ledger(), p.phrase)
	used := errors.Is(err, confirmation.ErrUsed)
	if err != nil && !used {
		return p.refused(err)
	}
	if err := p.contradicts(pledge); err != nil {
		return p.refused(err)
	}
	var key *dsse.Signer
	if p.key != "" {
		if key, err = dsse.ReadSigner(p.key); err != nil {
			return console.Usagef("--sign-key: %w", err)
		}
	}
	activate := p.Engines
	p.Engines, p.Executors = pledge.Dialed(activate), pledge.Executors
	return p.Use(ctx, func(ctx context.Context, services *fleet.Services) error {
		r := promote.Releaser{Ledger: p.ledger(), Git: console.Revision(), Key: key, Seal: *c.Seal}
		record, check, err := r.Confirm(ctx, pledge, used, services, activate)
		if errors.Is(err, promote.ErrBlocked) && check != nil {
			return errors.Join(sayCheck(c, check), p.show(check), console.ErrGate)
		}
		if used && record != nil {
			c.Say("a promotion that was cut short is finished")
		}
		return p.promoted(c, record, err)
	})
}

// promoted prints what was done.
func (p *promoteFlags) promoted(c console.Console, r *promote.Record, err error) error {
	if r == nil {
		return p.refused(err)
	}
	c.Say("released  %s/%s, digest %.12s, tried as %s", r.Name, r.To, r.Digest, r.From)
	failed := 0
	for _, a := range r.Activated {
		if a.Error != "" {
			failed++
			c.Say("engine    %s FAILED: %s", a.Address, a.Error)
			continue
		}
		c.Say("engine    %s serves %s", a.Address, a.Version)
	}
	if err != nil {
		return console.WithHint(err, "the same command again finishes it")
	}
	c.Say("evidence  %s", promote.PromotionName)
	c.Say("for CHANGELOG.md:")
	c.Say("%s", r.Changelog)
	if failed > 0 {
		return console.WithHint(fmt.Errorf("%s/%s is released, and %d of %d ml-engines do not serve it", r.Name, r.To, failed, len(r.Activated)),
			"ModelRegistryService.ActivateModel activates it: {\"model\": \"%s/%s\", \"digest\": \"%.12s\"}", r.Name, r.To, r.Digest)
	}
	return nil
}

// contradicts returns an error if a given flag differs from what the phrase was issued for.
func (p *promoteFlags) contradicts(pledge *promote.Pledge) error {
	g := promote.Given{Models: p.ifGiven("models", p.models), Evidence: p.ifGiven("evidence", p.evidence), Model: p.ifGiven("model", p.model), As: p.as}
	if p.given("policy") {
		policy, err := flags.ReadPolicy(p.policy)
		if err != nil {
			return err
		}
		g.Policy = &policy
	}
	return pledge.Contradicts(g)
}

// refused adds to a refusal what to do about it.
func (p *promoteFlags) refused(err error) error {
	return console.Advised(err, promote.Hint(err, p.state))
}
