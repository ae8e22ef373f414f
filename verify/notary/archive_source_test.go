package notary_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// archived makes a source of an archive, as after a restart.
func (w *world) archived(a *notary.Archive) (*notary.ArchiveSource, error) {
	return notary.NewArchiveSource(context.Background(), notary.ArchiveConfig{
		Archive: a, GUN: gun, Pins: w.pins, RoleOrder: w.order, Store: w.store, Clock: w.clock.Now,
	})
}

func (w *world) mustArchived(a *notary.Archive) *notary.ArchiveSource {
	w.tb.Helper()
	s, err := w.archived(a)
	if err != nil {
		w.tb.Fatalf("archive: %v", err)
	}
	return s
}

// forged reads an archive that was changed and written anew.
func forged(tb testing.TB, a *notary.Archive, change func(*notary.Forgery)) *notary.Archive {
	tb.Helper()
	forged, err := notary.ReadArchive(notary.Forge(a, change))
	if err != nil {
		tb.Fatal(err)
	}
	return forged
}

func archiveTarget(tb testing.TB, s verify.Source, tag string) verify.Target {
	tb.Helper()
	target, err := s.Target(context.Background(), tag)
	if err != nil {
		tb.Fatalf("target %s: %v", tag, err)
	}
	return target
}

// TestArchiveVouchesYearsLater is what archives are for: the service is gone, and
// all has long expired.
func TestArchiveVouchesYearsLater(t *testing.T) {
	w := newWorld(t, delegated)
	w.rotate(2)
	a := w.export().Archive
	w.service.Down()
	w.clock.Advance(day(20 * 365))
	for range 2 { // and again after a restart
		s := w.mustArchived(a)
		if target := archiveTarget(t, s, "0.1.19"); target.Digest != digestA || target.Size != 772 || target.Signers[0] != notary.RepoAdmin {
			t.Errorf("0.1.19 is %+v", target)
		}
		if target := archiveTarget(t, s, "0.2"); target.Digest != digestB || !slices.Equal(target.Signers, []string{"alice"}) {
			t.Errorf("0.2 is %+v", target)
		}
		_, err := s.Target(t.Context(), "0.3")
		wantReason(t, err, verify.UnsignedTag, gun, "0.3", a.Moment().Format(time.RFC3339))
		set, err := s.Targets(t.Context())
		if err != nil || len(set.All()) != 2 {
			t.Errorf("targets: %v, %v", set, err)
		}
		if again, _ := s.Targets(t.Context()); again != set {
			t.Error("the set changes though nothing changed")
		}
		m, err := s.Metadata(t.Context())
		if err != nil || m.Root.Version != 3 || len(m.Targets.Delegations) != 3 {
			t.Errorf("metadata: %+v, %v", m, err)
		}
	}
	if commits := commitsOf(w); commits != 1 {
		t.Errorf("one archive was noted %d times", commits)
	}
}

func commitsOf(w *world) int {
	n := 0
	for _, name := range w.store.Names(gun) {
		if strings.HasPrefix(name, "commits/") {
			n++
		}
	}
	return n
}

