package notarytest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify/notary"
)

// Epoch is when repositories are signed, unless a test says otherwise.
var Epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Role is a role's keys, and how its file is made.
type Role struct {
	Name      string
	Keys      []*Key // listed
	Threshold int
	// Signers sign instead of Keys (for root: instead of Keys and those that the
	// root had before); nil means the usual ones.
	Signers []*Key
	Version int64 // of the file made last; Publish adds 1
	Expires time.Time
	// Edit changes the signed part before it is signed, EditFile the file after.
	Edit     func(signed map[string]any)
	EditFile func(raw []byte) []byte

	raw []byte // the file made last; nil: never
}

// Delegation is a delegated role. It is published once it has targets, or by name.
type Delegation struct {
	Role
	Paths    []string
	Targets  map[string]any // as listed, by tag
	Children []*Delegation  // listed in its file, never published themselves
}

// Repository is a signed repository.
type Repository struct {
	GUN                                string
	Root, Timestamp, Snapshot, Targets Role
	Signed                             map[string]any // targets of the role targets, as listed, by tag
	Delegations                        []*Delegation
	ExtraKeys                          []*Key // listed in root without a role
	ExtraDelegationKeys                []*Key // listed in targets without a role

	tb       testing.TB
	service  *Service
	lastRoot []*Key // the root keys of the root made last
}

// New makes a repository with a key of type ecdsa for each role, thresholds of
// 1 and the expiries that Notary gives. Nothing is published.
func New(tb testing.TB, gun string) *Repository {
	tb.Helper()
	role := func(name string, key *Key, days int) Role {
		return Role{Name: name, Keys: []*Key{key}, Threshold: 1, Expires: Epoch.AddDate(0, 0, days)}
	}
	return &Repository{
		GUN:       gun,
		Root:      role("root", RootKey(tb, gun), 3650),
		Timestamp: role("timestamp", NewKey(tb, "ecdsa"), 14),
		Snapshot:  role("snapshot", NewKey(tb, "ecdsa"), 1095),
		Targets:   role("targets", NewKey(tb, "ecdsa"), 1095),
		Signed:    make(map[string]any),
		tb:        tb,
		service:   NewService(),
	}
}

// RootKey makes a key in a certificate such as Notary makes for a GUN.
func RootKey(tb testing.TB, gun string) *Key {
	tb.Helper()
	return NewKey(tb, "ecdsa").Certified(tb, Certificate{
		CommonName: gun, NotBefore: Epoch.AddDate(0, 0, -1), NotAfter: Epoch.AddDate(10, 0, 0),
	})
}

// Service is where the repository is published.
func (r *Repository) Service() *Service { return r.service }

// Target is how a target is listed.
func Target(d digest.Digest, size int64) map[string]any {
	raw, err := hex.DecodeString(d.Encoded())
	if err != nil {
		panic(err) // a digest that a test wrote wrongly
	}
	return map[string]any{"length": size, "hashes": map[string]any{"sha256": base64.StdEncoding.EncodeToString(raw)}}
}

// Sign lists a tag in the role targets.
func (r *Repository) Sign(tag string, d digest.Digest, size int64) { r.Signed[tag] = Target(d, size) }

// Sign lists a tag in the delegation.
func (d *Delegation) Sign(tag string, content digest.Digest, size int64) {
	d.Targets[tag] = Target(content, size)
}

// Delegate adds the delegation targets/<name> for all tags, with a key of type
// ecdsa unless others are given.
func (r *Repository) Delegate(name string, keys ...*Key) *Delegation {
	r.tb.Helper()
	d := newDelegation(r.tb, "targets/"+name, keys)
	r.Delegations = append(r.Delegations, d)
	return d
}

// Delegate adds a delegation below d.
func (d *Delegation) Delegate(tb testing.TB, name string, keys ...*Key) *Delegation {
	tb.Helper()
	child := newDelegation(tb, d.Name+"/"+name, keys)
	d.Children = append(d.Children, child)
	return child
}

func newDelegation(tb testing.TB, name string, keys []*Key) *Delegation {
	tb.Helper()
	if len(keys) == 0 {
		keys = []*Key{NewKey(tb, "ecdsa")}
	}
	return &Delegation{
		Role:    Role{Name: name, Keys: keys, Threshold: 1, Expires: Epoch.AddDate(3, 0, 0)},
		Paths:   []string{""},
		Targets: make(map[string]any),
	}
}

// Pins are the keys that the repository lists now.
func (r *Repository) Pins() notary.Pins {
	pins := notary.Pins{Root: ids(r.Root.Keys), Repository: ids(r.Targets.Keys), Signers: make(map[string][]string)}
	for _, d := range r.Delegations {
		name := strings.TrimPrefix(d.Name, "targets/")
		pins.Signers[name] = ids(d.Keys)
		for _, child := range d.Children {
			pins.Signers[name] = append(pins.Signers[name], ids(child.Keys)...)
		}
	}
	return pins
}

func ids(keys []*Key) []string {
	var all []string
	for _, k := range keys {
		all = append(all, k.ID)
	}
	return all
}

