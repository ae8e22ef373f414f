package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// results are what a run showed.
type results struct {
	Environment environment    `json:"environment"`
	Experiments []result       `json:"experiments"`
	Compared    map[string]int `json:"compared"` // objects that each delivered byte for byte as published
}

// environment is what the results hold for.
type environment struct {
	Cores        int    `json:"cores"`
	Kernel       string `json:"kernel"`
	Go           string `json:"go"`
	Trustmirror  string `json:"trustmirror"`
	Distribution string `json:"distribution"`
	Nginx        string `json:"nginx"`
	Upstream     link   `json:"upstream"`
	Short        bool   `json:"short"`
}

// result is what an experiment showed.
type result struct {
	Name        string       `json:"name"`
	What        string       `json:"what"`
	Measured    measurements `json:"measured"`
	Comparisons []comparison `json:"comparisons"`
}

// measurements are all rounds of an experiment.
type measurements []series

// series is one quantity of one subject, round by round.
type series struct {
	Subject  string    `json:"subject"`
	Quantity string    `json:"quantity"`
	Rounds   []float64 `json:"rounds"`
}

// goal is what one subject's quantity is held against.
type goal struct {
	quantity string
	of       string
	against  string // another subject, or "" for the bound itself
	bound    bound
}

// bound is what is aimed at; the zero value is nothing.
type bound struct {
	sign  string // "≥" or "≤"
	value float64
}

func atLeast(value float64) bound { return bound{"≥", value} }
func atMost(value float64) bound  { return bound{"≤", value} }
func none() bound                 { return bound{} }

// comparison is a goal with what came of it.
type comparison struct {
	Quantity string `json:"quantity"`
	Of       spread `json:"of"`
	Against  spread `json:"against"` // without a subject: the goal is for the quantity itself
	Ratio    spread `json:"ratio"`   // of the two in each round; without rounds where there is nothing to divide by
	Goal     string `json:"goal"`    // "≥ 6×"; empty: none
	Met      string `json:"met"`     // "yes", "no", "not measured"; empty: there is no goal
}

// spread is the median of some rounds, and between what they were.
type spread struct {
	Subject string  `json:"subject,omitempty"`
	Rounds  int     `json:"rounds"`
	Median  float64 `json:"median"`
	Min     float64 `json:"min"`
	Max     float64 `json:"max"`
}

func (m *measurements) add(subject string, got sample) {
	for _, quantity := range slices.Sorted(maps.Keys(got)) {
		i := slices.IndexFunc(*m, func(s series) bool { return s.Subject == subject && s.Quantity == quantity })
		if i < 0 {
			i = len(*m)
			*m = append(*m, series{Subject: subject, Quantity: quantity})
		}
		(*m)[i].Rounds = append((*m)[i].Rounds, got[quantity])
	}
}

func (m measurements) of(subject, quantity string) []float64 {
	for _, s := range m {
		if s.Subject == subject && s.Quantity == quantity {
			return s.Rounds
		}
	}
	return nil
}

// compare holds what was measured against the goals. A ratio is made of what the same
// round showed of both.
func (m measurements) compare(goals []goal) (all []comparison) {
	for _, g := range goals {
		mine, theirs := m.of(g.of, g.quantity), m.of(g.against, g.quantity)
		c := comparison{Quantity: g.quantity, Of: spreadOf(g.of, mine), Against: spreadOf(g.against, theirs)}
		judged := c.Of
		unit := ""
		if g.against != "" {
			var ratios []float64
			for i := range min(len(mine), len(theirs)) {
				if theirs[i] > 0 {
					ratios = append(ratios, mine[i]/theirs[i])
				}
			}
			c.Ratio = spreadOf("", ratios)
			judged, unit = c.Ratio, "×"
		}
		if g.bound != none() {
			c.Goal = fmt.Sprintf("%s %v%s", g.bound.sign, g.bound.value, unit)
			c.Met = g.bound.met(judged)
		}
		all = append(all, c)
	}
	return all
}

