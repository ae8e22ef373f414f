package notarytest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
)

// How says what whoever corrupted a file could do besides.
type How string

// What an attacker can do.
const (
	// Bare: nothing. Whoever stands on the way to the service can do that.
	Bare How = "not vouched for"
	// Vouched: sign snapshot and timestamp, which describe the changed file. The
	// service itself can do that, since it has these keys.
	Vouched How = "vouched for by the service"
	// Signed: sign the file as well. Whoever holds the role's own keys can.
	Signed How = "signed again"
)

// Corruption is one way in which a repository's files are wrong.
type Corruption struct {
	Role  string // whose file is changed
	Where string // the place: "signed.roles.root.threshold"; empty for the whole file
	What  string // "removed"
	How   How

	files func() (Files, error)
}

func (c Corruption) String() string {
	return fmt.Sprintf("%s: %s %s (%s)", c.Role, c.Where, c.What, c.How)
}

// Files makes what the service serves.
func (c Corruption) Files(tb testing.TB) Files {
	tb.Helper()
	files, err := c.files()
	if err != nil {
		tb.Fatalf("%s: %v", c, err)
	}
	return files
}

// Material is what a repository's bad files are derived from.
type Material struct {
	Good         Files // what is right
	Older, Newer Files // what was published before, and will be after it
	Stranger     Files // another repository's, signed by keys of its own
}

// Corrupt derives from good files every bad one: each place of each role's file
// changed in each way, each signature made wrongly, each file replaced.
func (r *Repository) Corrupt(m Material) []Corruption {
	r.tb.Helper()
	var all []Corruption
	for _, role := range r.roles() {
		doc, err := parseTree(m.Good[role.Name])
		if err != nil {
			r.tb.Fatalf("%s: %v", role.Name, err)
		}
		all = append(all, r.places(m.Good, role, doc)...)
		all = append(all, r.signatures(m.Good, role, doc)...)
		all = append(all, r.wholes(m, role)...)
	}
	return all
}

// roles lists those that have published something.
func (r *Repository) roles() []*Role {
	all := []*Role{&r.Root, &r.Timestamp, &r.Snapshot, &r.Targets}
	for _, d := range r.Delegations {
		if d.raw != nil {
			all = append(all, &d.Role)
		}
	}
	return all
}

// places changes each place of a file.
func (r *Repository) places(good Files, role *Role, doc *tree) []Corruption {
	var all []Corruption
	for _, e := range doc.edits() {
		var hows []How
		inside := len(e.at) > 1 && doc.names[e.at[0]] == "signed"
		if inside && !e.repeats { // two readings have no signature in common
			hows = append(hows, Signed)
		}
		if !inside || e.repeats || e.what == "removed" { // one change shows what the signature covers
			hows = append(hows, Vouched)
		}
		if e.what == "removed" && role.Name != r.Timestamp.Name { // and one what the hashes do
			hows = append(hows, Bare)
		}
		for _, how := range hows {
			all = append(all, r.corruption(good, role, how, e.where, e.what, func() ([]byte, error) {
				changed := e.apply(doc)
				if how != Signed {
					return changed.bytes(), nil
				}
				return Seal(changed.member("signed").bytes(), role.Keys...)
			}))
		}
	}
	return all
}

