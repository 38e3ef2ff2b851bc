package promote

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/confirmation"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
)

// Validity is how long a phrase is valid: long enough to read what it confirms, and to ask a second person.
const Validity = 30 * time.Minute

// The reasons to refuse a valid phrase. Nothing has changed then, and the phrase remains valid.
var (
	// ErrOtherModel means that the model is not the checked one.
	ErrOtherModel = errors.New("the model is not the one that was checked")
	// ErrOtherEvidence means that the evidence has changed since the check.
	ErrOtherEvidence = errors.New("the evidence has changed since it was checked")
	// ErrOtherPSI means that the drift has changed since the check.
	ErrOtherPSI = errors.New("the drift has changed since it was checked")
	// ErrOtherTicket means that the phrase differs from its pledge in the ledger: somebody edited the ledger.
	ErrOtherTicket = errors.New("the phrase differs from its entry in the ledger")
	// ErrBlocked means that a blocker appeared after the check.
	ErrBlocked = errors.New("the promotion is blocked")
	// ErrNotReady means that a check gets no phrase, because of a blocker other than the confirmation.
	ErrNotReady = errors.New("no phrase while something else blocks")
)

// Pledge is what a phrase confirms: the question and the findings.
type Pledge struct {
	// Models and Evidence are absolute folders, Model is "name/version".
	Models   string      `json:"models"`
	Model    string      `json:"model"`
	To       string      `json:"to"`
	Evidence string      `json:"evidence"`
	Policy   gate.Policy `json:"policy"`
	// Engines and Executors are the addresses of the services. With a group, Executors holds the ids present at the check; the
	// promotion judges the executors present then.
	Engines   []string            `json:"engines"`
	Executors []string            `json:"executors"`
	Fleet     *fleetgroup.Address `json:"fleet,omitempty"`
	// Digest, PSI, Head and Files are the findings: the model's digest, the overall index, the hash of the newest line of
	// the evidence chain, and the SHA-256 of every judged file.
	Digest string            `json:"digest"`
	PSI    float64           `json:"psi"`
	Head   string            `json:"evidence_head"`
	Files  map[string]string `json:"files"`

	ticket *confirmation.Ticket
}

// Keep writes the check to the evidence folder, and returns the hash of the chain's newest line afterwards. The folder must
// then verify.
func (c *Check) Keep(folder, git string, seal evidence.Seal) (head string, err error) {
	store, err := evidence.Open(folder, evidence.Options{Seal: seal})
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

// Ask issues the phrase of a ready check, for the evidence chain with the given head.
func Ask(l *confirmation.Ledger, q Question, c *Check, head string) (*confirmation.Ticket, error) {
	if !c.Ready() {
		return nil, ErrNotReady
	}
	p := Pledge{
		Model: c.Name + "/" + c.From, To: c.To, Policy: c.Policy, Engines: []string{}, Executors: []string{}, Fleet: q.Fleet,
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
		phrase := p.phrase(nonce, expires)
		return phrase, p, checkPhrase(phrase)
	})
}

// Redeem returns what a phrase confirms. The error is [ErrPhrase], one of package confirmation, or [ErrOtherTicket]. With
// [confirmation.ErrUsed] it also returns the pledge, for [Releaser.Finish].
func Redeem(l *confirmation.Ledger, text string) (*Pledge, error) {
	text = strings.TrimSpace(text)
	if err := checkPhrase(text); err != nil {
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
	if text != p.phrase(ticket.Nonce, ticket.ExpiryTime) {
		return nil, ErrOtherTicket
	}
	return p, err
}

// Question returns the question that the phrase was issued for. The services have the addresses in Engines and Executors.
func (p *Pledge) Question(services *fleet.Services) Question {
	return Question{
		Models: p.Models, Model: p.Model, As: p.To, Evidence: p.Evidence, Policy: p.Policy,
		Engines: services.Engines, Executors: services.Executors,
	}
}

// Holds compares a new check with the confirmed findings. The error is [ErrOtherModel], [ErrOtherEvidence], [ErrOtherPSI]
// or [ErrBlocked].
func (p *Pledge) Holds(c *Check) error {
	if !confirmation.Equal(c.Digest, p.Digest) {
		return fmt.Errorf("%w: %s has digest %s, but the phrase is for %s", ErrOtherModel, p.Model, short(c.Digest), short(p.Digest))
	}
	if names := moved(p.Files, c.digests()); len(names) > 0 {
		return fmt.Errorf("%w: %v", ErrOtherEvidence, names)
	}
	if !confirmation.Equal(c.Head, p.Head) {
		return fmt.Errorf("%w: the head of the chain is %s, but the phrase is for %s", ErrOtherEvidence, short(c.Head), short(p.Head))
	}
	if c.PSI != p.PSI { // the same file gives the same number, bit for bit
		return fmt.Errorf("%w: overall PSI is %v, but the phrase is for %v", ErrOtherPSI, c.PSI, p.PSI)
	}
	if !c.Ready() {
		return ErrBlocked
	}
	return nil
}

// Given holds the options given with a phrase, under the names of the flags. Empty fields were not given.
type Given struct {
	Models, Evidence, Model, As string
	Policy                      *gate.Policy
}

// Contradicts returns an error if an option differs from what the phrase was issued for.
func (p *Pledge) Contradicts(g Given) error {
	for _, f := range []struct{ name, value, want string }{{"models", g.Models, p.Models}, {"evidence", g.Evidence, p.Evidence}} {
		if abs, err := filepath.Abs(f.value); err == nil && f.value != "" && abs != f.want {
			return fmt.Errorf("--%s %s: the phrase is for %s", f.name, f.value, f.want)
		}
	}
	if g.Model != "" {
		entry, err := model.OpenRegistry(p.Models).Find(g.Model)
		if err != nil {
			return err
		}
		if entry.String() != p.Model {
			return fmt.Errorf("%w: --model %s, but the phrase is for %s", ErrOtherModel, entry, p.Model)
		}
	}
	if g.As != "" && g.As != p.To {
		return fmt.Errorf("--as %s: the phrase is for %s", g.As, p.To)
	}
	if g.Policy != nil && !reflect.DeepEqual(*g.Policy, p.Policy) {
		return errors.New("--policy: the phrase is for another policy")
	}
	return nil
}

// Hint returns what to do about a refused phrase; empty if nothing is known to help. state is the folder of the ledger.
func Hint(err error, state string) string {
	for _, r := range []struct {
		err  error
		hint string
	}{
		{confirmation.ErrUnknown, "phrases are kept in --state " + state + " of the machine that issued them; greenlight promote --check issues one"},
		{confirmation.ErrMismatch, "copy the whole phrase as greenlight promote --check printed it"},
		{confirmation.ErrUsed, "a phrase works once; greenlight promote --check issues another"},
		{confirmation.ErrExpired, "check again: greenlight promote --check issues another"},
		{ErrOtherModel, "check the model that you want to promote: greenlight promote --check --model ..."},
		{ErrOtherEvidence, "check the current evidence: greenlight promote --check"},
		{ErrOtherPSI, "check the current drift: greenlight promote --check"},
		{ErrOtherTicket, "the files in --state " + state + " were edited; greenlight promote --check issues another phrase"},
		{ErrPhrase, "copy the whole phrase as greenlight promote --check printed it, in quotes"},
	} {
		if errors.Is(err, r.err) {
			return r.hint
		}
	}
	return ""
}
