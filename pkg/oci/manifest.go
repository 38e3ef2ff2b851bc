package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oms"
)

const (
	// ArtifactType marks a repository's artifact as a model.
	ArtifactType = "application/vnd.greenlight.model.v1"
	// digestKey annotates an artifact with the digest of model.json, which identifies the model to services and in evidence.
	digestKey = "vnd.greenlight.model.digest"

	// maxManifest limits the manifest of an artifact, and maxModel the total size of a model's files, in bytes.
	maxManifest, maxModel = 64 << 10, 256 << 20
	// maxFiles limits the number of a model's files: [model.MaxFile] knows no more names.
	maxFiles = 11
)

// described is a document of the artifact with its descriptor.
type described struct {
	ocispec.Descriptor

	raw []byte
}

// packModel returns the manifest of a model's artifact. It contains no time, so the same files give the same bytes.
//
// The layers are the files with their names, including the signature. A folder that oras pull writes is accepted by greenlight
// model verify and by the tools of OpenSSF Model Signing. One digest covers the files and the signature. packModel returns an
// error if a pull would reject the artifact.
func packModel(a *model.Artifact, files map[string][]byte) (manifest described, layers []described, err error) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		layer := content.NewDescriptorFromBytes(mediaType(name), files[name])
		layer.Annotations = map[string]string{ocispec.AnnotationTitle: name}
		layers = append(layers, described{layer, files[name]})
	}
	manifest, err = pack(ocispec.Manifest{
		ArtifactType: ArtifactType, Layers: descriptors(layers),
		Annotations: map[string]string{
			ocispec.AnnotationTitle: a.Manifest.Name + "/" + a.Manifest.Version, ocispec.AnnotationVersion: a.Manifest.Version, digestKey: a.Digest(),
		},
	})
	if err == nil {
		if _, refused := unpackModel(manifest.raw); refused != nil {
			err = fmt.Errorf("a pull would refuse the model: %w", refused)
		}
	}
	return manifest, layers, err
}

// packSignature returns the manifest that attaches the signature to the model's artifact as a cosign bundle
// (https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md): oras discover and cosign tree list it. Pull does not read
// it. It signs the list of the model's files, not the artifact, so cosign verify rejects it.
func packSignature(model, signature described) (described, error) {
	signature.Annotations = nil
	subject := model.Descriptor
	return pack(ocispec.Manifest{
		ArtifactType: oms.MediaType, Layers: []ocispec.Descriptor{signature.Descriptor}, Subject: &subject,
		Annotations: map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": oms.PredicateType},
	})
}

func pack(m ocispec.Manifest) (described, error) {
	m.Versioned, m.MediaType, m.Config = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageManifest, ocispec.DescriptorEmptyJSON
	raw, err := json.Marshal(m)
	if err != nil {
		return described{}, err
	}
	d := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, raw)
	d.ArtifactType = m.ArtifactType
	return described{d, raw}, nil
}

func descriptors(all []described) []ocispec.Descriptor {
	out := make([]ocispec.Descriptor, len(all))
	for i, d := range all {
		out[i] = d.Descriptor
	}
	return out
}

func mediaType(name string) string {
	switch {
	case name == model.SignatureFile:
		return oms.MediaType
	case strings.HasSuffix(name, ".json"):
		return "application/json"
	}
	return "application/octet-stream"
}

// unpackModel reads the manifest of an artifact. It returns an error unless the artifact is a model whose files have valid
// names, sizes and digests.
func unpackModel(raw []byte) (*ocispec.Manifest, error) {
	m := &ocispec.Manifest{}
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("the manifest of the artifact: %w", err)
	}
	if m.MediaType != ocispec.MediaTypeImageManifest || m.ArtifactType != ArtifactType {
		return nil, fmt.Errorf("the artifact is of type %.100q and media type %.100q: want a model, %q", m.ArtifactType, m.MediaType, ArtifactType)
	}
	if len(m.Layers) == 0 || len(m.Layers) > maxFiles {
		return nil, fmt.Errorf("the artifact has %d layers: a model has 1 to %d files", len(m.Layers), maxFiles)
	}
	var size int64
	names := map[string]bool{}
	for _, l := range m.Layers {
		name := l.Annotations[ocispec.AnnotationTitle]
		limit := model.MaxFile(name)
		switch {
		case limit == 0:
			return nil, fmt.Errorf("the artifact has a layer %.100q, which is not a file of a model", name)
		case names[name]:
			return nil, fmt.Errorf("the artifact has two layers %q", name)
		case l.Size < 0 || l.Size > limit:
			return nil, fmt.Errorf("layer %s has %d bytes: want at most %d", name, l.Size, limit)
		case l.Digest.Validate() != nil || l.Digest.Algorithm() != digest.SHA256:
			return nil, fmt.Errorf("layer %s has the digest %.100q: want a SHA-256", name, l.Digest)
		}
		names[name] = true
		size += l.Size
	}
	if size > maxModel {
		return nil, fmt.Errorf("the artifact has %d bytes: want at most %d", size, maxModel)
	}
	if !names[model.ManifestFile] {
		return nil, errors.New("the artifact has no layer " + model.ManifestFile)
	}
	return m, nil
}

// sizeOf returns the bytes of the layers.
func sizeOf(layers []ocispec.Descriptor) (n int64) {
	for _, l := range layers {
		n += l.Size
	}
	return n
}
