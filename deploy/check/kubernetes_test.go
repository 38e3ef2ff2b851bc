package check

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func TestManifestsAreThere(t *testing.T) {
	m := kustomize(t)
	got := map[string]int{
		"Namespace": len(m.namespaces), "ServiceAccount": len(m.accounts), "PersistentVolumeClaim": len(m.claims),
		"Service": len(m.services), "Deployment": len(m.deployments), "PodDisruptionBudget": len(m.budgets),
		"NetworkPolicy": len(m.networkPolicies), "ServiceMonitor": len(m.monitors), "PrometheusRule": len(m.rules),
	}
	want := map[string]int{
		"Namespace": 1, "ServiceAccount": 2, "PersistentVolumeClaim": 1, "Service": 2, "Deployment": 2,
		"PodDisruptionBudget": 2, "NetworkPolicy": 2, "ServiceMonitor": 2, "PrometheusRule": 1,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The admission controller of the cluster would let these pods in under the strictest of the Pod Security Standards, which
// the namespace asks for.
func TestPodsAreRestricted(t *testing.T) {
	m := kustomize(t)
	for _, mode := range []string{"enforce", "warn", "audit"} {
		if got := m.namespaces[0].Labels["pod-security.kubernetes.io/"+mode]; got != "restricted" {
			t.Errorf("the namespace's %s is %q", mode, got)
		}
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	for _, d := range m.deployments {
		pod := &d.Spec.Template
		if r := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec)); !r.Allowed {
			t.Errorf("%s: %s", d.Name, r.ForbiddenDetail())
		}
		if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
			t.Errorf("%s: its pods get a token of the API server, which they do not need", d.Name)
		}
		if !slices.ContainsFunc(m.accounts, func(a corev1.ServiceAccount) bool { return a.Name == pod.Spec.ServiceAccountName }) {
			t.Errorf("%s: no ServiceAccount %q", d.Name, pod.Spec.ServiceAccountName)
		}
		for _, c := range containers(&pod.Spec) {
			if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
				t.Errorf("%s/%s: its root can be written", d.Name, c.Name)
			}
		}
	}
}

func TestContainersHaveBoundsAndVersions(t *testing.T) {
	for _, d := range kustomize(t).deployments {
		volumes := map[string]bool{}
		for _, v := range d.Spec.Template.Spec.Volumes {
			volumes[v.Name] = true
			if v.EmptyDir != nil && v.EmptyDir.SizeLimit == nil {
				t.Errorf("%s: volume %s has no bound", d.Name, v.Name)
			}
		}
		for _, c := range containers(&d.Spec.Template.Spec) {
			who := d.Name + "/" + c.Name
			r := c.Resources
			if r.Requests.Cpu().IsZero() || r.Requests.Memory().IsZero() || r.Limits.Memory().Cmp(*r.Requests.Memory()) != 0 {
				t.Errorf("%s: requests %v, limits %v: want CPU and memory requested, and the memory as limit", who, r.Requests, r.Limits)
			}
			if !r.Limits.Cpu().IsZero() {
				t.Errorf("%s: a limit of CPU throttles it for tens of milliseconds, and a shadow has 60", who)
			}
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
}

// The programs take every flag, listen where the ports say, and are probed where they listen.
func TestContainersRunTheirPrograms(t *testing.T) {
	ours := 0
	for _, d := range kustomize(t).deployments {
		for _, c := range containers(&d.Spec.Template.Spec) {
			if !strings.Contains(c.Image, "/greenlight/") {
				continue
			}
			ours++
			who := d.Name + "/" + c.Name
			if !strings.Contains(c.Image, "/greenlight/"+c.Name+":") {
				t.Errorf("%s runs %s", who, c.Image)
			}
			checkFlags(t, program(t, c.Name), c.Args)
			listens := map[string]bool{}
			for _, a := range c.Args {
				name, value, _ := strings.Cut(a, "=")
				if name != "--grpc-addr" && name != "--http-addr" {
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
				t.Errorf("%s: listens on %v, which is none of its ports", who, listens)
			}
			for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
				switch {
				case probe == nil:
					t.Errorf("%s has no %s probe", who, name)
				case probe.HTTPGet != nil:
					probed(t, who+" "+name, &c, probe.HTTPGet.Port)
				case probe.GRPC != nil:
					probed(t, who+" "+name, &c, intstr.FromInt32(probe.GRPC.Port))
				default:
					t.Errorf("%s: a %s probe of another kind", who, name)
				}
			}
		}
	}
	if ours != 2 {
		t.Errorf("%d containers of ours, want 2", ours)
	}
}

func probed(t *testing.T, who string, c *corev1.Container, port intstr.IntOrString) {
	t.Helper()
	if !slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.StrVal || p.ContainerPort == port.IntVal }) {
		t.Errorf("%s: port %s is none of the container's", who, port.String())
	}
}

