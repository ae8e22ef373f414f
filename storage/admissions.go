package storage

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Admit records edges, in the given order. An edge is the same when repository,
// digest, signed and parent are; one that is recorded already keeps its first
// record. On an error the edges before it have been recorded.
func (s *Store) Admit(ctx context.Context, admissions ...Admission) error {
	err := s.putEdges(ctx, admissionFolder, admissions)
	for _, a := range admissions { // whatever came of it
		s.memory.admissions.forget(admitted{a.Repository, a.Digest})
	}
	return err
}

// Expect records edges that lead to objects which nobody has checked yet: what an
// admitted document names. An expectation is no reason to serve anything; it says
// what the object has to be. Otherwise as Admit.
func (s *Store) Expect(ctx context.Context, expectations ...Admission) error {
	return s.putEdges(ctx, expectationFolder, expectations)
}

func (s *Store) putEdges(ctx context.Context, root string, edges []Admission) error {
	for _, a := range edges {
		if err := s.putEdge(ctx, root, a); err != nil {
			return fmt.Errorf("recording %s in %s: %w", a.Digest, a.Repository, err)
		}
	}
	return nil
}

func (s *Store) putEdge(ctx context.Context, root string, a Admission) error {
	a.At = a.At.UTC()
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	path, err := a.path(root)
	if err != nil {
		return err
	}
	// A record that couldn't be read back would prove nothing.
	if _, err := parseAdmission(root, path, body); err != nil {
		return err
	}
	s.memory.edges.drop(path) // it may have been removed
	switch _, err := s.edge(ctx, root, path); {
	case err == nil:
		return nil
	case !errors.Is(err, ErrNotFound) && !errors.Is(err, errUnreadable):
		return err
	}
	return s.putRecord(ctx, path, body)
}

// Admissions returns the edges recorded for a digest in a repository, oldest
// first; none is no error. A record that can't be understood, byte for byte as
// Admit writes it, proves nothing: it is skipped, and the others still count.
// The driver's error comes back when it leaves no record to return.
func (s *Store) Admissions(ctx context.Context, repository string, d digest.Digest) ([]Admission, error) {
	found, failed := s.edges(ctx, admissionFolder, repository, d)
	if len(found) > 0 {
		failed = nil
	}
	return found, failed
}

// Expected returns what Expect recorded for a digest in a repository, as
// Admissions does.
func (s *Store) Expected(ctx context.Context, repository string, d digest.Digest) ([]Admission, error) {
	found, failed := s.edges(ctx, expectationFolder, repository, d)
	if len(found) > 0 {
		failed = nil
	}
	return found, failed
}

// edges returns the records that can be read, and an error if there may be others.
func (s *Store) edges(ctx context.Context, root, repository string, d digest.Digest) (found []Admission, failed error) {
	folder, err := edgesPath(root, repository, d)
	if err != nil {
		return nil, err
	}
	files, err := s.list(ctx, folder)
	if err != nil {
		return nil, fmt.Errorf("records of %s in %s: %w", d, repository, err)
	}
	for _, file := range files {
		a, err := s.edge(ctx, root, file)
		switch {
		case err == nil:
			found = append(found, a)
		case !errors.Is(err, ErrNotFound) && !errors.Is(err, errUnreadable):
			failed = fmt.Errorf("records of %s in %s: %w", d, repository, err)
		}
	}
	slices.SortFunc(found, func(a, b Admission) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Signed, b.Signed), cmp.Compare(a.Parent, b.Parent))
	})
	return found, failed
}

func (s *Store) edge(ctx context.Context, root, path string) (Admission, error) {
	body, err := s.getRecord(ctx, path)
	if err != nil {
		return Admission{}, err
	}
	return parseAdmission(root, path, body)
}

// parseAdmission accepts exactly what putEdge writes at path.
func parseAdmission(root, path string, body []byte) (Admission, error) {
	var a Admission
	if err := json.Unmarshal(body, &a); err != nil {
		return Admission{}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	want, err := a.path(root)
	if err != nil {
		return Admission{}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	again, err := json.Marshal(a)
	if err != nil {
		return Admission{}, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if want != path || !bytes.Equal(again, body) {
		return Admission{}, fmt.Errorf("%w: it isn't written as an admission at %s is", errUnreadable, path)
	}
	return a, nil
}

// path is where an edge is recorded below root; an error tells what it lacks.
func (a Admission) path(root string) (string, error) {
	folder, err := edgesPath(root, a.Repository, a.Digest)
	if err != nil {
		return "", err
	}
	if err := checkDigest(a.Signed); err != nil {
		return "", fmt.Errorf("signed: %w", err)
	}
	if a.Parent != "" {
		if err := checkDigest(a.Parent); err != nil {
			return "", fmt.Errorf("parent: %w", err)
		}
	}
	if a.DiffID != "" {
		if err := checkDigest(a.DiffID); err != nil {
			return "", fmt.Errorf("diff ID: %w", err)
		}
	}
	if a.Size < 0 {
		return "", fmt.Errorf("size %d is negative", a.Size)
	}
	edge := digest.FromString(a.Signed.String() + "\n" + a.Parent.String())
	return path.Join(folder, edge.Encoded()), nil
}

func edgesPath(root, repository string, d digest.Digest) (string, error) {
	if repository == "" {
		return "", errors.New("no repository is named")
	}
	return digestPath(path.Join(root, encodeName(repository)), d)
}
