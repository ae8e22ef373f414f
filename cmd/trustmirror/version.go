package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version and commit are set by the linker where the build can't know them (-X
// main.version=v1.2.3); empty, they are what the build itself knows.
var version, commit string //nolint:gochecknoglobals // the linker sets nothing else

// buildVersion says which trustmirror this is.
type buildVersion struct {
	Version  string `json:"version"`          // "v1.2.3", or "devel"
	Commit   string `json:"commit,omitempty"` // of the source
	Modified bool   `json:"modified"`         // the source had changes that aren't committed
	Time     string `json:"time,omitempty"`   // of the commit, RFC 3339
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newBuildVersion() buildVersion {
	v := buildVersion{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = cmp.Or(v.Commit, s.Value)
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	if m := info.Main.Version; v.Version == "" && m != "(devel)" {
		v.Version = m
	}
	if v.Version == "" {
		v.Version = "devel"
	}
	return v
}

func (v buildVersion) write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "trustmirror %s, %s, %s\n", v.Version, v.Go, v.Platform)
	if err != nil || v.Commit == "" {
		return err
	}
	modified := ""
	if v.Modified {
		modified = ", with changes"
	}
	_, err = fmt.Fprintf(w, "commit %s%s\n", v.Commit, modified)
	return err
}

func newVersionCommand() *cobra.Command {
	var format outputFormat
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Say which trustmirror this is",
		Example: `  trustmirror version -o json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format == outputJSON {
				return writeJSON(cmd.OutOrStdout(), newBuildVersion())
			}
			return newBuildVersion().write(cmd.OutOrStdout())
		},
	}
	outputFlag(cmd, &format)
	return cmd
}

// writeJSON writes a value for people and programs.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
