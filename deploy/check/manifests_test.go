package check

import (
	"slices"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	kubernetes = root + "/deploy/kubernetes"
	base       = kubernetes + "/base"
)

// folders lists the folders that kustomize builds, with the number of objects of each kind.
var folders = map[string]map[string]int{
	"base": {
		"Namespace": 1, "ServiceAccount": 2, "PersistentVolumeClaim": 1, "Service": 2, "Deployment": 2,
		"PodDisruptionBudget": 2, "NetworkPolicy": 2, "ServiceMonitor": 2, "PrometheusRule": 1,
	},
	"fleet": {
		"Namespace": 1, "ServiceAccount": 3, "PersistentVolumeClaim": 2, "Service": 3, "Deployment": 2, "StatefulSet": 1,
		"PodDisruptionBudget": 2, "NetworkPolicy": 4, "ServiceMonitor": 3, "PrometheusRule": 1,
	},
	"canary": {"ServiceAccount": 1, "ConfigMap": 1, "Job": 1},
}

// manifests holds what a folder builds.
type manifests struct {
	folder          string
	kinds           map[string]int
	namespaces      []corev1.Namespace
	accounts        []corev1.ServiceAccount
	claims          []corev1.PersistentVolumeClaim
	configs         []corev1.ConfigMap
	services        []corev1.Service
	workloads       []workload
	budgets         []policyv1.PodDisruptionBudget
	networkPolicies []networkingv1.NetworkPolicy
	monitors        []monitoringv1.ServiceMonitor
	rules           []monitoringv1.PrometheusRule
}

// workload is an object that creates pods. The manifest of a Job has no selector.
type workload struct {
	kind, name string
	replicas   int32
	selector   map[string]string
	pod        corev1.PodTemplateSpec
}

// each calls test for the result of each folder.
func each(t *testing.T, test func(*testing.T, *manifests)) {
	t.Helper()
	for folder := range folders {
		t.Run(folder, func(t *testing.T) { test(t, kustomize(t, folder)) })
	}
}

// kustomize builds a folder and decodes every object strictly into its API type: unknown or duplicate fields are an error.
func kustomize(t *testing.T, folder string) *manifests {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), kubernetes+"/"+folder)
	if err != nil {
		t.Fatal(err)
	}
	m := &manifests{folder: folder, kinds: map[string]int{}}
	for _, r := range built.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		kind := r.GetApiVersion() + " " + r.GetKind()
		m.kinds[r.GetKind()]++
		switch kind {
		case "v1 Namespace":
			m.namespaces, err = decode(m.namespaces, text)
		case "v1 ServiceAccount":
			m.accounts, err = decode(m.accounts, text)
		case "v1 PersistentVolumeClaim":
			m.claims, err = decode(m.claims, text)
		case "v1 ConfigMap":
			m.configs, err = decode(m.configs, text)
		case "v1 Service":
			m.services, err = decode(m.services, text)
		case "apps/v1 Deployment":
			var d []appsv1.Deployment
			if d, err = decode(d, text); err == nil {
				m.workloads = append(m.workloads, workload{r.GetKind(), d[0].Name, *d[0].Spec.Replicas, d[0].Spec.Selector.MatchLabels, d[0].Spec.Template})
			}
		case "apps/v1 StatefulSet":
			var s []appsv1.StatefulSet
			if s, err = decode(s, text); err == nil {
				m.workloads = append(m.workloads, workload{r.GetKind(), s[0].Name, *s[0].Spec.Replicas, s[0].Spec.Selector.MatchLabels, s[0].Spec.Template})
			}
		case "batch/v1 Job":
			var j []batchv1.Job
			if j, err = decode(j, text); err == nil {
				m.workloads = append(m.workloads, workload{r.GetKind(), j[0].Name, 1, nil, j[0].Spec.Template})
			}
		case "policy/v1 PodDisruptionBudget":
			m.budgets, err = decode(m.budgets, text)
		case "networking.k8s.io/v1 NetworkPolicy":
			m.networkPolicies, err = decode(m.networkPolicies, text)
		case "monitoring.coreos.com/v1 ServiceMonitor":
			m.monitors, err = decode(m.monitors, text)
		case "monitoring.coreos.com/v1 PrometheusRule":
			m.rules, err = decode(m.rules, text)
		default:
			t.Fatalf("%s %s: unknown kind", kind, r.GetName())
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

// workload is the one whose pods the selector finds.
func (m *manifests) workload(t *testing.T, who string, selector map[string]string) *workload {
	t.Helper()
	if len(selector) == 0 {
		t.Fatalf("%s selects everything", who)
	}
	var found []*workload
	for i := range m.workloads {
		if labels.SelectorFromSet(selector).Matches(labels.Set(m.workloads[i].pod.Labels)) {
			found = append(found, &m.workloads[i])
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s: its selector %v finds %d workloads, want 1", who, selector, len(found))
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
