package promote

import (
	"errors"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
)

// If there is a key, a release is signed before an engine is asked to serve it.
func TestReleaseIsSigned(t *testing.T) {
	key, private := keytest.New(t)
	keys, err := dsse.ReadKeys(private + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	killed := errors.New("killed")
	for name, tt := range map[string]struct {
		releaser Releaser
		want     error
	}{"with a key": {Releaser{Key: key}, nil}, "without": {Releaser{}, model.ErrUnsigned}} {
		models := enginetest.Registry(t, "v1.8.1", "v1.8.1")
		r := tt.releaser
		r.killed = func(string) error { return killed }
		if err := r.complete(t.Context(), &Pledge{Models: models}, &Record{Name: "test", To: "v1.8.1"}, nil); !errors.Is(err, killed) {
			t.Fatalf("%s: got %v", name, err)
		}
		if _, err := model.OpenRegistry(models).Requiring(keys).Load("v1.8.1"); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
}
