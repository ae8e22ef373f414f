package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/trustmirror/trustmirror/verify/notary"
)

// What Docker's client prints of a signed repository: the JSON's fields, in its
// order.
type dockerTrust struct {
	Name               string
	SignedTags         []dockerTag
	Signers            []dockerSigner
	AdministrativeKeys []dockerSigner
}

type dockerTag struct {
	SignedTag string
	Digest    string // hexadecimal
	Signers   []string
}

type dockerSigner struct {
	Name string      `json:",omitempty"`
	Keys []dockerKey `json:",omitempty"`
}

type dockerKey struct {
	ID string `json:",omitempty"`
}

// repoAdmin is what Docker calls whoever signs with the repository's own key.
const repoAdmin = "Repo Admin"

const releasesRole = "targets/releases"

// published lists targets and the delegations that have files, parents first, as
// far as a tag is within their paths; an empty tag is everywhere.
func published(m *notary.Metadata, tag string) []*notary.TargetsRole {
	var roles []*notary.TargetsRole
	for queue := []*notary.TargetsRole{&m.Targets}; len(queue) > 0; queue = queue[1:] {
		r := queue[0]
		if !r.Published || tag != "" && !r.Covers(tag) {
			continue
		}
		roles = append(roles, r)
		for i := range r.Delegations {
			queue = append(queue, &r.Delegations[i])
		}
	}
	return roles
}

// dockerTags lists what is signed for a tag, or for all if tag is empty. Docker
// shows what targets or targets/releases have, and who else signed just that.
func dockerTags(m *notary.Metadata, tag string) []dockerTag {
	rows := []dockerTag{}
	find := func(t notary.SignedTarget) *dockerTag {
		for i := range rows {
			if rows[i].SignedTag == t.Name && rows[i].Digest == t.Digest.Encoded() {
				return &rows[i]
			}
		}
		return nil
	}
	roles := published(m, tag)
	each := func(released bool, f func(signer string, t notary.SignedTarget)) {
		for _, r := range roles {
			if (r.Name == "targets" || r.Name == releasesRole) != released {
				continue
			}
			for _, t := range r.Targets {
				if tag == "" || t.Name == tag {
					f(strings.TrimPrefix(r.Name, "targets/"), t)
				}
			}
		}
	}
	each(true, func(_ string, t notary.SignedTarget) {
		if find(t) == nil {
			rows = append(rows, dockerTag{SignedTag: t.Name, Digest: t.Digest.Encoded()})
		}
	})
	each(false, func(signer string, t notary.SignedTarget) {
		if row := find(t); row != nil {
			row.Signers = append(row.Signers, signer)
		}
	})
	slices.SortStableFunc(rows, func(a, b dockerTag) int { return compareNatural(a.SignedTag, b.SignedTag) })
	return rows
}

// dockerSigners lists the delegations but targets/releases, with the IDs of their
// public keys.
func dockerSigners(m *notary.Metadata) []dockerSigner {
	signers := []dockerSigner{}
	for _, r := range published(m, "") {
		for _, d := range r.Delegations {
			if d.Name == releasesRole {
				continue
			}
			s := dockerSigner{Name: strings.TrimPrefix(d.Name, "targets/")}
			for _, k := range d.Keys {
				s.Keys = append(s.Keys, dockerKey{ID: k.PublicKeyID})
			}
			signers = append(signers, s)
		}
	}
	return signers
}

func administrativeKeys(name string, r notary.Role) dockerSigner {
	s := dockerSigner{Name: name}
	for _, k := range r.Keys {
		s.Keys = append(s.Keys, dockerKey{ID: k.ID})
	}
	return s
}

// dockerJSON is one element of what `docker trust inspect` prints, not indented.
func dockerJSON(name, tag string, m *notary.Metadata) ([]byte, error) {
	t := dockerTrust{
		Name:       name,
		SignedTags: dockerTags(m, tag),
		Signers:    dockerSigners(m),
		AdministrativeKeys: []dockerSigner{
			administrativeKeys("Root", m.Root),
			administrativeKeys("Repository", m.Targets.Role),
		},
	}
	for i := range t.SignedTags {
		if len(t.SignedTags[i].Signers) == 0 {
			t.SignedTags[i].Signers = []string{repoAdmin}
		}
	}
	slices.SortFunc(t.Signers, func(a, b dockerSigner) int { return cmp.Compare(b.Name, a.Name) })
	return json.Marshal(t)
}

// writeDockerList writes elements as `docker trust inspect` does.
func writeDockerList(w io.Writer, elements [][]byte) error {
	var out bytes.Buffer
	list := slices.Concat([]byte("["), bytes.Join(elements, []byte(",")), []byte("]"))
	if err := json.Indent(&out, list, "", "    "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := out.WriteTo(w)
	return err
}

// writeDockerPretty writes what `docker trust inspect --pretty` prints.
func writeDockerPretty(w io.Writer, name, tag string, m *notary.Metadata) error {
	var out bytes.Buffer
	if rows := dockerTags(m, tag); len(rows) > 0 {
		fmt.Fprintf(&out, "\nSignatures for %s\n\n", name)
		table := newDockerTable(&out, "SIGNED TAG", "DIGEST", "SIGNERS")
		for _, row := range rows {
			slices.Sort(row.Signers)
			signers := strings.Join(row.Signers, ", ")
			if len(row.Signers) == 0 {
				signers = "(" + repoAdmin + ")"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\n", row.SignedTag, row.Digest, signers)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(&out, "\nNo signatures for %s\n\n", name)
	}
	if signers := dockerSigners(m); len(signers) > 0 {
		fmt.Fprintf(&out, "\nList of signers and their keys for %s\n\n", name)
		table := newDockerTable(&out, "SIGNER", "KEYS")
		slices.SortFunc(signers, func(a, b dockerSigner) int { return compareNatural(a.Name, b.Name) })
		for _, s := range signers {
			fmt.Fprintf(table, "%s\t%s\n", s.Name, joinIDs(s.Keys, 12))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintf(&out, "\nAdministrative keys for %s\n\n", name)
	fmt.Fprintf(&out, "  Repository Key:\t%s\n", joinIDs(administrativeKeys("", m.Targets.Role).Keys, 64))
	fmt.Fprintf(&out, "  Root Key:\t%s\n", joinIDs(administrativeKeys("", m.Root).Keys, 64))
	_, err := out.WriteTo(w)
	return err
}

// newDockerTable begins a table such as Docker's client draws.
func newDockerTable(w io.Writer, headers ...string) *tabwriter.Writer {
	table := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	fmt.Fprintln(table, strings.Join(headers, "\t"))
	return table
}

// joinIDs lists key IDs in order, each cut to a length.
func joinIDs(keys []dockerKey, length int) string {
	var ids []string
	for _, k := range keys {
		ids = append(ids, k.ID)
	}
	slices.Sort(ids)
	for i := range ids {
		ids[i] = ids[i][:min(length, len(ids[i]))]
	}
	return strings.Join(ids, ", ")
}
