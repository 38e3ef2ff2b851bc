package trees

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Import reads a model of either library, which it tells by the content. The name, for example the file's, is only for
// errors.
func Import(name string, r io.Reader) (*Ensemble, error) {
	raw, err := readAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	read := detect(raw)
	if read == nil {
		return nil, fmt.Errorf("%s: starts with %.20q: want a LightGBM model (text of save_model, JSON of dump_model) or an XGBoost model (JSON of save_model)", name, raw)
	}
	e, err := read(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return e, nil
}

// detect returns the reader for the content, nil when it is neither library's.
func detect(raw []byte) func(io.Reader) (*Ensemble, error) {
	text := bytes.TrimLeft(raw, " \t\r\n")
	switch {
	case bytes.HasPrefix(text, []byte("tree")):
		return ReadLightGBM
	case !looksLikeJSON(raw):
		return ReadXGBoost // Which says what to do with a binary file.
	case !bytes.HasPrefix(text, []byte("{")):
		return nil
	}
	// The keys that come first would tell, but for a model that another program has written again.
	var top struct {
		Learner  json.RawMessage `json:"learner"`
		TreeInfo json.RawMessage `json:"tree_info"`
	}
	if err := json.Unmarshal(quoteNaN(raw), &top); err == nil && top.TreeInfo != nil && top.Learner == nil {
		return ReadLightGBM
	} else if err != nil && bytes.HasPrefix(text, []byte(`{"name":"tree"`)) {
		return ReadLightGBM
	}
	return ReadXGBoost
}
