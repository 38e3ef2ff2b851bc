package natswitness_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/testkit/natstest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/natswitness"
)

// A line removed from the chain is detected, because the bucket has the head.
func TestWitness(t *testing.T) {
	t.Parallel()
	place := natstest.Start(t, 1).URL + "/heads"
	if !natswitness.Is(place) || natswitness.Is("https://example.test/heads") || natswitness.Is("file:heads") {
		t.Error("a place is taken for one of another kind")
	}
	w, err := natswitness.Open(place)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Head(); !errors.Is(err, evidence.ErrNoHead) {
		t.Errorf("without a head: %v", err)
	}
	dir := t.TempDir()
	write := func(name string) {
		t.Helper()
		s, err := evidence.Open(dir, evidence.Options{Seal: evidence.Seal{Witness: w}})
		if err == nil {
			err = errors.Join(s.WriteFile(name, nil), s.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	problems := func() []evidence.Problem {
		t.Helper()
		report, err := evidence.Verify(dir)
		if err != nil {
			t.Fatal(err)
		}
		head, err := w.Head()
		if err != nil {
			t.Fatal(err)
		}
		report.Pin(head)
		return report.Problems
	}
	write("a.txt")
	chains, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(chains) != 1 {
		t.Fatalf("chains: %v, %v", chains, err)
	}
	before, err := os.ReadFile(chains[0])
	if err != nil {
		t.Fatal(err)
	}
	write("b.txt")
	if p := problems(); len(p) > 0 {
		t.Errorf("as written: %v", p)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "b.txt")), os.WriteFile(chains[0], before, 0o600)); err != nil {
		t.Fatal(err)
	}
	if p := problems(); !strings.Contains(fmt.Sprint(p), "no line with the requested head") {
		t.Errorf("the last line was removed: %v", p)
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"nats://", "nats://127.0.0.1:4222", "nats://127.0.0.1:4222/", "nats://127.0.0.1:4222/a.b", "nats://u:p@127.0.0.1:4222/heads"} {
		if _, err := natswitness.Open(bad); err == nil {
			t.Errorf("%s", bad)
		}
	}
	w, err := natswitness.Open("nats://127.0.0.1:1/heads")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Put(1, strings.Repeat("a", 64)); err == nil {
		t.Error("nobody listens there")
	}
}
