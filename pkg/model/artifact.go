// Package model defines models: their parameters, their files with digests, the registry that keeps them, and their
// scorers.
//
// A model is a folder:
//
//	model.json     the parameters and the schema they need; its SHA-256 is the model's digest
//	baseline.json  the production heuristic, fitted to the same training window
//	golden.json    market states and the scores that the model must return for them
//	schema.json    the feature schema, unless it is built in; model.json has its SHA-256
//	reference.json the drift profile: distributions and ranges of inputs and score on the training window (optional)
//	ensemble       the trees as LightGBM or XGBoost wrote them, for a model of that family
//	release.json   how the model was released (optional)
//	offline_report.json  its out-of-time evaluation, as evidence; models of older versions have none
//	manifest.json  digests of the files above, and where the model comes from
//	manifest.sig   the signature of the manifest, which covers all files (optional)
//
// Nothing in a folder changes once it is registered, except the signature, which is added later and has no digest. A
// folder whose digests, schema or golden scores do not match is not loaded.
package model

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/oms"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// The files of a model.
const (
	ModelFile     = "model.json"
	BaselineFile  = "baseline.json"
	GoldenFile    = "golden.json"
	ReferenceFile = "reference.json"
	EnsembleFile  = "ensemble"
	// OfflineFile is the model's own offline evaluation, in the format of the evidence file with that name.
	OfflineFile  = "offline_report.json"
	ManifestFile = "manifest.json"
	// SchemaFile is the document of the feature schema: see [feature.ParseSchema].
	SchemaFile = "schema.json"

	modelFormat    = "greenlight/model/v1"
	manifestFormat = "greenlight/manifest/v1"
	baselineFormat = "greenlight/baseline/v1"

	// maxFile is the size limit, in bytes, of a file with parameters, vectors or bins. maxSmall is the limit of the others;
	// listing the models reads one of those per model.
	maxFile, maxSmall = 64 << 20, 1 << 20
	// goldenTolerance is how far a golden score may differ: exp differs in its last bits between architectures.
	goldenTolerance = 1e-12
)

// Scorer turns vectors, with one value per feature of its schema, into scores in [0,1]. It is safe for concurrent use.
type Scorer interface {
	Score(x []float64) float64
	// Scores sets scores[i] to the Score of row i of x, which holds the vectors one after the other.
	Scores(scores, x []float64)
}

// Spec is the content of model.json: everything that a score depends on.
type Spec struct {
	Format string `json:"format"`
	// Family is [FamilyLogistic] or [FamilyTrees].
	Family string `json:"family"`
	// Schema names the feature schema; SchemaHash pins its meaning.
	Schema     string `json:"schema"`
	SchemaHash string `json:"schema_hash"`
	// SchemaSHA256 is the digest of [SchemaFile]; empty for a built-in schema, which has no file.
	SchemaSHA256 string `json:"schema_sha256,omitempty"`
	// Label is the event whose probability is the score.
	Label Label `json:"label"`
	// Logistic or Trees holds the parameters, depending on the family.
	Logistic *Logistic  `json:"logistic,omitempty"`
	Trees    *TreesSpec `json:"trees,omitempty"`
}

// Label describes what is predicted. The built-in label is that the range of mid over the horizon exceeds Threshold *
// sigma_ref * sqrt(horizon). A label from a table has a Column.
type Label struct {
	// HorizonMinutes is how far ahead the label looks, in minutes; 0 if unknown.
	HorizonMinutes float64 `json:"horizon_minutes"`
	// Threshold is c: a quantile, on the training window, of the range in units of sigma_ref sqrt(horizon). It is 0 for a
	// label from a table.
	Threshold float64 `json:"threshold"`
	// Quantile is the quantile that gave Threshold; 0 means 0.72.
	Quantile float64 `json:"quantile,omitempty"`
	// Column is the data column with the label: 1 for a positive row, 0 for a negative one.
	Column string `json:"column,omitempty"`
}

