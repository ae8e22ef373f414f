package verify_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/verify"
	"github.com/trustmirror/trustmirror/verify/verifytest"
)

// hooked is a fetcher whose answers a test decides on; nil passes the question on.
type hooked struct {
	verify.Fetcher
	manifest func(ctx context.Context, ref verify.Ref) error
	blob     func(ctx context.Context, ref verify.Ref) error
}

func (h *hooked) Manifest(ctx context.Context, ref verify.Ref) (ocispec.Descriptor, []byte, error) {
	if h.manifest != nil {
		if err := h.manifest(ctx, ref); err != nil {
			return ocispec.Descriptor{}, nil, err
		}
	}
	return h.Fetcher.Manifest(ctx, ref)
}

func (h *hooked) Blob(ctx context.Context, ref verify.Ref) (io.ReadCloser, error) {
	if h.blob != nil {
		if err := h.blob(ctx, ref); err != nil {
			return nil, err
		}
	}
	return h.Fetcher.Blob(ctx, ref)
}

// hook makes a gate that asks registries through h.
func (w *world) hook(h *hooked) {
	w.wrap = func(f verify.Fetcher) verify.Fetcher {
		h.Fetcher = f
		return h
	}
	w.start()
}

// TestAttack14_Bytes changes what the Hub holds under a signed digest.
func TestAttack14_Bytes(t *testing.T) {
	tests := map[string]struct {
		change func(raw []byte) []byte
		size   int64 // added to the signed size
		want   verify.Reason
	}{
		"one byte":                {change: func(raw []byte) []byte { raw[len(raw)/2] ^= 1; return raw }, want: verify.DigestMismatch},
		"a trailing newline":      {change: func(raw []byte) []byte { return append(raw, '\n') }, want: verify.SizeMismatch},
		"cut":                     {change: func(raw []byte) []byte { return raw[:len(raw)-1] }, want: verify.SizeMismatch},
		"nothing":                 {change: func([]byte) []byte { return []byte{} }, want: verify.SizeMismatch},
		"a signed size too large": {size: 1, want: verify.SizeMismatch},
		"a signed size too small": {size: -1, want: verify.SizeMismatch},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			hub := verifytest.NewRelease("0.1.19", amd64).Push(w.hub, hubRepo, verifytest.Format{})
			w.source.Sign("0.1.19", hub.Root, hub.Size+test.size, w.clock())
			if doc := w.hub.Document(hubRepo, hub.Root.String()); test.change != nil {
				doc.Raw = test.change(doc.Raw)
				w.hub.SetDocument(hubRepo, hub.Root.String(), doc)
			}
			w.refused(hubName+":0.1.19", test.want)
			if content, err := w.store.OpenContent(t.Context(), hub.Root); err == nil && test.size == 0 {
				content.Close()
				t.Error("it was stored")
			}
		})
	}
}

// TestAttack15_ContentType delivers what is signed under another type.
func TestAttack15_ContentType(t *testing.T) {
	for mediaType, want := range map[string]verify.Reason{
		"application/vnd.oci.image.manifest.v1+json": verify.AmbiguousDoc,
		"text/html": verify.MediaType,
		"":          verify.MediaType,
	} {
		w := newWorld(t)
		hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
		doc := w.hub.Document(hubRepo, hub.Root.String())
		doc.MediaType = mediaType
		w.hub.SetDocument(hubRepo, hub.Root.String(), doc)
		w.refused(hubName+":0.1.19", want)
	}
}

// TestAttack14_BothNames has a copy lie about what the Hub has too: the Hub's name
// is served, at once and from the Hub (C5).
func TestAttack14_BothNames(t *testing.T) {
	lies := map[string]func(doc verifytest.Document) verifytest.Document{
		"bytes": func(doc verifytest.Document) verifytest.Document {
			doc.Raw = []byte(strings.Replace(string(doc.Raw), "amd64", "evil!", 1))
			return doc
		},
		"size": func(doc verifytest.Document) verifytest.Document { doc.Raw = append(doc.Raw, '\n'); return doc },
		"type": func(doc verifytest.Document) verifytest.Document { doc.MediaType = "text/html"; return doc },
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
			w.ecr.SetDocument(ecrRepo, hub.Root.String(), lie(w.hub.Document(hubRepo, hub.Root.String())))
			for _, b := range hub.Blobs(amd64) {
				w.ecr.SetBlob(ecrRepo, b, []byte("a lie"))
			}
			if _, err := w.pull(ecrName + "@" + hub.Root.String()); err != nil {
				t.Errorf("the copy's name: %v", err)
			}
			w.mustPull(hubName + ":0.1.19")
		})
	}
}

