package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var metricName = regexp.MustCompile(`\b(?:trustmirror|process)_[a-z_]*[a-z]\b`)

// dashboard is as much of a dashboard as is looked at.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Type, Query any }
	}
	Panels []struct {
		Title      string
		Datasource *source
		Targets    []struct {
			Expr       string
			Datasource *source
		}
	}
}

type source struct{ Type, UID string }

// emptyPanel is the one in which nothing need be drawn while all is well.
const emptyPanel = "Retries, and seconds to be left alone"

// panelsAreAnswered has Prometheus answer each panel's questions, as Grafana would put
// them.
func panelsAreAnswered(t *testing.T, s server) {
	raw, err := os.ReadFile(filepath.Join(deploy, "grafana", "trustmirror.json"))
	check(t, err)
	var d dashboard
	check(t, json.Unmarshal(raw, &d))
	if len(d.Templating.List) == 0 || d.Templating.List[0].Name != "datasource" || d.Templating.List[0].Type != "datasource" {
		t.Errorf("there is no variable for the data source: %v", d.Templating.List)
	}
	// What Grafana puts in place of its variables.
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*")
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			for _, from := range []*source{panel.Datasource, target.Datasource} {
				if from == nil || *from != (source{"prometheus", "${datasource}"}) {
					t.Errorf("%s asks %v, not the variable's source", panel.Title, from)
				}
			}
			expression := variables.Replace(target.Expr)
			if strings.Contains(expression, "$") {
				t.Errorf("%s: an unknown variable in %s", panel.Title, target.Expr)
			}
			s.eventually(t, panel.Title, func(ctx context.Context) error { // a rate takes two scrapes
				found, err := s.query(ctx, expression)
				if err == nil && len(found) == 0 && panel.Title != emptyPanel {
					err = fmt.Errorf("nothing to show of %s", expression)
				}
				return err
			})
		}
	}
}
