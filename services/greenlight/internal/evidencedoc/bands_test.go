package evidencedoc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftcompare"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
)

// psiV1 is a folder that an older version wrote, in psi_snapshot/v1 and psi_compare/v1. Its four features have PSI values of
// 0.02, 0.15, 0.25 and 0.45, one in each of today's bands. It must always verify.
const psiV1 = "testdata/psi_v1"

func TestFirstBandsVerify(t *testing.T) {
	r, err := Verify(psiV1)
	if err != nil || !r.OK() || r.Files != 2 {
		t.Fatalf("%d files, problems %v, %v", r.Files, r.Problems, err)
	}
	doc, err := Render(psiV1, Options{Link: "ml"})
	if err != nil {
		t.Fatal(err)
	}
	text := doc.Markdown
	for _, want := range []string{"overall PSI 0.214 (critical)", "| 0.145 | warning |", "| 0.246 | critical |", "| 0.448 | critical |"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("got %s: want %q", text, want)
		}
	}
}

// The same figures with the other schema have different bands, so the file does not verify.
func TestBandsBelongToTheSchema(t *testing.T) {
	f, err := open(psiV1)
	if err != nil {
		t.Fatal(err)
	}
	for name, schema := range map[string]string{"psi_snapshot.json": driftfleet.Schema, "psi_compare.json": driftcompare.Schema} {
		forged := f.forge(t, name, func(root any) { root.(map[string]any)["schema"] = schema })
		problems, err := forged.recheckFile(forged.named[name])
		if err != nil || len(problems) < 4 {
			t.Fatalf("%s as %s: problems %v, %v: want one for each index above 0.1 and at most 0.3", name, schema, problems, err)
		}
		for _, want := range []string{
			"moderate has the status warning, but a PSI of 0.14519578189662327 is moderate",
			"warning has the status critical, but a PSI of 0.2460948962379163 is warning",
			"is warning",
		} {
			if !strings.Contains(fmt.Sprint(problems), want) {
				t.Errorf("%s as %s: problems %v, want %q", name, schema, problems, want)
			}
		}
	}
}
