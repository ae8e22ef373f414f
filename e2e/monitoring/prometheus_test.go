package monitoring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// server is a Prometheus that scrapes one mirror, named as its instance.
type server struct {
	url     string
	process *lab.Process
}

func startPrometheus(t *testing.T, binary, target string) server {
	t.Helper()
	l, err := lab.New()
	check(t, err)
	t.Cleanup(func() { check(t, l.Remove()) })
	rules, err := filepath.Abs(filepath.Join(deploy, "prometheus", "alerts.yaml"))
	check(t, err)
	address, err := lab.FreeAddress()
	check(t, err)
	config := filepath.Join(l.Dir, "prometheus.yml")
	check(t, os.WriteFile(config, fmt.Appendf(nil, `global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: [%q]
scrape_configs:
  - job_name: trustmirror
    static_configs: [{targets: [%q]}]
`, rules, target), 0o600))
	s := server{url: "http://" + address}
	s.process, err = l.Start("prometheus", exec.Command(binary, "--config.file="+config,
		"--storage.tsdb.path="+filepath.Join(l.Dir, "data"), "--web.listen-address="+address))
	check(t, err)
	s.eventually(t, "ready", func(ctx context.Context) error {
		body, status, err := get(ctx, http.DefaultClient, s.url+"/-/ready")
		if err == nil && status != http.StatusOK {
			err = errors.New(string(body))
		}
		return err
	})
	return s
}

// eventually waits until something holds, a minute at most.
func (s server) eventually(t *testing.T, what string, holds func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.process.WaitUntil(ctx, holds); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// ask reads an answer of Prometheus's API.
func (s server) ask(ctx context.Context, path string, parameters url.Values, data any) error {
	body, status, err := get(ctx, http.DefaultClient, s.url+path+"?"+parameters.Encode())
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s: %d %s", path, status, body)
	}
	return json.Unmarshal(body, &struct{ Data any }{data})
}

// sample is an element of a vector.
type sample struct {
	Metric map[string]string
	Value  [2]any // when, and what
}

func (s server) query(ctx context.Context, expression string) ([]sample, error) {
	var found struct{ Result []sample }
	err := s.ask(ctx, "/api/v1/query", url.Values{"query": {expression}}, &found)
	return found.Result, err
}

// alertRules are the rules as Prometheus has loaded them.
type alertRules struct {
	Groups []struct {
		Rules []alertRule
	}
}

type alertRule struct {
	Name, Query, Health, LastError, State string
	Alerts                                []struct{ Labels, Annotations map[string]string }
}

func (s server) rules(ctx context.Context) ([]alertRule, error) {
	var found alertRules
	err := s.ask(ctx, "/api/v1/rules", nil, &found)
	if err == nil && len(found.Groups) != 1 {
		err = fmt.Errorf("there are %d groups of rules", len(found.Groups))
	}
	if err != nil {
		return nil, err
	}
	return found.Groups[0].Rules, nil
}

// TestPrometheus has Prometheus load the rules, and looks whether what they and the
// dashboard ask for is there after pulls, refusals and refreshes.
func TestPrometheus(t *testing.T) {
	binary := program(t, "prometheus")
	mirror, client, wrong := startMirror(t)
	s := startPrometheus(t, binary, strings.TrimPrefix(mirror.AdminURL, "http://"))
	s.eventually(t, "the mirror is scraped, refusals at 0", func(ctx context.Context) error {
		found, err := s.query(ctx, `trustmirror_refusals_total{reason="layer_mismatch"} == 0`)
		if err == nil && len(found) != 1 {
			err = fmt.Errorf("found %v", found)
		}
		return err
	})
	good := []lab.Wrong{{Image: lab.HubName + ":0.1.19"}, {Image: lab.ECRName + ":0.1.19"}}
	for _, image := range slices.Concat(good, good, wrong) { // twice: cold and warm
		at := strings.LastIndex(image.Image, ":")
		_, status, err := get(t.Context(), client, mirror.URL+lab.ManifestPath(image.Image[:at], image.Image[at+1:]))
		check(t, err)
		if image.Reason == "" && status != http.StatusOK {
			t.Fatalf("%s: %d", image.Image, status)
		}
	}
	t.Run("rules", func(t *testing.T) { rulesAreHealthy(t, s) })
	t.Run("metrics", func(t *testing.T) { metricsAreThere(t, s) })
	t.Run("dashboard", func(t *testing.T) { panelsAreAnswered(t, s) })
}

// rulesAreHealthy checks that each rule was evaluated, and that the one for tampering
// tells of what has just happened.
func rulesAreHealthy(t *testing.T, s server) {
	s.eventually(t, "all rules are healthy, and one alert fires", func(ctx context.Context) error {
		rules, err := s.rules(ctx)
		if err != nil {
			return err
		}
		firing := map[string]string{} // reasons by name
		for _, rule := range rules {
			if rule.Health != "ok" || rule.LastError != "" {
				return fmt.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
			if rule.State == "firing" {
				for _, alert := range rule.Alerts {
					firing[rule.Name] += alert.Labels["reason"] + " " + alert.Annotations["summary"] + "\n"
				}
			}
		}
		for _, reason := range []string{"digest_mismatch", "config_mismatch"} {
			if !strings.Contains(firing["TrustmirrorTampering"], reason+" "+lab.HubName+" was refused: "+reason) {
				return fmt.Errorf("the alert of tampering doesn't tell of %s: %q", reason, firing)
			}
		}
		if len(firing) != 1 {
			t.Errorf("more fires than tampering: %q", firing)
		}
		return nil
	})
}

// metricsAreThere checks that each metric was scraped that rules and dashboard name.
func metricsAreThere(t *testing.T, s server) {
	names := map[string]bool{}
	for _, file := range []string{"prometheus/alerts.yaml", "grafana/trustmirror.json"} {
		content, err := os.ReadFile(filepath.Join(deploy, file))
		check(t, err)
		for _, name := range metricName.FindAllString(string(content), -1) {
			names[name] = true
		}
	}
	if len(names) < 15 {
		t.Errorf("rules and dashboard name only %v", names)
	}
	var scraped []string
	check(t, s.ask(t.Context(), "/api/v1/label/__name__/values", nil, &scraped))
	for _, name := range scraped {
		delete(names, name)
	}
	for name := range names {
		t.Errorf("%s wasn't scraped", name)
	}
}

// TestAlerts runs the rules' own tests, and checks that there is one for each rule.
func TestAlerts(t *testing.T) {
	promtool := program(t, "promtool")
	folder := filepath.Join(deploy, "prometheus")
	_, err := lab.Run(t.Context(), nil, promtool, "check", "rules", "--lint=all", "--lint-fatal", filepath.Join(folder, "alerts.yaml"))
	check(t, err)
	_, err = lab.Run(t.Context(), nil, promtool, "test", "rules", filepath.Join(folder, "alerts_test.yaml"))
	check(t, err)
	rules, err := os.ReadFile(filepath.Join(folder, "alerts.yaml"))
	check(t, err)
	tests, err := os.ReadFile(filepath.Join(folder, "alerts_test.yaml"))
	check(t, err)
	for line := range strings.Lines(string(rules)) {
		if _, name, found := strings.Cut(strings.TrimSpace(line), "- alert: "); found && !strings.Contains(string(tests), fmt.Sprintf("alertname=%q", name)) {
			t.Errorf("nothing tests when %s fires", name)
		}
	}
}
