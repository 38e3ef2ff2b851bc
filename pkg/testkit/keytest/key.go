// Package keytest makes the keys that tests sign with.
package keytest

import (
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
)

// New returns a new key and the file that has it. The file with ".pub" appended to its name has the public key.
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
