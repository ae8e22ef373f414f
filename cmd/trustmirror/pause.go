package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// newPauseCommand does nothing at all: a container has to run something while
// doctor is run in it as a probe, and the image has no shell that could sleep.
func newPauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "pause",
		Short:  "Do nothing until told to end",
		Long:   "Pause does nothing until SIGTERM or SIGINT, and then ends with status 0.",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			told := make(chan os.Signal, 1)
			signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
			defer signal.Stop(told)
			select {
			case <-told:
			case <-cmd.Context().Done():
			}
			return nil
		},
	}
}
