package modelcmd

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oci"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
)

// movedModel is a model that was pushed or pulled, in JSON.
type movedModel struct {
	Model  string `json:"model"`
	Digest string `json:"digest"`
	// Artifact is the reference by digest, Tag the given tag; empty without one.
	Artifact string `json:"artifact"`
	Tag      string `json:"tag,omitempty"`
	Bytes    int64  `json:"bytes"`
	Signed   bool   `json:"signed"`
	// Changed is false if the other side already had the model.
	Changed bool `json:"changed"`
}

const movedSchema = "greenlight/moved_model/v1"

// moveFlags are the flags of push and pull.
type moveFlags struct {
	plainHTTP bool
	keyFile   string
}

func (f *moveFlags) declare(fs *pflag.FlagSet) {
	fs.BoolVar(&f.plainHTTP, "plain-http", false, "connect to the registry without TLS; always so on loopback")
	fs.StringVar(&f.keyFile, "require-signature", "", "file with public keys, PEM: the model must be signed with one of them")
}

// open returns the models folder and the repository that the argument names.
func (f *moveFlags) open(folder, argument string) (*model.Registry, *oci.Repository, oci.Reference, error) {
	ref, err := oci.Parse(argument)
	if err != nil {
		return nil, nil, ref, console.Usage(err)
	}
	keys, err := dsse.ReadKeys(f.keyFile)
	if err != nil {
		return nil, nil, ref, console.Usagef("--require-signature: %w", err)
	}
	repository, err := oci.Open(ref, oci.Options{PlainHTTP: f.plainHTTP})
	return model.OpenRegistry(folder).Requiring(keys), repository, ref, err
}

// moved prints a model that was pushed or pulled.
func moved(c console.Console, verb string, m oci.Moved, ref oci.Reference, show func(movedModel) error) error {
	if !m.Changed {
		verb = "unchanged"
	}
	result := movedModel{
		Model: m.Model.Manifest.Name + "/" + m.Model.Manifest.Version, Digest: m.Model.Digest(), Artifact: ref.At(m.Digest).String(),
		Bytes: m.Size, Signed: m.Signed, Changed: m.Changed,
	}
	if ref.Version != m.Digest {
		result.Tag = ref.Version
	}
	c.Say("%-9s %s, digest %.12s, %s", verb, result.Model, result.Digest, ref)
	c.Say("artifact  %s, %d bytes", result.Artifact, m.Size)
	if !m.Signed {
		c.Say("note: the model is not signed: sign it with greenlight model sign")
	}
	return show(result)
}

func modelPush(c console.Console, folder *string) *cobra.Command {
	var flags moveFlags
	var force bool
	var show func(movedModel) error
	cmd := &cobra.Command{
		Use: "push MODEL oci://REGISTRY/REPOSITORY[:TAG]", Short: "Push a model with its signature to an OCI registry",
		Long: `Push verifies a model and stores it in a registry for container images, as an artifact: its layers are the files of the model.
The tag is the model's version unless another is given; ml-engine --models oci://REGISTRY/REPOSITORY takes the tags as versions, so use one
repository per model name. A tag that names another artifact is refused without --force.

Sign the model first: the signature is one of the files, and is also attached to the artifact as a referrer, which oras discover and
cosign tree show. The credentials come from docker login.`,
		Args: console.Arguments(2, "name one model, as name/version or version, and oci://registry/repository"),
		RunE: func(cmd *cobra.Command, args []string) error {
			models, repository, ref, err := flags.open(*folder, args[1])
			if err != nil {
				return err
			}
			defer repository.Close()
			a, files, err := models.Files(args[0])
			if err != nil {
				return err
			}
			if ref.Version == "" {
				ref.Version = a.Manifest.Version
			}
			m, err := repository.Push(cmd.Context(), a, files, oci.PushOptions{Tag: ref.Version, Force: force, Progress: c.Progress("push")})
			if errors.Is(err, oci.ErrTaken) {
				return console.WithHint(err, "give another tag, or --force to let this one name the model")
			}
			if err != nil {
				return err
			}
			return moved(c, "pushed", m, ref, show)
		},
	}
	show = console.Outputs[movedModel](c, cmd, movedSchema)
	flags.declare(cmd.Flags())
	cmd.Flags().BoolVar(&force, "force", false, "let the tag name this model although it names another artifact")
	return cmd
}

func modelPull(c console.Console, folder *string) *cobra.Command {
	var flags moveFlags
	var show func(movedModel) error
	cmd := &cobra.Command{
		Use: "pull oci://REGISTRY/REPOSITORY:TAG|@DIGEST", Short: "Pull a model from an OCI registry and verify it",
		Long: `Pull fetches the files of a model, verifies their digests, the model and, with --require-signature, its signature, and only then
moves it into the registry folder, under its name and version. It does not replace another model of that name and version.

Anybody who may push can move a tag. A digest always names the same model. The credentials come from docker login.`,
		Args: console.Arguments(1, "name one model, as oci://registry/repository:tag or @sha256:digest"),
		RunE: func(cmd *cobra.Command, args []string) error {
			models, repository, ref, err := flags.open(*folder, args[0])
			if err != nil {
				return err
			}
			defer repository.Close()
			if ref.Version == "" {
				return console.Usagef("%s: name a model of the repository, with :tag or @sha256:digest", ref)
			}
			m, err := repository.Pull(cmd.Context(), ref.Version, models, c.Progress("pull"))
			if err != nil {
				return err
			}
			return moved(c, "pulled", m, ref, show)
		},
	}
	show = console.Outputs[movedModel](c, cmd, movedSchema)
	flags.declare(cmd.Flags())
	return cmd
}
