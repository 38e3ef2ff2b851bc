package oip

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// unpinned marks the digest of a model that only its server names.
const unpinned = "oip:"

// Unpromotable explains why a model with an [Unpinned] digest is neither promoted nor gated.
const Unpromotable = "its identity is only what a model server says, so it can be compared and judged, and neither promoted nor gated: " +
	"register the model (greenlight model import) and serve it with ml-engine"

// NoDrift explains why there is no drift of such a model.
const NoDrift = "a model server of the Open Inference Protocol reports no drift"

// Identity returns the version and the digest by which reports name the model of a model server, each of at most 64 bytes. The
// digest covers the two names alone, since the protocol has no digest of a model's content: see [Unpinned].
func Identity(name, version string) (label, digest string) {
	label = name
	if version != "" {
		label += "@" + version
	}
	sum := sha256.Sum256([]byte(name + "\x00" + version))
	return text.Clean(label, sha256.Size*2), (unpinned + hex.EncodeToString(sum[:]))[:sha256.Size*2]
}

// Unpinned reports whether the digest is one of [Identity]: the model is what its server says, and may change behind it.
func Unpinned(digest string) bool { return strings.HasPrefix(digest, unpinned) }
