package deploy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/trustmirror/trustmirror/e2e/lab"
	"github.com/trustmirror/trustmirror/e2e/tools"
)

// The oldest Kubernetes that the chart is for, and where it is installed to.
const (
	kubeVersion = "1.30.0"
	release     = "release"
	namespace   = "mirrors"
)

// objects are what the chart makes, decoded strictly into Kubernetes's own types.
type objects struct {
	configMaps      map[string]corev1.ConfigMap
	services        map[string]corev1.Service
	accounts        map[string]corev1.ServiceAccount
	budgets         []policyv1.PodDisruptionBudget
	networkPolicies []networkingv1.NetworkPolicy
	monitors        []serviceMonitor
	statefulSets    []appsv1.StatefulSet
	deployments     []appsv1.Deployment
	daemonSets      []appsv1.DaemonSet
}

// serviceMonitor is what the chart uses of the Prometheus operator's type.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// helm runs Helm with nothing of the user's own.
func helm(t *testing.T, args ...string) (output string, status int) {
	t.Helper()
	dir, err := tools.Dir(t.Context(), "helm", os.Stdout)
	check(t, err)
	home := t.TempDir()
	env := []string{"HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home, "KUBECONFIG=" + filepath.Join(home, "none")}
	return said(t, env, filepath.Join(dir, "helm"), args...)
}

func chart() string { return filepath.Join(shipped, "kubernetes/trustmirror") }

// values is a file of values that comes with the chart.
func values(name string) string { return filepath.Join(chart(), "ci", name+"-values.yaml") }

func render(t *testing.T, args ...string) (*objects, string) {
	t.Helper()
	out, status := helm(t, append([]string{"template", release, chart(), "--namespace", namespace, "--kube-version", kubeVersion}, args...)...)
	if status != 0 {
		t.Fatalf("helm template %q ended with %d:\n%s", args, status, out)
	}
	o, err := decode(out)
	if err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	return o, out
}

func decode(text string) (*objects, error) {
	o := &objects{configMaps: map[string]corev1.ConfigMap{}, services: map[string]corev1.Service{}, accounts: map[string]corev1.ServiceAccount{}}
	for _, document := range regexp.MustCompile(`(?m)^---$`).Split(text, -1) {
		if strings.TrimSpace(document) == "" {
			continue
		}
		if err := o.add([]byte(document)); err != nil {
			return nil, fmt.Errorf("%w:\n%s", err, document)
		}
	}
	return o, nil
}

// add decodes one object; fields that its type doesn't have are mistakes.
func (o *objects) add(document []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 ConfigMap":
		return keep(document, o.configMaps)
	case "v1 Service":
		return keep(document, o.services)
	case "v1 ServiceAccount":
		return keep(document, o.accounts)
	case "policy/v1 PodDisruptionBudget":
		return appendTo(document, &o.budgets)
	case "networking.k8s.io/v1 NetworkPolicy":
		return appendTo(document, &o.networkPolicies)
	case "monitoring.coreos.com/v1 ServiceMonitor":
		return appendTo(document, &o.monitors)
	case "apps/v1 StatefulSet":
		return appendTo(document, &o.statefulSets)
	case "apps/v1 Deployment":
		return appendTo(document, &o.deployments)
	case "apps/v1 DaemonSet":
		return appendTo(document, &o.daemonSets)
	}
	return fmt.Errorf("nobody knows a %s of %s", kind.Kind, kind.APIVersion)
}

// strictly decodes as Kubernetes itself does: the case of names counts.
func strictly(document []byte, object any) error {
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return err
	}
	mistakes, err := json.UnmarshalStrict(text, object)
	return errors.Join(append(mistakes, err)...)
}

func appendTo[T any](document []byte, all *[]T) error {
	var object T
	err := strictly(document, &object)
	*all = append(*all, object)
	return err
}

func keep[T any, P interface {
	*T
	metav1.Object
}](document []byte, all map[string]T) error {
	var object T
	if err := strictly(document, &object); err != nil {
		return err
	}
	name := P(&object).GetName()
	if _, ok := all[name]; ok || name == "" {
		return fmt.Errorf("the name %q is used twice or empty", name)
	}
	all[name] = object
	return nil
}

func TestChartLints(t *testing.T) {
	for _, name := range []string{"volume", "everything", "s3"} {
		if out, status := helm(t, "lint", "--strict", "--kube-version", kubeVersion, chart(), "--values", values(name)); status != 0 {
			t.Errorf("%s: %d\n%s", name, status, out)
		}
	}
}

