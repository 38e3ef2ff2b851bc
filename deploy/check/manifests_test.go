package check

import (
	"slices"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const base = root + "/deploy/kubernetes/base"

// manifests is what the base builds, by kind.
type manifests struct {
	namespaces      []corev1.Namespace
	accounts        []corev1.ServiceAccount
	claims          []corev1.PersistentVolumeClaim
	services        []corev1.Service
	deployments     []appsv1.Deployment
	budgets         []policyv1.PodDisruptionBudget
	networkPolicies []networkingv1.NetworkPolicy
	monitors        []monitoringv1.ServiceMonitor
	rules           []monitoringv1.PrometheusRule
}

// kustomize builds the base and decodes every object strictly into the type of its API: a field that the API does not have, or
// that is written twice, is an error.
func kustomize(t *testing.T) *manifests {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), base)
	if err != nil {
		t.Fatal(err)
	}
	m := &manifests{}
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		kind := r.GetApiVersion() + " " + r.GetKind()
		switch kind {
		case "v1 Namespace":
			m.namespaces, err = decode(m.namespaces, text)
		case "v1 ServiceAccount":
			m.accounts, err = decode(m.accounts, text)
		case "v1 PersistentVolumeClaim":
			m.claims, err = decode(m.claims, text)
		case "v1 Service":
			m.services, err = decode(m.services, text)
		case "apps/v1 Deployment":
			m.deployments, err = decode(m.deployments, text)
		case "policy/v1 PodDisruptionBudget":
			m.budgets, err = decode(m.budgets, text)
		case "networking.k8s.io/v1 NetworkPolicy":
			m.networkPolicies, err = decode(m.networkPolicies, text)
		case "monitoring.coreos.com/v1 ServiceMonitor":
			m.monitors, err = decode(m.monitors, text)
		case "monitoring.coreos.com/v1 PrometheusRule":
			m.rules, err = decode(m.rules, text)
		default:
			t.Fatalf("%s %s: this test knows no such kind", kind, r.GetName())
		}
		if err != nil {
			t.Fatalf("%s %s: %v", kind, r.GetName(), err)
		}
		if kind != "v1 Namespace" && r.GetNamespace() != "greenlight" {
			t.Errorf("%s %s is in namespace %q", kind, r.GetName(), r.GetNamespace())
		}
	}
	return m
}

func decode[T any](list []T, text []byte) ([]T, error) {
	var v T
	err := yaml.UnmarshalStrict(text, &v)
	return append(list, v), err
}

// deployment is the one whose pods the selector finds.
func (m *manifests) deployment(t *testing.T, who string, selector map[string]string) *appsv1.Deployment {
	t.Helper()
	if len(selector) == 0 {
		t.Fatalf("%s selects everything", who)
	}
	var found []*appsv1.Deployment
	for i := range m.deployments {
		if labels.SelectorFromSet(selector).Matches(labels.Set(m.deployments[i].Spec.Template.Labels)) {
			found = append(found, &m.deployments[i])
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s: its selector %v finds %d deployments, want 1", who, selector, len(found))
	}
	return found[0]
}

// containers are all containers of a pod, sidecars first.
func containers(spec *corev1.PodSpec) []corev1.Container {
	return slices.Concat(spec.InitContainers, spec.Containers)
}

// portNumber is the number of the named port of a pod.
func portNumber(t *testing.T, who string, spec *corev1.PodSpec, name string) int32 {
	t.Helper()
	for _, c := range containers(spec) {
		for _, p := range c.Ports {
			if p.Name == name {
				return p.ContainerPort
			}
		}
	}
	t.Errorf("%s: no container has a port %q", who, name)
	return 0
}
