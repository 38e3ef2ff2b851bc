package oip_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
)

// The bytes of 1, -2 and 0.1, as numpy writes them: numpy.array([1, -2, 0.1], dtype).tobytes().
var (
	values = []float64{1, -2, 0.1}
	raw64  = []byte("\x00\x00\x00\x00\x00\x00\xf0\x3f\x00\x00\x00\x00\x00\x00\x00\xc0\x9a\x99\x99\x99\x99\x99\xb9\x3f")
	raw32  = []byte("\x00\x00\x80\x3f\x00\x00\x00\xc0\xcd\xcc\xcc\x3d")
)

func TestTensor(t *testing.T) {
	single := []float64{1, -2, 0.100000001490116119384765625}
	if got := oip.FP64.Raw(values); !slices.Equal(got, raw64) {
		t.Errorf("FP64: got %x", got)
	}
	if got := oip.FP32.Raw(values); !slices.Equal(got, raw32) {
		t.Errorf("FP32: got %x", got)
	}
	for name, tt := range map[string]struct {
		datatype oip.Datatype
		contents *inference.InferTensorContents
		raw      []byte
		n        int
		want     []float64
		err      string
	}{
		"raw FP64":           {"FP64", nil, raw64, 3, values, ""},
		"raw FP32":           {"FP32", nil, raw32, 3, single, ""},
		"typed FP64":         {"FP64", oip.FP64.Contents(values), nil, 3, values, ""},
		"typed FP32":         {"FP32", oip.FP32.Contents(values), nil, 3, single, ""},
		"both":               {"FP64", oip.FP64.Contents(values), raw64, 3, values, ""},
		"raw in FP32":        {"FP64", nil, raw32, 3, nil, "12 bytes of raw contents"},
		"another field":      {"FP64", oip.FP32.Contents(values), nil, 3, nil, "no contents of the datatype FP64"},
		"too few":            {"FP32", oip.FP32.Contents(values), nil, 4, nil, "fp32_contents has 3 elements: the shape needs 4"},
		"too many":           {"FP64", oip.FP64.Contents(values), nil, 2, nil, "fp64_contents has 3 elements: the shape needs 2"},
		"another datatype":   {"BF16", nil, raw32, 6, nil, `datatype "BF16": want FP64 or FP32`},
		"no datatype at all": {"", nil, nil, 0, nil, `datatype "": want FP64 or FP32`},
	} {
		got, err := tt.datatype.Values(tt.contents, tt.raw, tt.n)
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: got %v, %v; want %v, %q", name, got, err, tt.want, tt.err)
		}
	}
	nan, err := oip.FP32.Values(nil, oip.FP32.Raw([]float64{math.NaN()}), 1)
	if err != nil || !math.IsNaN(nan[0]) {
		t.Errorf("NaN: got %v, %v", nan, err)
	}
}

func TestIdentity(t *testing.T) {
	seen := map[string]bool{}
	for _, tt := range []struct{ name, version, label string }{
		{"fraud", "1", "fraud@1"},
		{"fraud", "2", "fraud@2"},
		{"fraud", "", "fraud"},
		{"frau", "d1", "frau@d1"},
		{strings.Repeat("long", 30), "1", ""},
		{"\x1b[2J", "", ""},
	} {
		label, digest := oip.Identity(tt.name, tt.version)
		if tt.label != "" && label != tt.label || len(label) > 64 || strings.Contains(label, "\x1b") {
			t.Errorf("%q %q: got %q", tt.name, tt.version, label)
		}
		if len(digest) != 64 || !oip.Unpinned(digest) || seen[digest] {
			t.Errorf("%q %q: got digest %q", tt.name, tt.version, digest)
		}
		seen[digest] = true
	}
	if oip.Unpinned(strings.Repeat("ab", 32)) || oip.Unpinned("") {
		t.Error("a SHA-256 and no digest are no digests of a model server")
	}
}