// The kinds of a label.
const (
	RangeLabel = "range" // the built-in label
	TableLabel = "table" // it came with the data
)

// Kind returns the kind of the label, empty if it is unknown.
func (l Label) Kind() string {
	switch {
	case l.Column != "":
		return TableLabel
	case l.Threshold > 0:
		return RangeLabel
	}
	return ""
}

// Horizon returns how far ahead the label looks; 0 if unknown.
func (l Label) Horizon() time.Duration {
	return time.Duration(l.HorizonMinutes * float64(time.Minute)).Round(time.Millisecond)
}

// Manifest is the content of manifest.json.
type Manifest struct {
	Format  string `json:"format"`
	Name    string `json:"name"`
	Version string `json:"version"`
	// Digest is the SHA-256 of model.json: the model's identity in answers, metrics and evidence.
	Digest string `json:"digest"`
	// Family, Schema and SchemaHash repeat model.json.
	Family     string `json:"family"`
	Schema     string `json:"schema"`
	SchemaHash string `json:"schema_hash"`
	// Files are the SHA-256 of the other files, by name.
	Files      map[string]string `json:"files"`
	Training   Training          `json:"training"`
	Evaluation Evaluation        `json:"evaluation"`
	// Card is what a reader must know before using the model.
	Card string `json:"card"`
}

// Training describes what the model was fitted to.
type Training struct {
	// Data describes the data set; DataDigest covers the digests of its files.
	Data       string `json:"data"`
	DataDigest string `json:"data_digest"`
	// Simulated reports that the data do not come from a real market.
	Simulated bool `json:"simulated"`
	// Start is the first decision time of the training rows, and End is one past the last, UTC.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	Rows  int       `json:"rows"`
	Git   string    `json:"git"`
}

// Evaluation is the out-of-time result of this kind of model: walk-forward folds of the same data, pooled.
type Evaluation struct {
	AUC           float64 `json:"auc"`
	PrecisionAt20 float64 `json:"precision_at_20"`
	BaseRate      float64 `json:"base_rate"`
	Rows          int     `json:"rows"`
	Folds         int     `json:"folds"`
	// Seed seeds the bootstrap of the intervals. The fit itself is deterministic: the same data give the same model.
	Seed uint64 `json:"seed"`
}

// Golden is the content of golden.json.
type Golden struct {
	Vectors []GoldenVector `json:"vectors"`
}

// GoldenVector is a market state and its score.
type GoldenVector struct {
	X     []float64 `json:"x"`
	Score float64   `json:"score"`
}

// Artifact is a model ready to be registered or, after [Load], verified and ready to score.
type Artifact struct {
	Manifest Manifest
	Spec     Spec
	Golden   Golden
	Baseline *Baseline
	// Reference is the drift profile of the training window, or nil.
	Reference *drift.Profile
	// Ensemble is the file of a tree model; nil for other families.
	Ensemble []byte
	// Offline is the content of [OfflineFile] as written, or nil. This package computes its digest and does not interpret
	// it.
	Offline []byte
	// Release records how the model was released; nil if it was not.
	Release *Release
	// manifest is the manifest's file, as it was verified.
	manifest []byte
	// Schema is the schema that Spec names. The maker of a draft sets it for a schema that is not built in. Scorer is safe for
	// concurrent use.
	Schema *feature.Schema
	Scorer Scorer
	// NoFP32 is why the golden vectors rule out single precision; empty if they allow it. Load sets it.
	NoFP32 string
}

// Digest returns the model's identity, 64 lower-case hexadecimal digits.
func (a *Artifact) Digest() string { return a.Manifest.Digest }

// Identify computes the digest that [Registry.Add] will give a draft. A model's own evaluation names this digest but is
// written before the model is registered.
func (a *Artifact) Identify() error {
	if _, err := a.completeSpec(); err != nil {
		return err
	}
	raw, err := encode(a.Spec)
	if err != nil {
		return fmt.Errorf("%s: %w", ModelFile, err)
	}
	a.Manifest.Digest = digest(raw)
	return nil
}

