package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// alertRules are a file of rules, as Prometheus reads it.
type alertRules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

// dashboard is as much of a dashboard as is compared.
type dashboard struct {
	Title      string
	Templating struct{ List []struct{ Definition string } }
	Panels     []struct {
		ID      int
		Title   string
		Type    string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr string }
	}
}

// The alert rules read as rules, and say what to do.
func TestAlerts(t *testing.T) {
	raw, err := os.ReadFile("../../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules alertRules
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	if len(rules.Groups) != 1 || len(rules.Groups[0].Rules) < 8 {
		t.Fatalf("groups: %+v", rules.Groups)
	}
	for _, r := range rules.Groups[0].Rules {
		if !strings.HasPrefix(r.Alert, "Trustmirror") || r.Annotations["summary"] == "" || r.Annotations["description"] == "" ||
			!slices.Contains([]string{"warning", "critical"}, r.Labels["severity"]) {
			t.Errorf("rule: %+v", r)
		}
		checkExpression(t, r.Alert, r.Expr)
	}
}

// The dashboard's panels have something to show, and don't cover one another.
func TestDashboard(t *testing.T) {
	raw, err := os.ReadFile("../../deploy/grafana/trustmirror.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	taken, ids := make(map[[2]int]string), make(map[int]bool)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the ID %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			checkExpression(t, p.Title, target.Expr)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("panel %s covers %q, or lies outside", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
	for _, v := range d.Templating.List {
		for _, name := range metricName.FindAllString(v.Definition, -1) {
			if documentedMetrics(t)[name] == "" {
				t.Errorf("a variable rests on %s, which docs/metrics.md doesn't list", name)
			}
		}
	}
	if len(d.Panels) < 10 {
		t.Errorf("there are %d panels", len(d.Panels))
	}
}

var (
	metricName = regexp.MustCompile(`trustmirror_\w+`)
	selector   = regexp.MustCompile(`(trustmirror_\w+)(?:\{([^}]*)\})?`)
	matcher    = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
)

// checkExpression makes sure that a mirror tells all that an expression names:
// metrics, and the labels that they are chosen by.
func checkExpression(t *testing.T, where, expression string) {
	t.Helper()
	documented := documentedMetrics(t)
	found := selector.FindAllStringSubmatch(expression, -1)
	if len(found) == 0 {
		t.Errorf("%s rests on none of our metrics: %s", where, expression)
	}
	for _, m := range found {
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && strings.Contains(documented[base], "| histogram |") {
				name = base
			}
		}
		row := strings.Split(documented[name], "|")
		if len(row) < 5 {
			t.Errorf("%s rests on %s, which docs/metrics.md doesn't list", where, name)
			continue
		}
		labels := append(strings.Split(strings.TrimSpace(row[3]), ", "), "instance", "job")
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(labels, l[1]) {
				t.Errorf("%s: %s has no label %s, only %q", where, name, l[1], labels)
			}
		}
	}
}
