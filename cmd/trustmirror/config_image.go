package main

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trustmirror/trustmirror/verify"
)

func (d *decoder) image(path string, n *yaml.Node) Image {
	image := Image{Grace: verify.DefaultGrace, Notary: Notary{Refresh: defaultRefresh}}
	seen := d.mapping(path, n, fields{
		"signed":     scalar(d, &image.Signed, parseName),
		"copies":     list(d, &image.Copies, parseName),
		"trust":      func(path string, n *yaml.Node) { d.trust(path, n, &image) },
		"role_order": list(d, &image.RoleOrder, parseRole),
		"grace":      scalar(d, &image.Grace, parseDuration),
		"release":    scalar(d, new(string), parseRelease),
	})
	d.require(path, seen, "signed", "signed: REGISTRY/REPOSITORY, where the publisher signs")
	d.require(path, seen, "trust", "trust: {notary: {url: …, root_keys: […], repository_keys: […]}}, or nobody vouches for the image")
	for i, role := range image.RoleOrder {
		name := strings.TrimPrefix(role, "targets/")
		if _, ok := image.Notary.Signers[name]; !ok && role != "targets" && role != "targets/releases" {
			d.blame(fmt.Sprintf("%s.role_order[%d]", path, i), "%s is not among the signers; name the signer with its keys there, or remove the role", name)
		}
	}
	if image.Notary.GUN != "" && strings.Contains(image.Signed, "*") {
		d.blame(path+".trust.notary.gun", "one gun can't be that of every repository of %s; remove it, and each repository's own name is taken", image.Signed)
	}
	return image
}

// trust reads the one trust source of an image.
func (d *decoder) trust(path string, n *yaml.Node, image *Image) {
	later := func(string, *yaml.Node) {}
	sources := d.mapping(path, n, fields{
		"notary":  func(path string, n *yaml.Node) { d.notary(path, n, &image.Notary) },
		"archive": later,
		"digests": later,
	})
	switch {
	case sources == nil:
	case len(sources) == 0:
		d.wrong(n, "%s names no trust source; add notary: {url: …, root_keys: […], repository_keys: […]}", path)
	case len(sources) > 1:
		d.blame(path+"."+sources[1], "there is a trust source already, %s; keep exactly one", sources[0])
	case sources[0] != "notary":
		d.blame(path+"."+sources[0], "this version doesn't support this trust source yet; write notary: {url: …}")
	}
}

func (d *decoder) notary(path string, n *yaml.Node, to *Notary) {
	seen := d.mapping(path, n, fields{
		"url":             scalar(d, &to.URL, parseURL),
		"gun":             scalar(d, &to.GUN, parseText),
		"ca":              scalar(d, &to.CA, parseCAFile),
		"root_keys":       list(d, &to.RootKeys, parseKeyID),
		"repository_keys": list(d, &to.RepositoryKeys, parseKeyID),
		"signers":         func(path string, n *yaml.Node) { to.Signers = d.signers(path, n) },
		"refresh":         scalar(d, &to.Refresh, parseInterval),
		"token_realm":     scalar(d, &to.TokenRealm, parseRealm),
		"credentials":     d.credentials(&to.Credentials),
	})
	d.require(path, seen, "url", "url: https://notary.docker.io, or where the repository's trust service is")
	d.require(path, seen, "root_keys", "root_keys: [ID], with the root key that `docker trust inspect` prints and the publisher confirms")
	d.require(path, seen, "repository_keys", "repository_keys: [ID], with the repository key that `docker trust inspect` prints and the publisher confirms")
	d.secrecy(path, to.URL, to.Credentials)
	d.realm(path, to.URL, to.TokenRealm)
}

// signers reads who may sign besides the repository's own keys.
func (d *decoder) signers(path string, n *yaml.Node) map[string][]string {
	signers := make(map[string][]string)
	d.entries(path, n, func(name string, key, value *yaml.Node) {
		if err := checkSigner(name); err != nil {
			d.wrong(key, "%s: %v", path, err)
			return
		}
		path := join(path, name)
		if value.Kind == yaml.ScalarNode && value.Tag == "!!null" || value.Kind == yaml.SequenceNode && len(value.Content) == 0 {
			d.wrong(value, "%s has no keys; list the IDs of the signer's keys, or remove the signer", path)
			return
		}
		var ids []string
		list(d, &ids, parseKeyID)(path, value)
		signers[name] = ids
	})
	return signers
}
