// Package keytest makes signing keys for tests.
package keytest

import (
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
)

// New returns a new key and its file. The public key is in the file with ".pub" appended to the name.
func New(t testing.TB) (key *dsse.Signer, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key.pem")
	if err := dsse.NewKey(file); err != nil {
		t.Fatal(err)
	}
	key, err := dsse.ReadSigner(file)
	if err != nil {
		t.Fatal(err)
	}
	return key, file
}
