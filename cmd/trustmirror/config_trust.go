package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v4"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
)

// trust reads the one trust source of an image.
func (d *decoder) trust(path string, n *yaml.Node, image *Image) {
	var chosen []func()
	choice := func(read reader) reader {
		return func(path string, n *yaml.Node) { chosen = append(chosen, func() { read(path, n) }) }
	}
	sources := d.mapping(path, n, fields{
		kindNotary:  choice(func(path string, n *yaml.Node) { image.Notary = d.notary(path, n) }),
		kindArchive: choice(func(path string, n *yaml.Node) { image.Archive = d.archive(path, n) }),
		kindDigests: choice(func(path string, n *yaml.Node) { image.Digests = d.digests(path, n) }),
	})
	switch {
	case sources == nil:
	case len(sources) == 0:
		d.wrong(n, "%s names no trust source; add notary: {url: …, root_keys: […], repository_keys: […]}", path)
	case len(sources) > 1:
		d.blame(path+"."+sources[1], "there is a trust source already, %s; keep exactly one", sources[0])
	default:
		chosen[0]()
	}
}

func (d *decoder) notary(path string, n *yaml.Node) *Notary {
	to := &Notary{Refresh: defaultRefresh}
	seen := d.mapping(path, n, d.route(&to.Route, d.keys(&to.Keys, fields{
		"url":         scalar(d, &to.URL, parseURL),
		"gun":         scalar(d, &to.GUN, parseText),
		"ca":          scalar(d, &to.CA, parseCAFile),
		"refresh":     scalar(d, &to.Refresh, parseInterval),
		"token_realm": scalar(d, &to.TokenRealm, parseRealm),
		"credentials": d.credentials(&to.Credentials),
	})))
	d.require(path, seen, "url", "url: https://notary.docker.io, or where the repository's trust service is")
	d.requireKeys(path, seen)
	d.secrecy(path, to.URL, to.Credentials)
	d.realm(path, to.URL, to.TokenRealm)
	return to
}

func (d *decoder) archive(path string, n *yaml.Node) *Archive {
	to := &Archive{}
	seen := d.mapping(path, n, d.keys(&to.Keys, fields{
		"file":   scalar(d, &to.File, parseText),
		"sha256": scalar(d, &to.SHA256, parseSHA256),
		"gun":    scalar(d, &to.GUN, parseText),
	}))
	d.require(path, seen, "file", "file: FILE, an archive that `trustmirror trust export` wrote")
	d.require(path, seen, "sha256", "sha256: DIGEST, which `trustmirror trust export` printed for the archive")
	d.requireKeys(path, seen)
	return to
}

// keys adds the fields that pin keys.
func (d *decoder) keys(to *Keys, others fields) fields {
	others["root_keys"] = list(d, &to.RootKeys, parseKeyID)
	others["repository_keys"] = list(d, &to.RepositoryKeys, parseKeyID)
	others["signers"] = func(path string, n *yaml.Node) { to.Signers = d.signers(path, n) }
	return others
}

func (d *decoder) requireKeys(path string, seen []string) {
	d.require(path, seen, "root_keys", "root_keys: [ID], with the root key that `docker trust inspect` prints and the publisher confirms")
	d.require(path, seen, "repository_keys", "repository_keys: [ID], with the repository key that `docker trust inspect` prints and the publisher confirms")
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

// digests reads tags with their digests, from here or from a file of their own.
func (d *decoder) digests(path string, n *yaml.Node) *Digests {
	to := &Digests{}
	if n.Kind == yaml.MappingNode && len(n.Content) == 2 && n.Content[0].Value == "file" {
		d.mapping(path, n, fields{"file": func(path string, n *yaml.Node) { d.digestsFile(path, n, to) }})
		return to
	}
	to.Tags = d.tags(path, n)
	return to
}

// digestsFile reads a file of tags; its mistakes are on its own lines.
func (d *decoder) digestsFile(path string, n *yaml.Node, to *Digests) {
	var text []byte
	file, ok := scalarOf(d, path, n, func(s string) (_ string, err error) {
		text, err = readFile(s)
		if err == nil && len(text) > maxConfig {
			err = fmt.Errorf("%s has %d bytes; a file of digests has at most %d", s, len(text), maxConfig)
		}
		return s, err
	})
	if !ok {
		return
	}
	to.File = file
	root, err := parseYAML(file, text)
	if err != nil {
		var m *mistake
		if errors.As(err, &m) {
			d.mistakes = append(d.mistakes, m)
		}
		return
	}
	own := &decoder{places: places{file: file, lines: make(map[string]int)}}
	own.plain(root)
	if len(own.mistakes) == 0 {
		to.Tags = own.tags("digests", root)
	}
	d.mistakes = append(d.mistakes, own.mistakes...)
}

func (d *decoder) tags(path string, n *yaml.Node) map[string]digest.Digest {
	tags := make(map[string]digest.Digest)
	d.entries(path, n, func(tag string, key, value *yaml.Node) {
		if _, err := verify.NewRef(verify.DockerHub, "any/repository", tag); err != nil || strings.Contains(tag, ":") {
			d.wrong(key, "%s: %q can't be a tag; write a tag, a colon and its digest, as in \"0.1.19\": sha256:…", path, tag)
			return
		}
		if pinned, ok := scalarOf(d, join(path, tag), value, parseDigest); ok {
			tags[tag] = pinned
		}
	})
	if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		d.wrong(n, "%s has no tags; write each tag with its digest, as in \"0.1.19\": sha256:…", section(path))
	}
	return tags
}

