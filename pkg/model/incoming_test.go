package model_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// receive copies the model that ref names from another registry.
func receive(r, from *model.Registry, ref string) (a *model.Artifact, added bool, err error) {
	_, files, err := from.Files(ref)
	if err != nil {
		return nil, false, err
	}
	in, err := r.Receive()
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	for name, raw := range files {
		if err := in.Write(name, bytes.NewReader(raw)); err != nil {
			return nil, false, err
		}
	}
	return in.Add()
}

func TestIncoming(t *testing.T) {
	from := model.OpenRegistry(enginetest.Registry(t, "v1.8.1", version))
	dir := filepath.Join(t.TempDir(), "missing", "models")
	r := model.OpenRegistry(dir)
	a, added, err := receive(r, from, version)
	if err != nil || !added || a.Manifest.Version != version {
		t.Fatalf("got %v, added %t, %v", a, added, err)
	}
	got, err := r.Load("test/" + version)
	if err != nil || got.Digest() != a.Digest() {
		t.Fatalf("load: %v", err)
	}
	if _, added, err := receive(r, from, version); err != nil || added {
		t.Errorf("again: added %t, %v", added, err)
	}
	// Damage stays visible.
	path := filepath.Join(dir, "test", version, model.GoldenFile)
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := receive(r, from, version); err == nil || !strings.Contains(err.Error(), "must be removed first") {
		t.Errorf("over a damaged model: got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q (%v)", left, err)
	}
}

// Incomplete models are invisible, and only a model's files of allowed sizes are accepted.
func TestIncomingIsHidden(t *testing.T) {
	dir := t.TempDir()
	r := model.OpenRegistry(dir)
	in, err := r.Receive()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../x", "/x", "x", "a/" + model.ModelFile, "../" + model.ModelFile, "model.json\x00", "MODEL.JSON"} {
		if err := in.Write(name, strings.NewReader("x")); err == nil {
			t.Errorf("%q was written", name)
		}
	}
	if err := in.Write(model.ManifestFile, io.LimitReader(zeros{}, 1<<20+1)); !errors.Is(err, durable.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, durable.ErrTooLarge)
	}
	if err := in.Write(model.ManifestFile, strings.NewReader("{}")); err != nil {
		t.Error(err)
	}
	if entries, err := r.List(); err != nil || len(entries) > 0 {
		t.Errorf("got the models %v, %v", entries, err)
	}
	if a, _, err := in.Add(); err == nil {
		t.Errorf("added %v", a)
	}

	// A second Receive keeps the first folder, which is open, and removes the folder of a killed process.
	if err := os.MkdirAll(filepath.Join(dir, ".incoming-killed", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	second, err := r.Receive()
	if err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) != 2 {
		t.Errorf("got %q (%v), want those of the two", left, err)
	}
	if err := errors.Join(in.Close(), second.Close()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// Add writes first to the folder of the name, which may be a mount, and changes nothing else in the registry.
func TestAddStaysInItsFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "test", ".incoming-killed", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	old := time.Date(2024, 8, 1, 0, 0, 0, 0, time.UTC)
	if err := os.Chtimes(dir, old, old); err != nil {
		t.Fatal(err)
	}
	if err := model.OpenRegistry(dir).Add(enginetest.Artifact(t, "v1.8.1", version)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || !info.ModTime().Equal(old) {
		t.Errorf("the registry's folder was written: %v (%v)", info, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "test")); err != nil || len(left) != 1 || left[0].Name() != version {
		t.Errorf("got %v (%v), want the model alone", left, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
