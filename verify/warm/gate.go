package warm

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
	"github.com/trustmirror/trustmirror/verify"
)

// Through warms a store through the Gate that writes to it.
// The clock is the Gate's; nil means time.Now.
func Through(gate *verify.Gate, store *storage.Store, clock func() time.Time) Mirror {
	if clock == nil {
		clock = time.Now
	}
	return through{gate, store, clock}
}

type through struct {
	gate  *verify.Gate
	store *storage.Store // is only looked at
	clock func() time.Time
}

// Manifest implements Mirror.
func (t through) Manifest(ctx context.Context, ref verify.Ref) ([]byte, digest.Digest, time.Time, error) {
	stored := t.stored(ctx, t.resolve(ctx, ref))
	content, admission, err := t.gate.Manifest(ctx, ref)
	if err != nil {
		return nil, "", time.Time{}, err
	}
	raw, err := io.ReadAll(io.LimitReader(content, verify.MaxDocument))
	if err := errors.Join(err, content.Close()); err != nil {
		return nil, "", time.Time{}, verify.Unavailable(verify.StorageUnavailable, "%s can't be read: %w", content.Digest, err)
	}
	return raw, content.Digest, t.since(admission, stored), nil
}

// Blob implements Mirror.
func (t through) Blob(ctx context.Context, ref verify.Ref, _ int64) (time.Time, error) {
	stored := t.stored(ctx, ref.Digest)
	content, admission, err := t.gate.Blob(ctx, ref)
	if err != nil {
		return time.Time{}, err
	}
	if !stored && content.Size > 0 {
		err = readLast(content)
	}
	return t.since(admission, stored), errors.Join(err, content.Close())
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

// since is when an object came: when it was admitted, or now if it wasn't stored any
// more.
func (t through) since(a storage.Admission, stored bool) time.Time {
	if !stored {
		return t.clock()
	}
	return a.At
}

// stored tells whether an object is stored, without asking anybody for it.
func (t through) stored(ctx context.Context, d digest.Digest) bool {
	if d == "" {
		return false
	}
	content, err := t.store.OpenContent(ctx, d)
	if err != nil {
		return false
	}
	content.Close()
	return true
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
