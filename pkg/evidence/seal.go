package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// sealName is the file with the signatures: one DSSE envelope per line of chain.jsonl, with that line as its payload.
const sealName = "chain.sig.jsonl"

// lineType is the payload type of those envelopes.
const lineType = "application/vnd.greenlight.evidence-line+json"

// maxSeal limits a line with a signature, in bytes.
const maxSeal = 64 << 10

// ErrKey is returned by [Open] for a signed folder if there is no key to sign new lines.
var ErrKey = errors.New("the evidence folder is signed: pass its signing key with --evidence-key")

// seals appends signatures. The zero value signs nothing.
type seals struct {
	signer *dsse.Signer
	lines  *durable.Lines
}

// openSeals opens the file of the signatures, if there is a key.
func openSeals(dir string, f folder, signer *dsse.Signer) (seals, error) {
	if signer == nil {
		if err := f.regular(sealName); !errors.Is(err, fs.ErrNotExist) {
			return seals{}, errors.Join(err, ErrKey)
		}
		return seals{}, nil
	}
	lines, err := durable.OpenLines(filepath.Join(dir, sealName), maxSeal)
	return seals{signer, lines}, err
}

// sign signs a line of the chain before it is written. A kill between the two leaves a signature for a line that was never
// written; nothing reads it.
func (s seals) sign(line []byte) error {
	if s.signer == nil {
		return nil
	}
	envelope, err := s.signer.Sign(lineType, payloadOf(line))
	if err != nil {
		return err
	}
	envelope.Signatures[0].KeyID = s.signer.ID()
	data, err := json.Marshal(envelope)
	if err != nil {
		return err
	}
	return s.lines.Append(append(data, '\n'))
}

// payloadOf returns the signed part of a line: everything but its line end.
func payloadOf(line []byte) []byte { return bytes.TrimSuffix(line, []byte("\n")) }

func (s seals) close() error {
	if s.lines == nil {
		return nil
	}
	return s.lines.Close()
}

// Trust adds a problem for the first line of the chain that none of the keys has signed. A signature covers all earlier
// lines, so a folder is trusted from its first line even if signing started later. After the first signature, every line must
// have one. Trust detects a folder that was rebuilt without a key, but not lines removed from the end: see [Report.Pin].
func (r *Report) Trust(keys dsse.Keys) error {
	root, err := durable.OpenRoot(r.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	data, err := folder{root}.read(sealName)
	if err != nil {
		return err
	}
	if data == nil {
		r.problem(chainName, min(1, r.Lines), "is not signed: there is no %s", sealName)
		return nil
	}
	signed, other := map[string]bool{}, ""
	for n := 1; len(data) > 0; n++ {
		end := bytes.IndexByte(data, '\n')
		if end < 0 { // cut short by a kill; the next Open removes it
			break
		}
		line := data[:end]
		data = data[end+1:]
		envelope, err := dsse.Parse(line)
		if err != nil {
			r.problem(sealName, n, "%v", err)
			continue
		}
		payload, _, err := keys.Open(envelope, lineType)
		if err != nil {
			if other == "" && len(envelope.Signatures) > 0 {
				other = envelope.Signatures[0].KeyID
			}
			continue
		}
		signed[string(payload)] = true
	}
	first := 0
	for i, e := range r.entries {
		line, err := e.line() // an entry has only one valid form
		if err != nil {
			return err
		}
		has := signed[string(payloadOf(line))]
		switch {
		case has && first == 0:
			first = i + 1
		case !has && first > 0:
			r.problem(chainName, i+1, "is not signed by a trusted key; the lines before it are")
			return nil
		}
	}
	if first == 0 {
		what := "no line is signed by a trusted key"
		if other != "" {
			what += fmt.Sprintf("; the signatures name key %.12s", other)
		}
		r.problem(chainName, min(1, r.Lines), "%s", what)
	}
	return nil
}
