package warm

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// Through warms a store through the Gate that writes to it.
func Through(gate *verify.Gate, store *storage.Store) Mirror { return through{gate, store} }

type through struct {
	gate  *verify.Gate
	store *storage.Store // is only looked at
}

// Manifest implements Mirror.
func (t through) Manifest(ctx context.Context, ref verify.Ref) ([]byte, digest.Digest, verify.Cache, error) {
	how := t.look(ctx, t.resolve(ctx, ref))
	content, _, err := t.gate.Manifest(ctx, ref)
	if err != nil {
		return nil, "", "", err
	}
	raw, err := io.ReadAll(io.LimitReader(content, verify.MaxDocument))
	if err := errors.Join(err, content.Close()); err != nil {
		return nil, "", "", verify.Unavailable(verify.StorageUnavailable, "%s can't be read: %w", content.Digest, err)
	}
	return raw, content.Digest, how, nil
}

// Blob implements Mirror.
func (t through) Blob(ctx context.Context, ref verify.Ref, _ int64) (verify.Cache, error) {
	how := t.look(ctx, ref.Digest)
	content, _, err := t.gate.Blob(ctx, ref)
	if err != nil {
		return "", err
	}
	if how == verify.CacheMiss && content.Size > 0 {
		err = readLast(content)
	}
	return how, errors.Join(err, content.Close())
}

// readLast reads the last byte, which is there only once all is stored and verified,
// however early content is handed out.
func readLast(content *storage.Content) error {
	_, err := content.Seek(-1, io.SeekEnd)
	if err == nil {
		_, err = io.ReadFull(content, make([]byte, 1))
	}
	if err != nil && verify.ReasonOf(err) == "" {
		err = verify.Unavailable(verify.StorageUnavailable, "%s can't be read to its end: %w", content.Digest, err)
	}
	return err
}

// look tells whether an object is stored, without asking anybody for it.
func (t through) look(ctx context.Context, d digest.Digest) verify.Cache {
	if d == "" {
		return verify.CacheMiss
	}
	content, err := t.store.OpenContent(ctx, d)
	if err != nil {
		return verify.CacheMiss
	}
	content.Close()
	return verify.CacheHit
}

// resolve returns the digest that a reference has as far as is known; "" if the
// registry has to be asked first.
func (t through) resolve(ctx context.Context, ref verify.Ref) digest.Digest {
	if ref.Digest != "" {
		return ref.Digest
	}
	chain, err := t.gate.Roots(ctx, ref, ref.Tag)
	if err != nil {
		return ""
	}
	for _, side := range chain.Sides {
		if side.Name == ref.Name() {
			return side.Root.Digest
		}
	}
	return ""
}
