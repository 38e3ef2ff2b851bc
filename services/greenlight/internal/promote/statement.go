package promote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

const (
	// StatementName is the file of the signed statement about a promotion: one DSSE envelope.
	StatementName = "promotion.intoto.jsonl"
	// StatementPredicate is the predicate type of the statement.
	StatementPredicate = "https://github.com/greenlight-ml/greenlight/promotion/v1"
)

// predicate is what the statement claims about the model with its digest.
type predicate struct {
	From     string      `json:"from"`
	To       string      `json:"to"`
	Time     time.Time   `json:"time"`
	Blockers []Row       `json:"blockers"`
	PSI      float64     `json:"psi"`
	Watched  []Watched   `json:"watched"`
	Policy   gate.Policy `json:"policy"`
	// Head is the head of the evidence chain at the judgment, Evidence holds the digests of the judged files.
	Head         string           `json:"evidence_head"`
	Evidence     []evidence.Input `json:"evidence"`
	Confirmation string           `json:"confirmation"`
}

func (r *Record) predicate() predicate {
	return predicate{r.From, r.To, r.Time, r.Blockers, r.PSI, r.Watched, r.Policy, r.Head, r.Inputs, r.Confirmation}
}

// sign writes the signed statement about the promotion, if there is a key.
func (r *Record) sign(store *evidence.Store, signer *dsse.Signer) error {
	if signer == nil {
		return nil
	}
	envelope, err := signer.SignStatement(r.Name+"/"+r.To, r.Digest, StatementPredicate, r.predicate())
	if err != nil {
		return err
	}
	line, err := json.Marshal(envelope)
	if err != nil {
		return err
	}
	return store.WriteFile(StatementName, append(line, '\n'))
}

// CheckStatement returns an error unless the folder's promotion, if there is one, has a statement that says the same and that
// one of the keys has signed.
func CheckStatement(folder string, keys dsse.Keys) error {
	rec, err := ReadRecord(folder)
	if rec == nil || err != nil {
		return err
	}
	raw, err := durable.ReadFile(filepath.Join(folder, StatementName), durable.MaxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("is missing: the promotion of %s/%s was made without --evidence-key", rec.Name, rec.To)
	}
	if err != nil {
		return err
	}
	envelope, err := dsse.Parse(raw)
	if err != nil {
		return err
	}
	s, err := keys.OpenStatement(envelope, StatementPredicate)
	if err != nil {
		return err
	}
	if got := s.Subject[0]; got.Name != rec.Name+"/"+rec.To || got.Digest["sha256"] != rec.Digest {
		return fmt.Errorf("is about %.100q with digest %.64q, and %s about %s/%s with digest %s", got.Name, got.Digest["sha256"], PromotionName, rec.Name, rec.To, rec.Digest)
	}
	want, err := json.Marshal(rec.predicate())
	if err != nil {
		return err
	}
	var got bytes.Buffer
	if err := json.Compact(&got, s.Predicate); err != nil {
		return err
	}
	if !bytes.Equal(got.Bytes(), want) {
		return fmt.Errorf("claims something else than %s", PromotionName)
	}
	return nil
}
