package check

import (
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func TestManifestsAreThere(t *testing.T) {
	each(t, func(t *testing.T, m *manifests) {
		if want := folders[m.folder]; !maps.Equal(m.kinds, want) {
			t.Errorf("got %v, want %v", m.kinds, want)
		}
	})
}

// The cluster's admission controller would admit these pods under the strictest Pod Security Standard, which the namespace
// requests.
func TestPodsAreRestricted(t *testing.T) {
	each(t, func(t *testing.T, m *manifests) {
		for _, n := range m.namespaces {
			for _, mode := range []string{"enforce", "warn", "audit"} {
				if got := n.Labels["pod-security.kubernetes.io/"+mode]; got != "restricted" {
					t.Errorf("the namespace's %s is %q", mode, got)
				}
			}
		}
		for _, w := range m.workloads {
			restricted(t, w.name, &w.pod)
			if !slices.ContainsFunc(m.accounts, func(a corev1.ServiceAccount) bool { return a.Name == w.pod.Spec.ServiceAccountName }) {
				t.Errorf("%s: no ServiceAccount %q", w.name, w.pod.Spec.ServiceAccountName)
			}
		}
	})
}

func restricted(t *testing.T, who string, pod *corev1.PodTemplateSpec) {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	if r := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec)); !r.Allowed {
		t.Errorf("%s: %s", who, r.ForbiddenDetail())
	}
	if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
		t.Errorf("%s: its pods get a token of the API server, which they do not need", who)
	}
	for _, c := range containers(&pod.Spec) {
		if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("%s/%s: its root file system is writable", who, c.Name)
		}
	}
}

func TestContainersHaveBoundsAndVersions(t *testing.T) {
	each(t, func(t *testing.T, m *manifests) {
		for _, w := range m.workloads {
			volumes := map[string]bool{}
			for _, v := range w.pod.Spec.Volumes {
				volumes[v.Name] = true
				if v.EmptyDir != nil && v.EmptyDir.SizeLimit == nil {
					t.Errorf("%s: volume %s has no bound", w.name, v.Name)
				}
			}
			for _, c := range containers(&w.pod.Spec) {
				who := w.name + "/" + c.Name
				bounded(t, who, &c)
				_, tag, ok := strings.Cut(c.Image[strings.LastIndex(c.Image, "/")+1:], ":")
				if !ok || tag == "latest" {
					t.Errorf("%s: image %s has no version", who, c.Image)
				}
				for _, v := range c.VolumeMounts {
					if !volumes[v.Name] {
						t.Errorf("%s: no volume %q", who, v.Name)
					}
				}
			}
		}
	})
}

func bounded(t *testing.T, who string, c *corev1.Container) {
	t.Helper()
	r := c.Resources
	if r.Requests.Cpu().IsZero() || r.Requests.Memory().IsZero() || r.Limits.Memory().Cmp(*r.Requests.Memory()) != 0 {
		t.Errorf("%s: requests %v, limits %v: want CPU and memory requested, and the memory as limit", who, r.Requests, r.Limits)
	}
	if !r.Limits.Cpu().IsZero() {
		t.Errorf("%s: a limit of CPU throttles it for tens of milliseconds, and a shadow has 60", who)
	}
}

// The programs accept every flag, find every file where it is mounted, listen on the declared ports, and are probed there.
func TestContainersRunTheirPrograms(t *testing.T) {
	each(t, func(t *testing.T, m *manifests) {
		ours := 0
		for _, w := range m.workloads {
			for _, c := range containers(&w.pod.Spec) {
				if !strings.Contains(c.Image, "/greenlight/") {
					continue
				}
				ours++
				who := w.name + "/" + c.Name
				if !strings.Contains(c.Image, "/greenlight/"+c.Name+":") {
					t.Errorf("%s runs %s", who, c.Image)
				}
				checkFlags(t, program(t, c.Name), c.Args)
				for _, a := range c.Args {
					if _, file, _ := strings.Cut(a, "=/"); file != "" && !slices.ContainsFunc(c.VolumeMounts, func(v corev1.VolumeMount) bool {
						return strings.HasPrefix("/"+file+"/", v.MountPath+"/")
					}) {
						t.Errorf("%s: %s is on no volume", who, a)
					}
				}
				listening(t, who, &c)
				if w.kind != "Job" {
					watched(t, who, &c)
				}
			}
		}
		if want := len(m.workloads); ours != want {
			t.Errorf("%d containers of ours, want %d", ours, want)
		}
	})
}