// Whatever points at pods by their labels, or at a port by its name, finds them.
func TestSelectorsFindTheirPods(t *testing.T) {
	m := kustomize(t)
	for _, d := range m.deployments {
		if got := m.deployment(t, d.Name, d.Spec.Selector.MatchLabels); got.Name != d.Name {
			t.Errorf("deployment %s selects the pods of %s", d.Name, got.Name)
		}
		spread(t, &d)
	}
	for _, s := range m.services {
		if s.Spec.ClusterIP != corev1.ClusterIPNone {
			t.Errorf("service %s is not headless", s.Name)
		}
		pod := m.deployment(t, "service "+s.Name, s.Spec.Selector).Spec.Template.Spec
		for _, p := range s.Spec.Ports {
			if number := portNumber(t, "service "+s.Name, &pod, p.TargetPort.StrVal); number != p.Port {
				t.Errorf("service %s: port %d leads to %d; headless, it cannot", s.Name, p.Port, number)
			}
		}
	}
	for _, b := range m.budgets {
		d := m.deployment(t, "budget "+b.Name, b.Spec.Selector.MatchLabels)
		if got := b.Spec.MaxUnavailable; got == nil || got.IntVal < 1 || int32(got.IntValue()) >= *d.Spec.Replicas {
			t.Errorf("budget %s: %v of %d may be away", b.Name, got, *d.Spec.Replicas)
		}
	}
	for _, p := range m.networkPolicies {
		pod := m.deployment(t, "network policy "+p.Name, p.Spec.PodSelector.MatchLabels).Spec.Template.Spec
		for _, rule := range p.Spec.Ingress {
			if len(rule.From) == 0 || len(rule.Ports) == 0 {
				t.Errorf("network policy %s lets everybody in, or everywhere", p.Name)
			}
			for _, port := range rule.Ports {
				portNumber(t, "network policy "+p.Name, &pod, port.Port.StrVal)
			}
			for _, from := range rule.From {
				if from.NamespaceSelector == nil {
					m.deployment(t, "network policy "+p.Name, from.PodSelector.MatchLabels)
				}
			}
		}
	}
}

func spread(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	if len(d.Spec.Template.Spec.TopologySpreadConstraints) != 2 {
		t.Errorf("%s: want its pods spread over hosts and zones", d.Name)
	}
	for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
		if !labels.SelectorFromSet(c.LabelSelector.MatchLabels).Matches(labels.Set(d.Spec.Template.Labels)) {
			t.Errorf("%s: spread by %s over other pods than its own", d.Name, c.TopologyKey)
		}
	}
}

// The executor asks the name that resolves to all pods of ml-engine, in the form that makes gRPC resolve it.
func TestExecutorBalancesOverTheHeadlessService(t *testing.T) {
	m := kustomize(t)
	var want []string
	for _, s := range m.services {
		for _, p := range s.Spec.Ports {
			if s.Name == "ml-engine" && p.Name == "grpc" {
				want = append(want, fmt.Sprintf("--engine-addr=dns:///%s:%d", s.Name, p.Port))
			}
		}
	}
	var got []string
	for _, d := range m.deployments {
		for _, c := range containers(&d.Spec.Template.Spec) {
			for _, a := range c.Args {
				if strings.HasPrefix(a, "--engine-addr=") {
					got = append(got, a)
				}
			}
		}
	}
	if len(want) != 1 || !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Prometheus gives the targets the names of jobs that the rules ask for.
func TestServiceMonitorsNameTheJobsOfTheRules(t *testing.T) {
	if jobs := scraped(t, kustomize(t)); len(jobs) != 2 || !jobs["ml-engine"] || !jobs["executor"] {
		t.Errorf("jobs: got %v, want ml-engine and executor", jobs)
	}
}

// unconditional is a condition that holds where no target has the job, whether or not one ever had.
var unconditional = regexp.MustCompile(`absent\(up\{job="([^"]+)"\}\)( and on \(\) present_over_time\(up\{job="[^"]+"\}\[7d\]\))?`)

// No alert fires for good where the base is healthy: what must be there for an alert to be quiet is what the base runs.
func TestNoAlertFiresForWhatTheBaseDoesNotRun(t *testing.T) {
	jobs := scraped(t, kustomize(t))
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
			t.Errorf("an alert fires for good: no target of the base has the job %s", job)
		}
	}
}

// scraped are the jobs that the ServiceMonitors make.
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
