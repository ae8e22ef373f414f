package verify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/storage/storagetest"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// storedAt is where the store keeps an object.
func storedAt(d digest.Digest) string {
	return fmt.Sprintf("/content/%s/%s/%s", d.Algorithm(), d.Encoded()[:2], d.Encoded())
}

// TestAttack33_Damage damages each stored object of a copy in turn (S5).
func TestAttack33_Damage(t *testing.T) {
	damages := map[string]func(raw []byte) []byte{
		"flipped":   func(raw []byte) []byte { raw[len(raw)/2] ^= 1; return raw },
		"truncated": func(raw []byte) []byte { return raw[:len(raw)/2] },
		"longer":    func(raw []byte) []byte { return append(raw, "evil"...) },
		"empty":     func([]byte) []byte { return nil },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
			whole := w.mustPull(ecrName + ":0.1.19")
			for d := range whole {
				if name == "flipped" && (d == ecr.Layers[amd64][0] || d == ecr.Layers[amd64][1]) {
					continue // for the scrubber to find
				}
				raw, err := w.driver.GetContent(t.Context(), storedAt(d))
				if err != nil {
					t.Fatal(err)
				}
				if err := w.driver.PutContent(t.Context(), storedAt(d), damage(append([]byte{}, raw...))); err != nil {
					t.Fatal(err)
				}
				w.forget()
				got := w.mustPull(ecrName + ":0.1.19")
				for d, raw := range whole {
					if string(got[d]) != string(raw) {
						t.Errorf("%s is served damaged", d)
					}
				}
				w.hub.SetDown(true)
				w.ecr.SetDown(true)
				w.forget()
				w.mustPull(ecrName + ":0.1.19") // repaired
				w.hub.SetDown(false)
				w.ecr.SetDown(false)
			}
		})
	}
}

// TestAttack33_DamagedLayer damages a stored layer that has to be held against its
// diff ID: no fact about it, and it's fetched again (S5).
func TestAttack33_DamagedLayer(t *testing.T) {
	w := newWorld(t)
	_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	layer := ecr.Layers[amd64][1]
	whole := w.mustPull(ecrName + ":0.1.19")[layer]

	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for _, raw := range [][]byte{flipped, whole[:len(whole)-1], append(bytes.Clone(whole), 0)} {
		damaged := newWorld(t) // has the layer, but nobody admitted it yet
		damaged.hub, damaged.ecr, damaged.source = w.hub, w.ecr, w.source
		damaged.start()
		if err := damaged.driver.PutContent(t.Context(), storedAt(layer), raw); err != nil {
			t.Fatal(err)
		}
		damaged.mustPull(ecrName + ":0.1.19")
	}
}

// TestAttack32_33_Faults pulls a copy while each operation of storage fails in
// turn: before or after it took effect, once or for good, as when the process is
// killed or the disk is full. No fault is a verdict; nothing that isn't verified is
// ever served; and after a restart all is well.
func TestAttack32_33_Faults(t *testing.T) {
	prepare := func(t *testing.T) (*world, verifytest.Pushed, *storagetest.Faulty) {
		w := newWorld(t)
		_, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
		verifytest.NewRelease("evil", amd64).Push(w.ecr, ecrRepo, verifytest.Format{Tags: []string{"evil"}})
		faulty := storagetest.NewFaulty(w.driver)
		w.store = storage.New(faulty)
		w.start()
		return w, ecr, faulty
	}
	w, _, faulty := prepare(t)
	faulty.Set(storagetest.Fault{})
	w.mustPull(ecrName + ":0.1.19")
	operations := faulty.Operations()
	if operations < 100 {
		t.Fatalf("only %d operations", operations)
	}
	full := storagedriver.Error{DriverName: "faulty", Detail: fmt.Errorf("write: %w", syscall.ENOSPC)}
	for at := 1; at <= operations; at += 2 {
		fault := []storagetest.Fault{{At: at, Stay: true}, {At: at, After: true, Stay: true}, {At: at, Err: full}}[at%3]
		w, ecr, faulty := prepare(t)
		faulty.Set(fault)
		_, err := w.pull(ecrName + ":0.1.19")
		cut := errors.Is(err, storagetest.ErrInjected) || errors.Is(err, syscall.ENOSPC)
		if reason := verify.ReasonOf(err); err != nil && reason != verify.StorageUnavailable && !(reason == "" && cut) {
			t.Errorf("fault at %d: %v", at, err)
		}
		evil := w.ecr.Document(ecrRepo, "evil")
		if _, _, err := w.read(ref(t, ecrName).WithDigest(digest.FromBytes(evil.Raw)), true); err == nil {
			t.Errorf("fault at %d: something unsigned is served", at)
		}
		w.store = storage.New(w.driver)
		w.start()
		if got := w.mustPull(ecrName + ":0.1.19"); got[ecr.Root] == nil {
			t.Errorf("fault at %d: another index after the restart", at)
		}
	}
}

// TestAttack21_Cut cuts a blob at 99 %, with and without the connection telling.
func TestAttack21_Cut(t *testing.T) {
	for name, test := range map[string]struct {
		end  error
		want verify.Reason
	}{
		"in silence":    {io.EOF, verify.SizeMismatch},
		"with an error": {io.ErrUnexpectedEOF, verify.UpstreamUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			hub, ecr := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
			w.wrap = func(f verify.Fetcher) verify.Fetcher { return &cutting{f, test.end} }
			w.start()
			for name, pushed := range map[string]verifytest.Pushed{hubName: hub, ecrName: ecr} {
				if _, err := w.pull(name + ":0.1.19"); verify.ReasonOf(err) != test.want {
					t.Errorf("%s: %v", name, err)
				}
				for _, d := range pushed.Blobs(amd64) {
					if content, err := w.store.OpenContent(t.Context(), d); err == nil {
						content.Close()
						t.Errorf("%s was stored", d)
					}
				}
			}
			w.wrap = nil
			w.advance(time.Minute)
			w.start()
			w.mustPull(hubName + ":0.1.19")
			w.mustPull(ecrName + ":0.1.19")
		})
	}
}

// cutting is a fetcher whose blobs end early.
type cutting struct {
	verify.Fetcher
	end error
}

func (c *cutting) Blob(ctx context.Context, ref verify.Ref) (io.ReadCloser, error) {
	body, err := c.Fetcher.Blob(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(raw[:len(raw)*99/100]), failing{c.end})), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
