package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// workload is a pod template, and what selects its pods.
type workload struct {
	name     string
	selector *metav1.LabelSelector
	template corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
}

// mirror is the one StatefulSet or Deployment.
func (o *objects) mirror(t *testing.T) workload {
	t.Helper()
	if len(o.statefulSets)+len(o.deployments) != 1 {
		t.Fatalf("there are %d stateful sets and %d deployments", len(o.statefulSets), len(o.deployments))
	}
	if len(o.statefulSets) == 1 {
		s := o.statefulSets[0]
		if _, ok := o.services[s.Spec.ServiceName]; !ok {
			t.Errorf("the stateful set's service %s isn't there", s.Spec.ServiceName)
		}
		return workload{s.Name, s.Spec.Selector, s.Spec.Template, s.Spec.VolumeClaimTemplates}
	}
	d := o.deployments[0]
	return workload{d.Name, d.Spec.Selector, d.Spec.Template, nil}
}

// nodes are the daemon sets.
func (o *objects) nodes() []workload {
	var all []workload
	for _, d := range o.daemonSets {
		all = append(all, workload{name: d.Name, selector: d.Spec.Selector, template: d.Spec.Template})
	}
	return all
}

func TestChartObjects(t *testing.T) {
	for _, name := range []string{"volume", "everything", "s3"} {
		t.Run(name, func(t *testing.T) {
			o, _ := render(t, "--values", values(name))
			mirror := o.mirror(t)
			for _, w := range append(o.nodes(), mirror) {
				o.fits(t, w)
			}
			o.selectsOnly(t, mirror)
			evaluate(t, mirror, api.LevelRestricted, true)
			for _, node := range o.nodes() { // which write on the node: no level admits that
				evaluate(t, node, api.LevelBaseline, false)
				confined(t, node)
			}
			confined(t, mirror)
		})
	}
}

// Where the content is says what runs.
func TestChartWorkloads(t *testing.T) {
	o, _ := render(t, "--values", values("volume"))
	if len(o.statefulSets) != 1 || *o.statefulSets[0].Spec.Replicas != 1 || len(o.statefulSets[0].Spec.VolumeClaimTemplates) != 1 {
		t.Errorf("on a volume: %+v", o.statefulSets)
	}
	if len(o.daemonSets)+len(o.monitors) > 0 || len(o.networkPolicies) != 1 || len(o.budgets) != 1 {
		t.Errorf("by default: %d daemon sets, %d monitors, %d network policies, %d budgets", len(o.daemonSets), len(o.monitors), len(o.networkPolicies), len(o.budgets))
	}
	if o, _ = render(t, "--values", values("s3")); len(o.deployments) != 1 || *o.deployments[0].Spec.Replicas != 3 {
		t.Errorf("on S3: %+v", o.deployments)
	}
	if env := o.deployments[0].Spec.Template.Spec.Containers[0].EnvFrom; len(env) != 1 || env[0].SecretRef.Name != "bucket-credentials" {
		t.Errorf("the bucket's credentials come from %+v", env)
	}
	if o, _ = render(t, "--values", values("everything"), "--set", "networkPolicy.enabled=false,podDisruptionBudget.enabled=false"); len(o.networkPolicies)+len(o.budgets) > 0 {
		t.Error("what is switched off is there")
	}
}

// fits checks that what a workload refers to is there.
func (o *objects) fits(t *testing.T, w workload) {
	t.Helper()
	if !matches(t, w.selector, w.template.Labels) {
		t.Errorf("%s doesn't select its own pods: %v", w.name, w.template.Labels)
	}
	spec := w.template.Spec
	account, ok := o.accounts[spec.ServiceAccountName]
	if !ok || *account.AutomountServiceAccountToken || *spec.AutomountServiceAccountToken {
		t.Errorf("%s: the service account %q isn't there, or gives a token", w.name, spec.ServiceAccountName)
	}
	volumes := map[string]bool{}
	for _, claim := range w.claims {
		volumes[claim.Name] = true
	}
	for _, volume := range spec.Volumes {
		if volumes[volume.Name] {
			t.Errorf("%s has two volumes %s", w.name, volume.Name)
		}
		volumes[volume.Name] = true
		if c := volume.ConfigMap; c != nil && c.Name != "mirror-ca" { // which the operator brings
			if _, ok := o.configMaps[c.Name]; !ok {
				t.Errorf("%s: the config map %s isn't there", w.name, c.Name)
			}
		}
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		for _, mount := range c.VolumeMounts {
			if !volumes[mount.Name] {
				t.Errorf("%s mounts %s, which isn't there", w.name, mount.Name)
			}
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if probe != nil && probe.HTTPGet != nil && !hasPort(spec, probe.HTTPGet.Port) {
				t.Errorf("%s is probed at port %s, which isn't there", w.name, &probe.HTTPGet.Port)
			}
		}
	}
}