// completeSpec fills in the format and the schema. It returns the content of [SchemaFile], nil for a built-in schema.
func (a *Artifact) completeSpec() (document []byte, err error) {
	a.Spec.Format = modelFormat
	if a.Schema == nil || a.Schema.Builtin() {
		if a.Schema, err = builtin(a.Spec.Schema); err != nil {
			return nil, fmt.Errorf("%s: %w", ModelFile, err)
		}
	}
	a.Spec.Schema, a.Spec.SchemaHash, a.Spec.SchemaSHA256 = a.Schema.Name, a.Schema.Hash(), ""
	if a.Schema.Builtin() {
		return nil, nil //nolint:nilnil // it has no file
	}
	if document, err = a.Schema.Document(); err != nil {
		return nil, fmt.Errorf("%s: %w", SchemaFile, err)
	}
	if _, err := feature.ParseSchema(document); err != nil { // a name that is taken by a built-in schema
		return nil, fmt.Errorf("%s: %w", SchemaFile, err)
	}
	a.Spec.SchemaSHA256 = digest(document)
	return document, nil
}

// builtin returns the built-in schema of that name.
func builtin(name string) (*feature.Schema, error) {
	s, ok := feature.Lookup(name)
	if !ok {
		known := make([]string, 0, 2)
		for _, s := range feature.Schemas() {
			known = append(known, s.Name)
		}
		return nil, fmt.Errorf("unknown feature schema %q: the built-in schemas are %s; a model of another schema has a %s",
			text.Clean(name, maxRef), strings.Join(known, ", "), SchemaFile)
	}
	return s, nil
}

// readSchema reads the schema of the model that is being read.
func (a *Artifact) readSchema(root *os.Root) error {
	if a.Spec.SchemaSHA256 == "" {
		s, err := builtin(a.Spec.Schema)
		if err != nil {
			return fmt.Errorf("%s: %w", ModelFile, err)
		}
		a.Schema = s
		return nil
	}
	raw, err := readFile(root, SchemaFile)
	if err != nil {
		return err
	}
	if got := digest(raw); got != a.Spec.SchemaSHA256 {
		return fmt.Errorf("%s has the digest %.12s, but %s says %.12s: the file was changed or is damaged", SchemaFile, got, ModelFile, a.Spec.SchemaSHA256)
	}
	if a.Schema, err = feature.ParseSchema(raw); err != nil {
		return fmt.Errorf("%s: %w", SchemaFile, err)
	}
	if a.Schema.Name != a.Spec.Schema {
		return fmt.Errorf("%s describes schema %q, but %s names %q", SchemaFile, a.Schema.Name, ModelFile, a.Spec.Schema)
	}
	return nil
}

// bind checks the parts against each other and creates the scorer.
func (a *Artifact) bind() error {
	s := &a.Spec
	if s.Format != modelFormat {
		return fmt.Errorf("%s: format %q: want %q", ModelFile, s.Format, modelFormat)
	}
	if schema := a.Schema; s.SchemaHash != schema.Hash() {
		return fmt.Errorf("%s: schema %s has hash %.12s, but the model needs %.12s: the meaning of a feature has changed",
			ModelFile, s.Schema, schema.Hash(), s.SchemaHash)
	}
	if err := a.bindScorer(); err != nil {
		return fmt.Errorf("%s: %w", ModelFile, err)
	}
	if err := a.checkRanges(); err != nil {
		return fmt.Errorf("%s: %w", ReferenceFile, err)
	}
	return a.checkGolden()
}

// Ranges returns the range of each feature of the schema in the training data. It returns nil if the drift profile has none,
// as in older versions: such a model cannot be gated.
func (a *Artifact) Ranges() []drift.Range {
	if a.Reference == nil {
		return nil
	}
	return a.Reference.Ranges
}

