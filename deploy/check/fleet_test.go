package check

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// The agent calls each ml-engine by its pod name in the StatefulSet.
func TestAgentAsksEveryEngine(t *testing.T) {
	m := kustomize(t, "fleet")
	var want []string
	for _, w := range m.workloads {
		if w.kind != "StatefulSet" {
			continue
		}
		for i := range w.replicas {
			want = append(want, fmt.Sprintf("%s-%d.ml-engine:4010", w.name, i))
		}
	}
	if got := m.arguments("--engine"); len(got) != 1 || got[0] != strings.Join(want, ",") {
		t.Errorf("the agent asks %v, want %v", got, want)
	}
}

// Only the Job of a canary has the private key that executors trust. The operator's credentials are where the Job expects
// them; the agent's pod, which makes the plan, has them too. The network policy admits the Job like the agent.
func TestKeysOfTheClusterAreApart(t *testing.T) {
	fleet, canary := kustomize(t, "fleet"), kustomize(t, "canary")
	for _, m := range []*manifests{fleet, canary} {
		for _, w := range m.workloads {
			got := secrets(&w.pod.Spec)
			want := map[string]map[string]string{
				"ml-engine": {},
				"trader":    {"fleet-executors": "/var/run/fleet"},
				"agent":     {"fleet-operator": "/var/run/fleet"},
				"canary":    {"fleet-operator": "/var/run/fleet", "fleet-key": "/var/run/key"},
			}[w.name]
			if !maps.Equal(got, want) {
				t.Errorf("%s has the secrets %v, want %v", w.name, got, want)
			}
		}
	}
	const label = "greenlight.ml/fleet"
	for _, w := range slices.Concat(fleet.workloads, canary.workloads) {
		if is := w.name == "agent" || w.name == "canary"; is != (w.pod.Labels[label] == "operator") {
			t.Errorf("%s has the label %s=%q", w.name, label, w.pod.Labels[label])
		}
	}
	for _, flag := range []string{"--fleet", "--fleet-group", "--fleet-creds"} {
		if got := fleet.arguments(flag); len(got) != 2 || got[0] != got[1] {
			t.Errorf("executors and the agent have the %s %v", flag, got)
		}
	}
	if got := fleet.arguments("--fleet"); got[0] != "nats://nats:4222" {
		t.Errorf("the servers are %v, and the service of the chart is nats", got)
	}
}

// secrets returns the group's secrets that a pod has, and their mount points.
func secrets(spec *corev1.PodSpec) map[string]string {
	got := map[string]string{}
	for _, v := range spec.Volumes {
		if v.Secret == nil || v.Secret.SecretName == "greenlight-control" {
			continue
		}
		for _, c := range containers(spec) {
			for _, mount := range c.VolumeMounts {
				if mount.Name == v.Name {
					got[v.Secret.SecretName] = mount.MountPath
				}
			}
		}
	}
	return got
}

// chart holds the chart values of NATS that may be set here. The chart merges and patches them into its own objects.
type chart struct {
	Config struct {
		Cluster struct {
			Enabled  bool `json:"enabled"`
			Replicas int  `json:"replicas"`
		} `json:"cluster"`
		JetStream struct {
			Enabled   bool `json:"enabled"`
			FileStore struct {
				PVC struct {
					Size string `json:"size"`
				} `json:"pvc"`
			} `json:"fileStore"`
		} `json:"jetstream"`
		Merge map[string]string `json:"merge"`
	} `json:"config"`
	Container struct {
		Merge corev1.Container            `json:"merge"`
		Env   map[string]string           `json:"env"`
		Patch []patch[corev1.VolumeMount] `json:"patch"`
	} `json:"container"`
	Reloader struct {
		Merge corev1.Container `json:"merge"`
	} `json:"reloader"`
	PodTemplate struct {
		Merge                     corev1.PodTemplateSpec                     `json:"merge"`
		Patch                     []patch[corev1.Volume]                     `json:"patch"`
		TopologySpreadConstraints map[string]corev1.TopologySpreadConstraint `json:"topologySpreadConstraints"`
	} `json:"podTemplate"`
	NATSBox struct {
		Enabled bool `json:"enabled"`
	} `json:"natsBox"`
}

type patch[T any] struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value T      `json:"value"`
}

// NATS runs as three servers in the namespace, with the accounts created by deploy/nats/keys.
func TestValuesOfTheChart(t *testing.T) {
	text, err := os.ReadFile(kubernetes + "/fleet/nats-values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var v chart
	if err := yaml.UnmarshalStrict(text, &v); err != nil {
		t.Fatal(err)
	}
	if !v.Config.Cluster.Enabled || v.Config.Cluster.Replicas != 3 || !v.Config.JetStream.Enabled || v.NATSBox.Enabled {
		t.Errorf("%+v: want three servers with JetStream and nothing else", v.Config)
	}
	mount, volume := v.Container.Patch[0], v.PodTemplate.Patch[0]
	if mount.Path != "/volumeMounts/-" || volume.Path != "/spec/volumes/-" || mount.Value.Name != volume.Value.Name ||
		volume.Value.Secret.SecretName != "nats-auth" || v.Config.Merge["$include"] != ".."+strings.TrimPrefix(mount.Value.MountPath, "/etc")+"/auth.conf" {
		t.Errorf("the accounts are included from %q, mounted by %+v from %+v", v.Config.Merge, mount, volume)
	}
	pod := v.PodTemplate.Merge
	pod.Spec.Containers = []corev1.Container{v.Container.Merge, v.Reloader.Merge}
	restricted(t, "nats", &pod)
	for _, c := range pod.Spec.Containers {
		bounded(t, "nats", &c)
	}
}
