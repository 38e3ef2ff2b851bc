// Package oip holds what both sides of the Open Inference Protocol share: ml-engine, which serves it, and executor, which
// queries model servers. The protocol is also known as KServe v2.
package oip

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Datatype is the type of a tensor's elements.
type Datatype string

// The supported types.
const (
	FP32 Datatype = "FP32"
	FP64 Datatype = "FP64"
)

// Size returns the size of an element in bytes, 0 for a type that is not supported.
func (d Datatype) Size() int {
	switch d {
	case FP32:
		return 4
	case FP64:
		return 8
	}
	return 0
}

// Raw returns the values as raw contents: little-endian, without gaps.
func (d Datatype) Raw(values []float64) []byte {
	raw := make([]byte, 0, len(values)*d.Size())
	for _, v := range values {
		if d == FP32 {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(v)))
		} else {
			raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(v))
		}
	}
	return raw
}

// Contents returns the values in the field for the datatype.
func (d Datatype) Contents(values []float64) *inference.InferTensorContents {
	if d == FP64 {
		return &inference.InferTensorContents{Fp64Contents: slices.Clone(values)}
	}
	c := &inference.InferTensorContents{Fp32Contents: make([]float32, len(values))}
	for i, v := range values {
		c.Fp32Contents[i] = float32(v)
	}
	return c
}

// Values returns the n elements of a tensor, from its contents or, if it has none, from raw.
func (d Datatype) Values(c *inference.InferTensorContents, raw []byte, n int) ([]float64, error) {
	if d.Size() == 0 {
		return nil, fmt.Errorf("datatype %q: want %s or %s", d, FP64, FP32)
	}
	switch fp32, fp64 := c.GetFp32Contents(), c.GetFp64Contents(); {
	case d == FP64 && len(fp64) > 0:
		if len(fp64) != n {
			return nil, fmt.Errorf("fp64_contents has %d elements: the shape needs %d", len(fp64), n)
		}
		return fp64, nil
	case d == FP32 && len(fp32) > 0:
		if len(fp32) != n {
			return nil, fmt.Errorf("fp32_contents has %d elements: the shape needs %d", len(fp32), n)
		}
		values := make([]float64, n)
		for i, v := range fp32 {
			values[i] = float64(v)
		}
		return values, nil
	case len(raw) != n*d.Size():
		return nil, fmt.Errorf("%d bytes of raw contents, and no contents of the datatype %s: the shape needs %d elements", len(raw), d, n)
	}
	values := make([]float64, n)
	for i := range values {
		if d == FP32 {
			values[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
		} else {
			values[i] = math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:]))
		}
	}
	return values, nil
}

// unpinned is the prefix of the digests of [Identity].
const unpinned = "oip:"

// Unpromotable explains why a model with an [Unpinned] digest is neither promoted nor gated.
const Unpromotable = "its identity is only what a model server says, so it can be compared and judged, and neither promoted nor gated: " +
	"register the model (greenlight model import) and serve it with ml-engine"

// NoDrift explains why there is no drift of such a model.
const NoDrift = "a model server of the Open Inference Protocol reports no drift"

// Identity returns the version and the digest by which reports name a model on a model server, each of at most 64 bytes. The
// protocol has no digest of a model's content, so this one covers only the two names: see [Unpinned].
func Identity(name, version string) (label, digest string) {
	label = name
	if version != "" {
		label += "@" + version
	}
	sum := sha256.Sum256([]byte(name + "\x00" + version))
	return text.Clean(label, sha256.Size*2), (unpinned + hex.EncodeToString(sum[:]))[:sha256.Size*2]
}

// Unpinned reports whether the digest comes from [Identity]: the server may change the model without changing the digest.
func Unpinned(digest string) bool { return strings.HasPrefix(digest, unpinned) }
