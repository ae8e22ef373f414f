// Command trustmirror is a read-only pull-through registry mirror that serves an
// image only after verifying it against what its publisher signed.
//
// The files: main.go, one for each subcommand, config*.go for the configuration,
// build.go which puts the parts together, current.go, reload.go and watch.go for
// bringing another configuration into force, chain*.go for the chain of trust that
// verify draws, docker*.go for what inspect prints, sources*.go for trust sources,
// expiry.go for telling when they expire.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// The exit statuses.
const (
	statusOK      = 0
	statusRefused = 1 // verify, inspect: refused; serve: it failed while it ran
	statusUnclear = 2 // verify, inspect: could not tell; all: wrong usage or configuration
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run runs one command and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return statusOK
	}
	status := statusUnclear
	var s *statusError
	if errors.As(err, &s) {
		status, err = s.status, s.err
	}
	var m *mistake
	switch {
	case err == nil: // the command has said everything already
	case errors.As(err, &m):
		fmt.Fprintln(stderr, err) // FILE:LINE: …, as editors and other tools expect it
	default:
		fmt.Fprintln(stderr, "trustmirror:", err)
	}
	return status
}

// statusError ends the program with a status; err is printed unless it is nil.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return fmt.Sprintf("exit status %d: %v", e.status, e.err) }

func (e *statusError) Unwrap() error { return e.err }

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "trustmirror",
		Short: "A registry mirror that serves only what its publisher signed",
		Long: `trustmirror is a read-only pull-through registry mirror for Docker, containerd
and every other client. It serves an image only after verifying it against what
its publisher signed: with Docker Content Trust (Notary v1) on the signed
repository, and by comparing configs and layers on unsigned copies elsewhere.`,
		Example: `  trustmirror config check config.yaml
  trustmirror serve -c config.yaml
  trustmirror verify -c config.yaml nicolas/webdis:0.1.19`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServeCommand(), newHealthcheckCommand(), newPauseCommand(), newVerifyCommand(), newInspectCommand(), newTrustCommand(), newCacheCommand(), newConfigCommand(), newClientCommand(), newDoctorCommand(), newCACommand(), newVersionCommand())
	return root
}

// configFlag adds -c, which has to be given: what is trusted is never a default.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "", "configuration file, like config.example.yaml (required)")
	if err := cmd.MarkFlagRequired("config"); err != nil {
		cmd.PreRunE = func(*cobra.Command, []string) error { return err }
	}
}

// outputFlag adds -o.
func outputFlag(cmd *cobra.Command, format *outputFormat) {
	*format = outputText
	cmd.Flags().VarP(format, "output", "o", "text or json")
}

// outputFormat is how a command writes what it found.
type outputFormat string

const (
	outputText outputFormat = "text"
	outputJSON outputFormat = "json"
)

func (f *outputFormat) String() string { return string(*f) }

func (f *outputFormat) Type() string { return "format" }

func (f *outputFormat) Set(s string) error {
	switch outputFormat(s) {
	case outputText, outputJSON:
		*f = outputFormat(s)
		return nil
	}
	return errors.New("write text or json")
}