func TestArchiveRefusals(t *testing.T) {
	w := newWorld(t, delegated)
	w.rotate(2)
	a := w.export().Archive
	otherGUN := "docker.io/nicolas/another"
	other := notarytest.New(t, otherGUN)
	other.Sign("0.1.19", digestB, 772)
	other.Publish()
	foreign, err := notary.Export(t.Context(), notary.ExportConfig{GUN: otherGUN, Pins: other.Pins(), Fetcher: other.Service()})
	if err != nil {
		t.Fatal(err)
	}
	w.Sign("0.1.20", digestB, 1)
	w.Publish("targets")
	newer := w.service.Files(gun)

	replace := func(name string, raw []byte) func(*notary.Forgery) {
		return func(f *notary.Forgery) { f.Contents[name] = raw }
	}
	tests := map[string]struct {
		change func(*notary.Forgery)
		pins   func(*notary.Pins)
		want   verify.Reason
		says   []string
	}{
		"another image's archive": {change: func(f *notary.Forgery) {
			f.GUN = otherGUN
		}, want: verify.SignatureInvalid, says: []string{otherGUN, "not for " + gun}},
		"another image's metadata": {change: func(f *notary.Forgery) {
			f.Names = []string{"root/1.json", "timestamp.json", "snapshot.json", "targets.json"}
			for _, name := range f.Names {
				f.Contents[name] = notary.ArchiveFile(foreign.Archive, name)
			}
			f.Moment = foreign.Moment()
		}, want: verify.SignatureInvalid, says: []string{"certificate is that of", otherGUN}},
		"a byte of a file": {change: func(f *notary.Forgery) {
			f.Contents["targets.json"][20] ^= 1
		}, want: verify.DigestMismatch, says: []string{"targets"}},
		"a byte of the timestamp": {change: func(f *notary.Forgery) {
			f.Contents["timestamp.json"] = []byte(strings.Replace(string(f.Contents["timestamp.json"]), `"version":`, `"version":1`, 1))
		}, want: verify.SignatureInvalid, says: []string{"timestamp"}},
		"newer targets":   {change: replace("targets.json", newer["targets"]), want: verify.Malformed, says: []string{"targets.json", "at most"}},
		"a newer root":    {change: replace("root/3.json", notary.ArchiveFile(a, "root/2.json")), want: verify.KeyNotPinned, says: []string{"root"}},
		"an older root":   {change: replace("root/2.json", notary.ArchiveFile(a, "root/1.json")), want: verify.SignatureInvalid, says: []string{"root version 3"}},
		"a root unlike":   {change: replace("root/1.json", notary.ArchiveFile(foreign.Archive, "root/1.json")), want: verify.SignatureInvalid, says: []string{otherGUN}},
		"a later moment":  {change: func(f *notary.Forgery) { f.Moment = f.Moment.Add(time.Second) }, want: verify.MetadataExpired, says: []string{"claims", a.Moment().Format(time.RFC3339)}},
		"a year later":    {change: func(f *notary.Forgery) { f.Moment = f.Moment.AddDate(1, 0, 0) }, want: verify.MetadataExpired, says: []string{"claims"}},
		"an early moment": {change: func(f *notary.Forgery) { f.Moment = f.Moment.Add(-time.Second) }, want: verify.Malformed, says: []string{"were added to it later"}},
		"an extra delegation": {change: func(f *notary.Forgery) {
			f.Names = slices.Insert(f.Names, len(f.Names)-1, "targets/mallory.json")
			f.Contents["targets/mallory.json"] = f.Contents["targets/alice.json"]
		}, want: verify.Malformed, says: []string{"targets/mallory.json", "nothing in the signed metadata vouches for"}},
		"the file of a signer who hasn't published": {change: func(f *notary.Forgery) {
			f.Names = slices.Insert(f.Names, len(f.Names)-1, "targets/bob.json")
			f.Contents["targets/bob.json"] = f.Contents["targets/alice.json"]
		}, want: verify.Malformed, says: []string{"targets/bob.json"}},
		"a delegation left out": {change: func(f *notary.Forgery) {
			f.Names = slices.DeleteFunc(f.Names, func(name string) bool { return name == "targets/alice.json" })
		}, want: verify.Malformed, says: []string{"lacks targets/alice.json"}},
		"a root key that isn't pinned": {pins: func(p *notary.Pins) {
			p.Root = []string{w.Targets.Keys[0].ID}
		}, want: verify.KeyNotPinned, says: []string{"root"}},
		"a signer's key that isn't pinned": {pins: func(p *notary.Pins) {
			p.Signers = map[string][]string{"alice": p.Signers["alice"], "releases": p.Signers["releases"]}
		}, want: verify.KeyNotPinned, says: []string{"targets/bob"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			archive := a
			if test.change != nil {
				archive = forged(t, a, test.change)
			}
			store, pins := notarytest.NewStore(), w.Pins()
			if test.pins != nil {
				test.pins(&pins)
			}
			_, err := archive.Verify(t.Context(), gun, pins)
			wantReason(t, err, test.want, test.says...)
			_, err = notary.NewArchiveSource(t.Context(), notary.ArchiveConfig{Archive: archive, GUN: gun, Pins: pins, Store: store})
			wantReason(t, err, test.want, test.says...)
			if names := store.Names(gun); len(names) > 0 {
				t.Errorf("something refused was stored: %q", names)
			}
		})
	}
}

