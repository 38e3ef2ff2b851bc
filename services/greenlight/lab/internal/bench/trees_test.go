package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func treesOptions(t *testing.T, python string) TreesOptions {
	t.Helper()
	return TreesOptions{Dir: t.TempDir(), Python: python, Rounds: 2, Slice: time.Nanosecond, Progress: func(int, int) {}}
}

// fakePython writes a program that acts as an interpreter with XGBoost. It answers every question with the line.
func fakePython(t *testing.T, answer string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "python")
	script := `#!/bin/sh
case "$2" in "import numpy, xgboost") exit 0;; esac
echo 9.9.9
while read -r line; do ` + answer + `; done
`
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTreesWithoutXGBoost(t *testing.T) {
	got, err := RunTrees(t.Context(), treesOptions(t, filepath.Join(t.TempDir(), "python")))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Blocks) != 6 || got.XGBoost != "" || got.Missing == "" {
		t.Fatalf("got %+v", got)
	}
	for _, b := range got.Blocks {
		if b.Ours.Rounds != 2 || b.XGBoost != nil || b.Ratio != nil {
			t.Errorf("got %+v", b)
		}
	}
	var table strings.Builder
	if err := got.Table(&table); err != nil || !strings.Contains(table.String(), "cited, not measured here") {
		t.Errorf("got %v in\n%s", err, table.String())
	}
}

// Different scores are an error: comparing two different computations means nothing.
func TestTreesThatDisagree(t *testing.T) {
	for answer, want := range map[string]string{
		`echo 0.5 0.5`: "gave 2 scores",
		`yes 0.25 | head -1024 | tr "\n" " "; echo`: "row 0: XGBoost scores 0.25",
		`exit 1`: "EOF",
	} {
		_, err := RunTrees(t.Context(), treesOptions(t, fakePython(t, answer)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", answer, err, want)
		}
	}
}

func TestTreesAgainstXGBoost(t *testing.T) {
	got, err := RunTrees(t.Context(), treesOptions(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	if got.XGBoost == "" {
		t.Skip(got.Missing)
	}
	for _, b := range got.Blocks {
		if measured := b.XGBoost != nil && b.XGBoost.Min > 0 && b.Ratio.Rounds == 2; measured != (b.Rows > 1) {
			t.Errorf("got %+v", b)
		}
	}
}
