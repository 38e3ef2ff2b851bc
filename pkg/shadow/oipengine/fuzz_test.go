package oipengine

import (
	"log/slog"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// FuzzAnswer reads arbitrary descriptions and answers of a model server. Each is an error, or has a score for every row.
func FuzzAnswer(f *testing.F) {
	schema := enginetest.Own(f, "desk", 3)
	meta, err := proto.Marshal(&inference.ModelMetadataResponse{
		Name: "m", Versions: []string{"1"},
		Inputs:  []*inference.ModelMetadataResponse_TensorMetadata{{Name: "X", Datatype: "FP32", Shape: []int64{-1, 3}}},
		Outputs: []*inference.ModelMetadataResponse_TensorMetadata{{Name: "label", Datatype: "INT64"}, {Name: "p", Datatype: "FP64", Shape: []int64{-1, 2}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	for _, raw := range []bool{true, false} {
		answer := &inference.ModelInferResponse{Outputs: []*inference.ModelInferResponse_InferOutputTensor{
			{Name: "label", Datatype: "INT64", Shape: []int64{2}}, {Name: "p", Datatype: "FP64", Shape: []int64{2, 2}},
		}}
		if values := []float64{0.25, 0.75, 0.5, 0.5}; raw {
			answer.RawOutputContents = [][]byte{make([]byte, 16), oip.FP64.Raw(values)}
		} else {
			answer.Outputs[1].Contents = oip.FP64.Contents(values)
		}
		bytes, err := proto.Marshal(answer)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(meta, bytes, 1)
		f.Add([]byte{}, bytes, -1)
	}
	f.Fuzz(func(t *testing.T, described, answered []byte, column int) {
		var meta inference.ModelMetadataResponse
		var answer inference.ModelInferResponse
		if column < -1 || column >= maxColumn || proto.Unmarshal(described, &meta) != nil || proto.Unmarshal(answered, &answer) != nil {
			t.Skip()
		}
		c := New(nil, Target{Model: "m", Column: column}, schema, slog.New(slog.DiscardHandler))
		m := c.learn(&meta)
		if m.problem != "" {
			return
		}
		if scores, err := m.scores(&answer, 2); err == nil && len(scores) != 2 {
			t.Fatalf("%d scores for 2 rows", len(scores))
		}
	})
}
