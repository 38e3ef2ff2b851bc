package trees

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// Import reads a model of either library, plain or gzipped, and detects which it is. If the file records an early stop, the
// ensemble has the trees up to the best round, as in XGBClassifier. The name, for example of the file, is used only in
// errors.
func Import(name string, r io.Reader) (*Ensemble, error) { return read(name, r, false) }

// ImportAll is [Import] with all trees of the file, regardless of an early stop.
func ImportAll(name string, r io.Reader) (*Ensemble, error) { return read(name, r, true) }

func read(name string, r io.Reader, all bool) (*Ensemble, error) {
	raw, err := readAll(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if raw, err = unpack(raw); err != nil {
		return nil, fmt.Errorf("%s: this is %w", name, err)
	}
	var e *Ensemble
	library := XGBoost
	switch text := bytes.TrimLeft(raw, " \t\r\n"); {
	case bytes.HasPrefix(text, []byte("tree")):
		library = LightGBM // its files do not record an early stop: save_model omits the later trees
		e, err = parseLightGBM(string(text))
	case bytes.HasPrefix(text, []byte("{")):
		e, err = parseXGBoost(raw, all)
	default:
		return nil, fmt.Errorf("%s: starts with %.20q: want a LightGBM model (text of save_model) or an XGBoost model (JSON or UBJSON of save_model)", name, raw)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s model: %w", name, library, err)
	}
	return e, nil
}

// MaxFile is the size limit of a file, in bytes, before and after unpacking.
const MaxFile = 64 << 20

// Models come from outside, so their cost is limited before they are trusted. The limits allow ten times the largest
// model that could score within a request's budget.
const (
	// maxTrees and maxNodes limit an ensemble; maxDepth limits the splits on the way to a leaf.
	maxTrees = 1 << 16
	maxNodes = 1 << 22
	maxDepth = 1 << 10
	// maxFeatures is the range of a node's feature index.
	maxFeatures = 1 << 16
	// maxWords limits the category sets of an ensemble, 32 categories to a word.
	maxWords = 1 << 22
	// maxCategory is XGBoost's OutOfRangeCat: from here on a float32 cannot represent every integer.
	maxCategory = 1 << 24
	// maxLeaf keeps any sum of leaves finite, in float64 and in float32.
	maxLeaf = math.MaxFloat32 / (2 * maxTrees)
)

func readAll(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxFile {
		return nil, fmt.Errorf("larger than %d bytes", MaxFile)
	}
	return raw, nil
}

// jsonError explains an error of encoding/json to the user who imports a model.
func jsonError(raw []byte, err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the file is truncated")
	case !errors.As(err, &syntax):
		return err
	case syntax.Offset >= int64(len(raw)):
		return errors.New("the file is truncated")
	case strings.Contains(syntax.Error(), "'N' looking for") || strings.Contains(syntax.Error(), "'I' looking for"):
		// Python's json writes these for non-finite numbers.
		return fmt.Errorf("the file contains NaN or Infinity, which a usable model never does: %w", err)
	}
	return err
}