// signatures makes the signatures of a file wrongly.
func (r *Repository) signatures(good Files, role *Role, doc *tree) []Corruption {
	signed := doc.member("signed").bytes()
	strangers := map[string]*Key{"a stranger": NewKey(r.tb, "ecdsa")}
	for _, other := range r.roles() {
		if !slices.Contains(role.Keys, other.Keys[0]) {
			strangers["the key of "+other.Name] = other.Keys[0]
		}
	}
	var all []Corruption
	add := func(what string, signers ...*Key) {
		for _, how := range []How{Bare, Vouched} {
			all = append(all, r.corruption(good, role, how, "signatures", what, func() ([]byte, error) { return Seal(signed, signers...) }))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(strangers)) {
		var posing []*Key
		for _, k := range role.Keys {
			as := *strangers[name]
			as.ID = k.ID
			posing = append(posing, &as)
		}
		add("by "+name, strangers[name])
		add("by "+name+" in the name of its own", posing...)
	}
	add("by nobody")
	if len(role.Keys) > 1 {
		add("by one key as often as there are keys", slices.Repeat(role.Keys[:1], len(role.Keys))...)
	}
	for _, method := range []string{"ecdsa", "rsapss", "rsapkcs1v15", "eddsa", "none"} {
		add("by method "+method, relabelled(role.Keys, method)...)
	}
	return all
}

// relabelled are keys that sign as they do and say that it was by another method.
func relabelled(keys []*Key, method string) []*Key {
	var all []*Key
	for _, k := range keys {
		c := *k
		c.says = method
		if k.Method == method {
			c.says = "none"
		}
		all = append(all, &c)
	}
	return all
}

// wholes replaces a file by another.
func (r *Repository) wholes(m Material, role *Role) []Corruption {
	var all []Corruption
	add := func(what string, raw []byte, hows ...How) {
		for _, how := range hows {
			all = append(all, r.corruption(m.Good, role, how, "", what, func() ([]byte, error) { return raw, nil }))
		}
	}
	good := m.Good[role.Name]
	add("empty", nil, Bare, Vouched)
	add("a web page", []byte("<!DOCTYPE html><title>Welcome</title>"), Bare, Vouched)
	add("cut off", good[:len(good)-1], Bare, Vouched)
	add("followed by another", slices.Concat(good, good), Bare, Vouched)
	add("followed by white space", slices.Concat(good, []byte("\n")), Bare, Vouched)
	add("older", m.Older[role.Name], Bare, Vouched)
	add("newer", m.Newer[role.Name], Bare)
	add("another repository's", m.Stranger[role.Name], Bare, Vouched)
	for _, other := range r.roles() {
		if other.Name != role.Name {
			add("that of "+other.Name, m.Good[other.Name], Bare, Vouched)
		}
	}
	return all
}

func (r *Repository) corruption(good Files, role *Role, how How, where, what string, make func() ([]byte, error)) Corruption {
	return Corruption{Role: role.Name, Where: where, What: what, How: how, files: func() (Files, error) {
		raw, err := make()
		if err != nil {
			return nil, err
		}
		files := good.with(role.Name, raw)
		if how == Bare {
			return files, nil
		}
		return files, r.vouch(files, role.Name)
	}}
}

// with returns the files with other bytes wherever the role's good ones are found.
func (f Files) with(role string, raw []byte) Files {
	changed := maps.Clone(f)
	for name, content := range f {
		if bytes.Equal(content, f[role]) {
			changed[name] = raw
		}
	}
	changed[role] = raw
	return changed
}

// vouch makes snapshot and timestamp say what the role's file is now.
func (r *Repository) vouch(files Files, role string) error {
	if role != r.Timestamp.Name && role != r.Snapshot.Name {
		if err := r.describe(files, &r.Snapshot, role); err != nil {
			return err
		}
	}
	if role == r.Timestamp.Name {
		return nil
	}
	return r.describe(files, &r.Timestamp, r.Snapshot.Name)
}

// describe signs a snapshot or a timestamp that lists a file as it is now.
func (r *Repository) describe(files Files, by *Role, role string) error {
	var file struct {
		Signed map[string]any `json:"signed"`
	}
	d := json.NewDecoder(bytes.NewReader(files[by.Name]))
	d.UseNumber()
	if err := d.Decode(&file); err != nil {
		return fmt.Errorf("%s: %w", by.Name, err)
	}
	meta, ok := file.Signed["meta"].(map[string]any)
	if !ok {
		return fmt.Errorf("%s lists no files", by.Name)
	}
	meta[role] = Describe(files[role])
	raw, err := Seal(canonical(file.Signed), by.Keys...)
	if err != nil {
		return err
	}
	maps.Copy(files, files.with(by.Name, raw))
	for _, name := range []string{role, by.Name} {
		files[hashed(name, files[name])] = files[name]
	}
	return nil
}

// hashed is the name under which the service keeps a file for good.
func hashed(role string, raw []byte) string { return fmt.Sprintf("%s.%x", role, sha256.Sum256(raw)) }
