package trees

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Import reads a model of either library, plain or compressed with gzip, and recognises it by its content. Where the
// file says that training was stopped early, the ensemble has the trees up to the best round, as XGBClassifier uses
// them. The name, for example the file's, is only for errors.
func Import(name string, r io.Reader) (*Ensemble, error) { return read(name, r, false) }

// ImportAll is [Import] with all trees of the file, whatever it says about an early stop.
func ImportAll(name string, r io.Reader) (*Ensemble, error) { return read(name, r, true) }

func read(name string, r io.Reader, all bool) (*Ensemble, error) {
	raw, err := readAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if raw, err = unpack(raw); err != nil {
		return nil, fmt.Errorf("%s: this is %w", name, err)
	}
	parse := detect(raw)
	if parse == nil {
		return nil, fmt.Errorf("%s: starts with %.20q: want a LightGBM model (text of save_model, JSON of dump_model) or an XGBoost model (JSON of save_model)", name, raw)
	}
	e, err := parse(raw, all)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return e, nil
}

// detect returns the parser for the content, nil when it is neither library's.
func detect(raw []byte) func(raw []byte, all bool) (*Ensemble, error) {
	text := bytes.TrimLeft(raw, " \t\r\n")
	switch {
	case bytes.HasPrefix(text, []byte("tree")):
		return lightGBM
	case !bytes.HasPrefix(text, []byte("{")):
		return nil
	}
	// The keys that come first would do, except for a model that another program has written again.
	var top struct {
		Learner  json.RawMessage `json:"learner"`
		TreeInfo json.RawMessage `json:"tree_info"`
	}
	if err := json.Unmarshal(quoteNaN(raw), &top); err == nil && top.TreeInfo != nil && top.Learner == nil {
		return lightGBM
	} else if err != nil && bytes.HasPrefix(text, []byte(`{"name":"tree"`)) {
		return lightGBM
	}
	return xgboost
}

// lightGBM parses a model of LightGBM. Its files do not record an early stop: save_model leaves the later trees out.
func lightGBM(raw []byte, _ bool) (*Ensemble, error) {
	e, err := parseLightGBM(raw)
	if err != nil {
		return nil, fmt.Errorf("lightgbm model: %w", err)
	}
	return e, nil
}

// xgboost parses a model of XGBoost.
func xgboost(raw []byte, all bool) (*Ensemble, error) {
	e, err := parseXGBoost(raw, all)
	if err != nil {
		return nil, fmt.Errorf("xgboost model: %w", err)
	}
	return e, nil
}