// trustOfImage checks what depends on the image's other fields.
func (d *decoder) trustOfImage(path string, image *Image) {
	signers := map[string][]string{}
	var gun string
	switch {
	case image.Notary != nil:
		signers, gun = image.Notary.Signers, image.Notary.GUN
	case image.Archive != nil:
		signers = image.Archive.Signers
	}
	for i, role := range image.RoleOrder {
		name := strings.TrimPrefix(role, "targets/")
		if _, ok := signers[name]; !ok && role != "targets" && role != "targets/releases" {
			d.blame(fmt.Sprintf("%s.role_order[%d]", path, i), "%s is not among the signers; name the signer with its keys there, or remove the role", name)
		}
	}
	pattern := strings.Contains(image.Signed, "*")
	switch {
	case pattern && gun != "":
		d.blame(path+".trust.notary.gun", "one gun can't be that of every repository of %s; remove it, and each repository's own name is taken", image.Signed)
	case pattern && image.Archive != nil:
		d.blame(path+".trust.archive", "an archive is of one repository; write a rule with its own archive for each repository of %s", image.Signed)
	case pattern && image.Digests != nil:
		d.blame(path+".trust.digests", "digests are those of one repository; write a rule with its own digests for each repository of %s", image.Signed)
	case image.Digests != nil && len(image.RoleOrder) > 0:
		d.blame(path+".role_order", "digests are pinned by hand, so there are no roles; remove role_order")
	case image.Archive != nil && len(d.mistakes) == 0: // what doesn't depend on it comes first
		d.openArchive(path+".trust.archive", image)
	}
}

// openArchive reads and verifies an archive. That needs nobody else, and nothing
// makes a wrong archive right again, so it is a mistake of the configuration. What
// was accepted before is compared later, when storage is open.
func (d *decoder) openArchive(path string, image *Image) {
	a := image.Archive
	raw, err := readArchiveFile(a.File)
	if err != nil {
		d.blame(path+".file", "%v", err)
		return
	}
	content, err := notary.ReadArchive(raw)
	if sum := sha256Hex(raw); sum != a.SHA256 {
		d.blame(path+".sha256", "%s isn't the archive that is pinned, its SHA-256 is %s; restore the file, or, if you exported it anew yourself, write that", a.File, sum)
		return
	}
	if err == nil {
		_, err = content.Verify(context.Background(), image.gun(), a.pins())
	}
	if err != nil {
		d.blame(path+".file", "%s is refused: %v", a.File, err)
		return
	}
	a.content = content
}

// gun is the name under which the image is signed; patterns have none.
func (i Image) gun() string {
	switch {
	case i.Notary != nil && i.Notary.GUN != "":
		return i.Notary.GUN
	case i.Archive != nil && i.Archive.GUN != "":
		return i.Archive.GUN
	}
	return i.Signed
}

// keys are the keys that the image's trust source is held to; nil: it has none.
func (i Image) keys() *Keys {
	switch {
	case i.Notary != nil:
		return &i.Notary.Keys
	case i.Archive != nil:
		return &i.Archive.Keys
	}
	return nil
}

func (k Keys) pins() notary.Pins {
	return notary.Pins{Root: k.RootKeys, Repository: k.RepositoryKeys, Signers: k.Signers}
}
