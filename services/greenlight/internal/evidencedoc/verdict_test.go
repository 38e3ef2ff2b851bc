package evidencedoc

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/gatekeeper"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
)

// forge returns the folder with one file edited and its digest updated in all other files, as if somebody had rebuilt the
// chain. Only the content of the file can reveal the edit.
func (f *folder) forge(t *testing.T, name string, edit func(root any)) *folder {
	t.Helper()
	var root any
	dec := json.NewDecoder(bytes.NewReader(f.named[name].raw))
	dec.UseNumber()
	if err := dec.Decode(&root); err != nil {
		t.Fatal(err)
	}
	edit(root)
	raw, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	sums := strings.NewReplacer(sum(f.named[name].raw), sum(raw))
	forged := &folder{dir: f.dir, named: map[string]*file{}}
	old := []byte(sum(f.named[name].raw))
	for _, one := range f.files {
		if one.name != name && !bytes.Contains(one.raw, old) {
			forged.files, forged.named[one.name] = append(forged.files, one), one
			continue
		}
		twin := &file{name: one.name, raw: []byte(sums.Replace(string(one.raw)))}
		if one.name == name {
			twin.raw = raw
		}
		if strings.HasSuffix(one.name, ".json") {
			if err := json.Unmarshal(twin.raw, &twin.header); err != nil {
				t.Fatal(err)
			}
		}
		forged.files, forged.named[one.name] = append(forged.files, twin), twin
	}
	return forged
}

func sum(raw []byte) string { return fmt.Sprintf("%x", sha256.Sum256(raw)) }

// place is a verdict, or another judgment, in a document.
type place struct {
	path   string
	object map[string]any
	key    string
}

// words are the keys of judgments, with the values that each may have.
var words = map[string][]any{
	"verdict":          {"PASS", "FAIL", "INCONCLUSIVE", "ERROR"},
	"result":           {"PASS", "FAIL", "INCONCLUSIVE", "ERROR"},
	"decision":         {"PASSED", "ABORTED", "STOPPED"},
	"status":           {"stable", "moderate", "warning", "critical"},
	"aborted":          {true, false},
	"promote_eligible": {true, false},
}

// places returns the places in a value, ordered by path.
func places(v any, path string) (all []place) {
	switch v := v.(type) {
	case []any:
		for i, one := range v {
			all = append(all, places(one, fmt.Sprintf("%s[%d]", path, i))...)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if words[key] != nil {
				all = append(all, place{path + "." + key, v, key})
			}
			all = append(all, places(v[key], path+"."+key)...)
		}
	}
	return all
}

// otherwiseStrict reports whether a verdict other than PASS was changed to another such verdict, and the document alone does
// not show which is correct: a blocker may have more reasons than its figure, a canary sample may have missed a source, a
// classifier may not have been fitted, and a window of the history does not record its days.
func otherwiseStrict(p place, word any) bool {
	return p.object[p.key] != "PASS" && word != "PASS" &&
		(strings.HasPrefix(p.path, ".blockers[") || strings.Contains(p.path, ".samples[") || strings.HasPrefix(p.path, ".history[") || strings.HasSuffix(p.path, ".classifier.verdict"))
}

// testEditedVerdicts changes every judgment in every document to every other value, with all digests updated. Judging
// again finds each edit, and the problem names the file.
func testEditedVerdicts(t *testing.T, w *whole) {
	edits, seen := 0, map[string]int{}
	for _, dir := range []string{w.dir, psiV1} {
		f, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range f.documents() {
			n := editVerdicts(t, f, doc)
			edits, seen[doc.header.Schema] = edits+n, seen[doc.header.Schema]+n
		}
	}
	for schema := range checks {
		if seen[schema] == 0 && schema != promote.PromotionSchema && schema != gatekeeper.PlanSchema {
			t.Errorf("no verdict of %s was edited", schema)
		}
	}
	t.Logf("found all %d edits", edits)
}

// editVerdicts does this for one document, and returns the number of edits.
func editVerdicts(t *testing.T, f *folder, doc *file) (edits int) {
	var root any
	if err := json.Unmarshal(doc.raw, &root); err != nil {
		t.Fatal(err)
	}
	for n, p := range places(root, "") {
		for _, word := range words[p.key] {
			if word == p.object[p.key] {
				continue
			}
			edits++
			forged := f.forge(t, doc.name, func(root any) {
				twin := places(root, "")[n]
				twin.object[twin.key] = word
			})
			problems, err := forged.recheckFile(forged.named[doc.name])
			if err != nil {
				t.Fatal(err)
			}
			if len(problems) == 0 && otherwiseStrict(p, word) {
				continue
			}
			if len(problems) == 0 || problems[0].File != doc.name {
				t.Errorf("%s%s is %v in place of %v: found %v", doc.name, p.path, word, p.object[p.key], problems)
			}
		}
	}
	return edits
}