// checkRanges returns an error unless the ranges match the schema's features in order, or there are none.
func (a *Artifact) checkRanges() error {
	ranges := a.Ranges()
	if ranges == nil {
		return nil
	}
	names := make([]string, len(ranges))
	for i, r := range ranges {
		names[i] = r.Name
	}
	if want := a.Schema.Names(); !slices.Equal(names, want) {
		return fmt.Errorf("ranges of %s do not match schema %s: want %s", listed(names), a.Schema.Name, listed(want))
	}
	return nil
}

// Open creates Schema and Scorer from a draft's Spec, so that it can score before it has golden vectors.
func (a *Artifact) Open() error {
	if _, err := a.completeSpec(); err != nil {
		return err
	}
	return a.bindScorer()
}

// bindScorer creates the scorer of the model's family.
func (a *Artifact) bindScorer() error {
	s := &a.Spec
	switch {
	case s.Family == FamilyLogistic && s.Logistic != nil && s.Trees == nil:
		if err := s.Logistic.Validate(); err != nil {
			return err
		}
		if !slices.Equal(s.Logistic.Features, a.Schema.Names()) {
			return fmt.Errorf("features %s do not match schema %s: want %s", listed(s.Logistic.Features), s.Schema, listed(a.Schema.Names()))
		}
		a.Scorer = s.Logistic
	case s.Family == FamilyTrees && s.Trees != nil && s.Logistic == nil:
		e, err := newEnsemble(a.Ensemble, s.Trees, a.Schema)
		if err != nil {
			return err
		}
		a.Scorer = e
	default:
		return fmt.Errorf("family %q: want %q or %q, with only the parameters of that family", s.Family, FamilyLogistic, FamilyTrees)
	}
	return nil
}

func (a *Artifact) checkGolden() error {
	if len(a.Golden.Vectors) == 0 {
		return fmt.Errorf("%s: no vectors: nothing to check the scorer against", GoldenFile)
	}
	for i, g := range a.Golden.Vectors {
		if len(g.X) != a.Schema.Len() {
			return fmt.Errorf("%s: vector %d has %d values: want %d", GoldenFile, i, len(g.X), a.Schema.Len())
		}
		if got := a.Scorer.Score(g.X); !(math.Abs(got-g.Score) <= goldenTolerance) {
			return fmt.Errorf("%s: vector %d scores %v: want %v", GoldenFile, i, got, g.Score)
		}
	}
	a.NoFP32 = a.checkFP32()
	return nil
}

// fp32Tolerance is the largest difference between a golden score in single and in double precision that is allowed: 1/500 of
// the tolerance of a match. Rounding moves a formula by less. It moves a tree by more if a value lies at a split.
const fp32Tolerance = 1e-4

// checkFP32 scores the golden vectors in single precision. It describes the first score that is off by more than
// fp32Tolerance, and returns an empty string if there is none.
func (a *Artifact) checkFP32() string {
	x := make([]float64, a.Schema.Len())
	for i, g := range a.Golden.Vectors {
		for j, v := range g.X {
			x[j] = float64(float32(v))
		}
		if got := float64(float32(a.Scorer.Score(x))); !(math.Abs(got-g.Score) <= fp32Tolerance) {
			return fmt.Sprintf("golden vector %d scores %v in FP64 and %v in FP32: want at most %v between them", i, g.Score, got, fp32Tolerance)
		}
	}
	return ""
}

// loadFrom reads and verifies the model in the folder: digests, schema, parameters, golden scores, and the signature if
// there are keys.
func loadFrom(root *os.Root, dir string, keys dsse.Keys) (*Artifact, error) {
	a := &Artifact{}
	if err := a.read(root, keys); err != nil {
		return nil, fmt.Errorf("model %s: %w", dir, err)
	}
	return a, nil
}

