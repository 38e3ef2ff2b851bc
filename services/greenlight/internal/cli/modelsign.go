package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
)

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
