package fleetsim

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
)

func newKeys(t testing.TB) Keys {
	t.Helper()
	key := func(name string) *dsse.Signer {
		path := filepath.Join(t.TempDir(), name)
		if err := dsse.NewKey(path); err != nil {
			t.Fatal(err)
		}
		s, err := dsse.ReadSigner(path)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	return Keys{key("operator"), key("other")}
}

func TestSimulate(t *testing.T) {
	n := 10 // make fleet-proof plays 1,000
	if testing.Short() {
		n = 3
	}
	res, err := Simulate(t.Context(), Options{FirstSeed: 1, Seeds: n, Executors: 200, Keys: newKeys(t), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Table(os.Stdout); err != nil {
		t.Fatal(err)
	}
	t.Log(res.TookS)
	if len(res.Violations) > 0 {
		t.Fail()
	}
}
