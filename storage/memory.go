package storage

import (
	"bytes"
	"context"
	"math"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// recordsFor is how long records may be remembered to which other processes add,
	// as a mark of what is broken, or that they remove: short beside the time that it
	// takes to find such a thing out, and long enough that hardly a request of a busy
	// fleet touches the file system or the bucket.
	recordsFor = 5 * time.Second
	// maxRecordBytes is about 8,000 admissions, as many tags, and as many records of a
	// bucket.
	maxRecordBytes = 8 << 20
	// maxDocumentBytes is the documents of a few thousand images.
	maxDocumentBytes = 32 << 20
	// maxRemembered is how large a document may be that is remembered, so that none
	// drives out many.
	maxRemembered = 1 << 20
)

// memory is what a store remembers of what it read; zero: nothing.
type memory struct {
	admissions *recent[admitted, []Admission] // never empty
	tags       *recent[boundTag, digest.Digest]
	edges      *recent[string, []byte]        // of a bucket, by path
	documents  *recent[digest.Digest, []byte] // hashed when they were read; the slices are nobody else's
}

type admitted struct {
	repository string
	digest     digest.Digest
}

type boundTag struct {
	repository, tag string
	signed          digest.Digest
}

// Remember makes the store remember, in up to 56 MiB of memory, what it is asked for
// most: bound tags and RecentAdmissions for recordsFor, documents, and a bucket's
// edges. It never remembers that something is absent. What is written through the
// store is seen at once, so those who work on one place in one process share one
// store. Call it before the store is used. now tells the time; nil means time.Now.
func (s *Store) Remember(now func() time.Time) {
	if now == nil {
		now = time.Now
	}
	s.memory = memory{
		admissions: newRecent[admitted, []Admission](maxRecordBytes, recordsFor, now),
		tags:       newRecent[boundTag, digest.Digest](maxRecordBytes, recordsFor, now),
		edges:      newRecent[string, []byte](maxRecordBytes, math.MaxInt64, now),
		documents:  newRecent[digest.Digest, []byte](maxDocumentBytes, math.MaxInt64, now),
	}
}

// Records are admissions that are shared: nobody can change them.
type Records struct{ all []Admission }

// Len is how many there are.
func (r Records) Len() int { return len(r.all) }

// At returns one of them; they are in the order of Admissions.
func (r Records) At(i int) Admission { return r.all[i] }

// RecentAdmissions is Admissions as of at most recordsFor ago, as far as others than
// this store wrote meanwhile. A store that remembers reads them only now and then.
func (s *Store) RecentAdmissions(ctx context.Context, repository string, d digest.Digest) (Records, error) {
	key := admitted{repository, d}
	found, began, ok := s.memory.admissions.get(key)
	if ok {
		return Records{found}, nil
	}
	found, failed := s.edges(ctx, admissionFolder, repository, d)
	switch {
	case failed != nil && len(found) > 0: // there may be more, so it isn't remembered
		failed = nil
	case failed != nil:
	case len(found) == 0:
		s.memory.admissions.drop(key)
	default:
		bytes := 0
		for _, a := range found {
			bytes += overhead + len(a.Repository) + len(a.MediaType) + len(a.Tag)
		}
		s.memory.admissions.put(key, found, bytes, began)
	}
	return Records{found}, failed
}

// Remembered opens a document or a config from memory, if it is there: it hashed to
// its digest when it was read from storage. That is a use of it there, too.
func (s *Store) Remembered(d digest.Digest) (*Content, bool) {
	raw, _, ok := s.memory.documents.get(d)
	if !ok {
		return nil, false
	}
	s.Used(d)
	return InMemory(d, raw), true
}

// InMemory is content whose bytes are at hand and hashed; nobody may change them.
func InMemory(d digest.Digest, raw []byte) *Content {
	return &Content{ReadSeekCloser: inMemory{bytes.NewReader(raw)}, Digest: d, Size: int64(len(raw))}
}

// inMemory reads what nobody may change.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }
