package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/verify/notary"
)

func newTrustResetCommand() *cobra.Command {
	var config string
	var yes bool
	cmd := &cobra.Command{
		Use:   "reset -c FILE IMAGE",
		Short: "Forget which signed metadata of an image were seen, so that older ones are accepted",
		Long: `Reset forgets which versions of an image's signed metadata were accepted. It is
for going back to an older archive on purpose, or to a trust service that was set
up anew. After it, older metadata are accepted again if pinned keys signed them:
whoever controls the trust service, or hands you an archive, can bring back what
the publisher has revoked or replaced since. Images that are stored stay stored.

End serve first, and start it again after it: a mirror that runs goes on with
what it remembers.`,
		Example: `  trustmirror trust reset -c config.yaml nicolas/webdis`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return resetTrust(ctx, config, args[0], yes, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &config)
	cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	return cmd
}

func resetTrust(ctx context.Context, config, name string, yes bool, stdin io.Reader, stdout io.Writer) error {
	c, err := readConfig(config)
	if err != nil {
		return err
	}
	image, err := c.signedImage(name)
	if err != nil {
		return err
	}
	store, err := openStorage(ctx, c)
	if err != nil {
		return err
	}
	trust, gun := store.Trust(), image.gun()
	seen, err := notary.Seen(ctx, trust, gun)
	if err != nil {
		return err
	}
	if len(seen) == 0 {
		fmt.Fprintf(stdout, "nothing of %s was accepted yet, so there is nothing to forget\n", gun)
		return nil
	}
	if !yes {
		fmt.Fprintf(stdout, `This forgets what was accepted of %s: %s.
After it, older metadata are accepted again if pinned keys signed them, with what
the publisher has revoked or replaced since. End serve first.
Write "yes" to forget it: `, gun, versionsText(seen))
		answer, err := bufio.NewReader(stdin).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if strings.TrimSpace(answer) != "yes" {
			return &statusError{status: statusRefused, err: errors.New("nothing was forgotten")}
		}
	}
	if err := trust.Delete(ctx, gun); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "what was accepted of %s is forgotten; what is accepted next counts as seen first\n", gun)
	return nil
}

// versionsText tells the version of each role.
func versionsText(versions map[string]int64) string {
	var parts []string
	for _, role := range sortedKeys(versions) {
		parts = append(parts, fmt.Sprintf("%s version %d", role, versions[role]))
	}
	return strings.Join(parts, ", ")
}