// testChangedCount adds a request without a label to a block, consistently and with all digests updated. Judging the records
// again finds the change, in the file with the records and in the run that was judged from them.
func testChangedCount(t *testing.T, w *whole) {
	f, err := open(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	name := f.match("quality_*.json")[0].name
	forged := f.forge(t, name, func(root any) {
		records := root.(map[string]any)["records"].([]any)
		add := func(object any, key string) {
			counts := object.(map[string]any)
			n, err := counts[key].(json.Number).Int64()
			if err != nil {
				t.Fatal(err)
			}
			counts[key] = json.Number(strconv.FormatInt(n+1, 10))
		}
		block := records[40].(map[string]any)
		add(block["labels"], "no_label")
		add(block["sources"], "live")
		for _, r := range records[40:] {
			add(r, "requests_through")
		}
	})
	found := map[string]bool{}
	for _, doc := range forged.documents() {
		problems, err := forged.recheckFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		if len(problems) > 0 {
			found[doc.name] = true
		}
	}
	run := ""
	for _, doc := range f.match("canary_run_*.json") {
		if bytes.Contains(doc.raw, []byte(name)) {
			run = doc.name
		}
	}
	if run == "" || !found[name] || !found[run] {
		t.Errorf("found in %v, want %s and the run %q", slices.Sorted(maps.Keys(found)), name, run)
	}
}

// testChangedDecision changes one count of a gate at a time, with all digests updated. Each change is found in the run.
func testChangedDecision(t *testing.T, w *whole) {
	f, err := open(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	name := f.match("gate_2*.json")[0].name
	for _, at := range [][]string{
		{"decisions", "model"},
		{"decisions", "not_selected"},
		{"decisions_start", "off"},
		{"decisions_end", "off"},
		{"decisions_end", "model"},
		{"decisions_end", "not_selected"},
		{"requests"},
	} {
		forged := f.forge(t, name, func(root any) {
			in := root.(map[string]any)["processes"].([]any)[0].(map[string]any)
			for _, key := range at[:len(at)-1] {
				in = in[key].(map[string]any)
			}
			last := at[len(at)-1]
			in[last] = json.Number(in[last].(json.Number).String() + "1")
		})
		if problems, err := forged.recheckFile(forged.named[name]); err != nil || len(problems) == 0 {
			t.Errorf("%v was changed, but nothing was found: %v", at, err)
		}
	}
}

// testChangedLatency changes the p95 of a canary phase or its histogram, with all digests updated. Recomputing the p95 finds
// the change. A phase without a histogram, as in older versions, verifies.
func testChangedLatency(t *testing.T, w *whole) {
	f, err := open(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		edit func(phase map[string]any)
		want string
	}{
		"a lower p95":     {func(p map[string]any) { p["p95_ms"] = 2.9 }, "its histogram of latencies gives a p95 of 3.0 ms"},
		"no p95":          {func(p map[string]any) { p["p95_ms"] = nil }, "its histogram of latencies gives a p95 of 3.0 ms"},
		"a higher bucket": {func(p map[string]any) { p["latency_ms"].(map[string]any)["edges"] = []any{60} }, "its histogram of latencies gives a p95 of 57"},
		"a lost shadow":   {func(p map[string]any) { p["latency_ms"].(map[string]any)["counts"] = []any{10, 0} }, "there are 10 latencies for 5005 shadows"},
		"a lost bucket":   {func(p map[string]any) { p["latency_ms"].(map[string]any)["counts"] = []any{5005} }, "1 edges, which must ascend, and 1 counts"},
		"no histogram":    {func(p map[string]any) { delete(p, "latency_ms") }, ""},
	} {
		for _, run := range []string{"canary_run_20260609T093000Z.json", "canary_dryrun_observe.json"} {
			forged := f.forge(t, run, func(root any) { test.edit(root.(map[string]any)["phases"].([]any)[1].(map[string]any)) })
			problems, err := forged.recheckFile(forged.named[run])
			if err != nil || len(problems) > 0 != (test.want != "") || !strings.Contains(fmt.Sprint(problems), test.want) {
				t.Errorf("%s of %s: found %v, %v: want %q", name, run, problems, err, test.want)
			}
		}
	}
}

// testNewChain rebuilds the folder and its chain around an edited verdict: the chain verifies, but the verdict does not.
func testNewChain(t *testing.T, w *whole) {
	f, err := open(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	const name = "daily/report_2026-06-01.json"
	forged := f.forge(t, name, func(root any) {
		for _, p := range places(root, "") {
			if p.object[p.key] == "FAIL" {
				p.object[p.key] = "PASS"
			}
		}
	})
	dir := t.TempDir()
	store, err := evidence.Open(dir, evidence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range forged.files {
		switch {
		case strings.HasPrefix(one.name, "torn/"):
		case strings.HasSuffix(one.name, ".json"):
			err = errors.Join(err, store.WriteJSON(one.name, one.header, body(t, one)))
		default:
			err = errors.Join(err, store.WriteFile(one.name, one.raw))
		}
	}
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	if r, err := evidence.Verify(dir); err != nil || len(r.Problems) > 0 && r.Problems[0].File == name {
		t.Fatalf("%v, %v: want a chain that verifies for %s", r.Problems, err, name)
	}
	again, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	problems, err := again.recheckFile(again.named[name])
	if err != nil || len(problems) == 0 || !strings.Contains(problems[0].String(), name+`: records "PSI" as PASS`) && !strings.Contains(problems[0].String(), name+": records PASS for 2026-06-01") {
		t.Errorf("found %v, %v", problems, err)
	}
}

// body returns the document without its header.
func body(t *testing.T, one *file) map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(one.raw, &all); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"schema", "source", "created_time", "inputs", "model", "git"} {
		delete(all, key)
	}
	return all
}
