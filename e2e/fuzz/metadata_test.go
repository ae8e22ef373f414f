package fuzz

import (
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/notary/trustpinning"
	"github.com/theupdateframework/notary/tuf"
	"github.com/theupdateframework/notary/tuf/data"
	"github.com/theupdateframework/notary/tuf/utils"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// FuzzMetadata changes one file of a repository, signs it again, and asserts that
// the reference client accepts what is accepted here, and reads the same in it:
// versions, dates, keys, thresholds, paths, targets, and who signed.
func FuzzMetadata(f *testing.F) {
	p := newPublisher(f)
	for i, role := range p.roles {
		f.Add(uint8(i), p.seed(role), uint64(0), uint64(0))
	}
	for _, raw := range vectors(f, "notary0.*/targets.json", "notary0.*/targets/*.json") {
		f.Add(uint8(3), []byte(signedPart(raw)), uint64(0), uint64(0))
		f.Add(uint8(4), []byte(signedPart(raw)), uint64(0), uint64(0))
	}
	if _, err := readFirst(f, p, p.files); err != nil {
		f.Fatalf("the good repository is refused: %v", err)
	}
	f.Fuzz(func(t *testing.T, which uint8, signed []byte, changes, signatures uint64) {
		role := p.roles[int(which)%len(p.roles)]
		raw := p.file(t, role, edit(p.unseed(role, signed), changes), signatures)
		if raw == nil {
			return // no canonical form, so nobody can sign it
		}
		files := p.publish(t, role, raw)
		ours, err := readFirst(t, p, files)
		if err != nil {
			var refusal *verify.Refusal
			if missing := verify.ReasonOf(err) == verify.TrustUnavailable && role != "root"; !errors.As(err, &refusal) && !missing {
				t.Fatalf("refused with %v", err)
			}
			return // missing: it lists a file that isn't there
		}
		theirs, err := readReference(p, ours, files)
		if date := (*time.ParseError)(nil); errors.As(err, &date) && strings.Contains(date.Value, `\`) {
			return // it can't read a date in which a character is written as an escape
		}
		if err != nil {
			t.Fatalf("%s\nis accepted, but not by the reference client: %v", raw, err)
		}
		defer func() {
			if t.Failed() {
				t.Logf("of %s", raw)
			}
		}()
		compare(t, ours, theirs)
	})
}

// readFirst reads files as a mirror does that sees the repository for the first time.
func readFirst(tb testing.TB, p *publisher, files notarytest.Files) (*notary.Metadata, error) {
	service := notarytest.NewService()
	service.Serve(gun, files)
	source, err := notary.New(notary.Config{GUN: gun, Pins: p.pins, Fetcher: service, Store: notarytest.NewStore()})
	if err != nil {
		tb.Fatal(err)
	}
	return source.Metadata(tb.Context())
}

// readReference reads the same files with the reference client's code, with the same
// root keys pinned.
func readReference(p *publisher, ours *notary.Metadata, files notarytest.Files) (*tuf.Repo, error) {
	builder := tuf.NewRepoBuilder(gun, nil, trustpinning.TrustPinConfig{
		Certs: map[string][]string{gun: p.pins.Root}, DisableTOFU: true,
	})
	roles := []data.RoleName{data.CanonicalRootRole, data.CanonicalTimestampRole, data.CanonicalSnapshotRole, data.CanonicalTargetsRole}
	for _, d := range ours.Targets.Delegations {
		if d.Published {
			roles = append(roles, data.RoleName(d.Name))
		}
	}
	for _, role := range roles {
		if err := builder.Load(role, files[role.String()], 1, false); err != nil {
			return nil, err
		}
	}
	repo, _, err := builder.Finish()
	return repo, err
}

func compare(t *testing.T, ours *notary.Metadata, theirs *tuf.Repo) {
	t.Helper()
	root := theirs.Root.Signed
	role := func(mine notary.Role, common data.SignedCommon, signatures []data.Signature) {
		t.Helper()
		compareFile(t, mine, common, signatures)
		their := root.Roles[data.RoleName(mine.Name)]
		compareRole(t, mine, *their, root.Keys)
	}
	role(ours.Root, root.SignedCommon, theirs.Root.Signatures)
	role(ours.Timestamp, theirs.Timestamp.Signed.SignedCommon, theirs.Timestamp.Signatures)
	role(ours.Snapshot, theirs.Snapshot.Signed.SignedCommon, theirs.Snapshot.Signatures)
	role(ours.Targets.Role, theirs.Targets[data.CanonicalTargetsRole].Signed.SignedCommon, theirs.Targets[data.CanonicalTargetsRole].Signatures)
	compareTargets(t, ours.Targets, theirs.Targets)
}

// compareTargets compares what targets or a delegation lists, and below.
func compareTargets(t *testing.T, mine notary.TargetsRole, theirs map[data.RoleName]*data.SignedTargets) {
	t.Helper()
	their := theirs[data.RoleName(mine.Name)]
	listed := make(map[string]notary.SignedTarget)
	for _, target := range mine.Targets {
		listed[target.Name] = target
	}
	if len(listed) != len(mine.Targets) || len(listed) != len(their.Signed.Targets) {
		t.Errorf("%s lists %d targets (%d names), the reference client reads %d", mine.Name, len(mine.Targets), len(listed), len(their.Signed.Targets))
	}
	for name, meta := range their.Signed.Targets {
		target := listed[name]
		if target.Digest.Encoded() != hex.EncodeToString(meta.Hashes["sha256"]) || target.Size != meta.Length {
			t.Errorf("%s lists %q as %s with %d bytes, the reference client reads %x with %d",
				mine.Name, name, target.Digest, target.Size, meta.Hashes["sha256"], meta.Length)
		}
	}
	if len(mine.Delegations) != len(their.Signed.Delegations.Roles) {
		t.Errorf("%s has %d delegations, the reference client reads %d", mine.Name, len(mine.Delegations), len(their.Signed.Delegations.Roles))
		return
	}
	for i, d := range mine.Delegations {
		delegated := their.Signed.Delegations.Roles[i]
		if d.Name != delegated.Name.String() || !slices.Equal(d.Paths, delegated.Paths) {
			t.Errorf("delegation %s of %q; the reference client reads %s of %q", d.Name, d.Paths, delegated.Name, delegated.Paths)
		}
		compareRole(t, d.Role, delegated.RootRole, their.Signed.Delegations.Keys)
		if d.Published {
			file := theirs[delegated.Name]
			compareFile(t, d.Role, file.Signed.SignedCommon, file.Signatures)
			compareTargets(t, d, theirs)
		}
	}
}

// compareFile compares a file's head, and whose signatures count.
func compareFile(t *testing.T, mine notary.Role, their data.SignedCommon, signatures []data.Signature) {
	t.Helper()
	if mine.Version != int64(their.Version) || !mine.Expires.Equal(their.Expires) {
		t.Errorf("%s has version %d and expires on %s, the reference client reads %d, %s", mine.Name, mine.Version, mine.Expires, their.Version, their.Expires)
	}
	valid := make(map[string]bool)
	for _, s := range signatures {
		if s.IsValid {
			valid[s.KeyID] = true
		}
	}
	for _, id := range mine.SignedBy {
		if !valid[id] {
			t.Errorf("%s is signed by %s; for the reference client by %v", mine.Name, id, slices.Sorted(maps.Keys(valid)))
		}
	}
}

// compareRole compares who may sign for a role.
func compareRole(t *testing.T, mine notary.Role, their data.RootRole, keys data.Keys) {
	t.Helper()
	if mine.Threshold != their.Threshold || len(mine.Keys) != len(their.KeyIDs) {
		t.Errorf("%s has %d keys and a threshold of %d, the reference client reads %d, %d",
			mine.Name, len(mine.Keys), mine.Threshold, len(their.KeyIDs), their.Threshold)
		return
	}
	for i, k := range mine.Keys {
		key := keys[their.KeyIDs[i]]
		public, err := utils.CanonicalKeyID(key)
		if err != nil || k.ID != their.KeyIDs[i] || k.ID != key.ID() || k.Type != key.Algorithm() || k.PublicKeyID != public {
			t.Errorf("key %d of %s is %+v, the reference client reads %s, %s, %s, %v", i, mine.Name, k, key.ID(), key.Algorithm(), public, err)
		}
	}
}
