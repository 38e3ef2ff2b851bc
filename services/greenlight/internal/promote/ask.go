package promote

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Validity is how long a phrase works: long enough to read what it stands for, and to ask a second person.
const Validity = 30 * time.Minute

// Why a phrase that works is refused all the same. Nothing was changed by then, and it still works.
var (
	// ErrOtherModel is a model that is not the one which was checked.
	ErrOtherModel = errors.New("the model is another one than was checked")
	// ErrOtherEvidence is evidence that was written to since.
	ErrOtherEvidence = errors.New("the evidence has changed since it was checked")
	// ErrOtherPSI is drift that was measured again since.
	ErrOtherPSI = errors.New("the drift is another one than was checked")
	// ErrOtherTicket is a phrase that does not say what was kept with it: the ledger was edited.
	ErrOtherTicket = errors.New("the phrase does not say what was kept with it")
	// ErrBlocked is a blocker that has come up since.
	ErrBlocked = errors.New("the promotion is blocked")
	// ErrNotReady is a check with a blocker beside the confirmation: there is no phrase for it.
	ErrNotReady = errors.New("no phrase while something else blocks")
)

// Pledge is what a phrase stands for: all that was asked, and what was found.
type Pledge struct {
	// Models and Evidence are absolute folders, Model is "name/version".
	Models   string      `json:"models"`
	Model    string      `json:"model"`
	To       string      `json:"to"`
	Evidence string      `json:"evidence"`
	Policy   gate.Policy `json:"policy"`
	// Engines and Executors are the addresses that were asked.
	Engines   []string `json:"engines"`
	Executors []string `json:"executors"`
	// Digest, PSI, Head and Files are what was found: the model's digest, the overall index, the hash of the newest line of
	// the evidence chain, and the SHA-256 of every file that was judged.
	Digest string            `json:"digest"`
	PSI    float64           `json:"psi"`
	Head   string            `json:"evidence_head"`
	Files  map[string]string `json:"files"`

	ticket *confirmation.Ticket
}

// Keep writes the check to the evidence folder, and returns the hash of the newest line of the chain after it. The folder
// must hold then.
func (c *Check) Keep(folder, git string) (head string, err error) {
	store, err := evidence.Open(folder, evidence.Options{})
	if err != nil {
		return "", err
	}
	err = store.WriteJSON(CheckName, c.Header(git), c)
	if err = errors.Join(err, store.Close()); err != nil {
		return "", err
	}
	report, err := evidence.Verify(folder)
	if err != nil {
		return "", err
	}
	return report.Head, report.Err()
}

// Ask issues the phrase of a check that is ready, for the evidence chain with that head.
func Ask(l *confirmation.Ledger, q Question, c *Check, head string) (*confirmation.Ticket, error) {
	if !c.Ready() {
		return nil, ErrNotReady
	}
	p := Pledge{
		Model: c.Name + "/" + c.From, To: c.To, Policy: c.Policy, Engines: []string{}, Executors: []string{},
		Digest: c.Digest, PSI: c.PSI, Head: head, Files: c.digests(),
	}
	var err error
	if p.Models, err = filepath.Abs(q.Models); err != nil {
		return nil, err
	}
	if p.Evidence, err = filepath.Abs(q.Evidence); err != nil {
		return nil, err
	}
	for _, e := range q.Engines {
		p.Engines = append(p.Engines, e.Addr)
	}
	for _, e := range q.Executors {
		p.Executors = append(p.Executors, e.Addr)
	}
	return l.Issue(Validity, func(nonce string, expires time.Time) (string, any, error) {
		phrase := Phrase{
			From: c.From, To: c.To, Model: short(c.Digest), Evidence: short(head), PSI: psiText(c.PSI), Expires: expires, Nonce: nonce,
		}.String()
		_, err := ParsePhrase(phrase)
		return phrase, p, err
	})
}

// Redeem finds what a phrase stands for. The error is that of a text that is no phrase, one of those of package confirm,
// or [ErrOtherTicket]. With [confirmation.ErrUsed] there is a pledge as well, for [Pledge.Finish].
func Redeem(l *confirmation.Ledger, text string) (*Pledge, error) {
	phrase, err := ParsePhrase(text)
	if err != nil {
		return nil, err
	}
	ticket, err := l.Find(text)
	if err != nil && !errors.Is(err, confirmation.ErrUsed) {
		return nil, err
	}
	p := &Pledge{ticket: ticket}
	if err := json.Unmarshal(ticket.Payload, p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOtherTicket, err)
	}
	_, version, _ := cut(p.Model)
	if phrase.From != version || phrase.To != p.To || phrase.Model != short(p.Digest) || phrase.Evidence != short(p.Head) ||
		phrase.PSI != psiText(p.PSI) || !phrase.Expires.Equal(ticket.ExpiryTime) || phrase.Nonce != ticket.Nonce {
		return nil, ErrOtherTicket
	}
	return p, err
}

// Question is what the phrase was issued for, asked again. The services are those of Engines and Executors.
func (p *Pledge) Question(services *fleet.Services) Question {
	return Question{
		Models: p.Models, Model: p.Model, As: p.To, Evidence: p.Evidence, Policy: p.Policy,
		Engines: services.Engines, Executors: services.Executors,
	}
}

// Holds compares a new check with what was confirmed. The error is [ErrOtherModel], [ErrOtherEvidence], [ErrOtherPSI] or
// [ErrBlocked].
func (p *Pledge) Holds(c *Check) error {
	if !confirmation.Equal(c.Digest, p.Digest) {
		return fmt.Errorf("%w: %s has the digest %s, and the phrase is for %s", ErrOtherModel, p.Model, short(c.Digest), short(p.Digest))
	}
	if names := moved(p.Files, c.digests()); len(names) > 0 {
		return fmt.Errorf("%w: %v", ErrOtherEvidence, names)
	}
	if !confirmation.Equal(c.Head, p.Head) {
		return fmt.Errorf("%w: the head of the chain is %s, and the phrase is for %s", ErrOtherEvidence, short(c.Head), short(p.Head))
	}
	if c.PSI != p.PSI { // the same file gives the same number to the bit
		return fmt.Errorf("%w: overall PSI is %v, and the phrase is for %v", ErrOtherPSI, c.PSI, p.PSI)
	}
	if !c.Ready() {
		return ErrBlocked
	}
	return nil
}
