// Package modelcmd implements the commands of greenlight model: flags, texts and exit codes.
package modelcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
)

// Command returns the command with all its subcommands.
func Command(c console.Console) *cobra.Command {
	cmd := &cobra.Command{Use: "model", Short: "List, verify, sign, import, push and pull the models of a registry folder, and let ml-engine serve one", Args: console.NoArgs}
	var folder string
	cmd.PersistentFlags().StringVar(&folder, "models", "models", "registry folder")
	cmd.AddCommand(modelList(c, &folder), modelShow(c, &folder), modelVerify(c, &folder), modelImport(c, &folder), modelSign(c, &folder), modelKeygen(c), modelPush(c, &folder), modelPull(c, &folder), modelActivate(c), modelRollback(c))
	return cmd
}

// listed is a model in the JSON list.
type listed struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Error is why the manifest cannot be read.
	Error    string          `json:"error,omitempty"`
	Manifest *model.Manifest `json:"manifest,omitempty"`
}

func modelList(c console.Console, folder *string) *cobra.Command {
	var show func([]listed) error
	cmd := &cobra.Command{
		Use: "list", Short: "List the models", Args: console.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			registry := model.OpenRegistry(*folder)
			entries, err := registry.List()
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				c.Say("%s has no models; train one with greenlight train", *folder)
				return show([]listed{})
			}
			t := table.New("model", "digest", "schema", "family", "AUC", "P@20", "trained to")
			all := make([]listed, len(entries))
			for i, e := range entries {
				all[i] = listed{Name: e.Name, Version: e.Version}
				m, err := registry.Manifest(e)
				if err != nil {
					t.Row(e, err)
					all[i].Error = err.Error()
					continue
				}
				all[i].Manifest = m
				t.Row(e, fmt.Sprintf("%.12s", m.Digest), m.Schema, m.Family, figure(m.Evaluation.AUC), figure(m.Evaluation.PrecisionAt20), day(m.Training.End))
			}
			return errors.Join(t.Text(c.Out), show(all))
		},
	}
	show = console.Outputs[[]listed](c, cmd, "greenlight/models/v1")
	return cmd
}

// figure formats a measure; a model that was not evaluated here has none.
func figure(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f", v)
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}

// oneModel takes exactly one argument, the model.
var oneModel = console.Arguments(1, "name one model, as name/version or version")

func modelShow(c console.Console, folder *string) *cobra.Command {
	var show func(model.Manifest) error
	cmd := &cobra.Command{
		Use: "show MODEL", Short: "Verify a model and show its manifest", Args: oneModel,
		RunE: func(_ *cobra.Command, args []string) error {
			a, err := model.OpenRegistry(*folder).Load(args[0])
			if err != nil {
				return err
			}
			raw, err := json.MarshalIndent(a.Manifest, "", "  ")
			if err != nil {
				return err
			}
			c.Say("%s", raw)
			return show(a.Manifest)
		},
	}
	show = console.Outputs[model.Manifest](c, cmd, "greenlight/model/v1")
	return cmd
}

// verifiedModel is the result for one model, in JSON.
type verifiedModel struct {
	Model    string `json:"model"`
	Verifies bool   `json:"verifies"`
	// Error is the reason if it does not verify.
	Error  string `json:"error,omitempty"`
	Digest string `json:"digest,omitempty"`
}

func modelVerify(c console.Console, folder *string) *cobra.Command {
	var keyFile string
	var show func([]verifiedModel) error
	cmd := &cobra.Command{
		Use: "verify [MODEL...]", Short: "Recompute digests, schema hashes and golden scores; all models when none is named",
		RunE: func(_ *cobra.Command, refs []string) error {
			keys, err := dsse.ReadKeys(keyFile)
			if err != nil {
				return console.Usagef("--require-signature: %w", err)
			}
			registry := model.OpenRegistry(*folder).Requiring(keys)
			if len(refs) == 0 {
				entries, err := registry.List()
				if err != nil {
					return err
				}
				for _, e := range entries {
					refs = append(refs, e.String())
				}
			}
			if len(refs) == 0 {
				return fmt.Errorf("%s has no models", *folder)
			}
			broken := 0
			var all []verifiedModel
			for _, ref := range refs {
				a, err := registry.Load(ref)
				if err != nil {
					broken++
					all = append(all, verifiedModel{Model: ref, Error: err.Error()})
					c.Say("%s does not verify: %v", ref, err)
					continue
				}
				all = append(all, verifiedModel{Model: ref, Verifies: true, Digest: a.Digest()})
				c.Say("%s/%s verifies: digest %.12s, schema %s, %d golden scores; %s", a.Manifest.Name, a.Manifest.Version,
					a.Digest(), a.Spec.Schema, len(a.Golden.Vectors), gateText(a))
				if registry.OldSignature(model.Entry{Name: a.Manifest.Name, Version: a.Manifest.Version}) {
					c.Say("note: its signature (Ed25519, manifest.sig) follows no standard, and the next release will not accept it: sign the model again")
				}
			}
			if err := show(all); err != nil || broken == 0 {
				return err
			}
			return console.ErrGate
		},
	}
	show = console.Outputs[[]verifiedModel](c, cmd, "greenlight/model_verify/v1")
	cmd.Flags().StringVar(&keyFile, "require-signature", "", "file with public keys, PEM: every model must be signed with one of them")
	return cmd
}

// gateText describes whether the model can decide behind a gate.
func gateText(a *model.Artifact) string {
	if a.Ranges() == nil {
		return "cannot decide behind a gate, because its drift profile lacks the ranges of its features: train or import it under a new version"
	}
	return "can decide behind a gate"
}

// signingKey is the default name of the key file.
const signingKey = "signing.pem"

func modelKeygen(c console.Console) *cobra.Command {
	var out string
	cmd := console.Command("keygen", "Create a key pair that signs models or evidence",
		`Keygen creates an ECDSA key pair (P-256): the private key, PKCS #8 in PEM and readable only by you, and next to it the public key,
with ".pub" appended to the name. Keep the private key where models are judged. Give the public key to the services with
--require-signature, and to those who check the evidence. An existing key is never overwritten. Keys made with openssl work
too: P-256, P-384 and P-521.`,
		func(context.Context) error {
			if err := dsse.NewKey(out); err != nil {
				return err
			}
			c.Say("private   %s: keep it", out)
			c.Say("public    %s.pub: give it to ml-engine and executor, as --require-signature", out)
			return nil
		})
	cmd.Flags().StringVar(&out, "out", signingKey, "file for the private key")
	return cmd
}

func modelSign(c console.Console, folder *string) *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use: "sign MODEL...", Short: "Verify models and sign their files",
		Long: `Sign verifies a model as a service would, and writes the signature of its files to model.sig, as OpenSSF Model Signing v1.0
describes: a Sigstore bundle, which other tools verify too. An existing signature is replaced. A release has its own files:
sign it with greenlight promote --sign-key, or afterwards with this command.`,
		RunE: func(_ *cobra.Command, refs []string) error {
			if len(refs) == 0 {
				return console.Usagef("name the models to sign, as name/version or version")
			}
			key, err := dsse.ReadSigner(keyFile)
			if err != nil {
				return console.WithHint(fmt.Errorf("--key: %w", err), "create one with greenlight model keygen")
			}
			registry := model.OpenRegistry(*folder)
			for _, ref := range refs {
				e, err := registry.Find(ref)
				if err != nil {
					return err
				}
				if err := registry.Sign(e, key); err != nil {
					return err
				}
				c.Say("signed    %s", e)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", signingKey, "file with the private key, PEM")
	return cmd
}
