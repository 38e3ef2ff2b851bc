package confirmation

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzFind looks for an arbitrary phrase in a ledger with an arbitrary ticket. The phrase is refused, or it equals the phrase
// of the ticket and works once.
func FuzzFind(f *testing.F) {
	const nonce = "k3vq6xj2rw5pzt4m"
	const phrase = "ONAY: START 5% abort: p95>120ms nonce=" + nonce
	good := `{"nonce":"` + nonce + `","phrase":"` + phrase + `","payload":{"percent":5},"issue_time":"2026-01-01T00:00:00Z","expiry_time":"2999-01-01T00:00:00Z"}`
	f.Add([]byte(good), phrase)
	f.Add([]byte(good), " "+phrase+"\n")
	f.Add([]byte(good), strings.Replace(phrase, "5%", "50%", 1))
	f.Add([]byte(strings.Replace(good, "2999", "2020", 1)), phrase)
	f.Add([]byte(strings.Replace(good, `"nonce":"k`, `"nonce":"../k`, 1)), phrase)
	f.Add([]byte(good), "nonce=../../../etc/passwd")
	f.Add([]byte(`{}`), "nonce="+nonce)
	f.Fuzz(func(t *testing.T, raw []byte, phrase string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, nonce+".json"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		l := NewLedger(dir)
		ticket, err := l.Find(phrase)
		if err != nil {
			return
		}
		if ticket.Nonce != nonce || ticket.Phrase != strings.TrimSpace(phrase) || !strings.HasSuffix(ticket.Phrase, nonceKey+nonce) || !time.Now().Before(ticket.ExpiryTime) {
			t.Fatalf("%q finds %+v", phrase, ticket)
		}
		if err := l.Use(ticket); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Find(phrase); !errors.Is(err, ErrUsed) {
			t.Fatalf("again: %v", err)
		}
		if err := l.Use(ticket); !errors.Is(err, ErrUsed) {
			t.Fatalf("used twice: %v", err)
		}
	})
}