// TestArchiveWithMetadataAddedLater gives an archive newer metadata, rightly
// signed, but leaves the moment that it was made for.
func TestArchiveWithMetadataAddedLater(t *testing.T) {
	w := newWorld(t)
	a := w.export().Archive
	w.Sign("0.2", digestB, 5)
	w.Timestamp.Expires = w.Timestamp.Expires.Add(day(7))
	w.Publish("targets")
	later := w.export().Archive
	both := forged(t, later, func(f *notary.Forgery) { f.Moment = a.Moment() })
	_, err := w.archived(both)
	wantReason(t, err, verify.Malformed, "were added to it later", a.Moment().Format(time.RFC3339), later.Moment().Format(time.RFC3339))
}

func TestOlderArchiveIsARollback(t *testing.T) {
	w := newWorld(t)
	older := w.export().Archive
	w.Signed["0.1.19"] = notarytest.Target(digestB, 5)
	w.Publish("targets")
	newer := w.export().Archive

	w.mustArchived(older)
	w.clock.Advance(time.Hour)
	s := w.mustArchived(newer) // an update
	if target := archiveTarget(t, s, "0.1.19"); target.Digest != digestB {
		t.Errorf("0.1.19 is %s", target.Digest)
	}
	set, err := s.Targets(t.Context())
	if err != nil || len(set.ByDigest(digestA)) != 1 || !set.ByDigest(digestA)[0].Superseded.Equal(w.clock.Now()) {
		t.Errorf("what the older archive signed: %v, %v", set.ByDigest(digestA), err)
	}
	for range 2 {
		_, err = w.archived(older)
		wantReason(t, err, verify.Rollback, "older than what was accepted before", "trust export --from state", "trust reset")
		w.mustArchived(newer)
	}
	w.clock.Advance(25 * time.Hour)
	if set, _ := w.mustArchived(newer).Targets(t.Context()); len(set.ByDigest(digestA)) != 0 {
		t.Error("what the older archive signed is remembered for more than a day")
	}
	w.store = notarytest.NewStore() // as after a reset
	w.mustArchived(older)
}

func TestArchiveAfterALiveService(t *testing.T) {
	w := newWorld(t)
	early := w.export().Archive
	refresh(t, w.source())
	w.Sign("0.2", digestB, 5)
	w.Publish("targets")
	refresh(t, w.source())
	same := w.export().Archive
	w.service.Down()
	w.clock.Advance(day(400))
	_, err := w.source().Target(t.Context(), "0.2")
	wantReason(t, err, verify.MetadataExpired, "timestamp", w.Timestamp.Expires.Format(time.RFC3339), "trust export --from state", "trust.archive")

	_, err = w.archived(early)
	wantReason(t, err, verify.Rollback, "version 2 was accepted before")
	before := w.store.Names(gun)
	if target := archiveTarget(t, w.mustArchived(same), "0.2"); target.Digest != digestB {
		t.Errorf("0.2 is %s", target.Digest)
	}
	if after := w.store.Names(gun); !slices.Equal(before, after) {
		t.Errorf("what was known is stored again: %q", after)
	}

	// And back to a live service, which has gone on meanwhile.
	w.service.Fail(nil)
	w.Timestamp.Expires = w.clock.Now().Add(day(14))
	w.Sign("0.3", digestA, 5)
	w.Publish("targets")
	live := w.source()
	refresh(t, live)
	wantTarget(t, live, "0.3", digestA)
	_, err = w.archived(same)
	wantReason(t, err, verify.Rollback)
}

