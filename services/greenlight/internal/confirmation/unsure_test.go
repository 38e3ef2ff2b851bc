package confirmation

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
)

// A phrase whose use could not be written for certain starts nothing, and does not work a second time.
func TestUseThatCannotBeWrittenUsesThePhraseUp(t *testing.T) {
	dir := t.TempDir()
	l := NewLedger(dir)
	ticket, err := l.Issue(time.Hour, func(nonce string, _ time.Time) (string, any, error) { return "ONAY nonce=" + nonce, nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	repair := durabletest.FailFolders(t, dir)
	if err := l.Use(ticket); err == nil || !strings.Contains(err.Error(), "nothing was started, and the phrase counts as used") {
		t.Errorf("got %v", err)
	}
	repair()
	if err := l.Use(ticket); !errors.Is(err, ErrUsed) {
		t.Errorf("again: got %v, want %v", err, ErrUsed)
	}
}