// TestAttack16_Sha512 signs an image by its sha512 digest.
func TestAttack16_Sha512(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.19", amd64)
	hub := release.Push(w.hub, hubRepo, verifytest.Format{})
	release.Push(w.ecr, ecrRepo, verifytest.Format{Level: 1, Tags: []string{"0.1.19"}})
	doc := w.hub.Document(hubRepo, hub.Root.String())
	signed := digest.SHA512.FromBytes(doc.Raw)
	w.hub.SetDocument(hubRepo, signed.String(), doc)
	w.source.Sign("0.1.19", signed, 0, w.clock())
	content, admission, err := w.gate.Manifest(t.Context(), ref(t, hubName+":0.1.19"))
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	if content.Digest != signed || admission.Digest != signed || content.Size != hub.Size || admission.Size != hub.Size {
		t.Errorf("opened %s of %d bytes, admitted as %+v", content.Digest, content.Size, admission)
	}
	w.mustPull(hubName + "@" + hub.Manifests[amd64].String())
	w.mustPull(ecrName + ":0.1.19")
	w.refused(hubName+"@"+hub.Root.String(), verify.NotAdmitted) // that digest isn't signed
}

// TestAttack14_TooLarge signs what is larger than documents may be (D1).
func TestAttack14_TooLarge(t *testing.T) {
	w := newWorld(t)
	raw := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"a":"` + strings.Repeat("x", verify.MaxDocument) + `"}}`
	large := w.hub.PutDocument(hubRepo, verifytest.Document{MediaType: "application/vnd.oci.image.index.v1+json", Raw: []byte(raw)})
	w.source.Sign("large", large, int64(len(raw)), w.clock())
	w.refused(hubName+":large", verify.SizeMismatch)
	if _, err := w.store.OpenContent(t.Context(), large); err == nil {
		t.Error("it was stored")
	}

	// A stored layer that something calls a manifest is a lie, no fault of storage.
	release := verifytest.NewRelease("0.1.19", amd64)
	hub, _ := w.publish("0.1.19", release, verifytest.Format{})
	layer := w.hub.PutBlob(hubRepo, []byte(raw))
	if err := w.store.Put(t.Context(), layer, int64(len(raw)), strings.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	index := w.asPublished(hub.Root)
	entries(index)[0].(map[string]any)["digest"] = layer.String()
	pushDocument(w.ecr, ecrRepo, index, "0.1.19")
	w.refused(ecrName+":0.1.19", verify.SizeMismatch)
}

// TestAttack22_Upstreams fails every question to both registries in one way each:
// what can't be told is no verdict, isn't remembered, and needs no upstream when
// it's stored.
func TestAttack22_Upstreams(t *testing.T) {
	for name, test := range map[string]struct {
		hub, ecr error
		want     verify.Reason
	}{
		"both down":                 {verify.Unavailable(verify.UpstreamUnavailable, "down"), verify.Unavailable(verify.UpstreamUnavailable, "down"), verify.UpstreamUnavailable},
		"rate limited":              {verify.Unavailable(verify.RateLimited, "slow"), &verify.NotFoundError{}, verify.RateLimited},
		"gone":                      {&verify.NotFoundError{}, &verify.NotFoundError{}, verify.NotFound},
		"gone on one, other down":   {&verify.NotFoundError{}, verify.Unavailable(verify.UpstreamUnavailable, "down"), verify.UpstreamUnavailable},
		"too large, the other down": {verify.Refuse(verify.SizeMismatch, "too large"), verify.Unavailable(verify.UpstreamUnavailable, "down"), verify.UpstreamUnavailable},
		"too large, gone":           {verify.Refuse(verify.SizeMismatch, "too large"), &verify.NotFoundError{}, verify.SizeMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var failing sync.Map
			answer := func(_ context.Context, ref verify.Ref) error {
				if err, ok := failing.Load(ref.Registry); ok {
					return err.(error)
				}
				return nil
			}
			w.hook(&hooked{manifest: answer, blob: answer})
			hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
			fail := func(object string, document bool) {
				t.Helper()
				r := ref(t, hubName+object)
				if _, _, err := w.read(r, document); verify.ReasonOf(err) != test.want {
					t.Errorf("%s: %v; want %s", r, err, test.want)
				}
			}
			failing.Store("docker.io", test.hub)
			failing.Store("public.ecr.aws", test.ecr)
			fail(":0.1.19", true)
			fail("@"+hub.Root.String(), true)
			failing.Clear()
			w.advance(time.Minute)
			if _, _, err := w.read(ref(t, hubName+":0.1.19"), true); err != nil {
				t.Fatal(err)
			}
			failing.Store("docker.io", test.hub)
			failing.Store("public.ecr.aws", test.ecr)
			fail("@"+hub.Manifests[amd64].String(), true)
			failing.Clear()
			w.advance(time.Minute)
			if _, _, err := w.read(ref(t, hubName+"@"+hub.Manifests[amd64].String()), true); err != nil {
				t.Fatal(err)
			}
			failing.Store("docker.io", test.hub)
			failing.Store("public.ecr.aws", test.ecr)
			fail("@"+hub.Layers[amd64][0].String(), false)
			failing.Clear()
			w.advance(time.Minute)
			w.mustPull(hubName + ":0.1.19")
			failing.Store("docker.io", test.hub)
			failing.Store("public.ecr.aws", test.ecr)
			w.mustPull(hubName + ":0.1.19")
		})
	}
}

// TestAttack25_DeadTags signs more tags than one request may search, of which the
// registry has none any more: asking again ends with an answer.
func TestAttack25_DeadTags(t *testing.T) {
	w := newWorld(t)
	for i := range 600 {
		w.source.Sign("dead-"+digest.FromString(string(rune(i))).Encoded()[:20], digest.FromString(string(rune(i))), 5, w.clock())
	}
	unknown := ref(t, hubName).WithDigest(digest.FromString("unknown"))
	var got []verify.Reason
	for range 3 {
		_, _, err := w.read(unknown, false)
		got = append(got, verify.ReasonOf(err))
	}
	if got[0] != verify.UpstreamUnavailable || got[1] != verify.UpstreamUnavailable || got[2] != verify.NotAdmitted {
		t.Errorf("answers %q", got)
	}
	if n := len(w.hub.Requests()); n != 600 {
		t.Errorf("asked the Hub %d times for 600 documents", n)
	}
	hub, _ := w.publish("zzz", verifytest.NewRelease("zzz", amd64), verifytest.Format{})
	if _, _, err := w.read(ref(t, hubName).WithDigest(hub.Layers[amd64][1]), false); err != nil {
		t.Error(err)
	}
}

// TestCopyTagAppears looks for a blob of a copy before its tag is pushed there,
// and after.
func TestCopyTagAppears(t *testing.T) {
	w := newWorld(t)
	release := verifytest.NewRelease("0.1.19", amd64)
	hub := release.Push(w.hub, hubRepo, verifytest.Format{})
	w.source.Sign("0.1.19", hub.Root, hub.Size, w.clock())
	ecr := release.Push(w.ecr, ecrRepo, verifytest.Format{Level: 1})
	layer := ref(t, ecrName).WithDigest(ecr.Layers[amd64][1])
	if _, _, err := w.read(layer, false); verify.ReasonOf(err) != verify.NotAdmitted {
		t.Fatal(err)
	}
	release.Push(w.ecr, ecrRepo, verifytest.Format{Level: 1, Tags: []string{"0.1.19"}})
	w.advance(10 * time.Minute)
	if _, _, err := w.read(layer, false); err != nil {
		t.Error(err)
	}
}

// TestAttack31_RuleOfItsOwn has two rules meet at one signed repository: only the
// one that is about just that repository vouches for it, whoever is asked first.
func TestAttack31_RuleOfItsOwn(t *testing.T) {
	const special, copy = "docker.io/myorg/special", "ghcr.example/mirror/special"
	strict, loose := &verifytest.Source{}, &verifytest.Source{}
	for _, order := range [][]string{{special, copy}, {copy, special}} {
		policy, err := verify.NewPolicy([]verify.ImageRule{
			{Signed: "docker.io/myorg/*", Copies: []string{"ghcr.example/mirror/*"}, Source: func(verify.Ref) (verify.Source, error) { return loose, nil }},
			{Signed: special, Source: func(verify.Ref) (verify.Source, error) { return strict, nil }},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range order {
			image, err := policy.Image(ref(t, name))
			switch {
			case name == special && (err != nil || image.Source != verify.Source(strict)):
				t.Errorf("%v: %s is vouched for by another rule: %v", order, name, err)
			case name == copy && verify.ReasonOf(err) != verify.NoPolicy:
				t.Errorf("%v: %s: %+v, %v", order, name, image, err)
			}
		}
	}
}

// TestAttack24_Tags asks for tags that nobody signed; no registry is asked.
func TestAttack24_Tags(t *testing.T) {
	w := newWorld(t)
	hub, _ := w.publish("0.1.19", verifytest.NewRelease("0.1.19", amd64), verifytest.Format{})
	sha := "sha256-" + hub.Root.Encoded()
	for _, tag := range []string{"0.1.11", sha, sha + ".sig", "latest"} {
		for _, name := range []string{hubName, ecrName} {
			w.refused(name+":"+tag, verify.UnsignedTag)
		}
	}
	if asked := append(w.hub.Requests(), w.ecr.Requests()...); len(asked) > 0 {
		t.Errorf("asked %q", asked)
	}
}