// Publish makes the files of the roles named and of those never made that have
// something to say, and after them a snapshot and a timestamp, and puts them on
// the service. Versions rise by one.
func (r *Repository) Publish(roles ...string) {
	r.tb.Helper()
	due := func(role *Role) bool { return role.raw == nil || slices.Contains(roles, role.Name) }
	if due(&r.Root) {
		r.makeRoot()
	}
	if due(&r.Targets) {
		r.makeFile(&r.Targets, "Targets", map[string]any{
			"targets": r.Signed, "delegations": listDelegations(r.Delegations, r.ExtraDelegationKeys),
		})
	}
	for _, d := range r.Delegations {
		if slices.Contains(roles, d.Name) || d.raw == nil && len(d.Targets) > 0 {
			r.makeFile(&d.Role, "Targets", map[string]any{"targets": d.Targets, "delegations": listDelegations(d.Children, nil)})
		}
	}
	meta := map[string]any{"root": Describe(r.Root.raw), "targets": Describe(r.Targets.raw)}
	for _, d := range r.Delegations {
		if d.raw != nil {
			meta[d.Name] = Describe(d.raw)
		}
	}
	r.makeFile(&r.Snapshot, "Snapshot", map[string]any{"meta": meta})
	r.makeFile(&r.Timestamp, "Timestamp", map[string]any{"meta": map[string]any{"snapshot": Describe(r.Snapshot.raw)}})
}

// PublishTimestamp makes a new timestamp for the snapshot that is there.
func (r *Repository) PublishTimestamp() {
	r.tb.Helper()
	r.makeFile(&r.Timestamp, "Timestamp", map[string]any{"meta": map[string]any{"snapshot": Describe(r.Snapshot.raw)}})
}

func (r *Repository) makeRoot() {
	r.tb.Helper()
	keys := make(map[string]any)
	roles := make(map[string]any)
	for _, role := range []*Role{&r.Root, &r.Timestamp, &r.Snapshot, &r.Targets} {
		for _, k := range role.Keys {
			keys[k.ID] = k.Listed()
		}
		roles[role.Name] = map[string]any{"keyids": ids(role.Keys), "threshold": role.Threshold}
	}
	for _, k := range r.ExtraKeys {
		keys[k.ID] = k.Listed()
	}
	root := r.Root
	if root.Signers == nil {
		root.Signers = slices.Clone(root.Keys)
		for _, k := range r.lastRoot {
			if !slices.Contains(root.Signers, k) {
				root.Signers = append(root.Signers, k)
			}
		}
	}
	r.makeFile(&root, "Root", map[string]any{"keys": keys, "roles": roles, "consistent_snapshot": false})
	r.Root.Version, r.Root.raw, r.lastRoot = root.Version, root.raw, root.Keys
}

// makeFile signs a role's next version and puts it on the service.
func (r *Repository) makeFile(role *Role, fileType string, signed map[string]any) {
	r.tb.Helper()
	role.Version++
	signed["_type"], signed["version"] = fileType, role.Version
	signed["expires"] = role.Expires.Format(time.RFC3339Nano)
	if role.Edit != nil {
		role.Edit(signed)
	}
	signers := role.Signers
	if signers == nil {
		signers = role.Keys
	}
	raw, err := Seal(canonical(signed), signers...)
	if err != nil {
		r.tb.Fatalf("signing %s: %v", role.Name, err)
	}
	if role.EditFile != nil {
		raw = role.EditFile(raw)
	}
	role.raw = raw
	r.service.publish(r.GUN, role.Name, role.Version, raw)
}

// Seal makes a file of a signed part that is in canonical form.
func Seal(signed []byte, signers ...*Key) ([]byte, error) {
	signatures := make([]any, 0)
	for _, k := range signers {
		sig, err := k.Sign(signed)
		if err != nil {
			return nil, err
		}
		method := cmp.Or(k.says, k.Method)
		signatures = append(signatures, map[string]any{"keyid": k.ID, "method": method, "sig": base64.StdEncoding.EncodeToString(sig)})
	}
	return fmt.Appendf(nil, `{"signed":%s,"signatures":%s}`, signed, canonical(signatures)), nil
}

// Describe lists a file by its length and hashes, as snapshots do.
func Describe(raw []byte) map[string]any {
	sum256, sum512 := sha256.Sum256(raw), sha512.Sum512(raw)
	return map[string]any{"length": len(raw), "hashes": map[string]any{
		"sha256": base64.StdEncoding.EncodeToString(sum256[:]), "sha512": base64.StdEncoding.EncodeToString(sum512[:]),
	}}
}

func listDelegations(delegations []*Delegation, extra []*Key) map[string]any {
	keys, roles := make(map[string]any), make([]any, 0)
	for _, d := range delegations {
		for _, k := range d.Keys {
			keys[k.ID] = k.Listed()
		}
		roles = append(roles, map[string]any{"name": d.Name, "keyids": ids(d.Keys), "threshold": d.Threshold, "paths": d.Paths})
	}
	for _, k := range extra {
		keys[k.ID] = k.Listed()
	}
	return map[string]any{"keys": keys, "roles": roles}
}

// canonical encodes plain text as Notary does: encoding/json differs in control
// characters and U+2028 only, which tests that need them write themselves.
func canonical(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // maps, slices, strings and numbers always encode
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
