package main

import (
	"cmp"
	"fmt"
	"time"

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
				fmt.Fprintln(cmd.OutOrStdout(), image.trustText())
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

// trustText says who vouches for an image.
func (i Image) trustText() string {
	switch {
	case i.Archive != nil:
		return fmt.Sprintf("%s: signed in the archive %s, as of %s, by %s", i.Signed, i.Archive.File,
			i.Archive.content.Moment().Format(time.RFC3339), i.Archive.text())
	case i.Digests != nil:
		return fmt.Sprintf("%s: %d tags with digests pinned in %s", i.Signed, len(i.Digests.Tags), cmp.Or(i.Digests.File, "the configuration"))
	}
	return fmt.Sprintf("%s: signed at %s by %s", i.Signed, i.Notary.URL, i.Notary.text())
}
