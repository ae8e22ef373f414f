package notary_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
)

// FuzzEnvelope asserts that a file that is read says the same when it is written
// anew from what was read, and that refusals are typed.
func FuzzEnvelope(f *testing.F) {
	seedFiles(f, func(raw []byte) { f.Add(raw) })
	f.Fuzz(func(t *testing.T, raw []byte) {
		signed, signatures, err := notary.ParseEnvelope(raw)
		if err != nil {
			if verify.ReasonOf(err) != verify.Malformed {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if bytes.ContainsFunc(signed, func(r rune) bool { return r < 0x20 }) {
			return // such a signed part is refused when it is decoded
		}
		again := append(append([]byte(`{"signed":`), signed...), `,"signatures":[]}`...)
		signedAgain, none, err := notary.ParseEnvelope(again)
		if err != nil || !bytes.Equal(signed, signedAgain) || none != 0 || signatures < 0 {
			t.Fatalf("read %q, and from that %q, %v", signed, signedAgain, err)
		}
	})
}

// FuzzRoot asserts of a root that is accepted that it is the same when it is
// written anew with its signatures, and that it is refused without them, or with
// another version.
func FuzzRoot(f *testing.F) {
	seedFiles(f, func(raw []byte) { f.Add(raw) })
	f.Fuzz(func(t *testing.T, raw []byte) {
		signed, version, err := notary.ParseRoot(gun, raw)
		if err != nil {
			if reason := verify.ReasonOf(err); reason != verify.Malformed && reason != verify.SignatureInvalid {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		var wire struct {
			Signatures json.RawMessage `json:"signatures"`
		}
		if err := json.Unmarshal(raw, &wire); err != nil {
			t.Fatal(err)
		}
		file := func(signed, signatures []byte) []byte {
			return fmt.Appendf(nil, `{"signed":%s,"signatures":%s}`, signed, signatures)
		}
		again, versionAgain, err := notary.ParseRoot(gun, file(signed, wire.Signatures))
		if err != nil || !bytes.Equal(signed, again) || version != versionAgain {
			t.Fatalf("read %q, and from that %q, %v", signed, again, err)
		}
		other := bytes.Replace(signed, fmt.Appendf(nil, `"version":%d}`, version), fmt.Appendf(nil, `"version":%d}`, version+1), 1)
		for _, forged := range [][]byte{file(signed, []byte("[]")), file(other, wire.Signatures)} {
			if _, _, err := notary.ParseRoot(gun, forged); verify.ReasonOf(err) != verify.SignatureInvalid {
				t.Fatalf("%q: %v", forged, err)
			}
		}
	})
}

// FuzzTargets signs what the fuzzer makes up, so that parsing goes on behind the
// signature, and asserts that it is read equally when written anew.
func FuzzTargets(f *testing.F) {
	seedFiles(f, func(raw []byte) {
		if signed, _, err := notary.ParseEnvelope(raw); err == nil {
			f.Add(signed)
		}
	})
	private := notarytest.NewKey(f, "ed25519")
	key, err := notary.ParseKeyPEM(private.PEM())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		form, err := notary.Canonical(doc)
		if err != nil {
			return
		}
		file, err := notarytest.Seal(form, private)
		if err != nil {
			t.Fatal(err)
		}
		signed, version, names, err := notary.OpenTargets("targets", file, key, &notary.Pins{})
		if err != nil {
			switch verify.ReasonOf(err) {
			case verify.Malformed, verify.KeyNotPinned, verify.SignatureInvalid:
				return
			}
			t.Fatalf("refused with %v", err)
		}
		if !bytes.Equal(signed, form) || version < 1 {
			t.Fatalf("signed was %q, read %q", form, signed)
		}
		again, err := notarytest.Seal(signed, private)
		if err != nil {
			t.Fatal(err)
		}
		signed, versionAgain, namesAgain, err := notary.OpenTargets("targets", again, key, &notary.Pins{})
		if err != nil || !bytes.Equal(signed, form) || version != versionAgain || names != namesAgain {
			t.Fatalf("not the same when read again: %v", err)
		}
	})
}

// seedFiles calls add with each file of a repository.
func seedFiles(f *testing.F, add func(raw []byte)) {
	f.Helper()
	repo := notarytest.New(f, gun)
	repo.Sign("0.1.19", digestA, 772)
	repo.Delegate("alice", notarytest.NewKey(f, "ed25519")).Sign("0.2", digestB, 1)
	repo.Delegations[0].Delegate(f, "sub")
	repo.Delegate("releases")
	repo.Publish()
	files := repo.Service().Files(gun)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		add(files[name])
	}
}
