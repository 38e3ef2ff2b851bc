package cli

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
)

func modelCommand(c console.Console) *cobra.Command {
	cmd := &cobra.Command{Use: "model", Short: "List, verify, sign and import the models of a registry folder, and let ml-engine serve one", Args: console.NoArgs}
	var folder string
	cmd.PersistentFlags().StringVar(&folder, "models", "models", "registry folder")
	cmd.AddCommand(modelList(c, &folder), modelShow(c, &folder), modelVerify(c, &folder), modelImport(c, &folder), modelSign(c, &folder), modelKeygen(c), modelActivate(c), modelRollback(c))
	return cmd
}

func modelList(c console.Console, folder *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the models", Args: console.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			registry := model.OpenRegistry(*folder)
			entries, err := registry.List()
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				c.Say("%s has no models; greenlight train makes some", *folder)
				return nil
			}
			t := table.New("model", "digest", "schema", "family", "AUC", "P@20", "trained to")
			for _, e := range entries {
				m, err := registry.Manifest(e)
				if err != nil {
					t.Row(e, err)
					continue
				}
				t.Row(e, fmt.Sprintf("%.12s", m.Digest), m.Schema, m.Family, figure(m.Evaluation.AUC), figure(m.Evaluation.PrecisionAt20), day(m.Training.End))
			}
			return t.Text(c.Out)
		},
	}
}

// figure is a measure for people; a model that was not evaluated here has none.
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
func oneModel(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return console.Usagef("%d arguments: name one model, as name/version or version", len(args))
	}
	return nil
}

func modelShow(c console.Console, folder *string) *cobra.Command {
	return &cobra.Command{
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
			return nil
		},
	}
}

func modelVerify(c console.Console, folder *string) *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use: "verify [MODEL...]", Short: "Recompute digests, schema hashes and golden scores; all models when none is named",
		RunE: func(_ *cobra.Command, refs []string) error {
			keys, err := model.ReadKeys(keyFile)
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
			for _, ref := range refs {
				a, err := registry.Load(ref)
				if err != nil {
					broken++
					c.Say("%s does not verify: %v", ref, err)
					continue
				}
				c.Say("%s/%s verifies: digest %.12s, schema %s, %d golden scores; %s", a.Manifest.Name, a.Manifest.Version,
					a.Digest(), a.Spec.Schema, len(a.Golden.Vectors), gateText(a))
			}
			if broken > 0 {
				return console.ErrGate
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&keyFile, "require-signature", "", "file with public keys, PEM: every model must be signed with one of them")
	return cmd
}

// gateText reports whether the model can decide behind a gate.
func gateText(a *model.Artifact) string {
	if a.Ranges() == nil {
		return "cannot decide behind a gate, because its drift profile lacks the ranges of its features: train or import it under a new version"
	}
	return "can decide behind a gate"
}

// signingKey is the key's name in a working copy.
const signingKey = "signing.pem"

func modelKeygen(c console.Console) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "keygen", Short: "Make a key pair that signs models",
		Long: `Keygen makes an Ed25519 key pair: the private key, PKCS #8 in PEM and readable only by you, and next to it the public key, with
".pub" appended to the name. Keep the private key where models are judged. Give the public key to the services with
--require-signature. An existing key is never overwritten.`,
		Args: console.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := model.NewSigningKey(out); err != nil {
				return err
			}
			c.Say("private   %s: keep it", out)
			c.Say("public    %s.pub: give it to ml-engine and executor, as --require-signature", out)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", signingKey, "file for the private key")
	return cmd
}

func modelSign(c console.Console, folder *string) *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use: "sign MODEL...", Short: "Verify models and sign their manifests",
		Long: `Sign verifies a model as a service would, and writes the signature of its manifest to manifest.sig. The manifest has the
digests of all other files, so that none can be changed afterwards. An existing signature is replaced. A release has its own manifest: greenlight promote --sign-key signs it, or sign it afterwards.`,
		RunE: func(_ *cobra.Command, refs []string) error {
			if len(refs) == 0 {
				return console.Usagef("name the models to sign, as name/version or version")
			}
			key, err := model.ReadSigningKey(keyFile)
			if err != nil {
				return console.WithHint(fmt.Errorf("--key: %w", err), "greenlight model keygen makes one")
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
