package retrain

import (
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/model"
)

func TestNextCandidate(t *testing.T) {
	for _, tt := range []struct {
		name     string
		versions []string
		want     string
	}{
		{"empty registry", nil, "v1.8.1-rc1"},
		{"one", []string{"v1.8.1-rc1"}, "v1.8.1-rc2"},
		{"the highest counts, as a number", []string{"v1.8.1-rc9", "v1.8.1-rc10", "v1.8.1-rc2"}, "v1.8.1-rc11"},
		{"a hole is not filled", []string{"v1.8.1-rc3"}, "v1.8.1-rc4"},
		{"other schemas do not count", []string{"v1.8-rc7", "v1.8.10-rc7", "v1.8-b0"}, "v1.8.1-rc1"},
		{"names that look alike do not count", []string{"v1.8.1-rc07", "v1.8.1-rc8-x", "v1.8.1-rc-9", "v1.8.1-rc", "v1.8.1-rc+9"}, "v1.8.1-rc1"},
	} {
		entries := []model.Entry{{Name: "another", Version: "v1.8.1-rc99"}}
		for _, v := range tt.versions {
			entries = append(entries, model.Entry{Name: "market", Version: v})
		}
		if got := NextCandidate(entries, "market", "v1.8.1"); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
