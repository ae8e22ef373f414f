package status

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/trustmirror/trustmirror/verify"
)

// BenchmarkPages makes each page with 1,000 signed tags and 10,000 refusals.
func BenchmarkPages(b *testing.B) {
	s := newSample()
	s.images[0].Tags = nil
	for i := range 1000 {
		tag := fmt.Sprintf("1.%d", i)
		s.images[0].Tags = append(s.images[0].Tags, Tag{Tag: tag, Digest: digest.FromString(tag), Signers: []string{"Repo Admin", "alice"}})
	}
	first := s.refusals[0]
	reasons := []verify.Reason{verify.UnsignedTag, verify.ConfigMismatch, verify.NoPolicy, verify.NotAdmitted}
	s.refusals = nil
	for i := range 10_000 {
		r := first
		r.At, r.Reference, r.Reason = s.now.Add(-time.Duration(i)*time.Second), fmt.Sprint("tag-", i), reasons[i%len(reasons)]
		s.refusals = append(s.refusals, r)
	}
	h := s.handler(b)
	for _, path := range append([]string{"/refusals?reason=no_policy&page=9", "/api/v1/images"}, pagePaths...) {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, httptest.NewRequestWithContext(b.Context(), http.MethodGet, path, nil))
				if rec.Code != http.StatusOK {
					b.Fatal(rec.Code)
				}
			}
		})
	}
}
