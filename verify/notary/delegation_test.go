package notary_test

import (
	"context"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

func TestWhoVouches(t *testing.T) {
	type signs map[string]digest.Digest // by role, for the tag "tag"
	releasesFirst := []string{"targets/releases", "targets"}
	tests := []struct {
		name    string
		signs   signs
		order   []string
		digest  digest.Digest // "": roles disagree
		signers string
	}{
		{"repository key", signs{"targets": digestA}, nil, digestA, "Repo Admin"},
		{"releases", signs{"releases": digestA}, nil, digestA, "Repo Admin"},
		{"signer only", signs{"alice": digestA}, nil, digestA, "alice"},
		{"signer and releases", signs{"alice": digestA, "releases": digestA}, nil, digestA, "alice"},
		{"signer and repository key", signs{"alice": digestA, "targets": digestA}, nil, digestA, "alice"},
		{"two signers, in listed order", signs{"bob": digestA, "alice": digestA, "releases": digestA}, nil, digestA, "alice,bob"},
		{"all", signs{"bob": digestA, "alice": digestA, "releases": digestA, "targets": digestA}, nil, digestA, "alice,bob"},
		{"all but one agree", signs{"bob": digestB, "alice": digestA, "releases": digestA, "targets": digestA}, nil, "", ""},
		{"releases against repository key", signs{"releases": digestB, "targets": digestA}, nil, "", ""},
		{"the same, releases first", signs{"releases": digestB, "targets": digestA}, releasesFirst, digestB, "Repo Admin"},
		{"the same, targets first", signs{"releases": digestB, "targets": digestA}, []string{"targets"}, digestA, "Repo Admin"},
		{"the winner's signers only", signs{"releases": digestB, "alice": digestA, "bob": digestB}, releasesFirst, digestB, "bob"},
		{"signers against each other, of no rank", signs{"alice": digestA, "bob": digestB}, releasesFirst, "", ""},
		{"a signer of rank", signs{"alice": digestA, "bob": digestB}, []string{"targets", "targets/bob"}, digestB, "bob"},
		{"order without disagreement", signs{"targets": digestA, "alice": digestA}, releasesFirst, digestA, "alice"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, func(r *notarytest.Repository) {
				for _, name := range []string{"alice", "releases", "bob"} {
					d := r.Delegate(name)
					if content, ok := test.signs[name]; ok {
						d.Sign("tag", content, 5)
					}
				}
				if content, ok := test.signs["targets"]; ok {
					r.Sign("tag", content, 5)
				}
			})
			w.order = test.order
			s := w.source()
			set, err := s.Targets(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if test.digest != "" {
				wantTarget(t, s, "tag", test.digest, strings.Split(test.signers, ",")...)
				if got := set.ByTag("tag"); len(got) != 1 || got[0].Digest != test.digest || got[0].Size != 5 {
					t.Errorf("the set has %+v", got)
				}
				return
			}
			_, err = s.Target(context.Background(), "tag")
			wantReason(t, err, verify.RolesDisagree, "tag", digestA.String(), digestB.String())
			if got := set.ByTag("tag"); len(got) > 0 {
				t.Errorf("the set has %+v", got)
			}
			wantTarget(t, s, "0.1.19", digestA) // other tags aren't concerned
		})
	}
}

func TestRolesDisagreeOnTheSizeOnly(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) { r.Delegate("alice").Sign("0.1.19", digestA, 773) })
	_, err := w.source().Target(context.Background(), "0.1.19")
	wantReason(t, err, verify.RolesDisagree, "targets", "targets/alice", "772", "773")
}

func TestAttack11_TagsOutsideThePaths(t *testing.T) {
	tests := []struct {
		paths []string
		tag   string
		ok    bool
	}{
		{[]string{"1."}, "1.0", true},
		{[]string{"1.0"}, "1.0", true},
		{[]string{"2", "1"}, "1.0", true},
		{[]string{"1.0.0"}, "1.0", false},
		{[]string{"2."}, "1.0", false},
		{[]string{"*"}, "1.0", false},
		{[]string{}, "1.0", false},
		{nil, "1.0", false},
	}
	for _, test := range tests {
		w := newWorld(t, func(r *notarytest.Repository) {
			d := r.Delegate("alice")
			d.Paths = test.paths
			d.Sign(test.tag, digestB, 1)
			d.Sign("0.1.19", digestB, 1) // in dispute, if the paths didn't keep it out
		})
		if test.paths == nil { // as Notary leaves it out
			w.Targets.Edit = func(signed map[string]any) {
				delete(signed["delegations"].(map[string]any)["roles"].([]any)[0].(map[string]any), "paths")
			}
			w.Publish("targets")
		}
		s := w.source()
		wantTarget(t, s, "0.1.19", digestA, notary.RepoAdmin)
		_, err := s.Target(context.Background(), test.tag)
		if test.ok && err != nil {
			t.Errorf("paths %q: %v", test.paths, err)
		} else if !test.ok {
			wantReason(t, err, verify.UnsignedTag)
		}
	}
}

