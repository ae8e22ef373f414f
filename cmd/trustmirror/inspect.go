package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

func newInspectCommand() *cobra.Command {
	var config string
	var pretty bool
	cmd := &cobra.Command{
		Use:   "inspect -c FILE IMAGE[:TAG]…",
		Short: "Print what `docker trust inspect` prints, from verified metadata",
		Long: `Inspect asks the trust service of each image, verifies what it answers against
the pinned keys, and prints signed tags, signers and keys exactly as Docker's
"docker trust inspect" does. Exit status 0: printed; 1: the metadata is refused;
2: it could not be told, because the trust service can't be reached, say.`,
		Example: `  trustmirror inspect -c config.yaml --pretty nicolas/webdis:0.1.19
  trustmirror inspect -c config.yaml nicolas/webdis | jq '.[].SignedTags'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			p, err := assembleOnce(ctx, config)
			if err != nil {
				return err
			}
			defer p.close()
			if pretty {
				return inspectPretty(ctx, cmd.OutOrStdout(), p, args)
			}
			return inspectJSON(ctx, cmd.OutOrStdout(), p, args)
		},
	}
	configFlag(cmd, &config)
	cmd.Flags().BoolVar(&pretty, "pretty", false, "print for people instead of programs")
	return cmd
}

// inspectJSON prints all images that can be told about, then fails if any can't.
func inspectJSON(ctx context.Context, w io.Writer, p *parts, images []string) error {
	var documents [][]byte
	var failures []error
	for _, image := range images {
		m, tag, err := p.metadata(ctx, image)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		document, err := dockerJSON(image, tag, m)
		if err != nil {
			return err
		}
		documents = append(documents, document)
	}
	if err := writeDockerList(w, documents); err != nil {
		return err
	}
	return inspectFailure(failures...)
}

// inspectPretty prints image after image until one can't be told about.
func inspectPretty(ctx context.Context, w io.Writer, p *parts, images []string) error {
	for i, image := range images {
		m, tag, err := p.metadata(ctx, image)
		if err != nil {
			return inspectFailure(err)
		}
		if i > 0 {
			fmt.Fprint(w, "\n\n")
		}
		if err := writeDockerPretty(w, image, tag, m); err != nil {
			return err
		}
	}
	return nil
}

// inspectFailure gives errors the exit status of the gravest.
func inspectFailure(failures ...error) error {
	if len(failures) == 0 {
		return nil
	}
	worst := verified
	for _, err := range failures {
		worst = worst.worse(outcomeOf(err).Verdict)
	}
	return &statusError{status: worst.status(), err: errors.Join(failures...)}
}

// metadata gets the verified metadata of an image's signed repository, and the
// tag that is asked for, if any. Errors are a trust source's, told in Docker's words.
func (p *parts) metadata(ctx context.Context, name string) (*notary.Metadata, string, error) {
	ref, err := verify.ParseRef(name)
	if err != nil {
		return nil, "", fmt.Errorf("%s is no name of an image: %w", name, err)
	}
	image, err := p.policy.Image(ref)
	if err != nil {
		return nil, "", inaccessible(name, err)
	}
	if signed := image.Signed.Name(); ref.Name() != signed {
		return nil, "", fmt.Errorf("%s is a copy, which nobody signs; inspect the signed repository, %s", name, signed)
	}
	src, ok := image.Source.(documented)
	if !ok {
		return nil, "", fmt.Errorf("%s: its digests are pinned in the configuration, so there are no signatures to inspect; see `trustmirror trust show`", name)
	}
	m, err := src.Metadata(ctx)
	if err != nil {
		return nil, "", inaccessible(name, err)
	}
	tag := ref.Tag
	if ref.Digest != "" { // as Docker does: all tags
		tag = ""
	}
	return m, tag, nil
}

func inaccessible(name string, err error) error {
	return fmt.Errorf("no signatures or cannot access %s: %w", name, err)
}
