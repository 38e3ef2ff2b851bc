package app_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oms"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/app"
)

// With --require-signature a model that is unsigned, signed with another key or tampered with is neither served at the start
// nor activated later. The active model stays.
func TestRequireSignature(t *testing.T) {
	o := options(t)
	o.Control.Insecure = true
	o.Models = enginetest.Registry(t, "v1.8.1", version, "unsigned", "foreign", "tampered", "signed")
	_, ours := keytest.New(t)
	_, theirs := keytest.New(t)
	for v, with := range map[string]string{version: ours, "foreign": theirs, "tampered": ours, "signed": ours} {
		private, err := dsse.ReadSigner(with)
		if err == nil {
			err = model.OpenRegistry(o.Models).Sign(model.Entry{Name: "test", Version: v}, private)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	manifest := filepath.Join(o.Models, "test", "tampered", model.ManifestFile)
	raw, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifest, []byte(strings.Replace(string(raw), `"rows": `, `"rows": 9`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	o.RequireSignature = ours + ".pub"
	refused := map[string]error{"unsigned": model.ErrUnsigned, "foreign": dsse.ErrUntrusted, "tampered": oms.ErrFiles}
	for v, want := range refused {
		bad := *o
		bad.Model = v
		if err := app.Run(t.Context(), &bad, slog.New(slog.DiscardHandler)); !errors.Is(err, want) {
			t.Errorf("start with %s: got %v, want %v", v, err, want)
		}
	}

	r := start(t, o)
	models := mlenginev1.NewModelRegistryServiceClient(r.Conn)
	for v, want := range refused {
		_, err := models.ActivateModel(t.Context(), &mlenginev1.ActivateModelRequest{Model: v})
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), want.Error()) || !strings.Contains(err.Error(), version+" stays active") {
			t.Errorf("activate %s: got %v", v, err)
		}
		if _, body := r.Get("/ml/health"); !strings.Contains(body, version) {
			t.Errorf("after %s: got %s, want %s", v, body, version)
		}
	}
	list, err := models.ListModels(t.Context(), &mlenginev1.ListModelsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list.GetModels() {
		if _, bad := refused[m.GetVersion()]; bad == (m.GetProblem() == "") {
			t.Errorf("list: %s has the problem %q", m.GetVersion(), m.GetProblem())
		}
	}
	if _, err := models.ActivateModel(t.Context(), &mlenginev1.ActivateModelRequest{Model: "signed"}); err != nil {
		t.Errorf("activate what is signed: %v", err)
	}
	if _, body := r.Get("/ml/health"); !strings.Contains(body, `"signed"`) {
		t.Errorf("health: got %s", body)
	}
}