// What is missing or wrong is refused before anything is installed.
func TestChartRefuses(t *testing.T) {
	tests := []struct {
		set  []string
		says string
	}{
		{[]string{"image.repository="}, "image.repository is empty: set it to where you pushed the image"},
		{[]string{"nodes.enabled=true"}, "nodes.mirrorURL is empty: write where nodes reach the mirror"},
		{[]string{"nodes.mirrorURL=https://mirror.example/path"}, "at '/nodes/mirrorURL'"},
		{[]string{"image.digest=sha256:1"}, "at '/image/digest'"},
		{[]string{"imag.tag=x"}, "'imag' not allowed"},
		{[]string{"service.type=ExternalName"}, "at '/service/type'"},
		{[]string{"config.storage.inmemory=null"}, "at '/config/storage'"},
		{[]string{"config.admin.address=:1"}, "at '/config/admin'"},
		{[]string{"config.listen.address=:1"}, "at '/config/listen/address'"},
		{[]string{"storage.s3.region=us-east-1"}, "missing property 'bucket'"},
		{[]string{"storage.s3.bucket=b", "storage.s3.region=r", "storage.s3.secretkey=s"}, "at '/storage/s3/secretkey'"},
		{[]string{"files.config\\.yaml=x"}, "invalid propertyName 'config.yaml'"},
	}
	for _, test := range tests {
		args := []string{"template", release, chart(), "--kube-version", kubeVersion, "--values", values("volume")}
		for _, value := range test.set {
			args = append(args, "--set", value)
		}
		if out, status := helm(t, args...); status == 0 || !strings.Contains(out, test.says) {
			t.Errorf("%q: %d, want %q:\n%s", test.set, status, test.says, out)
		}
	}
	if out, status := helm(t, "template", release, chart(), "--kube-version", kubeVersion, "--set", "image.repository=x"); status == 0 ||
		!strings.Contains(out, "config.images is empty: say which images may be served") {
		t.Errorf("without images: %d %s", status, out)
	}
	if out, status := helm(t, "template", release, chart(), "--kube-version", "1.29.9", "--values", values("volume")); status == 0 || !strings.Contains(out, ">=1.30.0") {
		t.Errorf("Kubernetes 1.29: %d %s", status, out)
	}
}

// The decoder does notice mistakes.
func TestChartDecoderIsStrict(t *testing.T) {
	_, text := render(t, "--values", values("everything"))
	for before, after := range map[string]string{
		"readOnlyRootFilesystem: true": "readonlyRootFileSystem: true",
		"runAsUser: 65532":             "runAsUser: nobody",
		"maxUnavailable: 1\n":          "maxUnavailable: 1\n  maxUnavailable: 2\n",
		"kind: ServiceMonitor":         "kind: ServiceMonitors",
	} {
		if !strings.Contains(text, before) {
			t.Fatalf("the chart makes no %q", before)
		}
		if _, err := decode(strings.ReplaceAll(text, before, after)); err == nil {
			t.Errorf("%q is let through", after)
		}
	}
}

// What the chart writes is right for trustmirror itself.
func TestChartConfiguration(t *testing.T) {
	for _, name := range []string{"volume", "everything", "s3"} {
		t.Run(name, func(t *testing.T) {
			o, _ := render(t, "--values", values(name))
			folders := mountedFiles(t, o.configMaps["release-trustmirror"])
			for _, configMap := range o.configMaps {
				checkConfig(t, configMap.Data["config.yaml"], folders)
			}
		})
	}
}

// mountedFiles makes the files that pods find at /etc/trustmirror and in /secrets.
func mountedFiles(t *testing.T, configMap corev1.ConfigMap) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range configMap.Data {
		write(t, filepath.Join(dir, "etc", name), content)
	}
	write(t, filepath.Join(dir, "secrets/hub/password"), "secret\n")
	l, err := lab.New()
	check(t, err)
	t.Cleanup(func() { check(t, l.Remove()) })
	certificate, key, err := l.CA.Issue("mirror.test")
	check(t, err)
	for name, from := range map[string]string{"tls.crt": certificate, "tls.key": key, "ca.crt": l.CA.Path} {
		content, err := os.ReadFile(from)
		check(t, err)
		write(t, filepath.Join(dir, "secrets/mirror-tls", name), string(content))
	}
	return map[string]string{"/etc/trustmirror/": dir + "/etc/", "/secrets/": dir + "/secrets/", "rootdirectory: /data": "rootdirectory: " + dir}
}
