// Package confirmation keeps confirmation phrases. The program prints a phrase, a person gives it back, and it works
// once and for a limited time.
//
// A phrase is one line that describes the action for people and ends with a nonce:
//
//	ONAY: Canary START 5%/30dk observe-only ... nonce=k3vq6xj2rw5pzt4m
//
// The exact action is the payload: any JSON, stored with the phrase and returned with it. The ledger is a folder with
// one file for every issued phrase, and an empty file for every used phrase:
//
//	k3vq6xj2rw5pzt4m.json   the phrase, its payload and its times; written once
//	k3vq6xj2rw5pzt4m.used   created by exactly one process before the action starts; never removed
//
// A phrase therefore works at most once, even if processes are killed or several run at the same time. It protects against
// mistakes and stale decisions. It is not a secret: the control services decide who may act.
package confirmation

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// The errors of a refused phrase.
var (
	// ErrForm means that the text does not end with a nonce.
	ErrForm = errors.New("not a confirmation phrase: it must end with nonce= and a nonce")
	// ErrUnknown means that the nonce was never issued here.
	ErrUnknown = errors.New("no phrase with this nonce was issued")
	// ErrMismatch means that the nonce was issued with a different phrase: someone edited it.
	ErrMismatch = errors.New("this is not the phrase that was issued with this nonce")
	// ErrUsed means that the phrase was used before, successfully or not.
	ErrUsed = errors.New("this phrase was used before")
	// ErrExpired means that the phrase is no longer valid.
	ErrExpired = errors.New("this phrase has expired")
)

const (
	// Validity is how long a phrase works by default. It is short because a decision is about the current state.
	Validity = 30 * time.Minute
	// Onay explains the word that every confirmation begins with.
	Onay = "ONAY is Turkish for approval"
	// maxTicket bounds the file of a phrase, in bytes. The payload may hold the digests of all evidence.
	maxTicket = 8 << 20
	// nonceKey is the prefix of the last field of a phrase.
	nonceKey = "nonce="
	// nonceLen is the length of a nonce in base 32 characters: 80 bits. A nonce must be hard to guess, must not repeat, and must
	// be short enough to read aloud.
	nonceLen = 16
)

// Ledger is a folder of phrases. It is safe for concurrent use, by any number of processes.
type Ledger struct{ dir string }

// NewLedger returns the ledger of the folder. [Ledger.Issue] creates the folder if needed.
func NewLedger(dir string) *Ledger { return &Ledger{dir} }

// Ticket is one issued phrase.
type Ticket struct {
	Nonce string `json:"nonce"`
	// Phrase is the whole line, with its nonce.
	Phrase string `json:"phrase"`
	// Payload is the action to confirm, as the caller gave it.
	Payload    json.RawMessage `json:"payload"`
	IssueTime  time.Time       `json:"issue_time"`
	ExpiryTime time.Time       `json:"expiry_time"`
}

// Issue draws a nonce and stores the phrase and the payload that compose returns for it. The phrase must end with "nonce=" and
// the nonce. It expires after the validity, rounded down to the minute so that the phrase can show the time.
func (l *Ledger) Issue(validity time.Duration, compose func(nonce string, expires time.Time) (phrase string, payload any, err error)) (*Ticket, error) {
	now := time.Now().UTC()
	t := &Ticket{Nonce: strings.ToLower(rand.Text()[:nonceLen]), IssueTime: now, ExpiryTime: now.Add(validity).Truncate(time.Minute)}
	phrase, payload, err := compose(t.Nonce, t.ExpiryTime)
	if err != nil {
		return nil, err
	}
	t.Phrase = phrase
	if nonce, err := nonceOf(phrase); err != nil || nonce != t.Nonce {
		return nil, fmt.Errorf("phrase %q: does not end with %s%s", phrase, nonceKey, t.Nonce)
	}
	if t.Payload, err = json.Marshal(payload); err != nil {
		return nil, fmt.Errorf("payload of the phrase: %w", err)
	}
	if err := durable.MkdirAll(l.dir, 0o755); err != nil {
		return nil, err
	}
	err = durable.Write(l.path(t.Nonce, ".json"), 0o600, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false) // keep ">" and "<" readable
		return enc.Encode(t)
	})
	if err != nil {
		return nil, fmt.Errorf("store the phrase: %w", err)
	}
	return t, nil
}

// Find returns the ticket of a valid phrase: one that was issued with exactly this text and is neither used nor expired. For
// any other phrase it returns one of the errors above. Surrounding blanks are ignored. Find changes nothing.
func (l *Ledger) Find(phrase string) (*Ticket, error) {
	phrase = strings.TrimSpace(phrase)
	nonce, err := nonceOf(phrase)
	if err != nil {
		return nil, err
	}
	raw, err := durable.ReadFile(l.path(nonce, ".json"), maxTicket)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrUnknown, l.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger of phrases: %w", err)
	}
	t := &Ticket{}
	if err := json.Unmarshal(raw, t); err != nil {
		return nil, fmt.Errorf("ledger of phrases: %s: %w", l.path(nonce, ".json"), err)
	}
	if !Equal(phrase, t.Phrase) || t.Nonce != nonce {
		return nil, ErrMismatch
	}
	return t, l.open(t)
}

// Use marks the ticket as used, on disk, before it returns nil. Only one caller in all processes succeeds. All others get
// [ErrUsed]. If the ticket has expired since Find, the error is [ErrExpired].
func (l *Ledger) Use(t *Ticket) error {
	if err := l.open(t); err != nil {
		return err
	}
	// Exclusive creation lets only one process succeed. The file is empty, so a kill cannot leave a partial file. A power cut
	// before the folder is synced undoes a use that nobody has acted on yet.
	mark, err := durable.OpenFile(l.path(t.Nonce, ".used"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return ErrUsed
	}
	if err != nil {
		return fmt.Errorf("mark the phrase as used: %w", err)
	}
	if err := errors.Join(durable.Sync(mark), mark.Close(), durable.SyncDir(l.dir)); err != nil {
		return fmt.Errorf("mark the phrase as used: %w: nothing was started, but the phrase counts as used; make a new plan", err)
	}
	return nil
}

// open returns an error if the ticket is used or expired.
func (l *Ledger) open(t *Ticket) error {
	switch _, err := os.Lstat(l.path(t.Nonce, ".used")); {
	case err == nil:
		return ErrUsed
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("ledger of phrases: %w", err)
	}
	if !time.Now().Before(t.ExpiryTime) {
		return fmt.Errorf("%w: it was valid until %s", ErrExpired, t.ExpiryTime.UTC().Format("2006-01-02T15:04Z"))
	}
	return nil
}

func (l *Ledger) path(nonce, suffix string) string { return filepath.Join(l.dir, nonce+suffix) }

// nonceOf returns the nonce at the end of a phrase. A nonce has only letters and digits, so it cannot name a file in another
// folder.
func nonceOf(phrase string) (string, error) {
	fields := strings.Fields(phrase)
	if len(fields) == 0 {
		return "", ErrForm
	}
	nonce, ok := strings.CutPrefix(fields[len(fields)-1], nonceKey)
	if !ok || len(nonce) != nonceLen || strings.Trim(nonce, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return "", ErrForm
	}
	return nonce, nil
}

// Equal compares two texts in constant time. It compares their digests, so that the time does not reveal their lengths.
func Equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
