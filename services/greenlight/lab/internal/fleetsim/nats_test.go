package fleetsim

import (
	"os"
	"testing"
)

func TestOnNATS(t *testing.T) {
	if testing.Short() {
		t.Skip("starts NATS servers, and waits for leases in real time")
	}
	res, err := OnNATS(t.Context(), Options{FirstSeed: 1, Seeds: 2, Executors: 10, Keys: newKeys(t), Dir: t.TempDir(), Progress: func(int, int) {}})
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Table(os.Stdout); err != nil {
		t.Fatal(err)
	}
	if len(res.Violations) > 0 {
		t.Fail()
	}
}
