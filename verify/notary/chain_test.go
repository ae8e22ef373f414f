package notary_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

var allRoles = []string{"root", "timestamp", "snapshot", "targets", "targets/alice"}

func TestAttack4_Freeze(t *testing.T) {
	for _, role := range allRoles {
		t.Run(role, func(t *testing.T) {
			end := notarytest.Epoch.AddDate(0, 0, 3)
			w := newWorld(t, withAlice)
			w.role(role).Expires = end
			w.Publish(role)
			s := w.source()
			wantTarget(t, s, "0.1.19", digestA)
			w.clock.Advance(day(3) - 1)
			wantTarget(t, s, "0.1.19", digestA)
			wantTarget(t, w.source(), "0.1.19", digestA)
			w.clock.Advance(1)
			says := fmt.Sprintf("role %s expired on %s", role, end.Format(time.RFC3339))
			for range 2 { // held, and after a restart; the service has nothing newer
				_, err := s.Target(context.Background(), "0.1.19")
				wantReason(t, err, verify.MetadataExpired, says)
				_, err = s.Targets(context.Background())
				wantReason(t, err, verify.MetadataExpired, says)
				_, err = s.Metadata(context.Background())
				wantReason(t, err, verify.MetadataExpired, says)
				s = w.source()
			}
			// Nor is it accepted at first use.
			w.store = notarytest.NewStore()
			w.wantRefused(verify.MetadataExpired, says)
			// A clock that is put right again is believed.
			w.clock.Advance(-day(1))
			wantTarget(t, s, "0.1.19", digestA)
		})
	}
}

