package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/greenlight-ml/greenlight/pkg/model"
)

// ErrTaken is returned if the tag names another artifact.
var ErrTaken = errors.New("the tag names another artifact")

// Moved describes a model that was pushed or pulled.
type Moved struct {
	Model *model.Artifact
	// Digest is the artifact's digest, with its algorithm. Size is the size of the files in bytes.
	Digest string
	Size   int64
	// Signed reports whether the artifact has a signature, by any key.
	Signed bool
	// Changed is false if the destination already had everything.
	Changed bool
}

// PushOptions configure a push.
type PushOptions struct {
	// Tag is the tag to set.
	Tag string
	// Force moves the tag even if it names another artifact. Registries have no compare-and-swap for tags, so a concurrent
	// change is overwritten.
	Force bool
	// Progress is called with the number of files that have arrived.
	Progress func(done, total int)
}

// Push stores a verified model and its files, see [model.Registry.Files]. It sets the tag last, so that it never names an
// incomplete model.
func (r *Repository) Push(ctx context.Context, a *model.Artifact, files map[string][]byte, opts PushOptions) (Moved, error) {
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	manifest, layers, err := packModel(a, files)
	if err != nil {
		return Moved{}, err
	}
	_, signed := files[model.SignatureFile]
	moved := Moved{Model: a, Digest: manifest.Digest.String(), Size: sizeOf(descriptors(layers)), Signed: signed}
	switch present, err := r.Resolve(ctx, opts.Tag); {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return moved, err
	case present == moved.Digest:
		return moved, nil
	case !opts.Force:
		return moved, fmt.Errorf("%s: %w, %s", r.Reference.At(opts.Tag), ErrTaken, present)
	}
	moved.Changed = true
	return moved, r.failed(opts.Tag, r.push(ctx, manifest, layers, opts))
}

func (r *Repository) push(ctx context.Context, manifest described, layers []described, opts PushOptions) error {
	for i, l := range append(layers, described{ocispec.DescriptorEmptyJSON, ocispec.DescriptorEmptyJSON.Data}) {
		opts.Progress(i, len(layers)+1)
		if err := r.upload(ctx, l); err != nil {
			return err
		}
	}
	opts.Progress(len(layers)+1, len(layers)+1)
	if err := r.remote.Manifests().Push(ctx, manifest.Descriptor, bytes.NewReader(manifest.raw)); err != nil {
		return err
	}
	for _, l := range layers {
		if l.Annotations[ocispec.AnnotationTitle] != model.SignatureFile {
			continue
		}
		signature, err := packSignature(manifest, l)
		if err != nil {
			return err
		}
		if err := r.remote.Manifests().Push(ctx, signature.Descriptor, bytes.NewReader(signature.raw)); err != nil {
			return fmt.Errorf("attach the signature to the model: %w", err)
		}
	}
	return r.remote.PushReference(ctx, manifest.Descriptor, bytes.NewReader(manifest.raw), opts.Tag)
}

// upload stores a file, unless the registry has it.
func (r *Repository) upload(ctx context.Context, d described) error {
	blobs := r.remote.Blobs()
	if ok, err := blobs.Exists(ctx, d.Descriptor); err != nil || ok {
		return err
	}
	return blobs.Push(ctx, d.Descriptor, bytes.NewReader(d.raw))
}
