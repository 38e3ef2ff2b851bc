package deploytest

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// ruleTests is a test file of promtool.
type ruleTests struct {
	RuleFiles          []string      `yaml:"rule_files"`
	GroupEvalOrder     []string      `yaml:"group_eval_order"`
	EvaluationInterval time.Duration `yaml:"evaluation_interval"`
	Tests              []ruleTest
}

type ruleTest struct {
	Name        string
	Interval    time.Duration
	InputSeries []struct{ Series, Values string } `yaml:"input_series"`
	Alerts      []alertTest                       `yaml:"alert_rule_test"`
	Expressions []struct {
		Expr     string
		EvalTime time.Duration `yaml:"eval_time"`
		Samples  []struct {
			Labels string
			Value  float64
		} `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

type alertTest struct {
	EvalTime  time.Duration `yaml:"eval_time"`
	Alertname string
	Expected  []struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

// Every alert has three tests: it fires at its minute and not before, it is silent while its series are healthy, and it is
// silent while one of its series is missing, which is the job of MLSeriesMissing.
func TestAlertsAreTested(t *testing.T) {
	recorded, alerts := shipped(t)
	paths, err := filepath.Glob(filepath.Join(deploy, "prometheus", "tests", "*.test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, rules := range rulePaths(t) {
		if name := strings.TrimSuffix(filepath.Base(rules), ".yml") + ".test.yml"; !slices.ContainsFunc(paths, func(p string) bool { return filepath.Base(p) == name }) {
			t.Errorf("%s is missing", name)
		}
	}
	fires, quiet, missing := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, path := range paths {
		var file ruleTests
		decode(t, path, &file)
		// Otherwise promtool evaluates the groups in a random order, and one that reads another group's series sees old ones.
		if groups := groupNames(t, path, file.RuleFiles); len(groups) > 1 && !slices.Equal(slices.Sorted(slices.Values(file.GroupEvalOrder)), groups) {
			t.Errorf("%s: group_eval_order is %q, it must order %q", path, file.GroupEvalOrder, groups)
		}
		for _, test := range file.Tests {
			given := map[string]bool{}
			for _, s := range test.InputSeries {
				series, _, _ := strings.Cut(s.Series, "{")
				given[series] = true
			}
			for _, a := range test.Alerts {
				rule, found := alerts[a.Alertname]
				if !found {
					t.Errorf("%s: %q names the unknown alert %s", path, test.Name, a.Alertname)
				}
				if len(a.Expected) > 0 {
					// The same test must show that it does not fire one step earlier.
					fires[a.Alertname] = fires[a.Alertname] || slices.ContainsFunc(test.Alerts, func(b alertTest) bool {
						return b.Alertname == a.Alertname && b.EvalTime == a.EvalTime-file.EvaluationInterval && len(b.Expected) == 0
					})
					continue
				}
				there := func(name string) bool { return available(name, recorded, given) }
				if read := metrics(rule.Expr); slices.ContainsFunc(read, func(name string) bool { return !there(name) }) {
					missing[a.Alertname] = true
				} else if a.EvalTime > 0 {
					quiet[a.Alertname] = true
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(alerts)) {
		if !fires[name] {
			t.Errorf("%s: no test in which it fires, but not one step earlier", name)
		}
		if !quiet[name] {
			t.Errorf("%s: no test in which all its series exist and it is silent", name)
		}
		if !missing[name] && name != "MLSeriesMissing" { // it must fire then
			t.Errorf("%s: no test in which a series that it reads is missing", name)
		}
	}
}

// groupNames returns the sorted names of the rule groups that a test file loads.
func groupNames(t *testing.T, path string, ruleFiles []string) []string {
	t.Helper()
	var names []string
	for _, rules := range ruleFiles {
		var file ruleFile
		decode(t, filepath.Join(filepath.Dir(path), rules), &file)
		for _, group := range file.Groups {
			names = append(names, group.Name)
		}
	}
	slices.Sort(names)
	return names
}

// available reports whether a test has the series: as input, or recorded from input.
func available(name string, recorded map[string]rule, given map[string]bool) bool {
	if given[name] {
		return true
	}
	r, ours := recorded[name]
	return ours && slices.ContainsFunc(metrics(r.Expr), func(from string) bool { return available(from, recorded, given) })
}
