package verify_test

import (
	"bytes"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// TestAttack99_EverOtherForms: a copy makes up documents without end that say the
// same in other bytes, and clients that ask for them by digest. Each is as good as
// the first, but they may not fill storage with records.
func TestAttack99_EverOtherForms(t *testing.T) {
	const most = 16
	w := newWorld(t)
	_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	for what, first := range map[string]digest.Digest{"manifest": ecr.Manifests[amd64], "index": ecr.Root} {
		doc := w.ecr.Document(ecrRepo, first.String())
		form := func(n int) verify.Ref {
			raw := append(bytes.Clone(doc.Raw), bytes.Repeat([]byte("\n"), n)...)
			d := w.ecr.PutDocument(ecrRepo, verifytest.Document{MediaType: doc.MediaType, Raw: raw})
			return ref(t, ecrName).WithDigest(d)
		}
		for n := range most {
			if _, _, err := w.read(form(n), true); err != nil {
				t.Fatalf("%s %d: %v", what, n, err)
			}
		}
		records, recorded := 0, func() (n int) {
			_ = w.driver.Walk(t.Context(), "/", func(storagedriver.FileInfo) error { n++; return nil })
			return n
		}
		for n := range 5 {
			if n == 1 {
				records = recorded()
			}
			if _, _, err := w.read(form(most+n), true); verify.ReasonOf(err) != verify.NotAdmitted {
				t.Errorf("%s %d: %v", what, most+n, err)
			}
		}
		if now := recorded(); now != records {
			t.Errorf("%s: %d files have become %d", what, records, now)
		}

		// What was served goes on to be, evicted or not.
		if err := storage.New(w.driver).Quarantine(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.read(form(0), true); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		w.advance(24 * time.Hour)
		if _, _, err := w.read(form(most), true); err != nil {
			t.Errorf("%s, a day later: %v", what, err)
		}
	}
}
