package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check a configuration",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with a configuration file",
		Long: `Check reads a configuration file as serve does, and the files that it names, and
says what is wrong on which line and what to write instead. It asks nobody and
changes nothing. Exit status 2 if there is a mistake.`,
		Example: `  trustmirror config check config.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := readConfig(args[0])
			if err != nil {
				return err
			}
			for _, image := range c.Images {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: signed at %s by %s\n", image.Signed, image.Notary.URL, image.Notary.pins())
				for _, name := range image.Copies {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: a copy of %s\n", name, image.Signed)
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is right\n", args[0])
			return nil
		},
	})
	return cmd
}