// TestArchiveAfterRootRotations needs the roots between the one that was seen and
// the archive's own.
func TestArchiveAfterRootRotations(t *testing.T) {
	w := newWorld(t)
	refresh(t, w.source())
	firstKey := w.Root.Keys
	w.rotate(3)
	w.pins.Root = append(w.pins.Root, firstKey[0].ID)
	a := w.export().Archive
	for _, gap := range []string{"root/1.json", "root/2.json"} {
		cut := forged(t, a, func(f *notary.Forgery) {
			i := slices.Index(f.Names, gap) + 1
			f.Names = f.Names[i:]
		})
		if _, err := cut.Verify(t.Context(), gun, w.pins); err != nil {
			t.Fatalf("without the roots up to %s: %v", gap, err)
		}
		if gap == "root/1.json" { // the one that was seen itself
			continue
		}
		_, err := w.archived(cut)
		wantReason(t, err, verify.SignatureInvalid, "root version 4", "version 2")
	}
	w.mustArchived(a)
}

func TestArchiveMoment(t *testing.T) {
	epoch := notarytest.Epoch
	certificate := func(notBefore, notAfter time.Time) func(*notarytest.Repository) {
		return func(r *notarytest.Repository) {
			r.Root.Keys = []*notarytest.Key{notarytest.NewKey(t, "ecdsa").Certified(t, notarytest.Certificate{
				CommonName: gun, NotBefore: notBefore, NotAfter: notAfter,
			})}
		}
	}
	tests := map[string]struct {
		change func(*notarytest.Repository)
		want   time.Time
		first  string
	}{
		"the timestamp": {func(*notarytest.Repository) {}, epoch.Add(day(14) - time.Second), "timestamp"},
		"a part of a second": {func(r *notarytest.Repository) {
			r.Timestamp.Expires = epoch.Add(time.Hour + time.Nanosecond)
		}, epoch.Add(time.Hour), "timestamp"},
		"another zone": {func(r *notarytest.Repository) {
			r.Timestamp.Expires = epoch.Add(time.Hour).In(time.FixedZone("", -8*3600))
		}, epoch.Add(time.Hour - time.Second), "timestamp"},
		"targets": {func(r *notarytest.Repository) {
			r.Targets.Expires = epoch.Add(time.Minute)
		}, epoch.Add(59 * time.Second), "targets"},
		"a delegation": {func(r *notarytest.Repository) {
			d := r.Delegate("alice")
			d.Expires = epoch.Add(time.Minute)
			d.Sign("0.2", digestB, 1)
		}, epoch.Add(59 * time.Second), "targets/alice"},
		"the certificate":          {certificate(epoch, epoch.Add(day(2))), epoch.Add(day(2)), notary.RootCertificate},
		"long ago":                 {func(r *notarytest.Repository) { r.Timestamp.Expires = epoch.AddDate(0, 0, -1).Add(time.Hour) }, epoch.AddDate(0, 0, -1).Add(time.Hour - time.Second), "timestamp"},
		"never, too late a start":  {certificate(epoch.Add(day(15)), epoch.Add(day(20))), time.Time{}, ""},
		"never, expired too early": {certificate(epoch.Add(-day(9)), epoch.Add(-day(8))), epoch.Add(-day(8)), notary.RootCertificate},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.change)
			e, err := notary.Export(t.Context(), notary.ExportConfig{GUN: gun, Pins: w.pins, Fetcher: w.service})
			if test.want.IsZero() {
				wantReason(t, err, verify.MetadataExpired, "never was a moment")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !e.Moment().Equal(test.want) || e.Expiries[0].Role != test.first {
				t.Errorf("moment is %s, want %s; first expires %+v, want %s", e.Moment(), test.want, e.Expiries[0], test.first)
			}
			w.mustArchived(e.Archive)
		})
	}
}

