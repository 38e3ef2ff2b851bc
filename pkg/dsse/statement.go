package dsse

import (
	"encoding/json"
	"fmt"
)

// StatementType is the payload type of an in-toto statement.
const StatementType = "application/vnd.in-toto+json"

// statementForm is the _type of a statement (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md).
const statementForm = "https://in-toto.io/Statement/v1"

// Statement is an in-toto statement: a claim about subjects that are identified by digests.
type Statement struct {
	Form    string    `json:"_type"`
	Subject []Subject `json:"subject"`
	// PredicateType is a URI that names the kind of the claim.
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Subject is what a statement is about.
type Subject struct {
	Name string `json:"name"`
	// Digest has digests in hexadecimal, by algorithm.
	Digest map[string]string `json:"digest"`
}

// SignStatement signs a claim about the subject with that name and SHA-256.
func (s *Signer) SignStatement(name, sha256, predicateType string, predicate any) (*Envelope, error) {
	claim, err := json.Marshal(predicate)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(Statement{
		Form: statementForm, Subject: []Subject{{name, map[string]string{"sha256": sha256}}}, PredicateType: predicateType, Predicate: claim,
	})
	if err != nil {
		return nil, err
	}
	return s.Sign(StatementType, payload)
}

// OpenStatement returns the statement in an envelope that one of the keys has signed. It returns an error unless the
// statement has that predicate type and exactly one subject, with a SHA-256.
func (k Keys) OpenStatement(e *Envelope, predicateType string) (*Statement, error) {
	payload, _, err := k.Open(e, StatementType)
	if err != nil {
		return nil, err
	}
	s := &Statement{}
	switch err := json.Unmarshal(payload, s); {
	case err != nil:
		return nil, fmt.Errorf("not an in-toto statement: %w", err)
	case s.Form != statementForm:
		return nil, fmt.Errorf("not an in-toto statement: _type %.100q, want %q", s.Form, statementForm)
	case s.PredicateType != predicateType:
		return nil, fmt.Errorf("%w: predicate type %.100q, want %q", ErrType, s.PredicateType, predicateType)
	case len(s.Subject) != 1 || s.Subject[0].Digest["sha256"] == "":
		return nil, fmt.Errorf("an in-toto statement about %d subjects: want one with a SHA-256", len(s.Subject))
	}
	return s, nil
}
