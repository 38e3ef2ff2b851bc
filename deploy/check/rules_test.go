package check

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the generated files")

// The rules have one source, deploy/prometheus/rules. The rules for the Prometheus operator are generated from it.
func TestPrometheusRuleIsTheRules(t *testing.T) {
	files, err := filepath.Glob(root + "/deploy/prometheus/rules/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules: %v", err)
	}
	rule := monitoringv1.PrometheusRule{
		TypeMeta:   metav1.TypeMeta{APIVersion: monitoringv1.SchemeGroupVersion.String(), Kind: monitoringv1.PrometheusRuleKind},
		ObjectMeta: metav1.ObjectMeta{Name: "greenlight", Labels: map[string]string{"app.kubernetes.io/name": "greenlight"}},
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var spec monitoringv1.PrometheusRuleSpec
		if err := yaml.UnmarshalStrict(text, &spec); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		rule.Spec.Groups = append(rule.Spec.Groups, spec.Groups...)
	}
	if rule.Spec.Groups == nil || rule.APIVersion != monitoring.GroupName+"/v1" {
		t.Fatalf("%d groups, version %s", len(rule.Spec.Groups), rule.APIVersion)
	}
	want, err := yaml.Marshal(rule)
	if err != nil {
		t.Fatal(err)
	}
	want = append([]byte("# Generated from deploy/prometheus/rules by `make generate-deploy`: edit those.\n"), want...)
	path := base + "/prometheus-rule.yaml"
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not what deploy/prometheus/rules generates: run make generate-deploy", path)
	}
}
