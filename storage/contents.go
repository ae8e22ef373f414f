package storage

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strings"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

// Contents is what a store holds, by repository.
type Contents struct {
	Usage
	Repositories []Held // sorted by name
}

// Held is what is stored of what was admitted in one repository. What several
// repositories share counts in each of them.
type Held struct {
	Repository string
	Objects    int
	Bytes      int64
}

// Contents counts what the store holds by listing it, or returns what it counted
// lately, as Usage does. Errors: the driver's own, ctx's.
func (s *Store) Contents(ctx context.Context) (Contents, error) {
	return s.contents.get(ctx, usageTimeout, s.countContents)
}

func (s *Store) countContents(ctx context.Context) (Contents, time.Duration, error) {
	c := Contents{Usage: Usage{At: time.Now()}}
	sizes := make(map[digest.Digest]int64)
	err := s.walkContent(ctx, func(d digest.Digest, info storagedriver.FileInfo) error {
		sizes[d] = info.Size()
		c.Objects++
		c.Bytes += info.Size()
		return nil
	})
	held := make(map[string]Held)
	if err == nil {
		var last string // a digest's admissions are files of one folder
		err = s.walk(ctx, admissionFolder, func(info storagedriver.FileInfo) error {
			folder := path.Dir(info.Path())
			repository, d, ok := parseEdgesPath(folder)
			size, stored := sizes[d]
			if folder == last || !ok || !stored {
				return nil
			}
			last = folder
			h := held[repository]
			held[repository] = Held{Repository: repository, Objects: h.Objects + 1, Bytes: h.Bytes + size}
			return nil
		})
	}
	for _, h := range held {
		c.Repositories = append(c.Repositories, h)
	}
	slices.SortFunc(c.Repositories, func(a, b Held) int { return cmp.Compare(a.Repository, b.Repository) })
	return c, max(usageFor, 10*time.Since(c.At)), err
}

// parseEdgesPath is the inverse of edgesPath for admissions.
func parseEdgesPath(folder string) (repository string, d digest.Digest, ok bool) {
	algorithm := path.Dir(path.Dir(folder))
	d = digest.NewDigestFromEncoded(digest.Algorithm(path.Base(algorithm)), path.Base(folder))
	repository, err := decodeName(strings.TrimPrefix(path.Dir(algorithm), admissionFolder+"/"))
	if err != nil {
		return "", "", false
	}
	want, err := edgesPath(admissionFolder, repository, d)
	return repository, d, err == nil && want == folder
}
