package promote

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// ErrPhrase means that a text is not the phrase of a promotion.
var ErrPhrase = errors.New("not the phrase of a promotion")

// phraseForm is strict, because phrases are pasted: one that differs was edited.
var phraseForm = regexp.MustCompile(`^ONAY: Promote [A-Za-z0-9._-]{1,64} -> [A-Za-z0-9._-]{1,64} ` +
	`(?:(?:policy|tolerance|threshold)=[a-z0-9.-]{1,24} ){0,3}model=[0-9a-f]{12} evidence=[0-9a-f]{12} psi=[0-9.e+-]{1,16} expires=[0-9TZ:-]{17} nonce=[a-z2-7]{16}$`)

const (
	minuteForm = "2006-01-02T15:04Z"
	example    = "ONAY: Promote v1.8.1-rc1 -> v1.8.1 model=0f3a5b7c9d1e evidence=5d1c3b2a4f6e psi=0.1432 expires=2026-09-01T12:30Z nonce=k3vq6xj2rw5pzt4m"
)

// phrase returns what an operator repeats to promote the model, like [example]. Before the model it lists the non-default
// policy values in force: "tolerance=0.1 ". The digests are truncated, and PSI has four significant digits.
func (p *Pledge) phrase(nonce string, expires time.Time) string {
	_, version, _ := cut(p.Model)
	return fmt.Sprintf("ONAY: Promote %s -> %s %smodel=%s evidence=%s psi=%s expires=%s nonce=%s", version, p.To, p.Policy.Terms(), short(p.Digest),
		short(p.Head), strconv.FormatFloat(p.PSI, 'g', 4, 64), expires.UTC().Format(minuteForm), nonce)
}

// checkPhrase returns an error unless the text has the form of a phrase.
func checkPhrase(text string) error {
	if !phraseForm.MatchString(text) {
		return fmt.Errorf("%w: want one like %q", ErrPhrase, example)
	}
	return nil
}
