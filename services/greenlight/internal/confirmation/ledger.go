// Package confirmation keeps confirmations: a phrase that the program printed, that a person gives back, and that works once
// and not for long.
//
// A phrase is one line for people that says what will be done, and ends in its nonce:
//
//	ONAY: Canary START 5%/30dk observe-only ... nonce=k3vq6xj2rw5pzt4m
//
// What exactly was confirmed is the payload: any JSON, kept beside the phrase and given back with it. The ledger is a
// folder with a file for every phrase that was issued, and an empty one for every phrase that was used:
//
//	k3vq6xj2rw5pzt4m.json   the phrase, its payload and its times; written once
//	k3vq6xj2rw5pzt4m.used   made before what was confirmed is begun, by one process alone; never removed
//
// So a kill at any time, and any number of processes at once, leave a phrase that works at most once. It guards against
// mistakes, haste and stale decisions. It is not a secret: who may act is for the control services to decide.
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

// Why a phrase is refused.
var (
	// ErrForm is a text that does not end in a nonce.
	ErrForm = errors.New("not a confirmation phrase, which ends in nonce= and a nonce")
	// ErrUnknown is a nonce that was never issued here.
	ErrUnknown = errors.New("no phrase with this nonce was issued")
	// ErrMismatch is a nonce that was issued with another phrase: something was edited.
	ErrMismatch = errors.New("this is not the phrase that was issued with this nonce")
	// ErrUsed is a phrase that was used before, whatever came of it.
	ErrUsed = errors.New("this phrase was used before")
	// ErrExpired is a phrase whose time is over.
	ErrExpired = errors.New("this phrase has expired")
)

const (
	// maxTicket bounds the file of a phrase. Its payload may hold the digests of all evidence.
	maxTicket = 8 << 20
	// nonceKey is what the last field of a phrase begins with.
	nonceKey = "nonce="
	// nonceLen is how many of the 32 letters and digits of base 32 a nonce has: 80 bits. It must not be guessed or drawn
	// twice, and people have to be able to read it out.
	nonceLen = 16
)

// Ledger is a folder of phrases. It is safe for concurrent use, by any number of processes.
type Ledger struct{ dir string }

// NewLedger returns the ledger of the folder, which [Ledger.Issue] makes if need be.
func NewLedger(dir string) *Ledger { return &Ledger{dir} }

// Ticket is one phrase that was issued.
type Ticket struct {
	Nonce string `json:"nonce"`
	// Phrase is the whole line, with its nonce.
	Phrase string `json:"phrase"`
	// Payload is what was confirmed, as the caller gave it.
	Payload    json.RawMessage `json:"payload"`
	IssueTime  time.Time       `json:"issue_time"`
	ExpiryTime time.Time       `json:"expiry_time"`
}

// Issue draws a nonce and keeps what compose makes of it: a phrase that ends in "nonce=" and the nonce, and the payload.
// The phrase works until expires, which is the validity from now, cut to the minute so that a phrase can say it.
func (l *Ledger) Issue(validity time.Duration, compose func(nonce string, expires time.Time) (phrase string, payload any, err error)) (*Ticket, error) {
	now := time.Now().UTC()
	t := &Ticket{Nonce: strings.ToLower(rand.Text()[:nonceLen]), IssueTime: now, ExpiryTime: now.Add(validity).Truncate(time.Minute)}
	phrase, payload, err := compose(t.Nonce, t.ExpiryTime)
	if err != nil {
		return nil, err
	}
	t.Phrase = phrase
	if nonce, err := nonceOf(phrase); err != nil || nonce != t.Nonce {
		return nil, fmt.Errorf("phrase %q: does not end in %s%s", phrase, nonceKey, t.Nonce)
	}
	if t.Payload, err = json.Marshal(payload); err != nil {
		return nil, fmt.Errorf("payload of the phrase: %w", err)
	}
	if err := durable.MkdirAll(l.dir, 0o755); err != nil {
		return nil, err
	}
	err = durable.WriteFile(l.path(t.Nonce, ".json"), 0o600, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false) // ">" and "<" stay as people read them
		return enc.Encode(t)
	})
	if err != nil {
		return nil, fmt.Errorf("keep the phrase: %w", err)
	}
	return t, nil
}

// Find returns the ticket of a phrase that would work now: one that was issued, letter for letter, and is neither used
// nor expired. Otherwise the error is one of those above, or that of a ledger which cannot be read. Blanks around the
// phrase do not count: it was pasted. Nothing is changed.
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

// Use marks the ticket as used, on disk, before it returns nil: for one caller of all, in any process. Every other gets
// [ErrUsed]; a ticket that has expired since it was found, [ErrExpired].
func (l *Ledger) Use(t *Ticket) error {
	if err := l.open(t); err != nil {
		return err
	}
	// Exclusive creation decides between two processes. That the file is there is all that it says, so no kill can leave
	// a part of it; a power cut before the folder is synced takes back a use that nobody acted on yet.
	mark, err := durable.OpenFile(l.path(t.Nonce, ".used"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return ErrUsed
	}
	if err != nil {
		return fmt.Errorf("mark the phrase as used: %w", err)
	}
	if err := errors.Join(durable.Sync(mark), mark.Close(), durable.SyncDir(l.dir)); err != nil {
		return fmt.Errorf("nothing was started, and the phrase counts as used: make a new plan: mark the phrase as used: %w", err)
	}
	return nil
}

// open says why the ticket does not work any more.
func (l *Ledger) open(t *Ticket) error {
	switch _, err := os.Lstat(l.path(t.Nonce, ".used")); {
	case err == nil:
		return ErrUsed
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("ledger of phrases: %w", err)
	}
	if !time.Now().Before(t.ExpiryTime) {
		return fmt.Errorf("%w: it was good until %s", ErrExpired, t.ExpiryTime.UTC().Format("2006-01-02T15:04Z"))
	}
	return nil
}

func (l *Ledger) path(nonce, suffix string) string { return filepath.Join(l.dir, nonce+suffix) }

// nonceOf is the nonce that a phrase ends in. It is letters and digits alone, so it cannot name a file elsewhere.
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

// Equal compares two texts in a time that depends on neither: of their digests, so that not even a length shows.
func Equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
