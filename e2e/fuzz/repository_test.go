package fuzz

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

const gun = "docker.io/nicolas/webdis"

// publisher holds a good repository and the keys that sign it, so that any role's
// file can be made wrong and still be signed and vouched for.
type publisher struct {
	pins  notary.Pins
	roles []string // those that publish a file
	keys  map[string][]*notarytest.Key
	files notarytest.Files // by role
	names []string         // of keys, and what stands for them in seeds, by turns
}

func newPublisher(f *testing.F) *publisher {
	f.Helper()
	repo := notarytest.New(f, gun)
	now := time.Now()
	repo.Root.Keys = []*notarytest.Key{notarytest.NewKey(f, "ecdsa").Certified(f, notarytest.Certificate{
		CommonName: gun, NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(10, 0, 0),
	})}
	repo.Targets.Keys = append(repo.Targets.Keys, notarytest.NewKey(f, "ecdsa-384"))
	repo.Sign("0.1.19", digest.FromString("a"), 772)
	repo.Sign("0.1.20", digest.FromString("b"), 1<<40)
	repo.Delegate("releases", notarytest.NewKey(f, "ed25519")).Sign("0.1.19", digest.FromString("a"), 772)
	repo.Delegate("alice", notarytest.NewKey(f, "ed25519"), notarytest.NewKey(f, "rsa")).Sign("0.2", digest.FromString("c"), 1)
	repo.Delegate("bob", repo.Root.Keys[0]) // has published nothing
	for _, role := range []*notarytest.Role{&repo.Root, &repo.Timestamp, &repo.Snapshot, &repo.Targets, &repo.Delegations[0].Role, &repo.Delegations[1].Role} {
		role.Expires = now.AddDate(3, 0, 0).UTC().Truncate(time.Second)
	}
	repo.Publish()
	p := &publisher{pins: repo.Pins(), files: repo.Service().Files(gun), keys: map[string][]*notarytest.Key{
		"root": repo.Root.Keys, "timestamp": repo.Timestamp.Keys, "snapshot": repo.Snapshot.Keys, "targets": repo.Targets.Keys,
	}}
	for _, d := range repo.Delegations {
		p.keys[d.Name] = d.Keys
	}
	p.roles = []string{"root", "timestamp", "snapshot", "targets", "targets/releases", "targets/alice"}
	for _, role := range slices.Sorted(maps.Keys(p.keys)) {
		for i, k := range p.keys[role] {
			p.names = append(p.names, k.ID, fmt.Sprintf("ID of %s %d", role, i),
				base64.StdEncoding.EncodeToString(k.Public), fmt.Sprintf("key of %s %d", role, i))
		}
	}
	return p
}

// seed is the signed part of a role's file with names instead of keys, since
// these are other ones in each process.
func (p *publisher) seed(role string) []byte {
	return []byte(strings.NewReplacer(p.names...).Replace(string(signedPart(p.files[role]))))
}

// unseed puts the keys in where a seed names them, and makes a snapshot or a
// timestamp describe files as they are here.
func (p *publisher) unseed(role string, signed []byte) []byte {
	names := slices.Clone(p.names)
	for i := 0; i < len(names); i += 2 {
		names[i], names[i+1] = names[i+1], names[i]
	}
	signed = []byte(strings.NewReplacer(names...).Replace(string(signed)))
	doc, err := parse(signed)
	if err != nil || role != "snapshot" && role != "timestamp" {
		return signed
	}
	for i, name := range doc.names {
		for j, file := range doc.parts[i].names {
			raw, ok := p.files[strings.Trim(file, `"`)]
			if name != `"meta"` || !ok {
				continue
			}
			if text, err := json.Marshal(notarytest.Describe(raw)); err == nil {
				doc.parts[i].parts[j], _ = parse(text) // it was just written
			}
		}
	}
	return doc.bytes()
}

func signedPart(file []byte) json.RawMessage {
	var wire struct {
		Signed json.RawMessage `json:"signed"`
	}
	_ = json.Unmarshal(file, &wire) // none is what isn't there
	return wire.Signed
}

// file makes a file of a signed part that is written in any way, with signatures
// by all of the role's keys that are changed as edit does afterwards. It returns
// nil for what can't be signed.
func (p *publisher) file(t *testing.T, role string, signed []byte, changes uint64) []byte {
	t.Helper()
	form, err := notary.Canonical(signed)
	if err != nil {
		return nil
	}
	var signatures []any
	for _, k := range p.keys[role] {
		sig, err := k.Sign(form)
		if err != nil {
			t.Fatal(err)
		}
		signatures = append(signatures, map[string]any{"keyid": k.ID, "method": k.Method, "sig": sig})
	}
	list, err := json.Marshal(signatures)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"signed":%s,"signatures":%s}`, signed, edit(list, changes))
}

// publish returns the files of a repository of which one is another, vouched for
// by snapshot and timestamp.
func (p *publisher) publish(t *testing.T, role string, raw []byte) notarytest.Files {
	t.Helper()
	files := notarytest.Files{}
	for _, r := range p.roles {
		files[r] = p.files[r]
	}
	files[role] = raw
	if role != "snapshot" && role != "timestamp" {
		p.describe(t, files, "snapshot", role)
	}
	if role != "timestamp" {
		p.describe(t, files, "timestamp", "snapshot")
	}
	for _, r := range p.roles {
		files[fmt.Sprintf("%s.%x", r, sha256.Sum256(files[r]))] = files[r]
	}
	return files
}

// describe makes a snapshot or a timestamp say what a role's file is now.
func (p *publisher) describe(t *testing.T, files notarytest.Files, in, role string) {
	t.Helper()
	var signed map[string]any
	if err := json.Unmarshal(signedPart(files[in]), &signed); err != nil {
		t.Fatal(err)
	}
	signed["meta"].(map[string]any)[role] = notarytest.Describe(files[role])
	text, err := json.Marshal(signed)
	if err != nil {
		t.Fatal(err)
	}
	files[in] = p.file(t, in, text, 0)
}
