package main

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trustmirror/trustmirror/verify/warm"
)

// Warm says what of an image is fetched and verified before anybody asks for it.
type Warm struct {
	// Tags are patterns for signed tags: a whole tag, in which "*" stands for any part
	// of it. Required.
	Tags []string
	// Platforms are those that are taken from an index. Default: none, all that it
	// lists.
	Platforms []warm.Platform
}

func (d *decoder) warm(path string, n *yaml.Node) *Warm {
	to := &Warm{}
	seen := d.mapping(path, n, fields{
		"tags":      list(d, &to.Tags, parseTagPattern),
		"platforms": list(d, &to.Platforms, warm.ParsePlatform),
	})
	d.require(path, seen, "tags", `tags: ["1.*"], which of the signed tags are to be fetched ahead`)
	return to
}

// tagPattern is a tag (OCI distribution specification, "Pulling manifests") with
// any number of "*".
var tagPattern = regexp.MustCompile(`^[a-zA-Z0-9_*][a-zA-Z0-9._*-]{0,127}$`)

// parseTagPattern reads a pattern for tags, which always stands for whole tags.
func parseTagPattern(s string) (string, error) {
	switch {
	case strings.ContainsAny(s, `^$\()[]{}?+|/`):
		return "", fmt.Errorf("%q is no pattern for tags; write a whole tag, with a * for any part of it, as in \"0.1.*\" (it is anchored at both ends, and no regular expression)", s)
	case strings.Contains(s, "**"):
		return "", fmt.Errorf("%q has one * after another; one stands for any part of a tag already", s)
	case !tagPattern.MatchString(s):
		return "", fmt.Errorf("%q can't match a tag; write a whole tag, with a * for any part of it, as in \"0.1.*\"", s)
	}
	return s, nil
}

// warmOfImage checks what depends on the image's other fields.
func (d *decoder) warmOfImage(at string, image *Image) {
	if image.Warm == nil {
		return
	}
	if strings.Contains(image.Signed, "*") {
		d.blame(at+".warm", "nobody knows which repositories %s stands for; write a rule with its own warm for each repository that is to be warm", image.Signed)
		return
	}
	if image.Digests == nil || len(image.Digests.Tags) == 0 {
		return
	}
	for i, pattern := range image.Warm.Tags {
		found := false
		for tag := range image.Digests.Tags {
			ok, err := path.Match(pattern, tag)
			found = found || ok && err == nil
		}
		if !found {
			d.blame(fmt.Sprintf("%s.warm.tags[%d]", at, i), "%q matches none of the tags whose digests are pinned: %s; write one of these, or pin its digest",
				pattern, strings.Join(sortedKeys(image.Digests.Tags), ", "))
		}
	}
}