// selectsOnly checks that services, budgets and policies are about the mirror's
// pods, and not about those on the nodes.
func (o *objects) selectsOnly(t *testing.T, mirror workload) {
	t.Helper()
	selectors := map[string]*metav1.LabelSelector{}
	for name, service := range o.services {
		selectors["service "+name] = &metav1.LabelSelector{MatchLabels: service.Spec.Selector}
		for _, port := range service.Spec.Ports {
			if !hasPort(mirror.template.Spec, port.TargetPort) {
				t.Errorf("service %s leads to port %s, which isn't there", name, &port.TargetPort)
			}
		}
	}
	for _, budget := range o.budgets {
		selectors["budget "+budget.Name] = budget.Spec.Selector
	}
	for _, p := range o.networkPolicies {
		selectors["network policy "+p.Name] = &p.Spec.PodSelector
		for _, rule := range p.Spec.Ingress {
			for _, port := range rule.Ports {
				if !hasPort(mirror.template.Spec, *port.Port) {
					t.Errorf("network policy %s lets in to port %s, which isn't there", p.Name, port.Port)
				}
				if port.Port.String() == "admin" && len(rule.From) == 0 {
					t.Errorf("network policy %s lets everybody in to the admin port", p.Name)
				}
			}
		}
	}
	for name, selector := range selectors {
		if !matches(t, selector, mirror.template.Labels) {
			t.Errorf("%s doesn't select the mirror", name)
		}
		for _, node := range o.nodes() {
			if matches(t, selector, node.template.Labels) {
				t.Errorf("%s selects %s", name, node.name)
			}
		}
	}
	for _, monitor := range o.monitors {
		found := 0
		for _, service := range o.services {
			if matches(t, &monitor.Spec.Selector, service.Labels) {
				found++
				for _, endpoint := range monitor.Spec.Endpoints {
					if !slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == endpoint.Port }) {
						t.Errorf("the monitor asks port %s, which service %s doesn't have", endpoint.Port, service.Name)
					}
				}
			}
		}
		if found != 1 {
			t.Errorf("the monitor selects %d services", found)
		}
	}
}

// evaluate holds a pod against one of Kubernetes's Pod Security Standards.
func evaluate(t *testing.T, w workload, level api.Level, allowed bool) {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	check(t, err)
	results := evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: api.LatestVersion()}, &w.template.ObjectMeta, &w.template.Spec)
	if aggregate := policy.AggregateCheckResults(results); aggregate.Allowed != allowed {
		t.Errorf("%s, held against %s: allowed %v %s", w.name, level, aggregate.Allowed, aggregate.ForbiddenDetail())
	}
}

// confined checks what the standards leave open.
func confined(t *testing.T, w workload) {
	t.Helper()
	for _, c := range slices.Concat(w.template.Spec.InitContainers, w.template.Spec.Containers) {
		s := c.SecurityContext
		if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation ||
			!slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
			t.Errorf("%s: container %s may do more than it needs: %+v", w.name, c.Name, s)
		}
		if c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: container %s may take all memory", w.name, c.Name)
		}
		for _, mount := range c.VolumeMounts {
			if !mount.ReadOnly && mount.MountPath != "/data" && mount.MountPath != "/host/etc/containerd" {
				t.Errorf("%s: container %s may write %s", w.name, c.Name, mount.MountPath)
			}
		}
	}
}

// What the pod on each node runs does close containerd.
func TestChartNodes(t *testing.T) {
	o, _ := render(t, "--values", values("everything"))
	spec := o.nodes()[0].template.Spec
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.yaml"), o.configMaps["release-trustmirror-nodes"].Data["config.yaml"])
	ca := filepath.Join(mountedFiles(t, o.configMaps["release-trustmirror"])["/secrets/"], "mirror-tls/ca.crt")
	host := filepath.Join(dir, "host")
	check(t, os.MkdirAll(filepath.Join(host, "etc/containerd"), 0o755))
	mounted := strings.NewReplacer("/etc/trustmirror/config.yaml", filepath.Join(dir, "config.yaml"), "/etc/trustmirror-ca/ca.crt", ca, "/host", host)
	replaced := func(args []string) []string {
		args = slices.Clone(args)
		for i := range args {
			args[i] = mounted.Replace(args[i])
		}
		return args
	}
	if out, status := said(t, nil, program, replaced(spec.InitContainers[0].Args)...); status != 0 {
		t.Fatalf("the init container ends with %d:\n%s", status, out)
	}
	hosts, err := os.ReadFile(filepath.Join(host, "etc/containerd/certs.d/docker.io/hosts.toml"))
	check(t, err)
	for _, want := range []string{"server = \"https://10.96.0.50\"\n", "[host.\"https://10.96.0.50\"]\n"} {
		if !strings.Contains(string(hosts), want) {
			t.Errorf("hosts.toml has no %q:\n%s", want, hosts)
		}
	}
	// Nobody answers there, and so doctor can't find the node closed; but it understands.
	command := replaced(spec.Containers[0].ReadinessProbe.Exec.Command)
	out, status := said(t, nil, program, append(command[1:], "-o", "json")...)
	if command[0] != "/trustmirror" || status == 0 || !strings.Contains(out, `"docker.io"`) {
		t.Errorf("%q: %d %s", command, status, out)
	}
}

func matches(t *testing.T, selector *metav1.LabelSelector, set map[string]string) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	check(t, err)
	return !s.Empty() && s.Matches(labels.Set(set))
}

func hasPort(spec corev1.PodSpec, port intstr.IntOrString) bool {
	return slices.ContainsFunc(spec.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.String() })
	})
}
