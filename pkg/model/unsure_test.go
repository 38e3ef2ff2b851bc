package model_test

import (
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
)

// A model whose folder was not synced is in the registry, and the error says so; one whose files were not is not there.
func TestAddThatFailsSaysWhetherTheModelIsThere(t *testing.T) {
	root := t.TempDir()
	r := model.OpenRegistry(root)
	repair := durabletest.FailFiles(t, root)
	err := r.Add(copyOf(t, "v1"))
	if entries, listErr := r.List(); err == nil || durable.Unsure(err) || listErr != nil || len(entries) != 0 {
		t.Errorf("the files cannot be synced: got %v, and the registry has %v, %v", err, entries, listErr)
	}
	repair()
	if err := r.Add(copyOf(t, "v1")); err != nil {
		t.Fatal(err)
	}
	repair = durabletest.FailFolders(t, root+"/"+copyOf(t, "v1").Manifest.Name)
	err = r.Add(copyOf(t, "v2"))
	entries, listErr := r.List()
	if there := len(entries) == 2; err == nil || durable.Unsure(err) != there || listErr != nil {
		t.Errorf("the folder cannot be synced: got %v, and the registry has %v, %v", err, entries, listErr)
	}
	repair()
	if err := r.Add(copyOf(t, "v2")); err != nil {
		t.Errorf("again: %v", err)
	}
}
