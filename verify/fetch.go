package verify

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// document returns a manifest or an index that something signed leads to: from
// storage, hashed again, or from the image's repositories, the given one first,
// and then it is stored. claims are the media types that documents name for it.
func (g *Gate) document(ctx context.Context, image *Image, repo Ref, d digest.Digest, size int64, claims ...string) (*document, error) {
	doc, err := g.storedDocument(ctx, d)
	if errors.Is(err, storage.ErrNotFound) {
		// Who shares this may have been told another type: that is checked below.
		w := work{span: "fetch", about: repo.WithDigest(d), key: fmt.Sprintf("fetch manifest %s of %d bytes", image.Signed.WithDigest(d), size)}
		doc, _, err = share(ctx, g, w, nil, func(ctx context.Context) (*document, error) {
			doc, err := g.storedDocument(ctx, d)
			if !errors.Is(err, storage.ErrNotFound) {
				return doc, err
			}
			if doc, err = g.fetchAny(ctx, image, repo, d, size); err != nil {
				return nil, err
			}
			return doc, g.commit(ctx, doc)
		})
	}
	if err != nil {
		return nil, err
	}
	return doc, doc.agrees(size, claims)
}

// arrived are manifests of a copy that nothing signed is known to lead to yet, by
// digest: held for as long as it takes to find that out.
type arrived map[digest.Digest]*document

// unproven is document for a manifest that a copy's index lists: it isn't stored.
// Whoever finds out that something signed leads to it commits it.
func (g *Gate) unproven(ctx context.Context, image *Image, repo Ref, entry descriptor, seen arrived) (*document, error) {
	doc := seen[entry.digest]
	if doc == nil {
		var err error
		doc, err = g.storedDocument(ctx, entry.digest)
		if errors.Is(err, storage.ErrNotFound) {
			doc, err = g.fetchAny(ctx, image, repo, entry.digest, entry.size)
		}
		if err != nil {
			return nil, err
		}
		seen[entry.digest] = doc
	}
	return doc, doc.agrees(entry.size, []string{entry.mediaType})
}

func (g *Gate) storedDocument(ctx context.Context, d digest.Digest) (*document, error) {
	raw, err := g.stored(ctx, d, unknownSize)
	if err != nil {
		return nil, err
	}
	return parseDocument(raw, d)
}

// stored reads a document or a config from storage (S5): storage.ErrNotFound if
// it isn't there or was damaged.
func (g *Gate) stored(ctx context.Context, d digest.Digest, size int64) ([]byte, error) {
	raw, err := g.store.ReadDocument(ctx, d, MaxDocument)
	var corrupt *storage.CorruptError
	switch {
	case err == nil && size != unknownSize && int64(len(raw)) != size:
		return nil, Refuse(SizeMismatch, "%s has %d bytes, but its descriptor says %d", d, len(raw), size)
	case err == nil:
		return raw, nil
	case errors.Is(err, storage.ErrNotFound), errors.As(err, &corrupt):
		return nil, storage.ErrNotFound
	}
	if g.isLarge(ctx, d) { // a layer, which something calls a document
		return nil, Refuse(SizeMismatch, "%s has more bytes than the %d that a document may have", d, MaxDocument)
	}
	return nil, storageError(err)
}

func (g *Gate) isLarge(ctx context.Context, d digest.Digest) bool {
	content, err := g.store.OpenContent(ctx, d)
	if err != nil {
		return false
	}
	defer content.Close()
	return content.Size > MaxDocument
}

func (g *Gate) fetchAny(ctx context.Context, image *Image, repo Ref, d digest.Digest, size int64) (doc *document, err error) {
	err = g.fromAny(ctx, image, repo, d, func(ref Ref) (err error) {
		doc, err = g.fetchDocument(ctx, ref, size)
		return err
	})
	return doc, err
}

// fetchDocument fetches a document from one repository, by tag or digest, and
// checks it (D1 to D3).
func (g *Gate) fetchDocument(ctx context.Context, ref Ref, size int64) (*document, error) {
	desc, raw, err := g.fetcher.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxDocument {
		return nil, Refuse(SizeMismatch, "%s delivered a document of %d bytes for %s; at most %d are accepted", ref.Name(), len(raw), ref, MaxDocument)
	}
	if size != unknownSize && int64(len(raw)) != size {
		return nil, Refuse(SizeMismatch, "%s delivered %d bytes for %s, which has %d", ref.Name(), len(raw), ref.Digest, size)
	}
	d := ref.Digest
	if d == "" {
		d = digest.FromBytes(raw)
	}
	if got := d.Algorithm().FromBytes(raw); got != d {
		return nil, Refuse(DigestMismatch, "%s delivered a document with digest %s for %s: what it holds is not what was signed", ref.Name(), got, d)
	}
	return parseDocument(raw, d, desc.MediaType)
}

