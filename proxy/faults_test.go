package proxy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/trustmirror/trustmirror/proxy"
	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/storage/storagetest"
	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/notary"
	"github.com/trustmirror/trustmirror/verify/notary/notarytest"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// outside is what a mirror depends on besides its storage.
type outside struct {
	hub, ecr *verifytest.Registry
	repo     *notarytest.Repository
}

// newOutside publishes a release with its copy, and signs it.
func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{verifytest.NewRegistry(), verifytest.NewRegistry(), notarytest.New(t, hubName)}
	release := verifytest.NewRelease("0.1.19", amd64)
	hub := release.Push(o.hub, repo, verifytest.Format{})
	release.Push(o.ecr, repo, verifytest.Format{Tags: []string{"0.1.19"}, OCI: true, Level: 1})
	o.repo.Sign("0.1.19", hub.Root, hub.Size)
	o.repo.Publish()
	return o
}

func (o *outside) setDown(down bool) {
	o.hub.SetDown(down)
	o.ecr.SetDown(down)
	if o.repo.Service().Fail(nil); down {
		o.repo.Service().Down()
	}
}

// process is a mirror without sockets, on storage that fails when it is told to.
type process struct {
	t       *testing.T
	outside *outside
	clock   notarytest.Clock
	gate    *verify.Gate
	handler http.Handler
}

