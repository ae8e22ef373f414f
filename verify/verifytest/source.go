package verifytest

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
)

// Source is a trust source that vouches for what it is told to.
type Source struct {
	mu      sync.Mutex // guards all below
	signed  map[string]verify.Target
	retired []verify.Target
	set     *verify.TargetSet
	err     error
}

// Sign vouches for a digest as a tag's. What was signed for the tag before is
// superseded as of at.
func (s *Source) Sign(tag string, d digest.Digest, size int64, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retire(tag, at)
	s.signed[tag] = verify.Target{Tag: tag, Digest: d, Size: size, Signers: []string{"Repo Admin"}}
	s.rebuild()
}

// Unsign ceases to vouch for a tag.
func (s *Source) Unsign(tag string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retire(tag, at)
	s.rebuild()
}

// Fail makes every question fail with err; nil ends that.
func (s *Source) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *Source) retire(tag string, at time.Time) {
	if s.signed == nil {
		s.signed = map[string]verify.Target{}
	}
	if t, ok := s.signed[tag]; ok {
		t.Superseded = at
		s.retired = append(s.retired, t)
		delete(s.signed, tag)
	}
}

func (s *Source) rebuild() {
	all := s.retired
	for _, t := range s.signed {
		all = append(all, t)
	}
	s.set = verify.NewTargetSet(all)
}

// Target implements verify.Source.
func (s *Source) Target(_ context.Context, tag string) (verify.Target, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.signed[tag]
	switch {
	case s.err != nil:
		return verify.Target{}, s.err
	case !ok:
		return verify.Target{}, verify.Refuse(verify.UnsignedTag, "tag %s is not signed", tag)
	}
	return t, nil
}

// Targets implements verify.Source.
func (s *Source) Targets(context.Context) (*verify.TargetSet, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if s.set == nil {
		s.rebuild()
	}
	return s.set, nil
}
