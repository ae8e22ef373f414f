package hostile

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trustmirror/trustmirror/e2e/lab"
)

// filled is a document of a size with as many of a unit as fit between two parts, and
// a number that makes it differ from others.
func filled(size, number int, before, unit, after string) []byte {
	before = fmt.Sprintf("{\"n\":%d,", number) + strings.TrimPrefix(before, "{")
	return []byte(before + strings.Repeat(unit, (size-len(before)-len(after))/len(unit)) + after)
}

// TestAttack38_DocumentsOfManyClients has a copy and 48 clients make up documents of
// the largest size, each of which takes a parser far more memory or is just there.
func TestAttack38_DocumentsOfManyClients(t *testing.T) {
	for name, test := range map[string]struct{ before, unit, after, reason string }{
		"of a million entries": {`{"schemaVersion":2,"manifests":[{}`, ",{}", "]}", "malformed"},
		"of a million names":   {`{"schemaVersion":2,"manifests":[],"x":{"a":1`, `,"a":1`, "}}", "malformed"},
		"of spaces":            {`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]`, " ", "}", "not_admitted"},
	} {
		t.Run(name, func(t *testing.T) {
			const clients = 48
			s := newSite(t, "many")
			var paths []string
			for i := range clients {
				raw := filled(4<<20, i, test.before, test.unit, test.after)
				path := lab.ManifestPath(repository, digest.FromBytes(raw).String())
				s.copy.put(path, ocispec.MediaTypeImageIndex, raw)
				paths = append(paths, lab.ManifestPath(s.copied(), digest.FromBytes(raw).String()))
			}
			m := startMirror(t, s)
			check(t, m.pull(t.Context(), s.signed(), tag, s.release.Hub))
			var wait sync.WaitGroup
			for _, path := range paths {
				wait.Go(func() {
					_, err := m.get(t.Context(), path)
					var refused *refusal
					if !errors.As(err, &refused) || refused.status != http.StatusForbidden || refused.reason != test.reason {
						t.Errorf("got %v, want %s", err, test.reason)
					}
				})
			}
			wait.Wait()
			check(t, m.pull(t.Context(), s.copied(), tag, s.release.ECR))
			m.bounded(t)
		})
	}
}

// TestAttack6_MetadataOfManyValues has the trust service, which signs snapshot and
// timestamp, vouch for targets of the largest size that a parser takes far more memory
// for.
func TestAttack6_MetadataOfManyValues(t *testing.T) {
	for name, unit := range map[string]string{"objects": ",{}", "arrays": ",[]", "numbers": ",0", "strings": `,""`, "names": `,{"a":{}}`} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "values")
			s.signer.change = func(raw []byte) []byte {
				const before, after = `{"x":[0`, "],"
				more := strings.Repeat(unit, (16<<20-len(raw)-len(before)-len(after))/len(unit))
				return append([]byte(before+more+after), bytes.TrimPrefix(raw, []byte("{"))...)
			}
			s.publish(t)
			m := startMirror(t, s)
			_, err := m.get(t.Context(), lab.ManifestPath(s.signed(), tag))
			var refused *refusal
			if !errors.As(err, &refused) || refused.status != http.StatusForbidden || refused.reason != "malformed" || !strings.Contains(refused.message, "values") {
				t.Errorf("got %v", err)
			}
			m.bounded(t)
		})
	}
	// As many targets as may be are read, and in bounds.
	s := newSite(t, "targets")
	for i := range 19_999 {
		s.signer.sign(fmt.Sprintf("t%05d", i), s.release.Hub.Top())
	}
	s.publish(t)
	m := startMirror(t, s)
	check(t, m.pull(t.Context(), s.signed(), tag, s.release.Hub))
	m.bounded(t)
}
