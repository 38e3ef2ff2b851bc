package trees

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// gzipMagic is the start of every gzip file.
const gzipMagic = "\x1f\x8b"

// unpack returns the text of a model's file: it unpacks a gzip file and removes a UTF-8 byte order mark. For any other kind
// of file that it recognises, it returns an error with advice.
func unpack(raw []byte) ([]byte, error) {
	if bytes.HasPrefix(raw, []byte(gzipMagic)) {
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err == nil {
			raw, err = readAll(z)
		}
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, errors.New("a truncated gzip file: copy it again")
		case err != nil:
			return nil, fmt.Errorf("a gzip file that cannot be unpacked: %w", err)
		case bytes.HasPrefix(raw, []byte(gzipMagic)):
			return nil, errors.New("a gzip file in a gzip file: unpack it with gunzip first")
		}
	}
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	if what := fileType(raw); what != "" {
		return nil, errors.New(what)
	}
	return raw, nil
}

const (
	// saveIt is the advice for a model in another format.
	saveIt = `load it in Python and save it as text: XGBoost's save_model("model.json"), LightGBM's booster_.save_model("model.txt")`
	// convertIt is the advice for a format that neither library writes.
	convertIt = "give the model as LightGBM or XGBoost saved it, before the conversion"
	// unpackIt is the advice for a compressed file or an archive.
	unpackIt = "unpack it first"
)

// signature is the start of a kind of file, and its description.
type signature struct{ magic, what string }

// signatures are checked in order. The first bytes are from the formats' own documentation.
var signatures = []signature{
	{"BZh", "a bzip2 file: " + unpackIt},
	{"\xfd7zXZ\x00", "an xz file: " + unpackIt},
	{"\x28\xb5\x2f\xfd", "a zstd file: " + unpackIt},
	{"7z\xbc\xaf\x27\x1c", "a 7z archive: " + unpackIt},
	{"PK\x03\x04", "a zip archive (npz, skops, PyTorch, a spreadsheet): " + saveIt},
	{"PK\x05\x06", "an empty zip archive"},
	{"\x78\x01", "a zlib stream, as joblib writes it: " + saveIt},
	{"\x78\x5e", "a zlib stream, as joblib writes it: " + saveIt},
	{"\x78\x9c", "a zlib stream, as joblib writes it: " + saveIt},
	{"\x78\xda", "a zlib stream, as joblib writes it: " + saveIt},
	{"\x5d\x00\x00", "an lzma stream, as joblib writes it: " + saveIt},
	{"ZF0x", "a joblib file: " + saveIt},
	{"\xff\xfe\x00\x00", "UTF-32 text: convert it with iconv -f UTF-32 -t UTF-8"},
	{"\x00\x00\xfe\xff", "UTF-32 text: convert it with iconv -f UTF-32 -t UTF-8"},
	{"\xff\xfe", "UTF-16 text: convert it with iconv -f UTF-16 -t UTF-8"},
	{"\xfe\xff", "UTF-16 text: convert it with iconv -f UTF-16 -t UTF-8"},
	{"binf", "a model in XGBoost's old binary format: " + saveIt},
	{"bs64", "a model in XGBoost's old base64 format: " + saveIt},
	{"CBM1", "a CatBoost model, which is not supported"},
	{"RDX", "an R data file: save the model in R with xgb.save or lgb.save"},
	{"X\n\x00\x00\x00", "an R data file: save the model in R with xgb.save or lgb.save"},
	{"version https://git-lfs", "a Git LFS pointer, not the actual file: run git lfs pull"},
	{"booster[", "the text of XGBoost's dump_model, which lacks the objective and base_score: " + saveIt},
	{"{\"name\":\"tree\"", "the JSON of LightGBM's dump_model: " + saveIt},
	{"{\"oblivious_trees\"", "a CatBoost model, which is not supported"},
}

// fileType describes a file that is not a model's text, with advice. It returns "" if the file may be a model.
func fileType(raw []byte) string {
	text := bytes.TrimLeft(raw, " \t\r\n")
	if len(text) == 0 {
		return "an empty file"
	}
	for _, s := range signatures {
		if bytes.HasPrefix(raw, []byte(s.magic)) || bytes.HasPrefix(text, []byte(s.magic)) {
			return s.what
		}
	}
	head := raw[:min(len(raw), 4096)]
	lower := bytes.ToLower(head)
	switch {
	case isPickle(raw):
		return "a Python pickle (pickle, joblib), which can run code when it is read: " + saveIt
	case text[0] == '<' && bytes.Contains(lower, []byte("<pmml")):
		return "a PMML document: " + convertIt
	case text[0] == '<' && bytes.Contains(lower, []byte("<html")), bytes.HasPrefix(bytes.ToLower(text[:min(len(text), 9)]), []byte("<!doctype")):
		return "an HTML page, perhaps from a failed download or a login"
	case text[0] == '<':
		return "XML: want a model as saved by LightGBM or XGBoost"
	case len(raw) > 262 && string(raw[257:262]) == "ustar":
		return "a tar archive: " + unpackIt
	case raw[0] == 0x08 && (bytes.Contains(head, []byte("onnx")) || bytes.Contains(head, []byte("TreeEnsemble")) || len(raw) > 2 && raw[2] == 0x12):
		return "an ONNX model: " + convertIt
	case isUBJSON(raw): // which XGBoost writes by default since 2.1
		return ""
	case bytes.IndexByte(head, 0) >= 0 || !utf8.Valid(head[:max(0, len(head)-utf8.UTFMax)]):
		return "an unknown binary file: " + saveIt
	case bytes.HasPrefix(text, []byte("[")) && bytes.Contains(head, []byte(`"nodeid"`)):
		return "the JSON of XGBoost's dump_model, which lacks the objective and base_score: " + saveIt
	case isTable(text):
		return "a table (CSV): data, not a model"
	}
	return ""
}

// isPickle reports whether raw starts like a pickle: of protocol 2 to 5 (PROTO), or of 0 or 1 with the class of an
// object.
func isPickle(raw []byte) bool {
	if len(raw) >= 2 && raw[0] == 0x80 && raw[1] >= 2 && raw[1] <= 5 {
		return true
	}
	for _, start := range []string{"ccopy_reg\n", "ccopyreg\n", "c__builtin__\n", "ccollections\n", "cxgboost", "clightgbm", "csklearn", "(dp0\n", "(lp0\n", "(iopy"} {
		if bytes.HasPrefix(raw, []byte(start)) {
			return true
		}
	}
	return false
}

// isUBJSON reports whether raw starts with a UBJSON object: { is followed by the marker of an integer type, not a
// quote.
func isUBJSON(raw []byte) bool {
	return len(raw) > 2 && raw[0] == '{' && strings.IndexByte("iUIlL$#", raw[1]) >= 0
}

// isTable reports whether the first two lines have the same number of fields, more than one.
func isTable(text []byte) bool {
	if text[0] == '{' || text[0] == '[' {
		return false
	}
	first, rest, ok := bytes.Cut(text, []byte("\n"))
	if !ok {
		return false
	}
	second, _, _ := bytes.Cut(rest, []byte("\n"))
	for _, separator := range []string{",", ";", "\t"} {
		if n := bytes.Count(first, []byte(separator)); n > 0 && n == bytes.Count(second, []byte(separator)) {
			return true
		}
	}
	return false
}
