package deploytest

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// deploy is the folder with the rules, the dashboard and the runbooks.
const deploy = "../../../../deploy"

// runbooks is the base URL of the runbooks that alerts link to.
const runbooks = "https://github.com/greenlight-ml/greenlight/blob/main/deploy/runbooks/"

// rule is a recording rule or an alert.
type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

// ruleFile is a file of Prometheus rules.
type ruleFile struct {
	Groups []struct {
		Name, Interval string
		Rules          []rule
	}
}

// decode reads a YAML file. Keys that the type does not name are an error.
func decode(t *testing.T, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// rulePaths returns the shipped rule files.
func rulePaths(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(deploy, "prometheus", "rules", "*.yml"))
	if err != nil || len(paths) < 3 {
		t.Fatalf("%d rule files (%v), want at least 3", len(paths), err)
	}
	return paths
}

// shipped returns all rules, by the name of the recorded series or the alert.
func shipped(t *testing.T) (recorded, alerts map[string]rule) {
	t.Helper()
	recorded, alerts = map[string]rule{}, map[string]rule{}
	for _, path := range rulePaths(t) {
		var file ruleFile
		decode(t, path, &file)
		for _, group := range file.Groups {
			for _, r := range group.Rules {
				into, name := alerts, r.Alert
				if r.Record != "" {
					into, name = recorded, r.Record
				}
				if _, twice := into[name]; twice || name == "" || r.Expr == "" {
					t.Fatalf("%s: %q is a duplicate, or has no name or expression", path, name)
				}
				into[name] = r
			}
		}
	}
	return recorded, alerts
}

// Every alert has a summary, a severity, a description with a value, and a runbook, which names panels that the dashboard has.
func TestAlertsAreDescribed(t *testing.T) {
	_, alerts := shipped(t)
	var books []string
	panels, named := board(t).Panels, 0
	for _, name := range slices.Sorted(maps.Keys(alerts)) {
		a := alerts[name]
		for _, key := range []string{"summary", "description", "runbook_url"} {
			if a.Annotations[key] == "" {
				t.Errorf("%s has no %s", name, key)
			}
		}
		if !strings.Contains(a.Annotations["description"], "{{") {
			t.Errorf("%s: the description has no value: %s", name, a.Annotations["description"])
		}
		if !slices.Contains([]string{"info", "warning", "critical"}, a.Labels["severity"]) {
			t.Errorf("%s: severity %q", name, a.Labels["severity"])
		}
		books = append(books, name+".md")
		if got, want := a.Annotations["runbook_url"], runbooks+name+".md"; got != want {
			t.Errorf("%s: the runbook is %s, want %s", name, got, want)
		}
		raw, err := os.ReadFile(filepath.Join(deploy, "runbooks", name+".md"))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, part := range []string{"# " + name + "\n", "\n## Check\n", "\n## Likely causes\n", "\n## Do\n"} {
			if !bytes.Contains(raw, []byte(part)) {
				t.Errorf("the runbook of %s lacks %q", name, strings.TrimSpace(part))
			}
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(string(raw), -1) {
			if _, err := os.Stat(filepath.Join(deploy, "runbooks", link[1])); err != nil {
				t.Errorf("the runbook of %s: %v", name, err)
			}
		}
		for _, sentence := range regexp.MustCompile(`panels?\b[^.;|\n]*`).FindAllString(string(raw), -1) {
			for _, title := range regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(sentence, -1) {
				named++
				if !slices.ContainsFunc(panels, func(p panel) bool { return p.Title == title[1] }) {
					t.Errorf("the runbook of %s names the panel %q, which the dashboard lacks", name, title[1])
				}
			}
		}
	}
	if named < 10 {
		t.Errorf("%d panels were found in the runbooks: the pattern that finds them is broken", named)
	}
	files, err := filepath.Glob(filepath.Join(deploy, "runbooks", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.Contains(books, filepath.Base(file)) {
			t.Errorf("%s belongs to no alert", file)
		}
	}
}

// MLSeriesMissing covers every series that a rule reads, so that no rule is silent because its series is missing.
func TestNoSilenceWithoutSeries(t *testing.T) {
	recorded, alerts := shipped(t)
	missed := alerts["MLSeriesMissing"].Expr
	read := map[string]bool{}
	for _, rules := range []map[string]rule{recorded, alerts} {
		for _, r := range rules {
			for _, name := range metrics(r.Expr) {
				if _, ours := recorded[name]; !ours {
					read[name] = true
				}
			}
		}
	}
	if len(read) < 15 {
		t.Fatalf("the rules read %v, want at least 15 series", read)
	}
	for name := range read {
		if strings.HasPrefix(name, "ml_tls_") {
			continue // exists only with TLS
		}
		// The parts of a histogram come and go together.
		if stem := strings.TrimSuffix(name, "_count"); !strings.Contains(missed, `"`+name+`"`) && !strings.Contains(missed, `"`+stem+`_bucket"`) {
			t.Errorf("a rule reads %s, which MLSeriesMissing does not cover", name)
		}
	}
}

var (
	quoted = regexp.MustCompile(`"[^"]*"`)
	name   = regexp.MustCompile(`\b(?:ml[_:][a-z0-9_:]+|grpc_(?:server|client)_[a-z_]+|up)\b`)
)

// metrics returns the names of the series that an expression reads, without duplicates.
func metrics(expr string) []string {
	names := name.FindAllString(quoted.ReplaceAllString(expr, `""`), -1)
	slices.Sort(names)
	return slices.Compact(names)
}
