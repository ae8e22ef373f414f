package storage_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/trustmirror/trustmirror/storage"
)

// Where something else answers for a bucket, and says nothing that is a listing, trust
// state isn't taken for absent: an older one would be taken for the first.
func TestAttack77_ListingThatIsNone(t *testing.T) {
	const empty = `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>images</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>`
	for name, test := range map[string]struct {
		listing, object string
		status          int
		absent          bool
	}{
		"error":        {"<Error><Code>InternalError</Code></Error>", "<Error><Code>InternalError</Code></Error>", http.StatusOK, false},
		"web page":     {"<html><body><p>Sign in</p></body></html>", "<html><body><p>Sign in</p></body></html>", http.StatusOK, false},
		"nothing":      {"", "", http.StatusOK, false},
		"denied":       {empty, "<Error><Code>AccessDenied</Code></Error>", http.StatusForbidden, false},
		"empty bucket": {empty, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound, true},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Has("list-type") {
					_, _ = io.WriteString(w, test.listing)
					return
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.object)
			}))
			defer server.Close()
			s := storage.New(newDriver(t, "s3", s3At(t, server.Listener.Addr().String())))
			if names, err := s.Trust().List(t.Context(), "gun"); len(names) > 0 || (err == nil) != test.absent {
				t.Errorf("trust state: %v, %v", names, err)
			}
		})
	}
}
