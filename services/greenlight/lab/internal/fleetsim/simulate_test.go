package fleetsim

import (
	"os"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
)

func newKeys(t testing.TB) Keys {
	t.Helper()
	operator, _ := keytest.New(t)
	other, _ := keytest.New(t)
	return Keys{operator, other}
}

func TestSimulate(t *testing.T) {
	n := 10 // make fleet-proof plays 1,000
	if testing.Short() {
		n = 3
	}
	res, err := Simulate(t.Context(), Options{FirstSeed: 1, Seeds: n, Executors: 200, Keys: newKeys(t), Dir: t.TempDir(), Progress: func(int, int) {}})
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
