package verify

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/storage"
)

// gateStore is the store as the Gate uses it: each question to it is a span, and
// what it sets aside is told of.
type gateStore struct {
	*storage.Store
	trace   tracing
	observe func(Event)
}

func (s *gateStore) Admissions(ctx context.Context, repository string, d digest.Digest) ([]storage.Admission, error) {
	ctx, step := s.trace.begin(ctx, "storage.admissions")
	records, err := s.Store.Admissions(ctx, repository, d)
	step.end(err)
	return records, err
}

func (s *gateStore) RecentAdmissions(ctx context.Context, repository string, d digest.Digest) (storage.Records, error) {
	ctx, step := s.trace.begin(ctx, "storage.admissions")
	records, err := s.Store.RecentAdmissions(ctx, repository, d)
	step.end(err)
	return records, err
}

func (s *gateStore) Expected(ctx context.Context, repository string, d digest.Digest) ([]storage.Admission, error) {
	ctx, step := s.trace.begin(ctx, "storage.expected")
	records, err := s.Store.Expected(ctx, repository, d)
	step.end(err)
	return records, err
}

func (s *gateStore) Admit(ctx context.Context, records ...storage.Admission) error {
	ctx, step := s.trace.begin(ctx, "storage.admit")
	err := s.Store.Admit(ctx, records...)
	step.end(err)
	return err
}

func (s *gateStore) Expect(ctx context.Context, records ...storage.Admission) error {
	ctx, step := s.trace.begin(ctx, "storage.expect")
	err := s.Store.Expect(ctx, records...)
	step.end(err)
	return err
}

func (s *gateStore) BoundTag(ctx context.Context, repository, tag string, signed digest.Digest) (digest.Digest, error) {
	ctx, step := s.trace.begin(ctx, "storage.tag")
	d, err := s.Store.BoundTag(ctx, repository, tag, signed)
	step.end(err)
	return d, err
}

// remembered opens an object from memory, if it is there and has as many bytes as it
// should.
func (s *gateStore) remembered(ctx context.Context, d digest.Digest, size int64) *storage.Content {
	content, ok := s.Store.Remembered(d)
	if !ok || content.Size != size {
		return nil
	}
	_, step := s.trace.begin(ctx, "storage.read")
	step.bytes(content.Size)
	step.end(nil)
	return content
}

// ReadDocument is the store's, which sets aside what is damaged by itself.
func (s *gateStore) ReadDocument(ctx context.Context, d digest.Digest, limit int64) ([]byte, error) {
	ctx, step := s.trace.begin(ctx, "storage.read")
	raw, err := s.Store.ReadDocument(ctx, d, limit)
	if err != nil {
		if corrupt := (*storage.CorruptError)(nil); errors.As(err, &corrupt) {
			s.observe(Event{Kind: Quarantined})
		}
	}
	step.bytes(int64(len(raw)))
	step.end(err)
	return raw, err
}

func (s *gateStore) OpenContent(ctx context.Context, d digest.Digest) (*storage.Content, error) {
	ctx, step := s.trace.begin(ctx, "storage.open")
	content, err := s.Store.OpenContent(ctx, d)
	if content != nil {
		step.bytes(content.Size)
	}
	step.end(err)
	return content, err
}

// OpenSized is the store's; what turns out damaged while it is read is set aside.
func (s *gateStore) OpenSized(ctx context.Context, d digest.Digest, size int64) (*storage.Content, error) {
	ctx, step := s.trace.begin(ctx, "storage.open")
	content, err := s.Store.OpenSized(ctx, d, size, func() { _ = s.Quarantine(context.WithoutCancel(ctx), d) })
	if content != nil {
		step.bytes(content.Size)
	}
	step.end(err)
	return content, err
}

func (s *gateStore) Put(ctx context.Context, d digest.Digest, size int64, r io.Reader) error {
	return s.PutGrowing(ctx, d, size, r, nil)
}

func (s *gateStore) PutGrowing(ctx context.Context, d digest.Digest, size int64, r io.Reader, began func(*storage.Growing)) error {
	ctx, step := s.trace.begin(ctx, "storage.put")
	err := s.Store.PutGrowing(ctx, d, size, r, began)
	step.bytes(size)
	step.end(err)
	return err
}

func (s *gateStore) Quarantine(ctx context.Context, d digest.Digest) error {
	ctx, step := s.trace.begin(ctx, "storage.quarantine")
	s.observe(Event{Kind: Quarantined})
	err := s.Store.Quarantine(ctx, d)
	step.end(err)
	return err
}