func (a *Artifact) read(root *os.Root, keys dsse.Keys) error {
	raw, err := readFile(root, ManifestFile)
	if err != nil {
		return err
	}
	// Verify first: unsigned content is not even parsed.
	if err := verify(root, raw, keys); err != nil {
		return err
	}
	a.manifest = raw
	m := &a.Manifest
	if err := decode(ManifestFile, raw, m); err != nil {
		return err
	}
	if m.Format != manifestFormat {
		return fmt.Errorf("%s: format %q: want %q", ManifestFile, m.Format, manifestFormat)
	}
	if err := errors.Join(CheckName("name", m.Name), CheckName("version", m.Version)); err != nil {
		return fmt.Errorf("%s: %w", ManifestFile, err)
	}
	for name := range m.Files {
		if !slices.Contains([]string{GoldenFile, BaselineFile, ReferenceFile, ReleaseFile, OfflineFile}, name) {
			return fmt.Errorf("%s: lists %q, which is not a file of a model", ManifestFile, name)
		}
	}
	a.Baseline = &Baseline{}
	for _, part := range []struct {
		file, digest string
		into         any
	}{
		{ModelFile, m.Digest, &a.Spec},
		{GoldenFile, m.Files[GoldenFile], &a.Golden},
		{BaselineFile, m.Files[BaselineFile], a.Baseline},
	} {
		if err := readPart(root, part.file, part.digest, part.into); err != nil {
			return err
		}
	}
	if err := a.Baseline.bind(); err != nil {
		return err
	}
	a.Baseline.digest = m.Files[BaselineFile]
	if err := errors.Join(a.readReference(root), a.readRelease(root), a.readOffline(root)); err != nil {
		return err
	}
	if err := a.readSchema(root); err != nil {
		return err
	}
	if a.Spec.Family == FamilyTrees {
		if a.Ensemble, err = readFile(root, EnsembleFile); err != nil {
			return err
		}
	}
	return a.bind()
}

// readReference reads the drift profile if the manifest lists one.
func (a *Artifact) readReference(root *os.Root) error {
	want, ok := a.Manifest.Files[ReferenceFile]
	if !ok {
		return nil
	}
	a.Reference = &drift.Profile{}
	return readPart(root, ReferenceFile, want, a.Reference)
}

// readOffline reads the model's own evaluation if the manifest lists one.
func (a *Artifact) readOffline(root *os.Root) (err error) {
	want, ok := a.Manifest.Files[OfflineFile]
	if !ok {
		return nil
	}
	a.Offline, err = readListed(root, OfflineFile, want)
	return err
}

// readPart reads a file with a known digest into a value.
func readPart(root *os.Root, file, want string, into any) error {
	raw, err := readListed(root, file, want)
	if err != nil {
		return err
	}
	return decode(file, raw, into)
}

// readListed reads a file that must have the digest.
func readListed(root *os.Root, file, want string) ([]byte, error) {
	raw, err := readFile(root, file)
	if err != nil {
		return nil, err
	}
	if got := digest(raw); got != want {
		return nil, fmt.Errorf("%s has the digest %.12s, but the manifest says %.12s: the file was changed or is damaged", file, got, want)
	}
	return raw, nil
}

// MaxFile returns the largest size of a file of a model, in bytes; 0 if no file of a model has the name.
func MaxFile(name string) int64 {
	switch name {
	case ModelFile, EnsembleFile, GoldenFile, ReferenceFile, SchemaFile:
		return maxFile
	case ManifestFile, BaselineFile, OfflineFile, ReleaseFile, oldSignatureFile:
		return maxSmall
	case SignatureFile:
		return oms.MaxBundle
	}
	return 0
}

func readFile(root *os.Root, name string) ([]byte, error) {
	return durable.ReadFileIn(root, name, max(MaxFile(name), maxSmall)) // a baseline may have any name
}

// decode reads one JSON value and rejects unknown keys and trailing data.
func decode(name string, raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: more than one JSON value", name)
	}
	return nil
}

// encode is the only way to write a model's files, so that equal content has equal bytes.
func encode(v any) ([]byte, error) {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(raw, '\n'), nil
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