func (b bound) met(s spread) string {
	switch {
	case s.Rounds == 0:
		return "not measured"
	case b.sign == "≥" && s.Median >= b.value, b.sign == "≤" && s.Median <= b.value:
		return "yes"
	}
	return "no"
}

func spreadOf(subject string, rounds []float64) spread {
	s := spread{Subject: subject, Rounds: len(rounds)}
	if len(rounds) == 0 {
		return s
	}
	sorted := slices.Sorted(slices.Values(rounds))
	s.Min, s.Max = sorted[0], sorted[len(sorted)-1]
	s.Median = (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
	return s
}

// print writes the results as a table (Markdown).
func (r *results) print(out io.Writer) error {
	e := r.Environment
	short := ""
	if e.Short {
		short = " A TENTH OF THE SIZES (-short): not to be quoted."
	}
	text := fmt.Sprintf("%d cores, Linux %s, %s; trustmirror %s, distribution %s, nginx %s.\n"+
		"Upstreams: %v round trip, %v MB/s for each connection. Medians of the rounds, and between what they were.%s\n\n",
		e.Cores, e.Kernel, e.Go, e.Trustmirror, cmp.Or(e.Distribution, "none"), cmp.Or(e.Nginx, "none"), e.Upstream.RTT, float64(e.Upstream.Bandwidth)/mb, short)
	text += "| row | work | figure | against | ratio | goal | met |\n|---|---|---|---|---|---|---|\n"
	for _, x := range r.Experiments {
		for _, c := range x.Comparisons {
			text += fmt.Sprintf("| %s | %s, %s | %s | %s | %s | %s | %s |\n", x.Name, x.What, c.Quantity, c.Of, c.Against, ratio(c.Ratio), c.Goal, c.Met)
		}
	}
	_, err := io.WriteString(out, text)
	return err
}

func (s spread) String() string {
	text := s.Subject
	switch s.Rounds {
	case 0:
	case 1:
		text += " " + figure(s.Median)
	default:
		text += fmt.Sprintf(" %s (%s–%s)", figure(s.Median), figure(s.Min), figure(s.Max))
	}
	return strings.TrimSpace(text)
}

func ratio(s spread) string {
	switch s.Rounds {
	case 0:
		return ""
	case 1:
		return figure(s.Median) + "×"
	}
	return fmt.Sprintf("%s× (%s–%s)", figure(s.Median), figure(s.Min), figure(s.Max))
}

// figure writes a number with three digits, or all of those before the point; one that
// is whole with no other.
func figure(f float64) string {
	if f == math.Trunc(f) || math.Abs(f) >= 100 {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.*f", max(0, 2-int(math.Floor(math.Log10(math.Abs(f))))), f)
}

func (s sample) String() string {
	var parts []string
	for _, quantity := range slices.Sorted(maps.Keys(s)) {
		parts = append(parts, figure(s[quantity])+" "+quantity)
	}
	return strings.Join(parts, ", ")
}

func (b *bench) environment(ctx context.Context) (environment, error) {
	e := environment{Cores: runtime.NumCPU(), Go: runtime.Version(), Upstream: b.through, Short: b.short}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return e, err
	}
	e.Kernel = strings.TrimSpace(string(kernel))
	out, err := lab.Run(ctx, nil, b.program, "version")
	if err != nil {
		return e, err
	}
	e.Trustmirror, _, _ = strings.Cut(strings.TrimPrefix(string(out), "trustmirror "), "\n")
	if out, err = lab.Run(ctx, nil, b.registry, "--version"); err != nil {
		return e, err
	}
	e.Distribution = last(string(out))
	if b.nginx != "" {
		out, err := exec.CommandContext(ctx, b.nginx, "-v").CombinedOutput()
		if err != nil {
			return e, err
		}
		e.Nginx = last(strings.ReplaceAll(string(out), "/", " "))
	}
	return e, nil
}

// last is the last word of a text.
func last(text string) string {
	words := strings.Fields(text)
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}