// commit stores a document. It is no failure that the disk is full: the document is
// in hand, verified, and whether it may be served rests on records, without which it
// isn't. What isn't stored is as if it had been evicted: fetched when it's asked for.
func (g *Gate) commit(ctx context.Context, doc *document) error {
	err := g.store.Put(ctx, doc.digest, int64(len(doc.raw)), bytes.NewReader(doc.raw))
	if storage.IsFull(err) {
		return nil
	}
	return storageError(err)
}

// config returns an image's config, parsed.
func (g *Gate) config(ctx context.Context, image *Image, repo Ref, d descriptor) (*imageConfig, error) {
	if d.size > MaxDocument {
		return nil, Refuse(SizeMismatch, "config %s has %d bytes; at most %d are accepted", d.digest, d.size, MaxDocument)
	}
	raw, err := g.bytes(ctx, image, repo, storage.Admission{Kind: storage.KindConfig, Digest: d.digest, Size: d.size})
	if err != nil {
		return nil, err
	}
	return parseConfig(raw, d.digest)
}

// bytes returns a document's or a config's bytes, hashed just now (S5).
func (g *Gate) bytes(ctx context.Context, image *Image, repo Ref, a storage.Admission) ([]byte, error) {
	raw, err := g.stored(ctx, a.Digest, a.Size)
	if !errors.Is(err, storage.ErrNotFound) {
		return raw, err
	}
	if isDocument(a.Kind) {
		doc, err := g.document(ctx, image, repo, a.Digest, a.Size, a.MediaType)
		if err != nil {
			return nil, err
		}
		return doc.raw, nil
	}
	if err := g.blob(ctx, image, repo.WithDigest(a.Digest), a.Size, nil); storage.IsFull(err) && a.Size <= MaxDocument {
		return g.unstoredConfig(ctx, image, repo, a)
	} else if err != nil {
		return nil, err
	}
	raw, err = g.stored(ctx, a.Digest, a.Size)
	if errors.Is(err, storage.ErrNotFound) {
		err = Unavailable(StorageUnavailable, "%s is gone from storage again right after it was stored", a.Digest)
	}
	return raw, err
}

// unstoredConfig fetches a config that the disk has no room for into memory, and
// hashes it there.
func (g *Gate) unstoredConfig(ctx context.Context, image *Image, repo Ref, a storage.Admission) (raw []byte, err error) {
	w := work{span: "fetch", about: repo.WithDigest(a.Digest), key: fmt.Sprintf("fetch config %s of %d bytes", image.Signed.WithDigest(a.Digest), a.Size)}
	raw, _, err = share(ctx, g, w, nil, func(ctx context.Context) (raw []byte, err error) {
		err = g.fromAny(ctx, image, repo, a.Digest, func(ref Ref) error {
			body, err := g.fetcher.Blob(ctx, ref)
			if err != nil {
				return err
			}
			defer body.Close()
			raw, err = io.ReadAll(io.LimitReader(upstreamReader{body}, a.Size+1))
			switch {
			case err != nil:
				return err
			case int64(len(raw)) != a.Size:
				return Refuse(SizeMismatch, "%s delivered another number of bytes for %s than its descriptor says, which are %d", ref.Name(), ref.Digest, a.Size)
			case a.Digest.Algorithm().FromBytes(raw) != a.Digest:
				return Refuse(DigestMismatch, "%s delivered other bytes for %s", ref.Name(), ref.Digest)
			}
			return nil
		})
		return raw, err
	})
	return raw, err
}

// blob brings a blob into storage, if it isn't there: bytes that hash to its
// digest and, where layer names one, decompress to its diff ID (C4).
func (g *Gate) blob(ctx context.Context, image *Image, ref Ref, size int64, layer *storage.Admission) error {
	w := work{span: "fetch", about: ref, key: fmt.Sprintf("fetch blob %s of %d bytes", image.Signed.WithDigest(ref.Digest), size)}
	if layer != nil {
		w.key += " is " + layer.DiffID.String() + " as " + layer.MediaType
	}
	var began func(*storage.Growing)
	if image.Streaming && layer == nil {
		began = g.streams.begin(image, ref.Digest)
	}
	_, _, err := share(ctx, g, w, nil, func(ctx context.Context) (struct{}, error) {
		if began != nil {
			defer g.streams.end(image, ref.Digest)
		}
		done, err := g.storedBlob(ctx, ref, size, layer)
		if done || err != nil {
			return struct{}{}, err
		}
		return struct{}{}, g.fromAny(ctx, image, ref, ref.Digest, func(ref Ref) error {
			return g.fetchBlob(ctx, ref, size, layer, began)
		})
	})
	return err
}

