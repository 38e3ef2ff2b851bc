package confirmation

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
)

// plan is the payload of the tests.
type plan struct {
	Percent float64 `json:"percent"`
	Abort   string  `json:"abort"`
}

const validity = 30 * time.Minute

func issue(t *testing.T, l *Ledger) *Ticket { return issueFor(t, l, 5) }

func issueFor(t *testing.T, l *Ledger, percent float64) *Ticket {
	t.Helper()
	ticket, err := l.Issue(validity, func(nonce string, expires time.Time) (string, any, error) {
		return fmt.Sprintf("ONAY: START %g%% abort: p95>120ms expires=%s nonce=%s", percent, expires.Format("15:04"), nonce), plan{percent, "p95>120ms"}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func TestAPhraseWorksOnce(t *testing.T) {
	t.Parallel()
	l := NewLedger(filepath.Join(t.TempDir(), "state", "phrases"))
	issued := issue(t, l)
	for range 2 { // Find changes nothing
		found, err := l.Find("  " + issued.Phrase + "\n")
		if err != nil {
			t.Fatal(err)
		}
		var payload plan
		if err := json.Unmarshal(found.Payload, &payload); err != nil || payload != (plan{5, "p95>120ms"}) {
			t.Errorf("payload %+v (%v)", payload, err)
		}
	}
	if err := l.Use(issued); err != nil {
		t.Fatal(err)
	}
	if err := l.Use(issued); !errors.Is(err, ErrUsed) {
		t.Errorf("second use: %v, want %v", err, ErrUsed)
	}
	// A new process sees what is on disk.
	if _, err := NewLedger(l.dir).Find(issued.Phrase); !errors.Is(err, ErrUsed) {
		t.Errorf("found after its use: %v, want %v", err, ErrUsed)
	}
	if other := issue(t, l); other.Nonce == issued.Nonce {
		t.Errorf("nonce %s was drawn twice", other.Nonce)
	}
}

func TestRefusedPhrases(t *testing.T) {
	t.Parallel()
	l := NewLedger(t.TempDir())
	issued := issue(t, l)
	other := issueFor(t, l, 50)
	for name, test := range map[string]struct {
		phrase string
		want   error
	}{
		"empty":              {"", ErrForm},
		"blank":              {" \n", ErrForm},
		"without a nonce":    {"ONAY: START 5%", ErrForm},
		"short nonce":        {issued.Phrase[:len(issued.Phrase)-1], ErrForm},
		"nonce of a path":    {"ONAY: START nonce=../../../../etc/a", ErrForm},
		"unknown nonce":      {"ONAY: START nonce=" + strings.Repeat("a", nonceLen), ErrUnknown},
		"edited figure":      {strings.Replace(issued.Phrase, "5%", "6%", 1), ErrMismatch},
		"edited expiry":      {strings.Replace(issued.Phrase, "expires=", "expires=9", 1), ErrMismatch},
		"nonce of another":   {strings.Replace(issued.Phrase, issued.Nonce, other.Nonce, 1), ErrMismatch},
		"blanks in between":  {strings.Replace(issued.Phrase, " ", "  ", 1), ErrMismatch},
		"the nonce alone":    {"nonce=" + issued.Nonce, ErrMismatch},
		"nonce not the last": {issued.Phrase + " please", ErrForm},
	} {
		if _, err := l.Find(test.phrase); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := NewLedger(t.TempDir())
		time.Sleep(17 * time.Second) // the expiry is rounded down to the minute, so it is not later than requested
		issued := issue(t, l)
		if left := issued.ExpiryTime.Sub(issued.IssueTime); left > validity || left <= validity-time.Minute {
			t.Errorf("valid for %s, want at most %s and at most a minute less", left, validity)
		}
		time.Sleep(time.Until(issued.ExpiryTime) - time.Nanosecond)
		if _, err := l.Find(issued.Phrase); err != nil {
			t.Errorf("just before the expiry: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := l.Find(issued.Phrase); !errors.Is(err, ErrExpired) {
			t.Errorf("at the expiry: %v, want %v", err, ErrExpired)
		}
		if err := l.Use(issued); !errors.Is(err, ErrExpired) {
			t.Errorf("used at the expiry: %v, want %v", err, ErrExpired)
		}
	})
}

// Each goroutine opens the ledger itself, as separate processes do.
func TestOneUserOfMany(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	issued := issue(t, NewLedger(dir))
	var wg sync.WaitGroup
	var won, lost atomic.Int32
	for range 16 {
		wg.Go(func() {
			switch err := NewLedger(dir).Use(issued); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, ErrUsed):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 15 {
		t.Errorf("%d used the phrase and %d were refused, want 1 and 15", won.Load(), lost.Load())
	}
}

func TestDamagedLedger(t *testing.T) {
	t.Parallel()
	l := NewLedger(t.TempDir())
	issued := issue(t, l)
	path := filepath.Join(l.dir, issued.Nonce+".json")
	for name, content := range map[string]string{
		"not JSON":      "{",
		"another nonce": strings.Replace(read(t, path), `"nonce":"`+issued.Nonce, `"nonce":"`+strings.Repeat("b", nonceLen), 1),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Find(issued.Phrase); err == nil {
			t.Errorf("%s: the phrase was accepted", name)
		}
	}
}

// If the use of a phrase cannot be synced to disk, nothing starts, and the phrase does not work a second time.
func TestFailedWriteOfAUseConsumesThePhrase(t *testing.T) {
	dir := t.TempDir()
	l := NewLedger(dir)
	issued := issue(t, l)
	repair := durabletest.FailFolders(t, dir)
	if err := l.Use(issued); err == nil || !strings.Contains(err.Error(), "nothing was started, but the phrase counts as used") {
		t.Errorf("got %v", err)
	}
	repair()
	if err := l.Use(issued); !errors.Is(err, ErrUsed) {
		t.Errorf("again: got %v, want %v", err, ErrUsed)
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	l := NewLedger(t.TempDir())
	boom := errors.New("no PSI")
	for name, compose := range map[string]func(string, time.Time) (string, any, error){
		"compose fails":     func(string, time.Time) (string, any, error) { return "", nil, boom },
		"nonce left out":    func(string, time.Time) (string, any, error) { return "ONAY: START", nil, nil },
		"payload not JSON":  func(n string, _ time.Time) (string, any, error) { return "ONAY: nonce=" + n, func() {}, nil },
		"nonce not at last": func(n string, _ time.Time) (string, any, error) { return "nonce=" + n + " ONAY", nil, nil },
	} {
		if _, err := l.Issue(validity, compose); err == nil {
			t.Errorf("%s: a phrase was issued", name)
		}
	}
	if files, err := os.ReadDir(l.dir); err != nil || len(files) != 0 {
		t.Errorf("%d files were left (%v)", len(files), err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func FuzzNonceOf(f *testing.F) {
	for _, seed := range []string{"", "nonce=", "ONAY: x nonce=abcdefghijklmnop", "nonce=../../etc/passwd00", "nonce=abcdefghijklmno\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, phrase string) {
		nonce, err := nonceOf(phrase)
		if err != nil {
			return
		}
		if filepath.Base(nonce) != nonce || len(nonce) != nonceLen || !strings.Contains(phrase, nonceKey+nonce) {
			t.Errorf("phrase %q: nonce %q", phrase, nonce)
		}
	})
}
