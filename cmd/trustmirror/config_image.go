package main

import (
	"go.yaml.in/yaml/v4"

	"github.com/trustmirror/trustmirror/verify"
)

func (d *decoder) image(path string, n *yaml.Node) Image {
	image := Image{Grace: verify.DefaultGrace}
	seen := d.mapping(path, n, fields{
		"signed":     scalar(d, &image.Signed, parseName),
		"copies":     list(d, &image.Copies, parseName),
		"trust":      func(path string, n *yaml.Node) { d.trust(path, n, &image) },
		"role_order": list(d, &image.RoleOrder, parseRole),
		"grace":      scalar(d, &image.Grace, parseGrace),
		"release":    scalar(d, &image.Streaming, parseRelease),
		"warm":       func(path string, n *yaml.Node) { image.Warm = d.warm(path, n) },
	})
	d.require(path, seen, "signed", "signed: REGISTRY/REPOSITORY, where the publisher signs")
	d.require(path, seen, "trust", "trust: {notary: {url: …, root_keys: […], repository_keys: […]}}, or nobody vouches for the image")
	d.trustOfImage(path, &image)
	d.warmOfImage(path, &image)
	return image
}