func TestArchiveMomentWithTwoCertificates(t *testing.T) {
	epoch := notarytest.Epoch
	key := func(notBefore, notAfter int) *notarytest.Key {
		return notarytest.NewKey(t, "ecdsa").Certified(t, notarytest.Certificate{
			CommonName: gun, NotBefore: epoch.Add(day(notBefore)), NotAfter: epoch.Add(day(notAfter)),
		})
	}
	for name, test := range map[string]struct {
		keys      []*notarytest.Key
		threshold int
		want      time.Duration
	}{
		"one of two is enough":          {[]*notarytest.Key{key(-1, 3), key(-1, 5)}, 1, day(5)},
		"both are needed":               {[]*notarytest.Key{key(-1, 3), key(-1, 5)}, 2, day(3)},
		"both, the later one late":      {[]*notarytest.Key{key(-1, 3), key(4, 5)}, 2, -1},
		"two of three, with one to go":  {[]*notarytest.Key{key(-1, 3), key(-1, 5), key(-1, 4)}, 2, day(4)},
		"two of three, one yet to come": {[]*notarytest.Key{key(-1, 3), key(20, 30), key(-1, 4)}, 2, day(3)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(r *notarytest.Repository) { r.Root.Keys, r.Root.Threshold = test.keys, test.threshold })
			e, err := notary.Export(t.Context(), notary.ExportConfig{GUN: gun, Pins: w.pins, Fetcher: w.service})
			if test.want < 0 {
				wantReason(t, err, verify.MetadataExpired)
			} else if err != nil || !e.Moment().Equal(epoch.Add(test.want)) {
				t.Errorf("moment is %s, %v; want %s", e.Moment(), err, epoch.Add(test.want))
			}
		})
	}
}

func TestArchiveSourceFailsWithItsStore(t *testing.T) {
	w := newWorld(t)
	a := w.export().Archive
	for _, operation := range []string{"list", "put"} {
		w.store.Fail(operation, true)
		_, err := w.archived(a)
		wantReason(t, err, verify.StorageUnavailable)
		w.store.Fail(operation, false)
	}
	w.mustArchived(a)
	w.store.Fail("get", true)
	_, err := w.archived(a)
	wantReason(t, err, verify.StorageUnavailable)
}

func TestArchiveRoleOrder(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) { r.Delegate("alice").Sign("0.1.19", digestB, 1) })
	a := w.export().Archive
	_, err := w.mustArchived(a).Target(t.Context(), "0.1.19")
	wantReason(t, err, verify.RolesDisagree, "targets/alice")
	w.order = []string{"targets/alice"}
	if target := archiveTarget(t, w.mustArchived(a), "0.1.19"); target.Digest != digestB {
		t.Errorf("0.1.19 is %s", target.Digest)
	}
}

func TestNewArchiveSourceRefusesConfigurations(t *testing.T) {
	w := newWorld(t)
	a := w.export().Archive
	for name, change := range map[string]func(*notary.ArchiveConfig){
		"no archive":  func(c *notary.ArchiveConfig) { c.Archive = nil },
		"no store":    func(c *notary.ArchiveConfig) { c.Store = nil },
		"no GUN":      func(c *notary.ArchiveConfig) { c.GUN = "" },
		"no root key": func(c *notary.ArchiveConfig) { c.Pins.Root = nil },
		"role order":  func(c *notary.ArchiveConfig) { c.RoleOrder = []string{"releases"} },
	} {
		c := notary.ArchiveConfig{Archive: a, GUN: gun, Pins: w.Pins(), Store: w.store}
		change(&c)
		if s, err := notary.NewArchiveSource(t.Context(), c); err == nil || s != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