// listening checks the ports of a container.
func listening(t *testing.T, who string, c *corev1.Container) {
	t.Helper()
	listens := map[string]bool{}
	for _, a := range c.Args {
		name, value, _ := strings.Cut(a, "=")
		if !slices.Contains([]string{"--grpc-addr", "--http-addr", "--metrics-listen"}, name) {
			continue
		}
		host, port, err := net.SplitHostPort(value)
		if err != nil {
			t.Fatalf("%s: %s: %v", who, a, err)
		}
		if host != "127.0.0.1" {
			listens[port] = true
		}
	}
	for _, p := range c.Ports {
		if !listens[fmt.Sprint(p.ContainerPort)] {
			t.Errorf("%s: nothing listens on port %s (%d)", who, p.Name, p.ContainerPort)
		}
		delete(listens, fmt.Sprint(p.ContainerPort))
	}
	if len(listens) != 0 {
		t.Errorf("%s: listens on %v, which is not one of its ports", who, listens)
	}
}

// watched checks the probes of a container.
func watched(t *testing.T, who string, c *corev1.Container) {
	t.Helper()
	for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
		switch {
		case probe == nil:
			t.Errorf("%s has no %s probe", who, name)
		case probe.HTTPGet != nil:
			probed(t, who+" "+name, c, probe.HTTPGet.Port)
		case probe.GRPC != nil:
			probed(t, who+" "+name, c, intstr.FromInt32(probe.GRPC.Port))
		default:
			t.Errorf("%s: a %s probe of another kind", who, name)
		}
	}
}

func probed(t *testing.T, who string, c *corev1.Container, port intstr.IntOrString) {
	t.Helper()
	if !slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.StrVal || p.ContainerPort == port.IntVal }) {
		t.Errorf("%s: port %s is not one of the container's", who, port.String())
	}
}

// Every selector finds pods, and every named port exists.
func TestSelectorsFindTheirPods(t *testing.T) {
	each(t, func(t *testing.T, m *manifests) {
		for _, w := range m.workloads {
			if w.kind == "Job" {
				continue
			}
			if got := m.workload(t, w.name, w.selector); got.name != w.name {
				t.Errorf("%s selects the pods of %s", w.name, got.name)
			}
			if w.replicas > 1 {
				spread(t, &w)
			}
		}
		for _, s := range m.services {
			if s.Spec.ClusterIP != corev1.ClusterIPNone {
				t.Errorf("service %s is not headless", s.Name)
			}
			pod := m.workload(t, "service "+s.Name, s.Spec.Selector).pod.Spec
			for _, p := range s.Spec.Ports {
				if number := portNumber(t, "service "+s.Name, &pod, p.TargetPort.StrVal); number != p.Port {
					t.Errorf("service %s: port %d leads to %d; headless, it cannot", s.Name, p.Port, number)
				}
			}
		}
		for _, b := range m.budgets {
			w := m.workload(t, "budget "+b.Name, b.Spec.Selector.MatchLabels)
			if got := b.Spec.MaxUnavailable; got == nil || got.IntVal < 1 || int32(got.IntValue()) >= w.replicas {
				t.Errorf("budget %s: %v of %d may be away", b.Name, got, w.replicas)
			}
		}
		for _, p := range m.networkPolicies {
			who := "network policy " + p.Name
			for _, rule := range p.Spec.Ingress {
				reaches(t, m, who, &p.Spec.PodSelector, rule.Ports)
				if len(rule.From) == 0 || len(rule.Ports) == 0 {
					t.Errorf("%s lets everybody in, or everywhere", who)
				}
				for _, from := range rule.From {
					if from.NamespaceSelector == nil {
						reaches(t, m, who, from.PodSelector, nil)
					}
				}
			}
			for _, rule := range p.Spec.Egress {
				if len(rule.To) == 0 || len(rule.Ports) == 0 {
					t.Errorf("%s lets its pods go everywhere", who)
				}
				for _, to := range rule.To {
					if to.NamespaceSelector == nil {
						reaches(t, m, who, to.PodSelector, rule.Ports)
					}
				}
			}
		}
	})
}

