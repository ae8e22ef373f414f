package main

import (
	"fmt"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trustmirror/trustmirror/verify"
)

func newTrustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Archive signed metadata, show what is trusted, forget what was seen",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTrustExportCommand(), newTrustShowCommand(), newTrustResetCommand())
	return cmd
}

// signedImage finds the rule of a signed repository that is given by name; a tag
// doesn't matter. What the rule says of a pattern it says of the repository.
func (c *Config) signedImage(name string) (Image, error) {
	ref, err := verify.ParseRef(name)
	if err != nil {
		return Image{}, fmt.Errorf("%s is no name of an image: %w", name, err)
	}
	for _, exact := range []bool{true, false} { // the most specific rule wins
		for _, image := range c.Images {
			if ok, err := path.Match(image.Signed, ref.Name()); err == nil && ok && exact == (image.Signed == ref.Name()) {
				image.Signed = ref.Name()
				return image, nil
			}
			for _, copied := range image.Copies {
				if ok, err := path.Match(copied, ref.Name()); err == nil && ok && exact == (copied == ref.Name()) {
					return Image{}, fmt.Errorf("%s is a copy, which nobody signs; name the signed repository, %s", name, image.Signed)
				}
			}
		}
	}
	return Image{}, fmt.Errorf("the configuration has no image %s; it has %s", name, strings.Join(c.signedNames(), ", "))
}

func (c *Config) signedNames() []string {
	var names []string
	for _, image := range c.Images {
		names = append(names, image.Signed)
	}
	return names
}
