package promote

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Phrase is what an operator repeats to promote a model:
//
// What the policy in force does not have as the default is named before the model: "tolerance=0.1 ".
//
//	ONAY: Promote v1.8.1-rc1 -> v1.8.1 model=0f3a5b7c9d1e evidence=5d1c3b2a4f6e psi=0.1432 expires=2026-09-01T12:30Z nonce=k3vq6xj2rw5pzt4m
type Phrase struct {
	// From and To are the version before and after.
	From, To string
	// Terms are those of the policy in force, each with a blank after it: see [gate.Policy.Terms].
	Terms string
	// Model and Evidence are the first 12 digits of the model's digest and of the head of the evidence chain.
	Model, Evidence string
	// PSI is the overall index, to four significant digits.
	PSI string
	// Expires is a whole minute, UTC.
	Expires time.Time
	Nonce   string
}

// ErrPhrase is the error of a text that is not the phrase of a promotion.
var ErrPhrase = errors.New("not the phrase of a promotion")

// phraseForm is strict: phrases are pasted, and one that differs was edited.
var phraseForm = regexp.MustCompile(`^ONAY: Promote ([A-Za-z0-9._-]{1,64}) -> ([A-Za-z0-9._-]{1,64}) ` +
	`((?:(?:policy|tolerance|threshold)=[a-z0-9.-]{1,24} ){0,3})model=([0-9a-f]{12}) evidence=([0-9a-f]{12}) psi=([0-9.e+-]{1,16}) expires=([0-9TZ:-]{17}) nonce=([a-z2-7]{16})$`)

const minuteForm = "2006-01-02T15:04Z"

// String returns the text of the phrase.
func (p Phrase) String() string {
	return fmt.Sprintf("ONAY: Promote %s -> %s %smodel=%s evidence=%s psi=%s expires=%s nonce=%s",
		p.From, p.To, p.Terms, p.Model, p.Evidence, p.PSI, p.Expires.UTC().Format(minuteForm), p.Nonce)
}

// ParsePhrase parses a phrase, without the blanks around it. The String of the result is the same text.
func ParsePhrase(text string) (Phrase, error) {
	m := phraseForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return Phrase{}, fmt.Errorf("%w: want one like %q", ErrPhrase, example)
	}
	p := Phrase{From: m[1], To: m[2], Terms: m[3], Model: m[4], Evidence: m[5], PSI: m[6], Nonce: m[8]}
	var err error
	if p.Expires, err = time.Parse(minuteForm, m[7]); err != nil {
		return Phrase{}, fmt.Errorf("%w: expires=%s: want a minute like %s", ErrPhrase, m[7], minuteForm)
	}
	if v, err := strconv.ParseFloat(p.PSI, 64); err != nil || psiText(v) != p.PSI {
		return Phrase{}, fmt.Errorf("%w: psi=%s: want a number like 0.1432", ErrPhrase, p.PSI)
	}
	return p, nil
}

var example = Phrase{
	From: "v1.8.1-rc1", To: "v1.8.1", Model: "0f3a5b7c9d1e", Evidence: "5d1c3b2a4f6e", PSI: "0.1432",
	Expires: time.Date(2026, 9, 1, 12, 30, 0, 0, time.UTC), Nonce: "k3vq6xj2rw5pzt4m",
}.String()

func psiText(psi float64) string { return strconv.FormatFloat(psi, 'g', 4, 64) }
