package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/trustmirror/trustmirror/verify"
)

// refusedReader is a blob that turns out wrong while it is sent.
type refusedReader struct{ *strings.Reader }

func (r refusedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		err = verify.Refuse(verify.DigestMismatch, "it is another blob")
	}
	return n, err
}

// TestAttack97_RefusedInTheMidst: nobody takes what was sent of a blob for whole that
// was refused while it was sent (S3), nor the part that was asked for of it.
func TestAttack97_RefusedInTheMidst(t *testing.T) {
	const sent = 1 << 20
	gate := &fakeGate{size: sent + 64<<10, open: func() io.ReadSeekCloser {
		return nopCloser{refusedReader{strings.NewReader(strings.Repeat("x", sent))}}
	}}
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		server := httptest.NewUnstartedServer(nil)
		server.Config = NewServer("", newHandler(t, gate))
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		server.EnableHTTP2 = version == "HTTP/2.0"
		server.StartTLS()
		t.Cleanup(server.Close)
		for _, part := range []string{"", "bytes=100-", "bytes=-100"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+blobPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			if part != "" {
				req.Header.Set("Range", part)
			}
			res, err := server.Client().Do(req)
			if err != nil { // before anything of it was sent
				continue
			}
			defer res.Body.Close()
			if body, err := io.ReadAll(res.Body); err == nil || res.Proto != version {
				t.Errorf("%s, %q: %d bytes over %s come to a good end", version, part, len(body), res.Proto)
			}
		}
	}
}
