package notary

import (
	"strings"

	"github.com/trustmirror/trustmirror/verify"
)

// targets is the verified metadata of the role targets or of a delegation.
type targets struct {
	document
	targets     map[string]fileMeta // by name, which for images is the tag
	delegations []*delegation       // in listed order
}

// delegation is a role to which targets, or another delegation, gives a part of
// its tags.
type delegation struct {
	authority
	paths   []string // prefixes of the tags that it may sign
	targets *targets // nil where the role has published nothing, or isn't asked
}

// covers tells whether a tag is within the delegation's paths (T5); the empty
// path is a prefix of all.
func (d *delegation) covers(tag string) bool {
	for _, p := range d.paths {
		if strings.HasPrefix(tag, p) {
			return true
		}
	}
	return false
}

type wireTargets struct {
	header
	Targets     map[string]fileMeta `json:"targets"`
	Delegations struct {
		Keys  map[string]wireKey `json:"keys"`
		Roles []wireDelegation   `json:"roles"`
	} `json:"delegations"`
}

type wireDelegation struct {
	Name      string   `json:"name"`
	KeyIDs    []string `json:"keyids"`
	Threshold int      `json:"threshold"`
	Paths     []string `json:"paths"`
}

// maxTargetLength bounds what a target says of its size; it is no size of
// anything that is read here.
const maxTargetLength = maxInteger

// openTargets verifies a file of the role targets or of a delegation, and that
// all keys that it lists are pinned (T4).
func openTargets(by *authority, raw []byte, pins *Pins) (*targets, error) {
	e, err := parseEnvelope(by.role, raw, maxTargetsSize)
	if err != nil {
		return nil, err
	}
	var wire wireTargets
	d, err := e.open(by, "Targets", &wire)
	if err != nil {
		return nil, err
	}
	if len(wire.Targets) > maxTargets {
		return nil, verify.Refuse(verify.Malformed, "%s lists %d targets; at most %d are read", by.role, len(wire.Targets), maxTargets)
	}
	for name, meta := range wire.Targets {
		if err := meta.valid(name, maxTargetLength); err != nil {
			return nil, err
		}
	}
	t := &targets{document: *d, targets: wire.Targets}
	return t, t.addDelegations(&wire, pins)
}

func (t *targets) addDelegations(wire *wireTargets, pins *Pins) error {
	keys, err := parseKeys(t.role, wire.Delegations.Keys)
	if err != nil {
		return err
	}
	if n := len(wire.Delegations.Roles); n > maxDelegations {
		return verify.Refuse(verify.Malformed, "%s lists %d delegations; at most %d are read", t.role, n, maxDelegations)
	}
	names := make(map[string]bool)
	for _, w := range wire.Delegations.Roles {
		switch {
		case !isChild(w.Name, t.role):
			return verify.Refuse(verify.Malformed, "%s delegates to %.64q, which is no name of a child of it", t.role, w.Name)
		case names[w.Name]:
			return verify.Refuse(verify.Malformed, "%s delegates to %s twice", t.role, w.Name)
		}
		names[w.Name] = true
		a, err := newAuthority(t.role, w.Name, w.KeyIDs, w.Threshold, keys)
		if err != nil {
			return err
		}
		pinned := pins.isSigner // of a delegation's own delegations, which never vouch
		if t.role == roleTargets {
			pinned = pins.isSignerOf(w.Name)
		}
		if err := pins.check(w.Name, a.keys, pinned); err != nil {
			return err
		}
		t.delegations = append(t.delegations, &delegation{authority: *a, paths: w.Paths})
	}
	for _, k := range keys { // also those that no role names
		if err := pins.check(t.role, []*Key{k}, pins.isSigner); err != nil {
			return err
		}
	}
	return nil
}