func TestAttack11_NamesThatArentChildren(t *testing.T) {
	for _, name := range []string{
		"targets", "root", "snapshot", "alice", "targets/", "targets//x", "targets/a/b", "targets/../root", "targets/.", "Targets/alice",
		"targets/Alice", "targets/al ice", "targets/al\u00efce", "targets/*", "targets/a.b", "/targets/alice", "",
		"targets/" + strings.Repeat("a", 248),
	} {
		w := newWorld(t, func(r *notarytest.Repository) { r.Delegate("x").Name = name })
		w.pins.Signers = nil
		w.wantRefused(verify.Malformed, "delegates to")
	}
	t.Run("twice", func(t *testing.T) {
		w := newWorld(t, func(r *notarytest.Repository) { r.Delegate("alice", r.Delegate("alice").Keys...) })
		w.wantRefused(verify.Malformed, "twice")
	})
	for _, name := range []string{"targets/alice", "targets/bob", "targets/bob/x", "targets/alice/x/y"} {
		w := newWorld(t, func(r *notarytest.Repository) {
			d := r.Delegate("alice")
			d.Sign("0.2", digestB, 1)
			d.Delegate(t, "x").Name = name
		})
		w.wantRefused(verify.Malformed, "targets/alice delegates to")
	}
}

func TestAttack11_GrandchildrenDontVouch(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) {
		d := r.Delegate("alice")
		d.Sign("0.2", digestB, 1)
		child := d.Delegate(t, "sub")
		r.Snapshot.Edit = func(signed map[string]any) { // it has published something
			file, err := notarytest.Seal([]byte(`{"_type":"Targets","expires":"2030-01-01T00:00:00Z","targets":{"0.3":{"hashes":{"sha256":"`+
				base64Digest(digestB)+`"},"length":1}},"version":1}`), child.Keys...)
			if err != nil {
				t.Fatal(err)
			}
			signed["meta"].(map[string]any)[child.Name] = notarytest.Describe(file)
			r.Service().Set(gun, child.Name, file)
		}
	})
	s := w.source()
	wantTarget(t, s, "0.2", digestB, "alice")
	_, err := s.Target(context.Background(), "0.3")
	wantReason(t, err, verify.UnsignedTag)
	for _, name := range w.service.Requests() {
		if strings.Contains(name, "sub") {
			t.Errorf("asked for %s", name)
		}
	}
}

func TestDelegationNeverPublished(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) { r.Delegate("alice"); r.Delegate("releases") })
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA, notary.RepoAdmin)
	refresh(t, s)
	w.Delegations[0].Sign("0.1.19", digestA, 772)
	w.Publish("targets/alice")
	refresh(t, s)
	wantTarget(t, s, "0.1.19", digestA, "alice")
}

func TestAttack11_ExpiredDelegation(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) {
		r.Delegate("alice").Sign("0.2", digestB, 1)
		r.Delegations[0].Expires = notarytest.Epoch
	})
	w.wantRefused(verify.MetadataExpired, "targets/alice")
}

func TestDelegationThatItsKeysNoLongerSign(t *testing.T) {
	w := newWorld(t, withAlice)
	s := w.source()
	wantTarget(t, s, "0.2", digestB)
	w.Delegations[0].Keys = []*notarytest.Key{notarytest.NewKey(t, "ecdsa")}
	w.pins = w.Pins()
	w.Publish("targets") // alice's file is still that of the key replaced
	wantReason(t, w.source().Refresh(context.Background()), verify.SignatureInvalid, "targets/alice")
	w.Publish("targets/alice")
	s = w.source()
	refresh(t, s)
	wantTarget(t, s, "0.2", digestB)
}

func TestFilesThatNobodyDelegatesToAreIgnored(t *testing.T) {
	w := newWorld(t, withAlice)
	w.Snapshot.Edit = func(signed map[string]any) {
		signed["meta"].(map[string]any)["targets/eve"] = notarytest.Describe([]byte("x"))
		signed["meta"].(map[string]any)["../../x"] = map[string]any{}
	}
	w.Publish()
	wantTarget(t, w.source(), "0.2", digestB, "alice")
}

func TestTargetsThatArentTags(t *testing.T) {
	names := []string{"a/b", "", " ", "-x", ".x", strings.Repeat("a", 129), "tag\u00e9", "a:b", "a@b"}
	w := newWorld(t, func(r *notarytest.Repository) {
		for _, name := range append(names, strings.Repeat("a", 128), "_", "A.b-c_D", "a.B-c_D") {
			r.Sign(name, digestB, 1)
		}
	})
	set, err := w.source().Targets(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if got := len(set.All()); got != 5 {
		t.Errorf("%d tags: %+v", got, set.All())
	}
	for _, name := range names {
		if _, err := w.source().Target(context.Background(), name); verify.ReasonOf(err) != verify.UnsignedTag {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestTargetsWithoutAUsableDigest(t *testing.T) {
	for name, target := range map[string]any{
		"no hash":         map[string]any{"length": 1, "hashes": map[string]any{}},
		"SHA-512 only":    map[string]any{"length": 1, "hashes": map[string]any{"sha512": strings.Repeat("A", 86) + "=="}},
		"too short":       map[string]any{"length": 1, "hashes": map[string]any{"sha256": "AAAA"}},
		"not base64":      map[string]any{"length": 1, "hashes": map[string]any{"sha256": digestA.Encoded() + "!"}},
		"negative length": map[string]any{"length": -1, "hashes": map[string]any{"sha256": base64Digest(digestA)}},
		"length null":     map[string]any{"length": nil, "hashes": map[string]any{"sha256": base64Digest(digestA)}},
		"null":            nil,
		"a number":        5,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(r *notarytest.Repository) { r.Signed["0.2"] = target })
			w.wantRefused(verify.Malformed)
		})
	}
}