// storedBlob tells whether a blob is in storage, and is what layer says. What was
// damaged there is quarantined (S5).
func (g *Gate) storedBlob(ctx context.Context, ref Ref, size int64, layer *storage.Admission) (done bool, err error) {
	content, err := g.store.OpenContent(ctx, ref.Digest)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, storageError(err)
	}
	defer content.Close()
	if content.Size != size { // damaged, or the descriptor is wrong: fetching it tells
		return false, nil
	}
	if layer == nil {
		return true, nil
	}
	stored := &hashedReader{r: content, hash: ref.Digest.Algorithm().Hash()}
	checked := g.check(stored, size, layer)
	_, err = io.Copy(io.Discard, checked)
	err = errors.Join(err, checked.Close())
	if ReasonOf(err) == LayerMismatch { // a fact about the layer only if storage is sound
		err = cmp.Or(stored.is(ref, size), err)
	}
	switch {
	case ReasonOf(err) == DigestMismatch:
		return false, storageError(g.store.Quarantine(ctx, ref.Digest))
	case err != nil && ReasonOf(err) == "":
		return false, storageError(err)
	}
	return err == nil, err
}

// fetchBlob tells began when others can read what has arrived.
func (g *Gate) fetchBlob(ctx context.Context, ref Ref, size int64, layer *storage.Admission, began func(*storage.Growing)) error {
	body, err := g.fetcher.Blob(ctx, ref)
	if err != nil {
		return err
	}
	defer body.Close()
	var arrived io.Reader = upstreamReader{body}
	var hashed *hashedReader // of a layer that may turn out wrong before Put has hashed it
	if layer != nil {
		hashed = &hashedReader{r: io.LimitReader(arrived, size+1), hash: ref.Digest.Algorithm().Hash()}
		arrived = hashed
	}
	checked := g.check(arrived, size, layer)
	defer checked.Close()
	err = g.store.PutGrowing(ctx, ref.Digest, size, checked, began)
	var mismatch *storage.MismatchError
	switch {
	case hashed != nil && ReasonOf(err) == LayerMismatch: // a fact about the layer only if that is what arrived
		return cmp.Or(hashed.is(ref, maxProof), err)
	case err == nil || ReasonOf(err) != "":
		return err
	case errors.As(err, &mismatch) && mismatch.GotSize != mismatch.WantSize:
		return Refuse(SizeMismatch, "%s delivered another number of bytes for %s than its descriptor says: %w", ref.Name(), ref.Digest, err)
	case errors.As(err, &mismatch):
		return Refuse(DigestMismatch, "%s delivered other bytes for %s: %w", ref.Name(), ref.Digest, err)
	}
	return storageError(err)
}

// check returns a reader of r's bytes that fails at their end if layer's diff ID
// isn't theirs.
func (g *Gate) check(r io.Reader, size int64, layer *storage.Admission) io.ReadCloser {
	if layer == nil {
		return io.NopCloser(r)
	}
	return newDiffIDReader(r, layer.MediaType, size, layer.DiffID)
}

// hashedReader hashes what is read through it.
type hashedReader struct {
	r    io.Reader
	hash hash.Hash
}

func (h *hashedReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.hash.Write(p[:n])
	return n, err
}

// maxProof bounds how much more is read of a layer that is wrong already, only to
// know whether that is the layer's fault or the way's.
const maxProof = 256 << 20

// is reads the rest, at most limit bytes, and tells whether all of it is the blob
// that ref names: a *Refusal with DigestMismatch if not, or if there is more, or
// the reader's error.
func (h *hashedReader) is(ref Ref, limit int64) error {
	n, err := io.Copy(io.Discard, io.LimitReader(h, limit+1))
	if err != nil {
		return err
	}
	if got := digest.NewDigest(ref.Digest.Algorithm(), h.hash); got != ref.Digest || n > limit {
		return Refuse(DigestMismatch, "%s delivered bytes for %s that are not a layer, and don't hash to it as far as they were read", ref.Name(), ref.Digest)
	}
	return nil
}

// upstreamReader says of errors that have no reason that they are the upstream's.
type upstreamReader struct{ io.Reader }

func (r upstreamReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF && ReasonOf(err) == "" {
		err = Unavailable(UpstreamUnavailable, "the download broke off: %w", err)
	}
	return n, err
}

// fromAny tries the image's repositories, the given one first, until one has the
// object (C5): what one of them delivers is no fact about the others. Could not
// tell is said before a refusal, and that before not found.
func (g *Gate) fromAny(ctx context.Context, image *Image, repo Ref, d digest.Digest, fetch func(Ref) error) error {
	var failed error
	worst := 0
	for _, r := range image.repositories(repo) {
		err := fetch(r.WithDigest(d))
		g.trace.noteFetch(ctx, r, err)
		var severity int
		switch ReasonOf(err) {
		case "", LayerMismatch, StorageUnavailable: // done, or no other repository could help
			return err
		case NotFound:
			severity = 1
		case UpstreamUnavailable, RateLimited:
			severity = 3
		default:
			severity = 2
		}
		if severity > worst {
			failed, worst = err, severity
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}
