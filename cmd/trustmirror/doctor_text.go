package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/trustmirror/trustmirror/deploy/doctor"
)

// writeDoctor writes a report for people: a table, then what isn't closed.
func writeDoctor(w io.Writer, root string, r *doctor.Report) error {
	for _, m := range r.Mirrors {
		if m.State == doctor.Closed {
			fmt.Fprintf(w, "mirror %s refuses what nobody signed\n", m.URL)
			continue
		}
		fmt.Fprintf(w, "mirror: %s\n", m.Sentence)
	}
	if len(r.Mirrors) > 0 {
		fmt.Fprintln(w)
	}
	if len(r.Findings) > 0 {
		table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		fmt.Fprint(table, "CLIENT\tREGISTRY\tSTATE\tWHY\n")
		for _, f := range r.Findings {
			why := string(f.Trap)
			if f.State == doctor.Closed {
				why = placeOf(root, f)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", f.Client, f.Registry, f.State, why)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	for _, g := range alike(r.Findings) {
		f, registries := g[0], make([]string, len(g))
		for i := range g {
			registries[i] = g[i].Registry
		}
		what := fmt.Sprintf("%s: %s, %s", placeOf(root, f), f.Client, strings.Join(registries, ", "))
		switch {
		case f.State != doctor.Closed:
			fmt.Fprintf(w, "\n%s: %s\n  %s\n  %s\n", what, f.State, f.Sentence, f.Fix)
		case f.Warning != "":
			fmt.Fprintf(w, "\n%s: closed\n  %s\n", what, f.Warning)
		}
	}
	for i, note := range r.Notes {
		if i == 0 && len(r.Findings) > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, note)
	}
	return nil
}

// alike puts findings together that are one thing to repair: a client's at one place.
func alike(findings []doctor.Finding) [][]doctor.Finding {
	var groups [][]doctor.Finding
	for _, f := range findings {
		at := slices.IndexFunc(groups, func(g []doctor.Finding) bool {
			return g[0].Client == f.Client && g[0].State == f.State && g[0].Trap == f.Trap && g[0].File == f.File && g[0].Line == f.Line && g[0].Fix == f.Fix
		})
		if at < 0 {
			groups = append(groups, []doctor.Finding{f})
			continue
		}
		groups[at] = append(groups[at], f)
	}
	return groups
}

// placeOf is where a finding is, as editors understand it.
func placeOf(root string, f doctor.Finding) string {
	switch {
	case f.File == "":
		return "DNS"
	case f.Line == 0:
		return filepath.Join(root, f.File)
	}
	return fmt.Sprintf("%s:%d", filepath.Join(root, f.File), f.Line)
}