func TestAttack5_MixAndMatch(t *testing.T) {
	// old and new are two states of one repository; each file of the other state
	// is served in its place, under the plain name and the name by hash.
	for _, role := range []string{"root", "snapshot", "targets", "targets/alice"} {
		t.Run(role, func(t *testing.T) {
			w := newWorld(t, withAlice)
			old := w.service.Files(gun)
			w.Publish(allRoles...)
			files := w.service.Files(gun)
			for name := range files {
				if name == role || strings.HasPrefix(name, role+".") {
					files[name] = old[role]
				}
			}
			w.service.Serve(gun, files)
			if role == "root" { // an older one and a newer one have different lengths only by chance
				w.wantRefused(verify.DigestMismatch, "root")
				return
			}
			s := w.source()
			_, err := s.Target(context.Background(), "0.1.19")
			if reason := verify.ReasonOf(err); reason != verify.DigestMismatch && reason != verify.SizeMismatch {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestHashesAndLengthsOfTheParent(t *testing.T) {
	describe := func(signed map[string]any, name string) map[string]any {
		return signed["meta"].(map[string]any)[name].(map[string]any)
	}
	hashes := func(d map[string]any) map[string]any { return d["hashes"].(map[string]any) }
	changes := map[string]struct {
		change func(map[string]any)
		want   verify.Reason
	}{
		"length one less":  {func(d map[string]any) { d["length"] = d["length"].(int) - 1 }, ""},
		"length one more":  {func(d map[string]any) { d["length"] = d["length"].(int) + 1 }, verify.SizeMismatch},
		"length negative":  {func(d map[string]any) { d["length"] = -1 }, verify.Malformed},
		"length absurd":    {func(d map[string]any) { d["length"] = 1 << 40 }, verify.Malformed},
		"length zero":      {func(d map[string]any) { d["length"] = 0 }, verify.Malformed},
		"another SHA-512":  {func(d map[string]any) { hashes(d)["sha512"] = hashes(notarytest.Describe(nil))["sha512"] }, verify.DigestMismatch},
		"half a SHA-512":   {func(d map[string]any) { hashes(d)["sha512"] = "AAAA" }, verify.DigestMismatch},
		"half a SHA-256":   {func(d map[string]any) { hashes(d)["sha256"] = "AAAA" }, verify.Malformed},
		"no SHA-256":       {func(d map[string]any) { delete(hashes(d), "sha256") }, verify.Malformed},
		"SHA256, so named": {func(d map[string]any) { hashes(d)["SHA256"] = hashes(d)["sha256"]; delete(hashes(d), "sha256") }, verify.Malformed},
		"no hashes":        {func(d map[string]any) { delete(d, "hashes") }, verify.Malformed},
	}
	for _, role := range []string{"snapshot", "targets", "targets/alice"} {
		parent := "snapshot"
		if role == "snapshot" {
			parent = "timestamp"
		}
		for name, test := range changes {
			t.Run(role+" "+name, func(t *testing.T) {
				w := newWorld(t, withAlice)
				w.role(parent).Edit = func(signed map[string]any) { test.change(describe(signed, role)) }
				w.Publish()
				w.store = notarytest.NewStore()
				if test.want != "" {
					w.wantRefused(test.want, role)
					return
				}
				// A fetcher stops at the length, or a byte later.
				_, err := w.source().Target(context.Background(), "0.1.19")
				if reason := verify.ReasonOf(err); reason != verify.Malformed && reason != verify.SizeMismatch {
					t.Errorf("got %v", err)
				}
			})
		}
		t.Run(role+" not listed", func(t *testing.T) {
			if role == "targets/alice" {
				return // never published: see TestDelegationNeverPublished
			}
			w := newWorld(t, func(r *notarytest.Repository) {
				edit := func(signed map[string]any) { delete(signed["meta"].(map[string]any), role) }
				if parent == "timestamp" {
					r.Timestamp.Edit = edit
				} else {
					r.Snapshot.Edit = edit
				}
			})
			w.wantRefused(verify.Malformed, role)
		})
	}
	t.Run("root not listed", func(t *testing.T) {
		w := newWorld(t, func(r *notarytest.Repository) {
			r.Snapshot.Edit = func(signed map[string]any) { delete(signed["meta"].(map[string]any), "root") }
		})
		w.wantRefused(verify.Malformed, "root")
	})
}

// A SHA-256 alone is enough to notice another file of the same length.
func TestAttack111_OnlySHA256IsListed(t *testing.T) {
	for role, parent := range map[string]string{"snapshot": "timestamp", "targets": "snapshot", "targets/alice": "snapshot"} {
		w := newWorld(t, withAlice)
		old := w.service.Files(gun)[role]
		w.role(parent).Edit = func(signed map[string]any) {
			delete(signed["meta"].(map[string]any)[role].(map[string]any)["hashes"].(map[string]any), "sha512")
		}
		w.Publish(allRoles...)
		files := w.service.Files(gun)
		if len(old) != len(files[role]) {
			t.Fatalf("%s: the files have %d and %d bytes", role, len(old), len(files[role]))
		}
		for name, file := range files {
			if strings.HasPrefix(name, role+".") && bytes.Equal(file, files[role]) {
				files[name] = old
			}
		}
		w.service.Serve(gun, files)
		w.wantRefused(verify.DigestMismatch, role)
	}
}

func TestHashOfAnUnknownAlgorithmIsIgnored(t *testing.T) {
	w := newWorld(t, func(r *notarytest.Repository) {
		r.Snapshot.Edit = func(signed map[string]any) {
			signed["meta"].(map[string]any)["targets"].(map[string]any)["hashes"].(map[string]any)["blake3"] = "AAAA"
		}
	})
	wantTarget(t, w.source(), "0.1.19", digestA)
}

func TestTypesAndVersions(t *testing.T) {
	set := func(name string, value any) func(map[string]any) {
		return func(signed map[string]any) { signed[name] = value }
	}
	unset := func(name string) func(map[string]any) { return func(signed map[string]any) { delete(signed, name) } }
	for name, edit := range map[string]func(map[string]any){
		"another role's type":  set("_type", "Mirrors"),
		"type in lower case":   func(signed map[string]any) { signed["_type"] = strings.ToLower(signed["_type"].(string)) },
		"no type":              unset("_type"),
		"version 0":            set("version", 0),
		"version -1":           set("version", -1),
		"version 1.5":          set("version", 1.5),
		"version in quotes":    set("version", "1"),
		"version null":         set("version", nil),
		"version of 54 bits":   set("version", 1<<53+2),
		"no version":           unset("version"),
		"no expiry":            unset("expires"),
		"expiry null":          set("expires", nil),
		"expiry not a date":    set("expires", "tomorrow"),
		"expiry a number":      set("expires", 4102444800),
		"expiry without zone":  set("expires", "2030-01-01T00:00:00"),
		"a control character":  set("more", "a\nb"),
		"a fraction somewhere": set("more", []any{map[string]any{"x": 0.5}}),
	} {
		for _, role := range allRoles {
			t.Run(role+" "+name, func(t *testing.T) {
				w := newWorld(t, withAlice)
				w.role(role).Edit = edit
				w.role(role).Signers = nil
				if strings.Contains(name, "control") { // signed as Notary would: the character itself
					signers := w.role(role).Keys
					w.role(role).EditFile = func(raw []byte) []byte { return resign(t, raw, signers, `a\nb`, "a\nb") }
				}
				w.Publish(role)
				w.wantRefused(verify.Malformed, role)
			})
		}
	}
	t.Run("one role's file as another's", func(t *testing.T) {
		w := newWorld(t, func(r *notarytest.Repository) { r.Snapshot.Keys = r.Timestamp.Keys })
		files := w.service.Files(gun)
		w.service.Set(gun, "timestamp", files["snapshot"])
		w.wantRefused(verify.Malformed, "timestamp", `"Snapshot"`)
	})
}

// resign makes a file of a changed signed part.
func resign(tb testing.TB, raw []byte, signers []*notarytest.Key, from, to string) []byte {
	tb.Helper()
	signed := bytes.TrimPrefix(raw[:bytes.Index(raw, []byte(`,"signatures":`))], []byte(`{"signed":`))
	sealed, err := notarytest.Seal(bytes.ReplaceAll(signed, []byte(from), []byte(to)), signers...)
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.ReplaceAll(sealed, []byte(to), []byte(from))
}

func TestExtraMembersAreSkipped(t *testing.T) {
	for _, role := range allRoles {
		w := newWorld(t, withAlice)
		w.role(role).Edit = func(signed map[string]any) {
			signed["custom"] = map[string]any{"a": []any{1, true, nil, "x"}, "ключ": "значение"}
		}
		w.Publish(role)
		wantTarget(t, w.source(), "0.1.19", digestA)
	}
}

func TestRootChangesDuringTheUpdate(t *testing.T) {
	w := newWorld(t)
	s := w.source()
	wantTarget(t, s, "0.1.19", digestA)
	stale := w.service.Files(gun)["root"]
	w.Publish("root")
	w.service.Set(gun, "root", stale) // a cache on the way
	w.service.Requests()
	refresh(t, s)
	if v := s.Status().Versions; v["root"] != 2 || v["timestamp"] != 2 {
		t.Errorf("versions are %v", v)
	}
	got := w.service.Requests()
	if len(got) < 4 || !strings.HasPrefix(got[3], "root.") {
		t.Errorf("asked for %q", got)
	}
}
