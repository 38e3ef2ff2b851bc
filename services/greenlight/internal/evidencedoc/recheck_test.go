package evidencedoc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// folderWith is an evidence folder with a smoke report of one result.
func folderWith(t *testing.T, r gate.Result) string {
	t.Helper()
	folder := t.TempDir()
	store, err := evidence.Open(folder, evidence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	body := map[string]any{"phases": []any{map[string]any{"verdicts": []gate.Result{r}}}}
	h := evidence.Header{Schema: "greenlight/smoke/v1", Source: evidence.Simulated}
	if err := errors.Join(store.WriteJSON("smoke_1k.json", h, body), store.WriteFile("psi.svg", []byte("<svg/>")), store.Close()); err != nil {
		t.Fatal(err)
	}
	return folder
}

func result(value float64, verdict gate.Verdict) gate.Result {
	return gate.Result{Name: "p95", Verdict: verdict, Value: &value, Op: gate.Below, Threshold: 80, Unit: gate.Millis, N: 1000, MinSamples: 950}
}

// A verdict may be stricter than its figures, not laxer, even where the chain holds.
func TestVerdicts(t *testing.T) {
	tests := []struct {
		name   string
		result gate.Result
		want   string // "" holds
	}{
		{"a pass", result(79, gate.Pass), ""},
		{"a failure", result(81, gate.Fail), ""},
		{"stricter than its figures", result(79, gate.Inconclusive), ""},
		{"laxer than its figures", result(81, gate.Pass), `says that "p95" is PASS; by its figures it is FAIL`},
		{"a pass without a value", gate.Result{Name: "p95", Verdict: gate.Pass, Op: gate.Below, Threshold: 80, Unit: gate.Millis}, "it is ERROR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			folder := folderWith(t, tt.result)
			text, err := Render(folder, "evidence/ml")
			switch {
			case tt.want != "" && (!errors.Is(err, evidence.ErrBroken) || !strings.Contains(fmt.Sprint(err), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			case tt.want == "" && (err != nil || !strings.Contains(string(text), "](evidence/ml/psi.svg)") || !strings.Contains(string(text), "| p95 | < 80 ms |")):
				t.Errorf("got %s, %v", text, err)
			}
		})
	}
}

// TestOneFlippedBit flips a bit of bytes drawn from every file, the chain and its head among them: none is missed.
func TestOneFlippedBit(t *testing.T) {
	folder := folderWith(t, result(79, gate.Pass))
	rng := rand.New(rand.NewPCG(1, 0))
	for _, name := range []string{"smoke_1k.json", "psi.svg", "chain.jsonl", "chain.head"} {
		path := filepath.Join(folder, name)
		right, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			at, bit := rng.IntN(len(right)), rng.IntN(8)
			wrong := append([]byte(nil), right...)
			wrong[at] ^= 1 << bit
			if err := os.WriteFile(path, wrong, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Render(folder, "."); err == nil {
				t.Errorf("bit %d of byte %d of %s is flipped, and the folder was rendered", bit, at, name)
			}
		}
		if err := os.WriteFile(path, right, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Render(folder, "."); err != nil {
		t.Error(err)
	}
}
