package oci

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Pull adds the model that a tag or a digest names to the models folder. The model appears there only once its files match
// the artifact's digests and it verifies like any model of the folder, with its signature if one is required. progress is
// called with the number of files received.
func (r *Repository) Pull(ctx context.Context, version string, into *model.Registry, progress func(done, total int)) (Moved, error) {
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	moved, err := r.pull(ctx, version, into, progress)
	return moved, r.failed(version, err)
}

func (r *Repository) pull(ctx context.Context, version string, into *model.Registry, progress func(done, total int)) (Moved, error) {
	at, raw, err := r.manifest(ctx, version)
	if err != nil {
		return Moved{}, err
	}
	m, err := unpackModel(raw)
	if err != nil {
		return Moved{}, err
	}
	moved := Moved{Digest: at.String(), Size: sizeOf(m.Layers)}
	for _, l := range m.Layers {
		moved.Signed = moved.Signed || l.Annotations[ocispec.AnnotationTitle] == model.SignatureFile
	}
	if moved.Model = present(m, into); moved.Model != nil {
		return moved, nil
	}
	in, err := into.Receive()
	if err != nil {
		return moved, err
	}
	for i, l := range m.Layers {
		progress(i, len(m.Layers))
		if err := r.download(ctx, l, in); err != nil {
			return moved, errors.Join(err, in.Close())
		}
	}
	progress(len(m.Layers), len(m.Layers))
	moved.Model, moved.Changed, err = in.Add()
	return moved, errors.Join(err, in.Close())
}

// manifest returns the manifest that a tag or a digest names.
func (r *Repository) manifest(ctx context.Context, version string) (digest.Digest, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	d, body, err := r.remote.Manifests().FetchReference(ctx, version)
	if err != nil {
		return "", nil, notFound(err)
	}
	defer body.Close()
	if d.Size > maxManifest {
		return "", nil, fmt.Errorf("the manifest of the artifact has %d bytes: want at most %d", d.Size, maxManifest)
	}
	raw, err := content.ReadAll(body, d) // and compares the digest
	if err != nil {
		return "", nil, fmt.Errorf("the manifest of the artifact: %w", err)
	}
	if asked, err := digest.Parse(version); err == nil && asked != d.Digest {
		return "", nil, fmt.Errorf("the registry returned %s instead", d.Digest)
	}
	return d.Digest, raw, nil
}

// present returns the verified model of the folder that has exactly the files of the artifact, or nil. The artifact's title
// only says where to find it.
func present(m *ocispec.Manifest, models *model.Registry) *model.Artifact {
	a, files, err := models.Files(m.Annotations[ocispec.AnnotationTitle])
	if err != nil || len(files) != len(m.Layers) {
		return nil
	}
	for _, l := range m.Layers {
		raw, ok := files[l.Annotations[ocispec.AnnotationTitle]]
		if !ok || digest.FromBytes(raw) != l.Digest {
			return nil
		}
	}
	return a
}

// download writes a layer and checks its size and digest.
func (r *Repository) download(ctx context.Context, l ocispec.Descriptor, in *model.Incoming) error {
	name := l.Annotations[ocispec.AnnotationTitle]
	l = ocispec.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size} // without its URLs
	body, err := r.remote.Blobs().Fetch(ctx, l)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer body.Close()
	verified := content.NewVerifyReader(body, l)
	if err := in.Write(name, verified); err != nil {
		return err
	}
	if err := verified.Verify(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