// reaches checks that the selector finds pods that have the ports. The NATS pods come from its chart.
func reaches(t *testing.T, m *manifests, who string, selector *metav1.LabelSelector, ports []networkingv1.NetworkPolicyPort) {
	t.Helper()
	if maps.Equal(selector.MatchLabels, map[string]string{"app.kubernetes.io/name": "nats"}) && m.folder == "fleet" {
		for _, port := range ports {
			if !slices.Contains([]string{"nats", "cluster"}, port.Port.StrVal) {
				t.Errorf("%s: NATS has no port %s", who, port.Port)
			}
		}
		return
	}
	pod := m.workload(t, who, selector.MatchLabels).pod.Spec
	for _, port := range ports {
		portNumber(t, who, &pod, port.Port.StrVal)
	}
}

func spread(t *testing.T, w *workload) {
	t.Helper()
	if len(w.pod.Spec.TopologySpreadConstraints) != 2 {
		t.Errorf("%s: want its pods spread over hosts and zones", w.name)
	}
	for _, c := range w.pod.Spec.TopologySpreadConstraints {
		if !labels.SelectorFromSet(c.LabelSelector.MatchLabels).Matches(labels.Set(w.pod.Labels)) {
			t.Errorf("%s: spread by %s over pods other than its own", w.name, c.TopologyKey)
		}
	}
}

// The executor uses the name that resolves to all pods of ml-engine, in the form that makes gRPC resolve it.
func TestExecutorBalancesOverTheHeadlessService(t *testing.T) {
	for _, folder := range []string{"base", "fleet"} {
		m := kustomize(t, folder)
		var want []string
		for _, s := range m.services {
			for _, p := range s.Spec.Ports {
				if s.Name == "ml-engine" && p.Name == "grpc" {
					want = append(want, fmt.Sprintf("%s:%d", s.Name, p.Port))
				}
			}
		}
		if got := m.arguments("--engine-addr"); len(want) != 1 || !slices.Equal(got, []string{"dns:///" + want[0]}) {
			t.Errorf("%s: got %v, want the service's, %v", folder, got, want)
		}
	}
}

// arguments returns the values of a flag in all containers.
func (m *manifests) arguments(flag string) (values []string) {
	for _, w := range m.workloads {
		for _, c := range containers(&w.pod.Spec) {
			for _, a := range c.Args {
				if value, found := strings.CutPrefix(a, flag+"="); found {
					values = append(values, value)
				}
			}
		}
	}
	return values
}

// Prometheus gives the targets the job names that the rules use.
func TestServiceMonitorsNameTheJobsOfTheRules(t *testing.T) {
	for folder, want := range map[string][]string{"base": {"executor", "ml-engine"}, "fleet": {"agent", "executor", "ml-engine"}} {
		if jobs := slices.Sorted(maps.Keys(scraped(t, kustomize(t, folder)))); !slices.Equal(jobs, want) {
			t.Errorf("%s: the jobs are %v, want %v", folder, jobs, want)
		}
	}
}

// unconditional matches a condition that is true when no target has the job, whether or not one ever had.
var unconditional = regexp.MustCompile(`absent\(up\{job="([^"]+)"\}\)( and on \(\) present_over_time\(up\{job="[^"]+"\}\[7d\]\))?`)

// No alert fires permanently on a healthy base: everything that an alert requires is part of the base.
func TestNoAlertFiresForWhatTheBaseDoesNotRun(t *testing.T) {
	jobs := scraped(t, kustomize(t, "base"))
	text, err := os.ReadFile(base + "/prometheus-rule.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := unconditional.FindAllStringSubmatch(string(text), -1)
	if len(found) < 3 {
		t.Fatalf("the rules miss %v: want executor, ml-engine and agent among them", found)
	}
	for _, m := range found {
		if job, seen := m[1], m[2] != ""; !jobs[job] && !seen {
			t.Errorf("an alert fires permanently: no target of the base has the job %s", job)
		}
	}
}

// scraped returns the jobs that the ServiceMonitors create.
func scraped(t *testing.T, m *manifests) map[string]bool {
	t.Helper()
	jobs := map[string]bool{}
	for _, monitor := range m.monitors {
		for _, s := range m.services {
			if !labels.SelectorFromSet(monitor.Spec.Selector.MatchLabels).Matches(labels.Set(s.Labels)) {
				continue
			}
			jobs[s.Labels[monitor.Spec.JobLabel]] = true
			for _, e := range monitor.Spec.Endpoints {
				if !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == e.Port }) {
					t.Errorf("monitor %s: service %s has no port %q", monitor.Name, s.Name, e.Port)
				}
				if e.Path != "/metrics" {
					t.Errorf("monitor %s: path %q", monitor.Name, e.Path)
				}
			}
		}
	}
	return jobs
}
