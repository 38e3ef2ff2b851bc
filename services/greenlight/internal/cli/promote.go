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
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
)

// promoteFlags are the flags that name the model to promote and its evidence.
type promoteFlags struct {
	flags.Pair

	models, model, as, evidence, policy, head, state, phrase, key string
	check                                                         bool
	// given reports whether a flag was given.
	given func(name string) bool
	// show prints the check with --output json.
	show func(*promote.Check) error
}

// promoteTimeout is how long the services may take to report what they serve, or to load and verify a model.
const promoteTimeout = 10 * time.Second

func promoteCommand(c console.Console) *cobra.Command {
	p := &promoteFlags{}
	cmd := &cobra.Command{
		Use: "promote --check | --confirm PHRASE", Short: "Show what blocks the promotion of a model; promote it once nothing does",
		Long: `Promote --check judges everything that can block a promotion from the evidence, prints it, and writes
promotion_check.json:
  - drift: a live psi_snapshot.json written within the last day, of any window
  - AUC and P@20: offline_report.json
  - a live canary that passed all phases, under a policy at least as strict as the one in force
  - a soak of 24 h at 100 % that ended within 48 h: a canary whose policy has one such phase; the policy may require 48 h
  - live quality: PASS or BETTER for this model, the baseline of the canary and its quality plan
  - the evidence folder and the model verify, and the version of the release is free
  - with --engine and --executor, or --fleet and --fleet-group: the services serve and shadow this model

If all are PASS and only the confirmation is missing, it prints the phrase and exits 0; otherwise it exits 3. Missing evidence is
ERROR, not PASS.

Promote --confirm takes the phrase, which works once, for 30 minutes, and only for this model, this evidence and this drift. It
judges everything again. Then it records the release in the registry with the same digest, under the version without -rcN (or
--as), writes promotion.json, and prints the entry for CHANGELOG.md. Finally every --engine activates the release, and promote
reads that back. It exits 0 if the model is promoted, 3 if something blocks, and 1 if the phrase is refused or a step fails.
Run the same command again to finish an interrupted promotion.`,
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
	// --confirm prints the check too if something blocks.
	p.show = console.Outputs[*promote.Check](c, cmd, promote.CheckSchema)
	p.declareAll(cmd.Flags(), c)
	return cmd
}

func (p *promoteFlags) declareAll(fs *pflag.FlagSet, c console.Console) {
	p.Declare(fs, c, nil, nil, promoteTimeout)
	p.DeclareFleet(fs, false)
	fs.BoolVar(&p.check, "check", false, "judge, print and record what blocks, and change nothing else")
	fs.StringVar(&p.phrase, "confirm", "", "the phrase that --check printed")
	fs.StringVar(&p.models, "models", "models", "registry folder")
	fs.StringVar(&p.model, "model", flags.DefaultModel, "the model to promote: name/version, or version")
	fs.StringVar(&p.as, "as", "", "version of the release; by default the model's version without -rcN")
	fs.StringVar(&p.policy, "policy", "", "file with the policy in force, YAML; without it, the built-in one")
	flags.Head(fs, &p.head)
	fs.StringVar(&p.key, "sign-key", "", "file with the private key that signs the release, for services with --require-signature")
	fs.StringVar(&p.state, "state", filepath.Join("var", "promote"), "folder of the issued and used phrases")
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
		if p.Fleet.Given() {
			q.Fleet = &p.Fleet.Address
		}
		check, err := promote.Judge(ctx, q, time.Now())
		if err != nil {
			return console.WithHint(err, "greenlight model list shows the models; --as sets the version of the release")
		}
		if err := errors.Join(sayCheck(c, check), p.show(check)); err != nil {
			return err
		}
		head, err := check.Keep(p.evidence, console.Revision(), *c.Seal)
		if err != nil {
			return console.WithHint(err, "greenlight evidence verify lists what does not verify")
		}
		c.Say("evidence  %s, head %s", filepath.Join(p.evidence, promote.CheckName), head)
		if !check.Ready() {
			return console.ErrGate
		}
		ticket, err := promote.Ask(p.ledger(), q, check, head)
		if err != nil {
			return err
		}
		c.Say("only the confirmation is missing; until %s, once (%s):", ticket.ExpiryTime.Format("15:04Z"), confirmation.Onay)
		c.Say("greenlight promote --confirm %q%s", ticket.Phrase, p.again())
		return nil
	})
}

// again returns the flags that the command with --confirm must repeat.
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
		c.Say("PSI of watched inputs, which do not block: %s", check.WatchedText())
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
	p.Engines, p.Executors, p.Fleet.Address = pledge.Dialed(activate), pledge.Executors, fleetgroup.Address{}
	if pledge.Fleet != nil {
		p.Fleet.Address = *pledge.Fleet
	}
	return p.Use(ctx, func(ctx context.Context, services *fleet.Services) error {
		r := promote.Releaser{Ledger: p.ledger(), Git: console.Revision(), Key: key, Seal: *c.Seal}
		record, check, err := r.Confirm(ctx, pledge, used, services, activate)
		if errors.Is(err, promote.ErrBlocked) && check != nil {
			return errors.Join(sayCheck(c, check), p.show(check), console.ErrGate)
		}
		if used && record != nil {
			c.Say("an interrupted promotion is finished")
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
		return console.WithHint(err, "run the same command again to finish it")
	}
	c.Say("evidence  %s", promote.PromotionName)
	c.Say("for CHANGELOG.md:")
	c.Say("%s", r.Changelog)
	if failed > 0 {
		return console.WithHint(fmt.Errorf("%s/%s is released, but %d of %d ml-engines do not serve it", r.Name, r.To, failed, len(r.Activated)),
			"ModelRegistryService.ActivateModel activates it: {\"model\": \"%s/%s\", \"digest\": \"%.12s\"}", r.Name, r.To, r.Digest)
	}
	return nil
}

// contradicts returns an error if a flag differs from what the phrase was issued for.
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

// refused adds a hint to a refusal.
func (p *promoteFlags) refused(err error) error {
	return console.Advised(err, promote.Hint(err, p.state))
}