func (o *outside) start(t *testing.T, driver storagedriver.StorageDriver) *process {
	t.Helper()
	p := &process{t: t, outside: o}
	store := storage.New(driver)
	source, err := notary.New(notary.Config{GUN: hubName, Pins: o.repo.Pins(), Fetcher: o.repo.Service(), Store: store.Trust(), Clock: p.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := verify.NewPolicy([]verify.ImageRule{{
		Signed: hubName, Copies: []string{ecrName}, Grace: time.Hour,
		Source: func(verify.Ref) (verify.Source, error) { return source, nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	fetcher := verifytest.Fetcher{"docker.io": o.hub, "public.ecr.aws": o.ecr}
	if p.gate, err = verify.NewGate(verify.GateConfig{Policy: policy, Fetcher: fetcher, Store: store, Clock: p.clock.Now}); err != nil {
		t.Fatal(err)
	}
	if p.handler, err = proxy.New(proxy.Config{Gate: p.gate, Registries: policy.Registries(), DefaultRegistry: "docker.io"}); err != nil {
		t.Fatal(err)
	}
	return p
}

// ask asks for one object. A connection that was cut is answered with status 0.
func (p *process) ask(name, kind, reference string) (a answer) {
	w := httptest.NewRecorder()
	defer func() {
		if err, ok := recover().(error); errors.Is(err, http.ErrAbortHandler) {
			a = answer{}
		} else if ok {
			p.t.Errorf("%s of %s: panic: %v", reference, name, err)
		}
	}()
	p.handler.ServeHTTP(w, httptest.NewRequestWithContext(p.t.Context(), http.MethodGet, "/v2/"+name+"/"+kind+"/"+reference, nil))
	return answer{w.Code, w.Header(), w.Body.Bytes()}
}

// pull pulls an image, and what of it is served though something else isn't. It
// returns what it got, and whether that is all. What isn't served has to be
// answered with a 503 that says what failed, or be cut off.
func (p *process) pull(name, reference string) (got map[digest.Digest][]byte, whole bool) {
	got, whole = map[digest.Digest][]byte{}, true
	take := func(kind, reference string) []byte {
		a := p.ask(name, kind, reference)
		switch a.status {
		case http.StatusOK:
			d := digest.FromBytes(a.body)
			if d.String() != a.header.Get("Docker-Content-Digest") || strings.Contains(reference, ":") && d.String() != reference {
				p.t.Errorf("%s of %s: what was served hashes to %s", reference, name, d)
			}
			got[d] = a.body
			return a.body
		case http.StatusServiceUnavailable:
			code, message, reason, _ := errorOf(p.t, a)
			if code != "UNAVAILABLE" || !strings.Contains(message, storagetest.ErrInjected.Error()) || a.header.Get("Retry-After") == "" || reason != verify.StorageUnavailable {
				p.t.Errorf("%s of %s: %s (%s), Retry-After %q: %s", reference, name, code, reason, a.header.Get("Retry-After"), message)
			}
		case 0:
		default:
			p.t.Errorf("%s of %s: %d %s", reference, name, a.status, a.body)
		}
		whole = false
		return nil
	}
	type link struct{ Digest digest.Digest }
	var doc struct {
		Manifests, Layers []link
		Config            *link
	}
	raw := take("manifests", reference)
	if raw == nil {
		return got, false
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		p.t.Fatal(err)
	}
	for _, d := range doc.Manifests {
		below, all := p.pull(name, d.Digest.String())
		maps.Copy(got, below)
		whole = whole && all
	}
	if doc.Config != nil {
		doc.Layers = append(doc.Layers, *doc.Config)
	}
	for _, d := range doc.Layers {
		take("blobs", d.Digest.String())
	}
	return got, whole
}

// pullBoth pulls the signed image and its copy.
func (p *process) pullBoth() (got map[digest.Digest][]byte, whole bool) {
	got, whole = p.pull(hubName, "0.1.19")
	copied, all := p.pull(ecrName, "0.1.19")
	maps.Copy(got, copied)
	return got, whole && all
}

// content reads what is stored, all of which has to hash right.
func content(t *testing.T, driver storagedriver.StorageDriver) map[digest.Digest][]byte {
	t.Helper()
	stored := map[digest.Digest][]byte{}
	err := driver.Walk(t.Context(), "/content", func(info storagedriver.FileInfo) error {
		if info.IsDir() {
			return nil
		}
		raw, err := driver.GetContent(t.Context(), info.Path())
		d := digest.FromBytes(raw)
		if d.Encoded() != path.Base(info.Path()) {
			t.Errorf("what is stored as %s hashes to %s", path.Base(info.Path()), d)
		}
		stored[d] = raw
		return err
	})
	if err != nil && !errors.As(err, new(storagedriver.PathNotFoundError)) {
		t.Fatal(err)
	}
	return stored
}

// TestAttack33_FaultAtEveryOperation pulls a signed image and its copy, from the
// first question to the trust service on, while each operation of storage fails in
// turn: before it took effect, after it, and with all operations that follow. The
// client gets right bytes or a 503; when the fault is over everything is served,
// nothing that was committed is fetched again, and nothing is left behind.
func TestAttack33_FaultAtEveryOperation(t *testing.T) {
	current := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, current) }) // once all below are over
	for i, kind := range []storagetest.Fault{{}, {After: true}, {Stay: true}} {
		t.Run(fmt.Sprintf("after=%t,stay=%t", kind.After, kind.Stay), func(t *testing.T) {
			t.Parallel()
			o := newOutside(t)
			counter := storagetest.NewFaulty(inmemory.New())
			p := o.start(t, counter)
			want, whole := p.pullBoth()
			p.gate.Close()
			operations := counter.Operations()
			if !whole || len(want) < 8 || operations < 200 {
				t.Fatalf("without a fault: %d objects, all: %v, in %d operations", len(want), whole, operations)
			}
			t.Logf("%d operations of storage", operations)
			for at := 1; at <= operations; at++ {
				fault := kind
				fault.At = at
				t.Run(fmt.Sprint(at), func(t *testing.T) {
					driver := o.fault(t, fault, want)
					if at%3 == i { // each takes its time
						o.restart(t, driver, want)
					}
				})
			}
		})
	}
}

// fault pulls while a fault happens, and again when it is over. It returns what
// storage is on.
func (o *outside) fault(t *testing.T, fault storagetest.Fault, want map[digest.Digest][]byte) storagedriver.StorageDriver {
	t.Helper()
	driver := inmemory.New()
	faulty := storagetest.NewFaulty(driver)
	faulty.Set(fault)
	p := o.start(t, faulty)
	o.setDown(false)
	got, whole := p.pullBoth()
	if fault.Stay && whole {
		t.Error("everything was served without storage")
	}
	for d, raw := range got {
		if !bytes.Equal(raw, want[d]) {
			t.Errorf("%s was served, which isn't of the image", d)
		}
	}

	faulty.Set(storagetest.Fault{})
	committed := content(t, driver)
	o.hub.Counts()
	o.ecr.Counts()
	p.clock.Advance(time.Minute) // the trust service is asked again after half a minute
	o.served(p, "after the fault", want)
	for object := range o.asked() {
		if d := digest.Digest(path.Base(object)); d.Validate() == nil && committed[d] != nil {
			t.Errorf("%s was committed, and fetched again", object)
		}
	}
	p.gate.Close()
	if stored := content(t, driver); !maps.EqualFunc(stored, want, bytes.Equal) {
		t.Errorf("%d objects are stored, %d were pulled", len(stored), len(want))
	}
	if err := storage.New(storagetest.Older{StorageDriver: driver, By: 2 * time.Hour}).Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := driver.List(t.Context(), "/staging"); len(left) > 0 {
		t.Errorf("sweeping leaves %q, %v", left, err)
	}
	return driver
}

// restart pulls from a mirror that has what is stored, and nobody to ask.
func (o *outside) restart(t *testing.T, driver storagedriver.StorageDriver, want map[digest.Digest][]byte) {
	t.Helper()
	o.setDown(true)
	p := o.start(t, driver)
	defer p.gate.Close()
	o.served(p, "after a restart, with nobody to ask", want)
}

// asked counts what the registries were asked for.
func (o *outside) asked() map[string]int {
	counts := o.hub.Counts()
	for object, n := range o.ecr.Counts() {
		counts["copy: "+object] += n
	}
	return counts
}

func (o *outside) served(p *process, when string, want map[digest.Digest][]byte) {
	p.t.Helper()
	if got, whole := p.pullBoth(); !whole || !maps.EqualFunc(got, want, bytes.Equal) {
		p.t.Errorf("%s: %d of %d objects were served", when, len(got), len(want))
	}
}
